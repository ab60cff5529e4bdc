# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRC-32C (Castagnoli), the checksum of VHDX headers and region tables (MS-VHDX 2.2.2, 2.2.3).

The structures are 4 KiB and 64 KiB long and nearly all zeros, so runs of trailing zeros are not walked byte by byte: they are
one linear map over GF(2), kept for each length.
"""
from __future__ import annotations

from functools import cache

_POLYNOMIAL = 0x82F63B78  # reflected 0x1EDC6F41


def _byte_step(value: int) -> int:
    for _unused in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = tuple(_byte_step(value) for value in range(256))


def crc32c(data: bytes) -> int:
    """The CRC-32C of ``data``; ``crc32c(b"123456789") == 0xE3069283``."""
    head = data.rstrip(b"\0")
    crc = 0xFFFFFFFF
    for byte in head:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    if len(head) < len(data):
        crc = _apply(_zeros(len(data) - len(head)), crc)
    return crc ^ 0xFFFFFFFF


@cache
def _zeros(count: int) -> tuple[int, ...]:
    """The map that ``count`` zero bytes apply to the register, as the images of its 32 bits."""
    if count == 1:
        return tuple(_TABLE[(1 << bit) & 0xFF] ^ ((1 << bit) >> 8) for bit in range(32))
    half = _zeros(count // 2)
    whole = tuple(_apply(half, image) for image in half)
    return tuple(_apply(_zeros(1), image) for image in whole) if count % 2 else whole


def _apply(images: tuple[int, ...], value: int) -> int:
    result = 0
    for bit, image in enumerate(images):
        if value >> bit & 1:
            result ^= image
    return result
