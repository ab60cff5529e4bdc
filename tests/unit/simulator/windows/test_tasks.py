# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks of the simulated host: states and results over time, accounts, policies, what survives what."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from simulator.cim.errors import SimulatorGap
from simulator.cim.model import Caller, CimError
from simulator.host import SimHost
from simulator.windows.acl import FULL, Ace, Acl
from simulator.windows.scheduler.cim import NAMESPACE, ScheduledTasks
from simulator.windows.scheduler.codes import TaskError
from simulator.windows.scheduler.service import SchedulerSettings
from unit.simulator.windows.task_helpers import (
    ACCOUNTS,
    CALLER,
    CLERK,
    FOLDER,
    SECRET,
    SETTINGS,
    call,
    info,
    make_host,
    register,
    run_task,
    state,
    task_xml,
)

START = datetime(2026, 3, 1, 22, 0, 0, tzinfo=UTC)
SLEEP = "/d /c C:\\Windows\\System32\\certutil.exe -hashfile D:\\big SHA256"
"""Hashes a file of 4000 MiB of holes: ten seconds of simulated time."""


@pytest.fixture
def host(tmp_path: Path) -> SimHost:
    made = make_host(tmp_path)
    made.files.write_file("D:\\big", b"x")
    with made.files.real_path("D:\\big").open("r+b") as stream:
        stream.truncate(64 * 1024**2)
    made.processes.speeds = type(made.processes.speeds)(hash_bytes_per_second=6.4 * 1024**2)
    return made


@contextmanager
def refused(code: int) -> Iterator[None]:
    """A fault with this HRESULT."""
    with pytest.raises(CimError) as caught:
        yield
    assert f"0x{caught.value.hresult or 0:08X}" == f"0x{code:08X}"


# -- time ------------------------------------------------------------------------------------------------------------


def test_states_and_results_over_time(host: SimHost) -> None:
    register(host, task_xml(SLEEP))
    seen = []

    def look() -> None:
        now = info(host)
        seen.append((state(host), now["LastTaskResult"], now["LastRunTime"]))

    look()
    call(host, "StartByPath", TaskName="copy", TaskPath=FOLDER)
    look()
    host.clock.advance(0.5)
    look()
    host.clock.advance(9.9)
    look()
    host.clock.advance(0.2)
    look()
    never, began = datetime(1999, 11, 30, tzinfo=UTC), START.replace(microsecond=500_000)
    assert seen == [(3, 0x41303, never), (3, 0x41303, never), (4, 0x41301, began), (4, 0x41301, began), (3, 0, began)]


@pytest.mark.parametrize(("arguments", "result"), [
    ("/d /c exit 0", 0), ("/d /c exit 7", 7), ("/d /c exit -1", 0xFFFFFFFF), ("/d /c certutil -hashfile D:\\none", 0x80070002),
    ("/d /c nosuchprogram", 1), ("/d /c exit 267009", 0x41301),
])
def test_the_exit_code_is_the_result(host: SimHost, arguments: str, result: int) -> None:
    expected = 9009 if "nosuch" in arguments else result
    assert run_task(host, task_xml(arguments)) == expected
    assert state(host) == 3


@pytest.mark.parametrize(("command", "directory", "result"), [
    ("C:\\none.exe", None, 0x80070002), ("C:\\none\\none.exe", None, 0x80070003), ("cmd.exe", None, 0), ("cmd", None, 0),
    ('"C:\\Windows\\System32\\cmd.exe"', None, 0), ("%NOSUCH%\\cmd.exe", None, 0x80070003),
    ("%SystemRoot%\\System32\\cmd.exe", "%windir%", 0),
    ("cmd.exe", "C:\\none", 0x8007010B), ("cmd.exe", '"C:\\Windows"', 0),
])
def test_what_cannot_be_started(host: SimHost, command: str, directory: str | None, result: int) -> None:
    assert run_task(host, task_xml(command=command, directory=directory)) == result


def test_a_command_line_that_is_too_long_cannot_be_started(host: SimHost) -> None:
    assert run_task(host, task_xml("/d /c exit 3 & rem " + "x" * 8000), "fits") == 3
    assert run_task(host, task_xml("/d /c exit 3 & rem " + "x" * 9000), "cmd") == 1
    assert run_task(host, task_xml("x" * 33000), "process") == 0x800700CE


