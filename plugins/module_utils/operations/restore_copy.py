# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a backup on their way to the place where the restored machine lives: one job on the host, and the proof of each file.

An import copies nothing (operations 3.5). What arrives is compared with what the manifest promised, so a file that was damaged at the
destination is found before a host sees it, and is named.
"""
from __future__ import annotations

import ntpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks, import_service, jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_steps
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_source import File, Source
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import job_runs, target_jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import CopyFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.job_runs import JobEnd
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.target_jobs import Arrived, CopyGroup
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import Following, TaskName

_SAY_EVERY = 60.0
_TO_THE_END = 900.0


@dataclass(frozen=True, kw_only=True)
class Tools(checkpoint_steps.Tools):
    """What every step of a restore needs. ``knocks_as``: who reads the destination, for messages."""

    folder: StateFolder
    identity: Identity
    knocks_as: str

    def to_the_end(self) -> Tools:
        """The same with a quarter of an hour at least, for what must not stop half-way because the time of the task is over."""
        return replace(self, deadline=Deadline(self.clock, max(_TO_THE_END, self.deadline.remaining())))


def groups_of(source: Source, target: str) -> tuple[tuple[CopyGroup, tuple[File, ...]], ...]:
    """The files by their folder, one robocopy each."""
    found: dict[str, list[File]] = {}
    for file in source.files:
        found.setdefault(ntpath.dirname(file.path), []).append(file)
    return tuple((CopyGroup(_below(source.folder, folder), _below(target, folder), tuple(ntpath.basename(file.path) for file in members)),
                  tuple(members)) for folder, members in sorted(found.items()))


def _below(folder: str, relative: str) -> str:
    return f"{folder}\\{relative}" if relative else folder


def run(tools: Tools, source: Source, place: CopyFolder, name: TaskName, verify: str) -> tuple[Leftover, ...]:
    """Copy, and compare each file. Returns what could not be removed of the job.

    Raises HypervError ``backup_damaged`` with the names of the files, ``timeout``, and what the job says of its failure.
    """
    groups = groups_of(source, place.path)
    digests = verify == "sha256"
    job = target_jobs.copy_job(place, [group for group, _members in groups], sha256=digests)
    tools.progress(f"{source.vm_name}: copying {len(source.files)} file(s), {source.size} bytes")
    if tools.identity.task is None:
        end = job_runs.run_in_session(tools.writer, tools.folder, name, job, clock=tools.clock, timeout=tools.deadline.remaining())
    else:
        end = job_runs.run(tools.writer, tools.folder, name, job, tools.identity.task, clock=tools.clock, deadline=tools.deadline,
                           progress=_progress(tools, source))
    if end.result is None:
        left = job_runs.remove(tools.writer, tools.folder, name, clock=tools.clock)
        raise HypervError("The time for this task was over before the files were copied.", error_code="timeout", hint="Raise timeout.",
                          leftovers=left)
    _compare(source, groups, _arrived(end, groups, tools.knocks_as, digests=digests))
    return end.leftovers


def _arrived(end: JobEnd, groups: Sequence[tuple[CopyGroup, Sequence[File]]], knocks_as: str, *, digests: bool) -> tuple[Arrived, ...]:
    if end.result is None:
        return ()
    return target_jobs.copied([group for group, _members in groups], end.result, end.outputs, end.codes, sha256=digests,
                              knocks_as=knocks_as)


def _compare(source: Source, groups: Sequence[tuple[CopyGroup, Sequence[File]]], arrived: Sequence[Arrived]) -> None:
    by_place = {f"{one.target}\\{one.name}".lower(): one for one in arrived}
    damaged, wrong = [], []
    for group, members in groups:
        for file in members:
            one = by_place[f"{group.target}\\{ntpath.basename(file.path)}".lower()]
            if one.source_size != file.size or (file.sha256 is not None and one.source_sha256 not in (None, file.sha256)):
                damaged.append(file.path)
            elif one.size != file.size or one.sha256 != one.source_sha256:
                wrong.append(file.path)
    if damaged:
        raise HypervError(f"The backup in {source.folder} is damaged: {', '.join(damaged[:3])} is not what its manifest says.",
                          error_code="backup_damaged", hint="Restore another backup with backup_id, and look at the storage of this one.",
                          details={"damaged": damaged})
    if wrong:
        raise HypervError(f"{', '.join(wrong[:3])} did not arrive as it is in the backup.", error_code="copy_differs",
                          hint="The disk or the network of this host changes data on the way: look at both.", details={"differing": wrong})


def _progress(tools: Tools, source: Source) -> Callable[[Following], None]:
    said = 0.0

    def tell(seen: Following) -> None:
        nonlocal said
        tools.keep()
        if seen.look.running and seen.seconds - said >= _SAY_EVERY:
            said = seen.seconds
            tools.progress(f"{source.vm_name}: copying for {seen.seconds / 60:.0f} min, {source.size / 2**30:.1f} GiB in all")

    return tell


def mend_chains(tools: Tools, source: Source, target: str) -> None:
    """Tie each differencing disk to its parent in the new folder, where it does not find it by itself; and see that the host finds it.

    Raises HypervError ``chain_not_mended``, ``disk_missing`` or ``disk_unreadable``.
    """
    if source.export is None:
        return
    pairs = [(f"{target}\\{disk.path}", f"{target}\\{disk.parent}") for disk in source.export.disks if disk.parent is not None]
    for child, parent in pairs:
        if _same(disks.read_setting(tools.writer, child).parent_path, parent):
            continue
        begun = import_service.set_parent(tools.writer, child, parent)
        if begun.job is not None:
            jobs.wait(tools.writer, begun.job, what=f"tying {child} to its parent", clock=tools.clock, deadline=tools.deadline,
                      progress=tools.progress, poll=1.0)
        if not _same(disks.read_setting(tools.writer, child).parent_path, parent):
            raise HypervError(f"The disk {child} does not find its parent {parent}.", error_code="chain_not_mended",
                              hint="The two do not belong together, or the backup is damaged.")


def _same(one: str | None, other: str) -> bool:
    return one is not None and ntpath.normcase(ntpath.normpath(one)) == ntpath.normcase(ntpath.normpath(other))
