# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports of checkpoints: one, for backup, and the whole tree; the lock that one kind leaves; disks that are left out."""
from __future__ import annotations

import pytest
from simulator.hyperv.spec import DiskSpec
from unit.simulator.hyperv.checkpoint_bench import GUID, MakePatient
from unit.simulator.hyperv.export_bench import Exported, checkpoint_path
from unit.simulator.hyperv.import_bench import DISK, Restorer, real_ref

MIB = 1024 * 1024
TREE = "E:\\Exports\\Virtual Hard Disks"


def one(guid: str) -> dict[str, str | int]:
    """The options for one checkpoint."""
    return {"CopySnapshotConfiguration": 2, "SnapshotVirtualSystem": checkpoint_path(guid)}


def backup(guid: str) -> dict[str, str | int]:
    """The options for a recovery checkpoint."""
    return {"CopySnapshotConfiguration": 3, "SnapshotVirtualSystem": checkpoint_path(guid)}


def test_one_checkpoint_becomes_new_disks(patient: MakePatient) -> None:
    vm = Exported(patient(disks=(DiskSpec(), DiskSpec(path="D:\\Data\\data.vhdx", kind="fixed", size=16 * MIB))))
    guest = vm.guest()
    guest.write_some(10)
    vm.patient.checkpoint()
    guest.write_some(11)
    second = vm.patient.checkpoint()
    guest.write_some(10)
    answer = vm.export(CopyVmStorage=False, **one(second))  # disks come along whatever is asked for
    assert vm.patient.status() == [2, 32773]
    guest.write_some(10)
    vm.patient.finished(answer)
    trio = [f"Virtual Machines\\{second}.{kind}" for kind in ("vmcx", "vmgs", "vmrs")]
    assert vm.files() == ["Virtual Hard Disks\\data.vhdx", "Virtual Hard Disks\\web01.vhdx", *trio]
    proofs = [vm.proof("web01.vhdx"), vm.proof("data.vhdx")]
    assert [(proof.holds_until(21), proof.quiesced) for proof in proofs] == [(True, True)] * 2
    facts = [vm.role.disks.facts(f"{TREE}\\{name}.vhdx") for name in ("web01", "data")]
    assert [(one.kind, one.virtual_size, one.parent_path) for one in facts if one] == [(3, 128 * MIB, None), (2, 16 * MIB, None)]
    source = vm.machine.disks[0].base
    assert [source.disk_id] == [one.disk_id for one in facts[:1] if one and source]  # type: ignore[union-attr]
    vm.patient.destroy(second)
    vm.patient.merged()
    assert vm.patient.depth() == 2


@pytest.mark.parametrize("called", ["checkpoint", "machine", "new"])
def test_what_the_export_of_a_checkpoint_is_called(patient: MakePatient, called: str) -> None:
    vm = Exported(patient())
    vm.role.knobs.exported_checkpoint_id = called  # type: ignore[assignment]
    guid = vm.patient.checkpoint()
    vm.done(CreateVmExportSubdirectory=True, **one(guid))
    [ident] = [name[:-5].rpartition("\\")[2] for name in vm.files() if name.endswith(".vmcx")]
    assert [ident == guid, ident == GUID] == [called == "checkpoint", called == "machine"]
    path = f"E:\\Exports\\web01\\Virtual Machines\\{ident}.vmcx"
    [row] = Restorer(vm.host).call("GetDefinitionFileSummaryInformation", DefinitionFiles=[path])["SummaryInformation"]  # type: ignore[misc]
    assert (row["Name"], row["ElementName"]) == (ident, "web01")


def test_what_merged_disks_are_called(patient: MakePatient) -> None:
    vm = Exported(patient())
    vm.role.knobs.merged_disk_names, vm.role.knobs.merged_disk_ids = "leaf", "new"
    vm.guest().write_some(5)
    vm.patient.checkpoint()
    second = vm.patient.checkpoint()
    vm.done(**one(second))
    [disk] = [name for name in vm.files() if name.endswith("vhdx")]
    frozen = vm.machine.checkpoints[second].files[0]
    assert disk == f"Virtual Hard Disks\\{frozen.path.rpartition(chr(92))[2].replace('.avhdx', '.vhdx')}"
    facts = vm.role.disks.facts(f"E:\\Exports\\{disk}")
    assert facts is not None
    assert facts.disk_id != frozen.disk_id
    host = Restorer(vm.host)
    host.realise(host.import_from(f"E:\\Exports\\Virtual Machines\\{second}.vmcx", fresh=True))


def test_a_standard_checkpoint_brings_its_memory(patient: MakePatient) -> None:
    vm = Exported(patient(policy="standard", memory_mb=16))
    guid = vm.patient.checkpoint()
    vm.done(**one(guid))
    assert vm.host.files.real_path(f"E:\\Exports\\Virtual Machines\\{guid}.vmrs").stat().st_size == 16 * MIB
    host = Restorer(vm.host)
    machine = host.realise(host.import_from(f"E:\\Exports\\Virtual Machines\\{guid}.vmcx", fresh=True))
    assert (machine.state, machine.checkpoints) == ("saved", {})


