# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lane against real sockets: pywinrm, NTLM and sealing on one side, the simulated host's listener on the other."""
from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline, SystemClock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import (
    AuthenticationFailed,
    Endpoint,
    HttpError,
    TlsNotTrusted,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.lane import PywinrmLane
from simulator.cim.model import Account, Caller
from simulator.net.contract import (
    DROP_BEFORE,
    ENDLESS,
    GARBAGE_SEALED,
    RESET,
    SLOW,
    STALL,
    TRUNCATE,
    UNAUTHORIZED,
    Answer,
    Connection,
    ListenerSettings,
    TlsFiles,
)
from simulator.net.server import WinrmListener
from simulator.soap.counters import Counters

ADMIN = Account("Administrator", "P4ss:wörd", groups=frozenset({"Administrators"}), builtin_administrator=True)
DONE = b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>done</s:Body></s:Envelope>'
CLOCK = SystemClock()


class OneAccount:
    """A Directory with one account."""

    def authenticate_password(self, user: str, password: str) -> Account | None:
        return ADMIN if (user, password) == (ADMIN.name, ADMIN.password) else None

    def account(self, user: str, domain: str | None) -> Account | None:
        return ADMIN if user == ADMIN.name else None

    def by_certificate(self, subject: str) -> Account | None:
        return None

    def log_on(self, account: Account, scheme: str, delegated: bool) -> Caller:
        return Caller(account, scheme, elevated=True)

    def ntlm_credentials(self) -> list[tuple[str, str, str]]:
        return [("", ADMIN.name, ADMIN.password)]


@dataclass
class Scripted:
    """Answers with what the script holds next, then with DONE; remembers what it was sent."""

    script: list[Answer] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)

    async def handle(self, connection: Connection, body: bytes, headers: Mapping[str, str]) -> Answer:
        self.seen.append(body)
        return self.script.pop(0) if self.script else Answer(200, DONE)

    def identify(self, authenticated: bool) -> Answer:
        return Answer(200, DONE)


