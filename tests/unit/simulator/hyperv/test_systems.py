# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of machines and of their settings."""
from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from simulator.hyperv.spec import CheckpointSpec, RelationSpec, VmSpec
from unit.simulator.hyperv.bench import NOBODY, OPERATOR, MakeBench

GUID = "0A1B2C3D-0000-4000-8000-00000000ABCD"


def test_a_healthy_machine(bench: MakeBench) -> None:
    host = bench(VmSpec(name="web01", vm_id=GUID.lower(), uptime_hours=2.0))
    row = host.row("Msvm_ComputerSystem", ElementName="web01")
    wanted = {"Name": GUID, "Caption": "Virtual Machine", "Description": "Microsoft Virtual Machine", "EnabledState": 2, "HealthState": 5,
              "OperationalStatus": [2], "ReplicationMode": 0, "OnTimeInMilliseconds": 7_200_000, "OtherEnabledState": None,
              "LastSuccessfulBackupTime": datetime(1601, 1, 1, tzinfo=UTC)}
    assert {k: row[k] for k in wanted} == wanted
    assert isinstance(row["ProcessID"], int)


@pytest.mark.parametrize(("locale", "description", "vm_caption"), [
    ("en-US", "Microsoft Hosting Computer System", "Virtual Machine"),
    ("ja-JP", "Microsoft ホスティング コンピューター システム", "仮想マシン"),
    ("nl-NL", "Microsoft Hosting Computer System", "Virtual Machine"),
])
def test_the_host_has_a_row_of_its_own(bench: MakeBench, locale: str, description: str, vm_caption: str) -> None:
    host = bench(VmSpec(name="a"), name="hvhost", locale=locale)
    rows = host.rows("Msvm_ComputerSystem")
    assert [(r["Name"], r["ElementName"], r["Description"]) for r in rows[:1]] == [("HVHOST", "HVHOST", description)]
    assert (rows[1]["Caption"], rows[1]["Description"]) == (vm_caption, "Microsoft Virtual Machine")


@pytest.mark.parametrize(("spec", "enabled", "other", "health", "status"), [
    (VmSpec(state="running"), 2, None, 5, [2]),
    (VmSpec(state="off"), 3, None, 5, [2]),
    (VmSpec(state="stopping"), 4, None, 5, [2]),
    (VmSpec(state="saved"), 6, None, 5, [2]),
    (VmSpec(state="paused"), 9, None, 5, [2]),
    (VmSpec(state="starting"), 10, None, 5, [2]),
    (VmSpec(state="saving"), 1, "Saving", 5, [2]),
    (VmSpec(state="paused", health="storage_full"), 9, None, 20, [5]),
    (VmSpec(health="storage_low"), 2, None, 5, [5]),
    (VmSpec(state="critical", health="configuration_offline"), 1, "RunningCritical", 25, [3]),
    (VmSpec(busy="creating_checkpoint"), 2, None, 5, [2, 32768]),
    (VmSpec(busy="merging"), 2, None, 5, [2, 32772]),
    (VmSpec(busy="exporting"), 2, None, 5, [2, 32773]),
    (VmSpec(busy="migrating"), 2, None, 5, [2, 32774]),
    (VmSpec(busy="backup"), 2, None, 5, [2]),
])
def test_states(bench: MakeBench, spec: VmSpec, enabled: int, other: str | None, health: int, status: list[int]) -> None:
    row = bench(spec).row("Msvm_ComputerSystem", ElementName="vm")
    assert (row["EnabledState"], row["OtherEnabledState"], row["HealthState"], row["OperationalStatus"]) == (enabled, other, health, status)
    texts = row["StatusDescriptions"]
    assert isinstance(texts, list)
    assert len(texts) == len(status)


def test_who_is_no_hyper_v_administrator_sees_no_machine_and_no_error(bench: MakeBench) -> None:
    host = bench(VmSpec(name="a"), VmSpec(name="p", planned=True))
    assert [r["Name"] for r in host.rows("Msvm_ComputerSystem", NOBODY)] == ["HV1"]
    for class_name in ("Msvm_PlannedComputerSystem", "Msvm_VirtualSystemSettingData", "Msvm_StorageAllocationSettingData",
                       "Msvm_SettingsDefineState", "Msvm_HeartbeatComponent", "Msvm_VirtualSystemSettingDataComponent"):
        assert host.rows(class_name, NOBODY) == []
        assert len(host.rows(class_name, OPERATOR)) >= 1
    assert host.query("SELECT * FROM Msvm_ComputerSystem WHERE ElementName='a'", NOBODY) == []


