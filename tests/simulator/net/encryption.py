# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sealed messages over plain HTTP: the ``multipart/encrypted`` form of wire 6.2, both ways."""
from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache
from typing import Protocol

from spnego.exceptions import SpnegoError

SPNEGO = "application/HTTP-SPNEGO-session-encrypted"
KERBEROS = "application/HTTP-Kerberos-session-encrypted"
CREDSSP = "application/HTTP-CredSSP-session-encrypted"

BOUNDARY = "Encrypted Boundary"
CREDSSP_CHUNK = 16384
"""A TLS record carries at most this much (wire 6.2)."""
_ONE_PART = "multipart/encrypted"
_MANY_PARTS = "multipart/x-multi-encrypted"
_KERBEROS_PADDING = 8
"""pypsrp adds the padding of old ciphers to ``Length``; their block is at most this long."""
_HEADER_LENGTH = struct.Struct("<I")
_MAX_PART_HEADERS = 1024


class Sealer(Protocol):
    """The part of an authentication context that protects messages (pyspnego's contexts have it)."""

    def wrap_winrm(self, data: bytes) -> tuple[bytes, bytes, int]:
        """Encryption header, sealed bytes and the length of the padding."""

    def unwrap_winrm(self, header: bytes, data: bytes) -> bytes:
        """The plain bytes; raises when they were not sealed for this context, or not as its next message."""


class NotSealed(ValueError):
    """The body is no sealed message; the service answers 400 with an empty body (wire 5.3)."""


UNSEAL_ERRORS = (NotSealed, SpnegoError)
"""What :func:`unseal` raises, with pyspnego's contexts as sealers."""


@dataclass(frozen=True)
class Envelope:
    """How a message was sealed, as its HTTP content type says."""

    protocol: str
    boundary: str
    multi: bool


@dataclass(frozen=True)
class _Part:
    header: bytes
    data: bytes
    length: int
    content_type: str


@lru_cache(maxsize=64)
def parse_content_type(value: str) -> Envelope | None:
    """The envelope that a Content-Type header announces; None for a plain message. Raises :class:`NotSealed` for an unusable one."""
    message = Message()
    message["Content-Type"] = value
    kind = message.get_content_type()
    if kind not in (_ONE_PART, _MANY_PARTS):
        return None
    protocol, boundary = message.get_param("protocol"), message.get_param("boundary")
    if not isinstance(protocol, str) or not isinstance(boundary, str) or not boundary:
        raise NotSealed("protocol and boundary are needed")
    known = {name.lower(): name for name in (SPNEGO, KERBEROS, CREDSSP)}
    if protocol.lower() not in known:
        raise NotSealed(f"unknown protection {protocol!r}")
    return Envelope(protocol=known[protocol.lower()], boundary=boundary, multi=kind == _MANY_PARTS)


def unseal(sealer: Sealer, envelope: Envelope, body: bytes, *, padded: bool = False) -> tuple[bytes, str]:
    """The plain message and its own content type. ``padded``: ``Length`` may include padding (Kerberos with old ciphers).

    Raises :class:`NotSealed` for anything that is not the form of wire 6.2, and whatever the sealer raises for bytes that do not unseal.
    """
    parts = _split(envelope, body)
    if len(parts) > 1 and not envelope.multi:
        raise NotSealed("more than one part")
    plain = []
    for part in parts:
        text = sealer.unwrap_winrm(part.header, part.data)
        excess = part.length - len(text)
        if excess and not (padded and 0 < excess <= _KERBEROS_PADDING):
            raise NotSealed(f"{len(text)} bytes where {part.length} were announced")
        plain.append(text)
    return b"".join(plain), parts[0].content_type


def seal(sealer: Sealer, protocol: str, plain: bytes, content_type: str) -> tuple[str, bytes]:
    """The HTTP content type and body of a sealed message; CredSSP splits at 16 KiB (wire 6.2)."""
    chunks = [plain]
    kind = _ONE_PART
    if protocol == CREDSSP and len(plain) > CREDSSP_CHUNK:
        chunks = [plain[start:start + CREDSSP_CHUNK] for start in range(0, len(plain), CREDSSP_CHUNK)]
        kind = _MANY_PARTS
    media, _unused, charset = content_type.partition(";")
    original = f"{media.strip()};{charset.strip() or 'charset=UTF-8'}"
    body = bytearray()
    for chunk in chunks:
        header, data, _padding = sealer.wrap_winrm(chunk)
        body += (f"--{BOUNDARY}\r\n"
                 f"\tContent-Type: {protocol}\r\n"
                 f"\tOriginalContent: type={original};Length={len(chunk)}\r\n"
                 f"--{BOUNDARY}\r\n"
                 f"\tContent-Type: application/octet-stream\r\n").encode("ascii")
        body += _HEADER_LENGTH.pack(len(header)) + header + data
    body += f"--{BOUNDARY}--\r\n".encode("ascii")
    return f'{kind};protocol="{protocol}";boundary="{BOUNDARY}"', bytes(body)


