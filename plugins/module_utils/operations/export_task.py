# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One task of ``hyperv_export``: facts, plan, and the result for one VM or several."""
from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_choice,
    checkpoint_files,
    checkpoint_intents,
    checkpoint_repair,
    destinations,
    export_checkpoint,
    export_facts,
    export_plan,
    export_run,
    inventory,
    run_as,
    run_slots,
    selection,
    shadow_lifecycle,
    stored_copies,
    vss_plan,
    vss_prune,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_choice import Choice
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import CheckpointFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_repair import Repair
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_work import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.destinations import Destination
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.export_plan import ExportRequest, Ground, Order
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.export_record import ExportRecord, record_of
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.export_run import Outcome, Standing
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import Keeper, RunLease
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_slots import Slots
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.stored_copies import Found
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_copy import error_entry
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import manifest_result
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_prune import Pruning
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import FoundCopy, parse_age, present_copy
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import EXPORT
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import leases, state, state_contents
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent, StateFolder

_BEFORE = ("state", "volumes")
Entry = dict[str, Any]
Done = TypeVar("Done")


@dataclass(frozen=True)
class Earlier:
    """What a run that died, or gave up waiting, has begun for a VM."""

    intent: Intent
    record: ExportRecord


@dataclass(frozen=True)
class Due:
    """A VM that has to be exported: the order, or why it cannot be, and what earlier runs began. ``adopted``: what is taken over."""

    machine: Machine
    order: Order | None
    error: HypervError | None
    adopted: Earlier | None = None
    stale: tuple[Earlier, ...] = ()

    @property
    def way(self) -> Order | None:
        """What will be exported, as far as anybody can tell: what is taken over went its own way."""
        return self.order if self.order is None or self.adopted is None else self.order.by(self.adopted.record.method)


@dataclass(frozen=True)
class Prepared:
    """Everything that was read and decided before anything is written."""

    facts: CheckpointFacts
    request: ExportRequest
    choice: Choice
    present: tuple[tuple[Machine, FoundCopy], ...]
    due: tuple[Due, ...]
    found: Found
    destination: Destination
    ensured: bool
    repair: Repair

    @property
    def host(self) -> HostFacts:
        """What was read of the host."""
        return self.facts.host


def run(call: Call) -> dict[str, Any]:
    """The result of the task; ``failed`` is set when any VM failed."""
    prepared = prepare(call)

    def apply(writer: CimWriter) -> dict[str, Any]:
        deadline = Deadline(call.clock, call.params["timeout"])
        folder, intent = prepared.facts.folder, _first_intent(call, prepared)
        if not prepared.ensured:
            state.ensure(writer, folder)
        with RunLease(writer, call.clock, folder, prepared.request.run_id, host_time=lambda: prepared.host.system.time_now(call.clock),
                      announce=None if intent is None else state.text_of(folder, intent)) as lease:
            standing = None if intent is None else Standing(
                intent, partial(lease.retract, shadow_lifecycle.intent_leftover(folder, intent)))
            try:
                with _slots(call, prepared, writer, lease) as slots:
                    now = prepare(call, prepared.request.run_id) if slots.waited else prepared  # others have worked meanwhile
                    entries = _apply(call, now, _tools(call, now, writer, deadline, slots), standing)
            finally:
                if standing is not None and not standing.used:
                    standing.retract()
        for leftover in lease.told(call.warn):
            for entry in entries[:1]:
                entry["leftovers"].append(leftover.as_result())
        return _result(entries, now) | ({"diff": _plan(now).diff()} if slots.waited else {})

    result = call.conclude(_plan(prepared), apply)
    if prepared.choice.single and result.get("failed") and "msg" not in result:
        result["msg"] = "The virtual machine was not exported."
    return result


def _first_intent(call: Call, prepared: Prepared) -> Intent | None:
    """The intent that is announced with the lease, and goes with it: that of the only export. None where it would stand without need:
    beside exports of others, before the wait for a slot, and where what an earlier run began comes first."""
    due = [one for one in prepared.due if one.order is not None]
    waits = run_slots.may_wait(call.params, prepared.destination)
    if len(due) != 1 or due[0].order is None or due[0].adopted is not None or due[0].stale or waits:
        return None
    return export_run.intent_of(due[0].order, prepared.host, prepared.request, call.clock)


def _slots(call: Call, prepared: Prepared, writer: CimWriter, lease: RunLease) -> Slots:
    """The right to work beside no more runs than the limits of the task allow. VMMS reads and writes, but it is this run that has it do
    so."""
    paths = [link.path for due in prepared.due if due.order is not None for disk in due.order.captured for link in disk.links]
    volumes = [place.volume for place in map(prepared.host.place, paths) if place.volume is not None]
    return run_slots.for_task(call, writer, prepared.facts.folder, prepared.destination, prepared.request.identity,
                              host=prepared.host.system.name, run_id=prepared.request.run_id, volumes=volumes, lease=lease)


