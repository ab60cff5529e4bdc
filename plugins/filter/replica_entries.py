# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which replications a host has to declare. A function of the inventory and of the facts; names of VMs are only compared."""
from __future__ import annotations

DOCUMENTATION = r"""
name: replica_entries
short_description: Say which replications a host has to declare
version_added: 0.1.0
description:
  - Each entry belongs to the host that has the primary now. Before there is one, it is the first of the pair.
  - Everything that is wrong with the entries is listed, so that nothing is begun with half of them.
author:
  - The agentless.hyperv authors (@agentless)
positional: _input, host
options:
  _input:
    description:
      - Dictionaries with C(name), C(pair) of two inventory names, and options of M(agentless.hyperv.hyperv_replica).
    type: list
    elements: dict
    required: true
  host:
    description: The inventory name of the host.
    type: str
    required: true
  vms:
    description: Its virtual machines, as RV(agentless.hyperv.hyperv_vm_info#module:vms) with V(replication).
    type: list
    elements: dict
    default: []
  defaults:
    description: Options that an entry does not have itself.
    type: dict
    default: {}
  known:
    description: The names of the inventory. A host of a pair that is none of these is wrong. Any is right when it is empty.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Choose what this host replicates
  ansible.builtin.set_fact:
    chosen: "{{ wanted | agentless.hyperv.replica_entries(inventory_hostname, vms=facts.vms, defaults={'frequency': 300}) }}"
  vars:
    wanted:
      - {name: sql01, pair: [hv01, hv02], frequency: 30}
      - {name: web01, pair: [hv02, hv01]}
    facts: {vms: []}
"""

RETURN = r"""
_value:
  description: What the entries come to.
  type: dict
  contains:
    problems: {description: What is wrong with the entries. With problems nothing is chosen., type: list, elements: str, returned: always}
    mine:
      description: The entries of this host, with O(defaults), and C(peer), the other host of the pair.
      type: list
      elements: dict
      returned: always
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

OPTIONS = frozenset({
    "allow_reseed", "allow_resync", "app_consistent_interval", "authentication", "auto_resync", "auto_resync_end", "auto_resync_start",
    "bypass_proxy", "certificate_thumbprint", "compression", "excluded_disks", "frequency", "included_disks", "initial_copy",
    "initial_copy_at", "media_folder", "port", "recovery_history", "replicate_kvp", "server"})
"""Options of hyperv_replica that the role hands on: what makes a replication or changes one, on the host of its primary."""


def _problems(number: int, entry: Any, known: Sequence[str]) -> Iterator[str]:
    where = f"replica_vms, entry {number}"
    if not isinstance(entry, Mapping):
        yield f"{where}: it must be a dictionary."
        return
    if not isinstance(entry.get("name"), str) or not entry["name"].strip():
        yield f"{where}: name must be the name of a virtual machine."
    unknown = sorted(str(key) for key in entry if key not in OPTIONS | {"name", "pair"})
    if unknown:
        yield f"{where}: {', '.join(unknown)} is no option of a replication."
    pair = entry.get("pair")
    if not isinstance(pair, (list, tuple)) or len(pair) != 2 or len({str(host) for host in pair}) != 2:
        yield f"{where}: pair must be the inventory names of two hosts."
    elif known:
        yield from (f"{where}: {host} is no host of the inventory." for host in pair if host not in known)


def _modes(vms: Any) -> dict[str, str]:
    """Replication mode by name. Of several machines of one name a primary counts, so that hyperv_replica refuses the name."""
    modes: dict[str, str] = {}
    for vm in vms or ():
        name, mode = str(vm["name"]).casefold(), str((vm.get("replication") or {}).get("mode") or "none")
        modes[name] = "primary" if "primary" in (mode, modes.get(name)) else mode
    return modes


def replica_entries(entries: Any, host: str, vms: Any = (), defaults: Any = None, known: Any = ()) -> dict[str, Any]:
    """The filter. Raises AnsibleFilterError for entries that are no list."""
    if not isinstance(entries, (list, tuple)) or not isinstance(defaults or {}, Mapping):
        raise AnsibleFilterError("replica_entries needs a list of entries and a dictionary of defaults.")
    problems = [text for number, entry in enumerate(entries, 1) for text in _problems(number, entry, known or ())]
    unknown = sorted(str(key) for key in defaults or {} if key not in OPTIONS)
    problems += [f"replica_defaults: {key} is no option of a replication." for key in unknown]
    names = [entry["name"].casefold() for entry in entries if isinstance(entry, Mapping) and isinstance(entry.get("name"), str)]
    problems += [f"replica_vms: {name} has several entries." for name in sorted({name for name in names if names.count(name) > 1})]
    if problems:
        return {"problems": problems, "mine": []}
    modes = _modes(vms)
    mine = []
    for entry in entries:
        mode, pair = modes.get(entry["name"].casefold()), [str(one) for one in entry["pair"]]
        if host in pair and (mode == "primary" or (mode == "none" and pair[0] == host)):
            mine.append({**(defaults or {}), **entry, "peer": pair[1 - pair.index(host)]})
    return {"problems": [], "mine": mine}


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"replica_entries": replica_entries}
