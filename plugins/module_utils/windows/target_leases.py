# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""Leases at a destination, taken and given back by jobs on a host that reaches it: what several runs and slices share there.

A destination with a limit has as many *slots* (:mod:`.slots`), ``<destination>\agentless.hyperv\slots\slot<N>``, each a lease
(:mod:`.leases`) of the run that writes there; beside them lie those of cluster shared volumes that several nodes read from. No computer may
be named like that folder, which has a dot, so it is in no host's way. Every job names all the slots, so that a run gets one of each limit,
or is told which limit has none, in one task.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import leases
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult, Stage, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import Found, Lease

FOLDER = "agentless.hyperv"
SLOTS = "slots"
_REACH = Step("reach", 'dir /AD "%AGH_DESTINATION%"', None, 'exist "%AGH_DESTINATION%\\"')


def slots_folder(destination: str) -> str:
    """Where the slots of a destination lie."""
    return f"{destination}\\{FOLDER}\\{SLOTS}"


# -- one lease, to see that it can be taken ------------------------------------------------------------------------------


def try_job(destination: str, lease: Lease) -> Job:
    """Take a lease directly in ``destination`` and give it back: a folder and a file are made, renamed and removed."""
    taken, values = leases.acquire_stage(lease)
    given, more = leases.release_stage(lease)
    return Job((Stage((_REACH,)), taken, given), {"DESTINATION": destination, **values, **more})


def expect_tried(result: JobResult, destination: str, knocks_as: str) -> None:
    """Raise HypervError ``destination_unreachable`` or ``destination_denied`` unless :func:`try_job` went well to its end."""
    if not result.good("reach"):
        raise _unreachable(destination, knocks_as)
    if not result.good("lease_list") or not result.good("lease_release"):
        raise HypervError(f"In {destination} {knocks_as} may not make, rename and remove a folder.", error_code="destination_denied",
                          hint="Give that account the right to change files there, on the share and in the folder.")


def _unreachable(destination: str, knocks_as: str) -> HypervError:
    return HypervError(f"The destination {destination} is not there for {knocks_as}, or that account may not read it.",
                       error_code="destination_unreachable",
                       hint="Make the folder, and give that account the right to change files on the share and in the folder.")


# -- slots ---------------------------------------------------------------------------------------------------------------


Wanted = Sequence[Sequence[Lease]]
"""For each limit its slots as leases, in the order in which they are tried; all are of one run with one token."""


@dataclass(frozen=True)
class Taken:
    """What a try came to. ``leases``: one for each limit, or none at all; then ``full`` is the number of the first limit that gave none,
    and ``found`` what is in its slots."""

    leases: tuple[Lease, ...] = ()
    full: int | None = None
    found: tuple[Found, ...] = ()


def take_job(destination: str, wanted: Wanted, broken: Sequence[Lease] = ()) -> Job:
    """Take a slot of each limit, the first that is free, or none at all: what was taken is given back where another limit has none left.

    ``broken``: leases in slots that are removed first (the caller has asked whether they may be).
    """
    stages = [Stage((_REACH,)), _folders_stage()]
    values = {"DESTINATION": destination, "OURS": f"{destination}\\{FOLDER}", "SLOTS": slots_folder(destination)}
    for number, lease in enumerate(broken):
        stage, own = leases.release_stage(lease, f"B{number}")
        stages, values = [*stages, stage], values | own
    for limit, slots in enumerate(wanted):
        for number, lease in enumerate(slots):
            stage, own = leases.acquire_stage(lease, _prefix(limit, number))
            mark = Step(f"{_prefix(limit, number).lower()}_mark", f'echo x>"%AGH_JOB%\\taken{limit}"')
            stages.append(Stage((*_before(limit, number), *stage.steps, mark), essential=False))
            values |= own
    for limit, slots in enumerate(wanted[:-1]):
        for number, lease in enumerate(slots):
            stage, own = leases.release_stage(lease, _prefix(limit, number))
            needed = Step(f"{_prefix(limit, number).lower()}_back", "ver", None, f'not exist "%AGH_JOB%\\taken{len(wanted) - 1}"')
            stages.append(Stage((needed, *stage.steps), essential=False))
            values |= own
    return Job(tuple(stages), values)


