# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scheduled tasks of ours on a simulated host: what is registered, what a lost answer comes to, and what each code means."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, ConnectionFailed, HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import tasks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import (
    SYSTEM,
    RunAs,
    TaskExists,
    TaskLook,
    TaskName,
    TaskVanished,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import Endpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.lane import PywinrmLane
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WsmanSession
from hypothesis import given
from hypothesis import strategies as st
from simulator.cim.model import Caller
from simulator.soap.rules import Effect, access_denied, garbage, lost_after, lost_before, timeout
from simulator.spec import ListenerSpec
from simulator.windows.programs.base import Speeds
from simulator.windows.scheduler.service import SchedulerSettings
from support.recording import ManualClock, RecordingLane
from support.windows_host import ADMINISTRATOR, PASSWORD, WindowsHost, windows_host

GUID = "0A1B2C3D-0000-4000-8000-00000000000F"
NAME = TaskName(GUID, "night-1")
SCRIPT = "C:\\ProgramData\\agentless.hyperv\\jobs\\x\\run.cmd"
START = Callable[..., WindowsHost]
NS = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[START]:
    """Starts one host; it ends with the test."""
    with ExitStack() as stack:
        yield lambda **spec: stack.enter_context(windows_host(tmp_path / "host", **{"ready": False, **spec}))


@pytest.fixture
def hv(start: START) -> WindowsHost:
    """A host on which hashing 60 MiB takes a minute."""
    made = start(speeds=Speeds(hash_bytes_per_second=1024.0, chunk=1024))
    made.put("D:\\big", b"x" * 60 * 1024)
    return made


def script(hv: WindowsHost, *lines: str) -> None:
    hv.put(SCRIPT, "\r\n".join(lines).encode("ascii") + b"\r\n")


SLOW = "@%SystemRoot%\\System32\\certutil.exe -hashfile D:\\big SHA256 >nul"


def registered(hv: WindowsHost, *lines: str, name: TaskName = NAME) -> None:
    script(hv, *lines)
    tasks.register(hv.writer, name, SCRIPT, clock=hv.clock)


def follow(hv: WindowsHost, seconds: float = 3600, name: TaskName = NAME, **options: Any) -> TaskLook:
    return tasks.follow(hv.writer, name, clock=hv.clock, deadline=Deadline(hv.clock, seconds), **options)


# -- pure ----------------------------------------------------------------------------------------------------------------


def test_the_xml_of_a_task() -> None:
    root = ElementTree.fromstring(tasks.task_xml(SCRIPT, SYSTEM, "night-1"))
    settings = {one.tag.partition("}")[2]: one.text for one in root.find("t:Settings", NS) or ()}
    assert settings == {
        "MultipleInstancesPolicy": "IgnoreNew", "DisallowStartIfOnBatteries": "false", "StopIfGoingOnBatteries": "false",
        "AllowHardTerminate": "true", "AllowStartOnDemand": "true", "Enabled": "true", "Hidden": "false", "ExecutionTimeLimit": "PT0S",
        "Priority": "5"}
    assert root.findtext(".//t:Principal/t:UserId", None, NS) == "S-1-5-18"
    assert root.find(".//t:LogonType", NS) is None
    assert root.findtext(".//t:Command", None, NS) == "%SystemRoot%\\System32\\cmd.exe"
    assert root.findtext(".//t:Arguments", None, NS) == f'/d /v:off /c "{SCRIPT}"'


def test_the_xml_for_an_account_names_it_and_never_its_password() -> None:
    text = tasks.task_xml(SCRIPT, RunAs("EX<&>\\b", "s3cret&"), "r")
    root = ElementTree.fromstring(text)
    assert (root.findtext(".//t:UserId", None, NS), root.findtext(".//t:LogonType", None, NS)) == ("EX<&>\\b", "Password")
    assert "s3cret" not in text
    assert "s3cret" not in repr(RunAs("EX\\b", "s3cret&"))


@pytest.mark.parametrize("path", ["C:\\a b\\run.cmd", "C:\\%TEMP%\\run.cmd", "C:\\a&b\\run.cmd", "\\\\s\\x\\run.cmd", "run.cmd", 'C:\\a"b',
                                  "C:\\a\\run.cmd\n", "C:\\\u00e9\\run.cmd"])
def test_only_plain_paths_stand_in_a_task(path: str) -> None:
    with pytest.raises(ValueError, match="not the path"):
        tasks.task_xml(path, SYSTEM, "r")


