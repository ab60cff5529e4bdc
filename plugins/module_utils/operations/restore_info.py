# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_restore_info``: what a destination can bring back on this host, whoever made it, and when each machine was drilled last."""
from __future__ import annotations

import fnmatch
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    destinations,
    inventory,
    restore_boot,
    restore_evidence,
    restore_plan,
    restore_source,
    run_as,
    selection,
    stored_copies,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_source import Source
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.drills import Drill
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import FoundCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import EXPORT
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder

_NEVER = ""


def run(call: Call) -> dict[str, Any]:
    """The result: one entry for each machine, those that were never drilled first, then the least recently drilled."""
    identity, run_id = run_as.read(call.params), f"info-{secrets.token_hex(6)}"
    facts = inventory.read_host(call.reader, call.clock, ("volumes",))
    selection.warn_about_host(call, facts)
    destination = destinations.check(facts, call.params["destination"], identity)
    folder = state.state_folder(facts.system.system_drive)
    reading = stored_copies.read(call, destination, folder, identity, run_id=run_id, host=facts.system.name, everything=True)
    if reading is None:
        call.warn(f"Check mode does not look at {destination.path}: that needs a task on the host. What is there is not known.")
        return {"changed": False, "results": [], "damaged": []}
    drilled = _drills(call, destination, folder, identity, run_id)
    free = restore_boot.free_memory(call.reader)
    exports = [copy for copy in reading.found.copies if copy.manifest.kind == EXPORT and _wanted(copy, call.params["vms"])]
    results = [_entry(facts, copies, drilled, free) for copies in _by_machine(exports)]
    results.sort(key=lambda one: ((one["last_drill"] or {}).get("began") or _NEVER, one["vm"]["name"].casefold(), one["vm"]["vm_id"]))
    return {"changed": False, "results": results, "damaged": list(reading.found.damaged)}


def _drills(call: Call, destination: destinations.Destination, folder: StateFolder, identity: run_as.Identity,
            run_id: str) -> Sequence[Drill]:
    if not destination.is_share:
        return restore_evidence.read_local(call.reader, destination.path)
    return call.through_host(lambda writer: restore_evidence.read_share(writer, folder, destination.path, run_id, identity,
                                                                        clock=call.clock)) or ()


def _wanted(copy: FoundCopy, patterns: Sequence[str] | None) -> bool:
    """True when a machine is meant by its GUID or by a pattern for its name; by none: all are."""
    if not patterns:
        return True
    name = copy.manifest.vm_name.casefold()
    return any(as_guid(one) == copy.manifest.vm_id or fnmatch.fnmatchcase(name, one.casefold()) for one in patterns)


def _by_machine(copies: Iterable[FoundCopy]) -> list[list[FoundCopy]]:
    """The copies of each machine of each host, the newest first."""
    found: dict[tuple[str, str], list[FoundCopy]] = {}
    for copy in copies:
        found.setdefault((copy.manifest.host.casefold(), copy.manifest.vm_id), []).append(copy)
    return [sorted(group, key=lambda one: (one.manifest.taken, one.folder), reverse=True) for group in found.values()]


def _entry(facts: HostFacts, copies: Sequence[FoundCopy], drilled: Sequence[Drill], free: int | None) -> dict[str, Any]:
    newest = copies[0]
    source = restore_source.of_manifest(newest.folder, newest.manifest)
    mine = [one for one in drilled if one.vm_id == source.vm_id and (one.source_host or "").casefold() == (source.host or "").casefold()]
    passed = [one for one in mine if one.outcome == "passed"]
    return {"vm": {"vm_id": source.vm_id, "name": source.vm_name}, "source_host": source.host, "newest": source.as_result(),
            "exports": len(copies), "incomplete": sum(1 for copy in copies if copy.missing),
            "refusal": _refusal(facts, newest, source, free),
            "last_drill": mine[-1].as_data() if mine else None, "last_passed": passed[-1].as_data() if passed else None}


def _refusal(facts: HostFacts, newest: FoundCopy, source: Source, free: int | None) -> dict[str, Any] | None:
    """Why a drill of the newest backup would be refused on this host, as far as that is known beforehand."""
    try:
        if newest.missing:
            raise HypervError(f"{newest.missing[0]} is missing or of another size than the manifest says.", error_code="backup_incomplete")
        restore_plan.check_host(facts, source, free, drill=True, runs=True)
    except HypervError as error:
        return {"error_code": error.error_code, "msg": error.message}
    return None
