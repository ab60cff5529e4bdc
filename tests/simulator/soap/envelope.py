# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One SOAP message in, one out: the headers of WS-Management requests (wire 1.2) and the envelope of answers."""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from xml.etree import ElementTree as ET

from simulator.cim.model import Ref
from simulator.cim.paths import format_object_path
from simulator.cim.xmltext import MalformedXml, attribute, parse, text

from . import names
from .faults import ACTIONS, SoapFault, format_fault

MINIMUM_ENVELOPE = 8192
MESSAGE_ID_LIMIT = 2048
_TRUE = ("true", "1")
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?\Z")
_KNOWN_HEADERS = frozenset(
    [names.tag(names.A, name) for name in ("To", "ReplyTo", "FaultTo", "From", "MessageID", "Action", "RelatesTo")]
    + [names.tag(names.W, name) for name in ("ResourceURI", "MaxEnvelopeSize", "OperationTimeout", "Locale", "SelectorSet", "OptionSet",
                                             "FragmentTransfer", "RequestEPR")]
    + [names.tag(names.M, name) for name in ("DataLocale", "SessionId", "OperationID", "SequenceId", "ActivityId", "CompressionType")])


@dataclass(frozen=True)
class Request:
    """A request whose headers were accepted."""

    action: str
    resource_uri: str
    message_id: str
    selectors: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    max_envelope: int | None = None
    """Octets, None when the client did not say."""
    timeout: float | None = None
    """Seconds, None when the client did not say."""
    locale: str | None = None
    body: ET.Element | None = None
    """``s:Body``."""

    @property
    def payload(self) -> ET.Element | None:
        """The first element of the body."""
        return next(iter(self.body), None) if self.body is not None else None


@dataclass(frozen=True)
class Identify:
    """An Identify message: no addressing headers at all (wire 1.3)."""


class NotSoap(Exception):
    """The bytes are no SOAP envelope: the service answers 400 without a body (wire 5.3)."""


class RefusedHeader(Exception):
    """A header that ends the request; carries what is needed to answer."""

    def __init__(self, fault: SoapFault, message_id: str, locale: str | None) -> None:
        super().__init__(str(fault))
        self.fault = fault
        self.message_id = message_id
        self.locale = locale


def decode(body: bytes, content_type: str) -> tuple[str | bytes, str]:
    """The document and the character set for the answer; UTF-16 is legal in both directions (wire 6.2)."""
    if "utf-16" not in content_type.lower():
        return body, "utf-8"
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return body, "utf-16"
    try:
        return body.decode("utf-16-le"), "utf-16"
    except UnicodeDecodeError as error:
        raise NotSoap(str(error)) from error


def parse_request(document: str | bytes) -> Request | Identify:
    """Read one message; raises :class:`NotSoap` and :class:`RefusedHeader`."""
    try:
        root = parse(document)
    except MalformedXml as error:
        raise NotSoap(str(error)) from error
    if root.tag != names.tag(names.S, "Envelope"):
        raise NotSoap(f"the document element is {root.tag}")
    body = root.find(names.tag(names.S, "Body"))
    if body is not None and any(names.local_name(child.tag) == "Identify" for child in body):
        return Identify()
    header = root.find(names.tag(names.S, "Header"))
    return _parse_headers(header if header is not None else ET.Element("none"), body)


def _parse_headers(header: ET.Element, body: ET.Element | None) -> Request:
    found: dict[str, ET.Element] = {}
    for child in header:
        found.setdefault(child.tag, child)
    message_id = _text(found.get(names.tag(names.A, "MessageID")))
    locale = _locale(found)
    try:
        _refuse_unknown(header)
        _check_addressing(found, message_id)
        for name in ("Locale", "DataLocale"):
            element = found.get(names.tag(names.W if name == "Locale" else names.M, name))
            if element is not None and _must_understand(element):
                raise SoapFault("unsupported_locale")
        return Request(
            action=_text(found.get(names.tag(names.A, "Action"))),
            resource_uri=_text(found.get(names.tag(names.W, "ResourceURI"))),
            message_id=message_id,
            selectors=parse_selectors(found.get(names.tag(names.W, "SelectorSet"))),
            options=_options(found.get(names.tag(names.W, "OptionSet"))),
            max_envelope=_max_envelope(found.get(names.tag(names.W, "MaxEnvelopeSize"))),
            timeout=_timeout(found.get(names.tag(names.W, "OperationTimeout"))),
            locale=locale,
            body=body)
    except SoapFault as fault:
        raise RefusedHeader(fault, message_id, locale) from fault


def _text(element: ET.Element | None) -> str:
    """Text without the white space around it, which Windows accepts (virt-who sends it)."""
    return (element.text or "").strip() if element is not None else ""


def _must_understand(element: ET.Element) -> bool:
    """True for the qualified attribute only: the unqualified one of pywinrm means nothing to Windows."""
    return element.get(names.tag(names.S, "mustUnderstand"), "").strip().lower() in _TRUE


def _refuse_unknown(header: ET.Element) -> None:
    for element in header:
        if element.tag not in _KNOWN_HEADERS and _must_understand(element):
            raise SoapFault("must_understand", not_understood=element.tag)


def _check_addressing(found: Mapping[str, ET.Element], message_id: str) -> None:
    """MessageID, ReplyTo, Action and ResourceURI; the content of To is not looked at."""
    if not message_id or len(message_id.encode()) > MESSAGE_ID_LIMIT:
        raise SoapFault("invalid_header")
    reply_to = found.get(names.tag(names.A, "ReplyTo"))
    if reply_to is None:
        raise SoapFault("missing_header")
    if _text(reply_to.find(names.tag(names.A, "Address"))) != names.ANONYMOUS:
        raise SoapFault("unsupported_addressing")
    if not _text(found.get(names.tag(names.A, "Action"))):
        raise SoapFault("missing_header")
    if not _text(found.get(names.tag(names.W, "ResourceURI"))):
        raise SoapFault("invalid_resource_uri")


