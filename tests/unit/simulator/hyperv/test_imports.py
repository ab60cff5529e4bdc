# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports: planned machines, what does not fit, realising and destroying."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from simulator.cim.model import Ref
from simulator.clock import SimClock
from simulator.fileserver import FileServer, FileServerSpec
from simulator.hyperv.cluster import Cluster
from simulator.hyperv.spec import DiskSpec, GuestSpec, HyperVSettings, NicSpec, VmSpec
from simulator.windows.spec import ShareSpec, VolumeSpec
from unit.simulator.hyperv.bench import V2, Bench, MakeBench
from unit.simulator.hyperv.checkpoint_bench import GUID, MakePatient, settings_ref
from unit.simulator.hyperv.export_bench import CRASH, Exported, settings
from unit.simulator.hyperv.import_bench import CONNECTION, DISK, SETTINGS, Restorer, planned_ref, real_ref

MIB = 1024 * 1024
DEFINITION = f"E:\\Exports\\Virtual Machines\\{GUID}.vmcx"
EXPORTED_DISK = "E:\\Exports\\Virtual Hard Disks\\web01.vhdx"


@pytest.fixture
def exported(patient: MakePatient) -> Exported:
    """A machine that ran, and its export at write 20."""
    vm = Exported(patient(notes="front end"))
    guest = vm.guest()
    guest.write_some(20)
    vm.done()
    guest.write_some(10)
    return vm


def test_as_a_new_machine_beside_the_old_one(exported: Exported) -> None:
    host = Restorer(exported.host)
    guid = host.import_from(DEFINITION, fresh=True)
    assert guid != GUID
    [row] = host.host.rows("Msvm_PlannedComputerSystem")
    assert (row["Name"], row["ElementName"], row["EnabledState"]) == (guid, "web01", 3)
    assert len(host.host.rows("Msvm_ComputerSystem")) == 2  # the host and the old machine
    settings = host.system(guid)
    assert settings["VirtualSystemType"] == "Microsoft:Hyper-V:System:Planned"
    assert (settings["Notes"], settings["ConfigurationDataRoot"], settings["SwapFileDataRoot"]) == (["front end"], *["D:\\VMs\\web01"] * 2)
    assert [part["HostResource"] for part in host.parts(guid, DISK)] == [[EXPORTED_DISK]]
    assert [part["EnabledState"] for part in host.parts(guid, CONNECTION)] == [2]
    assert host.problems(guid) == []
    machine = host.realise(guid)
    assert (machine.id, host.host.rows("Msvm_PlannedComputerSystem")) == (guid, [])
    assert host.system(guid)["VirtualSystemType"] == "Microsoft:Hyper-V:System:Realized"
    assert host.host.files.exists(f"D:\\VMs\\web01\\Virtual Machines\\{guid}.vmcx")
    disk = host.role.file(EXPORTED_DISK)
    assert disk is not None
    assert exported.patient.proof(disk).holds_until(20)


def test_a_drill(exported: Exported) -> None:
    host = Restorer(exported.host)
    guid = host.import_from(DEFINITION, fresh=True)
    host.ended(host.modify_system(guid, ElementName="drill"))
    for part in host.parts(guid, CONNECTION):
        host.ended(host.connect(part, None))
    assert [(part["EnabledState"], part["HostResource"], part["LastKnownSwitchName"]) for part in host.parts(guid, CONNECTION)] \
        == [(3, None, "LAN")]
    host.realise(guid)
    assert host.parts(guid, "Msvm_HeartbeatComponent") == []
    assert host.power(guid, 2)["JobState"] == 7
    assert _heartbeat(host, guid) == [12]
    host.host.clock.advance(30)
    assert _heartbeat(host, guid) == [2, 2]
    items = host.host.row("Msvm_KvpExchangeComponent", SystemName=guid)["GuestIntrinsicExchangeItems"]
    assert "Windows Server 2022 Standard" in str(items)
    host.power(guid, 3)
    host.destroy(real_ref(guid))
    assert [row["Name"] for row in host.host.rows("Msvm_ComputerSystem")] == ["HV1", GUID]
    assert exported.proof("web01.vhdx").holds_until(20)  # the disks stay
    assert not host.host.files.exists(f"D:\\VMs\\web01\\Virtual Machines\\{guid}.vmcx")
    assert host.host.files.exists(f"D:\\VMs\\web01\\Virtual Machines\\{GUID}.vmcx")


