# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated time: it stands still, follows the wall clock at any speed, or is moved by a test."""
from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass(order=True)
class Timer:
    """One callback to be run when the clock has reached ``due``."""

    due: datetime
    order: int
    callback: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """The callback will not run."""
        self.cancelled = True


class SimClock:
    """The time of one host.

    ``speed`` 0: the clock moves only by :meth:`advance` and :meth:`jump_to_next`. ``speed`` 1: wall-clock time.
    ``speed`` 60: a minute for each second. Callbacks run inside :meth:`settle`, in order of their due time, with the clock
    standing exactly at that time; whoever asks the host for anything settles first.
    """

    def __init__(self, start: datetime | None = None, speed: float = 0.0,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self._base = start or datetime(2026, 3, 1, 22, 0, 0, tzinfo=UTC)
        self._speed = speed
        self._monotonic = monotonic
        self._anchor = monotonic()
        self._standing_at: datetime | None = None
        self._order = itertools.count()
        self._timers: list[Timer] = []

    @property
    def speed(self) -> float:
        """Simulated seconds for each second of the wall clock."""
        return self._speed

    def now(self) -> datetime:
        """The present simulated time, aware, in UTC."""
        if self._standing_at is not None:
            return self._standing_at
        elapsed = (self._monotonic() - self._anchor) * self._speed
        return self._base + timedelta(seconds=elapsed)

    def advance(self, seconds: float) -> None:
        """Move the clock forward, running what becomes due on the way."""
        if seconds < 0:
            raise ValueError("time does not go back")
        target = self.now() + timedelta(seconds=seconds)
        self._run_until(target)
        self._base, self._anchor = target, self._monotonic()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` once, ``seconds`` of simulated time from now."""
        timer = Timer(self.now() + timedelta(seconds=max(0.0, seconds)), next(self._order), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def settle(self) -> None:
        """Run every callback that is due."""
        self._run_until(self.now())

    def next_due(self) -> datetime | None:
        """When the next callback is due; None when nothing is planned."""
        while self._timers and self._timers[0].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0].due if self._timers else None

    def jump_to_next(self, limit: datetime | None = None) -> bool:
        """Move to the next planned callback and run it; False when there is none before ``limit``."""
        due = self.next_due()
        if due is None or (limit is not None and due > limit):
            return False
        self.advance(max(0.0, (due - self.now()).total_seconds()))
        return True

    def _run_until(self, target: datetime) -> None:
        if self._standing_at is not None:  # a callback that looks at the clock must not start a second round
            return
        try:
            while True:
                due = self.next_due()
                if due is None or due > target:
                    return
                timer = heapq.heappop(self._timers)
                self._standing_at = timer.due
                timer.callback()
        finally:
            self._standing_at = None
