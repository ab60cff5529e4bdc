# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of each VM of a plan, from the results of its tasks."""
from __future__ import annotations

DOCUMENTATION = r"""
name: backup_entries
short_description: What became of each virtual machine of a backup plan
version_added: 0.1.0
description:
  - One entry for each virtual machine of a plan, in one form for all policies and methods.
  - When a task failed as a whole, or has no result, each of its virtual machines failed.
author:
  - The agentless.hyperv authors (@agentless)
positional: _input, plan
options:
  _input:
    description: The results of the loop over the tasks of O(plan), in their order.
    type: list
    elements: dict
    required: true
  plan:
    description: What P(agentless.hyperv.backup_plan#filter) returned.
    type: dict
    required: true
  moved:
    description: What P(agentless.hyperv.backup_moved#filter) returned for the virtual machines that moved meanwhile.
    type: dict
  again:
    description: The results of the loop over the tasks of O(moved), in their order. They take the place of the first ones.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: Keep what became of each virtual machine
  ansible.builtin.set_fact:
    backup_results: "{{ copied.results | agentless.hyperv.backup_entries(plan) }}"
"""

RETURN = r"""
_value:
  description: The entries, by policy. What does not apply is C(null).
  type: list
  elements: dict
  contains:
    vm: {description: GUID and name., type: dict, returned: always}
    policy: {description: Name of its policy., type: str, returned: always}
    method: {description: Method of the policy., type: str, returned: always}
    changed: {description: "Whether anything was done, or would be in check mode.", type: bool, returned: always}
    failed: {description: Whether it is not protected as its policy says., type: bool, returned: always}
    error_code: {description: Stable code of the failure., type: str, returned: always}
    msg: {description: What failed., type: str, returned: always}
    hint: {description: What to do., type: str, returned: always}
    consistency: {description: What was asked for and what was reached., type: dict, returned: always}
    checkpoint:
      description: C(id), C(name), C(kind) and C(expires) of the checkpoint, with the method V(checkpoint).
      type: dict
      returned: always
    replica:
      description:
        - C(state), C(health), C(lag) in seconds and C(disks_left_out), those that are not replicated, with the method V(replica).
      type: dict
      returned: always
    folder: {description: "Folder of the copy and of its manifest; in check mode that of the virtual machine.", type: str, returned: always}
    run_id: {description: The run that made the copy or the checkpoint., type: str, returned: always}
    taken: {description: "The instant of its data; that of the last replication.", type: str, returned: always}
    size: {description: Bytes of its files., type: int, returned: always}
    leftovers: {description: What could not be removed from the host., type: list, elements: dict, returned: always}
    pruned: {description: Older copies that were removed., type: list, elements: dict, returned: always}
    owner: {description: "Inventory name of the host that it had moved to, where it was copied.", type: str, returned: always}
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import replica_lag, replica_policy
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import parse_age


def _entry(vm: Any, task: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: values.get(key) for key in ("error_code", "msg", "hint", "consistency")}
    return {"vm": vm, "policy": task["policy"], "method": task["method"], "changed": bool(values.get("changed")),
            "failed": bool(values.get("failed", True)), **told, **_made(task["method"], values),
            "leftovers": values.get("leftovers") or [], "pruned": values.get("pruned") or [], "owner": task.get("owner")}


def _made(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What there is now, by the method that sees to it."""
    manifest = values.get("manifest") or {}
    made = {"checkpoint": None, "replica": None, **{key: manifest.get(key) for key in ("folder", "run_id", "taken", "size")}}
    one = values.get(method)
    if method == "checkpoint" and one:
        kept = {key: one.get(key) for key in ("id", "name", "kind", "expires")}
        return {**made, "checkpoint": kept, "run_id": one.get("run_id"), "taken": one.get("created")}
    if method == "replica" and one:
        kept = {key: one.get(key) for key in ("state", "health", "lag", "disks_left_out")}
        return {**made, "replica": kept, "taken": one.get("last_replicated")}
    return made


def _label(vm: Any, task: Mapping[str, Any]) -> Any:
    """A machine as the plan knows it: the module has only the text that it was asked for when the machine is not there any more."""
    if not isinstance(vm, Mapping) or vm.get("vm_id"):
        return vm
    return next((one for one in task["vms"] if str(one.get("vm_id")).lower() == str(vm.get("name")).lower()), vm)


