# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying VMs: the steps of a plan, each verified, and a clean-up in every outcome (operations 5).

For each volume: intent, shadow copy, link, then each VM - copy, verification, manifest last - and always: unlink, delete exactly that
shadow copy, take the intent away. A copy that goes on without us keeps what it needs, and a later run takes it over. What cannot be
removed is reported as a leftover, never kept silent.
"""
from __future__ import annotations

import ntpath
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    copy_adoption,
    copy_work,
    incomplete_copies,
    shadow_lifecycle,
    vss_writers,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_record import CopyRecord
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_work import StillRunning, Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import RunLease
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import (
    Adoption,
    CopyPlan,
    Job,
    Refused,
    Request,
    consistency_result,
    manifest_result,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_writers import WriterCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import Verdict
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import Manifest
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state, system
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.shadow_copies import ShadowCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume

EVIDENCE: Mapping[str, str] = {
    "vss": "shadow copy made through WMI, no writers took part",
    "writers": "shadow copy set made by diskshadow",
    "live": "the live files were copied while the virtual machine may have written to them",
}


@dataclass
class Outcome:
    """What became of one VM. ``began``: its folder may be there; ``running``: its copy goes on without us."""

    machine: Machine
    verdict: Verdict | None
    error: HypervError | None = None
    manifest: Manifest | None = None
    record: CopyRecord | None = None
    shadow: ShadowCopy | None = None
    began: bool = False
    running: bool = False
    leftovers: list[Leftover] = field(default_factory=list)

    @property
    def incomplete(self) -> bool:
        """True when a folder without a manifest may be there."""
        return self.began and self.manifest is None

    def fail(self, error: HypervError) -> None:
        """Note why it failed, and what is left of it."""
        self.error = error
        self.running = isinstance(error, StillRunning)
        if self.incomplete and self.record is not None:
            self.leftovers.append(incomplete_copies.leftover(self.record.folder))


def execute(plan: CopyPlan, facts: HostFacts, request: Request, tools: Tools) -> list[Outcome]:
    """Carry out the plan; one VM's failure never stops the others. The state folder is trusted, and the run has its lease."""
    outcomes: list[Outcome] = []
    jobs = list(plan.jobs)
    for adoption in plan.adoptions:
        outcome = _take_over(adoption, facts, request, tools)
        if outcome is not None:
            outcomes.append(outcome)
        elif isinstance(adoption.fallback, Refused):
            outcomes.append(Outcome(adoption.machine, adoption.fallback.verdict, adoption.fallback.error))
        else:
            jobs.append(adoption.fallback)
    return [*outcomes, *_copy_all(tuple(jobs), facts, request, tools)]


def _copy_all(jobs: Sequence[Job], facts: HostFacts, request: Request, tools: Tools) -> list[Outcome]:
    if request.method == "live":
        return _copy_live(jobs, facts, request, tools) if jobs else []
    if request.method == "writers":
        return [_copy_with_writers(job, facts, request, tools) for job in jobs]
    outcomes: list[Outcome] = []
    for volume in {job.volume.device_id: job.volume for job in jobs}.values():
        mine = [job for job in jobs if job.volume.device_id == volume.device_id]
        outcomes.extend(_copy_from_volume(volume, mine, facts, request, tools))
    return outcomes


# -- out of a shadow copy ------------------------------------------------------------------------------------------------


def _copy_from_volume(volume: Volume, jobs: Sequence[Job], facts: HostFacts, request: Request, tools: Tools) -> list[Outcome]:
    outcomes = [Outcome(job.machine, job.verdict) for job in jobs]
    leftovers: list[Leftover] = []
    try:
        with _shadow_of(volume, jobs, outcomes, request, tools, leftovers) as shadow:
            changed = _changed_since(tools, facts, jobs)
            for outcome, job in zip(outcomes, jobs, strict=True):
                outcome.shadow = shadow
                if job.machine.vm_id in changed:
                    outcome.error = HypervError(
                        f"The disks of {job.machine.name!r} changed while the shadow copy was made.",
                        error_code="chain_changed", hint="A checkpoint or a backup ran at the same time; run the task again.")
                else:
                    outcome.record = _record(job, shadow, facts, request, tools)
                    _copy(outcome, outcome.record, tools)
    except HypervError as error:
        for outcome in outcomes:
            if outcome.error is None and outcome.manifest is None:
                outcome.error = error
    _tell_leftovers(outcomes, leftovers)
    return outcomes


