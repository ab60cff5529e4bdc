# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Get, Delete and Invoke over raw envelopes (wire 1.4, 3.1), and the faults of the repository (wire 5)."""
from __future__ import annotations

from datetime import UTC, datetime

import pytest
from simulator.cim.model import Caller, CimError, CimValue, Instance
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.soap import names
from simulator.spec import HostSpec, Quirks
from unit.simulator.soap.cim_fixtures import (
    NSP,
    SERVICE,
    SETTINGS,
    SYSTEM,
    machine_host,
    names_in,
    optimised,
    with_services,
)
from unit.simulator.soap.helpers import CIMV2, NS, OPERATOR, V2, Reply, SmallHost, Table

# -- get, delete, names


def test_get() -> None:
    reply = with_services(2).ask(names.GET, SERVICE, selectors={"name": "SVC001"})
    assert reply.action == names.GET + "Response"
    assert names_in(reply) == ["svc001"]


def test_get_of_what_is_not_there() -> None:
    reply = with_services(2).ask(names.GET, SERVICE, selectors={"Name": "nothing"})
    assert (reply.subcode, reply.code, reply.fault_detail) == ("a:DestinationUnreachable", 2150858752, "InvalidResourceURI")
    assert reply.action == "http://schemas.xmlsoap.org/ws/2004/08/addressing/fault"


def test_get_needs_all_keys() -> None:
    assert machine_host().ask(names.GET, SYSTEM, selectors={"Name": "A"}).subcode == "a:DestinationUnreachable"


def test_get_of_an_association_by_its_references() -> None:
    def epr(uri: str, **keys: str) -> str:
        inner = "".join(f'<w:Selector Name="{name}">{value}</w:Selector>' for name, value in keys.items())
        return (f"<a:EndpointReference><a:Address>{names.ANONYMOUS}</a:Address><a:ReferenceParameters><w:ResourceURI>{uri}</w:ResourceURI>"
                f"<w:SelectorSet>{inner}</w:SelectorSet></a:ReferenceParameters></a:EndpointReference>")

    system = epr(SYSTEM, CreationClassName="Msvm_ComputerSystem", Name="B")
    settings = epr(SETTINGS, InstanceID="Microsoft:B")
    header = (f'<w:SelectorSet><w:Selector Name="ManagedElement">{system}</w:Selector>'
              f'<w:Selector Name="SettingData">{settings}</w:Selector></w:SelectorSet>')
    uri = V2 + "Msvm_SettingsDefineState"
    reply = machine_host().ask(names.GET, uri, headers=header)
    assert reply.status == 200
    assert [s.text for s in reply.root.iter(names.tag(names.W, "Selector"))] == ["Msvm_ComputerSystem", "B", "Microsoft:B"]
    wrong = header.replace("Microsoft:B", "Microsoft:A")
    assert machine_host().ask(names.GET, uri, headers=wrong).code == 2150858752


def test_unknown_class_and_non_key() -> None:
    host = with_services(2)
    assert host.ask(names.GET, CIMV2 + "Win32_Nothing", selectors={"Name": "a"}).code == 2150858752
    assert host.ask(names.GET, SERVICE, selectors={"Name": "svc001", "State": "x"}).subcode == "w:InvalidSelectors"


def test_unknown_namespace() -> None:
    reply = with_services(1).ask(names.ENUMERATE, names.CLASS_PREFIX + "root/MSCluster/MSCluster_Resource", "<n:Enumerate/>")
    element = reply.find("s:Body/s:Fault/s:Detail")
    assert element is not None
    values = {child.tag.rpartition("}")[2]: child.text for child in element[0]}
    assert element[0].tag.rpartition("}")[2] == "MSFT_WmiError"
    assert (values["CIMStatusCode"], values["error_Code"]) == ("3", "2150858778")


def test_wmi_errors_come_in_either_namespace() -> None:
    host = with_services(1)
    found = set()
    for _unused in range(20):
        detail = host.ask(names.ENUMERATE, names.CLASS_PREFIX + "root/none/X", "<n:Enumerate/>").find("s:Body/s:Fault/s:Detail")
        assert detail is not None
        found.add(detail[0].tag)
    assert found == {"{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/MSFT_WmiError}MSFT_WmiError",
                     "{" + names.CLASS_PREFIX + "root/none/MSFT_WmiError}MSFT_WmiError"}


@pytest.mark.parametrize(("value", "expected"), [("root/cimv2", 200), ("ROOT\\CIMV2", 200), ("root/other", 500)])
def test_cimnamespace_selector(value: str, expected: int) -> None:
    reply = with_services(2).ask(names.GET, SERVICE, selectors={"Name": "svc001", "__cimnamespace": value})
    assert reply.status == expected
    assert reply.subcode == (None if expected == 200 else "w:InternalError")


