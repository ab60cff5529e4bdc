# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_checkpoint`` with state present: there is a checkpoint of ours by this name, of the kind that was asked for."""
from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_tree import Node
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.jobs import Job
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_adoption,
    checkpoint_choice,
    checkpoint_create,
    checkpoint_facts,
    checkpoint_files,
    checkpoint_intents,
    checkpoint_plan,
    checkpoint_repair,
    checkpoint_steps,
    inventory,
    selection,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_adoption import Begun
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_choice import Choice, Entry
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_create import Made, Work
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import CheckpointFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_intents import CheckpointIntent, MachineIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_plan import Planned, Wanted
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_repair import Repair
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import RunLease
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vm_result import iso
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import checkpoint_marks
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import Verdict
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import parse_age
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state

_MORE = ("summary", "disks", inventory.QUIESCING, "volumes")
_EVIDENCE = {
    "application": "production checkpoint: the guest's writers were quiesced through its backup integration service",
    "filesystem": "production checkpoint: the guest froze its file systems",
    "image": "disks and memory are of one moment, or the virtual machine was off",
    "crash": "disks of one moment, nothing was quiesced",
}


@dataclass(frozen=True)
class Prepared:
    """Everything that was read and decided before anything is written."""

    facts: CheckpointFacts
    choice: Choice
    wanted: Wanted
    there: tuple[tuple[Machine, Node], ...]
    planned: tuple[Planned, ...]
    refused: tuple[tuple[Machine, HypervError], ...]
    repair: Repair
    begun: tuple[tuple[Machine, Begun], ...]
    waits: bool

    @property
    def adopted(self) -> tuple[tuple[Machine, Begun], ...]:
        """Creations of an earlier run that are brought to their end now."""
        return tuple((machine, one) for machine, one in self.begun if self.waits or not one.runs)

    @property
    def going_on(self) -> tuple[tuple[Machine, Begun], ...]:
        """Those that go on, and nobody waits for."""
        return tuple((machine, one) for machine, one in self.begun if one.runs and not self.waits)


def run(call: Call) -> dict[str, Any]:
    """The result of the task; ``failed`` is set when it failed for any machine."""
    prepared = prepare(call)

    def apply(writer: CimWriter) -> dict[str, Any]:
        return _apply(call, prepared, writer)

    concluded = call.conclude(_plan(prepared), apply)
    if prepared.choice.single and concluded.get("failed") and "msg" not in concluded:
        concluded["msg"] = "No checkpoint was made."
    return concluded


def prepare(call: Call) -> Prepared:
    """Read the host and decide. Raises HypervError for what concerns the whole task."""
    params, run_id = call.params, checkpoint_choice.run_id_of(call)
    name = checkpoint_plan.check_name(params["checkpoint_name"])
    lasts = _expires_after(params["expires_after"])
    facts = checkpoint_facts.read(call)
    selection.warn_about_host(call, facts.host)
    # whole seconds: so it stands in the mark, and is compared with what the host shows
    expires = None if lasts is None else (facts.host.system.local_time + lasts).replace(microsecond=0)
    wanted = Wanted(name, params["kind"], run_id, params["notes"], expires,
                    params["min_free_percent"] / 100)
    choice = checkpoint_choice.choose(facts, params)
    there, due, refused = [], [], []
    for machine in choice.machines:
        try:
            found = checkpoint_plan.present(facts, machine, wanted)
        except HypervError as error:
            refused.append((machine, error))
            continue
        if found is not None:
            there.append((machine, found))
            _warn_expired(call, facts, machine, found)
        else:
            due.append(machine)
    repair = checkpoint_repair.look(call.reader, facts, run_id)
    looked = [(machine, checkpoint_adoption.find(repair.begun, machine, name)) for machine in due]
    begun = tuple((machine, one) for machine, one in looked if one is not None)
    due = [machine for machine, one in looked if one is None]
    planned = []
    if due:
        facts = replace(facts, host=inventory.read_more(call.reader, facts.host, _MORE))
        locations = checkpoint_files.read_locations(call.reader, due)
        for machine in due:
            try:
                planned.append(checkpoint_plan.plan(facts, machine, wanted, repair, locations))
            except HypervError as error:
                refused.append((machine, error))
    for item in planned:
        for warning in item.warnings:
            call.warn(warning)
    if choice.single and refused and not repair.steps():
        raise refused[0][1]
    return Prepared(facts, choice, wanted, tuple(there), tuple(planned), tuple(refused), repair, begun, params["wait"])


