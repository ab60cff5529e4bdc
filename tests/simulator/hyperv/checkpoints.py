# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints as they happen to a machine and its files, each in an instant; the jobs around them are the snapshot service's.

Creating gives every virtual disk a new leaf, applying gives it one on top of old files, destroying leaves links that nobody reads:
those are merged later (:mod:`simulator.hyperv.merges`). All methods raise JobFailure and then have changed nothing.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.cim.errors import SimulatorGap
from simulator.hyperv import chains, guests, ids
from simulator.hyperv.diskstore import system_files, worker
from simulator.hyperv.integration import component
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.model import FORMAT_VHD, KIND_DIFFERENCING, Checkpoint, Configuration, Disk, Machine, VhdFile
from simulator.hyperv.spec import MIB, CheckpointKind
from simulator.hyperv.texts import default_name
from simulator.windows.errors import ACCESS_DENIED, SHARING_VIOLATION, Win32Error

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

FAILED, NOT_SUPPORTED, IN_USE = 32768, 32770, 32774
_NOT_FOUND = 0x80070002
_SNAPSHOTTABLE = ("vhd",)


@dataclass(frozen=True)
class Wish:
    """What a new checkpoint is to be. ``quiesce``: the guest writes nothing half-way. ``skip``: drives to leave out, by index."""

    kind: CheckpointKind
    name: str | None = None
    notes: str = ""
    automatic: bool = False
    quiesce: bool = False
    memory: bool = False
    """With the memory of a machine that has one."""
    skip: tuple[int, ...] = ()
    guest_backup: int = 0


def failure(error: Win32Error) -> JobFailure:
    """The end of a job that met an error of a file."""
    code = IN_USE if error.code == SHARING_VIOLATION else FAILED
    reason = ": General access denied error" if error.code == ACCESS_DENIED else ""
    return JobFailure(code, f"The operation failed on '{error.path}'{reason}.", hresult=0x80070000 | error.code)


def has_memory(machine: Machine) -> bool:
    """Whether there is a state to be saved: the machine runs, is paused or is saved."""
    return machine.live or machine.state == "saved"


def can_quiesce(role: HyperV, machine: Machine) -> bool:
    """Whether the guest will hold its writes: it runs and its VSS service answers (operations 1.3, 6)."""
    answers = component(machine, "vss")
    return (machine.state == "running" and answers.enabled and answers.status in ("ok", "degraded")
            and machine.id not in role.knobs.cannot_quiesce)


def not_snapshottable(machine: Machine) -> list[Disk]:
    """Drives that no checkpoint of one machine can hold: pass-through, shared, persistent memory (operations 1.4, 2.3)."""
    return [disk for disk in machine.disks if disk.medium in ("passthrough", "pmem") or disk.spec.shared
            or (disk.spec.path or "").lower().endswith(".vhds")]


def refuse_old_format(machine: Machine) -> None:
    """SimulatorGap: a differencing disk in the older format is not simulated."""
    if any(disk.leaf is not None and disk.leaf.format == FORMAT_VHD for disk in machine.disks):
        raise SimulatorGap("checkpoints of disks in the older format are not simulated")


