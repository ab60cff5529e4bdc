# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lane with Kerberos, against a real KDC and the simulated host's listener."""
from __future__ import annotations

import os

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import AuthenticationFailed
from simulator.net.contract import RESET, UNAUTHORIZED, Answer
from support.kerberos import OPERATOR, REALM, STRANGER, ticket_of, what_is_missing
from support.listener import DONE, send

pytestmark = [pytest.mark.kerberos, pytest.mark.skipif(what_is_missing() is not None, reason=str(what_is_missing()))]


@pytest.fixture(autouse=True)
def _ticket(realm, monkeypatch):
    """All but the ticket cache is the machine's configuration; the cache is named by the endpoint alone."""
    for name, value in realm.environment.items():
        if name != "KRB5CCNAME":
            monkeypatch.setenv(name, value)
    with ticket_of(realm, OPERATOR):
        yield


def lane(host, realm, **options):
    settings = {"host": "localhost", "transport": "kerberos", "username": f"operator@{REALM}", "password": None,
                "environment": {"KRB5CCNAME": realm.environment["KRB5CCNAME"]}}
    return host.lane(**{**settings, **options})


def test_sealed_messages_with_the_endpoints_own_ticket_cache(start, realm, monkeypatch):
    monkeypatch.delenv("KRB5CCNAME", raising=False)
    host = start(account=OPERATOR)
    one = lane(host, realm)
    messages = [b"<a>" + b"x" * size + b"</a>" for size in (1, 5000, 100_000)]
    assert [send(one, message) for message in messages] == [DONE] * 3
    assert host.handler.seen == messages
    assert (host.directory.callers[0].scheme, host.directory.callers[0].delegated, host.counters.connections) == ("kerberos", False, 1)
    assert "KRB5CCNAME" not in os.environ
    one.close()


def test_a_delegated_ticket(start, realm):
    realm.log_on(f"operator@{REALM}", OPERATOR.password, forwardable=True)
    host = start(account=OPERATOR)
    assert send(lane(host, realm, kerberos_delegation=True), b"<a/>") == DONE
    assert host.directory.callers[0].delegated is True


@pytest.mark.parametrize("transport", [UNAUTHORIZED, RESET])
def test_a_context_that_the_host_lost_is_rebuilt(start, realm, transport):
    host = start(Answer(200, DONE), Answer(401, transport=transport), account=OPERATOR)
    one = lane(host, realm)
    assert [send(one, b"<a/>"), send(one, b"<b/>")] == [DONE, DONE]
    assert host.handler.seen == [b"<a/>", b"<b/>", b"<b/>"]
    assert (one.stats.rebuilds, host.counters.logon_failures) == (1, 0)


def test_an_account_that_the_host_does_not_know(start, realm):
    realm.log_on(f"stranger@{REALM}", STRANGER.password)
    host = start(account=OPERATOR)
    one = lane(host, realm, username=f"stranger@{REALM}")
    with pytest.raises(AuthenticationFailed) as caught:
        send(one, b"<a/>")
    assert caught.value.error_code == "wrong_credentials"
    assert host.counters.logon_failures <= 2
    assert host.handler.seen == []


def test_no_ticket(start, realm):
    realm.log_off()
    host = start(account=OPERATOR)
    with pytest.raises(AuthenticationFailed) as caught:
        send(lane(host, realm), b"<a/>")
    assert (caught.value.error_code, host.counters.logon_failures) == ("authentication_failed", 0)
    assert "ticket" in caught.value.hint


@pytest.mark.parametrize("hardening", ["None", "Relaxed"])
def test_over_tls(start, realm, certificates, hardening):
    host = start(tls=certificates.tls, cbt_hardening=hardening, account=OPERATOR)
    one = lane(host, realm, scheme="https", validate=False)
    assert [send(one, b"<a/>"), send(one, b"<b/>")] == [DONE, DONE]
    assert host.counters.connections == 1
