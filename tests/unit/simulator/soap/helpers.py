# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the SOAP layer share: raw envelopes, a small host with real providers, and readers of answers."""
from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

from simulator.cim.model import Account, Caller, CimError, CimValue, Instance
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.cim.repository import Repository
from simulator.cim.schema import Schema
from simulator.clock import SimClock
from simulator.net.contract import Answer, Connection
from simulator.soap import names
from simulator.soap.counters import Counters
from simulator.soap.rules import FaultRules
from simulator.soap.service import WsmanService
from simulator.spec import HostSpec
from simulator.windows.errors import NOT_A_DIRECTORY, Win32Error

NS = {"s": names.S, "a": names.A, "w": names.W, "n": names.N, "x": names.X, "f": names.F, "rsp": names.RSP, "p": names.M,
      "cfg": names.CFG, "wsmid": names.WSMID, "b": names.B}
CIMV2 = names.CLASS_PREFIX + "root/cimv2/"
V2 = names.CLASS_PREFIX + "root/virtualization/v2/"

ADMIN = Caller(Account("Administrator", "x", builtin_administrator=True, groups=frozenset({"Administrators"})), "ntlm", elevated=True)
OTHER_ADMIN = Caller(Account("second", "x", groups=frozenset({"Administrators"})), "ntlm", elevated=True)
OPERATOR = Caller(Account("operator", "x", groups=frozenset({"Remote Management Users"})), "ntlm", elevated=False)
NOBODY = Caller(Account("nobody", "x"), "ntlm", elevated=False)


def envelope(action: str, uri: str, body: str = "", *, selectors: Mapping[str, str] | None = None,
             options: Mapping[str, str] | None = None, message_id: str = "uuid:11111111-2222-3333-4444-555555555555",
             headers: str = "", locale: str | None = "en-US", size: str | None = "153600", timeout: str | None = "PT20S",
             reply_to: str | None = names.ANONYMOUS) -> bytes:
    """A request as raw XML; a header that is None is left out."""
    parts = ["<a:To>http://windows-host:5985/wsman</a:To>", f"<a:Action>{escape(action)}</a:Action>",
             f"<w:ResourceURI>{escape(uri)}</w:ResourceURI>"]
    if message_id:
        parts.append(f"<a:MessageID>{escape(message_id)}</a:MessageID>")
    if reply_to is not None:
        parts.append(f"<a:ReplyTo><a:Address>{escape(reply_to)}</a:Address></a:ReplyTo>")
    if locale is not None:
        parts.append(f'<w:Locale xml:lang="{locale}" s:mustUnderstand="false"/>')
    if size is not None:
        parts.append(f"<w:MaxEnvelopeSize>{size}</w:MaxEnvelopeSize>")
    if timeout is not None:
        parts.append(f"<w:OperationTimeout>{timeout}</w:OperationTimeout>")
    for name, child, values in (("SelectorSet", "Selector", selectors), ("OptionSet", "Option", options)):
        if values:
            inner = "".join(f"<w:{child} Name={quoteattr(key)}>{escape(value)}</w:{child}>" for key, value in values.items())
            parts.append(f"<w:{name}>{inner}</w:{name}>")
    declarations = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NS.items())
    return f"<s:Envelope {declarations}><s:Header>{''.join(parts)}{headers}</s:Header><s:Body>{body}</s:Body></s:Envelope>".encode()


@dataclass
class Reply:
    """An answer with its XML."""

    answer: Answer
    root: ET.Element

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def action(self) -> str | None:
        return self.root.findtext("s:Header/a:Action", namespaces=NS)

    def find(self, path: str) -> ET.Element | None:
        return self.root.find(path, NS)

    def text(self, path: str) -> str | None:
        return self.root.findtext(path, namespaces=NS)

    @property
    def subcode(self) -> str | None:
        return self.text("s:Body/s:Fault/s:Code/s:Subcode/s:Value")

    @property
    def code(self) -> int | None:
        element = self.find("s:Body/s:Fault/s:Detail/f:WSManFault")
        return int(element.attrib["Code"]) if element is not None else None

    @property
    def fault_detail(self) -> str | None:
        value = self.text("s:Body/s:Fault/s:Detail/w:FaultDetail")
        return value.rpartition("/")[2] if value else None


class Table:
    """A provider of fixed instances of one class."""

    def __init__(self, namespace: str, class_name: str, rows: Iterable[Mapping[str, CimValue]],
                 methods: Mapping[str, Callable[[Invocation], MethodOutcome]] | None = None) -> None:
        self.rows = [Instance(namespace, class_name, dict(row)) for row in rows]
        self.methods = methods or {}

    def instances(self, caller: Caller) -> Iterable[Instance]:
        return list(self.rows)

    def delete(self, instance: Instance, caller: Caller) -> None:
        if not caller.is_administrator:
            raise CimError("access_denied", "no")
        self.rows.remove(instance)


@dataclass
class Program:
    """A program that a test drives by hand; it echoes what it is fed."""

    pid: int = 1
    exit_code: int | None = None
    out: bytes = b""
    err: bytes = b""
    fed: bytes = b""

    def take_output(self) -> tuple[bytes, bytes]:
        result = self.out, self.err
        self.out, self.err = b"", b""
        return result

    def feed(self, data: bytes, end: bool) -> None:
        self.fed += data
        if end and self.exit_code is None:
            self.out += self.fed
            self.exit_code = 0

    def terminate(self, exit_code: int = 1) -> None:
        if self.exit_code is None:
            self.exit_code = exit_code


