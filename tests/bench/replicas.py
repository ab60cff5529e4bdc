# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replication between two hosts: what declaring, looking and failing over cost, in simulated time."""
from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ModuleArgumentSpecValidator
from ansible_collections.agentless.hyperv.plugins.modules import (
    hyperv_replica,
    hyperv_replica_failover,
    hyperv_replica_info,
    hyperv_replica_server,
)
from simulator.fleet import Fleet
from simulator.hyperv.spec import DiskSpec, HyperVSettings, RelationSpec, VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import VolumeSpec
from support import in_process

from bench import client
from bench.tables import Table

MOST_REQUESTS = 8
NAMES = ("HV01", "HV02")
SERVER = {"authentication": "kerberos", "authorization": [{"primary": "*.example.test", "storage": "D:\\Replica"}]}
_SMALL = 4 * 1024**2


@dataclass(frozen=True)
class Used:
    """Requests and pages of each host, and the simulated seconds."""

    requests: Mapping[str, int]
    pages: Mapping[str, int]
    seconds: float


def measure(machines: int, relations: int) -> str:
    """The section of the report."""
    table = Table(("run", "requests, host of the task", "requests, peer", "+ pages, both", "simulated time, s"))
    with tempfile.TemporaryDirectory(prefix="bench-replicas-") as folder, Fleet(_specs(machines), Path(folder)) as fleet:
        first = _run(fleet, NAMES[0], hyperv_replica_server, SERVER)
        _run(fleet, NAMES[1], hyperv_replica_server, SERVER)
        server = _run(fleet, NAMES[0], hyperv_replica_server, SERVER)
        wanted = {"names": ["all"], "server": "hv02.example.test", "frequency": 30, "peer": "hv02"}
        made = _run(fleet, NAMES[0], hyperv_replica, wanted)
        again = _run(fleet, NAMES[0], hyperv_replica, wanted)
        turned = _run(fleet, NAMES[1], hyperv_replica_failover, {"action": "planned", "names": ["all"], "peer": "hv01",
                                                                 "shutdown": "turn_off"})
    looked = _look(relations)
    for name, used in ((f"`hyperv_replica_server`, the first time: {NAMES[0]}", first), ("`hyperv_replica_server`, again", server),
                       (f"`hyperv_replica` with a peer, {machines} new replications and their first copies", made),
                       (f"the same, {machines} that are as asked", again), (f"`hyperv_replica_info`, {relations} replications", looked),
                       (f"`hyperv_replica_failover`, planned, {machines} VMs one after the other", turned)):
        here = NAMES[1] if used is turned else NAMES[0]
        there = NAMES[0] if used is turned else NAMES[1]
        table.add(name, used.requests[here], used.requests.get(there, 0), sum(used.pages.values()), used.seconds)
    most = max(*server.requests.values(), *again.requests.values(), *looked.requests.values())
    return f"""## Replication

Two hosts, VMs with one small disk each, cycles of 30 s. Polls are part of the figures; the time is that of the simulated hosts, whose jobs
take a second each and whose guests are turned off, not shut down: of a real failover it says nothing but the number of steps.

{table.markdown()}
**Goal**: at most {MOST_REQUESTS} requests a side when there is nothing to do, however many replications there are: {most}:
**{"reached" if most <= MOST_REQUESTS else "missed"}**.

A planned failover costs {sum(turned.requests.values()) / machines:.0f} requests a VM, both hosts together.
"""


def _specs(machines: int) -> list[HostSpec]:
    vms = tuple(VmSpec(f"vm{number:02d}", folder=f"D:\\VMs\\{number}", disks=(DiskSpec(f"D:\\VMs\\{number}.vhdx", size=_SMALL),))
                for number in range(machines))
    return [_host(NAMES[0], vms), _host(NAMES[1], ())]


def _host(name: str, vms: tuple[VmSpec, ...]) -> HostSpec:
    return HostSpec(name, accounts=(in_process.ADMINISTRATOR,), domain="example.test", os_version="2022", vms=vms,
                    volumes=(VolumeSpec("C:"), VolumeSpec("D:")), hyperv=HyperVSettings())


def _look(relations: int) -> Used:
    vms = tuple(VmSpec(f"vm{number:03d}", disks=(), replication_mode=1, relations=(RelationSpec(),)) for number in range(relations))
    with tempfile.TemporaryDirectory(prefix="bench-replicas-") as folder, Fleet([_host(NAMES[0], vms)], Path(folder)) as fleet:
        return _run(fleet, NAMES[0], hyperv_replica_info, {})


def _run(fleet: Fleet, name: str, module: Any, params: Mapping[str, Any]) -> Used:
    """One run; it must succeed."""
    values = ModuleArgumentSpecValidator(module.ARGUMENT_SPEC, **module.RULES).validate(dict(params)).validated_parameters
    with fleet.locked():
        marks = {one: running.host.counters.snapshot() for one, running in fleet.hosts.items()}
        began = fleet.hosts[name].host.clock.now()
    ending = in_process.run(module.run, values, fleet, fleet.hosts[name])
    if not ending.succeeded:
        raise RuntimeError(str(ending))
    with fleet.locked():
        used = {one: client.operations(running.host.counters.since(marks[one]).by_operation) for one, running in fleet.hosts.items()}
        seconds = (fleet.hosts[name].host.clock.now() - began).total_seconds()
    return Used({one: plain for one, (plain, _pages) in used.items()}, {one: pages for one, (_plain, pages) in used.items()}, seconds)
