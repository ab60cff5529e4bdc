# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_replica_info``: every relation of a host, with what its peer knows of it; read only (operations 7.5)."""
from __future__ import annotations

from datetime import timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks, replica_settings
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_choice,
    replica_facts,
    replica_result,
    selection,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_choice import Choice
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_facts import Side, Statistics
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_states import NONE
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vm_result import iso
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import replica_lag
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
    choice = _choose(side, other, call.params)
    left_out = _left_out(call.reader, side, choice)
    entries = []
    for machine in choice.machines:
        entry = _entry(call, machine, side, other, None if peer is None else peer.reader, test_interval)
        entries.append({**entry, "disks_left_out": left_out.get(machine.vm_id, [])})
    result: dict[str, Any] = {
        "changed": False, "replicas": entries, "missing": [wanted for wanted, _unused in choice.refused],
        "summary": {"relations": len(entries), "healthy": sum(1 for one in entries if not one["problems"]),
                    "largest_lag": max((one["lag"] for one in entries if one["lag"] is not None), default=None),
                    "tests_overdue": sum(1 for one in entries if one["test_overdue"])},
    }
    return result


def _test_interval(text: str | None) -> timedelta | None:
    try:
        return parse_age(text) if text else None
    except ValueError as error:
        raise HypervError(f"test_interval: {error}", error_code="invalid_option") from error


def _choose(side: Side, other: Side | None, params: Any) -> Choice:
    """Those with a relation, on either side; a named machine without one is shown, too."""
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
    """One machine, both sides put together."""
    here = replica_result.entry(side, machine)
    there_machine = other.machine(machine.vm_id) if other is not None else None
    there = replica_result.entry(other, there_machine) if other is not None and there_machine is not None else None
    primary_here = machine.replication_mode == "primary"
    found = _statistics(call, call.reader, side, machine, test_interval)
    elsewhere = None
    if other is not None and peer is not None and there_machine is not None:
        elsewhere = _statistics(call, peer, other, there_machine, test_interval)
    tests = [one.last_test for one in (found, elsewhere) if one is not None and one.last_test is not None]
    last_test = max(tests, default=None)
    # what arrived is known best where it arrives
    lags = [entry.get("lag") for entry in ((there, here) if primary_here else (here, there)) if entry is not None]
    lag = next((one for one in lags if one is not None), None)
    interval = here["settings"].get("frequency")
    known = test_interval if found is not None or elsewhere is not None else None
    words = replica_lag.problems(Standing(here["state"], _worst(here, there), lag, interval, last_test), side.system.local_time,
                                 cycles=call.params["cycles"], test_interval=known) if here["state"] != NONE else ()
    return {
        "vm": checkpoint_choice.label(machine), "power": machine.state, **here, "lag": lag, "interval": interval,
        "statistics": None if found is None else replica_result.statistics_result(found),
        "health_issues": list(dict.fromkeys((*(found.issues if found else ()), *(elsewhere.issues if elsewhere else ())))),
        "recovery_points": _points(side, other, machine.vm_id), "last_test": iso(last_test),
        "test_overdue": "test_overdue" in words if known is not None else None, "problems": list(words),
        "peer": None if other is None else {"host": other.name, "power": there_machine.state if there_machine else None,
                                            **(there or {"mode": "none", "state": NONE})},
    }


def _worst(here: dict[str, Any], there: dict[str, Any] | None) -> str | None:
    found = [entry["health"] for entry in (here, there) if entry is not None]
    return next((word for word in ("critical", "warning", "ok") if word in found), None)


def _statistics(call: Call, reader: CimReader, side: Side, machine: Machine, test_interval: timedelta | None) -> Statistics | None:
    """By the wish of the task; on its own only for what is not well, or when the age of tests matters."""
    relation = side.relation(machine.vm_id)
    wish = call.params["statistics"]
    if relation is None or wish == "none":
        return None
    if wish == "auto" and test_interval is None and relation.health not in _UNWELL:
        return None
    return replica_facts.read_statistics(reader, machine.vm_id, relation)


def _points(side: Side, other: Side | None, vm_id: str) -> list[dict[str, Any]]:
    """Recovery points are on the side of the replica."""
    found = side.points(vm_id) or (other.points(vm_id) if other is not None else ())
    return [{"id": point.checkpoint_id, "name": point.name, "created": iso(point.created),
             "application_consistent": point.kind == "replica_application_consistent"} for point in found]
