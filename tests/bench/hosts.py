# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated hosts in a process of their own, so that their work is not counted as the client's.

``python -m bench.hosts`` is that process: it reads one JSON line with the wishes, answers with the ports, then answers each name of a
host with its counters, until its standard input ends.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from simulator.cim.model import Account
from simulator.fleet import Fleet
from simulator.hyperv.spec import GIB, MIB, CheckpointSpec, DiskSpec, GuestSpec, VmSpec
from simulator.soap.counters import Counters
from simulator.spec import HostSpec
from simulator.windows.files import FileSystem, Location
from simulator.windows.spec import VolumeSpec

from bench import powershell

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
    interpreter: bool = False
    """Whether there is a powershell.exe that answers at once."""

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

    def plant(self, first: str, destination: str) -> None:
        """Give every host the copies that the host ``first`` has: under its own name, of its own VMs."""
        self._ask(json.dumps({"first": first, "destination": destination}))

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
            for simulated in fleet.simulated.values() if wish.interpreter else ():
                simulated.processes.more_programs["powershell"] = powershell.run
            fleet.start()
            _say(answered, {name: running.port for name, running in fleet.hosts.items()})
            for line in asked:
                request = json.loads(line)
                with fleet.locked():
                    if isinstance(request, str):
                        _say(answered, fleet.hosts[request].host.counters.as_dict())
                    else:
                        _say(answered, plant(fleet, request["first"], request["destination"]))
        finally:
            fleet.close()
    return 1 if fleet.bugs() else 0


def plant(fleet: Fleet, first: str, destination: str) -> int:
    """Copies of one host at all others, as their own runs would have left them; the number of files. Their disks are empty files of the
    same size: a run with nothing to do reads manifests and sizes."""
    source = fleet.hosts[first].host
    ids = {machine.name: machine.id for machine in source.hyperv.machines.values()}
    files = [place for place in _below(source.files, source.files.resolve(f"{destination}\\{first}")) if not place.is_directory]
    texts = {place.path.text(): source.files.read_file(place.path.text()) for place in files if place.path.text().endswith(".json")}
    for name, running in fleet.hosts.items():
        if name == first:
            continue
        target = running.host
        own = {machine.name: machine.id for machine in target.hyperv.machines.values()}
        renamed = [(first, name)] + [(ids[vm][:8].upper(), own[vm][:8].upper()) for vm in ids]
        exact = [(form(ids[vm]), form(own[vm])) for vm in ids for form in (str.lower, str.upper)]
        for place in files:
            old = place.path.text()
            new = _replaced(old, renamed)
            for depth in range(2, new.count("\\") + 1):
                folder = "\\".join(new.split("\\")[:depth])
                if not target.files.exists(folder):
                    target.files.create_directory(folder)
            text = texts.get(old)
            if text is not None:
                target.files.write_file(new, _replaced(text.decode("ascii"), [*exact, *renamed]).encode("ascii"))
            else:
                target.files.write_file(new, b"")
                os.truncate(target.files.real_path(new), place.real.stat().st_size)
    return len(files)


def _below(files: FileSystem, place: Location) -> Iterator[Location]:
    for entry in files.children(place):
        yield entry
        if entry.is_directory:
            yield from _below(files, entry)


def _replaced(text: str, pairs: list[tuple[str, str]]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text


def _say(answered: TextIO, what: object) -> None:
    answered.write(json.dumps(what) + "\n")
    answered.flush()


if __name__ == "__main__":
    sys.exit(serve(sys.stdin, sys.stdout))
