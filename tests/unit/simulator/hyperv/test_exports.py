# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports of machines: what is written, what the copies hold, and the job around it."""
from __future__ import annotations

import pytest
from simulator.cim.errors import SimulatorGap
from simulator.hyperv.spec import CheckpointSpec, ComponentSpec, DiskSpec, IntegrationSpec, NicSpec
from unit.simulator.hyperv.bench import NOBODY, OPERATOR
from unit.simulator.hyperv.checkpoint_bench import GUID, MakePatient
from unit.simulator.hyperv.export_bench import CRASH, SERVICE, Exported, checkpoint_path, instance, settings

MIB = 1024 * 1024
SILENT = IntegrationSpec(vss=ComponentSpec(status="no_contact"))
TRIO = [f"Virtual Machines\\{GUID}.{kind}" for kind in ("vmcx", "vmgs", "vmrs")]


def test_a_running_machine_crash_consistent(patient: MakePatient) -> None:
    vm = Exported(patient())
    guest = vm.guest()
    guest.write_some(20)
    guest.step()
    answer = vm.export()
    guest.write_some(30)
    vm.patient.finished(answer)
    guest.write_some(3)
    assert vm.files() == ["Virtual Hard Disks\\web01.vhdx", *TRIO]
    assert vm.folders() == ["Snapshots", "Virtual Hard Disks", "Virtual Machines"]
    proof = vm.proof("web01.vhdx")
    assert proof.holds_until(20)
    assert (proof.quiesced, proof.in_flight) == (False, 21)
    assert vm.patient.proof().holds_until(53)
    assert (vm.patient.status(), vm.machine.state) == ([2], "running")


def test_disks_of_one_instant(patient: MakePatient) -> None:
    vm = Exported(patient(disks=(DiskSpec(), DiskSpec(path="D:\\Data\\data.vhdx", kind="fixed", size=16 * MIB),
                                 DiskSpec(medium="dvd", path="D:\\ISO\\a.iso"))))
    guest = vm.guest()
    guest.write_some(21)
    answer = vm.export()
    guest.write_some(10)
    vm.patient.finished(answer)
    assert [vm.proof(name).holds_until(21) for name in ("web01.vhdx", "data.vhdx")] == [True, True]
    assert vm.files()[:2] == ["Virtual Hard Disks\\data.vhdx", "Virtual Hard Disks\\web01.vhdx"]


def test_application_consistent(patient: MakePatient) -> None:
    vm = Exported(patient())
    guest = vm.guest()
    guest.write_some(20)
    guest.step()
    vm.done(CaptureLiveState=2)
    proof = vm.proof("web01.vhdx")
    assert proof.holds_until(21)
    assert proof.quiesced
    assert not vm.patient.proof().quiesced


@pytest.mark.parametrize(("fails", "error"), [(True, 32768), (False, 0)])
def test_a_guest_that_cannot_be_quiesced(patient: MakePatient, fails: bool, error: int) -> None:
    vm = Exported(patient(integration=SILENT))
    vm.guest().write_some(5)
    vm.role.knobs.application_export = "fails" if fails else "degrades"
    answer = vm.export(CaptureLiveState=2)
    if fails:
        code, text = vm.patient.failed(answer)
        assert (code, "0x800423F4" in text, vm.files(), vm.folders()) == (error, True, [], [])
    else:
        vm.patient.finished(answer)
        assert not vm.proof("web01.vhdx").quiesced


def test_with_memory(patient: MakePatient) -> None:
    vm = Exported(patient(memory_mb=64))
    vm.guest().write_some(5)
    vm.done(CaptureLiveState=1, CopyVmRuntimeInformation=True)
    assert vm.host.files.real_path(f"{vm.target}\\{TRIO[2]}").stat().st_size == 64 * MIB
    assert vm.machine.state == "running"


@pytest.mark.parametrize(("state", "runtime", "size"), [("saved", True, 4 * MIB), ("saved", False, 65536), ("off", True, 65536)])
def test_machines_that_do_not_run(patient: MakePatient, state: str, runtime: bool, size: int) -> None:
    vm = Exported(patient(state=state))
    vm.done(CaptureLiveState=0, CopyVmRuntimeInformation=runtime)
    assert vm.host.files.real_path(f"{vm.target}\\{TRIO[2]}").stat().st_size == size


def test_2012_r2_has_other_files(patient: MakePatient) -> None:
    vm = Exported(patient(os_version="2012R2", memory_mb=64))
    vm.done(CaptureLiveState=1, CopyVmRuntimeInformation=True, CreateVmExportSubdirectory=True)
    assert vm.files() == ["web01\\Virtual Hard Disks\\web01.vhdx", f"web01\\Virtual Machines\\{GUID}.xml",
                          f"web01\\Virtual Machines\\{GUID}\\{GUID}.bin", f"web01\\Virtual Machines\\{GUID}\\{GUID}.vsv"]
    assert vm.refused(CaptureLiveState=2) == vm.refused(CopySnapshotConfiguration=3) == 32773
    assert vm.refused(ExcludedVirtualHardDisks=["x"]) == vm.refused(BackupIntent=0) == 32773  # properties of later releases


def test_only_the_configuration(patient: MakePatient) -> None:
    vm = Exported(patient(state="off"))
    vm.done(CopyVmStorage=False)
    assert (vm.files(), vm.folders()) == (TRIO, ["Snapshots", "Virtual Machines"])


