# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""A job on a host from its folder to its result: ``<state folder>\jobs\<task name>\``, a task that runs it, and the clean-up of both.

The folder lies in the state folder, so only SYSTEM and Administrators can put anything where SYSTEM will run it (:mod:`.state`;
``state.ensure`` comes first). Each step can be called by itself, so that a later run goes on where one died: a task or a folder of the
job's name is there, or it is not. The task is deleted before its folder, and both only once the result was read.
"""
from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, jobs, tasks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import (
    PREFIX,
    Command,
    Programs,
    environment,
    reading_programs,
    said,
    writing_programs,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import CIMV2
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import Following, RunAs, TaskLook, TaskName
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.shell import ProgramResult

Begun = TypeVar("Begun")

JOBS = "jobs"
_TRIES = 3
_PAUSE = 2.0
_SPARE = 60.0
"""Seconds after the deadline of whoever waits for it in which the host lets a job go on."""

_CODE = re.compile(rb"\(0x([0-9A-Fa-f]{8})\)")
_FINDSTR = '%SystemRoot%\\System32\\findstr.exe "^" '
_MADE = "made"
# one line: the folder is made by this run or nothing happens, and what was written is shown
PREPARE = Command(f'mkdir "%AGH_JOB%" && echo {_MADE}&& set {PREFIX}>"%AGH_JOB%\\{jobs.VALUES}"&& {_FINDSTR}>"%AGH_JOB%\\{jobs.SCRIPT}"'
                  f' && type "%AGH_JOB%\\{jobs.VALUES}" && type "%AGH_JOB%\\{jobs.SCRIPT}"')
SHOW = Command(f'type "%AGH_JOB%\\{jobs.VALUES}" && type "%AGH_JOB%\\{jobs.SCRIPT}"', reads_only=True)
RUN = Command(f'%SystemRoot%\\System32\\cmd.exe /d /v:off /c "%AGH_JOB%\\{jobs.SCRIPT}"')
EXISTS = Command('if exist "%AGH_JOB%\\" (exit 0) else (exit 3)', reads_only=True)
REMOVE = Command('(if exist "%AGH_JOB%\\" rmdir /S /Q "%AGH_JOB%") & if exist "%AGH_JOB%\\" exit 3')


class NotFollowed(HypervError):
    """What becomes of a job could not be learned, for the reason that its ``__cause__`` tells. It may go on, and everything stays."""

    def __init__(self, name: TaskName, error: HypervError) -> None:
        super().__init__(error.message, error_code=error.error_code, hint=error.hint, return_value=error.return_value,
                         hresult=error.hresult, leftovers=[*error.leftovers, _task_left(name)], details=error.details)


@dataclass(frozen=True)
class JobEnd:
    """A job as far as it is known: still ``running``, or ended with a result and the outputs that were asked for."""

    look: TaskLook | None
    result: JobResult | None
    outputs: Mapping[str, bytes] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    """The last lines that failed steps wrote, for a message."""
    codes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Win32 codes that failed steps wrote as ``(0x00000070)``, which programs do in every language."""
    leftovers: tuple[Leftover, ...] = ()
    """The task or the folder of the job, when they could not be removed. The result is as good as without."""

    @property
    def running(self) -> bool:
        """The time was over before the job was."""
        return self.result is None


def job_folder(folder: StateFolder, name: TaskName) -> str:
    """Where a job lies."""
    return f"{folder.path}\\{JOBS}\\{name.text}"


def script_of(folder: StateFolder, name: TaskName) -> str:
    """The batch file of a job."""
    return f"{job_folder(folder, name)}\\{jobs.SCRIPT}"


# -- steps ---------------------------------------------------------------------------------------------------------------


def prepare(writer: CimWriter, folder: StateFolder, name: TaskName, job: Job) -> None:
    """Put a job's files onto the host, and make sure that they hold what they should; six requests, and four for each further file.

    Raises HypervError ``job_exists`` when a folder of this name is there, ``job_not_prepared`` when the files are not what was sent.
    """
    values, text = _values(folder, name, job), jobs.script(job, secrets.token_hex(6))
    try:
        with writing_programs(writer, values) as programs:
            _write(programs, folder, name, job, text)
    except HypervError as error:
        if error.error_code in ("job_exists", "job_not_prepared") or not _is_there(writer, values, text, job):
            raise  # a folder without a task is nobody's work: adopt and the clean-up remove it


