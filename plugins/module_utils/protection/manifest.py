# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a copy or an export, format 1 (docs/manifest.md): written last, so a copy without one is incomplete.

Anyone who may write to the backup folder may forge a manifest. So a parsed one is checked value by value; nothing outside
the format survives, and paths in it are relative names that cannot leave the copy's folder.
"""
from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.naming import is_run_id, is_safe_name, is_safe_relative

FORMAT = 1
FILE_NAME = "manifest.json"
VSS_COPY = "vss_copy"
EXPORT = "export"
LARGEST = 1_000_000
MOST_FILES = 2000
METHODS: Mapping[str, tuple[str, ...]] = {
    VSS_COPY: ("vss", "writers", "live"),
    EXPORT: ("production_checkpoint", "checkpoint", "live_crash", "live_saved", "live_data", "offline"),
}
"""How each kind may have been taken. Copies: out of a shadow copy, out of a set of them made with the Hyper-V writer, from the live
files. Exports: of a checkpoint made for it, of one that was there, of the running VM by its CaptureLiveState, of a VM at rest."""
VERIFIED: Mapping[str, tuple[str, ...]] = {
    VSS_COPY: ("none", "size", "sha256"),
    EXPORT: ("none", "size", "chain", "sha256"),
}
ROLES = ("configuration", "state", "guest_state", "disk", "checkpoint", "guide")
"""What a file of an export is: the definition (``.vmcx``, ``.xml``), memory and devices (``.vmrs``, ``.bin``, ``.vsv``), the guest state of
firmware and vTPM (``.vmgs``), a virtual disk, anything of a checkpoint, our words for whoever restores it by hand."""
CONTROLLERS = ("ide", "scsi")
DISK_TYPES = ("fixed", "dynamic", "differencing")
DISK_FORMATS = ("vhd", "vhdx", "vhds")
LEVELS = ("inconsistent", "crash", "filesystem", "application", "image")

_GUID = re.compile(r"[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}\Z")
_SHADOW = re.compile(r"\{[0-9A-Fa-f-]{36}\}\Z")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z\Z", re.ASCII)
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\Z", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_LARGEST_SIZE = 1 << 63
_LONGEST_LINE = 4000


class ManifestError(ValueError):
    """The text is not a manifest of a format that this version reads."""


@dataclass(frozen=True)
class ManifestFile:
    """One file: ``path`` relative to the copy's folder, size in bytes, ``sha256`` in lower case when it was computed.

    Of a VSS copy: ``source`` where it was on the host, which ``disk`` it is of, how far below the leaf (0). Of an export: its ``role``.
    """

    path: str
    source: str
    size: int
    disk: int = 0
    level: int = 0
    sha256: str | None = None
    role: str | None = None

    def as_data(self) -> dict[str, Any]:
        """The JSON object of one file."""
        data: dict[str, Any] = {"path": self.path, "size": self.size}
        data |= {"source": self.source, "disk": self.disk, "level": self.level} if self.role is None else {"role": self.role}
        return data if self.sha256 is None else {**data, "sha256": self.sha256}


@dataclass(frozen=True)
class Place:
    """Where a disk is attached; None: unknown, or a parent of another file, which is attached nowhere. ``number`` is that of the
    controller among those of its kind."""

    controller: str | None
    number: int | None
    location: int | None

    def as_data(self) -> dict[str, Any]:
        """The keys that tell of the place."""
        return {"controller": self.controller, "controller_number": self.number, "location": self.location}


@dataclass(frozen=True)
class ExportedDisk:
    """One virtual disk file of an export. ``disk_id`` is its VirtualDiskId, the same as that of the source; ``parent`` the path of the
    file below it in the export; sizes in bytes."""

    path: str
    disk_id: str | None
    source: str
    place: Place
    virtual_size: int
    format: str
    type: str
    parent: str | None = None

    def as_data(self) -> dict[str, Any]:
        """The JSON object of one disk."""
        return {"path": self.path, "id": self.disk_id, "source": self.source, **self.place.as_data(), "virtual_size": self.virtual_size,
                "format": self.format, "type": self.type, "parent": self.parent}


@dataclass(frozen=True)
class ExcludedDisk:
    """A virtual disk that the export left out on purpose."""

    source: str
    place: Place

    def as_data(self) -> dict[str, Any]:
        """The JSON object of one disk."""
        return {"source": self.source, **self.place.as_data()}


@dataclass(frozen=True)
class Export:
    """What only the manifest of an export says.

    ``version`` is the configuration version of the VM, ``build`` that of the host's system. ``vtpm`` and ``shielded``: the keys of the
    VM's protector are needed to start it elsewhere. ``memory`` (bytes at start), ``processors`` and ``switches`` (the names, one for
    each connected adapter's switch) are what a host needs to run it. ``checkpoint_id``: GUID of the exported checkpoint. ``definition_id``:
    the GUID in the definition file, which need not be the VM's when a checkpoint was exported; None when nobody read it.
    """

    build: int
    generation: int
    version: str
    vtpm: bool
    shielded: bool
    memory: int
    processors: int
    switches: tuple[str, ...]
    disks: tuple[ExportedDisk, ...]
    excluded: tuple[ExcludedDisk, ...] = ()
    checkpoint_id: str | None = None
    checkpoint_name: str | None = None
    definition_id: str | None = None

    @property
    def needs_guardian(self) -> bool:
        """True when another host can start the VM only with the keys of its protector."""
        return self.vtpm or self.shielded


@dataclass(frozen=True)
class Manifest:
    """What a finished copy or export says of itself. ``export`` None: a VSS copy.

    ``shadow_id`` None: an export, a copy of the live files, or one out of shadow copies that nobody could name any more.
    """

    vm_id: str
    vm_name: str
    host: str
    run_id: str
    taken: datetime
    completed: datetime
    shadow_id: str | None
    requested: str
    achieved: str
    evidence: str
    not_captured: tuple[str, ...]
    unknowns: tuple[str, ...]
    verified: str
    files: tuple[ManifestFile, ...]
    method: str = "vss"
    export: Export | None = None

    @property
    def kind(self) -> str:
        """``vss_copy`` or ``export``."""
        return VSS_COPY if self.export is None else EXPORT

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(file.size for file in self.files)

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders that an export may have although none of its files lies there."""
        if self.export is None:
            return ()
        ids = (self.vm_id, *(name for name in (self.export.checkpoint_id,) if name is not None and is_safe_name(name)))
        return ("Virtual Machines", *(f"Virtual Machines\\{one}" for one in ids), "Virtual Hard Disks", "Snapshots",
                *(f"Snapshots\\{one}" for one in ids))

    def files_of(self, role: str) -> tuple[ManifestFile, ...]:
        """The files of an export that have this role."""
        return tuple(file for file in self.files if file.role == role)

    def as_data(self) -> dict[str, Any]:
        """The JSON object of format 1."""
        data: dict[str, Any] = {
            "format": FORMAT, "kind": self.kind,
            "vm": {"id": self.vm_id, "name": self.vm_name}, "host": self.host, "run_id": self.run_id,
            "method": self.method, "taken": _format_time(self.taken), "completed": _format_time(self.completed),
            "shadow_copy": self.shadow_id,
            "consistency": {"requested": self.requested, "achieved": self.achieved, "evidence": self.evidence,
                            "not_captured": list(self.not_captured), "unknowns": list(self.unknowns)},
            "verified": self.verified,
            "files": [file.as_data() for file in self.files],
        }
        return data if self.export is None else _with_export(data, self.export)


