# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failover of replicas: begun, taken back, made final, and replication the other way round (operations 7.4, 7.6)."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.cim.errors import ProviderRefusal
from simulator.cim.model import Ref
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.hyperv import chains
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.model import Checkpoint, Machine, Relation
from simulator.hyperv.provider import configuration_of
from simulator.hyperv.replica.common import FAILED, INVALID_PARAMETER, INVALID_STATE, embedded
from simulator.hyperv.replica.network import ACCESS_DENIED, UNKNOWN_MACHINE, Unreachable, entry_for
from simulator.hyperv.replica.receiver import POINTS, WRONG_STATE, points
from simulator.hyperv.replica.settings import CLASS, changed
from simulator.hyperv.replica.state import (
    APPLICATION,
    COMMITTED,
    CRITICAL,
    FAILED_OVER,
    FAILING_OVER,
    INITIAL,
    PAUSED,
    PLANNED,
    PREPARED,
    READY,
    REGULAR,
    REPLICATING,
    RESYNC_REQUIRED,
    Inbound,
    RelationSettings,
)

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

FAILOVER_JOB, REVERT_JOB, COMMIT_JOB, CANCEL_SYNC_JOB, REVERSE_JOB = 97, 98, 99, 101, 104
FAILOVER_PIN = "failover"
"""Whose files are those that a failover would be taken back to."""
USABLE = frozenset({REPLICATING, PAUSED, CRITICAL, RESYNC_REQUIRED})
"""States in which a replica can become the machine, or be tested."""
_TYPES = {"replica": REGULAR, "replica_application": APPLICATION, "replica_planned": PLANNED}


def receiving(machine: Machine) -> Relation:
    """The relation through which a machine is a replica. ProviderRefusal 32775: it is none."""
    relation = next((r for r in machine.relations if r.inbound is not None), None)
    if relation is None or machine.replication_mode not in (2, 4):
        raise ProviderRefusal(INVALID_STATE, "the virtual machine is no replica")
    return relation


def chosen_point(role: HyperV, call: Invocation, machine: Machine) -> Checkpoint | None:
    """The recovery point of a call, None for the newest state. ProviderRefusal 32773: it is no recovery point of the machine."""
    ref = call["SnapshotSettingData"]
    if ref is None:
        return None
    found = configuration_of(role, ref, call.caller) if isinstance(ref, Ref) else None
    if found is None or found.machine is not machine or found.checkpoint is None or found.checkpoint.kind not in POINTS:
        raise ProviderRefusal(INVALID_PARAMETER, "no recovery point of the virtual machine")
    return found.checkpoint


def check_usable(role: HyperV, machine: Machine, relation: Relation) -> None:
    """ProviderRefusal 32775 unless the replica is complete, nothing is done to it, and no test hangs on it."""
    busy = machine.busy is not None or machine.state != "off" or role.merges.is_running(machine)
    if relation.state not in USABLE or relation.last_time is None or machine.pins or busy:
        raise ProviderRefusal(INVALID_STATE, "the replica is not in a state for this")


