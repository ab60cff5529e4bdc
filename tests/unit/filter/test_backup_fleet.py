# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for many hosts: where a machine went, what takes the place of its first entry, and hours without copies."""
from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.agentless.hyperv.plugins.filter.backup_blackout import backup_blackout
from ansible_collections.agentless.hyperv.plugins.filter.backup_entries import backup_entries
from ansible_collections.agentless.hyperv.plugins.filter.backup_moved import backup_moved
from ansible_collections.agentless.hyperv.plugins.filter.backup_plan import backup_plan

ONE, TWO, THREE = (f"{digit * 8}-1111-2222-3333-444455556666" for digit in "abc")
VMS = [{"vm_id": ONE, "name": "one"}, {"vm_id": TWO, "name": "two"}, {"vm_id": THREE, "name": "three"}]
PLAN = {"tasks": [{"policy": "gold", "method": "vss_copy", "options": {"destination": "E:\\B"}, "names": [ONE, TWO, THREE], "vms": VMS}],
        "unavailable": []}


def gone(vm_id: str) -> dict[str, Any]:
    return {"vm": {"vm_id": None, "name": vm_id.upper()}, "changed": False, "failed": True, "error_code": "vm_not_found", "msg": "x"}


def done(vm_id: str, name: str) -> dict[str, Any]:
    return {"vm": {"vm_id": vm_id, "name": name}, "changed": True, "failed": False, "manifest": {"folder": f"E:\\B\\HV02\\{name}"}}


FIRST = [{"results": [gone(ONE), gone(TWO), done(THREE, "three")]}]
ROLES = [{"vm_id": ONE, "role": "Virtual Machine one", "group": "one", "owner_node": "HV02"},
         {"vm_id": None, "role": "Virtual Machine two", "group": "two", "owner_node": "hv03.example.test"}]


def test_a_machine_that_is_gone_keeps_its_name() -> None:
    entries = backup_entries(FIRST, PLAN)
    assert [(entry["vm"], entry["error_code"]) for entry in entries] == [(VMS[0], "vm_not_found"), (VMS[1], "vm_not_found"), (VMS[2], None)]


def test_those_that_moved_are_tried_at_their_owners() -> None:
    moved = backup_moved(backup_entries(FIRST, PLAN), PLAN, roles=ROLES, hosts={"node2": "HV02", "node1": "HV01"})
    assert moved == {
        "tasks": [{"policy": "gold", "method": "vss_copy", "options": {"destination": "E:\\B"}, "names": [ONE], "vms": [VMS[0]],
                   "hooks": {}, "owner": "node2", "number": 0}],
        "elsewhere": {TWO: "hv03"}}
    entries = backup_entries(FIRST, PLAN, moved=moved, again=[{"results": [done(ONE, "one")]}])
    assert [(entry["failed"], entry["owner"], entry["folder"]) for entry in entries] == [
        (False, "node2", "E:\\B\\HV02\\one"), (True, None, None), (False, None, "E:\\B\\HV02\\three")]
    assert entries[1]["hint"] == "It moved to the node hv03, which is no host of this play."


@pytest.mark.parametrize("roles", [
    [], [{"vm_id": None, "role": "Virtual Machine one", "group": "a", "owner_node": "HV02"},
         {"vm_id": None, "role": "b", "group": "One", "owner_node": "HV03"}],
    [{"vm_id": ONE, "role": "x", "group": "x", "owner_node": None}]], ids=["no roles", "two of the name", "no owner"])
def test_where_nobody_can_tell_nothing_is_tried(roles: list[dict[str, Any]]) -> None:
    moved = backup_moved(backup_entries(FIRST, PLAN), PLAN, roles=roles, hosts={"node2": "HV02"})
    assert (moved["tasks"], moved["elsewhere"].get(ONE)) == ([], None)


def test_a_task_that_the_blackout_kept_from_beginning() -> None:
    entries = backup_entries([{"skipped": True, "changed": False}], PLAN)
    assert {(entry["failed"], entry["error_code"]) for entry in entries} == {(True, "blackout")}


def test_a_failure_of_the_second_try_is_the_entry() -> None:
    moved = backup_moved(backup_entries(FIRST, PLAN), PLAN, roles=ROLES, hosts={"node2": "HV02"})
    entries = backup_entries(FIRST, PLAN, moved=moved, again=[{"unreachable": True, "msg": "away", "error_code": "unreachable"}])
    assert (entries[0]["error_code"], entries[0]["owner"], entries[0]["vm"]) == ("unreachable", "node2", VMS[0])


def test_a_slice_tells_names_that_others_may_have() -> None:
    entries = ["one", "elsewhere"]
    failing = backup_plan(VMS[:1], entries, defaults={"destination": "E:\\B"})
    telling = backup_plan(VMS[:1], entries, defaults={"destination": "E:\\B"}, missing="tell")
    assert [task["names"] for task in failing["tasks"]] == [[ONE, "elsewhere"]]
    assert [task["names"] for task in telling["tasks"]] == [[ONE]]
    assert failing["missing"] == telling["missing"] == ["elsewhere"]


def test_hours() -> None:
    hours = [{"from": "08:00", "to": "18:00"}]
    noon, night = (datetime(2026, 3, 4, hour, tzinfo=UTC) for hour in (12, 20))
    assert backup_blackout(hours, noon) == {"problem": "", "active": True, "until": "2026-03-04T18:00:00Z", "seconds": None}
    assert backup_blackout(hours, night.replace(tzinfo=None)) == {"problem": "", "active": False, "until": "", "seconds": 12 * 3600}
    assert backup_blackout(hours, noon, "Europe/Nowhere")["problem"].startswith("timezone 'Europe/Nowhere' is not known")
    assert backup_blackout([], noon) == {"problem": "", "active": False, "until": "", "seconds": None}
    with pytest.raises(AnsibleFilterError):
        backup_blackout(hours, "12:00")
    with pytest.raises(AnsibleFilterError):
        backup_moved("x", PLAN)
