# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks, drives, networks and other resources; integration services."""
from __future__ import annotations

import pytest
from simulator.hyperv.spec import CheckpointSpec, ComponentSpec, DiskSpec, GuestSpec, IntegrationSpec, NicSpec, VmSpec
from unit.simulator.hyperv.bench import V2, Bench, MakeBench, embedded

GUID = "0A1B2C3D-0000-4000-8000-00000000ABCD"
CHECKPOINT = "0A1B2C3D-1111-4000-8000-00000000ABCD"


def storage(host: Bench) -> list[tuple[object, object]]:
    return [(r["ResourceSubType"], r["HostResource"]) for r in host.rows("Msvm_StorageAllocationSettingData")]


def test_a_disk_its_drive_and_its_controller_are_linked(bench: MakeBench) -> None:
    host = bench(VmSpec(name="web01", vm_id=GUID, folder="D:\\VMs\\web01"))
    disk = host.rows("Msvm_StorageAllocationSettingData")[0]
    assert disk["HostResource"] == ["D:\\VMs\\web01\\Virtual Hard Disks\\web01.vhdx"]
    assert (disk["ResourceType"], disk["ResourceSubType"]) == (31, "Microsoft:Hyper-V:Virtual Hard Disk")
    drives = {str(r["InstanceID"]): r for r in host.rows("Msvm_ResourceAllocationSettingData")}
    drive_id = str(disk["InstanceID"])[:-1] + "D"
    escaped = drive_id.replace("\\", "\\\\")
    assert disk["Parent"] == f'\\\\HV1\\root\\virtualization\\v2:Msvm_ResourceAllocationSettingData.InstanceID="{escaped}"'
    assert (drives[drive_id]["ResourceSubType"], drives[drive_id]["AddressOnParent"]) == ("Microsoft:Hyper-V:Synthetic Disk Drive", "0")
    controller = drives[drive_id.rsplit("\\", 2)[0]]
    assert controller["ResourceSubType"] == "Microsoft:Hyper-V:Synthetic SCSI Controller"


def test_first_generation_starts_from_ide(bench: MakeBench) -> None:
    host = bench(VmSpec(generation=1, vm_id=GUID, disks=(DiskSpec(), DiskSpec(medium="dvd", path="D:\\a.iso"), DiskSpec())))
    ide = f"Microsoft:{GUID}\\83F8638B-8DCA-4152-9EDA-2CA8B33039B4\\0"
    found = [str(r["InstanceID"]) for r in host.rows("Msvm_StorageAllocationSettingData")]
    assert found[:2] == [f"{ide}\\0\\L", f"{ide}\\1\\L"]
    assert not found[2].startswith(ide)
    assert storage(host)[1] == ("Microsoft:Hyper-V:Virtual CD/DVD Disk", ["D:\\a.iso"])
    assert host.rows("Msvm_VirtualSystemSettingData")[0]["VirtualSystemSubType"] == "Microsoft:Hyper-V:SubType:1"


def test_kinds_of_disks(bench: MakeBench) -> None:
    host = bench(VmSpec(fibre_channel_ports=1, disks=(
        DiskSpec(medium="passthrough", disk_number=7), DiskSpec(medium="empty_dvd"), DiskSpec(path="D:\\s.vhds", shared=True),
        DiskSpec(path="\\\\fs1\\vms\\a.vhdx"), DiskSpec(path="D:\\p.vhdpmem", medium="pmem"))))
    assert storage(host) == [
        ("Microsoft:Hyper-V:Virtual Hard Disk", ["D:\\s.vhds"]), ("Microsoft:Hyper-V:Virtual Hard Disk", ["\\\\fs1\\vms\\a.vhdx"]),
        ("Microsoft:Hyper-V:Persistent Memory Disk", ["D:\\p.vhdpmem"])]
    shared = [r["PersistentReservationsSupported"] for r in host.rows("Msvm_StorageAllocationSettingData")]
    assert shared == [True, False, False]
    drives = [r for r in host.rows("Msvm_ResourceAllocationSettingData") if r["ResourceType"] in (16, 17)]
    physical = [r for r in drives if r["ResourceSubType"] == "Microsoft:Hyper-V:Physical Disk Drive"]
    assert len(physical) == 1
    resource = physical[0]["HostResource"]
    assert isinstance(resource, list)
    assert '.CreationClassName="Msvm_DiskDrive",DeviceID="Microsoft:353B3BE8-310C-4CF4-839E-4E1B14616136\\\\7"' in str(resource[0])
    assert len(host.rows("Msvm_SyntheticFcPortSettingData")) == 1


def test_checkpoints_freeze_files_and_the_machine_goes_on_in_a_new_one(bench: MakeBench) -> None:
    host = bench(VmSpec(name="t", disks=(DiskSpec(path="D:\\t.vhdx"),), current_parent="c", checkpoints=(
        CheckpointSpec("a", "a"), CheckpointSpec("b", "b", parent="a"), CheckpointSpec("c", "c", parent="a"))))
    owner = {str(r["ConfigurationID"]): str(r["ElementName"]) for r in host.rows("Msvm_VirtualSystemSettingData")}
    leaf = {owner[str(r["InstanceID"])[10:46]]: str(r["HostResource"][0])  # type: ignore[index]
            for r in host.rows("Msvm_StorageAllocationSettingData")}
    assert leaf["a"] == "D:\\t.vhdx"
    assert len(set(leaf.values())) == 4
    assert all(path.startswith("D:\\t_") and path.endswith(".avhdx") for name, path in leaf.items() if name != "a")
    chain = [f.path for f in host.role.find("t").disks[0].leaf.chain()]  # type: ignore[union-attr]
    assert chain == [leaf["t"], leaf["c"], leaf["a"]]


