# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remote command shells (wire 7.1, 7.2) on top of the host's programs."""
from __future__ import annotations

import asyncio
import base64
import binascii
import random
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from xml.etree import ElementTree as ET

from simulator.cim.model import Caller
from simulator.cim.xmltext import attribute, text
from simulator.clock import SimClock, Timer
from simulator.spec import Limits
from simulator.windows.errors import Win32Error

from . import names
from .envelope import Request
from .faults import ProviderFault, SoapFault

COMMAND_LINE_LIMIT = 8191
CONTROL_C = -1073741510
"""STATUS_CONTROL_C_EXIT."""
MINIMUM_IDLE_SECONDS = 60.0
MAXIMUM_IDLE_SECONDS = 2_147_483.0
_STATE = names.RSP + "/CommandState/"
_SIGNALS = names.RSP + "/signal/"
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?\Z")
_POLL_SECONDS = 0.05
"""Wall-clock seconds between two looks at a program while the clock moves by itself."""


class Process(Protocol):
    """A program of the host."""

    pid: int

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""

    def take_output(self) -> tuple[bytes, bytes]:
        """Standard output and error since the last call."""

    def feed(self, data: bytes, end: bool) -> None:
        """Standard input."""

    def terminate(self, exit_code: int = 1) -> None:
        """End it."""


class ProcessHost(Protocol):
    """What starts programs."""

    def start(self, caller: Caller, command_line: str, environment: Mapping[str, str], directory: str | None, *, job: str | None,
              codepage: int) -> Process:
        """Run a line as ``cmd.exe /c`` does; Win32Error when it cannot start."""

    def kill_job(self, job: str) -> None:
        """End everything that was started with this ``job`` and did not break away."""


class _Refused:
    """What remains of a command line that ``cmd.exe`` did not take: both behaviours of wire 10 C15."""

    pid = 0

    def __init__(self, message: bytes, exit_code: int) -> None:
        self.exit_code: int | None = exit_code
        self._message = message

    def take_output(self) -> tuple[bytes, bytes]:
        message, self._message = self._message, b""
        return b"", message

    def feed(self, data: bytes, end: bool) -> None:
        """Nobody reads it."""

    def terminate(self, exit_code: int = 1) -> None:
        """It has ended."""


@dataclass
class Command:
    """One command of a shell. ``output`` is what was taken from the program and not yet sent."""

    id: str
    process: Process
    output: dict[str, bytearray] = field(default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()})
    done_sent: bool = False

    def collect(self) -> None:
        """Take what the program wrote."""
        for name, data in zip(("stdout", "stderr"), self.process.take_output(), strict=True):
            self.output[name] += data

    def has_news(self, wanted: frozenset[str]) -> bool:
        """True when a Receive has something to answer."""
        self.collect()
        return self.process.exit_code is not None or any(self.output[name] for name in wanted)


@dataclass
class Shell:
    """One shell of one user."""

    id: str
    caller: Caller
    client: str
    environment: dict[str, str]
    directory: str | None
    codepage: int
    idle_seconds: float
    created: datetime
    last_used: datetime
    input_streams: str = "stdin"
    output_streams: str = "stdout stderr"
    operations: int = 0
    """Commands so far: the quota counts them until the shell is deleted (wire 7.2)."""
    command: Command | None = None
    waiting: int = 0
    """Receives that wait at this moment."""
    closed: bool = False
    timer: Timer | None = None

    @property
    def owner(self) -> str:
        """The user, in the form in which users are compared."""
        return self.caller.account.display.lower()


