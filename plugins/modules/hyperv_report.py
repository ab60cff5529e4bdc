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
      - C(drills) is a list of what M(agentless.hyperv.hyperv_restore_info) returned, or of its failures, and C(replicas) the same of
        M(agentless.hyperv.hyperv_replica_info). They may speak of virtual machines of other hosts.
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
    description: Mode of these files, four octal digits in quotes. A textfile collector runs as somebody else and needs V(0644).
    type: str
    default: "0640"
  destination:
    description:
      - A folder on a volume of the host, or below a share. C(report.html) and C(report.json) are stored there in a new folder
        C(_reports\TIME_RUN), by a task of the host.
    type: str
  keep:
    description:
      - Which reports stay at O(destination). Without it, all do.
      - The rules are those of M(agentless.hyperv.hyperv_vss_copy). They see all reports that are stored there, whichever play made them,
        the new one among them. What no rule keeps is removed by the task that stores the new report, after it was stored.
      - A report whose storing was interrupted is not counted, and goes after a day. What says that it is from the future is neither counted
        nor removed.
      - Only folders that are named like reports go, and only by the names of the files of a report. A folder that is a link, holds one, or
        holds anything else stays, and a warning tells.
      - At most 100 go in one run, the oldest first.
    type: dict
    suboptions:
      last: {description: The newest so many., type: int}
      hourly: {description: The newest of each of so many hours., type: int}
      daily: {description: The newest of each of so many days., type: int}
      weekly: {description: The newest of each of so many ISO weeks., type: int}
      monthly: {description: The newest of each of so many months., type: int}
      yearly: {description: The newest of each of so many years., type: int}
  timezone:
    description: The IANA name of the time zone whose hours, days and so on O(keep) means.
    type: str
    default: UTC
  rpo:
    description:
      - How old the last good copy of a virtual machine may be, for policies without C(rpo), such as V(26h).
      - Without it 26 hours for policies whose C(max_age) is at most a day, and 26 hours more than C(max_age) for others.
    type: str
  replica_lag:
    description: How far behind a replica may be. C(rpo) or C(max_age) of the policy decides where its method is V(replica).
    type: str
    default: 1h
  drill_interval:
    description:
      - How long ago the last restore drill that a virtual machine passed may be, such as V(90d). Not asked by default.
      - It is asked of virtual machines that C(drills) tells of, which are those that have exports.
    type: str
  test_interval:
    description:
      - How long ago the last test failover of a replica may be. Not asked by default.
      - It is asked of replicas that C(replicas) of any host tells of.
    type: str
extends_documentation_fragment:
  - agentless.hyperv.run_as
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
notes:
  - In check mode no task is put onto the host. So with O(keep) a share is not looked at, and a warning says so; a folder of the host is.
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
    keep: {daily: 31, monthly: 12}
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
pruned:
  description:
    - Folders of the reports that were removed because of O(keep), or would be in check mode. Null without a destination, and when check
      mode may not look.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import report_store, retention_options, run_as

ARGUMENT_SPEC: dict[str, Any] = {
    "hosts": {"type": "list", "elements": "dict", "required": True},
    "silent": {"type": "list", "elements": "str", "default": []},
    "title": {"type": "str", "default": "Protection of virtual machines"},
    "folder": {"type": "path"},
    "formats": {"type": "list", "elements": "str", "choices": list(report_store.FORMATS), "default": list(report_store.FORMATS)},
    "mode": {"type": "str", "default": "0640"},
    "destination": {"type": "str"},
    "keep": retention_options.KEEP,
    "timezone": retention_options.TIMEZONE,
    "rpo": {"type": "str"},
    "replica_lag": {"type": "str", "default": "1h"},
    "drill_interval": {"type": "str"},
    "test_interval": {"type": "str"},
    **run_as.ARGUMENT_SPEC,
}
RULES: dict[str, Any] = {
    "required_one_of": [("folder", "destination")], "required_by": {"keep": ["destination"]}, "required_if": run_as.REQUIRED_IF}


def run(call: Call) -> dict[str, Any]:
    """Make it, write it, store it."""
    return report_store.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
