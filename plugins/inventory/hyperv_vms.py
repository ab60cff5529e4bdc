# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VMs of Hyper-V hosts as hosts of the inventory."""
from __future__ import annotations

DOCUMENTATION = r"""
name: hyperv_vms
short_description: The virtual machines of Hyper-V hosts as inventory hosts
version_added: 0.1.0
description:
  - Asks the Hyper-V hosts that are in the inventory already, or that O(servers) names, for their virtual machines, and makes each of
    these a host of the inventory, in groups by state, operating system, Hyper-V host, protection and backup policy.
  - The Hyper-V hosts are reached as the modules of this collection reach them, with the options of the C(winrm) or C(psrp) connection out
    of each host's variables. Nothing but facts is read. A password that is asked for with C(-k) is not known to inventory plugins.
  - The name of the file ends in C(hyperv_vms.yml) or C(hyperv_vms.yaml). Hosts of other sources are there when these come before it on
    the command line, or in the order of their names in a folder.
  - A virtual machine's name is any text. The host is called by it with everything but letters, digits, C(_), C(.) and C(-) replaced by
    C(_). When several would have the same name, or it is that of another host or a group, all of them have the first 8 digits of their GUID
    added, and where that is not enough the name of the Hyper-V host. So no virtual machine takes the name of another one.
  - Replicas and test replicas are hosts of the group C(replicas) alone and have C(_replica), C(_test_replica) or C(_extended_replica) added
    to their names. They are no second copy of the virtual machine that they replicate.
  - A clustered virtual machine that is seen on two nodes is there once, at the node that owns it.
  - No value that came from a host is ever rendered as a template.
author:
  - The agentless.hyperv authors (@agentless)
notes:
  - The connection of the virtual machines themselves is not set. Whatever holds for C(all) holds for them, too, so keep passwords of the
    Hyper-V hosts in the group of these hosts. When a play uses the name that a guest told as C(ansible_host), the guest decides where
    its credentials go.
  - While one account of a domain is refused by the first host, the others that it is meant for are not asked, since each try counts
    against the account.
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [agentless.hyperv.hyperv_vms]
  hosts:
    description: Pattern of the Hyper-V hosts in the inventory, as in a play. O(servers) are asked whether it means them or not.
    type: str
    default: hyperv
  servers:
    description: Names or addresses of Hyper-V hosts that no other source has. They become hosts of the group O(servers_group).
    type: list
    elements: str
    default: []
  servers_group:
    description: The group of O(servers).
    type: str
    default: hyperv
  connection:
    description:
      - Connection variables of the O(servers), the same as for hosts of any inventory, such as C(ansible_user), C(ansible_password),
        C(ansible_connection) and C(ansible_winrm_transport). C(ansible_connection) is V(winrm) unless it is given.
      - Templates are filled in, so a password can come out of a lookup.
    type: dict
    default: {}
  gather:
    description:
      - What is read of each virtual machine beside its state. It is the variable C(hyperv_vm), as
        RV(agentless.hyperv.hyperv_vm_info#module:vms) has it.
      - Without V(integration) the operating systems are not known, without V(cluster) not which node owns a virtual machine.
    type: list
    elements: str
    choices: [summary, disks, checkpoints, integration, replication, security, cluster, readiness]
    default: [integration, cluster]
  replicas:
    description: Whether replicas become hosts of the group C(replicas). Otherwise they are left out.
    type: bool
    default: true
  group_prefix:
    description: What the names of the groups begin with.
    type: str
    default: hyperv_
  unreachable:
    description: What happens when a Hyper-V host gives no answer. With V(warn) the others count, with V(fail) none.
    type: str
    choices: [warn, fail]
    default: warn
  workers:
    description: How many Hyper-V hosts are asked at once.
    type: int
    default: 10
"""

