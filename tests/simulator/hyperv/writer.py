# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Hyper-V VSS writer of one host (operations 5.9, 6, failure catalogue F-32 and F-33).

Every machine with a file on a volume of a set is processed unless it was excluded, and one that fails fails the set. A running
Windows guest whose VSS component answers becomes application-consistent: on 2016 and later its writes are held at the instant; on
2012 R2 the copy holds what a power failure would leave, and ``<disk>-AutoRecovery.avhdx`` beside it leads to the consistent state. A
guest with a VSS daemon is held on 2016 and later. All others are crash-consistent and go on; hosts that save machines for it are
older than any release here.

Inferred: which code stands for a machine that is busy or whose storage is gone, that a component is called by the machine's GUID, and
for how long machines stay marked when a requester goes without BackupComplete. ``BackupSnapshot.xml`` is not made: its place is not known.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.cim.errors import SimulatorGap
from simulator.disks import vhdx
from simulator.disks.guest import Guest
from simulator.hyperv.integration import component
from simulator.hyperv.model import FORMAT_VHDX, Machine, VhdFile
from simulator.windows import vss
from simulator.windows.errors import Win32Error
from simulator.windows.files import Location
from simulator.windows.shadows import ShadowCopy
from simulator.windows.vss import SetPlan, VssError, VssService

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

WRITER_ID = "{66841cd4-6ded-4f4b-8f17-fd23f8ddc3de}"
WRITER_NAME = "Microsoft Hyper-V VSS Writer"
LATE_SECONDS = 600.0
"""How long machines stay marked as being backed up when nobody says that the backup is complete."""

_CHECKPOINT_NAME = re.compile(r"_[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")


