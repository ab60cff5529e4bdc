# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing checkpoints: the tree at once, the files later; merges that take time and room, wait, and are interrupted."""
from __future__ import annotations

import pytest
from simulator.cim.model import Ref
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, VmSpec
from simulator.windows.spec import VolumeSpec
from unit.simulator.hyperv.bench import V2, MakeBench
from unit.simulator.hyperv.checkpoint_bench import GUID, MakePatient, Patient, settings_ref

MIB = 1024 * 1024
BASE = "D:\\VMs\\web01\\Virtual Hard Disks\\web01.vhdx"


def three(vm: Patient, writes: int = 10) -> list[str]:
    """Three checkpoints in a row, the guest writing before, between and after them."""
    guest = vm.guest()
    made = []
    for _unused in range(3):
        guest.write_some(writes)
        made.append(vm.checkpoint())
    guest.write_some(writes)
    return made


def merge_settings(vm: Patient, state: int) -> int:
    text = (f'<INSTANCE CLASSNAME="Msvm_DiskMergeSettingData"><PROPERTY NAME="InstanceID" TYPE="string"><VALUE>Microsoft:{GUID}</VALUE>'
            f'</PROPERTY><PROPERTY NAME="EnabledState" TYPE="uint32"><VALUE>{state}</VALUE></PROPERTY></INSTANCE>')
    answer = vm.host.call("Msvm_VirtualSystemManagementService", "ModifyDiskMergeSettings", {"SettingData": text})
    vm.host.clock.advance(1)
    assert isinstance(answer["ReturnValue"], int)
    return answer["ReturnValue"]


def validated(vm: Patient) -> tuple[object, object]:
    """ValidateVirtualHardDisk of the leaf."""
    answer = vm.host.call("Msvm_ImageManagementService", "ValidateVirtualHardDisk", {"Path": vm.leaf_of(GUID)[0]})
    vm.host.clock.advance(3)
    job = answer["Job"]
    assert isinstance(job, Ref)
    row = vm.host.row("Msvm_StorageJob", InstanceID=job.keys["InstanceID"])
    return row["JobState"], row["ErrorCode"]


def test_the_job_ends_before_the_merge_begins_and_the_chain_is_short_only_at_its_end(patient: MakePatient) -> None:
    vm = patient()
    first, second, third = three(vm)
    assert (vm.depth(), len(vm.avhdx())) == (4, 3)
    vm.destroy(second)
    assert (list(vm.machine.checkpoints), vm.jobs(50), vm.status(), vm.depth()) == ([first, third], [], [2], 4)
    assert str(vm.row(third)["Parent"]).endswith(f'"Microsoft:{first}"')
    vm.host.clock.advance(3)
    assert (len(vm.jobs(50)), vm.status(), vm.depth()) == (1, [2, 32772], 4)
    seen = []
    while vm.jobs(50):
        seen.append((vm.jobs(50)[0]["PercentComplete"], vm.depth()))
        assert vm.proof().holds_until(40)
        vm.host.clock.advance(2)
    assert [depth for _unused, depth in seen] == [4] * len(seen)
    assert [percent for percent, _unused in seen] == sorted(range(0, 100, 10))
    assert (vm.depth(), len(vm.avhdx()), vm.status()) == (3, 2, [2])
    assert vm.proof().holds_until(40)
    files = vm.machine.checkpoints
    assert vm.proof(files[first].files[0]).holds_until(10)
    assert vm.proof(files[third].files[0]).holds_until(30)
    assert validated(vm) == (7, 0)


@pytest.mark.parametrize("state", ["running", "off"])
def test_removing_all_of_them_leaves_one_file_with_every_write(patient: MakePatient, state: str) -> None:
    vm = patient()
    made = three(vm)
    if state == "off":
        vm.power(3)
    for checkpoint in made:
        vm.destroy(checkpoint)
        vm.merged()
    assert (vm.leaf_of(GUID), vm.avhdx(), vm.machine.checkpoints) == ([BASE], [], {})
    assert vm.proof().holds_until(40)
    assert vm.row(GUID)["Parent"] is None
    assert vm.host.rows("Msvm_MostCurrentSnapshotInBranch") == []
    leftover = vm.host.files.resolve("D:\\VMs\\web01\\Snapshots")
    assert list(vm.host.files.children(leftover)) == []


