# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client: reading without changing, writing once, filters that hosts refuse, and the schema facts behind it."""
from __future__ import annotations

import importlib.util
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.cim import facts, schema_facts, wscim
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import EmbeddedText, Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.wql import select
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, ConnectionFailed, NotFound, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import faults
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WQL, WsmanSession
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import ProtocolError
from support.recording import NAMESPACES, V2, ManualClock, RecordingLane, begun, complete, fault, instance, pulled, reference

V2_NAMESPACE = "root/virtualization/v2"
SERVICE = Reference(V2_NAMESPACE, "Msvm_VirtualSystemManagementService", {"CreationClassName": "Msvm_VirtualSystemManagementService"})
SNAPSHOTS = Reference(V2_NAMESPACE, "Msvm_VirtualSystemSnapshotService", {"CreationClassName": "Msvm_VirtualSystemSnapshotService"})
VM = Reference(V2_NAMESPACE, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": "A"})
REFUSED = fault("n:CannotProcessFilter", 2150858778)
SYSTEMS = complete(instance("Msvm_ComputerSystem", {"Name": "A", "ElementName": "web"}),
                   instance("Msvm_ComputerSystem", {"Name": "B", "ElementName": "db"}))


def reader(*answers):
    lane = RecordingLane(*answers)
    clock = ManualClock()
    return lane, CimReader(WsmanSession(lane, clock), clock)


def writer(*answers):
    lane = RecordingLane(*answers)
    clock = ManualClock()
    return lane, CimWriter(WsmanSession(lane, clock), clock)


def output(target, method, *content, returned="0"):
    ended = "" if returned is None else f"<p:ReturnValue>{returned}</p:ReturnValue>"
    return f'<p:{method}_OUTPUT xmlns:p="{V2}{target.class_name}">{"".join(content)}{ended}</p:{method}_OUTPUT>'


def test_get_and_its_errors():
    lane, one = reader(instance("Msvm_ComputerSystem", {"Name": "A"}), fault("a:DestinationUnreachable", 2150858752),
                       fault("w:AccessDenied", 5),
                       fault("w:InternalError", 1359, inner='<f:ProviderFault><f:WSManFault Code="2147749902"/></f:ProviderFault>'))
    assert one.get(VM).text("Name") == "A"
    assert lane.requests[0].selectors == dict(VM.keys)
    for error in (NotFound, AccessDenied, faults.InvalidNamespace):
        with pytest.raises(error) as caught:
            one.get(VM)
        assert isinstance(caught.value, NotFound) is (error is NotFound)


def test_enumerations_give_the_class_of_each_item():
    _unused, one = reader(
        begun("uuid:1", instance("Msvm_ComputerSystem", {"Name": "A"})),
        pulled(None, instance("Msvm_PlannedComputerSystem", {"Name": "P"}, prefix="q")))
    assert [(found.class_name, found.text("Name")) for found in one.enumerate(V2_NAMESPACE, "CIM_ComputerSystem")] == [
        ("Msvm_ComputerSystem", "A"), ("Msvm_PlannedComputerSystem", "P")]


def test_references():
    item = f"<a:EndpointReference>{reference('Msvm_PlannedComputerSystem', {'Name': 'P'})}</a:EndpointReference>"
    lane, one = reader(complete(item))
    assert one.enumerate_references(V2_NAMESPACE, "CIM_ComputerSystem") == [
        Reference(V2_NAMESPACE, "Msvm_PlannedComputerSystem", {"Name": "P"})]
    assert lane.requests[0].text("n:Enumerate/w:EnumerationMode") == "EnumerateEPR"


def test_a_query_goes_to_all_classes_of_the_namespace():
    lane, one = reader(SYSTEMS)
    assert len(one.query(select(V2_NAMESPACE, "Msvm_ComputerSystem", {"ElementName": "a'b"}))) == 2
    assert lane.requests[0].resource == V2 + "*"
    assert lane.requests[0].text("n:Enumerate/w:Filter") == r"SELECT * FROM Msvm_ComputerSystem WHERE ElementName = 'a\'b'"
    assert lane.requests[0].root.find("s:Body/n:Enumerate/w:Filter", NAMESPACES).attrib == {"Dialect": WQL}


def test_a_refused_filter_is_applied_here_and_not_tried_again():
    lane, one = reader(REFUSED, SYSTEMS, SYSTEMS)
    query = select(V2_NAMESPACE, "Msvm_ComputerSystem", {"ElementName": "WEB"})
    assert [found.text("Name") for found in one.query(query)] == ["A"]
    assert [found.text("Name") for found in one.query(query)] == ["A"]
    assert [request.resource for request in lane.requests] == [V2 + "*", V2 + "Msvm_ComputerSystem", V2 + "Msvm_ComputerSystem"]


def test_columns_hold_for_a_filter_applied_here_too():
    _unused, one = reader(REFUSED, SYSTEMS)
    found = one.query(select(V2_NAMESPACE, "Msvm_ComputerSystem", {"ElementName": "db"}, ["name"]))
    assert [dict(row.values) for row in found] == [{"Name": "B"}]


def test_a_filter_refused_for_another_reason_is_not_remembered():
    missing = '<s:Detail><p:MSFT_WmiError xmlns:p="urn:x"><p:CIMStatusCode>3</p:CIMStatusCode></p:MSFT_WmiError></s:Detail>'
    lane, one = reader(REFUSED, fault("w:InternalError").replace("</s:Fault>", missing + "</s:Fault>"), SYSTEMS)
    query = select(V2_NAMESPACE, "Msvm_ComputerSystem")
    with pytest.raises(faults.InvalidNamespace):
        one.query(query)
    assert len(one.query(query)) == 2
    assert lane.requests[2].resource == V2 + "*"


def test_associators_with_and_without_filters():
    ties = complete(*[instance("Msvm_SettingsDefineState", {
        "ManagedElement": reference("Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": vm}),
        "SettingData": reference("Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{vm}"})}) for vm in ("A", "B")])
    settings = complete(*[instance("Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{vm}"}) for vm in ("B", "a", "C")])
    ask = {"association": "Msvm_SettingsDefineState", "result": "Msvm_VirtualSystemSettingData"}
    lane, one = reader(complete(instance("Msvm_VirtualSystemSettingData", {"InstanceID": "Microsoft:A"})))
    assert [found.text("InstanceID") for found in one.associators(VM, **ask)] == ["Microsoft:A"]
    assert lane.requests[0].text("n:Enumerate/w:Filter") == (
        "ASSOCIATORS OF {Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='A'} WHERE AssocClass=Msvm_SettingsDefineState "
        "ResultClass=Msvm_VirtualSystemSettingData")
    lane, one = reader(REFUSED, ties, settings)
    assert [found.text("InstanceID") for found in one.associators(VM, **ask)] == ["Microsoft:a"]
    _unused, one = reader(REFUSED, ties, settings)
    assert one.associators(VM, **ask, role="SettingData") == []
    _unused, one = reader(REFUSED, ties, settings)
    assert len(one.associators(VM, **ask, role="managedelement", result_role="settingdata")) == 1
    _unused, one = reader(REFUSED, complete())
    assert one.associators(VM, **ask) == []


