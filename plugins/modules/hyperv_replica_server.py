# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as a replica server."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_replica_server
short_description: Let a host receive replicas of virtual machines
version_added: 0.1.0
description:
  - Makes a host a replica server, or ends that. Sets its listeners and their ports, who may send to it and where that is kept, and opens
    the ports in its firewall.
  - What is not given stays as it is. Each setting is compared by itself, and a second run changes nothing.
  - The certificate is looked up among those that the host itself offers, and checked for its time, its purposes and its name.
  - At the end the host must say that its listeners run. Otherwise the task fails with C(listener_not_running).
  - For a planned failover and its way back both hosts have to be replica servers, each with an authorisation of the other.
author:
  - The agentless.hyperv authors (@agentless)
options:
  state:
    description:
      - With V(present) the host receives replicas.
      - With V(absent) it does not. Its ports, its certificate and its authorisations stay written down; rules of ours in the firewall go.
    type: str
    choices: [present, absent]
    default: present
  authentication:
    description:
      - V(kerberos) is the HTTP listener. Both hosts must be in domains that trust each other. Nothing is encrypted on the way.
      - V(certificate) is the HTTPS listener. It works in a workgroup, too, and needs O(certificate_thumbprint).
      - Needed the first time.
    type: str
    choices: [kerberos, certificate, both]
  http_port:
    description: Port of the HTTP listener. A host that nobody has changed has 80.
    type: int
  https_port:
    description: Port of the HTTPS listener. A host that nobody has changed has 443.
    type: int
  certificate_thumbprint:
    description:
      - Thumbprint of the certificate of the HTTPS listener, in the personal store of the computer. Blanks do not matter.
      - It must have its private key, be valid now, be for client and server authentication, and name the host by its full name.
    type: str
  authorization:
    description:
      - Who may send replicas to this host. Entries that are not named here stay, unless O(authorization_purge).
    type: list
    elements: dict
    suboptions:
      primary:
        description: The full name of a primary server, C(*.domain), or C(*) for any server that can authenticate. It is the key.
        type: str
        required: true
      storage:
        description: Folder of this host in which its replicas are kept. Needed with O(authorization[].state=present).
        type: str
      trust_group:
        description:
          - Servers of one group may take over each other's replicas. It matters when a virtual machine moves from one primary server to
            another.
        type: str
        default: DEFAULT
      state:
        description: Whether the entry is there.
        type: str
        choices: [present, absent]
        default: present
  authorization_purge:
    description:
      - Remove every entry that O(authorization) does not have, which must be given. Replication from those servers stops; what was
        copied stays.
    type: bool
    default: false
  monitoring_interval:
    description: Seconds over which the host counts missed cycles for the health of its replicas, 3600 to 604800.
    type: int
  monitoring_start:
    description: Time of day at which this counting begins, in UTC, such as V(09:00).
    type: str
  firewall:
    description:
      - Open the ports of the listeners in the firewall of the host. For ports 80 and 443 the rules that come with Windows are enabled, by
        their internal names. For another port a rule of ours is made; its name says so.
      - Rules that come with Windows are never disabled again, since nobody knows who else enabled them.
    type: bool
    default: true
  accept_stopped_replicas:
    description: With O(state=absent), go on although the host keeps replicas. They stay, and get nothing any more.
    type: bool
    default: false
  timeout:
    description: Seconds for the whole task.
    type: int
    default: 300
extends_documentation_fragment:
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
notes:
  - The listeners of a failover cluster belong to the Hyper-V Replica Broker of the cluster, not to a node. This module does not set up a
    broker.
  - Whether a certificate is trusted and not revoked, and whether it has a private key, only the listener itself finds out. That it runs is
    checked.
"""

EXAMPLES = r"""
- name: Receive replicas of the domain
  agentless.hyperv.hyperv_replica_server:
    authentication: kerberos
    authorization:
      - primary: '*.example.test'
        storage: D:\Replica

- name: See what encryption would change, on another port
  agentless.hyperv.hyperv_replica_server:
    authentication: kerberos
    http_port: 8080
    monitoring_interval: 43200
    monitoring_start: "09:00"
  check_mode: true
  diff: true

- name: Let one server send, and nobody else
  agentless.hyperv.hyperv_replica_server:
    authorization_purge: true
    authorization:
      - primary: hv02.example.test
        storage: D:\Replica
        trust_group: production
"""

RETURN = r"""
server:
  description: The settings, by the names of the options. In check mode as they would be.
  returned: success
  type: dict
  contains:
    enabled: {description: Whether the host receives replicas., type: bool, returned: always}
    authentication: {description: RV(server.authentication) is as the option., type: str, returned: always}
    http_port: {description: Port of the HTTP listener., type: int, returned: always}
    https_port: {description: Port of the HTTPS listener., type: int, returned: always}
    certificate_thumbprint: {description: The certificate of the HTTPS listener., type: str, returned: always}
    monitoring_interval: {description: Seconds., type: int, returned: always}
    monitoring_start: {description: "Time of day, UTC.", type: str, returned: always}
    listening: {description: Whether the host says that its listeners run; null when it has none., type: bool, returned: always}
authorization:
  description: All entries of the host, with C(primary), C(storage) and C(trust_group).
  returned: success
  type: list
  elements: dict
firewall:
  description: The ports of the listeners, and the rule that opens each.
  returned: success
  type: list
  elements: dict
  contains:
    port: {description: The port., type: int, returned: always}
    rule: {description: Internal name of the rule that comes with Windows or name of ours., type: str, returned: always}
certificate:
  description: The certificate of the HTTPS listener; null without one.
  returned: success
  type: dict
  contains:
    thumbprint: {description: Its thumbprint., type: str, returned: always}
    names: {description: The names that it is for., type: list, elements: str, returned: always}
    expires: {description: When it ends., type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_server

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "authentication": {"type": "str", "choices": ["kerberos", "certificate", "both"]},
    "http_port": {"type": "int"},
    "https_port": {"type": "int"},
    "certificate_thumbprint": {"type": "str"},
    "authorization": {"type": "list", "elements": "dict", "options": {
        "primary": {"type": "str", "required": True},
        "storage": {"type": "str"},
        "trust_group": {"type": "str", "default": "DEFAULT"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }},
    "authorization_purge": {"type": "bool", "default": False},
    "monitoring_interval": {"type": "int"},
    "monitoring_start": {"type": "str"},
    "firewall": {"type": "bool", "default": True},
    "accept_stopped_replicas": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 300},
}
RULES: dict[str, Any] = {}


def run(call: Call) -> dict[str, Any]:
    """Read, decide, write; check mode ends after the decision."""
    return replica_server.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
