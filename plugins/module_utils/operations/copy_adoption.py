# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies that earlier runs began and that nobody follows any more: found on the host, and taken over when they are what is asked for.

A copy is under way as long as its task is registered: the task is deleted once its result was read. Whose run is still alive is told
by its lease; of the same run only a retry can ask, and that takes the lease over.
"""
from __future__ import annotations

import ntpath
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import copy_record, shadow_lifecycle
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_record import CopyRecord, RecordError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import job_runs, leases, state, state_contents, tasks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import TaskName


@dataclass(frozen=True)
class Underway:
    """A copy that a task on the host makes or has made. ``alive``: its run still holds its lease. ``record`` None: nobody can tell what
    it is about."""

    name: TaskName
    running: bool
    alive: bool
    record: CopyRecord | None


def find(reader: CimReader, folder: StateFolder, vm_ids: Collection[str], now: datetime,
         warn: Callable[[str], None]) -> Mapping[str, tuple[Underway, ...]]:
    """Copies of these VMs that are under way, by GUID: one request when there are none."""
    wanted = {vm_id.upper() for vm_id in vm_ids}
    looks = [(name, look) for look in tasks.list_ours(reader) if (name := tasks.parse_name(look.name)) is not None
             and not name.purpose and name.subject.upper() in wanted]
    if not looks:
        return {}
    alive = leases.alive_runs(state_contents.read_leases(reader, folder), now)
    found: dict[str, list[Underway]] = {}
    for name, look in looks:
        record = _read(reader, folder, name, warn)
        found.setdefault(name.subject.upper(), []).append(Underway(name, look.running, name.run_id.lower() in alive, record))
    return {vm_id: tuple(items) for vm_id, items in found.items()}


def _read(reader: CimReader, folder: StateFolder, name: TaskName, warn: Callable[[str], None]) -> CopyRecord | None:
    try:
        record = copy_record.parse(job_runs.read_file(reader, folder, name, copy_record.FILE_NAME))
    except RecordError as error:
        warn(f"The task {name.text} of an earlier run does not say what it copies ({error}); hyperv_cleanup removes it.")
        return None
    return record if record.vm_id == name.subject.upper() and record.run_id == name.run_id else None


class AtWork(HypervError):
    """Another run that is at work copies the virtual machine, or is going to. ``task``: that of a copy which is there already."""

    error_code = "copy_underway"

    def __init__(self, message: str, run_id: str, task: str | None = None) -> None:
        super().__init__(message, hint="Wait for it.", details={"job": {"finished": False, "run_id": run_id, "task": task}})
        self.run_id = run_id


@dataclass(frozen=True)
class Wish:
    """What a copy must be to be taken over: below this folder, by this method, verified like this, and accepted by ``fresh``."""

    run_id: str
    folder: str
    method: str
    verify: str
    fresh: Callable[[CopyRecord], bool]


def choose(vm_name: str, found: Sequence[Underway], wish: Wish) -> CopyRecord | None:
    """The copy that is taken over; None when there is none, or only ended ones of another kind, which the clean-up removes.

    Raises AtWork for one that another run is still following, and HypervError ``copy_underway`` for one that runs and is not what is
    asked for.
    """
    for item in found:
        if item.alive and item.name.run_id != wish.run_id:
            raise AtWork(f"The run {item.name.run_id} is copying {vm_name!r}, and that run is still at work.", item.name.run_id,
                         f"{tasks.FOLDER}{item.name.text}")
    fitting = [item for item in found if item.record is not None and _fits(item.record, wish)]
    for item in found:
        if item.running and item not in fitting:
            raise _another(vm_name, item.name)
    return max((item.record for item in fitting if item.record is not None), key=lambda record: record.taken, default=None)


def _fits(record: CopyRecord, wish: Wish) -> bool:
    return (ntpath.dirname(record.folder).casefold() == wish.folder.casefold() and record.method == wish.method
            and record.verify == wish.verify and wish.fresh(record))


def _another(vm_name: str, name: TaskName) -> HypervError:
    return HypervError(f"The run {name.run_id} is copying {vm_name!r}, and it is not what this task asks for.", error_code="copy_underway",
                       hint=f"Wait for it, or end it: hyperv_cleanup with run_id {name.run_id} and remove.",
                       details={"job": {"finished": False, "run_id": name.run_id, "task": f"{tasks.FOLDER}{name.text}"}})


def release(tools: shadow_lifecycle.Tools, record: CopyRecord, *, complete: bool) -> list[Leftover]:
    """Take back what the run of an adopted copy had made for it: link and shadow copy, unless another of its copies needs them; the
    intent, when it tells of nothing else. Returns what is still there.
    """
    if record.shadow_id is None:
        return []
    if _others(tools.writer, record):
        return []
    contents = state_contents.read_contents(tools.writer, tools.folder)
    intents = [intent for intent in contents.intents if (intent.shadow_id or "").lower() == record.shadow_id.lower()]
    claims = [intent for intent in contents.intents
              if intent.token == state.CLAIM and intent.run_id.lower() == record.run_id.lower()]
    if complete and all(intent.folders == (ntpath.dirname(record.folder),) for intent in (*intents, *claims)):
        return shadow_lifecycle.retire(tools, record.shadow_id, True, intents) or shadow_lifecycle.forget(tools, claims)
    # it tells of other copies, which may be incomplete: the clean-up looks, and takes it away
    return shadow_lifecycle.take_back(tools, record.shadow_id, True, intents)


def _others(writer: CimWriter, record: CopyRecord) -> bool:
    """True when another copy of the same run is under way."""
    names = [tasks.parse_name(look.name) for look in tasks.list_ours(writer)]
    return any(name is not None and name.run_id == record.run_id and not name.purpose and name.subject.upper() != record.vm_id
               for name in names)
