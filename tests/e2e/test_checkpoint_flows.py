# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped playbooks for checkpoints, run as a user runs them: the patch flow, and the clean-up."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import host, vm, winrm
from controller import CHECKOUT, Controller, commands
from simulator.fleet import Fleet
from simulator.hyperv.checkpoints import Wish
from simulator.hyperv.spec import CheckpointSpec

StartFleet = Callable[..., Fleet]
PATCH = CHECKOUT / "playbooks" / "patch_flow.yml"
CLEANUP = CHECKOUT / "playbooks" / "checkpoint_cleanup.yml"
GUID = "0A1B2C3D-0000-4000-8000-000000000001"
THEIRS = "0A1B2C3D-0000-4000-8000-000000000003"
EXPIRED = f"[agentless.hyperv checkpoint={GUID} run=old-1 kind=production_only achieved=application expires=2020-01-01T00:00:00Z]"
FAST = 40.0


def machine(fleet: Fleet, name: str) -> Any:
    return next(one for one in fleet.hosts["HV01"].host.hyperv.machines.values() if one.name == name)


def names(fleet: Fleet, name: str) -> list[str]:
    with fleet.locked():
        return [one.name for one in machine(fleet, name).checkpoints.values()]


@pytest.fixture()
def patch(tmp_path: Path) -> Path:
    """Tasks that patch one machine; the one called bad cannot be patched."""
    path = tmp_path / "patch.yml"
    path.write_text(yaml.safe_dump([{
        "name": "Patch", "ansible.builtin.assert": {"that": "patch_flow_vm != bad | default('')"}, "delegate_to": "localhost",
        "vars": {"ansible_connection": "local"}}]), encoding="utf-8")
    return path


@pytest.mark.every_core
def test_patch_flow(start_fleet: StartFleet, controller: Controller, patch: Path) -> None:
    fleet = start_fleet(host("HV01", vm("web01", policy="standard"), vm("sql01")), speed=FAST)
    with fleet.locked():
        by_id = machine(fleet, "sql01").id
    inventory = controller.inventory(winrm(fleet), {"patch_flow_vms": ["web01", by_id], "patch_flow_tasks": str(patch)})
    run = controller.play(PATCH, inventory, "-e", f"bad={by_id}")
    assert run.code == 2, run.output
    assert names(fleet, "web01") == []
    reverted = names(fleet, "sql01")
    assert (reverted[0], reverted[1].startswith("failed patch 2"), len(reverted)) == ("before-patch", True, 2)
    with fleet.locked():
        assert machine(fleet, "sql01").current_parent.name == "before-patch"
        assert (machine(fleet, "sql01").state, machine(fleet, "web01").policy) == ("running", 5)
    again = controller.play(PATCH, inventory)
    assert again.code == 0, again.output
    assert (names(fleet, "web01"), len(names(fleet, "sql01"))) == ([], 1)
    with fleet.locked():
        fleet.hosts["HV01"].host.hyperv.checkpoints.create(machine(fleet, "web01"), Wish("production", "before-patch", notes=EXPIRED), GUID)
    old = controller.play(PATCH, inventory)
    assert (old.code, "of an earlier patch" in old.output, names(fleet, "web01")) == (2, True, ["before-patch"])


def test_clean_up(start_fleet: StartFleet, controller: Controller) -> None:
    taken = (CheckpointSpec("a", "old", checkpoint_id=GUID, notes=EXPIRED), CheckpointSpec("b", "by {{ 1 + 1 }} hand", parent="a"),
             CheckpointSpec("c", "theirs", kind="recovery", parent="b", age_hours=50, checkpoint_id=THEIRS))
    fleet = start_fleet(host("HV01", vm("web01", checkpoints=taken)), speed=FAST)
    inventory = controller.inventory(winrm(fleet))
    auditing, checking, remove = commands(CHECKOUT / "roles" / "checkpoint_cleanup" / "README.md")
    audit = controller.play(CLEANUP, inventory, *auditing)
    assert audit.code == 0, audit.output
    assert "abandoned_backup" in audit.output
    check = controller.play(CLEANUP, inventory, *checking)
    assert (check.code, "old would be removed" in check.output) == (0, True), check.output
    assert len(names(fleet, "web01")) == 3
    done = controller.play(CLEANUP, inventory, *remove)
    assert (done.code, "old removed" in done.output) == (0, True), done.output
    assert names(fleet, "web01") == ["by {{ 1 + 1 }} hand", "theirs"]
    again = controller.play(CLEANUP, inventory, *remove, "-e", "checkpoint_cleanup_older_than=1h", "-e", "checkpoint_cleanup_keep_last=0")
    assert again.code == 0, again.output
    assert names(fleet, "web01") == ["by {{ 1 + 1 }} hand", "theirs"]
    named = controller.play(CLEANUP, inventory, *remove, "-e", f'{{"checkpoint_cleanup_ids": [{{"vm": "web01", "id": "{THEIRS}"}}]}}')
    assert named.code == 0, named.output
    assert names(fleet, "web01") == ["by {{ 1 + 1 }} hand"]
