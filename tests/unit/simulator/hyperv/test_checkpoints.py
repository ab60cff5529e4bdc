# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creating checkpoints: kinds, refusals, what is on disk afterwards."""
from __future__ import annotations

import pytest
from simulator.cim.errors import SimulatorGap
from simulator.cim.model import Ref
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.spec import CheckpointSpec, ComponentSpec, DiskSpec, IntegrationSpec, VmSpec
from simulator.windows.spec import VolumeSpec
from unit.simulator.hyperv.bench import NOBODY, V2, MakeBench
from unit.simulator.hyperv.checkpoint_bench import GUID, SERVICE, VM, MakePatient, settings_ref, snapshot_settings

MIB = 1024 * 1024
SILENT = IntegrationSpec(vss=ComponentSpec(status="no_contact"))


def test_a_checkpoint_freezes_the_file_and_the_guest_writes_on_in_a_new_one(patient: MakePatient) -> None:
    vm = patient()
    guest = vm.guest()
    guest.write_some(20)
    before = vm.leaf_of(GUID)
    answer = vm.create()
    assert (answer["ReturnValue"], answer["ResultingSnapshot"]) == (4096, None)
    guest.write_some(5)
    vm.finished(answer)
    checkpoint = vm.made_by(answer)
    guest.write_some(30)
    assert vm.leaf_of(checkpoint) == before
    after = vm.leaf_of(GUID)
    assert after != before
    assert after[0].startswith("D:\\VMs\\web01\\Virtual Hard Disks\\web01_")
    assert after[0].endswith(".avhdx")
    frozen, now = vm.proof(vm.machine.checkpoints[checkpoint].files[0]), vm.proof()
    assert frozen.holds_until(25)
    assert frozen.quiesced
    assert now.holds_until(55)
    assert not now.quiesced


def test_what_a_new_checkpoint_says_of_itself(patient: MakePatient) -> None:
    vm = patient(notes="of the machine")
    first = vm.checkpoint()
    vm.host.clock.advance(3600)
    second = vm.checkpoint()
    row = vm.row(second)
    assert row["VirtualSystemType"] == "Microsoft:Hyper-V:Snapshot:Realized"
    assert (row["ConfigurationID"], row["VirtualSystemIdentifier"], row["IsSaved"], row["Notes"]) == (second, GUID, False, [""])
    assert row["ElementName"] == "web01 - (03/01/2026 - 11:00:08 PM)"
    assert row["CreationTime"] == vm.machine.checkpoints[second].created
    assert str(row["Parent"]).endswith(f':Msvm_VirtualSystemSettingData.InstanceID="Microsoft:{first}"')
    assert str(vm.row(GUID)["Parent"]).endswith(f'"Microsoft:{second}"')
    assert vm.row(first)["Parent"] is None
    newest = vm.host.rows("Msvm_MostCurrentSnapshotInBranch")
    assert [(link["Antecedent"], link["Dependent"]) for link in newest] == [(VM, settings_ref(second))]
    tree = vm.host.rows("Msvm_SnapshotOfVirtualSystem")
    assert [link["Dependent"] for link in tree] == [settings_ref(first), settings_ref(second)]


def test_the_notes_of_the_machine_may_be_copied(patient: MakePatient) -> None:
    vm = patient(notes="of the machine")
    vm.role.knobs.notes_are_copied = True
    assert vm.row(vm.checkpoint())["Notes"] == ["of the machine"]


def test_while_it_is_made(patient: MakePatient) -> None:
    vm = patient()
    answer = vm.create()
    vm.host.clock.advance(1)
    assert vm.status() == [2, 32768]
    assert len(vm.jobs(70)) == len(vm.jobs(51)) == 1
    assert [row["ElementEffects"] for row in vm.host.rows("Msvm_AffectedJobElement")] == [[0], [0]]
    for again in (vm.create(), vm.create(32768)):
        assert again == {"ResultingSnapshot": None, "Job": None, "ReturnValue": 32775}
    vm.finished(answer)
    assert vm.status() == [2]


