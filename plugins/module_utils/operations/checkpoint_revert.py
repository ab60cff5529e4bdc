# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_checkpoint_revert``: facts, plan and result. It always acts: no state of a machine proves that nothing is to be done."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_tree import Node
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_audit,
    checkpoint_choice,
    checkpoint_facts,
    checkpoint_files,
    checkpoint_intents,
    checkpoint_loss,
    checkpoint_plan,
    checkpoint_present,
    checkpoint_repair,
    checkpoint_reverting,
    checkpoint_steps,
    inventory,
    selection,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_choice import Choice, Entry
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_create import Work
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import OURS, PRODUCT, REPLICA, CheckpointFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_loss import Configurations
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_plan import Planned, Wanted
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_repair import Repair
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_reverting import Reverted, Target
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import RunLease
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state

_MORE = ("summary", "disks", inventory.QUIESCING, "volumes")
_REPLICAS = ("replica", "extended_replica", "test_replica")


@dataclass(frozen=True)
class Prepared:
    """Everything that was read and decided before anything is written."""

    facts: CheckpointFacts
    configurations: Configurations
    choice: Choice
    targets: tuple[Target, ...]
    refused: tuple[tuple[Machine, HypervError], ...]
    repair: Repair
    run_id: str


def run(call: Call) -> dict[str, Any]:
    """The result of the task; ``failed`` is set when it failed for any machine."""
    prepared = prepare(call)

    def apply(writer: CimWriter) -> dict[str, Any]:
        return _apply(call, prepared, writer)

    concluded = call.conclude(_plan(prepared), apply)
    if prepared.choice.single and concluded.get("failed") and "msg" not in concluded:
        concluded["msg"] = "The virtual machine was not reverted."
    return concluded


# -- plan ----------------------------------------------------------------------------------------------------------------


def prepare(call: Call) -> Prepared:
    """Read the host and decide. Raises HypervError for what concerns the whole task, and for the one machine."""
    params, run_id = call.params, checkpoint_choice.run_id_of(call)
    facts = checkpoint_facts.read(call, _MORE)
    selection.warn_about_host(call, facts.host)
    choice = checkpoint_choice.choose(facts, params)
    repair = checkpoint_repair.look(call.reader, facts, run_id)
    locations = checkpoint_files.read_locations(call.reader, choice.machines) if params["checkpoint_before"] else {}
    found, refused = [], []
    for machine in choice.machines:
        try:
            node = _node(facts, machine, params["checkpoint_name"], params["checkpoint_id"])
            _check(facts, machine, node, repair, force=params["force"])
            found.append((machine, node))
        except HypervError as error:
            refused.append((machine, error))
    facts = _with_files(call, facts, found)
    targets = []
    for machine, node in found:
        try:
            _refuse_broken(facts, node)
            before = _planned_before(call, facts, machine, node, repair, locations, run_id) if params["checkpoint_before"] else None
            targets.append(_target(machine, node, before, params["power_after"]))
            _warn(call, machine)
        except HypervError as error:
            refused.append((machine, error))
    if choice.single and refused and not repair.steps():
        raise refused[0][1]
    configurations = checkpoint_loss.read_configurations(call.reader) if targets else {}
    return Prepared(facts, configurations, choice, tuple(targets), tuple(refused), repair, run_id)


def _node(facts: CheckpointFacts, machine: Machine, name: str | None, checkpoint_id: str | None) -> Node:
    """The one checkpoint that is meant. Raises HypervError ``checkpoint_not_found``, ``checkpoint_not_unique``, ``invalid_id``."""
    nodes = facts.tree_of(machine).nodes
    if checkpoint_id is not None:
        guid = checkpoint_choice.checkpoint_guid(checkpoint_id)
        found = [node for node in nodes if node.checkpoint.checkpoint_id == guid]
    else:
        found = [node for node in nodes if node.checkpoint.name.casefold() == (name or "").casefold()]
    if not found:
        raise HypervError(f"{machine.name!r} has no checkpoint {name or checkpoint_id!r}.", error_code="checkpoint_not_found",
                          hint=f"It has {', '.join(repr(node.checkpoint.name) for node in nodes[-5:]) or 'none'}.")
    if len(found) > 1:
        raise HypervError(f"{machine.name!r} has {len(found)} checkpoints named {name!r}.", error_code="checkpoint_not_unique",
                          hint="Name the one that is meant by checkpoint_id.",
                          details={"candidates": [node.checkpoint.checkpoint_id for node in found]})
    return found[0]


