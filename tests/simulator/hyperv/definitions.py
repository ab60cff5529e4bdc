# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration files as exports write them and imports read them.

The real ``.vmcx`` is a closed format, so these have a form of our own: a line ``SIMULATED CONFIGURATION 1 <crc32>``, one line of JSON
(the fields of :class:`Definition`) and blanks up to the size that such a file has. A ``.xml`` (2012 R2) holds the same text in one
element. What runs in the guest is in it, too: the simulation cannot read that from the disks.
"""
from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from xml.sax.saxutils import escape, unescape

from simulator.building import BuildError, build
from simulator.hyperv.model import Configuration, Disk
from simulator.hyperv.spec import CheckpointKind, DiskSpec, VmSpec

_MARK = "SIMULATED CONFIGURATION 1"
_XML = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<configuration>", "</configuration>"


class DefinitionError(ValueError):
    """The bytes are no configuration file, or a damaged one."""


@dataclass(frozen=True)
class DiskEntry:
    """One drive; ``path`` is the file of the configuration (a leaf), or the image in a DVD drive."""

    spec: DiskSpec
    index: int
    controller: str
    bus: int
    location: int
    path: str | None


@dataclass(frozen=True)
class Definition:
    """One configuration: of a machine, or of a checkpoint (``kind`` is set). Times in ISO 8601, GUIDs in upper case."""

    id: str
    machine: str
    hardware: str
    """What the GUIDs of its devices are derived from: stays the same when the machine gets another identity."""
    name: str
    notes: str
    version: str
    created: str
    spec: VmSpec
    policy: int
    automatic_checkpoints: bool
    incremental_backup: bool
    saved: bool
    state_bytes: int
    phase: int
    disks: tuple[DiskEntry, ...]
    folder: str
    snapshot_folder: str
    parent: str | None = None
    """The checkpoint above; of a machine the one its present state grows from."""
    kind: CheckpointKind | None = None
    automatic: bool = False
    host: str = ""
    """The host that exported it: the keys of a virtual TPM are there."""
    tree: tuple[str, ...] = ()
    """Of a machine: the checkpoints it has, parents first."""

    @property
    def created_at(self) -> datetime:
        """When the machine or checkpoint was made."""
        return datetime.fromisoformat(self.created)


def define(configuration: Configuration, *, saved: bool, phase: int, paths: dict[str, str], tree: bool) -> Definition:
    """The definition of a configuration. ``paths``: where a disk file (its path in lower case) lies for this definition, when elsewhere.

    ``saved``: with its memory. ``tree``: with its checkpoints.
    """
    machine, checkpoint = configuration.machine, configuration.checkpoint
    captured = checkpoint.captured if checkpoint else machine.capture()
    parent = checkpoint.parent if checkpoint else machine.current_parent
    state_bytes = checkpoint.state_bytes if checkpoint else machine.saved_bytes
    entries = tuple(_entry(configuration, disk, paths) for disk in configuration.disks)
    created = checkpoint.created if checkpoint else machine.created
    return Definition(
        configuration.id, machine.id, machine.hardware_id, checkpoint.name if checkpoint else machine.name,
        checkpoint.notes if checkpoint else machine.notes, machine.version, created.isoformat(), hardware(captured.spec),
        captured.policy, captured.automatic_checkpoints, captured.incremental_backup, saved, state_bytes, phase, entries,
        machine.folder, machine.snapshot_folder, parent.id if parent and tree else None, checkpoint.kind if checkpoint else None,
        checkpoint.automatic if checkpoint else False, machine.key_host,
        tuple(other.id for other in machine.checkpoints.values()) if tree and checkpoint is None else ())


def as_machine(definition: Definition, name: str, notes: str, guid: str) -> Definition:
    """A checkpoint's definition as that of a machine of its own: what the export of one checkpoint makes of it."""
    return replace(definition, id=guid, machine=guid, name=name, notes=notes, kind=None, parent=None, tree=(), automatic=False)


def hardware(spec: VmSpec) -> VmSpec:
    """What of a description travels with a machine: hardware and guest; neither its disks and checkpoints nor what is done to it."""
    return replace(spec, vm_id=None, state="off", health="ok", notes="", last_backup_hours_ago=None, folder=None, snapshot_folder=None,
                   disks=(), checkpoints=(), current_parent=None, last_applied=None, replication_mode=0, relations=(),
                   reference_points=(), clustered=False, planned=False, busy=None, merge_paused=False)


def _entry(configuration: Configuration, disk: Disk, paths: dict[str, str]) -> DiskEntry:
    file = configuration.file_of(disk)
    path = file.path if file is not None else disk.spec.path if disk.base is None else None
    if file is not None:
        path = paths.get(file.path.lower(), file.path)
    return DiskEntry(replace(disk.spec, content=b"", path=path), disk.index, disk.controller, disk.bus, disk.location, path)


def pack(definition: Definition, *, xml: bool, size: int) -> bytes:
    """The bytes of a configuration file of at least ``size`` bytes."""
    fields = asdict(definition)
    for entry in fields["disks"]:
        entry["spec"].pop("content")
    body = json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
    text = f"{_MARK} {zlib.crc32(body.encode()):08x}\r\n{body}\r\n"
    if xml:
        text = escape(text).join(_XML)
    return text.encode().ljust(size)


def unpack(data: bytes) -> Definition:
    """Read what :func:`pack` made. DefinitionError."""
    try:
        text = data.decode("utf-8").rstrip(" ")
    except UnicodeDecodeError as error:
        raise DefinitionError("not text") from error
    if text.startswith(_XML[0]) and text.endswith(_XML[1]):
        text = unescape(text[len(_XML[0]):-len(_XML[1])])
    head, _unused, body = text.partition("\r\n")
    body = body.rstrip("\r\n")
    if head != f"{_MARK} {zlib.crc32(body.encode()):08x}":
        raise DefinitionError("no configuration file, or a damaged one")
    try:
        return build(Definition, json.loads(body), "definition")
    except (BuildError, ValueError) as error:
        raise DefinitionError(str(error)) from error
