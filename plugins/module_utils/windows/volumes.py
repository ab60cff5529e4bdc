# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of a host, and on which of them a path lies (operations 1.4, windows facts 4)."""
from __future__ import annotations

import ntpath
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import CIMV2

_CSV_FOLDER = re.compile(r"[A-Za-z]:\\ClusterStorage\\[^\\]+(?=\\|\Z)", re.IGNORECASE)
_LONG_UNC = "\\\\?\\UNC\\"
_LONG = "\\\\?\\"
_VOLUME = "\\\\?\\volume{"


@dataclass(frozen=True)
class Volume:
    """One volume. ``device_id`` is ``\\\\?\\Volume{GUID}\\``; ``root`` is its letter or mount point with a trailing backslash."""

    device_id: str
    root: str
    file_system: str | None
    capacity: int | None
    free: int | None

    @property
    def is_csv(self) -> bool:
        """A cluster shared volume: by its file system or its mount point."""
        return (self.file_system or "").upper().startswith("CSVFS") or bool(_CSV_FOLDER.match(self.root))

    @property
    def free_ratio(self) -> float | None:
        """Free space over capacity; None when the host did not say."""
        if self.free is None or not self.capacity:
            return None
        return self.free / self.capacity


@dataclass(frozen=True)
class Place:
    """Where a path lies. ``kind``: ``local``, ``csv``, ``smb`` or ``unknown``; ``relative`` is the path below the volume's root."""

    path: str
    kind: str
    volume: Volume | None
    relative: str | None


def from_rows(rows: Iterable[Instance]) -> tuple[Volume, ...]:
    """Volumes out of ``Win32_Volume``."""
    found = []
    for row in rows:
        device_id = row.text("DeviceID") or row.text("Name")
        if device_id is None:
            continue
        root = row.text("Name") or device_id
        found.append(Volume(device_id, root if root.endswith("\\") else root + "\\", row.text("FileSystem"),
                            row.integer("Capacity"), row.integer("FreeSpace")))
    return tuple(sorted(found, key=lambda volume: volume.root.lower()))


def read_volumes(reader: CimReader) -> tuple[Volume, ...]:
    """All volumes; one request."""
    return from_rows(reader.enumerate(CIMV2, "Win32_Volume"))


def plain_path(path: str) -> str:
    """``path`` with backslashes and without the ``\\\\?\\`` prefix of drive and UNC paths."""
    text = path.replace("/", "\\")
    if text.lower().startswith(_LONG_UNC.lower()):
        return "\\\\" + text[len(_LONG_UNC):]
    if text.startswith(_LONG) and not text.lower().startswith(_VOLUME):
        return text[len(_LONG):]
    return text


def locate(path: str, volumes: Iterable[Volume]) -> Place:
    """The volume of a path: the longest root that is a prefix, drive letters and mount points alike, without case.

    A path below ``ClusterStorage`` whose CSV the host does not list is ``csv`` without a volume: the system drive that
    the prefix names holds only the mount point (operations 5.8).
    """
    text = plain_path(path)
    if text.startswith("\\\\") and not text.lower().startswith(_VOLUME):
        return Place(path, "smb", None, None)
    folded = text.lower()
    best: Volume | None = None
    matched = ""
    for volume in volumes:
        for root in (volume.root, volume.device_id):
            if (folded + "\\").startswith(root.lower()) and len(root) > len(matched):
                best, matched = volume, root
    on_csv = bool(_CSV_FOLDER.match(text))
    if on_csv and best is not None and not best.is_csv:
        return Place(path, "csv", None, None)
    if best is None:
        return Place(path, "csv" if on_csv else "unknown", None, None)
    return Place(path, "csv" if best.is_csv else "local", best, ntpath.normpath(text)[len(matched):].lstrip("\\"))