def _in_time(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A checkpoint that is there under the name that was asked for, and whose time is over, is not the one that was wanted."""
    if values.get("failed") or not (values.get("checkpoint") or {}).get("expired"):
        return values
    failure = {"error_code": "checkpoint_expired", "msg": "A checkpoint of this name is there, and its time is over.",
               "hint": "Remove it with the role checkpoint_cleanup, or name the checkpoints of each run otherwise."}
    return {**values, "failed": True, **failure}


def _replicas(task: Mapping[str, Any], result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What hyperv_replica_info told, as results of the other methods: one for each machine, and one for each name that means none."""
    allowed = int(parse_age(task["options"]["max_age"]).total_seconds())
    found: list[Mapping[str, Any]] = []
    for one in result["replicas"]:
        standing = replica_lag.Standing(one["state"], one["health"], one.get("lag"), allowed)
        refusal = replica_policy.refusal(one["mode"], standing)
        failure = {} if refusal is None else {"error_code": refusal.error_code, "msg": refusal.sentence, "hint": refusal.hint}
        found.append({"vm": one["vm"], "failed": refusal is not None, "replica": one, **failure})
    return found + [{"vm": {"vm_id": None, "name": name}, "failed": True, **_absent(task, name)} for name in result.get("missing") or ()]


def _absent(task: Mapping[str, Any], name: str) -> dict[str, str]:
    if sum(str(vm["name"]).casefold() == name.casefold() for vm in task["vms"]) > 1:
        return {"error_code": "vm_not_unique", "msg": f"Several virtual machines of this host are named {name!r}.",
                "hint": "Give the GUID in backup_vms."}
    return {"error_code": "vm_not_found", "msg": f"This host has no virtual machine {name!r}.",
            "hint": "Look for it with hyperv_vm_info, perhaps at another node."}


def _of_task(task: Mapping[str, Any], result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of one task. Without results nothing was begun for any of its VMs."""
    results = _replicas(task, result) if "replicas" in result else result.get("results")
    if isinstance(results, (list, tuple)):
        told = (_in_time(values) if task["method"] == "checkpoint" else values for values in results)
        return [_entry(_label(values["vm"], task), task, values) for values in told]
    if result.get("hook") == "before":
        failure: dict[str, Any] = {"error_code": "hook_failed", "hint": "Look at the output of its tasks.",
                                   "msg": f"What comes before the protection failed, so nothing was protected: {result.get('said')}"}
        return [_entry(vm, task, failure) for vm in task["vms"]]
    if result.get("hook") == "after":
        failure = {"error_code": "after_hook_failed", "msg": f"What comes after the protection failed: {result.get('said')}",
                   "hint": "The guest may still be in the state that was meant for a moment. Look at it now."}
        return [_entry(vm, task, failure) for vm in task["vms"]]
    if result.get("skipped"):
        failure = {"error_code": "blackout", "msg": "The blackout of the site began before these copies were.",
                   "hint": "The next run copies them; begin earlier, or shorten the blackout."}
        return [_entry(vm, task, failure) for vm in task["vms"]]
    failure = {"msg": result.get("msg") or "The task has no result.", "failed": True,
               **{key: result.get(key) for key in ("error_code", "hint", "leftovers")}}
    return [_entry(vm, task, failure) for vm in task["vms"]]


def _second_tries(entries: list[dict[str, Any]], moved: Any, again: Any) -> list[dict[str, Any]]:
    """The entries, with those of a second try at another host in the place of the first; and where the others are that moved."""
    tasks = [] if moved is None else moved.get("tasks", [])
    later = [entry for task, result in zip(tasks, again or (), strict=False) for entry in _of_task(task, result)]
    second = {entry["vm"]["vm_id"]: entry for entry in later}
    elsewhere = {} if moved is None else moved.get("elsewhere", {})
    found = []
    for entry in entries:
        vm_id = (entry["vm"] or {}).get("vm_id")
        hint = {"hint": f"It moved to the node {elsewhere[vm_id]}, which is no host of this play."} if vm_id in elsewhere else {}
        found.append(second.get(vm_id, {**entry, **hint}))
    return found


def backup_entries(results: Any, plan: Any, moved: Any = None, again: Any = None) -> list[dict[str, Any]]:
    """The filter. Raises AnsibleFilterError for what is no plan, or more results than tasks."""
    if not isinstance(plan, Mapping) or not {"tasks", "unavailable"} <= set(plan):
        raise AnsibleFilterError("backup_entries needs a plan of backup_plan.")
    if not isinstance(results, (list, tuple)) or len(results) > len(plan["tasks"]):
        raise AnsibleFilterError("backup_entries needs the results of the tasks of the plan.")
    told: list[Any] = [*results, *({} for _missing in plan["tasks"][len(results):])]
    entries = [entry for task, result in zip(plan["tasks"], told, strict=True) for entry in _of_task(task, result)]
    for task in plan["unavailable"]:
        failure = {"error_code": "method_not_available",
                   "msg": f"The method {task['method']} of the policy {task['policy']} is not available yet.",
                   "hint": "Use a policy with the method vss_copy."}
        entries += [_entry(vm, task, failure) for vm in task["vms"]]
    return _second_tries(entries, moved, again)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"backup_entries": backup_entries}
