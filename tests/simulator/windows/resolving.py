# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which volume and which file a Windows path leads to: volumes, mount points, links, shares and shadow copies."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from simulator.windows import acl, errors, paths, storage
from simulator.windows.acl import Ace, Acl
from simulator.windows.errors import Win32Error
from simulator.windows.identity import Token, principal_sid
from simulator.windows.paths import WindowsPath
from simulator.windows.spec import ShareSpec, VolumeSpec
from simulator.windows.volumes import Backing, Key, Link, Node, Volume, key_of

PROGRAM_FILES = ("certutil.exe", "chcp.com", "cmd.exe", "diskshadow.exe", "fc.exe", "findstr.exe", "fsutil.exe", "icacls.exe", "more.com",
                 "netsh.exe", "robocopy.exe", "vssadmin.exe", "where.exe", "whoami.exe")
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
    remote: Resolver | None = None
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


class Gatekeeper(Protocol):
    """Whom a machine takes a caller from the network for."""

    def sids_of(self, identity: str, password: str | None) -> frozenset[str] | None:
        """The SIDs of a caller who says to be ``identity``; None when the machine does not know it or the password is wrong."""


class Network:
    """Which machines answer to SMB: the hosts of a fleet and file servers beside it."""

    def __init__(self) -> None:
        self._servers: dict[str, Resolver] = {}
        self._down: set[int] = set()

    def take_down(self, name: str) -> None:
        """The machine no longer answers: 53 for new accesses, 64 in the middle of one. KeyError: no such machine."""
        self._down.add(id(self._servers[name.lower()]))

    def bring_up(self, name: str) -> None:
        """It answers again."""
        self._down.discard(id(self._servers[name.lower()]))

    def answers(self, files: Resolver) -> bool:
        """Whether a machine can be reached now."""
        return id(files) not in self._down

    def register(self, files: Resolver, *names: str) -> None:
        """Make the shares of ``files`` reachable under these server names."""
        for name in names:
            self._servers[name.lower()] = files

    def server(self, name: str) -> Resolver | None:
        """The machine with this name, if it answers."""
        found = self._servers.get(name.lower())
        return found if found is not None and self.answers(found) else None


