# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_checkpoint_revert`` against a simulated host: the old bytes, the old configuration, and the policy that is the machine's own."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_checkpoint, hyperv_checkpoint_revert
from simulator.hyperv.hardware import reconfigure
from simulator.hyperv.spec import CheckpointSpec, NicSpec, VmSpec
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
VM = "0A1B2C3D-0000-4000-8000-00000000ABCD"
STATE = "C:\\ProgramData\\agentless.hyperv"


def runner_of(start: Start, *checkpoints: CheckpointSpec, **values: Any) -> Any:
    vm = VmSpec(**{"name": "web01", "vm_id": VM, "folder": "D:\\VMs\\web01", "checkpoints": checkpoints, **values})
    return start(volumes=(VolumeSpec("C:"), VolumeSpec("D:")), vms=(vm,))


def machine(runner: Any) -> Any:
    return runner.running.host.hyperv.machines[VM]


def revert(runner: Any, **params: Any) -> dict[str, Any]:
    given = {key: value for key, value in {"checkpoint_name": "good", **params}.items() if value is not None}
    result: dict[str, Any] = runner.run(hyperv_checkpoint_revert, name="web01", **given)
    return result


def intents(runner: Any) -> list[str]:
    host = runner.running.host
    return [place.parts[-1] for place in host.files.children(host.files.resolve(f"{STATE}\\intents"))]


@pytest.mark.parametrize(("kind", "state", "power_after", "final"), [
    ("production", "off", "as_reverted", "off"), ("standard", "off", "as_reverted", "saved"), ("standard", "saved", "running", "running"),
    ("production", "running", "as_before", "running"), ("production", "running", "as_reverted", "off"),
    ("standard", "paused", "as_before", "saved"),
])
def test_it_goes_back_and_the_power_state_is_the_one_that_was_said(start: Start, kind: Any, state: Any, power_after: str,
                                                                   final: str) -> None:
    runner = runner_of(start, CheckpointSpec("g", "good", kind=kind), CheckpointSpec("l", "later", parent="g"), state=state)
    old = machine(runner).disks[0].leaf
    result = revert(runner, force=True, power_after=power_after, checkpoint_before=state != "paused")
    assert (result["changed"], result["state"], "failed" in result, result["leftovers"]) == (True, final, False, [])
    one = machine(runner)
    assert (one.state, one.current_parent.name) == (final, "good")
    assert one.disks[0].leaf is not old
    if state != "paused":
        before = one.checkpoints[result["checkpoint_before"]["id"]]
        assert before.name.startswith("before revert to good 2")
        assert (before.parent.name, old in before.files.values()) == ("later", True)
    again = revert(runner, force=True, power_after=power_after, checkpoint_before=False)
    assert (again["changed"], again["checkpoint_before"]) == (True, None)


def test_the_policy_is_the_machines_own_afterwards(start: Start) -> None:
    runner = runner_of(start, policy="standard")
    runner.run(hyperv_checkpoint, name="web01", checkpoint_name="good")
    result = revert(runner, force=True)
    assert "failed" not in result
    assert (machine(runner).policy, intents(runner)) == (5, [])


def test_check_mode_says_what_is_lost_and_changes_nothing(start: Start) -> None:
    runner = runner_of(start, CheckpointSpec("g", "good"))
    result = runner.run(hyperv_checkpoint_revert, name="web01", checkpoint_name="good", check=True, force=True, checkpoint_before=False)
    before, after = result["diff"]["before"]["web01"], result["diff"]["after"]["web01"]
    assert (before["state"], after["state"], after["written"]) == ("running", "off", "lost")
    assert before["written"]["since"] == "good"
    assert before["written"]["bytes"] > 0
    assert before["configuration"] == after["configuration"] == {
        "processors": 2, "memory_mb": 2048, "network_adapters": ["Network Adapter"], "disks": 1}
    assert [step["action"] for step in result["diff"]["after"]["steps"]] == ["turn_off", "revert"]
    assert (result["changed"], runner.running.host.changes) == (True, 0)