def test_each_virtual_disk_gets_a_file(patient: MakePatient) -> None:
    vm = patient(disks=(DiskSpec(), DiskSpec(path="E:\\Data\\data.vhdx", kind="fixed", size=16 * MIB),
                        DiskSpec(medium="dvd", path="D:\\ISO\\a.iso")))
    guest = vm.guest()
    guest.write_some(9)
    checkpoint = vm.checkpoint()
    guest.write_some(4)
    assert [path.rpartition("\\")[0] for path in vm.leaf_of(GUID)] == ["D:\\VMs\\web01\\Virtual Hard Disks", "E:\\Data", "D:\\ISO"]
    assert [vm.depth(0), vm.depth(1)] == [2, 2]
    files = vm.machine.checkpoints[checkpoint].files
    assert [vm.proof(files[disk]).holds_until(9) for disk in (0, 1)] == [True, True]
    assert [vm.proof(disk=disk).holds_until(13) for disk in (0, 1)] == [True, True]


@pytest.mark.parametrize(("policy", "state", "integration", "saved"), [
    ("production", "running", IntegrationSpec(), False), ("production", "running", SILENT, True), ("production", "off", SILENT, False),
    ("production", "paused", IntegrationSpec(), True), ("production", "saved", IntegrationSpec(), True),
    ("production_only", "running", IntegrationSpec(), False), ("production_only", "off", SILENT, False),
    ("standard", "running", IntegrationSpec(), True), ("standard", "off", IntegrationSpec(), False),
    ("standard", "saved", IntegrationSpec(), True)])
def test_policy_and_guest_decide_the_kind(patient: MakePatient, policy: str, state: str, integration: IntegrationSpec, saved: bool) -> None:
    vm = patient(policy=policy, state=state, integration=integration)
    assert vm.row(vm.checkpoint())["IsSaved"] is saved
    assert vm.machine.state == state


@pytest.mark.parametrize("code", [0x800423F2, 0x800423F3, 0x800423F4])
def test_production_only_fails_when_the_guest_does_not_answer(patient: MakePatient, code: int) -> None:
    vm = patient(policy="production_only")
    vm.role.knobs.cannot_quiesce.add(GUID)
    vm.role.knobs.quiesce_error = code
    error, text = vm.failed(vm.create())
    assert error == 32768
    assert f"0x{code:08X}" in text
    assert (vm.machine.checkpoints, vm.depth(), vm.avhdx(), vm.status()) == ({}, 1, [], [2])
    vm.machine.policy = 3  # the same machine falls back without a word
    assert vm.row(vm.checkpoint())["IsSaved"] is True


@pytest.mark.parametrize(("spec", "state"), [(SILENT, "running"), (IntegrationSpec(), "saved"), (IntegrationSpec(), "paused")])
def test_what_cannot_be_quiesced(patient: MakePatient, spec: IntegrationSpec, state: str) -> None:
    vm = patient(policy="production_only", integration=spec, state=state)
    assert vm.failed(vm.create())[0] == 32768


def test_the_policy_disabled_fails_the_job_but_not_a_backup_product(patient: MakePatient) -> None:
    vm = patient(policy="disabled")
    assert vm.failed(vm.create())[0] == 32768
    assert vm.row(vm.checkpoint(32768, ConsistencyLevel=1))["VirtualSystemType"] == "Microsoft:Hyper-V:Snapshot:Recovery"
    vm.role.knobs.disabled_blocks_recovery = True
    assert vm.failed(vm.create(32768))[0] == 32768


def test_before_2016_every_checkpoint_is_a_standard_one(patient: MakePatient) -> None:
    vm = patient(os_version="2012R2", memory_mb=256)
    checkpoint = vm.checkpoint()
    assert vm.row(checkpoint)["IsSaved"] is True
    folder = vm.host.files.resolve("D:\\VMs\\web01\\Snapshots")
    assert [place.parts[-1] for place in vm.host.files.children(folder)] == [checkpoint, f"{checkpoint}.xml"]
    assert vm.create(2, ConsistencyLevel=1)["ReturnValue"] == 32773
    assert vm.failed(vm.create(32768))[0] == 32770