def _check(facts: CheckpointFacts, machine: Machine, node: Node, repair: Repair, *, force: bool) -> None:
    if machine.replication_mode in _REPLICAS:
        raise HypervError(f"{machine.name!r} is a replica: only its failover may choose a recovery point.", error_code="replica_vm",
                          hint="Use the primary machine, or a failover.")
    owner = checkpoint_facts.owner_of(node.checkpoint)
    if owner == REPLICA or node.checkpoint.kind in ("planned", "missing"):
        raise HypervError(f"The checkpoint {node.checkpoint.name!r} is of the type {node.checkpoint.kind}: nobody can go back to it.",
                          error_code="checkpoint_of_replica" if owner == REPLICA else "checkpoint_files_missing")
    if owner == PRODUCT:
        raise HypervError(f"The checkpoint {node.checkpoint.name!r} belongs to a backup product, which removes it when it likes.",
                          error_code="checkpoint_not_ours", hint="Restore with that product.")
    checkpoint_plan.refuse_missing(facts, machine)
    checkpoint_plan.refuse_busy(facts, machine)
    repair.refuse_at_work(machine)
    if machine.state not in ("off", "saved") and not force:
        raise HypervError(f"{machine.name!r} is {machine.state}: it has to be turned off to go back, as by a power cut.",
                          error_code="vm_not_off", hint="Shut it down before, or set force.")


def _with_files(call: Call, facts: CheckpointFacts, found: Sequence[tuple[Machine, Node]]) -> CheckpointFacts:
    chains = [path for _unused, node in found for path in facts.files_of(node.checkpoint.checkpoint_id)]
    facts = checkpoint_facts.with_links(call.reader, facts, chains)
    return checkpoint_facts.with_sizes(call.reader, facts, [path for machine, _unused in found for path in facts.files_of(machine.vm_id)])


def _refuse_broken(facts: CheckpointFacts, node: Node) -> None:
    for path in facts.files_of(node.checkpoint.checkpoint_id):
        problem = checkpoint_audit.chain_problem(facts, path)
        if problem is not None:
            raise HypervError(f"The checkpoint {node.checkpoint.name!r} rests on a chain that is not complete: {problem}",
                              error_code="chain_broken", hint="The machine would not start from it. Repair the chain first.")


def _planned_before(call: Call, facts: CheckpointFacts, machine: Machine, node: Node, repair: Repair,
                    locations: Any, run_id: str) -> Planned:
    name = (call.params["before_name"] or f"before revert to {node.checkpoint.name}")[:checkpoint_plan.LONGEST_NAME - 16]
    stamp = facts.host.system.local_time.strftime("%Y%m%dT%H%M%SZ")
    wanted = Wanted(checkpoint_plan.check_name(f"{name} {stamp}"), call.params["before_kind"], run_id, None, None, 0.0)
    planned = checkpoint_plan.plan(facts, machine, wanted, repair, locations)
    for warning in planned.warnings:
        call.warn(warning)
    return planned


def _target(machine: Machine, node: Node, before: Planned | None, power_after: str) -> Target:
    """What the machine will be. A checkpoint of ours was perhaps made under another policy than the machine's own."""
    mark = checkpoint_facts.mark_of(node.checkpoint)
    final = "saved" if node.checkpoint.saved_state else "off"
    if power_after == "running" or (power_after == "as_before" and machine.state == "running"):
        final = "running"
    policy = mark.policy if mark is not None and checkpoint_facts.owner_of(node.checkpoint) == OURS else None
    return Target(machine, node, before, final, policy)


def _warn(call: Call, machine: Machine) -> None:
    if machine.replication_mode == "primary":
        call.warn(f"{machine.name}: it is replicated, and its replica needs a resynchronisation afterwards.")
    if machine.settings is not None and machine.settings.incremental_backup:
        call.warn(f"{machine.name}: its changes are tracked for incremental backups, and that chain is broken afterwards: the next "
                  "backup must be a full one.")


