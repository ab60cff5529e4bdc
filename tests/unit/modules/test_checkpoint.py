# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_checkpoint`` with state present against a simulated host."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_checkpoint
from simulator.hyperv.ids import system_ref
from simulator.hyperv.spec import CheckpointSpec, ComponentSpec, DiskSpec, IntegrationSpec, VmSpec
from simulator.soap import rules
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"))
STATE = "C:\\ProgramData\\agentless.hyperv"
MAKE = {"name": "web01", "checkpoint_name": "before-patch"}


def web(**values: Any) -> VmSpec:
    return VmSpec(**{"name": "web01", "folder": "D:\\VMs\\web01", **values})


def machine(runner: Any, name: str = "web01") -> Any:
    return next(one for one in runner.running.host.hyperv.machines.values() if one.name == name)


def files(runner: Any, part: str) -> list[str]:
    host = runner.running.host
    path = f"{STATE}\\{part}"
    return [place.parts[-1] for place in host.files.children(host.files.resolve(path))] if host.files.exists(path) else []


@pytest.mark.parametrize("release", ["2016", "2022"])
@pytest.mark.parametrize("policy", ["production", "production_only", "standard"])
@pytest.mark.parametrize("kind", ["production_only", "production", "standard"])
def test_every_kind_under_every_policy_which_stays(start: Start, release: str, policy: str, kind: str) -> None:
    runner = start(volumes=VOLUMES, vms=(web(policy=policy),), os_version=release)
    result = runner.run(hyperv_checkpoint, **MAKE, kind=kind, run_id="patch-1", expires_after="2h", notes="by the patch flow")
    made = result["checkpoint"]
    saved = kind == "standard"
    assert {key: made[key] for key in ("name", "owner", "kind", "saved_state", "run_id", "notes", "is_parent_of_current", "depth")} == {
        "name": "before-patch", "owner": "ours", "kind": "standard" if saved else "production", "saved_state": saved, "run_id": "patch-1",
        "notes": "by the patch flow", "is_parent_of_current": True, "depth": 1}
    assert (result["consistency"]["requested"], result["consistency"]["achieved"]) == (kind, "image" if saved else "application")
    assert (result["changed"], result["leftovers"], "failed" in result) == (True, [], False)
    assert machine(runner).policy == {"production": 3, "production_only": 4, "standard": 5}[policy]
    assert files(runner, "intents") == files(runner, "leases") == []
    again = runner.run(hyperv_checkpoint, **MAKE, kind=kind)
    assert (again["changed"], again["checkpoint"]["id"]) == (False, made["id"])
    assert len(machine(runner).checkpoints) == 1


def test_check_mode_predicts_and_writes_nothing(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(),))
    result = runner.run(hyperv_checkpoint, check=True, **MAKE)
    assert result["changed"]
    assert [step["action"] for step in result["diff"]["after"]["steps"]] == ["change_checkpoint_policy", "create_checkpoint"]
    assert result["diff"]["after"]["checkpoints"] == {"web01": ["before-patch"]}
    assert (result["checkpoint"]["kind"], result["consistency"]["achieved"]) == ("production", "application")
    assert runner.running.host.changes == 0


def test_a_guest_that_fails_to_quiesce_gives_nothing_and_the_policy_is_back(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(policy="standard"),))
    runner.running.host.hyperv.knobs.cannot_quiesce.add(machine(runner).id)
    result = runner.run(hyperv_checkpoint, **MAKE)
    assert (result["failed"], result["error_code"], result["changed"]) == (True, "production_failed", False)
    assert result["hresult"] == "0x800423F4"
    assert (machine(runner).policy, machine(runner).checkpoints, files(runner, "intents")) == (5, {}, [])


def test_production_may_fall_back_and_says_so(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(policy="production_only"),))
    runner.running.host.hyperv.knobs.cannot_quiesce.add(machine(runner).id)
    result = runner.run(hyperv_checkpoint, **MAKE, kind="production")
    assert (result["checkpoint"]["kind"], result["consistency"]["achieved"], machine(runner).policy) == ("standard", "image", 4)


