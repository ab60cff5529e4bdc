# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hyperv_replica_info: both sides put together, lag and its causes, and what it costs."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import (
    hyperv_checkpoint,
    hyperv_export,
    hyperv_replica,
    hyperv_replica_info,
    hyperv_vss_copy,
)
from simulator.hyperv.spec import RelationSpec, VmSpec
from unit.modules.replica_pair import SQL, WEB, advance, changes, network, spec, vm

StartPair = Callable[..., tuple[Any, Any]]


@pytest.fixture
def pair(start_pair: StartPair) -> tuple[Any, Any]:
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL), vm("web01", WEB)), spec("HV02"))
    hv01.run(hyperv_replica, name="sql01", server="hv02.example.test", frequency=30, recovery_history=2)
    return hv01, hv02


def look(runner: Any, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = runner.run(hyperv_replica_info, **params)
    return found


def test_both_sides_are_put_together(pair: tuple[Any, Any]) -> None:
    hv01, _unused = pair
    advance(hv01, 2 * 3600)
    (one,) = look(hv01, peer="hv02", statistics="all")["replicas"]
    assert (one["vm"]["name"], one["mode"], one["state"], one["problems"]) == ("sql01", "primary", "replicating", [])
    assert one["lag"] <= 60
    assert (one["peer"]["host"], one["peer"]["mode"], one["peer"]["power"]) == ("hv02.example.test", "replica", "off")
    assert len(one["recovery_points"]) >= 2
    assert one["statistics"]["pending_bytes"] is not None
    assert one["interval"] == one["settings"]["frequency"] == 30


def test_from_the_replica_it_is_the_same_relation(pair: tuple[Any, Any]) -> None:
    _unused, hv02 = pair
    (one,) = look(hv02)["replicas"]
    assert (one["mode"], one["peer"], one["test_overdue"], one["statistics"]) == ("replica", None, None, None)


def test_a_lost_line_shows_as_lag_with_the_reasons_of_the_host(pair: tuple[Any, Any]) -> None:
    hv01, _unused = pair
    with hv01.fleet.locked():
        network(hv01).cut("HV01", "HV02")
    advance(hv01, 3600)
    found = look(hv01, peer="hv02")
    (one,) = found["replicas"]
    assert {"critical", "not_replicating", "lag"} <= set(one["problems"])
    assert one["lag"] >= 3500
    assert one["health_issues"]
    assert found["summary"] == {"relations": 1, "healthy": 0, "largest_lag": one["lag"], "tests_overdue": 0}


def test_what_the_peer_has_of_another_relation_is_not_put_together(pair: tuple[Any, Any]) -> None:
    hv01, hv02 = pair
    with hv02.fleet.locked():
        relation = hv02.running.host.hyperv.machines[SQL].relations[0]
        relation.settings = replace(relation.settings, primary_point="hv03.example.test", primary_host="hv03.example.test")
        relation.last_time -= timedelta(days=3)
    (one,) = look(hv01, peer="hv02")["replicas"]
    assert (one["problems"], one["lag"] < 90, one["recovery_points"]) == (["other_relation"], True, [])
    assert (one["peer"]["mode"], one["peer"]["state"]) == ("replica", "replicating")


def test_a_test_that_never_was_is_overdue(pair: tuple[Any, Any]) -> None:
    hv01, _unused = pair
    (one,) = look(hv01, test_interval="90d", peer="hv02")["replicas"]
    assert (one["last_test"], one["test_overdue"], one["problems"]) == (None, True, ["test_overdue"])
    with pytest.raises(HypervError) as refused:
        look(hv01, test_interval="soon")
    assert refused.value.error_code == "invalid_option"


def test_named_machines_are_shown_without_a_relation_and_missing_ones_are_listed(pair: tuple[Any, Any]) -> None:
    hv01, _unused = pair
    found = look(hv01, names=["web01", "nobody"])
    assert ([(one["vm"]["name"], one["state"], one["problems"]) for one in found["replicas"]], found["missing"]) == (
        [("web01", "none", [])], ["nobody"])


def test_disks_that_are_not_replicated_are_told(start_pair: StartPair) -> None:
    hv01, _unused = start_pair(spec("HV01", vm("sql01", SQL, disks=2)), spec("HV02"))
    hv01.run(hyperv_replica, name="sql01", server="hv02.example.test", included_disks=["sql01-0.vhdx"])
    assert look(hv01)["replicas"][0]["disks_left_out"] == ["D:\\VMs\\sql01-1.vhdx"]
    hv01.run(hyperv_replica, name="sql01", excluded_disks=[])
    assert look(hv01)["replicas"][0]["disks_left_out"] == []


def test_a_replica_is_a_source_of_no_copy_and_no_checkpoint(pair: tuple[Any, Any]) -> None:
    _unused, hv02 = pair
    before = changes(hv02)
    others = ((hyperv_vss_copy, {"destination": "C:\\Backup"}), (hyperv_export, {"destination": "C:\\Backup"}),
              (hyperv_checkpoint, {"checkpoint_name": "c"}))
    for module, params in others:
        (entry,) = hv02.run(module, names=["sql01"], **params)["results"]
        assert (entry["failed"], entry["error_code"]) == (True, "replica_vm"), module.__name__
    assert changes(hv02) == before


def test_two_hundred_relations_cost_seven_requests(start: Callable[..., Any]) -> None:
    healthy = tuple(VmSpec(f"vm{number:03d}", disks=(), replication_mode=1, relations=(RelationSpec(),)) for number in range(200))
    runner = start(vms=healthy, os_version="2022")
    with runner.fleet.locked():
        before = runner.running.host.counters.snapshot()
    found = look(runner)
    with runner.fleet.locked():
        used = dict(runner.running.host.counters.since(before).by_operation)
    pages = used.pop("Pull", 0)
    assert (found["summary"]["relations"], sum(used.values())) == (200, 7)
    assert pages <= 4 * 8
