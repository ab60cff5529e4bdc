# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_checkpoint`` and ``hyperv_checkpoint_info``: requests of nothing to do, of creations, of a large tree, and of removals."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ansible_collections.agentless.hyperv.plugins.modules import hyperv_checkpoint, hyperv_checkpoint_info
from simulator.fleet import Fleet
from simulator.hyperv.spec import MIB, CheckpointSpec, DiskSpec, VmSpec
from simulator.soap.counters import Counters
from simulator.soap.rules import lost_before
from support import in_process

from bench.hosts import host
from bench.tables import Table

NOTHING, CREATION = 6, 15
"""Goals: requests of a task with nothing to do, and of a creation without its polls."""
MACHINES, EACH, REMOVED = 100, 5, 20
_EVERYTHING = list(hyperv_checkpoint_info.ARGUMENT_SPEC["gather"]["choices"])


@dataclass(frozen=True)
class Case:
    """One run, and what it cost. ``polls``: looks at jobs and merges that are not done yet, and at how far they are."""

    title: str
    polls: int
    used: Counters

    @property
    def pages(self) -> int:
        """Pull messages."""
        return self.used.by_operation.get("Pull", 0)

    @property
    def requests(self) -> int:
        """Without pages and polls."""
        return self.used.requests - self.pages - self.polls


class _Watch:
    """Counts what depends on how long a host takes: looks at jobs, summaries beyond the first, late ends of programs."""

    def __init__(self, fleet: Fleet) -> None:
        self._host = fleet.hosts["HV"].host
        self.looks = 0
        self._host.rules.add(lost_before(), "Get", when=self._count)
        self._before = self._host.counters.snapshot()

    def _count(self, view: Any) -> bool:
        self.looks += "ConcreteJob" in view.document
        return False

    def case(self, title: str) -> Case:
        self._host.rules.clear()
        used = self._host.counters.since(self._before)
        operations = used.by_operation
        late = operations.get("Shell Receive", 0) - operations.get("Shell Command", 0)
        summaries = max(0, operations.get("Invoke Msvm_VirtualSystemManagementService.GetSummaryInformation", 0) - 1)
        return Case(title, self.looks + late + summaries, used)


def measure() -> str:
    """The section of the report. The hosts run in this process, in simulated time: only counts matter here."""
    cases = [*_creations(), *_large_tree(), _removal()]
    return _report({case.title: case for case in cases})


def _machine(number: int, checkpoints: int, **values: Any) -> VmSpec:
    name = f"vm{number:03}"
    return VmSpec(name=name, folder=f"D:\\VMs\\{name}", disks=(DiskSpec(size=4 * MIB),), memory_mb=8, checkpoints=tuple(
        _ours(number, level) for level in range(checkpoints)), **values)


def _ours(number: int, level: int) -> CheckpointSpec:
    guid = f"0A1B2C3D-0000-4000-8000-{number:06d}{level:06d}"
    return CheckpointSpec(f"k{level}", f"k{level}", parent=f"k{level - 1}" if level else None, checkpoint_id=guid,
                          notes=f"[agentless.hyperv checkpoint={guid} run=old-1 kind=production_only achieved=application]")


def _run(fleet: Fleet, title: str, module: Any, changes: Mapping[str, Any], *, changed: bool) -> Case:
    params = {name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()}
    with fleet.locked():
        watch = _Watch(fleet)
    ending = in_process.run(module.run, {**params, **changes}, fleet, fleet.hosts["HV"])
    if not ending.succeeded or ending.result is None or ending.result["changed"] is not changed:
        raise RuntimeError(f"{title}: {ending}")
    with fleet.locked():
        return watch.case(title)


def _creations() -> list[Case]:
    """Machines with odd numbers have another policy than the kind needs."""
    machines = tuple(_machine(number, 0, policy="standard" if number % 2 else "production_only") for number in range(26))
    make: dict[str, Any] = {"checkpoint_name": "before"}
    with TemporaryDirectory(prefix="bench-") as folder, Fleet((host("HV", machines),), Path(folder)) as fleet:
        def made(title: str, numbers: range, *, changed: bool = True) -> Case:
            names = [f"vm{number:03}" for number in numbers]
            return _run(fleet, title, hyperv_checkpoint, {**make, "names": names}, changed=changed)

        made("first run on a host", range(1))
        return [made("one VM, its policy is that of the kind", range(2, 3)), made("one VM, with another policy", range(1, 2)),
                made("ten VMs, their policy is that of the kind", range(4, 24, 2)), made("ten VMs, with another policy", range(3, 23, 2)),
                made("nothing to do, ten VMs", range(3, 23, 2), changed=False)]


