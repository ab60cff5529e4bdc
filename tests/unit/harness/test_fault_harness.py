# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault harness finds what it is there to find: small operations, each with one fault of its own."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import shadow_copies
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_shadow_copy
from simulator.cim.model import Account, Caller
from simulator.fileserver import FileServerSpec
from simulator.host import SimHost
from simulator.hyperv.spec import VmSpec
from simulator.soap.rules import Effect
from simulator.spec import HostSpec, Quirks
from simulator.windows.spec import ShareSpec, VolumeSpec
from support.fault_harness import (
    FAULTS,
    Case,
    Fault,
    NextRun,
    Operation,
    Recorded,
    Seen,
    cases,
    check,
    record,
    restart_host,
    restart_winrm,
    try_case,
    validated,
)
from support.in_process import ADMINISTRATOR, WrappedLane
from support.leftovers import others_of, problems_on
from support.recording import RecordingLane
from support.windows_host import windows_host

CIMV2 = "root/cimv2"
BY_NAME = {fault.name: fault for fault in FAULTS}
LOST_AFTER, KILLED, GONE = (BY_NAME[name] for name in ("lost after", "controller killed before the answer arrives",
                                                       "unreachable from here on"))


def spec() -> HostSpec:
    return HostSpec("HV01", volumes=(VolumeSpec("C:"), VolumeSpec("D:")), vms=(VmSpec("a", folder="D:\\a"),),
                    quirks=Quirks(split_batches=False))


def nothing(seen: Seen) -> Iterable[str]:
    return ()


def operation(run: Callable[[Call], dict[str, Any]], after: Callable[[Seen], Iterable[str]] = nothing, **changes: Any) -> Operation:
    return Operation(**{"name": "an operation", "spec": spec, "run": run, "params": {}, "clean": nothing, "after": after,
                        "healed": nothing, **changes})


def count_volumes(reader: CimReader) -> int:
    return len(reader.enumerate(CIMV2, "Win32_Volume"))


def looking(call: Call) -> dict[str, Any]:
    """Two requests, and whatever happens is raised."""
    return {"changed": False, "volumes": count_volumes(call.reader), "systems": len(call.reader.enumerate(CIMV2, "Win32_OperatingSystem"))}


def failures(made: Operation, fault: Fault) -> str:
    recorded = record(made)
    with pytest.raises(AssertionError) as found:
        check(made, recorded, fault, most=100)
    return str(found.value)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_an_operation_that_behaves_passes_every_fault(fault: Fault) -> None:
    def honest(seen: Seen) -> Iterator[str]:
        if seen.ending.succeeded and seen.ending.result != {"changed": False, "volumes": 2, "systems": 1}:
            yield "wrong facts"

    made = operation(looking, honest)
    recorded = record(made)
    assert recorded.requests == ("Enumerate Win32_Volume", "Enumerate Win32_OperatingSystem")
    assert check(made, recorded, fault, most=100) == 2


def test_an_error_taken_for_nothing_there_is_a_false_success() -> None:
    def careless(call: Call) -> dict[str, Any]:
        try:
            return {"changed": False, "volumes": count_volumes(call.reader)}
        except HypervError:
            return {"changed": False, "volumes": 0}

    def honest(seen: Seen) -> Iterator[str]:
        if seen.ending.succeeded and seen.ending.result and seen.ending.result["volumes"] != 2:
            yield "a success that knows of no volumes"

    said = failures(operation(careless, honest), BY_NAME["access denied"])
    assert said.startswith("1 of 1 cases failed:\nan operation, request 1 (Enumerate Win32_Volume), access denied:\n")
    assert "after the fault (succeeded): a success that knows of no volumes" in said


def making(clean_up: bool) -> Callable[[Call], dict[str, Any]]:
    """Makes a shadow copy and deletes it; without ``clean_up`` only when nothing went wrong in between."""
    def run(call: Call) -> dict[str, Any]:
        def apply(writer: Any) -> dict[str, Any]:
            made = writer.invoke(Reference(CIMV2, "Win32_ShadowCopy"), "Create", {"Volume": "D:\\", "Context": "ClientAccessible"})
            shadow = made.out.required_text("ShadowID")
            try:
                count_volumes(writer)
            except HypervError:
                if clean_up:
                    shadow_copies.delete(writer, shadow, clock=call.clock)
                raise
            shadow_copies.delete(writer, shadow, clock=call.clock)
            return {}

        return call.conclude(Plan((Step("make", "a shadow copy"),)), apply)

    return run


