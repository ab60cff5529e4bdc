# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listeners with a handler that echoes, in one event loop beside the tests."""
from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trustme
from simulator.cim.model import Account, Caller
from simulator.net.contract import Answer, Connection, ListenerSettings, TlsFiles
from simulator.net.server import WinrmListener
from simulator.soap.counters import Counters

T = TypeVar("T")

ADMIN = Account("Administrator", "P4ss:w0rd", groups=frozenset({"Administrators"}), builtin_administrator=True)
ENVELOPE = '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope">{}</s:Envelope>'
FAULT = ENVELOPE.format("<s:Body><s:Fault><s:Reason>no</s:Reason></s:Fault></s:Body>").encode()


class People:
    """A Directory over a list of accounts."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        self.accounts = list(accounts)

    def authenticate_password(self, user: str, password: str) -> Account | None:
        account = self.account(user, None)
        return account if account and account.password == password else None

    def account(self, user: str, domain: str | None) -> Account | None:
        for account in self.accounts:
            if account.name.lower() == user.lower() and (account.domain or "").lower() == (domain or "").lower():
                return account
        return None

    def by_certificate(self, subject: str) -> Account | None:
        return next((account for account in self.accounts if account.certificate_subject == subject), None)

    def log_on(self, account: Account, scheme: str, delegated: bool) -> Caller:
        return Caller(account, scheme, elevated="Administrators" in account.groups, delegated=delegated)

    def ntlm_credentials(self) -> list[tuple[str, str, str]]:
        return [(account.domain or "", account.name, account.password) for account in self.accounts]


class Echo:
    """Answers each message with itself, or with what ``answers`` holds next."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.callers: list[Caller | None] = []
        self.content_types: list[str] = []
        self.connections: list[int] = []
        self.answers: list[Answer] = []

    async def handle(self, connection: Connection, body: bytes, headers: Mapping[str, str]) -> Answer:
        self.bodies.append(body)
        self.callers.append(connection.caller)
        self.content_types.append(headers["content-type"])
        self.connections.append(connection.id)
        return self.answers.pop(0) if self.answers else Answer(200, body)

    def identify(self, authenticated: bool) -> Answer:
        return Answer(200, f"<IdentifyResponse authenticated='{authenticated}'/>".encode())


@dataclass
class Host:
    """One listener under test."""

    listener: WinrmListener
    people: People
    counters: Counters
    port: int = 0
    scheme: str = "http"
    echo: Echo = field(default_factory=Echo)

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/wsman"


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], seconds: float = 20) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    result = Loop()
    yield result
    result.close()


@pytest.fixture(scope="session")
def no_kerberos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Kerberos configuration that knows no realm and asks no name server for one."""
    path = tmp_path_factory.mktemp("kerberos") / "krb5.conf"
    path.write_text("[libdefaults]\n dns_lookup_kdc = false\n dns_lookup_realm = false\n default_realm = NONE.INVALID\n")
    return path


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, no_kerberos: Path) -> None:
    """The clients under test must not pick up a proxy, a bundle of authorities or a realm of the machine."""
    monkeypatch.setenv("KRB5_CONFIG", str(no_kerberos))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


StartHost = Callable[..., Host]


@pytest.fixture
def start_host(loop: Loop) -> Iterator[StartHost]:
    """Start a host: ``start_host(accounts, name="HV1", **settings)``."""
    hosts: list[Host] = []

    def start(accounts: Sequence[Account] = (ADMIN,), name: str = "HV1", **settings: Any) -> Host:
        people, echo, counters = People(accounts), Echo(), Counters()
        listener = WinrmListener(ListenerSettings(**settings), people, echo, counters, name)
        host = Host(listener, people, counters, scheme="https" if settings.get("tls") else "http", echo=echo)
        host.port = loop.run(listener.start())
        hosts.append(host)
        return host

    yield start
    for host in hosts:
        loop.run(host.listener.stop())


@dataclass(frozen=True)
class Certificates:
    """PEM files of a test authority."""

    ca: Path
    tls: TlsFiles
    client: Path
    client_key: Path
    stranger: Path
    stranger_key: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")

    def save(name: str, blob: trustme.Blob) -> Path:
        path = folder / name
        blob.write_to_path(str(path))
        return path

    client = authority.issue_cert("backup@localhost", common_name="backup")
    stranger = authority.issue_cert("stranger@localhost", common_name="stranger")
    ca = save("ca.pem", authority.cert_pem)
    return Certificates(
        ca=ca,
        tls=TlsFiles(save("server.pem", server.cert_chain_pems[0]), save("server.key", server.private_key_pem), client_ca=ca),
        client=save("client.pem", client.cert_chain_pems[0]), client_key=save("client.key", client.private_key_pem),
        stranger=save("stranger.pem", stranger.cert_chain_pems[0]), stranger_key=save("stranger.key", stranger.private_key_pem))
