# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test failovers: a machine of a recovery point, isolated, started, heard, and removed again; the evidence stays (operations 7.6)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.wql import select
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import adapters, integration, machines, power
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replication_service as service
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import JobTimedOut
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_choice,
    checkpoint_steps,
    replica_apply,
    replica_facts,
    replica_failover,
    replica_steps,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_choice import Choice
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_facts import REPLICA_MODES, Side
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vm_result import iso
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import replica_marks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import system

TEST, END_TEST = "test", "end_test"
_DEPENDENCY = "Msvm_ReplicaSystemDependency"
_MERGE_BEGINS = 10.0
_REMOVE = "Stop-VMFailover on the replica server, or hyperv_replica_failover with action: end_test and remove_foreign_test"


@dataclass(frozen=True)
class Drill:
    """One replica to be tested. ``old``: the test machine that is there already and goes first; None when there is none."""

    machine: Machine
    point: Checkpoint | None
    old: Machine | None


@dataclass
class Drilled:
    """What became of it."""

    drill: Drill
    done: list[str] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    leftovers: list[Leftover] = field(default_factory=list)
    error: HypervError | None = None


@dataclass(frozen=True)
class Prepared:
    """Everything that was read and decided before anything is written."""

    side: Side
    choice: Choice
    drills: tuple[Drill, ...]
    refused: tuple[tuple[Machine, HypervError], ...]
    switch: tuple[str, Reference] | None


def run(call: Call) -> dict[str, Any]:
    """The result of the task; ``failed`` is set when it failed for any machine."""
    prepared = prepare(call)

    def apply(writer: CimWriter) -> dict[str, Any]:
        tools = Tools(writer, call.clock, call.progress, Deadline(call.clock, call.params["timeout"]))
        return _result(call, prepared, [_carry_out(call, tools, prepared, drill) for drill in prepared.drills])

    return call.conclude(_plan(call, prepared), apply)


def prepare(call: Call) -> Prepared:
    """Read the host and decide; seven requests. Raises HypervError for what concerns the whole task."""
    side = replica_facts.read(call.reader, call.clock)
    tests = read_tests(call.reader)
    switch = adapters.read_switch(call.reader, call.params["test_switch"]) if call.params["test_switch"] else None
    choice = replica_failover.choose(side, call.params)
    drills, refused = [], []
    for machine in choice.machines:
        try:
            drills.append(_decide(call, side, machine, tests))
        except HypervError as error:
            refused.append((machine, error))
    if choice.single and refused:
        raise refused[0][1]
    return Prepared(side, choice, tuple(drills), tuple(refused), switch)


def read_tests(reader: CimReader) -> Mapping[str, str]:
    """The GUIDs of test machines by those of their replicas; one request. Either end may be named first."""
    found: dict[str, str] = {}
    for row in reader.enumerate(NAMESPACE, _DEPENDENCY):
        ends = [as_guid(one.key("Name")) for one in (row.reference("Antecedent"), row.reference("Dependent")) if one is not None]
        if len(ends) == 2 and ends[0] and ends[1]:
            found[ends[0]], found[ends[1]] = ends[1], ends[0]
    return found


def _decide(call: Call, side: Side, machine: Machine, tests: Mapping[str, str]) -> Drill:
    if machine.replication_mode not in REPLICA_MODES:
        raise HypervError(f"{machine.name!r} is no replica on this host (mode {machine.replication_mode}).", error_code="not_a_replica",
                          hint="Run the test on the replica server.")
    old = side.machine(tests.get(machine.vm_id, ""))
    if old is not None and old.replication_mode != "test_replica":
        old = None  # the other end of something else
    if old is not None and not call.params["remove_foreign_test"] and not _ours(old, machine):
        raise HypervError(f"{machine.name!r} is being tested already by {old.name!r}, which is not ours.", error_code="test_exists",
                          hint="Somebody may be using it. remove_foreign_test: true removes it.", leftovers=(_leftover(old),))
    if call.params["action"] == END_TEST:
        return Drill(machine, None, old)
    state = side.state(machine.vm_id)
    if state in ("initial_replication", "recovered", "committed", "failover_in_progress"):
        raise HypervError(f"{machine.name!r} cannot be tested in the state {state}.", error_code="pair_not_ready",
                          hint="A test needs a complete copy that is not failed over.", details={"state": state})
    return Drill(machine, replica_failover.find_point(side, machine, call.params["recovery_point"]), old)


def _ours(test: Machine, replica: Machine) -> bool:
    """By its own mark; one that was not marked yet by what its replica announces."""
    if test.settings is None:
        return False
    return replica_marks.is_ours(test.settings.notes, replica.vm_id, test.vm_id) or replica_marks.came_of(
        replica.settings.notes if replica.settings else None, replica.vm_id, test.settings.created)


def _leftover(test: Machine) -> Leftover:
    return Leftover("test_machine", test.vm_id, test.name, _REMOVE)