def _heartbeat(host: Restorer, guid: str) -> object:
    return host.host.row("Msvm_HeartbeatComponent", SystemName=guid)["OperationalStatus"]


def test_a_guest_that_never_boots(exported: Exported) -> None:
    host = Restorer(exported.host)
    host.role.knobs.never_boots.add("web01")
    guid = host.import_from(DEFINITION, fresh=True)
    host.realise(guid)
    host.power(guid, 2)
    host.host.clock.advance(3600)
    assert _heartbeat(host, guid) == [12]


def test_in_place(exported: Exported) -> None:
    host = Restorer(exported.host)
    again = {"SystemDefinitionFile": DEFINITION, "SnapshotFolder": "", "GenerateNewSystemIdentifier": False}
    assert "0x800700B7" in host.failed("ImportSystemDefinition", **again)[0][1]  # it is there
    exported.patient.power(3)
    host.destroy(real_ref(GUID))
    assert host.import_from(DEFINITION) == GUID
    assert "0x800700B7" in host.failed("ImportSystemDefinition", **again)[0][1]  # it is there, planned
    host.realise(GUID)
    assert exported.host.row("Msvm_ComputerSystem", Name=GUID)["EnabledState"] == 3


def test_on_a_host_that_never_saw_it(exported: Exported, bench: MakeBench) -> None:
    other = bench(name="other", settings=HyperVSettings(switches=("Inside",), memory_mb=1024, processors=1))
    _carry(exported.host, other, "E:\\Exports", "D:\\Restore")
    host = Restorer(other)
    definition = DEFINITION.replace("E:\\Exports", "D:\\Restore")
    guid = host.import_from(definition)
    assert guid == GUID
    assert host.problems(guid) == ["3122", "24004", "40010", "33012"]
    assert [number for number, _text in host.failed("RealizePlannedSystem", PlannedSystem=planned_ref(guid))] == host.problems(guid)
    [disk] = host.parts(guid, DISK)
    host.ended(host.point(disk, "D:\\Restore\\Virtual Hard Disks\\web01.vhdx"))
    [nic] = host.parts(guid, CONNECTION)
    host.ended(host.connect(nic, "Inside"))
    assert host.problems(guid) == ["3122", "24004"]
    for class_name, quantity in (("Msvm_MemorySettingData", 512), ("Msvm_ProcessorSettingData", 1)):
        [part] = host.parts(guid, class_name)
        text = f'<INSTANCE CLASSNAME="{class_name}"><PROPERTY NAME="InstanceID" TYPE="string"><VALUE>{part["InstanceID"]}</VALUE>' \
               f'</PROPERTY><PROPERTY NAME="VirtualQuantity" TYPE="uint64"><VALUE>{quantity}</VALUE></PROPERTY></INSTANCE>'
        host.ended(host.call("ModifyResourceSettings", ResourceSettings=[text]))
    assert host.problems(guid) == []
    for name in ("ConfigurationDataRoot", "SnapshotDataRoot", "SwapFileDataRoot"):
        host.ended(host.modify_system(guid, **{name: "D:\\New\\web01"}))
    host.realise(guid)
    assert other.files.exists(f"D:\\New\\web01\\Virtual Machines\\{GUID}.vmcx")
    assert host.power(guid, 2)["JobState"] == 7


def _carry(source: Bench, target: Bench, folder: str, place: str) -> None:
    """Copy a folder from one host to another."""
    target.files.create_directory(place)
    for entry in source.files.children(source.files.resolve(folder)):
        inside = f"{place}\\{entry.parts[-1]}"
        if entry.is_directory:
            _carry(source, target, f"{folder}\\{entry.parts[-1]}", inside)
        else:
            target.files.write_file(inside, entry.real.read_bytes())


