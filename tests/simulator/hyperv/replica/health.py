# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health and figures of a relation, and the reasons that the host gives for them (operations 7.4, 7.5)."""
from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.cim.cimxml import format_instance
from simulator.cim.model import CimValue
from simulator.hyperv import ids
from simulator.hyperv.model import Machine, Relation
from simulator.hyperv.replica.state import (
    COMMITTED,
    CRITICAL,
    DISK_UPDATE_CRITICAL,
    FAILED_OVER,
    INITIAL,
    PAUSED,
    READY,
    REPLICATING,
    RESYNC_PAUSED,
    RESYNC_REQUIRED,
    RESYNCING,
)
from simulator.hyperv.systems import NEVER

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

FINE, WARNING, BROKEN = 1, 2, 3
_BROKEN = frozenset({CRITICAL, RESYNC_REQUIRED, DISK_UPDATE_CRITICAL})
_UNEASY = {READY: "The initial replication has not been started.", INITIAL: "The initial replication has not been completed.",
           PAUSED: "Replication is paused.", FAILED_OVER: "The virtual machine was failed over; the failover is not completed.",
           COMMITTED: "Reverse replication has not been set up after a failover.", RESYNCING: "Resynchronization is in progress.",
           RESYNC_PAUSED: "Resynchronization is paused."}
_SILENT = 3600.0
_MISSED_SHARE, _CYCLES = 0.2, 3


def _problems(role: HyperV, relation: Relation) -> list[tuple[int, str]]:
    """Severity and text of everything that is wrong."""
    found: list[tuple[int, str]] = []
    if relation.state in _BROKEN:
        text = "Resynchronization is required." if relation.state == RESYNC_REQUIRED else "Replication has stopped because of an error."
        found.append((BROKEN, text))
    if relation.state in _UNEASY:
        found.append((WARNING, _UNEASY[relation.state]))
    figures = relation.statistics
    cycles = figures.missed + figures.success
    if relation.state == REPLICATING and cycles >= _CYCLES and figures.missed / cycles >= _MISSED_SHARE:
        found.append((WARNING, "20 percent or more of the replication cycles were missed in the monitoring interval."))
    now = role.clock.now()
    if relation.state == REPLICATING and relation.last_time is not None and (now - relation.last_time).total_seconds() > _SILENT:
        found.append((WARNING, "More than an hour has passed since the last replication."))
    return found


def health(role: HyperV, relation: Relation) -> int:
    """ReplicationHealth."""
    if not relation.live:
        return relation.health
    if relation.state == 0:
        return 0
    relation.statistics.roll(role.clock.now(), role.replica.server.settings.monitoring_interval)
    return max((severity for severity, _unused in _problems(role, relation)), default=FINE)


def issues(role: HyperV, relation: Relation) -> list[CimValue]:
    """ReplicationHealthIssues: embedded errors with the reasons of a health that is not good."""
    shape = role.shapes.of(ids.V2, "Msvm_Error")
    told = list(_problems(role, relation)) if relation.live else []
    if told and relation.reason is not None:
        hresult, text = relation.reason
        told.append((told[0][0], f"{text} (0x{hresult:08X})."))
    return [format_instance(role.schema, shape({
        "CIMStatusCode": 1, "ErrorSource": "Hyper-V Replica", "ErrorSourceFormat": 0, "ErrorType": 4, "Message": text,
        "MessageID": str(33000 + number), "OwningEntity": "Microsoft:Hyper-V", "PerceivedSeverity": 6 if severity == BROKEN else 3,
        "ProbableCause": 1})) for number, (severity, text) in enumerate(told)]


def statistics(role: HyperV, machine: Machine, relation: Relation) -> CimValue:
    """One Msvm_ReplicationStatistics as text."""
    figures = relation.statistics
    figures.roll(role.clock.now(), role.replica.server.settings.monitoring_interval)
    sender = role.replica.sender(machine, relation)
    row = role.shapes.of(ids.V2, "Msvm_ReplicationStatistics")({
        "InstanceID": f"{ids.settings_id(machine.id, 'HVR', relation.index)}", "ElementName": machine.name,
        "Caption": "Replication Statistics", "StartStatisticTime": figures.start, "EndStatisticTime": role.clock.now(),
        "ReplicationSuccessCount": figures.success, "ReplicationFailureCount": figures.failures,
        "ReplicationMissCount": figures.missed, "NetworkFailureCount": figures.network_failures,
        "ApplicationConsistentSnapshotFailureCount": figures.application_failures,
        "ReplicationSize": figures.bytes // figures.success if figures.success else 0, "MaxReplicationSize": figures.largest,
        "ReplicationLatency": round(figures.seconds / figures.success) if figures.success else 0,
        "MaxReplicationLatency": round(figures.slowest), "PendingReplicationSize": sender.pending() if sender is not None else 0,
        "LastTestFailoverTime": figures.last_test or NEVER, "ReplicationHealth": health(role, relation)})
    return format_instance(role.schema, row)
