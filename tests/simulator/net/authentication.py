# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Authentication of one TCP connection (wire 6.1, 6.4): it belongs to the socket, and a new socket starts over."""
from __future__ import annotations

import base64
import binascii
import logging
from dataclasses import dataclass
from typing import Protocol

from simulator.cim.model import Account
from simulator.net import encryption
from simulator.net.contract import Connection, Directory, ListenerSettings
from simulator.net.logon import BindingRule, Handshake, Identity, LogonRefused
from simulator.net.tls import certificate_subject

log = logging.getLogger(__name__)

CERTIFICATE_SCHEME = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
_CHALLENGES = {"Negotiate": "Negotiate", "Kerberos": "Kerberos", "Basic": 'Basic realm="WSMAN"', "CredSSP": "CredSSP"}
"""WWW-Authenticate of each scheme, in the order in which the service lists them; client certificates are not advertised."""


class Tally(Protocol):
    """The counters that the listener keeps; ``simulator.soap.counters.Counters`` has them and more."""

    auth_legs: int
    """Requests whose Authorization header was a step of a log-on, on a connection that was not logged on."""
    connections: int
    unauthorized: int
    """Answers 401 that left the client without a way on: challenges, and refusals."""
    logon_failures: int
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True)
class Verdict:
    """What the Authorization header of one request led to; ``headers`` go into the answer, whichever that is."""

    granted: bool
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Protection:
    """How messages on a connection may be sealed."""

    sealer: encryption.Sealer
    protocols: tuple[str, ...]
    padded: bool


class Authenticator:
    """The log-on state of one connection."""

    def __init__(self, connection: Connection, settings: ListenerSettings, directory: Directory, tally: Tally,
                 host_name: str, rule: BindingRule) -> None:
        self._connection = connection
        self._settings = settings
        self._directory = directory
        self._tally = tally
        self._host_name = host_name
        self._rule = rule
        self._handshake: Handshake | None = None
        self.protection: Protection | None = None

    def check(self, authorization: str | None) -> Verdict:
        """Judge one request by its Authorization header; a connection that is logged on needs none."""
        if authorization is None:
            if self._connection.caller is not None:
                return Verdict(True)
            return self.challenge()
        scheme, _unused, credentials = authorization.strip().partition(" ")
        known = {name.lower(): name for name in self._settings.schemes}
        if scheme.lower() == CERTIFICATE_SCHEME and "certificate" in known:
            return self._certificate()
        name = known.get(scheme.lower())
        if name == "Basic":
            return self._basic(credentials)
        if name is not None and name in Handshake.PROTECTION:
            return self._token(name, credentials)
        return self._refuse("the scheme is not offered")

    def challenge(self) -> Verdict:
        """The list of schemes; whatever the connection had is forgotten."""
        self.forget()
        self._tally.unauthorized += 1
        offered = [_CHALLENGES[name] for name in _CHALLENGES if name in self._settings.schemes]
        return Verdict(False, tuple(("WWW-Authenticate", value) for value in offered))

    def forget(self) -> None:
        """The connection has to log on anew."""
        self._handshake = None
        self.protection = None
        self._connection.caller = None

    def _refuse(self, reason: str, scheme: str | None = None, token: bytes | None = None) -> Verdict:
        log.debug("%s: log-on from %s refused: %s", self._host_name, self._connection.peer, reason)
        self._tally.logon_failures += 1
        verdict = self.challenge()
        if scheme is None or token is None:
            return verdict
        return Verdict(False, tuple((name, _with_token(value, token) if value == scheme else value) for name, value in verdict.headers))

    def _token(self, scheme: str, credentials: str) -> Verdict:
        self._tally.auth_legs += 1
        try:
            token = base64.b64decode(credentials.strip(), validate=True)
        except binascii.Error:
            return self._refuse("the token is not base64")
        if not token:
            return self._refuse("the token is empty")
        if self._connection.caller is not None:
            self.forget()  # a client that logs on again gets a new context; what it sealed before cannot be unsealed any more
        if self._handshake is None or self._handshake.scheme != scheme:
            self._handshake = Handshake(scheme, self._directory, self._host_name, self._rule)
        handshake = self._handshake
        try:
            answer, identity = handshake.step(token)
        except LogonRefused as refused:
            return self._refuse(str(refused), scheme, refused.token)
        headers = (("WWW-Authenticate", _with_token(scheme, answer)),) if answer is not None else ()
        if identity is None:
            return Verdict(False, headers)
        self._handshake = None
        self._accept(identity)
        self.protection = Protection(handshake.sealer, Handshake.PROTECTION[scheme], handshake.padded)
        return Verdict(True, headers)

    def _count_leg(self) -> None:
        if self._connection.caller is None:  # Basic and certificates repeat their header in every request
            self._tally.auth_legs += 1

    def _basic(self, credentials: str) -> Verdict:
        self._count_leg()
        try:
            raw = base64.b64decode(credentials.strip(), validate=True)
        except binascii.Error:
            return self._refuse("the credentials are not base64")
        for encoding in ("utf-8", "latin-1"):  # clients differ; the second never fails
            try:
                user, _unused, password = raw.decode(encoding).partition(":")
                break
            except UnicodeDecodeError:
                continue
        account = self._directory.authenticate_password(user, password)
        return self._local(account, "basic")

    def _certificate(self) -> Verdict:
        self._count_leg()
        der = self._connection.client_certificate
        if der is None:
            return self._refuse("no client certificate")
        try:
            subject = certificate_subject(der)
        except ValueError:
            subject = None
        return self._local(self._directory.by_certificate(subject) if subject else None, "certificate")

    def _local(self, account: Account | None, scheme: str) -> Verdict:
        """Basic and certificates are for local accounts only (wire 6.1), and seal nothing."""
        if account is None or account.domain:
            return self._refuse("no such local account")
        self.forget()
        self._accept(Identity(account=account, scheme=scheme, delegated=False))
        return Verdict(True)

    def _accept(self, identity: Identity) -> None:
        self._connection.caller = self._directory.log_on(identity.account, identity.scheme, identity.delegated)


def _with_token(scheme: str, token: bytes) -> str:
    text = base64.b64encode(token).decode("ascii")
    return f"{scheme} {text}" if text else scheme