@contextmanager
def _shadow_of(volume: Volume, jobs: Sequence[Job], outcomes: Sequence[Outcome], request: Request, tools: Tools,
               leftovers: list[Leftover]) -> Iterator[ShadowCopy]:
    """A linked shadow copy for the time of the block; afterwards it is gone, or in ``leftovers``."""
    shadow, intent = shadow_lifecycle.create(tools, request.run_id, volume, tools.busy_wait, keep=False,
                                             folders=sorted({job.folder for job in jobs}))
    try:
        yield shadow
    finally:
        _close(tools, intent, shadow, outcomes, leftovers)


def _close(tools: Tools, intent: Intent, shadow: ShadowCopy | None, outcomes: Sequence[Outcome], leftovers: list[Leftover]) -> None:
    """Remove what a run made for its copies, except for what one that goes on still needs, or the clean-up needs to find the rest."""
    if any(outcome.running for outcome in outcomes):
        if shadow is not None:
            leftovers += [shadow_lifecycle.shadow_leftover(shadow.shadow_id),
                          shadow_lifecycle.link_leftover(tools.folder, shadow.shadow_id)]
        leftovers.append(shadow_lifecycle.intent_leftover(tools.folder, intent))
        return
    left = [] if shadow is None else shadow_lifecycle.remove(tools, shadow.shadow_id, linked=True)
    leftovers += left
    if left:
        leftovers.append(shadow_lifecycle.intent_leftover(tools.folder, intent))
        return
    incomplete = [outcome for outcome in outcomes if outcome.incomplete]
    for outcome in incomplete:
        outcome.leftovers.append(shadow_lifecycle.intent_leftover(tools.folder, intent))
    if not incomplete:
        leftovers += shadow_lifecycle.forget(tools, [intent])


def _tell_leftovers(outcomes: Sequence[Outcome], leftovers: Sequence[Leftover]) -> None:
    for outcome in outcomes:
        outcome.leftovers.extend(leftovers)
        if leftovers and outcome.error is None:
            outcome.error = HypervError(
                f"The copy of {outcome.machine.name!r} is complete, but {leftovers[0].kind.replace('_', ' ')} {leftovers[0].id} "
                "could not be removed from the host.", error_code="cleanup_failed", hint=leftovers[0].remove_with)


def _changed_since(tools: Tools, facts: HostFacts, jobs: Sequence[Job]) -> set[str]:
    """VMs whose disks are other files now than when the plan was made."""
    now = disks.read_virtual_disks(tools.writer)
    changed = set()
    for job in jobs:
        vm_id = job.machine.vm_id
        before = {disk.path for disk in facts.disks_of(vm_id) if disk.kind == "virtual"}
        if before != {disk.path for disk in now if disk.owner_id == vm_id}:
            changed.add(vm_id)
    return changed


# -- of live files -------------------------------------------------------------------------------------------------------


def _copy_live(jobs: Sequence[Job], facts: HostFacts, request: Request, tools: Tools) -> list[Outcome]:
    """The last resort (operations 5.10): no shadow copy, so the intent only tells where copies may be left incomplete."""
    outcomes = [Outcome(job.machine, job.verdict) for job in jobs]
    leftovers: list[Leftover] = []
    intent = Intent(request.run_id, secrets.token_hex(4), system.read_time(tools.writer), state.NO_VOLUME, (),
                    tuple(sorted({job.folder for job in jobs})))
    try:
        state.write_intent(tools.writer, tools.folder, intent)
    except HypervError as error:
        error.leftovers = (*error.leftovers, *shadow_lifecycle.forget(tools, [intent]))
        for outcome in outcomes:
            outcome.error = error
        return outcomes
    try:
        for outcome, job in zip(outcomes, jobs, strict=True):
            outcome.record = _record(job, None, facts, request, tools)
            _copy(outcome, outcome.record, tools)
    finally:
        _close(tools, intent, None, outcomes, leftovers)
    _tell_leftovers(outcomes, leftovers)
    return outcomes


