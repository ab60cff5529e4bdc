# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What interrupted restores left on a host: planned machines, machines of drills, copied files, intents; how each goes (operations F-40).

A planned machine is ours when it carries our mark, or when one of its files lies in the folder that an intent of ours names. One that only
appeared since an intent, under the name that the intent tells, is suspect; every other is somebody else's. Neither is ever touched.
"""
from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.available import enumerate_available
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import machines, planned, power
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, as_guid, owner_of
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.planned import Planned
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import restore_import, restore_intents
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_copy import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_intents import RestoreIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import restore_marks
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.restore_marks import DRILL
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command, reading_programs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state_contents import Contents

OURS, SUSPECT, FOREIGN = "ours", "suspect", "foreign"
EXISTS = Command('if exist "%AGH_PATH%\\" (exit 0) else (exit 3)', reads_only=True)
# it is a folder that only this run has, below two that may be links: those are looked at first
LINKS = Command('dir /B /AL "%AGH_PATH%*" & dir /B /AL "%AGH_VM%*" & dir /B /AL "%AGH_HOST%*"', reads_only=True)
# and the folder of the machine, which is one for each drill, unless it holds anything else
REMOVE = Command('(if exist "%AGH_PATH%\\" rmdir /S /Q "%AGH_PATH%") & (if exist "%AGH_PATH%\\" exit 3) & rmdir "%AGH_VM%" 2>nul & exit 0')
_TRIES = 3
_PAUSE = 2.0


@dataclass(frozen=True)
class PlannedVerdict:
    """Whose a planned machine is; ``run_id`` and ``intent`` when they are known."""

    machine: Planned
    owner: str
    run_id: str | None = None
    intent: RestoreIntent | None = None


@dataclass(frozen=True)
class DrillMachine:
    """A real machine that lives only as long as the drill of its run."""

    vm_id: str
    name: str
    run_id: str


@dataclass(frozen=True)
class RestoreFacts:
    """Everything that restores leave. ``folders``: those of the intents that are there. ``kept``: those of them that hold a file of a
    machine which is to stay, or is not ours."""

    intents: tuple[RestoreIntent, ...] = ()
    planned: tuple[PlannedVerdict, ...] = ()
    drills: tuple[DrillMachine, ...] = ()
    folders: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()

    def of_run(self, run_id: str) -> RestoreFacts:
        """What belongs to one run."""
        wanted = run_id.lower()
        return RestoreFacts(
            tuple(one for one in self.intents if one.run_id.lower() == wanted),
            tuple(one for one in self.planned if one.owner == OURS and (one.run_id or "").lower() == wanted),
            tuple(one for one in self.drills if one.run_id.lower() == wanted), self.folders, self.kept)

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that left anything of ours."""
        found = [*(one.run_id for one in self.intents), *(one.run_id for one in self.planned if one.owner == OURS and one.run_id),
                 *(one.run_id for one in self.drills)]
        return tuple({run.lower(): run for run in found}.values())


def read(reader: CimReader, folder: StateFolder, contents: Contents | None = None) -> RestoreFacts:
    """One request on a host with nothing of ours and no planned machine, when it is known what the state folder holds; else two."""
    others = None if contents is None else contents.others
    none = others is not None and not any(restore_intents.STORE.is_file(entry.path) for entry in others)
    intents = () if none else restore_intents.STORE.read(reader, folder)
    rows = enumerate_available(reader, NAMESPACE, planned.SETTINGS) or []
    there = planned.of_settings(rows)
    paths = _paths(reader, there) if there else {}
    existing = frozenset(intent.folder for intent in intents if intent.folder and _exists(reader, intent.folder))
    verdicts = tuple(judge(one, paths.get(one.vm_id, ()), intents) for one in there)
    users = {folder: _users(reader, folder) for folder in existing}
    drills = drills_in(rows, [(intent.run_id, users[intent.folder]) for intent in intents
                              if intent.mode == DRILL and intent.folder in existing])
    going = {machine.vm_id for machine in drills} | {one.machine.vm_id for one in verdicts if one.owner == OURS}
    kept = frozenset(folder for folder, found in users.items() if found - going)
    return RestoreFacts(intents, verdicts, drills, existing, kept)


def drills_in(rows: Iterable[Instance], users: Sequence[tuple[str, Collection[str]]] = ()) -> tuple[DrillMachine, ...]:
    """The real machines that a drill made: marked, or with a file in the folder of a drill's intent, which nobody else has.

    ``users``: runs of drills with the machines that have files in their folders.
    """
    found = []
    for row in rows:
        vm_id = as_guid(row.text("VirtualSystemIdentifier"))
        if vm_id is not None and (row.text("VirtualSystemType") or "").lower() == machines.REALIZED.lower():
            mark = restore_marks.mark_of(vm_id, "\n".join(row.texts("Notes")))
            run_id = mark.run_id if mark is not None and mark.mode == DRILL else None
            run_id = run_id or next((run for run, owners in users if mark is None and vm_id in owners), None)
            if run_id is not None:
                found.append(DrillMachine(vm_id, row.text("ElementName") or "", run_id))
    return tuple(found)


def _paths(reader: CimReader, there: Sequence[Planned]) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for one in planned.read_storage(reader, [machine.vm_id for machine in there]):
        found.setdefault(one.owner_id, []).append(one.path)
    return {vm_id: tuple(paths) for vm_id, paths in found.items()}


