# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine comes back from an export."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_restore
short_description: Restore a virtual machine from an export
version_added: 0.1.0
description:
  - Brings a virtual machine back from an export at a destination, under another name (O(mode=new)), in its old place (O(mode=in_place)), or
    for a drill that removes everything again (O(mode=drill)).
  - Works on any host that reaches the destination, also on one that never saw the virtual machine. The host that made the backup, its
    controller and its inventory are not needed.
  - A job on the host copies the files to O(location) and compares each with the manifest. Then the configuration is imported as a planned
    virtual machine, its disks are pointed at the copied files, its adapters are disconnected or mapped, the host validates it, and
    it becomes a real one. No byte passes through the controller.
  - Until then everything that was made goes again when anything fails. What cannot be removed is in RV(leftovers), and
    M(agentless.hyperv.hyperv_cleanup) finds it.
  - A backup that was restored is not restored again. The notes of the restored virtual machine say which backup it came of, and a task for
    the same backup, mode and name reports no change.
author:
  - The agentless.hyperv authors (@agentless)
options:
  name:
    description:
      - Name that the virtual machine had when the backup was made, compared without case. It need not exist on this host.
      - The task fails when backups of several virtual machines of this name are there; the message lists their GUIDs.
    type: str
  vm_id:
    description: GUID that the virtual machine had. Takes precedence over O(name).
    type: str
  source_host:
    description: NetBIOS name of the host that made the backup. Needed only when several hosts have backups of the same virtual machine.
    type: str
  destination:
    description: Where the backups lie, as the modules that made them were told. A local folder of this host, or a share.
    type: str
  folder:
    description: Folder of one export, in place of a choice at O(destination). Manifest and files are looked at just the same.
    type: str
  backup_id:
    description: The backup of this run, as RV(agentless.hyperv.hyperv_restore#module:backup.backup_id) and the manifest name it.
    type: str
  not_after:
    description:
      - The newest backup whose data are not younger than this, in ISO 8601; UTC without a zone. By default the newest of all.
      - The newest is meant even when it is damaged. The task fails then and says which others there are.
    type: str
  accept_unproved:
    description:
      - Restore an export without a manifest of this collection, named by O(folder). Nothing proves that its files are whole, and
        RV(unknowns) says so.
    type: bool
    default: false
  mode:
    description:
      - V(new) makes another virtual machine with an identity of its own, named O(new_name).
      - V(in_place) keeps identity and name. It is refused while a virtual machine of this identity is registered, unless
        O(old_vm=unregister), and whenever that is not off.
      - An application-consistent export is that of a checkpoint. Where Hyper-V gave it an identity of its own it cannot come back in
        place, and is refused.
      - V(drill) makes another virtual machine without any network, starts it, waits for its heartbeat, and removes it with its files. The
        task fails when anything of it is left.
    type: str
    choices: [new, in_place, drill]
    default: new
  new_name:
    description: Name of the restored virtual machine. Required for O(mode=new), made up for a drill.
    type: str
  old_vm:
    description:
      - What becomes of a registered virtual machine of the same identity with O(mode=in_place).
      - V(fail) leaves it alone. V(unregister) takes its registration and the configurations of its checkpoints away, after the files of the
        backup arrived and this host was seen to be able to take it.
      - Its disks are never deleted and never overwritten. RV(replaced) names them.
    type: str
    choices: [fail, unregister]
    default: fail
  location:
    description:
      - Folder of a local volume under which the restored virtual machine gets a folder of its own,
        C(<location>\<host>\<name>_<first 8 of the GUID>\<UTC time>_<run>). Nothing that is there is overwritten.
      - Required unless O(deep_check=true).
    type: str
  networks:
    description:
      - Virtual switches that the adapters had, mapped to switches of this host. Adapters of every other switch come up disconnected, and
        so do all without this option. A restored machine has the names and addresses of the original.
    type: dict
  verify:
    description:
      - V(sha256) hashes every file at the destination and after the copy, and compares with the manifest where that has hashes. It reads
        everything twice. V(size) compares sizes only.
    type: str
    choices: [sha256, size]
    default: sha256
  start:
    description: Start the restored virtual machine.
    type: bool
    default: false
  wait_for_heartbeat:
    description: Start it, and wait until its guest answers. RV(recovery_seconds) is the time from the beginning of the restore to then.
    type: bool
    default: false
  heartbeat_timeout:
    description: Seconds that the guest has to answer after it was started.
    type: int
    default: 600
  force:
    description:
      - Restore although the notes of a virtual machine say that this backup was restored. In place the present one is replaced, which
        O(old_vm) has to allow.
    type: bool
    default: false
  deep_check:
    description:
      - Restore nothing. A planned virtual machine is made from the backup where it lies, validated and destroyed, and
        RV(incompatibilities) holds everything that this host cannot take. The result reports no change.
      - It writes to the host for a moment, so in check mode it is only predicted.
    type: bool
    default: false
  evidence:
    description:
      - For a drill write its evidence to the folder C(restore_drills) of O(destination), as JSON, JUnit and HTML.
    type: bool
    default: true
  evidence_keep:
    description:
      - Of how many drills of the virtual machine the evidence stays at O(destination). Without it, all does.
      - The rules are those of O(agentless.hyperv.hyperv_vss_copy#module:keep), and count this drill. What no rule keeps is removed by the
        task that writes the evidence of this drill, after it was written, and only when this drill passed.
      - Only files that are named like evidence go, from the folder that the name and the GUID of the virtual machine make. At most 100
        drills go at once, the oldest first.
    type: dict
    suboptions:
      last: {description: The newest so many., type: int}
      hourly: {description: The newest of each of so many hours., type: int}
      daily: {description: The newest of each of so many days., type: int}
      weekly: {description: The newest of each of so many ISO weeks., type: int}
      monthly: {description: The newest of each of so many months., type: int}
      yearly: {description: The newest of each of so many years., type: int}
  timezone:
    description: The IANA name of the time zone whose hours, days and so on O(evidence_keep) means.
    type: str
    default: UTC
  run_id:
    description: Name of this run, of letters, digits and hyphens. It is made up when it is not given.
    type: str
  timeout:
    description: Seconds for the whole task but the wait for the heartbeat.
    type: int
    default: 14400
extends_documentation_fragment:
  - agentless.hyperv.run_as
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
attributes:
  check_mode:
    details:
      - The whole preflight runs, and the definition file is read; no planned virtual machine is made. A destination at a share is not
        looked at, since that needs a task on the host.
notes:
  - Copies of M(agentless.hyperv.hyperv_vss_copy) hold disks without a configuration, so they are refused here. The guide to restores tells
    how they are brought back by hand.
  - A machine with a virtual TPM, or a shielded one, starts on another host only where the keys of its protector are.
  - At a share the host itself knocks as its computer account, whatever O(run_as) says. With O(run_as=account) the files are copied first,
    and the definition is judged where they arrived. O(deep_check), and an export without a manifest, need the right of the computer
    account.
  - Disks that the export left out are left out of the restored machine, too, with a warning.
  - A restore that was interrupted begins anew. What an earlier run left of the same virtual machine goes first, when that run is not at
    work any more.
  - Static MAC addresses are those of the original. Two machines with one address in one network disturb each other.
  - A newer configuration version cannot be imported on an older host. An older one is imported as it is, and never upgraded.
  - The start of a machine that was exported with its memory goes on where the memory was. A host with another processor may refuse that.
seealso:
  - module: agentless.hyperv.hyperv_cleanup
  - module: agentless.hyperv.hyperv_vss_copy
"""

EXAMPLES = r"""
- name: See what a restore would do
  agentless.hyperv.hyperv_restore:
    name: sql01
    destination: E:\Backup
    new_name: sql01-restored
    location: D:\Restored
  check_mode: true
  diff: true

- name: Restore the newest export under another name, without a network
  agentless.hyperv.hyperv_restore:
    name: sql01
    destination: E:\Backup
    new_name: sql01-restored
    location: D:\Restored

- name: Ask this host whether it could take it
  agentless.hyperv.hyperv_restore:
    name: sql01
    destination: E:\Backup
    deep_check: true

- name: Restore the state of a moment, connect it to a test network, and wait until it lives
  agentless.hyperv.hyperv_restore:
    name: sql01
    destination: E:\Backup
    not_after: "2999-12-31T00:00:00Z"
    new_name: sql01-test
    location: D:\Restored
    networks:
      LAN: LAN
    wait_for_heartbeat: true

- name: Drill a restore
  agentless.hyperv.hyperv_restore:
    name: sql01
    destination: E:\Backup
    mode: drill
    location: D:\Drill
    evidence_keep: {monthly: 24}
  register: drill

- name: Show how long a recovery takes
  ansible.builtin.debug:
    msg: "{{ drill.recovery_seconds }} s"
"""

RETURN = r"""
run_id:
  description: Name of the run.
  returned: always
  type: str
mode:
  description: The option O(mode).
  returned: always
  type: str
vm:
  description: The restored machine, by C(vm_id) and C(name). C(vm_id) is null in check mode, and when there is none at the end.
  returned: always
  type: dict
folder:
  description: The folder of its files; null when there is none at the end.
  returned: always
  type: str
backup:
  description: The backup.
  returned: when it is known
  type: dict
  contains:
    folder: {description: Where it lies., type: str, returned: always}
    backup_id: {description: The run that made it., type: str, returned: always}
    vm_id: {description: GUID of its machine., type: str, returned: always}
    vm_name: {description: Name of its machine at that time., type: str, returned: always}
    host: {description: "The host that made it, null when nothing tells.", type: str, returned: always}
    taken: {description: "The instant of its data, null when nothing tells.", type: str, returned: always}
    consistency: {description: "What it is worth, null when nothing tells.", type: str, returned: always}
    size: {description: Bytes of its files., type: int, returned: always}
    files: {description: Number of its files., type: int, returned: always}
    proved: {description: Whether a manifest describes it., type: bool, returned: always}
unknowns:
  description: What nobody can say of what was restored.
  returned: always
  type: list
  elements: str
incompatibilities:
  description: Everything that the host said it cannot take.
  returned: always
  type: list
  elements: dict
  contains:
    code:
      description: "Stable code, such as V(switch_missing); V(other_incompatibility) for what is in no table."
      type: str
      returned: always
    advice: {description: What to do., type: str, returned: always}
    message_id: {description: The number that the host gave it., type: str, returned: always}
    text: {description: "What the host said, in its language.", type: str, returned: always}
seconds:
  description: Seconds from the beginning of the restore to the end of each phase that was reached.
  returned: when a restore was begun
  type: dict
recovery_seconds:
  description: Seconds from the beginning of the restore to the heartbeat.
  returned: when there was a heartbeat
  type: float
guest:
  description: What the guest told, by C(heartbeat) and C(os_name).
  returned: when there was a heartbeat
  type: dict
replaced:
  description: The machine whose registration was taken away, by C(vm_id), C(name) and the paths of its C(disks), which are still there.
  returned: with O(old_vm=unregister), when there was one
  type: dict
drill:
  description: The evidence of the drill, as it is written to the destination.
  returned: with O(mode=drill)
  type: dict
evidence:
  description: Path of its files at the destination, without the endings C(.json), C(.xml) and C(.html).
  returned: with O(mode=drill), when they were written
  type: str
evidence_pruned:
  description: The same of the drills whose evidence was removed because of O(evidence_keep).
  returned: with RV(evidence)
  type: list
  elements: str
leftovers:
  description: What could not be removed.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: "V(planned_vm), V(suspect_planned_vm), V(drill_vm), V(restored_files), V(intent), V(job), V(task) or V(lease)."
      type: str
      returned: always
    id: {description: What it is., type: str, returned: always}
    location: {description: Where it is., type: str, returned: always}
    remove_with: {description: How it is removed., type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import restore_task, retention_options, run_as
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import restore_marks

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    "vm_id": {"type": "str"},
    "source_host": {"type": "str"},
    "destination": {"type": "str"},
    "folder": {"type": "str"},
    "backup_id": {"type": "str"},
    "not_after": {"type": "str"},
    "accept_unproved": {"type": "bool", "default": False},
    "mode": {"type": "str", "choices": list(restore_marks.MODES), "default": "new"},
    "new_name": {"type": "str"},
    "old_vm": {"type": "str", "choices": ["fail", "unregister"], "default": "fail"},
    "location": {"type": "str"},
    "networks": {"type": "dict"},
    "verify": {"type": "str", "choices": ["sha256", "size"], "default": "sha256"},
    "start": {"type": "bool", "default": False},
    "wait_for_heartbeat": {"type": "bool", "default": False},
    "heartbeat_timeout": {"type": "int", "default": 600},
    "force": {"type": "bool", "default": False},
    "deep_check": {"type": "bool", "default": False},
    "evidence": {"type": "bool", "default": True},
    "evidence_keep": retention_options.KEEP,
    "timezone": retention_options.TIMEZONE,
    "run_id": {"type": "str"},
    "timeout": {"type": "int", "default": 14400},
    **run_as.ARGUMENT_SPEC,
}
RULES: dict[str, Any] = {
    "required_one_of": [("destination", "folder"), ("name", "vm_id", "backup_id", "folder")],
    "mutually_exclusive": [("folder", "name"), ("folder", "vm_id"), ("folder", "backup_id"), ("backup_id", "not_after")],
    "required_if": run_as.REQUIRED_IF,
}


def run(call: Call) -> dict[str, Any]:
    """Plan, then restore; check mode ends after the plan."""
    return restore_task.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