def test_the_uri_in_another_case_and_answers_in_another_case() -> None:
    host = with_services(1, HostSpec("HV1", quirks=Quirks(other_case=1.0, split_batches=False)))
    reply = host.ask(names.ENUMERATE, SERVICE.replace("root/cimv2", "ROOT/CimV2").replace("http://schemas", "HTTP://schemas"), optimised())
    assert reply.status == 200
    items = reply.find("s:Body/n:EnumerateResponse/w:Items")
    assert items is not None
    assert items[0].tag.lower() == names.tag(SERVICE, "Win32_Service").lower()


def test_times_with_an_offset() -> None:
    host = with_services(1, HostSpec("HV1", quirks=Quirks(utc_offset_minutes=480)), InstallDate=datetime(2026, 1, 2, tzinfo=UTC))
    reply = host.ask(names.GET, SERVICE, selectors={"Name": "svc000"})
    found = [element.text for element in reply.root.iter(names.tag(names.CIM, "Datetime"))]
    assert found == ["2026-01-02T08:00:00+08:00"]


def test_delete() -> None:
    host = with_services(2)
    reply = host.ask(names.DELETE, SERVICE, selectors={"Name": "svc001"})
    body = reply.find("s:Body")
    assert (reply.status, reply.action) == (200, names.DELETE + "Response")
    assert body is not None
    assert len(body) == 0
    assert host.ask(names.DELETE, SERVICE, selectors={"Name": "svc001"}).code == 2150858752
    assert host.counters.by_operation == {"Delete": 2}
    assert host.counters.writing == 2


def test_delete_refused_by_the_provider() -> None:
    host = with_services(2)
    host.caller = OPERATOR
    reply = host.ask(names.DELETE, SERVICE, selectors={"Name": "svc001"})
    assert (reply.subcode, reply.code) == ("w:AccessDenied", 5)


