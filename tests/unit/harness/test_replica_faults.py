# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replication through the fault harness: the server, the relation, its end; faults fall on the host of the task, or on its peer.

The contract: a success is true on both hosts; there is never a second relation; and after the next run both hosts are as asked.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_replica, hyperv_replica_failover, hyperv_replica_server
from simulator.hyperv.spec import HyperVSettings, ReplicatedSpec
from simulator.spec import HostSpec
from support.fault_harness import FAULTS, Fault, NextRun, Operation, Recordings, Seen, check, validated
from unit.modules.replica_pair import SERVER as READY
from unit.modules.replica_pair import SQL, spec, vm

QUICK = validated(hyperv_replica, name="sql01", server="hv02.example.test", peer="hv02", frequency=30)


# -- the server ----------------------------------------------------------------------------------------------------------


def bare() -> HostSpec:
    return spec("HV01", hyperv=HyperVSettings(), firewall_rules=())


def server_is_true(seen: Seen) -> Iterator[str]:
    server = seen.host.hyperv.replica.server
    if seen.ending.succeeded and not (server.settings.enabled and server.operational and list(server.entries) == ["*.example.test"]
                                      and seen.host.firewall.admits(8080)):
        yield f"success, and the server is {server.settings} for {list(server.entries)}"
    if len(seen.host.firewall.named("agentless.hyperv replica listener TCP 8080")) > 1:
        yield "two rules of ours"


SERVER = Operation(
    "a replica server", bare, hyperv_replica_server.run,
    validated(hyperv_replica_server, authentication="kerberos", http_port=8080, monitoring_start="18:30",
              authorization=[{"primary": "*.example.test", "storage": "D:\\Replica"}]),
    clean=server_is_true, after=server_is_true, healed=server_is_true)


# -- the relation --------------------------------------------------------------------------------------------------------


def one() -> HostSpec:
    return spec("HV01", vm("sql01", SQL))


def other() -> tuple[HostSpec, ...]:
    return (spec("HV02"),)


def relations(seen: Seen) -> tuple[list[int], list[int]]:
    found = []
    for name in ("HV01", "HV02"):
        machine = seen.others[name].hyperv.machines.get(SQL)
        found.append([] if machine is None else [relation.state for relation in machine.relations])
    return found[0], found[1]


def replicates(seen: Seen) -> Iterator[str]:
    here, there = relations(seen)
    if seen.ending.succeeded and (here, there) != ([3], [3]):
        yield f"success, and the relations are {here} and {there}"
    if len(here) > 1 or len(there) > 1:
        yield f"a second relation: {here} and {there}"


CREATION = Operation("a new replica", one, hyperv_replica.run, QUICK, clean=replicates, after=replicates, healed=replicates, peers=other)
FROM_PEER = Operation("a new replica, peer", one, hyperv_replica.run, QUICK, clean=replicates, after=replicates, healed=replicates,
                      peers=other, faulty="HV02")


# -- failover: the task runs on HV02, which has the replica ---------------------------------------------------------------


def replica_host() -> HostSpec:
    return spec("HV02")


def primary_host() -> tuple[HostSpec, ...]:
    sends = replace(READY, replicated=(ReplicatedSpec("sql01", "hv02.example.test", interval=30, history=2),))
    return (spec("HV01", vm("sql01", SQL), server=sends),)


def turned(seen: Seen) -> Iterator[str]:
    source, target = (seen.others[name].hyperv.machines[SQL] for name in ("HV01", "HV02"))
    if source.state == "running" and target.state == "running":
        yield "the machine runs twice"
    if seen.ending.succeeded:
        found = (source.replication_mode, source.state, target.replication_mode, target.state, *relations(seen))
        if found != (2, "off", 1, "running", [3], [3]):
            yield f"success, and source and target are {found}"


TURN = validated(hyperv_replica_failover, action="planned", name="sql01", peer="hv01", shutdown="turn_off")
PLANNED = Operation("a planned failover", replica_host, hyperv_replica_failover.run, TURN, clean=turned, after=turned, healed=turned,
                    peers=primary_host)
PLANNED_PEER = replace(PLANNED, name="a planned failover, primary", faulty="HV01")


def after_drill(seen: Seen) -> Iterator[str]:
    machines = seen.host.hyperv.machines
    if relations(seen)[0] != [3]:
        yield f"the primary is in the states {relations(seen)[0]}"
    if seen.ending.succeeded and set(machines) != {SQL}:
        yield f"success, and these are there: {[one.name for one in machines.values()]}"
    if seen.ending.succeeded and "agentless.hyperv" in machines[SQL].notes:
        yield f"success, and the replica says {machines[SQL].notes!r}"
    for one in machines.values():
        if one.replication_mode == 3 and any(nic.switch for nic in one.spec.nics):
            yield "the test machine has a network"


DRILL = Operation(
    "a test failover", replica_host, hyperv_replica_failover.run, validated(hyperv_replica_failover, action="test", name="sql01"),
    clean=after_drill, after=after_drill, healed=after_drill, peers=primary_host, next_run=NextRun(
        hyperv_replica_failover.run, validated(hyperv_replica_failover, action="test", name="sql01"), pause=120))


# -- the end: the task runs on HV01 again --------------------------------------------------------------------------------


def ended(seen: Seen) -> Iterator[str]:
    if seen.host.hyperv.machines[SQL].state != "running":
        yield "the primary does not run any more"
    if seen.ending.succeeded and any(relations(seen)):
        yield f"success, and relations are left: {relations(seen)}"
    if seen.ending.succeeded and SQL in seen.others["HV02"].hyperv.machines:
        yield "success, and the replica is still there"


END = Operation(
    "the end of a replica", lambda: primary_host()[0], hyperv_replica.run,
    validated(hyperv_replica, name="sql01", state="absent", peer="hv02", remove_replica_vm=True), clean=ended, after=ended, healed=ended,
    peers=lambda: (replica_host(),))
END_PEER = replace(END, name="the end of a replica, peer", faulty="HV02")
SEVERE = tuple(fault for fault in FAULTS if fault.thorough or fault.kill or fault.forever)
"""Those that most of the others come to."""
TRIED = [*((made, fault) for made in (SERVER, CREATION, PLANNED, DRILL, END) for fault in FAULTS),
         *((made, fault) for made in (FROM_PEER, PLANNED_PEER, END_PEER) for fault in SEVERE)]


@pytest.fixture(scope="module")
def recorded() -> Recordings:
    return Recordings({made.name: made for made, _fault in TRIED})


@pytest.mark.parametrize(("made", "fault"), TRIED, ids=lambda value: value.name.replace(" ", "_"))
def test_replication(recorded: Recordings, made: Operation, fault: Fault) -> None:
    assert check(made, recorded[made.name], fault, most=1) > 0
