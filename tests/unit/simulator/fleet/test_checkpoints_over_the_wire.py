# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A checkpoint as a foreign client makes, finds, applies and removes it."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pypsrp.wsman import NAMESPACES, SelectorSet, WSMan
from simulator.cim.model import Account
from simulator.fleet import Fleet
from simulator.hyperv.spec import DiskSpec, VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import VolumeSpec

BASE = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2"
SERVICE, SETTINGS, SYSTEM = (f"{BASE}/{name}" for name in (
    "Msvm_VirtualSystemSnapshotService", "Msvm_VirtualSystemSettingData", "Msvm_ComputerSystem"))
GUID = "0A1B2C3D-0000-4000-8000-00000000ABCD"
CRASH = ('<INSTANCE CLASSNAME="Msvm_VirtualSystemSnapshotSettingData"><PROPERTY NAME="ConsistencyLevel" TYPE="uint8"><VALUE>2</VALUE>'
         '</PROPERTY></INSTANCE>')


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    account = Account("Administrator", "secret", builtin_administrator=True, groups=frozenset({"Administrators"}))
    machine = VmSpec("web", vm_id=GUID, folder="D:\\VMs\\web", state="off", disks=(DiskSpec("D:\\VMs\\web\\web.vhdx"),))
    spec = HostSpec("HV1", accounts=(account,), volumes=(VolumeSpec("C:"), VolumeSpec("D:")), vms=(machine,))
    with Fleet([spec], tmp_path) as running:
        yield running


def connect(fleet: Fleet) -> WSMan:
    return WSMan("127.0.0.1", port=fleet.hosts["HV1"].port, username="Administrator", password="secret", ssl=False, auth="ntlm",
                 encryption="always", no_proxy=True)


def selectors(**values: str) -> SelectorSet:
    chosen = SelectorSet()
    for name, value in values.items():
        chosen.add_option(name, value)
    return chosen


def reference(parent: ET.Element, name: str, uri: str, **keys: str) -> None:
    """A parameter that is a reference."""
    element = ET.SubElement(parent, f"{{{SERVICE}}}{name}")
    ET.SubElement(element, f"{{{NAMESPACES['wsa']}}}Address").text = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
    inside = ET.SubElement(element, f"{{{NAMESPACES['wsa']}}}ReferenceParameters")
    ET.SubElement(inside, f"{{{NAMESPACES['wsman']}}}ResourceURI").text = uri
    chosen = ET.SubElement(inside, f"{{{NAMESPACES['wsman']}}}SelectorSet")
    for key, value in keys.items():
        ET.SubElement(chosen, f"{{{NAMESPACES['wsman']}}}Selector", Name=key).text = value


def invoke(client: WSMan, method: str, body: ET.Element) -> ET.Element:
    one = selectors(CreationClassName="Msvm_VirtualSystemSnapshotService")
    return client.invoke(f"{SERVICE}/{method}", SERVICE, body, selector_set=one)


def follow(fleet: Fleet, client: WSMan, answer: ET.Element) -> str | None:
    """JobState of the job of an answer, after its time; asked for as the reference in the answer says."""
    assert answer.findtext(f".//{{{SERVICE}}}ReturnValue") == "4096"
    uri = answer.findtext(f".//{{{SERVICE}}}Job//{{{NAMESPACES['wsman']}}}ResourceURI")
    job = answer.findtext(f".//{{{SERVICE}}}Job//{{{NAMESPACES['wsman']}}}Selector[@Name='InstanceID']")
    assert (uri, job is None) == (f"{BASE}/Msvm_ConcreteJob", False)
    with fleet.locked():
        fleet.hosts["HV1"].host.clock.advance(5)
    return client.get(uri, selector_set=selectors(InstanceID=str(job))).findtext(f".//{{{uri}}}JobState")


def test_a_checkpoint_from_its_making_to_its_end(fleet: Fleet) -> None:
    client = connect(fleet)
    body = ET.Element(f"{{{SERVICE}}}CreateSnapshot_INPUT")
    reference(body, "AffectedSystem", SYSTEM, Name=GUID)
    ET.SubElement(body, f"{{{SERVICE}}}SnapshotSettings").text = CRASH
    ET.SubElement(body, f"{{{SERVICE}}}SnapshotType").text = "32768"
    answer = invoke(client, "CreateSnapshot", body)
    assert answer.find(f".//{{{SERVICE}}}ResultingSnapshot") is None
    assert follow(fleet, client, answer) == "7"
    with fleet.locked():
        machine = fleet.hosts["HV1"].host.hyperv.machines[GUID]
        made, = machine.checkpoints
    row = client.get(SETTINGS, selector_set=selectors(InstanceID=f"Microsoft:{made}"))
    assert row.findtext(f".//{{{SETTINGS}}}VirtualSystemType") == "Microsoft:Hyper-V:Snapshot:Recovery"
    for method, parameter in (("ApplySnapshot", "Snapshot"), ("DestroySnapshot", "AffectedSnapshot")):
        body = ET.Element(f"{{{SERVICE}}}{method}_INPUT")
        reference(body, parameter, SETTINGS, InstanceID=f"Microsoft:{made}")
        assert follow(fleet, client, invoke(client, method, body)) == "7"
    client.close()
    with fleet.locked():
        assert machine.checkpoints == {}
