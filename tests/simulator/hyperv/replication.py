# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hyper-V Replica as seen on one side, and reference points (operations 4.1, 7.1, 7.4)."""
from __future__ import annotations

from collections.abc import Iterable

from simulator.cim.model import CimValue, Ref
from simulator.hyperv import ids
from simulator.hyperv.model import Configuration, Machine, Relation
from simulator.hyperv.provider import ConfigurationTable, MachineTable
from simulator.hyperv.resources import media
from simulator.hyperv.spec import ReferencePointSpec
from simulator.hyperv.systems import NEVER


def relation_id(machine: Machine, relation: Relation) -> str:
    r"""``Microsoft:<machine>\HVR\<n>``: 0 the primary relation, 1 the extended one (operations 7.1)."""
    return ids.settings_id(machine.id, "HVR", relation.index)


class Relationships(ConfigurationTable[tuple[Machine, Relation]]):
    """Msvm_ReplicationRelationship."""

    class_name = "Msvm_ReplicationRelationship"

    def of(self, configuration: Configuration) -> Iterable[tuple[Machine, Relation]]:
        """The relations of a machine."""
        machine = configuration.machine
        return () if configuration.checkpoint or machine.planned else [(machine, r) for r in machine.relations]

    def values(self, item: tuple[Machine, Relation]) -> dict[str, CimValue]:
        """One row."""
        machine, relation = item
        return {
            "InstanceID": relation_id(machine, relation), "ElementName": machine.name, "Caption": "Replication Relationship",
            "Description": "Replication relationship of a virtual machine.", "ReplicationState": relation.state,
            "ReplicationHealth": relation.health, "LastReplicationType": 1, "LastReplicationTime": relation.last_time,
            "LastApplyTime": relation.last_time if machine.replication_mode in (2, 4) else NEVER,
            "LastApplicationConsistentReplicationTime": relation.last_application_time or NEVER, "FailedOverReplicationType": 0,
        }


class RelationSettings(ConfigurationTable[tuple[Machine, Relation]]):
    """Msvm_ReplicationSettingData, with the ids of the relations."""

    class_name = "Msvm_ReplicationSettingData"

    def of(self, configuration: Configuration) -> Iterable[tuple[Machine, Relation]]:
        """As the relations."""
        machine = configuration.machine
        return () if configuration.checkpoint or machine.planned else [(machine, r) for r in machine.relations]

    def values(self, item: tuple[Machine, Relation]) -> dict[str, CimValue]:
        """One row."""
        machine, relation = item
        return {
            "InstanceID": relation_id(machine, relation), "ElementName": machine.name, "VirtualSystemIdentifier": machine.id,
            "VirtualSystemType": "Microsoft:Hyper-V:Replica", "RecoveryConnectionPoint": relation.spec.connection_point,
            "RecoveryHostSystem": relation.spec.connection_point, "RecoveryServerPortNumber": 80, "AuthenticationType": 1,
            "CompressionEnabled": True, "ReplicationInterval": relation.spec.interval_seconds, "RecoveryHistory": 0,
            "ReplicationProvider": relation.spec.provider, "ReplicateHostKvpItems": True, "BypassProxyServer": False,
        }


def relation_ref(machine: Machine, relation: Relation) -> Ref:
    """The reference of a relation."""
    return ids.setting_ref("Msvm_ReplicationRelationship", relation_id(machine, relation))


def point_ref(machine: Machine, point: ReferencePointSpec) -> Ref:
    """The reference of a reference point."""
    return Ref(ids.V2, "Msvm_VirtualSystemReferencePoint",
               {"InstanceID": point_id(machine, point), "VirtualSystemIdentifier": machine.id})


def point_id(machine: Machine, point: ReferencePointSpec) -> str:
    """InstanceID of a reference point."""
    return ids.settings_id((point.point_id or ids.derive(machine.id, "reference-point", point.key)).upper())


class ReferencePoints(MachineTable[tuple[Machine, ReferencePointSpec]]):
    """Msvm_VirtualSystemReferencePoint (2016 and later)."""

    class_name = "Msvm_VirtualSystemReferencePoint"
    machine_property = "VirtualSystemIdentifier"

    def of(self, machine: Machine) -> Iterable[tuple[Machine, ReferencePointSpec]]:
        """The points of a machine."""
        return [(machine, point) for point in machine.reference_points]

    def values(self, item: tuple[Machine, ReferencePointSpec]) -> dict[str, CimValue]:
        """One row; the two arrays are parallel (operations 4.1)."""
        machine, point = item
        disks = [d.instance_id for d in media(Configuration(machine, None)) if d.disk and d.disk.medium == "vhd"]
        tracking = [f"rctX:{ids.derive(machine.id, point.key, d).lower()}:00000001" for d in disks]
        return {
            "InstanceID": point_id(machine, point), "VirtualSystemIdentifier": machine.id, "ElementName": machine.name,
            "Caption": "Reference Point", "ReferencePointType": 2, "ConsistencyLevel": point.consistency, "HasAssociatedData": False,
            "VirtualDiskIdentifiers": list(disks), "ResilientChangeTrackingIdentifiers": list(tracking),
        }
