# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests of the demo: what they have written, and where each of them was at the instant of a shadow copy.

The same for the instants in which a guest was told to hold its writes. That knowledge comes from the guests themselves and not from any
image, so an image can be compared with it.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from simulator.disks.guest import Guest
from simulator.disks.vhdx import ParentResolver
from simulator.host import SimHost
from simulator.hyperv.model import Machine, VhdFile
from simulator.windows.shadows import ShadowCopy

from demo.site import GuestPlan


@dataclass(frozen=True)
class Position:
    """Where a guest is: the last write that is done, and the one that is half on disk."""

    last: int
    in_flight: int | None


@dataclass(frozen=True)
class Instant:
    """What every guest of a host had written when a shadow copy was taken."""

    shadow_id: str
    taken: datetime
    guests: Mapping[str, Position]
    """By GUID of the machine."""


class Witness(Guest):
    """A guest that remembers where it was each time it held its writes, as for a production checkpoint."""

    def __init__(self, disks: Path | Sequence[Path], seed: int | str = 0, *, parent_resolver: ParentResolver | None = None,
                 slots: int = 64) -> None:
        self.held: list[Position] = []
        super().__init__(disks, seed, parent_resolver=parent_resolver, slots=slots)

    def freeze(self) -> None:
        """Hold all writes, and note the last one."""
        super().freeze()
        self.held.append(Position(self.sequence, self.in_flight))


class Guests:
    """All guests of one host. Use it before the fleet starts, or inside ``fleet.locked()``."""

    def __init__(self, host: SimHost, plans: Mapping[str, GuestPlan]) -> None:
        self.instants: dict[str, Instant] = {}
        """By ID of the shadow copy, in upper case."""
        self._host = host
        self._plans = plans
        self._guests: dict[str, Witness] = {}
        host.shadows.on_taken.append(self._note)

    def start(self) -> None:
        """Give every machine a past, and let the running ones write on. The files of the host exist afterwards."""
        for machine in self._host.hyperv.machines.values():
            self._guests[machine.id] = self._write_past(machine, self._plan(machine))
            self._host.hyperv.guests[machine.id] = self._guests[machine.id]  # follows the files of its machine
        self.resume()
        self._host.hyperv.disks.materialise_all()

    def pause(self) -> None:
        """Let no guest write until :meth:`resume`: for hours that go by at once."""
        for guest in self._guests.values():
            guest.stop()

    def resume(self) -> None:
        """Let those write on whose machines run."""
        for machine in self._host.hyperv.machines.values():
            if machine.state == "running":
                self._guests[machine.id].run(self._host.clock, self._plan(machine).writes_per_second)

    def _plan(self, machine: Machine) -> GuestPlan:
        return self._plans.get(machine.name, GuestPlan())

    def stop(self) -> None:
        """Pull every plug."""
        for guest in self._guests.values():
            guest.close()

    def position(self, machine_id: str) -> Position:
        """Where a guest is now."""
        guest = self._guests[machine_id]
        return Position(guest.sequence, guest.in_flight)

    def held(self, machine_id: str) -> Sequence[Position]:
        """Where a guest was each time it held its writes."""
        return tuple(self._guests[machine_id].held)

    def _note(self, copy: ShadowCopy) -> None:
        positions = {machine_id: self.position(machine_id) for machine_id in self._guests}
        self.instants[copy.shadow_id.upper()] = Instant(copy.shadow_id, copy.created, positions)

    def _write_past(self, machine: Machine, plan: GuestPlan) -> Witness:
        """Write to each level of the chains in turn, as the machine did before and after each checkpoint; the guest on the leaves.

        A child is made only when its parent has been written to, because it notes which state of the parent it belongs to.
        """
        chains = [disk.leaf.chain()[::-1] for disk in machine.disks if disk.leaf is not None]
        levels = [[chain[number] for chain in chains] for number in range(len(chains[0]))]
        for files in levels[:-1]:
            with self._guest(machine, files, plan) as past:
                past.write_some(plan.written_before)
        guest = self._guest(machine, levels[-1], plan)
        guest.write_some(plan.written_before)
        return guest

    def _guest(self, machine: Machine, files: Sequence[VhdFile], plan: GuestPlan) -> Witness:
        store = self._host.hyperv.disks
        paths = [path for path in map(store.materialise, files) if path is not None]
        return Witness(paths, machine.id, parent_resolver=store.find_parent, slots=plan.slots)