def test_what_cannot_be_imported(exported: Exported, bench: MakeBench) -> None:
    host, files = Restorer(exported.host), exported.host.files

    def code(path: str) -> object:
        return host.error_code("ImportSystemDefinition", SystemDefinitionFile=path, SnapshotFolder="", GenerateNewSystemIdentifier=True)

    assert code(f"D:\\VMs\\web01\\Virtual Machines\\{GUID}.vmcx") == 32779  # of the registered machine
    assert [code("E:\\Exports\\nothing.vmcx"), code("Q:\\nothing.vmcx"), code(EXPORTED_DISK)] == [32784] * 3
    place = files.resolve(DEFINITION)
    handle = files.hold(place, "somebody", share_read=False)
    assert code(DEFINITION) == 32779
    files.release(place, handle)
    older = bench(name="older", os_version="2019")
    _carry(exported.host, older, "E:\\Exports", "E:\\Exports")
    assert Restorer(older).error_code("ImportSystemDefinition", SystemDefinitionFile=DEFINITION, SnapshotFolder=None,
                                      GenerateNewSystemIdentifier=False) == 32784
    older.role.knobs.newer_version = "not_valid"
    assert "32784" in Restorer(older).problems(Restorer(older).import_from(DEFINITION))
    host.role.knobs.refuse_at_once = True
    assert host.call("ImportSystemDefinition", SystemDefinitionFile="E:\\x.vmcx", GenerateNewSystemIdentifier=True)["ReturnValue"] == 32784
    assert host.call("ImportSystemDefinition", SystemDefinitionFile="x.vmcx", GenerateNewSystemIdentifier=True)["ReturnValue"] == 32773
    data = bytearray(place.real.read_bytes())
    data[200] ^= 1
    place.real.write_bytes(data)
    host.role.knobs.refuse_at_once = False
    assert code(DEFINITION) == 32784  # damaged
    assert host.host.rows("Msvm_PlannedComputerSystem") == []


def test_what_a_file_says(exported: Exported) -> None:
    host = Restorer(exported.host)
    answer = host.call("GetDefinitionFileSummaryInformation", DefinitionFiles=[DEFINITION])
    [row] = answer["SummaryInformation"]  # type: ignore[misc]
    assert (answer["ReturnValue"], row["Name"], row["ElementName"], row["Notes"]) == (0, GUID, "web01", "front end")
    assert row["CreationTime"] == exported.machine.created
    assert row["NumberOfProcessors"] is None
    assert host.call("GetDefinitionFileSummaryInformation", DefinitionFiles=[DEFINITION, "E:\\x.vmcx"])["ReturnValue"] == 32768


def test_with_its_memory(patient: MakePatient) -> None:
    vm = Exported(patient(memory_mb=16))
    guest = vm.guest()
    guest.write_some(5)
    vm.done(CaptureLiveState=1, CopyVmRuntimeInformation=True)
    host = Restorer(vm.host)
    host.role.knobs.saved_states_fit = False
    guid = host.import_from(DEFINITION, fresh=True)
    assert host.host.row("Msvm_PlannedComputerSystem", Name=guid)["EnabledState"] == 6
    assert (host.system(guid)["IsSaved"], host.problems(guid)) == (True, ["24000"])
    keys = {"CreationClassName": "Msvm_PlannedComputerSystem", "Name": guid}
    answer = host.host.call("Msvm_PlannedComputerSystem", "RequestStateChange", {"RequestedState": 3}, selectors=keys)
    assert (answer["ReturnValue"], host.problems(guid), host.system(guid)["IsSaved"]) == (0, [], False)
    host.role.knobs.saved_states_fit = True
    saved = host.import_from(DEFINITION, fresh=True)
    host.realise(saved)
    assert host.host.row("Msvm_ComputerSystem", Name=saved)["EnabledState"] == 6
    assert vm.host.files.real_path(f"D:\\VMs\\web01\\Virtual Machines\\{saved}.vmrs").stat().st_size == 16 * 1024 * 1024
    host.power(saved, 2)
    assert _heartbeat(host, saved) == [2, 2]  # it goes on