def _values(folder: StateFolder, name: TaskName, job: Job) -> dict[str, str]:
    return {**job.values, "JOB": job_folder(folder, name), "UTF8": jobs.SENTINEL}


def _write(programs: Programs, folder: StateFolder, name: TaskName, job: Job, text: bytes) -> None:
    made = programs.run(PREPARE, timeout=files.SHORT, stdin=text)
    if not _holds(made.stdout.removeprefix(f"{_MADE}\r\n".encode("ascii")), _values(folder, name, job), text):
        raise _not_prepared(programs, folder, name, made)
    for file_name, data in job.files.items():
        _put(programs, file_name, data)


def _put(programs: Programs, file_name: str, data: bytes) -> None:
    path = f'"%AGH_JOB%\\{file_name}"'  # its name is checked by Job
    shown = programs.run(Command(f"{_FINDSTR}>{path} && type {path}"), timeout=files.SHORT, stdin=data)
    if shown.stdout.replace(b"\r\n", b"\n") != data.replace(b"\r\n", b"\n"):
        raise HypervError(f"The file {file_name} of a job was not written as it was sent: {said(shown)}", error_code="job_not_prepared")


def _not_prepared(programs: Programs, folder: StateFolder, name: TaskName, made: ProgramResult) -> HypervError:
    ours = made.stdout.startswith(_MADE.encode("ascii"))
    if not ours and programs.run(EXISTS, timeout=files.SHORT).exit_code == 0:
        return HypervError(f"A job {name.text} is on the host already.", error_code="job_exists",
                           hint="An earlier run left it; the clean-up removes it, or a retry of that run goes on with it.",
                           details={"job": job_folder(folder, name)})
    return HypervError(f"The files of the job {name.text} could not be written on the host: {said(made)}", error_code="job_not_prepared",
                       hint="Is the system drive full?")


def _holds(shown: bytes, values: Mapping[str, str], text: bytes) -> bool:
    """True when the host showed exactly our values, in whatever order, and then our script."""
    lines = shown.decode("utf-8", "replace").splitlines()
    expected = [f"{name}={value}" for name, value in environment(values).items()]
    count = len(expected)
    return sorted(lines[:count]) == sorted(expected) and lines[count:] == text.decode("ascii").splitlines()


def _is_there(reader: CimReader, values: Mapping[str, str], text: bytes, job: Job) -> bool:
    """After a lost answer: True when the job is there as it was sent; its further files are not looked at, so there must be none."""
    with contextlib.suppress(HypervError), reading_programs(reader, values) as programs:
        return not job.files and _holds(programs.run(SHOW, timeout=files.SHORT).stdout, values, text)
    return False


def collect(reader: CimReader, folder: StateFolder, name: TaskName, outputs: Sequence[str] = ()) -> JobEnd | None:
    """The result of a job that does not run any more, with the outputs of these steps; None when it left none. Five requests.

    Reading does no harm twice, so a lost answer is asked for again. Raises HypervError ``job_result_unreadable``.
    """
    for _unused in range(_TRIES - 1):
        with contextlib.suppress(OutcomeUnknown):
            return _collect(reader, folder, name, outputs)
    return _collect(reader, folder, name, outputs)


def _collect(reader: CimReader, folder: StateFolder, name: TaskName, outputs: Sequence[str]) -> JobEnd | None:
    mark = secrets.token_hex(6)
    with reading_programs(reader, {"JOB": job_folder(folder, name)}) as programs:
        shown = programs.run(Command(jobs.reading_line(mark, outputs), reads_only=True), timeout=files.SHORT)
        end = _told(shown.stdout, mark, outputs)
        if end is None:
            return None
        told = {step: programs.run(Command(f'type "%AGH_JOB%\\{step}.out"', reads_only=True), timeout=files.SHORT)
                for step in list(end.failures)[:3]}
    return replace(end, failures={step: said(result) for step, result in told.items()},
                   codes={step: codes_in(result.stdout) for step, result in told.items()})


