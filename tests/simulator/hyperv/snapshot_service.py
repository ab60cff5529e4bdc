# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Msvm_VirtualSystemSnapshotService: the methods, their checks and their jobs (operations 0.2, 2.3, 2.5, 2.6, wire 3.4)."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.cim.cimxml import parse_instance
from simulator.cim.errors import ProviderRefusal, SimulatorGap
from simulator.cim.model import Ref
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.hyperv import chains, ids
from simulator.hyperv.checkpoints import Wish, can_quiesce, has_memory, not_snapshottable, refuse_old_format
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.knobs import APPLY_JOB, CLEAR_JOB, CREATE_JOB, DESTROY_JOB, QUIESCE_JOB
from simulator.hyperv.model import Checkpoint, Machine
from simulator.hyperv.provider import configuration_of, machine_of
from simulator.hyperv.settings import modern
from simulator.hyperv.spec import MIB

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

JOB_STARTED = 4096
FAILED, ACCESS_DENIED, NOT_SUPPORTED, INVALID_PARAMETER, INVALID_STATE, NOT_AVAILABLE = 32768, 32769, 32770, 32773, 32775, 32777
FULL, DISK, RECOVERY = 2, 3, 32768
APPLICATION, CRASH = 1, 2
DISABLED, PRODUCTION, PRODUCTION_ONLY, STANDARD = 2, 3, 4, 5
_NOT_FOUND = 0x80070490
_STEADY = ("running", "off", "saved", "paused")


