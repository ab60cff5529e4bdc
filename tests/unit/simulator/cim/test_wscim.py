# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator.cim import wscim
from simulator.cim.definitions import ParameterDef
from simulator.cim.errors import SimulatorBug
from simulator.cim.model import CimValue, Instance, Ref
from simulator.cim.schema import Schema

V2 = "root/virtualization/v2"
TASKS = "root/Microsoft/Windows/TaskScheduler"
URI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
COMMON = "http://schemas.dmtf.org/wbem/wscim/1/common"
WSA = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
SCHEMA = Schema.load().for_os("2019")
VM = Ref(V2, "Msvm_ComputerSystem", {"Name": "G", "CreationClassName": "Msvm_ComputerSystem"})
EPR = (f'<a:Address>{WSA}/role/anonymous</a:Address><a:ReferenceParameters><w:ResourceURI>{URI}{V2}/Msvm_ComputerSystem</w:ResourceURI>'
       '<w:SelectorSet><w:Selector Name="CreationClassName">Msvm_ComputerSystem</w:Selector><w:Selector Name="Name">G</w:Selector>'
       '</w:SelectorSet></a:ReferenceParameters>')


def encode(class_name: str, values: dict[str, CimValue], namespace: str = V2) -> str:
    return wscim.encode_instance(SCHEMA, Instance(namespace, class_name, values))


def encoded_property(class_name: str, name: str, value: CimValue, **options: timedelta) -> str:
    """The element or elements of one property, as text."""
    xml = wscim.encode_instance(SCHEMA, Instance(V2, class_name, {name: value}), **options)
    return "".join(re.findall(rf"<p:{name}(?:\s[^>]*)?/>|<p:{name}[ >].*?</p:{name}>", xml, re.DOTALL))


def test_instance_as_recorded() -> None:
    xml = encode("Msvm_HeartbeatComponent", {"Name": "x", "OperationalStatus": [2, 32775], "EnabledState": 2})
    uri = f"{URI}{V2}/Msvm_HeartbeatComponent"
    assert xml.startswith(f'<p:Msvm_HeartbeatComponent xmlns:xsi="{XSI}" xmlns:p="{uri}" xmlns:cim="{COMMON}" '
                          'xsi:type="p:Msvm_HeartbeatComponent_Type">')
    assert "<p:OperationalStatus>2</p:OperationalStatus><p:OperationalStatus>32775</p:OperationalStatus>" in xml
    assert '<p:Caption xsi:nil="true"/>' in xml
    assert "StatusDescriptions" not in xml  # a null array is absent
    root = ET.fromstring(xml)
    names = [child.tag.rpartition("}")[2] for child in root]
    assert names == sorted(names, key=str.lower)
    definition = SCHEMA.get(V2, "Msvm_HeartbeatComponent")
    assert set(names) == {p.name for p in definition.ordered if not p.array} | {"OperationalStatus"}


SETTINGS = "Msvm_VirtualSystemSettingData"


@pytest.mark.parametrize(("class_name", "name", "value", "xml"), [
    (SETTINGS, "ElementName", "", "<p:ElementName></p:ElementName>"),
    (SETTINGS, "ElementName", None, '<p:ElementName xsi:nil="true"/>'),
    (SETTINGS, "ElementName", "a<&>\"'\x01\x1f\t", "<p:ElementName>a&lt;&amp;&gt;\"'??\t</p:ElementName>"),
    (SETTINGS, "ElementName", "\r\n", "<p:ElementName>&#13;\n</p:ElementName>"),
    (SETTINGS, "AutomaticSnapshotsEnabled", True, "<p:AutomaticSnapshotsEnabled>true</p:AutomaticSnapshotsEnabled>"),
    (SETTINGS, "AutomaticSnapshotsEnabled", False, "<p:AutomaticSnapshotsEnabled>false</p:AutomaticSnapshotsEnabled>"),
    (SETTINGS, "Notes", [], ""),
    (SETTINGS, "Notes", ["a"], "<p:Notes>a</p:Notes>"),
    (SETTINGS, "Notes", ["a", None], '<p:Notes>a</p:Notes><p:Notes xsi:nil="true"/>'),
    (SETTINGS, "CreationTime", datetime(2025, 12, 17, 9, 55, 22, 486340, UTC),
     "<p:CreationTime><cim:Datetime>2025-12-17T09:55:22.48634Z</cim:Datetime></p:CreationTime>"),
    (SETTINGS, "AutomaticStartupActionDelay", timedelta(seconds=1, microseconds=4170),
     "<p:AutomaticStartupActionDelay><cim:Interval>P0DT0H0M1.00417S</cim:Interval></p:AutomaticStartupActionDelay>"),
    ("Msvm_VirtualHardDiskSettingData", "MaxInternalSize", 2**64 - 1, "<p:MaxInternalSize>18446744073709551615</p:MaxInternalSize>"),
    ("Msvm_AffectedJobElement", "AffectedElement", VM, f'<p:AffectedElement xmlns:a="{WSA}" xmlns:w="{WSMAN}">{EPR}</p:AffectedElement>'),
])
def test_values(class_name: str, name: str, value: CimValue, xml: str) -> None:
    assert encoded_property(class_name, name, value) == xml