def nothing_left(seen: Seen) -> Iterator[str]:
    unknown = seen.ending.error is not None and isinstance(seen.ending.error, OutcomeUnknown)
    if seen.host.shadows.copies and not unknown:
        yield "a shadow copy is left"


def test_what_is_left_behind_is_found_at_the_request_that_leaves_it() -> None:
    denied = BY_NAME["access denied"]
    said = failures(operation(making(clean_up=False), nothing_left), denied)
    assert said.startswith("1 of 4 cases failed:\nan operation, request 2 (Enumerate Win32_Volume), access denied:\n")
    tidy = operation(making(clean_up=True), nothing_left)
    assert check(tidy, record(tidy), denied, most=100) == 4


def test_a_killed_controller_sends_nothing_more() -> None:
    sent: list[int] = []

    def left(seen: Seen) -> Iterator[str]:
        sent.append(len(seen.host.shadows.copies))
        return iter(())

    made = operation(making(clean_up=True), left)
    recorded = record(made)
    assert [try_case(made, recorded, case) for case in cases(made, recorded, KILLED, 100)] == [[], [], [], []]
    assert sent == [1, 1, 0, 0], "after Create and the look at volumes the copy is there, for nothing could be cleaned up"


def test_a_handler_that_survives_the_controllers_death_is_a_defect() -> None:
    def immortal(call: Call) -> dict[str, Any]:
        try:
            return looking(call)
        except BaseException:  # noqa: BLE001  # what the test is about
            return {"changed": False}

    assert "the run went on after the controller was killed" in failures(operation(immortal), KILLED)


def test_a_run_that_never_ends_is_ended() -> None:
    def stubborn(call: Call) -> dict[str, Any]:
        while True:
            try:
                return looking(call)
            except HypervError:
                call.clock.sleep(1)

    said = failures(operation(stubborn), GONE)
    assert "TooManyRequests" in said


def test_an_error_of_no_family_is_a_defect_and_a_code_must_be_stable() -> None:
    def crashing(call: Call) -> dict[str, Any]:
        try:
            return looking(call)
        except HypervError:
            raise KeyError("volumes") from None

    def vague(call: Call) -> dict[str, Any]:
        try:
            return looking(call)
        except HypervError as error:
            raise HypervError(f"Something went wrong: {error}") from error

    assert "a defect" in failures(operation(crashing), BY_NAME["access denied"])
    assert "'failed' is no stable error code" in failures(operation(vague), BY_NAME["access denied"])


def test_what_the_next_run_does_not_heal_is_found() -> None:
    def fragile(call: Call) -> dict[str, Any]:
        if shadow_copies.read_shadow_copies(call.reader):
            raise HypervError("There is one already.", error_code="shadow_copy_exists")
        return making(clean_up=False)(call)

    said = failures(operation(fragile), BY_NAME["access denied"])
    assert "request 3 (Enumerate Win32_Volume)" in said
    assert "after the next run: it raised shadow_copy_exists: There is one already." in said


def test_a_host_that_is_at_fault_itself_is_not_tried() -> None:
    def failing(call: Call) -> dict[str, Any]:
        return {"changed": False, "instances": call.reader.enumerate(CIMV2, "Win32_NoSuchClass")}

    with pytest.raises(AssertionError, match="without any fault: the clean run raised"):
        record(operation(failing))


def test_faults_together_reach_nearly_every_request_and_thorough_ones_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAULT_HARNESS", raising=False)
    made, recorded = operation(looking), Recorded(tuple(f"request {number}" for number in range(1, 101)))
    chosen = {fault.name: [case.number for case in cases(made, recorded, fault, 6)] for fault in FAULTS}
    assert len({number for numbers in chosen.values() for number in numbers}) >= 95
    assert {len(chosen[fault.name]) for fault in FAULTS if not fault.thorough} <= {5, 6}
    assert {len(chosen[fault.name]) for fault in FAULTS if fault.thorough} <= {16, 17}
    samples = set()
    for sample in range(17):
        monkeypatch.setenv("FAULT_HARNESS", str(sample))
        samples |= {case.number for case in cases(made, recorded, FAULTS[0], 6)}
    assert samples == set(range(1, 101)), "one sample after the other reaches every request"
    monkeypatch.setenv("FAULT_HARNESS", "all")
    assert [case.number for case in cases(made, recorded, FAULTS[0], 6)] == list(range(1, 101))
    assert str(Case("an operation", 3, "Get X", LOST_AFTER)) == "an operation, request 3 (Get X), lost after"


