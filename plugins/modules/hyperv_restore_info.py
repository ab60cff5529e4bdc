# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be brought back from a destination."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_restore_info
short_description: Tell what a destination can bring back, and when that was last proved
version_added: 0.1.0
description:
  - Lists the virtual machines that have exports at a destination, whichever host made them, with the newest export of each, and with the
    last drill of M(agentless.hyperv.hyperv_restore) that left its evidence there.
  - Those that were never drilled come first, then those whose last drill is longest ago. The role P(agentless.hyperv.restore_drill#role)
    takes them in this order.
author:
  - The agentless.hyperv authors (@agentless)
options:
  destination:
    description: Where the exports lie, a local folder of this host or a share.
    type: str
    required: true
  vms:
    description: Patterns for names such as V(sql*), compared without case, or GUIDs. By default all.
    type: list
    elements: str
extends_documentation_fragment:
  - agentless.hyperv.run_as
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.info
  - agentless.hyperv.attributes.action_group
attributes:
  check_mode:
    details:
      - A share is reached by a task on the host, which is gone afterwards. Check mode makes none, so nothing is known of a share then.
seealso:
  - module: agentless.hyperv.hyperv_restore
"""

EXAMPLES = r"""
- name: See what could be restored here
  agentless.hyperv.hyperv_restore_info:
    destination: E:\Backup
  register: backups

- name: Name those that no drill ever proved
  ansible.builtin.debug:
    msg: "{{ backups.results | rejectattr('last_passed') | map(attribute='vm') | map(attribute='name') | list }}"
"""

RETURN = r"""
results:
  description: One entry for each virtual machine of each host that made exports.
  returned: always
  type: list
  elements: dict
  contains:
    vm: {description: "Its C(vm_id) and C(name) at the time of the newest export.", type: dict, returned: always}
    source_host: {description: The host that made the exports., type: str, returned: always}
    newest: {description: "As RV(agentless.hyperv.hyperv_restore#module:backup).", type: dict, returned: always}
    exports: {description: Number of exports., type: int, returned: always}
    incomplete: {description: "How many of them lack a file, or have one of another size.", type: int, returned: always}
    refusal: {description: "C(error_code) and C(msg) of why a drill would be refused here, else null.", type: dict, returned: always}
    last_drill: {description: "Evidence of the last drill, else null.", type: dict, returned: always}
    last_passed: {description: "Evidence of the last drill that passed, else null.", type: dict, returned: always}
damaged:
  description: Folders with a manifest that cannot be used.
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import restore_info, run_as

ARGUMENT_SPEC: dict[str, Any] = {
    "destination": {"type": "str", "required": True},
    "vms": {"type": "list", "elements": "str"},
    **run_as.ARGUMENT_SPEC,
}
RULES: dict[str, Any] = {"required_if": run_as.REQUIRED_IF}


def run(call: Call) -> dict[str, Any]:
    """Read, and tell."""
    return restore_info.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
