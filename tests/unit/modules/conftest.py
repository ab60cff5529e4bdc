# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module's ``run(call)`` against simulated hosts: real lane, real sockets, no ansible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ModuleArgumentSpecValidator
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Host
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import Endpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.lane import PywinrmLane
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WsmanSession
from simulator.cim.model import Account
from simulator.fleet import Fleet, RunningHost
from simulator.spec import HostSpec

PASSWORD = "Pa55-w0rd"
ADMINISTRATOR = Account("Administrator", PASSWORD, groups=frozenset({"Administrators"}), builtin_administrator=True)
NOBODY = Account("nobody", PASSWORD, groups=frozenset({"Remote Management Users"}))


class TestClock:
    """Controller time: the host's simulated time (plus a skew), so that sleeping costs nothing."""

    __test__ = False

    def __init__(self, running: RunningHost, fleet: Fleet, skew: timedelta = timedelta()) -> None:
        self._running = running
        self._fleet = fleet
        self._skew = skew
        self._slept = 0.0

    def monotonic(self) -> float:
        return self._slept

    def sleep(self, seconds: float) -> None:
        self._slept += seconds
        with self._fleet.locked():
            self._running.host.clock.advance(seconds)

    def utcnow(self) -> datetime:
        with self._fleet.locked():
            now: datetime = self._running.host.clock.now()
        return now.astimezone(UTC) - self._skew


@dataclass
class Told:
    """What a module told while it ran."""

    warnings: list[str] = field(default_factory=list)
    progress: list[str] = field(default_factory=list)


@dataclass
class Runner:
    """One host and the ways to run a module on it."""

    fleet: Fleet
    running: RunningHost
    told: Told = field(default_factory=Told)
    skew: timedelta = timedelta()
    peers: dict[str, Runner] = field(default_factory=dict)
    _kept: dict[str, tuple[WsmanSession, TestClock]] = field(default_factory=dict)

    def run(self, module: Any, *, check: bool = False, user: str = "Administrator", peer_user: str = "Administrator",
            **params: Any) -> dict[str, Any]:
        validated = ModuleArgumentSpecValidator(module.ARGUMENT_SPEC, **module.RULES).validate(params)
        assert not validated.error_messages
        self.told = Told()
        with ExitStack() as stack:
            session, clock = stack.enter_context(self.session(user))
            host = Host("hv", CimReader(session, clock), lambda: CimWriter(session, clock))
            call = Call(
                validated.validated_parameters,
                host,
                clock,
                check,
                self.told.progress.append,
                self.told.warnings.append,
                partial(self._open_peer, stack, peer_user),
            )
            result: dict[str, Any] = module.run(call)
            return result

    def _open_peer(self, stack: ExitStack, user: str, name: str) -> Host:
        assert name in self.peers, f"no peer {name} in this test"
        session, clock = stack.enter_context(self.peers[name].session(user))
        return Host(name, CimReader(session, clock), lambda: CimWriter(session, clock))

    @contextmanager
    def session(self, user: str = "Administrator") -> Iterator[tuple[WsmanSession, TestClock]]:
        """A session with the host, and the clock that it waits by."""
        if user in self._kept:
            yield self._kept[user]
            return
        endpoint = Endpoint(scheme="http", host="127.0.0.1", port=self.running.port, transport="ntlm", username=user, password=PASSWORD)
        clock = TestClock(self.running, self.fleet, self.skew)
        lane = PywinrmLane(endpoint, clock)
        try:
            yield WsmanSession(lane, clock), clock
        finally:
            lane.close()

    @contextmanager
    def keep_session(self, user: str = "Administrator") -> Iterator[None]:
        """All that this account does inside uses one session: logging on is dear."""
        with self.session(user) as opened:
            self._kept[user] = opened
            try:
                yield
            finally:
                del self._kept[user]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Runner]]:
    """Start one host from keyword arguments of HostSpec; returns its runner. The fleet ends with the test."""
    fleets: list[Fleet] = []

    def begin(skew: timedelta = timedelta(), **spec: Any) -> Runner:
        host = HostSpec(**{"name": "HV01", "accounts": (ADMINISTRATOR, NOBODY), **spec})
        fleet = Fleet([host], tmp_path / f"fleet{len(fleets)}")
        fleet.start()
        fleets.append(fleet)
        return Runner(fleet, fleet.hosts[host.name], skew=skew)

    yield begin
    for fleet in fleets:
        fleet.stop()


@pytest.fixture
def start_pair(tmp_path: Path) -> Iterator[Callable[..., tuple[Runner, Runner]]]:
    """Start two hosts that know each other as ``hv01`` and ``hv02``; returns their runners."""
    fleets: list[Fleet] = []

    def begin(one: HostSpec, other: HostSpec) -> tuple[Runner, Runner]:
        fleet = Fleet([one, other], tmp_path / f"pair{len(fleets)}")
        fleet.start()
        fleets.append(fleet)
        runners = {name: Runner(fleet, fleet.hosts[spec.name]) for name, spec in (("hv01", one), ("hv02", other))}
        for runner in runners.values():
            runner.peers = runners
        return runners["hv01"], runners["hv02"]

    yield begin
    for fleet in fleets:
        fleet.stop()
