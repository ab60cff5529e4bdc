# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""Intents of one kind on a host: ``<state folder>\intents\<run>_<token>.<kind>``, one file for each.

What cannot carry our mark at the moment it is made is announced by one. The file is written whole or not at all, read with one program for
all, and goes when it has nothing more to say. The state folder is trusted; what its files say is checked value by value all the same.
"""
from __future__ import annotations

import json
import ntpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import wql
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command, reading_programs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import CIMV2

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_LINE = re.compile(r"\\(?P<file>[^\\:]+):\d+:(?P<text>.*)\Z")


class Announced(Protocol):
    """What every intent has. ``token`` tells the intents of one run apart, also those of a retry."""

    @property
    def run_id(self) -> str:
        """The run."""

    @property
    def token(self) -> str:
        """Eight hexadecimal digits."""

    @property
    def host_time(self) -> datetime:
        """When it was announced, by the host's clock."""

    def data(self) -> Mapping[str, Any]:
        """What only this kind says, for JSON."""


@dataclass(frozen=True)
class Head:
    """What the name and the first values of a file say, checked."""

    run_id: str
    token: str
    host_time: datetime


Kept = TypeVar("Kept", bound=Announced)


class IntentStore(Generic[Kept]):
    """The intents of one kind. ``kind``: the ending of the files; ``action``: what the text says to be about; ``of_data``: an intent out of
    its head and its JSON object, which raises ValueError with what is wrong; unknown keys do not matter."""

    def __init__(self, kind: str, action: str, of_data: Callable[[Head, Mapping[str, Any]], Kept]) -> None:
        self._kind = kind
        self._action = action
        self._of_data = of_data
        self._name = re.compile(rf"(?P<run>[A-Z0-9][A-Z0-9-]{{0,39}})_(?P<token>[0-9A-F]{{8}})\.{kind}\Z", re.IGNORECASE)
        self._list = Command(f'%SystemRoot%\\System32\\findstr.exe /S /N "^" "%AGH_INTENTS%\\*.{kind}"', reads_only=True)

    # -- one intent --

    def file_name(self, intent: Kept) -> str:
        """The name of its file."""
        return f"{intent.run_id}_{intent.token}.{self._kind}"

    def path_of(self, folder: StateFolder, intent: Kept) -> str:
        """Where it stands."""
        return f"{folder.intents}\\{self.file_name(intent)}"

    def is_file(self, path: str) -> bool:
        """True for a path that ends with the name of such an intent."""
        return self._name.match(ntpath.basename(path)) is not None

    def leftover(self, folder: StateFolder, intent: Kept) -> Leftover:
        """One that stays."""
        path = self.path_of(folder, intent)
        return Leftover("intent", path, folder.intents, f'del "{path}"')

    def dump(self, intent: Kept) -> bytes:
        """ASCII JSON with CRLF, one value a line."""
        data = {"format": 1, "action": self._action, "run_id": intent.run_id,
                "host_time": intent.host_time.astimezone(UTC).strftime(_TIME), **intent.data()}
        return (json.dumps(data, ensure_ascii=True, indent=1) + "\n").encode("ascii").replace(b"\n", b"\r\n")

    def parse(self, file_name: str, text: str) -> Kept:
        """An intent out of the name and the text of its file. Raises ValueError with what is wrong."""
        name = self._name.match(file_name)
        if name is None:
            raise ValueError("the name is not that of an intent")
        try:
            data = json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(data, dict) or data.get("format") != 1 or data.get("action") != self._action:
            raise ValueError("not an intent of a known kind")
        run_id, told = data.get("run_id"), data.get("host_time")
        if not isinstance(run_id, str) or run_id.lower() != name.group("run").lower():
            raise ValueError("the run is not that of the name")
        if not isinstance(told, str):
            raise ValueError("the time is missing")
        return self._of_data(Head(run_id, name.group("token"), datetime.strptime(told, _TIME).replace(tzinfo=UTC)), data)

    # -- on a host --

    def text_of(self, folder: StateFolder, intent: Kept) -> files.Text:
        """An intent as a file. A half-written one looks like a half-written intent of any kind, so that the clean-up takes it away."""
        final = self.path_of(folder, intent)
        return files.Text(f"{final.removesuffix(self._kind)}json.tmp", final, self.dump(intent))

    def write(self, writer: CimWriter, folder: StateFolder, intent: Kept) -> None:
        """Leave an intent. Raises as ``files.write_text``."""
        text = self.text_of(folder, intent)
        files.write_text(writer, text.temporary, text.final, text.data)

    def remove(self, writer: CimWriter, folder: StateFolder, intent: Kept) -> None:
        """Take an intent away; one that is gone does no harm. Raises HypervError ``file_not_removed``."""
        path = self.path_of(folder, intent)
        files.expect_success(files.run(writer, files.REMOVE_TEXT, {"FINAL": path}), f"Removing {path}", "file_not_removed")

    def read(self, reader: CimReader, folder: StateFolder) -> tuple[Kept, ...]:
        """Those of a host: one request, and one program when there are any. Files that cannot be understood are left out."""
        where: dict[str, wql.Literal] = {"Drive": folder.intents[:2], "Path": folder.intents[2:] + "\\", "Extension": self._kind}
        listed = reader.query_if_filtered(wql.select(CIMV2, "CIM_DataFile", where, ["Name"]))
        if listed is not None and not any(self.is_file(row.required_text("Name")) for row in listed):
            return ()
        return self.read_texts(reader, folder)

    def read_texts(self, reader: CimReader, folder: StateFolder) -> tuple[Kept, ...]:
        """Those of a host that has some: one program."""
        with reading_programs(reader, {"INTENTS": folder.intents}) as programs:
            return self.from_output(programs.run(self._list, timeout=files.SHORT).stdout)

    def from_output(self, output: bytes) -> tuple[Kept, ...]:
        """Intents out of findstr's ``path:line:text``."""
        texts: dict[str, list[str]] = {}
        for raw in output.splitlines():
            match = _LINE.search(raw.decode("utf-8", "replace").rstrip("\r"))
            if match is not None and self.is_file(match.group("file")):
                texts.setdefault(match.group("file"), []).append(match.group("text"))
        found = []
        for name, lines in sorted(texts.items()):
            try:
                found.append(self.parse(name, "\n".join(lines)))
            except ValueError:
                continue  # what nobody can read says nothing; it stays for a person to look at
        return tuple(found)
