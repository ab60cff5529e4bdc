# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replication through the fault harness: the server, the relation, its end; faults fall on the host of the task, or on its peer.

The contract: a success is true on both hosts; there is never a second relation; and after the next run both hosts are as asked.
"""
from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_replica, hyperv_replica_server
from simulator.hyperv.spec import HyperVSettings
from simulator.spec import HostSpec
from support.fault_harness import FAULTS, Fault, Operation, Recorded, Seen, check, record, validated
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


@pytest.fixture(scope="module")
def recorded() -> dict[str, Recorded]:
    return {operation.name: record(operation) for operation in (SERVER, CREATION, FROM_PEER)}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("operation", [SERVER, CREATION, FROM_PEER], ids=lambda operation: operation.name)
def test_replication(recorded: dict[str, Recorded], operation: Operation, fault: Fault) -> None:
    assert check(operation, recorded[operation.name], fault, most=1) > 0
