# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a copy, format 1 (docs/manifest.md): written last, so a copy without one is incomplete.

Anyone who may write to the backup folder may forge a manifest. So a parsed one is checked value by value; nothing outside
the format survives, and paths in it are relative names that cannot leave the copy's folder.
"""
from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.naming import is_run_id, is_safe_relative

FORMAT = 1
FILE_NAME = "manifest.json"
KIND = "vss_copy"
LARGEST = 1_000_000
MOST_FILES = 2000
METHODS = ("vss", "writers", "live")
"""Out of a shadow copy, out of a set of them made with the Hyper-V writer, from the live files."""
VERIFIED = ("none", "size", "sha256")
LEVELS = ("inconsistent", "crash", "filesystem", "application", "image")

_GUID = re.compile(r"[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}\Z")
_SHADOW = re.compile(r"\{[0-9A-Fa-f-]{36}\}\Z")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z\Z", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_LARGEST_SIZE = 1 << 63


class ManifestError(ValueError):
    """The text is not a manifest of a format that this version reads."""


@dataclass(frozen=True)
class CopiedFile:
    """One file of a copy: ``path`` relative to the copy's folder, ``source`` where it was on the host, size in bytes; ``sha256`` in
    lower case when it was compared."""

    path: str
    source: str
    size: int
    disk: int
    level: int
    sha256: str | None = None

    def as_data(self) -> dict[str, Any]:
        """The JSON object of one file."""
        data: dict[str, Any] = {"path": self.path, "source": self.source, "size": self.size, "disk": self.disk, "level": self.level}
        return data if self.sha256 is None else {**data, "sha256": self.sha256}


@dataclass(frozen=True)
class Manifest:
    """What a finished copy says of itself. ``disk`` and ``level`` of a file: which disk, and how far below the leaf (0).

    ``shadow_id`` None: a copy of the live files, or out of shadow copies that nobody could name any more.
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
    files: tuple[CopiedFile, ...]
    method: str = "vss"

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(file.size for file in self.files)

    def as_data(self) -> dict[str, Any]:
        """The JSON object of format 1."""
        return {
            "format": FORMAT, "kind": KIND,
            "vm": {"id": self.vm_id, "name": self.vm_name}, "host": self.host, "run_id": self.run_id,
            "method": self.method, "taken": _format_time(self.taken), "completed": _format_time(self.completed),
            "shadow_copy": self.shadow_id,
            "consistency": {"requested": self.requested, "achieved": self.achieved, "evidence": self.evidence,
                            "not_captured": list(self.not_captured), "unknowns": list(self.unknowns)},
            "verified": self.verified,
            "files": [file.as_data() for file in self.files],
        }


def dump(manifest: Manifest) -> bytes:
    """The file's bytes: ASCII JSON, one value a line, so that no code page and no line limit of a tool can damage it."""
    return (json.dumps(manifest.as_data(), ensure_ascii=True, indent=1) + "\n").encode("ascii").replace(b"\n", b"\r\n")


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
    if data.get("kind") != KIND:
        raise ManifestError("another kind of copy")
    vm, consistency = _object(data, "vm"), _object(data, "consistency")
    return Manifest(
        vm_id=_matching(vm, "id", _GUID), vm_name=_text(vm, "name"), host=_text(data, "host"), run_id=_run_id(data),
        taken=_time(data, "taken"), completed=_time(data, "completed"),
        shadow_id=None if data.get("shadow_copy", "") is None else _matching(data, "shadow_copy", _SHADOW),
        requested=_level(consistency, "requested"), achieved=_level(consistency, "achieved"), evidence=_text(consistency, "evidence"),
        not_captured=_texts(consistency, "not_captured"), unknowns=_texts(consistency, "unknowns"),
        verified=_choice(data, "verified", VERIFIED), files=_files(data),
        method=_choice(data, "method", METHODS) if "method" in data else "vss")


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


def _files(data: Mapping[str, Any]) -> tuple[CopiedFile, ...]:
    value = data.get("files")
    if not isinstance(value, list) or not 0 < len(value) <= MOST_FILES:
        raise ManifestError(f"files is not a list of 1 to {MOST_FILES}")
    found = []
    seen: set[str] = set()
    for item in value:
        if not isinstance(item, dict):
            raise ManifestError("a file is not an object")
        path = _text(item, "path")
        if not is_safe_relative(path) or path.lower() in seen or path.lower() == FILE_NAME:
            raise ManifestError("a file's path is unsafe or named twice")
        seen.add(path.lower())
        found.append(CopiedFile(path, _text(item, "source"), _number(item, "size", _LARGEST_SIZE), _number(item, "disk", MOST_FILES),
                                _number(item, "level", MOST_FILES), _matching(item, "sha256", _SHA256) if "sha256" in item else None))
    return tuple(found)
