# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Windows host without a network: files, shadow copies, processes and its clock."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.cim.model import Account, Caller
from simulator.clock import SimClock
from simulator.windows.files import FileSystem, Network
from simulator.windows.processes import ProcessHost, SimProcess
from simulator.windows.programs.base import HostFacts, Speeds
from simulator.windows.shadows import ShadowService, ShadowSettings
from simulator.windows.spec import VolumeSpec

GIB = 1024**3
ADMINISTRATOR = Caller(Account("Administrator", "x", builtin_administrator=True, groups=frozenset({"Administrators"})), "ntlm", True)
ORDINARY = Caller(Account("clerk", "x", groups=frozenset({"Remote Management Users"})), "ntlm", False)
TWO_DRIVES = (VolumeSpec("C:"), VolumeSpec("D:", 100 * GIB, label="Data"))


@dataclass
class Outcome:
    """What a command line ended with; text in UTF-8."""

    code: int | None
    out: str
    err: str


class Rig:
    """The parts of a host, as the composition of a simulated host wires them."""

    def __init__(self, root: Path, volumes: Sequence[VolumeSpec] = TWO_DRIVES, *, facts: HostFacts | None = None,
                 network: Network | None = None, settings: ShadowSettings | None = None, speeds: Speeds | None = None,
                 locked_live_disks: bool = True) -> None:
        self.changes: list[str] = []
        self.clock = SimClock()
        self.facts = facts or HostFacts("HV1")
        self.files = FileSystem(root / "volumes", self.clock, self.changes.append, machine=self.facts.name, domain=self.facts.domain,
                                network=network, locked_live_disks=locked_live_disks)
        self.volumes = [self.files.add_volume(spec) for spec in volumes]
        self.shadows = ShadowService(self.files, self.clock, root / "shadows", self.changes.append, settings or ShadowSettings())
        self.processes = ProcessHost(self.files, self.clock, self.facts, speeds=speeds)

    def start(self, line: str, environment: Mapping[str, str] | None = None, *, caller: Caller = ADMINISTRATOR, job: str = "shell",
              directory: str | None = None, codepage: int = 65001) -> SimProcess:
        """Start a line as a WinRM shell does."""
        return self.processes.start(caller, line, environment or {}, directory, job=job, codepage=codepage)

    def run(self, line: str, environment: Mapping[str, str] | None = None, *, stdin: bytes = b"", caller: Caller = ADMINISTRATOR,
            directory: str | None = None) -> Outcome:
        """Run a line to its end, moving the clock as needed."""
        process = self.start(line, environment, caller=caller, directory=directory)
        process.feed(stdin, True)
        return self.finish(process)

    def finish(self, process: SimProcess) -> Outcome:
        """Move the clock until a process ends."""
        while process.exit_code is None and self.clock.jump_to_next():
            pass
        out, err = process.take_output()
        return Outcome(process.exit_code, out.decode(), err.decode())

    def put(self, path: str, data: bytes = b"data") -> Path:
        """A file with its folders, made by nobody in particular; its real path."""
        parts = path.split("\\")
        for count in range(2, len(parts)):
            folder = "\\".join(parts[:count])
            if not self.files.exists(folder):
                self.files.create_directory(folder)
        self.files.write_file(path, data)
        return self.files.real_path(path)

    def tree(self, path: str) -> dict[str, bytes | None]:
        """Every file and folder (None) below a folder, by relative Windows path; links are not entered and shown as folders."""
        found: dict[str, bytes | None] = {}
        waiting = [self.files.resolve(path)]
        while waiting:
            for entry in self.files.children(waiting.pop()):
                name = entry.path.text()[len(path.rstrip("\\")) + 1:]
                found[name] = None if entry.is_directory else entry.real.read_bytes()
                if entry.is_directory and entry.link is None:
                    waiting.append(entry)
        return found

    def shadow_link(self, drive: str = "D:\\", link: str = "C:\\s") -> str:
        """A shadow copy of a drive and a link to it; the path of the link."""
        code, identity = self.shadows.create(drive, None)
        assert code == 0
        copy = self.shadows.find(identity or "")
        assert copy is not None
        self.files.make_link(link, copy.device_object + "\\", "symlinkd")
        return link
