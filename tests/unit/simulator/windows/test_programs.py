# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""icacls, certutil, fsutil, whoami: output in the language of the host, codes that do not depend on it."""
from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from simulator.windows import acl
from simulator.windows.programs.base import HostFacts, Speeds
from unit.simulator.windows.helpers import ORDINARY, Rig

STATE = "C:\\ProgramData\\agentless.hyperv"
CLOSE = f"icacls {STATE} /inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F /q"
DATA = b"some bytes" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


def sddl(rig: Rig, path: str) -> str:
    """The second line of what icacls /save writes."""
    result = rig.run(f"icacls {path} /save C:\\acl.txt /q")
    assert result.code == 0, result.err
    name, line, rest = rig.files.read_file("C:\\acl.txt").decode("utf-16-le").split("\r\n")
    assert (name, rest) == (path.rpartition("\\")[2], "")
    return line


def test_a_new_folder_in_programdata_lets_users_in(rig: Rig) -> None:
    rig.run(f"mkdir {STATE}")
    assert sddl(rig, STATE) == "D:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;ID;FA;;;BA)(A;OICIIOID;FA;;;CO)(A;OICIID;0x1200a9;;;BU)" \
                               "(A;CIID;0x116;;;BU)"


def test_a_closed_folder_admits_only_system_and_administrators(rig: Rig) -> None:
    rig.run(f"mkdir {STATE}")
    assert rig.run(CLOSE).code == 0
    assert sddl(rig, STATE) == "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
    rig.run(f"mkdir {STATE}\\s & echo x>{STATE}\\f.txt")
    assert sddl(rig, STATE + "\\s") == "D:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)"
    assert sddl(rig, STATE + "\\f.txt") == "D:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)"
    assert rig.run(f"dir /b {STATE}", caller=ORDINARY).code == 1
    assert rig.run(f"echo x>{STATE}\\planted", caller=ORDINARY).code == 1


def test_the_owner_can_be_taken_back(rig: Rig) -> None:
    rig.run(f"mkdir {STATE}", caller=ORDINARY)
    place = rig.files.resolve(STATE)
    assert rig.files.owner(place) not in (acl.ADMINISTRATORS, acl.SYSTEM)
    assert rig.run(f"icacls {STATE} /setowner *S-1-5-32-544 /q").code == 0
    assert rig.files.owner(place) == acl.ADMINISTRATORS
    assert "BUILTIN\\Administrators" in rig.run("dir /q /ad C:\\ProgramData").out


@pytest.mark.parametrize(("arguments", "code"), [
    (f"{STATE}\\nope", 2), (f"{STATE} /grant Nobody*:F", 1332), (f"{STATE} /grant *S-1-bad:F", 1332), (f"{STATE} /grant *S-1-5-18", 87),
    (f"{STATE} /grant *S-1-5-18:Q", 87), (f"{STATE} /quux", 87), ("", 87), (f"{STATE} /setowner *S-1-5-18", 0), (f"{STATE} /reset", 0),
    (f"{STATE} /remove *S-1-5-18", 0),
])
def test_exit_codes_of_icacls(rig: Rig, arguments: str, code: int) -> None:
    rig.run(f"mkdir {STATE}")
    assert rig.run(f"icacls {arguments}").code == code


def test_names_are_those_of_the_language_and_sids_always_work(tmp_path: Path) -> None:
    rig = Rig(tmp_path, facts=HostFacts("HV1", locale="de-DE"))
    rig.run(f"mkdir {STATE}")
    assert rig.run(f"icacls {STATE} /grant Administrators:F").code == 1332
    assert rig.run(f"icacls {STATE} /grant VORDEFINIERT\\Administratoren:F").code == 0
    assert rig.run(CLOSE).code == 0
    shown = rig.run(f"icacls {STATE}").out
    assert "NT-AUTORITÄT\\SYSTEM:(OI)(CI)(F)" in shown
    assert "1 Dateien erfolgreich verarbeitet" in shown


