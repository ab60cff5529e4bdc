# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values on the wire: what hosts send becomes typed, what we send has the one accepted form (wire 2.5, 3, 4)."""
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.cim import cimxml, datetimes, paths, wql, wscim
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import (
    CimValueError,
    EmbeddedObject,
    EmbeddedText,
    Instance,
    Property,
    Reference,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import ProtocolError
from hypothesis import given
from hypothesis import strategies as st
from support.recording import DECLARED, NAMESPACES, V2, WMI, instance, reference

V2_NAMESPACE = "root/virtualization/v2"
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff") | st.sampled_from("\n\t\r"))
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
UTC_TIMES = st.datetimes(min_value=datetime(1601, 1, 2), max_value=datetime(9998, 1, 1), timezones=st.just(UTC))
INTERVALS = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=90_000_000))


def element(markup):
    return ElementTree.fromstring(f"<r {DECLARED}>{markup}</r>")[0]


def decode(markup, **given_names):
    return wscim.decode_instance(element(markup), **given_names)


def test_an_instance_with_every_kind_of_value():
    one = decode(instance("Msvm_X", {
        "Nil": None, "Empty": "", "Text": "a &lt;&amp; b", "Number": "-1", "Large": "18446744073709551615", "Yes": "true",
        "When": "<cim:Datetime>2025-12-17T09:55:22.48634Z</cim:Datetime>", "Never": "<cim:Datetime>1601-01-01T00:00:00Z</cim:Datetime>",
        "Long": "<cim:Interval>P0DT0H1M1.00417S</cim:Interval>", "Ref": reference("Msvm_Y", {"InstanceID": "Microsoft:G\\0"}),
    }))
    assert (one.namespace, one.class_name) == (V2_NAMESPACE, "Msvm_X")
    assert (one.text("Nil"), one.text("Empty"), one.text("text"), one.text("Absent")) == (None, "", "a <& b", None)
    assert ("Nil" in one, "Absent" in one) == (True, False)
    assert (one.integer("Number"), one.integer("Large"), one.boolean("Yes")) == (-1, 18446744073709551615, True)
    assert one.time("When") == datetime(2025, 12, 17, 9, 55, 22, 486340, UTC)
    assert one.time("Never") is None
    assert one.interval("Long") == timedelta(minutes=1, seconds=1, microseconds=4170)
    assert one.reference("Ref") == Reference(V2_NAMESPACE, "Msvm_Y", {"InstanceID": "Microsoft:G\\0"})


def test_arrays_are_repeated_elements_and_one_element_looks_like_a_scalar():
    one = decode('<p:X xmlns:p="urn:x"><p:A>2</p:A><p:B>1</p:B><p:A>3</p:A><p:C xsi:nil="1"/><p:A xsi:nil="true"/></p:X>')
    assert (one.integers("A"), one.integers("B"), one.integers("C"), one.integers("D")) == ((2, 3), (1,), (), ())
    assert one.raw("A") == ("2", "3", None)


def test_the_class_is_that_of_the_element_and_the_namespace_in_any_letters():
    uri = (WMI + "ROOT/Virtualization/V2/MSVM_x").replace("schemas.microsoft.com/wbem", "Schemas.Microsoft.com/WBEM")
    one = decode(f'<q:Msvm_Derived xmlns:q="{uri}"><q:A>1</q:A></q:Msvm_Derived>', namespace="root/other", class_name="Msvm_Base")
    assert (one.namespace.lower(), one.class_name, one.integer("a")) == (V2_NAMESPACE, "Msvm_Derived", 1)