def test_a_tree_and_checkpoints_that_are_missing(patient: MakePatient) -> None:
    vm = Exported(patient())
    guest = vm.guest()
    guest.write_some(5)
    first = vm.patient.checkpoint()
    guest.write_some(5)
    second = vm.patient.checkpoint()
    guest.write_some(5)
    vm.done(CopySnapshotConfiguration=0)
    host = Restorer(vm.host)
    whole = host.import_from(DEFINITION, "E:\\Exports\\Snapshots", fresh=True)
    tree = [row for row in host.host.rows(SETTINGS) if row["VirtualSystemIdentifier"] == whole]
    assert [str(row["VirtualSystemType"]).rpartition("Hyper-V:")[2] for row in tree] \
        == ["System:Planned", "Snapshot:Planned", "Snapshot:Planned"]
    assert not {str(row["ConfigurationID"]) for row in tree} & {first, second}
    machine = host.realise(whole)
    assert [c.kind for c in machine.checkpoints.values()] == ["production", "production"]
    assert [vm.patient.proof(c.files[0]).last for c in machine.checkpoints.values()] == [5, 10]
    bare = host.import_from(DEFINITION, "", fresh=True)
    missing = list(host.role.planned[bare].checkpoints)
    assert [host.system(guid)["VirtualSystemType"] for guid in missing] == ["Microsoft:Hyper-V:Snapshot:Missing"] * 2
    assert host.problems(bare) == ["40020"] * 2
    job = host.done("ImportSnapshotDefinitions", PlannedSystem=planned_ref(bare), SnapshotFolder="E:\\Exports\\Snapshots")
    assert len(host.made(job, "Msvm_VirtualSystemSettingData")) == 2
    assert host.problems(bare) == []
    for guid in missing:
        host.ended(vm.patient.ask("DestroySnapshot", AffectedSnapshot=settings_ref(guid)))
    host.realise(bare)
    assert host.role.machines[bare].checkpoints == {}


def test_dvd_drives_and_adapters_can_be_removed(patient: MakePatient) -> None:
    vm = Exported(patient(state="off", nics=(NicSpec(), NicSpec("second", switch="DMZ")),
                          disks=(DiskSpec(), DiskSpec(medium="dvd", path="D:\\ISO\\a.iso"), DiskSpec(path="D:\\data.vhdx"))))
    vm.done()
    vm.host.files.remove_file(vm.host.files.resolve("D:\\ISO\\a.iso"))
    host = Restorer(vm.host)
    guid = host.import_from(DEFINITION, fresh=True)
    assert host.problems(guid) == ["40012"]
    iso = next(part for part in host.parts(guid, DISK) if part["ResourceSubType"] == "Microsoft:Hyper-V:Virtual CD/DVD Disk")
    data = next(part for part in host.parts(guid, DISK) if part["HostResource"] == ["E:\\Exports\\Virtual Hard Disks\\data.vhdx"])
    first, second = host.parts(guid, CONNECTION)
    doomed: list[object] = [Ref(V2, part.class_name, {"InstanceID": str(part["InstanceID"])}) for part in (iso, data, first)]
    host.done("RemoveResourceSettings", ResourceSettings=doomed)  # type: ignore[arg-type]
    assert host.problems(guid) == []
    assert [part["InstanceID"] for part in host.parts(guid, CONNECTION)] == [second["InstanceID"]]
    assert [part["HostResource"] for part in host.parts(guid, DISK)] == [[EXPORTED_DISK]]
    assert len(host.parts(GUID, DISK)) == 3  # of the old machine
    assert vm.host.files.exists("E:\\Exports\\Virtual Hard Disks\\data.vhdx")


