# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a replication relation is on one side: settings, states, figures, and what came in (operations 7.3 to 7.5)."""
from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.clock import Timer
    from simulator.hyperv.model import Checkpoint
    from simulator.hyperv.replica.content import Piece

PROVIDER = "22391CDC-272C-4DDF-BA88-9BEFB1A0975C"
"""Name of the in-box provider (operations 7.1)."""

READY, INITIAL, REPLICATING, PREPARED, FAILED_OVER, COMMITTED, PAUSED, CRITICAL, RESYNC_REQUIRED = range(1, 10)
RESYNCING, RESYNC_PAUSED, FAILING_OVER, FAILING_BACK, FAILED_BACK, DISK_UPDATE, DISK_UPDATE_CRITICAL = range(10, 17)
"""ReplicationState (operations 7.4)."""

REGULAR, APPLICATION, PLANNED = 1, 2, 3
"""LastReplicationType and FailedOverReplicationType."""


@dataclass(frozen=True)
class RelationSettings:
    """The settings of one relation. Intervals in the units of the class: seconds, hours, times of the day."""

    recovery_point: str = ""
    recovery_host: str = ""
    primary_point: str = ""
    primary_host: str = ""
    port: int = 0
    authentication: int = 1
    thumbprint: str = ""
    compression: bool = True
    interval: int = 300
    history: int = 0
    application_interval: int = 0
    included: tuple[int, ...] = ()
    """Indexes of drives of this side's machine."""
    auto_resync: bool = False
    resync_from: timedelta = timedelta(hours=18, minutes=30)
    resync_until: timedelta = timedelta(hours=6)
    host_kvp: bool = True
    bypass_proxy: bool = False
    write_order: bool = False
    provider: str = PROVIDER


@dataclass
class Statistics:
    """The figures of one relation on one side since ``start``."""

    start: datetime
    success: int = 0
    bytes: int = 0
    largest: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    missed: int = 0
    network_failures: int = 0
    failures: int = 0
    application_failures: int = 0
    last_test: datetime | None = None

    def sent(self, size: int, seconds: float) -> None:
        """One cycle was successful."""
        self.success += 1
        self.bytes += size
        self.largest = max(self.largest, size)
        self.seconds += seconds
        self.slowest = max(self.slowest, seconds)

    def roll(self, now: datetime, seconds: int) -> None:
        """A new monitoring window begins when the old one is over."""
        windows = int((now - self.start).total_seconds() // seconds)
        if windows > 0:
            self.reset(self.start + timedelta(seconds=windows * seconds))

    def reset(self, now: datetime) -> None:
        """Begin anew; the last test failover is remembered."""
        last = self.last_test
        self.__init__(now)  # type: ignore[misc]
        self.last_test = last


@dataclass(frozen=True)
class Delta:
    """What one cycle carries: everything that changed up to ``time``."""

    time: datetime
    kind: int
    pieces: list[Piece]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(len(piece.data) for piece in self.pieces)


@dataclass
class Inbound:
    """The receiving side of a relation. ``disks``: index of a drive on the primary -> index here."""

    primary: str
    """FQDN of the host that sends."""
    trust_group: str
    disks: dict[int, int] = field(default_factory=dict)
    waiting: list[Delta] = field(default_factory=list)
    """Received, not applied yet."""
    last_point: datetime | None = None
    """When the newest recovery point was made."""
    imported: str | None = None
    """Which export was taken in."""
    timer: Timer | None = None
    before: int = 0
    """The state before a failover."""
    parent: Checkpoint | None = None
    """What the machine grew from before a failover."""
