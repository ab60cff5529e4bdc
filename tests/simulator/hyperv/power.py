# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power states: Msvm_ComputerSystem.RequestStateChange (operations 0.5, wire 3.4)."""
from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING

from simulator.cim.model import CimError
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.disks.layout import VhdxError
from simulator.disks.vhdx import Vhdx
from simulator.hyperv import guests, ids
from simulator.hyperv.checkpoints import failure
from simulator.hyperv.diskstore import worker
from simulator.hyperv.integration import component
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.model import FORMAT_VHD, Machine, VhdFile
from simulator.hyperv.replica.failover import startable
from simulator.hyperv.spec import MIB
from simulator.windows.errors import SHARING_VIOLATION, Win32Error

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

FAILED, INVALID_STATE = 32768, 32775

# requested: (states it is allowed in, state on the way, state at the end, JobType, seconds)
_CHANGES = {
    2: (("off", "saved", "paused"), "starting", "running", 12, 3.0),
    3: (("running", "paused", "critical"), "stopping", "off", 13, 1.0),
    4: (("running",), "stopping", "off", 16, 30.0),
    6: (("running", "paused"), "saving", "saved", 14, 10.0),
    9: (("running",), "pausing", "paused", 26, 0.5),
    10: (("running",), "running", "running", 29, 1.0),
    11: (("running",), "running", "running", 28, 1.0),
}
_JOBS = frozenset(change[3] for change in _CHANGES.values())


def finish_changes(role: HyperV) -> None:
    """Bring every change of a power state that is under way to its end, at once."""
    for job in role.jobs.all():
        if job.job_type in _JOBS and job.ended is None and job.effect is not None:
            with contextlib.suppress(JobFailure):
                job.effect()


def may_start(role: HyperV, machine: Machine) -> None:
    """JobFailure unless the disks are there and free, there is memory, and the keys of a virtual TPM are here."""
    keys = {role.name.lower(), *(name.lower() for name in role.knobs.guardians)}
    if (machine.spec.tpm or machine.spec.shielded) and machine.key_host.lower() not in keys:
        raise JobFailure(FAILED, "The key protector of the virtual machine cannot be opened on this host.", hresult=0x80070490)
    free = role.free_memory(but=machine)
    if free is not None and machine.spec.memory_mb * MIB > free:
        raise JobFailure(FAILED, "There is not enough memory in the system to start the virtual machine.", hresult=0x8007000E)
    try:
        for leaf in [disk.leaf for disk in machine.disks if disk.leaf is not None]:
            gone = [link.path for link in leaf.chain() if not role.disks.is_there(link)]
            if gone:
                raise JobFailure(FAILED, f"The file '{gone[0]}' was not found.", hresult=0x80070002)
            _open_chain(role, leaf)
            if leaf.made and role.disks.is_open(leaf.path, but=worker(machine)):
                raise Win32Error(SHARING_VIOLATION, leaf.path)
    except Win32Error as error:
        raise failure(error) from error


def _open_chain(role: HyperV, leaf: VhdFile) -> None:
    """JobFailure: a file of the chain is damaged, or not the parent that its child was made from."""
    if not leaf.made or leaf.format == FORMAT_VHD:
        return
    try:
        with Vhdx.open(role.host.files.real_path(leaf.path), role.disks.find_parent, writable=False) as image:
            image.chain()
    except VhdxError as error:
        raise JobFailure(FAILED, f"The virtual hard disk '{leaf.path}' cannot be opened: {error}", hresult=0xC03A000E) from error


class Power:
    """The method for the machines of one host."""

    def __init__(self, role: HyperV) -> None:
        self._role = role

    def request_state_change(self, call: Invocation) -> MethodOutcome:
        """4096 and a job; 32775 for another number, a state it does not fit, or a machine that is busy."""
        name = call.instance["Name"] if call.instance else None
        machine = self._role.machine(name, call.caller) if isinstance(name, str) else None
        if machine is None:
            if name == self._role.name.upper():
                return {"ReturnValue": 32770}
            raise CimError("not_found", "The virtual machine does not exist.", hresult=0x80041002)
        asked = call["RequestedState"]
        requested = asked if isinstance(asked, int) else 0
        change = _CHANGES.get(requested)
        if change is None or not self._allowed(machine, requested, change[0]):
            return {"ReturnValue": INVALID_STATE}
        _unused, between, final, job_type, seconds = change
        before = machine.state
        self._set(machine, "resuming" if before == "paused" and requested == 2 else between)

        def done() -> None:
            if requested == 2 and before in ("off", "saved"):
                self._check_start(machine)
            if requested in (10, 11):
                machine.booted = self._role.clock.now()
            if requested in (10, 11) or (requested == 2 and before == "off"):
                machine.answers_from = self._role.clock.now() + timedelta(seconds=self._role.knobs.boot_seconds)
            self._set(machine, final)

        job = self._role.jobs.start(job_type, seconds, [ids.system_ref(machine.id)], effect=done, undo=lambda: self._back(machine, before),
                                    owner=call.caller.account.display, cancellable=False)
        self._role.host.note_change(f"RequestStateChange {requested} {machine.id}")
        return {"Job": job.ref, "ReturnValue": 4096}

    def initiate_shutdown(self, call: Invocation) -> MethodOutcome:
        """Msvm_ShutdownComponent: 0, and the guest is off some time later; 32775 when it does not answer or the machine is busy."""
        name = call.instance["SystemName"] if call.instance else None
        machine = self._role.machine(name, call.caller) if isinstance(name, str) else None
        if machine is None:
            raise CimError("not_found", "The virtual machine does not exist.", hresult=0x80041002)
        allowed, between, final, job_type, seconds = _CHANGES[4]
        if not self._allowed(machine, 4, allowed):
            return {"ReturnValue": INVALID_STATE}
        self._set(machine, between)
        self._role.jobs.start(job_type, seconds, [ids.system_ref(machine.id)], effect=lambda: self._set(machine, final),
                              undo=lambda: self._back(machine, "running"), owner=call.caller.account.display, cancellable=False)
        self._role.host.note_change(f"InitiateShutdown {machine.id}")
        return {"ReturnValue": 0}

    def _allowed(self, machine: Machine, requested: int, states: tuple[str, ...]) -> bool:
        if machine.state not in states or machine.busy is not None:
            return False
        if not machine.available:  # only turning it off is possible (operations 0.5)
            return requested == 3
        if requested == 4:
            shutdown = component(machine, "shutdown")
            return shutdown.enabled and shutdown.status == "ok"
        return requested != 2 or startable(machine)

    def _check_start(self, machine: Machine) -> None:
        """JobFailure: what a machine needs to run is not there, or in somebody else's hands (operations 3.5, F-04)."""
        if self._is_here(machine):
            may_start(self._role, machine)

    def _set(self, machine: Machine, state: str) -> None:
        if not self._is_here(machine):
            raise JobFailure(32777, "The virtual machine is not on this host any more.")
        machine.set_state(state, self._role.clock.now())
        self._role.disks.hold(machine)
        guests.follow_power(self._role, machine)
        if state == "off":  # chains are merged when a machine is turned off (operations F-11)
            self._role.exports.restarted(machine)
            self._role.merges.due(machine)

    def _back(self, machine: Machine, state: str) -> None:
        if self._is_here(machine):
            self._set(machine, state)

    def _is_here(self, machine: Machine) -> bool:
        return self._role.machines.get(machine.id) is machine
