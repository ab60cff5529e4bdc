# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_checkpoint_info`` against a simulated host."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_checkpoint_info
from simulator.disks.vhdx import Vhdx
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, HyperVSettings, VmSpec
from simulator.spec import ClusterSpec
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"))
CHECKPOINT = "0A1B2C3D-0000-4000-8000-000000000001"
MARK = f"[agentless.hyperv checkpoint={CHECKPOINT} run=patch-1 kind=production_only achieved=application expires=2020-01-01T00:00:00Z]"


def tree() -> VmSpec:
    return VmSpec("sql01", folder="D:\\VMs\\sql01", checkpoints=(
        CheckpointSpec("a", "before", age_hours=100, checkpoint_id=CHECKPOINT, notes=f"two\nlines\n{MARK}"),
        CheckpointSpec("b", "with memory", kind="standard", parent="a", age_hours=5, notes=MARK),
        CheckpointSpec("c", "other branch", parent="a", age_hours=4)), current_parent="b")


def backup() -> VmSpec:
    return VmSpec("web01", folder="D:\\VMs\\web01", policy="disabled", checkpoints=(
        CheckpointSpec("r", kind="recovery", age_hours=30), CheckpointSpec("m", "lost", kind="missing", parent="r"),
        CheckpointSpec("x", "by itself", automatic=True, parent="r"), CheckpointSpec("p", "point", kind="replica", parent="r")))


def codes(machine: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in machine["findings"]]


def test_the_tree_of_one_machine_and_whose_its_checkpoints_are(start: Start) -> None:
    result = start(volumes=VOLUMES, vms=(tree(),)).run(hyperv_checkpoint_info, name="SQL01")
    before, memory, other = result["checkpoints"]
    assert (result["changed"], result["depth"], result["parent_of_current"], result["policy"]) == (False, 2, memory["id"], "production")
    assert {key: before[key] for key in ("id", "kind", "type", "owner", "run_id", "consistency", "expired", "notes", "depth", "parent_id",
                                         "is_parent_of_current", "bytes", "suspect")} == {
        "id": CHECKPOINT, "kind": "production", "type": "user", "owner": "ours", "run_id": "patch-1", "consistency": "application",
        "expired": True, "notes": "two\nlines", "depth": 1, "parent_id": None, "is_parent_of_current": False, "bytes": None,
        "suspect": False}
    assert before["children"] == [memory["id"], other["id"]]
    assert (memory["kind"], memory["owner"], memory["notes"], memory["consistency"]) == ("standard", "user", None, "image")
    assert (memory["is_parent_of_current"], other["is_parent_of_current"], other["depth"]) == (True, False, 2)
    assert codes(result) == ["old", "expired"]


def test_other_products_and_what_is_wrong(start: Start) -> None:
    vms = (backup(), VmSpec("orphan", disks=(DiskSpec("D:\\VMs\\orphan\\a.vhdx", orphans=1),)), VmSpec("plain", folder="D:\\VMs\\plain"))
    result = start(volumes=VOLUMES, vms=vms).run(hyperv_checkpoint_info, names=["all"], max_depth=2)
    found = {machine["vm"]["name"]: machine for machine in result["results"]}
    assert [one["owner"] for one in found["web01"]["checkpoints"]] == ["product", "user", "automatic", "replica"]
    assert codes(found["web01"]) == ["deep", "policy_disabled", "abandoned_backup", "missing_files", "automatic"]
    assert codes(found["orphan"]) == ["orphan_chain", "location_on_system_drive"]
    assert found["plain"]["checkpoints"] == []
    assert codes(found["plain"]) == []
    assert result["counts"] == {"ours": 0, "user": 1, "product": 1, "replica": 1, "automatic": 1, "suspect": 0, "expired": 0, "findings": 7}


def test_sizes_and_chains(start: Start) -> None:
    result = start(volumes=VOLUMES, vms=(tree(),)).run(hyperv_checkpoint_info, name="sql01", gather=["sizes", "chains"])
    before, memory, other = result["checkpoints"]
    grown = [one["bytes"] - one["system_bytes"] for one in (before, memory, other)]
    assert grown[0] > grown[1] > grown[2] == 0
    disk = result["disks"][0]
    assert [link["kind"] for link in disk["chain"]] == ["differencing", "differencing", "dynamic"]
    assert [link["path"] for link in disk["chain"]][1:] == [memory["files"][0], before["files"][0]]
    assert disk["chain_problem"] is None


