# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registers everything the Hyper-V role serves with the repository of its host."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from simulator.cim.errors import SimulatorGap
from simulator.cim.provider import ClassProvider, Invocation, MethodHandler, MethodOutcome
from simulator.hyperv import ids
from simulator.hyperv.associations import Associations
from simulator.hyperv.export_service import ExportService
from simulator.hyperv.images import Images
from simulator.hyperv.integration import KINDS, ComponentSettings, LiveComponent
from simulator.hyperv.job_tables import Jobs
from simulator.hyperv.management import Management
from simulator.hyperv.planned_service import PlannedSystems
from simulator.hyperv.power import Power
from simulator.hyperv.provider import Table
from simulator.hyperv.reference_points import ReferencePoints
from simulator.hyperv.replica.adapters import FailoverAdapters
from simulator.hyperv.replica.server import not_supported
from simulator.hyperv.replica.service import not_here
from simulator.hyperv.replica.tables import (
    AuthorizationTable,
    Providers,
    RelationSettingsTable,
    Relationships,
    ReplicationService,
    ServerSettingsTable,
)
from simulator.hyperv.resource_service import ResourceService
from simulator.hyperv.resources import TABLES
from simulator.hyperv.services import SERVICES, Service, ServiceSettings, Switches
from simulator.hyperv.settings import ExportSettings, MergeSettings, SecuritySettings, SystemSettings
from simulator.hyperv.summary import Summaries
from simulator.hyperv.systems import ComputerSystems, PlannedComputerSystems

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV


def register(role: HyperV) -> None:
    """Serve root/virtualization/v2, and root/MSCluster when the host is a node of a cluster."""
    providers = _tables(role)
    associations = Associations(role)
    providers |= associations.all()
    for class_name, (needed, make) in associations.newer().items():
        if role.shapes.has(ids.V2, needed):
            providers[class_name] = make()
    for class_name, provider in providers.items():
        role.host.repository.register(ids.V2, class_name, provider)
    if role.cluster is not None:
        role.cluster.register(role)


def _tables(role: HyperV) -> dict[str, ClassProvider]:
    systems = ComputerSystems(role)
    systems.methods = {
        "RequestStateChange": Power(role).request_state_change, "RequestReplicationStateChange": role.replica.requests.request,
        "RequestReplicationStateChangeEx": role.replica.requests.request,
    }
    planned = PlannedComputerSystems(role)
    planned.methods = {"RequestStateChange": PlannedSystems(role).request_state_change}
    settings = SystemSettings(role)
    jobs = Jobs(role, "Msvm_ConcreteJob")
    tables: list[Table[Any]] = [systems, planned, settings, jobs, Jobs(role, "Msvm_StorageJob")]
    plain: tuple[type[Table[Any]], ...] = (
        ExportSettings, MergeSettings, Relationships, RelationSettingsTable, ServiceSettings, Switches,
        *TABLES, SecuritySettings, ReferencePoints, ServerSettingsTable, AuthorizationTable, Providers,
        FailoverAdapters)
    tables += [kind(role) for kind in plain if role.shapes.has(ids.V2, kind.class_name)]
    for kind in KINDS:
        live = LiveComponent(role, kind)
        if kind.field == "shutdown":
            live.methods = {"InitiateShutdown": Power(role).initiate_shutdown}
        tables += [live, ComponentSettings(role, kind)]
    methods = _methods(role, Summaries(role, jobs, settings))
    for service in SERVICES:
        if role.shapes.has(ids.V2, service.class_name):
            kind_of_service = ReplicationService if service.class_name == "Msvm_ReplicationService" else Service
            tables.append(kind_of_service(role, service, _with_gaps(role, service.class_name, methods.get(service.class_name, {}))))
    return {table.class_name: table for table in tables}


