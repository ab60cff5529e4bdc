# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkpoint that is made for one export: made by the checkpoint operations, found again by its mark, removed, its merge watched."""
from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import checkpoint_service
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_absent,
    checkpoint_facts,
    checkpoint_intents,
    checkpoint_merge,
    checkpoint_present,
    checkpoint_repair,
    export_record,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_create import Made
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_merge import Key
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_plan import Planned
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools as Steps
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_work import Tools

_REMOVAL = 900.0
"""Seconds that the removal of a checkpoint gets, whatever is left for the task: what was begun is brought to its end."""


def steps(tools: Tools) -> Steps:
    """The tools of the checkpoint operations."""
    return Steps(tools.writer, tools.clock, tools.progress, tools.deadline, tools.lease.keep)


def make(tools: Tools, planned: Planned, run_id: str, host_time: datetime) -> tuple[Made, list[Leftover]]:
    """Make it, between the writing of an intent of its own and that one's removal; the error, if any, is in the answer.

    The mark that makes it ours has the run and the name. Raises what keeps the intent from being written.
    """
    intent = checkpoint_present.intent_for(run_id, host_time, [planned.work])
    checkpoint_intents.STORE.write(tools.writer, tools.folder, intent)
    made = checkpoint_present.make_all([planned.work], steps(tools))
    if checkpoint_present.all_settled(made):
        return made[0], checkpoint_repair.forget(steps(tools), tools.folder, [intent])
    return made[0], [checkpoint_intents.STORE.leftover(tools.folder, intent)]


def find(reader: CimReader, vm_id: str, run_id: str) -> Checkpoint | None:
    """The one that a run made for its export of a VM; one request."""
    return next((one for one in checkpoint_service.read_all(reader) if is_of(one, vm_id, run_id)), None)


def is_of(one: Checkpoint, vm_id: str, run_id: str) -> bool:
    """True for the one that a run made for its export of a VM."""
    mark = checkpoint_facts.mark_of(one)
    return one.vm_id == vm_id and one.name == export_record.checkpoint_name(run_id) and mark is not None and mark.run_id == run_id


@dataclass(frozen=True)
class Merge:
    """What has to be waited for once a checkpoint is removed: the chains as they were, None when they could not be read."""

    checkpoint: Checkpoint
    chains: Mapping[Key, tuple[str, ...]] | None

    @property
    def frozen(self) -> set[str]:
        """The files that it kept."""
        return {chain[0] for key, chain in (self.chains or {}).items() if key[0] == self.checkpoint.checkpoint_id}


def remove(tools: Steps, machine: Machine, checkpoint: Checkpoint) -> Merge:
    """Remove it. Raises HypervError; then it is in the error's ``leftovers``."""
    owners = {machine.vm_id, *(one.checkpoint_id for one in checkpoint_service.read_all(tools.writer) if one.vm_id == machine.vm_id)}
    chains = None
    with contextlib.suppress(checkpoint_merge.Unreadable):
        chains = checkpoint_merge.read_chains(tools.writer, owners)
    try:
        in_time = replace(tools, deadline=Deadline(tools.clock, max(_REMOVAL, tools.deadline.remaining())))
        checkpoint_absent.destroy(in_time, machine, checkpoint)
    except HypervError as error:
        error.leftovers = (*error.leftovers, leftover(machine, checkpoint))
        raise
    return Merge(checkpoint, chains)


def wait_for_merge(tools: Tools, machine: Machine, merge: Merge, seconds: float) -> None:
    """Wait until the chains are as short as before the export. Raises HypervError ``merge_not_done``, with what to do (operations 3.6)."""
    waiting = checkpoint_merge.waiting(steps(tools), seconds)
    try:
        checkpoint_merge.after_removal(waiting, machine, merge.chains, {merge.checkpoint.checkpoint_id}, merge.frozen)
    except HypervError as error:
        if error.error_code == "merge_not_done":
            error.message = f"The export is complete, but the chain does not merge after it. {error.message}"
            error.hint = (f"{error.hint or ''} If it never begins: an export can leave a chain locked until the virtual machine, or the "
                          "service VMMS, is restarted in a window.").strip()
        raise


def leftover(machine: Machine, checkpoint: Checkpoint) -> Leftover:
    """The checkpoint, when it stays."""
    return Leftover("checkpoint", checkpoint.checkpoint_id, f"{machine.name} ({machine.vm_id})",
                    f"Get-VM -Id {machine.vm_id} | Get-VMSnapshot | Where-Object Id -eq {checkpoint.checkpoint_id} | Remove-VMSnapshot")


def unseen(machine: Machine, run_id: str) -> Leftover:
    """The checkpoint that a run may have made, when nobody could look."""
    name = export_record.checkpoint_name(run_id)
    return Leftover("suspect_checkpoint", name, f"{machine.name} ({machine.vm_id})",
                    f"Get-VM -Id {machine.vm_id} | Get-VMSnapshot -Name '{name}' | Remove-VMSnapshot")
