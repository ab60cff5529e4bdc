# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on demand: rules that say which request of a host goes wrong, and how.

A rule is added to ``host.rules``; effects are made by the functions below::

    host.rules.add(lost_after(), operation="Invoke *.CreateSnapshot")
    host.rules.add(http_status(503), nth=4)
    host.rules.add(vanish(lambda: host.hyperv.remove_vm(guid)), operation="Pull", times=None)
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from simulator.cim.model import Caller
from simulator.net import contract

from .envelope import Request
from .faults import FAULTS, SoapFault


@dataclass(frozen=True)
class RequestView:
    """What a rule sees of a request. ``operation`` is spelled as in :class:`simulator.soap.counters.Counters`."""

    operation: str
    caller: Caller
    request: Request
    raw: str | bytes

    @property
    def document(self) -> str:
        """The whole envelope as text, for rules that look into the body."""
        return self.raw if isinstance(self.raw, str) else self.raw.decode("utf-8", errors="replace")


@dataclass(frozen=True)
class Effect:
    """What happens to a request.

    ``before`` runs first. ``executed`` says whether the host carries the request out; if not, ``fault`` or ``status`` is the answer.
    ``transport`` is how the answer leaves (:class:`simulator.net.contract.Answer`). ``locale`` forces the language of the answer.
    """

    name: str
    executed: bool = True
    before: Callable[[], None] | None = None
    expire_contexts: bool = False
    fault: SoapFault | None = None
    status: int | None = None
    body: bytes = b""
    transport: str = contract.SEND
    locale: str | None = None


def lost_before() -> Effect:
    """The connection breaks before the host did anything."""
    return Effect("lost_before", executed=False, status=500, transport=contract.RESET)


def lost_after(*, reset: bool = False) -> Effect:
    """The host carries the request out, but its answer never arrives."""
    return Effect("lost_after", transport=contract.RESET if reset else contract.DROP_BEFORE)


def unauthorized() -> Effect:
    """401: the connection has lost its authentication."""
    return Effect("unauthorized", executed=False, status=401, transport=contract.UNAUTHORIZED)


def fault(name: str, *, executed: bool = False, code: int | None = None) -> Effect:
    """A fault of :data:`simulator.soap.faults.FAULTS`, if need be with another code."""
    return Effect(f"fault {name}" if code is None else f"fault {name} {code}", executed=executed, fault=SoapFault(name, code=code))


def fault_code(code: int, *, executed: bool = False) -> Effect:
    """The fault with this WSManFault code; one that no row has is an InternalError with it."""
    name = next((key for key, kind in FAULTS.items() if kind.code == code), None)
    return fault(name, executed=executed) if name is not None else fault("internal_error", executed=executed, code=code)


def quota() -> Effect:
    """The operations of this user are used up."""
    return fault("quota_operations")


def timeout(*, executed: bool) -> Effect:
    """OperationTimeout passed; whether the provider went on nevertheless is what the client cannot know."""
    return fault("timed_out", executed=executed)


def access_denied() -> Effect:
    """Refused with code 5."""
    return fault("access_denied")


def http_status(status: int, *, executed: bool = False) -> Effect:
    """A bare HTTP status without a body: 400, 413, 500, 503 (wire 5.3)."""
    return Effect(f"http {status}", executed=executed, status=status)


def garbage(body: bytes = b"<html><body>Bad gateway</body></html>", *, status: int = 200, executed: bool = True) -> Effect:
    """An answer that is not SOAP."""
    return Effect("garbage", executed=executed, status=status, body=body)


def broken(transport: str, *, executed: bool = True) -> Effect:
    """An answer that leaves the host in another way: ``endless``, ``slow``, ``truncate``, ``stall``, ``garbage_sealed``."""
    return Effect(f"broken {transport}", executed=executed, transport=transport)


def in_language(locale: str) -> Effect:
    """The answer comes in another language than was asked for."""
    return Effect(f"in {locale}", locale=locale)


def vanish(before: Callable[[], None]) -> Effect:
    """Something happens on the host just before the request: a machine moves away, a service restarts."""
    return Effect("vanish", before=before)


def expire_contexts() -> Effect:
    """All enumeration contexts are gone."""
    return Effect("expire_contexts", expire_contexts=True)


@dataclass
class FaultRule:
    """One rule. ``seen`` counts the requests that fitted ``operation`` and ``when``; ``fired`` how often the rule took effect."""

    effect: Effect
    operation: str = "*"
    """Shell pattern over the name of the operation."""
    nth: int | None = None
    """Only the n-th fitting request since the rule was added (1 is the next one), and what follows as far as ``times`` goes."""
    when: Callable[[RequestView], bool] | None = None
    times: int | None = 1
    """None: always."""
    seen: int = 0
    fired: int = 0

    def fits(self, view: RequestView) -> bool:
        """Whether the rule takes effect on this request; counts it."""
        if not fnmatchcase(view.operation.lower(), self.operation.lower()) or (self.when is not None and not self.when(view)):
            return False
        self.seen += 1
        if self.nth is not None and self.seen < self.nth:
            return False
        if self.times is not None and self.fired >= self.times:
            return False
        self.fired += 1
        return True


@dataclass
class FaultRules:
    """The rules of one host; the first that fits decides. ``log`` names the operations of all requests in order, for harnesses."""

    rules: list[FaultRule] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    keep_log: bool = False

    def add(self, effect: Effect, operation: str = "*", *, nth: int | None = None, when: Callable[[RequestView], bool] | None = None,
            times: int | None = 1) -> FaultRule:
        """Add a rule and return it."""
        rule = FaultRule(effect, operation, nth, when, times)
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all rules."""
        self.rules.clear()

    def effect_for(self, view: RequestView) -> Effect | None:
        """What happens to a request, None when nothing does."""
        if self.keep_log:
            self.log.append(view.operation)
        return next((rule.effect for rule in self.rules if rule.fits(view)), None)
