# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs have left on a host: looked at on its disks, in its task list and in its shadow copies, not asked of any module."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simulator.host import SimHost

from demo.proofs import MANIFEST
from demo.site import DESTINATION

STATE = "C:\\ProgramData\\agentless.hyperv"
TASKS = "\\agentless.hyperv\\"
SHADOWS, INCOMPLETE, TASK = "shadow copies", "incomplete copies", "tasks"
FOLDERS = {"links": "s", "intents": "intents", "leases": "leases", "job folders": "jobs"}
KINDS = (SHADOWS, *FOLDERS, TASK, INCOMPLETE)
"""Everything that a run has on a host beside finished copies."""


@dataclass(frozen=True)
class Left:
    """How much of each kind is ours, and how many shadow copies of another product are there, of so many at the beginning."""

    foreign: int
    foreign_before: int
    ours: Mapping[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many things of ours."""
        return sum(self.ours.values())

    def text(self) -> str:
        """For the table."""
        return f"{self.count} of ours, {self.foreign} of {self.foreign_before} foreign"


def look(host: SimHost, foreign: frozenset[str]) -> Left:
    """Look at a host that stands still (``fleet.locked()``). ``foreign``: the IDs of the shadow copies of another product."""
    shadows = {copy.shadow_id for copy in host.shadows.copies}
    ours = {SHADOWS: len(shadows - foreign), TASK: sum(task.path.lower() == TASKS for task in host.tasks.tasks())}
    ours |= {kind: len(_entries(host, f"{STATE}\\{folder}")) for kind, folder in FOLDERS.items()}
    ours[INCOMPLETE] = len(list(incomplete_copies(host)))
    return Left(len(shadows & foreign), len(foreign), {kind: ours[kind] for kind in KINDS})


def _entries(host: SimHost, path: str) -> list[str]:
    place = host.files.resolve(path) if host.files.exists(path) else None
    return [] if place is None else [entry.parts[-1] for entry in host.files.children(place)]


def incomplete_copies(host: SimHost) -> Iterator[Path]:
    """The folders of copies without a manifest: ``<destination>\\<host>\\<VM>\\<run>``."""
    base = host.files.resolve(DESTINATION).real if host.files.exists(DESTINATION) else None
    if base is not None:
        yield from (folder for folder in sorted(base.glob("*/*/*")) if folder.is_dir() and not (folder / MANIFEST).is_file())


def is_copying(host: SimHost, foreign: frozenset[str]) -> bool:
    """True in the middle of a copy: a shadow copy of ours is there, and a disk file in a folder that has no manifest yet."""
    return any(copy.shadow_id not in foreign for copy in host.shadows.copies) and any(
        path.suffix in (".vhdx", ".avhdx") for folder in incomplete_copies(host) for path in folder.rglob("*"))
