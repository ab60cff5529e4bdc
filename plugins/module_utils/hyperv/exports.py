# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports through the management service, and the questions that prove one (operations 3.1 to 3.4).

The configuration of a checkpoint is never exported without its disks: that can leave its chain locked (operations 3.6). So there is no
way here to leave the storage out.
"""
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import facts
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.paths import format_path
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import PropertyValue, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks, jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_service import Busy
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import Job
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.summary import MANAGEMENT_SERVICE

EXPORT_JOB = 62
BEFORE = timedelta(seconds=5)
"""How much earlier than its announcement an export may seem to have begun: the host's time is told in whole seconds."""
NO_CHECKPOINTS, ONE_CHECKPOINT = 1, 2
CRASH, SAVED, APPLICATION = range(3)
"""CaptureLiveState of a running VM."""
_SETTINGS = "Msvm_VirtualSystemExportSettingData"
_ACCESS_DENIED, _INVALID_STATE, _NOT_AVAILABLE = 32769, 32775, 32777


@dataclass(frozen=True)
class Wish:
    """What is exported into a folder that is there and empty. ``checkpoint``: the settings of the one to export, else the VM as it is;
    ``live_state`` and ``memory`` (with what is saved of the running or saved machine) matter only without it. ``excluded``: InstanceIDs
    of disks, from 2019 on."""

    machine: Reference
    folder: str
    checkpoint: Reference | None = None
    live_state: int = CRASH
    memory: bool = False
    excluded: tuple[str, ...] = ()


def start(writer: CimWriter, wish: Wish, host: str) -> Reference | None:
    """Begin an export; the job, None when it was done at once.

    Raises Busy, AccessDenied, OutcomeUnknown, and HypervError ``export_refused``.
    """
    values: dict[str, PropertyValue] = {
        "CopySnapshotConfiguration": NO_CHECKPOINTS if wish.checkpoint is None else ONE_CHECKPOINT,
        "CopyVmStorage": True, "CopyVmRuntimeInformation": wish.memory, "CreateVmExportSubdirectory": False,
        "CaptureLiveState": wish.live_state}
    if wish.checkpoint is not None:
        values["SnapshotVirtualSystem"] = format_path(wish.checkpoint, host)
    if wish.excluded:
        values |= {"ExcludedVirtualHardDisks": wish.excluded, "DisableDifferentialOfIgnoredStorage": True}
    answer = writer.invoke(MANAGEMENT_SERVICE, "ExportSystemDefinition", {
        "ComputerSystem": wish.machine, "ExportDirectory": wish.folder, "ExportSettingData": facts.embedded(_SETTINGS, values)})
    code = answer.return_value
    if code == 0:
        return None
    if code == jobs.STARTED:
        job = answer.out.reference("Job")
        if job is None:
            raise OutcomeUnknown("The host started an export and did not say which job does it.")
        return job
    if code == _INVALID_STATE:
        raise Busy(f"The export was refused: the virtual machine is busy, or in a state that does not allow it (code {code}).",
                   return_value=code, hint="Wait until the host has done with it, and run the task again.")
    if code == _ACCESS_DENIED:
        raise AccessDenied(f"The export was refused: the account may not do this (code {code}).", return_value=code)
    unreachable = "its configuration storage cannot be reached" if code == _NOT_AVAILABLE else "the host does not take it so"
    raise HypervError(f"The export was refused: {unreachable} (code {code}).", error_code="export_refused", return_value=code)


def find(reader: CimReader, machine: Reference, since: datetime) -> tuple[Job, ...]:
    """The exports of a VM that were begun since then, the latest last, as long as the host keeps their jobs; one request."""
    rows = reader.associators(machine, association="Msvm_AffectedJobElement", result="Msvm_ConcreteJob")
    ours = [(submitted, row) for row in rows if row.integer("JobType") == EXPORT_JOB
            and (submitted := row.time("TimeSubmitted") or row.time("StartTime")) is not None and submitted >= since]
    return tuple(jobs.from_row(jobs.reference_of(row), row) for _unused, row in sorted(ours, key=lambda one: one[0]))


def size_of_system_files(reader: CimReader, settings: Reference) -> int | None:
    """Bytes of configuration and state files of a VM or a checkpoint; None when the host does not say. One request."""
    answer = reader.ask(MANAGEMENT_SERVICE, "GetSizeOfSystemFiles", {"Vssd": settings})
    return answer.out.integer("Size") if answer.return_value == 0 else None


def start_validation(reader: CimReader, path: str) -> Reference | None:
    """Have the host open a disk with its whole chain; the job, None when it has done so. Raises HypervError ``disk_invalid``."""
    answer = reader.ask(disks.IMAGE_SERVICE, "ValidateVirtualHardDisk", {"Path": path})
    if answer.return_value == 0:
        return None
    job = answer.out.reference("Job") if answer.return_value == jobs.STARTED else None
    if job is None:
        raise HypervError(f"The virtual disk {path} is not whole, or cannot be opened (code {answer.return_value}).",
                          error_code="disk_invalid", return_value=answer.return_value)
    return job