def codes_in(output: bytes) -> tuple[int, ...]:
    """The Win32 codes in what a program wrote, in turn."""
    return tuple(int(code, 16) for code in _CODE.findall(output))


def read_output(reader: CimReader, folder: StateFolder, name: TaskName, step: str) -> bytes:
    """What a step has written so far, while the job runs: for progress. Empty when there is nothing yet."""
    if not jobs.is_step_name(step):
        raise ValueError(f"not the name of a step: {step}")
    with reading_programs(reader, {"JOB": job_folder(folder, name)}) as programs:
        return programs.run(Command(f'type "%AGH_JOB%\\{step}.out"', reads_only=True), timeout=files.SHORT).stdout


def read_file(reader: CimReader, folder: StateFolder, name: TaskName, file_name: str) -> bytes:
    """One of the files that were put beside the script; empty when it is not there. How a later run learns what the job is about."""
    if not jobs.is_file_name(file_name):
        raise ValueError(f"not the name of a file of a job: {file_name}")
    with reading_programs(reader, {"JOB": job_folder(folder, name)}) as programs:
        return programs.run(Command(f'type "%AGH_JOB%\\{file_name}"', reads_only=True), timeout=files.SHORT).stdout


def remove(writer: CimWriter, folder: StateFolder, name: TaskName, *, clock: Clock) -> list[Leftover]:
    """Take the task and the folder of a job away, whatever is there of them; what could not be removed. A task that runs is ended."""
    try:
        look = tasks.find(writer, name)
        if look is not None and look.running:
            tasks.stop(writer, name)
        if look is not None:
            tasks.delete(writer, name)
    except HypervError:
        return [_task_left(name)]
    return _remove_folder(writer, folder, name, clock)


def _remove_ended(writer: CimWriter, folder: StateFolder, name: TaskName, clock: Clock) -> list[Leftover]:
    """The same for a task that is known not to run."""
    try:
        tasks.delete(writer, name)
    except HypervError:
        return [_task_left(name)]
    return _remove_folder(writer, folder, name, clock)


def _task_left(name: TaskName) -> Leftover:
    """A task that could not be removed. Its folder stays, too: a task without its script would only fail."""
    location = f"{tasks.FOLDER}{name.text}"
    return Leftover("task", name.text, location, f'schtasks /delete /f /tn "{location}"')


def _remove_folder(writer: CimWriter, folder: StateFolder, name: TaskName, clock: Clock) -> list[Leftover]:
    """With three tries: programs of a task that was ended may need a moment to let go of their files."""
    path = job_folder(folder, name)
    for attempt in range(1, _TRIES + 1):
        with contextlib.suppress(HypervError):
            if files.run(writer, REMOVE, {"JOB": path}).exit_code == 0:
                return []
        if attempt < _TRIES:
            clock.sleep(_PAUSE)
    return [Leftover("job", name.text, path, f'rmdir /s /q "{path}"')]


# -- whole runs ----------------------------------------------------------------------------------------------------------


def begin(writer: CimWriter, folder: StateFolder, name: TaskName, job: Job, run_as: RunAs = tasks.SYSTEM, *, clock: Clock,
          limit: float | None = None) -> None:
    """Prepare a job, register its task and start it. After an error nothing of it stays on the host, or it is in ``leftovers``.

    ``limit``: seconds after which the host itself ends the task; None for no limit.
    """
    registered = False
    try:
        prepare(writer, folder, name, job)
        registered = True  # from here on a task may be there, whatever the answer says
        tasks.register(writer, name, script_of(folder, name), run_as, clock=clock, limit=limit)
        tasks.start(writer, name, clock=clock)
    except HypervError as error:
        raise _undone(writer, folder, name, error, registered, clock) from error


