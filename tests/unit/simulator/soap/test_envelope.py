# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers of requests and envelopes of answers (wire 1.2, 1.3), with raw XML."""
from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator.cim.model import Caller
from simulator.soap import names
from simulator.spec import HostSpec, Quirks
from unit.simulator.soap.helpers import NS, OPERATOR, SmallHost, envelope

CONFIG = names.CFG


def test_an_answer_relates_to_its_request(host: SmallHost) -> None:
    reply = host.ask(names.GET, CONFIG, message_id="anything at all")
    assert reply.status == 200
    assert reply.action == names.GET + "Response"
    assert reply.text("s:Header/a:RelatesTo") == "anything at all"
    assert reply.text("s:Header/a:To") == names.ANONYMOUS
    assert (reply.text("s:Header/a:MessageID") or "").startswith("uuid:")
    assert reply.root.get(names.tag(names.XML, "lang")) == "en-US"
    assert reply.answer.content_type == "application/soap+xml;charset=UTF-8"


def test_config_holds_the_limits(host: SmallHost) -> None:
    reply = host.ask(names.GET, CONFIG)
    base = "s:Body/cfg:Config/"
    found = {path: reply.text(base + path) for path in (
        "cfg:MaxEnvelopeSizekb", "cfg:MaxTimeoutms", "cfg:MaxBatchItems", "cfg:Service/cfg:MaxConcurrentOperationsPerUser",
        "cfg:Service/cfg:EnumerationTimeoutms", "cfg:Service/cfg:AllowUnencrypted", "cfg:Service/cfg:Auth/cfg:Negotiate",
        "cfg:Service/cfg:Auth/cfg:Basic", "cfg:Winrs/cfg:MaxShellsPerUser", "cfg:Winrs/cfg:IdleTimeout")}
    assert found == {
        "cfg:MaxEnvelopeSizekb": "500", "cfg:MaxTimeoutms": "60000", "cfg:MaxBatchItems": "32000",
        "cfg:Service/cfg:MaxConcurrentOperationsPerUser": "1500", "cfg:Service/cfg:EnumerationTimeoutms": "240000",
        "cfg:Service/cfg:AllowUnencrypted": "false", "cfg:Service/cfg:Auth/cfg:Negotiate": "true",
        "cfg:Service/cfg:Auth/cfg:Basic": "false", "cfg:Winrs/cfg:MaxShellsPerUser": "30", "cfg:Winrs/cfg:IdleTimeout": "7200000"}


def test_config_is_for_administrators(host: SmallHost) -> None:
    host.caller = OPERATOR
    assert host.ask(names.GET, CONFIG).code == 5


@pytest.mark.parametrize("white", ["\n   {}\n", "{}  ", "\t{}"])
def test_white_space_around_action_and_uri(host: SmallHost, white: str) -> None:
    assert host.ask(white.format(names.GET), white.format(CONFIG)).status == 200


def test_the_uri_is_compared_without_case(host: SmallHost) -> None:
    assert host.ask(names.GET, CONFIG.upper().replace("HTTP://", "http://")).status == 200


def test_no_reply_to(host: SmallHost) -> None:
    reply = host.ask(names.GET, CONFIG, reply_to=None)
    assert reply.subcode == "a:MessageInformationHeaderRequired"
    assert reply.action == "http://schemas.xmlsoap.org/ws/2004/08/addressing/fault"


def test_another_reply_address(host: SmallHost) -> None:
    reply = host.ask(names.GET, CONFIG, reply_to="http://elsewhere/")
    assert (reply.subcode, reply.fault_detail) == ("w:UnsupportedFeature", "AddressingMode")
    assert reply.action == "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault"


@pytest.mark.parametrize("message_id", ["", " ", "x" * 2049])
def test_message_id_must_be_there_and_short(host: SmallHost, message_id: str) -> None:
    assert host.ask(names.GET, CONFIG, message_id=message_id).subcode == "a:InvalidMessageInformationHeader"


