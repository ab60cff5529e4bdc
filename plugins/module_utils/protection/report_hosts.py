# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report says of the hosts themselves: findings, which somebody has to do something about, and notes."""
from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import span
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_facts import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_rules import Problem

LARGEST_SKEW = 300.0
"""Seconds that the clock of a host may be away from the controller's."""


def size(number: int) -> str:
    """Bytes for people: ``41.2 GiB``."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{int(value)} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def findings(host: HostFacts) -> tuple[Problem, ...]:
    """What has to be done at a host, beyond its virtual machines."""
    return tuple(_findings(host))


def _findings(host: HostFacts) -> Iterator[Problem]:
    if host.stale_shadows:
        yield Problem("shadow_copies_left", f"Shadow copies that are ours, or may be, and are older than a day: {host.stale_shadows}.",
                      "Run the role shadow_cleanup.")
    for one in host.destinations:
        if one.damaged:
            yield Problem("manifest_damaged", f"{one.damaged} manifest(s) at {one.path} are damaged: their copies do not count.",
                          "hyperv_protection_info names them under damaged. Find out what happened to them.")
    for text in host.unread:
        yield Problem("not_read", text, "Look what stands in the way there. Until then nobody knows.")


def notes(host: HostFacts) -> Iterator[str]:
    """What else is to be said of a host."""
    yield from (f"The policies mean nothing: {problem}" for problem in host.problems)
    for one in host.destinations:
        if not one.read:
            yield f"{one.path} could not be read ({one.error_code}): {one.msg}"
            continue
        told = (f"{size(one.free)} free" if one.free is not None else "", f"{one.damaged} damaged" if one.damaged else "",
                f"{one.incomplete} incomplete" if one.incomplete else "")
        yield f"{one.path}: {', '.join(filter(None, told)) or 'read'}"
    shadows = host.shadow_copies or {}
    if any(shadows.values()):
        oldest = "" if host.oldest_shadow is None else f", the oldest is {span(timedelta(seconds=host.oldest_shadow))} old"
        yield "Shadow copies: " + ", ".join(f"{number} {owner}" for owner, number in shadows.items() if number) + oldest
    if abs(host.clock_skew) > LARGEST_SKEW:
        where = "ahead of" if host.clock_skew > 0 else "behind"
        yield f"Its clock is {span(timedelta(seconds=abs(host.clock_skew)))} {where} the controller's."
