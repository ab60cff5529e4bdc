# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A slot at a share for as long as a run writes there: how many hosts, in whatever plays and slices, write to one share at the same time.

The slots lie at the share itself (:mod:`windows.target_leases`), so that they hold between controllers that know nothing of each other.
Each is a lease of twenty minutes that is renewed while the run works; a run that died leaves one that ends by itself. A destination on a
volume of the host has one writer anyway, and needs none.
"""
from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.destinations import Destination
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import DURATION, RENEW_BELOW, Keeper
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import system, target_leases
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import Found, Lease, may_break, new_lease
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.target_leases import MOST_SLOTS
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import AuthenticationFailed

ARGUMENT_SPEC: dict[str, Any] = {"target_limit": {"type": "int", "default": 0}, "target_wait": {"type": "int", "default": 3600}}
_PAUSES = (20.0, 40.0, 60.0, 120.0)


class TargetBusy(HypervError):
    """Every slot of a destination was taken for all the time that the run would wait; nothing was begun."""

    error_code = "target_busy"


def holder(host: str, run_id: str) -> str:
    """Who holds a slot: one run on one host, since hosts may share the ID of a run. At most 40 letters, digits and hyphens."""
    name = re.sub(r"[^A-Za-z0-9]", "-", host).strip("-")[:20] or "host"
    return f"{name}-{hashlib.sha256(run_id.lower().encode()).hexdigest()[:12]}"


def for_task(call: Call, writer: CimWriter, folder: StateFolder, destination: Destination, identity: Identity, *, host: str, run_id: str,
             lease: Keeper) -> TargetSlot:
    """The slot that the options of a task ask for. Raises HypervError ``invalid_target_limit``."""
    return TargetSlot(writer, call.clock, folder, destination, identity, host=host, run_id=run_id, limit=call.params["target_limit"],
                      wait=float(call.params["target_wait"]), progress=call.progress, warn=call.warn, lease=lease)


class TargetSlot:
    """Holds a slot from ``with`` to its end. The state folder is there and trusted (``state.ensure``).

    ``limit``: the number of slots, 0 for no limit; every run that names another number sees other slots. ``wait``: seconds to wait for one.
    ``lease``: that of the run, which is kept with it, also while it waits. A slot that is lost, or cannot be given back, is a warning: it
    bounds a load, and no copy is worse without it.
    """

    def __init__(self, writer: CimWriter, clock: Clock, folder: StateFolder, destination: Destination, identity: Identity, *, host: str,
                 run_id: str, limit: int, wait: float, progress: Callable[[str], None], warn: Callable[[str], None],
                 lease: Keeper) -> None:
        if not 0 <= limit <= MOST_SLOTS:
            raise HypervError(f"target_limit is a number from 0 to {MOST_SLOTS}.", error_code="invalid_target_limit")
        self._writer, self._clock, self._folder = writer, clock, folder
        self._destination, self._identity = destination, identity
        self._run_id, self._holder, self._knocks_as = run_id, holder(host, run_id), identity.at_share(host)
        self._places = target_leases.slot_places(destination.path, limit) if limit and destination.is_share else ()
        self._wait, self._progress, self._warn = wait, progress, warn
        self._token = secrets.token_hex(6)
        self._run_lease = lease
        self._lease: Lease | None = None
        self._ends = 0.0

    def __enter__(self) -> TargetSlot:
        """Take a slot, one task when one is free. Raises TargetBusy, and what the task says when the share cannot be used."""
        if not self._places:
            return self
        deadline, pauses = Deadline(self._clock, self._wait), iter(_PAUSES)
        while True:
            asked = self._clock.monotonic()
            self._lease, others = self._try()
            if self._lease is not None:
                self._ends = asked + DURATION.total_seconds()
                return self
            if deadline.expired():
                raise self._busy(others)
            pause = min(next(pauses, _PAUSES[-1]), deadline.remaining())
            self._progress(f"{self._destination.path}: all {len(self._places)} slots are taken, looking again in {pause:.0f} s")
            self._clock.sleep(pause)
            self._run_lease.keep()

    def keep(self) -> None:
        """Keep the lease of the run, and renew the slot when less than ten minutes of it are left: one task, rarely.

        Raises what the lease raises: without it nothing more may be changed.
        """
        self._run_lease.keep()
        lease = self._lease
        if lease is None or self._ends - self._clock.monotonic() >= RENEW_BELOW.total_seconds():
            return
        asked = self._clock.monotonic()
        try:
            later = self._wanted(lease)
            if target_leases.changed(self._run("renew", target_leases.change_job(later, lease))[0]):
                self._lease, self._ends = later, asked + DURATION.total_seconds()
                return
        except AuthenticationFailed:
            raise
        except HypervError as error:
            self._warn(f"The slot at {self._destination.path} could not be renewed: {error.message}")
        else:
            self._warn(f"The slot at {self._destination.path} was lost: more runs than its limit may write there now.")
        self._lease = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Give it back."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            if target_leases.released(self._run("free", target_leases.release_job(lease))[0]):
                return
        except HypervError:
            pass  # told below, like one that stayed
        self._warn(f"The slot {lease.place.path} could not be given back; it ends by itself at {lease.expires.isoformat()}.")

    # -- one try -------------------------------------------------------------------------------------------------------

    def _try(self) -> tuple[Lease | None, Sequence[Found]]:
        """A slot that is free, was this very run's before, or ended long ago; else what is in all of them."""
        now = system.read_time(self._writer)
        wanted = [new_lease(place, self._holder, self._token, now=now, duration=DURATION) for place in self._places]
        taken, others = target_leases.taken(*self._run("slot", target_leases.take_job(self._destination.path, wanted)), wanted,
                                            self._destination.path, self._knocks_as)
        if taken is not None:
            return taken, ()
        for lease, found in zip(wanted, others, strict=False):
            old = found.lease
            if old is None or not (old.run_id.lower() == self._holder.lower() or may_break(old, now)):
                continue
            if target_leases.changed(self._run("slot", target_leases.change_job(lease, old))[0]):
                return lease, ()
        return None, others

    def _wanted(self, lease: Lease) -> Lease:
        now = system.read_time(self._writer)
        return new_lease(lease.place, lease.run_id, lease.token, now=now, duration=DURATION + timedelta(seconds=1))

    def _run(self, purpose: str, job: Job) -> destinations.Ended:
        return destinations.run_at_share(self._writer, self._folder, self._run_id, purpose, self._identity, job, clock=self._clock)

    def _busy(self, others: Sequence[Found]) -> TargetBusy:
        held = [found.lease for found in others if found.lease is not None]
        damaged = sum(1 for found in others if found.damage is not None)
        names = ", ".join(sorted(f"{lease.run_id} until {_time(lease.expires)}" for lease in held))
        also = f"; {damaged} of them hold something that is not ours" if damaged else ""
        return TargetBusy(f"All {len(self._places)} slots of {self._destination.path} were taken for {self._wait / 60:.0f} minutes{also}.",
                          hint="Raise target_wait or target_limit, or move schedules apart. A slot of a run that died ends by itself.",
                          details={"slots": names})


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
