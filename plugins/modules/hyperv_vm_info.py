# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of the virtual machines of a host."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_vm_info
short_description: Facts of the virtual machines of a Hyper-V host, and how well each can be protected
version_added: 0.1.0
description:
  - Reads what the virtual machines of a host are, in which state they are, where their disks lie, which checkpoints and replica
    relations they have, and which consistency each method of protection would reach for them, with the reasons.
  - Each class is read once for the whole host. The number of requests does not depend on the number of virtual machines, unless
    V(chains) is gathered.
author:
  - The agentless.hyperv authors (@agentless)
options:
  names:
    description:
      - Names or GUIDs of the virtual machines to report, or V(all).
      - All virtual machines of one name are reported. Names that the host does not have are listed in RV(missing).
      - V(all) is the default when neither O(name) nor O(vm_id) is given.
    type: list
    elements: str
  gather:
    description:
      - What to read beside the state.
      - V(chains) reads every file of every chain, with two requests a file, and is therefore not part of the default.
    type: list
    elements: str
    choices: [state, summary, disks, chains, checkpoints, integration, replication, security, cluster, readiness]
    default: [state, summary, disks, checkpoints, integration, replication, security, cluster, readiness]
extends_documentation_fragment:
  - agentless.hyperv.vm_selector
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.info
  - agentless.hyperv.attributes.action_group
seealso:
  - module: agentless.hyperv.hyperv_vss_copy
"""

EXAMPLES = r"""
- name: Read the facts of all virtual machines
  agentless.hyperv.hyperv_vm_info:
  register: found

- name: Show which consistency an export would reach, and why
  ansible.builtin.debug:
    msg: "{{ item.readiness | selectattr('method', 'equalto', 'export_application') | first }}"
  loop: "{{ found.vms }}"
  loop_control:
    label: "{{ item.vm_id }}"

- name: Read one virtual machine with the files of its disks
  agentless.hyperv.hyperv_vm_info:
    name: sql01
    gather: [state, disks, chains]
  register: sql

- name: Show its files
  ansible.builtin.debug:
    msg: "{{ sql.vm.disks | map(attribute='chain') | flatten | map(attribute='path') }}"

- name: Look whether two virtual machines exist on this host
  agentless.hyperv.hyperv_vm_info:
    names: [sql01, web02]
    gather: [state]