def finish(writer: CimWriter, folder: StateFolder, name: TaskName, *, clock: Clock, deadline: Deadline, outputs: Sequence[str] = (),
           progress: Callable[[Following], None] | None = None, started: bool = True) -> JobEnd:
    """Follow a job to its end, read its result and remove it. ``started`` False adopts one that an earlier run began.

    When the time is over first, the job goes on and everything stays (``running``); likewise with NotFollowed: a result is never
    removed unread. Raises ``task_vanished``, ``task_not_started``, and the errors of tasks.why_no_result for a job that left none or half
    of one, ``job_values_garbled`` and ``job_result_unreadable``; then it is removed, too, and what remains of it is in ``leftovers``.
    """
    try:
        look = tasks.follow(writer, name, clock=clock, deadline=deadline, progress=progress, started=started)
        if look.running or (started and not look.has_run):
            return JobEnd(look, None)
        end = collect(writer, folder, name, outputs)
    except tasks.TaskVanished as error:
        raise _with(error, _remove_folder(writer, folder, name, clock)) from error
    except HypervError as error:
        if error.error_code == "task_not_started":
            raise _with(error, remove(writer, folder, name, clock=clock)) from error
        if error.error_code != jobs.UNREADABLE:
            raise NotFollowed(name, error) from error
        raise _with(error, _remove_ended(writer, folder, name, clock)) from error
    problem = _problem(writer, look, end)
    leftovers = _remove_ended(writer, folder, name, clock)
    if problem is not None or end is None:
        raise _with(problem or tasks.why_no_result(look), leftovers)
    return replace(end, look=look, leftovers=tuple(leftovers))


def over_again(writer: CimWriter, folder: StateFolder, name: TaskName, begin: Callable[[], Begun], *, clock: Clock) -> Begun:
    """Begin a job; once more when an earlier try of this very run left one of this name, whose lease we have by now."""
    try:
        return begin()
    except HypervError as error:
        if error.error_code != "job_exists":
            raise
        left = remove(writer, folder, name, clock=clock)
        if left:
            error.leftovers = (*error.leftovers, *left)
            raise
    return begin()


def run_reading(writer: CimWriter, folder: StateFolder, name: TaskName, job: Job, run_as: RunAs = tasks.SYSTEM, *, clock: Clock,
                deadline: Deadline) -> JobEnd:
    """A short job that only reads, so that its result may be lost together with its folder: one shell for all, 12 requests and the looks.

    Ends as :func:`run` does. When the time is over first, the job stays for :func:`adopt`.
    """
    text = jobs.script(job, secrets.token_hex(6))
    steps = tuple(step.name for step in job.steps())
    mark = secrets.token_hex(6)
    registered = False
    try:
        with writing_programs(writer, _values(folder, name, job)) as programs:
            _write(programs, folder, name, job, text)
            registered = True
            tasks.register(writer, name, script_of(folder, name), run_as, clock=clock, limit=deadline.remaining() + _SPARE)
            tasks.start(writer, name, clock=clock)
            look = tasks.follow(writer, name, clock=clock, deadline=deadline)
            if look.running or not look.has_run:
                return JobEnd(look, None)
            shown = programs.run(Command(f"{jobs.reading_line(mark, steps)} & {REMOVE.line}"), timeout=files.SHORT)
            tasks.delete(writer, name)
        end = _told(shown.stdout, mark, steps)
        problem = _problem(writer, look, end)
        if problem is not None or end is None:
            raise problem or tasks.why_no_result(look)
        return replace(end, look=look)
    except HypervError as error:
        raise _undone(writer, folder, name, error, registered, clock) from error


def _told(printed: bytes, mark: str, steps: Sequence[str]) -> JobEnd | None:
    """The result out of what a job left altogether; None when it left nothing."""
    text, outputs = jobs.split_reading(printed, mark, steps)
    if not text.strip():
        return None
    result = jobs.parse_result(text)
    wrong = [*result.failed, *([result.at] if result.at else [])]
    return JobEnd(None, result, outputs, {step: said(ProgramResult(1, outputs.get(step, b""), b"")) for step in wrong},
                  {step: codes_in(outputs.get(step, b"")) for step in wrong})


def _problem(reader: CimReader, look: TaskLook, end: JobEnd | None) -> HypervError | None:
    """Why the end of a job cannot be believed; None when it can."""
    if end is None or end.result is None or not end.result.complete:
        error = tasks.why_no_result(look, last_boot=_last_boot(reader))
        if end is not None and end.result is not None and end.result.at is not None:
            error.details["job"] = {"step": end.result.at, "said": end.failures.get(end.result.at, "")}
        return error
    return None if end.result.values_read else garbled()


