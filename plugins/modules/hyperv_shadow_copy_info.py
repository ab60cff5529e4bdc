# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shadow copies of a host, with their owners."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_shadow_copy_info
short_description: List the VSS shadow copies of a host, with owner, age and space
version_added: 0.1.0
description:
  - Lists every shadow copy of the host, whoever made it, and says whose it is.
  - A shadow copy is C(ours) when a link or an intent in the folder of this collection on the host says so. It is C(suspect) when an
    interrupted run of this collection may have left it and nothing proves it. Everything else is C(foreign).
author:
  - The agentless.hyperv authors (@agentless)
options:
  volume:
    description:
      - Only shadow copies of the volume that is mounted here, for example V(D:\\), or that has this device id.
    type: str
extends_documentation_fragment:
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.info
  - agentless.hyperv.attributes.action_group
notes:
  - Ages are by the clock of the host.
  - The account must be a local administrator of the host.
seealso:
  - module: agentless.hyperv.hyperv_shadow_copy
  - module: agentless.hyperv.hyperv_cleanup
"""

EXAMPLES = r"""
- name: List the shadow copies of the host
  agentless.hyperv.hyperv_shadow_copy_info:
  register: shadows

- name: Show those that other products made
  ansible.builtin.debug:
    msg: "{{ shadows.shadow_copies | selectattr('owner', 'equalto', 'foreign') | map(attribute='id') }}"

- name: Show the oldest shadow copy of one volume
  agentless.hyperv.hyperv_shadow_copy_info:
    volume: D:\
"""

RETURN = r"""
shadow_copies:
  description: The shadow copies, the oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    id: {description: Its ID., type: str, returned: always, sample: "{3808876B-C176-4E48-B7AE-04046E6CC752}"}
    owner: {description: "V(ours), V(suspect) or V(foreign).", type: str, returned: always}
    reason:
      description:
        - What the owner rests on. V(linked), V(named), V(exposed) and V(announced) for ours, by the link, by the name of an intent, by its
          place in the folder of a job, and as the only new shadow copy that an intent can have come to.
        - V(several_candidates) and V(not_proven) for suspects, V(no_trace) for foreign ones.
      type: str
      returned: always
    run_id: {description: "The run that made it, when it is ours and that is known.", type: str, returned: always}
    linked: {description: Whether a link of ours leads to it., type: bool, returned: always}
    created: {description: When it was made., type: str, returned: always}
    age: {description: Its age in seconds., type: int, returned: always}
    volume: {description: Device id of the volume that it shows., type: str, returned: always}
    path: {description: "Where that volume is mounted.", type: str, returned: always, sample: 'D:\'}
    provider:
      description: "V(system), V(csv), V(csv_helper), V(file_share), or the ID of another provider."
      type: str
      returned: always
    client_accessible: {description: One of the flags of its context., type: bool, returned: always}
    no_writers: {description: Whether it was made without writers., type: bool, returned: always}
    persistent: {description: Whether it outlives the program that made it., type: bool, returned: always}
    device: {description: Where its files are., type: str, returned: always}
    storage:
      description: The difference area of its volume, which all shadow copies of the volume share.
      type: dict
      returned: always
      contains:
        used: {description: Bytes in use., type: int, returned: always}
        allocated: {description: Bytes set aside., type: int, returned: always}
        largest: {description: The limit in bytes., type: int, returned: always}
counts:
  description: How many of them are of each owner.
  returned: success
  type: dict
  contains:
    ours: {description: Made by this collection., type: int, returned: always}
    suspect: {description: Perhaps left by an interrupted run of this collection., type: int, returned: always}
    foreign: {description: Made by others., type: int, returned: always}
stale_links:
  description: IDs of shadow copies that are gone and still have a link of ours.
  returned: success
  type: list
  elements: str
intents:
  description: Number of intents on the host, of runs that are at work or were interrupted, and of shadow copies that are kept.
  returned: success
  type: int
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import shadow_info

ARGUMENT_SPEC: dict[str, Any] = {"volume": {"type": "str"}}
RULES: dict[str, Any] = {}


def run(call: Call) -> dict[str, Any]:
    """Read and tell."""
    return shadow_info.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
