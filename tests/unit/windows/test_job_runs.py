# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs on a simulated host: hostile names travel as they are, results are believed only when they are whole, and nothing stays."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import job_runs, jobs, tasks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.job_runs import JobEnd
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, Stage, Step, StepResult
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import RunAs, TaskName
from simulator.soap.rules import fault, lost_after, lost_before, timeout, unauthorized
from simulator.windows.programs.base import Speeds
from simulator.windows.spec import VolumeSpec
from support.windows_host import PASSWORD, WindowsHost, windows_host

NAME = TaskName("0A1B2C3D-0000-4000-8000-00000000000F", "night-1")
JOB = f"C:\\ProgramData\\agentless.hyperv\\jobs\\{NAME.text}"
HOSTILE = ["%TEMP%", "a%b", "!x!", "x & del", "100%", "%%", "^", "a^b", "(x)", "x) & echo y", "a;b,c=d", "=x", "  x", "'x'", "`x`",
           "x|y<z>", "@echo",
           ":label", "%~dp0", "%AGH_JOB%", "{{ x }}", "\u540d\u524d", "\u00e9\u00df", "\U0001f4be", "\u202ertl", "n" * 200]
Start = Callable[..., WindowsHost]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda **spec: stack.enter_context(windows_host(tmp_path / "host", **spec))


@pytest.fixture
def hv(start: Start) -> WindowsHost:
    """A host on which hashing D:\\big takes a minute."""
    made = start(speeds=Speeds(hash_bytes_per_second=1024.0, chunk=1024))
    made.put("D:\\big", b"x" * 60 * 1024)
    return made


def one(*steps: Step, values: dict[str, str] | None = None, files: dict[str, bytes] | None = None, essential: bool = True) -> Job:
    return Job((Stage(steps, essential),), values or {}, files or {})


def run(hv: WindowsHost, job: Job, name: TaskName = NAME, **options: Any) -> JobEnd:
    return job_runs.run(hv.writer, hv.folder, name, job, **{"clock": hv.clock, "deadline": Deadline(hv.clock, 3600), **options})


def finish(hv: WindowsHost, **options: Any) -> JobEnd:
    return job_runs.finish(hv.writer, hv.folder, NAME, **{"clock": hv.clock, "deadline": Deadline(hv.clock, 3600), **options})


def adopt(hv: WindowsHost, **options: Any) -> JobEnd | None:
    return job_runs.adopt(hv.writer, hv.folder, NAME, **{"clock": hv.clock, "deadline": Deadline(hv.clock, 3600), **options})


def assert_nothing_left(hv: WindowsHost) -> None:
    assert hv.tasks() == []
    assert hv.names("C:\\ProgramData\\agentless.hyperv\\jobs") == []


def steps_of(end: JobEnd | None) -> dict[str, StepResult]:
    assert end is not None
    assert end.result is not None
    return dict(end.result.steps)


SLOW = Step("hash", '%SystemRoot%\\System32\\certutil.exe -hashfile "%AGH_X%" SHA256')
ECHO = Step("show", 'echo "%AGH_X%"', keep=True)


# -- what travels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_hostile_name_reaches_a_program_as_it_is(hv: WindowsHost, text: str) -> None:
    end = run(hv, one(ECHO, values={"X": text}))
    assert end.outputs == {"show": f'"{text}"\r\n'.encode()}
    assert_nothing_left(hv)


def test_a_hundred_hostile_files_are_looked_at_in_one_job(hv: WindowsHost) -> None:
    names = [f"{number} {text}" for number, text in enumerate(HOSTILE) if not set(text) & set("|<>:\n")]
    for number, name in enumerate(names):
        hv.put(f"D:\\f\\{name}", b"x" * (number + 1))
    values = {"D": "D:\\f"} | {f"N{number}": name for number, name in enumerate(names)}
    files = " ".join(f'"%AGH_D%\\%AGH_N{number}%"' for number in range(len(names)))
    end = run(hv, one(Step("sizes", f"for %I in ({files}) do @echo [%~zI]", keep=True), values=values))
    assert end.outputs["sizes"].split() == [f"[{number + 1}]".encode() for number in range(len(names))]


