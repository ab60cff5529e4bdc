# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making one checkpoint of ours: policy, creation, mark, policy back (operations 2.3).

Only the association of the job says which checkpoint it made. Where the job or an answer is gone, the host is read again, and exactly
one new checkpoint of a user's kind is the one; none is proof that nothing was made; several are suspects, and none of them is touched.
"""
from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, NotFound, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import checkpoint_service, checkpoints, jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_service import Busy
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import Job, JobFailed, JobTimedOut, JobVanished
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_steps
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import mark_of
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import checkpoint_marks
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.checkpoint_marks import Mark

PRODUCTION_ONLY, PRODUCTION, STANDARD = "production_only", "production", "standard"
_END = 30.0
_BEGINS = 5.0
"""Seconds after a lost answer: a creation that was begun shows as one by then, and is not begun again."""


@dataclass(frozen=True)
class Work:
    """One checkpoint to be made. ``was`` and ``now``: the machine's policy, and the one it needs for a moment. ``level``: the consistency
    that is reached when no memory is kept."""

    machine: Machine
    name: str
    kind: str
    was: str | None
    now: str | None
    level: str
    run_id: str
    notes: str | None
    expires: datetime | None
    before: frozenset[str]

    @property
    def changes_policy(self) -> bool:
        """True when the policy is another one for a moment."""
        return self.was is not None and self.now is not None and self.was != self.now


@dataclass
class Made:
    """What became of it. ``settled`` False: nobody can tell whether a checkpoint was made, so the intent has to stay. ``still``: the job,
    when it was not waited for to its end."""

    work: Work
    checkpoint: Checkpoint | None = None
    job: Job | None = None
    achieved: str | None = None
    error: HypervError | None = None
    settled: bool = True
    still: Job | None = None
    leftovers: list[Leftover] = field(default_factory=list)


def make(tools: Tools, work: Work, *, wait: bool = True) -> Made:
    """Make it; errors are in the answer. The intent stands already. Without ``wait`` only begin: the job is then ``still`` at work."""
    made = Made(work)
    try:
        with checkpoint_steps.policy_for_a_moment(tools, work.machine, work.was, work.now, made.leftovers,
                                                  lambda: made.still is not None and not wait):
            made.settled = False  # from here on only proof makes it True again
            found = _create(tools, work, made) if wait else _only_begin(tools, work, made)
            if found is not None:
                made.checkpoint = _marked(tools, work, found, made)
                made.settled = True
        if found is not None:
            _check_kind(work, made)
    except HypervError as error:
        made.error = error
    if made.leftovers and made.error is None:
        made.error = HypervError(f"The checkpoint of {work.machine.name!r} was made, and the machine's policy could not be set back.",
                                 error_code="policy_not_restored", hint=made.leftovers[0].remove_with)
    return made


def finish(tools: Tools, work: Work, made: Made, job: Reference) -> None:
    """Wait for the job of a creation that an earlier run began, and name what it made. Raises HypervError.

    Nothing but what the host says of the job counts: whatever else is new can be somebody else's by now.
    """
    what = _what(work)
    try:
        made.job = _wait(tools, job, made, what)
    except JobFailed as error:
        made.settled = True
        raise _explained(work, error) from error
    found = [one for one in checkpoint_service.made_by(tools.writer, job) if one.vm_id == work.machine.vm_id and one.kind == "user"
             and (mark_of(one) is None or one.name == work.name)]
    if len(found) != 1:
        raise OutcomeUnknown(f"{what}: the job has ended, and the host does not say what it made.",
                             hint="Look with hyperv_checkpoint_info.")
    made.checkpoint = _marked(tools, work, found[0], made)
    made.settled = True
    _check_kind(work, made)


def _only_begin(tools: Tools, work: Work, made: Made) -> Checkpoint | None:
    """Begin it; None when a job works on it now, or it is made and named. Raises HypervError."""
    tools.progress(_what(work))
    try:
        job = _begin(tools, work, made)
    except OutcomeUnknown as error:
        tools.progress(f"{work.machine.name}: {error.message} Looking what came of it.")
        tools.clock.sleep(_BEGINS)
        checkpoint_steps.idle(tools, work.machine)
        job = None
    if job is None:
        return _create(tools, work, made, begun=True)
    seen = jobs.read_job(tools.writer, job)
    if seen is not None and not seen.finished:
        made.still = made.job = seen
    else:
        finish(tools, work, made, job)
    return None


def _what(work: Work) -> str:
    return f"making the checkpoint {work.name!r} of {work.machine.name!r}"


def _create(tools: Tools, work: Work, made: Made, *, begun: bool = False) -> Checkpoint:
    """``begun``: the host has done it at once, and the first look tells what came of it."""
    what = _what(work)
    tools.progress(what)
    for last in (False, True):
        job = None
        try:
            job = None if begun and not last else _begin(tools, work, made)
            if job is not None:
                made.job = _wait(tools, job, made, what)
                found = _new_ones(work, checkpoint_service.made_by(tools.writer, job))
                if len(found) == 1:
                    return found[0]
        except (OutcomeUnknown, NotFound) as error:
            tools.progress(f"{work.machine.name}: {error.message} Looking what came of it.")
            tools.clock.sleep(_BEGINS)
            if not checkpoint_steps.idle(tools, work.machine):
                raise OutcomeUnknown(f"{what}: the host still works on the machine, and nobody can tell what will come of it.",
                                     hint="Look with hyperv_checkpoint_info when it is idle.") from error
        except JobFailed as error:
            made.settled = True
            raise _explained(work, error) from error
        except Busy as error:  # nothing was begun (operations F-09)
            if last:
                raise
            tools.progress(f"{work.machine.name}: {error.message} Waiting until the host has done with it.")
            checkpoint_steps.idle(tools, work.machine)
            made.settled = False
            continue
        found = _new_ones(work, checkpoint_service.read_all(tools.writer))
        if len(found) == 1:
            return found[0]
        if found:
            raise OutcomeUnknown(f"{what}: {len(found)} new checkpoints are there, and nothing says which is ours.",
                                 hint="None of them was touched. Look with hyperv_checkpoint_info.",
                                 details={"suspects": [one.checkpoint_id for one in found]})
        if last:
            break
    made.settled = True
    raise HypervError(f"{what}: the host said that it did, and there is none.", error_code="checkpoint_not_made")


def _begin(tools: Tools, work: Work, made: Made) -> Reference | None:
    try:
        return checkpoint_service.create(tools.writer, work.machine.reference)
    except OutcomeUnknown:
        raise
    except HypervError:  # refused, so nothing was begun
        made.settled = True
        raise


def _new_ones(work: Work, found: Collection[Checkpoint]) -> list[Checkpoint]:
    return [one for one in found if one.vm_id == work.machine.vm_id and one.kind == "user" and one.checkpoint_id not in work.before
            and not one.automatic and mark_of(one) is None]


def _wait(tools: Tools, job: Reference, made: Made, what: str) -> Job:
    try:
        return jobs.wait(tools.writer, job, what=what, clock=tools.clock, deadline=tools.deadline, progress=tools.progress)
    except JobVanished:
        raise
    except JobTimedOut:
        tools.progress(f"{what}: the time is over; asking the job to end")
        try:
            checkpoint_service.terminate(tools.writer, job)
        except HypervError as error:
            tools.progress(f"{what}: {error.message}")
        tools.clock.sleep(_END)
        ended = jobs.read_job(tools.writer, job)
        if ended is None:
            raise JobVanished(f"{what}: the job is gone.") from None
        if ended.succeeded:
            return ended
        if ended.finished:
            made.settled = True
            raise HypervError(f"{what}: not done in time, so it was ended.", error_code="timeout", hint="Raise timeout.",
                              details={"job": ended.as_result()}) from None
        made.still = ended
        raise OutcomeUnknown(f"{what}: the job does not end, although its time is over and it was asked to.",
                             hint="The guest or the management service may hang.", details={"job": ended.as_result()}) from None


def _explained(work: Work, error: JobFailed) -> HypervError:
    if work.now == PRODUCTION_ONLY:
        return HypervError(error.message, error_code="production_failed", return_value=error.return_value, hresult=error.hresult,
                           details=error.details, hint="The guest could not be quiesced; vssadmin list writers in the guest shows why. "
                           "Nothing was made instead. kind=production takes a standard checkpoint in its place.")
    return error


def _marked(tools: Tools, work: Work, found: Checkpoint, made: Made) -> Checkpoint:
    """Name the checkpoint and make it ours, in one step."""
    made.achieved = "image" if found.saved_state or work.level == "image" else work.level
    mark = Mark(found.checkpoint_id, work.run_id, work.kind, made.achieved, work.was, work.expires)
    notes = checkpoint_marks.stamped(work.notes, mark)
    try:
        row = checkpoint_steps.change(
            tools, found.reference, {"ElementName": work.name, "Notes": (notes,)},
            lambda row: row.text("ElementName") == work.name
            and checkpoint_marks.mark_of(found.checkpoint_id, checkpoint_service.text_of_notes(row)) == mark,
            f"naming the checkpoint of {work.machine.name!r}")
    except HypervError as error:
        if isinstance(error, NotFound) or _is_gone(tools, found):
            made.settled = True
            raise HypervError(f"The checkpoint of {work.machine.name!r} was removed by somebody before it had its name.",
                              error_code="checkpoint_vanished") from error
        raise OutcomeUnknown(
            f"The checkpoint {found.name!r} of {work.machine.name!r} was made, and it could not be named: {error.message}",
            hint="It is a suspect now, and never removed by itself.", details={"suspects": [found.checkpoint_id]},
            leftovers=(suspect_leftover(found),)) from error
    return checkpoints.from_rows([row])[0]


def _is_gone(tools: Tools, found: Checkpoint) -> bool:
    """True only when the host says so."""
    try:
        checkpoint_service.read_one(tools.writer, found)
    except NotFound:
        return True
    except HypervError:
        return False
    return False


def suspect_leftover(found: Checkpoint) -> Leftover:
    """A checkpoint that is probably ours and does not say so."""
    return Leftover("suspect_checkpoint", found.checkpoint_id, found.name,
                    f"Get-VM -Id {found.vm_id} | Get-VMSnapshot | Where-Object Id -eq {found.checkpoint_id} | Remove-VMSnapshot")


def _check_kind(work: Work, made: Made) -> None:
    """Memory makes a standard checkpoint (D-11): what was asked for must be what is there."""
    saved = made.checkpoint is not None and made.checkpoint.saved_state is True
    if work.kind == PRODUCTION_ONLY and saved:
        raise HypervError(f"The checkpoint of {work.machine.name!r} holds the memory: it is a standard one after all.",
                          error_code="kind_not_reached", hint="It is ours and stays; remove it with state=absent.")
    if work.kind == STANDARD and not saved and work.machine.state in ("running", "paused", "saved"):
        raise HypervError(f"The checkpoint of {work.machine.name!r} does not hold the memory: it is no standard one.",
                          error_code="kind_not_reached", hint="It is ours and stays; remove it with state=absent.")
