# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enumeration contexts: what is still to be delivered, in which pieces, and for how long (wire 2.1, 2.2, 2.7)."""
from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from simulator.cim.xmltext import text
from simulator.clock import SimClock

from .faults import SoapFault

ENVELOPE_RESERVE = 2048
"""Octets of an answer that are not items."""


@dataclass
class Context:
    """One open enumeration. ``pending`` yields items as XML text; ``ahead`` holds the one that did not fit before."""

    owner: str
    pending: Iterator[str]
    last_used: datetime
    started: bool = False
    ahead: list[str] = field(default_factory=list)

    def next_item(self) -> str | None:
        """The next item, None at the end."""
        return self.ahead.pop(0) if self.ahead else next(self.pending, None)

    def finished(self) -> bool:
        """True when nothing is left; looks one item ahead."""
        if not self.ahead:
            item = next(self.pending, None)
            if item is None:
                return True
            self.ahead.append(item)
        return False


@dataclass(frozen=True)
class Batch:
    """What one answer delivers. ``context`` is the identifier for the next Pull, None at the end of the sequence."""

    items: tuple[str, ...]
    context: str | None


class Enumerations:
    """The open enumerations of one host.

    ``timeout`` (seconds) is EnumerationTimeoutms: a context not used for that long is forgotten. ``quota`` is the number of operations
    that one user may have open (enumerations that were neither drained nor released count). ``split`` False delivers as much as fits.
    """

    def __init__(self, clock: SimClock, draw: random.Random, *, timeout: float, quota: int, max_batch: int, split: bool = True) -> None:
        self._clock = clock
        self._draw = draw
        self._timeout = timedelta(seconds=timeout)
        self._quota = quota
        self._max_batch = max_batch
        self._split = split
        self._contexts: dict[str, Context] = {}

    def open_of(self, owner: str) -> int:
        """How many contexts a user has open."""
        self._forget_old()
        return sum(1 for context in self._contexts.values() if context.owner == owner)

    def begin(self, owner: str, items: Iterable[str], *, others: int = 0, over_quota: Callable[[], SoapFault]) -> Context:
        """A new enumeration; raises what ``over_quota`` makes. ``others`` are operations of the user that are no enumerations."""
        if self.open_of(owner) + others >= self._quota:
            raise over_quota()
        return Context(owner, iter(items), self._clock.now())

    def deliver(self, context: Context, *, max_items: int, max_bytes: int) -> Batch:
        """The next piece, and the identifier under which the rest waits."""
        limit = self._piece(context, min(max_items, self._max_batch))
        room = max_bytes - ENVELOPE_RESERVE
        items: list[str] = []
        while len(items) < limit and not context.finished():
            item = context.next_item()
            if item is None:
                break
            room -= len(item.encode())
            if room < 0:
                context.ahead.insert(0, item)
                if not items:
                    raise SoapFault("envelope_too_large")
                break
            items.append(item)
        context.started = True
        return Batch(tuple(items), None if context.finished() else self._keep(context))

    def hold(self, context: Context) -> Batch:
        """A context from which nothing was delivered yet (an enumeration that was not optimised)."""
        return Batch((), self._keep(context))

    def take(self, identifier: str, owner: str) -> Context:
        """Remove and return a context; raises the InvalidEnumerationContext fault."""
        self._forget_old()
        context = self._contexts.get(_key(identifier))
        if context is None or context.owner != owner:
            raise SoapFault("invalid_enumeration_context")
        del self._contexts[_key(identifier)]
        return context

    def expire_all(self) -> None:
        """Forget every context, as a restart of the service does."""
        self._contexts.clear()

    def _piece(self, context: Context, wanted: int) -> int:
        """How many items at most: a real host cuts optimised answers in no foreseeable way, often after the first item."""
        if not self._split or wanted <= 1:
            return max(1, wanted)
        choice = self._draw.random()
        if not context.started:
            return 1 if choice < 0.5 else wanted
        return wanted if choice < 0.7 else self._draw.randint(1, min(wanted, 64))

    def _keep(self, context: Context) -> str:
        identifier = str(uuid.UUID(int=self._draw.getrandbits(128), version=4)).upper()
        context.last_used = self._clock.now()
        self._contexts[_key(identifier)] = context
        return identifier

    def _forget_old(self) -> None:
        now = self._clock.now()
        for identifier in [key for key, context in self._contexts.items() if now - context.last_used > self._timeout]:
            del self._contexts[identifier]


def _key(identifier: str) -> str:
    """The form under which a context is kept; a client may send it back with or without ``uuid:``."""
    return identifier.strip().lower().removeprefix("uuid:")


def format_enumerate(batch: Batch, *, optimised: bool) -> str:
    """The body of an EnumerateResponse. Its extras are in the wsman namespace (wire 2.2)."""
    context = f"uuid:{text(batch.context)}" if batch.context is not None else ""
    items = f"<w:Items>{''.join(batch.items)}</w:Items>" if optimised else ""
    end = "<w:EndOfSequence/>" if batch.context is None else ""
    return f"<n:EnumerateResponse><n:EnumerationContext>{context}</n:EnumerationContext>{items}{end}</n:EnumerateResponse>"


def format_pull(batch: Batch) -> str:
    """The body of a PullResponse. Its extras are in the enumeration namespace (wire 2.1)."""
    items = f"<n:Items>{''.join(batch.items)}</n:Items>"
    if batch.context is None:
        return f"<n:PullResponse>{items}<n:EndOfSequence/></n:PullResponse>"
    return f"<n:PullResponse><n:EnumerationContext>uuid:{text(batch.context)}</n:EnumerationContext>{items}</n:PullResponse>"


def wrap_item(instance: str | None, reference: str | None) -> str:
    """One item: an instance, an ``a:EndpointReference``, or both in ``w:Item`` (wire 2.3)."""
    if instance is None:
        return reference or ""
    return f"<w:Item>{instance}{reference}</w:Item>" if reference is not None else instance