def silent() -> IntegrationSpec:
    return IntegrationSpec(vss=ComponentSpec(status="no_contact"))


@pytest.mark.parametrize(("values", "params", "code"), [
    ({"policy": "disabled"}, {}, "checkpoints_disabled"),
    ({"integration": silent()}, {}, "guest_cannot_quiesce"),
    ({"state": "saved"}, {}, "guest_cannot_quiesce"),
    ({"state": "paused"}, {}, "paused"),
    ({"disks": (DiskSpec(), DiskSpec(medium="passthrough"))}, {}, "pass_through_disk"),
    ({"fibre_channel_ports": 1}, {}, "pass_through_disk"),
    ({"disks": (DiskSpec(shared=True),)}, {}, "shared_disk"),
    ({"replication_mode": 2}, {}, "replica_vm"),
    ({"busy": "exporting"}, {}, "vm_busy"),
    ({"busy": "backup"}, {}, "vm_busy"),
    ({"checkpoints": (CheckpointSpec("a", kind="missing"),)}, {}, "checkpoint_files_missing"),
    ({"checkpoints": (CheckpointSpec("a", "Before-Patch"),)}, {}, "checkpoint_name_taken"),
    ({}, {"checkpoint_name": "x" * 101}, "invalid_checkpoint_name"),
    ({}, {"expires_after": "soon"}, "invalid_expires_after"),
    ({}, {"run_id": "../x"}, "invalid_run_id"),
    ({"memory_mb": 4096 * 1024}, {"kind": "standard"}, "no_room_for_memory"),
    ({"snapshot_folder": "E:\\gone"}, {}, "location_missing"),
])
def test_what_is_refused_before_anything_is_written(start: Start, values: dict[str, Any], params: dict[str, Any], code: str) -> None:
    runner = start(volumes=VOLUMES, vms=(web(**values),))
    with pytest.raises(HypervError) as caught:
        runner.run(hyperv_checkpoint, **{**MAKE, **params})
    assert caught.value.error_code == code
    assert runner.running.host.changes == 0


def test_too_little_room_for_growing_files_is_refused_and_the_limit_is_the_users(start: Start) -> None:
    runner = start(volumes=(VolumeSpec("C:"), VolumeSpec("D:", free=5 * 1024**3)), vms=(web(),))
    with pytest.raises(HypervError) as caught:
        runner.run(hyperv_checkpoint, **MAKE)
    assert caught.value.error_code == "little_free_space"
    assert runner.run(hyperv_checkpoint, **MAKE, min_free_percent=2)["changed"]


def test_a_deep_chain_is_refused(start: Start) -> None:
    levels = tuple(CheckpointSpec(f"k{level}", parent=f"k{level - 1}" if level else None) for level in range(45))
    runner = start(volumes=VOLUMES, vms=(web(checkpoints=levels),))
    with pytest.raises(HypervError) as caught:
        runner.run(hyperv_checkpoint, **MAKE)
    assert caught.value.error_code == "chain_too_deep"


def test_a_policy_that_could_not_be_put_back_is_never_changed(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(),))
    machine(runner).policy = 7
    with pytest.raises(HypervError) as caught:
        runner.run(hyperv_checkpoint, **MAKE)
    assert (caught.value.error_code, runner.running.host.changes) == ("policy_unknown", 0)


def test_before_2016_there_are_standard_checkpoints_only(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(),), os_version="2012R2")
    with pytest.raises(HypervError) as caught:
        runner.run(hyperv_checkpoint, **MAKE)
    assert caught.value.error_code == "needs_2016"
    assert runner.run(hyperv_checkpoint, **MAKE, kind="standard")["checkpoint"]["kind"] == "standard"


def test_a_machine_that_is_off_needs_neither_quiescing_nor_another_policy(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(state="off", policy="standard"),))
    result = runner.run(hyperv_checkpoint, **MAKE)
    assert (result["checkpoint"]["kind"], result["consistency"]["achieved"]) == ("production", "image")
    assert [step["action"] for step in result["diff"]["after"]["steps"]] == ["create_checkpoint"]


