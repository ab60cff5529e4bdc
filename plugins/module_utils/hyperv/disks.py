# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of a host's VMs (operations 1.4): three enumerations for all VMs; chains only on demand."""
from __future__ import annotations

import ntpath
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.available import enumerate_available, query_available
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.cimxml import parse_instance
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, MethodResult
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.wql import select
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, owner_of

_VIRTUAL_DISK = "microsoft:hyper-v:virtual hard disk"
_DVD = "microsoft:hyper-v:virtual cd/dvd disk"
_PHYSICAL_DISK = "Microsoft:Hyper-V:Physical Disk Drive"
_MAX_CHAIN = 128
_TYPES = {2: "fixed", 3: "dynamic", 4: "differencing"}
_FORMATS = {2: "vhd", 3: "vhdx", 4: "vhds"}
_FILE_NOT_FOUND = 32779

IMAGE_SERVICE = Reference(NAMESPACE, "Msvm_ImageManagementService", {"CreationClassName": "Msvm_ImageManagementService"})


@dataclass(frozen=True)
class Disk:
    """One disk of a VM (or of a checkpoint: ``owner_id``).

    ``kind``: ``virtual`` (a file), ``pass_through``, ``fibre_channel``, ``other`` (floppy, persistent memory).
    ``path``: the current leaf file of a virtual disk, else None.
    """

    owner_id: str
    instance_id: str
    kind: str
    path: str | None
    shared: bool


@dataclass(frozen=True)
class ChainLink:
    """One file of a chain, leaf first."""

    path: str
    kind: str
    format: str
    virtual_size: int | None
    file_size: int | None
    disk_id: str | None
    parent_path: str | None


@dataclass(frozen=True)
class Chain:
    """The files of one disk, leaf to base. ``problem`` says why it is not complete; None when it is."""

    links: tuple[ChainLink, ...]
    problem: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, leaf first."""
        return tuple(link.path for link in self.links)


def from_rows(storage: Iterable[Instance], pass_through: Iterable[Instance], fibre_channel: Iterable[Instance]) -> tuple[Disk, ...]:
    """Disks out of the three kinds of rows; ISO images and the host's definitions are left out."""
    found = [disk for disk in (_storage_disk(row) for row in storage) if disk is not None]
    for rows, kind in ((pass_through, "pass_through"), (fibre_channel, "fibre_channel")):
        for row in rows:
            owner = owner_of(row.text("InstanceID"))
            if owner is not None:
                found.append(Disk(owner, row.required_text("InstanceID"), kind, None, False))
    return tuple(sorted(found, key=lambda disk: (disk.owner_id, disk.instance_id)))


def is_pass_through(row: Instance) -> bool:
    """True for the drive of a pass-through disk."""
    return (row.text("ResourceSubType") or "").lower() == _PHYSICAL_DISK.lower()


def _storage_disk(row: Instance) -> Disk | None:
    owner = owner_of(row.text("InstanceID"))
    sub_type = (row.text("ResourceSubType") or "").lower()
    if owner is None or sub_type == _DVD:
        return None
    paths = row.texts("HostResource")
    path = paths[0] if paths else None
    if sub_type != _VIRTUAL_DISK or not path:
        return Disk(owner, row.required_text("InstanceID"), "other", path, False)
    shared = (bool(row.boolean("PersistentReservationsSupported")) or bool(row.text("SnapshotId"))
              or ntpath.splitext(path)[1].lower() == ".vhds")
    return Disk(owner, row.required_text("InstanceID"), "virtual", path, shared)


def read_virtual_disks(reader: CimReader) -> tuple[Disk, ...]:
    """The disks of all VMs and checkpoints of the host that are files; one request."""
    return tuple(disk for disk in from_rows(reader.enumerate(NAMESPACE, "Msvm_StorageAllocationSettingData"), (), ())
                 if disk.kind == "virtual")


def read_disks(reader: CimReader) -> tuple[Disk, ...]:
    """All disks of all VMs and checkpoints of the host; three requests."""
    storage = reader.enumerate(NAMESPACE, "Msvm_StorageAllocationSettingData")
    physical = query_available(reader, select(NAMESPACE, "Msvm_ResourceAllocationSettingData", {"ResourceSubType": _PHYSICAL_DISK}))
    fibre = enumerate_available(reader, NAMESPACE, "Msvm_SyntheticFcPortSettingData")
    return from_rows(storage, physical or (), fibre or ())


def read_chain(reader: CimReader, leaf: str) -> Chain:
    """The chain of one disk: two requests a file. A file that cannot be inspected ends it with ``problem``."""
    links: list[ChainLink] = []
    seen: set[str] = set()
    path: str | None = leaf
    while path:
        folded = ntpath.normcase(path)
        if folded in seen:
            return Chain(tuple(links), f"the chain comes back to {path}")
        if len(links) >= _MAX_CHAIN:
            return Chain(tuple(links), f"more than {_MAX_CHAIN} files")
        seen.add(folded)
        try:
            link = _inspect(reader, path)
        except HypervError as error:
            if error.return_value is None:
                raise
            return Chain(tuple(links), error.message)
        links.append(link)
        path = link.parent_path
    return Chain(tuple(links))


def _inspect(reader: CimReader, path: str) -> ChainLink:
    return replace(read_setting(reader, path), file_size=read_file_size(reader, path))


def read_file_size(reader: CimReader, path: str) -> int | None:
    """The size in bytes of one virtual disk file; one request. Raises HypervError ``disk_missing`` or ``disk_unreadable``."""
    return _embedded(reader.ask(IMAGE_SERVICE, "GetVirtualHardDiskState", {"Path": path}), "State", path).integer("FileSize")


def read_setting(reader: CimReader, path: str) -> ChainLink:
    """What one virtual disk file says of itself, without the size of the file; one request.

    Raises HypervError ``disk_missing`` or ``disk_unreadable`` with the return value.
    """
    setting = _embedded(reader.ask(IMAGE_SERVICE, "GetVirtualHardDiskSettingData", {"Path": path}), "SettingData", path)
    kind, disk_format = setting.integer("Type"), setting.integer("Format")
    differencing = kind == 4
    return ChainLink(
        path=path, kind=_TYPES.get(kind or 0, f"unknown_{kind}"), format=_FORMATS.get(disk_format or 0, f"unknown_{disk_format}"),
        virtual_size=setting.integer("MaxInternalSize"), file_size=None,
        disk_id=setting.text("VirtualDiskId"), parent_path=setting.text("ParentPath") if differencing else None)


def _embedded(answer: MethodResult, name: str, path: str) -> Instance:
    """The embedded instance of a reading method's answer.

    Raises HypervError ``disk_missing`` or ``disk_unreadable`` with the return value: on shared storage only the host that has
    the file open can inspect it (operations 1.4).
    """
    text = answer.out.text(name) if answer.return_value == 0 else None
    if text is None:
        missing = answer.return_value == _FILE_NOT_FOUND
        raise HypervError(
            f"The virtual disk {path} {'does not exist' if missing else 'cannot be inspected'} (code {answer.return_value}).",
            error_code="disk_missing" if missing else "disk_unreadable", return_value=answer.return_value)
    return parse_instance(text, NAMESPACE)
