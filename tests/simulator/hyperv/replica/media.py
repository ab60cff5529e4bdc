# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first copy on media: exported on the primary, carried by somebody, imported on the Replica server (operations 7.3 step 4)."""
from __future__ import annotations

from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING
from uuid import UUID

from simulator.cim.errors import ProviderRefusal
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.disks.layout import VhdxError
from simulator.disks.vhdx import Vhdx, create_dynamic
from simulator.hyperv import ids
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.model import Machine, Relation
from simulator.hyperv.replica import content
from simulator.hyperv.replica.common import FAILED, FILE_NOT_FOUND, INVALID_PARAMETER, INVALID_STATE
from simulator.hyperv.replica.content import Piece
from simulator.hyperv.replica.network import Unreachable
from simulator.hyperv.replica.state import INITIAL, READY
from simulator.windows.errors import DISK_FULL, FILE_EXISTS, Win32Error

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

EXPORT_JOB, IMPORT_JOB = 118, 95
_DATA_ERROR = 0x8007000D


class Media:
    """Exports and imports of one host."""

    def __init__(self, role: HyperV) -> None:
        self._role = role
        self._numbers: dict[str, int] = {}

    # -- out -------------------------------------------------------------------------------------------------------

    def export(self, call: Invocation, machine: Machine, relation: Relation, location: str) -> MethodOutcome:
        """Write the disks of a machine into a folder of their own below ``location``."""
        if relation.state != READY:
            raise ProviderRefusal(INVALID_STATE, "the first copy was started already")
        try:
            there = self._role.host.files.resolve(location)
        except Win32Error as error:
            raise ProviderRefusal(INVALID_PARAMETER, f"{location} leads nowhere") from error
        if location.startswith("\\\\") or not there.is_directory:
            raise ProviderRefusal(FILE_NOT_FOUND if not there.exists else INVALID_PARAMETER, f"{location} is no folder of this server")
        number = self._numbers[machine.id] = self._numbers.get(machine.id, 0) + 1
        export_id = ids.derive(self._role.name, machine.id, "initial export", number)
        folder = f"{location.rstrip(chr(92))}\\{_folder_name(machine)}"
        seconds = sum(disk.leaf.size for disk in machine.disks if disk.leaf and disk.index in relation.settings.included)
        relation.state = INITIAL

        def write() -> None:
            if relation.state != INITIAL:
                raise JobFailure(INVALID_STATE, "The initial replication was cancelled.")
            sender = self._role.replica.sender(machine, relation)
            assert sender is not None
            try:
                self._write(machine, relation, folder, export_id)
            except (Win32Error, FileNotFoundError) as error:
                relation.state = READY
                code = error.code if isinstance(error, Win32Error) else 2
                raise JobFailure(FAILED, f"'{folder}' could not be written.", hresult=0x80070000 | code) from error
            sender.exported = export_id
            sender.start_cycles()

        takes = 2.0 + seconds / self._role.replica.knobs.bytes_per_second
        return self._role.replica.relations.begin(call, machine, EXPORT_JOB, write, seconds=takes)

    def _write(self, machine: Machine, relation: Relation, folder: str, export_id: str) -> None:
        files, role = self._role.host.files, self._role
        sender = role.replica.sender(machine, relation)
        assert sender is not None
        disks = {disk.index: disk for disk in machine.disks if disk.index in relation.settings.included}
        sender.baseline = content.Baseline()
        pieces = content.new_pieces(role, disks, sender.baseline)
        if files.exists(folder):
            raise Win32Error(FILE_EXISTS, folder)
        files.create_directory(folder)
        files.write_file(f"{folder}\\{machine.id}.ir", export_id.encode())
        for index, disk in disks.items():
            assert disk.leaf is not None
            assert disk.base is not None
            own = [piece for piece in pieces if piece.disk == index]
            place = files.resolve(f"{folder}\\{PureWindowsPath(disk.base.path).name}")
            if sum(len(piece.data) for piece in own) > place.volume.free_bytes:
                raise Win32Error(DISK_FULL, folder)
            create_dynamic(place.real, disk.leaf.size, disk.leaf.block_size, UUID(disk.base.disk_id))
            _fill(place.real, own)
            files.register_new(place, None)
            files.wrote(place.volume, place.real.stat().st_size)
        sender.baseline.has(pieces)

    # -- in --------------------------------------------------------------------------------------------------------

    def take_in(self, call: Invocation) -> MethodOutcome:
        """ImportInitialReplica: 32779 when the folder or one of its files is not there, a failed job when it is another export."""
        relations = self._role.replica.relations
        machine = relations.machine(call)
        relation = next((r for r in machine.relations if r.inbound is not None), None)
        location = call["InitialReplicationImportLocation"]
        if not isinstance(location, str) or not location:
            raise ProviderRefusal(INVALID_PARAMETER, "a folder is needed")
        if relation is None or relation.state != INITIAL or machine.busy is not None:
            raise ProviderRefusal(INVALID_STATE, "the replica waits for no first copy")
        files = self._role.host.files
        sources = self._sources(machine, relation, location)
        mark = f"{location}\\{machine.id}.ir"
        try:
            missing = [path for path in (mark, *sources.values()) if not files.exists(path)]
        except Win32Error:
            missing = [mark]
        if missing:
            raise ProviderRefusal(FILE_NOT_FOUND, f"{missing[0]} is not there")
        assert relation.inbound is not None
        inbound = relation.inbound

        def read() -> None:
            if relation.state != INITIAL:
                raise JobFailure(INVALID_STATE, "The replica waits for no first copy any more.")
            try:
                self._role.replica.receiver.prepare_files(machine, relation, sources)
                for index, path in sources.items():
                    self._read(machine, relation, index, path)
                inbound.imported = files.read_file(mark).decode()
            except Unreachable as error:
                raise JobFailure(FAILED, error.message, hresult=error.hresult) from error
            except (Win32Error, VhdxError, FileNotFoundError) as error:
                raise JobFailure(FAILED, f"The initial replica in '{location}' could not be read.", hresult=_DATA_ERROR) from error

        return relations.begin(call, machine, IMPORT_JOB, read, seconds=5.0)

    def _sources(self, machine: Machine, relation: Relation, location: str) -> dict[int, str]:
        assert relation.inbound is not None
        names = {disk.index: PureWindowsPath(disk.base.path).name for disk in machine.disks if disk.base is not None}
        return {index: f"{location}\\{names[own]}" for index, own in relation.inbound.disks.items()}

    def _read(self, machine: Machine, relation: Relation, index: int, path: str) -> None:
        assert relation.inbound is not None
        disk = next(disk for disk in machine.disks if disk.index == relation.inbound.disks[index])
        real = self._role.host.files.resolve(path).real
        with Vhdx.open(real, writable=False) as image:
            if disk.leaf is None or image.virtual_size != disk.leaf.size:
                raise VhdxError("corrupt", f"{path} is not the disk that is expected")
        pieces = [Piece(index, offset, data) for offset, data in content.chunks(self._role, real)]
        self._role.replica.receiver.copy(machine, relation, pieces)


def _folder_name(machine: Machine) -> str:
    """One folder for each machine."""
    kept = "".join(c for c in machine.name if c.isalnum() or c in " -_").strip()[:40]
    return f"{kept}_{machine.id}"


def _fill(path: Path, pieces: list[Piece]) -> None:
    with Vhdx.open(path) as image:
        for piece in pieces:
            image.write(piece.offset, piece.data[:image.virtual_size - piece.offset])