"""

RETURN = r"""
host:
  description: The host.
  returned: success
  type: dict
  contains:
    name: {description: NetBIOS name., type: str, returned: success, sample: HV01}
    fqdn: {description: DNS name., type: str, returned: success, sample: hv01.example.com}
    domain: {description: DNS domain that the host is a member of., type: str, returned: success, sample: example.com}
    release: {description: "V(2012R2), V(2016), V(2019), V(2022), V(2025), or none for an unknown build.", type: str, returned: success}
    build: {description: Build number., type: int, returned: success, sample: 20348}
    version: {description: Version text., type: str, returned: success, sample: 10.0.20348}
    server: {description: Whether this is a Server edition., type: bool, returned: success}
    hypervisor_present: {description: Whether a hypervisor runs., type: bool, returned: success}
    memory: {description: Physical memory in bytes., type: int, returned: success}
    time: {description: The host's time in UTC., type: str, returned: success, sample: "2026-01-31T12:00:00Z"}
    clock_skew: {description: Host time minus controller time in seconds. More than 300 is a warning., type: float, returned: success}
    last_boot: {description: When the host started., type: str, returned: success}
    cluster: {description: Name of its failover cluster. None when it is in none or O(gather) leaves it out., type: str, returned: success}
cluster_roles:
  description: The virtual machines of the whole failover cluster, also those of other nodes.
  returned: with V(cluster) of O(gather), on a node of a cluster
  type: list
  elements: dict
  contains:
    vm_id: {description: GUID; null where the cluster does not tell it., type: str, returned: always}
    role: {description: Name of the resource., type: str, returned: always}
    group: {description: Name of the group., type: str, returned: always}
    owner_node: {description: Node that owns it., type: str, returned: always}
    state: {description: State of the resource., type: str, returned: always}
vm:
  description: The virtual machine.
  returned: with O(name) or O(vm_id)
  type: dict
  contains: &vm
    vm_id: {description: GUID., type: str, returned: always}
    name: {description: Name. Any text and not unique., type: str, returned: always}
    state:
      description: V(running), V(off), V(saved), V(paused), a transition such as V(starting), V(other) or V(unknown).
      type: str
      returned: always
    enabled_state: {description: The number behind RV(vm.state)., type: int, returned: always}
    other_state:
      description: The host's own word for what V(other) is, such as V(Saving); none for every other state.
      type: str
      returned: always
    health: {description: "V(ok), V(major_failure) or V(critical).", type: str, returned: always}
    busy: {description: "What the host is doing to it, such as V(merging_disks).", type: str, returned: always}
    storage_offline: {description: Whether the storage of its configuration cannot be reached., type: bool, returned: always}
    replication_mode:
      description: V(none), V(primary), V(replica), V(test_replica) or V(extended_replica).
      type: str
      returned: always
    uptime: {description: Seconds since it started., type: int, returned: always}
    last_state_change: {description: When the state changed last., type: str, returned: always}
    last_backup: {description: Last successful backup that the host knows of., type: str, returned: always}
    generation: {description: "V(1) or V(2).", type: int, returned: always}
    version: {description: Configuration version., type: str, returned: always, sample: "10.0"}
    created: {description: When it was created., type: str, returned: always}
    notes: {description: Its notes., type: str, returned: always}
    checkpoint_policy: {description: "V(disabled), V(production), V(production_only), V(standard).", type: str, returned: always}
    automatic_checkpoints: {description: Whether a start takes a checkpoint. None before 2019., type: bool, returned: always}
    incremental_backup: {description: Whether the VSS writer keeps track of changes., type: bool, returned: always}
    secure_boot: {description: Whether secure boot is on., type: bool, returned: always}
    configuration_root: {description: Folder of the configuration., type: str, returned: always}
    configuration_file: {description: Configuration file relative to the folder., type: str, returned: always}
    snapshot_root: {description: Folder of the checkpoints' configuration., type: str, returned: always}
    processors: {description: Virtual processors., type: int, returned: with V(summary)}
    memory: {description: Memory in use in bytes., type: int, returned: with V(summary)}
    jobs:
      description: Jobs that run on it now.
      type: list
      elements: dict
      returned: with V(summary)
      contains:
        id: {description: Id of the job., type: str, returned: always}
        type: {description: JobType of the host., type: int, returned: always}
        percent: {description: Progress., type: int, returned: always}
    disks:
      description: Its disks.
      type: list
      elements: dict
      returned: with V(disks) or V(chains)
      contains:
        kind: {description: "V(virtual), V(pass_through), V(fibre_channel) or V(other).", type: str, returned: always}
        path: {description: The file that is written to now., type: str, returned: always}
        shared: {description: Whether other virtual machines use it., type: bool, returned: always}
        storage: {description: "V(local), V(csv), V(smb) or V(unknown).", type: str, returned: always}
        volume: {description: Root of the volume., type: str, returned: always}
        differencing: {description: Whether the file has a parent by its name., type: bool, returned: always}
        chain_problem: {description: Why the chain is incomplete., type: str, returned: with V(chains)}
        chain:
          description: The files of the disk, newest first.
          type: list
          elements: dict
          returned: with V(chains)
          contains:
            path: {description: Full path., type: str, returned: always}
            kind: {description: "V(fixed), V(dynamic) or V(differencing).", type: str, returned: always}
            format: {description: "V(vhd), V(vhdx) or V(vhds).", type: str, returned: always}
            virtual_size: {description: Size that the guest sees in bytes., type: int, returned: always}
            file_size: {description: Size of the file in bytes., type: int, returned: always}
            disk_id: {description: Identity of the virtual disk., type: str, returned: always}
            parent_path: {description: The next file., type: str, returned: always}
    checkpoints:
      description: Its checkpoints, oldest first.
      type: list
      elements: dict
      returned: with V(checkpoints)
      contains:
        id: {description: GUID., type: str, returned: always}
        name: {description: Name., type: str, returned: always}
        kind:
          description:
            - V(user), V(recovery), V(replica), V(replica_application_consistent), V(replica_planned_failover), V(planned) or V(missing).
          type: str
          returned: always
        created: {description: When it was taken., type: str, returned: always}
        parent_id: {description: GUID of its parent., type: str, returned: always}
        automatic: {description: Whether the host took it by itself., type: bool, returned: always}
        saved_state: {description: Whether it holds memory., type: bool, returned: always}
        notes: {description: Notes., type: str, returned: always}
    integration:
      description: Integration services.
      type: dict
      returned: with V(integration)
      contains:
        backup: &service
          description: State of the service.
          type: dict
          returned: always
          contains:
            enabled: {description: Whether the host has it switched on., type: bool, returned: always}
            status: {description: "V(ok), V(degraded), V(incompatible), V(no_contact), V(lost) or V(paused).", type: str, returned: always}
            answering: {description: Whether the guest answers., type: bool, returned: always}
        heartbeat: *service
        guest:
          description: What the guest told. It may be wrong.
          type: dict
          returned: always
          contains:
            family: {description: "V(windows), V(linux), V(other) or V(unknown).", type: str, returned: always}
            os_name: {description: Name of the operating system., type: str, returned: always}
            os_version: {description: Version of the operating system., type: str, returned: always}
            fqdn: {description: DNS name., type: str, returned: always}
            integration_services_version: {description: Version of the integration services., type: str, returned: always}
    replication:
      description: Hyper-V Replica.
      type: dict
      returned: with V(replication)
      contains:
        mode: {description: "V(none), V(primary), V(replica), V(test_replica) or V(extended_replica).", type: str, returned: always}
        relations:
          description: Relations.
          type: list
          elements: dict
          returned: always
          contains:
            extended: {description: Whether this is the extended relation., type: bool, returned: always}
            state: {description: State such as V(replicating)., type: str, returned: always}
            health: {description: "V(ok), V(warning), V(critical) or V(not_applicable).", type: str, returned: always}
            last_replicated: {description: When changes arrived last., type: str, returned: always}
            last_applied: {description: When changes were applied last., type: str, returned: always}
    security:
      description: Security settings. None before 2016.
      type: dict
      returned: with V(security)
      contains:
        tpm: {description: Whether it has a virtual TPM., type: bool, returned: always}
        shielded: {description: Whether it is shielded., type: bool, returned: always}
        encrypt_traffic: {description: Whether its state and migration are encrypted., type: bool, returned: always}
    cluster:
      description: Its role in the failover cluster. None when the host is in none.
      type: dict
      returned: with V(cluster)
      contains:
        clustered: {description: Whether it is a role of the cluster., type: bool, returned: always}
        role: {description: Name of the resource., type: str, returned: always}
        group: {description: Name of the group., type: str, returned: always}
        owner_node: {description: Node that owns it., type: str, returned: always}
        state: {description: State of the resource., type: str, returned: always}
        matched_by: {description: "V(vm_id), or V(name) where the cluster did not tell the GUID.", type: str, returned: always}
    readiness:
      description: One entry for each method of protection.
      type: list
      elements: dict
      returned: with V(readiness)
      contains:
        method:
          description:
            - V(production_checkpoint), V(standard_checkpoint), V(recovery_checkpoint_application), V(recovery_checkpoint_crash),
              V(export_crash), V(export_saved_state), V(export_application), V(vss_copy), V(vss_writer) or V(live_copy).
          type: str
          returned: always
        achievable:
          description: V(inconsistent), V(crash), V(filesystem), V(application), V(image), or none when the method cannot be used.
          type: str
          returned: always
        reasons:
          description: Why.
          type: list
          elements: dict
          returned: always
          contains:
            code: {description: Stable code., type: str, returned: always}
            kind: {description: "V(blocker), V(limit), V(not_captured), V(unknown) or V(note).", type: str, returned: always}
            text: {description: A sentence., type: str, returned: always}
vms:
  description: The virtual machines.
  returned: without O(name) and O(vm_id)
  type: list
  elements: dict
  contains: *vm
missing:
  description: Entries of O(names) that this host does not have.
  returned: without O(name) and O(vm_id)
  type: list
  elements: str
duplicates:
  description: Names that several virtual machines have, with their GUIDs.
  returned: success
  type: dict
vanished:
  description: Virtual machines that went away while the facts were read.
  returned: success
  type: list
  elements: dict
  contains:
    vm_id: {description: GUID., type: str, returned: always}
    name: {description: Name., type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import machines
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import inventory, selection, vm_result

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    "vm_id": {"type": "str"},
    "names": {"type": "list", "elements": "str"},
    "gather": {"type": "list", "elements": "str", "choices": list(inventory.SUBSETS), "default": list(inventory.DEFAULT_SUBSETS)},
}
RULES: dict[str, Any] = {"mutually_exclusive": [("name", "names"), ("vm_id", "names")]}


def run(call: Call) -> dict[str, Any]:
    """Read the facts; nothing is ever changed."""
    gather = frozenset(call.params["gather"])
    facts = inventory.read_host(call.reader, call.clock, gather | {inventory.COMPUTER})
    selection.warn_about_host(call, facts)
    single = bool(call.params["name"] or call.params["vm_id"])
    chosen: tuple[Machine, ...]
    missing: tuple[str, ...] = ()
    if single:
        chosen = (machines.select(facts.machines, name=call.params["name"], vm_id=call.params["vm_id"]),)
    else:
        chosen, missing = selection.by_names(facts.machines, call.params["names"])
    if "chains" in gather:
        facts = inventory.read_chains(call.reader, facts, [machine.vm_id for machine in chosen])
    found = [vm_result.vm_result(facts, machine, gather) for machine in chosen]
    result: dict[str, Any] = {
        "changed": False, "host": vm_result.host_result(facts), "duplicates": inventory.duplicates(facts.machines),
        "vanished": [{"vm_id": machine.vm_id, "name": machine.name} for machine in facts.vanished],
    }
    if facts.cluster is not None:
        result["cluster_roles"] = vm_result.cluster_roles(facts.cluster)
    result.update({"vm": found[0]} if single else {"vms": found, "missing": list(missing)})
    return result


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
