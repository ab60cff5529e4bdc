# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A task as a foreign client makes it: registered, started, followed on other connections, its copy at a file server, removed."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pypsrp.exceptions import WSManFaultError
from pypsrp.wsman import SelectorSet, WSMan
from simulator.cim.model import Account
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.spec import HostSpec
from simulator.windows.programs.base import Speeds
from simulator.windows.spec import ShareSpec, VolumeSpec
from unit.simulator.windows.task_helpers import FOLDER, task_xml

BASE = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/Microsoft/Windows/TaskScheduler"
METHODS, TASK = f"{BASE}/PS_ScheduledTask", f"{BASE}/MSFT_ScheduledTask"
DELETE = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete"
MIB = 1024**2
LINE = "/d /c C:\\Windows\\System32\\robocopy.exe C:\\in \\\\FILES\\backup\\HV1 disk /R:0 /W:0 /NP & exit 0"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    account = Account("Administrator", "secret", builtin_administrator=True, groups=frozenset({"Administrators"}))
    spec = HostSpec("HV1", "example.test", accounts=(account,), volumes=(VolumeSpec("C:"),), speeds=Speeds(copy_bytes_per_second=MIB))
    server = FileServerSpec("FILES", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")),
                            (ShareSpec("backup", "E:\\backup", ("EXAMPLE\\HV1$",)),))
    with Fleet([spec], tmp_path, file_servers=[server]) as running:
        files = running.hosts["HV1"].host.files
        files.create_directory("C:\\in")
        files.write_file("C:\\in\\disk", b"x" * (10 * MIB))
        yield running


class Client:
    """One connection of its own."""

    def __init__(self, fleet: Fleet) -> None:
        self.wsman = WSMan("127.0.0.1", port=fleet.hosts["HV1"].port, username="Administrator", password="secret", ssl=False, auth="ntlm",
                           encryption="always", no_proxy=True)

    def call(self, method: str, **parameters: str) -> ET.Element:
        body = ET.Element(f"{{{METHODS}}}{method}_INPUT")
        for name, value in parameters.items():
            ET.SubElement(body, f"{{{METHODS}}}{name}").text = value
        answer = self.wsman.invoke(f"{METHODS}/{method}", METHODS, body)
        assert answer.findtext(f".//{{{METHODS}}}ReturnValue") == "0"
        return answer

    def state(self) -> tuple[str | None, str | None]:
        """State and LastTaskResult."""
        found = self.wsman.get(TASK, selector_set=self.selectors())
        information = self.call("GetInfoByName", TaskName="copy", TaskPath=FOLDER)
        return found.findtext(f".//{{{TASK}}}State"), information.findtext(f".//{{{BASE}/MSFT_TaskDynamicInfo}}LastTaskResult")

    @staticmethod
    def selectors() -> SelectorSet:
        selectors = SelectorSet()
        selectors.add_option("TaskName", "copy")
        selectors.add_option("TaskPath", FOLDER)
        return selectors


def test_a_task_outlives_the_connection_that_started_it(fleet: Fleet) -> None:
    host = fleet.hosts["HV1"].host
    first = Client(fleet)
    registered = first.call("RegisterByXml", Xml=task_xml(LINE), TaskName="copy", TaskPath=FOLDER, Force="false")
    assert registered.findtext(f".//{{{BASE}/MSFT_TaskExecAction}}Arguments") == LINE
    assert registered.findtext(f".//{{{BASE}/MSFT_TaskIdleSettings}}IdleDuration") == "PT10M"
    first.call("StartByPath", TaskName="copy", TaskPath=FOLDER)
    assert first.state() == ("3", "267011")
    first.wsman.close()
    with fleet.locked():
        host.clock.advance(5)
        host.restart_winrm()
    second = Client(fleet)
    assert second.state() == ("4", "267009")
    with fleet.locked():
        host.clock.advance(10)
        copied = fleet.file_servers["FILES"].files.read_file("E:\\backup\\HV1\\disk")
    assert second.state() == ("3", "0")
    assert copied == b"x" * (10 * MIB)
    second.wsman.invoke(DELETE, TASK, None, selector_set=second.selectors())
    with pytest.raises(WSManFaultError) as gone:
        second.state()
    assert gone.value.code == 2150858752
    second.wsman.close()
    with fleet.locked():
        assert [task.path for task in host.tasks.tasks() if not task.path.startswith("\\Microsoft\\")] == []
        counted = host.counters
        assert (counted.by_operation["Invoke PS_ScheduledTask.RegisterByXml"], counted.writing, counted.reading) == (1, 3, 7)


@pytest.mark.parametrize(("method", "parameters"), [
    ("StartByPath", {"TaskName": "none", "TaskPath": FOLDER}), ("EnableByName", {"TaskName": "none", "TaskPath": FOLDER}),
    ("RegisterByXml", {"Xml": "<Task/>", "TaskName": "x"}),
])
def test_a_refusal_is_a_fault_of_the_provider(fleet: Fleet, method: str, parameters: dict[str, str]) -> None:
    client = Client(fleet)
    with pytest.raises(WSManFaultError) as caught:
        client.call(method, **parameters)
    assert (caught.value.code, caught.value.provider) == (1359, "WMI")
    client.wsman.close()
