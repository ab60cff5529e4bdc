# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shares of other machines: who gets in as whom, from a shell, a task or with delegated credentials; servers and shares that go."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from simulator.cim.model import Account, Caller
from simulator.clock import SimClock
from simulator.fileserver import FileServer, FileServerSpec
from simulator.host import SimHost, Surroundings
from simulator.spec import HostSpec
from simulator.windows.programs.base import Speeds
from simulator.windows.spec import ShareSpec, VolumeSpec
from unit.simulator.windows.task_helpers import ACCOUNTS, ADMINISTRATOR, FOLDER, SECRET, call, info, register, run_task, task_xml

MIB = 1024**2
PATH = "\\\\NAS\\backup"
BACKUP = ACCOUNTS[1]


@dataclass
class Site:
    """A host and a file server."""

    host: SimHost
    server: FileServer

    def shell(self, line: str, *, delegated: bool = False, account: Account = ADMINISTRATOR) -> tuple[int | None, str]:
        """Exit code and error output of a line in a WinRM shell."""
        caller = Caller(account, "credssp" if delegated else "ntlm", True, delegated)
        process = self.host.processes.start(caller, line, {}, None, job="shell")
        while process.exit_code is None and self.host.clock.jump_to_next():
            pass
        return process.exit_code, process.take_output()[1].decode()


def make_site(root: Path, *, domain: str | None = "example.test", server_domain: str | None = "example.test",
              computer_accounts: bool = True,
              grants: tuple[str, ...] = ("Everyone",), readers: tuple[str, ...] = (), size: int = 1024 * MIB,
              server_accounts: tuple[Account, ...] = ()) -> Site:
    around = Surroundings()
    spec = FileServerSpec("NAS", server_domain, (VolumeSpec("C:"), VolumeSpec("E:", size)),
                          (ShareSpec("backup", "E:\\backup", grants, readers),), server_accounts, computer_accounts)
    server = FileServer(spec, root / "nas", SimClock(), around.network)
    host = SimHost.create(HostSpec("HV1", domain, accounts=ACCOUNTS, volumes=(VolumeSpec("C:"), VolumeSpec("D:")),
                                   speeds=Speeds(copy_bytes_per_second=MIB)), root / "hv", SimClock(), around)
    host.files.write_file("D:\\data", b"x" * 1000)
    return Site(host, server)


WRITE = f"copy /Y D:\\data {PATH}\\copied > nul || exit 5"
READ = f"dir /b {PATH}\\there > nul || exit 5"


@pytest.mark.parametrize(("site", "who", "expected"), [
    ({}, "SYSTEM", 0), ({"grants": ("EXAMPLE\\HV1$",)}, "SYSTEM", 0), ({"grants": ("EXAMPLE\\HV2$",)}, "SYSTEM", 5),
    ({"grants": ("EXAMPLE\\backup",)}, "SYSTEM", 5), ({"computer_accounts": False}, "SYSTEM", 5), ({"server_domain": None}, "SYSTEM", 5),
    ({"domain": None}, "SYSTEM", 5), ({"server_domain": "other.test"}, "SYSTEM", 5),
    ({}, "EXAMPLE\\backup", 0), ({"grants": ("EXAMPLE\\backup",)}, "EXAMPLE\\backup", 0),
    ({"grants": ("EXAMPLE\\HV1$",)}, "EXAMPLE\\backup", 5),
    ({"server_domain": None}, "EXAMPLE\\backup", 5), ({"computer_accounts": False}, "EXAMPLE\\backup", 0),
    ({"server_domain": None, "server_accounts": (Account("backup", SECRET),)}, "EXAMPLE\\backup", 0),
    ({"server_domain": None, "server_accounts": (Account("backup", "other"),)}, "EXAMPLE\\backup", 5),
    ({"server_domain": None, "server_accounts": (Account("backup", SECRET),), "grants": ("NAS\\backup",)}, "EXAMPLE\\backup", 0),
    ({"server_domain": None, "server_accounts": (Account("backup", SECRET),), "grants": ("EXAMPLE\\backup",)}, "EXAMPLE\\backup", 5),
    ({}, "HV1\\Administrator", 5), ({"server_accounts": (Account("Administrator", SECRET),)}, "HV1\\Administrator", 0),
])
def test_whom_a_task_is_at_a_share(tmp_path: Path, site: dict[str, object], who: str, expected: int) -> None:
    made = make_site(tmp_path, **site)  # type: ignore[arg-type]
    parameters = {} if who == "SYSTEM" else {"User": who, "Password": SECRET}
    assert run_task(made.host, task_xml(f"/d /c {WRITE}"), **parameters) == expected
    assert made.server.files.exists("E:\\backup\\copied") is (expected == 0)


@pytest.mark.parametrize(("delegated", "account", "code", "message"), [
    (False, BACKUP, 5, "Access is denied."), (False, ADMINISTRATOR, 5, "Access is denied."), (True, BACKUP, 0, ""),
    (True, ADMINISTRATOR, 5, "The user name or password is incorrect."),
])
def test_a_session_has_no_credentials_unless_delegated(tmp_path: Path, delegated: bool, account: Account, code: int, message: str) -> None:
    site = make_site(tmp_path)
    site.server.files.write_file("E:\\backup\\there", b"x")
    for line in (WRITE, READ):
        found = site.shell(line, delegated=delegated, account=account)
        assert found == (code, f"{message}\r\n" if message else "")
    assert site.shell(f"if exist {PATH}\\there (exit 1) else exit 0", delegated=delegated, account=account)[0] == (1 if code == 0 else 0)


