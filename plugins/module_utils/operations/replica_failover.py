# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_replica_failover``: planned, unplanned, commit, cancel and reverse; tests are in :mod:`.replica_test` (operations 7.6)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replica_server
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import MERGING, Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replica_server import ServerFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Host, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_choice,
    replica_facts,
    replica_pair,
    replica_turning,
    selection,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_choice import Choice
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_facts import REPLICA_MODES, Side
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_pair import Pair, Wish
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_plan import Target
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_preflight import Peer, Ways
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_turning import Hosts, Turn, Turned
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vm_result import iso

LATEST, LATEST_APPLICATION = "latest", "latest_application_consistent"


@dataclass(frozen=True)
class Prepared:
    """Everything that was read and decided before anything is written."""

    side: Side
    other: Side | None
    peer: Host | None
    choice: Choice
    turns: tuple[Turn, ...]
    refused: tuple[tuple[Machine, HypervError], ...]


def run(call: Call) -> dict[str, Any]:
    """The result of the task; ``failed`` is set when it failed for any machine."""
    prepared = prepare(call)

    def apply(writer: CimWriter, peer: CimWriter | None) -> dict[str, Any]:
        target = Tools(writer, call.clock, call.progress, Deadline(call.clock, call.params["timeout"]))
        source = None if peer is None else replica_turning.with_writer(target, peer)
        hosts = Hosts(target, source, prepared.side, prepared.other)
        return _result(prepared, [replica_turning.carry_out(hosts, turn) for turn in prepared.turns])

    return call.conclude_with(_plan(prepared), prepared.peer, apply)


def prepare(call: Call) -> Prepared:
    """Read both hosts and decide; nothing is begun that could not come to its end. Raises HypervError for what concerns the whole task."""
    params = call.params
    wish = Wish(params["action"], start=params["start"], commit=params["commit"], primary_down=params["confirm_primary_down"])
    side = replica_facts.read(call.reader, call.clock)
    peer = call.open_peer(params["peer"]) if params["peer"] else None
    other = replica_facts.read(peer.reader, call.clock) if peer is not None else None
    choice = choose(side, call.params)
    back = _Back(call, side, other, peer)
    turns, refused = [], []
    for machine in choice.machines:
        try:
            turns.append(_decide(call, side, other, machine, wish, back))
        except HypervError as error:
            refused.append((machine, error))
    if choice.single and refused:
        raise refused[0][1]
    return Prepared(side, other, peer, choice, tuple(turns), tuple(refused))


def choose(side: Side, params: Any) -> Choice:
    """The machines that a task means; ``all`` are the replicas of the host."""
    if not (params["name"] or params["vm_id"]) and selection.means_all(params["names"]):
        return Choice(tuple(one for one in side.machines if one.replication_mode in REPLICA_MODES), (), single=False)
    return checkpoint_choice.choose_among(side.machines, params)


def _decide(call: Call, side: Side, other: Side | None, machine: Machine, wish: Wish, back: _Back) -> Turn:
    if machine.busy is not None and machine.busy != MERGING:  # recovery points that go are merged all the time: that is waited for
        raise HypervError(f"The host is working on {machine.name!r}: {machine.busy}.", error_code="vm_busy",
                          hint="Wait until that is done.")
    pair = Pair(None if other is None else replica_turning.end_of(other, machine.vm_id), replica_turning.end_of(side, machine.vm_id))
    _refuse_strangers(side, other, machine, pair)
    steps = replica_pair.steps_from(pair, wish)
    point = find_point(side, machine, call.params["recovery_point"]) if replica_pair.FAIL_OVER in steps else None
    if point is not None and wish.action == replica_pair.PLANNED:
        raise HypervError("A planned failover has no other point than the last change.", error_code="invalid_option",
                          hint="Leave recovery_point out.")
    target = back.of(machine) if replica_pair.TURN in steps else None
    return Turn(machine, pair, wish, steps, target, None if point is None else point.reference, call.params["shutdown"],
                call.params["shutdown_timeout"])


