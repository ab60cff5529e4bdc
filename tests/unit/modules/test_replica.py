# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hyperv_replica between two simulated hosts: from nothing to a replica, and everything that is refused on the way."""
from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_replica
from simulator.hyperv.spec import AuthorizationSpec
from unit.modules.replica_pair import HTTP, SERVER, SQL, WEB, advance, changes, knobs, machine, network, spec, vm

StartPair = Callable[..., tuple[Any, Any]]
TO_HV02 = {"server": "hv02.example.test", "peer": "hv02"}


def refused(runner: Any, **params: Any) -> HypervError:
    with pytest.raises(HypervError) as raised:
        runner.run(hyperv_replica, **{"name": "sql01", **params})
    return raised.value


@pytest.fixture
def pair(start_pair: StartPair) -> tuple[Any, Any]:
    return start_pair(spec("HV01", vm("sql01", SQL, disks=2), vm("web01", WEB)), spec("HV02"))


def test_from_nothing_to_a_replica_and_a_second_run_writes_nothing(pair: tuple[Any, Any]) -> None:
    hv01, hv02 = pair
    params = {"name": "sql01", **TO_HV02, "frequency": 30, "recovery_history": 2, "app_consistent_interval": 1}
    predicted = hv01.run(hyperv_replica, check=True, **params)
    assert (predicted["steps"], changes(hv01, hv02)) == (["create", "copy"], (0, 0))
    done = hv01.run(hyperv_replica, **params)
    assert (done["changed"], done["replica"]["mode"], done["replica"]["state"]) == (True, "primary", "replicating")
    assert done["replica"]["settings"]["frequency"] == 30
    assert (done["peer_replica"]["mode"], done["peer_replica"]["state"]) == ("replica", "replicating")
    assert any("copying to the replica server" in line for line in hv01.told.progress)
    before = changes(hv01, hv02)
    again = hv01.run(hyperv_replica, **params)
    assert (again["changed"], changes(hv01, hv02)) == (False, before)
    assert again["diff"] == {"before": {"replication": {}}, "after": {"replication": {}}}


def test_an_idempotent_run_costs_seven_requests_and_six_of_the_peer(pair: tuple[Any, Any]) -> None:
    hv01, _hv02 = pair
    params = {"names": ["sql01", "web01"], **TO_HV02, "frequency": 300}
    hv01.run(hyperv_replica, **params)
    with hv01.fleet.locked():
        marks = [runner.running.host.counters.snapshot() for runner in pair]
    hv01.run(hyperv_replica, **params)
    with hv01.fleet.locked():
        used = [dict(runner.running.host.counters.since(mark).by_operation) for runner, mark in zip(pair, marks, strict=True)]
    for one in used:
        one.pop("Pull", None)
    assert [sum(one.values()) for one in used] == [7, 6]


def test_copies_run_side_by_side_and_one_failure_does_not_stop_the_others(pair: tuple[Any, Any]) -> None:
    hv01, _unused = pair
    done = hv01.run(hyperv_replica, names=["sql01", "nobody", "web01"], **TO_HV02)
    assert {entry["vm"]["name"]: entry.get("error_code") for entry in done["results"]} == {
        "sql01": None, "web01": None, "nobody": "vm_not_found"}
    assert (done["failed"], done["error_code"]) == (True, "some_failed")
    assert [machine(hv01, one).replication_mode for one in (SQL, WEB)] == [1, 1]


def test_one_field_is_one_change(pair: tuple[Any, Any]) -> None:
    hv01, _unused = pair
    hv01.run(hyperv_replica, name="sql01", **TO_HV02)
    done = hv01.run(hyperv_replica, name="sql01", frequency=900, auto_resync=True, auto_resync_start="20:15")
    assert done["steps"] == ["modify"]
    assert done["diff"]["after"]["replication"]["sql01"] == {
        "auto_resync": True, "auto_resync_start": "20:15", "frequency": 900, "state": "replicating"}
    assert (done["replica"]["settings"]["frequency"], done["replica"]["settings"]["auto_resync_start"]) == (900, "20:15")
    assert hv01.run(hyperv_replica, name="sql01", frequency=900, auto_resync_start="20:15")["changed"] is False


def test_paused_and_resumed(pair: tuple[Any, Any]) -> None:
    hv01, _unused = pair
    assert refused(hv01, state="paused").error_code == "not_replicated"
    hv01.run(hyperv_replica, name="sql01", **TO_HV02)
    assert hv01.run(hyperv_replica, name="sql01", state="paused")["replica"]["state"] == "suspended"
    assert hv01.run(hyperv_replica, name="sql01", state="paused")["changed"] is False
    assert hv01.run(hyperv_replica, name="sql01")["replica"]["state"] == "replicating"


