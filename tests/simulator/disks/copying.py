# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying a file in chunks, as programs do while others write to it; holes stay holes."""
from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20


def copy_in_chunks(source: Path, target: Path, chunk: int = MIB) -> Iterator[int]:
    """Copy ``source`` over ``target`` chunk by chunk; yields the bytes done after each. Whoever iterates may let others write between.

    The end of the source is looked up anew for each chunk, as a program does that reads until nothing comes any more.
    """
    with source.open("rb") as reader, target.open("wb") as writer:
        done = 0
        while (size := os.fstat(reader.fileno()).st_size) > done:
            count = min(chunk, size - done)
            for start, end in _data_ranges(reader.fileno(), done, done + count):
                writer.seek(start)
                writer.write(os.pread(reader.fileno(), end - start, start))
            done += count
            writer.truncate(done)
            writer.flush()
            yield done


def copy_range(source: Path, target: Path, start: int, end: int) -> None:
    """Write the bytes ``start``..``end`` of a file to the end of ``target``, which has ``start`` bytes so far."""
    with source.open("rb") as reader, target.open("r+b") as writer:
        for begin, stop in _data_ranges(reader.fileno(), start, end):
            for at in range(begin, stop, MIB):
                os.pwrite(writer.fileno(), os.pread(reader.fileno(), min(MIB, stop - at), at), at)
        writer.truncate(end)


def copy_at_once(source: Path, target: Path) -> int:
    """Copy the file as it is now; the bytes. What a snapshot of a volume holds is taken this way, with nobody writing meanwhile."""
    return max(copy_in_chunks(source, target, 64 * MIB), default=0)


def _data_ranges(file: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The ranges within ``start``..``end`` that are not holes."""
    while start < end:
        try:
            begin = os.lseek(file, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole up to the end
                return
            raise
        if begin >= end:
            return
        stop = min(end, os.lseek(file, begin, os.SEEK_HOLE))
        yield begin, stop
        start = stop
