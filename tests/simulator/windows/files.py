# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a host: paths resolved as Windows does it, operations with access checks, links, shares and free space."""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from simulator.clock import SimClock
from simulator.windows import acl, errors, paths, storage
from simulator.windows.acl import Ace, Acl
from simulator.windows.errors import Win32Error
from simulator.windows.identity import Token, principal_sid
from simulator.windows.paths import WindowsPath
from simulator.windows.spec import ShareSpec, VolumeSpec
from simulator.windows.volumes import Backing, Handle, Key, Link, Node, Volume, key_of

PROGRAM_FILES = ("certutil.exe", "cmd.exe", "findstr.exe", "fsutil.exe", "icacls.exe", "more.com", "robocopy.exe", "where.exe",
                 "whoami.exe")
_LINK_LIMIT = 31


@dataclass(frozen=True)
class Location:
    """Where a path leads. ``parts`` are the names as they stand on disk; ``real`` may not exist yet."""

    volume: Volume
    parts: Key
    real: Path
    exists: bool
    path: WindowsPath
    link: Link | None = None
    """The reparse point at the last component when it was not followed."""
    remote: FileSystem | None = None
    """The other machine, when the path is on a share of one."""
    share: ShareSpec | None = None

    @property
    def relative(self) -> str:
        """The path below the volume root, with backslashes."""
        return "\\".join(self.parts)

    @property
    def is_directory(self) -> bool:
        """An existing folder, or a link to one that was not followed."""
        return self.real.is_dir()


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


class Network:
    """Which machines answer to SMB: the hosts of a fleet and file servers beside it."""

    def __init__(self) -> None:
        self._servers: dict[str, FileSystem] = {}

    def register(self, files: FileSystem, *names: str) -> None:
        """Make the shares of ``files`` reachable under these server names."""
        for name in names:
            self._servers[name.lower()] = files

    def server(self, name: str) -> FileSystem | None:
        """The machine with this name."""
        return self._servers.get(name.lower())


