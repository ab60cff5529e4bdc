# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hyperv_replica_failover between two simulated hosts: planned, unplanned, taken back, reversed, tested."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replication_service as service
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import machine_reference
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_replica, hyperv_replica_failover, hyperv_replica_info
from simulator.hyperv.spec import IntegrationSpec
from unit.modules.replica_pair import HTTP, SERVER, SQL, WEB, advance, changes, knobs, machine, network, spec, vm

StartPair = Callable[..., tuple[Any, Any]]
PLANNED = {"action": "planned", "name": "sql01", "peer": "hv01", "shutdown": "turn_off"}


@pytest.fixture
def pair(start_pair: StartPair) -> tuple[Any, Any]:
    """The primary on HV01, the replica on HV02."""
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL)), spec("HV02"))
    hv01.run(hyperv_replica, name="sql01", server="hv02.example.test", frequency=30, recovery_history=2, app_consistent_interval=1)
    return hv01, hv02


def fail_over(runner: Any, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = runner.run(hyperv_replica_failover, **{"name": "sql01", **params})
    return found


def refused(runner: Any, **params: Any) -> HypervError:
    with pytest.raises(HypervError) as raised:
        fail_over(runner, **params)
    return raised.value


def lose(runner: Any, *, back: bool = False) -> None:
    with runner.fleet.locked():
        (network(runner).bring_up if back else network(runner).take_down)("HV01")


def power_off(runner: Any) -> None:
    """As somebody does by hand."""
    with runner.session() as (session, clock):
        CimWriter(session, clock).invoke(machine_reference(SQL), "RequestStateChange", {"RequestedState": 3})
    advance(runner, 60)


# -- planned -------------------------------------------------------------------------------------------------------------


def test_a_planned_failover_turns_the_roles_loses_nothing_and_is_done_once(pair: tuple[Any, Any]) -> None:
    hv01, hv02 = pair
    predicted = hv02.run(hyperv_replica_failover, check=True, **PLANNED)
    assert predicted["steps"] == ["shut_down_source", "prepare", "fail_over", "reverse", "start"]
    before = changes(hv01, hv02)
    done = hv02.run(hyperv_replica_failover, **PLANNED)
    assert (done["steps"], done["evidence"]["lost_bytes"]) == (predicted["steps"], 0)
    assert (done["pair"]["source"]["mode"], done["pair"]["target"]) == (
        "replica", {"mode": "primary", "state": "replicating", "power": "running"})
    assert changes(hv01, hv02) != before
    after = changes(hv01, hv02)
    assert (hv02.run(hyperv_replica_failover, **PLANNED)["changed"], changes(hv01, hv02)) == (False, after)
    assert hv02.run(hyperv_replica, name="sql01", frequency=30, peer="hv01")["changed"] is False
    back = hv01.run(hyperv_replica_failover, **{**PLANNED, "peer": "hv02"})
    assert "failed" not in back, back["msg"]
    assert (back["pair"]["target"]["mode"], machine(hv02).replication_mode) == ("primary", 2)


def test_the_guest_is_shut_down_and_one_that_does_not_answer_is_left_alone(start_pair: StartPair) -> None:
    mute = vm("web01", WEB, integration=IntegrationSpec.none())
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL), mute), spec("HV02"))
    hv01.run(hyperv_replica, names=["sql01", "web01"], server="hv02.example.test")
    done = hv02.run(hyperv_replica_failover, action="planned", names=["sql01", "web01"], peer="hv01")
    assert {one["vm"]["name"]: (one.get("error_code"), len(one["steps"])) for one in done["results"]} == {
        "sql01": (None, 5), "web01": ("guest_shutdown_refused", 0)}
    assert (machine(hv01, WEB).state, machine(hv02, WEB).replication_mode) == ("running", 2)


