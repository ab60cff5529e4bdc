# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which node owns a VM and a shared volume."""

from __future__ import annotations

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.cluster import (
    Cluster,
    roles_from_rows,
    shared_volumes_from_rows,
)

NS = "root/MSCluster"
A, B = "AAAAAAAA-0000-0000-0000-000000000001", "AAAAAAAA-0000-0000-0000-000000000002"


def row(name: str, **values: object) -> Instance:
    return Instance(NS, name, values)  # type: ignore[arg-type]


def resource(name: str, kind: str = "Virtual Machine", vm_id: str | None = None, **values: object) -> Instance:
    private = Instance(NS, "MSCluster_Property", {"VmID": vm_id}) if vm_id else None
    return row(
        "MSCluster_Resource", Name=name, Type=kind, OwnerNode="HV01", OwnerGroup=name, State="2", PrivateProperties=private, **values
    )


def test_a_role_is_found_by_the_guid_of_its_private_properties() -> None:
    cluster = Cluster("C", roles_from_rows([resource("Virtual Machine sql", vm_id=B.lower()), resource("Disk", kind="Physical Disk")]))
    assert len(cluster.roles) == 1
    found = cluster.role_of(B, "renamed", ["renamed"])
    assert found is not None
    assert (found[0].owner_node, found[0].state, found[1]) == ("HV01", "online", "vm_id")
    assert cluster.role_of(A, "sql", ["sql"]) is None


def test_without_guids_a_unique_name_is_taken_and_said() -> None:
    cluster = Cluster("C", roles_from_rows([resource("Virtual Machine sql")]))
    found = cluster.role_of(A, "SQL", ["SQL", "web"])
    assert found is not None
    assert found[1] == "name"
    assert cluster.role_of(A, "sql", ["sql", "SQL"]) is None


def test_the_coordinator_of_a_shared_volume() -> None:
    volumes = [row("MSCluster_ClusterSharedVolume", Name="C:\\ClusterStorage\\Volume1", VolumeName="\\\\?\\Volume{x}\\", FaultState="1")]
    links = [
        row(
            "MSCluster_ClusterSharedVolumeToResource",
            GroupComponent=Reference(NS, "MSCluster_ClusterSharedVolume", {"Name": "c:\\clusterstorage\\volume1"}),
            PartComponent=Reference(NS, "MSCluster_Resource", {"Name": "Cluster Disk 1"}),
        )
    ]
    cluster = Cluster("C", (), shared_volumes_from_rows(volumes, links, [resource("Cluster Disk 1", kind="Physical Disk")]))
    shared = cluster.shared_volume_of("C:\\ClusterStorage\\Volume1\\", "other")
    assert shared is not None
    assert (shared.owner_node, shared.fault) == ("HV01", "redirected")
    assert cluster.shared_volume_of("C:\\ClusterStorage\\Volume10\\", "\\\\?\\Volume{x}\\") == shared
    assert cluster.shared_volume_of("C:\\ClusterStorage\\Volume10\\", "\\\\?\\Volume{y}\\") is None
