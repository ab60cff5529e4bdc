# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs of ``hyperv_vss_copy`` on one host at the same time: each does its own work, and neither takes away what the other needs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from simulator.windows.programs.base import Speeds
from simulator.windows.spec import VolumeSpec
from support.leftovers import left_on, others_of

from .conftest import Runner
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
