# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host: what ``hyperv_vm_info`` costs as the number of VMs grows, and what each subset of facts costs."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ansible_collections.agentless.hyperv.plugins.module_utils.operations import inventory

from bench import client
from bench.client import Cost
from bench.hosts import Hosts, Wish
from bench.tables import Table, growth, middle

MOST_REQUESTS = 20
HOST = Wish(1, 1).names()[0]


@dataclass(frozen=True)
class Point:
    """One size of a host. ``pages`` are the messages of enumerations after the first one; ``parts`` the further calls of a method."""

    machines: int
    requests: int
    pages: int
    parts: int
    legs: int
    size: int
    cost: Cost


def measure(sizes: Sequence[int], rounds: int, subset_machines: int) -> str:
    """The section of the report."""
    points = [_point(machines, rounds) for machines in sizes]
    return "\n".join((_growth(points, rounds), _subsets(subset_machines)))


def _point(machines: int, rounds: int) -> Point:
    with Hosts(Wish(1, machines)) as hosts:
        port = hosts.ports[HOST]
        client.record(port)  # the host makes its tables
        before = hosts.counters(HOST)
        costs = [client.apart(client.measure, port, inventory.DEFAULT_SUBSETS) for _unused in range(rounds)]
        used = hosts.counters(HOST).since(before)
    plain, pages = client.operations(used.by_operation)
    summaries = sum(number for name, number in used.by_operation.items() if name.endswith("GetSummaryInformation"))
    return Point(machines, (plain - summaries) // rounds + 1, pages // rounds, summaries // rounds - 1, used.auth_legs // rounds,
                 used.bytes_out // rounds, Cost(middle(cost.wall for cost in costs), middle(cost.cpu for cost in costs),
                                                round(middle(cost.memory for cost in costs))))


def _growth(points: Sequence[Point], rounds: int) -> str:
    table = Table(("VMs", "requests", "+ pages", "+ parts", "authentication legs", "answers, KB", "client CPU, s", "peak memory, MB",
                   "wall, s"))
    for one in points:
        table.add(one.machines, one.requests, one.pages, one.parts, one.legs, one.size / 1024, one.cost.cpu, one.cost.memory / 2**20,
                  one.cost.wall)
    sizes, bytes_ = [one.machines for one in points], [one.size for one in points]
    lines = Table(("cost", "per VM (fit)", "fixed (fit)", *(f"per VM, {before.machines:,} to {after.machines:,}" for before, after in
                                                            pairwise(points)), "last step over first"))
    for name, costs in (("answers, KB", [size / 1024 for size in bytes_]), ("client CPU, ms", [1000 * one.cost.cpu for one in points]),
                        ("peak memory, KB", [one.cost.memory / 1024 for one in points])):
        line = growth(sizes, costs)
        lines.add(name, line.rate, line.fixed, *line.steps, line.bend)
    by_size = growth([size / 2**20 for size in bytes_], [1000 * one.cost.cpu for one in points])
    square = growth(sizes, [float(size * size) for size in sizes])
    most = max(one.requests for one in points)
    same = "independent of the number of VMs" if len({one.requests for one in points}) == 1 else "NOT independent of the number of VMs"
    return f"""## `hyperv_vm_info`, one host, all default facts

A request is one WS-Man message answered. Pages are the Pull messages of enumerations, whose size the host chooses (the simulated host
draws it); parts are further calls of `GetSummaryInformation`, whose answer has no pages and must fit an envelope of 500 KB. Client CPU
and the growth of its memory are those of a fresh process, medians of {rounds}; wall includes the work of the simulated host.

{table.markdown()}
**Goal**: at most {MOST_REQUESTS} requests and the pages, independent of the number of VMs: {most} requests, {same}:
**{"reached" if most <= MOST_REQUESTS and same.startswith("independent") else "missed"}**.

{lines.markdown()}
**Goal**: growth linear in the size of the answers. The CPU of each further MB of answers is {by_size.steps[0]:.0f} ms in the first step and
{by_size.steps[-1]:.0f} ms in the last, a factor of {by_size.bend:.2f}; quadratic work would show as a factor of {square.bend:.0f}:
**{"reached" if by_size.bend < square.bend**0.3 else "missed"}**.
"""


def _subsets(machines: int) -> str:
    table = Table(("gather", "requests", "+ pages", "+ parts", "answers, KB"))
    with Hosts(Wish(1, machines)) as hosts:
        lane = client.lane_to(hosts.ports[HOST])
        client.information(lane)
        for name, subsets in (*((name, (name,)) for name in inventory.SUBSETS), ("(default)", inventory.DEFAULT_SUBSETS)):
            before = hosts.counters(HOST)
            client.information(lane, subsets)
            used = hosts.counters(HOST).since(before)
            plain, pages = client.operations(used.by_operation)
            chains = sum(number for operation, number in used.by_operation.items() if "VirtualHardDisk" in operation)
            table.add(f"`{name}`", plain - chains, pages, chains, used.bytes_out / 1024)
        lane.close()
    return f"""### By subset, {machines} VMs

The requests that tell host and VMs apart (4) are part of each row; `chains` asks two questions for each file, shown as parts. One
connection serves them all, with the two authentication legs of its log-on.

{table.markdown()}"""
