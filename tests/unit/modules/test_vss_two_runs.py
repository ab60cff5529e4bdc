# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs of ``hyperv_vss_copy`` on one host at the same time: each does its own work, and neither takes away what the other needs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.filter.backup_plan import backup_plan
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_restore, hyperv_vm_info
from simulator.hyperv.spec import VmSpec
from simulator.windows.programs.base import Speeds
from simulator.windows.spec import VolumeSpec
from support.exported import export
from support.leftovers import left_on, others_of

from .conftest import Runner, TestClock
from .test_vss_adoption import copy, machine

Start = Callable[..., Runner]
SLOW = Speeds(copy_bytes_per_second=50_000.0, chunk=50_000)


def begin(start: Start, **spec: Any) -> Runner:
    volumes = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"))
    return start(**{"volumes": volumes, "vms": (machine("a"), machine("b")), "speeds": SLOW, **spec})


def left(runner: Runner) -> list[tuple[str, str]]:
    with runner.fleet.locked():
        return list(left_on(runner.running.host, others_of(runner.running.host), ["E:\\Backup"]))


def both(runner: Runner, *params: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of tasks that run at the same time, in the order of their options."""
    runners = [Runner(runner.fleet, runner.running) for _unused in params]
    with ThreadPoolExecutor(len(params)) as pool:
        return list(pool.map(lambda pair: copy(pair[0], **pair[1]), zip(runners, params, strict=True)))


def test_two_machines_of_one_volume_are_copied_by_two_runs_at_once(start: Start) -> None:
    runner = begin(start)
    results = both(runner, {"names": ["a"], "run_id": "one"}, {"names": ["b"], "run_id": "two"})
    assert [(result["results"][0]["failed"], result["results"][0]["manifest"]["run_id"]) for result in results] == [
        (False, "one"), (False, "two"),
    ]
    assert left(runner) == []


def test_the_same_machine_is_copied_once_or_twice_and_never_halfway(start: Start) -> None:
    runner = begin(start)
    results = [result["results"][0] for result in both(runner, {"names": ["a"], "run_id": "one"}, {"names": ["a"], "run_id": "two"})]
    assert {result.get("error_code") for result in results} <= {None, "copy_underway"}
    assert any(not result["failed"] for result in results)
    assert left(runner) == []


def test_a_backup_of_everything_that_meets_a_restore_drill_leaves_its_machine_alone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that drills and a job that copies know nothing of each other. While the drill waits for its guest, the other one looks at the
    host, makes its plan, and copies what is to be copied; both succeed."""
    runner = begin(start, vms=(VmSpec("a", folder="D:\\VMs\\a", memory_mb=32),), speeds=Speeds())
    with runner.fleet.locked():
        one = runner.running.host
        one.files.create_directory("E:\\Exports")
        export(one, "a", "E:\\Exports")
    met: list[dict[str, Any]] = []
    usual = TestClock.sleep

    def sleep(clock: TestClock, seconds: float) -> None:
        usual(clock, seconds)
        if met or not any(vm.name.startswith("a (drill") for vm in one.hyperv.machines.values()):
            return
        other = Runner(runner.fleet, runner.running)
        met.append(backup_plan(other.run(hyperv_vm_info)["vms"], ["*"], {}, defaults={"destination": "E:\\Backup"}))
        met.append(copy(other, names=met[0]["tasks"][0]["names"]))

    monkeypatch.setattr(TestClock, "sleep", sleep)
    drill = runner.run(hyperv_restore, name="a", destination="E:\\Exports", location="D:\\Drill", mode="drill", run_id="drill-1")
    plan, copied = met
    assert [[vm["name"] for vm in task["vms"]] for task in plan["tasks"]] == [["a"]]
    assert (len(plan["left_out"]), plan["unprotected"]) == (1, [])
    assert [entry["failed"] for entry in copied["results"]] == [False]
    assert (drill["drill"]["outcome"], drill["leftovers"]) == ("passed", [])
    assert left(runner) == []
