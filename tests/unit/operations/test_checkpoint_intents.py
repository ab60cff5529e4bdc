# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intents for checkpoints: their text, and what a later run makes of those that a dead run left."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_intents as intents
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_intents import (
    BegunJob,
    CheckpointIntent,
    MachineIntent,
)
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_checkpoint, hyperv_checkpoint_info, hyperv_cleanup
from hypothesis import given
from hypothesis import strategies as st
from simulator.host import SimHost
from simulator.hyperv.checkpoints import Wish
from simulator.hyperv.spec import VmSpec
from simulator.soap import rules
from simulator.windows.spec import VolumeSpec
from unit.modules.conftest import start

__all__ = ["start"]

VM = "0A1B2C3D-0000-4000-8000-00000000ABCD"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
INTENT = CheckpointIntent("patch-1", "0a1b2c3d", NOW, (
    MachineIntent(VM, "standard", "production_only", BegunJob("Msvm_ConcreteJob", "0A1B"), "application"),
    MachineIntent(VM[:-1] + "E", None, None)), "before \u00fcpdate")
FOLDER = "C:\\ProgramData\\agentless.hyperv\\intents"
Start = Callable[..., Any]


def listed(name: str, text: bytes) -> bytes:
    return b"".join(f"{FOLDER}\\{name}:{number}:".encode() + line + b"\n" for number, line in enumerate(text.splitlines(keepends=False), 1))


def test_what_is_written_is_read() -> None:
    assert intents.STORE.from_output(listed(INTENT.file_name, intents.STORE.dump(INTENT))) == (INTENT,)
    assert max(len(line) for line in intents.STORE.dump(INTENT).splitlines()) < 200


@given(st.text())
def test_any_text_is_an_intent_or_none(text: str) -> None:
    try:
        found = intents.STORE.parse(INTENT.file_name, text)
    except ValueError:
        return
    assert found.run_id == "patch-1"


@pytest.mark.parametrize(("old", "new"), [
    (b'"create_checkpoint"', b'"create_shadow_copy"'), (b'"format": 1', b'"format": 2'), (b'"patch-1"', b'"patch-2"'),
    (b'"standard"', b'"none"'), (VM.encode(), b"x"), (b"2026-03-01T12:00:00Z", b"yesterday"),
])
def test_a_text_that_is_not_to_be_trusted_says_nothing(old: bytes, new: bytes) -> None:
    assert old in intents.STORE.dump(INTENT)
    assert intents.STORE.from_output(listed(INTENT.file_name, intents.STORE.dump(INTENT).replace(old, new, 1))) == ()


@pytest.mark.parametrize(("old", "new"), [
    (b"Msvm_ConcreteJob", b"Win32_Process"), (b'"0A1B"', b'"0A\\u000a1B"'), (b'"0A1B"', b"7"), (b'"job"', b'"jobs"'),
])
def test_a_job_that_is_not_to_be_trusted_is_none(old: bytes, new: bytes) -> None:
    assert old in intents.STORE.dump(INTENT)
    read = intents.STORE.from_output(listed(INTENT.file_name, intents.STORE.dump(INTENT).replace(old, new, 1)))
    assert [one.job for one in read[0].machines] == [None, None]


def test_what_may_have_come_of_an_intent() -> None:
    def blamed(seconds: float) -> bool:
        return intents.may_have_made([INTENT], VM, NOW + timedelta(seconds=seconds)) is INTENT

    assert [blamed(one) for one in (-1, 0, 3600, 3601)] == [False, True, True, False]
    assert intents.may_have_made([INTENT], VM.replace("0A", "0B"), NOW) is None
    assert intents.may_have_made([replace(INTENT, machines=())], VM, NOW) is None
    assert intents.may_have_made([INTENT], VM, None) is None


# -- a dead run --------------------------------------------------------------------------------------------------------


def leave(host: SimHost, was: str = "standard", now: str = "production_only", run_id: str = "dead-1") -> CheckpointIntent:
    """An intent as a run leaves it that died now."""
    intent = CheckpointIntent(run_id, "0a1b2c3d", host.clock.now().replace(microsecond=0), (MachineIntent(VM, was, now),))
    host.files.write_file(f"{FOLDER}\\{intent.file_name}", intents.STORE.dump(intent))
    return intent


def runner_of(start: Start, **values: Any) -> Any:
    """A host on which a run has made the state folder."""
    runner = start(volumes=(VolumeSpec("C:"), VolumeSpec("D:")), vms=(VmSpec("web01", vm_id=VM, folder="D:\\VMs\\web01", **values),))
    runner.run(hyperv_checkpoint, name="web01", checkpoint_name="first")
    return runner


