# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options of a task's connection plugin to an :class:`Endpoint`: pure functions, no I/O.

The options come from ``get_option`` of the plugin (for winrm also ``_extras``), never from variables: so ``-k``, a machine
credential of AWX, keywords, delegation and ini files count exactly as they do for every other task.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import urlsplit

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import AuthenticationMethod, Endpoint

Encryption: TypeAlias = Literal["auto", "always", "never"]
ENCRYPTIONS = ("auto", "always", "never")
WINRM_EXTRA_PREFIX = "ansible_winrm_"
HTTP_PORT = 5985
HTTPS_PORT = 5986
DEFAULT_TIMEOUT = 30
OPERATION_TIMEOUT_LIMIT = 60

# names of ansible's winrm plugin for the ways to authenticate, and ours
_WINRM_TRANSPORTS: dict[str, AuthenticationMethod | Literal["ssl"]] = {
    "ntlm": "ntlm", "kerberos": "kerberos", "credssp": "credssp", "basic": "basic", "certificate": "certificate",
    "plaintext": "basic", "ssl": "ssl",
}
_TRUE = ("yes", "true", "on", "1", "y", "t")
_FALSE = ("no", "false", "off", "0", "n", "f")


@dataclass(frozen=True)
class Ticket:
    """How a Kerberos ticket is to be had before the endpoint is used; None when one is there already."""

    principal: str
    command: str
    arguments: str | None
    environment: tuple[str, ...]
    forwardable: bool


@dataclass(frozen=True)
class Connection:
    """What a connection plugin says about one host."""

    endpoint: Endpoint
    ticket: Ticket | None
    secrets: tuple[str, ...]
    """Values that must not appear in any result or line of output."""


def describe(plugin: str, option: Callable[[str], Any], kerberos_available: bool) -> Connection:
    """Read the options of a winrm or psrp connection.

    ``plugin`` is the name of the connection plugin, ``option`` its ``get_option``. Raises :class:`HypervError`
    (``connection_not_supported``, ``connection_option``) for anything that cannot work.
    """
    short = plugin.rpartition(".")[2]
    if short == "winrm":
        return _from_winrm(option, kerberos_available)
    if short == "psrp":
        return _from_psrp(option, kerberos_available)
    raise HypervError(
        f"The connection type of this task is {plugin!r}; the modules of agentless.hyperv speak WinRM to the host.",
        error_code="connection_not_supported",
        hint="Set ansible_connection to winrm or psrp for the Hyper-V host, and do not delegate these tasks to localhost.",
    )


def _from_winrm(option: Callable[[str], Any], kerberos_available: bool) -> Connection:
    extras = {str(name).removeprefix(WINRM_EXTRA_PREFIX): value for name, value in (option("_extras") or {}).items()}
    user, password = option("remote_user"), option("remote_password")
    port = int(option("port") or HTTPS_PORT)
    scheme: Any = option("scheme") or ("http" if port == HTTP_PORT else "https")
    if scheme not in ("http", "https"):
        raise HypervError("ansible_winrm_scheme must be http or https.", error_code="connection_option")
    wanted = option("transport")
    if isinstance(wanted, str):
        wanted = [part.strip() for part in wanted.split(",")]
    transport = _winrm_transport([str(name) for name in wanted or [] if name], user, extras, kerberos_available)
    timeout = option("connection_timeout")
    operation_timeout = int(timeout or extras.get("operation_timeout_sec") or DEFAULT_TIMEOUT)
    read_timeout = int(timeout + 10 if timeout else extras.get("read_timeout_sec") or operation_timeout + 10)
    delegation = _boolean("kerberos_delegation", extras.get("kerberos_delegation", False))
    endpoint = Endpoint(
        scheme=scheme, host=str(option("remote_addr")), port=port, path=str(option("path") or "/wsman"), transport=transport,
        username=user, password=password,
        validate=_choice("server_cert_validation", extras.get("server_cert_validation", "validate"), ("validate", "ignore")) == "validate",
        ca_path=_own_ca(extras.get("ca_trust_path")),
        cert_pem=extras.get("cert_pem"), cert_key_pem=extras.get("cert_key_pem"),
        kerberos_delegation=delegation, kerberos_hostname_override=extras.get("kerberos_hostname_override"),
        service=str(extras.get("service") or "HTTP"),
        message_encryption=cast("Encryption", _choice("message_encryption", extras.get("message_encryption", "auto"), ENCRYPTIONS)),
        send_cbt=_boolean("send_cbt", extras.get("send_cbt", True)),
        credssp_disable_tlsv1_2=_boolean("credssp_disable_tlsv1_2", extras.get("credssp_disable_tlsv1_2", False)),
        proxy=extras.get("proxy", "legacy_requests"),
        read_timeout=read_timeout, operation_timeout=min(operation_timeout, OPERATION_TIMEOUT_LIMIT),
    )
    mode = option("kerberos_mode")
    managed = mode == "managed" or (mode is None and bool(password))
    ticket = None
    if transport == "kerberos" and managed:
        ticket = Ticket(principal=str(user), command=str(option("kerberos_command") or "kinit"), arguments=option("kinit_args"),
                        environment=tuple(option("kinit_env_vars") or ()), forwardable=delegation)
    return Connection(endpoint, ticket, _secrets(password, endpoint.proxy))


