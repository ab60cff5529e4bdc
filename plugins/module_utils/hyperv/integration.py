# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Integration services and the guest, as the host sees them (operations 1.3): five enumerations for all VMs."""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.available import enumerate_available
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.cimxml import parse_instance
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, as_guid, owner_of
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import ProtocolError

_STATUS: Mapping[int, str] = {2: "ok", 3: "degraded", 7: "incompatible", 12: "no_contact", 13: "lost", 15: "paused"}
_ANSWERING = (2, 3)
_KVP_WANTED: Mapping[str, str] = {
    "OSName": "os_name", "OSVersion": "os_version", "OSBuildNumber": "os_build", "OSPlatformId": "os_platform",
    "FullyQualifiedDomainName": "fqdn", "IntegrationServicesVersion": "integration_services_version",
    "ProcessorArchitecture": "processor_architecture",
}
_KVP_MENTIONED = re.compile("|".join(_KVP_WANTED))


@dataclass(frozen=True)
class Service:
    """One integration service: configured (None = no setting found) and its live status (None = no component: VM not running)."""

    enabled: bool | None = None
    status: str | None = None
    answering: bool | None = None


@dataclass(frozen=True)
class Guest:
    """What the guest told through key-value exchange; all None when it told nothing."""

    os_name: str | None = None
    os_version: str | None = None
    os_build: str | None = None
    os_platform: str | None = None
    fqdn: str | None = None
    integration_services_version: str | None = None
    processor_architecture: str | None = None

    @property
    def family(self) -> str:
        """``windows``, ``linux``, ``other`` or ``unknown``.

        Windows guests report platform id 2 and a name with *Windows*, a brand that is not translated; Linux daemons report
        the distribution or *Linux*.
        """
        name = (self.os_name or "").lower()
        if "windows" in name:
            return "windows"
        if not name and not self.os_platform:
            return "unknown"
        if "freebsd" in name or "bsd" in name:
            return "other"
        return "linux" if name else "unknown"


@dataclass(frozen=True)
class Integration:
    """Integration services of one VM."""

    backup: Service = field(default_factory=Service)
    heartbeat: Service = field(default_factory=Service)
    guest: Guest = field(default_factory=Guest)


def services(components: Iterable[Instance], settings: Iterable[Instance]) -> dict[str, Service]:
    """Live components and settings of one kind, joined by VM GUID. A component exists only for a running VM."""
    enabled: dict[str, bool | None] = {}
    for row in settings:
        vm_id = owner_of(row.text("InstanceID"))
        state = row.integer("EnabledState")
        if vm_id is not None:
            enabled[vm_id] = None if state is None else state == 2
    found = {vm_id: Service(enabled=value) for vm_id, value in enabled.items()}
    for row in components:
        vm_id = as_guid(row.text("SystemName"))
        if vm_id is None:
            continue
        status = row.integers("OperationalStatus")
        first = status[0] if status else None
        found[vm_id] = Service(
            enabled=enabled.get(vm_id),
            status=None if first is None else _STATUS.get(first, f"unknown_{first}"),
            answering=None if first is None else first in _ANSWERING)
    return found


def guests(components: Iterable[Instance]) -> dict[str, Guest]:
    """Guest facts by VM GUID. Items are CIM-XML text written from what the guest sent: one that cannot be read is skipped."""
    found = {}
    for row in components:
        vm_id = as_guid(row.text("SystemName"))
        if vm_id is None:
            continue
        values: dict[str, str] = {}
        for text in row.texts("GuestIntrinsicExchangeItems"):
            if not _KVP_MENTIONED.search(text):
                continue  # a guest tells some fifteen items; reading them is a sixth of all work on a large host
            try:
                item = parse_instance(text, NAMESPACE)
                name, data = item.text("Name"), item.text("Data")
            except (ValueError, ProtocolError):
                continue
            if name is not None and name in _KVP_WANTED and data:
                values[_KVP_WANTED[name]] = data[:256]
        found[vm_id] = Guest(**values)
    return found


def read_integration(reader: CimReader, *, heartbeat: bool = True) -> dict[str, Integration]:
    """Integration services of every VM; five requests, three without ``heartbeat``. What the host lacks leaves its part unknown."""
    backup = _services_of(reader, "Msvm_VssComponent")
    beating = _services_of(reader, "Msvm_HeartbeatComponent") if heartbeat else {}
    told = guests(enumerate_available(reader, NAMESPACE, "Msvm_KvpExchangeComponent") or [])
    return {vm_id: Integration(backup.get(vm_id, Service()), beating.get(vm_id, Service()), told.get(vm_id, Guest()))
            for vm_id in {*backup, *beating, *told}}


def _services_of(reader: CimReader, component: str) -> dict[str, Service]:
    live, settings = (enumerate_available(reader, NAMESPACE, name) or [] for name in (component, f"{component}SettingData"))
    return services(live, settings)
