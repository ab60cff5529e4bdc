# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods that make, remove and apply checkpoints, and the one that names them (operations 0.2, 0.4, 2.3 to 2.6, wire 3.3, 3.4)."""
from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import facts
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter, MethodResult
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Parameter, PropertyValue, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import checkpoints, jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.summary import MANAGEMENT_SERVICE

SNAPSHOT_SERVICE = Reference(NAMESPACE, "Msvm_VirtualSystemSnapshotService", {"CreationClassName": "Msvm_VirtualSystemSnapshotService"})
SETTINGS = "Msvm_VirtualSystemSettingData"
POLICY_NUMBERS: Mapping[str, int] = {"disabled": 2, "production": 3, "production_only": 4, "standard": 5}
_USER = 2
_ACCESS_DENIED, _NOT_SUPPORTED, _INVALID_STATE = 32769, 32770, 32775
_TERMINATE = 4


class Busy(HypervError):
    """The host is doing something else with the machine, or its power state does not allow this (operations F-09)."""

    error_code = "vm_busy"


def create(writer: CimWriter, machine: Reference) -> Reference | None:
    """Begin a checkpoint of the kind that the machine's policy says; the job, None when it was done at once.

    Raises Busy, AccessDenied, OutcomeUnknown, and HypervError ``not_snapshottable`` or ``checkpoint_refused``.
    """
    return _begin(writer, "CreateSnapshot", {"AffectedSystem": machine, "SnapshotSettings": "", "SnapshotType": _USER},
                  "The checkpoint was refused")


def destroy(writer: CimWriter, checkpoint: Reference) -> Reference | None:
    """Begin the removal of one checkpoint; its children move up. Raises as :func:`create`."""
    return _begin(writer, "DestroySnapshot", {"AffectedSnapshot": checkpoint}, "The removal of the checkpoint was refused")


def apply(writer: CimWriter, checkpoint: Reference) -> Reference | None:
    """Begin to make the machine what it was at a checkpoint. Raises as :func:`create`."""
    return _begin(writer, "ApplySnapshot", {"Snapshot": checkpoint}, "The revert was refused")


def modify(writer: CimWriter, settings: Reference, values: Mapping[str, PropertyValue]) -> Reference | None:
    """Change properties of a machine or a checkpoint: only these are sent (wire 3.3). The job, None when it is done. Raises as above."""
    changed = facts.embedded(SETTINGS, {"InstanceID": settings.key("InstanceID"), **values})
    return _begin(writer, "ModifySystemSettings", {"SystemSettings": changed}, "The change of settings was refused",
                  service=MANAGEMENT_SERVICE)


def _begin(writer: CimWriter, method: str, parameters: Mapping[str, Parameter], what: str, *,
           service: Reference = SNAPSHOT_SERVICE) -> Reference | None:
    answer = writer.invoke(service, method, parameters)
    if answer.return_value == 0:
        return None
    if answer.return_value == jobs.STARTED:
        job = answer.out.reference("Job")
        if job is None:
            raise OutcomeUnknown(f"The host started a job for {method} and did not say which.")
        return job
    raise _refusal(answer, what)


def _refusal(answer: MethodResult, what: str) -> HypervError:
    code = answer.return_value
    if code == _INVALID_STATE:
        return Busy(f"{what}: the virtual machine is busy, or in a power state that does not allow it (code {code}).", return_value=code,
                    hint="Wait until the host has done with it, and run the task again.")
    if code == _ACCESS_DENIED:
        return AccessDenied(f"{what}: the account may not do this (code {code}).", return_value=code)
    if code == _NOT_SUPPORTED:
        return HypervError(f"{what}: the host does not support it for this virtual machine (code {code}).", return_value=code,
                           error_code="not_snapshottable", hint="Pass-through disks, shared disks, virtual Fibre Channel and replicas "
                           "cannot have checkpoints.")
    return HypervError(f"{what} (code {code}).", return_value=code, error_code="checkpoint_refused")


def terminate(writer: CimWriter, job: Reference) -> None:
    """Ask a job to end; whether it did has to be seen."""
    writer.invoke(job, "RequestStateChange", {"RequestedState": _TERMINATE})


def made_by(reader: CimReader, job: Reference) -> tuple[Checkpoint, ...]:
    """The checkpoints that a job of creation came to, once it has ended; only the association tells (operations 0.4)."""
    return checkpoints.from_rows(reader.associators(job, association="Msvm_AffectedJobElement", result=SETTINGS))


def read_all(reader: CimReader) -> tuple[Checkpoint, ...]:
    """All checkpoints of the host; one request."""
    return checkpoints.from_rows(reader.enumerate(NAMESPACE, SETTINGS))


def read_one(reader: CimReader, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint as it is now. Raises NotFound."""
    return checkpoints.from_rows([reader.get(checkpoint.reference)])[0]


def size_of_system_files(reader: CimReader, checkpoint: Checkpoint) -> int | None:
    """Bytes of its configuration, and of the memory of a standard one; one request. Raises HypervError ``checkpoint_unreadable``."""
    answer = reader.ask(MANAGEMENT_SERVICE, "GetSizeOfSystemFiles", {"Vssd": checkpoint.reference})
    if answer.return_value != 0:
        raise HypervError(f"The host does not tell the size of the checkpoint {checkpoint.name!r} (code {answer.return_value}).",
                          return_value=answer.return_value, error_code="checkpoint_unreadable")
    return answer.out.integer("Size")


def text_of_notes(row: Instance) -> str:
    """The notes in a settings row as one text."""
    return "\n".join(row.texts("Notes"))
