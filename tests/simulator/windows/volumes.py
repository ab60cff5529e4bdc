# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: a real folder each, with a side table for what a real folder cannot hold."""
from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from simulator.windows import storage
from simulator.windows.acl import Acl
from simulator.windows.paths import fold
from simulator.windows.spec import VolumeSpec

Key = tuple[str, ...]

_LONGEST_REAL_NAME = 240
_PLENTY = 1024**3
_MEASURED_AGAIN = 64 * 1024**2
"""After that many bytes a volume with plenty of room is measured again: no test writes a GiB in between."""


@dataclass(frozen=True)
class Link:
    """A reparse point. ``kind``: ``symlinkd``, ``symlink``, ``junction`` or ``mount``; ``target`` is the text it was made with."""

    kind: str
    target: str


@dataclass
class Node:
    """What NTFS knows of an entry besides its bytes and times."""

    acl: Acl = field(default_factory=Acl)
    owner: str | None = None
    link: Link | None = None
    read_only: bool = False
    hidden: bool = False
    system: bool = False
    created: datetime | None = None


@dataclass
class Handle:
    """An open file. ``share_read`` false: nobody else may even read it. Close it with FileSystem.release()."""

    owner: str
    share_read: bool
    share_write: bool
    writes: bool


@dataclass
class Backing:
    """The bytes and the side table of a volume; the nodes of a cluster share the one of a CSV."""

    root: Path
    nodes: dict[Key, Node] = field(default_factory=dict)
    long_names: dict[str, str] = field(default_factory=dict)
    handles: dict[Key, list[Handle]] = field(default_factory=dict)
    baseline: int = 0
    """Bytes that were there at the start: they are part of what the description calls used."""
    reserved: int = 0
    """Bytes held by shadow copy storage areas."""
    measured: tuple[int, int, int] = (0, 0, 0)
    """When there was plenty: what the description called free, what shadow copies held, and how much may be written until the next look."""

    def real_name(self, name: str) -> str:
        """The name on the real disk, which allows fewer bytes than NTFS and no lone surrogates."""
        if name.isascii() and len(name) <= _LONGEST_REAL_NAME:
            return name
        raw = name.encode("utf-8", "surrogatepass")
        plain = all(not 0xD800 <= ord(c) <= 0xDFFF for c in name)
        if plain and len(raw) <= _LONGEST_REAL_NAME:
            return name
        real = "long~" + hashlib.sha256(raw).hexdigest()
        self.long_names[real] = name
        return real

    def true_name(self, real: str) -> str:
        """The Windows name of a real entry."""
        return self.long_names.get(real, real)

    def find(self, folder: Path, name: str) -> tuple[str, Path] | None:
        """The entry of ``folder`` with this name in any case: its true name and real path."""
        exact = folder / self.real_name(name)
        if exact.exists():
            return self.true_name(exact.name), exact
        wanted = fold(name)
        if folder.is_dir():
            for entry in folder.iterdir():
                true = self.true_name(entry.name)
                if fold(true) == wanted:
                    return true, entry
        return None

    def node(self, parts: Key) -> Node:
        """The side table entry, made when there is none."""
        return self.nodes.setdefault(key_of(parts), Node())

    def subtree(self, parts: Key) -> Iterator[Key]:
        """The keys of the side table at and below an entry."""
        top = key_of(parts)
        yield from [key for key in self.nodes if key[:len(top)] == top]

    def forget(self, parts: Key) -> None:
        """Drop what is known of an entry and everything below."""
        for key in self.subtree(parts):
            del self.nodes[key]

    def move(self, old: Key, new: Key) -> None:
        """Carry the side table along with a rename."""
        top, target = key_of(old), key_of(new)
        for key in self.subtree(old):
            self.nodes[target + key[len(top):]] = self.nodes.pop(key)

    def freeze(self, root: Path) -> Backing:
        """A copy of the bytes at this instant in ``root``, with a copy of the side table."""
        storage.clone_tree(self.root, root)
        nodes = {key: replace(node) for key, node in self.nodes.items()}
        return Backing(root, nodes, dict(self.long_names))


@lru_cache(maxsize=4096)
def key_of(parts: Key) -> Key:
    """Names folded for comparison."""
    return tuple(fold(part) for part in parts)


@dataclass(eq=False)
class Volume:
    """A mounted volume, or a shadow copy of one (then ``shadow_number`` is set and nothing can be written)."""

    spec: VolumeSpec
    guid: str
    backing: Backing
    shadow_number: int | None = None
    owned: bool = True
    write_protected: bool = False

    @property
    def device_id(self) -> str:
        r"""``\\?\Volume{guid}\``."""
        return f"\\\\?\\Volume{{{self.guid}}}\\"

    @property
    def root(self) -> Path:
        """The real folder."""
        return self.backing.root

    @property
    def filesystem(self) -> str:
        """NTFS, ReFS, CSVFS or FAT32."""
        return self.spec.filesystem

    @property
    def mount_path(self) -> str:
        """Where it is mounted, with a trailing backslash."""
        return self.spec.mount_path

    @property
    def capacity(self) -> int:
        """Bytes."""
        return self.spec.size

    @property
    def free_bytes(self) -> int:
        """What can still be written: the free space of the description less what was added and what shadow storage holds."""
        added = storage.tree_bytes(self.root) - self.backing.baseline
        return max(0, min(self.spec.size, self.spec.free_bytes - added - self.backing.reserved))

    def has_room(self, count: int) -> bool:
        """Whether ``count`` bytes fit, which are written at once. ``free_bytes`` walks over every file, so it is not asked each time."""
        free, reserved, left = self.backing.measured
        if (free, reserved) != (self.spec.free_bytes, self.backing.reserved) or count > left:
            room = self.free_bytes
            if room < _PLENTY or count > _MEASURED_AGAIN:
                return count <= room
            free, reserved, left = self.spec.free_bytes, self.backing.reserved, _MEASURED_AGAIN
        self.backing.measured = free, reserved, left - count
        return True

    @property
    def serial(self) -> int:
        """The 32-bit serial number."""
        return zlib.crc32(self.guid.encode())

    @property
    def read_only(self) -> bool:
        """Nothing can be written."""
        return self.write_protected or self.shadow_number is not None
