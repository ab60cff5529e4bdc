# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verified exports of virtual machines, with a manifest and retention."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_export
short_description: Export virtual machines, prove each export, and keep as many as wanted
version_added: 0.1.0
description:
  - Exports running, saved or stopped virtual machines, or one checkpoint of a virtual machine, to a folder of the host or to a share.
    Each export is verified, and its C(manifest.json) is written last. A folder without one is an incomplete export.
  - Beside the manifest lies C(RESTORE.txt), which says in plain words how to restore the virtual machine by hand, without this collection.
  - With O(consistency=application) a production-only checkpoint is made, exported, and removed, and the merge of its disks is watched.
    It fails when the guest cannot quiesce, unless O(consistency_fallback) allows less.
  - Hyper-V writes the files. At a share it comes as the computer account of the host, C(DOMAIN\HOST$), whoever runs the task. That
    account needs full control on the share and in its folder; on a cluster that of each node does.
  - The export goes on on the host when the connection breaks or the time of the task is over. The next run of the same task takes it over,
    and M(agentless.hyperv.hyperv_cleanup) with its O(ignore:run_id) ends it.
author:
  - The agentless.hyperv authors (@agentless)
options:
  checkpoint_name:
    description: Export this checkpoint instead of the present state. Needs O(name) or O(vm_id).
    type: str
  checkpoint_id:
    description: The same by its GUID, for names that are not unique.
    type: str
  consistency:
    description:
      - The consistency that the export must have.
      - V(application) through a production-only checkpoint; Windows Server 2016 and later.
      - V(crash) exports the disks as they are at one instant, as after a power failure. Nothing happens in the guest.
      - V(image) exports disks and memory of one instant, so that the virtual machine comes back running. For one that is off or saved every
        export is an image.
    type: str
    choices: [application, crash, image]
    default: application
  live_data:
    description:
      - Where a running virtual machine is exported with the consistency V(crash), have the host ask the guest to quiesce
        (CaptureLiveState 2, Windows Server 2016 and later).
      - The result is called V(crash) nevertheless. It is not proven that a host fails, instead of silently degrading, when the guest
        does not.
    type: bool
    default: false
  exclude_disks:
    description:
      - Paths of virtual disks to leave out, such as those of page files. Any file of a disk's chain names it.
      - Windows Server 2019 and later. A restored virtual machine lacks these disks; the manifest and C(RESTORE.txt) say so.
    type: list
    elements: str
  verify:
    description:
      - How an export is checked before it counts.
      - V(size) looks that every file and every disk is there.
      - V(chain) also has the host read the definition, and open every exported disk with its whole chain.
      - V(sha256) also computes the hash of every file on the host, for the manifest. The host reads everything once more.
    type: str
    choices: [size, chain, sha256]
    default: chain
  allow_same_volume:
    description:
      - Accept a destination on the volume that holds the disks. Such an export dies with its source.
    type: bool
    default: false
  min_free_percent:
    description:
      - For O(consistency=application), how many percent of each volume with a disk must be free, since the checkpoint's differencing disks
        grow there. A virtual machine whose volume is full is paused.
    type: int
    default: 20
  wait:
    description:
      - Wait for the export. With V(false) the task returns with RV(job) as soon as the host has begun, and the same task run again, for
        example with C(until), takes it over. One virtual machine is begun after the other.
      - A host forgets a job five minutes after its end. Who comes back later finds an export of which nobody can tell whether it is whole,
        unless its disks have the sizes of their sources, which merged disks of a checkpoint never have; it is made anew then.
    type: bool
    default: true
  timeout:
    description:
      - Seconds that the task may export. After that it fails with C(timeout), while the export goes on on the host.
    type: int
    default: 14400
  wait_for_merge:
    description:
      - After O(consistency=application), wait until the disks are merged again. An export that is complete while they do not merge is
        reported as failed with C(merge_not_done); it counts nevertheless.
    type: bool
    default: true
  merge_timeout:
    description: Seconds that the merge may take.
    type: int
    default: 14400
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
  - Replicas, shared disks, virtual machines that the host works on, broken chains, adapters whose switch is gone, and two disk files of one
    name are refused, with the reason. Pass-through disks and virtual Fibre Channel are not captured, and RV(consistency) says so.
  - O(run_as) is who reads and writes the folder, the manifest and C(RESTORE.txt) at a share. The export itself is always written by the
    computer account.
  - A virtual machine with a virtual TPM, or a shielded one, starts on another host only with the keys of its protector. Manifest,
    RV(export) and C(RESTORE.txt) tell; save the keys elsewhere.
  - The configuration of a checkpoint is never exported without its disks, which can leave the chain locked.
  - In check mode nothing is put onto the host, so a share is not looked at. The task then predicts as if it held no exports, and says so.
seealso:
  - module: agentless.hyperv.hyperv_export_info
  - module: agentless.hyperv.hyperv_vss_copy
  - module: agentless.hyperv.hyperv_vm_info
  - module: agentless.hyperv.hyperv_cleanup
"""

EXAMPLES = r"""
- name: Export one virtual machine, its guest quiesced
  agentless.hyperv.hyperv_export:
    name: sql01
    destination: E:\Exports
  register: exported

- name: Show where it is
  ansible.builtin.debug:
    msg: "{{ exported.export.folder }}"

- name: Export all to a share, crash-consistent where a guest cannot quiesce, and keep three of each
  agentless.hyperv.hyperv_export:
    names: [all]
    destination: \\backup01\hyperv
    consistency_fallback: crash
    max_age: 20h
    keep: {last: 3}

