# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_checkpoint`` with state absent against a simulated host: what goes, what never does, and when it is merged."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_merge import expected
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_checkpoint
from simulator.hyperv.checkpoints import Wish
from simulator.hyperv.ids import system_ref
from simulator.hyperv.spec import CheckpointSpec, VmSpec
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
VM = "0A1B2C3D-0000-4000-8000-00000000ABCD"


def guid(number: int) -> str:
    return f"0A1B2C3D-0000-4000-8000-{number:012d}"


def ours(key: str, number: int, **values: Any) -> CheckpointSpec:
    expires = values.pop("expires", None)
    mark = f"[agentless.hyperv checkpoint={guid(number)} run=old-1 kind=production_only achieved=application" + (
        f" expires={expires}]" if expires else "]")
    return CheckpointSpec(key, **{"name": key, "checkpoint_id": guid(number), "notes": mark, **values})


def theirs(key: str, number: int, **values: Any) -> CheckpointSpec:
    return CheckpointSpec(key, **{"name": key, "checkpoint_id": guid(number), **values})


def runner_of(start: Start, *checkpoints: CheckpointSpec, **values: Any) -> Any:
    vm = VmSpec("web01", vm_id=VM, folder="D:\\VMs\\web01", checkpoints=checkpoints, **values)
    return start(volumes=(VolumeSpec("C:"), VolumeSpec("D:")), vms=(vm,))


def machine(runner: Any) -> Any:
    return runner.running.host.hyperv.machines[VM]


def names(runner: Any) -> list[str]:
    return [one.name for one in machine(runner).checkpoints.values()]


def chain(runner: Any) -> int:
    return len(list(machine(runner).disks[0].leaf.chain()))


