# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_replica_server``: reads a host, has it decided, writes and proves that the listeners run (operations 7.2)."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import rows
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import machines, replica_server
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replication_service as service
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replica_server import CERTIFICATE, Authorization, ServerFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_server_plan as planner
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_steps
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_server_plan import Opening, ServerPlan
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vm_result import iso
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import certificates, firewall, system
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.certificates import Certificate
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.firewall import Rule
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import HostSystem

_REPLICAS = ("replica", "extended_replica")


@dataclass(frozen=True)
class Prepared:
    """Everything that was read and decided before anything is written."""

    host: HostSystem
    facts: ServerFacts
    plan: ServerPlan
    rules: Mapping[str, Rule | None]
    certificate: Certificate | None


def run(call: Call) -> dict[str, Any]:
    """The result of the task. Raises HypervError."""
    prepared = prepare(call)
    plan = planner.as_plan(prepared.plan, prepared.facts, prepared.host.name, _result(prepared, prepared.facts.listening))

    def apply(writer: CimWriter) -> dict[str, Any]:
        tools = Tools(writer, call.clock, call.progress, Deadline(call.clock, call.params["timeout"]))
        return _result(prepared, carry_out(tools, prepared))

    concluded = call.conclude(plan, apply)
    if not plan.changed and prepared.plan.settings.get("enabled") and prepared.facts.listening is False:
        raise not_listening(prepared)
    return concluded


def prepare(call: Call) -> Prepared:
    """Read the host and decide; five to eight requests when there is nothing to do. Raises HypervError."""
    wanted = planner.wanted_from(call.params)
    reader = call.reader
    host = system.read_system(reader, call.clock)
    facts = replica_server.read(reader, host.build)
    changes, settings = planner.future(facts, wanted, host.build)
    planner.refuse(settings, host.domain)
    certificate = _certificate(call, host, settings)
    rules: dict[str, Rule | None] = {}
    if wanted.firewall:
        # our own rule for a port that is left, too: it is of no use there
        before = planner.openings({**facts.settings, "enabled": True}) if changes else ()
        for one in (*planner.openings(settings), *(old for old in before if old.in_box is None)):
            if one.name not in rules:
                rules[one.name] = _read_rule(reader, one)
    plan = planner.decide(facts, wanted, host.build, rules)
    if facts.settings.get("enabled") and not settings.get("enabled") and not call.params["accept_stopped_replicas"]:
        _refuse_with_replicas(reader, host)
    return Prepared(host, facts, plan, rules, certificate)


def _read_rule(reader: CimReader, one: Opening) -> Rule | None:
    return firewall.read_rule(reader, one.in_box) if one.in_box else firewall.read_ours(reader, one.port)


def _certificate(call: Call, host: HostSystem, settings: Mapping[str, Any]) -> Certificate | None:
    """The certificate of the listener, fit for it. Raises HypervError ``certificate_not_offered``, ``certificate_unfit``."""
    if not settings.get("enabled") or not replica_server.uses(settings.get("authentication"), CERTIFICATE):
        return None
    thumbprint = rows.thumbprint(settings.get("certificate_thumbprint")) or ""
    offered = service.system_certificates(call.reader)
    found = certificates.find(offered, thumbprint)
    if found is None:
        raise HypervError(f"The host offers {len(offered)} certificates for replication, and none with the thumbprint {thumbprint}.",
                          error_code="certificate_not_offered",
                          hint="It must be in LocalMachine\\My, with its private key, trusted, and for client and server authentication.")
    problem = certificates.problem(found, host.fqdn or host.name, host.local_time)
    if problem is not None:
        raise HypervError(f"The certificate {thumbprint} is not fit for replication: {problem}.", error_code="certificate_unfit",
                          hint="Replication by certificate stops when its certificate does. Have another one issued.")
    if found.not_after - host.local_time < certificates.SOON:
        call.warn(f"The certificate of {host.name} for replication expires on {iso(found.not_after)}.")
    return found


def _refuse_with_replicas(reader: CimReader, host: HostSystem) -> None:
    kept = [one.name for one in machines.read_machines(reader).machines if one.replication_mode in _REPLICAS]
    if kept:
        raise HypervError(f"{host.name} keeps {len(kept)} replicas, which would get nothing any more: {', '.join(kept[:5])}.",
                          error_code="replicas_present", hint="Remove them first, or set accept_stopped_replicas.",
                          details={"replicas": kept})


