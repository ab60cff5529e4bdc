# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""One-shot scheduled tasks of ours, through ``PS_ScheduledTask`` (windows facts 1): register, start, follow, stop, delete, find.

A task runs one batch file in the state folder and nothing else: its arguments are a line in which only names of ours stand, since the
Task Scheduler expands ``%NAME%`` in arguments even inside quotes, and ``cmd`` would do so again. What the batch file works on travels in
files beside it (:mod:`.jobs`). Tasks live in the folder ``\agentless.hyperv\`` and are named ``<VM GUID>_<run id>``, so that a later
run finds them. Nothing here reads the controller's clock to decide about the host's time; waiting uses an injected clock.
"""
from __future__ import annotations

import math
import re
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import wql
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import CimValueError, Instance, Parameter, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import (
    AccessDenied,
    ConnectionFailed,
    HypervError,
    NotFound,
    OutcomeUnknown,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import AuthenticationFailed
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.faults import WsmanFault
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import Markup, element, text

NAMESPACE = "root/Microsoft/Windows/TaskScheduler"
FOLDER = "\\agentless.hyperv\\"
SYSTEM_SID = "S-1-5-18"

DISABLED, QUEUED, READY, RUNNING = 1, 2, 3, 4
"""``MSFT_ScheduledTask.State``; 0 is unknown."""
HAS_NOT_RUN = 0x41303
IS_RUNNING = 0x41301
START_PATIENCE = 60.0
"""Seconds after a start in which a task may still look as if nothing had happened."""
LOST_LOOKS = 4
"""Looks in a row that may fail: no connection to the host, or an answer of no use."""

_METHODS = Reference(NAMESPACE, "PS_ScheduledTask")
_CLASS = "MSFT_ScheduledTask"
_XML_NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
_CMD = "%SystemRoot%\\System32\\cmd.exe"
_SCRIPT = re.compile(r"[A-Za-z]:(?:\\[A-Za-z0-9._-]+)+\Z")
_NAME = re.compile(r"(?P<subject>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|host)_(?P<run>[A-Za-z0-9][A-Za-z0-9-]{0,39})"
                   r"(?:_(?P<purpose>[a-z]{1,12}))?\Z")
_MISSING = frozenset({0x80070002, 0x80070003, 0x80070490, 0x80041002})
_NOT_RUNNING = 0x8004130B
_EXISTS = 0x800700B7
_LOOKS = (1.0, 3.0, 6.0)
"""Pauses between looks for something whose request got no answer."""


class TaskExists(HypervError):
    """A task of this name is registered already."""

    error_code = "task_exists"


class TaskVanished(NotFound):
    """The task is gone: somebody deleted it, or another run of ours has cleaned up."""

    error_code = "task_vanished"


@dataclass(frozen=True)
class TaskName:
    """Whose task it is: a VM's GUID (or ``host`` for work that belongs to none), the run, and a word when a run has several."""

    subject: str
    run_id: str
    purpose: str = ""

    def __post_init__(self) -> None:
        found = _NAME.match(self.text)
        if found is None or found.group("run") != self.run_id or (found.group("purpose") or "") != self.purpose:
            raise ValueError(f"not the name of a task: {self.text!r}")

    @classmethod
    def fresh(cls, subject: str, run_id: str, purpose: str) -> TaskName:
        """One that no other try has, so that what an interrupted one left is in nobody's way."""
        return cls(subject, run_id, purpose + "".join(secrets.choice(string.ascii_lowercase) for _unused in range(6)))

    @property
    def text(self) -> str:
        """The task's name; also that of its job folder."""
        return "_".join(part for part in (self.subject, self.run_id, self.purpose) if part)

    @property
    def reference(self) -> Reference:
        """The address of the registered task."""
        return Reference(NAMESPACE, _CLASS, {"TaskName": self.text, "TaskPath": FOLDER})


def parse_name(name: str) -> TaskName | None:
    """The parts of a task's name; None when it is none of ours."""
    found = _NAME.match(name)
    return None if found is None else TaskName(found.group("subject"), found.group("run"), found.group("purpose") or "")


@dataclass(frozen=True)
class RunAs:
    """As whom a task runs: SYSTEM, or an account with its password, which travels only inside the registration."""

    account: str | None = None
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.account is None) != (self.password is None):
            raise ValueError("an account and its password belong together")


SYSTEM = RunAs()


@dataclass(frozen=True)
class TaskLook:
    """A registered task at one moment. ``last_result`` is LastTaskResult, ``last_run`` host time, None before the first run."""

    name: str
    state: int
    arguments: str
    last_result: int | None = None
    last_run: datetime | None = None

    @property
    def running(self) -> bool:
        """By the state alone: an exit code may equal the number that means *running* (windows facts 1)."""
        return self.state in (RUNNING, QUEUED)

    @property
    def has_run(self) -> bool:
        """True once a run began, whatever came of it."""
        return self.last_result is not None and self.last_result != HAS_NOT_RUN


