# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator.cim import wscim
from simulator.cim.model import CimError, CimValue, Instance, Ref
from simulator.cim.schema import Schema

V2 = "root/virtualization/v2"
CIMV2 = "root/cimv2"
URI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
SCHEMA = Schema.load().for_os("2019")
DECLARED = ('xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:cim="http://schemas.dmtf.org/wbem/wscim/1/common" '
            f'xmlns:q="{URI}root/cimv2/Win32_ProcessStartup" xmlns:e="{URI}{V2}/Msvm_VirtualSystemSnapshotSettingData"')
EPR = (f"<a:Address>x</a:Address><a:ReferenceParameters><w:ResourceURI> {URI}ROOT/virtualization/v2/msvm_computersystem </w:ResourceURI>"
       '<w:SelectorSet><w:Selector Name="Name">G&amp;\\</w:Selector></w:SelectorSet></a:ReferenceParameters>')

SYSTEM = f"<p:AffectedSystem>{EPR}</p:AffectedSystem>"


def decode(class_name: str, method: str, body: str, namespace: str = V2, element: str | None = None) -> dict[str, CimValue]:
    name = element or f"{method}_INPUT"
    root = ET.fromstring(f'<p:{name} xmlns:p="{URI}{namespace}/{class_name}" {DECLARED}>{body}</p:{name}>')
    return wscim.decode_input(SCHEMA, namespace, class_name, method, root)


def snapshot(body: str) -> dict[str, CimValue]:
    return decode("Msvm_VirtualSystemSnapshotService", "CreateSnapshot", body)


def refused(class_name: str, method: str, body: str, namespace: str = V2, element: str | None = None) -> str:
    with pytest.raises(CimError) as refusal:
        decode(class_name, method, body, namespace, element)
    return refusal.value.kind


def test_parameters_of_every_kind() -> None:
    found = snapshot(f"<p:SnapshotType> 32768 </p:SnapshotType><p:AffectedSystem>{EPR}</p:AffectedSystem>"
                     "<p:SnapshotSettings>&lt;INSTANCE a=\"1\"&gt;&lt;/INSTANCE&gt;</p:SnapshotSettings>"
                     "<p:ResultingSnapshot xsi:nil='true'/>")
    assert found == {"SnapshotType": 32768, "AffectedSystem": Ref(V2, "Msvm_ComputerSystem", {"Name": "G&\\"}),
                     "SnapshotSettings": '<INSTANCE a="1"></INSTANCE>', "ResultingSnapshot": None}


def test_omitted_parameters_stay_out() -> None:
    assert snapshot("") == {}


@pytest.mark.parametrize("body", ["<![CDATA[<INSTANCE/>]]>", "&lt;INSTANCE/&gt;", "&#60;INSTANCE/>"])
def test_embedded_text_in_cdata_or_escaped(body: str) -> None:
    assert snapshot(f"<p:SnapshotSettings>{body}</p:SnapshotSettings>") == {"SnapshotSettings": "<INSTANCE/>"}


def test_empty_text_is_not_null() -> None:
    assert snapshot("<p:SnapshotSettings></p:SnapshotSettings>") == {"SnapshotSettings": ""}


def test_names_match_without_their_namespace() -> None:
    root = ET.fromstring('<x:CreateSnapshot_INPUT xmlns:x="urn:other"><SnapshotType>2</SnapshotType></x:CreateSnapshot_INPUT>')
    assert wscim.decode_input(SCHEMA, V2, "msvm_virtualsystemsnapshotservice", "createsnapshot", root) == {"SnapshotType": 2}


