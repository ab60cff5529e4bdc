# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ModifyResourceSettings and RemoveResourceSettings: files of drives, connections, memory and processors (operations 3.5)."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simulator.cim.cimxml import parse_instance
from simulator.cim.errors import ProviderRefusal, SimulatorGap
from simulator.cim.model import CimValue, Instance, Ref
from simulator.cim.paths import parse_object_path
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.disks.layout import VhdxError
from simulator.hyperv import ids
from simulator.hyperv.adopting import base_of
from simulator.hyperv.checkpoints import failure
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.knobs import MODIFY_RESOURCES_JOB, REMOVE_RESOURCES_JOB
from simulator.hyperv.model import Disk, Machine
from simulator.hyperv.provider import key_of, same
from simulator.hyperv.resources import (
    GENERATORS,
    MEMORY,
    NIC,
    NIC_CONNECTION,
    PROCESSOR,
    RASD,
    SASD,
    TABLES,
    Device,
    ResourceTable,
    switch_id,
)
from simulator.windows.errors import Win32Error

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

FAILED, ACCESS_DENIED, INVALID_PARAMETER, INVALID_STATE = 32768, 32769, 32773, 32775
ENABLED, DISABLED = 2, 3
_CORRUPT = 0xC03A0005
Step = Callable[[], None]


