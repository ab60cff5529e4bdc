# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A checkpoint of a virtual machine."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_checkpoint
short_description: Make and remove checkpoints of virtual machines
version_added: 0.1.0
description:
  - Makes a checkpoint of one, several or all virtual machines of a host, names it, marks it as ours in its notes, and proves that it is
    there.
  - The kind is the one that was asked for, whatever the policy of the machine. That policy is the same afterwards, also when the run was
    interrupted. An intent on the host says what it was, and the next run of this module, or M(agentless.hyperv.hyperv_cleanup), puts it
    back.
  - Removes checkpoints by name, GUID or rules, one after the other, and waits until the chain of every disk is really shorter.
  - A checkpoint is no backup. It lies on the same storage as the machine, and files grow as long as it is there.
author:
  - The agentless.hyperv authors (@agentless)
options:
  state:
    description:
      - With V(present) there is a checkpoint of ours named O(checkpoint_name).
      - With V(absent) there is none that O(checkpoint_name), O(checkpoint_id) or the rules choose. Of O(pattern), O(older_than),
        O(keep_last) and O(expired), all that are given must agree.
    type: str
    choices: [present, absent]
    default: present
  names:
    description:
      - Names or GUIDs of several virtual machines, or the one word V(all). The result has one entry for each, in RV(results).
      - One machine's failure never stops the others. The task fails at the end.
    type: list
    elements: str
  checkpoint_name:
    description:
      - Name of the checkpoint, of at most 100 characters. One of ours by this name counts as present.
      - The task fails when somebody else's checkpoint has this name, and with O(state=absent) when several have it.
    type: str
  checkpoint_id:
    description:
      - GUID of the checkpoint to remove. This is the only way to remove one of another product, or one that may be a suspect.
      - Those of replication are never removed.
    type: str
  pattern:
    description: Remove those whose names match this pattern of the shell, such as C(nightly-*), without case.
    type: str
  older_than:
    description: Remove those that are older than this, by the clock of the host. For example V(12h) or V(7d).
    type: str
  keep_last:
    description: Remove all but this number of the newest of each machine, among those that O(pattern) matches.
    type: int
  expired:
    description: Remove those whose time, as O(expires_after) said, is over.
    type: bool
    default: false
  subtree:
    description: Remove everything that grows from the one that is named, too. Fails when some of it is not ours.
    type: bool
    default: false
  include_user:
    description: Names and rules may choose checkpoints that people made, too. Without it only our own go.
    type: bool
    default: false
  wait_for_merge:
    description:
      - Wait until the merges are done, for each checkpoint before the next is removed, so that there is never more than one merge.
      - An earlier merge of a machine that nothing is removed from is waited for, too.
    type: bool
    default: true
  merge_timeout:
    description: Seconds to wait for each merge. The merge goes on when this is over, and the task fails.
    type: int
    default: 14400
  kind:
    description:
      - V(production_only) quiesces the guest and fails when that cannot be done. A machine that is off needs no quiescing.
      - V(production) quiesces the guest, and takes a standard checkpoint in its place when that cannot be done. RV(consistency) tells.
      - V(standard) keeps the memory of a machine that runs.
    type: str
    choices: [production_only, production, standard]
    default: production_only
  notes:
    description: Notes of the checkpoint. Our mark is added as their last line.
    type: str
  expires_after:
    description:
      - After this time the checkpoint counts as expired. For example V(12h) or V(3d). Nothing happens by itself then.
    type: str
  run_id:
    description:
      - Name of this run, of letters, digits and hyphens. It stands in the mark. A retry by the same name takes over what an interrupted try
        announced.
      - It is made up when it is not given.
    type: str
  min_free_percent:
    description: How much of each volume that holds a disk of the machine must be free. Differencing files grow there.
    type: int
    default: 10
  wait:
    description:
      - With V(false) the task ends as soon as a job of the host works on each machine, and RV(job) says C(finished=false). The same task
        run again adopts the job. It names the checkpoint once it is there, and puts the policy of the machine back. So run it again, with
        C(until), within five minutes after the job has ended; later nothing proves whose the checkpoint is, and it stays as a suspect.
      - With O(state=absent) the removal of the first checkpoint of each machine is begun. The same task run again begins the next one as
        soon as the merge of the one before is done. RV(job) is null when nothing goes on any more.
    type: bool
    default: true
  timeout:
    description:
      - Seconds for the whole task with O(state=present). A job of creation that has not ended by then is asked to end. Should it not do
        so, the same task run again adopts it.
      - Seconds for each removal, without its merge, with O(state=absent).
    type: int
    default: 1800
extends_documentation_fragment:
  - agentless.hyperv.vm_selector
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
notes:
  - The state folder of this collection on the host is used, so the account must be a local administrator.
  - A checkpoint that was made and could not be named, because the controller died at that moment, is a suspect. It is told by
    M(agentless.hyperv.hyperv_checkpoint_info), and never counts as ours.
  - Who goes back to a checkpoint by hand gets the policy back that the machine had at that moment, which can be that of O(kind).
    M(agentless.hyperv.hyperv_checkpoint_info) shows the policy.
seealso:
  - module: agentless.hyperv.hyperv_checkpoint_info
"""

EXAMPLES = r"""
- name: Make a checkpoint before the patch
  agentless.hyperv.hyperv_checkpoint:
    names: [sql01, web02]
    checkpoint_name: before-patch
    expires_after: 3d
    run_id: patch-2026-03

