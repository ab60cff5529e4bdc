# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The XML of tasks: what is taken with which defaults, and the code for what is wrong."""
from __future__ import annotations

from datetime import timedelta

import pytest
from simulator.cim.errors import SimulatorGap
from simulator.windows.scheduler import codes
from simulator.windows.scheduler.codes import TaskError
from simulator.windows.scheduler.definition import Exec, Principal, Settings
from simulator.windows.scheduler.taskxml import parse_duration, parse_task
from unit.simulator.windows.task_helpers import AS_SYSTEM, TASK_NS, task_xml

ACTIONS = "<Actions><Exec><Command>a.exe</Command></Exec></Actions>"
BARE = f'<Task version="1.2" xmlns="{TASK_NS}">{ACTIONS}</Task>'


def task(inner: str = ACTIONS, start: str = f'<Task version="1.2" xmlns="{TASK_NS}">') -> str:
    return f"{start}{inner}</Task>"


def test_what_is_left_out_has_the_defaults_of_the_schema() -> None:
    found = parse_task(BARE, "2022")
    assert found.settings == Settings()
    assert (found.settings.time_limit, found.settings.priority, found.settings.instances) == ("PT72H", 7, "IgnoreNew")
    assert (found.settings.disallow_start_on_batteries, found.settings.stop_on_batteries) == (True, True)
    assert (found.settings.enabled, found.settings.allow_demand_start, found.settings.allow_hard_terminate) == (True, True, True)
    assert (found.actions, found.principal, found.triggers, dict(found.information)) == ((Exec("a.exe"),), None, (), {})


def test_everything_that_is_said_is_read() -> None:
    xml = task_xml("a &b", directory="C:\\x", settings="<Priority> 4 </Priority><Hidden>1</Hidden><Enabled>false</Enabled>"
                   "<MultipleInstancesPolicy>Queue</MultipleInstancesPolicy><ExecutionTimeLimit>P1DT2H</ExecutionTimeLimit>"
                   "<IdleSettings><Duration>PT5M</Duration><StopOnIdleEnd>false</StopOnIdleEnd></IdleSettings>",
                   extra="<RegistrationInfo><Author>me</Author><Date>2026-01-01T00:00:00</Date></RegistrationInfo><Triggers/>")
    found = parse_task('<?xml version="1.0" encoding="UTF-16"?>\n' + xml, "2012R2")
    settings = found.settings
    assert (settings.priority, settings.hidden, settings.enabled, settings.instances, settings.time_limit) == (4, True, False, "Queue",
                                                                                                               "P1DT2H")
    assert (settings.idle.duration, settings.idle.wait_timeout, settings.idle.stop_on_end) == ("PT5M", "PT1H", False)
    assert found.principal == Principal("A", "S-1-5-18", highest=True)
    assert found.actions == (Exec("C:\\Windows\\System32\\cmd.exe", "a &b", "C:\\x"),)
    assert dict(found.information) == {"Author": "me", "Date": "2026-01-01T00:00:00"}


@pytest.mark.parametrize(("text", "seconds"), [
    ("PT0S", 0), ("PT72H", 259200), ("P3D", 259200), ("P1DT1H1M1.5S", 90061.5), ("PT1M", 60), ("P1M", 2592000), ("P1Y", 31536000),
])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "P", "PT", "72H", "PT1D", "pt1s", "-PT1S", "PT1.S", "P1H", "1"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


