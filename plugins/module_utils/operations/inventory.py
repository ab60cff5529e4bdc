# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All facts of one host: at most 20 requests and their pages, however many VMs it has.

Each class is enumerated once; everything else is joined by GUID. Chains cost requests for each file and are read apart.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import NotFound
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import checkpoints, disks, integration, machines, replication, summary
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import Chain, Disk
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import Condition
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import cluster, system, volumes
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Place, Volume

SUBSETS = ("state", "summary", "disks", "chains", "checkpoints", "integration", "replication", "security", "cluster", "readiness")
DEFAULT_SUBSETS = tuple(name for name in SUBSETS if name != "chains")
_NEEDS: Mapping[str, frozenset[str]] = {
    "readiness": frozenset(("disks", "integration", "volumes", "cluster", "security")),
    "disks": frozenset(("volumes",)),
    "chains": frozenset(("disks", "volumes")),
}


@dataclass(frozen=True)
class HostFacts:
    """What was read. A part that was not asked for, or that the host does not have, is None."""

    system: system.HostSystem
    machines: tuple[Machine, ...]
    checkpoints: tuple[Checkpoint, ...] = ()
    disks: tuple[Disk, ...] | None = None
    integration: Mapping[str, integration.Integration] | None = None
    relations: Mapping[str, tuple[replication.Relation, ...]] | None = None
    security: Mapping[str, replication.Security] | None = None
    summaries: Mapping[str, summary.Summary] | None = None
    volumes: tuple[Volume, ...] | None = None
    cluster: cluster.Cluster | None = None
    vanished: tuple[Machine, ...] = ()
    chains: Mapping[str, Chain] = field(default_factory=dict)

    @cached_property
    def _disks_by_owner(self) -> dict[str, list[Disk]]:
        found: dict[str, list[Disk]] = {}
        for disk in self.disks or ():
            found.setdefault(disk.owner_id, []).append(disk)
        return found

    @cached_property
    def _checkpoints_by_vm(self) -> dict[str, list[Checkpoint]]:
        found: dict[str, list[Checkpoint]] = {}
        for item in self.checkpoints:
            found.setdefault(item.vm_id, []).append(item)
        return found

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all VMs."""
        return tuple(machine.name for machine in self.machines)

    def disks_of(self, vm_id: str) -> tuple[Disk, ...]:
        """The disks of a VM as it is now."""
        return tuple(self._disks_by_owner.get(vm_id, ()))

    def checkpoints_of(self, vm_id: str) -> tuple[Checkpoint, ...]:
        """The checkpoints of a VM, oldest first."""
        return tuple(self._checkpoints_by_vm.get(vm_id, ()))

    def place(self, path: str) -> Place:
        """On which volume a path lies."""
        return volumes.locate(path, self.volumes or ())

    def csv_owned(self, volume: Volume) -> bool | None:
        """Whether this node coordinates a CSV; None when the cluster did not say."""
        if self.cluster is None:
            return None
        shared = self.cluster.shared_volume_of(volume.root, volume.device_id)
        if shared is None or not shared.owner_node:
            return None
        return shared.owner_node.partition(".")[0].casefold() == self.system.name.casefold()


COMPUTER = "computer"
"""For :func:`read_host`: what a result tells of the host itself, beyond its name, version and clock."""
QUIESCING = "quiescing"
"""For :func:`read_more`: of the integration services only what the decision table asks for."""


def wanted(subsets: Iterable[str]) -> frozenset[str]:
    """The parts that must be read for these subsets."""
    found = set(subsets)
    for name in tuple(found):
        found |= _NEEDS.get(name, frozenset())
    return frozenset(found)


def read_host(reader: CimReader, clock: Clock, subsets: Iterable[str]) -> HostFacts:
    """Read the parts that ``subsets`` (and :data:`COMPUTER`) need.

    A VM that vanished between two requests is in ``vanished``, not in ``machines``.
    """
    subsets = frozenset(subsets)
    host = system.read_system(reader, clock, computer=COMPUTER in subsets)
    rows = machines.read_machines(reader)
    present, vanished = without_vanished(reader, rows.machines)
    facts = HostFacts(host, present, checkpoints=checkpoints.from_rows(rows.setting_rows), vanished=vanished)
    return read_more(reader, facts, subsets)


def read_more(reader: CimReader, facts: HostFacts, subsets: Iterable[str]) -> HostFacts:
    """``facts`` with the parts that ``subsets`` need beyond those of :func:`read_host` without any."""
    parts = wanted(subsets)
    return replace(
        facts,
        summaries=summary.read_summaries(reader, [machine.settings.reference for machine in facts.machines if machine.settings])
        if "summary" in parts else None,
        disks=disks.read_disks(reader) if "disks" in parts else None,
        integration=integration.read_integration(reader, heartbeat="integration" in parts)
        if parts & {"integration", QUIESCING} else None,
        relations=replication.read_relations(reader) if "replication" in parts else None,
        security=replication.read_security(reader) if "security" in parts else None,
        volumes=volumes.read_volumes(reader) if "volumes" in parts and facts.volumes is None else facts.volumes,
        cluster=cluster.read_cluster(reader) if "cluster" in parts else None,
    )


def without_vanished(reader: CimReader, found: Sequence[Machine]) -> tuple[tuple[Machine, ...], tuple[Machine, ...]]:
    """Machines that are there, and those that went away between the two enumerations.

    One without settings is looked at once more: gone, or its configuration storage cannot be reached.
    """
    present, vanished = [], []
    for machine in found:
        if machine.settings is None:
            try:
                reader.get(machine.reference)
            except NotFound:
                vanished.append(machine)
                continue
        present.append(machine)
    return tuple(present), tuple(vanished)


def read_chains(reader: CimReader, facts: HostFacts, vm_ids: Iterable[str]) -> HostFacts:
    """``facts`` with the chains of these VMs' virtual disks: two requests a file."""
    found = dict(facts.chains)
    for vm_id in vm_ids:
        for disk in facts.disks_of(vm_id):
            if disk.kind == "virtual" and disk.path and disk.path not in found:
                found[disk.path] = disks.read_chain(reader, disk.path)
    return replace(facts, chains=found)


