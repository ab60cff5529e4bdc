# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What protects the virtual machines of a host."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_protection_info
short_description: What protects the virtual machines of a Hyper-V host, and what endangers them
version_added: 0.1.0
description:
  - Lists the copies and exports of a host's virtual machines at O(destinations), with what their manifests say and whether they are whole.
    Only the folder of this host is looked at in each. One that cannot be read is told in RV(destinations), and does not fail the task.
  - Beside them the state of the virtual machines, findings about their checkpoints, their replica relations, and the shadow copies of the
    host. It is what the role C(report) reads of each host, in one task however many virtual machines there are.
author:
  - The agentless.hyperv authors (@agentless)
options:
  checkpoint_max_age:
    description: A checkpoint of a user, or of this collection, that is older than this is a finding. For example V(12h) or V(7d).
    type: str
    default: 72h
  checkpoint_max_depth:
    description: A machine with so many checkpoints below its present state, or more, is a finding.
    type: int
    default: 5
extends_documentation_fragment:
  - agentless.hyperv.destinations
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.info
  - agentless.hyperv.attributes.action_group
notes:
  - Nothing is changed. A share is reached by a scheduled task that reads it and is deleted, so in check mode shares are not read.
  - The host costs about twenty requests, and a program for each local destination or a task for each share.
seealso:
  - module: agentless.hyperv.hyperv_vm_info
  - module: agentless.hyperv.hyperv_checkpoint_info
  - module: agentless.hyperv.hyperv_shadow_copy_info
"""

EXAMPLES = r"""
- name: Read what there is of every virtual machine
  agentless.hyperv.hyperv_protection_info:
    destinations:
      - path: E:\Backup
      - path: \\backup01\hyperv
  register: protection

- name: Show the newest verified copy of one
  ansible.builtin.debug:
    msg: >-
      {{ protection.copies | selectattr('vm_name', 'equalto', 'sql01') | selectattr('standing', 'equalto', 'verified')
         | map(attribute='taken') | max | default('none', true) }}
"""

RETURN = r"""
host:
  description: The host, as M(agentless.hyperv.hyperv_vm_info) returns it.
  returned: success
  type: dict
vms:
  description:
    - Its virtual machines, as M(agentless.hyperv.hyperv_vm_info) returns them with V(state), V(replication) and V(cluster), and more.
  returned: success
  type: list
  elements: dict
  contains:
    vm_id: {description: GUID., type: str, returned: always}
    name: {description: Name., type: str, returned: always}
    checkpoints: {description: Number of its checkpoints., type: int, returned: always}
    findings:
      description: What is wrong with them, as M(agentless.hyperv.hyperv_checkpoint_info) returns it.
      type: list
      elements: dict
      returned: always
destinations:
  description: One entry for each of O(destinations), in their order.
  returned: success
  type: list
  elements: dict
  contains:
    path: {description: Its path., type: str, returned: always}
    read: {description: Whether it could be read., type: bool, returned: always}
    free: {description: Free bytes; null when nobody said., type: int, returned: always}
    damaged:
      description: Folders whose manifest cannot be read, or lies in another place than it says.
      type: list
      elements: str
      returned: always
    incomplete: {description: "Folders without a manifest: being made, or interrupted.", type: list, elements: str, returned: always}
    error_code: {description: Why it could not be read; null when it could., type: str, returned: always}
    msg: {description: The same as a sentence., type: str, returned: always}
    hint: {description: What to do., type: str, returned: always}
copies:
  description: The copies and exports that a manifest of this collection describes.
  returned: success
  type: list
  elements: dict
  contains:
    vm_id: {description: GUID of the virtual machine., type: str, returned: always}
    vm_name: {description: Its name at that time., type: str, returned: always}
    host: {description: Computer name of the host that made it., type: str, returned: always}
    kind: {description: "V(vss_copy) or V(export).", type: str, returned: always}
    method: {description: How it was taken., type: str, returned: always}
    destination: {description: The destination that it lies at., type: str, returned: always}
    folder: {description: Its folder., type: str, returned: always}
    run_id: {description: The run that made it., type: str, returned: always}
    taken: {description: The instant of its data., type: str, returned: always}
    completed: {description: When it was complete., type: str, returned: always}
    requested: {description: The consistency that was asked for., type: str, returned: always}
    achieved: {description: The consistency that was reached., type: str, returned: always}
    verified: {description: How it was verified., type: str, returned: always}
    standing:
      description:
        - V(verified), V(unverified) for one that nobody verified or that is inconsistent, V(incomplete) when files of it are missing.
      type: str
      returned: always
    size: {description: Bytes of its files., type: int, returned: always}
shadow_copies:
  description: The shadow copies of the host, the oldest first; null when the account may not list them.
  returned: success
  type: list
  elements: dict
  contains:
    id: {description: Its ID., type: str, returned: always}
    owner: {description: "V(ours), V(suspect) or V(foreign).", type: str, returned: always}
    reason: {description: What that rests on., type: str, returned: always}
    created: {description: When it was made., type: str, returned: always}
    age: {description: Its age in seconds., type: int, returned: always}
    path: {description: Where its volume is mounted., type: str, returned: always}
    run_id: {description: "The run that made it, when it is ours and that is known.", type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations, protection_info

ARGUMENT_SPEC: dict[str, Any] = {
    **destinations.ARGUMENT_SPEC,
    "checkpoint_max_age": {"type": "str", "default": "72h"},
    "checkpoint_max_depth": {"type": "int", "default": 5},
}
RULES: dict[str, Any] = {}


def run(call: Call) -> dict[str, Any]:
    """Read and tell."""
    return protection_info.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
