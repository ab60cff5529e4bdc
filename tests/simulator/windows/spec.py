# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the storage of a simulated host is described: volumes and shares."""
from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

FILE_SYSTEMS = ("NTFS", "ReFS", "CSVFS", "FAT32")

_LETTER = re.compile(r"[A-Za-z]:\\?\Z")
_GUID_SPACE = uuid.UUID("6f2b3d64-8a3f-4d58-9c43-0a8f0f6c1d11")


@dataclass(frozen=True)
class VolumeSpec:
    """One volume.

    ``path`` is where it is mounted: a drive (``C:`` or ``C:\\``), a folder (``C:\\Mounts\\Data``) or, for a CSV,
    ``C:\\ClusterStorage\\Volume1``. ``size`` and ``free`` are bytes; ``free`` is what is left at the start of the
    simulation, before anything was written (None: the whole size). ``guid`` has no braces; when it is None it is derived from the
    host's name and ``path``, so that a host looks the same at each start.
    """

    path: str
    size: int = 100 * 1024**3
    free: int | None = None
    filesystem: str = "NTFS"
    label: str = ""
    guid: str | None = None
    removable: bool = False
    write_protected: bool = False
    owned: bool = True
    """CSVFS only: this node is the coordinator of the volume."""

    def __post_init__(self) -> None:
        if self.filesystem not in FILE_SYSTEMS:
            raise ValueError(f"unknown file system {self.filesystem!r}, one of {', '.join(FILE_SYSTEMS)}")
        if self.size <= 0 or not 0 <= self.free_bytes <= self.size:
            raise ValueError(f"volume {self.path}: free space must be between 0 and the size")

    @property
    def letter(self) -> str | None:
        """``"C:"`` when the volume has a drive letter, else None."""
        return self.path[:2].upper() if _LETTER.match(self.path) else None

    @property
    def mount_path(self) -> str:
        """The mount point as Windows prints it, with a trailing backslash."""
        return self.letter + "\\" if self.letter else self.path.rstrip("\\") + "\\"

    @property
    def free_bytes(self) -> int:
        """Free bytes at the start."""
        return self.size if self.free is None else self.free

    def volume_guid(self, host_name: str) -> str:
        """The GUID of the volume, lower case, without braces."""
        if self.guid:
            return self.guid.strip("{}").lower()
        return str(uuid.uuid5(_GUID_SPACE, f"{host_name.lower()}|{self.mount_path.lower()}"))


@dataclass(frozen=True)
class ShareSpec:
    """One SMB share of the host.

    ``grants`` are the principals with full control of share and folder: ``Everyone``, ``DOMAIN\\NAME``, ``DOMAIN\\HOST$`` or a SID;
    ``readers`` may only read; ``admitted`` pass the share and find what the access list of the folder says without them.
    """

    name: str
    path: str
    grants: tuple[str, ...] = ("Everyone",)
    readers: tuple[str, ...] = ()
    admitted: tuple[str, ...] = ()
