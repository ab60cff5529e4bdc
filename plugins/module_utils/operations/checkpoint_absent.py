# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_checkpoint`` with state absent: chosen checkpoints go, one after the other, and their merges are waited for."""
from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, NotFound, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import checkpoint_service, jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_service import Busy
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_tree import Node
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import Job, JobFailed
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import MERGING, REMOVING, Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.summary import RunningJob
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_choice,
    checkpoint_facts,
    checkpoint_files,
    checkpoint_merge,
    checkpoint_plan,
    checkpoint_repair,
    checkpoint_rules,
    checkpoint_steps,
    inventory,
    selection,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_audit import MERGE_JOB
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_choice import Choice, Entry
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import CheckpointFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_repair import Repair
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_rules import Rules
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import parse_age
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state

_GOING_ON = (72, MERGE_JOB)


@dataclass(frozen=True)
class Doomed:
    """What goes of one machine, in this order. ``unmerged``: nothing goes, and an earlier merge is waited for. ``going_on``: the job of a
    removal or a merge that nobody waits for now."""

    machine: Machine
    nodes: tuple[Node, ...]
    unmerged: bool = False
    going_on: RunningJob | None = None


@dataclass(frozen=True)
class Prepared:
    """Everything that was read and decided before anything is written."""

    facts: CheckpointFacts
    choice: Choice
    doomed: tuple[Doomed, ...]
    refused: tuple[tuple[Machine, HypervError], ...]
    repair: Repair
    run_id: str


@dataclass
class Removed:
    """What became of one machine. ``others``: checkpoints that went although nobody asked for it. ``still``: the job of the last removal,
    which nobody waits for."""

    doomed: Doomed
    gone: list[Node] = field(default_factory=list)
    others: tuple[Node, ...] = ()
    merged: bool | None = None
    error: HypervError | None = None
    still: Job | None = None


def run(call: Call) -> dict[str, Any]:
    """The result of the task; ``failed`` is set when it failed for any machine."""
    prepared = prepare(call)

    def apply(writer: CimWriter) -> dict[str, Any]:
        leftovers: list[Leftover] = []
        tools = Tools(writer, call.clock, call.progress, Deadline(call.clock, call.params["timeout"]))
        if prepared.repair.steps():
            state.ensure(writer, prepared.facts.folder)
            leftovers += checkpoint_repair.carry_out(tools, prepared.facts.folder, prepared.repair)
        return _result(prepared, [_done_entry(call, tools, prepared, one) for one in prepared.doomed], leftovers)

    concluded = call.conclude(_plan(prepared), apply)
    if not concluded["changed"] and not call.check_mode:
        concluded.update(_wait_for_earlier(call, prepared))
    return concluded


# -- plan ----------------------------------------------------------------------------------------------------------------


def prepare(call: Call) -> Prepared:
    """Read the host and decide: four requests when there is nothing to do. Raises HypervError for what concerns the whole task."""
    rules, run_id = _rules(call), checkpoint_choice.run_id_of(call)
    facts = checkpoint_facts.read(call)
    selection.warn_about_host(call, facts.host)
    choice = checkpoint_choice.choose(facts, call.params)
    chosen, refused = [], []
    for machine in choice.machines:
        try:
            chosen.append(Doomed(machine, checkpoint_rules.choose(facts, machine, rules), machine.busy == MERGING))
        except HypervError as error:
            refused.append((machine, error))
    if not call.params["wait"]:
        facts, chosen = _without_waiting(call, facts, chosen)
    repair = checkpoint_repair.look(call.reader, facts, run_id if call.params["run_id"] else None)
    if any(one.nodes for one in chosen):
        facts, chosen, more = _look_closer(call, facts, chosen, rules, repair)
        refused += more
    if choice.single and refused and not repair.steps():
        raise refused[0][1]
    return Prepared(facts, choice, tuple(chosen), tuple(refused), repair, run_id)


def _without_waiting(call: Call, facts: CheckpointFacts, chosen: Sequence[Doomed]) -> tuple[CheckpointFacts, list[Doomed]]:
    """One removal of each machine at a time: none where one goes on, or its merge, else the first."""
    if any(one.machine.busy in (REMOVING, MERGING) for one in chosen):
        facts = replace(facts, host=inventory.read_more(call.reader, facts.host, ("summary",)))
    found = []
    for one in chosen:
        summary = (facts.host.summaries or {}).get(one.machine.vm_id)
        job = next((job for job in (summary.jobs if summary else ()) if job.job_type in _GOING_ON), None)
        found.append(replace(one, nodes=() if job is not None else one.nodes[:1], going_on=job))
    return facts, found


