# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One task of ``hyperv_vss_copy``: facts, plan, and the result for one VM or several."""
from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import machines
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    copy_adoption,
    copy_claims,
    destinations,
    inventory,
    run_as,
    run_lease,
    run_slots,
    selection,
    shadow_lifecycle,
    stored_copies,
    vss_copy,
    vss_plan,
    vss_prune,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_adoption import AtWork, Wish
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_record import CopyRecord
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_work import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.destinations import Destination
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import RunLease
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_slots import Slots
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.stored_copies import Found
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_copy import error_entry, vm_label
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import (
    Adoption,
    CopyPlan,
    Job,
    Present,
    Refused,
    Request,
    consistency_result,
    manifest_result,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_prune import Pruning
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import LIVE_COPY
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import FoundCopy, parse_age
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import VSS_COPY
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import shadow_copies, state
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent, StateFolder

_FIRST = ("state", "volumes")
_BEFORE_COPYING = ("disks", "cluster")
"""What is read only when there is anything to copy. Guests are asked about only when they take part, with writers."""


@dataclass(frozen=True)
class Prepared:
    """Everything that was read and decided before anything is written."""

    facts: HostFacts
    request: Request
    plan: CopyPlan
    single: bool
    found: Found
    destination: Destination
    folder: StateFolder
    knocks_as: str
    ensured: bool
    """The state folder was made and checked already, since the destination was read by a task."""


@dataclass(frozen=True)
class Round:
    """What came of the machines that no other run at work is going to copy. ``awaited``: the others by GUID, with the run of each."""

    result: dict[str, Any]
    folder: StateFolder
    awaited: Mapping[str, str]


def run(call: Call) -> dict[str, Any]:
    """The result of the task; ``failed`` is set when any VM failed. What another run is copying is waited for, and then looked at again:
    its copy may be what this task asks for, or it died and left one to be taken over.
    """
    deadline, run_id = Deadline(call.clock, call.params["timeout"]), secrets.token_hex(6)
    done = _round(call, run_id, call.params["timeout"])
    result = done.result
    while done.awaited and not call.check_mode:
        try:
            if not copy_claims.wait(call, done.folder, done.awaited.values(), deadline):
                break
            later = _round(call, run_id, deadline.remaining(), frozenset(done.awaited))
        except HypervError as error:
            if "results" not in result:
                raise
            return _merged(result, _ended_by(error, result, done.awaited))  # what was achieved before is told
        done, result = later, _merged(result, later.result)
    if "results" not in result and result.get("failed") and "msg" not in result:
        result["msg"] = "The virtual machine was not copied."
    return result


def _round(call: Call, run_id: str, seconds: float, only: frozenset[str] | None = None) -> Round:
    """One look at the host, and what can be done now. ``only``: the machines that are left."""
    prepared = prepare(call, run_id, only)

    def apply(writer: CimWriter) -> dict[str, Any]:
        nonlocal prepared
        deadline, claim = Deadline(call.clock, seconds), _claim(call, prepared)
        if not prepared.ensured:
            state.ensure(writer, prepared.folder)
        with RunLease(writer, call.clock, prepared.folder, prepared.request.run_id, duration=_duration(call, prepared),
                      host_time=lambda: prepared.facts.system.time_now(call.clock),
                      announce=None if claim is None else state.text_of(prepared.folder, claim)) as lease:
            if claim is not None:
                lease.retract(shadow_lifecycle.intent_leftover(prepared.folder, claim))
            with _slots(call, prepared, writer, lease) as slots:
                if slots.waited:  # others have worked meanwhile
                    prepared = prepare(call, prepared.request.run_id, only)
                prepared = _yielding(call, prepared, claim)
                result = _apply(call, prepared, Tools(
                    writer, call.clock, call.progress, prepared.folder, deadline, float(call.params["vss_wait"]),
                    prepared.request.identity, prepared.knocks_as, prepared.destination, slots))
        (result if prepared.single else result["results"][0])["leftovers"] += [
            leftover.as_result() for leftover in lease.told(call.warn)]
        return {**result, "diff": _plan(prepared).diff()} if slots.waited else result

    result = call.conclude(_plan(prepared), apply)
    return Round(result, prepared.folder, {item.machine.vm_id: item.error.run_id for item in prepared.plan.refused
                                           if item.machine is not None and isinstance(item.error, AtWork)})


def _claim(call: Call, prepared: Prepared) -> Intent | None:
    """What tells other runs which machines they need not copy; None in the session."""
    if prepared.request.identity.task is None:
        return None
    return copy_claims.claim_of(prepared.plan, prepared.request.run_id, prepared.facts.system.time_now(call.clock))


def _yielding(call: Call, prepared: Prepared, claim: Intent | None) -> Prepared:
    """The same without the machines that another run has claimed before."""
    claimed = copy_claims.read_of_others(call.reader, prepared.folder, prepared.request.run_id, claim,
                                         prepared.facts.system.time_now(call.clock))
    return replace(prepared, plan=copy_claims.without_those(prepared.plan, claimed))


def _merged(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """What a task that waited came to: of the machines that it waited for, what was found and done then."""
    changed = {"changed": first["changed"] or later["changed"], "diff": [*_diffs(first), *_diffs(later)]}
    if "results" not in first:
        return {**later, **changed}
    told = {entry["vm"]["vm_id"]: entry for entry in later["results"]}
    return {"run_id": first["run_id"], **changed, **_of_several([told.get(entry["vm"]["vm_id"], entry) for entry in first["results"]])}


def _ended_by(error: HypervError, result: Mapping[str, Any], awaited: Mapping[str, str]) -> dict[str, Any]:
    """The same when the host could not be asked again."""
    return {"changed": False, "diff": [], "results": [
        {**entry, **error_entry(error)} for entry in result["results"] if entry["vm"]["vm_id"] in awaited]}


def _diffs(result: Mapping[str, Any]) -> list[Any]:
    diff = result["diff"]
    return diff if isinstance(diff, list) else [diff]


def _slots(call: Call, prepared: Prepared, writer: CimWriter, lease: RunLease) -> Slots:
    """The right to work beside no more runs than the limits of the task allow."""
    plan, facts = prepared.plan, prepared.facts
    taken_over = [facts.place(file.path).volume for item in plan.adoptions for file in item.record.files]
    volumes = [*(volume for job in plan.jobs for volume in job.volumes), *(volume for volume in taken_over if volume is not None)]
    return run_slots.for_task(call, writer, prepared.folder, prepared.destination, prepared.request.identity, host=facts.system.name,
                              run_id=prepared.request.run_id, volumes=volumes, lease=lease, duration=_duration(call, prepared))


def _duration(call: Call, prepared: Prepared) -> timedelta:
    """How long the lease must last by itself: a program in the session keeps us from renewing it until it ends."""
    if prepared.request.identity.task is not None:
        return run_lease.DURATION
    return run_lease.DURATION + timedelta(seconds=float(call.params["timeout"]))


def _apply(call: Call, prepared: Prepared, tools: Tools) -> dict[str, Any]:
    plan, request = prepared.plan, prepared.request
    outcomes = vss_copy.execute(plan, prepared.facts, request, tools)
    work = []
    for outcome in outcomes:
        entry, machine = vss_copy.outcome_entry(outcome, request), outcome.machine
        made = outcome.error is None and outcome.manifest is not None and outcome.record is not None
        copy = FoundCopy(outcome.record.folder, outcome.manifest) if made and outcome.record and outcome.manifest else None
        work.append((None if copy is None else _pruning(prepared, machine, copy), entry))
    work += [(_pruning(prepared, item.machine, item.copy), _present(item, request)) for item in plan.present]
    vss_prune.prune_all([(pruning, entry) for pruning, entry in work if pruning is not None], tools, request.run_id, call.warn)
    return _result([entry for _unused, entry in work], prepared)


def _pruning(prepared: Prepared, machine: Machine, current: FoundCopy) -> Pruning:
    """What goes beside the copy that this run made or found."""
    system = prepared.facts.system
    return vss_prune.decide(prepared.found, machine, current, prepared.request, host=system.name,
                            now=max(system.local_time, current.manifest.completed))


def prepare(call: Call, run_id: str, only: frozenset[str] | None) -> Prepared:
    """Read the host and decide; ``run_id`` is that of a task that names none. Raises HypervError for what concerns the whole task
    (destination, options, the one VM)."""
    params = call.params
    try:
        max_age = parse_age(params["max_age"]) if params["max_age"] else None
    except ValueError as error:
        raise HypervError(f"max_age: {error}", error_code="invalid_max_age") from error
    identity = run_as.read(params)
    at_share = destinations.is_share(params["destination"])
    facts = inventory.read_host(call.reader, call.clock, ("state",) if at_share else _FIRST)  # volumes are read later there
    selection.warn_about_host(call, facts)
    destination = destinations.check(facts, params["destination"], identity)
    request = vss_plan.check_request(params, destination.path, identity, run_id, max_age)
    single = bool(params["name"] or params["vm_id"])
    chosen, refused = _choose(facts, params, single)
    if only is not None:
        chosen, refused = tuple(machine for machine in chosen if machine.vm_id in only), ()
    folder = state.state_folder(facts.system.system_drive)
    knocks_as = identity.at_share(facts.system.name) if destination.is_share else "SYSTEM"
    found, destination, ensured = _existing(call, facts, request, destination, folder)
    due = [machine.vm_id for machine in chosen if vss_plan.present_of(facts, machine, request, found.copies) is None]
    if due:
        parts = (*_BEFORE_COPYING, inventory.QUIESCING) if request.method == "writers" else _BEFORE_COPYING
        facts = inventory.read_chains(call.reader, inventory.read_more(call.reader, facts, parts), due)
        selection.warn_about_cluster(call, facts)
    plan = vss_plan.make_plan(facts, chosen, refused, request, destination, found.copies, folder,
                              _adopting(call, facts, request, folder, due))
    _warn_about_volumes(call.reader, call, plan)
    prepared = Prepared(facts, request, plan, single, found, destination, folder, knocks_as, ensured)
    for pruning in _prunings(prepared):
        vss_prune.warn_about_others(pruning, call.warn)
    return prepared


def _adopting(call: Call, facts: HostFacts, request: Request, folder: StateFolder, due: Sequence[str]) -> vss_plan.Adopt:
    """How the plan learns of copies that earlier runs began."""
    now = facts.system.local_time
    underway = copy_adoption.find(call.reader, folder, due, now, call.warn) if due else {}

    def fresh(record: CopyRecord) -> bool:
        return record.run_id == request.run_id or request.max_age is None or now - record.taken < request.max_age

    def adopt(machine: Machine, copies: str) -> CopyRecord | None:
        wish = Wish(request.run_id, copies, request.method, request.verify, fresh)
        return copy_adoption.choose(machine.name, underway.get(machine.vm_id, ()), wish)

    return adopt


def _choose(facts: HostFacts, params: Any, single: bool) -> tuple[tuple[Machine, ...], tuple[Refused, ...]]:
    """The VMs to copy. In a list a name that means none or several is one entry's failure, not the task's."""
    if single:
        return (machines.select(facts.machines, name=params["name"], vm_id=params["vm_id"]),), ()
    if selection.means_all(params["names"]):
        return facts.machines, ()
    chosen: dict[str, Machine] = {}
    refused = []
    for wanted in params["names"]:
        hits = selection.matching(facts.machines, wanted)
        if len(hits) == 1:
            chosen[hits[0].vm_id] = hits[0]
            continue
        try:
            machines.select(facts.machines, name=wanted, vm_id=None)
        except HypervError as error:
            refused.append(Refused(wanted, None, error))
    return tuple(chosen.values()), tuple(refused)


def _existing(call: Call, facts: HostFacts, request: Request, destination: Destination,
              folder: StateFolder) -> tuple[Found, Destination, bool]:
    """Copies that are there already, asked for only when they can matter; the destination with what it told of its space; and whether
    the state folder was ensured for that."""
    if not request.reads_copies and not destination.is_share:
        return Found(), destination, False
    reading = stored_copies.read(call, destination, folder, request.identity, run_id=request.run_id, host=facts.system.name)
    if reading is None:
        call.warn(f"Check mode does not look at {destination.path}: that needs a task on the host. What is there already is not known.")
        return Found(), destination, False
    found = reading.found.of_kind(VSS_COPY)
    stored_copies.warn_about(found, call.warn)
    return found, reading.destination, reading.ensured


def _warn_about_volumes(reader: CimReader, call: Call, plan: CopyPlan) -> None:
    if not plan.jobs or plan.jobs[0].verdict.method == LIVE_COPY:
        return
    for warning in vss_plan.volume_risks(plan.volumes(), shadow_copies.read_storage(reader), shadow_copies.read_shadow_copies(reader)):
        call.warn(warning)


def _prunings(prepared: Prepared) -> tuple[Pruning, ...]:
    """What will go, when every copy of the plan succeeds; in the order of the plan: jobs, adoptions, then present ones."""
    system, plan, request = prepared.facts.system, prepared.plan, prepared.request
    ahead = [vss_prune.decide(prepared.found, job.machine, None, request, host=system.name, now=system.local_time,
                              new=f"{job.folder}\\{naming.copy_folder(system.local_time, request.run_id)}") for job in plan.jobs]
    adopted = [vss_prune.decide(prepared.found, item.machine, None, request, host=system.name, now=system.local_time,
                                new=item.record.folder) for item in plan.adoptions]
    return (*ahead, *adopted, *(_pruning(prepared, item.machine, item.copy) for item in plan.present))


def _plan(prepared: Prepared) -> Plan:
    """The steps, the diff and what check mode returns."""
    plan, request = prepared.plan, prepared.request
    steps = [Step("adopt_copy", item.machine.name, {"vm_id": item.machine.vm_id, "to": item.record.folder, "run_id": item.record.run_id})
             for item in plan.adoptions]
    steps += _copy_steps(plan, request)
    prunings = _prunings(prepared)
    steps.extend(Step("prune", copy.folder, {"vm_id": pruning.machine.vm_id, "size": copy.manifest.size})
                 for pruning in prunings for copy in pruning.going)
    before: dict[str, Any] = {"copies": {present.machine.vm_id: present.copy.folder for present in plan.present}}
    after: dict[str, Any] = {"copies": {**before["copies"], **{
        item.machine.vm_id: item.record.folder for item in plan.adoptions}, **{
        job.machine.vm_id: f"{job.folder}\\<time>_{request.run_id}" for job in plan.jobs}}}
    if not request.keep.empty:
        diffs = {pruning.machine.vm_id: pruning.diff() for pruning in prunings}
        before["retention"] = {vm_id: diff["before"] for vm_id, diff in diffs.items()}
        after["retention"] = {vm_id: diff["after"] for vm_id, diff in diffs.items()}
    entries = [*(_predicted(job, request) for job in plan.jobs), *(_predicted_adoption(item, request) for item in plan.adoptions),
               *(_present(item, request) for item in plan.present)]
    for pruning, entry in zip(prunings, entries, strict=True):
        vss_prune.predict(pruning, entry)
    return Plan(tuple(steps), before, after, _result(entries, prepared))


def _copy_steps(plan: CopyPlan, request: Request) -> list[Step]:
    def copy(job: Job) -> Step:
        return Step("copy", job.machine.name, {"vm_id": job.machine.vm_id, "to": job.folder, "files": len(job.files), "size": job.size})

    if request.method == "live":
        return [copy(job) for job in plan.jobs]
    if request.method == "writers":
        return [step for job in plan.jobs for step in (
            Step("create_shadow_copy_set", job.machine.name, {"volumes": [volume.root for volume in job.volumes]}), copy(job),
            Step("delete_shadow_copy_set", job.machine.name))]
    steps = []
    for volume in plan.volumes():
        jobs = plan.jobs_on(volume)
        steps += [Step("create_shadow_copy", volume.root, {"virtual_machines": len(jobs)}), *(copy(job) for job in jobs),
                  Step("delete_shadow_copy", volume.root)]
    return steps


def _predicted(job: Job, request: Request) -> dict[str, Any]:
    return {"vm": vm_label(job.machine.vm_id, job.machine.name), "changed": True, "failed": False, "leftovers": [],
            "consistency": consistency_result(request, "inconsistent" if request.method == "live" else job.verdict.level, job.verdict,
                                              vss_copy.EVIDENCE[request.method]),
            "manifest": vss_plan.predicted_manifest(job, request)}


def _predicted_adoption(item: Adoption, request: Request) -> dict[str, Any]:
    record = item.record
    return {"vm": vm_label(item.machine.vm_id, item.machine.name), "changed": True, "failed": False, "leftovers": [], "adopted": True,
            "consistency": {"requested": request.consistency, "achieved": record.achieved, "evidence": record.evidence,
                            "not_captured": list(record.not_captured), "unknowns": list(record.unknowns)},
            "manifest": {"folder": record.folder, "run_id": record.run_id, "size": record.size, "files": len(record.files)}}


def _present(present: Present, request: Request) -> dict[str, Any]:
    manifest = present.copy.manifest
    return {"vm": vm_label(present.machine.vm_id, present.machine.name), "changed": False, "failed": False, "leftovers": [],
            "consistency": {"requested": request.consistency, "achieved": manifest.achieved, "evidence": manifest.evidence,
                            "not_captured": list(manifest.not_captured), "unknowns": list(manifest.unknowns)},
            "manifest": manifest_result(present.copy.folder, manifest)}


def _refused(refused: Refused, request: Request) -> dict[str, Any]:
    machine = refused.machine
    return {"vm": vm_label(machine.vm_id if machine else None, machine.name if machine else refused.wanted), "changed": False,
            "failed": True, "leftovers": [], **error_entry(refused.error),
            "consistency": consistency_result(request, None, refused.verdict, "no copy was begun")}


def _result(done: Sequence[dict[str, Any]], prepared: Prepared) -> dict[str, Any]:
    """The result of all VMs: entries of what was done and found, then of what was refused; for ``name`` and ``vm_id`` the one
    entry, laid open."""
    plan, request = prepared.plan, prepared.request
    entries = [*done, *(_refused(item, request) for item in plan.refused)]
    result: dict[str, Any] = {"run_id": request.run_id, "changed": any(entry["changed"] for entry in entries)}
    if not prepared.single:
        return {**result, **_of_several(entries)}
    result.update({**entries[0], "changed": result["changed"]})
    if not entries[0]["failed"]:
        del result["failed"]
    return result


def _of_several(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """``results``, and what a task says that failed for some of them."""
    failed = [entry for entry in entries if entry["failed"]]
    if not failed:
        return {"results": entries}
    names = ", ".join(f"{entry['vm']['name']!r} ({entry['error_code']})" for entry in failed[:5])
    return {"results": entries, "failed": True, "error_code": "some_failed",
            "msg": f"{len(failed)} of {len(entries)} virtual machines failed: {names}{', ...' if len(failed) > 5 else ''}."}
