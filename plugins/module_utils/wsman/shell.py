# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One command shell (winrs) of a host: programs, their output and their exit codes (wire 7)."""
from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from xml.etree.ElementTree import Element

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import faults, xml
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WsmanSession
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import Markup, ProtocolError, element, text

OutputHandler = Callable[[str, bytes], None]
"""Called with the stream's name (``stdout`` or ``stderr``) and a chunk of raw bytes, as they arrive."""

MAX_COMMAND_LINE = 8191
"""Characters that cmd.exe takes; longer lines do nothing and may say nothing (wire 7.2)."""
MAX_OUTPUT = 16 * 1024 * 1024
MAX_ENVIRONMENT = 32000
_STDIN_CHUNK = 128 * 1024
_RECEIVE_PATIENCE = 20.0

_RESOURCE = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd"
_SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
_TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
_VARIABLE = re.compile(r"%([^%\r\n]+)%")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_RSP = {"xmlns__rsp": xml.SHELL}


class CommandLineTooLong(HypervError):
    """A command line is longer than cmd.exe takes; nothing was sent."""

    error_code = "command_line_too_long"


class OutputTooLarge(HypervError):
    """A program wrote more than was allowed for; it was ended."""

    error_code = "output_too_large"


class ProgramTimedOut(HypervError):
    """A program did not end in time; it was ended."""

    error_code = "program_timed_out"


@dataclass(frozen=True)
class ProgramResult:
    """What a finished program left: its exit code and its raw output (UTF-8 as far as the program obeys code page 65001)."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Shell:
    """A shell as a context manager: created on entry, deleted on every exit, with everything that still runs in it.

    ``environment`` carries values to the programs: names are plain identifiers, values are never quoted or expanded on the way.
    ``before_send`` is called before each message that may change the host. One program at a time (wire 7.2). A finished program is
    forgotten (Signal, wire 7.1) only when another one follows: deleting the shell forgets the last one, too.
    """

    def __init__(self, session: WsmanSession, environment: Mapping[str, str], *, before_send: Callable[[], None] | None = None,
                 max_output: int = MAX_OUTPUT) -> None:
        for name, value in environment.items():
            if not _NAME.match(name):
                raise ValueError(f"not a name for an environment variable: {name!r}")
            if "\0" in value or len(value) > MAX_ENVIRONMENT:
                raise HypervError(f"The value of {name} cannot be an environment variable.", error_code="invalid_text")
        self.environment: Mapping[str, str] = MappingProxyType(dict(environment))
        self._session = session
        self._before_send = before_send
        self._max_output = max_output
        self._shell_id: str | None = None
        self._finished: str | None = None

    def __enter__(self) -> Shell:
        variables = [element("rsp:Variable", text(value), Name=name) for name, value in self.environment.items()]
        body = element(
            "rsp:Shell", *([element("rsp:Environment", *variables)] if variables else []),
            element("rsp:InputStreams", text("stdin")), element("rsp:OutputStreams", text("stdout stderr")), **_RSP)
        answer = self._session.request(
            f"{_TRANSFER}/Create", _RESOURCE, body, options={"WINRS_NOPROFILE": "TRUE", "WINRS_CODEPAGE": "65001"}, repeatable=False,
            before_send=self._before_send)
        self._shell_id = _shell_id(answer)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        shell_id, self._shell_id = self._shell_id, None
        if shell_id is None:
            return
        try:
            self._session.request(f"{_TRANSFER}/Delete", _RESOURCE, Markup(""), selectors={"ShellId": shell_id}, repeatable=True)
        except (faults.InvalidSelectors, faults.ResourceNotFound, faults.ShellGone):
            return  # it is gone, which is what was wanted
        except HypervError:
            if error is None:
                raise
            return  # the first error says more; the host ends an idle shell by itself

    def run(self, command_line: str, stdin: bytes | None = None, *, timeout: float,
            on_output: OutputHandler | None = None) -> ProgramResult:
        """Run one command line through cmd.exe to its end, at most ``timeout`` seconds.

        With ``on_output`` the output goes there and the result's streams are empty; without it they are collected up to the
        shell's limit. Raises CommandLineTooLong before anything is sent, ProgramTimedOut or OutputTooLarge after the program was
        ended, OutcomeUnknown when the answer was lost.
        """
        if self._shell_id is None:
            raise ValueError("the shell is not open")
        refuse_long_line(command_line, self.environment)
        self._forget_finished()
        deadline = Deadline(self._session.clock, timeout)
        body = element("rsp:CommandLine", element("rsp:Command", text(command_line)), **_RSP)
        answer = self._call("Command", body, options={"WINRS_CONSOLEMODE_STDIN": "TRUE", "WINRS_SKIP_CMD_SHELL": "FALSE"})
        response = xml.child(answer, "CommandResponse")
        command_id = None if response is None else xml.child_text(response, "CommandId")
        if not command_id:
            raise OutcomeUnknown("The host started a program and did not say under what name.")
        collected = _Collected(self._max_output, on_output)
        try:
            if stdin is not None:
                self._feed(command_id, stdin)
            exit_code = self._receive(command_id, collected, deadline)
        except HypervError:
            self._end(command_id)
            raise
        self._finished = command_id
        return ProgramResult(exit_code, bytes(collected.stdout), bytes(collected.stderr))

    def _feed(self, command_id: str, data: bytes) -> None:
        """Standard input in chunks; an end without data closes it."""
        for start in range(0, max(1, len(data)), _STDIN_CHUNK):
            chunk = data[start:start + _STDIN_CHUNK]
            last = {"End": "true"} if start + _STDIN_CHUNK >= len(data) else {}
            stream = element("rsp:Stream", text(base64.b64encode(chunk).decode("ascii")), Name="stdin", CommandId=command_id, **last)
            self._call("Send", element("rsp:Send", stream, **_RSP))

    def _receive(self, command_id: str, collected: _Collected, deadline: Deadline) -> int:
        desired = element("rsp:DesiredStream", text("stdout stderr"), CommandId=command_id)
        body = element("rsp:Receive", desired, **_RSP)
        while not deadline.expired():
            patience = max(1.0, min(_RECEIVE_PATIENCE, deadline.remaining()))
            try:
                answer = self._call("Receive", body, patience=patience)
            except faults.OperationTimedOut:
                continue  # no output yet (wire 5.2)
            except OutcomeUnknown as error:
                if isinstance(error.__cause__, faults.OperationTimedOut):
                    continue
                raise
            response = xml.child(answer, "ReceiveResponse")
            if response is None:
                raise OutcomeUnknown("The host's answer about a running program cannot be understood.")
            exit_code = collected.take(response)
            if exit_code is not None:
                return exit_code
        raise ProgramTimedOut("A program did not end in time and was ended.", details={"stdout": collected.tail()})

    def _forget_finished(self) -> None:
        """A finished program counts against the shell's quota until it is signalled (wire 7.1)."""
        command_id, self._finished = self._finished, None
        if command_id is not None:
            self._end(command_id)

    def _end(self, command_id: str) -> None:
        """Signal a program's end. That this fails does not matter: the shell's deletion ends everything in it."""
        body = element("rsp:Signal", element("rsp:Code", text(f"{_SHELL}/signal/terminate")), CommandId=command_id, **_RSP)
        with contextlib.suppress(HypervError):
            self._call("Signal", body, repeatable=True)

    def _call(self, verb: str, body: Markup, *, options: Mapping[str, str] | None = None, repeatable: bool = False,
              patience: float | None = None) -> Element:
        """One shell operation. A Receive takes output away, so it is not repeatable either."""
        return self._session.request(f"{_SHELL}/{verb}", _RESOURCE, body, selectors={"ShellId": self._shell_id or ""}, options=options,
                                     repeatable=repeatable, patience=patience,
                                     before_send=self._before_send if verb == "Command" else None)


