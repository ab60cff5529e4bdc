# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods that import a virtual machine, change it while it is planned, and make it a real one (operations 3.5, wire 3.3, 3.4).

Each begins something and says what: the object when it was done at once, the job when one was started. Waiting, and looking again after a
lost answer, is the caller's.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import facts
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter, MethodResult
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Parameter, PropertyValue, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import jobs, planned
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_service import Busy
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import IMAGE_SERVICE
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.summary import MANAGEMENT_SERVICE
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import incompatibilities
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.incompatibilities import Incompatibility

ACCESS_DENIED, INVALID_STATE, IN_USE, NOT_SUPPORTED = 32769, 32775, 32779, 32784
IMPORT_JOB, REALIZE_JOB = 61, 141
DISCONNECTED, CONNECTED = 3, 2


@dataclass(frozen=True)
class Begun:
    """What a method came to: ``made``, the system that came of it when it was there at once, or the job that is under way."""

    made: Reference | None = None
    job: Reference | None = None


@dataclass(frozen=True)
class Definition:
    """What a definition file says of itself: GUID and name of the machine, and its notes."""

    vm_id: str
    name: str
    created: datetime | None
    notes: str


def read_definition(reader: CimReader, path: str) -> Definition:
    """What is in a definition file; one request, which reads only (operations 0.9).

    Raises HypervError ``definition_unreadable``, ``version_not_supported`` or ``definition_in_use``, AccessDenied.
    """
    answer = reader.ask(MANAGEMENT_SERVICE, "GetDefinitionFileSummaryInformation", {"DefinitionFiles": [path]})
    what = f"The definition file {path} cannot be read"
    if answer.return_value != 0:
        raise refusal(answer.return_value, what, "definition_unreadable")
    found = answer.out.instances("SummaryInformation")
    vm_id = as_guid(found[0].text("Name")) if len(found) == 1 else None
    if vm_id is None:
        raise HypervError(f"{what}: the host found {len(found)} virtual machines in it.", error_code="definition_unreadable",
                          hint="The file is damaged, or not that of a virtual machine.")
    return Definition(vm_id, found[0].text("ElementName") or "", found[0].time("CreationTime"), found[0].text("Notes") or "")


def import_definition(writer: CimWriter, path: str, checkpoints: str, *, new_id: bool) -> Begun:
    """Begin the import of a definition file; the files that it names stay where they are. ``checkpoints``: the folder with those of its
    checkpoints, or an empty text. Raises OutcomeUnknown, and what :func:`refusal` makes of a code."""
    answer = writer.invoke(MANAGEMENT_SERVICE, "ImportSystemDefinition", {
        "SystemDefinitionFile": path, "SnapshotFolder": checkpoints, "GenerateNewSystemIdentifier": new_id})
    return _begun(answer, "ImportSystemDefinition", "ImportedSystem", f"The import of {path} was refused", "import_refused")


def validate(writer: CimWriter, machine: Reference) -> Begun:
    """Begin to look whether this host can take a planned machine."""
    answer = writer.invoke(MANAGEMENT_SERVICE, "ValidatePlannedSystem", {"PlannedSystem": machine})
    return _begun(answer, "ValidatePlannedSystem", None, "The validation of the planned virtual machine was refused", "validation_refused")


def realize(writer: CimWriter, machine: Reference) -> Begun:
    """Begin to make a planned machine a real one."""
    answer = writer.invoke(MANAGEMENT_SERVICE, "RealizePlannedSystem", {"PlannedSystem": machine})
    return _begun(answer, "RealizePlannedSystem", "ResultingSystem", "Making the planned virtual machine a real one was refused",
                  "realize_refused")


def destroy(writer: CimWriter, machine: Reference) -> Begun:
    """Begin to take a machine away, a planned or a real one. Its virtual disks stay (operations 3.5)."""
    answer = writer.invoke(MANAGEMENT_SERVICE, "DestroySystem", {"AffectedSystem": machine})
    return _begun(answer, "DestroySystem", None, "The removal of the virtual machine was refused", "destroy_refused")


