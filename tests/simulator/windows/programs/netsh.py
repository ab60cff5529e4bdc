# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``netsh advfirewall firewall add|delete rule``: a name is no key, so adding twice makes two rules and deleting takes them all."""
from __future__ import annotations

import uuid

from simulator.windows.cmdparse import split_arguments
from simulator.windows.firewall import Firewall, Rule
from simulator.windows.programs.base import Context, NotSimulated, Steps

_KNOWN = {"name", "dir", "action", "protocol", "localport", "program", "profile", "description", "enable", "group"}
_PROFILES = {"any": 0, "domain": 1, "private": 2, "public": 4}
_NAMESPACE = uuid.UUID("0f1c6f3e-6a0b-4f7e-9a41-5f3c0a6d7b52")


def run(context: Context, tail: str) -> Steps:
    """Change the rules of the host. 0, or 1 with a message on the output."""
    yield from ()
    words = split_arguments(tail)
    if [word.lower() for word in words[:2]] != ["advfirewall", "firewall"] or len(words) < 4 or words[3].lower() != "rule":
        raise NotSimulated("netsh other than advfirewall firewall ... rule")
    if not context.token.elevated:
        context.out("\r\n" + context.say("needs_elevation") + "\r\n")
        return 1
    assert context.firewall is not None
    options = _options(words[4:])
    verb = words[2].lower()
    if options is None or not options.get("name"):
        context.out("\r\n" + context.say("netsh_syntax") + "\r\n")
        return 1
    if verb == "add":
        return _add(context, context.firewall, options)
    if verb == "delete":
        return _delete(context, context.firewall, options)
    raise NotSimulated(f"netsh advfirewall firewall {verb} rule")


def _options(words: list[str]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name.lower() not in _KNOWN or name.lower() in found:
            return None
        found[name.lower()] = value
    return found


def _add(context: Context, firewall: Firewall, options: dict[str, str]) -> int:
    direction, action, protocol = (options.get(name, "").lower() for name in ("dir", "action", "protocol"))
    ports = _ports(options.get("localport", ""))
    profiles = [_PROFILES.get(word) for word in options.get("profile", "any").lower().split(",")]
    name = options["name"]
    wrong = (direction not in ("in", "out"), action not in ("allow", "block"), protocol not in ("", "any", "tcp", "udp"), ports is None,
             None in profiles, options.get("enable", "yes").lower() not in ("yes", "no"), name.lower() == "all",
             bool(ports) and protocol not in ("tcp", "udp"))
    if any(wrong):
        context.out("\r\n" + context.say("netsh_syntax") + "\r\n")
        return 1
    rule_id = "{" + str(uuid.uuid5(_NAMESPACE, f"{context.facts.name} {name} {len(firewall.all())} {context.clock.now()}")).upper() + "}"
    firewall.add(Rule(rule_id, name, options.get("enable", "yes").lower() == "yes", direction == "in", action == "allow",
                      sum(profile or 0 for profile in profiles), protocol.upper() if protocol in ("tcp", "udp") else "any",
                      tuple(ports or ()), options.get("program"), options.get("group"), options.get("description", "")))
    context.out(context.say("netsh_ok") + "\r\n")
    return 0


def _delete(context: Context, firewall: Firewall, options: dict[str, str]) -> int:
    ports = _ports(options.get("localport", ""))
    wanted = [rule for rule in firewall.named(options["name"])
              if (not ports or rule.ports == tuple(ports))
              and options.get("dir", "in" if rule.inbound else "out").lower() == ("in" if rule.inbound else "out")
              and options.get("protocol", rule.protocol).upper() == rule.protocol.upper()]
    if not wanted:
        context.out("\r\n" + context.say("netsh_no_rule") + "\r\n")
        return 1
    for rule in wanted:
        firewall.remove(rule)
    context.out("\r\n" + context.say("netsh_deleted", len(wanted)) + "\r\n" + context.say("netsh_ok") + "\r\n")
    return 0


def _ports(text: str) -> list[tuple[int, int]] | None:
    """Single ports and ranges; empty for all, None for anything else."""
    if text.lower() in ("", "any"):
        return []
    found = []
    for piece in text.split(","):
        first, _dash, last = piece.partition("-")
        if not first.isascii() or not first.isdecimal() or not (last or first).isdecimal():
            return None
        low, high = int(first), int(last or first)
        if not 0 < low <= high < 65536:
            return None
        found.append((low, high))
    return found
