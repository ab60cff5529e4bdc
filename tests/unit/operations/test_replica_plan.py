# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision about one relation, its settings and its disks: no host, values in and values out."""
from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.cim import facts, paths
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.cimxml import format_instance
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replica_settings, replication
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import Disk
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine, machine_reference
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replica_server import Authorization, ServerFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replication import Relation
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_ending
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_plan as planner
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_states as states
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_facts import Side
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_plan import Asked
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import replica_lag, replica_marks
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.replica_lag import Standing
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import HostSystem
from hypothesis import given
from hypothesis import strategies as st

VM = "11111111-2222-3333-4444-555555555555"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DISKS = tuple(Disk(VM, f"Microsoft:{VM}\\8\\{at}\\D", "virtual", f"D:\\VMs\\{name}.vhdx", False) for at, name in enumerate(("os", "data")))
CURRENT = {
    "RecoveryConnectionPoint": "hv02.example.test", "RecoveryServerPortNumber": "80", "AuthenticationType": "1",
    "CompressionEnabled": "true",
    "ReplicationInterval": "300", "RecoveryHistory": "4", "ApplicationConsistentSnapshotInterval": "0", "AutoResynchronizeEnabled": "false",
    "AutoResynchronizeIntervalStart": timedelta(hours=18, minutes=30), "AutoResynchronizeIntervalEnd": timedelta(hours=6),
    "ReplicateHostKvpItems": "true", "BypassProxyServer": "false", "IncludedDisks": tuple(disk.instance_id for disk in DISKS),
}


def machine(mode: str = "none") -> Machine:
    return Machine(VM, "sql01", machine_reference(VM), "running", 2, None, "ok", (2,), mode, 1, None, None, None)


def side(mode: str = "none", state: str | None = None, build: int = 20348, host_name: str = "hv01", **changed: Any) -> Side:
    host = HostSystem(host_name.upper(), f"{host_name}.example.test", "example.test", build, None, "", True, NOW, timedelta(), None, True,
                      1, "C:", 0.0)
    relation = () if state is None else (Relation(VM, False, state, "ok", NOW, None, None, f"Microsoft:{VM}\\HVR\\0"),)
    row = Instance("n", "Msvm_ReplicationSettingData", {"InstanceID": f"Microsoft:{VM}\\HVR\\0", **CURRENT, **changed})
    return Side(host, (machine(mode),), {VM: relation}, {row.required_text("InstanceID").lower(): row} if state else {}, ())


def asked(goal: str = states.REPLICATING, **given_: Any) -> Asked:
    special = {"included": None, "excluded": None, "copy": "network", "copy_at": None, "allow_reseed": False, "allow_resync": False}
    settings = {name: value for name, value in given_.items() if name not in special}
    return Asked(goal, settings, **{**special, **{name: value for name, value in given_.items() if name in special}})


def decide(found: Side, wanted: Asked, peer: Side | None = None) -> planner.Work:
    return planner.decide(found, found.machines[0], wanted, DISKS, peer)


def refused(found: Side, wanted: Asked, peer: Side | None = None) -> str:
    with pytest.raises(HypervError) as raised:
        decide(found, wanted, peer)
    return raised.value.error_code


def test_a_new_relation_has_defaults_for_port_and_authentication_alone() -> None:
    work = decide(side(), asked(server="hv02.example.test", frequency=30))
    assert (work.steps, {change.row.option: change.after for change in work.changes}) == (("create", "copy", "wait"), {
        "server": "hv02.example.test", "port": 80, "authentication": "kerberos", "frequency": 30})
    assert work.disks == DISKS
    secure = decide(side(), asked(server="x.y", authentication="certificate", certificate_thumbprint="aa"))
    assert secure.target == planner.Target("x.y", 443, "certificate", "aa", False)
    assert refused(side(), asked()) == "server_missing"
    assert refused(side(), asked(server="x.y", authentication="certificate")) == "certificate_missing"


@given(st.fixed_dictionaries({}, optional={
    "frequency": st.sampled_from([30, 300, 900]), "recovery_history": st.integers(1, 24), "app_consistent_interval": st.integers(0, 12),
    "compression": st.booleans(), "auto_resync": st.booleans(), "auto_resync_start": st.sampled_from(["18:30", "7:00"]),
    "replicate_kvp": st.booleans(), "server": st.sampled_from(["HV02.example.test", "hv02"]), "port": st.sampled_from([80, 8080])}))
