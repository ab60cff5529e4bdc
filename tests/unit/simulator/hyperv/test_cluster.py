# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failover clusters: roles, cluster shared volumes, machines that move."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from simulator.cim.model import CimError
from simulator.clock import SimClock
from simulator.hyperv.cluster import Cluster
from simulator.hyperv.spec import CheckpointSpec, VmSpec
from simulator.windows.spec import VolumeSpec
from unit.simulator.hyperv.bench import ADMINISTRATOR, OPERATOR, V2, Bench, MakeBench

GUID = "0A1B2C3D-0000-4000-8000-00000000ABCD"
NAMESPACE = "root/MSCluster"
CSV = "C:\\ClusterStorage\\Volume1"
VOLUME_GUID = "11111111-2222-3333-4444-555555555555"

MakeCluster = Callable[..., Cluster]


def node(tmp_path: Path, name: str, cluster: Cluster, vms: Sequence[VmSpec] = (), *, owned: bool = True, clock: SimClock | None = None,
         like: Bench | None = None) -> Bench:
    host = Bench(tmp_path / name, name=name, cluster=cluster, clock=clock, volumes=[VolumeSpec("C:")])
    backing = next(v.backing for v in like.files.volumes if v.filesystem == "CSVFS") if like else None
    spec = VolumeSpec(CSV, filesystem="CSVFS", guid=VOLUME_GUID, owned=owned, size=100 * 1024**3, free=40 * 1024**3)
    host.files.add_volume(spec, backing)
    for vm in vms:
        host.role.add_vm(vm)
    return host


def owner(host: Bench, guid: str = GUID) -> list[object]:
    rows = host.query(f"SELECT * FROM MSCluster_Resource WHERE Type='Virtual Machine' AND PrivateProperties.VmID='{guid}'",
                      namespace=NAMESPACE)
    return [r["OwnerNode"] for r in rows]


def test_roles(tmp_path: Path, make_cluster: MakeCluster) -> None:
    cluster = make_cluster("n1", "n2")
    host = node(tmp_path, "n1", cluster, [VmSpec(name="a", vm_id=GUID, clustered=True), VmSpec(name="a", clustered=True, state="off"),
                                          VmSpec(name="local")])
    resources = host.rows("MSCluster_Resource", namespace=NAMESPACE)
    rows = [(r["Name"], r["Type"], r["OwnerGroup"], r["OwnerNode"], r["State"]) for r in resources]
    assert rows == [
        ("Virtual Machine a", "Virtual Machine", "a", "n1", 2),
        ("Virtual Machine Configuration a", "Virtual Machine Configuration", "a", "n1", 2),
        ("Virtual Machine a (2)", "Virtual Machine", "a (2)", "n1", 3),
        ("Virtual Machine Configuration a (2)", "Virtual Machine Configuration", "a (2)", "n1", 2),
        ("Cluster Disk 1", "Physical Disk", "Cluster Disk 1", "n1", 2),
    ]
    assert owner(host) == owner(host, GUID.lower()) == ["n1"]
    assert owner(host, "0A1B2C3D-0000-4000-8000-000000000000") == []
    groups = host.rows("MSCluster_ResourceGroup", namespace=NAMESPACE)
    assert [(g["Name"], g["GroupType"], g["State"]) for g in groups] == [("a", 111, 0), ("a (2)", 111, 1)]
    assert [(n["Name"], n["State"]) for n in host.rows("MSCluster_Node", namespace=NAMESPACE)] == [("n1", 0), ("n2", 0)]
    assert [(c["Name"], c["Fqdn"]) for c in host.rows("MSCluster_Cluster", namespace=NAMESPACE)] == [("HVC1", "HVC1.example.test")]


def test_a_host_without_a_cluster_has_no_such_namespace(bench: MakeBench) -> None:
    host = bench(VmSpec())
    with pytest.raises(CimError) as refusal:
        host.rows("MSCluster_Cluster", namespace=NAMESPACE)
    assert refusal.value.kind == "invalid_namespace"
    assert host.query("SELECT Name FROM __NAMESPACE WHERE Name='MSCluster'", namespace="root") == []