def _winrm_transport(wanted: list[str], user: str | None, extras: Mapping[str, Any], kerberos_available: bool) -> AuthenticationMethod:
    """The one way to authenticate.

    Of several in ``ansible_winrm_transport`` the first whose library is there is taken; a refusal does not lead to the next one,
    since each try counts against the account. Where none is named: a certificate if one is given, Kerberos for a ``user@REALM``,
    otherwise NTLM with sealed messages - never a password in the clear, which is what the guess of the connection plugin would send.
    """
    if not wanted:
        if extras.get("cert_pem"):
            return "certificate"
        return "kerberos" if user and "@" in user and kerberos_available else "ntlm"
    unknown = [name for name in wanted if name not in _WINRM_TRANSPORTS]
    if unknown:
        raise HypervError(
            f"ansible_winrm_transport names {', '.join(map(repr, unknown))}, which is no way to authenticate that WinRM knows.",
            error_code="connection_option", hint=f"Use one of {', '.join(sorted(_WINRM_TRANSPORTS))}.",
        )
    for name in wanted:
        transport = _WINRM_TRANSPORTS[name]
        if transport == "ssl":
            transport = "certificate" if extras.get("cert_pem") else "basic"
        if transport != "kerberos" or kerberos_available:
            return transport
    raise _no_kerberos()


def _from_psrp(option: Callable[[str], Any], kerberos_available: bool) -> Connection:
    user, password = option("remote_user"), option("remote_password")
    scheme, port = option("protocol"), option("port")
    if not scheme:
        scheme = "http" if port == HTTP_PORT else "https"
    if not port:
        port = HTTP_PORT if scheme == "http" else HTTPS_PORT
    transport = _psrp_transport(str(option("auth") or "negotiate"), user, password, kerberos_available)
    proxy: str | None = option("proxy") or "legacy_requests"
    if option("ignore_proxy"):
        proxy = None
    path = str(option("path") or "wsman")
    endpoint = Endpoint(
        scheme=scheme, host=str(option("remote_addr")), port=int(port), path=path if path.startswith("/") else f"/{path}",
        transport=transport, username=user, password=password,
        validate=option("cert_validation") != "ignore", ca_path=_own_ca(option("ca_cert")),
        cert_pem=option("certificate_pem"), cert_key_pem=option("certificate_key_pem"),
        kerberos_delegation=bool(option("negotiate_delegate")), kerberos_hostname_override=option("negotiate_hostname_override"),
        service=str(option("negotiate_service") or "WSMAN"),
        message_encryption=cast("Encryption", str(option("message_encryption") or "auto")), send_cbt=bool(option("negotiate_send_cbt")),
        credssp_disable_tlsv1_2=bool(option("credssp_disable_tlsv1_2")), proxy=proxy,
        read_timeout=max(int(option("read_timeout") or DEFAULT_TIMEOUT), int(option("operation_timeout") or 20) + 10),
        operation_timeout=min(int(option("operation_timeout") or 20), OPERATION_TIMEOUT_LIMIT),
    )
    ticket = None
    if transport == "kerberos" and password:
        ticket = Ticket(principal=str(user), command="kinit", arguments=None, environment=(), forwardable=endpoint.kerberos_delegation)
    return Connection(endpoint, ticket, _secrets(password, endpoint.proxy))


def _psrp_transport(auth: str, user: str | None, password: str | None, kerberos_available: bool) -> AuthenticationMethod:
    if auth == "negotiate":  # Kerberos where a realm is named or only a ticket can serve, NTLM otherwise
        wants_kerberos = bool(user and "@" in user) or not password
        return "kerberos" if wants_kerberos and kerberos_available else "ntlm"
    if auth == "kerberos" and not kerberos_available:
        raise _no_kerberos()
    return cast("AuthenticationMethod", auth)


def _no_kerberos() -> HypervError:
    return HypervError(
        "Kerberos is asked for, but its Python libraries are not installed on the controller.",
        error_code="kerberos_not_installed",
        hint="Install pywinrm[kerberos] where ansible runs (it needs the MIT Kerberos headers), or choose another transport.",
    )


def _own_ca(value: object) -> str | None:
    """A CA path of the user's; the plugin's word for 'whatever requests takes' means none."""
    return None if value in (None, "", "legacy_requests") else str(value)


def _boolean(name: str, value: object) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise HypervError(f"{WINRM_EXTRA_PREFIX}{name} must be true or false.", error_code="connection_option")


def _choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    if str(value) not in choices:
        raise HypervError(f"{WINRM_EXTRA_PREFIX}{name} must be one of {', '.join(choices)}.", error_code="connection_option")
    return str(value)


def _secrets(password: object, proxy: str | None) -> tuple[str, ...]:
    proxy_password = urlsplit(proxy).password if proxy and "@" in proxy else None
    return tuple(str(value) for value in (password, proxy_password) if value)
