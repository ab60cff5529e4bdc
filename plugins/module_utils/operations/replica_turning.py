# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of failovers on both hosts, each seen to be done before the next one is chosen (operations 7.6)."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import facts, rows
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import EmbeddedText, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, NotFound
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import machines, power, replica_server, replica_settings
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replication_service as service
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replica_server import ServerFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_steps,
    replica_apply,
    replica_facts,
    replica_pair,
    replica_steps,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_facts import Side
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_pair import End, Pair, Wish
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_plan import Target
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_states import NONE
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vm_result import iso

_MOST_STEPS = 12
_KEPT = ("compression", "frequency", "recovery_history", "app_consistent_interval", "auto_resync", "auto_resync_start", "auto_resync_end",
         "replicate_kvp", "bypass_proxy")
"""Settings of a relation that hold in the other direction, too."""


@dataclass(frozen=True)
class Turn:
    """One machine that fails over. ``back``: where the target will send to when the roles have changed; None when they do not change.
    ``point``: the recovery point, None for the newest state. ``shutdown``: ``guest``, ``turn_off`` or ``none``."""

    machine: Machine
    pair: Pair
    wish: Wish
    steps: tuple[str, ...]
    back: Target | None
    point: Reference | None
    shutdown: str
    shutdown_timeout: float


@dataclass
class Turned:
    """What became of it. ``pair``: what both hosts said last."""

    turn: Turn
    pair: Pair
    done: list[str] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    error: HypervError | None = None


@dataclass(frozen=True)
class Hosts:
    """Both hosts with their tools; ``source`` None without a peer."""

    target: Tools
    source: Tools | None
    side: Side
    other: Side | None


def end_of(side: Side, vm_id: str) -> End:
    """One end out of facts that were read for the whole host."""
    machine = side.machine(vm_id)
    return End("none", NONE, "absent") if machine is None else End(machine.replication_mode, side.state(vm_id), machine.state)


def read_end(reader: CimReader, vm_id: str) -> End:
    """One end as it is now; two requests."""
    try:
        row = reader.get(machines.machine_reference(vm_id))
    except NotFound:
        return End("none", NONE, "absent")
    relation = replica_facts.read_relation(reader, vm_id)
    machine = machines.join([row], ())[0]
    return End(machine.replication_mode, NONE if relation is None else relation.state, machine.state)


def read_pair(hosts: Hosts, vm_id: str) -> Pair:
    """Both ends as they are now; four requests."""
    source = None if hosts.source is None else read_end(hosts.source.writer, vm_id)
    return Pair(source, read_end(hosts.target.writer, vm_id))


def way_back(side: Side, other: Side, server: ServerFacts, vm_id: str) -> Target:
    """Where the target sends to when the roles have changed: the old primary, which must take it.

    Raises HypervError ``replica_server_disabled``, ``not_authorized``, ``replica_server_differs``.
    """
    if not server.settings.get("enabled"):
        raise HypervError(f"{other.name} is no replica server, so it cannot become the replica.", error_code="replica_server_disabled",
                          hint="Make it one with hyperv_replica_server before the failover.")
    if not any(entry.admits(side.name) for entry in server.authorizations):
        raise HypervError(f"{other.name} does not let {side.name} send replicas, so the roles cannot be reversed.",
                          error_code="not_authorized", hint="Add it to authorization of hyperv_replica_server there.")
    method = str(side.shown(vm_id).get("authentication") or "kerberos")
    if not replica_server.uses(server.settings.get("authentication"), method):
        raise HypervError(f"{other.name} does not listen for {method}, which the replication uses.", error_code="replica_server_differs",
                          hint="Set authentication of hyperv_replica_server there to both.")
    port = server.settings.get("http_port" if method == "kerberos" else "https_port")
    return Target(other.name, int(port or replica_settings.DEFAULT_PORTS[method]), method, None,
                  bool(side.shown(vm_id).get("bypass_proxy")))


