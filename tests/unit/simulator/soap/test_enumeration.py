# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enumerate, Pull and Release over raw envelopes (wire 2)."""
from __future__ import annotations

from datetime import UTC, datetime

import pytest
from simulator.soap import names
from simulator.spec import HostSpec, Limits, Quirks
from unit.simulator.soap.cim_fixtures import (
    NSP,
    SERVICE,
    SETTINGS,
    STAR,
    SYSTEM,
    drain,
    machine_host,
    names_in,
    optimised,
    pull_body,
    with_services,
    wql,
)
from unit.simulator.soap.helpers import NS, OPERATOR, V2, SmallHost

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
    replies, _unused = drain(with_services(0), "<n:Enumerate/>")
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
    replies, _unused = drain(host, optimised(7), elements=5)
    assert [len(names_in(reply)) for reply in replies] == [7, 5, 5, 3]
    replies, _unused = drain(host, optimised(18), elements=None)
    assert [len(names_in(reply)) for reply in replies] == [18, 1, 1]


def test_optimised_without_a_number_brings_one() -> None:
    host = with_services(2, HostSpec("HV1", quirks=Quirks(split_batches=False)))
    replies, _unused = drain(host, "<n:Enumerate><w:OptimizeEnumeration/></n:Enumerate>")
    assert [len(names_in(reply)) for reply in replies] == [1, 1]


def test_the_server_has_a_maximum_of_its_own() -> None:
    host = with_services(20, HostSpec("HV1", quirks=Quirks(split_batches=False), limits=Limits(max_batch_items=6)))
    replies, _unused = drain(host, optimised())
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
                for _unused in range(2)]
    host.clock.advance(239)
    assert host.ask(names.PULL, SERVICE, pull_body(contexts[0], 1)).status == 200
    host.clock.advance(2)
    assert host.ask(names.PULL, SERVICE, pull_body(contexts[1], 1)).code == 2150858779


def test_a_pull_puts_the_expiry_off() -> None:
    host = with_services(5)
    context = host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>").text("s:Body/n:EnumerateResponse/n:EnumerationContext") or ""
    for _unused in range(3):
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
                for _unused in range(2)]
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
    replies, _unused = drain(host, optimised(1, "<w:EnumerationMode>EnumerateObjectAndEPR</w:EnumerationMode>"))
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
    replies, _unused = drain(host, optimised(9, "<w:EnumerationMode>EnumerateEPR</w:EnumerationMode>"))
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
    replies, _unused = drain(with_services(5), wql("select * from Win32_Service where Name = 'svc002'", prefix), STAR)
    assert [name for reply in replies for name in names_in(reply)] == ["svc002"]


def test_wql_on_a_class_is_refused() -> None:
    reply = with_services(5).ask(names.ENUMERATE, SERVICE, wql("select * from Win32_Service"))
    assert (reply.status, reply.subcode, reply.fault_detail) == (500, "a:DestinationUnreachable", "InvalidResourceURI")


def test_a_projection_is_a_fragment() -> None:
    host = with_services(1, HostSpec("HV1", quirks=Quirks(split_batches=False)), InstallDate=datetime(2026, 1, 2, tzinfo=UTC))
    replies, _unused = drain(host, wql("select Name, InstallDate, Caption from Win32_Service"), STAR)
    items = replies[0].find("s:Body/n:EnumerateResponse/w:Items")
    assert items is not None
    assert [child.tag for child in items] == [names.tag(names.W, "XmlFragment")]
    assert [child.tag for child in items[0]] == ["Caption", "InstallDate", "Name"]
    assert [child.text for child in items[0]] == [None, None, "svc000"]
    assert items[0].findtext("InstallDate/Datetime") == "2026-01-02T00:00:00Z"
    assert items[0][0].get(names.tag(names.XSI, "nil")) == "true"


def test_wql_characters_are_xml_text() -> None:
    replies, _unused = drain(with_services(5), wql("select * from Win32_Service where ProcessId < 5 and Name <> 'a&b'"), STAR)
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
    replies, _unused = drain(with_services(5), body)
    assert [name for reply in replies for name in names_in(reply)] == ["svc003"]


@pytest.mark.parametrize("inner", [
    '<w:Selector Name="Name">it\'s</w:Selector>', '<w:Selector Name="Name">"a"</w:Selector>', "",
    '<w:Selector Name="Name">a</w:Selector><w:Selector Name="name">b</w:Selector>', '<w:Selector Name="InstallDate">x</w:Selector>',
    '<w:Selector Name="Nothing">x</w:Selector>'])
def test_selector_filter_refusals(inner: str) -> None:
    assert with_services(5).ask(names.ENUMERATE, SERVICE, selector_filter(inner)).code == 2150858778


def test_selector_filter_needs_a_class() -> None:
    assert with_services(5).ask(names.ENUMERATE, STAR, selector_filter('<w:Selector Name="Name">a</w:Selector>')).code == 2150858778


def association_filter(question: str, inner: str) -> str:
    target = (f"<b:Object><a:Address>{names.ANONYMOUS}</a:Address><a:ReferenceParameters><w:ResourceURI>{SYSTEM}</w:ResourceURI>"
              '<w:SelectorSet><w:Selector Name="CreationClassName">Msvm_ComputerSystem</w:Selector><w:Selector Name="Name">B</w:Selector>'
              "</w:SelectorSet></a:ReferenceParameters></b:Object>")
    return optimised(inner=f'<w:Filter Dialect="{names.ASSOCIATION_FILTER}"><b:{question}>{target}{inner}</b:{question}></w:Filter>')


def test_association_filter() -> None:
    inner = ("<b:AssociationClassName>Msvm_SettingsDefineState</b:AssociationClassName><b:Role>ManagedElement</b:Role>"
             "<b:ResultClassName>Msvm_VirtualSystemSettingData</b:ResultClassName><b:ResultRole>SettingData</b:ResultRole>")
    replies, _unused = drain(machine_host(), association_filter("AssociatedInstances", inner), V2 + "*")
    assert [element.text for element in replies[0].root.iter(names.tag(SETTINGS, "InstanceID"))] == ["Microsoft:B"]


def test_association_instances() -> None:
    body = association_filter("AssociationInstances", "<b:ResultClassName>Msvm_SettingsDefineState</b:ResultClassName>")
    replies, _unused = drain(machine_host(), body, V2 + "*")
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
    replies, _unused = drain(machine_host(), wql(query), V2 + "*")
    assert [element.text for element in replies[0].root.iter(names.tag(SETTINGS, "InstanceID"))] == ["Microsoft:A"]


def test_a_star_without_a_filter() -> None:
    assert with_services(1).ask(names.ENUMERATE, STAR, "<n:Enumerate/>").subcode == "a:DestinationUnreachable"


@pytest.mark.parametrize("body", ["", "<n:Pull/>", "<n:Enumerate><w:OptimizeEnumeration/><w:MaxElements>x</w:MaxElements></n:Enumerate>"])
def test_bad_enumerate_bodies(body: str) -> None:
    assert with_services(1).ask(names.ENUMERATE, SERVICE, body).code == 2150858817
