# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every program sees of its host and its process."""
from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Generator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from simulator.clock import SimClock
from simulator.windows import errors, locales, paths
from simulator.windows.errors import Win32Error
from simulator.windows.files import FileSystem, Location
from simulator.windows.identity import Token

if TYPE_CHECKING:
    from simulator.windows.firewall import Firewall
    from simulator.windows.vss import VssService


class NeedInput:
    """What a program yields when it cannot go on without more input."""


INPUT = NeedInput()

Steps: TypeAlias = Generator["float | NeedInput", None, int]
"""A running program: yields seconds of simulated time to wait, or INPUT; its return value is the exit code."""


class NotSimulated(Exception):
    """Something Windows has and this host does not imitate: said aloud instead of a wrong answer."""


class Sink(Protocol):
    """Where output goes."""

    def write(self, data: bytes) -> None:
        """Take bytes."""


@dataclass
class Memory:
    """Output kept in memory."""

    data: bytearray = field(default_factory=bytearray)

    def write(self, data: bytes) -> None:
        """Keep bytes."""
        self.data += data

    def take(self) -> bytes:
        """What came since the last call."""
        result = bytes(self.data)
        self.data.clear()
        return result


class Nowhere:
    """The device NUL."""

    def write(self, data: bytes) -> None:
        """Drop bytes."""


@dataclass
class FileSink:
    """Output into a file that was opened before."""

    files: FileSystem
    place: Location

    def write(self, data: bytes) -> None:
        """Add bytes; Win32Error 112 when the volume is full."""
        self.files.append(self.place, data)


@dataclass
class Pipe:
    """Input that arrives by and by."""

    data: bytearray = field(default_factory=bytearray)
    closed: bool = False
    piped: bool = True

    def read_all(self) -> Generator[float | NeedInput, None, bytes]:
        """Everything up to the end of the input."""
        while not self.closed:
            yield INPUT
        result = bytes(self.data)
        self.data.clear()
        return result

    def read_line(self) -> Generator[float | NeedInput, None, bytes]:
        """One line, without its end."""
        while b"\n" not in self.data and not self.closed:
            yield INPUT
        line, _unused, rest = bytes(self.data).partition(b"\n")
        self.data[:] = rest
        return line.rstrip(b"\r")


@dataclass(frozen=True)
class HostFacts:
    """What a host is. ``workgroup`` counts when ``domain`` is None; ``boot_seconds`` is how long it had been up at the start."""

    name: str
    domain: str | None = None
    os_version: str = "2022"
    locale: str = "en-US"
    workgroup: str = "WORKGROUP"
    utc_offset_minutes: int = 0
    boot_seconds: float = 3 * 86400.0
    memory_bytes: int = 64 * 1024**3
    cluster: bool = False
    domain_controller: bool = False
    client_edition: bool = False
    """Windows for clients, where diskshadow does not exist (operations 5.9)."""

    @property
    def fqdn(self) -> str:
        """The DNS name."""
        return f"{self.name}.{self.domain}" if self.domain else self.name


@dataclass(frozen=True)
class Speeds:
    """How fast programs work in simulated time, and in what pieces."""

    copy_bytes_per_second: float = 100 * 1024**2
    hash_bytes_per_second: float = 400 * 1024**2
    chunk: int = 1024 * 1024


@dataclass
class Context:
    """One process: its host, account, environment, current directory and streams."""

    facts: HostFacts
    files: FileSystem
    clock: SimClock
    token: Token
    environment: MutableMapping[str, str]
    directory: str
    codepage: int
    stdin: Pipe
    stdout: Sink
    stderr: Sink
    speeds: Speeds = field(default_factory=Speeds)
    programs: Mapping[str, Program] = field(default_factory=dict)
    vss: VssService | None = None
    """For the programs that make shadow copies with writers."""
    firewall: Firewall | None = None
    """For netsh."""

    @property
    def encoding(self) -> str:
        """The Python codec of the console code page."""
        return {65001: "utf-8", 437: "cp437", 850: "cp850", 932: "cp932", 1252: "cp1252"}.get(self.codepage, "cp437")

    def encode(self, text: str) -> bytes:
        """Text as this console shows it: what the code page lacks becomes ``?`` (wire 7.2)."""
        return text.encode(self.encoding, "replace")

    def out(self, text: str, end: str = "\r\n") -> None:
        """Print a line."""
        self.stdout.write(self.encode(text + end))

    def err(self, text: str, end: str = "\r\n") -> None:
        """Print a line to the error stream."""
        self.stderr.write(self.encode(text + end))

    def say(self, name: str, *values: object) -> str:
        """A text in the language of the host."""
        return locales.phrase(name, self.facts.locale, *values)

    def error_text(self, code: int) -> str:
        """The system message of an error."""
        return locales.error_text(code, self.facts.locale)

    def variable(self, name: str) -> str | None:
        """An environment variable, in any case."""
        wanted = name.upper()
        return next((value for key, value in self.environment.items() if key.upper() == wanted), None)

    def full(self, path: str) -> str:
        """The absolute path."""
        return paths.parse(path, self.directory).text()

    def locate(self, path: str, *, follow_last: bool = True, long_paths: bool = False) -> Location:
        r"""Where an argument leads. Refused: ``\\?\GLOBALROOT`` (123, operations 5.5) and, for most programs, 260 characters or more."""
        if paths.is_device_form(path):
            raise Win32Error(errors.INVALID_NAME, path)
        if not long_paths and not path.startswith("\\\\?\\") and len(self.full(path)) >= paths.MAX_PATH:
            raise Win32Error(errors.NAME_TOO_LONG, path)
        return self.files.resolve(path, follow_last=follow_last, current=self.directory, token=self.token)

    def existing(self, path: str, *, follow_last: bool = True, long_paths: bool = False) -> Location:
        """Like :meth:`locate`, for something that is there; Win32Error 2 otherwise."""
        place = self.locate(path, follow_last=follow_last, long_paths=long_paths)
        if not place.exists:
            raise Win32Error(errors.FILE_NOT_FOUND, path)
        return place


Program: TypeAlias = Callable[[Context, str], Steps]
"""A program: gets its context and the rest of the command line as text, which it splits itself."""


def wildcard(pattern: str) -> Callable[[str], bool]:
    """A test of names against a Windows pattern (``*``, ``?``, ``*.*`` meaning everything)."""
    if pattern in ("*", "*.*"):
        return lambda _name: True
    escaped = pattern.replace("[", "[[]")
    test = re.compile(fnmatch.translate(paths.fold(escaped)))
    return lambda name: test.match(paths.fold(name)) is not None
