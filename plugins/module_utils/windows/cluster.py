# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The failover cluster of a host: which node owns a VM and a cluster shared volume (operations 1.6, windows facts 3)."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.available import enumerate_available
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, HypervError

NAMESPACE = "root/MSCluster"
_VM_TYPE = "virtual machine"
_FAULTS = {0: "none", 1: "redirected", 2: "no_access", 4: "maintenance"}
_STATES = {0: "inherited", 1: "initializing", 2: "online", 3: "offline", 4: "failed", 128: "pending", 129: "online_pending",
           130: "offline_pending"}


@dataclass(frozen=True)
class Role:
    """The cluster resource of a VM. ``vm_id`` is None where the private properties could not be read (windows facts 3)."""

    name: str
    group: str | None
    owner_node: str | None
    state: str
    vm_id: str | None


@dataclass(frozen=True)
class SharedVolume:
    """One CSV: mount point, device and the node that coordinates it."""

    path: str
    device_id: str | None
    owner_node: str | None
    fault: str


@dataclass(frozen=True)
class Cluster:
    """The cluster as this node sees it. ``problem``: the host has a cluster that could not be asked."""

    name: str | None
    roles: tuple[Role, ...] = ()
    shared_volumes: tuple[SharedVolume, ...] = ()
    problem: str | None = None

    @cached_property
    def _roles_by_id(self) -> dict[str, Role]:
        return {role.vm_id.strip("{}").lower(): role for role in reversed(self.roles) if role.vm_id is not None}

    def role_of(self, vm_id: str, name: str, names: Sequence[str]) -> tuple[Role, str] | None:
        """The role of a VM and how it was found: ``vm_id``, or ``name`` when no id could be read and the name is unique."""
        known = self._roles_by_id.get(vm_id.lower())
        if known is not None:
            return known, "vm_id"
        wanted = {f"virtual machine {name}".casefold(), name.casefold()}
        found = [role for role in self.roles
                 if role.vm_id is None and (role.name.casefold() in wanted or (role.group or "").casefold() == name.casefold())]
        if len(found) == 1 and sum(1 for other in names if other.casefold() == name.casefold()) == 1:
            return found[0], "name"
        return None

    def shared_volume_of(self, root: str, device_id: str) -> SharedVolume | None:
        """The CSV that is a volume of this host, by mount point or by device."""
        wanted_root, wanted_device = root.rstrip("\\").lower(), device_id.rstrip("\\").lower()
        for shared in self.shared_volumes:
            if shared.path.rstrip("\\").lower() == wanted_root or (shared.device_id or "").rstrip("\\").lower() == wanted_device:
                return shared
        return None


def roles_from_rows(rows: Iterable[Instance]) -> tuple[Role, ...]:
    """The VM roles among a cluster's resources."""
    found = []
    for row in rows:
        if (row.text("Type") or "").lower() != _VM_TYPE:
            continue
        state = row.integer("State")
        found.append(Role(row.text("Name") or "", row.text("OwnerGroup"), row.text("OwnerNode"),
                          "unknown" if state is None else _STATES.get(state, f"unknown_{state}"), _private_vm_id(row)))
    return tuple(found)


def _private_vm_id(row: Instance) -> str | None:
    private = row.raw("PrivateProperties")
    if not isinstance(private, Instance):
        return None
    value = private.raw("VmID")
    return value if isinstance(value, str) else None


def shared_volumes_from_rows(volumes: Iterable[Instance], links: Iterable[Instance],
                             resources: Iterable[Instance]) -> tuple[SharedVolume, ...]:
    """CSVs with their coordinator: CSV -> resource by association, resource -> owner node."""
    owners = {(row.text("Name") or "").casefold(): row.text("OwnerNode") for row in resources}
    resource_of: dict[str, str] = {}
    for link in links:
        volume, resource = link.reference("GroupComponent"), link.reference("PartComponent")
        if volume is not None and resource is not None:
            resource_of[(volume.key("Name") or "").casefold()] = (resource.key("Name") or "").casefold()
    found = []
    for row in volumes:
        path = row.text("Name") or ""
        fault = row.integer("FaultState")
        found.append(SharedVolume(path, row.text("VolumeName"), owners.get(resource_of.get(path.casefold(), "")),
                                  "unknown" if fault is None else _FAULTS.get(fault, f"unknown_{fault}")))
    return tuple(found)


def read_cluster(reader: CimReader) -> Cluster | None:
    """The host's cluster, four requests; None when it is in none (one request). Refusals are told, not raised: the rest
    of a host's facts does not depend on them.
    """
    try:
        clusters = enumerate_available(reader, NAMESPACE, "MSCluster_Cluster")
    except AccessDenied as error:
        return Cluster(None, problem=error.message)
    except HypervError as error:
        if getattr(error, "code", None) is None:
            raise  # the connection, not the provider
        return Cluster(None, problem=error.message)
    if not clusters:
        return None
    resources = reader.enumerate(NAMESPACE, "MSCluster_Resource")
    volumes = enumerate_available(reader, NAMESPACE, "MSCluster_ClusterSharedVolume") or []
    links = enumerate_available(reader, NAMESPACE, "MSCluster_ClusterSharedVolumeToResource") or [] if volumes else []
    return Cluster(clusters[0].text("Name"), roles_from_rows(resources), shared_volumes_from_rows(volumes, links, resources))