def test_a_reader_asks_only_what_changes_nothing():
    lane, one = reader(output(SERVICE, "GetSummaryInformation", returned="0"))
    answer = one.ask(SERVICE, "GetSummaryInformation", {"RequestedInformation": [0, 1, 4]})
    assert answer.return_value == 0
    assert lane.requests[0].repeatable
    for target, method in ((SERVICE, "DefineSystem"), (SERVICE, "DestroySystem"), (VM, "RequestStateChange"), (VM, "GetSummaryInformation"),
                           (SNAPSHOTS, "CreateSnapshot"), (SERVICE, "Anything")):
        with pytest.raises(ValueError, match="not known to only read"):
            one.ask(target, method, {})
    assert len(lane.requests) == 1


@pytest.mark.parametrize("job", ["Msvm_ConcreteJob", "Msvm_StorageJob", "Msvm_MigrationJob"])
def test_jobs_of_every_class_may_be_asked_for_their_errors(job):
    target = Reference(V2_NAMESPACE, job, {"InstanceID": "x"})
    lane, one = reader(output(target, "GetErrorEx", "<p:Errors>a</p:Errors>"))
    assert one.ask(target, "GetErrorEx", {}).out.texts("Errors") == ("a",)
    with pytest.raises(ValueError, match="only read"):
        one.ask(target, "RequestStateChange", {"RequestedState": 4})
    assert len(lane.requests) == 1


