# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The WinRM listener of one host: HTTP or HTTPS, log-on by connection, sealed messages, and answers that go wrong on demand.

Hundreds of listeners share one asyncio loop. A listener takes one request at a time from each connection, as HTTP/1.1 wants it.
"""
from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from simulator.net import encryption, tls
from simulator.net.authentication import Authenticator, Tally, Verdict
from simulator.net.contract import UNAUTHORIZED, Answer, Connection, Directory, ListenerSettings, MessageHandler
from simulator.net.delivery import Delivery, Wire
from simulator.net.http import MAX_BODY, MAX_HEAD, BadRequest, Head, format_head, read_head
from simulator.net.logon import BindingRule, credssp_tls
from simulator.net.ntlm import credential_file

log = logging.getLogger(__name__)

_PATHS = ("/wsman", "/wsman/")
_IDENTITY_NAMESPACE = b"http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
_BACKLOG = 64
_TLS_HANDSHAKE_SECONDS = 10.0
_CLOSE_SECONDS = 2.0

_Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Message:
    """A request's plain body, and the protection name of its seal (None: it came in plain)."""

    body: bytes
    content_type: str
    protocol: str | None


class WinrmListener:
    """One listening port of one host.

    ``counters`` needs the attributes of :class:`simulator.net.authentication.Tally`. ``host_name`` decides which names of local accounts
    are taken as the host's own. All methods belong to one event loop.
    """

    def __init__(self, settings: ListenerSettings, directory: Directory, handler: MessageHandler, counters: Tally, host_name: str) -> None:
        self.settings = settings
        self.directory = directory
        self.handler = handler
        self.counters = counters
        self.host_name = host_name
        self.lost = False
        """Nobody is answered: connections end as soon as they are made."""
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(1)
        self._rule = BindingRule()

    async def start(self, address: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port. Raises OSError when the port is taken or a TLS file cannot be read."""
        credential_file()
        context: ssl.SSLContext | None = None
        if self.settings.tls is not None:
            context = tls.server_context(self.settings.tls)
            self._rule = BindingRule(tls.channel_bindings(self.settings.tls), self.settings.cbt_hardening)
        if "CredSSP" in self.settings.schemes:
            await asyncio.to_thread(credssp_tls)
        self._server = await asyncio.start_server(
            self._accept, address, port, limit=MAX_HEAD, ssl=context, backlog=_BACKLOG,
            ssl_handshake_timeout=_TLS_HANDSHAKE_SECONDS if context else None)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and cut every connection, whatever it is in the middle of."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    async def cut(self) -> None:
        """Cut every connection, whatever it is in the middle of."""
        sessions = list(self._sessions)
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.lost:
            writer.transport.abort()
            return
        session = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._sessions.add(session)
        session.add_done_callback(self._ended)

    def _ended(self, session: asyncio.Task[None]) -> None:
        self._sessions.discard(session)
        if not session.cancelled() and (error := session.exception()) is not None:
            session.get_loop().call_exception_handler({"message": f"{self.host_name}: a connection failed", "exception": error})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _Session(self, reader, writer, next(self._ids), self._rule).run()
            writer.close()
            async with asyncio.timeout(_CLOSE_SECONDS):
                await writer.wait_closed()
        except (OSError, TimeoutError) as error:
            log.debug("%s: a client went away: %s", self.host_name, error)
        finally:
            writer.transport.abort()  # nothing is left to do after an orderly close


class _Session:
    """One TCP connection from its first to its last request."""

    def __init__(self, listener: WinrmListener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int,
                 rule: BindingRule) -> None:
        self._settings = listener.settings
        self._handler = listener.handler
        self._tally = listener.counters
        self._reader = reader
        self._writer = writer
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secured = writer.get_extra_info("ssl_object")
        host, port = writer.get_extra_info("peername")[:2]
        self._connection = Connection(id=number, peer=f"{host}:{port}", tls=secured is not None,
                                      client_certificate=secured.getpeercert(True) if secured is not None else None)
        self._authenticator = Authenticator(self._connection, listener.settings, listener.directory, listener.counters,
                                            listener.host_name, rule)
        self._wire = Wire(reader, writer, self._count_out)
        self._delivery = Delivery(self._wire)
        self._tally.connections += 1

    def _count_out(self, size: int) -> None:
        self._tally.bytes_out += size

    async def run(self) -> None:
        """Serve requests until either side closes."""
        while True:
            try:
                async with asyncio.timeout(self._settings.idle_seconds):
                    head = await read_head(self._reader)
                    if head is None:
                        return
                    body = await self._body(head)
            except TimeoutError:
                return  # an idle client, or one that stopped in the middle of a request
            except asyncio.IncompleteReadError:
                return
            except BadRequest as bad:
                await self._wire.send(format_head(bad.status, length=0, close=True))
                await self._let_client_read()
                return
            if not await self._answer(head, body) or not head.persistent:
                return

    async def _let_client_read(self) -> None:
        """Closing with unread bytes would reset the connection before the client has read its answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._wire.until_client_leaves()

    async def _body(self, head: Head) -> bytes:
        length = head.content_length
        if length is None:
            if head.method == "POST":
                raise BadRequest(411, "no Content-Length")
            length = 0
        if length > MAX_BODY:
            raise BadRequest(413, "far too large")
        if head.headers.get("expect", "").lower() == "100-continue":
            await self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await self._reader.readexactly(length)
        self._tally.bytes_in += length
        return body

    async def _answer(self, head: Head, body: bytes) -> bool:
        """Answer one request; False when the connection is over."""
        if head.path.lower() not in _PATHS:
            return await self._plain(404)
        if head.method != "POST":
            return await self._plain(405, (("Allow", "POST"),))
        authorization = head.headers.get("authorization")
        if authorization is None and self._is_identify(head, body):
            return await self._delivery.deliver(self._handler.identify(False), None)
        verdict = self._authenticator.check(authorization)
        if not verdict.granted:
            # A first request that carries a message is answered without reading on, which ends the connection (wire 5.3, "often").
            return await self._plain(401, verdict.headers, close=authorization is None and bool(body))
        if not body:
            return await self._plain(200, verdict.headers)
        return await self._message(head, body, verdict)

    def _is_identify(self, head: Head, body: bytes) -> bool:
        return (head.headers.get("wsmanidentify", "").lower() == "unauthenticated" and self._connection.caller is None
                and _IDENTITY_NAMESPACE in body)

    async def _message(self, head: Head, body: bytes, verdict: Verdict) -> bool:
        try:
            message = self._open(head, body)
        except _Refused as refused:
            return await self._plain(refused.status, verdict.headers)
        if len(message.body) > self._settings.max_envelope_kb * 1024:
            return await self._plain(413, verdict.headers)
        headers: Mapping[str, str] = {**head.headers, "content-type": message.content_type}
        answer = await self._handler.handle(self._connection, message.body, headers)
        if answer.transport == UNAUTHORIZED:
            return await self._plain(401, self._authenticator.challenge().headers)
        return await self._delivery.deliver(answer, self._seal(answer, message.protocol), verdict.headers)

    def _open(self, head: Head, body: bytes) -> _Message:
        """The plain message. Raises :class:`_Refused` with the status that goes out with an empty body (wire 5.3)."""
        content_type = head.headers.get("content-type", "")
        try:
            envelope = encryption.parse_content_type(content_type)
            if envelope is None:
                if not self._connection.tls and not self._settings.allow_unencrypted:
                    raise _Refused(500)
                return _Message(body, content_type, None)
            protection = self._authenticator.protection
            if protection is None or envelope.protocol not in protection.protocols:
                raise _Refused(400)
            plain, original = encryption.unseal(protection.sealer, envelope, body, padded=protection.padded)
            return _Message(plain, original, envelope.protocol)
        except encryption.UNSEAL_ERRORS as error:
            log.debug("a message that does not unseal: %s", error)
            raise _Refused(400) from error

    def _seal(self, answer: Answer, protocol: str | None) -> tuple[str, bytes] | None:
        protection = self._authenticator.protection
        if protocol is None or protection is None or not answer.body:
            return None
        return encryption.seal(protection.sealer, protocol, answer.body, answer.content_type)

    async def _plain(self, status: int, headers: _Headers = (), *, close: bool = False) -> bool:
        await self._wire.send(format_head(status, headers, length=0, close=close))
        return not close


class _Refused(Exception):
    """A message that is answered with an HTTP status and no body."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