@pytest.mark.parametrize("form", ["flat", "chain"])
def test_for_backup(patient: MakePatient, form: str) -> None:
    vm = Exported(patient())
    vm.role.knobs.backup_export = form  # type: ignore[assignment]
    guest = vm.guest()
    guest.write_some(5)
    vm.patient.checkpoint()
    guest.write_some(5)
    recovery = vm.patient.checkpoint(32768, ConsistencyLevel=1)
    guest.write_some(5)
    vm.done(**backup(recovery))
    disks = [name for name in vm.files() if name.endswith("vhdx")]
    assert len(disks) == (1 if form == "flat" else 2)
    leaf = next(name for name in disks if form == "flat" or "_" in name).rpartition("\\")[2]
    assert vm.proof(leaf, parents=[] if form == "flat" else ["web01.vhdx"]).holds_until(10)
    assert vm.host.files.exists(f"E:\\Exports\\Virtual Machines\\{GUID}.vmcx")  # the machine's own identity
    host = Restorer(vm.host)
    host.power(GUID, 3)
    host.destroy(real_ref(GUID))
    assert host.realise(host.import_from(f"E:\\Exports\\Virtual Machines\\{GUID}.vmcx")).id == GUID


@pytest.mark.parametrize(("locks", "storage", "locked"), [
    ("without_disks", False, True), ("without_disks", True, False), ("always", True, True), ("never", False, False)])
def test_the_lock_that_an_export_leaves(patient: MakePatient, locks: str, storage: bool, locked: bool) -> None:
    vm = Exported(patient())
    vm.role.knobs.export_locks = locks  # type: ignore[assignment]
    recovery = vm.patient.checkpoint(32768, ConsistencyLevel=2)
    vm.done(CopyVmStorage=storage, **backup(recovery))
    vm.patient.destroy(recovery)
    vm.patient.merged()
    vm.host.clock.advance(7200)
    assert vm.patient.depth() == (2 if locked else 1)


@pytest.mark.parametrize("remedy", ["machine", "service"])
def test_what_opens_the_lock(patient: MakePatient, remedy: str) -> None:
    vm = Exported(patient())
    recovery = vm.patient.checkpoint(32768, ConsistencyLevel=2)
    vm.done(CopyVmStorage=False, **backup(recovery))
    vm.patient.destroy(recovery)
    vm.host.clock.advance(3600)
    if remedy == "machine":
        vm.patient.power(3)
    else:
        vm.role.restart_vmms()
    vm.patient.merged()
    assert vm.patient.depth() == 1


def test_the_whole_tree(patient: MakePatient) -> None:
    vm = Exported(patient())
    guest = vm.guest()
    guest.write_some(5)
    first = vm.patient.checkpoint()
    guest.write_some(5)
    second = vm.patient.checkpoint()
    guest.write_some(5)
    leaves = [vm.patient.leaf_of(guid)[0].rpartition("\\")[2] for guid in (GUID, second, first)]
    vm.done(CopySnapshotConfiguration=0)
    assert [name for name in vm.files() if name.startswith("Snapshots")] == sorted(
        f"Snapshots\\{guid}.{kind}" for guid in (first, second) for kind in ("vmcx", "vmgs", "vmrs"))
    assert [name for name in vm.files() if name.endswith("vhdx")] == sorted(f"Virtual Hard Disks\\{leaf}" for leaf in leaves)
    assert [vm.proof(leaves[n], parents=leaves[n + 1:]).holds_until(last) for n, last in ((0, 15), (1, 10), (2, 5))] == [True] * 3


@pytest.mark.parametrize("stubs", [True, False])
def test_disks_that_are_left_out(patient: MakePatient, stubs: bool) -> None:
    vm = Exported(patient(disks=(DiskSpec(), DiskSpec(path="D:\\Data\\data.vhdx"))))
    host = Restorer(vm.host)
    data = next(row for row in host.parts(GUID, DISK) if row["HostResource"] == ["D:\\Data\\data.vhdx"])
    wanted = [str(data["InstanceID"])]
    assert vm.refused(CopySnapshotConfiguration=0, ExcludedVirtualHardDisks=wanted) == 32773
    vm.done(ExcludedVirtualHardDisks=wanted, DisableDifferentialOfIgnoredStorage=not stubs)
    facts = vm.role.disks.facts(f"{TREE}\\data.vhdx")
    assert (facts and (facts.kind, facts.parent_path)) == ((4, "D:\\Data\\data.vhdx") if stubs else None)
    guid = host.import_from(f"E:\\Exports\\Virtual Machines\\{GUID}.vmcx", fresh=True)
    assert [row["HostResource"] for row in host.parts(guid, DISK)] == [[f"{TREE}\\web01.vhdx"], [f"{TREE}\\data.vhdx"]]
    assert host.problems(guid) == ([] if stubs else ["40010"])
