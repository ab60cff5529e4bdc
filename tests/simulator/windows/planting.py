# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as another account sees and makes them: for tests in which an ordinary user of the host plants something."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simulator.windows import acl, identity
from simulator.windows.acl import Ace
from simulator.windows.errors import Win32Error
from simulator.windows.files import FileSystem
from simulator.windows.identity import Token


@dataclass(frozen=True)
class FilesAs:
    """The file system with the rights of one logged-on account. Every refusal is a Win32Error."""

    files: FileSystem
    token: Token

    @property
    def sid(self) -> str:
        """Of the account."""
        return self.token.sid

    def make_folder(self, path: str) -> None:
        """One folder."""
        self.files.create_directory(path, self.token)

    def write(self, path: str, data: bytes = b"planted") -> None:
        """Make or overwrite a file."""
        self.files.write_file(path, data, self.token)

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        return self.files.read_file(path, self.token)

    def names(self, path: str) -> list[str]:
        """What is in a folder."""
        return [entry.parts[-1] for entry in self.files.children(self.files.resolve(path, token=self.token), self.token)]

    def link(self, path: str, target: str, kind: str = "junction") -> None:
        """A reparse point: ``junction`` (anybody), ``symlink`` or ``symlinkd`` (1314 without an elevated token)."""
        self.files.make_link(path, target, kind, self.token)

    def rename(self, old: str, new: str) -> None:
        """Rename or move within the volume."""
        self.files.rename(self.files.resolve(old, follow_last=False), self.files.resolve(new, follow_last=False), self.token)

    def remove(self, path: str) -> None:
        """Remove a file, an empty folder, or a link without its target."""
        place = self.files.resolve(path, follow_last=False)
        if place.is_directory:
            self.files.remove_directory(place, self.token)
        else:
            self.files.remove_file(place, self.token)

    def open_up(self, path: str, sids: Iterable[str] = (acl.EVERYONE,)) -> None:
        """Give others full control, as the owner of something can even when its list shuts him out."""
        place = self.files.resolve(path, follow_last=False)
        known = place.volume.backing.node(place.parts).acl
        self.files.set_acl(place, known.plus(Ace(sid, acl.FULL, frozenset({"OI", "CI"})) for sid in sids), self.token)

    def owner_of(self, path: str) -> str:
        """The SID of the owner of a file, folder or link."""
        return self.files.owner(self.files.resolve(path, follow_last=False))

    def may(self, path: str, mask: int) -> bool:
        """Whether the account has all of these rights on something that is there."""
        try:
            return self.files.may(self.files.resolve(path, follow_last=False, token=self.token), mask, self.token)
        except Win32Error:
            return False


def system_files(files: FileSystem, machine: str, domain: str | None) -> FilesAs:
    """The files as SYSTEM."""
    return FilesAs(files, identity.system_token(machine, domain))
