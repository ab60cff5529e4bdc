# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One VM's copy as a job on the host: begun, followed, verified, and closed with its manifest (operations 5.5, 5.7).

The job is a one-shot task of SYSTEM or of an account, which goes on without us and can be adopted by its name, or a program in the session.
What it is about lies beside it (:mod:`.copy_record`).
"""
from __future__ import annotations

import ntpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import copy_record, destinations, shadow_lifecycle, vss_verify
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_record import CopyRecord, SourceFile
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.destinations import Destination
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import Keeper
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import manifest as manifests
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import Manifest, ManifestFile
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import job_runs, system, target_jobs, tasks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import CopyFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.job_runs import JobEnd
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.target_jobs import Arrived, CopyGroup
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import Following, TaskName

AFTER_DEADLINE = 3600.0
"""Seconds that the host lets a task go on after the deadline of the run that began it, so that a later run can adopt it."""
_SAY_EVERY = 60.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True)
class Tools(shadow_lifecycle.Tools):
    """What every step of a copy needs. ``knocks_as``: who writes to the destination, for messages."""

    deadline: Deadline
    busy_wait: float
    identity: Identity
    knocks_as: str
    destination: Destination
    lease: Keeper


class StillRunning(HypervError):
    """The job goes on on the host, without us: the time was over, the connection was lost, or a retry of the run took over."""

    error_code = "timeout"


def name_of(record: CopyRecord) -> TaskName:
    """The task, and the folder of the job, of a VM's copy."""
    return TaskName(record.vm_id, record.run_id)


def groups_of(record: CopyRecord) -> tuple[tuple[CopyGroup, tuple[SourceFile, ...]], ...]:
    """Files by source folder and target folder, one robocopy each."""
    found: dict[tuple[str, str], list[SourceFile]] = {}
    for file in record.files:
        found.setdefault((record.source_folder(file), f"{record.folder}\\{ntpath.dirname(file.target)}"), []).append(file)
    return tuple((CopyGroup(source, target, tuple(file.name for file in members)), tuple(members))
                 for (source, target), members in found.items())


def job_of(record: CopyRecord, destination: str) -> Job:
    """The job that copies. Raises HypervError ``paths_too_long``."""
    host, vm, folder = record.folder[len(destination) + 1:].split("\\")
    return target_jobs.copy_job(CopyFolder(destination, host, vm, folder), [group for group, _members in groups_of(record)],
                                sha256=record.verify == vss_verify.SHA256, record={copy_record.FILE_NAME: record.dump()})


def run(tools: Tools, record: CopyRecord) -> JobEnd:
    """Copy from the beginning to the end. Raises StillRunning, and what the job says of its failure."""
    job = job_of(record, tools.destination.path)
    name = name_of(record)
    tools.progress(f"{record.vm_name}: copying {len(record.files)} file(s), {record.size} bytes")
    if tools.identity.task is None:
        return job_runs.over_again(tools.writer, tools.folder, name, lambda: _run_in_session(tools, name, job), clock=tools.clock)
    task, limit = tools.identity.task, tools.deadline.remaining() + AFTER_DEADLINE
    job_runs.over_again(tools.writer, tools.folder, name, lambda: job_runs.begin(
        tools.writer, tools.folder, name, job, task, clock=tools.clock, limit=limit), clock=tools.clock)
    return follow(tools, record, job.outputs, started=True)


def _run_in_session(tools: Tools, name: TaskName, job: Job) -> JobEnd:
    try:
        return job_runs.run_in_session(tools.writer, tools.folder, name, job, clock=tools.clock, timeout=tools.deadline.remaining())
    except HypervError as error:
        if error.error_code != "program_timed_out":
            raise
        raise HypervError("The time for this task was over before the copy was complete.", error_code="timeout", hint="Raise timeout.",
                          leftovers=error.leftovers) from error


def follow(tools: Tools, record: CopyRecord, outputs: Sequence[str], *, started: bool) -> JobEnd:
    """Follow a copy that runs as a task to its end. Raises StillRunning when it goes on after us."""
    name = name_of(record)
    try:
        end = job_runs.finish(tools.writer, tools.folder, name, clock=tools.clock, deadline=tools.deadline, outputs=outputs,
                              progress=_progress(tools, record), started=started)
    except job_runs.NotFollowed as error:
        raise _still_running(name, error.message, error.error_code) from error
    if end.running:
        raise _still_running(name, "The time for this task was over before the copy was complete.", "timeout")
    return end


def adopt(tools: Tools, record: CopyRecord, outputs: Sequence[str] | None = None) -> JobEnd | None:
    """Bring the copy of an earlier run to its end; None when nothing of use was left of it. ``outputs``: the steps whose outputs are
    read, those of the job of this record when None."""
    tools.progress(f"{record.vm_name}: taking over the copy that the run {record.run_id} began")
    if outputs is None:
        outputs = job_of(record, tools.destination.path).outputs
    name = name_of(record)
    try:
        end = job_runs.adopt(tools.writer, tools.folder, name, clock=tools.clock, deadline=tools.deadline, outputs=outputs,
                             progress=_progress(tools, record))
    except job_runs.NotFollowed as error:
        raise _still_running(name, error.message, error.error_code) from error
    if end is not None and end.running:
        raise _still_running(name, "The time for this task was over before the copy was complete.", "timeout")
    return end


