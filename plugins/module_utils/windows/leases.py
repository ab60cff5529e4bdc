# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""Leases: one run at a time in one place, on the host or at a UNC target, by names in a folder and nothing else.

A lease is a folder ``<name>`` that holds exactly one entry, ``<expiry>_<run id>_<token>.lease``: everything is in the entry's name.
The folder is made complete under a name of its own and then renamed to ``<name>``. Renaming is as exclusive as ``mkdir`` (it fails when the
name is taken), and whoever dies in between leaves no lease without an expiry, which nobody could ever tell from one being made.

The rules, each one atomic rename of one exact entry, so that of several that try one wins and the others notice:

* **renew**: the holder renames its entry to one with a later expiry. When that fails the lease is lost, and its holder stops.
* **adopt**: a retry of the same run renames the entry of the run that died to one of its own; had it not died, its next renewal fails.
* **break**: a lease that expired more than GRACE ago, by the host's clock, is broken by renaming its entry to ``broken_<token>``. Only
  who wins that may remove the folder, and only when it is empty then: ``rmdir`` refuses to remove a lease that was made meanwhile.
* **seize**: a person who cancels a run takes its lease away in the same way, alive or not.
* **release**: the holder deletes its entry, then the empty folder. A folder that is empty, or holds a broken entry, is nobody's.

Anything else in the folder is damage: it is reported, never removed. Times are those of the host (each host writes its own clock's time,
GRACE covers the difference between hosts); the controller's clock is never read.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Stage, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command, said
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.shell import ProgramResult

GRACE = timedelta(minutes=5)
LONGEST = timedelta(days=7)
TRIES = 3

_TIME = "%Y%m%dT%H%M%SZ"
_ENTRY = re.compile(r"(?P<expires>\d{8}T\d{6}Z)_(?P<run>[A-Za-z0-9][A-Za-z0-9-]{0,39})_(?P<token>[0-9a-f]{12})\.lease\Z",
                    re.ASCII | re.IGNORECASE)  # the host's file classes tell names in lower case
_BROKEN = re.compile(r"broken_[0-9a-f]{12}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}\Z")
_STAGED = re.compile(r".+\.[0-9a-f]{12}\Z", re.IGNORECASE)
_SLOT = re.compile(r".+\.slot[0-9]{1,2}\Z", re.IGNORECASE)

_LIST = 'dir /B /A "%AGH_LEASE%"'
LIST = Command(_LIST, reads_only=True)
# no digit may stand before a redirection
ACQUIRE = Command('(mkdir "%AGH_STAGED%" && (echo lease)>"%AGH_STAGED%\\%AGH_ENTRY%" && ren "%AGH_STAGED%" "%AGH_NAME%")'
                  f' || (del /F /Q "%AGH_STAGED%\\%AGH_ENTRY%" & rmdir "%AGH_STAGED%") & {_LIST}')
RENAME = Command(f'ren "%AGH_LEASE%\\%AGH_OLD%" "%AGH_ENTRY%" & {_LIST}')
REMOVE = Command('ren "%AGH_LEASE%\\%AGH_OLD%" "%AGH_BROKEN%" & (if not exist "%AGH_LEASE%\\%AGH_BROKEN%\\" '
                 f'del /F /Q "%AGH_LEASE%\\%AGH_BROKEN%") & rmdir "%AGH_LEASE%" & {_LIST}')
# With a text that announces what the run is about to do, written once the lease is this run's; it must be read whatever happens.
ACQUIRE_AND_WRITE = Command(f'{ACQUIRE.line} & echo [text]& (if exist "%AGH_LEASE%\\%AGH_ENTRY%" ({files.WRITE_TEXT.line}) '
                            f'else ({files.DROP_INPUT}))')
# and with its removal, which comes first: a text without a lease is that of a dead run
REMOVE_WITH_TEXT = Command(f'(del /F /Q "%AGH_FINAL%" & if exist "%AGH_FINAL%" echo [text]) & {REMOVE.line}')
TEXT = b"[text]"
"""The mark of both: before what the file shows, and of a file that is still there."""


class LeaseHeld(HypervError):
    """Another run holds the lease; ``details`` say which, and until when."""

    error_code = "lease_held"


class LeaseLost(HypervError):
    """The lease is not this run's any more: it expired and was broken, or a retry of the same run took it over."""

    error_code = "lease_lost"


LeaseRunner = Callable[[Command, Mapping[str, str]], ProgramResult]
"""Runs one command with its values: in a shell of the host (``files.run``), or otherwise, where the place is a UNC target."""


