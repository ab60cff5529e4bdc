# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CIM operations over raw envelopes: Get, Delete, Enumerate, Pull, Release, Invoke (wire 1.4, 2, 3.1)."""
from __future__ import annotations

from datetime import UTC, datetime
from xml.sax.saxutils import escape

import pytest
from simulator.cim.model import Caller, CimError, CimValue, Instance, Ref
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.soap import names
from simulator.spec import HostSpec, Limits, Quirks
from unit.simulator.soap.helpers import CIMV2, NS, OPERATOR, V2, Reply, SmallHost, Table

SERVICE = CIMV2 + "Win32_Service"
STAR = CIMV2 + "*"
SYSTEM = V2 + "Msvm_ComputerSystem"
SETTINGS = V2 + "Msvm_VirtualSystemSettingData"
NSP = {**NS, "c": SERVICE, "cs": SYSTEM}


def service(name: str, **values: CimValue) -> dict[str, CimValue]:
    return {"Name": name, "Started": True, "ProcessId": 4, "Description": "", **values}


def with_services(number: int = 10, spec: HostSpec | None = None, **values: CimValue) -> SmallHost:
    host = SmallHost(spec)
    host.repository.register("root/cimv2", "Win32_Service", Table("root/cimv2", "Win32_Service",
                                                                  [service(f"svc{n:03}", **values) for n in range(number)]))
    return host


def names_in(reply: Reply) -> list[str]:
    return [element.text or "" for element in reply.root.iter(names.tag(SERVICE, "Name"))]


def pull_body(context: str, elements: int | None) -> str:
    maximum = f"<n:MaxElements>{elements}</n:MaxElements>" if elements is not None else ""
    return f"<n:Pull><n:EnumerationContext>{escape(context)}</n:EnumerationContext>{maximum}</n:Pull>"


def drain(host: SmallHost, body: str, uri: str = SERVICE, elements: int | None = 32000) -> tuple[list[Reply], list[str]]:
    """All answers of an enumeration, and every context in the order they came."""
    replies = [host.ask(names.ENUMERATE, uri, body)]
    assert replies[0].status == 200, replies[0].answer.body
    context = replies[0].text("s:Body/n:EnumerateResponse/n:EnumerationContext")
    contexts = []
    while context:
        contexts.append(context)
        replies.append(host.ask(names.PULL, uri, pull_body(context, elements)))
        assert replies[-1].status == 200
        context = replies[-1].text("s:Body/n:PullResponse/n:EnumerationContext")
    return replies, contexts


def optimised(elements: int = 32000, inner: str = "") -> str:
    return f"<n:Enumerate><w:OptimizeEnumeration/><w:MaxElements>{elements}</w:MaxElements>{inner}</n:Enumerate>"


def wql(query: str, prefix: str = "w") -> str:
    return optimised(inner=f'<{prefix}:Filter Dialect="{names.WQL}">{escape(query)}</{prefix}:Filter>')


# -- plain enumeration


def test_a_plain_enumeration_has_only_a_context_and_a_pull_brings_one_item() -> None:
    host = with_services(3)
    replies, contexts = drain(host, "<n:Enumerate/>", elements=None)
    response = replies[0].find("s:Body/n:EnumerateResponse")
    assert response is not None
    assert [child.tag for child in response] == [names.tag(names.N, "EnumerationContext")]
    assert [len(names_in(reply)) for reply in replies] == [0, 1, 1, 1]
    shapes = [[child.tag.rpartition("}")[2] for child in reply.root.find("s:Body/n:PullResponse", NS) or []] for reply in replies[1:]]
    assert shapes == [["EnumerationContext", "Items"], ["EnumerationContext", "Items"], ["Items", "EndOfSequence"]]
    assert all(child.tag.startswith("{" + names.N) for reply in replies[1:] for child in reply.root.find("s:Body/n:PullResponse", NS) or [])
    assert len(set(contexts)) == 3
    assert all(context.startswith("uuid:") for context in contexts)


def test_an_empty_class_ends_with_its_first_pull() -> None:
    replies, _ = drain(with_services(0), "<n:Enumerate/>")
    assert replies[1].find("s:Body/n:PullResponse/n:EndOfSequence") is not None
    assert names_in(replies[1]) == []


# -- optimised enumeration