@pytest.mark.parametrize(("arguments", "printed"), [
    ('/d /c echo "%ProgramData%" > D:\\out', '"C:\\ProgramData" '), ("/d /c echo %NOSUCH% > D:\\out", "%NOSUCH% "),
    ("/d /c echo 100% of %% %os% > D:\\out", "100% of %% Windows_NT "), ("/d /c echo %USERNAME% > D:\\out", "SYSTEM "),
])
def test_names_are_expanded_even_inside_quotes(host: SimHost, arguments: str, printed: str) -> None:
    assert run_task(host, task_xml(arguments)) == 0
    assert host.files.read_file("D:\\out") == printed.encode() + b"\r\n"


def test_several_actions_run_one_after_the_other(host: SimHost) -> None:
    actions = "".join(f"<Exec><Command>cmd.exe</Command><Arguments>/d /c echo a{n}&gt;&gt;D:\\out &amp; exit {n}</Arguments></Exec>"
                      for n in (1, 2))
    assert run_task(host, task_xml(actions=f"<Actions>{actions}</Actions>")) == 2
    assert host.files.read_file("D:\\out") == b"a1 \r\na2 \r\n"


@pytest.mark.parametrize(("settings", "seconds"), [("", 40.0), ("<Priority>7</Priority>", 40.0), ("<Priority>6</Priority>", 10.0)])
def test_the_default_priority_is_slow(host: SimHost, settings: str, seconds: float) -> None:
    battery = "<DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>"
    register(host, task_xml(SLEEP, settings=battery + settings))
    call(host, "StartByPath", TaskName="copy", TaskPath=FOLDER)
    host.clock.advance(seconds)
    assert state(host) == 4
    host.clock.advance(1.0)
    assert (state(host), info(host)["LastTaskResult"]) == (3, 0)


@pytest.mark.parametrize(("settings", "at", "expected"), [
    ("<ExecutionTimeLimit>PT5S</ExecutionTimeLimit>", 5.4, (4, 0x41301)),
    ("<ExecutionTimeLimit>PT5S</ExecutionTimeLimit>", 5.6, (3, 0x41306)),
    ("<ExecutionTimeLimit>PT0S</ExecutionTimeLimit>", 300 * 3600.0, (4, 0x41301)), ("", 72 * 3600.0, (4, 0x41301)),
    ("", 72 * 3600.0 + 1, (3, 0x41306)),
    ("<ExecutionTimeLimit>PT5S</ExecutionTimeLimit><AllowHardTerminate>false</AllowHardTerminate>", 60.0, (4, 0x41301)),
])
def test_the_time_limit_is_72_hours_unless_said_otherwise(host: SimHost, settings: str, at: float, expected: tuple[int, int]) -> None:
    wait = "/d /c robocopy D:\\none D:\\there /R:1000000 /W:1000"
    host.files.create_directory("D:\\none")
    host.files.write_file("D:\\none\\locked", b"x")
    host.files.hold(host.files.resolve("D:\\none\\locked"), "somebody", share_read=False)
    register(host, task_xml(wait, settings=settings))
    call(host, "StartByPath", TaskName="copy", TaskPath=FOLDER)
    host.clock.advance(at)
    assert (state(host), info(host)["LastTaskResult"]) == expected


# -- several instances, stopping, removing ---------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "running_then", "runs"), [("IgnoreNew", 1, 1), ("", 1, 1), ("Parallel", 2, 2), ("StopExisting", 1, 2),
                                                              ("Queue", 1, 2)])
def test_a_second_start_while_it_runs(host: SimHost, policy: str, running_then: int, runs: int) -> None:
    chosen = f"<MultipleInstancesPolicy>{policy}</MultipleInstancesPolicy>" if policy else ""
    register(host, task_xml(SLEEP + " && echo done >> D:\\done", settings=SETTINGS + chosen))
    call(host, "StartByPath", TaskName="copy", TaskPath=FOLDER)
    host.clock.advance(5)
    call(host, "StartByPath", TaskName="copy", TaskPath=FOLDER)
    host.clock.advance(1)
    assert len(host.processes.running()) == running_then
    host.clock.advance(60)
    assert host.processes.running() == []
    finished = host.files.read_file("D:\\done").count(b"done")
    assert finished == (1 if policy == "StopExisting" else runs)
    assert (state(host), info(host)["LastTaskResult"]) == (3, 0)


def test_stop_ends_the_program_and_says_so(host: SimHost) -> None:
    register(host, task_xml(SLEEP))
    with refused(0x8004130B):
        call(host, "StopByPath", TaskName="copy", TaskPath=FOLDER)
    call(host, "StartByPath", TaskName="copy", TaskPath=FOLDER)
    host.clock.advance(3)
    assert len(host.processes.running()) == 1
    call(host, "StopByPath", TaskName="copy", TaskPath=FOLDER)
    assert host.processes.running() == []
    assert (state(host), info(host)["LastTaskResult"]) == (3, 0x41306)


