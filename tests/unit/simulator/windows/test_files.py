# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths, links, access lists, shares, sharing and free space."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from simulator.cim.model import Account, Caller
from simulator.windows import acl, errors, paths
from simulator.windows.acl import Ace, Acl
from simulator.windows.errors import Win32Error
from simulator.windows.files import Network
from simulator.windows.identity import Token, token_for
from simulator.windows.programs.base import HostFacts
from simulator.windows.spec import ShareSpec, VolumeSpec
from unit.simulator.windows.helpers import ADMINISTRATOR, GIB, ORDINARY, Rig

GUID = "11111111-2222-3333-4444-555555555555"
MANY = (VolumeSpec("C:"), VolumeSpec("D:", guid=GUID), VolumeSpec("C:\\Mounts\\Data"),
        VolumeSpec("C:\\ClusterStorage\\Volume1", filesystem="CSVFS"))


@pytest.fixture
def disks(tmp_path: Path) -> Rig:
    """A host with a drive, a mounted folder and a CSV, each with one file in a folder."""
    rig = Rig(tmp_path, MANY)
    for base in ("D:", "C:\\Mounts\\Data", "C:\\ClusterStorage\\Volume1"):
        rig.put(base + "\\Ordner\\File.txt", base.encode())
    return rig


def code_of(call: Callable[[], object]) -> int:
    with pytest.raises(Win32Error) as caught:
        call()
    return caught.value.code


@pytest.mark.parametrize(("path", "content"), [
    ("D:\\Ordner\\File.txt", b"D:"), ("d:\\ORDNER\\file.TXT", b"D:"), ("D:/Ordner/File.txt", b"D:"),
    ("D:\\Ordner\\.\\x\\..\\File.txt", b"D:"), ("D:\\..\\..\\Ordner\\File.txt", b"D:"), ("D:\\Ordner.\\File.txt. . ", b"D:"),
    (f"\\\\?\\Volume{{{GUID}}}\\Ordner\\File.txt", b"D:"), (f"\\\\?\\volume{{{GUID.upper()}}}\\ordner\\file.txt", b"D:"),
    ("\\\\?\\D:\\Ordner\\File.txt", b"D:"), ("C:\\mounts\\DATA\\ordner\\file.txt", b"C:\\Mounts\\Data"),
    ("C:\\ClusterStorage\\volume1\\Ordner\\File.txt", b"C:\\ClusterStorage\\Volume1"),
    ("\\\\HV1\\D$\\Ordner\\File.txt", b"D:"), ("\\\\?\\UNC\\hv1\\d$\\Ordner\\File.txt", b"D:"),
])
def test_path_forms_that_lead_to_one_file(disks: Rig, path: str, content: bytes) -> None:
    assert disks.files.read_file(path) == content


@pytest.mark.parametrize(("path", "code"), [
    ("E:\\x", errors.PATH_NOT_FOUND), ("D:\\nope\\x", errors.PATH_NOT_FOUND), ("D:\\Ordner\\File.txt\\x", errors.PATH_NOT_FOUND),
    ("D:\\a<b", errors.INVALID_NAME), ("D:\\a|b", errors.INVALID_NAME), ("D:\\a*b", errors.INVALID_NAME), ("D:\\a?b", errors.INVALID_NAME),
    ('D:\\a"b', errors.INVALID_NAME), ("D:\\a\nb", errors.INVALID_NAME), ("D:\\File.txt:stream", errors.INVALID_NAME),
    ("D:\\CON", errors.INVALID_NAME), ("D:\\nul.txt", errors.INVALID_NAME), ("D:\\com1", errors.INVALID_NAME),
    ("D:\\lpt9.log", errors.INVALID_NAME), ("D:\\" + "x" * 256, errors.INVALID_NAME), ("", errors.PATH_NOT_FOUND),
    (" ", errors.PATH_NOT_FOUND),
    ("D:\\a\x00b", errors.PATH_NOT_FOUND), ("\\\\.\\PhysicalDrive0", errors.INVALID_NAME), ("\\\\?\\D:x", errors.INVALID_NAME),
    ("\\\\?\\D:\\a.\\b", errors.INVALID_NAME), ("\\\\?\\Volume{00000000-0000-0000-0000-000000000000}\\x", errors.FILE_NOT_FOUND),
    ("\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy9\\x", errors.FILE_NOT_FOUND),
    (f"\\\\?\\Volume{{{GUID}}}", errors.PATH_NOT_FOUND),
    ("\\\\nowhere\\s\\x", errors.BAD_NETPATH), ("\\\\hv1\\nope\\x", errors.BAD_NET_NAME),
    ("\\\\hv1", errors.BAD_NETPATH),
])
def test_paths_that_are_refused(disks: Rig, path: str, code: int) -> None:
    assert code_of(lambda: disks.files.resolve(path)) == code


