# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Msvm_ReplicationService: relations are made, changed, paused, resynchronised and ended (operations 7.3 to 7.6)."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from simulator.cim.cimxml import parse_instance
from simulator.cim.errors import ProviderRefusal
from simulator.cim.model import Instance, Ref
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.hyperv import ids
from simulator.hyperv.checkpoints import refuse_old_format
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.model import Machine, Relation
from simulator.hyperv.provider import machine_of
from simulator.hyperv.replica import health
from simulator.hyperv.replica.common import (
    FAILED,
    INVALID_PARAMETER,
    INVALID_STATE,
    NOT_AVAILABLE,
    NOT_SUPPORTED,
    embedded,
    require_administrator,
    start,
)
from simulator.hyperv.replica.network import UNKNOWN_MACHINE, Unreachable
from simulator.hyperv.replica.receiver import new_relation
from simulator.hyperv.replica.settings import CLASS, changed, read_disks
from simulator.hyperv.replica.state import (
    CRITICAL,
    DISK_UPDATE,
    INITIAL,
    READY,
    REPLICATING,
    RESYNC_REQUIRED,
    RESYNCING,
    Inbound,
    RelationSettings,
)

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

CREATE_JOB, MODIFY_JOB, REMOVE_JOB, START_JOB = 91, 92, 93, 94
SEND_COPY_JOB, RESYNC_COPY_JOB, RESYNC_JOB, TEST_CONNECTION_JOB, RESET_JOB, DISKS_JOB = 116, 117, 107, 115, 119, 125
BUSY = "failing_over"
"""What a machine is busy with while its files are switched; not a state that is shown."""
_BAD_PARAMETER = 0x80070057
NETWORK, EXPORT, SEEDED = 1, 2, 3
_A_WEEK = timedelta(days=7)


