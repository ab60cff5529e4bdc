# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention at a destination, by a host that may delete there."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_prune
short_description: Remove copies and exports of other hosts by rules, where those may only create
version_added: 0.1.0
description:
  - Looks at all copies and exports below a destination, whichever host made them, and removes those that no rule of O(keep) keeps.
  - For destinations where the Hyper-V hosts may create but not delete, so that whoever takes over a host cannot destroy its backups. The
    task runs on another host, which may delete there, for example the file server itself. It needs WinRM, and no Hyper-V.
  - Only what has a readable manifest in its place is counted or removed, and only the files that it lists. One verified copy of each
    virtual machine always stays. Nothing of a virtual machine goes while a newer folder of it has no manifest, since its newest run then
    failed or is still at work.
author:
  - The agentless.hyperv authors (@agentless)
options:
  destination:
    description: The folder of this host, or the share, that holds the folders of the hosts.
    type: str
    required: true
  keep:
    required: true
  hosts:
    description: Computer names of the hosts whose copies are looked at. All when it is not given.
    type: list
    elements: str
  vm_ids:
    description: GUIDs of the virtual machines whose copies are looked at. All when it is not given.
    type: list
    elements: str
  kinds:
    description: What is looked at.
    type: list
    elements: str
    choices: [export, vss_copy]
    default: [export, vss_copy]
  timeout:
    description: Seconds that the task may take.
    type: int
    default: 3600
extends_documentation_fragment:
  - agentless.hyperv.retention
  - agentless.hyperv.run_as
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
notes:
  - The age of a copy is judged by the clock of the host that runs the task. A copy that says it is from the future is neither counted
    nor removed.
  - The guide for such a destination is C(docs/append-only-target.md).
  - In check mode no task is put onto the host, so a share is not looked at, and a warning says so.
seealso:
  - module: agentless.hyperv.hyperv_export
  - module: agentless.hyperv.hyperv_vss_copy
"""

EXAMPLES = r"""
- name: Keep seven days of all hosts, on the file server itself
  agentless.hyperv.hyperv_prune:
    destination: E:\Exports
    keep: {daily: 7}
"""

RETURN = r"""
results:
  description: What became of each virtual machine of each host, by kind.
  returned: success
  type: list
  elements: dict
  contains:
    vm: {description: GUID and newest name of the virtual machine., type: dict, returned: always}
    host: {description: The host that made the copies., type: str, returned: always}
    kind: {description: "V(export) or V(vss_copy).", type: str, returned: always}
    changed: {description: "Whether anything was removed, or would be in check mode.", type: bool, returned: always}
    failed: {description: Whether something could not be removed., type: bool, returned: always}
    stopped: {description: Why nothing is removed although rules may say so., type: str, returned: always}
    kept: {description: How many stay., type: int, returned: always}
    pruned: {description: "What was removed, as M(agentless.hyperv.hyperv_export) tells it.", type: list, elements: dict, returned: always}
    leftovers: {description: What could be removed in part only., type: list, elements: dict, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import copy_options, prune_task, run_as

ARGUMENT_SPEC: dict[str, Any] = {
    "destination": {"type": "str", "required": True},
    **copy_options.RETENTION,
    "keep": {**copy_options.RETENTION["keep"], "required": True},
    "hosts": {"type": "list", "elements": "str"},
    "vm_ids": {"type": "list", "elements": "str"},
    "kinds": {"type": "list", "elements": "str", "choices": ["export", "vss_copy"], "default": ["export", "vss_copy"]},
    "timeout": {"type": "int", "default": 3600},
    **run_as.ARGUMENT_SPEC,
}
RULES: dict[str, Any] = {"required_if": run_as.REQUIRED_IF}


def run(call: Call) -> dict[str, Any]:
    """Plan, then remove; check mode ends after the plan."""
    return prune_task.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
