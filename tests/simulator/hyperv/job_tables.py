# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Msvm_ConcreteJob and Msvm_StorageJob: the jobs as instances, and their methods (operations 0.3, wire 3.5)."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from simulator.cim.cimxml import format_instance
from simulator.cim.model import Caller, CimError, CimValue
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.hyperv import ids
from simulator.hyperv.jobs import COMPLETED, EXCEPTION, FINAL, KEEP_SECONDS, Job, JobFailure
from simulator.hyperv.provider import Table
from simulator.hyperv.texts import text

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

ERROR_CLASS = "Msvm_Error"


class Jobs(Table[Job]):
    """The jobs of one class; the two are siblings, an enumeration of one never shows the other (wire 2.6)."""

    def __init__(self, role: HyperV, class_name: str) -> None:
        self.class_name = class_name  # type: ignore[misc]
        super().__init__(role)
        self.methods = {"RequestStateChange": self.request_state_change, "GetError": self.get_error, "GetErrorEx": self.get_errors}

    def items(self, caller: Caller) -> Iterable[Job]:
        """The jobs that exist now."""
        if not caller.is_hyperv_administrator:
            return ()
        return [job for job in self.role.jobs.all() if job.class_name == self.class_name]

    def lookup(self, conditions: Mapping[str, CimValue], caller: Caller) -> Iterable[Job] | None:
        """By InstanceID."""
        job_id = conditions.get("InstanceID")
        if not isinstance(job_id, str):
            return None
        job = self.role.jobs.get(job_id) if caller.is_hyperv_administrator else None
        return () if job is None or job.class_name != self.class_name else (job,)

    def values(self, item: Job) -> dict[str, CimValue]:
        """One row."""
        now = self.role.clock.now()
        state = item.state(now)
        failed = item.failure is not None
        status = text("job_failed" if failed else "job_done" if state in FINAL else "job_running", self.role.locale)
        values: dict[str, CimValue] = {
            "InstanceID": item.id, "Name": item.id, "Caption": "Msvm_ConcreteJob", "ElementName": "Job", "Description": "Job",
            "JobState": state, "PercentComplete": item.percent(now), "JobType": item.job_type, "JobStatus": status,
            "ErrorCode": item.error_code, "ErrorDescription": item.failure.message if item.failure else "",
            "ErrorSummaryDescription": item.failure.message if item.failure else "", "HealthState": 5,
            "OperationalStatus": [6, 1] if failed else [2, 17] if state == COMPLETED else [2],
            "Cancellable": item.cancellable and state not in FINAL, "DeleteOnCompletion": False, "Owner": item.owner,
            "StartTime": item.started, "TimeSubmitted": item.started, "ElapsedTime": item.elapsed(now),
            "TimeOfLastStateChange": item.ended or item.started, "TimeBeforeRemoval": timedelta(seconds=KEEP_SECONDS),
            "LocalOrUtcTime": 2, "Status": "Error" if failed else "OK", "JobRunTimes": 1,
        }
        if self.class_name == "Msvm_StorageJob":
            failure = item.failure
            values |= {"JobCompletionStatusCode": (failure.hresult or 0) if failure else 0,
                       "Child": failure.child if failure else None, "Parent": failure.parent if failure else None}
        return values

    def _job(self, call: Invocation) -> Job:
        job_id = call.instance["InstanceID"] if call.instance else None
        job = self.role.jobs.get(job_id) if isinstance(job_id, str) else None
        if job is None:
            raise CimError("not_found", "The job does not exist.", hresult=0x80041002)
        return job

    def request_state_change(self, call: Invocation) -> MethodOutcome:
        """RequestStateChange: 4 terminates, 5 kills; return values of the job's own family (operations 0.2)."""
        requested = call["RequestedState"]
        if requested not in (4, 5):
            return {"ReturnValue": 1}
        if call["TimeoutPeriod"] not in (None, timedelta(0)):
            return {"ReturnValue": 4098}
        return {"ReturnValue": self.role.jobs.cancel(self._job(call), kill=requested == 5)}

    def get_error(self, call: Invocation) -> MethodOutcome:
        """GetError: the error as embedded text, null when there is none."""
        errors = self._errors(self._job(call))
        return {"Error": errors[0] if errors else None, "ReturnValue": 0}

    def get_errors(self, call: Invocation) -> MethodOutcome:
        """GetErrorEx: all errors, null when there is none."""
        return {"Errors": self._errors(self._job(call)) or None, "ReturnValue": 0}

    def _errors(self, job: Job) -> list[CimValue]:
        if job.failure is None or job.final_state not in FINAL:
            return []
        return [self._error(job, failure) for failure in job.failure.errors or (job.failure,)]

    def _error(self, job: Job, failure: JobFailure) -> CimValue:
        message = failure.message if failure.hresult is None else f"{failure.message} (0x{failure.hresult:08X})."
        shape = self.role.shapes.of(ids.V2, ERROR_CLASS)
        error = shape({
            "CIMStatusCode": 1, "ErrorSource": job.id, "ErrorSourceFormat": 0, "ErrorType": 4, "Message": message,
            "MessageID": failure.message_id or str(failure.error_code), "OwningEntity": "Microsoft:Hyper-V", "PerceivedSeverity": 6,
            "ProbableCause": 0 if job.final_state == EXCEPTION else 1,
        })
        return format_instance(self.role.schema, error)