class Failovers:
    """The methods of one host."""

    def __init__(self, role: HyperV) -> None:
        self._role = role

    # -- failing over ----------------------------------------------------------------------------------------------

    def initiate(self, call: Invocation) -> MethodOutcome:
        """InitiateFailover: the replica becomes the machine of a recovery point, and can be started (states 12, 5)."""
        relations = self._role.replica.relations
        machine = relations.machine(call)
        relation = receiving(machine)
        check_usable(self._role, machine, relation)
        point = chosen_point(self._role, call, machine)
        before = relation.state
        relation.state = FAILING_OVER
        assert relation.inbound is not None
        relation.inbound.before = before

        def fail_over() -> None:
            if relation.state != FAILING_OVER:
                raise JobFailure(INVALID_STATE, "The replica is not in a state for a failover any more.")
            try:
                self._fail_over(machine, relation, point)
            except JobFailure:
                relation.state = before
                raise

        return relations.begin(call, machine, FAILOVER_JOB, fail_over, seconds=3.0, alone=True)

    def _fail_over(self, machine: Machine, relation: Relation, point: Checkpoint | None) -> None:
        if point is not None and machine.checkpoints.get(point.id) is not point:
            raise JobFailure(FAILED, "The recovery point does not exist any more.", hresult=0x80070490)
        if relation.inbound is not None and relation.inbound.waiting:
            self._role.replica.receiver.apply(machine, relation)
        if point is None:
            files = self._role.checkpoints.fork(machine)
            relation.failed_over = relation.last_type or REGULAR
        else:
            before = {disk.index: disk.leaf for disk in machine.disks if disk.leaf is not None}
            self._role.checkpoints.switch_to(machine, point.files)
            files = before
            relation.failed_over = _TYPES[point.kind]
        machine.pins[FAILOVER_PIN] = files
        assert relation.inbound is not None
        relation.inbound.parent = machine.current_parent
        if point is not None:
            machine.current_parent = point
        relation.state = FAILED_OVER
        machine.config_changed = self._role.clock.now()

    def revert(self, call: Invocation) -> MethodOutcome:
        """RevertFailover: the replica is a replica again; what was written meanwhile is lost. On a prepared primary by knob (D-23)."""
        relations = self._role.replica.relations
        machine = relations.machine(call)
        first = relations.first(machine)
        if first.inbound is None and first.state == PREPARED and self._role.replica.knobs.cancel_planned == "revert":
            return relations.begin(call, machine, CANCEL_SYNC_JOB, lambda: self._role.replica.requests.resume(machine, first))
        relation = receiving(machine)
        if relation.state != FAILED_OVER or machine.state != "off" or machine.busy is not None:
            raise ProviderRefusal(INVALID_STATE, "there is no failover that could be taken back now")

        def back() -> None:
            if relation.state != FAILED_OVER or machine.state != "off":
                raise JobFailure(INVALID_STATE, "The virtual machine was started meanwhile.")
            self._back(machine, relation)

        return relations.begin(call, machine, REVERT_JOB, back, seconds=2.0, alone=True)

    def _back(self, machine: Machine, relation: Relation) -> None:
        assert relation.inbound is not None
        before = chains.disposable(machine)
        files = machine.pins.pop(FAILOVER_PIN)
        for disk in machine.disks:
            disk.leaf = files.get(disk.index, disk.leaf)
        machine.current_parent = relation.inbound.parent
        relation.failed_over = 0
        relation.state = REPLICATING
        guest = self._role.guests.pop(machine.id, None)
        if guest is not None:
            guest.close()
        self._role.checkpoints.drop(machine, before)
        self._role.replica.receiver.apply(machine, relation)

    def commit(self, call: Invocation) -> MethodOutcome:
        """CommitFailover: final; every other recovery point goes."""
        relations = self._role.replica.relations
        machine = relations.machine(call)
        relation = receiving(machine)
        if relation.state != FAILED_OVER or machine.busy is not None:
            raise ProviderRefusal(INVALID_STATE, "there is no failover that could be committed now")

        def final() -> None:
            if relation.state != FAILED_OVER:
                raise JobFailure(INVALID_STATE, "There is no failover any more.")
            self._final(machine)
            relation.state = COMMITTED

        return relations.begin(call, machine, COMMIT_JOB, final, seconds=2.0, alone=True)

    def _final(self, machine: Machine) -> None:
        before = chains.disposable(machine)
        machine.pins.pop(FAILOVER_PIN, None)
        doomed = points(machine)
        if doomed:
            self._role.checkpoints.destroy(machine, doomed)
        self._role.checkpoints.drop(machine, before)

    # -- the other way round ---------------------------------------------------------------------------------------

    def reverse(self, call: Invocation) -> MethodOutcome:
        """ReverseReplicationRelationship: the replica that failed over sends to the host that was the primary (7.6)."""
        relations = self._role.replica.relations
        machine = relations.machine(call)
        relation = receiving(machine)
        if relation.state not in (FAILED_OVER, COMMITTED) or machine.busy not in (None, "merging") or len(machine.relations) > 1:
            raise ProviderRefusal(INVALID_STATE, "the virtual machine was not failed over")
        given = embedded(self._role, call, "ReplicationSettingData", CLASS)
        relations.check_identity(machine, given, relation.index)
        wanted = changed(relation.settings, given)

        def turn() -> None:
            if relation.state not in (FAILED_OVER, COMMITTED):
                raise JobFailure(INVALID_STATE, "The virtual machine is not failed over any more.")
            try:
                self._turn(machine, relation, wanted)
            except Unreachable as error:
                raise JobFailure(FAILED, error.message, hresult=error.hresult) from error

        return relations.begin(call, machine, REVERSE_JOB, turn, seconds=5.0, alone=True)

    def _turn(self, machine: Machine, relation: Relation, wanted: RelationSettings) -> None:
        role, inbound = self._role, relation.inbound
        assert inbound is not None
        server = role.replica.network.connect(role, wanted)
        there = {own: index for index, own in inbound.disks.items()}
        other, theirs = server.replica.failovers.become_replica(role, machine.id, there)
        planned = relation.failed_over == PLANNED
        self._final(machine)
        settings = replace(wanted, included=tuple(sorted(there)), recovery_host=server.host.fqdn, primary_point=role.host.fqdn,
                           primary_host=role.host.fqdn)
        relation.inbound = None
        relation.settings = settings
        relation.failed_over = 0
        theirs.settings = replace(settings, included=tuple(sorted(there.values())))
        machine.replication_mode = 1
        sender = role.replica.sender(machine, relation)
        assert sender is not None
        if planned or self._role.replica.knobs.reverse_unplanned == "replicate":
            for own in there:
                sender.baseline.digests[own] = server.replica.receiver.digests(other, theirs, own)
            relation.state = theirs.state = REPLICATING
            relation.last_time = theirs.last_time = theirs.last_apply = role.clock.now()
            relation.last_type = theirs.last_type = REGULAR
            sender.start_cycles()
            return
        relation.state, theirs.state = READY, INITIAL
        relation.last_time = theirs.last_time = None

    def become_replica(self, primary: HyperV, machine_id: str, mapping: Mapping[int, int]) -> tuple[Machine, Relation]:
        """This host's machine, the primary until now, is a replica of ``primary``. Unreachable: it cannot be."""
        role = self._role
        machine = role.machines.get(machine_id)
        relation = next((r for r in machine.relations if r.inbound is None), None) if machine is not None else None
        if machine is None or relation is None or machine.replication_mode != 1:
            raise Unreachable(UNKNOWN_MACHINE, "The virtual machine is no primary on the other server.")
        if machine.state != "off" or machine.busy not in (None, "merging"):
            raise Unreachable(WRONG_STATE, "The virtual machine is not turned off on the other server.")
        entry = entry_for(primary, role)
        if entry is None:
            raise Unreachable(ACCESS_DENIED, "The other server does not accept replication from this server.")
        role.replica.drop_sender(relation)
        relation.inbound = Inbound(primary.host.fqdn, entry.trust_group, dict(mapping))
        relation.reason = None
        machine.replication_mode = 2
        guest = role.guests.pop(machine.id, None)
        if guest is not None:
            guest.close()
        return machine, relation

    # -- restarts --------------------------------------------------------------------------------------------------

    def service_restarted(self, relation: Relation) -> None:
        """A failover whose job was lost has not happened."""
        if relation.state == FAILING_OVER and relation.inbound is not None:
            relation.state = relation.inbound.before or REPLICATING


def startable(machine: Machine) -> bool:
    """Whether Replica lets a machine be started: not a replica unless it failed over, not a primary prepared for a failover."""
    if machine.replication_mode in (2, 4):
        return any(relation.state in (FAILED_OVER, COMMITTED) for relation in machine.relations)
    return not (machine.replication_mode == 1 and any(relation.state == PREPARED for relation in machine.relations))