# -- the definition ------------------------------------------------------------------------------------------------------


def arguments_for(script: str) -> str:
    """The arguments of cmd for a batch file of ours. Raises ValueError for a path that holds anything but plain names."""
    if _SCRIPT.match(script) is None:
        raise ValueError(f"not the path of a script of ours: {script!r}")
    return f'/d /v:off /c "{script}"'


def task_xml(script: str, run_as: RunAs, run_id: str, limit: float | None = None) -> str:
    """The XML of a task that runs ``script`` once on demand, also on a battery (windows facts 1).

    ``limit``: seconds after which the Task Scheduler ends it; None for no limit.

    Priority 5 keeps data moving at normal speed (7, the default, means low I/O priority). ``IgnoreNew``: a second start does nothing.
    """
    if run_as.account is None:
        principal = [_leaf("UserId", SYSTEM_SID), _leaf("RunLevel", "HighestAvailable")]
    else:
        principal = [_leaf("UserId", run_as.account), _leaf("LogonType", "Password"), _leaf("RunLevel", "HighestAvailable")]
    settings = {
        "MultipleInstancesPolicy": "IgnoreNew", "DisallowStartIfOnBatteries": "false", "StopIfGoingOnBatteries": "false",
        "AllowHardTerminate": "true", "AllowStartOnDemand": "true", "Enabled": "true", "Hidden": "false",
        "ExecutionTimeLimit": f"PT{0 if limit is None else max(1, math.ceil(limit))}S", "Priority": "5",
    }
    return element(
        "Task",
        element("RegistrationInfo", _leaf("Author", "agentless.hyperv"), _leaf("Description", f"One run of agentless.hyperv: {run_id}")),
        element("Triggers"),
        element("Principals", element("Principal", *principal, id="A")),
        element("Settings", *(_leaf(name, value) for name, value in settings.items())),
        element("Actions", element("Exec", _leaf("Command", _CMD), _leaf("Arguments", arguments_for(script))), Context="A"),
        version="1.2", xmlns=_XML_NAMESPACE)


def _leaf(name: str, value: str) -> Markup:
    return element(name, text(value))


# -- looking -------------------------------------------------------------------------------------------------------------


def find(reader: CimReader, name: TaskName) -> TaskLook | None:
    """The task as it is now: one request, two when it does not run. None when it is not registered."""
    try:
        found = reader.get(name.reference)
    except HypervError as error:
        if _is_missing(error):
            return None
        raise
    look = _look(found)
    if look.running:
        return look
    return _with_result(reader, look)


def _with_result(reader: CimReader, look: TaskLook) -> TaskLook | None:
    parameters: Mapping[str, Parameter] = {"TaskName": look.name, "TaskPath": FOLDER}
    try:
        answer = reader.ask(_METHODS, "GetInfoByName", parameters)
        _refuse(answer.return_value, "Asking for the result of a task")
    except HypervError as error:
        if _is_missing(error):
            return None
        raise
    for info in answer.out.instances("cmdletOutput"):
        result = info.integer("LastTaskResult")
        code = None if result is None else result & 0xFFFFFFFF
        return TaskLook(look.name, look.state, look.arguments, code, None if code == HAS_NOT_RUN else info.time("LastRunTime"))
    return look


def list_ours(reader: CimReader) -> tuple[TaskLook, ...]:
    """Every task in our folder, without results; one request. Names that :func:`parse_name` does not know are in it, too."""
    rows = reader.query(wql.select(NAMESPACE, _CLASS, {"TaskPath": FOLDER}))
    return tuple(_look(row) for row in rows)


def _look(row: Instance) -> TaskLook:
    try:
        actions = row.instances("Actions")
    except CimValueError:  # how embedded actions look is not certain (windows facts, open doubt 2)
        actions = ()
    arguments = actions[0].text("Arguments") if actions else None
    return TaskLook(row.required_text("TaskName"), row.integer("State") or 0, arguments or "")


# -- changing ------------------------------------------------------------------------------------------------------------


