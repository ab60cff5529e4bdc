# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""Leases at a destination, taken and given back by jobs on a host that reaches it: what several runs and slices share there.

A destination with a limit has as many *slots*, ``<destination>\agentless.hyperv\slots\slot<N>``, each a lease (:mod:`.leases`) of the run
that writes there. No computer may be named like that folder, which has a dot, so it is in no host's way. Every job names all the slots, so
that a slot is found, or all of them are seen taken, in one task.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import leases
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult, Stage, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import Found, Lease, LeasePlace

FOLDER = "agentless.hyperv"
SLOTS = "slots"
MOST_SLOTS = 32
_REACH = Step("reach", 'dir /AD "%AGH_DESTINATION%"', None, 'exist "%AGH_DESTINATION%\\"')


def slot_places(destination: str, count: int) -> tuple[LeasePlace, ...]:
    """The slots of a destination with this limit. Raises ValueError for a limit that is none."""
    if not 1 <= count <= MOST_SLOTS:
        raise ValueError(f"a limit is a number from 1 to {MOST_SLOTS}")
    return tuple(LeasePlace(f"{destination}\\{FOLDER}\\{SLOTS}", f"slot{number}") for number in range(1, count + 1))


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


def take_job(destination: str, wanted: Sequence[Lease]) -> Job:
    """Take the first of these slots that is free; all are of one run with one token, in the order in which they are tried."""
    stages = [Stage((_REACH,)), _folders_stage()]
    values = {"DESTINATION": destination, "OURS": f"{destination}\\{FOLDER}", "SLOTS": f"{destination}\\{FOLDER}\\{SLOTS}"}
    for number, lease in enumerate(wanted):
        stage, own = leases.acquire_stage(lease, f"S{number}")
        values |= own
        stages.append(Stage((*_before(number), *stage.steps, Step(f"s{number}_mark", 'echo x>"%AGH_JOB%\\taken"')), essential=False))
    return Job(tuple(stages), values)


def _folders_stage() -> Stage:
    """Both folders, made where they are missing; a link in their place ends the job."""
    def there(name: str) -> str:
        return f'exist "%AGH_{name}%\\"'

    return Stage((
        Step("ours", f'if not {there("OURS")} mkdir "%AGH_OURS%"', None, there("OURS")),
        Step("ours_link", 'dir /B /AL "%AGH_OURS%*"', (1, 1)),
        Step("slots", f'if not {there("SLOTS")} mkdir "%AGH_SLOTS%"', None, there("SLOTS")),
        Step("slots_link", 'dir /B /AL "%AGH_SLOTS%*"', (1, 1))))


def _before(number: int) -> Iterator[Step]:
    """A slot is not tried when one was taken; an empty folder in its place is what a release left, and nobody's."""
    yield Step(f"s{number}_free", "ver", None, 'not exist "%AGH_JOB%\\taken"')
    yield Step(f"s{number}_empty", f'rmdir "%AGH_S{number}LEASE%"', None)


def taken(result: JobResult, outputs: Mapping[str, bytes], wanted: Sequence[Lease], destination: str,
          knocks_as: str) -> tuple[Lease | None, tuple[Found, ...]]:
    """What :func:`take_job` came to: the slot that it took, or None, and what is in the others that it tried.

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
    found: list[Found] = []
    for number, lease in enumerate(wanted):
        if f"s{number}lease_list" not in result.steps:
            continue
        seen = leases.read_entries(lease.place, outputs.get(f"s{number}lease_list", b""))
        if seen.lease == lease:
            return lease, tuple(found)
        found.append(seen)
    return None, tuple(found)


def change_job(new: Lease, old: Lease) -> Job:
    """Renew a slot, or take over one that expired or is of the same run (the caller has asked)."""
    stage, values = leases.replace_stage(new, old)
    return Job((stage,), values)


def changed(result: JobResult) -> bool:
    """True when the slot is held as ``new`` says."""
    return result.good("lease_list")


def release_job(lease: Lease) -> Job:
    """Give a slot back."""
    stage, values = leases.release_stage(lease)
    return Job((stage,), values)


def released(result: JobResult) -> bool:
    """True when the slot is not held as it was."""
    return result.good("lease_release")
