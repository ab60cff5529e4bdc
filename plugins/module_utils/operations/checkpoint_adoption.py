# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creations that an earlier run of the same task began and did not wait for: with ``wait: false``, or because its time was over.

Their intent names the job. Only what the host says that this job made is adopted; once the job is gone, nothing proves whose a checkpoint
without a name is, and it is a suspect.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import Job
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_create, checkpoint_intents, checkpoint_steps
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_create import Made, Work
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_intents import (
    BegunJob,
    CheckpointIntent,
    MachineIntent,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder


@dataclass(frozen=True)
class Begun:
    """A creation that an intent names the job of, with the job as it is; None when the host knows it no more."""

    intent: CheckpointIntent
    told: MachineIntent
    job: Job | None

    @property
    def runs(self) -> bool:
        """True as long as the job has not ended."""
        return self.job is not None and not self.job.finished

    @property
    def adoptable(self) -> bool:
        """True when the job will say, or says, what it made."""
        return self.job is not None and (not self.job.finished or self.job.succeeded)


def read(reader: CimReader, intents: Sequence[CheckpointIntent]) -> tuple[Begun, ...]:
    """One request for each job that an intent names."""
    return tuple(Begun(intent, told, jobs.read_job(reader, reference_of(told.job)))
                 for intent in intents for told in intent.machines if told.job is not None)


def reference_of(job: BegunJob) -> Reference:
    """The address of a job."""
    return Reference(NAMESPACE, job.class_name, {"InstanceID": job.job_id})


def find(begun: Sequence[Begun], machine: Machine, name: str) -> Begun | None:
    """What the same task began for a machine."""
    return next((one for one in begun if one.told.vm_id == machine.vm_id and one.adoptable
                 and (one.intent.checkpoint or "").casefold() == name.casefold()), None)


def work_of(begun: Begun, machine: Machine, *, name: str, kind: str, notes: str | None, expires: datetime | None) -> Work:
    """What has to be done yet. The run in the mark is the one that began it."""
    told = begun.told
    return Work(machine, name, kind, told.was, told.now, told.level or "crash", begun.intent.run_id, notes, expires, frozenset())


def adopt(tools: Tools, work: Work, begun: Begun) -> Made:
    """Wait for the job, name what it made, and put the policy back; errors are in the answer."""
    made = Made(work)
    made.settled = False
    try:
        if begun.told.job is None:
            raise HypervError("The intent names no job.", error_code="checkpoint_not_made")
        checkpoint_create.finish(tools, work, made, reference_of(begun.told.job))
    except HypervError as error:
        made.error = error
    if work.changes_policy:
        checkpoint_steps.give_back_or_tell(tools, work.machine, work.was, work.now, made.leftovers)
    return made


def record(tools: Tools, folder: StateFolder, intent: CheckpointIntent, made: Sequence[Made]) -> CheckpointIntent:
    """Let the intent name the jobs that go on, so that a later run can adopt what they make. Raises HypervError ``file_not_written``."""
    going = {one.work.machine.vm_id: one for one in made if one.still is not None}
    named = replace(intent, machines=tuple(
        replace(told, job=_job_of(going[told.vm_id]), level=going[told.vm_id].work.level) if told.vm_id in going else told
        for told in intent.machines))
    if named != intent:
        checkpoint_intents.STORE.write(tools.writer, folder, named)
    return named


def _job_of(made: Made) -> BegunJob | None:
    still = made.still
    return None if still is None else BegunJob(still.reference.class_name, still.reference.key("InstanceID") or "")