class _Collected:
    """Output so far, within its limit."""

    def __init__(self, limit: int, handler: OutputHandler | None) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._left = limit
        self._handler = handler

    def take(self, response: Element) -> int | None:
        """Take the chunks of one ReceiveResponse; the exit code once the program is done (only then is there one, wire 7.1)."""
        exit_code = None
        for node in response:
            name, attributes = xml.local_name(node.tag), xml.attributes_of(node)
            if name == "Stream" and node.text:
                self._add(attributes.get("Name", ""), node.text)
            elif name == "CommandState" and attributes.get("State", "").rpartition("/")[2].lower() == "done":
                exit_code = _exit_code(xml.child_text(node, "ExitCode"))
        return exit_code

    def _add(self, stream: str, encoded: str) -> None:
        try:
            chunk = base64.b64decode("".join(encoded.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ProtocolError("The output of a program is not base64.") from error
        if self._handler is not None:
            self._handler(stream, chunk)
            return
        self._left -= len(chunk)
        if self._left < 0:
            raise OutputTooLarge("A program wrote more output than expected and was ended.")
        (self.stderr if stream == "stderr" else self.stdout).extend(chunk)

    def tail(self) -> str:
        """The end of what was written, for a report."""
        return bytes(self.stdout[-500:]).decode("utf-8", "backslashreplace")


def refuse_long_line(command_line: str, environment: Mapping[str, str]) -> None:
    """Raise CommandLineTooLong when the line, as written or after cmd.exe expands our variables in it, is over the limit."""
    folded = {name.upper(): value for name, value in environment.items()}
    expanded = _VARIABLE.sub(lambda found: folded.get(found.group(1).upper(), found.group()), command_line)
    length = max(_utf16_length(command_line), _utf16_length(expanded))
    if length > MAX_COMMAND_LINE:
        raise CommandLineTooLong(f"A command line has {length} characters; Windows takes {MAX_COMMAND_LINE}.")


def _utf16_length(line: str) -> int:
    return len(line.encode("utf-16-le", "surrogatepass")) // 2


def _exit_code(value: str | None) -> int:
    """Windows writes signed or unsigned decimals (wire 7.2); the result is unsigned as Windows defines exit codes."""
    if value is None or not re.fullmatch(r"-?\d{1,11}", value):
        raise OutcomeUnknown("A program ended and the host did not say how.")
    return int(value) & 0xFFFFFFFF


def _shell_id(answer: Element) -> str:
    """From the address in ResourceCreated or from the shell itself (wire 7.1)."""
    for node in answer.iter():
        name = xml.local_name(node.tag)
        if (name == "ShellId" or (name == "Selector" and xml.attributes_of(node).get("Name") == "ShellId")) and node.text:
            return node.text.strip()
    raise OutcomeUnknown("The host made a shell and did not say which; it ends by itself when idle.")
