# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many runs work at the same time: on a host, out of a volume, into a share, in whatever plays, controllers and AWX slices.

Each limit has slots, of which a run holds one while it works. They lie where all can see them that it concerns: in the state folder of
the host, or at the share. Each is a lease of twenty minutes that is renewed while the run works; a run that died leaves one that ends by
itself.

A run gets one slot of each limit or none at all: it never waits for one while it holds another. What is tried first is the same for all
runs (the host, its volumes, then all that lies at the share, in one task), so that of two that want the same one gets it.
"""
from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.destinations import Destination
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import DURATION, RENEW_BELOW, Keeper
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, leases, slots, system, target_leases
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import (
    Found,
    Lease,
    LeaseLost,
    LeasePlace,
    may_break,
    new_lease,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.slots import MOST
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import AuthenticationFailed

ARGUMENT_SPEC: dict[str, Any] = {
    "host_limit": {"type": "int", "default": 0}, "volume_limit": {"type": "int", "default": 0},
    "target_limit": {"type": "int", "default": 0}, "target_wait": {"type": "int", "default": 3600}}
_PAUSES = (5.0, 10.0, 20.0, 40.0, 60.0, 120.0)


class HostBusy(HypervError):
    """Every slot of a host was taken for all the time that the run would wait; nothing was begun."""

    error_code = "host_limit_reached"


class VolumeBusy(HypervError):
    """The same of a volume that is to be read."""

    error_code = "volume_limit_reached"


class TargetBusy(HypervError):
    """The same of a share."""

    error_code = "target_busy"


@dataclass(frozen=True)
class Limit:
    """So many runs at the same time. ``of``: what they share, for people; ``places``: the slots; ``option`` and ``busy``: what the task
    says of it."""

    of: str
    places: tuple[LeasePlace, ...]
    option: str
    busy: type[HypervError]


@dataclass(frozen=True)
class Full:
    """A limit that has no slot left, and what is in its slots."""

    limit: Limit
    found: tuple[Found, ...]


class Site(Protocol):
    """A place where slots of some limits lie."""

    @property
    def limits(self) -> Sequence[Limit]:
        """Of which a run takes a slot each."""

    def take(self) -> tuple[Lease, ...] | Full:
        """A slot of each limit, or none of any. One that this very run held before is taken over, one that ended long ago broken."""

    def renew(self, held: Sequence[Lease]) -> Sequence[Lease | None]:
        """Each as it stands from now on; None for one that is lost. Raises HypervError when nobody can tell."""

    def release(self, held: Sequence[Lease]) -> Sequence[Lease]:
        """Give them back; those that stayed. Raises HypervError when nobody can tell."""


# -- which limits a task has ---------------------------------------------------------------------------------------------


def holder(host: str, run_id: str) -> str:
    """Who holds a slot at a share: one run on one host, since hosts may share the ID of a run. At most 40 letters, digits and hyphens."""
    name = re.sub(r"[^A-Za-z0-9]", "-", host).strip("-")[:20] or "host"
    return f"{name}-{hashlib.sha256(run_id.lower().encode()).hexdigest()[:12]}"


def may_wait(params: Mapping[str, Any], destination: Destination) -> bool:
    """Whether a task has any limit that could make it wait."""
    return params["host_limit"] > 0 or params["volume_limit"] > 0 or (destination.is_share and params["target_limit"] > 0)


def for_task(call: Call, writer: CimWriter, folder: StateFolder, destination: Destination, identity: Identity, *, host: str, run_id: str,
             volumes: Sequence[Volume], lease: Keeper, duration: timedelta = DURATION) -> Slots:
    """The slots that the options of a task ask for. ``volumes``: those that will be read; ``duration``: as that of the run's lease.

    Raises HypervError ``invalid_limit``.
    """
    on_host, on_volume, to_target = (_checked(call.params, option) for option in ("host_limit", "volume_limit", "target_limit"))
    here, there = folder.leases, target_leases.slots_folder(destination.path)
    own: list[Limit] = []
    shared: list[Limit] = []
    if on_host:
        own.append(Limit(f"the host {host}", slots.places(here, slots.HOST, on_host), "host_limit", HostBusy))
    if on_volume:
        for device_id, volume in sorted({one.device_id.lower(): one for one in volumes}.items()):
            at_share = volume.is_csv and destination.is_share  # where the other nodes see it, too
            places = slots.places(there if at_share else here, slots.of_volume(device_id), on_volume)
            (shared if at_share else own).append(Limit(f"the volume {volume.root}", places, "volume_limit", VolumeBusy))
    if to_target and destination.is_share:
        shared.append(Limit(destination.path, slots.places(there, slots.TARGET, to_target), "target_limit", TargetBusy))
    sites: list[Site] = [HostSite(writer, limit, run_id, duration) for limit in own]
    if shared:
        sites.append(ShareSite(writer, call.clock, folder, destination, identity, shared, host=host, run_id=run_id))
    return Slots(sites, call.clock, wait=float(call.params["target_wait"]), progress=call.progress, warn=call.warn, lease=lease,
                 duration=duration)


def _checked(params: Mapping[str, Any], option: str) -> int:
    limit = int(params[option])
    if not 0 <= limit <= MOST:
        raise HypervError(f"{option} is a number from 0 to {MOST}.", error_code="invalid_limit")
    return limit


# -- holding them --------------------------------------------------------------------------------------------------------


@dataclass
class _Held:
    """What is held at one site, and until when by the controller's monotonic time."""

    site: Site
    leases: list[tuple[Limit, Lease]]
    ends: float


