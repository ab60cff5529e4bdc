# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations of a session against recorded shapes (wire 1 to 3, 9.2)."""
from __future__ import annotations

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import ConnectionFailed, HypervError, NotFound, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import faults
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WQL, Filter, Mode, WsmanSession
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import ProtocolError, element, text
from support.recording import NAMESPACES, V2, ManualClock, RecordingLane, begun, complete, envelope, fault, instance, pulled

VM = V2 + "Msvm_ComputerSystem"
EXPIRED = fault("n:InvalidEnumerationContext", 2150858779, side="s:Receiver")


def session(*answers, clock=None):
    lane = RecordingLane(*answers)
    return lane, WsmanSession(lane, clock or ManualClock())


def names(items):
    return [item[0].text for item in items]


def vm(name):
    return instance("Msvm_ComputerSystem", {"Name": name})


def test_the_headers_of_a_request():
    lane, one = session(vm("a"))
    one.get(VM, {"CreationClassName": "Msvm_ComputerSystem", "Name": 'a<&"b'})
    request = lane.requests[0]
    assert request.selectors == {"CreationClassName": "Msvm_ComputerSystem", "Name": 'a<&"b'}
    assert request.header("a:Action") == "http://schemas.xmlsoap.org/ws/2004/09/transfer/Get"
    assert request.header("w:ResourceURI") == VM
    assert request.header("a:ReplyTo/a:Address") == "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
    assert request.header("w:MaxEnvelopeSize") == "512000"
    assert request.header("w:OperationTimeout") == "PT60.000S"
    header = request.root.find("s:Header", NAMESPACES)
    must = {one.tag.rpartition("}")[2]: one.attrib.get(f"{{{NAMESPACES['s']}}}mustUnderstand") for one in header.iter()}
    assert {name: must[name] for name in ("ResourceURI", "Action", "MaxEnvelopeSize", "Address", "Locale", "DataLocale")} == {
        "ResourceURI": "true", "Action": "true", "MaxEnvelopeSize": "true", "Address": "true", "Locale": "false", "DataLocale": "false"}
    assert header.find("w:Locale", NAMESPACES).attrib["{http://www.w3.org/XML/1998/namespace}lang"] == "en-US"
    assert request.repeatable
    assert request.seconds == 90.0


@pytest.mark.parametrize(("asked", "sent"), [(5.0, "PT5.000S"), (60.0, "PT60.000S"), (3600.0, "PT60.000S"), (0.1, "PT1.000S")])
def test_the_operations_time_out_never_exceeds_what_windows_grants(asked, sent):
    lane = RecordingLane(vm("a"))
    WsmanSession(lane, ManualClock(), operation_timeout=asked).get(VM, {})
    assert lane.requests[0].header("w:OperationTimeout") == sent


def test_every_request_has_a_message_id_of_its_own():
    lane, one = session(vm("a"), vm("b"))
    one.get(VM, {})
    one.get(VM, {})
    assert lane.requests[0].header("a:MessageID") != lane.requests[1].header("a:MessageID")


def test_an_enumeration_that_fits_into_one_answer():
    lane, one = session(complete(vm("a"), vm("b")))
    assert names(one.enumerate(VM)) == ["a", "b"]
    assert lane.requests[0].text("n:Enumerate/w:MaxElements") == "32000"
    assert lane.requests[0].root.find("s:Body/n:Enumerate/w:OptimizeEnumeration", NAMESPACES) is not None
    assert lane.verbs == ["Enumerate"]


def test_any_size_of_batches_and_always_the_newest_context():
    lane, one = session(begun("uuid:1", vm("a")), pulled("uuid:2"), pulled("uuid:3", vm("b"), vm("c"), vm("d")), pulled(None, vm("e")))
    assert names(one.enumerate(VM)) == ["a", "b", "c", "d", "e"]
    assert [request.text("n:Pull/n:EnumerationContext") for request in lane.requests] == [None, "uuid:1", "uuid:2", "uuid:3"]
    assert {request.text("n:Pull/n:MaxElements") for request in lane.requests[1:]} == {"32000"}
    assert {request.resource for request in lane.requests} == {VM}