@dataclass(frozen=True)
class LeasePlace:
    """A lease's folder: ``name`` in ``folder``. Everything that must not work at the same time uses the same place."""

    folder: str
    name: str

    def __post_init__(self) -> None:
        if _NAME.match(self.name) is None or self.name.endswith("."):
            raise ValueError(f"not the name of a lease: {self.name!r}")

    @property
    def path(self) -> str:
        """The folder of the lease."""
        return f"{self.folder}\\{self.name}"


@dataclass(frozen=True)
class Lease:
    """A lease of one run. ``token``: twelve hexadecimal digits of this process; ``expires``: host time, aware, whole seconds."""

    place: LeasePlace
    run_id: str
    token: str
    expires: datetime

    @property
    def entry(self) -> str:
        """The name of its entry."""
        return f"{self.expires.astimezone(UTC).strftime(_TIME)}_{self.run_id}_{self.token}.lease"


@dataclass(frozen=True)
class Found:
    """What is in a lease's folder: a lease, an entry that is nobody's and may be removed, or damage, which may not."""

    lease: Lease | None = None
    removable: str | None = None
    damage: str | None = None


@dataclass(frozen=True)
class LeaseFolder:
    """A folder among the leases of runs: ``name`` is the run, in lower case where only the host's file classes were asked, or a slot.

    ``modified``: host time, None when it was not told. ``found``: what is in it.
    """

    path: str
    name: str
    modified: datetime | None
    found: Found

    @property
    def place(self) -> LeasePlace:
        """Where it stands. Raises ValueError for what has not the name of a lease."""
        return LeasePlace(self.path.rpartition("\\")[0], self.name)

    @property
    def staged(self) -> bool:
        """One that was being made under a name of its own; no lease, whatever is in it."""
        return _STAGED.match(self.name) is not None

    @property
    def slot(self) -> bool:
        """One of so many that a limit allows (:mod:`.slots`): it is held by a run, and says nothing of whether that is at work. The ID
        of a run has no dot."""
        return is_slot(self.name)


class Runs(frozenset[str]):
    """Runs by their IDs. Their case does not matter, as in names of folders: the host may tell them in lower case."""

    def __new__(cls, run_ids: Iterable[str] = ()) -> Runs:
        """Keeps them in lower case."""
        return super().__new__(cls, (run_id.lower() for run_id in run_ids))

    def __contains__(self, run_id: object) -> bool:
        """True for a run in any spelling."""
        return isinstance(run_id, str) and super().__contains__(run_id.lower())


# -- pure ----------------------------------------------------------------------------------------------------------------


def is_slot(name: str) -> bool:
    """True for the name of a slot."""
    return _SLOT.match(name) is not None


def new_lease(place: LeasePlace, run_id: str, token: str, *, now: datetime, duration: timedelta) -> Lease:
    """A lease from ``now``, the host's time. Raises ValueError for what cannot be an entry's name, or lasts longer than LONGEST."""
    if not timedelta(0) < duration <= LONGEST:
        raise ValueError("a lease lasts up to seven days")
    lease = Lease(place, run_id, token, (now + duration).astimezone(UTC).replace(microsecond=0))
    if _ENTRY.match(lease.entry) is None:
        raise ValueError(f"not a lease: {lease.entry!r}")
    return lease


def read_entries(place: LeasePlace, listed: bytes) -> Found:
    """What a listing (LIST) of the folder says; nothing at all for one that is missing or empty."""
    return read_names(place, [name for name in listed.decode("utf-8", "replace").splitlines() if name.strip()])


def read_names(place: LeasePlace, names: Sequence[str]) -> Found:
    """The same out of the names of what is in the folder."""
    if len(names) > 1:
        return Found(damage=f"it holds {len(names)} entries")
    for name in names:
        part = _ENTRY.match(name)
        if part is not None:
            try:
                expires = datetime.strptime(part["expires"].upper(), _TIME).replace(tzinfo=UTC)
            except ValueError:
                return Found(damage=f"its entry is {name[:120]!r}")
            return Found(Lease(place, part["run"], part["token"].lower(), expires))
        return Found(removable=name) if _BROKEN.match(name) else Found(damage=f"its entry is {name[:120]!r}")
    return Found()


def may_break(lease: Lease, now: datetime) -> bool:
    """True when a lease expired more than GRACE before ``now``, the host's time, or promises more than any lease of ours may."""
    return now > lease.expires + GRACE or lease.expires > now + LONGEST + GRACE


def alive_runs(folders: Iterable[LeaseFolder], now: datetime) -> Runs:
    """The runs at work at ``now``, the host's time: those whose lease nobody may break.

    A run whose lease is damaged counts as well: nobody can tell, and what is damaged is for a person to look at.
    """
    return Runs(folder.name for folder in folders if not (folder.staged or folder.slot)
                and (folder.found.damage is not None or (folder.found.lease is not None and not may_break(folder.found.lease, now))))


