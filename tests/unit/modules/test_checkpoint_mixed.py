# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our modules between others: whatever a user, a backup product, replication and restarts do meanwhile, in whatever order.

Checkpoints of others survive with every byte, chains stay whole, a success is true, and the policy of the machine is its own in the end.
"""
from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_checkpoint, hyperv_checkpoint_info, hyperv_checkpoint_revert
from simulator.disks.guest import Guest
from simulator.disks.proof import Proof, inspect
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.spec import VmSpec
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
VM = "0A1B2C3D-0000-4000-8000-00000000ABCD"
OWN_POLICY = 5


class Mix:
    """One machine with a guest that writes, our modules, and others who come in between at any moment."""

    def __init__(self, runner: Any, seed: int) -> None:
        self.runner, self.host, self.dice = runner, runner.running.host, random.Random(seed)
        self.role = self.host.hyperv
        self.machine = self.role.machines[VM]
        paths = [self.role.disk_path(self.machine, disk.index) for disk in self.machine.disks]
        self.guest = Guest(paths, "guest", parent_resolver=self.role.disks.find_parent)
        self.role.guests[VM] = self.guest
        self.guest.write_some(3)
        self.foreign: dict[str, int] = {}
        self.done: list[str] = []

    # -- others --------------------------------------------------------------------------------------------------------

    def somebody(self) -> None:
        """One of the others does something at a moment of the run that comes."""
        act = self.dice.choice([self.others_checkpoint, self.others_checkpoint, self.write, self.restart])
        self.host.clock.call_later(self.dice.uniform(0.5, 60.0), act)

    def others_checkpoint(self) -> None:
        try:
            made = self.role.foreign_checkpoint(VM, kind=self.dice.choice(("recovery", "standard", "replica")))
        except JobFailure:
            return
        self.foreign[made.id] = self.guest.sequence
        self.done.append("(others)")

    def write(self) -> None:
        if not self.guest.frozen and self.machine.state == "running":
            self.guest.write_some(self.dice.randrange(1, 5))

    def restart(self) -> None:
        self.role.restart_vmms()
        self.done.append("(restart)")

    # -- ours ----------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        for _unused in range(self.dice.randrange(3)):
            self.somebody()
        name = self.dice.choice(("a", "b", "c"))
        waits = self.dice.random() < 0.7
        module, params = self.dice.choice([
            (hyperv_checkpoint, {"checkpoint_name": name, "kind": self.dice.choice(("production_only", "production", "standard"))}),
            (hyperv_checkpoint, {"checkpoint_name": name}),
            (hyperv_checkpoint, {"checkpoint_name": name, "state": "absent", "wait_for_merge": waits, "merge_timeout": 900}),
            (hyperv_checkpoint, {"keep_last": 1, "state": "absent", "wait_for_merge": waits, "merge_timeout": 900}),
            (hyperv_checkpoint_revert, {"checkpoint_name": name, "force": True, "power_after": "running"}),
        ])
        self.done.append(f"{module.__name__.rpartition('.')[2]} {params}")
        try:
            result = self.runner.run(module, name="web01", **params)
        except HypervError as error:
            self.done.append(f"-> {error.error_code}")
            return
        self.done.append(f"-> {result.get('error_code', 'ok')}")
        if "failed" not in result:
            self.true_success(module, params, result)

    def true_success(self, module: Any, params: dict[str, Any], result: dict[str, Any]) -> None:
        names = [one.name for one in self.machine.checkpoints.values()]
        if module is hyperv_checkpoint_revert:
            assert self.machine.last_applied is not None, self.done
            assert self.machine.last_applied.id == result["checkpoint"]["id"], self.done
        elif params.get("state") != "absent":
            assert names.count(params["checkpoint_name"]) == 1, self.done
        elif "checkpoint_name" in params:
            assert params["checkpoint_name"] not in names, self.done

    # -- what must hold ------------------------------------------------------------------------------------------------

    def proof(self, file: Any) -> Proof:
        real = [self.host.files.real_path(link.path) for link in file.chain()]
        return inspect(real[0], real[1:])

    def check(self) -> None:
        for checkpoint_id, last in self.foreign.items():
            assert checkpoint_id in self.machine.checkpoints, self.done
            one = self.machine.checkpoints[checkpoint_id]
            assert "agentless.hyperv checkpoint=" + one.id not in one.notes, self.done
            proof = self.proof(one.files[0])
            assert (proof.consistent, proof.last) == (True, last), self.done
        assert self.proof(self.machine.disks[0].leaf).consistent, self.done


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_ours_and_others(start: Start, seed: int) -> None:
    vm = VmSpec("web01", vm_id=VM, folder="D:\\VMs\\web01", policy="standard", memory_mb=8)
    mix = Mix(start(volumes=(VolumeSpec("C:"), VolumeSpec("D:")), vms=(vm,)), seed)
    for _unused in range(8):
        mix.step()
        mix.host.clock.advance(mix.dice.choice((1, 30, 200)))
        mix.check()
    mix.host.clock.advance(3000)
    try:
        mix.runner.run(hyperv_checkpoint, name="web01", checkpoint_name="z", state="absent")
    except HypervError as error:
        pytest.fail(f"{error.error_code} after {mix.done}")
    mix.check()
    assert mix.machine.policy == OWN_POLICY, mix.done
    info = mix.runner.run(hyperv_checkpoint_info, name="web01", gather=["chains"])
    assert [finding for finding in info["findings"] if finding["code"] in ("chain_broken", "missing_files")] == []
    assert {one["id"] for one in info["checkpoints"] if one["owner"] == "ours"} & set(mix.foreign) == set()
