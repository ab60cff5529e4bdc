# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lane against a server that is not WinRM, or hardly: raw sockets with scripted bytes."""
from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline, SystemClock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import Endpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.lane import PywinrmLane

SOAP = b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body/></s:Envelope>'
CLOCK = SystemClock()


def http(status: int, body: bytes = b"", content_type: str = "application/soap+xml;charset=UTF-8", *headers: str) -> bytes:
    """One whole answer; the reason phrase is empty, as that of http.sys (wire 6.1)."""
    lines = [f"HTTP/1.1 {status} ", f"Content-Length: {len(body)}", *headers]
    if body:
        lines.append(f"Content-Type: {content_type}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Server:
    """Reads one request after the other and plays the next action for each; counts reads of the first bytes of a request."""

    script: list[Callable[[socket.socket], None]]
    requests: list[bytes] = field(default_factory=list)
    packets: list[int] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _unused = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while (request := self._read(connection)) is not None:
                self.requests.append(request)
                (self.script.pop(0) if self.script else answer(http(200, SOAP)))(connection)
        except OSError:
            return

    def _read(self, connection: socket.socket) -> bytes | None:
        data, packets = b"", 0
        while True:
            chunk = connection.recv(1 << 20)
            if not chunk:
                return None
            data += chunk
            packets += 1
            if data.startswith(b"\x16"):
                return data  # the first bytes of TLS
            head, found, body = data.partition(b"\r\n\r\n")
            if found:
                length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
                if len(body) >= length:
                    self.packets.append(packets)
                    return data

    def close(self) -> None:
        self.stop.set()
        self._listener.close()
        for connection in self._open:
            connection.close()


def answer(raw: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(raw)


def hang_up(raw: bytes = b"", *, reset: bool = False) -> Callable[[socket.socket], None]:
    def act(connection: socket.socket) -> None:
        connection.sendall(raw)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        else:
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    return act


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*script: Callable[[socket.socket], None]) -> Server:
        servers.append(Server(list(script)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def lane(port: int, **options: Any) -> PywinrmLane:
    settings = {"scheme": "http", "host": "127.0.0.1", "port": port, "transport": "basic", "username": "u", "password": "p",
                "connect_timeout": 5.0, **options}
    return PywinrmLane(Endpoint(**settings), max_answer=1_000_000)


def failure(one: PywinrmLane, *, repeatable: bool = True, seconds: float = 10.0) -> HypervError:
    with pytest.raises(HypervError) as caught:
        one.send(b"<message/>", Deadline(CLOCK, seconds), repeatable=repeatable)
    return caught.value


def test_a_request_is_one_packet_with_the_message_uncompressed(serve):
    server = serve()
    one = lane(server.port)
    assert one.send(b"<message/>", Deadline(CLOCK, 10), repeatable=True) == SOAP
    assert one.send(b"<message>" + b"y" * 9000 + b"</message>", Deadline(CLOCK, 10), repeatable=True) == SOAP
    assert server.packets == [1, 1]
    assert b"\r\nAccept-Encoding: identity\r\n" in server.requests[0]
    assert b"\r\nContent-Type: application/soap+xml;charset=UTF-8\r\n" in server.requests[0]
    assert b"\r\nContent-Length: 10\r\n" in server.requests[0]
    assert server.requests[0].endswith(b"\r\n\r\n<message/>")
    assert one.stats.as_result() == {"messages": 2, "http_requests": 2, "connections": 1, "rebuilds": 0, "auth_legs": 0,
                                     "bytes_sent": sum(map(len, server.requests)), "bytes_received": 2 * len(http(200, SOAP))}


@pytest.mark.parametrize(("raw", "code"), [
    (http(404), "wrong_path"),
    (http(413), "envelope_too_large"),
    (http(500), "plain_refused"),
    (http(403), "access_denied"),
    (http(407), "proxy_failed"),
    (http(301, b"", "", "Location: http://127.0.0.1:1/elsewhere"), "not_winrm"),
    (http(307, b"", "", "Location: http://127.0.0.1:1/elsewhere"), "not_winrm"),
    (http(200, b"<html>Welcome</html>", "text/html"), "not_winrm"),
    (http(502, b"<html>Bad gateway</html>", "text/html"), "not_winrm"),
    (http(200, b"\x1f\x8b", "application/soap+xml", "Content-Encoding: gzip"), "not_winrm"),
    (b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n", "not_winrm"),
    (b"HTTP/1.1 200 \r\n" + b"X: y\r\n" * 500 + b"\r\n", "not_winrm"),
    (b"HTTP/1.1 200 \r\nX: " + b"y" * 500_000, "not_winrm"),
    (b"\x15\x03\x01\x00\x02\x02\x50" * 3 + b"\r\n\r\n", "not_winrm"),
    (b"HTTP/1.1 200 \r\nContent-Length: 99999999999\r\nContent-Type: text/xml\r\n\r\n" + b"x" * 1_200_000, "answer_too_large"),
])
def test_answers_that_are_not_those_of_winrm(serve, raw, code):
    server = serve(hang_up(raw), hang_up(raw))
    found = failure(lane(server.port))
    assert found.error_code == code
    assert len(server.requests) == 1


def test_headers_beyond_all_measure_stop_at_their_own_limit(serve):
    line = b"X: " + b"y" * 60_000 + b"\r\n"
    server = serve(answer(b"HTTP/1.1 200 \r\n" + line * 10))
    assert failure(lane(server.port)).error_code == "answer_too_large"


@pytest.mark.parametrize(("status", "repeatable", "code"), [
    (200, False, "outcome_unknown"), (200, True, "not_winrm"), (404, False, "wrong_path"), (413, False, "envelope_too_large"),
    (502, False, "outcome_unknown"), (502, True, "not_winrm"),
])
def test_only_what_surely_was_not_done_is_reported_as_not_done(serve, status, repeatable, code):
    server = serve(answer(http(status, b"<html/>", "text/html")))
    assert failure(lane(server.port), repeatable=repeatable).error_code == code
    assert len(server.requests) == 1


def drip(head: bytes) -> Callable[[socket.socket], None]:
    def act(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"x")
            threading.Event().wait(0.02)
    return act


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 \r\nX-", b"HTTP/1.1 200 \r\nContent-Type: text/xml\r\nContent-Length: 100000\r\n\r\n",
                                  b"HTTP/1.1 200 \r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n"])
def test_one_byte_at_a_time_does_not_stretch_the_deadline(serve, head):
    server = serve(drip(head))
    begun = CLOCK.monotonic()
    found = failure(lane(server.port), seconds=0.5)
    assert (found.error_code, found.details) == ("unreachable", {"reason": "timeout"})
    assert CLOCK.monotonic() - begun < 2.0


def test_endless_interim_answers_stop_at_the_deadline_or_the_limit(serve):
    def act(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"HTTP/1.1 100 \r\n\r\n" * 1000)

    server = serve(act)
    assert failure(lane(server.port), seconds=5.0).error_code in ("answer_too_large", "unreachable")


def test_a_busy_service_is_asked_again_after_growing_pauses(serve):
    class Patient(SystemClock):
        def __init__(self) -> None:
            self.slept: list[float] = []

        def sleep(self, seconds: float) -> None:
            self.slept.append(seconds)

    server = serve(answer(http(503)), answer(http(503)))
    clock = Patient()
    one = PywinrmLane(lane(server.port).endpoint, clock)
    assert one.send(b"<message/>", Deadline(clock, 30), repeatable=False) == SOAP
    assert clock.slept == [1.0, 2.0]
    assert len(server.requests) == 3
    always = serve(*[answer(http(503))] * 9)
    other = PywinrmLane(lane(always.port).endpoint, clock)
    assert failure(other, seconds=30).error_code == "service_unavailable"
    assert len(always.requests) == 5


def test_basic_credentials_are_tried_twice_and_never_again(serve):
    refused = answer(http(401, b"", "", 'WWW-Authenticate: Basic realm="WSMAN"'))
    server = serve(*[refused] * 9)
    one = lane(server.port)
    codes = [failure(one).error_code for _unused in range(4)]
    assert codes == ["wrong_credentials"] * 4
    assert len(server.requests) == 2


def test_a_connection_reset_before_the_answer(serve):
    server = serve(answer(http(200, SOAP)), hang_up(reset=True), answer(http(200, SOAP)), hang_up(reset=True))
    one = lane(server.port)
    for _unused in range(2):
        assert one.send(b"<message/>", Deadline(CLOCK, 10), repeatable=True) == SOAP
    assert isinstance(failure(one, repeatable=False), OutcomeUnknown)
    assert len(server.requests) == 4


def test_a_first_connection_that_breaks_is_not_tried_again(serve):
    server = serve(hang_up(), hang_up())
    assert failure(lane(server.port)).error_code == "unreachable"
    assert len(server.requests) == 1


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    found = failure(lane(port), repeatable=False)
    assert (found.error_code, found.details) == ("unreachable", {"reason": "refused"})


def test_an_unknown_name():
    found = failure(lane(5985, host="no-such-host.invalid"), repeatable=False)
    assert (found.error_code, found.details) == ("unreachable", {"reason": "name"})


def test_a_port_without_tls(serve):
    server = serve(hang_up(b"HTTP/1.1 400 \r\n\r\n"))
    found = failure(lane(server.port, scheme="https"), seconds=5)
    assert found.error_code == "tls_failed"
    assert b"<message/>" not in b"".join(server.requests)


def test_a_server_that_asks_for_no_log_on_is_not_winrm(serve):
    server = serve(answer(http(200, b"hello", "text/plain")))
    assert failure(lane(server.port, transport="ntlm"), repeatable=False).error_code == "not_winrm"


@pytest.mark.parametrize(("proxy", "through"), [(None, False), ("legacy_requests", True)])
def test_the_environments_proxy_is_followed_only_when_told(serve, monkeypatch, proxy, through):
    behind, environment_proxy = serve(), serve()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{environment_proxy.port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    one = lane(behind.port, proxy=proxy)
    assert one.send(b"<message/>", Deadline(CLOCK, 10), repeatable=True) == SOAP
    assert (len(behind.requests), len(environment_proxy.requests)) == ((0, 1) if through else (1, 0))


def test_a_proxy_of_ones_own(serve):
    behind, proxy = serve(), serve()
    one = lane(behind.port, proxy=f"http://127.0.0.1:{proxy.port}")
    assert one.send(b"<message/>", Deadline(CLOCK, 10), repeatable=True) == SOAP
    assert (len(behind.requests), len(proxy.requests)) == (0, 1)


def test_a_netrc_file_does_not_lend_credentials(serve, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login thief password stolen\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "c.pem").write_text("")
    server = serve()
    one = lane(server.port, transport="certificate", cert_pem=str(tmp_path / "c.pem"), cert_key_pem=str(tmp_path / "c.pem"))
    assert one.send(b"<message/>", Deadline(CLOCK, 10), repeatable=True) == SOAP
    assert b"Authorization: http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual\r\n" in server.requests[0]
    assert b"Basic" not in server.requests[0]


def test_what_is_missing_is_said_before_anything_is_sent(tmp_path):
    found = failure(lane(1, username=None))
    assert found.error_code == "credentials_missing"
    gone = failure(lane(1, transport="certificate", cert_pem=str(tmp_path / "gone.pem"), cert_key_pem=str(tmp_path / "gone.pem")))
    assert gone.error_code == "credentials_missing"


def test_without_pywinrm_the_modules_load_and_a_lane_says_what_to_install():
    program = """
import sys
for name in ("winrm", "requests", "urllib3"):
    sys.modules[name] = None
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import lane
from ansible_collections.agentless.hyperv.plugins.module_utils.cim import client
try:
    lane.PywinrmLane(lane.Endpoint("http", "h", 5985))
except lane.LibraryMissing as error:
    print(error.error_code, error.hint)
"""
    path = next(entry for entry in sys.path if (Path(entry) / "ansible_collections" / "agentless" / "hyperv").is_dir())
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "library_missing pip install 'pywinrm>=0.5.0'\n"), done.stderr


def test_an_endpoint_shows_no_secrets():
    endpoint = Endpoint(scheme="https", host="fe80::1", port=5986, username="u", password="geheim", cert_key_password="auch",
                        proxy="http://user:proxygeheim@proxy:3128")
    assert endpoint.url == "https://[fe80::1]:5986/wsman"
    shown = repr(endpoint)
    assert [secret for secret in ("geheim", "auch") if secret in shown] == []
