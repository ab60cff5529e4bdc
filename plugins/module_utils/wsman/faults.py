# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults as one family of exceptions, told apart by codes and never by text, which hosts localise (wire 5)."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, HypervError, NotFound
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import xml
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import ProtocolError

RAW_LIMIT = 8000
OPERATION_TIMED_OUT = 2150858793
_NUMBER = re.compile(r"\s*(?:0[xX]([0-9a-fA-F]{1,16})|(-?\d{1,20}))\s*\Z", re.ASCII)


@dataclass(frozen=True)
class FaultFacts:
    """Everything a fault says. ``code`` is unsigned; ``subcode`` a local name; ``detail`` the last part of FaultDetail's URI."""

    subcode: str = ""
    code: int | None = None
    provider_code: int | None = None
    cim_status: int | None = None
    detail: str = ""
    reason: str = ""
    messages: tuple[str, ...] = field(default=())
    raw: str = ""


class WsmanFault(HypervError):
    """The host refused a request. Subclasses say why; this class itself means a code that nobody here knows."""

    error_code = "wsman_fault"
    hint_text: str | None = None

    def __init__(self, facts: FaultFacts) -> None:
        self.facts = facts
        self.code = facts.code
        self.subcode = facts.subcode
        self.provider_code = facts.provider_code
        self.cim_status = facts.cim_status
        self.raw = facts.raw
        numbers = {"wsman_code": facts.code, "wsman_subcode": facts.subcode or None, "cim_status": facts.cim_status}
        super().__init__(self._sentence(), hint=self.hint_text, hresult=facts.provider_code or facts.code,
                         details={name: value for name, value in numbers.items() if value is not None})

    def _sentence(self) -> str:
        said = next((one for one in (*self.facts.messages, self.facts.reason) if one), "no reason given")
        code = "" if self.facts.code is None else f", code {self.facts.code}"
        return f"The host refused a request ({self.facts.subcode or 'fault'}{code}): {said[:500]}"


class ResourceNotFound(WsmanFault, NotFound):
    """The instance does not exist; hosts also say this for a class they do not have (wire 5.2)."""

    error_code = "not_found"


class ClassNotFound(ResourceNotFound):
    """The class does not exist on this host, usually because its Windows is older."""

    error_code = "class_not_found"


class InvalidNamespace(WsmanFault):
    """The CIM namespace does not exist: the role that brings it is not installed."""

    error_code = "invalid_namespace"
    hint_text = "root/virtualization/v2 comes with the Hyper-V role, root/mscluster with failover clustering."


class AccessDeniedFault(WsmanFault, AccessDenied):
    """The account may not do this: the service's SDDL, the namespace's ACL, or a token filtered by UAC (wire 5.2, 6.1)."""

    error_code = "access_denied"
    hint_text = ("The account needs Remote Management Users and Hyper-V Administrators, or Administrators. A local administrator "
                 "other than the built-in one also needs LocalAccountTokenFilterPolicy=1.")


class TryLater(WsmanFault):
    """The request was not processed; the same request may succeed after a pause."""

    error_code = "host_busy"


class QuotaExceeded(TryLater):
    """A quota of the WinRM service is used up (shells, operations, users, connections)."""

    error_code = "quota_exceeded"
    hint_text = "Shells and operations of this account use up the host's WinRM quota; they end by themselves after some time."


class OperationTimedOut(WsmanFault):
    """The host did not finish within OperationTimeout; what was begun may go on (wire 11, row 6)."""

    error_code = "operation_timed_out"


class FilterRefused(WsmanFault):
    """The host does not process the filter of an enumeration."""

    error_code = "filter_refused"


class EnumerationExpired(WsmanFault):
    """The host no longer knows the enumeration."""

    error_code = "enumeration_expired"


class InvalidSelectors(WsmanFault):
    """The selectors do not fit the class, or name a shell or command that is gone."""

    error_code = "invalid_selectors"


