# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports as they run: what was packed at the start is written piece by piece, as SYSTEM here and as the computer account elsewhere.

The machine is locked meanwhile and its guest goes on. An export ends well, with an error, by a cancellation, or with the service; then
what it has written is taken away again or stays, as a switch says (operations D-18).
"""
from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.clock import Timer
from simulator.disks.copying import copy_range
from simulator.disks.layout import VhdxError
from simulator.disks.merging import relink
from simulator.disks.vhdx import create_differencing
from simulator.hyperv import ids
from simulator.hyperv.checkpoints import failure
from simulator.hyperv.jobs import Job, JobFailure
from simulator.hyperv.knobs import EXPORT_JOB
from simulator.hyperv.model import Machine
from simulator.hyperv.packing import FOR_BACKUP, ExportWish, Item, Packer, Parcel
from simulator.windows.errors import ALREADY_EXISTS, DISK_FULL, PATH_NOT_FOUND, Win32Error
from simulator.windows.files import Location
from simulator.windows.volumes import Handle

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

FAILED, NOT_AVAILABLE = 32768, 32777
OWNER = "vmms"
"""Who has the files open that an export writes."""


@dataclass
class _Run:
    """One export."""

    wish: ExportWish
    job: Job
    scratch: Path
    parcel: Parcel = field(default_factory=Parcel)
    trouble: JobFailure | None = None
    """Met at the start, told a moment later."""
    slices: int = 0
    made: list[str] = field(default_factory=list)
    """Folders and files of this export, in the order they were made."""
    open: dict[str, tuple[Location, Handle]] = field(default_factory=dict)
    timer: Timer | None = None


class Exports:
    """All exports of one host."""

    def __init__(self, role: HyperV) -> None:
        self._role = role
        self._runs: dict[str, _Run] = {}
        self.locked: set[str] = set()
        """Machines whose chains an export has left locked: no merge starts until machine or service restart (operations 3.6)."""

    def start(self, wish: ExportWish, owner: str) -> Job:
        """Begin an export: the disks are taken as they are at this instant, the job runs."""
        role, machine = self._role, wish.machine
        machine.busy = "exporting"
        job = role.jobs.start(EXPORT_JOB, None, [ids.system_ref(machine.id)], owner=owner, undo=lambda: self._abort(machine))
        run = self._runs[machine.id] = _Run(wish, job, role.host.files.root / f".export-{job.id}")
        run.scratch.mkdir()
        try:
            run.parcel = Packer(role, wish, run.scratch).pack()
        except JobFailure as trouble:
            run.trouble = trouble
        except VhdxError as error:
            run.trouble = JobFailure(FAILED, f"Export failed: a virtual hard disk is corrupt: {error}", hresult=0xC03A0005)
        self._wait(run)
        return job

    def forget(self, machine: Machine) -> None:
        """The machine leaves the host, whoever took it away."""
        run = self._runs.get(machine.id)
        if run is not None:
            self._fail(run, JobFailure(NOT_AVAILABLE, "The virtual machine is not on this host any more."))

    def service_restarted(self) -> None:
        """Every export is dead where it was; its files stay."""
        self.locked.clear()
        for run in list(self._runs.values()):
            self._close(run)

    def restarted(self, machine: Machine) -> None:
        """The machine was turned off: its chain is free again."""
        self.locked.discard(machine.id)

    # -- running ---------------------------------------------------------------------------------------------------

    def _wait(self, run: _Run) -> None:
        knobs = self._role.knobs
        seconds = max(knobs.export_seconds, run.parcel.size / knobs.export_bytes_per_second)
        run.timer = self._role.clock.call_later(seconds / knobs.export_slices, lambda: self._attempt(run))

    def _attempt(self, run: _Run) -> None:
        try:
            self._slice(run)
        except JobFailure as trouble:
            self._fail(run, trouble)
        except Win32Error as error:
            self._fail(run, failure(error))
        except VhdxError as error:
            self._fail(run, JobFailure(FAILED, f"Export failed: {error}", hresult=0xC03A000E))

    def _slice(self, run: _Run) -> None:
        knobs = self._role.knobs
        if run.job.stopping:
            return
        if run.trouble is not None:
            raise run.trouble
        if not run.slices:
            self._prepare(run)
        if run.slices * 2 >= knobs.export_slices:
            self._strike(run)
        self._write(run, -(-run.parcel.size // knobs.export_slices))
        run.slices += 1
        run.job.start_percent = min(99, 100 * run.slices // knobs.export_slices)
        if run.slices < knobs.export_slices:
            self._wait(run)
            return
        self._link(run)
        self._finish(run)

    def _strike(self, run: _Run) -> None:
        """What a test wants to go wrong goes wrong half-way."""
        if run.job.forced_failure is not None:
            raise run.job.forced_failure
        code = self._role.knobs.export_error.get(run.wish.machine.id)
        if code is not None:
            raise JobFailure(FAILED, "Export failed.", hresult=code)

    def _prepare(self, run: _Run) -> None:
        """The folders. Win32Error 3: the directory is not there; 183: the machine's folder, or one of an export, is there already."""
        wish, files, token = run.wish, self._role.host.files, self._role.system
        directory = files.resolve(wish.directory, token=token)
        if directory.exists and not directory.is_directory:
            raise Win32Error(ALREADY_EXISTS, wish.directory)
        if not directory.exists and wish.subdirectory:
            raise Win32Error(PATH_NOT_FOUND, wish.directory)
        with self._role.disks.working():
            if wish.subdirectory or not directory.exists:
                self._make_folder(run, wish.target)
            for path in (f"{wish.target}\\{name}" for name in run.parcel.folders if "\\" not in name):
                if files.resolve(path, token=token).exists:
                    raise Win32Error(ALREADY_EXISTS, path)
            for name in run.parcel.folders:
                self._make_folder(run, f"{wish.target}\\{name}")

    def _make_folder(self, run: _Run, path: str) -> None:
        self._role.host.files.create_directory(path, self._role.system)
        run.made.append(path)

    def _write(self, run: _Run, count: int) -> None:
        for item in run.parcel.items:
            if item.done < item.size or item.name not in run.open:
                taken = min(count, item.size - item.done)
                with self._role.disks.working():
                    self._append(run, item, taken)
                count -= taken
            if not count:
                return

    def _append(self, run: _Run, item: Item, count: int) -> None:
        files = self._role.host.files
        place = self._opened(run, item)
        files.check_connected(place)
        room = place.volume.free_bytes
        copy_range(item.source, place.real, item.done, item.done + min(count, room))
        item.done += min(count, room)
        files.stamp(place)
        files.wrote(place.volume, min(count, room))
        if room < count:
            raise Win32Error(DISK_FULL, place.path.text())

    def _opened(self, run: _Run, item: Item) -> Location:
        if item.name not in run.open:
            files, path = self._role.host.files, f"{run.wish.target}\\{item.name}"
            place = files.open_for_write(path, self._role.system)
            run.made.append(path)
            run.open[item.name] = place, files.hold(place, OWNER, share_read=True, writes=True)
        return run.open[item.name][0]

    def _link(self, run: _Run) -> None:
        """Copies name their copied parents; a stub hangs on the disk it stands for, which may be another one by now."""
        files, wish = self._role.host.files, run.wish
        with self._role.disks.working():
            for link in run.parcel.links:
                path = f"{wish.target}\\{link.name}"
                if link.stub is None:
                    parent = f"{wish.target}\\{link.parent}"
                    relink(files.resolve(path).real, files.resolve(parent).real, parent)
                    continue
                place = files.open_for_write(path, self._role.system)
                place.real.unlink()
                create_differencing(place.real, files.real_path(link.parent), link.parent)
                run.made.append(path)

    # -- ends ------------------------------------------------------------------------------------------------------

    def _finish(self, run: _Run) -> None:
        wish, locks = run.wish, self._role.knobs.export_locks
        without_disks = wish.mode == FOR_BACKUP and not wish.storage
        if wish.checkpoint is not None and (locks == "always" or (locks == "without_disks" and without_disks)):
            self.locked.add(wish.machine.id)
        self._close(run)
        self._role.jobs.complete(run.job)

    def _fail(self, run: _Run, trouble: JobFailure) -> None:
        self._close(run)
        self._clear(run)
        self._role.jobs.complete(run.job, trouble)

    def _abort(self, machine: Machine) -> None:
        """The job was cancelled."""
        run = self._runs.get(machine.id)
        if run is not None:
            self._close(run)
            self._clear(run)

    def _close(self, run: _Run) -> None:
        """Nothing runs any more, nothing is open, the machine is free."""
        if run.timer is not None:
            run.timer.cancel()
        for place, handle in run.open.values():
            self._role.host.files.release(place, handle)
        self._runs.pop(run.wish.machine.id, None)
        if run.wish.machine.busy == "exporting":
            run.wish.machine.busy = None
        shutil.rmtree(run.scratch)

    def _clear(self, run: _Run) -> None:
        """Take away what was written, as far as it goes."""
        if self._role.knobs.failed_export_leaves == "files":
            return
        with self._role.disks.working():
            for path in reversed(run.made):
                with contextlib.suppress(Win32Error):
                    self._remove(path)

    def _remove(self, path: str) -> None:
        files = self._role.host.files
        place = files.resolve(path, token=self._role.system)
        if not place.exists:
            return
        remove: Callable[..., None] = files.remove_directory if place.is_directory else files.remove_file
        remove(place, self._role.system)
