# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an export writes, put together at one instant: copies of the disks as they are now, and the configuration files (operations 3.1)."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from simulator.disks.merging import flatten
from simulator.hyperv import guests, ids
from simulator.hyperv.checkpoints import can_quiesce, failure, has_memory
from simulator.hyperv.definitions import Definition, as_machine, define, pack
from simulator.hyperv.diskstore import named_system_files, worker
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.model import Checkpoint, Configuration, Disk, Machine, VhdFile
from simulator.windows.errors import FILE_EXISTS, SHARING_VIOLATION, Win32Error
from simulator.windows.storage import clone_file

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

FAILED, NOT_SUPPORTED = 32768, 32770
ALL_CHECKPOINTS, NO_CHECKPOINTS, ONE_CHECKPOINT, FOR_BACKUP = range(4)
CRASH, SAVED, APPLICATION = range(3)
CONFIGURATIONS, DISKS, CHECKPOINTS = "Virtual Machines", "Virtual Hard Disks", "Snapshots"
_NOT_FOUND = 0x80070002


@dataclass(frozen=True)
class ExportWish:
    """What ExportSystemDefinition was asked for (Msvm_VirtualSystemExportSettingData)."""

    machine: Machine
    directory: str
    subdirectory: bool = False
    mode: int = NO_CHECKPOINTS
    storage: bool = False
    runtime: bool = False
    live_state: int = CRASH
    checkpoint: Checkpoint | None = None
    excluded: frozenset[int] = frozenset()
    """Indexes of drives to leave out."""
    stubs: bool = True
    """A differencing disk stands for each disk that is left out."""

    @property
    def target(self) -> str:
        """The folder that gets the files."""
        return f"{self.directory}\\{self.machine.name}" if self.subdirectory else self.directory

    @property
    def copies_disks(self) -> bool:
        """One checkpoint always comes with its disks (operations 3.1)."""
        return self.storage or self.mode == ONE_CHECKPOINT


@dataclass
class Item:
    """One file to be written: its name below the target, and its bytes, ready."""

    name: str
    source: Path
    size: int
    done: int = 0


@dataclass(frozen=True)
class Link:
    """A written disk that hangs on another one: on a file of this export, or (a stub) on a disk that stays where it is."""

    name: str
    parent: str
    stub: VhdFile | None = None


@dataclass
class Parcel:
    """Everything that one export writes, in order."""

    folders: list[str] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(item.size for item in self.items)


