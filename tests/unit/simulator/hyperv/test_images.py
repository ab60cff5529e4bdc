# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image service, and real files behind the descriptions."""
from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from simulator.cim.model import Instance, Ref
from simulator.disks.vhdx import Vhdx
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, HyperVSettings, VmSpec
from simulator.windows.errors import Win32Error
from unit.simulator.hyperv.bench import ADMINISTRATOR, NOBODY, V2, Bench, MakeBench, embedded

MIB = 1024 * 1024
DISK_ID = "0F3C9D52-55B1-4A6D-9C22-90E7B8A0D001"
SERVICE = "Msvm_ImageManagementService"


def facts(host: Bench, path: str) -> dict[str, object]:
    answer = host.call(SERVICE, "GetVirtualHardDiskSettingData", {"Path": path})
    assert answer["ReturnValue"] == 0
    return dict(embedded(answer["SettingData"]))


def size(host: Bench, path: str) -> int:
    answer = host.call(SERVICE, "GetVirtualHardDiskState", {"Path": path})
    assert answer["ReturnValue"] == 0
    return int(str(embedded(answer["State"])["FileSize"]))


def validate(host: Bench, path: str) -> Instance:
    answer = host.call(SERVICE, "ValidateVirtualHardDisk", {"Path": path})
    assert answer["ReturnValue"] == 4096
    job = answer["Job"]
    assert isinstance(job, Ref)
    assert job.class_name == "Msvm_StorageJob"
    host.clock.advance(5)
    return host.repository.get(V2, job.class_name, dict(job.keys), ADMINISTRATOR)


def outcome(row: Instance) -> tuple[object, object, object]:
    return row["JobState"], row["ErrorCode"], row["JobCompletionStatusCode"]


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_a_description_tells_what_the_file_will_tell(bench: MakeBench, kind: str) -> None:
    disk = DiskSpec(path="D:\\a.vhdx", size=16 * MIB, disk_id=DISK_ID, kind=kind)  # type: ignore[arg-type]
    host = bench(VmSpec(disks=(disk,)))
    before, length = facts(host, "d:\\A.VHDX"), size(host, "D:\\a.vhdx")
    assert not list(host.files.root.rglob("*.vhdx"))
    real = host.role.disk_path(host.role.find("vm"))
    assert (facts(host, "D:\\a.vhdx"), size(host, "D:\\a.vhdx")) == (before, length)
    assert length == real.stat().st_size
    wanted = {"Path": "D:\\a.vhdx", "Type": {"fixed": "2", "dynamic": "3"}[kind], "Format": "3", "MaxInternalSize": str(16 * MIB),
              "VirtualDiskId": DISK_ID, "ParentPath": "", "LogicalSectorSize": "512", "PhysicalSectorSize": "4096"}
    assert {k: before[k] for k in wanted} == wanted


def test_a_chain_told_file_by_file(bench: MakeBench) -> None:
    host = bench(VmSpec(disks=(DiskSpec(path="D:\\VMs\\a.vhdx", disk_id=DISK_ID, content=b"hello"),), checkpoints=(CheckpointSpec("c"),)))
    leaf = host.role.find("vm").disks[0].leaf
    assert leaf is not None
    told = facts(host, leaf.path)
    assert (told["Type"], told["ParentPath"], told["VirtualDiskId"]) == ("4", "D:\\VMs\\a.vhdx", DISK_ID)
    assert facts(host, "D:\\VMs\\a.vhdx")["Type"] == "3"
    with Vhdx.open(host.role.disk_path(host.role.find("vm")), host.role.disks.find_parent, writable=False) as disk:
        assert disk.read(0, 5) == b"hello"
        assert str(told["ParentIdentifier"]).lower() == str(disk.info().parent_id)