def test_a_chain_is_copied_and_hangs_together(patient: MakePatient) -> None:
    vm = Exported(patient())
    guest = vm.guest()
    guest.write_some(10)
    vm.patient.checkpoint()
    guest.write_some(10)
    leaf = vm.patient.leaf_of(GUID)[0]
    vm.done()
    copied = f"{vm.target}\\Virtual Hard Disks\\{leaf.rpartition(chr(92))[2]}"
    assert vm.files() == sorted([copied.removeprefix(f"{vm.target}\\"), "Virtual Hard Disks\\web01.vhdx", *TRIO])
    facts = vm.role.disks.facts(copied)
    assert facts is not None
    assert (facts.kind, facts.parent_path) == (4, f"{vm.target}\\Virtual Hard Disks\\web01.vhdx")
    guest.write_some(10)
    assert vm.proof(leaf.rpartition("\\")[2], parents=["web01.vhdx"]).holds_until(20)


def test_the_job(patient: MakePatient) -> None:
    vm = Exported(patient())
    answer = vm.export()
    vm.host.clock.advance(4.0)
    job = vm.patient.job(answer)
    assert (job["JobType"], job["JobState"], job["PercentComplete"], job["Cancellable"]) == (62, 4, 40, True)
    assert vm.patient.status() == [2, 32773]
    again = [vm.export(), vm.patient.create(), vm.patient.ask("ApplySnapshot", Snapshot=None)]
    assert [one["ReturnValue"] for one in again] == [32775, 32775, 32773]
    text = instance("Msvm_VirtualSystemSettingData", {"InstanceID": "string", "ElementName": "string"},
                    {"InstanceID": f"Microsoft:{GUID}", "ElementName": "x"})
    assert vm.host.call(SERVICE, "ModifySystemSettings", {"SystemSettings": text})["ReturnValue"] == 32775
    assert vm.patient.finished(answer)["PercentComplete"] == 100
    assert vm.patient.status() == [2]
    assert vm.host.changes


def test_a_large_machine_takes_longer(patient: MakePatient) -> None:
    vm = Exported(patient(memory_mb=20480))
    answer = vm.export(CaptureLiveState=1, CopyVmRuntimeInformation=True)
    vm.host.clock.advance(90)
    assert 80 <= int(str(vm.patient.job(answer)["PercentComplete"])) < 90
    vm.patient.finished(answer)


def test_who_may(patient: MakePatient) -> None:
    vm = Exported(patient())
    assert vm.export(caller=NOBODY)["ReturnValue"] == 32769
    assert vm.export(caller=OPERATOR)["ReturnValue"] == 4096


@pytest.mark.parametrize("values", [
    {"state": "starting"}, {"busy": "merging"}, {"busy": "migrating"}, {"busy": "creating_checkpoint"}])
def test_a_machine_that_is_not_idle(patient: MakePatient, values: dict[str, str]) -> None:
    assert Exported(patient(**values)).refused() == 32775


def test_parameters(patient: MakePatient) -> None:
    vm = Exported(patient(checkpoints=(CheckpointSpec("a"), CheckpointSpec("b", parent="a", kind="recovery"))))
    standard = next(iter(vm.machine.checkpoints))
    assert vm.export("relative")["ReturnValue"] == 32773
    assert vm.export("E:\\a|b")["ReturnValue"] == 32773
    assert [vm.refused(CopySnapshotConfiguration=4), vm.refused(CaptureLiveState=3), vm.refused(CopySnapshotConfiguration=2)] == [32773] * 3
    assert vm.refused(CopySnapshotConfiguration=2, SnapshotVirtualSystem=checkpoint_path(GUID)) == 32773  # the machine itself
    assert vm.refused(CopySnapshotConfiguration=2, SnapshotVirtualSystem=f"Microsoft:{standard}") == 32773  # no path
    assert vm.refused(CopySnapshotConfiguration=3, SnapshotVirtualSystem=checkpoint_path(standard)) == 32773
    assert vm.refused(ExcludedVirtualHardDisks=["Microsoft:nothing"]) == 32773
    with pytest.raises(SimulatorGap):
        vm.export(DifferentialBackupBase="x")
    wrong = settings(**CRASH).replace("uint8", "uint32")
    given = {"ComputerSystem": vm.vm, "ExportDirectory": vm.target, "ExportSettingData": wrong}
    assert vm.host.call(SERVICE, "ExportSystemDefinition", given)["ReturnValue"] == 32768


def test_missing_things(patient: MakePatient) -> None:
    vm = Exported(patient(state="off", disks=(DiskSpec(path="D:\\gone.vhdx", exists=False),)))
    code, text = vm.patient.failed(vm.export())
    assert (code, "0x80070002" in text, vm.folders()) == (32768, True, [])
    other = Exported(patient(nics=(NicSpec(switch="LAN"),)))
    other.role.switches.clear()
    code, text = other.patient.failed(other.export())
    assert (code, "LAN" in text) == (32768, True)


def test_two_disks_of_one_name(patient: MakePatient) -> None:
    vm = Exported(patient(disks=(DiskSpec(path="D:\\a\\disk.vhdx"), DiskSpec(path="D:\\b\\disk.vhdx"))))
    code, text = vm.patient.failed(vm.export())
    assert (code, "0x80070050" in text) == (32768, True)
