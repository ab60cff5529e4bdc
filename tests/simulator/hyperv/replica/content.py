# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bytes that are replicated: what a chain of disk files holds at one instant, what of it is new, and writing it elsewhere."""
from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.disks.vhdx import Vhdx
from simulator.hyperv.model import Disk

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

CHUNK = 32 * 1024

Digests = dict[int, bytes]
"""Offset in the virtual disk -> digest of the chunk there; a chunk that is not in it is zero."""
_ZERO = hashlib.blake2b(bytes(CHUNK), digest_size=16).digest()


@dataclass(frozen=True)
class Piece:
    """One chunk of one drive, named by its index on the primary."""

    disk: int
    offset: int
    data: bytes

    @property
    def digest(self) -> bytes:
        """Of the data, padded to a whole chunk."""
        return digest(self.data)


@dataclass
class Baseline:
    """What the other side is known to have, by drive."""

    digests: dict[int, Digests] = field(default_factory=dict)
    seen: dict[int, object] = field(default_factory=dict)
    """How the files of a drive looked when nothing was new."""

    def has(self, pieces: list[Piece]) -> None:
        """The other side has taken these."""
        for piece in pieces:
            self.digests.setdefault(piece.disk, {})[piece.offset] = piece.digest


def digest(data: bytes) -> bytes:
    """Of one chunk."""
    return hashlib.blake2b(data if len(data) == CHUNK else data.ljust(CHUNK, b"\0"), digest_size=16).digest()


def chunks(role: HyperV, path: Path) -> Iterator[tuple[int, bytes]]:
    """Every chunk that some file of a chain holds; the others are zero."""
    with Vhdx.open(path, role.disks.find_parent, writable=False) as image:
        size = image.virtual_size
        held: set[int] = set()
        link: Vhdx | None = image
        while link is not None:
            for offset, length in link.present_ranges():
                held.update(range(offset // CHUNK * CHUNK, min(offset + length, size), CHUNK))
            link = link.parent
        for offset in sorted(held):
            yield offset, image.read(offset, min(CHUNK, size - offset))


def real_leaf(role: HyperV, disk: Disk) -> Path | None:
    """The real file a drive is written to; None when it is missing."""
    if disk.leaf is None:
        return None
    real = role.disks.materialise(disk.leaf)
    return real if real is not None and real.exists() else None


def signature(role: HyperV, disk: Disk) -> object:
    """Changes when the files of a drive change."""
    if disk.leaf is None:
        return None
    found = []
    for file in disk.leaf.chain():
        real = role.disks.materialise(file)
        if real is not None and real.exists():
            facts = real.stat()
            found.append((str(real), facts.st_mtime_ns, facts.st_size))
    return tuple(found)


def new_pieces(role: HyperV, disks: Mapping[int, Disk], baseline: Baseline) -> list[Piece]:
    """What these drives hold now and the baseline has not, all of one instant. FileNotFoundError: a disk file is missing."""
    found: list[Piece] = []
    for index, disk in disks.items():
        path = real_leaf(role, disk)
        if path is None:
            raise FileNotFoundError(disk.leaf.path if disk.leaf else f"drive {index}")
        mark = signature(role, disk)
        if index in baseline.digests and baseline.seen.get(index) == mark:
            continue
        known = baseline.digests.get(index, {})
        here: set[int] = set()
        fresh = []
        for offset, data in chunks(role, path):
            here.add(offset)
            if digest(data) != known.get(offset, _ZERO):
                fresh.append(Piece(index, offset, data))
        fresh += [Piece(index, offset, bytes(CHUNK)) for offset, old in known.items() if offset not in here and old != _ZERO]
        if fresh:
            found += fresh
        else:
            baseline.digests.setdefault(index, {})
            baseline.seen[index] = mark
    return found


def digests_of(role: HyperV, disk: Disk) -> Digests:
    """What a drive holds now."""
    path = real_leaf(role, disk)
    return {} if path is None else {offset: digest(data) for offset, data in chunks(role, path)}


def write(role: HyperV, disk: Disk, pieces: list[Piece]) -> int:
    """Write pieces to the leaf of a drive; the bytes by which its file grew. FileNotFoundError, Win32Error."""
    path = real_leaf(role, disk)
    if path is None or disk.leaf is None:
        raise FileNotFoundError(disk.leaf.path if disk.leaf else "no file")
    before = path.stat().st_size
    with Vhdx.open(path, role.disks.find_parent) as image:
        for piece in pieces:
            room = image.virtual_size - piece.offset
            image.write(piece.offset, piece.data[:room])
    grown = path.stat().st_size - before
    role.disks.wrote(disk.leaf.path, grown)
    return grown


def growth(role: HyperV, disk: Disk, pieces: list[Piece]) -> int:
    """How much at most the file of a drive would grow."""
    path = real_leaf(role, disk)
    if path is None:
        return 0
    with Vhdx.open(path, role.disks.find_parent, writable=False) as image:
        per_block = {piece.offset // image.metadata.block_size: piece for piece in pieces}
        return sum(image.growth(piece.offset, len(piece.data)) for piece in per_block.values())
