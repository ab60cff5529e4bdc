# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the methods of the replication service share: return values, job types, embedded instances, jobs."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from simulator.cim.cimxml import parse_instance
from simulator.cim.errors import ProviderRefusal
from simulator.cim.model import Instance, Ref
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.hyperv import ids

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

JOB_STARTED = 4096
FAILED, ACCESS_DENIED, NOT_SUPPORTED, INVALID_PARAMETER, INVALID_STATE = 32768, 32769, 32770, 32773, 32775
NOT_AVAILABLE, FILE_NOT_FOUND = 32777, 32779

SERVER_SETTINGS_JOB = 90


def require_administrator(call: Invocation) -> None:
    """ProviderRefusal 32769: the caller may not manage virtual machines."""
    if not call.caller.is_hyperv_administrator:
        raise ProviderRefusal(ACCESS_DENIED, "access denied")


def embedded(role: HyperV, call: Invocation, parameter: str, class_name: str) -> Instance:
    """The instance in a parameter. ProviderRefusal: there is none, or it is not what the class allows."""
    text = call[parameter]
    if not isinstance(text, str) or not text:
        raise ProviderRefusal(INVALID_PARAMETER, f"{parameter} is missing")
    return parse_instance(text, role.schema, ids.V2, expected=class_name)


def start(role: HyperV, call: Invocation, job_type: int, effect: Callable[[], object], *, affected: Sequence[Ref] = (),
          created: Sequence[Ref] = (), seconds: float | None = None, undo: Callable[[], object] | None = None,
          cancellable: bool = False, reading: bool = False) -> MethodOutcome:
    """Start a job of the service and answer with it; the job runs ``effect`` at its end."""
    takes = role.replica.knobs.job_seconds.get(job_type, 1.0 if seconds is None else seconds)
    job = role.jobs.start(job_type, takes, affected or [ids.system_ref(role.name.upper())], effect=effect, undo=undo, created=created,
                          owner=call.caller.account.display, cancellable=cancellable)
    if not reading:
        role.host.note_change(call.method)
    return {"Job": job.ref, "ReturnValue": JOB_STARTED}
