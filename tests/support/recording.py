# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fake at the one seam where fakes belong: the lane. It plays answers and remembers what was sent."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline

NAMESPACES = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "n": "http://schemas.xmlsoap.org/ws/2004/09/enumeration",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "b": "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd",
    "cim": "http://schemas.dmtf.org/wbem/wscim/1/common",
    "xsi": "http://www.w3.org/2001/XMLSchema-instance",
    "f": "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
    "m": "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd",
}
WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
V2 = WMI + "root/virtualization/v2/"
DECLARED = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"


@dataclass(frozen=True)
class Request:
    """One message as the host would read it."""

    raw: bytes
    repeatable: bool
    seconds: float

    @property
    def root(self) -> Element:
        """The envelope."""
        return ElementTree.fromstring(self.raw)  # noqa: S314  # written by the collection

    def header(self, name: str) -> str | None:
        """The text of a header by its prefixed name."""
        return self.root.findtext(f"s:Header/{name}", namespaces=NAMESPACES)

    @property
    def verb(self) -> str:
        """The last part of the action."""
        return (self.header("a:Action") or "").rpartition("/")[2]

    @property
    def resource(self) -> str:
        """The resource URI."""
        return self.header("w:ResourceURI") or ""

    @property
    def selectors(self) -> dict[str, str]:
        """The selectors of the header."""
        found = self.root.findall("s:Header/w:SelectorSet/w:Selector", NAMESPACES)
        return {one.attrib["Name"]: one.text or "" for one in found}

    @property
    def options(self) -> dict[str, str]:
        """The options of the header."""
        found = self.root.findall("s:Header/w:OptionSet/w:Option", NAMESPACES)
        return {one.attrib["Name"]: one.text or "" for one in found}

    @property
    def body(self) -> Element:
        """The first element of the SOAP body."""
        return self.root.find("s:Body", NAMESPACES)[0]  # type: ignore[index]

    def text(self, path: str) -> str | None:
        """The text below the SOAP body, by a path of prefixed names."""
        return self.root.findtext(f"s:Body/{path}", namespaces=NAMESPACES)


Answer = str | bytes | BaseException | Callable[[Request], "Answer"]


def envelope(body: str, relates_to: str | None = None, extra_header: str = "") -> bytes:
    """A whole answer around the content of its SOAP body."""
    related = "" if relates_to is None else f"<a:RelatesTo>{relates_to}</a:RelatesTo>"
    return (f'<s:Envelope xml:lang="en-US" {DECLARED}><s:Header><a:Action>any</a:Action><a:MessageID>uuid:1</a:MessageID>'
            f'<m:ActivityId s:mustUnderstand="false">7</m:ActivityId><a:To>{ANONYMOUS}</a:To>{related}{extra_header}</s:Header>'
            f"<s:Body>{body}</s:Body></s:Envelope>").encode()


def fault(subcode: str, code: int | None = None, *, detail: str = "", inner: str = "", reason: str = "reason", side: str = "s:Sender",
          machine: str = "hv01") -> str:
    """The body of a fault (wire 5.1)."""
    fault_detail = f"<w:FaultDetail>http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/{detail}</w:FaultDetail>" if detail else ""
    ws_fault = "" if code is None else (f'<f:WSManFault Code="{code}" Machine="{machine}"><f:Message>{inner or "said"}</f:Message>'
                                        "</f:WSManFault>")
    carried = f"<s:Detail>{fault_detail}{ws_fault}</s:Detail>" if fault_detail or ws_fault else ""
    return (f"<s:Fault><s:Code><s:Value>{side}</s:Value><s:Subcode><s:Value>{subcode}</s:Value></s:Subcode></s:Code>"
            f'<s:Reason><s:Text xml:lang="">{reason}</s:Text></s:Reason>{carried}</s:Fault>')


class RecordingLane:
    """Plays the answers in turn: the content of a SOAP body as text, a whole answer as bytes, an error, or a function of the request.

    After the last answer any further request is an error of the test.
    """

    def __init__(self, *answers: Answer) -> None:
        self.answers: list[Answer] = list(answers)
        self.requests: list[Request] = []
        self.closed = 0

    def send(self, envelope_: bytes, deadline: Deadline, *, repeatable: bool) -> bytes:
        """See the collection's Lane."""
        request = Request(envelope_, repeatable, deadline.remaining())
        self.requests.append(request)
        if not self.answers:
            raise AssertionError(f"an unexpected request: {request.verb} {request.resource}")
        answer = self.answers.pop(0)
        while callable(answer):
            answer = answer(request)
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, bytes) else envelope(answer, request.header("a:MessageID"))

    def close(self) -> None:
        """Count the closings."""
        self.closed += 1

    @property
    def verbs(self) -> list[str]:
        """What was asked, in turn."""
        return [request.verb for request in self.requests]


class ManualClock:
    """A clock that moves only by being slept on or by ``advance``."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Seconds, as set."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move the time and remember by how much."""
        self.slept.append(seconds)
        self.now += seconds

    def advance(self, seconds: float) -> None:
        """Move the time."""
        self.now += seconds

    def utcnow(self) -> datetime:
        """A fixed date."""
        return datetime(2026, 1, 1, tzinfo=UTC)


def instance(class_name: str, properties: Mapping[str, str | None], namespace: str = "root/virtualization/v2", prefix: str = "p") -> str:
    """An instance as hosts send it (wire 2.5): values are XML already, None is nil."""
    written = "".join(f'<{prefix}:{name} xsi:nil="true"/>' if value is None else f"<{prefix}:{name}>{value}</{prefix}:{name}>"
                      for name, value in properties.items())
    tag = f"{prefix}:{class_name}"
    return f'<{tag} xmlns:{prefix}="{WMI}{namespace}/{class_name}" xsi:type="{tag}_Type">{written}</{tag}>'


def reference(class_name: str, keys: Mapping[str, str], namespace: str = "root/virtualization/v2") -> str:
    """The content of a REF property (wire 2.5)."""
    selectors = "".join(f'<w:Selector Name="{name}">{value}</w:Selector>' for name, value in keys.items())
    return (f"<a:Address>{ANONYMOUS}</a:Address><a:ReferenceParameters><w:ResourceURI>{WMI}{namespace}/{class_name}</w:ResourceURI>"
            f"<w:SelectorSet>{selectors}</w:SelectorSet></a:ReferenceParameters>")


def complete(*items: str) -> str:
    """An EnumerateResponse that holds everything (wire 2.2)."""
    return (f"<n:EnumerateResponse><n:EnumerationContext></n:EnumerationContext><w:Items>{''.join(items)}</w:Items><w:EndOfSequence/>"
            "</n:EnumerateResponse>")


def begun(context: str, *items: str) -> str:
    """An EnumerateResponse that goes on."""
    return (f"<n:EnumerateResponse><n:EnumerationContext>{context}</n:EnumerationContext><w:Items>{''.join(items)}</w:Items>"
            "</n:EnumerateResponse>")


def pulled(context: str | None, *items: str) -> str:
    """A PullResponse; without a context it is the last one (wire 2.1)."""
    if context is None:
        return f"<n:PullResponse><n:Items>{''.join(items)}</n:Items><n:EndOfSequence/></n:PullResponse>"
    return f"<n:PullResponse><n:EnumerationContext>{context}</n:EnumerationContext><n:Items>{''.join(items)}</n:Items></n:PullResponse>"
