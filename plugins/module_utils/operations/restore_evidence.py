# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""The evidence of a drill at the destination of the backups: ``<destination>\restore_drills\<VM>\<UTC time>_<run>`` with the endings
``.json``, ``.xml`` and ``.html``.

It lies where the backups lie, so that it outlives controllers, and any host can tell which machine was drilled when. One task writes all,
and with retention removes the evidence of older drills of the same machine. A listing says only which names there are: paths are made of
the destination, the folder of the machine, names as drills get them, and the three endings.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_request import Request
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_source import Source
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import drills, naming, stored_names
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
_LINE = re.compile(r"(?P<path>.*?\\\d{8}T\d{6}Z_[A-Za-z0-9-]{1,40}\.json):\d+:(?P<text>.*)\Z", re.DOTALL | re.ASCII)
_FILES = (("drill.json", "json"), ("junit.txt", "xml"), ("page.txt", "html"))
_READABLE = 'if exist "%AGH_FOLDER%\\" dir /AD "%AGH_FOLDER%"'
"""With the two entries that every folder has, dir fails only where it may not read."""
_LISTED = 'dir /B /A-D "%AGH_FOLDER%"'
READABLE, LIST = Command(_READABLE, reads_only=True), Command(_LISTED, reads_only=True)
_LINKS_MISSING = (1, 1)
_LONGEST_LINE = 7000


def base_of(destination: str) -> str:
    """Where the evidence of all machines lies."""
    return f"{destination}\\{FOLDER}"


def folder_of(destination: str, vm_name: str, vm_id: str) -> str:
    """The folder of a machine's evidence."""
    return f"{base_of(destination)}\\{naming.vm_folder(vm_name, vm_id)}"


def place_of(destination: str, drill: Drill) -> tuple[str, str]:
    """The folder of a machine's evidence, and the name of its files without the ending."""
    return folder_of(destination, drill.vm_name, drill.vm_id), naming.copy_folder(drill.began, drill.run_id)


def drill_of(request: Request, source: Source, host: str, began: datetime, ended: datetime, error: HypervError | None, *,
             refused: bool = False, **more: Any) -> Drill:
    """What is told of one drill."""
    outcome = drills.PASSED if error is None else drills.REFUSED if refused else drills.FAILED
    error_code, message = (None, None) if error is None else (error.error_code, error.message[:2000])
    return Drill(source.vm_id, source.vm_name, outcome, began, ended, host, request.run_id, source.host, source.backup_id, source.folder,
                 source.taken, source.achieved, source.size, error_code=error_code, message=message, **more)


def job_of(destination: str, drill: Drill, doomed: Sequence[str] = ()) -> Job:
    """The job that writes the evidence. Neither the folder of all evidence nor that of the machine may be a link. After that it removes
    that of other drills of the machine, named ``doomed``, one independent of the other."""
    if any(stored_names.taken_of(one) is None for one in doomed):
        raise ValueError("not the name of a drill")
    folder, name = place_of(destination, drill)
    texts = {"drill.json": drills.as_json([drill]), "junit.txt": drills.as_junit([drill]), "page.txt": drills.as_html([drill], drill.ended)}
    steps = [Step("base", 'dir /B /AL "%AGH_BASE%*"', _LINKS_MISSING), Step("make", 'mkdir "%AGH_FOLDER%"', None, 'exist "%AGH_FOLDER%\\"'),
             Step("links", 'dir /B /AL "%AGH_FOLDER%*"', _LINKS_MISSING), Step("again", 'dir /B /AL "%AGH_BASE%*"', _LINKS_MISSING)]
    for own, ending in _FILES:
        target = f'"%AGH_FOLDER%\\%AGH_NAME%.{ending}"'
        steps += [Step(f"put_{ending}", f'copy /Y /B "%AGH_JOB%\\{own}" {target}'),
                  Step(f"same_{ending}", f'{_SYSTEM32}fc.exe /B "%AGH_JOB%\\{own}" {target}')]
    values = {"BASE": base_of(destination), "FOLDER": folder, "NAME": name, **{f"OLD{number}": one for number, one in enumerate(doomed)}}
    return Job((Stage(tuple(steps)), *(Stage(tuple(_remove(number)), essential=False) for number in range(len(doomed)))), values,
               {own: _as_file(texts[own]) for own, _ending in _FILES})


