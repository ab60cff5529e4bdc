# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_protection_info`` against a simulated host: what a copy left at a destination, and what the host has beside it."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.agentless.hyperv.plugins.modules import hyperv_protection_info as info
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_vss_copy as copy
from simulator.hyperv.spec import GIB, CheckpointSpec, VmSpec
from simulator.windows.spec import VolumeSpec

VOLUMES = (VolumeSpec("C:", free=60 * GIB), VolumeSpec("D:", free=60 * GIB), VolumeSpec("E:", free=90 * GIB))


def test_copies_of_a_host_with_all_beside_them(start: Callable[..., Any]) -> None:
    old = CheckpointSpec("c", "before the patch", age_hours=100.0)
    runner = start(volumes=VOLUMES, vms=(VmSpec(name="sql01", folder="D:\\VMs\\sql01"),
                                         VmSpec(name="web01", folder="D:\\VMs\\web01", checkpoints=(old,))))
    made = runner.run(copy, name="sql01", destination="E:\\Backup", run_id="night-1")
    runner.run(copy, name="web01", destination="E:\\Backup", run_id="night-1", verify="none")
    before = runner.running.host.counters.snapshot()
    changes = runner.running.host.changes
    told = runner.run(info, destinations=[{"path": "E:/Backup"}, {"path": "E:\\Empty"}, {"path": "Q:\\Gone"}, {"path": "E:\\"}])
    assert runner.running.host.counters.since(before).requests <= 36
    assert runner.running.host.changes == changes
    assert told["changed"] is False
    manifest = made["manifest"]
    good, other = sorted(told["copies"], key=lambda one: one["vm_name"])
    assert good == {
        "vm_id": made["vm"]["vm_id"], "vm_name": "sql01", "host": "HV01", "kind": "vss_copy", "method": "vss", "destination": "E:\\Backup",
        "folder": manifest["folder"], "run_id": "night-1", "taken": manifest["taken"], "completed": good["completed"],
        "requested": "crash", "achieved": "crash", "verified": "size", "standing": "verified", "size": manifest["size"]}
    assert (other["vm_name"], other["standing"]) == ("web01", "unverified")
    assert [(place["read"], place["error_code"]) for place in told["destinations"]] == [
        (True, None), (True, None), (False, "destination_not_local"), (False, "invalid_destination")]
    assert told["destinations"][0]["free"] > 0
    machines = {vm["name"]: vm for vm in told["vms"]}
    assert [(vm["checkpoints"], [one["code"] for one in vm["findings"]]) for vm in (machines["sql01"], machines["web01"])] == [
        (0, []), (1, ["old"])]
    assert told["shadow_copies"] == []
    assert told["host"]["name"] == "HV01"


def test_a_copy_without_one_of_its_files_is_incomplete(start: Callable[..., Any]) -> None:
    runner = start(volumes=VOLUMES, vms=(VmSpec(name="sql01", folder="D:\\VMs\\sql01"),))
    made = runner.run(copy, name="sql01", destination="E:\\Backup")
    with runner.fleet.locked():
        runner.running.host.files.real_path(f"{made['manifest']['folder']}\\{made['manifest']['files'][0]['path']}").unlink()
    (found,) = runner.run(info, destinations=[{"path": "E:\\Backup"}])["copies"]
    assert found["standing"] == "incomplete"
