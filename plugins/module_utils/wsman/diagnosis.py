# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed exchange means: the error to report, whether the host may have acted, and whether another attempt may help.

Pure functions over what the lane saw, so that each row of wire 5.3 can be read, and tested, by itself.
"""
from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, ConnectionFailed, HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import (
    AuthenticationFailed,
    Endpoint,
    EnvelopeTooLarge,
    HttpError,
    TlsNotTrusted,
)

Again = Literal["never", "fresh", "later"]

_WANTED_SCHEMES = {"ntlm": ("negotiate", "ntlm"), "negotiate": ("negotiate", "ntlm"), "kerberos": ("negotiate", "kerberos"),
                   "credssp": ("credssp",), "basic": ("basic",)}
_AUTHENTICATION_ERRORS = frozenset({"KerberosExchangeError", "MutualAuthenticationError", "AuthenticationException",
                                    "NTStatusException", "InvalidConfigurationException", "PermissionError"})
_NOT_HTTP = frozenset({"BadStatusLine", "LineTooLong", "UnknownProtocol", "HTTPException", "InvalidChunkLength", "InvalidHeader"})


@dataclass(frozen=True)
class Diagnosis:
    """``maybe_done``: the message may have been acted on. ``again``: ``fresh`` on a new connection, ``later`` after a pause."""

    error: HypervError
    maybe_done: bool
    again: Again = "never"


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything it was made from, through the wrappers of requests and urllib3; at most 20."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < 20:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def scheme_missing(endpoint: Endpoint, offered: str) -> bool:
    """True when the host's 401 does not offer what the transport needs (wire 6.1)."""
    wanted = _WANTED_SCHEMES.get(endpoint.transport)
    return wanted is not None and not any(scheme in offered.lower() for scheme in wanted)


def not_offered(endpoint: Endpoint, offered: str) -> Diagnosis:
    """The host does not speak the chosen transport: nothing was tried with the account."""
    return Diagnosis(AuthenticationFailed(
        f"{endpoint.host} does not offer the transport {endpoint.transport}; it offers: {offered[:200] or 'nothing'}.",
        error_code="transport_not_offered",
        hint="Choose an offered transport, or enable this one in the WinRM service's Auth settings of the host."), maybe_done=False)


def credentials_refused(endpoint: Endpoint, *, last: bool) -> Diagnosis:
    """401 in answer to a finished log-on."""
    return Diagnosis(AuthenticationFailed(
        f"{endpoint.host} refused the log-on of {endpoint.username or 'the certificate'} over {endpoint.transport}.",
        hint="Check the user name and the password. A wrong TLS channel binding, a clock that is off (Kerberos), a locked account "
             "or a certificate without a mapping look the same from here. The log-on is not tried again, to keep the account from "
             "being locked."), maybe_done=False, again="never" if last else "fresh")


def context_lost(endpoint: Endpoint) -> Diagnosis:
    """401 to a sealed message: not processed (wire 6.4)."""
    return Diagnosis(AuthenticationFailed(f"{endpoint.host} does not keep the log-on of its connection.", error_code="context_lost",
                                          hint="A proxy or load balancer between may spread one connection over several."),
                     maybe_done=False, again="fresh")


def unsealable(endpoint: Endpoint) -> Diagnosis:
    """An answer came, but the security context cannot open it."""
    return Diagnosis(HttpError(f"An answer of {endpoint.host} cannot be decrypted.", error_code="garbled_answer"),
                     maybe_done=True, again="fresh")


def limit_reached(endpoint: Endpoint, exceeded: str, *, maybe_done: bool) -> Diagnosis:
    """An answer was too long, or took too long."""
    if exceeded in ("bytes", "headers"):
        what = "headers" if exceeded == "headers" else "an answer"
        return Diagnosis(HttpError(f"{endpoint.host} sent {what} beyond all measure; reading was stopped.",
                                   error_code="answer_too_large"), maybe_done)
    return Diagnosis(ConnectionFailed(f"{endpoint.host} did not finish its answer in time.",
                                      hint="The host may be overloaded, or something between drops packets.",
                                      details={"reason": "timeout"}), maybe_done)