def test_a_removed_task_is_gone_and_its_program_goes_on(host: SimHost) -> None:
    register(host, task_xml(SLEEP + " && echo done > D:\\done"))
    call(host, "StartByPath", TaskName="copy", TaskPath=FOLDER)
    host.clock.advance(3)
    host.repository.delete(NAMESPACE, "MSFT_ScheduledTask", {"TaskName": "copy", "TaskPath": FOLDER}, CALLER)
    with refused(0x80070002):
        info(host)
    host.clock.advance(20)
    assert host.files.exists("D:\\done")
    assert "\\agentless.hyperv\\" in host.tasks.folders


@pytest.mark.parametrize(("method", "code"), [
    ("StartByPath", 0x80070002), ("StopByPath", 0x80070002), ("GetInfoByName", 0x80070002), ("ExportByName", 0x80070002),
    ("EnableByName", 0x80070490), ("DisableByName", 0x80070490),
])
def test_a_task_that_is_not_there(host: SimHost, method: str, code: int) -> None:
    with refused(code):
        call(host, method, TaskName="none", TaskPath=FOLDER)


@pytest.mark.parametrize("method", ["RegisterByObject", "StartByObject", "New", "NewSettings", "SetByUser"])
def test_what_is_not_imitated_is_no_answer(host: SimHost, method: str) -> None:
    with pytest.raises(SimulatorGap):
        call(host, method)


def test_a_class_has_no_other_method(host: SimHost) -> None:
    for method in ("StartByName", "StopByName", "Unregister", "Delete"):
        with pytest.raises(CimError) as caught:
            call(host, method, TaskName="copy", TaskPath=FOLDER)
        assert caught.value.kind == "method_not_found"


def test_refusals_can_also_be_return_values(tmp_path: Path) -> None:
    host = make_host(tmp_path, tasks=SchedulerSettings(failures="return_value"))
    outs = host.repository.invoke(NAMESPACE, "PS_ScheduledTask", {}, "StartByPath", {"TaskName": "none"}, CALLER)
    assert [(param.name, value) for param, value in outs] == [("ReturnValue", 0x80070002)]


# -- registration ----------------------------------------------------------------------------------------------------


def test_force_replaces_and_without_it_the_name_is_taken(host: SimHost) -> None:
    register(host, task_xml("/c exit 1"))
    for again in ({}, {"Force": False}):
        with refused(0x800700B7):
            register(host, task_xml("/c exit 2"), "COPY", "agentless.hyperv", **again)
    assert run_task(host, task_xml("/c exit 3"), Force=True) == 3
    assert [task.uri for task in host.tasks.tasks()] == ["\\agentless.hyperv\\copy"]


@pytest.mark.parametrize(("path", "name", "uri", "expected"), [
    (FOLDER, "copy", None, "\\agentless.hyperv\\copy"), ("agentless.hyperv", "copy", None, "\\agentless.hyperv\\copy"),
    (None, "copy", None, "\\copy"), ("\\", "copy", None, "\\copy"), (None, None, "\\a\\b\\c", "\\a\\b\\c"),
    (FOLDER, "x y_ü", "\\other", "\\agentless.hyperv\\x y_ü"), (FOLDER, "a:b", None, None), (FOLDER, "a*", None, None),
    (None, None, None, None), (FOLDER, "", None, None),
])
def test_names(host: SimHost, path: str | None, name: str | None, uri: str | None, expected: str | None) -> None:
    xml = task_xml(extra=f"<RegistrationInfo><URI>{uri}</URI></RegistrationInfo>" if uri else "")
    given = {key: value for key, value in (("TaskPath", path), ("TaskName", name)) if value is not None}
    if expected is None:
        with refused(0x8007007B):
            call(host, "RegisterByXml", Xml=xml, **given)
        return
    call(host, "RegisterByXml", Xml=xml, **given)
    assert [task.uri for task in host.tasks.tasks()] == [expected]


def test_only_administrators_register_and_delete(host: SimHost) -> None:
    with pytest.raises(TaskError) as denied:
        host.tasks.register(CLERK, task_xml(), name="copy", path=FOLDER)
    assert denied.value.hresult == 0x80070005
    register(host, task_xml())
    with pytest.raises(CimError) as caught:
        host.repository.enumerate(NAMESPACE, "MSFT_ScheduledTask", CLERK)
    assert caught.value.kind == "access_denied"
    row = host.repository.get(NAMESPACE, "MSFT_ScheduledTask", {"TaskName": "copy", "TaskPath": FOLDER}, CALLER)
    with refused(0x80070005):
        ScheduledTasks(host.tasks).delete(row, CLERK)


