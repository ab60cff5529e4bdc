# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""The lease of a run on a host: ``<state folder>\leases\<run id>``. As long as it stands, the run is at work, and nobody touches what
belongs to it.

Only the host's clock decides about a lease (:mod:`windows.leases`). When to renew it is a matter of this process alone, so that is measured
with the controller's monotonic time: whatever has nothing to renew asks nobody.
"""
from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, leases, system
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import Text
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import Lease, LeaseLost, LeasePlace
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import AuthenticationFailed
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.shell import ProgramResult

DURATION = timedelta(minutes=20)
RENEW_BELOW = timedelta(minutes=10)
RETRY = timedelta(minutes=1)


def lease_place(folder: StateFolder, run_id: str) -> LeasePlace:
    """Where the lease of a run stands."""
    return LeasePlace(folder.leases, run_id)


def lease_leftover(place: LeasePlace) -> Leftover:
    """A lease that stays."""
    return Leftover("lease", place.name, place.path, f'rmdir /s /q "{place.path}"')


class Keeper(Protocol):
    """What must be kept while a run works."""

    def keep(self) -> None:
        """To be called at every progress point; asks somebody only when it is time to."""


class RunLease:
    """Holds the lease of a run from ``with`` to its end. The state folder is there and trusted (``state.ensure``).

    ``holder``: as whom it is held; the run itself unless something is done about it from outside. ``seize``: take it even from a holder
    that is at work. ``duration``: longer for a run that cannot renew it while it works. ``host_time``: the host's time when it is taken, if
    that is known. ``announce``: a text that is written in the same program, right after the lease is taken. ``leftovers`` has what could
    not be given back or removed; that never hides another error.
    """

    def __init__(self, writer: CimWriter, clock: Clock, folder: StateFolder, run_id: str, *, holder: str | None = None,
                 seize: bool = False, duration: timedelta = DURATION, host_time: Callable[[], datetime] | None = None,
                 announce: Text | None = None) -> None:
        self._writer = writer
        self._clock = clock
        self._place = lease_place(folder, run_id)
        self._holder = holder or run_id
        self._seize = seize
        self._duration = min(duration, leases.LONGEST)
        self._first_time = host_time or self._host_time
        self._announce = announce
        self._announced = False
        self._retracted: Leftover | None = None
        self._removed: bool | None = None
        self._token = secrets.token_hex(6)
        self._lease: Lease | None = None
        self._ends = 0.0
        self._retry = 0.0
        self.leftovers: list[Leftover] = []
        """The lease that could not be given back, and the text that is still there."""

    def __enter__(self) -> RunLease:
        """Take the lease: one program, and the host's time before unless it is known. A lease of the same run is adopted, and whoever
        had it has lost it.

        Raises LeaseHeld, HypervError ``lease_damaged``, ``lease_not_made`` or, with a text, ``file_not_written``; then nothing of the
        text stays, or it is in the error's ``leftovers``.
        """
        asked = self._clock.monotonic()
        self._lease = self._taken()
        self._ends = asked + self._duration.total_seconds()
        text = self._announce
        if text is not None and not self._announced:
            try:
                files.write_text(self._writer, text.temporary, text.final, text.data)
            except HypervError as error:
                # it may stand nevertheless, and tells of nothing
                self.retract(Leftover("intent", text.final, text.final.rpartition("\\")[0], f'del "{text.final}"'))
                self.__exit__(None, None, None)
                error.leftovers = (*error.leftovers, *(one for one in self.leftovers if one.kind != "lease"))
                raise
        return self

    def retract(self, leftover: Leftover) -> None:
        """What was announced has nothing more to say: it is removed in the program that gives the lease back. ``leftover``: it, should it
        stay."""
        self._retracted = leftover

    def keep(self) -> None:
        """Renew the lease when less than ten minutes of it are left; else nothing is asked. To be called at every progress point.

        A renewal that fails is tried again after a minute, as long as the lease still stands. Raises LeaseLost when somebody else has
        it: then nothing more may be changed. Raises what made the last renewal fail once the lease may be over.
        """
        lease, asked = self._lease, self._clock.monotonic()
        if lease is None:
            raise LeaseLost(f"The lease {self._place.path} of the run {self._holder} is lost.")
        left = self._ends - asked
        if left >= RENEW_BELOW.total_seconds() or asked < self._retry:
            return
        try:
            self._lease = leases.renew(self._run, lease, duration=self._duration, host_time=self._host_time)
        except LeaseLost:
            self._lease = None
            raise
        except AuthenticationFailed:
            raise
        except HypervError:
            if left <= 0:
                raise
            self._retry = asked + min(RETRY.total_seconds(), left)
            return
        self._ends = asked + self._duration.total_seconds()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Give the lease back; one that was lost is somebody else's."""
        lease, self._lease = self._lease, None
        if lease is None:
            if self._retracted is not None:
                self.leftovers.append(self._retracted)
            return
        try:
            leases.release(self._run, lease)
        except HypervError:
            self.leftovers.append(lease_leftover(self._place))
        if self._retracted is not None and not self._is_gone(self._retracted):
            self.leftovers.append(self._retracted)

    def told(self, warn: Callable[[str], None]) -> list[Leftover]:
        """What stayed beside a lease that could not be given back; that one is a warning only."""
        for leftover in self.leftovers:
            if leftover.kind == "lease":
                warn(f"The lease of this run could not be given back; it ends by itself within minutes: {leftover.location}.")
        return [leftover for leftover in self.leftovers if leftover.kind != "lease"]

    def _is_gone(self, leftover: Leftover) -> bool:
        """Whether the text went; it is tried once more when the answer was lost."""
        if self._removed is None:
            self._removed = self._remove(leftover.id)
        return self._removed

    def _remove(self, path: str) -> bool:
        try:
            return files.run(self._writer, files.REMOVE_TEXT, {"FINAL": path}).exit_code == 0
        except HypervError:
            return False

    def _taken(self) -> Lease:
        if self._seize:
            found = leases.look(self._run, self._place).lease
            if found is not None:
                return leases.seize(self._run, found, self._holder, self._token, duration=self._duration, host_time=self._host_time)
        return leases.acquire(self._run, self._place, self._holder, self._token, duration=self._duration, host_time=self._first_time)

    def _run(self, command: Command, values: Mapping[str, str]) -> ProgramResult:
        if command is leases.ACQUIRE and self._announce is not None:
            return self._acquire_and_write(self._announce, values)
        if command is leases.REMOVE and self._retracted is not None and self._lease is None:
            return self._remove_with_text(self._retracted, values)
        return files.run(self._writer, command, values)

    def _acquire_and_write(self, text: Text, values: Mapping[str, str]) -> ProgramResult:
        try:
            result = files.run(self._writer, leases.ACQUIRE_AND_WRITE, {**values, **text.values()}, stdin=text.data)
        except OutcomeUnknown:
            raise  # the lease's folder tells, and then the text is written anew
        except HypervError as error:  # the program may have begun nevertheless
            error.leftovers = (*error.leftovers, *self._half_written(text))
            raise
        listed, _mark, shown = result.stdout.partition(leases.TEXT)
        self._announced = files.same_text(shown.lstrip(b"\r\n"), text.data)
        return replace(result, stdout=listed)

    def _half_written(self, text: Text) -> list[Leftover]:
        """What stays of a text of which nobody knows how far it came."""
        return [Leftover("intent", path, path.rpartition("\\")[0], f'del "{path}"') for path in (text.temporary, text.final)
                if not self._remove(path)]

    def _remove_with_text(self, leftover: Leftover, values: Mapping[str, str]) -> ProgramResult:
        result = files.run(self._writer, leases.REMOVE_WITH_TEXT, {**values, "FINAL": leftover.id})
        still, listed = result.stdout.startswith(leases.TEXT), result.stdout.removeprefix(leases.TEXT).lstrip(b"\r\n")
        self._removed = not still
        return replace(result, stdout=listed)

    def _host_time(self) -> datetime:
        return system.read_time(self._writer)
