# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A night with nothing to do, on many hosts: the collection, and beside it one PowerShell task for each VM through ansible's own winrm.

Both ask the same simulated hosts. The peer's interpreter answers at once and does nothing (:mod:`bench.powershell`), so its figures are
what carrying the tasks costs alone.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from simulator.soap.counters import Counters

from bench import client, many_hosts
from bench.hosts import Hosts, Wish
from bench.many_hosts import FLOOR, FORKS, Round
from bench.tables import Table, growth, ratio

COPY, PEER = "agentless.hyperv.hyperv_vss_copy", "peer"
DESTINATION = "E:\\Backup"
SPEED = 60.0
_BEND = 1.5
"""How much more a host may cost at the end than at the beginning and still be called the same."""
MODULE = """#!powershell
#AnsibleRequires -CSharpUtil Ansible.Basic
$module = [Ansible.Basic.AnsibleModule]::Create($args, @{ options = @{ name = @{ type = 'str' } } })
$vm = Get-VM -Name $module.Params.name
$module.Result.state = [string]$vm.State
$module.ExitJson()
"""
"""As small as a task for one VM can be. What the stand-in gets is what ansible makes of it: the module with the utilities it needs."""


@dataclass(frozen=True)
class Night:
    """One run over some hosts: what it cost the controller, and what the hosts answered."""

    hosts: int
    round: Round
    used: Counters
    task: str

    def per_host(self, value: float) -> float:
        """A share of one host."""
        return value / self.hosts

    @property
    def cpu(self) -> float:
        """Controller milliseconds per host."""
        return 1000 * self.per_host(self.round.tasks[self.task].cpu)

    @property
    def kilobytes(self) -> float:
        """Both ways, per host."""
        return self.per_host((self.used.bytes_in + self.used.bytes_out) / 1024)


def measure(sizes: Sequence[int], machines: int, peer_hosts: int, collections: Path) -> str:
    """The section of the report. ``sizes``: numbers of hosts, growing; ``peer_hosts``: how many of them the peer is run on."""
    copy = {"name": COPY, COPY: {"names": ["all"], "destination": DESTINATION, "max_age": "20h"}}
    peer = {"name": PEER, PEER: {"name": "{{ item }}"}, "loop": [f"vm{number:04}" for number in range(1, machines + 1)]}
    wish = Wish(max(sizes), machines, tiny=True, speed=SPEED, interpreter=True)
    with TemporaryDirectory(prefix="bench-") as name, Hosts(wish) as hosts:
        folder, first = Path(name), wish.names()[0]
        library = folder / "library"
        library.mkdir()
        (library / "peer.ps1").write_text(MODULE, encoding="utf-8")
        many_hosts.play(folder, {first: hosts.ports[first]}, collections, [copy], "first")
        hosts.plant(first, DESTINATION)
        for port in hosts.ports.values():
            client.record(port, ("state",))  # a host makes its tables at the first question
        nights = [_night(hosts, folder, collections, copy, size) for size in sizes]
        beside = _night(hosts, folder, collections, peer, peer_hosts)
    return _report(nights, next(night for night in nights if night.hosts == peer_hosts), beside, machines)


def _night(hosts: Hosts, folder: Path, collections: Path, task: dict[str, Any], size: int) -> Night:
    ports = dict(list(hosts.ports.items())[:size])
    floor = {"name": FLOOR, FLOOR: {"msg": "{{ inventory_hostname }}"}}
    before = {name: hosts.counters(name) for name in ports}
    ran = many_hosts.play(folder, ports, collections, [floor, task], f"{task['name']}-{size}")
    used = sum_of(hosts.counters(name).since(before[name]) for name in ports)
    return Night(size, ran, used, task["name"])


def sum_of(counted: Iterable[Counters]) -> Counters:
    """All hosts together."""
    total = Counters()
    for one in counted:
        total.requests += one.requests
        total.auth_legs += one.auth_legs
        total.writing += one.writing
        total.bytes_in += one.bytes_in
        total.bytes_out += one.bytes_out
    return total


def _report(nights: Sequence[Night], ours: Night, beside: Night, machines: int) -> str:
    table = Table(("hosts", "run", "requests per host", "KB per host", "controller CPU, ms per host", "CPU, s", "wall, s",
                   "peak memory, MB"))
    for night, title in [*((night, "collection") for night in nights), (beside, "one PowerShell task per VM")]:
        cost = night.round.tasks[night.task]
        table.add(night.hosts, title, night.per_host(night.used.requests), night.kilobytes, night.cpu, cost.cpu, cost.wall,
                  night.round.memory / 2**20)
    compared = Table(("per host", "collection", "one PowerShell task per VM", "ratio"))
    for title, own, theirs in (
            ("requests", ours.per_host(ours.used.requests), beside.per_host(beside.used.requests)),
            ("KB over the network", ours.kilobytes, beside.kilobytes), ("controller CPU, ms", ours.cpu, beside.cpu),
            ("wall, ms", 1000 * ours.per_host(ours.round.tasks[COPY].wall), 1000 * beside.per_host(beside.round.tasks[PEER].wall))):
        compared.add(title, own, theirs, ratio(theirs, own))
    floor = 1000 * ours.per_host(ours.round.tasks[FLOOR].cpu)
    writing = sum(night.used.writing for night in nights)
    return f"""## A night with nothing to do: {machines} VMs a host, forks {FORKS}

Every VM has a verified copy younger than `max_age`. The collection asks each host once, in one task; beside it stands the smallest
possible PowerShell module, run once for each VM in a loop through the winrm connection of ansible-core, on the same simulated hosts. Its
`powershell.exe` is a stand-in that reads the module it is sent and answers at once: starting a real one, and what it then does, come on
top. A `debug` task costs {floor:.0f} ms of CPU per host in the same run. Writing requests that the hosts saw of the collection: {writing}.

{table.markdown()}
{compared.markdown()}
{_linear(nights)}
"""


def _linear(nights: Sequence[Night]) -> str:
    if len(nights) < 2:
        return ""
    sizes = [night.hosts for night in nights]
    cpu = growth(sizes, [night.round.tasks[COPY].cpu for night in nights])
    wall = growth(sizes, [night.round.tasks[COPY].wall for night in nights])
    linear = all(one.bend <= _BEND for one in (cpu, wall)) and nights[-1].cpu <= _BEND * nights[0].cpu
    rates = (f"CPU {1000 * cpu.rate:.0f} ms, wall {1000 * wall.rate:.0f} ms; the last step over the first: "
             f"CPU {cpu.bend:.2f}, wall {wall.bend:.2f}")
    return f"""**Goal**: linear from {sizes[0]} to {sizes[-1]} hosts. Each further host costs
{rates}:
**{'reached' if linear else 'missed'}**. It is one task per host, however many VMs the host has."""
