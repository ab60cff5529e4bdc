# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One VSS shadow copy of a volume of a host."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_shadow_copy
short_description: Make a VSS shadow copy of a volume of a host, or delete exactly one
version_added: 0.1.0
description:
  - Makes a shadow copy that stays until it is deleted. An intent on the host before, and a link after, make it provably ours at each
    moment.
  - It is made without writers, so what it shows is crash-consistent.
  - Deletes exactly the shadow copy with the given ID, whoever made it. Nothing is ever deleted by volume, by age, or because room is
    needed.
author:
  - The agentless.hyperv authors (@agentless)
options:
  state:
    description:
      - With V(present) there is a shadow copy of O(volume) made by this module. With V(absent) there is none with O(id).
    type: str
    choices: [present, absent]
    default: present
  volume:
    description:
      - Where the volume is mounted, for example V(D:\\) or V(C:\\ClusterStorage\\Volume1), or its device id.
      - Needed with O(state=present).
    type: str
  id:
    description:
      - ID of the shadow copy to delete, as M(agentless.hyperv.hyperv_shadow_copy_info) shows it. Needed with O(state=absent).
      - A shadow copy of another product is deleted, too, when it is named here. The diff says whose it was.
    type: str
  run_id:
    description:
      - Name of this run, of letters, digits and hyphens. A shadow copy that this module made of O(volume) in the same run counts as
        present.
      - It is made up when it is not given.
    type: str
  max_age:
    description:
      - A shadow copy that this module made of O(volume) and that is younger than this counts as present. For example V(30m) or V(20h).
      - Without it, and without O(run_id), each run makes a new one.
    type: str
  vss_wait:
    description: Seconds to wait while another shadow copy is being created on the host.
    type: int
    default: 600
extends_documentation_fragment:
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
notes:
  - Forgotten shadow copies can keep a backup product from working. M(agentless.hyperv.hyperv_cleanup) removes those of this module when
    they are older than its O(agentless.hyperv.hyperv_cleanup#module:older_than).
  - When the answer of the host to the creation was lost, the task looks what came of it. It fails with C(outcome_unknown) when that cannot
    be proven, and the intent stays on the host.
seealso:
  - module: agentless.hyperv.hyperv_shadow_copy_info
  - module: agentless.hyperv.hyperv_cleanup
  - module: agentless.hyperv.hyperv_vss_copy
"""

EXAMPLES = r"""
- name: Make a shadow copy, unless this module made one in the last hour
  agentless.hyperv.hyperv_shadow_copy:
    volume: D:\
    max_age: 1h
  register: made

- name: Delete it
  agentless.hyperv.hyperv_shadow_copy:
    state: absent
    id: "{{ made.shadow_copy.id }}"
"""

RETURN = r"""
shadow_copy:
  description:
    - The shadow copy that is there, or that was deleted; null when there was none.
    - In check mode without RV(shadow_copy.id) and what else is not known before.
  returned: success
  type: dict
  contains:
    id: {description: Its ID., type: str, returned: always, sample: "{3808876B-C176-4E48-B7AE-04046E6CC752}"}
    owner: {description: "V(ours), V(suspect) or V(foreign).", type: str, returned: always}
    reason:
      description: "What the owner rests on, as M(agentless.hyperv.hyperv_shadow_copy_info) tells it."
      type: str
      returned: always
    run_id: {description: "The run that made it, when it is ours and that is known.", type: str, returned: always}
    linked: {description: Whether a link of ours leads to it., type: bool, returned: always}
    created: {description: When it was made., type: str, returned: always}
    age: {description: Its age in seconds., type: int, returned: always}
    volume: {description: Device id of the volume that it shows., type: str, returned: always}
    path: {description: Where that volume is mounted., type: str, returned: always, sample: 'D:\'}
    provider: {description: "V(system), V(csv), or the ID of another provider.", type: str, returned: always}
    client_accessible: {description: One of the flags of its context., type: bool, returned: always}
    no_writers: {description: Whether it was made without writers., type: bool, returned: always}
    persistent: {description: Whether it outlives the program that made it., type: bool, returned: always}
    device: {description: Where its files are., type: str, returned: always}
    storage: {description: The difference area of its volume., type: dict, returned: always}
run_id:
  description: Name of the run that made it.
  returned: with O(state=present)
  type: str
leftovers:
  description: What could not be removed from the host.
  returned: always
  type: list
  elements: dict
  contains:
    kind: {description: "V(shadow_copy), V(suspect_shadow_copy), V(link) or V(intent).", type: str, returned: always}
    id: {description: What it is., type: str, returned: always}
    location: {description: Where it is., type: str, returned: always}
    remove_with: {description: The command that removes it., type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import shadow_copy

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "volume": {"type": "str"},
    "id": {"type": "str"},
    "run_id": {"type": "str"},
    "max_age": {"type": "str"},
    "vss_wait": {"type": "int", "default": 600},
}
RULES: dict[str, Any] = {
    "required_if": [("state", "present", ("volume",)), ("state", "absent", ("id",))],
    "mutually_exclusive": [("volume", "id"), ("id", "run_id"), ("id", "max_age")],
}


def run(call: Call) -> dict[str, Any]:
    """Plan, then make or delete; check mode ends after the plan."""
    return shadow_copy.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
