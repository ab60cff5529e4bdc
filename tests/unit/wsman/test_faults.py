# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults: every row of the code table, every shape of detail (wire 5)."""
from __future__ import annotations

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, NotFound
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import faults
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import ProtocolError
from support.recording import DECLARED, envelope, fault


def parse(body):
    return faults.parse_fault(envelope(body))


@pytest.mark.parametrize(("subcode", "code", "kind", "error_code"), [
    ("w:AccessDenied", 5, faults.AccessDeniedFault, "access_denied"),
    ("w:InvalidParameter", 87, faults.MethodRefused, "method_refused"),
    ("w:InternalError", 995, faults.ShellGone, "shell_gone"),
    ("w:InternalError", 1236, faults.ShellGone, "shell_gone"),
    ("w:InternalError", 1359, faults.ProviderFailed, "provider_failed"),
    ("a:DestinationUnreachable", 2150858752, faults.ResourceNotFound, "not_found"),
    ("a:ActionNotSupported", 2150858753, faults.MethodRefused, "method_refused"),
    ("a:DestinationUnreachable", 2150858770, faults.ResourceNotFound, "not_found"),
    ("a:ActionNotSupported", 2150858771, faults.MethodRefused, "method_refused"),
    ("n:CannotProcessFilter", 2150858778, faults.FilterRefused, "filter_refused"),
    ("n:InvalidEnumerationContext", 2150858779, faults.EnumerationExpired, "enumeration_expired"),
    ("n:TimedOut", 2150858780, faults.OperationTimedOut, "operation_timed_out"),
    ("w:EncodingLimit", 2150858790, faults.EncodingLimit, "envelope_too_large"),
    ("w:EncodingLimit", 2150858824, faults.EncodingLimit, "envelope_too_large"),
    ("w:TimedOut", 2150858793, faults.OperationTimedOut, "operation_timed_out"),
    ("w:Concurrency", 2150858802, faults.TryLater, "host_busy"),
    ("a:DestinationUnreachable", 2150858811, faults.WsmanFault, "wsman_fault"),
    ("w:InvalidSelectors", 2150858813, faults.InvalidSelectors, "invalid_selectors"),
    ("w:QuotaLimit", 2150858815, faults.QuotaExceeded, "quota_exceeded"),
    ("w:SchemaValidationError", 2150858817, faults.SchemaRefused, "schema_refused"),
    ("w:InvalidSelectors", 2150858842, faults.InvalidSelectors, "invalid_selectors"),
    ("w:InvalidSelectors", 2150858843, faults.InvalidSelectors, "invalid_selectors"),
    ("w:QuotaLimit", 2150859173, faults.QuotaExceeded, "quota_exceeded"),
    ("w:InternalError", 2150859174, faults.QuotaExceeded, "quota_exceeded"),
    ("w:InternalError", 2150859179, faults.QuotaExceeded, "quota_exceeded"),
    ("w:InternalError", 2150859180, faults.ShellsForbidden, "shells_forbidden"),
    ("w:InternalError", 2150859241, faults.QuotaExceeded, "quota_exceeded"),
    ("w:InternalError", 2147942402, faults.ProviderFailed, "provider_failed"),
    ("w:Unheard", 4242, faults.WsmanFault, "wsman_fault"),
])
def test_codes(subcode, code, kind, error_code):
    found = parse(fault(subcode, code))
    assert (type(found), found.error_code, found.code, found.subcode) == (kind, error_code, code, subcode.partition(":")[2])


@pytest.mark.parametrize(("provider", "kind"), [
    (0x80041002, faults.ResourceNotFound), (0x80041003, faults.AccessDeniedFault), (0x8004100E, faults.InvalidNamespace),
    (0x80041010, faults.ClassNotFound), (0x8004102F, faults.MethodRefused), (0x80041001, faults.ProviderFailed),
    (0x80070005, faults.AccessDeniedFault),
])
@pytest.mark.parametrize("written", ["{}", "0x{:x}", "{:d}"])
def test_provider_codes_inside_the_service_fault(provider, kind, written):
    inner = (f'<f:ProviderFault provider="WMI Provider" path="%systemroot%\\system32\\WsmWmiPl.dll"><f:WSManFault Code="{provider}" '
             'Machine=""><f:Message>プロバイダー</f:Message></f:WSManFault></f:ProviderFault>')
    found = parse(fault("w:InternalError", 1359, inner=inner, side="s:Receiver"))
    assert (type(found), found.code, found.provider_code, found.hresult) == (kind, 1359, provider, provider)
    extended = ('<f:ProviderFault><f:ExtendedError><x:__ExtendedStatus xmlns:x="http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/'
                f'__ExtendedStatus"><x:Description>d</x:Description><x:StatusCode>{written.format(provider)}</x:StatusCode>'
                "</x:__ExtendedStatus></f:ExtendedError></f:ProviderFault>")
    found = parse(fault("w:InternalError", 1359, inner=extended))
    assert (type(found), found.provider_code) == (kind, provider)