def test_an_optimised_enumeration_that_is_complete_has_an_empty_context() -> None:
    host = with_services(3, HostSpec("HV1", quirks=Quirks(split_batches=False)))
    replies, contexts = drain(host, optimised())
    response = replies[0].find("s:Body/n:EnumerateResponse")
    assert response is not None
    assert [child.tag for child in response] == [names.tag(names.N, "EnumerationContext"), names.tag(names.W, "Items"),
                                                 names.tag(names.W, "EndOfSequence")]
    assert (response[0].text or "", contexts) == ("", [])
    assert [child.tag for child in response[1]] == [names.tag(SERVICE, "Win32_Service")] * 3


def test_batches_are_split_in_no_foreseeable_way_and_nothing_is_lost() -> None:
    expected = [f"svc{n:03}" for n in range(40)]
    shapes = set()
    for seed in range(30):
        replies, contexts = drain(with_services(40, HostSpec("HV1", seed=seed)), optimised())
        delivered = [names_in(reply) for reply in replies]
        assert [name for batch in delivered for name in batch] == expected
        assert len(set(contexts)) == len(contexts)
        shapes.add(tuple(len(batch) for batch in delivered))
        first = replies[0].find("s:Body/n:EnumerateResponse/w:EndOfSequence")
        assert (first is not None) == (len(replies) == 1)
    assert (40,) in shapes
    assert any(shape[0] == 1 and shape[1] == 39 for shape in shapes)
    assert any(len(shape) > 2 for shape in shapes)


def test_max_elements_is_never_exceeded_and_the_answer_to_a_pull_without_it_is_one() -> None:
    host = with_services(20, HostSpec("HV1", quirks=Quirks(split_batches=False)))
    replies, _ = drain(host, optimised(7), elements=5)
    assert [len(names_in(reply)) for reply in replies] == [7, 5, 5, 3]
    replies, _ = drain(host, optimised(18), elements=None)
    assert [len(names_in(reply)) for reply in replies] == [18, 1, 1]


def test_optimised_without_a_number_brings_one() -> None:
    host = with_services(2, HostSpec("HV1", quirks=Quirks(split_batches=False)))
    replies, _ = drain(host, "<n:Enumerate><w:OptimizeEnumeration/></n:Enumerate>")
    assert [len(names_in(reply)) for reply in replies] == [1, 1]


def test_the_server_has_a_maximum_of_its_own() -> None:
    host = with_services(20, HostSpec("HV1", quirks=Quirks(split_batches=False), limits=Limits(max_batch_items=6)))
    replies, _ = drain(host, optimised())
    assert [len(names_in(reply)) for reply in replies] == [6, 6, 6, 2]


def test_answers_fit_into_the_envelope_that_was_asked_for() -> None:
    host = with_services(60, HostSpec("HV1", quirks=Quirks(split_batches=False)), Description="d" * 1000)
    body = optimised()
    reply = host.ask(names.ENUMERATE, SERVICE, body, size="20000")
    sizes, total = [], 0
    path = "s:Body/n:EnumerateResponse/n:EnumerationContext"
    while True:
        sizes.append(len(reply.answer.body))
        total += len(names_in(reply))
        context = reply.text(path)
        if not context:
            break
        reply = host.ask(names.PULL, SERVICE, pull_body(context, 32000), size="20000")
        path = "s:Body/n:PullResponse/n:EnumerationContext"
    assert total == 60
    assert max(sizes) <= 20000
    assert min(sizes[:-1]) > 10000


def test_one_item_that_does_not_fit_is_a_fault() -> None:
    host = with_services(2, Description="d" * 30000)
    reply = host.ask(names.ENUMERATE, SERVICE, optimised(), size="20000")
    assert (reply.status, reply.subcode) == (500, "w:EncodingLimit")
    assert host.ask(names.GET, SERVICE, selectors={"Name": "svc001"}, size="20000").subcode == "w:EncodingLimit"


# -- contexts


def test_a_context_can_be_used_once() -> None:
    host = with_services(5)
    context = host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>").text("s:Body/n:EnumerateResponse/n:EnumerationContext") or ""
    assert host.ask(names.PULL, SERVICE, pull_body(context, 1)).status == 200
    reply = host.ask(names.PULL, SERVICE, pull_body(context, 1))
    assert (reply.subcode, reply.code) == ("n:InvalidEnumerationContext", 2150858779)
    assert reply.action == "http://schemas.xmlsoap.org/ws/2004/09/enumeration/fault"


def test_a_pull_may_name_another_class() -> None:
    host = with_services(2)
    context = host.ask(names.ENUMERATE, STAR, wql("SELECT * FROM Win32_Service")).text("s:Body/n:EnumerateResponse/n:EnumerationContext")
    context = context or host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>").text("s:Body/n:EnumerateResponse/n:EnumerationContext") or ""
    reply = host.ask(names.PULL, "http://schemas.dmtf.org/wbem/wscim/1/*", pull_body(context, 10))
    assert reply.status == 200


