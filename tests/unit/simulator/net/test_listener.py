# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes over the socket, byte by byte: HTTP, challenges, sealed bodies, idle sockets and broken answers."""
from __future__ import annotations

import base64
import os
import re
import socket
import ssl
import struct
import threading
import time

import pytest
import spnego
from simulator.cim.model import Account
from simulator.net import encryption
from simulator.net.contract import Answer
from spnego.exceptions import BadMICError

PLAIN = b"<s:Envelope/>"
SOAP = "application/soap+xml;charset=UTF-8"
IDENTIFY = (b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><i:Identify '
            b'xmlns:i="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"/></s:Body></s:Envelope>')


class Wire:
    """A client that does just what a test says."""

    def __init__(self, host, certificates=None):
        self.socket = socket.create_connection(("127.0.0.1", host.port), timeout=10)
        if certificates:
            self.socket = ssl.create_default_context(cafile=str(certificates.ca)).wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""
        self.context = None

    def request(self, body=b"", method="POST", path="/wsman", **headers):
        lines = [f"{method} {path} HTTP/1.1", "Host: hv1", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def head(self):
        while b"\r\n\r\n" not in self.buffer:
            received = self.socket.recv(65536)
            if not received:
                raise EOFError(self.buffer)
            self.buffer += received
        head, _unused, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        pairs = [(name.lower(), value) for name, _unused, value in (line.partition(": ") for line in lines)]
        assert re.fullmatch(r"HTTP/1\.1 (\d{3} |100 Continue)", first)
        return int(first.split()[1]), pairs

    def response(self):
        status, pairs = self.head()
        headers = dict(pairs)
        length = int(headers["content-length"])
        while len(self.buffer) < length:
            received = self.socket.recv(65536)
            if not received:
                raise EOFError(self.buffer)
            self.buffer += received
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return status, pairs, body

    def ask(self, body=b"", **options):
        self.request(body, **options)
        return self.response()

    def closed(self):
        """The server has closed its side in an orderly way."""
        return self.socket.recv(1) == b""

    def log_on(self, account, scheme="Negotiate"):
        self.context = spnego.client(account.display, account.password, hostname="localhost", service="HTTP", protocol="ntlm")
        token = self.context.step()
        while token:
            status, pairs, body = self.ask(Authorization=f"{scheme} {base64.b64encode(token).decode()}")
            answer = next((value for name, value in pairs if name == "www-authenticate"), "")
            token = self.context.step(base64.b64decode(answer.split()[1])) if " " in answer else None
        return status, body

    def seal(self, plain):
        header, data, _unused = self.context.wrap_winrm(plain)
        body = (b"--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"
                b"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=" + str(len(plain)).encode() + b"\r\n"
                b"--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n"
                + struct.pack("<I", len(header)) + header + data + b"--Encrypted Boundary--\r\n")
        return body, 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"'

    def ask_sealed(self, plain):
        body, content_type = self.seal(plain)
        return self.ask(body, Content_Type=content_type)

    def close(self):
        self.socket.close()


@pytest.fixture
def connect():
    wires = []

    def start(host, certificates=None):
        wires.append(Wire(host, certificates))
        return wires[-1]

    yield start
    for wire in wires:
        wire.close()


def challenges(pairs):
    return [value for name, value in pairs if name == "www-authenticate"]


def test_a_401_lists_each_scheme_in_a_header_of_its_own(start_host, connect):
    host = start_host(schemes=("CredSSP", "Basic", "Negotiate", "Kerberos", "Certificate"))
    status, pairs, body = connect(host).ask()
    assert (status, body, challenges(pairs)) == (401, b"", ["Negotiate", "Kerberos", 'Basic realm="WSMAN"', "CredSSP"])
    assert dict(pairs)["server"] == "Microsoft-HTTPAPI/2.0"
    assert dict(pairs)["content-length"] == "0"
    assert host.counters.unauthorized == 1


def test_a_first_request_with_a_message_ends_the_connection(start_host, connect):
    wire = connect(start_host())
    status, pairs, _unused = wire.ask(PLAIN, Content_Type=SOAP)
    assert (status, dict(pairs)["connection"]) == (401, "close")
    assert wire.closed()


def test_after_the_log_on_no_header_is_needed_and_a_second_socket_starts_over(start_host, connect):
    host = start_host(allow_unencrypted=True)
    wire = connect(host)
    assert wire.log_on(host.people.accounts[0]) == (200, b"")
    assert wire.ask(PLAIN, Content_Type=SOAP)[::2] == (200, PLAIN)
    assert wire.ask(PLAIN, Content_Type=SOAP)[::2] == (200, PLAIN)
    second = connect(host)
    assert second.ask()[0] == 401
    assert second.log_on(host.people.accounts[0]) == (200, b"")
    assert host.echo.connections == [1, 1]
    assert (host.counters.auth_legs, host.counters.connections) == (4, 2)


def test_a_log_on_cannot_be_spread_over_two_sockets(start_host, connect):
    """What a shared pool does (wire 6.4): the second leg arrives at a socket that knows nothing of the first."""
    host = start_host()
    account = host.people.accounts[0]
    first, second = connect(host), connect(host)
    context = spnego.client(account.name, account.password, protocol="ntlm")
    _unused, pairs, _unused = first.ask(Authorization=f"Negotiate {base64.b64encode(context.step()).decode()}")
    token = context.step(base64.b64decode(challenges(pairs)[0].split()[1]))
    status, pairs, _unused = second.ask(Authorization=f"Negotiate {base64.b64encode(token).decode()}")
    assert (status, challenges(pairs)) == (401, ["Negotiate", "Kerberos"])


def test_a_plain_message_is_refused_with_an_empty_500(start_host, connect):
    host = start_host()
    wire = connect(host)
    wire.log_on(host.people.accounts[0])
    status, _unused, body = wire.ask(PLAIN, Content_Type=SOAP)
    assert (status, body, host.echo.bodies) == (500, b"", [])
    assert wire.ask_sealed(PLAIN)[0] == 200


def test_a_sealed_answer_has_the_recorded_form(start_host, connect):
    host = start_host()
    wire = connect(host)
    wire.log_on(host.people.accounts[0])
    host.echo.answers.append(Answer(500, b"<fault/>"))
    status, pairs, body = wire.ask_sealed(PLAIN)
    assert status == 500
    assert dict(pairs)["content-type"] == ('multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";'
                                           'boundary="Encrypted Boundary"')
    head = (b"--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"
            b"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=8\r\n"
            b"--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n" + struct.pack("<I", 16))
    assert body.startswith(head)
    assert body.endswith(b"--Encrypted Boundary--\r\n")
    sealed = body[len(head):-len(b"--Encrypted Boundary--\r\n")]
    assert wire.context.unwrap_winrm(sealed[:16], sealed[16:]) == b"<fault/>"


@pytest.mark.parametrize("damage", [
    lambda body: body[:300] + bytes([body[300] ^ 1]) + body[301:],
    lambda body: body.replace(b"Length=", b"Length=1"),
    lambda body: body[:-4],
    lambda body: body[len(b"--Encrypted Boundary\r\n"):],
    lambda body: b"",
    lambda body: b"junk",
    lambda body: body.replace(b"HTTP-SPNEGO", b"HTTP-CredSSP"),
], ids=["changed", "length", "cut", "headless", "empty", "junk", "protocol"])
def test_a_body_that_cannot_be_unsealed_is_an_empty_400(start_host, connect, damage):
    host = start_host()
    wire = connect(host)
    wire.log_on(host.people.accounts[0])
    body, content_type = wire.seal(PLAIN * 20)
    status, _unused, answer = wire.ask(damage(body) or b" ", Content_Type=content_type)
    assert (status, answer, host.echo.bodies) == (400, b"", [])


def test_a_replayed_message_does_not_unseal(start_host, connect):
    host = start_host()
    wire = connect(host)
    wire.log_on(host.people.accounts[0])
    body, content_type = wire.seal(PLAIN)
    assert wire.ask(body, Content_Type=content_type)[0] == 200
    assert wire.ask(body, Content_Type=content_type)[0] == 400
    assert host.echo.bodies == [PLAIN]


@pytest.mark.parametrize("scheme", ["Basic", "Kerberos"])
def test_sealed_under_another_scheme(start_host, connect, scheme):
    """Basic has nothing to seal with, and the scheme Kerberos takes no NTLM."""
    host = start_host([Account("a", "b")], schemes=("Basic", "Kerberos"), allow_unencrypted=True)
    wire = connect(host)
    if scheme == "Kerberos":
        assert wire.log_on(host.people.accounts[0], "Kerberos") == (401, b"")
        return
    token = base64.b64encode(b"a:b").decode()
    wire.context = spnego.client("a", "b", protocol="ntlm")
    content_type = 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"'
    assert wire.ask(PLAIN, Content_Type=content_type, Authorization=f"Basic {token}")[::2] == (400, b"")


def test_a_new_log_on_on_the_same_socket_replaces_the_old_one(start_host, connect):
    host = start_host()
    account = host.people.accounts[0]
    wire = connect(host)
    wire.log_on(account)
    old = wire.seal(PLAIN)
    wire.log_on(account)
    assert wire.ask_sealed(PLAIN)[0] == 200
    assert wire.ask(old[0], Content_Type=old[1])[0] == 400


@pytest.mark.parametrize("header", [
    "Negotiate", "Negotiate !!!", "Negotiate AAAA", "Negotiate TlRMTVNTUAADAAAA", "Negotiate YIIB", "Kerberos YIIB",
    "CredSSP", "CredSSP R0VUIC8gSFRUUC8xLjENCg==",
    "Basic", "Basic !!!", "Basic YWJj", "Digest x", "NTLM TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAGAbEdAAAADw==", "",
    "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual",
])
def test_an_authorization_that_makes_no_sense_is_a_401(start_host, connect, header):
    host = start_host(schemes=("Negotiate", "Kerberos", "Basic", "CredSSP", "Certificate"))
    wire = connect(host)
    status, pairs, body = wire.ask(Authorization=header)
    assert (status, body, challenges(pairs)) == (401, b"", ["Negotiate", "Kerberos", 'Basic realm="WSMAN"', "CredSSP"])
    assert host.counters.logon_failures == 1
    assert wire.log_on(host.people.accounts[0])[0] == 200


@pytest.mark.parametrize(("raw", "status"), [
    (b"GET /wsman HTTP/1.1\r\n\r\n", 405),
    (b"POST /other HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 404),
    (b"POST /wsman?PSVersion=5.1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 401),
    (b"POST /WSMan/ HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 401),
    (b"POST /wsman HTTP/1.1\r\n\r\n", 411),
    (b"POST /wsman HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    (b"POST /wsman HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 411),
    (b"POST /wsman HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
    (b"POST /wsman HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST /wsman HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
    (b"POST /wsman HTTP/1.1\r\nNo colon here\r\nContent-Length: 0\r\n\r\n", 400),
    (b"POST /wsman HTTP/1.1\r\nName : x\r\nContent-Length: 0\r\n\r\n", 400),
    (b"POST /wsman HTTP/1.1\r\nA: b\r\n folded\r\nContent-Length: 0\r\n\r\n", 400),
    (b"POST /wsman HTTP/2.0\r\nContent-Length: 0\r\n\r\n", 400),
    (b"post /wsman HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    (b"POST /wsman HTTP/1.1\r\nA: " + b"x" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n", 400),
])
def test_http_requests_that_are_refused(start_host, connect, raw, status):
    wire = connect(start_host())
    wire.socket.sendall(raw)
    assert wire.head()[0] == status


def test_expect_100_continue(start_host, connect):
    wire = connect(start_host())
    wire.socket.sendall(b"POST /wsman HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert wire.head() == (100, [])
    wire.socket.sendall(b"abc")
    assert wire.response()[0] == 401


def test_requests_may_arrive_in_pieces_and_many_at_once(start_host, connect):
    wire = connect(start_host())
    for byte in b"POST /wsman HTTP/1.1\r\nContent-Length: 0\r\n\r\n":
        wire.socket.sendall(bytes([byte]))
    assert wire.response()[0] == 401
    wire.socket.sendall(b"POST /wsman HTTP/1.1\r\nContent-Length: 0\r\n\r\n" * 3)
    assert [wire.response()[0] for _unused in range(3)] == [401, 401, 401]


def test_connection_close_of_the_client_is_honoured(start_host, connect):
    wire = connect(start_host())
    assert wire.ask(Connection="close")[0] == 401
    assert wire.closed()
    wire = connect(start_host())
    wire.socket.sendall(b"POST /wsman HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
    assert wire.response()[0] == 401
    assert wire.closed()


def test_an_idle_connection_is_closed(start_host, connect):
    host = start_host(idle_seconds=0.05)
    wire = connect(host)
    assert wire.log_on(host.people.accounts[0])[0] == 200
    assert wire.closed()
    half = connect(host)
    half.socket.sendall(b"POST /wsman HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
    assert half.closed()


def test_identify_without_a_log_on(start_host, connect):
    host = start_host()
    wire = connect(host)
    status, _unused, body = wire.ask(IDENTIFY, Content_Type=SOAP, WSMANIDENTIFY="unauthenticated")
    assert (status, body) == (200, b"<IdentifyResponse authenticated='False'/>")
    assert wire.ask(PLAIN, Content_Type=SOAP, WSMANIDENTIFY="unauthenticated")[0] == 401


def test_identify_without_the_header_needs_a_log_on(start_host, connect):
    assert connect(start_host()).ask(IDENTIFY, Content_Type=SOAP)[0] == 401


def test_https_takes_plain_messages(start_host, connect, certificates):
    host = start_host(tls=certificates.tls)
    wire = connect(host, certificates)
    assert wire.log_on(host.people.accounts[0])[0] == 200
    assert wire.ask(PLAIN, Content_Type=SOAP)[::2] == (200, PLAIN)


def logged_on(host, connect):
    wire = connect(host)
    wire.log_on(host.people.accounts[0])
    return wire


def send_sealed(wire):
    body, content_type = wire.seal(PLAIN)
    wire.request(body, Content_Type=content_type)


def breaking(start_host, connect, transport, body=b"<answer/>"):
    host = start_host()
    host.echo.answers.append(Answer(200, body, transport=transport))
    wire = logged_on(host, connect)
    send_sealed(wire)
    return host, wire


def test_drop_before(start_host, connect):
    host, wire = breaking(start_host, connect, "drop_before")
    assert wire.closed()
    assert host.echo.bodies == [PLAIN]


def test_reset(start_host, connect):
    _unused, wire = breaking(start_host, connect, "reset")
    with pytest.raises(ConnectionResetError):
        wire.socket.recv(1)


def test_reset_over_https(start_host, connect, certificates):
    host = start_host(tls=certificates.tls)
    host.echo.answers.append(Answer(200, b"<answer/>", transport="reset"))
    wire = connect(host, certificates)
    wire.log_on(host.people.accounts[0])
    wire.request(PLAIN, Content_Type=SOAP)
    with socket.socket(fileno=os.dup(wire.socket.fileno())) as beneath, pytest.raises(ConnectionResetError):
        beneath.settimeout(10)
        while beneath.recv(65536):  # the TLS layer would report a mere end of file
            pass


def test_truncate(start_host, connect):
    _unused, wire = breaking(start_host, connect, "truncate")
    with pytest.raises(EOFError) as caught:
        wire.response()
    assert caught.value.args[0].startswith(b"--Encrypted Boundary\r\n")


def test_endless(start_host, connect):
    _unused, wire = breaking(start_host, connect, "endless")
    status, pairs = wire.head()
    assert (status, dict(pairs)["transfer-encoding"]) == (200, "chunked")
    received = 0
    while received < 300_000:
        received += len(wire.socket.recv(65536))


def test_slow(start_host, connect):
    _unused, wire = breaking(start_host, connect, "slow")
    _unused, pairs = wire.head()
    assert int(dict(pairs)["content-length"]) > 200
    while len(wire.buffer) < 4:
        wire.buffer += wire.socket.recv(65536)
    assert wire.buffer == b"--En"


def test_stall(start_host, connect):
    host, wire = breaking(start_host, connect, "stall")
    wire.socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        wire.socket.recv(1)
    assert host.echo.bodies == [PLAIN]


def test_unauthorized(start_host, connect):
    host, wire = breaking(start_host, connect, "unauthorized")
    status, pairs, body = wire.response()
    assert (status, body, challenges(pairs)) == (401, b"", ["Negotiate", "Kerberos"])
    assert wire.ask()[0] == 401
    assert wire.log_on(host.people.accounts[0])[0] == 200


@pytest.mark.parametrize("tls", [False, True])
def test_garbage_that_looks_sealed(start_host, connect, certificates, tls):
    host = start_host(tls=certificates.tls) if tls else start_host()
    host.echo.answers.append(Answer(200, b"<answer/>", transport="garbage_sealed"))
    wire = connect(host, certificates if tls else None)
    wire.log_on(host.people.accounts[0])
    if not tls:
        send_sealed(wire)
    else:
        wire.request(PLAIN, Content_Type=SOAP)
    status, pairs, body = wire.response()
    assert status == 200
    envelope = encryption.parse_content_type(dict(pairs)["content-type"])
    with pytest.raises(BadMICError):
        encryption.unseal(wire.context, envelope, body)


@pytest.mark.parametrize("transport", ["endless", "slow", "stall", "send"])
@pytest.mark.parametrize("reading", [True, False])
def test_stop_waits_for_no_client(start_host, connect, loop, transport, reading):
    host = start_host()
    host.echo.answers.append(Answer(200, b"x" * 20_000_000, transport=transport))
    wire = logged_on(host, connect)
    send_sealed(wire)
    if reading and transport != "stall":
        wire.head()
    started = time.monotonic()
    loop.run(host.listener.stop())
    assert time.monotonic() - started < 2
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", host.port), timeout=5)


def test_a_handler_that_waits_does_not_hold_up_other_connections_or_stop(start_host, connect, loop):
    host = start_host(allow_unencrypted=True)
    entered = threading.Event()

    class Waiting:
        async def handle(self, connection, body, headers):
            if body == b"wait":
                entered.set()
                await loop_future
            return Answer(200, body)

    loop_future = loop.loop.create_future()
    host.listener.handler = Waiting()
    first, second = logged_on(host, connect), logged_on(host, connect)
    first.request(b"wait", Content_Type=SOAP)
    assert entered.wait(5)
    assert second.ask(PLAIN, Content_Type=SOAP)[::2] == (200, PLAIN)
    loop.run(host.listener.stop())
    assert first.socket.recv(1) == b""


def test_bytes_are_counted(start_host, connect):
    host = start_host()
    wire = connect(host)
    wire.request(b"x" * 100, path="/elsewhere")
    wire.response()
    assert host.counters.bytes_in == 100
    assert host.counters.bytes_out > 50


def test_a_log_on_that_finds_no_account_is_refused(start_host, connect):
    """The password fits, but the account was removed between the two steps."""
    host = start_host()
    account = host.people.accounts[0]
    wire = connect(host)
    host.people.account = lambda user, domain: None
    assert wire.log_on(account)[0] == 401
    assert host.counters.logon_failures == 1