def test_time_with_an_offset() -> None:
    xml = encoded_property(SETTINGS, "CreationTime", datetime(2025, 12, 17, 9, 55, 22, 0, UTC), utc_offset=timedelta(hours=8))
    assert xml == "<p:CreationTime><cim:Datetime>2025-12-17T17:55:22+08:00</cim:Datetime></p:CreationTime>"


def test_char16_is_a_number_and_real_has_fifteen_digits() -> None:
    volume = encode("MSFT_Volume", {"ObjectId": "x", "DriveLetter": "D"}, "root/Microsoft/Windows/Storage")
    assert "<p:DriveLetter>68</p:DriveLetter>" in volume
    analysis = encode("Win32_DefragAnalysis", {"AverageFragmentsPerFile": 1.1}, "root/cimv2")
    assert "<p:AverageFragmentsPerFile>1.1</p:AverageFragmentsPerFile>" in analysis


def test_object_typed_values_are_nested_elements_of_their_own_class() -> None:
    task = Instance(TASKS, "MSFT_ScheduledTask", {
        "TaskName": "t", "Settings": Instance(TASKS, "MSFT_TaskSettings3", {
            "Enabled": True, "IdleSettings": Instance(TASKS, "MSFT_TaskIdleSettings", {"WaitTimeout": "PT1H"})}),
        "Actions": [Instance(TASKS, "MSFT_TaskExecAction", {"Execute": "a"}), Instance(TASKS, "MSFT_TaskExecAction", {"Execute": "b"})]})
    root = ET.fromstring(wscim.encode_instance(SCHEMA, task))
    own = f"{{{URI}{TASKS}/MSFT_ScheduledTask}}"
    settings = root.find(f"{own}Settings")
    assert settings is not None
    inner = f"{{{URI}{TASKS}/MSFT_TaskSettings3}}"
    assert settings.attrib == {f"{{{XSI}}}type": "q:MSFT_TaskSettings3_Type"}
    assert settings.findtext(f"{inner}Enabled") == "true"
    assert settings.findtext(f"{inner}IdleSettings/{{{URI}{TASKS}/MSFT_TaskIdleSettings}}WaitTimeout") == "PT1H"
    assert [action.findtext(f"{{{URI}{TASKS}/MSFT_TaskExecAction}}Execute") for action in root.findall(f"{own}Actions")] == ["a", "b"]
    assert root.find(f"{own}Principal") is not None  # null, so nil


def test_embedded_instance_string_is_escaped_cim_xml() -> None:
    given = "<INSTANCE CLASSNAME=\"Msvm_KvpExchangeDataItem\"></INSTANCE>"
    text = encoded_property("Msvm_KvpExchangeComponent", "GuestExchangeItems", [given])
    assert text == ("<p:GuestExchangeItems>&lt;INSTANCE CLASSNAME=\"Msvm_KvpExchangeDataItem\"&gt;&lt;/INSTANCE&gt;</p:GuestExchangeItems>")
    item = Instance(V2, "Msvm_KvpExchangeDataItem", {"Name": "OSName", "Data": "A & B"})
    made = ET.fromstring(encode("Msvm_KvpExchangeComponent", {"GuestExchangeItems": [item]}))
    inner = made.findtext(f"{{{URI}{V2}/Msvm_KvpExchangeComponent}}GuestExchangeItems")
    assert inner is not None
    assert '<PROPERTY NAME="Data" TYPE="string"><VALUE>A &amp; B</VALUE></PROPERTY>' in inner


