# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where copies go: a folder on a volume of the host, or one on a share of another machine (INTERFACE, *destination*).

What is on a volume is read and written by programs in the session. A share is reached by tasks only, which knock there as SYSTEM's
computer account or as the account of ``run_as``: everything to be done there at once is one task.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import run_as
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import FILE_NAME
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, job_runs, target_jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.job_runs import JobEnd
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import check_value
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.target_jobs import Doomed, Pruned
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import RunAs, TaskName
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume, locate

ARGUMENT_SPEC: dict[str, Any] = {
    "destinations": {"type": "list", "elements": "dict", "default": [],
                     "options": {"path": {"type": "str", "required": True}, **run_as.ARGUMENT_SPEC}, "required_if": run_as.REQUIRED_IF}}
"""For modules that look at several places, each with an identity of its own."""
PATIENCE = 900.0
"""Seconds that a short job at a share may take."""


@dataclass(frozen=True)
class Destination:
    """A folder without a trailing backslash; ``volume`` None: on a share. ``free``: bytes, None when nobody said."""

    path: str
    volume: Volume | None
    free: int | None

    @property
    def is_share(self) -> bool:
        """Reached by tasks only."""
        return self.volume is None

    @property
    def label(self) -> str:
        """What is full when it is full."""
        return self.path if self.volume is None else self.volume.root


def is_share(path: str) -> bool:
    """True for a folder of another machine, however its slashes stand."""
    return path.startswith(("\\\\", "//"))


def check(facts: HostFacts, text: str, identity: Identity) -> Destination:
    """The destination that a task names.

    Raises HypervError ``invalid_destination``, ``destination_not_local`` (no such volume), ``destination_is_local`` (a share of this host
    itself) or ``destination_needs_task``.
    """
    path = text.replace("/", "\\").rstrip("\\") if len(text) > 3 else text
    problem = naming.problem_with_destination(path)
    if problem is not None:
        raise HypervError(f"The destination {text!r} cannot be used: {problem}.", error_code="invalid_destination")
    check_value(path, "The destination")
    if path.startswith("\\\\"):
        return _share(facts, path, identity)
    place = locate(path, facts.volumes or ())
    if place.kind in ("local", "csv") and place.volume is not None:
        return Destination(path, place.volume, place.volume.free)
    raise HypervError(f"The destination {text} lies on no volume of this host.", error_code="destination_not_local",
                      hint="Known volumes: " + ", ".join(volume.root for volume in facts.volumes or ()))


def _share(facts: HostFacts, path: str, identity: Identity) -> Destination:
    server = path[2:].partition("\\")[0].casefold()
    if server.partition(".")[0] == facts.system.name.casefold() or server == "localhost" or server.startswith("127."):
        raise HypervError(f"The destination {path} is a share of this host itself.", error_code="destination_is_local",
                          hint="Name the folder by its local path.")
    if identity.task is None:
        raise HypervError(f"The destination {path} is a share, which run_as: session cannot reach.", error_code="destination_needs_task",
                          hint="A session has no credentials for a second machine. Use run_as: system or run_as: account.")
    return Destination(path, None, None)


# -- reading -------------------------------------------------------------------------------------------------------------


def read_share(writer: CimWriter, folder: StateFolder, destination: Destination, base: str, run_id: str, identity: Identity,
               knocks_as: str, *, clock: Clock, levels: int = files.HOST_LEVELS) -> target_jobs.Listing:
    """What is below a base at a share, and its free bytes; one task. The state folder is there and trusted.

    Raises HypervError ``destination_unreachable``, and what the task runner raises.
    """
    result, outputs = look_at_share(writer, folder, run_id, identity, target_jobs.list_job(destination.path, base, levels), clock=clock)
    return target_jobs.listing(result, outputs, base, destination.path, knocks_as, levels)


# -- writing -------------------------------------------------------------------------------------------------------------