def _methods(role: HyperV, summaries: Summaries) -> dict[str, dict[str, MethodHandler]]:
    management, images = Management(role), Images(role)
    server, relations, failovers = role.replica.server, role.replica.relations, role.replica.failovers
    planned, resources = PlannedSystems(role), ResourceService(role)
    return {
        "Msvm_VirtualSystemManagementService": {
            "GetSummaryInformation": summaries.get_summary_information,
            "ModifySystemSettings": management.modify_system_settings,
            "GetSizeOfSystemFiles": management.get_size_of_system_files,
            "FormatError": management.format_error,
            "ExportSystemDefinition": ExportService(role).export_system_definition,
            "ImportSystemDefinition": planned.import_system_definition,
            "ImportSnapshotDefinitions": planned.import_snapshot_definitions,
            "GetDefinitionFileSummaryInformation": planned.get_definition_file_summary_information,
            "ValidatePlannedSystem": planned.validate_planned_system,
            "RealizePlannedSystem": planned.realize_planned_system,
            "DestroySystem": planned.destroy_system,
            "ModifyResourceSettings": resources.modify,
            "RemoveResourceSettings": resources.remove,
            "ModifyDiskMergeSettings": management.modify_disk_merge_settings,
        },
        "Msvm_VirtualSystemSnapshotService": {
            "CreateSnapshot": role.snapshots.create_snapshot,
            "DestroySnapshot": role.snapshots.destroy_snapshot,
            "DestroySnapshotTree": role.snapshots.destroy_snapshot_tree,
            "ApplySnapshot": role.snapshots.apply_snapshot,
            "ClearSnapshotState": role.snapshots.clear_snapshot_state,
        },
        "Msvm_ImageManagementService": {
            "GetVirtualHardDiskSettingData": images.get_setting_data,
            "GetVirtualHardDiskState": images.get_state,
            "SetParentVirtualHardDisk": images.set_parent,
            "SetVirtualHardDiskSettingData": images.set_setting_data,
            "ValidateVirtualHardDisk": images.validate,
        },
        "Msvm_ReplicationService": {
            "ModifyServiceSettings": server.modify_settings,
            "GetSystemCertificates": server.get_certificates,
            "AddAuthorizationEntry": server.add_entry,
            "ModifyAuthorizationEntry": server.modify_entry,
            "RemoveAuthorizationEntry": server.remove_entry,
            "TestReplicationConnection": relations.test_connection,
            "CreateReplicationRelationship": relations.create,
            "SetAuthorizationEntry": relations.set_authorization,
            "StartReplication": relations.start_replication,
            "ImportInitialReplica": role.replica.media.take_in,
            "ModifyReplicationSettings": relations.modify,
            "Resynchronize": relations.resynchronize,
            "RemoveReplicationRelationship": relations.remove,
            "RemoveReplicationRelationshipEx": relations.remove,
            "GetReplicationStatistics": relations.get_statistics,
            "GetReplicationStatisticsEx": relations.get_statistics,
            "ResetReplicationStatistics": relations.reset_statistics,
            "ResetReplicationStatisticsEx": relations.reset_statistics,
            "SetFailoverNetworkAdapterSettings": role.replica.adapters.set,
            "TestReplicaSystem": role.replica.drills.begin,
            "InitiateFailover": failovers.initiate,
            "RevertFailover": failovers.revert,
            "CommitFailover": failovers.commit,
            "ReverseReplicationRelationship": failovers.reverse,
            "ChangeReplicationModeToPrimary": not_here,
            "InitiateFailback": not_here,
            "StartService": not_supported,
            "StopService": not_supported,
            "RequestStateChange": not_supported,
        },
    }


def _with_gaps(role: HyperV, class_name: str, done: Mapping[str, MethodHandler]) -> dict[str, MethodHandler]:
    """Every other method of the class exists on a real host: calling one here must be noticed."""
    definition = role.schema.get(ids.V2, class_name)
    return {name: _gap(f"{class_name}.{name}") for name in definition.methods} | dict(done)


def _gap(label: str) -> Callable[[Invocation], MethodOutcome]:
    def refuse(call: Invocation) -> MethodOutcome:
        raise SimulatorGap(f"{label} is not simulated")
    return refuse
