# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Going back to a checkpoint, proved: the machine grows from it and writes to new files (operations 2.5)."""
from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, NotFound, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import checkpoint_service, disks, machines, power
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_service import Busy
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_tree import Node
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint, parent_id
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import Job
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_intents, checkpoint_repair, checkpoint_steps
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import CheckpointFacts, mark_of
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_intents import CheckpointIntent, MachineIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_plan import Planned
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools


@dataclass(frozen=True)
class Target:
    """A machine, the checkpoint it goes back to, the one that is made before, the power state at the end, and the policy that was the
    machine's own when a checkpoint of ours was made."""

    machine: Machine
    node: Node
    before: Planned | None
    final: str
    policy: str | None


@dataclass
class Reverted:
    """What became of it. ``began``: the machine was turned off, or the host was asked to go back."""

    target: Target
    before: Checkpoint | None = None
    job: Job | None = None
    state: str | None = None
    began: bool = False
    error: HypervError | None = None
    leftovers: list[Leftover] = field(default_factory=list)


def revert(tools: Tools, facts: CheckpointFacts, target: Target, reverted: Reverted, run_id: str) -> None:
    """Turn off, go back, put the policy right, and start when that is wanted. Raises HypervError with the reason."""
    machine = target.machine
    tools.keep()
    intent = _announce(tools, facts, target, run_id)
    if power.read_state(tools.writer, machine) not in ("off", "saved"):
        reverted.began = True
        power.bring_to(tools.writer, machine, "off", clock=tools.clock, deadline=tools.deadline, progress=tools.progress)
    leaves = _leaves(tools, machine)
    reverted.began = True
    _apply(tools, target, reverted, leaves)
    if intent is not None:
        _own_policy_again(tools, facts, target, reverted, intent)
    if target.final == "running":
        power.bring_to(tools.writer, machine, "running", clock=tools.clock, deadline=tools.deadline, progress=tools.progress)
    reverted.state = power.read_state(tools.writer, machine)
    if reverted.state != target.final:
        raise HypervError(f"{machine.name!r} went back to {target.node.checkpoint.name!r}, and is {reverted.state}, not {target.final}.",
                          error_code="power_state_not_reached", hint="Look at the machine.")


def _announce(tools: Tools, facts: CheckpointFacts, target: Target, run_id: str) -> CheckpointIntent | None:
    """The configuration that comes back can hold the policy that the machine had for a moment while the checkpoint was made."""
    mark = mark_of(target.node.checkpoint)
    if target.policy is None or mark is None or mark.kind == target.policy or mark.kind not in checkpoint_service.POLICY_NUMBERS:
        return None
    intent = CheckpointIntent(run_id, secrets.token_hex(4), facts.host.system.time_now(tools.clock),
                              (MachineIntent(target.machine.vm_id, target.policy, mark.kind),))
    checkpoint_intents.STORE.write(tools.writer, facts.folder, intent)
    return intent


def _own_policy_again(tools: Tools, facts: CheckpointFacts, target: Target, reverted: Reverted, intent: CheckpointIntent) -> None:
    told, settings = intent.machines[0], target.machine.settings
    if settings is None or told.was is None or told.now is None:
        return
    try:
        checkpoint_steps.give_back_policy(tools, settings, told.was, told.now, target.machine.name)
    except HypervError as error:
        tools.progress(f"{target.machine.name}: {error.message}")
        reverted.leftovers += [checkpoint_steps.policy_leftover(target.machine.vm_id, target.machine.name, told.was),
                               checkpoint_intents.STORE.leftover(facts.folder, intent)]
        raise HypervError(f"{target.machine.name!r} went back, and its checkpoint policy could not be set to {told.was}.",
                          error_code="policy_not_restored", hint=reverted.leftovers[-2].remove_with) from error
    reverted.leftovers += checkpoint_repair.forget(tools, facts.folder, [intent])


def _apply(tools: Tools, target: Target, reverted: Reverted, leaves: frozenset[str]) -> None:
    what = f"taking {target.machine.name!r} back to {target.node.checkpoint.name!r}"
    problem: HypervError | None = None
    for attempt in (0, 1, 2):
        if attempt:
            tools.clock.sleep(5.0)
        if not checkpoint_steps.idle(tools, target.machine):
            raise Busy(f"{what}: the host works on the machine and does not end.", hint="Run the task again later.")
        if attempt and _went_back(tools, target, leaves):
            return
        tools.progress(what)
        try:
            reverted.job = checkpoint_steps.wait(tools, checkpoint_service.apply(tools.writer, target.node.checkpoint.reference), what)
            if _went_back(tools, target, leaves):
                return
            problem = HypervError(f"{what}: the host said that it did, and the machine does not grow from it.",
                                  error_code="revert_not_proved", hint="Look with hyperv_checkpoint_info.")
        except NotFound as error:
            raise HypervError(f"{what}: the checkpoint is not there any more.", error_code="checkpoint_vanished") from error
        except (OutcomeUnknown, Busy) as error:
            problem = error
    if problem is not None and not _went_back(tools, target, leaves):
        raise problem


def _went_back(tools: Tools, target: Target, leaves: frozenset[str]) -> bool:
    """The machine grows from the checkpoint, and each of its disks is written to a new file."""
    settings = target.machine.settings
    if settings is None:
        return False
    grows_from = parent_id(machines.read_settings(tools.writer.get(settings.reference)).parent)
    if grows_from != target.node.checkpoint.checkpoint_id:
        return False
    return not (_leaves(tools, target.machine) & leaves)


def _leaves(tools: Tools, machine: Machine) -> frozenset[str]:
    return frozenset((disk.path or "").lower() for disk in disks.read_virtual_disks(tools.writer) if disk.owner_id == machine.vm_id)