def test_the_leaf_of_a_running_machine_is_merged_while_the_guest_writes_elsewhere(patient: MakePatient) -> None:
    vm = patient()
    guest = vm.guest()
    guest.write_some(10)
    checkpoint = vm.checkpoint()
    guest.run(vm.host.clock, 5.0)
    vm.host.clock.advance(20)
    vm.destroy(checkpoint)
    vm.until(lambda: bool(vm.jobs(50)), 30)
    assert (vm.depth(), len(vm.avhdx())) == (3, 2)  # one more than before
    while vm.jobs(50):
        vm.host.clock.advance(1)
        assert vm.proof().consistent
    assert (vm.leaf_of(GUID), vm.avhdx(), vm.depth()) == ([BASE], [], 1)
    vm.host.clock.advance(5)
    guest.stop()
    assert guest.sequence > 150
    assert vm.proof().holds_until(guest.sequence)


def test_a_file_with_several_children_waits_for_the_last(patient: MakePatient) -> None:
    vm = patient()
    first, second, third = three(vm)
    vm.power(3)
    vm.apply(second)  # now two files hang on that of the second: the third's and the machine's
    vm.destroy(second)
    vm.merged()
    assert vm.depth() == 3
    vm.destroy(third)
    vm.merged()
    assert (vm.depth(), len(vm.avhdx()), vm.proof().holds_until(20)) == (2, 1, True)
    vm.destroy(first)
    vm.merged()
    assert (vm.depth(), vm.avhdx(), vm.proof().holds_until(20)) == (1, [], True)


def test_a_subtree(patient: MakePatient) -> None:
    vm = patient()
    first, second, third = three(vm)
    vm.power(3)
    vm.apply(first)
    branch = vm.checkpoint()
    vm.finished(vm.ask("DestroySnapshotTree", SnapshotSettingData=settings_ref(second)))
    assert list(vm.machine.checkpoints) == [first, branch]
    assert third not in vm.machine.checkpoints
    vm.merged()
    assert (vm.depth(), len(vm.avhdx())) == (3, 2)
    vm.finished(vm.ask("DestroySnapshotTree", SnapshotSettingData=settings_ref(first)))
    assert (vm.machine.checkpoints, vm.row(GUID)["Parent"]) == ({}, None)
    vm.merged()
    assert (vm.depth(), vm.avhdx(), vm.proof().holds_until(10)) == (1, [], True)


def test_dependents_may_go_with_a_checkpoint(patient: MakePatient) -> None:
    vm = patient()
    first, second, _third = three(vm, 1)
    vm.role.knobs.destroy_takes_dependents = True
    vm.destroy(second)
    assert list(vm.machine.checkpoints) == [first]


def test_several_disks_are_merged_under_one_job(patient: MakePatient) -> None:
    vm = patient(disks=(DiskSpec(), DiskSpec(path="E:\\Data\\data.vhdx")))
    guest = vm.guest()
    guest.write_some(8)
    checkpoint = vm.checkpoint()
    guest.write_some(8)
    vm.destroy(checkpoint)
    vm.merged()
    assert [vm.depth(0), vm.depth(1)] == [1, 1]
    assert [vm.proof(disk=disk).holds_until(16) for disk in (0, 1)] == [True, True]
    assert len([row for row in vm.host.rows("Msvm_ConcreteJob") if row["JobType"] == 50]) == 1


def test_a_merge_takes_the_time_of_its_bytes(patient: MakePatient) -> None:
    vm = patient()
    guest = vm.guest()
    checkpoint = vm.checkpoint()
    guest.write_some(200)
    vm.role.knobs.merge_bytes_per_second = 1000
    vm.destroy(checkpoint)
    vm.host.clock.advance(3)
    vm.host.clock.advance(200)
    assert len(vm.jobs(50)) == 1
    vm.merged(4000)
    assert vm.depth() == 1