def test_a_context_expires_by_the_clock() -> None:
    host = with_services(5)
    contexts = [host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>").text("s:Body/n:EnumerateResponse/n:EnumerationContext") or ""
                for _ in range(2)]
    host.clock.advance(239)
    assert host.ask(names.PULL, SERVICE, pull_body(contexts[0], 1)).status == 200
    host.clock.advance(2)
    assert host.ask(names.PULL, SERVICE, pull_body(contexts[1], 1)).code == 2150858779


def test_a_pull_puts_the_expiry_off() -> None:
    host = with_services(5)
    context = host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>").text("s:Body/n:EnumerateResponse/n:EnumerationContext") or ""
    for _ in range(3):
        host.clock.advance(200)
        reply = host.ask(names.PULL, SERVICE, pull_body(context, 1))
        context = reply.text("s:Body/n:PullResponse/n:EnumerationContext") or ""
    assert context


def test_release() -> None:
    host = with_services(5)
    context = host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>").text("s:Body/n:EnumerateResponse/n:EnumerationContext") or ""
    body = f"<n:Release><n:EnumerationContext>{context}</n:EnumerationContext></n:Release>"
    assert host.ask(names.RELEASE, SERVICE, body).action == names.RELEASE + "Response"
    assert host.ask(names.RELEASE, SERVICE, body).code == 2150858779


def test_a_context_belongs_to_its_user() -> None:
    host = with_services(5)
    context = host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>").text("s:Body/n:EnumerateResponse/n:EnumerationContext") or ""
    host.caller = OPERATOR
    assert host.ask(names.PULL, SERVICE, pull_body(context, 1)).code == 2150858779


def test_open_enumerations_count_against_the_quota() -> None:
    host = with_services(5, HostSpec("HV1", limits=Limits(max_operations_per_user=2)))
    contexts = [host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>").text("s:Body/n:EnumerateResponse/n:EnumerationContext") or ""
                for _ in range(2)]
    reply = host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>")
    assert (reply.status, reply.subcode) == (500, "w:InternalError")
    detail = reply.find("s:Body/s:Fault/s:Detail")
    assert detail is not None
    assert [child.tag.rpartition("}")[2] for child in detail] == ["MSFT_WmiError"]
    values = {child.tag.rpartition("}")[2]: child.text for child in detail[0]}
    assert (values["CIMStatusCode"], values["error_Code"]) == ("27", "2150859174")
    drained = host.ask(names.PULL, SERVICE, pull_body(contexts[0], 100))
    while context := drained.text("s:Body/n:PullResponse/n:EnumerationContext"):
        drained = host.ask(names.PULL, SERVICE, pull_body(context, 100))
    assert host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>").status == 200


# -- modes


def test_object_and_reference() -> None:
    host = with_services(2, HostSpec("HV1", quirks=Quirks(split_batches=False)))
    replies, _ = drain(host, optimised(1, "<w:EnumerationMode>EnumerateObjectAndEPR</w:EnumerationMode>"))
    for reply, path in zip(replies, ("s:Body/n:EnumerateResponse/w:Items", "s:Body/n:PullResponse/n:Items"), strict=True):
        items = reply.find(path)
        assert items is not None
        assert [child.tag for child in items] == [names.tag(names.W, "Item")]
        assert [child.tag for child in items[0]] == [names.tag(SERVICE, "Win32_Service"), names.tag(names.A, "EndpointReference")]
        epr = items[0][1]
        name = items[0].findtext("c:Win32_Service/c:Name", namespaces=NSP)
        assert epr.findtext("a:ReferenceParameters/w:ResourceURI", namespaces=NS) == SERVICE
        selectors = {s.attrib["Name"]: s.text for s in epr.iter(names.tag(names.W, "Selector"))}
        assert selectors == {"Name": name}


def test_references_only() -> None:
    host = with_services(2, HostSpec("HV1", quirks=Quirks(split_batches=False)))
    replies, _ = drain(host, optimised(9, "<w:EnumerationMode>EnumerateEPR</w:EnumerationMode>"))
    items = replies[0].find("s:Body/n:EnumerateResponse/w:Items")
    assert items is not None
    assert [child.tag for child in items] == [names.tag(names.A, "EndpointReference")] * 2
    assert items[0].findtext("a:Address", namespaces=NS) == names.ANONYMOUS