def judge(one: Planned, paths: Sequence[str], intents: Sequence[RestoreIntent]) -> PlannedVerdict:
    """Whose a planned machine is. ``paths``: its disks."""
    mark = restore_marks.mark_of(one.vm_id, one.notes)
    if mark is not None:
        return PlannedVerdict(one, OURS, mark.run_id, next((item for item in intents if item.run_id == mark.run_id), None))
    root = one.settings.configuration_root if one.settings is not None else None
    for intent in intents:
        if intent.folder and any(planned.lies_in(path, intent.folder) for path in (*paths, root)):
            return PlannedVerdict(one, OURS, intent.run_id, intent)
    for intent in intents:
        if one.vm_id not in intent.planned_before and (one.vm_id == intent.source_id or one.name in (intent.name, intent.source_name)):
            return PlannedVerdict(one, SUSPECT, intent.run_id, intent)
    return PlannedVerdict(one, FOREIGN)


def without(contents: Contents, folder: StateFolder, facts: RestoreFacts) -> Contents:
    """What the state folder holds beside these intents, so that nobody else takes them for something that cannot be understood."""
    known = {restore_intents.STORE.path_of(folder, intent).lower() for intent in facts.intents}
    if contents.others is None:
        return contents
    return replace(contents, others=tuple(entry for entry in contents.others if entry.path.lower() not in known))


def _users(reader: CimReader, folder: str) -> set[str]:
    """The machines, real, planned or of checkpoints, that have a file in a folder; two requests."""
    found = {owner_of(row.text("InstanceID")) for row in reader.enumerate(NAMESPACE, planned.STORAGE)
             if any(planned.lies_in(path, folder) for path in row.texts("HostResource"))}
    found |= {as_guid(row.text("VirtualSystemIdentifier")) for row in reader.enumerate(NAMESPACE, planned.SETTINGS)
              if planned.lies_in(row.text("ConfigurationDataRoot"), folder)}
    return {vm_id for vm_id in found if vm_id is not None}


def _exists(reader: CimReader, path: str) -> bool:
    with reading_programs(reader, {"PATH": path}) as programs:
        return programs.run(EXISTS, timeout=files.SHORT).exit_code == 0


# -- removing ------------------------------------------------------------------------------------------------------------


def remove_planned(tools: Tools, one: Planned) -> None:
    """Destroy a planned machine of ours, after another look at whose it is. Raises why it is still there."""
    restore_import.destroy(tools, one.reference, f"destroying the planned virtual machine {one.name!r}")


def remove_machine(tools: Tools, vm_id: str, run_id: str, folders: Collection[str]) -> None:
    """Turn a machine of a drill off and take it away; only one that still carries the mark of that very drill, or that has no mark and a
    file in one of the drill's own ``folders``.

    Raises HypervError ``mark_lost``, or why it is still there.
    """
    now = next((one for one in machines.read_machines(tools.writer).machines if one.vm_id == vm_id), None)
    if now is None:
        return
    mark = restore_marks.mark_of(now.vm_id, now.settings.notes if now.settings else None)
    proved = mark is not None and mark.mode == DRILL and mark.run_id.lower() == run_id.lower()
    if not proved and (mark is not None or not any(vm_id in _users(tools.writer, folder) for folder in folders)):
        raise HypervError(f"{now.name!r} does not carry the mark of the drill {run_id} any more: it is not touched.",
                          error_code="mark_lost", hint="Somebody changed its notes, to keep it perhaps. Remove it by hand if nobody did.")
    power.bring_to(tools.writer, now, "off", clock=tools.clock, deadline=tools.deadline, progress=tools.progress)
    restore_import.destroy(tools, now.reference, f"removing the virtual machine {now.name!r} of the drill")


def remove_files(tools: Tools, folder: str) -> None:
    """Remove the files that a restore copied: a folder that nobody else has, and only while no machine has a file in it.

    Raises HypervError ``files_in_use``, ``link_in_the_way`` or ``folder_not_removed``.
    """
    user = restore_import.files_in_use(tools, folder)
    if user is not None:
        raise HypervError(f"The files in {folder} stay: {user} is there.", error_code="files_in_use",
                          hint="Remove that virtual machine first, or keep both.")
    values = {"PATH": folder, "VM": folder.rpartition("\\")[0], "HOST": folder.rpartition("\\")[0].rpartition("\\")[0]}
    listed = files.run(tools.writer, LINKS, values).stdout.decode("utf-8", "replace").splitlines()
    ours = {path.rpartition("\\")[2].lower() for path in values.values()}
    if any(line.strip().lower() in ours for line in listed):
        raise HypervError(f"{folder} leads through a link: nothing was removed.", error_code="link_in_the_way",
                          hint="Links there are not ours; find out who made it.")
    for attempt in range(_TRIES):
        if attempt:
            tools.clock.sleep(_PAUSE)
        if files.run(tools.writer, REMOVE, values).exit_code == 0:
            return
    raise HypervError(f"The folder {folder} could not be removed.", error_code="folder_not_removed",
                      hint="A program has a file in it open: an antivirus, a backup.")


def files_leftover(folder: str) -> Leftover:
    """Files that are still there."""
    return Leftover("restored_files", folder, folder, f'rmdir /s /q "{folder}"')