def test_disabled_tasks_and_tasks_without_start_on_demand_are_not_started(host: SimHost) -> None:
    register(host, task_xml(settings=SETTINGS + "<Enabled>false</Enabled>"), "off")
    register(host, task_xml(settings=SETTINGS + "<AllowStartOnDemand>false</AllowStartOnDemand>"), "never")
    assert [state(host, name) for name in ("off", "never")] == [1, 3]
    for name, code in (("off", 0x80041326), ("never", 0x80041328)):
        with refused(code):
            call(host, "StartByPath", TaskName=name, TaskPath=FOLDER)
    call(host, "EnableByName", TaskName="off", TaskPath=FOLDER)
    call(host, "StartByPath", TaskName="off", TaskPath=FOLDER)
    call(host, "DisableByName", TaskName="never", TaskPath=FOLDER)
    assert [state(host, name) for name in ("off", "never")] == [3, 1]


def test_batteries(tmp_path: Path) -> None:
    host = make_host(tmp_path, tasks=SchedulerSettings(on_battery=True))
    assert run_task(host, task_xml(settings="")) == 0x80041324
    assert run_task(host, task_xml(settings=SETTINGS), Force=True) == 0
    host.tasks.power(on_battery=False)
    wait = "/d /c robocopy C:\\Windows \\\\none\\x /R:9 /W:100"
    for name, settings in (("stops", ""), ("stays", "<StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>")):
        register(host, task_xml(wait, settings=settings), name)
        call(host, "StartByPath", TaskName=name, TaskPath=FOLDER)
    host.clock.advance(2)
    host.tasks.power(on_battery=True)
    assert [(state(host, name), info(host, name)["LastTaskResult"]) for name in ("stops", "stays")] == [(3, 0x41306), (4, 0x41301)]


# -- accounts --------------------------------------------------------------------------------------------------------

def principal(user: str, logon: str | None = None, *, highest: bool = True) -> str:
    kind = f"<LogonType>{logon}</LogonType>" if logon else ""
    level = "HighestAvailable" if highest else "LeastPrivilege"
    return f'<Principal id="A"><UserId>{user}</UserId>{kind}<RunLevel>{level}</RunLevel></Principal>'


@pytest.mark.parametrize(("user", "parameters", "name"), [
    ("S-1-5-18", {}, "nt authority\\system"), ("SYSTEM", {}, "nt authority\\system"), ("NT AUTHORITY\\SYSTEM", {}, "nt authority\\system"),
    ("S-1-5-18", {"User": "EXAMPLE\\backup", "Password": SECRET}, "example\\backup"),
    ("EXAMPLE\\backup", {"Password": SECRET}, "example\\backup"),
    ("backup@example.test", {"Password": SECRET}, "example\\backup"), ("EXAMPLE\\copier", {"Password": SECRET}, "example\\copier"),
    ("Administrator", {"Password": SECRET}, "hv1\\administrator"), ("HV1\\administrator", {"Password": SECRET}, "hv1\\administrator"),
    (".\\Administrator", {"Password": SECRET}, "hv1\\administrator"),
])
def test_whom_a_task_runs_as(host: SimHost, user: str, parameters: dict[str, str], name: str) -> None:
    host.files.set_acl(host.files.resolve("D:\\"), Acl((Ace("S-1-1-0", FULL, frozenset({"OI", "CI"})),)))
    assert run_task(host, task_xml("/d /c whoami > D:\\who", principal=principal(user)), **parameters) == 0
    assert host.files.read_file("D:\\who").decode().strip().lower() == name


@pytest.mark.parametrize(("user", "logon", "parameters", "code"), [
    ("EXAMPLE\\backup", None, {"Password": "wrong"}, 0x8007052E), ("EXAMPLE\\backup", "Password", {}, 0x8007052E),
    ("Nobody", None, {}, 0x80070534), ("S-1-5-21-1-2-3-1000", None, {}, 0x80070534),
    ("EXAMPLE\\none", None, {"Password": SECRET}, 0x80070534),
    ("S-1-5-18", None, {"User": "EXAMPLE\\backup", "Password": "wrong"}, 0x8007052E),
])
def test_accounts_that_are_refused(host: SimHost, user: str, logon: str | None, parameters: dict[str, str], code: int) -> None:
    with refused(code):
        register(host, task_xml(principal=principal(user, logon)), **parameters)
    assert host.tasks.tasks() == []