def _tools(call: Call, prepared: Prepared, writer: CimWriter, deadline: Deadline, lease: Keeper) -> Tools:
    identity = prepared.request.identity
    knocks_as = identity.at_share(prepared.host.system.name) if prepared.destination.is_share else "SYSTEM"
    return Tools(writer, call.clock, call.progress, prepared.facts.folder, deadline, 0.0, identity, knocks_as, prepared.destination, lease)


# -- read and decide -----------------------------------------------------------------------------------------------------


def prepare(call: Call, run_id: str | None = None) -> Prepared:
    """Read the host and decide. ``run_id``: that of a run that decides anew. Raises HypervError for what concerns the whole task
    (destination, options, the one VM)."""
    params = call.params
    identity = run_as.read(params)
    at_share = destinations.is_share(params["destination"])
    host = inventory.read_host(call.reader, call.clock, ("state",) if at_share else _BEFORE)
    selection.warn_about_host(call, host)
    destination = destinations.check(host, params["destination"], identity)
    request = _request(params, destination, identity, run_id or secrets.token_hex(6))
    folder = state.state_folder(host.system.system_drive)
    facts = CheckpointFacts(host, folder)
    choice = checkpoint_choice.choose(facts, params)
    found, destination, ensured = _existing(call, host, request, destination, folder)
    present, wanted = [], []
    for machine in choice.machines:
        copy = _present_of(facts, machine, request, found.copies)
        if copy is not None:
            present.append((machine, copy))
        else:
            wanted.append(machine)
    due: list[Due] = []
    repair = Repair()
    if wanted:
        facts, due, repair = _decide(call, facts, request, destination, wanted)
    if choice.single and due and due[0].error is not None and due[0].adopted is None:
        raise due[0].error
    prepared = Prepared(facts, request, choice, tuple(present), tuple(due), found, destination, ensured, repair)
    for pruning in _prunings(prepared):
        vss_prune.warn_about_others(pruning, call.warn)
    return prepared


def _request(params: Mapping[str, Any], destination: Destination, identity: run_as.Identity, run_id: str) -> ExportRequest:
    try:
        max_age = parse_age(params["max_age"]) if params["max_age"] else None
    except ValueError as error:
        raise HypervError(f"max_age: {error}", error_code="invalid_max_age") from error
    basic = vss_plan.check_request({**params, "method": "vss", "writers": "none", "csv_any_node": False}, destination.path, identity,
                                   run_id, max_age)
    checkpoint = params["checkpoint_id"] or params["checkpoint_name"]
    if checkpoint and params["names"]:
        raise HypervError("A checkpoint is one virtual machine's; names would mean several.", error_code="checkpoint_needs_one_vm",
                          hint="Name the virtual machine by name or vm_id.")
    return ExportRequest(
        **{field: getattr(basic, field) for field in basic.__dataclass_fields__}, checkpoint=checkpoint or None,
        live_data=bool(params["live_data"]), exclude=tuple(params["exclude_disks"] or ()),
        allow_same_volume=bool(params["allow_same_volume"]), wait=bool(params["wait"]), wait_for_merge=bool(params["wait_for_merge"]),
        merge_timeout=float(params["merge_timeout"]), floor=params["min_free_percent"] / 100)


def _existing(call: Call, host: HostFacts, request: ExportRequest, destination: Destination,
              folder: StateFolder) -> tuple[Found, Destination, bool]:
    if not request.reads_copies and not destination.is_share:
        return Found(), destination, False
    reading = stored_copies.read(call, destination, folder, request.identity, run_id=request.run_id, host=host.system.name)
    if reading is None:
        call.warn(f"Check mode does not look at {destination.path}: that needs a task on the host. What is there already is not known.")
        return Found(), destination, False
    found = reading.found.of_kind(EXPORT)
    stored_copies.warn_about(found, call.warn, "export")
    return found, reading.destination, reading.ensured