def test_the_namespace_can_be_looked_for(tmp_path: Path, make_cluster: MakeCluster) -> None:
    host = node(tmp_path, "n1", make_cluster("n1"))
    assert [r["Name"] for r in host.query("SELECT Name FROM __NAMESPACE WHERE Name='MSCluster'", namespace="root")] == ["MSCluster"]


def test_only_administrators_may_ask(tmp_path: Path, make_cluster: MakeCluster) -> None:
    host = node(tmp_path, "n1", make_cluster("n1"))
    with pytest.raises(CimError) as refusal:
        host.rows("MSCluster_Cluster", OPERATOR, NAMESPACE)
    assert refusal.value.kind == "access_denied"


def test_owners_that_are_not_simulated(tmp_path: Path, make_cluster: MakeCluster) -> None:
    cluster = make_cluster("n1", "n2", owners={"a": "n2"})
    host = node(tmp_path, "n1", cluster, [VmSpec(name="a", vm_id=GUID, clustered=True)])
    foreign = cluster.add_foreign("far", "n2")
    assert (owner(host), owner(host, foreign)) == (["n2"], ["n2"])


def test_shared_volumes(tmp_path: Path, make_cluster: MakeCluster) -> None:
    cluster = make_cluster("n1", "n2")
    first = node(tmp_path, "n1", cluster)
    second = node(tmp_path, "n2", cluster, owned=False, like=first)
    cluster.faults[CSV.lower()] = 1
    for host in (first, second):
        rows = host.rows("MSCluster_ClusterSharedVolume", namespace=NAMESPACE)
        assert [(r["Name"], r["VolumeName"], r["FaultState"], r["BackupState"]) for r in rows] == [
            (CSV, f"\\\\?\\Volume{{{VOLUME_GUID}}}\\", 1, 0)]
        link = host.rows("MSCluster_ClusterSharedVolumeToNode", namespace=NAMESPACE)[0]["PartComponent"]
        assert dict(link.keys) == {"Name": "n1"}  # type: ignore[union-attr]
        disk = host.query("SELECT * FROM MSCluster_Resource WHERE Name='Cluster Disk 1'", namespace=NAMESPACE)[0]
        assert (disk["OwnerNode"], disk["IsClusterSharedVolume"]) == ("n1", True)
        path = f'MSCluster_ClusterSharedVolume.Name="{CSV}"'.replace("\\", "\\\\")
        found = host.query(f"ASSOCIATORS OF {{{path}}} WHERE AssocClass=MSCluster_ClusterSharedVolumeToResource", namespace=NAMESPACE)
        assert [r["Name"] for r in found] == ["Cluster Disk 1"]
        partition = host.rows("MSCluster_DiskPartition", namespace=NAMESPACE)[0]
        assert (partition["TotalSize"], partition["FreeSpace"], partition["FileSystem"]) == (102400, 40960, "CSVFS")


def test_a_machine_moves_with_its_disks_and_its_role(tmp_path: Path, make_cluster: MakeCluster) -> None:
    cluster, clock = make_cluster("n1", "n2"), SimClock()
    vm = VmSpec(name="a", vm_id=GUID, clustered=True, folder=f"{CSV}\\a", checkpoints=(CheckpointSpec("c", "c"),))
    first = node(tmp_path, "n1", cluster, [vm], clock=clock)
    second = node(tmp_path, "n2", cluster, owned=False, clock=clock, like=first)
    path = first.role.find("a").vhd_files()[0].path
    assert second.files.exists(path)  # the other node sees the files of the shared volume

    def look(host: Bench) -> object:
        return host.call("Msvm_ImageManagementService", "GetVirtualHardDiskSettingData", {"Path": path})["ReturnValue"]

    assert (look(first), look(second)) == (0, 32774)
    first.role.move_vm(GUID, second.role)
    assert (look(first), look(second)) == (32774, 0)
    assert (owner(first), owner(second)) == (["n2"], ["n2"])
    assert first.query(f"SELECT * FROM Msvm_ComputerSystem WHERE Name='{GUID}'") == []
    assert [r["ElementName"] for r in second.rows("Msvm_VirtualSystemSettingData")] == ["a", "c"]
    with pytest.raises(CimError):
        first.repository.get(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{GUID}"}, ADMINISTRATOR)
