# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a machine onto a host and off it: import, validate, realise, destroy (operations 3.5)."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from simulator.cim.errors import ProviderRefusal
from simulator.cim.model import CimError, CimValue, Ref
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.hyperv import ids
from simulator.hyperv.adopting import is_definition_of, tips
from simulator.hyperv.checkpoints import failure
from simulator.hyperv.compatibility import problems, too_new
from simulator.hyperv.definitions import Definition, DefinitionError
from simulator.hyperv.diskstore import named_system_files
from simulator.hyperv.export_service import absolute
from simulator.hyperv.jobs import Job, JobFailure
from simulator.hyperv.knobs import DESTROY_SYSTEM_JOB, END_TEST_JOB, IMPORT_JOB, REALIZE_JOB, VALIDATE_PLANNED_JOB
from simulator.hyperv.model import Machine
from simulator.hyperv.provider import machine_of
from simulator.windows.errors import FILE_NOT_FOUND, SHARING_VIOLATION, Win32Error

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

JOB_STARTED = 4096
FAILED, ACCESS_DENIED, INVALID_PARAMETER, INVALID_STATE = 32768, 32769, 32773, 32775
NOT_AVAILABLE, FILE_IN_USE, NOTHING_TO_IMPORT = 32777, 32779, 32784
_EXISTS = 0x800700B7
_VSSD = "Msvm_VirtualSystemSettingData"


def companions(definition: Definition, folder: str) -> tuple[str, ...]:
    """The files beside a definition that hold what is needed: a saved memory, the state of a virtual TPM."""
    named = named_system_files(folder, definition.id, definition.version, definition.state_bytes if definition.saved else None)
    sealed = definition.spec.tpm or definition.spec.shielded
    return tuple(path for path, _unused in named[1:] if (sealed if path.endswith(".vmgs") else definition.saved))


