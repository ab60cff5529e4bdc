# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The handshakes that take several tokens: Negotiate, Kerberos and CredSSP, each for one TCP connection (wire 6.1)."""
from __future__ import annotations

import functools
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spnego
import spnego.tls
from spnego import ContextProxy
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from simulator.cim.model import Account
from simulator.net import encryption, ntlm
from simulator.net.contract import Directory

_CHANNEL_BOUND = 2048
"""GSS_C_CHANNEL_BOUND_FLAG of MIT Kerberos 1.19 and later: the initiator sent bindings and they fit."""
_PARSER_ERRORS = (struct.error, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, StopIteration)
"""What pyspnego's parsers raise for bytes that are no token, beside its own error and ValueError."""


def _step(context: ContextProxy, token: bytes, bindings: GssChannelBindings | None = None) -> bytes | None:
    """One step of pyspnego's acceptor. Raises SpnegoError, or ValueError for what is no token at all."""
    try:
        return context.step(token, channel_bindings=bindings)
    except _PARSER_ERRORS as error:
        raise ValueError(f"not a token: {error!r}") from error


class LogonRefused(Exception):
    """The handshake failed; ``token`` is an error token for the client, if the scheme has one."""

    def __init__(self, reason: str, token: bytes | None = None) -> None:
        super().__init__(reason)
        self.token = token


@dataclass(frozen=True)
class Identity:
    """Who logged on, once the handshake is complete."""

    account: Account
    scheme: str
    """ntlm, kerberos or credssp."""
    delegated: bool


@dataclass(frozen=True)
class BindingRule:
    """Channel bindings of the listener's TLS certificate and how they are insisted on; ``bindings`` None over plain HTTP."""

    bindings: GssChannelBindings | None = None
    hardening: str = "Relaxed"

    @property
    def active(self) -> GssChannelBindings | None:
        """What to compare with; None when the host ignores bindings."""
        return None if self.hardening == "None" else self.bindings

    @property
    def required(self) -> bool:
        """A log-on without bindings is refused."""
        return self.hardening == "Strict" and self.bindings is not None


class NegotiateContext:
    """SPNEGO, raw NTLM or raw Kerberos: pyspnego's acceptor, given the accounts and the channel bindings of one host.

    It has the methods that pyspnego's CredSSP acceptor expects of an inner context.
    """

    def __init__(self, directory: Directory, host_name: str, rule: BindingRule) -> None:
        self._directory = directory
        self._host_name = host_name
        self._rule = rule
        self._match: ntlm.Match | None = None
        self._inner = spnego.server(hostname=host_name, service="HTTP", protocol="negotiate",
                                    options=spnego.NegotiateOptions.wrapping_winrm)

    @property
    def complete(self) -> bool:
        """The handshake is over."""
        return self._inner.complete

    @property
    def negotiated_protocol(self) -> str | None:
        """``ntlm`` or ``kerberos``."""
        return self._inner.negotiated_protocol

    @property
    def client_principal(self) -> str | None:
        """The name that was proved, in the form of the protocol."""
        return self._inner.client_principal

    def step(self, in_token: bytes | None = None) -> bytes | None:
        """Take one token and return the next. Raises SpnegoError or ValueError."""
        token = in_token or b""
        bindings, line = self._rule.active, ""
        logon = ntlm.find_logon(token)
        if logon is not None:
            if self._rule.required and not logon.has_bindings:
                raise ValueError("channel bindings are required")
            # pyspnego's NTLM acceptor requires the bindings that it is given, so they are only given when the client sent some.
            bindings = bindings if logon.has_bindings else None
            self._match = ntlm.match_account(logon, self._directory.ntlm_credentials(), self._host_name)
            line = ntlm.credential_line(logon, self._match)
        result = ntlm.credential_file().while_holding(line, lambda: _step(self._inner, token, bindings))
        if self.complete and self.negotiated_protocol == "kerberos" and self._rule.required and not self._bound():
            raise ValueError("channel bindings are required")
        return result

    def _bound(self) -> bool:
        kerberos: Any = self._inner
        while hasattr(kerberos, "_context_list"):  # pyspnego has no public way to the flags that it does not know
            kerberos = kerberos._context
        return bool(int(kerberos._context_attr) & _CHANNEL_BOUND)

    def identity(self) -> Identity:
        """Who logged on. Raises :class:`LogonRefused` when the host has no such account."""
        if self.negotiated_protocol == "kerberos":
            user, _unused, realm = (self.client_principal or "").rpartition("@")
            account = self._directory.account(user, realm)
            delegated = bool(self._inner.context_attr & spnego.ContextReq.delegate)
            scheme = "kerberos"
        else:
            account = self._directory.account(self._match.user, self._match.domain) if self._match else None
            delegated, scheme = False, "ntlm"
        if account is None:
            raise LogonRefused(f"no account for {self.client_principal}")
        return Identity(account=account, scheme=scheme, delegated=delegated)

    def wrap(self, data: bytes) -> Any:
        """Seal in the form of the protocol (for CredSSP)."""
        return self._inner.wrap(data)

    def unwrap(self, data: bytes) -> Any:
        """Unseal in the form of the protocol (for CredSSP)."""
        return self._inner.unwrap(data)

    def wrap_winrm(self, data: bytes) -> tuple[bytes, bytes, int]:
        """Seal one message (wire 6.2)."""
        result = self._inner.wrap_winrm(data)
        return result.header, result.data, result.padding_length

    def unwrap_winrm(self, header: bytes, data: bytes) -> bytes:
        """Unseal one message (wire 6.2)."""
        return self._inner.unwrap_winrm(header, data)


