# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""Intents for checkpoints: ``<state folder>\intents\<run>_<token>.checkpoint``, one for a run, whatever the number of its machines.

A checkpoint has no name of ours before it is there, and its kind follows from a policy of its machine that may have to be another one for a
moment (operations 2.2, 0.8). So the intent says first: which machines, which policy each has, and which one it gets. It goes at the end of
the run. One that is still there when its run holds no lease any more says what has to be put back, and which checkpoints are suspect.
"""
from __future__ import annotations

import json
import ntpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import wql
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command, reading_programs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import CIMV2

ENDING = "checkpoint"
ACTION = "create_checkpoint"
WINDOW = timedelta(hours=1)
"""An unmarked checkpoint that is at most so much younger than an intent for its machine may have come of it."""

READ = Command('%SystemRoot%\\System32\\findstr.exe /S /N "^" "%AGH_INTENTS%\\*.checkpoint"', reads_only=True)
_LINE = re.compile(r"\\(?P<file>[^\\:]+\.checkpoint):\d+:(?P<text>.*)\Z", re.IGNORECASE)
_FILE = re.compile(r"(?P<run>[A-Z0-9][A-Z0-9-]{0,39})_(?P<token>[0-9A-F]{8})\.checkpoint\Z", re.IGNORECASE)
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_CLASS = re.compile(r"(?:Msvm|CIM)_[A-Za-z]{1,60}\Z")
_LONGEST = 200
_POLICIES = ("disabled", "production", "production_only", "standard")


@dataclass(frozen=True)
class BegunJob:
    """The job of a creation that was begun and not waited for."""

    class_name: str
    job_id: str


@dataclass(frozen=True)
class MachineIntent:
    """One machine: the policy that it has, and the one it gets until its checkpoint is there; the same when nothing changes, None when
    the host has no policies. ``job``: a creation that goes on, and ``level`` the consistency that it reaches without memory."""

    vm_id: str
    was: str | None
    now: str | None
    job: BegunJob | None = None
    level: str | None = None

    def as_data(self) -> dict[str, Any]:
        """What its part of the file says."""
        data: dict[str, Any] = {"vm_id": self.vm_id, "was": self.was, "now": self.now}
        if self.job is not None:
            data.update({"job_class": self.job.class_name, "job": self.job.job_id, "level": self.level})
        return data


@dataclass(frozen=True)
class CheckpointIntent:
    """What a run is about to do. ``token`` tells the intents of one run apart, also those of a retry. ``checkpoint``: the name that the
    task gives."""

    run_id: str
    token: str
    host_time: datetime
    machines: tuple[MachineIntent, ...]
    checkpoint: str | None = None

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return f"{self.run_id}_{self.token}.{ENDING}"

    def of(self, vm_id: str) -> MachineIntent | None:
        """What it says of one machine."""
        return next((one for one in self.machines if one.vm_id == vm_id), None)

    def dump(self) -> bytes:
        """ASCII JSON, one value a line."""
        data = {"format": 1, "action": ACTION, "run_id": self.run_id, "host_time": self.host_time.astimezone(UTC).strftime(_TIME),
                "checkpoint": self.checkpoint, "machines": [one.as_data() for one in self.machines]}
        return (json.dumps(data, ensure_ascii=True, indent=1) + "\n").encode("ascii").replace(b"\n", b"\r\n")


def parse(file_name: str, text: str) -> CheckpointIntent:
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
    run_id, told, listed = data.get("run_id"), data.get("host_time"), data.get("machines")
    if not isinstance(run_id, str) or run_id.lower() != name.group("run").lower():
        raise ValueError("the run is not that of the name")
    if not isinstance(told, str) or not isinstance(listed, list):
        raise ValueError("the time or the machines are missing")
    return CheckpointIntent(run_id, name.group("token"), datetime.strptime(told, _TIME).replace(tzinfo=UTC),
                            tuple(_machine(one) for one in listed), _short(data.get("checkpoint")))


def _machine(one: Any) -> MachineIntent:
    vm_id = as_guid(one.get("vm_id")) if isinstance(one, dict) and isinstance(one.get("vm_id"), str) else None
    if vm_id is None or any(one.get(key) not in (None, *_POLICIES) for key in ("was", "now")):
        raise ValueError("a machine or its policy cannot be read")
    job_id, class_name = _short(one.get("job")), _short(one.get("job_class"))
    job = BegunJob(class_name, job_id) if job_id and class_name and _CLASS.match(class_name) else None
    return MachineIntent(vm_id, one.get("was"), one.get("now"), job, _short(one.get("level")))


def _short(value: Any) -> str | None:
    """A text of one line; None for anything else."""
    return value if isinstance(value, str) and value.isprintable() and 0 < len(value) <= _LONGEST else None


def path_of(folder: StateFolder, intent: CheckpointIntent) -> str:
    """Where an intent stands."""
    return f"{folder.intents}\\{intent.file_name}"


def write(writer: CimWriter, folder: StateFolder, intent: CheckpointIntent) -> None:
    """Leave an intent."""
    text = text_of(folder, intent)
    files.write_text(writer, text.temporary, text.final, text.data)


def text_of(folder: StateFolder, intent: CheckpointIntent) -> files.Text:
    """An intent as a file. A half-written one looks like a half-written intent of any kind, so that the clean-up takes it away."""
    final = path_of(folder, intent)
    return files.Text(f"{final[:-len(ENDING)]}json.tmp", final, intent.dump())


def remove(writer: CimWriter, folder: StateFolder, intent: CheckpointIntent) -> None:
    """Take an intent away; one that is gone does no harm. Raises HypervError ``file_not_removed``."""
    path = path_of(folder, intent)
    files.expect_success(files.run(writer, files.REMOVE_TEXT, {"FINAL": path}), f"Removing {path}", "file_not_removed")


def read(reader: CimReader, folder: StateFolder) -> tuple[CheckpointIntent, ...]:
    """The intents of a host: one request, and one program when there are any. Files that cannot be understood are left out."""
    where: dict[str, wql.Literal] = {"Drive": folder.intents[:2], "Path": folder.intents[2:] + "\\", "Extension": ENDING}
    listed = reader.query_if_filtered(wql.select(CIMV2, "CIM_DataFile", where, ["Name"]))
    if listed is not None and not any(is_file(row.required_text("Name")) for row in listed):
        return ()
    return read_texts(reader, folder)


def is_file(path: str) -> bool:
    """True for a path that ends with the name of an intent."""
    return _FILE.match(ntpath.basename(path)) is not None


def read_texts(reader: CimReader, folder: StateFolder) -> tuple[CheckpointIntent, ...]:
    """The intents of a host that has some: one program. Files that cannot be understood are left out."""
    with reading_programs(reader, {"INTENTS": folder.intents}) as programs:
        shown = programs.run(READ, timeout=files.SHORT)
    return from_output(shown.stdout)


def from_output(output: bytes) -> tuple[CheckpointIntent, ...]:
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


def may_have_made(intents: Sequence[CheckpointIntent], vm_id: str, created: datetime | None) -> CheckpointIntent | None:
    """The intent that an unmarked checkpoint of this age may have come of."""
    for intent in intents:
        if intent.of(vm_id) is not None and created is not None and intent.host_time <= created <= intent.host_time + WINDOW:
            return intent
    return None