def _still_running(name: TaskName, message: str, error_code: str) -> StillRunning:
    location = f"{tasks.FOLDER}{name.text}"
    return StillRunning(
        f"{message} It goes on on the host.", error_code=error_code,
        hint=f"A later run of the same task takes it over; hyperv_cleanup with run_id {name.run_id} ends it and removes what it made.",
        details={"job": {"finished": False, "task": location, "run_id": name.run_id}},
        leftovers=[Leftover("task", name.text, location, f'schtasks /end /tn "{location}"')])


def _progress(tools: Tools, record: CopyRecord) -> Callable[[Following], None]:
    """Keeps the lease, and tells now and then how far the copy is."""
    said = 0.0

    def tell(seen: Following) -> None:
        nonlocal said
        tools.lease.keep()
        if not seen.look.running or seen.seconds - said < _SAY_EVERY:
            return
        said = seen.seconds
        groups = groups_of(record)
        percent = None
        if len(groups) == 1:  # one robocopy does it all
            output = job_runs.read_output(tools.writer, tools.folder, name_of(record), "copy0")
            percent = target_jobs.percent_done(output, len(record.files))
        tools.progress(progress_line(record, seen.seconds, percent))

    return tell


def progress_line(record: CopyRecord, seconds: float, percent: float | None) -> str:
    """VM, step, percent, bytes, rate and time left, as far as they are known."""
    if not percent:
        return f"{record.vm_name}: copying for {seconds / 60:.0f} min"
    done = record.size * percent / 100
    left = seconds * (100 - percent) / percent
    return (f"{record.vm_name}: copying, {percent:.0f} %, {done / 2**30:.1f} of {record.size / 2**30:.1f} GiB, "
            f"{done / max(seconds, 1) / 2**20:.0f} MiB/s, {left / 60:.0f} min left")


# -- verification and manifest -------------------------------------------------------------------------------------------


def conclude(tools: Tools, record: CopyRecord, end: JobEnd) -> tuple[Manifest, tuple[Leftover, ...]]:
    """Verify what a job brought, and write the manifest. Returns it, and what could not be removed of the jobs.

    Raises HypervError for what is not as it should be.
    """
    manifest, left = close(tools, record, verified(tools, record, end))
    return manifest, (*end.leftovers, *left)


def verified(tools: Tools, record: CopyRecord, end: JobEnd) -> tuple[ManifestFile, ...]:
    """The files that a job brought, compared with their sources as the task wants it. Raises HypervError for what is not so."""
    if end.result is None:
        raise HypervError(f"The job that copied {record.vm_name!r} left no result.", error_code="job_no_result")
    groups = groups_of(record)
    arrived = target_jobs.copied([group for group, _members in groups], end.result, end.outputs, end.codes,
                                 sha256=record.verify == vss_verify.SHA256, knocks_as=tools.knocks_as)
    return _verified(record, [file for _group, files in groups for file in files], arrived)


def close(tools: Tools, record: CopyRecord, copied: tuple[ManifestFile, ...]) -> tuple[Manifest, tuple[Leftover, ...]]:
    """Look at the disks among the copied files, and write the manifest. Returns it, and what could not be removed of a job.

    Raises HypervError ``verify_failed``, ``file_not_written`` or ``manifest_not_written``.
    """
    unknowns: tuple[str, ...] = ()
    if record.verify != vss_verify.NONE:
        members = [file for _group, files in groups_of(record) for file in files]
        unknowns = vss_verify.check_images(tools.writer, record.folder, members, at_share=tools.destination.volume is None)
    manifest = record.manifest(copied, system.read_time(tools.writer), unknowns)
    left = destinations.put_manifest(tools.writer, tools.folder, tools.destination, name_of(record), tools.identity, record.folder,
                                     manifests.dump(manifest), clock=tools.clock, deadline=tools.deadline)
    tools.progress(f"{record.vm_name}: copied, {manifest.size} bytes, verified: {manifest.verified}")
    return manifest, left


def _verified(record: CopyRecord, members: Sequence[SourceFile], arrived: Sequence[Arrived]) -> tuple[ManifestFile, ...]:
    by_place = {f"{one.target}\\{one.name}".lower(): one for one in arrived}
    copied = []
    for file in members:
        one = by_place[f"{record.folder}\\{file.target}".lower()]
        size = vss_verify.check_size(file, one, record)
        vss_verify.check_digests(one)
        copied.append(ManifestFile(file.target, file.path, size, file.disk, file.level, one.sha256))
    return tuple(copied)
