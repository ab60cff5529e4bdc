# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of the management service in simulated time (operations 0.3, wire 3.5)."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from simulator.cim.model import Ref
from simulator.clock import SimClock, Timer
from simulator.hyperv import ids

NEW, STARTING, RUNNING, SUSPENDED, SHUTTING_DOWN, COMPLETED, TERMINATED, KILLED, EXCEPTION = range(2, 11)
COMPLETED_WITH_WARNINGS = 32768
FINAL = frozenset({COMPLETED, TERMINATED, KILLED, EXCEPTION, COMPLETED_WITH_WARNINGS})

KEEP_SECONDS = 300.0
"""TimeBeforeRemoval: a finished job can be read this long."""

EFFECT_NONE, EFFECT_CREATED = 0, 5


class JobFailure(Exception):
    """Raised by the effect of a job: it ends in state 10 with this code and text."""

    def __init__(self, error_code: int, message: str, *, hresult: int | None = None, message_id: str | None = None,
                 child: str | None = None, parent: str | None = None) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.message = message
        self.hresult = hresult
        self.message_id = message_id
        self.child = child
        self.parent = parent
        self.errors: Sequence[JobFailure] = ()
        """What GetErrorEx tells when that is more than this failure."""


@dataclass
class Job:
    """One job. ``seconds`` None means that it does not end by itself."""

    id: str
    class_name: str
    job_type: int
    owner: str
    started: datetime
    seconds: float | None
    affected: list[Ref]
    created: list[Ref] = field(default_factory=list)
    """What the job has made; named only after it completed (wire 3.4)."""
    cancellable: bool = True
    start_percent: int = 0
    final_state: int | None = None
    ended: datetime | None = None
    failure: JobFailure | None = None
    stopping: bool = False
    frozen_percent: int = 0
    effect: Callable[[], object] | None = None
    undo: Callable[[], object] | None = None
    timer: Timer | None = None
    forced_failure: JobFailure | None = None
    """A fault rule: fail with this instead of running the effect."""

    @property
    def ref(self) -> Ref:
        """The reference a method answers with."""
        return ids.setting_ref(self.class_name, self.id)

    def state(self, now: datetime) -> int:
        """JobState."""
        if self.final_state is not None:
            return self.final_state
        if self.stopping:
            return SHUTTING_DOWN
        elapsed = (now - self.started).total_seconds()
        if elapsed <= 0 and not self.start_percent:
            return NEW
        return STARTING if self.seconds is not None and elapsed < self.seconds * 0.05 and not self.start_percent else RUNNING

    def percent(self, now: datetime) -> int:
        """PercentComplete: never 100 before the end."""
        if self.final_state is not None:
            return 100 if self.final_state in (COMPLETED, COMPLETED_WITH_WARNINGS) else self.frozen_percent
        if self.seconds is None:
            return self.start_percent
        share = min(1.0, (now - self.started).total_seconds() / self.seconds) if self.seconds else 1.0
        return min(99, self.start_percent + int((100 - self.start_percent) * share))

    def elapsed(self, now: datetime) -> timedelta:
        """ElapsedTime: from the start to the end, or to now."""
        return (self.ended or now) - self.started

    @property
    def error_code(self) -> int:
        """ErrorCode, 0 while nothing is wrong."""
        return self.failure.error_code if self.failure else 0

    def effects(self) -> list[tuple[Ref, int]]:
        """The rows of the affected-element association: reference and effect."""
        made = self.created if self.final_state in (COMPLETED, COMPLETED_WITH_WARNINGS) else []
        return [*((ref, EFFECT_CREATED) for ref in made), *((ref, EFFECT_NONE) for ref in self.affected)]


