# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting until chains are really shorter: the job of a removal ends before its merge has begun (operations 2.6).

What is waited for is the chain of each disk, file by file; jobs and states only say how far it is. All of it only reads.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.available import enumerate_available
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks, jobs, summary
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, owner_of
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_audit import MERGE_JOB
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools

_DEEPEST = 128
_LONGEST_PAUSE = 15.0
_DISABLED = 0
_QUIET, _STEP = 20.0, 5.0
_BEGINS = 3.0
"""Seconds until a merge can be looked for: the host begins it some time after the removal."""


class Unreadable(HypervError):
    """A file of a chain cannot be read: it is gone, or another host has it open (operations 1.4)."""

    error_code = "disk_unreadable"


Key: TypeAlias = tuple[str, str]
"""A machine or a checkpoint, and one of its drives by what follows the owner in its InstanceID."""


def read_chains(reader: CimReader, owners: Collection[str],
                before: Mapping[Key, Sequence[str]] | None = None) -> dict[Key, tuple[str, ...]]:
    """The files from each drive of a machine, or from what a checkpoint froze, down to the base: one request, and one for each file.

    What stands in ``before``, chains that were read a moment ago, is not asked again. Raises Unreadable when a file cannot be read.
    """
    known: dict[str, str | None] = {}
    for chain in (before or {}).values():
        known.update({**dict(pairwise(chain)), chain[-1]: None})
    return {(disk.owner_id, disk.instance_id.partition("\\")[2].lower()): _chain(reader, disk.path, known)
            for disk in disks.read_virtual_disks(reader) if disk.owner_id in owners and disk.path}


def _chain(reader: CimReader, leaf: str, known: dict[str, str | None]) -> tuple[str, ...]:
    found = [leaf]
    while len(found) < _DEEPEST:
        if found[-1] not in known:
            known[found[-1]] = _parent(reader, found[-1])
        above = known[found[-1]]
        if above is None:
            break
        found.append(above)
    return tuple(found)


def _parent(reader: CimReader, path: str) -> str | None:
    try:
        return disks.read_setting(reader, path).parent_path
    except HypervError as error:
        if error.return_value is None:
            raise
        raise Unreadable(error.message, return_value=error.return_value) from error


def expected(chains: Mapping[Key, Sequence[str]], removed: Collection[str], frozen: Collection[str]) -> dict[Key, int]:
    """How many files each chain has when everything is merged that can be. ``frozen``: the files that the removed checkpoints kept.

    Such a file takes up the one above it when no checkpoint keeps it any more. Where several branches grow from it, it has to stay.
    """
    stay = {key: tuple(path.lower() for path in chain) for key, chain in chains.items() if key[0] not in removed}
    kept = {chain[0] for chain in stay.values()}
    gone = {path.lower() for path in frozen} - kept
    above: dict[str, set[str]] = {}
    for chain in stay.values():
        for upper, lower in pairwise(chain):
            above.setdefault(lower, set()).add(upper)
    merged = {path for path in gone if len(above.get(path, ())) == 1}
    return {key: len(chain) - sum(1 for path in chain if path in merged) for key, chain in stay.items()}


def reached(now: Mapping[Key, Sequence[str]], goal: Mapping[Key, int]) -> bool:
    """True when no chain is longer than it should be. A drive or a checkpoint that is gone meanwhile has no chain."""
    return all(len(now.get(key, ())) <= length for key, length in goal.items())


@dataclass(frozen=True)
class Waiting:
    """What waiting needs; ``clock`` and ``deadline`` are those of the merge."""

    reader: CimReader
    clock: Clock
    deadline: Deadline
    progress: Callable[[str], None]
    keep: Callable[[], None]


def waiting(tools: Tools, seconds: float) -> Waiting:
    """Waiting with a time of its own."""
    return Waiting(tools.writer, tools.clock, Deadline(tools.clock, seconds), tools.progress, tools.keep)