def test_a_standard_checkpoint_writes_the_memory(patient: MakePatient) -> None:
    vm = patient(policy="standard", memory_mb=1024)
    vm.role.disks.materialise_all()
    volume = vm.host.files.volume_of("D:\\")
    assert volume is not None
    free = volume.free_bytes
    checkpoint = vm.checkpoint()
    assert vm.host.files.resolve(f"D:\\VMs\\web01\\Snapshots\\{checkpoint}.vmrs").real.stat().st_size == 1024 * MIB
    used = free - volume.free_bytes
    assert 1024 * MIB < used < 1040 * MIB
    size = vm.host.call("Msvm_VirtualSystemManagementService", "GetSizeOfSystemFiles", {"Vssd": settings_ref(checkpoint)})
    assert size["Size"] == 1024 * MIB + 49152 + 4 * MIB


@pytest.mark.parametrize("free", [1 * MIB, 100 * MIB])
def test_no_room_for_a_checkpoint(patient: MakePatient, free: int) -> None:
    volumes = [VolumeSpec("C:"), VolumeSpec("D:", free=free), VolumeSpec("E:")]
    vm = patient(policy="standard", volumes=volumes)
    guest = vm.guest()
    leaf = vm.leaf_of(GUID)
    code, text = vm.failed(vm.create())
    assert (code, "0x80070070" in text) == (32768, True)
    assert (vm.leaf_of(GUID), vm.machine.checkpoints, vm.avhdx(), vm.status()) == (leaf, {}, [], [2])
    assert vm.host.files.exists("D:\\VMs\\web01\\Snapshots")
    assert list(vm.host.files.children(vm.host.files.resolve("D:\\VMs\\web01\\Snapshots"))) == []
    guest.write_some(3)
    assert vm.proof().consistent


def test_consistency_levels_of_a_recovery_checkpoint(patient: MakePatient) -> None:
    vm = patient()
    guest = vm.guest()
    guest.write_some(10)
    guest.step()
    crash = vm.checkpoint(32768, ConsistencyLevel=2, GuestBackupType=1)
    proof = vm.proof(vm.machine.checkpoints[crash].files[0])
    assert (proof.holds_until(10), proof.in_flight, proof.quiesced) == (True, 11, False)
    assert vm.machine.checkpoints[crash].guest_backup == 1
    assert str(vm.row(crash)["ElementName"]).startswith("web01 - Backup - (")
    application = vm.checkpoint(32768, ConsistencyLevel=1)
    proof = vm.proof(vm.machine.checkpoints[application].files[0])
    assert (proof.holds_until(11), proof.in_flight, proof.quiesced) == (True, None, True)
    vm.role.knobs.cannot_quiesce.add(GUID)
    assert vm.failed(vm.create(32768, ConsistencyLevel=1))[0] == 32768
    assert vm.row(vm.checkpoint(32768, ConsistencyLevel=2))["IsSaved"] is False


def test_consistency_level_may_count_for_users(patient: MakePatient) -> None:
    vm = patient(policy="standard")
    assert vm.row(vm.checkpoint(2, ConsistencyLevel=1))["IsSaved"] is True
    vm.role.knobs.consistency_level_counts = True
    assert vm.row(vm.checkpoint(2, ConsistencyLevel=1))["IsSaved"] is False
    assert vm.row(vm.checkpoint(2, ConsistencyLevel=2))["IsSaved"] is False
    vm.role.knobs.cannot_quiesce.add(GUID)
    assert vm.failed(vm.create(2, ConsistencyLevel=1))[0] == 32768


@pytest.mark.parametrize("values", [
    {"disks": (DiskSpec(), DiskSpec(medium="passthrough"))}, {"disks": (DiskSpec(), DiskSpec(shared=True, path="D:\\S\\s.vhdx"))},
    {"disks": (DiskSpec(), DiskSpec(path="D:\\S\\s.vhds", shared=True))}, {"fibre_channel_ports": 1}])
