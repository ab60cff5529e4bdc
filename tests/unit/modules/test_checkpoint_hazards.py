# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with checkpoints on real hosts, by name, and what the modules make of it."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_checkpoint, hyperv_checkpoint_info, hyperv_checkpoint_revert
from simulator.disks.guest import Guest
from simulator.disks.proof import inspect
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, VmSpec
from simulator.soap import rules
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
VM = "0A1B2C3D-0000-4000-8000-00000000ABCD"
MIB = 1024**2


def guid(number: int) -> str:
    return f"0A1B2C3D-0000-4000-8000-{number:012d}"


def ours(key: str, number: int, **values: Any) -> CheckpointSpec:
    mark = f"[agentless.hyperv checkpoint={guid(number)} run=old-1 kind=production_only achieved=application]"
    return CheckpointSpec(key, **{"name": key, "checkpoint_id": guid(number), "notes": mark, **values})


def runner_of(start: Start, *checkpoints: CheckpointSpec, volumes: tuple[VolumeSpec, ...] = (), **values: Any) -> Any:
    vm = VmSpec(**{"name": "web01", "vm_id": VM, "folder": "D:\\VMs\\web01", "checkpoints": checkpoints, **values})
    return start(volumes=volumes or (VolumeSpec("C:"), VolumeSpec("D:")), vms=(vm,))


def machine(runner: Any) -> Any:
    return runner.running.host.hyperv.machines[VM]


def names(runner: Any) -> list[str]:
    return [one.name for one in machine(runner).checkpoints.values()]


def chain(runner: Any) -> int:
    return len(list(machine(runner).disks[0].leaf.chain()))


def consistent_until(runner: Any) -> int:
    """The last write that the machine's chain holds, every one up to it whole."""
    host = runner.running.host
    real = [host.files.real_path(link.path) for link in machine(runner).disks[0].leaf.chain()]
    proof = inspect(real[0], real[1:])
    assert proof.consistent
    assert proof.last is not None
    return proof.last


def writing_guest(runner: Any) -> Guest:
    role = runner.running.host.hyperv
    paths = [role.disk_path(machine(runner), disk.index) for disk in machine(runner).disks]
    guest = Guest(paths, "guest", parent_resolver=role.disks.find_parent)
    role.guests[VM] = guest
    return guest


def test_the_disk_is_full_in_a_merge_and_the_same_task_goes_on_when_there_is_room(start: Start) -> None:
    runner = runner_of(start, volumes=(VolumeSpec("C:"), VolumeSpec("D:", size=1024 * MIB, free=300 * MIB)))
    guest = writing_guest(runner)
    guest.write_some(5)
    runner.run(hyperv_checkpoint, name="web01", checkpoint_name="a")
    guest.write_some(40)
    host = runner.running.host
    volume = host.files.volume_of("D:\\")
    filler = host.files.resolve("D:\\filler.bin").real

    def fill() -> None:
        with filler.open("ab") as out:
            out.truncate(out.tell() + volume.free_bytes)

    host.clock.call_later(3, fill)  # before the merge begins
    full = runner.run(hyperv_checkpoint, name="web01", checkpoint_name="a", state="absent", merge_timeout=120)
    assert (full["failed"], full["error_code"], full["hresult"], full["merged"]) == (True, "merge_not_done", "0x80070070", False)
    assert (names(runner), chain(runner) > 1, consistent_until(runner)) == ([], True, 45)
    filler.unlink()
    host.clock.advance(400)
    done = runner.run(hyperv_checkpoint, name="web01", checkpoint_name="a", state="absent", merge_timeout=900)
    assert (done["changed"], done["merged"], "failed" in done) == (False, True, False)
    assert (chain(runner), consistent_until(runner)) == (1, 45)


def test_a_merge_that_never_starts_is_found_by_the_next_task_and_by_the_audit(start: Start) -> None:
    runner = runner_of(start, ours("a", 1))
    runner.running.host.hyperv.knobs.merge_never_starts.add(VM)
    result = runner.run(hyperv_checkpoint, name="web01", checkpoint_name="a", state="absent", merge_timeout=60)
    assert (result["error_code"], result["merged"], result["removed"][0]["name"]) == ("merge_not_done", False, "a")
    info = runner.run(hyperv_checkpoint_info, name="web01")
    assert [finding["code"] for finding in info["findings"]] == ["orphan_chain"]


