# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kerberos with a real KDC: pywinrm and pypsrp against the listener."""
from __future__ import annotations

import pytest
from pypsrp.exceptions import AuthenticationError
from pypsrp.negotiate import HTTPNegotiateAuth
from pypsrp.wsman import WSMan
from support.kerberos import OPERATOR, REALM, STRANGER, ticket_of, what_is_missing
from winrm.exceptions import InvalidCredentialsError, WinRMTransportError
from winrm.transport import Transport

pytestmark = [pytest.mark.kerberos, pytest.mark.skipif(what_is_missing() is not None, reason=str(what_is_missing()))]

MESSAGE = "<Envelope>Grüße 🖥</Envelope>" * 50


@pytest.fixture(autouse=True)
def _environment(realm, monkeypatch):
    for name, value in realm.environment.items():
        monkeypatch.setenv(name, value)
    with ticket_of(realm, OPERATOR):
        yield


def transport(host, user="operator", **options):
    return Transport(host.url, username=f"{user}@{REALM}", auth_method="kerberos", service="HTTP", proxy=None, read_timeout_sec=10,
                     **options)


@pytest.mark.parametrize("schemes", [("Negotiate",), ("Negotiate", "Kerberos"), ("Kerberos", "Negotiate", "CredSSP")])
def test_pywinrm_with_sealed_messages(start_host, schemes):
    host = start_host([OPERATOR], schemes=schemes)
    client = transport(host, message_encryption="always")
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    assert client.send_message(MESSAGE * 100) == (MESSAGE * 100).encode()
    caller = host.echo.callers[0]
    assert (caller.account, caller.scheme, caller.delegated) == (OPERATOR, "kerberos", False)
    assert (host.counters.auth_legs, host.counters.connections, host.counters.logon_failures) == (1, 1, 0)
    client.close_session()


def test_a_delegated_ticket(start_host, realm):
    realm.log_on(f"operator@{REALM}", OPERATOR.password, forwardable=True)
    host = start_host([OPERATOR])
    client = transport(host, message_encryption="always", kerberos_delegation=True)
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    assert host.echo.callers[0].delegated is True
    client.close_session()


def test_an_account_that_the_host_does_not_know(start_host, realm):
    realm.log_on(f"stranger@{REALM}", STRANGER.password)
    host = start_host([OPERATOR])
    client = transport(host, user="stranger", message_encryption="always")
    with pytest.raises(InvalidCredentialsError):
        client.send_message(MESSAGE)
    assert host.echo.bodies == []
    assert host.counters.logon_failures == host.counters.auth_legs > 0  # requests_kerberos tries more than once
    client.close_session()


def test_plain_messages_are_refused(start_host):
    host = start_host([OPERATOR])
    client = transport(host, message_encryption="never")
    with pytest.raises(WinRMTransportError) as caught:
        client.send_message(MESSAGE)
    assert caught.value.code == 500
    client.close_session()


@pytest.mark.parametrize(("hardening", "send_cbt", "accepted"), [
    ("None", True, True), ("Relaxed", True, True), ("Strict", True, True),
    ("None", False, True), ("Relaxed", False, True), ("Strict", False, False),
])
def test_channel_bindings_over_https(start_host, certificates, hardening, send_cbt, accepted):
    host = start_host([OPERATOR], tls=certificates.tls, cbt_hardening=hardening)
    client = transport(host, ca_trust_path=str(certificates.ca), send_cbt=send_cbt)
    if accepted:
        assert client.send_message(MESSAGE) == MESSAGE.encode()
    else:
        with pytest.raises(InvalidCredentialsError):
            client.send_message(MESSAGE)
    client.close_session()


def psrp(host, **options):
    return WSMan("localhost", port=host.port, ssl=host.scheme == "https", username=f"operator@{REALM}", negotiate_service="HTTP",
                 no_proxy=True, reconnection_retries=0, **options)


@pytest.mark.parametrize("auth", ["kerberos", "negotiate"])
@pytest.mark.parametrize("schemes", [("Negotiate", "Kerberos"), ("Negotiate",), ("Kerberos",)])
def test_pypsrp_with_sealed_messages(start_host, auth, schemes):
    """pypsrp names the protection after the scheme that the host answered with, and wraps Kerberos in SPNEGO for ``negotiate``."""
    host = start_host([OPERATOR], schemes=schemes)
    with psrp(host, auth=auth, encryption="always") as wsman:
        assert wsman.transport.send(MESSAGE.encode()) == MESSAGE.encode()
        assert wsman.transport.send(MESSAGE.encode()) == MESSAGE.encode()
    assert [caller.scheme for caller in host.echo.callers] == ["kerberos", "kerberos"]


@pytest.mark.parametrize(("hardening", "accepted"), [("None", True), ("Relaxed", False), ("Strict", False)])
def test_wrong_channel_bindings(start_host, certificates, hardening, accepted, monkeypatch):
    monkeypatch.setattr(HTTPNegotiateAuth, "_get_certificate_hash", staticmethod(lambda der: bytes(32)))
    host = start_host([OPERATOR], tls=certificates.tls, cbt_hardening=hardening)
    with psrp(host, auth="kerberos", cert_validation=str(certificates.ca)) as wsman:
        if accepted:
            assert wsman.transport.send(MESSAGE.encode()) == MESSAGE.encode()
        else:
            with pytest.raises(AuthenticationError):
                wsman.transport.send(MESSAGE.encode())
