# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pywinrm, as it comes from PyPI, against the listener."""
from __future__ import annotations

import pytest
from requests_credssp.exceptions import NTStatusException
from simulator.cim.model import Account
from simulator.net.contract import Answer
from spnego.exceptions import BadMICError
from winrm.exceptions import InvalidCredentialsError, WinRMTransportError
from winrm.transport import Transport

MESSAGE = '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope">Grüße 🖥</s:Envelope>'
LOCAL = Account("backup", "Secret:1", groups=frozenset({"Administrators"}), certificate_subject="backup")
DOMAIN = Account("operator", "Secret2", domain="CONTOSO", groups=frozenset({"Hyper-V Administrators"}))


def transport(host, account=None, user=None, password=None, **options):
    account = account or host.people.accounts[0]
    options.setdefault("auth_method", "ntlm")
    options.setdefault("read_timeout_sec", 10)
    return Transport(host.url, username=user or account.display, password=account.password if password is None else password,
                     proxy=None, **options)


def test_ntlm_with_sealed_messages(start_host):
    host = start_host()
    client = transport(host, message_encryption="always")
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    assert client.send_message(MESSAGE * 10) == (MESSAGE * 10).encode()
    assert host.echo.bodies == [MESSAGE.encode(), (MESSAGE * 10).encode()]
    assert host.echo.content_types == ["application/soap+xml;charset=UTF-8"] * 2
    caller = host.echo.callers[0]
    assert (caller.account.name, caller.scheme, caller.elevated, caller.delegated) == ("Administrator", "ntlm", True, False)
    assert (host.counters.connections, host.counters.auth_legs, host.counters.unauthorized, host.counters.logon_failures) == (1, 2, 1, 0)
    client.close_session()


@pytest.mark.parametrize(("account", "user"), [
    (LOCAL, "backup"), (LOCAL, "BACKUP"), (LOCAL, r"HV1\backup"), (LOCAL, r".\backup"), (LOCAL, r"hv1.contoso.test\backup"),
    (LOCAL, r"NOWHERE\backup"), (DOMAIN, r"CONTOSO\operator"), (DOMAIN, r"contoso.test\Operator"), (DOMAIN, "operator@contoso.test"),
    (DOMAIN, "operator"),
    (Account("Ülkü Œuvre", "pä:ß wörd€"), None), (Account("用户🖥名", "パス🔑ワード\u2028\n"), None),
    (Account("名前", "🔑", domain="例え"), None),
])
def test_the_names_and_passwords_that_ntlm_accepts(start_host, account, user):
    host = start_host([account], name="hv1.contoso.test")
    client = transport(host, user=user, message_encryption="always")
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    assert host.echo.callers[0].account == account
    client.close_session()


@pytest.mark.parametrize(("account", "user", "password"), [
    (LOCAL, "backup", "secret:1"), (LOCAL, "backup", ""), (LOCAL, "nobody", "Secret:1"), (LOCAL, "back:up", "Secret:1"),
    (DOMAIN, r"CONTOSO\nobody", "Secret2"), (DOMAIN, r".\operator", "Secret2"), (DOMAIN, r"HV1\operator", "Secret2"),
])
def test_a_wrong_name_or_password_is_a_401(start_host, account, user, password):
    host = start_host([account])
    client = transport(host, user=user, password=password, message_encryption="always")
    with pytest.raises(InvalidCredentialsError):
        client.send_message(MESSAGE)
    assert (host.counters.logon_failures, host.echo.bodies) == (1, [])
    client.close_session()


def test_a_domain_account_of_the_same_name_is_another_one(start_host):
    mine, theirs = Account("svc", "one"), Account("svc", "two", domain="CONTOSO")
    host = start_host([theirs, mine])
    for user, password, account in (("svc", "one", mine), (r"CONTOSO\svc", "two", theirs)):
        client = transport(host, user=user, password=password, message_encryption="always")
        client.send_message(MESSAGE)
        assert host.echo.callers[-1].account == account
        client.close_session()


def test_hosts_in_one_process_keep_their_accounts_apart(start_host):
    first, second = start_host([Account("same", "one")]), start_host([Account("same", "two")], name="HV2")
    clients = []
    for host, password in ((first, "one"), (second, "two")):
        client = transport(host, password=password, message_encryption="always")
        clients.append(client)
        assert client.send_message(MESSAGE) == MESSAGE.encode()
    for host, password in ((first, "two"), (second, "one")):
        client = transport(host, password=password, message_encryption="always")
        clients.append(client)
        with pytest.raises(InvalidCredentialsError):
            client.send_message(MESSAGE)
    for client in clients:
        client.close_session()


