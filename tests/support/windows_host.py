# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One simulated Windows host with a writer of the collection's, over a real lane, for tests of the layer ``windows``."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import AuthenticationMethod, Endpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.lane import PywinrmLane
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WsmanSession
from simulator.cim.model import Account
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet, RunningHost
from simulator.host import SimHost
from simulator.spec import HostSpec
from simulator.windows.files import FileSystem
from simulator.windows.spec import VolumeSpec
from support.in_process import HostTime

PASSWORD = "Pa55-w0rd"  # noqa: S105  # of an account that is simulated
ADMINISTRATOR = Account("Administrator", PASSWORD, groups=frozenset({"Administrators"}), builtin_administrator=True)
BACKUP = Account("backup", PASSWORD, domain="EXAMPLE", groups=frozenset({"Administrators"}))
CLERK = Account("clerk", PASSWORD, groups=frozenset({"Remote Management Users"}))
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"))


@dataclass
class WindowsHost:
    """A host, and how the collection sees it. ``clock`` is the controller's: sleeping moves the host's time."""

    fleet: Fleet
    running: RunningHost
    clock: HostTime
    writer: CimWriter
    folder: StateFolder

    @property
    def host(self) -> SimHost:
        """The simulated host; hold ``fleet.locked()`` to look at it."""
        return self.running.host

    def put(self, path: str, data: bytes, files: FileSystem | None = None) -> None:
        """A file with its folders."""
        with self.fleet.locked():
            target = files or self.host.files
            parts = path.split("\\")
            for count in range(2, len(parts)):
                if not target.exists("\\".join(parts[:count])):
                    target.create_directory("\\".join(parts[:count]))
            target.write_file(path, data)

    def read(self, path: str, files: FileSystem | None = None) -> bytes | None:
        """The bytes of a file; None when it is not there."""
        with self.fleet.locked():
            target = files or self.host.files
            return target.read_file(path) if target.exists(path) else None

    def names(self, path: str, files: FileSystem | None = None) -> list[str]:
        """What is in a folder; nothing for one that is not there."""
        with self.fleet.locked():
            target = files or self.host.files
            return sorted(entry.parts[-1] for entry in target.children(target.resolve(path))) if target.exists(path) else []

    def tasks(self) -> list[str]:
        """The names of the scheduled tasks in our folder."""
        with self.fleet.locked():
            return [task.name for task in self.host.tasks.tasks() if task.path == "\\agentless.hyperv\\"]

    def advance(self, seconds: float) -> None:
        """Let time pass on the host."""
        with self.fleet.locked():
            self.host.clock.advance(seconds)


@contextmanager
def windows_host(root: Path, *, user: str = "Administrator", transport: AuthenticationMethod = "ntlm",
                 file_servers: Sequence[FileServerSpec] = (), ready: bool = True, **spec: Any) -> Iterator[WindowsHost]:
    """A member of example.test with C: and D:, whose state folder is there when ``ready``."""
    given = {"name": "HV01", "domain": "example.test", "accounts": (ADMINISTRATOR, BACKUP, CLERK), "volumes": VOLUMES, **spec}
    with Fleet([HostSpec(**given)], root, file_servers=file_servers) as fleet:
        running = fleet.hosts[given["name"]]
        clock = HostTime(fleet, running)
        lane = PywinrmLane(Endpoint(scheme="http", host="127.0.0.1", port=running.port, transport=transport, username=user,
                                    password=PASSWORD), clock)
        try:
            writer = CimWriter(WsmanSession(lane, clock), clock)
            folder = state.state_folder("C:")
            if ready:
                state.ensure(writer, folder)
            yield WindowsHost(fleet, running, clock, writer, folder)
        finally:
            lane.close()
