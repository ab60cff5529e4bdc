# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One VM's export from the intent to the end: checkpoint, folder, job, proof, manifest, and everything of ours away again.

Whatever happens in between: a checkpoint that was made for it goes as soon as the job has ended, what has no manifest is removed or told,
and the intent goes last. Only when the job goes on without us everything stays, so that a later run takes it over.
"""
from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import exports, jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import Job, JobFailed
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_steps,
    export_checkpoint,
    export_folder,
    export_verify,
    incomplete_copies,
    shadow_lifecycle,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import consistency_of
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_work import StillRunning, Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.export_checkpoint import Merge
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.export_plan import (
    CHECKPOINT,
    EVIDENCE,
    LIVE_DATA,
    LIVE_SAVED,
    OFFLINE,
    PRODUCTION_CHECKPOINT,
    ExportRequest,
    Order,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.export_record import ExportRecord
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.export_verify import Looking
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming, restore_guide
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import ExcludedDisk, Export, Manifest, Place
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state, system, target_jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import Refusal

_SAY_EVERY = 60.0
_LONGEST_PAUSE = 30.0
_END = 120.0
"""Seconds that a job gets to end once it was asked to."""


@dataclass
class Outcome:
    """What became of one VM. ``began``: something of it may be there; ``job``: the export, as it was last seen."""

    order: Order
    folder: str | None = None
    manifest: Manifest | None = None
    error: HypervError | None = None
    job: Job | None = None
    running: bool = False
    adopted: bool = False
    merged: bool | None = None
    leftovers: list[Leftover] = field(default_factory=list)


@dataclass(frozen=True)
class Begun:
    """An export that is under way or done: its intent and where it goes. ``checkpoint``: the one that was made for it or was there."""

    intent: Intent
    path: str
    taken: datetime
    level: str
    checkpoint: Checkpoint | None
    job: Reference | None


@dataclass
class Standing:
    """An intent that was announced when the lease of the run was taken. ``retract`` has it go with the lease; ``used``: the export has
    taken charge of it."""

    intent: Intent
    retract: Callable[[], None]
    used: bool = False


def execute(order: Order, facts: HostFacts, request: ExportRequest, tools: Tools, standing: Standing | None = None) -> Outcome:
    """Export one VM; never raises what only concerns it. The state folder is trusted, and the run has its lease.

    ``standing``: its intent, if that stands already.
    """
    outcome = _execute(order, facts, request, tools, standing)
    while outcome.error is not None and outcome.error.error_code == "production_failed" and order.instead is not None:
        tools.progress(f"{order.machine.name}: {outcome.error.message} Exporting it {order.instead.method} instead, as the task allows.")
        order = order.instead
        outcome = _execute(order, facts, request, tools)
    return outcome


def _execute(order: Order, facts: HostFacts, request: ExportRequest, tools: Tools, standing: Standing | None = None) -> Outcome:
    outcome = Outcome(order)
    try:
        if tools.deadline.expired():
            raise HypervError("The time for this task was over before the export was begun.", error_code="timeout", hint="Raise timeout.")
        tools.lease.keep()
        intent = _announce(order, facts, request, tools) if standing is None else standing.intent
    except HypervError as error:
        outcome.error = error
        return outcome
    if standing is not None:
        standing.used = True
    try:
        begun = _begin(order, facts, request, tools, intent, outcome)
        if not request.wait and begun.job is not None:
            outcome.running = True
            outcome.job = jobs.read_job(tools.writer, begun.job)
            return outcome
        _bring_home(begun, order, facts, request, tools, outcome, standing)
    except StillRunning as error:
        outcome.error, outcome.running = error, True
    except HypervError as error:
        outcome.error = error
        outcome.leftovers += _give_up(tools, intent, order.machine, keep=error.error_code == OutcomeUnknown.error_code)
    return outcome


def intent_of(order: Order, facts: HostFacts, request: ExportRequest, clock: Clock) -> Intent:
    """What an export announces before anything of it is made."""
    return Intent(request.run_id, secrets.token_hex(4), facts.system.time_now(clock), state.NO_VOLUME, (), (order.folder,),
                  note=order.record(request).dump())


def _announce(order: Order, facts: HostFacts, request: ExportRequest, tools: Tools) -> Intent:
    intent = intent_of(order, facts, request, tools.clock)
    try:
        state.write_intent(tools.writer, tools.folder, intent)
    except HypervError as error:
        error.leftovers = (*error.leftovers, *shadow_lifecycle.forget(tools, [intent]))
        raise
    return intent


# -- begin ---------------------------------------------------------------------------------------------------------------


def _begin(order: Order, facts: HostFacts, request: ExportRequest, tools: Tools, intent: Intent, outcome: Outcome) -> Begun:
    taken, level, checkpoint = intent.host_time, order.level, order.checkpoint
    if order.planned is not None:
        made, left = export_checkpoint.make(tools, order.planned, request.run_id, facts.system.time_now(tools.clock))
        outcome.leftovers += [*made.leftovers, *left]
        if made.error is not None:
            raise made.error
        checkpoint, level = made.checkpoint, made.achieved or "crash"
        if not request.accepts(level):
            raise HypervError(f"The checkpoint of {order.machine.name!r} reached {level}, not {request.consistency}.",
                              error_code="consistency_not_reached", hint="Accept less with consistency_fallback.")
    if checkpoint is not None and checkpoint.created is not None:
        taken = checkpoint.created.replace(microsecond=0)
    outcome.folder = path = f"{order.folder}\\{naming.copy_folder(taken, request.run_id)}"
    outcome.leftovers += export_folder.make(tools, path, order.machine.vm_id, request.run_id)
    tools.progress(f"{order.machine.name}: exporting, about {order.size / 2**30:.1f} GiB, to {path}")
    job = _start(order, facts, tools, intent, path, checkpoint)
    return Begun(intent, path, taken, level, checkpoint, job)


def _start(order: Order, facts: HostFacts, tools: Tools, intent: Intent, path: str, checkpoint: Checkpoint | None) -> Reference | None:
    """Have the host begin; once more only when it provably had not. The lost answer of one that had is made up for by its job."""
    live = {LIVE_SAVED: exports.SAVED, LIVE_DATA: exports.APPLICATION}.get(order.method, exports.CRASH)
    excluded = tuple(disk.disk.instance_id for disk in order.disks if disk.excluded)
    wish = exports.Wish(order.machine.reference, path, checkpoint.reference if checkpoint is not None else None, live,
                        order.method in (LIVE_SAVED, OFFLINE), excluded)
    for last in (False, True):
        try:
            return exports.start(tools.writer, wish, facts.system.name)
        except OutcomeUnknown:
            found = exports.find(tools.writer, order.machine.reference, intent.host_time - exports.BEFORE)
            if found:
                return found[-1].reference
            if last or not checkpoint_steps.idle(export_checkpoint.steps(tools), order.machine):
                raise
    return None


# -- follow --------------------------------------------------------------------------------------------------------------


def follow(tools: Tools, order: Order, intent: Intent, reference: Reference, started: datetime, outcome: Outcome) -> bool:
    """Wait for the job. True when it ended well, False when it vanished before anybody saw its end.

    Raises StillRunning when the time is over first, JobFailed with what to do when it failed.
    """
    name, size = order.machine.name, order.size
    pause, said, first = 2.0, 0.0, tools.clock.monotonic()
    while True:
        job = jobs.read_job(tools.writer, reference)
        if job is None:
            tools.progress(f"{name}: the job of the export is gone; looking what came of it")
            return False
        outcome.job = job
        if job.finished:
            return _ended(tools, job, order)
        seconds = tools.clock.monotonic() - first
        if tools.deadline.expired():
            raise _still_running(job, intent)
        if seconds - said >= _SAY_EVERY:
            said = seconds
            tools.progress(progress_line(name, size, seconds, job.percent))
        tools.lease.keep()
        tools.clock.sleep(min(pause, max(tools.deadline.remaining(), 0.1)))
        pause = min(pause * 1.5, _LONGEST_PAUSE)


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
        raise explained(error, order, tools) from error
    return True


def _still_running(job: Job, intent: Intent) -> StillRunning:
    return StillRunning(
        f"The time for this task was over before the export was complete ({job.percent} %). It goes on on the host.", error_code="timeout",
        hint=f"A later run of the same task takes it over; hyperv_cleanup with run_id {intent.run_id} ends it and removes what it made. "
             "A host forgets a job five minutes after its end: come back before.",
        details={"job": {**job.as_result(), "run_id": intent.run_id}})


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


def explained(error: JobFailed, order: Order, tools: Tools) -> HypervError:
    """The failure of the job with what to do about it, as far as its code tells (operations F-17 to F-19)."""
    refusal = _HRESULTS.get((error.hresult or 0) & 0xFFFFFFFF)
    if refusal is None:
        hint: str | None = "A missing disk or a missing virtual switch is the usual cause; the log Hyper-V-VMMS of the host says more."
        if order.method == LIVE_DATA:
            hint = "The guest may not have quiesced; without live_data it is not asked to."
        return HypervError(error.message, error_code="export_failed", hint=hint, return_value=error.return_value, hresult=error.hresult,
                           details=error.details)
    hint = refusal.hint
    if refusal.error_code == "destination_denied":
        hint = (f"Exports are written by {account(tools)}, whoever runs the task: give it full control on the share and in its folder"
                " (each node of a cluster). The account of the connection does not matter.")
    return HypervError(f"The export of {order.machine.name!r} failed: {refusal.sentence}. {error.message}", error_code=refusal.error_code,
                       hint=hint, return_value=error.return_value, hresult=error.hresult, details=error.details)


def account(tools: Tools) -> str:
    r"""``DOMAIN\HOST$``, as far as the host tells its domain; one request, only for a message."""
    try:
        computer = system.read_system(tools.writer, tools.clock)
    except HypervError:
        return "the host's computer account"
    return f"the computer account {computer.domain}\\{computer.name}$" if computer.domain else f"the computer account {computer.name}$"


# -- prove and close -----------------------------------------------------------------------------------------------------


def _bring_home(begun: Begun, order: Order, facts: HostFacts, request: ExportRequest, tools: Tools, outcome: Outcome,
                standing: Standing | None = None) -> None:
    """Follow, take the checkpoint away, prove, write the manifest, forget the intent, wait for the merge."""
    ended_well = True
    merge: Merge | None = None
    own = begun.checkpoint if order.method == PRODUCTION_CHECKPOINT else None
    try:
        if begun.job is not None:
            ended_well = follow(tools, order, begun.intent, begun.job, begun.intent.host_time, outcome)
            if not ended_well and not checkpoint_steps.idle(export_checkpoint.steps(tools), order.machine):
                raise OutcomeUnknown(f"The job of the export of {order.machine.name!r} is gone, and the host still works on the machine.",
                                     hint="Run the task again when it is idle.")
    except (StillRunning, OutcomeUnknown):
        raise
    except HypervError:
        if own is not None:
            _remove_quietly(tools, order, own, outcome)
        raise
    if own is not None:
        merge = export_checkpoint.remove(export_checkpoint.steps(tools), order.machine, own)
    exact = replace(order, checkpoint=begun.checkpoint)
    sha256 = request.verify == export_verify.SHA256
    seen, left = export_folder.look(tools, begun.path, order.machine.vm_id, begun.intent.run_id, order.size, sha256=sha256)
    outcome.leftovers += left
    looking = Looking(tools.writer, tools.clock, Deadline(tools.clock, max(900.0, tools.deadline.remaining())), tools.progress, ended_well)
    proof = export_verify.prove(looking, exact, begun.path, seen, request.verify)
    manifest = _manifest(begun, exact, facts, request, proof, facts.system.time_now(tools.clock))
    guide = restore_guide.guide(manifest, begun.path)
    digest = export_folder.digest_of(guide) if sha256 else None
    manifest = replace(manifest, files=export_verify.with_guide(manifest.files, guide, target_jobs.GUIDE, digest))
    outcome.leftovers += export_folder.finish(tools, begun.path, manifest, guide)
    outcome.folder, outcome.manifest = begun.path, manifest
    tools.progress(f"{order.machine.name}: exported, {manifest.size} bytes, verified: {manifest.verified}")
    if standing is not None:
        standing.retract()
    else:
        outcome.leftovers += shadow_lifecycle.forget(tools, [begun.intent])
    if merge is not None and request.wait_for_merge:
        outcome.merged = False
        export_checkpoint.wait_for_merge(tools, order.machine, merge, request.merge_timeout)
        outcome.merged = True


def _remove_quietly(tools: Tools, order: Order, checkpoint: Checkpoint, outcome: Outcome) -> None:
    """After a failure: the first error says more."""
    try:
        export_checkpoint.remove(export_checkpoint.steps(tools), order.machine, checkpoint)
    except HypervError as error:
        outcome.leftovers += error.leftovers


def _manifest(begun: Begun, order: Order, facts: HostFacts, request: ExportRequest, proof: export_verify.Proof,
              completed: datetime) -> Manifest:
    machine, source = order.machine, order.source
    settings = machine.settings
    checkpoint = begun.checkpoint
    export = Export(
        build=facts.system.build, generation=(settings.generation if settings else None) or 0,
        version=".".join(str(part) for part in (settings.version_number if settings else None) or (0, 0)),
        vtpm=source.vtpm, shielded=source.shielded, memory=source.hardware.memory, processors=source.hardware.processors,
        switches=source.switches, disks=proof.disks,
        excluded=tuple(ExcludedDisk(disk.disk.path or "", Place(disk.slot.controller, disk.slot.number, disk.slot.location))
                       for disk in order.disks if disk.excluded),
        checkpoint_id=checkpoint.checkpoint_id if checkpoint else None, checkpoint_name=checkpoint.name if checkpoint else None,
        definition_id=proof.definition_id)
    return Manifest(
        vm_id=machine.vm_id, vm_name=machine.name, host=facts.system.name, run_id=begun.intent.run_id, taken=begun.taken,
        completed=completed, shadow_id=None, requested=request.consistency, achieved=begun.level, evidence=EVIDENCE[order.method],
        not_captured=order.not_captured, unknowns=(*order.unknowns, *proof.unknowns), verified=request.verify,
        files=proof.files, method=order.method, export=export)


# -- what an earlier run left --------------------------------------------------------------------------------------------


def adopt(intent: Intent, record: ExportRecord, order: Order, facts: HostFacts, request: ExportRequest, tools: Tools) -> Outcome | None:
    """Bring the export of an earlier run to its end; None when nothing of use came of it, and it was taken away."""
    outcome = Outcome(order, adopted=True)
    tools.progress(f"{order.machine.name}: taking over the export that the run {intent.run_id} began")
    try:
        begun = _found_again(intent, record, order, tools)
        if begun is None:
            outcome.leftovers += _give_up(tools, intent, order.machine)
            return None
        if not request.wait and begun.job is not None:
            job = jobs.read_job(tools.writer, begun.job)
            if job is not None and not job.finished:
                outcome.running, outcome.job, outcome.folder = True, job, begun.path
                return outcome
        _bring_home(begun, order, facts, replace(request, verify=record.verify), tools, outcome)
    except StillRunning as error:
        outcome.error, outcome.running = error, True
    except HypervError as error:
        if isinstance(error, OutcomeUnknown) or outcome.manifest is not None:
            outcome.error = error
            return outcome
        tools.progress(f"{order.machine.name}: nothing came of the export that the run {intent.run_id} began: {error.message}")
        left = _give_up(tools, intent, order.machine)
        if left:
            outcome.error = error
            outcome.leftovers += left
            return outcome
        return None
    return outcome


def _found_again(intent: Intent, record: ExportRecord, order: Order, tools: Tools) -> Begun | None:
    found = exports.find(tools.writer, order.machine.reference, intent.host_time - exports.BEFORE)
    checkpoint, taken, level = order.checkpoint, intent.host_time, order.level
    if record.method == PRODUCTION_CHECKPOINT:
        checkpoint = export_checkpoint.find(tools.writer, order.machine.vm_id, intent.run_id)
        if checkpoint is None:
            return None
        level = consistency_of(checkpoint) or "crash"
    if checkpoint is not None and checkpoint.created is not None:
        taken = checkpoint.created.replace(microsecond=0)
    path = f"{order.folder}\\{naming.copy_folder(taken, intent.run_id)}"
    if not found and record.method in (PRODUCTION_CHECKPOINT, CHECKPOINT):
        return None  # a merged disk has no size that would prove anything
    return Begun(intent, path, taken, level, checkpoint, found[-1].reference if found else _GONE)


_GONE = Reference("root/virtualization/v2", "Msvm_ConcreteJob", {"InstanceID": "00000000-0000-0000-0000-000000000000"})
"""The job of an export that the host has forgotten."""


def _give_up(tools: Tools, intent: Intent, machine: Machine, *, keep: bool = False) -> list[Leftover]:
    """Take back what an export of ours made and that has no manifest, its intent last. What is still there.

    ``keep``: nobody can tell what still goes on, so everything stays and is told.
    """
    if keep:
        return [*(incomplete_copies.leftover(folder) for folder in intent.folders), shadow_lifecycle.intent_leftover(tools.folder, intent)]
    left: list[Leftover] = []
    try:
        checkpoint = export_checkpoint.find(tools.writer, machine.vm_id, intent.run_id)
        if checkpoint is not None:
            export_checkpoint.remove(export_checkpoint.steps(tools), machine, checkpoint)
        left += incomplete_copies.take_away(tools, intent)
    except HypervError as error:
        tools.progress(f"{machine.name}: {error.message}")
        left += error.leftovers or [incomplete_copies.leftover(folder) for folder in intent.folders]
    if left:
        return [*left, shadow_lifecycle.intent_leftover(tools.folder, intent)]
    return shadow_lifecycle.forget(tools, [intent])


def give_up(tools: Tools, intent: Intent, machine: Machine) -> list[Leftover]:
    """The same for one that a run left which died."""
    return _give_up(tools, intent, machine)
