# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual disks in the VHDX format of Microsoft's MS-VHDX: create, open, read, write.

Every write goes to the file at once, and in an order that leaves a usable file at every moment: data, then sector bitmap, then the
one eight-byte BAT entry that makes them visible. So the log stays empty, and a copy of the file taken at one instant is what a
host would have after a power failure and log replay. Files are sparse: a large virtual size costs nothing.

A differencing disk keeps presence in units of the *physical* sector (4 KiB by default, the default of New-VHD): a smaller write
takes the rest of the unit from the parent first, as the storage stack of a host does with 512-byte writes to such a disk.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from uuid import UUID, uuid4

from simulator.disks.container import Container, create_file
from simulator.disks.layout import (
    FULLY_PRESENT,
    MIB,
    NOT_PRESENT,
    PARTIALLY_PRESENT,
    READS_AS_ZERO,
    Metadata,
    VhdxError,
    guid_text,
)

__all__ = ["ParentResolver", "Vhdx", "VhdxError", "VhdxInfo", "create_differencing", "create_dynamic", "create_fixed"]

ParentResolver = Callable[[str], "Path | None"]  # a Windows path of a parent locator -> the file here
KIND_FIXED, KIND_DYNAMIC, KIND_DIFFERENCING = 2, 3, 4
FORMAT_VHD, FORMAT_VHDX, FORMAT_VHD_SET = 2, 3, 4


@dataclass(frozen=True)
class VhdxInfo:
    """What Msvm_VirtualHardDiskSettingData tells of a disk (operations 1.4); sizes in bytes.

    ``kind`` 2 fixed, 3 dynamic, 4 differencing; ``format`` 2 VHD, 3 VHDX, 4 VHD Set; ``parent_id`` is the DataWriteGuid that the
    parent must have.
    """

    kind: int
    format: int
    virtual_size: int
    file_size: int
    block_size: int
    disk_id: UUID
    data_write_guid: UUID
    parent_windows_path: str | None = None
    parent_id: UUID | None = None
    logical_sector_size: int = 512
    physical_sector_size: int = 4096


def create_dynamic(path: Path, virtual_size: int, block_size: int = MIB, disk_id: UUID | None = None, *,
                   logical_sector_size: int = 512, physical_sector_size: int = 4096) -> None:
    """A disk that grows. Sizes in bytes; ValueError for sizes that the format refuses, FileExistsError."""
    create_file(path, Metadata(virtual_size, block_size, disk_id or uuid4(), logical_sector_size, physical_sector_size))


def create_fixed(path: Path, virtual_size: int, block_size: int = MIB, disk_id: UUID | None = None, *,
                 logical_sector_size: int = 512, physical_sector_size: int = 4096) -> None:
    """A disk whose blocks are all allocated (the file is as long as the disk, yet sparse here)."""
    metadata = Metadata(virtual_size, block_size, disk_id or uuid4(), logical_sector_size, physical_sector_size,
                        leave_blocks_allocated=True)
    create_file(path, metadata)


def create_differencing(path: Path, parent_path: Path, parent_windows_path: str, *, parent_volume_path: str | None = None,
                        block_size: int | None = None, disk_id: UUID | None = None) -> None:
    r"""A child of ``parent_path``; it takes over the parent's virtual-disk metadata (MS-VHDX 2.6.1.2), the disk id too when None.

    ``parent_windows_path``: the path as the host sees it, for ``absolute_win32_path``; ``parent_volume_path``: the
    ``\\?\Volume{...}\`` form, left out when None. ``relative_path`` follows from the two files' places here.
    """
    with Vhdx.open(parent_path, writable=False) as parent:
        metadata = replace(
            parent.metadata, block_size=block_size or parent.metadata.block_size, disk_id=disk_id or parent.metadata.disk_id,
            leave_blocks_allocated=False,
            locator=make_locator(path, parent_path, parent_windows_path, parent.data_write_guid, parent_volume_path))
    create_file(path, metadata)


def make_locator(path: Path, parent_path: Path, parent_windows_path: str, linkage: UUID,
                 parent_volume_path: str | None = None) -> dict[str, str]:
    """The keys of a parent locator (MS-VHDX 2.6.2.6.3)."""
    relative = os.path.relpath(parent_path, path.parent).replace("/", "\\")
    locator = {
        "parent_linkage": guid_text(linkage),
        "relative_path": relative if relative.startswith("..\\") else f".\\{relative}",
        "absolute_win32_path": parent_windows_path,
    }
    if parent_volume_path is not None:
        locator["volume_path"] = parent_volume_path
    return locator