def test_parameters_go_in_the_declared_order_and_names_are_checked():
    lane, one = writer(output(SNAPSHOTS, "CreateSnapshot", returned="4096"))
    one.invoke(SNAPSHOTS, "CreateSnapshot", {"snapshotType": 2, "SnapshotSettings": "", "AffectedSystem": VM})
    assert [node.tag.rpartition("}")[2] for node in lane.requests[0].body] == ["AffectedSystem", "SnapshotSettings", "SnapshotType"]
    with pytest.raises(ValueError, match="has no parameter typo"):
        one.invoke(SNAPSHOTS, "CreateSnapshot", {"Typo": 1})
    assert len(lane.requests) == 1


@pytest.mark.parametrize(("content", "returned", "expected"), [
    ([], "0", (0, None)), ([], "4096", (4096, None)), ([], None, (None, None)), (['<p:Job xsi:nil="true"/>'], "0", (0, None)),
    ([f'<p:Job>{reference("Msvm_StorageJob", {"InstanceID": "J"})}</p:Job>'], "4096",
     (4096, Reference(V2_NAMESPACE, "Msvm_StorageJob", {"InstanceID": "J"}))),
])
def test_synchronous_and_asynchronous_returns(content, returned, expected):
    _unused, one = writer(output(SNAPSHOTS, "CreateSnapshot", *content, returned=returned))
    answer = one.invoke(SNAPSHOTS, "CreateSnapshot", {"AffectedSystem": VM})
    assert (answer.return_value, answer.out.reference("Job")) == expected


def test_an_empty_output_and_one_of_nil():
    _unused, one = writer(f'<p:M_OUTPUT xmlns:p="{V2}X"/>', f'<p:M_OUTPUT xmlns:p="{V2}X"><p:ReturnValue xsi:nil="true"/></p:M_OUTPUT>')
    assert [one.invoke(SERVICE, "M", {}).return_value for _unused in range(2)] == [None, None]


def test_a_writer_is_touched_by_the_first_request_that_may_change_something():
    lane, one = writer(instance("Msvm_ComputerSystem", {"Name": "A"}), complete(), output(SERVICE, "FormatError"),
                       ConnectionFailed("refused"))
    one.get(VM)
    one.enumerate(V2_NAMESPACE, "X")
    one.ask(SERVICE, "FormatError", {})
    with pytest.raises(ValueError, match="no parameter"):
        one.invoke(SERVICE, "DefineSystem", {"Bad": 1})
    assert not one.touched
    with pytest.raises(ConnectionFailed):
        one.invoke(SERVICE, "DefineSystem", {})
    assert one.touched
    assert lane.requests[-1].repeatable is False


def test_deleting_and_shells_touch_too():
    _unused, one = writer("")
    one.delete(VM)
    assert one.touched
    created = '<rsp:Shell><rsp:ShellId>S</rsp:ShellId></rsp:Shell>'
    lane, one = writer(created, "", created, "")
    with one.open_reading_shell({}):
        assert not one.touched
    shell = one.open_shell({})
    assert not one.touched
    with shell:
        assert one.touched
    assert lane.verbs == ["Create", "Delete", "Create", "Delete"]


def test_a_reader_has_no_way_to_write():
    assert [name for name in ("invoke", "delete", "open_shell", "touched") if hasattr(CimReader, name)] == []


