# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""root/Microsoft/Windows/TaskScheduler: PS_ScheduledTask, MSFT_ScheduledTask and what they carry (windows facts 1)."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from simulator.cim.errors import SimulatorGap
from simulator.cim.model import Caller, CimError, CimValue, Instance
from simulator.cim.provider import Invocation, MethodHandler, MethodOutcome
from simulator.cim.repository import Repository
from simulator.windows.scheduler import codes
from simulator.windows.scheduler.codes import TaskError
from simulator.windows.scheduler.definition import INSTANCE_POLICIES, Exec, TimeTrigger
from simulator.windows.scheduler.export import export_task
from simulator.windows.scheduler.service import Task, TaskService

NAMESPACE = "root/Microsoft/Windows/TaskScheduler"
METHODS_CLASS = "PS_ScheduledTask"

_LOGON_NUMBERS = {"service": 5, "password": 1, "s4u": 2, "interactive": 3, "group": 4}
_COMPATIBILITY = {"1.0": 0, "1.1": 1, "1.2": 2, "1.3": 3}


def _instance(class_name: str, **values: CimValue) -> Instance:
    return Instance(NAMESPACE, class_name, {name: value for name, value in values.items() if value is not None})


def task_instance(task: Task) -> Instance:
    """A row of MSFT_ScheduledTask; embedded instances are of the newest subclasses (windows facts 1)."""
    information = task.definition.information
    texts: dict[str, CimValue] = {name: information.get(name) for name in (
        "Author", "Date", "Description", "Documentation", "SecurityDescriptor", "Source", "Version")}
    return _instance(
        "MSFT_ScheduledTask", TaskName=task.name, TaskPath=task.path, State=task.state, URI=task.uri,
        Actions=[_action(action) for action in task.definition.actions], Principal=_principal(task), Settings=_settings(task),
        Triggers=[_trigger(trigger) for trigger in task.definition.triggers] or None, **texts)


def _action(action: Exec) -> Instance:
    return _instance("MSFT_TaskExecAction", Id=action.id, Execute=action.command, Arguments=action.arguments,
                     WorkingDirectory=action.directory)


def _trigger(trigger: TimeTrigger) -> Instance:
    return _instance("MSFT_TaskTimeTrigger", Id=trigger.id, Enabled=trigger.enabled, StartBoundary=trigger.start, EndBoundary=trigger.end,
                     ExecutionTimeLimit=trigger.time_limit, RandomDelay=trigger.random_delay)


def _principal(task: Task) -> Instance:
    principal = task.definition.principal
    group = task.run_as.logon == "group"
    return _instance(
        "MSFT_TaskPrincipal2", Id=(principal.id if principal else None) or "Author", UserId=None if group else task.run_as.name,
        GroupId=task.run_as.name if group else None, LogonType=_LOGON_NUMBERS[task.run_as.logon],
        RunLevel=1 if principal is not None and principal.highest else 0, DisplayName=principal.display_name if principal else None,
        ProcessTokenSidType=2, RequiredPrivilege=list(principal.privileges) if principal and principal.privileges else None)


def _settings(task: Task) -> Instance:
    settings = task.definition.settings
    idle = _instance("MSFT_TaskIdleSettings", IdleDuration=settings.idle.duration, WaitTimeout=settings.idle.wait_timeout,
                     StopOnIdleEnd=settings.idle.stop_on_end, RestartOnIdle=settings.idle.restart)
    return _instance(
        "MSFT_TaskSettings3", AllowDemandStart=settings.allow_demand_start, AllowHardTerminate=settings.allow_hard_terminate,
        Compatibility=_COMPATIBILITY.get(task.definition.version, 4), DeleteExpiredTaskAfter=settings.delete_expired_after,
        DisallowStartIfOnBatteries=settings.disallow_start_on_batteries, Enabled=task.enabled, ExecutionTimeLimit=settings.time_limit,
        Hidden=settings.hidden, IdleSettings=idle, MultipleInstances=INSTANCE_POLICIES.index(settings.instances),
        NetworkSettings=_instance("MSFT_TaskNetworkSettings"), Priority=settings.priority, RestartCount=settings.restart_count,
        RestartInterval=settings.restart_interval, RunOnlyIfIdle=settings.only_if_idle,
        RunOnlyIfNetworkAvailable=settings.only_with_network, StartWhenAvailable=settings.start_when_available,
        StopIfGoingOnBatteries=settings.stop_on_batteries, WakeToRun=settings.wake_to_run,
        DisallowStartOnRemoteAppSession=settings.not_in_remote_app, UseUnifiedSchedulingEngine=settings.unified_engine, Volatile=False)


def info_instance(task: Task, service: TaskService) -> Instance:
    """MSFT_TaskDynamicInfo, with a null TaskPath as a real dump shows it (windows facts 1)."""
    return _instance("MSFT_TaskDynamicInfo", TaskName=task.name, LastRunTime=task.last_run or service.never(),
                     LastTaskResult=task.last_result, NextRunTime=task.next_run if task.enabled else None, NumberOfMissedRuns=0)


