# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The classes of the Task Scheduler: rows, filters, nested elements on the wire, the exported XML."""
from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from simulator.cim import wscim
from simulator.cim.model import CimError, Instance
from simulator.host import SimHost
from simulator.windows.scheduler.cim import NAMESPACE
from simulator.windows.scheduler.service import SchedulerSettings
from simulator.windows.scheduler.taskxml import parse_task
from unit.simulator.windows.task_helpers import CALLER, FOLDER, call, make_host, register, task_xml

URI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/" + NAMESPACE
XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
TRIGGER = ('<Triggers><TimeTrigger id="T"><StartBoundary>2030-01-01T00:00:00</StartBoundary>'
           "<EndBoundary>2031-01-01T00:00:00</EndBoundary>"
           "</TimeTrigger></Triggers>")


@pytest.fixture
def host(tmp_path: Path) -> SimHost:
    made = make_host(tmp_path)
    for name, path in (("one", FOLDER), ("two", FOLDER), ("one", "\\"), ("one", "\\Other\\Deep\\")):
        register(made, task_xml(f"/c rem {name}"), name, path)
    return made


def rows(host: SimHost, where: str = "") -> list[tuple[object, object]]:
    found = host.repository.query(NAMESPACE, f"SELECT * FROM MSFT_ScheduledTask {where}", CALLER).instances
    return [(row["TaskPath"], row["TaskName"]) for row in found]


@pytest.mark.parametrize(("where", "expected"), [
    ("", [(FOLDER, "one"), (FOLDER, "two"), ("\\", "one"), ("\\Other\\Deep\\", "one")]),
    ("WHERE TaskName = 'two'", [(FOLDER, "two")]), ("WHERE TaskName = \"TWO\" AND State = 3", [(FOLDER, "two")]),
    ("WHERE TaskPath = '\\\\agentless.hyperv\\\\'", [(FOLDER, "one"), (FOLDER, "two")]),
    ("WHERE TaskPath = '\\\\agentless.hyperv\\\\' AND TaskName = 'one'", [(FOLDER, "one")]),
    ("WHERE TaskPath = '\\\\agentless.hyperv'", []), ("WHERE TaskName LIKE 't%'", [(FOLDER, "two")]), ("WHERE State = 4", []),
])
def test_filters(host: SimHost, where: str, expected: list[tuple[str, str]]) -> None:
    assert sorted(rows(host, where)) == sorted(expected)


@pytest.mark.parametrize(("name", "path", "found"), [
    ("one", FOLDER, True), ("ONE", FOLDER.upper(), True), ("one", "\\agentless.hyperv", False), ("one", "agentless.hyperv\\", False),
    ("none", FOLDER, False), ("one", "\\", True), ("one", "\\Other\\", False),
])
def test_get_and_delete_take_both_keys_as_they_are(host: SimHost, name: str, path: str, found: bool) -> None:
    selectors = {"TaskName": name, "TaskPath": path}
    if not found:
        for operation in (host.repository.get, host.repository.delete):
            with pytest.raises(CimError) as caught:
                operation(NAMESPACE, "MSFT_ScheduledTask", selectors, CALLER)
            assert caught.value.kind == "not_found"
        return
    assert host.repository.get(NAMESPACE, "MSFT_ScheduledTask", selectors, CALLER)["TaskName"] == "one"
    before = len(rows(host))
    host.repository.delete(NAMESPACE, "MSFT_ScheduledTask", selectors, CALLER)
    assert len(rows(host)) == before - 1


def test_windows_has_tasks_of_its_own(tmp_path: Path) -> None:
    host = make_host(tmp_path, tasks=SchedulerSettings())
    foreign = rows(host)
    assert [path for path, _name in foreign] == ["\\Microsoft\\Windows\\Defrag\\", "\\Microsoft\\Windows\\Servicing\\"]
    register(host, task_xml())
    host.tasks.add_foreign("\\Other product\\nightly", "C:\\Windows\\System32\\cmd.exe")
    assert rows(host, "WHERE TaskPath = '\\\\agentless.hyperv\\\\'") == [(FOLDER, "copy")]
    assert len(rows(host)) == 4


def test_one_key_alone_finds_nothing(host: SimHost) -> None:
    with pytest.raises(CimError) as caught:
        host.repository.get(NAMESPACE, "MSFT_ScheduledTask", {"TaskName": "two"}, CALLER)
    assert caught.value.kind == "not_found"


