# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be read of a VM before it is exported: hardware, chains, switches, security, sizes."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks, exports, hardware, planned, replication
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import Disk
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.hardware import Hardware
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import inventory
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.export_plan import Source
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts


def read(reader: CimReader, facts: HostFacts, due: Mapping[str, Checkpoint | None], *, guests: bool) -> tuple[HostFacts, dict[str, Source]]:
    """Facts and sources of the VMs that are due, each with the checkpoint that is to be exported, if one is. ``guests``: also whether they
    can be quiesced.

    Summaries, switches and security once for the host; of each VM its resource settings, the size of its system files, and two requests
    for each disk file.
    """
    parts = ("summary", "volumes", *(("integration",) if guests else ()))
    facts = inventory.read_more(reader, facts, parts)
    security = replication.read_security(reader) or {}
    found: dict[str, Hardware] = {}
    sources: dict[str, Source] = {}
    switches: dict[str, str] | None = None
    for machine in facts.machines:
        if machine.vm_id not in due or machine.settings is None:
            continue
        checkpoint = due[machine.vm_id]
        settings = machine.settings.reference if checkpoint is None else checkpoint.reference
        own = found[machine.vm_id] = hardware.read_hardware(reader, settings)
        if switches is None and any(one.switch_id for one in own.connections):
            switches = planned.read_switches(reader)
        names = [(switches or {}).get(one.switch_id) for one in own.connections if one.switch_id]
        lost = tuple(one.last_name for one in own.connections if one.switch_id and one.switch_id not in (switches or {}))
        told = security.get(machine.vm_id)
        summary = (facts.summaries or {}).get(machine.vm_id)
        sources[machine.vm_id] = Source(
            own, tuple(dict.fromkeys(name for name in names if name is not None)), lost,
            bool(told and told.tpm), bool(told and told.shielded), exports.size_of_system_files(reader, settings),
            (summary.memory if summary is not None else None) or 0)
    everything = [_as_own(disk, vm_id) for vm_id, own in found.items() for disk in own.disks]
    facts = replace(facts, disks=tuple(everything), security=security)
    return _with_chains(reader, facts, everything), sources


def _as_own(disk: Disk, vm_id: str) -> Disk:
    """Also the disks of a checkpoint are those of the VM that is exported."""
    return replace(disk, owner_id=vm_id)


def _with_chains(reader: CimReader, facts: HostFacts, found: Sequence[Disk]) -> HostFacts:
    chains = dict(facts.chains)
    for disk in found:
        if disk.kind == "virtual" and disk.path and disk.path not in chains:
            chains[disk.path] = disks.read_chain(reader, disk.path)
    return replace(facts, chains=chains)
