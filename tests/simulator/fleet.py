# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many hosts in one process: one asyncio loop in a thread of its own, one port per host."""
from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from simulator.clock import SimClock
from simulator.fileserver import FileServer, FileServerSpec
from simulator.fleet_file import load_file_servers, load_fleet
from simulator.host import SimHost, Surroundings
from simulator.hyperv.replica.network import ReplicaNetwork
from simulator.net.server import WinrmListener
from simulator.spec import HostSpec

__all__ = ["Fleet", "RunningHost", "SimulatorFailure", "load_file_servers", "load_fleet"]

T = TypeVar("T")
_START_SECONDS = 60.0
_LOCK_SECONDS = 30.0


class SimulatorFailure(AssertionError):
    """The simulator met an error of its own while it served a request."""


@dataclass(frozen=True)
class RunningHost:
    """A host that listens."""

    host: SimHost
    port: int
    url: str
    """``http://127.0.0.1:PORT/wsman``, or ``https`` with a certificate."""


class Fleet:
    """All hosts of one process; a context manager.

    ``root`` gets a folder for each host. ``speed`` as in :class:`simulator.clock.SimClock`. After :meth:`start` the hosts live in
    the loop's thread: touch them only inside :meth:`locked`, and send no request meanwhile.
    """

    def __init__(self, specs: Sequence[HostSpec], root: Path, *, speed: float = 0.0,
                 file_servers: Sequence[FileServerSpec] = ()) -> None:
        names = [name.lower() for name in (*(spec.name for spec in specs), *(spec.name for spec in file_servers))]
        if len(set(names)) != len(names):
            raise ValueError("two hosts have one name")
        self.root = root
        surroundings = self._surroundings = Surroundings()
        self.clock = SimClock(speed=speed)
        """The time of every host that has no ``start`` of its own: what one does to another happens at one time."""
        self._speed = speed
        self.file_servers = {spec.name: FileServer(spec, root / spec.name, self.clock, surroundings.network)
                             for spec in file_servers}
        self.simulated = {spec.name: SimHost.create(spec, root / spec.name, self._clock_of(spec), surroundings) for spec in specs}
        for host in self.simulated.values():
            host.replicate()
        self.hosts: dict[str, RunningHost] = {}
        self._listeners: dict[str, WinrmListener] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def _clock_of(self, spec: HostSpec) -> SimClock:
        return self.clock if spec.start is None else SimClock(spec.start, self._speed)

    def start(self) -> None:
        """Open every port. Raises OSError when one is taken."""
        if self._loop is not None:
            raise RuntimeError("the fleet runs already")
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="simulated fleet", daemon=True)
        self._thread.start()
        try:
            self._call(self._listen())
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """Close every port and end the thread. Raises SimulatorFailure when a request met an error of the simulator itself."""
        self.close()
        bugs = self.bugs()
        if bugs:
            raise SimulatorFailure(f"{len(bugs)} request(s) met an error of the simulator; the first: {bugs[0]!r}") from bugs[0]

    def bugs(self) -> list[BaseException]:
        """Errors of the simulator itself, over all hosts."""
        return [bug for host in self.simulated.values() for bug in host.bugs]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the loop while the caller reads or changes the state of hosts."""
        loop = self._loop
        if loop is None:
            yield
            return
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            release.wait()

        loop.call_soon_threadsafe(hold)
        if not held.wait(_LOCK_SECONDS):
            release.set()
            raise TimeoutError("the fleet's loop did not come to rest")
        try:
            yield
        finally:
            release.set()

    @property
    def replica_network(self) -> ReplicaNetwork:
        """Which hosts hear which when they replicate."""
        return self._surroundings.replica

    def take_down(self, name: str, *, crash: bool = False) -> None:
        """A host is lost: no request is answered, no other host hears it. ``crash``: its machines and programs are gone at once.

        KeyError: no such host.
        """
        host = self.simulated[name]
        self.replica_network.take_down(name)
        self._surroundings.network.take_down(name)
        listener = self._listeners.get(name)
        if listener is not None:
            listener.lost = True
            self._call(listener.cut())
        if crash:
            with self.locked():
                host.crash()

    def bring_up(self, name: str) -> None:
        """The host is back. KeyError: no such host."""
        self.replica_network.bring_up(name)
        self._surroundings.network.bring_up(name)
        if name in self._listeners:
            self._listeners[name].lost = False

    def __enter__(self) -> Fleet:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.stop()
            return
        self.close()
        for bug in self.bugs():
            error.add_note(f"error of the simulator itself: {bug!r}")

    async def _listen(self) -> None:
        for name, host in self.simulated.items():
            listener = host.listener()
            port = await listener.start("127.0.0.1", host.spec.listener.port)
            self._listeners[name] = listener
            scheme = "https" if listener.settings.tls is not None else "http"
            self.hosts[name] = RunningHost(host, port, f"{scheme}://127.0.0.1:{port}/wsman")

    async def _stop_listening(self) -> None:
        for listener in self._listeners.values():
            await listener.stop()

    def close(self) -> None:
        """Close every port, end the thread, let go of all files, without a word about errors of the simulator."""
        self._end_thread()
        for host in self.simulated.values():
            host.close()

    def _end_thread(self) -> None:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        try:
            self._call(self._stop_listening())
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_START_SECONDS)
            loop.close()
            self._listeners.clear()
            self._loop = self._thread = None

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_SECONDS)
