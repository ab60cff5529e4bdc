# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The structures of a VHDX file as bytes: headers, region tables, metadata, parent locator, BAT entries (MS-VHDX 2.2 - 2.6).

Layout that :mod:`simulator.disks.vhdx` writes: file identifier at 0, headers at 64 and 128 KiB, region tables at 192 and 256 KiB,
an empty log at 1 MiB, the metadata region at 2 MiB, the BAT at 3 MiB, blocks behind it. What is read may lie anywhere.
"""
from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from simulator.disks.crc32c import crc32c

KIB = 1 << 10
MIB = 1 << 20
SECTORS_PER_CHUNK = 1 << 23  # what one sector bitmap block of 1 MiB describes
MAX_VIRTUAL_SIZE = 64 << 40

FILE_SIGNATURE = b"vhdxfile"
HEADER_OFFSETS = (64 * KIB, 128 * KIB)
REGION_TABLE_OFFSETS = (192 * KIB, 256 * KIB)
REGION_TABLE_SIZE = 64 * KIB
LOG_OFFSET, LOG_LENGTH = 1 * MIB, 1 * MIB
METADATA_OFFSET, METADATA_LENGTH = 2 * MIB, 1 * MIB
BAT_OFFSET = 3 * MIB

BAT_REGION = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_REGION = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VIRTUAL_DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
VIRTUAL_DISK_ID = UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR_SIZE = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR_SIZE = UUID("cda348c7-445d-4471-9cc9-e9885251c556")
PARENT_LOCATOR = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
VHDX_LOCATOR_TYPE = UUID("b04aefb7-d19e-4a81-b789-25b8e9445913")

NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, FULLY_PRESENT, PARTIALLY_PRESENT = 0, 1, 2, 3, 6, 7
READS_AS_ZERO = (UNDEFINED, ZERO, UNMAPPED)

NO_LOG = UUID(int=0)

_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
_REGION_ENTRY = struct.Struct("<16sQII")
_METADATA_ENTRY = struct.Struct("<16sIIII")
_LOCATOR_ENTRY = struct.Struct("<IIHH")
_REQUIRED, _VIRTUAL_DISK = 4, 2  # flags of a metadata table entry
_KNOWN_ITEMS = frozenset({FILE_PARAMETERS, VIRTUAL_DISK_SIZE, VIRTUAL_DISK_ID, LOGICAL_SECTOR_SIZE, PHYSICAL_SECTOR_SIZE,
                          PARENT_LOCATOR})


class VhdxError(Exception):
    """A virtual disk that cannot be used.

    ``reason``: ``not_vhdx``, ``corrupt``, ``log_pending``, ``parent_missing``, ``parent_changed`` (its data were written to after
    the child was made), ``cycle``, ``read_only``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """One of the two headers; the valid one with the higher sequence number is current."""

    sequence: int
    file_write_guid: UUID
    data_write_guid: UUID
    log_guid: UUID = NO_LOG

    def pack(self) -> bytes:
        """4 KiB, with the checksum in place."""
        return _sealed(_HEADER.pack(
            b"head", 0, self.sequence, self.file_write_guid.bytes_le, self.data_write_guid.bytes_le, self.log_guid.bytes_le,
            0, 1, LOG_LENGTH, LOG_OFFSET), 4 * KIB)

    @classmethod
    def parse(cls, data: bytes) -> Header | None:
        """The header in these 4 KiB; None when signature, checksum or version do not hold."""
        if len(data) < 4 * KIB or not _seal_holds(data, b"head"):
            return None
        _unused, _unused, sequence, file_guid, data_guid, log_guid, _unused, version, _unused, _unused = _HEADER.unpack_from(data)
        if version != 1:
            return None
        return cls(sequence, UUID(bytes_le=file_guid), UUID(bytes_le=data_guid), UUID(bytes_le=log_guid))


@lru_cache(maxsize=64)
def pack_region_table(bat_length: int) -> bytes:
    """64 KiB: where BAT and metadata are, in the layout of this module."""
    entries = ((BAT_REGION, BAT_OFFSET, bat_length), (METADATA_REGION, METADATA_OFFSET, METADATA_LENGTH))
    table = struct.pack("<4sIII", b"regi", 0, len(entries), 0)
    table += b"".join(_REGION_ENTRY.pack(guid.bytes_le, offset, length, 1) for guid, offset, length in entries)
    return _sealed(table, REGION_TABLE_SIZE)


