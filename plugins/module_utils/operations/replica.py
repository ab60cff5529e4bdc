# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_replica``: the relations of a host's machines, from declaration to replication (operations 7.3)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import rows
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks, replica_server, replica_settings
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import Disk
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replica_server import Authorization, ServerFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Host, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_choice,
    replica_apply,
    replica_facts,
    replica_plan,
    replica_result,
    replica_room,
    selection,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_states as states
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_choice import Choice
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_apply import Done
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_facts import REPLICA_MODES, Side
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_plan import Asked, Target, Work
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_room import Room
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import replica_marks

_GOALS: Mapping[str, str] = {"present": states.REPLICATING, "paused": states.PAUSED, "absent": states.ABSENT}
REMOVED_THERE = "removed_on_peer"


@dataclass(frozen=True)
class Prepared:
    """Everything that was read and decided before anything is written. ``other``: the peer's side, None without a peer."""

    side: Side
    other: Side | None
    peer: Host | None
    asked: Asked
    choice: Choice
    works: tuple[Work, ...]
    refused: tuple[tuple[Machine, HypervError], ...]
    doomed: tuple[tuple[Side, Machine], ...] = ()
    """Replica machines that go with their relation, and where they are."""
    seeds: Mapping[str, Authorization] = field(default_factory=dict)
    """By GUID: the entry of the replica server under which a copy that it has becomes a replica."""


def run(call: Call) -> dict[str, Any]:
    """The result of the task; ``failed`` is set when it failed for any machine."""
    prepared = prepare(call)

    def apply(writer: CimWriter, peer: CimWriter | None) -> dict[str, Any]:
        return _apply(call, prepared, writer, peer)

    plan = _plan(prepared, call.params)
    concluded = call.conclude_with(plan, prepared.peer, apply)
    if not plan.changed and not call.check_mode and call.params["wait"] and any(states.WAIT in work.steps for work in prepared.works):
        concluded.update(_wait_only(call, prepared))
    return concluded


def asked_from(params: Mapping[str, Any]) -> Asked:
    """The arguments of a task. Raises HypervError ``invalid_option``."""
    settings = rows.given(replica_settings.ROWS, params)
    replica_plan.check(settings)
    paths = [None if params[name] is None else tuple(params[name]) for name in ("included_disks", "excluded_disks")]
    return Asked(_GOALS[params["state"]], settings, paths[0], paths[1], params["initial_copy"], _moment(params["initial_copy_at"]),
                 params["allow_reseed"], params["allow_resync"], params["media_folder"], params["import_folder"])


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise HypervError(f"initial_copy_at {text!r} is not a time such as 2026-03-01T22:00:00Z.", error_code="invalid_option") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def prepare(call: Call) -> Prepared:
    """Read both hosts and decide. Seven requests when there is nothing to do, six of the peer.

    Raises HypervError for what concerns the whole task.
    """
    asked = asked_from(call.params)
    side = replica_facts.read(call.reader, call.clock)
    peer = call.open_peer(call.params["peer"]) if call.params["peer"] else None
    other = replica_facts.read(peer.reader, call.clock) if peer is not None else None
    choice = choose(side, call.params)
    found = _disks_of(call.reader, choice, asked)
    works, refused = [], []
    for machine in choice.machines:
        try:
            works.append(replica_plan.decide(side, machine, asked, found.get(machine.vm_id, ()), other))
        except HypervError as error:
            refused.append((machine, error))
    for work in works:
        if work.left_out:
            call.warn(f"{work.machine.name}: not replicated: {', '.join(work.left_out)}. excluded_disks: [] takes all disks in; name them "
                      "there to leave them out.")
    works, more, seeds = _preflight(call, side, works, asked, peer, other)
    refused += more
    if choice.single and refused:
        raise refused[0][1]
    return Prepared(side, other, peer, asked, choice, tuple(works), tuple(refused), _doomed(call, side, other, choice), seeds)


def choose(side: Side, params: Mapping[str, Any]) -> Choice:
    """The machines that a task means. In a list a name that means none or several is that entry's failure."""
    if not (params["name"] or params["vm_id"]) and selection.means_all(params["names"]):
        candidates = tuple(one for one in side.machines if one.replication_mode not in (*REPLICA_MODES, "test_replica"))
        return Choice(candidates, (), single=False)
    return checkpoint_choice.choose_among(side.machines, params)


def _disks_of(reader: CimReader, choice: Choice, asked: Asked) -> dict[str, list[Disk]]:
    """The virtual disks of all machines, one request: no other ones are replicated."""
    found: dict[str, list[Disk]] = {}
    for disk in disks.read_virtual_disks(reader) if asked.goal == states.REPLICATING and choice.machines else ():
        found.setdefault(disk.owner_id, []).append(disk)
    return found


