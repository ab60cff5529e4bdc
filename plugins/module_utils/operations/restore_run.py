# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One restore from its intent to its end: intent, files, planned machine, real machine, guest; and the way back in every outcome.

Up to the moment when the machine is a real one, everything that was made goes again. A drill removes that, too, whatever it came to.
What cannot be removed is named, and the intent stays beside it, so that the clean-up finds it.
"""
from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, NotFound
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks, import_service, machines, planned
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    restore_boot,
    restore_copy,
    restore_import,
    restore_intents,
    restore_leftovers,
    restore_plan,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_boot import Alive
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_copy import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_import import Made, Wish
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_intents import RestoreIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_request import Request
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_source import Source
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.restore_marks import IN_PLACE
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import job_runs, system
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import CopyFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import LeaseLost
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import TaskName

PURPOSE = "restore"


@dataclass(frozen=True)
class Order:
    """What is restored, under which name, where its files go, and the machine of the same identity that it takes the place of.
    ``looked``: the host has read the definition file where the backup lies; else it does so once that has arrived."""

    source: Source
    name: str
    place: CopyFolder
    verify: str
    old: Machine | None = None
    looked: bool = True

    @property
    def task(self) -> str:
        """The GUID that the job of the copy is named by."""
        return self.source.vm_id


@dataclass
class Outcome:
    """What became of it. ``seconds``: from the beginning to the end of each phase. ``replaced``: the machine that was unregistered."""

    made: Made = field(default_factory=Made)
    machine: Machine | None = None
    alive: Alive | None = None
    error: HypervError | None = None
    leftovers: list[Leftover] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    replaced: dict[str, Any] | None = None
    copied: bool = False

    @property
    def recovery_seconds(self) -> float | None:
        """From the beginning of the restore to the heartbeat."""
        return self.seconds.get("heartbeat")


def execute(tools: Tools, request: Request, order: Order) -> Outcome:
    """Restore. The state folder is trusted, and the run has its lease. What failed is in the outcome, never raised."""
    outcome = Outcome()
    began = tools.clock.monotonic()

    def reached(phase: str) -> None:
        outcome.seconds[phase] = round(tools.clock.monotonic() - began, 1)

    intent: RestoreIntent | None = None
    try:
        intent = _announce(tools, request, order)
        _restore(tools, request, order, outcome, intent, reached)
    except HypervError as error:
        outcome.error = error
    if intent is not None:
        _close(tools.to_the_end(), request, order, outcome, intent)
        reached("removed" if request.drill else "end")
    return outcome


def _announce(tools: Tools, request: Request, order: Order) -> RestoreIntent:
    source = order.source
    intent = RestoreIntent(
        request.run_id, secrets.token_hex(4), system.read_time(tools.writer), request.mode, source.vm_id, source.vm_name, order.name,
        source.backup_id, order.place.path, tuple(sorted(planned.read_ids(tools.writer))))
    try:
        restore_intents.STORE.write(tools.writer, tools.folder, intent)
    except HypervError as error:
        error.leftovers = (*error.leftovers, *forget(tools, intent))
        raise
    return intent


def _restore(tools: Tools, request: Request, order: Order, outcome: Outcome, intent: RestoreIntent, reached: Any) -> None:
    source, folder = order.source, order.place.path
    outcome.copied = True  # from here on the folder may be there
    name = TaskName(order.task, request.run_id, PURPOSE)
    outcome.leftovers += job_runs.over_again(tools.writer, tools.folder, name, lambda: restore_copy.run(
        tools, source, order.place, name, order.verify), clock=tools.clock)
    if not order.looked:
        definition = import_service.read_definition(tools.writer, restore_plan.definition_at(source, folder))
        restore_plan.check_identity(request, source, definition.vm_id)
    restore_copy.mend_chains(tools, source, folder)
    reached("copied")
    wish = Wish(source, folder, order.name, request.run_id, request.mode, request.mode != IN_PLACE, request.networks)
    before = frozenset(intent.planned_before)
    if order.old is not None:
        rehearse(tools, wish, outcome.made, before)
        tools = tools.to_the_end()  # from here on a machine that existed is in nobody's list
        outcome.replaced = _unregister(tools, order.old)
    restore_import.plan(tools, wish, outcome.made, before)
    restore_import.validate(tools, outcome.made, order.name)
    outcome.machine = restore_import.realize(tools, wish, outcome.made)
    _check(tools, order, outcome.machine)
    reached("restored")
    if request.runs:
        restore_boot.start(tools, outcome.machine)
        reached("started")
    if request.heartbeat or request.drill:
        outcome.alive = restore_boot.wait_for_heartbeat(tools, outcome.machine, request.heartbeat_timeout)
        reached("heartbeat")


def rehearse(tools: Tools, wish: Wish, made: Made, before: frozenset[str]) -> None:
    """Import and validate under an identity of its own, and take it away again: so that nothing is given up for a machine that this host
    cannot take. Raises what stops it."""
    tools.progress(f"{wish.name}: looking whether this host can take it")
    restore_import.plan(tools, replace(wish, new_id=True), made, before)
    restore_import.validate(tools, made, wish.name)
    vm_id = made.planned_id or ""
    restore_import.destroy(tools, planned.reference_of(vm_id), f"destroying the planned virtual machine {wish.name!r}")
    made.planned_id = None


def _unregister(tools: Tools, old: Machine) -> dict[str, Any]:
    """Take the old machine's registration away. Its disks stay where they are, whatever happens (operations 3.5).

    Raises HypervError ``vm_not_off`` when it was started meanwhile.
    """
    now = next((one for one in machines.read_machines(tools.writer).machines if one.vm_id == old.vm_id), None)
    if now is None:
        return _told(old, ())
    if now.state != "off" or now.busy is not None:
        raise HypervError(f"{old.name!r} is {now.busy or now.state} now: it is not replaced.", error_code="vm_not_off",
                          hint="Shut it down, and run the task again.")
    paths = tuple(sorted(disk.path or "" for disk in disks.read_virtual_disks(tools.writer) if disk.owner_id == old.vm_id))
    tools.progress(f"{old.name}: taking the old registration away; its {len(paths)} disk(s) stay")
    restore_import.destroy(tools, old.reference, f"taking the registration of {old.name!r} away")
    return _told(old, paths)


def _told(old: Machine, paths: tuple[str, ...]) -> dict[str, Any]:
    return {"vm_id": old.vm_id, "name": old.name, "disks": list(paths)}


def _check(tools: Tools, order: Order, machine: Machine) -> None:
    """Every disk of the real machine is one of the copied files. Raises HypervError ``disk_elsewhere``."""
    own = [disk.path or "" for disk in disks.read_virtual_disks(tools.writer) if disk.owner_id == machine.vm_id]
    elsewhere = [path for path in own if not planned.lies_in(path, order.place.path)]
    if elsewhere:
        raise HypervError(f"{machine.name!r} is there, and its disk {elsewhere[0]} is none of those that were restored.",
                          error_code="disk_elsewhere", hint="Do not start it: it would write to that file. Look at its settings.")


# -- the way back --------------------------------------------------------------------------------------------------------


def _close(tools: Tools, request: Request, order: Order, outcome: Outcome, intent: RestoreIntent) -> None:
    """Take back what has to go, and the intent when nothing is left that it tells of."""
    if isinstance(outcome.error, LeaseLost):
        _keep_all(tools, order, outcome, intent)
        return
    left = list(restore_import.doubtful_leftovers(outcome.made, order.name))
    stays = outcome.made.machine_id is not None and not request.drill
    if not stays:
        left += _take_back(tools, request, order, outcome)
    if left:
        left.append(restore_intents.STORE.leftover(tools.folder, intent))
    else:
        left += forget(tools, intent)
    if outcome.error is not None:
        outcome.leftovers += outcome.error.leftovers
        outcome.error.leftovers = ()
    outcome.leftovers += left


def _keep_all(tools: Tools, order: Order, outcome: Outcome, intent: RestoreIntent) -> None:
    """Somebody else holds the lease of this run: it is theirs to remove, and nothing is touched any more."""
    made = outcome.made
    if made.planned_id is not None:
        outcome.leftovers.append(restore_import.planned_leftover(made.planned_id, order.name))
    outcome.leftovers += [restore_leftovers.files_leftover(order.place.path), restore_intents.STORE.leftover(tools.folder, intent)]


def _take_back(tools: Tools, request: Request, order: Order, outcome: Outcome) -> list[Leftover]:
    made, left = outcome.made, []
    vm_id = made.planned_id
    if vm_id is not None:
        try:
            restore_import.destroy(tools, planned.reference_of(vm_id), f"destroying the planned virtual machine {order.name!r}")
            made.planned_id = None
        except HypervError as error:
            left.append(_told_left(tools, error, restore_import.planned_leftover(vm_id, order.name)))
    machine = outcome.machine or _real(tools, made)
    if machine is not None:
        try:
            restore_leftovers.remove_machine(tools, machine.vm_id, request.run_id, [order.place.path])
        except HypervError as error:
            left.append(_told_left(tools, error, restore_import.machine_leftover(machine.vm_id, machine.name)))
    if outcome.copied:
        left += _stop_job(tools, request, order, outcome)
        try:
            restore_leftovers.remove_files(tools, order.place.path)
        except HypervError as error:
            left.append(_told_left(tools, error, restore_leftovers.files_leftover(order.place.path)))
    return left


def _stop_job(tools: Tools, request: Request, order: Order, outcome: Outcome) -> list[Leftover]:
    """End the copy, which may go on without us, before its files are removed."""
    name = TaskName(order.task, request.run_id, PURPOSE)
    if outcome.error is None or "restored" in outcome.seconds:
        return []
    left = job_runs.remove(tools.writer, tools.folder, name, clock=tools.clock)
    outcome.error.leftovers = tuple(one for one in outcome.error.leftovers if one.id != name.text)
    return left


def _real(tools: Tools, made: Made) -> Machine | None:
    """The machine that a realisation made although something after it failed."""
    if made.machine_id is None:
        return None
    try:
        return next((one for one in machines.read_machines(tools.writer).machines if one.vm_id == made.machine_id), None)
    except (HypervError, NotFound):
        return None


def _told_left(tools: Tools, error: HypervError, leftover: Leftover) -> Leftover:
    tools.progress(f"{leftover.kind.replace('_', ' ')} {leftover.id} is still there: {error.message}")
    return leftover


def forget(tools: Tools, intent: RestoreIntent) -> list[Leftover]:
    """Take an intent away; what is still there."""
    try:
        restore_intents.STORE.remove(tools.writer, tools.folder, intent)
    except HypervError as error:
        return [_told_left(tools, error, restore_intents.STORE.leftover(tools.folder, intent))]
    return []


def sweep(tools: Tools, facts: restore_leftovers.RestoreFacts, run_id: str) -> list[Leftover]:
    """Remove what a run that is not at work any more left: its planned machines, machines of its drill, files, intents.

    The lease of that run is held. Returns what is still there.
    """
    own, left = facts.of_run(run_id), []
    for verdict in own.planned:
        try:
            restore_leftovers.remove_planned(tools, verdict.machine)
        except HypervError as error:
            left.append(_told_left(tools, error, restore_import.planned_leftover(verdict.machine.vm_id, verdict.machine.name)))
    for machine in own.drills:
        try:
            restore_leftovers.remove_machine(tools, machine.vm_id, run_id, [intent.folder for intent in own.intents if intent.folder])
        except HypervError as error:
            left.append(_told_left(tools, error, restore_import.machine_leftover(machine.vm_id, machine.name)))
    for intent in own.intents:
        left += job_runs.remove(tools.writer, tools.folder, TaskName(intent.source_id, intent.run_id, PURPOSE), clock=tools.clock)
        left += _sweep_intent(tools, intent, facts, bool(left))
    return left


def _sweep_intent(tools: Tools, intent: RestoreIntent, facts: restore_leftovers.RestoreFacts, blocked: bool) -> list[Leftover]:
    """The files of an intent, unless they belong to a machine that was restored after all; and the intent itself."""
    suspects = [one for one in facts.planned if one.owner == restore_leftovers.SUSPECT and one.intent == intent]
    try:
        if intent.folder in facts.folders - facts.kept:
            restore_leftovers.remove_files(tools, intent.folder)
    except HypervError as error:
        return [_told_left(tools, error, restore_leftovers.files_leftover(intent.folder)),
                restore_intents.STORE.leftover(tools.folder, intent)]
    if blocked or suspects:
        return [restore_intents.STORE.leftover(tools.folder, intent)]
    return forget(tools, intent)
