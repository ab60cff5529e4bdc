# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replication as one host sees it: five requests, however many relations it has (operations 7.1)."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import rows
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.available import says_not_available
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.cimxml import parse_instance
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.rows import OptionValue
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, NotFound
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import checkpoints, machines, replica_settings, replication
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replication_service as service
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine, machine_reference
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replication import Relation
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_states import NONE
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import system
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import HostSystem
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import ProtocolError

REPLICA_MODES = ("replica", "extended_replica")
TOOK_OVER = frozenset({"recovered", "committed", "failover_in_progress"})
"""States of a replica that is, or becomes, the machine itself."""


def same_host(one: str, other: str) -> bool:
    """Whether two names can mean one host: they are equal, or one is the other without its domain."""
    left, right = one.casefold(), other.casefold()
    return left == right or (left.partition(".")[0] == right.partition(".")[0] and ("." not in left or "." not in right))


@dataclass(frozen=True)
class Side:
    """What was read of one host."""

    system: HostSystem
    machines: tuple[Machine, ...]
    relations: Mapping[str, tuple[Relation, ...]]
    settings: Mapping[str, Instance]
    checkpoints: tuple[Checkpoint, ...]

    @property
    def name(self) -> str:
        """The host under the name that other hosts know it by."""
        return (self.system.fqdn or self.system.name).lower()

    def machine(self, vm_id: str) -> Machine | None:
        """A machine of this host."""
        return next((one for one in self.machines if one.vm_id == vm_id), None)

    def relation(self, vm_id: str) -> Relation | None:
        """The relation of a machine that is not the extended one."""
        return next((one for one in self.relations.get(vm_id, ()) if not one.extended), None)

    def state(self, vm_id: str) -> str:
        """The state of that relation, or ``none``."""
        relation = self.relation(vm_id)
        return NONE if relation is None else relation.state

    def shown(self, vm_id: str, *, extended: bool = False) -> dict[str, OptionValue]:
        """The settings of a relation by option; empty without one."""
        row = replica_settings.of_machine(self.settings, vm_id, extended=extended)
        return {} if row is None else rows.shown(replica_settings.ROWS, row, self.system.build)

    def partners(self, vm_id: str) -> tuple[str, ...]:
        """The names under which the relation of a machine knows the other host: of a primary the replica server, of a replica the primary.

        Both the name that it connects to, which may be that of a Replica Broker, and that of the host behind it. Empty when it tells none.
        """
        row = replica_settings.of_machine(self.settings, vm_id)
        machine = self.machine(vm_id)
        if row is None or machine is None:
            return ()
        return replica_settings.replica_servers(row) if machine.replication_mode == "primary" else replica_settings.primary_servers(row)

    def leads_to(self, other: Side, vm_id: str) -> bool:
        """Whether the relation of a machine is one with that host. False only when it names others alone.

        GUIDs are the same everywhere, so that what is left of an earlier relation looks like an end of the present one.
        """
        names = self.partners(vm_id)
        return not names or any(same_host(name, other.name) for name in names)

    def points(self, vm_id: str) -> tuple[Checkpoint, ...]:
        """The recovery points of a replica, oldest first."""
        return tuple(one for one in self.checkpoints if one.vm_id == vm_id and one.kind.startswith("replica"))


def read(reader: CimReader, clock: Clock) -> Side:
    """Host, machines, relations and their settings; six requests. Raises HypervError ``not_a_hyperv_host``."""
    host = system.read_system(reader, clock)
    found = machines.read_machines(reader)
    relations = replication.read_relations(reader)
    if relations is None:  # 2012
        relations = replication.relations_of_systems(reader.enumerate(NAMESPACE, "Msvm_ComputerSystem"))
    return Side(host, found.machines, relations, replica_settings.read(reader), checkpoints.from_rows(found.setting_rows))


def read_relation(reader: CimReader, vm_id: str) -> Relation | None:
    """The relation of one machine as it is now, None without one; one request, on 2012 another one."""
    try:
        row = reader.get(replication.relation_reference(vm_id))
    except HypervError as error:
        if isinstance(error, NotFound):
            return None
        if not says_not_available(error):
            raise
        row = reader.get(machine_reference(vm_id))  # 2012
        return next(iter(replication.relations_of_systems([row]).get(vm_id, ())), None)
    return next(iter(replication.relations_from_rows([row]).get(vm_id, ())), None)


def read_relations_of(reader: CimReader, vm_ids: Collection[str]) -> dict[str, Relation]:
    """The relations of these machines as they are now, without those that have none: one request for several, on 2012 one for each."""
    every = replication.read_relations(reader) if len(vm_ids) > 1 else None
    if every is None:
        single = ((vm_id, read_relation(reader, vm_id)) for vm_id in vm_ids)
        return {vm_id: relation for vm_id, relation in single if relation is not None}
    return {vm_id: one for vm_id in vm_ids for one in every.get(vm_id, ()) if not one.extended}


@dataclass(frozen=True)
class Statistics:
    """What a host counts for one relation, and why it does not call it healthy. Times are those of the host; sizes are bytes."""

    pending: int | None
    average_size: int | None
    latency: int | None
    largest_latency: int | None
    missed: int | None
    failures: int | None
    network_failures: int | None
    app_consistent_failures: int | None
    last_test: datetime | None
    begin: datetime | None
    end: datetime | None
    issues: tuple[str, ...]


def read_statistics(reader: CimReader, vm_id: str, relation: Relation) -> Statistics | None:
    """The statistics of one relation; one request. None when the host gives none."""
    parameters = {"ComputerSystem": machine_reference(vm_id)}
    if relation.instance_id is None:
        answer = reader.ask(service.SERVICE, "GetReplicationStatistics", parameters)
    else:
        answer = reader.ask(service.SERVICE, "GetReplicationStatisticsEx", {
            **parameters, "ReplicationRelationship": service.relation_text(relation.instance_id)})
    if answer.return_value != 0:
        return None
    texts = answer.out.texts("ReplicationStatistics")
    one = parse_instance(texts[-1], NAMESPACE) if texts else Instance(NAMESPACE, "Msvm_ReplicationStatistics", {})
    return Statistics(
        one.integer("PendingReplicationSize"), one.integer("ReplicationSize"), one.integer("ReplicationLatency"),
        one.integer("MaxReplicationLatency"), one.integer("ReplicationMissCount"), one.integer("ReplicationFailureCount"),
        one.integer("NetworkFailureCount"), one.integer("ApplicationConsistentSnapshotFailureCount"), one.time("LastTestFailoverTime"),
        one.time("StartStatisticTime"), one.time("EndStatisticTime"), _issues(answer.out.texts("ReplicationHealthIssues")))


def _issues(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The messages of embedded errors, in the host's language."""
    found = []
    for text in texts:
        try:
            message = parse_instance(text, NAMESPACE).text("Message")
        except (ValueError, ProtocolError):
            message = text
        if message:
            found.append(message)
    return tuple(found)
