# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_export``, ``hyperv_export_info`` and ``hyperv_restore``: requests and bytes of a run with nothing to do, of exports, of a look
at many, of a restore and of a drill."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.protection import manifest as manifests
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.naming import copy_folder
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_export, hyperv_export_info, hyperv_restore
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.hyperv.spec import MIB, DiskSpec, VmSpec
from simulator.soap.counters import Counters
from simulator.soap.rules import lost_before
from simulator.windows.spec import ShareSpec, VolumeSpec
from support import in_process
from support.fault_harness import validated

from bench.copies import polls_of
from bench.hosts import host
from bench.tables import Table

NOTHING, NOTHING_AT_SHARE, EXPORT = 8, 16, 30
"""Goals: requests of a task with nothing to do, locally and at a share, and of an export, each without pages and polls."""
LOCAL, SHARE = "E:\\Exports", "\\\\NAS\\backup"
SMALL, LARGE = 4, 40
"""MB of a fixed disk."""
_NAS = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")), (ShareSpec("backup", "E:\\backup", ("EXAMPLE\\HV$",)),))
_SUMMARY = "Invoke Msvm_VirtualSystemManagementService.GetSummaryInformation"


@dataclass(frozen=True)
class Case:
    """One run, and what it cost. ``polls``: looks at jobs, tasks and merges, of which there are more the longer a host takes."""

    polls: int
    used: Counters
    result: dict[str, Any]

    @property
    def pages(self) -> int:
        """Pull messages."""
        return self.used.by_operation.get("Pull", 0)

    @property
    def requests(self) -> int:
        """Without pages and polls."""
        return self.used.requests - self.pages - self.polls

    @property
    def through(self) -> int:
        """Bytes through the controller, both ways."""
        return self.used.bytes_in + self.used.bytes_out


def measure(exports: int) -> str:
    """The section of the report. ``exports``: how many there are at the destination that is looked at. The host runs in this process, in
    simulated time: only counts matter here."""
    cases: dict[str, Case] = {}
    with _host() as fleet:
        def run(title: str, module: Any, *, changed: bool = True, **params: Any) -> Case:
            cases[title] = _run(fleet, title, module, params, changed=changed)
            return cases[title]

        run("first export on a host", hyperv_export, name="small", destination=LOCAL, consistency="crash")
        crash = run(f"one disk of {SMALL} MB, running as it is", hyperv_export, name="small", destination=LOCAL, consistency="crash")
        large = run(f"the same, one disk of {LARGE} MB", hyperv_export, name="large", destination=LOCAL, consistency="crash")
        quiesced = run("one disk, quiesced through a checkpoint", hyperv_export, name="small", destination=LOCAL)
        nothing = run("nothing to do", hyperv_export, changed=False, name="small", destination=LOCAL, max_age="20h")
        run("one disk, quiesced, at a share", hyperv_export, name="small", destination=SHARE)
        away = run("nothing to do at a share", hyperv_export, changed=False, name="small", destination=SHARE, max_age="20h")
        restore: dict[str, Any] = {"name": "small", "destination": LOCAL}
        run("restore of one disk", hyperv_restore, **restore, location="D:\\Restored", new_name="restored")
        run("drill of one disk", hyperv_restore, **restore, location="D:\\Drill", mode="drill")
        _plant(fleet, crash.result["manifest"]["path"], exports)
        info = run(f"`hyperv_export_info`, {exports:,} exports", hyperv_export_info, changed=False, destination=LOCAL)
    table = Table(("run", "requests", "+ pages", "+ polls", "authentication legs", "programs", "through the lane, KB"))
    for title, case in cases.items():
        table.add(title, case.requests, case.pages, case.polls, case.used.auth_legs, case.used.by_operation.get("Shell Command", 0),
                  case.through / 1024)
    return f"""## `hyperv_export`, `hyperv_restore`

The host writes exports itself, and a restore's files are copied by a task of the host. Polls are looks at jobs, tasks and merges that are
not done yet: they depend on how long a host takes. A drill is a restore that also boots the machine, waits for its heartbeat, destroys
everything it made, and writes its evidence.

{table.markdown()}
* **Bulk bytes through the controller**: none. {large.through / 1024:,.0f} KB went through the lane for a disk of {LARGE} MB, and
  {crash.through / 1024:,.0f} KB for one of {SMALL} MB; what differs is in how many pages the host answered.
* **`hyperv_export_info`**: {info.requests} requests, however many exports there are: each brings its manifest of about
  {info.through / 1024 / exports:.1f} KB.
* **Nothing to do**: {nothing.requests} requests locally, goal at most {NOTHING}: {_reached(nothing, NOTHING)}; {away.requests} at a share,
  goal at most {NOTHING_AT_SHARE}: {_reached(away, NOTHING_AT_SHARE)}.
* **An export**: {crash.requests} requests, and {quiesced.requests} with a checkpoint that is made, removed and watched while it merges.
  Goal: at most {EXPORT}, {_reached(crash, EXPORT)} and {_reached(quiesced, EXPORT)}. What it is spent on without a checkpoint:

{_parts(crash).markdown()}
"""