def left(runner: Any) -> list[str]:
    host = runner.running.host
    return [place.parts[-1] for place in host.files.children(host.files.resolve(FOLDER))]


def test_the_policy_that_a_dead_run_left_is_put_back_even_when_there_is_nothing_else_to_do(start: Start) -> None:
    runner = runner_of(start, policy="production_only")
    leave(runner.running.host)
    result = runner.run(hyperv_checkpoint, name="web01", checkpoint_name="first", check=True)
    assert [step["action"] for step in result["diff"]["after"]["steps"]] == ["restore_checkpoint_policy", "remove_intent"]
    result = runner.run(hyperv_checkpoint, name="web01", checkpoint_name="first")
    assert (result["changed"], runner.running.host.hyperv.machines[VM].policy, left(runner)) == (True, 5, [])
    assert not runner.run(hyperv_checkpoint, name="web01", checkpoint_name="first")["changed"]


def test_a_policy_that_somebody_changed_since_stays(start: Start) -> None:
    runner = runner_of(start, policy="production")
    leave(runner.running.host)
    runner.run(hyperv_checkpoint, name="web01", checkpoint_name="first")
    assert (runner.running.host.hyperv.machines[VM].policy, left(runner)) == (3, [])


def test_a_run_at_work_is_left_alone(start: Start) -> None:
    runner = runner_of(start, policy="production_only")
    host = runner.running.host
    leave(host, run_id="alive-1")
    until = (host.clock.now() + timedelta(minutes=10)).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    lease = f"{FOLDER.replace('intents', 'leases')}\\alive-1"
    host.files.create_directory(lease)
    host.files.write_file(f"{lease}\\{until}_alive-1_0a1b2c3d4e5f.lease", b"")
    result = runner.run(hyperv_checkpoint, name="web01", checkpoint_name="first")
    assert (result["changed"], host.hyperv.machines[VM].policy, len(left(runner))) == (False, 4, 1)
    result = runner.run(hyperv_checkpoint, names=["web01"], checkpoint_name="second")
    assert [entry["error_code"] for entry in result["results"]] == ["vm_busy"]


def test_a_checkpoint_without_a_name_is_a_suspect_and_the_intent_stays_as_long_as_it_is_there(start: Start) -> None:
    runner = runner_of(start)
    host = runner.running.host
    intent = leave(host, was="production", now="production")
    host.clock.advance(5)
    machine = host.hyperv.machines[VM]
    made = host.hyperv.checkpoints.create(machine, Wish("production"))
    host.clock.advance(7200)
    info = runner.run(hyperv_checkpoint_info, name="web01")
    assert [(one["suspect"], one["owner"]) for one in info["checkpoints"]] == [(False, "ours"), (True, "user")]
    assert "suspect" in [finding["code"] for finding in info["findings"]]
    result = runner.run(hyperv_checkpoint, name="web01", checkpoint_name="second")
    assert result["checkpoint"]["name"] == "second"
    assert any("Nothing proves it" in warning for warning in runner.told.warnings)
    assert made.id in machine.checkpoints
    assert left(runner) == [intent.file_name]


# -- the clean-up ------------------------------------------------------------------------------------------------------


def clean(runner: Any, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = runner.run(hyperv_cleanup, **params)
    return result


def found(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["kind"], item["status"]) for item in result["found"]]


def hold_lease(host: SimHost, run_id: str) -> None:
    until = (host.clock.now() + timedelta(minutes=10)).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    lease = f"{FOLDER.replace('intents', 'leases')}\\{run_id}"
    host.files.create_directory(lease)
    host.files.write_file(f"{lease}\\{until}_{run_id}_0a1b2c3d4e5f.lease", b"")


def test_the_clean_up_finds_tells_and_repairs_a_policy_that_a_dead_run_left(start: Start) -> None:
    runner = runner_of(start, policy="production_only")
    host = runner.running.host
    intent = leave(host)
    assert found(clean(runner)) == [("checkpoint_policy", "too_young"), ("intent", "too_young")]
    host.clock.advance(3700)
    audit = clean(runner)
    assert (found(audit), audit["changed"]) == ([("checkpoint_policy", "removable"), ("intent", "removable")], False)
    assert audit["found"][0]["remove_with"] == f"Get-VM -Id {VM} | Set-VM -CheckpointType Standard"
    assert audit["found"][0]["run_id"] == "dead-1"
    before = host.changes
    check = clean(runner, remove=True, check=True)
    assert [step["action"] for step in check["diff"]["after"]["steps"]] == ["remove_checkpoint_policy", "remove_intent"]
    assert (host.changes, host.hyperv.machines[VM].policy, left(runner)) == (before, 4, [intent.file_name])
    done = clean(runner, remove=True)
    assert ([item["kind"] for item in done["removed"]], done["leftovers"], done["changed"]) == (["checkpoint_policy", "intent"], [], True)
    assert (host.hyperv.machines[VM].policy, left(runner)) == (5, [])
    assert clean(runner, remove=True)["changed"] is False


