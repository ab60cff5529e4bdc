# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The job of one export: begun once, followed to its end, and what its failure means (operations 3.3, F-17 to F-19)."""
from __future__ import annotations

from collections.abc import Callable, Mapping

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import exports, jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import Job, JobFailed
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_steps, export_checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_work import StillRunning, Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.export_plan import LIVE_DATA, LIVE_SAVED, OFFLINE, Order
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import system
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import Refusal

_SAY_EVERY = 60.0
_LONGEST_PAUSE = 30.0


def start(order: Order, host: str, tools: Tools, intent: Intent, path: str, checkpoint: Checkpoint | None) -> Reference | None:
    """Have the host begin; once more only when it provably had not. The lost answer of one that had is made up for by its job.

    The job, None when the export was done at once. Raises as ``exports.start``.
    """
    live = {LIVE_SAVED: exports.SAVED, LIVE_DATA: exports.APPLICATION}.get(order.method, exports.CRASH)
    excluded = tuple(disk.disk.instance_id for disk in order.disks if disk.excluded)
    wish = exports.Wish(order.machine.reference, path, checkpoint.reference if checkpoint is not None else None, live,
                        order.method in (LIVE_SAVED, OFFLINE), excluded)
    return _start(wish, order, host, tools, intent, again=True)


def _start(wish: exports.Wish, order: Order, host: str, tools: Tools, intent: Intent, *, again: bool) -> Reference | None:
    try:
        return exports.start(tools.writer, wish, host)
    except OutcomeUnknown:
        found = exports.find(tools.writer, order.machine.reference, intent.host_time - exports.BEFORE)
        if found:
            return found[-1].reference
        if not again or not checkpoint_steps.idle(export_checkpoint.steps(tools), order.machine):
            raise
    return _start(wish, order, host, tools, intent, again=False)


def follow(tools: Tools, order: Order, intent: Intent, reference: Reference, seen: Callable[[Job], None]) -> bool:
    """Wait for the job; ``seen`` is told each look at it. True when it ended well, False when it vanished before anybody saw its end.

    Raises JobFailed with what to do when it failed, and StillRunning when the time is over first or the host could not be asked: it may
    go on then, so nothing of it may be touched.
    """
    name, size = order.machine.name, order.size
    pause, said, first = 2.0, 0.0, tools.clock.monotonic()
    while True:
        job = _look(tools, intent, reference)
        if job is None:
            tools.progress(f"{name}: the job of the export is gone; looking what came of it")
            return False
        seen(job)
        if job.finished:
            return _ended(tools, job, order)
        seconds = tools.clock.monotonic() - first
        if tools.deadline.expired():
            raise _still_running(intent, "The time for this task was over before the export was complete "
                                 f"({job.percent} %). It goes on on the host.", "timeout", job)
        if seconds - said >= _SAY_EVERY:
            said = seconds
            tools.progress(progress_line(name, size, seconds, job.percent))
        tools.clock.sleep(min(pause, max(tools.deadline.remaining(), 0.1)))
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _look(tools: Tools, intent: Intent, reference: Reference) -> Job | None:
    """One look at the job, as long as the lease is ours."""
    try:
        tools.lease.keep()
        return jobs.read_job(tools.writer, reference)
    except HypervError as error:
        raise _still_running(intent, f"{error.message} The export may go on on the host.", error.error_code) from error


def progress_line(name: str, size: int, seconds: float, percent: int | None) -> str:
    """VM, step, percent, bytes, rate and time left, as far as they are known."""
    if not percent:
        return f"{name}: exporting for {seconds / 60:.0f} min"
    done = size * percent / 100
    return (f"{name}: exporting, {percent} %, about {done / 2**30:.1f} of {size / 2**30:.1f} GiB, "
            f"{done / max(seconds, 1) / 2**20:.0f} MiB/s, {seconds * (100 - percent) / percent / 60:.0f} min left")


def _ended(tools: Tools, job: Job, order: Order) -> bool:
    try:
        jobs.conclude(tools.writer, job, f"exporting {order.machine.name!r}")
    except JobFailed as error:
        raise _explained(error, order, tools) from error
    return True


def _still_running(intent: Intent, message: str, error_code: str, job: Job | None = None) -> StillRunning:
    told = {"finished": False} if job is None else job.as_result()
    return StillRunning(
        message, error_code=error_code,
        hint=f"A later run of the same task takes it over; hyperv_cleanup with run_id {intent.run_id} ends it and removes what it made. "
             "A host forgets a job five minutes after its end: come back before.",
        details={"job": {**told, "run_id": intent.run_id}})


_HRESULTS: Mapping[int, Refusal] = {
    0x80070005: Refusal("destination_denied", "the host's computer account may not write there", ""),
    0x80070050: Refusal("export_target_exists", "something of that name is there already", "Look what it is; run the task again."),
    0x800700B7: Refusal("export_target_exists", "something of that name is there already", "Look what it is; run the task again."),
    0x80070070: Refusal("destination_full", "the destination is full", "Free space there, or keep fewer exports."),
    0x80070027: Refusal("destination_full", "the destination is full", "Free space there, or keep fewer exports."),
    0x80070035: Refusal("destination_unreachable", "the network path was not found", "Is the server there, and its name right?"),
    0x80070040: Refusal("destination_unreachable", "the server went away", "Is the server there?"),
    0x80070043: Refusal("destination_unreachable", "the share was not found", "Is the share's name right?"),
    0x80070002: Refusal("export_source_missing", "a file of the virtual machine was not found", "hyperv_vm_info with chains shows which."),
    0x80070003: Refusal("export_source_missing", "a folder was not found", "Was the destination removed, or a folder of the machine?"),
    0x80070020: Refusal("sharing_violation", "a file is opened by somebody else", "Look for antivirus and backup products; run it again."),
}


def _explained(error: JobFailed, order: Order, tools: Tools) -> HypervError:
    """The failure of the job with what to do about it, as far as its code tells."""
    refusal = _HRESULTS.get((error.hresult or 0) & 0xFFFFFFFF)
    if refusal is None:
        hint: str | None = "A missing disk or a missing virtual switch is the usual cause; the log Hyper-V-VMMS of the host says more."
        if order.method == LIVE_DATA:
            hint = "The guest may not have quiesced; without live_data it is not asked to."
        return HypervError(error.message, error_code="export_failed", hint=hint, return_value=error.return_value, hresult=error.hresult,
                           details=error.details)
    hint = refusal.hint
    if refusal.error_code == "destination_denied":
        hint = (f"Exports are written by {_account(tools)}, whoever runs the task: give it full control on the share and in its folder"
                " (each node of a cluster). The account of the connection does not matter.")
    return HypervError(f"The export of {order.machine.name!r} failed: {refusal.sentence}. {error.message}", error_code=refusal.error_code,
                       hint=hint, return_value=error.return_value, hresult=error.hresult, details=error.details)


def _account(tools: Tools) -> str:
    r"""``DOMAIN\HOST$``, as far as the host tells its domain; one request, only for a message."""
    try:
        computer = system.read_system(tools.writer, tools.clock)
    except HypervError:
        return "the host's computer account"
    return f"the computer account {computer.domain}\\{computer.name}$" if computer.domain else f"the computer account {computer.name}$"