@contextmanager
def _host() -> Iterator[Fleet]:
    machines = tuple(VmSpec(name, folder=f"D:\\VMs\\{name}", disks=(DiskSpec(kind="fixed", size=size * MIB),), memory_mb=8,
                            policy="production_only") for name, size in (("small", SMALL), ("large", LARGE)))
    spec = replace(host("HV", machines), domain="example.test")
    with TemporaryDirectory(prefix="bench-") as folder, Fleet((spec,), Path(folder), file_servers=[_NAS]) as fleet:
        yield fleet


def _run(fleet: Fleet, title: str, module: Any, params: dict[str, Any], *, changed: bool) -> Case:
    """One run; it must succeed, and change something or nothing as expected."""
    running, looks = fleet.hosts["HV"], 0

    def count(view: Any) -> bool:
        nonlocal looks
        looks += view.request.resource_uri.endswith(("Msvm_ConcreteJob", "Msvm_StorageJob"))
        return False

    with fleet.locked():
        running.host.rules.add(lost_before(), "Get", when=count)
        before = running.host.counters.snapshot()
    ending = in_process.run(module.run, validated(module, **params), fleet, running)
    if not ending.succeeded or ending.result is None or ending.result["changed"] is not changed:
        raise RuntimeError(f"{title}: {ending}")
    with fleet.locked():
        running.host.rules.clear()
        used = running.host.counters.since(before)
    summaries = max(0, used.by_operation.get(_SUMMARY, 0) - 1)
    return Case(looks + summaries + polls_of(used.by_operation), used, ending.result)


def _plant(fleet: Fleet, manifest: str, count: int) -> None:
    """More exports like one that is there, an hour apart, with files of one byte, until there are ``count``."""
    with fleet.locked():
        path = fleet.hosts["HV"].host.files.real_path(manifest)
    one = manifests.parse(path.read_text("ascii"))
    small = tuple(replace(file, size=1) for file in one.files)
    there = sum(1 for _unused in path.parents[2].rglob("manifest.json"))
    for number in range(count - there):
        copy = replace(one, run_id=f"r{number}", taken=one.taken - timedelta(hours=number + 1), files=small)
        folder = path.parents[1] / copy_folder(copy.taken, copy.run_id)
        for file in copy.files:
            target = folder.joinpath(*file.path.split("\\"))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"x")
        (folder / "manifest.json").write_bytes(manifests.dump(copy))


def _parts(case: Case) -> Table:
    """What the requests of one export are for."""
    table = Table(("part of an export of one disk", "requests"))
    operations = dict(case.used.by_operation)
    late = operations.get("Shell Receive", 0) - operations.get("Shell Command", 0)
    programs = sum(count for name, count in operations.items() if name.startswith("Shell ")) - late
    facts = operations.get("Enumerate", 0) + min(1, operations.get(_SUMMARY, 0))
    proof = sum(count for name, count in operations.items() if "ImageManagementService" in name or "DefinitionFile" in name)
    number = operations.get("Shell Command", 0)
    table.add(f"programs, {number} of them, each in a shell of its own: state folder, lease and intent, folder, listing, guide, manifest",
              programs)
    table.add("facts: host, machines, volumes, hardware, switches", facts)
    table.add("disks and definition, before and as the proof afterwards", proof)
    table.add("the export itself, and its size", case.requests - programs - facts - proof)
    return table


def _reached(case: Case, goal: int) -> str:
    return "**reached**" if case.requests <= goal else f"**missed by {case.requests - goal}**"