def _prefix(limit: int, number: int) -> str:
    return f"L{limit}S{number}"


def _folders_stage() -> Stage:
    """Both folders, made where they are missing; a link in their place ends the job."""
    def there(name: str) -> str:
        return f'exist "%AGH_{name}%\\"'

    return Stage((
        Step("ours", f'if not {there("OURS")} mkdir "%AGH_OURS%"', None, there("OURS")),
        Step("ours_link", 'dir /B /AL "%AGH_OURS%*"', (1, 1)),
        Step("slots", f'if not {there("SLOTS")} mkdir "%AGH_SLOTS%"', None, there("SLOTS")),
        Step("slots_link", 'dir /B /AL "%AGH_SLOTS%*"', (1, 1))))


def _before(limit: int, number: int) -> Iterator[Step]:
    """A slot is not tried when one of its limit was taken, or none of the limit before; an empty folder in its place is what a release
    left, and nobody's."""
    prefix = _prefix(limit, number)
    if limit:
        yield Step(f"{prefix.lower()}_turn", "ver", None, f'exist "%AGH_JOB%\\taken{limit - 1}"')
    yield Step(f"{prefix.lower()}_free", "ver", None, f'not exist "%AGH_JOB%\\taken{limit}"')
    yield Step(f"{prefix.lower()}_empty", f'rmdir "%AGH_{prefix}LEASE%"', None)


def taken(result: JobResult, outputs: Mapping[str, bytes], wanted: Wanted, destination: str, knocks_as: str) -> Taken:
    """What :func:`take_job` came to.

    Raises HypervError ``destination_unreachable``, ``link_in_the_way`` or ``lease_not_made``.
    """
    if not result.good("reach"):
        raise _unreachable(destination, knocks_as)
    for step, folder in (("ours", FOLDER), ("slots", SLOTS)):
        if result.good(step) and not result.good(f"{step}_link"):
            raise HypervError(f"The folder {folder} in {destination} is a link: nothing was done there.", error_code="link_in_the_way",
                              hint="Links below the destination are not ours; find out who made it.")
    if not result.good("slots"):
        raise HypervError(f"The slots in {destination} could not be made by {knocks_as}.", error_code="lease_not_made",
                          hint="May the account write there, and is there space?")
    held: list[Lease] = []
    for limit, slots in enumerate(wanted):
        seen = [(lease, leases.read_entries(lease.place, outputs.get(f"{step}lease_list", b""))) for number, lease in enumerate(slots)
                for step in [_prefix(limit, number).lower()] if f"{step}lease_list" in result.steps]
        mine = next((lease for lease, found in seen if found.lease == lease), None)
        if mine is None:
            return Taken((), limit, tuple(found for _unused, found in seen))
        held.append(mine)
    return Taken(tuple(held))


def renew_job(pairs: Sequence[tuple[Lease, Lease]]) -> Job:
    """Renew slots: of each the later lease and the one that stands."""
    return _together(leases.replace_stage(later, lease, f"L{number}") for number, (later, lease) in enumerate(pairs))


def renewed(result: JobResult, number: int) -> bool:
    """True when this slot is held as the later lease says."""
    return result.good(f"l{number}lease_list")


def release_job(held: Sequence[Lease]) -> Job:
    """Give slots back."""
    return _together(leases.release_stage(lease, f"L{number}") for number, lease in enumerate(held))


def released(result: JobResult, number: int) -> bool:
    """True when this slot is not held as it was."""
    return result.good(f"l{number}lease_release")


def _together(parts: Iterable[tuple[Stage, dict[str, str]]]) -> Job:
    """Stages of which none needs another."""
    stages: list[Stage] = []
    values: dict[str, str] = {}
    for stage, own in parts:
        stages.append(replace(stage, essential=False))
        values |= own
    return Job(tuple(stages), values)