LONG = ["x" * 255, "名" * 255, "🖥" * 127]


@pytest.mark.parametrize("name", [*LONG, "e\u0301", "Straße", "İı", "a b.c d", "%TEMP%", "a;b,c=d", "\u202etxt.exe"])
def test_any_windows_name_can_be_stored_listed_renamed_and_removed(rig: Rig, name: str) -> None:
    rig.files.create_directory("D:\\w")
    rig.files.write_file(f"D:\\w\\{name}", b"1")
    assert rig.tree("D:\\w") == {name: b"1"}
    rig.files.rename(rig.files.resolve(f"D:\\w\\{name}"), rig.files.resolve(f"D:\\w\\{name[:-1]}_"))
    assert rig.tree("D:\\w") == {name[:-1] + "_": b"1"}
    rig.files.remove_file(rig.files.resolve(f"D:\\w\\{name[:-1]}_"))
    assert rig.tree("D:\\w") == {}


def test_links_are_followed_at_each_use_and_may_lead_anywhere(disks: Rig) -> None:
    files = disks.files
    files.make_link("C:\\l", "D:\\Ordner", "symlinkd")
    files.make_link("C:\\rel", "Mounts\\Data", "symlinkd")
    files.make_link("C:\\l2", "C:\\L", "junction")
    files.make_link("C:\\later", "D:\\comes", "symlinkd")
    assert files.read_file("C:\\l2\\file.txt") == b"D:"
    assert files.read_file("C:\\rel\\Ordner\\file.txt") == b"C:\\Mounts\\Data"
    assert not files.exists("C:\\later\\x")
    disks.put("D:\\comes\\x", b"now")
    assert files.read_file("C:\\later\\x") == b"now"
    assert files.resolve("C:\\l", follow_last=False).link is not None
    assert files.resolve("C:\\l").relative == "Ordner"


def test_a_folder_has_the_time_of_the_last_change_in_it(rig: Rig) -> None:
    """An entry that comes, goes or gets another name is a change in its folder; what is written into a file is none."""
    rig.put("C:\\a\\b\\old.txt")

    def changed(action: Callable[[], object]) -> list[bool]:
        before = [rig.files.entry(rig.files.resolve(path)).modified for path in ("C:\\a\\b", "C:\\a")]
        rig.clock.advance(60)
        action()
        after = [rig.files.entry(rig.files.resolve(path)).modified for path in ("C:\\a\\b", "C:\\a")]
        assert all(time in (was, rig.clock.now()) for was, time in zip(before, after, strict=True))
        return [was != time for was, time in zip(before, after, strict=True)]

    files = rig.files
    assert changed(lambda: files.write_file("C:\\a\\b\\old.txt", b"x")) == [False, False]
    assert changed(lambda: files.write_file("C:\\a\\b\\new.txt", b"x")) == [True, False]
    assert changed(lambda: files.rename(files.resolve("C:\\a\\b\\new.txt"), files.resolve("C:\\a\\b\\next.txt"))) == [True, False]
    assert changed(lambda: files.remove_file(files.resolve("C:\\a\\b\\next.txt"))) == [True, False]
    assert changed(lambda: files.create_directory("C:\\a\\b\\c")) == [True, False]
    assert changed(lambda: files.remove_directory(files.resolve("C:\\a\\b\\c"))) == [True, False]
    assert changed(lambda: files.make_link("C:\\a\\b\\l", "C:\\x", "junction")) == [True, False]
    assert changed(lambda: files.rename(files.resolve("C:\\a\\b\\old.txt"), files.resolve("C:\\a\\old.txt"))) == [True, True]


def test_links_in_a_circle_are_refused(rig: Rig) -> None:
    rig.files.make_link("C:\\a", "C:\\b", "symlinkd")
    rig.files.make_link("C:\\b", "C:\\a", "symlinkd")
    assert code_of(lambda: rig.files.resolve("C:\\a\\x")) == errors.CANT_RESOLVE


