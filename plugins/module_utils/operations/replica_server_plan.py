# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that a host is the replica server that a task asks for: a pure decision (operations 7.2)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import rows
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.rows import Change, OptionValue
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replica_server
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replica_server import (
    CERTIFICATE,
    KERBEROS,
    Authorization,
    ServerFacts,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.firewall import Rule, our_name

IN_BOX: Mapping[tuple[str, int], str] = {
    (KERBEROS, 80): "VIRT-HVRHTTPL-In-TCP-NoScope", (CERTIFICATE, 443): "VIRT-HVRHTTPSL-In-TCP-NoScope",
}
"""The rules that come with the role, by listener and the only port that they open (operations 7.2)."""
PORT_OPTIONS: Mapping[str, str] = {KERBEROS: "http_port", CERTIFICATE: "https_port"}


@dataclass(frozen=True)
class Opening:
    """One port that has to be open. ``in_box``: the internal name of the rule that comes with Windows; None where ours is needed."""

    port: int
    in_box: str | None

    @property
    def name(self) -> str:
        """The rule, for people."""
        return self.in_box or our_name(self.port)


@dataclass(frozen=True)
class Wanted:
    """What a task asks for: settings by option, entries to have and keys to lose. ``purge``: no other entry stays."""

    settings: Mapping[str, Any]
    entries: tuple[Authorization, ...]
    unwanted: frozenset[str]
    purge: bool
    firewall: bool


@dataclass(frozen=True)
class ServerPlan:
    """The decision: changed settings, entries to add, to change (with what they were) and to remove, ports to open and to close."""

    changes: tuple[Change, ...] = ()
    added: tuple[Authorization, ...] = ()
    modified: tuple[tuple[Authorization, Authorization], ...] = ()
    removed: tuple[Authorization, ...] = ()
    opened: tuple[Opening, ...] = ()
    closed: tuple[int, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[Authorization, ...] = ()

    @property
    def starts_listening(self) -> bool:
        """The listeners are made, or made again."""
        return any(change.row.option not in ("monitoring_interval", "monitoring_start") for change in self.changes)


def wanted_from(params: Mapping[str, Any]) -> Wanted:
    """The arguments of a task. Raises HypervError ``invalid_option``."""
    _check_ranges(params)
    if params["authorization_purge"] and params["authorization"] is None:
        raise HypervError("authorization_purge without authorization would remove every entry.", error_code="invalid_option",
                          hint="Give the entries that stay. An empty list says that none does.")
    settings = rows.given(replica_server.ROWS, {**params, "enabled": params["state"] == "present"})
    if params["state"] == "absent":
        settings = {"enabled": False}
    entries, unwanted = [], set()
    for one in params["authorization"] or ():
        entry = Authorization(one["primary"], one["storage"] or "", one["trust_group"] or "DEFAULT")
        if one["state"] == "absent":
            unwanted.add(entry.key)
        elif not entry.storage:
            raise HypervError(f"The authorisation of {entry.primary!r} needs storage.", error_code="invalid_option",
                              hint="Name the folder of this host that its replicas are kept in.")
        else:
            entries.append(entry)
    keys = [entry.key for entry in entries]
    twice = {key for key in keys if keys.count(key) > 1} | unwanted.intersection(keys)
    if twice:
        raise HypervError(f"The authorisation of {', '.join(sorted(twice))} is given twice.", error_code="invalid_option")
    return Wanted(settings, tuple(entries), frozenset(unwanted), params["authorization_purge"], params["firewall"])


_RANGES = (("http_port", 1, 65535), ("https_port", 1, 65535), ("monitoring_interval", 3600, 604800))


def _check_ranges(params: Mapping[str, Any]) -> None:
    for option, least, most in _RANGES:
        value = params.get(option)
        if value is not None and not least <= value <= most:
            raise HypervError(f"{option} is {value}, and may be {least} to {most}.", error_code="invalid_option")


def openings(settings: Mapping[str, Any]) -> tuple[Opening, ...]:
    """The ports of the listeners that these settings make."""
    if not settings.get("enabled"):
        return ()
    found = []
    for method, option in PORT_OPTIONS.items():
        port = settings.get(option)
        if replica_server.uses(settings.get("authentication"), method) and isinstance(port, int):
            found.append(Opening(port, IN_BOX.get((method, port))))
    return tuple(found)


def refuse(settings: Mapping[str, Any], domain: str | None) -> None:
    """What cannot work is refused before anything is written. Raises HypervError."""
    if not settings.get("enabled"):
        return
    authentication = settings.get("authentication")
    if authentication not in replica_server.METHODS.values():
        raise HypervError("The host has no authentication set for replication, and the task names none.", error_code="invalid_option",
                          hint="Set authentication.")
    if replica_server.uses(authentication, KERBEROS) and domain is None:
        raise HypervError("The host is in no domain, so Kerberos cannot authenticate replicas.", error_code="kerberos_needs_domain",
                          hint="Use authentication: certificate.")
    if replica_server.uses(authentication, CERTIFICATE) and not settings.get("certificate_thumbprint"):
        raise HypervError("Authentication by certificate needs certificate_thumbprint.", error_code="certificate_missing",
                          hint="Name a certificate of the computer's own store that is for client and server authentication.")
    if authentication == replica_server.BOTH and settings.get("http_port") == settings.get("https_port"):
        raise HypervError("Both listeners cannot have one port.", error_code="invalid_option")


def future(facts: ServerFacts, wanted: Wanted, build: int) -> tuple[tuple[Change, ...], dict[str, Any]]:
    """The changed settings, and all settings as they will be. Raises HypervError as ``rows.differences``."""
    changes = rows.differences(replica_server.ROWS, facts.settings, wanted.settings, build)
    return changes, rows.after(facts.settings, changes)


def decide(facts: ServerFacts, wanted: Wanted, build: int, rules: Mapping[str, Rule | None]) -> ServerPlan:
    """The plan. ``rules``: the firewall rules that were looked at, by their name. Raises HypervError."""
    changes, settings = future(facts, wanted, build)
    current = {entry.key: entry for entry in facts.authorizations}
    added, modified = [], []
    for entry in wanted.entries:
        there = current.get(entry.key)
        if there is None:
            added.append(entry)
        elif differs(there, entry):
            modified.append((there, entry))
    keys = {entry.key for entry in wanted.entries}
    removed = [entry for entry in facts.authorizations if entry.key in wanted.unwanted or (wanted.purge and entry.key not in keys)]
    now = openings(settings)
    opened = [one for one in now if wanted.firewall and not _lets_in(rules.get(one.name))]
    missing = [one for one in opened if one.in_box and rules.get(one.name) is None]
    if missing:
        raise HypervError(f"The host has no firewall rule {missing[0].in_box}.", error_code="firewall_rule_missing",
                          hint="It comes with the Hyper-V role. Set firewall: false and open the port in your own way.")
    closed = [one.port for one in openings({**facts.settings, "enabled": True})
              if wanted.firewall and one.in_box is None and one not in now and rules.get(one.name) is not None]
    gone = {entry.key for entry in removed}
    entries = {**{key: entry for key, entry in current.items() if key not in gone}, **{entry.key: entry for entry in added},
               **{entry.key: entry for _unused, entry in modified}}
    return ServerPlan(changes, tuple(added), tuple(modified), tuple(removed), tuple(opened), tuple(closed), settings,
                      tuple(entries[key] for key in sorted(entries)))


def _lets_in(rule: Rule | None) -> bool:
    return rule is not None and rule.lets_in


def differs(one: Authorization, other: Authorization) -> bool:
    """Whether two entries of one primary say different things."""
    return (_folder(one.storage), one.trust_group.casefold()) != (_folder(other.storage), other.trust_group.casefold())


def _folder(path: str) -> str:
    return path.casefold().rstrip("\\")


def as_plan(plan: ServerPlan, facts: ServerFacts, host: str, predicted: Mapping[str, Any]) -> Plan:
    """The steps and the diff, with nothing in it that stays as it is."""
    steps: list[Step] = []
    if plan.changes:
        steps.append(Step("modify_settings", host, {change.row.option: change.after for change in plan.changes}))
    steps += [Step("add_authorization", entry.primary, entry.as_result()) for entry in plan.added]
    steps += [Step("modify_authorization", entry.primary, entry.as_result()) for _unused, entry in plan.modified]
    steps += [Step("remove_authorization", entry.primary) for entry in plan.removed]
    steps += [Step("open_port", one.name, {"port": one.port}) for one in plan.opened]
    steps += [Step("close_port", our_name(port), {"port": port}) for port in plan.closed]
    before: dict[str, OptionValue | Sequence[Any]] = {change.row.option: change.before for change in plan.changes}
    after: dict[str, OptionValue | Sequence[Any]] = {change.row.option: change.after for change in plan.changes}
    if plan.added or plan.modified or plan.removed:
        before["authorization"] = [entry.as_result() for entry in facts.authorizations]
        after["authorization"] = [entry.as_result() for entry in plan.entries]
    return Plan(tuple(steps), before, after, predicted)