def test_an_account_without_the_right_to_log_on_as_a_batch_job(host: SimHost) -> None:
    assert run_task(host, task_xml(principal=principal("HV1\\clerk")), Password=SECRET) == 0x80070569
    assert state(host) == 3
    clerk = next(account for account in ACCOUNTS if account.name == "clerk")
    host.accounts.accounts[3] = replace(clerk, batch_logon=True)
    assert run_task(host, task_xml(principal=principal("HV1\\clerk")), Password=SECRET, Force=True) == 0
    host.accounts.accounts[0] = replace(host.accounts.accounts[0], batch_logon=False)
    assert run_task(host, task_xml(principal=principal("Administrator")), Password=SECRET, Force=True) == 0x80070569


def test_a_password_that_was_changed_since(host: SimHost) -> None:
    register(host, task_xml(principal=principal("Administrator")), Password=SECRET)
    host.accounts.accounts[0] = replace(host.accounts.accounts[0], password="new")
    call(host, "StartByPath", TaskName="copy", TaskPath=FOLDER)
    host.clock.advance(1)
    assert info(host)["LastTaskResult"] == 0x8007052E


def test_a_password_is_shown_nowhere(host: SimHost) -> None:
    register(host, task_xml(principal=principal("EXAMPLE\\backup")), Password=SECRET)
    row = host.repository.get(NAMESPACE, "MSFT_ScheduledTask", {"TaskName": "copy", "TaskPath": FOLDER}, CALLER)
    shown = f"{row} {call(host, 'ExportByName', TaskName='copy', TaskPath=FOLDER)} {host.tasks.tasks()} {list(host.recent_changes)}"
    assert SECRET not in shown


@pytest.mark.parametrize(("user", "highest", "result"), [
    ("S-1-5-18", True, 0), ("Administrator", False, 0), ("EXAMPLE\\backup", True, 0), ("EXAMPLE\\backup", False, 5),
    ("EXAMPLE\\copier", True, 5),
])
def test_rights_of_a_run(host: SimHost, user: str, highest: bool, result: int) -> None:
    """Only with HighestAvailable does an administrator other than the built-in one get his full token."""
    arguments = "/d /c mkdir C:\\Windows\\mine || exit 5"
    password = {} if user.startswith("S-") else {"Password": SECRET}
    assert run_task(host, task_xml(arguments, principal=principal(user, highest=highest)), **password) == result


@pytest.mark.parametrize("logon", ["InteractiveToken", "InteractiveTokenOrPassword", None])
def test_a_run_that_needs_somebody_logged_on_is_no_answer(host: SimHost, logon: str | None) -> None:
    register(host, task_xml(principal=principal("Administrator", logon)))
    with pytest.raises(SimulatorGap):
        call(host, "StartByPath", TaskName="copy", TaskPath=FOLDER)


# -- what survives ---------------------------------------------------------------------------------------------------


def test_a_run_survives_shells_and_ends_with_the_host(host: SimHost) -> None:
    register(host, task_xml(SLEEP))
    call(host, "StartByPath", TaskName="copy", TaskPath=FOLDER)
    host.clock.advance(2)
    host.processes.start(Caller(ACCOUNTS[0], "ntlm", True), SLEEP.removeprefix("/d /c "), {}, None, job="shell")
    host.processes.kill_job("shell")
    assert len(host.processes.running()) == 1
    assert state(host) == 4
    host.restart()
    assert host.processes.running() == []
    assert (state(host), info(host)["LastTaskResult"]) == (3, 0x40010004)
    assert run_task(host, task_xml("/c exit 0"), Force=True) == 0


def test_triggers_start_at_their_time_and_expired_tasks_go(host: SimHost) -> None:
    trigger = ("<Triggers><TimeTrigger><StartBoundary>2026-03-01T22:00:10</StartBoundary><EndBoundary>2026-03-01T22:01:00Z</EndBoundary>"
               "</TimeTrigger></Triggers>")
    expires = "<DeleteExpiredTaskAfter>PT30S</DeleteExpiredTaskAfter>"
    register(host, task_xml("/d /c echo x>>D:\\ran", settings=SETTINGS + expires, extra=trigger))
    assert info(host)["NextRunTime"] == START.replace(second=10)
    host.clock.advance(20)
    assert info(host).get("NextRunTime") is None
    assert host.files.read_file("D:\\ran") == b"x\r\n"
    host.clock.advance(69)
    assert [task.name for task in host.tasks.tasks()] == ["copy"]
    host.clock.advance(2)
    assert host.tasks.tasks() == []


def test_what_a_task_cannot_do_here_is_a_bug_of_the_simulator(host: SimHost) -> None:
    assert run_task(host, task_xml("/d /c title x")) == 1
    assert [type(bug).__name__ for bug in host.bugs] == ["NotSimulated"]
