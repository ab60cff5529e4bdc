# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job of :mod:`.diskshadow` on a host: how it is begun, and what its end says of the set and of what was done with it."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import diskshadow, job_runs, jobs, tasks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.job_runs import JobEnd
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import said
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.shadow_copies import Refusal
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import RunAs, TaskName
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.shell import ProgramResult


def begin(writer: CimWriter, folder: StateFolder, name: TaskName, job: Job, announce: Callable[[], None], run_as: RunAs, *, clock: Clock,
          limit: float | None) -> None:
    """Prepare a job, say what it is about to make, and start its task. After an error neither task nor folder stays, or it is in
    ``leftovers``; what was announced stays announced.

    The announcement comes last before the task: what proves a shadow copy to be ours is how soon after it that was made.
    """
    prepared = False
    try:
        job_runs.prepare(writer, folder, name, job)
        prepared = True
        announce()
        tasks.register(writer, name, job_runs.script_of(folder, name), run_as, clock=clock, limit=limit)
        tasks.start(writer, name, clock=clock)
    except tasks.TaskExists:
        raise
    except HypervError as error:
        if prepared or error.error_code != "job_exists":
            error.leftovers = (*error.leftovers, *job_runs.remove(writer, folder, name, clock=clock))
        raise


@dataclass(frozen=True)
class SessionEnd:
    """What became of one session of diskshadow.

    ``outer`` is the result of the job's own steps. ``inner`` that of the script that ran while the set was there: None when it did not
    come to that, and then ``refusal`` says why, with its ``hresult`` when diskshadow named one. ``end`` has outputs and codes of both.
    """

    outer: JobResult
    inner: JobResult | None
    refusal: Refusal | None
    hresult: int | None
    told: str
    shadow_ids: tuple[str, ...]
    end: JobEnd

    @property
    def steps(self) -> JobResult:
        """The steps of both scripts as one result."""
        return self.outer if self.inner is None else replace(self.inner, steps={**self.outer.steps, **self.inner.steps})


MISSING = Refusal("diskshadow_missing", "the program is not on the host",
                  "diskshadow is part of Server editions only; copy without writers, or use another method.")


def read_end(end: JobEnd, outer: JobResult) -> SessionEnd:
    """What a job with the result ``outer`` came to.

    Raises HypervError ``job_result_unreadable``, or ``job_values_garbled`` when the inner script did not get its values.
    """
    output = end.outputs.get(diskshadow.SESSION, b"")
    told = end.outputs.get(diskshadow.TOLD, b"")
    codes = {**end.codes, **diskshadow.robocopy_codes(end.outputs.get(diskshadow.CODES, b""))}
    inner = jobs.parse_result(told) if told.strip() else None
    if inner is not None and not inner.values_read:
        raise job_runs.garbled()
    words, hresult = said(ProgramResult(1, output, b"")), diskshadow.last_hresult(output)
    refusal = None if inner is not None or diskshadow.SESSION not in outer.steps else _refusal(outer, hresult)
    ids = diskshadow.shadow_ids(end.outputs.get("ids", b""))
    return SessionEnd(outer, inner, refusal, hresult, words, ids, replace(end, codes=codes))


def _refusal(outer: JobResult, hresult: int | None) -> Refusal:
    if outer.steps[diskshadow.SESSION].code == diskshadow.NOT_A_PROGRAM:
        return MISSING
    return diskshadow.REFUSALS.get(-1 if hresult is None else hresult, diskshadow.UNKNOWN)
