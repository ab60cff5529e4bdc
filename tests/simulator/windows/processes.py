# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of a host: started by shells (and dying with them), by Win32_Process.Create or by the system."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from simulator.cim.model import Caller
from simulator.clock import SimClock, Timer
from simulator.windows import acl, errors, identity
from simulator.windows.cmdline import Shell, run_line
from simulator.windows.errors import Win32Error
from simulator.windows.files import FileSystem
from simulator.windows.firewall import Firewall
from simulator.windows.identity import Token
from simulator.windows.programs.base import (
    Context,
    HostFacts,
    Memory,
    NeedInput,
    NotSimulated,
    Nowhere,
    Pipe,
    Program,
    Speeds,
    Steps,
)
from simulator.windows.programs.table import programs_of
from simulator.windows.vss import VssService

TERMINATED = 1
CONTROL_C = -1073741510
CREATE_PROCESS_LIMIT = 32767
"""Characters of a command line that does not go through cmd (wire 7.2)."""


@dataclass
class SimProcess:
    """One process (a ``cmd.exe`` with what it runs). ``exit_code`` is None while it runs."""

    pid: int
    job: str | None
    command_line: str
    owner: str
    started: datetime
    clock: SimClock
    context: Context
    image: str = "cmd.exe"
    exit_code: int | None = None
    on_exit: list[Callable[[SimProcess], None]] = field(default_factory=list)
    """Called once when it has ended, by itself or by force."""
    unseen: Callable[[NotSimulated], None] | None = None
    """Told of what is not simulated when nobody sees the error stream."""
    _steps: Steps | None = None
    _timer: Timer | None = None
    _waits_for_input: bool = False

    def run(self, steps: Steps) -> None:
        """Begin."""
        self._steps = steps
        self._step()

    def _step(self) -> None:
        self._timer = None
        while self._steps is not None and self.exit_code is None:
            try:
                wait = next(self._steps)
            except StopIteration as end:
                self._end(int(end.value))
                return
            except NotSimulated as gap:
                self.context.err(f"simulator: {gap}")
                if self.unseen is not None and isinstance(self.context.stderr, Nowhere):
                    self.unseen(gap)
                self._end(1)
                return
            if isinstance(wait, NeedInput):
                self._waits_for_input = True
                return
            if wait > 0:
                self._timer = self.clock.call_later(wait, self._step)
                return

    def _end(self, exit_code: int) -> None:
        self.exit_code = exit_code
        for listener in self.on_exit:
            listener(self)

    def take_output(self) -> tuple[bytes, bytes]:
        """What was printed since the last call: standard output and error."""
        out, err = self.context.stdout, self.context.stderr
        return (out.take() if isinstance(out, Memory) else b""), (err.take() if isinstance(err, Memory) else b"")

    def feed(self, data: bytes, end: bool) -> None:
        """Input; ``end`` closes it. Input for a process that has ended is dropped."""
        self.context.stdin.data += data
        self.context.stdin.closed = self.context.stdin.closed or end
        if self._waits_for_input:
            self._waits_for_input = False
            self._step()

    def terminate(self, exit_code: int = TERMINATED) -> None:
        """End it now; what it has written so far stays."""
        if self.exit_code is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        if self._steps is not None:
            self._steps.close()
        self._end(exit_code)