class Checkpoints:
    """The checkpoints of the machines of one host."""

    def __init__(self, role: HyperV) -> None:
        self._role = role
        self._numbers: dict[str, int] = {}

    def _number(self, machine: Machine) -> int:
        self._numbers[machine.id] = self._numbers.get(machine.id, 0) + 1
        return self._numbers[machine.id]

    def new_id(self, machine: Machine) -> str:
        """The GUID of the next checkpoint of a machine, the same in each run of a test."""
        return ids.derive(self._role.name, machine.id, "new checkpoint", self._number(machine))

    # -- creating --------------------------------------------------------------------------------------------------

    def create(self, machine: Machine, wish: Wish, checkpoint_id: str | None = None) -> Checkpoint:
        """A new checkpoint, and new files that the machine writes to from now on."""
        self._prepare(machine)
        now = self._role.clock.now()
        name = default_name(machine.name, wish.kind, now, self._role.locale) if wish.name is None else wish.name
        notes = wish.notes or (machine.notes if self._role.knobs.notes_are_copied else "")
        saved = wish.memory and has_memory(machine)
        checkpoint = Checkpoint(
            checkpoint_id or self.new_id(machine), "", name, wish.kind, now, machine.current_parent, notes, wish.automatic, saved,
            machine.capture(), disks=list(machine.disks), skipped=wish.skip, guest_backup=wish.guest_backup)
        if saved:
            checkpoint.state_bytes = machine.state_bytes if machine.state == "saved" else machine.spec.memory_mb * MIB
        guest = guests.writing(self._role, machine)
        if guest is not None and wish.quiesce:
            guest.freeze()
        try:
            if guest is not None:
                checkpoint.phase = guest.phase
            self._freeze_files(machine, checkpoint)
        finally:
            if guest is not None and guest.frozen:
                guest.thaw()
        machine.checkpoints[checkpoint.id] = checkpoint
        machine.current_parent = checkpoint
        machine.config_changed = now
        return checkpoint

    def _freeze_files(self, machine: Machine, checkpoint: Checkpoint) -> None:
        frozen = [disk for disk in machine.disks if disk.medium in _SNAPSHOTTABLE and disk.leaf and disk.index not in checkpoint.skipped]
        checkpoint.files = {disk.index: disk.leaf for disk in frozen if disk.leaf is not None}
        try:
            self._role.disks.add_system_files(Configuration(machine, checkpoint))
            leaves = self._make_leaves(machine, frozen, checkpoint.files)
        except Win32Error as error:
            self._role.disks.remove_system_files(Configuration(machine, checkpoint))
            raise failure(error) from error
        self._switch(machine, leaves)

    def _prepare(self, machine: Machine) -> None:
        """All files of the machine exist, and nobody else writes to the leaves or keeps them for himself (operations F-04, F-06)."""
        refuse_old_format(machine)
        try:
            self._role.disks.materialise_machine(machine)
            for disk in machine.disks:
                if disk.leaf is None or disk.medium not in _SNAPSHOTTABLE:
                    continue
                gone = [file.path for file in disk.leaf.chain() if not self._role.disks.is_there(file)]
                if gone:
                    raise JobFailure(FAILED, f"The file '{gone[0]}' was not found.", hresult=_NOT_FOUND)
                if self._role.disks.is_open(disk.leaf.path, but=worker(machine)):
                    raise Win32Error(SHARING_VIOLATION, disk.leaf.path)
        except Win32Error as error:
            raise failure(error) from error

    def _make_leaves(self, machine: Machine, disks: Collection[Disk], parents: dict[int, VhdFile]) -> list[tuple[Disk, VhdFile]]:
        """New files on top of these, all of them or none; nobody writes to them yet. Win32Error."""
        made: list[tuple[Disk, VhdFile]] = []
        try:
            for disk in disks:
                leaf = self.new_leaf(machine, disk, parents[disk.index])
                self._role.disks.add_child(leaf)
                made.append((disk, leaf))
        except Win32Error:
            for _unused, leaf in made:
                self._role.disks.remove(leaf.path)
            raise
        return made

    def _switch(self, machine: Machine, leaves: Collection[tuple[Disk, VhdFile]]) -> None:
        for disk, leaf in leaves:
            disk.leaf = leaf
        self._role.disks.hold(machine)
        guests.reopen(self._role, machine)

    def new_leaf(self, machine: Machine, disk: Disk, parent: VhdFile) -> VhdFile:
        """The description of a new differencing disk: beside the file the drive was made with, its name and a GUID."""
        assert disk.base is not None
        stem, _unused, _extension = disk.base.path.rpartition(".")
        guid = ids.derive(self._role.name, machine.id, disk.index, "leaf", self._number(machine))
        return VhdFile(f"{stem}_{guid}.avhdx", KIND_DIFFERENCING, parent.format, parent.size, parent.block_size, parent.disk_id, parent)

    def leave_orphans(self, machine: Machine) -> None:
        """A creation died on the way: the machine writes to new leaves, and no checkpoint explains them (operations F-11)."""
        self.fork(machine)

    def fork(self, machine: Machine) -> dict[int, VhdFile]:
        """The machine goes on in new leaves; the files that are frozen by it, for whoever needs them."""
        files = {disk.index: disk.leaf for disk in machine.disks if disk.medium in _SNAPSHOTTABLE and disk.leaf is not None}
        self.switch_to(machine, files)
        return files

    def switch_to(self, machine: Machine, files: Mapping[int, VhdFile]) -> None:
        """The machine goes on in new leaves on top of these files; it is off, or they are what it has."""
        self._prepare(machine)
        disks = [disk for disk in machine.disks if disk.index in files]
        try:
            leaves = self._make_leaves(machine, disks, dict(files))
        except Win32Error as error:
            raise failure(error) from error
        self._switch(machine, leaves)

    # -- destroying ------------------------------------------------------------------------------------------------

    def destroy(self, machine: Machine, doomed: Collection[Checkpoint]) -> None:
        """Take checkpoints out of the tree; their children hang on the next one above. Files that nobody reads are gone or merged later."""
        wanted = {checkpoint.id for checkpoint in doomed}
        machine.disks  # noqa: B018 - the files of described checkpoints are known only after this
        before = chains.disposable(machine)
        self._role.disks.materialise_quietly(machine)

        def survivor(checkpoint: Checkpoint | None) -> Checkpoint | None:
            while checkpoint is not None and checkpoint.id in wanted:
                checkpoint = checkpoint.parent
            return checkpoint

        for other in machine.checkpoints.values():
            if other.id not in wanted:
                other.parent = survivor(other.parent)
        machine.current_parent = survivor(machine.current_parent)
        if machine.last_applied is not None and machine.last_applied.id in wanted:
            machine.last_applied = None
        for checkpoint in doomed:
            self._role.disks.remove_system_files(Configuration(machine, checkpoint))
            machine.checkpoints.pop(checkpoint.id, None)
        machine.config_changed = self._role.clock.now()
        self.drop(machine, before)

    def drop(self, machine: Machine, before: Collection[VhdFile]) -> None:
        """Remove the files that nobody needs any more; one that is open stays behind. What is left may have to be merged."""
        for file in chains.dead(before, machine):
            try:
                self._role.disks.remove(file.path)
            except Win32Error:
                self._role.forget_file(file.path)
        self._role.merges.due(machine)

    def subtree(self, machine: Machine, top: Checkpoint) -> list[Checkpoint]:
        """A checkpoint and everything below it."""
        found = {top.id: top}
        for checkpoint in machine.checkpoints.values():  # parents come before children
            if checkpoint.parent is not None and checkpoint.parent.id in found:
                found[checkpoint.id] = checkpoint
        return list(found.values())

    # -- applying --------------------------------------------------------------------------------------------------

    def apply(self, machine: Machine, checkpoint: Checkpoint) -> None:
        """The machine is what it was: configuration, disks, and saved or off. What it was since is lost unless a checkpoint has it."""
        if checkpoint.kind == "missing":
            raise JobFailure(FAILED, "The files of the checkpoint were not found.", hresult=_NOT_FOUND)
        machine.disks  # noqa: B018 - as above
        before = chains.disposable(machine)
        self._prepare(machine)
        disks = [disk for disk in checkpoint.disks if disk.index in checkpoint.files]
        own = Configuration(machine, None)
        try:
            self._role.disks.check_room(system_files(own)[0][0], checkpoint.state_bytes if checkpoint.saved else 0)
            leaves = self._make_leaves(machine, [disk for disk in disks if disk.medium in _SNAPSHOTTABLE], checkpoint.files)
        except Win32Error as error:
            raise failure(error) from error
        guests.pull_the_plug(self._role, machine)
        self._set_state(machine, checkpoint)
        machine.disks = list(checkpoint.disks)
        self._switch(machine, leaves)
        self._role.disks.add_system_files(own)
        machine.current_parent = machine.last_applied = checkpoint
        guests.restore(self._role, machine, checkpoint.phase)
        self.drop(machine, before)

    def _set_state(self, machine: Machine, checkpoint: Checkpoint) -> None:
        """Saved with a standard checkpoint of a running machine, else off (operations 2.5)."""
        now = self._role.clock.now()
        captured = checkpoint.captured
        machine.spec, machine.policy = captured.spec, captured.policy
        machine.automatic_checkpoints, machine.incremental_backup = captured.automatic_checkpoints, captured.incremental_backup
        machine.state_bytes = checkpoint.state_bytes
        machine.set_state("saved" if checkpoint.saved else "off", now)
        machine.config_changed = now

    def clear_state(self, machine: Machine, checkpoint: Checkpoint) -> None:
        """Forget the memory: applied, the checkpoint leaves the machine off."""
        configuration = Configuration(machine, checkpoint)
        before = [path for path, _unused in system_files(configuration)]
        self._role.disks.materialise_quietly(machine)
        checkpoint.saved = False
        try:
            self._role.disks.add_system_files(configuration)
            for path in set(before) - {path for path, _unused in system_files(configuration)}:
                self._role.disks.remove(path)
        except Win32Error as error:
            raise failure(error) from error