class PlannedSystems:
    """The methods of one host's management service around planned machines."""

    def __init__(self, role: HyperV) -> None:
        self._role = role
        self._number = 0

    # -- importing -------------------------------------------------------------------------------------------------

    def import_system_definition(self, call: Invocation) -> MethodOutcome:
        """ImportSystemDefinition: a job whose created element is the planned machine; disks stay where they are."""
        self._check_caller(call)
        path = absolute(call["SystemDefinitionFile"])
        folder = self._folder(call["SnapshotFolder"])
        fresh = call["GenerateNewSystemIdentifier"] is True

        def load() -> Machine:
            definition = self._definition(path)
            found = self._checkpoints(folder)
            machine = self._plan(definition, found, fresh)
            machine.companions = companions(definition, path.rpartition("\\")[0])
            return machine

        if self._role.knobs.refuse_at_once:
            try:
                load()
            except JobFailure as trouble:
                return {"ReturnValue": trouble.error_code}

        def run(job: Job) -> None:
            machine = load()
            self._role.planned[machine.id] = machine
            self._role.disks.new_machine()
            job.created.append(ids.system_ref(machine.id, machine.ref_class))

        return self._start(call, IMPORT_JOB, [], run)

    def import_snapshot_definitions(self, call: Invocation) -> MethodOutcome:
        """ImportSnapshotDefinitions: checkpoints whose files were missing are filled in from a folder."""
        machine = self._planned(call, "PlannedSystem")
        folder = absolute(call["SnapshotFolder"])

        def run(job: Job) -> None:
            self._still_planned(machine)
            found = {ident: one for ident, one in self._checkpoints(folder).items() if one.machine == machine.imported_as}
            for old, guid in machine.imported_checkpoints.items():
                known = machine.checkpoints.get(guid)
                if known is not None and known.kind == "missing" and old in found:
                    fresh = self._role.adoption.add_checkpoint(machine, guid, found[old], machine.imported_checkpoints)
                    for other in machine.checkpoints.values():
                        other.parent = fresh if other.parent is known else other.parent
                    machine.current_parent = fresh if machine.current_parent is known else machine.current_parent
                    job.created.append(ids.setting_ref(_VSSD, ids.settings_id(guid)))

        return self._start(call, IMPORT_JOB, [machine], run)

    def get_definition_file_summary_information(self, call: Invocation) -> MethodOutcome:
        """GetDefinitionFileSummaryInformation: name, GUID, time and notes of each file; one that is none fails the call (inferred)."""
        self._check_caller(call)
        given = call["DefinitionFiles"]
        paths = [absolute(path) for path in given] if isinstance(given, list) else []
        if not paths:
            raise ProviderRefusal(INVALID_PARAMETER, "no files")
        shape = self._role.shapes.of(ids.V2, "Msvm_SummaryInformation")
        rows: list[CimValue] = []
        for path in paths:
            try:
                one = self._role.adoption.read(path)
            except (Win32Error, DefinitionError):
                return {"ReturnValue": FAILED}
            rows.append(shape({"InstanceID": ids.settings_id(one.id), "Name": one.id, "ElementName": one.name, "Notes": one.notes,
                               "CreationTime": one.created_at}))
        return {"SummaryInformation": rows, "ReturnValue": 0}

    def _definition(self, path: str) -> Definition:
        """A definition that can be imported here. JobFailure 32779: it is in use; 32784: it is none, damaged, or of a later release."""
        if is_definition_of(self._role, path) is not None:
            raise JobFailure(FILE_IN_USE, f"The file '{path}' is in use.", hresult=0x80070020)
        try:
            definition = self._role.adoption.read(path)
        except DefinitionError as error:
            raise JobFailure(NOTHING_TO_IMPORT, f"No virtual machine to import was found: {error}") from error
        except Win32Error as error:
            raise self._unreadable(error) from error
        if definition.kind is not None:
            raise JobFailure(NOTHING_TO_IMPORT, "The file is the configuration of a checkpoint.")
        if too_new(self._role, definition.version) and self._role.knobs.newer_version == "not_imported":
            raise JobFailure(NOTHING_TO_IMPORT, f"The configuration version {definition.version} is not supported.")
        return definition

    @staticmethod
    def _unreadable(error: Win32Error) -> JobFailure:
        if error.code == SHARING_VIOLATION:
            return JobFailure(FILE_IN_USE, f"The file '{error.path}' is in use.", hresult=0x80070020)
        plain = failure(error)
        code = NOTHING_TO_IMPORT if error.code in (FILE_NOT_FOUND, 3) else plain.error_code
        return JobFailure(code, plain.message, hresult=plain.hresult)

    def _plan(self, definition: Definition, found: dict[str, Definition], fresh: bool) -> Machine:
        """The planned machine, known to nobody yet. JobFailure: the machine exists here, planned or not."""
        guid = self._new_guid() if fresh else definition.id.upper()
        if guid in self._role.machines or guid in self._role.planned:
            raise JobFailure(FAILED, "A virtual machine with the same identifier already exists.", hresult=_EXISTS)
        new_ids = {old: ids.derive(guid, old) if fresh else old for old in definition.tree}
        machine = self._role.adoption.machine(definition, guid, found, new_ids)
        machine.imported_as, machine.imported_checkpoints = definition.machine, new_ids
        if not self._role.knobs.imports_keep_notes:
            machine.notes = ""
        return machine

    def _new_guid(self) -> str:
        self._number += 1
        return ids.derive(self._role.name, "imported", self._number)

    def _folder(self, value: CimValue) -> str | None:
        return absolute(value) if value else None

    def _checkpoints(self, folder: str | None) -> dict[str, Definition]:
        """The definitions of checkpoints in a folder, by GUID; nothing in none."""
        if folder is None:
            return {}
        files, token = self._role.host.files, self._role.system
        found: dict[str, Definition] = {}
        try:
            names = [place.parts[-1] for place in files.children(files.resolve(folder, token=token), token)]
        except Win32Error as error:
            raise self._unreadable(error) from error
        for name in names:
            if name.lower().endswith((".vmcx", ".xml")):
                try:
                    one = self._role.adoption.read(f"{folder}\\{name}")
                except (Win32Error, DefinitionError):
                    continue  # it stays a missing checkpoint
                if one.kind is not None:
                    found[one.id] = one
        return found

    # -- validating, realising, destroying ---------------------------------------------------------------------------

    def validate_planned_system(self, call: Invocation) -> MethodOutcome:
        """ValidatePlannedSystem: a job whose errors are the list of what does not fit."""
        machine = self._planned(call, "PlannedSystem")

        def run(job: Job) -> None:
            self._still_planned(machine)
            self._refuse(machine)

        return self._start(call, VALIDATE_PLANNED_JOB, [machine], run)

    def _refuse(self, machine: Machine) -> None:
        found = problems(self._role, machine)
        if found:
            trouble = JobFailure(FAILED, "The virtual machine is not compatible with the host.")
            trouble.errors = found
            raise trouble

    def realize_planned_system(self, call: Invocation) -> MethodOutcome:
        """RealizePlannedSystem: a job whose created element is the machine; its configuration goes to the machine's folders."""
        machine = self._planned(call, "PlannedSystem")

        def run(job: Job) -> None:
            self._still_planned(machine)
            self._refuse(machine)
            machine.planned = False
            try:
                for configuration in machine.configurations():
                    self._role.disks.add_system_files(configuration)
            except Win32Error as error:
                for configuration in machine.configurations():
                    self._role.disks.remove_system_files(configuration)
                machine.planned = True
                raise failure(error) from error
            if not self._role.knobs.realising_keeps_notes:
                machine.notes = ""
            self._role.machines[machine.id] = self._role.planned.pop(machine.id)
            self._role.disks.new_machine()
            job.created.append(ids.system_ref(machine.id))

        return self._start(call, REALIZE_JOB, [machine], run)

    def destroy_system(self, call: Invocation) -> MethodOutcome:
        """DestroySystem: the machine is gone with its configuration and its memory; its disks stay (operations 3.5)."""
        self._check_caller(call)
        ref = call["AffectedSystem"]
        machine = machine_of(self._role, ref, call.caller) if isinstance(ref, Ref) else None
        if machine is None:
            raise ProviderRefusal(INVALID_PARAMETER, "no such machine")
        if machine.spec.clustered and self._role.cluster is not None:
            raise ProviderRefusal(INVALID_STATE, "its role in the cluster comes first")  # operations 1.6
        if machine.busy is not None or (not machine.planned and machine.state not in ("off", "saved", "critical")):
            raise ProviderRefusal(INVALID_STATE, "the machine runs, or something is done to it")
        if self._role.replica.drills.tests_of(machine):
            raise ProviderRefusal(INVALID_STATE, "a test machine hangs on the replica")
        kind = END_TEST_JOB if machine.replication_mode == 3 else DESTROY_SYSTEM_JOB
        return self._start(call, kind, [machine], lambda job: self._destroy(machine))

    def _destroy(self, machine: Machine) -> None:
        role = self._role
        here = role.planned if machine.planned else role.machines
        if here.get(machine.id) is not machine:
            raise JobFailure(NOT_AVAILABLE, "The virtual machine is not on this host any more.")
        if not machine.planned:
            role.disks.materialise_quietly(machine)
            for configuration in machine.configurations():
                role.disks.remove_system_files(configuration)
        guest = role.guests.pop(machine.id, None)
        if guest is not None:
            guest.close()
        role.remove_vm(machine.id)
        used = {id(link) for other in (*role.machines.values(), *role.planned.values()) for tip in tips(other) for link in tip.chain()}
        for tip in tips(machine):
            for link in tip.chain():
                if id(link) not in used:
                    role.forget_file(link.path)

    def request_state_change(self, call: Invocation) -> MethodOutcome:
        """Msvm_PlannedComputerSystem.RequestStateChange: 3 drops a saved state (operations F-39); nothing else is possible."""
        name = call.instance["Name"] if call.instance else None
        machine = self._role.planned.get(str(name).upper())
        if machine is None:
            raise CimError("not_found", "The planned virtual machine does not exist.", hresult=0x80041002)
        if call["RequestedState"] != 3 or machine.state != "saved" or machine.busy is not None:
            return {"ReturnValue": INVALID_STATE}
        self._role.host.note_change(f"{call.method} {machine.id}")
        machine.set_state("off", self._role.clock.now())
        return {"ReturnValue": 0}

    # -- common ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _check_caller(call: Invocation) -> None:
        if not call.caller.is_hyperv_administrator:
            raise ProviderRefusal(ACCESS_DENIED, "no administrator")

    def _planned(self, call: Invocation, parameter: str) -> Machine:
        self._check_caller(call)
        ref = call[parameter]
        machine = machine_of(self._role, ref, call.caller) if isinstance(ref, Ref) else None
        if machine is None or not machine.planned:
            raise ProviderRefusal(INVALID_PARAMETER, "no planned machine")
        if machine.busy is not None:
            raise ProviderRefusal(INVALID_STATE, "something is done to the machine")
        return machine

    def _still_planned(self, machine: Machine) -> None:
        if self._role.planned.get(machine.id) is not machine:
            raise JobFailure(NOT_AVAILABLE, "The planned virtual machine does not exist any more.")

    def _start(self, call: Invocation, job_type: int, machines: Sequence[Machine], effect: Callable[[Job], None]) -> MethodOutcome:
        """Start a job; meanwhile its machine is busy."""
        role = self._role
        for machine in machines:
            machine.busy = "changing"

        def free() -> None:
            for machine in machines:
                if machine.busy == "changing":
                    machine.busy = None

        def run() -> None:
            effect(job)
            free()

        job = role.jobs.start(job_type, role.knobs.job_seconds[job_type], [ids.system_ref(m.id, m.ref_class) for m in machines],
                              effect=run, undo=free, owner=call.caller.account.display, cancellable=job_type == IMPORT_JOB)
        role.host.note_change(f"{call.method} {job.id}")
        return {"Job": job.ref, "ReturnValue": JOB_STARTED}
