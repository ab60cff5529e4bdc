# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines from configuration files: what an import makes of a definition and of the disk files that lie where it says."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.disks.layout import VhdxError
from simulator.hyperv.definitions import Definition, DiskEntry, unpack
from simulator.hyperv.diskstore import DiskFacts, system_files
from simulator.hyperv.model import KIND_DYNAMIC, Captured, Checkpoint, Disk, Machine, VhdFile, format_of
from simulator.hyperv.spec import MIB
from simulator.windows.acl import READ_DATA
from simulator.windows.errors import ACCESS_DENIED, FILE_NOT_FOUND, Win32Error

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

Files = dict[str, VhdFile]
"""Files that were read already, by path in lower case: each is one object, whatever leads to it."""


class Adoption:
    """Reads the files of others on behalf of the management service of one host."""

    def __init__(self, role: HyperV) -> None:
        self._role = role

    # -- files -----------------------------------------------------------------------------------------------------

    def read(self, path: str) -> Definition:
        """A configuration file. Win32Error, DefinitionError."""
        return unpack(self._role.host.files.read_file(path, self._role.system))

    def check(self, path: str) -> None:
        """Win32Error unless the service may read a file that is there."""
        files = self._role.host.files
        place = files.resolve(path, token=self._role.system)
        if not place.exists or place.is_directory:
            raise Win32Error(FILE_NOT_FOUND, path)
        if not files.may(place, READ_DATA, self._role.system):
            raise Win32Error(ACCESS_DENIED, path)

    def check_rights(self, path: str, rights: int = READ_DATA) -> None:
        """Win32Error unless the service has these rights on a file; one that is not there, or whose server is not simulated, passes."""
        files, token = self._role.host.files, self._role.system
        with self._role.disks.working():
            if files.exists(path) and not files.may(files.resolve(path, token=token), rights, token):
                raise Win32Error(ACCESS_DENIED, path)

    def file(self, path: str, read: Files | None = None) -> VhdFile:
        """The model of a disk file and its parents by what lies there now; what nobody's machine uses is read anew.

        A file that is not there, or that cannot be read, does not exist in the model. ``read``: what was read for the same machine.
        """
        found = {} if read is None else read
        if path.lower() not in found:
            found[path.lower()] = _missing(path)  # what a chain in a circle comes back to
            found[path.lower()] = self._file(path, found)
        return found[path.lower()]

    def _file(self, path: str, read: Files) -> VhdFile:
        known = self._role.file(path)
        if known is not None and self._is_used(known):
            return known
        self._role.forget_file(path)
        facts = self.facts(path)
        if facts is None:
            return _missing(path)
        parent = None if facts.parent_path is None else self.file(self._parent(path, facts.parent_path), read)
        return self._role.register_file(
            VhdFile(path, facts.kind, facts.format, facts.virtual_size, facts.block_size, facts.disk_id, parent, made=True))

    def facts(self, path: str) -> DiskFacts | None:
        """What a disk file is; None: it is not there, may not be read, or is no disk."""
        try:
            self.check(path)
            return self._role.disks.facts(path)
        except (Win32Error, VhdxError, ValueError):
            return None

    def _parent(self, path: str, named: str) -> str:
        """The parent beside a disk comes before the one that is named in full, as the relative path does (MS-VHDX 2.6.2.6.3)."""
        beside = f"{path.rpartition(chr(92))[0]}\\{named.rpartition(chr(92))[2]}"
        return beside if beside.lower() != path.lower() and self._role.host.files.exists(beside) else named

    def _is_used(self, file: VhdFile) -> bool:
        return any(file is link for machine in (*self._role.machines.values(), *self._role.planned.values())
                   for tip in tips(machine) for link in tip.chain())

    # -- machines --------------------------------------------------------------------------------------------------

    def machine(self, definition: Definition, guid: str, checkpoints: Mapping[str, Definition], ids: Mapping[str, str]) -> Machine:
        """A planned machine. ``checkpoints``: the definitions that were found; ``ids``: their new GUIDs by their own."""
        spec = replace(definition.spec, vm_id=guid, version=definition.version, planned=True,
                       state="saved" if definition.saved else "off")
        machine = Machine(self._role, spec, guid)
        machine.hardware_id, machine.name, machine.notes = definition.hardware, definition.name, definition.notes
        machine.policy, machine.automatic_checkpoints = definition.policy, definition.automatic_checkpoints
        machine.incremental_backup, machine.state_bytes = definition.incremental_backup, definition.state_bytes
        machine.created = definition.created_at
        machine.state_changed = machine.config_changed = self._role.clock.now()
        machine.folder, machine.snapshot_folder = definition.folder, definition.snapshot_folder
        machine.roots = {"SwapFileDataRoot": definition.folder}
        machine.phase, machine.key_host = definition.phase, definition.host
        read: Files = {}
        machine.disks = [self._disk(entry, read) for entry in definition.disks]
        machine.checkpoints = {}
        for old in definition.tree:
            self.add_checkpoint(machine, ids[old], checkpoints.get(old), ids, read)
        machine.current_parent = machine.checkpoints.get(ids.get(definition.parent or "", ""))
        machine.last_applied = None
        return machine

    def add_checkpoint(self, machine: Machine, guid: str, definition: Definition | None, ids: Mapping[str, str],
                       read: Files | None = None) -> Checkpoint:
        """A checkpoint of a planned machine, in place of the one of that GUID; without a definition its files are missing."""
        if definition is None:
            captured, now = machine.capture(), self._role.clock.now()
            checkpoint = Checkpoint(guid, "", machine.name, "missing", now, None, "", False, False, captured)
        else:
            captured = Captured(replace(definition.spec, planned=True), definition.policy, definition.automatic_checkpoints,
                                definition.incremental_backup)
            parent = machine.checkpoints.get(ids.get(definition.parent or "", ""))
            checkpoint = Checkpoint(guid, "", definition.name, definition.kind or "standard", definition.created_at,
                                    parent, definition.notes, definition.automatic, definition.saved, captured,
                                    state_bytes=definition.state_bytes, phase=definition.phase)
            self._give_disks(machine, checkpoint, definition.disks, {} if read is None else read)
        machine.checkpoints[guid] = checkpoint
        return checkpoint

    def _give_disks(self, machine: Machine, checkpoint: Checkpoint, entries: Iterable[DiskEntry], read: Files) -> None:
        known = {disk.index: disk for configuration in machine.configurations() for disk in configuration.disks}
        for entry in entries:
            disk = known.get(entry.index) or self._disk(entry, read)
            checkpoint.disks.append(disk)
            if entry.path is not None and entry.spec.medium == "vhd":
                checkpoint.files[entry.index] = self.file(entry.path, read)

    def _disk(self, entry: DiskEntry, read: Files) -> Disk:
        leaf = self.file(entry.path, read) if entry.path is not None and entry.spec.medium in ("vhd", "pmem") else None
        spec = replace(entry.spec, path=leaf.path if leaf else entry.path)
        return Disk(spec, entry.index, entry.controller, entry.bus, entry.location, base_of(leaf), leaf)

    def look_again(self, machine: Machine) -> None:
        """Files of a planned machine that were not there may be there by now."""
        read: Files = {}
        for disk in machine.disks:
            if disk.leaf is not None and not all(link.exists for link in disk.leaf.chain()):
                disk.leaf = self.file(disk.leaf.path, read)
                disk.base = base_of(disk.leaf)
        for checkpoint in machine.checkpoints.values():
            for index, file in checkpoint.files.items():
                if not all(link.exists for link in file.chain()):
                    checkpoint.files[index] = self.file(file.path, read)


def _missing(path: str) -> VhdFile:
    return VhdFile(path, KIND_DYNAMIC, format_of(path), 0, MIB, "", exists=False)


def base_of(leaf: VhdFile | None) -> VhdFile | None:
    """The file a drive was made with: the first of the chain that no checkpoint brought, which the name tells."""
    if leaf is None:
        return None
    chain = leaf.chain()
    return next((link for link in chain if not link.path.lower().endswith((".avhdx", ".avhd"))), chain[-1])


def tips(machine: Machine) -> list[VhdFile]:
    """The files that the configurations of a machine name."""
    return [file for configuration in machine.configurations() for disk in configuration.disks
            if (file := configuration.file_of(disk)) is not None]


def is_definition_of(role: HyperV, path: str) -> Machine | None:
    """The machine whose configuration file lies at a path: it is registered, and the file in use (operations 3.5)."""
    wanted = path.lower()
    for machine in role.machines.values():
        if any(system_files(c)[0][0].lower() == wanted for c in machine.configurations()):
            return machine
    return None
