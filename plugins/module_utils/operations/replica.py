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
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks, replica_settings
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import Disk
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replica_server import Authorization
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Host, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_choice,
    replica_apply,
    replica_ending,
    replica_facts,
    replica_plan,
    replica_result,
    replica_steps,
    selection,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_states as states
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_choice import Choice
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_apply import Done
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_ending import Ending
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_facts import REPLICA_MODES, Side
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_plan import Asked, Work
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_preflight import Peer, Ways

_GOALS: Mapping[str, str] = {"present": states.REPLICATING, "paused": states.PAUSED, "absent": states.ABSENT}


@dataclass(frozen=True)
class Planned:
    """What will be done for one machine on both hosts. ``seed``: the entry of the peer under which a copy that it has becomes a replica."""

    work: Work
    ending: Ending = field(default_factory=Ending)
    seed: Authorization | None = None

    @property
    def writes(self) -> bool:
        """Whether either host is changed."""
        return self.work.writes or bool(self.ending.steps)


@dataclass(frozen=True)
class Prepared:
    """Everything that was read and decided before anything is written. ``other``: the peer's side, None without a peer."""

    side: Side
    other: Side | None
    peer: Host | None
    asked: Asked
    choice: Choice
    planned: tuple[Planned, ...]
    refused: tuple[tuple[Machine, HypervError], ...]


def run(call: Call) -> dict[str, Any]:
    """The result of the task; ``failed`` is set when it failed for any machine."""
    prepared = prepare(call)

    def apply(writer: CimWriter, peer: CimWriter | None) -> dict[str, Any]:
        return _apply(call, prepared, writer, peer)

    plan = _plan(prepared)
    concluded = call.conclude_with(plan, prepared.peer, apply)
    if not plan.changed and not call.check_mode and call.params["wait"] and any(states.WAIT in one.work.steps for one in prepared.planned):
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
    ways = Ways(call)
    receiver = Peer(call, peer, other) if peer is not None and other is not None else None
    planned, refused = [], []
    for machine in choice.machines:
        try:
            work = replica_plan.decide(side, machine, asked, found.get(machine.vm_id, ()), other)
            planned.append(_planned(call, side, work, asked, receiver, ways))
        except HypervError as error:
            refused.append((machine, error))
    if choice.single and refused:
        raise refused[0][1]
    return Prepared(side, other, peer, asked, choice, tuple(planned), tuple(refused))


def _planned(call: Call, side: Side, work: Work, asked: Asked, receiver: Peer | None, ways: Ways) -> Planned:
    """What is done for one machine, and could not be seen to fail before it is begun. Raises HypervError with the reason."""
    if asked.goal == states.ABSENT:
        other = None if receiver is None else receiver.side
        return Planned(work, replica_ending.decide(side, other, work.machine.vm_id, delete=call.params["remove_replica_vm"]))
    if work.left_out:
        call.warn(f"{work.machine.name}: not replicated: {', '.join(work.left_out)}. excluded_disks: [] takes all disks in; name them "
                  "there to leave them out.")
    seed = None if receiver is None else receiver.check(side, work, asked)
    if work.target is not None:
        ways.reach(work.target)
    if receiver is not None:
        receiver.take_room(side, work, asked)
    return Planned(work, seed=seed)


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


# -- plan ----------------------------------------------------------------------------------------------------------------


def _plan(prepared: Prepared) -> Plan:
    steps, before, after = [], {}, {}
    other = prepared.other.name if prepared.other is not None else ""
    for one in prepared.planned:
        work, ending = one.work, one.ending
        detail = {change.row.option: change.after for change in work.changes}
        for step in work.steps:
            if step != states.WAIT:
                steps.append(Step(step, work.machine.name, detail if step in (states.CREATE, replica_plan.MODIFY) else {}))
        if ending.there is not None:
            steps.append(Step("remove_on_peer", work.machine.name, {"host": other}))
        steps += [Step("delete_replica", machine.name, {"host": side.name}) for side, machine in ending.doomed]
        if work.writes:
            before[work.machine.name] = _shown(work, before=True)
            after[work.machine.name] = _shown(work, before=False)
    predicted = _result(prepared, [Done(one.work, [*(step for step in one.work.steps if step != states.WAIT), *one.ending.steps])
                                   for one in prepared.planned], prepared.side, prepared.other)
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
    there = tools if peer is None else replace(tools, writer=peer)
    done = [_carry_out(prepared, one, tools, there) for one in prepared.planned]
    waiting = [one for one in done if replica_apply.needs_waiting(one, prepared.asked)]
    if waiting and call.params["wait"]:
        replica_apply.wait(writer, call.clock, waiting, deadline=tools.deadline, poll=call.params["poll_interval"], progress=call.progress)
    side = replica_facts.read(writer, call.clock)
    other = replica_facts.read(peer, call.clock) if peer is not None else None
    return _result(prepared, done, side, other)


def _carry_out(prepared: Prepared, one: Planned, here: Tools, there: Tools) -> Done:
    """Everything but the waiting for one machine, on both hosts; errors are in the answer."""
    def tools_of(side: Side) -> Tools:
        return there if side is prepared.other else here

    try:
        if one.writes:
            replica_steps.refuse_late(here, one.work.machine)
            replica_ending.mark(one.ending, tools_of)
        if one.seed is not None:
            replica_apply.make_replica(there, one.work.machine, one.seed)
    except HypervError as error:
        return Done(one.work, error=error)
    done = replica_apply.carry_out(here, prepared.side, one.work, prepared.asked)
    replica_ending.finish(one.ending, tools_of, done, prepared.other)
    done.leftovers += replica_ending.leftovers(done, prepared.side, prepared.other)
    return done


def _wait_only(call: Call, prepared: Prepared) -> dict[str, Any]:
    """Nothing was to be done but to wait for copies that are on their way."""
    done = [Done(one.work) for one in prepared.planned]
    replica_apply.wait(call.reader, call.clock, [one for one in done if states.WAIT in one.work.steps],
                       deadline=Deadline(call.clock, call.params["timeout"]), poll=call.params["poll_interval"], progress=call.progress)
    return _result(prepared, done, replica_facts.read(call.reader, call.clock), prepared.other)


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