def test_several_machines_and_names_that_mean_none(start: Start) -> None:
    vms = (web(), web(name="db", folder="D:\\VMs\\db", policy="disabled"), web(name="app", folder="D:\\VMs\\app"))
    runner = start(volumes=VOLUMES, vms=vms)
    result = runner.run(hyperv_checkpoint, names=["web01", "db", "app", "nobody"], checkpoint_name="before-patch")
    assert {entry["vm"]["name"]: entry.get("error_code") for entry in result["results"]} == {
        "web01": None, "app": None, "db": "checkpoints_disabled", "nobody": "vm_not_found"}
    assert (result["failed"], result["error_code"], result["changed"]) == (True, "some_failed", True)


def test_a_job_that_is_gone_is_no_failure_when_its_checkpoint_is_there(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(),))
    host = runner.running.host
    host.hyperv.knobs.interrupted_creation = "checkpoint"
    host.clock.call_later(1.5, host.hyperv.restart_vmms)
    result = runner.run(hyperv_checkpoint, **MAKE)
    assert (result["checkpoint"]["owner"], len(machine(runner).checkpoints), machine(runner).policy) == ("ours", 1, 3)


@pytest.mark.parametrize(("method", "nth"), [("CreateSnapshot", 1), *(("ModifySystemSettings", nth) for nth in (1, 2, 3))])
def test_a_lost_answer_never_makes_a_second_checkpoint(start: Start, method: str, nth: int) -> None:
    runner = start(volumes=VOLUMES, vms=(web(),))
    rule = runner.running.host.rules.add(rules.lost_after(), when=lambda view: f":{method}_INPUT" in view.document, nth=nth)
    result = runner.run(hyperv_checkpoint, **MAKE)
    assert rule.fired == 1
    assert ("failed" in result, result["checkpoint"]["owner"], result["leftovers"]) == (False, "ours", [])
    assert ([one.name for one in machine(runner).checkpoints.values()], machine(runner).policy) == (["before-patch"], 3)


@pytest.mark.parametrize(("job_type", "code"), [(105, None), (116, "vm_busy"), (170, "vm_busy")])
def test_a_cycle_of_replication_is_in_nobodys_way(start: Start, job_type: int, code: str | None) -> None:
    runner = start(volumes=VOLUMES, vms=(web(replication_mode=1),))
    host = runner.running.host.hyperv
    host.jobs.start(job_type, 3600.0, [system_ref(machine(runner).id)], cancellable=False)
    try:
        made = runner.run(hyperv_checkpoint, **MAKE)["changed"]
    except HypervError as error:
        assert error.error_code == code
    else:
        assert (made, code) == (True, None)


@pytest.mark.parametrize(("state", "code"), [("running", "checkpoint_of_other_kind"), ("off", None)])
def test_a_checkpoint_without_memory_is_no_standard_one(start: Start, state: str, code: str | None) -> None:
    runner = start(volumes=VOLUMES, vms=(web(state=state),))
    runner.run(hyperv_checkpoint, **MAKE)
    try:
        changed = runner.run(hyperv_checkpoint, **MAKE, kind="standard")["changed"]
    except HypervError as error:
        assert error.error_code == code
    else:
        assert (changed, code) == (False, None)


def test_two_new_checkpoints_and_no_answer_that_says_which_is_ours(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(),))
    host = runner.running.host
    host.hyperv.knobs.interrupted_creation = "checkpoint"

    def interrupt() -> None:
        host.hyperv.restart_vmms()
        host.hyperv.foreign_checkpoint("web01", kind="production")

    host.clock.call_later(3, interrupt)
    result = runner.run(hyperv_checkpoint, **MAKE)
    assert (result["error_code"], len(result["suspects"]), result["leftovers"][0]["kind"]) == ("outcome_unknown", 2, "intent")
    assert [one.notes for one in machine(runner).checkpoints.values()] == ["", ""]
    assert machine(runner).policy == 3


