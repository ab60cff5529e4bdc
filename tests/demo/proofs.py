# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges the copies. Nothing that the modules said is believed: copies are looked for on the disks of the hosts.

They are read with the independent reader and compared with what the guests know of themselves.
"""
from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from simulator.disks import proof
from simulator.disks.proof import Proof
from simulator.fleet import Fleet
from simulator.host import SimHost

from demo.guests import Guests, Instant, Position
from demo.site import DESTINATION

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class CopiedFile:
    """One file of a copy: where it was on the host, where it is there now, and where that is here."""

    source: str
    path: str
    real: Path
    size: int
    disk: int
    level: int


@dataclass(frozen=True)
class Copy:
    """A finished copy as it is found on a host. ``problems``: what is wrong with its files.

    ``origin``: the ID of the shadow copy; of an export its method.
    """

    host: str
    machine_id: str
    name: str
    folder: str
    real: Path
    origin: str
    level: str
    files: tuple[CopiedFile, ...]
    problems: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.files)

    def chains(self) -> list[list[CopiedFile]]:
        """The files of each disk, the newest of a chain first."""
        disks: dict[int, list[CopiedFile]] = defaultdict(list)
        for file in sorted(self.files, key=lambda file: file.level):
            disks[file.disk].append(file)
        return [disks[number] for number in sorted(disks)]


@dataclass(frozen=True)
class DiskProof:
    """What the reader found in one copied disk, and where the guest was when the shadow copy was taken."""

    file: CopiedFile
    parents: int
    found: Proof
    guest: Position

    @property
    def good(self) -> bool:
        """Every write up to the instant is there, none after, no block torn."""
        return self.found.holds_until(self.guest.last)


@dataclass(frozen=True)
class CopyProof:
    """The disks of one copy. ``problems``: everything that speaks against it."""

    copy: Copy
    disks: tuple[DiskProof, ...]
    problems: tuple[str, ...]


def find_copies(fleet: Fleet, host: SimHost, drives: Path) -> list[Copy]:
    """The finished copies on a host, by manifest. ``drives`` is a folder with a link for each drive letter."""
    with fleet.locked():
        base = host.files.resolve(DESTINATION)
        folders = sorted(path.parent for path in base.real.rglob(MANIFEST)) if base.exists else []
    here = drives.joinpath(DESTINATION[0], *PureWindowsPath(DESTINATION).parts[1:])
    return [read_copy(host.name, folder.relative_to(base.real), here) for folder in folders]


def read_copy(host: str, relative: Path, base: Path) -> Copy:
    """The copy in the folder ``relative`` of the destination, which is ``base`` here."""
    real = base / relative
    folder = str(PureWindowsPath(DESTINATION, *relative.parts))
    data: Any = json.loads((real / MANIFEST).read_text(encoding="ascii"))
    files = tuple(
        CopiedFile(entry["source"], f"{folder}\\{entry['path']}", real.joinpath(*PureWindowsPath(entry["path"]).parts), entry["size"],
                   entry["disk"], entry["level"])
        for entry in data["files"])
    return Copy(host, data["vm"]["id"], data["vm"]["name"], folder, real, data["shadow_copy"], data["consistency"]["achieved"], files,
                tuple(problems_of(real, files)))


def problems_of(folder: Path, files: Sequence[CopiedFile]) -> list[str]:
    """What is wrong with the files in the folder of a copy: one is missing, has another size, or is not in the manifest."""
    found = [f"{file.path} is not there" if not file.real.is_file() else f"{file.path} has another size than the manifest says"
             for file in files if not file.real.is_file() or file.real.stat().st_size != file.size]
    known = {file.real for file in files} | {folder / MANIFEST}
    return found + [f"{path} is not in the manifest" for path in folder.rglob("*") if path.is_file() and path not in known]


def prove(copy: Copy, guests: Guests) -> CopyProof:
    """Compare every disk of a copy with what its guest had written when the shadow copy was taken."""
    instant = guests.instants.get(copy.origin.upper())
    if instant is None:
        return CopyProof(copy, (), (*copy.problems, f"the manifest names the shadow copy {copy.origin}, which was never taken"))
    return compare(copy, instant)


def compare(copy: Copy, instant: Instant) -> CopyProof:
    """Judge a copy against an instant of its host."""
    return judge(copy, instant.guests[copy.machine_id])


def judge(copy: Copy, guest: Position) -> CopyProof:
    """Judge the disks of a copy, each and together, against where the guest was at that instant."""
    disks = tuple(DiskProof(chain[0], len(chain) - 1, proof.inspect(chain[0].real, [file.real for file in chain[1:]]), guest)
                  for chain in copy.chains())
    found = [disk.found for disk in disks]
    problems = [*copy.problems, *proof.together(found)]
    problems += [f"{disk.found.name} does not end at write {guest.last}" for disk in disks if not disk.good]
    under_way = next((one.in_flight for one in found if one.in_flight is not None), None)
    if under_way != guest.in_flight:
        problems.append(f"write {under_way} is under way in the image, {guest.in_flight} was in the guest")
    return CopyProof(copy, disks, tuple(problems))
