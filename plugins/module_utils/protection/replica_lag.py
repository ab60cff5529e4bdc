# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a replica is where it should be: its lag against its interval, and the age of its last test (operations 7.5)."""
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import span

CYCLES = 3
"""A replica may lag behind by so many cycles before that is worth a word."""
FAILOVERS = frozenset({"synced", "recovered", "committed", "failover_in_progress", "failback_in_progress", "failback_complete"})
"""States in which a failover waits for its next step, and nothing is sent."""
_COPYING = frozenset({"ready", "initial_replication"})


@dataclass(frozen=True)
class Standing:
    """What is known of one relation. ``lag`` and ``interval`` in seconds, None when unknown."""

    state: str
    health: str | None
    lag: int | None
    interval: int | None
    last_test: datetime | None = None


def problems(one: Standing, now: datetime, *, cycles: int = CYCLES, test_interval: timedelta | None = None) -> tuple[str, ...]:
    """The words of :func:`ills`, and ``test_overdue``; empty when all is well."""
    return (*ills(one, cycles=cycles), *(("test_overdue",) if overdue(one.last_test, now, test_interval) else ()))


def ills(one: Standing, *, cycles: int = 1) -> tuple[str, ...]:
    """Stable words for what is not as it should be, in the order of their weight.

    ``critical``, ``warning``: the host's own judgement. ``not_copied``, ``not_replicating``, ``lag``, ``lag_unknown``.
    """
    found = []
    if one.health in ("critical", "warning"):
        found.append(one.health)
    if one.state in _COPYING:
        found.append("not_copied")
    elif one.state != "replicating" and one.state not in FAILOVERS:
        found.append("not_replicating")
    if one.state not in _COPYING | FAILOVERS:
        if one.lag is None:
            found.append("lag_unknown")
        elif one.interval and one.lag > cycles * one.interval:
            found.append("lag")
    return tuple(found)


def sentence(word: str, one: Standing) -> str:
    """What a word of :func:`ills` says of a relation, whose ``interval`` is the lag that is allowed."""
    behind, allowed = (span(timedelta(seconds=seconds or 0)) for seconds in (one.lag, one.interval))
    return {
        "critical": "The health of its replication is critical.", "warning": "The health of its replication is warning.",
        "not_copied": "Its replica has no first copy yet.", "not_replicating": f"It is not replicating: {one.state}.",
        "lag": f"The replica is {behind} behind; {allowed} are allowed.", "lag_unknown": "How far the replica is behind is not known.",
    }[word]


def overdue(last_test: datetime | None, now: datetime, test_interval: timedelta | None) -> bool:
    """Whether the last test failover is too long ago; one that never was is overdue, too."""
    return test_interval is not None and (last_test is None or now - last_test > test_interval)