def garbled() -> HypervError:
    """The error for a script that did not get its values."""
    return HypervError("A job on the host could not read its values as they were written.", error_code="job_values_garbled",
                       hint="Nothing was done. Does the host have code page 65001?")


def _undone(writer: CimWriter, folder: StateFolder, name: TaskName, error: HypervError, registered: bool, clock: Clock) -> HypervError:
    """The error of a job that did not come to its end, with what remains of it. What another run has there is not touched."""
    if error.error_code == "job_exists":
        return error
    own_task = registered and not isinstance(error, tasks.TaskExists)
    return _with(error, remove(writer, folder, name, clock=clock) if own_task else _remove_folder(writer, folder, name, clock))


def _cleaned(end: JobEnd, leftovers: Sequence[Leftover]) -> JobEnd:
    """The end of a job whose work is done. A clean-up that failed does not make the work undone, so it is told beside the result."""
    return replace(end, leftovers=tuple(leftovers)) if leftovers else end


def run(writer: CimWriter, folder: StateFolder, name: TaskName, job: Job, run_as: RunAs = tasks.SYSTEM, *, clock: Clock,
        deadline: Deadline, progress: Callable[[Following], None] | None = None) -> JobEnd:
    """A job from its beginning to its end; the host ends it soon after the deadline."""
    begin(writer, folder, name, job, run_as, clock=clock, limit=deadline.remaining() + _SPARE)
    return finish(writer, folder, name, clock=clock, deadline=deadline, outputs=job.outputs, progress=progress)


def adopt(writer: CimWriter, folder: StateFolder, name: TaskName, *, clock: Clock, deadline: Deadline, outputs: Sequence[str] = (),
          progress: Callable[[Following], None] | None = None) -> JobEnd | None:
    """Go on with a job of this name that an earlier run began, whatever it came to; None when there is none, or nothing of use.

    A task that was registered and never started is started; a result whose task is deleted already is read; a folder alone is removed.
    """
    look = tasks.find(writer, name)
    if look is not None:
        fresh = not look.running and not look.has_run
        if fresh:
            tasks.start(writer, name, clock=clock)
        return finish(writer, folder, name, clock=clock, deadline=deadline, outputs=outputs, progress=progress, started=fresh)
    end = collect(writer, folder, name, outputs)
    leftovers = _remove_folder(writer, folder, name, clock)
    if end is not None and end.result is not None and end.result.complete and end.result.values_read:
        return _cleaned(end, leftovers)
    if leftovers:
        raise HypervError(f"The job {name.text} of an earlier run could not be removed from the host.", error_code="cleanup_failed",
                          hint=leftovers[0].remove_with, leftovers=leftovers)
    return None


def run_in_session(writer: CimWriter, folder: StateFolder, name: TaskName, job: Job, *, clock: Clock, timeout: float) -> JobEnd:
    """The same script in the shell of this connection, without a task: it dies with the connection and reaches no other machine."""
    try:
        prepare(writer, folder, name, job)
        with writing_programs(writer, {"JOB": job_folder(folder, name)}) as programs:
            programs.run(RUN, timeout=timeout)
        end = collect(writer, folder, name, job.outputs)
        if end is None or end.result is None or not end.result.complete:
            raise HypervError("A job in the session left no complete result.", error_code="job_no_result")
        if not end.result.values_read:
            raise garbled()
    except HypervError as error:
        if error.error_code == "job_exists":
            raise
        raise _with(error, _remove_folder(writer, folder, name, clock)) from error
    return _cleaned(end, _remove_folder(writer, folder, name, clock))


def _last_boot(reader: CimReader) -> datetime | None:
    """When the host started; None when it cannot be asked, which must not hide the error that this is for."""
    with contextlib.suppress(HypervError):
        return next((row.time("LastBootUpTime") for row in reader.enumerate(CIMV2, "Win32_OperatingSystem")), None)
    return None


def _with(error: HypervError, leftovers: Sequence[Leftover]) -> HypervError:
    error.leftovers = (*error.leftovers, *leftovers)
    return error