class JobTable:
    """All jobs of one host."""

    def __init__(self, clock: SimClock, name: str = "") -> None:
        self._clock = clock
        self._name = name
        self._jobs: dict[str, Job] = {}
        self._numbers = itertools.count(1)
        self._seed = clock.now().isoformat()
        self.keep_seconds = KEEP_SECONDS
        """How long a finished job can still be read; 0 makes it vanish at once."""
        self.next_failures: list[tuple[int | None, JobFailure]] = []
        """Fault rules: (JobType or None for any, failure) taken by the next job that fits."""

    def start(self, job_type: int, seconds: float | None, affected: Sequence[Ref], *, effect: Callable[[], object] | None = None,
              undo: Callable[[], object] | None = None, created: Sequence[Ref] = (), owner: str = "NT AUTHORITY\\SYSTEM",
              class_name: str = "Msvm_ConcreteJob", cancellable: bool = True, start_percent: int = 0) -> Job:
        """Start a job that takes ``seconds`` of simulated time and then runs ``effect``; ``undo`` runs when it is cancelled.

        ``effect`` may raise :class:`JobFailure`.
        """
        number = next(self._numbers)
        job = Job(ids.derive("job", self._seed, self._name, number), class_name, job_type, owner, self._clock.now(), seconds,
                  list(affected), list(created), cancellable, start_percent, effect=effect, undo=undo)
        for rule in self.next_failures:
            if rule[0] in (None, job_type):
                self.next_failures.remove(rule)
                job.forced_failure = rule[1]
                break
        self._jobs[job.id] = job
        if seconds is not None:
            job.timer = self._clock.call_later(seconds, lambda: self._finish(job))
        return job

    def all(self) -> list[Job]:
        """The jobs that can be read now."""
        return list(self._jobs.values())

    def get(self, job_id: str) -> Job | None:
        """One job by its id."""
        return self._jobs.get(job_id.upper())

    def of(self, ref: Ref) -> list[Job]:
        """The jobs that work on an element and have not ended."""
        return [j for j in self._jobs.values() if j.final_state is None and ref in j.affected]

    def lose_all(self) -> None:
        """The service restarts: nothing is left, nothing completes."""
        for job in self._jobs.values():
            if job.timer is not None:
                job.timer.cancel()
        self._jobs.clear()

    def complete(self, job: Job, failure: JobFailure | None = None) -> None:
        """End a job that does not end by itself, well or with a failure. A job that was lost or cancelled stays so."""
        if self._jobs.get(job.id) is not job or job.final_state is not None:
            return
        job.frozen_percent = job.percent(self._clock.now())
        job.failure = failure
        self._end(job, COMPLETED if failure is None else EXCEPTION)

    def cancel(self, job: Job, *, kill: bool) -> int:
        """RequestStateChange 4 or 5; the return value of that method's own family (operations 0.2)."""
        if job.final_state is not None or job.stopping:
            return 4097
        if not job.cancellable:
            return 1
        if job.timer is not None:
            job.timer.cancel()
        job.frozen_percent = job.percent(self._clock.now())
        if kill:
            self._stopped(job, KILLED)
            return 0
        job.stopping = True
        job.timer = self._clock.call_later(1.0, lambda: self._stopped(job, TERMINATED))
        return 4096

    def _stopped(self, job: Job, state: int) -> None:
        if job.undo is not None:
            job.undo()
        job.failure = JobFailure(32768, "The operation was cancelled.", hresult=0x800704C7)
        self._end(job, state)

    def _finish(self, job: Job) -> None:
        job.frozen_percent = job.percent(self._clock.now())
        try:
            if job.forced_failure is not None:
                raise job.forced_failure
            if job.effect is not None:
                job.effect()
        except JobFailure as failure:
            job.failure = failure
            if job.undo is not None:
                job.undo()
            self._end(job, EXCEPTION)
            return
        self._end(job, COMPLETED)

    def _end(self, job: Job, state: int) -> None:
        job.final_state = state
        job.stopping = False
        job.ended = self._clock.now()
        job.timer = self._clock.call_later(self.keep_seconds, lambda: self._forget(job))

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
