# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Relations between two hosts: made, copied, kept up, paused, broken, resynchronised, ended."""
from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from simulator.cim.model import Ref
from simulator.disks.proof import inspect
from simulator.hyperv.hardware import attach_disk
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.spec import MIB, AuthorizationSpec, DiskSpec, ReplicaServerSpec, VmSpec
from simulator.windows.certificates import CertificateSpec
from unit.simulator.hyperv.bench import V2
from unit.simulator.hyperv.replica_bench import GUID, HTTP, RELATION, SETTINGS, VM, MakePair, Pair, relation_id, text

HOUR = 3600.0


# -- settings without a relation ----------------------------------------------------------------------------------------


def test_a_machine_that_is_not_replicated_has_settings_and_no_relation(pair: MakePair) -> None:
    both = pair()
    row = both.primary.settings()
    assert {k: row[k] for k in ("VirtualSystemIdentifier", "RecoveryConnectionPoint", "ReplicationInterval", "RecoveryHistory",
                                "IncludedDisks", "AutoResynchronizeIntervalStart")} == {
        "VirtualSystemIdentifier": GUID, "RecoveryConnectionPoint": "", "ReplicationInterval": 300, "RecoveryHistory": 0,
        "IncludedDisks": [], "AutoResynchronizeIntervalStart": timedelta(hours=18, minutes=30)}
    assert both.primary.host.rows(RELATION) == []
    found = both.primary.host.query(f"ASSOCIATORS OF {{Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{GUID}'}} "
                                    f"WHERE ResultClass={SETTINGS}")
    assert [r["InstanceID"] for r in found] == [relation_id(0)]


# -- connection ----------------------------------------------------------------------------------------------------------


def connection(both: Pair, **values: Any) -> dict[str, Any]:
    given = {"RecoveryConnectionPoint": "hv2.example.test", "RecoveryServerPortNumber": 80, "AuthenticationType": 1, **values}
    return both.primary.host.call("Msvm_ReplicationService", "TestReplicationConnection", given)


def test_a_connection_that_works(pair: MakePair) -> None:
    both = pair()
    assert both.primary.done(connection(both)) == 115
    assert both.replica.host.rows("Msvm_ComputerSystem")[1:] == []


def test_what_can_be_in_the_way_of_a_connection(pair: MakePair) -> None:
    both = pair()
    server = both.replica.role.replica.server
    assert "0x00002AF9" in both.primary.failed(connection(both, RecoveryConnectionPoint="hv9.example.test"))
    assert "0x00002EE2" in both.primary.failed(connection(both, RecoveryServerPortNumber=8080))
    both.replica.host.firewall.get(HTTP).enabled = False
    assert "0x00002EE2" in both.primary.failed(connection(both))
    both.replica.host.firewall.get(HTTP).enabled = True
    both.network.cut("hv1", "hv2")
    assert "0x00002EE2" in both.primary.failed(connection(both))
    both.network.mend("hv1", "hv2")
    server.ports_taken.add(80)
    assert "0x00002EFD" in both.primary.failed(connection(both))
    server.ports_taken.clear()
    server.entries.clear()
    assert "0x80070005" in both.primary.failed(connection(both))
    both.primary.role.replica.knobs.test_authorises = False
    assert both.primary.done(connection(both)) == 115
    bad_ones: tuple[dict[str, Any], ...] = ({"RecoveryConnectionPoint": ""}, {"AuthenticationType": 2}, {"RecoveryServerPortNumber": 0})
    assert [connection(both, **bad)["ReturnValue"] for bad in bad_ones] == [32773, 32773, 32773]