# -- with a host ---------------------------------------------------------------------------------------------------------


def look(run: LeaseRunner, place: LeasePlace) -> Found:
    """Who holds the lease; one command."""
    return read_entries(place, run(LIST, {"LEASE": place.path}).stdout)


def acquire(run: LeaseRunner, place: LeasePlace, run_id: str, token: str, *, duration: timedelta,
            host_time: Callable[[], datetime]) -> Lease:
    """Take the lease, one command when it is free. A lease of the same run is adopted, an expired one broken.

    Raises LeaseHeld, HypervError ``lease_damaged`` (somebody put something else there) or ``lease_not_made`` (no right, no space).
    """
    taken = take(run, place, run_id, token, duration=duration, host_time=host_time)
    if isinstance(taken, Lease):
        return taken
    raise _damaged(place, taken.damage or "") if taken.lease is None else _held(taken.lease)


def take(run: LeaseRunner, place: LeasePlace, run_id: str, token: str, *, duration: timedelta,
         host_time: Callable[[], datetime]) -> Lease | Found:
    """The same, with what is in the way when it cannot be taken: the lease of somebody else, or damage.

    Raises HypervError ``lease_not_made``.
    """
    now = host_time()
    wanted = new_lease(place, run_id, token, now=now, duration=duration)
    result = ProgramResult(0, b"", b"")
    for _unused in range(TRIES):
        result = _run(run, ACQUIRE, place, {**_staged(wanted), "LEASE": place.path})
        found = read_entries(place, result.stdout)
        if found.lease == wanted:
            return wanted
        if found.damage is not None:
            return found
        if found.lease is None:
            clear(run, place, found, token, made=wanted.entry)
        elif found.lease.run_id.lower() == run_id.lower():  # names of folders know no case
            return _take_over(run, found.lease, wanted)
        elif may_break(found.lease, now):
            clear(run, place, found, token)
        else:
            return found
    raise HypervError(f"The lease {place.path} could not be made: {said(result)}", error_code="lease_not_made",
                      hint="May the account write there, and is there space?")


def clear(run: LeaseRunner, place: LeasePlace, found: Found, token: str, *, made: str = "nothing") -> None:
    """Remove what was found in a lease's folder and is nobody's: a lease that the caller may break, a broken entry, an empty folder.

    ``made``: the entry that may be there when nothing was found.
    """
    old = found.lease.entry if found.lease is not None else found.removable or made
    _run(run, REMOVE, place, _removal(place, old, token))


def renew(run: LeaseRunner, lease: Lease, *, duration: timedelta, host_time: Callable[[], datetime]) -> Lease:
    """Extend a lease from now on; one command. Raises LeaseLost when it is not ours any more: then stop what it protects."""
    later = new_lease(lease.place, lease.run_id, lease.token, now=host_time(), duration=duration)
    if later.expires <= lease.expires:
        found = look(run, lease.place)
        if found.lease != lease:
            raise _lost(lease, found)
        return lease
    return _take_over(run, lease, later)


def seize(run: LeaseRunner, old: Lease, run_id: str, token: str, *, duration: timedelta, host_time: Callable[[], datetime]) -> Lease:
    """Take a lease away from its holder, alive or not, who finds it lost at its next renewal. For a person who cancels a run.

    Raises LeaseLost when ``old`` is not there any more.
    """
    return _take_over(run, old, new_lease(old.place, run_id, token, now=host_time(), duration=duration))


def release(run: LeaseRunner, lease: Lease) -> None:
    """Give a lease back; one that is somebody else's by now is left alone. Raises HypervError ``lease_not_released`` when it stayed."""
    result = _run(run, REMOVE, lease.place, _removal(lease.place, lease.entry, lease.token))
    if read_entries(lease.place, result.stdout).lease == lease:
        raise HypervError(f"The lease {lease.place.path} could not be given back: {said(result)}", error_code="lease_not_released",
                          hint=f"It ends by itself at {lease.expires.isoformat()} by the host's clock.")


def _take_over(run: LeaseRunner, old: Lease, new: Lease) -> Lease:
    if old.entry == new.entry:
        return new
    result = _run(run, RENAME, new.place, {"LEASE": new.place.path, "OLD": old.entry, "ENTRY": new.entry})
    found = read_entries(new.place, result.stdout)
    if found.lease == new:
        return new
    if found.lease == old:
        raise HypervError(f"The lease {new.place.path} could not be renewed: {said(result)}", error_code="lease_not_made",
                          hint="Has something opened a file there?")
    if found.lease is not None and (found.lease.run_id, found.lease.token) == (new.run_id, new.token):
        return _take_over(run, found.lease, new)  # a renewal of ours whose answer was lost
    raise _lost(new, found)


