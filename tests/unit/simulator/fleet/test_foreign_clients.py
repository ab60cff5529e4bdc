# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients nobody here wrote, against a running fleet: pypsrp's WSMan (CIM) and pywinrm's Protocol (shells)."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from xml.etree import ElementTree as ET

import pytest
from pypsrp.exceptions import AuthenticationError, WSManFaultError
from pypsrp.wsman import SelectorSet, WSMan
from simulator.fleet import Fleet, RunningHost
from winrm.exceptions import InvalidCredentialsError, WinRMOperationTimeoutError
from winrm.exceptions import WSManFaultError as ShellFault
from winrm.protocol import Protocol

CLASS = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/Msvm_ComputerSystem"
OPERATING_SYSTEM = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/Win32_OperatingSystem"
ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"


@pytest.fixture(params=["HV1", "HV2"])
def running(request: pytest.FixtureRequest, fleet: Fleet) -> RunningHost:
    return fleet.hosts[request.param]


Connect = Callable[..., WSMan]


@pytest.fixture
def connect(running: RunningHost, password: str) -> Iterator[Connect]:
    opened: list[WSMan] = []

    def make(user: str = "Administrator", secret: str | None = None) -> WSMan:
        client = WSMan("127.0.0.1", port=running.port, username=user, password=secret or password, ssl=False, auth="ntlm",
                       encryption="always", no_proxy=True)
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.close()


def enumerate_all(client: WSMan, uri: str, optimised: bool) -> list[ET.Element]:
    """All items, by whatever batches they come."""
    question = ET.Element(f"{{{ENUMERATION}}}Enumerate")
    if optimised:
        ET.SubElement(question, f"{{{WSMAN}}}OptimizeEnumeration")
        ET.SubElement(question, f"{{{WSMAN}}}MaxElements").text = "100"
    body = client.enumerate(uri, question)
    items = [item for parent in body.iter(f"{{{WSMAN}}}Items") for item in parent]
    context = body.findtext(f".//{{{ENUMERATION}}}EnumerationContext")
    while context:
        pull = ET.Element(f"{{{ENUMERATION}}}Pull")
        ET.SubElement(pull, f"{{{ENUMERATION}}}EnumerationContext").text = context
        body = client.pull(uri, pull)
        items += [item for parent in body.iter(f"{{{ENUMERATION}}}Items") for item in parent]
        context = body.findtext(f".//{{{ENUMERATION}}}EnumerationContext")
    return items


def machines(client: WSMan, optimised: bool = True) -> dict[str, str]:
    """ElementName -> Name of all systems."""
    items = enumerate_all(client, CLASS, optimised)
    return {item.findtext(f"{{{CLASS}}}ElementName") or "": item.findtext(f"{{{CLASS}}}Name") or "" for item in items}


# -- pypsrp


@pytest.mark.parametrize("optimised", [False, True])
def test_enumerate_and_pull(connect: Connect, running: RunningHost, optimised: bool) -> None:
    assert set(machines(connect(), optimised)) == {running.host.name, "web", "db & <co>"}


def test_get(connect: Connect) -> None:
    client = connect()
    selectors = SelectorSet()
    selectors.add_option("CreationClassName", "Msvm_ComputerSystem")
    selectors.add_option("Name", machines(client)["web"])
    found = client.get(CLASS, selector_set=selectors)
    assert found.findtext(f"{{{CLASS}}}Msvm_ComputerSystem/{{{CLASS}}}ElementName") == "web"
    assert found.findtext(f"{{{CLASS}}}Msvm_ComputerSystem/{{{CLASS}}}EnabledState") == "2"


def test_get_of_what_is_gone(connect: Connect, running: RunningHost) -> None:
    selectors = SelectorSet()
    selectors.add_option("CreationClassName", "Msvm_ComputerSystem")
    selectors.add_option("Name", "00000000-0000-0000-0000-000000000000")
    with pytest.raises(WSManFaultError) as caught:
        connect().get(CLASS, selector_set=selectors)
    assert (caught.value.code, caught.value.machine) == (2150858752, f"{running.host.name}.example.test")