def test_a_message_id_may_be_used_again(host: SmallHost) -> None:
    assert [host.ask(names.GET, CONFIG, message_id="same").status for _unused in range(2)] == [200, 200]


def test_no_action(host: SmallHost) -> None:
    assert host.ask("", CONFIG).subcode == "a:MessageInformationHeaderRequired"


@pytest.mark.parametrize(("size", "expected"), [("8191", "w:EncodingLimit"), ("8192", None), ("67108864", None), (None, None),
                                                ("many", "a:InvalidMessageInformationHeader")])
def test_envelope_size(host: SmallHost, size: str | None, expected: str | None) -> None:
    assert host.ask(names.GET, CONFIG, size=size).subcode == expected


@pytest.mark.parametrize(("timeout", "expected"), [("PT60S", None), ("PT60.000S", None), ("P0DT1H0M0.5S", None), (None, None),
                                                   ("60", "a:InvalidMessageInformationHeader")])
def test_operation_timeout(host: SmallHost, timeout: str | None, expected: str | None) -> None:
    assert host.ask(names.GET, CONFIG, timeout=timeout).subcode == expected


@pytest.mark.parametrize("header", ['<w:Locale xml:lang="de-DE" s:mustUnderstand="true"/>',
                                    '<p:DataLocale xml:lang="de-DE" s:mustUnderstand="1"/>'])
def test_locale_must_not_be_mandatory(host: SmallHost, header: str) -> None:
    reply = host.ask(names.GET, CONFIG, locale=None, headers=header)
    assert (reply.subcode, reply.fault_detail) == ("w:UnsupportedFeature", "Locale")


def test_an_unknown_mandatory_header_is_not_understood(host: SmallHost) -> None:
    reply = host.ask(names.GET, CONFIG, headers='<z:Thing xmlns:z="urn:z" s:mustUnderstand="true"/>')
    assert reply.status == 500
    assert reply.action == "http://schemas.xmlsoap.org/ws/2004/08/addressing/fault"
    assert reply.text("s:Body/s:Fault/s:Code/s:Value") == "s:MustUnderstand"
    assert reply.find("s:Body/s:Fault/s:Code/s:Subcode") is None
    assert reply.find("s:Body/s:Fault/s:Detail") is None
    header = reply.find("s:Header/s:NotUnderstood")
    assert header is not None
    assert header.attrib["qname"].partition(":")[2] == "Thing"
    assert b'="urn:z"' in reply.answer.body


@pytest.mark.parametrize("attributes", ['mustUnderstand="true"', 's:mustUnderstand="false"', ""])
def test_other_unknown_headers_are_ignored(host: SmallHost, attributes: str) -> None:
    assert host.ask(names.GET, CONFIG, headers=f'<z:Thing xmlns:z="urn:z" {attributes}/>').status == 200


def test_known_headers_may_be_mandatory(host: SmallHost) -> None:
    header = '<p:SessionId s:mustUnderstand="true">uuid:1</p:SessionId><w:OptionSet s:mustUnderstand="true"/>'
    assert host.ask(names.GET, CONFIG, headers=header).status == 200


def test_repeated_selectors(host: SmallHost) -> None:
    selectors = '<w:SelectorSet><w:Selector Name="Name">a</w:Selector><w:Selector Name="NAME">b</w:Selector></w:SelectorSet>'
    reply = host.ask(names.GET, names.CLASS_PREFIX + "root/cimv2/Win32_Service", headers=selectors)
    assert reply.subcode == "w:InvalidSelectors"


@pytest.mark.parametrize("body", [b"", b"nonsense", b"<a/>", b"<s:Envelope", b"\xff\xfe\x00",
                                  b"<!DOCTYPE s:Envelope [<!ENTITY x 'y'>]>" + envelope(names.GET, CONFIG)])
def test_what_is_no_envelope_gets_a_bare_400(host: SmallHost, body: bytes) -> None:
    answer = host.answer(body)
    assert (answer.status, answer.body) == (400, b"")


