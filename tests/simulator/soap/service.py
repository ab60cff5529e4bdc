# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The WS-Management service of one host: takes a message, finds out what it asks, and answers with a result or a fault."""
from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from simulator.cim.model import Caller, CimError
from simulator.cim.repository import Repository
from simulator.clock import SimClock
from simulator.net.contract import DROP_BEFORE, RESET, SEND, Answer, Connection
from simulator.spec import HostSpec

from . import names
from .cim_operations import CimOperations, is_reading_method
from .config import format_config
from .counters import Counters
from .enumeration import Enumerations
from .envelope import (
    Identify,
    NotSoap,
    RefusedHeader,
    Request,
    decode,
    encode,
    format_answer,
    format_fault_answer,
    format_identify,
    parse_request,
)
from .faults import SoapFault, from_cim_error
from .rules import Effect, FaultRules, RequestView
from .shells import ProcessHost, Shells

OS_NUMBERS: Mapping[str, str] = {
    "2012R2": "6.3.9600", "2016": "10.0.14393", "2019": "10.0.17763", "2022": "10.0.20348", "2025": "10.0.26100"}
_SECURITY_PROFILES = ("http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/http/spnego-kerberos",)
_CIM_ACTIONS = {names.GET: "Get", names.PUT: "Put", names.CREATE: "Create", names.DELETE: "Delete", names.ENUMERATE: "Enumerate"}
_CONTEXT_ACTIONS = {names.PULL: "Pull", names.RELEASE: "Release"}
_SHELL_ACTIONS = {
    names.CREATE: "Shell Create", names.DELETE: "Shell Delete", names.GET: "Shell Get", names.ENUMERATE: "Shell Enumerate",
    names.SHELL_COMMAND: "Shell Command", names.SHELL_SEND: "Shell Send", names.SHELL_RECEIVE: "Shell Receive",
    names.SHELL_SIGNAL: "Shell Signal"}
_NOT_AT_CMD = ("Shell Get", "Shell Enumerate")
_WRITING = ("Put", "Create", "Delete")


class Host(Protocol):
    """What the service needs of its host."""

    spec: HostSpec
    clock: SimClock
    repository: Repository
    counters: Counters
    rules: FaultRules
    changes: int
    """Grows whenever something notes a change of the host's state."""
    bugs: list[BaseException]
    """Errors that are the simulator's own."""

    def settle(self) -> None:
        """Let everything happen that is due by now."""


@dataclass(frozen=True)
class Operation:
    """What a request asks. ``method`` only for Invoke."""

    name: str
    method: str = ""

    @property
    def writing(self) -> bool:
        """Whether it is meant to change the host."""
        return self.name in _WRITING or (bool(self.method) and not is_reading_method(self.method))