def test_a_projection_has_the_querys_class_and_unqualified_dates():
    one = decode('<w:XmlFragment><Caption xsi:nil="true"/><InstallDate><Datetime>2020-01-02T03:04:05+08:00</Datetime></InstallDate>'
                 "<Name>x</Name></w:XmlFragment>", namespace="root/cimv2", class_name="Win32_X")
    assert (one.namespace, one.class_name, one.text("Name"), one.text("Caption")) == ("root/cimv2", "Win32_X", "x", None)
    assert one.time("InstallDate") == datetime(2020, 1, 1, 19, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("wrapped", ["{0}", "<a:EndpointReference>{0}</a:EndpointReference>"])
def test_references_with_and_without_a_wrapper(wrapped):
    inner = reference("Msvm_Y", {"InstanceID": "x", "__cimnamespace": "root/virtualization/v2"})
    assert wscim.decode_reference(element(f"<p:R xmlns:p='urn:x'>{wrapped.format(inner)}</p:R>")) == Reference(
        V2_NAMESPACE, "Msvm_Y", {"instanceid": "X"})


def test_an_object_with_its_address():
    address = f"<a:EndpointReference>{reference('Msvm_X', {'A': '1'})}</a:EndpointReference>"
    one = decode(f"<w:Item>{instance('Msvm_X', {'A': '1'})}{address}</w:Item>")
    assert (one.class_name, one.integer("A")) == ("Msvm_X", 1)


def test_embedded_objects_are_instances_of_their_own_class():
    inner = ('<p:SummaryInformation xmlns:q="{}Msvm_SummaryInformation" xsi:type="q:Msvm_SummaryInformation_Type"><q:Name>a</q:Name>'
             "<q:Snapshots><a:Address>x</a:Address>{}</q:Snapshots></p:SummaryInformation>").format(
                 V2, reference("Msvm_V", {"InstanceID": "1"}).partition("</a:Address>")[2])
    other = '<p:SummaryInformation xsi:type="p:Msvm_SummaryInformation_Type"/>'
    one = decode(f'<p:GetSummaryInformation_OUTPUT xmlns:p="{V2}Msvm_V">{inner}{other}<p:ReturnValue>0</p:ReturnValue>'
                 "</p:GetSummaryInformation_OUTPUT>")
    first, second = one.instances("SummaryInformation")
    assert (first.namespace, first.class_name, first.text("Name")) == (V2_NAMESPACE, "Msvm_SummaryInformation", "a")
    assert first.reference("Snapshots") == Reference(V2_NAMESPACE, "Msvm_V", {"InstanceID": "1"})
    assert (second.class_name, dict(second.values)) == ("Msvm_SummaryInformation", {})


def test_a_location_at_the_end_is_ignored():
    one = decode(f'<p:X xmlns:p="{V2}X"><p:Name>a</p:Name><cim:Location>{reference("X", {"Name": "a"})}</cim:Location></p:X>')
    assert dict(one.values) == {"Name": "a"}


def test_a_property_called_location_is_kept():
    assert decode(f'<p:X xmlns:p="{V2}X"><p:Location>here</p:Location></p:X>').text("Location") == "here"


@pytest.mark.parametrize("bad", [
    "<p:R><a:Address>x</a:Address></p:R>", "<p:R><a:Address>x</a:Address><a:ReferenceParameters/></p:R>",
    "<p:R><a:Address>x</a:Address><a:ReferenceParameters><w:ResourceURI>http://elsewhere/x</w:ResourceURI></a:ReferenceParameters></p:R>",
    f"<p:R><a:Address>x</a:Address><a:ReferenceParameters><w:ResourceURI>{WMI}</w:ResourceURI></a:ReferenceParameters></p:R>",
    "<p:N>" * 20 + "x" + "</p:N>" * 20,
])
def test_broken_values_are_errors_of_the_family(bad):
    with pytest.raises(ProtocolError):
        decode(f'<p:X xmlns:p="{V2}X">{bad}</p:X>')


@pytest.mark.parametrize(("markup", "read"), [
    ("<p:A>abc</p:A>", "integer"), ("<p:A><cim:Datetime>soon</cim:Datetime></p:A>", "time"), ("<p:A>1</p:A>", "boolean"),
    ("<p:A><cim:Interval>P1Y</cim:Interval></p:A>", "interval"), ("<p:A>x</p:A><p:A>y</p:A>", "text"),
])
def test_a_value_of_the_wrong_kind_is_named_when_it_is_read(markup, read):
    one = decode(f'<p:X xmlns:p="{V2}X">{markup}</p:X>')
    with pytest.raises(CimValueError, match=r"X\.A: expected"):
        getattr(one, read)("A")


# -- dates ------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("written", "read"), [
    ("2025-12-17T09:55:22.702341Z", datetime(2025, 12, 17, 9, 55, 22, 702341, UTC)),
    ("2025-12-17T09:55:22Z", datetime(2025, 12, 17, 9, 55, 22, 0, UTC)),
    ("2025-12-17T09:55:22.5Z", datetime(2025, 12, 17, 9, 55, 22, 500000, UTC)),
    ("2025-12-17T09:55:22.123456789Z", datetime(2025, 12, 17, 9, 55, 22, 123456, UTC)),
    ("2025-12-17T17:55:22+08:00", datetime(2025, 12, 17, 9, 55, 22, 0, UTC)),
    ("2025-12-17T04:25:22-05:30", datetime(2025, 12, 17, 9, 55, 22, 0, UTC)),
    ("1601-01-01T00:00:00Z", datetime(1601, 1, 1, tzinfo=UTC)),
])
def test_times(written, read):
    assert datetimes.parse_time(written) == read