@pytest.mark.parametrize("answers", [
    ["<n:EnumerateResponse><n:EnumerationContext/><n:Items>{a}</n:Items><n:EndOfSequence/></n:EnumerateResponse>"],
    ["<n:EnumerateResponse><n:EnumerationContext>uuid:1</n:EnumerationContext><w:Items>{a}</w:Items><w:EndOfSequence/></n:EnumerateResponse>"],
    ["<n:EnumerateResponse><n:EnumerationContext></n:EnumerationContext><w:Items>{a}</w:Items></n:EnumerateResponse>"],
    ["<n:EnumerateResponse><n:EnumerationContext>uuid:1</n:EnumerationContext></n:EnumerateResponse>",
     "<n:PullResponse><w:Items>{a}</w:Items><w:EndOfSequence/></n:PullResponse>"],
    ["<n:EnumerateResponse><n:EnumerationContext>uuid:1</n:EnumerationContext><w:Items>{a}</w:Items></n:EnumerateResponse>",
     "<n:PullResponse><n:EndOfSequence/></n:PullResponse>"],
])
def test_items_and_the_end_in_either_namespace_or_absent(answers):
    lane, one = session(*[answer.format(a=vm("a")) for answer in answers])
    assert names(one.enumerate(VM)) == ["a"]
    assert lane.answers == []


@pytest.mark.parametrize("answer", [
    complete(), "<n:EnumerateResponse><n:EnumerationContext/><w:EndOfSequence/></n:EnumerateResponse>",
    "<n:EnumerateResponse><w:Items/><w:EndOfSequence/></n:EnumerateResponse>", "<n:EnumerateResponse/>",
])
def test_no_results(answer):
    lane, one = session(answer)
    assert one.enumerate(VM) == []
    assert lane.verbs == ["Enumerate"]


def test_a_consumer_that_stops_early_releases_the_newest_context():
    lane, one = session(begun("uuid:1", vm("a")), pulled("uuid:2", vm("b"), vm("c")), "<n:ReleaseResponse/>")
    stream = one.stream(VM)
    assert [next(stream)[0].text, next(stream)[0].text] == ["a", "b"]
    stream.close()
    assert lane.verbs == ["Enumerate", "Pull", "Release"]
    assert lane.requests[2].text("n:Release/n:EnumerationContext") == "uuid:2"


def test_a_release_that_the_host_does_not_know_is_no_error():
    lane, one = session(begun("uuid:1", vm("a")), EXPIRED)
    stream = one.stream(VM)
    next(stream)
    stream.close()
    assert lane.verbs == ["Enumerate", "Release"]


def test_a_finished_enumeration_is_not_released():
    lane, one = session(begun("uuid:1", vm("a")), pulled(None, vm("b")))
    assert len(list(one.stream(VM))) == 2
    assert lane.verbs == ["Enumerate", "Pull"]


def test_an_expired_enumeration_starts_once_more_from_the_beginning():
    lane, one = session(begun("uuid:1", vm("a")), EXPIRED, begun("uuid:9", vm("a")), pulled(None, vm("b")))
    assert names(one.enumerate(VM)) == ["a", "b"]
    assert lane.verbs == ["Enumerate", "Pull", "Enumerate", "Pull"]
    lane, one = session(begun("uuid:1"), EXPIRED, begun("uuid:9"), EXPIRED)
    with pytest.raises(faults.EnumerationExpired):
        one.enumerate(VM)


def test_an_enumeration_that_never_ends_and_brings_nothing():
    lane, one = session(begun("uuid:0"), *[pulled(f"uuid:{number}") for number in range(1, 200)])
    with pytest.raises(ProtocolError):
        one.enumerate(VM)
    assert len(lane.requests) < 60


def test_an_enumeration_without_measure(monkeypatch):
    monkeypatch.setattr("ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session.MAX_ENUMERATION_BYTES", 10_000)
    lane, one = session(begun("uuid:0"), *[pulled(f"uuid:{number}", vm("x" * 1000)) for number in range(1, 200)], *["<r/>"])
    with pytest.raises(ProtocolError) as caught:
        one.enumerate(VM)
    assert caught.value.error_code == "answer_too_large"
    assert len(lane.requests) < 12


def test_filters_and_modes():
    lane, one = session(complete(), complete())
    one.enumerate(V2 + "*", Filter(WQL, text("SELECT * FROM X WHERE a < 1 AND b = 'x&y'")))
    one.enumerate(VM, mode=Mode.EPR)
    assert lane.requests[0].text("n:Enumerate/w:Filter") == "SELECT * FROM X WHERE a < 1 AND b = 'x&y'"
    assert lane.requests[0].root.find("s:Body/n:Enumerate/w:Filter", NAMESPACES).attrib == {"Dialect": WQL}
    assert lane.requests[0].root.find("s:Body/n:Enumerate/w:EnumerationMode", NAMESPACES) is None
    assert lane.requests[1].text("n:Enumerate/w:EnumerationMode") == "EnumerateEPR"


