# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_restore``: facts, plan and result. A verb, but one that knows what it did: a backup that was restored is not restored again."""
from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, ConnectionFailed, HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import import_service, planned
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    destinations,
    inventory,
    restore_boot,
    restore_deep,
    restore_evidence,
    restore_leftovers,
    restore_plan,
    restore_request,
    restore_run,
    restore_source,
    restore_wiring,
    run_lease,
    selection,
    stored_copies,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_copy import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_leftovers import OURS, RestoreFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_request import Request
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_run import Order, Outcome
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_source import Content, Source
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import RunLease
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import drills, naming, stored_names
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import leases, state, state_contents, tasks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder

_FACTS = ("state", "volumes")


@dataclass(frozen=True)
class Prepared:
    """Everything that was read and decided before anything is written. ``order`` None: nothing to do, or a deep check."""

    facts: HostFacts
    request: Request
    folder: StateFolder
    source: Source | None
    name: str
    present: Machine | None
    order: Order | None
    left: RestoreFacts
    dead: tuple[str, ...]
    """Runs that are not at work any more and left something that this restore takes away first."""
    outdated: tuple[str, ...] = ()
    """Names of drills of the machine whose evidence goes once this one has passed."""


def run(call: Call) -> dict[str, Any]:
    """The result of the task."""
    request = restore_request.read(call.params)
    prepared = prepare(call, request)

    def apply(writer: CimWriter) -> dict[str, Any]:
        return _apply(call, prepared, writer)

    return call.conclude(_plan(prepared), apply)


# -- what is there -------------------------------------------------------------------------------------------------------


def prepare(call: Call, request: Request) -> Prepared:
    """Read the host and the backup, and decide. Raises HypervError with what stops it; nothing but a task that reads a share was there."""
    facts = inventory.read_host(call.reader, call.clock, _FACTS)
    selection.warn_about_host(call, facts)
    folder = state.state_folder(facts.system.system_drive)
    source = _source(call, request, facts, folder)
    left = restore_leftovers.read(call.reader, folder)
    if source is None:
        return Prepared(facts, request, folder, None, request.new_name or "", None, None, left, ())
    restore_plan.check_accepted(request, source)
    name = restore_plan.name_of(request, source)
    present = restore_plan.present(facts, request, source, name)
    if present is not None:
        return Prepared(facts, request, folder, source, name, present, None, left, ())
    dead = _dead(call, facts, folder, left, request, source)
    try:
        _check(call, facts, request, source, name, left, dead)
        if request.deep_check:
            return Prepared(facts, request, folder, source, name, None, None, left, dead)
        place, _volume = restore_plan.place(facts, request, source, name)
    except HypervError as error:
        _note_refusal(call, request, source, facts, folder, error)
        raise
    order = Order(source, name, place, request.verify, restore_plan.old_machine(facts, request, source), _host_reaches(request, source))
    return Prepared(facts, request, folder, source, name, None, order, left, dead, _outdated(call, request, source, facts, folder))


def _outdated(call: Call, request: Request, source: Source, facts: HostFacts, folder: StateFolder) -> tuple[str, ...]:
    """What ``evidence_keep`` does not keep once this drill has passed."""
    if not request.writes_evidence or request.evidence_keep.empty:
        return ()
    at, now = restore_evidence.folder_of(request.destination, source.vm_name, source.vm_id), facts.system.local_time
    if destinations.is_share(at):
        found = call.through_host(lambda writer: restore_evidence.names_at_share(
            writer, folder, at, request.run_id, request.identity, clock=call.clock)) or {}
    else:
        found = restore_evidence.names_local(call.reader, at)
    return stored_names.going(found, naming.copy_folder(now, request.run_id), request.evidence_keep, now=now, timezone=request.timezone)


def _note_refusal(call: Call, request: Request, source: Source, facts: HostFacts, folder: StateFolder, error: HypervError) -> None:
    """A machine that cannot be drilled here: the evidence says so, or it would be the one that was never drilled, each time anew."""
    if not request.writes_evidence or error.return_value is not None or isinstance(error, ConnectionFailed | AccessDenied):
        return
    now = facts.system.local_time
    drill = restore_evidence.drill_of(request, source, facts.system.name, now, now, error, refused=True)
    error.details["drill"] = drill.as_data()

    def note(writer: CimWriter) -> str:
        state.ensure(writer, folder)
        return restore_evidence.write(writer, folder, request.destination, drill, request.identity, clock=call.clock).path

    try:
        error.details["evidence"] = call.through_host(note)
    except HypervError as problem:
        call.warn(f"The evidence of the refusal was not written: {problem.message}")


