# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_replica_info``: every relation of a host, with what its peer knows of it; read only (operations 7.5)."""
from __future__ import annotations

from datetime import timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks, replica_settings
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_choice,
    replica_ending,
    replica_facts,
    replica_result,
    selection,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_choice import Choice
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_facts import Side, Statistics
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_states import NONE
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vm_result import iso
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import replica_lag, replica_marks
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import parse_age
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.replica_lag import Standing

STATISTICS = ("auto", "all", "none")
_UNWELL = ("warning", "critical")


def run(call: Call) -> dict[str, Any]:
    """The facts; six requests a side, one more for disks, and one for each relation whose statistics are read. Raises HypervError."""
    test_interval = _test_interval(call.params["test_interval"])
    side = replica_facts.read(call.reader, call.clock)
    peer = call.open_peer(call.params["peer"]) if call.params["peer"] else None
    other = replica_facts.read(peer.reader, call.clock) if peer is not None else None
    choice = _choose(side, call.params)
    left_out = _left_out(call.reader, side, choice)
    entries = []
    for machine in choice.machines:
        entry = _entry(call, machine, side, other, None if peer is None else peer.reader, test_interval)
        entries.append({**entry, "disks_left_out": left_out.get(machine.vm_id, [])})
    related = [one for one in entries if one["state"] != NONE]
    return {
        "changed": False, "replicas": entries, "missing": [wanted for wanted, _unused in choice.refused],
        "leftovers": [one.as_result() for one in _leftovers(side)],
        "summary": {"relations": len(related), "healthy": sum(1 for one in related if not one["problems"]),
                    "largest_lag": max((one["lag"] for one in related if one["lag"] is not None), default=None),
                    "tests_overdue": sum(1 for one in related if one["test_overdue"])},
    }


def _leftovers(side: Side) -> list[Leftover]:
    """What runs of ours left on the host, by its own marks: test machines, kept or of runs that died, and replicas that were to be
    deleted when their relation ended."""
    found = []
    for machine in side.machines:
        notes = machine.settings.notes if machine.settings is not None else None
        if machine.replication_mode == "test_replica" and replica_marks.is_test(notes, machine.vm_id):
            found.append(Leftover("test_machine", machine.vm_id, machine.name, "hyperv_replica_failover with action: end_test"))
        elif machine.replication_mode == "none" and replica_ending.is_marked(side, machine):
            found.append(Leftover("former_replica", machine.vm_id, machine.name,
                                  "hyperv_replica with state: absent and remove_replica_vm on this host; nothing, if it was put to use"))
    return found


def _test_interval(text: str | None) -> timedelta | None:
    try:
        return parse_age(text) if text else None
    except ValueError as error:
        raise HypervError(f"test_interval: {error}", error_code="invalid_option") from error


def _choose(side: Side, params: Any) -> Choice:
    """Those with a relation, and their test machines; a named machine without one is shown, too."""
    if params["name"] or params["vm_id"] or not selection.means_all(params["names"]):
        return checkpoint_choice.choose_among(side.machines, params)
    related = tuple(one for one in side.machines if side.state(one.vm_id) != NONE or one.replication_mode != "none")
    return Choice(related, (), single=False)


def _left_out(reader: CimReader, side: Side, choice: Choice) -> dict[str, list[str]]:
    """The virtual disks of primaries that are not replicated: those that somebody left out, and those that came later; one request."""
    primaries = {one.vm_id: replica_settings.of_machine(side.settings, one.vm_id) for one in choice.machines
                 if one.replication_mode == "primary"}
    known = disks.read_virtual_disks(reader) if any(primaries.values()) else ()
    return {vm_id: list(replica_settings.left_out(row, [disk for disk in known if disk.owner_id == vm_id]))
            for vm_id, row in primaries.items() if row is not None}


def _entry(call: Call, machine: Machine, side: Side, other: Side | None, peer: CimReader | None,
           test_interval: timedelta | None) -> dict[str, Any]:
    """One machine, both sides put together where they are two ends of one relation."""
    vm_id = machine.vm_id
    partner = other if other is not None and side.leads_to(other, vm_id) and other.leads_to(side, vm_id) else None
    here, there = replica_result.entry(side, machine), _shown(partner, vm_id)
    found = _statistics(call, call.reader, side, vm_id, test_interval)
    elsewhere = None if partner is None or peer is None else _statistics(call, peer, partner, vm_id, test_interval)
    tests = [one.last_test for one in (found, elsewhere) if one is not None and one.last_test is not None]
    last_test = max(tests, default=None)
    # what arrived is known best where it arrives
    lags = [entry.get("lag") for entry in ((there, here) if machine.replication_mode == "primary" else (here, there)) if entry is not None]
    lag = next((one for one in lags if one is not None), None)
    interval = here["settings"].get("frequency")
    known = test_interval if found is not None or elsewhere is not None else None
    words = replica_lag.problems(Standing(here["state"], _worst(here, there), lag, interval, last_test), side.system.local_time,
                                 cycles=call.params["cycles"], test_interval=known) if here["state"] != NONE else ()
    if other is not None and partner is None and other.state(vm_id) != NONE:
        words = (*words, "other_relation")
    return {
        "vm": checkpoint_choice.label(machine), "power": machine.state, **here, "lag": lag, "interval": interval,
        "statistics": None if found is None else replica_result.statistics_result(found),
        "health_issues": list(dict.fromkeys((*(found.issues if found else ()), *(elsewhere.issues if elsewhere else ())))),
        "recovery_points": _points(side, partner, vm_id), "last_test": iso(last_test),
        "test_overdue": "test_overdue" in words if known is not None else None, "problems": list(words),
        "peer": None if other is None else _peer(other, vm_id),
    }


def _shown(side: Side | None, vm_id: str) -> dict[str, Any] | None:
    machine = None if side is None else side.machine(vm_id)
    return None if side is None or machine is None else replica_result.entry(side, machine)


def _peer(other: Side, vm_id: str) -> dict[str, Any]:
    """What the other host has of a machine, whatever relation that belongs to."""
    machine = other.machine(vm_id)
    return {"host": other.name, "power": machine.state if machine else None, **(_shown(other, vm_id) or {"mode": "none", "state": NONE})}


def _worst(here: dict[str, Any], there: dict[str, Any] | None) -> str | None:
    found = [entry["health"] for entry in (here, there) if entry is not None]
    return next((word for word in ("critical", "warning", "ok") if word in found), None)


def _statistics(call: Call, reader: CimReader, side: Side, vm_id: str, test_interval: timedelta | None) -> Statistics | None:
    """By the wish of the task; on its own only for what is not well, or when the age of tests matters."""
    relation = side.relation(vm_id)
    wish = call.params["statistics"]
    if relation is None or wish == "none":
        return None
    if wish == "auto" and test_interval is None and relation.health not in _UNWELL:
        return None
    return replica_facts.read_statistics(reader, vm_id, relation)


def _points(side: Side, other: Side | None, vm_id: str) -> list[dict[str, Any]]:
    """Recovery points are on the side of the replica."""
    found = side.points(vm_id) or (other.points(vm_id) if other is not None else ())
    return [{"id": point.checkpoint_id, "name": point.name, "created": iso(point.created),
             "application_consistent": point.kind == "replica_application_consistent"} for point in found]
