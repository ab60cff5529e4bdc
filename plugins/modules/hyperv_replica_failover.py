# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failovers of replicas."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_replica_failover
short_description: Fail replicas over, test them, and turn the direction of replication
version_added: 0.1.0
description:
  - Runs on the host that takes over, which has the replica. O(peer) is the host that has the primary.
  - Each step is chosen from the pair of states that both hosts show at that moment, and seen to be done. A run that died half way is
    continued by running the same task again. A pair that is not foreseen is told, and left as it is.
  - Nothing here is automatic. It fails over when a task says so, and never because a host does not answer.
author:
  - The agentless.hyperv authors (@agentless)
options:
  action:
    description:
      - V(test) makes a test machine of a recovery point, disconnected or on O(test_switch) alone, starts it, waits for its heartbeat, and
        removes it. Replication goes on meanwhile.
      - V(end_test) removes a test machine that O(keep_test) left, or that an interrupted run left.
      - V(planned) shuts the primary down, sends the last changes, fails over, reverses the direction and starts the machine here. Nothing
        is lost. It is done when the roles are reversed, and a second run changes nothing.
      - V(unplanned) fails over to a recovery point because the primary is lost. What had not arrived is lost. Needs
        O(confirm_primary_down).
      - V(commit) makes an unplanned failover final. The other recovery points go.
      - V(cancel) takes a failover back that is not committed, or lets a primary replicate again that was prepared for one. What was
        written here since the failover is lost, and a machine that runs is turned off. A primary is not started again.
      - V(reverse) lets this host replicate to the old primary when that is back. The machine must be off there.
    type: str
    choices: [test, end_test, planned, unplanned, commit, cancel, reverse]
    required: true
  names:
    description:
      - Names or GUIDs of several virtual machines, or the one word V(all) for every replica of this host, one after the other. The result
        has one entry for each, in RV(results).
      - One machine's failure never stops the others. The task fails at the end.
    type: list
    elements: str
  peer:
    description:
      - Inventory name of the other host, over its own connection. Needed for V(planned) and V(reverse), and to cancel a planned one.
      - With O(action=unplanned) leave it out when that host does not answer.
    type: str
  recovery_point:
    description:
      - V(latest), V(latest_application_consistent), or the GUID of a recovery point of M(agentless.hyperv.hyperv_replica_info).
      - For O(action=test) and O(action=unplanned).
    type: str
    default: latest
  confirm_primary_down:
    description:
      - Says that the primary is down and cannot start again. Two machines of one identity in one network do damage.
    type: bool
    default: false
  commit:
    description: With O(action=unplanned), make it final at once.
    type: bool
    default: false
  start:
    description: Start the machine here when it has taken over.
    type: bool
    default: true
  shutdown:
    description:
      - How O(action=planned) gets the primary off. V(guest) asks the guest, V(turn_off) is as a power cut, V(none) fails when it is on.
    type: str
    choices: [guest, turn_off, none]
    default: guest
  shutdown_timeout:
    description: Seconds that it has for this.
    type: int
    default: 600
  test_switch:
    description: Name of the switch of this host that test machines are connected to. Without it they are connected to nothing.
    type: str
  heartbeat_timeout:
    description: Seconds in which the guest of a test machine must give a heartbeat; 0 does not wait for one.
    type: int
    default: 600
  keep_test:
    description: Leave a test machine that started well, for tests of your own. O(action=end_test) removes it.
    type: bool
    default: false
  remove_foreign_test:
    description: Remove a test machine that is there and not marked as ours. Somebody may be using it.
    type: bool
    default: false
  timeout:
    description: Seconds for the whole task.
    type: int
    default: 7200
extends_documentation_fragment:
  - agentless.hyperv.vm_selector
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
notes:
  - For V(planned) the old primary must be a replica server that lets this host send. That is checked, and the way there tested, before the
    primary is shut down.
  - A test machine is marked in its notes. Until it is, those of its replica announce it, so that a machine is known that a killed run made
    and could not mark. One that was made more than 5 minutes after the announcement counts as somebody else's.
  - In check mode RV(steps) are the steps that would be taken.
seealso:
  - module: agentless.hyperv.hyperv_replica
  - module: agentless.hyperv.hyperv_replica_info
