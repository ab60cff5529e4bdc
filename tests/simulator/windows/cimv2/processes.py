# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Win32_Process: Create starts a program outside any shell (wire 7.3), Terminate ends one."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta, timezone

from simulator.cim.model import Caller, CimValue, Instance
from simulator.cim.provider import Invocation, MethodHandler, MethodOutcome
from simulator.windows import errors, identity
from simulator.windows.cimv2.common import instance
from simulator.windows.errors import Win32Error
from simulator.windows.processes import ProcessHost, SimProcess

OK, DENIED, UNKNOWN, NOT_FOUND, BAD_PARAMETER = 0, 2, 8, 9, 21


@dataclass
class Processes:
    """Win32_Process."""

    host: ProcessHost
    methods: Mapping[str, MethodHandler] = field(init=False)

    def __post_init__(self) -> None:
        self.methods = {"Create": self._create, "Terminate": self._terminate, "GetOwner": self._owner}

    def instances(self, caller: Caller) -> Iterable[Instance]:
        """The programs that run now, and two that always do."""
        del caller
        fixed = [self._row("System", 4, 0, None), self._row("vmms.exe", 2104, 4, "C:\\Windows\\system32\\vmms.exe")]
        return fixed + [self._row(process.image, process.pid, 2104, process.command_line, process) for process in self.host.running()]

    def _row(self, name: str, pid: int, parent: int, line: str | None, process: SimProcess | None = None) -> Instance:
        facts = self.host.facts
        zone = timezone(timedelta(minutes=facts.utc_offset_minutes))
        values: dict[str, CimValue] = {
            "Handle": str(pid), "ProcessId": pid, "ParentProcessId": parent, "Name": name, "Caption": name, "Description": name,
            "CommandLine": line, "CreationClassName": "Win32_Process", "CSCreationClassName": "Win32_ComputerSystem",
            "CSName": facts.name.upper()[:15], "OSCreationClassName": "Win32_OperatingSystem", "SessionId": 0, "ThreadCount": 1,
            "ExecutablePath": f"C:\\Windows\\System32\\{name}" if process else None,
            "CreationDate": (process.started if process else self.host.started).astimezone(zone)}
        return instance("Win32_Process", **values)

    def _create(self, call: Invocation) -> MethodOutcome:
        line, directory, startup = call["CommandLine"], call["CurrentDirectory"], call["ProcessStartupInformation"]
        if not isinstance(line, str) or not line.strip():
            return {"ReturnValue": BAD_PARAMETER}
        variables: dict[str, str] = {}
        given = startup["EnvironmentVariables"] if isinstance(startup, Instance) else None
        for item in given if isinstance(given, list) else []:
            name, _unused, value = str(item).partition("=")
            variables[name] = value
        try:
            process = self.host.create(call.caller, line, variables, directory if isinstance(directory, str) else None)
        except Win32Error as refused:
            known = {errors.ACCESS_DENIED: DENIED, errors.FILE_NOT_FOUND: NOT_FOUND, errors.PATH_NOT_FOUND: NOT_FOUND,
                     errors.NOT_A_DIRECTORY: NOT_FOUND, errors.INVALID_NAME: NOT_FOUND}
            return {"ReturnValue": known.get(refused.code, UNKNOWN)}
        return {"ReturnValue": OK, "ProcessId": process.pid}

    def _process(self, call: Invocation) -> SimProcess | None:
        assert call.instance is not None
        return self.host.processes.get(int(str(call.instance["Handle"])))

    def _terminate(self, call: Invocation) -> MethodOutcome:
        process, reason = self._process(call), call["Reason"]
        token = identity.token_for(call.caller, self.host.facts.name, self.host.facts.domain)
        if process is None or not (token.elevated or token.name == process.owner):
            return {"ReturnValue": DENIED}
        process.terminate(reason if isinstance(reason, int) else 0)
        self.host.files.note(f"end process {process.pid}")
        return {"ReturnValue": OK}

    def _owner(self, call: Invocation) -> MethodOutcome:
        process = self._process(call)
        domain, _unused, user = (process.owner if process else "NT AUTHORITY\\SYSTEM").partition("\\")
        return {"ReturnValue": OK, "User": user, "Domain": domain}