def test_refusals_of_settings(exported: Exported) -> None:
    host = Restorer(exported.host)
    guid = host.import_from(DEFINITION, fresh=True)
    [disk] = host.parts(guid, DISK)
    assert host.ended(host.point(disk, "E:\\nothing.vhdx"))["ErrorDescription"] == "The operation failed on 'E:\\nothing.vhdx'."
    assert host.ended(host.point(disk, DEFINITION))["ErrorCode"] == 32768  # no disk
    assert [part["HostResource"] for part in host.parts(guid, DISK)] == [[EXPORTED_DISK]]
    [live] = host.parts(GUID, DISK)
    assert host.point(live, EXPORTED_DISK)["ReturnValue"] == 32775  # a machine that runs
    [nic] = host.parts(GUID, CONNECTION)
    assert host.ended(host.connect(nic, None))["JobState"] == 7  # its network can change
    unknown = "Msvm_VirtualEthernetSwitch.CreationClassName=\"Msvm_VirtualEthernetSwitch\",Name=\"x\""
    text = f'<INSTANCE CLASSNAME="{CONNECTION}"><PROPERTY NAME="InstanceID" TYPE="string"><VALUE>{nic["InstanceID"]}</VALUE></PROPERTY>' \
           f'<PROPERTY.ARRAY NAME="HostResource" TYPE="string"><VALUE.ARRAY><VALUE>\\\\HV\\root\\virtualization\\v2:{unknown}</VALUE>' \
           '</VALUE.ARRAY></PROPERTY.ARRAY></INSTANCE>'
    assert host.call("ModifyResourceSettings", ResourceSettings=[text])["ReturnValue"] == 32773
    for method, parameter in (("ValidatePlannedSystem", "PlannedSystem"), ("RealizePlannedSystem", "PlannedSystem")):
        assert host.call(method, **{parameter: real_ref(GUID)})["ReturnValue"] == 32773
    assert host.call("DestroySystem", AffectedSystem=real_ref(GUID))["ReturnValue"] == 32775  # it runs


def test_a_disk_that_is_in_use_does_not_start_twice(exported: Exported) -> None:
    host = Restorer(exported.host)
    host.role.knobs.exported_paths = "source"
    exported.done("E:\\Again")
    guid = host.import_from(f"E:\\Again\\Virtual Machines\\{GUID}.vmcx", fresh=True)
    assert [part["HostResource"] for part in host.parts(guid, DISK)] == [["D:\\VMs\\web01\\Virtual Hard Disks\\web01.vhdx"]]
    host.realise(guid)
    assert host.power(guid, 2)["ErrorCode"] == 32774


def test_memory_that_others_have(patient: MakePatient) -> None:
    vm = Exported(patient(VmSpec(name="other"), memory_mb=1024))
    vm.done()
    vm.role.settings = HyperVSettings(memory_mb=3000)
    host = Restorer(vm.host)
    guid = host.import_from(DEFINITION, fresh=True)
    host.realise(guid)
    row = host.power(guid, 2)
    assert (row["JobState"], row["ErrorCode"]) == (10, 32768)
    assert host.host.row("Msvm_ComputerSystem", Name=guid)["EnabledState"] == 3


def test_the_keys_of_a_virtual_tpm_stay_behind(patient: MakePatient, bench: MakeBench) -> None:
    vm = Exported(patient(tpm=True, guest=GuestSpec()))
    vm.done()
    other = bench(name="other", settings=HyperVSettings(switches=("LAN",)))
    _carry(vm.host, other, "E:\\Exports", "E:\\Exports")
    host = Restorer(other)
    guid = host.import_from(DEFINITION)
    host.realise(guid)
    assert [row["TpmEnabled"] for row in host.parts(guid, "Msvm_SecuritySettingData")] == [True]
    assert host.power(guid, 2)["JobState"] == 10
    host.role.knobs.guardians.add("HV1")
    assert host.power(guid, 2)["JobState"] == 7