def test_invoke(connect: Connect, running: RunningHost, fleet: Fleet) -> None:
    client = connect()
    selectors = SelectorSet()
    selectors.add_option("Name", machines(client)["db & <co>"])
    with fleet.locked():
        before = running.host.counters.snapshot()
    question = ET.Element(f"{{{CLASS}}}RequestStateChange_INPUT")
    ET.SubElement(question, f"{{{CLASS}}}RequestedState").text = "1"
    answer = client.invoke(f"{CLASS}/RequestStateChange", CLASS, question, selector_set=selectors)
    assert answer.findtext(f".//{{{CLASS}}}ReturnValue") == "32775"
    with fleet.locked():
        counted = running.host.counters.since(before)
    assert counted.by_operation == {"Invoke Msvm_ComputerSystem.RequestStateChange": 1}
    assert (counted.reading, counted.writing) == (0, 1)


def test_the_size_of_messages_is_read_from_the_host(connect: Connect) -> None:
    client = connect()
    client.update_max_payload_size()
    assert client.max_envelope_size == 512000
    assert len(machines(client)) == 3


def test_wrong_password(connect: Connect) -> None:
    with pytest.raises(AuthenticationError):
        machines(connect(secret="wrong"))


def test_rights(connect: Connect, running: RunningHost) -> None:
    everything = {running.host.name, "web", "db & <co>"}
    assert set(machines(connect("operator"))) == everything
    assert set(machines(connect("EXAMPLE\\backup"))) == everything
    assert not {"web", "db & <co>"} & set(machines(connect("guest")))
    assert not {"web", "db & <co>"} & set(machines(connect("local"))), "a filtered token over the network"
    for user in ("nobody", "guest", "operator", "local"):
        with pytest.raises(WSManFaultError) as caught:
            enumerate_all(connect(user), OPERATING_SYSTEM, optimised=True)
        assert caught.value.code == 5


# -- pywinrm


@pytest.fixture
def protocol(running: RunningHost, password: str) -> Iterator[Protocol]:
    client = Protocol(running.url, transport="ntlm", username="Administrator", password=password, message_encryption="always", proxy=None,
                      operation_timeout_sec=20, read_timeout_sec=30)
    yield client
    client.transport.close_session()


def test_a_command_from_open_to_close(protocol: Protocol, running: RunningHost, fleet: Fleet) -> None:
    shell = protocol.open_shell(codepage=65001, env_vars={"GREETING": "grüß dich 100%"}, working_directory="C:\\Windows\\Temp")
    command = protocol.run_command(shell, "echo", ["%GREETING%", "from", "%CD%"])
    assert protocol.get_command_output(shell, command) == ("grüß dich 100% from C:\\Windows\\Temp\r\n".encode(), b"", 0)
    protocol.cleanup_command(shell, command)
    second = protocol.run_command(shell, "exit", ["7"])
    assert protocol.get_command_output(shell, second) == (b"", b"", 7)
    protocol.cleanup_command(shell, second)
    protocol.close_shell(shell, close_session=False)
    with pytest.raises(ShellFault) as caught:
        protocol.run_command(shell, "echo", ["x"])
    assert caught.value.wsman_fault_code == 2150858843
    with fleet.locked():
        assert running.host.processes.running() == []


def test_an_unknown_program(protocol: Protocol) -> None:
    shell = protocol.open_shell(codepage=65001)
    command = protocol.run_command(shell, "C:\\Windows\\System32\\nothing.exe")
    out, err, code = protocol.get_command_output(shell, command)
    assert out == b""
    assert code != 0
    assert b"nothing.exe" in err
    protocol.close_shell(shell)


def test_input(protocol: Protocol) -> None:
    shell = protocol.open_shell(codepage=65001)
    command = protocol.run_command(shell, "C:\\Windows\\System32\\findstr.exe", ["b"])
    protocol.send_command_input(shell, command, "abc\r\nxyz\r\nb\r\n", end=True)
    assert protocol.get_command_output(shell, command) == (b"abc\r\nb\r\n", b"", 0)
    protocol.close_shell(shell)


def test_a_receive_without_output_times_out(protocol: Protocol) -> None:
    shell = protocol.open_shell(codepage=65001)
    command = protocol.run_command(shell, "C:\\Windows\\System32\\findstr.exe", ["b"])
    with pytest.raises(WinRMOperationTimeoutError):
        protocol.get_command_output_raw(shell, command)
    protocol.cleanup_command(shell, command)
    protocol.close_shell(shell)


def test_wrong_password_of_a_shell(running: RunningHost) -> None:
    client = Protocol(running.url, transport="ntlm", username="Administrator", password="wrong", proxy=None)
    with pytest.raises(InvalidCredentialsError):
        client.open_shell()
