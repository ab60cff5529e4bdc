# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files behind a machine's drives: which of them somebody needs, and which could be merged (operations 2.6)."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simulator.hyperv.model import FORMAT_VHD, Disk, Machine, VhdFile

DEEPEST = 50
"""More checkpoints than this in one branch are a defect to Microsoft's support (operations 2.3)."""


@dataclass(frozen=True)
class Pair:
    """A file that nobody reads any more, and the only one that hangs on it: the child can be merged into the parent."""

    disk: Disk
    parent: VhdFile
    child: VhdFile


def all_disks(machine: Machine) -> list[Disk]:
    """The drives of the running state and those that only checkpoints still have."""
    found: dict[int, Disk] = {}
    for configuration in machine.configurations():
        for disk in configuration.disks:
            found.setdefault(disk.index, disk)
    return list(found.values())


def tips(machine: Machine, disk: Disk) -> list[VhdFile]:
    """The files of a drive that a checkpoint reads or the machine writes to, each once."""
    found: list[VhdFile] = []
    for configuration in machine.configurations():
        if any(other is disk for other in configuration.disks):
            file = configuration.file_of(disk)
            if file is not None and not any(file is known for known in found):
                found.append(file)
    pinned = [files[disk.index] for files in machine.pins.values() if disk.index in files]
    return [*found, *(file for file in pinned if not any(file is known for known in found))]


def reachable(machine: Machine) -> list[VhdFile]:
    """Every file that a configuration of the machine needs, each once; a template below a base file is not counted."""
    found: dict[int, VhdFile] = {}
    for disk in all_disks(machine):
        for tip in tips(machine, disk):
            for file in down_to_base(disk, tip):
                found.setdefault(id(file), file)
    return list(found.values())


def down_to_base(disk: Disk, file: VhdFile) -> list[VhdFile]:
    """``file`` and its parents as far as the file the drive was made with."""
    chain = file.chain()
    for number, link in enumerate(chain):
        if link is disk.base:
            return chain[:number + 1]
    return chain


def children_of(machine: Machine, file: VhdFile) -> list[VhdFile]:
    """The needed files that hang on a file."""
    return [other for other in reachable(machine) if other.parent is file]


def mergeable(machine: Machine) -> list[Pair]:
    """What could be merged now, links in the middle of a chain before those whose child is a leaf."""
    found: list[Pair] = []
    pinned = {id(link) for files in machine.pins.values() for file in files.values() for link in file.chain()}
    for disk in all_disks(machine):
        if disk.spec.shared or disk.base is None or disk.base.format == FORMAT_VHD:  # the older format has no merges here
            continue
        needed = tips(machine, disk)
        links = {id(f): f for tip in needed for f in down_to_base(disk, tip)}
        for file in links.values():
            children = [other for other in links.values() if other.parent is file]
            if len(children) == 1 and not any(file is tip for tip in needed) and id(children[0]) not in pinned:
                found.append(Pair(disk, file, children[0]))
    return sorted(found, key=lambda pair: any(pair.child is disk.leaf for disk in machine.disks))


def disposable(machine: Machine) -> list[VhdFile]:
    """The needed files that checkpoints and merges brought: all but those the drives were made with."""
    bases = {id(disk.base) for disk in all_disks(machine)}
    return [file for file in reachable(machine) if id(file) not in bases]


def dead(before: Iterable[VhdFile], machine: Machine) -> list[VhdFile]:
    """Which files of an earlier :func:`disposable` nobody needs any more, children first."""
    kept = {id(file) for file in reachable(machine)}
    return sorted((file for file in before if id(file) not in kept), key=lambda file: -len(file.chain()))