class CredSspContext:
    """CredSSP: TLS records that carry a Negotiate handshake and then the client's credentials."""

    def __init__(self, directory: Directory, host_name: str) -> None:
        # The proof of the TLS key takes the place of channel bindings.
        self._negotiate = NegotiateContext(directory, host_name, BindingRule())
        self._inner = spnego.server(hostname=host_name, service="HTTP", protocol="credssp",
                                    credssp_negotiate_context=self._negotiate, credssp_tls_context=credssp_tls())

    @property
    def complete(self) -> bool:
        """The handshake is over."""
        return self._inner.complete

    def step(self, in_token: bytes | None = None) -> bytes | None:
        """Take one token and return the next. Raises SpnegoError or ValueError."""
        return _step(self._inner, in_token or b"")

    def failed(self) -> bool:
        """The acceptor has sent an error token and will not go on."""
        return bool(self._inner.get_extra_info("auth_stage") == "Authentication failure")

    def identity(self) -> Identity:
        """Who logged on; CredSSP always hands over credentials."""
        return Identity(account=self._negotiate.identity().account, scheme="credssp", delegated=True)

    def wrap_winrm(self, data: bytes) -> tuple[bytes, bytes, int]:
        """Seal one message (wire 6.2)."""
        result = self._inner.wrap_winrm(data)
        return result.header, result.data, result.padding_length

    def unwrap_winrm(self, header: bytes, data: bytes) -> bytes:
        """Unseal one message (wire 6.2)."""
        return self._inner.unwrap_winrm(header, data)


@functools.cache
def credssp_tls() -> spnego.tls.CredSSPTLSContext:
    """The self-signed TLS identity of CredSSP on all hosts of this process. Making its key takes up to a second."""
    certificate, key, public_key = spnego.tls.generate_tls_certificate()
    result = spnego.tls.default_tls_context(usage="accept")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "identity.pem"
        path.write_bytes(certificate + key)
        result.context.load_cert_chain(path)
    result.public_key = public_key
    return result


class Handshake:
    """One log-on in progress under one scheme."""

    PROTECTION: Mapping[str, tuple[str, ...]] = {
        "Negotiate": (encryption.SPNEGO,),
        "Kerberos": (encryption.KERBEROS, encryption.SPNEGO),
        "CredSSP": (encryption.CREDSSP,),
    }
    """Protection names that may be used after a log-on under each scheme; pywinrm uses SPNEGO's for Kerberos (wire 6.2)."""

    def __init__(self, scheme: str, directory: Directory, host_name: str, rule: BindingRule) -> None:
        self.scheme = scheme
        self._context: NegotiateContext | CredSspContext
        if scheme == "CredSSP":
            self._context = CredSspContext(directory, host_name)
        else:
            self._context = NegotiateContext(directory, host_name, rule)

    @property
    def sealer(self) -> encryption.Sealer:
        """Protects the messages of the connection once the handshake is complete."""
        return self._context

    @property
    def padded(self) -> bool:
        """Messages may announce padding in ``Length``."""
        return isinstance(self._context, NegotiateContext) and self._context.negotiated_protocol == "kerberos"

    def step(self, token: bytes) -> tuple[bytes | None, Identity | None]:
        """Take the client's token; the host's next one, and who logged on once complete. Raises :class:`LogonRefused`."""
        try:
            answer = self._context.step(token)
        except (SpnegoError, ValueError) as error:
            raise LogonRefused(str(error)) from error
        if isinstance(self._context, CredSspContext) and self._context.failed():
            raise LogonRefused("the inner log-on failed", answer)
        if self._context.complete:
            if self.scheme == "Kerberos" and not self.padded:
                raise LogonRefused("the scheme Kerberos takes no other mechanism")
            return answer, self._context.identity()
        if answer is None:
            raise LogonRefused("the handshake came to an end without a log-on")
        return answer, None