def test_a_machine_that_moves_away_meanwhile_is_told(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(), web(name="db", folder="D:\\VMs\\db")))
    host, one = runner.running.host, machine(runner)
    host.clock.call_later(3, lambda: host.hyperv.machines.pop(one.id))
    result = runner.run(hyperv_checkpoint, names=["web01", "db"], checkpoint_name="before-patch")
    first, second = result["results"]
    assert (first["failed"], first["leftovers"][0]["kind"], second["failed"]) == (True, "checkpoint_policy", False)
    assert one.checkpoints == {}


def test_a_job_that_never_ends_is_ended_and_the_policy_is_back(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(),))
    runner.running.host.hyperv.knobs.job_seconds[70] = 1e6
    result = runner.run(hyperv_checkpoint, **MAKE, timeout=60)
    assert (result["error_code"], machine(runner).policy, machine(runner).checkpoints) == ("timeout", 3, {})


def test_notes_that_the_host_copies_from_the_machine_do_not_make_others_ours(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(notes="of the machine"),))
    runner.running.host.hyperv.knobs.notes_are_copied = True
    assert runner.run(hyperv_checkpoint, **MAKE)["checkpoint"]["notes"] is None


def test_requests(start: Start) -> None:
    """Without the polls of jobs. A policy that is the kind's own is neither changed nor put back, six requests."""
    runner = start(volumes=VOLUMES, vms=tuple(
        web(name=f"vm{number}", folder=f"D:\\VMs\\vm{number}", policy="standard" if number % 2 else "production_only")
        for number in range(7)))
    host = runner.running.host

    def cost(*names: str) -> int:
        polls = 0

        def polled(view: Any) -> bool:
            nonlocal polls
            polls += "Msvm_ConcreteJob" in view.document
            return False

        host.rules.add(rules.lost_after(), "Get", when=polled)
        with runner.fleet.locked():
            before = host.counters.snapshot()
        runner.run(hyperv_checkpoint, checkpoint_name="before", names=list(names))
        with runner.fleet.locked():
            used = dict(host.counters.since(before).by_operation)
        used.pop("Pull", None)
        used["Shell Receive"] = min(used.get("Shell Receive", 0), used.get("Shell Command", 0))
        host.rules.clear()
        return sum(used.values()) - polls

    cost("vm0")  # makes the state folder, too
    assert cost("vm0") == 4
    assert (cost("vm1"), cost("vm3", "vm5")) == (38, 38 + 11)
    assert (cost("vm2"), cost("vm4", "vm6")) == (32, 32 + 5)


# -- begun, and not waited for -----------------------------------------------------------------------------------------


def later(runner: Any, seconds: float) -> None:
    with runner.fleet.locked():
        runner.running.host.clock.advance(seconds)


def test_the_same_task_again_adopts_what_was_not_waited_for(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(policy="standard"),))
    first = runner.run(hyperv_checkpoint, **MAKE, wait=False, run_id="patch-1")
    assert (first["changed"], first["job"]["finished"], first["leftovers"], "failed" in first) == (True, False, [], False)
    assert (machine(runner).policy, machine(runner).checkpoints, len(files(runner, "intents")), files(runner, "leases")) == (4, {}, 1, [])
    again = runner.run(hyperv_checkpoint, **MAKE, wait=False)
    assert (again["changed"], again["job"]["finished"]) == (False, False)
    later(runner, 60)
    check = runner.run(hyperv_checkpoint, **MAKE, wait=False, check=True)
    assert [step["action"] for step in check["diff"]["after"]["steps"]] == ["restore_checkpoint_policy", "adopt_checkpoint"]
    done = runner.run(hyperv_checkpoint, **MAKE, wait=False)
    assert (done["changed"], done["job"]["finished"], done["checkpoint"]["owner"], done["checkpoint"]["run_id"]) == (
        True, True, "ours", "patch-1")
    assert (done["consistency"]["achieved"], done["checkpoint"]["is_parent_of_current"]) == ("application", True)
    assert (machine(runner).policy, len(machine(runner).checkpoints), files(runner, "intents")) == (5, 1, [])
    assert runner.run(hyperv_checkpoint, **MAKE, wait=False)["changed"] is False


