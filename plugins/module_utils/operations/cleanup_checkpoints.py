# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What interrupted runs left of checkpoints: a policy that was to be another one for a moment, suspects, and what announced them.

A checkpoint without our mark is never removed here: nothing proves that it is ours.
"""
from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_adoption,
    checkpoint_intents,
    checkpoint_repair,
    checkpoint_steps,
    inventory,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import CheckpointFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_intents import CheckpointIntent, MachineIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.shadow_lifecycle import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import Runs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state_contents import Contents, Entry

_SHORT = 60.0


@dataclass(frozen=True)
class Announced:
    """What was announced. ``facts``: the machines and their checkpoints, None when there are no intents; ``damaged``: files that cannot
    be understood; ``going_on``: runs that began a creation which goes on, since nobody waited for it."""

    facts: CheckpointFacts | None = None
    damaged: tuple[Entry, ...] = ()
    going_on: tuple[str, ...] = ()

    @property
    def intents(self) -> tuple[CheckpointIntent, ...]:
        """The intents for checkpoints."""
        return () if self.facts is None else self.facts.intents

    def policies(self, dead: Collection[CheckpointIntent]) -> tuple[tuple[Machine, MachineIntent, CheckpointIntent], ...]:
        """Machines whose policy one of these intents of dead runs has to put back, unless another run is at work on them."""
        if self.facts is None:
            return ()
        others = Runs(intent.run_id for intent in self.intents if intent not in dead)
        found = checkpoint_repair.decide(self.facts, others, None).policies
        return tuple((machine, told, next(intent for intent in dead if told in intent.machines)) for machine, told in found)

    def suspects(self) -> tuple[tuple[Checkpoint, CheckpointIntent], ...]:
        """Checkpoints that an intent may have come to, without proof."""
        if self.facts is None:
            return ()
        listed = [(one, self.facts.suspect(one)) for machine in self.facts.host.machines
                  for one in self.facts.host.checkpoints_of(machine.vm_id)]
        return tuple((one, intent) for one, intent in listed if intent is not None)


def read(reader: CimReader, clock: Clock, folder: StateFolder, contents: Contents) -> Announced:
    """Nothing is asked when the state folder holds no intents for checkpoints; else one program, three requests, and one for each
    creation that was not waited for."""
    files = contents.others
    if files is not None and not any(checkpoint_intents.STORE.is_file(entry.path) for entry in files):
        return Announced(damaged=files)
    intents = checkpoint_intents.STORE.read_texts(reader, folder)
    understood = {checkpoint_intents.STORE.path_of(folder, intent).lower() for intent in intents}
    damaged = tuple(entry for entry in files or () if entry.path.lower() not in understood)
    if not intents:
        return Announced(damaged=damaged)
    going_on = tuple(one.intent.run_id for one in checkpoint_adoption.read(reader, intents) if one.runs)
    return Announced(CheckpointFacts(inventory.read_host(reader, clock, ()), folder, intents), damaged, going_on)


def put_back(tools: Tools, machine: Machine, told: MachineIntent) -> None:
    """Give a machine its own policy again, unless somebody has changed it since. Raises HypervError."""
    if machine.settings is None or told.was is None or told.now is None:
        raise HypervError(f"The settings of {machine.name!r} cannot be read.", error_code="settings_not_changed")
    steps = checkpoint_steps.Tools(tools.writer, tools.clock, tools.progress, Deadline(tools.clock, _SHORT))
    checkpoint_steps.give_back_policy(steps, machine.settings, told.was, told.now, machine.name)
