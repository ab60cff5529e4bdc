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
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_intents import CheckpointIntent, MachineIntent
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_checkpoint, hyperv_checkpoint_info
from hypothesis import given
from hypothesis import strategies as st
from simulator.host import SimHost
from simulator.hyperv.checkpoints import Wish
from simulator.hyperv.spec import VmSpec
from simulator.windows.spec import VolumeSpec
from unit.modules.conftest import start

__all__ = ["start"]

VM = "0A1B2C3D-0000-4000-8000-00000000ABCD"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
INTENT = CheckpointIntent("patch-1", "0a1b2c3d", NOW, (
    MachineIntent(VM, "standard", "production_only"), MachineIntent(VM[:-1] + "E", None, None)))
FOLDER = "C:\\ProgramData\\agentless.hyperv\\intents"
Start = Callable[..., Any]


def listed(name: str, text: bytes) -> bytes:
    return b"".join(f"{FOLDER}\\{name}:{number}:".encode() + line + b"\n" for number, line in enumerate(text.splitlines(keepends=False), 1))


def test_what_is_written_is_read() -> None:
    assert intents.from_output(listed(INTENT.file_name, INTENT.dump())) == (INTENT,)
    assert max(len(line) for line in INTENT.dump().splitlines()) < 200


@given(st.text())
def test_any_text_is_an_intent_or_none(text: str) -> None:
    try:
        found = intents.parse(INTENT.file_name, text)
    except ValueError:
        return
    assert found.run_id == "patch-1"


@pytest.mark.parametrize(("old", "new"), [
    (b'"create_checkpoint"', b'"create_shadow_copy"'), (b'"format": 1', b'"format": 2'), (b'"patch-1"', b'"patch-2"'),
    (b'"standard"', b'"none"'), (VM.encode(), b"x"), (b"2026-03-01T12:00:00Z", b"yesterday"),
])
def test_a_text_that_is_not_to_be_trusted_says_nothing(old: bytes, new: bytes) -> None:
    assert old in INTENT.dump()
    assert intents.from_output(listed(INTENT.file_name, INTENT.dump().replace(old, new, 1))) == ()


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
    host.files.write_file(f"{FOLDER}\\{intent.file_name}", intent.dump())
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
