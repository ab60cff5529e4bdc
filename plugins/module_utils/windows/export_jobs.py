# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""The folder of an export at its destination: made before, looked into afterwards. A program on a volume of the host, a task at a share.

Hyper-V writes the files itself; here are only the folder, their sizes and their hashes. What lies there is untrusted.
"""
from __future__ import annotations

import ntpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import CopyFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult, Stage, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.target_jobs import no_links, read_digest
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.shell import ProgramResult

_CERTUTIL = "%SystemRoot%\\System32\\certutil.exe"
_LISTED = re.compile(r"\[(\d*)\](.+)\Z")

MAKE = Command('dir /B /AL "%AGH_HOST%*" & dir /B /AL "%AGH_VM%*" & mkdir "%AGH_COPY%" || exit 3')
# the links first, each by its full path; a path never begins with a bracket
LIST = Command('dir /B /S /AL "%AGH_COPY%" & (for /R "%AGH_COPY%" %I in (*) do @echo [%~zI]%I) & if not exist "%AGH_COPY%\\" exit 3',
               reads_only=True)
UNDO = Command('rmdir "%AGH_COPY%"')


@dataclass(frozen=True)
class Seen:
    """One file of an export: its path below the folder, size in bytes, SHA-256 when it was computed."""

    path: str
    size: int
    sha256: str | None = None


def values_of(folder: CopyFolder) -> dict[str, str]:
    """What the commands and the jobs need."""
    host = f"{folder.destination}\\{folder.host}"
    return {"HOST": host, "VM": f"{host}\\{folder.vm}", "COPY": folder.path}


def make_job(folder: CopyFolder) -> Job:
    """Make the folder of an export, which must be new; neither of the two above it may be a link."""
    return Job((Stage((*no_links("link"), Step("make", 'mkdir "%AGH_COPY%"', (0, 0), 'exist "%AGH_COPY%\\"'), *no_links("still"))),),
               values_of(folder))


def expect_made(result: JobResult, folder: CopyFolder, knocks_as: str) -> None:
    """Raise HypervError ``folder_not_made`` or ``link_in_the_way`` unless :func:`make_job` went well."""
    if not result.good("make") and "make" in result.steps:
        raise not_made(folder, knocks_as)
    if not all(result.good(step) for step in ("link_host", "link_vm", "still_host", "still_vm")):
        raise link_in_the_way(folder)


def not_made(folder: CopyFolder, knocks_as: str) -> HypervError:
    """The folder could not be made."""
    return HypervError(f"The folder {folder.path} could not be made by {knocks_as}.", error_code="folder_not_made",
                       hint="Is the destination there, is there space, and may that account change files in it? A share and its folder "
                            "have rights of their own.")


def link_in_the_way(folder: CopyFolder) -> HypervError:
    """A folder above is a link."""
    return HypervError(f"{folder.path} leads through a link: nothing was exported.", error_code="link_in_the_way",
                       hint="Links below the destination are not ours; find out who made it.")


def links_in(listed: bytes, folder: CopyFolder) -> bool:
    """Whether the names of links that :data:`MAKE` showed are those of the folders on the way: then :data:`UNDO` is due."""
    names = {line.strip().lower() for line in listed.decode("utf-8", "replace").splitlines()}
    return bool(names & {folder.host.lower(), folder.vm.lower()})


def inspect_job(folder: CopyFolder, *, sha256: bool) -> Job:
    """List what is in the folder of an export, with the hash of each file when it is asked for."""
    told = "@echo [%~zI]%I"
    line = f'for /R "%AGH_COPY%" %I in (*) do {told}' if not sha256 else (
        f'for /R "%AGH_COPY%" %I in (*) do (echo [%~zI]%I& {_CERTUTIL} -hashfile "%I" SHA256)')
    return Job((Stage((
        Step("reach", 'dir /B "%AGH_COPY%"', None, 'exist "%AGH_COPY%\\"'),
        Step("links", 'dir /B /S /AL "%AGH_COPY%"', (1, 1)),
        Step("files", line, None, keep=True),
    )),), values_of(folder))


def inspected(result: JobResult, outputs: Mapping[str, bytes], folder: CopyFolder, *, sha256: bool) -> tuple[Seen, ...]:
    """What :func:`inspect_job` found. Raises HypervError ``export_vanished``, ``link_in_the_way`` and as :func:`seen`."""
    if not result.good("reach"):
        raise _vanished(folder)
    if not result.good("links"):
        raise link_in_the_way(folder)
    return seen(outputs.get("files", b""), folder, sha256=sha256)


def listed(result: ProgramResult, folder: CopyFolder) -> tuple[Seen, ...]:
    """What :data:`LIST` found. Raises HypervError ``export_vanished`` or ``link_in_the_way``."""
    if result.exit_code == 3:
        raise _vanished(folder)
    lines = result.stdout.decode("utf-8", "replace").splitlines()
    if any(f"\\{folder.copy}\\".lower() in line.lower() for line in lines if not line.startswith("[")):
        raise link_in_the_way(folder)
    return seen(result.stdout, folder)


def _vanished(folder: CopyFolder) -> HypervError:
    return HypervError(f"The folder {folder.path} is not there any more.", error_code="export_vanished",
                       hint="Somebody removed it, or the destination cannot be reached any more.")


def seen(output: bytes, folder: CopyFolder, *, sha256: bool = False) -> tuple[Seen, ...]:
    """The files out of lines ``[size]path``, each with the digest that follows it.

    Raises HypervError ``hash_failed``.
    """
    marker = f"\\{folder.copy}\\".lower()
    found: list[Seen] = []
    texts: list[list[bytes]] = []
    for raw in output.splitlines():
        listed = _LISTED.match(raw.decode("utf-8", "replace").rstrip("\r"))
        at = listed.group(2).lower().find(marker) if listed is not None else -1
        if listed is not None and at >= 0:
            found.append(Seen(listed.group(2)[at + len(marker):], int(listed.group(1) or -1)))
            texts.append([])
        elif texts:
            texts[-1].append(raw)
    if not sha256:
        return tuple(found)
    return tuple(Seen(one.path, one.size, read_digest(b"\n".join(lines), ntpath.join(folder.path, one.path)))
                 for one, lines in zip(found, texts, strict=True))