def carry_out(hosts: Hosts, turn: Turn) -> Turned:
    """Step after step, each chosen from what both hosts say then; errors are in the answer."""
    turned = Turned(turn, turn.pair)
    try:
        if turn.steps:
            replica_steps.refuse_late(hosts.target, turn.machine)
            # what an earlier run began comes to its end first, and may change what is next
            for tools, side in ((hosts.source, hosts.other), (hosts.target, hosts.side)):
                machine = side.machine(turn.machine.vm_id) if side is not None else None
                if tools is not None and machine is not None:
                    replica_steps.quiet(tools, machine)
            turned.pair = read_pair(hosts, turn.machine.vm_id)
        for _unused in range(_MOST_STEPS):
            step = replica_pair.next_step(turned.pair, turn.wish)
            if step is None:
                break
            if step not in turn.steps:  # what nobody has seen in the plan, nor checked for it
                raise HypervError(f"The states of {turn.machine.name!r} have changed since they were looked at: the next step would be "
                                  f"{step}.", error_code="pair_changed", hint="Run the task again.")
            _STEPS[step](hosts, turn, turned)
            if step != replica_pair.WAIT:
                turned.done.append(step)
            turned.pair = read_pair(hosts, turn.machine.vm_id)
    except HypervError as error:
        turned.error = replica_apply.with_issues(hosts.target.writer, turn.machine.vm_id, error)
        turned.error.details.setdefault("pair", pair_result(turned.pair))
        if replica_pair.SHUT_DOWN in turned.done and replica_pair.FAIL_OVER not in turned.done:
            turned.error.hint = (f"{error.hint or ''} The primary was shut down for this and is off: run the task again to go on, or with "
                                 "action: cancel, and start it there.").strip()
    return turned


def pair_result(pair: Pair) -> dict[str, Any]:
    """The ``pair`` of a result."""
    return {"source": None if pair.source is None else pair.source.as_result(), "target": pair.target.as_result()}


def _source(hosts: Hosts) -> Tools:
    if hosts.source is None:
        raise HypervError("Both hosts take part in this, and the task names no peer.", error_code="peer_needed")
    return hosts.source


def _in(tools: Tools, turn: Turn, *wanted: str) -> Callable[[], bool]:
    return partial(replica_apply.in_state, tools.writer, turn.machine.vm_id, frozenset(wanted))


def _idle(tools: Tools, turn: Turn) -> None:
    """Recovery points that went are merged first. Raises HypervError ``vm_busy``."""
    if not checkpoint_steps.idle(tools, turn.machine):
        raise HypervError(f"The host still works on {turn.machine.name!r}.", error_code="vm_busy",
                          hint="Run the task again when it is done.")


def _shut_down(hosts: Hosts, turn: Turn, turned: Turned) -> None:
    tools, deadline = _source(hosts), Deadline(hosts.target.clock, turn.shutdown_timeout)
    machine = (hosts.other.machine(turn.machine.vm_id) if hosts.other is not None else None) or turn.machine
    if turn.shutdown == "none":
        raise HypervError(f"The primary of {machine.name!r} is {turned.pair.source.power if turned.pair.source else 'on'}.",
                          error_code="primary_is_running", hint="Shut it down, or let shutdown do so.")
    if turn.shutdown == "turn_off":
        _idle(tools, turn)
        power.bring_to(tools.writer, machine, "off", clock=tools.clock, deadline=deadline, progress=tools.progress)
    else:
        power.shut_down_guest(tools.writer, machine, clock=tools.clock, deadline=deadline, progress=tools.progress)
    turned.evidence["primary_off"] = iso(tools.clock.utcnow())


def _prepare(hosts: Hosts, turn: Turn, turned: Turned) -> None:
    tools = _source(hosts)
    what = f"sending the last changes of {turn.machine.name!r}"
    replica_steps.achieve(tools, what, partial(
        service.request_state, tools.writer, turn.machine.reference, service.PREPARE_FAILOVER, what),
        _in(tools, turn, replica_pair.SYNCED), settle=max(60.0, tools.deadline.remaining()))
    last = replica_facts.read_relation(tools.writer, turn.machine.vm_id)
    turned.evidence.update({"last_changes_sent": iso(last.last_replicated) if last is not None else None, "lost_bytes": 0})


def _fail_over(hosts: Hosts, turn: Turn, turned: Turned) -> None:
    tools = hosts.target
    _idle(tools, turn)
    relation = replica_facts.read_relation(tools.writer, turn.machine.vm_id)
    if turn.wish.action == replica_pair.UNPLANNED and relation is not None and relation.last_replicated is not None:
        turned.evidence["last_replicated"] = iso(relation.last_replicated)
    replica_steps.achieve(tools, f"failing {turn.machine.name!r} over", partial(
        service.fail_over, tools.writer, turn.machine.reference, turn.point), _in(tools, turn, replica_pair.RECOVERED))


