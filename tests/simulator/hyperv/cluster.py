# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A failover cluster: one live object shared by its nodes, and root/MSCluster as each node serves it (windows facts 3)."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from simulator.cim.model import Caller, CimValue, Ref
from simulator.hyperv import ids
from simulator.hyperv.ids import CLUSTER
from simulator.hyperv.provider import Association, Pair, Table, key_of, same

if TYPE_CHECKING:
    from simulator.hyperv.model import Machine
    from simulator.hyperv.role import HyperV

UP, DOWN, PAUSED = 0, 1, 2
ONLINE, OFFLINE, FAILED = 2, 3, 4
GROUP_ONLINE, GROUP_OFFLINE, GROUP_FAILED = 0, 1, 2
VM_GROUP = 111
MIB = 1024 * 1024


class ClusterDescription(Protocol):
    """What a cluster is made from: ``owners`` maps names of machines to nodes that are not simulated or disagree."""

    @property
    def name(self) -> str:
        """Name of the cluster."""

    @property
    def nodes(self) -> Sequence[str]:
        """Short host names."""

    @property
    def owners(self) -> Mapping[str, str]:
        """Name of a machine -> owner node."""


@dataclass
class ClusterRole:
    """The group of one machine."""

    machine_id: str
    name: str
    group: str
    owner: str
    machine: Machine | None = None
    """None: the machine is on a node that is not simulated."""
    failed: bool = False

    @property
    def online(self) -> bool:
        """Whether the resource is online: the machine runs, as far as is known."""
        return self.machine is None or self.machine.live


@dataclass(frozen=True)
class SharedVolume:
    """One CSV as one node sees it. Sizes in MB."""

    path: str
    device_id: str
    resource: str
    owner: str
    size: int
    free: int
    fault: int
    backup: int
    number: int


class Cluster:
    """The state that all nodes of one cluster share."""

    def __init__(self, description: ClusterDescription, domain: str | None = None) -> None:
        self.name = description.name
        self.domain = domain
        self.nodes: dict[str, int] = dict.fromkeys(description.nodes, UP)
        self.roles: dict[str, HyperV] = {}
        """Simulated nodes by name in lower case."""
        self.machines: dict[str, ClusterRole] = {}
        self.faults: dict[str, int] = {}
        """FaultState by CSV path in lower case."""
        self.backups: dict[str, int] = {}
        """BackupState by CSV path in lower case."""
        self._owners = dict(description.owners)

    # -- machines --------------------------------------------------------------------------------------------------

    def add_machine(self, machine: Machine, node: str) -> None:
        """A machine of a node becomes a role of the cluster."""
        self._add(machine.id, machine.name, self._owners.get(machine.name, node), machine)

    def add_foreign(self, name: str, node: str, machine_id: str | None = None) -> str:
        """A role whose machine is on a node that is not simulated; its GUID."""
        machine_id = (machine_id or ids.derive(self.name, name, node)).upper()
        self._add(machine_id, name, node, None)
        return machine_id

    def _add(self, machine_id: str, name: str, owner: str, machine: Machine | None) -> None:
        taken = {role.group.lower() for role in self.machines.values()}
        group, number = name, 2
        while group.lower() in taken:
            group, number = f"{name} ({number})", number + 1
        self.machines[machine_id] = ClusterRole(machine_id, name, group, owner, machine)

    def forget_machine(self, machine_id: str) -> None:
        """The role is removed with the machine."""
        self.machines.pop(machine_id, None)

    def move_machine(self, machine_id: str, node: str) -> None:
        """The role has another owner."""
        if machine_id in self.machines:
            self.machines[machine_id].owner = node

    # -- volumes ---------------------------------------------------------------------------------------------------

    def volumes(self, seen_from: HyperV) -> list[SharedVolume]:
        """The CSVs of a node; the coordinator is the node that describes the volume as its own."""
        found = []
        shared = [v for v in seen_from.host.files.volumes if v.filesystem == "CSVFS"]
        for number, volume in enumerate(shared, 1):
            path = volume.mount_path.rstrip("\\")
            found.append(SharedVolume(path, volume.device_id, f"Cluster Disk {number}", self.coordinator(path, seen_from),
                                      volume.capacity // MIB, volume.free_bytes // MIB, self.faults.get(path.lower(), 0),
                                      self.backups.get(path.lower(), 0), number))
        return found

    def coordinator(self, path: str, seen_from: HyperV) -> str:
        """The owner node of a CSV."""
        lowered = path.lower().rstrip("\\") + "\\"
        for role in [seen_from, *self.roles.values()]:
            for volume in role.host.files.volumes:
                if volume.filesystem == "CSVFS" and volume.mount_path.lower() == lowered and volume.owned:
                    return role.name
        others = [node for node in self.nodes if node.lower() not in self.roles]
        return others[0] if others else next(iter(self.nodes), seen_from.name)

    def is_open_elsewhere(self, path: str, asking: HyperV) -> bool:
        """Whether a machine of another node has a disk on a CSV open."""
        if not path.lower().startswith("c:\\clusterstorage\\"):
            return False
        for role in self.roles.values():
            file = role.file(path) if role is not asking else None
            if file is not None and role.users_of(file):
                return True
        return False

    # -- serving ---------------------------------------------------------------------------------------------------

    def register(self, role: HyperV) -> None:
        """Serve root/MSCluster on one node. Only administrators may ask (inferred)."""
        self.roles[role.name.lower()] = role
        repository = role.host.repository
        repository.guard(CLUSTER, lambda caller: caller.is_administrator)
        for table in (ClusterTable, NodeTable, GroupTable, ResourceTable, VolumeTable, PartitionTable):
            repository.register(CLUSTER, table.class_name, table(role, self))
        links = (("MSCluster_ClusterSharedVolumeToNode", _node_ref), ("MSCluster_ClusterSharedVolumeToResource", _resource_ref),
                 ("MSCluster_ClusterSharedVolumeToPartition", _partition_ref))
        for class_name, part in links:
            repository.register(CLUSTER, class_name, self._volume_links(role, class_name, part))

    def _volume_links(self, role: HyperV, class_name: str, part: Callable[[SharedVolume], Ref]) -> Association:
        def pairs(caller: Caller) -> list[Pair]:
            return [(_volume_ref(volume), part(volume)) for volume in self.volumes(role)]

        def from_volume(ref: Ref, caller: Caller) -> list[Pair]:
            wanted = (key_of(ref, "Name") or "").lower()
            return [pair for pair in pairs(caller) if (key_of(pair[0], "Name") or "").lower() == wanted]

        def from_part(ref: Ref, caller: Caller) -> list[Pair]:
            return [pair for pair in pairs(caller) if pair[1] == ref]

        return Association(role, class_name, ("GroupComponent", "PartComponent"), pairs, from_volume, from_part, namespace=CLUSTER)


