# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_checkpoint_info``: the checkpoints of a host's machines, their trees, owners and what is wrong with them."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import machines
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_audit,
    checkpoint_facts,
    checkpoint_files,
    inventory,
    selection,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_audit import Limits
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import CheckpointFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vm_result import iso
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import parse_age
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import cluster

GATHER = ("sizes", "chains", "validity", "locations", "strays")


def run(call: Call) -> dict[str, Any]:
    """Six requests and their pages for the whole host; each part of ``gather`` costs more, the most of them one for every disk file."""
    params = call.params
    limits = _limits(params["max_age"], params["max_depth"], params["max_bytes"])
    facts = checkpoint_facts.with_virtual_disks(call.reader, checkpoint_facts.read(call, ("summary",)))
    selection.warn_about_host(call, facts.host)
    single = bool(params["name"] or params["vm_id"])
    missing: tuple[str, ...] = ()
    chosen: tuple[Machine, ...]
    if single:
        chosen = (machines.select(facts.host.machines, name=params["name"], vm_id=params["vm_id"]),)
    else:
        chosen, missing = selection.by_names(facts.host.machines, params["names"])
    gather = frozenset(params["gather"])
    facts = _with_costly(call, facts, chosen, gather)
    found = [_machine_entry(facts, machine, limits) for machine in chosen]
    result: dict[str, Any] = {"changed": False, "time": iso(facts.host.system.local_time)}
    if single:
        return {**result, **found[0]}
    return {**result, "duplicates": inventory.duplicates(facts.host.machines), "results": found, "missing": list(missing),
            "counts": _counts(found)}


def _limits(age: str, depth: int, size: int | None) -> Limits:
    try:
        return Limits(parse_age(age), depth, size)
    except ValueError as error:
        raise HypervError(f"max_age: {error}", error_code="invalid_max_age") from error


def _with_costly(call: Call, facts: CheckpointFacts, chosen: Sequence[Machine], gather: frozenset[str]) -> CheckpointFacts:
    leaves = [path for machine in chosen for path in facts.files_of(machine.vm_id)]
    grown = [path for machine in chosen for node in facts.tree_of(machine).nodes for path in facts.files_grown_since(machine, node)]
    if "sizes" in gather:
        orphans = [path for path in leaves if checkpoint_facts.is_differencing(path)]
        facts = checkpoint_facts.with_sizes(call.reader, facts, [*grown, *orphans])
        facts = checkpoint_files.with_system_sizes(call.reader, facts, [node.checkpoint.checkpoint_id for machine in chosen
                                                                        for node in facts.tree_of(machine).nodes])
    if "locations" in gather:
        facts = replace(facts, locations=checkpoint_files.read_locations(call.reader, chosen),
                        host=replace(facts.host, cluster=cluster.read_cluster(call.reader)))
    if "strays" in gather:
        facts = checkpoint_files.with_strays(call.reader, facts, chosen)
    if "validity" in gather:
        facts = checkpoint_files.with_validity(call, facts, leaves)
    if "chains" in gather:
        frozen = [path for machine in chosen for node in facts.tree_of(machine).nodes
                  for path in facts.files_of(node.checkpoint.checkpoint_id)]
        facts = checkpoint_facts.with_links(call.reader, facts, [*leaves, *frozen])
    return facts


def _machine_entry(facts: CheckpointFacts, machine: Machine, limits: Limits) -> dict[str, Any]:
    tree, settings = facts.tree_of(machine), machine.settings
    return {
        "vm": {"vm_id": machine.vm_id, "name": machine.name}, "state": machine.state, "busy": machine.busy,
        "replication_mode": machine.replication_mode,
        "policy": settings.checkpoint_policy if settings else None,
        "automatic_checkpoints": settings.automatic_checkpoints if settings else None,
        "location": settings.snapshot_root if settings else None,
        "depth": tree.depth, "parent_of_current": tree.current,
        "differencing_bytes": checkpoint_facts.differencing_bytes(facts, machine) if facts.sizes else None,
        "stray_files": list(facts.strays[machine.vm_id]) if machine.vm_id in facts.strays else None,
        "checkpoints": checkpoint_facts.entries(facts, machine),
        "disks": [_disk(facts, path) for path in facts.files_of(machine.vm_id)],
        "findings": [finding.as_result() for finding in checkpoint_audit.audit(facts, machine, limits)],
    }


def _disk(facts: CheckpointFacts, path: str) -> dict[str, Any]:
    asked = path in facts.links
    return {
        "path": path,
        "chain": [{"path": link.path, "kind": link.kind, "virtual_size": link.virtual_size, "disk_id": link.disk_id,
                   "parent_path": link.parent_path} for link in checkpoint_audit.chain(facts, path)] if asked else None,
        "chain_problem": checkpoint_audit.chain_problem(facts, path),
    }


def _counts(found: Sequence[dict[str, Any]]) -> dict[str, int]:
    listed = [one for machine in found for one in machine["checkpoints"]]
    return {**{owner: sum(1 for one in listed if one["owner"] == owner) for owner in checkpoint_facts.OWNERS},
            "suspect": sum(1 for one in listed if one["suspect"]), "expired": sum(1 for one in listed if one["expired"]),
            "findings": sum(len(machine["findings"]) for machine in found)}
