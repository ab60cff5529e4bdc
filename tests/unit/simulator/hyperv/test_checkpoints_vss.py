# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints beside the rest of a whole host: shadow copies of chains and of merges under way, the Hyper-V writer, restarts."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from simulator.cim.model import CimValue, Ref
from simulator.disks.proof import Proof, inspect
from simulator.host import SimHost
from simulator.hyperv.spec import MIB, DiskSpec, VmSpec
from unit.simulator.hyperv.bench import ADMINISTRATOR, V2
from unit.simulator.hyperv.checkpoint_bench import GUID, SERVICE, VM, settings_ref
from unit.simulator.windows.task_helpers import CALLER, make_host

WEB = VmSpec("web", vm_id=GUID, folder="D:\\VMs\\web", memory_mb=64, disks=(DiskSpec("D:\\VMs\\web\\web.vhdx", size=32 * MIB),))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimHost]:
    """A host whose one guest writes ten times a second."""
    made = make_host(tmp_path, vms=(WEB,), guest_writes={"web": 10.0})
    yield made
    made.close()


def invoke(host: SimHost, method: str, **parameters: CimValue) -> CimValue:
    """A method of the snapshot service; its job is over when this returns."""
    outs = {p.name: v for p, v in host.repository.invoke(V2, SERVICE, {"CreationClassName": SERVICE}, method, parameters, ADMINISTRATOR)}
    host.clock.advance(10)
    return outs["ReturnValue"]


def create(host: SimHost) -> str:
    assert invoke(host, "CreateSnapshot", AffectedSystem=VM, SnapshotType=2) == 4096
    return list(host.hyperv.machines[GUID].checkpoints)[-1]


def shadow_proof(host: SimHost) -> tuple[int, Proof]:
    """A new shadow copy of D:; the depth of the chain in it and what it proves."""
    code, shadow_id = host.shadows.create("D:\\", "ClientAccessible")
    assert code == 0
    assert shadow_id is not None
    copy = host.shadows.find(shadow_id)
    assert copy is not None
    leaf = host.hyperv.machines[GUID].disks[0].leaf
    assert leaf is not None
    live = [host.files.resolve(file.path) for file in leaf.chain()]
    frozen = [copy.frozen.root / place.real.relative_to(place.volume.root) for place in live]
    return len(frozen), inspect(frozen[0], frozen[1:])


def test_shadow_copies_of_a_chain_and_of_a_merge_at_every_stage(host: SimHost) -> None:
    checkpoint = create(host)
    host.clock.advance(20)
    create(host)
    host.clock.advance(20)
    guest = host.guests[GUID]
    depth, proof = shadow_proof(host)
    assert (depth, proof.consistent, proof.last) == (3, True, guest.sequence)
    assert invoke(host, "DestroySnapshot", AffectedSnapshot=settings_ref(checkpoint)) == 4096
    depths = []
    for _unused in range(8):
        depth, proof = shadow_proof(host)
        assert proof.consistent, proof.summary()
        assert proof.last == guest.sequence
        depths.append(depth)
        host.clock.advance(2)
    assert depths == sorted(depths, reverse=True)
    assert {2, 3} == set(depths)


def test_the_writer_quiesces_a_machine_with_checkpoints_and_keeps_merges_away(host: SimHost) -> None:
    checkpoint = create(host)
    host.files.write_file("C:\\script.txt", "\r\n".join((
        "set context persistent", "set metadata C:\\meta.cab", "begin backup", "add volume D: alias V", "create")).encode())
    process = host.processes.start(CALLER, "C:\\Windows\\System32\\diskshadow.exe /s C:\\script.txt", {}, "C:\\", job="shell")
    while process.exit_code is None and host.clock.jump_to_next():
        pass
    assert process.exit_code == 0, process.take_output()
    assert host.hyperv.machines[GUID].busy == "backup"
    assert invoke(host, "CreateSnapshot", AffectedSystem=VM, SnapshotType=2) == 32775
    host.hyperv.foreign_removal(GUID, host.hyperv.machines[GUID].checkpoints[checkpoint])
    host.clock.advance(120)
    assert [job for job in host.hyperv.jobs.all() if job.job_type == 50] == []
    host.clock.advance(900)  # nobody says that the backup is complete, and the machine is released late
    assert len(host.hyperv.machines[GUID].disks[0].leaf.chain()) == 1  # type: ignore[union-attr]
    copy = host.shadows.copies[-1]
    frozen = [*(copy.frozen.root / "VMs" / "web").glob("*.avhdx"), copy.frozen.root / "VMs" / "web" / "web.vhdx"]
    proof = inspect(frozen[0], frozen[1:])
    assert (len(frozen), proof.consistent, proof.quiesced) == (2, True, True)


def test_a_restart_of_the_host_in_a_merge(host: SimHost) -> None:
    checkpoint = create(host)
    create(host)
    assert invoke(host, "DestroySnapshot", AffectedSnapshot=settings_ref(checkpoint)) == 4096
    machine = host.hyperv.machines[GUID]
    assert machine.busy == "merging"
    host.restart()
    assert host.hyperv.jobs.all() == []
    assert host.repository.enumerate(V2, "Msvm_ConcreteJob", ADMINISTRATOR) == []
    host.clock.advance(60)
    assert len(machine.disks[0].leaf.chain()) == 2  # type: ignore[union-attr]
    assert host.bugs == []


def test_a_turned_off_machine_is_reverted_and_its_guest_writes_on(host: SimHost) -> None:
    host.clock.advance(5)
    checkpoint = create(host)
    kept = host.hyperv.machines[GUID].checkpoints[checkpoint].files[0]
    guest = host.guests[GUID]
    host.clock.advance(30)
    far = guest.sequence
    keys = {"CreationClassName": "Msvm_ComputerSystem", "Name": GUID}
    for state in (3, None, 2):
        if state is None:
            assert invoke(host, "ApplySnapshot", Snapshot=settings_ref(checkpoint)) == 4096
        else:
            host.repository.invoke(V2, "Msvm_ComputerSystem", keys, "RequestStateChange", {"RequestedState": state}, ADMINISTRATOR)
            host.clock.advance(4)
    last = inspect(host.files.real_path(kept.path)).last
    assert last < guest.sequence < far
    assert [inspect(host.files.real_path(f.path)).consistent for f in (host.hyperv.machines[GUID].disks[0].leaf,) if f] == [True]


def test_a_checkpoint_can_be_found_by_association(host: SimHost) -> None:
    checkpoint = create(host)
    query = f"ASSOCIATORS OF {{Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='{GUID}'}} WHERE AssocClass="
    for association in ("Msvm_SnapshotOfVirtualSystem", "Msvm_MostCurrentSnapshotInBranch"):
        rows = host.repository.query(V2, query + association, ADMINISTRATOR).instances
        assert [row["InstanceID"] for row in rows] == [f"Microsoft:{checkpoint}"]
    job = next(job for job in host.hyperv.jobs.all() if job.job_type == 70)
    rows = host.repository.query(V2, f"ASSOCIATORS OF {{Msvm_ConcreteJob.InstanceID='{job.id}'}} WHERE AssocClass=Msvm_AffectedJobElement "
                                     "ResultClass=Msvm_VirtualSystemSettingData", ADMINISTRATOR).instances
    assert [row["InstanceID"] for row in rows] == [f"Microsoft:{checkpoint}"]
    assert isinstance(job.ref, Ref)