def test_orphans_and_shared_templates(bench: MakeBench) -> None:
    template = "D:\\base.vhdx"
    host = bench(VmSpec(name="a", disks=(DiskSpec(path="D:\\a.vhdx", parent=template),)),
                 VmSpec(name="b", disks=(DiskSpec(path="D:\\b.vhdx", parent=template, orphans=2),)))
    first, second = (host.role.find(name).disks[0].leaf for name in "ab")
    assert first is not None
    assert second is not None
    assert [f.path for f in first.chain()] == ["D:\\a.vhdx", template]
    assert [f.path for f in second.chain()][2:] == ["D:\\b.vhdx", template]
    assert first.chain()[-1] is second.chain()[-1]


def test_memory_processors_and_networks(bench: MakeBench) -> None:
    host = bench(VmSpec(processors=6, memory_mb=3072, nics=(NicSpec("one", "LAN"), NicSpec("two", None, "00155D010203"))))
    assert [r["VirtualQuantity"] for r in host.rows("Msvm_ProcessorSettingData")] == [6]
    assert [(r["VirtualQuantity"], r["DynamicMemoryEnabled"]) for r in host.rows("Msvm_MemorySettingData")] == [(3072, False)]
    ports = host.rows("Msvm_SyntheticEthernetPortSettingData")
    assert [(r["ElementName"], r["StaticMacAddress"]) for r in ports] == [("one", False), ("two", True)]
    connected, loose = host.rows("Msvm_EthernetPortAllocationSettingData")
    switch = host.rows("Msvm_VirtualEthernetSwitch")[0]
    assert (connected["EnabledState"], loose["EnabledState"], loose["HostResource"]) == (2, 3, None)
    assert connected["HostResource"] == [
        '\\\\HV1\\root\\virtualization\\v2:Msvm_VirtualEthernetSwitch.CreationClassName="Msvm_VirtualEthernetSwitch",'
        f'Name="{switch["Name"]}"']


def test_security_settings_exist_since_2016(bench: MakeBench) -> None:
    host = bench(VmSpec(name="a"), VmSpec(name="b", tpm=True), VmSpec(name="c", shielded=True))
    assert [(r["TpmEnabled"], r["ShieldingRequested"]) for r in host.rows("Msvm_SecuritySettingData")] == [
        (False, False), (True, False), (True, True)]
    older = bench(VmSpec(tpm=True), name="old", os_version="2012R2")
    assert older.repository.knows(V2, "Msvm_SecuritySettingData") is False


@pytest.mark.parametrize(("component", "heartbeat", "vss", "enabled"), [
    (ComponentSpec(), [2, 2], [2], 2),
    (ComponentSpec(status="degraded"), [3, 32775], [3], 2),
    (ComponentSpec(status="incompatible"), [7], [7], 2),
    (ComponentSpec(status="no_contact"), [12], [12], 2),
    (ComponentSpec(status="lost"), [13, 32783], [13], 2),
    (ComponentSpec(enabled=False), [12], [12], 3),
])
def test_live_components(bench: MakeBench, component: ComponentSpec, heartbeat: list[int], vss: list[int], enabled: int) -> None:
    host = bench(VmSpec(vm_id=GUID, integration=IntegrationSpec(component, component, component, component)))
    for class_name, status in (("Msvm_HeartbeatComponent", heartbeat), ("Msvm_VssComponent", vss), ("Msvm_ShutdownComponent", vss)):
        row = host.rows(class_name)[0]
        assert (row["SystemName"], row["OperationalStatus"], row["EnabledState"]) == (GUID, status, enabled)
        assert host.rows(f"{class_name}SettingData")[0]["EnabledState"] == enabled


@pytest.mark.parametrize(("state", "count"), [("running", 1), ("paused", 1), ("off", 0), ("saved", 0), ("starting", 0)])
def test_components_live_only_in_running_machines(bench: MakeBench, state: str, count: int) -> None:
    host = bench(VmSpec(state=state))  # type: ignore[arg-type]
    for class_name in ("Msvm_HeartbeatComponent", "Msvm_VssComponent", "Msvm_KvpExchangeComponent", "Msvm_ShutdownComponent"):
        assert len(host.rows(class_name)) == count
        assert len(host.rows(f"{class_name}SettingData")) == 1


def test_a_paused_machine_has_a_paused_heartbeat(bench: MakeBench) -> None:
    assert bench(VmSpec(state="paused")).rows("Msvm_HeartbeatComponent")[0]["OperationalStatus"] == [15]


def test_what_the_guest_tells(bench: MakeBench) -> None:
    host = bench(VmSpec(name="web01", guest=GuestSpec(items={"OSName": "a <b> & 'c' \"d\"", "Extra": "\u202ex"})))
    items = host.rows("Msvm_KvpExchangeComponent")[0]["GuestIntrinsicExchangeItems"]
    assert isinstance(items, list)
    told = {str(i["Name"]): i["Data"] for i in map(embedded, items)}
    wanted = {"FullyQualifiedDomainName": "web01", "OSName": "a <b> & 'c' \"d\"", "OSVersion": "10.0.20348", "OSMajorVersion": "10",
              "OSBuildNumber": "20348", "Extra": "\u202ex", "ProcessorArchitecture": "9"}
    assert {k: told[k] for k in wanted} == wanted


@pytest.mark.parametrize("spec", [
    VmSpec(guest=None), VmSpec(integration=IntegrationSpec(kvp=ComponentSpec(enabled=False))), VmSpec(integration=IntegrationSpec.none())])
def test_a_silent_guest(bench: MakeBench, spec: VmSpec) -> None:
    assert bench(spec).rows("Msvm_KvpExchangeComponent")[0]["GuestIntrinsicExchangeItems"] is None