def test_another_run_may_follow_after_a_pause() -> None:
    times: list[datetime] = []
    begun = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def sweep(call: Call) -> dict[str, Any]:
        times.append(call.clock.utcnow())

        def apply(writer: Any) -> dict[str, Any]:
            for shadow in shadow_copies.read_shadow_copies(writer):
                shadow_copies.delete(writer, shadow.shadow_id, clock=call.clock)
            return {}

        return call.conclude(Plan((Step("delete", "shadow copies"),)), apply)

    def healed(seen: Seen) -> Iterator[str]:
        yield from problems_on(seen.host, seen.witness, destinations=["\\\\NAS\\backup"])
        if len(seen.servers) != 1 or len(seen.host.accounts.accounts) != 2:
            yield "the surroundings are not there"

    nas = FileServerSpec("NAS", None, (VolumeSpec("C:"), VolumeSpec("E:")), (ShareSpec("backup", "E:\\backup"),))
    made = operation(making(clean_up=False), healed=healed, prepare=lambda host: others_of(host, "\\\\NAS\\backup"), file_servers=(nas,),
                     spec=lambda: replace(spec(), start=begun, accounts=(Account("backup", "x"),)), next_run=NextRun(sweep, {}, pause=7200))
    recorded = record(made)
    assert [try_case(made, recorded, case) for case in cases(made, recorded, KILLED, 100)] == [[], [], [], []]
    assert len(times) == 4, "a killed run is never a success"
    assert all(time - begun >= timedelta(hours=2) for time in times)
    lazy = replace(made, next_run=NextRun(looking, {}))
    (first, *_others) = [try_case(lazy, recorded, case) for case in cases(lazy, recorded, KILLED, 100)]
    assert [problem.partition(" {")[0] for problem in first] == ["after the next run: left over: shadow_copy"]


def test_a_run_that_follows_a_success_only_where_it_is_wanted() -> None:
    runs: list[str] = []
    made = operation(looking, next_run=NextRun(lambda call: runs.append("next") or {"changed": False}, {}))
    recorded = record(made)
    harmless = next(fault for fault in FAULTS if fault.name == "management restarts")
    assert [try_case(made, recorded, case) for case in cases(made, recorded, harmless, 100)] == [[], []]
    assert runs == []
    assert try_case(replace(made, always_next=True), recorded, cases(made, recorded, harmless, 100)[0]) == []
    assert runs == ["next"]


def test_a_lane_tells_through_the_harness_that_it_is_encrypted() -> None:
    def sealed(call: Call) -> dict[str, Any]:
        count_volumes(call.reader)
        return {"changed": False, "encrypted": call.reader.session.encrypted}

    def told(seen: Seen) -> Iterator[str]:
        if seen.ending.result != {"changed": False, "encrypted": True}:
            yield f"{seen.ending.result}"

    assert record(operation(sealed, clean=told)).requests == ("Enumerate Win32_Volume",)
    assert WrappedLane(RecordingLane()).encrypted is False


@pytest.mark.parametrize(("restart", "ended"), [(restart_host, ["shell", "task"]), (restart_winrm, ["shell"])])
def test_what_a_restart_ends(tmp_path: Path, restart: Callable[[SimHost], Effect], ended: list[str]) -> None:
    with windows_host(tmp_path, ready=False) as hv, hv.writer.open_shell({}), hv.fleet.locked():
        caller, shells = Caller(ADMINISTRATOR, "ntlm", True), hv.host.service.shells
        going = {"shell": hv.host.processes.start(caller, "more", {}, None, job=shells.all_of(caller)[0].id),
                 "task": hv.host.processes.start(caller, "more", {}, None, job=None)}
        effect = restart(hv.host)
        assert effect.before is not None
        effect.before()
        assert [name for name, process in going.items() if process.exit_code is not None] == ended
        assert shells.all_of(caller) == []


def test_parameters_are_those_of_the_module() -> None:
    assert validated(hyperv_shadow_copy, volume="D:\\")["state"] == "present"
    with pytest.raises(ValueError, match="colour"):
        validated(hyperv_shadow_copy, colour="blue")