def test_field_by_field_only_what_differs_is_changed(params: dict[str, Any]) -> None:
    found = side("primary", "replicating")
    work = decide(found, asked(**params))
    assert {change.row.option for change in work.changes} <= set(params)
    assert bool(work.changes) == (planner.MODIFY in work.steps) == work.writes
    values = {change.row.option: change.after for change in work.changes}
    for option, value in params.items():
        shown = found.shown(VM)[option]
        if option not in values:
            assert str(value).casefold().lstrip("0") == str(shown).casefold().lstrip("0")


def test_another_server_throws_the_copy_away_unless_it_is_there_already() -> None:
    found, other = side("primary", "replicating"), asked(server="hv09.example.test")
    assert refused(found, other) == "reseed_needed"
    assert decide(found, other, side("replica", "replicating", host_name="hv09")).steps == ("modify",)
    assert refused(found, other, side("replica", "replicating", host_name="hv02")) == "reseed_needed"  # the old server
    assert refused(found, replace(other, goal=states.PAUSED, allow_reseed=True)) == "invalid_option"
    forced = decide(found, replace(other, allow_reseed=True))
    assert forced.steps == ("remove", "create", "copy", "wait")
    assert {change.row.option: change.after for change in forced.changes}["frequency"] == 300
    assert decide(found, asked(server="hv02")).steps == ("modify",)


def test_disks_are_added_at_once_and_taken_out_only_when_that_is_meant() -> None:
    found = side("primary", "replicating", IncludedDisks=(DISKS[0].instance_id,))
    work = decide(found, asked(excluded=()))
    assert (work.steps, work.disks) == (("modify",), DISKS)
    both = side("primary", "replicating")
    assert decide(both, asked(excluded=())).steps == ()
    assert refused(both, asked(excluded=("DATA.vhdx",))) == "reseed_needed"
    assert decide(both, asked(included=("D:\\VMs\\os.vhdx",), allow_reseed=True)).disks == DISKS[:1]
    assert refused(both, asked(included=("x.vhdx",))) == "disk_unknown"
    assert refused(side(), asked(server="a.b", excluded=("os.vhdx", "data.vhdx"))) == "no_disk_included"


def test_shared_disks_cannot_be_replicated() -> None:
    shared = (DISKS[0], replace(DISKS[1], shared=True))
    with pytest.raises(HypervError) as raised:
        planner.decide(side(), machine(), asked(server="a.b"), shared, None)
    assert raised.value.error_code == "disk_not_replicable"
    assert planner.decide(side(), machine(), asked(server="a.b", excluded=("data.vhdx",)), shared, None).disks == shared[:1]


STORAGE = "Msvm_StorageAllocationSettingData"
FORMS = (
    DISKS[0].instance_id,
    paths.format_path(Reference("root/virtualization/v2", STORAGE, {"InstanceID": DISKS[0].instance_id}), "HV01"),
    format_instance(facts.embedded(STORAGE, {"InstanceID": DISKS[0].instance_id})),
)


@pytest.mark.parametrize("entry", FORMS)
def test_a_disk_is_known_in_each_form_that_hosts_may_use(entry: str) -> None:
    assert [replica_settings.names_disk(entry, disk) for disk in DISKS] == [True, False]
    form = replica_settings.form_of(entry)
    assert replica_settings.form_of(replica_settings.disk_entry(DISKS[1], form)) == form
    assert replica_settings.names_disk(replica_settings.disk_entry(DISKS[1], form), DISKS[1])


@pytest.mark.parametrize(("mode", "state", "wanted", "code"), [
    ("replica", "replicating", asked(), "vm_is_replica"), ("test_replica", None, asked(), "vm_is_replica"),
    ("primary", "waiting_for_resynchronization", asked(), "resync_required"), ("primary", "synced", asked(), "failover_in_progress"),
    ("primary", "replicating", asked(app_consistent_interval=4, recovery_history=0), "invalid_option"),
    ("none", None, asked(states.PAUSED, server="a.b"), "not_replicated"),
])
def test_what_is_refused(mode: str, state: str | None, wanted: Asked, code: str) -> None:
    assert refused(side(mode, state), wanted) == code


def test_on_2012_the_frequency_is_always_the_same_and_that_is_said() -> None:
    old = side("primary", "replicating", build=9200)
    assert old.shown(VM)["frequency"] == 300
    assert decide(old, asked(frequency=300)).steps == ()
    assert refused(old, asked(frequency=30)) == "not_on_this_release"
    rows = [Instance("n", "Msvm_ComputerSystem", {"Name": VM, "ReplicationState": "3", "ReplicationHealth": "1"})]
    relation = replication.relations_of_systems(rows)[VM][0]
    assert (relation.state, relation.health, relation.instance_id) == ("replicating", "ok", None)


