# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Merges in the background: what a destroyed checkpoint leaves of a chain (operations 2.6).

A merge begins some time after the job that made it necessary has ended, has a job and a state of its own, takes simulated time and
real space, and can be held up or end half-way; then the chain is whole and longer than the tree of checkpoints explains. While the
machine runs and the leaf itself is to be merged, the guest writes to one more file until the end.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.clock import Timer
from simulator.disks.layout import VhdxError
from simulator.disks.merging import Merging, NoRoom, adopt
from simulator.hyperv import chains, guests, ids
from simulator.hyperv.chains import Pair
from simulator.hyperv.diskstore import worker
from simulator.hyperv.jobs import Job, JobFailure
from simulator.hyperv.knobs import MERGE_JOB
from simulator.hyperv.model import Machine, VhdFile
from simulator.windows.errors import Win32Error

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

DISK_FULL, IN_USE, FILE_NOT_FOUND, LINK_BROKEN = 0x80070070, 0x80070020, 0x80070002, 0xC03A000E
_BUSY_SECONDS = 30.0


class _Trouble(Exception):
    """The merge cannot go on; an HRESULT."""

    def __init__(self, hresult: int) -> None:
        super().__init__(f"0x{hresult:08X}")
        self.hresult = hresult


@dataclass
class _Run:
    """The merges of one machine, one after the other, under one job."""

    machine: Machine
    job: Job
    pairs: int
    """How many there are to do, as far as was known at the start."""
    done: int = 0
    slices: int = 0
    """Of the present one."""
    pair: Pair | None = None
    merging: Merging | None = None
    temporary: VhdFile | None = None
    """The file a running machine writes to while its leaf is merged."""
    timer: Timer | None = None


