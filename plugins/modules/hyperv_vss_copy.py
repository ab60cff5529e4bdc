# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of running virtual machines out of VSS shadow copies."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_vss_copy
short_description: Copy the virtual disks of running virtual machines out of VSS shadow copies
version_added: 0.1.0
description:
  - Makes a shadow copy of the volume that holds the disks, links it, copies whole chains with robocopy to a local folder of the host or
    to a share, verifies every file, writes a manifest last, removes the link and deletes exactly that shadow copy, whatever happens in
    between.
  - One shadow copy of a volume serves all virtual machines of the task whose disks lie there.
  - The result is crash-consistent, because a shadow copy that is made through WMI engages no writers. An image results for
    a virtual machine that is off. With O(writers=hyperv) the guests take part, see there.
  - The copy is complete when its C(manifest.json) exists. A folder without one is an incomplete copy.
  - Each virtual machine is copied by a scheduled task of the host, which outlives the connection. When the time of this task is over, or
    the connection breaks, the copy goes on, and the next run takes it over. RV(job) names it. It is ended by
    M(agentless.hyperv.hyperv_cleanup) with its O(ignore:run_id).
author:
  - The agentless.hyperv authors (@agentless)
options:
  consistency:
    description:
      - The consistency that the copy must have. V(application) can be reached with O(writers=hyperv) only.
    type: str
    choices: [application, crash, image]
    default: crash
  timeout:
    description:
      - Seconds that the task may copy. After that it fails with C(timeout), while the copy goes on for an hour at most, so that
        the next run can take it over. With O(run_as=session) the copy ends with the task.
      - A virtual machine that another run at work copies to the same place, or is going to, is waited for as long, after everything else
        was copied. Then its copy is found present with O(max_age), or is taken over from a run that died; else it is made. When the time
        is over first, that virtual machine fails with C(copy_underway).
    type: int
    default: 14400
  vss_wait:
    description: Seconds to wait while another shadow copy is being created on the host.
    type: int
    default: 600
  verify:
    description:
      - How a copy is checked.
      - V(size) compares the size of every file with that in the shadow copy, and asks the host's image service whether each copy is
        a virtual disk of the same identity, virtual size and type. A copy that it cannot look at is told in the unknowns of
        RV(consistency); it may only carry a log that was not replayed yet.
      - V(sha256) also compares the hash of every file. The host reads everything twice more.
      - V(none) checks nothing. Such a copy never counts as present, and O(keep) removes nothing because of it.
    type: str
    choices: [none, size, sha256]
    default: size
  method:
    description:
      - V(vss) copies out of a shadow copy.
      - V(live) copies the files as they are, while the virtual machine may write to them. The parts of such a copy are from different
        instants, and nobody supports it. It is refused for disks that are chains, newer hosts refuse it for running virtual
        machines (C(sharing_violation)), it is always reported as inconsistent, and O(keep) counts it as unverified.
    type: str
    choices: [vss, live]
    default: vss
  accept_inconsistent:
    description: Must be V(true) for O(method=live), as an acceptance of what that means.
    type: bool
    default: false
  writers:
    description:
      - V(none) makes the shadow copy through WMI, without any writer.
      - V(hyperv) makes a set of shadow copies of all volumes of a virtual machine with C(diskshadow) and the Hyper-V writer, one virtual
        machine at a time, the components of all others excluded. Guests whose integration service answers are quiesced, and the
        files that hold their quiesced state are copied, too. The copy is called application-consistent only on evidence.
      - C(diskshadow) exists on Server editions only.
    type: str
    choices: [none, hyperv]
    default: none
  csv_any_node:
    description:
      - Copy from cluster shared volumes that another node coordinates, too. Windows Server 2012 and later can make shadow copies of them
        from any node; without this option such virtual machines are refused, since the data then travel through the other node.
    type: bool
    default: false
extends_documentation_fragment:
  - agentless.hyperv.copies
  - agentless.hyperv.retention
  - agentless.hyperv.run_as
  - agentless.hyperv.limits
  - agentless.hyperv.vm_selector
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
notes:
  - Virtual machines whose disks lie on several volumes (unless O(writers=hyperv)) or on an SMB share, replicas, shared disks, and cluster
    shared volumes that another node coordinates are refused, with the reason.
  - In check mode nothing is put onto the host, so a share is not looked at. The task then predicts as if it held no copies, and says so.
  - The folder C(agentless.hyperv) below C(ProgramData) of the host holds links, intents, leases and jobs. Only SYSTEM and Administrators
    may use it; the task fails with C(state_dir_untrusted) when it is anything else.
