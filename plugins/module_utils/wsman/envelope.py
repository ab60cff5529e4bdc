# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SOAP envelopes of requests (wire 1.2)."""
from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import xml
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import Markup, element, text

MAX_ENVELOPE = 512000
"""Octets: 500 KB is the default limit of Windows Server 2012 and later; a host with a lower limit uses its own (wire 1.2)."""
MAX_OPERATION_TIMEOUT = 60.0
"""Seconds: Windows cuts longer ones to this without a word (wire 1.2)."""
MIN_OPERATION_TIMEOUT = 1.0

_NAMESPACES = {"xmlns__s": xml.S, "xmlns__a": xml.A, "xmlns__w": xml.W, "xmlns__n": xml.N, "xmlns__x": xml.X, "xmlns__m": xml.M,
               "xmlns__cim": xml.CIM, "xmlns__xsi": xml.XSI}
_MUST = {"s__mustUnderstand": "true"}


def build(action: str, resource_uri: str, message_id: str, *, to: str, body: Markup, selectors: Mapping[str, str] | None = None,
          options: Mapping[str, str] | None = None, operation_timeout: float = MAX_OPERATION_TIMEOUT, locale: str = "en-US",
          max_envelope: int = MAX_ENVELOPE) -> bytes:
    """One request as UTF-8 bytes. ``body`` is the content of the SOAP body."""
    seconds = max(MIN_OPERATION_TIMEOUT, min(operation_timeout, MAX_OPERATION_TIMEOUT))
    header = [
        element("a:To", text(to)),
        element("w:ResourceURI", text(resource_uri), **_MUST),
        element("a:ReplyTo", element("a:Address", text(xml.ANONYMOUS), **_MUST)),
        element("a:Action", text(action), **_MUST),
        element("w:MaxEnvelopeSize", text(str(max_envelope)), **_MUST),
        element("a:MessageID", text(message_id)),
        element("w:Locale", xml__lang=locale, s__mustUnderstand="false"),
        element("m:DataLocale", xml__lang=locale, s__mustUnderstand="false"),
        element("w:OperationTimeout", text(f"PT{seconds:.3f}S")),
    ]
    if selectors:
        header.append(selector_set(selectors))
    if options:
        header.append(element("w:OptionSet", *(element("w:Option", text(value), Name=name) for name, value in options.items())))
    envelope = element("s:Envelope", element("s:Header", *header), element("s:Body", body), **_NAMESPACES)
    return envelope.encode("utf-8")


def identify() -> bytes:
    """The Identify request, which has no addressing headers (wire 1.3)."""
    body = element("wsmid:Identify", xmlns__wsmid="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd")
    return element("s:Envelope", element("s:Header"), element("s:Body", body), xmlns__s=xml.S).encode("utf-8")


def selector_set(selectors: Mapping[str, str]) -> Markup:
    """The address of one instance below a resource URI."""
    return element("w:SelectorSet", *(element("w:Selector", text(value), Name=name) for name, value in selectors.items()))


def endpoint_reference(resource_uri: str, selectors: Mapping[str, str]) -> Markup:
    """Address and reference parameters as they stand directly inside a REF parameter, without a wrapper (wire 3.2)."""
    return Markup(element("a:Address", text(xml.ANONYMOUS)) + element(
        "a:ReferenceParameters", element("w:ResourceURI", text(resource_uri)), selector_set(selectors)))