@pytest.mark.parametrize("name", [TaskName(GUID, "night-1"), TaskName("host", "a", "list"), TaskName(GUID.lower(), "x" * 40, "copy")])
def test_names_are_read_as_they_were_written(name: TaskName) -> None:
    assert tasks.parse_name(name.text) == name


@pytest.mark.parametrize("parts", [("x", "a"), (GUID, ""), (GUID, "a_b"), (GUID, "a" * 41), (GUID, "-a"), (GUID, "a", "X"),
                                   (GUID + "\\", "a")])
def test_names_that_are_none(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="not the name"):
        TaskName(*parts)


@given(st.text())
def test_any_text_is_a_name_or_not(text: str) -> None:
    name = tasks.parse_name(text)
    assert name is None or name.text == text


def test_an_account_needs_its_password() -> None:
    for account, password in (("x", None), (None, "x")):
        with pytest.raises(ValueError, match="belong together"):
            RunAs(account, password)


@pytest.mark.parametrize(("result", "code"), [
    (0x41306, "task_stopped"), (0x41303, "task_not_started"), (0x80070002, "task_program_missing"), (0x8007052E, "task_logon_failed"),
    (0x80070569, "task_logon_right"), (0x80041324, "task_condition"), (1, "task_no_result"), (None, "task_no_result"),
])
def test_why_there_is_no_result(hv: WindowsHost, result: int | None, code: str) -> None:
    look = TaskLook("x", tasks.READY, "", result, hv.clock.utcnow())
    assert tasks.why_no_result(look, last_boot=hv.clock.utcnow() - timedelta(days=1)).error_code == code
    assert tasks.why_no_result(look, last_boot=hv.clock.utcnow() + timedelta(seconds=1)).error_code == "host_restarted"
    assert tasks.why_no_result(replace(look, last_run=None), last_boot=hv.clock.utcnow()).error_code == code
    assert tasks.why_no_result(None).error_code == "task_vanished"


# -- one task ------------------------------------------------------------------------------------------------------------


def test_a_task_from_its_registration_to_its_removal(hv: WindowsHost) -> None:
    assert tasks.find(hv.writer, NAME) is None
    registered(hv, "@echo off", SLOW, "exit /b 7")
    ready = tasks.find(hv.writer, NAME)
    assert ready == TaskLook(NAME.text, tasks.READY, f'/d /v:off /c "{SCRIPT}"', tasks.HAS_NOT_RUN, None)
    tasks.start(hv.writer, NAME, clock=hv.clock)
    told: list[tuple[int, int]] = []
    end = follow(hv, progress=lambda now: told.append((now.look.state, round(now.seconds))))
    assert (end.running, end.last_result, end.has_run) == (False, 7, True)
    assert told[0] == (tasks.RUNNING, 0)
    assert [state for state, _seconds in told] == [tasks.RUNNING] * (len(told) - 1) + [tasks.READY]
    gaps = [later - earlier for (_state, earlier), (_next, later) in pairwise(told)]
    assert gaps == sorted(gaps)
    assert max(gaps) <= 30
    assert [look.name for look in tasks.list_ours(hv.writer)] == [NAME.text]
    tasks.delete(hv.writer, NAME)
    tasks.delete(hv.writer, NAME)
    assert (tasks.find(hv.writer, NAME), tasks.list_ours(hv.writer)) == (None, ())


def test_following_costs_one_request_a_look(hv: WindowsHost) -> None:
    registered(hv, SLOW)
    tasks.start(hv.writer, NAME, clock=hv.clock)
    hv.clock.sleep(2)
    before = hv.host.counters.snapshot()
    assert follow(hv, 10).running
    spent = hv.host.counters.since(before)
    assert (spent.requests, spent.writing) == (7, 0)
    assert set(spent.by_operation) == {"Get"}


def test_a_deadline_leaves_the_task_alone(hv: WindowsHost) -> None:
    registered(hv, SLOW)
    tasks.start(hv.writer, NAME, clock=hv.clock)
    assert follow(hv, 5).running
    assert follow(hv, started=False).last_result == 0


def test_a_task_of_the_name_is_not_replaced(hv: WindowsHost) -> None:
    registered(hv, SLOW)
    with pytest.raises(TaskExists):
        tasks.register(hv.writer, NAME, SCRIPT, clock=hv.clock)


def test_stopping_what_does_not_run_is_fine(hv: WindowsHost) -> None:
    tasks.stop(hv.writer, NAME)
    registered(hv, SLOW)
    tasks.stop(hv.writer, NAME)
    tasks.start(hv.writer, NAME, clock=hv.clock)
    hv.clock.sleep(3)
    tasks.stop(hv.writer, NAME)
    end = follow(hv)
    assert end.last_result == 0x41306
    assert tasks.why_no_result(end).error_code == "task_stopped"