def test_what_stands_in_a_task_and_in_its_script(hv: WindowsHost) -> None:
    job_runs.begin(hv.writer, hv.folder, NAME, one(ECHO, values={"X": "%TEMP% & x"}), clock=hv.clock)
    with hv.fleet.locked():
        (action,) = next(task for task in hv.host.tasks.tasks() if task.name == NAME.text).definition.actions
    assert (action.command, action.arguments) == ("%SystemRoot%\\System32\\cmd.exe", f'/d /v:off /c "{JOB}\\run.cmd"')
    assert b"& x" not in (hv.read(f"{JOB}\\run.cmd") or b"")
    assert b"AGH_X=%TEMP% & x\r\n" in (hv.read(f"{JOB}\\values.txt") or b"")


def test_files_beside_a_script(hv: WindowsHost) -> None:
    data = b'{\r\n "a": "%TEMP%"\r\n}\r\n'
    job = one(Step("show", 'type "%AGH_JOB%\\about.json"', keep=True), files={"about.json": data})
    job_runs.prepare(hv.writer, hv.folder, NAME, job)
    assert job_runs.read_file(hv.writer, hv.folder, NAME, "about.json") == data
    assert job_runs.remove(hv.writer, hv.folder, NAME, clock=hv.clock) == []
    assert run(hv, job).outputs["show"] == data


@pytest.mark.parametrize("broken", [
    (b"AGH_UTF8=\xc3\xa9", b"AGH_UTF8=e9"), (b"AGH_X=", b"AGH_Z="), (b"AGH_UTF8", b"AGH_UTF7"),
])
def test_values_that_were_not_read_as_they_were_written_stop_a_job(hv: WindowsHost, broken: tuple[bytes, bytes]) -> None:
    job_runs.prepare(hv.writer, hv.folder, NAME, one(Step("make", 'mkdir "%AGH_X%"'), values={"X": "\u540d"}))
    text = hv.read(f"{JOB}\\values.txt") or b""
    assert broken[0] in text
    hv.put(f"{JOB}\\values.txt", text.replace(*broken))
    tasks.register(hv.writer, NAME, f"{JOB}\\run.cmd", clock=hv.clock)
    tasks.start(hv.writer, NAME, clock=hv.clock)
    with pytest.raises(HypervError) as error:
        finish(hv)
    assert error.value.error_code == "job_values_garbled"
    assert_nothing_left(hv)


