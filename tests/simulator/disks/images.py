# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual disks of either format, by their content."""
from __future__ import annotations

from pathlib import Path
from typing import Protocol

from simulator.disks.vhd import Vhd, is_vhd
from simulator.disks.vhdx import ParentResolver, Vhdx, VhdxInfo


class Image(Protocol):
    """An open virtual disk."""

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk as a guest sees it."""

    def info(self) -> VhdxInfo:
        """What it is."""

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the disk."""

    def write(self, offset: int, data: bytes) -> None:
        """Change bytes of the disk."""

    def close(self) -> None:
        """Close the file and its parents."""


def open_image(path: Path, parent_resolver: ParentResolver | None = None, *, writable: bool = True) -> Image:
    """Open a VHDX, VHD Set or fixed VHD file; VhdxError ``not_vhdx`` for anything else, OSError."""
    if is_vhd(path):
        return Vhd.open(path, writable=writable)
    return Vhdx.open(path, parent_resolver, writable=writable)


def inspect_image(path: Path) -> VhdxInfo:
    """What a disk file is; needs no parent. VhdxError, OSError."""
    image = open_image(path, writable=False)
    try:
        return image.info()
    finally:
        image.close()