def test_disks_that_no_checkpoint_holds(patient: MakePatient, values: dict[str, object]) -> None:
    vm = patient(**values)
    assert vm.failed(vm.create())[0] == 32770
    assert vm.failed(vm.create(2, IgnoreNonSnapshottableDisks=True))[0] == 32770
    assert vm.failed(vm.create(32768))[0] == 32770
    checkpoint = vm.machine.checkpoints[vm.checkpoint(32768, IgnoreNonSnapshottableDisks=True, ConsistencyLevel=1)]
    assert sorted(checkpoint.files) == [0]
    assert checkpoint.skipped == ((1,) if "disks" in values else ())
    vm.role.knobs.refuse_at_once = True
    assert vm.create()["ReturnValue"] == 32770


@pytest.mark.parametrize(("values", "code"), [
    ({"replication_mode": 2, "state": "off"}, 32770), ({"version": "5.0"}, 32770)])
def test_machines_that_cannot(patient: MakePatient, values: dict[str, object], code: int) -> None:
    vm = patient(**values)
    assert vm.failed(vm.create(32768))[0] == code


@pytest.mark.parametrize("values", [{"busy": "exporting"}, {"busy": "merging"}, {"busy": "backup"}, {"state": "starting"}])
def test_a_busy_machine_refuses_everything(patient: MakePatient, values: dict[str, object]) -> None:
    vm = patient(checkpoints=(CheckpointSpec("c", kind="standard"),), **values)
    checkpoint = settings_ref(next(iter(vm.machine.checkpoints)))
    assert vm.create()["ReturnValue"] == 32775
    assert vm.ask("DestroySnapshot", AffectedSnapshot=checkpoint)["ReturnValue"] == 32775
    assert vm.ask("DestroySnapshotTree", SnapshotSettingData=checkpoint)["ReturnValue"] == 32775
    assert vm.ask("ApplySnapshot", Snapshot=checkpoint)["ReturnValue"] == 32775
    assert vm.ask("ClearSnapshotState", SnapshotSettingData=checkpoint)["ReturnValue"] == 32775
    assert vm.host.changes == []


def test_a_machine_whose_storage_is_gone(patient: MakePatient) -> None:
    assert patient(state="critical", health="configuration_offline").create()["ReturnValue"] == 32777


@pytest.mark.parametrize("parameters", [
    {"SnapshotType": 4}, {"SnapshotType": 5}, {"SnapshotType": 32769}, {}, {"SnapshotSettings": "no instance", "SnapshotType": 2},
    {"SnapshotSettings": snapshot_settings(ConsistencyLevel=3), "SnapshotType": 2},
    {"SnapshotSettings": snapshot_settings(GuestBackupType=3), "SnapshotType": 2},
    {"SnapshotSettings": snapshot_settings(NoSuchProperty=3), "SnapshotType": 2},
    {"SnapshotType": 2, "AffectedSystem": Ref(V2, "Msvm_ComputerSystem", {"Name": "0A1B2C3D-0000-4000-8000-00000000FFFF"})},
    {"SnapshotType": 2, "AffectedSystem": settings_ref(GUID)},
    {"SnapshotType": 2, "AffectedSystem": Ref(V2, "Msvm_ComputerSystem", {"Name": GUID, "ElementName": "web01"})}])
def test_parameters_that_make_no_sense(patient: MakePatient, parameters: dict[str, object]) -> None:
    vm = patient()
    given = {"AffectedSystem": VM} | parameters
    assert vm.host.call(SERVICE, "CreateSnapshot", given)["ReturnValue"] == 32773  # type: ignore[arg-type]
    assert (vm.host.changes, vm.status()) == ([], [2])