def _refuse_strangers(side: Side, other: Side | None, machine: Machine, pair: Pair) -> None:
    """Two ends of one GUID need not be two ends of one relation: the primary may send to a third host by now, and what this host has is
    old. The end that sends says where to. Raises HypervError ``not_a_pair``."""
    if other is None or pair.source is None:
        return
    for sender, receiver, mode in ((other, side, pair.source.mode), (side, other, pair.target.mode)):
        if mode == "primary" and not sender.leads_to(receiver, machine.vm_id):
            names = ", ".join(sender.partners(machine.vm_id))
            raise HypervError(f"{machine.name!r} is replicated from {sender.name} to {names}, and not to {receiver.name}.",
                              error_code="not_a_pair", details={"pair": replica_turning.pair_result(pair)},
                              hint="Name the two hosts of one replication. What another host has of the machine is older: remove it there "
                                   "with hyperv_replica and state: absent.")


def find_point(side: Side, machine: Machine, wanted: str) -> Checkpoint | None:
    """The recovery point that a task means; None for the newest state. Raises HypervError ``recovery_point_not_found``."""
    points = side.points(machine.vm_id)
    if wanted == LATEST:
        return None
    if wanted == LATEST_APPLICATION:
        found = [point for point in points if point.kind == "replica_application_consistent"]
    else:
        guid = as_guid(wanted)
        found = [point for point in points if guid is not None and point.checkpoint_id == guid]
    if not found:
        raise HypervError(f"The replica {machine.name!r} has no recovery point {wanted!r}.", error_code="recovery_point_not_found",
                          hint="hyperv_replica_info lists them.",
                          details={"recovery_points": [{"id": point.checkpoint_id, "created": iso(point.created)} for point in points]})
    return found[-1]


class _Back:
    """Where replicas will be sent to when the roles have changed; the other host is asked once."""

    def __init__(self, call: Call, side: Side, other: Side | None, peer: Host | None) -> None:
        self._call = call
        self._side = side
        self._receiver = Peer(call, peer, other) if peer is not None and other is not None else None
        self._ways = Ways(call)

    @cached_property
    def _own(self) -> ServerFacts:
        return replica_server.read(self._call.reader, self._side.system.build)

    def of(self, machine: Machine) -> Target:
        """The target of one machine. Raises HypervError: that host would not take it."""
        if self._receiver is None:
            raise HypervError("Both hosts take part in this, and the task names no peer.", error_code="peer_needed")
        target = replica_turning.way_back(self._side, self._receiver.side, self._receiver.server, machine.vm_id)
        if target.authentication == replica_server.CERTIFICATE:
            target = replace(target, thumbprint=str(self._own.settings.get("certificate_thumbprint") or "") or None)
        self._ways.reach(target)
        return target


def _plan(prepared: Prepared) -> Plan:
    steps, before, after = [], {}, {}
    entries = []
    for turn in prepared.turns:
        changing = [step for step in turn.steps if step != replica_pair.WAIT]
        steps += [Step(step, turn.machine.name) for step in turn.steps]
        end = turn.pair
        for step in turn.steps:
            end = replica_pair.expected(end, step)
        if turn.steps:
            before[turn.machine.name] = replica_turning.pair_result(turn.pair)
            after[turn.machine.name] = replica_turning.pair_result(end)
        entries.append(Turned(turn, end, changing))
    return Plan(tuple(steps), before, after, _result(prepared, entries))


def _result(prepared: Prepared, turned: Sequence[Turned]) -> dict[str, Any]:
    entries = []
    for one in turned:
        entry: dict[str, Any] = {
            "vm": checkpoint_choice.label(one.turn.machine), "changed": bool(one.done), "failed": one.error is not None,
            "action": one.turn.wish.action, "steps": one.done, "pair": replica_turning.pair_result(one.pair), "evidence": one.evidence,
            "leftovers": []}
        if one.error is not None:
            entry.update({"msg": one.error.message, **one.error.as_result()})
        entries.append(entry)
    entries += [checkpoint_choice.failed_entry(machine, error) for machine, error in prepared.refused]
    return checkpoint_choice.result(prepared.choice, entries, {})
