# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One VM's export from the intent to the end: checkpoint, folder, job, proof, manifest, and everything of ours away again.

Whatever happens in between: a checkpoint that was made for it goes as soon as the job has ended, what has no manifest is removed or told,
and the intent goes last. Only when the job goes on without us, or nobody can tell, everything stays, so that a later run takes it over.
"""
from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import (
    ConnectionFailed,
    HypervError,
    Leftover,
    NotFound,
    OutcomeUnknown,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import exports, jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import Job
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_steps,
    export_checkpoint,
    export_folder,
    export_job,
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
    PRODUCTION_CHECKPOINT,
    ExportRequest,
    Order,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.export_record import ExportRecord, record_of
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.export_verify import Looking
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming, restore_guide
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import ExcludedDisk, Export, Manifest, Place
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state, target_jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.job_runs import NotFollowed
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import LeaseLost
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent

_NOT_OURS_TO_END = (StillRunning, OutcomeUnknown, ConnectionFailed, LeaseLost, NotFollowed)
"""Nobody can tell what still goes on, or somebody else has the lease: nothing may be touched, and a later run goes on with it."""


@dataclass
class Outcome:
    """What became of one VM. ``running``: it goes on without us; ``job``: the export, as it was last seen; ``merged``: None when there was
    nothing to merge, or nobody waited."""

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
        order, left = order.instead, outcome.leftovers
        outcome = _execute(order, facts, request, tools)
        outcome.leftovers += left
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
    except HypervError as error:
        if isinstance(error, _NOT_OURS_TO_END) or outcome.manifest is not None:
            _fail(outcome, error, intent, tools)
        else:
            outcome.error = error if _is_here(tools, order.machine) else _moved(order.machine, error)
            outcome.leftovers += give_up(tools, intent, order.machine)
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
    job = export_job.start(order, facts.system.name, tools, intent, path, checkpoint)
    return Begun(intent, path, taken, level, checkpoint, job)


# -- prove and close -----------------------------------------------------------------------------------------------------


def _bring_home(begun: Begun, order: Order, facts: HostFacts, request: ExportRequest, tools: Tools, outcome: Outcome,
                standing: Standing | None = None) -> None:
    """Follow, take the checkpoint away, prove, write the manifest, forget the intent, wait for the merge."""
    ended_well = begun.job is None or _ended_well(begun, begun.job, order, tools, outcome)
    merge, stuck = _without_checkpoint(begun, order, tools)
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
    if stuck is not None:
        stuck.message = f"The export is complete, but the checkpoint that was made for it is still there. {stuck.message}"
        stuck.leftovers = (*stuck.leftovers, shadow_lifecycle.intent_leftover(tools.folder, begun.intent))
        raise stuck
    if standing is not None:
        standing.retract()
    else:
        outcome.leftovers += shadow_lifecycle.forget(tools, [begun.intent])
    if merge is not None and request.wait_for_merge:
        outcome.merged = False
        export_checkpoint.wait_for_merge(tools, order.machine, merge, request.merge_timeout)
        outcome.merged = True


def _ended_well(begun: Begun, job: Reference, order: Order, tools: Tools, outcome: Outcome) -> bool:
    """Wait for the job. False when nobody saw its end, and the host does nothing with the machine any more."""

    def seen(found: Job) -> None:
        outcome.job = found

    if export_job.follow(tools, order, begun.intent, job, seen):
        return True
    if not checkpoint_steps.idle(export_checkpoint.steps(tools), order.machine):
        raise OutcomeUnknown(f"The job of the export of {order.machine.name!r} is gone, and the host still works on the machine.",
                             hint="Run the task again when it is idle.")
    return False


def _without_checkpoint(begun: Begun, order: Order, tools: Tools) -> tuple[Merge | None, HypervError | None]:
    """Take away the checkpoint that was made for the export: the merge to wait for, or why it is still there. What was exported is as good
    with it as without."""
    if order.method != PRODUCTION_CHECKPOINT or begun.checkpoint is None:
        return None, None
    try:
        return export_checkpoint.remove(export_checkpoint.steps(tools), order.machine, begun.checkpoint), None
    except HypervError as error:
        if isinstance(error, _NOT_OURS_TO_END):
            raise
        return None, error


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
    """Bring the export of an earlier run to its end; None when nothing of use came of it, and all of it was taken away.

    ``order`` has the way that run took, which may be what it took instead of the first one.
    """
    outcome = Outcome(order, adopted=True)
    tools.progress(f"{order.machine.name}: taking over the export that the run {intent.run_id} began")
    try:
        begun = _found_again(intent, record, order, tools)
        if begun is None or not request.accepts(begun.level):
            why = "its checkpoint, or its job, is not there any more" if begun is None else f"it reached {begun.level} only"
            raise HypervError(f"The export that the run {intent.run_id} began is of no use: {why}.", error_code="export_not_adopted",
                              hint="Run the task again once what leftovers names is gone.")
        if not request.wait and begun.job is not None:
            job = jobs.read_job(tools.writer, begun.job)
            if job is not None and not job.finished:
                outcome.running, outcome.job, outcome.folder = True, job, begun.path
                return outcome
        _bring_home(begun, order, facts, replace(request, verify=record.verify), tools, outcome)
    except HypervError as error:
        if isinstance(error, _NOT_OURS_TO_END) or outcome.manifest is not None:
            _fail(outcome, error, intent, tools)
            return outcome
        tools.progress(f"{order.machine.name}: taking back the export that the run {intent.run_id} began. {error.message}")
        left = give_up(tools, intent, order.machine)
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


def give_up(tools: Tools, intent: Intent, machine: Machine) -> list[Leftover]:
    """Take back what an export of ours made and that has no manifest, its intent last. What is still there."""
    left: list[Leftover] = []
    record = record_of(intent)
    try:
        checkpoint = export_checkpoint.find(tools.writer, machine.vm_id, intent.run_id)
        if checkpoint is not None:
            export_checkpoint.remove(export_checkpoint.steps(tools), machine, checkpoint)
        elif record is not None and record.method == PRODUCTION_CHECKPOINT and not _is_here(tools, machine):
            left.append(export_checkpoint.unseen(machine, intent.run_id))  # it went with the machine
    except HypervError as error:
        tools.progress(f"{machine.name}: {error.message}")
        left += error.leftovers or [export_checkpoint.unseen(machine, intent.run_id)]
    try:
        left += incomplete_copies.take_away(tools, intent)
    except HypervError as error:
        tools.progress(f"{machine.name}: {error.message}")
        left += error.leftovers or _unseen(intent)
    if left:
        return [*left, shadow_lifecycle.intent_leftover(tools.folder, intent)]
    return shadow_lifecycle.forget(tools, [intent])


def _is_here(tools: Tools, machine: Machine) -> bool:
    """False for a machine that left the host; one request."""
    try:
        tools.writer.get(machine.reference)
    except NotFound:
        return False
    except HypervError:
        return True  # nobody can tell, and what failed before says more
    return True


def _moved(machine: Machine, error: HypervError) -> HypervError:
    """A failure whose reason is that the machine is on this host no more (operations F-22)."""
    return HypervError(f"{machine.name!r} left this host while it was exported. {error.message}", error_code="vm_moved",
                       hint="It moved to another node of its cluster, or was removed. Run the task on the host that has it.",
                       return_value=error.return_value, hresult=error.hresult, leftovers=error.leftovers, details=error.details)


def _unseen(intent: Intent) -> list[Leftover]:
    """Where it may have left something, while nobody can look."""
    return [incomplete_copies.unseen(folder, intent.run_id) for folder in intent.folders]


def _fail(outcome: Outcome, error: HypervError, intent: Intent, tools: Tools) -> None:
    """Note why it failed, and what of it may be there; nothing is touched."""
    outcome.error = error
    outcome.running = isinstance(error, StillRunning)
    if outcome.manifest is None and not outcome.running:
        outcome.leftovers += [*_unseen(intent), shadow_lifecycle.intent_leftover(tools.folder, intent)]
