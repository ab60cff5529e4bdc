# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image of a guest's disk proves, read with an independent reader of VHDX and VHD files (dissect.hypervisor) only.

    python -m simulator.disks.proof FILE [PARENT ...] [--until N]

prints one line for the disk and ends with 0 when the image is consistent (and holds the writes up to N, none after), else with 1.
What "consistent" means is told in :mod:`simulator.disks.guest`.
"""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from dissect.hypervisor.disk import c_vhdx
from dissect.hypervisor.disk.vhd import VHD
from dissect.hypervisor.disk.vhdx import VHDX, MetadataTable, RegionTable
from dissect.hypervisor.exceptions import Error as DissectError

from simulator.disks import stamp

_UNREADABLE = (DissectError, OSError, EOFError, ValueError, LookupError, TypeError, ArithmeticError)  # what dissect makes of damage


@dataclass(frozen=True)
class Torn:
    """A block that must be one write but is not: the writes its sectors belong to (0 nothing, None broken), in order."""

    slot: int
    expected: int
    found: tuple[int | None, ...]


@dataclass(frozen=True)
class Proof:
    """What an image holds. Numbers are those of the guest's writes.

    ``first``..``last``: what must be visible: ``last`` is the number in the index, ``first`` the oldest write that no later one
    has replaced. ``in_flight``: the write that had begun at the instant of the image. ``missing``: must be there and is not.
    ``ahead``: later than the index allows. ``fault``: why the disk cannot be read at all, else None.
    """

    name: str
    fault: str | None = None
    guest: str = ""
    disk: int = 0
    disks: int = 1
    first: int = 0
    last: int = 0
    in_flight: int | None = None
    quiesced: bool = False
    missing: tuple[int, ...] = ()
    torn: tuple[Torn, ...] = ()
    ahead: tuple[int, ...] = ()
    visible: frozenset[int] = frozenset()

    @property
    def consistent(self) -> bool:
        """The image is the disk at one instant."""
        return self.fault is None and not (self.missing or self.torn or self.ahead) and not (self.quiesced and self.in_flight)

    def beyond(self, limit: int) -> tuple[int, ...]:
        """The whole writes after ``limit`` that the image holds; a write in flight right after it is not done, so not one."""
        pending = self.in_flight if self.in_flight is not None and self.last <= limit else None
        return tuple(sorted(n for n in self.visible if n > limit and n != pending))

    def holds_until(self, limit: int) -> bool:
        """Every write of this disk up to ``limit`` (that was not replaced since) is there, none after, no block torn."""
        wanted = max(0, limit - (limit - self.disk) % self.disks)
        return self.consistent and self.last == wanted and not self.beyond(limit)

    def summary(self) -> str:
        """One line for people."""
        if self.fault is not None:
            return f"{self.name}: not readable: {self.fault}"
        if self.consistent:
            there = f"writes {self.first} to {self.last} are there, none after" if self.last else "no write is done yet"
            state = "quiesced" if self.quiesced else f"write {self.in_flight} was under way" if self.in_flight else "no write under way"
            return f"{self.name}: consistent: {there}; {state}"
        problems = [
            f"{len(self.torn)} torn ({_some(entry.expected for entry in self.torn)})" if self.torn else "",
            f"{len(self.missing)} missing ({_some(self.missing)})" if self.missing else "",
            f"{len(self.ahead)} later than the index ({_some(self.ahead)})" if self.ahead else "",
            f"write {self.in_flight} under way though quiesced" if self.quiesced and self.in_flight else "",
        ]
        return f"{self.name}: NOT consistent at write {self.last}: {', '.join(filter(None, problems))}"


def inspect(path: Path, parents: Sequence[Path] = ()) -> Proof:
    """Judge one disk image. ``parents``: its parents, nearest first, when they do not lie where the relative paths point.

    Never raises for a damaged image; that is a :class:`Proof` with a ``fault``.
    """
    try:
        with _opened(path, parents) as (read, broken_link):
            return Proof(path.name, broken_link) if broken_link else _judge(path.name, read)
    except _UNREADABLE as error:
        return Proof(path.name, f"{type(error).__name__}: {error}")


def together(proofs: Sequence[Proof]) -> list[str]:
    """What speaks against these images being all disks of one guest at one instant; empty when nothing does."""
    problems = [proof.summary() for proof in proofs if not proof.consistent]
    if problems or not proofs:
        return problems or ["no disks"]
    if len({(proof.guest, proof.disks) for proof in proofs}) > 1:
        return ["the disks are of several guests"]
    if sorted(proof.disk for proof in proofs) != list(range(proofs[0].disks)):
        return [f"{len(proofs)} of {proofs[0].disks} disks, or one twice"]
    last = max(proof.last for proof in proofs)
    problems = [f"{proof.name}: ends at write {proof.last} where another disk has write {last}"
                for proof in proofs if not proof.holds_until(last)]
    under_way = [proof.in_flight for proof in proofs if proof.in_flight is not None]
    if any(number != last + 1 for number in under_way):
        problems.append(f"write {_some(under_way)} under way after write {last}")
    if len({proof.quiesced for proof in proofs}) > 1:
        problems.append("some disks are quiesced, others not")
    return problems


def _judge(name: str, read: Callable[[int, int], bytes]) -> Proof:
    index = stamp.Index.parse(read(stamp.INDEX_OFFSET, stamp.SECTOR))
    if index is None:
        return Proof(name, "no guest has written an index to it")
    newest = index.following()
    expected = {index.slot_of(number): number
                for number in range(index.committed, index.committed - index.slots * index.disks, -index.disks) if number > 0}
    whole: set[int] = set()
    missing: list[int] = []
    ahead: set[int] = set()
    torn: list[Torn] = []
    in_flight = None
    for slot in range(index.slots):
        found, wanted = _slot(read, index, slot), expected.get(slot, 0)
        begun = _leading(found, newest) if slot == index.slot_of(newest) else 0  # new sectors first, then what was there
        if begun:
            in_flight = newest
            expected.pop(slot, None)
        if len(set(found)) == 1 and found[0]:
            whole.add(found[0])
        if all(number == wanted for number in found[begun:]):
            continue
        ahead.update(number for number in found if number is not None and number > newest)
        if len(set(found)) > 1 or None in found:
            torn.append(Torn(slot, wanted, found))
        elif wanted:
            missing.append(wanted)
    return Proof(name, None, index.guest.hex(), index.disk, index.disks, min(expected.values(), default=0), index.committed, in_flight,
                 index.quiesced, tuple(sorted(missing)), tuple(torn), tuple(sorted(ahead)), frozenset(whole))


def _leading(found: Sequence[int | None], number: int) -> int:
    """How many of the first sectors belong to write ``number``."""
    return next((place for place, other in enumerate(found) if other != number), len(found))


def _slot(read: Callable[[int, int], bytes], index: stamp.Index, slot: int) -> tuple[int | None, ...]:
    data = read(index.offset_of(slot), stamp.BLOCK)
    return tuple(stamp.read_stamp(data[at:at + stamp.SECTOR], index.guest, slot, at // stamp.SECTOR)
                 for at in range(0, stamp.BLOCK, stamp.SECTOR))


@contextmanager
def _opened(path: Path, parents: Sequence[Path]) -> Iterator[tuple[Callable[[int, int], bytes], str | None]]:
    """(read, what is wrong with the chain) of a disk. Reads are of whole sectors within one block, which dissect answers rightly."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        disk: Any
        if file.read(8) != b"vhdxfile":
            disk = VHD(file)
        elif parents:
            disk = VHDX(_laid_out(Path(stack.enter_context(tempfile.TemporaryDirectory())), [path, *parents]))
        else:
            disk = VHDX(path)
        level = disk
        while isinstance(level, VHDX):
            stack.callback(level.fh.close)
            level = level.parent

        def read(offset: int, length: int) -> bytes:
            disk.seek(offset)
            data: bytes = disk.read(length)
            if len(data) < length:
                raise EOFError("the file ends before its data")
            return data

        yield read, _broken_link(disk) if isinstance(disk, VHDX) else None


