# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ready-made machines: everything the schema demands, on every release; the cost of a thousand."""
from __future__ import annotations

import pytest
from simulator.cim.schema import RELEASES
from simulator.hyperv import scenarios
from simulator.hyperv.spec import AuthorizationSpec, HyperVSettings, ReplicaServerSpec, VmSpec
from unit.simulator.hyperv.bench import ADMINISTRATOR, V2, Bench, MakeBench


def served(host: Bench) -> list[str]:
    return [n for n in host.repository.schema.classes(V2)
            if host.repository._store.provider(host.repository.schema.get(V2, n)) is not None]


@pytest.mark.parametrize("os_version", RELEASES)
def test_every_row_of_the_zoo_fits_the_schema_of_the_release(bench: MakeBench, os_version: str) -> None:
    settings = HyperVSettings(replica=ReplicaServerSpec(authorizations=(AuthorizationSpec(),)))
    host = bench(*scenarios.zoo(os_version), os_version=os_version, settings=settings)
    classes = served(host)
    assert len(classes) == (49 if os_version == "2012R2" else 55)
    empty = {"Msvm_StorageJob", "Msvm_AffectedStorageJobElement", "Msvm_ReplicaSystemDependency"}
    for class_name in classes:
        rows = host.rows(class_name)  # the repository holds every value against the schema
        assert bool(rows) == (class_name not in empty), class_name
        keys = [tuple(str(row[k]) for k in host.repository.schema.get(V2, class_name).keys) for row in rows]
        assert len(set(keys)) == len(keys), class_name


def test_the_zoo_holds_what_the_reference_names(bench: MakeBench) -> None:
    host = bench(*scenarios.zoo("2022"))
    machines = host.role.machines.values()
    names = [m.name for m in machines]
    assert names.count("twin") == 2
    assert set(scenarios.HOSTILE_NAMES) <= set(names)
    assert {m.state for m in machines} >= {"running", "off", "saved", "paused", "starting", "stopping", "saving", "critical"}
    assert {m.replication_mode for m in machines} == {0, 1, 2, 3}
    assert {c.kind for m in machines for c in m.checkpoints.values()} >= {
        "standard", "production", "recovery", "missing", "replica", "replica_application"}
    assert {d.medium for m in machines for d in m.disks} >= {"vhd", "passthrough", "dvd", "empty_dvd"}
    assert host.row("Msvm_VirtualSystemSettingData", ElementName="newline-notes")["Notes"] == [scenarios.NEWLINE_NOTES]
    assert len(host.role.planned) == 1


def test_older_releases_have_no_newer_machines() -> None:
    assert not {"vtpm", "shielded", "tracked", "automatic", "vhd-set"} & {m.name for m in scenarios.zoo("2012R2")}
    assert "automatic" not in {m.name for m in scenarios.zoo("2016")}
    assert [m.name for m in scenarios.zoo("2022", clustered=True) if m.clustered] == ["csv"]


def test_names_survive_wql(bench: MakeBench) -> None:
    host = bench(*(VmSpec(name=name) for name in scenarios.HOSTILE_NAMES))
    for name in scenarios.HOSTILE_NAMES:
        literal = name.replace("\\", "\\\\").replace("'", "\\'")
        assert [r["ElementName"] for r in host.query(f"SELECT * FROM Msvm_ComputerSystem WHERE ElementName='{literal}'")] == [name]


def test_hosts_look_the_same_at_every_start(bench: MakeBench) -> None:
    first, second = (bench(*scenarios.zoo("2019"), name="same", os_version="2019") for _unused in range(2))
    for class_name in ("Msvm_ComputerSystem", "Msvm_VirtualSystemSettingData", "Msvm_StorageAllocationSettingData", "Msvm_ConcreteJob"):
        assert [r.values for r in first.rows(class_name)] == [r.values for r in second.rows(class_name)]


def test_a_thousand_machines_make_no_file_and_are_found_without_a_scan(bench: MakeBench) -> None:
    host = bench(*scenarios.many(1000))
    vm = list(host.role.machines.values())[777]
    built = _count_builds(host)
    assert host.repository.get(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": vm.id},
                               ADMINISTRATOR)["ElementName"] == "vm0777"
    path = f"Msvm_VirtualSystemSettingData.InstanceID='Microsoft:{vm.id}'"
    disks = host.query(f"ASSOCIATORS OF {{{path}}} WHERE AssocClass=Msvm_VirtualSystemSettingDataComponent "
                       "ResultClass=Msvm_StorageAllocationSettingData")
    assert [d["HostResource"] for d in disks] == [["D:\\VMs\\vm0777\\vm0777.vhdx"], ["D:\\VMs\\vm0777\\vm0777-data.vhdx"]]
    assert sum(built) < 20
    assert len(host.rows("Msvm_ComputerSystem")) == 1001
    assert not list(host.files.root.rglob("*.vhdx"))


def _count_builds(host: Bench) -> list[int]:
    """Counts the rows that the tables of machines, settings and disks make from now on."""
    built: list[int] = []
    for class_name in ("Msvm_ComputerSystem", "Msvm_VirtualSystemSettingData", "Msvm_StorageAllocationSettingData"):
        provider = host.repository._store.provider(host.repository.schema.get(V2, class_name))
        assert provider is not None
        original = provider.build  # type: ignore[attr-defined]
        provider.build = lambda item, original=original: (built.append(1), original(item))[1]  # type: ignore[attr-defined]
    return built