def _with_export(data: dict[str, Any], export: Export) -> dict[str, Any]:
    del data["shadow_copy"]
    data["vm"] |= {"generation": export.generation, "version": export.version, "vtpm": export.vtpm, "shielded": export.shielded}
    checkpoint = None if export.checkpoint_id is None else {"id": export.checkpoint_id, "name": export.checkpoint_name}
    return {**data, "host_build": export.build, "checkpoint": checkpoint, "definition_id": export.definition_id,
            "needs": {"memory": export.memory, "processors": export.processors, "switches": list(export.switches)},
            "disks": [disk.as_data() for disk in export.disks], "excluded_disks": [disk.as_data() for disk in export.excluded]}


def dump(manifest: Manifest) -> bytes:
    """The file's bytes: ASCII JSON in short lines, one for each value and for each part of a list, so that no code page and no line limit
    of a tool can damage it, and a thousand of them are still read at once."""
    lines = ["{"]
    for key, value in manifest.as_data().items():
        several = isinstance(value, list) and len(value) > 0
        lines += [f' "{key}": [', *_parts(value), " ],"] if several else [f' "{key}": {_one_line(value)},']
    lines[-1] = lines[-1].removesuffix(",")
    return ("\r\n".join("\r\n".join(line.splitlines()) for line in [*lines, "}"]) + "\r\n").encode("ascii")


