# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""The job that stores a report at a destination, local or UNC, as ``report.html`` and ``report.json`` in a folder of its own,
``<destination>\_reports\<UTC time>_<run>``.

No folder of a host is ever called ``_reports`` (:func:`protection.naming.safe_component`). Nothing is overwritten: the folder is new, and
each file gets its name after it was compared byte by byte.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult, Stage, Step

FOLDER = "_reports"
PAGE, DATA = "report.html", "report.json"
_CARRIED = {PAGE: "page.txt", DATA: "data.json"}
"""What each file is called beside the script."""
_SYSTEM32 = "%SystemRoot%\\System32\\"
_NO_LINK = (1, 1)


def folder_name(moment: datetime, run_id: str) -> str:
    """The name of a report's folder, unlike that of any other one."""
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}_{run_id}"


def folder_of(destination: str, name: str) -> str:
    """Where a report lies."""
    return f"{destination}\\{FOLDER}\\{name}"


def report_job(destination: str, name: str, documents: Mapping[str, str]) -> Job:
    """Store ``documents`` (ASCII, by PAGE and DATA) in a new folder; none of the folders on the way may be a link."""
    steps = [
        Step("reach", 'mkdir "%AGH_DESTINATION%"', None, 'exist "%AGH_DESTINATION%\\"'),
        Step("link", 'dir /B /AL "%AGH_REPORTS%*"', _NO_LINK),
        Step("make", 'mkdir "%AGH_FOLDER%"', (0, 0), 'exist "%AGH_FOLDER%\\"'),
        Step("still", 'dir /B /AL "%AGH_REPORTS%*"', _NO_LINK),
        *(step for number, document in enumerate(documents) for step in _put(number, document)),
    ]
    values = {"DESTINATION": destination, "REPORTS": f"{destination}\\{FOLDER}", "FOLDER": folder_of(destination, name)}
    files = {_CARRIED[document]: "".join(f"{line}\r\n" for line in text.splitlines()).encode("ascii")
             for document, text in documents.items()}
    return Job((Stage(tuple(steps)),), values, files)


def _put(number: int, name: str) -> Iterator[Step]:
    source, target = f'"%AGH_JOB%\\{_CARRIED[name]}"', f'"%AGH_FOLDER%\\{name}'
    yield Step(f"put{number}", f'copy /Y /B {source} {target}.tmp"')
    yield Step(f"same{number}", f'{_SYSTEM32}fc.exe /B {source} {target}.tmp"')
    yield Step(f"name{number}", f'ren {target}.tmp" {name}', None, f'exist {target}"')


def expect_stored(result: JobResult, folder: str, knocks_as: str) -> None:
    """Raise HypervError ``destination_unreachable``, ``link_in_the_way`` or ``report_not_stored`` unless :func:`report_job` went well."""
    if not result.good("reach"):
        raise HypervError(f"The destination of {folder} is not there for {knocks_as}, or that account may not read it.",
                          error_code="destination_unreachable",
                          hint="Make the folder, and give that account the right to change files on the share and in the folder.")
    if result.failed and not (result.good("link") and result.good("still")) and ("make" not in result.steps or result.good("make")):
        raise HypervError(f"{folder} leads through a link: no report was stored.", error_code="link_in_the_way",
                          hint="Links below the destination are not ours; find out who made it.")
    if result.failed:
        raise HypervError(f"The report could not be stored in {folder} by {knocks_as}.", error_code="report_not_stored",
                          hint="Is the destination full, and may that account change files in it?")
