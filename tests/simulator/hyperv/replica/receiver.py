# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiving side: replica machines come into being, changes are taken in and applied, recovery points come and go (operations 7)."""
from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

from simulator.disks.layout import VhdxError
from simulator.hyperv import chains
from simulator.hyperv.checkpoints import Wish
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.model import CONFIG_VERSIONS, Checkpoint, Configuration, Disk, Machine, Relation
from simulator.hyperv.replica import content
from simulator.hyperv.replica.content import Digests, Piece
from simulator.hyperv.replica.network import ACCESS_DENIED, UNKNOWN_MACHINE, Unreachable, entry_for
from simulator.hyperv.replica.state import (
    APPLICATION,
    COMMITTED,
    CRITICAL,
    FAILED_OVER,
    FAILING_OVER,
    INITIAL,
    PLANNED,
    RESYNCING,
    Delta,
    Inbound,
    RelationSettings,
    Statistics,
)
from simulator.hyperv.spec import CheckpointKind, DiskSpec, RelationSpec
from simulator.windows.errors import DISK_FULL, Win32Error

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

POINTS: frozenset[str] = frozenset({"replica", "replica_application", "replica_planned"})
_KINDS: dict[int, CheckpointKind] = {APPLICATION: "replica_application", PLANNED: "replica_planned"}
_HOUR = 3600.0
_EXISTS, _VERSION, _BUSY = 0x800700B7, 0x80070032, 0x800700AA
WRONG_STATE = 0x8007139F


def points(machine: Machine) -> list[Checkpoint]:
    """The recovery points of a replica, oldest first."""
    return sorted((c for c in machine.checkpoints.values() if c.kind in POINTS), key=lambda c: c.created)


def new_relation(role: HyperV, index: int, state: int, settings: RelationSettings) -> Relation:
    """A relation that the host made."""
    now = role.clock.now()
    return Relation(index, RelationSpec(), state, 0, None, None, settings, Statistics(now), last_type=0, live=True)