def http_refused(endpoint: Endpoint, status: int, kind: str, *, sealed: bool, maybe_done: bool) -> Diagnosis:
    """An HTTP status without SOAP (wire 5.3)."""
    host = endpoint.host
    if kind in ("redirection", "compressed", "foreign", "unsealed"):
        return Diagnosis(HttpError(f"What answers at {host}:{endpoint.port} is not WinRM (HTTP {status}, {kind}).", status=status,
                                   error_code="not_winrm", hint="Check host, port and proxy."), maybe_done)
    if status == 400:
        return Diagnosis(HttpError(f"{host} could not read a message (HTTP 400).", status=status, error_code="context_lost"),
                         maybe_done, "fresh")
    if status == 403:
        return Diagnosis(AccessDenied(f"{host} refuses the account (HTTP 403)."), maybe_done=False)
    if status == 404:
        return Diagnosis(HttpError(f"There is no WinRM listener at {endpoint.path} on {host}:{endpoint.port}.", status=status,
                                   error_code="wrong_path", hint="The path is /wsman unless the host was configured otherwise."),
                         maybe_done=False)
    if status == 407:
        return Diagnosis(HttpError("The proxy wants a log-on of its own (HTTP 407).", status=status, error_code="proxy_failed"),
                         maybe_done=False)
    if status == 413:
        return Diagnosis(EnvelopeTooLarge(f"A request is larger than {host} admits (HTTP 413).",
                                          hint="MaxEnvelopeSizekb of the host's WinRM configuration bounds it."), maybe_done=False)
    if status in (425, 429, 503):
        return Diagnosis(HttpError(f"The WinRM service of {host} is not available (HTTP {status}).", status=status,
                                   error_code="service_unavailable"), maybe_done=False, again="later")
    if status == 500 and kind == "empty" and not sealed:
        return Diagnosis(HttpError(f"{host} refuses messages that are not encrypted (empty HTTP 500).", status=status,
                                   error_code="plain_refused",
                                   hint="Use message_encryption auto with ntlm, kerberos or credssp, or use HTTPS."), maybe_done=False)
    again: Again = "fresh" if status in (200, 500) else "never"
    return Diagnosis(HttpError(f"{host} answered with HTTP {status} and nothing that WinRM would send.", status=status,
                               error_code="not_winrm" if status not in (200, 500) else "garbled_answer"), maybe_done, again)


def connection_failed(endpoint: Endpoint, error: Exception, *, established: bool, maybe_done: bool) -> Diagnosis:
    """No HTTP answer: names, sockets, TLS, or an authentication library."""
    names = {type(one).__name__ for one in causes(error)}
    found = list(causes(error))
    where = f"{endpoint.host}:{endpoint.port}"
    if names & _AUTHENTICATION_ERRORS or not isinstance(error, OSError):
        return _security_failed(endpoint, error, established=established, maybe_done=maybe_done)
    for one in found:
        if isinstance(one, ssl.SSLCertVerificationError):
            return Diagnosis(TlsNotTrusted(f"The TLS certificate of {where} is not trusted: {one.verify_message}",
                                           hint="Give the certificate authority's file, or reach the host by a name that its "
                                                "certificate holds."), maybe_done=False)
    if any(isinstance(one, ssl.SSLError) for one in found) and not established:
        return Diagnosis(ConnectionFailed(f"No TLS connection to {where}.", error_code="tls_failed",
                                          hint="5986 is the usual port for HTTPS, 5985 for HTTP."), maybe_done)
    if "ProxyError" in names:
        return Diagnosis(HttpError(f"The proxy does not connect to {where}.", error_code="proxy_failed"), maybe_done)
    if "NameResolutionError" in names or "gaierror" in names:
        return Diagnosis(ConnectionFailed(f"The name {endpoint.host} cannot be resolved.", details={"reason": "name"}), maybe_done=False)
    if names & {"ReadTimeout", "ReadTimeoutError", "ConnectTimeout", "ConnectTimeoutError", "TimeoutError"}:
        return Diagnosis(ConnectionFailed(f"{where} does not answer.", hint="Check the address, the port and the firewalls between.",
                                          details={"reason": "timeout"}), maybe_done)
    if "ConnectionRefusedError" in names:
        return Diagnosis(ConnectionFailed(f"{where} refuses connections.", hint="Is the WinRM service running, is this its port?",
                                          details={"reason": "refused"}), maybe_done=False)
    if names & _NOT_HTTP and not established:
        return Diagnosis(HttpError(f"What answers at {where} does not speak HTTP.", error_code="not_winrm",
                                   hint="Check host and port: 5985 is the usual port for HTTP, 5986 for HTTPS."), maybe_done)
    return Diagnosis(ConnectionFailed(f"The connection to {where} broke.", details={"reason": "broken"}), maybe_done,
                     "fresh" if established else "never")


def _security_failed(endpoint: Endpoint, error: Exception, *, established: bool, maybe_done: bool) -> Diagnosis:
    """An authentication library gave up: an expired context (wire 6.4), no ticket, or tokens that do not fit."""
    if established:
        return Diagnosis(AuthenticationFailed(f"The security context with {endpoint.host} is no longer valid.", error_code="context_lost"),
                         maybe_done, "fresh")
    hint = {"kerberos": "Is there a valid ticket, and does the host name match its service principal name?",
            "credssp": "CredSSP must be enabled on the host; a wrong password looks the same."}.get(endpoint.transport)
    return Diagnosis(AuthenticationFailed(
        f"The log-on at {endpoint.host} over {endpoint.transport} failed ({type(error).__name__}).",
        error_code="wrong_credentials" if endpoint.transport == "credssp" else "authentication_failed", hint=hint), maybe_done)
