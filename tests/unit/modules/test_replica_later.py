# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hyperv_replica when time has gone on: a disk that came later, a resynchronisation, a first copy of a later hour."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import replica_marks
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_replica, hyperv_replica_info
from simulator.hyperv.hardware import attach_disk
from simulator.hyperv.spec import DiskSpec
from unit.modules.replica_pair import KIB, SQL, WEB, advance, changes, knobs, machine, network, spec, vm

StartPair = Callable[..., tuple[Any, Any]]
TO_HV02 = {"server": "hv02.example.test", "peer": "hv02"}
LATER = "D:\\VMs\\later.vhdx"


def refused(runner: Any, **params: Any) -> HypervError:
    with pytest.raises(HypervError) as raised:
        runner.run(hyperv_replica, **{"name": "sql01", **params})
    return raised.value


def state(runner: Any) -> int:
    found: int = machine(runner).relations[0].state
    return found


def replicated(start_pair: StartPair, os_version: str = "2022") -> tuple[Any, Any]:
    pair = start_pair(spec("HV01", vm("sql01", SQL), os_version=os_version), spec("HV02", os_version=os_version))
    pair[0].run(hyperv_replica, name="sql01", **TO_HV02, frequency=30)
    return pair


def with_a_later_disk(start_pair: StartPair, os_version: str) -> tuple[Any, Any]:
    pair = replicated(start_pair, os_version)
    with pair[0].fleet.locked():
        attach_disk(machine(pair[0]), DiskSpec(LATER, size=4 * KIB * KIB, block_size=KIB * KIB, content=b"later"))
    return pair


# -- a disk that came later ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("os_version", ["2012R2", "2022"])
def test_a_disk_that_came_later_is_told_and_left_alone(start_pair: StartPair, os_version: str) -> None:
    hv01, hv02 = with_a_later_disk(start_pair, os_version)
    before = changes(hv01, hv02)
    done = hv01.run(hyperv_replica, name="sql01")
    assert (done["changed"], done["disks_left_out"], changes(hv01, hv02)) == (False, [LATER], before)
    assert [LATER in line for line in hv01.told.warnings] == [True]
    assert len(machine(hv02).disks) == 1


@pytest.mark.parametrize("os_version", ["2012R2", "2022"])
def test_a_disk_that_came_later_is_left_out_as_declared(start_pair: StartPair, os_version: str) -> None:
    hv01, hv02 = with_a_later_disk(start_pair, os_version)
    before = changes(hv01, hv02)
    done = hv01.run(hyperv_replica, name="sql01", excluded_disks=["later.vhdx"])
    assert (done["changed"], done["disks_left_out"], hv01.told.warnings, changes(hv01, hv02)) == (False, [], [], before)


@pytest.mark.parametrize("os_version", ["2016", "2022"])
def test_a_disk_that_came_later_is_taken_in(start_pair: StartPair, os_version: str) -> None:
    hv01, hv02 = with_a_later_disk(start_pair, os_version)
    (kept,) = machine(hv02).disks
    done = hv01.run(hyperv_replica, name="sql01", excluded_disks=[])
    assert (done["steps"], done["replica"]["state"]) == (["modify"], "replicating")
    assert (len(machine(hv02).disks), machine(hv02).disks[0]) == (2, kept)
    before = changes(hv01, hv02)
    again = hv01.run(hyperv_replica, name="sql01", excluded_disks=[])
    assert (again["changed"], again["disks_left_out"], changes(hv01, hv02)) == (False, [], before)


def test_on_2012r2_a_disk_that_is_taken_in_needs_a_resynchronisation(start_pair: StartPair) -> None:
    hv01, hv02 = with_a_later_disk(start_pair, "2012R2")
    before = changes(hv01, hv02)
    assert refused(hv01, excluded_disks=[]).error_code == "resync_required"
    assert changes(hv01, hv02) == before
    done = hv01.run(hyperv_replica, name="sql01", excluded_disks=[], allow_resync=True)
    assert (done.get("failed", False), done["steps"], done["replica"]["state"]) == (False, ["modify", "resynchronize"], "replicating")
    assert len(machine(hv02).disks) == 2


def test_a_disk_is_taken_in_when_a_pause_ends(start_pair: StartPair) -> None:
    hv01, hv02 = with_a_later_disk(start_pair, "2022")
    paused = hv01.run(hyperv_replica, name="sql01", state="paused", excluded_disks=[])
    assert (paused["steps"], state(hv01)) == (["pause"], 7)
    done = hv01.run(hyperv_replica, name="sql01", excluded_disks=[])
    assert (done["steps"], done["replica"]["state"], len(machine(hv02).disks)) == (["resume", "modify"], "replicating", 2)