def _parts(value: Sequence[Any]) -> list[str]:
    parts = [f"  {_one_line(part)}," for part in value]
    return [*parts[:-1], parts[-1].removesuffix(",")]


def _one_line(value: Any) -> str:
    """A value on one line, or on several when one would be too long for the tools of a host."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= _LONGEST_LINE else json.dumps(value, ensure_ascii=True, indent=3)


def parse(text: str) -> Manifest:
    """A manifest from the text of a file. Raises ManifestError with what is wrong; never anything else."""
    if len(text) > LARGEST:
        raise ManifestError(f"longer than {LARGEST} characters")
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ManifestError("not an object")
    if data.get("format") != FORMAT or isinstance(data.get("format"), bool):
        raise ManifestError(f"format {str(data.get('format'))[:20]!r} is not known")
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in METHODS:
        raise ManifestError("another kind of copy")
    vm, consistency = _object(data, "vm"), _object(data, "consistency")
    files = _files(data, kind)
    return Manifest(
        vm_id=_matching(vm, "id", _GUID), vm_name=_text(vm, "name"), host=_text(data, "host"), run_id=_run_id(data),
        taken=_time(data, "taken"), completed=_time(data, "completed"),
        shadow_id=_shadow_id(data) if kind == VSS_COPY else None,
        requested=_level(consistency, "requested"), achieved=_level(consistency, "achieved"), evidence=_text(consistency, "evidence"),
        not_captured=_texts(consistency, "not_captured"), unknowns=_texts(consistency, "unknowns"),
        verified=_choice(data, "verified", VERIFIED[kind]), files=files,
        method=_choice(data, "method", METHODS[kind]) if "method" in data or kind != VSS_COPY else "vss",
        export=_export(data, vm, files) if kind == EXPORT else None)


def _shadow_id(data: Mapping[str, Any]) -> str | None:
    return None if data.get("shadow_copy", "") is None else _matching(data, "shadow_copy", _SHADOW)


def _export(data: Mapping[str, Any], vm: Mapping[str, Any], files: Sequence[ManifestFile]) -> Export:
    needs = _object(data, "needs")
    checkpoint = None if data.get("checkpoint", "") is None else _object(data, "checkpoint")
    return Export(
        build=_number(data, "host_build", 1 << 32), generation=_number(vm, "generation", 3), version=_matching(vm, "version", _VERSION),
        vtpm=_flag(vm, "vtpm"), shielded=_flag(vm, "shielded"), memory=_number(needs, "memory", _LARGEST_SIZE),
        processors=_number(needs, "processors", 1 << 16), switches=_texts(needs, "switches"),
        disks=_disks(data, {file.path.lower() for file in files if file.role in ("disk", "checkpoint")}),
        excluded=tuple(ExcludedDisk(_text(item, "source"), _place(item)) for item in _objects(data, "excluded_disks")),
        checkpoint_id=None if checkpoint is None else _text(checkpoint, "id"),
        checkpoint_name=None if checkpoint is None else _text(checkpoint, "name"),
        definition_id=None if data.get("definition_id") is None else _matching(data, "definition_id", _GUID))


def _disks(data: Mapping[str, Any], paths: Collection[str]) -> tuple[ExportedDisk, ...]:
    """The disks of an export: each is one of its files, and so is each parent."""
    found = []
    for item in _objects(data, "disks"):
        disk = ExportedDisk(
            path=_text(item, "path"), disk_id=None if item.get("id", "") is None else _matching(item, "id", _GUID),
            source=_text(item, "source"), place=_place(item), virtual_size=_number(item, "virtual_size", _LARGEST_SIZE),
            format=_choice(item, "format", DISK_FORMATS), type=_choice(item, "type", DISK_TYPES),
            parent=None if item.get("parent", "") is None else _text(item, "parent"))
        if not {disk.path.lower(), (disk.parent or disk.path).lower()} <= set(paths):
            raise ManifestError("a disk is none of the files")
        found.append(disk)
    return tuple(found)


def _place(item: Mapping[str, Any]) -> Place:
    def known(name: str) -> int | None:
        return None if item.get(name, "") is None else _number(item, name, 1 << 16)

    controller = None if item.get("controller", "") is None else _choice(item, "controller", CONTROLLERS)
    return Place(controller, known("controller_number"), known("location"))


def _no_constant(name: str) -> None:
    raise ManifestError(f"{name} is no number of JSON")


def _format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _object(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    if not isinstance(value, dict):
        raise ManifestError(f"{name} is not an object")
    return value


def _text(data: Mapping[str, Any], name: str, longest: int = 4096) -> str:
    value = data.get(name)
    if not isinstance(value, str) or len(value) > longest:
        raise ManifestError(f"{name} is not a text of at most {longest} characters")
    return value


def _texts(data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = data.get(name)
    if not isinstance(value, list) or len(value) > 1000 or not all(isinstance(item, str) and len(item) <= 4096 for item in value):
        raise ManifestError(f"{name} is not a list of texts")
    return tuple(value)


def _objects(data: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = data.get(name)
    if not isinstance(value, list) or len(value) > MOST_FILES or not all(isinstance(item, dict) for item in value):
        raise ManifestError(f"{name} is not a list of at most {MOST_FILES} objects")
    return value


def _flag(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name)
    if not isinstance(value, bool):
        raise ManifestError(f"{name} is neither true nor false")
    return value


def _matching(data: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = _text(data, name)
    if not pattern.match(value):
        raise ManifestError(f"{name} is malformed")
    return value


def _choice(data: Mapping[str, Any], name: str, choices: Sequence[str]) -> str:
    value = _text(data, name)
    if value not in choices:
        raise ManifestError(f"{name} is none of {', '.join(choices)}")
    return value


def _level(data: Mapping[str, Any], name: str) -> str:
    return _choice(data, name, LEVELS)


def _run_id(data: Mapping[str, Any]) -> str:
    value = _text(data, "run_id")
    if not is_run_id(value):
        raise ManifestError("run_id is malformed")
    return value


def _time(data: Mapping[str, Any], name: str) -> datetime:
    value = _matching(data, name, _TIME)
    try:
        return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise ManifestError(f"{name} is no time") from error


def _number(data: Mapping[str, Any], name: str, limit: int) -> int:
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
        raise ManifestError(f"{name} is no number from 0 to {limit - 1}")
    return value


def _files(data: Mapping[str, Any], kind: str) -> tuple[ManifestFile, ...]:
    found: list[ManifestFile] = []
    seen: set[str] = set()
    for item in _objects(data, "files"):
        path = _text(item, "path")
        if not is_safe_relative(path) or path.lower() in seen or path.lower() == FILE_NAME:
            raise ManifestError("a file's path is unsafe or named twice")
        seen.add(path.lower())
        size, digest = _number(item, "size", _LARGEST_SIZE), _matching(item, "sha256", _SHA256) if "sha256" in item else None
        if kind == EXPORT:
            found.append(ManifestFile(path, "", size, sha256=digest, role=_choice(item, "role", ROLES)))
        else:
            found.append(ManifestFile(path, _text(item, "source"), size, _number(item, "disk", MOST_FILES),
                                      _number(item, "level", MOST_FILES), digest))
    if not found:
        raise ManifestError("files is empty")
    return tuple(found)