def test_a_host_without_utf8_does_nothing(hv: WindowsHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.windows.programs.chcp.KNOWN", (437,))
    with pytest.raises(HypervError) as error:
        run(hv, one(Step("make", 'mkdir "D:\\%AGH_X%"'), values={"X": "\u540d"}))
    assert error.value.error_code == "job_values_garbled"
    assert hv.names("D:\\") == ["big"]
    assert_nothing_left(hv)


# -- steps ---------------------------------------------------------------------------------------------------------------


def test_steps_stop_at_the_first_that_fails(hv: WindowsHost) -> None:
    job = one(Step("a", "ver"), Step("b", 'type "D:\\none"'), Step("c", "ver"))
    end = run(hv, job)
    assert steps_of(end) == {"a": StepResult(True, 0), "b": StepResult(False, 1)}
    assert end.result is not None
    assert (end.result.failed, end.result.good("c"), list(end.failures)) == (("b",), False, ["b"])
    assert "The system cannot find the file specified." in end.failures["b"]


def test_a_stage_that_is_not_essential_ends_alone(hv: WindowsHost) -> None:
    job = Job((Stage((Step("a", 'type "D:\\none"'), Step("b", "ver")), essential=False), Stage((Step("c", "ver"),))), {})
    assert steps_of(run(hv, job)) == {"a": StepResult(False, 1), "c": StepResult(True, 0)}


def test_codes_and_proofs(hv: WindowsHost) -> None:
    values = {"D": "D:\\new"}
    job = one(Step("a", 'mkdir "%AGH_D%"', None, 'exist "%AGH_D%\\"'), Step("b", 'mkdir "%AGH_D%"', None, 'exist "%AGH_D%\\"'),
              Step("c", 'dir /B /AL "%AGH_D%"', (1, 1)), Step("d", 'rmdir "%AGH_D%"', None, 'not exist "%AGH_D%"'),
              Step("e", "ver", (0, 0), 'exist "%AGH_D%"'), values=values)
    assert {name: step.good for name, step in steps_of(run(hv, job)).items()} == {"a": True, "b": True, "c": True, "d": True, "e": False}


def test_a_code_of_one_step_is_not_that_of_the_next(hv: WindowsHost) -> None:
    job = one(Step("a", 'type "D:\\none"', (0, 1)), Step("b", 'mkdir "D:\\n"'))
    assert steps_of(run(hv, job))["b"] == StepResult(True, 0)


def test_the_same_script_in_a_session(hv: WindowsHost) -> None:
    end = job_runs.run_in_session(hv.writer, hv.folder, NAME, one(ECHO, values={"X": "%TEMP% \u540d"}), clock=hv.clock, timeout=60)
    assert end.outputs == {"show": '"%TEMP% \u540d"\r\n'.encode()}
    assert_nothing_left(hv)


# -- time ----------------------------------------------------------------------------------------------------------------


def test_a_job_that_goes_on_is_adopted(hv: WindowsHost) -> None:
    job = one(SLOW, ECHO, values={"X": "D:\\big"})
    end = run(hv, job, deadline=Deadline(hv.clock, 10))
    assert (end.running, end.look is not None and end.look.running) == (True, True)
    assert job_runs.read_output(hv.writer, hv.folder, NAME, "hash") == b""
    end_of_adopted = adopt(hv, outputs=job.outputs)
    assert end_of_adopted is not None
    assert end_of_adopted.outputs == {"show": b'"D:\\big"\r\n'}
    assert_nothing_left(hv)
    assert adopt(hv) is None


def test_a_job_that_was_registered_and_never_started(hv: WindowsHost) -> None:
    job_runs.prepare(hv.writer, hv.folder, NAME, one(ECHO, values={"X": "x"}))
    tasks.register(hv.writer, NAME, f"{JOB}\\run.cmd", clock=hv.clock)
    assert steps_of(adopt(hv)) == {"show": StepResult(True, 0)}
    assert_nothing_left(hv)


def test_a_job_whose_task_is_gone_and_whose_result_is_there(hv: WindowsHost) -> None:
    job_runs.begin(hv.writer, hv.folder, NAME, one(ECHO, values={"X": "x"}), clock=hv.clock)
    hv.clock.sleep(10)
    tasks.delete(hv.writer, NAME)
    assert steps_of(adopt(hv)) == {"show": StepResult(True, 0)}
    assert_nothing_left(hv)


def test_a_folder_without_task_and_result_is_removed(hv: WindowsHost) -> None:
    job_runs.prepare(hv.writer, hv.folder, NAME, one(ECHO, values={"X": "x"}))
    assert adopt(hv) is None
    assert_nothing_left(hv)


def test_a_script_runs_once(hv: WindowsHost) -> None:
    job_runs.begin(hv.writer, hv.folder, NAME, one(Step("a", "echo x>>D:\\count")), clock=hv.clock)
    hv.clock.sleep(10)
    tasks.start(hv.writer, NAME, clock=hv.clock)
    hv.clock.sleep(10)
    look = tasks.find(hv.writer, NAME)
    assert look is not None
    assert look.last_result == jobs.RAN_BEFORE
    assert steps_of(finish(hv)) == {"a": StepResult(True, 0)}
    assert hv.read("D:\\count") == b"x\r\n"


@pytest.mark.parametrize(("whole", "requests"), [(job_runs.run, 16), (job_runs.run_reading, 11)])
def test_what_a_job_costs(hv: WindowsHost, whole: Any, requests: int) -> None:
    tasks.find(hv.writer, NAME)  # log on
    before = hv.host.counters.snapshot()
    whole(hv.writer, hv.folder, NAME, one(ECHO, values={"X": "x"}), clock=hv.clock, deadline=Deadline(hv.clock, 60))
    spent = hv.host.counters.since(before)
    looks = spent.by_operation["Get"] + spent.by_operation["Invoke PS_ScheduledTask.GetInfoByName"]
    assert (spent.requests - looks, looks) == (requests, 2)
    assert_nothing_left(hv)


# -- a job that only reads -----------------------------------------------------------------------------------------------


def reading(hv: WindowsHost, job: Job, **options: Any) -> JobEnd:
    return job_runs.run_reading(hv.writer, hv.folder, NAME, job, **{"clock": hv.clock, "deadline": Deadline(hv.clock, 3600), **options})


def test_a_job_that_only_reads(hv: WindowsHost) -> None:
    end = reading(hv, one(Step("a", 'type "D:\\none"', (0, 1)), ECHO, values={"X": "%TEMP% \u540d"}))
    assert end.outputs["show"] == '"%TEMP% \u540d"\r\n'.encode()
    assert steps_of(end) == {"a": StepResult(True, 1), "show": StepResult(True, 0)}
    assert_nothing_left(hv)


def test_a_reading_job_that_fails_says_why(hv: WindowsHost) -> None:
    end = reading(hv, one(Step("a", 'type "D:\\none"'), ECHO, values={"X": "x"}))
    assert "The system cannot find the file specified." in end.failures["a"]
    assert_nothing_left(hv)


def test_a_reading_job_that_takes_too_long_is_adopted(hv: WindowsHost) -> None:
    job = one(SLOW, ECHO, values={"X": "D:\\big"})
    assert reading(hv, job, deadline=Deadline(hv.clock, 10)).running
    end = adopt(hv, outputs=job.outputs)
    assert end is not None
    assert end.outputs == {"show": b'"D:\\big"\r\n'}
    assert_nothing_left(hv)


def test_a_reading_job_that_was_stopped(hv: WindowsHost) -> None:
    hv.host.clock.call_later(20, lambda: hv.host.tasks.stop(hv.host.tasks.get(tasks.FOLDER, NAME.text)))
    with pytest.raises(HypervError) as error:
        reading(hv, one(SLOW, values={"X": "D:\\big"}))
    assert (error.value.error_code, error.value.details["job"]["step"]) == ("task_stopped", "hash")
    assert_nothing_left(hv)


# -- faults --------------------------------------------------------------------------------------------------------------


def test_a_restart_of_the_host(hv: WindowsHost) -> None:
    job_runs.begin(hv.writer, hv.folder, NAME, one(SLOW, ECHO, values={"X": "D:\\big"}), clock=hv.clock)
    hv.host.clock.call_later(20, hv.host.restart)
    with pytest.raises(HypervError) as error:
        finish(hv)
    assert error.value.error_code in ("host_restarted", "task_no_result")
    assert error.value.details["job"]["step"] == "hash"
    assert_nothing_left(hv)


def test_a_stopped_job(hv: WindowsHost) -> None:
    job_runs.begin(hv.writer, hv.folder, NAME, one(SLOW, values={"X": "D:\\big"}), clock=hv.clock)
    hv.clock.sleep(5)
    tasks.stop(hv.writer, NAME)
    with pytest.raises(HypervError) as error:
        finish(hv)
    assert error.value.error_code == "task_stopped"
    assert_nothing_left(hv)


def test_removing_a_job_that_runs_ends_it(hv: WindowsHost) -> None:
    job_runs.begin(hv.writer, hv.folder, NAME, one(SLOW, Step("b", "echo x>D:\\after"), values={"X": "D:\\big"}), clock=hv.clock)
    hv.clock.sleep(5)
    assert job_runs.remove(hv.writer, hv.folder, NAME, clock=hv.clock) == []
    hv.clock.sleep(600)
    assert hv.names("D:\\") == ["big"]
    assert_nothing_left(hv)


def test_a_job_of_another_run_is_not_touched(hv: WindowsHost) -> None:
    job_runs.begin(hv.writer, hv.folder, NAME, one(SLOW, values={"X": "D:\\big"}), clock=hv.clock)
    with pytest.raises(HypervError) as error:
        run(hv, one(ECHO, values={"X": "x"}))
    assert error.value.error_code == "job_exists"
    assert steps_of(finish(hv)) == {"hash": StepResult(True, 0)}


def test_a_foreign_task_of_the_name_is_not_touched(hv: WindowsHost) -> None:
    tasks.register(hv.writer, NAME, "C:\\other\\run.cmd", clock=hv.clock)
    with pytest.raises(tasks.TaskExists):
        run(hv, one(ECHO, values={"X": "x"}))
    assert hv.tasks() == [NAME.text]
    assert hv.names("C:\\ProgramData\\agentless.hyperv\\jobs") == []


def test_a_damaged_result(hv: WindowsHost) -> None:
    job_runs.begin(hv.writer, hv.folder, NAME, one(ECHO, values={"X": "x"}), clock=hv.clock)
    hv.clock.sleep(10)
    hv.put(f"{JOB}\\result.txt", b"job 0123456789ab\r\nx\r\n")
    with pytest.raises(HypervError) as error:
        finish(hv)
    assert error.value.error_code == "job_result_unreadable"
    assert_nothing_left(hv)


def test_a_wrong_password_leaves_nothing(hv: WindowsHost) -> None:
    with pytest.raises(HypervError) as error:
        run(hv, one(ECHO, values={"X": "x"}), run_as=RunAs("EXAMPLE\\backup", "wr0ng"))
    assert error.value.error_code == "task_logon_failed"
    assert_nothing_left(hv)
    assert steps_of(run(hv, one(ECHO, values={"X": "x"}), run_as=RunAs("EXAMPLE\\backup", PASSWORD)))["show"].good


def test_a_full_system_drive(start: Start) -> None:
    hv = start(volumes=(VolumeSpec("C:", free=1024**2),))
    with hv.fleet.locked():
        free = hv.host.files.volumes[0].free_bytes
    hv.put("C:\\full", b"x" * free)
    with pytest.raises(HypervError) as error:
        run(hv, one(ECHO, values={"X": "x"}))
    assert error.value.error_code == "job_not_prepared"
    assert_nothing_left(hv)


EFFECTS = [lost_before(), lost_after(), unauthorized(), timeout(executed=True), timeout(executed=False), fault("internal_error")]


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda one: one.name)
@pytest.mark.parametrize("nth", range(1, 20))
def test_after_any_fault_a_next_run_ends_well_and_leaves_nothing(hv: WindowsHost, effect: Any, nth: int) -> None:
    job = one(Step("a", "echo x>>D:\\count"), ECHO, values={"X": "D:\\big"})
    hv.host.rules.add(effect, nth=nth)
    try:
        end: JobEnd | None = run(hv, job)
    except HypervError:
        hv.host.rules.clear()
        end = adopt(hv, outputs=job.outputs)
    hv.host.rules.clear()
    if end is not None:
        assert end.result is not None
        assert end.result.complete
        assert end.outputs == {"show": b'"D:\\big"\r\n'}
    if end is None or end.leftovers:
        job_runs.remove(hv.writer, hv.folder, NAME, clock=hv.clock)
        end = run(hv, job)
    assert steps_of(end)["show"].good
    assert_nothing_left(hv)
    assert (hv.read("D:\\count") or b"").count(b"x") in (1, 2)