def test_a_planned_machine_that_somebody_left(bench: MakeBench) -> None:
    left = bench(VmSpec(name="left", vm_id=GUID, planned=True, state="off", folder="D:\\VMs\\left"))
    host = Restorer(left)
    host.ended(host.modify_system(GUID, ElementName="mine"))
    assert host.host.row("Msvm_PlannedComputerSystem", Name=GUID)["ElementName"] == "mine"
    assert host.problems(GUID) == ["33012"]
    disk = left.files.real_path("D:\\VMs\\left\\Virtual Hard Disks\\left.vhdx")
    host.destroy(planned_ref(GUID))
    assert (host.host.rows("Msvm_PlannedComputerSystem"), host.role.planned, disk.exists()) == ([], {}, True)
    assert host.call("DestroySystem", AffectedSystem=planned_ref(GUID))["ReturnValue"] == 32773


def test_the_service_restarts_in_between(exported: Exported) -> None:
    host = Restorer(exported.host)
    host.call("ImportSystemDefinition", SystemDefinitionFile=DEFINITION, SnapshotFolder="", GenerateNewSystemIdentifier=True)
    host.role.restart_vmms()
    host.host.clock.advance(60)
    assert host.host.rows("Msvm_PlannedComputerSystem") == []
    guid = host.import_from(DEFINITION, fresh=True)
    host.call("RealizePlannedSystem", PlannedSystem=planned_ref(guid))
    assert host.call("DestroySystem", AffectedSystem=planned_ref(guid))["ReturnValue"] == 32775
    host.role.restart_vmms()
    host.host.clock.advance(60)
    assert [row["Name"] for row in host.host.rows("Msvm_PlannedComputerSystem")] == [guid]  # a planned machine stays
    host.realise(guid)


def test_notes_that_get_lost(exported: Exported) -> None:
    host = Restorer(exported.host)
    host.role.knobs.imports_keep_notes = False
    assert host.system(host.import_from(DEFINITION, fresh=True))["Notes"] == [""]
    host.role.knobs.imports_keep_notes, host.role.knobs.exports_keep_notes = True, False
    exported.done("E:\\Again")
    assert host.system(host.import_from(DEFINITION.replace("Exports", "Again"), fresh=True))["Notes"] == [""]