def test_a_namespace_can_be_closed_to_a_caller() -> None:
    host = with_services(2)
    host.repository.guard("root/cimv2", lambda caller: caller.is_administrator)
    host.caller = OPERATOR
    for reply in (host.ask(names.GET, SERVICE, selectors={"Name": "svc001"}), host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>")):
        assert (reply.subcode, reply.code) == ("w:AccessDenied", 5)


def test_a_provider_error_is_nested() -> None:
    class Failing(Table):
        def instances(self, caller: Caller) -> list[Instance]:
            raise CimError("failed", "out of order", hresult=0x80041001 - 2**32, provider="CIMWin32")

    host = SmallHost()
    host.repository.register("root/cimv2", "Win32_Service", Failing("root/cimv2", "Win32_Service", []))
    reply = host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>")
    assert (reply.subcode, reply.code) == ("w:InternalError", 1359)
    provider = reply.find("s:Body/s:Fault/s:Detail/f:WSManFault/f:Message/f:ProviderFault")
    assert provider is not None
    assert provider.attrib["provider"] == "CIMWin32"
    inner = provider.find("f:WSManFault", NS)
    assert inner is not None
    assert inner.attrib["Code"] == str(0x80041001)
    status = provider.find("f:ExtendedError/*", NS)
    assert status is not None
    assert status.tag == names.tag(names.CLASS_PREFIX + "root/cimv2/__ExtendedStatus", "__ExtendedStatus")
    assert {child.tag.rpartition("}")[2]: child.text for child in status} == {
        "Description": "out of order", "Operation": None, "ParameterInfo": None, "ProviderName": "CIMWin32", "StatusCode": str(0x80041001)}


# -- invoke


def invoke(host: SmallHost, inner: str, selectors: dict[str, str] | None, method: str = "RequestStateChange") -> Reply:
    body = f'<p:{method}_INPUT xmlns:p="{SYSTEM}">{inner}</p:{method}_INPUT>'
    return host.ask(f"{SYSTEM}/{method}", SYSTEM, body, selectors=selectors)


def test_invoke_with_one_of_the_keys() -> None:
    host = machine_host()
    reply = invoke(host, "<p:RequestedState>3</p:RequestedState>", {"Name": "A"})
    assert reply.action == SYSTEM + "/RequestStateChangeResponse"
    output = reply.root.find("s:Body/cs:RequestStateChange_OUTPUT", NSP)
    assert output is not None
    assert [child.tag.rpartition("}")[2] for child in output] == ["Job", "ReturnValue"]
    assert output.findtext("cs:ReturnValue", namespaces=NSP) == "4096"
    job = output[0]
    assert [child.tag for child in job] == [names.tag(names.A, "Address"), names.tag(names.A, "ReferenceParameters")]
    assert job.findtext("a:ReferenceParameters/w:ResourceURI", namespaces=NS) == V2 + "Msvm_ConcreteJob"
    assert host.counters.by_operation == {"Invoke Msvm_ComputerSystem.RequestStateChange": 1}
    assert (host.counters.reading, host.counters.writing) == (0, 1)


def test_null_out_parameters_are_nil() -> None:
    output = invoke(machine_host(), "<p:RequestedState>9</p:RequestedState>", {"Name": "A"}).root.find(
        "s:Body/cs:RequestStateChange_OUTPUT", NSP)
    assert output is not None
    assert output[0].get(names.tag(names.XSI, "nil")) == "true"
    assert output[1].text == "32775"


@pytest.mark.parametrize(("inner", "subcode"), [
    ("<p:Requested>3</p:Requested>", "w:SchemaValidationError"),
    ("<p:RequestedState>three</p:RequestedState>", "w:SchemaValidationError")])
def test_invoke_with_a_wrong_body(inner: str, subcode: str) -> None:
    assert invoke(machine_host(), inner, {"Name": "A"}).subcode == subcode


def test_invoke_without_a_body() -> None:
    reply = machine_host().ask(SYSTEM + "/RequestStateChange", SYSTEM, selectors={"Name": "A"})
    assert reply.subcode == "w:SchemaValidationError"


def test_unknown_method_and_unknown_instance() -> None:
    assert invoke(machine_host(), "", {"Name": "A"}, "Dance").subcode == "a:ActionNotSupported"
    assert invoke(machine_host(), "<p:RequestedState>3</p:RequestedState>", {"Name": "Z"}).subcode == "a:DestinationUnreachable"


def test_static_method() -> None:
    host = SmallHost()
    started: list[CimValue] = []

    def create(call: Invocation) -> MethodOutcome:
        assert call.instance is None
        started.append(call["CommandLine"])
        return {"ReturnValue": 0, "ProcessId": 77}

    uri = CIMV2 + "Win32_Process"
    host.repository.register("root/cimv2", "Win32_Process", Table("root/cimv2", "Win32_Process", [], {"Create": create}))
    body = f'<p:Create_INPUT xmlns:p="{uri}"><p:CommandLine>cmd /c "a &amp; b"</p:CommandLine></p:Create_INPUT>'
    reply = host.ask(uri + "/Create", uri, body)
    assert [(child.tag.rpartition("}")[2], child.text) for child in reply.root.iter() if child.text and uri in child.tag] == [
        ("ProcessId", "77"), ("ReturnValue", "0")]
    assert started == ['cmd /c "a & b"']


def test_a_reading_method_counts_as_reading() -> None:
    host = SmallHost()
    v2 = "root/virtualization/v2"
    service_class = "Msvm_VirtualSystemManagementService"
    rows = [{"CreationClassName": service_class, "Name": "vmms", "SystemCreationClassName": "Msvm_ComputerSystem", "SystemName": "HV1"}]
    host.repository.register(v2, service_class, Table(v2, service_class, rows, {"FormatError": lambda call: {"ReturnValue": 0}}))
    uri = V2 + service_class
    reply = host.ask(uri + "/FormatError", uri, f'<p:FormatError_INPUT xmlns:p="{uri}"/>', selectors={"CreationClassName": service_class})
    assert reply.status == 200
    assert (host.counters.reading, host.counters.writing) == (1, 0)


@pytest.mark.parametrize("inner", ["<p:RequestedState>3</p:RequestedState>", "<p:Wrong>3</p:Wrong>",
                                   "<p:RequestedState>x</p:RequestedState>"])
def test_the_namespace_is_opened_before_the_body_of_an_invoke_is_read(inner: str) -> None:
    host = machine_host()
    uri = names.CLASS_PREFIX + "root/MSCluster/MSCluster_Cluster"
    body = f'<p:RequestStateChange_INPUT xmlns:p="{uri}">{inner}</p:RequestStateChange_INPUT>'
    missing = host.ask(uri + "/RequestStateChange", uri, body, selectors={"Name": "A"})
    error = next(element for element in missing.root.iter() if element.tag.endswith("}MSFT_WmiError"))
    assert [element.text for element in error if element.tag.endswith("}CIMStatusCode")] == ["3"], "an invalid namespace"
    host.repository.guard("root/virtualization/v2", lambda caller: False)
    reply = invoke(host, inner, {"Name": "A"})
    assert (reply.subcode, reply.code) == ("w:AccessDenied", 5)