def spoil(body: bytes) -> bytes:
    """A sealed body of the same form and length whose protected bytes were tampered with."""
    marker = b"application/octet-stream\r\n"
    start = body.index(marker) + len(marker) + _HEADER_LENGTH.size
    end = body.rindex(b"--" + BOUNDARY.encode("ascii") + b"--")
    return body[:start] + bytes(byte ^ 0x5A for byte in body[start:end]) + body[end:]


class _Pretence:
    """Takes the place of a context where there is none."""

    def wrap_winrm(self, data: bytes) -> tuple[bytes, bytes, int]:
        return bytes(16), data, 0

    def unwrap_winrm(self, header: bytes, data: bytes) -> bytes:
        del header
        return data


def imitation(plain: bytes) -> tuple[str, bytes]:
    """Content type and body of a message that looks sealed, though nothing ever sealed it."""
    content_type, body = seal(_Pretence(), SPNEGO, plain or b" ", "application/soap+xml")
    return content_type, spoil(body)


def _split(envelope: Envelope, body: bytes) -> list[_Part]:
    # Sealed bytes may look like anything, also like a boundary: each part is therefore read by its declared lengths, and a boundary is
    # only looked for behind them. A boundary may be written "-- Encrypted Boundary", and part headers may lack the TAB (wire 6.2).
    marker = re.compile(rb"--[ ]?" + re.escape(envelope.boundary.encode("latin-1")) + rb"(--)?\r\n")
    parts: list[_Part] = []
    found = marker.match(body)
    while found and not found.group(1):
        opening, position = _part_headers(body, found.end(), marker)
        protocol = opening.get("content-type", "")
        if protocol.lower() != envelope.protocol.lower():
            raise NotSealed("the part names another protection than the message")
        length, content_type = _original(opening.get("originalcontent", ""))
        second = marker.match(body, position)
        if second is None or second.group(1):
            raise NotSealed("a part without its sealed half")
        sealed, position = _sealed_headers(body, second.end())
        if sealed != "application/octet-stream" or position + _HEADER_LENGTH.size > len(body):
            raise NotSealed("the sealed half is not an octet stream")
        header_length = _HEADER_LENGTH.unpack_from(body, position)[0]
        start = position + _HEADER_LENGTH.size
        shortest = start + header_length + max(0, length - _KERBEROS_PADDING)
        found = marker.search(body, shortest) if shortest <= len(body) else None
        if found is None:
            raise NotSealed("the sealed half has no end")
        parts.append(_Part(header=body[start:start + header_length], data=body[start + header_length:found.start()],
                           length=length, content_type=content_type))
    if found is None or not parts or found.end() != len(body):
        raise NotSealed("the message does not begin or end with a boundary")
    return parts


def _part_headers(body: bytes, start: int, marker: re.Pattern[bytes]) -> tuple[dict[str, str], int]:
    following = marker.search(body, start, start + _MAX_PART_HEADERS)
    if following is None:
        raise NotSealed("the part headers have no end")
    headers = {}
    for line in body[start:following.start()].decode("latin-1").split("\r\n"):
        name, colon, value = line.strip().partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return headers, following.start()


def _sealed_headers(body: bytes, start: int) -> tuple[str, int]:
    end = body.find(b"\r\n", start, start + _MAX_PART_HEADERS)
    name, colon, value = body[start:max(start, end)].decode("latin-1").strip().partition(":")
    if end < 0 or not colon or name.strip().lower() != "content-type":
        raise NotSealed("the sealed half has no content type")
    return value.strip().lower(), end + 2


def _original(value: str) -> tuple[int, str]:
    """Length of the plain text and its content type, of ``type=application/soap+xml;charset=UTF-8;Length=123``."""
    fields = {}
    for entry in value.split(";"):
        name, _unused, content = entry.partition("=")
        fields[name.strip().lower()] = content.strip()
    length = fields.get("length", "")
    if not re.fullmatch(r"[0-9]{1,9}", length) or not fields.get("type"):
        raise NotSealed("OriginalContent needs a type and a Length")
    charset = fields.get("charset", "UTF-8")
    return int(length), f"{fields['type']};charset={charset}"
