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
    failed: {description: Whether it is not protected., type: bool, returned: always}
    error_code: {description: Stable code of the failure., type: str, returned: always}
    msg: {description: What failed., type: str, returned: always}
    hint: {description: What to do., type: str, returned: always}
    consistency: {description: What was asked for and what was reached., type: dict, returned: always}
    folder: {description: "Folder of the copy and of its manifest; in check mode that of the virtual machine.", type: str, returned: always}
    run_id: {description: The run that made the copy., type: str, returned: always}
    taken: {description: The instant of its data., type: str, returned: always}
    size: {description: Bytes of its files., type: int, returned: always}
    leftovers: {description: What could not be removed from the host., type: list, elements: dict, returned: always}
    pruned: {description: Older copies that were removed., type: list, elements: dict, returned: always}
    owner: {description: "Inventory name of the host that it had moved to, where it was copied.", type: str, returned: always}
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def _entry(vm: Any, task: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    manifest = values.get("manifest") or {}
    told = {key: values.get(key) for key in ("error_code", "msg", "hint", "consistency")}
    return {"vm": vm, "policy": task["policy"], "method": task["method"], "changed": bool(values.get("changed")),
            "failed": bool(values.get("failed", True)), **told, **{key: manifest.get(key) for key in ("folder", "run_id", "taken", "size")},
            "leftovers": values.get("leftovers") or [], "pruned": values.get("pruned") or [], "owner": task.get("owner")}


def _label(vm: Any, task: Mapping[str, Any]) -> Any:
    """A machine as the plan knows it: the module has only the text that it was asked for when the machine is not there any more."""
    if not isinstance(vm, Mapping) or vm.get("vm_id"):
        return vm
    return next((one for one in task["vms"] if str(one.get("vm_id")).lower() == str(vm.get("name")).lower()), vm)


def _of_task(task: Mapping[str, Any], result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of one task. Without results nothing was begun for any of its VMs."""
    if isinstance(result.get("results"), (list, tuple)):
        return [_entry(_label(values["vm"], task), task, values) for values in result["results"]]
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