def modify_resources(writer: CimWriter, class_name: str, changes: Sequence[Mapping[str, PropertyValue]]) -> Begun:
    """Begin to change resources of a machine: of each only its InstanceID and what changes is sent (wire 3.3)."""
    settings: list[Parameter] = [facts.embedded(class_name, values) for values in changes]
    answer = writer.invoke(MANAGEMENT_SERVICE, "ModifyResourceSettings", {"ResourceSettings": settings})
    return _begun(answer, "ModifyResourceSettings", None, "The change of the planned virtual machine was refused", "settings_not_changed")


def remove_resources(writer: CimWriter, settings: Sequence[Reference]) -> Begun:
    """Begin to take resources away from a machine."""
    references: list[Parameter] = list(settings)
    answer = writer.invoke(MANAGEMENT_SERVICE, "RemoveResourceSettings", {"ResourceSettings": references})
    return _begun(answer, "RemoveResourceSettings", None, "The change of the planned virtual machine was refused", "settings_not_changed")


def set_parent(writer: CimWriter, child: str, parent: str) -> Begun:
    """Begin to tell a differencing disk where its parent lies. An identity that does not match is never overruled."""
    answer = writer.invoke(IMAGE_SERVICE, "SetParentVirtualHardDisk", {"ChildPath": child, "ParentPath": parent, "IgnoreIDMismatch": False})
    return _begun(answer, "SetParentVirtualHardDisk", None, f"The disk {child} could not be tied to {parent}", "chain_not_mended")


def imported_by(reader: CimReader, job: Reference) -> tuple[str, ...]:
    """GUIDs of the planned machines that a job of an import came to; only the association tells (operations 0.4)."""
    rows = reader.associators(job, association="Msvm_AffectedJobElement", result=planned.PLANNED)
    return tuple(guid for guid in (as_guid(row.text("Name")) for row in rows) if guid is not None)


def incompatibilities_of(reader: CimReader, job: Reference) -> tuple[Incompatibility, ...]:
    """Everything that a validation found, once its job has ended."""
    return tuple(incompatibilities.of(error.message_id, error.message) for error in jobs.errors_of(reader, job))


def at_work(reader: CimReader, job_type: int) -> bool:
    """True while any job of this type is under way on the host; one request."""
    rows = reader.enumerate(NAMESPACE, "Msvm_ConcreteJob")
    return any(not job.finished and job.job_type == job_type for job in (jobs.from_row(jobs.reference_of(row), row) for row in rows))


def _begun(answer: MethodResult, method: str, made: str | None, what: str, error_code: str) -> Begun:
    if answer.return_value == 0:
        return Begun(made=None if made is None else answer.out.reference(made))
    if answer.return_value == jobs.STARTED:
        job = answer.out.reference("Job")
        if job is None:
            raise OutcomeUnknown(f"The host started a job for {method} and did not say which.")
        return Begun(job=job)
    raise refusal(answer.return_value, what, error_code)


def refusal(code: int | None, what: str, error_code: str) -> HypervError:
    """The error for a code of a method, or of a job of one (operations 0.2, F-37, F-38)."""
    told = f"{what} (code {code})."
    if code == ACCESS_DENIED:
        return AccessDenied(told, return_value=code, hint="On a share it is the computer account of the host that needs the right to read.")
    if code == INVALID_STATE:
        return Busy(told, return_value=code, hint="Something else works on it; run the task again when that has ended.")
    if code == IN_USE:
        return HypervError(told, error_code="definition_in_use", return_value=code,
                           hint="A virtual machine is registered with this very file, or a program has it open.")
    if code == NOT_SUPPORTED:
        return HypervError(told, error_code="version_not_supported", return_value=code,
                           hint="Its configuration version is newer than this host knows: restore it on a host with a newer Windows.")
    return HypervError(told, error_code=error_code, return_value=code)
