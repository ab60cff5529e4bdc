# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for the jobs of a simulated host: to their end, past their end, and without patience."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE
from simulator.hyperv.spec import VmSpec
from simulator.soap.rules import vanish
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]


def busy(start: Start, minutes: float | None) -> Any:
    return start(volumes=(VolumeSpec("C:"),), vms=(VmSpec("a", busy="exporting", busy_minutes=minutes),))


def wait(runner: Any, seconds: float) -> jobs.Job:
    with runner.session() as (session, clock):
        reader = CimReader(session, clock)
        row = reader.enumerate(NAMESPACE, "Msvm_ConcreteJob")[0]
        reference = Reference(NAMESPACE, row.class_name, {"InstanceID": row.required_text("InstanceID")})
        return jobs.wait(
            reader, reference, what="the export", clock=clock, deadline=Deadline(clock, seconds), progress=runner.told.progress.append
        )


def test_a_job_is_waited_for_to_its_end(start: Start) -> None:
    job = wait(busy(start, 10), 3600)
    assert (job.state, job.finished, job.succeeded) == ("completed", True, True)


def test_a_job_that_takes_too_long_goes_on_and_says_so(start: Start) -> None:
    with pytest.raises(jobs.JobTimedOut) as late:
        wait(busy(start, None), 60)
    assert late.value.details["job"]["finished"] is False
    assert late.value.details["job"]["percent"] == 40


def test_a_job_that_vanished_is_neither_success_nor_failure(start: Start) -> None:
    runner = busy(start, 10)
    with runner.fleet.locked():
        host = runner.running.host
        host.rules.add(vanish(host.hyperv.restart_vmms), operation="Get", nth=3)
    with pytest.raises(jobs.JobVanished):
        wait(runner, 3600)
