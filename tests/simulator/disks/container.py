# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VHDX file below its blocks' contents: headers, region tables, metadata, BAT entries, room for new blocks (MS-VHDX 2.2 - 2.6)."""
from __future__ import annotations

import os
from array import array
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

from simulator.disks.layout import (
    BAT_OFFSET,
    BAT_REGION,
    FILE_SIGNATURE,
    FULLY_PRESENT,
    HEADER_OFFSETS,
    KIB,
    METADATA_OFFSET,
    METADATA_REGION,
    MIB,
    REGION_TABLE_OFFSETS,
    REGION_TABLE_SIZE,
    Header,
    Metadata,
    VhdxError,
    pack_bat_entry,
    pack_region_table,
    parse_bat_entry,
    parse_region_table,
)


def create_file(path: Path, metadata: Metadata) -> None:
    """A new VHDX file of this description; ValueError for sizes that the format refuses, FileExistsError."""
    metadata.check()
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        write_at(file, 0, FILE_SIGNATURE + "agentless.hyperv simulator".encode("utf-16-le"))
        header = Header(0, uuid4(), uuid4())
        for sequence, offset in enumerate(HEADER_OFFSETS, 1):
            write_at(file, offset, replace(header, sequence=sequence).pack())
        for offset in REGION_TABLE_OFFSETS:
            write_at(file, offset, pack_region_table(metadata.bat_length))
        write_at(file, METADATA_OFFSET, metadata.pack())
        end = BAT_OFFSET + metadata.bat_length
        if metadata.leave_blocks_allocated:
            write_at(file, BAT_OFFSET, _full_bat(metadata, end))
            end += metadata.blocks * metadata.block_size
        os.ftruncate(file, end)
    finally:
        os.close(file)