class HyperVWriter:
    """Implements :class:`simulator.windows.vss.VssWriter`. ``failures`` are codes by machine GUID (fault injection)."""

    writer_id = WRITER_ID
    name = WRITER_NAME

    def __init__(self, role: HyperV, service: VssService, guests: Mapping[str, Guest]) -> None:
        self.role = role
        self.service = service
        self.guests = guests
        self.failures: dict[str, int] = {}
        self.state = vss.STABLE
        self.last_error = 0

    def components(self) -> list[str]:
        """The GUIDs of the machines whose files are all on this host (operations 5.8: shares are another matter)."""
        return [machine.id for machine in self.role.machines.values() if not self._is_remote(machine)]

    def selected(self, plan: SetPlan) -> list[str]:
        """Machines with a file on a volume of the set, less the excluded ones."""
        return [machine.id for machine in self._machines(plan)]

    def _machines(self, plan: SetPlan) -> list[Machine]:
        wanted = {id(volume.backing) for volume in plan.volumes}
        found = []
        for name in self.components():
            machine = self.role.machines[name]
            if not self.service.excludes(plan, self, name) and self._backings(machine) & wanted:
                found.append(machine)
        return found

    def _paths(self, machine: Machine) -> list[str]:
        files = [file for configuration in machine.configurations() for disk in configuration.disks
                 for leaf in [configuration.file_of(disk)] if leaf is not None for file in leaf.chain()]
        return list(dict.fromkeys([machine.folder, machine.snapshot_folder, *(file.path for file in files)]))

    def _is_remote(self, machine: Machine) -> bool:
        return any(path.startswith("\\\\") for path in self._paths(machine))

    def _backings(self, machine: Machine) -> set[int]:
        return {id(place.volume.backing) for path in self._paths(machine) for place in [self._nearest(path)] if place is not None}

    def _nearest(self, path: str) -> Location | None:
        """The path, or the first folder above it that is there; None when its volume is gone."""
        while path:
            try:
                return self.role.host.files.resolve(path)
            except Win32Error:
                path = path.rpartition("\\")[0]
        return None

    # -- the events of a set -----------------------------------------------------------------------------------

    def prepare(self, plan: SetPlan) -> None:
        """Refuses with the code of the first machine that cannot be processed."""
        wanted = {id(volume.backing) for volume in plan.volumes}
        for machine in self._machines(plan):
            self.role.disks.materialise_machine(machine)
            code = self.failures.get(machine.id) or self._problem(machine, wanted)
            if code:
                self.state, self.last_error = vss.FAILED_AT_PREPARE, code
                raise VssError(code, f"{self.name}: {machine.id}")

    def _problem(self, machine: Machine, wanted: set[int]) -> int:
        if not self._backings(machine) <= wanted:
            return vss.WRITER_INCONSISTENT
        if not machine.available:
            return vss.WRITER_NON_RETRYABLE
        if machine.busy is not None:
            return vss.WRITER_RETRYABLE
        leftover = any(self.role.host.files.exists(auto_recovery_path(leaf.path)) for leaf in self._leaves(machine))
        return vss.WRITER_AUTO_RECOVERY_FAILED if leftover and self._recovers(machine) else 0

    def freeze(self, plan: SetPlan) -> None:
        """Hold the writes of guests that can be quiesced, where the release does it at the instant of the set."""
        for machine in self._machines(plan):
            guest = self.guests.get(machine.id)
            if guest is not None and self._quiesces(machine) and not self._recovers(machine):
                guest.freeze()

    def thaw(self, plan: SetPlan) -> None:
        """Let them go on."""
        for machine in self._machines(plan):
            guest = self.guests.get(machine.id)
            if guest is not None and guest.frozen:
                guest.thaw()

    def post_snapshot(self, plan: SetPlan, copies: list[ShadowCopy]) -> None:
        """Auto-recovery inside the copies, and from now on the machines are being backed up."""
        for machine in self._machines(plan):
            if plan.auto_recovery and self._recovers(machine) and self._quiesces(machine):
                self._auto_recover(machine, copies)
            machine.busy = "backup"
            plan.kept.setdefault(self.writer_id, []).append(machine)
        self.state, self.last_error = vss.WAITING_FOR_COMPLETION, 0

    def end(self, plan: SetPlan, *, complete: bool) -> None:
        """Release the machines: at once, or late when the requester just went (operations 5.9)."""
        machines: list[Machine] = plan.kept.pop(self.writer_id, [])
        self.state = vss.STABLE
        if not complete:
            self.role.clock.call_later(LATE_SECONDS, lambda: self._release(machines))
            return
        self._release(machines)
        if plan.full:
            for machine in machines:
                machine.last_backup = self.role.clock.now()

    @staticmethod
    def _release(machines: list[Machine]) -> None:
        for machine in machines:
            if machine.busy == "backup":
                machine.busy = None

    def restart(self) -> None:
        """The management service was restarted: the writer is stable again (operations 5.9)."""
        self.state, self.last_error = vss.STABLE, 0

    # -- consistency -------------------------------------------------------------------------------------------

    def _recovers(self, machine: Machine) -> bool:
        """Whether this release reaches consistency inside the copy (2012 R2) rather than at its instant."""
        return machine.role.os_version == "2012R2"

    def _quiesces(self, machine: Machine) -> bool:
        """Whether the guest can be quiesced (operations 6)."""
        answers = component(machine, "vss")
        if machine.state != "running" or not answers.enabled or answers.status not in ("ok", "degraded"):
            return False
        windows = machine.spec.guest is not None and machine.spec.guest.os_name.startswith("Windows")
        return windows or not self._recovers(machine)

    @staticmethod
    def _leaves(machine: Machine) -> list[VhdFile]:
        return [disk.leaf for disk in machine.disks if disk.leaf is not None]

    def _auto_recover(self, machine: Machine, copies: list[ShadowCopy]) -> None:
        children: list[Path] = []
        for leaf in self._leaves(machine):
            if leaf.format != FORMAT_VHDX:
                raise SimulatorGap("auto-recovery of disks in the older format is not simulated")
            parent = self._frozen(leaf.path, copies)
            child = parent.with_name(auto_recovery_path(leaf.path).rpartition("\\")[2])
            vhdx.create_differencing(child, parent, leaf.path)
            children.append(child)
        guest = self.guests.get(machine.id)
        if guest is None:
            return
        with Guest(children, parent_resolver=lambda path: self._frozen(path, copies)) as frozen:
            if guest.in_flight is not None:
                frozen.write_some(1)
            frozen.freeze()

    def _frozen(self, path: str, copies: list[ShadowCopy]) -> Path:
        """The real file inside the copies behind a path of the host."""
        place = self.role.host.files.resolve(path)
        copy = next(copy for copy in copies if copy.volume.backing is place.volume.backing)
        return copy.frozen.root / place.real.relative_to(place.volume.root)


def auto_recovery_path(path: str) -> str:
    """``<disk>-AutoRecovery.avhdx``; the mark of a checkpoint in the name of the leaf falls away."""
    folder, _backslash, name = path.rpartition("\\")
    stem, _dot, extension = name.rpartition(".")
    kind = "avhd" if extension.lower() in ("vhd", "avhd") else "avhdx"
    return f"{folder}\\{_CHECKPOINT_NAME.sub('', stem)}-AutoRecovery.{kind}"