# -- a resynchronisation -------------------------------------------------------------------------------------------------


def test_a_resynchronisation_is_refused_until_it_is_allowed(start_pair: StartPair) -> None:
    hv01, hv02 = replicated(start_pair)
    with hv01.fleet.locked():
        knobs(hv01).log_share = -1.0
        network(hv01).cut("HV01", "HV02")
    advance(hv01, 120)
    with hv01.fleet.locked():
        network(hv01).mend("HV01", "HV02")
    assert state(hv01) == 9
    before = changes(hv01, hv02)
    error = refused(hv01)
    assert (error.error_code, changes(hv01, hv02)) == ("resync_required", before)
    assert hv01.run(hyperv_replica, name="sql01", allow_resync=True, check=True)["steps"] == ["resynchronize"]
    done = hv01.run(hyperv_replica, name="sql01", allow_resync=True)
    assert (done["changed"], done["steps"], done["replica"]["state"]) == (True, ["resynchronize"], "replicating")
    assert any("copying to the replica server" in line for line in hv01.told.progress)
    assert hv01.run(hyperv_replica, name="sql01", allow_resync=True)["changed"] is False


# -- a first copy of a later hour ----------------------------------------------------------------------------------------


def test_a_first_copy_begins_at_its_hour(start_pair: StartPair) -> None:
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL)), spec("HV02"))
    now: datetime = hv01.running.host.clock.now().astimezone(UTC)
    for wrong in (now - timedelta(minutes=1), now + timedelta(days=8)):
        assert refused(hv01, **TO_HV02, initial_copy_at=wrong.isoformat()).error_code == "invalid_option"
    assert changes(hv01, hv02) == (0, 0)
    params = {"name": "sql01", **TO_HV02, "frequency": 30, "initial_copy_at": (now + timedelta(hours=2)).isoformat()}
    done = hv01.run(hyperv_replica, **params)
    assert (done["steps"], done["replica"]["state"]) == (["create", "copy"], "initial_replication")
    advance(hv01, 3600)
    before = changes(hv01, hv02)
    again = hv01.run(hyperv_replica, **params)
    assert (again["changed"], again["replica"]["state"], changes(hv01, hv02)) == (False, "initial_replication", before)
    assert machine(hv02).disks[0].leaf.made is False
    advance(hv01, 3600)
    late = hv01.run(hyperv_replica, **{name: value for name, value in params.items() if name != "initial_copy_at"})
    assert (late["changed"], late["replica"]["state"], machine(hv02).disks[0].leaf.made) == (False, "replicating", True)
    assert hv01.run(hyperv_replica, **params)["changed"] is False


# -- room on the replica server ------------------------------------------------------------------------------------------


def leave_free(runner: Any, size: int) -> None:
    """Somebody else fills the volume for replicas."""
    with runner.fleet.locked():
        volume = runner.running.host.files.resolve("D:\\").volume
        volume.backing.reserved += volume.free_bytes - size


def test_disks_that_have_no_room_are_not_replicated(start_pair: StartPair) -> None:
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL, disks=2)), spec("HV02"))
    leave_free(hv02, 64 * KIB)
    error = refused(hv01, **TO_HV02)
    assert (error.error_code, error.details["free"], changes(hv01, hv02)) == ("no_room_on_replica", 64 * KIB, (0, 0))


def test_disks_that_may_outgrow_the_replica_server_are_a_warning(start_pair: StartPair) -> None:
    disk = DiskSpec("D:\\VMs\\thin.vhdx", size=64 * KIB * KIB, block_size=KIB * KIB, content=b"thin")
    hv01, hv02 = start_pair(spec("HV01", replace(vm("sql01", SQL), disks=(disk,))), spec("HV02"))
    leave_free(hv02, 32 * KIB * KIB)
    assert hv01.run(hyperv_replica, name="sql01", **TO_HV02, check=True)["steps"] == ["create", "copy"]
    assert ["may grow beyond that" in line for line in hv01.told.warnings] == [True]


def test_a_later_disk_needs_room_too(start_pair: StartPair) -> None:
    hv01, hv02 = with_a_later_disk(start_pair, "2022")
    leave_free(hv02, 64 * KIB)
    before = changes(hv01, hv02)
    assert refused(hv01, peer="hv02", excluded_disks=[]).error_code == "no_room_on_replica"
    assert changes(hv01, hv02) == before


# -- the end of a replica, in two runs -----------------------------------------------------------------------------------


