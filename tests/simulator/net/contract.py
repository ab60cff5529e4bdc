# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the listener and the layer above it (SOAP messages, accounts) promise each other."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from simulator.cim.model import Account, Caller

SOAP_CONTENT_TYPE = "application/soap+xml;charset=UTF-8"

SEND = "send"
DROP_BEFORE = "drop_before"
RESET = "reset"
ENDLESS = "endless"
SLOW = "slow"
TRUNCATE = "truncate"
GARBAGE_SEALED = "garbage_sealed"
UNAUTHORIZED = "unauthorized"
STALL = "stall"
TRANSPORTS = frozenset({SEND, DROP_BEFORE, RESET, ENDLESS, SLOW, TRUNCATE, GARBAGE_SEALED, UNAUTHORIZED, STALL})
"""How an answer leaves the host; see :class:`Answer`."""

SCHEMES = ("Negotiate", "Kerberos", "Basic", "CredSSP", "Certificate")


@dataclass
class Connection:
    """One TCP connection. Authentication belongs to it and to no other (wire 6.4)."""

    id: int
    peer: str
    """``address:port`` of the client."""
    tls: bool
    caller: Caller | None = None
    """Set once authenticated."""
    client_certificate: bytes | None = None
    """DER, when the client showed one that the listener trusts."""


@dataclass(frozen=True)
class Answer:
    """One answer of the layer above, in plain bytes; the listener seals it when the request was sealed.

    ``transport`` says how it leaves the host: *send* whole; *drop_before* close the connection without an answer; *reset* the same
    with an RST; *endless* a chunked body that never ends; *slow* one byte at a time, never finishing; *truncate* fewer bytes than
    ``Content-Length`` promises, then close; *garbage_sealed* an encrypted envelope that does not unseal; *unauthorized* 401, and
    the connection has to authenticate anew; *stall* nothing until the client gives up.
    """

    status: int
    body: bytes = b""
    content_type: str = SOAP_CONTENT_TYPE
    transport: str = SEND

    def __post_init__(self) -> None:
        if self.transport not in TRANSPORTS:
            raise ValueError(f"unknown transport {self.transport!r}")


class MessageHandler(Protocol):
    """The SOAP side of a host."""

    async def handle(self, connection: Connection, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Answer one message. ``body`` is the plain SOAP envelope, ``headers`` the HTTP headers with lower-case names."""

    def identify(self, authenticated: bool) -> Answer:
        """Answer an Identify that came without authentication (header ``WSMANIDENTIFY: unauthenticated``, wire 1.3)."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of an HTTPS listener.

    ``client_ca`` holds the certificates by which client certificates are trusted; without it none is asked for.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass
class ListenerSettings:
    """The WinRM service configuration of one host, as far as the listener needs it."""

    schemes: tuple[str, ...] = ("Negotiate", "Kerberos")
    """Of Negotiate, Kerberos, Basic, CredSSP, Certificate."""
    allow_unencrypted: bool = False
    idle_seconds: float = 120.0
    """Wall-clock seconds after which an idle connection is closed (wire 6.4)."""
    max_envelope_kb: int = 500
    tls: TlsFiles | None = None
    """When set the port speaks HTTPS."""
    cbt_hardening: str = "Relaxed"
    """None, Relaxed or Strict (wire 6.3)."""


class Directory(Protocol):
    """The accounts that a host knows: its own and those of its domain."""

    def authenticate_password(self, user: str, password: str) -> Account | None:
        """The account, when the password fits; ``user`` as the client wrote it (``name``, ``DOMAIN\\name``, ``name@realm``)."""

    def account(self, user: str, domain: str | None) -> Account | None:
        """The account of a finished NTLM or Kerberos log-on; ``domain`` is the NTLM domain or the Kerberos realm."""

    def by_certificate(self, subject: str) -> Account | None:
        """The local account that a client certificate is mapped to, by its user principal name or else its common name."""

    def log_on(self, account: Account, scheme: str, delegated: bool) -> Caller:
        """The token of a log-on, UAC filtering applied (wire 6.1); ``scheme`` as in :class:`Caller`."""

    def ntlm_credentials(self) -> list[tuple[str, str, str]]:
        """``(domain, user, password)`` of every account that may log on with NTLM; local accounts have domain ``""``."""