def register(writer: CimWriter, name: TaskName, script: str, run_as: RunAs = SYSTEM, *, clock: Clock, limit: float | None = None) -> None:
    """Register the task, never in place of another.

    When the answer is lost the host is asked whether the task is there with our action, and only a proven absence is tried again, once.
    Raises TaskExists, AccessDenied, OutcomeUnknown, or HypervError with the codes of :func:`refused`; ``channel_not_encrypted`` before
    anything is sent when a password would travel in the open.
    """
    parameters: dict[str, Parameter] = {"Force": False, "Xml": task_xml(script, run_as, name.run_id, limit), "TaskPath": FOLDER,
                                        "TaskName": name.text}
    if run_as.account is not None:
        parameters |= {"User": run_as.account, "Password": run_as.password}
        if find(writer, name) is not None:  # also makes the connection, whose encryption is only then known
            raise _exists(name)
        if not writer.session.encrypted:
            raise HypervError(
                "The password of the account that the task shall run as was not sent: the connection to the host is not encrypted.",
                error_code="channel_not_encrypted", hint="Use HTTPS, or ntlm, kerberos or credssp with message encryption.")
    try:
        _call(writer, "RegisterByXml", parameters, "Registering a task")
    except OutcomeUnknown:
        if _appears(writer, name, script, clock):
            return
        try:
            _call(writer, "RegisterByXml", parameters, "Registering a task")
        except TaskExists:  # the first one was late
            if not _appears(writer, name, script, clock):
                raise


def _appears(writer: CimWriter, name: TaskName, script: str, clock: Clock) -> bool:
    """True when the task is there with our action; looked at for some seconds, since a request without an answer may still be under way."""
    for pause in (0.0, *_LOOKS):
        if pause:
            clock.sleep(pause)
        look = find(writer, name)
        if look is not None:
            if look.arguments and look.arguments != arguments_for(script):
                raise _exists(name)
            return True
    return False


def start(writer: CimWriter, name: TaskName, *, clock: Clock) -> None:
    """Ask for a run. After a lost answer the task is looked at, and started again only when it has not begun.

    A second start of a task that runs does nothing (IgnoreNew), and a job's script runs only once (:mod:`.jobs`).
    """
    parameters: Mapping[str, Parameter] = {"TaskPath": FOLDER, "TaskName": name.text}
    try:
        _call(writer, "StartByPath", parameters, "Starting a task")
    except OutcomeUnknown:
        for pause in _LOOKS:
            clock.sleep(pause)
            look = find(writer, name)
            if look is None:
                raise _vanished(name) from None
            if look.running or look.has_run:
                return
        _call(writer, "StartByPath", parameters, "Starting a task")


def stop(writer: CimWriter, name: TaskName) -> None:
    """End a run with everything that it started. A task that does not run, or is not there, is left as it is."""
    try:
        _call(writer, "StopByPath", {"TaskPath": FOLDER, "TaskName": name.text}, "Stopping a task")
    except HypervError as error:
        if not _is_missing(error) and _hresult(error) != _NOT_RUNNING:
            raise


def delete(writer: CimWriter, name: TaskName) -> None:
    """Unregister the task; one that is gone already is fine. A program that it started would go on: stop it first."""
    try:
        writer.delete(name.reference)
    except OutcomeUnknown:
        if find(writer, name) is not None:
            writer.delete(name.reference)
    except HypervError as error:
        if not _is_missing(error):
            raise


def _call(writer: CimWriter, method: str, parameters: Mapping[str, Parameter], what: str) -> None:
    try:
        answer = writer.invoke(_METHODS, method, parameters)
    except WsmanFault as fault:
        raise refused(_hresult(fault), what, fault) from fault
    _refuse(answer.return_value, what)


# -- following -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Following:
    """What a progress callback is told at each look: the task, and the seconds since following began."""

    look: TaskLook
    seconds: float


def follow(reader: CimReader, name: TaskName, *, clock: Clock, deadline: Deadline, progress: Callable[[Following], None] | None = None,
           shortest: float = 0.5, longest: float = 30.0, started: bool = True) -> TaskLook:
    """Look at a task with growing pauses until it does not run any more, or the deadline is over.

    Returns the last look: ``running`` says which of both. A task that was just ``started`` may seem idle for a moment and is given
    START_PATIENCE seconds to begin. The task does not need us: LOST_LOOKS looks in a row may fail.
    Raises TaskVanished, HypervError ``task_not_started``, and what keeps the host from being read.
    """
    began, pause, lost = clock.monotonic(), shortest, 0
    if started:
        clock.sleep(min(shortest, deadline.remaining()))  # it cannot have begun yet
    while True:
        try:
            look = find(reader, name)
        except AuthenticationFailed:
            raise
        except HypervError as error:  # whatever it is, the task goes on
            lost += 1
            if lost > LOST_LOOKS or deadline.expired():
                raise
            clock.sleep(longest if isinstance(error, ConnectionFailed) else min(pause, longest))
            continue
        lost = 0
        if look is None:
            raise _vanished(name)
        seconds = clock.monotonic() - began
        if progress is not None:
            progress(Following(look, seconds))
        waits_to_begin = started and not look.running and not look.has_run
        if not look.running and not waits_to_begin:
            return look
        if waits_to_begin and seconds >= START_PATIENCE:
            raise HypervError(f"The task {name.text} was started and did not begin.", error_code="task_not_started",
                              hint="Look at the task's history, and whether the Task Scheduler of the host works.")
        if deadline.expired():
            return look
        clock.sleep(min(pause, max(deadline.remaining(), 0.1)))
        pause = min(pause * 1.5, longest)