def test_both_forms_of_a_refusal_are_understood(start: START) -> None:
    hv = start(tasks=SchedulerSettings(failures="return_value"))
    with pytest.raises(TaskVanished):
        tasks.start(hv.writer, NAME, clock=hv.clock)
    registered(hv, "exit /b 0")
    with pytest.raises(TaskExists):
        tasks.register(hv.writer, NAME, SCRIPT, clock=hv.clock)
    tasks.stop(hv.writer, NAME)


def test_an_ordinary_account_is_refused(start: START) -> None:
    hv = start(user="clerk")
    with pytest.raises(AccessDenied):
        tasks.register(hv.writer, NAME, SCRIPT, clock=hv.clock)


def test_a_task_runs_on_a_battery(start: START) -> None:
    hv = start(tasks=SchedulerSettings(on_battery=True))
    registered(hv, "@exit /b 3")
    tasks.start(hv.writer, NAME, clock=hv.clock)
    assert follow(hv).last_result == 3


# -- accounts ------------------------------------------------------------------------------------------------------------


def test_a_task_of_an_account(hv: WindowsHost) -> None:
    script(hv, "@whoami >D:\\who.txt")
    tasks.register(hv.writer, NAME, SCRIPT, RunAs("EXAMPLE\\backup", PASSWORD), clock=hv.clock)
    tasks.start(hv.writer, NAME, clock=hv.clock)
    assert follow(hv).last_result == 0
    assert (hv.read("D:\\who.txt") or b"").lower() == b"example\\backup\r\n"


@pytest.mark.parametrize(("account", "password", "code"), [
    ("EXAMPLE\\backup", "wrong-Pa55", "task_logon_failed"), ("EXAMPLE\\nobody", "x-Pa55", "task_account_unknown")])
def test_a_wrong_account_is_tried_once(hv: WindowsHost, account: str, password: str, code: str) -> None:
    before = hv.host.counters.snapshot()
    with pytest.raises(HypervError) as error:
        tasks.register(hv.writer, NAME, SCRIPT, RunAs(account, password), clock=hv.clock)
    assert error.value.error_code == code
    assert hv.host.counters.since(before).by_operation["Invoke PS_ScheduledTask.RegisterByXml"] == 1
    assert password not in f"{error.value!r} {error.value.as_result()} {error.value.__cause__!r}"
    assert hv.tasks() == []


def test_a_password_does_not_travel_in_the_open(start: START) -> None:
    hv = start(listener=ListenerSpec(schemes=("Basic",), allow_unencrypted=True), transport="basic")
    script(hv, "@exit /b 0")
    with pytest.raises(HypervError) as error:
        tasks.register(hv.writer, NAME, SCRIPT, RunAs("EXAMPLE\\backup", PASSWORD), clock=hv.clock)
    assert error.value.error_code == "channel_not_encrypted"
    assert set(hv.host.counters.by_operation) == {"Get"}
    tasks.register(hv.writer, NAME, SCRIPT, clock=hv.clock)
    assert hv.tasks() == [NAME.text]


def test_a_lane_that_does_not_say_counts_as_open() -> None:
    clock = ManualClock()
    assert WsmanSession(RecordingLane(), clock).encrypted is False


def test_sealed_messages_and_tls_count_as_encrypted(hv: WindowsHost) -> None:
    assert hv.writer.session.encrypted is False, "without a connection nobody knows"
    tasks.find(hv.writer, NAME)
    assert hv.writer.session.encrypted is True
    assert PywinrmLane(Endpoint(scheme="https", host="hv", port=5986, username="x", password="x")).encrypted is True


# -- faults --------------------------------------------------------------------------------------------------------------

REGISTER, START_TASK, DELETE = "Invoke PS_ScheduledTask.RegisterByXml", "Invoke PS_ScheduledTask.StartByPath", "Delete"


@pytest.mark.parametrize("effect", [lost_after(), lost_before(), timeout(executed=True), timeout(executed=False)], ids=lambda one: one.name)
@pytest.mark.parametrize("operation", [REGISTER, START_TASK])
def test_a_lost_answer_comes_to_one_task_and_one_run(hv: WindowsHost, effect: Any, operation: str) -> None:
    hv.host.rules.add(effect, operation)
    registered(hv, "@echo run>>D:\\runs.txt")
    tasks.start(hv.writer, NAME, clock=hv.clock)
    assert follow(hv).last_result == 0
    assert hv.tasks() == [NAME.text]
    assert hv.read("D:\\runs.txt") == b"run\r\n"


