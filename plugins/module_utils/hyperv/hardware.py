# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hardware of one VM from all its resource settings at once (operations 1.4): disks and their places, memory, processors, switches."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.paths import parse_path
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import Disk
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid

_COMPONENT = "Msvm_VirtualSystemSettingDataComponent"
_RESOURCE = "CIM_ResourceAllocationSettingData"
_BUSES: Mapping[int, str] = {5: "ide", 6: "scsi"}
_CONNECTED = 2
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Slot:
    """Where a disk is attached: kind of the controller, its number among those of the kind, place on it. None: not told."""

    controller: str | None = None
    number: int | None = None
    location: int | None = None


@dataclass(frozen=True)
class Connection:
    """A network adapter's connection. ``switch_id``: GUID of its switch, None when it is connected to none; ``last_name``: how that was
    called when it was connected."""

    switch_id: str | None
    last_name: str


@dataclass(frozen=True)
class Hardware:
    """One configuration's hardware. ``memory`` in bytes at start; ``slots`` by InstanceID of a disk in lower case."""

    disks: tuple[Disk, ...] = ()
    slots: Mapping[str, Slot] | None = None
    memory: int = 0
    processors: int = 0
    connections: tuple[Connection, ...] = ()

    def slot_of(self, disk: Disk) -> Slot:
        """Where a disk is attached."""
        return (self.slots or {}).get(disk.instance_id.lower(), Slot())


def read_hardware(reader: CimReader, settings: Reference) -> Hardware:
    """The hardware of the configuration with this address; one request."""
    return from_rows(reader.associators(settings, association=_COMPONENT, result=_RESOURCE))


def from_rows(rows: Sequence[Instance]) -> Hardware:
    """The hardware out of all resource settings of one configuration; what nobody here needs is left out."""
    of_class = {name: [row for row in rows if row.class_name.lower() == f"msvm_{name}settingdata"] for name in (
        "storageallocation", "resourceallocation", "syntheticfcport", "memory", "processor", "ethernetportallocation")}
    plain = of_class["resourceallocation"]
    return Hardware(
        disks.from_rows(of_class["storageallocation"], [row for row in plain if disks.is_pass_through(row)], of_class["syntheticfcport"]),
        _slots(of_class["storageallocation"], plain), sum(row.integer("VirtualQuantity") or 0 for row in of_class["memory"]) * _MIB,
        sum(row.integer("VirtualQuantity") or 0 for row in of_class["processor"]),
        tuple(_connection(row) for row in of_class["ethernetportallocation"]))


def _slots(storage: Iterable[Instance], plain: Sequence[Instance]) -> dict[str, Slot]:
    """From the disk to its drive and from that to its controller, by what each calls its parent."""
    by_id = {(row.text("InstanceID") or "").lower(): row for row in plain}
    controllers = [row for row in plain if row.integer("ResourceType") in _BUSES]
    found = {}
    for row in storage:
        drive = by_id.get(_parent(row))
        controller = by_id.get(_parent(drive)) if drive is not None else None
        if drive is not None and controller is not None:
            kind = controller.integer("ResourceType") or 0
            same = [one for one in controllers if one.integer("ResourceType") == kind]
            number = _number(controller.text("Address"))
            found[(row.text("InstanceID") or "").lower()] = Slot(
                _BUSES.get(kind), same.index(controller) if number is None else number, _number(drive.text("AddressOnParent")))
    return found


def _parent(row: Instance) -> str:
    """The InstanceID that a row's Parent names, in lower case; empty for none."""
    try:
        return (parse_path(row.text("Parent") or "").key("InstanceID") or "").lower()
    except ValueError:
        return ""


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _connection(row: Instance) -> Connection:
    switch = None
    if row.integer("EnabledState") == _CONNECTED:
        for path in row.texts("HostResource"):
            try:
                switch = as_guid(parse_path(path).key("Name"))
            except ValueError:
                continue
    return Connection(switch, row.text("LastKnownSwitchName") or "")
