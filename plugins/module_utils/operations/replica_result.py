# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``replica`` of a result: one machine as its host sees it, and as the other one does (operations 7.5)."""
from __future__ import annotations

from datetime import datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replication import Relation
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_facts import Side, Statistics
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_states import NONE
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vm_result import iso


def entry(side: Side, machine: Machine) -> dict[str, Any]:
    """What one host says of the replication of a machine, without its statistics."""
    relation = side.relation(machine.vm_id)
    if relation is None:
        return {"mode": machine.replication_mode, "state": NONE, "health": None, "settings": {}}
    extended = next((one for one in side.relations.get(machine.vm_id, ()) if one.extended), None)
    return {
        "mode": machine.replication_mode, "state": relation.state, "health": relation.health,
        "settings": side.shown(machine.vm_id), "lag": lag(relation, side.system.local_time),
        "last_replicated": iso(relation.last_replicated), "last_applied": iso(relation.last_applied),
        "last_application_consistent": iso(relation.last_application_consistent),
        "extended": None if extended is None else {"state": extended.state, "health": extended.health,
                                                   "settings": side.shown(machine.vm_id, extended=True)},
    }


def lag(relation: Relation, now: datetime) -> int | None:
    """Seconds since the last change that arrived: what a failover now would lose."""
    if relation.last_replicated is None:
        return None
    return max(0, int((now - relation.last_replicated).total_seconds()))


def statistics_result(found: Statistics) -> dict[str, Any]:
    """The counters of the host."""
    return {
        "pending_bytes": found.pending, "average_bytes": found.average_size, "latency": found.latency,
        "largest_latency": found.largest_latency, "missed": found.missed, "failures": found.failures,
        "network_failures": found.network_failures, "app_consistent_failures": found.app_consistent_failures,
        "begin": iso(found.begin), "end": iso(found.end),
    }
