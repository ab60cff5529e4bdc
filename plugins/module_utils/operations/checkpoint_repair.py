# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What intents of dead runs say: policies that have to be put back, and which intents have nothing more to say."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_adoption, checkpoint_intents, checkpoint_steps
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_adoption import Begun
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import CheckpointFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_intents import CheckpointIntent, MachineIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import leases, state_contents
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import Runs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder


@dataclass(frozen=True)
class Repair:
    """``policies``: machines with the intent that says what their policy was; ``spent``: intents of dead runs that go afterwards, since
    no checkpoint is suspect because of them; ``alive``: intents of other runs at work, and of those whose creation goes on; ``begun``:
    creations that were begun and not waited for."""

    policies: tuple[tuple[Machine, MachineIntent], ...] = ()
    spent: tuple[CheckpointIntent, ...] = ()
    alive: tuple[CheckpointIntent, ...] = ()
    begun: tuple[Begun, ...] = ()

    def steps(self) -> tuple[Step, ...]:
        """What is done, for the diff."""
        return (*(Step("restore_checkpoint_policy", machine.name, {"vm_id": machine.vm_id, "from": told.now, "to": told.was})
                  for machine, told in self.policies),
                *(Step("remove_intent", intent.file_name) for intent in self.spent))

    def refuse_at_work(self, machine: Machine) -> None:
        """Raise HypervError ``vm_busy`` when another run is at work on a machine."""
        other = next((intent for intent in self.alive if intent.of(machine.vm_id) is not None), None)
        if other is not None:
            raise HypervError(f"The run {other.run_id} is making a checkpoint of {machine.name!r}.", error_code="vm_busy",
                              hint="Wait until it has done.")


def look(reader: CimReader, facts: CheckpointFacts, run_id: str | None) -> Repair:
    """What there is to repair: nothing is asked when there are no intents. Intents of this very run are those of its earlier try."""
    if not facts.intents:
        return Repair()
    now, begun = facts.host.system.local_time, checkpoint_adoption.read(reader, facts.intents)
    return decide(facts, leases.alive_runs(state_contents.read_leases(reader, facts.folder), now), run_id, begun)


def decide(facts: CheckpointFacts, alive: Runs, run_id: str | None, begun: tuple[Begun, ...] = ()) -> Repair:
    """The same, of what was read. A policy that is not what the intent gave is not ours to change any more."""
    machines = {machine.vm_id: machine for machine in facts.host.machines}
    going_on = {one.intent.file_name for one in begun if one.runs}
    at_work = tuple(intent for intent in facts.intents if intent.file_name in going_on
                    or (intent.run_id in alive and intent.run_id.lower() != (run_id or "").lower()))
    dead = [intent for intent in facts.intents if intent not in at_work]
    policies = {}
    for intent in dead:
        for told in intent.machines:
            machine = machines.get(told.vm_id)
            if machine is not None and machine.settings is not None and _changed(machine, told) and not any(
                    other.of(told.vm_id) for other in at_work):
                policies[told.vm_id] = (machine, told)
    suspected = [facts.suspect(one) for machine in facts.host.machines for one in facts.host.checkpoints_of(machine.vm_id)]
    blamed = {one.file_name for one in suspected if one is not None}
    spent = tuple(intent for intent in dead if intent.file_name not in blamed)
    return Repair(tuple(policies.values()), spent, at_work, begun)


def _changed(machine: Machine, told: MachineIntent) -> bool:
    policy = machine.settings.checkpoint_policy if machine.settings else None
    return told.was is not None and told.now is not None and told.was != told.now and policy == told.now


def carry_out(tools: Tools, folder: StateFolder, repair: Repair) -> list[Leftover]:
    """Put policies back and take intents away. Returns what could not be done. The state folder is trusted."""
    left = []
    for machine, told in repair.policies:
        if machine.settings is None or told.was is None or told.now is None:
            continue
        tools.progress(f"{machine.name}: an interrupted run left the checkpoint policy {told.now}; setting it back to {told.was}")
        try:
            checkpoint_steps.give_back_policy(tools, machine.settings, told.was, told.now, machine.name)
        except HypervError as error:
            tools.progress(f"{machine.name}: {error.message}")
            left.append(checkpoint_steps.policy_leftover(machine.vm_id, machine.name, told.was))
    failed = {leftover.id for leftover in left}
    left += forget(tools, folder, [intent for intent in repair.spent if not any(told.vm_id in failed for told in intent.machines)])
    return left


def forget(tools: Tools, folder: StateFolder, intents: Sequence[CheckpointIntent]) -> list[Leftover]:
    """Take intents away that have nothing more to say, each tried twice. Returns those that are still there."""
    left = []
    for intent in intents:
        try:
            try:
                checkpoint_intents.STORE.remove(tools.writer, folder, intent)
            except HypervError:
                checkpoint_intents.STORE.remove(tools.writer, folder, intent)
        except HypervError as error:
            tools.progress(f"the intent {intent.file_name} is still there: {error.message}")
            left.append(checkpoint_intents.STORE.leftover(folder, intent))
    return left
