# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any order of operations, ours and others', with restarts in between: every checkpoint keeps its bytes and every chain is whole."""
from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from simulator.hyperv import chains
from simulator.hyperv.spec import DiskSpec
from unit.simulator.hyperv.checkpoint_bench import GUID, MakePatient, Patient, settings_ref


class Walk:
    """Does one thing after another and knows which write each checkpoint must hold as its last."""

    def __init__(self, vm: Patient, seed: int) -> None:
        self.vm = vm
        self.dice = random.Random(seed)
        self.guest = vm.guest()
        self.guest.write_some(3)
        self.expected: dict[str, int] = {}
        self.foreign: set[str] = set()
        self.done: list[str] = []

    def idle(self) -> None:
        self.vm.until(lambda: self.vm.machine.busy is None, 3000)
        assert self.vm.machine.busy is None

    def step(self) -> None:
        often: list[Callable[[], None]] = [self.write, self.create, self.destroy, self.wait]
        step = self.dice.choice([*often, *often, self.tree, self.apply, self.restart, self.other, self.pause])
        self.done.append(step.__name__)
        step()

    def write(self) -> None:
        self.guest.write_some(self.dice.randrange(1, 9))

    def create(self) -> None:
        self.idle()
        self.vm.machine.policy = self.dice.choice((3, 4, 5))
        if self.dice.random() < 0.5 and not self.guest.in_flight:
            self.guest.step()
        before = self.guest.sequence + (1 if self.vm.machine.policy != 5 and self.guest.in_flight else 0)
        self.expected[self.vm.checkpoint()] = before

    def other(self) -> None:
        if self.vm.machine.busy is not None:
            return
        checkpoint = self.vm.role.foreign_checkpoint("web01", kind=self.dice.choice(("recovery", "standard", "replica")))
        self.foreign.add(checkpoint.id)
        self.expected[checkpoint.id] = self.guest.sequence

    def _ours(self) -> str | None:
        ours = [guid for guid in self.expected if guid not in self.foreign]
        return self.dice.choice(ours) if ours else None

    def destroy(self) -> None:
        self.idle()
        guid = self._ours()
        if guid is not None:
            self.vm.destroy(guid)
            del self.expected[guid]

    def tree(self) -> None:
        self.idle()
        guid = self._ours()
        if guid is None:
            return
        doomed = {c.id for c in self.vm.role.checkpoints.subtree(self.vm.machine, self.vm.machine.checkpoints[guid])}
        if not doomed & self.foreign:
            self.vm.finished(self.vm.ask("DestroySnapshotTree", SnapshotSettingData=settings_ref(guid)))
            for gone in doomed:
                del self.expected[gone]

    def apply(self) -> None:
        self.idle()
        if not self.expected:
            return
        guid = self.dice.choice(list(self.expected))
        self.vm.power(3)
        self.idle()
        self.vm.apply(guid)
        assert [self.vm.proof(disk=disk.index).last for disk in self.vm.machine.disks].count(self.expected[guid]) >= 1
        self.idle()
        self.vm.power(2)

    def wait(self) -> None:
        self.vm.host.clock.advance(self.dice.choice((1, 3, 7, 15, 60)))

    def restart(self) -> None:
        self.vm.role.restart_vmms()

    def pause(self) -> None:
        self.vm.machine.merge_paused = not self.vm.machine.merge_paused
        if self.vm.machine.merge_paused:
            self.vm.role.merges.pause(self.vm.machine)
        else:
            self.vm.role.merges.due(self.vm.machine)

    def check(self) -> None:
        """What must always hold."""
        machine = self.vm.machine
        assert set(machine.checkpoints) == set(self.expected), self.done
        assert self.foreign <= set(machine.checkpoints)
        disks = range(len(machine.disks))
        for guid, last in self.expected.items():
            proofs = [self.vm.proof(machine.checkpoints[guid].files[disk]) for disk in disks]
            assert [proof.consistent for proof in proofs] == [True] * len(disks), (self.done, [proof.summary() for proof in proofs])
            assert max(proof.last for proof in proofs) == last, self.done
        proofs = [self.vm.proof(disk=disk) for disk in disks]
        assert [proof.consistent for proof in proofs] == [True] * len(disks), (self.done, [proof.summary() for proof in proofs])
        assert max(proof.last for proof in proofs) == self.guest.sequence, self.done
        needed = {file.path.rpartition("\\")[2] for file in chains.disposable(machine)}
        assert set(self.vm.avhdx()) == needed, self.done

    def settle(self) -> None:
        """In the end everything that can be merged is."""
        self.vm.machine.merge_paused = False
        self.vm.role.merges.due(self.vm.machine)
        self.vm.host.clock.advance(2000)
        assert chains.mergeable(self.vm.machine) == []


@pytest.mark.parametrize("seed", range(3))
def test_any_order(patient: MakePatient, seed: int) -> None:
    two = (DiskSpec(), DiskSpec(path="D:\\VMs\\web01\\Virtual Hard Disks\\data.vhdx"))
    walk = Walk(patient(memory_mb=8, disks=two[:1 + seed % 2]), seed)
    walk.vm.role.knobs.boot_seconds = 0.0  # a guest that boots cannot be quiesced, which is no matter here
    for _unused in range(25):
        walk.step()
        walk.check()
    walk.settle()
    walk.check()
    for guid in list(walk.expected):
        walk.vm.role.foreign_removal(GUID, walk.vm.machine.checkpoints[guid])
    walk.expected.clear()
    walk.foreign.clear()
    walk.settle()
    walk.check()
    assert walk.vm.avhdx() == []