def _present_of(facts: CheckpointFacts, machine: Machine, request: ExportRequest, copies: Sequence[FoundCopy]) -> FoundCopy | None:
    """The export that makes a new one needless: one that this task would accept, of the very checkpoint when it names one."""
    usable = [copy for copy in copies if request.accepts(copy.manifest.achieved)]
    if request.checkpoint is not None and usable:
        checkpoint = export_plan.chosen_checkpoint(facts, machine, request.checkpoint)
        usable = [copy for copy in usable if copy.manifest.export is not None and checkpoint is not None
                  and copy.manifest.export.checkpoint_id == checkpoint.checkpoint_id]
    system = facts.host.system
    return present_copy(usable, vm_id=machine.vm_id, host=system.name, now=system.local_time, wanted="inconsistent",
                        max_age=request.max_age, run_id=request.run_id if request.own_run_id else None)


def _decide(call: Call, facts: CheckpointFacts, request: ExportRequest, destination: Destination,
            wanted: Sequence[Machine]) -> tuple[CheckpointFacts, list[Due], Repair]:
    earlier, alive = _earlier(call, facts, wanted)
    asked: dict[str, Checkpoint | None] = {}
    problems: dict[str, HypervError] = {}
    for machine in wanted:
        try:
            asked[machine.vm_id] = export_plan.chosen_checkpoint(facts, machine, request.checkpoint)
        except HypervError as error:
            problems[machine.vm_id] = error
    guests = request.consistency == "application" or request.live_data
    host, sources = export_facts.read(call.reader, facts.host, asked, guests=guests)
    intents = checkpoint_intents.STORE.read(call.reader, facts.folder) if request.consistency == "application" else ()
    facts = replace(facts, host=host, intents=intents)
    locations = checkpoint_files.read_locations(call.reader, wanted) if request.consistency == "application" else {}
    repair = checkpoint_repair.look(call.reader, facts, request.run_id)
    ground = Ground(facts, request, destination, sources, locations, repair)
    free, due = destination.free, []
    for machine in wanted:
        begun = earlier.get(machine.vm_id, [])
        held = next((one for one in begun if one.intent.run_id.lower() in alive and one.intent.run_id != request.run_id), None)
        adopted = _adoptable(ground, machine, begun, request, asked.get(machine.vm_id))
        try:
            if machine.vm_id in problems:
                raise problems[machine.vm_id]
            if held is not None:
                raise HypervError(f"The run {held.intent.run_id} is exporting {machine.name!r}, and is still at work.",
                                  error_code="export_underway", hint="Wait for it.", details={"job": {
                                      "finished": False, "run_id": held.intent.run_id}})
            order, adopted = _ordered(ground, machine, free, adopted)
        except HypervError as error:
            due.append(Due(machine, None, error))
            continue
        free = free if free is None or adopted is not None else free - order.size
        due.append(Due(machine, order, None, adopted, tuple(one for one in begun if one is not adopted)))
    return facts, due, repair


def _ordered(ground: Ground, machine: Machine, free: int | None, begun: Earlier | None) -> tuple[Order, Earlier | None]:
    """How a VM is exported, and what an earlier run began, if it went one of the ways that are open: what that needs it has taken."""
    if begun is not None:
        order = export_plan.decide(ground, machine, None, underway=machine.busy is not None)
        if order.by(begun.record.method) is not None:
            return order, begun
    return export_plan.decide(ground, machine, free), None


def _earlier(call: Call, facts: CheckpointFacts, wanted: Sequence[Machine]) -> tuple[dict[str, list[Earlier]], set[str]]:
    """Exports of these VMs that earlier runs began, by VM, and the runs that are at work, in lower case."""
    contents = state_contents.read_contents(call.reader, facts.folder)
    found: dict[str, list[Earlier]] = {}
    for intent in contents.intents:
        record = record_of(intent)
        if record is not None and any(machine.vm_id == record.vm_id for machine in wanted):
            found.setdefault(record.vm_id, []).append(Earlier(intent, record))
    if not found:
        return {}, set()
    alive = leases.alive_runs(state_contents.read_leases(call.reader, facts.folder), facts.host.system.local_time)
    return found, {run_id.lower() for run_id in alive}


def _adoptable(ground: Ground, machine: Machine, begun: Sequence[Earlier], request: ExportRequest,
               checkpoint: Checkpoint | None) -> Earlier | None:
    """The newest that is what this task asks for: the same place, method, proof, disks and checkpoint, and young enough."""
    wanted = None if checkpoint is None else checkpoint.checkpoint_id
    now = ground.facts.host.system.local_time
    ways = export_plan.ways_of(machine, request)

    def fits(one: Earlier) -> bool:
        fresh = one.intent.run_id == request.run_id or request.max_age is None or now - one.intent.host_time < request.max_age
        same = [folder.casefold() for folder in one.intent.folders] == [ground.folder_of(machine).casefold()]
        return (fresh and same and one.record.method in ways and one.record.verify == request.verify and one.record.checkpoint_id == wanted
                and {path.lower() for path in one.record.excluded} == {path.lower() for path in request.exclude})

    return max((one for one in begun if fits(one)), key=lambda one: one.intent.host_time, default=None)


