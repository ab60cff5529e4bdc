# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fault rules, counters, and the table of faults (wire 5)."""
from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from simulator.cim.model import CimError
from simulator.net import contract
from simulator.soap import names, rules
from simulator.soap.counters import Counters
from simulator.soap.faults import CIM_FAULTS, FAULTS, SoapFault, format_fault, from_cim_error
from simulator.spec import HostSpec, Limits, Quirks
from unit.simulator.soap.helpers import CIMV2, NOBODY, SmallHost, Table, envelope

SERVICE = CIMV2 + "Win32_Service"


def host_with_service() -> SmallHost:
    host = SmallHost(HostSpec("HV1", quirks=Quirks(split_batches=False)))
    host.repository.register("root/cimv2", "Win32_Service", Table("root/cimv2", "Win32_Service", [{"Name": "a"}, {"Name": "b"}]))
    return host


def get(host: SmallHost) -> contract.Answer:
    return host.answer(envelope(names.GET, SERVICE, selectors={"Name": "a"}))


def remove(host: SmallHost) -> contract.Answer:
    return host.answer(envelope(names.DELETE, SERVICE, selectors={"Name": "a"}))


def exists(host: SmallHost) -> bool:
    return get(host).status == 200


def code_of(answer: contract.Answer) -> int:
    match = re.search(rb'WSManFault [^>]*Code="(\d+)"', answer.body)
    assert match is not None, answer.body
    return int(match[1])


def test_lost_before_does_nothing_on_the_host() -> None:
    host = host_with_service()
    host.rules.add(rules.lost_before())
    assert remove(host).transport == contract.RESET
    assert host.counters.requests == 0
    assert exists(host)


@pytest.mark.parametrize(("reset", "transport"), [(False, contract.DROP_BEFORE), (True, contract.RESET)])
def test_lost_after_has_done_it(reset: bool, transport: str) -> None:
    host = host_with_service()
    host.rules.add(rules.lost_after(reset=reset))
    assert remove(host).transport == transport
    assert host.counters.writing == 1
    assert not exists(host)


def test_unauthorized() -> None:
    host = host_with_service()
    host.rules.add(rules.unauthorized())
    answer = remove(host)
    assert (answer.status, answer.transport) == (401, contract.UNAUTHORIZED)
    assert exists(host)


@pytest.mark.parametrize(("effect", "code"), [
    (rules.quota(), 2150859174), (rules.access_denied(), 5), (rules.timeout(executed=False), 2150858793),
    (rules.fault("concurrency"), 2150858802), (rules.fault_code(2150859173), 2150859173), (rules.fault_code(2147942402), 2147942402)])
def test_faults_that_are_not_executed(effect: rules.Effect, code: int) -> None:
    host = host_with_service()
    host.rules.add(effect)
    answer = remove(host)
    assert (answer.status, code_of(answer)) == (500, code)
    assert exists(host)


def test_a_time_out_may_hide_that_it_was_done() -> None:
    host = host_with_service()
    host.rules.add(rules.timeout(executed=True))
    assert code_of(remove(host)) == 2150858793
    assert not exists(host)


@pytest.mark.parametrize("status", [400, 413, 500, 503])
def test_bare_statuses(status: int) -> None:
    host = host_with_service()
    host.rules.add(rules.http_status(status))
    answer = remove(host)
    assert (answer.status, answer.body) == (status, b"")
    assert exists(host)


@pytest.mark.parametrize("transport", [contract.ENDLESS, contract.SLOW, contract.TRUNCATE, contract.STALL, contract.GARBAGE_SEALED])
def test_broken_answers(transport: str) -> None:
    host = host_with_service()
    host.rules.add(rules.broken(transport))
    answer = remove(host)
    assert answer.transport == transport
    assert b"DeleteResponse" in answer.body
    assert not exists(host)


def test_garbage() -> None:
    host = host_with_service()
    host.rules.add(rules.garbage(b"<html/>"))
    answer = get(host)
    assert (answer.status, answer.body) == (200, b"<html/>")


