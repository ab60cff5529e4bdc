# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_prune``: retention at a destination by a host that may delete there, for hosts that may only create."""
from __future__ import annotations

import ntpath
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    destinations,
    run_as,
    run_lease,
    stored_copies,
    vss_plan,
    vss_prune,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_work import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.destinations import Destination
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import RunLease
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.stored_copies import Found
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import Request
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_prune import Pruning
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import FoundCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import Manifest
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state, system, volumes


@dataclass(frozen=True)
class Owner:
    """A virtual machine as the manifests name it: it need not exist any more."""

    vm_id: str
    name: str


@dataclass(frozen=True)
class Group:
    """The copies of one kind that one host made of one virtual machine, with what goes. ``stopped``: why nothing goes."""

    host: str
    owner: Owner
    kind: str
    pruning: Pruning
    stopped: str | None = None

    def entry(self) -> dict[str, Any]:
        """The entry in ``results``, before anything is done."""
        return {"vm": {"vm_id": self.owner.vm_id, "name": self.owner.name}, "host": self.host, "kind": self.kind, "changed": False,
                "failed": False, "leftovers": [], "stopped": self.stopped, "kept": len(self.pruning.plan.kept)}


def run(call: Call) -> dict[str, Any]:
    """The result of the task."""
    params = call.params
    identity = run_as.read(params)
    at_share = destinations.is_share(params["destination"])
    host = system.read_system(call.reader, call.clock, computer=False)
    facts = HostFacts(host, (), volumes=None if at_share else volumes.read_volumes(call.reader))
    destination = destinations.check(facts, params["destination"], identity)
    request = vss_plan.check_request(
        {**params, "run_id": None, "method": "vss", "writers": "none", "csv_any_node": False, "consistency": "crash",
         "consistency_fallback": "fail", "verify": "size"}, destination.path, identity,
        f"prune-{secrets.token_hex(6)}", None)
    if request.keep.empty:
        raise HypervError("keep has no rule, so nothing would ever go.", error_code="invalid_keep", hint="Give at least one rule.")
    folder = state.state_folder(host.system_drive)
    reading = stored_copies.read(call, destination, folder, identity, run_id=request.run_id, host=host.name, everything=True)
    if reading is None:
        call.warn(f"Check mode does not look at {destination.path}: that needs a task on the host. What would go is not known.")
        return {"changed": False, "results": []}
    groups = tuple(groups_of(reading.found, request, params["kinds"], params["hosts"], params["vm_ids"], host))
    for group in groups:
        vss_prune.warn_about_others(group.pruning, call.warn)
        if group.stopped is not None:
            call.warn(f"Nothing of {group.owner.name!r} on {group.host!r} is removed: {group.stopped}")

    def apply(writer: CimWriter) -> dict[str, Any]:
        if not reading.ensured:
            state.ensure(writer, folder)
        work = [(group.pruning, group.entry()) for group in groups]
        with RunLease(writer, call.clock, folder, request.run_id,
                      duration=run_lease.DURATION + timedelta(seconds=float(params["timeout"]))) as lease:
            tools = Tools(writer, call.clock, call.progress, folder, Deadline(call.clock, params["timeout"]), 0.0, identity,
                          identity.at_share(host.name), destination, lease)
            vss_prune.prune_all(work, tools, request.run_id, call.warn)
        return _result([entry for _unused, entry in work])

    return call.conclude(_plan(groups, destination), apply)


def groups_of(found: Found, request: Request, kinds: list[str], hosts: list[str] | None, vm_ids: list[str] | None,
              host: system.HostSystem) -> Iterator[Group]:
    """What goes of each VM of each host, by kind; pure. A VM whose newest run has no manifest keeps everything."""
    wanted_hosts = None if hosts is None else {name.partition(".")[0].casefold() for name in hosts}
    wanted_ids = None if vm_ids is None else {vm_id.strip("{}").upper() for vm_id in vm_ids}
    for kind in kinds:
        own = found.of_kind(kind)
        latest: dict[tuple[str, str], Manifest] = {}
        for copy in (*own.copies, *own.begun):
            manifest = copy.manifest
            key = (manifest.host.casefold(), manifest.vm_id)
            if key not in latest or latest[key].taken < manifest.taken:
                latest[key] = manifest
        for (name, vm_id), manifest in sorted(latest.items()):
            if (wanted_hosts is not None and name not in wanted_hosts) or (wanted_ids is not None and vm_id not in wanted_ids):
                continue
            owner = Owner(vm_id, manifest.vm_name)
            newer = _newer_without_manifest(found, own.copies, manifest)
            pruning = vss_prune.decide(own, owner, None, request, host=manifest.host, now=host.local_time)
            if newer is not None:
                pruning = Pruning(owner, pruning.destination, pruning.plan, (), True)
            yield Group(manifest.host, owner, kind, pruning, None if newer is None else f"{newer} is newer and has no usable manifest.")


def _newer_without_manifest(found: Found, copies: tuple[FoundCopy, ...], newest: Manifest) -> str | None:
    """A folder of the VM, under whatever name it had, that is newer than its newest copy and has no manifest that can be read: its newest
    run failed, or is still at work."""
    name = newest.host.casefold()
    own = [copy.folder for copy in copies if copy.manifest.vm_id == newest.vm_id and copy.manifest.host.casefold() == name]
    if not own:
        return None
    host, last = ntpath.dirname(ntpath.dirname(own[0])).casefold(), max(ntpath.basename(folder) for folder in own)
    for path in (*found.incomplete, *found.damaged):
        machine, copy_name = ntpath.split(path)
        if ntpath.dirname(machine).casefold() == host and machine.upper().endswith(f"_{newest.vm_id[:8]}") and copy_name > last:
            return path
    return None


def _plan(groups: tuple[Group, ...], destination: Destination) -> Plan:
    steps = [Step("prune", copy.folder, {"vm_id": group.owner.vm_id, "host": group.host, "size": copy.manifest.size})
             for group in groups for copy in group.pruning.going]
    entries = []
    for group in groups:
        entry = group.entry()
        vss_prune.predict(group.pruning, entry)
        entries.append(entry)
    before = {f"{group.host}|{group.owner.vm_id}|{group.kind}": group.pruning.diff()["before"] for group in groups}
    after = {f"{group.host}|{group.owner.vm_id}|{group.kind}": group.pruning.diff()["after"] for group in groups}
    return Plan(tuple(steps), {"retention": before, "destination": destination.path}, {"retention": after, "destination": destination.path},
                _result(entries))


def _result(entries: list[dict[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {"changed": any(entry["changed"] for entry in entries), "results": entries}
    failed = [entry for entry in entries if entry["failed"]]
    if failed:
        result.update({"failed": True, "error_code": "some_failed",
                       "msg": f"{len(failed)} of {len(entries)} virtual machines could not be pruned. {failed[0]['msg']}"})
    return result
