# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The replication of a virtual machine."""
from __future__ import annotations

DOCUMENTATION = r"""
module: hyperv_replica
short_description: Replicate virtual machines to another host
version_added: 0.1.0
description:
  - Declares the replication of one, several or all virtual machines of the host that has the primaries. Makes the relation, has the first
    copy made, and waits until it is there.
  - What is not given stays as it is. Each setting is compared and changed by itself; a second run changes nothing.
  - The connection to the replica server is tested before anything is written. With O(peer) that host is looked at, too. It must let this
    host send, no leftover of an earlier replication may be in the way, and its storage must have room for the disks. When it has
    no room for them as large as they may become, or says nothing of its room, that is a warning.
  - What would throw the copy away fails, unless O(allow_reseed). A server that only gets another name does not.
  - A replica is no backup. What is deleted or encrypted on the primary is so on the replica a few minutes later.
author:
  - The agentless.hyperv authors (@agentless)
options:
  state:
    description:
      - With V(present) the machine replicates. A paused relation is resumed, one that the host calls critical is resumed once.
      - With V(paused) the relation stays, and nothing is sent. Changes pile up on the disk of the primary.
      - With V(absent) there is no relation on this host, and none on the O(peer) either. The replica stays there as an ordinary virtual
        machine that is off. Run it on the replica server to remove what was left there.
    type: str
    choices: [present, absent, paused]
    default: present
  names:
    description:
      - Names or GUIDs of several virtual machines, or the one word V(all), which means those that are no replicas. The result has one entry
        for each, in RV(results).
      - First copies run side by side. One machine's failure never stops the others; the task fails at the end.
    type: list
    elements: str
  server:
    description: Full name of the replica server, as its certificate or its Kerberos account has it. Needed the first time.
    type: str
  port:
    description: Port of its listener. The first time, and with another O(authentication), it is 80 for Kerberos and 443 for a certificate.
    type: int
  authentication:
    description: How the hosts authenticate. The first time V(kerberos). Only V(certificate) encrypts what is sent.
    type: str
    choices: [kerberos, certificate]
  certificate_thumbprint:
    description: Certificate of this host, for O(authentication=certificate). It is not the one of the replica server.
    type: str
  compression:
    description: Compress what is sent.
    type: bool
  frequency:
    description:
      - Seconds between two cycles. What the last cycles did not bring is lost in an unplanned failover.
      - On Windows Server 2012 it is always 300.
    type: int
    choices: [30, 300, 900]
  recovery_history:
    description: How many further points the replica keeps, one an hour, 0 to 24. They need room on the replica server.
    type: int
  app_consistent_interval:
    description:
      - Hours between two points that are consistent for applications, 1 to 12; 0 for none. Needs O(recovery_history).
      - The guest is quiesced by VSS for each. SQL Server in it notes a backup device that could not be opened; that does no harm.
    type: int
  included_disks:
    description: Replicate these disks alone. Paths of virtual disks of the machine, or the names of their files.
    type: list
    elements: str
  excluded_disks:
    description:
      - Do not replicate these disks, such as one that only holds a page file. An empty list replicates all, also those that came later.
      - With neither this nor O(included_disks) the disks of a replication stay as they are, and those that are left out are told, in
        RV(disks_left_out) and by a warning.
      - On Windows Server 2012 R2 a disk that is taken in later needs a resynchronisation, and so O(allow_resync).
    type: list
    elements: str
  auto_resync:
    description: Let the host resynchronise by itself when it has to, between O(auto_resync_start) and O(auto_resync_end).
    type: bool
  auto_resync_start:
    description: Time of day of the host, such as V(18:30).
    type: str
  auto_resync_end:
    description: Time of day of the host, such as V(06:00).
    type: str
  replicate_kvp:
    description: Replicate the key-value pairs that the host has for the guest, too.
    type: bool
  bypass_proxy:
    description: Do not use a proxy on the way to the replica server.
    type: bool
  initial_copy:
    description:
      - V(network) sends everything.
      - V(existing) compares with a virtual machine of the same GUID that the replica server has already, and sends what differs. With
        O(peer) that machine, which must be off and without checkpoints, is made a replica; without, it must be one.
      - V(media) writes it into O(media_folder), for somebody to carry it to the replica server. It is not waited for; there a task with
        O(import_folder) takes it in.
      - V(none) makes the relation alone. A later run without it begins the copy.
    type: str
    choices: [network, existing, media, none]
    default: network
  initial_copy_at:
    description:
      - Begin the first copy at this time, within seven days, such as V(2026-03-01T22:00:00Z). Without an offset it is UTC.
      - A time that is over fails where a first copy is needed, and does not matter where there is one.
      - A copy of a later time is not waited for.
    type: str
  media_folder:
    description:
      - Folder of this host, such as V(E:\\Carry), for O(initial_copy=media). Each machine gets a folder of its own below it. It holds the
        content of the disks, so guard it on its way.
    type: str
  import_folder:
    description:
      - On the replica server, the folder of the one machine that was carried there. Its first copy is taken in, and the machine replicates
        a cycle or two later.
    type: str
  allow_reseed:
    description: Allow changes that throw the copy away, which are another replica server and the end of the replication of a disk.
    type: bool
    default: false
  allow_resync:
    description:
      - Resynchronise when the host says that it is needed. Both sides are read as a whole and compared.
    type: bool
    default: false
  remove_replica_vm:
    description:
      - With O(state=absent), delete the virtual machine that was the replica, on this host or on the O(peer). Its disks stay.
      - Only what is a replica, is off and has not taken over is deleted. It is marked in its notes before its relation ends, so that the
        next run within a week finishes what one that died left.
    type: bool
    default: false
  peer:
    description:
      - Inventory name of the replica server. It is read over its own connection, and with O(state=absent) its relation with this host is
        removed, too. One that it has with a third host stays.
      - When it calls itself otherwise than O(server) says, that is a warning. A node of a cluster does behind its Replica Broker.
    type: str
  wait:
    description:
      - Wait until the first copy, or a resynchronisation, is done. What was resumed is waited for until a change has arrived.
    type: bool
    default: true
  timeout:
    description: Seconds for the whole task. The copy goes on by itself when they are over, and the same task run again waits for it.
    type: int
    default: 86400
  poll_interval:
    description: Seconds between the first looks at a copy; later ones are further apart.
    type: int
    default: 5
extends_documentation_fragment:
  - agentless.hyperv.vm_selector
  - agentless.hyperv.attributes
  - agentless.hyperv.attributes.writes
  - agentless.hyperv.attributes.action_group
notes:
  - An extended replication, from a replica server to a third host, is shown by M(agentless.hyperv.hyperv_vm_info) and not declared here.
  - In check mode the connection is tested, too. That sends a few packets and changes nothing.
seealso:
  - module: agentless.hyperv.hyperv_replica_server
"""