class Receiver:
    """The replica machines of one host."""

    def __init__(self, role: HyperV) -> None:
        self._role = role

    # -- machines --------------------------------------------------------------------------------------------------

    def accept(self, primary: HyperV, machine: Machine, settings: RelationSettings, extended: bool) -> Relation:
        """A new relation from ``primary``: a replica machine appears, or one that waits for it is taken. Unreachable: it cannot."""
        role = self._role
        entry = entry_for(primary, role)
        if entry is None:
            raise Unreachable(ACCESS_DENIED, "This server is not authorized.")
        if _version(machine.version) > _version(CONFIG_VERSIONS[role.os_version]):
            raise Unreachable(_VERSION, f"Version {machine.version} of the virtual machine is not supported by the Replica server.")
        own = replace(settings, included=())
        known = role.machines.get(machine.id) or role.planned.get(machine.id)
        if known is not None:
            return self._take_waiting(known, primary, machine, own)
        replica = self._shell(machine, settings, entry.storage)
        mapping = {index: place for place, index in enumerate(settings.included)}
        relation = new_relation(role, 0, INITIAL, replace(own, included=tuple(mapping.values())))
        relation.inbound = Inbound(primary.host.fqdn, entry.trust_group, mapping)
        replica.relations.append(relation)
        replica.replication_mode = 4 if extended else 2
        return relation

    def _take_waiting(self, known: Machine, primary: HyperV, machine: Machine, own: RelationSettings) -> Relation:
        """A machine that was marked as a replica before (operations 7.3 step 4), its disks found by their names."""
        relation = known.relations[0] if known.relations else None
        if relation is None or relation.inbound is None or relation.state != INITIAL or relation.last_time is not None:
            raise Unreachable(_EXISTS, "A virtual machine with the same identifier exists on the Replica server.")
        mine = {_file_name(disk).lower(): disk.index for disk in known.disks if disk.base is not None}
        theirs = {disk.index: _file_name(disk).lower() for disk in machine.disks if disk.base is not None}
        relation.inbound.disks = {index: mine[name] for index, name in theirs.items() if name in mine}
        relation.inbound.primary = primary.host.fqdn
        relation.settings = replace(own, included=tuple(relation.inbound.disks.values()))
        return relation

    def _shell(self, machine: Machine, settings: RelationSettings, storage: str) -> Machine:
        role = self._role
        folder = f"{storage}\\Hyper-V Replica"
        chosen = [disk for disk in machine.disks if disk.index in settings.included]
        names: set[str] = set()
        disks = tuple(self._disk_spec(disk, f"{folder}\\Virtual hard disks\\{machine.id}", names) for disk in chosen)
        switches = self._role.switches
        nics = tuple(replace(nic, switch=nic.switch if nic.switch in switches else None) for nic in machine.spec.nics)
        spec = replace(machine.spec, name=machine.name, vm_id=machine.id, version=machine.version, state="off", health="ok",
                       notes=machine.notes, folder=folder, snapshot_folder=None, disks=disks,
                       nics=nics, checkpoints=(), current_parent=None, last_applied=None,
                       replication_mode=0, relations=(), reference_points=(), clustered=False, planned=False, busy=None,
                       merge_paused=False, last_backup_hours_ago=None)
        replica = role.add_vm(spec)
        now = role.clock.now()
        replica.created = replica.config_changed = replica.state_changed = now
        replica.policy = machine.policy
        try:
            role.disks.add_system_files(Configuration(replica, None))
        except Win32Error as error:
            role.remove_vm(replica.id)
            raise Unreachable(0x80070000 | error.code, f"The storage location '{storage}' cannot be used.") from error
        return replica

    @staticmethod
    def _disk_spec(disk: Disk, folder: str, names: set[str]) -> DiskSpec:
        leaf, base = disk.leaf, disk.base
        assert leaf is not None
        assert base is not None
        name = _file_name(disk)
        while name.lower() in names:
            name = f"{disk.index}-{name}"
        names.add(name.lower())
        return DiskSpec(path=f"{folder}\\{name}", size=leaf.size, block_size=leaf.block_size, disk_id=base.disk_id,
                        controller="ide" if disk.controller == "ide" else "scsi", exists=False)

    def add_disk(self, machine: Machine, relation: Relation, disk: Disk) -> None:
        """One more drive of the primary is replicated."""
        from simulator.hyperv.hardware import attach_disk

        inbound = _inbound(relation)
        if disk.index in inbound.disks:
            return
        names = {_file_name(one).lower() for one in machine.disks if one.base is not None}
        folder = str(PureWindowsPath(machine.disks[0].base.path).parent) if machine.disks and machine.disks[0].base else (
            f"{machine.folder}\\Virtual hard disks\\{machine.id}")
        inbound.disks[disk.index] = attach_disk(machine, self._disk_spec(disk, folder, names)).index

    def relation(self, machine_id: str, primary: HyperV) -> tuple[Machine, Relation]:
        """The replica of a machine of ``primary``. Unreachable: there is none, or it takes nothing from there."""
        machine = self._role.machines.get(machine_id)
        relation = next((r for r in machine.relations if r.inbound is not None), None) if machine else None
        if machine is None or relation is None or relation.inbound is None or machine.replication_mode not in (2, 4):
            raise Unreachable(UNKNOWN_MACHINE, "The Replica server has no replica of the virtual machine.")
        if relation.state in (FAILING_OVER, FAILED_OVER, COMMITTED):
            raise Unreachable(WRONG_STATE, "The replica has failed over and takes nothing.")
        entry = entry_for(primary, self._role)
        if entry is None or entry.trust_group != relation.inbound.trust_group:
            raise Unreachable(ACCESS_DENIED, "The Replica server does not accept replication from this server.")
        return machine, relation

    # -- taking in -------------------------------------------------------------------------------------------------

    def take(self, machine: Machine, relation: Relation, delta: Delta) -> None:
        """The changes of one cycle; they are applied as soon as nothing is done to the machine. Unreachable: not now."""
        if relation.state != 3:
            raise Unreachable(WRONG_STATE, "The replica does not take changes in its present state.")
        self.check_room(machine, relation, delta.pieces)
        inbound = _inbound(relation)
        inbound.waiting.append(delta)
        now = self._role.clock.now()
        relation.last_time, relation.last_type = delta.time, delta.kind
        if delta.kind == APPLICATION:
            relation.last_application_time = delta.time
        relation.statistics.sent(delta.size, max(0.0, (now - delta.time).total_seconds()))
        self.apply(machine, relation)

    def check_room(self, machine: Machine, relation: Relation, pieces: Collection[Piece]) -> None:
        """Unreachable 0x80070070: the volume has no room for these."""
        for disk, own in self._by_disk(machine, relation, pieces):
            if disk.leaf is not None and disk.leaf.made and content.growth(self._role, disk, own) > self._role.disks.room(disk.leaf.path):
                raise Unreachable(0x80070000 | DISK_FULL, "There is not enough room on the volume of the replica.")

    def apply(self, machine: Machine, relation: Relation) -> None:
        """Bring what was received into the disks; later when something is done to the machine."""
        inbound = _inbound(relation)
        if inbound.timer is not None:
            inbound.timer.cancel()
            inbound.timer = None
        while inbound.waiting:
            if machine.busy is not None or self._role.replica.knobs.apply_held:
                seconds = self._role.replica.knobs.apply_seconds
                inbound.timer = self._role.clock.call_later(seconds, lambda: self._apply_later(machine, relation))
                return
            delta = inbound.waiting.pop(0)
            try:
                self._write(machine, relation, delta.pieces)
                relation.last_apply = self._role.clock.now()
                self._point(machine, relation, delta)
            except (FileNotFoundError, VhdxError, Win32Error, JobFailure) as error:
                relation.state = CRITICAL
                relation.reason = (0x80070002, f"The changes could not be applied: {error}")
                inbound.waiting.insert(0, delta)
                return

    def _apply_later(self, machine: Machine, relation: Relation) -> None:
        if self._role.machines.get(machine.id) is machine and relation in machine.relations:
            self.apply(machine, relation)

    def _write(self, machine: Machine, relation: Relation, pieces: Collection[Piece]) -> None:
        for disk, own in self._by_disk(machine, relation, pieces):
            content.write(self._role, disk, own)

    @staticmethod
    def _by_disk(machine: Machine, relation: Relation, pieces: Iterable[Piece]) -> list[tuple[Disk, list[Piece]]]:
        mapping = _inbound(relation).disks
        own: dict[int, list[Piece]] = {}
        for piece in pieces:
            if piece.disk in mapping:
                own.setdefault(mapping[piece.disk], []).append(piece)
        return [(disk, own[disk.index]) for disk in machine.disks if disk.index in own]

    # -- recovery points -------------------------------------------------------------------------------------------

    def _point(self, machine: Machine, relation: Relation, delta: Delta) -> None:
        """A recovery point each hour, or when the guest was quiesced; the oldest go (operations 7.3)."""
        inbound, history = _inbound(relation), relation.settings.history
        last = inbound.last_point
        due = last is None or (delta.time - last).total_seconds() >= _HOUR
        if (history > 0 and (due or delta.kind == APPLICATION)) or delta.kind == PLANNED:
            self._role.checkpoints.create(machine, Wish(_KINDS.get(delta.kind, "replica")))
            inbound.last_point = delta.time
        self.prune(machine, history, planned=delta.kind != PLANNED)

    def prune(self, machine: Machine, history: int, *, planned: bool = False) -> None:
        """Only so many recovery points stay, the newest; ``planned``: that of a planned failover that came to nothing goes."""
        surplus = [point for point in points(machine) if point.kind != "replica_planned"][:-history or None]
        surplus += [point for point in points(machine) if planned and point.kind == "replica_planned"]
        if surplus:
            self._role.checkpoints.destroy(machine, surplus)

    # -- copies ----------------------------------------------------------------------------------------------------

    def prepare_files(self, machine: Machine, relation: Relation, indexes: Collection[int]) -> bool:
        """The disks of a first copy exist, empty unless they were there; whether one was. Unreachable: there is no room."""
        mapping = _inbound(relation).disks
        there = False
        for disk in machine.disks:
            if disk.leaf is None or disk.index not in {mapping.get(index) for index in indexes}:
                continue
            if disk.leaf.exists:
                there = True
                continue
            disk.leaf.exists = True
            try:
                self._role.disks.add_child(disk.leaf)
            except Win32Error as error:
                disk.leaf.exists = False
                raise Unreachable(0x80070000 | error.code, f"'{disk.leaf.path}' could not be made.") from error
        return there

    def digests(self, machine: Machine, relation: Relation, index: int) -> Digests:
        """What the replica of a drive of the primary holds."""
        wanted = _inbound(relation).disks.get(index)
        return next((content.digests_of(self._role, disk) for disk in machine.disks if disk.index == wanted), {})

    def copy(self, machine: Machine, relation: Relation, pieces: list[Piece]) -> None:
        """A piece of a first copy or of a resynchronisation. Unreachable: not now."""
        if relation.state not in (INITIAL, RESYNCING, 3, 15):
            raise Unreachable(WRONG_STATE, "The replica does not take a copy in its present state.")
        if machine.busy is not None:
            raise Unreachable(_BUSY, "Something is being done to the replica.")
        self.check_room(machine, relation, pieces)
        try:
            self._write(machine, relation, pieces)
        except (FileNotFoundError, VhdxError, Win32Error) as error:
            raise Unreachable(0x80070002, f"The replica could not be written: {error}") from error

    def forget(self, machine: Machine, relation: Relation) -> None:
        """The relation ends here: machine and disks stay, recovery points go."""
        inbound = _inbound(relation)
        if inbound.timer is not None:
            inbound.timer.cancel()
        inbound.waiting.clear()
        machine.relations.remove(relation)
        if not any(r.inbound is not None for r in machine.relations):
            machine.replication_mode = 1 if machine.relations else 0
        before = chains.disposable(machine)
        machine.pins.clear()
        doomed = points(machine)
        if doomed:
            self._role.checkpoints.destroy(machine, doomed)
        self._role.checkpoints.drop(machine, before)


def _inbound(relation: Relation) -> Inbound:
    assert relation.inbound is not None
    return relation.inbound


def _file_name(disk: Disk) -> str:
    assert disk.base is not None
    return PureWindowsPath(disk.base.path).name


def _version(text: str) -> tuple[int, int]:
    major, _unused, minor = text.partition(".")
    return int(major), int(minor or 0)