def _preflight(call: Call, side: Side, works: Sequence[Work], asked: Asked, peer: Host | None,
               other: Side | None) -> tuple[list[Work], list[tuple[Machine, HypervError]], dict[str, Authorization]]:
    """What only the other side, or the way to it, can tell; each target is asked once. The last part: copies that become replicas."""
    fine, refused = [], []
    seeds: dict[str, Authorization] = {}
    server: ServerFacts | None = None
    room: Room | None = None
    problems: dict[Target, HypervError | None] = {}
    for work in works:
        target = work.target
        try:
            if target is not None and peer is not None and other is not None:
                server = server or replica_server.read(peer.reader, other.system.build)
                replica_plan.refuse_peer(side, work, asked, other, server)
                if asked.copy == replica_plan.EXISTING and states.CREATE in work.steps:
                    entry = server.entry_for(side.name)
                    if entry is not None:
                        seeds[work.machine.vm_id] = entry
            if target is not None:
                if target not in problems:
                    problems[target] = _test(call, target)
                problem = problems[target]
                if problem is not None:
                    raise problem
            copied = work.copied(asked)
            if copied and peer is not None and other is not None:
                server = server or replica_server.read(peer.reader, other.system.build)
                room = room or replica_room.read_room(peer.reader, other.name)
                _take_room(call, room, server.entry_for(side.name), work, copied)
            fine.append(work)
        except HypervError as error:
            refused.append((work.machine, error))
    return fine, refused, seeds


def _take_room(call: Call, room: Room, entry: Authorization | None, work: Work, copied: Sequence[Disk]) -> None:
    said = room.take(work.machine.name, entry.storage if entry is not None else "", replica_room.read_need(call.reader, copied))
    if said is not None:
        call.warn(said)


def _test(call: Call, target: Target) -> HypervError | None:
    try:
        replica_apply.test_connection(call.reader, target, call.clock, call.progress)
    except HypervError as error:
        return error
    return None


def _doomed(call: Call, side: Side, other: Side | None, choice: Choice) -> tuple[tuple[Side, Machine], ...]:
    """The replica machines that are deleted with their relation: what is a replica now, or was one when a run that died marked it.

    Raises HypervError ``replica_running``.
    """
    if call.params["state"] != "absent" or not call.params["remove_replica_vm"]:
        return ()
    found = []
    for host in (side, other) if other is not None else (side,):
        for chosen in choice.machines:
            machine = host.machine(chosen.vm_id)
            if machine is not None and machine.replication_mode in REPLICA_MODES:
                if machine.state != "off":
                    raise HypervError(f"The replica of {machine.name!r} on {host.name} is {machine.state}, so it is not deleted.",
                                      error_code="replica_running", hint="A replica that runs is a failover. Nothing was done.")
                found.append((host, machine))
            elif machine is not None and machine.replication_mode == "none" and machine.state == "off" and _is_doomed(host, machine):
                found.append((host, machine))
    return tuple(found)


def _is_doomed(side: Side, machine: Machine) -> bool:
    notes = machine.settings.notes if machine.settings is not None else None
    return replica_marks.is_doomed(notes, machine.vm_id, side.system.local_time)


# -- plan ----------------------------------------------------------------------------------------------------------------


def _peer_relations(prepared: Prepared) -> tuple[Work, ...]:
    """What goes on the other side with a relation."""
    if prepared.other is None or prepared.asked.goal != states.ABSENT:
        return ()
    found = []
    for machine in prepared.choice.machines:
        there = prepared.other.machine(machine.vm_id)
        state = prepared.other.state(machine.vm_id)
        if there is not None and state != states.NONE:
            found.append(Work(there, state, states.steps_from(state, states.ABSENT)))
    return tuple(found)


def _plan(prepared: Prepared, params: Mapping[str, Any]) -> Plan:
    steps, before, after = [], {}, {}
    for work in prepared.works:
        detail = {change.row.option: change.after for change in work.changes}
        for step in work.steps:
            if step != states.WAIT:
                steps.append(Step(step, work.machine.name, detail if step in (states.CREATE, replica_plan.MODIFY) else {}))
        if work.writes:
            before[work.machine.name] = _shown(work, before=True)
            after[work.machine.name] = _shown(work, before=False)
    other = prepared.other.name if prepared.other is not None else ""
    steps += [Step("remove_on_peer", work.machine.name, {"host": other}) for work in _peer_relations(prepared)]
    steps += [Step("delete_replica", machine.name, {"host": side.name}) for side, machine in prepared.doomed]
    predicted = _result(prepared, [Done(work, [step for step in work.steps if step != states.WAIT]) for work in prepared.works],
                        prepared.side, prepared.other)
    return Plan(tuple(steps), {"replication": before}, {"replication": after}, predicted)


def _shown(work: Work, *, before: bool) -> dict[str, Any]:
    names = {change.row.option for change in work.changes}
    values = (work.before if before else work.after) or {}
    found: dict[str, Any] = {name: values.get(name) for name in sorted(names)}
    expected = [states.EXPECTED[step] for step in work.steps if step in states.EXPECTED]
    found["state"] = work.state if before or not expected else expected[-1]
    if work.disks is not None:
        found["disks"] = [disk.path for disk in (work.disks_before if before else work.disks)]
    return found


