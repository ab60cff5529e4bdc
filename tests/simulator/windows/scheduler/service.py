# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Task Scheduler service: registered tasks and their runs in simulated time (windows facts 1).

Inferred, because no source says it: what a start does while an instance runs and the policy is IgnoreNew (nothing, and the request
succeeds), the result of a run that a condition forbade (TASK_ATTEMPTED) or that a restart of the host ended, that a removed task's
program goes on (documented for schtasks only), and by how much low I/O priority slows a copy.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from simulator.cim.errors import SimulatorGap
from simulator.cim.model import Caller
from simulator.clock import SimClock, Timer
from simulator.windows import identity
from simulator.windows.errors import Win32Error
from simulator.windows.processes import ProcessHost, SimProcess
from simulator.windows.scheduler import accounts, codes
from simulator.windows.scheduler.accounts import Accounts, RunAs
from simulator.windows.scheduler.codes import TaskError
from simulator.windows.scheduler.definition import Exec, Principal, TaskDefinition
from simulator.windows.scheduler.taskxml import parse_duration, parse_moment, parse_task

DISABLED, QUEUED, READY, RUNNING = 1, 2, 3, 4
"""TASK_STATE."""
LOW_IO_FROM = 7
"""Priorities from here on mean low I/O and memory priority (windows facts 1)."""

_BAD_NAME = re.compile(r'[/:*?"<>|\x00-\x1f]')


@dataclass(frozen=True)
class SchedulerSettings:
    """What differs between hosts."""

    start_lag: float = 0.5
    """Seconds of simulated time between the answer to a start and the start: State and LastTaskResult are still the old ones."""
    low_io_slowness: float = 4.0
    """How much slower a task with the default priority moves data."""
    failures: Literal["fault", "return_value"] = "fault"
    """How methods of PS_ScheduledTask refuse; both must be understood (windows facts 1)."""
    windows_tasks: tuple[str, ...] = ("\\Microsoft\\Windows\\Defrag\\ScheduledDefrag",
                                      "\\Microsoft\\Windows\\Servicing\\StartComponentCleanup")
    """Tasks of Windows itself, of which a real host has well over a hundred."""
    on_battery: bool = False
    """The host runs on a battery, as behind a UPS that looks like one."""


@dataclass
class Run:
    """One instance of a task: asked for, then running. ``actions`` are those still to come."""

    task: Task
    actions: list[Exec]
    caller: Caller | None = None
    process: SimProcess | None = None
    timers: list[Timer] = field(default_factory=list)
    ended: bool = False


@dataclass
class Task:
    """A registered task. ``last_result`` is LastTaskResult."""

    path: str
    name: str
    definition: TaskDefinition
    run_as: RunAs
    enabled: bool
    last_run: datetime | None = None
    last_result: int = codes.TASK_HAS_NOT_RUN
    starting: list[Run] = field(default_factory=list)
    running: list[Run] = field(default_factory=list)
    queued: int = 0
    timers: list[Timer] = field(default_factory=list)
    next_run: datetime | None = None

    @property
    def uri(self) -> str:
        r"""``\folder\name``."""
        return self.path + self.name

    @property
    def state(self) -> int:
        """TASK_STATE: running goes before disabled."""
        if self.running:
            return RUNNING
        if not self.enabled:
            return DISABLED
        return QUEUED if self.queued else READY