def _rules(call: Call) -> Rules:
    params = call.params
    if params["keep_last"] is None and not any(
            params[key] for key in ("checkpoint_name", "checkpoint_id", "pattern", "older_than", "expired")):
        raise HypervError("Nothing says which checkpoints are to go.", error_code="no_rule",
                          hint="Give checkpoint_name, checkpoint_id, pattern, older_than, keep_last or expired.")
    if params["keep_last"] is not None and params["keep_last"] < 0:
        raise HypervError("keep_last is below zero.", error_code="no_rule")
    checkpoint_id = checkpoint_choice.checkpoint_guid(params["checkpoint_id"]) if params["checkpoint_id"] else None
    try:
        older_than = parse_age(params["older_than"]) if params["older_than"] else None
    except ValueError as error:
        raise HypervError(f"older_than: {error}", error_code="invalid_older_than") from error
    return Rules(params["checkpoint_name"], checkpoint_id, params["pattern"], older_than, params["keep_last"], params["expired"],
                 params["subtree"], params["include_user"])


def _look_closer(call: Call, facts: CheckpointFacts, chosen: Sequence[Doomed], rules: Rules,
                 repair: Repair) -> tuple[CheckpointFacts, list[Doomed], list[tuple[Machine, HypervError]]]:
    """Jobs, files, sizes and room, only because something goes."""
    facts = replace(facts, host=inventory.read_more(call.reader, facts.host, ("summary", "volumes")))
    facts = checkpoint_facts.with_virtual_disks(call.reader, facts)
    grown = [path for one in chosen for node in one.nodes for path in facts.files_grown_since(one.machine, node)]
    facts = checkpoint_facts.with_sizes(call.reader, facts, grown)
    facts = checkpoint_files.with_system_sizes(call.reader, facts, [node.checkpoint.checkpoint_id for one in chosen for node in one.nodes])
    going, refused = [], []
    for one in chosen:
        try:
            if one.nodes:
                _check(facts, one.machine, rules, repair)
                _warn_about_room(call, facts, one)
            going.append(one)
        except HypervError as error:
            refused.append((one.machine, error))
    return facts, going, refused


def _check(facts: CheckpointFacts, machine: Machine, rules: Rules, repair: Repair) -> None:
    """A merge, and another removal, are waited for; anything else that works on the machine is a reason to stop (operations 0.8, F-09)."""
    checkpoint_plan.refuse_busy(facts, machine, waited_for=(MERGING, REMOVING))
    repair.refuse_at_work(machine)
    if rules.checkpoint_id is None:
        checkpoint_plan.refuse_missing(facts, machine)


def _warn_about_room(call: Call, facts: CheckpointFacts, one: Doomed) -> None:
    need: dict[str, int] = {}
    for node in one.nodes:
        for path in facts.files_grown_since(one.machine, node):
            volume = facts.host.place(path).volume
            if volume is not None:
                need[volume.root] = max(need.get(volume.root, 0), facts.sizes.get(path) or 0)
                if volume.free is not None and volume.free < need[volume.root]:
                    call.warn(f"{one.machine.name}: {need[volume.root]} bytes are merged on {volume.root}, and {volume.free} are free: "
                              "the merge may stop half-way. The chain stays whole then.")


def _plan(prepared: Prepared) -> Plan:
    steps = list(prepared.repair.steps())
    before, after = {}, {}
    for one in prepared.doomed:
        going = {node.checkpoint.checkpoint_id for node in one.nodes}
        listed = prepared.facts.tree_of(one.machine).nodes
        before[one.machine.name] = [node.checkpoint.name for node in listed]
        after[one.machine.name] = [node.checkpoint.name for node in listed if node.checkpoint.checkpoint_id not in going]
        for node in one.nodes:
            told = checkpoint_facts.entry(prepared.facts, one.machine, node)
            steps.append(Step("remove_checkpoint", one.machine.name, {
                "vm_id": one.machine.vm_id, **{key: told[key] for key in ("id", "name", "owner", "kind", "created", "bytes")}}))
    entries = [_predicted(prepared, one) for one in prepared.doomed]
    return Plan(tuple(steps), {"checkpoints": before}, {"checkpoints": after}, _result(prepared, entries, []))


