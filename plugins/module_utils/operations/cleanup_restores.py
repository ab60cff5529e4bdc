# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What interrupted restores left, for the clean-up: findings with their status, and the removal run by run (:mod:`.restore_leftovers`)."""
from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TypeAlias

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    restore_import,
    restore_intents,
    restore_leftovers,
    restore_run,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_runs import Judge
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_copy import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_intents import RestoreIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_leftovers import FOREIGN, OURS, RestoreFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import SYSTEM_IDENTITY
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.shadow_lifecycle import Tools as CleanupTools
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder

Told: TypeAlias = tuple[Leftover, str, timedelta | None, str | None]
"""A thing with its status, its age and its run."""
PATIENCE = 900.0
"""Seconds for taking away what one run left."""


def found(facts: RestoreFacts, folder: StateFolder, judge: Judge, now: datetime) -> Iterator[Told]:
    """Everything; planned machines of others are told, too."""
    by_run = {intent.run_id.lower(): now - intent.host_time for intent in facts.intents}
    for one in facts.planned:
        kind = "planned_vm" if one.owner == OURS else f"{one.owner}_planned_vm"
        age = by_run.get((one.run_id or "").lower())
        status = judge.status(one.run_id, age, "removable") if one.owner == OURS else one.owner
        yield restore_import.planned_leftover(one.machine.vm_id, one.machine.name, kind), status, age, _run(one.owner, one.run_id)
    for machine in facts.drills:
        age = by_run.get(machine.run_id.lower())
        status = judge.status(machine.run_id, age, "removable")
        yield restore_import.machine_leftover(machine.vm_id, machine.name), status, age, machine.run_id
    for intent in facts.intents:
        yield from _of_intent(facts, folder, judge, intent, now - intent.host_time)


def _run(owner: str, run_id: str | None) -> str | None:
    return None if owner == FOREIGN else run_id


def _of_intent(facts: RestoreFacts, folder: StateFolder, judge: Judge, intent: RestoreIntent, age: timedelta) -> Iterator[Told]:
    status = judge.status(intent.run_id, age)
    if intent.folder in facts.folders - facts.kept:
        yield restore_leftovers.files_leftover(intent.folder), status, age, intent.run_id
    doubtful = any(one.owner == restore_leftovers.SUSPECT and one.intent == intent for one in facts.planned)
    yield restore_intents.STORE.leftover(folder, intent), "suspect" if doubtful and status == "removable" else status, age, intent.run_id


def sweep(tools: CleanupTools, facts: RestoreFacts, run_id: str) -> list[Leftover]:
    """Take away what one run left. Its lease is held. Returns what is still there."""
    own = Tools(writer=tools.writer, clock=tools.clock, progress=tools.progress, deadline=Deadline(tools.clock, PATIENCE),
                folder=tools.folder, identity=SYSTEM_IDENTITY, knocks_as="SYSTEM")
    return restore_run.sweep(own, facts, run_id)
