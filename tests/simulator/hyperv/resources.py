# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resources below a configuration: disks, drives, controllers, network, memory, processors (operations 1.4).

A *device* is one such row before it is an instance: the associations need only its identity, the tables the rest.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from simulator.cim.model import CimValue, Ref
from simulator.cim.paths import format_object_path
from simulator.hyperv import ids
from simulator.hyperv.model import Configuration, Disk, Machine
from simulator.hyperv.provider import ConfigurationTable
from simulator.hyperv.spec import NicSpec

RASD = "Msvm_ResourceAllocationSettingData"
SASD = "Msvm_StorageAllocationSettingData"
FC_PORT = "Msvm_SyntheticFcPortSettingData"
NIC = "Msvm_SyntheticEthernetPortSettingData"
NIC_CONNECTION = "Msvm_EthernetPortAllocationSettingData"
MEMORY = "Msvm_MemorySettingData"
PROCESSOR = "Msvm_ProcessorSettingData"

_MEDIA = {
    # medium: (type of the drive, its subtype, subtype of the medium)
    "vhd": (17, "Microsoft:Hyper-V:Synthetic Disk Drive", "Microsoft:Hyper-V:Virtual Hard Disk"),
    "passthrough": (17, "Microsoft:Hyper-V:Physical Disk Drive", None),
    "dvd": (16, "Microsoft:Hyper-V:Synthetic DVD Drive", "Microsoft:Hyper-V:Virtual CD/DVD Disk"),
    "empty_dvd": (16, "Microsoft:Hyper-V:Synthetic DVD Drive", None),
    "floppy": (14, "Microsoft:Hyper-V:Synthetic Diskette Drive", "Microsoft:Hyper-V:Virtual Floppy Disk"),
    "pmem": (17, "Microsoft:Hyper-V:Synthetic Disk Drive", "Microsoft:Hyper-V:Persistent Memory Disk"),
}


@dataclass(frozen=True)
class Device:
    """One resource row: what it belongs to, its identity and what it is about."""

    configuration: Configuration
    class_name: str
    instance_id: str
    part: str
    """``controller``, ``drive``, ``medium``, ``port``, ``connection``, or ``""`` where a class has one kind only."""
    disk: Disk | None = None
    nic: NicSpec | None = None
    number: int = 0
    bus: str = ""

    @property
    def ref(self) -> Ref:
        """The reference of the row."""
        return ids.setting_ref(self.class_name, self.instance_id)


Generator: TypeAlias = Callable[[Configuration], Iterator[Device]]


def controller_id(configuration: Configuration, bus: str, number: int) -> str:
    """InstanceID of a disk controller."""
    if bus == "ide":
        return ids.settings_id(configuration.id, ids.IDE_CONTROLLER, number)
    return ids.settings_id(configuration.id, ids.derive(configuration.machine.hardware_id, "scsi", number), 0)


def drive_id(configuration: Configuration, disk: Disk) -> str:
    """InstanceID of a drive."""
    return f"{controller_id(configuration, disk.controller, disk.bus)}\\{disk.location}\\D"


def medium_id(configuration: Configuration, disk: Disk) -> str:
    """InstanceID of what is in a drive."""
    return f"{controller_id(configuration, disk.controller, disk.bus)}\\{disk.location}\\L"


def media(configuration: Configuration) -> Iterator[Device]:
    """The virtual disks and images."""
    for disk in configuration.disks:
        if _MEDIA[disk.medium][2] is not None and (disk.base is None or configuration.file_of(disk) is not None):
            yield Device(configuration, SASD, medium_id(configuration, disk), "medium", disk)


def drives(configuration: Configuration) -> Iterator[Device]:
    """Controllers and drives."""
    machine = configuration.machine
    buses = {(d.controller, d.bus) for d in configuration.disks}
    if machine.spec.generation == 1:
        buses |= {("ide", 0), ("ide", 1)}
    buses.add(("scsi", 0))
    for bus, number in sorted(buses):
        yield Device(configuration, RASD, controller_id(configuration, bus, number), "controller", number=number, bus=bus)
    for disk in configuration.disks:
        yield Device(configuration, RASD, drive_id(configuration, disk), "drive", disk)


