# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planned virtual machines: imported, and not realised yet (operations 3.5). What a host has of them, and of what they consist."""
from __future__ import annotations

import ntpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.available import enumerate_available
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, as_guid, owner_of
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Settings, read_settings

PLANNED = "Msvm_PlannedComputerSystem"
SETTINGS = "Msvm_VirtualSystemSettingData"
PORT = "Msvm_EthernetPortAllocationSettingData"
STORAGE = "Msvm_StorageAllocationSettingData"
_TYPE = "microsoft:hyper-v:system:planned"
_MISSING = "microsoft:hyper-v:snapshot:missing"
_VIRTUAL_DISK = "microsoft:hyper-v:virtual hard disk"
_CONNECTED = 2


@dataclass(frozen=True)
class Planned:
    """One planned machine; ``settings`` None when the host shows none for it."""

    vm_id: str
    name: str
    settings: Settings | None

    @property
    def reference(self) -> Reference:
        """Its address."""
        return reference_of(self.vm_id)

    @property
    def notes(self) -> str | None:
        """Its notes."""
        return None if self.settings is None else self.settings.notes


@dataclass(frozen=True)
class Storage:
    """One medium of a machine or of one of its checkpoints (``owner_id``): a virtual disk, or an image (``is_disk`` False)."""

    owner_id: str
    reference: Reference
    is_disk: bool
    path: str


@dataclass(frozen=True)
class Port:
    """The connection of one network adapter; ``switch`` is the name of the switch it is, or was, connected to."""

    owner_id: str
    reference: Reference
    name: str
    connected: bool
    switch: str | None


def reference_of(vm_id: str) -> Reference:
    """The address of a planned machine."""
    return Reference(NAMESPACE, PLANNED, {"CreationClassName": PLANNED, "Name": vm_id})


def from_rows(systems: Iterable[Instance], rows: Iterable[Instance]) -> tuple[Planned, ...]:
    """Planned machines, by GUID."""
    settings: dict[str, Settings] = {}
    for row in rows:
        vm_id = as_guid(row.text("VirtualSystemIdentifier"))
        if vm_id is not None and (row.text("VirtualSystemType") or "").lower() == _TYPE:
            settings[vm_id] = read_settings(row)
    found = []
    for row in systems:
        vm_id = as_guid(row.text("Name"))
        if vm_id is not None:
            found.append(Planned(vm_id, row.text("ElementName") or "", settings.get(vm_id)))
    return tuple(sorted(found, key=lambda one: one.vm_id))


def of_settings(rows: Iterable[Instance]) -> tuple[Planned, ...]:
    """Planned machines as their settings alone show them."""
    found = []
    for row in rows:
        vm_id = as_guid(row.text("VirtualSystemIdentifier"))
        if vm_id is not None and (row.text("VirtualSystemType") or "").lower() == _TYPE:
            settings = read_settings(row)
            found.append(Planned(vm_id, settings.name, settings))
    return tuple(sorted(found, key=lambda one: one.vm_id))


def read_all(reader: CimReader) -> tuple[Planned, ...]:
    """The planned machines of a host; one request, two when there are any."""
    systems = enumerate_available(reader, NAMESPACE, PLANNED) or []
    return from_rows(systems, reader.enumerate(NAMESPACE, SETTINGS)) if systems else ()


def read_ids(reader: CimReader) -> frozenset[str]:
    """The GUIDs of the planned machines; one request."""
    rows = enumerate_available(reader, NAMESPACE, PLANNED) or []
    return frozenset(vm_id for vm_id in (as_guid(row.text("Name")) for row in rows) if vm_id is not None)


def settings_of(reader: CimReader, vm_id: str) -> tuple[Settings | None, tuple[str, ...], tuple[str, ...]]:
    """The settings of a planned machine, and of its checkpoints: their GUIDs, and those whose files were not found; one request."""
    own: Settings | None = None
    checkpoints: list[str] = []
    missing: list[str] = []
    for row in reader.enumerate(NAMESPACE, SETTINGS):
        if as_guid(row.text("VirtualSystemIdentifier")) != vm_id:
            continue
        kind = (row.text("VirtualSystemType") or "").lower()
        if kind == _TYPE:
            own = read_settings(row)
        elif kind.startswith("microsoft:hyper-v:snapshot:"):
            guid = owner_of(row.text("InstanceID")) or as_guid(row.text("ConfigurationID"))
            (missing if kind == _MISSING else checkpoints).append(guid or "")
    return own, tuple(checkpoints), tuple(missing)


def storage_from_rows(rows: Iterable[Instance], owners: Iterable[str]) -> tuple[Storage, ...]:
    """The media of these machines and checkpoints that name a file."""
    wanted, found = frozenset(owners), []
    for row in rows:
        owner, paths = owner_of(row.text("InstanceID")), row.texts("HostResource")
        if owner in wanted and owner is not None and paths and paths[0]:
            reference = Reference(row.namespace, STORAGE, {"InstanceID": row.required_text("InstanceID")})
            found.append(Storage(owner, reference, (row.text("ResourceSubType") or "").lower() == _VIRTUAL_DISK, paths[0]))
    return tuple(sorted(found, key=lambda one: one.reference.keys["InstanceID"]))


def read_storage(reader: CimReader, owners: Iterable[str]) -> tuple[Storage, ...]:
    """The same of a host; one request."""
    return storage_from_rows(reader.enumerate(NAMESPACE, STORAGE), owners)


def ports_from_rows(rows: Iterable[Instance], owner_id: str, switches: Mapping[str, str]) -> tuple[Port, ...]:
    """The connections of one machine. ``switches``: names of the host's switches by their GUIDs."""
    found = []
    for row in rows:
        if owner_of(row.text("InstanceID")) != owner_id:
            continue
        connected = row.integer("EnabledState") == _CONNECTED and any(row.texts("HostResource"))
        name = next((switches[guid] for guid in _guids(row.texts("HostResource")) if guid in switches), row.text("LastKnownSwitchName"))
        reference = Reference(row.namespace, PORT, {"InstanceID": row.required_text("InstanceID")})
        found.append(Port(owner_id, reference, row.text("ElementName") or "", connected, name or None))
    return tuple(sorted(found, key=lambda one: one.reference.keys["InstanceID"]))


def _guids(paths: Sequence[str]) -> tuple[str, ...]:
    """The GUIDs between the quotes of object paths."""
    parts = [part for path in paths for part in path.split('"')]
    return tuple(guid for guid in (as_guid(part) for part in parts) if guid is not None)


def read_ports(reader: CimReader, owner_id: str, switches: Mapping[str, str]) -> tuple[Port, ...]:
    """The same of a host; one request."""
    return ports_from_rows(reader.enumerate(NAMESPACE, PORT), owner_id, switches)


def read_switches(reader: CimReader) -> dict[str, str]:
    """The names of the host's virtual switches by their GUIDs; one request."""
    found = {}
    for row in reader.enumerate(NAMESPACE, "Msvm_VirtualEthernetSwitch"):
        guid = as_guid(row.text("Name"))
        if guid is not None:
            found[guid] = row.text("ElementName") or ""
    return found


def lies_in(path: str | None, folder: str) -> bool:
    """True when a path lies below a folder, or is it."""
    if not path:
        return False
    one, other = ntpath.normcase(ntpath.normpath(path)), ntpath.normcase(ntpath.normpath(folder))
    return one == other or one.startswith(other + "\\")
