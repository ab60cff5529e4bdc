# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""The evidence of a drill at the destination of the backups: ``<destination>\restore_drills\<VM>\<UTC time>_<run>`` with the endings
``.json``, ``.xml`` and ``.html``.

It lies where the backups lie, so that it outlives controllers, and any host can tell which machine was drilled when. One task writes all.
"""
from __future__ import annotations

import json
import re
import secrets
from datetime import datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_request import Request
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_source import Source
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import drills, naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.drills import Drill, EvidenceError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, job_runs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.job_runs import JobEnd
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, Stage, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command, reading_programs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import TaskName

FOLDER = "restore_drills"
_SYSTEM32 = "%SystemRoot%\\System32\\"
_FINDSTR = _SYSTEM32 + 'findstr.exe /S /N "^" "%AGH_BASE%\\*.json"'
READ = Command(_FINDSTR, reads_only=True)
_LINE = re.compile(r"(?P<path>.*\\\d{8}T\d{6}Z_[A-Za-z0-9-]{1,40}\.json):\d+:(?P<text>.*)\Z", re.DOTALL | re.ASCII)
_FILES = (("drill.json", "json"), ("junit.txt", "xml"), ("page.txt", "html"))
_LINKS_MISSING = (1, 1)
_LONGEST_LINE = 7000


def base_of(destination: str) -> str:
    """Where the evidence of all machines lies."""
    return f"{destination}\\{FOLDER}"


def place_of(destination: str, drill: Drill) -> tuple[str, str]:
    """The folder of a machine's evidence, and the name of its files without the ending."""
    return (f"{base_of(destination)}\\{naming.vm_folder(drill.vm_name, drill.vm_id)}",
            naming.copy_folder(drill.began, drill.run_id))


def drill_of(request: Request, source: Source, host: str, began: datetime, ended: datetime, error: HypervError | None, *,
             refused: bool = False, **more: Any) -> Drill:
    """What is told of one drill."""
    outcome = drills.PASSED if error is None else drills.REFUSED if refused else drills.FAILED
    error_code, message = (None, None) if error is None else (error.error_code, error.message[:2000])
    return Drill(source.vm_id, source.vm_name, outcome, began, ended, host, request.run_id, source.host, source.backup_id, source.folder,
                 source.taken, source.achieved, source.size, error_code=error_code, message=message, **more)


def job_of(destination: str, drill: Drill) -> Job:
    """The job that writes the evidence. Neither the folder of all evidence nor that of the machine may be a link."""
    folder, name = place_of(destination, drill)
    texts = {"drill.json": drills.as_json([drill]), "junit.txt": drills.as_junit([drill]), "page.txt": drills.as_html([drill], drill.ended)}
    steps = [Step("base", 'dir /B /AL "%AGH_BASE%*"', _LINKS_MISSING), Step("make", 'mkdir "%AGH_FOLDER%"', None, 'exist "%AGH_FOLDER%\\"'),
             Step("links", 'dir /B /AL "%AGH_FOLDER%*"', _LINKS_MISSING), Step("again", 'dir /B /AL "%AGH_BASE%*"', _LINKS_MISSING)]
    for own, ending in _FILES:
        target = f'"%AGH_FOLDER%\\%AGH_NAME%.{ending}"'
        steps += [Step(f"put_{ending}", f'copy /Y /B "%AGH_JOB%\\{own}" {target}'),
                  Step(f"same_{ending}", f'{_SYSTEM32}fc.exe /B "%AGH_JOB%\\{own}" {target}')]
    return Job((Stage(tuple(steps)),), {"BASE": base_of(destination), "FOLDER": folder, "NAME": name},
               {own: _as_file(texts[own]) for own, _ending in _FILES})


def _as_file(text: str) -> bytes:
    """ASCII with CRLF and lines that every tool on the way takes: long ones are broken at a space, which is one in all three forms."""
    lines: list[str] = []
    for line in text.splitlines():
        rest = line
        while len(rest) > _LONGEST_LINE:
            at = rest.rfind(" ", 1, _LONGEST_LINE)
            if at < 1:
                break
            lines.append(rest[:at])
            rest = rest[at + 1:]
        lines.append(rest)
    return "\r\n".join([*lines, ""]).encode("ascii")


def write(writer: CimWriter, folder: StateFolder, destination: str, drill: Drill, identity: Identity, *,
          clock: Clock) -> tuple[str, tuple[Leftover, ...]]:
    """Write the evidence of one drill; the path without the ending, and what could not be removed of the job.

    Raises HypervError ``evidence_not_written``.
    """
    name = TaskName("host", drill.run_id, f"proof{''.join(secrets.choice('abcdefghijklmnop') for _unused in range(6))}")
    job = job_of(destination, drill)
    end = _run(writer, folder, name, job, identity, clock)
    into, file_name = place_of(destination, drill)
    if end.result is None or not end.result.good("same_html"):
        raise HypervError(f"The evidence of the drill could not be written to {into}.", error_code="evidence_not_written",
                          hint="Is the destination full or write-protected, or is a link in the way?", leftovers=end.leftovers)
    return f"{into}\\{file_name}", end.leftovers


def _run(writer: CimWriter, folder: StateFolder, name: TaskName, job: Job, identity: Identity, clock: Clock) -> JobEnd:
    if identity.task is None:
        return job_runs.run_in_session(writer, folder, name, job, clock=clock, timeout=destinations.PATIENCE)
    end = job_runs.run(writer, folder, name, job, identity.task, clock=clock, deadline=Deadline(clock, destinations.PATIENCE))
    if end.result is None:
        return JobEnd(end.look, None, leftovers=tuple(job_runs.remove(writer, folder, name, clock=clock)))
    return end


# -- reading -------------------------------------------------------------------------------------------------------------


def read_local(reader: CimReader, destination: str) -> tuple[Drill, ...]:
    """The evidence at a local destination; one program."""
    with reading_programs(reader, {"BASE": base_of(destination)}) as programs:
        return from_output(programs.run(READ, timeout=files.SHORT).stdout)


def read_share(writer: CimWriter, folder: StateFolder, destination: str, run_id: str, identity: Identity, *,
               clock: Clock) -> tuple[Drill, ...]:
    """The same at a share; one task. The state folder is there and trusted."""
    if identity.task is None:
        return ()
    name = TaskName("host", run_id, f"drill{''.join(secrets.choice('abcdefghijklmnop') for _unused in range(6))}")
    job = Job((Stage((Step("drills", _FINDSTR, (0, 1), keep=True),)),), {"BASE": base_of(destination)})
    end = job_runs.run_reading(writer, folder, name, job, identity.task, clock=clock, deadline=Deadline(clock, destinations.PATIENCE))
    return from_output(end.outputs.get("drills", b""))


def from_output(output: bytes) -> tuple[Drill, ...]:
    """Drills out of findstr's ``path:line:text``, oldest first; what cannot be understood is left out."""
    texts: dict[str, list[str]] = {}
    for raw in output.split(b"\n"):
        match = _LINE.match(raw.decode("utf-8", "replace").rstrip("\r"))
        if match is not None:
            texts.setdefault(match.group("path"), []).append(match.group("text"))
    found: list[Drill] = []
    for lines in texts.values():
        try:
            data = json.loads("\n".join(lines))
            found.extend(drills.of_data(one) for one in (data.get("drills", ()) if isinstance(data, dict) else ()))
        except (ValueError, RecursionError, EvidenceError):
            continue  # it proves nothing
    return tuple(sorted(found, key=lambda one: (one.began, one.vm_id)))
