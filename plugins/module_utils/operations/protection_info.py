# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_protection_info``: what there is of each VM at the destinations, and beside it checkpoints, shadow copies and replicas.

One reading for the whole host, in the one form that the report takes, whatever made a copy.
"""
from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, ConnectionFailed, HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_audit,
    checkpoint_facts,
    destinations,
    inventory,
    run_as,
    selection,
    shadow_facts,
    stored_copies,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_audit import Limits
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import CheckpointFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.stored_copies import Reading
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vm_result import host_result, iso, vm_result
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_prune import standing_of
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import FoundCopy, parse_age

_PARTS = ("state", "summary", "replication", "cluster")
_SHOWN = ("state", "replication", "cluster")


def run(call: Call) -> dict[str, Any]:
    """Read and tell; nothing stays on the host. A share is read by one task, so not in check mode."""
    limits = _limits(call.params)
    facts = checkpoint_facts.read(call, _PARTS)
    facts = checkpoint_facts.with_virtual_disks(call.reader, facts)
    selection.warn_about_host(call, facts.host)
    with_volumes = cache(lambda: inventory.read_more(call.reader, facts.host, ("volumes",)))
    places, copies = [], []
    for wanted in call.params["destinations"]:
        place, found = _destination(call, facts, wanted, with_volumes)
        places.append(place)
        copies += found
    return {
        "changed": False, "host": {**host_result(facts.host), "time": iso(facts.host.system.local_time)},
        "vms": [_machine(facts, machine, limits) for machine in facts.host.machines],
        "destinations": places, "copies": copies, "shadow_copies": _shadow_copies(call),
    }


def _limits(params: Mapping[str, Any]) -> Limits:
    try:
        return Limits(parse_age(params["checkpoint_max_age"]), params["checkpoint_max_depth"])
    except ValueError as error:
        raise HypervError(f"checkpoint_max_age: {error}", error_code="invalid_max_age") from error


def _machine(facts: CheckpointFacts, machine: Machine, limits: Limits) -> dict[str, Any]:
    return {
        **vm_result(facts.host, machine, _SHOWN), "checkpoints": len(facts.tree_of(machine).nodes),
        "findings": [finding.as_result() for finding in checkpoint_audit.audit(facts, machine, limits)]}


def _shadow_copies(call: Call) -> list[dict[str, Any]] | None:
    """Those of the host; None when the account may not look."""
    try:
        found = shadow_facts.read(call.reader, storage=False)
    except AccessDenied:
        call.warn("This account may not list the shadow copies of the host.")
        return None
    shown = ("id", "owner", "reason", "created", "age", "path", "run_id")
    return [{key: one[key] for key in shown} for one in shadow_facts.entries(found)]


# -- destinations --------------------------------------------------------------------------------------------------------


def _destination(call: Call, facts: CheckpointFacts, wanted: Mapping[str, Any],
                 with_volumes: Callable[[], HostFacts]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One destination and its copies. What cannot be read is told in its place: the others still count."""
    place: dict[str, Any] = {"path": wanted["path"], "read": False, "free": None, "damaged": [], "incomplete": [], "error_code": None,
                             "msg": None, "hint": None}
    try:
        reading = _read(call, facts, wanted, with_volumes)
    except ConnectionFailed:
        raise
    except HypervError as error:
        return {**place, "error_code": error.error_code, "msg": error.message, "hint": error.hint}, []
    if reading is None:
        return {**place, "error_code": "not_read_in_check_mode",
                "msg": "Check mode does not look at a share: that needs a task on the host."}, []
    found = reading.found
    place |= {"path": reading.destination.path, "read": True, "free": reading.destination.free, "damaged": list(found.damaged),
              "incomplete": list(found.incomplete)}
    return place, list(_entries(found.copies, reading.destination.path))


def _read(call: Call, facts: CheckpointFacts, wanted: Mapping[str, Any], with_volumes: Callable[[], HostFacts]) -> Reading | None:
    identity = run_as.read(wanted)
    host = facts.host if destinations.is_share(wanted["path"]) else with_volumes()
    destination = destinations.check(host, wanted["path"], identity)
    return stored_copies.read(call, destination, facts.folder, identity, run_id=secrets.token_hex(6), host=host.system.name)


def _entries(copies: Sequence[FoundCopy], destination: str) -> Iterator[dict[str, Any]]:
    for copy in sorted(copies, key=lambda copy: (copy.manifest.vm_id, copy.manifest.taken, copy.folder)):
        manifest = copy.manifest
        yield {
            "vm_id": manifest.vm_id, "vm_name": manifest.vm_name, "host": manifest.host, "kind": manifest.kind, "method": manifest.method,
            "destination": destination, "folder": copy.folder, "run_id": manifest.run_id, "taken": iso(manifest.taken),
            "completed": iso(manifest.completed), "requested": manifest.requested, "achieved": manifest.achieved,
            "verified": manifest.verified, "standing": standing_of(copy), "size": manifest.size}