def test_when_the_time_is_over_nothing_more_is_begun(pair: tuple[Any, Any]) -> None:
    hv01, hv02 = pair
    before = changes(hv01, hv02)
    ends = (hv02.run(hyperv_replica_failover, **PLANNED, timeout=0), fail_over(hv02, action="test", timeout=0),
            hv01.run(hyperv_replica, name="sql01", frequency=300, timeout=0))
    assert [(one["error_code"], one["steps"]) for one in ends] == [("timeout", [])] * 3
    assert (changes(hv01, hv02), machine(hv01).state) == (before, "running")


def test_a_primary_that_was_shut_down_in_vain_is_told(pair: tuple[Any, Any]) -> None:
    _hv01, hv02 = pair
    firewall = hv02.running.host.firewall
    with hv02.fleet.locked():
        firewall.set_enabled(firewall.get(HTTP), False)
    result = hv02.run(hyperv_replica_failover, **PLANNED)
    assert (result["failed"], result["steps"]) == (True, ["shut_down_source"])
    assert "shut down for this and is off" in result["hint"]


def test_a_planned_failover_between_hosts_of_2012r2(start_pair: StartPair) -> None:
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL), os_version="2012R2"), spec("HV02", os_version="2012R2"))
    hv01.run(hyperv_replica, name="sql01", server="hv02.example.test", frequency=30)
    done = hv02.run(hyperv_replica_failover, **PLANNED)
    assert ("failed" in done, machine(hv01).replication_mode, machine(hv02).replication_mode) == (False, 2, 1)


def test_nothing_is_begun_that_could_not_be_reversed(start_pair: StartPair) -> None:
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL), server=replace(SERVER, authorizations=())), spec("HV02"))
    hv01.run(hyperv_replica, name="sql01", server="hv02.example.test")
    before = changes(hv01, hv02)
    assert refused(hv02, **PLANNED).error_code == "not_authorized"
    assert (changes(hv01, hv02), machine(hv01).state) == (before, "running")


def test_a_primary_that_is_on_is_not_turned_off_unasked(pair: tuple[Any, Any]) -> None:
    _unused, hv02 = pair
    result = hv02.run(hyperv_replica_failover, **{**PLANNED, "shutdown": "none"})
    assert (result["failed"], result["error_code"], result["steps"]) == (True, "primary_is_running", [])


def test_the_host_that_has_the_primary_has_nothing_to_take_over(pair: tuple[Any, Any]) -> None:
    hv01, hv02 = pair
    assert hv01.run(hyperv_replica_failover, **{**PLANNED, "peer": "hv02"})["changed"] is False
    assert refused(hv01, action="unplanned", confirm_primary_down=True).error_code == "not_a_replica"
    assert machine(hv02).replication_mode == 2


@pytest.mark.parametrize("failed_over", [False, True])
def test_a_planned_failover_is_taken_back_from_where_it_stands(pair: tuple[Any, Any], failed_over: bool) -> None:
    hv01, hv02 = pair
    power_off(hv01)
    with hv01.session() as (session, clock):
        service.request_state(CimWriter(session, clock), machine_reference(SQL), service.PREPARE_FAILOVER, "")
    advance(hv01, 60)
    if failed_over:
        with hv02.session() as (session, clock):
            service.fail_over(CimWriter(session, clock), machine_reference(SQL), None)
        advance(hv01, 60)
    steps = ["revert", "cancel_prepare"] if failed_over else ["cancel_prepare"]
    done = fail_over(hv02, action="cancel", peer="hv01")
    assert (done["steps"], done["pair"]["source"]["state"]) == (steps, "replicating")
    assert fail_over(hv02, action="cancel", peer="hv01")["changed"] is False


@pytest.mark.parametrize("action", ["planned", "unplanned", "cancel"])
def test_an_old_replica_does_not_take_over_from_a_primary_that_sends_elsewhere(pair: tuple[Any, Any], action: str) -> None:
    hv01, hv02 = pair
    with hv01.fleet.locked():
        relation = machine(hv01).relations[0]
        relation.settings = replace(relation.settings, recovery_point="hv03.example.test", recovery_host="hv03.example.test")
    before = changes(hv01, hv02)
    error = refused(hv02, action=action, peer="hv01", confirm_primary_down=True)
    assert (error.error_code, "hv03.example.test" in error.message, changes(hv01, hv02)) == ("not_a_pair", True, before)


