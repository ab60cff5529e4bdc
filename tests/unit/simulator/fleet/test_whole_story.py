# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All parts together: a shadow copy made over CIM while a guest writes, its disk copied by a program, and the copy proves itself."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pypsrp.wsman import SelectorSet, WSMan
from simulator.cim.model import Account
from simulator.disks import proof
from simulator.fleet import Fleet
from simulator.hyperv.spec import MIB, DiskSpec, VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import VolumeSpec
from winrm.protocol import Protocol

SHADOW = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/Win32_ShadowCopy"
DISK = "C:\\VMs\\web\\web.vhdx"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    account = Account("Administrator", "secret", builtin_administrator=True, groups=frozenset({"Administrators"}))
    machine = VmSpec("web", folder="C:\\VMs\\web", disks=(DiskSpec(path=DISK, size=64 * MIB),))
    spec = HostSpec("HV1", accounts=(account,), volumes=(VolumeSpec("C:"), VolumeSpec("D:")), vms=(machine,), guest_writes={"web": 20.0})
    with Fleet([spec], tmp_path) as running:
        yield running


def run(protocol: Protocol, line: str) -> tuple[bytes, bytes, int]:
    shell = protocol.open_shell(codepage=65001)
    try:
        command = protocol.run_command(shell, line)
        return protocol.get_command_output(shell, command)
    finally:
        protocol.close_shell(shell, close_session=False)


def test_a_copy_out_of_a_shadow_holds_every_write_up_to_the_shadow_and_none_after(fleet: Fleet, tmp_path: Path) -> None:
    running = fleet.hosts["HV1"]
    with fleet.locked():
        host = running.host
        guest = next(iter(host.guests.values()))
        host.clock.advance(30)
        before = guest.sequence
    assert before > 100
    client = WSMan("127.0.0.1", port=running.port, username="Administrator", password="secret", ssl=False, auth="ntlm", encryption="always",
                   no_proxy=True)
    question = ET.Element(f"{{{SHADOW}}}Create_INPUT")
    ET.SubElement(question, f"{{{SHADOW}}}Volume").text = "C:\\"
    ET.SubElement(question, f"{{{SHADOW}}}Context").text = "ClientAccessible"
    answer = client.invoke(f"{SHADOW}/Create", SHADOW, question)
    assert answer.findtext(f".//{{{SHADOW}}}ReturnValue") == "0"
    shadow_id = answer.findtext(f".//{{{SHADOW}}}ShadowID")
    assert shadow_id is not None
    selectors = SelectorSet()
    selectors.add_option("ID", shadow_id)
    device = client.get(SHADOW, selector_set=selectors).findtext(f".//{{{SHADOW}}}DeviceObject")
    assert device is not None
    with fleet.locked():
        after = guest.sequence

    protocol = Protocol(running.url, transport="ntlm", username="Administrator", password="secret", proxy=None)
    assert run(protocol, f"mklink /d C:\\shadow {device}\\")[2] == 0
    out, err, code = run(protocol, "C:\\Windows\\System32\\robocopy.exe C:\\shadow\\VMs\\web D:\\copy web.vhdx /R:0 /W:0")
    assert (code, err) == (1, b""), out
    assert run(protocol, "rmdir C:\\shadow")[2] == 0
    client.invoke("http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete", SHADOW, None, selector_set=selectors)
    client.close()

    with fleet.locked():
        assert host.shadows.copies == []
        assert guest.sequence > after, "the guest went on while its disk was copied"
        copied = host.files.real_path("D:\\copy\\web.vhdx")
        shown = proof.inspect(copied)
    assert before <= shown.last <= after
    assert shown.consistent, shown.summary()
    assert shown.beyond(after) == ()
