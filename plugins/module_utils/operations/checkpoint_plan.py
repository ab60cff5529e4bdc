# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision before a checkpoint is made: is it there already, can it be made, of which kind does it become (operations 2.2, 2.3)."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_service import POLICY_NUMBERS
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_tree import Node
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import MERGING, REMOVING, Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replication import JOBS, ROUTINE_JOBS
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_facts, inventory
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_create import (
    PRODUCTION,
    PRODUCTION_ONLY,
    STANDARD,
    Work,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import OURS, CheckpointFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_repair import Repair
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import consistency
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import BUILD_2016, Verdict

KINDS = (PRODUCTION_ONLY, PRODUCTION, STANDARD)
LONGEST_NAME = 100
DEEP, TOO_DEEP = 5, 45
WORKING_JOBS: Mapping[int, str] = {
    50: "merging disks", 51: "quiescing the guest", 61: "importing", 62: "exporting", 70: "making a checkpoint",
    71: "applying a checkpoint", 72: "removing a checkpoint", 73: "clearing saved memory",
    140: "validating", 141: "realising", 170: "a backup",
    200: "making a reference point", 201: "reference point work", 202: "reference point work", 203: "reference point work",
    204: "reference point work", 209: "reference point work",
}
_HINTS = {
    "checkpoints_disabled": "Set-VM -CheckpointType changes the policy of the machine. That is for its operator to decide.",
    "guest_cannot_quiesce": "Look at the backup integration service of the machine, or accept kind=production or kind=standard.",
    "needs_2016": "Before Windows Server 2016 there is only kind=standard.",
}


@dataclass(frozen=True)
class Wanted:
    """What a task asks for. ``min_free``: the part of each volume of the machine's disks that must be free, 0 to 1."""

    name: str
    kind: str
    run_id: str
    notes: str | None
    expires: datetime | None
    min_free: float


@dataclass(frozen=True)
class Planned:
    """A checkpoint that will be made, with what has to be told."""

    work: Work
    verdict: Verdict
    warnings: tuple[str, ...]


def check_name(name: str) -> str:
    """The name of a checkpoint. Raises HypervError ``invalid_checkpoint_name``."""
    if not name.strip() or len(name) > LONGEST_NAME or any(ord(char) < 32 for char in name):
        raise HypervError(f"{name!r} cannot be the name of a checkpoint.", error_code="invalid_checkpoint_name",
                          hint=f"A name has 1 to {LONGEST_NAME} characters and no line breaks.")
    return name


def present(facts: CheckpointFacts, machine: Machine, wanted: Wanted) -> Node | None:
    """The checkpoint of ours that makes a new one needless.

    Raises HypervError ``checkpoint_not_unique``, ``checkpoint_name_taken`` (it is somebody else's), ``checkpoint_of_other_kind``.
    """
    named = [node for node in facts.tree_of(machine).nodes if node.checkpoint.name.casefold() == wanted.name.casefold()]
    ours = [node for node in named if checkpoint_facts.owner_of(node.checkpoint) == OURS]
    if len(ours) > 1:
        raise HypervError(f"{machine.name!r} has {len(ours)} checkpoints of ours that are named {wanted.name!r}.",
                          error_code="checkpoint_not_unique", hint="Remove all but one by checkpoint_id.",
                          details={"candidates": [node.checkpoint.checkpoint_id for node in ours]})
    if named and not ours:
        raise HypervError(f"{machine.name!r} has a checkpoint named {wanted.name!r} that is not ours.", error_code="checkpoint_name_taken",
                          hint="Choose another name: two of one name can be told apart by their GUIDs only.",
                          details={"candidates": [node.checkpoint.checkpoint_id for node in named]})
    if ours and _is_of_other_kind(ours[0].checkpoint, wanted.kind):
        kind = checkpoint_facts.kind_of(ours[0].checkpoint)
        raise HypervError(f"The checkpoint {wanted.name!r} of {machine.name!r} is a {kind} one, and kind is {wanted.kind}.",
                          error_code="checkpoint_of_other_kind", hint="Remove it, or choose another name.")
    return ours[0] if ours else None


def _is_of_other_kind(one: Checkpoint, kind: str) -> bool:
    """Memory makes a standard checkpoint (D-11); one of a machine that was off has none, and is as good as either."""
    if kind == PRODUCTION_ONLY:
        return bool(one.saved_state)
    return kind == STANDARD and not one.saved_state and checkpoint_facts.consistency_of(one) != "image"


def plan(facts: CheckpointFacts, machine: Machine, wanted: Wanted, repair: Repair, locations: Mapping[str, bool | None]) -> Planned:
    """How the checkpoint will be made. Everything that can be known before is checked here. Raises HypervError with the reason.

    ``locations``: whether folders exist, None for those that could not be looked at.
    """
    own = _own_policy(machine, repair)
    if own is not None and own not in POLICY_NUMBERS:
        raise _refused(machine, f"Its checkpoint policy is one that nobody documents: {own}.", None, error_code="policy_unknown")
    effective = _policy_for(facts, machine, wanted.kind, own)
    condition = replace(inventory.condition_of(facts.host, machine), checkpoint_policy="disabled" if own == "disabled" else effective)
    verdict = consistency.judge(consistency.STANDARD if wanted.kind == STANDARD else consistency.PRODUCTION, condition)
    for reason in verdict.blockers:
        raise _refused(machine, reason.sentence, _HINTS.get(reason.code), error_code=reason.code)
    if machine.state == "saved" and wanted.kind == PRODUCTION_ONLY:
        raise _refused(machine, "A saved guest cannot be quiesced.", _HINTS["guest_cannot_quiesce"], error_code="guest_cannot_quiesce")
    refuse_busy(facts, machine)
    repair.refuse_at_work(machine)
    _refuse_tree(facts, machine)
    warnings = [*_location(facts, machine, locations), *_space(facts, machine, wanted), *_tree_warnings(facts, machine)]
    level = "image" if machine.state != "running" and machine.state != "paused" else verdict.level or "crash"
    before = frozenset(one.checkpoint_id for one in facts.host.checkpoints_of(machine.vm_id))
    work = Work(machine, wanted.name, wanted.kind, own, effective, level, wanted.run_id, wanted.notes, wanted.expires, before)
    return Planned(work, verdict, tuple(warnings))


def _refused(machine: Machine, sentence: str, hint: str | None, *, error_code: str) -> HypervError:
    return HypervError(f"No checkpoint can be made of {machine.name!r} ({machine.vm_id}). {sentence}", error_code=error_code, hint=hint)


def _own_policy(machine: Machine, repair: Repair) -> str | None:
    """The policy that the machine has, or will have again when what an interrupted run left is repaired."""
    for repaired, told in repair.policies:
        if repaired.vm_id == machine.vm_id:
            return told.was
    return machine.settings.checkpoint_policy if machine.settings else None


def _policy_for(facts: CheckpointFacts, machine: Machine, kind: str, own: str | None) -> str | None:
    """The policy that makes the kind. A machine that is off has nothing to quiesce and no memory: any policy will do."""
    if own is None or facts.host.system.build < BUILD_2016:
        return None
    return own if machine.state == "off" else kind


_JOB_OF = {REMOVING: 72, MERGING: 50}


def refuse_busy(facts: CheckpointFacts, machine: Machine, *, waited_for: Collection[str] = ()) -> None:
    """Raise HypervError ``vm_busy`` when the host, or a job, works on the machine. ``waited_for``: what it may be doing,
    REMOVING or MERGING, since that is waited for later."""
    summary = (facts.host.summaries or {}).get(machine.vm_id)
    tolerated = {_JOB_OF[busy] for busy in waited_for}
    for job in summary.jobs if summary else ():
        if job.job_type in tolerated:
            continue
        if job.job_type in WORKING_JOBS or (job.job_type in JOBS and job.job_type not in ROUTINE_JOBS):
            told = {"id": job.instance_id, "type": job.job_type, "percent": job.percent}
            raise HypervError(f"A job works on {machine.name!r}: {WORKING_JOBS.get(job.job_type or 0, 'replication')}.",
                              error_code="vm_busy", hint="Wait until it has ended.", details={"job": told})
    if machine.busy is not None and machine.busy not in waited_for:
        raise HypervError(f"The host is working on {machine.name!r}: {machine.busy}.", error_code="vm_busy",
                          hint="Wait until that is done.")


def _refuse_tree(facts: CheckpointFacts, machine: Machine) -> None:
    refuse_missing(facts, machine)
    depth = facts.tree_of(machine).depth
    if depth >= TOO_DEEP:
        raise _refused(machine, f"{depth} checkpoints lie below its present state already; the platform ends at 50.",
                       "Remove some of them, and wait for the merges.", error_code="chain_too_deep")


def refuse_missing(facts: CheckpointFacts, machine: Machine) -> None:
    """Raise HypervError ``checkpoint_files_missing`` when a checkpoint of the tree has lost its files (operations F-15)."""
    lost = [node.checkpoint.name for node in facts.tree_of(machine).nodes if node.checkpoint.kind == "missing"]
    if lost:
        raise HypervError(f"The files of the checkpoint {lost[0]!r} of {machine.name!r} are gone: its tree must not be worked on.",
                          error_code="checkpoint_files_missing", hint="Export the present state now; that still works.")


def _tree_warnings(facts: CheckpointFacts, machine: Machine) -> list[str]:
    tree, found = facts.tree_of(machine), []
    if tree.depth + 1 >= DEEP:
        found.append(f"{machine.name}: {tree.depth + 1} checkpoints will lie below its present state; each slows reading down.")
    leaves = [path for path in facts.files_of(machine.vm_id) if path.lower().endswith((".avhdx", ".avhd"))]
    if leaves and not tree.nodes:
        found.append(f"{machine.name}: it writes to {leaves[0]}, and no checkpoint explains that: a merge that waits or failed.")
    for node in tree.nodes:
        suspect = facts.suspect(node.checkpoint)
        if suspect is not None:
            found.append(f"{machine.name}: the checkpoint {node.checkpoint.name!r} may be what the interrupted run {suspect.run_id} left. "
                         "Nothing proves it, so it stays until it is removed by its id.")
    return found


def _location(facts: CheckpointFacts, machine: Machine, locations: Mapping[str, bool | None]) -> list[str]:
    root = (machine.settings.snapshot_root if machine.settings else None) or ""
    if locations.get(root) is False:
        raise _refused(machine, f"The folder of its checkpoints is not there: {root}.",
                       "Make it again, or set the SnapshotFileLocation of the machine; else files land on the system drive.",
                       error_code="location_missing")
    if root[:2].upper() == facts.host.system.system_drive and "clusterstorage" not in root.lower():
        return [f"{machine.name}: its checkpoints are stored on the system drive, in {root}."]
    return []


def _space(facts: CheckpointFacts, machine: Machine, wanted: Wanted) -> list[str]:
    """Differencing files grow, on every volume that holds a disk, and memory needs room where checkpoints are stored."""
    found = []
    places = [facts.host.place(path) for path in facts.files_of(machine.vm_id)]
    for volume in {place.volume.device_id: place.volume for place in places if place.volume is not None}.values():
        if volume.free_ratio is not None and volume.free_ratio < wanted.min_free:
            raise _refused(machine, f"Only {100 * volume.free_ratio:.0f} % of {volume.root} is free, and differencing files grow there "
                           "until the machine is paused.", "Free space there, or lower min_free_percent.", error_code="little_free_space")
    if any(place.volume is None or place.volume.free is None for place in places):
        found.append(f"{machine.name}: how much is free where its disks lie is not known.")
    summary = (facts.host.summaries or {}).get(machine.vm_id)
    memory = summary.memory if summary and wanted.kind != PRODUCTION_ONLY and machine.state in ("running", "paused", "saved") else None
    root = machine.settings.snapshot_root if machine.settings else None
    volume_of_root = facts.host.place(root).volume if root else None
    if memory and volume_of_root is not None and volume_of_root.free is not None and volume_of_root.free < memory:
        if wanted.kind == STANDARD:
            raise _refused(machine, f"{volume_of_root.root} has {volume_of_root.free} bytes free, and its memory needs {memory}.",
                           "Free space there, or use kind=production_only.", error_code="no_room_for_memory")
        found.append(f"{machine.name}: should the guest not quiesce, its memory needs {memory} bytes on {volume_of_root.root}, and "
                     f"{volume_of_root.free} are free.")
    return found
