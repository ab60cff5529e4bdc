# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkpoints of a host's virtual machines."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_checkpoint_info
short_description: List the checkpoints of virtual machines, with tree, owner, expiry and findings
version_added: 0.1.0
description:
  - Lists the checkpoints of one, several or all virtual machines of a host, with their tree, kind, owner, age, expiry and size.
  - Says what is wrong with them, or may become so, such as age, depth, chains that no checkpoint explains, and what failed backups left.
author:
  - The agentless.hyperv authors (@agentless)
options:
  names:
    description:
      - Names or GUIDs of virtual machines. All machines of the host when neither this nor O(name) nor O(vm_id) is given.
      - The word V(all) alone means all of them, too. Entries that match nothing are listed in RV(missing).
    type: list
    elements: str
  gather:
    description:
      - What costs a request for each disk file.
      - V(sizes) reads how large the files are that grew since each checkpoint, and its configuration and memory, one request for each
        file and each checkpoint.
      - V(chains) follows the chain of each disk down to its base, and finds those that are broken, one request for each file.
      - V(validity) lets the host check the chain of each disk, with the identifiers of parents, one job for each disk. One that is in use
        can perhaps not be checked, and is no finding then.
      - V(locations) looks whether the folders for checkpoints are there, one request for each, and whether the machine is clustered, one to
        four requests for the host.
      - V(strays) lists the folders of the disks, and finds differencing and change tracking files (C(.avhdx), C(.rct), C(.mrt)) that no
        chain needs, one request for each folder, and for each disk file of the machines that have one there. Shares are not looked at.
    type: list
    elements: str
    choices: [sizes, chains, validity, locations, strays]
    default: []
  max_age:
    description: A checkpoint of a user, or of this collection, that is older than this is a finding. For example V(12h) or V(7d).
    type: str
    default: 72h
  max_depth:
    description: A machine with so many checkpoints below its present state, or more, is a finding.
    type: int
    default: 5
  max_bytes:
    description: A machine whose differencing files have more bytes than this is a finding, with O(gather) of V(sizes).
    type: int
extends_documentation_fragment:
  - agentless.hyperv.vm_selector
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.info
  - agentless.hyperv.attributes.action_group
notes:
  - Ages are by the clock of the host.
  - The whole host costs six requests and their pages, however many machines and checkpoints it has, and one program more when a run
    is making checkpoints, or one that did was interrupted.
  - There is no active checkpoint. RV(parent_of_current) is the one that the present state of the machine grows from.
seealso:
  - module: agentless.hyperv.hyperv_vm_info
"""

EXAMPLES = r"""
- name: Look at the checkpoints of all machines
  agentless.hyperv.hyperv_checkpoint_info:
  register: checkpoints

- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ checkpoints.results | map(attribute='findings') | flatten | map(attribute='text') }}"

- name: Show the tree of one machine with sizes and chains
  agentless.hyperv.hyperv_checkpoint_info:
    name: sql01
    gather: [sizes, chains]

- name: Look at everything that can be wrong
  agentless.hyperv.hyperv_checkpoint_info:
    gather: [sizes, chains, validity, locations, strays]
    max_bytes: 107374182400
"""

RETURN = r"""
time:
  description: The clock of the host when it was read.
  returned: success
  type: str
results:
  description: One entry for each machine. With O(name) or O(vm_id) its keys are those of the result itself.
  returned: without O(name) and O(vm_id)
  type: list
  elements: dict
  contains:
    vm: {description: RV(vm)., type: dict, returned: always}
    checkpoints: {description: RV(checkpoints)., type: list, elements: dict, returned: always}
    findings: {description: RV(findings)., type: list, elements: dict, returned: always}
counts:
  description: How many checkpoints of each owner there are, how many are suspect or expired, and how many findings.
  returned: without O(name) and O(vm_id)
  type: dict
  sample: {ours: 2, user: 1, product: 0, replica: 0, automatic: 0, suspect: 0, expired: 1, findings: 2}
missing:
  description: Entries of O(names) that match no machine.
  returned: without O(name) and O(vm_id)
  type: list
  elements: str
duplicates:
  description: Names that several machines of the host have, with their GUIDs.
  returned: without O(name) and O(vm_id)
  type: dict
vm:
  description: The machine.
  returned: with O(name) or O(vm_id)
  type: dict
  contains:
    vm_id: {description: Its GUID., type: str, returned: always}
    name: {description: Its name., type: str, returned: always}
state:
  description: Its power state, as M(agentless.hyperv.hyperv_vm_info) returns it.
  returned: with O(name) or O(vm_id)
  type: str
busy:
  description: What the host is doing to it, such as V(merging_disks); null when nothing.
  returned: with O(name) or O(vm_id)
  type: str
replication_mode:
  description: "V(none), V(primary), V(replica), V(test_replica) or V(extended_replica)."
  returned: with O(name) or O(vm_id)
  type: str
