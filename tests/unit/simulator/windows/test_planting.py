# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ordinary user can plant where a state folder goes, and what an administrator's access list does about it."""
from __future__ import annotations

from pathlib import Path

import pytest
from simulator.host import SimHost
from simulator.windows import acl
from simulator.windows.errors import Win32Error
from simulator.windows.planting import FilesAs
from unit.simulator.windows.task_helpers import CALLER, make_host, run_task, task_xml

STATE = "C:\\ProgramData\\agentless.hyperv"
CLOSE = f'icacls "{STATE}" /inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F /Q'


@pytest.fixture
def host(tmp_path: Path) -> SimHost:
    return make_host(tmp_path)


@pytest.fixture
def clerk(host: SimHost) -> FilesAs:
    return host.files_as("clerk")


def shell(host: SimHost, line: str) -> tuple[int | None, str, str]:
    process = host.processes.start(CALLER, line, {}, None, job="shell")
    out, err = process.take_output()
    return process.exit_code, out.decode(), err.decode()


def refusal(action: object, *arguments: object) -> int:
    """The Win32 error of an action; 0 when it works."""
    assert callable(action)
    try:
        action(*arguments)
    except Win32Error as refused:
        return refused.code
    return 0


def test_everybody_can_be_first_below_program_data(host: SimHost, clerk: FilesAs) -> None:
    clerk.make_folder(STATE)
    assert clerk.owner_of(STATE) == clerk.sid != acl.ADMINISTRATORS
    assert clerk.may(STATE, acl.FULL)
    clerk.write(STATE + "\\run.cmd")
    assert shell(host, f"mkdir {STATE}")[0] == 1
    assert host.files_as("backup", "EXAMPLE").may(STATE, acl.WRITE_DATA) is True
    assert shell(host, "dir /q C:\\ProgramData")[1].count(clerk.sid) == 1


@pytest.mark.parametrize(("kind", "code"), [("junction", 0), ("symlinkd", 1314), ("symlink", 1314)])
def test_links_of_an_ordinary_user(host: SimHost, clerk: FilesAs, kind: str, code: int) -> None:
    clerk.make_folder("C:\\ProgramData\\mine")
    assert refusal(clerk.link, STATE, "C:\\ProgramData\\mine", kind) == code
    listed = shell(host, f'dir /B /AL "{STATE}*"')
    assert listed[0] == (0 if code == 0 else 1)
    if code == 0:
        assert shell(host, f"echo x> {STATE}\\file")[0] == 0
        assert clerk.names("C:\\ProgramData\\mine") == ["file"], "what goes through the link lands with the user"
        clerk.remove(STATE)
        assert clerk.names("C:\\ProgramData\\mine") == ["file"]


def test_a_folder_of_an_administrator_is_open_until_it_is_closed(host: SimHost, clerk: FilesAs) -> None:
    assert shell(host, f"mkdir {STATE}")[0] == 0
    assert clerk.owner_of(STATE) == acl.ADMINISTRATORS
    assert refusal(clerk.write, STATE + "\\early.cmd") == 0
    assert refusal(clerk.make_folder, STATE + "\\early") == 0
    assert shell(host, CLOSE)[0] == 0
    attempts = {
        "write": refusal(clerk.write, STATE + "\\late.cmd"), "folder": refusal(clerk.make_folder, STATE + "\\late"),
        "list": refusal(clerk.names, STATE), "rename": refusal(clerk.rename, STATE, STATE + "2"), "remove": refusal(clerk.remove, STATE),
        "link": refusal(clerk.link, STATE + "\\l", "C:\\Windows"), "open": refusal(clerk.open_up, STATE),
    }
    assert attempts == dict.fromkeys(attempts, 5) | {"remove": 145}
    assert clerk.owner_of(STATE + "\\early.cmd") == clerk.sid
    assert refusal(clerk.open_up, STATE + "\\early.cmd") == 0, "an owner can always change the list of what is his"
    assert refusal(clerk.write, STATE + "\\early.cmd") == 0


def test_closing_is_not_enough_while_somebody_else_is_the_owner(host: SimHost, clerk: FilesAs) -> None:
    clerk.make_folder(STATE)
    assert shell(host, f"icacls {STATE} /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F /Q & icacls {STATE} /inheritance:r /Q")[0] == 0
    assert refusal(clerk.names, STATE) == 5
    clerk.open_up(STATE)
    assert refusal(clerk.write, STATE + "\\run.cmd") == 0
    assert shell(host, f"icacls {STATE} /setowner *S-1-5-32-544 /Q & {CLOSE}")[0] == 0
    assert refusal(clerk.write, STATE + "\\run2.cmd") == 0, "/grant:r replaces only the entries of those it names"
    assert shell(host, f"icacls {STATE} /remove *S-1-1-0 /Q")[0] == 0
    assert refusal(clerk.open_up, STATE) == 5


def test_what_is_made_in_a_closed_folder_is_closed(host: SimHost, clerk: FilesAs) -> None:
    assert shell(host, f"mkdir {STATE} & {CLOSE} & mkdir {STATE}\\s & echo x> {STATE}\\s\\file")[0] == 0
    assert run_task(host, task_xml(f"/d /c echo y> {STATE}\\s\\task")) == 0
    for path in (f"{STATE}\\s", f"{STATE}\\s\\file", f"{STATE}\\s\\task"):
        assert not clerk.may(path, acl.READ_DATA)
        assert host.files.owner(host.files.resolve(path)) == acl.ADMINISTRATORS
        assert host.files_as("Administrator", elevated=True).may(path, acl.FULL)
    assert [entry.parts[-1] for entry in host.files.children(host.files.resolve(f"{STATE}\\s"))] == ["file", "task"]


def test_a_script_that_was_planted_runs_as_whoever_calls_it(host: SimHost, clerk: FilesAs) -> None:
    clerk.make_folder(STATE)
    clerk.write(STATE + "\\run.cmd", b"@whoami > C:\\Windows\\Temp\\who")
    assert run_task(host, task_xml(None, command=STATE + "\\run.cmd")) == 0
    assert host.files.read_file("C:\\Windows\\Temp\\who").strip().lower() == b"nt authority\\system"


@pytest.mark.parametrize(("path", "code"), [("C:\\Windows\\x", 5), ("C:\\Windows\\System32\\x.exe", 5), ("C:\\x", 5), ("D:\\x", 5),
                                            ("C:\\ProgramData\\x", 0)])
def test_where_an_ordinary_user_can_put_a_file(clerk: FilesAs, path: str, code: int) -> None:
    assert refusal(clerk.write, path) == code
    assert refusal(clerk.make_folder, path + "d") == (5 if "Windows" in path else 0), "folders in the root of a drive are everybody's"


def test_an_account_that_is_not_there(host: SimHost) -> None:
    with pytest.raises(KeyError):
        host.files_as("nobody")
