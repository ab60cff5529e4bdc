# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes what runs of ours left, run by run under the lease of that run, so that no retry of it begins meanwhile.

One failure never stops the others; but whatever still tells of something that stayed, stays with it.
"""
from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_intents,
    cleanup_checkpoints,
    cleanup_copies,
    cleanup_exports,
    cleanup_restores,
    shadow_lifecycle,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_findings import Finding, Findings, Read
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_shares import ShareWork
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import RunLease
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.shadow_lifecycle import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, job_runs, leases, tasks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import LeaseFolder, LeaseHeld
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import TaskName

HOLDER = "agentless-cleanup"
"""Who holds the lease of a run that is being removed."""

# of one that somebody put something into nothing is removed
REMOVE_FOLDER = Command('rmdir "%AGH_PATH%" || exit 3')
REMOVE_FILE = Command('del /F /Q "%AGH_PATH%" & if exist "%AGH_PATH%" exit 3')
# what is in it was checked by its name, and only administrators can put anything there
REMOVE_STAGED = Command('del /F /Q "%AGH_PATH%\\*.lease" & rmdir "%AGH_PATH%" & if exist "%AGH_PATH%\\" exit 3')


@dataclass
class Leases:
    """The leases of the runs that are being removed. ``revived``: runs that came to life meanwhile; ``problems``: why others have none."""

    tools: Tools
    seize: bool
    held: dict[str, RunLease] = field(default_factory=dict)
    revived: set[str] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)

    def take(self, stack: ExitStack, run_ids: Iterable[str]) -> None:
        """Take the lease of each run; they are given back when the stack closes."""
        for run_id in sorted({run_id.lower() for run_id in run_ids}):
            lease = RunLease(self.tools.writer, self.tools.clock, self.tools.folder, run_id, holder=HOLDER, seize=self.seize)
            try:
                self.held[run_id] = stack.enter_context(lease)
            except LeaseHeld:
                self.revived.add(run_id)
            except HypervError as error:
                self.problems[run_id] = error.message

    def problem(self, run_id: str | None) -> str | None:
        """Why nothing of this run may be touched now; None when it may be. Renews the lease when it is time."""
        if run_id is None:
            return None
        lease = self.held.get(run_id.lower())
        if lease is None:
            return self.problems.get(run_id.lower(), f"The lease of the run {run_id} is not held.")
        try:
            lease.keep()
        except HypervError as error:
            return error.message
        return None


class Removal:
    """Removes everything that may be removed."""

    def __init__(self, read: Read, findings: Findings, tools: Tools, leases: Leases, shares: ShareWork | None) -> None:
        self._read = read
        self._findings = findings
        self._tools = tools
        self._leases = leases
        self._shares = shares
        self._blocked: set[str] = set()
        """Stems of intents that still tell of something."""
        self._running: set[str] = set()
        """Runs of which a task could not be stopped, in lower case: nothing of them is touched."""
        self._exposed: set[str] = set()
        """Runs of which a shadow copy stayed that only its place in a job's folder tells of, in lower case."""
        self.problems: dict[tuple[str, str], str] = {}
        """What failed, with the reason."""
        self.left_at_shares: set[tuple[str, str]] = set()
        """Copies at shares that are still there."""

    def run(self) -> None:
        """What still runs, shadow copies and links, dead links, tasks and jobs, incomplete copies, policies, intents, and the rest."""
        self._stop()
        self._exports()
        self._shadows()
        for found, shadow_id in self._findings.links:
            if found.removable:
                self._try(found, _unlink, self._tools, shadow_id)
        self._jobs()
        self._copies()
        self._policies()
        self._restores()
        for found, intent in self._findings.intents:
            if found.removable and intent.stem not in self._blocked:
                self._try(found, shadow_lifecycle.forget, self._tools, [intent])
        for found, lease in self._findings.leases:
            if found.removable and lease.staged:
                self._try(found, _remove, self._tools, REMOVE_STAGED, lease.path)
            elif found.removable and lease.slot:
                self._try(found, _clear, self._tools, lease)
        for found in self._findings.others:
            if found.removable:
                self._try(found, _remove, self._tools, REMOVE_FOLDER if found.leftover.kind == "folder" else REMOVE_FILE, found.leftover.id)

    def _exports(self) -> None:
        """Jobs that run, then the checkpoints that were made for exports. Only a run that is cancelled has such a job here."""
        for found, left in self._findings.exports:
            if not found.removable:
                continue
            is_job = found.leftover.kind == "export"
            done = self._try(found, cleanup_exports.cancel if is_job else cleanup_exports.remove_checkpoint, self._tools, left)
            if not done:
                self._blocked.add(left.intent.stem)
            if not done and is_job:
                self._running.add(left.intent.run_id.lower())

    def _policies(self) -> None:
        """Policies of machines, then what told of them."""
        unchanged = {told.vm_id for found, machine, told in self._findings.policies
                     if found.removable and not self._try(found, cleanup_checkpoints.put_back, self._tools, machine, told)}
        for found, intent in self._findings.announced:
            if found.removable and not any(one.vm_id in unchanged for one in intent.machines):
                self._try(found, checkpoint_intents.STORE.remove, self._tools.writer, self._tools.folder, intent)

    def _stop(self) -> None:
        """Whatever is copied by a task is copied out of what goes next. Only a run that is cancelled has such a task here."""
        running = {task.look.name for task in self._read.runs.tasks if task.look.running}
        for found, name in self._findings.jobs:
            if found.removable and name is not None and found.leftover.kind == "task" and found.leftover.id in running \
                    and not self._try(found, _stop, self._tools, name):
                self._running.add(name.run_id.lower())

    def _shadows(self) -> None:
        facts = self._read.facts
        for found, shadow in self._findings.shadows:
            verdict = facts.verdict_on(shadow)
            intents = facts.intents_of(verdict)
            if found.removable and not self._try(found, shadow_lifecycle.take_back, self._tools, shadow.shadow_id, verdict.linked, intents):
                self._blocked.update(intent.stem for intent in intents)
                if not intents and not verdict.linked and verdict.run_id is not None:
                    self._exposed.add(verdict.run_id.lower())

    def _jobs(self) -> None:
        """After the shadow copies, one of which may be known by its place in a job's folder only."""
        done: set[str] = set()
        for found, name in self._findings.jobs:
            if found.removable and name is not None and name.run_id.lower() not in self._exposed and name.text.lower() not in done:
                done.add(name.text.lower())
                self._try(found, _remove_job, self._tools, name)

    def _copies(self) -> None:
        at_shares = []
        for found, copy in self._findings.copies:
            if not found.removable:
                continue
            if copy.at_share:
                at_shares.append((found, copy))
            elif not self._try(found, cleanup_copies.remove, self._tools.writer, copy):
                self._blocked.add(copy.intent.stem)
        chosen = [(found, copy) for found, copy in at_shares if self._may(found)]
        left: Mapping[str, str] = {}
        if chosen and self._shares is not None:
            left = self._shares.sweep([copy for _unused, copy in chosen])
        for found, copy in at_shares:
            if copy.path in left:
                self.problems[found.identity] = left[copy.path]
            if found.identity in self.problems:
                self.left_at_shares.add(found.identity)
                self._blocked.add(copy.intent.stem)

    def _restores(self) -> None:
        """Run by run: planned machines, machines of drills, files, intents."""
        going = [found for found in self._findings.restores if found.removable]
        for run_id in dict.fromkeys(found.run_id for found in going if found.run_id is not None):
            mine = [found for found in going if found.run_id == run_id]
            if not all(self._may(found) for found in mine):
                continue
            self._tools.progress(f"removing what the restore {run_id} left")
            try:
                left = {one.id.lower() for one in cleanup_restores.sweep(self._tools, self._read.restores, run_id)}
            except HypervError as error:
                self.problems.update({found.identity: error.message for found in mine})
                continue
            self.problems.update({found.identity: f"{found.leftover.id} is still there." for found in mine
                                  if found.leftover.id.lower() in left})

    def _may(self, finding: Finding) -> bool:
        problem = self._leases.problem(finding.run_id)
        if problem is None and (finding.run_id or "").lower() in self._running:
            problem = f"A task of the run {finding.run_id} could not be stopped."
        if problem is not None:
            self.problems[finding.identity] = problem
            self._blocked.update(intent.stem for found, intent in self._findings.intents if found.run_id == finding.run_id)
        return problem is None

    def _try(self, finding: Finding, action: Callable[..., list[Leftover] | None], *arguments: object) -> bool:
        if not self._may(finding):
            return False
        self._tools.progress(f"removing {finding.leftover.kind.replace('_', ' ')} {finding.leftover.id}")
        try:
            left = action(*arguments)
        except HypervError as error:
            self.problems[finding.identity] = error.message
            return False
        if left:
            self.problems[finding.identity] = f"{left[0].id} is still there."
        return not left


def _stop(tools: Tools, name: TaskName) -> None:
    tasks.stop(tools.writer, name)


def _remove_job(tools: Tools, name: TaskName) -> list[Leftover]:
    return job_runs.remove(tools.writer, tools.folder, name, clock=tools.clock)


def _unlink(tools: Tools, shadow_id: str) -> list[Leftover]:
    return [] if shadow_lifecycle.unlink(tools, shadow_id) else [shadow_lifecycle.link_leftover(tools.folder, shadow_id)]


def _clear(tools: Tools, slot: LeaseFolder) -> None:
    leases.clear(partial(files.run, tools.writer), slot.place, slot.found, secrets.token_hex(6))


def _remove(tools: Tools, command: Command, path: str) -> None:
    files.expect_success(files.run(tools.writer, command, {"PATH": path}), f"Removing {path}", "file_not_removed")
