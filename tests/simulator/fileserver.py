# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of the fleet's network that only serves files: a Windows file server, or a NAS that knows no computer accounts."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simulator.cim.model import Account
from simulator.clock import SimClock
from simulator.directory import AccountDirectory
from simulator.windows.files import FileSystem, Network
from simulator.windows.smb import SmbLogon
from simulator.windows.spec import ShareSpec, VolumeSpec


@dataclass(frozen=True)
class FileServerSpec:
    """One file server. Without a ``domain`` it knows only its own ``accounts``, as a NAS in a workgroup does."""

    name: str
    domain: str | None = None
    volumes: tuple[VolumeSpec, ...] = (VolumeSpec("C:"),)
    shares: tuple[ShareSpec, ...] = ()
    accounts: tuple[Account, ...] = ()
    """Local accounts, and those of the domain that are administrators of this machine."""
    computer_accounts: bool = True
    """False: a member of a domain that does not take log-ons of computers."""


class FileServer:
    """A running file server: nothing but its shares. ``changes`` lists what its own file system was told to do."""

    def __init__(self, spec: FileServerSpec, root: Path, clock: SimClock, network: Network) -> None:
        self.spec = spec
        self.name = spec.name
        self.clock = clock
        self.network = network
        self.changes: list[str] = []
        self.accounts = AccountDirectory(spec.name, spec.accounts)
        self.files = FileSystem(root / "volumes", clock, self.changes.append, machine=spec.name, domain=spec.domain, network=network)
        self.files.gatekeeper = SmbLogon(self.accounts, spec.domain, spec.computer_accounts)
        for volume in spec.volumes:
            self.files.add_volume(volume)
        for share in spec.shares:
            self.files.add_share(share)

    def take_down(self) -> None:
        """It no longer answers."""
        self.network.take_down(self.name)

    def bring_up(self) -> None:
        """It answers again."""
        self.network.bring_up(self.name)

    def remove_share(self, name: str) -> None:
        """The share is gone (67); the folder stays. KeyError: no such share."""
        del self.files.shares[name.lower()]