class ShellGone(WsmanFault):
    """The host ended a pending request because its shell was deleted or idle."""

    error_code = "shell_gone"


class EncodingLimit(WsmanFault):
    """A message is larger than the limits allow."""

    error_code = "envelope_too_large"


class SchemaRefused(WsmanFault):
    """The body of a request does not fit the class's schema."""

    error_code = "schema_refused"


class MethodRefused(WsmanFault):
    """The method, its parameters or the action do not exist or do not fit."""

    error_code = "method_refused"


class ProviderFailed(WsmanFault):
    """The provider behind the service failed."""

    error_code = "provider_failed"


class ShellsForbidden(WsmanFault):
    """The host's policy forbids remote shells."""

    error_code = "shells_forbidden"
    hint_text = "The policy 'Allow Remote Shell Access' (AllowRemoteShellAccess) is off on the host."


_QUOTA = frozenset({2150858815, *range(2150859173, 2150859180), *range(2150859236, 2150859243)})
_ABORTED = frozenset({995, 1236, 1223, 2150859212})
_TOO_LARGE = frozenset({2150858790, 2150858823, 2150858824, 2150858825})
_ACCESS = frozenset({5, 0x80070005, 0x80041003, 0x80041062})
_BAD_NAMESPACE = frozenset({0x8004100E})
_NO_CLASS = frozenset({0x80041010})
_NO_INSTANCE = frozenset({0x80041002, 2150858752, 2150858770})
_BAD_METHOD = frozenset({0x8004102E, 0x8004102F, 0x80041055, 2150858753, 2150858771})
_CIM_STATUS: dict[int, type[WsmanFault]] = {2: AccessDeniedFault, 3: InvalidNamespace, 5: ClassNotFound, 6: ResourceNotFound,
                                            16: MethodRefused, 17: MethodRefused, 27: QuotaExceeded}
_BY_CODE: tuple[tuple[frozenset[int], type[WsmanFault]], ...] = (
    (_ACCESS, AccessDeniedFault),
    (_BAD_NAMESPACE, InvalidNamespace),
    (_NO_CLASS, ClassNotFound),
    (frozenset({OPERATION_TIMED_OUT, 2150858780}), OperationTimedOut),
    (_QUOTA, QuotaExceeded),
    (frozenset({2150858802}), TryLater),
    (frozenset({2150859180}), ShellsForbidden),
    (frozenset({2150858778}), FilterRefused),
    (frozenset({2150858779}), EnumerationExpired),
    (frozenset({2150858813, 2150858842, 2150858843}), InvalidSelectors),
    (_TOO_LARGE, EncodingLimit),
    (frozenset({2150858817}), SchemaRefused),
    (_BAD_METHOD, MethodRefused),
    (_ABORTED, ShellGone),
    (_NO_INSTANCE, ResourceNotFound),
)
_BY_SUBCODE: dict[str, type[WsmanFault]] = {
    "AccessDenied": AccessDeniedFault, "TimedOut": OperationTimedOut, "QuotaLimit": QuotaExceeded, "Concurrency": TryLater,
    "CannotProcessFilter": FilterRefused, "FilterDialectRequestedUnavailable": FilterRefused,
    "InvalidEnumerationContext": EnumerationExpired, "InvalidSelectors": InvalidSelectors, "EncodingLimit": EncodingLimit,
    "SchemaValidationError": SchemaRefused, "ActionNotSupported": MethodRefused, "InvalidParameter": MethodRefused,
    "InternalError": ProviderFailed,
}
_UNREACHABLE_BUT_ABSENT = ("", "InvalidResourceURI")