def test_a_copy_of_a_later_time_is_not_waited_for_and_none_is_none() -> None:
    assert decide(side(), asked(server="a.b", copy_at=NOW)).steps == ("create", "copy")
    assert decide(side(), asked(server="a.b", copy="none")).steps == ("create",)
    assert decide(side("primary", "ready"), asked(copy="none")).steps == ()
    assert decide(side("primary", "initial_replication"), asked()).steps == ("wait",)
    assert decide(side("primary", "initial_replication"), asked()).writes is False


def server(*primaries: str, **settings: Any) -> ServerFacts:
    return ServerFacts("x", {"enabled": True, "authentication": "kerberos", "http_port": 80, **settings},
                       tuple(Authorization(primary, "D:\\R", "") for primary in primaries), True)


@pytest.mark.parametrize(("there", "told", "code"), [
    (None, server("*", enabled=False), "replica_server_disabled"), (None, server("*", http_port=81), "replica_server_differs"),
    (None, server("*", authentication="certificate"), "replica_server_differs"), (None, server("*.other.test"), "not_authorized"),
    ("primary", server("*"), "both_primary"), ("none", server("*"), "leftover_on_replica"), ("replica", server("*"), "leftover_on_replica"),
])
def test_what_the_other_side_would_refuse_is_known_before(there: str | None, told: ServerFacts, code: str) -> None:
    found, wanted = side(), asked(server="hv02.example.test")
    other = side(there or "none")
    other = other if there else replace(other, machines=())
    with pytest.raises(HypervError) as raised:
        planner.refuse_peer(found, decide(found, wanted), wanted, other, told)
    assert raised.value.error_code == code


def test_a_copy_that_is_there_already_is_meant_when_it_is_said() -> None:
    found, wanted = side(), asked(server="hv02.example.test", copy="existing")
    other = side("none", host_name="hv02")
    seed = replace(other, machines=(replace(other.machines[0], state="off"),))
    planner.refuse_peer(found, decide(found, wanted), wanted, seed, server("*.example.test"))
    with pytest.raises(HypervError) as raised:
        planner.refuse_peer(found, decide(found, wanted), wanted, other, server("*.example.test"))
    assert raised.value.error_code == "no_seed"
    with pytest.raises(HypervError) as raised:
        planner.refuse_peer(found, decide(found, wanted), wanted, replace(seed, system=side(host_name="hv09").system), server("*"))
    assert raised.value.error_code == "peer_is_not_server"


def test_a_relation_does_not_go_for_one_that_cannot_be_made() -> None:
    found, wanted = side("primary", "replicating"), asked(server="hv09.example.test", allow_reseed=True)
    with pytest.raises(HypervError) as raised:
        planner.refuse_peer(found, decide(found, wanted), wanted, side("none", host_name="hv09"), server("*"))
    assert raised.value.error_code == "leftover_on_replica"


@pytest.mark.parametrize("state", ["recovered", "committed", "failover_in_progress"])
def test_nothing_is_sent_to_where_the_machine_has_failed_over(state: str) -> None:
    names = {"PrimaryConnectionPoint": "hv01.example.test"}
    for goal in (states.REPLICATING, states.PAUSED):
        found, wanted = side("primary", "critical"), asked(goal, allow_resync=True)
        assert refused(found, wanted, side("replica", state, host_name="hv02", **names)) == "failover_in_progress"
    elsewhere = side("replica", state, host_name="hv02", PrimaryConnectionPoint="hv07.example.test")
    assert decide(side("primary", "critical"), asked(), elsewhere).steps == ("resume",)


def test_two_ends_of_one_guid_need_not_be_of_one_relation() -> None:
    primary = side("primary", "replicating")
    replica = side("replica", "replicating", host_name="hv02", PrimaryHostSystem="HV01.example.test")
    assert (primary.partners(VM), replica.partners(VM)) == (("hv02.example.test",), ("HV01.example.test",))
    assert primary.leads_to(replica, VM)
    assert replica.leads_to(primary, VM)
    assert not primary.leads_to(side(host_name="hv03"), VM)
    broker = side("primary", "replicating", RecoveryConnectionPoint="broker.example.test", RecoveryHostSystem="hv02.example.test")
    assert broker.leads_to(replica, VM)
    assert side().leads_to(replica, VM)  # what names nobody contradicts nobody


# -- the end -------------------------------------------------------------------------------------------------------------


def off(found: Side) -> Side:
    return replace(found, machines=(replace(found.machines[0], state="off"),))


OURS_THERE = off(side("replica", "replicating", host_name="hv02", PrimaryHostSystem="hv01.example.test"))