class ProcessHost:
    """Starts and ends the processes of one host."""

    def __init__(self, files: FileSystem, clock: SimClock, facts: HostFacts, *, speeds: Speeds | None = None) -> None:
        self.files = files
        self.clock = clock
        self.facts = facts
        self.speeds = speeds or Speeds()
        self.processes: dict[int, SimProcess] = {}
        self.started = clock.now()
        self.booted = self.started - timedelta(seconds=facts.boot_seconds)
        self.free_memory: Callable[[], int | None] = lambda: None
        """Bytes of memory that nobody uses, where that is known."""
        self.unseen: Callable[[NotSimulated], None] | None = None
        self.vss: VssService | None = None
        self.firewall: Firewall | None = None
        self.more_programs: dict[str, Program] = {}
        """What a bench puts beside the programs of Windows, by name without extension."""
        self._next_pid = 3000

    def start(self, caller: Caller, command_line: str, environment: Mapping[str, str], directory: str | None, *, job: str | None,
              codepage: int = 65001) -> SimProcess:
        """Run a line as ``cmd.exe /c`` does, with the rights of the caller.

        ``job`` is the shell it belongs to (None: it survives every shell); ``environment`` is added to the machine's own.
        Raises Win32Error 267 when ``directory`` is not there.
        """
        context = self._context(caller, environment, directory, codepage)
        return self._launch(context, "cmd.exe", command_line, run_line(context, command_line), job)

    def create(self, caller: Caller, command_line: str, environment: Mapping[str, str], directory: str | None) -> SimProcess:
        """Run a program outside any shell, as Win32_Process.Create does: no cmd, no input, and nobody sees its output.

        Raises Win32Error 2 when the line does not begin with a program.
        """
        context = self._context(caller, environment, directory or "C:\\Windows\\System32", 437)
        context.stdin.closed = True
        context.stdout = context.stderr = Nowhere()
        found = Shell(context).program(command_line.strip(), context)
        if found is None:
            raise Win32Error(errors.FILE_NOT_FOUND, command_line)
        name, program, tail = found
        return self._launch(context, name + ".exe", command_line, program(context, tail), None)

    def launch(self, caller: Caller, program: str, arguments: str, directory: str | None, *, slowness: float = 1.0,
               on_exit: Callable[[SimProcess], None] | None = None) -> SimProcess:
        """Run a program by its path as a service does: no cmd, no input, nobody sees its output, and it survives every shell.

        ``slowness`` divides the speed at which it moves data. Raises Win32Error 2 or 3 (no such program), 206 (the command line is
        longer than CreateProcess takes) and 267 (no such directory).
        """
        line = f'"{program.strip(chr(34))}"' + (f" {arguments}" if arguments else "")
        if len(line) > CREATE_PROCESS_LIMIT:
            raise Win32Error(errors.NAME_TOO_LONG, program)
        context = self._context(caller, {}, directory or "C:\\Windows\\System32", 437)
        context.stdin.closed = True
        context.stdout = context.stderr = Nowhere()
        speeds = self.speeds
        context.speeds = replace(speeds, copy_bytes_per_second=speeds.copy_bytes_per_second / slowness,
                                 hash_bytes_per_second=speeds.hash_bytes_per_second / slowness)
        shell = Shell(context)
        script = shell.script(line, context)
        if script is not None:  # CreateProcess hands batch files to cmd
            return self._launch(context, "cmd.exe", line, run_line(context, line), None, on_exit)
        found = shell.program(line, context)
        if found is None:
            folder = program.strip('"').rpartition("\\")[0]
            missing = bool(folder) and not self.files.exists(folder)
            raise Win32Error(errors.PATH_NOT_FOUND if missing else errors.FILE_NOT_FOUND, program)
        return self._launch(context, found[0] + ".exe", line, found[1](context, found[2]), None, on_exit)

    def _context(self, caller: Caller, environment: Mapping[str, str], directory: str | None, codepage: int) -> Context:
        token = identity.token_for(caller, self.facts.name, self.facts.domain)
        variables = self.environment(token, environment)
        return Context(self.facts, self.files, self.clock, token, variables, self._directory(directory, variables, token), codepage,
                       Pipe(), Memory(), Memory(), self.speeds, {**programs_of(self.facts), **self.more_programs}, self.vss,
                       self.firewall)

    def _launch(self, context: Context, image: str, line: str, steps: Steps, job: str | None,
                on_exit: Callable[[SimProcess], None] | None = None) -> SimProcess:
        self.clock.settle()
        self._next_pid += 4
        process = SimProcess(self._next_pid, job, line, context.token.name, self.clock.now(), self.clock, context, image,
                             on_exit=[on_exit] if on_exit else [], unseen=self.unseen)
        self._forget_ended()
        self.processes[process.pid] = process
        process.run(steps)
        return process

    def _directory(self, directory: str | None, variables: Mapping[str, str], token: Token) -> str:
        if directory:
            place = self.files.resolve(directory)
            if not place.is_directory:
                raise Win32Error(errors.NOT_A_DIRECTORY, directory)
            return place.path.text()
        if token.sid == acl.SYSTEM:
            return "C:\\Windows\\System32"
        if not self.files.exists(variables["USERPROFILE"]):
            self.files.make_private_folder(variables["USERPROFILE"], token)
            self.files.make_private_folder(f"{variables['USERPROFILE']}\\AppData\\Local\\Temp", token)
        return variables["USERPROFILE"]

    def environment(self, token: Token, extra: Mapping[str, str]) -> dict[str, str]:
        """The variables of a process: the machine's, the account's and ``extra``, which wins in any case of its letters."""
        user = token.name.rpartition("\\")[2]
        domain = token.name.rpartition("\\")[0]
        system = token.sid == acl.SYSTEM
        profile = "C:\\Windows\\System32\\config\\systemprofile" if system else f"C:\\Users\\{user}"
        temp = "C:\\Windows\\Temp" if system else f"{profile}\\AppData\\Local\\Temp"
        result = {
            "ALLUSERSPROFILE": "C:\\ProgramData", "COMPUTERNAME": self.facts.name.upper()[:15], "ComSpec": "C:\\Windows\\system32\\cmd.exe",
            "NUMBER_OF_PROCESSORS": "8", "OS": "Windows_NT", "Path": "C:\\Windows\\system32;C:\\Windows;C:\\Windows\\System32\\Wbem",
            "PATHEXT": ".COM;.EXE;.BAT;.CMD;.VBS;.JS;.WS;.MSC", "PROCESSOR_ARCHITECTURE": "AMD64", "ProgramData": "C:\\ProgramData",
            "ProgramFiles": "C:\\Program Files", "PROMPT": "$P$G", "PUBLIC": "C:\\Users\\Public", "SystemDrive": "C:",
            "SystemRoot": "C:\\Windows", "TEMP": temp, "TMP": temp, "USERDOMAIN": domain, "USERNAME": user, "USERPROFILE": profile,
            "windir": "C:\\Windows",
        }
        for name, value in extra.items():
            for known in [known for known in result if known.upper() == name.upper()]:
                del result[known]
            result[name] = value
        return result

    def _forget_ended(self) -> None:
        for pid in [pid for pid, process in self.processes.items() if process.exit_code is not None]:
            del self.processes[pid]

    def running(self) -> list[SimProcess]:
        """The processes that have not ended."""
        return [process for process in self.processes.values() if process.exit_code is None]

    def kill_job(self, job: str) -> None:
        """A shell is gone, and with it all that was started in it."""
        for process in self.running():
            if process.job == job:
                process.terminate()

    def restart_host(self) -> None:
        """Nothing survives a restart."""
        for process in self.running():
            process.terminate()
        self.started = self.booted = self.clock.now()
