# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs of ``hyperv_vss_copy`` on one host at the same time: each does its own work, and neither takes away what the other needs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ModuleArgumentSpecValidator
from ansible_collections.agentless.hyperv.plugins.filter.backup_plan import backup_plan
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_export, hyperv_restore, hyperv_vm_info, hyperv_vss_copy
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.hyperv.spec import DiskSpec, VmSpec
from simulator.soap.rules import lost_before
from simulator.spec import ClusterSpec, HostSpec
from simulator.windows.programs.base import Speeds
from simulator.windows.shadows import ShadowSettings
from simulator.windows.spec import ShareSpec, VolumeSpec
from support import in_process
from support.exported import export
from support.leftovers import left_on, others_of

from .conftest import ADMINISTRATOR, Runner, TestClock
from .test_vss_adoption import back, copy, lose_the_controller, machine

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


def test_what_another_run_is_going_to_copy_is_copied_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other run comes while this one copies its first machine, copies what it has for itself, and waits for the rest in vain."""
    runner = begin(start, vms=(machine("a"), machine("b"), machine("c")))
    met: list[dict[str, Any]] = []
    usual = TestClock.sleep

    def sleep(clock: TestClock, seconds: float) -> None:
        usual(clock, seconds)
        if not met and runner.running.host.processes.running():
            met.append({})
            met.append(copy(Runner(runner.fleet, runner.running), names=["a", "b", "c"], run_id="two", timeout=600))

    monkeypatch.setattr(TestClock, "sleep", sleep)
    first = copy(runner, names=["a", "b"], run_id="one")
    told = {entry["vm"]["name"]: (entry["changed"], entry.get("error_code")) for entry in met[1]["results"]}
    assert told == {"a": (False, "copy_underway"), "b": (False, "copy_underway"), "c": (True, None)}
    assert {entry["job"]["run_id"] for entry in met[1]["results"] if entry["failed"]} == {"one"}
    assert [(entry["changed"], entry["failed"]) for entry in first["results"]] == [(True, False)] * 2
    assert copy(runner, names=["a", "b", "c"])["changed"] is False
    with runner.fleet.locked():
        files = runner.running.host.files
        copies = [len(list(files.children(folder))) for folder in files.children(files.resolve("E:\\Backup\\HV01"))]
    assert (copies, left(runner)) == ([1, 1, 1], [])


def test_a_host_that_goes_away_while_it_is_waited_for_hides_nothing_that_was_done(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = begin(start)
    lose_the_controller(runner, "StartByPath")
    assert copy(runner, run_id="monday")["failed"] is True
    back(runner)
    usual = TestClock.sleep

    def sleep(clock: TestClock, seconds: float) -> None:
        usual(clock, seconds)
        if any("waiting for the run monday" in line for line in runner.told.progress):
            with runner.fleet.locked():
                runner.running.host.rules.add(lost_before(), times=None)

    monkeypatch.setattr(TestClock, "sleep", sleep)
    result = copy(runner, names=["a", "b"], run_id="tuesday")
    assert {entry["vm"]["name"]: (entry["changed"], entry.get("error_code")) for entry in result["results"]} == {
        "a": (False, "unreachable"), "b": (True, None)}
    assert (result["changed"], result["failed"], result["msg"]) == (True, True, "1 of 2 virtual machines failed: 'a' (unreachable).")


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


# -- limits --------------------------------------------------------------------------------------------------------------

SLOT = "C:\\ProgramData\\agentless.hyperv\\leases\\host.slot1"


def hold(runner: Runner, run_id: str) -> None:
    """Another run gets the slot of the host for an hour."""
    with runner.fleet.locked():
        host = runner.running.host
        host.files.create_directory(SLOT)
        ends = host.clock.now() + timedelta(hours=1)
        host.files.write_file(f"{SLOT}\\{ends.strftime('%Y%m%dT%H%M%SZ')}_{run_id}_aaaaaaaaaaaa.lease", b"lease")


def let_go(runner: Runner) -> None:
    with runner.fleet.locked():
        files = runner.running.host.files
        for entry in list(files.children(files.resolve(SLOT))):
            files.remove_file(entry)


def test_a_host_that_takes_one_run_at_a_time_refuses_the_second_after_its_time(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = begin(start)
    met: list[HypervError] = []
    usual = TestClock.sleep

    def sleep(clock: TestClock, seconds: float) -> None:
        usual(clock, seconds)
        if met or not runner.running.host.files.exists(SLOT):
            return
        monkeypatch.setattr(TestClock, "sleep", usual)
        with pytest.raises(HypervError) as busy:
            copy(Runner(runner.fleet, runner.running), names=["b"], run_id="two", host_limit=1, target_wait=60)
        met.append(busy.value)

    monkeypatch.setattr(TestClock, "sleep", sleep)
    first = copy(runner, names=["a"], run_id="one", host_limit=1)
    assert [(error.error_code, error.details["slots"].split()[0]) for error in met] == [("host_limit_reached", "one")]
    assert [entry["failed"] for entry in first["results"]] == [False]
    assert not copy(runner, names=["b"], run_id="two", host_limit=1)["results"][0]["failed"]
    assert left(runner) == []


@pytest.mark.parametrize("module", [hyperv_vss_copy, hyperv_export], ids=["copy", "export"])
def test_who_waited_for_another_run_does_not_do_its_work_again(start: Start, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    """What was read and planned before the wait is old: the other one has copied the same machine meanwhile."""
    runner = begin(start, speeds=Speeds())
    params = {"names": ["a"], "destination": "E:\\Backup", "max_age": "20h", "consistency": "crash"}
    Runner(runner.fleet, runner.running).run(module, **{**params, "names": ["b"]})  # the state folder is there
    hold(runner, "one")
    usual = TestClock.sleep

    def sleep(clock: TestClock, seconds: float) -> None:
        monkeypatch.setattr(TestClock, "sleep", usual)
        Runner(runner.fleet, runner.running).run(module, **params, run_id="one")
        let_go(runner)
        usual(clock, seconds)

    monkeypatch.setattr(TestClock, "sleep", sleep)
    second = runner.run(module, **params, run_id="two", host_limit=1)
    assert runner.told.progress[0] == "the host HV01: all 1 slots are taken, looking again in 5 s"
    assert (second["changed"], second["results"][0]["manifest"]["run_id"], "steps" in second["diff"]["after"]) == (False, "one", False)
    assert left(runner) == []


def test_limits_take_nothing_in_check_mode_or_when_there_is_nothing_to_do(start: Start) -> None:
    runner = begin(start)
    params = {"names": ["a"], "max_age": "20h", "host_limit": 1, "volume_limit": 1}
    copy(runner, **params)
    hold(runner, "other")
    before = runner.running.host.counters.snapshot()
    assert not copy(runner, **params)["changed"]
    assert runner.run(hyperv_vss_copy, **params, destination="E:\\Other", check=True)["changed"]
    assert runner.running.host.counters.since(before).writing == 0


def test_two_nodes_that_copy_one_shared_volume_to_one_share_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, share = "C:\\ClusterStorage\\Volume1", "\\\\NAS\\backup"
    nas = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")), (
        ShareSpec("backup", "E:\\backup", ("EXAMPLE\\HV01$", "EXAMPLE\\HV02$")),))
    nodes = [HostSpec(
        name=name, domain="example.test", accounts=(ADMINISTRATOR,), cluster=ClusterSpec("CL", ("HV01", "HV02")),
        shadow_settings=ShadowSettings(csv_from_any_node=True),
        volumes=(VolumeSpec("C:"), VolumeSpec(path, filesystem="CSVFS", owned=name == "HV01", guid="0000000a-0000-4000-8000-00000000000c")),
        vms=(VmSpec(f"on-{name}", clustered=True, disks=(DiskSpec(f"{path}\\{name}\\a.vhdx"),)),)) for name in ("HV01", "HV02")]
    with Fleet(nodes, tmp_path, file_servers=[nas]) as fleet:
        files, place, met = fleet.file_servers["NAS"].files, "E:\\backup\\agentless.hyperv\\slots", list[in_process.Ending]()

        def work(name: str) -> in_process.Ending:
            params = ModuleArgumentSpecValidator(hyperv_vss_copy.ARGUMENT_SPEC, **hyperv_vss_copy.RULES).validate(
                {"name": f"on-{name}", "destination": share, "volume_limit": 1, "target_wait": 0,
                 "csv_any_node": True}).validated_parameters
            return in_process.run(hyperv_vss_copy.run, params, fleet, fleet.hosts[name])

        usual = in_process.HostTime.sleep

        def sleep(clock: in_process.HostTime, seconds: float) -> None:
            usual(clock, seconds)
            with fleet.locked():
                taken = files.exists(place) and list(files.children(files.resolve(place)))
            if taken and not met:
                monkeypatch.setattr(in_process.HostTime, "sleep", usual)
                met.append(work("HV02"))

        monkeypatch.setattr(in_process.HostTime, "sleep", sleep)
        first = work("HV01")
        assert (first.succeeded, [one.error_code for one in met]) == (True, ["volume_limit_reached"]), (str(first), str(met))
        second = work("HV02")
        assert second.succeeded, str(second)
        assert list(files.children(files.resolve(place))) == []