EXAMPLES = r"""
# site/10_hosts.yml lists the Hyper-V hosts as the group hyperv, with their connection; this is site/20_hyperv_vms.yml.
# ansible-inventory -i site --graph
plugin: agentless.hyperv.hyperv_vms

---
# Without another source. The account comes from the environment.
plugin: agentless.hyperv.hyperv_vms
servers: [hv01.example.com, hv02.example.com]
connection:
  ansible_connection: winrm
  ansible_winrm_transport: ntlm
  ansible_port: 5985
  ansible_user: "{{ lookup('env', 'HYPERV_USER') }}"
  ansible_password: "{{ lookup('env', 'HYPERV_PASSWORD') }}"
unreachable: fail

---
# Groups of your own, and an address for plays inside the guests; the answers of the hosts are kept for ten minutes.
plugin: agentless.hyperv.hyperv_vms
hosts: hyperv
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: /tmp/hyperv_vms
cache_timeout: 600
compose:
  ansible_host: hyperv_guest_fqdn | default(hyperv_vm_name, true)
groups:
  databases: hyperv_vm_name is match('sql')
keyed_groups:
  - key: hyperv_generation | string
    prefix: generation
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible import context
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.helpers import get_group_vars
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.parameters import remove_values
from ansible.playbook.play_context import PlayContext
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable, to_safe_group_name
from ansible.plugins.loader import connection_loader
from ansible.utils.unsafe_proxy import wrap_var
from ansible.utils.vars import combine_vars
from ansible.vars.plugins import get_vars_from_inventory_sources
from ansible_collections.agentless.hyperv.plugins.filter.backup_plan import DEFAULT, backup_plan
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, SystemClock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import NOTHING_VISIBLE
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import inventory as facts_of
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vm_result import host_result, vm_result
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.host_names import Listed, unique_names, without_doubles
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_facts import REPLICAS
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.shown import shown
from ansible_collections.agentless.hyperv.plugins.plugin_utils.connection import Connection, describe
from ansible_collections.agentless.hyperv.plugins.plugin_utils.fleet_reader import read_fleet
from ansible_collections.agentless.hyperv.plugins.plugin_utils.kerberos import kerberos_available
from ansible_collections.agentless.hyperv.plugins.plugin_utils.options import set_options

ANY_DESTINATION = "X:\\any"
"""Which policy a virtual machine has does not depend on where its copies go, so nothing that a policy says is looked at here."""


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Parses files whose names end in ``hyperv_vms.yml``."""

    NAME = "agentless.hyperv.hyperv_vms"
    inventory: Any  # there from parse on
    templar: Any

    def verify_file(self, path: str) -> bool:
        """True for a file of this plugin, by its name."""
        return bool(super().verify_file(path)) and path.endswith(("hyperv_vms.yml", "hyperv_vms.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Ask the hosts and fill the inventory. Raises AnsibleParserError for what is wrong with the file, and with V(unreachable=fail)."""
        super().parse(inventory, loader, path, cache=cache)
        self._read_config_data(path)
        self._add_servers()
        variables = {name: self._variables(name) for name in self._hosts()}
        answers = self._answers(variables, self.get_cache_key(path), cache)
        self._fill(answers, {name: self._policies(variables[name], answer) for name, answer in answers.items()})

    # -- the hosts and their connections ---------------------------------------------------------------------------------

    def _add_servers(self) -> None:
        if not self.get_option("servers"):
            return
        group = self.inventory.add_group(to_safe_group_name(self.get_option("servers_group")))
        for server in self.get_option("servers"):
            self.inventory.add_host(server, group=group)
            for name, value in {"ansible_connection": "winrm", **self.get_option("connection")}.items():
                self.inventory.set_variable(server, name, value)

    def _hosts(self) -> list[str]:
        """Names of the hosts that the pattern means, of those that are there by now."""
        self.inventory.reconcile_inventory()
        manager = InventoryManager(loader=self.loader, parse=False)
        manager._inventory = self.inventory  # patterns are understood by the manager alone, and it has no public way to be given data
        found = [host.name for host in manager.get_hosts(self.get_option("hosts"))]
        return list(dict.fromkeys([*found, *self.get_option("servers")]))

    def _variables(self, name: str) -> dict[str, Any]:
        """The variables of a host as a play would have them, but for those beside a playbook."""
        host, sources = self.inventory.get_host(name), self.inventory.processed_sources
        groups = get_group_vars(host.get_groups())
        groups = combine_vars(groups, get_vars_from_inventory_sources(self.loader, sources, host.get_groups(), "all"))
        own = combine_vars(host.get_vars(), get_vars_from_inventory_sources(self.loader, sources, [host], "all"))
        return dict(combine_vars(combine_vars(groups, own), self._vars))

    def _value(self, variables: Mapping[str, Any]) -> Callable[[str], Any]:
        """A function that gives a variable with its templates filled in."""
        def value(name: str) -> Any:
            self.templar.available_variables = variables
            return self.templar.template(variables[name])

        return value

    def _connection(self, variables: Mapping[str, Any]) -> Connection:
        """Raises HypervError for a connection that is none of ours, and AnsibleError for templates that cannot be filled in."""
        value = self._value(variables)
        arguments = context.CLIARGS
        kind = str(value("ansible_connection") if "ansible_connection" in variables else arguments.get("connection") or "ssh")
        plugin = connection_loader.get(kind, PlayContext())
        if plugin is None:
            raise HypervError(f"The connection plugin {kind!r} was not found.", error_code="connection_not_supported")
        set_options(plugin, list(variables), value, {"remote_user": arguments.get("remote_user")})
        return describe(plugin._load_name, plugin.get_option, kerberos_available())

    # -- asking ----------------------------------------------------------------------------------------------------------

    def _answers(self, variables: Mapping[str, Mapping[str, Any]], key: str, cache: bool) -> dict[str, dict[str, Any]]:
        """What is known of each host: out of the cache, or asked now. Hosts that did not answer are not kept, so they are asked again."""
        use = bool(self.get_option("cache"))
        known: Mapping[str, Any] = self._cache.get(key, {}) if use and cache else {}
        known = {name: known[name] for name in variables if name in known}
        asked = self._ask({name: values for name, values in variables.items() if name not in known})
        answers = {name: {**known, **asked}[name] for name in variables if name in known or name in asked}
        if use and asked:
            self._cache[key] = answers
        return answers

    def _ask(self, variables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        connections: dict[str, Connection] = {}
        for name, values in variables.items():
            try:
                connections[name] = self._connection(values)
            except HypervError as error:
                self._complain(name, error)
            except AnsibleError as error:
                self._complain(name, HypervError(str(error), error_code="connection_option"))
        gather = frozenset(self.get_option("gather"))

        def read(reader: CimReader, clock: Clock) -> dict[str, Any]:
            facts = facts_of.read_host(reader, clock, gather)
            return {"host": host_result(facts), "vms": [vm_result(facts, machine, gather) for machine in facts.machines]}

        found: dict[str, dict[str, Any]] = {}
        for name, answer in read_fleet(connections, read, SystemClock(), self.get_option("workers")).items():
            if isinstance(answer, HypervError):
                self._complain(name, answer, connections[name].secrets)
                continue
            found[name] = answer
            if not answer["vms"]:
                self.display.warning(f"{name}: {NOTHING_VISIBLE}")
        return found

    def _complain(self, name: str, error: HypervError, secrets: tuple[str, ...] = ()) -> None:
        text = " ".join(filter(None, (f"{name} gave no answer ({error.error_code}): {error.message}", error.hint)))
        text = shown(str(remove_values(text, set(secrets))))
        if self.get_option("unreachable") == "fail":
            raise AnsibleParserError(text)
        self.display.warning(text)

    # -- who is protected ------------------------------------------------------------------------------------------------

    def _policies(self, variables: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, tuple[str, str | None]]:
        """GUID to protection and policy, from the variables of the role C(backup) that the Hyper-V host has."""
        if "backup_vms" not in variables:
            return {}
        value = self._value(variables)
        name = variables.get("inventory_hostname")
        try:
            entries = value("backup_vms")
            default = str(value("backup_default_policy")) if "backup_default_policy" in variables else DEFAULT
        except AnsibleError as error:
            self.display.warning(shown(f"{name}: the policies are not known: {error}"))
            return {}
        named = variables.get("backup_policies")
        policies = {str(policy): {"destination": ANY_DESTINATION} for policy in (named if isinstance(named, Mapping) else ())}
        plan = backup_plan(answer["vms"], entries, policies, default, {"destination": ANY_DESTINATION})
        for problem in plan["problems"]:
            self.display.warning(shown(f"{name}: the policies are not known: {problem}"))
        if plan["problems"]:
            return {}
        told: dict[str, tuple[str, str | None]] = {}
        for task in plan["tasks"]:
            told |= {vm["vm_id"]: ("protected", task["policy"]) for vm in task["vms"]}
        told |= {vm["vm_id"]: ("left_out", None) for vm in plan["left_out"]}
        return told | {vm["vm_id"]: ("unprotected", None) for vm in plan["unprotected"]}

    # -- filling ---------------------------------------------------------------------------------------------------------

    def _fill(self, answers: Mapping[str, Mapping[str, Any]], policies: Mapping[str, Mapping[str, tuple[str, str | None]]]) -> None:
        found = {_listed(name, answer["host"], vm): vm for name, answer in answers.items() for vm in answer["vms"]}
        if not self.get_option("replicas"):
            found = {listed: vm for listed, vm in found.items() if not listed.role}
        kept = without_doubles(found)
        told = {listed: {} if listed.role else policies[listed.host] for listed in kept}
        variables = {listed: _variables_of(listed, found[listed], told[listed].get(listed.vm_id)) for listed in kept}
        groups = {listed: [self._group(*parts) for parts in _groups_of(listed, variables[listed])] for listed in kept}
        taken = {*self.inventory.hosts, *self.inventory.groups, self._group("vms"), self._group("replicas"),
                 *(group for several in groups.values() for group in several)}
        names = unique_names(kept, taken)
        everyone = {role: self.inventory.add_group(self._group(role)) for role in ("vms", "replicas")}
        for listed in kept:
            self._add(names[listed], variables[listed], everyone["replicas" if listed.role else "vms"], groups[listed])

    def _group(self, *parts: str) -> str:
        return str(to_safe_group_name(self.get_option("group_prefix") + "_".join(parts)))

    def _add(self, name: str, variables: Mapping[str, Any], everyone: str, groups: list[str]) -> None:
        self.inventory.add_host(name, group=everyone)
        for group in groups:
            self.inventory.add_group(group)
            self.inventory.add_child(group, name)
        for key, value in variables.items():
            self.inventory.set_variable(name, key, wrap_var(value))
        known, strict = self.inventory.get_host(name).get_vars(), self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), known, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), {}, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), {}, name, strict=strict)


