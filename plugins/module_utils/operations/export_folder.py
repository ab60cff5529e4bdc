# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of one export: made, looked into, and given its manifest; on a volume by programs, at a share by tasks."""
from __future__ import annotations

import hashlib
from datetime import timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_work import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import manifest as manifests
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import Manifest
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import export_jobs, files, job_runs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.export_jobs import Seen
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import CopyFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.job_runs import JobEnd
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import reading_programs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import Following, TaskName

HASHING_PER_BYTE = 1 / (20 * 1024 * 1024)
"""Seconds that the host may take to hash one byte at the very least speed."""


def place(tools: Tools, path: str) -> CopyFolder:
    """A run's folder in its parts."""
    host, vm, folder = path[len(tools.destination.path) + 1:].split("\\")
    return CopyFolder(tools.destination.path, host, vm, folder)


def make(tools: Tools, path: str, vm_id: str, run_id: str) -> list[Leftover]:
    """Make the folder, which must be new; what could not be removed of a task. Raises HypervError ``folder_not_made``,
    ``link_in_the_way``."""
    folder = place(tools, path)
    if tools.destination.is_share:
        end = _run(tools, vm_id, run_id, "make", export_jobs.make_job(folder), destinations.PATIENCE)
        if end.result is not None:
            export_jobs.expect_made(end.result, folder, tools.knocks_as)
        return list(end.leftovers)
    made = files.run(tools.writer, export_jobs.MAKE, export_jobs.values_of(folder))
    if made.exit_code != 0:
        raise export_jobs.not_made(folder, "the account of this session")
    if export_jobs.links_in(made.stdout, folder):
        files.run(tools.writer, export_jobs.UNDO, export_jobs.values_of(folder))
        raise export_jobs.link_in_the_way(folder)
    return []


def look(tools: Tools, path: str, vm_id: str, run_id: str, size: int, *, sha256: bool) -> tuple[tuple[Seen, ...], list[Leftover]]:
    """The files, with their hashes when wanted, and what could not be removed of a task. ``size``: about how many bytes there are.

    Raises HypervError ``export_vanished``, ``link_in_the_way``, ``verify_failed``, ``hash_failed``, ``timeout``.
    """
    folder = place(tools, path)
    if tools.destination.is_share or sha256:
        if sha256:
            tools.progress(f"hashing {path}, about {size / 2**30:.1f} GiB")
        job = export_jobs.inspect_job(folder, sha256=sha256)
        end = _run(tools, vm_id, run_id, "look", job, destinations.PATIENCE + (size * HASHING_PER_BYTE if sha256 else 0))
        if end.result is None:
            raise HypervError(f"The export in {path} was not read in time.", error_code="timeout", leftovers=end.leftovers)
        return export_jobs.inspected(end.result, end.outputs, folder, sha256=sha256), list(end.leftovers)
    with reading_programs(tools.writer, export_jobs.values_of(folder)) as programs:
        return export_jobs.listed(programs.run(export_jobs.LIST, timeout=files.SHORT), folder), []


def finish(tools: Tools, path: str, manifest: Manifest, guide: bytes) -> list[Leftover]:
    """Write the guide, and the manifest last. Raises HypervError ``file_not_written`` or ``manifest_not_written``."""
    name = TaskName(manifest.vm_id, manifest.run_id)
    return list(destinations.put_manifest(
        tools.writer, tools.folder, tools.destination, name, tools.identity, path, manifests.dump(manifest), clock=tools.clock,
        deadline=tools.deadline, guide=guide))


def digest_of(guide: bytes) -> str:
    """The SHA-256 of what is written from here."""
    return hashlib.sha256(guide).hexdigest()


def _run(tools: Tools, vm_id: str, run_id: str, purpose: str, job: Job, patience: float) -> JobEnd:
    """One job to its end, as a task or in the session."""
    name = TaskName.fresh(vm_id, run_id, purpose)
    if tools.identity.task is None:
        return job_runs.run_in_session(tools.writer, tools.folder, name, job, clock=tools.clock, timeout=patience)

    def tell(_seen: Following) -> None:
        tools.lease.keep()

    end = job_runs.run(tools.writer, tools.folder, name, job, tools.identity.task, clock=tools.clock,
                       deadline=Deadline(tools.clock, patience), progress=tell)
    if end.result is None:
        left = job_runs.remove(tools.writer, tools.folder, name, clock=tools.clock)
        raise HypervError(f"The task {name.text} did not end within {timedelta(seconds=round(patience))}.", error_code="timeout",
                          leftovers=left)
    return end