# -- unplanned -----------------------------------------------------------------------------------------------------------


def test_an_unplanned_failover_needs_a_word_and_a_dead_primary(pair: tuple[Any, Any]) -> None:
    hv01, hv02 = pair
    before = changes(hv01, hv02)
    assert refused(hv02, action="unplanned").error_code == "confirmation_needed"
    assert refused(hv02, action="unplanned", confirm_primary_down=True, peer="hv01").error_code == "primary_is_running"
    assert changes(hv01, hv02) == before


def test_failed_over_looked_at_and_taken_back(pair: tuple[Any, Any]) -> None:
    hv01, hv02 = pair
    lose(hv01)
    done = fail_over(hv02, action="unplanned", confirm_primary_down=True)
    target = done["pair"]["target"]
    assert (done["steps"], target["state"], target["power"]) == (["fail_over", "start"], "recovered", "running")
    assert fail_over(hv02, action="unplanned", confirm_primary_down=True)["changed"] is False
    assert hv02.run(hyperv_replica, check=True, names=["sql01"], state="absent")["results"][0]["error_code"] == "failover_in_progress"
    back = fail_over(hv02, action="cancel")
    assert (back["steps"], machine(hv02).state) == (["turn_off", "revert"], "off")
    lose(hv01, back=True)
    assert hv01.run(hyperv_replica, name="sql01", allow_resync=True)["replica"]["state"] == "replicating"


def test_the_old_primary_overwrites_nothing_when_it_is_back(pair: tuple[Any, Any]) -> None:
    hv01, hv02 = pair
    lose(hv01)
    fail_over(hv02, action="unplanned", confirm_primary_down=True, start=False, commit=True)
    lose(hv01, back=True)
    advance(hv01, 3600)
    before = changes(hv01, hv02)
    with pytest.raises(HypervError) as raised:
        hv01.run(hyperv_replica, name="sql01", peer="hv02", allow_resync=True)
    assert raised.value.error_code == "failover_in_progress"
    with pytest.raises(HypervError) as raised:
        hv01.run(hyperv_replica, name="sql01", peer="hv02", state="absent", remove_replica_vm=True)
    assert (raised.value.error_code, changes(hv01, hv02)) == ("replica_took_over", before)
    result = hv01.run(hyperv_replica, name="sql01", allow_resync=True)  # nobody asks the other host, which refuses by itself
    assert (result["error_code"], machine(hv02).relations[0].state) == ("replication_interrupted", 6)


def test_a_failover_that_came_to_nothing_meanwhile_is_not_begun_anew(pair: tuple[Any, Any]) -> None:
    """Another point than the one that was asked for might be taken."""
    hv01, hv02 = pair
    lose(hv01)
    with hv02.fleet.locked():
        relation = machine(hv02).relations[0]
        relation.state = 12
        hv02.running.host.clock.call_later(20, lambda: setattr(relation, "state", 3))
    result = fail_over(hv02, action="unplanned", confirm_primary_down=True)
    assert (result["error_code"], result["steps"], relation.state) == ("pair_changed", [], 3)


def test_to_an_older_point_committed_and_reversed_when_the_primary_is_back(pair: tuple[Any, Any]) -> None:
    hv01, hv02 = pair
    advance(hv01, 3 * 3600)
    (one,) = hv02.run(hyperv_replica_info)["replicas"]
    lose(hv01)
    assert refused(hv02, action="unplanned", confirm_primary_down=True, recovery_point=SQL).error_code == "recovery_point_not_found"
    done = fail_over(hv02, action="unplanned", confirm_primary_down=True, recovery_point=one["recovery_points"][0]["id"], commit=True)
    assert done["steps"] == ["fail_over", "start", "commit"]
    assert refused(hv02, action="cancel").error_code == "failover_committed"
    lose(hv01, back=True)
    assert refused(hv02, action="reverse", peer="hv01").error_code == "primary_is_running"
    power_off(hv01)
    turned = fail_over(hv02, action="reverse", peer="hv01")
    assert (turned["steps"], turned["pair"]["target"]["mode"], turned["pair"]["source"]["mode"]) == (["reverse"], "primary", "replica")


