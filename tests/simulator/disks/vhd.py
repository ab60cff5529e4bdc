# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixed disks in the older VHD format: the data, then a footer of 512 bytes (Virtual Hard Disk Image Format Specification 1.0).

Dynamic and differencing VHD files are not made here.
"""
from __future__ import annotations

import os
import struct
from pathlib import Path
from types import TracebackType
from uuid import UUID, uuid4

from simulator.disks.container import write_at
from simulator.disks.layout import FILE_SIGNATURE, VhdxError
from simulator.disks.vhdx import FORMAT_VHD, KIND_FIXED, VhdxInfo

MAX_VIRTUAL_SIZE = 2040 << 30
_FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427x")
_NO_OFFSET = 0xFFFFFFFFFFFFFFFF


def create_vhd_fixed(path: Path, virtual_size: int, disk_id: UUID | None = None) -> None:
    """A fixed disk of ``virtual_size`` bytes; ValueError when it is no multiple of 512 or over 2040 GiB, FileExistsError."""
    if not 0 < virtual_size <= MAX_VIRTUAL_SIZE or virtual_size % 512:
        raise ValueError("the virtual size is a multiple of 512 bytes, up to 2040 GiB")
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        write_at(file, virtual_size, _footer(virtual_size, disk_id or uuid4()))
    finally:
        os.close(file)


def is_vhd(path: Path) -> bool:
    """Whether the file ends with the footer of a VHD, and is not a VHDX that happens to."""
    with path.open("rb") as file:
        if file.read(len(FILE_SIGNATURE)) == FILE_SIGNATURE:
            return False
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 512))
        return size > 512 and file.read(8) == b"conectix"


class Vhd:
    """An open fixed VHD file; a context manager."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file
        self._size = os.fstat(file).st_size
        footer = os.pread(file, 512, max(0, self._size - 512))
        if len(footer) < 512 or not footer.startswith(b"conectix"):
            raise VhdxError("not_vhdx", f"{path.name} is not a VHD file")
        fields = _FOOTER.unpack(footer)
        self.virtual_size: int = fields[9]
        self._disk_id = UUID(bytes=fields[15])
        if _checksum(footer) != fields[14] or fields[13] != KIND_FIXED or self.virtual_size > self._size - 512:
            raise VhdxError("corrupt", f"{path.name} is not a sound fixed VHD file")

    @classmethod
    def open(cls, path: Path, *, writable: bool = True) -> Vhd:
        """Open a disk. VhdxError ``not_vhdx`` or ``corrupt``, OSError."""
        file = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            return cls(path, file)
        except BaseException:
            os.close(file)
            raise

    def close(self) -> None:
        """Close the file; once more does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Vhd:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def info(self) -> VhdxInfo:
        """A VHD has no DataWriteGuid; the disk id stands for it."""
        return VhdxInfo(kind=KIND_FIXED, format=FORMAT_VHD, virtual_size=self.virtual_size, file_size=self._size, block_size=0,
                        disk_id=self._disk_id, data_write_guid=self._disk_id, physical_sector_size=512)

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; ValueError outside the disk."""
        self._check_range(offset, length)
        return os.pread(self._file, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Write ``data`` at ``offset``; ValueError outside the disk."""
        self._check_range(offset, len(data))
        write_at(self._file, offset, data)

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.virtual_size:
            raise ValueError(f"{length} bytes at {offset} are not inside a disk of {self.virtual_size} bytes")


def _footer(size: int, disk_id: UUID) -> bytes:
    cylinders, heads, sectors = _geometry(size // 512)
    footer = _FOOTER.pack(b"conectix", 2, 0x10000, _NO_OFFSET, 0, b"win ", 0xA0000, b"Wi2k", size, size, cylinders, heads, sectors,
                          KIND_FIXED, 0, disk_id.bytes, 0)
    return footer[:64] + struct.pack(">I", _checksum(footer)) + footer[68:]


def _checksum(footer: bytes) -> int:
    return ~(sum(footer) - sum(footer[64:68])) & 0xFFFFFFFF


def _geometry(total: int) -> tuple[int, int, int]:
    """(cylinders, heads, sectors for each track) of so many sectors, as the specification's appendix computes them."""
    total = min(total, 65535 * 16 * 255)
    if total >= 65535 * 16 * 63:
        return total // 255 // 16, 16, 255
    sectors, tracks = 17, total // 17
    heads = max(4, (tracks + 1023) // 1024)
    if tracks >= heads * 1024 or heads > 16:
        sectors, heads, tracks = 31, 16, total // 31
    if tracks >= heads * 1024:
        sectors, heads, tracks = 63, 16, total // 63
    return tracks // heads, heads, sectors
