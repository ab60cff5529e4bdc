# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What interrupted runs left on a host."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_cleanup
short_description: Find and remove what interrupted runs of this collection left on a host
version_added: 0.1.0
description:
  - Finds shadow copies, links, intents and incomplete copies that runs of this collection left when they were interrupted, and lists
    the shadow copies of other products beside them.
  - Only reports, unless O(remove=true). Then it removes what is provably ours and older than O(older_than), and looks again.
  - Suspect and foreign shadow copies are never removed. M(agentless.hyperv.hyperv_shadow_copy) removes one by its ID.
author:
  - The agentless.hyperv authors (@agentless)
options:
  remove:
    description:
      - Remove what is provably ours.
    type: bool
    default: false
  older_than:
    description:
      - Leave everything alone that belongs to a run younger than this, which may still be at work. For example V(30m), V(4h) or V(1d).
      - The age of a run is the time since it announced its shadow copy, by the clock of the host. Make this longer than the longest copy.
    type: str
    default: 6h
extends_documentation_fragment:
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
notes:
  - Shadow copies that M(agentless.hyperv.hyperv_shadow_copy) made are ours, too, and are removed when they are older than O(older_than).
  - A shadow copy that an interrupted run announced and did not link is ours when it is the only new one of its volume that can be meant. It
    was made by the system's provider, is client-accessible, has no writers, and is at most two minutes younger than the announcement.
  - A folder of an incomplete copy is removed only when it lies where an intent says, is named by the run, has no manifest, and holds
    nothing but files of a copy.
  - Before anything is removed, the folder of this collection on the host must be one that only SYSTEM and Administrators can use.
    Otherwise the task fails with C(state_dir_untrusted).
seealso:
  - module: agentless.hyperv.hyperv_shadow_copy_info
  - module: agentless.hyperv.hyperv_shadow_copy
  - module: agentless.hyperv.hyperv_vss_copy
"""

EXAMPLES = r"""
- name: Tell what interrupted runs left
  agentless.hyperv.hyperv_cleanup:
  register: audit

- name: Fail when a shadow copy of ours was forgotten
  ansible.builtin.assert:
    that: audit.counts.ours == 0

- name: Remove it
  agentless.hyperv.hyperv_cleanup:
    remove: true
    older_than: 6h
"""

RETURN = r"""
shadow_copies:
  description: Every shadow copy of the host as it was found, as M(agentless.hyperv.hyperv_shadow_copy_info) returns it.
  returned: success
  type: list
  elements: dict
counts:
  description: How many shadow copies were found of each owner.
  returned: success
  type: dict
  contains:
    ours: {description: Made by this collection., type: int, returned: always}
    suspect: {description: Perhaps left by an interrupted run of this collection., type: int, returned: always}
    foreign: {description: Made by others., type: int, returned: always}
found:
  description: Everything that runs of this collection left, or that runs at work need.
  returned: success
  type: list
  elements: dict
  contains: &finding
    kind:
      description: "V(shadow_copy), V(link), V(incomplete_copy), V(intent), V(folder) or V(file)."
      type: str
      returned: always
    id: {description: What it is., type: str, returned: always}
    location: {description: Where it is., type: str, returned: always}
    status:
      description:
        - V(removable), or why it stays. V(too_young) when its run may be at work, V(unknown_age), V(suspect) for an intent of which a
          suspect shadow copy may have come, V(damaged) for an intent that cannot be understood.
        - V(foreign_content) for a folder that holds something else, and V(destination_missing) when its volume is not there.
      type: str
      returned: always
    run_id: {description: "The run, when it is known.", type: str, returned: always}
    age: {description: Its age in seconds., type: int, returned: always}
    remove_with: {description: The command that removes it by hand., type: str, returned: always}
removed:
  description: What was removed. In check mode what would be.
  returned: success
  type: list
  elements: dict
  contains: *finding
leftovers:
  description: What could not be removed.
  returned: success
  type: list
  elements: dict
  contains:
    kind: {description: What kind of thing it is., type: str, returned: always}
    id: {description: What it is., type: str, returned: always}
    location: {description: Where it is., type: str, returned: always}
    remove_with: {description: The command that removes it., type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import cleanup

ARGUMENT_SPEC: dict[str, Any] = {
    "remove": {"type": "bool", "default": False},
    "older_than": {"type": "str", "default": "6h"},
}
RULES: dict[str, Any] = {}


def run(call: Call) -> dict[str, Any]:
    """Look, and remove when asked to; check mode ends after the plan."""
    return cleanup.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
