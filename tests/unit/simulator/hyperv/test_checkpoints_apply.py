# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applying checkpoints: old bytes, old configuration, power state; saved states."""
from __future__ import annotations

import pytest
from simulator.hyperv.hardware import attach_disk, detach_disk, reconfigure
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, NicSpec
from simulator.windows.spec import VolumeSpec
from unit.simulator.hyperv.checkpoint_bench import GUID, VM, MakePatient, settings_ref

MIB = 1024 * 1024


def test_the_old_bytes_are_back_and_the_new_ones_lost(patient: MakePatient) -> None:
    vm = patient()
    guest = vm.guest()
    guest.write_some(10)
    checkpoint = vm.checkpoint()
    guest.write_some(10)
    lost = vm.leaf_of(GUID)[0]
    vm.power(3)
    vm.apply(checkpoint)
    assert vm.proof().holds_until(10)
    assert (vm.depth(), vm.host.files.exists(lost), len(vm.avhdx())) == (2, False, 1)
    assert (vm.machine.state, vm.row(GUID)["IsSaved"]) == ("off", False)
    links = vm.host.rows("Msvm_LastAppliedSnapshot")
    assert [(link["Antecedent"], link["Dependent"]) for link in links] == [(settings_ref(checkpoint), VM)]
    assert str(vm.row(GUID)["Parent"]).endswith(f'"Microsoft:{checkpoint}"')
    vm.power(2)
    guest.write_some(7)
    assert vm.proof().holds_until(17)
    assert vm.proof(vm.machine.checkpoints[checkpoint].files[0]).holds_until(10)


def test_applied_twice(patient: MakePatient) -> None:
    vm = patient()
    guest = vm.guest()
    guest.write_some(3)
    checkpoint = vm.checkpoint()
    for _unused in range(2):
        vm.power(3)
        vm.apply(checkpoint)
        vm.power(2)
        guest.write_some(2)
        assert (vm.proof().holds_until(5), vm.depth()) == (True, 2)
    vm.destroy(checkpoint)
    vm.merged()
    assert (vm.proof().holds_until(5), vm.depth()) == (True, 1)


def test_a_standard_checkpoint_brings_the_memory_back(patient: MakePatient) -> None:
    vm = patient(policy="standard", memory_mb=512)
    guest = vm.guest()
    guest.write_some(10)
    guest.step()  # in the middle of write 11
    checkpoint = vm.checkpoint()
    guest.write_some(10)
    vm.power(3)
    vm.apply(checkpoint)
    assert (vm.host.row("Msvm_ComputerSystem", Name=GUID)["EnabledState"], vm.row(GUID)["IsSaved"]) == (6, True)
    assert vm.host.files.resolve(f"D:\\VMs\\web01\\Virtual Machines\\{GUID}.vmrs").real.stat().st_size == 512 * MIB
    proof = vm.proof()
    assert (proof.holds_until(10), proof.in_flight) == (True, 11)
    vm.power(2)
    guest.write_some(1)  # the one it was in
    assert vm.proof().holds_until(11)


def test_a_guest_that_runs_by_itself_follows_the_power_state(patient: MakePatient) -> None:
    vm = patient()
    guest = vm.guest()
    guest.run(vm.host.clock, 10.0)
    vm.host.clock.advance(5)
    checkpoint = vm.checkpoint()
    kept = vm.proof(vm.machine.checkpoints[checkpoint].files[0]).last
    assert kept > 40
    vm.power(3)
    stopped = guest.closed
    vm.host.clock.advance(60)
    vm.apply(checkpoint)
    vm.host.clock.advance(60)
    assert (stopped, vm.proof().last) == (True, kept)
    vm.power(2)
    vm.host.clock.advance(10)
    guest.stop()
    assert kept + 80 < vm.proof().last < kept + 120
    assert vm.proof().consistent


def test_a_running_machine_refuses_or_is_turned_off(patient: MakePatient) -> None:
    vm = patient()
    guest = vm.guest()
    guest.write_some(3)
    checkpoint = vm.checkpoint()
    guest.write_some(3)
    assert vm.ask("ApplySnapshot", Snapshot=settings_ref(checkpoint))["ReturnValue"] == 32775
    vm.role.knobs.apply_running = "turn_off"
    vm.apply(checkpoint)
    assert (vm.machine.state, vm.proof().holds_until(3), guest.closed) == ("off", True, True)


