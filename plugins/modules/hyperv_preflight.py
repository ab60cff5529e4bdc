# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is missing on a host before its first run, with the remedy of each thing, changing nothing."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_preflight
short_description: Say what is missing on a host before its first run, changing nothing
version_added: 0.1.0
description:
  - Looks at the connection, the quotas of WinRM, the rights of the account, services, the clock, the cluster, free space and destinations,
    and says for each what is missing and how to mend it.
  - Each part is asked by itself, so that one refusal hides nothing else. A task fails only when the host cannot be reached or an option
    means nothing; read RV(ready) for the outcome.
  - For each share of O(destinations) it is told which account will knock there.
  - What only writing can show is V(unknown), unless O(write_test) allows it.
author:
  - The agentless.hyperv authors (@agentless)
options:
  write_test:
    description:
      - Also try what only writing can show. The folder of this collection on the host is made, closed and proved; it stays. Below each
        share of O(destinations) a small folder is made, renamed and removed, by a job that runs as O(destinations[].run_as) says, as
        copies do.
    type: bool
    default: false
extends_documentation_fragment:
  - agentless.hyperv.destinations
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
notes:
  - An account with few rights gets an answer, too; its missing rights are checks like all others.
  - All codes are listed in C(docs/preflight.md).
seealso:
  - module: agentless.hyperv.hyperv_vm_info
  - module: agentless.hyperv.hyperv_vss_copy
"""

EXAMPLES = r"""
- name: What is missing, without changing anything
  agentless.hyperv.hyperv_preflight:
    destinations:
      - path: E:\Backup
      - path: \\backup01\hyperv
  register: preflight

- name: Show it
  ansible.builtin.debug:
    msg: "{{ preflight.checks | rejectattr('status', 'equalto', 'ok') }}"

- name: Also write to the share, as the computer account of the host
  agentless.hyperv.hyperv_preflight:
    destinations:
      - path: \\backup01\hyperv
    write_test: true
"""

RETURN = r"""
ready:
  description: Whether no check is V(missing).
  returned: success
  type: bool
checks:
  description: What was looked at, in the order in which it should be mended.
  returned: success
  type: list
  elements: dict
  contains:
    code: {description: Stable name of the check., type: str, returned: always, sample: service_disabled}
    status: {description: "V(ok), V(missing), V(warning) or V(unknown).", type: str, returned: always}
    subject: {description: "What it is about, such as a service or a volume; empty for the host itself.", type: str, returned: always}
    message: {description: What was found., type: str, returned: always}
    remedy: {description: What to do; empty when nothing is., type: str, returned: always}
counts:
  description: Number of checks by status.
  returned: success
  type: dict
  contains:
    ok: {description: Number of checks that are well., type: int, returned: always}
    missing: {description: Number of things that must be mended., type: int, returned: always}
    warning: {description: Number of things to think about., type: int, returned: always}
    unknown: {description: Number of things that could not be seen., type: int, returned: always}
host:
  description: The host; what is not known is null.
  returned: success
  type: dict
  contains:
    name: {description: Its name., type: str, returned: always}
    fqdn: {description: Its name with its domain., type: str, returned: always}
    release: {description: Release of Windows Server., type: str, returned: always}
    cluster: {description: Name of its cluster; null without one., type: str, returned: always}
connection:
  description: How the host was reached.
  returned: success
  type: dict
  contains:
    scheme: {description: "V(http) or V(https).", type: str, returned: always}
    port: {description: Port of the listener., type: int, returned: always}
    transport: {description: How the account logged on., type: str, returned: always}
    encrypted: {description: Whether messages cannot be read on the way., type: bool, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations, preflight

ARGUMENT_SPEC: dict[str, Any] = {
    **destinations.ARGUMENT_SPEC,
    "write_test": {"type": "bool", "default": False},
}
RULES: dict[str, Any] = {}


def run(call: Call) -> dict[str, Any]:
    """Look; write only with ``write_test``."""
    return preflight.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
