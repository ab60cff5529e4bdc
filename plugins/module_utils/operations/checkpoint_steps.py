# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps on one machine that are safe to take again: change a setting and see it, change a policy for a moment, wait for a job."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, PropertyValue, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, NotFound, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import checkpoint_service, jobs, machines
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_service import Busy
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import Job, JobTimedOut
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine, Settings

_TRIES = 4
_PAUSE = 5.0
_SETTLE = 60.0


@dataclass(frozen=True)
class Tools:
    """What every step needs. ``keep`` is called at progress points; it renews a lease."""

    writer: CimWriter
    clock: Clock
    progress: Callable[[str], None]
    deadline: Deadline
    keep: Callable[[], None] = lambda: None


def wait(tools: Tools, job: Reference | None, what: str) -> Job | None:
    """Wait for a job, None for one that was not needed. Raises as ``jobs.wait``."""
    if job is None:
        return None
    return jobs.wait(tools.writer, job, what=what, clock=tools.clock, deadline=tools.deadline, progress=tools.progress)


def change(tools: Tools, settings: Reference, values: Mapping[str, PropertyValue], is_there: Callable[[Instance], bool],
           what: str) -> Instance:
    """Change settings until the host shows them so; returns them. Doing it twice does no harm, so lost answers and jobs are tried again.

    It gets a minute of its own beyond the deadline of the task: what was begun is brought to its end. Raises HypervError
    ``settings_not_changed``, NotFound, or why the host refuses.
    """
    own = Deadline(tools.clock, max(_SETTLE, tools.deadline.remaining()))
    problem: HypervError | None = None
    for attempt in range(_TRIES):
        if attempt:
            tools.clock.sleep(_PAUSE)
        try:
            job = checkpoint_service.modify(tools.writer, settings, values)
            if job is not None:
                jobs.wait(tools.writer, job, what=what, clock=tools.clock, deadline=own, progress=tools.progress, poll=1.0)
        except NotFound:
            raise
        except (OutcomeUnknown, Busy, JobTimedOut, jobs.JobFailed) as error:
            problem = error
        row = tools.writer.get(settings)
        if is_there(row):
            return row
    raise problem or HypervError(f"{what}: the host took the change and does not show it.", error_code="settings_not_changed")


def policy_in(row: Instance) -> str | None:
    """The checkpoint policy in a settings row."""
    return machines.read_settings(row).checkpoint_policy


def set_policy(tools: Tools, settings: Settings, policy: str, name: str) -> None:
    """Give a machine this policy for checkpoints. Raises as :func:`change`."""
    change(tools, settings.reference, {"UserSnapshotType": checkpoint_service.POLICY_NUMBERS[policy]},
           lambda row: policy_in(row) == policy, f"setting the checkpoint policy of {name!r} to {policy}")


def give_back_policy(tools: Tools, settings: Settings, was: str, now: str, name: str) -> None:
    """Put a policy back that was changed for a moment, unless somebody has changed it since. Raises as :func:`change`."""
    if policy_in(tools.writer.get(settings.reference)) == now:
        set_policy(tools, settings, was, name)


_NAMES = {"disabled": "Disabled", "production": "Production", "production_only": "ProductionOnly", "standard": "Standard"}


def policy_leftover(vm_id: str, name: str, was: str) -> Leftover:
    """A policy that is still another one than it was."""
    return Leftover("checkpoint_policy", vm_id, name, f"Get-VM -Id {vm_id} | Set-VM -CheckpointType {_NAMES[was]}")


@contextmanager
def policy_for_a_moment(tools: Tools, machine: Machine, was: str | None, now: str | None, left: list[Leftover],
                        stays: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """The block runs with the policy ``now``; whatever becomes of it, the policy is ``was`` again, or in ``left``; unless it ``stays``.

    Raises HypervError ``policy_changed`` when the machine has another one than was planned with.
    """
    settings = machine.settings
    if was is None or now is None or was == now or settings is None:
        yield
        return
    seen = policy_in(tools.writer.get(settings.reference))
    if seen != was:
        raise HypervError(f"The checkpoint policy of {machine.name!r} became {seen} meanwhile.", error_code="policy_changed",
                          hint="Another run or a person changed it; run the task again.")
    try:
        set_policy(tools, settings, now, machine.name)
        yield
    finally:
        if not stays():
            give_back_or_tell(tools, machine, was, now, left)


def give_back_or_tell(tools: Tools, machine: Machine, was: str | None, now: str | None, left: list[Leftover]) -> None:
    """Put a policy back as :func:`give_back_policy` does; one that could not be is in ``left``."""
    if was is None or now is None or machine.settings is None:
        return
    try:
        give_back_policy(tools, machine.settings, was, now, machine.name)
    except HypervError as error:
        left.append(policy_leftover(machine.vm_id, machine.name, was))
        tools.progress(f"{machine.name}: the checkpoint policy could not be set back to {was}: {error.message}")


def job_result(job: Job | None) -> dict[str, Any] | None:
    """The ``job`` of a result."""
    return None if job is None else job.as_result()


def idle(tools: Tools, machine: Machine) -> bool:
    """Wait until the host does nothing with a machine any more; False when the time is over before."""
    pause = 2.0
    while True:
        row = tools.writer.get(machine.reference)
        statuses = row.integers("OperationalStatus")
        if len(statuses) < 2 or statuses[1] == 0:
            return True
        if tools.deadline.expired():
            return False
        tools.clock.sleep(pause)
        pause = min(pause * 1.5, 15.0)