def test_while_it_is_applied(patient: MakePatient) -> None:
    vm = patient(state="off")
    checkpoint = vm.checkpoint()
    answer = vm.ask("ApplySnapshot", Snapshot=settings_ref(checkpoint))
    vm.host.clock.advance(1)
    assert (vm.status(), len(vm.jobs(71)), vm.create()["ReturnValue"]) == ([2, 32769], 1, 32775)
    vm.finished(answer)
    assert vm.status() == [2]


def test_the_configuration_goes_back_too(patient: MakePatient) -> None:
    vm = patient(state="off", processors=2, memory_mb=1024, policy="production", name="web01", notes="n")
    checkpoint = vm.checkpoint()
    reconfigure(vm.machine, processors=8, memory_mb=4096, nics=(NicSpec(), NicSpec("second", switch="DMZ")))
    vm.machine.policy, vm.machine.name, vm.machine.notes = 5, "renamed", "other"
    detach_disk(vm.machine, 0)
    new = attach_disk(vm.machine, DiskSpec(path="D:\\VMs\\web01\\new.vhdx"))

    def seen(guid: str) -> tuple[object, ...]:
        own = f"Microsoft:{guid}\\"
        rows = {name: [row for row in vm.host.rows(name) if str(row["InstanceID"]).startswith(own)] for name in (
            "Msvm_ProcessorSettingData", "Msvm_MemorySettingData", "Msvm_SyntheticEthernetPortSettingData")}
        return (rows["Msvm_ProcessorSettingData"][0]["VirtualQuantity"], rows["Msvm_MemorySettingData"][0]["VirtualQuantity"],
                len(rows["Msvm_SyntheticEthernetPortSettingData"]), len(vm.leaf_of(guid)), vm.row(guid)["UserSnapshotType"])

    assert (seen(GUID), seen(checkpoint)) == ((8, 4096, 2, 1, 5), (2, 1024, 1, 1, 3))
    assert vm.leaf_of(GUID) == ["D:\\VMs\\web01\\new.vhdx"]
    assert vm.leaf_of(checkpoint) == ["D:\\VMs\\web01\\Virtual Hard Disks\\web01.vhdx"]
    vm.apply(checkpoint)
    assert seen(GUID) == (2, 1024, 1, 1, 3)
    assert vm.leaf_of(GUID)[0].endswith(".avhdx")
    assert (vm.machine.name, vm.machine.notes) == ("renamed", "other")
    assert new.base is not None
    assert vm.host.files.exists(new.base.path)  # no longer attached, and not removed


def test_a_checkpoint_knows_a_disk_that_the_machine_lost(patient: MakePatient) -> None:
    vm = patient(state="off", disks=(DiskSpec(), DiskSpec(path="E:\\Data\\data.vhdx")))
    both = vm.checkpoint()
    detach_disk(vm.machine, 1)
    one = vm.checkpoint()
    assert (len(vm.leaf_of(both)), len(vm.leaf_of(one)), len(vm.leaf_of(GUID))) == (2, 1, 1)
    vm.destroy(both)  # nobody needs the second disk's new file any more; the disk itself stays
    vm.merged()
    assert vm.host.files.exists("E:\\Data\\data.vhdx")
    assert [place.parts[-1] for place in vm.host.files.children(vm.host.files.resolve("E:\\Data"))][:1] == ["data.vhdx"]
    with pytest.raises(KeyError):
        detach_disk(vm.machine, 7)
    with pytest.raises(ValueError, match="name"):
        reconfigure(vm.machine, name="x")


def test_branches(patient: MakePatient) -> None:
    vm = patient()
    guest = vm.guest()
    guest.write_some(4)
    root = vm.checkpoint()
    guest.write_some(4)
    left = vm.checkpoint()
    vm.power(3)
    vm.apply(root)
    vm.power(2)
    guest.write_some(20)
    right = vm.checkpoint()
    tree = {guid: str(vm.row(guid)["Parent"])[-37:-1] if vm.row(guid)["Parent"] else None for guid in (root, left, right, GUID)}
    assert tree == {root: None, left: root, right: root, GUID: right}
    files = vm.machine.checkpoints
    assert [vm.proof(files[guid].files[0]).last for guid in (root, left, right)] == [4, 8, 24]
    vm.power(3)
    vm.apply(left)
    assert (vm.proof().holds_until(8), len(vm.avhdx())) == (True, 3)