def test_arrays_are_repeated_elements() -> None:
    service = "Msvm_VirtualSystemManagementService"
    body = (f"<p:SettingData>{EPR}</p:SettingData><p:RequestedInformation>1</p:RequestedInformation>"
            "<p:RequestedInformation>107</p:RequestedInformation>")
    assert decode(service, "GetSummaryInformation", body) == {
        "SettingData": [Ref(V2, "Msvm_ComputerSystem", {"Name": "G&\\"})], "RequestedInformation": [1, 107]}
    assert decode(service, "GetSummaryInformation", "<p:RequestedInformation xsi:nil='1'/>") == {"RequestedInformation": None}


@pytest.mark.parametrize(("text", "value"), [
    ("<cim:Datetime>2026-01-01T08:00:00+08:00</cim:Datetime>", datetime(2026, 1, 1, tzinfo=UTC)),
    ("<cim:Interval>P0DT0H5M0S</cim:Interval>", timedelta(minutes=5)),
    ("<cim:CIM_DateTime>00000000000500.000000:000</cim:CIM_DateTime>", timedelta(minutes=5))])
def test_times(text: str, value: CimValue) -> None:
    assert decode("Msvm_ComputerSystem", "RequestStateChange", f"<p:TimeoutPeriod>{text}</p:TimeoutPeriod>") == {"TimeoutPeriod": value}


@pytest.mark.parametrize(("text", "value"), [("true", True), (" false ", False), ("1", True), ("0", False)])
def test_booleans(text: str, value: bool) -> None:
    tasks = "root/Microsoft/Windows/TaskScheduler"
    assert decode("PS_ScheduledTask", "RegisterByXml", f"<p:Force>{text}</p:Force>", tasks) == {"Force": value}


def test_object_parameter() -> None:
    body = ('<p:CommandLine>cmd</p:CommandLine><p:ProcessStartupInformation xsi:type="q:Win32_ProcessStartup_Type">'
            "<q:CreateFlags>16777216</q:CreateFlags><q:EnvironmentVariables>A=1</q:EnvironmentVariables></p:ProcessStartupInformation>")
    assert decode("Win32_Process", "Create", body, CIMV2) == {"CommandLine": "cmd", "ProcessStartupInformation": Instance(
        CIMV2, "Win32_ProcessStartup", {"CreateFlags": 16777216, "EnvironmentVariables": ["A=1"]})}


@pytest.mark.parametrize("body", [
    f"<p:AffectedSystem><a:EndpointReference>{EPR}</a:EndpointReference></p:AffectedSystem>",
    "<p:AffectedSystem>G</p:AffectedSystem>",
    "<p:AffectedSystem><a:Address>x</a:Address></p:AffectedSystem>",
    "<p:AffectedSystem><a:ReferenceParameters/></p:AffectedSystem>",
    SYSTEM.replace(URI, "http://example.com/"), SYSTEM.replace("ROOT/virtualization/v2/msvm_computersystem", "X"),
    SYSTEM.replace("</w:SelectorSet>", '<w:Selector Name="NAME">H</w:Selector></w:SelectorSet>'),
    "<p:SnapshotSettings><e:Msvm_VirtualSystemSnapshotSettingData><e:ConsistencyLevel>1</e:ConsistencyLevel>"
    "</e:Msvm_VirtualSystemSnapshotSettingData></p:SnapshotSettings>",  # a WS-CIM tree where CIM-XML text belongs
    "<p:SnapshotSettings><INSTANCE/></p:SnapshotSettings>",
    "<p:SnapshotType>two</p:SnapshotType>", "<p:SnapshotType/>", "<p:SnapshotType>-1</p:SnapshotType>",
    "<p:SnapshotType>65536</p:SnapshotType>",
    "<p:SnapshotType>2</p:SnapshotType><p:SnapshotType>3</p:SnapshotType>", "<p:SnapshotType><b>2</b></p:SnapshotType>",
    "<p:snapshottype>2</p:snapshottype>", "<p:Nothing>1</p:Nothing>", "<p:Job>1</p:Job>", "<p:ReturnValue>0</p:ReturnValue>",
])
def test_refused_parameters(body: str) -> None:
    assert refused("Msvm_VirtualSystemSnapshotService", "CreateSnapshot", body) == "schema_validation"