def test_an_external_entity_is_not_fetched(host: SmallHost) -> None:
    document = envelope(names.GET, CONFIG).decode()
    body = '<?xml version="1.0"?><!DOCTYPE e SYSTEM "file:///etc/passwd">' + document
    assert host.answer(body.encode()).status == 400


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf_16_is_answered_in_utf_16(host: SmallHost, encoding: str) -> None:
    answer = host.answer(envelope(names.GET, CONFIG).decode().encode(encoding), "application/soap+xml;charset=UTF-16")
    assert answer.status == 200
    assert answer.content_type == "application/soap+xml;charset=UTF-16"
    assert ET.fromstring(answer.body.decode("utf-16")).findtext("s:Header/a:Action", namespaces=NS) == names.GET + "Response"


@pytest.mark.parametrize(("own", "asked", "language"), [
    ("ja-JP", None, "ja-JP"), ("ja-JP", "en-US", "en-US"), ("ja-JP", "ja-JP", "ja-JP"), ("ja-JP", "de-DE", "ja-JP"),
    ("en-US", "ja-JP", "en-US")])
def test_language_of_answers_and_faults(own: str, asked: str | None, language: str) -> None:
    host = SmallHost(HostSpec("HV1", locale=own))
    reply = host.ask(names.GET, names.CLASS_PREFIX + "root/cimv2/Nothing", locale=asked)
    reason = reply.find("s:Body/s:Fault/s:Reason/s:Text")
    assert reason is not None
    assert reply.root.get(names.tag(names.XML, "lang")) == language
    assert reason.get(names.tag(names.XML, "lang")) == language
    assert (reason.text or "").isascii() == (language == "en-US")
    assert reply.code == 2150858752


@pytest.mark.parametrize(("os_version", "share", "expected"), [("2022", 1.0, 20), ("2022", 0.0, 0), ("2012R2", 1.0, 0)])
def test_activity_id_comes_now_and_then(os_version: str, share: float, expected: int) -> None:
    host = SmallHost(HostSpec("HV1", os_version=os_version, quirks=Quirks(activity_id=share)))
    headers = [host.ask(names.GET, CONFIG).find("s:Header/p:ActivityId") for _unused in range(20)]
    assert sum(header is not None for header in headers) == expected
    assert all(header.get(names.tag(names.S, "mustUnderstand")) == "false" for header in headers if header is not None)


def test_the_seed_decides_what_is_drawn() -> None:
    def bodies(seed: int) -> list[bytes]:
        host = SmallHost(HostSpec("HV1", seed=seed))
        return [host.ask(names.GET, CONFIG).answer.body for _unused in range(5)]

    assert bodies(1) == bodies(1)
    assert bodies(1) != bodies(2)


def test_identify_tells_the_release_only_to_those_who_logged_on(host: SmallHost) -> None:
    anonymous = ET.fromstring(host.service.identify(False).body)
    path = "s:Body/wsmid:IdentifyResponse/"
    assert anonymous.findtext(path + "wsmid:ProductVendor", namespaces=NS) == "Microsoft Corporation"
    assert anonymous.findtext(path + "wsmid:ProductVersion", namespaces=NS) == "OS: 0.0.0 SP: 0.0 Stack: 3.0"
    assert anonymous.find(path + "wsmid:SecurityProfiles", NS) is None
    body = f'<s:Envelope xmlns:s="{names.S}"><s:Header/><s:Body><i:Identify xmlns:i="{names.WSMID}"/></s:Body></s:Envelope>'
    reply = host.send(body.encode())
    assert reply.text(path + "wsmid:ProductVersion") == "OS: 10.0.20348 SP: 0.0 Stack: 3.0"
    assert reply.find(path + "wsmid:SecurityProfiles") is not None
    assert host.counters.by_operation == {"Identify": 2}


def test_a_connection_without_a_user_gets_401(host: SmallHost) -> None:
    host.caller = None
    assert host.answer(envelope(names.GET, CONFIG)).status == 401