def classify(facts: FaultFacts) -> WsmanFault:
    """The exception for a fault. What is denied is never reported as absent, and a namespace is not an instance."""
    denied = facts.code in _ACCESS or facts.provider_code in _ACCESS or facts.cim_status == 2 or facts.subcode == "AccessDenied"
    if denied:
        return AccessDeniedFault(facts)
    if facts.cim_status == 3:
        return InvalidNamespace(facts)
    for number in (facts.provider_code, facts.code):
        for numbers, kind in _BY_CODE:
            if number in numbers:
                return kind(facts)
    if facts.cim_status in _CIM_STATUS:
        return _CIM_STATUS[facts.cim_status](facts)
    if facts.subcode == "DestinationUnreachable" and facts.code is None and facts.detail in _UNREACHABLE_BUT_ABSENT:
        return ResourceNotFound(facts)
    return _BY_SUBCODE.get(facts.subcode, WsmanFault)(facts)


def find_fault(root: Element) -> Element | None:
    """The ``s:Fault`` of an answer; None when it is not a fault."""
    body = xml.child(root, "Body")
    return None if body is None else xml.child(body, "Fault")


def parse_fault(answer: bytes) -> WsmanFault:
    """The exception for a fault as it arrived. Raises ProtocolError when it is not one."""
    root = xml.parse(answer)
    fault = find_fault(root)
    if fault is None:
        raise ProtocolError("An answer is neither a result nor a fault.", details={"excerpt": xml.excerpt(answer)})
    return from_element(fault, answer)


def from_element(fault: Element, answer: bytes) -> WsmanFault:
    """The exception for an ``s:Fault``; ``answer`` is kept, bounded, as its raw text."""
    detail = xml.child(fault, "Detail")
    nodes = [] if detail is None else list(detail.iter())
    numbers = _Numbers(nodes)
    facts = FaultFacts(
        subcode=_subcode(fault), code=numbers.code, provider_code=numbers.provider_code, cim_status=numbers.cim_status,
        detail=numbers.detail, reason=_reason(fault), messages=numbers.messages, raw=xml.excerpt(answer, RAW_LIMIT))
    return classify(facts)


def _subcode(fault: Element) -> str:
    """The innermost subcode without its prefix: prefixes are the host's choice; the local names are unique (wire 5.1)."""
    node = xml.child(fault, "Code")
    name = ""
    for _unused in range(4):
        if node is None:
            break
        value = xml.child_text(node, "Value") or ""
        name = value.rpartition(":")[2] or name
        node = xml.child(node, "Subcode")
    return name


def _reason(fault: Element) -> str:
    reason = xml.child(fault, "Reason")
    return "" if reason is None else " ".join((xml.child_text(reason, "Text") or "").split())


class _Numbers:
    """The codes and texts in a fault's detail, wherever they are nested."""

    def __init__(self, nodes: list[Element]) -> None:
        self.code: int | None = None
        self.provider_code: int | None = None
        self.cim_status: int | None = None
        self.detail = ""
        messages: list[str] = []
        for node in nodes:
            name = xml.local_name(node.tag)
            said = " ".join((node.text or "").split())
            if name == "WSManFault":
                self._fault(xml.attributes_of(node).get("Code"))
            elif name == "StatusCode" or (name == "error_Code" and self.provider_code is None):
                self.provider_code = _unsigned(said) or self.provider_code
            elif name == "CIMStatusCode":
                self.cim_status = _unsigned(said)
            elif name == "FaultDetail":
                self.detail = said.rpartition("/")[2]
            if said and name in ("Message", "Description"):
                messages.append(said)
        self.messages = tuple(reversed(messages[:20]))  # the innermost says most

    def _fault(self, number: str | None) -> None:
        """The outermost WSManFault is the service's, one inside it is the provider's."""
        code = _unsigned(number or "")
        if self.code is None:
            self.code = code
        elif self.provider_code is None:
            self.provider_code = code


def _unsigned(number: str) -> int | None:
    found = _NUMBER.match(number)
    if found is None:
        return None
    value = int(found.group(1), 16) if found.group(1) else int(found.group(2))
    return value & 0xFFFFFFFF if -0x80000000 <= value <= 0xFFFFFFFF else None