class WsmanService:
    """Implements :class:`simulator.net.contract.MessageHandler`."""

    def __init__(self, host: Host, processes: ProcessHost) -> None:
        spec = host.spec
        self._host = host
        self._limits = spec.limits
        self._draw = random.Random(f"{spec.name.lower()}/{spec.seed}")
        self.enumerations = Enumerations(
            host.clock, self._draw, timeout=spec.limits.enumeration_timeout_ms / 1000, quota=spec.limits.max_operations_per_user,
            max_batch=spec.limits.max_batch_items, split=spec.quirks.split_batches)
        self.shells = Shells(host.clock, processes, spec.limits, self._draw)
        self._cim = CimOperations(host.repository, self.enumerations, spec.quirks, self._draw)

    # -- the listener's side ---------------------------------------------------------------------------------------

    def identify(self, authenticated: bool) -> Answer:
        """Answer an Identify; the numbers of the system are for those who logged on (wire 1.3)."""
        self._host.counters.count("Identify", writing=False)
        number = OS_NUMBERS[self._host.spec.os_version] if authenticated else "0.0.0"
        profiles = _SECURITY_PROFILES if authenticated else ()
        return Answer(200, encode(format_identify(f"OS: {number} SP: 0.0 Stack: 3.0", profiles, self._host.spec.locale), "utf-8"))

    async def handle(self, connection: Connection, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Answer one message."""
        try:
            self._host.settle()
            return await self._handle(connection, body, headers.get("content-type", ""))
        except Exception as bug:
            self._host.bugs.append(bug)
            raise

    async def _handle(self, connection: Connection, body: bytes, content_type: str) -> Answer:
        try:
            document, charset = decode(body, content_type)
            message = parse_request(document)
        except NotSoap:
            return Answer(400)
        except RefusedHeader as refused:
            self._host.counters.count("Refused", writing=False)
            return self._fault_answer(refused.fault, refused.message_id, self._locale(refused.locale), "utf-8")
        if connection.caller is None:
            return Answer(401)
        if isinstance(message, Identify):
            return self.identify(True)
        operation = _operation(message)
        view = RequestView(operation.name, connection.caller, message, document)
        effect = self._host.rules.effect_for(view)
        if effect is None:
            return await self._carry_out(message, operation, connection, charset, self._locale(message.locale))
        return await self._with_effect(effect, message, operation, connection, charset)

    async def _with_effect(self, effect: Effect, request: Request, operation: Operation, connection: Connection, charset: str) -> Answer:
        """A request that a rule chose."""
        locale = effect.locale or self._locale(request.locale)
        if effect.before is not None:
            effect.before()
        if effect.expire_contexts:
            self.enumerations.expire_all()
        answer: Answer | None = None
        if effect.executed:
            answer = await self._carry_out(request, operation, connection, charset, locale)
        elif effect.transport not in (DROP_BEFORE, RESET):
            self._host.counters.count(operation.name, writing=False)
        if effect.fault is not None:
            answer = self._fault_answer(effect.fault, request.message_id, locale, charset)
        elif effect.status is not None:
            answer = Answer(effect.status, effect.body)
        assert answer is not None, f"effect {effect.name} has no answer"
        return Answer(answer.status, answer.body, answer.content_type, effect.transport)

    def restart(self) -> None:
        """The service has been stopped and started: its shells and enumeration contexts are gone."""
        self.shells.close_all()
        self.enumerations.expire_all()

    # -- one request -----------------------------------------------------------------------------------------------

    async def _carry_out(self, request: Request, operation: Operation, connection: Connection, charset: str, locale: str) -> Answer:
        changes = self._host.changes
        try:
            action, body = await self._execute(request, operation, connection)
            answer = self._answer(action, body, request, locale, charset)
        except SoapFault as fault:
            answer = self._fault_answer(fault, request.message_id, locale, charset)
        except CimError as error:
            answer = self._fault_answer(from_cim_error(error, ""), request.message_id, locale, charset)
        self._host.counters.count(operation.name, writing=operation.writing or self._host.changes != changes)
        return answer

    async def _execute(self, request: Request, operation: Operation, connection: Connection) -> tuple[str, str]:
        """Action and body of the answer."""
        caller = connection.caller
        assert caller is not None
        if not caller.may_use_winrm:
            raise SoapFault("access_denied")
        if operation.name.startswith("Shell "):
            return await self._shell(request, operation.name, caller, connection.peer)
        if operation.method:
            return self._cim.invoke(request, operation.method, caller)
        return self._simple(request, operation.name, caller)

    def _simple(self, request: Request, name: str, caller: Caller) -> tuple[str, str]:
        """Everything but shells and methods."""
        if name == "Config Get":
            if not caller.is_administrator:
                raise SoapFault("access_denied")
            return names.GET + "Response", format_config(self._limits, self._host.spec.listener, self._host.spec.locale)
        if name == "Get":
            return self._cim.get(request, caller)
        if name in ("Put", "Create"):
            return self._cim.put(request)
        if name == "Delete":
            return self._cim.delete(request, caller)
        if name == "Enumerate":
            return self._cim.enumerate(request, caller, max_bytes=self._max_bytes(request), others=self._shell_operations(caller))
        if name == "Pull":
            return self._cim.pull(request, caller, max_bytes=self._max_bytes(request))
        if name == "Release":
            return self._cim.release(request, caller)
        raise SoapFault("invalid_action" if _known_uri(request.resource_uri) else "invalid_resource_uri")

    async def _shell(self, request: Request, name: str, caller: Caller, peer: str) -> tuple[str, str]:
        """The shell operations (wire 7.1)."""
        at_cmd = request.resource_uri.lower() == names.SHELL_CMD
        if at_cmd == (name in _NOT_AT_CMD) and name != "Shell Delete":
            raise SoapFault("action_not_supported")
        if name == "Shell Enumerate":
            items = [self.shells.format(shell) for shell in self.shells.all_of(caller)]
            return self._cim.enumerate_texts(request, items, caller, max_bytes=self._max_bytes(request),
                                             others=self._shell_operations(caller))
        answer = request.action + "Response"
        if name == "Shell Create":
            return answer, self.shells.create(request, caller, peer)
        shell = self.shells.find(request, caller)
        if name == "Shell Get":
            return answer, self.shells.format(shell)
        if name == "Shell Command":
            return answer, self.shells.run(shell, request, self.enumerations.open_of(shell.owner))
        if name == "Shell Send":
            return answer, self.shells.send(shell, request)
        if name == "Shell Receive":
            body = await self.shells.receive(shell, request, seconds=self._seconds(request), max_bytes=self._max_bytes(request))
            return answer, body
        if name == "Shell Signal":
            return answer, self.shells.signal(shell, request)
        return answer, self.shells.delete(shell)

    # -- small things ----------------------------------------------------------------------------------------------

    def _seconds(self, request: Request) -> float:
        """The time an operation may take: what was asked, at most MaxTimeoutms (wire 1.2)."""
        limit = self._limits.max_timeout_ms / 1000
        return limit if request.timeout is None else min(limit, request.timeout)

    def _max_bytes(self, request: Request) -> int:
        limit = self._limits.max_envelope_kb * 1024
        return limit if request.max_envelope is None else min(limit, request.max_envelope)

    def _shell_operations(self, caller: Caller) -> int:
        return self.shells.operations_of(caller.account.display.lower())

    def _locale(self, asked: str | None) -> str:
        """The language of an answer: the host's own, or English when that was asked (wire 1.2)."""
        own = self._host.spec.locale
        return asked if asked is not None and (asked.lower() == own.lower() or asked.lower().startswith("en")) else own

    def _message_id(self) -> str:
        return "uuid:" + str(uuid.UUID(int=self._draw.getrandbits(128), version=4)).upper()

    def _answer(self, action: str, body: str, request: Request, locale: str, charset: str) -> Answer:
        spec = self._host.spec
        activity = None
        if spec.os_version != "2012R2" and self._draw.random() < spec.quirks.activity_id:
            activity = str(uuid.UUID(int=self._draw.getrandbits(128), version=4)).upper()
        envelope = format_answer(action, body, message_id=self._message_id(), relates_to=request.message_id, locale=locale,
                                 activity_id=activity)
        content = encode(envelope, charset)
        if len(content) > self._max_bytes(request):
            raise SoapFault("envelope_too_large")
        return _soap_answer(200, content, charset)

    def _fault_answer(self, fault: SoapFault, relates_to: str, locale: str, charset: str) -> Answer:
        machine = self._host.spec.fqdn if self._host.spec.quirks.machine_in_faults else ""
        envelope = format_fault_answer(fault, message_id=self._message_id(), relates_to=relates_to, locale=locale, machine=machine)
        return _soap_answer(500, encode(envelope, charset), charset)


def _soap_answer(status: int, content: bytes, charset: str) -> Answer:
    return Answer(status, content, f"application/soap+xml;charset={charset.upper()}", SEND)


def _known_uri(uri: str) -> bool:
    return uri.lower().startswith((names.CLASS_PREFIX, names.RSP, names.CFG))


def _operation(request: Request) -> Operation:
    """The name of what a request asks; ``Unknown`` when the service has no such thing."""
    action, uri = request.action, request.resource_uri
    if action in _CONTEXT_ACTIONS:
        return Operation(_CONTEXT_ACTIONS[action])
    if uri.lower() in (names.RSP, names.SHELL_CMD):
        return Operation(_SHELL_ACTIONS.get(action, "Unknown"))
    if uri.lower() == names.CFG:
        return Operation("Config Get" if action == names.GET else "Unknown")
    if action in _CIM_ACTIONS:
        return Operation(_CIM_ACTIONS[action])
    if uri.lower().startswith(names.CLASS_PREFIX) and action.lower().startswith(uri.lower() + "/"):
        method = action[len(uri) + 1:]
        return Operation(f"Invoke {uri.rpartition('/')[2]}.{method}", method)
    return Operation("Unknown")
