# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Msvm_ComputerSystem.RequestReplicationStateChange(Ex): pause, resume, cancel, prepare a planned failover (operations 7.4)."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulator.cim.errors import ProviderRefusal
from simulator.cim.model import CimError
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.hyperv import ids
from simulator.hyperv.jobs import Job, JobFailure
from simulator.hyperv.model import Machine, Relation
from simulator.hyperv.replica.common import FAILED, INVALID_PARAMETER, INVALID_STATE, JOB_STARTED, NOT_SUPPORTED, require_administrator
from simulator.hyperv.replica.network import Unreachable
from simulator.hyperv.replica.state import (
    CRITICAL,
    INITIAL,
    PAUSED,
    PREPARED,
    READY,
    REPLICATING,
    RESYNC_PAUSED,
    RESYNC_REQUIRED,
    RESYNCING,
)

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

STATE_JOB, SYNC_JOB, CANCEL_SYNC_JOB, STOP_COPY_JOB, STOP_RESYNC_JOB = 96, 100, 101, 109, 110
RESYNC_JOB, SEND_COPY_JOB = 107, 116


class StateRequests:
    """The method for the machines of one host."""

    def __init__(self, role: HyperV) -> None:
        self._role = role

    def request(self, call: Invocation) -> MethodOutcome:
        """4096 and a job; 32775 when the relation is in no state for it, 32773 for a number that nobody may ask for."""
        require_administrator(call)
        name = call.instance["Name"] if call.instance else None
        machine = self._role.machine(name, call.caller) if isinstance(name, str) else None
        if machine is None:
            if name == self._role.name.upper():
                raise ProviderRefusal(NOT_SUPPORTED, "the host is no virtual machine")
            raise CimError("not_found", "The virtual machine does not exist.", hresult=0x80041002)
        relation = self._role.replica.relations.named(machine, call["ReplicationRelationship"])
        wanted = call["RequestedState"]
        change = self._change(machine, relation, wanted if isinstance(wanted, int) else -1)
        if wanted == PREPARED:
            return self._prepare(call, machine, relation)
        job_type, effect = change

        def run() -> None:
            self._change(machine, relation, int(str(wanted)), late=True)
            effect()

        job = self._start(call, machine, job_type, 1.0, run)
        return {"Job": job.ref, "ReturnValue": JOB_STARTED}

    def _start(self, call: Invocation, machine: Machine, job_type: int, seconds: float | None, effect: Callable[[], object] | None) -> Job:
        job = self._role.jobs.start(job_type, seconds, [ids.system_ref(machine.id)], effect=effect, owner=call.caller.account.display,
                                    cancellable=False)
        self._role.host.note_change(f"{call.method} {machine.id}")
        return job

    def _change(self, machine: Machine, relation: Relation, wanted: int, *, late: bool = False) -> tuple[int, Callable[[], None]]:
        """JobType and effect of a request. ProviderRefusal (JobFailure when it is ``late``) 32775 or 32773."""
        changes: dict[int, dict[int, tuple[int, Callable[[], None]]]] = {
            READY: {INITIAL: (STOP_COPY_JOB, lambda: self._cancel_copy(machine, relation, READY))},
            INITIAL: {},
            REPLICATING: {
                PAUSED: (STATE_JOB, lambda: self.resume(machine, relation)),
                CRITICAL: (STATE_JOB, lambda: self.resume(machine, relation)),
                RESYNC_PAUSED: (STATE_JOB, lambda: self._resync_again(machine, relation)),
                PREPARED: (CANCEL_SYNC_JOB, lambda: self.resume(machine, relation)),
            },
            PREPARED: {REPLICATING: (SYNC_JOB, lambda: None)},
            PAUSED: {
                REPLICATING: (STATE_JOB, lambda: self._pause(machine, relation, PAUSED)),
                INITIAL: (STATE_JOB, lambda: self._pause(machine, relation, PAUSED)),
                RESYNCING: (STATE_JOB, lambda: self._pause(machine, relation, RESYNC_PAUSED)),
            },
            RESYNC_REQUIRED: {RESYNCING: (STOP_RESYNC_JOB, lambda: self._cancel_copy(machine, relation, RESYNC_REQUIRED)),
                              RESYNC_PAUSED: (STOP_RESYNC_JOB, lambda: self._cancel_copy(machine, relation, RESYNC_REQUIRED))},
        }
        if wanted not in changes:
            raise ProviderRefusal(INVALID_PARAMETER, f"RequestedState {wanted}")
        found = changes[wanted].get(relation.state)
        sends = relation.inbound is None
        if wanted == PREPARED and machine.state != "off":
            found = None
        if wanted == REPLICATING and relation.state == PREPARED and self._role.replica.knobs.cancel_planned != "request":
            found = None
        if found is None or (not sends and wanted not in (REPLICATING, PAUSED)):
            if late:
                raise JobFailure(INVALID_STATE, "The relation is not in a state for this any more.")
            raise ProviderRefusal(INVALID_STATE, f"state {relation.state} does not become {wanted}")
        return found

    # -- effects ---------------------------------------------------------------------------------------------------

    def _pause(self, machine: Machine, relation: Relation, state: int) -> None:
        sender = self._role.replica.sender(machine, relation)
        if sender is not None:
            sender.stop("Replication was paused.")
        relation.state = state

    def _cancel_copy(self, machine: Machine, relation: Relation, state: int) -> None:
        sender = self._role.replica.sender(machine, relation)
        if sender is not None:
            sender.cancel_copy()
            sender.exported = None
        relation.state = state

    def resume(self, machine: Machine, relation: Relation) -> None:
        """Go on with replication, or with the first copy if that was not done."""
        relation.reason = None
        sender = self._role.replica.sender(machine, relation)
        if sender is not None and relation.last_time is None:  # the first copy was not done yet
            sender.begin_copy(relation.settings.included, INITIAL, SEND_COPY_JOB)
            return
        relation.state = REPLICATING
        if sender is not None:
            sender.resume()
        elif relation.inbound is not None and relation.live:
            if relation.last_time is None:
                relation.state = INITIAL
            self._role.replica.receiver.apply(machine, relation)

    def _resync_again(self, machine: Machine, relation: Relation) -> None:
        sender = self._role.replica.sender(machine, relation)
        if sender is not None:
            sender.begin_copy(relation.settings.included, RESYNCING, RESYNC_JOB, compare=True)
        else:
            relation.state = RESYNCING

    def _prepare(self, call: Invocation, machine: Machine, relation: Relation) -> MethodOutcome:
        """The last changes are sent; then the machine cannot be started here (state 4)."""
        sender = self._role.replica.sender(machine, relation)
        if sender is None:
            job = self._start(call, machine, SYNC_JOB, 1.0, lambda: setattr(relation, "state", PREPARED))
            return {"Job": job.ref, "ReturnValue": JOB_STARTED}
        job = self._start(call, machine, SYNC_JOB, None, None)

        def done(error: Unreachable | None) -> None:
            if error is None and machine.state == "off" and relation.state == REPLICATING:
                relation.state = PREPARED
                self._role.jobs.complete(job)
                return
            failure = JobFailure(FAILED, error.message, hresult=error.hresult) if error is not None else JobFailure(
                INVALID_STATE, "The virtual machine was started meanwhile.")
            self._role.jobs.complete(job, failure)

        sender.synchronise(job, done)
        return {"Job": job.ref, "ReturnValue": JOB_STARTED}