@dataclass
class Programs:
    """Starts programs: ``echo``, ``wait N`` (N seconds of simulated time), ``cat`` (until its input ends), ``big N``."""

    clock: SimClock
    started: list[tuple[str, dict[str, str], str | None, int]] = field(default_factory=list)
    running: dict[str, list[Program]] = field(default_factory=dict)

    def start(self, caller: Caller, command_line: str, environment: Mapping[str, str], directory: str | None, *, job: str | None,
              codepage: int) -> Program:
        if directory is not None and not directory.startswith("C:"):
            raise Win32Error(NOT_A_DIRECTORY, directory)
        self.started.append((command_line, dict(environment), directory, codepage))
        verb, _unused, rest = command_line.partition(" ")
        program = Program(pid=len(self.started))
        self.running.setdefault(job or "", []).append(program)
        if verb == "echo":
            program.out, program.exit_code = rest.encode() + b"\r\n", 0
        elif verb == "big":
            program.out, program.exit_code = b"x" * int(rest), 0
        elif verb == "fail":
            program.err, program.exit_code = b"no\r\n", int(rest)
        elif verb == "wait":
            def finish() -> None:
                if program.exit_code is None:
                    program.out, program.exit_code = b"done\r\n", 0
            self.clock.call_later(float(rest), finish)
        return program

    def kill_job(self, job: str) -> None:
        for program in self.running.get(job, []):
            program.terminate()


class SmallHost:
    """The least that the service needs: a clock, a repository, counters, rules."""

    def __init__(self, spec: HostSpec | None = None) -> None:
        self.spec = spec or HostSpec("HV1")
        self.clock = SimClock()
        self.repository = Repository(Schema.load(), self.spec.os_version)
        self.counters = Counters()
        self.rules = FaultRules()
        self.changes = 0
        self.bugs: list[BaseException] = []
        self.programs = Programs(self.clock)
        self.service = WsmanService(self, self.programs)
        self.caller: Caller | None = ADMIN

    def settle(self) -> None:
        self.clock.settle()

    def answer(self, body: bytes, content_type: str = "application/soap+xml;charset=UTF-8") -> Answer:
        connection = Connection(1, "127.0.0.1:5000", tls=False, caller=self.caller)
        return asyncio.run(self.service.handle(connection, body, {"content-type": content_type}))

    def send(self, body: bytes) -> Reply:
        answer = self.answer(body)
        assert answer.body, f"status {answer.status} without a body"
        return Reply(answer, ET.fromstring(answer.body))

    def ask(self, action: str, uri: str, body: str = "", **keywords: object) -> Reply:
        return self.send(envelope(action, uri, body, **keywords))  # type: ignore[arg-type]

    # -- shells

    def open_shell(self, body: str = "", **keywords: object) -> str:
        reply = self.ask(names.CREATE, names.SHELL_CMD, f"<rsp:Shell>{body}</rsp:Shell>", **keywords)
        assert reply.status == 200, reply.code
        shell_id = reply.text("s:Body/rsp:Shell/rsp:ShellId")
        assert shell_id is not None
        return shell_id

    def in_shell(self, shell: str, verb: str, body: str, **keywords: object) -> Reply:
        return self.ask(f"{names.RSP}/{verb}", names.SHELL_CMD, body, selectors={"ShellId": shell}, **keywords)

    def run(self, shell: str, command: str, *arguments: str) -> Reply:
        inner = f"<rsp:Command>{escape(command)}</rsp:Command>" + "".join(f"<rsp:Arguments>{escape(a)}</rsp:Arguments>" for a in arguments)
        return self.in_shell(shell, "Command", f"<rsp:CommandLine>{inner}</rsp:CommandLine>")

    def start(self, shell: str, command: str, *arguments: str) -> str:
        command_id = self.run(shell, command, *arguments).text("s:Body/rsp:CommandResponse/rsp:CommandId")
        assert command_id is not None
        return command_id

    def receive(self, shell: str, command: str, streams: str = "stdout stderr", **keywords: object) -> Reply:
        body = f'<rsp:Receive><rsp:DesiredStream CommandId="{command}">{streams}</rsp:DesiredStream></rsp:Receive>'
        return self.in_shell(shell, "Receive", body, **keywords)

    def signal(self, shell: str, command: str, code: str = "terminate") -> Reply:
        inner = f"<rsp:Code>{names.RSP}/signal/{code}</rsp:Code>"
        return self.in_shell(shell, "Signal", f'<rsp:Signal CommandId="{command}">{inner}</rsp:Signal>')

    def output(self, shell: str, command: str) -> tuple[bytes, bytes, int]:
        """Receive until Done, as often as that times out."""
        collected = {"stdout": b"", "stderr": b""}
        for _unused in range(200):
            reply = self.receive(shell, command)
            if reply.code == 2150858793:
                continue
            assert reply.status == 200, reply.code
            for stream in reply.root.iter(names.tag(names.RSP, "Stream")):
                collected[stream.attrib["Name"]] += base64.b64decode(stream.text or "")
            state = reply.find("s:Body/rsp:ReceiveResponse/rsp:CommandState")
            assert state is not None
            if state.attrib["State"].endswith("/Done"):
                return collected["stdout"], collected["stderr"], int(state.findtext("rsp:ExitCode", namespaces=NS) or "")
        raise AssertionError("the command never ended")
