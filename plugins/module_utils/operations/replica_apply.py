# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the steps of one relation, each seen to be done, and waits for first copies (operations 7.3, 7.4)."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import facts, rows
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import EmbeddedText, Instance, PropertyValue, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, NotFound
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import jobs, replica_settings, summary
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replication_service as service
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import JobFailed
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replica_server import Authorization
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replication import Relation
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_facts, replica_plan, replica_steps
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_states as states
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_facts import Side
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_plan import EXISTING, MEDIA, MODIFY, Asked, Target, Work

_COPY_JOBS = (94, 107, 116, 117, 118, 121)
_LONGEST_PAUSE = 30.0
_REPLICA = 2
_INVALID_PARAMETER, _BAD_PARAMETER = 32773, 0x80070057
_GONE_WRONG = ("critical", "waiting_for_resynchronization", "suspended", "resynchronization_suspended", "disk_update_critical")


@dataclass
class Done:
    """What became of one machine. ``done``: the steps that the host has shown to be done. ``arrived``: when the last change had arrived
    before."""

    work: Work
    done: list[str] = field(default_factory=list)
    error: HypervError | None = None
    leftovers: list[Leftover] = field(default_factory=list)
    arrived: datetime | None = None


def test_connection(reader: CimReader, target: Target, clock: Clock, progress: Callable[[str], None]) -> None:
    """Have the host reach the replica server; it changes nothing. Raises HypervError ``connection_test_failed``."""
    what = f"reaching {target.server}:{target.port}"
    try:
        job = service.test_connection(reader, target.server, target.port, replica_settings.NUMBERS[target.authentication],
                                      rows.thumbprint(target.thumbprint), target.bypass_proxy)
        if job is not None:
            jobs.wait(reader, job, what=what, clock=clock, deadline=Deadline(clock, 120.0), progress=progress)
    except JobFailed as error:
        raise _unreachable(target, error.message, error) from error
    except HypervError as error:
        if error.error_code != "replication_refused":
            raise
        raise _unreachable(target, error.message, error) from error


def _unreachable(target: Target, reason: str, error: HypervError) -> HypervError:
    return HypervError(
        f"The host cannot replicate to {target.server}, port {target.port}: {reason}", error_code="connection_test_failed",
        return_value=error.return_value, hresult=error.hresult,
        hint="Is it a replica server with this listener, is its firewall open, does it let this host send, and do both trust each "
             "other's certificates or domain? hyperv_replica_server sees to all of that there.")


def carry_out(tools: Tools, side: Side, work: Work, asked: Asked) -> Done:
    """Every step but the waiting; errors are in the answer."""
    before = side.relation(work.machine.vm_id)
    done = Done(work, arrived=None if before is None else before.last_replicated)
    try:
        if work.writes:
            replica_steps.quiet(tools, work.machine)
        for step in work.steps:
            if step != states.WAIT:
                _STEPS[step](tools, side, work, asked)
                done.done.append(step)
        if states.RESUME in done.done or work.disks is not None:
            _go_on(tools, side, work, asked, done)
    except HypervError as error:
        done.error = with_issues(tools.writer, work.machine.vm_id, error)
    return done


def _go_on(tools: Tools, side: Side, work: Work, asked: Asked, done: Done) -> None:
    """Where a relation goes that is resumed, or gets another disk, only the host knows: it may have to be resynchronised."""
    relation = replica_facts.read_relation(tools.writer, work.machine.vm_id)
    step = states.next_step(states.NONE if relation is None else relation.state, asked.goal)
    if step != states.RESYNC:
        return
    if not asked.allow_resync:
        raise replica_plan.resync_required(work.machine)
    _resync(tools, side, work, asked)
    done.done.append(step)


def needs_waiting(done: Done, asked: Asked) -> bool:
    """Whether a copy, a resynchronisation or a change of disks may be under way."""
    return done.error is None and asked.goal == states.REPLICATING and asked.waits and (
        states.WAIT in done.work.steps or bool({states.RESUME, states.RESYNC, MODIFY}.intersection(done.done)))


def with_issues(reader: CimReader, vm_id: str, error: HypervError) -> HypervError:
    """The error with what the host itself says is wrong with the relation, where it says anything."""
    try:
        relation = replica_facts.read_relation(reader, vm_id)
        found = replica_facts.read_statistics(reader, vm_id, relation) if relation is not None else None
    except HypervError:
        return error  # the first error is what has to be told
    if found is not None and found.issues:
        error.details["health_issues"] = list(found.issues)
    return error


def in_state(reader: CimReader, vm_id: str, wanted: frozenset[str]) -> bool:
    """Whether the relation of a machine is in one of these states now; one request."""
    relation = replica_facts.read_relation(reader, vm_id)
    return (states.NONE if relation is None else relation.state) in wanted


def _reach(tools: Tools, work: Work, step: str, what: str, begin: Callable[[], Reference | None]) -> None:
    reached = partial(in_state, tools.writer, work.machine.vm_id, states.LEADS_TO[step])
    replica_steps.achieve(tools, f"{what} of {work.machine.name!r}", begin, reached)