def test_older_formats(bench: MakeBench) -> None:
    host = bench(VmSpec(generation=1, disks=(DiskSpec(path="D:\\a.vhd", kind="fixed", size=8 * MIB, disk_id=DISK_ID),
                                             DiskSpec(path="D:\\s.vhds", shared=True))))
    before = facts(host, "D:\\a.vhd")
    assert (before["Type"], before["Format"], before["MaxInternalSize"], size(host, "D:\\a.vhd")) == ("2", "2", str(8 * MIB), 8 * MIB + 512)
    assert facts(host, "D:\\s.vhds")["Format"] == "4"
    host.role.disks.materialise_all()
    assert facts(host, "D:\\a.vhd") == before
    copied = host.files.real_path("D:\\a.vhd")
    shutil.copy(copied, copied.with_name("copy.vhd"))
    assert facts(host, "D:\\copy.vhd")["VirtualDiskId"] == DISK_ID


def test_by_release(bench: MakeBench) -> None:
    old = bench(VmSpec(disks=(DiskSpec(path="D:\\a.vhdx"),)), os_version="2012R2")
    assert not {"ParentIdentifier", "IsPmemCompatible"} & set(facts(old, "D:\\a.vhdx"))
    new = bench(VmSpec(disks=(DiskSpec(path="D:\\a.vhdx"),)), name="new", os_version="2019")
    assert {"ParentIdentifier", "IsPmemCompatible"} <= set(facts(new, "D:\\a.vhdx"))


@pytest.mark.parametrize(("path", "answer"), [
    ("D:\\none.vhdx", 32779), ("Q:\\none.vhdx", 32779), ("D:\\nowhere\\none.vhdx", 32779), ("D:\\notes.txt", 32773), ("", 32773),
    ("D:\\gone.vhdx", 32779), ("D:\\broken.vhdx", 32768), ("D:\\broken.vhd", 32768)])
def test_refusals(bench: MakeBench, path: str, answer: int) -> None:
    host = bench(VmSpec(state="off", disks=(DiskSpec(path="D:\\gone.vhdx", exists=False),)))
    for name in ("broken.vhdx", "broken.vhd"):
        host.files.write_file(f"D:\\{name}", b"x" * 4096)
    for method in ("GetVirtualHardDiskSettingData", "GetVirtualHardDiskState"):
        assert host.call(SERVICE, method, {"Path": path})["ReturnValue"] == answer
    assert host.call(SERVICE, "GetVirtualHardDiskSettingData", {"Path": path}, caller=NOBODY)["ReturnValue"] == 32769


def test_a_disk_on_a_server_outside_the_simulation_is_told_from_its_description(bench: MakeBench) -> None:
    host = bench(VmSpec(folder="\\\\fs1.example.test\\vms\\a", checkpoints=(CheckpointSpec("c"),)))
    paths = [f.path for f in host.role.find("vm").vhd_files()]
    assert [facts(host, path)["Type"] for path in paths] == ["4", "3"]
    assert facts(host, paths[0])["ParentPath"] == paths[1]


def test_a_valid_chain(bench: MakeBench) -> None:
    host = bench(VmSpec(checkpoints=(CheckpointSpec("a"), CheckpointSpec("b", parent="a"))))
    row = validate(host, host.role.find("vm").vhd_files()[0].path)
    assert (*outcome(row), row["JobType"], row["PercentComplete"]) == (7, 0, 0, 9, 100)
    assert host.rows("Msvm_ConcreteJob") == []


def test_a_missing_parent_is_named(bench: MakeBench) -> None:
    host = bench(VmSpec(checkpoints=(CheckpointSpec("a"),)))
    leaf, base = host.role.find("vm").vhd_files()
    host.role.disks.materialise_all()
    host.files.real_path(base.path).unlink()
    row = validate(host, leaf.path)
    assert outcome(row) == (10, 32768, 0xC03A000D)
    assert (row["Child"], row["Parent"]) == (leaf.path, base.path)


def test_a_changed_parent_is_noticed(bench: MakeBench) -> None:
    host = bench(VmSpec(checkpoints=(CheckpointSpec("a"),)))
    leaf, base = host.role.find("vm").vhd_files()
    host.role.disks.materialise_all()
    with Vhdx.open(host.files.real_path(base.path)) as disk:
        disk.write(0, b"written behind the back of its child")
    row = validate(host, leaf.path)
    assert outcome(row) == (10, 32768, 0xC03A000E)
    assert (row["Child"], row["Parent"]) == (leaf.path, base.path)