SETTINGS_WRONG = [(f"<Settings>{inner}</Settings>{ACTIONS}", code) for inner, code in [
    ("<Priority>11</Priority>", codes.INVALID_VALUE), ("<Priority>-1</Priority>", codes.INVALID_VALUE),
    ("<Priority>low</Priority>", codes.INVALID_VALUE), ("<Priority/>", codes.INVALID_VALUE),
    ("<Enabled>TRUE</Enabled>", codes.INVALID_VALUE), ("<Enabled>yes</Enabled>", codes.INVALID_VALUE),
    ("<ExecutionTimeLimit>0</ExecutionTimeLimit>", codes.INVALID_VALUE),
    ("<ExecutionTimeLimit>72H</ExecutionTimeLimit>", codes.INVALID_VALUE),
    ("<MultipleInstancesPolicy>ignorenew</MultipleInstancesPolicy>", codes.INVALID_VALUE),
    ("<Enabled>true</Enabled><Enabled>true</Enabled>", codes.TOO_MANY_NODES), ("<Enabled><x/></Enabled>", codes.UNEXPECTED_NODE),
    ("<enabled>true</enabled>", codes.UNEXPECTED_NODE), ("<AllowDemandStart>true</AllowDemandStart>", codes.UNEXPECTED_NODE),
    ("<UseUnifiedSchedulingEngine>true</UseUnifiedSchedulingEngine>", codes.UNEXPECTED_NODE),
    ("<Volatile>true</Volatile>", codes.UNEXPECTED_NODE),
    ('<Enabled xmlns="urn:x">true</Enabled>', codes.WRONG_NAMESPACE),
    ("<DeleteExpiredTaskAfter>PT0S</DeleteExpiredTaskAfter>", codes.MISSING_NODE),
    ("<RestartOnFailure><Interval>PT1M</Interval></RestartOnFailure>", codes.MISSING_NODE),
    ("<RestartOnFailure><Interval>PT1S</Interval><Count>1</Count></RestartOnFailure>", codes.INVALID_VALUE),
    ("<IdleSettings><Duration>PT1S</Duration></IdleSettings>", codes.INVALID_VALUE),
]]
PRINCIPALS_WRONG = [(f"<Principals>{inner}</Principals>{ACTIONS}", code) for inner, code in [
    ("", codes.MISSING_NODE), (AS_SYSTEM + AS_SYSTEM.replace('"A"', '"B"'), codes.TOO_MANY_NODES), ("<User/>", codes.UNEXPECTED_NODE),
    ("<Principal><UserId/></Principal>", codes.INVALID_VALUE),
    ("<Principal><LogonType>ServiceAccount</LogonType></Principal>", codes.INVALID_VALUE),
    ("<Principal><RunLevel>Highest</RunLevel></Principal>", codes.INVALID_VALUE), ('<Principal name="A"/>', codes.UNEXPECTED_NODE),
    ("<Principal><UserId>a</UserId><GroupId>b</GroupId></Principal>", codes.INVALID_VALUE),
]]
ACTIONS_WRONG = [
    ("", codes.MISSING_NODE), ("<Actions/>", codes.MISSING_NODE), ("<Actions><Exec/></Actions>", codes.MISSING_NODE),
    ("<Actions><Exec><Command/></Exec></Actions>", codes.INVALID_VALUE), ("<Actions><Run/></Actions>", codes.UNEXPECTED_NODE),
    (f"<Actions><Exec><Command>{'x' * 261}</Command></Exec></Actions>", codes.INVALID_VALUE),
    ("<Actions><Exec><Command>a</Command><WorkingDirectory/></Exec></Actions>", codes.INVALID_VALUE),
    (f"<Actions><Exec><Command>a</Command><WorkingDirectory>{'x' * 261}</WorkingDirectory></Exec></Actions>", codes.INVALID_VALUE),
    ('<Actions Context="A"><Exec><Command>a</Command></Exec></Actions>', codes.INVALID_VALUE),
    (f'<Principals>{AS_SYSTEM}</Principals><Actions Context="B"><Exec><Command>a</Command></Exec></Actions>', codes.INVALID_VALUE),
    (f'<Principals>{AS_SYSTEM}</Principals><Actions Context="A"><Exec id="A"><Command>a</Command></Exec></Actions>', codes.INVALID_VALUE),
    (f"<Actions>{'<Exec><Command>a</Command></Exec>' * 33}</Actions>", codes.TOO_MANY_NODES), (ACTIONS * 2, codes.TOO_MANY_NODES),
    (f"<Trigger/>{ACTIONS}", codes.UNEXPECTED_NODE), (f"<Triggers><Daily/></Triggers>{ACTIONS}", codes.UNEXPECTED_NODE),
    (f"<Triggers><TimeTrigger/></Triggers>{ACTIONS}", codes.MISSING_NODE),
    (f"<Triggers><TimeTrigger><StartBoundary>2026-01-01</StartBoundary></TimeTrigger></Triggers>{ACTIONS}", codes.INVALID_VALUE),
    (f"<RegistrationInfo><Name>a</Name></RegistrationInfo>{ACTIONS}", codes.UNEXPECTED_NODE),
]


