# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a host is reached and as whom, what a lane must offer, and how a lane fails (wire 5.3, 6)."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, Protocol
from urllib.parse import quote

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import ConnectionFailed, HypervError

AuthenticationMethod = Literal["ntlm", "kerberos", "credssp", "basic", "certificate", "negotiate"]


@dataclass(frozen=True)
class Endpoint:
    """One WinRM listener and the account to use there.

    ``transport`` ``negotiate`` is NTLM inside Negotiate, as pywinrm speaks it (wire 6.1).
    ``proxy`` None ignores the environment's proxies, ``legacy_requests`` obeys them, anything else is the proxy's URL.
    ``ca_path`` None leaves the choice to pywinrm: ``REQUESTS_CA_BUNDLE`` or the bundle of certifi.
    ``environment`` is set while the lane works, for the Kerberos libraries (``KRB5CCNAME``).
    Times are seconds. Windows cuts ``operation_timeout`` to 60 (wire 1.2).
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str = "/wsman"
    transport: AuthenticationMethod = "ntlm"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    validate: bool = True
    ca_path: str | None = None
    cert_pem: str | None = None
    cert_key_pem: str | None = None
    cert_key_password: str | None = field(default=None, repr=False)
    kerberos_delegation: bool = False
    kerberos_hostname_override: str | None = None
    service: str = "HTTP"
    message_encryption: Literal["auto", "always", "never"] = "auto"
    send_cbt: bool = True
    credssp_disable_tlsv1_2: bool = False
    proxy: str | None = field(default=None, repr=False)  # a proxy's URL may hold a password
    connect_timeout: float = 30.0
    read_timeout: float = 90.0
    operation_timeout: float = 60.0
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def url(self) -> str:
        """The URL of the listener; IPv6 addresses get their brackets."""
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        path = self.path if self.path.startswith("/") else f"/{self.path}"
        return f"{self.scheme}://{host}:{self.port}{quote(path, safe='/?&=%')}"


@dataclass
class Stats:
    """What a lane cost so far. ``messages`` are WS-Man messages, ``auth_legs`` the HTTP requests beyond them."""

    messages: int = 0
    http_requests: int = 0
    connections: int = 0
    rebuilds: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    @property
    def auth_legs(self) -> int:
        """HTTP requests that carried no message of ours, or carried it in vain: authentication and repetitions."""
        return max(0, self.http_requests - self.messages)

    def as_result(self) -> dict[str, int]:
        """All counters as plain numbers."""
        return {**asdict(self), "auth_legs": self.auth_legs}


class Lane(Protocol):
    """One authenticated way to a host. One request at a time (wire 6.4)."""

    def send(self, envelope: bytes, deadline: Deadline, *, repeatable: bool) -> bytes:
        """Send one message, return the answer's XML: a result or a SOAP fault, both as they arrived.

        ``repeatable`` says that sending the message twice does no harm. Raises ConnectionFailed (or a subclass) when the message
        certainly took no effect or is repeatable, and OutcomeUnknown when it may have taken effect and no answer came.
        """

    def close(self) -> None:
        """End the connection. Closing twice is allowed."""


class AuthenticationFailed(ConnectionFailed):
    """The host refused the account, or the way it was presented."""

    error_code = "wrong_credentials"


class TlsNotTrusted(ConnectionFailed):
    """The host's certificate was not accepted."""

    error_code = "tls_not_trusted"


class HttpError(ConnectionFailed):
    """HTTP failed before WS-Management could say anything; ``status`` is the HTTP status, 0 without one."""

    error_code = "http_error"

    def __init__(self, message: str, *, status: int = 0, error_code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, error_code=error_code, hint=hint, details={"http_status": status} if status else None)
        self.status = status


class EnvelopeTooLarge(HypervError):
    """A request is larger than the host admits (HTTP 413, wire 1.2)."""

    error_code = "envelope_too_large"


class LibraryMissing(HypervError):
    """A Python package that the chosen way of connecting needs is not installed on the controller."""

    error_code = "library_missing"