def _full_bat(metadata: Metadata, first: int) -> bytes:
    """The BAT of a fixed disk: every payload block present, in order, from file offset ``first``."""
    entries = array("Q")
    for block in range(metadata.blocks):
        if block and block % metadata.chunk_ratio == 0:
            entries.append(0)  # the place of a sector bitmap
        entries.append((first + block * metadata.block_size) // MIB << 20 | FULLY_PRESENT)
    return entries.tobytes()


class Container:
    """An open file and its structures. Nothing is cached but the headers and the metadata, so a reader sees what is on disk."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        self._writable = writable
        self._session_begun = False  # FileWriteGuid renewed since the open
        self._data_changed = False  # DataWriteGuid renewed since the open
        self._file = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            self._current_slot, self.header = self._current_header()
            regions = self._regions()
            self._bat_offset, _unused = regions[BAT_REGION]
            self._metadata_offset, length = regions[METADATA_REGION]
            self.metadata = Metadata.parse(self.read_at(self._metadata_offset, min(length, MIB)))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; once more does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def identity(self) -> tuple[int, int]:
        """What tells this file from others on the machine."""
        status = os.fstat(self._file)
        return status.st_dev, status.st_ino

    def size(self) -> int:
        """Bytes of the file, holes included."""
        return os.fstat(self._file).st_size

    # -- headers and metadata -------------------------------------------------------------------------------------------------

    def before_change(self, *, data_changes: bool) -> None:
        """Renew the GUIDs that the first change of a session renews, in both headers (MS-VHDX 2.2.2.1); VhdxError ``read_only``."""
        if not self._writable:
            raise VhdxError("read_only", f"{self.path.name} is open for reading only")
        if self._session_begun and (self._data_changed or not data_changes):
            return
        header = self.header
        if not self._session_begun:
            header = replace(header, file_write_guid=uuid4())
        if data_changes:
            header = replace(header, data_write_guid=uuid4())
        for _unused in HEADER_OFFSETS:
            header = replace(header, sequence=header.sequence + 1)
            self._current_slot = 1 - self._current_slot
            self.write_at(HEADER_OFFSETS[self._current_slot], header.pack())
        self.header = header
        self._session_begun, self._data_changed = True, self._data_changed or data_changes

    def replace_metadata(self, metadata: Metadata) -> None:
        """Write other metadata; the caller has called :meth:`before_change`. Not safe against a crash in between: offline work."""
        packed, before = metadata.pack(), self.metadata.pack()
        self.write_at(self._metadata_offset, packed.ljust(len(before), b"\0"))
        self.metadata = metadata

    def _current_header(self) -> tuple[int, Header]:
        if self.read_at(0, len(FILE_SIGNATURE)) != FILE_SIGNATURE:
            raise VhdxError("not_vhdx", f"{self.path.name} is not a VHDX file")
        found = [(header.sequence, slot, header) for slot, offset in enumerate(HEADER_OFFSETS)
                 if (header := Header.parse(self.read_at(offset, 4 * KIB))) is not None]
        if not found:
            raise VhdxError("corrupt", f"{self.path.name} has no valid header")
        _unused, slot, header = max(found, key=lambda entry: entry[0])
        if header.log_guid.int:
            raise VhdxError("log_pending", f"{self.path.name} has a log to be replayed")
        return slot, header

    def _regions(self) -> dict[UUID, tuple[int, int]]:
        for offset in REGION_TABLE_OFFSETS:
            regions = parse_region_table(self.read_at(offset, REGION_TABLE_SIZE))
            if regions is not None and BAT_REGION in regions and METADATA_REGION in regions:
                return regions
        raise VhdxError("corrupt", f"{self.path.name} has no valid region table")

    # -- block allocation table -----------------------------------------------------------------------------------------------

    def payload(self, block: int) -> tuple[int, int]:
        """(state, file offset) of a payload block."""
        return self._entry(self._payload_index(block))

    def set_payload(self, block: int, state: int, file_offset: int) -> None:
        """Make a block what it is from now on."""
        self._set_entry(self._payload_index(block), state, file_offset)

    def bitmap_place(self, block: int, sector: int) -> tuple[int, int]:
        """(file offset of the byte, bit in it) of ``sector`` of ``block`` in the sector bitmap."""
        state, start = self._entry(self._bitmap_index(block))
        if state != FULLY_PRESENT:
            raise VhdxError("corrupt", f"block {block} of {self.path.name} has no sector bitmap")
        number = block % self.metadata.chunk_ratio * self.metadata.sectors_per_block + sector
        return start + number // 8, number % 8

    def ensure_bitmap(self, block: int) -> None:
        """Allocate the sector bitmap block for the chunk of ``block``."""
        if self._entry(self._bitmap_index(block))[0] != FULLY_PRESENT:
            self._set_entry(self._bitmap_index(block), FULLY_PRESENT, self.allocate(MIB))

    def _payload_index(self, block: int) -> int:
        return block + block // self.metadata.chunk_ratio

    def _bitmap_index(self, block: int) -> int:
        ratio = self.metadata.chunk_ratio
        return (block // ratio + 1) * (ratio + 1) - 1

    def _entry(self, index: int) -> tuple[int, int]:
        return parse_bat_entry(self.read_at(self._bat_offset + index * 8, 8))

    def _set_entry(self, index: int, state: int, file_offset: int) -> None:
        self.write_at(self._bat_offset + index * 8, pack_bat_entry(state, file_offset))

    # -- bytes ----------------------------------------------------------------------------------------------------------------

    def allocate(self, length: int) -> int:
        """Lengthen the file by ``length`` bytes of zeros; the offset of them, a multiple of 1 MiB."""
        start = -(-self.size() // MIB) * MIB
        os.ftruncate(self._file, start + length)
        return start

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes of the file; zeros behind its end."""
        data = os.pread(self._file, length, offset)
        while len(data) < length:  # a short read, or a file that ends early
            more = os.pread(self._file, length - len(data), offset + len(data))
            if not more:
                return data.ljust(length, b"\0")
            data += more
        return data

    def write_at(self, offset: int, data: bytes) -> None:
        """Write bytes of the file."""
        write_at(self._file, offset, data)


def write_at(file: int, offset: int, data: bytes) -> None:
    """All of ``data`` at ``offset`` of a file descriptor."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