def fibre_channel(configuration: Configuration) -> Iterator[Device]:
    """Virtual fibre-channel ports."""
    for number in range(configuration.spec.fibre_channel_ports):
        guid = ids.derive(configuration.machine.hardware_id, "fc", number)
        yield Device(configuration, FC_PORT, ids.settings_id(configuration.id, guid), "port", number=number)


def _nic_id(configuration: Configuration, number: int) -> str:
    return ids.settings_id(configuration.id, ids.derive(configuration.machine.hardware_id, "nic", number))


def nics(configuration: Configuration) -> Iterator[Device]:
    """Network adapters."""
    for number, nic in enumerate(configuration.spec.nics):
        if not nic.removed:
            yield Device(configuration, NIC, _nic_id(configuration, number), "port", nic=nic, number=number)


def connections(configuration: Configuration) -> Iterator[Device]:
    """The connections of network adapters to switches."""
    for number, nic in enumerate(configuration.spec.nics):
        if nic.connection and not nic.removed:
            yield Device(configuration, NIC_CONNECTION, f"{_nic_id(configuration, number)}\\C", "connection", nic=nic, number=number)


def memory(configuration: Configuration) -> Iterator[Device]:
    """The memory of a configuration."""
    yield Device(configuration, MEMORY, ids.settings_id(configuration.id, ids.MEMORY), "")


def processors(configuration: Configuration) -> Iterator[Device]:
    """The processors of a configuration."""
    yield Device(configuration, PROCESSOR, ids.settings_id(configuration.id, ids.PROCESSOR, 0), "")


GENERATORS: Mapping[str, Generator] = {
    SASD: media, RASD: drives, FC_PORT: fibre_channel, NIC: nics, NIC_CONNECTION: connections, MEMORY: memory, PROCESSOR: processors,
}


class ResourceTable(ConfigurationTable[Device]):
    """The rows of one resource class."""

    def of(self, configuration: Configuration) -> Iterable[Device]:
        """The devices of this class."""
        return GENERATORS[self.class_name](configuration)

    def path_of(self, ref: Ref) -> str:
        """An object path of this host, as it stands in string properties."""
        return format_object_path(ref, self.role.name.upper())


class StorageTable(ResourceTable):
    """Virtual disks, images, persistent memory disks."""

    class_name = SASD

    def values(self, item: Device) -> dict[str, CimValue]:
        """One row."""
        disk = item.disk
        assert disk is not None
        file = item.configuration.file_of(disk)
        path = file.path if file else disk.spec.path
        is_disk = disk.medium == "vhd"
        return {
            "InstanceID": item.instance_id, "ElementName": "Hard Disk Image" if is_disk else "ISO Disk Image",
            "Caption": "Hard Disk Image" if is_disk else "ISO Disk Image", "Description": "Settings for the image.",
            "ResourceType": 31, "ResourceSubType": _MEDIA[disk.medium][2], "HostResource": [path], "PoolID": "",
            "Parent": self.path_of(ids.setting_ref(RASD, drive_id(item.configuration, disk))), "Address": "",
            "PersistentReservationsSupported": disk.spec.shared, "SnapshotId": "", "IOPSLimit": 0, "IOPSReservation": 0,
            "IOPSAllocationUnits": "count", "StorageQoSPolicyID": None, "CachingMode": 0, "WriteHardeningMethod": 0,
            "IgnoreFlushes": False, "AllocationUnits": "count", "AutomaticAllocation": True, "AutomaticDeallocation": True,
            "ConsumerVisibility": 3, "Limit": 1, "Reservation": 1, "VirtualQuantity": 1, "VirtualQuantityUnits": "count", "Weight": 100,
        }