def parse_region_table(data: bytes) -> dict[UUID, tuple[int, int]] | None:
    """Region -> (offset, length) in bytes; None when the table does not hold. An unknown region that is required: VhdxError."""
    if len(data) < REGION_TABLE_SIZE or not _seal_holds(data, b"regi"):
        return None
    (count,) = struct.unpack_from("<I", data, 8)
    regions = {}
    for index in range(min(count, 2047)):
        guid, offset, length, required = _REGION_ENTRY.unpack_from(data, 16 + index * _REGION_ENTRY.size)
        region = UUID(bytes_le=guid)
        if required & 1 and region not in (BAT_REGION, METADATA_REGION):
            raise VhdxError("corrupt", f"region {region} is required and not known")
        regions[region] = (offset, length)
    return regions


@dataclass(frozen=True)
class Metadata:
    """The metadata region: sizes in bytes; ``locator`` is None when the disk has no parent."""

    virtual_size: int
    block_size: int
    disk_id: UUID
    logical_sector_size: int = 512
    physical_sector_size: int = 4096
    leave_blocks_allocated: bool = False  # a fixed disk
    locator: Mapping[str, str] | None = None

    def check(self) -> None:
        """ValueError when a size breaks MS-VHDX 2.6.2."""
        if self.logical_sector_size not in (512, 4096) or self.physical_sector_size not in (512, 4096):
            raise ValueError("a sector has 512 or 4096 bytes")
        if not MIB <= self.block_size <= 256 * MIB or self.block_size & (self.block_size - 1):
            raise ValueError("a block is a power of two from 1 to 256 MiB")
        if not 0 < self.virtual_size <= MAX_VIRTUAL_SIZE or self.virtual_size % self.logical_sector_size:
            raise ValueError("the virtual size is a multiple of the sector size, up to 64 TiB")

    @property
    def chunk_ratio(self) -> int:
        """Payload blocks for each sector bitmap block."""
        return SECTORS_PER_CHUNK * self.logical_sector_size // self.block_size

    @property
    def blocks(self) -> int:
        """Payload blocks of the disk."""
        return -(-self.virtual_size // self.block_size)

    @property
    def sectors_per_block(self) -> int:
        """Logical sectors of a payload block."""
        return self.block_size // self.logical_sector_size

    @property
    def bat_length(self) -> int:
        """Bytes of the BAT region (MS-VHDX 2.5): a differencing disk has a bitmap entry for its last chunk as well."""
        if self.locator is not None:
            entries = -(-self.blocks // self.chunk_ratio) * (self.chunk_ratio + 1)
        else:
            entries = self.blocks + (self.blocks - 1) // self.chunk_ratio
        return -(-entries * 8 // MIB) * MIB

    def pack(self) -> bytes:
        """The metadata region up to its last item, items from 64 KiB on."""
        flags = (1 if self.leave_blocks_allocated else 0) | (2 if self.locator is not None else 0)
        items = [
            (FILE_PARAMETERS, struct.pack("<II", self.block_size, flags), _REQUIRED),
            (VIRTUAL_DISK_SIZE, struct.pack("<Q", self.virtual_size), _REQUIRED | _VIRTUAL_DISK),
            (VIRTUAL_DISK_ID, self.disk_id.bytes_le, _REQUIRED | _VIRTUAL_DISK),
            (LOGICAL_SECTOR_SIZE, struct.pack("<I", self.logical_sector_size), _REQUIRED | _VIRTUAL_DISK),
            (PHYSICAL_SECTOR_SIZE, struct.pack("<I", self.physical_sector_size), _REQUIRED | _VIRTUAL_DISK),
        ]
        if self.locator is not None:
            items.append((PARENT_LOCATOR, _pack_locator(self.locator), _REQUIRED))
        table = struct.pack("<8sHH20x", b"metadata", 0, len(items))
        body = b""
        for item, value, entry_flags in items:
            table += _METADATA_ENTRY.pack(item.bytes_le, 64 * KIB + len(body), len(value), entry_flags, 0)
            body += value
        return table.ljust(64 * KIB, b"\0") + body

    @classmethod
    def parse(cls, region: bytes) -> Metadata:
        """Read a metadata region; VhdxError ``corrupt`` when an item is missing or broken."""
        items = _metadata_items(region)
        try:
            block_size, flags = struct.unpack("<II", items[FILE_PARAMETERS])
            metadata = cls(
                virtual_size=struct.unpack("<Q", items[VIRTUAL_DISK_SIZE])[0],
                block_size=block_size,
                disk_id=UUID(bytes_le=items[VIRTUAL_DISK_ID]),
                logical_sector_size=struct.unpack("<I", items[LOGICAL_SECTOR_SIZE])[0],
                physical_sector_size=struct.unpack("<I", items[PHYSICAL_SECTOR_SIZE])[0],
                leave_blocks_allocated=bool(flags & 1) and not flags & 2,
                locator=_parse_locator(items[PARENT_LOCATOR]) if flags & 2 else None,
            )
            metadata.check()
        except (KeyError, struct.error, ValueError) as error:
            raise VhdxError("corrupt", f"the metadata are not readable: {error}") from error
        return metadata


def _metadata_items(region: bytes) -> dict[UUID, bytes]:
    if region[:8] != b"metadata":
        raise VhdxError("corrupt", "the metadata region has no signature")
    (count,) = struct.unpack_from("<H", region, 10)
    items = {}
    for index in range(min(count, 2047)):
        guid, offset, length, flags, _unused = _METADATA_ENTRY.unpack_from(region, 32 + index * _METADATA_ENTRY.size)
        item = UUID(bytes_le=guid)
        if flags & _REQUIRED and item not in _KNOWN_ITEMS:
            raise VhdxError("corrupt", f"metadata item {item} is required and not known")
        items[item] = region[offset:offset + length]
    return items


def _pack_locator(entries: Mapping[str, str]) -> bytes:
    table = struct.pack("<16sHH", VHDX_LOCATOR_TYPE.bytes_le, 0, len(entries))
    start, body = len(table) + len(entries) * _LOCATOR_ENTRY.size, b""
    for key, value in entries.items():
        encoded_key, encoded_value = key.encode("utf-16-le"), value.encode("utf-16-le")
        offset = start + len(body)
        table += _LOCATOR_ENTRY.pack(offset, offset + len(encoded_key), len(encoded_key), len(encoded_value))
        body += encoded_key + encoded_value
    return table + body


def _parse_locator(item: bytes) -> dict[str, str]:
    kind, _unused, count = struct.unpack_from("<16sHH", item)
    if UUID(bytes_le=kind) != VHDX_LOCATOR_TYPE:
        raise ValueError("a parent locator of an unknown type")
    entries = {}
    for index in range(count):
        key_at, value_at, key_length, value_length = _LOCATOR_ENTRY.unpack_from(item, 20 + index * _LOCATOR_ENTRY.size)
        key = item[key_at:key_at + key_length].decode("utf-16-le")
        entries[key] = item[value_at:value_at + value_length].decode("utf-16-le")
    return entries


def pack_bat_entry(state: int, file_offset: int) -> bytes:
    """Eight bytes; ``file_offset`` in bytes, a multiple of 1 MiB."""
    return struct.pack("<Q", file_offset // MIB << 20 | state)


def parse_bat_entry(data: bytes) -> tuple[int, int]:
    """(state, file offset in bytes)."""
    (value,) = struct.unpack("<Q", data)
    return value & 7, (value >> 20) * MIB


def guid_text(value: UUID) -> str:
    """The form of the locator's ``parent_linkage``: lower case in braces."""
    return f"{{{value}}}"


def _sealed(content: bytes, size: int) -> bytes:
    data = content.ljust(size, b"\0")
    return data[:4] + struct.pack("<I", crc32c(data)) + data[8:]


def _seal_holds(data: bytes, signature: bytes) -> bool:
    (stored,) = struct.unpack_from("<I", data, 4)
    return data[:4] == signature and crc32c(data[:4] + b"\0\0\0\0" + data[8:]) == stored