class Slots:
    """Holds a slot of each limit from ``with`` to its end. The state folder is there and trusted (``state.ensure``).

    ``wait``: seconds to wait for them. ``lease``: that of the run, which is kept with them, also while it waits. A slot that is lost, or
    cannot be given back, is a warning: it bounds a load, and no copy is worse without it.
    """

    def __init__(self, sites: Sequence[Site], clock: Clock, *, wait: float, progress: Callable[[str], None], warn: Callable[[str], None],
                 lease: Keeper, duration: timedelta = DURATION) -> None:
        self._sites, self._clock = sites, clock
        self._wait, self._progress, self._warn = wait, progress, warn
        self._run_lease = lease
        self._duration = duration
        self._held: list[_Held] = []
        self.waited = False
        """It had to wait: what was read of the host before is old."""

    def __enter__(self) -> Slots:
        """Take them all. Raises the ``busy`` error of the limit that had none, and what a place says that cannot be used."""
        deadline, pauses = Deadline(self._clock, self._wait), iter(_PAUSES)
        while (full := self._try()) is not None:
            if deadline.expired():
                raise self._busy(full)
            pause = min(next(pauses, _PAUSES[-1]), deadline.remaining())
            self._progress(f"{full.limit.of}: all {len(full.limit.places)} slots are taken, looking again in {pause:.0f} s")
            self.waited = True
            self._clock.sleep(pause)
            self._run_lease.keep()
        return self

    def _try(self) -> Full | None:
        """Take all, or none and return what is full."""
        with ExitStack() as undo:
            undo.callback(self._give_back)
            for site in self._sites:
                asked = self._clock.monotonic()
                taken = site.take()
                if isinstance(taken, Full):
                    return taken
                self._held.append(_Held(site, list(zip(site.limits, taken, strict=True)), asked + self._duration.total_seconds()))
            undo.pop_all()
        return None

    def keep(self) -> None:
        """Keep the lease of the run, and renew the slots of a site when less than ten minutes of them are left: one task at a share.

        Raises what the lease raises: without it nothing more may be changed.
        """
        self._run_lease.keep()
        for held in self._held:
            asked = self._clock.monotonic()
            if held.leases and held.ends - asked < RENEW_BELOW.total_seconds():
                self._renew(held)
                held.ends = asked + self._duration.total_seconds()

    def _renew(self, held: _Held) -> None:
        before, held.leases = held.leases, []
        try:
            after = held.site.renew([lease for _unused, lease in before])
        except AuthenticationFailed:
            raise
        except HypervError as error:
            for limit, _unused in before:
                self._warn(f"The slot of {limit.of} could not be renewed: {error.message}")
            return
        for (limit, _unused), lease in zip(before, after, strict=True):
            if lease is None:
                self._warn(f"The slot of {limit.of} was lost: more runs than {limit.option} allows may work there now.")
            else:
                held.leases.append((limit, lease))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Give them back."""
        self._give_back()

    def _give_back(self) -> None:
        while self._held:
            held = self._held.pop()
            own = [lease for _unused, lease in held.leases]
            if not own:
                continue
            try:
                stayed = held.site.release(own)
            except HypervError:
                stayed = own  # told below, like one that stayed
            for lease in stayed:
                self._warn(f"The slot {lease.place.path} could not be given back; it ends by itself at {lease.expires.isoformat()}.")

    def _busy(self, full: Full) -> HypervError:
        limit = full.limit
        held = [found.lease for found in full.found if found.lease is not None]
        damaged = sum(1 for found in full.found if found.damage is not None)
        names = ", ".join(sorted(f"{lease.run_id} until {_time(lease.expires)}" for lease in held))
        also = f"; {damaged} of them hold something that is not ours" if damaged else ""
        return limit.busy(f"All {len(limit.places)} slots of {limit.of} were taken for {self._wait / 60:.0f} minutes{also}.",
                          hint=f"Raise target_wait or {limit.option}, or move schedules apart. A slot of a run that died ends by itself.",
                          details={"slots": names})


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


# -- where they lie ------------------------------------------------------------------------------------------------------


class HostSite:
    """The slots of one limit in the state folder: one program each. They are held by the run, under whose lease it works."""

    def __init__(self, writer: CimWriter, limit: Limit, run_id: str, duration: timedelta) -> None:
        self._writer = writer
        self._run_id = run_id
        self._token = secrets.token_hex(6)
        self._duration = min(duration, leases.LONGEST)
        self._run = partial(files.run, writer)
        self.limits = (limit,)

    def take(self) -> tuple[Lease, ...] | Full:
        """See Site."""
        limit, = self.limits
        found = []
        for place in limit.places:
            taken = leases.take(self._run, place, self._run_id, self._token, duration=self._duration, host_time=self._host_time)
            if isinstance(taken, Lease):
                return (taken,)
            found.append(taken)
        return Full(limit, tuple(found))

    def renew(self, held: Sequence[Lease]) -> Sequence[Lease | None]:
        """See Site."""
        try:
            return [leases.renew(self._run, lease, duration=self._duration, host_time=self._host_time) for lease in held]
        except LeaseLost:
            return [None for _unused in held]

    def release(self, held: Sequence[Lease]) -> Sequence[Lease]:
        """See Site."""
        for lease in held:
            leases.release(self._run, lease)
        return ()

    def _host_time(self) -> datetime:
        return system.read_time(self._writer)


class ShareSite:
    """The slots of all limits at a share: one task, whatever is done to them. They are held by the run on this host."""

    def __init__(self, writer: CimWriter, clock: Clock, folder: StateFolder, destination: Destination, identity: Identity,
                 limits: Sequence[Limit], *, host: str, run_id: str) -> None:
        self._writer, self._clock, self._folder = writer, clock, folder
        self._destination, self._identity = destination, identity
        self._run_id, self._holder, self._knocks_as = run_id, holder(host, run_id), identity.at_share(host)
        self._token = secrets.token_hex(6)
        self.limits = tuple(limits)

    def take(self) -> tuple[Lease, ...] | Full:
        """See Site. Further tasks only where slots ended long ago, or are those of a dead try of this run."""
        now = system.read_time(self._writer)
        wanted = [[new_lease(place, self._holder, self._token, now=now, duration=DURATION) for place in limit.places]
                  for limit in self.limits]
        broken: list[Lease] = []
        full = Full(self.limits[0], ())
        for _unused in range(len(wanted) + 1):
            result, outputs = self._job("slot", target_leases.take_job(self._destination.path, wanted, broken))
            taken = target_leases.taken(result, outputs, wanted, self._destination.path, self._knocks_as)
            if taken.full is None:
                return taken.leases
            full = Full(self.limits[taken.full], taken.found)
            broken = [found.lease for found in taken.found if found.lease is not None and self._may_go(found.lease, now)]
            if not broken:
                break
        return full

    def _may_go(self, lease: Lease, now: datetime) -> bool:
        return lease.run_id.lower() == self._holder.lower() or may_break(lease, now)

    def renew(self, held: Sequence[Lease]) -> Sequence[Lease | None]:
        """See Site."""
        now = system.read_time(self._writer)
        # a second more, since the same name twice would be no renewal
        later = [new_lease(lease.place, lease.run_id, lease.token, now=now, duration=DURATION + timedelta(seconds=1)) for lease in held]
        result, _unused = self._job("renew", target_leases.renew_job(list(zip(later, held, strict=True))))
        return [lease if target_leases.renewed(result, number) else None for number, lease in enumerate(later)]

    def release(self, held: Sequence[Lease]) -> Sequence[Lease]:
        """See Site."""
        result, _unused = self._job("free", target_leases.release_job(held))
        return [lease for number, lease in enumerate(held) if not target_leases.released(result, number)]

    def _job(self, purpose: str, job: Job) -> destinations.Ended:
        return destinations.run_at_share(self._writer, self._folder, self._run_id, purpose, self._identity, job, clock=self._clock)
