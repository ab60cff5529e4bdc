# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What going back to a checkpoint loses: what was written since, and the configuration, which goes back, too (operations 2.5)."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.available import enumerate_available
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_tree import Node
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, owner_of
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import CheckpointFacts

_SINGLE = (("processors", "Msvm_ProcessorSettingData", "VirtualQuantity"), ("memory_mb", "Msvm_MemorySettingData", "VirtualQuantity"))
_ADAPTERS = "Msvm_SyntheticEthernetPortSettingData"

Configurations = Mapping[str, dict[str, Any]]
"""By machine or checkpoint: processors, memory and the names of network adapters."""


def read_configurations(reader: CimReader) -> Configurations:
    """Of all machines and checkpoints of the host; three requests."""
    found: dict[str, dict[str, Any]] = {}
    for key, class_name, name in _SINGLE:
        for owner, row in _owned(reader, class_name):
            found.setdefault(owner, {})[key] = row.integer(name)
    for owner, row in _owned(reader, _ADAPTERS):
        found.setdefault(owner, {}).setdefault("network_adapters", []).append(row.text("ElementName") or "")
    for values in found.values():
        values.setdefault("network_adapters", []).sort()
    return found


def _owned(reader: CimReader, class_name: str) -> list[tuple[str, Instance]]:
    rows = enumerate_available(reader, NAMESPACE, class_name) or []
    named = [(owner_of(row.text("InstanceID")), row) for row in rows]
    return [(owner, row) for owner, row in named if owner is not None]


def configuration(facts: CheckpointFacts, found: Configurations, owner_id: str) -> dict[str, Any]:
    """What the diff compares of a machine or a checkpoint."""
    return {**found.get(owner_id, {}), "disks": len(facts.files_of(owner_id))}


def written_since(facts: CheckpointFacts, machine: Machine) -> dict[str, Any]:
    """The files that only the present state needs, and their bytes."""
    node: Node | None = facts.tree_of(machine).by_id.get(facts.tree_of(machine).current or "")
    sizes = [facts.sizes.get(path) for path in facts.files_of(machine.vm_id)]
    known = [size for size in sizes if size is not None]
    return {"since": None if node is None else node.checkpoint.name, "files": list(facts.files_of(machine.vm_id)),
            "bytes": sum(known) if len(known) == len(sizes) else None}