@pytest.mark.parametrize("bad", ["", "soon", "2025-13-01T00:00:00Z", "2025-01-01T25:00:00Z", "0001-01-01T00:00:00+14:00",
                                 "2025-01-01T00:00Z", "9999-12-31T23:59:59-10:00", "２０２５-01-01T00:00:00Z"])
def test_what_is_no_time(bad):
    with pytest.raises(ValueError):
        datetimes.parse_time(bad)


@pytest.mark.parametrize(("written", "read"), [
    ("P0DT0H1M1.00417S", timedelta(seconds=61, microseconds=4170)), ("P0DT0H5M0S", timedelta(minutes=5)), ("PT1H", timedelta(hours=1)),
    ("P3D", timedelta(days=3)), ("-PT1S", timedelta(seconds=-1)), ("P0Y0M1DT0S", timedelta(days=1)),
])
def test_intervals(written, read):
    assert datetimes.parse_interval(written) == read


@pytest.mark.parametrize("bad", ["", "P", "PT", "P1DT", "P1Y", "P1M", "1D", "P999999999999D", "PT1.5.5S", "P-1D"])
def test_what_is_no_interval(bad):
    with pytest.raises(ValueError):
        datetimes.parse_interval(bad)


@given(UTC_TIMES, INTERVALS)
def test_all_spellings_survive_the_round_trip(when, long):
    assert datetimes.parse_time(datetimes.format_time(when)) == when
    assert datetimes.parse_interval(datetimes.format_interval(long)) == long
    assert datetimes.parse_cim(datetimes.format_cim(when)) == when
    assert datetimes.parse_cim(datetimes.format_cim(long)) == long


def test_the_accepted_interval_of_a_write():
    assert datetimes.format_cim(timedelta(minutes=45)) == "00000000004500.000000:000"
    assert datetimes.parse_cim("20251217095522.702341+480") == datetime(2025, 12, 17, 1, 55, 22, 702341, UTC)
    for bad in (timedelta(seconds=-1), timedelta(days=100_000_000), datetime(2025, 1, 1)):
        with pytest.raises(ValueError):
            datetimes.format_cim(bad)


# -- CIM-XML ----------------------------------------------------------------------------------------------------------------------

