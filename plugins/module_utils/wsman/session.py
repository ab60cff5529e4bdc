# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WS-Management operations over one lane: Identify, Get, Delete, Enumerate with Pull and Release, Invoke (wire 1 to 3)."""
from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal
from xml.etree.ElementTree import Element

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import envelope, faults, xml
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import Lane
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import Markup, ProtocolError, element, text

WQL = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
ASSOCIATION = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter"
MAX_ELEMENTS = 32000
"""The most that a host puts into one answer (MaxBatchItems, wire 2.7); it sends less whenever it likes."""
ANSWER_MARGIN = 30.0
"""Seconds that an answer may take beyond the operation's own time-out."""
MAX_EMPTY_PULLS = 50
MAX_ENUMERATION_BYTES = 256 * 1024 * 1024

_TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
_ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
_BACK_OFF = (1.0, 2.0, 4.0, 8.0, 15.0)


class Mode(Enum):
    """What an enumeration brings (wire 2.3)."""

    OBJECT = "EnumerateObject"
    EPR = "EnumerateEPR"
    OBJECT_AND_EPR = "EnumerateObjectAndEPR"


@dataclass(frozen=True)
class Filter:
    """A filter in one of the dialects above; ``content`` is quoted already."""

    dialect: str
    content: Markup


@dataclass(frozen=True)
class Identity:
    """What Identify tells; ``product_version`` has real numbers only after log-on (wire 1.3)."""

    product_vendor: str
    product_version: str
    protocol_version: str


class WsmanSession:
    """One session with one host. Not for several threads: one lane takes one request at a time (wire 6.4).

    Quota and concurrency faults are backed off and tried again, since such requests were not processed (wire 5.4).
    ``operation_timeout`` is in seconds.
    """

    def __init__(self, lane: Lane, clock: Clock, *, locale: str = "en-US", max_envelope: int = envelope.MAX_ENVELOPE,
                 operation_timeout: float = envelope.MAX_OPERATION_TIMEOUT, to: str = "http://localhost/wsman") -> None:
        self.lane = lane
        self.clock = clock
        self.locale = locale
        self.operation_timeout = min(operation_timeout, envelope.MAX_OPERATION_TIMEOUT)
        self._max_envelope = max_envelope
        self._received = 0
        self._to = to

    @property
    def encrypted(self) -> bool:
        """True when the lane says that its messages cannot be read on the way; a lane that does not say counts as open."""
        return getattr(self.lane, "encrypted", False) is True

    def close(self) -> None:
        """End the connection."""
        self.lane.close()

    def identify(self) -> Identity:
        """Ask what answers there. Raises ProtocolError when it is not WS-Management."""
        deadline = Deadline(self.clock, self.operation_timeout + ANSWER_MARGIN)
        root = xml.parse(self.lane.send(envelope.identify(), deadline, repeatable=True))
        body = xml.child(root, "Body")
        told = None if body is None else xml.child(body, "IdentifyResponse")
        if told is None:
            raise ProtocolError("What answers is not a WS-Management service.", error_code="not_winrm")
        return Identity(product_vendor=xml.child_text(told, "ProductVendor") or "",
                        product_version=xml.child_text(told, "ProductVersion") or "",
                        protocol_version=xml.child_text(told, "ProtocolVersion") or "")

    def get(self, resource_uri: str, selectors: Mapping[str, str]) -> Element:
        """The element of one instance."""
        body = self.request(f"{_TRANSFER}/Get", resource_uri, Markup(""), selectors=selectors, repeatable=True)
        for one in body:
            return one
        raise ProtocolError("The answer to a Get holds no instance.")

    def delete(self, resource_uri: str, selectors: Mapping[str, str], *, before_send: Callable[[], None] | None = None) -> None:
        """Delete one instance, once. A lost answer is OutcomeUnknown."""
        self.request(f"{_TRANSFER}/Delete", resource_uri, Markup(""), selectors=selectors, repeatable=False, before_send=before_send)

    def invoke(self, resource_uri: str, method: str, selectors: Mapping[str, str], body: Markup, *, repeatable: bool = False,
               before_send: Callable[[], None] | None = None) -> Element:
        """Call a method; the ``Method_OUTPUT`` element. Unless ``repeatable``, a lost answer is OutcomeUnknown.

        The element may be empty, and ReturnValue may be missing (wire 3.1).
        """
        answer = self.request(f"{resource_uri}/{method}", resource_uri, body, selectors=selectors, repeatable=repeatable,
                              before_send=before_send)
        wanted = f"{method}_OUTPUT".lower()
        for one in answer:
            if xml.local_name(one.tag).lower() == wanted:
                return one
        raise self._lost(ProtocolError(f"The answer to {method} holds no output."), repeatable)

    def enumerate(self, resource_uri: str, filter_: Filter | None = None, mode: Mode = Mode.OBJECT) -> list[Element]:
        """All items. A context that expires in between restarts the whole enumeration once (wire 5.2)."""
        try:
            return list(self.stream(resource_uri, filter_, mode))
        except faults.EnumerationExpired:
            return list(self.stream(resource_uri, filter_, mode))

    def stream(self, resource_uri: str, filter_: Filter | None = None, mode: Mode = Mode.OBJECT, *,
               max_elements: int = MAX_ELEMENTS) -> Iterator[Element]:
        """Items as they arrive; the enumeration is released when the consumer stops early. May raise EnumerationExpired."""
        context: str | None = None
        limit = self._received + MAX_ENUMERATION_BYTES
        try:
            body = self.request(f"{_ENUMERATION}/Enumerate", resource_uri, _enumerate_body(filter_, mode, max_elements), repeatable=True)
            page = _page(body, "EnumerateResponse")
            empty = 0
            while True:
                context = page.context
                empty = 0 if page.items else empty + 1
                yield from page.items
                if page.complete:
                    context = None
                    return
                if empty > MAX_EMPTY_PULLS:
                    raise ProtocolError("An enumeration never ends and brings nothing.")
                if self._received > limit:
                    raise ProtocolError("An enumeration brings more than any host has.", error_code="answer_too_large")
                pull = element("n:Pull", element("n:EnumerationContext", text(page.context or "")),
                               element("n:MaxElements", text(str(max_elements))))
                context = None  # a pull uses its context up, whatever becomes of it
                page = _page(self.request(f"{_ENUMERATION}/Pull", resource_uri, pull, repeatable=True), "PullResponse")
        finally:
            if context:
                self._release(resource_uri, context)

    def _release(self, resource_uri: str, context: str) -> None:
        body = element("n:Release", element("n:EnumerationContext", text(context)))
        try:
            self.request(f"{_ENUMERATION}/Release", resource_uri, body, repeatable=True)
        except HypervError:
            return  # already gone (wire 2.1), or it will be soon: the host drops it by itself (wire 2.7)

    def request(self, action: str, resource_uri: str, body: Markup, *, selectors: Mapping[str, str] | None = None,
                options: Mapping[str, str] | None = None, repeatable: bool,
                before_send: Callable[[], None] | None = None, patience: float | None = None) -> Element:
        """Send one request, return the SOAP body of its answer. Raises a WsmanFault, ProtocolError, or what the lane raises.

        ``patience`` overrides the operation's time-out, in seconds. ``before_send`` is called just before the message leaves.
        """
        waits = iter(_BACK_OFF)
        while True:
            try:
                return self._once(action, resource_uri, body, selectors, options, repeatable=repeatable, before_send=before_send,
                                  patience=patience)
            except faults.TryLater:
                wait = next(waits, None)
                if wait is None:
                    raise
                self.clock.sleep(wait)

    def _once(self, action: str, resource_uri: str, body: Markup, selectors: Mapping[str, str] | None,
              options: Mapping[str, str] | None, *, repeatable: bool, before_send: Callable[[], None] | None,
              patience: float | None) -> Element:
        seconds = self.operation_timeout if patience is None else min(patience, self.operation_timeout)
        message_id = f"uuid:{str(uuid.uuid4()).upper()}"
        message = envelope.build(action, resource_uri, message_id, to=self._to, body=body, selectors=selectors, options=options,
                                 operation_timeout=seconds, locale=self.locale, max_envelope=self._max_envelope)
        if before_send is not None:
            before_send()
        answer = self.lane.send(message, Deadline(self.clock, seconds + ANSWER_MARGIN), repeatable=repeatable)
        self._received += len(answer)
        try:
            return _body_of(answer, message_id)
        except ProtocolError as error:
            self.lane.close()  # what else is on this connection belongs to nobody
            raise self._lost(error, repeatable) from error
        except faults.OperationTimedOut as error:
            if repeatable:
                raise
            raise OutcomeUnknown("The host did not finish a request in time and may go on with it.",
                                 hint="The host's state has to be read again before anything is repeated.") from error

    def _lost(self, error: ProtocolError, repeatable: bool) -> ProtocolError | OutcomeUnknown:
        if repeatable:
            return error
        return OutcomeUnknown(f"The answer cannot be understood, so the request may have taken effect: {error.message}",
                              details=error.details)