def test_a_changed_password_counts_at_once(start_host):
    host = start_host([Account("same", "old")])
    host.people.accounts[0] = Account("same", "new")
    client = transport(host, password="new", message_encryption="always")
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    client.close_session()


def test_a_fault_is_sealed_too(start_host):
    host = start_host()
    host.echo.answers.append(Answer(500, MESSAGE.encode()))
    client = transport(host, message_encryption="always")
    with pytest.raises(WinRMTransportError) as caught:
        client.send_message(MESSAGE)
    assert (caught.value.code, caught.value.response_text) == (500, MESSAGE)
    client.close_session()


def test_large_messages_go_through_sealed(start_host):
    host = start_host()
    client = transport(host, message_encryption="always")
    large = MESSAGE + "x" * 400_000
    assert client.send_message(large) == large.encode()
    client.close_session()


def test_a_message_over_the_limit_is_413_and_the_connection_goes_on(start_host):
    host = start_host(max_envelope_kb=8)
    client = transport(host, message_encryption="always")
    assert client.send_message("x" * 8192) == b"x" * 8192
    with pytest.raises(WinRMTransportError) as caught:
        client.send_message("x" * 8193)
    assert (caught.value.code, caught.value.response_text) == (413, "")
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    assert host.counters.connections == 1
    client.close_session()


def test_plain_messages_over_http_are_refused_unless_allowed(start_host):
    host = start_host()
    client = transport(host, message_encryption="never")
    with pytest.raises(WinRMTransportError) as caught:
        client.send_message(MESSAGE)
    assert (caught.value.code, caught.value.response_text) == (500, "")
    client.close_session()
    host = start_host(allow_unencrypted=True)
    client = transport(host, message_encryption="never")
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    client.close_session()


def test_an_answer_that_does_not_unseal(start_host):
    host = start_host()
    host.echo.answers.append(Answer(200, MESSAGE.encode(), transport="garbage_sealed"))
    client = transport(host, message_encryption="always")
    with pytest.raises(BadMICError):
        client.send_message(MESSAGE)
    client.close_session()


def test_basic(start_host):
    host = start_host([LOCAL, DOMAIN], schemes=("Negotiate", "Basic"), allow_unencrypted=True)
    client = transport(host, auth_method="basic")
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    assert [caller.scheme for caller in host.echo.callers] == ["basic", "basic"]
    assert (host.counters.auth_legs, host.counters.connections) == (1, 1)
    client.close_session()


@pytest.mark.parametrize(("user", "password"), [("backup", "wrong"), (r"CONTOSO\operator", "Secret2"), ("operator", "Secret2")])
def test_basic_refuses_wrong_passwords_and_domain_accounts(start_host, user, password):
    host = start_host([LOCAL, DOMAIN], schemes=("Basic",), allow_unencrypted=True)
    client = transport(host, auth_method="basic", user=user, password=password)
    with pytest.raises(InvalidCredentialsError):
        client.send_message(MESSAGE)
    client.close_session()


def test_basic_is_refused_where_it_is_not_offered(start_host):
    host = start_host([LOCAL], allow_unencrypted=True)
    client = transport(host, auth_method="basic")
    with pytest.raises(InvalidCredentialsError):
        client.send_message(MESSAGE)
    client.close_session()


def test_basic_over_https(start_host, certificates):
    host = start_host([LOCAL], schemes=("Basic",), tls=certificates.tls)
    client = transport(host, auth_method="ssl", ca_trust_path=str(certificates.ca))
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    client.close_session()


@pytest.mark.parametrize("hardening", ["None", "Relaxed", "Strict"])
@pytest.mark.parametrize("encryption", ["auto", "always"])
def test_ntlm_over_https_with_channel_bindings(start_host, certificates, hardening, encryption):
    host = start_host([LOCAL], tls=certificates.tls, cbt_hardening=hardening)
    client = transport(host, ca_trust_path=str(certificates.ca), message_encryption=encryption)
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    assert host.echo.callers[0].scheme == "ntlm"
    client.close_session()


@pytest.mark.parametrize(("hardening", "accepted"), [("None", True), ("Relaxed", True), ("Strict", False)])
def test_only_strict_insists_on_channel_bindings(start_host, certificates, hardening, accepted):
    host = start_host([LOCAL], tls=certificates.tls, cbt_hardening=hardening)
    client = transport(host, ca_trust_path=str(certificates.ca), send_cbt=False)
    if accepted:
        assert client.send_message(MESSAGE) == MESSAGE.encode()
    else:
        with pytest.raises(InvalidCredentialsError):
            client.send_message(MESSAGE)
    client.close_session()