class Merges:
    """All merges of one host."""

    def __init__(self, role: HyperV) -> None:
        self._role = role
        self._known: dict[str, Machine] = {}
        """Machines with something to be merged that the service knows of."""
        self._timers: dict[str, Timer] = {}
        self._runs: dict[str, _Run] = {}

    def due(self, machine: Machine, delay: float | None = None) -> None:
        """Something may have to be merged: look after ``delay`` seconds of simulated time."""
        self._known[machine.id] = machine
        if machine.id in self._runs:
            return
        planned = self._timers.pop(machine.id, None)
        if planned is not None:
            planned.cancel()
        seconds = self._role.knobs.merge_delay_seconds if delay is None else delay
        self._timers[machine.id] = self._role.clock.call_later(seconds, lambda: self._begin(machine))

    def is_running(self, machine: Machine) -> bool:
        """Whether a merge is under way."""
        return machine.id in self._runs

    def pause(self, machine: Machine) -> None:
        """Merging was disabled for the machine: what runs ends where it is."""
        run = self._runs.get(machine.id)
        if run is not None:
            self._stop(run)
            self._role.jobs.complete(run.job, JobFailure(32768, "Merging was disabled.", hresult=0x800704C7))

    def forget(self, machine: Machine) -> bool:
        """The machine leaves the host; whether it had something to be merged."""
        run = self._runs.get(machine.id)
        if run is not None:
            self._stop(run)
            self._role.jobs.complete(run.job, JobFailure(32777, "The virtual machine is not on this host any more."))
        planned = self._timers.pop(machine.id, None)
        if planned is not None:
            planned.cancel()
        return self._known.pop(machine.id, None) is not None

    def service_restarted(self) -> None:
        """Every merge stops where it is, and goes on some time after the service started."""
        for run in list(self._runs.values()):
            self._stop(run)
        for machine in list(self._known.values()):
            self.due(machine, self._role.knobs.merge_resume_seconds)

    # -- one run ---------------------------------------------------------------------------------------------------

    def _begin(self, machine: Machine) -> None:
        self._timers.pop(machine.id, None)
        pairs = chains.mergeable(machine) if self._role.machines.get(machine.id) is machine else []
        if not pairs:
            self._known.pop(machine.id, None)
            return
        if machine.merge_paused or machine.id in self._role.knobs.merge_never_starts:
            return
        if machine.id in self._role.exports.locked:
            return
        if machine.busy is not None:
            self.due(machine, _BUSY_SECONDS)
            return
        job = self._role.jobs.start(MERGE_JOB, None, [ids.system_ref(machine.id)], cancellable=False)
        machine.busy = "merging"
        run = self._runs[machine.id] = _Run(machine, job, len(pairs))
        self._attempt(run, self._next_pair)

    def _attempt(self, run: _Run, step: Callable[[_Run], None]) -> None:
        """Run a step; trouble ends the job, and the merge is tried again later."""
        try:
            step(run)
        except _Trouble as trouble:
            self._fail(run, trouble.hresult)
        except NoRoom:
            self._fail(run, DISK_FULL)
        except Win32Error as error:
            self._fail(run, 0x80070000 | error.code)
        except VhdxError:
            self._fail(run, LINK_BROKEN)
        except FileNotFoundError:
            self._fail(run, FILE_NOT_FOUND)

    def _next_pair(self, run: _Run) -> None:
        machine, disks = run.machine, self._role.disks
        pairs = chains.mergeable(machine)
        if not pairs:
            self._stop(run)
            self._known.pop(machine.id, None)
            self._role.jobs.complete(run.job)
            return
        run.pair, run.slices, run.temporary = pairs[0], 0, None
        run.merging = Merging(self._real(run.pair.child), self._real(run.pair.parent), run.pair.parent.path, disks.find_parent)
        leaf = any(run.pair.child is disk.leaf for disk in machine.disks)
        if leaf and machine.live:
            run.temporary = self._role.checkpoints.new_leaf(machine, run.pair.disk, run.pair.child)
            disks.add_child(run.temporary)
            self._write_to(run, run.temporary)
        self._wait(run)

    def _wait(self, run: _Run) -> None:
        knobs = self._role.knobs
        assert run.merging is not None
        seconds = max(knobs.merge_seconds, run.merging.total / knobs.merge_bytes_per_second)
        run.timer = self._role.clock.call_later(seconds / knobs.merge_slices, lambda: self._attempt(run, self._slice))

    def _slice(self, run: _Run) -> None:
        knobs, pair, merging = self._role.knobs, run.pair, run.merging
        assert pair is not None
        assert merging is not None
        wrong = knobs.merge_error.get(run.machine.id)
        if wrong is not None and run.slices * 2 >= knobs.merge_slices:
            raise _Trouble(wrong)
        if any(self._role.disks.is_open(file.path, but=worker(run.machine)) for file in (pair.parent, pair.child)):
            raise _Trouble(IN_USE)
        self._merge(run, merging, pair.parent, -(-merging.total // knobs.merge_slices))
        run.slices += 1
        run.job.start_percent = min(99, 100 * (run.done * knobs.merge_slices + run.slices) // (run.pairs * knobs.merge_slices))
        if run.slices < knobs.merge_slices:
            self._wait(run)
            return
        self._absorb(run, pair)
        run.done += 1
        self._next_pair(run)

    def _merge(self, run: _Run, merging: Merging, parent: VhdFile, count: int) -> None:
        grown = merging.step(count, self._role.disks.room(parent.path))
        if grown:
            self._role.disks.wrote(parent.path, grown)
        guests.reopen(self._role, run.machine)  # the link below the guest's file is another one now

    def _absorb(self, run: _Run, pair: Pair) -> None:
        """The parent holds everything: it takes the child's place in the chain, and the child goes."""
        machine, disks = run.machine, self._role.disks
        if disks.is_open(pair.child.path, but=worker(machine), at_all=True):
            raise _Trouble(IN_USE)
        for other in chains.children_of(machine, pair.child):
            adopt(self._real(other), self._real(pair.parent), pair.parent.path)
            other.parent = pair.parent
        for checkpoint in machine.checkpoints.values():
            for index, file in checkpoint.files.items():
                if file is pair.child:
                    checkpoint.files[index] = pair.parent
        if run.temporary is not None:
            self._come_back(run, pair, run.temporary)
        elif pair.disk.leaf is pair.child:
            self._write_to(run, pair.parent)
        else:
            guests.reopen(self._role, machine)
        disks.remove(pair.child.path)

    def _come_back(self, run: _Run, pair: Pair, temporary: VhdFile) -> None:
        """In an instant: what the guest wrote meanwhile, and then it writes to the file that is left."""
        last = Merging(self._real(temporary), self._real(pair.parent), pair.parent.path, self._role.disks.find_parent)
        try:
            self._merge(run, last, pair.parent, last.total)
        except NoRoom:  # the one file more stays a level of the chain
            guests.reopen(self._role, run.machine)
            self._role.disks.remove(pair.child.path)
            raise
        self._write_to(run, pair.parent)
        self._role.disks.remove(temporary.path)

    def _write_to(self, run: _Run, file: VhdFile) -> None:
        assert run.pair is not None
        run.pair.disk.leaf = file
        self._role.disks.hold(run.machine)
        guests.reopen(self._role, run.machine)

    def _real(self, file: VhdFile) -> Path:
        real = self._role.disks.materialise(file)
        if real is None:
            raise _Trouble(FILE_NOT_FOUND)
        return real

    # -- ends ------------------------------------------------------------------------------------------------------

    def _stop(self, run: _Run) -> None:
        if run.timer is not None:
            run.timer.cancel()
        self._runs.pop(run.machine.id, None)
        if run.machine.busy == "merging":
            run.machine.busy = None

    def _fail(self, run: _Run, hresult: int) -> None:
        self._stop(run)
        self._role.jobs.complete(run.job, JobFailure(32768, "The virtual hard disk chain could not be merged.", hresult=hresult))
        self.due(run.machine, self._role.knobs.merge_retry_seconds)