@dataclass(frozen=True)
class _Page:
    context: str | None
    items: tuple[Element, ...]
    complete: bool


def _enumerate_body(filter_: Filter | None, mode: Mode, max_elements: int) -> Markup:
    parts = [element("w:OptimizeEnumeration"), element("w:MaxElements", text(str(max_elements)))]
    if mode is not Mode.OBJECT:
        parts.append(element("w:EnumerationMode", text(mode.value)))
    if filter_ is not None:
        parts.append(element("w:Filter", filter_.content, Dialect=filter_.dialect))
    return element("n:Enumerate", *parts)


def _page(body: Element, name: Literal["EnumerateResponse", "PullResponse"]) -> _Page:
    """Items and EndOfSequence may be in either namespace, Items may be absent, the context may be empty (wire 2.1, 2.2)."""
    response = xml.child(body, name)
    if response is None:
        raise ProtocolError(f"The answer holds no {name}.")
    context = xml.child_text(response, "EnumerationContext") or None
    items = xml.child(response, "Items", xml.W, xml.N)
    complete = xml.child(response, "EndOfSequence", xml.W, xml.N) is not None or context is None
    return _Page(context, () if items is None else tuple(items), complete)


def _body_of(answer: bytes, message_id: str) -> Element:
    root = xml.parse(answer)
    body = xml.child(root, "Body")
    if xml.local_name(root.tag) != "Envelope" or body is None:
        raise ProtocolError("An answer is not a SOAP envelope.", details={"excerpt": xml.excerpt(answer)})
    header = xml.child(root, "Header")
    related = None if header is None else xml.child_text(header, "RelatesTo")
    if related and related.lower() != message_id.lower():
        raise ProtocolError("An answer belongs to another request.")
    fault = xml.child(body, "Fault")
    if fault is not None:
        raise faults.from_element(fault, answer)
    return body
