# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which virtual machines went to another node of their cluster while the run came to them. GUIDs and names are only compared."""
from __future__ import annotations

DOCUMENTATION = r"""
name: backup_moved
short_description: Find virtual machines that moved to another node of their cluster
version_added: 0.1.0
description:
  - Says which of the virtual machines that a host did not have any more are owned by another host of the play, with tasks for these hosts.
author:
  - The agentless.hyperv authors (@agentless)
positional: _input, plan
options:
  _input:
    description: The entries of the virtual machines, as P(agentless.hyperv.backup_entries#filter) returns them.
    type: list
    elements: dict
    required: true
  plan:
    description: The plan of P(agentless.hyperv.backup_plan#filter).
    type: dict
    required: true
  roles:
    description: The roles of the cluster, as RV(agentless.hyperv.hyperv_vm_info#module:cluster_roles) tells them.
    type: list
    elements: dict
    default: []
  hosts:
    description: Inventory names of the hosts of the play, and the names that these hosts have.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Where did they go
  ansible.builtin.debug:
    msg: "{{ backup_results | agentless.hyperv.backup_moved(plan, roles=facts.cluster_roles, hosts={'hv02': 'HV02'}) }}"
  vars:
    backup_results: []
    plan: {tasks: [], unavailable: []}
    facts: {cluster_roles: []}
"""

RETURN = r"""
_value:
  description: What became of those that moved.
  type: dict
  contains:
    tasks:
      description: Tasks as those of a plan, each with C(owner), the inventory name of the host that has its virtual machines now.
      type: list
      elements: dict
      returned: always
    elsewhere:
      description: GUIDs of virtual machines whose node is no host of this play, and the name of that node.
      type: dict
      returned: always
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

GONE = ("vm_not_found", "vm_moved")
"""Codes of a virtual machine that was there when the facts were read."""


def backup_moved(entries: Any, plan: Any, roles: Any = (), hosts: Any = None) -> dict[str, Any]:
    """The filter. Raises AnsibleFilterError for what are no entries and no plan."""
    if not isinstance(entries, (list, tuple)) or not isinstance(plan, Mapping) or "tasks" not in plan:
        raise AnsibleFilterError("backup_moved needs the entries of backup_entries and a plan of backup_plan.")
    named = {_short(name): host for host, name in (hosts or {}).items()}
    policies = {task["policy"]: task for task in plan["tasks"]}
    hooked = {vm["vm_id"]: task["hooks"] for task in plan["tasks"] if task.get("hooks") for vm in task["vms"]}
    tasks: dict[tuple[str, str, str], dict[str, Any]] = {}
    elsewhere: dict[str, str] = {}
    for entry in entries:
        vm = entry.get("vm") or {}
        vm_id = vm.get("vm_id")
        if entry.get("error_code") not in GONE or not vm_id or entry["policy"] not in policies:
            continue
        node = _owner(vm, roles or ())
        if node is None:
            continue
        owner = named.get(node)
        if owner is None:
            elsewhere[vm_id] = node
            continue
        task = policies[entry["policy"]]
        hooks = hooked.get(vm_id, {})
        moved = tasks.setdefault((entry["policy"], owner, vm_id if hooks else ""), {
            "policy": task["policy"], "method": task["method"], "options": task["options"], "names": [], "vms": [], "hooks": hooks,
            "owner": owner})
        moved["names"].append(vm_id)
        moved["vms"].append(entry["vm"])
    return {"tasks": [{**task, "number": number} for number, task in enumerate(tasks.values())], "elsewhere": elsewhere}


def _owner(vm: Mapping[str, Any], roles: Sequence[Mapping[str, Any]]) -> str | None:
    """The node that owns a machine: by its GUID, or by its name where the cluster tells no GUID and only one role has that name."""
    by_id = [role for role in roles if role.get("vm_id") and _short(role["vm_id"]) == _short(vm["vm_id"])]
    name = str(vm.get("name") or "").casefold()
    names = {name, f"virtual machine {name}"}
    by_name = [role for role in roles if not role.get("vm_id")
               and (str(role.get("role") or "").casefold() in names or str(role.get("group") or "").casefold() == name)]
    found = by_id or by_name
    return _short(found[0].get("owner_node")) or None if len(found) == 1 else None


def _short(text: Any) -> str:
    """A GUID, or the first part of a host's name, as they compare."""
    return str(text or "").strip("{}").partition(".")[0].lower()


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"backup_moved": backup_moved}
