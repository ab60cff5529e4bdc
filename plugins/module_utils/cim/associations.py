# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following an association without the host's help, from all of its instances (wire 10, C1)."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference


@dataclass(frozen=True)
class Wanted:
    """One end of the association, and the names of its two ends where the caller knows them."""

    origin: Reference
    role: str | None
    result_role: str | None


def select(wanted: Wanted, ties: Sequence[Instance], candidates: Sequence[Instance]) -> list[Instance]:
    """The candidates that a tie binds to the origin, in the order of the candidates.

    ``ties`` are instances of the association class, ``candidates`` all instances of the result class.
    """
    targets = [target for tie in ties for target in _targets(wanted, tie)]
    return [one for one in candidates if any(_is_at(one, target) for target in targets)]


def _targets(wanted: Wanted, tie: Instance) -> Iterator[Reference]:
    ends = {name.lower(): value for name, value in tie.values.items() if isinstance(value, Reference)}
    roles = [wanted.role.lower()] if wanted.role else list(ends)
    for role in roles:
        if role in ends and _same(ends[role], wanted.origin):
            for other, value in ends.items():
                if other != role and (wanted.result_role is None or other == wanted.result_role.lower()):
                    yield value


def _same(one: Reference, other: Reference) -> bool:
    """Equal in every key that both have: a reference with some of the keys is enough for hosts, too (wire 1.4)."""
    shared = [name for name in one.keys if other.key(name) is not None]
    if not shared or one.class_name.lower() != other.class_name.lower():
        return False
    return all((one.key(name) or "").lower() == (other.key(name) or "").lower() for name in shared)


def _is_at(instance: Instance, reference: Reference) -> bool:
    if instance.class_name.lower() != reference.class_name.lower():
        return False
    for name, value in reference.keys.items():
        own = instance.raw(name)
        if not isinstance(own, str) or own.lower() != value.lower():
            return False
    return True
