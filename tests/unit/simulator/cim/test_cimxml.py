# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator.cim import cimxml
from simulator.cim.cimxml import CimXmlError, format_instance, parse_instance
from simulator.cim.model import CimValue, Instance, Ref
from simulator.cim.schema import Schema

V2 = "root/virtualization/v2"
SCHEMA = Schema.load().for_os("2019")


def settings(*properties: str, class_name: str = "Msvm_VirtualSystemSettingData") -> str:
    return f'<INSTANCE CLASSNAME="{class_name}">{"".join(properties)}</INSTANCE>'


def prop(name: str, cim_type: str, value: str) -> str:
    return f'<PROPERTY NAME="{name}" TYPE="{cim_type}"><VALUE>{value}</VALUE></PROPERTY>'


def array(name: str, cim_type: str, *items: str) -> str:
    body = "".join(f"<VALUE>{item}</VALUE>" for item in items)
    return f'<PROPERTY.ARRAY NAME="{name}" TYPE="{cim_type}"><VALUE.ARRAY>{body}</VALUE.ARRAY></PROPERTY.ARRAY>'


def read(text: str) -> dict[str, CimValue]:
    return parse_instance(text, SCHEMA, V2).values


def refused(text: str, **options: int) -> int:
    with pytest.raises(CimXmlError) as error:
        parse_instance(text, SCHEMA, V2, **options)  # type: ignore[arg-type]  # shape_error only
    return error.value.return_value


def test_instance_with_every_kind_of_value() -> None:
    instance = parse_instance(settings(
        prop("InstanceID", "string", "Microsoft:G"), prop("AutomaticSnapshotsEnabled", "boolean", "false"),
        prop("IncrementalBackupEnabled", "boolean", "TRUE"), prop("UserSnapshotType", "uint16", "5"),
        prop("AutomaticStartupActionDelay", "datetime", "00000000004500.000000:000"),
        prop("CreationTime", "datetime", "20260301220000.000000+000"), array("BootSourceOrder", "string", "a", "b"),
        '<PROPERTY.ARRAY NAME="Notes" TYPE="string"><VALUE.ARRAY><VALUE>x&#xA;y</VALUE><VALUE.NULL/></VALUE.ARRAY></PROPERTY.ARRAY>',
        '<PROPERTY NAME="Description" TYPE="string" PROPAGATED="true"></PROPERTY>',
        '<PROPERTY NAME="ElementName" TYPE="string"><VALUE/></PROPERTY>',
    ), SCHEMA, V2)
    assert (instance.namespace, instance.class_name) == (V2, "Msvm_VirtualSystemSettingData")
    assert instance.values == {
        "InstanceID": "Microsoft:G", "AutomaticSnapshotsEnabled": False, "IncrementalBackupEnabled": True, "UserSnapshotType": 5,
        "AutomaticStartupActionDelay": timedelta(minutes=45), "CreationTime": datetime(2026, 3, 1, 22, tzinfo=UTC),
        "BootSourceOrder": ["a", "b"], "Notes": ["x\ny", None], "Description": None, "ElementName": ""}


@pytest.mark.parametrize(("written", "value"), [
    ("a&#38;b", "a&b"), ("&#60;&#62;", "<>"), ("&#34;&#39;", "\"'"), ("&gt;", ">"), ("\"'", "\"'"), ("line&#xA;line", "line\nline")])
def test_escapes_that_work(written: str, value: str) -> None:
    assert read(settings(prop("ElementName", "string", written))) == {"ElementName": value}


@pytest.mark.parametrize(("written", "code"), [("a&amp;b", 32768), ("&lt;", 32773), ("&quot;", 32773), ("&amp;#38;", 32768)])
def test_escapes_that_do_not(written: str, code: int) -> None:
    assert refused(settings(prop("ElementName", "string", written))) == code