def files_of(facts: HostFacts, vm_id: str) -> tuple[str, ...]:
    """The files that make up the virtual disks of a VM: whole chains where they were read, else the leaves."""
    paths: list[str] = []
    for disk in facts.disks_of(vm_id):
        if disk.kind == "virtual" and disk.path:
            chain = facts.chains.get(disk.path)
            paths.extend(chain.paths if chain is not None and chain.links else (disk.path,))
    return tuple(dict.fromkeys(paths))


def condition_of(facts: HostFacts, machine: Machine) -> Condition:
    """The question to the decision table for one VM."""
    own = facts.disks_of(machine.vm_id)
    virtual = [disk for disk in own if disk.kind == "virtual"]
    places = [facts.place(path) for path in files_of(facts, machine.vm_id)]
    used = {place.volume.device_id: place.volume for place in places if place.volume is not None}
    shared_volumes = [volume for volume in used.values() if volume.is_csv]
    csv_places = sum(1 for place in places if place.kind == "csv")
    ratios = [volume.free_ratio for volume in used.values()]
    known_ratios = [ratio for ratio in ratios if ratio is not None]
    told = (facts.integration or {}).get(machine.vm_id, integration.Integration())
    security = (facts.security or {}).get(machine.vm_id)
    return Condition(
        build=facts.system.build, server=facts.system.server, state=machine.state, storage_offline=machine.storage_offline,
        replication_mode=machine.replication_mode,
        config_version=machine.settings.version_number if machine.settings else None,
        checkpoint_policy=machine.settings.checkpoint_policy if machine.settings else None,
        backup_enabled=told.backup.enabled, backup_answering=told.backup.answering, guest=told.guest.family,
        virtual_disks=len(virtual), pass_through=sum(1 for disk in own if disk.kind == "pass_through"),
        fibre_channel=sum(1 for disk in own if disk.kind == "fibre_channel"),
        other_media=sum(1 for disk in own if disk.kind == "other"), shared_disks=sum(1 for disk in virtual if disk.shared),
        smb_disks=sum(1 for place in places if place.kind == "smb"),
        unknown_places=sum(1 for place in places if place.kind == "unknown"),
        volumes=max(1, len(used)), file_systems=frozenset(volume.file_system or "unknown" for volume in used.values()),
        csv_disks=csv_places, csv_owned=_all_owned(facts, shared_volumes, csv_places),
        free_ratio=min(known_ratios) if known_ratios and len(known_ratios) == len(ratios) else None,
        chain_known=bool(virtual) and all(_followed(facts, disk) for disk in virtual),
        guarded=bool(security and (security.tpm or security.shielded)),
        differencing=any((disk.path or "").lower().endswith((".avhdx", ".avhd")) for disk in virtual))


def _followed(facts: HostFacts, disk: Disk) -> bool:
    chain = facts.chains.get(disk.path or "")
    return chain is not None and chain.problem is None


def _all_owned(facts: HostFacts, shared: Sequence[Volume], places: int) -> bool | None:
    if not places:
        return None
    answers = [facts.csv_owned(volume) for volume in shared]
    if False in answers:
        return False
    return True if answers and all(answers) else None


def duplicates(found: Iterable[Machine]) -> dict[str, list[str]]:
    """Names that several VMs of the host have, with their GUIDs."""
    by_name: dict[str, list[Machine]] = {}
    for machine in found:
        by_name.setdefault(machine.name.casefold(), []).append(machine)
    return {group[0].name: sorted(machine.vm_id for machine in group) for group in by_name.values() if len(group) > 1}