def _create(tools: Tools, side: Side, work: Work, asked: Asked) -> None:
    """Where the host has not shown how it names disks, the forms are tried; one that it does not understand makes nothing (F-44)."""
    candidates = replica_settings.forms(side.settings)
    for form in candidates:
        settings = _settings(side, work, rows.properties(work.changes), form)
        try:
            _reach(tools, work, states.CREATE, "making the replication", partial(
                service.create_relation, tools.writer, work.machine.reference, settings))
        except HypervError as error:
            bad_disks = error.return_value == _INVALID_PARAMETER or error.hresult == _BAD_PARAMETER
            if form != candidates[-1] and bad_disks and replica_facts.read_relation(tools.writer, work.machine.vm_id) is None:
                continue
            raise
        return


def _copy(tools: Tools, side: Side, work: Work, asked: Asked) -> None:
    how = {EXISTING: service.EXISTING, MEDIA: service.MEDIA}.get(asked.copy, service.NETWORK)
    _reach(tools, work, states.COPY, "beginning the first copy", partial(
        service.start_copy, tools.writer, work.machine.reference, how, asked.media, asked.copy_at))


def _import(tools: Tools, side: Side, work: Work, asked: Asked) -> None:
    """The primary has to send what has changed since, so that it takes a cycle or two until the replica is one."""
    frequency = side.shown(work.machine.vm_id).get("frequency") or 300
    replica_steps.achieve(tools, f"taking in the first copy of {work.machine.name!r}", partial(
        service.import_copy, tools.writer, work.machine.reference, asked.arrived or ""),
        partial(in_state, tools.writer, work.machine.vm_id, states.LEADS_TO[states.IMPORT]), settle=60.0 + 3 * int(frequency))


def _modify(tools: Tools, side: Side, work: Work, asked: Asked) -> None:
    writer = tools.writer
    row = replica_settings.of_machine(side.settings, work.machine.vm_id)
    if row is None:
        raise HypervError(f"The host does not show the settings of {work.machine.name!r}.", error_code="unreadable_answer")
    reference = Reference(NAMESPACE, service.SETTINGS, {"InstanceID": row.required_text("InstanceID")})
    wanted = {change.row.option: change.after for change in work.changes}

    def is_so() -> bool:
        now = writer.get(reference)
        shown = rows.shown(replica_settings.ROWS, now, side.system.build)
        return not rows.differences(replica_settings.ROWS, shown, wanted, side.system.build) and _disks_are(now, work)

    settings = _settings(side, work, rows.properties(work.changes), replica_settings.forms(side.settings)[0])
    replica_steps.achieve(tools, f"changing the replication settings of {work.machine.name!r}", partial(
        service.modify_relation, writer, work.machine.reference, settings), is_so)


def _disks_are(row: Instance, work: Work) -> bool:
    if work.disks is None:
        return True
    every = {disk.instance_id: disk for disk in (*work.disks, *work.disks_before)}
    return {disk.instance_id for disk in replica_settings.included(row, every.values())} == {disk.instance_id for disk in work.disks}


def _settings(side: Side, work: Work, values: Mapping[str, PropertyValue], form: str) -> EmbeddedText:
    """The embedded instance: the key where there is one, and what changes (wire 3.3). ``form``: of the disks."""
    row = replica_settings.of_machine(side.settings, work.machine.vm_id)
    found: dict[str, PropertyValue] = {} if row is None else {"InstanceID": row.required_text("InstanceID")}
    found.update(values)
    if work.disks is not None:
        found["IncludedDisks"] = tuple(replica_settings.disk_entry(disk, form) for disk in work.disks)
    return facts.embedded(service.SETTINGS, found)


def _resume(tools: Tools, side: Side, work: Work, asked: Asked) -> None:
    _request(tools, work, states.RESUME, "resuming the replication", service.RESUME)


def _pause(tools: Tools, side: Side, work: Work, asked: Asked) -> None:
    _request(tools, work, states.PAUSE, "pausing the replication", service.PAUSE)


def _request(tools: Tools, work: Work, step: str, what: str, state: int) -> None:
    _reach(tools, work, step, what, partial(service.request_state, tools.writer, work.machine.reference, state,
                                            f"{what[0].upper()}{what[1:]} of {work.machine.name!r}"))


def make_replica(tools: Tools, machine: Machine, entry: Authorization) -> None:
    """On the replica server: a copy that is there already becomes a replica. Raises as ``replica_steps.achieve``."""
    def is_replica() -> bool:
        return tools.writer.get(machine.reference).integer("ReplicationMode") == _REPLICA

    if not is_replica():
        replica_steps.achieve(tools, f"making {machine.name!r} a replica of the copy that is there", partial(
            service.make_replica, tools.writer, machine.reference, entry.instance_id, entry.primary), is_replica)


def _resync(tools: Tools, side: Side, work: Work, asked: Asked) -> None:
    _reach(tools, work, states.RESYNC, "resynchronising", partial(service.resynchronize, tools.writer, work.machine.reference, None))


def _remove(tools: Tools, side: Side, work: Work, asked: Asked) -> None:
    remove(tools, work.machine, side)


