# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall of a host: its rules, whom they let in, and MSFT_NetFirewallRule of root/StandardCimv2 (windows facts 2)."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.cim.errors import SimulatorGap
from simulator.cim.model import Caller, CimError, CimValue, Instance
from simulator.cim.provider import Invocation, MethodHandler, MethodOutcome

if TYPE_CHECKING:
    from simulator.cim.repository import Repository

NAMESPACE = "root/StandardCimv2"
RULE = "MSFT_NetFirewallRule"
_KEY = "MSFT|FW|FirewallRule|"
_ON, _OFF = 1, 2
_IN, _OUT = 1, 2
_ALLOW, _BLOCK = 2, 4
_VMMS = "%systemroot%\\system32\\vmms.exe"


@dataclass
class Rule:
    """One rule. ``id`` is InstanceID, which does not change with the language; ``name`` is the one that people see."""

    id: str
    name: str
    enabled: bool = True
    inbound: bool = True
    allow: bool = True
    profiles: int = 0
    """Bit mask; 0 means all."""
    protocol: str = "TCP"
    """``TCP``, ``UDP`` or ``any``."""
    ports: tuple[tuple[int, int], ...] = ()
    """Local ports, from and to; empty means all."""
    program: str | None = None
    group: str | None = None
    """An indirect string."""
    description: str = ""
    in_box: bool = False

    def takes(self, protocol: str, port: int, program: str) -> bool:
        """Whether traffic to a local port of a program is meant."""
        return (self.enabled and self.protocol in (protocol, "any") and (not self.ports or any(a <= port <= b for a, b in self.ports))
                and (self.program is None or self.program.lower() == program.lower()))


_NAMES = {
    "en-US": ("Hyper-V Replica HTTP Listener (TCP-In)", "Hyper-V Replica HTTPS Listener (TCP-In)"),
    "de-DE": ("HTTP-Listener für Hyper-V-Replikat (TCP eingehend)", "HTTPS-Listener für Hyper-V-Replikat (TCP eingehend)"),
    "ja-JP": ("Hyper-V レプリカ HTTP リスナー (TCP 受信)", "Hyper-V レプリカ HTTPS リスナー (TCP 受信)"),
}


def in_box_rules(locale: str) -> list[Rule]:
    """What a host with the Hyper-V role has: the two rules of Replica are there and disabled (operations 7.2)."""
    http, https = _NAMES.get(locale, _NAMES["en-US"])
    system = "System"
    return [
        Rule("WINRM-HTTP-In-TCP", "Windows Remote Management (HTTP-In)", ports=((5985, 5985),), program=system, in_box=True,
             group="@FirewallAPI.dll,-30267"),
        Rule("VIRT-HVRHTTPL-In-TCP-NoScope", http, enabled=False, ports=((80, 80),), program=system, in_box=True,
             group=f"@{_VMMS},-252"),
        Rule("VIRT-HVRHTTPSL-In-TCP-NoScope", https, enabled=False, ports=((443, 443),), program=system, in_box=True,
             group=f"@{_VMMS},-253"),
    ]


