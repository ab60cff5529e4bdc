# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs a task means, and what it should be told about the host."""
from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import machines
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts

ALL = "all"


def means_all(names: Sequence[str] | None) -> bool:
    """True for no names, and for the one word ``all``."""
    return names is None or [name.strip().lower() for name in names] == [ALL]


def matching(found: Sequence[Machine], wanted: str) -> tuple[Machine, ...]:
    """The VMs that one entry of ``names`` means: one GUID, or every VM of that name."""
    guid = as_guid(wanted)
    by_id = tuple(machine for machine in found if machine.vm_id == guid)
    return by_id or tuple(machine for machine in found if machine.name.casefold() == wanted.casefold())


def by_names(found: Sequence[Machine], names: Sequence[str] | None) -> tuple[tuple[Machine, ...], tuple[str, ...]]:
    """The VMs of a list of names, each once, and the entries that match none."""
    if means_all(names):
        return tuple(found), ()
    chosen: dict[str, Machine] = {}
    missing = []
    for wanted in names or ():
        hits = matching(found, wanted)
        if not hits:
            missing.append(wanted)
        chosen.update({machine.vm_id: machine for machine in hits})
    return tuple(chosen.values()), tuple(dict.fromkeys(missing))


def warn_about_host(call: Call, facts: HostFacts) -> None:
    """Warnings that concern every task: clocks apart, nothing visible, VMs that went away, a cluster that refused."""
    if facts.system.skew_matters:
        seconds = facts.system.clock_skew.total_seconds()
        call.warn(f"The clock of {facts.system.name} is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the controller's.")
    if not facts.machines:
        call.warn(machines.NOTHING_VISIBLE)
    for machine in facts.vanished:
        call.warn(f"The virtual machine {machine.vm_id} went away while the facts were read.")
    warn_about_cluster(call, facts)


def warn_about_cluster(call: Call, facts: HostFacts) -> None:
    """A warning when the host is in a cluster that could not be asked."""
    if facts.cluster is not None and facts.cluster.problem:
        call.warn(f"The failover cluster of {facts.system.name} could not be asked: {facts.cluster.problem}")
