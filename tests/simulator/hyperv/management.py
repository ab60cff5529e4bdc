# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Methods of Msvm_VirtualSystemManagementService other than the summary: settings, sizes, error texts (wire 3.3, 3.4)."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulator.cim.cimxml import parse_instance
from simulator.cim.errors import ProviderRefusal, SimulatorGap
from simulator.cim.model import CimValue, Instance, Ref
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.cim.xmltext import parse
from simulator.hyperv import ids
from simulator.hyperv.diskstore import system_files
from simulator.hyperv.export_service import absolute
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.model import Configuration, Machine
from simulator.hyperv.provider import configuration_of

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

FAILED, ACCESS_DENIED, INVALID_PARAMETER, INVALID_STATE, WRONG_TYPE = 32768, 32769, 32773, 32775, 32776
MODIFY_JOB = 2

_IDENTITY = {"instanceid", "caption", "description", "creationtime", "virtualsystemidentifier", "virtualsystemtype",
             "virtualsystemsubtype", "version", "configurationid", "parent", "issaved", "isautomaticsnapshot"}
"""Sent along by callers that modify a fetched instance; a host takes no notice of them."""

_ROOTS = ("ConfigurationDataRoot", "SnapshotDataRoot", "SwapFileDataRoot", "SuspendDataRoot", "LogDataRoot", "GuestStateDataRoot")
"""The folders of a planned machine."""


