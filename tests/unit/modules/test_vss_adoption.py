# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies that outlive the run that began them: a later run takes them over, waits for the living, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_vss_copy
from simulator.hyperv.spec import DiskSpec, VmSpec
from simulator.soap.rules import lost_before
from simulator.windows.programs.base import Speeds
from simulator.windows.spec import VolumeSpec

from .conftest import Runner

Start = Callable[..., Runner]
STATE = "C:\\ProgramData\\agentless.hyperv"
SLOW = Speeds(copy_bytes_per_second=20_000.0, chunk=20_000)
"""A disk of the simulator takes minutes."""


def machine(name: str) -> VmSpec:
    return VmSpec(name, disks=(DiskSpec(f"D:\\VMs\\{name}\\a.vhdx"),))


@pytest.fixture
def slow(start: Start) -> Runner:
    return start(volumes=(VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:")), vms=(machine("a"), machine("b")), speeds=SLOW)


BOTH = {"names": ["a", "b"]}


def copy(runner: Runner, **params: Any) -> dict[str, Any]:
    which = {} if "names" in params else {"name": "a"}
    return runner.run(hyperv_vss_copy, **{"destination": "E:\\Backup", "max_age": "20h", **which, **params})


def held(runner: Runner) -> dict[str, int]:
    """How much of ours is on the host, by what it is."""
    with runner.fleet.locked():
        host = runner.running.host
        found = {"shadows": len(host.shadows.copies), "tasks": len([task for task in host.tasks.tasks() if "agentless" in task.path])}
        for part in ("s", "intents", "jobs", "leases"):
            place = f"{STATE}\\{part}"
            found[part] = len(list(host.files.children(host.files.resolve(place)))) if host.files.exists(place) else 0
    return {what: count for what, count in found.items() if count}


def let(runner: Runner, seconds: float) -> None:
    with runner.fleet.locked():
        runner.running.host.clock.advance(seconds)


def lose_the_controller(runner: Runner, after: str) -> None:
    """From the answer to the first request that holds this text on, nothing of the controller reaches the host any more."""
    seen = False

    def gone(view: Any) -> bool:
        nonlocal seen
        now, seen = seen, seen or after in view.document
        return now

    with runner.fleet.locked():
        runner.running.host.rules.add(lost_before(), when=gone, times=None)


def back(runner: Runner) -> None:
    with runner.fleet.locked():
        runner.running.host.rules.clear()


def test_a_copy_that_takes_too_long_goes_on_and_the_next_run_takes_it_over(slow: Runner) -> None:
    first = copy(slow, timeout=30, run_id="monday")
    assert (first["failed"], first["error_code"]) == (True, "timeout")
    assert first["job"] == {"finished": False, "task": f"\\agentless.hyperv\\{first['vm']['vm_id']}_monday", "run_id": "monday"}
    assert {left["kind"] for left in first["leftovers"]} == {"task", "shadow_copy", "link", "intent", "incomplete_copy"}
    assert held(slow) == {"shadows": 1, "tasks": 1, "s": 1, "intents": 1, "jobs": 1}, "the lease was given back"
    second = copy(slow, run_id="tuesday")
    assert (second["changed"], second["adopted"], second["manifest"]["run_id"]) == (True, True, "monday")
    assert any("taking over" in line for line in slow.told.progress)
    assert held(slow) == {}
    third = copy(slow)
    assert (third["changed"], third["manifest"]["folder"]) == (False, second["manifest"]["folder"])


def test_check_mode_says_that_a_copy_would_be_taken_over(slow: Runner) -> None:
    copy(slow, timeout=30, run_id="monday")
    before = slow.running.host.counters.snapshot()
    result = slow.run(hyperv_vss_copy, check=True, destination="E:\\Backup", name="a", max_age="20h")
    assert (result["changed"], result["adopted"]) == (True, True)
    assert [step["action"] for step in result["diff"]["after"]["steps"]] == ["adopt_copy"]
    assert slow.running.host.counters.since(before).writing == 0


def test_a_lost_controller_is_waited_for_as_long_as_its_lease_lasts(slow: Runner) -> None:
    lose_the_controller(slow, "StartByPath")
    lost = copy(slow, run_id="monday")
    back(slow)
    assert (lost["failed"], lost["error_code"]) == (True, "unreachable")
    assert held(slow) == {"shadows": 1, "tasks": 1, "s": 1, "intents": 2, "jobs": 1, "leases": 1}
    refused = copy(slow, run_id="tuesday", timeout=60)
    assert (refused["error_code"], refused["job"]["run_id"], refused["changed"]) == ("copy_underway", "monday", False)
    adopted = copy(slow, run_id="wednesday")
    assert (adopted["changed"], adopted["adopted"], adopted["manifest"]["run_id"]) == (True, True, "monday")
    assert any("waiting for the run monday" in line for line in slow.told.progress)
    assert held(slow) == {}


def test_a_retry_of_the_same_run_goes_on_at_once(slow: Runner) -> None:
    lose_the_controller(slow, "StartByPath")
    copy(slow, run_id="monday")
    back(slow)
    adopted = copy(slow, run_id="monday")
    assert (adopted["changed"], adopted["adopted"], adopted["manifest"]["run_id"]) == (True, False, "monday")
    assert held(slow) == {}


def test_a_copy_whose_host_went_down_is_made_anew(slow: Runner) -> None:
    copy(slow, timeout=30, run_id="monday")
    with slow.fleet.locked():
        slow.running.host.restart()
    result = copy(slow, run_id="tuesday")
    assert (result["changed"], result["manifest"]["run_id"], result["adopted"]) == (True, "tuesday", False)
    left = held(slow)
    assert left == {"intents": 1}, "it names the incomplete copy of the first run, for the clean-up"


def test_one_of_two_machines_is_taken_over_and_the_other_copied_anew(slow: Runner) -> None:
    first = copy(slow, **BOTH, timeout=30, run_id="monday")
    assert [entry["error_code"] for entry in first["results"]] == ["timeout", "timeout"]
    second = copy(slow, **BOTH, run_id="tuesday")
    assert {entry["vm"]["name"]: entry["manifest"]["run_id"] for entry in second["results"]} == {"a": "monday", "b": "tuesday"}
    left = held(slow)
    assert left == {"intents": 1}, "it tells of the machine that was not reached, too"


def test_a_running_copy_of_another_kind_is_left_alone(slow: Runner) -> None:
    copy(slow, timeout=30, run_id="monday")
    other = copy(slow, verify="sha256")
    assert (other["error_code"], other["changed"], "hyperv_cleanup" in other["hint"]) == ("copy_underway", False, True)
    assert held(slow) == {"shadows": 1, "tasks": 1, "s": 1, "intents": 1, "jobs": 1}


def test_a_copy_in_the_session_is_a_copy_like_any_other(start: Start) -> None:
    runner = start(volumes=(VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:")), vms=(machine("a"),))
    before = runner.running.host.counters.snapshot()
    assert copy(runner, run_as="session")["changed"] is True
    assert "Invoke PS_ScheduledTask.RegisterByXml" not in runner.running.host.counters.since(before).by_operation
    assert copy(runner)["changed"] is False
    assert held(runner) == {}


@pytest.mark.parametrize("record", [b"", b"{}", b"[1]", b"x" * 10, b'{"format": 1}'])
def test_a_task_that_does_not_say_what_it_copies_is_not_taken_over(slow: Runner, record: bytes) -> None:
    copy(slow, timeout=30, run_id="monday")
    with slow.fleet.locked():
        files = slow.running.host.files
        (job,) = files.children(files.resolve(f"{STATE}\\jobs"))
        files.write_file(f"{STATE}\\jobs\\{job.parts[-1]}\\copy.json", record)
    result = copy(slow)
    assert (result["error_code"], result["changed"]) == ("copy_underway", False)
    assert any("does not say what it copies" in text for text in slow.told.warnings)


def test_an_account_needs_its_password_and_no_other_identity_takes_one(start: Start) -> None:
    runner = start(volumes=(VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:")), vms=(machine("a"),))
    with pytest.raises(HypervError) as refused:
        copy(runner, run_as_user="EXAMPLE\\backup", run_as_password="secret")
    assert (refused.value.error_code, "secret" in refused.value.message) == ("run_as_incomplete", False)


def test_a_copy_in_the_session_has_a_lease_for_all_of_its_time(slow: Runner) -> None:
    """Nobody can renew it while the program works, and no clean-up may take its shadow copy away meanwhile."""
    lose_the_controller(slow, "/d /v:off /c")
    with slow.fleet.locked():
        before = slow.running.host.clock.now()
    assert copy(slow, run_as="session", timeout=7200, run_id="monday")["failed"] is True
    with slow.fleet.locked():
        host = slow.running.host
        (lease,) = host.files.children(host.files.resolve(f"{STATE}\\leases\\monday"))
    expires = datetime.strptime(lease.parts[-1].partition("_")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert expires - before >= timedelta(seconds=7200)
