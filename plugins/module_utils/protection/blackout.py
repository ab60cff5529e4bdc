# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hours of a site in which no copy is begun: a pure function of the hours, their time zone and the time.

A window belongs to the day on which it begins, also when it ends on the next one. Hours are those of a clock on the wall: where it is put
forward or back within a window, the window is shorter or longer by that.
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\Z")
_LOOK_AHEAD = 8
"""Days: a window that is on one day of the week begins again within them."""


class BlackoutError(ValueError):
    """The hours are not what they may be; the text says which and why."""


@dataclass(frozen=True)
class Window:
    """Hours of some days, in minutes since midnight. ``until`` not after ``begins``: it ends on the next day."""

    begins: int
    until: int
    days: tuple[int, ...]

    def spans(self, day: datetime, zone: tzinfo) -> Iterator[tuple[datetime, datetime]]:
        """Beginning and end in UTC of the window that begins on this day, if one does."""
        if day.weekday() in self.days:
            last = day.date() + timedelta(days=1 if self.until <= self.begins else 0)
            yield (datetime.combine(day.date(), _clock(self.begins), zone).astimezone(UTC),
                   datetime.combine(last, _clock(self.until), zone).astimezone(UTC))


@dataclass(frozen=True)
class Blackout:
    """What the hours say at one moment: ``until`` the end of the window that it is in, else ``begins`` the beginning of the next one."""

    until: datetime | None = None
    begins: datetime | None = None

    @property
    def active(self) -> bool:
        """No copy is begun now."""
        return self.until is not None


def _clock(minutes: int) -> time:
    return time(minutes // 60, minutes % 60)


def parse(listed: Any) -> tuple[Window, ...]:
    """Windows out of the list of an inventory: ``{from: '08:00', to: '18:00', days: [mon, tue]}`` each; no days means all.

    Raises BlackoutError.
    """
    if listed is None or listed == "":
        return ()
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise BlackoutError("a blackout is a list of windows")
    return tuple(_window(item, number) for number, item in enumerate(listed, 1))


def _window(item: Any, number: int) -> Window:
    where = f"window {number} of the blackout"
    if not isinstance(item, Mapping) or not {"from", "to"} <= set(item) or set(item) - {"from", "to", "days"}:
        raise BlackoutError(f"{where} has from and to, and may have days")
    days = item.get("days") or DAYS
    if isinstance(days, str) or not isinstance(days, Sequence) or not all(str(day).lower()[:3] in DAYS for day in days):
        raise BlackoutError(f"{where}: days is a list of {', '.join(DAYS)}")
    return Window(_minutes(item["from"], where), _minutes(item["to"], where),
                  tuple(sorted({DAYS.index(str(day).lower()[:3]) for day in days})))


def _minutes(value: Any, where: str) -> int:
    """Minutes since midnight. YAML 1.1 reads an unquoted 18:00 as the number of its minutes, 1080."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1440:
        return value
    part = _CLOCK.match(str(value).strip())
    if part is None:
        raise BlackoutError(f"{where}: {str(value)[:40]!r} is no time such as '08:00'")
    return int(part.group(1)) * 60 + int(part.group(2))


def look(windows: Sequence[Window], now: datetime, zone: tzinfo) -> Blackout:
    """What the windows say at ``now``, an aware time. Windows that touch or overlap are one."""
    today = now.astimezone(zone)
    spans = sorted(span for window in windows for ahead in range(-1, _LOOK_AHEAD + 1)
                   for span in window.spans(today + timedelta(days=ahead), zone))
    end: datetime | None = None
    for begins, until in spans:
        if begins <= (end or now) and until > (end or now):
            end = until
    if end is not None:
        return Blackout(until=end)
    return Blackout(begins=min((begins for begins, _until in spans if begins > now), default=None))