def test_empty_settings_and_the_name_alone_are_enough(patient: MakePatient) -> None:
    vm = patient()
    short = Ref(V2, "Msvm_ComputerSystem", {"Name": GUID.lower()})
    answer = vm.host.call(SERVICE, "CreateSnapshot", {"AffectedSystem": short, "SnapshotSettings": "", "SnapshotType": 2})
    vm.finished(answer)
    assert len(vm.machine.checkpoints) == 1


def test_who_may_not(patient: MakePatient) -> None:
    vm = patient()
    assert vm.host.call(SERVICE, "CreateSnapshot", {"AffectedSystem": VM, "SnapshotType": 2}, caller=NOBODY)["ReturnValue"] == 32769
    answer = vm.host.call(SERVICE, "DestroySnapshot", {"AffectedSnapshot": settings_ref(GUID)}, caller=NOBODY)
    assert answer["ReturnValue"] == 32769


def test_a_disk_that_is_missing_or_locked(patient: MakePatient) -> None:
    gone = patient(disks=(DiskSpec(path="D:\\gone\\gone.vhdx", exists=False),))
    assert "0x80070002" in gone.failed(gone.create())[1]
    vm = patient(state="off")
    path = vm.leaf_of(GUID)[0]
    vm.role.disks.materialise_all()
    place = vm.host.files.resolve(path)
    handle = vm.host.files.hold(place, "antivirus", share_read=True)
    code, text = vm.failed(vm.create())
    assert (code, "0x80070020" in text) == (32774, True)
    vm.host.files.release(place, handle)
    vm.checkpoint()


def test_more_than_fifty_in_a_branch(patient: MakePatient) -> None:
    vm = patient(checkpoints=tuple(CheckpointSpec(f"c{n}", parent=f"c{n - 1}" if n else None) for n in range(49)))
    vm.checkpoint()
    assert vm.failed(vm.create())[0] == 32768


def test_two_of_one_name(patient: MakePatient) -> None:
    vm = patient()
    for _unused in range(2):
        vm.role.foreign_checkpoint("web01", kind="production", label="same")
    assert [checkpoint.name for checkpoint in vm.machine.checkpoints.values()] == ["same", "same"]
    assert len(set(vm.machine.checkpoints)) == 2


def test_checkpoints_of_others(patient: MakePatient) -> None:
    vm = patient(policy="disabled")
    kinds = ("recovery", "replica", "replica_application", "standard", "production")
    made = [vm.role.foreign_checkpoint("web01", kind=kind) for kind in kinds]  # type: ignore[arg-type]
    automatic = vm.role.foreign_checkpoint("web01", kind="production", automatic=True, notes="n")
    types = [str(vm.row(checkpoint.id)["VirtualSystemType"]).removeprefix("Microsoft:Hyper-V:Snapshot:") for checkpoint in made]
    assert types == ["Recovery", "Replica:Standard", "Replica:ApplicationConsistent", "Realized", "Realized"]
    assert [vm.row(checkpoint.id)["IsSaved"] for checkpoint in made] == [False, False, False, True, False]
    assert (vm.row(automatic.id)["IsAutomaticSnapshot"], vm.row(automatic.id)["Notes"]) == (True, ["n"])
    assert vm.depth() == 7


def test_others_wait_like_everybody(patient: MakePatient) -> None:
    vm = patient()
    first = vm.role.foreign_checkpoint(GUID)
    vm.create()
    with pytest.raises(JobFailure, match="busy"):
        vm.role.foreign_checkpoint("web01")
    vm.role.foreign_removal("web01", first)  # not what another job has begun with
    vm.host.clock.advance(40)
    second = next(iter(vm.machine.checkpoints.values()))
    assert (second.parent, vm.machine.busy) == (None, "merging")
    with pytest.raises(JobFailure, match="busy"):
        vm.role.foreign_removal("web01", second)


def test_storage_that_does_not_answer(patient: MakePatient) -> None:
    vm = patient(folder="\\\\fs1.example.test\\vms\\web01")
    assert "0x80070035" in vm.failed(vm.create())[1]
    assert (vm.machine.checkpoints, vm.status()) == ({}, [2])