def _plan(prepared: Prepared) -> Plan:
    steps, before, after = list(prepared.repair.steps()), {}, {}
    for target in prepared.targets:
        machine, one = target.machine, target.node.checkpoint
        if target.before is not None:
            steps.append(Step("create_checkpoint", machine.name, {"vm_id": machine.vm_id, "name": target.before.work.name}))
        if machine.state not in ("off", "saved"):
            steps.append(Step("turn_off", machine.name, {"vm_id": machine.vm_id, "from": machine.state}))
        steps.append(Step("revert", machine.name, {"vm_id": machine.vm_id, "to": one.name, "id": one.checkpoint_id}))
        if target.final == "running":
            steps.append(Step("start", machine.name, {"vm_id": machine.vm_id}))
        before[machine.name] = {
            "state": machine.state, "configuration": checkpoint_loss.configuration(prepared.facts, prepared.configurations, machine.vm_id),
            "written": checkpoint_loss.written_since(prepared.facts, machine)}
        after[machine.name] = {
            "state": target.final,
            "configuration": checkpoint_loss.configuration(prepared.facts, prepared.configurations, one.checkpoint_id),
            "written": f"kept in the checkpoint {target.before.work.name!r}" if target.before is not None else "lost"}
    entries = [_predicted(prepared, target) for target in prepared.targets]
    return Plan(tuple(steps), before, after, _result(prepared, entries, []))


def _predicted(prepared: Prepared, target: Target) -> Entry:
    return {"vm": checkpoint_choice.label(target.machine), "changed": True, "failed": False, "leftovers": [], "job": None,
            "checkpoint": checkpoint_facts.entry(prepared.facts, target.machine, target.node), "state": target.final,
            "checkpoint_before": None if target.before is None else {"name": target.before.work.name}}


def _result(prepared: Prepared, done: Sequence[Entry], leftovers: Sequence[Leftover]) -> dict[str, Any]:
    entries = [*done, *(checkpoint_choice.failed_entry(machine, error) for machine, error in prepared.refused)]
    for entry in entries:
        entry["leftovers"] = [*entry["leftovers"], *(one.as_result() for one in leftovers)]
    return checkpoint_choice.result(prepared.choice, entries, {
        "run_id": prepared.run_id, "changed": bool(prepared.repair.policies or prepared.repair.spent)})


# -- apply ---------------------------------------------------------------------------------------------------------------


def _apply(call: Call, prepared: Prepared, writer: CimWriter) -> dict[str, Any]:
    folder, done = prepared.facts.folder, []
    state.ensure(writer, folder)
    host = prepared.facts.host.system
    with RunLease(writer, call.clock, folder, prepared.run_id, host_time=lambda: host.time_now(call.clock)) as lease:
        tools = Tools(writer, call.clock, call.progress, Deadline(call.clock, call.params["timeout"]), lease.keep)
        leftovers = checkpoint_repair.carry_out(tools, folder, prepared.repair)
        for target in prepared.targets:
            done.append(_revert(prepared, tools, target))
    leftovers += lease.told(call.warn)
    return _result(prepared, [_entry(prepared, tools, one) for one in done], leftovers)


def _revert(prepared: Prepared, tools: Tools, target: Target) -> Reverted:
    """First the checkpoint of what is there now. When that fails, nothing else is done to this machine."""
    reverted = Reverted(target)
    try:
        if target.before is not None:
            _keep_present(prepared, tools, target.before.work, reverted)
        checkpoint_reverting.revert(tools, prepared.facts, target, reverted, prepared.run_id)
    except HypervError as error:
        reverted.error = error
    return reverted


def _keep_present(prepared: Prepared, tools: Tools, work: Work, reverted: Reverted) -> None:
    folder, now = prepared.facts.folder, prepared.facts.host.system.time_now(tools.clock)
    intent = checkpoint_present.intent_for(prepared.run_id, now, [work])
    checkpoint_intents.STORE.write(tools.writer, folder, intent)
    made = checkpoint_present.make_all([work], tools)
    left = checkpoint_repair.forget(tools, folder, [intent]) if checkpoint_present.all_settled(made) else [
        checkpoint_intents.STORE.leftover(folder, intent)]
    reverted.leftovers += [*made[0].leftovers, *left]
    reverted.before = made[0].checkpoint
    if made[0].error is not None:
        raise made[0].error


def _entry(prepared: Prepared, tools: Tools, one: Reverted) -> Entry:
    target = one.target
    before = None if one.before is None else {"id": one.before.checkpoint_id, "name": one.before.name}
    entry: Entry = {"vm": checkpoint_choice.label(target.machine), "changed": one.began or one.before is not None,
                    "failed": one.error is not None, "job": checkpoint_steps.job_result(one.job), "state": one.state,
                    "checkpoint": checkpoint_facts.entry(prepared.facts, target.machine, target.node), "checkpoint_before": before,
                    "leftovers": [leftover.as_result() for leftover in one.leftovers]}
    entry["checkpoint"]["is_parent_of_current"] = one.error is None
    if one.error is not None:
        entry.update({"msg": one.error.message, **one.error.as_result()})
        entry["leftovers"] = [leftover.as_result() for leftover in (*one.leftovers, *one.error.leftovers)]
    return entry
