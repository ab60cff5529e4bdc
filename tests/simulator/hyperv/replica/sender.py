# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sending side of one relation: cycles on the clock, what goes wrong with them, and copies of whole disks (operations 7.4, 7.5)."""
from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from simulator.clock import Timer
from simulator.hyperv import guests, ids
from simulator.hyperv.checkpoints import can_quiesce
from simulator.hyperv.jobs import Job, JobFailure
from simulator.hyperv.model import Disk, Machine, Relation
from simulator.hyperv.replica import content
from simulator.hyperv.replica.common import FAILED
from simulator.hyperv.replica.content import Baseline, Piece
from simulator.hyperv.replica.network import UNKNOWN_MACHINE, Unreachable
from simulator.hyperv.replica.state import (
    APPLICATION,
    CRITICAL,
    DISK_UPDATE,
    DISK_UPDATE_CRITICAL,
    INITIAL,
    PLANNED,
    REGULAR,
    REPLICATING,
    RESYNC_REQUIRED,
    RESYNCING,
    Delta,
    Statistics,
)

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

SEND_JOB, QUIESCE_JOB = 105, 51


@dataclass
class _Cycle:
    """What is under way."""

    delta: Delta
    job: Job
    timer: Timer | None = None
    done: Callable[[Unreachable | None], None] | None = None


@dataclass
class Copy:
    """A copy of whole disks that is under way. ``state`` is what both sides show meanwhile, ``indexes`` are drives of the primary."""

    indexes: tuple[int, ...]
    state: int
    job: Job
    at: datetime
    compare: bool = False
    """The other side has files that are compared first."""
    queue: list[Piece] | None = None
    total: int = 0
    failures: int = 0
    timer: Timer | None = None


