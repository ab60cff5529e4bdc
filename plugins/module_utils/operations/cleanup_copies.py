# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Incomplete copies of interrupted runs on volumes of the host: folders that an intent of ours names, without a manifest (ARCHITECTURE,
rule 5). Those at shares need tasks (:mod:`.cleanup_shares`), and are judged by the same rules.

An intent names the folder of a virtual machine and the run; a copy lies in ``<UTC time>_<run id>`` below it. Only a folder that
holds nothing but what a copy puts there is removed: anyone who may write to the backup folder may have put something else into it.
"""
from __future__ import annotations

import ntpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import FILE_NAME
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command, reading_programs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume, locate

LIST_CONTENT = Command('dir /B /S /A "%AGH_PATH%"', reads_only=True)
# the names of links below the folder, then those of links beside it that begin like it or like one of the two folders above
LIST_LINKS = Command('dir /B /S /AL "%AGH_PATH%" & dir /B /AL "%AGH_PATH%*" & dir /B /AL "%AGH_ABOVE%*" & dir /B /AL "%AGH_HOST%*"',
                     reads_only=True)
REMOVE = Command('rmdir /S /Q "%AGH_PATH%" & if exist "%AGH_PATH%" exit 3')
_COPY = re.compile(r"\\(?P<vm>[^\\]+)\\(?P<name>\d{8}T\d{6}Z_(?P<run>[A-Za-z0-9-]{1,40}))\Z", re.ASCII)
_OURS = re.compile(r"(?:disks|recovery)\d*(?:\\[^\\]+)?\Z|(?:virtual machines|virtual hard disks|snapshots)(?:\\[^\\]+){0,2}\Z"
                   r"|restore\.txt\Z|" + re.escape(FILE_NAME) + r"\.tmp\Z", re.IGNORECASE)
_FOLDER = re.compile(r"(?:disks|recovery)\d*\Z|(?:virtual machines|virtual hard disks|snapshots)\Z"
                     r"|(?:virtual machines|snapshots)\\[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}\Z", re.IGNORECASE)
_LOCAL = re.compile(r"[A-Za-z]:\\")


@dataclass(frozen=True)
class IncompleteCopy:
    """A folder without a manifest, and the intent that names it. ``foreign`` is what lies in it that no copy puts there; ``inside``
    the paths below it, relative to it."""

    path: str
    intent: Intent
    foreign: str | None
    inside: tuple[str, ...] = ()

    @property
    def at_share(self) -> bool:
        """Reached by tasks only."""
        return is_share(self.path)


def is_share(path: str) -> bool:
    """True for a folder of another machine."""
    return path.startswith("\\\\")


def share_folders(intent: Intent) -> tuple[str, ...]:
    r"""The folders of an intent at shares, ``\\server\share\...\<host>\<VM folder>``, every component a safe name."""
    return tuple(folder for folder in intent.folders
                 if is_share(folder) and naming.is_safe_relative(folder[2:]) and folder[2:].count("\\") >= 3)


def usable_folders(intent: Intent, volumes: Iterable[Volume]) -> tuple[str, ...]:
    """The folders of an intent that can be looked at: full local paths, every component a safe name, on a volume that is there."""
    known = tuple(volumes)
    return tuple(folder for folder in intent.folders
                 if _LOCAL.match(folder) and naming.is_safe_relative(folder[3:]) and "\\" in folder[3:]
                 and locate(folder, known).volume is not None)


def find(reader: CimReader, intents: Sequence[Intent], volumes: Sequence[Volume]) -> tuple[IncompleteCopy, ...]:
    """The incomplete copies that these intents name: one program for each intent and destination, one more for each folder found."""
    found: dict[str, IncompleteCopy] = {}
    for intent in intents:
        above: dict[str, list[str]] = {}
        for folder in usable_folders(intent, volumes):
            above.setdefault(ntpath.dirname(folder), []).append(ntpath.basename(folder))
        for parent, names in above.items():
            for path in _copies_of_run(reader, parent, names, intent.run_id):
                copy = _look_into(reader, path, intent)
                if copy is not None:
                    found.setdefault(path.lower(), copy)
    return tuple(found.values())


def _copies_of_run(reader: CimReader, parent: str, names: Sequence[str], run_id: str) -> list[str]:
    """The folders of one run below the folders of virtual machines; only the two last parts of a printed path are believed."""
    allowed = {name.lower(): name for name in names}
    found = []
    for batch in files.names_in_batches(names):
        values = {"PARENT": parent, "RUN": run_id, **{f"F{index}": name for index, name in enumerate(batch)}}
        patterns = " ".join(f'"%AGH_PARENT%\\%AGH_F{index}%\\*_%AGH_RUN%"' for index in range(len(batch)))
        with reading_programs(reader, values) as programs:
            shown = programs.run(Command(f"dir /B /S /AD {patterns}", reads_only=True), timeout=files.SHORT)
        for raw in shown.stdout.splitlines():
            match = _COPY.search(raw.decode("utf-8", "replace").rstrip("\r"))
            if match and match.group("run").lower() == run_id.lower() and match.group("vm").lower() in allowed:
                found.append(f"{parent}\\{allowed[match.group('vm').lower()]}\\{match.group('name')}")
    return sorted(set(found))


def _look_into(reader: CimReader, path: str, intent: Intent) -> IncompleteCopy | None:
    """What one folder is; None for a complete copy."""
    with reading_programs(reader, {"PATH": path, "ABOVE": _above(path), "HOST": _above(_above(path))}) as programs:
        inside = _below(programs.run(LIST_CONTENT, timeout=files.SHORT).stdout, path)
        links = programs.run(LIST_LINKS, timeout=files.SHORT).stdout.decode("utf-8", "replace").splitlines()
    return judge_content(path, intent, inside, [line.strip() for line in links])


def judge_content(path: str, intent: Intent, inside: Sequence[str], links: Iterable[str]) -> IncompleteCopy | None:
    """What a folder with these paths below it is; None for a copy that is or was complete. ``links``: names beside, paths below."""
    if any(name.lower() in (FILE_NAME, files.PRUNING) for name in inside):
        return None
    here = {ntpath.basename(one).lower() for one in (path, _above(path), _above(_above(path)))}
    link = next((name for name in links if "\\" in name or name.lower() in here), None)
    foreign = f"the link {ntpath.basename(link)}" if link is not None else next((name for name in inside if not _is_ours(name)), None)
    return IncompleteCopy(path, intent, foreign, tuple(inside))


def _above(path: str) -> str:
    return ntpath.dirname(path)


def _is_ours(name: str) -> bool:
    return _OURS.match(name) is not None and naming.is_safe_relative(name)


def is_folder(name: str) -> bool:
    """True for the path of a folder in a copy or an export, false for that of a file."""
    return _FOLDER.match(name) is not None


def _below(output: bytes, path: str) -> tuple[str, ...]:
    """The paths below a folder, relative to it; they are printed in full."""
    marker = f"\\{ntpath.basename(path)}\\".lower()
    found = []
    for line in output.decode("utf-8", "replace").splitlines():
        text = line.strip("\r")
        position = text.lower().find(marker)
        if position >= 0:
            found.append(text[position + len(marker):])
    return tuple(found)


def remove(writer: CimWriter, copy: IncompleteCopy) -> None:
    """Remove one folder with what is in it, after another look at it. Raises HypervError ``folder_not_removed``."""
    now = _look_into(writer, copy.path, copy.intent)
    if now is None:
        raise HypervError(f"{copy.path} has got a manifest meanwhile.", error_code="folder_not_removed")
    if now.foreign is not None:
        raise HypervError(f"{copy.path} holds something that is not of a copy: {now.foreign}.", error_code="folder_not_removed",
                          hint="Look what it is, and remove the folder by hand.")
    files.expect_success(files.run(writer, REMOVE, {"PATH": copy.path}), f"Removing {copy.path}", "folder_not_removed")