@pytest.mark.parametrize("lost", [OutcomeUnknown("lost"), "<other/>", b"\xff", output(SERVICE, "DefineSystem", returned="soon"),
                                  fault("w:TimedOut", 2150858793),
                                  output(SERVICE, "DefineSystem", "<p:Job><a:Address>x</a:Address></p:Job>")])
def test_a_lost_answer_to_a_change_is_an_unknown_outcome(lost):
    lane, one = writer(lost)
    with pytest.raises(OutcomeUnknown):
        one.invoke(SERVICE, "DefineSystem", {})
    assert len(lane.requests) == 1


def test_a_broken_answer_to_a_question_is_an_error_of_its_own():
    _unused, one = reader(output(SERVICE, "FormatError", returned="soon"))
    with pytest.raises(ProtocolError):
        one.ask(SERVICE, "FormatError", {})


# -- schema facts -----------------------------------------------------------------------------------------------------------------

def test_the_generated_table_is_what_the_generator_writes_today():
    path = Path(__file__).parents[2] / "tools" / "schema_facts"
    loader = SourceFileLoader("schema_facts_generator", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    assert Path(schema_facts.__file__).read_text("utf-8") == module.generate()


def test_embedded_instances_get_their_types_from_the_schema():
    one = facts.embedded("msvm_virtualsystemsettingdata", {
        "instanceid": "x", "Notes": ("a",), "AutomaticSnapshotsEnabled": False, "ElementName": None})
    assert isinstance(one, EmbeddedText)
    assert [(part.name, part.cim_type, part.value) for part in one.properties] == [
        ("InstanceID", "string", "x"), ("Notes", "string", ("a",)), ("AutomaticSnapshotsEnabled", "boolean", False),
        ("ElementName", "string", None)]
    for bad in ({"Typo": 1}, {"Notes": "a"}, {"ElementName": ("a",)}):
        with pytest.raises(ValueError):
            facts.embedded("Msvm_VirtualSystemSettingData", bad)
    with pytest.raises(ValueError):
        facts.embedded("Msvm_Unheard", {"A": 1})


def test_addresses_of_instances():
    for values, keys in [
        ({"InstanceID": "x", "ElementName": "y"}, {"InstanceID": "x"}),
        ({"CreationClassName": "C", "Name": "n", "InstanceID": None}, {"CreationClassName": "C", "Name": "n"}),
        ({"CreationClassName": "C", "Name": "n", "DeviceID": "d", "SystemCreationClassName": "S", "SystemName": "s"},
         {"CreationClassName": "C", "DeviceID": "d", "SystemCreationClassName": "S", "SystemName": "s"}),
    ]:
        assert facts.reference_of(Instance("n", "X", values)) == Reference("n", "X", keys)
    with pytest.raises(ValueError):
        facts.reference_of(Instance("n", "X", {"Name": "n"}))


# -- size -------------------------------------------------------------------------------------------------------------------------

def test_a_thousand_machines_are_read_in_time_linear_in_the_answer():
    properties = {f"Property{number:02d}": (None if number % 3 else f"value {number}") for number in range(50)}
    properties["OperationalStatus"] = "2"
    properties["InstallDate"] = "<cim:Datetime>2025-12-17T09:55:22.702341Z</cim:Datetime>"

    def seconds(count):
        lane, one = reader(complete(*[instance("Msvm_ComputerSystem", {"Name": str(number), **properties}) for number in range(count)]))
        begun_at = time.process_time()
        found = one.enumerate(V2_NAMESPACE, "Msvm_ComputerSystem")
        spent = time.process_time() - begun_at
        assert len(found) == count
        assert lane.verbs == ["Enumerate"]
        return spent

    small, large = min(seconds(100) for _unused in range(5)), min(seconds(1000) for _unused in range(3))
    assert large < 50 * small  # ten times when linear, a hundred times when not


def test_resource_uris():
    assert wscim.resource_uri("root\\cimv2", "Win32_X") == "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/Win32_X"