# -- apply ---------------------------------------------------------------------------------------------------------------


def _apply(call: Call, prepared: Prepared, writer: CimWriter, peer: CimWriter | None) -> dict[str, Any]:
    tools = Tools(writer, call.clock, call.progress, Deadline(call.clock, call.params["timeout"]))
    done = []
    for work in prepared.works:
        problem = _seed(prepared, work, tools, peer) or _doom(prepared, work, tools, peer)
        done.append(replica_apply.carry_out(tools, prepared.side, work, prepared.asked) if problem is None else Done(work, error=problem))
    if prepared.asked.goal == states.ABSENT:
        _end_other_side(prepared, done, tools, peer)
    for one in done:
        _leftovers(one)
    waiting = [one for one in done if replica_apply.needs_waiting(one, prepared.asked)]
    if waiting and call.params["wait"]:
        replica_apply.wait(writer, call.clock, waiting, deadline=tools.deadline, poll=call.params["poll_interval"], progress=call.progress)
    side = replica_facts.read(writer, call.clock)
    other = replica_facts.read(peer, call.clock) if peer is not None else None
    return _result(prepared, done, side, other)


def _seed(prepared: Prepared, work: Work, tools: Tools, peer: CimWriter | None) -> HypervError | None:
    """Make the copy that the other host has a replica, where that is needed; why it failed."""
    entry = prepared.seeds.get(work.machine.vm_id)
    if entry is None or peer is None:
        return None
    try:
        replica_apply.make_replica(replace(tools, writer=peer), work.machine, entry)
    except HypervError as error:
        return error
    return None


def _doom(prepared: Prepared, work: Work, tools: Tools, peer: CimWriter | None) -> HypervError | None:
    """Mark the replicas that go: without its relation nothing else says what a machine was. Why that failed."""
    for side, machine in prepared.doomed:
        if machine.vm_id == work.machine.vm_id and not _is_doomed(side, machine):
            try:
                replica_apply.doom(replace(tools, writer=peer) if peer is not None and side is prepared.other else tools, side, machine)
            except HypervError as error:
                return error
    return None


def _wait_only(call: Call, prepared: Prepared) -> dict[str, Any]:
    """Nothing was to be done but to wait for copies that are on their way."""
    done = [Done(work) for work in prepared.works]
    replica_apply.wait(call.reader, call.clock, [one for one in done if states.WAIT in one.work.steps],
                       deadline=Deadline(call.clock, call.params["timeout"]), poll=call.params["poll_interval"], progress=call.progress)
    return _result(prepared, done, replica_facts.read(call.reader, call.clock), prepared.other)


def _end_other_side(prepared: Prepared, done: Sequence[Done], tools: Tools, peer: CimWriter | None) -> None:
    """The relation on the other side, and the machines that go with it."""
    by_id = {one.work.machine.vm_id: one for one in done}
    there = tools if peer is None else replace(tools, writer=peer)
    for work in _peer_relations(prepared):
        _attempt(by_id.get(work.machine.vm_id), REMOVED_THERE, replica_apply.remove, there, work.machine, prepared.other)
    for side, machine in prepared.doomed:
        _attempt(by_id.get(machine.vm_id), "deleted_replica", replica_apply.destroy, there if side is prepared.other else tools, machine)


def _leftovers(one: Done) -> None:
    """A relation that ended on one side alone is still there on the other one."""
    if states.REMOVE in one.done and REMOVED_THERE not in one.done and one.work.machine.replication_mode == "primary":
        server = (one.work.before or {}).get("server")
        one.leftovers.append(Leftover("replica_relation", one.work.machine.vm_id, str(server or "the replica server"),
                                      "hyperv_replica with state: absent for this machine on that host"))


def _attempt(one: Done | None, name: str, work: Any, *arguments: Any) -> None:
    if one is None or one.error is not None:
        return
    try:
        work(*arguments)
        one.done.append(name)
    except HypervError as error:
        one.error = error


def _result(prepared: Prepared, done: Sequence[Done], side: Side, other: Side | None) -> dict[str, Any]:
    entries = []
    for one in done:
        machine = side.machine(one.work.machine.vm_id) or one.work.machine
        there = other.machine(machine.vm_id) if other is not None else None
        entries.append({
            "vm": checkpoint_choice.label(machine), "replica": replica_result.entry(side, machine),
            "disks_left_out": list(one.work.left_out),
            "peer_replica": None if other is None or there is None else replica_result.entry(other, there),
            **replica_apply.result_of(one)})
    entries += [checkpoint_choice.failed_entry(machine, error) for machine, error in prepared.refused]
    return checkpoint_choice.result(prepared.choice, entries, {})