# -- tests ---------------------------------------------------------------------------------------------------------------


def test_a_test_leaves_evidence_and_nothing_else(pair: tuple[Any, Any]) -> None:
    hv01, hv02 = pair
    with hv02.fleet.locked():
        there = set(hv02.running.host.hyperv.machines)
    done = fail_over(hv02, action="test")
    assert done["steps"] == ["make_test", "remove_test"]
    assert (done["evidence"]["heartbeat"], done["evidence"]["isolated"], done["leftovers"]) == ("ok", True, [])
    assert set(hv02.running.host.hyperv.machines) == there
    assert machine(hv01).relations[0].state == 3
    (one,) = hv01.run(hyperv_replica_info, test_interval="90d", peer="hv02")["replicas"]
    assert (one["test_overdue"], one["last_test"] is not None) == (False, True)


def test_a_kept_test_is_ended_later_and_a_foreign_one_is_left_alone(pair: tuple[Any, Any]) -> None:
    _unused, hv02 = pair
    kept = fail_over(hv02, action="test", keep_test=True)
    assert [left["kind"] for left in kept["leftovers"]] == ["test_machine"]
    assert fail_over(hv02, action="end_test")["steps"] == ["remove_test"]
    assert fail_over(hv02, action="end_test")["changed"] is False
    advance(hv02, 300)  # what the first one left is merged
    foreign(hv02)
    assert refused(hv02, action="test").error_code == "test_exists"
    assert refused(hv02, action="end_test").error_code == "test_exists"
    assert fail_over(hv02, action="end_test", remove_foreign_test=True)["steps"] == ["remove_test"]


def foreign(runner: Any) -> None:
    """A test that somebody else made."""
    with runner.session() as (session, clock):
        service.begin_test(CimWriter(session, clock), machine_reference(SQL), None)
    advance(runner, 60)


def test_a_test_machine_that_a_dead_run_did_not_mark_is_known_by_the_announcement(
        pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _unused, hv02 = pair

    def gone(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with hv02.fleet.locked():
        machine(hv02).notes = "of the shop"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replication_service.begin_test", gone)
        fail_over(hv02, action="test")
    assert machine(hv02).notes.startswith("of the shop\n[agentless.hyperv test failover begun of=")
    foreign(hv02)  # as the dead run would have
    assert fail_over(hv02, action="end_test")["steps"] == ["remove_test"]
    assert machine(hv02).notes == "of the shop"
    advance(hv02, 300)
    done = fail_over(hv02, action="test", keep_test=True)
    test = hv02.running.host.hyperv.machines[done["evidence"]["test_vm"]["vm_id"]]
    assert (machine(hv02).notes, test.notes) == (
        "of the shop", f"of the shop\n[agentless.hyperv test failover of={SQL} test={test.id}]")


def test_a_test_machine_that_comes_connected_is_disconnected_before_it_starts(pair: tuple[Any, Any]) -> None:
    _unused, hv02 = pair
    knobs(hv02).test_connected = True
    assert fail_over(hv02, action="test")["evidence"]["isolated"] is True
    assert refused(hv02, action="test", test_switch="no such switch").error_code == "switch_not_found"
    hv02.running.host.hyperv.switches.add("Lab")
    done = fail_over(hv02, action="test", test_switch="Lab")
    assert ("failed" in done, done["evidence"]["isolated"], done["leftovers"]) == (False, True, [])


def test_a_guest_that_does_not_come_up_fails_the_test_and_its_machine_goes(start_pair: StartPair) -> None:
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL, integration=IntegrationSpec.none())), spec("HV02"))
    hv01.run(hyperv_replica, name="sql01", server="hv02.example.test")
    done = fail_over(hv02, action="test", heartbeat_timeout=60)
    assert (done["failed"], done["error_code"], done["steps"]) == (True, "no_heartbeat", ["make_test", "remove_test"])
    assert len(hv02.running.host.hyperv.machines) == 1