def _turn(hosts: Hosts, turn: Turn, turned: Turned) -> None:
    tools = hosts.target
    if turn.back is None:
        raise HypervError("Where to reverse the replication to is not known.", error_code="peer_needed")
    _idle(tools, turn)

    def turned_round() -> bool:
        end = read_end(tools.writer, turn.machine.vm_id)
        return end.mode == "primary" and end.state not in (replica_pair.RECOVERED, replica_pair.COMMITTED, NONE)

    replica_steps.achieve(tools, f"reversing the replication of {turn.machine.name!r}", partial(
        service.reverse, tools.writer, turn.machine.reference, _reversed_settings(hosts.side, turn.machine.vm_id, turn.back)), turned_round)
    if hosts.source is not None and not replica_steps.until(
            hosts.source, lambda: read_end(_source(hosts).writer, turn.machine.vm_id).mode == "replica", 60.0):
        raise HypervError(f"{turn.back.server} has not become the replica of {turn.machine.name!r}.", error_code="not_reached",
                          hint="Look at both hosts with hyperv_replica_info.")


def _reversed_settings(side: Side, vm_id: str, back: Target) -> EmbeddedText:
    row = replica_settings.of_machine(side.settings, vm_id)
    shown = {name: value for name, value in side.shown(vm_id).items() if name in _KEPT and value is not None}
    wanted = {**shown, "server": back.server, "port": back.port, "authentication": back.authentication}
    if back.thumbprint:
        wanted["certificate_thumbprint"] = back.thumbprint
    values = rows.properties(rows.differences(replica_settings.ROWS, {}, wanted, side.system.build))
    key = {} if row is None else {"InstanceID": row.required_text("InstanceID")}
    return facts.embedded(service.SETTINGS, {**key, **values})


def _start(hosts: Hosts, turn: Turn, turned: Turned) -> None:
    tools = hosts.target
    _idle(tools, turn)
    power.bring_to(tools.writer, turn.machine, "running", clock=tools.clock, deadline=Deadline(tools.clock, 300.0), progress=tools.progress)
    turned.evidence["started"] = iso(tools.clock.utcnow())


def _commit(hosts: Hosts, turn: Turn, turned: Turned) -> None:
    replica_steps.achieve(hosts.target, f"committing the failover of {turn.machine.name!r}", partial(
        service.commit_failover, hosts.target.writer, turn.machine.reference), _in(hosts.target, turn, replica_pair.COMMITTED))


def _turn_off(hosts: Hosts, turn: Turn, turned: Turned) -> None:
    tools = hosts.target
    _idle(tools, turn)
    power.bring_to(tools.writer, turn.machine, "off", clock=tools.clock, deadline=Deadline(tools.clock, 300.0), progress=tools.progress)


def _revert(hosts: Hosts, turn: Turn, turned: Turned) -> None:
    _idle(hosts.target, turn)
    replica_steps.achieve(hosts.target, f"taking the failover of {turn.machine.name!r} back", partial(
        service.revert_failover, hosts.target.writer, turn.machine.reference),
        lambda: read_end(hosts.target.writer, turn.machine.vm_id).state not in (replica_pair.RECOVERED, "failover_in_progress"))


def _unprepare(hosts: Hosts, turn: Turn, turned: Turned) -> None:
    tools = _source(hosts)
    what = f"letting {turn.machine.name!r} replicate again"
    replica_steps.achieve(tools, what, partial(
        service.request_state, tools.writer, turn.machine.reference, service.RESUME, what), _in(tools, turn, replica_pair.REPLICATING))


def _wait(hosts: Hosts, turn: Turn, turned: Turned) -> None:
    tools = hosts.target
    if not replica_steps.until(tools, _in(tools, turn, replica_pair.RECOVERED, replica_pair.COMMITTED, replica_pair.REPLICATING),
                               tools.deadline.remaining()):
        raise HypervError(f"The failover of {turn.machine.name!r} does not come to its end.", error_code="timeout",
                          hint="Run the task again to go on from where it is.")


_STEPS: Mapping[str, Callable[[Hosts, Turn, Turned], None]] = {
    replica_pair.SHUT_DOWN: _shut_down, replica_pair.PREPARE: _prepare, replica_pair.FAIL_OVER: _fail_over, replica_pair.TURN: _turn,
    replica_pair.START: _start, replica_pair.DO_COMMIT: _commit, replica_pair.TURN_OFF: _turn_off, replica_pair.REVERT: _revert,
    replica_pair.UNPREPARE: _unprepare, replica_pair.WAIT: _wait,
}


def with_writer(tools: Tools, writer: CimWriter) -> Tools:
    """The same tools for another host."""
    return replace(tools, writer=writer)
