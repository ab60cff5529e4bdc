# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real bytes for virtual disks: a file is made when somebody first needs it, so that thousands of machines cost nothing."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from simulator.disks.files import DiskFile, ParentFile, ensure
from simulator.disks.images import inspect_image
from simulator.hyperv import ids
from simulator.hyperv.model import (
    FORMAT_VHD,
    KIND_DIFFERENCING,
    KIND_DYNAMIC,
    KIND_FIXED,
    SMALL_STATE,
    Configuration,
    Machine,
    VhdFile,
    format_of,
)
from simulator.windows.errors import DISK_FULL, FILE_EXISTS, PATH_NOT_FOUND, Win32Error
from simulator.windows.files import Location
from simulator.windows.volumes import Volume, key_of

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV


@dataclass(frozen=True)
class DiskFacts:
    """What the image service tells of a file. Sizes in bytes; ``parent_id`` is what the parent must have."""

    path: str
    kind: int
    format: int
    virtual_size: int
    file_size: int
    block_size: int
    disk_id: str
    parent_path: str | None = None
    parent_id: str | None = None
    logical_sector: int = 512
    physical_sector: int = 4096


def system_files(configuration: Configuration) -> list[tuple[str, int]]:
    """The configuration files of a machine or checkpoint: Windows path and bytes (operations 0.6)."""
    machine, checkpoint = configuration.machine, configuration.checkpoint
    folder = f"{machine.snapshot_folder}\\Snapshots" if checkpoint else f"{machine.folder}\\Virtual Machines"
    saved = checkpoint.saved if checkpoint else machine.state == "saved"
    state = checkpoint.state_bytes if checkpoint else machine.state_bytes
    return named_system_files(folder, configuration.id, machine.version, state if saved else None)


def named_system_files(folder: str, guid: str, version: str, state: int | None) -> list[tuple[str, int]]:
    """The same for a configuration by its parts; ``state``: bytes of its saved memory, None without one. The definition comes first."""
    base = f"{folder}\\{guid}"
    major, _unused, minor = version.partition(".")
    if (int(major), int(minor or 0)) < (6, 2):
        memory = f"{base}\\{guid}"
        return [(f"{base}.xml", 40960)] + ([] if state is None else
                                           [(f"{memory}.bin", max(65536, state - SMALL_STATE)), (f"{memory}.vsv", SMALL_STATE)])
    files = [(f"{base}.vmcx", 49152), (f"{base}.vmrs", 65536 if state is None else state)]
    return [*files, (f"{base}.vmgs", 4194304)] if int(major) >= 9 else files