def test_an_account_without_a_stored_password_has_none_elsewhere(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    principal = '<Principal id="A"><UserId>EXAMPLE\\backup</UserId><LogonType>S4U</LogonType></Principal>'
    assert run_task(site.host, task_xml(f"/d /c {WRITE}", principal=principal)) == 5
    assert run_task(site.host, task_xml("/d /c exit 0", principal=principal), Force=True) == 0


def test_readers_cannot_write(tmp_path: Path) -> None:
    site = make_site(tmp_path, grants=(), readers=("EXAMPLE\\HV1$",))
    site.server.files.write_file("E:\\backup\\there", b"x")
    assert run_task(site.host, task_xml(f"/d /c {READ}")) == 0
    assert run_task(site.host, task_xml(f"/d /c {WRITE}"), Force=True) == 5
    assert run_task(site.host, task_xml(f"/d /c robocopy D:\\ {PATH} data /R:0 /W:0"), Force=True) == 8


ROBOCOPY = f"C:\\Windows\\System32\\robocopy.exe D:\\ {PATH}\\sub data /R:0 /W:0 /NP /UNILOG:D:\\log"


def log_of(site: Site) -> str:
    return site.host.files.read_file("D:\\log").decode("utf-16")


@pytest.mark.parametrize(("happens", "code"), [("server down", 53), ("no share", 67), ("denied", 5), ("unknown", 1326)])
def test_numbers_of_what_is_wrong_with_a_share(tmp_path: Path, happens: str, code: int) -> None:
    site = make_site(tmp_path, grants=("EXAMPLE\\nobody",) if happens == "denied" else ("Everyone",),
                     computer_accounts=happens != "unknown")
    if happens == "server down":
        site.server.take_down()
    elif happens == "no share":
        site.server.remove_share("BACKUP")
    assert run_task(site.host, task_xml(f"/d /c {ROBOCOPY}")) == 16
    assert f"ERROR {code} (0x{code:08X})" in log_of(site)


def test_a_share_that_is_full_and_a_server_that_goes_in_the_middle(tmp_path: Path) -> None:
    site = make_site(tmp_path, size=8 * MIB)
    site.host.files.write_file("D:\\data", b"x" * (20 * MIB))
    assert run_task(site.host, task_xml(f"/d /c {ROBOCOPY}")) == 8
    assert "ERROR 112 (0x00000070)" in log_of(site)
    assert site.server.files.resolve("E:\\backup\\sub\\data").real.stat().st_size == 8 * MIB
    site.server.files.remove_file(site.server.files.resolve("E:\\backup\\sub\\data"))

    register(site.host, task_xml(f"/d /c {ROBOCOPY}"), "second")
    call(site.host, "StartByPath", TaskName="second", TaskPath=FOLDER)
    site.host.clock.advance(3.9)
    site.server.take_down()
    site.host.clock.advance(60)
    assert info(site.host, "second")["LastTaskResult"] == 8
    assert "ERROR 64 (0x00000040)" in log_of(site)
    assert site.server.files.resolve("E:\\backup\\sub\\data").real.stat().st_size == 4 * MIB
    site.server.bring_up()
    site.server.files.add_volume(VolumeSpec("F:"))
    site.server.files.add_share(ShareSpec("backup", "F:\\backup"))
    assert run_task(site.host, task_xml(f"/d /c {ROBOCOPY}"), "third") == 1


def test_free_space_of_a_share_is_that_of_its_volume(tmp_path: Path) -> None:
    site = make_site(tmp_path, size=3 * MIB)
    assert run_task(site.host, task_xml(f"/d /c dir {PATH} > D:\\listing & copy D:\\data {PATH}\\copied & dir {PATH} >> D:\\listing")) == 0
    listing = site.host.files.read_file("D:\\listing").decode()
    assert "3,145,728 bytes free" in listing
    assert "3,144,728 bytes free" in listing


def test_shares_of_other_hosts_know_the_accounts_of_their_domain(tmp_path: Path) -> None:
    around = Surroundings()
    hosts = [SimHost.create(HostSpec(name, "example.test", accounts=ACCOUNTS, volumes=(VolumeSpec("C:"), VolumeSpec("D:")), shares=shares),
                            tmp_path / name, SimClock(), around)
             for name, shares in (("HV1", ()), ("HV2", (ShareSpec("in", "D:\\in", ("EXAMPLE\\HV1$",)),)))]
    line = "/d /c copy C:\\Windows\\System32\\cmd.exe \\\\HV2.example.test\\in\\x >nul || exit 5"
    assert run_task(hosts[0], task_xml(line)) == 0
    assert hosts[1].files.exists("D:\\in\\x")
    assert run_task(hosts[0], task_xml(line), "other", User="EXAMPLE\\backup", Password=SECRET) == 5
    secret = "/d /c dir \\\\HV2\\D$ >nul || exit 5"
    assert run_task(hosts[0], task_xml(secret), "admin", User="EXAMPLE\\backup", Password=SECRET) == 0
    assert run_task(hosts[0], task_xml(secret), "system") == 5
