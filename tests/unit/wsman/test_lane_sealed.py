# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lane against real sockets: pywinrm, NTLM and sealing on one side, the simulated host's listener on the other."""
from __future__ import annotations

import threading
from pathlib import Path

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import AuthenticationFailed, HttpError, TlsNotTrusted
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.lane import PywinrmLane
from cryptography.hazmat.primitives import serialization
from simulator.cim.model import Account
from simulator.net.contract import DROP_BEFORE, ENDLESS, GARBAGE_SEALED, RESET, SLOW, STALL, TRUNCATE, UNAUTHORIZED, Answer
from support.listener import CLOCK, DONE, send


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
@pytest.mark.parametrize("status", [400, 500])
def test_an_empty_400_or_500_rebuilds_the_context_for_what_may_be_repeated(start, status, repeatable):
    host = start(Answer(200, DONE), Answer(status, b""))
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
    for _unused in range(5):
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


def test_tls_is_trusted_by_the_given_authority_only(start, certificates):
    host = start(tls=certificates.tls)
    for ca_path in (None, certificates.stranger):
        with pytest.raises(TlsNotTrusted) as caught:
            send(host.lane(scheme="https", ca_path=ca_path), b"<a/>")
        assert caught.value.error_code == "tls_not_trusted"
    assert host.counters.auth_legs == 0
    trusted = host.lane(scheme="https", ca_path=certificates.ca)
    assert send(trusted, b"<a/>") == DONE
    assert send(host.lane(scheme="https", validate=False), b"<b/>") == DONE
    assert host.handler.seen == [b"<a/>", b"<b/>"]
    with pytest.raises(TlsNotTrusted):
        send(host.lane(scheme="https", host="localhost", ca_path=certificates.ca), b"<a/>")


@pytest.mark.parametrize("cbt_hardening", ["None", "Relaxed", "Strict"])
def test_ntlm_over_tls_sends_channel_bindings(start, certificates, cbt_hardening):
    host = start(tls=certificates.tls, cbt_hardening=cbt_hardening)
    lane = host.lane(scheme="https", ca_path=certificates.ca)
    assert [send(lane, b"<a/>") for _unused in range(3)] == [DONE] * 3
    assert (host.counters.connections, host.counters.auth_legs) == (1, 2)


def test_a_wrong_channel_binding_looks_like_a_wrong_password(start, certificates):
    host = start(tls=certificates.tls, cbt_hardening="Strict")
    with pytest.raises(AuthenticationFailed) as caught:
        send(host.lane(scheme="https", ca_path=certificates.ca, send_cbt=False), b"<a/>")
    assert caught.value.error_code == "wrong_credentials"


@pytest.mark.parametrize("message_encryption", ["auto", "always"])
@pytest.mark.parametrize("tls", [False, True])
def test_credssp_seals_large_messages_in_parts(start, certificates, tls, message_encryption):
    host = start(schemes=("CredSSP",), **({"tls": certificates.tls} if tls else {}))
    lane = host.lane(transport="credssp", message_encryption=message_encryption, scheme="https" if tls else "http", ca_path=certificates.ca)
    large = b"<a>" + b"x" * 40000 + b"</a>"
    assert send(lane, large) == DONE
    assert host.handler.seen == [large]
    assert host.directory.callers[0].delegated
    lane.close()


def test_a_wrong_password_over_credssp(start):
    host = start(schemes=("CredSSP",))
    lane = host.lane(transport="credssp", password="wrong")
    for _unused in range(4):
        with pytest.raises(AuthenticationFailed) as caught:
            send(lane, b"<a/>")
        assert caught.value.error_code == "wrong_credentials"
    assert host.counters.logon_failures <= 2
    assert host.handler.seen == []


def test_a_certificate_is_an_account(start, certificates):
    account = Account("backup", "x", certificate_subject="backup")
    host = start(schemes=("Certificate",), tls=certificates.tls, account=account)
    lane = host.lane(scheme="https", transport="certificate", username=None, password=None, ca_path=certificates.ca,
                     cert_pem=certificates.client, cert_key_pem=certificates.client_key)
    assert [send(lane, b"<a/>"), send(lane, b"<b/>")] == [DONE, DONE]
    assert host.directory.callers[0].scheme == "certificate"


def test_a_certificate_with_an_encrypted_key(start, certificates, tmp_path):
    key = serialization.load_pem_private_key(Path(certificates.client_key).read_bytes(), None)
    sealed = tmp_path / "sealed.pem"
    sealed.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                         serialization.BestAvailableEncryption(b"geheim")))
    host = start(schemes=("Certificate",), tls=certificates.tls, account=Account("backup", "x", certificate_subject="backup"))
    options = {"scheme": "https", "transport": "certificate", "username": None, "password": None, "ca_path": certificates.ca,
               "cert_pem": certificates.client, "cert_key_pem": str(sealed)}
    assert send(host.lane(**options, cert_key_password="geheim"), b"<a/>") == DONE
    with pytest.raises(HypervError):
        send(host.lane(**options, cert_key_password="falsch"), b"<a/>")


def test_basic_over_tls(start, certificates):
    host = start(schemes=("Basic",), tls=certificates.tls)
    lane = host.lane(scheme="https", transport="basic", ca_path=certificates.ca)
    assert [send(lane, b"<a/>"), send(lane, b"<b/>")] == [DONE, DONE]
    assert host.counters.connections == 1
