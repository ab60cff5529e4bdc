# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What interrupted runs left on a host."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_cleanup
short_description: Find and remove what interrupted runs of this collection left on a host
version_added: 0.1.0
description:
  - Finds shadow copies, links, scheduled tasks with their jobs, leases, intents and incomplete copies that runs of this collection left
    when they were interrupted, and lists the shadow copies of other products beside them.
  - Finds machines whose checkpoint policy such a run changed for a moment and could not put back, and puts it back.
  - Finds exports that go on although their run is dead, and the checkpoints that were made for exports.
  - Only reports, unless O(remove=true). Then it removes what is provably ours, of runs that are not at work, and older than
    O(older_than), and looks again.
  - Suspect and foreign shadow copies are never removed. M(agentless.hyperv.hyperv_shadow_copy) removes one by its ID. Other checkpoints
    are never removed either; M(agentless.hyperv.hyperv_checkpoint) removes one by its ID.
author:
  - The agentless.hyperv authors (@agentless)
options:
  remove:
    description:
      - Remove what is provably ours.
    type: bool
    default: false
  older_than:
    description:
      - Leave everything alone that belongs to a run younger than this. For example V(30m), V(4h) or V(1d).
      - The age of a run is the time since it last announced a shadow copy or a job of it wrote something, by the clock of the host.
      - This need not be longer than a copy takes. A run that works on a host holds a lease there, and as long as it does, or a task of it
        still runs, nothing of it is touched. This is the time that a later run has to take over what a copy came to whose run died.
    type: str
    default: 1h
  run_id:
    description:
      - Look at this run only, whatever its age, and whether it is at work or not. With O(remove=true) this cancels it. It loses its lease,
        so that it stops. Its task, or its export, is ended, and everything of it goes, also shadow copies that were meant to stay.
    type: str
  include_kept:
    description:
      - Whether shadow copies that M(agentless.hyperv.hyperv_shadow_copy) made to stay are removed, too, once they are older than
        O(older_than). With V(false) they and their intents have the status V(kept).
    type: bool
    default: true
extends_documentation_fragment:
  - agentless.hyperv.run_as
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
notes:
  - Shadow copies that M(agentless.hyperv.hyperv_shadow_copy) made are ours, too; O(include_kept) says what becomes of them.
  - A shadow copy that an interrupted run announced and did not link is ours when it is the only new one of its volume that can be meant. It
    was made by the system's provider, is of the kind that was announced, and is at most two minutes younger than the announcement.
  - A folder of an incomplete copy is removed only when it lies where an intent says, is named by the run, has no manifest, and holds
    nothing but files of a copy.
  - O(run_as) says who looks into folders at shares, and removes incomplete copies there. Only O(remove=true) does so, with one scheduled
    task for all of them and a second one when there is anything to remove. An audit and check mode start no task.
  - Before anything is removed, the folder of this collection on the host must be one that only SYSTEM and Administrators can use.
    Otherwise the task fails with C(state_dir_untrusted).
  - While something of a run is removed, its lease is held, so that no retry of that run begins meanwhile. It fails with C(lease_held).
seealso:
  - module: agentless.hyperv.hyperv_shadow_copy_info
  - module: agentless.hyperv.hyperv_shadow_copy
  - module: agentless.hyperv.hyperv_vss_copy
"""

EXAMPLES = r"""
- name: Tell what interrupted runs left
  agentless.hyperv.hyperv_cleanup:
  register: audit

- name: Fail when a shadow copy of ours was forgotten
  ansible.builtin.assert:
    that: audit.counts.ours == 0

- name: Remove it
  agentless.hyperv.hyperv_cleanup:
    remove: true

- name: Cancel a run, and remove everything that it made
  agentless.hyperv.hyperv_cleanup:
    remove: true
    run_id: nightly-20260301
"""

RETURN = r"""
shadow_copies:
  description: Every shadow copy of the host as it was found, as M(agentless.hyperv.hyperv_shadow_copy_info) returns it.
  returned: success
  type: list
  elements: dict
counts:
  description: How many shadow copies were found of each owner.
  returned: success
  type: dict
  contains:
    ours: {description: Made by this collection., type: int, returned: always}
    suspect: {description: Perhaps left by an interrupted run of this collection., type: int, returned: always}
    foreign: {description: Made by others., type: int, returned: always}
found:
  description: Everything that runs of this collection left, or that runs at work need.
  returned: success
  type: list
  elements: dict
  contains: &finding
    kind:
      description:
        - V(export), V(checkpoint), V(shadow_copy), V(link), V(task), V(job), V(incomplete_copy), V(destination), V(checkpoint_policy),
          V(suspect_checkpoint), V(intent), V(lease), V(folder) or V(file).
        - V(export) is an export that still goes on. That it is removed means that it is ended. V(checkpoint) was made for one.
        - V(checkpoint_policy) is a machine whose policy is not its own. That it is removed means that it is put back. Nothing is done about
          one that somebody has changed since.
        - Of interrupted restores V(planned_vm), V(drill_vm), V(restored_files) and V(intent). V(suspect_planned_vm) may have come of
          one, V(foreign_planned_vm) was left by somebody else. Neither is ever touched.
        - V(job) is the folder of a task on the host. V(destination) is a folder at a share where the run may have left an incomplete copy.
      type: str
      returned: always
    id: {description: What it is., type: str, returned: always}
    location: {description: Where it is., type: str, returned: always}
    status:
      description:
        - V(removable), or why it stays.
        - V(at_work) when its run holds a lease, V(running) when the run is dead and a task, an export or the making of a checkpoint of it
          goes on, which a later run takes over and which ends by itself at the latest, V(too_young) when its run began, or wrote
          something, less than O(older_than) ago.
        - V(unknown_age) when the host does not tell its age, V(suspect) for an intent of which a suspect shadow copy or checkpoint may
          have come, and for such a checkpoint, V(damaged) for an intent or a lease that cannot be understood, V(kept) for what
          O(include_kept=false) leaves.
        - V(suspect) and V(foreign) for planned virtual machines that are not provably ours, or not ours.
        - V(foreign_content) for a folder that holds something else, or a task or folder among ours that no run made.
        - V(unsearched) for a folder at a share that a task will look into, V(destination_needs_task) when O(run_as=session) has none to do
          so, and V(destination_missing) when the volume, or the folder at the share, is not there or could not be read. The intent stays.
      type: str
      returned: always
    run_id: {description: "The run, when it is known.", type: str, returned: always}
    age: {description: Its age in seconds., type: int, returned: always}
    remove_with: {description: The command that removes it by hand., type: str, returned: always}
removed:
  description: What was removed. In check mode what would be, without what a task has yet to find at shares.
  returned: success
  type: list
  elements: dict
  contains: *finding
leftovers:
  description: What could not be removed.
  returned: success
  type: list
  elements: dict
  contains:
    kind: {description: What kind of thing it is., type: str, returned: always}
    id: {description: What it is., type: str, returned: always}
    location: {description: Where it is., type: str, returned: always}
    remove_with: {description: The command that removes it., type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import cleanup, run_as

ARGUMENT_SPEC: dict[str, Any] = {
    "remove": {"type": "bool", "default": False},
    "older_than": {"type": "str", "default": "1h"},
    "run_id": {"type": "str"},
    "include_kept": {"type": "bool", "default": True},
    **run_as.ARGUMENT_SPEC,
}
RULES: dict[str, Any] = {"required_if": run_as.REQUIRED_IF}


def run(call: Call) -> dict[str, Any]:
    """Look, and remove when asked to; check mode ends after the plan."""
    return cleanup.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
