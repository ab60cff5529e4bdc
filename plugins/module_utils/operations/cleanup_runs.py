# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runs that left something on a host: which are at work, which still have a task that runs, and how old each is.

A lease tells that a run is at work (:mod:`.run_lease`). A task that still runs without one is the work of a run that died: a later run
takes it over, and it ends by itself at the latest.
"""
from __future__ import annotations

import ntpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_intents import CheckpointIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_intents import RestoreIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import job_runs, leases, state_contents, tasks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import LeaseFolder, Runs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent, StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state_contents import Entry
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import TaskLook, TaskName

REMOVABLE = "removable"
AT_WORK = "at_work"
RUNNING = "running"
TOO_YOUNG = "too_young"
KEPT = "kept"
_INTENT_FILE = re.compile(r"(?P<run>[A-Za-z0-9][A-Za-z0-9-]{0,39})_[0-9A-Fa-f]{8}(?:\.|\Z)")


@dataclass(frozen=True)
class Scope:
    """What a clean-up is about: everything older than this, or exactly one run, whatever its age and whether it is at work.

    ``include_kept``: also shadow copies that were made to stay.
    """

    older_than: timedelta
    run_id: str | None = None
    include_kept: bool = True

    def leaves(self, intents: Iterable[Intent]) -> bool:
        """True when what these intents tell of was made to stay, and is to stay."""
        return self.run_id is None and not self.include_kept and any(intent.keep and intent.shadow_id for intent in intents)

    def wants(self, run_id: str | None) -> bool:
        """True when something of this run, None for nobody's, is looked at at all."""
        return self.run_id is None or (run_id or "").lower() == self.run_id.lower()


@dataclass(frozen=True)
class OurTask:
    """A task in our folder; ``name`` None for one that no run of ours made: it is called otherwise, or does something else."""

    look: TaskLook
    name: TaskName | None


@dataclass(frozen=True)
class RunFacts:
    """What there is of runs beside shadow copies, links and intents."""

    jobs: tuple[Entry, ...]
    tasks: tuple[OurTask, ...]
    leases: tuple[LeaseFolder, ...]
    alive: Runs
    running: Runs

    def with_running(self, run_ids: Iterable[str]) -> RunFacts:
        """The same with further runs whose work still goes on."""
        return replace(self, running=Runs((*self.running, *run_ids)))

    def with_alive(self, run_id: str) -> RunFacts:
        """The same after a run turned out to be at work."""
        return replace(self, alive=Runs((*self.alive, run_id)))


def read(reader: CimReader, folder: StateFolder, now: datetime) -> RunFacts:
    """Three requests on a host with nothing of ours.

    Leases are read last of all: what is seen of a run that begins meanwhile was made under a lease that is then seen, too.
    """
    jobs = state_contents.read_jobs(reader, folder)
    ours = tuple(OurTask(look, _name_of(look, folder)) for look in tasks.list_ours(reader))
    found = state_contents.read_leases(reader, folder, slots=True)
    running = Runs(task.name.run_id for task in ours if task.name is not None and task.look.running)
    return RunFacts(jobs, ours, found, leases.alive_runs(found, now), running)


def _name_of(look: TaskLook, folder: StateFolder) -> TaskName | None:
    name = tasks.parse_name(look.name)
    if name is None:
        return None
    expected = tasks.arguments_for(job_runs.script_of(folder, name))
    return name if look.arguments.lower() in ("", expected.lower()) else None  # a host may not tell what a task does


def run_of_job(entry: Entry) -> TaskName | None:
    """Whose a job's folder is; None for one of nobody's."""
    return tasks.parse_name(ntpath.basename(entry.path))


def run_of_intent_file(path: str) -> str | None:
    """The run that the name of an intent's file tells, damaged or half-written as it may be."""
    found = _INTENT_FILE.match(ntpath.basename(path))
    return None if found is None else found["run"]


@dataclass(frozen=True)
class Judge:
    """Whether what a run left may go. ``ages``: of each run, by its ID in lower case, the age of its youngest trace."""

    scope: Scope
    alive: Runs
    running: Runs
    ages: dict[str, timedelta]

    def status(self, run_id: str | None, age: timedelta | None, unknown: str = "unknown_age") -> str:
        """``removable``, or why it stays: ``at_work``, ``running``, ``too_young``, or ``unknown`` for what nobody knows the age of."""
        if run_id is not None:
            if self.scope.run_id is not None:
                return REMOVABLE
            if run_id in self.alive:
                return AT_WORK
            if run_id in self.running:
                return RUNNING
        known = [one for one in (age, self.ages.get((run_id or "").lower())) if one is not None]
        if not known:
            return unknown
        return REMOVABLE if min(known) >= self.scope.older_than else TOO_YOUNG


def judge_of(runs: RunFacts, intents: Iterable[Intent | CheckpointIntent | RestoreIntent], now: datetime, scope: Scope) -> Judge:
    """The judge for what was read. A job's folder counts from its last change: a result waits as long to be taken over."""
    ages: dict[str, timedelta] = {}
    seen = [(intent.run_id, now - intent.host_time) for intent in intents]
    for entry in runs.jobs:
        name = run_of_job(entry)
        if name is not None and entry.modified is not None:
            seen.append((name.run_id, now - entry.modified))
    for run_id, age in seen:
        ages[run_id.lower()] = min(age, ages.get(run_id.lower(), age))
    return Judge(scope, runs.alive, runs.running, ages)