def test_validation_of_what_is_not_there_and_of_what_is_in_use(bench: MakeBench) -> None:
    host = bench(VmSpec(name="on", disks=(DiskSpec(path="D:\\on.vhdx"),)),
                 VmSpec(name="off", state="off", disks=(DiskSpec(path="D:\\off.vhdx"),)),
                 settings=HyperVSettings(shared_disks_locked=True))
    assert outcome(validate(host, "D:\\none.vhdx")) == (10, 32779, 0x80070002)
    assert outcome(validate(host, "Q:\\none.vhdx")) == (10, 32779, 0x80070003)
    assert outcome(validate(host, "D:\\on.vhdx")) == (10, 32774, 0x80070020)
    assert outcome(validate(host, "D:\\off.vhdx")) == (7, 0, 0)


def test_files_exist_when_somebody_looks_at_the_volume(bench: MakeBench) -> None:
    host = bench(VmSpec(name="a", folder="D:\\VMs\\a"), VmSpec(name="b", folder="E:\\VMs\\b"))
    folder = host.files.resolve("D:\\VMs\\a")
    assert sorted(p.name for p in folder.real.iterdir()) == ["Virtual Hard Disks", "Virtual Machines"]
    vm_id = host.role.find("a").id
    assert sorted(p.name for p in (folder.real / "Virtual Machines").iterdir()) == [f"{vm_id}.{e}" for e in ("vmcx", "vmgs", "vmrs")]
    e_volume = next(v for v in host.files.volumes if v.spec.letter == "E:")
    assert list(e_volume.root.iterdir()) == []
    assert host.files.exists("E:\\VMs\\b\\Virtual Hard Disks\\b.vhdx") is True


def test_making_files_changes_neither_the_free_space_nor_the_host(bench: MakeBench) -> None:
    host = bench(VmSpec(folder="D:\\VMs\\a"))
    volume = next(v for v in host.files.volumes if v.spec.letter == "D:")
    before = volume.free_bytes
    place = host.files.resolve("D:\\VMs\\a\\Virtual Hard Disks\\vm.vhdx")
    assert place.exists
    assert (volume.free_bytes, host.changes) == (before, [])
    assert host.files.entry(place).modified == host.role.started


def test_a_running_machine_has_its_leaf_open(bench: MakeBench) -> None:
    host = bench(VmSpec(disks=(DiskSpec(path="D:\\a.vhdx"),), vm_id="0A1B2C3D-0000-4000-8000-00000000ABCD"))

    def read() -> str:
        try:
            host.files.read_file("D:\\a.vhdx")
        except Win32Error as error:
            return str(error.code)
        return "read"

    assert read() == "32"
    for requested, wait, expected in ((3, 5, "read"), (2, 5, "32"), (6, 20, "read")):
        host.call("Msvm_ComputerSystem", "RequestStateChange", {"RequestedState": requested},
                  selectors={"CreationClassName": "Msvm_ComputerSystem", "Name": host.role.find("vm").id})
        host.clock.advance(wait)
        assert read() == expected


def test_a_machine_added_later_has_files_too(bench: MakeBench) -> None:
    host = bench(VmSpec(name="a", folder="D:\\VMs\\a"))
    assert host.files.exists("D:\\VMs\\a")
    host.role.add_vm(VmSpec(name="b", folder="D:\\VMs\\b"))
    assert host.files.exists("D:\\VMs\\b\\Virtual Hard Disks\\b.vhdx")


def test_dissect_reads_what_the_store_makes(bench: MakeBench, tmp_path: Path) -> None:
    from dissect.hypervisor import vhd, vhdx

    host = bench(VmSpec(disks=(DiskSpec(path="D:\\a.vhdx", content=b"stamp"), DiskSpec(path="D:\\b.vhd", kind="fixed", size=4 * MIB))))
    machine = host.role.find("vm")
    first = vhdx.VHDX(host.role.disk_path(machine))
    assert (first.size, first.read(5)) == (128 * MIB, b"stamp")
    with host.role.disk_path(machine, 1).open("rb") as source:
        assert vhd.VHD(source).size == 4 * MIB