class ResourceService:
    """The two methods of one host's management service. Several settings of one call are all checked before any is changed."""

    def __init__(self, role: HyperV) -> None:
        self._role = role
        self._tables: dict[str, ResourceTable] = {kind.class_name: kind(role) for kind in TABLES
                                                  if role.shapes.has(ids.V2, kind.class_name)}

    def modify(self, call: Invocation) -> MethodOutcome:
        """ModifyResourceSettings: 0 up to 2016, a job from 2019 on, as with the settings of systems (inferred)."""
        texts = self._given(call)
        steps, machines, refs = [], [], []
        for text in texts:
            settings = parse_instance(str(text), self._role.schema, ids.V2, expected="CIM_ResourceAllocationSettingData")
            device = self._device(settings.class_name, settings["InstanceID"], call)
            machines.append(self._free(device))
            refs.append(device.ref)
            steps += self._plan(device, settings)
        outcome = self._carry_out(call, MODIFY_RESOURCES_JOB, machines, steps)
        return {**outcome, "ResultingResourceSettings": list(refs)} if outcome["ReturnValue"] == 0 else outcome

    def remove(self, call: Invocation) -> MethodOutcome:
        """RemoveResourceSettings: what is in a drive, a drive, an adapter or its connection. Files stay."""
        machines, steps = [], []
        for ref in self._given(call):
            device = self._device(ref.class_name, key_of(ref, "InstanceID"), call) if isinstance(ref, Ref) else None
            if device is None:
                raise ProviderRefusal(INVALID_PARAMETER, "no reference")
            machines.append(self._free(device))
            steps.append(self._removal(device))
        return self._carry_out(call, REMOVE_RESOURCES_JOB, machines, steps)

    # -- common ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _given(call: Invocation) -> list[CimValue]:
        if not call.caller.is_hyperv_administrator:
            raise ProviderRefusal(ACCESS_DENIED, "no administrator")
        given = call["ResourceSettings"]
        if not isinstance(given, list) or not given:
            raise ProviderRefusal(INVALID_PARAMETER, "no settings")
        return given

    def _device(self, class_name: str, instance_id: CimValue, call: Invocation) -> Device:
        generator = next((GENERATORS[name] for name in GENERATORS if name.lower() == class_name.lower()), None)
        if generator is None:
            raise SimulatorGap(f"settings of {class_name} are not changed here")
        configuration = self._role.configuration(ids.owner_of(str(instance_id)), call.caller)
        found = [] if configuration is None else [one for one in generator(configuration) if same(one.instance_id, instance_id)]
        if not found:
            raise ProviderRefusal(INVALID_PARAMETER, f"no settings {instance_id}")
        return found[0]

    @staticmethod
    def _free(device: Device) -> Machine:
        machine = device.configuration.machine
        if machine.busy is not None or (device.configuration.checkpoint is not None and not machine.planned):
            raise ProviderRefusal(INVALID_STATE, "busy, or of a checkpoint")
        return machine

    def _carry_out(self, call: Invocation, job_type: int, machines: list[Machine], steps: list[Step]) -> MethodOutcome:
        self._role.host.note_change(call.method)

        def run() -> None:
            for step in steps:
                step()
            for machine in machines:
                machine.config_changed = self._role.clock.now()
                self._role.disks.hold(machine)

        if self._role.os_version in ("2012R2", "2016"):
            try:
                run()
            except JobFailure as trouble:
                return {"ReturnValue": trouble.error_code}
            return {"ReturnValue": 0}
        affected = [ids.system_ref(machine.id, machine.ref_class) for machine in dict.fromkeys(machines)]
        job = self._role.jobs.start(job_type, self._role.knobs.job_seconds[job_type], affected, effect=run,
                                    owner=call.caller.account.display, cancellable=False)
        return {"Job": job.ref, "ReturnValue": 4096}

    # -- changing --------------------------------------------------------------------------------------------------

    def _plan(self, device: Device, settings: Instance) -> list[Step]:
        """The steps for what differs from the present values; SimulatorGap for a property that nothing here changes."""
        present = self._tables[device.class_name].values(device)
        changed = {name: value for name, value in settings.values.items()
                   if value is not None and name != "InstanceID" and not same(present.get(name), value)}
        machine = device.configuration.machine
        if device.class_name == SASD:
            return self._disk_steps(device, changed)
        if device.class_name == NIC_CONNECTION:
            return self._connection_steps(device, changed)
        if device.class_name in (MEMORY, PROCESSOR) and set(changed) <= {"VirtualQuantity", "Reservation", "Limit"}:
            if machine.live:
                raise ProviderRefusal(INVALID_STATE, "the machine runs")
            quantity = changed.get("VirtualQuantity")
            name = "memory_mb" if device.class_name == MEMORY else "processors"
            return [] if quantity is None else [lambda: self._hardware(machine, **{name: quantity})]
        if changed:
            raise SimulatorGap(f"{', '.join(sorted(changed))} of {device.class_name} is not changed here")
        return []

    @staticmethod
    def _hardware(machine: Machine, **values: Any) -> None:
        machine.spec = replace(machine.spec, **values)

    def _disk_steps(self, device: Device, changed: Mapping[str, CimValue]) -> list[Step]:
        if not changed:
            return []
        if set(changed) != {"HostResource"}:
            raise SimulatorGap(f"{', '.join(sorted(changed))} of a disk is not changed here")
        given = changed["HostResource"]
        if not isinstance(given, list) or len(given) != 1 or not given[0]:
            raise ProviderRefusal(INVALID_PARAMETER, "HostResource holds one path")
        if device.configuration.machine.live and device.disk is not None and device.disk.base is not None:
            raise ProviderRefusal(INVALID_STATE, "the machine runs")
        return [lambda: self._point(device, str(given[0]))]

    def _point(self, device: Device, path: str) -> None:
        """A drive has another file from now on, which must be there and be a disk."""
        disk, machine = device.disk, device.configuration.machine
        assert disk is not None
        try:
            self._role.adoption.check(path)
            if disk.base is not None or disk.medium == "vhd":
                self._role.disks.facts(path)
        except Win32Error as error:
            raise failure(error) from error
        except (VhdxError, ValueError) as error:
            raise JobFailure(FAILED, f"The virtual hard disk '{path}' is corrupt.", hresult=_CORRUPT) from error
        if disk.medium not in ("vhd", "pmem"):
            self._replace(machine, disk, replace(disk, spec=replace(disk.spec, path=path)))
            return
        leaf = self._role.adoption.file(path)
        checkpoint = device.configuration.checkpoint
        if checkpoint is not None:
            checkpoint.files[disk.index] = leaf
        else:
            disk.leaf, disk.base = leaf, base_of(leaf)

    @staticmethod
    def _replace(machine: Machine, disk: Disk, other: Disk) -> None:
        machine.disks[:] = [other if one is disk else one for one in machine.disks]

    def _connection_steps(self, device: Device, changed: Mapping[str, CimValue]) -> list[Step]:
        unknown = set(changed) - {"EnabledState", "HostResource", "LastKnownSwitchName"}
        if unknown:
            raise SimulatorGap(f"{', '.join(sorted(unknown))} of a connection is not changed here")
        state, given = changed.get("EnabledState"), changed.get("HostResource")
        if state not in (None, ENABLED, DISABLED):
            raise ProviderRefusal(INVALID_PARAMETER, f"EnabledState {state}")
        nic = device.nic
        assert nic is not None
        switch = nic.switch
        if given is not None:
            switch = self._switch(given)
        if state == DISABLED:
            switch = None
        elif state == ENABLED and switch is None:
            raise ProviderRefusal(INVALID_PARAMETER, "connected to nothing")
        if switch == nic.switch:
            return []
        return [lambda: self._nic(device, switch=switch, known_switch=switch or nic.switch or nic.known_switch)]

    def _switch(self, given: CimValue) -> str | None:
        """The switch that HostResource names by its object path; None for an empty list."""
        if not isinstance(given, list) or len(given) > 1:
            raise ProviderRefusal(INVALID_PARAMETER, "HostResource holds one path")
        if not given:
            return None
        ref = parse_object_path(str(given[0]))
        for name in self._role.switches:
            if ref.class_name.lower() == "msvm_virtualethernetswitch" and same(key_of(ref, "Name"), switch_id(self._role.name, name)):
                return name
        raise ProviderRefusal(INVALID_PARAMETER, "no such switch")

    @staticmethod
    def _nic(device: Device, **values: Any) -> None:
        machine = device.configuration.machine
        nics = list(machine.spec.nics)
        nics[device.number] = replace(nics[device.number], **values)
        machine.spec = replace(machine.spec, nics=tuple(nics))

    # -- removing --------------------------------------------------------------------------------------------------

    def _removal(self, device: Device) -> Step:
        machine, disk = device.configuration.machine, device.disk
        if device.configuration.checkpoint is not None:
            raise ProviderRefusal(INVALID_STATE, "of a checkpoint")
        if device.class_name == NIC_CONNECTION:
            return lambda: self._nic(device, switch=None, connection=False)
        if device.class_name == NIC:
            return lambda: self._nic(device, switch=None, removed=True)
        if disk is None or device.class_name not in (SASD, RASD):
            raise SimulatorGap(f"{device.class_name} of this kind is not removed here")
        if machine.live and machine.spec.generation == 1 and disk.controller == "ide":
            raise ProviderRefusal(INVALID_STATE, "the machine runs")
        if device.class_name == RASD:
            return lambda: self._drop(machine, disk)
        if disk.medium == "dvd":
            return lambda: self._replace(machine, disk, replace(disk, spec=replace(disk.spec, medium="empty_dvd", path=None)))
        return lambda: self._drop(machine, disk)

    @staticmethod
    def _drop(machine: Machine, disk: Disk) -> None:
        """The drive goes with what is in it (of a virtual disk both go together: inferred)."""
        machine.disks[:] = [one for one in machine.disks if one is not disk]
