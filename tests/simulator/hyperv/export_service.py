# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ExportSystemDefinition: what is asked for, and what is refused before a job starts (operations 3.1 to 3.3)."""
from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.cim.cimxml import parse_instance
from simulator.cim.errors import ProviderRefusal, SimulatorGap
from simulator.cim.model import CimValue, Instance, Ref
from simulator.cim.paths import parse_object_path
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.hyperv import ids
from simulator.hyperv.model import Checkpoint, Machine
from simulator.hyperv.packing import ALL_CHECKPOINTS, APPLICATION, FOR_BACKUP, ONE_CHECKPOINT, SAVED, ExportWish
from simulator.hyperv.provider import configuration_of, machine_of
from simulator.hyperv.resources import media
from simulator.windows import paths
from simulator.windows.errors import Win32Error

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

JOB_STARTED = 4096
ACCESS_DENIED, INVALID_PARAMETER, INVALID_STATE, NOT_AVAILABLE = 32769, 32773, 32775, 32777
_SETTINGS = "Msvm_VirtualSystemExportSettingData"
_STEADY = ("running", "off", "saved", "paused")


def absolute(path: CimValue) -> str:
    """A full path of a drive or share, without a trailing backslash. ProviderRefusal for anything else."""
    if isinstance(path, str) and (path[1:3] == ":\\" or path.startswith("\\\\")):
        try:
            return paths.parse(path).text().rstrip("\\")
        except Win32Error as error:
            raise ProviderRefusal(INVALID_PARAMETER, "no path") from error
    raise ProviderRefusal(INVALID_PARAMETER, "no full path")


class ExportService:
    """The method of one host's service. What an omitted property means is inferred: false, 0, nothing."""

    def __init__(self, role: HyperV) -> None:
        self._role = role

    def export_system_definition(self, call: Invocation) -> MethodOutcome:
        """ExportSystemDefinition: always a job."""
        if not call.caller.is_hyperv_administrator:
            return {"ReturnValue": ACCESS_DENIED}
        wish = self._wish(call)
        machine = wish.machine
        if not machine.available:
            return {"ReturnValue": NOT_AVAILABLE}
        if machine.busy is not None or machine.state not in _STEADY:
            return {"ReturnValue": INVALID_STATE}
        job = self._role.exports.start(wish, call.caller.account.display)
        self._role.host.note_change(f"{call.method} {machine.id}")
        return {"Job": job.ref, "ReturnValue": JOB_STARTED}

    def _wish(self, call: Invocation) -> ExportWish:
        ref = call["ComputerSystem"]
        machine = machine_of(self._role, ref, call.caller) if isinstance(ref, Ref) else None
        if machine is None or machine.planned:
            raise ProviderRefusal(INVALID_PARAMETER, "no virtual machine")
        directory = absolute(call["ExportDirectory"])
        text = call["ExportSettingData"]
        if not isinstance(text, str) or not text:
            raise ProviderRefusal(INVALID_PARAMETER, "no settings")
        settings = parse_instance(text, self._role.schema, ids.V2, expected=_SETTINGS)
        self._refuse_gaps(settings)
        mode, live_state = self._numbers(settings)
        checkpoint = self._checkpoint(settings, machine, call) if mode in (ONE_CHECKPOINT, FOR_BACKUP) else None
        if mode == FOR_BACKUP and checkpoint is not None and checkpoint.kind != "recovery":
            raise ProviderRefusal(INVALID_PARAMETER, "no recovery checkpoint")
        excluded = self._excluded(settings, machine)
        if excluded and mode == ALL_CHECKPOINTS:
            raise ProviderRefusal(INVALID_PARAMETER, "disks cannot be left out of a whole tree")
        return ExportWish(
            machine, directory, subdirectory=settings["CreateVmExportSubdirectory"] is True, mode=mode,
            storage=settings["CopyVmStorage"] is True, runtime=settings["CopyVmRuntimeInformation"] is True, live_state=live_state,
            checkpoint=checkpoint, excluded=excluded, stubs=settings["DisableDifferentialOfIgnoredStorage"] is not True)

    @staticmethod
    def _refuse_gaps(settings: Instance) -> None:
        if settings["DifferentialBackupBase"]:
            raise SimulatorGap("exports of differences are not simulated")
        if settings["ExportForLiveMigration"]:
            raise SimulatorGap("exports for a live migration are not simulated")

    def _numbers(self, settings: Instance) -> tuple[int, int]:
        """CopySnapshotConfiguration and CaptureLiveState; 3 and 2 since 2016."""
        old = self._role.os_version == "2012R2"
        mode, live = settings["CopySnapshotConfiguration"] or 0, settings["CaptureLiveState"] or 0
        assert isinstance(mode, int)
        assert isinstance(live, int)
        if mode > (ONE_CHECKPOINT if old else FOR_BACKUP) or live > (SAVED if old else APPLICATION):
            raise ProviderRefusal(INVALID_PARAMETER, "a value that the class has not")
        return mode, live

    def _checkpoint(self, settings: Instance, machine: Machine, call: Invocation) -> Checkpoint:
        path = settings["SnapshotVirtualSystem"]
        found = configuration_of(self._role, parse_object_path(str(path or "")), call.caller)
        if found is None or found.machine is not machine or found.checkpoint is None:
            raise ProviderRefusal(INVALID_PARAMETER, "no checkpoint of the machine")
        return found.checkpoint

    @staticmethod
    def _excluded(settings: Instance, machine: Machine) -> frozenset[int]:
        """Drives by InstanceID of what is in them, of any configuration of the machine: the location counts."""
        given = settings["ExcludedVirtualHardDisks"]
        wanted = [str(one).lower() for one in given] if isinstance(given, list) else []
        known = {device.instance_id.lower(): device.disk.index for configuration in machine.configurations()
                 for device in media(configuration) if device.disk is not None}
        if any(one not in known for one in wanted):
            raise ProviderRefusal(INVALID_PARAMETER, "no such disk")
        return frozenset(known[one] for one in wanted)
