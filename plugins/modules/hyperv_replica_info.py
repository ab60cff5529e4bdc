# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The replication of a host's virtual machines."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_replica_info
short_description: Show how the replication of virtual machines stands
version_added: 0.1.0
description:
  - Shows mode, state, health and settings of every replication of a host, how far behind it is, its recovery points, and when it was tested
    last.
  - With O(peer) both sides are put together. What arrived is known best where it arrives.
  - Each class is read once for the whole host, however many replications it has. Statistics cost one request for each replication and side.
author:
  - The agentless.hyperv authors (@agentless)
options:
  names:
    description:
      - Names or GUIDs of virtual machines. Without any, or with the one word V(all), those that replicate or are replicas.
      - Names that this host does not have are listed in RV(missing).
    type: list
    elements: str
  peer:
    description: Inventory name of the other host. It is read over its own connection.
    type: str
  statistics:
    description:
      - V(auto) reads the statistics and the host's own reasons for those whose health is not C(ok), and for all with O(test_interval).
      - V(all) and V(none) do what they say.
    type: str
    choices: [auto, all, none]
    default: auto
  cycles:
    description: How many cycles a replica may be behind before RV(replicas[].problems) has C(lag).
    type: int
    default: 3
  test_interval:
    description: How often a test failover is due, such as V(90d). Needed for RV(replicas[].test_overdue).
    type: str
extends_documentation_fragment:
  - agentless.hyperv.vm_selector
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.info
  - agentless.hyperv.attributes.action_group
notes:
  - The lag is the age of the last change that arrived, by the clock of the host that was asked. A failover now would lose so much.
seealso:
  - module: agentless.hyperv.hyperv_replica
"""

EXAMPLES = r"""
- name: How does the replication of this host stand
  agentless.hyperv.hyperv_replica_info:
    peer: hv02
  register: replication

- name: Which tests are overdue
  agentless.hyperv.hyperv_replica_info:
    test_interval: 90d
"""

RETURN = r"""
replicas:
  description: One entry for each machine. The keys of RV(agentless.hyperv.hyperv_replica#module:replica), and these.
  returned: success
  type: list
  elements: dict
  contains:
    vm: {description: "Its C(vm_id) and C(name).", type: dict, returned: always}
    power: {description: "Whether it runs, such as V(running) or V(off).", type: str, returned: always}
    mode: {description: "V(primary), V(replica), V(test_replica), V(extended_replica) or V(none).", type: str, returned: always}
    state: {description: "Such as V(replicating); V(none) without a relation.", type: str, returned: always}
    health: {description: "V(ok), V(warning) or V(critical).", type: str, returned: always}
    health_issues: {description: "The host's own reasons, in its language.", type: list, elements: str, returned: always}
    problems:
      description:
        - What is not as it should be. V(critical), V(warning), V(not_copied), V(not_replicating), V(lag), V(lag_unknown), V(test_overdue),
          V(other_relation).
      type: list
      elements: str
      returned: always
    lag: {description: Seconds since the last change arrived., type: int, returned: always}
    interval: {description: Seconds of a cycle., type: int, returned: always}
    settings: {description: By the names of the options of M(agentless.hyperv.hyperv_replica)., type: dict, returned: always}
    recovery_points:
      description: C(id), C(name), C(created) and C(application_consistent) of each point of the replica, oldest first.
      type: list
      elements: dict
      returned: always
    disks_left_out:
      description: Virtual disks of a primary that are not replicated, also one that was added later.
      type: list
      elements: str
      returned: always
    statistics:
      description:
        - C(pending_bytes), C(average_bytes), C(latency), C(largest_latency), C(missed), C(failures), C(network_failures),
          C(app_consistent_failures), and C(begin) and C(end) of the time that they are counted over. Null when they were not read.
      type: dict
      returned: always
    last_test: {description: When it was tested last; null when never or not read., type: str, returned: always}
    test_overdue: {description: Whether a test is overdue; null when that was not asked., type: bool, returned: always}
    peer: {description: "The other side with its C(host); null without O(peer).", type: dict, returned: always}
missing:
  description: The names that this host does not have.
  returned: success
  type: list
  elements: str
leftovers:
  description: What runs of this collection left on this host, by its marks.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description:
        - V(test_machine), one that was kept or that an interrupted run left; V(former_replica), a machine that was to be deleted when its
          relation ended, at most a week ago.
      type: str
      returned: always
    id: {description: GUID of the machine., type: str, returned: always}
    location: {description: Its name., type: str, returned: always}
    remove_with: {description: How it is removed., type: str, returned: always}
summary:
  description: All in one line.
  returned: success
  type: dict
  contains:
    relations: {description: How many entries have a relation., type: int, returned: always}
    healthy: {description: How many of them have no problem., type: int, returned: always}
    largest_lag: {description: Seconds., type: int, returned: always}
    tests_overdue: {description: How many tests are overdue., type: int, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_info

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    "vm_id": {"type": "str"},
    "names": {"type": "list", "elements": "str"},
    "peer": {"type": "str"},
    "statistics": {"type": "str", "choices": list(replica_info.STATISTICS), "default": "auto"},
    "cycles": {"type": "int", "default": 3},
    "test_interval": {"type": "str"},
}
RULES: dict[str, Any] = {"mutually_exclusive": [("name", "names"), ("vm_id", "names")]}


def run(call: Call) -> dict[str, Any]:
    """Read both sides."""
    return replica_info.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