# -- one VM --------------------------------------------------------------------------------------------------------------


def _record(job: Job, shadow: ShadowCopy | None, facts: HostFacts, request: Request, tools: Tools) -> CopyRecord:
    taken = system.read_time(tools.writer) if shadow is None else shadow.created or facts.system.local_time
    verdict = job.verdict
    return CopyRecord(
        vm_id=job.machine.vm_id, vm_name=job.machine.name, host=facts.system.name, run_id=request.run_id, method=request.method,
        folder=f"{job.folder}\\{naming.copy_folder(taken, request.run_id)}",
        root="" if shadow is None else tools.folder.link_for(shadow.shadow_id), taken=taken,
        shadow_id=None if shadow is None else shadow.shadow_id, verify=request.verify, requested=request.consistency,
        achieved="inconsistent" if shadow is None else verdict.level or "inconsistent", evidence=EVIDENCE[request.method],
        not_captured=tuple(reason.sentence for reason in verdict.of_kind("not_captured")),
        unknowns=tuple(reason.sentence for reason in verdict.of_kind("unknown")), files=job.files)


def _copy(outcome: Outcome, record: CopyRecord, tools: Tools) -> None:
    try:
        if tools.deadline.expired():
            raise _too_late()
        tools.lease.keep()
        outcome.began = True
        end = copy_work.run(tools, record)
        outcome.began = end.result is not None and "make" in end.result.steps  # else a link was in the way
        outcome.manifest, left = copy_work.conclude(tools, record, end)
        outcome.leftovers.extend(left)
    except HypervError as error:
        if error.error_code == "destination_full" and outcome.incomplete:
            _make_room(outcome, record, tools)
        outcome.fail(error)


def _make_room(outcome: Outcome, record: CopyRecord, tools: Tools) -> None:
    """Take the half copy away at once, not by a later clean-up: until then nothing else would fit, whoever else copies there."""
    intent = Intent(record.run_id, "", record.taken, state.NO_VOLUME, (), (ntpath.dirname(record.folder),))
    try:
        left = incomplete_copies.take_away(tools, intent)
    except HypervError as error:  # it is told as left over, and the intent stays
        tools.progress(f"{record.vm_name}: {error.message}")
        return
    outcome.began = any(item.kind == "incomplete_copy" for item in left)
    outcome.leftovers.extend(item for item in left if item.kind != "incomplete_copy")


def _copy_with_writers(job: Job, facts: HostFacts, request: Request, tools: Tools) -> Outcome:
    outcome = Outcome(job.machine, job.verdict)
    try:
        if tools.deadline.expired():
            raise _too_late()
        tools.lease.keep()
        _take(outcome, vss_writers.copy_machine(tools, facts, job, request))
    except HypervError as error:  # it names what is left of the copy
        outcome.error = error
    return outcome


def _take(outcome: Outcome, copy: WriterCopy) -> None:
    outcome.record, outcome.manifest = copy.record, copy.manifest
    _tell_leftovers([outcome], copy.leftovers)


def _too_late() -> HypervError:
    return HypervError("The time for this task was over before the copy was begun.", error_code="timeout", hint="Raise timeout.")