class DriveTable(ResourceTable):
    """Controllers and drives; a pass-through disk is a drive of its own subtype."""

    class_name = RASD

    def values(self, item: Device) -> dict[str, CimValue]:
        """One row."""
        common: dict[str, CimValue] = {
            "InstanceID": item.instance_id, "PoolID": "", "AllocationUnits": "count", "AutomaticAllocation": True,
            "AutomaticDeallocation": True, "ConsumerVisibility": 3, "Limit": 1, "Reservation": 1, "VirtualQuantity": 1,
            "VirtualQuantityUnits": "count", "Weight": 0,
        }
        return common | (self._drive(item.configuration, item.disk) if item.disk else self._controller(item))

    def _controller(self, item: Device) -> dict[str, CimValue]:
        ide = item.bus == "ide"
        name = f"IDE Controller {item.number}" if ide else "SCSI Controller"
        return {"ElementName": name, "Caption": name, "Description": "Settings for the controller.", "Address": str(item.number),
                "ResourceType": 5 if ide else 6, "VirtualSystemIdentifiers": None if ide else [f"{{{ids.derive(item.instance_id)}}}"],
                "ResourceSubType": "Microsoft:Hyper-V:Emulated IDE Controller" if ide else "Microsoft:Hyper-V:Synthetic SCSI Controller"}

    def _drive(self, configuration: Configuration, disk: Disk) -> dict[str, CimValue]:
        kind, subtype, _unused = _MEDIA[disk.medium]
        name = {16: "DVD Drive", 14: "Diskette Drive"}.get(kind, "Hard Drive")
        parent = ids.setting_ref(RASD, controller_id(configuration, disk.controller, disk.bus))
        values: dict[str, CimValue] = {
            "ElementName": name, "Caption": name, "Description": "Settings for the drive.", "ResourceType": kind,
            "ResourceSubType": subtype, "Parent": self.path_of(parent), "AddressOnParent": str(disk.location),
        }
        if disk.medium == "passthrough":
            values["HostResource"] = [self.path_of(physical_disk(self.role.name.upper(), disk.spec.disk_number))]
        return values


def physical_disk(host: str, number: int) -> Ref:
    """The host's disk behind a pass-through drive."""
    return Ref(ids.V2, "Msvm_DiskDrive", {
        "CreationClassName": "Msvm_DiskDrive", "DeviceID": f"Microsoft:353B3BE8-310C-4CF4-839E-4E1B14616136\\{number}",
        "SystemCreationClassName": "Msvm_ComputerSystem", "SystemName": host})


def switch_id(host: str, name: str) -> str:
    """The GUID of a virtual switch of a host."""
    return ids.derive(host, "switch", name)


def mac_address(machine: Machine, number: int) -> str:
    """The dynamic address of an adapter, twelve hexadecimal digits."""
    return "00155D" + ids.derive(machine.id, "mac", number)[:6]


class FcPortTable(ResourceTable):
    """Virtual fibre-channel ports."""

    class_name = FC_PORT

    def values(self, item: Device) -> dict[str, CimValue]:
        """One row."""
        wwn = "C003FF" + ids.derive(item.instance_id).replace("-", "")[:10]
        return {"InstanceID": item.instance_id, "ElementName": "Fibre Channel Adapter", "Caption": "Fibre Channel Adapter",
                "ResourceType": 7, "ResourceSubType": "Microsoft:Hyper-V:Synthetic FibreChannel Port", "ChapEnabled": False,
                "VirtualPortWWNN": "C003FF0000FFFF00", "VirtualPortWWPN": wwn, "SecondaryWWNN": "C003FF0000FFFF00",
                "SecondaryWWPN": wwn[:-1] + "0", "VirtualQuantity": 1, "VirtualQuantityUnits": "count", "PoolID": ""}


class NicTable(ResourceTable):
    """Network adapters."""

    class_name = NIC

    def values(self, item: Device) -> dict[str, CimValue]:
        """One row."""
        nic = item.nic
        assert nic is not None
        return {"InstanceID": item.instance_id, "ElementName": nic.name, "Caption": nic.name, "ResourceType": 10,
                "ResourceSubType": "Microsoft:Hyper-V:Synthetic Ethernet Port", "PoolID": "", "ClusterMonitored": True,
                "Address": nic.mac or mac_address(item.configuration.machine, item.number), "StaticMacAddress": nic.mac is not None,
                "VirtualSystemIdentifiers": [f"{{{item.instance_id.rpartition(chr(92))[2]}}}"], "DeviceNamingEnabled": False,
                "AllocationUnits": "count", "AutomaticAllocation": True, "AutomaticDeallocation": True, "ConsumerVisibility": 3,
                "Limit": 1, "Reservation": 1, "VirtualQuantity": 1, "VirtualQuantityUnits": "count", "Weight": 0,
                "AllowPacketDirect": False, "InterruptModeration": True, "NumaAwarePlacement": False}