# -- carry out -----------------------------------------------------------------------------------------------------------


def _apply(call: Call, prepared: Prepared, tools: Tools, standing: Standing | None) -> list[Entry]:
    work: list[tuple[Pruning | None, Entry]] = []
    for leftover in checkpoint_repair.carry_out(export_checkpoint.steps(tools), tools.folder, prepared.repair):
        call.warn(f"What an interrupted run left could not be put back: {leftover.id}. {leftover.remove_with}")
    for due in prepared.due:
        if due.order is None:
            continue
        outcome = _export(due, due.order, prepared, tools, standing)
        copy = FoundCopy(outcome.folder, outcome.manifest) if outcome.folder and outcome.manifest and outcome.error is None else None
        work.append((None if copy is None else _pruning(prepared, due.machine, copy), _entry(outcome, prepared)))
    work += [(_pruning(prepared, machine, copy), _present(copy, machine, prepared)) for machine, copy in prepared.present]
    vss_prune.prune_all([(pruning, entry) for pruning, entry in work if pruning is not None], tools, prepared.request.run_id, call.warn)
    return [entry for _unused, entry in work]


def _export(due: Due, order: Order, prepared: Prepared, tools: Tools, standing: Standing | None) -> Outcome:
    """Take back what is of no use, take over what is, export anew when nothing came of it."""
    left: list[Leftover] = []
    for one in due.stale:
        left += _as_that_run(one.intent, prepared, tools, partial(export_run.give_up, tools, one.intent, due.machine))
    if due.adopted is not None:
        adopted = due.adopted
        taken = _as_that_run(adopted.intent, prepared, tools, lambda: export_run.adopt(
            adopted.intent, adopted.record, due.way or order, prepared.host, prepared.request, tools))
        if taken is not None:
            taken.leftovers += left
            return taken
    if order.method == export_plan.PRODUCTION_CHECKPOINT and order.planned is None:
        return Outcome(order, leftovers=left, error=HypervError(
            f"Nothing came of the export of {due.machine.name!r} that an earlier run had begun, and this task was planned while it ran.",
            error_code="export_not_adopted", hint="What it left was removed. Run the task again."))
    outcome = export_run.execute(order, prepared.host, prepared.request, tools, standing)
    outcome.leftovers += left
    return outcome


def _as_that_run(intent: Intent, prepared: Prepared, tools: Tools, action: Callable[[], Done]) -> Done:
    """Under the lease of the run that an intent is of, so that no clean-up and no other run touches what belongs to it."""
    if intent.run_id.lower() == prepared.request.run_id.lower():
        return action()
    with RunLease(tools.writer, tools.clock, tools.folder, intent.run_id, holder=prepared.request.run_id):
        return action()


# -- results -------------------------------------------------------------------------------------------------------------


def _pruning(prepared: Prepared, machine: Machine, current: FoundCopy) -> Pruning:
    system = prepared.host.system
    return vss_prune.decide(prepared.found, machine, current, prepared.request, host=system.name,
                            now=max(system.local_time, current.manifest.completed))


def _prunings(prepared: Prepared) -> tuple[Pruning, ...]:
    """What will go when every export of the plan succeeds; in the order of the plan."""
    system, request = prepared.host.system, prepared.request
    ahead = [vss_prune.decide(prepared.found, due.machine, None, request, host=system.name, now=system.local_time,
                              new=f"{due.order.folder}\\{naming.copy_folder(system.local_time, request.run_id)}")
             for due in prepared.due if due.order is not None]
    return (*ahead, *(_pruning(prepared, machine, copy) for machine, copy in prepared.present))