seealso:
  - module: agentless.hyperv.hyperv_vm_info
  - module: agentless.hyperv.hyperv_cleanup
"""

EXAMPLES = r"""
- name: Copy one virtual machine
  agentless.hyperv.hyperv_vss_copy:
    name: sql01
    destination: E:\Backup
  register: copied

- name: Show where the copy is
  ansible.builtin.debug:
    msg: "{{ copied.manifest.folder }}"

- name: Copy several, unless a copy of the last 20 hours exists
  agentless.hyperv.hyperv_vss_copy:
    names: [sql01, web02]
    destination: E:\Backup
    max_age: 20h

- name: Copy all, and keep a copy of each of seven days and four weeks
  agentless.hyperv.hyperv_vss_copy:
    names: [all]
    destination: E:\Backup
    max_age: 20h
    keep: {daily: 7, weekly: 4}
    timezone: Europe/Berlin

- name: Copy to a share that knows the computer account of the host
  agentless.hyperv.hyperv_vss_copy:
    names: [all]
    destination: \\backup01\hyperv
    max_age: 20h
    verify: sha256

- name: Copy to a share of a workgroup
  agentless.hyperv.hyperv_vss_copy:
    name: sql01
    destination: \\nas01\backup
    run_as: account
    run_as_user: HV01\backup
    run_as_password: "{{ backup_password }}"

- name: Copy with the guest quiesced, or fail
  agentless.hyperv.hyperv_vss_copy:
    name: sql01
    destination: E:\Backup
    writers: hyperv
    consistency: application
"""

RETURN = r"""
run_id:
  description: Name of this run.
  returned: success
  type: str
vm:
  description: The virtual machine.
  returned: with O(name) or O(vm_id)
  type: dict
  contains: &vm
    vm_id: {description: GUID., type: str, returned: always}
    name: {description: Name., type: str, returned: always}
consistency:
  description: What was asked for and what was reached.
  returned: with O(name) or O(vm_id)
  type: dict
  contains: &consistency
    requested: {description: What the task asked for., type: str, returned: always}
    achieved:
      description: "V(inconsistent), V(crash), V(filesystem), V(application) or V(image). In check mode what would be reached."
      type: str
      returned: always
    evidence: {description: What the level rests on., type: str, returned: always}
    not_captured: {description: What is not part of the copy., type: list, elements: str, returned: always}
    unknowns: {description: What the host cannot see., type: list, elements: str, returned: always}
manifest:
  description: The manifest of the copy. In check mode only the folder of the virtual machine, the run, the size and the number of files.
  returned: with O(name) or O(vm_id), when there is a copy
  type: dict
  contains: &manifest
    format: {description: "Format of the manifest, V(1).", type: int, returned: always}
    kind: {description: "V(vss_copy).", type: str, returned: always}
    vm: {description: GUID and name of the virtual machine., type: dict, returned: always}
    host: {description: NetBIOS name of the host., type: str, returned: always}
    run_id: {description: The run that made the copy., type: str, returned: always}
    method: {description: "V(vss), V(writers) or V(live).", type: str, returned: always}
    taken: {description: The instant of the data., type: str, returned: always}
    completed: {description: When the copy was complete., type: str, returned: always}
    shadow_copy: {description: "The shadow copy that it was taken from, null for a live copy.", type: str, returned: always}
    consistency: {description: "As RV(consistency).", type: dict, returned: always}
    verified: {description: "How the copy was checked: O(verify).", type: str, returned: always}
    files:
      description: The files.
      type: list
      elements: dict
      returned: always
      contains:
        path: {description: Path below the folder of the copy., type: str, returned: always}
        source: {description: Where it was on the host., type: str, returned: always}
        size: {description: Bytes., type: int, returned: always}
        disk: {description: Number of the disk., type: int, returned: always}
        level: {description: "How far below the newest file of its chain, which is V(0).", type: int, returned: always}
        sha256: {description: "Hash of the copy, compared with that of its source.", type: str, returned: "with O(verify=sha256)"}
    path: {description: Full path of the manifest., type: str, returned: always}
    folder: {description: Full path of the copy., type: str, returned: always}
    size: {description: Bytes of all files., type: int, returned: always}