def test_unknown_mode() -> None:
    host = with_services(2)
    assert host.ask(names.ENUMERATE, SERVICE, optimised(9, "<w:EnumerationMode>Everything</w:EnumerationMode>")).code == 87


def test_polymorphism_mode_is_refused() -> None:
    host = with_services(2)
    reply = host.ask(names.ENUMERATE, SERVICE, optimised(9, "<b:PolymorphismMode>None</b:PolymorphismMode>"))
    assert reply.code == 2150859063


# -- filters


@pytest.mark.parametrize("prefix", ["w", "n"])
def test_wql_with_the_star(prefix: str) -> None:
    replies, _ = drain(with_services(5), wql("select * from Win32_Service where Name = 'svc002'", prefix), STAR)
    assert [name for reply in replies for name in names_in(reply)] == ["svc002"]


def test_wql_on_a_class_is_refused() -> None:
    reply = with_services(5).ask(names.ENUMERATE, SERVICE, wql("select * from Win32_Service"))
    assert (reply.status, reply.subcode, reply.fault_detail) == (500, "a:DestinationUnreachable", "InvalidResourceURI")


def test_a_projection_is_a_fragment() -> None:
    host = with_services(1, HostSpec("HV1", quirks=Quirks(split_batches=False)), InstallDate=datetime(2026, 1, 2, tzinfo=UTC))
    replies, _ = drain(host, wql("select Name, InstallDate, Caption from Win32_Service"), STAR)
    items = replies[0].find("s:Body/n:EnumerateResponse/w:Items")
    assert items is not None
    assert [child.tag for child in items] == [names.tag(names.W, "XmlFragment")]
    assert [child.tag for child in items[0]] == ["Caption", "InstallDate", "Name"]
    assert [child.text for child in items[0]] == [None, None, "svc000"]
    assert items[0].findtext("InstallDate/Datetime") == "2026-01-02T00:00:00Z"
    assert items[0][0].get(names.tag(names.XSI, "nil")) == "true"


def test_wql_characters_are_xml_text() -> None:
    replies, _ = drain(with_services(5), wql("select * from Win32_Service where ProcessId < 5 and Name <> 'a&b'"), STAR)
    assert sum(len(names_in(reply)) for reply in replies) == 5


def test_bad_wql() -> None:
    reply = with_services(5).ask(names.ENUMERATE, STAR, wql("select everything"))
    assert (reply.subcode, reply.code) == ("n:CannotProcessFilter", 2150858778)


def test_a_host_may_refuse_wql_in_a_namespace() -> None:
    host = SmallHost(HostSpec("HV1", quirks=Quirks(refuse_wql_namespaces=("ROOT/virtualization/v2",))))
    assert host.ask(names.ENUMERATE, V2 + "*", wql("select * from Msvm_ComputerSystem")).code == 2150858778


def test_unknown_dialect() -> None:
    body = optimised(inner='<w:Filter Dialect="http://www.w3.org/TR/1999/REC-xpath-19991116">*</w:Filter>')
    assert with_services(1).ask(names.ENUMERATE, SERVICE, body).code == 2150858778


def selector_filter(inner: str) -> str:
    return optimised(inner=f'<w:Filter Dialect="{names.SELECTOR_FILTER}"><w:SelectorSet>{inner}</w:SelectorSet></w:Filter>')


def test_selector_filter_on_a_class() -> None:
    body = selector_filter('<w:Selector Name="NAME">SVC003</w:Selector><w:Selector Name="Started">true</w:Selector>')
    replies, _ = drain(with_services(5), body)
    assert [name for reply in replies for name in names_in(reply)] == ["svc003"]


@pytest.mark.parametrize("inner", [
    '<w:Selector Name="Name">it\'s</w:Selector>', '<w:Selector Name="Name">"a"</w:Selector>', "",
    '<w:Selector Name="Name">a</w:Selector><w:Selector Name="name">b</w:Selector>', '<w:Selector Name="InstallDate">x</w:Selector>',
    '<w:Selector Name="Nothing">x</w:Selector>'])
def test_selector_filter_refusals(inner: str) -> None:
    assert with_services(5).ask(names.ENUMERATE, SERVICE, selector_filter(inner)).code == 2150858778


def test_selector_filter_needs_a_class() -> None:
    assert with_services(5).ask(names.ENUMERATE, STAR, selector_filter('<w:Selector Name="Name">a</w:Selector>')).code == 2150858778