class Sender:
    """One relation of one machine of this host."""

    def __init__(self, role: HyperV, machine: Machine, relation: Relation) -> None:
        self._role = role
        self.machine = machine
        self.relation = relation
        self.baseline = Baseline()
        self.exported: str | None = None
        """The export that the other side is to take in."""
        self._timer: Timer | None = None
        self._cycle: _Cycle | None = None
        self._copy: Copy | None = None
        self._failures = 0
        self._last_application = role.clock.now()

    # -- helpers ---------------------------------------------------------------------------------------------------

    @property
    def _alive(self) -> bool:
        return self._role.machines.get(self.machine.id) is self.machine and self.relation in self.machine.relations

    def _disks(self, indexes: Collection[int] | None = None) -> dict[int, Disk]:
        wanted = self.relation.settings.included if indexes is None else indexes
        return {disk.index: disk for disk in self.machine.disks if disk.index in wanted}

    def other_side(self) -> tuple[HyperV, Machine, Relation]:
        """The Replica server and the replica there. Unreachable."""
        server = self._role.replica.network.connect(self._role, self.relation.settings)
        machine, relation = server.replica.receiver.relation(self.machine.id, self._role)
        return server, machine, relation

    def _job(self, job_type: int) -> Job:
        return self._role.jobs.start(job_type, None, [ids.system_ref(self.machine.id)], cancellable=False)

    def stop(self, reason: str = "Replication was stopped.") -> None:
        """Nothing is sent any more; what is under way comes to nothing."""
        if self._timer is not None:
            self._timer.cancel()
        for under_way in (self._cycle, self._copy):
            if under_way is not None:
                if under_way.timer is not None:
                    under_way.timer.cancel()
                self._role.jobs.complete(under_way.job, JobFailure(FAILED, reason, hresult=0x800704C7))
        self._timer = self._cycle = self._copy = None

    def service_restarted(self) -> None:
        """The management service is back: what was under way begins anew (operations 0.3)."""
        copy = self._copy
        self.stop()
        if not self._alive:
            return
        if copy is not None:
            self.begin_copy(copy.indexes, copy.state, copy.job.job_type, compare=copy.compare)
        else:
            self.start_cycles()

    # -- cycles ----------------------------------------------------------------------------------------------------

    def start_cycles(self) -> None:
        """From now on changes are sent each interval."""
        self._plan(float(self.relation.settings.interval))

    def _plan(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._role.clock.call_later(seconds, self._due)

    def _due(self) -> None:
        if not self._alive:
            return
        self.start_cycles()
        if self._role.replica.stopped:
            return
        relation = self.relation
        if relation.state == RESYNC_REQUIRED:
            self._resync_by_itself()
        elif relation.state == INITIAL and self.exported is not None and self._copy is None:
            self._look_for_import()
        elif relation.state == REPLICATING and self._copy is None:
            self.statistics().missed += self._cycle is not None
            if self._cycle is None:
                self.send(self._kind())

    def statistics(self) -> Statistics:
        """The figures of the present monitoring window."""
        found = self.relation.statistics
        found.roll(self._role.clock.now(), self._role.replica.server.settings.monitoring_interval)
        return found

    def _kind(self) -> int:
        hours = self.relation.settings.application_interval
        if not hours or (self._role.clock.now() - self._last_application) < timedelta(hours=hours):
            return REGULAR
        return APPLICATION

    def send(self, kind: int, job: Job | None = None, done: Callable[[Unreachable | None], None] | None = None) -> None:
        """Send what is new; ``done`` hears how it went."""
        try:
            self.other_side()
            delta = self._capture(kind)
        except Unreachable as error:
            self._failed(error)
            if done is not None:
                done(error)
            return
        knobs = self._role.replica.knobs
        seconds = knobs.latency_seconds + delta.size / knobs.bytes_per_second
        cycle = self._cycle = _Cycle(delta, job or self._job(SEND_JOB), done=done)
        cycle.timer = self._role.clock.call_later(seconds, lambda: self._deliver(cycle))

    def _capture(self, kind: int) -> Delta:
        """What has changed, at one instant of all disks; quiesced when that is asked for and the guest does it."""
        guest = None
        if kind == APPLICATION:
            self._last_application = self._role.clock.now()
            if self.machine.live and not can_quiesce(self._role, self.machine):
                self.statistics().application_failures += 1
                kind = REGULAR
            else:
                guest = guests.writing(self._role, self.machine)
        if guest is not None:
            self._role.jobs.start(QUIESCE_JOB, 1.0, [ids.system_ref(self.machine.id)], cancellable=False)
            guest.freeze()
        try:
            pieces = content.new_pieces(self._role, self._disks(), self.baseline)
        except FileNotFoundError as error:
            raise Unreachable(0x80070002, f"A disk of the virtual machine was not found: {error}") from error
        finally:
            if guest is not None:
                guest.thaw()
        return Delta(self._role.clock.now(), kind, pieces)

    def _deliver(self, cycle: _Cycle) -> None:
        self._cycle = None
        if not self._alive:
            return
        error: Unreachable | None = None
        try:
            _refuse_by_rule(cycle.job)
            server, machine, relation = self.other_side()
            server.replica.receiver.take(machine, relation, cycle.delta)
            self._delivered(cycle, relation)
        except Unreachable as refused:
            error = refused
            self._failed(error)
        if cycle.done is not None:
            cycle.done(error)
        elif cycle.job.final_state is None:
            failure = None if error is None else JobFailure(FAILED, error.message, hresult=error.hresult)
            self._role.jobs.complete(cycle.job, failure)

    def _delivered(self, cycle: _Cycle, other: Relation) -> None:
        delta, relation = cycle.delta, self.relation
        relation.statistics.last_test = other.statistics.last_test or relation.statistics.last_test
        self.baseline.has(delta.pieces)
        self._failures = 0
        relation.reason = None
        relation.last_time, relation.last_type = delta.time, delta.kind
        if delta.kind == APPLICATION:
            relation.last_application_time = delta.time
        self.statistics().sent(delta.size, (self._role.clock.now() - delta.time).total_seconds())

    def _failed(self, error: Unreachable) -> None:
        """A cycle came to nothing: what it carried is sent with the next one, until it is too much or too often."""
        statistics, relation = self.statistics(), self.relation
        relation.reason = (error.hresult, error.message)
        statistics.missed += 1
        if error.network:
            statistics.network_failures += 1
        else:
            statistics.failures += 1
        self._failures += 1
        if relation.state != REPLICATING:
            return
        size = sum(disk.leaf.size for disk in self._disks().values() if disk.leaf is not None)
        if self.pending() > size * self._role.replica.knobs.log_share:
            relation.state = RESYNC_REQUIRED
        elif error.hresult == UNKNOWN_MACHINE or self._failures >= self._role.replica.knobs.critical_after:
            relation.state = CRITICAL

    def pending(self) -> int:
        """Bytes that the other side has not."""
        try:
            return sum(len(piece.data) for piece in content.new_pieces(self._role, self._disks(), self.baseline))
        except FileNotFoundError:
            return 0

    def synchronise(self, job: Job, done: Callable[[Unreachable | None], None]) -> None:
        """Send the last changes of a machine that is off (a planned failover)."""
        if self._cycle is not None:
            if self._cycle.timer is not None:
                self._cycle.timer.cancel()
            self._role.jobs.complete(self._cycle.job)
            self._cycle = None
        self.send(PLANNED, job, done)

    def resume(self) -> None:
        """Go on after a pause or a failure: at once, then each interval."""
        self._failures = 0
        self.start_cycles()
        if self.relation.state == REPLICATING and self._cycle is None and self._copy is None:
            self.send(self._kind())

    # -- copies ----------------------------------------------------------------------------------------------------

    @property
    def copying(self) -> Copy | None:
        """The copy that is under way."""
        return self._copy

    def begin_copy(self, indexes: Collection[int], state: int, job_type: int, *, compare: bool = False, delay: float = 0.0) -> None:
        """Send whole disks, in pieces, ``delay`` seconds from now; both sides replicate when all is there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay == 0.0 or state == INITIAL:  # a resynchronisation that is planned shows when it begins
            self.relation.state = state
        job = self._job(job_type)
        copy = self._copy = Copy(tuple(indexes), state, job, self._role.clock.now(), compare)
        copy.timer = self._role.clock.call_later(delay + self._pause(), lambda: self._continue(copy))

    def _pause(self) -> float:
        knobs = self._role.replica.knobs
        return knobs.copy_seconds / knobs.copy_slices

    def _continue(self, copy: Copy) -> None:
        if self._copy is not copy:
            return
        if not self._alive:
            self.stop()
            return
        if self._role.replica.stopped:
            copy.timer = self._role.clock.call_later(self._role.replica.knobs.retry_seconds, lambda: self._continue(copy))
            return
        try:
            self._slice(copy)
        except Unreachable as error:
            self._copy_failed(copy, error)

    def _slice(self, copy: Copy) -> None:
        knobs = self._role.replica.knobs
        _refuse_by_rule(copy.job)
        server, machine, relation = self.other_side()
        if copy.queue is None:
            self._start_slices(copy, server, machine, relation)
            assert copy.queue is not None
        count = -(-max(1, copy.total) // knobs.copy_slices)
        chosen: list[Piece] = []
        while copy.queue and sum(len(piece.data) for piece in chosen) < count:
            chosen.append(copy.queue.pop(0))
        try:
            server.replica.receiver.copy(machine, relation, chosen)
        except Unreachable:
            copy.queue[:0] = chosen
            raise
        self.baseline.has(chosen)
        copy.failures = 0
        left = sum(len(piece.data) for piece in copy.queue)
        copy.job.start_percent = min(99, 100 - 100 * left // max(1, copy.total))
        if copy.queue:
            size = sum(len(piece.data) for piece in chosen)
            copy.timer = self._role.clock.call_later(max(self._pause(), size / knobs.bytes_per_second), lambda: self._continue(copy))
            return
        self._copied(copy, machine, relation)

    def _start_slices(self, copy: Copy, server: HyperV, machine: Machine, relation: Relation) -> None:
        """The instant that is copied is the one when the other side first, or again, answers."""
        relation.state = self.relation.state = copy.state
        for disk in self._disks(copy.indexes).values():
            server.replica.receiver.add_disk(machine, relation, disk)
        there = server.replica.receiver.prepare_files(machine, relation, copy.indexes)
        if copy.compare or (there and not self.baseline.digests):
            for index in copy.indexes:
                self.baseline.digests[index] = server.replica.receiver.digests(machine, relation, index)
                self.baseline.seen.pop(index, None)
            copy.compare = False
        copy.at = self._role.clock.now()
        try:
            copy.queue = content.new_pieces(self._role, self._disks(copy.indexes), self.baseline)
        except FileNotFoundError as error:
            raise Unreachable(0x80070002, f"A disk of the virtual machine was not found: {error}") from error
        copy.total = sum(len(piece.data) for piece in copy.queue)

    def _copied(self, copy: Copy, machine: Machine, relation: Relation) -> None:
        del machine
        self._copy = None
        self._failures = 0
        everything = set(copy.indexes) >= set(self.relation.settings.included)
        for side in (self.relation, relation):
            side.state = REPLICATING
            side.reason = None
            if everything:
                side.last_time, side.last_type = copy.at, REGULAR
        relation.last_apply = self._role.clock.now()
        self._last_application = self._role.clock.now()
        self._role.jobs.complete(copy.job)
        self.start_cycles()
        if not everything:
            self.send(REGULAR)

    def _copy_failed(self, copy: Copy, error: Unreachable) -> None:
        statistics = self.statistics()
        self.relation.reason = (error.hresult, error.message)
        copy.failures += 1
        copy.queue = None
        if error.network:
            statistics.network_failures += 1
        else:
            statistics.failures += 1
        if copy.failures < self._role.replica.knobs.critical_after and error.hresult != UNKNOWN_MACHINE:
            copy.timer = self._role.clock.call_later(self._role.replica.knobs.retry_seconds, lambda: self._continue(copy))
            return
        self._copy = None
        self.relation.state = {RESYNCING: RESYNC_REQUIRED, DISK_UPDATE: DISK_UPDATE_CRITICAL}.get(copy.state, CRITICAL)
        self._role.jobs.complete(copy.job, JobFailure(FAILED, error.message, hresult=error.hresult))

    def cancel_copy(self) -> None:
        """Give up the copy that is under way."""
        copy = self._copy
        if copy is None:
            return
        if copy.timer is not None:
            copy.timer.cancel()
        self._copy = None
        self._role.jobs.complete(copy.job, JobFailure(FAILED, "The operation was cancelled.", hresult=0x800704C7))

    def _look_for_import(self) -> None:
        try:
            _server, _machine, relation = self.other_side()
        except Unreachable as error:
            self._failed(error)
            return
        assert relation.inbound is not None
        if relation.inbound.imported != self.exported:
            return
        self.exported = None
        for side in (self.relation, relation):
            side.state = REPLICATING
            side.reason = None
        self.send(REGULAR)

    def _resync_by_itself(self) -> None:
        settings = self.relation.settings
        now = self._role.clock.now()
        moment = timedelta(hours=now.hour, minutes=now.minute, seconds=now.second)
        begin, end = settings.resync_from, settings.resync_until
        inside = begin <= moment < end if begin <= end else moment >= begin or moment < end
        if settings.auto_resync and inside and self._copy is None:
            self.begin_copy(settings.included, RESYNCING, 107, compare=True)


def _refuse_by_rule(job: Job) -> None:
    """Unreachable, once: a fault rule wants this job to fail."""
    failure, job.forced_failure = job.forced_failure, None
    if failure is not None:
        raise Unreachable(failure.hresult or 0x80004005, failure.message)