def _remove(number: int) -> Iterator[Step]:
    """The files of one drill by their names; the JSON, which is what counts, last."""
    path = f"%AGH_FOLDER%\\%AGH_OLD{number}%"
    # a folder that is called like a file would lose its own files to del
    line = " & ".join(f'(if not exist "{path}.{ending}\\" del /F /Q "{path}.{ending}")' for _own, ending in reversed(_FILES))
    yield Step(f"old{number}_link", f'dir /B /AL "{path}.*"', _LINKS_MISSING)
    yield Step(f"old{number}_files", line, None)
    yield Step(f"old{number}_gone", f'dir /B /A "{path}.*"', (1, 1))


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


@dataclass(frozen=True)
class Written:
    """``path``: where the evidence is, without the ending. ``removed``: the same of older drills that are gone, ``stayed``: of those that
    were to go and are not. ``leftovers``: what could not be removed of the job."""

    path: str
    removed: tuple[str, ...]
    stayed: tuple[str, ...]
    leftovers: tuple[Leftover, ...]


def write(writer: CimWriter, folder: StateFolder, destination: str, drill: Drill, identity: Identity, doomed: Sequence[str] = (), *,
          clock: Clock) -> Written:
    """Write the evidence of one drill, then remove that of the drills of its machine which are called ``doomed``.

    Raises HypervError ``evidence_not_written``; then nothing was removed.
    """
    job = job_of(destination, drill, doomed)
    end = _run(writer, folder, TaskName.fresh("host", drill.run_id, "proof"), job, identity, clock)
    into, file_name = place_of(destination, drill)
    result = end.result
    if result is None or not result.good("same_html"):
        raise HypervError(f"The evidence of the drill could not be written to {into}.", error_code="evidence_not_written",
                          hint="Is the destination full or write-protected, or is a link in the way?", leftovers=end.leftovers)
    gone = [result.good(f"old{number}_gone") for number in range(len(doomed))]
    paths = [f"{into}\\{one}" for one in doomed]
    return Written(f"{into}\\{file_name}", tuple(path for path, good in zip(paths, gone, strict=True) if good),
                   tuple(path for path, good in zip(paths, gone, strict=True) if not good), end.leftovers)


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
    """The same at a share; one task. The state folder is there and trusted. Raises HypervError ``destination_unreachable``."""
    if identity.task is None:
        return ()
    job = Job((Stage((Step("drills", _FINDSTR, (0, 1), keep=True),)),), {"BASE": base_of(destination)})
    _result, outputs = destinations.look_at_share(writer, folder, run_id, identity, job, clock=clock)
    return from_output(outputs.get("drills", b""))


def names_local(reader: CimReader, folder: str) -> dict[str, bool]:
    """The drills whose evidence is in the folder of a machine at a local destination, as :func:`names_in` tells them.

    Raises HypervError ``destination_unreadable``.
    """
    with reading_programs(reader, {"FOLDER": folder}) as programs:
        if programs.run(READABLE, timeout=files.SHORT).exit_code != 0:
            raise _unreadable(folder)
        return names_in(programs.run(LIST, timeout=files.SHORT).stdout)


def names_at_share(writer: CimWriter, state_folder: StateFolder, folder: str, run_id: str, identity: Identity, *,
                   clock: Clock) -> dict[str, bool]:
    """The same at a share; one task. The state folder is there and trusted."""
    job = Job((Stage((Step("readable", _READABLE), Step("names", _LISTED, None, keep=True))),), {"FOLDER": folder})
    result, outputs = destinations.look_at_share(writer, state_folder, run_id, identity, job, clock=clock)
    if result.failed:
        raise _unreadable(folder)
    return names_in(outputs.get("names", b""))


def _unreadable(folder: str) -> HypervError:
    return HypervError(f"The evidence of earlier drills in {folder} could not be listed.", error_code="destination_unreadable",
                       hint="Give the account that reads there the right to do so, or leave evidence_keep out.")


def names_in(output: bytes) -> dict[str, bool]:
    """The drills of a machine in what LIST printed, by the names of their files without the ending: whether the JSON is there, which is
    what counts. Anything else is left out."""
    found: dict[str, bool] = {}
    for raw in output.split(b"\n"):
        name, _dot, ending = raw.decode("utf-8", "replace").rstrip("\r").partition(".")
        if ending.lower() in [one for _own, one in _FILES] and stored_names.taken_of(name) is not None:
            found[name] = found.get(name, False) or ending.lower() == "json"
    return found


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
