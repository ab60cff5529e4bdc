# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for Hyper-V's jobs (operations 0.3, wire 3.5)."""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.cimxml import parse_instance
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, NotFound, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import ProtocolError

STARTED = 4096
_STATES = {2: "new", 3: "starting", 4: "running", 5: "suspended", 6: "shutting_down", 7: "completed", 8: "terminated",
           9: "killed", 10: "exception", 11: "service", 12: "query_pending", 32768: "completed_with_warnings"}
_FINISHED = frozenset((7, 8, 9, 10, 32768))
_SUCCEEDED = frozenset((7, 32768))
_HRESULT = re.compile(r"0x([89AaCc][0-9A-Fa-f]{7})(?![0-9A-Fa-f])")
_LONGEST_PAUSE = 15.0


class JobVanished(OutcomeUnknown):
    """The job is gone before its end was seen: neither success nor failure (operations 0.3)."""

    error_code = "job_vanished"


class JobFailed(HypervError):
    """The job ended without success."""

    error_code = "job_failed"


class JobTimedOut(HypervError):
    """The job still runs; running the same task again adopts it."""

    error_code = "timeout"


@dataclass(frozen=True)
class Job:
    """One look at a job."""

    reference: Reference
    state_code: int
    job_type: int | None
    percent: int | None
    error_code: int
    description: str
    cancellable: bool

    @property
    def state(self) -> str:
        """The state as a word."""
        return _STATES.get(self.state_code, f"unknown_{self.state_code}")

    @property
    def finished(self) -> bool:
        """True when the job will not change any more."""
        return self.state_code in _FINISHED

    @property
    def succeeded(self) -> bool:
        """Completed, and without an error code: some jobs end in state 7 with one."""
        return self.state_code in _SUCCEEDED and self.error_code == 0

    def as_result(self) -> dict[str, object]:
        """The ``job`` of a result."""
        return {"id": self.reference.key("InstanceID"), "class": self.reference.class_name, "type": self.job_type,
                "state": self.state, "percent": self.percent, "finished": self.finished, "error_code": self.error_code}


def from_row(reference: Reference, row: Instance) -> Job:
    """One job row as a look."""
    texts = [text for text in (row.text("ErrorDescription"), row.text("ErrorSummaryDescription")) if text]
    return Job(reference, row.integer("JobState") or 0, row.integer("JobType"), row.integer("PercentComplete"),
               row.integer("ErrorCode") or 0, " ".join(dict.fromkeys(texts)), bool(row.boolean("Cancellable")))


def reference_of(row: Instance) -> Reference:
    """The address of a job row, under its own class (wire 3.5)."""
    return Reference(row.namespace, row.class_name, {"InstanceID": row.required_text("InstanceID")})


def read_job(reader: CimReader, reference: Reference) -> Job | None:
    """Look at a job under its own class (wire 3.5); None when it is gone."""
    try:
        return from_row(reference, reader.get(reference))
    except NotFound:
        return None


@dataclass(frozen=True)
class JobError:
    """One error of a job: ``message_id`` is a number that does not depend on the host's language, ``message`` does."""

    message_id: str | None
    message: str


def errors_of(reader: CimReader, reference: Reference) -> tuple[JobError, ...]:
    """The errors of ``GetErrorEx``, all of them; empty when there are none or the job is gone."""
    try:
        answer = reader.ask(reference, "GetErrorEx", {})
    except NotFound:
        return ()
    found = []
    for text in answer.out.texts("Errors"):
        try:
            error = parse_instance(text, reference.namespace)
            found.append(JobError(error.text("MessageID"), error.text("Message") or ""))
        except (ValueError, ProtocolError):
            found.append(JobError(None, text))
    return tuple(error for error in found if error.message or error.message_id)


def error_texts(reader: CimReader, reference: Reference) -> tuple[str, ...]:
    """The messages of ``GetErrorEx``, in the host's language; empty when there are none or the job is gone."""
    return tuple(error.message for error in errors_of(reader, reference) if error.message)


def hresult_in(texts: tuple[str, ...]) -> int | None:
    """The first HRESULT that a text names: the real reason often stands only there (operations 0.3)."""
    for text in texts:
        match = _HRESULT.search(text)
        if match:
            return int(match.group(1), 16)
    return None


def wait(reader: CimReader, reference: Reference, *, what: str, clock: Clock, deadline: Deadline,
         progress: Callable[[str], None], poll: float = 2.0) -> Job:
    """Wait until a job ended well, polling slower and slower but always faster than the five minutes it is kept.

    Raises JobFailed (with the texts of the job and the HRESULT in them), JobVanished, JobTimedOut.
    """
    pause, told = poll, -1
    while True:
        job = read_job(reader, reference)
        if job is None:
            raise JobVanished(f"{what}: the job is no longer known to the host; its outcome must be read from the object.",
                              hint="Jobs are lost when the VMMS service restarts. Nothing was repeated.")
        if job.finished:
            return conclude(reader, job, what)
        if deadline.expired():
            raise JobTimedOut(f"{what}: still {job.state} ({job.percent} %) when the time was over.",
                              hint="The job goes on. Run the same task again to adopt it, or raise timeout.",
                              details={"job": job.as_result()})
        if job.percent is not None and job.percent >= told + 10:
            told = job.percent
            progress(f"{what}: {job.percent} %")
        clock.sleep(min(pause, max(deadline.remaining(), 0.1)))
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def conclude(reader: CimReader, job: Job, what: str) -> Job:
    """A finished job that ended well. Raises JobFailed with its texts and the HRESULT in them."""
    if job.succeeded:
        return job
    texts = error_texts(reader, job.reference) or ((job.description,) if job.description else ())
    reason = " ".join(texts) or f"no reason given (state {job.state}, code {job.error_code})"
    raise JobFailed(f"{what} failed: {reason}", return_value=job.error_code or None, hresult=hresult_in(texts),
                    details={"job": job.as_result()})
