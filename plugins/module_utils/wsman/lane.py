# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One authenticated lane on pywinrm: one TCP connection, one security context, rebuilt by the rules of wire 5.3 and 5.4."""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline, SystemClock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import diagnosis
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.bounded import BoundedSocket, Budget
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.diagnosis import Diagnosis
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import (
    AuthenticationFailed,
    Endpoint,
    EnvelopeTooLarge,
    HttpError,
    Lane,
    LibraryMissing,
    Stats,
    TlsNotTrusted,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.sealing import sealed_parts

try:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    from winrm.encryption import Encryption
    from winrm.exceptions import InvalidCredentialsError, WinRMError
    from winrm.transport import Transport
except ImportError as _error:
    _missing: ImportError | None = _error
    HTTPAdapter = HTTPConnection = HTTPSConnection = HTTPConnectionPool = HTTPSConnectionPool = object  # type: ignore[assignment,misc]
    Encryption = Transport = object  # type: ignore[assignment,misc]
else:
    _missing = None

__all__ = ["AuthenticationFailed", "Endpoint", "EnvelopeTooLarge", "HttpError", "Lane", "LibraryMissing", "PywinrmLane", "Stats",
           "TlsNotTrusted"]

MAX_ANSWER = 64 * 1024 * 1024
BAD_LOGONS = 2
"""Attempts with one account that may fail in a row, ever: more would lock it."""

_CONNECTION_BOUND = ("ntlm", "kerberos", "credssp")
"""Transports that authenticate a connection once instead of each message (wire 6.4)."""
_BACK_OFF = (1.0, 2.0, 4.0, 8.0)


class _ContextLost(Exception):
    """A message met 401 after log-on: the connection is a new one, or the host forgot its context. It was not processed."""


class _HttpRefused(Exception):
    """An answer that is not one of WS-Management: its HTTP status and what it looked like."""

    def __init__(self, status: int, kind: str = "") -> None:
        super().__init__(f"HTTP {status} {kind}".strip())
        self.status = status
        self.kind = kind


class _Unsealable(Exception):
    """An answer arrived that the security context cannot open."""


class _Attempt(Exception):
    """One attempt failed."""

    def __init__(self, diagnosed: Diagnosis) -> None:
        super().__init__(diagnosed.error.message)
        self.diagnosed = diagnosed


class _Wire:
    """A connection that sends each request as one packet and reads within the budget. Mixed into urllib3's connections.

    A type checker sees no base class that has the methods called through ``super()``: hence the ignores.
    """

    sock: Any

    def __init__(self, *args: Any, budget: Budget, stats: Stats, **options: Any) -> None:
        self._budget = budget
        self._stats = stats
        self._held: list[bytes] | None = None
        super().__init__(*args, **options)

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.sock = BoundedSocket(self.sock, self._budget)
        self._stats.connections += 1

    def _tunnel(self) -> None:
        plain = self.sock
        self.sock = BoundedSocket(plain, self._budget)
        try:
            super()._tunnel()  # type: ignore[misc]
        finally:
            if self.sock is not None:
                self.sock = plain

    def request(self, *args: Any, **options: Any) -> None:
        self._held = []
        try:
            super().request(*args, **options)  # type: ignore[misc]
            packet = b"".join(self._held)
        finally:
            self._held = None
        super().send(packet)  # type: ignore[misc]
        self._budget.request_sent()

    def send(self, data: bytes) -> None:
        if self._held is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._held.append(data)

    def getresponse(self) -> Any:
        self._budget.headers_begin()
        response = super().getresponse()  # type: ignore[misc]
        self._budget.headers_end()
        return response


class _HttpWire(_Wire, HTTPConnection):  # type: ignore[misc]  # send takes what http.client gives it
    pass


class _HttpsWire(_Wire, HTTPSConnection):  # type: ignore[misc]  # as above
    pass


class _Adapter(HTTPAdapter):
    """One connection, one request at a time, everything counted; refuses redirections and compressed answers."""

    def __init__(self, endpoint: Endpoint, budget: Budget, stats: Stats) -> None:
        self._endpoint = endpoint
        self._budget = budget
        self._stats = stats
        self.maybe_done = False
        self.presented = 0
        self.offered = ""
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0, pool_block=True)

    def begin(self) -> None:
        """A new message begins."""
        self.maybe_done = False
        self.presented = 0
        self.offered = ""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        if self._endpoint.cert_key_password is not None:
            options["key_password"] = self._endpoint.cert_key_password
        super().init_poolmanager(*args, **options)
        self._bind(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        self._bind(manager)
        return manager

    def _bind(self, manager: Any) -> None:
        def http(*args: Any, **options: Any) -> Any:
            pool = HTTPConnectionPool(*args, **options)
            pool.ConnectionCls = lambda *a, **o: _HttpWire(*a, budget=self._budget, stats=self._stats, **o)  # type: ignore[assignment]
            return pool

        def https(*args: Any, **options: Any) -> Any:
            pool = HTTPSConnectionPool(*args, **options)
            pool.ConnectionCls = lambda *a, **o: _HttpsWire(*a, budget=self._budget, stats=self._stats, **o)  # type: ignore[assignment]
            return pool

        manager.pool_classes_by_scheme = {"http": http, "https": https}

    def send(self, request: Any, stream: bool = False, timeout: Any = None, verify: Any = True, cert: Any = None,
             proxies: Any = None) -> Any:
        request.headers["Accept-Encoding"] = "identity"  # a compressed answer could be a thousand times its size
        if "Authorization" in request.headers:
            self.presented += 1
        self._stats.http_requests += 1
        self._budget.request_begins()
        seconds = self._budget.seconds()
        limits = (min(self._endpoint.connect_timeout, seconds), seconds)
        try:
            response = super().send(request, stream=stream, timeout=limits, verify=verify, cert=cert, proxies=proxies)
        except Exception:
            self.maybe_done = bool(request.body) and self._budget.sent_complete
            raise
        self.maybe_done = bool(request.body) and response.status_code != 401
        if response.status_code == 401:
            self.offered = self.offered or response.headers.get("WWW-Authenticate", "")
            if self.presented >= 2 and self._endpoint.transport == "kerberos":
                raise InvalidCredentialsError("HTTP 401")  # the library would present a third ticket
            if request.body and self._endpoint.transport not in ("basic", "certificate"):
                raise _ContextLost  # the libraries would log on again and repeat a message that was sealed for the old context
        if 300 <= response.status_code < 400:
            raise _HttpRefused(response.status_code, "redirection")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _HttpRefused(response.status_code, "compressed")
        return response


class _Sealer(Encryption):
    """pywinrm's sealing with a lenient reader of the multipart form (wire 6.2)."""

    def open(self, body: bytes, host: str | None) -> bytes:
        """The plaintext of a sealed answer. Raises _Unsealable, whatever is wrong with it."""
        plain = b""
        try:
            for part, length in sealed_parts(body):
                opened = self._decrypt_message(part, host)
                padded = self.protocol == "kerberos" and abs(len(opened) - length) <= 16  # wire 6.2: padding may count or not
                if len(opened) != length and not padded:
                    raise _Unsealable("the declared length is not that of the plaintext")
                plain += opened
        except _Unsealable:
            raise
        except Exception as error:  # three authentication libraries, each with errors of its own
            raise _Unsealable(type(error).__name__) from error
        return plain


class _Transport(Transport):
    """pywinrm's transport with the bounded adapter, and with HTTP's failures kept apart."""

    def __init__(self, endpoint: Endpoint, budget: Budget, stats: Stats) -> None:
        self.sealer: _Sealer | None = None
        self._logged_on = False
        super().__init__(
            endpoint=endpoint.url, username=endpoint.username, password=endpoint.password, service=endpoint.service,
            ca_trust_path=endpoint.ca_path or "legacy_requests", cert_pem=endpoint.cert_pem, cert_key_pem=endpoint.cert_key_pem,
            server_cert_validation="validate" if endpoint.validate else "ignore",
            kerberos_delegation=endpoint.kerberos_delegation, kerberos_hostname_override=endpoint.kerberos_hostname_override,
            auth_method="ntlm" if endpoint.transport == "negotiate" else endpoint.transport,
            message_encryption=endpoint.message_encryption, credssp_disable_tlsv1_2=endpoint.credssp_disable_tlsv1_2,
            send_cbt=endpoint.send_cbt, proxy=endpoint.proxy,
        )
        self.adapter = _Adapter(endpoint, budget, stats)
        self._follow_environment = endpoint.proxy == "legacy_requests"
        self._proxy = endpoint.proxy
        self._proxies: dict[str, str] | None = None

    def build_session(self) -> Any:
        """The session, with our adapter on it before anything is sent."""
        session = super().build_session()
        self._mount(session)
        if self.auth_method in _CONNECTION_BOUND and not self._logged_on:
            self._log_on(session)
        return session

    def setup_encryption(self, session: Any) -> None:
        """Log on and keep the security context for sealing."""
        self._log_on(session)
        self.encryption = self.sealer = _Sealer(session, self.auth_method)

    def _log_on(self, session: Any) -> None:
        """Authenticate the connection with an empty POST, so that no message travels before somebody may act on it."""
        self._mount(session)
        prepared = session.prepare_request(requests.Request("POST", self.endpoint))
        response = self._send_message_request(session, prepared)
        if response.status_code != 200:
            raise _HttpRefused(response.status_code, "log-on")
        if self.adapter.presented == 0:
            raise _HttpRefused(response.status_code, "foreign")  # whatever it is, it did not ask who we are
        self._logged_on = True

    def _mount(self, session: Any) -> None:
        if session.get_adapter(self.endpoint) is self.adapter:
            return
        session.trust_env = self._follow_environment
        if self._proxy is None:
            session.proxies = {}
        session.mount("http://", self.adapter)
        session.mount("https://", self.adapter)

    def _send_message_request(self, session: Any, prepared_request: Any) -> Any:
        if self._proxies is None:  # the library would look through the environment for each message
            self._proxies = requests.utils.resolve_proxies(prepared_request, session.proxies, session.trust_env)
        response = session.send(prepared_request, proxies=self._proxies)
        if response.status_code == 401:
            raise InvalidCredentialsError("HTTP 401")
        return response

    def exchange(self, message: bytes) -> tuple[int, bytes]:
        """Send one message; HTTP status and the unsealed body."""
        session = self.build_session()
        if self.sealer is None:
            prepared = session.prepare_request(requests.Request("POST", self.endpoint, data=message))
        else:
            prepared = self.sealer.prepare_encrypted_request(session, self.endpoint, message)
        response = self._send_message_request(session, prepared)
        body: bytes = response.content
        content_type = response.headers.get("Content-Type", "").lower()
        if not body or response.status_code not in (200, 500):
            raise _HttpRefused(response.status_code, "" if body else "empty")
        if self.sealer is None:
            if "xml" not in content_type:
                raise _HttpRefused(response.status_code, "foreign")
            return response.status_code, body
        if "session-encrypted" not in content_type:
            raise _HttpRefused(response.status_code, "unsealed")  # could come from anybody on the way
        return response.status_code, self.sealer.open(body, requests.compat.urlparse(self.endpoint).hostname)


class PywinrmLane:
    """See :class:`Lane`. ``max_answer`` bounds the bytes of one answer with all its authentication legs."""

    def __init__(self, endpoint: Endpoint, clock: Clock | None = None, *, max_answer: int = MAX_ANSWER) -> None:
        if _missing is not None:
            raise LibraryMissing(f"pywinrm is not installed on the controller: {_missing}", hint="pip install 'pywinrm>=0.5.0'")
        self.endpoint = endpoint
        self.stats = Stats()
        self._clock = clock or SystemClock()
        self._budget = Budget(max_answer, endpoint.read_timeout)
        self._transport: _Transport | None = None
        self._established = False
        self._bad_logons = 0
        self._closed_for_good: AuthenticationFailed | None = None

    @property
    def encrypted(self) -> bool:
        """True when messages cannot be read on the way: TLS, or a connection that is there and seals them."""
        return self.endpoint.scheme == "https" or (self._transport is not None and self._transport.sealer is not None)

    def send(self, envelope: bytes, deadline: Deadline, *, repeatable: bool) -> bytes:
        """See :meth:`Lane.send`."""
        renewed = False
        waits = iter(_BACK_OFF)
        while True:
            try:
                return self._attempt(envelope, deadline)
            except _Attempt as attempt:
                failure = attempt.diagnosed
                self._drop()
                may_repeat = (repeatable or not failure.maybe_done) and not deadline.expired()
                if failure.again == "fresh" and may_repeat and not renewed:
                    renewed = True
                    self.stats.rebuilds += 1
                    continue
                if failure.again == "later" and may_repeat:
                    wait = next(waits, None)
                    if wait is not None and wait < deadline.remaining():
                        self._clock.sleep(wait)
                        continue
                if failure.maybe_done and not repeatable:
                    raise OutcomeUnknown(
                        f"The answer of {self.endpoint.host} was lost, so the request may have taken effect: {failure.error.message}",
                        hint="The host's state has to be read again before anything is repeated.") from failure.error
                raise failure.error from attempt.__cause__

    def close(self) -> None:
        """See :meth:`Lane.close`."""
        self._drop()

    def _drop(self) -> None:
        self._established = False
        if self._transport is not None:
            self._transport.close_session()
            self._transport = None

    def _attempt(self, envelope: bytes, deadline: Deadline) -> bytes:
        if self._closed_for_good is not None:
            raise _Attempt(Diagnosis(self._closed_for_good, maybe_done=False))
        self._budget.restart(deadline)
        with _environment(self.endpoint):
            transport = self._ready()
            transport.adapter.begin()
            try:
                _unused, body = transport.exchange(envelope)
            except Exception as error:
                raise _Attempt(self._diagnose(error, transport.adapter)) from error
            finally:
                self.stats.bytes_sent = self._budget.bytes_sent
                self.stats.bytes_received = self._budget.bytes_received
        self.stats.messages += 1
        self._established = True
        self._bad_logons = 0
        return body

    def _ready(self) -> _Transport:
        if self._transport is None:
            try:
                self._transport = _Transport(self.endpoint, self._budget, self.stats)
            except InvalidCredentialsError as error:
                raise _Attempt(Diagnosis(AuthenticationFailed(
                    f"The account for {self.endpoint.host} is incomplete: {error}.", error_code="credentials_missing"),
                    maybe_done=False)) from error
        return self._transport

    def _diagnose(self, error: Exception, adapter: _Adapter) -> Diagnosis:
        """What an exception of three libraries means."""
        endpoint, maybe_done = self.endpoint, adapter.maybe_done
        if self._budget.exceeded or self._budget.out_of_time():
            return diagnosis.limit_reached(endpoint, self._budget.exceeded, maybe_done=maybe_done)
        if isinstance(error, _ContextLost):
            return diagnosis.context_lost(endpoint)
        if isinstance(error, InvalidCredentialsError):
            return self._refused(adapter)
        if isinstance(error, _Unsealable):
            return diagnosis.unsealable(endpoint)
        if isinstance(error, _HttpRefused):
            sealed = self._transport is not None and self._transport.sealer is not None
            return diagnosis.http_refused(endpoint, error.status, error.kind, sealed=sealed, maybe_done=maybe_done)
        if isinstance(error, WinRMError):
            return Diagnosis(LibraryMissing(f"pywinrm cannot use the transport {endpoint.transport}: {error}.",
                                            hint=f"pip install 'pywinrm[{endpoint.transport}]'"), maybe_done=False)
        if adapter.offered and diagnosis.scheme_missing(endpoint, adapter.offered):
            return diagnosis.not_offered(endpoint, adapter.offered)
        found = diagnosis.connection_failed(endpoint, error, established=self._established, maybe_done=maybe_done)
        if found.error.error_code == "wrong_credentials":
            self._count_bad_logon(found.error)
        return found

    def _refused(self, adapter: _Adapter) -> Diagnosis:
        """HTTP 401 at the end of a log-on. Kerberos tries twice by itself, and no password is tried in vain there."""
        if diagnosis.scheme_missing(self.endpoint, adapter.offered):
            return diagnosis.not_offered(self.endpoint, adapter.offered)
        last = self._bad_logons + 1 >= BAD_LOGONS or self.endpoint.transport == "kerberos"
        found = diagnosis.credentials_refused(self.endpoint, last=last)
        self._count_bad_logon(found.error)
        return found

    def _count_bad_logon(self, error: HypervError) -> None:
        self._bad_logons += 1
        if self._bad_logons >= BAD_LOGONS and isinstance(error, AuthenticationFailed):
            self._closed_for_good = error


@contextlib.contextmanager
def _environment(endpoint: Endpoint) -> Iterator[None]:
    """The endpoint's environment variables, for as long as one message takes."""
    before = {name: os.environ.get(name) for name in endpoint.environment}
    os.environ.update(endpoint.environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
