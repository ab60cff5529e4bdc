# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what with a file: access lists, identities on other machines, and files that are in use."""
from __future__ import annotations

from collections.abc import Callable

from simulator.windows import acl, errors
from simulator.windows.acl import Ace
from simulator.windows.errors import Win32Error
from simulator.windows.identity import Token
from simulator.windows.paths import WindowsPath
from simulator.windows.resolving import Location, Resolver
from simulator.windows.volumes import Handle, Key, Node, Volume, key_of


class Guard(Resolver):
    """Adds access checks and open files. ``locked_live_disks``: see FileSystem."""

    locked_live_disks: bool = True

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
        sids: frozenset[str] | None = token.sids
        if place.share is not None:
            try:
                sids = self.admit(place.remote, place.share, token, place.path)
            except Win32Error:
                return False
        elif place.remote is not None:  # a link on a share leads on within the other machine
            sids = place.remote.sids_of_caller(token)
        if sids is None:
            return False
        have = acl.granted(self._effective(place.volume, place.parts, place.is_directory), sids, self.owner(place))
        return have & mask == mask

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