class TaskService:
    """All tasks of one host."""

    def __init__(self, processes: ProcessHost, directory: Accounts, note_change: Callable[[str], None],
                 settings: SchedulerSettings | None = None) -> None:
        self.processes = processes
        self.clock: SimClock = processes.clock
        self.facts = processes.facts
        self.accounts = directory
        self.settings = settings or SchedulerSettings()
        self.on_battery = self.settings.on_battery
        self.folders: set[str] = {"\\"}
        """Folders come into being with their first task and stay when the last one is gone."""
        self._tasks: dict[str, Task] = {}
        self._note = note_change
        for uri in self.settings.windows_tasks:
            self.add_foreign(uri)

    # -- tasks -----------------------------------------------------------------------------------------------------

    def tasks(self) -> list[Task]:
        """All registered tasks, in the order of their names."""
        return [self._tasks[key] for key in sorted(self._tasks)]

    def find(self, path: str | None, name: str) -> Task | None:
        """A task by its folder (None: the root) and name, in any case."""
        return self._tasks.get(_full_name(path, name).lower())

    def get(self, path: str | None, name: str | None, *, missing: int = codes.FILE_NOT_FOUND) -> Task:
        """The same, or TaskError ``missing``."""
        task = self.find(path, name or "")
        if task is None:
            raise TaskError(missing, _full_name(path, name or ""))
        return task

    def register(self, caller: Caller, source: str, *, path: str | None = None, name: str | None = None, user: str | None = None,
                 password: str | None = None, force: bool = False) -> Task:
        """Register a task, making its folder. ``force`` replaces one of the same name; its running instances go on.

        Without a name the URI in the XML tells it. TaskError: what the XML, the name or the account is refused for, ALREADY_EXISTS.
        """
        if not caller.is_administrator:
            raise TaskError(codes.ACCESS_DENIED, "only administrators register tasks")
        definition = parse_task(source, self.facts.os_version)
        full = _full_name(path, name) if name else definition.information.get("URI", "")
        if not full.strip("\\") or _BAD_NAME.search(full):
            raise TaskError(codes.INVALID_NAME, full)
        if not full.startswith("\\"):
            full = "\\" + full
        run_as = accounts.resolve(definition.principal, user, password, caller, self.accounts)
        before = self._tasks.get(full.lower())
        if before is not None and not force:
            raise TaskError(codes.ALREADY_EXISTS, full)
        folder, _unused, last = full.rpartition("\\")
        task = Task(folder + "\\", last, definition, run_as, definition.settings.enabled)
        if before is not None:
            self._forget_plans(before)
            task.running, before.running = before.running, []
            for run in task.running:
                run.task = task
        self._tasks[full.lower()] = task
        self._make_folders(folder + "\\")
        self._plan(task)
        self._note(f"register task {full}")
        return task

    def add_foreign(self, uri: str, command: str = "%windir%\\system32\\cmd.exe") -> Task:
        """A task of Windows or of another product, run as SYSTEM."""
        folder, _backslash, name = uri.rpartition("\\")
        definition = TaskDefinition((Exec(command),), Principal("LocalSystem", "S-1-5-18", highest=True), information={"URI": uri})
        task = Task(folder + "\\", name, definition, RunAs("SYSTEM", "service", accounts.SYSTEM, highest=True), True)
        self._tasks[uri.lower()] = task
        self._make_folders(task.path)
        return task

    def _make_folders(self, path: str) -> None:
        parts = path.strip("\\").split("\\")
        for count in range(len(parts)):
            self.folders.add("\\" + "\\".join(parts[:count + 1]) + "\\" if parts[0] else "\\")

    def delete(self, task: Task) -> None:
        """Remove a task; a program that it has started goes on."""
        del self._tasks[task.uri.lower()]
        self._forget_plans(task)
        self._note(f"delete task {task.uri}")

    def enable(self, task: Task, enabled: bool) -> None:
        """Allow or forbid new runs; running ones go on."""
        task.enabled = enabled
        self._note(f"{'enable' if enabled else 'disable'} task {task.uri}")

    # -- runs ------------------------------------------------------------------------------------------------------

    def start(self, task: Task) -> None:
        """Ask for a run on demand; it begins a moment later. TaskError TASK_DISABLED, NO_START_ON_DEMAND."""
        if not task.enabled:
            raise TaskError(codes.TASK_DISABLED, task.uri)
        if not task.definition.settings.allow_demand_start:
            raise TaskError(codes.NO_START_ON_DEMAND, task.uri)
        self._check_simulated(task)
        self._note(f"start task {task.uri}")
        self._request(task)

    def _request(self, task: Task) -> None:
        run = Run(task, list(task.definition.actions))
        task.starting.append(run)
        run.timers.append(self.clock.call_later(self.settings.start_lag, lambda: self._begin(run)))

    @staticmethod
    def _check_simulated(task: Task) -> None:
        settings = task.definition.settings
        if task.run_as.logon in ("interactive", "group") or task.run_as.account is None:
            raise SimulatorGap(f"a run as {task.run_as.name} with the log-on {task.run_as.logon} is not simulated")
        if settings.only_if_idle or settings.only_with_network or settings.restart_count:
            raise SimulatorGap("runs that wait for the idle state or the network, or are repeated after a failure, are not simulated")

    def _begin(self, run: Run) -> None:
        """The moment has come: look at the policy for several instances, then at the conditions."""
        task = run.task
        task.starting.remove(run)
        policy = task.definition.settings.instances
        if task.running and policy == "IgnoreNew":
            return
        if task.running and policy == "Queue":
            task.queued += 1
            return
        if policy == "StopExisting":
            for older in list(task.running):
                self._kill(older)
        if self.on_battery and task.definition.settings.disallow_start_on_batteries:
            task.last_result = codes.TASK_ATTEMPTED
            return
        self._run(run)

    def _run(self, run: Run) -> None:
        task = run.task
        task.last_run = self.clock.now()
        try:
            run.caller = accounts.log_on(task.run_as, self.accounts)
        except TaskError as refused:
            task.last_result = refused.hresult
            return
        task.last_result = codes.TASK_RUNNING
        task.running.append(run)
        limit = parse_duration(task.definition.settings.time_limit)
        if limit and task.definition.settings.allow_hard_terminate:
            run.timers.append(self.clock.call_later(limit.total_seconds(), lambda: self._kill(run)))
        self._next_action(run, 0)

    def _next_action(self, run: Run, result: int) -> None:
        """Start the next program, or end the run with the code of the last one. A program that cannot be started ends it, too."""
        if not run.actions:
            self._end(run, result)
            return
        action = run.actions.pop(0)
        caller = run.caller
        assert caller is not None
        settings = run.task.definition.settings
        token = identity.token_for(caller, self.facts.name, self.facts.domain)
        environment = self.processes.environment(token, {})
        command, arguments, directory = (expand(text or "", environment) for text in (action.command, action.arguments, action.directory))
        slowness = self.settings.low_io_slowness if settings.priority >= LOW_IO_FROM else 1.0
        try:
            process = self.processes.launch(caller, command, arguments, directory.strip('"') or None, slowness=slowness,
                                            on_exit=lambda ended: self._action_ended(run, ended))
        except Win32Error as refused:
            self._end(run, codes.from_win32(refused.code))
            return
        if process.exit_code is None:
            run.process = process

    def _action_ended(self, run: Run, process: SimProcess) -> None:
        if not run.ended:
            self._next_action(run, (process.exit_code or 0) & 0xFFFFFFFF)

    def _end(self, run: Run, result: int) -> None:
        run.ended = True
        for timer in run.timers:
            timer.cancel()
        task = run.task
        if run in task.running:
            task.running.remove(run)
        task.last_result = codes.TASK_RUNNING if task.running else result
        if task.queued and not task.running:
            task.queued -= 1
            self._request(task)

    def _kill(self, run: Run, result: int = codes.TASK_TERMINATED) -> None:
        run.ended = True
        if run.process is not None:
            run.process.terminate()
        self._end(run, result)

    def stop(self, task: Task) -> None:
        """End every instance. TaskError TASK_NOT_RUNNING when there is none."""
        if not task.running:
            raise TaskError(codes.TASK_NOT_RUNNING, task.uri)
        if not task.definition.settings.allow_hard_terminate:
            raise SimulatorGap("stopping a task that may not be ended by force is not simulated")
        self._note(f"stop task {task.uri}")
        task.queued = 0
        for run in list(task.running):
            self._kill(run)

    # -- time and power --------------------------------------------------------------------------------------------

    def _plan(self, task: Task) -> None:
        """Timers for the triggers, and for the removal of a task whose last trigger has expired."""
        offset = timedelta(minutes=self.facts.utc_offset_minutes)
        now = self.clock.now()
        ends = []
        for trigger in task.definition.triggers:
            start = parse_moment(trigger.start).instant(offset)
            if trigger.end is not None:
                ends.append(parse_moment(trigger.end).instant(offset))
            if trigger.enabled and start > now:
                task.next_run = start if task.next_run is None else min(start, task.next_run)
                task.timers.append(self.clock.call_later((start - now).total_seconds(), lambda: self._triggered(task)))
        after = task.definition.settings.delete_expired_after
        if after is not None and ends:
            due = max(ends) + parse_duration(after)
            task.timers.append(self.clock.call_later((due - now).total_seconds(), lambda: self._expire(task)))

    def _triggered(self, task: Task) -> None:
        offset = timedelta(minutes=self.facts.utc_offset_minutes)
        later = [start for start in (parse_moment(trigger.start).instant(offset) for trigger in task.definition.triggers if trigger.enabled)
                 if start > self.clock.now()]
        task.next_run = min(later, default=None)
        if task.enabled:
            self._check_simulated(task)
            self._request(task)

    def _expire(self, task: Task) -> None:
        if self._tasks.get(task.uri.lower()) is task:
            self.delete(task)

    @staticmethod
    def _forget_plans(task: Task) -> None:
        for run in task.starting:
            for timer in run.timers:
                timer.cancel()
        task.starting.clear()
        task.queued = 0
        for timer in task.timers:
            timer.cancel()

    def power(self, on_battery: bool) -> None:
        """The host goes on battery, or off it: tasks that say so are stopped."""
        self.on_battery = on_battery
        for task in self.tasks():
            if on_battery and task.definition.settings.stop_on_batteries:
                for run in list(task.running):
                    self._kill(run)

    def restart_host(self) -> None:
        """Every run ends with the host; registered tasks stay."""
        for task in self.tasks():
            for run in task.starting:
                for timer in run.timers:
                    timer.cancel()
            task.starting.clear()
            task.queued = 0
            for run in list(task.running):
                self._kill(run, codes.PROCESS_ENDED_BY_SHUTDOWN)

    def never(self) -> datetime | None:
        """LastRunTime of a task that has not run: a date of 1999 on current releases, nothing on 2012 R2 (general knowledge)."""
        return None if self.facts.os_version == "2012R2" else datetime(1999, 11, 30, tzinfo=UTC)


def _full_name(path: str | None, name: str) -> str:
    r"""``\folder\name``; the folder may be given without its first or last backslash."""
    folder = (path or "\\").strip("\\")
    return f"\\{folder}\\{name.lstrip(chr(92))}" if folder else "\\" + name.lstrip("\\")


def expand(text: str, environment: dict[str, str]) -> str:
    """Replace ``%NAME%`` wherever it stands, quotes or not; an unknown name stays as it is (ARCHITECTURE, windows facts 1)."""
    known = {name.upper(): value for name, value in environment.items()}
    out: list[str] = []
    at = 0
    while at < len(text):
        end = text.find("%", at + 1) if text[at] == "%" else -1
        value = known.get(text[at + 1:end].upper()) if end > at + 1 else None
        out.append(text[at] if value is None else value)
        at = at + 1 if value is None else end + 1
    return "".join(out)