def test_the_clean_up_leaves_a_run_at_work_alone_unless_that_run_is_cancelled(start: Start) -> None:
    runner = runner_of(start, policy="production_only")
    host = runner.running.host
    leave(host, run_id="alive-1")
    host.clock.advance(3700)
    hold_lease(host, "alive-1")
    assert found(clean(runner, remove=True)) == [("intent", "at_work"), ("lease", "at_work")]
    assert (host.hyperv.machines[VM].policy, len(left(runner))) == (4, 1)
    clean(runner, remove=True, run_id="alive-1")
    assert (host.hyperv.machines[VM].policy, left(runner)) == (5, [])


def test_the_clean_up_leaves_a_creation_alone_that_nobody_waits_for(start: Start) -> None:
    runner = runner_of(start, policy="standard")
    host = runner.running.host
    host.hyperv.knobs.job_seconds[70] = 7200.0
    runner.run(hyperv_checkpoint, name="web01", checkpoint_name="slow", wait=False)
    host.clock.advance(3700)
    assert found(clean(runner, remove=True)) == [("checkpoint_policy", "running"), ("intent", "running")]
    assert (host.hyperv.machines[VM].policy, len(left(runner))) == (4, 1)
    host.clock.advance(3700)
    assert "removable" in {status for _kind, status in found(clean(runner))}


def test_the_clean_up_never_touches_a_suspect_checkpoint_and_its_intent_stays(start: Start) -> None:
    runner = runner_of(start)
    host = runner.running.host
    intent = leave(host, was="production", now="production")
    host.clock.advance(5)
    made = host.hyperv.checkpoints.create(host.hyperv.machines[VM], Wish("production"))
    host.clock.advance(7200)
    assert found(clean(runner, remove=True)) == [("intent", "suspect"), ("suspect_checkpoint", "suspect")]
    assert (made.id in host.hyperv.machines[VM].checkpoints, left(runner)) == (True, [intent.file_name])


def test_a_policy_that_cannot_be_put_back_keeps_its_intent_and_is_a_leftover(start: Start) -> None:
    runner = runner_of(start, policy="production_only")
    host = runner.running.host
    intent = leave(host)
    host.clock.advance(3700)
    host.rules.add(rules.access_denied(), "Invoke *.ModifySystemSettings", times=None)
    result = clean(runner, remove=True)
    assert (result["failed"], result["error_code"]) == (True, "cleanup_failed")
    assert [item["kind"] for item in result["leftovers"]] == ["checkpoint_policy", "intent"]
    assert (host.hyperv.machines[VM].policy, left(runner)) == (4, [intent.file_name])


def test_an_intent_that_nobody_can_read_is_told_and_stays(start: Start) -> None:
    runner = runner_of(start, policy="production_only")
    host = runner.running.host
    host.files.write_file(f"{FOLDER}\\dead-1_0a1b2c3d.checkpoint", b"nonsense\r\n")
    host.clock.advance(3700)
    assert found(clean(runner, remove=True)) == [("intent", "damaged")]
    assert (host.hyperv.machines[VM].policy, left(runner)) == (4, ["dead-1_0a1b2c3d.checkpoint"])


def test_a_clean_up_after_a_controller_that_died_between_creation_and_naming(start: Start) -> None:
    """The policy is put back; the checkpoint is a suspect, never ours and never deleted; the intent stays as long as it is there."""
    runner = runner_of(start, policy="standard")
    host = runner.running.host
    begun = False

    def gone(view: Any) -> bool:
        nonlocal begun
        now, begun = begun, begun or "CreateSnapshot" in view.document
        return now

    host.rules.add(rules.lost_before(), when=gone, times=None)
    assert runner.run(hyperv_checkpoint, name="web01", checkpoint_name="new", run_id="dead-1")["failed"]
    host.rules.clear()
    host.clock.advance(7200)
    result = clean(runner, remove=True)
    assert ("suspect_checkpoint", "suspect") in found(result)
    assert [item["kind"] for item in result["removed"]] == ["checkpoint_policy", "lease"]
    machine = host.hyperv.machines[VM]
    assert (machine.policy, len(machine.checkpoints), len(left(runner))) == (5, 2, 1)
    info = runner.run(hyperv_checkpoint_info, name="web01")
    assert [(one["owner"], one["suspect"]) for one in info["checkpoints"]] == [("ours", False), ("user", True)]