@pytest.mark.parametrize(("left", "depth"), [(0, 2), (3 * MIB, 3)])  # not even for the extra file; not for the data
def test_no_room_for_a_merge(patient: MakePatient, left: int, depth: int) -> None:
    vm = patient(volumes=[VolumeSpec("C:"), VolumeSpec("D:", size=1024 * MIB, free=200 * MIB), VolumeSpec("E:")])
    guest = vm.guest()
    checkpoint = vm.checkpoint()
    guest.write_some(500)
    volume = vm.host.files.volume_of("D:\\")
    assert volume is not None
    filler = vm.host.files.resolve("D:\\filler.bin")
    with filler.real.open("wb") as out:
        out.truncate(volume.free_bytes - left)
    vm.destroy(checkpoint)
    if not left:
        with filler.real.open("ab") as out:
            out.truncate(filler.real.stat().st_size + volume.free_bytes)
    vm.until(lambda: any(row["JobType"] == 50 and row["JobState"] == 10 for row in vm.host.rows("Msvm_ConcreteJob")), 60)
    row = next(row for row in vm.host.rows("Msvm_ConcreteJob") if row["JobType"] == 50)
    assert (row["JobState"], row["ErrorCode"], vm.status(), vm.machine.checkpoints) == (10, 32768, [2], {})
    errors = vm.host.call("Msvm_ConcreteJob", "GetErrorEx", selectors={"InstanceID": str(row["InstanceID"])})["Errors"]
    assert "0x80070070" in str(errors)
    assert vm.depth() == depth
    assert vm.proof().holds_until(500)
    filler.real.unlink()
    vm.until(lambda: vm.depth() == 1, 900)
    guest.write_some(1)
    assert (vm.depth(), vm.avhdx(), vm.proof().holds_until(501)) == (1, [], True)


@pytest.mark.parametrize("seconds", [0.0, 5.0, 12.0])
def test_the_service_restarts_during_a_merge(patient: MakePatient, seconds: float) -> None:
    vm = patient()
    _first, second, _third = three(vm, 100)
    vm.destroy(second)
    vm.host.clock.advance(2 + seconds)
    vm.role.restart_vmms()
    assert (vm.host.rows("Msvm_ConcreteJob"), vm.status(), vm.depth()) == ([], [2], 4)
    assert vm.proof().holds_until(400)
    assert validated(vm) == (7, 0)
    vm.merged()
    assert (vm.depth(), vm.proof().holds_until(400)) == (3, True)


def test_a_restart_while_the_guest_writes_to_the_extra_file(patient: MakePatient) -> None:
    vm = patient()
    guest = vm.guest()
    guest.write_some(20)
    checkpoint = vm.checkpoint()
    guest.write_some(20)
    vm.destroy(checkpoint)
    vm.host.clock.advance(10)
    guest.write_some(20)
    vm.role.restart_vmms()
    guest.write_some(20)
    assert (vm.depth(), vm.proof().holds_until(80)) == (3, True)
    vm.merged(300)
    assert (vm.depth(), vm.avhdx(), vm.proof().holds_until(80)) == (1, [], True)


def test_merging_is_held_up_and_goes_on(patient: MakePatient) -> None:
    vm = patient()
    _first, second, _third = three(vm)
    assert merge_settings(vm, 0) == 4096
    assert vm.host.row("Msvm_DiskMergeSettingData", InstanceID=f"Microsoft:{GUID}")["EnabledState"] == 0
    vm.destroy(second)
    vm.host.clock.advance(3600)
    assert (vm.jobs(50), vm.status(), vm.depth()) == ([], [2], 4)
    assert merge_settings(vm, 1) == 4096
    vm.until(lambda: bool(vm.jobs(50)), 30)
    assert merge_settings(vm, 0) == 4096  # in the middle
    assert (vm.jobs(50), vm.status(), vm.depth(), vm.proof().holds_until(40)) == ([], [2], 4, True)
    vm.host.clock.advance(3600)
    assert vm.depth() == 4
    merge_settings(vm, 1)
    vm.merged()
    assert (vm.depth(), vm.proof().holds_until(40)) == (3, True)


def test_a_machine_may_start_with_merging_held_up(patient: MakePatient) -> None:
    vm = patient(merge_paused=True, checkpoints=(CheckpointSpec("c"),))
    vm.destroy(next(iter(vm.machine.checkpoints)))
    vm.host.clock.advance(600)
    assert vm.depth() == 2
    assert merge_settings(vm, 2) == 32773
    assert merge_settings(vm, 1) == 4096
    vm.merged()
    assert vm.depth() == 1