def test_fragment_has_unqualified_names_in_order() -> None:
    instance = Instance(V2, SETTINGS, {"InstanceID": "a", "CreationTime": datetime(2026, 1, 1, tzinfo=UTC),
                                       "AutomaticStartupActionDelay": timedelta(minutes=5)})
    xml = wscim.encode_fragment(SCHEMA, instance, ["instanceid", "CreationTime", "ElementName", "Notes", "AutomaticStartupActionDelay"])
    assert xml == (
        f'<w:XmlFragment xmlns:xsi="{XSI}" xmlns:w="{WSMAN}">'
        "<AutomaticStartupActionDelay><Interval>P0DT0H5M0S</Interval></AutomaticStartupActionDelay>"
        '<CreationTime><Datetime>2026-01-01T00:00:00Z</Datetime></CreationTime><ElementName xsi:nil="true"/><InstanceID>a</InstanceID>'
        "</w:XmlFragment>")


def test_fragment_with_an_object() -> None:
    task = Instance(TASKS, "MSFT_ScheduledTask", {"Settings": Instance(TASKS, "MSFT_TaskSettings", {"Enabled": True})})
    root = ET.fromstring(wscim.encode_fragment(SCHEMA, task, ["Settings"]))
    assert root.findtext(f"Settings/{{{URI}{TASKS}/MSFT_TaskSettings}}Enabled") == "true"


def test_references_with_and_without_wrapper() -> None:
    assert wscim.encode_epr(VM) == f'<a:EndpointReference xmlns:a="{WSA}" xmlns:w="{WSMAN}">{EPR}</a:EndpointReference>'
    assert wscim.encode_epr(VM, wrapper=False) == EPR
    odd = wscim.encode_epr(Ref(V2, "Msvm_X", {"InstanceID": "Microsoft:a\\b&\"<"}))
    assert '<w:Selector Name="InstanceID">Microsoft:a\\b&amp;"&lt;</w:Selector>' in odd


def output(method: str, *outs: tuple[str, CimValue], class_name: str = "Msvm_VirtualSystemSnapshotService", namespace: str = V2) -> str:
    found = SCHEMA.get(namespace, class_name).find_method(method)
    assert found is not None
    params: dict[str, ParameterDef] = {param.name: param for param in found.outputs}
    return wscim.encode_output(SCHEMA, namespace, class_name.lower(), method.lower(), [(params[name], value) for name, value in outs])


def test_output_with_job_and_without_the_in_out_parameter() -> None:
    job = Ref(V2, "Msvm_ConcreteJob", {"InstanceID": "J"})
    xml = output("CreateSnapshot", ("ResultingSnapshot", None), ("Job", job), ("ReturnValue", 4096))
    assert xml == (
        f'<p:CreateSnapshot_OUTPUT xmlns:xsi="{XSI}" xmlns:p="{URI}{V2}/Msvm_VirtualSystemSnapshotService" xmlns:cim="{COMMON}">'
        f'<p:Job xmlns:a="{WSA}" xmlns:w="{WSMAN}"><a:Address>{WSA}/role/anonymous</a:Address><a:ReferenceParameters>'
        f'<w:ResourceURI>{URI}{V2}/Msvm_ConcreteJob</w:ResourceURI><w:SelectorSet><w:Selector Name="InstanceID">J</w:Selector>'
        '</w:SelectorSet></a:ReferenceParameters></p:Job>'
        "<p:ReturnValue>4096</p:ReturnValue></p:CreateSnapshot_OUTPUT>")