def _predicted(prepared: Prepared, one: Doomed) -> Entry:
    listed = [checkpoint_facts.entry(prepared.facts, one.machine, node) for node in one.nodes]
    job = one.going_on
    told = None if job is None else {"id": job.instance_id, "type": job.job_type, "percent": job.percent, "finished": False}
    return {"vm": checkpoint_choice.label(one.machine), "changed": bool(listed), "failed": False, "leftovers": [], "removed": listed,
            "job": told, "bytes": sum(entry["bytes"] or 0 for entry in listed),
            "merged": None if listed or job is not None else not one.unmerged}


def _result(prepared: Prepared, done: Sequence[Entry], leftovers: Sequence[Leftover]) -> dict[str, Any]:
    entries = [*done, *(checkpoint_choice.failed_entry(machine, error) for machine, error in prepared.refused)]
    for entry in entries:
        entry["leftovers"] = [*entry["leftovers"], *(one.as_result() for one in leftovers)]
    return checkpoint_choice.result(prepared.choice, entries, {
        "run_id": prepared.run_id, "changed": bool(prepared.repair.policies or prepared.repair.spent)})


# -- apply ---------------------------------------------------------------------------------------------------------------


def _done_entry(call: Call, tools: Tools, prepared: Prepared, one: Doomed) -> Entry:
    if call.params["wait"]:
        return _removed_entry(prepared, _remove(call, tools, prepared, one))
    return _removed_entry(prepared, _only_begin(tools, one)) if one.nodes else _predicted(prepared, one)


def _only_begin(tools: Tools, one: Doomed) -> Removed:
    """Begin the removal of the first. A lost answer is settled by the next run, which sees what is there."""
    removed = Removed(one)
    try:
        for node in one.nodes[:1]:
            if not _is_unchanged(tools, one.machine, node.checkpoint):
                continue
            tools.progress(_what(one.machine, node.checkpoint))
            job = checkpoint_service.destroy(tools.writer, node.checkpoint.reference)
            removed.still = None if job is None else jobs.read_job(tools.writer, job)
            removed.gone.append(node)
    except HypervError as error:
        removed.error = error
    return removed


def _remove(call: Call, tools: Tools, prepared: Prepared, one: Doomed) -> Removed:
    """One checkpoint after the other, each with its merge before the next: never two merges of one machine at once (operations 2.6)."""
    removed = Removed(one)
    facts = prepared.facts
    waits = call.params["wait_for_merge"]
    try:
        frozen: set[str] = set()
        merged: dict[checkpoint_merge.Key, tuple[str, ...]] | None = None
        for node in one.nodes:
            chains = None
            if waits:
                owners = {one.machine.vm_id, *(other.checkpoint.checkpoint_id for other in facts.tree_of(one.machine).nodes)}
                with contextlib.suppress(checkpoint_merge.Unreadable):
                    chains = checkpoint_merge.read_chains(tools.writer, owners, merged)
            in_time = replace(tools, deadline=Deadline(tools.clock, call.params["timeout"]))  # merges have a time of their own
            if destroy(in_time, one.machine, node.checkpoint):
                removed.gone.append(node)
            if waits:
                frozen.update(facts.files_of(node.checkpoint.checkpoint_id))
                merged = checkpoint_merge.after_removal(checkpoint_merge.waiting(tools, call.params["merge_timeout"]), one.machine,
                                                        chains, {node.checkpoint.checkpoint_id}, frozen)
        if waits and one.unmerged and not one.nodes:
            checkpoint_merge.until_quiet(checkpoint_merge.waiting(tools, call.params["merge_timeout"]), one.machine)
        removed.merged = True if waits else None
        removed.others = _gone_too(tools, prepared, one)
        if removed.others:
            raise HypervError(f"{len(removed.others)} other checkpoints of {one.machine.name!r} went with what was removed.",
                              error_code="others_removed", details={"candidates": [
                                  node.checkpoint.checkpoint_id for node in removed.others]})
    except HypervError as error:
        removed.error = error
        removed.merged = False if waits else None
    return removed


