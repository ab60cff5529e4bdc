# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing the data of a differencing disk into its parent, piece by piece, so that the chain is whole after every piece.

A piece changes only what the child hides anyway, and renews the link between the two: whoever reads through the child sees the same
disk before, between and after, and a merge that is never finished harms nothing (MS-VHDX 2.2.2.1, operations 2.6).
"""
from __future__ import annotations

from pathlib import Path
from uuid import UUID

from simulator.disks.layout import MIB
from simulator.disks.vhdx import ParentResolver, Vhdx, create_dynamic, create_fixed


class NoRoom(Exception):
    """The volume has no room for the next piece; nothing of it was written."""


class Merging:
    """One child that is merged into its parent. Both stay files of their own; removing the child is the caller's.

    Raises VhdxError when the child was not made from the parent as it is, OSError.
    """

    def __init__(self, child: Path, parent: Path, parent_windows_path: str, resolver: ParentResolver | None = None) -> None:
        self._child = child
        self._parent = parent
        self._windows_path = parent_windows_path
        self._resolver = resolver
        with Vhdx.open(child, resolver, writable=False) as image:
            image.parent  # noqa: B018 - a link that does not hold is not merged over
            self._left = [piece for offset, length in image.present_ranges() for piece in _cut(offset, length)]
        self.total = sum(length for _unused, length in self._left)

    @property
    def left(self) -> int:
        """Bytes that are not in the parent yet."""
        return sum(length for _unused, length in self._left)

    def step(self, count: int, room: int) -> int:
        """Merge at least ``count`` bytes, or what is left; the bytes by which the parent grew. NoRoom: more than ``room``."""
        if not self._left:
            return 0
        chosen: list[tuple[int, int]] = []
        while self._left and sum(length for _unused, length in chosen) < count:
            chosen.append(self._left.pop(0))
        with Vhdx.open(self._child, self._resolver) as child, Vhdx.open(self._parent, self._resolver) as parent:
            if sum(parent.growth(*piece) for piece in chosen) > room:
                self._left[:0] = chosen
                raise NoRoom
            before = self._parent.stat().st_size
            for offset, length in chosen:
                parent.write(offset, child.read(offset, length))
            child.set_parent(self._parent, self._windows_path, ignore_linkage=True)
        return self._parent.stat().st_size - before


def flatten(leaf: Path, target: Path, resolver: ParentResolver | None = None, *, disk_id: UUID | None = None) -> None:
    """A new disk with what is read through a chain: of the form of its base, with the disk id of the leaf unless given.

    VhdxError, OSError.
    """
    with Vhdx.open(leaf, resolver, writable=False) as image:
        levels = [image]
        while (below := levels[-1].parent) is not None:
            levels.append(below)
        base = levels[-1].metadata
        create = create_fixed if base.leave_blocks_allocated else create_dynamic
        create(target, base.virtual_size, base.block_size, disk_id or image.metadata.disk_id, logical_sector_size=base.logical_sector_size,
               physical_sector_size=base.physical_sector_size)
        pieces = {piece for level in levels for offset, length in level.present_ranges() for piece in _cut(offset, length)}
        with Vhdx.open(target) as copy:
            for offset, length in sorted(pieces):
                data = image.read(offset, length)
                if any(data):
                    copy.write(offset, data)


def relink(child: Path, parent: Path, parent_windows_path: str) -> None:
    """The parent of a disk was copied along with it: let it name the copy. VhdxError: that is another disk."""
    with Vhdx.open(child) as image:
        image.set_parent(parent, parent_windows_path)


def _cut(offset: int, length: int) -> list[tuple[int, int]]:
    return [(at, min(MIB, offset + length - at)) for at in range(offset, offset + length, MIB)]


def adopt(child: Path, parent: Path, parent_windows_path: str) -> None:
    """Let a disk hang on ``parent``, which holds the same data as the one it was made from."""
    with Vhdx.open(child) as image:
        image.set_parent(parent, parent_windows_path, ignore_linkage=True)