def _plan(prepared: Prepared) -> Plan:
    request = prepared.request
    steps: list[Step] = list(prepared.repair.steps()) if any(due.order is not None for due in prepared.due) else []
    exported: dict[str, str] = {}
    for due in prepared.due:
        if due.order is None:
            continue
        steps += [Step("take_back_export", due.machine.name, {"vm_id": due.machine.vm_id, "run_id": one.intent.run_id})
                  for one in due.stale]
        if due.adopted is not None:
            steps.append(Step("adopt_export", due.machine.name, {"vm_id": due.machine.vm_id, "run_id": due.adopted.intent.run_id}))
        else:
            steps += _steps(due.order)
        exported[due.machine.vm_id] = f"{due.order.folder}\\<time>_{due.adopted.intent.run_id if due.adopted else request.run_id}"
    prunings = _prunings(prepared)
    steps.extend(Step("prune", copy.folder, {"vm_id": pruning.machine.vm_id, "size": copy.manifest.size})
                 for pruning in prunings for copy in pruning.going)
    before: dict[str, Any] = {"exports": {machine.vm_id: copy.folder for machine, copy in prepared.present}}
    after: dict[str, Any] = {"exports": {**before["exports"], **exported}}
    if not request.keep.empty:
        diffs = {pruning.machine.vm_id: pruning.diff() for pruning in prunings}
        before["retention"] = {vm_id: diff["before"] for vm_id, diff in diffs.items()}
        after["retention"] = {vm_id: diff["after"] for vm_id, diff in diffs.items()}
    entries = [*(_predicted(due.way, prepared) for due in prepared.due if due.way is not None),
               *(_present(copy, machine, prepared) for machine, copy in prepared.present)]
    for pruning, entry in zip(prunings, entries, strict=True):
        vss_prune.predict(pruning, entry)
    return Plan(tuple(steps), before, after, _result(entries, prepared))


def _steps(order: Order) -> list[Step]:
    machine, detail = order.machine, {"vm_id": order.machine.vm_id, "to": order.folder, "method": order.method, "size": order.size}
    export = Step("export", machine.name, detail)
    if order.planned is None:
        return [export]
    return [Step("create_checkpoint", machine.name, {"name": order.planned.work.name, "kind": order.planned.work.kind}), export,
            Step("remove_checkpoint", machine.name, {"name": order.planned.work.name})]


def _consistency(prepared: Prepared, level: str | None, evidence: str, not_captured: Sequence[str], unknowns: Sequence[str]) -> Entry:
    return {"requested": prepared.request.consistency, "achieved": level, "evidence": evidence, "not_captured": list(not_captured),
            "unknowns": list(unknowns)}


def _predicted(order: Order, prepared: Prepared) -> Entry:
    return {"vm": checkpoint_choice.label(order.machine), "changed": True, "failed": False, "leftovers": [],
            "consistency": _consistency(prepared, order.level, export_plan.EVIDENCE[order.method], order.not_captured, order.unknowns),
            "export": {"folder": order.folder, "run_id": prepared.request.run_id, "method": order.method, "size": order.size,
                       "disks": len(order.captured), "needs_guardian": order.source.vtpm or order.source.shielded}}


def _present(copy: FoundCopy, machine: Machine, prepared: Prepared) -> Entry:
    manifest = copy.manifest
    return {"vm": checkpoint_choice.label(machine), "changed": False, "failed": False, "leftovers": [],
            "consistency": _consistency(prepared, manifest.achieved, manifest.evidence, manifest.not_captured, manifest.unknowns),
            **_told(copy.folder, copy)}


def _told(folder: str, copy: FoundCopy) -> Entry:
    manifest, export = copy.manifest, copy.manifest.export
    return {"manifest": manifest_result(folder, manifest),
            "export": {"folder": folder, "run_id": manifest.run_id, "method": manifest.method, "size": manifest.size,
                       "disks": len(export.disks) if export else 0, "needs_guardian": bool(export and export.needs_guardian)}}


def _entry(outcome: Outcome, prepared: Prepared) -> Entry:
    order, manifest = outcome.order, outcome.manifest
    entry: Entry = {
        "vm": checkpoint_choice.label(order.machine), "changed": manifest is not None or outcome.running,
        "failed": outcome.error is not None,
        "consistency": _consistency(prepared, manifest.achieved if manifest else None,
                                    manifest.evidence if manifest else "no export was completed", order.not_captured, order.unknowns),
        "leftovers": [one.as_result() for one in dict.fromkeys(outcome.leftovers)]}
    if manifest is not None and outcome.folder is not None:
        entry |= _told(outcome.folder, FoundCopy(outcome.folder, manifest))
        entry["adopted"] = outcome.adopted
    if outcome.merged is not None:
        entry["merged"] = outcome.merged
    if outcome.job is not None and manifest is None:
        entry["job"] = outcome.job.as_result()
    if outcome.error is not None:
        entry.update(error_entry(outcome.error))
        entry["leftovers"] = [one.as_result() for one in dict.fromkeys((*outcome.leftovers, *outcome.error.leftovers))]
    return entry


def _result(done: Sequence[Entry], prepared: Prepared) -> dict[str, Any]:
    failed = [(due.machine, due.error) for due in prepared.due if due.error is not None and due.order is None]
    entries = [*done, *(checkpoint_choice.failed_entry(machine, error) for machine, error in failed)]
    return checkpoint_choice.result(prepared.choice, entries, {"run_id": prepared.request.run_id, "changed": False})