- name: Remove it when all is well
  agentless.hyperv.hyperv_checkpoint:
    names: [sql01, web02]
    state: absent
    checkpoint_name: before-patch

- name: Show what is expired, and how much would be merged
  agentless.hyperv.hyperv_checkpoint:
    names: all
    state: absent
    expired: true
  check_mode: true
  diff: true

- name: Make checkpoints of all machines at the same time
  agentless.hyperv.hyperv_checkpoint:
    names: [sql01, web02]
    checkpoint_name: at-once
    wait: false
  register: begun
  until: begun.results | map(attribute='job', default=false) | select | rejectattr('finished') | length == 0
  retries: 60
  delay: 5

- name: Keep the memory, too
  agentless.hyperv.hyperv_checkpoint:
    name: web02
    checkpoint_name: known-state
    kind: standard
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
    vm: {description: "Its C(vm_id) and C(name).", type: dict, returned: always}
    changed: {description: Whether anything was changed for it., type: bool, returned: always}
    failed: {description: Whether it failed., type: bool, returned: always}
    error_code: {description: Why., type: str, returned: when it failed}
    checkpoint: {description: RV(checkpoint)., type: dict, returned: when there is one}
    consistency: {description: RV(consistency)., type: dict, returned: with O(state=present)}
    job: {description: RV(job)., type: dict, returned: always}
    removed: {description: RV(removed)., type: list, elements: dict, returned: with O(state=absent)}
    bytes: {description: RV(bytes)., type: int, returned: with O(state=absent)}
    merged: {description: RV(merged)., type: bool, returned: with O(state=absent)}
    leftovers: {description: RV(leftovers)., type: list, elements: dict, returned: always}
vm:
  description: The machine, by C(vm_id) and C(name).
  returned: with O(name) or O(vm_id)
  type: dict
checkpoint:
  description:
    - The checkpoint, with the keys of RV(agentless.hyperv.hyperv_checkpoint_info#module:checkpoints).
    - In check mode without what is not known before.
  returned: with O(name) or O(vm_id), and O(state=present)
  type: dict
consistency:
  description: What was asked for, and what was achieved.
  returned: with O(name) or O(vm_id), and O(state=present)
  type: dict
  contains:
    requested: {description: O(kind)., type: str, returned: always}
    achieved: {description: "V(application), V(filesystem), V(crash) or V(image).", type: str, returned: always}
    evidence: {description: What that rests on., type: str, returned: always}
    not_captured: {description: What is not part of it., type: list, elements: str, returned: always}
    unknowns: {description: What the host cannot see., type: list, elements: str, returned: always}
job:
  description:
    - The job that made it; null when none did.
    - With O(state=absent) and O(wait=false) the removal or the merge that goes on; null when none does.
  returned: with O(name) or O(vm_id)
  type: dict
removed:
  description: The checkpoints that were removed, in this order. In check mode those that would be.
  returned: with O(name) or O(vm_id), and O(state=absent)
  type: list
  elements: dict
bytes:
  description: Bytes of the files that their removal merged, and of their configuration and memory, as far as they could be read.
  returned: with O(name) or O(vm_id), and O(state=absent)
  type: int
merged:
  description: Whether everything is merged; null when that was not waited for.
  returned: with O(name) or O(vm_id), and O(state=absent)
  type: bool
leftovers:
  description: What could not be put back or removed.
  returned: with O(name) or O(vm_id)
  type: list
  elements: dict
  contains:
    kind: {description: "V(checkpoint_policy), V(suspect_checkpoint) or V(intent).", type: str, returned: always}
    id: {description: What it is., type: str, returned: always}
    location: {description: Where it is., type: str, returned: always}
    remove_with: {description: The command that puts it right., type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_absent, checkpoint_plan, checkpoint_present

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "name": {"type": "str"},
    "vm_id": {"type": "str"},
    "names": {"type": "list", "elements": "str"},
    "checkpoint_name": {"type": "str"},
    "checkpoint_id": {"type": "str"},
    "pattern": {"type": "str"},
    "older_than": {"type": "str"},
    "keep_last": {"type": "int"},
    "expired": {"type": "bool", "default": False},
    "subtree": {"type": "bool", "default": False},
    "include_user": {"type": "bool", "default": False},
    "wait_for_merge": {"type": "bool", "default": True},
    "merge_timeout": {"type": "int", "default": 14400},
    "kind": {"type": "str", "choices": list(checkpoint_plan.KINDS), "default": checkpoint_plan.KINDS[0]},
    "notes": {"type": "str"},
    "expires_after": {"type": "str"},
    "run_id": {"type": "str"},
    "min_free_percent": {"type": "int", "default": 10},
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 1800},
}
RULES: dict[str, Any] = {
    "required_one_of": [("name", "vm_id", "names")],
    "mutually_exclusive": [("name", "names"), ("vm_id", "names"), ("checkpoint_id", "names"), *(
        (one, rule) for one in ("checkpoint_name", "checkpoint_id") for rule in ("pattern", "older_than", "keep_last")),
        ("checkpoint_name", "checkpoint_id")],
    "required_if": [("state", "present", ("checkpoint_name",))],
}


def run(call: Call) -> dict[str, Any]:
    """Plan, then make or remove; check mode ends after the plan."""
    return checkpoint_present.run(call) if call.params["state"] == "present" else checkpoint_absent.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