def _expires_after(text: str | None) -> Any:
    try:
        return parse_age(text) if text else None
    except ValueError as error:
        raise HypervError(f"expires_after: {error}", error_code="invalid_expires_after") from error


def _warn_expired(call: Call, facts: CheckpointFacts, machine: Machine, node: Node) -> None:
    if checkpoint_marks.expired(checkpoint_facts.mark_of(node.checkpoint), facts.host.system.local_time):
        call.warn(f"{machine.name}: the checkpoint {node.checkpoint.name!r} is there, and its time is over.")


# -- plan ----------------------------------------------------------------------------------------------------------------


def _plan(prepared: Prepared) -> Plan:
    steps = list(prepared.repair.steps())
    for item in prepared.planned:
        work = item.work
        if work.changes_policy:
            steps.append(Step("change_checkpoint_policy", work.machine.name, {"from": work.was, "to": work.now, "for": "a moment"}))
        steps.append(Step("create_checkpoint", work.machine.name, {"vm_id": work.machine.vm_id, "name": work.name, "kind": work.kind,
                                                                   "expires": iso(work.expires)}))
    steps += [Step("adopt_checkpoint", machine.name, {"vm_id": machine.vm_id, "name": prepared.wanted.name, "run_id": one.intent.run_id})
              for machine, one in prepared.adopted]
    names = {machine.name: [node.checkpoint.name for node in prepared.facts.tree_of(machine).nodes] for machine in prepared.choice.machines}
    after = {name: list(found) for name, found in names.items()}
    for machine in (*(item.work.machine for item in prepared.planned), *(machine for machine, _unused in prepared.adopted)):
        after[machine.name].append(prepared.wanted.name)
    entries = [*(_predicted(item.work, _consistency(item.verdict, item.work, item.verdict.level or item.work.level))
                 for item in prepared.planned),
               *(_predicted(work, _consistency(None, work, work.level)) for work, _unused in _works(prepared, prepared.adopted))]
    return Plan(tuple(steps), {"checkpoints": names}, {"checkpoints": after}, _result(prepared, entries, []))


def _works(prepared: Prepared, begun: Sequence[tuple[Machine, Begun]]) -> list[tuple[Work, Begun]]:
    wanted = prepared.wanted
    return [(checkpoint_adoption.work_of(one, machine, name=wanted.name, kind=wanted.kind, notes=wanted.notes, expires=wanted.expires), one)
            for machine, one in begun]


def _predicted(work: Work, consistent: Mapping[str, Any], *, changed: bool = True, job: Job | None = None) -> Entry:
    return {"vm": checkpoint_choice.label(work.machine), "changed": changed, "failed": False, "leftovers": [],
            "job": checkpoint_steps.job_result(job), "consistency": consistent,
            "checkpoint": {"name": work.name, "kind": _kind(work.kind), "owner": checkpoint_facts.OURS, "run_id": work.run_id,
                           "expires": iso(work.expires), "notes": work.notes}}


def _kind(kind: str) -> str:
    return checkpoint_facts.STANDARD if kind == checkpoint_create.STANDARD else checkpoint_facts.PRODUCTION


def _consistency(verdict: Verdict | None, work: Work, achieved: str | None) -> dict[str, Any]:
    def told(kind: str) -> list[str]:
        return [] if verdict is None else [reason.sentence for reason in verdict.of_kind(kind)]

    return {"requested": work.kind, "achieved": achieved, "evidence": _EVIDENCE.get(achieved or "", "no checkpoint was made"),
            "not_captured": told("not_captured"), "unknowns": told("unknown")}