def test_a_merge_that_never_starts(patient: MakePatient) -> None:
    vm = patient()
    _first, second, third = three(vm)
    vm.role.knobs.merge_never_starts.add(GUID)
    vm.destroy(second)
    vm.host.clock.advance(24 * 3600)
    assert (vm.jobs(50), vm.depth()) == ([], 4)
    vm.role.restart_vmms()
    vm.host.clock.advance(3600)
    assert vm.depth() == 4
    vm.role.knobs.merge_never_starts.clear()
    vm.destroy(third)  # whatever looks at the chain next takes up all of it
    vm.merged(300)
    assert (vm.depth(), vm.proof().holds_until(40)) == (2, True)


def test_a_merge_that_fails_half_way(patient: MakePatient) -> None:
    vm = patient()
    _first, second, _third = three(vm)
    vm.role.knobs.merge_error[GUID] = 0x80070299
    vm.destroy(second)
    vm.merged()
    assert (vm.depth(), vm.status(), vm.proof().holds_until(40), validated(vm)) == (4, [2], True, (7, 0))
    vm.role.knobs.merge_error.clear()
    vm.merged(600)
    vm.until(lambda: vm.depth() == 3, 600)
    assert (vm.depth(), vm.proof().holds_until(40)) == (3, True)


def test_a_file_that_somebody_reads_is_not_merged_away(patient: MakePatient) -> None:
    vm = patient()
    _first, second, third = three(vm)
    path = vm.leaf_of(third)[0]
    place = vm.host.files.resolve(path)
    handle = vm.host.files.hold(place, "robocopy", share_read=True, share_write=True)
    vm.destroy(second)
    vm.merged()
    assert (vm.depth(), vm.host.files.exists(path)) == (4, True)
    vm.host.files.release(place, handle)
    vm.until(lambda: vm.depth() == 3, 900)
    assert (vm.depth(), vm.host.files.exists(path), vm.proof().holds_until(40)) == (3, False, True)


def test_new_checkpoints_on_top_of_a_chain_that_waits(patient: MakePatient) -> None:
    vm = patient()
    guest = vm.guest()
    guest.write_some(10)
    old = vm.checkpoint()
    vm.role.knobs.merge_never_starts.add(GUID)
    vm.destroy(old)
    guest.write_some(10)
    new = vm.checkpoint()
    guest.write_some(10)
    assert (vm.depth(), vm.proof(vm.machine.checkpoints[new].files[0]).holds_until(20)) == (3, True)
    vm.role.knobs.merge_never_starts.clear()
    vm.role.restart_vmms()
    vm.merged()
    assert (vm.depth(), vm.proof().holds_until(30)) == (2, True)
    assert (vm.leaf_of(new), vm.proof(vm.machine.checkpoints[new].files[0]).holds_until(20)) == ([BASE], True)


def test_orphans_are_merged_when_a_machine_is_turned_off_or_a_checkpoint_comes_and_goes(patient: MakePatient) -> None:
    vm = patient(disks=(DiskSpec(orphans=2),))
    vm.host.clock.advance(3600)
    assert vm.depth() == 3
    vm.power(3)
    vm.merged(300)
    assert vm.depth() == 1
    other = patient(disks=(DiskSpec(orphans=1),))
    other.destroy(other.checkpoint())
    other.merged(300)
    assert other.depth() == 1


def test_checkpoints_of_the_description(patient: MakePatient) -> None:
    vm = patient(current_parent="b", checkpoints=(CheckpointSpec("a"), CheckpointSpec("b", parent="a"), CheckpointSpec("x", parent="a")))
    guest = vm.guest()
    guest.write_some(5)
    a, b, x = vm.machine.checkpoints
    vm.destroy(x)
    assert (vm.depth(), len(vm.avhdx())) == (3, 2)  # of its own branch nothing is left
    vm.merged()
    vm.destroy(a)
    vm.merged()
    assert (list(vm.machine.checkpoints), vm.depth(), vm.proof().holds_until(5)) == ([b], 2, True)