class Refused(Exception):
    """A method answers with this ReturnValue and does nothing."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


@dataclass(frozen=True)
class Request:
    """What CreateSnapshot was asked for; the fields of Msvm_VirtualSystemSnapshotSettingData, 0 when not said."""

    machine: Machine
    snapshot_type: int
    consistency: int = 0
    guest_backup: int = 0
    ignore: bool = False


class SnapshotService:
    """The methods of one host's service."""

    def __init__(self, role: HyperV) -> None:
        self._role = role
        self._creating: dict[str, Callable[[], object]] = {}
        """What finishes the creation that runs on a machine."""

    # -- CreateSnapshot --------------------------------------------------------------------------------------------

    def create_snapshot(self, call: Invocation) -> MethodOutcome:
        """CreateSnapshot: a job whose created element is the checkpoint; ResultingSnapshot stays empty (operations 0.4)."""
        try:
            request = self._request(call)
            self._check_machine(request.machine)
            outside = self._outside(request)
            if outside is not None and self._role.knobs.refuse_at_once:
                raise Refused(outside)
        except Refused as refused:
            return {"ReturnValue": refused.code}
        machine = request.machine
        refuse_old_format(machine)
        checkpoint_id = self._role.checkpoints.new_id(machine)
        policy = machine.policy

        def create() -> None:
            self._creating.pop(machine.id, None)
            if outside is not None:
                raise JobFailure(outside, "A disk of the virtual machine does not support checkpoints.")
            self._role.checkpoints.create(machine, self._wish(request, policy), checkpoint_id)

        self._creating[machine.id] = create
        created = ids.setting_ref("Msvm_VirtualSystemSettingData", ids.settings_id(checkpoint_id))
        return self._start(call, machine, "creating_checkpoint", CREATE_JOB, create, created=(created,), seconds=self._begin(request))

    def _request(self, call: Invocation) -> Request:
        if not call.caller.is_hyperv_administrator:
            raise Refused(ACCESS_DENIED)
        ref = call["AffectedSystem"]
        if not isinstance(ref, Ref) or not {key.lower() for key in ref.keys} <= {"name", "creationclassname"}:
            raise Refused(INVALID_PARAMETER)  # a property that is no key (wire 3.1)
        machine = machine_of(self._role, ref, call.caller)
        kind = call["SnapshotType"]
        if machine is None or not isinstance(kind, int) or kind not in (FULL, DISK, RECOVERY):
            raise Refused(INVALID_PARAMETER)
        if machine.planned:
            raise Refused(NOT_SUPPORTED)
        if kind == DISK:
            raise SimulatorGap("CreateSnapshot of type 3 (disks only) is not simulated: nobody is known to use it")
        return self._settings(call, Request(machine, kind))

    def _settings(self, call: Invocation, plain: Request) -> Request:
        text = call["SnapshotSettings"]
        if text is None or text == "":
            return plain
        if self._role.os_version == "2012R2" or not isinstance(text, str):
            raise Refused(INVALID_PARAMETER)
        try:
            settings = parse_instance(text, self._role.schema, ids.V2, expected="Msvm_VirtualSystemSnapshotSettingData")
        except ProviderRefusal as refusal:
            raise Refused(refusal.return_value) from refusal
        consistency, backup = (settings.values.get(name) or 0 for name in ("ConsistencyLevel", "GuestBackupType"))
        if consistency not in (0, APPLICATION, CRASH) or backup not in (0, 1, 2):
            raise Refused(INVALID_PARAMETER)
        assert isinstance(consistency, int)
        assert isinstance(backup, int)
        return Request(plain.machine, plain.snapshot_type, consistency, backup, settings.values.get("IgnoreNonSnapshottableDisks") is True)

    def _check_machine(self, machine: Machine) -> None:
        if not machine.available:
            raise Refused(NOT_AVAILABLE)
        if machine.busy is not None or machine.state not in _STEADY:
            raise Refused(INVALID_STATE)

    def _outside(self, request: Request) -> int | None:
        """The code for a machine that cannot have this kind of checkpoint, whatever its state (operations 2.3)."""
        machine = request.machine
        if machine.replication_mode in (2, 3, 4):
            return NOT_SUPPORTED
        if request.snapshot_type == RECOVERY and (self._role.os_version == "2012R2" or not modern(machine)):
            return NOT_SUPPORTED
        unfit = bool(not_snapshottable(machine)) or machine.spec.fibre_channel_ports > 0
        return NOT_SUPPORTED if unfit and not (request.snapshot_type == RECOVERY and request.ignore) else None

    def _begin(self, request: Request) -> float:
        """Seconds that the creation takes; quiescing shows as a job of its own (operations 2.3)."""
        machine, knobs = request.machine, self._role.knobs
        seconds = knobs.job_seconds[CREATE_JOB]
        quiet = machine.policy in (PRODUCTION, PRODUCTION_ONLY) and self._role.os_version != "2012R2"
        if request.snapshot_type == RECOVERY:
            quiet = request.consistency != CRASH
        if quiet and machine.state == "running":
            self._role.jobs.start(QUIESCE_JOB, seconds / 2, [ids.system_ref(machine.id)], cancellable=False)
        if request.snapshot_type == FULL and machine.live and not (quiet and can_quiesce(self._role, machine)):
            seconds += machine.spec.memory_mb * MIB / knobs.memory_bytes_per_second
        return seconds

    def _wish(self, request: Request, policy: int) -> Wish:
        """What kind it becomes: the machine's policy decides for users, the settings for backup products (operations 2.2, 2.3, 6)."""
        machine = request.machine
        depth, above = 1, machine.current_parent
        while above is not None:
            depth, above = depth + 1, above.parent
        if depth > chains.DEEPEST:
            raise JobFailure(FAILED, "The virtual machine has too many checkpoints.")
        if request.snapshot_type == RECOVERY:
            return self._recovery(request, policy)
        if self._role.os_version == "2012R2":
            return Wish("standard", memory=True)
        if policy == DISABLED:
            raise JobFailure(FAILED, "Checkpoints have been disabled for the virtual machine.")
        level = request.consistency if self._role.knobs.consistency_level_counts else 0
        if level == CRASH:
            return Wish("production")
        if policy == STANDARD and level != APPLICATION:
            return Wish("standard", memory=True)
        if not has_memory(machine):  # off: consistent by itself
            return Wish("production")
        if can_quiesce(self._role, machine):
            return Wish("production", quiesce=True)
        if policy == PRODUCTION and level != APPLICATION:
            return Wish("standard", memory=True)
        raise self._not_quiet()

    def _recovery(self, request: Request, policy: int) -> Wish:
        machine = request.machine
        if policy == DISABLED and self._role.knobs.disabled_blocks_recovery:
            raise JobFailure(FAILED, "Checkpoints have been disabled for the virtual machine.")
        quiet = request.consistency != CRASH and has_memory(machine)
        if quiet and not can_quiesce(self._role, machine):
            if request.consistency == APPLICATION:
                raise self._not_quiet()
            quiet = False
        skip = tuple(disk.index for disk in not_snapshottable(machine))
        return Wish("recovery", quiesce=quiet, skip=skip, guest_backup=request.guest_backup)

    def _not_quiet(self) -> JobFailure:
        return JobFailure(FAILED, "A production checkpoint could not be created: the guest could not be quiesced.",
                          hresult=self._role.knobs.quiesce_error)

    def service_restarted(self) -> None:
        """The management service restarted: creations on the way have come to nothing, or not quite (operations 0.3)."""
        creating, self._creating = self._creating, {}
        for machine_id, finish in creating.items():
            machine = self._role.machines.get(machine_id)
            if machine is None or self._role.knobs.interrupted_creation == "nothing":
                continue
            try:
                if self._role.knobs.interrupted_creation == "checkpoint":
                    finish()
                else:
                    self._role.checkpoints.leave_orphans(machine)
            except JobFailure:  # it would have failed anyway
                continue

    # -- the others ------------------------------------------------------------------------------------------------

    def destroy_snapshot(self, call: Invocation) -> MethodOutcome:
        """DestroySnapshot: the checkpoint goes, its children move up; the merge comes later and has its own job."""
        def doomed(machine: Machine, checkpoint: Checkpoint) -> Sequence[Checkpoint]:
            if self._role.knobs.destroy_takes_dependents:
                return self._role.checkpoints.subtree(machine, checkpoint)
            return (checkpoint,)

        return self._destroy(call, "AffectedSnapshot", doomed)

    def destroy_snapshot_tree(self, call: Invocation) -> MethodOutcome:
        """DestroySnapshotTree: the checkpoint and everything below it."""
        return self._destroy(call, "SnapshotSettingData", self._role.checkpoints.subtree)

    def _destroy(self, call: Invocation, parameter: str, doomed: Callable[[Machine, Checkpoint], Sequence[Checkpoint]]) -> MethodOutcome:
        try:
            machine, checkpoint = self._checkpoint(call, parameter)
            self._check_machine(machine)
        except Refused as refused:
            return {"ReturnValue": refused.code}
        refuse_old_format(machine)

        def destroy() -> None:
            self._still_there(machine, checkpoint)
            self._role.checkpoints.destroy(machine, doomed(machine, checkpoint))

        return self._start(call, machine, "deleting_checkpoint", DESTROY_JOB, destroy)

    def apply_snapshot(self, call: Invocation) -> MethodOutcome:
        """ApplySnapshot: always a job. A running machine: 32775, or it is turned off (D-20)."""
        try:
            machine, checkpoint = self._checkpoint(call, "Snapshot")
            self._check_machine(machine)
            if machine.replication_mode in (2, 3, 4) or (machine.live and self._role.knobs.apply_running == "refuse"):
                raise Refused(INVALID_STATE)
        except Refused as refused:
            return {"ReturnValue": refused.code}
        refuse_old_format(machine)

        def apply() -> None:
            self._still_there(machine, checkpoint)
            self._role.checkpoints.apply(machine, checkpoint)

        return self._start(call, machine, "applying_checkpoint", APPLY_JOB, apply)

    def clear_snapshot_state(self, call: Invocation) -> MethodOutcome:
        """ClearSnapshotState: the memory of a checkpoint is dropped; 32775 when it has none."""
        try:
            machine, checkpoint = self._checkpoint(call, "SnapshotSettingData")
            self._check_machine(machine)
            if not checkpoint.saved:
                raise Refused(INVALID_STATE)
        except Refused as refused:
            return {"ReturnValue": refused.code}

        def clear() -> None:
            self._still_there(machine, checkpoint)
            self._role.checkpoints.clear_state(machine, checkpoint)

        return self._start(call, machine, "clearing_state", CLEAR_JOB, clear)

    # -- common ----------------------------------------------------------------------------------------------------

    def _checkpoint(self, call: Invocation, parameter: str) -> tuple[Machine, Checkpoint]:
        if not call.caller.is_hyperv_administrator:
            raise Refused(ACCESS_DENIED)
        ref = call[parameter]
        found = configuration_of(self._role, ref, call.caller) if isinstance(ref, Ref) else None
        if found is None or found.checkpoint is None:
            raise Refused(INVALID_PARAMETER)
        if found.machine.planned and call.method not in ("DestroySnapshot", "DestroySnapshotTree"):
            raise Refused(INVALID_STATE)
        return found.machine, found.checkpoint

    @staticmethod
    def _still_there(machine: Machine, checkpoint: Checkpoint) -> None:
        if machine.checkpoints.get(checkpoint.id) is not checkpoint:
            raise JobFailure(FAILED, "The checkpoint does not exist any more.", hresult=_NOT_FOUND)

    def _start(self, call: Invocation, machine: Machine, busy: str, job_type: int, effect: Callable[[], object], *,
               created: Sequence[Ref] = (), seconds: float | None = None) -> MethodOutcome:
        role = self._role
        machine.busy = busy

        def run() -> None:
            if (role.planned if machine.planned else role.machines).get(machine.id) is not machine:
                raise JobFailure(NOT_AVAILABLE, "The virtual machine is not on this host any more.")
            effect()
            free()

        def free() -> None:
            self._creating.pop(machine.id, None)
            if machine.busy == busy:
                machine.busy = None

        takes = role.knobs.job_seconds[job_type] if seconds is None else seconds
        job = role.jobs.start(job_type, takes, [ids.system_ref(machine.id, machine.ref_class)], effect=run, undo=free, created=created,
                              owner=call.caller.account.display, cancellable=job_type == CREATE_JOB)
        role.host.note_change(f"{call.method} {machine.id}")
        return {"Job": job.ref, "ReturnValue": JOB_STARTED}