def test_a_registration_that_arrives_late(hv: WindowsHost) -> None:
    script(hv, "@exit /b 0")

    def late(_view: object) -> bool:
        hv.host.tasks.clock.call_later(5, lambda: tasks_of(hv).register(Caller(ADMINISTRATOR, "ntlm", True), xml, path=tasks.FOLDER,
                                                                        name=NAME.text))
        return True

    xml = tasks.task_xml(SCRIPT, SYSTEM, NAME.run_id)
    hv.host.rules.add(timeout(executed=False), REGISTER, when=late)
    tasks.register(hv.writer, NAME, SCRIPT, clock=hv.clock)
    assert hv.tasks() == [NAME.text]


def tasks_of(hv: WindowsHost) -> Any:
    return hv.host.tasks


@pytest.mark.parametrize("executed", [True, False])
def test_a_lost_delete(hv: WindowsHost, executed: bool) -> None:
    registered(hv, "@exit /b 0")
    hv.host.rules.add(timeout(executed=executed), DELETE)
    tasks.delete(hv.writer, NAME)
    assert hv.tasks() == []


def test_another_task_of_the_name_after_a_lost_answer(hv: WindowsHost) -> None:
    tasks.register(hv.writer, NAME, SCRIPT.replace("\\x\\", "\\other\\"), clock=hv.clock)
    hv.host.rules.add(timeout(executed=False), REGISTER)
    with pytest.raises(TaskExists):
        tasks.register(hv.writer, NAME, SCRIPT, clock=hv.clock)


def test_a_task_that_vanishes(hv: WindowsHost) -> None:
    registered(hv, SLOW)
    tasks.start(hv.writer, NAME, clock=hv.clock)
    hv.host.tasks.clock.call_later(20, lambda: tasks_of(hv).delete(tasks_of(hv).tasks()[0]))
    with pytest.raises(TaskVanished):
        follow(hv)
    with pytest.raises(TaskVanished):
        tasks.start(hv.writer, NAME, clock=hv.clock)


def test_a_host_that_restarts(hv: WindowsHost) -> None:
    registered(hv, SLOW)
    tasks.start(hv.writer, NAME, clock=hv.clock)
    hv.host.tasks.clock.call_later(20, hv.host.restart)
    end = follow(hv)
    assert (end.running, end.last_result) == (False, 0x40010004)
    assert tasks.why_no_result(end).error_code == "task_no_result"


def test_a_start_that_comes_to_nothing(start: START) -> None:
    hv = start(tasks=SchedulerSettings(start_lag=10**6))
    registered(hv, "@exit /b 0")
    tasks.start(hv.writer, NAME, clock=hv.clock)
    with pytest.raises(HypervError) as error:
        follow(hv)
    assert error.value.error_code == "task_not_started"


def test_a_script_that_is_not_there(hv: WindowsHost) -> None:
    tasks.register(hv.writer, NAME, SCRIPT, clock=hv.clock)
    tasks.start(hv.writer, NAME, clock=hv.clock)
    assert follow(hv).last_result not in (0, None)


def test_following_outlives_some_broken_connections(hv: WindowsHost) -> None:
    registered(hv, SLOW)
    tasks.start(hv.writer, NAME, clock=hv.clock)
    rule = hv.host.rules.add(lost_before(), "Get", nth=3, times=tasks.LOST_LOOKS)
    assert follow(hv).last_result == 0
    assert rule.fired == tasks.LOST_LOOKS
    hv.host.rules.add(lost_before(), "Get", times=None)
    with pytest.raises(ConnectionFailed):
        follow(hv)


@pytest.mark.parametrize("effect", [access_denied, garbage, lost_after])
def test_one_look_that_fails_is_no_end(hv: WindowsHost, effect: Callable[[], Effect]) -> None:
    registered(hv, SLOW)
    tasks.start(hv.writer, NAME, clock=hv.clock)
    hv.host.rules.add(effect(), "Get", nth=2)
    assert follow(hv).last_result == 0


def test_access_that_is_denied_for_good_ends_the_following_and_not_the_task(hv: WindowsHost) -> None:
    registered(hv, SLOW)
    tasks.start(hv.writer, NAME, clock=hv.clock)
    hv.host.rules.add(access_denied(), "Get", times=None)
    with pytest.raises(AccessDenied):
        follow(hv)
    assert hv.tasks() == [NAME.text]