def _source(call: Call, request: Request, facts: HostFacts, folder: StateFolder) -> Source | None:
    """The backup; None when nobody can look without a task, in check mode."""
    at = request.folder or request.destination
    where = destinations.check(facts, at, request.identity)
    if request.folder is not None:
        return _of_folder(call, request, facts, folder, request.folder)
    reading = stored_copies.read(call, where, folder, request.identity, run_id=request.run_id, host=facts.system.name, everything=True)
    if reading is None:
        call.warn(f"Check mode does not look at {at}: that needs a task on the host. What is there is not known.")
        return None
    if request.wanted is None:
        raise HypervError("No backup is named.", error_code="invalid_options", hint="Give name, vm_id or backup_id, or a folder.")
    source = restore_source.choose(reading.found, request.wanted)
    for path in restore_source.damaged_newer(reading.found, source):
        call.warn(f"A newer backup lies in {path}, and its manifest is damaged: {source.folder} is restored.")
    return source


def _of_folder(call: Call, request: Request, facts: HostFacts, folder: StateFolder, path: str) -> Source | None:
    if destinations.is_share(path):
        def look(writer: CimWriter) -> Content:
            state.ensure(writer, folder)
            return restore_source.read_share(writer, folder, path, request.run_id, request.identity,
                                             request.identity.at_share(facts.system.name), clock=call.clock)

        content = call.through_host(look)
    else:
        content = restore_source.read_local(call.reader, path)
    if content is None:
        call.warn(f"Check mode does not look at {path}: that needs a task on the host. What is there is not known.")
        return None
    source = restore_source.of_folder(path, content)
    if source is not None:
        return source
    definition = import_service.read_definition(call.reader, f"{path}\\{restore_source.definition_in(content)}")
    return restore_source.unproved(path, content, definition.vm_id, definition.name)


def _check(call: Call, facts: HostFacts, request: Request, source: Source, name: str, left: RestoreFacts, dead: tuple[str, ...]) -> None:
    """The whole preflight: what the manifest tells, what the host has, and what the definition file says of itself."""
    free = restore_boot.free_memory(call.reader) if request.runs else None
    restore_plan.check_host(facts, source, free, drill=request.drill, runs=request.runs)
    restore_plan.check_name(facts, request, name)
    swept = {run.lower() for run in dead}
    restore_plan.check_planned([one.machine for one in left.planned if one.owner != OURS or (one.run_id or "").lower() not in swept],
                               request, source)
    restore_plan.old_machine(facts, request, source)
    if request.networks:
        restore_wiring.check_networks(request.networks, planned.read_switches(call.reader))
    for disk in source.export.excluded if source.export is not None else ():
        call.warn(f"{source.vm_name}: the backup leaves out its disk {disk.source}; the restored machine has none in its place.")
    if request.deep_check or _host_reaches(request, source):
        restore_plan.check_identity(request, source, import_service.read_definition(call.reader, restore_plan.definition_at(
            source, source.folder)).vm_id)
    if source.export is not None and source.export.needs_guardian:
        call.warn(f"{source.vm_name}: it is shielded or has a virtual TPM. It starts here only with the keys of its protector.")


def _host_reaches(request: Request, source: Source) -> bool:
    """True where the host itself can open the backup: at a share it knocks as its computer account, whoever copies the files."""
    return not destinations.is_share(source.folder) or request.identity.task == tasks.SYSTEM


def _dead(call: Call, facts: HostFacts, folder: StateFolder, left: RestoreFacts, request: Request, source: Source) -> tuple[str, ...]:
    """The runs whose remains this restore takes away first: earlier tries of its own, and dead ones that wanted the same machine.

    Raises HypervError ``restore_underway`` when another run restores the same machine in place at this moment.
    """
    wanted = {intent.run_id for intent in left.intents if intent.source_id == source.vm_id or intent.run_id == request.run_id}
    wanted |= {one.run_id for one in left.planned if one.owner == OURS and one.run_id and one.machine.vm_id == source.vm_id}
    wanted |= {run for run in left.runs if run.lower() == request.run_id.lower()}
    if not wanted:
        return ()
    alive = leases.alive_runs(state_contents.read_leases(call.reader, folder), facts.system.local_time)
    busy = sorted(run for run in wanted if run in alive and run.lower() != request.run_id.lower())
    in_the_way = [intent for intent in left.intents if intent.run_id in busy and intent.source_id == source.vm_id
                  and intent.mode == request.mode == "in_place"]
    if in_the_way:
        raise HypervError(f"The run {in_the_way[0].run_id} is restoring {source.vm_name!r} in place.", error_code="restore_underway",
                          hint="Wait until it has done.")
    return tuple(sorted(run for run in wanted if run not in busy))