class Relations:
    """The methods of one host that concern relations."""

    def __init__(self, role: HyperV) -> None:
        self._role = role

    # -- what a call means -----------------------------------------------------------------------------------------

    def machine(self, call: Invocation) -> Machine:
        """The machine that a call is about. ProviderRefusal 32769, 32773, 32775 while something else is done to it."""
        require_administrator(call)
        ref = call["ComputerSystem"]
        machine = machine_of(self._role, ref, call.caller) if isinstance(ref, Ref) else None
        if machine is None or machine.planned:
            raise ProviderRefusal(INVALID_PARAMETER, "no such virtual machine")
        if not machine.available:
            raise ProviderRefusal(INVALID_STATE, "the configuration of the virtual machine cannot be reached")
        return machine

    def named(self, machine: Machine, text: object) -> Relation:
        """The relation that an embedded instance names by its InstanceID, or the first one. ProviderRefusal 32773."""
        if text is None or text == "":
            return self.first(machine)
        given = parse_instance(str(text), self._role.schema, ids.V2, expected="Msvm_ReplicationRelationship")
        wanted = str(given["InstanceID"] or "").lower()
        for relation in machine.relations:
            if ids.settings_id(machine.id, "HVR", relation.index).lower() == wanted:
                return relation
        raise ProviderRefusal(INVALID_PARAMETER, f"no relation {wanted!r}")

    @staticmethod
    def first(machine: Machine) -> Relation:
        """The relation that methods without a relation mean. ProviderRefusal 32775: the machine has none."""
        if not machine.relations:
            raise ProviderRefusal(INVALID_STATE, "the virtual machine is not replicated")
        return machine.relations[0]

    @staticmethod
    def outbound(machine: Machine) -> Relation:
        """The relation that sends: of a replica only the extended one. ProviderRefusal 32775: there is none."""
        index = {1: 0, 2: 1}.get(machine.replication_mode)
        for relation in machine.relations:
            if relation.inbound is None and relation.index == index:
                return relation
        raise ProviderRefusal(INVALID_STATE, "the virtual machine does not replicate from here")

    def begin(self, call: Invocation, machine: Machine, job_type: int, effect: Callable[[], object], *, seconds: float | None = None,
              alone: bool = False, created: Sequence[Ref] = ()) -> MethodOutcome:
        """A job that changes something about a machine that is still here at its end; ``alone``: nothing else is done to it meanwhile."""
        if alone and machine.busy is None:
            machine.busy = BUSY

        def free() -> None:
            if alone and machine.busy == BUSY:
                machine.busy = None

        def run() -> None:
            free()
            if self._role.machines.get(machine.id) is not machine:
                raise JobFailure(NOT_AVAILABLE, "The virtual machine is not on this host any more.")
            effect()

        return start(self._role, call, job_type, run, affected=[ids.system_ref(machine.id)], seconds=seconds, undo=free, created=created)

    # -- connection ------------------------------------------------------------------------------------------------

    def test_connection(self, call: Invocation) -> MethodOutcome:
        """Whether a Replica server would be reached with these settings; the job says no with the reason."""
        require_administrator(call)
        settings = RelationSettings(
            recovery_point=str(call["RecoveryConnectionPoint"] or ""), port=_number(call["RecoveryServerPortNumber"]),
            authentication=_number(call["AuthenticationType"]), thumbprint=str(call["CertificateThumbPrint"] or ""))
        if (not settings.recovery_point or settings.port < 1 or settings.authentication not in (1, 2)
                or (settings.authentication == 2 and not settings.thumbprint)):
            raise ProviderRefusal(INVALID_PARAMETER, "a server, a port and a way to authenticate are needed")

        def test() -> None:
            try:
                self._role.replica.network.connect(self._role, settings, authorise=self._role.replica.knobs.test_authorises)
            except Unreachable as error:
                raise JobFailure(FAILED, error.message, hresult=error.hresult) from error

        return start(self._role, call, TEST_CONNECTION_JOB, test, reading=True)

    # -- making ----------------------------------------------------------------------------------------------------

    def create(self, call: Invocation) -> MethodOutcome:
        """CreateReplicationRelationship: nothing is copied yet; a replica appears on the other side (operations 7.3)."""
        machine = self.machine(call)
        extended = machine.replication_mode == 2
        if extended:
            self._check_extended(machine)
        elif machine.replication_mode != 0:
            raise ProviderRefusal(INVALID_STATE, "the virtual machine is replicated already")
        if machine.busy is not None:
            raise ProviderRefusal(INVALID_STATE, "the virtual machine is busy")
        refuse_old_format(machine)
        given = embedded(self._role, call, "ReplicationSettingData", CLASS)
        self.check_identity(machine, given, 1 if extended else 0)
        wanted = changed(RelationSettings(), given)
        if extended and (wanted.interval == 30 or wanted.application_interval):
            raise ProviderRefusal(INVALID_PARAMETER, "an extended relation has 300 or 900 seconds and no application-consistent points")
        included = machine.relations[0].settings.included if extended else read_disks(self._role, machine, given["IncludedDisks"])

        def make() -> None:
            self._make(machine, wanted, included, extended)

        return self.begin(call, machine, CREATE_JOB, make)

    @staticmethod
    def _check_extended(machine: Machine) -> None:
        if len(machine.relations) != 1 or machine.relations[0].state != REPLICATING:
            raise ProviderRefusal(INVALID_STATE, "the replica cannot be extended now")

    @staticmethod
    def check_identity(machine: Machine, given: Instance, index: int) -> None:
        """ProviderRefusal 32773: settings of another machine or relation."""
        own = {"InstanceID": ids.settings_id(machine.id, "HVR", index), "VirtualSystemIdentifier": machine.id}
        for name, wanted in own.items():
            if given[name] is not None and str(given[name]).lower() != wanted.lower():
                raise ProviderRefusal(INVALID_PARAMETER, f"{name} is that of another virtual machine")

    def _make(self, machine: Machine, wanted: RelationSettings, included: tuple[int, ...] | None, extended: bool) -> None:
        role = self._role
        if included is None:
            raise JobFailure(FAILED, "IncludedDisks is not valid.", hresult=_BAD_PARAMETER)
        if machine.replication_mode != (2 if extended else 0):
            raise JobFailure(INVALID_STATE, "The virtual machine is replicated already.")
        role.disks.materialise_machine(machine)
        try:
            server = role.replica.network.connect(role, wanted)
            if server is role:
                raise Unreachable(_BAD_PARAMETER, "A server is not its own Replica server.")
            settings = replace(wanted, included=included, recovery_host=server.host.fqdn, primary_point=role.host.fqdn,
                               primary_host=role.host.fqdn)
            server.replica.receiver.accept(role, machine, settings, extended)
        except Unreachable as error:
            raise JobFailure(FAILED, error.message, hresult=error.hresult) from error
        relation = new_relation(role, 1 if extended else 0, READY, settings)
        machine.relations.append(relation)
        if not extended:
            machine.replication_mode = 1

    def set_authorization(self, call: Invocation) -> MethodOutcome:
        """SetAuthorizationEntry: which entry a replica belongs to; a machine that is not replicated becomes a replica that waits."""
        machine = self.machine(call)
        given = embedded(self._role, call, "AuthorizationEntry", "Msvm_ReplicationAuthorizationSettingData")
        entry = self._role.replica.server.entries.get(str(given["AllowedPrimaryHostSystem"] or "").lower())
        if entry is None:
            raise ProviderRefusal(INVALID_PARAMETER, "no such authorization entry")
        inbound = next((r.inbound for r in machine.relations if r.inbound is not None), None)
        if inbound is None and (machine.replication_mode != 0 or machine.live or machine.checkpoints):
            raise ProviderRefusal(INVALID_STATE, "the virtual machine cannot become a replica")

        def put() -> None:
            if inbound is not None:
                inbound.trust_group = entry.trust_group
                return
            relation = new_relation(self._role, 0, INITIAL, RelationSettings())
            relation.inbound = Inbound(entry.primary, entry.trust_group)
            machine.relations.append(relation)
            machine.replication_mode = 2

        return self.begin(call, machine, MODIFY_JOB, put)

    # -- the first copy --------------------------------------------------------------------------------------------

    def start_replication(self, call: Invocation) -> MethodOutcome:
        """StartReplication: the job only begins the copy, or plans it (operations 7.3 step 4)."""
        machine = self.machine(call)
        relation = self.outbound(machine)
        how, location, when = call["InitialReplicationType"], call["InitialReplicationExportLocation"], call["StartTime"]
        if how not in (NETWORK, EXPORT, SEEDED):
            raise ProviderRefusal(INVALID_PARAMETER, f"InitialReplicationType {how}")
        delay = self._delay(when)
        if how == EXPORT:
            if not isinstance(location, str) or not location or delay:
                raise ProviderRefusal(INVALID_PARAMETER, "an export needs a folder, and is not planned")
            return self._role.replica.media.export(call, machine, relation, location)
        if relation.state != READY:
            raise ProviderRefusal(INVALID_STATE, "the first copy was started already")

        def begin() -> None:
            if relation.state != READY:
                raise JobFailure(INVALID_STATE, "The first copy was started already.")
            sender = self._role.replica.sender(machine, relation)
            if sender is None:
                raise JobFailure(FAILED, "The Replica server has no replica of the virtual machine.", hresult=UNKNOWN_MACHINE)
            if how == SEEDED:
                sender.begin_copy(relation.settings.included, INITIAL, RESYNC_COPY_JOB, compare=True, delay=delay)
            else:
                sender.begin_copy(relation.settings.included, INITIAL, SEND_COPY_JOB, delay=delay)

        return self.begin(call, machine, START_JOB, begin)

    def _delay(self, when: object) -> float:
        """Seconds until a moment of the next week. ProviderRefusal 32773 for another one."""
        if when is None:
            return 0.0
        if not isinstance(when, datetime):
            raise ProviderRefusal(INVALID_PARAMETER, "StartTime is no moment")
        ahead = when - self._role.clock.now()
        if not timedelta(0) <= ahead <= _A_WEEK:
            raise ProviderRefusal(INVALID_PARAMETER, "StartTime is in the past or more than seven days ahead")
        return ahead.total_seconds()

    # -- changing --------------------------------------------------------------------------------------------------

    def modify(self, call: Invocation) -> MethodOutcome:
        """ModifyReplicationSettings of what is sent from here; what is left out stays."""
        machine = self.machine(call)
        relation = self.outbound(machine)
        given = embedded(self._role, call, "ReplicationSettingData", CLASS)
        self.check_identity(machine, given, relation.index)
        wanted = changed(relation.settings, given)
        disks = given["IncludedDisks"]
        included = relation.settings.included if disks is None else read_disks(self._role, machine, disks)
        if included != relation.settings.included and relation.state != REPLICATING:
            raise ProviderRefusal(INVALID_STATE, "the set of disks is changed while the relation replicates")

        def apply() -> None:
            if included is None:
                raise JobFailure(FAILED, "IncludedDisks is not valid.", hresult=_BAD_PARAMETER)
            self._modify(machine, relation, wanted, included)

        return self.begin(call, machine, MODIFY_JOB, apply)

    def _modify(self, machine: Machine, relation: Relation, wanted: RelationSettings, included: tuple[int, ...]) -> None:
        role, before = self._role, relation.settings
        if not relation.live:
            relation.settings = wanted
            return
        try:
            server = role.replica.network.connect(role, wanted)
            replica, other = server.replica.receiver.relation(machine.id, role)
        except Unreachable as error:
            raise JobFailure(FAILED, error.message, hresult=error.hresult) from error
        relation.settings = replace(wanted, included=included, recovery_host=server.host.fqdn)
        other.settings = replace(relation.settings, included=other.settings.included)
        server.replica.receiver.prune(replica, wanted.history)
        sender = role.replica.sender(machine, relation)
        assert sender is not None
        if relation.settings.interval != before.interval and relation.state == REPLICATING:
            sender.start_cycles()
        self._change_disks(machine, relation, set(before.included), set(included))

    def _change_disks(self, machine: Machine, relation: Relation, before: set[int], after: set[int]) -> None:
        sender = self._role.replica.sender(machine, relation)
        assert sender is not None
        for index in before - after:
            sender.baseline.digests.pop(index, None)
        if not after - before:
            return
        if self._role.os_version == "2012R2":  # the state of a change of disks came with 2016
            relation.state = RESYNC_REQUIRED
        else:
            sender.begin_copy(tuple(sorted(after - before)), DISK_UPDATE, DISKS_JOB)

    def resynchronize(self, call: Invocation) -> MethodOutcome:
        """Resynchronize: both sides are compared, what differs is sent."""
        machine = self.machine(call)
        relation = self.outbound(machine)
        delay = self._delay(call["StartTime"])
        if relation.state not in (RESYNC_REQUIRED, CRITICAL):
            raise ProviderRefusal(INVALID_STATE, "the relation needs no resynchronisation")

        def begin() -> None:
            sender = self._role.replica.sender(machine, relation)
            if sender is None or relation.state not in (RESYNC_REQUIRED, CRITICAL):
                raise JobFailure(INVALID_STATE, "The relation needs no resynchronization.")
            sender.begin_copy(relation.settings.included, RESYNCING, RESYNC_JOB, compare=True, delay=delay)

        return self.begin(call, machine, RESYNC_JOB, begin)

    # -- ending ----------------------------------------------------------------------------------------------------

    def remove(self, call: Invocation) -> MethodOutcome:
        """RemoveReplicationRelationship(Ex): the relation ends on this side; machine and files stay, an extended one goes first."""
        machine = self.machine(call)
        relation = self.named(machine, call["ReplicationRelationship"])
        if relation.inbound is not None and any(other.index > relation.index for other in machine.relations):
            raise ProviderRefusal(INVALID_STATE, "the extended relation goes first")
        if self._role.replica.drills.tests_of(machine):
            raise ProviderRefusal(INVALID_STATE, "a test machine hangs on the replica")
        if machine.busy is not None:
            raise ProviderRefusal(INVALID_STATE, "the virtual machine is busy")

        def end() -> None:
            if relation not in machine.relations:
                return
            if relation.inbound is not None:
                self._role.replica.receiver.forget(machine, relation)
                return
            self._role.replica.drop_sender(relation)
            machine.relations.remove(relation)
            if not machine.relations or not relation.live:
                machine.replication_mode = 0

        return self.begin(call, machine, REMOVE_JOB, end)

    # -- figures ---------------------------------------------------------------------------------------------------

    def get_statistics(self, call: Invocation) -> MethodOutcome:
        """GetReplicationStatistics(Ex): figures of the monitoring window, and the reasons of the health."""
        machine = self.machine(call)
        relation = self.named(machine, call["ReplicationRelationship"])
        return {"ReplicationStatistics": [health.statistics(self._role, machine, relation)],
                "ReplicationHealthIssues": health.issues(self._role, relation) or None, "ReturnValue": 0}

    def reset_statistics(self, call: Invocation) -> MethodOutcome:
        """ResetReplicationStatistics(Ex)."""
        machine = self.machine(call)
        relation = self.named(machine, call["ReplicationRelationship"])
        return self.begin(call, machine, RESET_JOB, lambda: relation.statistics.reset(self._role.clock.now()))


def not_here(call: Invocation) -> MethodOutcome:
    """Only providers of other replication solutions take this."""
    require_administrator(call)
    raise ProviderRefusal(NOT_SUPPORTED, "only for providers of others")


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