def _locale(found: Mapping[str, ET.Element]) -> str | None:
    element = found.get(names.tag(names.W, "Locale"))
    return element.get(names.tag(names.XML, "lang")) or None if element is not None else None


def parse_selectors(element: ET.Element | None) -> Mapping[str, str]:
    """The selectors of a ``w:SelectorSet``; names are compared without case and may occur once."""
    result: dict[str, str] = {}
    seen: set[str] = set()
    if element is not None:
        for selector in element.findall(names.tag(names.W, "Selector")):
            name = selector.get("Name", "")
            if not name:
                raise SoapFault("invalid_selectors")
            if name.lower() in seen:
                raise SoapFault("duplicate_selectors")
            seen.add(name.lower())
            result[name] = _selector_value(selector)
    return MappingProxyType(result)


def _selector_value(selector: ET.Element) -> str:
    """The text of a selector; a reference key (of an association) comes as an endpoint reference and becomes an object path."""
    nested = selector.find(names.tag(names.A, "EndpointReference"))
    if nested is None:
        return selector.text or ""
    parameters = nested.find(names.tag(names.A, "ReferenceParameters"))
    uri = _text(parameters.find(names.tag(names.W, "ResourceURI"))) if parameters is not None else ""
    if parameters is None or not uri.lower().startswith(names.CLASS_PREFIX):
        raise SoapFault("invalid_selectors")
    namespace, _unused, class_name = uri[len(names.CLASS_PREFIX):].rpartition("/")
    keys = {key.get("Name", ""): key.text or "" for key in parameters.iterfind(f"{{{names.W}}}SelectorSet/{{{names.W}}}Selector")}
    return format_object_path(Ref(namespace, class_name, keys))


def _options(element: ET.Element | None) -> Mapping[str, str]:
    if element is None:
        return MappingProxyType({})
    options = element.iter(names.tag(names.W, "Option"))
    return MappingProxyType({option.get("Name", "").upper(): (option.text or "").strip() for option in options})


def _max_envelope(element: ET.Element | None) -> int | None:
    if element is None:
        return None
    value = _text(element)
    if not value.isascii() or not value.isdigit():
        raise SoapFault("invalid_header")
    size = int(value)
    if size < MINIMUM_ENVELOPE:
        raise SoapFault("encoding_limit")
    return size


def _timeout(element: ET.Element | None) -> float | None:
    if element is None:
        return None
    match = _DURATION.match(_text(element))
    if match is None:
        raise SoapFault("invalid_header")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


_DECLARATIONS = (f'xmlns:s="{names.S}" xmlns:a="{names.A}" xmlns:w="{names.W}" xmlns:n="{names.N}" xmlns:x="{names.X}" '
                 f'xmlns:rsp="{names.RSP}" xmlns:p="{names.M}"')


def format_answer(action: str, body: str, *, message_id: str, relates_to: str, locale: str, activity_id: str | None = None,
                  extra_header: str = "") -> str:
    """An envelope around ``body`` (XML text). ``activity_id`` adds the header that 2016 and later sometimes send (wire 1.2)."""
    activity = ""
    if activity_id is not None:
        activity = f'<p:ActivityId s:mustUnderstand="false">{text(activity_id)}</p:ActivityId>'
    return (f"<s:Envelope xml:lang={attribute(locale)} {_DECLARATIONS}><s:Header><a:Action>{text(action)}</a:Action>"
            f"<a:MessageID>{text(message_id)}</a:MessageID><a:To>{names.ANONYMOUS}</a:To><a:RelatesTo>{text(relates_to)}</a:RelatesTo>"
            f"{activity}{extra_header}</s:Header><s:Body>{body}</s:Body></s:Envelope>")


def format_fault_answer(fault: SoapFault, *, message_id: str, relates_to: str, locale: str, machine: str) -> str:
    """The envelope of a fault; its action follows the subcode (wire 5.1)."""
    extra = ""
    if fault.not_understood is not None:
        namespace, _unused, name = fault.not_understood.lstrip("{").rpartition("}")
        extra = f"<s:NotUnderstood qname={attribute('hdr:' + name)} xmlns:hdr={attribute(namespace)}/>"
    prefix = fault.kind.subcode.partition(":")[0] or "s"
    return format_answer(ACTIONS[prefix], format_fault(fault, locale, machine), message_id=message_id, relates_to=relates_to,
                         locale=locale, extra_header=extra)


def encode(document: str, charset: str) -> bytes:
    """The bytes of an answer in the character set of its request."""
    return document.encode("utf-16") if charset == "utf-16" else document.encode("utf-8")


def format_identify(product_version: str, security_profiles: tuple[str, ...], locale: str) -> str:
    """The answer to an Identify (wire 1.3)."""
    profiles = "".join(f"<wsmid:SecurityProfileName>{text(profile)}</wsmid:SecurityProfileName>" for profile in security_profiles)
    security = f"<wsmid:SecurityProfiles>{profiles}</wsmid:SecurityProfiles>" if profiles else ""
    return (f'<s:Envelope xml:lang={attribute(locale)} xmlns:s="{names.S}"><s:Header/><s:Body>'
            f'<wsmid:IdentifyResponse xmlns:wsmid="{names.WSMID}">'
            "<wsmid:ProtocolVersion>http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd</wsmid:ProtocolVersion>"
            "<wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>"
            f"<wsmid:ProductVersion>{text(product_version)}</wsmid:ProductVersion>{security}"
            "</wsmid:IdentifyResponse></s:Body></s:Envelope>")