def test_kerberos_needs_a_domain_and_certificates_do_not(pair: MakePair) -> None:
    server = ReplicaServerSpec(enabled=True, authentication=3, certificate="host", authorizations=(AuthorizationSpec("*"),))
    both = pair(server=server, domain=None, certificates=True)
    assert "0x80090303" in both.primary.failed(connection(both, RecoveryConnectionPoint="hv2"))
    own = both.primary.host.certificates
    secure = {"RecoveryConnectionPoint": "hv2", "RecoveryServerPortNumber": 443, "AuthenticationType": 2,
              "CertificateThumbPrint": own.all()[0].thumbprint}
    assert both.primary.done(connection(both, **secure)) == 115
    assert "0x80092004" in both.primary.failed(connection(both, **secure | {"CertificateThumbPrint": "AB" * 20}))
    own.trusted.clear()
    assert "0x800B0109" in both.primary.failed(connection(both, **secure))
    own.trusted.add("Example Root CA")
    both.replica.host.certificates.trusted.clear()
    assert "0x00002EFD" in both.primary.failed(connection(both, **secure))


# -- making ---------------------------------------------------------------------------------------------------------------


def test_a_relation_is_made_on_both_sides_and_nothing_is_copied(pair: MakePair) -> None:
    both = pair()
    assert both.primary.done(both.create(RecoveryHistory=4, ReplicationInterval=30)) == 91
    assert (both.primary.state(), both.replica.state()) == ((1, 2), (2, 2))
    assert [side.host.row("Msvm_ComputerSystem", Name=GUID)["ReplicationMode"] for side in (both.primary, both.replica)] == [1, 2]
    row = both.replica.host.row("Msvm_ComputerSystem", Name=GUID)
    assert (row["ElementName"], row["EnabledState"]) == ("web01", 3)
    settings = both.primary.settings()
    assert {k: settings[k] for k in ("RecoveryHostSystem", "PrimaryConnectionPoint", "RecoveryHistory", "IncludedDisks")} == {
        "RecoveryHostSystem": "hv2.example.test", "PrimaryConnectionPoint": "hv1.example.test", "RecoveryHistory": 4,
        "IncludedDisks": both.primary.disks()}
    (path,) = [r["HostResource"] for r in both.replica.host.rows("Msvm_StorageAllocationSettingData")]
    assert path == [f"D:\\Replica\\Hyper-V Replica\\Virtual hard disks\\{GUID}\\web01.vhdx"]
    assert not both.replica.host.files.exists(str(path[0]))


@pytest.mark.parametrize(("values", "code"), [
    ({"ReplicationInterval": 60}, 32773), ({"RecoveryHistory": 25}, 32773), ({"ApplicationConsistentSnapshotInterval": 1}, 32773),
    ({"RecoveryConnectionPoint": None}, 32773), ({"AuthenticationType": 2}, 32773), ({"InstanceID": f"Microsoft:{GUID}\\HVR\\1"}, 32773),
    ({"ApplicationConsistentSnapshotInterval": 13, "RecoveryHistory": 2}, 32773)])
def test_settings_that_no_relation_can_have(pair: MakePair, values: dict[str, Any], code: int) -> None:
    both = pair()
    assert both.create(**values)["ReturnValue"] == code
    assert both.primary.host.changes == []


def test_disks_that_are_none_fail_the_job(pair: MakePair) -> None:
    both = pair()
    for wrong in (None, ["Microsoft:nothing"], [path + "x" for path in both.primary.disks()]):
        assert "0x80070057" in both.primary.failed(both.create(IncludedDisks=wrong))
    assert both.primary.host.row("Msvm_ComputerSystem", Name=GUID)["ReplicationMode"] == 0


@pytest.mark.parametrize("form", ["instance_id", "embedded"])
def test_the_other_forms_of_included_disks(pair: MakePair, form: str) -> None:
    both = pair()
    for side in (both.primary, both.replica):
        side.role.replica.knobs.included_disks = form  # type: ignore[assignment]
    assert "0x80070057" in both.primary.failed(both.create())
    instance = str(both.primary.host.rows("Msvm_StorageAllocationSettingData")[0]["InstanceID"])
    wanted = instance if form == "instance_id" else text("Msvm_StorageAllocationSettingData", InstanceID=instance)
    assert both.primary.done(both.create(IncludedDisks=[wanted])) == 91
    (told,) = both.primary.settings()["IncludedDisks"]  # type: ignore[union-attr,misc]
    assert instance in str(told)


