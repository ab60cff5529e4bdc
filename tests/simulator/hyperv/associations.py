# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The associations of root/virtualization/v2, each followed from both ends without a scan (operations 0.4, 1.1, 1.3, 1.4, 2.4)."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from simulator.cim.model import Caller, CimValue, Instance, Ref
from simulator.hyperv import ids
from simulator.hyperv.integration import KINDS, live_refs, settings_ref
from simulator.hyperv.model import Configuration, Machine
from simulator.hyperv.provider import Association, Pair, configuration_of, key_of, machine_of
from simulator.hyperv.reference_points import point_ref
from simulator.hyperv.replica import adapters
from simulator.hyperv.replica.tables import relation_ref, relation_settings_ref, relations_of, settings_of
from simulator.hyperv.resources import GENERATORS
from simulator.hyperv.settings import security_id

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

VSSD = "Msvm_VirtualSystemSettingData"
OfMachine = Callable[[Machine], Iterable[Pair]]


def machine_ref(machine: Machine) -> Ref:
    """The reference of a machine, realised or planned."""
    return ids.system_ref(machine.id, machine.ref_class)


def settings(machine: Machine) -> Ref:
    """The reference of a machine's own settings."""
    return ids.setting_ref(VSSD, ids.settings_id(machine.id))


def _checkpoint_ref(guid: str) -> Ref:
    return ids.setting_ref(VSSD, ids.settings_id(guid))


def _define_state(machine: Machine) -> Iterator[Pair]:
    yield machine_ref(machine), settings(machine)
    for relation in relations_of(machine):
        yield relation_ref(machine, relation), relation_settings_ref(machine, relation)


def _snapshots(machine: Machine) -> Iterator[Pair]:
    for checkpoint in machine.checkpoints.values():
        yield machine_ref(machine), _checkpoint_ref(checkpoint.id)


def _most_current(machine: Machine) -> Iterator[Pair]:
    if machine.current_parent is not None:
        yield machine_ref(machine), _checkpoint_ref(machine.current_parent.id)


def _last_applied(machine: Machine) -> Iterator[Pair]:
    if machine.last_applied is not None:
        yield _checkpoint_ref(machine.last_applied.id), machine_ref(machine)


def _parent_child(machine: Machine) -> Iterator[Pair]:
    for checkpoint in machine.checkpoints.values():
        if checkpoint.parent is not None:
            yield _checkpoint_ref(checkpoint.parent.id), _checkpoint_ref(checkpoint.id)
    if machine.current_parent is not None:
        yield _checkpoint_ref(machine.current_parent.id), settings(machine)


def _components(configuration: Configuration) -> Iterator[Pair]:
    group = ids.setting_ref(VSSD, configuration.instance_id)
    for generator in GENERATORS.values():
        for device in generator(configuration):
            yield group, device.ref
    for kind in KINDS:
        yield group, settings_ref(configuration, kind)


def _all_components(machine: Machine) -> Iterator[Pair]:
    for configuration in machine.configurations():
        yield from _components(configuration)


def _devices(machine: Machine) -> Iterator[Pair]:
    for ref in live_refs(machine):
        yield machine_ref(machine), ref


def _export(machine: Machine) -> Iterator[Pair]:
    if not machine.planned:
        yield machine_ref(machine), ids.setting_ref("Msvm_VirtualSystemExportSettingData", ids.settings_id(machine.id))


def _relations(machine: Machine) -> Iterator[Pair]:
    for relation in relations_of(machine):
        yield machine_ref(machine), relation_ref(machine, relation)


def _replica_settings(machine: Machine) -> Iterator[Pair]:
    for relation in settings_of(machine):
        yield machine_ref(machine), relation_settings_ref(machine, relation)


def _failover_adapters(machine: Machine) -> Iterator[Pair]:
    for device in adapters.of_machine(machine):
        yield device.ref, adapters.settings_ref(device)


def _points(machine: Machine) -> Iterator[Pair]:
    for point in machine.reference_points:
        yield machine_ref(machine), point_ref(machine, point)


