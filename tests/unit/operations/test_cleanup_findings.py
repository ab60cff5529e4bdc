# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be removed, as a pure function of any mix of runs: alive, with a task that runs, dead, old and young."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import cleanup_findings, cleanup_runs, shadow_facts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_copies import judge_content
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_findings import Findings, Read
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_runs import OurTask, RunFacts, Scope
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_shares import Shares
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.shadow_facts import ShadowFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.ownership import Ownership
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import leases, tasks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import Found, Lease, LeaseFolder, LeasePlace, Runs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent, StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state_contents import Contents, Entry
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import READY, RUNNING, TaskLook
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 3, 1, 22, 0, 0, tzinfo=UTC)
FOLDER = StateFolder("C:\\ProgramData\\agentless.hyperv")
RUNS = ("night-1", "night-2", "Night-3")


@dataclass(frozen=True)
class Run:
    """What a run left: ages in minutes, None where it left nothing."""

    intent: int | None
    job: int | None
    lease_ends: int | None
    task: int | None

    @property
    def alive(self) -> bool:
        return self.lease_ends is not None and self.lease_ends >= -5

    @property
    def left_alone(self) -> bool:
        return self.alive or self.task == RUNNING


AGES = st.none() | st.integers(0, 300)
MIX = st.fixed_dictionaries({run_id: st.builds(Run, AGES, AGES, st.none() | st.integers(-300, 20), st.sampled_from([None, READY, RUNNING]))
                             for run_id in RUNS})


def ago(minutes: int) -> datetime:
    return NOW - timedelta(minutes=minutes)


def lease_folder(run_id: str, ends: int) -> LeaseFolder:
    place = LeasePlace(FOLDER.leases, run_id)
    return LeaseFolder(place.path, run_id.lower(), None, Found(Lease(place, run_id, "a" * 12, ago(-ends))))


def read(mix: Mapping[str, Run], scope: Scope) -> Read:
    """The same as a host would tell it; names that the host's file classes tell are in lower case."""
    intents = tuple(Intent(run_id, "0a1b2c3d", ago(run.intent), "V", ()) for run_id, run in mix.items() if run.intent is not None)
    facts = ShadowFacts(NOW, FOLDER, (), (), (), Contents((), intents), Ownership((), (), ()))
    ours = tuple(OurTask(TaskLook(f"host_{run_id}", run.task, ""), tasks.parse_name(f"host_{run_id}"))
                 for run_id, run in mix.items() if run.task is not None)
    jobs = tuple(Entry(f"{FOLDER.jobs}\\host_{run_id}".lower(), ago(run.job)) for run_id, run in mix.items() if run.job is not None)
    found = tuple(lease_folder(run_id, run.lease_ends) for run_id, run in mix.items() if run.lease_ends is not None)
    running = Runs(run_id for run_id, run in mix.items() if run.task == RUNNING)
    runs = RunFacts((*jobs, Entry(f"{FOLDER.jobs}\\theirs", ago(900))), ours, found, leases.alive_runs(found, NOW), running)
    return Read(shadow_facts.judged(facts), runs, scope, Shares())


def judged(mix: Mapping[str, Run], minutes: int = 60, run_id: str | None = None) -> Findings:
    return cleanup_findings.judge(read(mix, Scope(timedelta(minutes=minutes), run_id)))


@given(MIX, st.integers(1, 300))
def test_nothing_of_a_run_that_is_left_alone_may_go(mix: dict[str, Run], minutes: int) -> None:
    findings = judged(mix, minutes)
    removable = {(finding.run_id or "theirs").lower() for finding in findings.removable()}
    assert not removable & {run_id.lower() for run_id, run in mix.items() if run.left_alone}
    assert "theirs" not in removable
    for run_id, run in mix.items():
        statuses = {finding.status for finding in findings.all() if (finding.run_id or "").lower() == run_id.lower()}
        if run.left_alone:
            assert statuses <= {"at_work" if run.alive else "running"}
        youngest = min((age for age in (run.intent, run.job) if age is not None), default=None)
        if youngest is not None and not run.left_alone and youngest < minutes:
            assert statuses == {"too_young"}


@given(MIX, st.integers(1, 300))
def test_a_dead_run_goes_as_a_whole_once_its_youngest_trace_is_old_enough(mix: dict[str, Run], minutes: int) -> None:
    findings = judged(mix, minutes)
    for run_id, run in mix.items():
        ages = [age for age in (run.intent, run.job) if age is not None]
        ages += [] if run.lease_ends is None else [-run.lease_ends]
        if not run.left_alone and ages and min(ages) >= minutes:
            assert {finding.status for finding in findings.all() if (finding.run_id or "").lower() == run_id.lower()} == {"removable"}


@given(MIX, st.sampled_from(RUNS))
def test_of_a_run_that_is_cancelled_everything_goes_and_of_others_nothing_is_told(mix: dict[str, Run], run_id: str) -> None:
    findings = judged(mix, 300, run_id.upper())
    assert {(finding.run_id or "").lower() for finding in findings.all()} <= {run_id.lower()}
    assert findings.removable() == findings.all()
    run = mix[run_id]
    assert len(findings.all()) == sum(part is not None for part in (run.intent, run.job, run.lease_ends, run.task))


def test_a_task_that_does_something_else_is_not_ours() -> None:
    name = "host_night-1"
    script = f"{FOLDER.jobs}\\{name}\\run.cmd"
    for arguments, ours in ((tasks.arguments_for(script), True), (tasks.arguments_for(script).upper(), True), ("", True),
                            ("/c del C:\\", False), (tasks.arguments_for("C:\\run.cmd"), False)):
        assert (cleanup_runs._name_of(TaskLook(name, READY, arguments), FOLDER) is not None) == ours
    assert cleanup_runs._name_of(TaskLook("theirs", READY, ""), FOLDER) is None


@pytest.mark.parametrize(("inside", "links", "foreign"), [
    (("disks", "disks\\a.vhdx", "recovery0", "recovery0\\a-AutoRecovery.avhdx", "manifest.json.tmp"), (), None), ((), (), None),
    (("notes.txt",), (), "notes.txt"), (("disks\\a\\b",), (), "disks\\a\\b"), (("disks\\nul",), (), "disks\\nul"),
    (("disks",), ("HV01",), "the link HV01"), (("disks",), ("v",), "the link v"), (("disks",), ("v2",), None),
    (("disks",), ("E:\\x\\HV01\\v\\20260301T220000Z_r\\disks",), "the link disks"),
])
def test_what_a_copy_may_hold(inside: tuple[str, ...], links: tuple[str, ...], foreign: str | None) -> None:
    copy = judge_content("E:\\x\\HV01\\v\\20260301T220000Z_r", Intent("r", "0a1b2c3d", NOW, "V", ()), inside, links)
    assert copy is not None
    assert copy.foreign == foreign


@pytest.mark.parametrize("name", ["manifest.json", "Manifest.json", "manifest.json.pruning"])
def test_a_copy_that_is_or_was_complete_is_never_incomplete(name: str) -> None:
    assert judge_content("E:\\x\\HV01\\v\\c", Intent("r", "0a1b2c3d", NOW, "V", ()), ("disks", name), ()) is None