def _run(run: LeaseRunner, command: Command, place: LeasePlace, values: Mapping[str, str]) -> ProgramResult:
    """Run a command; when its answer is lost, a listing says what it came to, since each of them tells by names what happened."""
    try:
        return run(command, values)
    except OutcomeUnknown:
        return run(LIST, {"LEASE": place.path})


def _staged(lease: Lease) -> dict[str, str]:
    return {"STAGED": f"{lease.place.path}.{lease.token}", "ENTRY": lease.entry, "NAME": lease.place.name}


def _removal(place: LeasePlace, old: str, token: str) -> dict[str, str]:
    return {"LEASE": place.path, "OLD": old, "BROKEN": f"broken_{token}"}


def _held(lease: Lease) -> LeaseHeld:
    until = lease.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
    return LeaseHeld(f"Another run ({lease.run_id}) works in {lease.place.folder} until {until} at most.",
                     hint="Wait for it; a lease of a run that died ends by itself.",
                     details={"lease": {"path": lease.place.path, "run_id": lease.run_id, "expires": until}})


def _lost(lease: Lease, found: Found) -> LeaseLost:
    holder = "nobody" if found.lease is None else f"the run {found.lease.run_id}"
    return LeaseLost(f"The lease {lease.place.path} of the run {lease.run_id} is lost: {holder} has it now.",
                     hint="The run took longer than its lease, or was started twice.")


def _damaged(place: LeasePlace, damage: str) -> HypervError:
    return HypervError(f"The lease {place.path} is damaged: {damage}.", error_code="lease_damaged",
                       hint="Look who put that there, then remove the folder by hand.")


# -- inside a job --------------------------------------------------------------------------------------------------------


def acquire_stage(lease: Lease, prefix: str = "") -> tuple[Stage, dict[str, str]]:
    """The same as the first part of a job at a UNC target: a stage that fails, and ends the job, unless the lease is this run's now.

    Returns the stage and its values. The output of its last step, ``lease_list``, is for :func:`read_entries`: a lease that may be
    broken or adopted needs :func:`replace_stage` in the next job. ``prefix`` tells the values of several leases of one job apart.
    """
    values = {prefix + name: value for name, value in {**_staged(lease), "LEASE": lease.place.path}.items()}
    line = ACQUIRE.line.removesuffix(f" & {_LIST}")
    return _stage(line, prefix, values), values


def replace_stage(lease: Lease, old: Lease, prefix: str = "") -> tuple[Stage, dict[str, str]]:
    """A stage that takes over ``old``, a lease that expired or is of the same run (the caller has asked :func:`may_break`)."""
    values = {prefix + name: value for name, value in
              {"LEASE": lease.place.path, "OLD": old.entry, "ENTRY": lease.entry}.items()}
    return _stage(RENAME.line.removesuffix(f" & {_LIST}"), prefix, values), values


def release_stage(lease: Lease, prefix: str = "") -> tuple[Stage, dict[str, str]]:
    """The last part of a job: the lease is given back; never essential."""
    removal = _removal(lease.place, lease.entry, lease.token)
    values = {f"{prefix}LEASE": removal["LEASE"], f"{prefix}BROKEN": removal["BROKEN"], f"{prefix}ENTRY": lease.entry}
    plain = REMOVE.line.removesuffix(f" & {_LIST}").replace("%AGH_OLD%", "%AGH_ENTRY%")
    line = _prefixed(plain, prefix, values)
    step = Step(f"{prefix.lower()}lease_release", line, None, f'not exist "%AGH_{prefix}LEASE%\\%AGH_{prefix}ENTRY%"')
    return Stage((step,), essential=False), values


def _stage(line: str, prefix: str, values: Mapping[str, str]) -> Stage:
    name = prefix.lower()
    return Stage((
        Step(f"{name}lease_make", _prefixed(line, prefix, values), None),
        Step(f"{name}lease_list", _prefixed(_LIST, prefix, values), None,
             f'exist "%AGH_{prefix}LEASE%\\%AGH_{prefix}ENTRY%"', keep=True),
    ))


def _prefixed(line: str, prefix: str, values: Mapping[str, str]) -> str:
    for name in values:
        plain = name.removeprefix(prefix)
        line = line.replace(f"%AGH_{plain}%", f"%AGH_{name}%")
    return line
