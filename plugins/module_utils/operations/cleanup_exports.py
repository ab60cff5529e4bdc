# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What interrupted exports left on the host: a job that still runs, and the checkpoint that was made for it.

Their folders at the destination are incomplete copies like any other (:mod:`.cleanup_copies`)."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import checkpoint_service, exports, jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import Job
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import export_checkpoint, export_record, inventory
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools as Steps
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.shadow_lifecycle import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent

_END = 120.0
_PAUSE = 2.0
_CHECKPOINT = 900.0


@dataclass(frozen=True)
class ExportLeft:
    """One export that an intent tells of. ``job``: it still runs; ``checkpoint``: it is still there."""

    intent: Intent
    machine: Machine
    job: Job | None = None
    checkpoint: Checkpoint | None = None

    @property
    def job_leftover(self) -> Leftover:
        """The job, as something that is left."""
        return Leftover("export", f"{self.machine.vm_id}_{self.intent.run_id}", self.machine.name,
                        f"Get-VM -Id {self.machine.vm_id}  # Cancel Exporting, in Hyper-V Manager")


def read(reader: CimReader, clock: Clock, intents: Iterable[Intent]) -> tuple[ExportLeft, ...]:
    """Nothing is asked when no intent tells of an export; else three requests, and one for each export."""
    told = [(intent, record) for intent in intents if (record := export_record.record_of(intent)) is not None]
    if not told:
        return ()
    facts = inventory.read_host(reader, clock, ())
    machines = {machine.vm_id: machine for machine in facts.machines}
    found = []
    for intent, record in told:
        machine = machines.get(record.vm_id)
        if machine is None:
            continue
        running = [job for job in exports.find(reader, machine.reference, intent.host_time - exports.BEFORE) if not job.finished]
        made = [one for one in facts.checkpoints_of(record.vm_id) if export_checkpoint.is_of(one, record.vm_id, intent.run_id)]
        found.append(ExportLeft(intent, machine, running[-1] if running else None, made[0] if made else None))
    return tuple(found)


def cancel(tools: Tools, left: ExportLeft) -> None:
    """Ask the job to end, and see that it did (operations 0.3). Raises HypervError ``export_not_ended``."""
    if left.job is None:
        return
    checkpoint_service.terminate(tools.writer, left.job.reference)
    deadline = Deadline(tools.clock, _END)
    while True:
        job = jobs.read_job(tools.writer, left.job.reference)
        if job is None or job.finished:
            return
        if deadline.expired():
            raise HypervError(f"The export of {left.machine.name!r} does not end, although it was asked to.", error_code="export_not_ended",
                              hint="Cancel it in Hyper-V Manager, or wait for its end.", details={"job": job.as_result()})
        tools.clock.sleep(_PAUSE)


def remove_checkpoint(tools: Tools, left: ExportLeft) -> None:
    """Remove the checkpoint that was made for it; its merge goes on by itself. Raises HypervError."""
    if left.checkpoint is not None:
        steps = Steps(tools.writer, tools.clock, tools.progress, Deadline(tools.clock, _CHECKPOINT))
        export_checkpoint.remove(steps, left.machine, left.checkpoint)