def test_the_class_of_the_methods_has_no_instances(host: SimHost) -> None:
    assert host.repository.enumerate(NAMESPACE, "PS_ScheduledTask", CALLER) == []


@pytest.mark.parametrize("os_version", ["2012R2", "2016", "2022", "2025"])
def test_a_registered_task_travels_as_nested_elements(tmp_path: Path, os_version: str) -> None:
    host = make_host(tmp_path, os_version=os_version)
    xml = task_xml('/d /c "a" & b', directory="C:\\", extra=TRIGGER)
    parameters = {"Xml": xml, "TaskName": "copy", "TaskPath": FOLDER}
    outs = host.repository.invoke(NAMESPACE, "PS_ScheduledTask", {}, "RegisterByXml", parameters, CALLER)
    text = wscim.encode_output(host.repository.schema, NAMESPACE, "PS_ScheduledTask", "RegisterByXml", outs)
    root = ET.fromstring(text)
    task = root.find(f"{{{URI}/PS_ScheduledTask}}cmdletOutput")
    assert task is not None
    space = f"{{{URI}/MSFT_ScheduledTask}}"
    assert [task.findtext(space + name) for name in ("TaskName", "TaskPath", "State", "URI")] == ["copy", FOLDER, "3", FOLDER + "copy"]
    embedded = {name: task.find(space + name) for name in ("Actions", "Principal", "Settings", "Triggers")}
    shown = {name: (element.get(XSI + "type") or "").rpartition(":")[2] for name, element in embedded.items() if element is not None}
    assert shown == {"Actions": "MSFT_TaskExecAction_Type", "Principal": "MSFT_TaskPrincipal2_Type",
                     "Settings": "MSFT_TaskSettings3_Type", "Triggers": "MSFT_TaskTimeTrigger_Type"}
    action, principal, settings = embedded["Actions"], embedded["Principal"], embedded["Settings"]
    assert action is not None and principal is not None and settings is not None
    part = f"{{{URI}/MSFT_TaskExecAction}}"
    assert [action.findtext(part + name) for name in ("Execute", "Arguments", "WorkingDirectory")] == [
        "C:\\Windows\\System32\\cmd.exe", '/d /c "a" & b', "C:\\"]
    part = f"{{{URI}/MSFT_TaskPrincipal2}}"
    assert [principal.findtext(part + name) for name in ("UserId", "LogonType", "RunLevel", "Id")] == ["SYSTEM", "5", "1", "A"]
    part = f"{{{URI}/MSFT_TaskSettings3}}"
    names = ("ExecutionTimeLimit", "Priority", "MultipleInstances", "Enabled", "DisallowStartIfOnBatteries", "AllowDemandStart")
    assert [settings.findtext(part + name) for name in names] == ["PT0S", "5", "2", "true", "false", "true"]
    idle = settings.find(part + "IdleSettings")
    assert idle is not None
    assert idle.findtext(f"{{{URI}/MSFT_TaskIdleSettings}}IdleDuration") == "PT10M"
    assert root.findtext(f"{{{URI}/PS_ScheduledTask}}ReturnValue") == "0"


def test_run_information_has_no_path_and_times_are_times(host: SimHost) -> None:
    found = call(host, "GetInfoByName", TaskName="one", TaskPath=FOLDER)
    assert isinstance(found, Instance)
    text = wscim.encode_instance(host.repository.schema, found)
    root = ET.fromstring(text)
    space = f"{{{URI}/MSFT_TaskDynamicInfo}}"
    path = root.find(space + "TaskPath")
    assert path is not None
    assert path.get(XSI + "nil") == "true"
    assert (root.findtext(space + "LastTaskResult"), root.findtext(space + "NumberOfMissedRuns")) == ("267011", "0")


def test_the_exported_xml_says_the_same(host: SimHost) -> None:
    source = task_xml('/d /c "a" & <b>', extra="<RegistrationInfo><Author>me &amp; you</Author></RegistrationInfo>" + TRIGGER)
    register(host, source, "exported")
    text = call(host, "ExportByName", TaskName="exported", TaskPath=FOLDER)
    assert isinstance(text, str)
    assert text.startswith('<?xml version="1.0" encoding="UTF-16"?>\r\n<Task version="1.2" xmlns=')
    again, before = parse_task(text, "2022"), parse_task(source, "2022")
    assert (again.actions, again.principal, again.settings, again.triggers) == (
        before.actions, before.principal, before.settings, before.triggers)
    assert dict(again.information) == {"Author": "me & you", "URI": FOLDER + "exported"}
