# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet: every VM of many hosts copied by one ansible-playbook run, and the same run again with nothing to do."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from simulator.soap.counters import Counters

from bench import client, many_hosts
from bench.copies import polls_of
from bench.hosts import Hosts, Wish
from bench.many_hosts import FLOOR, FORKS, Round
from bench.tables import Table

COPY = "agentless.hyperv.hyperv_vss_copy"
SPEED = 60.0
"""Simulated seconds in one of ours: how long a host copies is not what is measured."""


@dataclass(frozen=True)
class Turn:
    """One run over the fleet: what it cost the controller, and what all hosts together answered."""

    title: str
    round: Round
    used: Counters


def measure(hosts: int, machines: int, collections: Path) -> str:
    """The section of the report."""
    task = {"name": COPY, COPY: {"names": ["all"], "destination": "E:\\Backup", "max_age": "20h"}}
    floor = {"name": FLOOR, FLOOR: {"msg": "{{ inventory_hostname }}"}}
    with TemporaryDirectory(prefix="bench-") as folder, Hosts(Wish(hosts, machines, tiny=True, speed=SPEED)) as fleet:
        for port in fleet.ports.values():
            client.record(port, ("state",))  # a host makes its tables at the first question
        turns = []
        for title in ("one copy of each VM", "nothing to do"):
            before = {name: fleet.counters(name) for name in fleet.ports}
            ran = many_hosts.play(Path(folder), dict(fleet.ports), collections, [floor, task], title.replace(" ", "-"))
            turns.append(Turn(title, ran, _sum(fleet.counters(name).since(before[name]) for name in fleet.ports)))
    return _report(hosts, machines, turns)


def _sum(counted: Iterable[Counters]) -> Counters:
    total = Counters()
    for one in counted:
        total.requests += one.requests
        total.bytes_in += one.bytes_in
        total.bytes_out += one.bytes_out
        for name, number in one.by_operation.items():
            total.by_operation[name] = total.by_operation.get(name, 0) + number
    return total


def _report(hosts: int, machines: int, turns: list[Turn]) -> str:
    table = Table(("run", "requests per host", "+ pages", "+ polls", "through the lane, KB per host", "controller CPU, ms per host",
                   "wall, s", "peak memory, MB"))
    for turn in turns:
        operations = turn.used.by_operation
        pages, polls = operations.get("Pull", 0), polls_of(operations)
        cost = turn.round.tasks[COPY]
        table.add(turn.title, (turn.used.requests - pages - polls) / hosts, pages / hosts, polls / hosts,
                  (turn.used.bytes_in + turn.used.bytes_out) / hosts / 1024, 1000 * cost.cpu / hosts, cost.wall, turn.round.memory / 2**20)
    floor = 1000 * turns[-1].round.tasks[FLOOR].cpu / hosts
    return f"""## A fleet: {hosts} hosts with {machines} VMs each, forks {FORKS}

One ansible-playbook run copies every VM of every host, a second one finds all copies there (`max_age`). The disks are tiny and the time
of the hosts runs {SPEED:.0f} times as fast, so that what remains is the cost of ours; `debug` costs {floor:.0f} ms of CPU per host in
the same run.

{table.markdown()}
Nothing to do costs a host the same requests however many VMs it has. A copy costs each further VM of a host its own task with its
files and its manifest, and no further shadow copy.
"""
