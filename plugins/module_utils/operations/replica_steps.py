# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One step of replication: begin it, wait for its job, and look at the host until it shows what was asked for.

A lost answer is looked at before anything is repeated (rule 4): what is there already is adopted.
"""
from __future__ import annotations

from collections.abc import Callable

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, ConnectionFailed, HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import summary
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import JobFailed, JobTimedOut
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine, Settings
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_steps
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools

_SETTLE = 60.0
_PAUSE, _LONGEST_PAUSE = 2.0, 15.0
_TRIES = 3
_RACE, _QUIET = 10.0, 300.0
_CHANGING = frozenset((*range(91, 105), 109, 110, 123, 124, 125))
"""Types of jobs that change a relation or its machine (operations 0.3); cycles, statistics and tests of connections do not."""


def achieve(tools: Tools, what: str, begin: Callable[[], Reference | None], reached: Callable[[], bool], *,
            settle: float = _SETTLE) -> None:
    """Begin a step and see that it is done. After a lost answer the host gets a minute to show it, and only what it then does not
    show is begun again, which the host refuses when it is still at it.

    Raises why the host refused or its job failed, OutcomeUnknown, HypervError ``not_reached``.
    """
    tools.progress(what)
    problem: HypervError | None = None
    for _unused in range(_TRIES):
        try:
            problem = _carried_out(tools, what, begin())
        except OutcomeUnknown as error:
            tools.progress(f"{error.message} Looking what came of it.")
            problem = error
        except (AccessDenied, ConnectionFailed, JobTimedOut):
            raise
        except HypervError as error:
            # refused or failed because what an earlier run began has just come to its end
            if until(tools, reached, settle if problem is not None else _RACE):
                tools.progress(f"{error.message} It is so all the same.")
                return
            raise
        # a request that never arrived is not waited for as long as one that did
        if until(tools, reached, min(settle, _SETTLE) if isinstance(problem, OutcomeUnknown) else settle):
            return
        if not isinstance(problem, OutcomeUnknown):
            break
    if isinstance(problem, OutcomeUnknown):
        raise OutcomeUnknown(f"{what}: the answer was lost, and the host does not show what came of it.",
                             hint="Look with hyperv_replica_info, and run the task again.") from problem
    raise problem or HypervError(f"{what}: the host said that it did, and does not show it.", error_code="not_reached",
                                 hint="Look with hyperv_replica_info on both hosts.")


def _carried_out(tools: Tools, what: str, job: Reference | None) -> HypervError | None:
    """Wait for a job; why it could not be watched, None when it ended well. A job goes on when a look at it is refused.

    Raises JobFailed, JobTimedOut, OutcomeUnknown when it is gone.
    """
    try:
        checkpoint_steps.wait(tools, job, what)
    except (JobFailed, JobTimedOut, OutcomeUnknown):
        raise
    except HypervError as error:
        tools.progress(f"{error.message} Looking what came of it.")
        return error
    return None


def settings_of(machine: Machine) -> Settings:
    """The settings of a machine. Raises HypervError ``unreadable_answer``."""
    if machine.settings is None:
        raise HypervError(f"The host does not show the settings of {machine.name!r}.", error_code="unreadable_answer")
    return machine.settings


def change_notes(tools: Tools, machine: Machine, changed: Callable[[str], str], what: str) -> None:
    """Change the notes of a machine as they are now: somebody may have written into them since they were read.

    Raises as ``checkpoint_steps.change``.
    """
    reference = settings_of(machine).reference
    notes = changed("\n".join(tools.writer.get(reference).texts("Notes")))
    checkpoint_steps.change(tools, reference, {"Notes": (notes,)}, lambda row: " ".join(row.texts("Notes")).split() == notes.split(),
                            f"{what} {machine.name!r}")


def refuse_late(tools: Tools, machine: Machine) -> None:
    """Before anything is begun with a machine that could not come to its end. Raises HypervError ``timeout``."""
    if tools.deadline.expired():
        raise HypervError(f"The time for this task was over before anything was done with {machine.name!r}.", error_code="timeout",
                          hint="Raise timeout, or run the task again for those that are left.")


def quiet(tools: Tools, machine: Machine) -> None:
    """Wait until no job of replication works on a machine: one of a run that died goes on. Jobs that only send or apply do not count."""
    if machine.settings is None:
        return
    reference = machine.settings.reference

    def idle() -> bool:
        found = summary.read_summaries_of(tools.writer, [reference]).get(machine.vm_id)
        return found is None or not any(job.job_type in _CHANGING for job in found.jobs)

    until(tools, idle, _QUIET)  # what is still at it then refuses by itself


def until(tools: Tools, reached: Callable[[], bool], seconds: float, progress: Callable[[], None] | None = None) -> bool:
    """Look again and again, slower and slower; False when the time is over."""
    own, pause = Deadline(tools.clock, seconds), _PAUSE
    while not reached():
        if own.expired():
            return False
        if progress is not None:
            progress()
        tools.clock.sleep(min(pause, max(own.remaining(), 0.1)))
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return True
