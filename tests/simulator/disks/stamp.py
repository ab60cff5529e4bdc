# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest leaves on its disks, as bytes: an index sector and data blocks of eight stamped sectors.

A guest's writes are numbered 1, 2, 3... Write ``n`` goes to disk ``n % disks`` of the guest, there to slot
``(n // disks) % slots``. The slots lie scattered over a few MiB, so that neighbouring writes fall into distant places of the file.
Each of the eight sectors of a block carries guest, number, slot, its own position and a checksum. The index, at 32 KiB, carries
the number of the last write that is done.
"""
from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache

SECTOR = 512
BLOCK = 4096
INDEX_OFFSET = 32 * 1024  # what comes before is left to whoever wants a boot sector there
SECTORS_PER_BLOCK = BLOCK // SECTOR
DATA_START = 64 * 1024
WIDEST_STRIDE = 64 * 1024

_INDEX = struct.Struct("<8s16sHHIIQQB")
_STAMP = struct.Struct("<8s16sQIB")
_INDEX_MAGIC, _STAMP_MAGIC = b"AHGINDEX", b"AHGSTAMP"


@dataclass(frozen=True)
class Index:
    """The index sector of one disk: who writes, where the slots are, and ``committed``, the last write of this disk that is done.

    ``quiesced``: written by a guest that has been asked to hold its writes (application consistency).
    """

    guest: bytes
    disk: int
    disks: int
    slots: int
    stride: int
    committed: int = 0
    quiesced: bool = False

    def pack(self) -> bytes:
        """512 bytes."""
        return _sealed(_INDEX.pack(_INDEX_MAGIC, self.guest, self.disk, self.disks, self.slots, self.stride, DATA_START,
                                   self.committed, self.quiesced))

    @classmethod
    def parse(cls, sector: bytes) -> Index | None:
        """None when these 512 bytes are no index."""
        if not _seal_holds(sector, _INDEX_MAGIC):
            return None
        _unused, guest, disk, disks, slots, stride, _unused, committed, quiesced = _INDEX.unpack_from(sector)
        return cls(guest, disk, disks, slots, stride, committed, bool(quiesced))

    def slot_of(self, sequence: int) -> int:
        """The slot of a write of this disk."""
        return sequence // self.disks % self.slots

    def offset_of(self, slot: int) -> int:
        """Where a slot is, in bytes of the virtual disk. 5/8 of the slots (made odd) lie between one slot and the next."""
        return DATA_START + slot * (self.slots * 5 // 8 | 1) % self.slots * self.stride

    def following(self) -> int:
        """The first write of this disk after ``committed``."""
        return self.committed + self.disks if self.committed else (self.disk or self.disks)

    def at(self, limit: int) -> int:
        """The last write of this disk up to ``limit``, a number of the guest; 0 for none."""
        return max(0, limit - (limit - self.disk) % self.disks)


def layout(virtual_size: int, slots: int) -> int:
    """The stride in bytes for so many slots on a disk of this size; ValueError when they do not fit or are no power of two."""
    if slots < 2 or slots & (slots - 1):
        raise ValueError("the number of slots is a power of two")
    stride = min(WIDEST_STRIDE, (virtual_size - DATA_START) // slots // BLOCK * BLOCK)
    if stride < BLOCK:
        raise ValueError(f"a disk of {virtual_size} bytes has no room for {slots} slots")
    return stride


def stamp(guest: bytes, sequence: int, slot: int, position: int) -> bytes:
    """One sector of a data block."""
    head = _STAMP.pack(_STAMP_MAGIC, guest, sequence, slot, position)
    filler = (sequence * 2654435761 + position & 0xFFFFFFFF).to_bytes(4, "little") * (SECTOR // 4)
    return _sealed(head + filler[:SECTOR - len(head) - 4])


@lru_cache(maxsize=16)
def block(guest: bytes, sequence: int, slot: int) -> bytes:
    """The 4 KiB of one write; it is written in two halves."""
    return b"".join(stamp(guest, sequence, slot, position) for position in range(SECTORS_PER_BLOCK))


def read_stamp(sector: bytes, guest: bytes, slot: int, position: int) -> int | None:
    """The number of the write that this sector belongs to; 0 when nothing was ever written there; None when it is broken."""
    if not sector.startswith(_STAMP_MAGIC):
        return 0 if not any(sector) else None
    _unused, writer, sequence, _unused, _unused = _STAMP.unpack_from(sector)
    return sequence if writer == guest and sector == stamp(guest, sequence, slot, position) else None


def _sealed(content: bytes) -> bytes:
    body = content.ljust(SECTOR - 4, b"\0")
    return body + struct.pack("<I", zlib.crc32(body))


def _seal_holds(sector: bytes, magic: bytes) -> bool:
    return len(sector) == SECTOR and sector.startswith(magic) and sector == _sealed(sector[:-4])
