# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated host's listener with a scripted handler behind it, for tests of the collection's lane."""
from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline, SystemClock
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import Endpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.lane import PywinrmLane
from simulator.cim.model import Account, Caller
from simulator.net.contract import Answer, Connection, ListenerSettings
from simulator.net.server import WinrmListener
from simulator.soap.counters import Counters

ADMIN = Account("Administrator", "P4ss:wörd", groups=frozenset({"Administrators"}), builtin_administrator=True)
DONE = b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>done</s:Body></s:Envelope>'
CLOCK = SystemClock()


class OneAccount:
    """A Directory with one account; remembers the log-ons."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.callers: list[Caller] = []

    def authenticate_password(self, user: str, password: str) -> Account | None:
        """Compares name and password."""
        return self._account if (user, password) == (self._account.name, self._account.password) else None

    def account(self, user: str, domain: str | None) -> Account | None:
        """Compares the name."""
        return self._account if user == self._account.name else None

    def by_certificate(self, subject: str) -> Account | None:
        """Compares the subject."""
        return self._account if subject == self._account.certificate_subject else None

    def log_on(self, account: Account, scheme: str, delegated: bool) -> Caller:
        """Everybody is an administrator."""
        self.callers.append(Caller(account, scheme, elevated=True, delegated=delegated))
        return self.callers[-1]

    def ntlm_credentials(self) -> list[tuple[str, str, str]]:
        """The one account."""
        return [("", self._account.name, self._account.password)]


@dataclass
class Scripted:
    """Answers with what the script holds next, then with DONE; remembers what it was sent."""

    script: list[Answer] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)

    async def handle(self, connection: Connection, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The next answer."""
        self.seen.append(body)
        return self.script.pop(0) if self.script else Answer(200, DONE)

    def identify(self, authenticated: bool) -> Answer:
        """Always the same."""
        return Answer(200, DONE)


@dataclass
class Host:
    """A listener in a thread of its own."""

    port: int
    handler: Scripted
    counters: Counters
    directory: OneAccount

    def lane(self, **options: Any) -> PywinrmLane:
        """A lane to it."""
        settings: dict[str, Any] = {"scheme": "http", "host": "127.0.0.1", "port": self.port, "username": ADMIN.name,
                                    "password": ADMIN.password}
        return PywinrmLane(Endpoint(**{**settings, **options}))


class Listeners:
    """Starts listeners in one event loop beside the tests."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._running: list[WinrmListener] = []

    def start(self, script: Sequence[Answer], account: Account, settings: ListenerSettings) -> Host:
        """A host that answers by the script, on a port of its own."""
        handler, counters, directory = Scripted(list(script)), Counters(), OneAccount(account)
        listener = WinrmListener(settings, directory, handler, counters, "HV1")
        port = asyncio.run_coroutine_threadsafe(listener.start(), self._loop).result(20)
        self._running.append(listener)
        return Host(port, handler, counters, directory)

    def stop(self) -> None:
        """End everything."""
        for listener in self._running:
            asyncio.run_coroutine_threadsafe(listener.stop(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def send(lane: PywinrmLane, message: bytes, *, repeatable: bool = True, seconds: float = 10.0) -> bytes:
    """Send with a deadline."""
    return lane.send(message, Deadline(CLOCK, seconds), repeatable=repeatable)