def test_look_ups_ignore_letter_case_and_find_all_of_a_name(bench: MakeBench) -> None:
    host = bench(VmSpec(name="Twin", vm_id=GUID), VmSpec(name="twin"), VmSpec(name="other"))
    found = host.query("SELECT * FROM Msvm_ComputerSystem WHERE ElementName='TWIN'")
    assert sorted(str(r["ElementName"]) for r in found) == ["Twin", "twin"]
    assert [r["ElementName"] for r in host.query(f"SELECT * FROM Msvm_ComputerSystem WHERE Name='{GUID.lower()}'")] == ["Twin"]
    assert host.query("SELECT * FROM Msvm_ComputerSystem WHERE ElementName='nobody'") == []


def test_planned_machines_are_apart(bench: MakeBench) -> None:
    host = bench(VmSpec(name="real"), VmSpec(name="left over", vm_id=GUID, planned=True))
    assert [(r["Name"], r["EnabledState"]) for r in host.rows("Msvm_PlannedComputerSystem")] == [(GUID, 3)]
    assert "left over" not in [r["ElementName"] for r in host.rows("Msvm_ComputerSystem")]
    settings = host.row("Msvm_VirtualSystemSettingData", InstanceID=f"Microsoft:{GUID}")
    assert settings["VirtualSystemType"] == "Microsoft:Hyper-V:System:Planned"


def test_one_guid_is_once_on_a_host(bench: MakeBench) -> None:
    with pytest.raises(ValueError, match=GUID):
        bench(VmSpec(vm_id=GUID), VmSpec(vm_id=GUID.lower(), planned=True))


def test_settings_of_a_machine(bench: MakeBench) -> None:
    host = bench(VmSpec(name="web01", vm_id=GUID, folder="D:\\VMs\\web01", notes="two\nlines", policy="production_only",
                        automatic_checkpoints=True, incremental_backup=True))
    row = host.row("Msvm_VirtualSystemSettingData", ElementName="web01")
    wanted = {
        "InstanceID": f"Microsoft:{GUID}", "VirtualSystemIdentifier": GUID, "ConfigurationID": GUID,
        "VirtualSystemType": "Microsoft:Hyper-V:System:Realized", "VirtualSystemSubType": "Microsoft:Hyper-V:SubType:2", "Version": "10.0",
        "Notes": ["two\nlines"], "UserSnapshotType": 4, "AutomaticSnapshotsEnabled": True, "IncrementalBackupEnabled": True,
        "ConfigurationDataRoot": "D:\\VMs\\web01", "ConfigurationFile": f"Virtual Machines\\{GUID}.vmcx",
        "GuestStateFile": f"Virtual Machines\\{GUID}.vmgs", "SnapshotDataRoot": "D:\\VMs\\web01", "Parent": None, "IsSaved": False,
        "IsAutomaticSnapshot": False, "AutomaticStartupActionDelay": timedelta(0),
    }
    assert {k: row[k] for k in wanted} == wanted


@pytest.mark.parametrize(("os_version", "version", "file", "absent"), [
    ("2012R2", "5.0", "xml",
     ("UserSnapshotType", "AutomaticSnapshotsEnabled", "IsAutomaticSnapshot", "GuestStateFile", "GuestStateDataRoot")),
    ("2016", "8.0", "vmcx", ("AutomaticSnapshotsEnabled", "IsAutomaticSnapshot", "GuestStateFile")),
    ("2019", "9.0", "vmcx", ()),
    ("2022", "10.0", "vmcx", ()),
    ("2025", "12.0", "vmcx", ()),
])
def test_settings_by_release(bench: MakeBench, os_version: str, version: str, file: str, absent: tuple[str, ...]) -> None:
    host = bench(VmSpec(name="a"), os_version=os_version)
    row = host.row("Msvm_VirtualSystemSettingData", ElementName="a")
    assert row["Version"] == version
    assert str(row["ConfigurationFile"]).endswith(f".{file}")
    newer = {"UserSnapshotType", "AutomaticSnapshotsEnabled", "IsAutomaticSnapshot", "GuestStateFile", "GuestStateDataRoot"}
    assert {name for name in newer if name not in row.values} >= set(absent)
    assert newer - set(absent) - {"GuestStateDataRoot"} <= set(row.values)


