# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs of ours left on a host, and what of it may be removed: a pure function of what was read.

What decides is the run: whatever carries its mark goes together, or stays. A run that is at work, or whose task still runs, is left alone
(:mod:`.cleanup_runs`).
"""
from __future__ import annotations

import ntpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_create,
    checkpoint_intents,
    checkpoint_steps,
    cleanup_copies,
    cleanup_restores,
    cleanup_runs,
    cleanup_shares,
    export_checkpoint,
    shadow_lifecycle,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_intents import CheckpointIntent, MachineIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_checkpoints import Announced
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_copies import IncompleteCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_exports import ExportLeft
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_runs import REMOVABLE, Judge, OurTask, RunFacts, Scope
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_shares import Shares
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_intents import RestoreIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_leftovers import RestoreFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.shadow_facts import ShadowFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.ownership import OURS, SUSPECT
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import tasks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import LeaseFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.shadow_copies import ShadowCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state_contents import Entry
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.sweep_jobs import Place
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import TaskName

DAMAGED = "damaged"
FOREIGN_CONTENT = "foreign_content"
_Thing = TypeVar("_Thing")


@dataclass(frozen=True)
class Finding:
    """One thing of ours. ``status``: ``removable``, or why it stays; the documentation of the module explains each.

    ``key`` is the same before and after a step that renames the thing.
    """

    leftover: Leftover
    key: str
    status: str
    age: timedelta | None
    run_id: str | None = None

    @property
    def removable(self) -> bool:
        """True when it may be removed now."""
        return self.status == REMOVABLE

    @property
    def identity(self) -> tuple[str, str]:
        """Kind and key."""
        return self.leftover.kind, self.key.lower()

    def as_result(self) -> dict[str, Any]:
        """One entry of ``found``."""
        return {**self.leftover.as_result(), "status": self.status, "run_id": self.run_id,
                "age": None if self.age is None else int(self.age.total_seconds())}


@dataclass(frozen=True)
class Findings:
    """Everything of ours that was found, by kind; each list goes with what it is about. ``jobs`` are tasks and their folders."""

    shadows: tuple[tuple[Finding, ShadowCopy], ...] = ()
    links: tuple[tuple[Finding, str], ...] = ()
    jobs: tuple[tuple[Finding, TaskName | None], ...] = ()
    copies: tuple[tuple[Finding, IncompleteCopy], ...] = ()
    places: tuple[tuple[Finding, Place], ...] = ()
    policies: tuple[tuple[Finding, Machine, MachineIntent], ...] = ()
    exports: tuple[tuple[Finding, ExportLeft], ...] = ()
    intents: tuple[tuple[Finding, Intent], ...] = ()
    announced: tuple[tuple[Finding, CheckpointIntent], ...] = ()
    leases: tuple[tuple[Finding, LeaseFolder], ...] = ()
    restores: tuple[Finding, ...] = ()
    others: tuple[Finding, ...] = ()

    def all(self) -> tuple[Finding, ...]:
        """In the order in which they are removed."""
        pairs: Iterable[tuple[Finding, object]] = (
            *self.exports, *self.shadows, *self.links, *self.jobs, *self.copies, *self.places,
            *((one[0], None) for one in self.policies), *self.intents, *self.announced, *self.leases)
        return (*(finding for finding, _unused in pairs), *self.restores, *self.others)

    def removable(self) -> tuple[Finding, ...]:
        """What may be removed now."""
        return tuple(finding for finding in self.all() if finding.removable)

    def unsearched(self) -> tuple[Finding, ...]:
        """Places at shares that a task has to look at."""
        return tuple(finding for finding, _unused in self.places if finding.status == cleanup_shares.UNSEARCHED)


@dataclass(frozen=True)
class Read:
    """Everything that was read of a host, and what the clean-up is about."""

    facts: ShadowFacts
    runs: RunFacts
    scope: Scope
    shares: Shares
    announced: Announced = field(default_factory=Announced)
    copies: tuple[IncompleteCopy, ...] = ()
    folders: tuple[Entry, ...] = ()
    """Folders of an interrupted making of the state folder."""
    saved: tuple[Entry, ...] = ()
    """Access lists that were saved to be read."""
    restores: RestoreFacts = field(default_factory=RestoreFacts)
    exports: tuple[ExportLeft, ...] = ()

    def judge(self) -> Judge:
        """Who decides about runs."""
        intents: tuple[Intent | CheckpointIntent | RestoreIntent, ...] = (*self.facts.contents.intents, *self.announced.intents,
                                                                          *self.restores.intents)
        return cleanup_runs.judge_of(self.runs, intents, self.facts.now, self.scope)


def quiet_intents(read: Read) -> tuple[Intent, ...]:
    """Intents of runs of which everything may go: in whose folders nobody is at work."""
    judge = read.judge()
    return tuple(intent for intent in read.facts.contents.intents if read.scope.wants(intent.run_id)
                 and judge.status(intent.run_id, read.facts.now - intent.host_time) == REMOVABLE)


def judge(read: Read) -> Findings:
    """Sort everything that was read."""
    return _Sorter(read).findings()


@dataclass
class _Sorter:
    """Makes findings out of what was read. Of another run than the one that is asked for nothing is told."""

    read: Read
    judge: Judge = field(init=False)

    def __post_init__(self) -> None:
        self.judge = self.read.judge()

    def findings(self) -> Findings:
        """All of them, by kind."""
        facts, quiet = self.read.facts, quiet_intents(self.read)
        copies = (*self.read.copies, *self.read.shares.copies)
        strange = {copy.intent.name for copy in copies if copy.foreign is not None}
        return Findings(
            tuple(self._wanted(self._shadow(shadow) for shadow in facts.shadows if facts.verdict_on(shadow).owner == OURS)),
            tuple(self._wanted(self._link(link) for link in facts.ownership.stale_links)),
            tuple(self._wanted((*(self._task(task) for task in self.read.runs.tasks), *(self._job(job) for job in self.read.runs.jobs)))),
            tuple(self._wanted(self._copy(copy) for copy in copies)),
            tuple(self._places(quiet)),
            tuple(self._policies()),
            tuple(self._wanted(pair for left in self.read.exports for pair in self._export(left))),
            tuple(self._wanted(self._intent(intent, intent.name in strange) for intent in facts.contents.intents)),
            tuple(self._wanted(self._announced(intent) for intent in self.read.announced.intents)),
            tuple(self._wanted(self._lease(lease) for lease in self.read.runs.leases)),
            tuple(finding for finding in self._restores() if self.read.scope.wants(finding.run_id)),
            tuple(finding for finding in self._others() if self.read.scope.wants(finding.run_id)))

    def _wanted(self, pairs: Iterable[tuple[Finding, _Thing]]) -> Iterator[tuple[Finding, _Thing]]:
        return (pair for pair in pairs if self.read.scope.wants(pair[0].run_id))

    def _shadow(self, shadow: ShadowCopy) -> tuple[Finding, ShadowCopy]:
        """Its run tells its age. One without an intent belongs to no run that is at work: an intent outlives the link."""
        facts = self.read.facts
        verdict = facts.verdict_on(shadow)
        intents = facts.intents_of(verdict)
        age = facts.now - intents[0].host_time if intents else facts.age_of(shadow)
        volume = facts.volume_of(shadow)
        leftover = shadow_lifecycle.shadow_leftover(shadow.shadow_id)
        located = Leftover(leftover.kind, leftover.id, volume.root if volume is not None else shadow.volume, leftover.remove_with)
        status = self.judge.status(verdict.run_id, age, REMOVABLE)
        if status == REMOVABLE and self.read.scope.leaves(intents):
            status = cleanup_runs.KEPT
        return Finding(located, shadow.shadow_id, status, age, verdict.run_id), shadow

    def _link(self, shadow_id: str) -> tuple[Finding, str]:
        """A link that leads nowhere; only a run that has an intent can be at work."""
        facts = self.read.facts
        named = [intent for intent in facts.contents.intents if (intent.shadow_id or "").lower() == shadow_id.lower()]
        age = max((facts.now - intent.host_time for intent in named), default=None)
        run_id = named[0].run_id if named else None
        return Finding(shadow_lifecycle.link_leftover(facts.folder, shadow_id), shadow_id, self.judge.status(run_id, age, REMOVABLE), age,
                       run_id), shadow_id

    def _task(self, task: OurTask) -> tuple[Finding, TaskName | None]:
        """A task is as old as the folder of its job. One without a folder has nothing that it could do."""
        location = f"{tasks.FOLDER}{task.look.name}"
        leftover = Leftover("task", task.look.name, location, f'schtasks /delete /f /tn "{location}"')
        if task.name is None:
            return Finding(leftover, task.look.name, FOREIGN_CONTENT, None), None
        age = next((self._age(job) for job in self.read.runs.jobs
                    if ntpath.basename(job.path).lower() == task.look.name.lower()), None)
        return Finding(leftover, task.look.name, self.judge.status(task.name.run_id, age, REMOVABLE), age, task.name.run_id), task.name

    def _job(self, entry: Entry) -> tuple[Finding, TaskName | None]:
        name, age = cleanup_runs.run_of_job(entry), self._age(entry)
        leftover = Leftover("job", ntpath.basename(entry.path), entry.path, f'rmdir /s /q "{entry.path}"')
        if name is None:
            return Finding(leftover, leftover.id, FOREIGN_CONTENT, age), None
        return Finding(leftover, leftover.id, self.judge.status(name.run_id, age), age, name.run_id), name

    def _copy(self, copy: IncompleteCopy) -> tuple[Finding, IncompleteCopy]:
        leftover = Leftover("incomplete_copy", copy.path, ntpath.dirname(copy.path), f'rmdir /s /q "{copy.path}"')
        age = self.read.facts.now - copy.intent.host_time
        status = self.judge.status(copy.intent.run_id, age) if copy.foreign is None else FOREIGN_CONTENT
        return Finding(leftover, copy.path, status, age, copy.intent.run_id), copy

    def _export(self, left: ExportLeft) -> Iterator[tuple[Finding, ExportLeft]]:
        """A job that runs, then the checkpoint; each with the age of the intent."""
        run_id, age = left.intent.run_id, self.read.facts.now - left.intent.host_time
        if left.job is not None:
            yield Finding(left.job_leftover, left.job_leftover.id, self.judge.status(run_id, age), age, run_id), left
        if left.checkpoint is not None:
            leftover = export_checkpoint.leftover(left.machine, left.checkpoint)
            yield Finding(leftover, left.checkpoint.checkpoint_id, self.judge.status(run_id, age), age, run_id), left

    def _places(self, quiet: Sequence[Intent]) -> Iterator[tuple[Finding, Place]]:
        """Folders at shares that nobody has looked at, or could."""
        for place, intent in cleanup_shares.places_of(quiet).values():
            status = self.read.shares.of(place)
            if status != cleanup_shares.SEARCHED:
                leftover = Leftover("destination", place.folder, place.destination, f'dir "{place.folder}\\*_{place.run_id}"')
                age = self.read.facts.now - intent.host_time
                yield Finding(leftover, f"{place.folder}|{place.run_id}", status, age, place.run_id), place

    def _intent(self, intent: Intent, strange: bool) -> tuple[Finding, Intent]:
        """It goes last, and only with everything that it tells of."""
        facts = self.read.facts
        age = facts.now - intent.host_time
        status = self.judge.status(intent.run_id, age)
        verdicts = [verdict for verdict in facts.ownership.verdicts if intent.name in verdict.intents]
        if any(verdict.owner == SUSPECT for verdict in verdicts):
            status = "suspect"
        elif status == REMOVABLE and verdicts and self.read.scope.leaves([intent]):
            status = cleanup_runs.KEPT
        elif status == REMOVABLE:
            status = self._reach(intent) or (FOREIGN_CONTENT if strange else REMOVABLE)
        return Finding(shadow_lifecycle.intent_leftover(facts.folder, intent), intent.stem, status, age, intent.run_id), intent

    def _reach(self, intent: Intent) -> str | None:
        """Why the folders of an intent cannot all be looked at; None when they can, or a task has yet to look."""
        at_shares = cleanup_copies.share_folders(intent)
        if len(cleanup_copies.usable_folders(intent, self.read.facts.volumes)) + len(at_shares) < len(intent.folders):
            return cleanup_shares.MISSING
        found = {self.read.shares.of(Place(folder, intent.run_id)) for folder in at_shares}
        return next((status for status in (cleanup_shares.NEEDS_TASK, cleanup_shares.MISSING) if status in found), None)

    def _policies(self) -> Iterator[tuple[Finding, Machine, MachineIntent]]:
        """Policies of machines that interrupted runs left as they were to be for a moment only."""
        announced = self.read.announced
        for machine, told, intent in announced.policies([one for one in announced.intents if self.read.scope.wants(one.run_id)
                                                         and self._of_announced(one) != cleanup_runs.AT_WORK]):
            leftover = checkpoint_steps.policy_leftover(machine.vm_id, machine.name, told.was or "")
            yield Finding(leftover, machine.vm_id, self._of_announced(intent), self.read.facts.now - intent.host_time,
                          intent.run_id), machine, told

    def _of_announced(self, intent: CheckpointIntent) -> str:
        return self.judge.status(intent.run_id, self.read.facts.now - intent.host_time)

    def _announced(self, intent: CheckpointIntent) -> tuple[Finding, CheckpointIntent]:
        """It stays as long as a checkpoint is suspect because of it."""
        status = self._of_announced(intent)
        if status == REMOVABLE and any(blamed == intent for _unused, blamed in self.read.announced.suspects()):
            status = SUSPECT
        return Finding(checkpoint_intents.STORE.leftover(self.read.facts.folder, intent), intent.file_name, status,
                       self.read.facts.now - intent.host_time, intent.run_id), intent

    def _lease(self, lease: LeaseFolder) -> tuple[Finding, LeaseFolder]:
        """One that is being made is in nobody's way, and one that expired is taken before it is removed. A slot is its holder's."""
        held = lease.found.lease
        run_id = lease.name.partition(".")[0] if not lease.slot else None if held is None else held.run_id
        since = lease.modified or (None if held is None else held.expires)
        age = None if since is None else self.read.facts.now - since
        leftover = Leftover("lease", lease.name, lease.path, f'rmdir /s /q "{lease.path}"')
        status = DAMAGED if lease.found.damage is not None else self.judge.status(run_id, age)
        key = f"{lease.name}|{run_id}" if lease.slot else lease.name  # the next holder is another finding
        return Finding(leftover, key, status, age, run_id), lease

    def _restores(self) -> Iterator[Finding]:
        facts = self.read.facts
        for leftover, status, age, run_id in cleanup_restores.found(self.read.restores, facts.folder, self.judge, facts.now):
            yield Finding(leftover, leftover.id, status, age, run_id)

    def _others(self) -> Iterator[Finding]:
        contents = self.read.facts.contents
        for entry in contents.unfinished:
            yield self._entry(entry, "intent", "del", cleanup_runs.run_of_intent_file(entry.path))
        for entry in self.read.folders:
            yield self._entry(entry, "folder", "rmdir")
        for entry in self.read.saved:
            yield self._entry(entry, "file", "del")
        for one, intent in self.read.announced.suspects():
            if self._of_announced(intent) != cleanup_runs.AT_WORK:
                age = None if one.created is None else self.read.facts.now - one.created
                yield Finding(checkpoint_create.suspect_leftover(one), one.checkpoint_id, SUSPECT, age, intent.run_id)
        for entry in (*contents.damaged, *self.read.announced.damaged):
            yield self._entry(entry, "intent", "del", cleanup_runs.run_of_intent_file(entry.path), DAMAGED)

    def _entry(self, entry: Entry, kind: str, command: str, run_id: str | None = None, status: str | None = None) -> Finding:
        age = self._age(entry)
        return Finding(Leftover(kind, entry.path, ntpath.dirname(entry.path), f'{command} "{entry.path}"'), entry.path,
                       status or self.judge.status(run_id, age), age, run_id)

    def _age(self, entry: Entry) -> timedelta | None:
        return None if entry.modified is None else self.read.facts.now - entry.modified