# -- plan ----------------------------------------------------------------------------------------------------------------


def _plan(prepared: Prepared) -> Plan:
    request, source, order = prepared.request, prepared.source, prepared.order
    if prepared.present is not None:
        return Plan((), {"restored": prepared.present.name}, {"restored": prepared.present.name}, _unchanged(prepared, prepared.present))
    if source is None:
        return Plan((Step("restore", request.folder or request.destination),), {}, {"restored": "not known in check mode"}, _head(prepared))
    if order is None:  # the planned machine that it makes is gone again: nothing is changed
        return Plan((Step("deep_check", prepared.name, {"from": source.folder}),), {}, {}, {**_head(prepared), "changed": False})
    steps = [Step("remove_remains", run) for run in prepared.dead]
    steps.append(Step("copy", source.vm_name, {"from": source.folder, "to": order.place.path, "files": len(source.files),
                                               "size": source.size}))
    if order.old is not None:
        steps.append(Step("unregister", order.old.name, {"vm_id": order.old.vm_id}))
    steps.append(Step("import", order.name, {"mode": request.mode, "networks": dict(request.networks) or "disconnected"}))
    if request.runs:
        steps.append(Step("start", order.name))
    if request.drill:
        steps.append(Step("remove", order.name))
    steps += [Step("prune_evidence", name) for name in prepared.outdated]
    after = {} if request.drill else {"restored": order.name, "folder": order.place.path}
    return Plan(tuple(steps), {}, after, {**_head(prepared), "folder": order.place.path})


def _head(prepared: Prepared) -> dict[str, Any]:
    source = prepared.source
    return {"run_id": prepared.request.run_id, "mode": prepared.request.mode, "folder": None, "leftovers": [], "incompatibilities": [],
            "backup": None if source is None else source.as_result(), "vm": {"vm_id": None, "name": prepared.name},
            "unknowns": [] if source is None else list(restore_plan.unknowns(source, prepared.request.verify))}


def _unchanged(prepared: Prepared, machine: Machine) -> dict[str, Any]:
    folder = machine.settings.configuration_root if machine.settings is not None else None
    return {**_head(prepared), "vm": {"vm_id": machine.vm_id, "name": machine.name}, "folder": folder, "state": machine.state}


# -- apply ---------------------------------------------------------------------------------------------------------------


def _apply(call: Call, prepared: Prepared, writer: CimWriter) -> dict[str, Any]:
    request = prepared.request
    began = prepared.facts.system.local_time
    state.ensure(writer, prepared.folder)
    with RunLease(writer, call.clock, prepared.folder, request.run_id, duration=_duration(call, request),
                  host_time=lambda: prepared.facts.system.time_now(call.clock)) as lease:
        tools = _tools(call, prepared, writer, lease.keep)
        left = _sweep(call, prepared, tools)
        if prepared.order is None:
            result = restore_deep.check(tools, request, prepared.source, prepared.name)
            return {**_head(prepared), **result, "changed": False, "leftovers": [*result["leftovers"], *left]}
        outcome = restore_run.execute(tools, request, prepared.order)
        outcome.leftovers += left
        result = _result(prepared, prepared.order, outcome)
        if request.drill:
            _conclude_drill(call, prepared, tools, outcome, began, result)
    for leftover in lease.leftovers:
        call.warn(f"The lease of this run could not be given back; it ends by itself within minutes: {leftover.location}.")
    return result


