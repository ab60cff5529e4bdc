# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_preflight``: what is missing on a host before the first night, without changing anything.

What only writing can show is *unknown*. With ``write_test`` it is tried: the state folder is made and proved, and at each share a lease is
taken and given back by a job that runs as copies do. Nothing of that stays but the state folder.
"""
from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import ConnectionFailed, HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations, preflight_facts, preflight_rules, run_as
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.preflight_facts import Facts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.preflight_rules import STATUSES, Target, Tested
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import leases, state, target_leases
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import LeasePlace
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder

_LEASE = timedelta(minutes=10)


def run(call: Call) -> dict[str, Any]:
    """The result of the task: ``checks``, their ``counts``, and ``ready``."""
    wanted = [(str(entry["path"]), run_as.read(entry)) for entry in call.params["destinations"]]
    facts = preflight_facts.read(call.reader, call.clock)
    targets = [_target(facts, path, identity) for path, identity in wanted]
    able = bool(call.params["write_test"]) and facts.system.value is not None
    steps = [Step("make_state_folder", "the state folder of the host")] if able else []
    steps += [Step("write_and_remove", target.path) for target in targets if able and _writable(target)]

    def apply(writer: CimWriter) -> dict[str, Any]:
        tested, tried = _write_test(call, writer, facts, targets)
        return _result(facts, tried, tested)

    return call.conclude(Plan(tuple(steps), predicted=_result(facts, targets, Tested())), apply)


def _target(facts: Facts, path: str, identity: Identity) -> Target:
    is_share = destinations.is_share(path)
    system = facts.system.value
    if system is None:
        return Target(path, is_share, identity)
    try:
        found = destinations.check(HostFacts(system, (), volumes=facts.volumes.value), path, identity)
    except HypervError as error:
        return Target(path, is_share, identity, problem=f"{error.message} {error.hint or ''}".strip())
    return Target(found.path, found.is_share, identity, found.volume)


def _result(facts: Facts, targets: Sequence[Target], tested: Tested) -> dict[str, Any]:
    found = preflight_rules.checks(facts, targets, tested)
    counts = Counter(check.status for check in found)
    system, cluster = facts.system.value, facts.cluster.value
    return {
        "checks": [check.as_result() for check in found], "counts": {status: counts[status] for status in STATUSES},
        "ready": counts[preflight_rules.MISSING] == 0,
        "host": {"name": system.name if system else None, "fqdn": system.fqdn if system else None,
                 "release": system.release if system else None, "cluster": cluster.name if cluster else None},
        "connection": {"scheme": facts.connection.scheme, "port": facts.connection.port, "transport": facts.connection.transport,
                       "encrypted": facts.connection.encrypted}}


# -- the opt-in ----------------------------------------------------------------------------------------------------------


def _write_test(call: Call, writer: CimWriter, facts: Facts, targets: Sequence[Target]) -> tuple[Tested, list[Target]]:
    """What writing shows: of the state folder, and then of each destination, since the jobs lie in that folder."""
    system = facts.system.value
    if system is None:  # without steps nothing is applied
        return Tested(), list(targets)
    folder = state.state_folder(system.system_drive)
    try:
        state.ensure(writer, folder)
    except ConnectionFailed:
        raise
    except HypervError as error:
        return Tested(error.message), list(targets)
    return Tested(""), [_tried(call, writer, folder, target, facts) if _writable(target) else target for target in targets]


def _writable(target: Target) -> bool:
    """A share, where rights are those of another machine; on a volume of the host SYSTEM and administrators may write."""
    return target.is_share and target.problem is None


def _tried(call: Call, writer: CimWriter, folder: StateFolder, target: Target, facts: Facts) -> Target:
    try:
        _write_there(call, writer, folder, target, facts)
    except ConnectionFailed:
        raise
    except HypervError as error:
        return replace(target, tested=False, said=error.message)
    return replace(target, tested=True)


def _write_there(call: Call, writer: CimWriter, folder: StateFolder, target: Target, facts: Facts) -> None:
    """Take a lease in the destination and give it back, in one job. Raises HypervError for what did not work."""
    system = facts.system.value
    name = system.name if system is not None else ""
    token = secrets.token_hex(6)
    run_id = f"preflight-{token}"
    lease = leases.new_lease(LeasePlace(target.path, run_id), run_id, token, now=call.clock.utcnow(), duration=_LEASE)
    result, _outputs = destinations.run_at_share(writer, folder, run_id, "knock", target.identity,
                                                 target_leases.try_job(target.path, lease), clock=call.clock)
    target_leases.expect_tried(result, target.path, target.identity.at_share(name))