class Vhdx:
    """An open virtual disk; a context manager. Parents are opened at the first read that needs them, read-only."""

    def __init__(self, container: Container, resolver: ParentResolver | None, descendants: frozenset[tuple[int, int]]) -> None:
        self._container = container
        self._resolver = resolver
        self._descendants = descendants  # files of the chain below this one, to notice a circle
        self._parent: Vhdx | None = None

    @classmethod
    def open(cls, path: Path, parent_resolver: ParentResolver | None = None, *, writable: bool = True) -> Vhdx:
        """Open a disk; nothing is changed before the first write.

        ``parent_resolver`` turns the Windows path of a parent locator into the file here (or None); it is asked when the
        relative path leads nowhere. Raises VhdxError and OSError.
        """
        return cls(Container(path, writable=writable), parent_resolver, frozenset())

    def close(self) -> None:
        """Close this file and its parents."""
        self._drop_parent()
        self._container.close()

    def __enter__(self) -> Vhdx:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # -- what it is -----------------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The file."""
        return self._container.path

    @property
    def metadata(self) -> Metadata:
        """Sizes, disk id and parent locator as they are in the file."""
        return self._container.metadata

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk as a guest sees it."""
        return self.metadata.virtual_size

    @property
    def data_write_guid(self) -> UUID:
        """Changes with the first write after an open; what a child remembers of its parent."""
        return self._container.header.data_write_guid

    def info(self) -> VhdxInfo:
        """Needs no parent."""
        metadata, locator = self.metadata, self.metadata.locator or {}
        absolute = locator.get("absolute_win32_path")
        kind = KIND_FIXED if metadata.leave_blocks_allocated else KIND_DYNAMIC
        return VhdxInfo(
            kind=kind if metadata.locator is None else KIND_DIFFERENCING,
            format=FORMAT_VHD_SET if self.path.suffix.lower() == ".vhds" else FORMAT_VHDX,
            virtual_size=metadata.virtual_size,
            file_size=self._container.size(),
            block_size=metadata.block_size,
            disk_id=metadata.disk_id,
            data_write_guid=self.data_write_guid,
            parent_windows_path=None if absolute is None else _without_prefix(absolute),
            parent_id=UUID(locator["parent_linkage"]) if locator else None,
            logical_sector_size=metadata.logical_sector_size,
            physical_sector_size=metadata.physical_sector_size,
        )

    @property
    def parent(self) -> Vhdx | None:
        """The open parent; None for a disk without one. VhdxError ``parent_missing``, ``parent_changed`` or ``cycle``."""
        if self._parent is None and self.metadata.locator is not None:
            self._parent = self._open_parent(self.metadata.locator)
        return self._parent

    def chain(self) -> list[Path]:
        """The files from this one to the base; opens, and so checks, every link."""
        parent = self.parent
        return [self.path, *(parent.chain() if parent is not None else ())]

    def present_ranges(self) -> Iterator[tuple[int, int]]:
        """(offset, length) in bytes of the virtual disk that this very file holds, in order; a zero block counts as held."""
        for block in range(self.metadata.blocks):
            state, _unused = self._container.payload(block)
            start, length = block * self.metadata.block_size, self._bytes_in(block)
            if state == PARTIALLY_PRESENT:
                for present, at, count in self._runs(block, 0, length):
                    if present:
                        yield start + at, count
            elif state != NOT_PRESENT:
                yield start, length

    # -- reading --------------------------------------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; ValueError outside the disk."""
        self._check_range(offset, length)
        return b"".join(self._read_piece(block, at, count) for block, at, count, _unused in self._pieces(offset, length))

    def _read_piece(self, block: int, at: int, count: int) -> bytes:
        if not count:
            return b""
        state, file_offset = self._container.payload(block)
        if state == FULLY_PRESENT:
            return self._container.read_at(file_offset + at, count)
        start = block * self.metadata.block_size
        if state == NOT_PRESENT:
            return self._read_parent(start + at, count)
        if state in READS_AS_ZERO:
            return bytes(count)
        if state != PARTIALLY_PRESENT:
            raise VhdxError("corrupt", f"block {block} of {self.path.name} has the reserved state {state}")
        return b"".join(
            self._container.read_at(file_offset + first, length) if present else self._read_parent(start + first, length)
            for present, first, length in self._runs(block, at, count))

    def _read_parent(self, offset: int, length: int) -> bytes:
        parent = self.parent
        if parent is None:
            return bytes(length)
        there = max(0, min(length, parent.metadata.virtual_size - offset))  # a child may be larger than its parent
        return (parent.read(offset, there) if there else b"").ljust(length, b"\0")

    def _runs(self, block: int, at: int, count: int) -> Iterator[tuple[bool, int, int]]:
        """(present, start, length) in bytes within ``block`` for the ``count`` bytes from ``at``."""
        sector = self.metadata.logical_sector_size
        first, last = at // sector, (at + count - 1) // sector
        place, shift = self._container.bitmap_place(block, first)
        bits = int.from_bytes(self._container.read_at(place, (shift + last - first) // 8 + 1), "little") >> shift
        for present, run, sectors in bit_runs(bits, last - first + 1):
            start, end = max(at, (first + run) * sector), min(at + count, (first + run + sectors) * sector)
            yield present, start, end - start

    # -- writing --------------------------------------------------------------------------------------------------------------

    def write(self, offset: int, data: bytes) -> None:
        """Write ``data`` at ``offset``, allocating blocks; ValueError outside the disk, VhdxError ``read_only``."""
        self._check_range(offset, len(data))
        if not data:
            return
        self._container.before_change(data_changes=True)
        for block, at, count, done in self._pieces(offset, len(data)):
            self._write_piece(block, at, data[done:done + count])

    def growth(self, offset: int, length: int) -> int:
        """Bytes by which writing this range would lengthen the file at most."""
        blocks = dict.fromkeys(block for block, _at, _count, _done in self._pieces(offset, length))
        missing = sum(self._container.payload(block)[0] not in (FULLY_PRESENT, PARTIALLY_PRESENT) for block in blocks)
        return missing * self.metadata.block_size + (MIB if missing and self.metadata.locator is not None else 0)

    def _write_piece(self, block: int, at: int, data: bytes) -> None:
        state, place = self._container.payload(block)
        if state == FULLY_PRESENT:
            self._container.write_at(place + at, data)
        elif state == PARTIALLY_PRESENT:
            self._write_partial(block, at, data, place)
        elif state == NOT_PRESENT and self.metadata.locator is not None:
            self._write_partial(block, at, data, None)
        else:  # the rest of the new block is a hole of the file: zeros
            place = self._container.allocate(self.metadata.block_size)
            self._container.write_at(place + at, data)
            self._container.set_payload(block, FULLY_PRESENT, place)

    def _write_partial(self, block: int, at: int, data: bytes, existing: int | None) -> None:
        """Write to a block of a differencing disk that is not wholly in this file; ``existing`` None: not at all yet."""
        unit, end, in_block = self._presence_unit(), at + len(data), self._bytes_in(block)
        first, last = at // unit * unit, min(-(-end // unit) * unit, in_block)
        whole = self._read_piece(block, first, at - first) + data + self._read_piece(block, end, last - end)
        place = self._container.allocate(self.metadata.block_size) if existing is None else existing
        self._container.write_at(place + first, whole)
        if first == 0 and last == in_block:
            self._container.set_payload(block, FULLY_PRESENT, place)
            return
        self._mark(block, first, last, fresh=existing is None)
        if existing is None:
            self._container.set_payload(block, PARTIALLY_PRESENT, place)

    def _presence_unit(self) -> int:
        return max(self.metadata.physical_sector_size, self.metadata.logical_sector_size)

    def _mark(self, block: int, first: int, last: int, *, fresh: bool) -> None:
        """Set the bits of the sectors in these bytes of ``block``; a fresh block clears what stands for it first."""
        sector = self.metadata.logical_sector_size
        self._container.ensure_bitmap(block)
        if fresh:
            start, _unused = self._container.bitmap_place(block, 0)
            self._container.write_at(start, bytes(self.metadata.sectors_per_block // 8))
        place, shift = self._container.bitmap_place(block, first // sector)
        count = -(-(last - first) // sector)
        length = (shift + count + 7) // 8
        bits = int.from_bytes(self._container.read_at(place, length), "little") | ((1 << count) - 1) << shift
        self._container.write_at(place, bits.to_bytes(length, "little"))

    def set_disk_id(self, disk_id: UUID) -> None:
        """Give the disk another VirtualDiskId (SetVirtualHardDiskSettingData, operations 3.5)."""
        self._container.before_change(data_changes=True)
        self._container.replace_metadata(replace(self.metadata, disk_id=disk_id))

    def set_parent(self, parent_path: Path, parent_windows_path: str, *, parent_volume_path: str | None = None,
                   ignore_linkage: bool = False) -> None:
        """Point the locator at another file (SetParentVirtualHardDisk, operations 5.7).

        VhdxError ``parent_changed`` when that file is not the parent this disk was made from, unless ``ignore_linkage``.
        """
        if self.metadata.locator is None:
            raise VhdxError("parent_missing", f"{self.path.name} has no parent")
        with Vhdx.open(parent_path, writable=False) as parent:
            linkage = parent.data_write_guid
        if not ignore_linkage and guid_text(linkage) != self.metadata.locator["parent_linkage"].lower():
            raise VhdxError("parent_changed", f"{parent_path.name} is not the parent that {self.path.name} was made from")
        locator = make_locator(self.path, parent_path, parent_windows_path, linkage, parent_volume_path)
        self._container.before_change(data_changes=False)
        self._container.replace_metadata(replace(self.metadata, locator=locator))
        self._drop_parent()

    # -- parents and ranges ---------------------------------------------------------------------------------------------------

    def _drop_parent(self) -> None:
        if self._parent is not None:
            self._parent.close()
            self._parent = None

    def _open_parent(self, locator: Mapping[str, str]) -> Vhdx:
        path = self._find_parent(locator)
        family = self._descendants | {self._container.identity()}
        parent = Vhdx(Container(path, writable=False), self._resolver, family)
        problem = None
        if parent._container.identity() in family:
            problem = VhdxError("cycle", f"the chain of {self.path.name} comes back to {path.name}")
        elif guid_text(parent.data_write_guid) != locator["parent_linkage"].lower():
            problem = VhdxError("parent_changed", f"{path.name} was written to after {self.path.name} was made from it")
        if problem is not None:
            parent.close()
            raise problem
        return parent

    def _find_parent(self, locator: Mapping[str, str]) -> Path:
        """The first place that has a file, in the order of MS-VHDX 2.6.2.6.3."""
        if "relative_path" in locator:
            beside = Path(os.path.normpath(self.path.parent / locator["relative_path"].replace("\\", "/")))
            if beside.is_file():
                return beside
        for key in ("volume_path", "absolute_win32_path"):
            if self._resolver is not None and key in locator:
                found = self._resolver(_without_prefix(locator[key]))
                if found is not None and found.is_file():
                    return found
        wanted = locator.get("absolute_win32_path", locator.get("relative_path", "?"))
        raise VhdxError("parent_missing", f"the parent of {self.path.name} is not there: {wanted}")

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int, int, int]]:
        """(block, start within it, count, bytes before this piece) for a range of the disk."""
        done = 0
        while done < length:
            block, at = divmod(offset + done, self.metadata.block_size)
            count = min(length - done, self.metadata.block_size - at)
            yield block, at, count, done
            done += count

    def _bytes_in(self, block: int) -> int:
        return min(self.metadata.block_size, self.metadata.virtual_size - block * self.metadata.block_size)

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.metadata.virtual_size:
            raise ValueError(f"{length} bytes at {offset} are not inside a disk of {self.metadata.virtual_size} bytes")


def bit_runs(bits: int, count: int) -> Iterator[tuple[bool, int, int]]:
    """(value, start, length) for the runs of equal bits among the ``count`` lowest bits."""
    position = 0
    while position < count:
        rest = bits >> position
        value = bool(rest & 1)
        other = ~rest if value else rest
        length = min((other & -other).bit_length() - 1 if other else count, count - position)
        yield value, position, length
        position += length


def _without_prefix(windows_path: str) -> str:
    r"""A path as people know it: without ``\\?\`` in front of a drive letter."""
    bare = windows_path.removeprefix("\\\\?\\")
    return bare if bare[1:2] == ":" else windows_path