class Shells:
    """All shells of one host."""

    def __init__(self, clock: SimClock, processes: ProcessHost, limits: Limits, draw: random.Random) -> None:
        self._clock = clock
        self._processes = processes
        self._limits = limits
        self._draw = draw
        self._shells: dict[str, Shell] = {}

    # -- what others ask -------------------------------------------------------------------------------------------

    def operations_of(self, owner: str) -> int:
        """How many operations the shells of a user hold."""
        return sum(shell.operations for shell in self._shells.values() if shell.owner == owner)

    def all_of(self, caller: Caller) -> list[Shell]:
        """The shells that a caller may see: administrators see all."""
        owner = caller.account.display.lower()
        return [shell for shell in self._shells.values() if caller.is_administrator or shell.owner == owner]

    def close_all(self) -> None:
        """End every shell, as a restart of the service does."""
        for shell in list(self._shells.values()):
            self._close(shell)

    # -- operations ------------------------------------------------------------------------------------------------

    def create(self, request: Request, caller: Caller, client: str) -> str:
        """Create; returns the body of the answer."""
        owner = caller.account.display.lower()
        if not self._limits.allow_remote_shell_access:
            raise SoapFault("shells_not_allowed")
        if sum(1 for shell in self._shells.values() if shell.owner == owner) >= self._limits.max_shells_per_user:
            raise SoapFault("quota_shells")
        users = {shell.owner for shell in self._shells.values()}
        if owner not in users and len(users) >= self._limits.max_concurrent_users:
            raise SoapFault("quota_shell_users")
        element = request.payload
        if element is None or element.tag != names.tag(names.RSP, "Shell"):
            raise SoapFault("schema_validation")
        now = self._clock.now()
        shell = Shell(
            id=self._new_id(), caller=caller, client=client, environment=_environment(element),
            directory=_child(element, "WorkingDirectory"), codepage=_codepage(request.options.get("WINRS_CODEPAGE")),
            idle_seconds=self._idle_seconds(element), created=now, last_used=now,
            input_streams=_child(element, "InputStreams") or "stdin", output_streams=_child(element, "OutputStreams") or "stdout stderr")
        self._shells[shell.id.lower()] = shell
        self._watch(shell)
        selector = f'<w:Selector Name="ShellId">{text(shell.id)}</w:Selector>'
        return (f"<x:ResourceCreated><a:Address>{names.ANONYMOUS}</a:Address><a:ReferenceParameters>"
                f"<w:ResourceURI>{names.SHELL_CMD}</w:ResourceURI><w:SelectorSet>{selector}</w:SelectorSet>"
                f"</a:ReferenceParameters></x:ResourceCreated>{self.format(shell)}")

    def find(self, request: Request, caller: Caller) -> Shell:
        """The shell that a request names; touching it puts off its idle time-out."""
        wanted = next((value for name, value in request.selectors.items() if name.lower() == "shellid"), None)
        if wanted is None:
            raise SoapFault("insufficient_selectors")
        shell = self._shells.get(wanted.strip().lower())
        if shell is None:
            raise SoapFault("unexpected_selectors")
        if shell.owner != caller.account.display.lower() and not caller.is_administrator:
            raise SoapFault("access_denied")
        shell.last_used = self._clock.now()
        self._watch(shell)
        return shell

    def run(self, shell: Shell, request: Request, others: int) -> str:
        """Command. ``others`` are operations of the user that are not shell commands."""
        element = request.payload
        if element is None or element.tag != names.tag(names.RSP, "CommandLine"):
            raise SoapFault("schema_validation")
        if shell.command is not None and not shell.command.done_sent:
            raise SoapFault("command_running")
        if self.operations_of(shell.owner) + others >= self._limits.max_operations_per_user:
            raise SoapFault("quota_operations")
        parts = [_child(element, "Command") or ""]
        parts += [argument.text or "" for argument in element.findall(names.tag(names.RSP, "Arguments"))]
        shell.operations += 1
        shell.command = Command(self._new_id(), self._start(shell, " ".join(parts)))
        return f"<rsp:CommandResponse><rsp:CommandId>{text(shell.command.id)}</rsp:CommandId></rsp:CommandResponse>"

    def send(self, shell: Shell, request: Request) -> str:
        """Send."""
        element = request.payload
        streams = element.findall(names.tag(names.RSP, "Stream")) if element is not None else []
        if not streams:
            raise SoapFault("schema_validation")
        for stream in streams:
            command = self._command(shell, stream.get("CommandId"))
            try:
                data = base64.b64decode("".join((stream.text or "").split()), validate=True)
            except (binascii.Error, ValueError) as error:
                raise SoapFault("schema_validation") from error
            command.process.feed(data, stream.get("End", "").lower() in ("true", "1"))
        return "<rsp:SendResponse/>"

    async def receive(self, shell: Shell, request: Request, *, seconds: float, max_bytes: int) -> str:
        """Receive: waits for output or the end of the command, at most ``seconds`` of simulated time."""
        element = request.payload
        desired = element.find(names.tag(names.RSP, "DesiredStream")) if element is not None else None
        if desired is None:
            raise SoapFault("schema_validation")
        command = self._command(shell, desired.get("CommandId"))
        wanted = frozenset((desired.text or shell.output_streams).split()) & {"stdout", "stderr"}
        shell.waiting += 1
        try:
            in_time = await self._wait(lambda: shell.closed or command.has_news(wanted), seconds)
        finally:
            shell.waiting -= 1
        if shell.closed:
            raise SoapFault("operation_aborted")
        shell.last_used = self._clock.now()
        self._watch(shell)
        if not in_time:
            raise SoapFault("timed_out")
        return self._format_output(command, wanted, max_bytes)

    def signal(self, shell: Shell, request: Request) -> str:
        """Signal: ``terminate`` forgets the command, ``ctrl_c`` and ``ctrl_break`` end its program."""
        element = request.payload
        if element is None or element.tag != names.tag(names.RSP, "Signal"):
            raise SoapFault("schema_validation")
        command = self._command(shell, element.get("CommandId"))
        code = (_child(element, "Code") or "").strip().lower()
        if code not in [_SIGNALS + name for name in ("terminate", "ctrl_c", "ctrl_break")]:
            raise SoapFault("invalid_parameter")
        if code.endswith("terminate"):
            command.process.terminate()
            shell.command = None
        else:
            command.process.terminate(CONTROL_C)
        return "<rsp:SignalResponse/>"

    def delete(self, shell: Shell) -> str:
        """Delete: the programs of the shell end with it."""
        self._close(shell)
        return ""

    def format(self, shell: Shell) -> str:
        """The ``rsp:Shell`` element of a Create, Get or Enumerate."""
        now = self._clock.now()
        variables = "".join(f"<rsp:Variable Name={attribute(name)}>{text(value)}</rsp:Variable>"
                            for name, value in shell.environment.items())
        fields = {
            "ShellId": text(shell.id), "ResourceUri": names.SHELL_CMD, "Owner": text(shell.caller.account.display),
            "ClientIP": text(shell.client.rpartition(":")[0] or shell.client),
            "Environment": variables, "WorkingDirectory": text(shell.directory or ""),
            "IdleTimeOut": f"PT{shell.idle_seconds:.3f}S", "InputStreams": text(shell.input_streams),
            "OutputStreams": text(shell.output_streams), "ShellRunTime": _format_duration(now - shell.created),
            "ShellInactivity": _format_duration(now - shell.last_used)}
        optional = ("Environment", "WorkingDirectory")
        inner = "".join(f"<rsp:{name}>{value}</rsp:{name}>" for name, value in fields.items() if value or name not in optional)
        return f"<rsp:Shell xmlns:rsp={attribute(names.RSP)}>{inner}</rsp:Shell>"

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._draw.getrandbits(128), version=4)).upper()

    def _idle_seconds(self, element: ET.Element) -> float:
        raw = _child(element, "IdleTimeOut")
        if raw is None:
            return self._limits.shell_idle_timeout_ms / 1000
        match = _DURATION.match(raw.strip())
        if match is None:
            raise SoapFault("schema_validation")
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        if total > MAXIMUM_IDLE_SECONDS:
            raise SoapFault("idle_timeout_out_of_bounds")
        return max(MINIMUM_IDLE_SECONDS, total)

    def _watch(self, shell: Shell) -> None:
        """(Re)start the idle timer."""
        if shell.timer is not None:
            shell.timer.cancel()
        shell.timer = self._clock.call_later(shell.idle_seconds, lambda: self._idle(shell))

    def _idle(self, shell: Shell) -> None:
        if shell.closed:
            return
        if shell.waiting:  # a pending Receive is no idleness
            self._watch(shell)
        else:
            self._close(shell)

    def _close(self, shell: Shell) -> None:
        shell.closed = True
        if shell.timer is not None:
            shell.timer.cancel()
        self._shells.pop(shell.id.lower(), None)
        self._processes.kill_job(shell.id)

    def _command(self, shell: Shell, identifier: str | None) -> Command:
        if not identifier:
            raise SoapFault("invalid_parameter", provider=_plugin("The parameter is incorrect. "))
        command = shell.command
        if command is None or command.id.lower() != identifier.strip().lower():
            raise SoapFault("unexpected_selectors")
        return command

    def _start(self, shell: Shell, line: str) -> Process:
        if len(line) > COMMAND_LINE_LIMIT:
            if self._limits.long_line == "silent":
                return _Refused(b"", 0)
            return _Refused(b"The command line is too long.\r\n", 1)
        try:
            return self._processes.start(shell.caller, line, dict(shell.environment), shell.directory, job=shell.id,
                                         codepage=shell.codepage)
        except Win32Error as error:
            raise SoapFault("internal_error", code=error.code, provider=_plugin(str(error))) from error

    async def _wait(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Wait in simulated time; a clock that stands still is moved from event to event."""
        clock = self._clock
        deadline = clock.now() + timedelta(seconds=seconds)
        while True:
            clock.settle()
            if ready():
                return True
            now = clock.now()
            if now >= deadline:
                return False
            if clock.speed == 0:
                if not clock.jump_to_next(deadline):
                    clock.advance((deadline - now).total_seconds())
                await asyncio.sleep(0)
            else:
                due = min(clock.next_due() or deadline, deadline)
                pause = (due - now).total_seconds() / clock.speed
                await asyncio.sleep(min(max(pause, 0.001), _POLL_SECONDS))

    def _format_output(self, command: Command, wanted: frozenset[str], max_bytes: int) -> str:
        """The body of a ReceiveResponse: chunks of any size, and at the very end empty End streams with Done."""
        room = max(1024, (max_bytes - 4096) * 3 // 4)
        parts: list[str] = []
        for name in ("stdout", "stderr"):
            if name not in wanted:
                continue
            data = command.output[name]
            while data and room > 0:
                size = min(len(data), room, self._draw.choice((512, 4096, 16384, 65536)))
                parts.append(_stream(name, command.id, bytes(data[:size])))
                del data[:size]
                room -= size + 128
        finished = command.process.exit_code is not None and not any(command.output[name] for name in wanted)
        if finished and parts and self._draw.random() < 0.5:  # the end often comes in an answer of its own
            finished = False
        if not finished:
            return f"<rsp:ReceiveResponse>{''.join(parts)}{_state(command.id, 'Running')}</rsp:ReceiveResponse>"
        command.done_sent = True
        ends = "".join(f'<rsp:Stream Name="{name}" CommandId={attribute(command.id)} End="true"></rsp:Stream>' for name in sorted(wanted))
        code = f"<rsp:ExitCode>{command.process.exit_code}</rsp:ExitCode>"
        return f"<rsp:ReceiveResponse>{''.join(parts)}{ends}{_state(command.id, 'Done', code)}</rsp:ReceiveResponse>"


def _plugin(message: str) -> ProviderFault:
    """What the plug-in of the shells adds to a fault (wire 5.1)."""
    return ProviderFault("Shell cmd plugin", "%systemroot%\\system32\\winrscmd.dll", message=message)


def _stream(name: str, command_id: str, data: bytes) -> str:
    return f'<rsp:Stream Name="{name}" CommandId={attribute(command_id)}>{base64.b64encode(data).decode()}</rsp:Stream>'


def _state(command_id: str, state: str, inner: str = "") -> str:
    return f"<rsp:CommandState CommandId={attribute(command_id)} State={attribute(_STATE + state)}>{inner}</rsp:CommandState>"


def _child(element: ET.Element, name: str) -> str | None:
    child = element.find(names.tag(names.RSP, name))
    return child.text if child is not None else None


def _environment(element: ET.Element) -> dict[str, str]:
    block = element.find(names.tag(names.RSP, "Environment"))
    if block is None:
        return {}
    return {variable.get("Name", ""): variable.text or "" for variable in block.findall(names.tag(names.RSP, "Variable"))}


def _codepage(value: str | None) -> int:
    """The code page of the console; 437 unless the client says another (wire 7.2)."""
    if value is None:
        return 437
    if not value.isascii() or not value.isdigit():
        raise SoapFault("invalid_parameter")
    return int(value)


def _format_duration(value: timedelta) -> str:
    """``P0DT0H0M0S``."""
    seconds = int(value.total_seconds())
    return f"P{seconds // 86400}DT{seconds // 3600 % 24}H{seconds // 60 % 60}M{seconds % 60}S"