def _plan(call: Call, prepared: Prepared) -> Plan:
    steps = []
    for drill in prepared.drills:
        if drill.old is not None:
            steps.append(Step("remove_test", drill.machine.name, {"test": drill.old.name}))
        if call.params["action"] == TEST:
            steps.append(Step("test", drill.machine.name, {"point": drill.point.name if drill.point else "latest"}))
    return Plan(tuple(steps), {}, {}, _result(call, prepared, [Drilled(drill, _foreseen(call, drill)) for drill in prepared.drills]))


def _foreseen(call: Call, drill: Drill) -> list[str]:
    old = ["remove_test"] if drill.old is not None else []
    return old if call.params["action"] == END_TEST else [*old, "make_test", *([] if call.params["keep_test"] else ["remove_test"])]


# -- apply ---------------------------------------------------------------------------------------------------------------


def _carry_out(call: Call, tools: Tools, prepared: Prepared, drill: Drill) -> Drilled:
    drilled = Drilled(drill)
    try:
        replica_steps.refuse_late(tools, drill.machine)
        if drill.old is not None:
            _remove(tools, drill.machine, drill.old)
            drilled.done.append("remove_test")
        if drill.machine.settings is not None and replica_marks.is_announced(drill.machine.settings.notes):
            _withdraw(tools, drill.machine)  # of a run that died
        if call.params["action"] == TEST:
            _test(call, tools, prepared, drill, drilled)
    except HypervError as error:
        drilled.error = error
    return drilled


def _test(call: Call, tools: Tools, prepared: Prepared, drill: Drill, drilled: Drilled) -> None:
    """Whatever becomes of the test, its machine goes, or is told; with keep_test it stays when all is well."""
    try:
        test = _make(call, tools, drill)
    except (OutcomeUnknown, JobTimedOut):
        raise  # it may come yet, so the announcement stays
    except HypervError:
        _withdraw_if_possible(tools, drill.machine)
        raise
    drilled.done.append("make_test")
    drilled.evidence.update({
        "test_vm": checkpoint_choice.label(test), "begun": iso(call.clock.utcnow()), "heartbeat": None, "isolated": False,
        "point": {"id": drill.point.checkpoint_id, "created": iso(drill.point.created)} if drill.point else None})
    well = False
    try:
        _mark(tools, drill.machine, test)
        _withdraw(tools, drill.machine)
        _isolate(tools, test, prepared.switch)
        drilled.evidence["isolated"] = True
        _boot(call, tools, test, drilled)
        well = True
    finally:
        problem = None
        if well and call.params["keep_test"]:
            drilled.leftovers.append(_leftover(test))
        else:
            problem = _end(tools, drill.machine, test, drilled)
    if problem is not None:
        raise problem
    drilled.evidence["ended"] = iso(call.clock.utcnow())


def _end(tools: Tools, replica: Machine, test: Machine, drilled: Drilled) -> HypervError | None:
    """Remove the test machine; why that failed. It is then told as left over, whatever else has to be told."""
    try:
        _remove(tools, replica, test)
        drilled.done.append("remove_test")
    except HypervError as error:
        drilled.leftovers.append(_leftover(test))
        tools.progress(f"{replica.name}: the test machine could not be removed: {error.message}")
        return error
    return None


def _find(tools: Tools, replica: Machine) -> Machine | None:
    """The test machine of a replica as it is now."""
    test_id = read_tests(tools.writer).get(replica.vm_id)
    if test_id is None:
        return None
    found = next((one for one in machines.read_machines(tools.writer).machines if one.vm_id == test_id), None)
    return found if found is not None and found.replication_mode == "test_replica" else None


def _make(call: Call, tools: Tools, drill: Drill) -> Machine:
    """A merge may begin at any moment, since recovery points come and go: then the host is asked again (operations 0.8).

    The announcement is made last, when there is nothing to wait for any more: so a test that somebody else makes later is not taken for it.
    """
    what = f"making a test machine of {drill.machine.name!r}"
    for last in (False, False, True):
        if not checkpoint_steps.idle(tools, drill.machine):
            raise HypervError(f"The host still works on {drill.machine.name!r}.", error_code="vm_busy", hint="Run the task again later.")
        if drill.machine.vm_id in read_tests(tools.writer):
            raise HypervError(f"Somebody tests {drill.machine.name!r} meanwhile.", error_code="test_exists",
                              hint="Run the task again when they have done.")
        _announce(call, tools, drill.machine)
        try:
            replica_steps.achieve(tools, what, partial(
                service.begin_test, tools.writer, drill.machine.reference, drill.point.reference if drill.point else None),
                lambda: _find(tools, drill.machine) is not None)
            break
        except HypervError as error:
            if last or error.return_value != service.INVALID_STATE:
                raise
            tools.clock.sleep(_MERGE_BEGINS)
    test = _find(tools, drill.machine)
    if test is None:
        raise HypervError(f"The test machine of {drill.machine.name!r} is gone again.", error_code="not_reached")
    return test


