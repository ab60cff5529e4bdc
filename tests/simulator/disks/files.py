# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk files by description: a file comes into being when somebody first needs it."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

from simulator.disks.images import open_image
from simulator.disks.layout import MIB
from simulator.disks.vhd import create_vhd_fixed
from simulator.disks.vhdx import create_differencing, create_dynamic, create_fixed


@dataclass(frozen=True)
class ParentFile:
    """The parent of a differencing disk: where it is here, how the host calls it, and what it is when it must be made too."""

    path: Path
    windows_path: str
    file: DiskFile | None = None


@dataclass(frozen=True)
class DiskFile:
    """One disk file. ``vhd`` is a fixed disk in the older format; a VHD Set is a dynamic disk whose name ends in ``.vhds``.

    ``virtual_size`` in bytes; a differencing disk has that of its ``parent``, which it needs. ``disk_id`` None: a random one, or the
    parent's. ``content``: the first bytes of the disk.
    """

    kind: Literal["dynamic", "fixed", "differencing", "vhd"] = "dynamic"
    virtual_size: int = 128 * MIB
    block_size: int = MIB
    disk_id: UUID | None = None
    parent: ParentFile | None = None
    content: bytes = b""


def ensure(path: Path, file: DiskFile) -> bool:
    """Make the file unless it exists, parents first; whether it was made. A file that could not be finished never shows.

    ValueError for a description that makes no sense, VhdxError and OSError as the creators raise them.
    """
    if path.exists():
        return False
    if file.parent is not None and file.parent.file is not None:
        ensure(file.parent.path, file.parent.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.new")  # in the same folder, so that the relative path to a parent holds
    staging.unlink(missing_ok=True)
    try:
        _create(staging, file)
        staging.rename(path)
    finally:
        staging.unlink(missing_ok=True)
    return True


def _create(path: Path, file: DiskFile) -> None:
    if (file.kind == "differencing") != (file.parent is not None):
        raise ValueError("a differencing disk has a parent, no other has one")
    if file.parent is not None:
        create_differencing(path, file.parent.path, file.parent.windows_path, disk_id=file.disk_id)
    elif file.kind == "vhd":
        create_vhd_fixed(path, file.virtual_size, file.disk_id)
    else:
        create = create_fixed if file.kind == "fixed" else create_dynamic
        create(path, file.virtual_size, file.block_size, file.disk_id)
    if file.content:
        image = open_image(path)
        try:
            image.write(0, file.content)
        finally:
            image.close()
