# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs in simulated time, and power states that take some."""
from __future__ import annotations

from datetime import timedelta

import pytest
from simulator.cim.model import CimError, Instance, Ref
from simulator.clock import SimClock
from simulator.hyperv.jobs import JobFailure, JobTable
from simulator.hyperv.spec import ComponentSpec, IntegrationSpec, VmSpec
from unit.simulator.hyperv.bench import ADMINISTRATOR, NOBODY, V2, Bench, MakeBench, embedded

GUID = "0A1B2C3D-0000-4000-8000-00000000ABCD"
VM = Ref(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": GUID})
MADE = Ref(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": "Microsoft:1"})


def job_row(host: Bench, ref: object, class_name: str = "Msvm_ConcreteJob") -> Instance:
    assert isinstance(ref, Ref)
    assert ref.class_name == class_name
    return host.repository.get(V2, class_name, dict(ref.keys), ADMINISTRATOR)


def request(host: Bench, state: int) -> dict[str, object]:
    selectors = {"CreationClassName": "Msvm_ComputerSystem", "Name": GUID}
    return dict(host.call("Msvm_ComputerSystem", "RequestStateChange", {"RequestedState": state}, selectors=selectors))


def test_the_life_of_a_job() -> None:
    clock = SimClock()
    done: list[str] = []
    table = JobTable(clock)
    job = table.start(70, 100.0, [VM], effect=lambda: done.append("effect"), created=[MADE])
    seen = []
    for _unused in range(4):
        now = clock.now()
        seen.append((job.state(now), job.percent(now), job.effects()))
        clock.advance(33)
    nothing = [(VM, 0)]
    assert seen == [(2, 0, nothing), (4, 33, nothing), (4, 66, nothing), (4, 99, nothing)]
    assert done == ["effect"]
    assert (job.state(clock.now()), job.percent(clock.now()), job.error_code) == (7, 100, 0)
    assert job.effects() == [(MADE, 5), (VM, 0)]
    assert job.elapsed(clock.now()) == timedelta(seconds=100)


def test_a_finished_job_vanishes_after_five_minutes() -> None:
    clock = SimClock()
    table = JobTable(clock)
    job = table.start(62, 10.0, [VM])
    clock.advance(309.9)
    assert table.get(job.id.lower()) is job
    clock.advance(0.2)
    assert table.get(job.id) is None
    assert table.all() == []


def test_a_failing_job() -> None:
    clock = SimClock()
    table = JobTable(clock)
    undone: list[int] = []

    def fail() -> None:
        raise JobFailure(32774, "locked", hresult=0x80070020)

    job = table.start(62, 10.0, [VM], effect=fail, undo=lambda: undone.append(1), created=[MADE])
    clock.advance(10)
    assert (job.state(clock.now()), job.error_code, undone, job.effects()) == (10, 32774, [1], [(VM, 0)])


@pytest.mark.parametrize(("kill", "answer", "at_once", "later"), [(False, 4096, 6, 8), (True, 0, 9, 9)])
def test_cancelling(kill: bool, answer: int, at_once: int, later: int) -> None:
    clock = SimClock()
    table = JobTable(clock)
    events: list[str] = []
    job = table.start(62, 100.0, [VM], effect=lambda: events.append("effect"), undo=lambda: events.append("undo"))
    clock.advance(40)
    assert table.cancel(job, kill=kill) == answer
    assert job.state(clock.now()) == at_once
    clock.advance(2)
    assert (job.state(clock.now()), job.percent(clock.now()), events) == (later, 40, ["undo"])
    assert table.cancel(job, kill=kill) == 4097
    clock.advance(100)
    assert events == ["undo"]


def test_what_cannot_be_cancelled() -> None:
    table = JobTable(SimClock())
    assert table.cancel(table.start(62, 1.0, [], cancellable=False), kill=False) == 1


def test_a_fault_rule_takes_the_next_job_of_its_type() -> None:
    clock = SimClock()
    table = JobTable(clock)
    table.next_failures.append((62, JobFailure(32768, "told to fail")))
    jobs = [table.start(kind, 1.0, []) for kind in (70, 62, 62)]
    clock.advance(1)
    assert [j.state(clock.now()) for j in jobs] == [7, 10, 7]


def test_a_restart_of_the_service_does_not_hold_up_a_machine_that_is_being_turned_off(bench: MakeBench) -> None:
    host = bench(VmSpec(vm_id=GUID))
    assert request(host, 3)["ReturnValue"] == 4096
    host.role.restart_vmms()
    assert host.row("Msvm_ComputerSystem", Name=GUID)["EnabledState"] == 3


def test_a_restart_of_the_service_loses_all_jobs_and_their_effects(bench: MakeBench) -> None:
    host = bench(VmSpec(vm_id=GUID, busy="merging", busy_minutes=5.0))
    assert request(host, 3)["ReturnValue"] == 32775
    host.role.restart_vmms()
    assert (host.rows("Msvm_ConcreteJob"), host.rows("Msvm_AffectedJobElement")) == ([], [])
    assert host.row("Msvm_ComputerSystem", Name=GUID)["OperationalStatus"] == [2]
    host.clock.advance(600)
    assert request(host, 3)["ReturnValue"] == 4096


def test_the_job_of_a_busy_machine(bench: MakeBench) -> None:
    host = bench(VmSpec(vm_id=GUID, busy="exporting", busy_minutes=10.0, busy_percent=40, busy_owner="CONTOSO\\operator"))
    host.clock.advance(300)
    row = host.rows("Msvm_ConcreteJob")[0]
    assert (row["JobType"], row["JobState"], row["PercentComplete"], row["Owner"]) == (62, 4, 70, "CONTOSO\\operator")
    link = host.rows("Msvm_AffectedJobElement")[0]
    assert (link["AffectedElement"], link["ElementEffects"]) == (VM, [0])
    path = f"Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{GUID}'"
    found = host.query(f"ASSOCIATORS OF {{{path}}} WHERE AssocClass=Msvm_AffectedJobElement")
    assert [r["InstanceID"] for r in found] == [row["InstanceID"]]
    host.clock.advance(301)
    assert host.row("Msvm_ComputerSystem", Name=GUID)["OperationalStatus"] == [2]
    assert host.rows("Msvm_ConcreteJob")[0]["JobState"] == 7
    assert host.rows("Msvm_ConcreteJob", NOBODY) == []


def test_a_job_that_hangs(bench: MakeBench) -> None:
    host = bench(VmSpec(busy="creating_checkpoint"))
    host.clock.advance(100_000)
    row = host.rows("Msvm_ConcreteJob")[0]
    assert (row["JobType"], row["JobState"], row["PercentComplete"], row["Cancellable"]) == (70, 4, 40, True)


def test_errors_of_a_job(bench: MakeBench) -> None:
    host = bench(VmSpec(vm_id=GUID))
    host.role.jobs.next_failures.append((14, JobFailure(32774, "In use <by> 'x' & \"y\"", hresult=0x80070020)))
    job = request(host, 6)["Job"]
    assert isinstance(job, Ref)
    selectors = dict(job.keys)
    assert host.call("Msvm_ConcreteJob", "GetErrorEx", selectors=selectors) == {"Errors": None, "ReturnValue": 0}
    host.clock.advance(60)
    row = job_row(host, job)
    assert (row["JobState"], row["ErrorCode"], row["OperationalStatus"]) == (10, 32774, [6, 1])
    assert row["TimeBeforeRemoval"] == timedelta(minutes=5)
    errors = host.call("Msvm_ConcreteJob", "GetErrorEx", selectors=selectors)["Errors"]
    assert isinstance(errors, list)
    message = "In use <by> 'x' & \"y\" (0x80070020)."
    assert [embedded(e)["Message"] for e in errors] == [message]
    single = host.call("Msvm_ConcreteJob", "GetError", selectors=selectors)["Error"]
    assert single == errors[0]
    formatted = host.call("Msvm_VirtualSystemManagementService", "FormatError", {"Errors": errors})
    assert formatted == {"ErrorMessage": message, "ReturnValue": 0}
    refused = host.call("Msvm_VirtualSystemManagementService", "FormatError", {"Errors": ["<x/>"]})
    assert refused == {"ErrorMessage": None, "ReturnValue": 32773}
    assert host.row("Msvm_ComputerSystem", Name=GUID)["EnabledState"] == 2


def test_cancelling_through_the_job_instance(bench: MakeBench) -> None:
    host = bench(VmSpec(vm_id=GUID, busy="exporting", busy_minutes=10.0))
    selectors = {"InstanceID": str(host.rows("Msvm_ConcreteJob")[0]["InstanceID"])}

    def ask(**parameters: object) -> object:
        return host.call("Msvm_ConcreteJob", "RequestStateChange", parameters, selectors=selectors)["ReturnValue"]  # type: ignore[arg-type]

    assert [ask(RequestedState=3), ask(RequestedState=4, TimeoutPeriod=timedelta(seconds=5)), ask(RequestedState=4)] == [1, 4098, 4096]
    host.clock.advance(2)
    row = host.rows("Msvm_ConcreteJob")[0]
    assert (row["JobState"], row["PercentComplete"], row["Cancellable"]) == (8, 40, False)
    assert host.row("Msvm_ComputerSystem", Name=GUID)["OperationalStatus"] == [2]
    host.clock.advance(300)
    with pytest.raises(CimError) as gone:
        host.call("Msvm_ConcreteJob", "GetErrorEx", selectors=selectors)
    assert gone.value.kind == "not_found"


@pytest.mark.parametrize(("state", "requested", "between", "after"), [
    ("off", 2, 10, 2), ("saved", 2, 10, 2), ("paused", 2, 1, 2), ("running", 3, 4, 3), ("paused", 3, 4, 3), ("running", 4, 4, 3),
    ("running", 6, 1, 6), ("running", 9, 1, 9), ("running", 11, 2, 2),
])
def test_power_changes(bench: MakeBench, state: str, requested: int, between: int, after: int) -> None:
    host = bench(VmSpec(vm_id=GUID, state=state))  # type: ignore[arg-type]
    answer = request(host, requested)
    assert answer["ReturnValue"] == 4096
    assert host.row("Msvm_ComputerSystem", Name=GUID)["EnabledState"] == between
    host.clock.advance(60)
    assert host.row("Msvm_ComputerSystem", Name=GUID)["EnabledState"] == after
    assert job_row(host, answer["Job"])["JobState"] == 7
    assert host.changes == [f"RequestStateChange {requested} {GUID}"]


@pytest.mark.parametrize(("spec", "requested"), [
    (VmSpec(vm_id=GUID), 2), (VmSpec(vm_id=GUID, state="off"), 3), (VmSpec(vm_id=GUID, state="off"), 6),
    (VmSpec(vm_id=GUID), 32768), (VmSpec(vm_id=GUID), 32769), (VmSpec(vm_id=GUID), 1), (VmSpec(vm_id=GUID, busy="exporting"), 3),
    (VmSpec(vm_id=GUID, integration=IntegrationSpec(shutdown=ComponentSpec(enabled=False))), 4),
    (VmSpec(vm_id=GUID, state="off", replication_mode=2), 2),
])
def test_refused_power_changes(bench: MakeBench, spec: VmSpec, requested: int) -> None:
    host = bench(spec)
    assert request(host, requested) == {"Job": None, "ReturnValue": 32775}
    assert host.changes == []


def test_uptime_starts_again(bench: MakeBench) -> None:
    host = bench(VmSpec(vm_id=GUID, state="off"))
    assert host.row("Msvm_ComputerSystem", Name=GUID)["OnTimeInMilliseconds"] == 0
    request(host, 2)
    host.clock.advance(13)
    assert host.row("Msvm_ComputerSystem", Name=GUID)["OnTimeInMilliseconds"] == 10_000
    request(host, 9)
    host.clock.advance(10)
    request(host, 2)
    host.clock.advance(10)
    assert host.row("Msvm_ComputerSystem", Name=GUID)["OnTimeInMilliseconds"] == 30_000


def test_a_machine_that_leaves_while_its_state_changes(bench: MakeBench) -> None:
    host = bench(VmSpec(vm_id=GUID))
    job = request(host, 6)["Job"]
    host.role.remove_vm(GUID)
    host.clock.advance(60)
    assert (job_row(host, job)["JobState"], job_row(host, job)["ErrorCode"]) == (10, 32777)
    with pytest.raises(CimError) as gone:
        request(host, 3)
    assert gone.value.kind == "not_found"