def test_the_exact_form_of_an_embedded_instance():
    one = EmbeddedText("Msvm_VirtualSystemSettingData", [
        Property("InstanceID", "string", "Microsoft:G"), Property("Notes", "string", ("a<b>&\"'\n]]>", "ü")),
        Property("AutomaticSnapshotsEnabled", "boolean", False), Property("Count", "uint16", 65535),
        Property("Delay", "datetime", timedelta(minutes=45)), Property("Left", "string", None)])
    assert cimxml.format_instance(one) == (
        '<INSTANCE CLASSNAME="Msvm_VirtualSystemSettingData">'
        '<PROPERTY NAME="InstanceID" TYPE="string"><VALUE>Microsoft:G</VALUE></PROPERTY>'
        '<PROPERTY.ARRAY NAME="Notes" TYPE="string"><VALUE.ARRAY><VALUE>a&#60;b&#62;&#38;&#34;&#39;&#xA;]]&#62;</VALUE><VALUE>ü</VALUE>'
        '</VALUE.ARRAY></PROPERTY.ARRAY><PROPERTY NAME="AutomaticSnapshotsEnabled" TYPE="boolean"><VALUE>false</VALUE></PROPERTY>'
        '<PROPERTY NAME="Count" TYPE="uint16"><VALUE>65535</VALUE></PROPERTY>'
        '<PROPERTY NAME="Delay" TYPE="datetime"><VALUE>00000000004500.000000:000</VALUE></PROPERTY>'
        '<PROPERTY NAME="Left" TYPE="string"></PROPERTY></INSTANCE>')


@given(st.dictionaries(NAMES, TEXT | st.lists(TEXT, max_size=3).map(tuple) | UTC_TIMES | INTERVALS | st.none(), max_size=6))
def test_cim_xml_survives_the_round_trip_and_may_stand_in_cdata(values):
    kinds = {name: "datetime" if isinstance(value, datetime | timedelta) else "string" for name, value in values.items()}
    text = cimxml.format_instance(EmbeddedText("X", [Property(name, kinds[name], value) for name, value in values.items()]))
    assert "]]>" not in text
    assert all(piece.startswith("#") for piece in text.split("&")[1:])
    one = cimxml.parse_instance(text, V2_NAMESPACE)
    assert (one.namespace, one.class_name, dict(one.values)) == (V2_NAMESPACE, "X", values)


@pytest.mark.parametrize(("cim_type", "value"), [
    ("boolean", 1), ("boolean", "true"), ("uint16", 65536), ("uint16", -1), ("uint16", True), ("uint16", "1"), ("sint8", 128),
    ("string", 1), ("datetime", "P0D"), ("String", "x"), ("reference", "x"), ("datetime", datetime(2025, 1, 1)),
])
def test_a_value_that_the_host_would_refuse_is_refused_here(cim_type, value):
    with pytest.raises(ValueError):
        cimxml.format_instance(EmbeddedText("X", [Property("A", cim_type, value)]))


def test_what_hosts_send_as_cim_xml():
    one = cimxml.parse_instance(
        '<?xml version="1.0"?><DECLARATIONS><DECLGROUP><VALUE.OBJECT><INSTANCE CLASSNAME="Msvm_VirtualHardDiskSettingData">'
        '<QUALIFIER NAME="x" TYPE="string"><VALUE>y</VALUE></QUALIFIER>'
        '<PROPERTY NAME="Path" CLASSORIGIN="Y" TYPE="string"><VALUE>C:\\a &amp; b</VALUE></PROPERTY>'
        '<PROPERTY NAME="MaxInternalSize" TYPE="uint64"><VALUE>136365211648</VALUE></PROPERTY>'
        '<PROPERTY NAME="ParentPath" PROPAGATED="true" TYPE="string"></PROPERTY>'
        '<PROPERTY.ARRAY NAME="Some" TYPE="string"><VALUE.ARRAY><VALUE>a</VALUE><VALUE.NULL/></VALUE.ARRAY></PROPERTY.ARRAY>'
        '<PROPERTY NAME="When" TYPE="datetime"><VALUE>20251217095522.702341-000</VALUE></PROPERTY>'
        '<PROPERTY NAME="Odd" TYPE="datetime"><VALUE>never</VALUE></PROPERTY>'
        "</INSTANCE></VALUE.OBJECT></DECLGROUP></DECLARATIONS>", V2_NAMESPACE)
    assert (one.class_name, one.text("Path"), one.integer("maxinternalsize"), one.text("ParentPath")) == (
        "Msvm_VirtualHardDiskSettingData", "C:\\a & b", 136365211648, None)
    assert (one.texts("Some"), one.time("When")) == (("a",), datetime(2025, 12, 17, 9, 55, 22, 702341, UTC))
    with pytest.raises(CimValueError):
        one.time("Odd")