def test_a_task_that_waits_adopts_a_creation_that_goes_on(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(policy="standard"), web(name="db", folder="D:\\VMs\\db")))
    params = {"names": ["web01", "db"], "checkpoint_name": "before-patch"}
    begun = runner.run(hyperv_checkpoint, **params, wait=False)
    assert [entry["job"]["finished"] for entry in begun["results"]] == [False, False]
    done = runner.run(hyperv_checkpoint, **params)
    assert [(entry["failed"], entry["checkpoint"]["owner"]) for entry in done["results"]] == [(False, "ours"), (False, "ours")]
    assert [(one.policy, len(one.checkpoints)) for one in (machine(runner), machine(runner, "db"))] == [(5, 1), (3, 1)]
    assert files(runner, "intents") == []


def test_another_task_leaves_a_creation_alone_that_goes_on(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(policy="standard"), web(name="db", folder="D:\\VMs\\db")))
    runner.run(hyperv_checkpoint, **MAKE, wait=False)
    with pytest.raises(HypervError) as caught:
        runner.run(hyperv_checkpoint, name="web01", checkpoint_name="other")
    assert caught.value.error_code == "vm_busy"
    runner.run(hyperv_checkpoint, name="db", checkpoint_name="other")
    assert (machine(runner).policy, len(files(runner, "intents"))) == (4, 1)


def test_what_was_not_adopted_in_time_is_a_suspect_and_the_policy_is_put_back(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(policy="standard"),))
    runner.run(hyperv_checkpoint, **MAKE, wait=False)
    later(runner, 1200)  # the host has forgotten the job
    result = runner.run(hyperv_checkpoint, **MAKE)
    assert (result["checkpoint"]["name"], machine(runner).policy) == ("before-patch", 5)
    assert any("Nothing proves it" in warning for warning in runner.told.warnings)
    assert sorted("agentless" in one.notes for one in machine(runner).checkpoints.values()) == [False, True]
    assert len(files(runner, "intents")) == 1


def test_a_creation_that_fails_unwatched_is_made_again(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(policy="standard"),))
    cannot = runner.running.host.hyperv.knobs.cannot_quiesce
    cannot.add(machine(runner).id)
    runner.run(hyperv_checkpoint, **MAKE, wait=False)
    later(runner, 60)
    cannot.clear()
    assert runner.run(hyperv_checkpoint, **MAKE)["checkpoint"]["owner"] == "ours"
    assert (machine(runner).policy, len(machine(runner).checkpoints), files(runner, "intents")) == (5, 1, [])


def test_a_run_after_a_timeout_adopts_a_job_that_would_not_end(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(policy="production_only"),))
    host = runner.running.host
    host.hyperv.knobs.job_seconds[70] = 400.0
    rule = host.rules.add(rules.fault("access_denied"), "Invoke *.RequestStateChange", times=None)
    result = runner.run(hyperv_checkpoint, **MAKE, timeout=60)
    assert (result["failed"], rule.fired > 0, machine(runner).checkpoints, len(files(runner, "intents"))) == (True, True, {}, 1)
    done = runner.run(hyperv_checkpoint, **MAKE)
    assert (done["checkpoint"]["owner"], len(machine(runner).checkpoints), files(runner, "intents")) == ("ours", 1, [])


def test_a_lost_answer_to_a_creation_that_is_not_waited_for_makes_no_second_one(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(web(),))
    runner.running.host.rules.add(rules.lost_after(), when=lambda view: ":CreateSnapshot_INPUT" in view.document, nth=1)
    result = runner.run(hyperv_checkpoint, **MAKE, wait=False)
    assert ("failed" in result, result["checkpoint"]["owner"], len(machine(runner).checkpoints)) == (False, "ours", 1)