def test_no_room_to_apply(patient: MakePatient) -> None:
    vm = patient(volumes=[VolumeSpec("C:"), VolumeSpec("D:", size=1024 * MIB, free=300 * MIB), VolumeSpec("E:")])
    guest = vm.guest()
    guest.write_some(5)
    checkpoint = vm.checkpoint()
    guest.write_some(5)
    vm.power(3)
    volume = vm.host.files.volume_of("D:\\")
    assert volume is not None
    with vm.host.files.resolve("D:\\filler.bin").real.open("wb") as out:
        out.truncate(volume.free_bytes - MIB)
    before = vm.leaf_of(GUID)
    code, text = vm.failed(vm.ask("ApplySnapshot", Snapshot=settings_ref(checkpoint)))
    assert (code, "0x80070070" in text, vm.leaf_of(GUID), vm.status()) == (32768, True, before, [2])
    assert vm.proof().holds_until(10)
    assert vm.host.rows("Msvm_LastAppliedSnapshot") == []


def test_what_cannot_be_applied(patient: MakePatient) -> None:
    vm = patient(state="off", checkpoints=(CheckpointSpec("a", kind="missing"),))
    lost = next(iter(vm.machine.checkpoints))
    assert "0x80070002" in vm.failed(vm.ask("ApplySnapshot", Snapshot=settings_ref(lost)))[1]
    vm.destroy(lost)
    assert vm.machine.checkpoints == {}
    replica = patient(state="off", replication_mode=2, checkpoints=(CheckpointSpec("r", kind="replica"),))
    point = next(iter(replica.machine.checkpoints))
    assert replica.ask("ApplySnapshot", Snapshot=settings_ref(point))["ReturnValue"] == 32775
    assert replica.ask("ApplySnapshot", Snapshot=settings_ref(GUID))["ReturnValue"] == 32773


def test_removed_before_it_was_applied(patient: MakePatient) -> None:
    vm = patient(state="off")
    checkpoint = vm.checkpoint()
    answer = vm.ask("ApplySnapshot", Snapshot=settings_ref(checkpoint))
    vm.role.foreign_removal("web01", vm.machine.checkpoints[checkpoint])
    assert "0x80070490" in vm.failed(answer)[1]


@pytest.mark.parametrize(("os_version", "files"), [("2022", ["vmcx", "vmgs", "vmrs"]), ("2012R2", ["xml"])])
def test_the_saved_state_is_cleared(patient: MakePatient, os_version: str, files: list[str]) -> None:
    vm = patient(policy="standard", memory_mb=256, os_version=os_version)
    vm.guest().write_some(3)
    checkpoint = vm.checkpoint()
    volume = vm.host.files.volume_of("D:\\")
    assert volume is not None
    free = volume.free_bytes
    vm.finished(vm.ask("ClearSnapshotState", SnapshotSettingData=settings_ref(checkpoint)))
    assert 250 * MIB < volume.free_bytes - free <= 260 * MIB
    folder = vm.host.files.resolve("D:\\VMs\\web01\\Snapshots")
    names = [place.parts[-1] for place in vm.host.files.children(folder) if not place.is_directory]
    assert names == [f"{checkpoint}.{ending}" for ending in files]
    assert vm.row(checkpoint)["IsSaved"] is False
    assert vm.ask("ClearSnapshotState", SnapshotSettingData=settings_ref(checkpoint))["ReturnValue"] == 32775
    vm.power(3)
    vm.apply(checkpoint)
    assert (vm.machine.state, vm.proof().holds_until(3)) == ("off", True)


def test_a_recovery_checkpoint_can_be_applied(patient: MakePatient) -> None:
    vm = patient()
    guest = vm.guest()
    guest.write_some(6)
    checkpoint = vm.role.foreign_checkpoint("web01")
    guest.write_some(6)
    vm.power(3)
    vm.apply(checkpoint.id)
    assert (vm.machine.state, vm.proof().holds_until(6)) == ("off", True)