@pytest.mark.parametrize("namespace", [
    "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/MSFT_WmiError",
    "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/MSFT_WmiError", "urn:whatever",
])
@pytest.mark.parametrize(("status", "kind"), [
    (1, faults.ProviderFailed), (2, faults.AccessDeniedFault), (3, faults.InvalidNamespace), (5, faults.ClassNotFound),
    (6, faults.ResourceNotFound), (27, faults.QuotaExceeded),
])
def test_cim_errors_in_any_namespace(namespace, status, kind):
    error = (f'<s:Detail><z:MSFT_WmiError xmlns:z="{namespace}" b:IsCIM_Error="true"><z:CIMStatusCode>{status}</z:CIMStatusCode>'
             "<z:error_Code>0</z:error_Code><z:Message>本文</z:Message></z:MSFT_WmiError></s:Detail>")
    found = parse(fault("w:InternalError").replace("</s:Fault>", error + "</s:Fault>"))
    assert (type(found), found.cim_status, found.code) == (kind, status, None)
    assert "本文" in found.message


def test_an_invalid_namespace_that_calls_itself_a_filter_problem():
    error = ('<s:Detail><p:MSFT_WmiError xmlns:p="urn:x"><p:CIMStatusCode>3</p:CIMStatusCode><p:error_Code>2150858778</p:error_Code>'
             "</p:MSFT_WmiError></s:Detail>")
    assert isinstance(parse(fault("n:CannotProcessFilter").replace("</s:Fault>", error + "</s:Fault>")), faults.InvalidNamespace)


def test_denied_is_never_absent_whatever_else_the_fault_says():
    error = '<s:Detail><p:MSFT_WmiError xmlns:p="urn:x"><p:CIMStatusCode>2</p:CIMStatusCode></p:MSFT_WmiError></s:Detail>'
    found = parse(fault("a:DestinationUnreachable", 2150858752).replace("<s:Detail>", error.removesuffix("</s:Detail>"), 1))
    assert isinstance(found, AccessDenied)
    assert not isinstance(found, NotFound)


@pytest.mark.parametrize("prefix", ["w", "wsman", "a", ""])
def test_prefixes_of_subcodes_are_the_hosts_choice(prefix):
    found = parse(fault(f"{prefix}:QuotaLimit" if prefix else "QuotaLimit"))
    assert (found.subcode, type(found)) == ("QuotaLimit", faults.QuotaExceeded)


@pytest.mark.parametrize("body", [
    "<s:Fault><s:Code><s:Value>s:MustUnderstand</s:Value></s:Code><s:Reason><s:Text>x</s:Text></s:Reason></s:Fault>",
    "<s:Fault/>", "<s:Fault><s:Code/></s:Fault>", "<s:Fault><s:Code><s:Value/></s:Code><s:Detail/></s:Fault>",
    '<s:Fault><s:Detail><f:WSManFault Code="x"/></s:Detail></s:Fault>', '<s:Fault><s:Detail><f:WSManFault/></s:Detail></s:Fault>',
    '<s:Fault><s:Detail><f:WSManFault Code="99999999999999999999"/></s:Detail></s:Fault>',
])
def test_faults_without_detail_or_with_odd_ones(body):
    found = parse(body)
    assert (type(found), found.code) == (faults.WsmanFault, None)


def test_a_detail_without_a_namespace():
    body = ('<s:Fault><s:Code><s:Value>s:Sender</s:Value><Subcode><Value>w:AccessDenied</Value></Subcode></s:Code>'
            '<Detail><WSManFault Code="5"/></Detail></s:Fault>')
    found = parse(body)
    assert (type(found), found.code) == (faults.AccessDeniedFault, 5)


def test_texts_are_for_people_and_the_raw_answer_is_kept_within_bounds():
    found = parse(fault("w:InternalError", 1359, inner="内部エラー\x85 \u202e", reason="x" * 10_000))
    assert "内部エラー" in found.message
    assert len(found.raw) <= 4 * faults.RAW_LIMIT
    assert "\u202e" not in found.raw
    assert found.as_result() == {"error_code": "provider_failed", "hresult": "0x0000054F", "wsman_code": 1359,
                                 "wsman_subcode": "InternalError"}


@pytest.mark.parametrize("answer", [b"", b"plain", f"<s:Envelope {DECLARED}><s:Body/></s:Envelope>".encode(), b"<a/>"])
def test_what_is_no_fault(answer):
    with pytest.raises(ProtocolError):
        faults.parse_fault(answer)
