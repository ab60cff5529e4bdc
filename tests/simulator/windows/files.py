# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a host: reading and changing them, with access checks, sharing, write protection and free space."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from simulator.clock import SimClock
from simulator.windows import acl, errors, paths
from simulator.windows.access import Guard
from simulator.windows.acl import Acl
from simulator.windows.errors import Win32Error
from simulator.windows.identity import Token
from simulator.windows.resolving import Location, Network, Resolver
from simulator.windows.volumes import Link, Node, Volume, key_of

__all__ = ["Entry", "FileSystem", "Location", "Network", "Resolver"]


@dataclass(frozen=True)
class Entry:
    """One line of a listing. Times are aware, in UTC."""

    name: str
    is_directory: bool
    size: int
    modified: datetime
    created: datetime
    link: Link | None
    read_only: bool
    hidden: bool
    system: bool


class FileSystem(Guard):
    """All volumes and shares of one host.

    ``token`` None in any call means the machinery of the simulator itself: no access check. Refusals are Win32Error.
    ``locked_live_disks``: a running machine's disk cannot be opened by anybody else, as on newer hosts (operations D-21).
    ``note_change`` is told of everything that changes the state of the host.
    """

    def __init__(self, root: Path, clock: SimClock, note_change: Callable[[str], None], *, machine: str = "HOST",
                 domain: str | None = None, network: Network | None = None, locked_live_disks: bool = True) -> None:
        super().__init__(root, machine=machine, domain=domain, network=network)
        self.clock = clock
        self.locked_live_disks = locked_live_disks
        self.on_write: list[Callable[[Volume, int], None]] = []
        """Called with the volume and the number of bytes after each write through this object."""
        self._note = note_change

    # -- looking -----------------------------------------------------------------------------------------------

    def entry(self, place: Location) -> Entry:
        """What a listing says of an existing object."""
        stat = place.real.stat()
        node = place.volume.backing.nodes.get(key_of(place.parts)) or Node()
        modified = datetime.fromtimestamp(stat.st_mtime, UTC)
        return Entry(place.parts[-1] if place.parts else "", place.real.is_dir(), 0 if place.real.is_dir() else stat.st_size, modified,
                     node.created or modified, node.link, node.read_only, node.hidden, node.system)

    def children(self, place: Location, token: Token | None = None) -> Iterator[Location]:
        """The entries of a folder, sorted as NTFS does; links are not followed."""
        self.check(place, acl.READ_DATA, token)
        if not place.real.is_dir():
            raise Win32Error(errors.NOT_A_DIRECTORY, place.path.text())
        backing = place.volume.backing
        names = sorted(((backing.true_name(real.name), real) for real in place.real.iterdir()), key=lambda pair: paths.fold(pair[0]))
        for name, real in names:
            node = backing.nodes.get(key_of((*place.parts, name)))
            yield Location(place.volume, (*place.parts, name), real, True, place.path.child(name), node.link if node else None,
                           place.remote, place.share)

    def exists(self, path: str, *, follow_last: bool = True) -> bool:
        """Whether something is there, for the simulator's own use."""
        try:
            return self.resolve(path, follow_last=follow_last).exists
        except Win32Error:
            return False

    def read_file(self, path: str, token: Token | None = None, current: str = "C:\\") -> bytes:
        """All bytes of a file. Raises Win32Error 2, 3, 5 or 32."""
        place = self.resolve(path, current=current, token=token)
        if not place.exists:
            raise Win32Error(errors.FILE_NOT_FOUND, path)
        if place.is_directory:
            raise Win32Error(errors.ACCESS_DENIED, path)
        self.check(place, acl.READ_DATA, token)
        self.check_readable(place)
        return place.real.read_bytes()

    # -- changing ----------------------------------------------------------------------------------------------

    def stamp(self, place: Location, when: datetime | None = None) -> None:
        """Set the time of the last write, now unless given."""
        seconds = (when or self.clock.now()).timestamp()
        os.utime(place.real, (seconds, seconds))

    def _touch_folder(self, real: Path) -> None:
        """What is added to a folder, renamed in it or taken out of it is a write to the folder."""
        seconds = self.clock.now().timestamp()
        os.utime(real.parent, (seconds, seconds))

    def wrote(self, volume: Volume, count: int) -> None:
        """Bytes were written to a volume: the shadow storage of it fills. Guests may report theirs here, too."""
        for listener in self.on_write:
            listener(volume, count)

    def note(self, text: str) -> None:
        """The state of the host was changed."""
        self._note(text)

    def register_new(self, place: Location, token: Token | None) -> None:
        """A new entry: owner and time of creation."""
        node = place.volume.backing.node(place.parts)
        node.owner = token.owner_sid if token else acl.ADMINISTRATORS
        node.created = self.clock.now()

    def write_file(self, path: str, data: bytes, token: Token | None = None, *, append: bool = False, current: str = "C:\\") -> None:
        """Make or overwrite a file. Raises Win32Error 2, 3, 5, 19, 32, 112 or 123."""
        place = self.open_for_write(path, token, truncate=not append, current=current)
        self.append(place, data)

    def open_for_write(self, path: str, token: Token | None = None, *, truncate: bool = True, current: str = "C:\\") -> Location:
        """Make a file, or empty one that is there."""
        place = self.resolve(path, current=current, token=token)
        if place.exists:
            if place.is_directory:
                raise Win32Error(errors.ACCESS_DENIED, path)
            if place.volume.read_only:
                raise Win32Error(errors.WRITE_PROTECT, path)
            self.check(place, acl.WRITE_DATA, token)
            node = place.volume.backing.nodes.get(key_of(place.parts))
            if node is not None and node.read_only:
                raise Win32Error(errors.ACCESS_DENIED, path)
            if place.volume.backing.handles.get(key_of(place.parts)):
                raise Win32Error(errors.SHARING_VIOLATION, path)
            if truncate:
                place.real.write_bytes(b"")
        else:
            self.check_add(place, acl.ADD_FILE, token)
            place.real.write_bytes(b"")
            self.register_new(place, token)
            self._touch_folder(place.real)
        self.stamp(place)
        self._note(f"write {path}")
        return Location(place.volume, place.parts, place.real, True, place.path, None, place.remote, place.share)

    def append(self, place: Location, data: bytes) -> None:
        """Add bytes to an opened file; 112 when the volume is full, 64 when its server is gone."""
        self.check_connected(place)
        if not place.volume.has_room(len(data)):
            raise Win32Error(errors.DISK_FULL, place.path.text())
        with place.real.open("ab") as stream:
            stream.write(data)
        self.stamp(place)
        self.wrote(place.volume, len(data))

    def create_directory(self, path: str, token: Token | None = None, current: str = "C:\\") -> None:
        """Make one folder. Raises Win32Error 3 (no parent), 183 (exists), 5, 19 or 123."""
        place = self.resolve(path, follow_last=False, current=current, token=token)
        if place.exists:
            raise Win32Error(errors.ALREADY_EXISTS, path)
        self.check_add(place, acl.ADD_FOLDER, token)
        place.real.mkdir()
        self.register_new(place, token)
        self.stamp(place)
        self._touch_folder(place.real)
        self._note(f"create folder {path}")

    def make_link(self, path: str, target: str, kind: str, token: Token | None = None, current: str = "C:\\") -> None:
        """Make a reparse point that holds ``target`` as it was given. 183 when the name is taken, 1314 without the privilege."""
        place = self.resolve(path, follow_last=False, current=current, token=token)
        if place.exists:
            raise Win32Error(errors.ALREADY_EXISTS, path)
        if token is not None and kind != "junction" and not token.elevated:
            raise Win32Error(errors.PRIVILEGE_NOT_HELD, path)
        self.check_add(place, acl.ADD_FILE if kind == "symlink" else acl.ADD_FOLDER, token)
        if kind == "symlink":
            place.real.write_bytes(b"")
        else:
            place.real.mkdir()
        self.register_new(place, token)
        place.volume.backing.node(place.parts).link = Link(kind, target)
        self.stamp(place)
        self._touch_folder(place.real)
        self._note(f"create link {path}")

    def remove_file(self, place: Location, token: Token | None = None, *, force: bool = False) -> None:
        """Remove a file or a link to one; 5 when it is read-only and ``force`` is not set."""
        node = place.volume.backing.nodes.get(key_of(place.parts))
        if node is not None and node.read_only and not force:
            raise Win32Error(errors.ACCESS_DENIED, place.path.text())
        self.check_delete(place, token)
        place.real.unlink()
        self._touch_folder(place.real)
        place.volume.backing.forget(place.parts)
        self._note(f"delete {place.path.text()}")

    def remove_directory(self, place: Location, token: Token | None = None) -> None:
        """Remove an empty folder (145 otherwise), or a link without touching its target."""
        if not place.is_directory:
            raise Win32Error(errors.NOT_A_DIRECTORY, place.path.text())
        if not place.parts:
            raise Win32Error(errors.ACCESS_DENIED, place.path.text())
        if place.link is None and any(place.real.iterdir()):
            raise Win32Error(errors.DIR_NOT_EMPTY, place.path.text())
        self.check_delete(place, token)
        place.real.rmdir()
        self._touch_folder(place.real)
        place.volume.backing.forget(place.parts)
        self._note(f"remove folder {place.path.text()}")

    def rename(self, place: Location, target: Location, token: Token | None = None, *, replace: bool = False) -> None:
        """Move within one volume. 17 for another one, 183 when the name is taken and ``replace`` is not set."""
        if place.volume.backing is not target.volume.backing:
            raise Win32Error(errors.NOT_SAME_DEVICE, place.path.text())
        same = key_of(place.parts) == key_of(target.parts)
        if target.exists and not same:
            if not replace or target.is_directory:
                raise Win32Error(errors.ALREADY_EXISTS, target.path.text())
            self.remove_file(target, token)
        self.check_delete(place, token)
        self.check_add(target, acl.ADD_FOLDER if place.is_directory else acl.ADD_FILE, token)
        new_name = target.path.parts[-1]
        renamed = place.real.rename(target.real.with_name(target.volume.backing.real_name(new_name)))
        self._touch_folder(place.real)
        self._touch_folder(renamed)
        place.volume.backing.move(place.parts, (*target.parts[:-1], new_name))
        self._note(f"rename {place.path.text()}")

    def set_acl(self, place: Location, rules: Acl, token: Token | None = None) -> None:
        """Replace the entries set on an object."""
        if place.volume.read_only:
            raise Win32Error(errors.WRITE_PROTECT, place.path.text())
        self.check(place, acl.WRITE_DAC, token)
        place.volume.backing.node(place.parts).acl = rules
        self._note(f"change access to {place.path.text()}")

    def set_owner(self, place: Location, sid: str, token: Token | None = None) -> None:
        """Give an object to somebody else."""
        if place.volume.read_only:
            raise Win32Error(errors.WRITE_PROTECT, place.path.text())
        if token is not None and not token.elevated:
            self.check(place, acl.WRITE_OWNER, token)
            if sid not in token.sids:
                raise Win32Error(errors.INVALID_OWNER, place.path.text())
        place.volume.backing.node(place.parts).owner = sid
        self._note(f"change owner of {place.path.text()}")
