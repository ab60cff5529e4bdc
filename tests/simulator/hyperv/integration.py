# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Integration services: what runs inside the guest as the host sees it, and what is configured (operations 1.3)."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.cim.cimxml import format_instance
from simulator.cim.model import CimValue, Ref
from simulator.hyperv import ids
from simulator.hyperv.model import Configuration, Machine
from simulator.hyperv.provider import ConfigurationTable, MachineTable
from simulator.hyperv.spec import ComponentSpec, GuestSpec

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

_STATUS = {"ok": 2, "degraded": 3, "incompatible": 7, "no_contact": 12, "lost": 13, "paused": 15}


@dataclass(frozen=True)
class Kind:
    """One of the services."""

    field: str
    guid: str
    live_class: str
    settings_class: str
    label: str
    other_type: str


KINDS = (
    Kind("heartbeat", ids.HEARTBEAT, "Msvm_HeartbeatComponent", "Msvm_HeartbeatComponentSettingData", "Heartbeat",
         "Microsoft Heartbeat Component"),
    Kind("vss", ids.VSS, "Msvm_VssComponent", "Msvm_VssComponentSettingData", "VSS", "Microsoft:Hyper-V:VSS Component"),
    Kind("kvp", ids.KVP, "Msvm_KvpExchangeComponent", "Msvm_KvpExchangeComponentSettingData", "Key-Value Pair Exchange",
         "Microsoft:Hyper-V:Key-Value Pair Exchange Component"),
    Kind("shutdown", ids.SHUTDOWN, "Msvm_ShutdownComponent", "Msvm_ShutdownComponentSettingData", "Shutdown",
         "Microsoft:Hyper-V:Shutdown Component"),
)


def component(machine: Machine, field: str) -> ComponentSpec:
    """The present state of one service of a machine."""
    found: ComponentSpec = machine.components.get(field) or getattr(machine.spec.integration, field)
    return replace(found, status="no_contact") if machine.live and _boots(machine) else found


def _boots(machine: Machine) -> bool:
    """Whether the guest has not come up yet, or never does."""
    never = machine.role.knobs.never_boots
    return machine.role.clock.now() < machine.answers_from or bool(never & {machine.id, machine.name})


def live_status(machine: Machine, field: str) -> list[int]:
    """OperationalStatus of a live component (operations 1.3)."""
    spec = component(machine, field)
    if not spec.enabled:
        return [12]
    status = _STATUS[spec.status]
    if field != "heartbeat":
        return [status]
    if machine.state == "paused" and status == 2:
        return [15]
    return {2: [2, 2], 3: [3, 32775], 13: [13, 32783]}.get(status, [status])


def device_id(machine: Machine, guid: str) -> str:
    """DeviceID of a live component."""
    return ids.settings_id(machine.id, guid)


def live_refs(machine: Machine) -> list[Ref]:
    """References of the live components; none unless the guest runs."""
    if not machine.live:
        return []
    return [ids.device_ref(kind.live_class, device_id(machine, kind.guid), machine.id) for kind in KINDS]


class LiveComponent(MachineTable[Machine]):
    """The live side of one service; instances exist only while the guest runs."""

    def __init__(self, role: HyperV, kind: Kind) -> None:
        self.kind = kind
        self.class_name = kind.live_class  # type: ignore[misc]
        self._texts: dict[str, list[str]] = {}
        super().__init__(role)

    def of(self, machine: Machine) -> Iterable[Machine]:
        """The machine when it runs."""
        return (machine,) if machine.live else ()

    def values(self, item: Machine) -> dict[str, CimValue]:
        """One row."""
        spec = component(item, self.kind.field)
        values: dict[str, CimValue] = {
            "CreationClassName": self.kind.live_class, "DeviceID": device_id(item, self.kind.guid),
            "SystemCreationClassName": "Msvm_ComputerSystem", "SystemName": item.id, "ElementName": self.kind.label,
            "Name": self.kind.label, "Caption": self.kind.label, "Description": f"Microsoft Virtual {self.kind.label}",
            "EnabledState": 2 if spec.enabled else 3, "EnabledDefault": 7, "RequestedState": 12, "HealthState": 5,
            "OperationalStatus": list(live_status(item, self.kind.field)),
        }
        if self.kind.field == "kvp":
            values["GuestIntrinsicExchangeItems"] = self._intrinsic(item)
            values["GuestExchangeItems"] = None
        return values

    def _intrinsic(self, machine: Machine) -> list[CimValue] | None:
        spec = component(machine, "kvp")
        guest = machine.spec.guest
        if guest is None or not spec.enabled or spec.status not in ("ok", "degraded"):
            return None
        texts = self._texts.get(machine.id)
        if texts is None:
            shape = self.role.shapes.of(ids.V2, "Msvm_KvpExchangeDataItem")
            texts = [format_instance(self.role.schema, shape({"Name": name, "Data": data, "Source": 2}))
                     for name, data in exchange_items(machine, guest).items()]
            self._texts[machine.id] = texts  # a guest does not change what it is
        return list(texts)


def exchange_items(machine: Machine, guest: GuestSpec) -> Mapping[str, str]:
    """The intrinsic items of a guest, in the order Windows has them."""
    fqdn = guest.fqdn or (machine.spec.name if machine.spec.name.replace("-", "").isalnum() and machine.spec.name.isascii() else "guest")
    parts = [*guest.os_version.split("."), "0", "0", "0"]
    windows = guest.os_name.startswith("Windows")
    items = {
        "FullyQualifiedDomainName": fqdn, "OSName": guest.os_name, "OSVersion": guest.os_version,
        "OSMajorVersion": parts[0], "OSMinorVersion": parts[1], "OSBuildNumber": parts[2], "OSPlatformId": "2" if windows else "3",
        "ProcessorArchitecture": "9", "IntegrationServicesVersion": guest.integration_version,
        "NetworkAddressIPv4": ";".join(guest.addresses), "NetworkAddressIPv6": "",
    }
    return items | dict(guest.items)


class ComponentSettings(ConfigurationTable[Configuration]):
    """The configured side of one service; exists in every power state."""

    def __init__(self, role: HyperV, kind: Kind) -> None:
        self.kind = kind
        self.class_name = kind.settings_class  # type: ignore[misc]
        super().__init__(role)

    def of(self, configuration: Configuration) -> Iterable[Configuration]:
        """One for each configuration."""
        return (configuration,)

    def values(self, item: Configuration) -> dict[str, CimValue]:
        """One row."""
        spec = component(item.machine, self.kind.field)
        values: dict[str, CimValue] = {
            "InstanceID": settings_ref(item, self.kind).keys["InstanceID"], "ElementName": self.kind.label, "Caption": self.kind.label,
            "Description": f"Microsoft Virtual {self.kind.label} Setting Data", "EnabledState": 2 if spec.enabled else 3,
            "ResourceType": 1, "OtherResourceType": self.kind.other_type, "ResourceSubType": "", "PoolID": "",
            "AllocationUnits": "Integration Components" if self.kind.field == "heartbeat" else "count", "AutomaticAllocation": True,
            "AutomaticDeallocation": True, "ConsumerVisibility": 3, "Limit": 1, "Reservation": 1, "VirtualQuantity": 1,
            "VirtualQuantityUnits": "count", "Weight": 0,
        }
        if self.kind.field == "heartbeat":
            values |= {"ErrorThreshold": 2, "Interval": 2000, "Latency": 1000}
        return values


def settings_ref(configuration: Configuration, kind: Kind) -> Ref:
    """The reference of the configured side."""
    return ids.setting_ref(kind.settings_class, ids.settings_id(configuration.id, kind.guid))