@pytest.mark.parametrize(("text", "code"), [
    ('<PROPERTY NAME="ElementName"><VALUE>a</VALUE></PROPERTY>', 32768),  # no TYPE
    ('<PROPERTY NAME="Description" PROPAGATED="true"/>', 32768),
    (prop("ElementName", "String", "a"), 32768),
    (prop("UserSnapshotType", "string", "5"), 32768),
    (prop("UserSnapshotType", "uint32", "5"), 32768),
    (prop("UserSnapshotType", "uint16", "five"), 32768),
    (prop("UserSnapshotType", "uint16", "65536"), 32768),
    (prop("AutomaticSnapshotsEnabled", "boolean", "1"), 32768),
    (prop("AutomaticStartupActionDelay", "datetime", "P0DT0H45M0S"), 32768),
    (prop("AutomaticStartupActionDelay", "string", "00000000004500.000000:000"), 32768),
    (prop("AutomaticStartupActionDelay", "string", "P0DT0H45M0S"), 32768),
    (prop("CreationTime", "datetime", "2026-03-01T22:00:00Z"), 32768),
    (prop("NoSuchProperty", "string", "a"), 32773),
    (prop("BootSourceOrder", "string", "a"), 32773),  # a scalar where an array belongs
    (array("ElementName", "string", "a"), 32773),
    ('<PROPERTY NAME="ElementName" TYPE="string"><VALUE>a</VALUE><VALUE>b</VALUE></PROPERTY>', 32773),
    ('<PROPERTY NAME="ElementName" TYPE="string"><VALUE><b/></VALUE></PROPERTY>', 32773),
    ('<PROPERTY.ARRAY NAME="Notes" TYPE="string"><VALUE>a</VALUE></PROPERTY.ARRAY>', 32773),
    ('<PROPERTY.REFERENCE NAME="ElementName" TYPE="string"/>', 32773),
    ("<OTHER/>", 32773),
])
def test_refused_properties(text: str, code: int) -> None:
    assert refused(settings(text)) == code


def test_scalar_for_array_has_another_code_at_the_switch_service() -> None:
    text = settings(prop("HostResource", "string", "a"), class_name="Msvm_EthernetPortAllocationSettingData")
    assert (refused(text), refused(text, shape_error=cimxml.INCORRECT_DATA_TYPE)) == (32773, 32776)


@pytest.mark.parametrize("text", [
    "", "plain", "<INSTANCE", "<CLASS/>", "<INSTANCE/>", '<INSTANCE CLASSNAME="Msvm_Nothing"/>', "<p:X xmlns:p='u'><p:Y/></p:X>",
    '<!DOCTYPE x [<!ENTITY e "f">]><INSTANCE CLASSNAME="Msvm_Error">&e;</INSTANCE>', "<INSTANCE CLASSNAME='Msvm_Error'>\x01</INSTANCE>"])
def test_no_instance(text: str) -> None:
    assert refused(text) == 32773


def test_expected_class() -> None:
    text = settings(prop("InstanceID", "string", "a"), class_name="msvm_storageallocationsettingdata")
    assert parse_instance(text, SCHEMA, V2, expected="CIM_ResourceAllocationSettingData").class_name == "Msvm_StorageAllocationSettingData"
    with pytest.raises(CimXmlError) as error:
        parse_instance(text, SCHEMA, V2, expected="Msvm_VirtualSystemSettingData")
    assert error.value.return_value == 32773


def test_property_of_a_newer_release_is_unknown_to_an_older_one() -> None:
    text = settings(prop("AutomaticSnapshotsEnabled", "boolean", "false"))
    with pytest.raises(CimXmlError) as error:
        parse_instance(text, Schema.load().for_os("2016"), V2)
    assert error.value.return_value == 32773


def simple_reader(text: str) -> dict[str, object]:
    """What a stranger reads out of an answer: texts, lists of texts, None."""
    found: dict[str, object] = {}
    for element in ET.fromstring(text):
        values = [None if value.tag == "VALUE.NULL" else value.text or ""
                  for value in element.iter() if value.tag in ("VALUE", "VALUE.NULL")]
        if element.tag == "PROPERTY.ARRAY":
            found[element.attrib["NAME"]] = values if element.find("VALUE.ARRAY") is not None else None
        else:
            found[element.attrib["NAME"]] = values[0] if values else None
    return found