def test_a_chain_whose_base_is_gone(start: Start) -> None:
    machine = VmSpec("sql01", folder="D:\\VMs\\sql01", disks=(DiskSpec("D:\\VMs\\sql01\\a.vhdx", exists=False),), state="off",
                     checkpoints=(CheckpointSpec("a"),))
    result = start(volumes=VOLUMES, vms=(machine,)).run(hyperv_checkpoint_info, name="sql01", gather=["chains", "sizes"])
    assert codes(result) == ["chain_broken"]
    assert result["disks"][0]["chain_problem"].endswith("does not exist (code 32779).")


def test_an_unknown_machine_is_an_error_and_in_a_list_it_is_named(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(tree(),))
    with pytest.raises(HypervError) as caught:
        runner.run(hyperv_checkpoint_info, name="nobody")
    assert caught.value.error_code == "vm_not_found"
    assert runner.run(hyperv_checkpoint_info, names=["sql01", "nobody"])["missing"] == ["nobody"]


@pytest.mark.parametrize("count", [1, 30])
def test_the_whole_host_costs_six_requests_and_a_chain_one_for_each_file(start: Start, count: int) -> None:
    vms = tuple(VmSpec(f"vm{number}", folder=f"D:\\VMs\\vm{number}", checkpoints=tuple(
        CheckpointSpec(f"k{level}", parent=f"k{level - 1}" if level else None) for level in range(5))) for number in range(count))
    runner = start(volumes=VOLUMES, vms=vms)

    def cost(**params: Any) -> dict[str, int]:
        with runner.fleet.locked():
            before = runner.running.host.counters.snapshot()
        runner.run(hyperv_checkpoint_info, **params)
        with runner.fleet.locked():
            used = dict(runner.running.host.counters.since(before).by_operation)
        used.pop("Pull", None)
        return used

    assert sum(cost().values()) == 6
    used = cost(name="vm0", gather=["chains"])
    assert used["Invoke Msvm_ImageManagementService.GetVirtualHardDiskSettingData"] == 6
    assert sum(used.values()) == 12


# -- what costs more (operations 2.7) ----------------------------------------------------------------------------------


def findings(result: dict[str, Any]) -> dict[str, str]:
    return {finding["code"]: finding["text"] for finding in result["findings"]}


def test_a_folder_for_checkpoints_that_is_gone(start: Start) -> None:
    vms = (VmSpec("web01", folder="D:\\VMs\\web01", snapshot_folder="E:\\gone"), VmSpec("db", folder="D:\\VMs\\db"))
    result = start(volumes=VOLUMES, vms=vms).run(hyperv_checkpoint_info, names=["all"], gather=["locations"])
    assert {machine["vm"]["name"]: codes(machine) for machine in result["results"]} == {"web01": ["location_missing"], "db": []}


def test_a_clustered_machine_that_keeps_checkpoints_off_the_shared_volumes(start: Start) -> None:
    vms = tuple(VmSpec(name, clustered=clustered, folder=f"C:\\ClusterStorage\\Volume1\\{name}", snapshot_folder=root,
                       disks=(DiskSpec(f"C:\\ClusterStorage\\Volume1\\{name}\\a.vhdx"),))
                for name, clustered, root in (("off", True, "D:\\VMs"), ("on", True, "C:\\ClusterStorage\\Volume1\\on"),
                                              ("alone", False, "D:\\VMs")))
    volumes = (*VOLUMES, VolumeSpec("C:\\ClusterStorage\\Volume1", filesystem="CSVFS"))
    runner = start(volumes=volumes, vms=vms, cluster=ClusterSpec("HVCLUSTER", ("HV01", "HV02")))
    result = runner.run(hyperv_checkpoint_info, names=["all"], gather=["locations"])
    assert {machine["vm"]["name"]: [code for code in codes(machine) if code != "location_missing"] for machine in result["results"]} == {
        "off": ["location_off_cluster"], "on": [], "alone": []}