class Firewall:
    """The rules of one host in its persistent store; what no rule lets in stays outside."""

    def __init__(self, locale: str, note_change: Callable[[str], None], enabled: Iterable[str] = ()) -> None:
        self._note = note_change
        self.on = True
        """False: the firewall is switched off and lets everything in."""
        self._rules: dict[str, Rule] = {rule.id.lower(): rule for rule in in_box_rules(locale)}
        for rule_id in enabled:
            self._rules[rule_id.lower()].enabled = True

    def all(self) -> list[Rule]:
        """In the order they came."""
        return list(self._rules.values())

    def get(self, rule_id: str) -> Rule | None:
        """By InstanceID, any letter case."""
        return self._rules.get(rule_id.lower())

    def named(self, name: str) -> list[Rule]:
        """By the name that people see, of which there may be several."""
        return [rule for rule in self._rules.values() if rule.name.lower() == name.lower()]

    def add(self, rule: Rule) -> None:
        """One more rule. ValueError: the id is taken."""
        if rule.id.lower() in self._rules:
            raise ValueError(rule.id)
        self._rules[rule.id.lower()] = rule
        self._note(f"firewall rule {rule.id} added")

    def remove(self, rule: Rule) -> None:
        """Take a rule away."""
        del self._rules[rule.id.lower()]
        self._note(f"firewall rule {rule.id} removed")

    def set_enabled(self, rule: Rule, enabled: bool) -> None:
        """Switch a rule on or off."""
        rule.enabled = enabled
        self._note(f"firewall rule {rule.id} {'enabled' if enabled else 'disabled'}")

    def admits(self, port: int, program: str = "System", protocol: str = "TCP") -> bool:
        """Whether a connection from outside to a local port gets through. A rule that blocks comes before those that allow."""
        if not self.on:
            return True
        fitting = [rule for rule in self._rules.values() if rule.inbound and rule.takes(protocol, port, program)]
        return bool(fitting) and all(rule.allow for rule in fitting)


class Rules:
    """MSFT_NetFirewallRule. Three of the four keys are empty; Enabled is changed by methods only."""

    def __init__(self, firewall: Firewall) -> None:
        self._firewall = firewall
        self.methods: Mapping[str, MethodHandler] = {
            "Enable": self._enable, "Disable": self._disable, "Rename": _gap, "CloneObject": _gap, "EnumerateFull": _gap}

    def instances(self, caller: Caller) -> Iterable[Instance]:
        """All rules."""
        del caller
        return [_row(rule) for rule in self._firewall.all()]

    def where(self, conditions: Mapping[str, CimValue], caller: Caller) -> Iterable[Instance] | None:
        """By InstanceID."""
        del caller
        wanted = conditions.get("InstanceID")
        if not isinstance(wanted, str):
            return None
        rule = self._firewall.get(wanted)
        return [] if rule is None else [_row(rule)]

    def _enable(self, call: Invocation) -> MethodOutcome:
        return self._switch(call, enabled=True)

    def _disable(self, call: Invocation) -> MethodOutcome:
        return self._switch(call, enabled=False)

    def _switch(self, call: Invocation, *, enabled: bool) -> MethodOutcome:
        rule = self._firewall.get(str(call.instance["InstanceID"])) if call.instance else None
        if rule is None:
            raise CimError("not_found", "there is no such rule", hresult=0x80041002)
        self._firewall.set_enabled(rule, enabled)
        return {"ReturnValue": 0}


def _gap(call: Invocation) -> MethodOutcome:
    raise SimulatorGap(f"{RULE}.{call.method} is not simulated")


def _row(rule: Rule) -> Instance:
    return Instance(NAMESPACE, RULE, {
        "SystemCreationClassName": "", "SystemName": "", "PolicyRuleName": "", "CreationClassName": _KEY + rule.id,
        "InstanceID": rule.id, "ElementName": rule.name, "DisplayName": rule.name, "DisplayGroup": None, "RuleGroup": rule.group,
        "Description": rule.description or None, "Enabled": _ON if rule.enabled else _OFF, "Direction": _IN if rule.inbound else _OUT,
        "Action": _ALLOW if rule.allow else _BLOCK, "Profiles": rule.profiles, "PrimaryStatus": 1, "StatusCode": 65536,
        "Status": "The rule was parsed successfully from the store. (65536)", "EdgeTraversalPolicy": 0, "EnforcementStatus": [0],
        "LocalOnlyMapping": False, "LooseSourceMapping": False, "PolicyStoreSource": "PersistentStore", "PolicyStoreSourceType": 1,
    })


def register(repository: Repository, firewall: Firewall) -> None:
    """Serve the rules."""
    repository.register(NAMESPACE, RULE, Rules(firewall))