@given(st.text(alphabet='<>/="&;INSTACEPROY.LVU \n', max_size=200) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
def test_any_other_text_is_an_error_of_the_family(text):
    with pytest.raises(ProtocolError):
        cimxml.parse_instance(text, V2_NAMESPACE)


# -- object paths -----------------------------------------------------------------------------------------------------------------

def test_paths_as_hosts_print_them():
    stored = r'\\HV01\root\virtualization\v2:Msvm_ResourceAllocationSettingData.InstanceID="Microsoft:GUID\\GUID\\0"'
    found = paths.parse_path(stored)
    assert found == Reference(V2_NAMESPACE, "Msvm_ResourceAllocationSettingData", {"InstanceID": r"Microsoft:GUID\GUID\0"})
    assert paths.format_path(found) == r'root/virtualization/v2:Msvm_ResourceAllocationSettingData.InstanceID="Microsoft:GUID\\GUID\\0"'
    assert paths.format_path(found, "HV01") == stored
    literal = paths.parse_path(r"\\HV01\root\virtualization\v2:Msvm_X.InstanceID='Microsoft:G\0',Number=7")
    assert dict(literal.keys) == {"InstanceID": r"Microsoft:G\0", "Number": "7"}
    assert paths.parse_path("//./root/cimv2:Win32_X=@") == Reference("root/cimv2", "Win32_X", {})


@given(st.dictionaries(NAMES, st.text(max_size=30), min_size=0, max_size=4), st.sampled_from([None, "HV-01"]))
def test_paths_survive_the_round_trip(keys, host):
    folded = {name.lower(): value for name, value in keys.items()}
    one = Reference(V2_NAMESPACE, "Msvm_X", folded)
    found = paths.parse_path(paths.format_path(one, host))
    assert (found.namespace, found.class_name, dict(found.keys)) == (V2_NAMESPACE, "Msvm_X", folded)


@pytest.mark.parametrize("bad", ["", "x", "root/cimv2", "root:X.", "root:X.A", 'root:X.A="x', 'root:X.A="x"B="y"', 'root:X.A="x" ,B=1',
                                 'root:X,A="x"', 'root:X.A="x"."', "a:b:c", '\\\\h\\root:X.A="x\\"'])
def test_what_is_no_path(bad):
    with pytest.raises(ValueError):
        paths.parse_path(bad)


# -- WQL --------------------------------------------------------------------------------------------------------------------------

def test_wql_texts():
    assert wql.select("root/cimv2", "Win32_X", {"Name": r"it's a\b", "Id": 7, "On": True}, ["Name"]).text == (
        r"SELECT Name FROM Win32_X WHERE Name = 'it\'s a\\b' AND Id = 7 AND On = TRUE")
    assert wql.select("root/cimv2", "Win32_X").text == "SELECT * FROM Win32_X"
    origin = Reference(V2_NAMESPACE, "Msvm_V", {"InstanceID": r"Microsoft:G\0"})
    assert wql.associators_of(origin, association="Msvm_A", result="Msvm_R", role="Ante", result_role="Dep").text == (
        r"ASSOCIATORS OF {Msvm_V.InstanceID='Microsoft:G\\0'} WHERE AssocClass=Msvm_A ResultClass=Msvm_R Role=Ante ResultRole=Dep")


@given(TEXT)
def test_no_value_leaves_its_quotes(value):
    quoted = wql.quote(value)
    assert (quoted[0], quoted[-1]) == ("'", "'")
    inner, at, read = quoted[1:-1], 0, []
    while at < len(inner):
        assert inner[at] != "'"
        at += inner[at] == "\\"
        read.append(inner[at])
        at += 1
    assert "".join(read) == value


@pytest.mark.parametrize("name", ["", "a b", "a'", "1a", "a;", "a.b", "a\n", "*"])
def test_names_are_names(name):
    for build in (lambda: wql.select("n", name), lambda: wql.select("n", "X", {name: 1}), lambda: wql.select("n", "X", None, [name])):
        with pytest.raises(ValueError):
            build()


def test_the_filter_on_our_side_agrees_with_that_of_the_host():
    one = Instance("n", "X", {"Name": "Ünï", "Id": "7", "On": "true", "Nil": None})
    for where, expected in [({}, True), ({"name": "üNÏ"}, True), ({"Name": "x"}, False), ({"Id": 7}, True), ({"Id": 8}, False),
                            ({"On": True}, True), ({"On": False}, False), ({"Nil": "x"}, False), ({"Nil": 1}, False),
                            ({"Name": "Ünï", "Id": 8}, False)]:
        assert wql.select("n", "X", where).matches(one) is expected


# -- parameters -------------------------------------------------------------------------------------------------------------------

def test_the_input_of_a_method():
    vm = Reference(V2_NAMESPACE, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": "a<b"})
    markup = wscim.encode_input(V2_NAMESPACE, "Msvm_S", "M", {
        "System": vm, "Systems": [vm, vm], "Number": 7, "Numbers": [1, 2], "Yes": True, "Text": "<&\"'>", "Nothing": None, "None_": [],
        "When": datetime(2026, 1, 1, tzinfo=UTC), "Long": timedelta(minutes=1),
        "Embedded": EmbeddedText("X", [Property("A", "string", "&")]),
        "Object": EmbeddedObject("root/cimv2", "Win32_ProcessStartup", {"CreateFlags": 16777216})})
    root = ElementTree.fromstring(f"<r {DECLARED}>{markup}</r>")[0]
    ns = {**NAMESPACES, "p": V2 + "Msvm_S", "q": WMI + "root/cimv2/Win32_ProcessStartup"}
    assert root.tag == f"{{{V2}Msvm_S}}M_INPUT"
    assert [one.tag.rpartition("}")[2] for one in root] == [
        "System", "Systems", "Systems", "Number", "Numbers", "Numbers", "Yes", "Text", "When", "Long", "Embedded", "Object"]
    system = root.find("p:System", ns)
    assert [one.tag for one in system] == [f"{{{NAMESPACES['a']}}}Address", f"{{{NAMESPACES['a']}}}ReferenceParameters"]
    assert wscim.decode_reference(system) == vm
    assert root.findtext("p:Yes", namespaces=ns) == "true"
    assert root.findtext("p:Text", namespaces=ns) == "<&\"'>"
    assert root.findtext("p:When/cim:Datetime", namespaces=ns) == "2026-01-01T00:00:00.000000Z"
    assert root.findtext("p:Long/cim:Interval", namespaces=ns) == "P0DT0H1M0.000000S"
    assert root.findtext("p:Embedded", namespaces=ns) == (
        '<INSTANCE CLASSNAME="X"><PROPERTY NAME="A" TYPE="string"><VALUE>&#38;</VALUE></PROPERTY></INSTANCE>')
    given_object = root.find("p:Object", ns)
    assert given_object.attrib[f"{{{NAMESPACES['xsi']}}}type"] == "q:Win32_ProcessStartup_Type"
    assert given_object.findtext("q:CreateFlags", namespaces=ns) == "16777216"


def test_a_method_without_parameters_has_an_empty_input():
    assert wscim.encode_input("root/cimv2", "Win32_X", "M", {}) == f'<p:M_INPUT xmlns:p="{WMI}root/cimv2/Win32_X"/>'


def test_properties_are_found_in_any_case_and_first_as_they_are_written():
    one = Instance(V2_NAMESPACE, "Msvm_X", {"Name": "a", "NAME": "b", "Other": "c"})
    assert [one.text(name) for name in ("Name", "NAME", "other", "OTHER", "none")] == ["a", "b", "c", "c", None]
    assert ("oTHER" in one, "none" in one) == (True, False)