def test_another_language() -> None:
    host = host_with_service()
    host.rules.add(rules.in_language("ja-JP"))
    answer = host.answer(envelope(names.GET, SERVICE, selectors={"Name": "none"}))
    assert 'xml:lang="ja-JP"' in answer.body.decode()
    assert "見つかりません" in answer.body.decode()
    assert code_of(answer) == 2150858752


def test_something_vanishes_just_before() -> None:
    host = host_with_service()
    table = Table("root/cimv2", "Win32_OperatingSystem", [{"Name": "Windows"}])
    host.repository.register("root/cimv2", "Win32_OperatingSystem", table)
    host.rules.add(rules.vanish(table.rows.clear), operation="Pull")
    enumerated = host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>")
    context = enumerated.text("s:Body/n:EnumerateResponse/n:EnumerationContext")
    assert len(table.rows) == 1
    host.ask(names.PULL, SERVICE, f"<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext></n:Pull>")
    assert table.rows == []


def test_contexts_expire_on_demand() -> None:
    host = host_with_service()
    context = host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>").text("s:Body/n:EnumerateResponse/n:EnumerationContext")
    host.rules.add(rules.expire_contexts())
    body = f"<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext></n:Pull>"
    assert host.ask(names.PULL, SERVICE, body).code == 2150858779


def test_the_nth_request_and_only_that() -> None:
    host = host_with_service()
    rule = host.rules.add(rules.http_status(503), nth=3)
    assert [get(host).status for _unused in range(5)] == [200, 200, 503, 200, 200]
    assert rule.fired == 1


@pytest.mark.parametrize(("times", "expected"), [(2, [503, 503, 200, 200]), (None, [503] * 4)])
def test_how_often(times: int | None, expected: list[int]) -> None:
    host = host_with_service()
    host.rules.add(rules.http_status(503), times=times)
    assert [get(host).status for _unused in range(4)] == expected


def test_by_operation_and_by_content() -> None:
    host = host_with_service()
    host.rules.add(rules.http_status(503), operation="del*", times=None)
    host.rules.add(rules.http_status(413), when=lambda view: ">b<" in view.document, times=None)
    assert get(host).status == 200
    assert remove(host).status == 503
    assert host.answer(envelope(names.GET, SERVICE, selectors={"Name": "b"})).status == 413
    host.rules.clear()
    assert remove(host).status == 200


def test_the_log_names_the_operations_in_order() -> None:
    host = host_with_service()
    host.rules.keep_log = True
    get(host)
    remove(host)
    host.ask(names.CREATE, names.SHELL_CMD, "<rsp:Shell/>")
    host.ask(SERVICE + "/StartService", SERVICE, selectors={"Name": "b"})
    assert host.rules.log == ["Get", "Delete", "Shell Create", "Invoke Win32_Service.StartService"]


def test_counters_since() -> None:
    counters = Counters()
    counters.count("Get", writing=False)
    before = counters.snapshot()
    counters.count("Get", writing=False)
    counters.count("Delete", writing=True)
    counters.bytes_in += 10
    assert before.by_operation == {"Get": 1}
    assert counters.since(before) == Counters(requests=2, reading=1, writing=1, bytes_in=10, by_operation={"Get": 1, "Delete": 1})
    assert counters.as_dict()["by_operation"] == {"Get": 2, "Delete": 1}


# -- the table


@pytest.mark.parametrize("name", sorted(FAULTS))
@pytest.mark.parametrize("locale", ["en-US", "ja-JP"])
def test_every_fault_is_well_formed_and_localised(name: str, locale: str) -> None:
    declarations = f'xmlns:s="{names.S}" xmlns:w="{names.W}" xmlns:a="{names.A}"'
    text = format_fault(SoapFault(name, not_understood="{urn:x}Y"), locale, 'a"b<c')
    root = ET.fromstring(f"<x {declarations}>{text}</x>")
    kind = FAULTS[name]
    values = [element.text for element in root.iter(names.tag(names.S, "Value"))]
    assert values == ([("s:Sender" if kind.sender else "s:Receiver"), kind.subcode] if kind.subcode else ["s:MustUnderstand"])
    fault = root.find(f".//{{{names.F}}}WSManFault")
    assert (fault is None) == (kind.code is None)
    if fault is not None:
        assert fault.attrib == {"Code": str(kind.code), "Machine": 'a"b<c'}
    reason = root.find(f".//{{{names.S}}}Text")
    assert reason is not None
    assert reason.text == (kind.japanese if locale == "ja-JP" else kind.english)


