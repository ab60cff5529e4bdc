# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a VM and of its host in the form that a task returns: snake_case, bytes, ISO 8601 UTC."""
from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import Disk
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.integration import Integration, Service
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts, condition_of
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import judge_all
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.cluster import Cluster


def iso(moment: datetime | None) -> str | None:
    """``2026-01-31T12:00:00Z``, or None."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def host_result(facts: HostFacts) -> dict[str, Any]:
    """The ``host`` of a result."""
    system = facts.system
    return {
        "name": system.name, "fqdn": system.fqdn, "domain": system.domain, "release": system.release, "build": system.build,
        "version": system.version, "server": system.server, "hypervisor_present": system.hypervisor_present, "memory": system.memory,
        "time": iso(system.local_time), "clock_skew": round(system.clock_skew.total_seconds(), 1), "last_boot": iso(system.last_boot),
        "cluster": facts.cluster.name if facts.cluster else None,
    }


def cluster_roles(cluster: Cluster) -> list[dict[str, Any]]:
    """The VMs of a whole cluster, by their roles."""
    return [{"vm_id": role.vm_id.strip("{}").lower() if role.vm_id else None, "role": role.name, "group": role.group,
             "owner_node": role.owner_node, "state": role.state} for role in cluster.roles]


def vm_result(facts: HostFacts, machine: Machine, gather: Collection[str]) -> dict[str, Any]:
    """The ``vm`` of a result, with the subsets that were asked for."""
    result = _state(machine)
    if "summary" in gather:
        result.update(_summary(facts, machine))
    if "disks" in gather or "chains" in gather:
        result["disks"] = [_disk(facts, disk, "chains" in gather) for disk in facts.disks_of(machine.vm_id)]
    if "checkpoints" in gather:
        result["checkpoints"] = [{
            "id": item.checkpoint_id, "name": item.name, "kind": item.kind, "created": iso(item.created), "parent_id": item.parent_id,
            "automatic": item.automatic, "saved_state": item.saved_state, "notes": item.notes,
        } for item in facts.checkpoints_of(machine.vm_id)]
    if "integration" in gather:
        result["integration"] = _integration((facts.integration or {}).get(machine.vm_id, Integration()))
    if "replication" in gather:
        result["replication"] = {"mode": machine.replication_mode, "relations": [{
            "extended": item.extended, "state": item.state, "health": item.health, "last_replicated": iso(item.last_replicated),
            "last_applied": iso(item.last_applied),
        } for item in (facts.relations or {}).get(machine.vm_id, ())]}
    if "security" in gather:
        security = (facts.security or {}).get(machine.vm_id)
        result["security"] = None if security is None else {
            "tpm": security.tpm, "shielded": security.shielded, "encrypt_traffic": security.encrypt_traffic}
    if "cluster" in gather:
        result["cluster"] = _cluster(facts, machine)
    if "readiness" in gather:
        result["readiness"] = [verdict.as_result() for verdict in judge_all(condition_of(facts, machine))]
    return result


def _state(machine: Machine) -> dict[str, Any]:
    settings = machine.settings
    return {
        "vm_id": machine.vm_id, "name": machine.name, "state": machine.state, "enabled_state": machine.enabled_state,
        "other_state": machine.other_state if machine.state == "other" else None,
        "health": machine.health, "busy": machine.busy, "storage_offline": machine.storage_offline,
        "replication_mode": machine.replication_mode,
        "uptime": None if machine.uptime_ms is None else machine.uptime_ms // 1000,
        "last_state_change": iso(machine.state_changed), "last_backup": iso(machine.last_backup),
        "generation": settings.generation if settings else None, "version": settings.version if settings else None,
        "created": iso(settings.created) if settings else None, "notes": settings.notes if settings else None,
        "checkpoint_policy": settings.checkpoint_policy if settings else None,
        "automatic_checkpoints": settings.automatic_checkpoints if settings else None,
        "incremental_backup": settings.incremental_backup if settings else None,
        "secure_boot": settings.secure_boot if settings else None,
        "configuration_root": settings.configuration_root if settings else None,
        "configuration_file": settings.configuration_file if settings else None,
        "snapshot_root": settings.snapshot_root if settings else None,
    }


def _summary(facts: HostFacts, machine: Machine) -> dict[str, Any]:
    summary = (facts.summaries or {}).get(machine.vm_id)
    if summary is None:
        return {"processors": None, "memory": None, "jobs": []}
    return {"processors": summary.processors, "memory": summary.memory,
            "jobs": [{"id": job.instance_id, "type": job.job_type, "percent": job.percent} for job in summary.jobs]}


def _disk(facts: HostFacts, disk: Disk, chains: bool) -> dict[str, Any]:
    place = facts.place(disk.path) if disk.path else None
    result: dict[str, Any] = {
        "kind": disk.kind, "path": disk.path, "shared": disk.shared, "storage": place.kind if place else None,
        "volume": place.volume.root if place and place.volume else None, "differencing": _is_differencing(disk),
    }
    if chains and disk.path is not None and disk.path in facts.chains:
        chain = facts.chains[disk.path]
        result["chain"] = [{
            "path": link.path, "kind": link.kind, "format": link.format, "virtual_size": link.virtual_size, "file_size": link.file_size,
            "disk_id": link.disk_id, "parent_path": link.parent_path,
        } for link in chain.links]
        result["chain_problem"] = chain.problem
    return result


def _is_differencing(disk: Disk) -> bool:
    return disk.kind == "virtual" and (disk.path or "").lower().endswith((".avhdx", ".avhd"))


def _service(service: Service) -> dict[str, Any]:
    return {"enabled": service.enabled, "status": service.status, "answering": service.answering}


def _integration(told: Integration) -> dict[str, Any]:
    guest = told.guest
    return {"backup": _service(told.backup), "heartbeat": _service(told.heartbeat), "guest": {
        "family": guest.family, "os_name": guest.os_name, "os_version": guest.os_version, "fqdn": guest.fqdn,
        "integration_services_version": guest.integration_services_version}}


def _cluster(facts: HostFacts, machine: Machine) -> dict[str, Any] | None:
    if facts.cluster is None:
        return None
    found = facts.cluster.role_of(machine.vm_id, machine.name, facts.names)
    if found is None:
        return {"clustered": False, "role": None, "group": None, "owner_node": None, "state": None, "matched_by": None}
    role, how = found
    return {"clustered": True, "role": role.name, "group": role.group, "owner_node": role.owner_node, "state": role.state,
            "matched_by": how}
