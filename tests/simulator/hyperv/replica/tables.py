# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The classes of the host as a replica server, and its provider of replication (operations 7.1, 7.2)."""
from __future__ import annotations

from collections.abc import Iterable, Mapping

from simulator.cim.model import Caller, CimValue, Ref
from simulator.hyperv import ids
from simulator.hyperv.model import Configuration, Machine, Relation
from simulator.hyperv.provider import ConfigurationTable, Table
from simulator.hyperv.replica.health import health
from simulator.hyperv.replica.server import Authorization
from simulator.hyperv.replica.settings import properties, told_disks
from simulator.hyperv.replica.state import PROVIDER, RelationSettings
from simulator.hyperv.services import Service
from simulator.hyperv.systems import NEVER
from simulator.hyperv.texts import text


class ReplicationService(Service):
    """Msvm_ReplicationService: OperationalStatus tells whether the listeners run."""

    def values(self, item: None) -> dict[str, CimValue]:
        """The row."""
        fine = self.role.replica.server.operational
        return super().values(item) | {
            "OperationalStatus": [2 if fine else 6], "StatusDescriptions": [text("ok" if fine else "listener", self.role.locale)]}


class ServerSettingsTable(Table[None]):
    """Msvm_ReplicationServiceSettingData."""

    class_name = "Msvm_ReplicationServiceSettingData"

    def items(self, caller: Caller) -> Iterable[None]:
        """The one instance, for those who may see machines."""
        return (None,) if caller.is_hyperv_administrator else ()

    def values(self, item: None) -> dict[str, CimValue]:
        """The row."""
        server = self.role.replica.server
        settings = server.settings
        return {
            "InstanceID": server.instance_id, "ElementName": "Replication Service Settings", "Caption": "Replication Service Settings",
            "Description": "Settings of the Replica server.", "RecoveryServerEnabled": settings.enabled,
            "AllowedAuthenticationType": settings.authentication, "HttpPort": settings.http_port, "HttpsPort": settings.https_port,
            "CertificateThumbPrint": settings.thumbprint, "MonitoringInterval": settings.monitoring_interval,
            "MonitoringStartTime": settings.monitoring_start,
        }


class AuthorizationTable(Table[Authorization]):
    """Msvm_ReplicationAuthorizationSettingData."""

    class_name = "Msvm_ReplicationAuthorizationSettingData"

    def items(self, caller: Caller) -> Iterable[Authorization]:
        """The entries of the server."""
        return list(self.role.replica.server.entries.values()) if caller.is_hyperv_administrator else ()

    def values(self, item: Authorization) -> dict[str, CimValue]:
        """One row."""
        return {
            "InstanceID": ids.settings_id(ids.derive(self.role.name, "authorization", item.primary.lower())),
            "ElementName": "Replication Authorization Settings", "Caption": "Replication Authorization Settings",
            "AllowedPrimaryHostSystem": item.primary, "ReplicaStorageLocation": item.storage, "TrustGroup": item.trust_group,
        }


class Providers(Table[None]):
    """Msvm_ReplicationProvider: the one that is in the box."""

    class_name = "Msvm_ReplicationProvider"

    def items(self, caller: Caller) -> Iterable[None]:
        """The one instance."""
        return (None,) if caller.is_hyperv_administrator else ()

    def values(self, item: None) -> dict[str, CimValue]:
        """The row."""
        return {"Name": PROVIDER, "InstanceID": PROVIDER, "ElementName": "Microsoft Replication Provider", "OperationalStatus": [2],
                "Caption": "Microsoft Replication Provider", "Status": "OK"}


Row = tuple[Machine, Relation | None]


def relation_id(machine: Machine, relation: Relation | None) -> str:
    r"""``Microsoft:<machine>\HVR\<n>``: 0 the primary relation, 1 the extended one (operations 7.1)."""
    return ids.settings_id(machine.id, "HVR", relation.index if relation is not None else 0)


def relation_ref(machine: Machine, relation: Relation | None) -> Ref:
    """The reference of a relation."""
    return ids.setting_ref("Msvm_ReplicationRelationship", relation_id(machine, relation))


def relation_settings_ref(machine: Machine, relation: Relation | None) -> Ref:
    """The reference of its settings."""
    return ids.setting_ref("Msvm_ReplicationSettingData", relation_id(machine, relation))


def settings_of(machine: Machine) -> list[Relation | None]:
    """What a machine has settings for: its relations, or (None) the one that it could have (operations 7.3 step 2)."""
    if machine.planned:
        return []
    return list(machine.relations) or [None]


def relations_of(machine: Machine) -> list[Relation | None]:
    """The relations that have a row."""
    if machine.planned:
        return []
    return settings_of(machine) if machine.role.replica.knobs.relationship_of_all else list(machine.relations)


class Relationships(ConfigurationTable[Row]):
    """Msvm_ReplicationRelationship."""

    class_name = "Msvm_ReplicationRelationship"

    def of(self, configuration: Configuration) -> Iterable[Row]:
        """The relations of a machine."""
        machine = configuration.machine
        return () if configuration.checkpoint else [(machine, relation) for relation in relations_of(machine)]

    def values(self, item: Row) -> dict[str, CimValue]:
        """One row."""
        machine, relation = item
        values: dict[str, CimValue] = {
            "InstanceID": relation_id(machine, relation), "ElementName": machine.name, "Caption": "Replication Relationship",
            "Description": "Replication relationship of a virtual machine."}
        if relation is None:
            return values | {"ReplicationState": 0, "ReplicationHealth": 0, "LastReplicationType": 0, "FailedOverReplicationType": 0,
                             "LastReplicationTime": NEVER, "LastApplyTime": NEVER, "LastApplicationConsistentReplicationTime": NEVER}
        return values | {
            "ReplicationState": relation.state, "ReplicationHealth": health(self.role, relation),
            "LastReplicationType": relation.last_type, "LastReplicationTime": relation.last_time or NEVER,
            "LastApplyTime": relation.last_apply or NEVER, "FailedOverReplicationType": relation.failed_over,
            "LastApplicationConsistentReplicationTime": relation.last_application_time or NEVER}


class RelationSettingsTable(ConfigurationTable[Row]):
    """Msvm_ReplicationSettingData, with the ids of the relations."""

    class_name = "Msvm_ReplicationSettingData"

    def of(self, configuration: Configuration) -> Iterable[Row]:
        """One for each relation; a machine without has the settings that a relation would begin with."""
        machine = configuration.machine
        return () if configuration.checkpoint else [(machine, relation) for relation in settings_of(machine)]

    def lookup(self, conditions: Mapping[str, CimValue], caller: Caller) -> Iterable[Row] | None:
        """By InstanceID or by the machine."""
        found = super().lookup(conditions, caller)
        guid = conditions.get("VirtualSystemIdentifier")
        if found is not None or not isinstance(guid, str):
            return found
        machine = self.role.machine(guid, caller)
        return () if machine is None else self.of(Configuration(machine, None))

    def values(self, item: Row) -> dict[str, CimValue]:
        """One row."""
        machine, relation = item
        settings = RelationSettings() if relation is None else relation.settings
        return properties(settings) | {
            "InstanceID": relation_id(machine, relation), "ElementName": machine.name, "Caption": "Replication Settings",
            "Description": "Replication settings of a virtual machine.", "VirtualSystemIdentifier": machine.id,
            "VirtualSystemType": "Microsoft:Hyper-V:Replica", "IncludedDisks": told_disks(self.role, machine, settings.included)}