@pytest.mark.parametrize("form", ["path", "instance_id", "embedded"])
def test_disks_are_left_out_and_added_in_whatever_form_the_host_names_them(pair: tuple[Any, Any], form: str) -> None:
    hv01, hv02 = pair
    knobs(hv01).included_disks = knobs(hv02).included_disks = form
    first = hv01.run(hyperv_replica, name="sql01", **TO_HV02, excluded_disks=["sql01-1.vhdx"])
    assert "failed" not in first, first
    assert hv01.run(hyperv_replica, name="sql01", excluded_disks=["sql01-1.vhdx"])["changed"] is False
    added = hv01.run(hyperv_replica, name="sql01", included_disks=["sql01-0.vhdx", "D:\\VMs\\sql01-1.vhdx"])
    assert (added["steps"], added["replica"]["state"]) == (["modify"], "replicating")
    assert refused(hv01, excluded_disks=["sql01-1.vhdx"]).error_code == "reseed_needed"


def test_by_certificate_in_a_workgroup(start_pair: StartPair) -> None:
    server = replace(SERVER, authentication=2, authorizations=(AuthorizationSpec("hv01"),))
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL), domain=None), spec("HV02", server=server, domain=None))
    own = hv01.running.host.certificates.by_key("host").thumbprint
    params = {"server": "hv02", "peer": "hv02", "authentication": "certificate", "certificate_thumbprint": own}
    assert refused(hv01, server="hv02", peer="hv02").error_code == "replica_server_differs"
    assert hv01.run(hyperv_replica, name="sql01", **params)["replica"]["settings"]["port"] == 443
    assert hv01.run(hyperv_replica, name="sql01", **params)["changed"] is False
    wrong = hv02.running.host.certificates.by_key("host").thumbprint
    assert refused(hv01, authentication="certificate", certificate_thumbprint=wrong).error_code == "connection_test_failed"


@pytest.mark.parametrize(("change", "code"), [
    ({"enabled": False}, "replica_server_disabled"), ({"authorizations": (AuthorizationSpec("*.other.test"),)}, "not_authorized"),
    ({"http_port": 8080}, "replica_server_differs"), ({"ports_taken": (80,)}, "connection_test_failed"),
])
def test_what_the_replica_server_would_refuse_is_told_before_anything_is_written(
        start_pair: StartPair, change: dict[str, Any], code: str) -> None:
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL)), spec("HV02", server=replace(SERVER, **change)))
    assert refused(hv01, **TO_HV02).error_code == code
    assert refused(hv01, server="hv02.example.test").error_code == "connection_test_failed"
    assert changes(hv01, hv02) == (0, 0)


def test_a_closed_firewall_is_told(start_pair: StartPair) -> None:
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL)), spec("HV02", firewall_rules=()))
    error = refused(hv01, **TO_HV02)
    assert (error.error_code, "port 80" in error.message, changes(hv01, hv02)) == ("connection_test_failed", True, (0, 0))
    hv02.running.host.firewall.set_enabled(hv02.running.host.firewall.get(HTTP), True)
    assert hv01.run(hyperv_replica, name="sql01", **TO_HV02)["changed"] is True


def test_a_copy_that_is_interrupted_goes_on_when_the_way_is_mended(pair: tuple[Any, Any]) -> None:
    hv01, _unused = pair
    hv01.run(hyperv_replica, name="sql01", **TO_HV02, wait=False)
    with hv01.fleet.locked():
        network(hv01).cut("HV01", "HV02")
    late = refused_result(hv01.run(hyperv_replica, name="sql01", timeout=900))
    assert late in ("timeout", "replication_interrupted")
    with hv01.fleet.locked():
        network(hv01).mend("HV01", "HV02")
    assert hv01.run(hyperv_replica, name="sql01", allow_resync=True)["replica"]["state"] == "replicating"


def refused_result(result: dict[str, Any]) -> str | None:
    assert result["failed"] is True
    return str(result["error_code"])


def test_a_lost_line_is_critical_with_the_reasons_of_the_host_and_comes_back(pair: tuple[Any, Any]) -> None:
    hv01, _unused = pair
    hv01.run(hyperv_replica, name="sql01", **TO_HV02, frequency=30)
    with hv01.fleet.locked():
        network(hv01).cut("HV01", "HV02")
    advance(hv01, 3600)
    assert hv01.run(hyperv_replica, name="sql01", check=True)["replica"]["state"] == "critical"
    assert refused(hv01, state="paused").error_code == "replica_critical"
    with hv01.fleet.locked():
        network(hv01).mend("HV01", "HV02")
    done = hv01.run(hyperv_replica, name="sql01")
    assert (done["steps"], done["replica"]["state"]) == (["resume"], "replicating")