def test_invoke_returns_the_output_whatever_its_letters_and_prefix():
    lane, one = session(f'<q:requeststatechange_OUTPUT xmlns:q="{VM.upper()}"><q:ReturnValue>0</q:ReturnValue>'
                        "</q:requeststatechange_OUTPUT>")
    body = element("p:RequestStateChange_INPUT", xmlns__p=VM)
    output = one.invoke(VM, "RequestStateChange", {"Name": "a"}, body)
    assert output[0].text == "0"
    assert lane.requests[0].header("a:Action") == f"{VM}/RequestStateChange"
    assert not lane.requests[0].repeatable


@pytest.mark.parametrize("answer", [b"", b"\x00\xff\xfe", b"<html/>", b"<a", "<p:Other/>", "",
                                    fault("w:TimedOut", 2150858793, side="s:Receiver")])
def test_what_cannot_be_understood_after_a_writing_request_is_an_unknown_outcome(answer):
    lane, one = session(answer)
    with pytest.raises(OutcomeUnknown):
        one.invoke(VM, "RequestStateChange", {}, element("p:X", xmlns__p=VM))
    assert len(lane.requests) == 1
    lane, one = session(answer)
    with pytest.raises((ProtocolError, faults.OperationTimedOut)):
        one.invoke(VM, "RequestStateChange", {}, element("p:X", xmlns__p=VM), repeatable=True)


def test_an_answer_to_another_request_ends_the_connection():
    lane, one = session(lambda request: envelope(vm("a"), relates_to="uuid:0000"))
    with pytest.raises(ProtocolError, match="another request"):
        one.get(VM, {})
    assert lane.closed == 1


def test_relates_to_may_be_missing_or_in_other_letters():
    lane, one = session(lambda request: envelope(vm("a")),
                        lambda request: envelope(vm("b"), relates_to=f" {request.header('a:MessageID').lower()}\n"))
    assert [one.get(VM, {})[0].text, one.get(VM, {})[0].text] == ["a", "b"]
    assert lane.closed == 0


def test_extra_and_unknown_headers_of_an_answer_are_ignored():
    _unused, one = session(lambda request: envelope(vm("a"), extra_header='<z:New xmlns:z="urn:z" s:mustUnderstand="true"/>'))
    assert one.get(VM, {})[0].text == "a"


def test_delete_and_its_errors():
    lane, one = session("", fault("a:DestinationUnreachable", 2150858752, detail="InvalidResourceURI"), ConnectionFailed("gone"))
    sent = []
    one.delete(VM, {"InstanceID": "x"}, before_send=lambda: sent.append(1))
    with pytest.raises(NotFound):
        one.delete(VM, {"InstanceID": "x"})
    with pytest.raises(ConnectionFailed):
        one.delete(VM, {"InstanceID": "x"})
    assert sent == [1]
    assert [request.repeatable for request in lane.requests] == [False] * 3


@pytest.mark.parametrize("code", [2150858815, 2150859173, 2150859174, 2150859175, 2150858802, 2150859241])
def test_quotas_are_waited_for_since_nothing_was_processed(code):
    clock = ManualClock()
    refusal = fault("w:QuotaLimit", code)
    lane, one = session(refusal, refusal, "<p:M_OUTPUT xmlns:p='urn:x'/>", clock=clock)
    one.invoke(VM, "M", {}, element("p:M_INPUT", xmlns__p=VM))
    assert clock.slept == [1.0, 2.0]
    lane, one = session(*[refusal] * 10, clock=ManualClock())
    with pytest.raises(faults.TryLater):
        one.get(VM, {})
    assert len(lane.requests) == 6


def test_identify():
    told = ('<wsmid:IdentifyResponse xmlns:wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">'
            "<wsmid:ProtocolVersion>http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd</wsmid:ProtocolVersion>"
            "<wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>"
            "<wsmid:ProductVersion>OS: 10.0.20348 SP: 0.0 Stack: 3.0</wsmid:ProductVersion></wsmid:IdentifyResponse>")
    lane, one = session(told, "<other/>")
    identity = one.identify()
    assert (identity.product_vendor, identity.product_version) == ("Microsoft Corporation", "OS: 10.0.20348 SP: 0.0 Stack: 3.0")
    assert lane.requests[0].header("a:Action") is None
    with pytest.raises(ProtocolError) as caught:
        one.identify()
    assert caught.value.error_code == "not_winrm"


def test_a_character_that_xml_cannot_carry_is_refused_before_sending():
    lane, one = session()
    with pytest.raises(HypervError) as caught:
        one.get(VM, {"Name": "a\x1bb"})
    assert caught.value.error_code == "invalid_text"
    assert lane.requests == []