def _still(prepared: Prepared) -> list[Entry]:
    """Creations that go on: nothing was achieved yet."""
    return [_predicted(work, _consistency(None, work, None), changed=False, job=one.job)
            for work, one in _works(prepared, prepared.going_on)]


def _there(prepared: Prepared, machine: Machine, node: Node) -> Entry:
    one = checkpoint_facts.entry(prepared.facts, machine, node)
    return {"vm": checkpoint_choice.label(machine), "changed": False, "failed": False, "leftovers": [], "job": None, "checkpoint": one,
            "consistency": {"requested": prepared.wanted.kind, "achieved": one["consistency"], "not_captured": [], "unknowns": [],
                            "evidence": "what its notes say was reached when it was made"}}


def _result(prepared: Prepared, done: Sequence[Entry], leftovers: Sequence[Leftover]) -> dict[str, Any]:
    entries = [*done, *_still(prepared), *(_there(prepared, machine, node) for machine, node in prepared.there),
               *(checkpoint_choice.failed_entry(machine, error) for machine, error in prepared.refused)]
    common = {"run_id": prepared.wanted.run_id, "changed": bool(prepared.repair.policies or prepared.repair.spent)}
    for entry in entries:
        entry["leftovers"] = [*entry["leftovers"], *(one.as_result() for one in leftovers)]
        if any(one.kind == "checkpoint_policy" and one.id == entry["vm"]["vm_id"] for one in leftovers) and not entry["failed"]:
            entry.update({"failed": True, "error_code": "policy_not_restored",
                          "msg": f"The checkpoint policy of {entry['vm']['name']!r} could not be set back."})
    return checkpoint_choice.result(prepared.choice, entries, common)


# -- apply ---------------------------------------------------------------------------------------------------------------


def _apply(call: Call, prepared: Prepared, writer: CimWriter) -> dict[str, Any]:
    """The intent stands from the moment the lease is taken to the moment it is given back; longer when it has something to say."""
    folder, host = prepared.facts.folder, prepared.facts.host.system
    leftovers: list[Leftover] = []
    made: list[Made] = []
    works = [item.work for item in prepared.planned]
    intent = intent_for(prepared.wanted.run_id, host.time_now(call.clock), works, prepared.wanted.name)
    state.ensure(writer, folder)
    with RunLease(writer, call.clock, folder, prepared.wanted.run_id, host_time=lambda: host.time_now(call.clock),
                  announce=checkpoint_intents.STORE.text_of(folder, intent) if works else None) as lease:
        tools = Tools(writer, call.clock, call.progress, Deadline(call.clock, call.params["timeout"]), lease.keep)
        leftovers += checkpoint_repair.carry_out(tools, folder, prepared.repair)
        made = [checkpoint_adoption.adopt(tools, work, one) for work, one in _works(prepared, prepared.adopted)]
        leftovers += checkpoint_repair.forget(tools, folder, _spent(prepared, made))
        own = make_all(works, tools, wait=prepared.waits, record=lambda done: checkpoint_adoption.record(tools, folder, intent, done))
        left = checkpoint_intents.STORE.leftover(folder, intent)
        if any(one.leftovers or not (one.settled or (one.still is not None and one.error is None)) for one in own):
            leftovers.append(left)
        elif works and all_settled(own):
            lease.retract(left)
        made += own
    leftovers += lease.told(call.warn)
    return _result(prepared, _proved(prepared, tools, made), leftovers)


def _spent(prepared: Prepared, made: Sequence[Made]) -> list[CheckpointIntent]:
    """Intents of which everything was adopted."""
    done = {one.work.machine.vm_id for one in made if one.settled and not one.leftovers}
    found = {begun.intent.file_name: begun.intent for _unused, begun in prepared.adopted}
    return [intent for intent in found.values() if all(told.vm_id in done for told in intent.machines)]


