# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""The job that stores a report at a destination, local or UNC, as ``report.html`` and ``report.json`` in a folder of its own,
``<destination>\_reports\<UTC time>_<run>``.

No folder of a host is ever called ``_reports`` (:func:`protection.naming.safe_component`). Nothing is overwritten: the folder is new, and
each file gets its name after it was compared byte by byte.

The same job removes older reports, once the new one is there. A listing says only which names there are: the paths are made of the
destination, the strict names of reports, and the names of their files. A folder that is a link, or holds one, is left alone.
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult, Stage, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command

FOLDER = "_reports"
PAGE, DATA = "report.html", "report.json"
_CARRIED = {PAGE: "page.txt", DATA: "data.json"}
"""What each file is called beside the script."""
_SYSTEM32 = "%SystemRoot%\\System32\\"
_NO_LINK = (1, 1)
_READABLE = 'if exist "%AGH_REPORTS%\\" dir /AD "%AGH_REPORTS%"'
"""With the two entries that every folder has, dir fails only where it may not read."""
_FOLDERS = 'for /D %I in ("%AGH_REPORTS%\\*") do @echo [-]%I'
_WHOLE = f'for /D %I in ("%AGH_REPORTS%\\*") do @if exist "%I\\{PAGE}" if exist "%I\\{DATA}" echo [+]%I'
READABLE, LIST = Command(_READABLE, reads_only=True), Command(f"({_FOLDERS}) & {_WHOLE}", reads_only=True)
_NAME = "[0-9]{8}T[0-9]{6}Z_[0-9a-f]{12}"
_REPORT = re.compile(rf"\[(?P<whole>[+-])\](?:.*\\)?(?P<name>{_NAME})\Z")


def folder_name(moment: datetime, run_id: str) -> str:
    """The name of a report's folder, unlike that of any other one."""
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}_{run_id}"


def folder_of(destination: str, name: str) -> str:
    """Where a report lies."""
    return f"{destination}\\{FOLDER}\\{name}"


def reports_of(destination: str) -> str:
    """Where all reports lie."""
    return f"{destination}\\{FOLDER}"


def list_job(destination: str) -> Job:
    """List the reports at a destination. It fails where they may not be listed, which is not the same as none."""
    return Job((Stage((Step("readable", _READABLE), Step("folders", _FOLDERS, None, keep=True), Step("whole", _WHOLE, None, keep=True))),),
               {"REPORTS": reports_of(destination)})


def listed(output: bytes) -> dict[str, bool]:
    """The reports in what LIST printed, by the names of their folders: whether both documents are there. Anything else is left out."""
    found: dict[str, bool] = {}
    for raw in output.split(b"\n"):
        line = _REPORT.match(raw.decode("utf-8", "replace").rstrip("\r"))
        if line is not None:
            found[line["name"]] = found.get(line["name"], False) or line["whole"] == "+"
    return found


def report_job(destination: str, name: str, documents: Mapping[str, str], doomed: Sequence[str] = ()) -> Job:
    """Store ``documents`` (ASCII, by PAGE and DATA) in a new folder; none of the folders on the way may be a link. After that remove the
    reports ``doomed``, names of folders, one independent of the other."""
    steps = [
        Step("reach", 'mkdir "%AGH_DESTINATION%"', None, 'exist "%AGH_DESTINATION%\\"'),
        Step("link", 'dir /B /AL "%AGH_REPORTS%*"', _NO_LINK),
        Step("make", 'mkdir "%AGH_FOLDER%"', (0, 0), 'exist "%AGH_FOLDER%\\"'),
        Step("still", 'dir /B /AL "%AGH_REPORTS%*"', _NO_LINK),
        *(step for number, document in enumerate(documents) for step in _put(number, document)),
    ]
    if not all(re.fullmatch(_NAME, one) for one in doomed):
        raise ValueError("not the name of a report")
    values = {"DESTINATION": destination, "REPORTS": reports_of(destination), "FOLDER": folder_of(destination, name),
              **{f"OLD{number}": one for number, one in enumerate(doomed)}}
    files = {_CARRIED[document]: "".join(f"{line}\r\n" for line in text.splitlines()).encode("ascii")
             for document, text in documents.items()}
    return Job((Stage(tuple(steps)), *(Stage(tuple(_remove(number)), essential=False) for number in range(len(doomed)))), values, files)


def _put(number: int, name: str) -> Iterator[Step]:
    source, target = f'"%AGH_JOB%\\{_CARRIED[name]}"', f'"%AGH_FOLDER%\\{name}'
    yield Step(f"put{number}", f'copy /Y /B {source} {target}.tmp"')
    yield Step(f"same{number}", f'{_SYSTEM32}fc.exe /B {source} {target}.tmp"')
    yield Step(f"name{number}", f'ren {target}.tmp" {name}', None, f'exist {target}"')


def _remove(number: int) -> Iterator[Step]:
    """The files by their names, then the folder when nothing else is in it."""
    folder = f"%AGH_REPORTS%\\%AGH_OLD{number}%"
    files = [f'"{folder}\\{name}' for document in _CARRIED for name in (document, f"{document}.tmp")]
    yield Step(f"old{number}_itself", f'dir /B /AL "{folder}*"', _NO_LINK)
    yield Step(f"old{number}_inside", f'dir /B /S /AL "{folder}"', _NO_LINK)
    # a folder that is called like a file would lose its own files to del
    line = " & ".join(f'(if not exist {file}\\" del /F /Q {file}")' for file in files)
    yield Step(f"old{number}_end", f'{line} & rmdir "{folder}"', None, f'not exist "{folder}\\"')


@dataclass(frozen=True)
class Removed:
    """What became of one report: gone, or that it stays, whole or without what was ours in it. ``link``: a link is why."""

    name: str
    gone: bool
    link: bool = False


def removed(doomed: Sequence[str], result: JobResult) -> tuple[Removed, ...]:
    """What became of the reports that were to go, in their order."""
    return tuple(Removed(name, result.good(f"old{number}_end"), f"old{number}_end" not in result.steps)
                 for number, name in enumerate(doomed))


def expect_stored(result: JobResult, folder: str, knocks_as: str) -> None:
    """Raise HypervError ``destination_unreachable``, ``link_in_the_way`` or ``report_not_stored`` unless :func:`report_job` went well."""
    if not result.good("reach"):
        raise HypervError(f"The destination of {folder} is not there for {knocks_as}, or that account may not read it.",
                          error_code="destination_unreachable",
                          hint="Make the folder, and give that account the right to change files on the share and in the folder.")
    failed = [step for step in result.failed if not step.startswith("old")]
    if failed and not (result.good("link") and result.good("still")) and ("make" not in result.steps or result.good("make")):
        raise HypervError(f"{folder} leads through a link: no report was stored.", error_code="link_in_the_way",
                          hint="Links below the destination are not ours; find out who made it.")
    if failed:
        raise HypervError(f"The report could not be stored in {folder} by {knocks_as}.", error_code="report_not_stored",
                          hint="Is the destination full, and may that account change files in it?")