- name: Export disks and memory of one instant
  agentless.hyperv.hyperv_export:
    name: web02
    destination: E:\Exports
    consistency: image
    verify: sha256
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
      description: "V(crash), V(filesystem), V(application) or V(image); null without an export. In check mode what would be reached."
      type: str
      returned: always
    evidence: {description: What the level rests on., type: str, returned: always}
    not_captured: {description: What is not part of the export., type: list, elements: str, returned: always}
    unknowns: {description: What the host cannot see., type: list, elements: str, returned: always}
export:
  description: The export in short. In check mode the folder is that of the virtual machine.
  returned: with O(name) or O(vm_id), when there is an export
  type: dict
  contains: &export
    folder: {description: Full path., type: str, returned: always}
    run_id: {description: The run that made it., type: str, returned: always}
    method:
      description: "How it was taken: V(production_checkpoint), V(checkpoint), V(live_crash), V(live_saved), V(live_data) or V(offline)."
      type: str
      returned: always
    size: {description: "Bytes of all files, in check mode what it may need.", type: int, returned: always}
    disks: {description: Number of virtual disk files., type: int, returned: always}
    needs_guardian: {description: Whether another host needs the keys of its protector., type: bool, returned: always}
manifest:
  description: The manifest, as C(docs/manifest.md) explains it, with its path, folder and the size of all files.
  returned: with O(name) or O(vm_id), when there is an export
  type: dict
adopted:
  description: Whether an earlier run had begun the export, and this one brought it to its end. RV(manifest) names that run.
  returned: with O(name) or O(vm_id), when there is a new export
  type: bool
merged:
  description: Whether the disks are merged again after the checkpoint was removed.
  returned: after O(consistency=application) with O(wait_for_merge)
  type: bool
job:
  description: The job that exports, as it was last seen, when the export is not complete.
  returned: when there is one
  type: dict
  contains: &job
    id: {description: Its InstanceID., type: str, returned: always}
    class: {description: Its class., type: str, returned: always}
    type: {description: "JobType, V(62).", type: int, returned: always}
    state: {description: Its state., type: str, returned: always}
    percent: {description: How far it is., type: int, returned: always}
    finished: {description: V(false) while it runs., type: bool, returned: always}
    error_code: {description: Its ErrorCode., type: int, returned: always}
leftovers:
  description: What of ours is still on the host or at the destination.
  returned: with O(name) or O(vm_id)
  type: list
  elements: dict
  contains: &leftover
    kind:
      description: "V(checkpoint), V(suspect_checkpoint), V(checkpoint_policy), V(incomplete_copy), V(intent), V(task) or V(job)."
      type: str
      returned: always
    id: {description: What it is., type: str, returned: always}
    location: {description: Where it is., type: str, returned: always}
    remove_with: {description: The command that removes it., type: str, returned: always}
pruned:
  description: The older exports that were removed, or that would be in check mode, the oldest first.
  returned: with O(keep), and O(name) or O(vm_id)
  type: list
  elements: dict
  contains: &pruned
    folder: {description: Full path of the export., type: str, returned: always}
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
    changed: {description: Whether an export was made or begun or an older one removed., type: bool, returned: always}
    failed: {description: Whether it failed., type: bool, returned: always}
    error_code: {description: Stable code of the failure., type: str, returned: on failure}
    msg: {description: What failed., type: str, returned: on failure}
    hint: {description: What to do., type: str, returned: on failure}
    consistency:
      description: What was asked for and what was reached.
      type: dict
      returned: unless nothing could be decided
      contains: *consistency
    export:
      description: The export in short.
      type: dict
      returned: when there is an export
      contains: *export
    manifest: {description: The manifest., type: dict, returned: when there is an export}
    adopted: {description: Whether an earlier run had begun the export., type: bool, returned: when there is a new export}
    merged: {description: Whether the disks are merged again., type: bool, returned: after a checkpoint that was made for it}
    job:
      description: The job that exports.
      type: dict
      returned: when the export is not complete and there is one
      contains: *job
    leftovers:
      description: What of ours is still on the host or at the destination.
      type: list
      elements: dict
      returned: always
      contains: *leftover
    pruned:
      description: The older exports that were removed.
      type: list
      elements: dict
      returned: with O(keep)
      contains: *pruned
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import copy_options, export_task, run_as

ARGUMENT_SPEC: dict[str, Any] = {
    **copy_options.ARGUMENT_SPEC,
    "checkpoint_name": {"type": "str"},
    "checkpoint_id": {"type": "str"},
    "consistency": {"type": "str", "choices": ["application", "crash", "image"], "default": "application"},
    "live_data": {"type": "bool", "default": False},
    "exclude_disks": {"type": "list", "elements": "str"},
    "verify": {"type": "str", "choices": ["size", "chain", "sha256"], "default": "chain"},
    "allow_same_volume": {"type": "bool", "default": False},
    "min_free_percent": {"type": "int", "default": 20},
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 14400},
    "wait_for_merge": {"type": "bool", "default": True},
    "merge_timeout": {"type": "int", "default": 14400},
}
RULES: dict[str, Any] = {
    "mutually_exclusive": [*copy_options.MUTUALLY_EXCLUSIVE, ("checkpoint_name", "checkpoint_id")],
    "required_one_of": copy_options.REQUIRED_ONE_OF,
    "required_if": run_as.REQUIRED_IF,
}


def run(call: Call) -> dict[str, Any]:
    """Plan, then export; check mode ends after the plan."""
    return export_task.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
