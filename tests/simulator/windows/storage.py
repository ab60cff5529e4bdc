# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real bytes of volumes: sparse-aware copies of files and trees, and how much two states of a tree differ."""
from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

BLOCK = 16 * 1024
"""The unit in which a diff area keeps old data."""

_PIECE = 1024 * 1024
_FICLONE = 0x40049409


def tree_bytes(root: Path) -> int:
    """The sum of the sizes of all files below ``root``. Files that vanish meanwhile count as nothing."""
    total = 0
    waiting = [os.fspath(root)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
    return total


def _data_ranges(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Offset and length of what is not a hole."""
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, min(end, size) - start
        at = end


def clone_file(source: Path, target: Path) -> None:
    """Copy one file: as a reflink where the file system can, otherwise only what is not a hole. Times are kept."""
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:
            size = os.fstat(reader.fileno()).st_size
            for start, length in _data_ranges(reader.fileno(), size):
                _copy_range(reader.fileno(), writer.fileno(), start, length)
            writer.truncate(size)
    shutil.copystat(source, target)


def _copy_range(reader: int, writer: int, start: int, length: int) -> None:
    done = 0
    while done < length:
        piece = os.pread(reader, min(_PIECE, length - done), start + done)
        if not piece:
            return
        os.pwrite(writer, piece, start + done)
        done += len(piece)


def clone_tree(source: Path, target: Path) -> None:
    """Copy a whole folder into ``target``, which is made."""
    target.mkdir(parents=True)
    for entry in sorted(source.iterdir()):
        if entry.is_dir():
            clone_tree(entry, target / entry.name)
        else:
            clone_file(entry, target / entry.name)


def remove_tree(root: Path) -> None:
    """Remove a folder of ours with everything in it."""
    shutil.rmtree(root)


def changed_bytes(old: Path, new: Path) -> int:
    """How many bytes, in whole blocks, a diff area needs to bring ``new`` back to ``old``.

    A file that was removed or is new counts with its whole size: writing new files fills the area too (operations 5.4).
    """
    old_files = {path.relative_to(old): path for path in old.rglob("*") if path.is_file()}
    new_files = {path.relative_to(new): path for path in new.rglob("*") if path.is_file()}
    total = 0
    for name in old_files.keys() | new_files.keys():
        if name in old_files and name in new_files:
            total += _changed_blocks(old_files[name], new_files[name]) * BLOCK
        else:
            size = (old_files.get(name) or new_files[name]).stat().st_size
            total += -(-size // BLOCK) * BLOCK
    return total


def _changed_blocks(old: Path, new: Path) -> int:
    changed = 0
    with old.open("rb") as before, new.open("rb") as after:
        size = max(os.fstat(before.fileno()).st_size, os.fstat(after.fileno()).st_size)
        touched = {start // _PIECE + n
                   for descriptor in (before.fileno(), after.fileno())
                   for start, length in _data_ranges(descriptor, os.fstat(descriptor).st_size)
                   for n in range((start % _PIECE + length - 1) // _PIECE + 1)}
        if os.fstat(before.fileno()).st_size != os.fstat(after.fileno()).st_size:
            touched.add(size // _PIECE)
        for piece in sorted(touched):
            left = os.pread(before.fileno(), _PIECE, piece * _PIECE)
            right = os.pread(after.fileno(), _PIECE, piece * _PIECE)
            if left != right:
                changed += sum(1 for at in range(0, max(len(left), len(right)), BLOCK) if left[at:at + BLOCK] != right[at:at + BLOCK])
    return changed