class Management:
    """The methods of one host's service."""

    def __init__(self, role: HyperV) -> None:
        self._role = role

    def modify_system_settings(self, call: Invocation) -> MethodOutcome:
        """Change name, notes or checkpoint rules of a machine or checkpoint. 0 up to 2016, a job from 2019 on (wire 3.4)."""
        if not call.caller.is_hyperv_administrator:
            return {"ReturnValue": ACCESS_DENIED}
        text = call["SystemSettings"]
        if not isinstance(text, str) or not text:
            return {"ReturnValue": INVALID_PARAMETER}
        try:
            settings = parse_instance(text, self._role.schema, ids.V2, expected="Msvm_VirtualSystemSettingData")
            configuration = self._target(settings, call)
            if configuration.machine.busy == "exporting":  # locked for its whole duration (operations 3.2)
                return {"ReturnValue": INVALID_STATE}
            change = self._plan(configuration, settings)
        except ProviderRefusal as refusal:
            if refusal.return_value != FAILED:
                return {"ReturnValue": refusal.return_value}
            return self._failing_job(refusal, call)
        return self._carry_out(call, configuration.machine, change)

    def modify_disk_merge_settings(self, call: Invocation) -> MethodOutcome:
        """Hold up the merges of a machine, or let them go on (operations 2.6)."""
        if not call.caller.is_hyperv_administrator:
            return {"ReturnValue": ACCESS_DENIED}
        text = call["SettingData"]
        if not isinstance(text, str) or not text:
            return {"ReturnValue": INVALID_PARAMETER}
        try:
            settings = parse_instance(text, self._role.schema, ids.V2, expected="Msvm_DiskMergeSettingData")
            configuration = self._target(settings, call)
        except ProviderRefusal as refusal:
            return {"ReturnValue": refusal.return_value}
        machine, state = configuration.machine, settings["EnabledState"]
        if configuration.checkpoint is not None or state not in (0, 1, None):
            return {"ReturnValue": INVALID_PARAMETER}

        def change() -> None:
            if state is None:
                return
            machine.merge_paused = state == 0
            if machine.merge_paused:
                self._role.merges.pause(machine)
            else:
                self._role.merges.due(machine)

        return self._carry_out(call, machine, change)

    def _carry_out(self, call: Invocation, machine: Machine, change: Callable[[], None]) -> MethodOutcome:
        self._role.host.note_change(call.method)
        if self._role.os_version in ("2012R2", "2016"):
            change()
            return {"ReturnValue": 0}
        job = self._role.jobs.start(MODIFY_JOB, 0.5, [ids.system_ref(machine.id, machine.ref_class)], effect=change,
                                    owner=call.caller.account.display, cancellable=False)
        return {"Job": job.ref, "ReturnValue": 4096}

    def _failing_job(self, refusal: ProviderRefusal, call: Invocation) -> MethodOutcome:
        """A value in a form the provider cannot read: the job starts and ends in state 10 with 32768 (wire 3.3)."""
        def fail() -> None:
            raise JobFailure(FAILED, refusal.message, hresult=0x80020005)

        job = self._role.jobs.start(MODIFY_JOB, 0.5, [], effect=fail, owner=call.caller.account.display)
        return {"Job": job.ref, "ReturnValue": 4096}

    def _target(self, settings: Instance, call: Invocation) -> Configuration:
        instance_id = settings["InstanceID"]
        if not isinstance(instance_id, str):
            raise ProviderRefusal(INVALID_PARAMETER, "no InstanceID")
        found = self._role.configuration(ids.owner_of(instance_id), call.caller)
        if found is None or found.instance_id.lower() != instance_id.lower():
            raise ProviderRefusal(INVALID_PARAMETER, f"no settings {instance_id}")
        return found

    def _plan(self, configuration: Configuration, settings: Instance) -> Callable[[], None]:
        """Check every changed property before anything happens; what is left out stays as it is."""
        steps: list[Callable[[], None]] = []
        for name, value in settings.values.items():
            if value is None or name.lower() in _IDENTITY:
                continue
            step = self._step(configuration, name, value)
            if step is not None:
                steps.append(step)

        def apply() -> None:
            machine, checkpoint = configuration.machine, configuration.checkpoint
            if checkpoint is not None and machine.checkpoints.get(checkpoint.id) is not checkpoint:
                raise JobFailure(FAILED, "The checkpoint does not exist any more.", hresult=0x80070490)
            for step in steps:
                step()
            machine.config_changed = self._role.clock.now()

        return apply

    def _step(self, configuration: Configuration, name: str, value: CimValue) -> Callable[[], None] | None:
        machine, checkpoint = configuration.machine, configuration.checkpoint
        owner = checkpoint or machine
        if name == "ElementName":
            if not isinstance(value, str) or not value or len(value) > 100:
                raise ProviderRefusal(INVALID_PARAMETER, "a name has 1 to 100 characters")
            return lambda: setattr(owner, "name", value)
        if name == "Notes":
            if not isinstance(value, list):
                raise ProviderRefusal(WRONG_TYPE, "Notes is an array")
            first = value[0] if value else ""
            return lambda: setattr(owner, "notes", first or "")  # only the first element is stored (wire 3.3)
        if checkpoint is not None:
            raise ProviderRefusal(INVALID_PARAMETER, f"{name} of a checkpoint cannot be changed")
        if name == "UserSnapshotType":
            if value not in (2, 3, 4, 5):
                raise ProviderRefusal(INVALID_PARAMETER, f"UserSnapshotType {value}")
            return lambda: setattr(machine, "policy", value)
        if name == "AutomaticSnapshotsEnabled":
            return lambda: setattr(machine, "automatic_checkpoints", value)
        if name == "IncrementalBackupEnabled":
            return lambda: setattr(machine, "incremental_backup", value)
        if name == "SnapshotDataRoot" and not machine.planned:
            return self._snapshot_root(configuration, value)
        if name in _ROOTS and machine.planned:
            return self._planned_root(machine, name, absolute(value))
        raise SimulatorGap(f"ModifySystemSettings of {name} is not simulated")

    @staticmethod
    def _planned_root(machine: Machine, name: str, path: str) -> Callable[[], None]:
        """Where a planned machine will have its files (operations 3.5)."""
        own = {"ConfigurationDataRoot": "folder", "SnapshotDataRoot": "snapshot_folder"}.get(name)
        if own is not None:
            return lambda: setattr(machine, own, path)
        return lambda: machine.roots.update({name: path})

    @staticmethod
    def _snapshot_root(configuration: Configuration, value: CimValue) -> Callable[[], None] | None:
        machine = configuration.machine
        if value == machine.snapshot_folder:
            return None
        if machine.checkpoints:  # operations 2.3 precondition 6
            raise ProviderRefusal(INVALID_STATE, "checkpoints exist")
        return lambda: setattr(machine, "snapshot_folder", value)

    def get_size_of_system_files(self, call: Invocation) -> MethodOutcome:
        """Bytes of the configuration files of a machine or checkpoint."""
        ref = call["Vssd"]
        found = configuration_of(self._role, ref, call.caller) if isinstance(ref, Ref) else None
        if found is None:
            return {"ReturnValue": INVALID_PARAMETER}
        return {"Size": sum(size for _unused, size in system_files(found)), "ReturnValue": 0}

    def format_error(self, call: Invocation) -> MethodOutcome:
        """Readable text of embedded errors, one line each."""
        errors = call["Errors"]
        try:
            lines = [_message(str(text)) for text in (errors if isinstance(errors, list) else [])]
        except ValueError:
            return {"ReturnValue": INVALID_PARAMETER}
        return {"ErrorMessage": "\r\n".join(lines), "ReturnValue": 0}


def _message(text: str) -> str:
    """The Message of an embedded Msvm_Error. ValueError: it is none. Any XML escape is taken: these texts come from the host itself."""
    root = parse(text)
    if root.tag != "INSTANCE" or root.get("CLASSNAME", "").lower() != "msvm_error":
        raise ValueError("no Msvm_Error")
    return next((p.findtext("VALUE") or "" for p in root.iter("PROPERTY") if p.get("NAME") == "Message"), "")