def machine_host() -> SmallHost:
    host = SmallHost(HostSpec("HV1", quirks=Quirks(split_batches=False)))
    v2 = "root/virtualization/v2"
    systems = [{"CreationClassName": "Msvm_ComputerSystem", "Name": name, "ElementName": f"vm {name}"} for name in ("A", "B")]
    settings = [{"InstanceID": f"Microsoft:{name}", "ElementName": f"vm {name}"} for name in ("A", "B")]
    links = [{"ManagedElement": Ref(v2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": name}),
              "SettingData": Ref(v2, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{name}"})} for name in ("A", "B")]

    def change(call: Invocation) -> MethodOutcome:
        assert call.instance is not None
        host.changes += 1
        job = Ref(v2, "Msvm_ConcreteJob", {"InstanceID": "JOB-1"})
        return {"ReturnValue": 4096, "Job": job} if call["RequestedState"] == 3 else {"ReturnValue": 32775}

    host.repository.register(v2, "Msvm_ComputerSystem", Table(v2, "Msvm_ComputerSystem", systems, {"RequestStateChange": change}))
    host.repository.register(v2, "Msvm_VirtualSystemSettingData", Table(v2, "Msvm_VirtualSystemSettingData", settings))
    host.repository.register(v2, "Msvm_SettingsDefineState", Table(v2, "Msvm_SettingsDefineState", links))
    return host


def association_filter(question: str, inner: str) -> str:
    target = (f"<b:Object><a:Address>{names.ANONYMOUS}</a:Address><a:ReferenceParameters><w:ResourceURI>{SYSTEM}</w:ResourceURI>"
              '<w:SelectorSet><w:Selector Name="CreationClassName">Msvm_ComputerSystem</w:Selector><w:Selector Name="Name">B</w:Selector>'
              "</w:SelectorSet></a:ReferenceParameters></b:Object>")
    return optimised(inner=f'<w:Filter Dialect="{names.ASSOCIATION_FILTER}"><b:{question}>{target}{inner}</b:{question}></w:Filter>')


def test_association_filter() -> None:
    inner = ("<b:AssociationClassName>Msvm_SettingsDefineState</b:AssociationClassName><b:Role>ManagedElement</b:Role>"
             "<b:ResultClassName>Msvm_VirtualSystemSettingData</b:ResultClassName><b:ResultRole>SettingData</b:ResultRole>")
    replies, _ = drain(machine_host(), association_filter("AssociatedInstances", inner), V2 + "*")
    assert [element.text for element in replies[0].root.iter(names.tag(SETTINGS, "InstanceID"))] == ["Microsoft:B"]


def test_association_instances() -> None:
    body = association_filter("AssociationInstances", "<b:ResultClassName>Msvm_SettingsDefineState</b:ResultClassName>")
    replies, _ = drain(machine_host(), body, V2 + "*")
    uri = V2 + "Msvm_SettingsDefineState"
    found = list(replies[0].root.iter(names.tag(uri, "SettingData")))
    assert [[s.text for s in element.iter(names.tag(names.W, "Selector"))] for element in found] == [["Microsoft:B"]]


@pytest.mark.parametrize(("uri", "body"), [
    (SYSTEM, association_filter("AssociatedInstances", "")), (V2 + "*", association_filter("Everything", "")),
    (V2 + "*", optimised(inner=f'<w:Filter Dialect="{names.ASSOCIATION_FILTER}"/>'))])
def test_association_filter_refusals(uri: str, body: str) -> None:
    assert machine_host().ask(names.ENUMERATE, uri, body).status == 500


def test_associators_of_in_wql() -> None:
    source = "{Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='A'}"
    query = f"ASSOCIATORS OF {source} WHERE AssocClass=Msvm_SettingsDefineState"
    replies, _ = drain(machine_host(), wql(query), V2 + "*")
    assert [element.text for element in replies[0].root.iter(names.tag(SETTINGS, "InstanceID"))] == ["Microsoft:A"]


def test_a_star_without_a_filter() -> None:
    assert with_services(1).ask(names.ENUMERATE, STAR, "<n:Enumerate/>").subcode == "a:DestinationUnreachable"


@pytest.mark.parametrize("body", ["", "<n:Pull/>", "<n:Enumerate><w:OptimizeEnumeration/><w:MaxElements>x</w:MaxElements></n:Enumerate>"])
def test_bad_enumerate_bodies(body: str) -> None:
    assert with_services(1).ask(names.ENUMERATE, SERVICE, body).code == 2150858817


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
    for _ in range(20):
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
    ("<p:Requested>3</p:Requested>", "w:SchemaValidationError"), ("<p:RequestedState>three</p:RequestedState>", "w:SchemaValidationError")])
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