@pytest.mark.parametrize(("here", "there", "steps"), [
    (side("primary", "replicating"), OURS_THERE, ("removed_on_peer", "deleted_replica")),
    (side(), OURS_THERE, ("removed_on_peer", "deleted_replica")),
    (side(), side("primary", "replicating", host_name="hv02", RecoveryConnectionPoint="hv03.example.test"), ()),
    (side(), off(side("replica", "replicating", host_name="hv02", PrimaryHostSystem="hv03.example.test")), ()),
    (off(side("replica", "replicating", PrimaryHostSystem="hv03.example.test")), None, ("deleted_replica",)),
])
def test_only_what_belongs_to_this_host_ends_with_a_relation(here: Side, there: Side | None, steps: tuple[str, ...]) -> None:
    found = replica_ending.decide(here, there, VM, delete=True)
    assert found.steps == steps
    assert replica_ending.decide(here, there, VM, delete=False).doomed == ()


@pytest.mark.parametrize(("there", "code"), [
    (side("replica", "replicating", host_name="hv02"), "replica_running"),
    (off(side("replica", "committed", host_name="hv02")), "replica_took_over"),
    (off(side("replica", "recovered", host_name="hv02")), "failover_in_progress"),
])
def test_a_replica_that_has_become_the_machine_is_not_deleted(there: Side, code: str) -> None:
    with pytest.raises(HypervError) as raised:
        replica_ending.decide(side("primary", "critical"), there, VM, delete=True)
    assert raised.value.error_code == code


@pytest.mark.parametrize(("one", "words"), [
    (Standing("replicating", "ok", 200, 300, NOW), ()), (Standing("replicating", "ok", 1000, 300, NOW), ("lag",)),
    (Standing("replicating", "warning", None, 300, NOW), ("warning", "lag_unknown")),
    (Standing("initial_replication", "ok", None, 300, NOW), ("not_copied",)),
    (Standing("suspended", "ok", 10, 300, NOW), ("not_replicating",)), (Standing("committed", "ok", 9999, 300, NOW), ()),
    (Standing("replicating", "ok", 0, 300, None), ("test_overdue",)),
    (Standing("replicating", "ok", 0, 300, NOW - timedelta(days=91)), ("test_overdue",)),
])
def test_what_is_not_as_it_should_be(one: Standing, words: tuple[str, ...]) -> None:
    assert replica_lag.problems(one, NOW, test_interval=timedelta(days=90)) == words


def test_a_test_machine_is_ours_only_under_its_own_mark() -> None:
    notes = replica_marks.stamped("of the owner", VM, VM[::-1].replace("5", "A"))
    test_id = VM[::-1].replace("5", "A")
    assert notes.startswith("of the owner\n")
    other = replica_marks.stamped(notes, VM, VM)
    assert replica_marks.is_ours(other, VM, VM)
    assert not replica_marks.is_ours(other, VM, test_id)
    assert not replica_marks.is_ours(None, VM, VM)


def test_a_mark_for_deletion_means_one_machine_for_a_week() -> None:
    notes = replica_marks.doomed(replica_marks.doomed("SQL of the shop", VM, NOW - timedelta(days=3)), VM, NOW)
    assert notes == f"SQL of the shop\n[agentless.hyperv replica to be deleted vm={VM} at=2026-03-01T12:00:00Z]"
    assert replica_marks.is_doomed(notes, VM, NOW + timedelta(days=7))
    assert not replica_marks.is_doomed(notes, VM, NOW + timedelta(days=7, seconds=1))
    assert not replica_marks.is_doomed(notes, VM, NOW - timedelta(hours=1))
    assert not replica_marks.is_doomed(notes, VM.replace("1", "2"), NOW)
    assert not replica_marks.is_doomed(notes.replace("03-01", "99-99"), VM, NOW)
    assert not replica_marks.is_doomed(None, VM, NOW)


def test_an_announcement_is_for_the_test_machine_that_comes_right_after_it() -> None:
    notes = replica_marks.announced(replica_marks.announced("SQL of the shop", VM, NOW - timedelta(days=3)), VM, NOW)
    assert notes == f"SQL of the shop\n[agentless.hyperv test failover begun of={VM} at=2026-03-01T12:00:00Z]"
    found = [replica_marks.came_of(notes, VM, NOW + timedelta(seconds=seconds)) for seconds in (-1, 0, 300, 301)]
    assert found == [False, True, True, False]
    assert not replica_marks.came_of(notes, VM.replace("1", "2"), NOW)
    assert not replica_marks.came_of(notes, VM, None)
    assert not replica_marks.came_of("SQL of the shop", VM, NOW)
    assert (replica_marks.withdrawn(notes), replica_marks.is_announced(notes)) == ("SQL of the shop", True)
    assert replica_marks.stamped(notes, VM, VM) == f"SQL of the shop\n[agentless.hyperv test failover of={VM} test={VM}]"
