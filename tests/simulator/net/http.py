# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of HTTP/1.1 as the WinRM service speaks; strict about what it reads, exact in what it writes (wire 1.2, 5.3, 6.1)."""
from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate

MAX_HEAD = 48 * 1024
"""Bytes of request line and headers; a Kerberos or CredSSP token fits well."""
MAX_BODY = 16 * 1024 * 1024
"""Bytes that are read of one request, to be answered in an orderly way though it is over the envelope limit."""
SERVER = "Microsoft-HTTPAPI/2.0"

_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) (\S{1,2048}) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")


class BadRequest(Exception):
    """The bytes are no request that can be answered; ``status`` is sent with an empty body and the connection closed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Head:
    """Request line and headers. Header names in lower case; repeated ones joined with a comma."""

    method: str
    path: str
    """Without the query."""
    persistent: bool
    """The client means to send more on this connection."""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content_length(self) -> int | None:
        """Bytes of the body; None when the client did not say. Raises :class:`BadRequest` for a wrong or missing form."""
        if "transfer-encoding" in self.headers:
            # Windows reads chunked bodies and then refuses them for shells (wire 1.2); nobody here needs the distinction.
            raise BadRequest(411, "chunked bodies are refused")
        text = self.headers.get("content-length")
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,15}", text):
            raise BadRequest(400, "Content-Length is no number")
        return int(text)


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next request's head; None when the client closed the connection. Raises :class:`BadRequest`."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest(400, "the request's head is too long") from error
    return parse_head(raw)


def parse_head(raw: bytes) -> Head:
    """Parse request line and headers up to and with the empty line. Raises :class:`BadRequest`."""
    if len(raw) > MAX_HEAD:
        raise BadRequest(400, "the request's head is too long")
    first, *lines = raw[:-4].split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(first)
    if request is None:
        raise BadRequest(400, "no request line")
    headers: dict[str, str] = {}
    for line in lines:
        parsed = _FIELD.fullmatch(line)
        if parsed is None:
            raise BadRequest(400, "a malformed header")
        name, value = parsed.group(1).decode("ascii").lower(), parsed.group(2).decode("latin-1")
        if name in headers and name in ("content-length", "transfer-encoding", "authorization"):
            raise BadRequest(400, f"{name} is given twice")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    wanted = headers.get("connection", "").lower()
    persistent = "keep-alive" in wanted if request.group(3) == b"0" else "close" not in wanted
    return Head(method=request.group(1).decode("ascii"), path=request.group(2).decode("latin-1").partition("?")[0],
                persistent=persistent, headers=headers)


def format_head(status: int, headers: Iterable[tuple[str, str]] = (), *, length: int | None, close: bool = False) -> bytes:
    """Status line (with the empty reason phrase of the service) and headers. ``length`` None: a chunked body follows."""
    lines = [f"HTTP/1.1 {status} "]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"Server: {SERVER}", f"Date: {formatdate(usegmt=True)}"]
    if close:
        lines.append("Connection: close")
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