# -- apply ---------------------------------------------------------------------------------------------------------------


def carry_out(tools: Tools, prepared: Prepared) -> bool | None:
    """Ports first, so that a listener never waits behind a closed one; the settings; the entries. Whether it listens, at the end.

    Raises HypervError ``listener_not_running``, and why a step failed.
    """
    plan, writer, build = prepared.plan, tools.writer, prepared.host.build
    for one in plan.opened:
        _open(tools, prepared, one)
    if plan.changes:
        wanted = {change.row.option: change.after for change in plan.changes}
        replica_steps.achieve(
            tools, f"changing the replica server settings of {prepared.host.name}",
            lambda: service.modify_server(writer, prepared.facts.instance_id, rows.properties(plan.changes)),
            lambda: not rows.differences(replica_server.ROWS, replica_server.read(writer, build).settings, wanted, build))
    for entry in plan.added:
        _entry(tools, entry, partial(service.add_authorization, writer, entry.primary, entry.storage, entry.trust_group))
    for there, entry in plan.modified:
        values = {"ReplicaStorageLocation": entry.storage, "TrustGroup": entry.trust_group}
        _entry(tools, entry, partial(service.modify_authorization, writer, there.instance_id, there.primary, values))
    for entry in plan.removed:
        replica_steps.achieve(tools, f"removing the authorisation of {entry.primary}",
                              partial(service.remove_authorization, writer, entry.primary), partial(_is_gone, tools, entry))
    for port in plan.closed:
        firewall.remove_ours(writer, port)
        if firewall.read_ours(writer, port) is not None:
            raise HypervError(f"The firewall rule {firewall.our_name(port)!r} is still there.", error_code="firewall_refused")
    return _listening(tools, prepared)


def _entry(tools: Tools, entry: Authorization, begin: Callable[[], Reference | None]) -> None:
    replica_steps.achieve(tools, f"authorising {entry.primary}", begin, partial(_is_there, tools, entry))


def _is_there(tools: Tools, entry: Authorization) -> bool:
    return any(one.key == entry.key and not planner.differs(one, entry) for one in replica_server.read_authorizations(tools.writer))


def _is_gone(tools: Tools, entry: Authorization) -> bool:
    return entry.key not in {one.key for one in replica_server.read_authorizations(tools.writer)}


def _open(tools: Tools, prepared: Prepared, one: Opening) -> None:
    tools.progress(f"opening TCP port {one.port} by the firewall rule {one.name}")
    rule = prepared.rules.get(one.name)
    if rule is not None:
        firewall.enable(tools.writer, rule)
    else:
        firewall.add_ours(tools.writer, one.port)
    now = _read_rule(tools.writer, one)
    if now is None or not now.lets_in:
        raise HypervError(f"The firewall rule {one.name} does not let anything in after all.", error_code="firewall_refused",
                          hint="A rule that group policy sets, or that blocks, cannot be changed here.")


def _listening(tools: Tools, prepared: Prepared) -> bool | None:
    """Whether the listeners run; they get a moment to start (operations 7.2)."""
    if not prepared.plan.settings.get("enabled"):
        return None
    build, seen = prepared.host.build, prepared.facts

    def runs() -> bool:
        nonlocal seen
        seen = replica_server.read(tools.writer, build)
        return seen.listening is not False

    if not replica_steps.until(tools, runs, 20.0):
        raise not_listening(prepared)
    return seen.listening


def not_listening(prepared: Prepared) -> HypervError:
    """The service says that a listener does not run (F-46)."""
    ports = ", ".join(str(one.port) for one in planner.openings(prepared.plan.settings))
    return HypervError(f"The replica server of {prepared.host.name} is set up, and a listener does not run (port {ports}).",
                       error_code="listener_not_running",
                       hint="Another program has the port ('netstat -abno' shows which), or the certificate was refused: its private key, "
                            "its chain or its revocation cannot be checked from here.")


def _result(prepared: Prepared, listening: bool | None) -> dict[str, Any]:
    one = prepared.certificate
    return {
        "server": {**prepared.plan.settings, "listening": listening},
        "authorization": [entry.as_result() for entry in prepared.plan.entries],
        "firewall": [{"port": opening.port, "rule": opening.name} for opening in planner.openings(prepared.plan.settings)]
        if prepared.rules else [],
        "certificate": None if one is None else {"thumbprint": one.thumbprint, "names": list(one.names), "expires": iso(one.not_after)},
    }
