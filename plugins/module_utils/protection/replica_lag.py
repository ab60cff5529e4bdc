# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a replica is where it should be: its lag against its interval, and the age of its last test (operations 7.5)."""
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

CYCLES = 3
"""A replica may lag behind by so many cycles before that is worth a word."""
_COPYING = frozenset({"ready", "initial_replication"})
_NO_CYCLES = frozenset({"synced", "recovered", "committed", "failover_in_progress", "failback_in_progress", "failback_complete"})


@dataclass(frozen=True)
class Standing:
    """What is known of one relation. ``lag`` and ``interval`` in seconds, None when unknown."""

    state: str
    health: str | None
    lag: int | None
    interval: int | None
    last_test: datetime | None


def problems(one: Standing, now: datetime, *, cycles: int = CYCLES, test_interval: timedelta | None = None) -> tuple[str, ...]:
    """Stable words for what is not as it should be, in the order of their weight; empty when all is well.

    ``critical``, ``warning``: the host's own judgement. ``not_copied``, ``not_replicating``, ``lag``, ``lag_unknown``, ``test_overdue``.
    """
    found = []
    if one.health in ("critical", "warning"):
        found.append(one.health)
    if one.state in _COPYING:
        found.append("not_copied")
    elif one.state != "replicating" and one.state not in _NO_CYCLES:
        found.append("not_replicating")
    if one.state not in _COPYING | _NO_CYCLES:
        if one.lag is None:
            found.append("lag_unknown")
        elif one.interval and one.lag > cycles * one.interval:
            found.append("lag")
    if overdue(one.last_test, now, test_interval):
        found.append("test_overdue")
    return tuple(found)


def overdue(last_test: datetime | None, now: datetime, test_interval: timedelta | None) -> bool:
    """Whether the last test failover is too long ago; one that never was is overdue, too."""
    return test_interval is not None and (last_test is None or now - last_test > test_interval)
