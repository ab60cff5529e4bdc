# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a copy that is under way is about: written beside its job on the host, so that a later run can bring it to its end.

The file lies in the state folder, which only SYSTEM and Administrators can change. It is checked value by value all the same: whoever
adopts a copy writes a manifest by it.
"""
from __future__ import annotations

import json
import ntpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import ChainLink
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import (
    LEVELS,
    METHODS,
    MOST_FILES,
    VERIFIED,
    VSS_COPY,
    Manifest,
    ManifestFile,
)

FILE_NAME = "copy.json"
FORMAT = 1
LARGEST = 2_000_000
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_GUID = re.compile(r"[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}\Z")
_SHADOW = re.compile(r"\{[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}\}\Z", re.IGNORECASE)
_DISK_ID = re.compile(r"\{?[0-9A-Fa-f-]{36}\}?\Z")
_KINDS = ("fixed", "dynamic", "differencing")


class RecordError(ValueError):
    """The text is not a record of a copy."""


@dataclass(frozen=True)
class SourceFile:
    """One file to copy: ``path`` where it is, ``relative`` on its volume, ``target`` below the copy's folder; size in bytes when the plan
    was made; ``image`` what the host's image service said of it."""

    path: str
    relative: str
    target: str
    size: int
    disk: int
    level: int
    image: ChainLink | None = None

    @property
    def folder(self) -> str:
        """The folder below the volume's root; empty for the root itself."""
        return ntpath.dirname(self.relative)

    @property
    def name(self) -> str:
        """The file's name."""
        return ntpath.basename(self.relative)


@dataclass(frozen=True)
class CopyRecord:
    """One VM's copy. ``root``: the link to the shadow copy, which stands for the root of the volume; empty for a copy of live files.

    ``folder`` is the copy's own folder; ``taken`` the instant of the data in host time; ``shadow_id`` None for a live copy.
    """

    vm_id: str
    vm_name: str
    host: str
    run_id: str
    method: str
    folder: str
    root: str
    taken: datetime
    shadow_id: str | None
    verify: str
    requested: str
    achieved: str
    evidence: str
    not_captured: tuple[str, ...]
    unknowns: tuple[str, ...]
    files: tuple[SourceFile, ...]

    @property
    def size(self) -> int:
        """Bytes to copy, as the plan saw them."""
        return sum(file.size for file in self.files)

    def source_folder(self, file: SourceFile) -> str:
        """The folder that a file is read from."""
        if not self.root:
            folder = ntpath.dirname(file.path)
            # a backslash before the closing quote would swallow it, and robocopy takes no folder that ends with one (operations 5.5)
            return folder + "." if folder.endswith("\\") else folder
        return ntpath.join(self.root, file.folder) if file.folder else self.root

    def manifest(self, copied: tuple[ManifestFile, ...], completed: datetime, unknowns: tuple[str, ...] = ()) -> Manifest:
        """The manifest of the finished copy."""
        return Manifest(
            vm_id=self.vm_id, vm_name=self.vm_name, host=self.host, run_id=self.run_id, taken=self.taken,
            completed=max(completed, self.taken), shadow_id=self.shadow_id, requested=self.requested, achieved=self.achieved,
            evidence=self.evidence, not_captured=self.not_captured, unknowns=(*self.unknowns, *unknowns), verified=self.verify,
            files=copied, method=self.method)

    def dump(self) -> bytes:
        """ASCII JSON with CRLF, one value a line."""
        data = {
            "format": FORMAT, "vm": {"id": self.vm_id, "name": self.vm_name}, "host": self.host, "run_id": self.run_id,
            "method": self.method, "folder": self.folder, "root": self.root, "taken": self.taken.astimezone(UTC).strftime(_TIME),
            "shadow_copy": self.shadow_id, "verify": self.verify, "requested": self.requested, "achieved": self.achieved,
            "evidence": self.evidence, "not_captured": list(self.not_captured), "unknowns": list(self.unknowns),
            "files": [_file_data(file) for file in self.files],
        }
        return (json.dumps(data, ensure_ascii=True, indent=1) + "\n").encode("ascii").replace(b"\n", b"\r\n")