@dataclass
class Host:
    port: int
    handler: Scripted
    counters: Counters

    def lane(self, **options: Any) -> PywinrmLane:
        settings: dict[str, Any] = {"scheme": "http", "host": "127.0.0.1", "port": self.port, "username": ADMIN.name,
                                    "password": ADMIN.password}
        return PywinrmLane(Endpoint(**{**settings, **options}))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's bundle of authorities must not decide a test."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start() -> Iterator[Callable[..., Host]]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    listeners: list[WinrmListener] = []

    def begin(*script: Answer, **settings: Any) -> Host:
        handler, counters = Scripted(list(script)), Counters()
        listener = WinrmListener(ListenerSettings(**settings), OneAccount(), handler, counters, "HV1")
        port = asyncio.run_coroutine_threadsafe(listener.start(), loop).result(20)
        listeners.append(listener)
        return Host(port, handler, counters)

    yield begin
    for listener in listeners:
        asyncio.run_coroutine_threadsafe(listener.stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def send(lane: PywinrmLane, message: bytes, *, repeatable: bool = True, seconds: float = 10.0) -> bytes:
    return lane.send(message, Deadline(CLOCK, seconds), repeatable=repeatable)


def test_many_messages_share_one_connection_and_one_log_on(start):
    host = start()
    lane = host.lane()
    assert [send(lane, f"<a>{number} ünï</a>".encode()) for number in range(20)] == [DONE] * 20
    assert host.handler.seen == [f"<a>{number} ünï</a>".encode() for number in range(20)]
    assert (host.counters.connections, host.counters.logon_failures, host.counters.auth_legs) == (1, 0, 2)
    assert (lane.stats.messages, lane.stats.connections, lane.stats.auth_legs, lane.stats.rebuilds) == (20, 1, 3, 0)
    assert lane.stats.bytes_received > 20 * len(DONE)
    lane.close()
    lane.close()


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_lost_context_is_rebuilt_and_the_message_sent_again_since_it_was_not_processed(start, repeatable):
    host = start(Answer(200, DONE), Answer(401, transport=UNAUTHORIZED))
    lane = host.lane()
    send(lane, b"<first/>")
    assert send(lane, b"<second/>", repeatable=repeatable) == DONE
    assert host.handler.seen == [b"<first/>", b"<second/>", b"<second/>"]
    assert (lane.stats.connections, lane.stats.rebuilds, host.counters.logon_failures) == (2, 1, 0)
    lane.close()


def test_a_host_that_loses_every_context_is_left_after_the_second(start):
    host = start(*[Answer(401, transport=UNAUTHORIZED)] * 5)
    lane = host.lane()
    with pytest.raises(AuthenticationFailed) as caught:
        send(lane, b"<a/>")
    assert caught.value.error_code == "context_lost"
    assert len(host.handler.seen) == 2


@pytest.mark.parametrize("transport", [DROP_BEFORE, RESET, TRUNCATE, GARBAGE_SEALED])
def test_a_lost_answer_is_asked_for_again_only_when_that_does_no_harm(start, transport):
    host = start(Answer(200, DONE), Answer(200, DONE, transport=transport), Answer(200, DONE), Answer(200, DONE, transport=transport))
    lane = host.lane()
    send(lane, b"<first/>")
    assert send(lane, b"<read/>", repeatable=True) == DONE
    with pytest.raises(OutcomeUnknown):
        send(lane, b"<write/>", repeatable=False)
    assert host.handler.seen == [b"<first/>", b"<read/>", b"<read/>", b"<write/>"]
    assert send(lane, b"<after/>") == DONE
    lane.close()


@pytest.mark.parametrize("repeatable", [True, False])
def test_an_empty_400_rebuilds_the_context_for_what_may_be_repeated(start, repeatable):
    host = start(Answer(200, DONE), Answer(400, b""))
    lane = host.lane()
    send(lane, b"<first/>")
    if repeatable:
        assert send(lane, b"<second/>") == DONE
        assert host.handler.seen == [b"<first/>", b"<second/>", b"<second/>"]
    else:
        with pytest.raises(OutcomeUnknown):
            send(lane, b"<second/>", repeatable=False)
        assert host.handler.seen == [b"<first/>", b"<second/>"]
    lane.close()


@pytest.mark.parametrize("transport", [ENDLESS, SLOW, STALL])
@pytest.mark.parametrize("repeatable", [True, False])
def test_an_answer_without_end_costs_the_deadline_and_no_more(start, transport, repeatable):
    host = start(Answer(200, DONE, transport=transport))
    lane = host.lane()
    begun = CLOCK.monotonic()
    with pytest.raises(OutcomeUnknown if not repeatable else Exception) as caught:
        send(lane, b"<a/>", repeatable=repeatable, seconds=1.0)
    assert CLOCK.monotonic() - begun < 3.0
    assert caught.value.error_code == ("outcome_unknown" if not repeatable else "unreachable")
    assert len(host.handler.seen) == 1


def test_an_endless_answer_stops_at_the_limit_of_bytes(start):
    host = start(Answer(200, DONE, transport=ENDLESS))
    lane = PywinrmLane(host.lane().endpoint, max_answer=200_000)
    with pytest.raises(HttpError) as caught:
        send(lane, b"<a/>", seconds=30.0)
    assert caught.value.error_code == "answer_too_large"
    assert lane.stats.bytes_received < 400_000


def test_a_wrong_password_is_tried_twice_and_never_again(start):
    host = start()
    lane = host.lane(password="wrong")
    for _ in range(5):
        with pytest.raises(AuthenticationFailed) as caught:
            send(lane, b"<a/>")
        assert caught.value.error_code == "wrong_credentials"
    assert host.counters.logon_failures == 2
    assert host.handler.seen == []
    assert "wrong" not in str(caught.value.as_result()).replace("A wrong TLS", "").replace("wrong_credentials", "")


def test_a_transport_that_the_host_does_not_offer_costs_no_attempt(start):
    host = start(schemes=("Basic",))
    lane = host.lane()
    with pytest.raises(AuthenticationFailed) as caught:
        send(lane, b"<a/>")
    assert caught.value.error_code == "transport_not_offered"
    assert "Basic" in caught.value.message
    assert host.counters.logon_failures == 0


@pytest.mark.parametrize("options", [{"message_encryption": "never"}, {"transport": "basic"}])
def test_a_host_that_wants_sealed_messages_says_so_with_an_empty_500(start, options):
    host = start(schemes=("Negotiate", "Basic"))
    with pytest.raises(HttpError) as caught:
        send(host.lane(**options), b"<a/>", repeatable=False)
    assert (caught.value.error_code, caught.value.status) == ("plain_refused", 500)
    assert host.handler.seen == []


def test_a_request_beyond_the_hosts_limit(start):
    host = start(max_envelope_kb=8)
    with pytest.raises(Exception) as caught:
        send(host.lane(), b"<a>" + b"x" * 20000 + b"</a>", repeatable=False)
    assert caught.value.error_code == "envelope_too_large"


def test_an_idle_connection_that_the_host_closed_is_replaced(start):
    host = start(idle_seconds=0.2)
    lane = host.lane()
    send(lane, b"<a/>")
    threading.Event().wait(0.6)  # the host's own patience is what is tested
    assert send(lane, b"<b/>", repeatable=False) == DONE
    assert host.handler.seen == [b"<a/>", b"<b/>"]
    assert lane.stats.connections >= 2


def test_tls_is_trusted_by_the_given_authority_only(start, tmp_path):
    authority, other = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    host = start(tls=TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem"))
    for ca_path in (None, str(tmp_path / "other.pem")):
        with pytest.raises(TlsNotTrusted) as caught:
            send(host.lane(scheme="https", ca_path=ca_path), b"<a/>")
        assert caught.value.error_code == "tls_not_trusted"
    assert host.counters.auth_legs == 0
    trusted = host.lane(scheme="https", ca_path=str(tmp_path / "ca.pem"))
    assert send(trusted, b"<a/>") == DONE
    assert send(host.lane(scheme="https", validate=False), b"<b/>") == DONE
    assert host.handler.seen == [b"<a/>", b"<b/>"]
    wrong_name = host.lane(scheme="https", host="localhost", ca_path=str(tmp_path / "ca.pem"))
    with pytest.raises(TlsNotTrusted):
        send(wrong_name, b"<a/>")


@pytest.mark.parametrize("cbt_hardening", ["None", "Relaxed", "Strict"])
def test_ntlm_over_tls_sends_channel_bindings(start, tmp_path, cbt_hardening):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    host = start(tls=TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem"), cbt_hardening=cbt_hardening)
    lane = host.lane(scheme="https", ca_path=str(tmp_path / "ca.pem"))
    assert [send(lane, b"<a/>") for _ in range(3)] == [DONE] * 3
    assert (host.counters.connections, host.counters.auth_legs) == (1, 2)


@pytest.mark.parametrize("transport", ["credssp"])
def test_other_transports_seal_too(start, transport):
    host = start(schemes=("CredSSP",))
    lane = host.lane(transport=transport)
    large = b"<a>" + b"x" * 40000 + b"</a>"
    assert send(lane, large) == DONE
    assert host.handler.seen == [large]
    lane.close()
