# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power states of a machine, as far as going back to a checkpoint needs them (operations 0.5)."""
from __future__ import annotations

from collections.abc import Callable

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import facts
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.wql import select
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine, state_name

_REQUESTS = {"running": 2, "off": 3}
_ALREADY = 32775
_PAUSE, _LONGEST_PAUSE = 2.0, 15.0
_BY_HAND = "Shut it down by hand, and run the task again; or allow it to be turned off as by a power cut."


def read_state(reader: CimReader, machine: Machine) -> str:
    """The power state now; one request."""
    return state_name(reader.get(machine.reference).integer("EnabledState"))


def shut_down_guest(writer: CimWriter, machine: Machine, *, clock: Clock, deadline: Deadline, progress: Callable[[str], None]) -> None:
    """Have the guest shut itself down, and see that the machine is off.

    Raises HypervError ``guest_shutdown_refused`` when it cannot be asked, ``guest_not_shut_down`` when it does not end in time.
    """
    what = f"shutting down the guest of {machine.name!r}"
    if read_state(writer, machine) == "off":
        return
    progress(what)
    found = writer.query(select(NAMESPACE, "Msvm_ShutdownComponent", {"SystemName": machine.vm_id}))
    if not found:
        raise HypervError(f"{what}: it has no shutdown service that answers.", error_code="guest_shutdown_refused", hint=_BY_HAND)
    try:
        answer = writer.invoke(facts.reference_of(found[0]), "InitiateShutdown", {"Force": True, "Reason": "agentless.hyperv"})
        if answer.return_value not in (0, jobs.STARTED):
            raise HypervError(f"{what} was refused (code {answer.return_value}).", error_code="guest_shutdown_refused",
                              return_value=answer.return_value, hint=_BY_HAND)
    except OutcomeUnknown as error:
        progress(f"{machine.name}: {error.message} Looking what came of it.")
    pause = _PAUSE
    while read_state(writer, machine) != "off":
        if deadline.expired():
            raise HypervError(f"{what}: it is still {read_state(writer, machine)}.", error_code="guest_not_shut_down", hint=_BY_HAND)
        clock.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def bring_to(writer: CimWriter, machine: Machine, wanted: str, *, clock: Clock, deadline: Deadline,
             progress: Callable[[str], None]) -> None:
    """Start a machine, or turn it off as a power cut does, and see that it is so. ``wanted``: ``running`` or ``off``.

    Raises HypervError ``power_state_refused``, ``power_state_not_reached``, or why the job failed.
    """
    what = f"bringing {machine.name!r} to the state {wanted}"
    if read_state(writer, machine) == wanted:
        return
    progress(what)
    begun = _request(writer, machine, wanted, what, clock=clock, deadline=deadline, progress=progress)
    pause = _PAUSE
    while read_state(writer, machine) != wanted:
        if deadline.expired():
            raise HypervError(f"{what}: it is {read_state(writer, machine)}.", error_code="power_state_not_reached",
                              hint="Look at the machine; nothing else was tried.")
        clock.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        begun = begun or _request(writer, machine, wanted, what, clock=clock, deadline=deadline, progress=progress)


def _request(writer: CimWriter, machine: Machine, wanted: str, what: str, *, clock: Clock, deadline: Deadline,
             progress: Callable[[str], None]) -> bool:
    """Ask for a state, and wait for the job. False when nobody can tell whether it was begun, or the machine is busy: asking again does
    no harm. Raises as :func:`bring_to`."""
    try:
        answer = writer.invoke(machine.reference, "RequestStateChange", {"RequestedState": _REQUESTS[wanted]})
        job = answer.out.reference("Job")
        if answer.return_value == jobs.STARTED and job is not None:
            jobs.wait(writer, job, what=what, clock=clock, deadline=deadline, progress=progress)
        elif answer.return_value not in (0, jobs.STARTED, _ALREADY):
            raise HypervError(f"{what} was refused (code {answer.return_value}).", error_code="power_state_refused",
                              return_value=answer.return_value)
    except OutcomeUnknown as error:
        progress(f"{machine.name}: {error.message} Looking what came of it.")
        return False
    return answer.return_value != _ALREADY
