# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failover: tests, planned, unplanned, taken back, made final, the other way round, and a third host."""
from __future__ import annotations

from typing import Any

import pytest
from simulator.cim.model import CimValue, Ref
from simulator.hyperv.model import Machine
from simulator.hyperv.spec import DiskSpec, VmSpec
from unit.simulator.hyperv.bench import V2
from unit.simulator.hyperv.replica_bench import GUID, RELATION, SETTINGS, MakePair, Pair, Side, relation_id, text

HOUR = 3600.0
VSSD = "Msvm_VirtualSystemSettingData"


def point_refs(side: Side) -> list[Ref]:
    """The recovery points, oldest first, as a client finds them."""
    rows = [r for r in side.host.rows(VSSD) if ":Snapshot:Replica:" in str(r["VirtualSystemType"])]
    rows.sort(key=lambda r: str(r["CreationTime"]))
    return [Ref(V2, VSSD, {"InstanceID": str(r["InstanceID"])}) for r in rows]


def reverse(side: Side, to: str) -> dict[str, CimValue]:
    given = text(SETTINGS, InstanceID=relation_id(0), RecoveryConnectionPoint=to)
    return side.ask("ReverseReplicationRelationship", ReplicationSettingData=given)


def start(side: Side) -> dict[str, CimValue]:
    return side.host.call("Msvm_ComputerSystem", "RequestStateChange", {"RequestedState": 2},
                          selectors={"CreationClassName": "Msvm_ComputerSystem", "Name": GUID})


def with_points(both: Pair, hours: int = 3) -> None:
    """Replicating, with that many recovery points; writes 1..3 in the first, 4..6 in the second..."""
    guest = both.primary.guest()
    both.replicating(RecoveryHistory=hours)
    for _hour in range(hours):
        guest.write_some(3)
        both.clock.advance(HOUR)


# -- tests of a failover ----------------------------------------------------------------------------------------------------


def the_test(side: Side) -> Machine:
    (row,) = side.host.rows("Msvm_ReplicaSystemDependency")
    antecedent, dependent = row["Antecedent"], row["Dependent"]
    assert isinstance(antecedent, Ref)
    assert isinstance(dependent, Ref)
    assert antecedent.keys["Name"] == GUID
    return side.role.machines[dependent.keys["Name"]]