def destroy(tools: Tools, machine: Machine, one: Checkpoint) -> bool:
    """Remove one checkpoint, unless it became another's or is gone. False when somebody else had removed it. Tried twice.

    Raises Busy, HypervError ``checkpoint_changed`` or ``checkpoint_not_removed``, or why the host refuses. Its merge comes afterwards.
    """
    what = _what(machine, one)
    problem: HypervError | None = None
    for attempt in (0, 1):
        if not checkpoint_steps.idle(tools, machine):
            raise Busy(f"{what}: the host works on the machine and does not end.", hint="Run the task again later.")
        if not _is_unchanged(tools, machine, one):
            return attempt > 0
        tools.progress(what)
        try:
            checkpoint_steps.wait(tools, checkpoint_service.destroy(tools.writer, one.reference), what)
            return True
        except (OutcomeUnknown, Busy, NotFound, JobFailed) as error:
            problem = error
            tools.clock.sleep(5.0)
    try:
        checkpoint_service.read_one(tools.writer, one)
    except NotFound:
        return True
    raise problem or HypervError(f"{what} failed.", error_code="checkpoint_not_removed")


def _what(machine: Machine, one: Checkpoint) -> str:
    return f"removing the checkpoint {one.name!r} of {machine.name!r}"


def _is_unchanged(tools: Tools, machine: Machine, one: Checkpoint) -> bool:
    """False when it is gone. Raises HypervError ``checkpoint_changed`` when it became another's, or has another name."""
    try:
        now = checkpoint_service.read_one(tools.writer, one)
    except NotFound:
        return False
    if checkpoint_facts.owner_of(now) != checkpoint_facts.owner_of(one) or now.name != one.name:
        raise HypervError(f"{_what(machine, one)}: it became another's, or another name, meanwhile.", error_code="checkpoint_changed",
                          hint="Run the task again.")
    return True


def _gone_too(tools: Tools, prepared: Prepared, one: Doomed) -> tuple[Node, ...]:
    """Other checkpoints of the machine that went with those that were removed, or were removed by others meanwhile (operations 2.6)."""
    going = {node.checkpoint.checkpoint_id for node in one.nodes}
    if not going:
        return ()
    now = {found.checkpoint_id for found in checkpoint_service.read_all(tools.writer)}
    below = {child for node in one.nodes for child in prepared.facts.tree_of(one.machine).subtree(node.checkpoint.checkpoint_id)}
    return tuple(node for node in prepared.facts.tree_of(one.machine).nodes
                 if node.checkpoint.checkpoint_id in below - going and node.checkpoint.checkpoint_id not in now)


def _removed_entry(prepared: Prepared, removed: Removed) -> Entry:
    one = removed.doomed
    listed = [checkpoint_facts.entry(prepared.facts, one.machine, node) for node in removed.gone]
    entry: Entry = {"vm": checkpoint_choice.label(one.machine), "changed": bool(listed), "failed": removed.error is not None,
                    "leftovers": [], "removed": listed, "job": checkpoint_steps.job_result(removed.still),
                    "bytes": sum(told["bytes"] or 0 for told in listed), "merged": removed.merged}
    if removed.error is not None:
        entry.update({"msg": removed.error.message, **removed.error.as_result()})
        entry["leftovers"] = [leftover.as_result() for leftover in removed.error.leftovers]
    return entry


def _wait_for_earlier(call: Call, prepared: Prepared) -> dict[str, Any]:
    """Nothing goes, and a merge that an earlier run began is waited for; only reading."""
    if not call.params["wait"] or not call.params["wait_for_merge"] or not any(one.unmerged for one in prepared.doomed):
        return {}
    entries = []
    for one in prepared.doomed:
        entry = _predicted(prepared, one)
        if one.unmerged:
            wait = checkpoint_merge.Waiting(call.reader, call.clock, Deadline(call.clock, call.params["merge_timeout"]), call.progress,
                                            lambda: None)
            try:
                checkpoint_merge.until_quiet(wait, one.machine)
                entry["merged"] = True
            except HypervError as error:
                entry.update({"failed": True, "msg": error.message, **error.as_result()})
        entries.append(entry)
    return _result(prepared, entries, [])