class Packer:
    """Puts one parcel together; its files are made in ``scratch``, outside of what the host sees. JobFailure."""

    def __init__(self, role: HyperV, wish: ExportWish, scratch: Path) -> None:
        self._role = role
        self._wish = wish
        self._scratch = scratch
        self._parcel = Parcel()
        self._disks: list[tuple[str, Callable[[Path], None]]] = []
        """Names of disk files of the export and what makes them."""
        self._paths: dict[str, str] = {}
        """Source path in lower case -> path in the export."""

    def pack(self) -> Parcel:
        """The parcel."""
        wish = self._wish
        self._check_machine()
        try:
            self._role.disks.materialise_machine(wish.machine)
            if wish.copies_disks:
                self._plan_disks()
            phase = self._freeze()
        except Win32Error as error:
            raise failure(error) from error
        self._parcel.folders = [CONFIGURATIONS, *([DISKS] if wish.copies_disks else []), CHECKPOINTS]
        disks, self._parcel.items = self._parcel.items, []
        self._configurations(phase)
        self._parcel.items += disks
        return self._parcel

    def _check_machine(self) -> None:
        machine = self._wish.machine
        missing = [nic.switch for nic in machine.spec.nics if nic.switch is not None and nic.switch not in self._role.switches]
        if missing:
            raise JobFailure(FAILED, f"Export failed: the virtual switch '{missing[0]}' was not found.")
        if self._wish.copies_disks and any(disk.spec.shared or (disk.spec.path or "").lower().endswith(".vhds") for disk in machine.disks):
            raise JobFailure(NOT_SUPPORTED, "Export failed: a virtual hard disk is shared.")
        if self._wish.mode == ALL_CHECKPOINTS and any(c.kind == "missing" for c in machine.checkpoints.values()):
            raise JobFailure(FAILED, "Export failed: the files of a checkpoint were not found.", hresult=_NOT_FOUND)

    # -- disks -----------------------------------------------------------------------------------------------------

    def _plan_disks(self) -> None:
        wish = self._wish
        for configuration in self._sources():
            for disk in configuration.disks:
                file = configuration.file_of(disk)
                if file is None or disk.medium != "vhd":
                    continue
                if disk.index in wish.excluded:
                    self._leave_out(file)
                elif wish.mode == ONE_CHECKPOINT or (wish.mode == FOR_BACKUP and self._role.knobs.backup_export == "flat"):
                    self._take_flat(disk, file)
                else:
                    self._take_chain(file)

    def _sources(self) -> Iterable[Configuration]:
        machine, checkpoint = self._wish.machine, self._wish.checkpoint
        if self._wish.mode == ALL_CHECKPOINTS:
            return machine.configurations()
        return [Configuration(machine, checkpoint)]

    def _take_chain(self, file: VhdFile) -> None:
        self._check_readable(file)
        for link in file.chain():
            if link.path.lower() in self._paths:
                return
            name = self._name(link.path)
            self._paths[link.path.lower()] = self._target_path(name)
            self._disks.append((name, lambda target, link=link: self._clone(link, target)))  # type: ignore[misc]
            if link.parent is not None:
                self._parcel.links.append(Link(name, f"{DISKS}\\{_file_name(link.parent.path)}"))

    def _take_flat(self, disk: Disk, file: VhdFile) -> None:
        """The chain becomes one new disk with the name of the one the drive was made with (inferred)."""
        self._check_readable(file)
        assert disk.base is not None
        names_leaf = self._role.knobs.merged_disk_names == "leaf"
        name = self._name(f"{file.path.rpartition('.')[0]}.vhdx" if names_leaf else disk.base.path)
        self._paths[file.path.lower()] = self._target_path(name)
        self._disks.append((name, lambda target: self._flatten(file, target)))

    def _leave_out(self, file: VhdFile) -> None:
        name = self._name(file.path)
        self._paths[file.path.lower()] = self._target_path(name)
        if self._wish.stubs:
            self._parcel.links.append(Link(name, file.path, file))

    def _name(self, path: str) -> str:
        """The name below the target. Two disks of one name do not fit into one folder (inferred)."""
        name = f"{DISKS}\\{_file_name(path)}"
        if self._target_path(name).lower() in {known.lower() for known in self._paths.values()}:
            raise Win32Error(FILE_EXISTS, self._target_path(name))
        return name

    def _target_path(self, name: str) -> str:
        return f"{self._wish.target}\\{name}"

    def _check_readable(self, file: VhdFile) -> None:
        for link in file.chain():
            if not self._role.disks.is_there(link):
                raise JobFailure(FAILED, f"Export failed: the file '{link.path}' was not found.", hresult=_NOT_FOUND)
            if self._role.disks.is_kept(link.path, but=worker(self._wish.machine)):
                raise Win32Error(SHARING_VIOLATION, link.path)

    def _freeze(self) -> int:
        """Make the copies, all at one instant; where the guest was in its write."""
        wish, role = self._wish, self._role
        quiet = wish.live_state == APPLICATION and wish.checkpoint is None and has_memory(wish.machine)
        if quiet and not can_quiesce(role, wish.machine):
            if role.knobs.application_export == "fails":
                raise JobFailure(FAILED, "Export failed: the guest could not be quiesced.", hresult=role.knobs.quiesce_error)
            quiet = False
        guest = guests.writing(role, wish.machine)
        if guest is not None and quiet:
            guest.freeze()
        try:
            for number, (name, make) in enumerate(self._disks):
                made = self._scratch / f"disk-{number}"
                make(made)
                self._parcel.items.append(Item(name, made, made.stat().st_size))
            return wish.checkpoint.phase if wish.checkpoint else guest.phase if guest is not None else 0
        finally:
            if guest is not None and guest.frozen:
                guest.thaw()

    def _clone(self, file: VhdFile, target: Path) -> None:
        clone_file(self._role.host.files.real_path(file.path), target)

    def _flatten(self, file: VhdFile, target: Path) -> None:
        real = self._role.host.files.real_path(file.path)
        fresh = UUID(ids.derive(self._wish.target, file.path)) if self._role.knobs.merged_disk_ids == "new" else None
        flatten(real, target, self._role.disks.find_parent, disk_id=fresh)

    # -- configurations --------------------------------------------------------------------------------------------

    def _configurations(self, phase: int) -> None:
        wish, machine = self._wish, self._wish.machine
        paths = self._paths if self._role.knobs.exported_paths == "export" else {}
        if wish.checkpoint is not None:
            memory = wish.checkpoint.saved and (wish.runtime or wish.mode == ONE_CHECKPOINT)
            definition = define(Configuration(machine, wish.checkpoint), saved=memory, phase=phase, paths=paths, tree=False)
            self._add(as_machine(definition, machine.name, machine.notes, self._identity(wish.checkpoint)), CONFIGURATIONS)
            return
        memory = wish.runtime and (machine.state == "saved" or (has_memory(machine) and wish.live_state == SAVED))
        tree = wish.mode == ALL_CHECKPOINTS
        self._add(define(Configuration(machine, None), saved=memory, phase=phase, paths=paths, tree=tree), CONFIGURATIONS)
        for checkpoint in machine.checkpoints.values() if tree else ():
            saved = checkpoint.saved and wish.runtime
            self._add(define(Configuration(machine, checkpoint), saved=saved, phase=checkpoint.phase, paths=paths, tree=True), CHECKPOINTS)

    def _identity(self, checkpoint: Checkpoint) -> str:
        """For backup the machine keeps its identity (operations 3.1); what an exported checkpoint is called is not known."""
        if self._wish.mode == FOR_BACKUP or self._role.knobs.exported_checkpoint_id == "machine":
            return self._wish.machine.id
        return ids.derive(self._wish.target, checkpoint.id) if self._role.knobs.exported_checkpoint_id == "new" else checkpoint.id

    def _add(self, definition: Definition, folder: str) -> None:
        if not self._role.knobs.exports_keep_notes:
            definition = replace(definition, notes="")
        state = definition.state_bytes if definition.saved else None
        for number, (name, size) in enumerate(named_system_files(folder, definition.id, definition.version, state)):
            made = self._scratch / f"configuration-{len(self._parcel.items)}"
            above = name.rpartition("\\")[0]  # memory files of the older form lie one level deeper
            if above not in self._parcel.folders:
                self._parcel.folders.append(above)
            if number:
                with made.open("wb") as out:
                    out.truncate(size)
            else:
                made.write_bytes(pack(definition, xml=name.endswith(".xml"), size=size))
            self._parcel.items.append(Item(name, made, made.stat().st_size))


def _file_name(path: str) -> str:
    return path.rpartition("\\")[2]
