# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replica relations and security settings of a host's VMs, read only (operations 7.1, 7.4)."""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.available import enumerate_available
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, as_guid, owner_of

# The WMI numbers; PowerShell's own enumeration differs (operations 7.4).
_STATES: Mapping[int, str] = {
    0: "disabled", 1: "ready", 2: "initial_replication", 3: "replicating", 4: "synced", 5: "recovered", 6: "committed",
    7: "suspended", 8: "critical", 9: "waiting_for_resynchronization", 10: "resynchronizing",
    11: "resynchronization_suspended", 12: "failover_in_progress", 13: "failback_in_progress", 14: "failback_complete",
    15: "disk_update", 16: "disk_update_critical", 17: "unknown", 18: "repurposing", 19: "prepared_for_sync",
    20: "prepared_for_group_reverse", 21: "test_failover",
}
_HEALTH: Mapping[int, str] = {0: "not_applicable", 1: "ok", 2: "warning", 3: "critical"}
JOBS = range(91, 126)
"""Types of jobs about the replication of a machine (operations 0.3)."""
ROUTINE_JOBS = frozenset({105, 106, 108, 111, 115, 119, 120, 122})
"""Those of a replication that goes well: they send, receive, apply, count and test. With a short interval one is always at it."""
_RELATION = re.compile(r"\\HVR\\(\d)\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Relation:
    """One replication relation. ``extended`` tells the second leg from the first (``...\\HVR\\1``)."""

    vm_id: str
    extended: bool
    state: str
    health: str
    last_replicated: datetime | None
    last_applied: datetime | None
    last_application_consistent: datetime | None = None
    instance_id: str | None = None
    """None on 2012, which has no class for relations."""


@dataclass(frozen=True)
class Security:
    """Security settings of a VM (2016 and later)."""

    tpm: bool | None
    shielded: bool | None
    encrypt_traffic: bool | None


def relations_from_rows(rows: Iterable[Instance]) -> dict[str, tuple[Relation, ...]]:
    """Relations by VM GUID, the primary leg first. A row in state *disabled* is no relation."""
    found: dict[str, list[Relation]] = {}
    for row in rows:
        vm_id = owner_of(row.text("InstanceID"))
        state = row.integer("ReplicationState") or 0
        if vm_id is None or state == 0:
            continue
        leg = _RELATION.search(row.text("InstanceID") or "")
        health = row.integer("ReplicationHealth") or 0
        found.setdefault(vm_id, []).append(Relation(
            vm_id=vm_id, extended=bool(leg and leg.group(1) == "1"), state=_STATES.get(state, f"unknown_{state}"),
            health=_HEALTH.get(health, f"unknown_{health}"), last_replicated=row.time("LastReplicationTime"),
            last_applied=row.time("LastApplyTime"), last_application_consistent=row.time("LastApplicationConsistentReplicationTime"),
            instance_id=row.text("InstanceID")))
    return {vm_id: tuple(sorted(items, key=lambda item: item.extended)) for vm_id, items in found.items()}


def relations_of_systems(rows: Iterable[Instance]) -> dict[str, tuple[Relation, ...]]:
    """The one relation that a VM can have on 2012, from what ``Msvm_ComputerSystem`` says of it (operations 7.1)."""
    found: dict[str, tuple[Relation, ...]] = {}
    for row in rows:
        vm_id, state = as_guid(row.text("Name")), row.integer("ReplicationState") or 0
        if vm_id is not None and state != 0:
            health = row.integer("ReplicationHealth") or 0
            found[vm_id] = (Relation(vm_id, False, _STATES.get(state, f"unknown_{state}"), _HEALTH.get(health, f"unknown_{health}"),
                                     row.time("LastReplicationTime"), None, row.time("LastApplicationConsistentReplicationTime")),)
    return found


def relation_reference(vm_id: str) -> Reference:
    """The address of the relation of a VM that is not the extended one."""
    return Reference(NAMESPACE, "Msvm_ReplicationRelationship", {"InstanceID": f"Microsoft:{vm_id}\\HVR\\0"})


def security_from_rows(rows: Iterable[Instance]) -> dict[str, Security]:
    """Security settings by VM GUID."""
    found = {}
    for row in rows:
        vm_id = owner_of(row.text("InstanceID"))
        if vm_id is not None:
            found[vm_id] = Security(row.boolean("TpmEnabled"), row.boolean("ShieldingRequested"),
                                    row.boolean("EncryptStateAndVmMigrationTraffic"))
    return found


def read_relations(reader: CimReader) -> dict[str, tuple[Relation, ...]] | None:
    """Relations of all VMs, one request; None where the class does not exist (before 2012 R2)."""
    rows = enumerate_available(reader, NAMESPACE, "Msvm_ReplicationRelationship")
    return None if rows is None else relations_from_rows(rows)


def read_security(reader: CimReader) -> dict[str, Security] | None:
    """Security settings of all VMs, one request; None where the class does not exist (before 2016)."""
    rows = enumerate_available(reader, NAMESPACE, "Msvm_SecuritySettingData")
    return None if rows is None else security_from_rows(rows)