@dataclass
class ScheduledTasks:
    """MSFT_ScheduledTask."""

    service: TaskService

    def instances(self, caller: Caller) -> Iterable[Instance]:
        """All tasks, the hidden ones too."""
        del caller
        return [task_instance(task) for task in self.service.tasks()]

    def get(self, keys: Mapping[str, str], caller: Caller) -> Instance | None:
        """One task. Its path must be spelled with both backslashes, as it is a key."""
        del caller
        task = self.service.find(keys["TaskPath"], keys["TaskName"])
        return task_instance(task) if task is not None and task.path.lower() == keys["TaskPath"].lower() else None

    def delete(self, instance: Instance, caller: Caller) -> None:
        """Unregister, which is a plain DeleteInstance."""
        if not caller.is_administrator:
            raise CimError("access_denied", "Access denied", hresult=codes.ACCESS_DENIED)
        task = self.service.find(str(instance["TaskPath"]), str(instance["TaskName"]))
        assert task is not None
        self.service.delete(task)


@dataclass
class TaskMethods:
    """PS_ScheduledTask: no instances, static methods only."""

    service: TaskService
    method_names: Iterable[str]
    """All methods of the class; calling one that is not imitated must be noticed."""
    methods: Mapping[str, MethodHandler] = field(init=False)

    def __post_init__(self) -> None:
        done: dict[str, Callable[[Invocation], MethodOutcome]] = {
            "RegisterByXml": self._register, "StartByPath": self._start, "StopByPath": self._stop, "GetInfoByName": self._info,
            "ExportByName": self._export, "EnableByName": self._enable, "DisableByName": self._disable}
        self.methods = {name: self._refusing(done[name]) if name in done else _gap(name) for name in self.method_names}

    def instances(self, caller: Caller) -> Iterable[Instance]:
        """None."""
        del caller
        return ()

    def _refusing(self, handler: MethodHandler) -> MethodHandler:
        """Turns TaskError into a fault or a ReturnValue, as the settings say."""
        def call(invocation: Invocation) -> MethodOutcome:
            try:
                return handler(invocation)
            except TaskError as refused:
                if self.service.settings.failures == "return_value":
                    return {"ReturnValue": refused.hresult}
                kind = "access_denied" if refused.hresult == codes.ACCESS_DENIED else "failed"
                raise CimError(kind, refused.message, hresult=refused.hresult) from refused
        return call

    def _task(self, call: Invocation, missing: int = codes.FILE_NOT_FOUND) -> Task:
        return self.service.get(_text(call["TaskPath"]), _text(call["TaskName"]), missing=missing)

    def _register(self, call: Invocation) -> MethodOutcome:
        task = self.service.register(
            call.caller, _text(call["Xml"]) or "", path=_text(call["TaskPath"]), name=_text(call["TaskName"]), user=_text(call["User"]),
            password=_text(call["Password"]), force=call["Force"] is True)
        return {"ReturnValue": 0, "cmdletOutput": task_instance(task)}

    def _start(self, call: Invocation) -> MethodOutcome:
        self.service.start(self._task(call))
        return {"ReturnValue": 0}

    def _stop(self, call: Invocation) -> MethodOutcome:
        self.service.stop(self._task(call))
        return {"ReturnValue": 0}

    def _info(self, call: Invocation) -> MethodOutcome:
        return {"ReturnValue": 0, "cmdletOutput": info_instance(self._task(call), self.service)}

    def _export(self, call: Invocation) -> MethodOutcome:
        return {"ReturnValue": 0, "cmdletOutput": export_task(self._task(call))}

    def _enable(self, call: Invocation) -> MethodOutcome:
        return self._set_enabled(call, True)

    def _disable(self, call: Invocation) -> MethodOutcome:
        return self._set_enabled(call, False)

    def _set_enabled(self, call: Invocation, enabled: bool) -> MethodOutcome:
        task = self._task(call, codes.NOT_FOUND)
        self.service.enable(task, enabled)
        return {"ReturnValue": 0, "cmdletOutput": task_instance(task)}


def _text(value: CimValue) -> str | None:
    return value if isinstance(value, str) else None


def _gap(name: str) -> MethodHandler:
    def refuse(call: Invocation) -> MethodOutcome:
        raise SimulatorGap(f"{METHODS_CLASS}.{name} is not simulated")
    return refuse


def register(repository: Repository, service: TaskService) -> None:
    """Serve the classes of the namespace."""
    methods = repository.schema.get(NAMESPACE, METHODS_CLASS).methods
    repository.register(NAMESPACE, METHODS_CLASS, TaskMethods(service, tuple(methods)))
    repository.register(NAMESPACE, "MSFT_ScheduledTask", ScheduledTasks(service))