class NicConnectionTable(ResourceTable):
    """The connections of network adapters."""

    class_name = NIC_CONNECTION

    def values(self, item: Device) -> dict[str, CimValue]:
        """One row."""
        nic = item.nic
        assert nic is not None
        switch = None if nic.switch is None else ids.system_ref(switch_id(self.role.name, nic.switch), "Msvm_VirtualEthernetSwitch")
        return {"InstanceID": item.instance_id, "ElementName": nic.name, "Caption": "Ethernet Switch Port Settings", "ResourceType": 33,
                "ResourceSubType": "Microsoft:Hyper-V:Ethernet Connection", "PoolID": "", "EnabledState": 3 if switch is None else 2,
                "HostResource": None if switch is None else [self.path_of(switch)],
                "Parent": self.path_of(ids.setting_ref(NIC, item.instance_id[:-2])), "LastKnownSwitchName": nic.switch or nic.known_switch,
                "RequiredFeatures": None, "TestReplicaPoolID": "", "TestReplicaSwitchName": "", "AutomaticAllocation": True,
                "AutomaticDeallocation": True, "ConsumerVisibility": 3, "VirtualQuantity": 1, "VirtualQuantityUnits": "count", "Weight": 0}


class MemoryTable(ResourceTable):
    """Memory settings, in MB."""

    class_name = MEMORY

    def values(self, item: Device) -> dict[str, CimValue]:
        """One row."""
        spec = item.configuration.spec
        return {"InstanceID": item.instance_id, "ElementName": "Memory", "Caption": "Memory", "ResourceType": 4,
                "ResourceSubType": "Microsoft:Hyper-V:Memory", "AllocationUnits": "byte * 2^20", "PoolID": "",
                "VirtualQuantity": spec.memory_mb, "Reservation": spec.memory_mb if not spec.dynamic_memory else spec.memory_mb // 2,
                "Limit": spec.memory_mb if not spec.dynamic_memory else spec.memory_mb * 4, "VirtualQuantityUnits": "byte * 2^20",
                "DynamicMemoryEnabled": spec.dynamic_memory, "TargetMemoryBuffer": 20, "Weight": 5000, "SwapFilesInUse": False,
                "HugePagesEnabled": False, "IsVirtualized": True,
                "AutomaticAllocation": True, "AutomaticDeallocation": True, "ConsumerVisibility": 3}


class ProcessorTable(ResourceTable):
    """Processor settings; Limit and Reservation are thousandths of a percent (wire 3.3)."""

    class_name = PROCESSOR

    def values(self, item: Device) -> dict[str, CimValue]:
        """One row."""
        count = item.configuration.spec.processors
        return {"InstanceID": item.instance_id, "ElementName": "Processor", "Caption": "Processor", "ResourceType": 3,
                "ResourceSubType": "Microsoft:Hyper-V:Processor", "AllocationUnits": "percent / 1000", "PoolID": "",
                "VirtualQuantity": count, "VirtualQuantityUnits": "count", "Limit": 100000, "Reservation": 0, "Weight": 100,
                "LimitCPUID": False, "LimitProcessorFeatures": False,
                "EnableHostResourceProtection": False, "ExposeVirtualizationExtensions": False, "HwThreadsPerCore": 0,
                "AutomaticAllocation": True, "AutomaticDeallocation": True, "ConsumerVisibility": 3}


TABLES: tuple[type[ResourceTable], ...] = (
    StorageTable, DriveTable, FcPortTable, NicTable, NicConnectionTable, MemoryTable, ProcessorTable)
