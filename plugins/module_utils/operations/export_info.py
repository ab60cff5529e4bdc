# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_export_info``: what exports a destination holds, what of it counts, and which VMs have a good one."""
from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations, inventory, run_as, selection, stored_copies
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.stored_copies import Found
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vm_result import iso
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import FoundCopy, parse_age
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import EXPORT
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.retention import FUTURE_TOLERANCE
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state

COMPLETE, DAMAGED, BEING_REMOVED = "complete", "damaged", "being_removed"


@dataclass(frozen=True)
class Asked:
    """What the task asks for, checked."""

    max_age: timedelta | None
    name: str | None
    vm_id: str | None

    def wants(self, copy: FoundCopy) -> bool:
        """True for an export of the VM that the task names, of any when it names none."""
        if self.vm_id is not None:
            return copy.manifest.vm_id == self.vm_id.strip("{}").upper()
        return self.name is None or copy.manifest.vm_name.casefold() == self.name.casefold()


def run(call: Call) -> dict[str, Any]:
    """The result of the task. One program for a local destination, one task for a share, however many exports there are."""
    params = call.params
    try:
        asked = Asked(parse_age(params["max_age"]) if params["max_age"] else None, params["name"], params["vm_id"])
    except ValueError as error:
        raise HypervError(f"max_age: {error}", error_code="invalid_max_age") from error
    identity = run_as.read(params)
    at_share = destinations.is_share(params["destination"])
    facts = inventory.read_host(call.reader, call.clock, ("state",) if at_share else ("state", "volumes"))
    selection.warn_about_host(call, facts)
    destination = destinations.check(facts, params["destination"], identity)
    reading = stored_copies.read(call, destination, state.state_folder(facts.system.system_drive), identity, run_id=secrets.token_hex(6),
                                 host=facts.system.name, everything=bool(params["all_hosts"]))
    if reading is None:
        call.warn(f"Check mode does not look at {destination.path}: that needs a task on the host. What is there is not known.")
        return {"changed": False, "destination": destination.path}
    free = reading.destination.free
    return {"changed": False, "destination": destination.path, "free": free, **told(facts, reading.found, asked)}


def told(facts: HostFacts, found: Found, asked: Asked) -> dict[str, Any]:
    """The result, from what the destination holds; pure."""
    now = facts.system.local_time
    kind = found.of_kind(EXPORT)
    copies = sorted((copy for copy in kind.copies if asked.wants(copy)), key=lambda copy: copy.manifest.taken, reverse=True)
    begun = [copy for copy in kind.begun if asked.wants(copy)]
    entries = [*(_entry(copy, now, DAMAGED if copy.missing else COMPLETE) for copy in copies),
               *(_entry(copy, now, BEING_REMOVED) for copy in begun)]
    machines = [_machine(facts, vm_id, name, present, copies, asked, now) for vm_id, name, present in _known(facts, copies, asked)]
    return {
        "exports": entries, "vms": machines,
        "without": [one["vm_id"] for one in machines if one["on_host"] and one["newest"] is None],
        "incomplete": [{"folder": path, "run_id": stored_copies.run_of(path)} for path in found.incomplete],
        "damaged": list(found.damaged), "foreign": list(found.foreign),
        "counts": {COMPLETE: sum(1 for entry in entries if entry["state"] == COMPLETE),
                   DAMAGED: sum(1 for entry in entries if entry["state"] == DAMAGED) + len(found.damaged),
                   BEING_REMOVED: len(begun), "incomplete": len(found.incomplete), "foreign": len(found.foreign)},
        "size": sum(entry["size"] for entry in entries if entry["state"] == COMPLETE)}


def is_good(copy: FoundCopy, now: datetime, max_age: timedelta | None) -> bool:
    """True for one that is whole, was verified, is not from the future, and is young enough."""
    manifest = copy.manifest
    if copy.missing or manifest.verified == "none" or manifest.taken > now + FUTURE_TOLERANCE:
        return False
    return max_age is None or now - manifest.taken < max_age


def _entry(copy: FoundCopy, now: datetime, state_of_it: str) -> dict[str, Any]:
    manifest, export = copy.manifest, copy.manifest.export
    data = manifest.as_data()
    return {
        "folder": copy.folder, "state": state_of_it, "vm": {"vm_id": manifest.vm_id, "name": manifest.vm_name}, "host": manifest.host,
        "run_id": manifest.run_id, "method": manifest.method, "taken": iso(manifest.taken), "age": _seconds(now - manifest.taken),
        "consistency": data["consistency"], "size": manifest.size, "verified": {"how": manifest.verified, "at": iso(manifest.completed)},
        "missing": list(copy.missing), "others": list(copy.others), "version": export.version if export else None,
        "needs_guardian": bool(export and export.needs_guardian)}


def _seconds(age: timedelta) -> int:
    return int(age.total_seconds())


def _known(facts: HostFacts, copies: Sequence[FoundCopy], asked: Asked) -> Iterable[tuple[str, str, bool]]:
    """The VMs of this host, then those that only the destination knows, the latest name of each."""
    here = {machine.vm_id for machine in facts.machines}
    yield from ((machine.vm_id, machine.name, True) for machine in facts.machines if _named(machine, asked))
    gone: dict[str, str] = {}
    for copy in copies:
        if copy.manifest.vm_id not in here:
            gone.setdefault(copy.manifest.vm_id, copy.manifest.vm_name)
    yield from ((vm_id, name, False) for vm_id, name in gone.items())


def _named(machine: Machine, asked: Asked) -> bool:
    if asked.vm_id is not None:
        return machine.vm_id == asked.vm_id.strip("{}").upper()
    return asked.name is None or machine.name.casefold() == asked.name.casefold()


def _machine(facts: HostFacts, vm_id: str, name: str, present: bool, copies: Sequence[FoundCopy], asked: Asked,
             now: datetime) -> dict[str, Any]:
    own = [copy for copy in copies if copy.manifest.vm_id == vm_id]
    good = next((copy for copy in own if is_good(copy, now, asked.max_age)), None)  # the newest comes first
    newest = None if good is None else {
        "folder": good.folder, "host": good.manifest.host, "taken": iso(good.manifest.taken), "age": _seconds(now - good.manifest.taken),
        "consistency": good.manifest.achieved, "size": good.manifest.size, "verified": good.manifest.verified}
    return {"vm_id": vm_id, "name": name, "on_host": present, "exports": len(own), "newest": newest}