def _listed(host: str, told: Mapping[str, Any], vm: Mapping[str, Any]) -> Listed:
    role = vm["replication_mode"] if vm["replication_mode"] in REPLICAS else ""
    return Listed(host, vm["vm_id"], vm["name"], role, told["name"], (vm.get("cluster") or {}).get("owner_node"))


def _variables_of(listed: Listed, vm: Mapping[str, Any], told: tuple[str, str | None] | None) -> dict[str, Any]:
    guest = (vm.get("integration") or {}).get("guest") or {}
    protection, policy = told or (None, None)
    return {
        "hyperv_host": listed.host, "hyperv_vm_id": listed.vm_id, "hyperv_vm_name": listed.name, "hyperv_state": vm["state"],
        "hyperv_generation": vm["generation"], "hyperv_version": vm["version"], "hyperv_notes": vm["notes"],
        "hyperv_os": guest.get("family", "unknown"), "hyperv_os_name": guest.get("os_name"), "hyperv_os_version": guest.get("os_version"),
        "hyperv_guest_fqdn": guest.get("fqdn"), "hyperv_replication_mode": vm["replication_mode"],
        "hyperv_protection": protection, "hyperv_policy": policy, "hyperv_vm": dict(vm)}


def _groups_of(listed: Listed, variables: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The groups of a VM beside that of all, as the parts of their names."""
    if listed.role:
        return
    yield "state", variables["hyperv_state"]
    yield "os", variables["hyperv_os"]
    yield "on", listed.host
    if variables["hyperv_protection"]:
        yield (variables["hyperv_protection"],)
    if variables["hyperv_policy"]:
        yield "policy", variables["hyperv_policy"]
