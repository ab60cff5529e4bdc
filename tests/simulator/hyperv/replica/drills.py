# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test failovers: a second machine from a recovery point, while the replica goes on (operations 7.6, D-24)."""
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.cim.errors import ProviderRefusal
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.hyperv import chains, ids
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.model import Checkpoint, Configuration, Machine, Relation, VhdFile
from simulator.hyperv.replica.common import FAILED, INVALID_STATE
from simulator.hyperv.replica.failover import USABLE, chosen_point, receiving
from simulator.hyperv.spec import DiskSpec
from simulator.windows.errors import Win32Error

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

TEST_JOB = 102


class Drills:
    """The test machines of one host."""

    def __init__(self, role: HyperV) -> None:
        self._role = role
        self._numbers: dict[str, int] = {}

    def tests_of(self, machine: Machine) -> list[Machine]:
        """The test machines that hang on a replica."""
        return [self._role.machines[name] for name in machine.pins if name in self._role.machines]

    def begin(self, call: Invocation) -> MethodOutcome:
        """TestReplicaSystem: a job whose created element is the test machine. 32775 while there is one already."""
        role, relations = self._role, self._role.replica.relations
        machine = relations.machine(call)
        relation = receiving(machine)
        point = chosen_point(role, call, machine)
        if relation.state not in USABLE or relation.last_time is None or machine.pins or machine.busy is not None:
            raise ProviderRefusal(INVALID_STATE, "the replica is not in a state for a test, or is being tested")
        number = self._numbers[machine.id] = self._numbers.get(machine.id, 0) + 1
        test_id = ids.derive(role.name, machine.id, "test replica", number)

        def make() -> None:
            if relation.state not in USABLE:
                raise JobFailure(INVALID_STATE, "The replica is not in a state for a test any more.")
            self._make(machine, relation, point, test_id)

        return relations.begin(call, machine, TEST_JOB, make, seconds=3.0, alone=True, created=[ids.system_ref(test_id)])

    def _make(self, machine: Machine, relation: Relation, point: Checkpoint | None, test_id: str) -> None:
        role, knobs = self._role, self._role.replica.knobs
        if point is not None and machine.checkpoints.get(point.id) is not point:
            raise JobFailure(FAILED, "The recovery point does not exist any more.", hresult=0x80070490)
        files = role.checkpoints.fork(machine) if point is None else dict(point.files)
        disks = tuple(self._disk(machine, index, file, test_id) for index, file in sorted(files.items()))
        nics = machine.spec.nics if knobs.test_connected else tuple(replace(nic, switch=None) for nic in machine.spec.nics)
        spec = replace(machine.spec, name=knobs.test_name.format(machine.name), vm_id=test_id, state="off", disks=disks, nics=nics,
                       checkpoints=(), replication_mode=3, relations=(), snapshot_folder=None, policy="standard", notes=machine.notes)
        machine.pins[test_id] = files
        test = role.add_vm(spec)
        test.created = test.config_changed = test.state_changed = role.clock.now()
        try:
            role.disks.add_system_files(Configuration(test, None))
            for disk in test.disks:
                if disk.base is not None:
                    role.disks.add_child(disk.base)
        except Win32Error as error:
            role.remove_vm(test.id)
            raise JobFailure(FAILED, "The test virtual machine could not be made.", hresult=0x80070000 | error.code) from error
        relation.statistics.last_test = role.clock.now()

    def _disk(self, machine: Machine, index: int, file: VhdFile, test_id: str) -> DiskSpec:
        stem, _unused, _extension = file.path.rpartition(".")
        guid = ids.derive(test_id, index, "disk")
        controller = next(disk.controller for disk in machine.disks if disk.index == index)
        return DiskSpec(path=f"{stem}_{guid}.avhdx", parent=file.path, size=file.size, parent_size=file.size, block_size=file.block_size,
                        disk_id=file.disk_id, controller="ide" if controller == "ide" else "scsi")

    def machine_removed(self, gone: Machine) -> None:
        """A machine left the host: if it was a test, its files go and the replica's are merged."""
        role = self._role
        for machine in role.machines.values():
            if gone.id not in machine.pins:
                continue
            before = chains.disposable(machine)
            del machine.pins[gone.id]
            for disk in gone.disks:
                for file in chains.down_to_base(disk, disk.leaf) if disk.leaf is not None else ():
                    role.disks.remove(file.path)
            role.checkpoints.drop(machine, before)