def _broken_link(disk: Any) -> str | None:
    """The first link of a chain whose parent is not the one that the child was made from, or a log that was not replayed."""
    while disk is not None:
        if any(disk.header.log_guid):
            return f"{disk.path.name} has a log to be replayed"
        if disk.parent is not None:
            linkage = UUID(disk.parent_locator.entries["parent_linkage"])
            if linkage != UUID(bytes_le=disk.parent.header.data_write_guid):
                return f"{disk.parent.path.name} was written to after {disk.path.name} was made from it"
        disk = disk.parent
    return None


def _laid_out(folder: Path, chain: Sequence[Path]) -> Path:
    """Links to the files of a chain, placed so that each relative path leads to the next: the only paths that dissect follows."""
    place = folder.joinpath(*(str(level) for level in range(12)), chain[0].name)  # deep enough for ..\..\
    leaf = place
    for number, path in enumerate(chain):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path.resolve())
        if number + 1 < len(chain):
            relative = _locator(path)["relative_path"].replace("\\", "/")
            place = Path(os.path.normpath(place.parent / relative))
            if folder not in place.parents:
                raise ValueError(f"the relative path {relative} of {path.name} leads too far up")
    return leaf


def _locator(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        region = RegionTable(file, 3 * c_vhdx.ALIGNMENT).get(c_vhdx.METADATA_REGION_GUID)
        entries: dict[str, str] = MetadataTable(file, region.file_offset, region.length).get(c_vhdx.PARENT_LOCATOR_GUID).entries
        return entries


def _some(numbers: Any) -> str:
    """A few of many numbers."""
    ordered = list(Counter(numbers))
    return ", ".join(map(str, ordered[:5])) + (", ..." if len(ordered) > 5 else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulator.disks.proof", description="Tell what an image of a guest's disk proves.")
    parser.add_argument("file", type=Path)
    parser.add_argument("parents", type=Path, nargs="*", metavar="PARENT", help="the parents, nearest first")
    parser.add_argument("--until", type=int, metavar="N", help="the last write that the image must hold")
    options = parser.parse_args(arguments)
    proof = inspect(options.file, options.parents)
    line, good = proof.summary(), proof.consistent
    if options.until is not None and good and not proof.holds_until(options.until):
        line, good = f"{line}, but write {options.until} was to be the last", False
    sys.stdout.write(line + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
