# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service singletons and virtual switches (operations 0.1, wire 1.4)."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.cim.model import Caller, CimValue
from simulator.cim.provider import MethodHandler
from simulator.hyperv.provider import Table
from simulator.hyperv.resources import switch_id

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV


@dataclass(frozen=True)
class ServiceKind:
    """Class, Name and label of one service."""

    class_name: str
    name: str
    label: str


SERVICES = (
    ServiceKind("Msvm_VirtualSystemManagementService", "vmms", "Hyper-V Virtual System Management Service"),
    ServiceKind("Msvm_VirtualSystemSnapshotService", "vssnapsvc", "Hyper-V Virtual System Snapshot Service"),
    ServiceKind("Msvm_ImageManagementService", "vhdsvc", "Hyper-V Image Management Service"),
    ServiceKind("Msvm_ReplicationService", "replicasvc", "Hyper-V Replication Service"),
    ServiceKind("Msvm_VirtualSystemMigrationService", "migrationwmi", "Hyper-V Migration Service"),
    ServiceKind("Msvm_VirtualSystemReferencePointService", "vsrpsvc", "Hyper-V Virtual System Reference Point Service"),
    ServiceKind("Msvm_CollectionSnapshotService", "colsnapsvc", "Hyper-V Collection Snapshot Service"),
    ServiceKind("Msvm_CollectionReferencePointService", "colrpsvc", "Hyper-V Collection Reference Point Service"),
)


class Service(Table[None]):
    """One service: exactly one instance."""

    def __init__(self, role: HyperV, kind: ServiceKind, methods: Mapping[str, MethodHandler]) -> None:
        self.kind = kind
        self.class_name = kind.class_name  # type: ignore[misc]
        super().__init__(role)
        self.methods = methods

    def items(self, caller: Caller) -> Iterable[None]:
        """The one instance."""
        return (None,)

    def values(self, item: None) -> dict[str, CimValue]:
        """The row."""
        return {
            "CreationClassName": self.class_name, "Name": self.kind.name, "SystemCreationClassName": "Msvm_ComputerSystem",
            "SystemName": self.role.name.upper(), "ElementName": self.kind.label, "Caption": self.kind.label,
            "Description": self.kind.label, "EnabledState": 2, "EnabledDefault": 2, "RequestedState": 12, "HealthState": 5,
            "OperationalStatus": [2], "PrimaryOwnerName": "Administrators", "PrimaryOwnerContact": "", "Started": True, "Status": "OK",
        }


class ServiceSettings(Table[None]):
    """Msvm_VirtualSystemManagementServiceSettingData: the default folders of the host."""

    class_name = "Msvm_VirtualSystemManagementServiceSettingData"

    def items(self, caller: Caller) -> Iterable[None]:
        """The one instance."""
        return (None,)

    def values(self, item: None) -> dict[str, CimValue]:
        """The row."""
        return {
            "InstanceID": "Microsoft:host", "ElementName": "Hyper-V Virtual System Management Service", "Caption": "Host settings",
            "DefaultExternalDataRoot": self.role.settings.data_root, "PrimaryOwnerName": "Administrators", "PrimaryOwnerContact": "",
            "DefaultVirtualHardDiskPath": self.role.settings.disk_root or "C:\\Users\\Public\\Documents\\Hyper-V\\Virtual Hard Disks",
            "MinimumMacAddress": "00155D000000", "MaximumMacAddress": "00155D0000FF", "NumaSpanningEnabled": True,
            "EnhancedSessionModeEnabled": False,
        }


class Switches(Table[str]):
    """The virtual switches of the host."""

    class_name = "Msvm_VirtualEthernetSwitch"

    def items(self, caller: Caller) -> Iterable[str]:
        """Their names."""
        return sorted(self.role.switches) if caller.is_hyperv_administrator else ()

    def values(self, item: str) -> dict[str, CimValue]:
        """One row."""
        return {
            "CreationClassName": self.class_name, "Name": switch_id(self.role.name, item), "ElementName": item, "Caption": "Virtual Switch",
            "Description": "Microsoft Virtual Switch", "EnabledState": 5, "EnabledDefault": 2, "HealthState": 5, "OperationalStatus": [2],
            "RequestedState": 12, "ResetCapability": 5, "MaxVMQOffloads": 0, "MaxIOVOffloads": 0,
        }
