# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exports at a destination, and the virtual machines without a good one."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_export_info
short_description: List the exports at a destination, and the virtual machines without a good one
version_added: 0.1.0
description:
  - Lists the exports that M(agentless.hyperv.hyperv_export) made at a destination, those that are damaged or incomplete, and what is not
    ours. For each virtual machine of the host it names the newest good export, or that there is none.
  - An export is good when its manifest is readable, lies where it belongs, all files are there with the sizes that it says, and it was
    verified. Nothing is opened or hashed again; a restore drill proves more.
  - One program reads a destination on a volume of the host, one scheduled task a share, however many exports there are.
author:
  - The agentless.hyperv authors (@agentless)
options:
  destination:
    description: The folder or share that M(agentless.hyperv.hyperv_export) was given.
    type: str
    required: true
  all_hosts:
    description:
      - Look at the exports of all hosts below O(destination), not only at those of this host. For a host that takes over from another one.
    type: bool
    default: false
  max_age:
    description:
      - An export older than this is not good enough for RV(vms) and RV(without). For example V(26h) or V(8d).
    type: str
extends_documentation_fragment:
  - agentless.hyperv.run_as
  - agentless.hyperv.vm_selector
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.info
  - agentless.hyperv.attributes.action_group
notes:
  - With O(name) or O(vm_id) only exports of that virtual machine are listed; it need not exist any more.
  - In check mode no task is put onto the host, so a share is not looked at, and a warning says so.
seealso:
  - module: agentless.hyperv.hyperv_export
  - module: agentless.hyperv.hyperv_cleanup
"""

EXAMPLES = r"""
- name: Look at the exports of this host
  agentless.hyperv.hyperv_export_info:
    destination: E:\Exports
    max_age: 26h
  register: exports

- name: Name the virtual machines without an export of the last day
  ansible.builtin.debug:
    msg: "{{ exports.vms | selectattr('on_host') | selectattr('newest', 'none') | map(attribute='name') }}"
"""

RETURN = r"""
destination:
  description: What was looked at.
  returned: success
  type: str
free:
  description: Bytes that are free there; null when nobody said.
  returned: unless check mode kept the module from looking
  type: int
exports:
  description: The exports, the newest first.
  returned: unless check mode kept the module from looking
  type: list
  elements: dict
  contains:
    folder: {description: Full path., type: str, returned: always}
    state:
      description: "V(complete), V(damaged) when files are missing or have other sizes, V(being_removed) when a removal was interrupted."
      type: str
      returned: always
    vm: {description: GUID and name of the virtual machine at that time., type: dict, returned: always}
    host: {description: The host that made it., type: str, returned: always}
    run_id: {description: The run that made it., type: str, returned: always}
    method: {description: "How it was taken, as in M(agentless.hyperv.hyperv_export).", type: str, returned: always}
    taken: {description: The instant of its data., type: str, returned: always}
    age: {description: Seconds since then by the clock of the host., type: int, returned: always}
    consistency: {description: As in the manifest., type: dict, returned: always}
    size: {description: Bytes of all files., type: int, returned: always}
    verified: {description: "C(how) it was verified, and when: C(at).", type: dict, returned: always}
    missing: {description: Files that are missing or have another size., type: list, elements: str, returned: always}
    others: {description: Files in the folder that are not of the export., type: list, elements: str, returned: always}
    version: {description: Configuration version of the virtual machine., type: str, returned: always}
    needs_guardian: {description: Whether another host needs the keys of its protector., type: bool, returned: always}
vms:
  description: The virtual machines of the host, and those of which only exports are left.
  returned: unless check mode kept the module from looking
  type: list
  elements: dict
  contains:
    vm_id: {description: GUID., type: str, returned: always}
    name: {description: Name., type: str, returned: always}
    on_host: {description: Whether it is on this host., type: bool, returned: always}
    exports: {description: How many exports there are., type: int, returned: always}
    newest: {description: "The newest good export, null when there is none.", type: dict, returned: always}
without:
  description: GUIDs of the virtual machines of this host without a good export.
  returned: unless check mode kept the module from looking
  type: list
  elements: str
incomplete:
  description: Folders without a manifest, with the run that they are named after. They are being made, or were interrupted.
  returned: unless check mode kept the module from looking
  type: list
  elements: dict
damaged:
  description: Folders whose manifest cannot be read or does not belong there.
  returned: unless check mode kept the module from looking
  type: list
  elements: str
foreign:
  description: Folders that are not ours.
  returned: unless check mode kept the module from looking
  type: list
  elements: str
counts:
  description: How many there are of C(complete), C(damaged), C(being_removed), C(incomplete) and C(foreign).
  returned: unless check mode kept the module from looking
  type: dict
size:
  description: Bytes of all complete exports.
  returned: unless check mode kept the module from looking
  type: int
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import export_info, run_as

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    "vm_id": {"type": "str"},
    "destination": {"type": "str", "required": True},
    "all_hosts": {"type": "bool", "default": False},
    "max_age": {"type": "str"},
    **run_as.ARGUMENT_SPEC,
}
RULES: dict[str, Any] = {"required_if": run_as.REQUIRED_IF}


def run(call: Call) -> dict[str, Any]:
    """Read and tell; nothing is changed."""
    return export_info.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
