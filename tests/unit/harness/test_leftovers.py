# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check that nothing is left finds everything that can be left, everything of others that can be touched, and every false success."""
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulator.cim.model import Caller
from simulator.clock import SimClock
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.host import SimHost
from simulator.spec import HostSpec
from simulator.windows.spec import ShareSpec, VolumeSpec
from support.in_process import ADMINISTRATOR, Ending
from support.leftovers import STATE, Others, assert_nothing_left, others_of, problems_on

DESTINATION, SHARE = "E:\\Backup", "\\\\NAS\\backup\\night"
MACHINE = "HV01\\sql01_01234567"
SHADOW = "{3808876B-C176-4E48-B7AE-04046E6CC752}"
NAS = FileServerSpec("NAS", None, (VolumeSpec("C:"), VolumeSpec("E:")), (ShareSpec("backup", "E:\\backup"),))


@pytest.fixture
def host(tmp_path: Path) -> SimHost:
    """A host with traces of another product."""
    spec = HostSpec("HV01", volumes=(VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:")))
    found = Fleet([spec], tmp_path, file_servers=[NAS]).simulated["HV01"]
    assert isinstance(found.clock, SimClock)
    found.shadows.add_foreign("D:\\")
    found.tasks.add_foreign("\\other\\nightly")
    put(found, f"{DESTINATION}\\readme.txt")
    put(found, f"{DESTINATION}\\HV01\\other_01234567\\old\\disk.vhdx")
    put(found, f"{SHARE}\\theirs.txt")
    for part in ("s", "intents", "jobs", "leases"):
        make(found, f"{STATE}\\{part}")
    return found


@pytest.fixture
def others(host: SimHost) -> Others:
    return others_of(host, DESTINATION, SHARE)


def make(host: SimHost, folder: str) -> None:
    """A folder with those above it."""
    parts = folder.split("\\")
    for count in range(5 if folder.startswith("\\\\") else 2, len(parts) + 1):
        path = "\\".join(parts[:count])
        if not host.files.exists(path):
            host.files.create_directory(path)


def put(host: SimHost, path: str, data: bytes = b"data") -> None:
    make(host, path.rpartition("\\")[0])
    host.files.write_file(path, data)


def copy(host: SimHost, destination: str, name: str = "20260301T220000Z_night-1", vm: str = "sql01") -> str:
    """A complete copy; its folder."""
    folder = f"{destination}\\{MACHINE}\\{name}"
    put(host, f"{folder}\\disks\\a.vhdx", b"disk")
    manifest = {"vm": {"name": vm}, "files": [{"path": "disks\\a.vhdx", "size": 4}]}
    put(host, f"{folder}\\manifest.json", json.dumps(manifest).encode())
    return folder


def ours(host: SimHost) -> str:
    code, shadow_id = host.shadows.create("D:\\", "ClientAccessible")
    assert code == 0
    return str(shadow_id)


def problems(host: SimHost, others: Others, **more: Any) -> list[str]:
    return list(problems_on(host, others, destinations=[DESTINATION, SHARE], **more))


def task_of_ours(host: SimHost) -> None:
    host.tasks.add_foreign("\\agentless.hyperv\\vm_night-1")


LEFT: list[tuple[Callable[[SimHost], object], str]] = [
    (ours, "shadow_copy {"),
    (task_of_ours, "task \\agentless.hyperv\\vm_night-1"),
    (lambda host: host.files.make_link(f"{STATE}\\s\\{SHADOW}", "C:\\gone", "symlinkd"), f"link {STATE}\\s\\{SHADOW}"),
    (lambda host: put(host, f"{STATE}\\intents\\night-1_0a1b2c3d.json"), "intent "),
    (lambda host: put(host, f"{STATE}\\intents\\night-1_0a1b2c3d.json.tmp"), "intent "),
    (lambda host: make(host, f"{STATE}\\jobs\\vm_night-1"), "job "),
    (lambda host: make(host, f"{STATE}\\leases\\night-1"), "lease "),
    (lambda host: put(host, f"{STATE}\\else"), f"file {STATE}\\else"),
    (lambda host: make(host, f"{STATE}.0a1b2c3d4e5f"), "folder agentless.hyperv.0a1b2c3d4e5f"),
    (lambda host: put(host, "C:\\Windows\\Temp\\agentless.hyperv.0a1b2c3d4e5f.acl"), "file agentless.hyperv."),
    *((lambda host, at=at: put(host, f"{at}\\{MACHINE}\\x_y\\disks\\a.vhdx"), f"incomplete_copy {at}\\{MACHINE}\\x_y")
      for at in (DESTINATION, SHARE)),
    *((lambda host, at=at: make(host, f"{at}\\{MACHINE}\\x_y"), f"incomplete_copy {at}\\{MACHINE}\\x_y") for at in (DESTINATION, SHARE)),
    (lambda host: put(host, f"{DESTINATION}\\{MACHINE}\\x_y\\manifest.json", b"{"), "incomplete_copy "),
    (lambda host: put(host, f"{DESTINATION}\\{MACHINE}\\x_y\\manifest.json.pruning", b"{}"), "incomplete_copy "),
    (lambda host: put(host, copy(host, SHARE) + "\\manifest.json.tmp"),
     f"file {SHARE}\\{MACHINE}\\20260301T220000Z_night-1\\manifest.json.tmp"),
    (lambda host: put(host, f"{DESTINATION}\\{MACHINE}\\copy.lease"), f"file {DESTINATION}\\{MACHINE}\\copy.lease"),
    (lambda host: put(host, f"{DESTINATION}\\HV01\\stray"), f"file {DESTINATION}\\HV01\\stray"),
    (lambda host: put(host, f"{SHARE}\\write test"), f"file {SHARE}\\write test"),
]


def test_nothing_is_found_where_nothing_is_left(host: SimHost, others: Others) -> None:
    for destination in (DESTINATION, SHARE):
        copy(host, destination)
    assert problems(host, others) == []
    assert_nothing_left(host, others, destinations=[DESTINATION, SHARE])


@pytest.mark.parametrize("number", range(len(LEFT)))
def test_whatever_is_left_is_found(host: SimHost, others: Others, number: int) -> None:
    leave, expected = LEFT[number]
    leave(host)
    found = problems(host, others)
    assert len(found) == 1, found
    assert found[0].startswith(f"left over: {expected}")
    with pytest.raises(AssertionError, match="left over: "):
        assert_nothing_left(host, others, destinations=[DESTINATION, SHARE])


def test_a_program_that_still_runs_is_found(host: SimHost, others: Others) -> None:
    line = "%SystemRoot%\\System32\\more.com"
    host.processes.start(Caller(ADMINISTRATOR, "ntlm", True), line, {}, None, job="a shell")
    assert problems(host, others) == [f"left over: program {line}"]
    assert problems(host, others_of(host, DESTINATION, SHARE)) == []


def test_what_is_to_stay_may_stay(host: SimHost, others: Others) -> None:
    shadow_id = ours(host)
    put(host, f"{STATE}\\intents\\night-1_0a1b2c3d.{shadow_id}.json")
    host.files.make_link(f"{STATE}\\s\\{shadow_id.lower()}", "C:\\gone", "symlinkd")
    assert len(problems(host, others)) == 3
    assert problems(host, others, kept=[shadow_id]) == []
    found = host.shadows.find(shadow_id)
    assert found is not None
    assert len(problems(host, replace(others, shadows=(*others.shadows, found)))) == 2, "another product may make shadow copies as we do"


def forget_shadow(host: SimHost) -> None:
    host.shadows.copies.clear()


def replace_task(host: SimHost) -> None:
    host.tasks.add_foreign("\\other\\nightly", "C:\\evil.exe")


def remove_task(host: SimHost) -> None:
    found = host.tasks.find("\\other\\", "nightly")
    assert found is not None
    host.tasks.delete(found)


@pytest.mark.parametrize(("do", "expected"), [
    (forget_shadow, "another product's shadow copy {"),
    (replace_task, "another product's task \\other\\nightly is changed"),
    (remove_task, "another product's task \\other\\nightly is gone"),
    (lambda host: put(host, f"{SHARE}\\theirs.txt", b"other"), f"another's file {SHARE}\\theirs.txt is changed"),
    (lambda host: host.files.remove_file(host.files.resolve(f"{DESTINATION}\\readme.txt")),
     f"another's file {DESTINATION}\\readme.txt is gone"),
])
def test_whatever_is_touched_of_others_is_found(host: SimHost, others: Others, do: Callable[[SimHost], None], expected: str) -> None:
    do(host)
    found = problems(host, others)
    assert len(found) == 1, found
    assert found[0].startswith(expected)


def entry(folder: str, vm: str = "sql01", **more: Any) -> dict[str, Any]:
    return {"vm": {"name": vm}, "failed": False, "manifest": {"folder": folder}, **more}


@pytest.mark.parametrize("destination", [DESTINATION, SHARE])
def test_a_false_success_is_found(host: SimHost, others: Others, destination: str) -> None:
    folder = copy(host, destination)
    for result in (entry(folder), {"results": [entry(folder)]}, {"results": [entry(folder), entry("nowhere", failed=True)]}):
        assert problems(host, others, ending=Ending(result=result)) == []
    assert problems(host, others, ending=Ending(result={"results": [entry(folder), entry("E:\\none", "web01")]})) == [
        "success for web01 without a manifest in E:\\none"]
    assert problems(host, others, ending=Ending(result=entry(folder, "web01"))) == ["success for web01 with the copy of sql01"]
    put(host, f"{folder}\\disks\\a.vhdx", b"shorter"[:3])
    assert problems(host, others, ending=Ending(result=entry(folder))) == [
        f"success for sql01, and {folder}\\disks\\a.vhdx has 3 bytes instead of 4"]
    host.files.remove_file(host.files.resolve(f"{folder}\\disks\\a.vhdx"))
    assert problems(host, others, ending=Ending(result=entry(folder))) == [
        f"success for sql01, and {folder}\\disks\\a.vhdx has None bytes instead of 4"]


def test_a_host_without_anything_of_ours_is_clean(tmp_path: Path) -> None:
    bare = Fleet([HostSpec("HV01")], tmp_path).simulated["HV01"]
    assert_nothing_left(bare, destinations=["E:\\none", "\\\\NOBODY\\share"])