class DiskStore:
    """Makes and reads the files of one host's machines."""

    def __init__(self, role: HyperV) -> None:
        self._role = role
        self._empty_sizes: dict[tuple[int, int, int, int], int] = {}
        self._held: dict[str, list[Callable[[], None]]] = {}
        self._system_made: set[str] = set()
        self._done: set[int] = set()
        self._busy = False
        role.host.files.before_use.append(self.before_use)

    # -- making ----------------------------------------------------------------------------------------------------

    def materialise(self, file: VhdFile) -> Path | None:
        """The real file, made when it does not exist yet, parents first. None: the description says that it is missing."""
        if not file.exists:
            return None
        if file.parent is not None:
            self.materialise(file.parent)
        with self.working():
            if file.made:
                return self._role.host.files.resolve(file.path).real
            place = self.place(file.path)
            file.made = True
            if not place.exists:
                self._write(file, place.real)
                self._finish(file.path)
        return place.real

    def _finish(self, path: str) -> None:
        """The file was there before the start: its time and the free space say so."""
        files = self._role.host.files
        files.stamp(files.resolve(path), self._role.started)
        files.count_as_old(path)

    def place(self, path: str) -> Location:
        """Where a path leads, its folders made. Win32Error: the volume or server does not exist."""
        files = self._role.host.files
        try:
            return files.resolve(path)
        except Win32Error as error:
            if error.code != PATH_NOT_FOUND:
                raise
        for parent in list(PureWindowsPath(path).parents)[::-1]:
            here = files.resolve(str(parent))
            if not here.exists:
                here.real.mkdir()
        return files.resolve(path)

    def _write(self, file: VhdFile, real: Path) -> None:
        parent = None
        if file.kind == KIND_DIFFERENCING and file.parent is not None:
            parent = ParentFile(self._role.host.files.resolve(file.parent.path).real, file.parent.path)
        ensure(real, _description(file, parent))

    def materialise_machine(self, machine: Machine) -> None:
        """All files of a machine: chains of the running state and of every checkpoint, configuration files, images."""
        for configuration in machine.configurations():
            for disk in configuration.disks:
                file = configuration.file_of(disk)
                if file is not None:
                    self.materialise(file)
            for path, size in system_files(configuration) if not machine.planned else ():
                self._make_plain(path, size)
        for disk in machine.disks:
            if disk.medium in ("dvd", "floppy") and disk.spec.path and disk.spec.exists:
                self._make_plain(disk.spec.path, 65536)
        self.hold(machine)

    def _make_plain(self, path: str, size: int) -> None:
        if path.lower() in self._system_made:
            return
        self._system_made.add(path.lower())
        with self.working():
            place = self.place(path)
            if not place.exists:
                with place.real.open("wb") as out:
                    out.write(path.encode("utf-16-le")[:size])
                    out.truncate(size)
                self._finish(path)

    def materialise_all(self) -> None:
        """All files of all machines of the host. Win32Error: one of them is on a volume that does not exist."""
        for machine in (*self._role.machines.values(), *self._role.planned.values()):
            self.materialise_machine(machine)

    def before_use(self, volume: Volume) -> None:
        """Somebody looks at a volume: what the machines of this host (and its cluster) have there must exist."""
        if self._busy or id(volume.backing) in self._done:
            return
        self.materialise_volume(volume)
        cluster = self._role.cluster
        for other in cluster.roles.values() if cluster is not None and volume.filesystem == "CSVFS" else ():
            other.disks.materialise_volume(volume)

    def new_machine(self) -> None:
        """A machine was added: volumes that were complete may not be any more."""
        self._done.clear()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Our own look-ups do not call for more files."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before

    def materialise_volume(self, volume: Volume) -> None:
        """All files of the machines that have something on a volume."""
        if id(volume.backing) in self._done:
            return
        self._done.add(id(volume.backing))
        with self.working():
            for machine in (*self._role.machines.values(), *self._role.planned.values()):
                if self._touches(machine, volume):
                    self.materialise_quietly(machine)

    def materialise_quietly(self, machine: Machine) -> None:
        """All files of a machine that are on volumes of the simulation."""
        try:
            self.materialise_machine(machine)
        except Win32Error:  # a file server that is not part of the simulation; the file stays a description
            return

    def _touches(self, machine: Machine, volume: Volume) -> bool:
        paths = {machine.folder, machine.snapshot_folder}
        for configuration in machine.configurations():
            paths |= {f.path for d in configuration.disks for f in ((configuration.file_of(d)),) if f}
        return any(self._volume(path) is volume.backing for path in paths)

    def _volume(self, path: str) -> object:
        files = self._role.host.files
        found: object = None
        for parent in [*list(PureWindowsPath(path).parents)[::-1], PureWindowsPath(path)]:
            try:
                here = files.resolve(str(parent))
            except Win32Error:
                break
            found = here.volume.backing
            if not here.exists:
                break
        return found

    # -- changing --------------------------------------------------------------------------------------------------

    def add_child(self, file: VhdFile) -> None:
        """Make the real file of a new differencing disk; its parent exists. Win32Error 112: the volume is full; 80: it exists."""
        with self.working():
            place = self.place(file.path)
            if place.exists:
                raise Win32Error(FILE_EXISTS, file.path)
            room = place.volume.free_bytes
            self._write(file, place.real)
            if place.real.stat().st_size > room:
                place.real.unlink()
                raise Win32Error(DISK_FULL, file.path)
            self._new(place)
            file.made = True
        self._role.register_file(file)

    def _new(self, place: Location) -> None:
        """A file that was not there at the start, or has another size since."""
        files = self._role.host.files
        files.register_new(place, None)
        files.stamp(place)
        files.wrote(place.volume, place.real.stat().st_size)

    def remove(self, path: str) -> None:
        """Remove a file, if it is there. Win32Error 32: somebody has it open."""
        files = self._role.host.files
        with self.working():
            if files.exists(path):
                files.remove_file(files.resolve(path), force=True)
        self._role.forget_file(path)

    def is_there(self, file: VhdFile) -> bool:
        """Whether the real file exists; one that is not made yet does as soon as somebody looks."""
        with self.working():
            return file.exists and (not file.made or self._role.host.files.exists(file.path))

    def check_room(self, path: str, size: int) -> None:
        """Win32Error 112: the volume of a path has less room than this."""
        with self.working():
            if size > self.place(path).volume.free_bytes:
                raise Win32Error(DISK_FULL, path)

    def room(self, path: str) -> int:
        """Free bytes of the volume that an existing file is on."""
        with self.working():
            return self._role.host.files.resolve(path).volume.free_bytes

    def wrote(self, path: str, count: int) -> None:
        """A file grew by so many bytes."""
        with self.working():
            files = self._role.host.files
            place = files.resolve(path)
            files.stamp(place)
            files.wrote(place.volume, count)

    def add_system_files(self, configuration: Configuration) -> None:
        """Make the files of a configuration that are new, and bring those that changed their size to it. Win32Error 112."""
        with self.working():
            for path, size in system_files(configuration):
                self._system_made.add(path.lower())
                place = self.place(path)
                before = place.real.stat().st_size if place.exists else 0
                if size - before > place.volume.free_bytes:
                    raise Win32Error(DISK_FULL, path)
                if size != before:
                    with place.real.open("r+b" if place.exists else "wb") as out:
                        out.truncate(size)
                    self._new(place)

    def remove_system_files(self, configuration: Configuration) -> None:
        """Remove the files of a configuration that is gone."""
        for path, _unused in system_files(configuration):
            self._system_made.discard(path.lower())
            self.remove(path)

    def is_open(self, path: str, *, but: str, at_all: bool = False) -> bool:
        """Whether anybody else than ``but`` has a file open in a way that does not let it be changed, or ``at_all``."""
        with self.working():
            place = self._role.host.files.resolve(path)
        handles = place.volume.backing.handles.get(key_of(place.parts), [])
        return any(handle.owner != but and (at_all or not handle.share_write) for handle in handles)

    def is_kept(self, path: str, *, but: str) -> bool:
        """Whether anybody else than ``but`` has a file open in a way that does not let it be read."""
        with self.working():
            place = self._role.host.files.resolve(path)
        handles = place.volume.backing.handles.get(key_of(place.parts), [])
        return any(handle.owner != but and not handle.share_read for handle in handles)

    # -- open files ------------------------------------------------------------------------------------------------

    def hold(self, machine: Machine) -> None:
        """A machine that runs has its leaves open; one that does not has them closed."""
        self.release(machine)
        if not machine.live:
            return
        with self.working():
            self._held[machine.id] = self._open_leaves(machine)

    def release(self, machine: Machine) -> None:
        """Close what a machine has open."""
        for release in self._held.pop(machine.id, []):
            release()

    def _open_leaves(self, machine: Machine) -> list[Callable[[], None]]:
        leaves = [disk.leaf for disk in machine.disks if disk.leaf is not None and disk.leaf.made]
        return [self._role.host.files.hold_live_disk(leaf.path, worker(machine)) for leaf in leaves]

    # -- reading ---------------------------------------------------------------------------------------------------

    def facts(self, path: str) -> DiskFacts | None:
        """What the image service reads from a file; None: there is no such file. Win32Error, VhdxError, ValueError."""
        with self.working():
            return self._facts(path)

    def _facts(self, path: str) -> DiskFacts | None:
        file = self._role.file(path)
        if file is None:
            place = self._role.host.files.resolve(path)
            return self._read(path, place.real) if place.exists and place.real.is_file() else None
        if not file.exists:
            return None
        if not file.made and file.kind != KIND_DIFFERENCING and not file.content:
            return self._from_description(file)
        try:
            real = self.materialise(file)
        except Win32Error:
            return self._from_description(file)
        if real is None or not real.exists():
            return None
        return self._read(file.path, real)

    def _from_description(self, file: VhdFile) -> DiskFacts:
        parent = file.parent
        return DiskFacts(file.path, file.kind, file.format, file.size, self._empty_size(file), block_size_of(file), file.disk_id,
                         parent.path if parent else None, ids.derive(parent.path, "data") if parent else None,
                         physical_sector=512 if file.format == FORMAT_VHD else 4096)

    def _empty_size(self, file: VhdFile) -> int:
        """The length a new file of this form has, measured once."""
        if file.format == FORMAT_VHD:
            return file.size + 512
        shape = (KIND_FIXED if file.kind == KIND_FIXED else KIND_DYNAMIC, file.size, file.block_size, file.format)
        if shape not in self._empty_sizes:
            scratch = self._role.host.files.root / f".measure-{ids.derive(self._role.name, *shape)}.vhdx"
            ensure(scratch, _description(file))
            self._empty_sizes[shape] = scratch.stat().st_size
            scratch.unlink()
        return self._empty_sizes[shape]

    def _read(self, path: str, real: Path) -> DiskFacts:
        info = inspect_image(real)
        if info.format != format_of(path):
            raise ValueError(f"{real.name} is not what its name says")
        return DiskFacts(path, info.kind, info.format, info.virtual_size, info.file_size, info.block_size, str(info.disk_id).upper(),
                         info.parent_windows_path, None if info.parent_id is None else str(info.parent_id).upper(),
                         info.logical_sector_size, info.physical_sector_size)

    def write_id(self, path: str) -> str | None:
        """The DataWriteGuid of an existing VHDX, which its children name as the parent's; None for other formats."""
        if not path.lower().endswith((".vhdx", ".avhdx")):
            return None
        with self.working():
            file = self._role.file(path)
            real = self.materialise(file) if file is not None else self._role.host.files.resolve(path).real
        if real is None:
            return None
        return str(inspect_image(real).data_write_guid)

    def find_parent(self, windows_path: str) -> Path | None:
        """A parent locator's path on this host."""
        try:
            place = self._role.host.files.resolve(windows_path)
        except Win32Error:
            return None
        return place.real if place.exists else None


def worker(machine: Machine) -> str:
    """The owner of the files that a running machine has open."""
    return f"vmwp {machine.id}"


def block_size_of(file: VhdFile) -> int:
    """BlockSize as reported: the older format has none here."""
    return 0 if file.format == FORMAT_VHD else file.block_size


def _description(file: VhdFile, parent: ParentFile | None = None) -> DiskFile:
    """How the disk part makes it; without a ``parent`` a disk that stands alone. A disk in the older format is always a fixed one."""
    if file.format == FORMAT_VHD:
        return DiskFile("vhd", file.size, disk_id=UUID(file.disk_id), content=file.content)
    if parent is not None:
        return DiskFile("differencing", parent=parent, content=file.content)
    kind: Literal["fixed", "dynamic"] = "fixed" if file.kind == KIND_FIXED else "dynamic"
    return DiskFile(kind, file.size, file.block_size, UUID(file.disk_id), content=file.content)