def _security(machine: Machine) -> Iterator[Pair]:
    for configuration in machine.configurations():
        yield ids.setting_ref(VSSD, configuration.instance_id), ids.setting_ref("Msvm_SecuritySettingData", security_id(configuration))


class Associations:
    """Builds the association providers of one host."""

    def __init__(self, role: HyperV) -> None:
        self._role = role

    def _everything(self, of: OfMachine) -> Callable[[Caller], Iterator[Pair]]:
        def pairs(caller: Caller) -> Iterator[Pair]:
            for machine in (*self._role.visible(caller), *self._role.visible_planned(caller)):
                yield from of(machine)
        return pairs

    def _owner(self, ref: Ref, caller: Caller) -> Machine | None:
        """The machine that an end belongs to, whatever kind of end it is."""
        found = machine_of(self._role, ref, caller)
        if found is not None:
            return found
        instance_id = key_of(ref, "InstanceID") or key_of(ref, "DeviceID") or ""
        configuration = self._role.configuration(ids.owner_of(instance_id), caller)
        if configuration is not None:
            return configuration.machine
        owner = key_of(ref, "VirtualSystemIdentifier") or key_of(ref, "SystemName")
        return None if owner is None else self._role.machine(owner, caller)

    def _of_machine(self, class_name: str, roles: tuple[str, str], of: OfMachine,
                    extra: Mapping[str, CimValue] | None = None) -> Association:
        def from_end(position: int) -> Callable[[Ref, Caller], Iterable[Pair]]:
            def follow(ref: Ref, caller: Caller) -> list[Pair]:
                machine = self._owner(ref, caller)
                return [] if machine is None else [pair for pair in of(machine) if pair[position] == ref]
            return follow
        return Association(self._role, class_name, roles, self._everything(of), from_end(0), from_end(1), extra)

    def _setting_components(self) -> Association:
        def from_group(ref: Ref, caller: Caller) -> Iterable[Pair]:
            configuration = configuration_of(self._role, ref, caller)
            return () if configuration is None else _components(configuration)

        def from_part(ref: Ref, caller: Caller) -> Iterable[Pair]:
            configuration = self._role.configuration(ids.owner_of(key_of(ref, "InstanceID") or ""), caller)
            return () if configuration is None else [pair for pair in _components(configuration) if pair[1] == ref]

        return Association(self._role, "Msvm_VirtualSystemSettingDataComponent", ("GroupComponent", "PartComponent"),
                           self._everything(_all_components), from_group, from_part)

    def _job_elements(self, class_name: str, job_class: str) -> Association:
        jobs = self._role.jobs

        def rows(caller: Caller) -> list[tuple[Ref, Ref, int]]:
            if not caller.is_hyperv_administrator:
                return []
            return [(element, job.ref, effect) for job in jobs.all() if job.class_name == job_class for element, effect in job.effects()]

        return JobElements(self._role, class_name, rows)

    def all(self) -> dict[str, Association]:
        """Class name -> provider; the caller registers those that the release has."""
        current = {"IsCurrent": 1, "IsDefault": 1, "IsNext": 0}
        antecedent = ("Antecedent", "Dependent")
        element = ("ManagedElement", "SettingData")
        return {
            "Msvm_SettingsDefineState": self._of_machine("Msvm_SettingsDefineState", element, _define_state),
            "Msvm_VirtualSystemSettingDataComponent": self._setting_components(),
            "Msvm_SnapshotOfVirtualSystem": self._of_machine("Msvm_SnapshotOfVirtualSystem", antecedent, _snapshots),
            "Msvm_MostCurrentSnapshotInBranch": self._of_machine("Msvm_MostCurrentSnapshotInBranch", antecedent, _most_current),
            "Msvm_LastAppliedSnapshot": self._of_machine("Msvm_LastAppliedSnapshot", antecedent, _last_applied),
            "Msvm_ParentChildSettingData": self._of_machine("Msvm_ParentChildSettingData", antecedent, _parent_child),
            "Msvm_SystemDevice": self._of_machine("Msvm_SystemDevice", ("GroupComponent", "PartComponent"), _devices),
            "Msvm_SystemExportSettingData": self._of_machine("Msvm_SystemExportSettingData", element, _export, dict(current)),
            "Msvm_SystemReplicationRelationship": self._of_machine("Msvm_SystemReplicationRelationship", antecedent, _relations),
            "Msvm_ElementSettingData": self._element_settings(),
            "Msvm_EthernetPortFailoverSettingDataComponent": self._of_machine(
                "Msvm_EthernetPortFailoverSettingDataComponent", ("GroupComponent", "PartComponent"), _failover_adapters),
            "Msvm_ReplicaSystemDependency": self._dependencies(),
            "Msvm_AffectedJobElement": self._job_elements("Msvm_AffectedJobElement", "Msvm_ConcreteJob"),
            "Msvm_AffectedStorageJobElement": self._job_elements("Msvm_AffectedStorageJobElement", "Msvm_StorageJob"),
        }

    def newer(self) -> dict[str, tuple[str, Callable[[], Association]]]:
        """Associations to classes of 2016 and later: class name -> (the class that must exist, what makes the provider)."""
        return {
            "Msvm_ReferencePointOfVirtualSystem": ("Msvm_VirtualSystemReferencePoint", self._reference_points),
        }

    def _dependencies(self) -> Association:
        """Replicas and their test machines."""
        def pairs(caller: Caller) -> Iterator[Pair]:
            for machine in self._role.visible(caller):
                for test in self._role.replica.drills.tests_of(machine) if machine.pins else ():
                    yield machine_ref(machine), machine_ref(test)

        def follow(position: int) -> Callable[[Ref, Caller], Iterable[Pair]]:
            return lambda ref, caller: [pair for pair in pairs(caller) if pair[position] == ref]

        return Association(self._role, "Msvm_ReplicaSystemDependency", ("Antecedent", "Dependent"), pairs, follow(0), follow(1))

    def _reference_points(self) -> Association:
        return self._of_machine("Msvm_ReferencePointOfVirtualSystem", ("Antecedent", "Dependent"), _points)

    def _element_settings(self) -> Association:
        # The reference names no association for these settings; this general one takes any classes (client; inferred for security).
        extra: dict[str, CimValue] = {"IsCurrent": 1, "IsDefault": 1, "IsNext": 0}
        known = self._role.shapes.has(ids.V2, "Msvm_SecuritySettingData")

        def pairs(machine: Machine) -> Iterator[Pair]:
            yield from _replica_settings(machine)
            if known:
                yield from _security(machine)

        return self._of_machine("Msvm_ElementSettingData", ("ManagedElement", "SettingData"), pairs, extra)


class JobElements(Association):
    """Which job works on what; rows with effect 5 appear when the job has completed (wire 3.4)."""

    def __init__(self, role: HyperV, class_name: str, rows: Callable[[Caller], list[tuple[Ref, Ref, int]]]) -> None:
        self._rows = rows
        self._shape = role.shapes.of(ids.V2, class_name)
        super().__init__(role, class_name, ("AffectedElement", "AffectingElement"), lambda caller: (), lambda r, c: (), lambda r, c: ())

    def instances(self, caller: Caller) -> Iterator[Instance]:
        """Every row."""
        return (self._row(*row) for row in self._rows(caller))

    def where(self, conditions: Mapping[str, CimValue], caller: Caller) -> list[Instance] | None:
        """The rows of an element or a job."""
        wanted = [(0, conditions.get("AffectedElement")), (1, conditions.get("AffectingElement"))]
        given = [(at, ref) for at, ref in wanted if isinstance(ref, Ref)]
        return [self._row(*row) for row in self._rows(caller) if all(row[at] == ref for at, ref in given)]

    def _row(self, element: Ref, job: Ref, effect: int) -> Instance:
        return self._shape({"AffectedElement": element, "AffectingElement": job, "ElementEffects": [effect]})
