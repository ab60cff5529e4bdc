# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pypsrp, as it comes from PyPI, against the listener: the second independent reading of the protocol."""
from __future__ import annotations

import re

import pytest
from pypsrp.exceptions import AuthenticationError, WinRMTransportError
from pypsrp.wsman import WSMan
from simulator.cim.model import Account
from simulator.net.contract import Answer

PERSON = Account("jörg🖥", "pässwörd🔑:€", groups=frozenset({"Administrators"}))
CONFIG = "http://schemas.microsoft.com/wbem/wsman/1/config"
ANSWER = """<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing">
<s:Header><a:Action>http://schemas.xmlsoap.org/ws/2004/09/transfer/GetResponse</a:Action><a:RelatesTo>{}</a:RelatesTo></s:Header>
<s:Body><Config xmlns="http://schemas.microsoft.com/wbem/wsman/1/config">{}</Config></s:Body></s:Envelope>"""


class Relating:
    """Answers with the message's own id, which pypsrp insists on."""

    def __init__(self, filler=""):
        self.bodies = []
        self.callers = []
        self.filler = filler

    async def handle(self, connection, body, headers):
        self.bodies.append(body)
        self.callers.append(connection.caller)
        message = re.search(rb"MessageID[^>]*>([^<]*)<", body)
        return Answer(200, ANSWER.format(message.group(1).decode(), self.filler).encode())

    def identify(self, authenticated):
        return Answer(200)


def client(host, **options):
    account = host.people.accounts[0]
    options.setdefault("auth", "ntlm")
    options.setdefault("password", account.password)
    return WSMan("localhost", port=host.port, ssl=host.scheme == "https", username=account.name, no_proxy=True, reconnection_retries=0,
                 **options)


def ask(wsman):
    wsman.update_max_payload_size(153600)
    return wsman.get(CONFIG)


@pytest.fixture
def relating(start_host):
    def start(*args, filler="", **settings):
        host = start_host(*args, **settings)
        host.listener.handler = Relating(filler)
        return host
    return start


@pytest.mark.parametrize("auth", ["negotiate", "ntlm"])
def test_sealed_over_http(relating, auth):
    """``negotiate`` wraps NTLM in SPNEGO, ``ntlm`` sends it raw (wire 6.1)."""
    host = relating([PERSON], filler="Grüße")
    with client(host, auth=auth, encryption="always") as wsman:
        assert ask(wsman).findtext(".//{*}Config") == "Grüße"
        assert ask(wsman).findtext(".//{*}Config") == "Grüße"
    handler = host.listener.handler
    assert [(caller.account, caller.scheme) for caller in handler.callers] == [(PERSON, "ntlm")] * 2
    assert b"Envelope" in handler.bodies[0]
    assert (host.counters.connections, host.counters.logon_failures) == (1, 0)


@pytest.mark.parametrize("auth", ["negotiate", "ntlm"])
@pytest.mark.parametrize("hardening", ["None", "Relaxed", "Strict"])
def test_plain_over_https_with_channel_bindings(relating, certificates, auth, hardening):
    host = relating([PERSON], tls=certificates.tls, cbt_hardening=hardening)
    with client(host, auth=auth, cert_validation=str(certificates.ca)) as wsman:
        assert ask(wsman).find(".//{*}Config") is not None


def test_sealed_over_https(relating, certificates):
    host = relating([PERSON], tls=certificates.tls)
    with client(host, cert_validation=str(certificates.ca), encryption="always") as wsman:
        assert ask(wsman).find(".//{*}Config") is not None


@pytest.mark.parametrize("size", [10, 40_000])
def test_credssp(relating, size):
    host = relating([PERSON], schemes=("CredSSP",), filler="x" * size)
    with client(host, auth="credssp", encryption="always") as wsman:
        assert ask(wsman).findtext(".//{*}Config") == "x" * size
    assert [(caller.scheme, caller.delegated) for caller in host.listener.handler.callers] == [("credssp", True)]


def test_basic_and_certificate(relating, certificates):
    person = Account("backup", "Secret1", certificate_subject="backup")
    host = relating([person], schemes=("Basic", "Certificate"), tls=certificates.tls)
    with client(host, auth="basic", cert_validation=str(certificates.ca)) as wsman:
        ask(wsman)
    with client(host, auth="certificate", cert_validation=str(certificates.ca), certificate_pem=str(certificates.client),
                certificate_key_pem=str(certificates.client_key)) as wsman:
        ask(wsman)
    assert [caller.scheme for caller in host.listener.handler.callers] == ["basic", "certificate"]


@pytest.mark.parametrize("auth", ["negotiate", "ntlm"])
def test_a_wrong_password(relating, auth):
    host = relating([PERSON])
    with client(host, auth=auth, password="wrong", encryption="always") as wsman, pytest.raises(AuthenticationError):
        ask(wsman)
    assert host.counters.logon_failures == 1


def test_a_plain_message_over_http_is_an_empty_500(relating):
    host = relating([PERSON])
    with client(host, encryption="never") as wsman, pytest.raises(WinRMTransportError) as caught:
        ask(wsman)
    assert (caught.value.code, caught.value.response_text) == (500, "")
