# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How answers leave the host: whole, or broken in one of the ways of :class:`simulator.net.contract.Answer`."""
from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping

from simulator.net import encryption
from simulator.net.contract import DROP_BEFORE, ENDLESS, GARBAGE_SEALED, RESET, SEND, SLOW, STALL, TRUNCATE, Answer
from simulator.net.http import format_head

SLOW_SECONDS = 0.1
"""Between two bytes of a slow answer."""
ENDLESS_SECONDS = 0.01
"""Between two pieces of an endless answer, so that it does not take the whole machine."""
ENDLESS_PIECE = 256 * 1024
_LINGER_RESET = struct.pack("ii", 1, 0)

_Headers = tuple[tuple[str, str], ...]


class Wire:
    """The two directions of one connection; one buffered write for each send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: Callable[[int], None]) -> None:
        self._reader = reader
        self._writer = writer
        self._count = count

    async def send(self, data: bytes) -> None:
        """Write ``data`` in one piece. Raises ConnectionError when the client is gone."""
        self._count(len(data))
        self._writer.write(data)
        await self._writer.drain()

    async def until_client_leaves(self) -> None:
        """Return when the client closes its side; whatever it sends before is thrown away."""
        while await self._reader.read(ENDLESS_PIECE):
            pass

    def reset(self) -> None:
        """Close with an RST."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self._writer.transport.abort()


class Delivery:
    """Carries out ``Answer.transport``. Each way returns whether the connection goes on; none needs the client's help to end."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._ways: Mapping[str, Callable[[int, _Headers, bytes], Awaitable[bool]]] = {
            SEND: self._send, DROP_BEFORE: self._drop, RESET: self._reset, ENDLESS: self._endless, SLOW: self._slow,
            TRUNCATE: self._truncate, GARBAGE_SEALED: self._send, STALL: self._stall,
        }

    async def deliver(self, answer: Answer, sealed: tuple[str, bytes] | None, headers: _Headers = ()) -> bool:
        """Send ``answer``; ``sealed`` is the content type and body that take the place of its own. False: the connection is over."""
        content_type, body = sealed if sealed is not None else (answer.content_type, answer.body)
        if answer.transport == GARBAGE_SEALED:
            content_type, body = self._garbage(sealed, answer)
        if body:
            headers = (("Content-Type", content_type), *headers)
        return await self._ways[answer.transport](answer.status, headers, body)

    @staticmethod
    def _garbage(sealed: tuple[str, bytes] | None, answer: Answer) -> tuple[str, bytes]:
        if sealed is not None:
            return sealed[0], encryption.spoil(sealed[1])
        return encryption.imitation(answer.body)

    async def _send(self, status: int, headers: _Headers, body: bytes) -> bool:
        await self._wire.send(format_head(status, headers, length=len(body)) + body)
        return True

    async def _drop(self, _status: int, _headers: _Headers, _body: bytes) -> bool:
        return False

    async def _reset(self, _status: int, _headers: _Headers, _body: bytes) -> bool:
        self._wire.reset()
        return False

    async def _truncate(self, status: int, headers: _Headers, body: bytes) -> bool:
        await self._wire.send(format_head(status, headers, length=max(1, len(body))) + body[:len(body) // 2])
        return False

    async def _stall(self, _status: int, _headers: _Headers, _body: bytes) -> bool:
        await self._wire.until_client_leaves()
        return False

    async def _slow(self, status: int, headers: _Headers, body: bytes) -> bool:
        await self._wire.send(format_head(status, headers, length=max(1, len(body))))
        for position in range(len(body) - 1):
            await self._wire.send(body[position:position + 1])
            await asyncio.sleep(SLOW_SECONDS)
        return await self._stall(status, headers, body)

    async def _endless(self, status: int, headers: _Headers, body: bytes) -> bool:
        await self._wire.send(format_head(status, headers, length=None) + _chunk(body))
        filler = _chunk(b" " * ENDLESS_PIECE)
        while True:
            await self._wire.send(filler)
            await asyncio.sleep(ENDLESS_SECONDS)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""
