# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real host answers to the open doubts of this collection."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_probe
short_description: First contact with a real host, what it answers to the open doubts of this collection
version_added: 0.1.0
description:
  - Some behaviour of Hyper-V is documented badly or not at all. This module asks a real host, as far as reading can answer, and returns
    one document that can be attached to a report.
  - Names of hosts, accounts and virtual machines, GUIDs and paths are replaced by hashes with a random key.
  - Nothing is changed unless O(probe_vm) names a throw-away virtual machine.
author:
  - The agentless.hyperv authors (@agentless)
options:
  probe_vm:
    description:
      - Name of a throw-away virtual machine for the experiments that change something. Its notes are changed, read back and restored.
    type: str
extends_documentation_fragment:
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
seealso:
  - module: agentless.hyperv.hyperv_vm_info
"""

EXAMPLES = r"""
- name: Ask the host, without changing anything
  agentless.hyperv.hyperv_probe:
  register: asked

- name: Show what it answered
  ansible.builtin.debug:
    msg: "{{ asked.probe.doubts | selectattr('status', 'equalto', 'answered') }}"
"""

RETURN = r"""
probe:
  description: The document, without names.
  returned: success
  type: dict
  contains:
    format: {description: "Format of the document, V(1).", type: int, returned: always}
    host:
      description: The host.
      type: dict
      returned: always
      contains:
        name: {description: Hash of its name., type: str, returned: always}
        build: {description: Build number., type: int, returned: always}
        release: {description: Release of Windows Server., type: str, returned: always}
        version: {description: Version text., type: str, returned: always}
        server: {description: Whether this is a Server edition., type: bool, returned: always}
        clock_skew: {description: Host time minus controller time in seconds., type: float, returned: always}
        virtual_machines: {description: Number of visible virtual machines., type: int, returned: always}
    doubts:
      description: One entry for each open doubt.
      type: list
      elements: dict
      returned: always
      contains:
        id: {description: Number of the doubt., type: str, returned: always, sample: D-12}
        question: {description: What is in doubt., type: str, returned: always}
        status: {description: "V(answered), V(not_probed) or V(refused).", type: str, returned: always}
        answer: {description: What the host answered., type: dict, returned: always}
        reason: {description: Why it was not probed or refused., type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import probe

ARGUMENT_SPEC: dict[str, Any] = {"probe_vm": {"type": "str"}}
RULES: dict[str, Any] = {}


def run(call: Call) -> dict[str, Any]:
    """Ask; experiments only with ``probe_vm``."""
    return probe.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