def remove(tools: Tools, machine: Machine, side: Side) -> None:
    """End the relations of a machine on one host, the extended one first. Raises as ``replica_steps.achieve``."""
    for relation in reversed(side.relations.get(machine.vm_id, ())):
        gone = partial(_extended_gone, tools.writer, machine.vm_id) if relation.extended else partial(
            in_state, tools.writer, machine.vm_id, states.LEADS_TO[states.REMOVE])
        replica_steps.achieve(tools, f"removing the replication of {machine.name!r} from {side.name}", partial(
            service.remove_relation, tools.writer, machine.reference, relation.instance_id), gone)


def _extended_gone(writer: CimWriter, vm_id: str) -> bool:
    reference = Reference(NAMESPACE, service.RELATION, {"InstanceID": f"Microsoft:{vm_id}\\HVR\\1"})
    try:
        return (writer.get(reference).integer("ReplicationState") or 0) == 0
    except NotFound:
        return True


def destroy(tools: Tools, machine: Machine) -> None:
    """Delete a machine that was a replica; its disks stay. Raises as ``replica_steps.achieve``."""
    def gone() -> bool:
        try:
            tools.writer.get(machine.reference)
        except NotFound:
            return True
        return False

    replica_steps.achieve(tools, f"deleting the replica {machine.name!r}", partial(
        service.begin, tools.writer, "DestroySystem", {"AffectedSystem": machine.reference}, f"Deleting the replica {machine.name!r}",
        target=summary.MANAGEMENT_SERVICE), gone)


_STEPS: Mapping[str, Callable[[Tools, Side, Work, Asked], None]] = {
    states.CREATE: _create, states.COPY: _copy, MODIFY: _modify, states.RESUME: _resume, states.PAUSE: _pause, states.RESYNC: _resync,
    states.REMOVE: _remove, states.IMPORT: _import,
}


# -- waiting -------------------------------------------------------------------------------------------------------------


def wait(reader: CimReader, clock: Clock, waiting: Sequence[Done], *, deadline: Deadline, poll: float,
         progress: Callable[[str], None]) -> None:
    """Wait until every one of these replicates, all at once; what goes wrong is told in each. The end of a job says nothing (7.3)."""
    left, told = list(waiting), dict[str, int]()
    pause = poll
    while True:
        found = replica_facts.read_relations_of(reader, [one.work.machine.vm_id for one in left])
        left = [one for one in left if not _settled(reader, one, found.get(one.work.machine.vm_id))]
        if not left:
            return
        if deadline.expired():
            for one in left:
                one.error = HypervError(
                    f"{one.work.machine.name!r} does not replicate yet: it is being copied, and the time for the task is over.",
                    error_code="timeout", hint="The copy goes on by itself. Run the same task again to wait for it, or raise timeout.")
            return
        _tell(reader, left, told, progress)
        clock.sleep(min(pause, max(deadline.remaining(), 0.1)))
        pause = min(pause * 1.5, max(poll, _LONGEST_PAUSE))


def _settled(reader: CimReader, one: Done, relation: Relation | None) -> bool:
    state = states.NONE if relation is None else relation.state
    if state == "replicating" and relation is not None:
        if states.RESUME in one.done and relation.last_replicated == one.arrived:
            return False  # the host calls it so before it has tried: only a change that arrives shows that it is true
        one.done.append(states.WAIT)
        return True
    if state in _GONE_WRONG or state == states.NONE or state == "ready":
        one.error = with_issues(reader, one.work.machine.vm_id, HypervError(
            f"The copy of {one.work.machine.name!r} was interrupted: its state is {state}.", error_code="replication_interrupted",
            hint="health_issues has the reasons of the host. Run the same task again to go on when they are mended.",
            details={"state": state}))
        return True
    return False


def _tell(reader: CimReader, left: Sequence[Done], told: dict[str, int], progress: Callable[[str], None]) -> None:
    """A line for each ten percent of each copy."""
    wanted = [one.work.machine.settings.reference for one in left if one.work.machine.settings][:summary.BATCH]
    found = summary.read_summaries_of(reader, wanted) if wanted else {}
    for one in left:
        machine = one.work.machine
        jobs_of = found[machine.vm_id].jobs if machine.vm_id in found else ()
        percent = max((job.percent or 0 for job in jobs_of if job.job_type in _COPY_JOBS), default=0)
        if percent >= told.get(machine.vm_id, -10) + 10:
            told[machine.vm_id] = percent
            progress(f"{machine.name}: copying to the replica server, {percent} %")


def result_of(done: Done) -> dict[str, Any]:
    """The part of an entry that says how it went."""
    entry: dict[str, Any] = {"changed": any(step != states.WAIT for step in done.done), "failed": done.error is not None,
                             "steps": [step for step in done.done if step != states.WAIT],
                             "leftovers": [one.as_result() for one in done.leftovers]}
    if done.error is not None:
        entry.update({"msg": done.error.message, **done.error.as_result()})
        entry["leftovers"] = [*(one.as_result() for one in done.error.leftovers), *(one.as_result() for one in done.leftovers)]
    return entry