def test_on_2012r2_it_is_paused_and_resumed_too(start_pair: StartPair) -> None:
    hv01, _unused = start_pair(spec("HV01", vm("sql01", SQL), os_version="2012R2"), spec("HV02", os_version="2012R2"))
    hv01.run(hyperv_replica, name="sql01", **TO_HV02)
    assert hv01.run(hyperv_replica, name="sql01", state="paused")["replica"]["state"] == "suspended"
    assert hv01.run(hyperv_replica, name="sql01")["replica"]["state"] == "replicating"


def test_a_copy_that_is_there_becomes_the_replica(start_pair: StartPair) -> None:
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL)), spec("HV02", vm("sql01", SQL, state="off"), vm("web01", WEB)))
    done = hv01.run(hyperv_replica, name="sql01", **TO_HV02, initial_copy="existing")
    assert "failed" not in done, done["msg"]
    assert (done["replica"]["state"], machine(hv02).replication_mode) == ("replicating", 2)
    assert hv01.run(hyperv_replica, name="sql01", **TO_HV02, initial_copy="existing")["changed"] is False


def test_there_is_no_seed(start_pair: StartPair) -> None:
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL), vm("web01", WEB)), spec("HV02", vm("sql01", SQL)))
    assert refused(hv01, **TO_HV02, initial_copy="existing").error_code == "no_seed"
    assert refused(hv01, **{"name": "web01", **TO_HV02}, initial_copy="existing").error_code == "no_seed"
    assert changes(hv01, hv02) == (0, 0)


def test_the_first_copy_is_carried_and_taken_in(start_pair: StartPair) -> None:
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL)), spec("HV02", vm("other", WEB)))
    for runner in (hv01, hv02):
        runner.running.host.files.create_directory("D:\\Carry")
    sent = hv01.run(hyperv_replica, name="sql01", **TO_HV02, frequency=30, initial_copy="media", media_folder="D:\\Carry")
    assert (sent["steps"], sent["replica"]["state"]) == (["create", "copy"], "initial_replication")
    assert hv01.run(hyperv_replica, name="sql01", initial_copy="media", media_folder="D:\\Carry")["changed"] is False
    advance(hv01, 60)
    folder = carry(hv01, hv02)
    missing = hv02.run(hyperv_replica, name="sql01", import_folder="D:\\Elsewhere")
    assert (missing["failed"], missing["error_code"]) == (True, "replication_refused")
    done = hv02.run(hyperv_replica, name="sql01", import_folder=folder)
    assert (done["steps"], done["replica"]["state"]) == (["import_copy"], "replicating")
    assert hv02.run(hyperv_replica, name="sql01", import_folder=folder)["changed"] is False
    assert hv01.run(hyperv_replica, name="sql01")["changed"] is False


def carry(source: Any, target: Any) -> str:
    """What somebody does with a drive in a parcel."""
    with source.fleet.locked():
        (made,) = source.running.host.files.children(source.running.host.files.resolve("D:\\Carry"))
        folder = f"D:\\Carry\\{made.parts[-1]}"
        shutil.copytree(made.real, target.running.host.files.resolve("D:\\Carry").real / made.parts[-1], dirs_exist_ok=True)
    return folder


def test_removed_on_both_sides_and_the_replica_only_when_asked_to(pair: tuple[Any, Any]) -> None:
    hv01, hv02 = pair
    hv01.run(hyperv_replica, names=["sql01", "web01"], **TO_HV02)
    alone = hv01.run(hyperv_replica, name="web01", state="absent")
    assert [left["kind"] for left in alone["leftovers"]] == ["replica_relation"]
    assert machine(hv02, WEB).replication_mode == 2
    assert hv02.run(hyperv_replica, name="web01", state="absent", remove_replica_vm=True)["changed"] is True
    assert WEB not in hv02.running.host.hyperv.machines
    both = hv01.run(hyperv_replica, name="sql01", state="absent", peer="hv02")
    assert (both["leftovers"], machine(hv01).replication_mode, machine(hv02).replication_mode) == ([], 0, 0)
    assert hv01.run(hyperv_replica, name="sql01", state="absent", peer="hv02")["changed"] is False
    error = refused(hv01, **TO_HV02)
    assert error.error_code == "leftover_on_replica"


def test_the_other_side_cannot_enable_what_is_a_replica_there(pair: tuple[Any, Any]) -> None:
    hv01, hv02 = pair
    hv01.run(hyperv_replica, name="sql01", **TO_HV02)
    assert refused(hv02, server="hv01.example.test", peer="hv01").error_code == "vm_is_replica"


def test_enabled_from_both_sides_is_refused(start_pair: StartPair) -> None:
    hv01, hv02 = start_pair(spec("HV01", vm("sql01", SQL)), spec("HV02", vm("sql01", SQL, state="off", replication_mode=1)))
    assert refused(hv01, **TO_HV02).error_code == "both_primary"
    assert changes(hv01, hv02) == (0, 0)