def destroy(side: Side, machine: Machine) -> dict[str, CimValue]:
    ref = Ref(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": machine.id})
    return side.host.call("Msvm_VirtualSystemManagementService", "DestroySystem", {"AffectedSystem": ref})


def test_a_test_machine_shows_the_newest_state_and_replication_goes_on(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    guest.write_some(20)
    both.replicating()
    answer = both.replica.ask("TestReplicaSystem")
    assert answer["ResultingSystem"] is None
    assert both.replica.done(answer) == 102
    test = the_test(both.replica)
    row = both.replica.host.row("Msvm_ComputerSystem", Name=test.id)
    assert (row["ElementName"], row["ReplicationMode"], row["EnabledState"]) == ("web01 - Test", 3, 3)
    made = [r["AffectedElement"] for r in both.replica.host.rows("Msvm_AffectedJobElement") if r["ElementEffects"] == [5]]
    assert [ref.keys["Name"] for ref in made] == [test.id]  # type: ignore[union-attr]
    guest.write_some(15)
    both.clock.advance(301.0)
    assert (both.replica.writes(test), both.replica.writes()) == (20, 35)
    assert both.replica.ask("TestReplicaSystem")["ReturnValue"] == 32775
    assert both.replica.ask("InitiateFailover")["ReturnValue"] == 32775
    assert both.replica.ask("RemoveReplicationRelationship")["ReturnValue"] == 32775


def test_a_test_machine_runs_writes_and_goes_without_a_trace(pair: MakePair) -> None:
    both = pair()
    both.primary.guest().write_some(20)
    both.replicating()
    folder = both.replica.machine.disks[0].leaf.path.rpartition("\\")[0]  # type: ignore[union-attr]
    files = both.replica.host.files
    before = sorted(place.parts[-1] for place in files.children(files.resolve(folder)))
    both.replica.done(both.replica.ask("TestReplicaSystem"))
    test = the_test(both.replica)
    keys = {"CreationClassName": "Msvm_ComputerSystem", "Name": test.id}
    both.replica.done(both.replica.host.call("Msvm_ComputerSystem", "RequestStateChange", {"RequestedState": 2}, selectors=keys))
    assert destroy(both.replica, test)["ReturnValue"] == 32775
    both.replica.done(both.replica.host.call("Msvm_ComputerSystem", "RequestStateChange", {"RequestedState": 3}, selectors=keys))
    assert both.replica.done(destroy(both.replica, test)) == 103
    both.clock.advance(120.0)
    assert sorted(place.parts[-1] for place in files.children(files.resolve(folder))) == before
    assert (both.replica.host.rows("Msvm_ReplicaSystemDependency"), both.replica.writes()) == ([], 20)
    assert not both.replica.figures()[0]["LastTestFailoverTime"].startswith("1601")  # type: ignore[union-attr]
    both.clock.advance(300.0)
    assert not both.primary.figures()[0]["LastTestFailoverTime"].startswith("1601")  # type: ignore[union-attr]


def test_a_test_of_an_older_recovery_point(pair: MakePair) -> None:
    both = pair()
    with_points(both)
    wanted = point_refs(both.replica)[1]
    own = Ref(V2, VSSD, {"InstanceID": f"Microsoft:{GUID}"})
    assert both.replica.ask("TestReplicaSystem", SnapshotSettingData=own)["ReturnValue"] == 32773
    both.replica.done(both.replica.ask("TestReplicaSystem", SnapshotSettingData=wanted))
    test = the_test(both.replica)
    assert both.replica.writes(test) == 6
    both.clock.advance(5 * HOUR)  # the point is too old by now, and its files are still there
    assert wanted not in point_refs(both.replica)
    assert both.replica.writes(test) == 6
    assert both.primary.ask("TestReplicaSystem")["ReturnValue"] == 32775


# -- planned ------------------------------------------------------------------------------------------------------------------


def prepared(pair: MakePair, **options: Any) -> tuple[Pair, int]:
    """The primary is off and prepared; the number of its last write."""
    both = pair(**options)
    guest = both.primary.guest()
    both.replicating()
    last = guest.write_some(33)
    assert both.primary.request(4)["ReturnValue"] == 32775  # it runs
    both.primary.power(3)
    assert both.primary.done(both.primary.request(4)) == 100
    return both, last


def test_a_planned_failover_loses_nothing_and_turns_round(pair: MakePair) -> None:
    both, last = prepared(pair)
    assert (both.primary.state()[0], both.replica.state()[0], both.replica.row()["LastReplicationType"]) == (4, 3, 3)
    assert start(both.primary)["ReturnValue"] == 32775
    assert start(both.replica)["ReturnValue"] == 32775
    assert both.replica.done(both.replica.ask("InitiateFailover")) == 97
    assert (both.primary.state()[0], both.replica.state(), both.replica.row()["FailedOverReplicationType"]) == (4, (5, 2), 3)
    assert both.replica.done(reverse(both.replica, "hv1.example.test")) == 104
    assert (both.primary.state(), both.replica.state()) == ((3, 1), (3, 1))
    modes = [side.host.row("Msvm_ComputerSystem", Name=GUID)["ReplicationMode"] for side in (both.primary, both.replica)]
    assert modes == [2, 1]
    assert start(both.primary)["ReturnValue"] == 32775
    guest = both.replica.guest()
    both.replica.power(2)
    assert guest.sequence == last
    guest.write_some(7)
    both.clock.advance(320.0)
    assert both.primary.writes() == last + 7
    settings = both.primary.settings()
    assert (settings["PrimaryConnectionPoint"], settings["RecoveryConnectionPoint"]) == ("hv2.example.test", "hv1.example.test")
    both.replica.power(3)
    both.replica.done(both.replica.request(4))
    both.primary.done(both.primary.ask("InitiateFailover"))
    both.primary.done(reverse(both.primary, "hv2.example.test"))
    assert (both.primary.state()[0], both.primary.machine.replication_mode, both.primary.writes()) == (3, 1, last + 7)


def test_a_planned_failover_is_cancelled_before_the_replica_takes_over(pair: MakePair) -> None:
    both, last = prepared(pair)
    assert both.primary.done(both.primary.request(3)) == 101
    assert (both.primary.state()[0], start(both.primary)["ReturnValue"]) == (3, 4096)
    both.clock.advance(320.0)
    assert (both.replica.writes(), point_refs(both.replica)) == (last, [])


def test_the_other_way_to_cancel_it(pair: MakePair) -> None:
    both = pair()
    both.replicating()
    both.primary.role.replica.knobs.cancel_planned = "revert"
    both.primary.power(3)
    both.primary.done(both.primary.request(4))
    assert both.primary.request(3)["ReturnValue"] == 32775
    assert both.primary.done(both.primary.ask("RevertFailover")) == 101
    assert both.primary.state()[0] == 3


def test_preparing_needs_the_replica(pair: MakePair) -> None:
    both = pair()
    both.replicating()
    both.primary.power(3)
    both.network.cut("hv1", "hv2")
    assert "0x00002EE2" in both.primary.failed(both.primary.request(4))
    assert both.primary.state()[0] == 3


@pytest.mark.parametrize("wrong", ["lost", "entry", "server"])
def test_turning_round_needs_the_old_primary_as_a_replica_server(pair: MakePair, wrong: str) -> None:
    both, _last = prepared(pair)
    both.replica.done(both.replica.ask("InitiateFailover"))
    server = both.primary.role.replica.server
    entries, settings = dict(server.entries), server.settings
    if wrong == "lost":
        both.network.take_down("hv1")
    elif wrong == "entry":
        server.entries.clear()
    else:
        server.settings = type(settings)()
    error = both.replica.failed(reverse(both.replica, "hv1.example.test"))
    assert {"lost": "0x00002EE2", "entry": "0x80070005", "server": "0x00002EFD"}[wrong] in error
    assert (both.replica.state()[0], both.primary.machine.replication_mode) == (5, 1)
    both.network.bring_up("hv1")
    server.entries, server.settings = entries, settings
    both.replica.done(reverse(both.replica, "hv1.example.test"))
    assert both.replica.state()[0] == 3


# -- unplanned ------------------------------------------------------------------------------------------------------------------


def test_an_unplanned_failover_to_a_chosen_point_is_taken_back(pair: MakePair) -> None:
    both = pair()
    with_points(both)
    newest = both.replica.writes()
    wanted = point_refs(both.replica)[0]
    both.network.take_down("hv1")
    both.replica.done(both.replica.ask("InitiateFailover", SnapshotSettingData=wanted))
    assert (both.replica.state()[0], both.replica.writes(), both.replica.row()["FailedOverReplicationType"]) == (5, 3, 1)
    guest = both.replica.guest()
    both.replica.power(2)
    guest.write_some(10)
    assert both.replica.ask("RevertFailover")["ReturnValue"] == 32775
    both.replica.power(3)
    assert both.replica.writes() == 13
    assert both.replica.done(both.replica.ask("RevertFailover")) == 98
    assert (both.replica.state()[0], both.replica.writes(), len(point_refs(both.replica))) == (3, newest, 3)
    both.network.bring_up("hv1")
    both.primary.role.guests[GUID].write_some(2)
    both.clock.advance(700.0)
    if both.primary.state()[0] == 8:
        both.primary.done(both.primary.request(3))
        both.clock.advance(5.0)
    assert both.replica.writes() == newest + 2


def test_what_an_earlier_test_left_is_not_merged_under_a_failover(pair: MakePair) -> None:
    both = pair()
    both.primary.guest().write_some(11)
    both.replicating()
    both.replica.done(both.replica.ask("TestReplicaSystem"))
    both.replica.done(destroy(both.replica, the_test(both.replica)))
    answer = both.replica.ask("InitiateFailover")  # the merge is due while its job runs
    assert both.replica.done(answer) == 97
    both.clock.advance(120.0)
    both.replica.done(both.replica.ask("RevertFailover"))
    both.clock.advance(400.0)
    assert (both.replica.state()[0], both.replica.writes(), len(both.replica.machine.disks[0].leaf.chain())) == (3, 11, 1)  # type: ignore[union-attr]


def test_a_failover_is_made_final_and_the_other_points_go(pair: MakePair) -> None:
    both = pair()
    with_points(both)
    wanted = point_refs(both.replica)[1]
    both.network.take_down("hv1")
    both.replica.done(both.replica.ask("InitiateFailover", SnapshotSettingData=wanted))
    both.replica.guest()
    both.replica.power(2)
    assert both.replica.done(both.replica.ask("CommitFailover")) == 99
    assert (both.replica.state(), point_refs(both.replica)) == ((6, 2), [])
    assert both.replica.ask("RevertFailover")["ReturnValue"] == 32775
    both.clock.advance(300.0)
    assert both.replica.writes() == 6
    assert len(both.replica.machine.disks[0].leaf.chain()) == 1  # type: ignore[union-attr]


def test_after_an_unplanned_failover_the_old_primary_gets_a_copy(pair: MakePair) -> None:
    both = pair()
    old = both.primary.guest()
    old.write_some(9)
    both.replicating()
    both.network.take_down("hv1")
    old.write_some(6)  # lost
    both.replica.done(both.replica.ask("InitiateFailover"))
    guest = both.replica.guest()
    both.replica.power(2)
    guest.write_some(4)
    both.replica.done(both.replica.ask("CommitFailover"))
    both.network.bring_up("hv1")
    assert "0x8007139F" in both.replica.failed(reverse(both.replica, "hv1.example.test"))  # it runs there
    both.primary.power(3)
    both.replica.done(reverse(both.replica, "hv1.example.test"))
    assert (both.replica.state()[0], both.primary.state()[0]) == (1, 2)
    both.replica.done(both.replica.ask("StartReplication", InitialReplicationType=1))
    both.replica.until(lambda: both.replica.state()[0] == 3, 100.0)
    assert both.primary.writes() == 13


def test_a_failover_whose_job_is_lost_has_not_happened(pair: MakePair) -> None:
    both = pair()
    both.primary.guest().write_some(3)
    both.replicating()
    both.replica.ask("InitiateFailover")
    assert both.replica.state()[0] == 12
    both.replica.role.restart_vmms()
    assert both.replica.state()[0] == 3
    both.replica.ask("TestReplicaSystem")
    both.replica.role.restart_vmms()
    both.clock.advance(10.0)
    assert both.replica.host.rows("Msvm_ReplicaSystemDependency") == []
    both.replica.done(both.replica.ask("TestReplicaSystem"))
    both.primary.role.replica.knobs.latency_seconds = 30.0
    both.primary.power(3)
    both.primary.request(4)
    both.primary.role.restart_vmms()
    both.clock.advance(60.0)
    assert both.primary.state()[0] == 3


def test_a_replica_without_a_complete_copy_is_no_replacement(pair: MakePair) -> None:
    both = pair()
    both.primary.done(both.create())
    for method in ("InitiateFailover", "TestReplicaSystem", "CommitFailover", "RevertFailover"):
        assert both.replica.ask(method)["ReturnValue"] == 32775
    assert both.primary.ask("InitiateFailover")["ReturnValue"] == 32775
    assert reverse(both.replica, "hv1.example.test")["ReturnValue"] == 32775


def test_ending_the_relation_of_a_machine_that_failed_over(pair: MakePair) -> None:
    both = pair()
    with_points(both, 2)
    both.replica.done(both.replica.ask("InitiateFailover", SnapshotSettingData=point_refs(both.replica)[0]))
    both.replica.done(both.replica.ask("RemoveReplicationRelationship"))
    both.clock.advance(200.0)
    assert (both.replica.host.rows(RELATION), both.replica.writes(), both.replica.machine.pins) == ([], 3, {})
    assert start(both.replica)["ReturnValue"] == 4096


# -- addresses ----------------------------------------------------------------------------------------------------------------------


def test_addresses_for_a_failover_are_kept(pair: MakePair) -> None:
    both = pair()
    name = "Msvm_FailoverNetworkAdapterSettingData"
    both.replicating()
    row = both.replica.host.row(name)
    link = both.replica.host.row("Msvm_EthernetPortFailoverSettingDataComponent")
    assert link["PartComponent"] == Ref(V2, name, {"InstanceID": str(row["InstanceID"])})

    def give(**values: object) -> dict[str, CimValue]:
        given = text(name, **{"InstanceID": row["InstanceID"], **values})
        return both.replica.ask("SetFailoverNetworkAdapterSettings", NetworkSettings=[given])

    assert both.replica.done(give(IPAddresses=["192.0.2.7"], Subnets=["255.255.255.0"], DNSServers=["192.0.2.1"])) == 92
    now = both.replica.host.row(name)
    assert (now["IPAddresses"], now["Subnets"], now["DefaultGateways"]) == (["192.0.2.7"], ["255.255.255.0"], [])
    assert [give(IPAddresses=["192.0.2"])["ReturnValue"], give(InstanceID="Microsoft:other")["ReturnValue"]] == [32773, 32773]
    both.replica.done(both.replica.ask("RemoveReplicationRelationship"))
    assert (both.replica.host.rows(name), give(IPAddresses=["192.0.2.7"])["ReturnValue"]) == ([], 32775)


# -- a third host -------------------------------------------------------------------------------------------------------------------


def test_a_replica_is_extended_to_a_third_host(pair: MakePair) -> None:
    three = pair(third=True)
    guest = three.primary.guest()
    guest.write_some(8)
    three.replicating()
    third = three.sides[2]
    given = {"InstanceID": relation_id(1), "RecoveryConnectionPoint": "hv3.example.test", "RecoveryServerPortNumber": 80,
             "AuthenticationType": 1, "ReplicationInterval": 30}
    ask = three.replica.ask
    assert ask("CreateReplicationRelationship", ReplicationSettingData=text(SETTINGS, **given))["ReturnValue"] == 32773
    given["ReplicationInterval"] = 300
    three.replica.done(ask("CreateReplicationRelationship", ReplicationSettingData=text(SETTINGS, **given)))
    three.replica.done(ask("StartReplication", InitialReplicationType=1))
    three.replica.until(lambda: three.replica.state(1)[0] == 3, 100.0)
    assert (third.host.row("Msvm_ComputerSystem", Name=GUID)["ReplicationMode"], third.writes()) == (4, 8)
    guest.write_some(5)
    three.clock.advance(700.0)
    assert (three.replica.writes(), third.writes()) == (13, 13)
    assert three.replica.host.query(f"SELECT * FROM {RELATION}")[1]["InstanceID"] == relation_id(1)
    first = text(RELATION, InstanceID=relation_id(0))
    assert ask("RemoveReplicationRelationshipEx", ReplicationRelationship=first)["ReturnValue"] == 32775
    extended = text(RELATION, InstanceID=relation_id(1))
    three.replica.done(ask("RemoveReplicationRelationshipEx", ReplicationRelationship=extended))
    assert (three.replica.machine.replication_mode, three.replica.state()[0]) == (2, 3)


def test_two_disks_are_always_of_one_instant(pair: MakePair) -> None:
    disks = (DiskSpec(size=8 << 20), DiskSpec(path="E:\\data.vhdx", size=8 << 20))
    both = pair(vm=VmSpec(name="web01", vm_id=GUID, folder="D:\\VMs\\web01", disks=disks))
    guest = both.primary.guest()
    both.replicating(ReplicationInterval=30)
    for _cycle in range(3):
        last = guest.write_some(7)
        guest.step()
        both.clock.advance(32.0)
        proofs = [both.replica.proof(disk=disk) for disk in (0, 1)]
        assert all(proof.holds_until(last) for proof in proofs), [proof.summary() for proof in proofs]
