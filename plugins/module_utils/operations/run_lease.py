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
from collections.abc import Mapping
from datetime import datetime, timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, leases, system
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


class RunLease:
    """Holds the lease of a run from ``with`` to its end. The state folder is there and trusted (``state.ensure``).

    ``holder``: as whom it is held; the run itself unless something is done about it from outside. ``seize``: take it even from a holder
    that is at work. ``duration``: longer for a run that cannot renew it while it works. ``leftovers`` has the lease when it could not be
    given back; that never hides another error.
    """

    def __init__(self, writer: CimWriter, clock: Clock, folder: StateFolder, run_id: str, *, holder: str | None = None,
                 seize: bool = False, duration: timedelta = DURATION) -> None:
        self._writer = writer
        self._clock = clock
        self._place = lease_place(folder, run_id)
        self._holder = holder or run_id
        self._seize = seize
        self._duration = min(duration, leases.LONGEST)
        self._token = secrets.token_hex(6)
        self._lease: Lease | None = None
        self._ends = 0.0
        self._retry = 0.0
        self.leftovers: list[Leftover] = []
        """The lease, when it could not be given back."""

    def __enter__(self) -> RunLease:
        """Take the lease: the host's time and one program. A lease of the same run is adopted, and whoever had it has lost it.

        Raises LeaseHeld, HypervError ``lease_damaged`` or ``lease_not_made``.
        """
        asked = self._clock.monotonic()
        self._lease = self._taken()
        self._ends = asked + self._duration.total_seconds()
        return self

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
            return
        try:
            leases.release(self._run, lease)
        except HypervError:
            self.leftovers.append(lease_leftover(self._place))

    def _taken(self) -> Lease:
        if self._seize:
            found = leases.look(self._run, self._place).lease
            if found is not None:
                return leases.seize(self._run, found, self._holder, self._token, duration=self._duration, host_time=self._host_time)
        return leases.acquire(self._run, self._place, self._holder, self._token, duration=self._duration, host_time=self._host_time)

    def _run(self, command: Command, values: Mapping[str, str]) -> ProgramResult:
        return files.run(self._writer, command, values)

    def _host_time(self) -> datetime:
        return system.read_time(self._writer)
