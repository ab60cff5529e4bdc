# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Methods of the management service."""
from __future__ import annotations

from datetime import timedelta

import pytest
from simulator.cim.errors import SimulatorGap
from simulator.cim.model import CimError, Instance, Ref
from simulator.hyperv.spec import CheckpointSpec, RelationSpec, VmSpec
from unit.simulator.hyperv.bench import ADMINISTRATOR, NOBODY, V2, Bench, MakeBench

GUID = "0A1B2C3D-0000-4000-8000-00000000ABCD"
CHECKPOINT = "0A1B2C3D-1111-4000-8000-00000000ABCD"
SERVICE = "Msvm_VirtualSystemManagementService"
FACTS = [0, 1, 2, 3, 10, 100, 103, 104, 105, 106, 107, 108, 109, 110, 111, 114, 115, 116, 118, 119, 121, 122]


def settings(guid: str) -> Ref:
    return Ref(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{guid}"})


def summary(host: Bench, numbers: list[int], refs: list[Ref] | None = None) -> list[Instance]:
    parameters = {"RequestedInformation": numbers} | ({"SettingData": refs} if refs else {})
    answer = host.call(SERVICE, "GetSummaryInformation", parameters)  # type: ignore[arg-type]
    assert answer["ReturnValue"] == 0
    rows = answer["SummaryInformation"] or []
    assert isinstance(rows, list)
    return rows  # type: ignore[return-value]


def modify(host: Bench, properties: str, **options: object) -> dict[str, object]:
    text = f'<INSTANCE CLASSNAME="Msvm_VirtualSystemSettingData">{properties}</INSTANCE>'
    return dict(host.call(SERVICE, "ModifySystemSettings", {"SystemSettings": text}, **options))  # type: ignore[arg-type]


def prop(name: str, value: str, cim_type: str = "string") -> str:
    return f'<PROPERTY NAME="{name}" TYPE="{cim_type}"><VALUE>{value}</VALUE></PROPERTY>'


def array(name: str, *values: str) -> str:
    inner = "".join(f"<VALUE>{v}</VALUE>" for v in values)
    return f'<PROPERTY.ARRAY NAME="{name}" TYPE="string"><VALUE.ARRAY>{inner}</VALUE.ARRAY></PROPERTY.ARRAY>'


KEY = prop("InstanceID", f"Microsoft:{GUID}")


def test_summary_of_everything(bench: MakeBench) -> None:
    host = bench(VmSpec(name="a", vm_id=GUID, notes="n", uptime_hours=1.0, replication_mode=1, busy="exporting",
                        relations=(RelationSpec(), RelationSpec(state=7, health=2)), checkpoints=(CheckpointSpec("c", "c"),)),
                 VmSpec(name="b", state="off"), VmSpec(name="p", planned=True))
    first, second = summary(host, FACTS)
    wanted = {"Name": GUID, "ElementName": "a", "Notes": "n", "Version": "10.0", "EnabledState": 2, "MemoryUsage": 2048, "Heartbeat": 2,
              "UpTime": 3_600_000, "GuestOperatingSystem": "Windows Server 2022 Standard", "HealthState": 5,
              "OperationalStatus": [2, 32773], "ReplicationMode": 1, "ReplicationStateEx": [3, 7], "ReplicationHealthEx": [1, 2],
              "IntegrationServicesVersionState": 1, "InstanceID": f"Microsoft:{GUID}"}
    assert {k: first[k] for k in wanted} == wanted
    snapshots, tasks = first["Snapshots"], first["AsynchronousTasks"]
    assert isinstance(snapshots, list)
    assert isinstance(tasks, list)
    assert [s["ElementName"] for s in snapshots if isinstance(s, Instance)] == ["c"]
    assert [t["JobType"] for t in tasks if isinstance(t, Instance)] == [62]
    assert (second["EnabledState"], second["Heartbeat"], second["GuestOperatingSystem"], second["UpTime"]) == (3, None, None, 0)
    assert [second[n] for n in ("MemoryUsage", "ReplicationStateEx", "Snapshots", "AsynchronousTasks")] == [0, None, None, None]


def test_what_is_not_asked_for_is_null(bench: MakeBench) -> None:
    row = summary(bench(VmSpec(name="a", notes="n")), [1])[0]
    assert (row["ElementName"], row["Name"], row["Notes"], row["EnabledState"]) == ("a", None, None, None)


def test_summary_of_chosen_settings(bench: MakeBench) -> None:
    host = bench(VmSpec(name="a"), VmSpec(name="b", vm_id=GUID, checkpoints=(CheckpointSpec("c", "c", checkpoint_id=CHECKPOINT),)))
    rows = summary(host, [0, 1, 100], [settings(GUID.lower()), settings(CHECKPOINT)])
    assert [(r["Name"], r["ElementName"], r["EnabledState"]) for r in rows] == [(GUID, "b", 2), (CHECKPOINT, "c", None)]


def test_a_machine_that_is_not_available_has_an_empty_entry(bench: MakeBench) -> None:
    rows = summary(bench(VmSpec(name="x", vm_id=GUID, state="critical", health="configuration_offline")), FACTS)
    assert [(r["Name"], r["ElementName"], r["InstanceID"]) for r in rows] == [("", None, f"Microsoft:{GUID}")]


@pytest.mark.parametrize(("os_version", "numbers", "answer"), [
    ("2012R2", [0, 10], 32773), ("2012R2", [0, 11], 32773), ("2012R2", [0, 118, 119, 122], 0), ("2016", [10, 11], 0),
    ("2022", [999], 32773), ("2022", [], 0)])
def test_numbers_that_a_release_does_not_know(bench: MakeBench, os_version: str, numbers: list[int], answer: int) -> None:
    host = bench(VmSpec(), os_version=os_version)
    assert host.call(SERVICE, "GetSummaryInformation", {"RequestedInformation": list(numbers)})["ReturnValue"] == answer


def test_older_hosts_leave_out_newer_properties(bench: MakeBench) -> None:
    row = summary(bench(VmSpec(), os_version="2012R2"), [0, 1, 100])[0]
    assert not {"InstanceID", "HostComputerSystemName", "Version"} & set(row.values)


def test_summary_for_who_may_not_and_for_what_is_not(bench: MakeBench) -> None:
    host = bench(VmSpec(vm_id=GUID))
    answer = host.call(SERVICE, "GetSummaryInformation", {"RequestedInformation": [0]}, caller=NOBODY)
    assert (answer["SummaryInformation"], answer["ReturnValue"]) == ([], 0)
    answer = host.call(SERVICE, "GetSummaryInformation", {"RequestedInformation": [0], "SettingData": [settings(CHECKPOINT)]})
    assert answer["ReturnValue"] == 32773


@pytest.mark.parametrize(("os_version", "answer"), [("2012R2", 0), ("2016", 0), ("2019", 4096), ("2025", 4096)])
def test_modify_is_synchronous_or_a_job(bench: MakeBench, os_version: str, answer: int) -> None:
    host = bench(VmSpec(name="old", vm_id=GUID), os_version=os_version)
    outcome = modify(host, KEY + prop("ElementName", "new"))
    assert outcome["ReturnValue"] == answer
    assert (outcome["Job"] is None) == (answer == 0)
    assert host.row("Msvm_ComputerSystem", Name=GUID)["ElementName"] == ("new" if answer == 0 else "old")
    host.clock.advance(1)
    assert host.row("Msvm_ComputerSystem", Name=GUID)["ElementName"] == "new"
    assert host.changes == ["ModifySystemSettings"]


def test_modify_changes_only_what_is_sent(bench: MakeBench) -> None:
    host = bench(VmSpec(name="a", vm_id=GUID, notes="old"), os_version="2016")
    changes = prop("UserSnapshotType", "5", "uint16") + array("Notes", "one&#xA;line &#38; more", "two")
    assert modify(host, KEY + changes)["ReturnValue"] == 0
    row = host.row("Msvm_VirtualSystemSettingData", InstanceID=f"Microsoft:{GUID}")
    assert (row["UserSnapshotType"], row["Notes"], row["ElementName"]) == (5, ["one\nline & more"], "a")
    assert modify(host, KEY + '<PROPERTY NAME="ElementName" TYPE="string"/>')["ReturnValue"] == 0
    assert host.role.find("a").name == "a"


def test_naming_a_checkpoint(bench: MakeBench) -> None:
    host = bench(VmSpec(vm_id=GUID, checkpoints=(CheckpointSpec("c", checkpoint_id=CHECKPOINT),)), os_version="2016")
    key = prop("InstanceID", f"Microsoft:{CHECKPOINT}")
    assert modify(host, key + prop("ElementName", "ours") + array("Notes", "token"))["ReturnValue"] == 0
    row = host.row("Msvm_VirtualSystemSettingData", InstanceID=f"Microsoft:{CHECKPOINT}")
    assert (row["ElementName"], row["Notes"]) == ("ours", ["token"])
    assert modify(host, key + prop("UserSnapshotType", "2", "uint16"))["ReturnValue"] == 32773


@pytest.mark.parametrize(("properties", "answer"), [
    (prop("ElementName", "x"), 32773),
    (KEY + prop("ElementName", ""), 32773),
    (KEY + prop("ElementName", "n" * 101), 32773),
    (KEY + prop("UserSnapshotType", "9", "uint16"), 32773),
    (KEY + prop("Notes", "scalar"), 32773),
    (KEY + prop("NoSuchProperty", "x"), 32773),
    (KEY + prop("ElementName", "a&lt;b"), 32773),
    (prop("InstanceID", f"Microsoft:{CHECKPOINT}") + prop("ElementName", "x"), 32773),
])
def test_modify_refuses(bench: MakeBench, properties: str, answer: int) -> None:
    host = bench(VmSpec(vm_id=GUID))
    assert modify(host, properties) == {"Job": None, "ReturnValue": answer}
    assert host.changes == []


@pytest.mark.parametrize("properties", [
    prop("ElementName", "a&amp;b"), prop("UserSnapshotType", "3"), prop("AutomaticStartupActionDelay", "P0DT0H45M0S", "datetime")])
def test_values_in_a_wrong_form_start_a_job_that_fails(bench: MakeBench, properties: str) -> None:
    host = bench(VmSpec(name="a", vm_id=GUID))
    answer = modify(host, KEY + properties)
    assert answer["ReturnValue"] == 4096
    host.clock.advance(1)
    job = answer["Job"]
    assert isinstance(job, Ref)
    row = host.repository.get(V2, job.class_name, dict(job.keys), ADMINISTRATOR)
    assert (row["JobState"], row["ErrorCode"]) == (10, 32768)
    assert host.role.find("a").name == "a"


def test_the_policy_does_not_exist_before_2016(bench: MakeBench) -> None:
    host = bench(VmSpec(vm_id=GUID), os_version="2012R2")
    assert modify(host, KEY + prop("UserSnapshotType", "3", "uint16"))["ReturnValue"] == 32773


def test_the_checkpoint_folder_stays_while_checkpoints_exist(bench: MakeBench) -> None:
    free = bench(VmSpec(vm_id=GUID), os_version="2016")
    assert modify(free, KEY + prop("SnapshotDataRoot", "E:\\\\S"))["ReturnValue"] == 0
    bound = bench(VmSpec(vm_id=GUID, checkpoints=(CheckpointSpec("a"),)), name="hv2", os_version="2016")
    assert modify(bound, KEY + prop("SnapshotDataRoot", "E:\\\\S"))["ReturnValue"] == 32775


def test_who_may_not_modify(bench: MakeBench) -> None:
    assert modify(bench(VmSpec(vm_id=GUID)), KEY + prop("ElementName", "x"), caller=NOBODY) == {"Job": None, "ReturnValue": 32769}


@pytest.mark.parametrize(("state", "version", "size"), [
    ("running", None, 49152 + 65536 + 4194304), ("saved", None, 49152 + 4194304 + 4194304), ("off", "8.0", 49152 + 65536),
    ("running", "5.0", 40960), ("saved", "5.0", 40960 + 65536 + 4194304)])
def test_size_of_system_files(bench: MakeBench, state: str, version: str | None, size: int) -> None:
    host = bench(VmSpec(vm_id=GUID, state=state, version=version))  # type: ignore[arg-type]
    assert host.call(SERVICE, "GetSizeOfSystemFiles", {"Vssd": settings(GUID)}) == {"Size": size, "ReturnValue": 0}
    assert host.call(SERVICE, "GetSizeOfSystemFiles", {"Vssd": settings(CHECKPOINT)})["ReturnValue"] == 32773


def test_what_is_not_simulated_is_loud(bench: MakeBench) -> None:
    host = bench(VmSpec(vm_id=GUID))
    machine = Ref(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": GUID})
    with pytest.raises(SimulatorGap, match="CreateSnapshot"):  # of disks only
        host.call("Msvm_VirtualSystemSnapshotService", "CreateSnapshot", {"AffectedSystem": machine, "SnapshotType": 3})
    with pytest.raises(SimulatorGap, match="UpgradeSystemVersion"):
        host.call(SERVICE, "UpgradeSystemVersion", {"ComputerSystem": machine, "UpgradeSettingData": ""})
    with pytest.raises(SimulatorGap, match="AutomaticStartupAction"):
        modify(host, KEY + prop("AutomaticStartupAction", "2", "uint16"))


def test_services(bench: MakeBench) -> None:
    names = {"Msvm_VirtualSystemManagementService": "vmms", "Msvm_VirtualSystemSnapshotService": "vssnapsvc",
             "Msvm_ImageManagementService": "vhdsvc", "Msvm_ReplicationService": "replicasvc"}
    host = bench()
    assert {c: [(r["Name"], r["SystemName"]) for r in host.rows(c)] for c in names} == {c: [(n, "HV1")] for c, n in names.items()}
    old = bench(name="old", os_version="2012R2")
    assert old.repository.knows(V2, "Msvm_VirtualSystemReferencePointService") is False
    with pytest.raises(CimError) as refusal:
        old.rows("Msvm_VirtualSystemReferencePointService")
    assert refusal.value.kind == "invalid_class"


def test_export_settings(bench: MakeBench) -> None:
    row = bench(VmSpec(vm_id=GUID)).rows("Msvm_VirtualSystemExportSettingData")[0]
    assert (row["InstanceID"], row["CaptureLiveState"], row["BackupIntent"]) == (f"Microsoft:{GUID}", 1, 0)
    older = bench(VmSpec(vm_id=GUID), name="old", os_version="2012R2").rows("Msvm_VirtualSystemExportSettingData")[0]
    assert "BackupIntent" not in older.values


def test_time_moves_through_the_rows(bench: MakeBench) -> None:
    host = bench(VmSpec(vm_id=GUID, uptime_hours=1.0))
    host.clock.advance(timedelta(hours=2).total_seconds())
    assert summary(host, [105])[0]["UpTime"] == 3 * 3_600_000
