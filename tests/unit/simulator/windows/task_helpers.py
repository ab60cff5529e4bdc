# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole host without a listener, and the XML of tasks."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulator.cim.model import Account, Caller, CimValue, Instance
from simulator.cim.xmltext import text
from simulator.clock import SimClock
from simulator.host import SimHost
from simulator.spec import HostSpec
from simulator.windows.scheduler.cim import NAMESPACE
from simulator.windows.scheduler.service import SchedulerSettings
from simulator.windows.spec import VolumeSpec

SECRET = "Pä$$w0rd & <x>"
ADMINISTRATOR = Account("Administrator", SECRET, builtin_administrator=True, groups=frozenset({"Administrators"}))
ACCOUNTS = (
    ADMINISTRATOR,
    Account("backup", SECRET, domain="EXAMPLE", groups=frozenset({"Administrators"})),
    Account("copier", SECRET, domain="EXAMPLE", groups=frozenset({"Backup Operators"})),
    Account("clerk", SECRET, groups=frozenset({"Users"})),
)
CALLER = Caller(ADMINISTRATOR, "ntlm", True)
CLERK = Caller(ACCOUNTS[3], "ntlm", False)
TASK_NS = "http://schemas.microsoft.com/windows/2004/02/mit/task"
FOLDER = "\\agentless.hyperv\\"
CMD = "C:\\Windows\\System32\\cmd.exe"
AS_SYSTEM = '<Principal id="A"><UserId>S-1-5-18</UserId><RunLevel>HighestAvailable</RunLevel></Principal>'
SETTINGS = ("<DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries><ExecutionTimeLimit>PT0S</ExecutionTimeLimit>"
            "<Priority>5</Priority>")


def task_xml(arguments: str | None = "/d /c exit 0", *, command: str = CMD, directory: str | None = None, settings: str = SETTINGS,
             principal: str = AS_SYSTEM, version: str = "1.2", extra: str = "", actions: str | None = None) -> str:
    """A task in the form of windows facts 1."""
    inner = f"<Command>{text(command)}</Command>"
    inner += "" if arguments is None else f"<Arguments>{text(arguments)}</Arguments>"
    inner += "" if directory is None else f"<WorkingDirectory>{text(directory)}</WorkingDirectory>"
    body = actions if actions is not None else f'<Actions Context="A"><Exec>{inner}</Exec></Actions>'
    return (f'<Task version="{version}" xmlns="{TASK_NS}">{extra}<Principals>{principal}</Principals>'
            f"<Settings>{settings}</Settings>{body}</Task>")


def make_host(root: Path, **values: Any) -> SimHost:
    """A domain member with C: and D:."""
    given: dict[str, Any] = {"domain": "example.test", "accounts": ACCOUNTS, "volumes": (VolumeSpec("C:"), VolumeSpec("D:")),
                             "tasks": SchedulerSettings(windows_tasks=()), **values}
    return SimHost.create(HostSpec("HV1", **given), root, SimClock())


def call(host: SimHost, method: str, caller: Caller = CALLER, **parameters: CimValue) -> CimValue:
    """Call a method of PS_ScheduledTask as a client does; its cmdletOutput. CimError for a fault, AssertionError for a return value."""
    outs = {param.name: value for param, value in host.repository.invoke(NAMESPACE, "PS_ScheduledTask", {}, method, parameters, caller)}
    assert outs["ReturnValue"] == 0, outs
    return outs.get("cmdletOutput")


def register(host: SimHost, xml: str, name: str = "copy", path: str = FOLDER, **values: CimValue) -> Instance:
    """RegisterByXml; the registered task."""
    made = call(host, "RegisterByXml", Xml=xml, TaskName=name, TaskPath=path, **values)
    assert isinstance(made, Instance)
    return made


def run_task(host: SimHost, xml: str, name: str = "copy", seconds: float = 60.0, **values: CimValue) -> int:
    """Register and start a task, let time pass; LastTaskResult."""
    register(host, xml, name, **values)
    call(host, "StartByPath", TaskName=name, TaskPath=FOLDER)
    host.clock.advance(seconds)
    return int(str(info(host, name)["LastTaskResult"]))


def info(host: SimHost, name: str = "copy") -> Mapping[str, CimValue]:
    """GetInfoByName."""
    found = call(host, "GetInfoByName", TaskName=name, TaskPath=FOLDER)
    assert isinstance(found, Instance)
    return found.values


def state(host: SimHost, name: str = "copy", path: str = FOLDER) -> int:
    """State of the task, by Get."""
    return int(str(host.repository.get(NAMESPACE, "MSFT_ScheduledTask", {"TaskName": name, "TaskPath": path}, CALLER)["State"]))