def test_answer_has_all_properties_in_order_and_marks_inherited_ones() -> None:
    text = format_instance(SCHEMA, Instance(V2, "Msvm_VirtualHardDiskSettingData", {"MaxInternalSize": 2**40, "InstanceID": None}))
    names = [element.attrib["NAME"] for element in ET.fromstring(text)]
    assert names == [p.name for p in SCHEMA.get(V2, "Msvm_VirtualHardDiskSettingData").ordered]
    assert '<PROPERTY NAME="MaxInternalSize" TYPE="uint64"><VALUE>1099511627776</VALUE></PROPERTY>' in text
    assert '<PROPERTY NAME="Caption" PROPAGATED="true" TYPE="string"></PROPERTY>' in text


def test_reference_in_an_answer() -> None:
    row = Instance(V2, "Msvm_SettingsDefineState", {"ManagedElement": Ref(V2, "Msvm_ComputerSystem", {"Name": "A&B"})})
    assert format_instance(SCHEMA, row) == (
        '<INSTANCE CLASSNAME="Msvm_SettingsDefineState"><PROPERTY.REFERENCE NAME="ManagedElement" REFERENCECLASS="Msvm_ComputerSystem">'
        '<VALUE.REFERENCE><INSTANCENAME CLASSNAME="Msvm_ComputerSystem"><KEYBINDING NAME="Name">'
        '<KEYVALUE VALUETYPE="string">A&amp;B</KEYVALUE></KEYBINDING></INSTANCENAME></VALUE.REFERENCE></PROPERTY.REFERENCE>'
        '<PROPERTY.REFERENCE NAME="SettingData" REFERENCECLASS="Msvm_VirtualSystemSettingData"></PROPERTY.REFERENCE></INSTANCE>')


PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"))


@given(PLAIN, st.lists(PLAIN | st.none()), st.booleans() | st.none(), st.integers(0, 65535),
       st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=99999)))
def test_answers_can_be_read_by_a_stranger(name: str, notes: list[str | None], flag: bool | None, kind: int, delay: timedelta) -> None:
    values: dict[str, CimValue] = {"ElementName": name, "Notes": list(notes), "AutomaticSnapshotsEnabled": flag, "UserSnapshotType": kind,
                                   "AutomaticStartupActionDelay": delay}
    found = simple_reader(format_instance(SCHEMA, Instance(V2, "Msvm_VirtualSystemSettingData", values)))
    assert (found["ElementName"], found["Notes"], found["UserSnapshotType"]) == (name, notes, str(kind))
    assert found["AutomaticSnapshotsEnabled"] == (None if flag is None else str(flag).upper())
    assert found["Caption"] is None


def numeric(text: str) -> str:
    return "".join(f"&#{ord(c)};" if c in "&<>\"'\r\n\t" else c for c in text)


@given(PLAIN, st.lists(PLAIN), st.integers(0, 65535))
def test_text_escaped_with_numbers_arrives(name: str, notes: list[str], kind: int) -> None:
    text = settings(prop("ElementName", "string", numeric(name)), array("Notes", "string", *(numeric(n) for n in notes)),
                    prop("UserSnapshotType", "uint16", str(kind)))
    assert read(text) == {"ElementName": name, "Notes": notes, "UserSnapshotType": kind}


PIECES = st.sampled_from(['<INSTANCE CLASSNAME="Msvm_VirtualSystemSettingData">', "</INSTANCE>",
                          '<PROPERTY NAME="ElementName" TYPE="string">', "</PROPERTY>", "<VALUE>", "</VALUE>", "&#38;", "&amp;", "x",
                          "<VALUE.ARRAY>", "</VALUE.ARRAY>", "<VALUE.NULL/>",
                          '<PROPERTY.ARRAY NAME="Notes" TYPE="string">', "</PROPERTY.ARRAY>", "<QUALIFIER/>", "<!-- -->", "]]>"])


@given(st.lists(PIECES, max_size=14).map("".join) | st.text())
def test_any_text_is_an_instance_or_refused_with_a_known_code(text: str) -> None:
    try:
        instance = parse_instance(text, SCHEMA, V2)
    except CimXmlError as error:
        assert error.return_value in (32768, 32773, 32776)
    else:
        assert instance.class_name == "Msvm_VirtualSystemSettingData"