def test_a_backup_of_another_product(patient: MakePatient) -> None:
    vm = patient()
    checkpoint = vm.role.foreign_checkpoint("web01", backup_minutes=10.0)
    vm.host.clock.advance(300)
    assert ([row["PercentComplete"] for row in vm.jobs(170)], vm.create()["ReturnValue"]) == ([50], 32775)
    vm.host.clock.advance(300)
    assert checkpoint.id not in vm.machine.checkpoints
    vm.merged()
    assert (vm.depth(), vm.avhdx()) == (1, [])


def test_cancelling_a_creation(patient: MakePatient) -> None:
    vm = patient()
    answer = vm.create()
    vm.host.clock.advance(1)
    keys = {"InstanceID": str(vm.job(answer)["InstanceID"])}
    assert vm.host.call("Msvm_ConcreteJob", "RequestStateChange", {"RequestedState": 4}, selectors=keys)["ReturnValue"] == 4096
    vm.host.clock.advance(10)
    assert (vm.job(answer)["JobState"], vm.machine.checkpoints, vm.status(), vm.depth()) == (8, {}, [2], 1)


def test_a_job_that_is_told_to_fail_leaves_nothing(patient: MakePatient) -> None:
    vm = patient()
    vm.role.jobs.next_failures.append((70, JobFailure(32768, "told to")))
    assert vm.failed(vm.create())[0] == 32768
    assert (vm.machine.checkpoints, vm.status(), vm.depth()) == ({}, [2], 1)
    vm.checkpoint()


def test_a_slow_job_and_one_that_vanishes(patient: MakePatient) -> None:
    vm = patient()
    vm.role.knobs.job_seconds[70] = 3600.0
    vm.create()
    vm.host.clock.advance(3599)
    assert len(vm.jobs(70)) == 1
    vm.role.jobs.keep_seconds = 0.0
    vm.host.clock.advance(1)
    assert (vm.host.rows("Msvm_ConcreteJob"), len(vm.machine.checkpoints)) == ([], 1)


@pytest.mark.parametrize(("left", "checkpoints", "depth"), [("nothing", 0, 1), ("checkpoint", 1, 2), ("orphan", 0, 2)])
def test_the_service_restarts_during_a_creation(patient: MakePatient, left: str, checkpoints: int, depth: int) -> None:
    vm = patient()
    guest = vm.guest()
    guest.write_some(5)
    vm.role.knobs.interrupted_creation = left  # type: ignore[assignment]
    vm.create()
    vm.host.clock.advance(1)
    vm.role.restart_vmms()
    vm.host.clock.advance(600)
    guest.write_some(5)
    assert (vm.host.rows("Msvm_ConcreteJob"), vm.status()) == ([], [2])
    assert (len(vm.machine.checkpoints), vm.depth(), len(vm.avhdx())) == (checkpoints, depth, depth - 1)
    assert vm.proof().holds_until(10)


def test_a_machine_that_moves_away_meanwhile(patient: MakePatient, bench: MakeBench) -> None:
    vm = patient()
    answer = vm.create()
    other = bench(name="other")
    vm.role.move_vm(GUID, other.role)
    assert vm.failed(answer)[0] == 32777
    assert (vm.machine.checkpoints, vm.machine.busy) == ({}, None)


def test_disks_in_the_older_format_are_a_gap(patient: MakePatient) -> None:
    vm = patient(generation=1, disks=(DiskSpec(path="D:\\VMs\\a.vhd", kind="fixed", size=4 * MIB),))
    with pytest.raises(SimulatorGap, match="older format"):
        vm.create()


def test_a_planned_machine(bench: MakeBench) -> None:
    host = bench(VmSpec(vm_id=GUID, planned=True))
    planned = Ref(V2, "Msvm_PlannedComputerSystem", {"CreationClassName": "Msvm_PlannedComputerSystem", "Name": GUID})
    assert host.call(SERVICE, "CreateSnapshot", {"AffectedSystem": planned, "SnapshotType": 2})["ReturnValue"] == 32770