@pytest.mark.parametrize(("action", "uri", "subcode"), [
    (names.GET, "http://example.test/nothing", "a:DestinationUnreachable"),
    (names.GET, "nonsense", "a:DestinationUnreachable"),
    (names.GET, names.CLASS_PREFIX, "a:DestinationUnreachable"),
    (names.GET, names.CLASS_PREFIX + "root/cimv2/*", "a:DestinationUnreachable"),
    ("urn:dance", CONFIG, "a:ActionNotSupported"),
    (names.PUT, CONFIG, "a:ActionNotSupported"),
    ("urn:dance", names.CLASS_PREFIX + "root/cimv2/Win32_Service", "a:ActionNotSupported"),
    (names.PUT, names.CLASS_PREFIX + "root/cimv2/Win32_Service", "a:ActionNotSupported"),
    (names.CREATE, names.CLASS_PREFIX + "root/cimv2/Win32_Service", "a:ActionNotSupported"),
    (names.GET, "http://schemas.microsoft.com/powershell/Microsoft.PowerShell", "a:DestinationUnreachable"),
])
def test_what_the_service_does_not_have(host: SmallHost, action: str, uri: str, subcode: str) -> None:
    assert host.ask(action, uri).subcode == subcode


@given(st.binary(max_size=300))
def test_any_bytes_get_an_answer(body: bytes) -> None:
    host = SmallHost()
    assert host.answer(body).status == 400
    assert host.bugs == []


@settings(max_examples=200)
@given(st.integers(0, 2000), st.binary(max_size=8), st.integers(0, 30))
def test_a_damaged_envelope_gets_an_answer(position: int, inserted: bytes, removed: int) -> None:
    host = SmallHost()
    body = "<n:Enumerate><w:OptimizeEnumeration/></n:Enumerate>"
    whole = envelope(names.ENUMERATE, names.CLASS_PREFIX + "root/cimv2/Win32_Service", body, selectors={"A": "b"}, options={"C": "d"})
    answer = host.answer(whole[:position] + inserted + whole[position + removed:])
    assert answer.status in (200, 400, 500)
    assert host.bugs == []


@pytest.mark.parametrize("declaration", ['encoding="nonsense"', 'encoding="utf-7"', 'version="2.0"', 'encoding="big5"'])
def test_odd_declarations(host: SmallHost, declaration: str) -> None:
    version = "" if "version" in declaration else 'version="1.0" '
    assert host.answer(f"<?xml {version}{declaration}?>".encode() + envelope(names.GET, CONFIG)).status in (200, 400)


def test_a_tree_a_hundred_thousand_levels_deep(host: SmallHost) -> None:
    deep = "<a>" * 100_000 + "</a>" * 100_000
    assert host.ask(names.ENUMERATE, names.CLASS_PREFIX + "root/cimv2/Win32_Service", f"<n:Enumerate>{deep}</n:Enumerate>").status == 200
    assert host.ask(names.ENUMERATE, names.CLASS_PREFIX + "root/cimv2/*",
                    f'<n:Enumerate><w:Filter Dialect="{names.WQL}">{deep}</w:Filter></n:Enumerate>').code == 2150858778
    uri = names.CLASS_PREFIX + "root/cimv2/Win32_Process"
    assert host.ask(uri + "/Create", uri, f"<Create_INPUT><CommandLine>{deep}</CommandLine></Create_INPUT>").status == 500


def test_an_error_of_the_simulator_is_kept_and_raised(host: SmallHost) -> None:
    class Broken:
        def instances(self, caller: Caller) -> list[object]:
            raise ZeroDivisionError("a mistake")

    host.repository.register("root/cimv2", "Win32_Service", Broken())  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        host.ask(names.ENUMERATE, names.CLASS_PREFIX + "root/cimv2/Win32_Service", "<n:Enumerate/>")
    assert [str(bug) for bug in host.bugs] == ["a mistake"]