def test_a_machine_that_is_there_already_is_in_the_way(pair: MakePair) -> None:
    both = pair()
    both.replica.role.add_vm(VmSpec(name="other", vm_id=GUID))
    assert "0x800700B7" in both.primary.failed(both.create())
    assert both.primary.host.rows(RELATION) == []


def test_a_second_relation_is_refused_from_either_side(pair: MakePair) -> None:
    both = pair()
    both.primary.done(both.create())
    assert both.create()["ReturnValue"] == 32775
    given = both.settings(RecoveryConnectionPoint="hv1.example.test", InstanceID=None)
    asked = text(SETTINGS, **{k: v for k, v in given.items() if v is not None})
    assert both.replica.ask("CreateReplicationRelationship", ReplicationSettingData=asked)["ReturnValue"] == 32775


def test_a_relation_back_to_the_primary_fails_where_the_machine_is(pair: MakePair) -> None:
    both = pair()
    both.replicating()
    asked = text(SETTINGS, RecoveryConnectionPoint="hv1.example.test", RecoveryServerPortNumber=80, AuthenticationType=1)
    assert "0x800700B7" in both.replica.failed(both.replica.ask("CreateReplicationRelationship", ReplicationSettingData=asked))
    assert (len(both.replica.machine.relations), len(both.primary.machine.relations)) == (1, 1)


def test_a_new_name_of_the_primary_stays_its_own(pair: MakePair) -> None:
    both = pair()
    both.primary.guest().write_some(3)
    both.replicating()
    both.primary.machine.name = "renamed"
    both.clock.advance(305.0)
    assert (both.primary.state(), both.replica.machine.name, both.replica.writes()) == ((3, 1), "web01", 3)


# -- the first copy and cycles ---------------------------------------------------------------------------------------------


