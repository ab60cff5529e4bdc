# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which copies of one VM stay and which go (INTERFACE, *retention*): a pure function of the copies, the rules and the host's time.

The rules mean what restic's ``--keep-*`` mean: each looks at all verified copies by itself, walks from the newest to the oldest, and
keeps the newest copy of each of the last n periods that hold one. A copy that any rule keeps stays. Deliberate differences:

* Periods are those of one time zone, UTC unless told otherwise. restic takes the offset that each snapshot was recorded with.
* Only verified copies count. What is unverified, incomplete or not ours is neither counted nor removed; nor is a copy that says it
  was made in the future, which a wrong clock or a forged manifest could use to push all others out.
* Nothing is removed when the newest run failed, and one verified copy is always kept.
* restic 0.16 and later also keep the oldest snapshot while a rule has periods left. Here a rule keeps what it says, as restic did before.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
LARGEST = 100_000
FUTURE_TOLERANCE = timedelta(minutes=5)
"""How far ahead of the host's clock a copy may be without counting as one from the future."""

Standing = Literal["verified", "unverified", "incomplete", "foreign"]
Reason = Literal["kept_by_rule", "last_one", "newest_run_failed", "no_rules", "not_verified", "not_ours", "from_the_future", "expired"]

_NOT_COUNTED: Mapping[str, Reason] = {"unverified": "not_verified", "incomplete": "not_verified", "foreign": "not_ours"}
_PERIODS: Mapping[str, Callable[[datetime], tuple[int, ...]]] = {
    "hourly": lambda local: (local.year, local.month, local.day, local.hour),
    "daily": lambda local: (local.year, local.month, local.day),
    "weekly": lambda local: tuple(local.isocalendar())[:2],
    "monthly": lambda local: (local.year, local.month),
    "yearly": lambda local: (local.year,),
}


class RetentionError(ValueError):
    """``keep`` or ``timezone`` is not what INTERFACE allows; the text says which and why."""


@dataclass(frozen=True)
class Keep:
    """How many copies or periods each rule keeps; 0 means that there is no such rule."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    @property
    def empty(self) -> bool:
        """True without any rule: then everything stays."""
        return not any(self.as_data().values())

    def as_data(self) -> dict[str, int]:
        """The rules by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class RetainedCopy:
    """One copy of the VM as retention sees it.

    ``copy_id`` names it for the caller (its folder); ``taken`` is when its data was true, aware; ``standing`` says what it is:
    verified copies have a manifest of ours that says so.
    """

    copy_id: str
    taken: datetime
    standing: Standing = "verified"


@dataclass(frozen=True)
class Decision:
    """What becomes of one copy: ``rules`` keep it, else ``reason`` says why it stays or goes."""

    copy: RetainedCopy
    keep: bool
    reason: Reason
    rules: tuple[str, ...] = ()

    def as_result(self) -> dict[str, Any]:
        """The form in a diff and in a result."""
        return {"copy": self.copy.copy_id, "taken": self.copy.taken.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "keep": self.keep, "reason": self.reason, "rules": list(self.rules)}


@dataclass(frozen=True)
class RetentionPlan:
    """The decisions about all copies of one VM, the newest first."""

    decisions: tuple[Decision, ...]

    @property
    def kept(self) -> tuple[RetainedCopy, ...]:
        """What stays, the newest first."""
        return tuple(decision.copy for decision in self.decisions if decision.keep)

    @property
    def removed(self) -> tuple[RetainedCopy, ...]:
        """What goes, the oldest first: whoever is interrupted keeps the newer ones."""
        return tuple(decision.copy for decision in reversed(self.decisions) if not decision.keep)

    def diff(self) -> dict[str, list[dict[str, Any]]]:
        """``before``: all copies with what becomes of each; ``after``: those that stay."""
        return {"before": [decision.as_result() for decision in self.decisions],
                "after": [decision.as_result() for decision in self.decisions if decision.keep]}


def parse_keep(given: Mapping[str, Any]) -> Keep:
    """The rules out of a task's ``keep``; None and 0 mean no such rule. Raises RetentionError for unknown names and odd numbers."""
    unknown = sorted(set(map(str, given)) - set(RULES))
    if unknown:
        raise RetentionError(f"keep has no rule {', '.join(unknown)}; there are {', '.join(RULES)}")
    counts: dict[str, int] = {}
    for name, count in given.items():
        if count is None:
            continue
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= LARGEST:
            raise RetentionError(f"keep.{name} is not a whole number from 0 to {LARGEST}")
        counts[name] = count
    return Keep(**counts)


def zone(name: str = "UTC") -> tzinfo:
    """The time zone with this IANA name. Raises RetentionError when the controller does not know it."""
    if name.upper() in ("UTC", "Z"):
        return UTC  # known even where there is no zone data
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise RetentionError(f"timezone {name[:80]!r} is not known; give an IANA name such as Europe/Berlin, or install the Python "
                             "package tzdata on the controller") from error


def decide(copies: Iterable[RetainedCopy], keep: Keep, *, now: datetime, newest_run_failed: bool,
           timezone: tzinfo = UTC) -> RetentionPlan:
    """What stays and what goes, of the copies of **one** VM; their order does not matter.

    ``now`` is the host's time. ``newest_run_failed``: the newest run of this VM did not end with a verified copy.
    Copies of the same instant are ordered by ``copy_id``.
    """
    ordered = sorted(copies, key=lambda copy: (copy.taken, copy.copy_id), reverse=True)
    counted = [copy for copy in ordered if copy.standing == "verified" and copy.taken <= now + FUTURE_TOLERANCE]
    kept = kept_by_rules(counted, keep, timezone)
    decisions = []
    for copy in ordered:
        reason = _why_not_counted(copy, now)
        rules = kept.get(copy.copy_id, ())
        if reason is not None:
            decisions.append(Decision(copy, True, reason))
        elif keep.empty:
            decisions.append(Decision(copy, True, "no_rules"))
        elif rules:
            decisions.append(Decision(copy, True, "kept_by_rule", rules))
        elif newest_run_failed:
            decisions.append(Decision(copy, True, "newest_run_failed"))
        elif copy is counted[0]:  # any rule keeps the newest one; this holds even if that should ever change
            decisions.append(Decision(copy, True, "last_one"))
        else:
            decisions.append(Decision(copy, False, "expired"))
    return RetentionPlan(tuple(decisions))


def kept_by_rules(ordered: Iterable[RetainedCopy], keep: Keep, timezone: tzinfo = UTC) -> dict[str, tuple[str, ...]]:
    """The rules that keep each copy, by ``copy_id``; ``ordered`` has the newest first. Copies that no rule keeps are left out."""
    every = list(ordered)
    kept: dict[str, list[str]] = {}
    for copy in every[:keep.last]:
        kept.setdefault(copy.copy_id, []).append("last")
    for rule, period_of in _PERIODS.items():
        left: int = getattr(keep, rule)
        before: tuple[int, ...] | None = None
        for copy in every:
            if left == 0:
                break
            period = period_of(copy.taken.astimezone(timezone))
            if period != before:
                kept.setdefault(copy.copy_id, []).append(rule)
                before, left = period, left - 1
    return {copy_id: tuple(rules) for copy_id, rules in kept.items()}


def _why_not_counted(copy: RetainedCopy, now: datetime) -> Reason | None:
    if copy.standing != "verified":
        return _NOT_COUNTED[copy.standing]
    return "from_the_future" if copy.taken > now + FUTURE_TOLERANCE else None