def _file_data(file: SourceFile) -> dict[str, Any]:
    data: dict[str, Any] = {"path": file.path, "relative": file.relative, "target": file.target, "size": file.size, "disk": file.disk,
                            "level": file.level}
    if file.image is not None:
        data["image"] = {"kind": file.image.kind, "format": file.image.format, "virtual_size": file.image.virtual_size,
                         "disk_id": file.image.disk_id}
    return data


def parse(data: bytes) -> CopyRecord:
    """The record in a file. Raises RecordError with what is wrong; unknown keys do not matter."""
    if len(data) > LARGEST:
        raise RecordError(f"longer than {LARGEST} bytes")
    try:
        found = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or isinstance(found.get("format"), bool):
        raise RecordError("not a record of a known format")
    vm = found.get("vm")
    if not isinstance(vm, dict):
        raise RecordError("vm is not an object")
    run_id = _text(found, "run_id")
    if not naming.is_run_id(run_id):
        raise RecordError("run_id is malformed")
    shadow_id = None if found.get("shadow_copy") is None else _matching(found, "shadow_copy", _SHADOW)
    return CopyRecord(
        vm_id=_matching(vm, "id", _GUID), vm_name=_text(vm, "name"), host=_text(found, "host"), run_id=run_id,
        method=_choice(found, "method", METHODS[VSS_COPY]), folder=_text(found, "folder"), root=_text(found, "root"), taken=_time(found),
        shadow_id=shadow_id, verify=_choice(found, "verify", VERIFIED[VSS_COPY]), requested=_choice(found, "requested", LEVELS),
        achieved=_choice(found, "achieved", LEVELS), evidence=_text(found, "evidence"), not_captured=_texts(found, "not_captured"),
        unknowns=_texts(found, "unknowns"), files=_files(found))


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or len(value) > 4096:
        raise RecordError(f"{key} is not a text")
    return value


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = data.get(key)
    if not isinstance(value, list) or len(value) > 1000 or not all(isinstance(item, str) for item in value):
        raise RecordError(f"{key} is not a list of texts")
    return tuple(value)


def _choice(data: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str:
    value = _text(data, key)
    if value not in choices:
        raise RecordError(f"{key} is none of {', '.join(choices)}")
    return value


def _matching(data: Mapping[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    value = _text(data, key)
    if pattern.match(value) is None:
        raise RecordError(f"{key} is malformed")
    return value


def _time(data: Mapping[str, Any]) -> datetime:
    try:
        return datetime.strptime(_text(data, "taken"), _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise RecordError("taken is no time") from error


def _number(data: Mapping[str, Any], key: str) -> int:
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RecordError(f"{key} is no number")
    return value


def _files(data: Mapping[str, Any]) -> tuple[SourceFile, ...]:
    value = data.get("files")
    if not isinstance(value, list) or not 0 < len(value) <= MOST_FILES or not all(isinstance(item, dict) for item in value):
        raise RecordError(f"files is not a list of 1 to {MOST_FILES}")
    found = []
    for item in value:
        relative, target = _text(item, "relative"), _text(item, "target")
        if not naming.is_safe_relative(relative) or not naming.is_safe_relative(target):
            raise RecordError("a file's path is unsafe")
        found.append(SourceFile(_text(item, "path"), relative, target, _number(item, "size"), _number(item, "disk"),
                                _number(item, "level"), _image(item)))
    return tuple(found)


def _image(item: Mapping[str, Any]) -> ChainLink | None:
    image = item.get("image")
    if image is None:
        return None
    if not isinstance(image, dict):
        raise RecordError("image is not an object")
    size = None if image.get("virtual_size") is None else _number(image, "virtual_size")
    disk_id = None if image.get("disk_id") is None else _matching(image, "disk_id", _DISK_ID)
    return ChainLink(_text(item, "path"), _choice(image, "kind", _KINDS), _text(image, "format"), size, None, disk_id, None)