def intent_for(run_id: str, host_time: datetime, works: Sequence[Work], name: str | None = None) -> CheckpointIntent:
    """What is announced before these are made."""
    return CheckpointIntent(run_id, secrets.token_hex(4), host_time, tuple(
        MachineIntent(work.machine.vm_id, work.was, work.now) for work in works), name)


def make_all(works: Sequence[Work], tools: Tools, *, wait: bool = True,
             record: Callable[[Sequence[Made]], object] = lambda _made: None) -> list[Made]:
    """One after the other. The intent stands already. ``record`` is called after each that goes on in the end."""
    made = []
    for work in works:
        if tools.deadline.expired():
            made.append(Made(work, error=HypervError("The time for this task was over before the checkpoint was begun.",
                                                     error_code="timeout", hint="Raise timeout.")))
            continue
        tools.keep()
        made.append(checkpoint_create.make(tools, work, wait=wait))
        if made[-1].still is not None:
            try:
                record(made)
            except HypervError as error:
                made[-1].error = made[-1].error or error
    return made


def all_settled(made: Sequence[Made]) -> bool:
    """True when the intent has nothing more to say."""
    return all(one.settled and not one.leftovers for one in made)


def _proved(prepared: Prepared, tools: Tools, made: Sequence[Made]) -> list[Entry]:
    """Read the host again: each checkpoint is there, and its machine writes to new files on top of it (operations 2.3)."""
    facts, verdicts = prepared.facts, {item.work.machine.vm_id: item.verdict for item in prepared.planned}
    if any(one.checkpoint is not None for one in made):
        try:
            facts = checkpoint_facts.read_again(tools.writer, facts)
        except HypervError as error:
            for one in made:
                one.error = one.error or error
    return [_made_entry(prepared.facts, facts, verdicts.get(one.work.machine.vm_id), one) for one in made]


def _made_entry(before: CheckpointFacts, after: CheckpointFacts, verdict: Verdict | None, one: Made) -> Entry:
    machine, error = one.work.machine, one.error
    consistent = _consistency(verdict, one.work, None if one.checkpoint is None else one.achieved)
    if one.still is not None and error is None:
        return _predicted(one.work, consistent, job=one.still)
    entry: Entry = {"vm": checkpoint_choice.label(machine), "changed": one.checkpoint is not None, "leftovers": [],
                    "job": checkpoint_steps.job_result(one.job), "consistency": consistent}
    if one.checkpoint is not None:
        node = after.tree_of(machine).by_id.get(one.checkpoint.checkpoint_id)
        if node is None:
            error = error or HypervError(f"The checkpoint of {machine.name!r} was made, and is not there any more.",
                                         error_code="checkpoint_vanished", hint="Somebody removed it.")
        else:
            entry["checkpoint"] = checkpoint_facts.entry(after, machine, node)
            error = error or _not_grown(before, after, machine, node)
    entry["failed"] = error is not None
    if error is not None:
        entry.update({"msg": error.message, **error.as_result()})
        entry["leftovers"] = [one.as_result() for one in error.leftovers]
    entry["leftovers"] += [leftover.as_result() for leftover in one.leftovers]
    return entry


def _not_grown(before: CheckpointFacts, after: CheckpointFacts, machine: Machine, node: Node) -> HypervError | None:
    """Nothing that the machine writes to may be a file of before, or one that the checkpoint keeps."""
    old = {path.lower() for path in (*before.files_of(machine.vm_id), *after.files_of(node.checkpoint.checkpoint_id))}
    same = [path for path in after.files_of(machine.vm_id) if path.lower() in old]
    if not same:
        return None
    return HypervError(f"The checkpoint of {machine.name!r} is there, and the machine still writes to {same[0]}.",
                       error_code="chain_not_grown", hint="The checkpoint does not hold this disk; do not rely on it.")