@pytest.mark.parametrize(("name", "code", "subcode"), [
    ("access_denied", 5, "w:AccessDenied"), ("invalid_parameter", 87, "w:InvalidParameter"),
    ("resource_not_found", 0x80338000, "a:DestinationUnreachable"), ("invalid_action", 0x80338001, "a:ActionNotSupported"),
    ("cannot_process_filter", 0x8033801A, "n:CannotProcessFilter"),
    ("invalid_enumeration_context", 0x8033801B, "n:InvalidEnumerationContext"), ("enumerate_timed_out", 0x8033801C, "n:TimedOut"),
    ("timed_out", 0x80338029, "w:TimedOut"), ("concurrency", 0x80338032, "w:Concurrency"),
    ("invalid_resource_uri", 0x8033803B, "a:DestinationUnreachable"), ("invalid_selectors", 0x8033803D, "w:InvalidSelectors"),
    ("quota_limit", 0x8033803F, "w:QuotaLimit"), ("schema_validation", 0x80338041, "w:SchemaValidationError"),
    ("insufficient_selectors", 0x8033805A, "w:InvalidSelectors"), ("unexpected_selectors", 0x8033805B, "w:InvalidSelectors"),
    ("quota_shells", 0x803381A5, "w:QuotaLimit"), ("quota_operations", 0x803381A6, "w:QuotaLimit"),
    ("shells_not_allowed", 0x803381AC, "w:InternalError"), ("pull_parameters", 0x803381AD, "w:InvalidParameter"),
    ("idle_timeout_out_of_bounds", 0x803381F2, "w:InvalidParameter")])
def test_codes_of_the_table(name: str, code: int, subcode: str) -> None:
    assert (FAULTS[name].code, FAULTS[name].subcode) == (code, subcode)


@pytest.mark.parametrize("kind", sorted(CIM_FAULTS))
def test_every_refusal_has_a_fault(kind: str) -> None:
    fault = from_cim_error(CimError(kind, "why"), "root/cimv2")
    assert fault.name == CIM_FAULTS[kind]
    assert str(fault) == "why"


def test_a_denied_provider_call_keeps_code_5() -> None:
    fault = from_cim_error(CimError("access_denied", "no", hresult=0x80041003), "root/cimv2")
    assert (fault.kind.code, fault.provider and fault.provider.status) == (5, 0x80041003)


@pytest.mark.parametrize(("fill", "machine"), [(True, "HV1.example.test"), (False, "")])
def test_the_machine_in_a_fault_may_be_empty(fill: bool, machine: str) -> None:
    host = SmallHost(HostSpec("HV1", domain="example.test", quirks=Quirks(machine_in_faults=fill)))
    element = host.ask(names.GET, CIMV2 + "Nothing").find("s:Body/s:Fault/s:Detail/f:WSManFault")
    assert element is not None
    assert element.attrib["Machine"] == machine


def test_an_account_without_rights_is_told_so_everywhere() -> None:
    host = host_with_service()
    host.caller = NOBODY
    found = [host.ask(names.GET, SERVICE, selectors={"Name": "a"}).code, host.ask(names.ENUMERATE, SERVICE, "<n:Enumerate/>").code,
             host.ask(names.GET, names.CFG).code, host.ask(SERVICE + "/StartService", SERVICE, selectors={"Name": "a"}).code]
    assert found == [5, 5, 5, 5]


def test_limits_reach_the_config() -> None:
    host = SmallHost(HostSpec("HV1", limits=Limits(max_envelope_kb=150)))
    assert host.ask(names.GET, names.CFG).text("s:Body/cfg:Config/cfg:MaxEnvelopeSizekb") == "150"