@pytest.mark.parametrize(("hardening", "accepted"), [("None", True), ("Relaxed", False), ("Strict", False)])
def test_wrong_channel_bindings_look_like_bad_credentials(start_host, certificates, hardening, accepted, monkeypatch):
    host = start_host([LOCAL], tls=certificates.tls, cbt_hardening=hardening)
    client = transport(host, ca_trust_path=str(certificates.ca))
    monkeypatch.setattr("requests_ntlm.requests_ntlm._get_certificate_hash", lambda der: bytes(32))
    if accepted:
        assert client.send_message(MESSAGE) == MESSAGE.encode()
    else:
        with pytest.raises(InvalidCredentialsError):
            client.send_message(MESSAGE)
    client.close_session()


def test_a_client_certificate(start_host, certificates):
    host = start_host([LOCAL], schemes=("Certificate",), tls=certificates.tls)
    client = transport(host, auth_method="certificate", ca_trust_path=str(certificates.ca),
                       cert_pem=str(certificates.client), cert_key_pem=str(certificates.client_key))
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    assert (host.echo.callers[0].account, host.echo.callers[0].scheme) == (LOCAL, "certificate")
    client.close_session()


def test_a_client_certificate_of_nobody(start_host, certificates):
    host = start_host([LOCAL], schemes=("Certificate",), tls=certificates.tls)
    client = transport(host, auth_method="certificate", ca_trust_path=str(certificates.ca),
                       cert_pem=str(certificates.stranger), cert_key_pem=str(certificates.stranger_key))
    with pytest.raises(InvalidCredentialsError):
        client.send_message(MESSAGE)
    client.close_session()


@pytest.mark.parametrize("size", [100, 16384, 50_000])
@pytest.mark.parametrize("options", [{}, {"credssp_auth_mechanism": "ntlm"}])
def test_credssp_delegates_and_seals_in_pieces(start_host, size, options):
    host = start_host([DOMAIN], schemes=("Negotiate", "CredSSP"))
    client = transport(host, auth_method="credssp", message_encryption="always", **options)
    message = MESSAGE + "x" * size
    assert client.send_message(message) == message.encode()
    assert client.send_message(message) == message.encode()
    assert (host.echo.callers[0].account, host.echo.callers[0].scheme, host.echo.callers[0].delegated) == (DOMAIN, "credssp", True)
    assert host.counters.connections == 1
    client.close_session()


def test_credssp_over_https(start_host, certificates):
    host = start_host([DOMAIN], schemes=("CredSSP",), tls=certificates.tls, cbt_hardening="Strict")
    client = transport(host, auth_method="credssp", ca_trust_path=str(certificates.ca))
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    client.close_session()


def test_credssp_with_a_wrong_password(start_host):
    host = start_host([DOMAIN], schemes=("CredSSP",))
    client = transport(host, auth_method="credssp", password="wrong", message_encryption="always")
    with pytest.raises(NTStatusException) as caught:
        client.send_message(MESSAGE)
    assert caught.value.args[0] == 0x8009030C  # SEC_E_LOGON_DENIED
    assert host.counters.logon_failures == 1
    assert host.echo.bodies == []
    client.close_session()


def rebuild(client):
    client.close_session()
    client.encryption = None


def test_after_a_lost_connection_the_replayed_message_is_stale(start_host):
    """The known trap of requests_ntlm (wire 6.4): the replayed body was sealed with the old key, so the host answers 400 with no body."""
    host = start_host()
    client = transport(host, message_encryption="always")
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    (pool,) = client.session.adapters["http://"].poolmanager.pools._container.values()
    lost = pool.pool.get_nowait()
    lost.close()
    pool.pool.put(lost)
    with pytest.raises(WinRMTransportError) as caught:
        client.send_message(MESSAGE)
    # The second connection ended with the 401 to a request that carried a message; the third one logged on.
    assert (caught.value.code, caught.value.response_text, host.counters.connections) == (400, "", 3)
    rebuild(client)
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    assert len(host.echo.bodies) == 2
    client.close_session()


def test_a_401_in_the_middle_ends_in_a_stale_message_too(start_host):
    host = start_host()
    host.echo.answers.append(Answer(200, b"", transport="unauthorized"))
    client = transport(host, message_encryption="always")
    with pytest.raises(WinRMTransportError) as caught:
        client.send_message(MESSAGE)
    assert (caught.value.code, caught.value.response_text) == (400, "")
    rebuild(client)
    assert client.send_message(MESSAGE) == MESSAGE.encode()
    client.close_session()