def _mark(tools: Tools, replica: Machine, test: Machine) -> None:
    settings = replica_steps.settings_of(test)
    notes = replica_marks.stamped(settings.notes, replica.vm_id, test.vm_id)
    checkpoint_steps.change(
        tools, settings.reference, {"Notes": (notes,)},
        lambda row: replica_marks.is_ours("\n".join(row.texts("Notes")), replica.vm_id, test.vm_id), f"marking {test.name!r} as ours")


def _announce(call: Call, tools: Tools, replica: Machine) -> None:
    """Say on the replica that its test machine will be ours: until that is marked nothing else tells. There is none now."""
    now = system.read_system(tools.writer, call.clock).local_time.replace(microsecond=0)
    replica_steps.change_notes(tools, replica, lambda notes: replica_marks.announced(notes, replica.vm_id, now), "announcing a test of")


def _withdraw(tools: Tools, replica: Machine) -> None:
    replica_steps.change_notes(tools, replica, replica_marks.withdrawn, "withdrawing the announcement of a test of")


def _withdraw_if_possible(tools: Tools, replica: Machine) -> None:
    """After an error that has to be told first. What was made all the same is announced until the next run has removed it."""
    try:
        if _find(tools, replica) is None:
            _withdraw(tools, replica)
    except HypervError as error:
        tools.progress(f"{replica.name}: its notes still announce a test: {error.message}")


def _isolate(tools: Tools, test: Machine, switch: tuple[str, Reference] | None) -> None:
    """Connected to the switch for tests, or to nothing. Raises HypervError ``test_not_isolated``."""
    wanted = None if switch is None else switch[0]
    for adapter in adapters.read(tools.writer, test.vm_id):
        if adapter.switch_id != wanted:
            checkpoint_steps.wait(tools, adapters.connect(tools.writer, adapter, None if switch is None else switch[1]),
                                  f"isolating {test.name!r}")
    wrong = [one for one in adapters.read(tools.writer, test.vm_id) if one.switch_id != wanted]
    if wrong:
        raise HypervError(f"A network adapter of {test.name!r} is not where it should be, so it was not started.",
                          error_code="test_not_isolated", hint="Two machines of one address in one network would disturb the real one.")


def _boot(call: Call, tools: Tools, test: Machine, drilled: Drilled) -> None:
    begun = call.clock.monotonic()
    power.bring_to(tools.writer, test, "running", clock=tools.clock, deadline=Deadline(tools.clock, 300.0), progress=tools.progress)
    timeout = call.params["heartbeat_timeout"]
    if timeout == 0:
        return
    if not replica_steps.until(tools, lambda: _heartbeat(tools.writer, test.vm_id) == "ok", timeout):
        seen = _heartbeat(tools.writer, test.vm_id)
        drilled.evidence["heartbeat"] = seen
        raise HypervError(f"The guest of the test of {drilled.drill.machine.name!r} gave no heartbeat within {timeout} s "
                          f"(the host says: {seen or 'nothing'}).", error_code="no_heartbeat",
                          hint="Try an application-consistent point; a guest without integration services never gives one.")
    drilled.evidence.update({"heartbeat": "ok", "seconds_to_heartbeat": round(call.clock.monotonic() - begun, 1)})


def _heartbeat(reader: CimReader, vm_id: str) -> str | None:
    rows = reader.query(select(NAMESPACE, "Msvm_HeartbeatComponent", {"SystemName": vm_id}))
    found = integration.services(rows, ()).get(vm_id)
    return None if found is None else found.status


def _remove(tools: Tools, replica: Machine, test: Machine) -> None:
    """Turn the test machine off and delete it. It is looked at once more: nothing but a test of this replica is deleted."""
    now = _find(tools, replica)
    if now is None:
        return
    if now.vm_id != test.vm_id:
        raise HypervError(f"{replica.name!r} has another test machine meanwhile: {now.name!r}.", error_code="test_exists")
    own = replace(tools, deadline=Deadline(tools.clock, max(300.0, tools.deadline.remaining())))
    power.bring_to(own.writer, now, "off", clock=own.clock, deadline=own.deadline, progress=own.progress)
    replica_apply.destroy(own, now)


def _result(call: Call, prepared: Prepared, drilled: Sequence[Drilled]) -> dict[str, Any]:
    entries = []
    for one in drilled:
        entry: dict[str, Any] = {
            "vm": checkpoint_choice.label(one.drill.machine), "changed": bool(one.done), "failed": one.error is not None,
            "action": call.params["action"], "steps": one.done, "evidence": one.evidence,
            "leftovers": [left.as_result() for left in one.leftovers]}
        if one.error is not None:
            entry.update({"msg": one.error.message, **one.error.as_result()})
            entry["leftovers"] = [*(left.as_result() for left in one.error.leftovers), *(left.as_result() for left in one.leftovers)]
        entries.append(entry)
    entries += [checkpoint_choice.failed_entry(machine, error) for machine, error in prepared.refused]
    return checkpoint_choice.result(prepared.choice, entries, {})
