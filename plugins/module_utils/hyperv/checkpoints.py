# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints of a host's VMs, read from the settings rows that are there anyway (operations 2.1, 2.4)."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.paths import parse_path
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, as_guid, owner_of

_PREFIX = "microsoft:hyper-v:snapshot:"
_TYPES: Mapping[str, str] = {
    "realized": "user",
    "recovery": "recovery",
    "replica:standard": "replica",
    "replica:applicationconsistent": "replica_application_consistent",
    "replica:plannedfailover": "replica_planned_failover",
    "planned": "planned",
    "missing": "missing",
}


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint. ``saved_state`` True means that the memory was kept: a standard checkpoint (D-11)."""

    checkpoint_id: str
    vm_id: str
    instance_id: str
    name: str
    kind: str
    created: datetime | None
    parent_id: str | None
    automatic: bool | None
    saved_state: bool | None
    notes: str | None

    @property
    def reference(self) -> Reference:
        """The address of its settings."""
        return Reference(NAMESPACE, "Msvm_VirtualSystemSettingData", {"InstanceID": self.instance_id})


def parent_id(path: str | None) -> str | None:
    """The GUID of the checkpoint that an object path in ``Parent`` names; None for a root or a path nobody can read."""
    if not path:
        return None
    try:
        return owner_of(parse_path(path).key("InstanceID"))
    except ValueError:
        return None


def from_rows(rows: Iterable[Instance]) -> tuple[Checkpoint, ...]:
    """Every checkpoint among a host's settings rows, oldest first."""
    found = []
    for row in rows:
        kind = (row.text("VirtualSystemType") or "").lower()
        if not kind.startswith(_PREFIX):
            continue
        instance_id = row.required_text("InstanceID")
        own = owner_of(instance_id) or as_guid(row.text("ConfigurationID"))
        vm_id = as_guid(row.text("VirtualSystemIdentifier"))
        if own is None or vm_id is None:
            continue
        tail = kind[len(_PREFIX):]
        found.append(Checkpoint(
            checkpoint_id=own, vm_id=vm_id, instance_id=instance_id, name=row.text("ElementName") or "",
            kind=_TYPES.get(tail, tail), created=row.time("CreationTime"), parent_id=parent_id(row.text("Parent")),
            automatic=row.boolean("IsAutomaticSnapshot"), saved_state=row.boolean("IsSaved"),
            notes="\n".join(row.texts("Notes")) or None,
        ))
    return tuple(sorted(found, key=lambda item: (item.created.timestamp() if item.created else 0.0, item.checkpoint_id)))