def test_output_with_nil_and_absent_values() -> None:
    service = "Msvm_VirtualSystemManagementService"
    xml = output("DefineSystem", ("ResultingSystem", VM), ("Job", None), ("ReturnValue", 0), class_name=service)
    assert re.findall(r"<p:(\w+)", xml) == ["DefineSystem_OUTPUT", "ResultingSystem", "Job", "ReturnValue"]
    assert '<p:Job xsi:nil="true"/><p:ReturnValue>0</p:ReturnValue></p:DefineSystem_OUTPUT>' in xml
    empty = output("GetSummaryInformation", ("SummaryInformation", None), ("ReturnValue", 0), class_name=service)
    assert re.findall(r"<p:(\w+)", empty) == ["GetSummaryInformation_OUTPUT", "ReturnValue"]


def test_output_with_objects() -> None:
    rows: list[CimValue] = [Instance(V2, "Msvm_SummaryInformation", {"ElementName": name}) for name in ("a", "b")]
    service = "Msvm_VirtualSystemManagementService"
    root = ET.fromstring(output("GetSummaryInformation", ("SummaryInformation", rows), ("ReturnValue", 0), class_name=service))
    found = root.findall(f"{{{URI}{V2}/{service}}}SummaryInformation")
    assert [element.findtext(f"{{{URI}{V2}/Msvm_SummaryInformation}}ElementName") for element in found] == ["a", "b"]
    assert [element.get(f"{{{XSI}}}type") for element in found] == ["q:Msvm_SummaryInformation_Type"] * 2


@pytest.mark.parametrize("call", [
    lambda: wscim.encode_output(SCHEMA, V2, "Msvm_ComputerSystem", "Explode", []),
    lambda: encode(SETTINGS, {"UserSnapshotType": "5"}),
])
def test_mistakes_of_the_simulator_are_loud(call: Callable[[], str]) -> None:
    with pytest.raises(SimulatorBug):
        call()


# -- round trip with a reader that shares nothing with the writer -----------------------------------------------------------

def stranger(xml: str) -> dict[str, list[object]]:
    """Every property as the list of what stands in its elements: text, None for nil, (kind, text) for times, selectors for references."""
    found: dict[str, list[object]] = {}
    for element in ET.fromstring(xml):
        name = element.tag.rpartition("}")[2]
        selectors = element.findall(f"{{{WSA}}}ReferenceParameters/{{{WSMAN}}}SelectorSet/{{{WSMAN}}}Selector")
        value: object = element.text or ""
        if element.get(f"{{{XSI}}}nil") == "true":
            value = None
        elif selectors:
            value = {selector.get("Name"): selector.text or "" for selector in selectors}
        elif len(element):
            value = (element[0].tag.rpartition("}")[2], element[0].text)
        found.setdefault(name, []).append(value)
    return found


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"))


def shown(text: str) -> str:
    return "".join("?" if c < " " and c not in "\t\n\r" else c for c in text)


@given(TEXT, st.lists(TEXT), st.booleans() | st.none(), st.integers(0, 65535) | st.none())
def test_a_stranger_reads_what_was_written(name: str, notes: list[str], flag: bool | None, kind: int | None) -> None:
    found = stranger(encode(SETTINGS, {
        "ElementName": name, "Notes": list(notes), "AutomaticSnapshotsEnabled": flag, "UserSnapshotType": kind}))
    assert found["ElementName"] == [shown(name)]
    assert found.get("Notes", []) == [shown(note) for note in notes]
    assert found["AutomaticSnapshotsEnabled"] == [None if flag is None else str(flag).lower()]
    assert found["UserSnapshotType"] == [None if kind is None else str(kind)]


@given(st.dictionaries(st.sampled_from(["Name", "CreationClassName"]), TEXT, min_size=1))
def test_a_stranger_reads_references(keys: dict[str, str]) -> None:
    found = stranger(encode("Msvm_AffectedJobElement", {"AffectedElement": Ref(V2, "Msvm_ComputerSystem", keys)}))
    assert found["AffectedElement"] == [{name: shown(text) for name, text in keys.items()}]


def test_a_stranger_reads_times() -> None:
    found = stranger(encode(SETTINGS, {"CreationTime": datetime(2026, 1, 1, tzinfo=UTC), "AutomaticStartupActionDelay": timedelta(days=1)}))
    assert found["CreationTime"] == [("Datetime", "2026-01-01T00:00:00Z")]
    assert found["AutomaticStartupActionDelay"] == [("Interval", "P1DT0H0M0S")]