policy:
  description: "V(disabled), V(production), V(production_only) or V(standard); null before Windows Server 2016."
  returned: with O(name) or O(vm_id)
  type: str
automatic_checkpoints:
  description: Whether the host makes a checkpoint at each start of the machine.
  returned: with O(name) or O(vm_id)
  type: bool
location:
  description: Where its checkpoints are stored.
  returned: with O(name) or O(vm_id)
  type: str
depth:
  description: How many checkpoints lie below its present state.
  returned: with O(name) or O(vm_id)
  type: int
parent_of_current:
  description: GUID of the checkpoint that its present state grows from; null when there is none.
  returned: with O(name) or O(vm_id)
  type: str
differencing_bytes:
  description: Size of all its differencing files; null without V(sizes), and when it cannot be told.
  returned: with O(name) or O(vm_id)
  type: int
stray_files:
  description: Files beside its disks that no chain needs; null without V(strays). The host may tell their names in lower case.
  returned: with O(name) or O(vm_id)
  type: list
  elements: str
checkpoints:
  description: Its checkpoints, the oldest first.
  returned: with O(name) or O(vm_id)
  type: list
  elements: dict
  contains:
    id: {description: Its GUID., type: str, returned: always}
    name: {description: Its name., type: str, returned: always}
    type:
      description:
        - V(user) for those that people and this collection make, V(recovery), V(replica), V(replica_application_consistent),
          V(replica_planned_failover), V(planned) or V(missing).
      type: str
      returned: always
    kind: {description: "V(production) or V(standard) for RV(checkpoints[].type=user), else the type.", type: str, returned: always}
    owner:
      description:
        - V(ours) when its notes hold our mark for this very checkpoint, V(product) for recovery checkpoints of backup products, V(replica),
          V(automatic), and V(user) for everything else.
      type: str
      returned: always
    suspect:
      description: Whether an interrupted run of this collection may have made it, without proof. It is not V(ours).
      type: bool
      returned: always
    created: {description: When it was made., type: str, returned: always}
    age: {description: Its age in seconds., type: int, returned: always}
    expires: {description: When its time is over; null when that was not said., type: str, returned: always}
    expired: {description: Whether it is., type: bool, returned: always}
    run_id: {description: The run that made it., type: str, returned: always}
    consistency:
      description: V(application), V(filesystem), V(crash), V(image), or null when it is not known.
      type: str
      returned: always
    saved_state: {description: Whether it holds the memory., type: bool, returned: always}
    automatic: {description: Whether the host made it by itself., type: bool, returned: always}
    notes: {description: Its notes without our mark., type: str, returned: always}
    parent_id: {description: GUID of its parent., type: str, returned: always}
    children: {description: GUIDs of the checkpoints that grow from it., type: list, elements: str, returned: always}
    depth: {description: 1 for a root of the tree., type: int, returned: always}
    is_parent_of_current: {description: Whether the present state of the machine grows from it., type: bool, returned: always}
    files: {description: The disk files that it keeps as they were., type: list, elements: str, returned: always}
    bytes:
      description:
        - Size of the files that grew directly on it, which a removal merges, and of RV(checkpoints[].system_bytes), which it frees.
        - null without V(sizes), and when it cannot be told.
      type: int
      returned: always
    system_bytes: {description: Size of its configuration and its memory., type: int, returned: always}
disks:
  description: The virtual disks of the machine.
  returned: with O(name) or O(vm_id)
  type: list
  elements: dict
  contains:
    path: {description: The file that it writes to., type: str, returned: always}
    chain: {description: "Its files, the leaf first, with C(gather) of V(chains), else null.", type: list, elements: dict, returned: always}
    chain_problem: {description: Why the chain is not complete., type: str, returned: always}
findings:
  description: What is wrong, or may become so.
  returned: with O(name) or O(vm_id)
  type: list
  elements: dict
  contains:
    code:
      description:
        - V(deep), V(large), V(merging), V(orphan_chain), V(policy_disabled), V(location_missing), V(location_off_cluster),
          V(location_on_system_drive), V(stray_files), V(chain_broken), V(chain_invalid), V(missing_files), V(abandoned_backup), V(old),
          V(expired), V(suspect) or V(automatic).
      type: str
      returned: always
    severity: {description: "V(warning) or V(error).", type: str, returned: always}
    text: {description: A sentence., type: str, returned: always}
    checkpoint_id: {description: The checkpoint that it is about; null for the machine., type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_info

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    "vm_id": {"type": "str"},
    "names": {"type": "list", "elements": "str"},
    "gather": {"type": "list", "elements": "str", "choices": list(checkpoint_info.GATHER), "default": []},
    "max_age": {"type": "str", "default": "72h"},
    "max_depth": {"type": "int", "default": 5},
    "max_bytes": {"type": "int"},
}
RULES: dict[str, Any] = {"mutually_exclusive": [("name", "names"), ("vm_id", "names")]}


def run(call: Call) -> dict[str, Any]:
    """Read and tell; nothing is changed."""
    return checkpoint_info.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