def test_files_that_no_chain_needs(start: Start) -> None:
    neighbour = VmSpec("web01", disks=(DiskSpec("D:\\VMs\\sql01\\Virtual Hard Disks\\web.vhdx", orphans=1),))
    runner = start(volumes=VOLUMES, vms=(tree(), neighbour))
    host = runner.running.host
    for machine in host.hyperv.machines.values():
        host.hyperv.disks.materialise_machine(machine)
    disk = next(one for one in host.hyperv.machines.values() if one.name == "sql01").disks[0]
    folder = disk.leaf.path.rpartition("\\")[0]
    strays = [f"{folder}\\{name}" for name in ("old-AutoRecovery.avhdx", "old.vhdx.rct", "old.vhdx.mrt")]
    for path in (*strays, f"{disk.base.path}.rct", f"{disk.leaf.path}.mrt", f"{folder}\\old.vhdx", f"{folder}\\notes.txt"):
        host.files.write_file(path, b"x")
    before = host.changes
    result = runner.run(hyperv_checkpoint_info, name="sql01", gather=["strays"])
    assert [path.lower() for path in result["stray_files"]] == sorted(path.lower() for path in strays)
    assert codes(result) == ["stray_files", "old", "expired"]
    assert "needs 3 files" in findings(result)["stray_files"]
    assert host.changes == before


def test_a_folder_with_a_chain_that_cannot_be_followed_has_no_strays_that_anybody_could_prove(start: Start) -> None:
    machine = VmSpec("sql01", folder="D:\\VMs\\sql01", disks=(DiskSpec("D:\\VMs\\sql01\\a.vhdx", exists=False),), state="off",
                     checkpoints=(CheckpointSpec("a"),))
    runner = start(volumes=VOLUMES, vms=(machine,))
    runner.running.host.files.write_file("D:\\VMs\\sql01\\old.avhdx", b"x")
    assert runner.run(hyperv_checkpoint_info, name="sql01", gather=["strays"])["stray_files"] == []


def test_a_parent_that_was_changed_after_the_checkpoint(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(tree(),))
    host = runner.running.host
    machine = next(iter(host.hyperv.machines.values()))
    assert codes(runner.run(hyperv_checkpoint_info, name="sql01", gather=["validity"])) == ["old", "expired"]
    host.hyperv.disks.materialise_machine(machine)
    base = machine.disks[0].base
    with Vhdx.open(host.files.real_path(base.path)) as disk:
        disk.write(0, b"somebody mounted it")
    result = runner.run(hyperv_checkpoint_info, name="sql01", gather=["validity", "chains"])
    assert codes(result) == ["chain_invalid", "old", "expired"]
    assert "0xC03A000E" in findings(result)["chain_invalid"] or "mismatch" in findings(result)["chain_invalid"]


def test_a_chain_that_is_in_use_cannot_be_checked_and_is_no_finding(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(tree(),), hyperv=HyperVSettings(shared_disks_locked=True))
    assert codes(runner.run(hyperv_checkpoint_info, name="sql01", gather=["validity"])) == ["old", "expired"]


def test_memory_and_configuration_are_part_of_the_size(start: Start) -> None:
    vm = VmSpec("sql01", folder="D:\\VMs\\sql01", memory_mb=64, checkpoints=(
        CheckpointSpec("a", "quiesced"), CheckpointSpec("b", "with memory", kind="standard", parent="a")))
    result = start(volumes=VOLUMES, vms=(vm,)).run(hyperv_checkpoint_info, name="sql01", gather=["sizes"], max_bytes=1)
    memory, quiesced = sorted(result["checkpoints"], key=lambda one: not one["saved_state"])
    assert memory["system_bytes"] > quiesced["system_bytes"] > 0
    assert memory["bytes"] > memory["system_bytes"]
    assert result["differencing_bytes"] == sum(one["bytes"] - one["system_bytes"] for one in result["checkpoints"]) > 1
    assert codes(result) == ["large"]