def test_listing_of_icacls(rig: Rig) -> None:
    assert rig.run("icacls C:\\ProgramData").out.splitlines() == [
        "C:\\ProgramData NT AUTHORITY\\SYSTEM:(OI)(CI)(F)", "               BUILTIN\\Administrators:(OI)(CI)(F)",
        "               CREATOR OWNER:(OI)(CI)(IO)(F)", "               BUILTIN\\Users:(OI)(CI)(RX)",
        "               BUILTIN\\Users:(CI)(WD,AD,WEA,WA)", "", "Successfully processed 1 files; Failed processing 0 files"]


@pytest.mark.parametrize(("version", "locale", "first", "digest"), [
    ("2022", "en-US", "SHA256 hash of D:\\f:", DIGEST), ("2016", "de-DE", "SHA256-Hash von D:\\f:", DIGEST),
    ("2019", "ja-JP", "SHA256 ハッシュ (対象 D:\\f):", DIGEST),
    ("2012R2", "en-US", "SHA256 hash of D:\\f:", " ".join(DIGEST[at:at + 2] for at in range(0, 64, 2))),
])
def test_hash_of_a_file(tmp_path: Path, version: str, locale: str, first: str, digest: str) -> None:
    rig = Rig(tmp_path, facts=HostFacts("HV1", os_version=version, locale=locale))
    rig.put("D:\\f", DATA)
    result = rig.run("certutil -hashfile D:\\f SHA256")
    assert (result.code, result.out.splitlines()[:2], len(result.out.splitlines())) == (0, [first, digest], 3)


@pytest.mark.parametrize(("path", "code"), [("D:\\nope", -2147024894), ("D:\\locked", -2147024864), ("D:\\empty", -2147023890),
                                            ("D:\\nope\\f", -2147024893), ("D:\\a^|b", -2147024773)])
def test_failures_of_a_hash_are_hresults(rig: Rig, path: str, code: int) -> None:
    rig.put("D:\\locked")
    rig.put("D:\\empty", b"")
    rig.files.hold_live_disk("D:\\locked", "vm")
    assert rig.run(f"certutil -hashfile {path} SHA256").code == code


def test_a_hash_takes_time_for_its_bytes(tmp_path: Path) -> None:
    rig = Rig(tmp_path, speeds=Speeds(hash_bytes_per_second=1000, chunk=1000))
    rig.put("D:\\f", DATA)
    start = rig.clock.now()
    assert rig.run("certutil -hashfile D:\\f SHA256").out.splitlines()[1] == DIGEST
    assert (rig.clock.now() - start).total_seconds() == pytest.approx(10)


@pytest.mark.parametrize(("path", "code"), [("C:\\link", 0), ("C:\\dead", 0), ("C:\\Windows", 1), ("C:\\nope", 1)])
def test_a_reparse_point_is_told_by_the_exit_code(rig: Rig, path: str, code: int) -> None:
    rig.files.make_link("C:\\link", "C:\\Windows", "symlinkd")
    rig.files.make_link("C:\\dead", "C:\\gone", "junction")
    assert rig.run(f"fsutil reparsepoint query {path}").code == code


@pytest.mark.parametrize(("arguments", "lines"), [
    ("/user /fo csv /nh", ['"hv1\\clerk","{sid}"']), ("/user /fo csv", ['"User Name","SID"', '"hv1\\clerk","{sid}"']), ("", ["hv1\\clerk"]),
    ("/user /fo list", ["User Name: hv1\\clerk", "SID:       {sid}"]),
])
def test_who_am_i(rig: Rig, arguments: str, lines: list[str]) -> None:
    sid = rig.start("rem", caller=ORDINARY).context.token.sid
    assert rig.run(f"whoami {arguments}", caller=ORDINARY).out.splitlines() == [line.format(sid=sid) for line in lines]
