# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``GetSummaryInformation``: memory, load and running jobs of all VMs, one request for each 200 of them (operations 1.2)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import CimValueError, Instance, Parameter, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, NotFound
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.faults import EncodingLimit

MANAGEMENT_SERVICE = Reference(
    NAMESPACE, "Msvm_VirtualSystemManagementService", {"CreationClassName": "Msvm_VirtualSystemManagementService"})

# Name, element name, enabled state, memory, running jobs, processors. Numbers that a build does not know may fail the
# whole call, so only those that every build since 2012 has are asked for.
_REQUESTED = (0, 1, 4, 100, 103, 108)
_RUNNING_JOB_STATES = (2, 3, 4, 5, 6)
BATCH = 200
"""VMs asked for at once. Methods have no pages: an answer over the 500 KB of an envelope is refused as a whole (wire 1.2), and one VM
takes about 1.5 KB, more while jobs run on it."""
_MOST_REFUSALS = 32


@dataclass(frozen=True)
class RunningJob:
    """A job that works on a VM. Types: operations 0.3."""

    instance_id: str | None
    job_type: int | None
    percent: int | None


@dataclass(frozen=True)
class Summary:
    """The summary row of one VM; memory in bytes."""

    vm_id: str
    processors: int | None
    memory: int | None
    jobs: tuple[RunningJob, ...]


def from_rows(rows: tuple[Instance, ...]) -> dict[str, Summary]:
    """Summaries by VM GUID. The row of an unavailable VM has an empty Name and is left out."""
    found = {}
    for row in rows:
        vm_id = as_guid(row.text("Name"))
        if vm_id is None:
            continue
        memory = row.integer("MemoryUsage")
        jobs = []
        for job in row.instances("AsynchronousTasks"):
            if job.integer("JobState") in _RUNNING_JOB_STATES:
                jobs.append(RunningJob(job.text("InstanceID"), job.integer("JobType"), job.integer("PercentComplete")))
        found[vm_id] = Summary(vm_id, row.integer("NumberOfProcessors"), None if memory is None else memory * 1024 * 1024, tuple(jobs))
    return found


def read_summaries(reader: CimReader, settings: Sequence[Reference] = ()) -> dict[str, Summary]:
    """Summaries of all VMs. ``settings`` are the addresses of their current settings, needed to ask for many VMs in parts.

    Raises HypervError ``summary_failed`` with the return value.
    """
    parts: list[Sequence[Reference]] = [()]
    if len(settings) > BATCH:
        parts = [settings[at:at + BATCH] for at in range(0, len(settings), BATCH)]
    refusals = 0
    found: list[Instance] = []
    while parts:
        part = parts.pop()
        try:
            found.extend(_ask(reader, part))
        except (EncodingLimit, NotFound, SummaryRefused) as error:
            # too much for one answer, or a VM among them that went away meanwhile: halves narrow it down
            refusals += 1
            several = settings if not part and isinstance(error, EncodingLimit) else part
            if not several or refusals > _MOST_REFUSALS:
                raise
            half = len(several) // 2
            parts.extend((several[:half], several[half:]) if half else ())
    try:
        return from_rows(tuple(found))
    except CimValueError as error:
        raise HypervError(f"The host's summary of its virtual machines cannot be read: {error}", error_code="summary_failed") from error


def read_summaries_of(reader: CimReader, settings: Sequence[Reference]) -> dict[str, Summary]:
    """Summaries of these VMs only, up to BATCH of them: one request. Raises HypervError ``summary_failed``."""
    return from_rows(_ask(reader, settings))


class SummaryRefused(HypervError):
    """The host returned a code instead of summaries."""

    error_code = "summary_failed"


def _ask(reader: CimReader, settings: Sequence[Reference]) -> tuple[Instance, ...]:
    """The rows of these VMs, of all when there are none."""
    parameters: dict[str, Parameter] = {"RequestedInformation": list(_REQUESTED)}
    if settings:
        parameters["SettingData"] = list(settings)
    answer = reader.ask(MANAGEMENT_SERVICE, "GetSummaryInformation", parameters)
    if answer.return_value != 0:
        raise SummaryRefused(f"The host could not summarise its virtual machines (code {answer.return_value}).",
                             return_value=answer.return_value)
    return answer.out.instances("SummaryInformation")