@pytest.mark.parametrize("body", [
    "<p:TimeoutPeriod>P0DT0H5M0S</p:TimeoutPeriod>", "<p:TimeoutPeriod><cim:Interval>5m</cim:Interval></p:TimeoutPeriod>",
    "<p:TimeoutPeriod><cim:Datetime>P0DT0H5M0S</cim:Datetime></p:TimeoutPeriod>",
    "<p:TimeoutPeriod><cim:Other>1</cim:Other></p:TimeoutPeriod>",
    "<p:TimeoutPeriod><cim:Interval>PT1S</cim:Interval><cim:Interval>PT1S</cim:Interval></p:TimeoutPeriod>"])
def test_refused_times(body: str) -> None:
    assert refused("Msvm_ComputerSystem", "RequestStateChange", body) == "schema_validation"


@pytest.mark.parametrize("startup", [
    "<p:ProcessStartupInformation><q:CreateFlags>1</q:CreateFlags></p:ProcessStartupInformation>",  # no xsi:type
    '<p:ProcessStartupInformation xsi:type="q:Win32_Process_Type"><q:CreateFlags>1</q:CreateFlags></p:ProcessStartupInformation>',
    '<p:ProcessStartupInformation xsi:type="q:Win32_ProcessStartup_Type"><p:CreateFlags>1</p:CreateFlags></p:ProcessStartupInformation>',
    '<p:ProcessStartupInformation xsi:type="q:Win32_ProcessStartup_Type"><q:Nothing>1</q:Nothing></p:ProcessStartupInformation>',
    '<p:ProcessStartupInformation xsi:type="q:Win32_ProcessStartup_Type"><q:CreateFlags>x</q:CreateFlags></p:ProcessStartupInformation>',
    '<p:ProcessStartupInformation xsi:type="q:Win32_ProcessStartup_Type"/>',
    "<p:ProcessStartupInformation>&lt;INSTANCE/&gt;</p:ProcessStartupInformation>"])
def test_refused_objects(startup: str) -> None:
    assert refused("Win32_Process", "Create", startup, CIMV2) == "schema_validation"


def test_refused_bodies_methods_and_classes() -> None:
    service = "Msvm_VirtualSystemSnapshotService"
    assert refused(service, "CreateSnapshot", "", element="createsnapshot_INPUT") == "schema_validation"
    assert refused(service, "CreateSnapshot", "", element="CreateSnapshot") == "schema_validation"
    assert refused(service, "Explode", "") == "method_not_found"
    assert refused("Msvm_Nothing", "CreateSnapshot", "") == "invalid_class"


def test_reference_to_an_unknown_class_is_for_the_provider_to_refuse() -> None:
    odd = EPR.replace("msvm_computersystem", "Msvm_Nothing")
    assert snapshot(f"<p:AffectedSystem>{odd}</p:AffectedSystem>")["AffectedSystem"] == Ref(
        "ROOT/virtualization/v2", "Msvm_Nothing", {"Name": "G&\\"})


PIECES = st.sampled_from(["<p:SnapshotType>", "</p:SnapshotType>", "<p:AffectedSystem>", "</p:AffectedSystem>", EPR, "<a:Address/>",
                          "2", "&#65;", "<p:SnapshotSettings>", "</p:SnapshotSettings>", "<![CDATA[x]]>",
                          "<a:ReferenceParameters/>", "<cim:Datetime/>"])


@given(st.lists(PIECES, max_size=8).map("".join))
def test_any_body_is_read_or_refused(body: str) -> None:
    try:
        found = snapshot(body)
    except ET.ParseError:
        return
    except CimError as refusal:
        assert refusal.kind == "schema_validation"
    else:
        assert set(found) <= {"SnapshotType", "AffectedSystem", "SnapshotSettings"}