@pytest.mark.parametrize(("inner", "code"), SETTINGS_WRONG + PRINCIPALS_WRONG + ACTIONS_WRONG)
def test_codes_of_wrong_parts(inner: str, code: int) -> None:
    with pytest.raises(TaskError) as caught:
        parse_task(task(inner), "2022")
    assert f"0x{caught.value.hresult:08X}" == f"0x{code:08X}"


@pytest.mark.parametrize(("xml", "code"), [
    ("", codes.MALFORMED_XML), ("text", codes.MALFORMED_XML), (BARE[:-1], codes.MALFORMED_XML), (BARE + BARE, codes.MALFORMED_XML),
    ('<?xml version="1.0" encoding="UTF-8"?>' + BARE, codes.MALFORMED_XML),
    ("<?xml version='1.0' encoding='utf-8'?>" + BARE, codes.MALFORMED_XML),
    (' <?xml version="1.0"?>' + BARE, codes.MALFORMED_XML), ("<!DOCTYPE Task [<!ENTITY x 'y'>]>" + BARE, codes.MALFORMED_XML),
    (BARE.replace(f' xmlns="{TASK_NS}"', ""), codes.WRONG_NAMESPACE), (BARE.replace("/mit/task", "/mit/Task"), codes.WRONG_NAMESPACE),
    (BARE.replace("Task ", "task ", 1).replace("</Task>", "</task>"), codes.UNEXPECTED_NODE),
    (BARE.replace("1.2", "1"), codes.INVALID_VALUE), (BARE.replace("1.2", "9.0"), codes.INVALID_VALUE),
    (BARE.replace("1.2", "x"), codes.INVALID_VALUE),
    (BARE.replace("version=", "Version="), codes.UNEXPECTED_NODE),
])
def test_codes_of_wrong_documents(xml: str, code: int) -> None:
    with pytest.raises(TaskError) as caught:
        parse_task(xml, "2022")
    assert f"0x{caught.value.hresult:08X}" == f"0x{code:08X}"


@pytest.mark.parametrize("xml", [BARE, '<?xml version="1.0"?>' + BARE, '<?xml version="1.0" encoding="UTF-16"?>' + BARE,
                                 '<?xml version="1.0" encoding="utf-16" standalone="yes"?>\r\n' + BARE, BARE.replace(' version="1.2"', ""),
                                 BARE.replace("<", "<t:").replace("<t:/", "</t:").replace("xmlns=", "xmlns:t="), BARE + "<!-- end -->"])
def test_spellings_that_are_taken(xml: str) -> None:
    assert parse_task(xml, "2022").actions == (Exec("a.exe"),)


@pytest.mark.parametrize(("version", "os_version", "taken"), [
    ("1.2", "2012R2", True), ("1.4", "2012R2", True), ("1.5", "2012R2", False), ("1.6", "2016", True), ("1.6", "2025", True),
    ("1.7", "2025", False),
])
def test_versions_of_the_schema(version: str, os_version: str, taken: bool) -> None:
    xml = BARE.replace("1.2", version)
    if taken:
        assert parse_task(xml, os_version).version == version
        return
    with pytest.raises(TaskError):
        parse_task(xml, os_version)


@pytest.mark.parametrize("inner", [
    "<Triggers><BootTrigger/></Triggers>" + ACTIONS, "<Triggers><CalendarTrigger/></Triggers>" + ACTIONS,
    "<Actions><ComHandler><ClassId>{x}</ClassId></ComHandler></Actions>", "<Actions><ShowMessage/></Actions>",
    "<Triggers><TimeTrigger><StartBoundary>2026-01-01T00:00:00</StartBoundary><Repetition/></TimeTrigger></Triggers>" + ACTIONS,
])
def test_what_is_not_imitated_is_no_refusal(inner: str) -> None:
    with pytest.raises(SimulatorGap):
        parse_task(task(inner), "2022")