def test_a_template_is_never_merged_into(patient: MakePatient) -> None:
    vm = patient(disks=(DiskSpec(parent="D:\\Templates\\base.vhdx"),))
    template = vm.role.file("D:\\Templates\\base.vhdx")
    assert template is not None
    vm.role.disks.materialise_all()
    before = vm.real(template).read_bytes()
    guest = vm.guest()
    vm.destroy(vm.checkpoint())
    guest.write_some(5)
    vm.merged()
    assert (vm.depth(), vm.proof().holds_until(5)) == (2, True)
    assert vm.real(template).read_bytes() == before


def test_removed_meanwhile(patient: MakePatient) -> None:
    vm = patient()
    checkpoint = vm.checkpoint()
    answer = vm.ask("DestroySnapshot", AffectedSnapshot=settings_ref(checkpoint))
    vm.host.clock.advance(1)
    vm.role.foreign_removal("web01", vm.machine.checkpoints[checkpoint])
    code, text = vm.failed(answer)
    assert (code, "0x80070490" in text) == (32768, True)
    assert vm.ask("DestroySnapshot", AffectedSnapshot=settings_ref(checkpoint))["ReturnValue"] == 32773
    assert vm.ask("DestroySnapshot", AffectedSnapshot=settings_ref(GUID))["ReturnValue"] == 32773
    vm.merged()
    assert vm.depth() == 1


def test_naming_one_that_is_removed_meanwhile(patient: MakePatient) -> None:
    vm = patient()
    checkpoint = vm.checkpoint()
    text = (f'<INSTANCE CLASSNAME="Msvm_VirtualSystemSettingData"><PROPERTY NAME="InstanceID" TYPE="string"><VALUE>Microsoft:{checkpoint}'
            '</VALUE></PROPERTY><PROPERTY NAME="ElementName" TYPE="string"><VALUE>ours</VALUE></PROPERTY></INSTANCE>')
    named = vm.host.call("Msvm_VirtualSystemManagementService", "ModifySystemSettings", {"SystemSettings": text})
    vm.finished(named)
    assert vm.row(checkpoint)["ElementName"] == "ours"
    late = vm.host.call("Msvm_VirtualSystemManagementService", "ModifySystemSettings", {"SystemSettings": text})
    vm.role.foreign_removal("web01", vm.machine.checkpoints[checkpoint])
    assert vm.failed(late)[0] == 32768


def test_a_machine_moves_with_its_unfinished_merge(patient: MakePatient, bench: MakeBench) -> None:
    vm = patient()
    other = bench(name="other")
    for volume, own in zip(other.files.volumes, vm.host.files.volumes, strict=True):
        volume.backing = own.backing  # both see one storage
    _first, second, _third = three(vm)
    vm.destroy(second)
    vm.host.clock.advance(8)
    vm.role.move_vm(GUID, other.role)
    assert (vm.machine.busy, vm.depth(), vm.proof().holds_until(40)) == (None, 4, True)
    assert vm.host.rows("Msvm_VirtualSystemSettingData") == []
    other.clock.advance(60)
    assert (vm.depth(), vm.proof().holds_until(40)) == (3, True)
    assert len(other.rows("Msvm_SnapshotOfVirtualSystem")) == 2


def test_a_machine_that_is_gone_is_not_merged(patient: MakePatient) -> None:
    vm = patient()
    vm.destroy(vm.checkpoint())
    vm.until(lambda: bool(vm.jobs(50)), 30)
    vm.role.remove_vm(GUID)
    vm.host.clock.advance(3600)
    assert vm.host.rows("Msvm_ConcreteJob") == []


def test_many_machines_merge_side_by_side(bench: MakeBench) -> None:
    host = bench(*(VmSpec(name=f"vm{number}", folder=f"D:\\VMs\\vm{number}") for number in range(3)))
    for number in range(3):
        host.role.foreign_removal(f"vm{number}", host.role.foreign_checkpoint(f"vm{number}"))
    host.clock.advance(1)
    assert host.rows("Msvm_ConcreteJob") == []
    host.clock.advance(2)
    running = [row for row in host.rows("Msvm_ConcreteJob") if row["JobState"] == 4]
    assert len(running) == 3
    elements = [row["AffectedElement"] for row in host.rows("Msvm_AffectedJobElement")]
    assert elements == [Ref(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": m}) for m in host.role.machines]
    host.clock.advance(30)
    assert all(len(disk.leaf.chain()) == 1 for machine in host.role.machines.values() for disk in machine.disks if disk.leaf)