def remove(runner: Any, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = runner.run(hyperv_checkpoint, name="web01", state="absent", **params)
    return result


LINE = (ours("a", 1, age_hours=50), ours("b", 2, parent="a", age_hours=40), theirs("user", 3, parent="b", age_hours=30),
        ours("c", 4, parent="user", age_hours=2, expires="2020-01-01T00:00:00Z"))


@pytest.mark.parametrize(("params", "gone"), [
    ({"checkpoint_name": "B"}, ["b"]), ({"checkpoint_id": guid(3)}, ["user"]), ({"pattern": "[ab]"}, ["a", "b"]), ({"pattern": "U*"}, []),
    ({"pattern": "u*", "include_user": True}, ["user"]), ({"older_than": "45h"}, ["a"]), ({"older_than": "1d"}, ["a", "b"]),
    ({"older_than": "1d", "include_user": True}, ["a", "b", "user"]), ({"keep_last": 1}, ["a", "b"]), ({"keep_last": 0}, ["a", "b", "c"]),
    ({"keep_last": 2, "older_than": "100h"}, []), ({"expired": True}, ["c"]), ({"checkpoint_name": "nobody"}, []),
    ({"checkpoint_id": guid(9)}, []),
])
def test_what_the_rules_choose_and_the_plan_shows(start: Start, params: dict[str, Any], gone: list[str]) -> None:
    runner = runner_of(start, *LINE)
    result = runner.run(hyperv_checkpoint, name="web01", state="absent", check=True, **params)
    assert ([one["name"] for one in result["removed"]], result["changed"]) == (gone, bool(gone))
    steps = result["diff"]["after"].get("steps", [])
    assert [(step["action"], step["name"]) for step in steps] == [("remove_checkpoint", name) for name in gone]
    assert all(step["bytes"] > 0 for step in steps)
    assert result["diff"]["after"]["checkpoints"]["web01"] == [one.key for one in LINE if one.key not in gone]
    assert (names(runner), runner.running.host.changes) == (["a", "b", "user", "c"], 0)


@pytest.mark.parametrize("state", ["running", "off", "saved"])
def test_a_removal_waits_until_the_chain_is_shorter(start: Start, state: Any) -> None:
    runner = runner_of(start, *LINE, state=state)
    before = chain(runner)
    result = remove(runner, pattern="[ab]")
    assert ([one["name"] for one in result["removed"]], result["merged"], result["changed"]) == (["a", "b"], True, True)
    assert (names(runner), before - chain(runner)) == (["user", "c"], 2)
    assert result["bytes"] == sum(one["bytes"] for one in result["removed"]) > 0
    assert not remove(runner, pattern="[ab]")["changed"]


def test_without_waiting_the_merge_is_still_to_come_and_a_later_run_waits_for_it(start: Start) -> None:
    runner = runner_of(start, *LINE)
    before = chain(runner)
    assert remove(runner, checkpoint_name="b", wait_for_merge=False)["merged"] is None
    assert chain(runner) == before
    runner.running.host.clock.advance(6)
    assert machine(runner).busy == "merging"
    result = remove(runner, checkpoint_name="b")
    assert (result["changed"], result["merged"], before - chain(runner)) == (False, True, 1)
    assert any("merging disks" in line for line in runner.told.progress)


def test_an_earlier_merge_is_waited_for_beside_a_removal_from_another_machine(start: Start) -> None:
    vms = (VmSpec("web01", vm_id=VM, folder="D:\\VMs\\web01", checkpoints=(ours("a", 1),)),
           VmSpec("db", folder="D:\\VMs\\db", checkpoints=(ours("b", 2),)))
    runner = start(volumes=(VolumeSpec("C:"), VolumeSpec("D:")), vms=vms)
    remove(runner, checkpoint_name="a", wait_for_merge=False)
    runner.running.host.hyperv.knobs.merge_seconds = 600.0
    runner.running.host.clock.advance(6)
    result = runner.run(hyperv_checkpoint, names=["all"], state="absent", pattern="*")
    assert [(entry["changed"], entry["merged"]) for entry in result["results"]] == [(True, True), (False, True)]
    assert chain(runner) == 1


def test_nothing_is_removed_beside_a_backup_that_runs_while_disks_are_merged(start: Start) -> None:
    runner = runner_of(start, theirs("backup", 1, kind="recovery"), ours("a", 2, parent="backup"))
    remove(runner, checkpoint_name="a", wait_for_merge=False)
    host = runner.running.host
    host.hyperv.knobs.merge_seconds = 600.0
    host.clock.advance(6)
    host.hyperv.jobs.start(170, 300.0, [system_ref(VM)], cancellable=False)
    before = host.changes
    with pytest.raises(HypervError) as caught:
        remove(runner, checkpoint_id=guid(1))
    assert (machine(runner).busy, caught.value.error_code, host.changes, names(runner)) == ("merging", "vm_busy", before, ["backup"])


def test_two_branches_from_one_file_stay_and_nobody_waits_for_ever(start: Start) -> None:
    runner = runner_of(start, ours("a", 1), ours("left", 2, parent="a"), ours("right", 3, parent="a"), current_parent="left")
    before = chain(runner)
    assert (remove(runner, checkpoint_name="a")["merged"], chain(runner)) == (True, before)
    assert (remove(runner, checkpoint_name="right")["merged"], names(runner)) == (True, ["left"])


def test_a_subtree_goes_children_first_and_not_with_others_in_it(start: Start) -> None:
    runner = runner_of(start, ours("top", 1), ours("a", 2, parent="top"), ours("b", 3, parent="a"), ours("side", 4, parent="a"))
    result = remove(runner, checkpoint_name="a", subtree=True)
    assert [one["name"] for one in result["removed"]][-1] == "a"
    assert (names(runner), chain(runner)) == (["top"], 2)
    runner = runner_of(start, *LINE)
    with pytest.raises(HypervError) as caught:
        remove(runner, checkpoint_name="b", subtree=True)
    assert caught.value.error_code == "checkpoint_not_ours"
    assert runner.running.host.changes == 0


@pytest.mark.parametrize(("checkpoints", "params", "code"), [
    ((theirs("x", 1),), {"checkpoint_name": "x"}, "checkpoint_not_ours"),
    ((theirs("x", 1, kind="recovery"),), {"checkpoint_name": "x", "include_user": True}, "checkpoint_not_ours"),
    ((theirs("x", 1, kind="replica"),), {"checkpoint_id": guid(1)}, "checkpoint_of_replica"),
    ((ours("x", 1), theirs("X", 2, parent="x"),), {"checkpoint_name": "x"}, "checkpoint_not_unique"),
    ((ours("x", 1), theirs("lost", 2, parent="x", kind="missing")), {"checkpoint_name": "x"}, "checkpoint_files_missing"),
    ((), {}, "no_rule"), ((), {"older_than": "soon"}, "invalid_older_than"), ((), {"checkpoint_id": "x"}, "invalid_id"),
])
def test_what_is_refused(start: Start, checkpoints: tuple[CheckpointSpec, ...], params: dict[str, Any], code: str) -> None:
    runner = runner_of(start, *checkpoints)
    with pytest.raises(HypervError) as caught:
        remove(runner, **params)
    assert (caught.value.error_code, runner.running.host.changes) == (code, 0)


def test_another_products_checkpoint_goes_by_its_id(start: Start) -> None:
    runner = runner_of(start, theirs("backup", 1, kind="recovery", age_hours=50), ours("a", 2, parent="backup"))
    assert remove(runner, keep_last=0, include_user=True)["removed"][0]["name"] == "a"
    assert remove(runner, checkpoint_id=guid(1))["removed"][0]["owner"] == "product"
    assert names(runner) == []


def test_a_machine_that_is_not_there_is_never_absent(start: Start) -> None:
    with pytest.raises(HypervError) as caught:
        runner_of(start).run(hyperv_checkpoint, name="nobody", state="absent", checkpoint_name="a")
    assert caught.value.error_code == "vm_not_found"


def test_merges_that_take_longer_than_a_removal_may(start: Start) -> None:
    runner = runner_of(start, ours("a", 1), ours("b", 2, parent="a"))
    runner.running.host.hyperv.knobs.merge_seconds = 4000.0
    result = remove(runner, pattern="*", timeout=60)
    assert ([one["name"] for one in result["removed"]], result["merged"], chain(runner)) == (["a", "b"], True, 1)


def test_a_merge_that_never_starts_is_told_and_one_that_somebody_switched_off(start: Start) -> None:
    runner = runner_of(start, ours("a", 1))
    runner.running.host.hyperv.knobs.merge_never_starts.add(VM)
    result = remove(runner, checkpoint_name="a", merge_timeout=120)
    assert (result["failed"], result["error_code"], result["merged"], result["changed"]) == (True, "merge_not_done", False, True)
    runner = runner_of(start, ours("a", 1), merge_paused=True)
    assert "disabled" in remove(runner, checkpoint_name="a", merge_timeout=120)["msg"]


def test_a_merge_that_fails_half_way_says_why(start: Start) -> None:
    runner = runner_of(start, ours("a", 1))
    runner.running.host.hyperv.knobs.merge_error[VM] = 0x80070070
    result = remove(runner, checkpoint_name="a", merge_timeout=200)
    assert (result["error_code"], result["hresult"]) == ("merge_not_done", "0x80070070")


def test_somebody_else_removes_it_meanwhile(start: Start) -> None:
    runner = runner_of(start, ours("a", 1), ours("b", 2, parent="a"))
    host = runner.running.host
    host.hyperv.knobs.job_seconds[72] = 10.0
    host.clock.call_later(5, lambda: host.hyperv.checkpoints.destroy(machine(runner), [machine(runner).checkpoints[guid(2)]]))
    result = remove(runner, pattern="*")
    assert ([one["name"] for one in result["removed"]], "failed" in result, names(runner)) == (["a"], False, [])


def test_a_job_that_is_gone_is_settled_by_looking(start: Start) -> None:
    runner = runner_of(start, ours("a", 1))
    host = runner.running.host
    host.clock.call_later(1, host.hyperv.restart_vmms)
    assert (remove(runner, checkpoint_name="a")["merged"], names(runner), chain(runner)) == (True, [], 1)


def test_dependents_that_a_host_takes_along_are_told(start: Start) -> None:
    runner = runner_of(start, ours("a", 1), theirs("b", 2, parent="a"))
    runner.running.host.hyperv.knobs.destroy_takes_dependents = True
    result = remove(runner, checkpoint_name="a")
    assert (result["error_code"], result["candidates"]) == ("others_removed", [guid(2)])


def test_requests(start: Start) -> None:
    runner = runner_of(start, *LINE)
    with runner.fleet.locked():
        before = runner.running.host.counters.snapshot()
    remove(runner, checkpoint_name="nobody")
    with runner.fleet.locked():
        used = dict(runner.running.host.counters.since(before).by_operation)
    assert used == {"Enumerate": 4} or {key: count for key, count in used.items() if key != "Pull"} == {"Enumerate": 4}


def test_what_is_expected_of_chains() -> None:
    chains = {("VM", "d"): ("L", "2", "1", "base", "template"), ("C2", "d"): ("2", "1", "base", "template"),
              ("C1", "d"): ("base", "template")}
    assert expected(chains, {"C1"}, {"BASE"}) == {("VM", "d"): 4, ("C2", "d"): 3}
    assert expected(chains, {"C2"}, {"2"}) == {("VM", "d"): 4, ("C1", "d"): 2}
    assert expected(chains, {"C1", "C2"}, {"2", "base"}) == {("VM", "d"): 3}
    two = {("VM", "d"): ("L", "base"), ("C2", "d"): ("K", "base")}
    assert expected(two, {"C1"}, {"base"}) == {("VM", "d"): 2, ("C2", "d"): 2}


def test_an_unmarked_checkpoint_of_a_backup_in_between_survives(start: Start) -> None:
    runner = runner_of(start, *LINE)
    host = runner.running.host
    made = host.hyperv.checkpoints.create(machine(runner), Wish("recovery"))
    result = remove(runner, pattern="*", include_user=True)
    assert "failed" not in result
    assert list(machine(runner).checkpoints) == [made.id]


def test_without_waiting_one_removal_is_begun_and_the_same_task_again_begins_the_next(start: Start) -> None:
    runner = runner_of(start, *LINE)
    first = remove(runner, pattern="[ab]", wait=False)
    assert ([one["name"] for one in first["removed"]], first["job"]["finished"], first["merged"]) == (["a"], False, None)
    again = remove(runner, pattern="[ab]", wait=False)
    assert (again["changed"], again["removed"], again["job"]["finished"], again["job"]["type"]) == (False, [], False, 72)
    for _unused in range(20):
        runner.running.host.clock.advance(10)
        result = remove(runner, pattern="[ab]", wait=False)
        if result["job"] is None:
            break
    assert (result["changed"], names(runner)) == (False, ["user", "c"])


def test_a_task_that_waits_adopts_a_removal_that_goes_on(start: Start) -> None:
    runner = runner_of(start, *LINE)
    before = chain(runner)
    remove(runner, pattern="[ab]", wait=False)
    result = remove(runner, pattern="[ab]")
    assert (result["merged"], names(runner), before - chain(runner)) == (True, ["user", "c"], 2)