def test_the_configuration_goes_back_too_and_the_diff_says_so(start: Start) -> None:
    runner = runner_of(start, CheckpointSpec("g", "good"), state="off")
    machine(runner).disks  # noqa: B018 - the files of described checkpoints are known only after this
    reconfigure(machine(runner), processors=8, memory_mb=4096, nics=(NicSpec(), NicSpec("second")))
    result = revert(runner, checkpoint_before=False)
    before, after = (result["diff"][side]["web01"]["configuration"] for side in ("before", "after"))
    assert (before["processors"], before["memory_mb"], before["network_adapters"]) == (8, 4096, ["Network Adapter", "second"])
    assert (after["processors"], after["memory_mb"], after["network_adapters"]) == (2, 2048, ["Network Adapter"])
    assert (machine(runner).spec.processors, machine(runner).spec.memory_mb, len(machine(runner).spec.nics)) == (2, 2048, 1)


def test_what_must_be_made_again_afterwards_is_told(start: Start) -> None:
    runner = runner_of(start, CheckpointSpec("g", "good"), state="off", replication_mode=1, incremental_backup=True)
    revert(runner)
    assert any("resynchronisation" in warning for warning in runner.told.warnings)
    assert any("full one" in warning for warning in runner.told.warnings)


@pytest.mark.parametrize(("values", "checkpoint", "params", "code"), [
    ({}, {}, {}, "vm_not_off"), ({"replication_mode": 2}, {}, {}, "replica_vm"), ({"busy": "exporting"}, {}, {"force": True}, "vm_busy"),
    ({}, {}, {"checkpoint_name": "bad"}, "checkpoint_not_found"), ({}, {"kind": "recovery"}, {}, "checkpoint_not_ours"),
    ({}, {"kind": "replica"}, {}, "checkpoint_of_replica"), ({}, {"kind": "missing"}, {}, "checkpoint_files_missing"),
    ({"policy": "disabled"}, {}, {"force": True}, "checkpoints_disabled"),
    ({}, {}, {"checkpoint_name": None, "checkpoint_id": "x"}, "invalid_id"),
])
def test_what_is_refused_before_anything_is_written(start: Start, values: dict[str, Any], checkpoint: dict[str, Any],
                                                    params: dict[str, Any], code: str) -> None:
    runner = runner_of(start, CheckpointSpec("g", **{"name": "good", **checkpoint}), **values)
    with pytest.raises(HypervError) as caught:
        revert(runner, **params)
    assert (caught.value.error_code, runner.running.host.changes) == (code, 0)


def test_two_of_one_name_are_an_error_and_a_guid_is_not(start: Start) -> None:
    runner = runner_of(start, CheckpointSpec("a", "good"), CheckpointSpec("b", "Good", parent="a"), state="off")
    with pytest.raises(HypervError) as caught:
        revert(runner)
    assert caught.value.error_code == "checkpoint_not_unique"
    result = revert(runner, checkpoint_name=None, checkpoint_id=caught.value.details["candidates"][0])
    assert machine(runner).current_parent.id == result["checkpoint"]["id"]


def test_a_chain_that_is_not_complete_is_refused(start: Start) -> None:
    runner = runner_of(start, CheckpointSpec("g", "good"), state="off")
    host = runner.running.host
    host.hyperv.disks.materialise_machine(machine(runner))
    base = list(machine(runner).disks[0].leaf.chain())[-1]
    host.hyperv.disks.remove(base.path)
    with pytest.raises(HypervError) as caught:
        revert(runner)
    assert caught.value.error_code == "chain_broken"


def test_when_the_present_state_cannot_be_kept_nothing_is_done(start: Start) -> None:
    runner = runner_of(start, CheckpointSpec("g", "good"))
    runner.running.host.hyperv.knobs.cannot_quiesce.add(VM)
    result = revert(runner, force=True, before_kind="production_only")
    assert (result["error_code"], machine(runner).state, len(machine(runner).checkpoints)) == ("production_failed", "running", 1)


def test_a_job_that_is_gone_is_settled_by_looking(start: Start) -> None:
    runner = runner_of(start, CheckpointSpec("g", "good"), state="off")
    host = runner.running.host
    host.clock.call_later(2, host.hyperv.restart_vmms)
    assert "failed" not in revert(runner, checkpoint_before=False)
    assert machine(runner).current_parent.name == "good"