def _take_over(adoption: Adoption, facts: HostFacts, request: Request, tools: Tools) -> Outcome | None:
    """Bring a copy of an earlier run to its end; None when nothing came of it, so that the VM is copied anew.

    Meanwhile that run's lease is ours, so that no clean-up and no other run touches what belongs to it.
    """
    run_id = adoption.record.run_id
    if run_id.lower() == request.run_id.lower():
        return _adopt(adoption, facts, request, tools)
    lease = RunLease(tools.writer, tools.clock, tools.folder, run_id, holder=request.run_id)
    try:
        with lease:
            outcome = _adopt(adoption, facts, request, tools)
    except HypervError as error:
        return Outcome(adoption.machine, adoption.fallback.verdict, error)
    if outcome is not None:
        outcome.leftovers.extend(lease.leftovers)
    return outcome


def _adopt(adoption: Adoption, facts: HostFacts, request: Request, tools: Tools) -> Outcome | None:
    if adoption.record.method == "writers":
        return _adopt_with_writers(adoption, facts, request, tools)
    record = adoption.record
    verdict = adoption.fallback.verdict
    outcome = Outcome(adoption.machine, verdict, record=record, began=True)
    leftovers: list[Leftover] = []
    try:
        end = copy_work.adopt(tools, record)
        if end is not None:
            outcome.manifest, left = copy_work.conclude(tools, record, end)
            outcome.leftovers.extend(left)
    except StillRunning as error:
        outcome.fail(error)
        return outcome
    except HypervError as error:
        tools.progress(f"{record.vm_name}: nothing came of the copy that the run {record.run_id} began: {error.message}")
        leftovers += error.leftovers
    try:
        leftovers += copy_adoption.release(tools, record, complete=outcome.manifest is not None)
    except HypervError as error:
        leftovers += [*error.leftovers, shadow_lifecycle.shadow_leftover(record.shadow_id or "unknown")]
    if outcome.manifest is None:
        return None
    _tell_leftovers([outcome], leftovers)
    return outcome


def _adopt_with_writers(adoption: Adoption, facts: HostFacts, request: Request, tools: Tools) -> Outcome | None:
    record = adoption.record
    outcome = Outcome(adoption.machine, adoption.fallback.verdict)
    try:
        copy = vss_writers.adopt(tools, facts, record, request.lowest)
    except StillRunning as error:
        outcome.error = error
        return outcome
    except HypervError as error:
        tools.progress(f"{record.vm_name}: nothing came of the copy that the run {record.run_id} began: {error.message}")
        return None
    if copy is None:
        return None
    _take(outcome, copy)
    return outcome


# -- results -------------------------------------------------------------------------------------------------------------


def outcome_entry(outcome: Outcome, request: Request) -> dict[str, Any]:
    """One entry of ``results``."""
    manifest, record = outcome.manifest, outcome.record
    entry: dict[str, Any] = {
        "vm": vm_label(outcome.machine.vm_id, outcome.machine.name), "changed": manifest is not None, "failed": outcome.error is not None,
        "consistency": consistency_result(request, manifest.achieved if manifest else None, outcome.verdict,
                                          manifest.evidence if manifest else "no copy was completed"),
        "leftovers": [leftover.as_result() for leftover in dict.fromkeys(outcome.leftovers)],
    }
    if outcome.shadow is not None:
        entry["shadow_copy"] = outcome.shadow.as_result()
    if manifest is not None and record is not None:
        entry["manifest"] = manifest_result(record.folder, manifest)
        entry["consistency"].update({"not_captured": list(manifest.not_captured), "unknowns": list(manifest.unknowns)})
        entry["adopted"] = record.run_id != request.run_id
    if outcome.error is not None:
        entry.update(error_entry(outcome.error))
        entry["leftovers"] = [leftover.as_result() for leftover in dict.fromkeys((*outcome.leftovers, *outcome.error.leftovers))]
    return entry


def error_entry(error: HypervError) -> Mapping[str, Any]:
    """What an entry says of an error."""
    return {"msg": error.message, **error.as_result()}


def vm_label(vm_id: str | None, name: str) -> dict[str, str | None]:
    """The ``vm`` of an entry."""
    return {"vm_id": vm_id, "name": name}
