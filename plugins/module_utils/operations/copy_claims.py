# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run at work is going to copy, so that no other run copies it to the same place meanwhile, or once more after it.

A claim is an intent that comes and goes with the lease of its run, and names the folders of all machines of the run. Whoever has made its
own looks at those of the others: of two runs that mean the same machine the one goes on whose claim was written first, by the times that
the host gives its files; the other one waits. A copy in the session makes no claim: it ends with its run, whose lease stands for hours.
"""
from __future__ import annotations

import ntpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_adoption import AtWork
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import Adoption, CopyPlan, Job, Refused
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import leases, state, state_contents, system
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import Runs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent, StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state_contents import Contents

_PAUSES = (5.0, 10.0, 20.0, 40.0, 60.0)


def claim_of(plan: CopyPlan, run_id: str, now: datetime) -> Intent:
    """The claim of a run. A retry of the run has the lease alone, and so its claim takes the place of the first one's."""
    folders = {*map(_folder, plan.jobs), *map(_folder, plan.adoptions)}
    return Intent(run_id, state.CLAIM, now, state.NO_VOLUME, (), tuple(sorted(folders)))


def _folder(item: Job | Adoption) -> str:
    return item.folder if isinstance(item, Job) else ntpath.dirname(item.record.folder)


def of_others(contents: Contents, alive: Runs, run_id: str, mine: Intent | None) -> dict[str, str]:
    """Folder in lower case to the run that is going to copy there, for the runs of ``alive`` whose claims are older than ``mine``."""
    def written(claim: Intent) -> tuple[datetime, str]:
        return contents.written.get(claim.name.lower(), claim.host_time), claim.run_id.lower()

    own = None if mine is None else written(mine)
    return {folder.lower(): claim.run_id for claim in contents.intents
            if claim.token == state.CLAIM and claim.run_id in alive and claim.run_id.lower() != run_id.lower()
            and (own is None or written(claim) < own) for folder in claim.folders}


def read_of_others(reader: CimReader, folder: StateFolder, run_id: str, mine: Intent | None, now: datetime) -> dict[str, str]:
    """The same of a host: one request when no other run is at work there."""
    alive = leases.alive_runs(state_contents.read_leases(reader, folder, but=run_id), now)
    return of_others(state_contents.read_contents(reader, folder), alive, run_id, mine) if alive else {}


def without_those(plan: CopyPlan, claimed: Mapping[str, str]) -> CopyPlan:
    """The plan without the machines that other runs are going to copy; these are refused with AtWork."""
    def theirs(items: Sequence[Job | Adoption]) -> list[Refused]:
        return [Refused(item.machine.name, item.machine, AtWork(
            f"The run {claimed[_folder(item).lower()]} is going to copy {item.machine.name!r}, and is still at work.",
            claimed[_folder(item).lower()])) for item in items if _folder(item).lower() in claimed]

    return replace(plan, jobs=tuple(job for job in plan.jobs if _folder(job).lower() not in claimed),
                   adoptions=tuple(item for item in plan.adoptions if _folder(item).lower() not in claimed),
                   refused=(*plan.refused, *theirs(plan.jobs), *theirs(plan.adoptions)))


def wait(call: Call, folder: StateFolder, runs: Collection[str], deadline: Deadline) -> bool:
    """Wait until none of these runs is at work any more, or its lease is over; False when that is not to be waited for."""
    wanted, pauses = Runs(runs), iter(_PAUSES)
    while True:
        found = [one for one in state_contents.read_leases(call.reader, folder) if one.name in wanted]
        busy = sorted(leases.alive_runs(found, system.read_time(call.reader)))
        if not busy:
            return True
        if deadline.expired() or any(one.found.damage is not None for one in found):
            return False
        call.progress(f"waiting for the run {', '.join(busy)}, which copies what this one is to copy, too")
        call.clock.sleep(min(next(pauses, _PAUSES[-1]), deadline.remaining()))