# -- errors --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refusal:
    """What a code of the Task Scheduler means: our code, a part of a sentence, advice."""

    error_code: str
    sentence: str
    hint: str | None = None


_REFUSALS: Mapping[int, Refusal] = {
    0x8007052E: Refusal("task_logon_failed", "the account's name or password is wrong",
                        "Nothing was tried a second time, so that the account is not locked."),
    0x80070534: Refusal("task_account_unknown", "the host does not know the account", "Name it as DOMAIN\\name or name@domain."),
    0x80070569: Refusal("task_logon_right", "the account lacks the right to log on as a batch job",
                        "Grant SeBatchLogonRight on the host, or use run_as: system."),
    0x8004130F: Refusal("task_logon_failed", "the Task Scheduler has no password for the account"),
    0x80041326: Refusal("task_disabled", "the task is disabled", "Somebody disabled it; delete it and run again."),
    0x80070002: Refusal("task_vanished", "the task is gone", "Did another run, or a person, clean up?"),
    0x80041315: Refusal("task_scheduler_stopped", "the Task Scheduler service does not run", "Start the service Schedule on the host."),
}
_RESULTS: Mapping[int, Refusal] = {
    **_REFUSALS,
    0x41306: Refusal("task_stopped", "it was stopped"),
    HAS_NOT_RUN: Refusal("task_not_started", "it has not run", "Look at the task's history, and whether the Task Scheduler works."),
    0x80041324: Refusal("task_condition", "a condition kept it from running"),
    0x80070002: Refusal("task_program_missing", "its program or script was not found", "Did something remove files of the state folder?"),
    0x80070003: Refusal("task_program_missing", "its program or script was not found", "Did something remove files of the state folder?"),
    0x80070005: Refusal("task_access_denied", "it was not allowed to read its script",
                        "The account of run_as must be an administrator of the host."),
}


def refused(hresult: int | None, what: str, cause: HypervError | None = None) -> HypervError:
    """The error for a request that the Task Scheduler refused with this code."""
    if isinstance(cause, AccessDenied):
        return cause
    if hresult == _EXISTS:
        return TaskExists(f"{what} failed: a task of this name exists.", hresult=hresult)
    refusal = _REFUSALS.get(hresult or 0)
    if refusal is None:
        shown = "" if hresult is None else f" (0x{hresult:08X})"
        return HypervError(f"{what} was refused by the Task Scheduler{shown}.", error_code="task_refused", hresult=hresult)
    kind = TaskVanished if refusal.error_code == "task_vanished" else HypervError
    return kind(f"{what} failed: {refusal.sentence}.", error_code=refusal.error_code, hint=refusal.hint, hresult=hresult)


def why_no_result(look: TaskLook | None, *, last_boot: datetime | None = None) -> HypervError:
    """Why a task that does not run any more left no complete result, as far as its codes and the host's last boot tell."""
    if look is None:
        return TaskVanished("A task is gone and left no result.", hint="Did another run, or a person, clean up?")
    if last_boot is not None and look.last_run is not None and last_boot > look.last_run:
        return HypervError(f"The host restarted while the task {look.name} ran.", error_code="host_restarted", hint="Run it again.")
    refusal = _RESULTS.get(-1 if look.last_result is None else look.last_result)
    if refusal is None:
        code = "no code" if look.last_result is None else f"0x{look.last_result:08X}"
        return HypervError(f"The task {look.name} ended with {code} and left no complete result.", error_code="task_no_result",
                           hresult=look.last_result, hint="Was its program ended, or did the host's disk fill up?")
    return HypervError(f"The task {look.name} left no complete result: {refusal.sentence}.", error_code=refusal.error_code,
                       hint=refusal.hint, hresult=look.last_result)


def _refuse(return_value: int | None, what: str) -> None:
    """Both forms of a failure are known: a fault, and a return value that is an HRESULT (windows facts 1)."""
    code = (return_value or 0) & 0xFFFFFFFF
    if code == 0x80070005:
        raise AccessDenied(f"{what} failed: access denied.", hint="Only administrators of the host may do this.", hresult=code)
    if code:
        raise refused(code, what)


def _hresult(error: HypervError) -> int | None:
    return None if error.hresult is None else error.hresult & 0xFFFFFFFF


def _is_missing(error: HypervError) -> bool:
    return isinstance(error, NotFound) or _hresult(error) in _MISSING


def _exists(name: TaskName) -> TaskExists:
    return TaskExists(f"A task {name.text} exists already in {FOLDER}.", hint="Another run may be at work; its result is read first.")


def _vanished(name: TaskName) -> TaskVanished:
    return TaskVanished(f"The task {name.text} is gone.", hint="Did another run, or a person, clean up?")
