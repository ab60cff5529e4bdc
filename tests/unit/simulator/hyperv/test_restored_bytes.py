# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restored machine has the disks that its source had at the checkpoint, byte for byte, read by the independent reader."""
from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from dissect.hypervisor.disk.vhdx import VHDX
from simulator.disks.guest import Guest
from simulator.hyperv.model import VhdFile
from simulator.hyperv.spec import DiskSpec
from unit.simulator.hyperv.checkpoint_bench import GUID, MakePatient
from unit.simulator.hyperv.export_bench import Exported, Given, checkpoint_path
from unit.simulator.hyperv.import_bench import Restorer

MIB = 1024 * 1024
DISKS = (DiskSpec(size=16 * MIB), DiskSpec(path="D:\\Data\\data.vhdx", kind="fixed", size=16 * MIB))


def digest(path: Path) -> str:
    """Of the whole virtual disk, its parents where their relative paths lead."""
    disk = VHDX(path)
    found = hashlib.sha256()
    for at in range(0, disk.size, MIB):
        disk.seek(at)
        found.update(disk.read(MIB))
    while disk is not None:
        disk.fh.close()
        disk = disk.parent
    return found.hexdigest()


def digests(vm: Exported, files: list[VhdFile]) -> list[str]:
    return [digest(vm.patient.real(file)) for file in files]


def leaves(vm: Exported, guid: str) -> list[VhdFile]:
    return [disk.leaf for disk in vm.role.machines[guid].disks if disk.leaf is not None]


@pytest.mark.parametrize("mode", ["one", "backup", "chain", "tree"])
def test_a_checkpoint(patient: MakePatient, mode: str) -> None:
    vm = Exported(patient(disks=DISKS))
    vm.role.knobs.backup_export = "chain" if mode == "chain" else "flat"
    guest = vm.guest()
    guest.write_some(40)
    vm.patient.checkpoint()
    guest.write_some(70)
    wanted = vm.patient.checkpoint(2 if mode in ("one", "tree") else 32768, **({} if mode in ("one", "tree") else {"ConsistencyLevel": 1}))
    source = digests(vm, list(vm.machine.checkpoints[wanted].files.values()))
    guest.write_some(50)
    options: dict[str, Given] = {"CopySnapshotConfiguration": {"one": 2, "tree": 0}.get(mode, 3)}
    if mode != "tree":
        options["SnapshotVirtualSystem"] = checkpoint_path(wanted)
    vm.done(**options)
    guest.write_some(50)
    host = Restorer(vm.host)
    name = wanted if mode == "one" else GUID
    guid = host.import_from(f"E:\\Exports\\Virtual Machines\\{name}.vmcx", "E:\\Exports\\Snapshots", fresh=True)
    machine = host.realise(guid)
    restored = list(list(machine.checkpoints.values())[-1].files.values()) if mode == "tree" else leaves(vm, guid)
    assert digests(vm, restored) == source
    assert host.power(guid, 2)["JobState"] == 7
    assert digests(vm, restored) == source


def test_a_machine_that_is_off_and_its_restored_guest_goes_on(patient: MakePatient) -> None:
    vm = Exported(patient(disks=DISKS, state="off"))
    guest = vm.guest()
    guest.write_some(30)
    guest.close()
    source = digests(vm, leaves(vm, GUID))
    vm.done()
    host = Restorer(vm.host)
    guid = host.import_from(f"E:\\Exports\\Virtual Machines\\{GUID}.vmcx", fresh=True)
    host.realise(guid)
    assert digests(vm, leaves(vm, guid)) == source
    with Guest([vm.patient.real(file) for file in leaves(vm, guid)]) as again:
        assert again.sequence == 30
        assert again.write_some(5) == 35
    assert digests(vm, leaves(vm, GUID)) == source  # the old machine's disks are its own
    assert vm.patient.proof().holds_until(30)


def test_another_identity_for_a_disk(patient: MakePatient) -> None:
    vm = Exported(patient(state="off", disks=DISKS[:1]))
    vm.done()
    path = "E:\\Exports\\Virtual Hard Disks\\web01.vhdx"
    fresh = "11111111-2222-4333-8444-555555555555"
    text = f'<INSTANCE CLASSNAME="Msvm_VirtualHardDiskSettingData"><PROPERTY NAME="Path" TYPE="string"><VALUE>{path}</VALUE></PROPERTY>' \
           f'<PROPERTY NAME="VirtualDiskId" TYPE="string"><VALUE>{fresh}</VALUE></PROPERTY></INSTANCE>'
    before = digest(vm.host.files.real_path(path))
    answer = vm.host.call("Msvm_ImageManagementService", "SetVirtualHardDiskSettingData", {"VirtualDiskSettingData": text})
    vm.patient.finished(answer)
    facts = vm.role.disks.facts(path)
    assert facts is not None
    assert (facts.disk_id, digest(vm.host.files.real_path(path))) == (fresh, before)
    wrong = text.replace(fresh, "none")
    refused = vm.host.call("Msvm_ImageManagementService", "SetVirtualHardDiskSettingData", {"VirtualDiskSettingData": wrong})
    assert refused["ReturnValue"] == 32773
