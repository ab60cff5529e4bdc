# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Incomplete copies at shares, which only tasks reach: one task looks at all of them, one removes them (:mod:`windows.sweep_jobs`)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import cleanup_copies
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_copies import IncompleteCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.shadow_lifecycle import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import job_runs, sweep_jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.sweep_jobs import Place, Rubbish, Searched
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import RunAs, TaskName

PATIENCE = 900.0
"""Seconds that one task may take: a server that is not there lets each look wait."""
UNSEARCHED = "unsearched"
NEEDS_TASK = "destination_needs_task"
MISSING = "destination_missing"
SEARCHED = "searched"


@dataclass(frozen=True)
class Shares:
    """What is known of the places at shares: a status for each (``Place.key``), the incomplete copies, and what kept them from being read.

    Places without a status were not looked at: ``default`` says what that means.
    """

    default: str = UNSEARCHED
    status: Mapping[tuple[str, str], str] = field(default_factory=dict)
    copies: tuple[IncompleteCopy, ...] = ()
    problems: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def of(self, place: Place) -> str:
        """The status of one place."""
        return self.status.get(place.key, self.default)


def places_of(intents: Sequence[Intent]) -> dict[tuple[str, str], tuple[Place, Intent]]:
    """Every place at a share that intents name, once, with the first of them."""
    found: dict[tuple[str, str], tuple[Place, Intent]] = {}
    for intent in intents:
        for folder in cleanup_copies.share_folders(intent):
            place = Place(folder, intent.run_id)
            found.setdefault(place.key, (place, intent))
    return found


class ShareWork:
    """Tasks of one clean-up. The state folder is there and trusted."""

    def __init__(self, tools: Tools, run_as: RunAs, run_id: str) -> None:
        self._tools = tools
        self._run_as = run_as
        self._run_id = run_id
        self.leftovers: list[Leftover] = []
        """Tasks and jobs of these that could not be removed."""

    def search(self, intents: Sequence[Intent]) -> Shares:
        """Look at every place that these intents name. What keeps a task from running is a problem of its places, never an error."""
        wanted = places_of(intents)
        status: dict[tuple[str, str], str] = {}
        copies: list[IncompleteCopy] = []
        problems: dict[tuple[str, str], str] = {}
        for batch in sweep_jobs.place_batches([place for place, _unused in wanted.values()]):
            self._tools.progress(f"looking for incomplete copies in {len(batch)} folder(s) at shares")
            try:
                result, outputs = self._run(sweep_jobs.look_job(batch))
            except HypervError as error:
                status.update((place.key, MISSING) for place in batch)
                problems.update((place.key, error.message) for place in batch)
                continue
            for seen in sweep_jobs.searched(batch, result, outputs):
                status[seen.place.key] = SEARCHED if seen.reached else MISSING
                copies += _judged(seen, wanted[seen.place.key][1])
        return Shares(UNSEARCHED, status, tuple(copies), problems)

    def sweep(self, copies: Sequence[IncompleteCopy]) -> dict[str, str]:
        """Remove these; what could not be removed, by its path, with the reason."""
        left: dict[str, str] = {}
        rubbish = [Rubbish(copy.path, *_parts(copy)) for copy in copies]
        for batch in sweep_jobs.rubbish_batches(rubbish):
            self._tools.progress(f"removing {len(batch)} incomplete copies at shares")
            try:
                result, _unused = self._run(sweep_jobs.sweep_job(batch))
            except HypervError as error:
                left.update((copy.folder, error.message) for copy in batch)
                continue
            for done in sweep_jobs.swept(batch, result):
                if not done.gone:
                    left[done.folder] = f"{done.folder} could not be removed: {_REASONS[done.reason or 'not_reached']}."
        return left

    def _run(self, job: Job) -> tuple[JobResult, Mapping[str, bytes]]:
        """One task to its end. Raises HypervError ``timeout`` and what the task runner raises."""
        tools = self._tools
        name = TaskName.fresh("host", self._run_id, "sweep")
        try:
            end = job_runs.run(tools.writer, tools.folder, name, job, self._run_as, clock=tools.clock,
                               deadline=Deadline(tools.clock, PATIENCE))
        except HypervError as error:  # nothing that was found is of use without its result, and what is removed twice does no harm
            self.leftovers += error.leftovers or job_runs.remove(tools.writer, tools.folder, name, clock=tools.clock)
            raise
        self.leftovers += end.leftovers
        if end.result is None:
            self.leftovers += job_runs.remove(tools.writer, tools.folder, name, clock=tools.clock)
            raise HypervError(f"The task {name.text} did not end in time.", error_code="timeout")
        return end.result, end.outputs


_REASONS: Mapping[str, str] = {
    "link": "it is a link, holds one or is reached through one", "manifest": "it has got a manifest meanwhile",
    "foreign_files": "it holds something that no run of ours put there", "locked": "a file in it is in use or protected",
    "not_reached": "the task ended before",
}


def _judged(seen: Searched, intent: Intent) -> list[IncompleteCopy]:
    found = []
    for copy in seen.copies:
        links = [link for link in seen.links if "\\" not in link or f"\\{copy.name}\\".lower() in f"{link}\\".lower()]
        judged = cleanup_copies.judge_content(f"{seen.place.folder}\\{copy.name}", intent, copy.inside, links)
        found += [judged] if judged is not None else []
    return found


def _parts(copy: IncompleteCopy) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files and the folders of a copy, the deepest folder first."""
    folders = tuple(sorted((name for name in copy.inside if cleanup_copies.is_folder(name)), key=lambda name: -name.count("\\")))
    return tuple(name for name in copy.inside if name not in folders), folders
