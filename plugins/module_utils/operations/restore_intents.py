# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""Intents for restores: ``<state folder>\intents\<run>_<token>.restore``, one for each.

A planned machine carries no mark at the moment it is imported, and files carry none at all. So the intent says first: into which folder the
files go, which nobody else has, and which planned machines were there before. It goes when the restored machine is a real one, or when
everything that came of it is gone; one whose run holds no lease any more says what the clean-up has to look at.
"""
from __future__ import annotations

import json
import ntpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import wql
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming, restore_marks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command, reading_programs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import CIMV2

ENDING = "restore"
ACTION = "restore"
READ = Command('%SystemRoot%\\System32\\findstr.exe /S /N "^" "%AGH_INTENTS%\\*.restore"', reads_only=True)
REMOVE = Command('del /F /Q "%AGH_PATH%" & if exist "%AGH_PATH%" exit 3')
_LINE = re.compile(r"\\(?P<file>[^\\:]+\.restore):\d+:(?P<text>.*)\Z", re.IGNORECASE)
_FILE = re.compile(r"(?P<run>[A-Z0-9][A-Z0-9-]{0,39})_(?P<token>[0-9A-F]{8})\.restore\Z", re.IGNORECASE)
_LOCAL = re.compile(r"[A-Za-z]:\\")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class RestoreIntent:
    """What a run is about to do: restore the machine ``source_id``, called ``source_name`` in its backup, from ``backup_id`` under the
    name ``name``, with its files in ``folder``, named ``<UTC time>_<run id>``; a check has none. ``token`` tells the intents of one run
    apart, also those of a retry.
    """

    run_id: str
    token: str
    host_time: datetime
    mode: str
    source_id: str
    source_name: str
    name: str
    backup_id: str
    folder: str
    planned_before: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return f"{self.run_id}_{self.token}.{ENDING}"

    def dump(self) -> bytes:
        """ASCII JSON, one value a line."""
        data = {"format": 1, "action": ACTION, "run_id": self.run_id, "host_time": self.host_time.astimezone(UTC).strftime(_TIME),
                "mode": self.mode, "source_id": self.source_id, "source_name": self.source_name, "name": self.name,
                "backup_id": self.backup_id, "folder": self.folder,
                "planned_before": list(self.planned_before)}
        return (json.dumps(data, ensure_ascii=True, indent=1) + "\n").encode("ascii").replace(b"\n", b"\r\n")


def parse(file_name: str, text: str) -> RestoreIntent:
    """An intent out of the name and the text of its file. Raises ValueError with what is wrong; unknown keys do not matter."""
    name = _FILE.match(file_name)
    if name is None:
        raise ValueError("the name is not that of an intent")
    try:
        data = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(data, dict) or data.get("format") != 1 or data.get("action") != ACTION:
        raise ValueError("not an intent of a known kind")
    run_id, mode, source_id = _text(data, "run_id"), _text(data, "mode"), as_guid(_text(data, "source_id"))
    folder = "" if data.get("folder") == "" and mode == restore_marks.CHECK else _text(data, "folder")
    if run_id.lower() != name.group("run").lower():
        raise ValueError("the run is not that of the name")
    if (folder and not is_folder_of(folder, run_id)) or mode not in (*restore_marks.MODES, restore_marks.CHECK) or source_id is None:
        raise ValueError("the folder, the mode or the machine cannot be used")
    before = data.get("planned_before")
    if not isinstance(before, list) or not all(isinstance(one, str) and as_guid(one) for one in before):
        raise ValueError("planned_before is not a list of GUIDs")
    backup_id = _text(data, "backup_id")
    if not naming.is_run_id(backup_id):
        raise ValueError("backup_id is malformed")
    return RestoreIntent(
        run_id, name.group("token"), datetime.strptime(_text(data, "host_time"), _TIME).replace(tzinfo=UTC), mode, source_id,
        _text(data, "source_name"), _text(data, "name"), backup_id, folder, tuple(as_guid(one) or "" for one in before))


def is_folder_of(folder: str, run_id: str) -> bool:
    r"""True for ``<drive>:\...\<host>\<VM>\<UTC time>_<run id>`` with safe names throughout: what a run of this name may have made."""
    parts = folder[3:].split("\\")
    return bool(_LOCAL.match(folder)) and naming.is_safe_relative(folder[3:]) and len(parts) >= 3 and bool(
        re.fullmatch(rf"\d{{8}}T\d{{6}}Z_{re.escape(run_id)}", parts[-1], re.IGNORECASE))


def is_file(path: str) -> bool:
    """True for what is named like an intent for a restore."""
    return _FILE.match(ntpath.basename(path)) is not None


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value or len(value) > 4096:
        raise ValueError(f"{key} is not a text")
    return value


def path_of(folder: StateFolder, intent: RestoreIntent) -> str:
    """Where an intent stands."""
    return f"{folder.intents}\\{intent.file_name}"


def leftover(folder: StateFolder, intent: RestoreIntent) -> Leftover:
    """An intent that stays."""
    path = path_of(folder, intent)
    return Leftover("intent", path, folder.intents, f'del "{path}"')


def write(writer: CimWriter, folder: StateFolder, intent: RestoreIntent) -> None:
    """Leave an intent. A half-written one looks like a half-written intent of any kind, so that the clean-up takes it away."""
    final = path_of(folder, intent)
    files.write_text(writer, f"{final[:-len(ENDING)]}json.tmp", final, intent.dump())


def remove(writer: CimWriter, folder: StateFolder, intent: RestoreIntent) -> None:
    """Take an intent away; one that is gone does no harm. Raises HypervError ``file_not_removed``."""
    path = path_of(folder, intent)
    files.expect_success(files.run(writer, REMOVE, {"PATH": path}), f"Removing {path}", "file_not_removed")


def read(reader: CimReader, folder: StateFolder) -> tuple[RestoreIntent, ...]:
    """The intents of a host: one request, and one program when there are any. Files that cannot be understood are left out."""
    where: dict[str, wql.Literal] = {"Drive": folder.intents[:2], "Path": folder.intents[2:] + "\\", "Extension": ENDING}
    listed = reader.query_if_filtered(wql.select(CIMV2, "CIM_DataFile", where, ["Name"]))
    if listed is not None and not any(_FILE.match(ntpath.basename(row.required_text("Name"))) for row in listed):
        return ()
    with reading_programs(reader, {"INTENTS": folder.intents}) as programs:
        return from_output(programs.run(READ, timeout=files.SHORT).stdout)


def from_output(output: bytes) -> tuple[RestoreIntent, ...]:
    """Intents out of findstr's ``path:line:text``."""
    texts: dict[str, list[str]] = {}
    for raw in output.splitlines():
        match = _LINE.search(raw.decode("utf-8", "replace").rstrip("\r"))
        if match is not None:
            texts.setdefault(match.group("file"), []).append(match.group("text"))
    found = []
    for name, lines in sorted(texts.items()):
        try:
            found.append(parse(name, "\n".join(lines)))
        except ValueError:
            continue  # what nobody can read says nothing; it stays for a person to look at
    return tuple(found)
