# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from simulator.cim.model import CimError, Instance, Ref
from unit.simulator.cim.helpers import V2, Host, IndexedTable, setting_ref, vm_ref, vm_row

A1 = "{Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='a1'}"
A1_SETTINGS = '{Msvm_VirtualSystemSettingData.InstanceID="Microsoft:A1"}'


def ids(host: Host, query: str) -> list[object]:
    return [instance["InstanceID"] or instance["Name"] for instance in host.repository.query(V2, query, host.admin).instances]


@pytest.mark.parametrize(("query", "expected"), [
    (f"ASSOCIATORS OF {A1}", ["Microsoft:A1"]),
    (f"ASSOCIATORS OF {A1} WHERE AssocClass=Msvm_SettingsDefineState ResultClass=Msvm_VirtualSystemSettingData", ["Microsoft:A1"]),
    (f"ASSOCIATORS OF {A1} WHERE AssocClass = cim_settingsdefinestate ResultClass = cim_settingdata", ["Microsoft:A1"]),  # both polymorphic
    (f"ASSOCIATORS OF {A1} WHERE Role=ManagedElement ResultRole=SettingData", ["Microsoft:A1"]),
    (f"ASSOCIATORS OF {A1} WHERE Role=SettingData", []),
    (f"ASSOCIATORS OF {A1} WHERE ResultRole=ManagedElement", []),
    (f"ASSOCIATORS OF {A1} WHERE ResultClass=Msvm_ProcessorSettingData", []),
    (f"ASSOCIATORS OF {A1} WHERE AssocClass=Msvm_SnapshotOfVirtualSystem", []),
    (f"ASSOCIATORS OF {A1_SETTINGS} WHERE AssocClass=Msvm_SettingsDefineState", ["A1"]),  # the other way round
    (f"ASSOCIATORS OF {A1_SETTINGS} WHERE AssocClass=Msvm_VirtualSystemSettingDataComponent",
     ["Microsoft:A1\\p", "Microsoft:A1\\0", "Microsoft:A1\\1"]),  # without the one that dangles
    (f"ASSOCIATORS OF {A1_SETTINGS} WHERE AssocClass=Msvm_VirtualSystemSettingDataComponent ResultClass=CIM_StorageAllocationSettingData",
     ["Microsoft:A1\\0", "Microsoft:A1\\1"]),
])
def test_associators(vms: Host, query: str, expected: list[str]) -> None:
    assert ids(vms, query) == expected


def test_references(vms: Host) -> None:
    def links(query: str) -> list[str]:
        return [instance.class_name for instance in vms.repository.query(V2, query, vms.admin).instances]

    assert links(f"REFERENCES OF {A1_SETTINGS} WHERE ResultClass=CIM_SettingsDefineState") == ["Msvm_SettingsDefineState"]
    assert links(f"REFERENCES OF {A1_SETTINGS} WHERE Role=GroupComponent") == ["Msvm_VirtualSystemSettingDataComponent"] * 4
    assert links(f"REFERENCES OF {A1_SETTINGS} WHERE Role=PartComponent") == []
    assert sorted(set(links(f"REFERENCES OF {A1_SETTINGS}"))) == ["Msvm_SettingsDefineState", "Msvm_VirtualSystemSettingDataComponent"]


def test_association_filters_are_the_same_questions(vms: Host) -> None:
    found = vms.repository.associated(V2, vm_ref("B2"), vms.admin, association="Msvm_SnapshotOfVirtualSystem", role="Antecedent",
                                      result="Msvm_VirtualSystemSettingData", result_role="Dependent")
    assert [instance["InstanceID"] for instance in found] == ["Microsoft:S4"]
    links = vms.repository.association_instances(V2, vm_ref("B2"), vms.admin, result="Msvm_SnapshotOfVirtualSystem", role="Antecedent")
    assert [instance["Dependent"] for instance in links] == [setting_ref("Microsoft:S4")]


@pytest.mark.parametrize(("path", "kind"), [
    ("Msvm_ComputerSystem.Name='A1'", "invalid_query"),  # a path needs all keys
    ("Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='A1',ElementName='web'", "invalid_query"),
    ("Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='Z9'", "not_found"),
    ("Msvm_Nothing.Name='A1'", "invalid_class"),
])
def test_source_that_does_not_exist(vms: Host, path: str, kind: str) -> None:
    with pytest.raises(CimError) as refusal:
        vms.repository.query(V2, f"ASSOCIATORS OF {{{path}}}", vms.admin)
    assert refusal.value.kind == kind


@pytest.mark.parametrize("clause", ["AssocClass=Msvm_Nothing", "ResultClass=Msvm_Nothing"])
def test_unknown_classes_in_clauses(vms: Host, clause: str) -> None:
    with pytest.raises(CimError) as refusal:
        vms.repository.query(V2, f"ASSOCIATORS OF {A1} WHERE {clause}", vms.admin)
    assert refusal.value.kind == "invalid_class"


def test_each_result_comes_once(vms: Host) -> None:
    job = Ref(V2, "Msvm_ConcreteJob", {"InstanceID": "J"})
    vms.table("Msvm_AffectedJobElement", {"AffectedElement": vm_ref("C3"), "AffectingElement": job, "ElementEffects": [0]},
              {"AffectedElement": vm_ref("C3"), "AffectingElement": job, "ElementEffects": [5]})
    vms.table("Msvm_ConcreteJob", {"InstanceID": "J"})
    assert ids(vms, "ASSOCIATORS OF {Msvm_ConcreteJob.InstanceID='J'}") == ["C3"]


def test_one_machine_among_a_thousand_is_not_found_by_reading_all() -> None:
    host = Host()
    names = [f"G{number}" for number in range(1000)]
    machines = IndexedTable([Instance(V2, "Msvm_ComputerSystem", vm_row(name, name)) for name in names])
    settings = IndexedTable([Instance(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{name}"}) for name in names])
    links = IndexedTable([
        Instance(V2, "Msvm_SettingsDefineState", {"ManagedElement": vm_ref(name), "SettingData": setting_ref(f"Microsoft:{name}")})
        for name in names])
    tables = {"Msvm_ComputerSystem": machines, "Msvm_VirtualSystemSettingData": settings, "Msvm_SettingsDefineState": links}
    for class_name, table in tables.items():
        host.repository.register(V2, class_name, table)
    assert ids(host, f"ASSOCIATORS OF {A1.replace('a1', 'G500')} WHERE AssocClass=Msvm_SettingsDefineState") == ["Microsoft:G500"]
    assert (machines.read, settings.read, links.read) == (0, 0, 0)
    assert links.looked_up == [{"ManagedElement": vm_ref("G500")}, {"SettingData": vm_ref("G500")}]


def test_targets_without_a_fast_path_are_read_once(vms: Host) -> None:
    names = [f"Microsoft:A1\\n{number}" for number in range(3)]
    adapter = "Msvm_SyntheticEthernetPortSettingData"
    adapters = vms.table(adapter, *({"InstanceID": name} for name in names))
    vms.table("Msvm_ConcreteComponent", *({"GroupComponent": vm_ref("A1"), "PartComponent": setting_ref(name, adapter)} for name in names))
    assert ids(vms, f"ASSOCIATORS OF {A1} WHERE AssocClass=Msvm_ConcreteComponent") == names
    assert adapters.read == 3