def test_checkpoints_of_every_kind(bench: MakeBench) -> None:
    kinds = {"standard": "Realized", "production": "Realized", "recovery": "Recovery", "replica": "Replica:Standard",
             "replica_application": "Replica:ApplicationConsistent", "replica_planned": "Replica:PlannedFailover", "planned": "Planned",
             "missing": "Missing"}
    checkpoints = tuple(CheckpointSpec(kind, kind, kind=kind, age_hours=5.0) for kind in kinds)  # type: ignore[arg-type]
    host = bench(VmSpec(name="vm", checkpoints=checkpoints))
    rows = {r["ElementName"]: r for r in host.rows("Msvm_VirtualSystemSettingData") if r["ElementName"] != "vm"}
    assert {name: r["VirtualSystemType"] for name, r in rows.items()} == {k: f"Microsoft:Hyper-V:Snapshot:{v}" for k, v in kinds.items()}
    assert [name for name, r in rows.items() if r["IsSaved"]] == ["standard"]
    assert rows["recovery"]["CreationTime"] == host.clock.now() - timedelta(hours=5)
    found = host.query("SELECT * FROM Msvm_VirtualSystemSettingData WHERE VirtualSystemType='Microsoft:Hyper-V:Snapshot:Realized'")
    assert sorted(str(r["ElementName"]) for r in found) == ["production", "standard"]


def test_default_names_of_checkpoints(bench: MakeBench) -> None:
    host = bench(VmSpec(name="vm", checkpoints=(CheckpointSpec("a", age_hours=1.0), CheckpointSpec("b", kind="recovery", age_hours=0.0))))
    names = [r["ElementName"] for r in host.rows("Msvm_VirtualSystemSettingData")][1:]
    assert names == ["vm - (03/01/2026 - 09:00:00 PM)", "vm - Backup - (03/01/2026 - 10:00:00 PM)"]


def test_parents_are_object_paths_of_this_host(bench: MakeBench) -> None:
    ids = {key: f"0000000{n}-0000-4000-8000-000000000000" for n, key in enumerate("ab")}
    host = bench(VmSpec(name="vm", checkpoints=(CheckpointSpec("a", checkpoint_id=ids["a"]),
                                                CheckpointSpec("b", parent="a", checkpoint_id=ids["b"]))))
    parents = {r["ConfigurationID"]: r["Parent"] for r in host.rows("Msvm_VirtualSystemSettingData")}
    path = '\\\\HV1\\root\\virtualization\\v2:Msvm_VirtualSystemSettingData.InstanceID="Microsoft:{}"'
    vm_id = next(iter(host.role.machines))
    assert parents == {vm_id: path.format(ids["b"]), ids["a"]: None, ids["b"]: path.format(ids["a"])}


@pytest.mark.parametrize("bad", [
    {"checkpoints": (CheckpointSpec("a"), CheckpointSpec("a"))},
    {"checkpoints": (CheckpointSpec("b", parent="a"), CheckpointSpec("a"))},
    {"current_parent": "nothing"},
])
def test_impossible_machines_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="machine 'vm'"):
        VmSpec(**bad)  # type: ignore[arg-type]


def test_replication_relations(bench: MakeBench) -> None:
    relations = (RelationSpec(minutes_since=10.0), RelationSpec(state=7, health=2))
    host = bench(VmSpec(name="p", vm_id=GUID, replication_mode=1, relations=relations))
    rows = host.rows("Msvm_ReplicationRelationship")
    assert [(r["InstanceID"], r["ReplicationState"], r["ReplicationHealth"]) for r in rows] == [
        (f"Microsoft:{GUID}\\HVR\\0", 3, 1), (f"Microsoft:{GUID}\\HVR\\1", 7, 2)]
    assert rows[0]["LastReplicationTime"] == host.clock.now() - timedelta(minutes=10)
    system = host.row("Msvm_ComputerSystem", Name=GUID)
    assert (system["ReplicationMode"], system["ReplicationState"], system["ReplicationHealth"]) == (1, 3, 1)
    assert [r["InstanceID"] for r in host.rows("Msvm_ReplicationSettingData")] == [r["InstanceID"] for r in rows]