"""

EXAMPLES = r"""
- name: Test every replica of this host
  agentless.hyperv.hyperv_replica_failover:
    action: test
    names: all
    heartbeat_timeout: 300

- name: See what a planned failover would do
  agentless.hyperv.hyperv_replica_failover:
    action: planned
    name: db01
    peer: hv02
  check_mode: true
  diff: true

- name: Take a virtual machine over from the other host
  agentless.hyperv.hyperv_replica_failover:
    action: planned
    name: db01
    peer: hv02
    shutdown: turn_off
"""

RETURN = r"""
results:
  description: One entry for each machine. With O(name) or O(vm_id) its keys are those of the result itself.
  returned: with O(names)
  type: list
  elements: dict
  contains:
    vm: {description: "Its C(vm_id) and C(name).", type: dict, returned: always}
    changed: {description: Whether anything was changed for it., type: bool, returned: always}
    failed: {description: Whether it failed., type: bool, returned: always}
    error_code: {description: Why., type: str, returned: when it failed}
    steps: {description: RV(steps)., type: list, elements: str, returned: always}
    pair: {description: RV(pair)., type: dict, returned: always}
    evidence: {description: RV(evidence)., type: dict, returned: always}
    leftovers: {description: RV(leftovers)., type: list, elements: dict, returned: always}
vm:
  description: The machine, by C(vm_id) and C(name).
  returned: with O(name) or O(vm_id)
  type: dict
steps:
  description:
    - What was done and seen to be done, in this order. C(shut_down_source), C(prepare), C(fail_over), C(reverse), C(start), C(commit),
      C(turn_off), C(revert), C(cancel_prepare); for tests C(make_test) and C(remove_test).
  returned: with O(name) or O(vm_id)
  type: list
  elements: str
pair:
  description: What both hosts said last, as C(source) and C(target) with C(mode), C(state) and C(power) each. Not for tests.
  returned: with O(name) or O(vm_id)
  type: dict
evidence:
  description:
    - For a planned failover C(primary_off), C(last_changes_sent), C(lost_bytes) and C(started). For an unplanned one C(last_replicated).
    - For a test C(test_vm), C(point), C(isolated), C(heartbeat), C(seconds_to_heartbeat), C(begun) and C(ended).
  returned: with O(name) or O(vm_id)
  type: dict
leftovers:
  description: A test machine that is still there.
  returned: with O(name) or O(vm_id)
  type: list
  elements: dict
  contains:
    kind: {description: V(test_machine)., type: str, returned: always}
    id: {description: Its GUID., type: str, returned: always}
    location: {description: Its name., type: str, returned: always}
    remove_with: {description: How it is removed., type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_failover, replica_test

ARGUMENT_SPEC: dict[str, Any] = {
    "action": {"type": "str", "required": True,
               "choices": ["test", "end_test", "planned", "unplanned", "commit", "cancel", "reverse"]},
    "name": {"type": "str"},
    "vm_id": {"type": "str"},
    "names": {"type": "list", "elements": "str"},
    "peer": {"type": "str"},
    "recovery_point": {"type": "str", "default": "latest"},
    "confirm_primary_down": {"type": "bool", "default": False},
    "commit": {"type": "bool", "default": False},
    "start": {"type": "bool", "default": True},
    "shutdown": {"type": "str", "choices": ["guest", "turn_off", "none"], "default": "guest"},
    "shutdown_timeout": {"type": "int", "default": 600},
    "test_switch": {"type": "str"},
    "heartbeat_timeout": {"type": "int", "default": 600},
    "keep_test": {"type": "bool", "default": False},
    "remove_foreign_test": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 7200},
}
RULES: dict[str, Any] = {
    "required_one_of": [("name", "vm_id", "names")],
    "mutually_exclusive": [("name", "names"), ("vm_id", "names")],
    "required_if": [("action", "planned", ("peer",)), ("action", "reverse", ("peer",))],
}


def run(call: Call) -> dict[str, Any]:
    """Read both sides, decide, carry out step after step; check mode ends after the decision."""
    test = call.params["action"] in (replica_test.TEST, replica_test.END_TEST)
    return replica_test.run(call) if test else replica_failover.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