def until(wait: Waiting, machine: Machine, goal: Mapping[Key, int], before: Mapping[Key, Sequence[str]]) -> dict[Key, tuple[str, ...]]:
    """Wait until every chain is as short as it should be, with progress now and then; the chains then. ``before``: as they were.

    Raises HypervError ``merge_not_done``, with what the host says of the merge, when the time is over.
    """
    pause, told, problem = 2.0, -1, None
    if not reached(before, goal):
        wait.clock.sleep(min(_BEGINS, max(wait.deadline.remaining(), 0.1)))
    while True:
        percent = merge_percent(wait.reader, machine)
        if percent is None:
            try:
                now = read_chains(wait.reader, {owner for owner, _drive in goal})
                if reached(now, goal):
                    return now
                problem = None
            except Unreadable as error:
                problem = error.message  # locked, or just replaced: look again
        elif percent >= told + 10:
            told = percent
            wait.progress(f"{machine.name}: merging disks, {percent} %")
        if wait.deadline.expired():
            raise _not_done(wait.reader, machine, problem)
        wait.keep()
        wait.clock.sleep(min(pause, max(wait.deadline.remaining(), 0.1)))
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def merge_percent(reader: CimReader, machine: Machine) -> int | None:
    """How far the merge is, one request; None when none runs."""
    if machine.settings is None:
        return None
    found = summary.read_summaries_of(reader, [machine.settings.reference]).get(machine.vm_id)
    running = [job for job in (found.jobs if found else ()) if job.job_type == MERGE_JOB]
    return max((job.percent or 0 for job in running), default=None)


def _not_done(reader: CimReader, machine: Machine, problem: str | None) -> HypervError:
    details: dict[str, Any] = {}
    failed = [job for job in jobs_of(reader, machine) if job.job_type == MERGE_JOB and job.finished and not job.succeeded]
    reason, hresult = problem or "it has not begun, or is not done yet", None
    if failed:
        texts = jobs.error_texts(reader, failed[-1].reference) or (failed[-1].description,)
        reason, hresult = " ".join(texts), jobs.hresult_in(texts)
        details["job"] = failed[-1].as_result()
    hint = "The chain is whole, only longer. The host goes on by itself; run the task again to wait for it."
    if disabled(reader, machine):
        reason, hint = "merging is disabled for this machine", "Msvm_DiskMergeSettingData.EnabledState is 0: find out who did that."
    return HypervError(f"The disks of {machine.name!r} are not merged yet: {reason}", error_code="merge_not_done", hint=hint,
                       hresult=hresult, details=details)


def jobs_of(reader: CimReader, machine: Machine) -> tuple[jobs.Job, ...]:
    """The jobs that work or worked on a machine, as long as the host keeps them."""
    rows = reader.associators(machine.reference, association="Msvm_AffectedJobElement", result="Msvm_ConcreteJob")
    return tuple(jobs.from_row(jobs.reference_of(row), row) for row in rows)


def disabled(reader: CimReader, machine: Machine) -> bool:
    """Whether somebody has switched merging off for a machine; one request."""
    rows = enumerate_available(reader, NAMESPACE, "Msvm_DiskMergeSettingData") or []
    return any(owner_of(row.text("InstanceID")) == machine.vm_id and row.integer("EnabledState") == _DISABLED for row in rows)


def after_removal(wait: Waiting, machine: Machine, chains: Mapping[Key, Sequence[str]] | None, removed: Collection[str],
                  frozen: Collection[str]) -> dict[Key, tuple[str, ...]] | None:
    """Wait until the chains are as short as a removal makes them; without them (None) until nothing is merged any more.

    Returns the chains as they are then, as far as they were read. Raises as :func:`until`.
    """
    if chains is None:
        wait.progress(f"{machine.name}: its chains cannot be read; waiting until the host merges nothing any more")
        until_quiet(wait, machine)
        return None
    return until(wait, machine, expected(chains, removed, frozen), {key: chain for key, chain in chains.items() if key[0] not in removed})


def until_quiet(wait: Waiting, machine: Machine) -> None:
    """Wait until the host has merged nothing for a while. Raises HypervError ``merge_not_done`` when the time is over."""
    quiet, told = 0.0, -1
    while quiet < _QUIET:
        if wait.deadline.expired():
            raise _not_done(wait.reader, machine, None)
        percent = merge_percent(wait.reader, machine)
        if percent is not None and percent >= told + 10:
            told = percent
            wait.progress(f"{machine.name}: merging disks, {percent} %")
        quiet = quiet + _STEP if percent is None else 0.0
        wait.keep()
        wait.clock.sleep(_STEP)
