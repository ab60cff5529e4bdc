# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying one VM out of a shadow copy set that diskshadow makes with the Hyper-V writer (operations 5.9, 6).

One set for each VM, so that no VM's failure is another's, and one job for both, the set and the copying: it ends what it began without
us. What it makes is announced before, named by its intents while it is there, and looked for afterwards. Application consistency is
claimed only on evidence: the session verified the writer and the VM's component, and the guest answers, or on 2012 R2 each disk came
with its recovery file.
"""
from __future__ import annotations

import ntpath
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks, integration
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import copy_work, shadow_lifecycle, writer_sets
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_record import CopyRecord
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_work import StillRunning, Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import Job as CopyJob
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import Request
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import ownership
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import lower, reaches
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import Manifest, ManifestFile
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.ownership import OURS, Verdict
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import (
    diskshadow,
    diskshadow_runs,
    job_runs,
    shadow_copies,
    state,
    state_contents,
    system,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.diskshadow_runs import SessionEnd
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.job_runs import JobEnd
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.shadow_copies import Refusal
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import TaskName
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume

_LOOKS = 3
_PAUSE = 5.0
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class WriterCopy:
    """A finished copy: its record with what was really reached, its manifest as it was written, the IDs of the shadow copies, which
    are gone, and what could not be removed."""

    record: CopyRecord
    manifest: Manifest
    shadow_ids: tuple[str, ...]
    leftovers: tuple[Leftover, ...] = ()


class _Refused(HypervError):
    """diskshadow made no set."""

    def __init__(self, refusal: Refusal, session: SessionEnd, vm_name: str) -> None:
        code = "" if session.hresult is None else f" (0x{session.hresult:08X})"
        super().__init__(f"No shadow copy set of {vm_name!r} was made: {refusal.sentence}{code}. {session.told}".rstrip(),
                         error_code=refusal.error_code, hint=refusal.hint, hresult=session.hresult)
        self.refusal = refusal


def copy_machine(tools: Tools, facts: HostFacts, job: CopyJob, request: Request) -> WriterCopy:
    """Copy one VM, from the set to the manifest. ``facts`` have disks, checkpoints, volumes and integration services of all VMs.

    A creation that is under way elsewhere is waited out for ``tools.busy_wait`` seconds; a set that was refused for the moment is tried
    again as operations 5.3 and 8 say. Raises StillRunning when the job goes on without us, and otherwise HypervError with what could
    not be removed in ``leftovers``: ``diskshadow_missing``, ``writers_need_task``, ``consistency_not_reachable``,
    ``consistency_not_reached``, ``chain_changed``, the codes of :data:`.diskshadow.REFUSALS`, and those of a copy.
    """
    volumes = _checked(tools, facts, job, request)
    patience, pause, tries = Deadline(tools.clock, tools.busy_wait), _PAUSE, 0
    while True:
        tries += 1
        try:
            return _copy(tools, facts, job, request, volumes)
        except _Refused as error:
            if error.leftovers:
                raise
            busy = error.hresult == diskshadow.BUSY
            wait = min(pause, patience.remaining()) if busy else error.refusal.pause
            again = not patience.expired() if busy else tries < error.refusal.tries
            if not again or wait >= tools.deadline.remaining():
                raise
            tools.progress(f"{job.machine.name}: {error.refusal.sentence}; trying again in {wait:.0f} s")
            tools.clock.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)
            tools.lease.keep()


def _checked(tools: Tools, facts: HostFacts, job: CopyJob, request: Request) -> tuple[Volume, ...]:
    """The volumes of the set. Raises HypervError for what no set of this VM can be made of, or would be of no use for."""
    name = job.machine.name
    if not facts.system.server:
        refusal = diskshadow_runs.MISSING
        raise HypervError(f"{name!r} cannot be copied with writers: {refusal.sentence}.", error_code=refusal.error_code, hint=refusal.hint)
    if tools.identity.task is None:
        raise HypervError(f"{name!r} cannot be copied with writers by a program in the session.", error_code="writers_need_task",
                          hint="Its shadow copies would stay if the connection broke. Use run_as: system.")
    level = job.verdict.level
    if level is None or not reaches(level, request.lowest):
        reasons = " ".join(reason.sentence for reason in job.verdict.of_kind("limit"))
        raise HypervError(f"A copy of {name!r} with writers would be {level}, not {request.consistency}. {reasons}",
                          error_code="consistency_not_reachable", hint="Use another method, or accept less with consistency_fallback.")
    volumes = writer_sets.volumes_of(facts, job.machine, job.files)
    target = tools.destination.volume
    if target is not None and target.device_id.lower() in {volume.device_id.lower() for volume in volumes}:
        raise HypervError(f"The destination lies on {target.root}, which holds files of {name!r} and would be part of the set.",
                          error_code="destination_on_source_volume",
                          hint="Choose another volume: a copy on the shadowed one swells its difference area, and it is no backup.")
    _expect_same_disks(tools, facts, job)
    return volumes


def _expect_same_disks(tools: Tools, facts: HostFacts, job: CopyJob) -> None:
    vm_id = job.machine.vm_id
    before = {disk.path for disk in facts.disks_of(vm_id) if disk.kind == "virtual"}
    if before != {disk.path for disk in disks.read_virtual_disks(tools.writer) if disk.owner_id == vm_id}:
        raise _changed(job.machine.name)


def _changed(vm_name: str) -> HypervError:
    return HypervError(f"The disks of {vm_name!r} changed before the shadow copy set was made.", error_code="chain_changed",
                       hint="A checkpoint or a backup ran at the same time; run the task again.")


# -- one try -------------------------------------------------------------------------------------------------------------


def _copy(tools: Tools, facts: HostFacts, job: CopyJob, request: Request, volumes: Sequence[Volume]) -> WriterCopy:
    name = TaskName(job.machine.vm_id, request.run_id)
    folder = job_runs.job_folder(tools.folder, name)
    now = system.read_time(tools.writer)
    record = writer_sets.record_of(facts, job, request, volumes, folder, now)
    made = diskshadow.ShadowSet(folder, job.machine.vm_id, tuple(volume.device_id for volume in volumes),
                                writer_sets.others_of(facts, job.machine))
    intents = tuple(Intent(request.run_id, secrets.token_hex(4), now, volume.device_id, (), (job.folder,), writers=True)
                    for volume in volumes)
    base = copy_work.job_of(record, tools.destination.path)
    whole = writer_sets.job_of(
        record, made, base, intents, tools.folder, token=secrets.token_hex(6),
        must_recover=writer_sets.recovers(facts) and record.achieved in writer_sets.QUIESCED and request.lowest in writer_sets.QUIESCED)
    tools.progress(f"{record.vm_name}: making a shadow copy set of {len(volumes)} volume(s) with the Hyper-V writer, then copying "
                   f"{len(record.files)} file(s), {record.size} bytes")
    run = _Run(tools, facts, record, request.lowest, tuple(intent.stem for intent in intents))
    try:
        if tools.identity.task is None:
            raise ValueError("a copy with writers runs as a task")
        task = tools.identity.task
        job_runs.over_again(tools.writer, tools.folder, name, lambda: diskshadow_runs.begin(
            tools.writer, tools.folder, name, whole, lambda: _announce(tools, intents), task, clock=tools.clock,
            limit=tools.deadline.remaining() + copy_work.AFTER_DEADLINE), clock=tools.clock)
        end = copy_work.follow(tools, record, writer_sets.outputs_of(record, base), started=True)
    except StillRunning:
        raise
    except HypervError as error:
        raise run.failed(error, looks=_LOOKS) from error
    return run.conclude(end)


def _announce(tools: Tools, intents: Sequence[Intent]) -> None:
    """Write the intents with what is on the host now."""
    before = tuple(shadow.shadow_id for shadow in shadow_copies.read_shadow_copies(tools.writer))
    now = system.read_time(tools.writer)
    for intent in intents:
        state.write_intent(tools.writer, tools.folder, replace(intent, host_time=now, shadows_before=before))


def adopt(tools: Tools, facts: HostFacts, record: CopyRecord, lowest: str) -> WriterCopy | None:
    """Bring a copy that an earlier run began to its end; None when nothing of use came of it. ``lowest``: the level that is accepted.

    Raises as :func:`copy_machine` does.
    """
    base = copy_work.job_of(record, tools.destination.path)
    contents = state_contents.read_contents(tools.writer, tools.folder)
    home = ntpath.dirname(record.folder)
    stems = tuple(intent.stem for intent in contents.intents
                  if intent.writers and intent.run_id.lower() == record.run_id.lower() and home in intent.folders)
    run = _Run(tools, facts, record, lowest, stems)
    try:
        end = copy_work.adopt(tools, record, writer_sets.outputs_of(record, base))
    except StillRunning:
        raise
    except HypervError as error:
        raise run.failed(error, looks=_LOOKS) from error
    if end is None:
        run.close(complete=False, looks=_LOOKS)
        return None
    return run.conclude(end)


# -- the end of one ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """One job, by the time that it ended or failed. ``stems``: what the names of its intents begin with."""

    tools: Tools
    facts: HostFacts
    record: CopyRecord
    lowest: str
    stems: tuple[str, ...]

    def conclude(self, end: JobEnd) -> WriterCopy:
        """Verify, write the manifest, and take back what is left."""
        try:
            if end.result is None:
                raise HypervError("The job left no result.", error_code="job_no_result")
            session = diskshadow_runs.read_end(end, end.result)
            self._expect_copied(session)
            record, copied = self._proven(session)
            manifest, put = copy_work.close(self.tools, record, copied)
        except HypervError as error:
            error.leftovers = (*error.leftovers, *end.leftovers)
            gone = end.result is not None and writer_sets.folder_is_gone(end.result, end.outputs)
            raise self.failed(error, folder_gone=gone) from error
        left = [*end.leftovers, *put, *self.close(complete=True)]
        return WriterCopy(record, manifest, session.shadow_ids, tuple(left))

    def failed(self, error: HypervError, *, folder_gone: bool = False, looks: int = 1) -> HypervError:
        """The error with what is left of the copy. The intents stay as long as they lead the clean-up to an incomplete copy."""
        left = self.close(complete=folder_gone, looks=looks)
        if not folder_gone:
            folder = self.record.folder
            left.append(Leftover("incomplete_copy", folder, folder, f'rmdir /s /q "{folder}"'))
        error.leftovers = (*error.leftovers, *left)
        return error

    def close(self, *, complete: bool, looks: int = 1) -> list[Leftover]:
        """Remove shadow copies of the set that are still there and provably ours, each by its ID; then the intents, unless they tell
        of an incomplete copy. What could not be removed, and what may be ours."""
        try:
            return self._close(complete=complete, looks=looks)
        except HypervError as error:
            self.tools.progress(f"{self.record.vm_name}: the host could not be asked what is left of the set: {error.message}")
            return [shadow_lifecycle.shadow_leftover("unknown", "suspect_shadow_copy")]

    def _close(self, *, complete: bool, looks: int) -> list[Leftover]:
        left: list[Leftover] = []
        intents: list[Intent] = []
        for attempt in range(looks):  # a set may still be under way when its requester is gone
            if attempt:
                self.tools.clock.sleep(_PAUSE)
            verdicts, intents = self._look()
            ours = [verdict for verdict in verdicts if verdict.owner == OURS]
            left = [shadow_lifecycle.shadow_leftover(verdict.shadow_id, "suspect_shadow_copy")
                    for verdict in verdicts if verdict.owner != OURS]
            for verdict in ours:
                mine = [intent for intent in intents if intent.name in verdict.intents]
                left += shadow_lifecycle.take_back(self.tools, verdict.shadow_id, verdict.linked, mine)
            if ours:  # their intents have other names now
                intents = self._look()[1]
        if left:
            return left + [shadow_lifecycle.intent_leftover(self.tools.folder, intent) for intent in intents]
        return shadow_lifecycle.forget(self.tools, intents) if complete else self._keep_telling(intents)

    def _keep_telling(self, intents: Sequence[Intent]) -> list[Leftover]:
        """Leave an intent that leads the clean-up to the incomplete copy. One that bears no shadow copy's name must not stay: it would
        speak for the next that fits."""
        tools, record = self.tools, self.record
        named = [intent for intent in intents if intent.shadow_id is not None]
        if not named:
            told = Intent(record.run_id, secrets.token_hex(4), system.read_time(tools.writer), state.NO_VOLUME, (),
                          (ntpath.dirname(record.folder),))
            state.write_intent(tools.writer, tools.folder, told)
            named = [told]
        left = [shadow_lifecycle.intent_leftover(tools.folder, intent) for intent in named]
        return left + shadow_lifecycle.forget(tools, [intent for intent in intents if intent.shadow_id is None])

    def _look(self) -> tuple[tuple[Verdict, ...], list[Intent]]:
        """What the host has that came, or may have come, of this run's intents, and these."""
        shadows = shadow_copies.read_shadow_copies(self.tools.writer)
        contents = state_contents.read_contents(self.tools.writer, self.tools.folder)
        intents = [intent for intent in contents.intents if intent.stem in self.stems]
        names = {intent.name for intent in intents}
        exposed = {shadow.shadow_id for shadow in shadows if (shadow.exposed or "").lower().startswith(f"{self.record.root}\\".lower())}
        judged = ownership.judge(shadows, contents.links, contents.intents)
        return tuple(verdict for verdict in judged.verdicts
                     if names & set(verdict.intents) or (verdict.owner == OURS and verdict.shadow_id in exposed)), intents

    # -- what the job brought ----------------------------------------------------------------------------------------

    def _expect_copied(self, session: SessionEnd) -> None:
        """Raises HypervError unless the set was there and everything was tried."""
        stale = next((name for name in session.outer.failed if name.startswith("stale")), None)
        if stale is not None:
            extra = writer_sets.extras_of(self.record)[int(stale.removeprefix("stale"))]
            refusal = diskshadow.REFUSALS[0x800423FB]
            raise HypervError(f"{extra.live} is there already: {refusal.sentence}.", error_code=refusal.error_code, hint=refusal.hint)
        if session.refusal is not None:
            raise _Refused(session.refusal, session, self.record.vm_name)
        if session.inner is None:
            return  # the copy's folder could not be made, which is told by whoever reads the steps
        if any(name.startswith("need") for name in session.inner.failed):
            raise self._not_reached("The Hyper-V writer left no AutoRecovery file beside a disk in the shadow copies.")
        if not session.inner.complete:
            raise HypervError(f"The copy of {self.record.vm_name!r} ended before it was complete"
                              f"{f', in the step {session.inner.at}' if session.inner.at else ''}.", error_code="copy_interrupted",
                              hint="Was diskshadow ended, or the host restarted? Run the task again.")

    def _proven(self, session: SessionEnd) -> tuple[CopyRecord, tuple[ManifestFile, ...]]:
        """The record with what was reached, and the files with those that the writer added. Raises ``consistency_not_reached``."""
        record = self.record
        copied = copy_work.verified(self.tools, record, replace(session.end, result=session.steps))
        extras = writer_sets.brought(record, writer_sets.extras_of(record), session.end.outputs, sha256=record.verify == "sha256")
        self._expect_unchanged(session)
        achieved, evidence = record.achieved, writer_sets.EVIDENCE
        recovered = writer_sets.all_recovered(record, extras)
        if recovered:
            evidence += writer_sets.RECOVERED
        if achieved in writer_sets.QUIESCED and not (recovered if writer_sets.recovers(self.facts) else self._answers()):
            achieved, evidence = lower(achieved, "crash"), writer_sets.UNPROVEN
        proven = replace(record, achieved=achieved, evidence=evidence, shadow_id=next(iter(session.shadow_ids), None))
        if not reaches(achieved, self.lowest):
            raise self._not_reached("Nothing shows that the guest was quiesced.")
        return proven, _with_extras(copied, extras)

    def _not_reached(self, reason: str) -> HypervError:
        return HypervError(f"The copy of {self.record.vm_name!r} is not {self.record.requested}-consistent. {reason}",
                           error_code="consistency_not_reached",
                           hint="Look at the VSS writers in the guest, and at the event logs of host and guest; or accept less with "
                                "consistency_fallback.")

    def _expect_unchanged(self, session: SessionEnd) -> None:
        """A disk that the VM has now and that was beside its files in the shadow copies had come before them. Raises ``chain_changed``."""
        before = {file.path.lower() for file in self.record.files}
        seen = writer_sets.checkpoints_seen(session.end.outputs)
        now = [disk.path for disk in disks.read_virtual_disks(self.tools.writer) if disk.owner_id == self.record.vm_id and disk.path]
        for path in now:
            name = path.rpartition("\\")[2].lower()
            if path.lower() not in before and not writer_sets.is_recovery_file(path) and name in seen:
                raise _changed(self.record.vm_name)

    def _answers(self) -> bool:
        """Whether the guest's backup service answers now, as it did when the copy was planned."""
        told = integration.read_integration(self.tools.writer).get(self.record.vm_id, integration.Integration())
        return told.backup.enabled is not False and told.backup.answering is True


def _with_extras(copied: tuple[ManifestFile, ...], extras: Sequence[writer_sets.Brought]) -> tuple[ManifestFile, ...]:
    """A recovery file becomes the leaf of its disk's chain, and what it stands on moves one down; other files come last."""
    recovered = {one.extra.leaf.disk for one in extras if one.extra.is_recovery}
    deepest = max((file.level for file in copied), default=0) + 2
    moved = tuple(replace(file, level=file.level + (file.disk in recovered)) for file in copied)
    added = tuple(
        ManifestFile(one.extra.target, one.extra.live, one.size, one.extra.leaf.disk, 0 if one.extra.is_recovery else deepest, one.sha256)
        for one in extras)
    return (*moved, *added)