shadow_copy:
  description: The shadow copy that was used. It exists no more, unless RV(leftovers) names it.
  returned: with O(name) or O(vm_id), when one was made
  type: dict
  contains: &shadow
    id: {description: Its ID., type: str, returned: always}
    volume: {description: The volume that it showed., type: str, returned: always}
    device: {description: Its device., type: str, returned: always}
    provider: {description: "V(system), V(csv) or the ID of another provider.", type: str, returned: always}
    created: {description: When it was made., type: str, returned: always}
leftovers:
  description: What could not be removed from the host.
  returned: with O(name) or O(vm_id)
  type: list
  elements: dict
  contains: &leftover
    kind: {description: "V(shadow_copy), V(suspect_shadow_copy), V(link), V(intent) or V(incomplete_copy).", type: str, returned: always}
    id: {description: What it is., type: str, returned: always}
    location: {description: Where it is., type: str, returned: always}
    remove_with: {description: The command that removes it., type: str, returned: always}
adopted:
  description: Whether an earlier run had begun the copy, and this one brought it to its end. RV(manifest) names that run.
  returned: with O(name) or O(vm_id), when there is a new copy
  type: bool
job:
  description: The copy that goes on on the host when its task is over first, or that another run is making.
  returned: when a copy is under way
  type: dict
  contains: &job
    finished: {description: V(false) while it runs., type: bool, returned: always}
    task: {description: Path of its scheduled task on the host., type: str, returned: always}
    run_id: {description: The run that began it., type: str, returned: always}
pruned:
  description: The older copies that were removed, or that would be in check mode, the oldest first.
  returned: with O(keep), and O(name) or O(vm_id)
  type: list
  elements: dict
  contains: &pruned
    folder: {description: Full path of the copy., type: str, returned: always}
    taken: {description: The instant of its data., type: str, returned: always}
    run_id: {description: The run that made it., type: str, returned: always}
    size: {description: Bytes of its files., type: int, returned: always}
    folder_removed: {description: V(false) when the folder stays because it holds something else., type: bool, returned: always}
results:
  description: What became of each virtual machine.
  returned: with O(names)
  type: list
  elements: dict
  contains:
    vm:
      description: The virtual machine.
      type: dict
      returned: always
      contains: *vm
    changed: {description: Whether a copy was made or an older one removed., type: bool, returned: always}
    failed: {description: Whether it failed., type: bool, returned: always}
    error_code: {description: Stable code of the failure., type: str, returned: on failure}
    msg: {description: What failed., type: str, returned: on failure}
    hint: {description: What to do., type: str, returned: on failure}
    consistency:
      description: What was asked for and what was reached.
      type: dict
      returned: always
      contains: *consistency
    manifest:
      description: The manifest of the copy.
      type: dict
      returned: when there is a copy
      contains: *manifest
    shadow_copy:
      description: The shadow copy that was used.
      type: dict
      returned: when one was made
      contains: *shadow
    leftovers:
      description: What could not be removed from the host.
      type: list
      elements: dict
      returned: always
      contains: *leftover
    adopted: {description: Whether an earlier run had begun the copy., type: bool, returned: when there is a new copy}
    job:
      description: The copy that goes on on the host.
      type: dict
      returned: when a copy is under way
      contains: *job
    pruned:
      description: The older copies that were removed.
      type: list
      elements: dict
      returned: with O(keep)
      contains: *pruned
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import copy_options, run_as, vss_task

ARGUMENT_SPEC: dict[str, Any] = {
    **copy_options.ARGUMENT_SPEC,
    "consistency": {"type": "str", "choices": ["application", "crash", "image"], "default": "crash"},
    "timeout": {"type": "int", "default": 14400},
    "vss_wait": {"type": "int", "default": 600},
    "verify": {"type": "str", "choices": ["none", "size", "sha256"], "default": "size"},
    "method": {"type": "str", "choices": ["vss", "live"], "default": "vss"},
    "accept_inconsistent": {"type": "bool", "default": False},
    "writers": {"type": "str", "choices": ["none", "hyperv"], "default": "none"},
    "csv_any_node": {"type": "bool", "default": False},
}
RULES: dict[str, Any] = {
    "mutually_exclusive": copy_options.MUTUALLY_EXCLUSIVE,
    "required_one_of": copy_options.REQUIRED_ONE_OF,
    "required_if": run_as.REQUIRED_IF,
}


def run(call: Call) -> dict[str, Any]:
    """Plan, then copy; check mode ends after the plan."""
    return vss_task.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