def test_a_realisation_that_fails_leaves_the_planned_machine(patient: MakePatient) -> None:
    volumes = [VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"), VolumeSpec("F:", size=MIB, free=MIB)]
    vm = Exported(patient(volumes=volumes))
    vm.done()
    host = Restorer(vm.host)
    guid = host.import_from(DEFINITION, fresh=True)
    host.ended(host.modify_system(guid, ConfigurationDataRoot="F:\\VM"))
    assert "0x80070070" in host.failed("RealizePlannedSystem", PlannedSystem=planned_ref(guid))[0][1]
    assert vm.host.files.resolve("F:\\").volume.free_bytes == MIB
    host.ended(host.modify_system(guid, ConfigurationDataRoot="Q:\\VM"))
    assert host.problems(guid) == ["40016"]
    host.ended(host.modify_system(guid, ConfigurationDataRoot="E:\\VM", Notes=["kept"]))
    host.role.knobs.realising_keeps_notes = False
    assert host.realise(guid).notes == ""
    assert vm.host.files.exists(f"E:\\VM\\Virtual Machines\\{guid}.vmcx")


def test_a_share_without_rights(tmp_path: Path, patient: MakePatient) -> None:
    vm = Exported(patient())
    shares = (ShareSpec("backup", "C:\\Backup", ("example\\HV1$",)),)
    server = FileServer(FileServerSpec("fs1", "example.test", shares=shares), tmp_path / "fs1", SimClock(), vm.host.files.network)
    vm.done("\\\\fs1\\backup\\x")
    host = Restorer(vm.host)
    path = f"\\\\fs1\\backup\\x\\Virtual Machines\\{GUID}.vmcx"
    guid = host.import_from(path, fresh=True)
    assert host.problems(guid) == []
    server.files.shares["backup"] = ShareSpec("backup", "C:\\Backup", ("example\\somebody",))
    assert host.problems(guid) == ["40010"]
    errors = host.failed("ImportSystemDefinition", SystemDefinitionFile=path, SnapshotFolder="", GenerateNewSystemIdentifier=True)
    assert "0x80070005" in errors[0][1]


def test_hardware_of_the_old_host(patient: MakePatient, bench: MakeBench) -> None:
    vm = Exported(patient(state="off", disks=(DiskSpec(), DiskSpec(medium="passthrough", disk_number=3)), fibre_channel_ports=1))
    vm.done()
    assert [name for name in vm.files() if name.endswith("vhdx")] == ["Virtual Hard Disks\\web01.vhdx"]
    here = Restorer(vm.host)
    assert here.problems(here.import_from(DEFINITION, fresh=True)) == []
    other = bench(name="other", settings=HyperVSettings(switches=("LAN",)))
    _carry(vm.host, other, "E:\\Exports", "E:\\Exports")
    there = Restorer(other)
    assert there.problems(there.import_from(DEFINITION)) == ["40028", "40028"]


def test_files_beside_the_definition(patient: MakePatient) -> None:
    vm = Exported(patient(state="saved", tpm=True))
    vm.done(CopyVmRuntimeInformation=True)
    for kind in ("vmrs", "vmgs"):
        vm.host.files.remove_file(vm.host.files.resolve(DEFINITION.replace("vmcx", kind)))
    host = Restorer(vm.host)
    assert host.problems(host.import_from(DEFINITION, fresh=True)) == ["40024", "40024"]


def test_a_damaged_disk_does_not_start(exported: Exported) -> None:
    host = Restorer(exported.host)
    guid = host.import_from(DEFINITION, fresh=True)
    host.realise(guid)
    real = exported.host.files.real_path(EXPORTED_DISK)
    with real.open("r+b") as file:
        file.truncate(2 * MIB)
    row = host.power(guid, 2)
    assert (row["JobState"], host.host.row("Msvm_ComputerSystem", Name=guid)["EnabledState"]) == (10, 3)


def test_a_restored_machine_is_a_machine_like_others(exported: Exported) -> None:
    host = Restorer(exported.host)
    guid = host.import_from(DEFINITION, fresh=True)
    machine = host.realise(guid)
    host.power(guid, 2)
    exported.host.clock.advance(60)
    checkpoint = host.role.foreign_checkpoint(guid, kind="production")
    assert machine.disks[0].leaf is not checkpoint.files[0]
    host.role.foreign_removal(guid, checkpoint)
    exported.host.clock.advance(120)
    assert machine.disks[0].leaf is machine.disks[0].base
    given = {"ComputerSystem": real_ref(guid), "ExportDirectory": "E:\\Again", "ExportSettingData": settings(**CRASH)}
    host.done("ExportSystemDefinition", **given)
    assert exported.proof("web01.vhdx", "E:\\Again").holds_until(20)


def test_older_releases_change_resources_at_once(patient: MakePatient) -> None:
    vm = Exported(patient(os_version="2016", state="off"))
    vm.done()
    host = Restorer(vm.host)
    guid = host.import_from(f"E:\\Exports\\Virtual Machines\\{GUID}.vmcx", fresh=True)
    [nic] = host.parts(guid, CONNECTION)
    answer = host.connect(nic, None)
    assert (answer["ReturnValue"], answer["Job"], len(answer["ResultingResourceSettings"])) == (0, None, 1)  # type: ignore[arg-type]
    [disk] = host.parts(guid, DISK)
    assert host.point(disk, "E:\\nothing.vhdx")["ReturnValue"] == 32768


def test_a_machine_with_a_role_in_a_cluster_is_not_destroyed(bench: MakeBench, make_cluster: Callable[..., Cluster]) -> None:
    node = bench(VmSpec(name="csv", vm_id=GUID, state="off", clustered=True), cluster=make_cluster("hv1"))
    assert Restorer(node).call("DestroySystem", AffectedSystem=real_ref(GUID))["ReturnValue"] == 32775