EXAMPLES = r"""
- name: See what would be replicated
  agentless.hyperv.hyperv_replica:
    names: [sql01, web02]
    server: hv02.example.test
    peer: hv02
  check_mode: true
  diff: true

- name: Replicate two virtual machines every five minutes, and keep four hours
  agentless.hyperv.hyperv_replica:
    names: [sql01, web02]
    server: hv02.example.test
    frequency: 300
    recovery_history: 4
    app_consistent_interval: 4
    peer: hv02

- name: Pause one of them
  agentless.hyperv.hyperv_replica:
    name: web02
    state: paused

- name: End its replication on both hosts
  agentless.hyperv.hyperv_replica:
    name: web02
    state: absent
    peer: hv02
    remove_replica_vm: true
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
    health_issues: {description: "What the host says is wrong, in its language.", type: list, elements: str, returned: when it says so}
    replica: {description: RV(replica)., type: dict, returned: always}
    peer_replica: {description: The same as the O(peer) sees it., type: dict, returned: always}
    disks_left_out: {description: RV(disks_left_out)., type: list, elements: str, returned: always}
    steps: {description: RV(steps)., type: list, elements: str, returned: always}
    leftovers: {description: RV(leftovers)., type: list, elements: dict, returned: always}
vm:
  description: The machine, by C(vm_id) and C(name).
  returned: with O(name) or O(vm_id)
  type: dict
replica:
  description: The replication as this host sees it. In check mode as it is before.
  returned: with O(name) or O(vm_id)
  type: dict
  contains:
    mode: {description: "V(none), V(primary), V(replica), V(test_replica) or V(extended_replica).", type: str, returned: always}
    state: {description: "Such as V(replicating); V(none) without a relation.", type: str, returned: always}
    health: {description: "V(ok), V(warning) or V(critical), as the host judges.", type: str, returned: always}
    settings: {description: The settings by the names of the options., type: dict, returned: always}
    lag: {description: Seconds since the last change arrived., type: int, returned: with a relation}
    last_replicated: {description: When that was., type: str, returned: with a relation}
    last_applied: {description: When the replica last had it in its disks., type: str, returned: with a relation}
    last_application_consistent: {description: The last point that is consistent for applications., type: str, returned: with a relation}
    extended: {description: The extended relation; null without one., type: dict, returned: with a relation}
peer_replica:
  description: RV(replica) as the O(peer) sees it; null without a peer, or when it has no such machine.
  returned: with O(name) or O(vm_id)
  type: dict
disks_left_out:
  description: Virtual disks that are not replicated, where the task names neither O(included_disks) nor O(excluded_disks).
  returned: with O(name) or O(vm_id)
  type: list
  elements: str
steps:
  description: What was done, in this order.
  returned: with O(name) or O(vm_id)
  type: list
  elements: str
leftovers:
  description: What is left elsewhere, such as the relation on a replica server that is no O(peer).
  returned: with O(name) or O(vm_id)
  type: list
  elements: dict
  contains:
    kind: {description: V(replica_relation)., type: str, returned: always}
    id: {description: GUID of the machine., type: str, returned: always}
    location: {description: The host., type: str, returned: always}
    remove_with: {description: How it is removed., type: str, returned: always}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.agentless.hyperv.plugins.module_utils.module import RUNS_IN_PROCESS, Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent", "paused"], "default": "present"},
    "name": {"type": "str"},
    "vm_id": {"type": "str"},
    "names": {"type": "list", "elements": "str"},
    "server": {"type": "str"},
    "port": {"type": "int"},
    "authentication": {"type": "str", "choices": ["kerberos", "certificate"]},
    "certificate_thumbprint": {"type": "str"},
    "compression": {"type": "bool"},
    "frequency": {"type": "int", "choices": [30, 300, 900]},
    "recovery_history": {"type": "int"},
    "app_consistent_interval": {"type": "int"},
    "included_disks": {"type": "list", "elements": "str"},
    "excluded_disks": {"type": "list", "elements": "str"},
    "auto_resync": {"type": "bool"},
    "auto_resync_start": {"type": "str"},
    "auto_resync_end": {"type": "str"},
    "replicate_kvp": {"type": "bool"},
    "bypass_proxy": {"type": "bool"},
    "initial_copy": {"type": "str", "choices": ["network", "existing", "media", "none"], "default": "network"},
    "initial_copy_at": {"type": "str"},
    "media_folder": {"type": "str"},
    "import_folder": {"type": "str"},
    "allow_reseed": {"type": "bool", "default": False},
    "allow_resync": {"type": "bool", "default": False},
    "remove_replica_vm": {"type": "bool", "default": False},
    "peer": {"type": "str"},
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 86400},
    "poll_interval": {"type": "int", "default": 5},
}
RULES: dict[str, Any] = {
    "required_one_of": [("name", "vm_id", "names")],
    "mutually_exclusive": [("name", "names"), ("vm_id", "names"), ("included_disks", "excluded_disks"), ("import_folder", "names")],
    "required_if": [("initial_copy", "media", ("media_folder",))],
}


def run(call: Call) -> dict[str, Any]:
    """Read both sides, decide, carry out; check mode ends after the decision."""
    return replica.run(call)


def main() -> None:
    """For tools that read the arguments; the work is done by the action plugin of this name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RULES)
    module.fail_json(msg=RUNS_IN_PROCESS)


if __name__ == "__main__":
    main()
