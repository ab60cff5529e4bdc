# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Associations followed from both ends, as clients follow them."""
from __future__ import annotations

from typing import Any

import pytest
from simulator.cim.model import CimError, Instance
from simulator.hyperv import scenarios
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, ReferencePointSpec, VmSpec
from unit.simulator.hyperv.bench import ADMINISTRATOR, NOBODY, V2, Bench, MakeBench

GUID = "0A1B2C3D-0000-4000-8000-00000000ABCD"
MACHINE = f"Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{GUID}'"


def associated(host: Bench, path: str, association: str, result: str | None = None) -> list[Instance]:
    wanted = f" ResultClass={result}" if result else ""
    return host.query(f"ASSOCIATORS OF {{{path}}} WHERE AssocClass={association}{wanted}")


def names(rows: list[Instance], name: str = "ElementName") -> list[object]:
    return [row[name] for row in rows]


@pytest.fixture
def host(bench: MakeBench) -> Bench:
    checkpoints = (CheckpointSpec("a", "a"), CheckpointSpec("b", "b", parent="a"), CheckpointSpec("c", "c", parent="a"))
    return bench(VmSpec(name="other"), VmSpec(name="vm", vm_id=GUID, checkpoints=checkpoints, current_parent="c", last_applied="a",
                                              disks=(DiskSpec(), DiskSpec()), replication_mode=1,
                                              reference_points=(ReferencePointSpec("full"),)))


def test_from_the_machine(host: Bench) -> None:
    assert names(associated(host, MACHINE, "Msvm_SettingsDefineState", "Msvm_VirtualSystemSettingData")) == ["vm"]
    assert names(associated(host, MACHINE, "Msvm_SnapshotOfVirtualSystem")) == ["a", "b", "c"]
    assert names(associated(host, MACHINE, "Msvm_MostCurrentSnapshotInBranch")) == ["c"]
    assert names(associated(host, MACHINE, "Msvm_LastAppliedSnapshot")) == ["a"]
    assert names(associated(host, MACHINE, "Msvm_SystemExportSettingData"), "InstanceID") == [f"Microsoft:{GUID}"]
    assert names(associated(host, MACHINE, "Msvm_SystemReplicationRelationship"), "InstanceID") == [f"Microsoft:{GUID}\\HVR\\0"]
    assert names(associated(host, MACHINE, "Msvm_ReferencePointOfVirtualSystem"), "VirtualSystemIdentifier") == [GUID]
    live = associated(host, MACHINE, "Msvm_SystemDevice")
    assert [i.class_name for i in live] == ["Msvm_HeartbeatComponent", "Msvm_VssComponent", "Msvm_KvpExchangeComponent",
                                            "Msvm_ShutdownComponent"]


def test_from_the_other_end(host: Bench) -> None:
    settings = f"Msvm_VirtualSystemSettingData.InstanceID='Microsoft:{GUID}'"
    assert names(associated(host, settings, "Msvm_SettingsDefineState")) == ["vm"]
    checkpoint = next(r for r in host.rows("Msvm_VirtualSystemSettingData") if r["ElementName"] == "c")
    path = f"Msvm_VirtualSystemSettingData.InstanceID='{checkpoint['InstanceID']}'"
    assert names(associated(host, path, "Msvm_SnapshotOfVirtualSystem")) == ["vm"]
    assert sorted(map(str, names(associated(host, path, "Msvm_ParentChildSettingData")))) == ["a", "vm"]
    component = (f'Msvm_VssComponent.CreationClassName="Msvm_VssComponent",DeviceID="{_vss(host)}",'
                 f'SystemCreationClassName="Msvm_ComputerSystem",SystemName="{GUID}"')
    assert names(associated(host, component, "Msvm_SystemDevice")) == ["vm"]


def _vss(host: Bench) -> str:
    device = next(r["DeviceID"] for r in host.rows("Msvm_VssComponent") if r["SystemName"] == GUID)
    return str(device).replace("\\", "\\\\")


def test_parts_of_settings(host: Bench) -> None:
    settings = f"Msvm_VirtualSystemSettingData.InstanceID='Microsoft:{GUID}'"
    parts = associated(host, settings, "Msvm_VirtualSystemSettingDataComponent")
    kinds = {i.class_name for i in parts}
    assert {"Msvm_StorageAllocationSettingData", "Msvm_ResourceAllocationSettingData", "Msvm_VssComponentSettingData",
            "Msvm_MemorySettingData", "Msvm_SyntheticEthernetPortSettingData"} <= kinds
    disks = associated(host, settings, "Msvm_VirtualSystemSettingDataComponent", "Msvm_StorageAllocationSettingData")
    assert len(disks) == 2
    assert all(str(d["InstanceID"]).startswith(f"Microsoft:{GUID}\\") for d in disks)
    back = str(disks[1]["InstanceID"]).replace("\\", "\\\\")
    path = f'Msvm_StorageAllocationSettingData.InstanceID="{back}"'
    assert names(associated(host, path, "Msvm_VirtualSystemSettingDataComponent")) == ["vm"]
    assert names(associated(host, settings, "Msvm_ElementSettingData", "Msvm_SecuritySettingData"), "TpmEnabled") == [False]


def test_following_gives_what_a_scan_gives(bench: MakeBench) -> None:
    """For every association: the rows found from each end are the rows that the enumeration has with that end."""
    host = bench(*scenarios.zoo("2022"))
    checked = 0
    for class_name, first in (("Msvm_SettingsDefineState", "ManagedElement"), ("Msvm_SnapshotOfVirtualSystem", "Antecedent"),
                              ("Msvm_SystemDevice", "GroupComponent"), ("Msvm_LastAppliedSnapshot", "Dependent"),
                              ("Msvm_VirtualSystemSettingDataComponent", "GroupComponent"), ("Msvm_AffectedJobElement", "AffectedElement")):
        rows = host.rows(class_name)
        provider = host.repository._store.provider(host.repository.schema.get(V2, class_name))
        for role in (first, next(p.name for p in host.repository.schema.get(V2, class_name).references if p.name != first)):
            by_end: dict[Any, list[Any]] = {}
            for row in rows:
                by_end.setdefault(row[role], []).append(row.values)
            for end, expected in by_end.items():
                found = provider.where({role: end}, ADMINISTRATOR)  # type: ignore[union-attr]
                assert [r.values for r in found] == expected
                checked += 1
    assert checked > 100


def test_an_unknown_or_invisible_start_finds_nothing(host: Bench) -> None:
    strange = MACHINE.replace("ABCD", "FFFF")
    with pytest.raises(CimError) as refusal:
        associated(host, strange, "Msvm_SettingsDefineState")
    assert refusal.value.kind == "not_found"
    with pytest.raises(CimError):
        host.query(f"ASSOCIATORS OF {{{MACHINE}}} WHERE AssocClass=Msvm_SettingsDefineState", NOBODY)
