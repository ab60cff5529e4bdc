# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a first copy has room on the replica server (operations 7.3 step 1)."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import Chain, Disk
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import volumes
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume, locate


@dataclass(frozen=True)
class Need:
    """Bytes that a copy takes: ``now`` as large as the files are, ``grown`` when every disk is full. None: the host did not say."""

    now: int | None
    grown: int | None


def of_chains(chains: Iterable[Chain]) -> Need:
    """What copies of these disks take. The files of a chain become one, which is no larger than all of them, nor than a full disk."""
    now: int | None = 0
    grown: int | None = 0
    for chain in chains:
        sizes = [link.file_size for link in chain.links]
        full = chain.links[0].virtual_size if chain.links else None
        known = [size for size in sizes if size is not None]
        whole = chain.problem is None and len(known) == len(sizes) and bool(sizes)
        size = min(sum(known), full) if full is not None else sum(known)
        now = now + size if now is not None and whole else None
        grown = grown + full if grown is not None and full is not None else None
    return Need(now, grown)


def read_need(reader: CimReader, chosen: Sequence[Disk]) -> Need:
    """What a copy of these disks takes; two requests a file. Raises what stops the reading of a chain."""
    return of_chains(disks.read_chain(reader, disk.path) for disk in chosen if disk.path)


@dataclass
class Room:
    """The volumes of a replica server, and what the copies of one task have taken of them already: they run side by side."""

    host: str
    volumes: tuple[Volume, ...]
    taken: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self, vm: str, storage: str, need: Need) -> str | None:
        """Take the room for one more copy below ``storage``; what should be said of it. Raises HypervError ``no_room_on_replica``."""
        volume = locate(storage, self.volumes).volume
        if volume is None or volume.free is None or need.now is None:
            return f"{vm}: whether {storage or 'the storage location'} on {self.host} has room for its copy is not known."
        now, grown = self.taken.get(volume.device_id, (0, 0))
        free = volume.free - now
        if free < need.now:
            others = " beside the other copies of this task" if now else ""
            raise HypervError(f"The disks of {vm!r} have {need.now} bytes, and {volume.root} of {self.host} has {free} free{others}.",
                              error_code="no_room_on_replica", hint="Free space there, leave disks out by excluded_disks, or give this "
                              "host another storage location in authorization of hyperv_replica_server.",
                              details={"needed": need.now, "free": free})
        full = grown + (need.grown if need.grown is not None else need.now)
        self.taken[volume.device_id] = (now + need.now, full)
        if volume.free < full:
            return (f"{vm}: {volume.root} of {self.host} has {free} bytes free, and its disks may grow beyond that. Replication stops "
                    "when that volume is full; recovery points need more.")
        return None


def read_room(reader: CimReader, host: str) -> Room:
    """The volumes of the replica server; one request."""
    return Room(host, volumes.read_volumes(reader))
