# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intents of restores, and whose a planned machine is."""
from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Settings
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.planned import Planned, lies_in
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_intents import STORE, RestoreIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_leftovers import judge
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.restore_marks import RestoreMark

VM, SOURCE = "0A1B2C3D-0000-4000-8000-00000000000A", "0A1B2C3D-0000-4000-8000-00000000000B"
FOLDER = "D:\\Restored\\HV01\\sql01_0A1B2C3D\\20261103T220000Z_restore-1"
INTENT = RestoreIntent("restore-1", "0123ABCD", datetime(2026, 11, 3, 22, tzinfo=UTC), "new", SOURCE, "sql01", "sql01-new", "nightly-1",
                       FOLDER, (SOURCE,))


def test_an_intent_is_read_back() -> None:
    lines = STORE.dump(INTENT).decode("ascii").splitlines()
    path = f"C:\\x\\intents\\{STORE.file_name(INTENT)}"
    listed = "\r\n".join(f"{path}:{number}:{line}" for number, line in enumerate(lines, 1))
    assert STORE.from_output(listed.encode("ascii")) == (INTENT,)
    check = replace(INTENT, mode="check", folder="")
    assert STORE.parse(STORE.file_name(check), STORE.dump(check).decode("ascii")) == check


@pytest.mark.parametrize("change", [
    {"format": 2}, {"action": "copy"}, {"run_id": "other"}, {"folder": ""}, {"folder": "D:\\"}, {"folder": "C:\\Windows\\System32"},
    {"folder": FOLDER + "x"}, {"folder": "D:\\a\\..\\b\\20261103T220000Z_restore-1"},
    {"folder": "\\\\nas\\a\\b\\20261103T220000Z_restore-1"},
    {"mode": "other"}, {"source_id": "nobody"}, {"planned_before": "x"}, {"planned_before": ["x"]}, {"backup_id": "../x"},
    {"host_time": "yesterday"}, {"name": ""},
])
def test_what_no_run_of_ours_wrote_is_no_intent(change: dict[str, Any]) -> None:
    text = json.dumps({**json.loads(STORE.dump(INTENT)), **change})
    with pytest.raises(ValueError):
        STORE.parse(STORE.file_name(INTENT), text)


def planned(name: str = "somebody", notes: str | None = None, root: str = "D:\\elsewhere") -> Planned:
    settings = Settings(f"Microsoft:{VM}", name, "10.0", 2, None, None, None, None, notes, root, None, root, None, None)
    return Planned(VM, name, settings)


@pytest.mark.parametrize(("machine", "paths", "owner"), [
    (planned(notes=RestoreMark(VM, SOURCE, "nightly-1", "restore-9", "new").line()), (), "ours"),
    (planned(notes=RestoreMark(SOURCE, SOURCE, "nightly-1", "restore-9", "new").line()), (), "foreign"),
    (planned(), (FOLDER.lower() + "\\virtual hard disks\\a.vhdx",), "ours"), (planned(root=FOLDER), (), "ours"),
    (planned(), (FOLDER + "x\\a.vhdx",), "foreign"), (planned("sql01-new"), (), "suspect"), (planned("sql01"), (), "suspect"),
    (planned(), (), "foreign"),
])
def test_whose_a_planned_machine_is(machine: Planned, paths: tuple[str, ...], owner: str) -> None:
    assert judge(machine, paths, (INTENT,)).owner == owner


def test_one_that_was_there_before_is_never_ours() -> None:
    there = replace(INTENT, planned_before=(VM,))
    assert judge(planned("sql01-new"), (), (there,)).owner == "foreign"
    assert judge(planned("sql01-new"), (), ()).owner == "foreign"


@pytest.mark.parametrize(("path", "folder", "inside"), [
    ("D:\\a\\b.vhdx", "D:\\a", True), ("d:\\A\\b.vhdx", "D:\\a\\", True), ("D:\\ab\\c", "D:\\a", False), ("D:\\a\\..\\b", "D:\\a", False),
    (None, "D:\\a", False), ("D:\\a", "D:\\a", True),
])
def test_lies_in(path: str | None, folder: str, inside: bool) -> None:
    assert lies_in(path, folder) is inside
