# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated hosts in a process of their own, so that their work is not counted as the client's.

``python -m bench.hosts`` is that process: it reads one JSON line with the wishes, answers with the ports, then answers each name of a
host with its counters, until its standard input ends.
"""
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from simulator.cim.model import Account
from simulator.fleet import Fleet
from simulator.hyperv.spec import GIB, MIB, CheckpointSpec, DiskSpec, GuestSpec, VmSpec
from simulator.soap.counters import Counters
from simulator.spec import HostSpec
from simulator.windows.spec import VolumeSpec

_END_SECONDS = 300.0
"""Thousands of files of simulated disks have to be removed."""

ADMINISTRATOR = Account("Administrator", "Pa55-w0rd", groups=frozenset({"Administrators"}), builtin_administrator=True)


def machine(number: int) -> VmSpec:
    """The usual mix: every fourth VM has two disks, every fifth a checkpoint, every seventh is off, every tenth runs Linux."""
    name = f"vm{number:04}"
    folder = f"D:\\VMs\\{name}"
    second = (DiskSpec(path=f"{folder}\\{name}-data.vhdx"),) if number % 4 == 0 else ()
    return VmSpec(name=name, folder=folder, disks=(DiskSpec(), *second), state="off" if number % 7 == 0 else "running",
                  guest=GuestSpec.linux() if number % 10 == 0 else GuestSpec(),
                  checkpoints=(CheckpointSpec("c", "before the update"),) if number % 5 == 0 else ())


def tiny_machine(number: int) -> VmSpec:
    """One disk of some hundred KB: what its copying costs is nearly all ours."""
    name = f"vm{number:04}"
    return VmSpec(name=name, folder=f"D:\\VMs\\{name}", disks=(DiskSpec(size=4 * MIB),))


def host(name: str, machines: tuple[VmSpec, ...]) -> HostSpec:
    """A host with a system volume, one for VMs and one for copies."""
    volumes = tuple(VolumeSpec(letter, free=60 * GIB) for letter in ("C:", "D:", "E:"))
    return HostSpec(name, accounts=(ADMINISTRATOR,), volumes=volumes, vms=machines)


@dataclass(frozen=True)
class Wish:
    """``hosts`` hosts with ``machines`` VMs each: the usual mix, or with ``tiny`` disks. ``speed``: of the hosts' time, 0 stands still."""

    hosts: int
    machines: int
    tiny: bool = False
    speed: float = 0.0

    def names(self) -> tuple[str, ...]:
        """The hosts' names."""
        return tuple(f"HV{number:04}" for number in range(1, self.hosts + 1))


class Hosts:
    """The process with the simulated hosts; a context manager. ``ports`` by the hosts' names."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self.ports: dict[str, int] = {}

    def __enter__(self) -> Hosts:
        self._process = subprocess.Popen([sys.executable, "-m", "bench.hosts"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ports = self._ask(json.dumps(asdict(self._wish)))
        return self

    def counters(self, name: str) -> Counters:
        """What that host answered so far."""
        return Counters(**self._ask(json.dumps(name)))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.communicate(timeout=_END_SECONDS)
        if self._process.returncode and error is None:
            raise RuntimeError(f"the simulated hosts ended with {self._process.returncode}")

    def _ask(self, line: str) -> Any:
        writer, reader = self._process.stdin, self._process.stdout
        if writer is None or reader is None:
            raise RuntimeError("the simulated hosts have no pipes")
        writer.write(line + "\n")
        writer.flush()
        answer = reader.readline()
        if not answer:
            raise RuntimeError("the simulated hosts ended")
        return json.loads(answer)


def serve(asked: TextIO, answered: TextIO) -> int:
    """Be that process. The exit code is 1 when a request met an error of the simulator itself."""
    wish = Wish(**json.loads(asked.readline()))
    make = tiny_machine if wish.tiny else machine
    machines = tuple(make(number) for number in range(1, wish.machines + 1))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        fleet = Fleet([host(name, machines) for name in wish.names()], Path(folder), speed=wish.speed)
        try:
            fleet.start()
            _say(answered, {name: running.port for name, running in fleet.hosts.items()})
            for line in asked:
                with fleet.locked():
                    _say(answered, fleet.hosts[json.loads(line)].host.counters.as_dict())
        finally:
            fleet.close()
    return 1 if fleet.bugs() else 0


def _say(answered: TextIO, what: object) -> None:
    answered.write(json.dumps(what) + "\n")
    answered.flush()


if __name__ == "__main__":
    sys.exit(serve(sys.stdin, sys.stdout))