def _conclude_drill(call: Call, prepared: Prepared, tools: Tools, outcome: Outcome, began: datetime, result: dict[str, Any]) -> None:
    """Tell what the drill came to, and leave the evidence at the destination."""
    request, order = prepared.request, prepared.order
    if order is None:
        return
    error = outcome.error
    if error is None and result.get("failed"):
        error_code = result["error_code"]
        error = HypervError(result["msg"], error_code=error_code)
    passed = began + timedelta(seconds=max(outcome.seconds.values(), default=0.0))
    drill = restore_evidence.drill_of(
        request, order.source, prepared.facts.system.name, began, passed, error, recovery_seconds=outcome.recovery_seconds,
        seconds=outcome.seconds, os_name=outcome.alive.os_name if outcome.alive is not None else None,
        left=tuple(f"{one.kind} {one.id}" for one in dict.fromkeys(outcome.leftovers)))
    result["drill"] = drill.as_data()
    if not request.writes_evidence:
        return
    outdated = prepared.outdated if drill.outcome == drills.PASSED else ()
    try:
        written = restore_evidence.write(tools.writer, tools.folder, request.destination, drill, request.identity, outdated,
                                         clock=call.clock)
    except HypervError as problem:
        call.warn(f"The evidence of the drill was not written: {problem.message}")
        result["leftovers"] += [one.as_result() for one in problem.leftovers]
        if not result.get("failed"):
            result.update({"failed": True, "msg": problem.message, **problem.as_result(), "leftovers": result["leftovers"]})
        return
    result["evidence"], result["evidence_pruned"] = written.path, list(written.removed)
    result["leftovers"] += [one.as_result() for one in written.leftovers]
    for path in written.stayed:
        call.warn(f"The evidence {path} was not removed: a link is in the way, or a file of it is in use.")


def _duration(call: Call, request: Request) -> timedelta:
    """A program in the session keeps us from renewing the lease until it ends."""
    if request.identity.task is not None:
        return run_lease.DURATION
    return run_lease.DURATION + timedelta(seconds=float(call.params["timeout"]))


def _tools(call: Call, prepared: Prepared, writer: CimWriter, keep: Callable[[], None]) -> Tools:
    identity = prepared.request.identity
    at_share = prepared.source is not None and destinations.is_share(prepared.source.folder)
    return Tools(writer=writer, clock=call.clock, progress=call.progress, deadline=Deadline(call.clock, float(call.params["timeout"])),
                 keep=keep, folder=prepared.folder, identity=identity,
                 knocks_as=identity.at_share(prepared.facts.system.name) if at_share else "SYSTEM")


def _sweep(call: Call, prepared: Prepared, tools: Tools) -> list[Leftover]:
    """Take away what dead runs left of the same machine, each under its own lease."""
    left: list[Leftover] = []
    for run_id in prepared.dead:
        call.progress(f"taking away what the run {run_id} left")
        with ExitStack() as stack:
            if run_id.lower() != prepared.request.run_id.lower():
                try:
                    stack.enter_context(RunLease(tools.writer, tools.clock, tools.folder, run_id, holder=prepared.request.run_id))
                except leases.LeaseHeld:
                    continue  # it came to life meanwhile
            left += restore_run.sweep(tools, prepared.left, run_id)
    return left


def _result(prepared: Prepared, order: Order, outcome: Outcome) -> dict[str, Any]:
    request, made = prepared.request, outcome.made
    machine_id = made.machine_id if not request.drill else None
    result: dict[str, Any] = {
        **_head(prepared), "changed": outcome.machine is not None or outcome.replaced is not None,
        "vm": {"vm_id": machine_id, "name": order.name},
        "folder": order.place.path if machine_id is not None else None, "seconds": outcome.seconds,
        "leftovers": [one.as_result() for one in dict.fromkeys(outcome.leftovers)]}
    if outcome.replaced is not None:
        result["replaced"] = outcome.replaced
    if outcome.alive is not None:
        result["guest"] = {"heartbeat": outcome.alive.heartbeat, "os_name": outcome.alive.os_name}
        result["recovery_seconds"] = outcome.recovery_seconds
    if outcome.error is not None:
        error = outcome.error
        result.update({"failed": True, "msg": error.message, **error.as_result(), "leftovers": result["leftovers"]})
        if outcome.replaced is not None and machine_id is None:
            result["msg"] += (f" The registration of the old virtual machine {outcome.replaced['name']!r} is gone; its disks are "
                              f"where they were: {', '.join(outcome.replaced['disks'])}.")
    elif request.drill and outcome.leftovers:
        result.update({"failed": True, "error_code": "drill_left_something",
                       "msg": f"The drill of {order.source.vm_name!r} left {len(outcome.leftovers)} thing(s) behind.",
                       "hint": "hyperv_cleanup with remove: true takes away what is ours; look at leftovers."})
    return result