class FileSystem:
    """All volumes and shares of one host.

    ``token`` None in any call means the machinery of the simulator itself: no access check. Refusals are Win32Error.
    ``locked_live_disks``: a running machine's disk cannot be opened by anybody else, as on newer hosts (operations D-21).
    """

    def __init__(self, root: Path, clock: SimClock, note_change: Callable[[str], None], *, machine: str = "HOST",
                 domain: str | None = None, network: Network | None = None, locked_live_disks: bool = True) -> None:
        self.root = root
        self.clock = clock
        self.machine = machine
        self.domain = domain
        self.network = network or Network()
        self.locked_live_disks = locked_live_disks
        self.volumes: list[Volume] = []
        self.shares: dict[str, ShareSpec] = {}
        self.shadow_volumes: dict[int, Volume] = {}
        self.on_write: list[Callable[[Volume, int], None]] = []
        """Called with the volume and the number of bytes after each write through this object."""
        self.before_use: list[Callable[[Volume], None]] = []
        """Called with a volume (not a shadow copy) before something on it is looked at: content may be made late."""
        self._note = note_change
        self.network.register(self, machine, *([f"{machine}.{domain}"] if domain else []))

    # -- volumes and shares ------------------------------------------------------------------------------------

    def add_volume(self, spec: VolumeSpec, backing: Backing | None = None) -> Volume:
        """Mount a volume. ``backing``: that of the same CSV on another node."""
        guid = spec.volume_guid(self.machine)
        if backing is None:
            folder = self.root / guid
            folder.mkdir(parents=True, exist_ok=True)
            backing = Backing(folder)
            backing.nodes[()] = Node(acl=acl.VOLUME_ROOT, owner=acl.ADMINISTRATORS)
        volume = Volume(spec, guid, backing, owned=spec.owned, write_protected=spec.write_protected)
        if spec.letter is None:
            self._mount_folder(volume)
        self.volumes.append(volume)
        if spec.letter == "C:":
            self._system_folders(volume)
        backing.baseline = storage.tree_bytes(backing.root)
        return volume

    def _mount_folder(self, volume: Volume) -> None:
        folder = self._make_folders(volume.mount_path)
        folder.volume.backing.node(folder.parts).link = Link("mount", volume.device_id)

    def _system_folders(self, volume: Volume) -> None:
        for path, rules in (("C:\\Windows\\System32", None), ("C:\\Windows\\Temp", None), ("C:\\Users\\Public", None),
                            ("C:\\ProgramData", acl.PROGRAM_DATA), ("C:\\Windows", acl.SYSTEM_FOLDER)):
            place = self._make_folders(path)
            if rules:
                volume.backing.node(place.parts).acl = rules
        for name in PROGRAM_FILES:
            (volume.root / "Windows" / "System32" / name).write_bytes(b"MZ")

    def _make_folders(self, path: str) -> Location:
        wanted = paths.parse(path)
        for count in range(1, len(wanted.parts) + 1):
            here = self.walk(WindowsPath(wanted.kind, wanted.root, wanted.parts[:count]))
            if not here.exists:
                here.real.mkdir()
        return self.walk(wanted)

    def make_private_folder(self, path: str, token: Token) -> None:
        """A folder of one account, as a profile is: only it, SYSTEM and Administrators get in. Not a change that anybody asked for."""
        place = self._make_folders(path)
        flags = frozenset({"OI", "CI"})
        entries = tuple(Ace(sid, acl.FULL, flags) for sid in dict.fromkeys((acl.SYSTEM, acl.ADMINISTRATORS, token.sid)))
        place.volume.backing.node(place.parts).acl = Acl(entries, protected=True)
        place.volume.backing.node(place.parts).owner = token.sid

    def add_share(self, spec: ShareSpec) -> None:
        """Share a folder, which is made when it does not exist; its principals get full control of it."""
        self.shares[spec.name.lower()] = spec
        place = self._make_folders(spec.path)
        sids = [sid for sid in (principal_sid(name, self.machine) for name in spec.grants) if sid]
        node = place.volume.backing.node(place.parts)
        node.acl = node.acl.plus(Ace(sid, acl.FULL, frozenset({"OI", "CI"})) for sid in sids)

    def count_as_old(self, path: str) -> None:
        """A file made just now was there before the start: it does not lessen the free space of the description."""
        place = self.resolve(path)
        place.volume.backing.baseline += place.real.stat().st_size

    def volume_of(self, text: str) -> Volume | None:
        r"""The volume that is mounted exactly at ``text`` (``D:\``, ``C:\Mounts\X\``, ``\\?\Volume{guid}\``)."""
        wanted = text.lower()
        found = next((v for v in self.volumes if wanted in (v.mount_path.lower(), v.device_id.lower())), None)
        if found is not None:
            self._announce(found)
        return found

    def announce_all(self) -> None:
        """All volumes are about to be looked at."""
        for volume in self.volumes:
            self._announce(volume)

    def _announce(self, volume: Volume) -> None:
        for prepare in self.before_use:
            prepare(volume)

    # -- resolving ---------------------------------------------------------------------------------------------

    def resolve(self, path: str, *, follow_last: bool = True, current: str = "C:\\") -> Location:
        """Where ``path`` leads. Raises Win32Error 2, 3, 53, 67, 123 or 1921."""
        return self.walk(paths.parse(path, current), follow_last)

    def real_path(self, path: str) -> Path:
        """The real file or folder behind ``path``, links followed."""
        return self.resolve(path).real

    def walk(self, path: WindowsPath, follow_last: bool = True, depth: int = 0) -> Location:
        """Where a parsed path leads."""
        if depth > _LINK_LIMIT:
            raise Win32Error(errors.CANT_RESOLVE, path.text())
        volume, base, remote, share = self._start(path, depth)
        if volume.shadow_number is None:
            self._announce(volume)
        if path.raw_device:  # a device is not a folder: a link to it is dead (operations 5.5, F-36)
            raise Win32Error(errors.PATH_NOT_FOUND, path.text())
        real, parts = base.real, base.parts
        backing = volume.backing
        for index, name in enumerate(path.parts):
            last = index == len(path.parts) - 1
            if not real.is_dir():
                raise Win32Error(errors.PATH_NOT_FOUND, path.text())
            found = backing.find(real, name)
            if found is None:
                if not last:
                    raise Win32Error(errors.PATH_NOT_FOUND, path.text())
                return Location(volume, (*parts, name), real / backing.real_name(name), False, path, None, remote, share)
            parts, real = (*parts, found[0]), found[1]
            node = backing.nodes.get(key_of(parts))
            if node is not None and node.link is not None:
                if last and not follow_last:
                    return Location(volume, parts, real, True, path, node.link, remote, share)
                return self._follow(node.link, path, index, follow_last, depth, remote)
        return Location(volume, parts, real, True, path, None, remote, share)

    def _follow(self, link: Link, path: WindowsPath, index: int, follow_last: bool, depth: int, remote: FileSystem | None) -> Location:
        here = WindowsPath(path.kind, path.root, path.parts[:index])
        target = paths.parse(link.target, here.text())
        onward = WindowsPath(target.kind, target.root, (*target.parts, *path.parts[index + 1:]), target.raw_device, True)
        if remote is not None and target.kind != "unc":
            there = remote.walk(onward, follow_last, depth + 1)
            return Location(there.volume, there.parts, there.real, there.exists, path, there.link, remote, None)
        return self.walk(onward, follow_last, depth + 1)

    def _start(self, path: WindowsPath, depth: int) -> tuple[Volume, Location, FileSystem | None, ShareSpec | None]:
        """The volume a path begins on, and the folder there."""
        volume: Volume | None
        if path.kind == "unc":
            return self._start_share(path, depth)
        if path.kind == "shadow":
            volume = self.shadow_volumes.get(int(path.root))
            missing = errors.FILE_NOT_FOUND
        elif path.kind == "volume":
            volume = next((v for v in self.volumes if v.guid == path.root), None)
            missing = errors.FILE_NOT_FOUND
        else:
            volume = next((v for v in self.volumes if v.spec.letter == path.root), None)
            missing = errors.PATH_NOT_FOUND
        if volume is None:
            raise Win32Error(missing, path.text())
        return volume, Location(volume, (), volume.root, True, path), None, None

    def _start_share(self, path: WindowsPath, depth: int) -> tuple[Volume, Location, FileSystem | None, ShareSpec | None]:
        server, _, name = path.root.partition("\\")
        files = self.network.server(server)
        if files is None:
            raise Win32Error(errors.BAD_NETPATH, path.text())
        share = files.shares.get(name.lower())
        if share is None:
            raise Win32Error(errors.BAD_NET_NAME, path.text())
        base = files.walk(paths.parse(share.path), True, depth + 1)
        return base.volume, base, (None if files is self else files), share

    # -- access ------------------------------------------------------------------------------------------------

    def effective_acl(self, place: Location) -> list[Ace]:
        """The entries set on an object and those that come from above."""
        return self._effective(place.volume, place.parts, place.is_directory)

    def _effective(self, volume: Volume, parts: Key, is_folder: bool) -> list[Ace]:
        node = volume.backing.nodes.get(key_of(parts)) or Node()
        result = list(node.acl.entries)
        if parts and not node.acl.protected:
            for ace in self._effective(volume, parts[:-1], True):
                result.extend(ace.passed_on(is_folder, node.owner or acl.ADMINISTRATORS))
        return result

    def owner(self, place: Location) -> str:
        """The SID of the owner."""
        node = place.volume.backing.nodes.get(key_of(place.parts))
        return (node.owner if node else None) or acl.ADMINISTRATORS

    def may(self, place: Location, mask: int, token: Token | None) -> bool:
        """Whether a token has all of ``mask`` on an existing object."""
        if token is None:
            return True
        sids = token.sids
        if place.remote is not None:
            remote_sids = self._remote_sids(place, token)
            if remote_sids is None:
                return False
            sids = remote_sids
        have = acl.granted(self._effective(place.volume, place.parts, place.is_directory), sids, self.owner(place))
        return have & mask == mask

    def _remote_sids(self, place: Location, token: Token) -> frozenset[str] | None:
        """Who the other machine takes the caller for; None: nobody, or somebody whom the share does not admit (wire 7.4)."""
        if token.network_identity is None or place.remote is None:
            return None
        own = principal_sid(token.network_identity, place.remote.machine)
        sids = {sid for sid in (own, acl.EVERYONE, acl.AUTHENTICATED_USERS) if sid}
        if place.share is not None:
            granted = {principal_sid(name, place.remote.machine) for name in place.share.grants}
            if not granted & sids:
                return None
        return frozenset(sids)

    def check(self, place: Location, mask: int, token: Token | None) -> None:
        """Refuse with 5 what a token may not do."""
        if not self.may(place, mask, token):
            raise Win32Error(errors.ACCESS_DENIED, place.path.text())

    def parent(self, place: Location) -> Location:
        """The folder that holds an entry."""
        real = place.real.parent
        above = WindowsPath(place.path.kind, place.path.root, place.path.parts[:-1], verbatim=place.path.verbatim)
        return Location(place.volume, place.parts[:-1], real, True, above, None, place.remote, place.share)

    def check_add(self, place: Location, mask: int, token: Token | None) -> None:
        """Refuse a new entry: write protection 19, no right 5."""
        if place.volume.read_only:
            raise Win32Error(errors.WRITE_PROTECT, place.path.text())
        self.check(self.parent(place), mask, token)

    def check_delete(self, place: Location, token: Token | None) -> None:
        """Refuse the removal or renaming of an entry: 19, 5 or 32."""
        if place.volume.read_only:
            raise Win32Error(errors.WRITE_PROTECT, place.path.text())
        if not (self.may(place, acl.DELETE, token) or self.may(self.parent(place), acl.DELETE_CHILD, token)):
            raise Win32Error(errors.ACCESS_DENIED, place.path.text())
        if any(key[:len(place.parts)] == key_of(place.parts) for key in place.volume.backing.handles):
            raise Win32Error(errors.SHARING_VIOLATION, place.path.text())

    # -- open files --------------------------------------------------------------------------------------------

    def hold(self, place: Location, owner: str, *, share_read: bool, share_write: bool = False, writes: bool = False) -> Handle:
        """Open a file, against the sharing of those who have it open (32)."""
        others = place.volume.backing.handles.get(key_of(place.parts), [])
        for other in others:
            if not other.share_read or (writes and not other.share_write) or (other.writes and not share_write):
                raise Win32Error(errors.SHARING_VIOLATION, place.path.text())
        handle = Handle(owner, share_read, share_write, writes)
        place.volume.backing.handles.setdefault(key_of(place.parts), []).append(handle)
        return handle

    def release(self, place: Location, handle: Handle) -> None:
        """Close it."""
        key = key_of(place.parts)
        left = [other for other in place.volume.backing.handles.get(key, []) if other is not handle]
        if left:
            place.volume.backing.handles[key] = left
        else:
            place.volume.backing.handles.pop(key, None)

    def hold_live_disk(self, path: str, owner: str) -> Callable[[], None]:
        """A running machine has its disk open. Returns what closes it again."""
        place = self.resolve(path)
        handle = Handle(owner, not self.locked_live_disks, False, True)
        place.volume.backing.handles.setdefault(key_of(place.parts), []).append(handle)
        return lambda: self.release(place, handle)

    def check_readable(self, place: Location) -> None:
        """Refuse with 32 to read a file that somebody has open for himself."""
        if any(not handle.share_read for handle in place.volume.backing.handles.get(key_of(place.parts), [])):
            raise Win32Error(errors.SHARING_VIOLATION, place.path.text())

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
        place = self.resolve(path, current=current)
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
        place = self.resolve(path, current=current)
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
        self.stamp(place)
        self._note(f"write {path}")
        return Location(place.volume, place.parts, place.real, True, place.path, None, place.remote, place.share)

    def append(self, place: Location, data: bytes) -> None:
        """Add bytes to an opened file; 112 when the volume is full."""
        if len(data) > place.volume.free_bytes:
            raise Win32Error(errors.DISK_FULL, place.path.text())
        with place.real.open("ab") as stream:
            stream.write(data)
        self.stamp(place)
        self.wrote(place.volume, len(data))

    def create_directory(self, path: str, token: Token | None = None, current: str = "C:\\") -> None:
        """Make one folder. Raises Win32Error 3 (no parent), 183 (exists), 5, 19 or 123."""
        place = self.resolve(path, follow_last=False, current=current)
        if place.exists:
            raise Win32Error(errors.ALREADY_EXISTS, path)
        self.check_add(place, acl.ADD_FOLDER, token)
        place.real.mkdir()
        self.register_new(place, token)
        self.stamp(place)
        self._note(f"create folder {path}")

    def make_link(self, path: str, target: str, kind: str, token: Token | None = None, current: str = "C:\\") -> None:
        """Make a reparse point that holds ``target`` as it was given. 183 when the name is taken, 1314 without the privilege."""
        place = self.resolve(path, follow_last=False, current=current)
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
        self._note(f"create link {path}")

    def remove_file(self, place: Location, token: Token | None = None, *, force: bool = False) -> None:
        """Remove a file or a link to one; 5 when it is read-only and ``force`` is not set."""
        node = place.volume.backing.nodes.get(key_of(place.parts))
        if node is not None and node.read_only and not force:
            raise Win32Error(errors.ACCESS_DENIED, place.path.text())
        self.check_delete(place, token)
        place.real.unlink()
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
        place.real.rename(target.real.with_name(target.volume.backing.real_name(new_name)))
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