def put_manifest(writer: CimWriter, folder: StateFolder, destination: Destination, copy: TaskName, identity: Identity, into: str,
                 manifest: bytes, *, clock: Clock, deadline: Deadline, guide: bytes | None = None) -> tuple[Leftover, ...]:
    """Write the manifest of a copy, whole or not at all, and before it ``guide``; what could not be removed of the task that did it.

    Raises HypervError ``file_not_written`` or ``manifest_not_written``.
    """
    path = f"{into}\\{FILE_NAME}"
    if not destination.is_share:
        if guide is not None:
            files.write_text(writer, path + ".tmp", f"{into}\\{target_jobs.GUIDE}", guide)
        files.write_text(writer, path + ".tmp", path, manifest)
        return ()
    name = TaskName.fresh(copy.subject, copy.run_id, "put")
    result, end = _run(writer, folder, name, target_jobs.manifest_job(into, manifest, guide), identity, clock, deadline)
    target_jobs.expect_manifest(result, into)
    return end.leftovers


def prune_share(writer: CimWriter, folder: StateFolder, run_id: str, identity: Identity, copies: Sequence[Doomed], *, clock: Clock,
                deadline: Deadline) -> tuple[tuple[Pruned, ...], tuple[Leftover, ...]]:
    """Remove copies at a share; one task for all of them. What became of each, and what could not be removed of the task."""
    name = TaskName.fresh("host", run_id, "prune")
    result, end = _run(writer, folder, name, target_jobs.prune_job(copies), identity, clock, deadline)
    return target_jobs.pruned(copies, result), end.leftovers


Ended: TypeAlias = tuple[JobResult, Mapping[str, bytes]]
"""What a job at a share came to: its result, and the outputs that were to be read back."""


def run_at_share(writer: CimWriter, folder: StateFolder, run_id: str, purpose: str, identity: Identity, job: Job, *,
                 clock: Clock) -> Ended:
    """A short job that knocks at a share as ``identity``; one task. Raises HypervError ``destination_unreachable`` when it did not end."""
    name = TaskName.fresh("host", run_id, purpose)
    result, end = _run(writer, folder, name, job, identity, clock, Deadline(clock, PATIENCE), "destination_unreachable")
    return result, end.outputs


def look_at_share(writer: CimWriter, folder: StateFolder, run_id: str, identity: Identity, job: Job, *, clock: Clock) -> Ended:
    """The same for a short job that only reads, with the outputs of all its steps (:func:`job_runs.run_reading`)."""
    name = TaskName.fresh("host", run_id, "look")
    end = job_runs.run_reading(writer, folder, name, job, _task(identity), clock=clock, deadline=Deadline(clock, PATIENCE))
    return _result_of(end, writer, folder, name, clock, "destination_unreachable"), end.outputs


def _run(writer: CimWriter, folder: StateFolder, name: TaskName, job: Job, identity: Identity, clock: Clock, deadline: Deadline,
         error_code: str = "timeout") -> tuple[JobResult, JobEnd]:
    patience = Deadline(clock, max(PATIENCE, deadline.remaining()))
    end = job_runs.run(writer, folder, name, job, _task(identity), clock=clock, deadline=patience)
    return _result_of(end, writer, folder, name, clock, error_code), end


def _result_of(end: JobEnd, writer: CimWriter, folder: StateFolder, name: TaskName, clock: Clock, error_code: str) -> JobResult:
    """The result of a job that ended in time. Raises HypervError for one that did not, which is removed."""
    if end.result is None:
        raise HypervError(f"The task {name.text}, which knocks at the destination, did not end in time.", error_code=error_code,
                          hint="Does the server of the share answer? Run the task again.",
                          leftovers=job_runs.remove(writer, folder, name, clock=clock))
    return end.result


def _task(identity: Identity) -> RunAs:
    if identity.task is None:
        raise ValueError("a share is reached by a task")
    return identity.task