def test_the_replica_holds_what_the_guest_had_written_at_known_instants(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    guest.write_some(40)
    both.replicating()
    assert (both.primary.state(), both.replica.state()) == ((3, 1), (3, 1))
    assert both.replica.writes() == 40
    guest.write_some(25)
    assert both.replica.writes() == 40
    both.clock.advance(302.0)
    assert both.replica.writes() == 65
    row = both.replica.row()
    assert row["LastReplicationTime"] == both.primary.row()["LastReplicationTime"]
    assert (row["LastReplicationType"], row["LastApplyTime"] > row["LastReplicationTime"]) == (1, True)  # type: ignore[operator]


def test_a_torn_write_of_the_primary_is_torn_on_the_replica(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    guest.write_some(10)
    guest.step()
    both.replicating()
    proof = both.replica.proof()
    assert (proof.consistent, proof.last, proof.in_flight) == (True, 10, 11)


def test_the_copy_can_be_planned_watched_and_cancelled(pair: MakePair) -> None:
    both = pair()
    both.primary.guest().write_some(30)
    both.primary.done(both.create())
    now = both.clock.now()
    for bad in (now - timedelta(minutes=1), now + timedelta(days=8)):
        assert both.start(StartTime=bad)["ReturnValue"] == 32773
    both.primary.done(both.start(StartTime=now + timedelta(hours=2)))
    assert (both.primary.state()[0], both.start()["ReturnValue"]) == (2, 32775)
    both.clock.advance(HOUR)
    assert both.replica.machine.disks[0].leaf.made is False  # type: ignore[union-attr]
    both.clock.advance(HOUR + 10.0)
    (job,) = [r for r in both.primary.host.rows("Msvm_ConcreteJob") if r["JobType"] == 116]
    assert 0 < int(str(job["PercentComplete"])) < 100
    assert both.primary.done(both.primary.request(1)) == 109
    assert both.primary.state()[0] == 1
    both.primary.done(both.start())
    both.primary.until(lambda: both.primary.state()[0] == 3, 120.0)
    assert both.replica.writes() == 30


def test_a_copy_that_is_interrupted_goes_on_and_a_lost_line_stops_it(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    guest.write_some(40)
    both.primary.done(both.create())
    both.primary.done(both.start())
    both.clock.advance(8.0)
    both.network.cut("hv1", "hv2")
    both.clock.advance(120.0)
    assert both.primary.state() == (2, 2)
    guest.write_some(5)
    both.network.mend("hv1", "hv2")
    both.primary.until(lambda: both.primary.state()[0] == 3, 200.0)
    assert both.replica.writes() == 45


def test_a_copy_that_stays_interrupted_ends_critical_and_is_resumed(pair: MakePair) -> None:
    both = pair()
    both.primary.guest().write_some(40)
    both.primary.done(both.create())
    both.primary.done(both.start())
    both.network.cut("hv1", "hv2")
    both.primary.until(lambda: both.primary.state()[0] == 8, 600.0)
    assert both.primary.state() == (8, 3)
    assert any("0x00002EE2" in issue for issue in both.primary.figures()[1])
    both.network.mend("hv1", "hv2")
    assert both.primary.done(both.primary.request(3)) == 96
    both.primary.until(lambda: both.primary.state()[0] == 3, 200.0)
    assert both.replica.writes() == 40


def test_the_first_copy_on_media(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    guest.write_some(20)
    both.primary.done(both.create())
    both.primary.host.files.create_directory("E:\\media")
    assert both.start(2)["ReturnValue"] == 32773
    assert both.start(2, InitialReplicationExportLocation="E:\\nothing")["ReturnValue"] == 32779
    assert both.primary.done(both.start(2, InitialReplicationExportLocation="E:\\media")) == 118
    guest.write_some(7)
    folder = f"E:\\media\\web01_{GUID}"
    assert both.replica.ask("ImportInitialReplica", InitialReplicationImportLocation=folder)["ReturnValue"] == 32779
    both.replica.host.files.create_directory("E:\\carried")
    for name in ("web01.vhdx", f"{GUID}.ir"):
        both.replica.host.files.write_file(f"E:\\carried\\{name}", both.primary.host.files.read_file(f"{folder}\\{name}"))
    assert both.replica.done(both.replica.ask("ImportInitialReplica", InitialReplicationImportLocation="E:\\carried")) == 95
    assert both.replica.writes() == 20
    both.primary.until(lambda: both.primary.state()[0] == 3, 400.0)
    both.clock.advance(5.0)
    assert (both.replica.writes(), both.replica.state()) == (27, (3, 1))


def test_media_of_an_older_export_does_not_fit(pair: MakePair) -> None:
    both = pair()
    both.primary.guest().write_some(5)
    both.primary.done(both.create())
    for folder in ("E:\\one", "E:\\two"):
        both.primary.host.files.create_directory(folder)
        both.primary.done(both.start(2, InitialReplicationExportLocation=folder))
        if folder.endswith("one"):
            both.primary.done(both.primary.request(1))
    both.replica.host.files.create_directory("E:\\carried")
    for name in ("web01.vhdx", f"{GUID}.ir"):
        data = both.primary.host.files.read_file(f"E:\\one\\web01_{GUID}\\{name}")
        both.replica.host.files.write_file(f"E:\\carried\\{name}", data)
    both.replica.done(both.replica.ask("ImportInitialReplica", InitialReplicationImportLocation="E:\\carried"))
    both.clock.advance(1000.0)
    assert (both.primary.state(), both.replica.state()) == ((2, 2), (2, 2))
    both.replica.host.files.write_file("E:\\carried\\web01.vhdx", b"no disk")
    answer = both.replica.ask("ImportInitialReplica", InitialReplicationImportLocation="E:\\carried")
    assert "0x8007000D" in both.replica.failed(answer)


def test_a_copy_on_what_is_there_sends_what_differs(pair: MakePair) -> None:
    both = pair()
    both.primary.guest().write_some(30)
    both.replicating()
    for side in (both.primary, both.replica):
        assert side.done(side.ask("RemoveReplicationRelationship")) == 93
    assert [side.host.row("Msvm_ComputerSystem", Name=GUID)["ReplicationMode"] for side in (both.primary, both.replica)] == [0, 0]
    entry = text("Msvm_ReplicationAuthorizationSettingData", AllowedPrimaryHostSystem="*.example.test")
    assert both.replica.done(both.replica.ask("SetAuthorizationEntry", AuthorizationEntry=entry)) == 92
    both.primary.done(both.create())
    both.primary.done(both.start(3))
    both.primary.until(lambda: both.primary.state()[0] == 3, 200.0)
    assert both.replica.writes() == 30
    assert both.replica.role.machines[GUID].disks[0].leaf.path.startswith("D:\\Replica")  # type: ignore[union-attr]


# -- lag, cuts, pause, resync ------------------------------------------------------------------------------------------------


def test_a_slow_line_makes_cycles_late(pair: MakePair) -> None:
    both = pair(vm=VmSpec(name="web01", vm_id=GUID, folder="D:\\VMs\\web01", disks=(DiskSpec(size=32 * MIB),)))
    guest = both.primary.guest()
    both.replicating(ReplicationInterval=30)
    both.primary.role.replica.knobs.bytes_per_second = 10_000.0
    guest.write_some(60)
    both.clock.advance(40.0)
    figures, _unused = both.primary.figures()
    assert int(str(figures["PendingReplicationSize"])) > 1_000_000
    both.clock.advance(150.0)
    figures, issues = both.primary.figures()
    assert int(str(figures["ReplicationMissCount"])) >= 4
    assert (both.primary.state(), len(issues)) == ((3, 2), 1)
    both.clock.advance(600.0)
    assert both.replica.writes() == 60
    assert int(str(both.primary.figures()[0]["MaxReplicationLatency"])) > 100


def test_a_cut_line_warns_then_stops_and_loses_nothing(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    both.replicating()
    both.clock.advance(301.0)
    guest.write_some(10)
    both.network.cut("hv1", "hv2")
    both.clock.advance(1000.0)
    assert both.primary.state() == (3, 2)
    assert int(str(both.primary.figures()[0]["NetworkFailureCount"])) == 3
    both.clock.advance(1000.0)
    assert (both.primary.state(), both.replica.state()[0]) == ((8, 3), 3)
    both.network.mend("hv1", "hv2")
    both.clock.advance(1000.0)
    assert both.replica.writes() == 0
    assert both.primary.done(both.primary.request(3, 0)) == 96
    both.clock.advance(5.0)
    assert (both.primary.state()[0], both.replica.writes()) == (3, 10)


def test_an_hour_of_silence_is_seen_on_the_replica_too(pair: MakePair) -> None:
    both = pair()
    both.replicating()
    both.network.take_down("hv1")
    both.clock.advance(HOUR + 400.0)
    assert both.replica.state() == (3, 2)


def test_pause_and_resume(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    both.replicating()
    assert both.primary.request(3)["ReturnValue"] == 32775
    assert both.primary.done(both.primary.request(7)) == 96
    guest.write_some(8)
    both.clock.advance(900.0)
    assert (both.primary.state(), both.primary.request(7)["ReturnValue"]) == ((7, 2), 32775)
    assert both.replica.writes() == 0
    both.primary.done(both.primary.request(3))
    both.clock.advance(5.0)
    assert (both.primary.state()[0], both.replica.writes()) == (3, 8)
    assert both.primary.request(5)["ReturnValue"] == 32773


def test_too_much_that_could_not_be_sent_needs_a_resynchronisation(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    both.replicating()
    assert both.primary.ask("Resynchronize")["ReturnValue"] == 32775
    both.primary.role.replica.knobs.log_share = 0.01
    both.network.cut("hv1", "hv2")
    guest.write_some(40)
    both.clock.advance(310.0)
    assert both.primary.state() == (9, 3)
    both.network.mend("hv1", "hv2")
    assert both.primary.done(both.primary.ask("Resynchronize")) == 107
    assert (both.primary.state(), both.primary.done(both.primary.request(7)), both.primary.state()[0]) == ((10, 2), 96, 11)
    both.primary.done(both.primary.request(3))
    both.primary.until(lambda: both.primary.state()[0] == 3, 100.0)
    assert (both.replica.state()[0], both.replica.writes()) == (3, 40)


def test_a_resynchronisation_by_itself_waits_for_its_window(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    both.replicating(AutoResynchronizeEnabled="true", AutoResynchronizeIntervalStart="00000000230000.000000:000",
                     AutoResynchronizeIntervalEnd="00000000010000.000000:000")
    both.primary.role.replica.knobs.log_share = 0.0
    both.network.cut("hv1", "hv2")
    guest.write_some(4)
    both.clock.advance(310.0)
    both.network.mend("hv1", "hv2")
    both.clock.advance(1500.0)  # the clock began at 22:00
    assert both.primary.state()[0] == 9
    both.clock.advance(2400.0)
    assert (both.primary.state()[0], both.replica.writes()) == (3, 4)


# -- recovery points --------------------------------------------------------------------------------------------------------


def kinds(both: Pair) -> list[str]:
    rows = [r for r in both.replica.host.rows("Msvm_VirtualSystemSettingData") if r["VirtualSystemIdentifier"] == GUID]
    return sorted(str(r["VirtualSystemType"]).rpartition(":")[2] for r in rows)


def test_recovery_points_come_each_hour_and_the_oldest_goes(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    both.replicating(RecoveryHistory=2)
    for _hour in range(4):
        guest.write_some(3)
        both.clock.advance(HOUR)
    assert kinds(both) == ["Realized", "Standard", "Standard"]
    points = sorted((c for c in both.replica.machine.checkpoints.values()), key=lambda c: c.created)
    proofs = []
    for point in points:
        files = [both.replica.host.files.real_path(f.path) for f in point.files[0].chain()]
        proofs.append(inspect(files[0], files[1:]))
    assert [proof.consistent for proof in proofs] == [True, True]
    assert 0 < proofs[0].last < proofs[1].last <= both.replica.writes()


def test_an_application_consistent_point_has_a_quiet_guest(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    guest.write_some(3)
    guest.step()
    both.replicating(RecoveryHistory=3, ApplicationConsistentSnapshotInterval=1)
    both.clock.advance(HOUR + 400.0)
    assert "ApplicationConsistent" in kinds(both)
    row = both.replica.row()
    assert row["LastApplicationConsistentReplicationTime"] == both.primary.row()["LastApplicationConsistentReplicationTime"]
    both.primary.role.knobs.cannot_quiesce.add(GUID)
    both.clock.advance(HOUR + 400.0)
    assert both.primary.figures()[0]["ApplicationConsistentSnapshotFailureCount"] == "1"


def test_apply_trails_without_loss_while_something_holds_the_replica(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    both.replicating()
    both.replica.role.replica.knobs.apply_held = True
    guest.write_some(5)
    both.clock.advance(310.0)
    row = both.replica.row()
    assert row["LastApplyTime"] < row["LastReplicationTime"]  # type: ignore[operator]
    assert both.replica.writes() == 0
    both.replica.role.replica.knobs.apply_held = False
    both.clock.advance(11.0)
    assert both.replica.writes() == 5


# -- changing and ending ------------------------------------------------------------------------------------------------------


def modify(both: Pair, **values: Any) -> dict[str, Any]:
    return both.primary.ask("ModifyReplicationSettings", ReplicationSettingData=text(SETTINGS, InstanceID=relation_id(0), **values))


def test_settings_are_changed_on_both_sides_and_what_is_left_out_stays(pair: MakePair) -> None:
    both = pair()
    both.replicating(RecoveryHistory=4)
    assert both.primary.done(modify(both, ReplicationInterval=30, CompressionEnabled="false")) == 92
    for side in (both.primary, both.replica):
        row = side.settings()
        assert (row["ReplicationInterval"], row["CompressionEnabled"], row["RecoveryHistory"]) == (30, False, 4)
    last = both.replica.row()["LastReplicationTime"]
    both.clock.advance(35.0)
    assert both.replica.row()["LastReplicationTime"] != last
    assert modify(both, ReplicationInterval=31)["ReturnValue"] == 32773
    assert "0x00002AF9" in both.primary.failed(modify(both, RecoveryConnectionPoint="hv7.example.test"))
    assert both.primary.settings()["RecoveryConnectionPoint"] == "hv2.example.test"


@pytest.mark.parametrize("os_version", ["2012R2", "2022"])
def test_a_disk_that_is_added_later(pair: MakePair, os_version: str) -> None:
    both = pair(os_version=os_version)
    both.primary.guest().write_some(4)
    both.replicating()
    attach_disk(both.primary.machine, DiskSpec(path="D:\\VMs\\web01\\data.vhdx", size=8 * MIB, content=b"data"))
    both.clock.advance(400.0)
    assert (both.primary.state(), len(both.replica.machine.disks)) == ((3, 1), 1)
    both.primary.done(modify(both, IncludedDisks=both.primary.disks()))
    if os_version == "2012R2":
        assert both.primary.state()[0] == 9
        both.primary.done(both.primary.ask("Resynchronize"))
    else:
        assert both.primary.state()[0] == 15
    both.primary.until(lambda: both.primary.state()[0] == 3, 100.0)
    leaf = both.replica.machine.disks[1].leaf
    assert leaf is not None
    assert leaf.path.endswith("\\data.vhdx")
    assert both.replica.host.files.exists(leaf.path)


def test_each_side_ends_the_relation_for_itself(pair: MakePair) -> None:
    both = pair()
    both.primary.guest().write_some(4)
    both.replicating(RecoveryHistory=1)
    both.clock.advance(HOUR)
    given = text(RELATION, InstanceID=relation_id(0))
    assert both.replica.done(both.replica.ask("RemoveReplicationRelationshipEx", ReplicationRelationship=given)) == 93
    assert (kinds(both), both.replica.machine.relations) == (["Realized"], [])
    both.clock.advance(400.0)
    assert both.primary.state() == (8, 3)
    both.primary.done(both.primary.ask("RemoveReplicationRelationshipEx", ReplicationRelationship=given))
    assert both.primary.host.rows(RELATION) == []
    both.clock.advance(120.0)
    assert both.replica.writes() == 4
    assert both.primary.ask("RemoveReplicationRelationship")["ReturnValue"] == 32775


def test_a_replica_is_refused_what_it_is_not_for(pair: MakePair) -> None:
    both = pair()
    both.replicating()
    start = both.replica.host.call("Msvm_ComputerSystem", "RequestStateChange", {"RequestedState": 2},
                                   selectors={"CreationClassName": "Msvm_ComputerSystem", "Name": GUID})
    assert start["ReturnValue"] == 32775
    made = both.replica.host.call("Msvm_VirtualSystemSnapshotService", "CreateSnapshot", {"AffectedSystem": VM, "SnapshotType": 2})
    assert both.replica.ended(made, 60.0)["ErrorCode"] == 32770
    assert both.replica.ask("StartReplication", InitialReplicationType=1)["ReturnValue"] == 32775


def test_the_service_restarts_and_replication_goes_on(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    guest.write_some(12)
    both.primary.done(both.create())
    both.primary.done(both.start())
    both.clock.advance(5.0)
    both.primary.role.restart_vmms()
    both.replica.role.restart_vmms()
    both.primary.until(lambda: both.primary.state()[0] == 3, 100.0)
    guest.write_some(3)
    both.clock.advance(300.5)
    both.primary.role.restart_vmms()
    both.clock.advance(310.0)
    assert (both.replica.writes(), both.primary.state()[0]) == (15, 3)


def test_relations_are_found_through_their_associations(pair: MakePair) -> None:
    both = pair()
    both.replicating()
    source = f"{{{RELATION}.InstanceID=\"Microsoft:{GUID}\\\\HVR\\\\0\"}}"
    found = both.primary.host.query(f"ASSOCIATORS OF {source} WHERE AssocClass=Msvm_SettingsDefineState")
    assert [r.class_name for r in found] == [SETTINGS]
    assert both.primary.host.row("Msvm_SystemReplicationRelationship")["Dependent"] == Ref(V2, RELATION, {"InstanceID": relation_id(0)})


# -- what else goes wrong -----------------------------------------------------------------------------------------------------


def test_a_volume_that_is_full_on_the_other_side(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    both.replicating()
    volume = both.replica.host.files.resolve("D:\\").volume
    volume.backing.reserved = volume.free_bytes
    guest.write_some(60)
    both.clock.advance(305.0)
    figures, issues = both.primary.figures()
    assert (figures["ReplicationFailureCount"], both.replica.writes(), issues) == ("1", 0, [])
    volume.backing.reserved = 0
    both.clock.advance(305.0)
    assert both.replica.writes() == 60


def test_fault_rules_reach_the_jobs_of_replication(pair: MakePair) -> None:
    both = pair()
    guest = both.primary.guest()
    failures = both.primary.role.jobs.next_failures
    failures.append((91, JobFailure(32768, "by rule", hresult=0x80004005)))
    assert "0x80004005" in both.primary.failed(both.create())
    assert both.replica.host.rows("Msvm_ComputerSystem")[1:] == []
    both.primary.done(both.create())
    failures.append((116, JobFailure(32768, "by rule")))
    both.primary.done(both.start())
    both.primary.until(lambda: both.primary.state()[0] == 3, 300.0)
    failures.append((105, JobFailure(32768, "by rule")))
    guest.write_some(3)
    both.clock.advance(305.0)
    assert (both.replica.writes(), both.primary.figures()[0]["ReplicationFailureCount"]) == (0, "2")
    both.clock.advance(300.0)
    assert both.replica.writes() == 3
    both.primary.power(3)
    failures.append((100, JobFailure(32768, "by rule", hresult=0x80004005)))
    assert "0x80004005" in both.primary.failed(both.primary.request(4))
    assert both.primary.state()[0] == 3


def test_a_service_that_does_not_run_lets_nobody_in(pair: MakePair) -> None:
    both = pair()
    both.replicating()
    both.replica.role.replica.stopped = True
    assert "0x00002EFD" in both.primary.failed(connection(both))
    both.clock.advance(305.0)
    assert both.primary.figures()[0]["NetworkFailureCount"] == "1"
    both.replica.role.replica.stopped = False
    both.primary.role.replica.stopped = True
    last = both.replica.row()["LastReplicationTime"]
    both.clock.advance(900.0)
    assert both.replica.row()["LastReplicationTime"] == last


def test_certificates_that_nobody_can_ask_about(pair: MakePair) -> None:
    server = ReplicaServerSpec(enabled=True, authentication=2, certificate="host", authorizations=(AuthorizationSpec("*"),))
    both = pair(server=server, domain=None, certificates=True)
    made = both.primary.host.certificates.add(CertificateSpec("lab", revocation_reachable=False))
    secure = {"RecoveryConnectionPoint": "hv2", "RecoveryServerPortNumber": 443, "AuthenticationType": 2,
              "CertificateThumbPrint": made.thumbprint}
    assert "0x80092013" in both.primary.failed(connection(both, **secure))
    both.replica.host.certificates.checks_revocation = False
    assert both.primary.done(connection(both, **secure)) == 115


def test_a_replica_that_is_lost_from_its_host(pair: MakePair) -> None:
    both = pair()
    both.primary.guest().write_some(2)
    both.replicating()
    both.replica.role.remove_vm(GUID)
    both.clock.advance(305.0)
    assert both.primary.state() == (8, 3)
    assert any("0x80070490" in issue for issue in both.primary.figures()[1])
    assert "0x80070490" in both.primary.failed(modify(both, CompressionEnabled="false"))


def test_a_machine_of_a_newer_version_is_not_taken(pair: MakePair) -> None:
    both = pair()
    both.replica.role.os_version = "2016"
    assert "0x80070032" in both.primary.failed(both.create())
