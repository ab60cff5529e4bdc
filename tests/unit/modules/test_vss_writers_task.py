# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``writers: hyperv`` as a task: one set for each machine, one failure for one machine, and a set that a later run brings to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_vss_copy
from simulator.hyperv.spec import ComponentSpec, DiskSpec, GuestSpec, IntegrationSpec, VmSpec
from simulator.windows.programs.base import Speeds
from simulator.windows.spec import VolumeSpec

from .conftest import Runner

Start = Callable[..., Runner]
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"), VolumeSpec("F:"))


def machine(name: str, **values: Any) -> VmSpec:
    return VmSpec(name, **{"disks": (DiskSpec(f"D:\\VMs\\{name}\\a.vhdx"),), "guest": GuestSpec(), **values})


def copy(runner: Runner, **params: Any) -> dict[str, Any]:
    return runner.run(hyperv_vss_copy, **{"destination": "E:\\Backup", "names": ["all"], "writers": "hyperv", **params})


def left(runner: Runner) -> list[str]:
    with runner.fleet.locked():
        host = runner.running.host
        found = [shadow.shadow_id for shadow in host.shadows.copies]
        found += [task.name for task in host.tasks.tasks() if "agentless" in task.path]
        for part in ("s", "intents", "jobs", "leases"):
            place = f"C:\\ProgramData\\agentless.hyperv\\{part}"
            found += [entry.parts[-1] for entry in host.files.children(host.files.resolve(place))] if host.files.exists(place) else []
    return found


def test_each_machine_is_a_set_of_its_own_and_several_volumes_are_one_instant(start: Start) -> None:
    two = (DiskSpec("D:\\VMs\\sql01\\a.vhdx"), DiskSpec("F:\\VMs\\sql01\\b.vhdx"))
    runner = start(volumes=VOLUMES, vms=(machine("sql01", disks=two), machine("web01")))
    result = copy(runner, consistency="application")
    found = {entry["vm"]["name"]: entry for entry in result["results"]}
    assert {name: (entry["failed"], entry["consistency"]["achieved"]) for name, entry in found.items()} == {
        "sql01": (False, "application"), "web01": (False, "application"),
    }
    assert [file["source"] for file in found["sql01"]["manifest"]["files"]] == ["D:\\VMs\\sql01\\a.vhdx", "F:\\VMs\\sql01\\b.vhdx"]
    assert left(runner) == []
    assert copy(runner, consistency="application", max_age="20h")["changed"] is False


def test_a_guest_that_does_not_answer_fails_alone_and_may_be_accepted_as_less(start: Start) -> None:
    silent = IntegrationSpec(vss=ComponentSpec(status="no_contact"))
    runner = start(volumes=VOLUMES, vms=(machine("a"), machine("b", integration=silent)))
    result = copy(runner, consistency="application")
    assert {entry["vm"]["name"]: entry.get("error_code") for entry in result["results"]} == {"a": None, "b": "consistency_not_reachable"}
    lesser = copy(runner, consistency="application", consistency_fallback="crash", max_age="20h")
    assert {entry["vm"]["name"]: entry["consistency"]["achieved"] for entry in lesser["results"]} == {"a": "application", "b": "crash"}
    assert left(runner) == []


def test_a_set_that_outlives_its_run_is_brought_to_its_end_by_the_next(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine("a"),), speeds=Speeds(copy_bytes_per_second=20_000.0, chunk=20_000))
    first = copy(runner, timeout=30, run_id="monday")
    assert (first["results"][0]["error_code"], first["results"][0]["job"]["finished"]) == ("timeout", False)
    second = copy(runner, max_age="20h", run_id="tuesday")
    (entry,) = second["results"]
    assert (entry["changed"], entry["adopted"], entry["manifest"]["run_id"], entry["consistency"]["achieved"]) == (
        True, True, "monday", "application",
    )
    assert left(runner) == []


@pytest.mark.parametrize(("params", "code"), [({"run_as": "session"}, "writers_need_task")])
def test_what_writers_need_is_said(start: Start, params: dict[str, Any], code: str) -> None:
    runner = start(volumes=VOLUMES, vms=(machine("a"),))
    assert copy(runner, **params)["results"][0]["error_code"] == code
    assert left(runner) == []