def _volume_ref(volume: SharedVolume) -> Ref:
    return Ref(CLUSTER, "MSCluster_ClusterSharedVolume", {"Name": volume.path})


def _node_ref(volume: SharedVolume) -> Ref:
    return Ref(CLUSTER, "MSCluster_Node", {"Name": volume.owner})


def _resource_ref(volume: SharedVolume) -> Ref:
    return Ref(CLUSTER, "MSCluster_Resource", {"Name": volume.resource})


def _partition_ref(volume: SharedVolume) -> Ref:
    return Ref(CLUSTER, "MSCluster_DiskPartition", {"Path": volume.path})


@dataclass(frozen=True)
class Resource:
    """One cluster resource."""

    name: str
    type: str
    group: str
    owner: str
    state: int
    machine_id: str | None = None
    shared_volume: bool = False


class _Table(Table[object]):
    """A table of this namespace."""

    namespace = CLUSTER

    def __init__(self, role: HyperV, cluster: Cluster) -> None:
        self.cluster = cluster
        super().__init__(role)


class ClusterTable(_Table):
    """The cluster itself."""

    class_name = "MSCluster_Cluster"

    def items(self, caller: Caller) -> Iterable[object]:
        """The one cluster."""
        return (self.cluster,)

    def values(self, item: object) -> dict[str, CimValue]:
        """One row."""
        name = self.cluster.name
        domain = self.cluster.domain
        return {"Name": name, "Caption": name, "Description": "", "Fqdn": f"{name}.{domain}" if domain else name, "EnableSharedVolumes": 1,
                "SharedVolumesRoot": "C:\\ClusterStorage", "BackupInProgress": 0, "QuorumType": "Majority", "FixQuorum": 0,
                "ClusterFunctionalLevel": {"2012R2": 8, "2016": 9, "2019": 10, "2022": 11, "2025": 12}[self.role.os_version]}


class NodeTable(_Table):
    """The nodes."""

    class_name = "MSCluster_Node"

    def items(self, caller: Caller) -> Iterable[object]:
        """Their names."""
        return list(self.cluster.nodes)

    def values(self, item: object) -> dict[str, CimValue]:
        """One row."""
        name = str(item)
        number = list(self.cluster.nodes).index(name) + 1
        return {"Name": name, "Caption": name, "Description": "", "Id": str(number), "State": self.cluster.nodes[name], "NodeWeight": 1,
                "DynamicWeight": 1, "NodeDrainStatus": 0, "StatusInformation": 0, "NodeInstanceID": ids.derive(self.cluster.name, name)}