class Resolver:
    """The volumes and shares of one host, and the way from a path to a file."""

    def __init__(self, root: Path, *, machine: str, domain: str | None, network: Network | None) -> None:
        self.root = root
        self.machine = machine
        self.domain = domain
        self.network = network or Network()
        self.volumes: list[Volume] = []
        self.shares: dict[str, ShareSpec] = {}
        self.shadow_volumes: dict[int, Volume] = {}
        self.exposed: dict[str, Volume] = {}
        """Shadow copies that are shown as drives, by letter (``X:``)."""
        self.before_use: list[Callable[[Volume], None]] = []
        """Called with a volume (not a shadow copy) before something on it is looked at: content may be made late."""
        self.gatekeeper: Gatekeeper | None = None
        """None: every name that a caller has is believed."""
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
        """Share a folder, which is made when it does not exist; its principals get full control of it, its readers may read."""
        self.shares[spec.name.lower()] = spec
        place = self._make_folders(spec.path)
        node = place.volume.backing.node(place.parts)
        for names, mask in ((spec.grants, acl.FULL), (spec.readers, acl.READ_EXECUTE)):
            sids = [sid for sid in (principal_sid(name, self.machine) for name in names) if sid]
            node.acl = node.acl.plus(Ace(sid, mask, frozenset({"OI", "CI"})) for sid in sids)

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

    def resolve(self, path: str, *, follow_last: bool = True, current: str = "C:\\", token: Token | None = None) -> Location:
        """Where ``path`` leads. Raises Win32Error 2, 3, 53, 67, 123 or 1921; with a ``token`` also what the share refuses (5, 1326)."""
        return self.walk(paths.parse(path, current), follow_last, token=token)

    def real_path(self, path: str) -> Path:
        """The real file or folder behind ``path``, links followed."""
        return self.resolve(path).real

    def walk(self, path: WindowsPath, follow_last: bool = True, depth: int = 0, token: Token | None = None) -> Location:
        """Where a parsed path leads."""
        if depth > _LINK_LIMIT:
            raise Win32Error(errors.CANT_RESOLVE, path.text())
        volume, base, remote, share = self._start(path, depth)
        if share is not None and token is not None:
            self.admit(remote, share, token, path)
        if volume.shadow_number is None:
            self._announce(volume)
        if path.raw_device:  # a device is not a folder: a link to it is dead (operations 5.5, F-36)
            raise Win32Error(errors.PATH_NOT_FOUND, path.text())
        real, parts = base.real, base.parts
        backing = volume.backing
        for index, name in enumerate(path.parts):
            last = index == len(path.parts) - 1
            found = backing.find(real, name)
            if found is None:
                if not last or not real.is_dir():
                    raise Win32Error(errors.PATH_NOT_FOUND, path.text())
                return Location(volume, (*parts, name), real / backing.real_name(name), False, path, None, remote, share)
            parts, real = (*parts, found[0]), found[1]
            node = backing.nodes.get(key_of(parts))
            if node is not None and node.link is not None:
                if last and not follow_last:
                    return Location(volume, parts, real, True, path, node.link, remote, share)
                return self._follow(node.link, path, index, follow_last, depth, remote, token)
        return Location(volume, parts, real, True, path, None, remote, share)

    def _follow(self, link: Link, path: WindowsPath, index: int, follow_last: bool, depth: int, remote: Resolver | None,
                token: Token | None) -> Location:
        here = WindowsPath(path.kind, path.root, path.parts[:index])
        target = paths.parse(link.target, here.text())
        onward = WindowsPath(target.kind, target.root, (*target.parts, *path.parts[index + 1:]), target.raw_device, True)
        if remote is not None and target.kind != "unc":
            there = remote.walk(onward, follow_last, depth + 1)
            return Location(there.volume, there.parts, there.real, there.exists, path, there.link, remote, None)
        return self.walk(onward, follow_last, depth + 1, token)

    def _start(self, path: WindowsPath, depth: int) -> tuple[Volume, Location, Resolver | None, ShareSpec | None]:
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
            volume = next((v for v in self.volumes if v.spec.letter == path.root), None) or self.exposed.get(path.root)
            missing = errors.PATH_NOT_FOUND
        if volume is None:
            raise Win32Error(missing, path.text())
        return volume, Location(volume, (), volume.root, True, path), None, None

    def administrative_share(self, name: str) -> ShareSpec | None:
        """``C$`` and the like, for administrators."""
        letter = name[0].upper() + ":" if len(name) == 2 and name[1] == "$" else ""
        known = any(volume.spec.letter == letter for volume in self.volumes)
        return ShareSpec(name, letter + "\\", ("Administrators",)) if known else None

    def _start_share(self, path: WindowsPath, depth: int) -> tuple[Volume, Location, Resolver | None, ShareSpec | None]:
        server, _unused, name = path.root.partition("\\")
        files = self.network.server(server)
        if files is None:
            raise Win32Error(errors.BAD_NETPATH, path.text())
        share = files.shares.get(name.lower()) or files.administrative_share(name)
        if share is None:
            raise Win32Error(errors.BAD_NET_NAME, path.text())
        base = files.walk(paths.parse(share.path), True, depth + 1)
        return base.volume, base, (None if files is self else files), share

    # -- who comes over the network ----------------------------------------------------------------------------

    def admit(self, remote: Resolver | None, share: ShareSpec, token: Token, path: WindowsPath) -> frozenset[str]:
        """The SIDs that a token has at a share of this machine (``remote`` None) or of another one (wire 7.4).

        Win32Error 5 for nobody (a log-on without credentials for a third machine, or SYSTEM in a workgroup) and for whom the share
        does not admit; 1326 for an account that the other machine does not know, as a NAS does not know computer accounts.
        """
        sids = token.sids
        machine = self.machine if remote is None else remote.machine
        if remote is not None:
            if token.network_identity is None:
                raise Win32Error(errors.ACCESS_DENIED, path.text())
            known = remote.sids_of_caller(token)
            if known is None:
                raise Win32Error(errors.LOGON_FAILURE, path.text())
            sids = known
        if not {principal_sid(name, machine) for name in (*share.grants, *share.readers, *share.admitted)} & sids:
            raise Win32Error(errors.ACCESS_DENIED, path.text())
        return sids

    def sids_of_caller(self, token: Token) -> frozenset[str] | None:
        """Whom this machine takes a caller from another one for; None: nobody it knows."""
        identity = token.network_identity
        if identity is None:
            return None
        if self.gatekeeper is not None:
            return self.gatekeeper.sids_of(identity, token.network_password)
        own = principal_sid(identity, self.machine)
        return frozenset(sid for sid in (own, acl.EVERYONE, acl.AUTHENTICATED_USERS) if sid)

    def check_connected(self, place: Location) -> None:
        """Refuse with 64 to go on with a file of a machine that no longer answers."""
        if place.remote is not None and not self.network.answers(place.remote):
            raise Win32Error(errors.NETNAME_DELETED, place.path.text())