def test_the_checkpoint_is_removed_by_somebody_before_it_has_its_name(start: Start) -> None:
    runner = runner_of(start)
    host = runner.running.host

    def remove_it(view: Any) -> bool:
        if "ElementName" in view.document and machine(runner).checkpoints:
            host.hyperv.checkpoints.destroy(machine(runner), list(machine(runner).checkpoints.values()))
        return False

    host.rules.add(rules.lost_before(), "Invoke *.ModifySystemSettings", when=remove_it)
    result = runner.run(hyperv_checkpoint, name="web01", checkpoint_name="new")
    assert (result["error_code"], result["leftovers"], result["consistency"]["achieved"]) == ("checkpoint_vanished", [], None)
    assert (names(runner), machine(runner).policy) == ([], 3)
    host.rules.clear()  # by now the host merges what is left, and the next run waits for that
    assert runner.run(hyperv_checkpoint, name="web01", checkpoint_name="new")["checkpoint"]["owner"] == "ours"


def test_the_checkpoint_is_removed_by_somebody_before_the_machine_goes_back(start: Start) -> None:
    runner = runner_of(start, ours("good", 1), state="off")
    host = runner.running.host
    host.clock.call_later(2, lambda: host.hyperv.checkpoints.destroy(machine(runner), [machine(runner).checkpoints[guid(1)]]))
    host.hyperv.knobs.job_seconds[70] = 10.0
    result = runner.run(hyperv_checkpoint_revert, name="web01", checkpoint_name="good")
    assert (result["failed"], machine(runner).last_applied) == (True, None)


def test_two_of_ours_by_one_name(start: Start) -> None:
    runner = runner_of(start, ours("a", 1, name="twice"), ours("b", 2, name="Twice", parent="a"))
    for module, params in ((hyperv_checkpoint, {}), (hyperv_checkpoint, {"state": "absent"}), (hyperv_checkpoint_revert, {"force": True})):
        with pytest.raises(HypervError) as caught:
            runner.run(module, name="web01", checkpoint_name="twice", **params)
        assert (caught.value.error_code, caught.value.details["candidates"]) == ("checkpoint_not_unique", [guid(1), guid(2)])
    assert runner.running.host.changes == 0


@pytest.mark.parametrize(("module", "params"), [
    (hyperv_checkpoint, {"state": "absent", "checkpoint_name": "a"}),
    (hyperv_checkpoint, {"state": "absent", "checkpoint_name": "a", "wait_for_merge": False}),
    (hyperv_checkpoint_revert, {"checkpoint_name": "a", "checkpoint_before": False}),
])
def test_the_machine_moves_to_another_node_meanwhile(start: Start, module: Any, params: dict[str, Any]) -> None:
    runner = runner_of(start, ours("a", 1), state="off")
    host, moved = runner.running.host, machine(runner)
    host.clock.call_later(1, lambda: host.hyperv.machines.pop(VM))
    result = runner.run(module, name="web01", **params)
    assert (result["failed"], list(moved.checkpoints), moved.last_applied) == (True, [guid(1)], None)
    with pytest.raises(HypervError) as caught:
        runner.run(module, name="web01", **params)
    assert caught.value.error_code == "vm_not_found"


def test_checkpoints_on_the_system_drive_are_told_before_one_is_made(start: Start) -> None:
    runner = runner_of(start, snapshot_folder="C:\\Snapshots")
    runner.running.host.files.create_directory("C:\\Snapshots")
    assert runner.run(hyperv_checkpoint, name="web01", checkpoint_name="new", check=True)["changed"]
    assert any("system drive" in warning for warning in runner.told.warnings)


def test_each_volume_of_the_disks_needs_room(start: Start) -> None:
    full = VolumeSpec("E:", free=3 * 1024**3)
    runner = runner_of(start, volumes=(VolumeSpec("C:"), VolumeSpec("D:"), full),
                       disks=(DiskSpec("D:\\VMs\\web01\\a.vhdx"), DiskSpec("E:\\VMs\\web01\\b.vhdx")))
    with pytest.raises(HypervError) as caught:
        runner.run(hyperv_checkpoint, name="web01", checkpoint_name="new")
    assert (caught.value.error_code, "E:\\" in caught.value.message, runner.running.host.changes) == ("little_free_space", True, 0)


def test_never_more_than_one_merge_on_a_host(start: Start) -> None:
    vms = tuple(VmSpec(name, folder=f"D:\\VMs\\{name}", checkpoints=(ours("a", 2 * at + 1), ours("b", 2 * at + 2, parent="a")))
                for at, name in enumerate(("one", "two", "three")))
    runner = start(volumes=(VolumeSpec("C:"), VolumeSpec("D:")), vms=vms)
    host = runner.running.host
    most = 0

    def count(_view: Any) -> bool:
        nonlocal most
        most = max(most, sum(1 for one in host.hyperv.machines.values() if one.busy == "merging"))
        return False

    host.rules.add(rules.lost_before(), when=count)
    result = runner.run(hyperv_checkpoint, names=["all"], state="absent", pattern="*")
    assert [(len(entry["removed"]), entry["merged"]) for entry in result["results"]] == [(2, True)] * 3
    assert most == 1