def _large_tree() -> list[Case]:
    machines = tuple(_machine(number, EACH) for number in range(MACHINES))
    with TemporaryDirectory(prefix="bench-") as folder, Fleet((host("HV", machines),), Path(folder)) as fleet:
        return [_run(fleet, "info", hyperv_checkpoint_info, {}, changed=False),
                _run(fleet, "info of one VM, with all that can be gathered", hyperv_checkpoint_info,
                     {"name": "vm000", "gather": _EVERYTHING}, changed=False)]


def _removal() -> Case:
    machines = tuple(_machine(number, EACH) for number in range(REMOVED))
    with TemporaryDirectory(prefix="bench-") as folder, Fleet((host("HV", machines),), Path(folder)) as fleet:
        return _run(fleet, "removal", hyperv_checkpoint, {"names": ["all"], "state": "absent", "keep_last": 0}, changed=True)


def _report(cases: Mapping[str, Case]) -> str:
    table = Table(("run", "requests", "+ pages", "+ polls", "authentication legs", "through the lane, KB"))
    titles = {"info": f"info of {MACHINES} VMs with {MACHINES * EACH} checkpoints",
              "removal": f"removal of {REMOVED * EACH} checkpoints of {REMOVED} VMs, with their merges"}
    for title, case in cases.items():
        table.add(titles.get(title, title), case.requests, case.pages, case.polls, case.used.auth_legs,
                  (case.used.bytes_in + case.used.bytes_out) / 1024)
    plain, changed = cases["one VM, its policy is that of the kind"].requests, cases["one VM, with another policy"].requests
    more = [(cases[f"ten VMs, {what}"].requests - one) / 9 for what, one in (
        ("their policy is that of the kind", plain), ("with another policy", changed))]
    nothing, removal = cases["nothing to do, ten VMs"].requests, cases["removal"].requests
    return f"""## `hyperv_checkpoint`

Polls are looks at jobs and merges that are not done yet, and at how far they are; they depend on how long a host takes.

{table.markdown()}
* **Nothing to do**: {nothing} requests, however many machines. Goal: at most {NOTHING}, {_reached(nothing, NOTHING)}.
* **Creation**: each further machine of a task costs {more[0]:.0f} requests, and {more[1]:.0f} where its policy has to be another one for a
  moment. Goal: at most {CREATION} and the polls, {_reached(max(more), CREATION)}. The first one costs {plain} and {changed}: the goal is
  **missed by {plain - CREATION}** there, since the preflight and the safety net of a run come on top, once for all its machines:

{_parts(cases["one VM, with another policy"], changed - plain).markdown()}
* **Removal**: {removal / (REMOVED * EACH):.1f} requests for each checkpoint and its merge: the sizes that the plan shows, a look at the
  checkpoint right before it goes, and the chain of each disk file by file afterwards, which proves that it is shorter.
"""


def _parts(case: Case, policy: int) -> Table:
    """What the requests of one creation are for. ``policy``: what one without a change of policy does not need."""
    table = Table(("part of a creation with a change of policy", "requests"))
    operations = case.used.by_operation
    late = operations.get("Shell Receive", 0) - operations.get("Shell Command", 0)
    programs = sum(count for name, count in operations.items() if name.startswith("Shell ")) - late
    facts = operations.get("Enumerate", 0)  # one tells what the job made, and is no fact; the summary is one, and no enumeration
    table.add("facts: what the host has before, and the proof afterwards", facts)
    table.add("state folder looked at, lease and announcement made and taken back: three programs", programs)
    table.add("policy looked at, changed, and put back, each seen", policy)
    table.add("making, finding and naming the checkpoint", case.requests - facts - programs - policy)
    return table


def _reached(found: float, goal: int) -> str:
    return "**reached**" if found <= goal else f"**missed by {found - goal:.0f}**"