END = {"name": "sql01", "state": "absent", "peer": "hv02", "remove_replica_vm": True}


def interrupted(hv01: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller is gone when the relations have ended and the replica is to be deleted."""
    def gone(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_apply.destroy", gone)
        hv01.run(hyperv_replica, **END)


def test_the_next_run_deletes_the_replica_that_a_dead_one_left(start_pair: StartPair, monkeypatch: pytest.MonkeyPatch) -> None:
    hv01, hv02 = replicated(start_pair)
    interrupted(hv01, monkeypatch)
    assert (machine(hv01).relations, machine(hv02).relations, machine(hv02).replication_mode) == ([], [], 0)
    assert hv01.run(hyperv_replica, **{**END, "remove_replica_vm": False})["changed"] is False
    done = hv01.run(hyperv_replica, **END)
    assert (done["changed"], done["steps"], SQL in hv02.running.host.hyperv.machines) == (True, ["deleted_replica"], False)
    before = changes(hv01, hv02)
    assert (hv01.run(hyperv_replica, **END)["changed"], changes(hv01, hv02)) == (False, before)


@pytest.mark.parametrize("change", [{"notes": ""}, {"state": "running"}])
def test_a_machine_that_was_no_replica_or_runs_is_not_deleted(
        start_pair: StartPair, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    hv01, hv02 = replicated(start_pair)
    interrupted(hv01, monkeypatch)
    with hv02.fleet.locked():
        for name, value in change.items():
            setattr(machine(hv02), name, value)
    assert hv01.run(hyperv_replica, **END)["changed"] is False
    assert SQL in hv02.running.host.hyperv.machines


def test_a_primary_loses_the_mark_that_it_had_as_a_replica(start_pair: StartPair) -> None:
    hv01, hv02 = replicated(start_pair)
    with hv01.fleet.locked():
        machine(hv01).notes = replica_marks.doomed("of the shop", SQL, hv01.running.host.clock.now())
    hv01.run(hyperv_replica, **{**END, "remove_replica_vm": False})
    assert (machine(hv01).notes, machine(hv02).replication_mode) == ("of the shop", 0)


def test_a_replica_that_is_put_to_use_meanwhile_is_not_deleted(start_pair: StartPair) -> None:
    hv01, hv02 = replicated(start_pair)
    with hv02.fleet.locked():
        clock = hv02.running.host.clock
        knobs(hv02).job_seconds[93] = 30.0  # the end of the relation there
        clock.call_later(20.0, lambda: machine(hv02).set_state("running", clock.now()))
    done = hv01.run(hyperv_replica, **END)
    assert (done["error_code"], done["steps"], machine(hv02).state) == ("replica_running", ["remove", "removed_on_peer"], "running")


def test_what_a_dead_run_left_is_told(start_pair: StartPair, monkeypatch: pytest.MonkeyPatch) -> None:
    hv01, hv02 = replicated(start_pair)
    assert hv02.run(hyperv_replica_info)["leftovers"] == []
    interrupted(hv01, monkeypatch)
    found = hv02.run(hyperv_replica_info)
    assert [(one["kind"], one["location"]) for one in found["leftovers"]] == [("former_replica", "sql01")]
    assert found["summary"]["relations"] == 0


def test_one_machine_that_stays_does_not_stop_the_end_of_the_others(start_pair: StartPair) -> None:
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL), vm("web01", WEB)), spec("HV02"))
    hv01.run(hyperv_replica, names=["sql01", "web01"], **TO_HV02)
    with hv02.fleet.locked():
        machine(hv02).relations[0].state = 5
    both = {"names": ["sql01", "web01"], "state": "absent", "peer": "hv02", "remove_replica_vm": True}
    predicted = hv01.run(hyperv_replica, check=True, **both)
    done = hv01.run(hyperv_replica, **both)
    for result in (predicted, done):
        assert {one["vm"]["name"]: (one.get("error_code"), one.get("steps")) for one in result["results"]} == {
            "sql01": ("failover_in_progress", None), "web01": (None, ["remove", "removed_on_peer", "deleted_replica"])}
    assert (set(hv02.running.host.hyperv.machines), machine(hv01).replication_mode) == ({SQL}, 1)


def test_a_mark_for_deletion_ends_after_a_week(start_pair: StartPair, monkeypatch: pytest.MonkeyPatch) -> None:
    hv01, hv02 = replicated(start_pair)
    interrupted(hv01, monkeypatch)
    advance(hv02, 8 * 86400)
    assert hv01.run(hyperv_replica, **END)["changed"] is False
    assert SQL in hv02.running.host.hyperv.machines
