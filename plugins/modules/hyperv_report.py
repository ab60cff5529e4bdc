# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a fleet."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_report
short_description: Writes the report on the protection of a fleet, as a page, JSON, CSV, JUnit and Prometheus text
version_added: 0.1.0
description:
  - Makes one report out of what M(agentless.hyperv.hyperv_protection_info) told of several hosts, writes it on the controller, and
    stores it at a destination through the host of the task.
  - The role C(report) gathers what is needed and runs this once. By itself this module asks no host anything.
  - Names of virtual machines and everything else that hosts told is written as text, whatever it is.
author:
  - The agentless.hyperv authors (@agentless)
options:
  hosts:
    description:
      - One entry for each host. C(host) is its name, C(info) what M(agentless.hyperv.hyperv_protection_info) returned, or the result of its
        failure.
      - C(plan) is what P(agentless.hyperv.backup_plan#filter) made of its virtual machines; without it nobody knows which are to be
        protected.
      - C(results) are the C(backup_results) of the role C(backup), when it ran before.
    type: list
    elements: dict
    required: true
  silent:
    description: Names of hosts of which nothing is known, since they were out of the play before.
    type: list
    elements: str
    default: []
  title:
    description: The headline.
    type: str
    default: Protection of virtual machines
  folder:
    description: Folder on the controller. It is made when it is not there.
    type: path
  formats:
    description:
      - What is written into O(folder).
      - V(html) is C(report.html), V(json) C(report.json), V(csv) C(report.csv), V(junit) C(report.junit.xml), V(prometheus) C(report.prom).
    type: list
    elements: str
    choices: [html, json, csv, junit, prometheus]
    default: [html, json, csv, junit, prometheus]
  mode:
    description: Mode of these files, octal. A textfile collector runs as somebody else and needs V(0644).
    type: str
    default: "0640"
  destination:
    description:
      - A folder on a volume of the host, or below a share. C(report.html) and C(report.json) are stored there in a new folder
        C(_reports\TIME_RUN), by a task of the host. Nothing is ever removed there.
    type: str
  rpo:
    description:
      - How old the last good copy of a virtual machine may be, for policies without C(rpo), such as V(26h).
      - Without it 26 hours for policies whose C(max_age) is at most a day, and 26 hours more than C(max_age) for others.
    type: str
  replica_lag:
    description: How far behind a replica may be. C(rpo) or C(max_age) of the policy decides where its method is V(replica).
    type: str
    default: 1h
extends_documentation_fragment:
  - agentless.hyperv.run_as
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
seealso:
  - module: agentless.hyperv.hyperv_protection_info
"""

EXAMPLES = r"""
- name: Read what there is of every virtual machine
  agentless.hyperv.hyperv_protection_info:
    destinations:
      - path: E:\Backup
  register: protection

- name: Report on this host alone
  agentless.hyperv.hyperv_report:
    hosts:
      - host: "{{ inventory_hostname }}"
        info: "{{ protection }}"
        plan: "{{ protection.vms | agentless.hyperv.backup_plan(['*'], defaults={'destination': 'E:\\Backup'}) }}"
    folder: "{{ playbook_dir }}/report"
    formats: [html, json]
    destination: E:\Backup
"""

RETURN = r"""
good:
  description: Whether nothing has to be done.
  returned: success
  type: bool
counts:
  description: Number of virtual machines by status.
  returned: success
  type: dict
  sample: {unprotected: 1, no_copy: 0, overdue: 0, failed: 0, unknown: 0, weaker: 0, attention: 2, ok: 37, left_out: 3, replica: 0}
unprotected:
  description: Virtual machines that nothing protects.
  returned: success
  type: list
  elements: dict
  contains:
    host: {description: Its host., type: str, returned: always}
    vm_id: {description: Its GUID., type: str, returned: always}
    name: {description: Its name. Any text., type: str, returned: always}
silent:
  description: Hosts that gave no answer.
  returned: success
  type: list
  elements: str
files:
  description: The files on the controller.
  returned: success
  type: list
  elements: str
stored:
  description: The folder at the destination; null without one.
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import report_store, run_as

ARGUMENT_SPEC: dict[str, Any] = {
    "hosts": {"type": "list", "elements": "dict", "required": True},
    "silent": {"type": "list", "elements": "str", "default": []},
    "title": {"type": "str", "default": "Protection of virtual machines"},
    "folder": {"type": "path"},
    "formats": {"type": "list", "elements": "str", "choices": list(report_store.FORMATS), "default": list(report_store.FORMATS)},
    "mode": {"type": "str", "default": "0640"},
    "destination": {"type": "str"},
    "rpo": {"type": "str"},
    "replica_lag": {"type": "str", "default": "1h"},
    **run_as.ARGUMENT_SPEC,
}
RULES: dict[str, Any] = {"required_one_of": [("folder", "destination")], "required_if": run_as.REQUIRED_IF}


def run(call: Call) -> dict[str, Any]:
    """Make it, write it, store it."""
    return report_store.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
