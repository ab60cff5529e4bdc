# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine goes back to a checkpoint."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_checkpoint_revert
short_description: Take virtual machines back to a checkpoint
version_added: 0.1.0
description:
  - Takes one, several or all virtual machines of a host back to a checkpoint. It always acts, and always reports a change. What the machine
    is now says nothing about whether it has gone back already.
  - Its disks, its memory when the checkpoint holds it, and its configuration go back. The diff says what that changes and loses.
  - The present state is kept in a checkpoint of ours, unless O(checkpoint_before=false).
  - That it went back is proved. The machine grows from the checkpoint and writes to new files.
author:
  - The agentless.hyperv authors (@agentless)
options:
  names:
    description: Names or GUIDs of several virtual machines, or the one word V(all). The result has one entry for each, in RV(results).
    type: list
    elements: str
  checkpoint_name:
    description: Name of the checkpoint, whoever made it. The task fails when several have it.
    type: str
  checkpoint_id:
    description: GUID of the checkpoint.
    type: str
  checkpoint_before:
    description: Keep the present state in a checkpoint. When that cannot be made, the machine is left as it is.
    type: bool
    default: true
  before_name:
    description: Name of that checkpoint; the time is added. By default it tells what the machine goes back to.
    type: str
  before_kind:
    description: Its kind, as of O(agentless.hyperv.hyperv_checkpoint#module:kind).
    type: str
    choices: [production_only, production, standard]
    default: production
  force:
    description:
      - Turn a machine off that runs or is paused, as a power cut does. Without it the task fails for such a machine.
    type: bool
    default: false
  power_after:
    description:
      - V(as_reverted) leaves the machine as the checkpoint does. It is saved when the checkpoint holds the memory, and off otherwise.
      - V(running) starts it. V(as_before) starts it when it ran before.
    type: str
    choices: [as_reverted, running, as_before]
    default: as_reverted
  run_id:
    description: Name of this run, of letters, digits and hyphens. It is made up when it is not given.
    type: str
  timeout:
    description: Seconds for the whole task.
    type: int
    default: 1800
extends_documentation_fragment:
  - agentless.hyperv.vm_selector
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
notes:
  - Replicas are refused, and so are checkpoints of replication and of backup products, and those that rest on a chain that is not complete.
  - A machine that is replicated needs a resynchronisation afterwards, and an incremental backup chain is broken. The task warns of both.
  - A checkpoint of ours that was made under another policy than the machine's own brings that policy back. It is put right.
  - What lies on pass-through disks, and on disks that the guest attaches itself, does not go back.
seealso:
  - module: agentless.hyperv.hyperv_checkpoint
  - module: agentless.hyperv.hyperv_checkpoint_info
"""

EXAMPLES = r"""
- name: Show what going back would lose
  agentless.hyperv.hyperv_checkpoint_revert:
    name: web02
    checkpoint_name: before-patch
    force: true
  check_mode: true
  diff: true

- name: Go back, and start again
  agentless.hyperv.hyperv_checkpoint_revert:
    name: web02
    checkpoint_name: before-patch
    force: true
    power_after: running
"""

RETURN = r"""
run_id:
  description: Name of the run.
  returned: always
  type: str
results:
  description: One entry for each machine. With O(name) or O(vm_id) its keys are those of the result itself.
  returned: with O(names)
  type: list
  elements: dict
  contains:
    vm: {description: RV(vm)., type: dict, returned: always}
    changed: {description: Whether anything was changed for it., type: bool, returned: always}
    failed: {description: Whether it failed., type: bool, returned: always}
    error_code: {description: Why., type: str, returned: when it failed}
    checkpoint: {description: RV(checkpoint)., type: dict, returned: when it is known}
    checkpoint_before: {description: RV(checkpoint_before)., type: dict, returned: when it is known}
    state: {description: RV(state)., type: str, returned: when it is known}
    leftovers: {description: RV(leftovers)., type: list, elements: dict, returned: always}
vm:
  description: The machine, by C(vm_id) and C(name).
  returned: with O(name) or O(vm_id)
  type: dict
checkpoint:
  description: Where it went back to, with the keys of RV(agentless.hyperv.hyperv_checkpoint_info#module:checkpoints).
  returned: with O(name) or O(vm_id)
  type: dict
checkpoint_before:
  description: The checkpoint with the state before, by C(id) and C(name); null without one.
  returned: with O(name) or O(vm_id)
  type: dict
state:
  description: The power state at the end.
  returned: with O(name) or O(vm_id)
  type: str
job:
  description: The job that did it.
  returned: with O(name) or O(vm_id)
  type: dict
leftovers:
  description: What could not be put back or removed, with the keys of RV(agentless.hyperv.hyperv_checkpoint#module:leftovers).
  returned: with O(name) or O(vm_id)
  type: list
  elements: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_plan, checkpoint_revert

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    "vm_id": {"type": "str"},
    "names": {"type": "list", "elements": "str"},
    "checkpoint_name": {"type": "str"},
    "checkpoint_id": {"type": "str"},
    "checkpoint_before": {"type": "bool", "default": True},
    "before_name": {"type": "str"},
    "before_kind": {"type": "str", "choices": list(checkpoint_plan.KINDS), "default": "production"},
    "force": {"type": "bool", "default": False},
    "power_after": {"type": "str", "choices": ["as_reverted", "running", "as_before"], "default": "as_reverted"},
    "run_id": {"type": "str"},
    "timeout": {"type": "int", "default": 1800},
}
RULES: dict[str, Any] = {
    "required_one_of": [("name", "vm_id", "names"), ("checkpoint_name", "checkpoint_id")],
    "mutually_exclusive": [("name", "names"), ("vm_id", "names"), ("checkpoint_id", "names"), ("checkpoint_name", "checkpoint_id")],
}


def run(call: Call) -> dict[str, Any]:
    """Plan, then go back; check mode ends after the plan."""
    return checkpoint_revert.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