def test_a_link_to_a_shadow_copy_needs_the_trailing_backslash(rig: Rig) -> None:
    rig.put("D:\\x.txt", b"then")
    alive = rig.shadow_link(link="C:\\alive")
    rig.files.make_link("C:\\dead", rig.shadows.copies[0].device_object, "symlinkd")
    rig.files.write_file("D:\\x.txt", b"now")
    assert rig.files.read_file(alive + "\\x.txt") == b"then"
    assert code_of(lambda: rig.files.read_file("C:\\dead\\x.txt")) == errors.PATH_NOT_FOUND
    assert rig.files.resolve("C:\\dead", follow_last=False).exists


def test_a_shadow_of_the_system_drive_holds_the_link_to_a_csv_and_not_its_content(disks: Rig) -> None:
    link = disks.shadow_link("C:\\", "D:\\s")
    disks.files.write_file("C:\\ClusterStorage\\Volume1\\Ordner\\File.txt", b"written after the copy")
    assert disks.files.read_file(link + "\\ClusterStorage\\Volume1\\Ordner\\File.txt") == b"written after the copy"


def test_nothing_can_be_written_to_a_shadow_copy_or_a_protected_volume(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:", write_protected=True)))
    rig.put("D:\\x.txt")
    link = rig.shadow_link()
    for path in (link + "\\new.txt", link + "\\x.txt", "E:\\new.txt"):
        assert code_of(lambda path=path: rig.files.write_file(path, b"")) == errors.WRITE_PROTECT
    assert code_of(lambda: rig.files.remove_file(rig.files.resolve(link + "\\x.txt"))) == errors.WRITE_PROTECT


def test_the_limit_of_260_binds_cmd_and_not_robocopy(rig: Rig) -> None:
    deep = "\\".join(["d" * 60] * 5)
    assert rig.run(f"mkdir D:\\{deep}").code == 1
    assert rig.run(f"mkdir \\\\?\\D:\\{deep}").code == 0
    rig.files.write_file(f"D:\\{deep}\\f.txt", b"deep")
    assert rig.run(f"type D:\\{deep}\\f.txt").err == "The filename or extension is too long.\r\n"
    assert rig.run(f"robocopy D:\\{deep} C:\\{deep}\\more f.txt").code == 1
    assert rig.files.read_file(f"C:\\{deep}\\more\\f.txt") == b"deep"


# -- free space and sharing --------------------------------------------------------------------------------------------


def test_a_volume_is_full_at_its_free_space(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (VolumeSpec("C:"), VolumeSpec("D:", GIB, free=1000)))
    rig.files.write_file("D:\\a", b"x" * 600)
    assert code_of(lambda: rig.files.write_file("D:\\b", b"x" * 401)) == errors.DISK_FULL
    rig.files.write_file("D:\\b", b"x" * 400)
    assert rig.volumes[1].free_bytes == 0
    full = rig.run("echo x > D:\\c")
    assert (full.code, full.err) == (1, "There is not enough space on the disk.\r\n")
    rig.files.remove_file(rig.files.resolve("D:\\a"))
    assert rig.volumes[1].free_bytes == 600


def test_a_file_declared_old_does_not_count(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (VolumeSpec("C:"), VolumeSpec("D:", GIB, free=1000)))
    rig.files.real_path("D:\\old.vhdx").write_bytes(b"x" * 5000)
    rig.files.count_as_old("D:\\old.vhdx")
    assert rig.volumes[1].free_bytes == 1000


@pytest.mark.parametrize(("locked", "read"), [(True, 32), (False, 0)])
def test_the_disk_of_a_running_machine_is_in_use(tmp_path: Path, locked: bool, read: int) -> None:
    rig = Rig(tmp_path, locked_live_disks=locked)
    rig.put("D:\\vm\\leaf.vhdx")
    release = rig.files.hold_live_disk("D:\\vm\\leaf.vhdx", "vm")
    result = rig.run("type D:\\vm\\leaf.vhdx")
    assert (result.code != 0) is (read == 32)
    place = rig.files.resolve("D:\\vm\\leaf.vhdx")
    assert code_of(lambda: rig.files.remove_file(place)) == errors.SHARING_VIOLATION
    assert code_of(lambda: rig.files.write_file("D:\\vm\\leaf.vhdx", b"")) == errors.SHARING_VIOLATION
    assert code_of(lambda: rig.files.rename(rig.files.resolve("D:\\vm"), rig.files.resolve("D:\\vm2"))) == errors.SHARING_VIOLATION
    release()
    rig.files.remove_file(place)
    assert rig.tree("D:\\vm") == {}


# -- who may do what ---------------------------------------------------------------------------------------------------


def token(rig: Rig, caller: Caller) -> Token:
    return token_for(caller, rig.facts.name, rig.facts.domain)


def test_an_ordinary_user_may_plant_a_folder_in_programdata_but_not_touch_a_closed_one(rig: Rig) -> None:
    user = token(rig, ORDINARY)
    rig.files.create_directory("C:\\ProgramData\\planted", user)
    planted = rig.files.resolve("C:\\ProgramData\\planted")
    assert rig.files.owner(planted) == user.sid
    rig.files.write_file("C:\\ProgramData\\planted\\x", b"", user)
    rig.files.create_directory("C:\\ProgramData\\state", token(rig, ADMINISTRATOR))
    state = rig.files.resolve("C:\\ProgramData\\state")
    assert rig.files.owner(state) == acl.ADMINISTRATORS
    rig.files.write_file("C:\\ProgramData\\state\\planted.txt", b"", user)
    closed = Acl(tuple(Ace(sid, acl.FULL, frozenset({"OI", "CI"})) for sid in (acl.SYSTEM, acl.ADMINISTRATORS)), protected=True)
    rig.files.set_acl(state, closed)
    for path in ("C:\\ProgramData\\state\\more.txt", "C:\\Windows\\x.txt"):
        assert code_of(lambda path=path: rig.files.write_file(path, b"", user)) == errors.ACCESS_DENIED
    assert code_of(lambda: list(rig.files.children(state, user))) == errors.ACCESS_DENIED
    assert code_of(lambda: rig.files.set_owner(state, user.sid, user)) == errors.ACCESS_DENIED


@pytest.mark.parametrize(("grant", "mask", "flags"), [
    ("(OI)(CI)F", acl.FULL, {"OI", "CI"}), ("F", acl.FULL, set()), ("(OI)(CI)(RX)", acl.READ_EXECUTE, {"OI", "CI"}),
    ("(CI)(WD,AD)", 6, {"CI"}), ("(M)", acl.MODIFY, set()),
])
def test_permissions_of_icacls(grant: str, mask: int, flags: set[str]) -> None:
    assert acl.parse_grant(grant) == (mask, frozenset(flags))


@pytest.mark.parametrize("grant", ["", "(OI)", "Q", "(OI)(XX)F", "F;F", "(WD,ZZ)"])
def test_permissions_that_icacls_refuses(grant: str) -> None:
    with pytest.raises(ValueError, match="not a permission"):
        acl.parse_grant(grant)


DOMAIN = "corp.example"
USER = Account("clerk", "x", domain=DOMAIN, groups=frozenset({"Administrators"}))


@pytest.mark.parametrize(("caller", "grants", "code"), [
    (Caller(USER, "ntlm", True), ("Everyone",), 5), (Caller(USER, "kerberos", True), ("CORP\\clerk",), 5),
    (Caller(USER, "credssp", True, delegated=True), ("CORP\\clerk",), 0),
    (Caller(USER, "kerberos", True, delegated=True), ("Everyone",), 0),
    (Caller(USER, "credssp", True, delegated=True), ("CORP\\somebody",), 5), (Caller(USER, "system", True), ("CORP\\HV1$",), 0),
    (Caller(USER, "system", True), ("CORP\\clerk",), 5),
])
def test_another_machine_is_reached_only_with_credentials(tmp_path: Path, caller: Caller, grants: tuple[str, ...], code: int) -> None:
    network = Network()
    nas = Rig(tmp_path / "nas", (VolumeSpec("C:"), VolumeSpec("E:")), facts=HostFacts("NAS", DOMAIN), network=network)
    nas.files.add_share(ShareSpec("backup", "E:\\backup", grants))
    rig = Rig(tmp_path / "hv", facts=HostFacts("HV1", DOMAIN), network=network)
    rig.put("D:\\x.txt")
    result = rig.run("copy /Y D:\\x.txt \\\\nas.corp.example\\backup\\x.txt", caller=caller)
    assert result.code == (1 if code else 0)
    assert ("Access is denied." in result.err) is (code == 5)
    assert nas.tree("E:\\backup") == ({} if code else {"x.txt": b"data"})


def test_verbatim_and_usual_texts_of_paths() -> None:
    assert paths.parse("d:x\\y", "D:\\a").text() == "D:\\a\\x\\y"
    assert paths.parse("\\y", "D:\\a").text() == "D:\\y"
    assert paths.parse("..\\y", "D:\\a\\b").text() == "D:\\a\\y"
    assert paths.parse("\\\\srv\\share\\a\\..\\b").text() == "\\\\srv\\share\\b"
    assert paths.parse("D:").text() == "D:\\"