class GroupTable(_Table):
    """The resource groups of machines."""

    class_name = "MSCluster_ResourceGroup"

    def items(self, caller: Caller) -> Iterable[object]:
        """The roles."""
        return list(self.cluster.machines.values())

    def values(self, item: object) -> dict[str, CimValue]:
        """One row."""
        assert isinstance(item, ClusterRole)
        state = GROUP_FAILED if item.failed else GROUP_ONLINE if item.online else GROUP_OFFLINE
        return {"Name": item.group, "Caption": item.group, "Description": "", "GroupType": VM_GROUP,
                "OwnerNode": item.owner, "State": state,
                "Id": ids.derive(self.cluster.name, "group", item.machine_id).lower(), "Priority": 2000, "IsCore": False,
                "PrivateProperties.VmID": item.machine_id}


class ResourceTable(_Table):
    """Two resources for each machine, one for each CSV. The private properties can only be asked for in a WHERE clause:
    their form in an answer is not known (windows facts 3).
    """

    class_name = "MSCluster_Resource"

    def items(self, caller: Caller) -> list[object]:
        """All resources."""
        found: list[object] = []
        for role in self.cluster.machines.values():
            found += self._of(role)
        found += [Resource(v.resource, "Physical Disk", v.resource, v.owner, ONLINE, None, True)
                  for v in self.cluster.volumes(self.role)]
        return found

    @staticmethod
    def _of(role: ClusterRole) -> list[object]:
        state = FAILED if role.failed else ONLINE if role.online else OFFLINE
        return [Resource(f"Virtual Machine {role.group}", "Virtual Machine", role.group, role.owner, state, role.machine_id),
                Resource(f"Virtual Machine Configuration {role.group}", "Virtual Machine Configuration", role.group, role.owner, ONLINE,
                         role.machine_id)]

    def lookup(self, conditions: Mapping[str, CimValue], caller: Caller) -> Iterable[object] | None:
        """By the machine, or by Name or Type without building the rest."""
        machine_id = next((v for k, v in conditions.items() if k.lower() == "privateproperties.vmid"), None)
        if isinstance(machine_id, str):
            role = self.cluster.machines.get(machine_id.upper())
            return [] if role is None else self._of(role)
        name, kind = conditions.get("Name"), conditions.get("Type")
        if name is None and kind is None:
            return None
        return [r for r in self.items(caller)
                if isinstance(r, Resource) and (name is None or same(r.name, name)) and (kind is None or same(r.type, kind))]

    def values(self, item: object) -> dict[str, CimValue]:
        """One row."""
        assert isinstance(item, Resource)
        return {"Name": item.name, "Caption": item.name, "Description": "", "Type": item.type, "OwnerGroup": item.group,
                "OwnerNode": item.owner, "State": item.state, "IsClusterSharedVolume": item.shared_volume,
                "Id": ids.derive(self.cluster.name, item.name).lower(), "CoreResource": False,
                "ResourceClass": 1 if item.shared_volume else 0, "PersistentState": True, "PrivateProperties.VmID": item.machine_id}


class VolumeTable(_Table):
    """The cluster shared volumes."""

    class_name = "MSCluster_ClusterSharedVolume"

    def items(self, caller: Caller) -> Iterable[object]:
        """All of them."""
        return self.cluster.volumes(self.role)

    def values(self, item: object) -> dict[str, CimValue]:
        """One row."""
        assert isinstance(item, SharedVolume)
        return {"Name": item.path, "Caption": item.path, "VolumeName": item.device_id, "VolumeOffset": 0, "FaultState": item.fault,
                "BackupState": item.backup}


class PartitionTable(_Table):
    """The partitions of the cluster shared volumes; sizes in MB (inferred)."""

    class_name = "MSCluster_DiskPartition"

    def items(self, caller: Caller) -> Iterable[object]:
        """One for each volume."""
        return self.cluster.volumes(self.role)

    def values(self, item: object) -> dict[str, CimValue]:
        """One row."""
        assert isinstance(item, SharedVolume)
        guid = item.device_id.partition("{")[2].partition("}")[0]
        return {"Path": item.path, "Name": item.path, "FileSystem": "CSVFS", "FreeSpace": item.free, "TotalSize": item.size,
                "VolumeGuid": guid, "VolumeLabel": item.path.rpartition("\\")[2], "PartitionNumber": 2, "SerialNumber": item.number}
