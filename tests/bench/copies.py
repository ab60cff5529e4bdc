# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_vss_copy``: requests of a run with nothing to do, of a copy, of two VMs on one volume; and bytes through the controller."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ansible_collections.agentless.hyperv.plugins.modules import hyperv_vss_copy
from simulator.fleet import Fleet, RunningHost
from simulator.hyperv.spec import MIB, DiskSpec, VmSpec
from simulator.soap.counters import Counters
from support import in_process

from bench.hosts import host
from bench.tables import Table

DISK = 256 * MIB
NOTHING, COPY = 8, 45
"""Goals: requests of a run with nothing to do, and of a one-disk copy without the polls."""


@dataclass(frozen=True)
class Case:
    """One run: what is copied in bytes, and what it cost."""

    title: str
    copied: int
    used: Counters

    @property
    def requests(self) -> int:
        """Without pages and polls."""
        return self.used.requests - self.pages - self.polls

    @property
    def pages(self) -> int:
        """Pull messages."""
        return self.used.by_operation.get("Pull", 0)

    @property
    def polls(self) -> int:
        """See :func:`polls_of`."""
        return polls_of(self.used.by_operation)


def polls_of(by_operation: Mapping[str, int]) -> int:
    """What depends on how long a host takes: Receives beyond one for each program (it was still running, or its end came apart from its
    output), and the looks at a task, two requests each.
    """
    return by_operation.get("Shell Receive", 0) - by_operation.get("Shell Command", 0) + 2 * by_operation.get(
        "Invoke PS_ScheduledTask.GetInfoByName", 0)


def measure() -> str:
    """The section of the report. The host runs in this process, in simulated time: only counts matter here."""
    machines = tuple(VmSpec(name=name, folder=f"D:\\VMs\\{name}", disks=(DiskSpec(kind="fixed", size=DISK),)) for name in ("one", "two"))
    with TemporaryDirectory(prefix="bench-") as folder, Fleet((host("HV", machines),), Path(folder)) as fleet:
        cases = [_run(fleet, *arguments) for arguments in (
            ("first copy on a host, one disk", {"name": "one"}, 1), ("a copy, one disk", {"name": "one"}, 1),
            ("two VMs on one volume", {"names": ["one", "two"]}, 2), ("nothing to do, one VM", {"name": "one", "max_age": "20h"}, 0),
            ("nothing to do, two VMs", {"names": ["one", "two"], "max_age": "20h"}, 0))]
    return _report(cases)


def _run(fleet: Fleet, title: str, changes: Mapping[str, Any], copies: int) -> Case:
    running: RunningHost = fleet.hosts["HV"]
    params = {name: option.get("default") for name, option in hyperv_vss_copy.ARGUMENT_SPEC.items()}
    with fleet.locked():
        before = running.host.counters.snapshot()
    ending = in_process.run(hyperv_vss_copy.run, {**params, "destination": "E:\\Backup", **changes}, fleet, running)
    if not ending.succeeded or ending.result is None or ending.result["changed"] is not bool(copies):
        raise RuntimeError(f"{title}: {ending}")
    with fleet.locked():
        used = running.host.counters.since(before)
    manifests = [entry["manifest"]["size"] for entry in ending.result.get("results", [ending.result]) if entry["changed"]]
    return Case(title, sum(manifests), used)


def _report(cases: list[Case]) -> str:
    table = Table(("run", "requests", "+ pages", "+ polls", "authentication legs", "shells", "programs", "copied, MB",
                   "through the lane, KB"))
    for case in cases:
        operations = case.used.by_operation
        table.add(case.title, case.requests, case.pages, case.polls, case.used.auth_legs, operations.get("Shell Create", 0),
                  operations.get("Shell Command", 0), case.copied / MIB, (case.used.bytes_in + case.used.bytes_out) / 1024)
    copy, nothing = cases[1], cases[3]
    through = (copy.used.bytes_in + copy.used.bytes_out) / 1024
    share = 100 * through * 1024 / copy.copied
    return f"""## `hyperv_vss_copy`

Local destination, disks of {DISK // MIB} MB in fixed VHDX files, the copying itself done by a task of the host. A program in a shell
costs two requests (Command, Receive) and a Signal when another one follows in the same shell, a shell two (Create, Delete). Polls are
further Receives, while a program runs or when its end comes by itself, and the looks at the task, two requests each.

{table.markdown()}
* **Bulk bytes through the controller**: none. {through:,.0f} KB went through the lane for {copy.copied // MIB} MB that were copied
  ({share:.2f} %), all of it questions and answers; the size of the disk does not change it.
* **Nothing to do**: {nothing.requests} requests. Goal: at most {NOTHING}, {_distance(nothing.requests, NOTHING)}. One tells the name
  and the clock of the host, two the VMs and their settings, one the volumes, four are the shell that reads all manifests at once.
* **One-disk copy**: {copy.requests} requests. Goal: about {COPY} and the polls, {_distance(copy.requests, COPY)}. That is the overhead of
  ours on top of the host's own work, which is one creation of a shadow copy, one robocopy and one deletion:

{_parts(copy).markdown()}
Most of the programs prove something before the next one may run: that the state folder is closed to others, that no other run works
under the same name, that a file holds what was sent, that the copy has the size of its source.
"""


def _parts(case: Case) -> Table:
    """What the requests of one run are for."""
    table = Table(("part of a one-disk copy", "requests"))
    operations = dict(case.used.by_operation)
    shells = sum(operations.pop(f"Shell {name}", 0) for name in ("Create", "Delete"))
    programs = sum(operations.pop(f"Shell {name}", 0) for name in ("Command", "Receive", "Signal", "Send"))
    looks = 2 * operations.get("Invoke PS_ScheduledTask.GetInfoByName", 0)
    tasks = sum(operations.pop(f"Invoke PS_ScheduledTask.{name}", 0) for name in ("RegisterByXml", "StartByPath", "GetInfoByName"))
    shadow = operations.pop("Invoke Win32_ShadowCopy.Create", 0)
    images = sum(operations.pop(name) for name in tuple(operations) if "VirtualHardDisk" in name)
    table.add("shells, made and deleted", shells)
    table.add("programs in them, without polls", programs - (case.polls - looks))
    table.add("enumerations of facts, without pages", operations.pop("Enumerate", 0))
    operations.pop("Pull", None)
    table.add("questions about disk images", images)
    table.add("registering and starting the task", tasks - looks // 2)
    table.add("making the shadow copy", shadow)
    table.add("single objects: looked at, deleted", sum(operations.values()) - looks // 2)
    return table


def _distance(found: int, goal: int) -> str:
    return "**reached**" if found <= goal else f"**missed by {found - goal}**"
