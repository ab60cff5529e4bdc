# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong, or may become so, with the checkpoints of a machine (operations 2.7, 8): pure rules, each with a stable code."""
from __future__ import annotations

import ntpath
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import ChainLink
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import MERGING, Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_facts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import CheckpointFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import checkpoint_marks

WARNING, ERROR = "warning", "error"
ABANDONED_AFTER = timedelta(hours=24)
MERGE_JOB = 50
_BACKUP_JOBS = frozenset((51, 170))
_TOLD = 5


@dataclass(frozen=True)
class Limits:
    """From where on age, depth and the bytes of differencing files are findings (operations 2.3, precondition 7)."""

    age: timedelta = timedelta(hours=72)
    depth: int = 5
    size: int | None = None


@dataclass(frozen=True)
class Finding:
    """One finding about a machine, or about one checkpoint of it."""

    code: str
    severity: str
    text: str
    checkpoint_id: str | None = None

    def as_result(self) -> dict[str, Any]:
        """The form in ``findings``."""
        return {"code": self.code, "severity": self.severity, "text": self.text, "checkpoint_id": self.checkpoint_id}


def merging(facts: CheckpointFacts, machine: Machine) -> bool:
    """A merge of the machine is under way, by its state or by its jobs as far as they were read."""
    summary = (facts.host.summaries or {}).get(machine.vm_id)
    return machine.busy == MERGING or any(job.job_type == MERGE_JOB for job in (summary.jobs if summary else ()))


def differencing_leaves(facts: CheckpointFacts, machine: Machine) -> tuple[str, ...]:
    """The leaf files of a machine that are differencing disks by their name."""
    return tuple(path for path in facts.files_of(machine.vm_id) if checkpoint_facts.is_differencing(path))


def audit(facts: CheckpointFacts, machine: Machine, limits: Limits) -> tuple[Finding, ...]:
    """All findings about a machine, those about it first, then those about its checkpoints, the oldest first."""
    found = [*_of_machine(facts, machine, limits), *_of_location(facts, machine), *_of_chains(facts, machine)]
    for node in facts.tree_of(machine).nodes:
        found.extend(_of_checkpoint(facts, machine, node.checkpoint, limits))
    return tuple(found)


def _of_machine(facts: CheckpointFacts, machine: Machine, limits: Limits) -> Iterator[Finding]:
    tree, settings = facts.tree_of(machine), machine.settings
    if tree.depth >= limits.depth:
        yield Finding("deep", WARNING, f"{tree.depth} checkpoints lie below the present state; each is a file that is read through.")
    total = checkpoint_facts.differencing_bytes(facts, machine)
    if limits.size is not None and total is not None and total > limits.size:
        yield Finding("large", WARNING, f"Its differencing files have {total} bytes.")
    leaves = differencing_leaves(facts, machine)
    if leaves and not tree.nodes:
        if merging(facts, machine):
            yield Finding("merging", WARNING, f"{ntpath.basename(leaves[0])} is being merged.")
        else:
            yield Finding("orphan_chain", ERROR, f"The machine writes to {leaves[0]}, and no checkpoint explains it: a merge that waits or "
                          "failed, or what a backup product left.")
    if settings is None:
        return
    if tree.nodes and settings.checkpoint_policy == "disabled":
        yield Finding("policy_disabled", WARNING, "There are checkpoints, although the policy of the machine forbids them.")


def _of_location(facts: CheckpointFacts, machine: Machine) -> Iterator[Finding]:
    """Whether it is there, and what clusters are good for, only as far as it was asked for."""
    root = (machine.settings.snapshot_root if machine.settings else None) or ""
    shared = "clusterstorage" in root.lower() or root.startswith("\\\\")
    if facts.locations.get(root) is False:
        yield Finding("location_missing", ERROR, f"The folder of its checkpoints is not there: {root}. New ones land on the system drive.")
    cluster = facts.host.cluster
    if cluster is not None and not shared and cluster.role_of(machine.vm_id, machine.name, facts.host.names) is not None:
        yield Finding("location_off_cluster", ERROR, f"The machine is clustered, and its checkpoints are stored in {root}, which is no "
                      "cluster shared volume: on another node they are not there.")
    if root[:2].upper() == facts.host.system.system_drive and not shared:
        yield Finding("location_on_system_drive", WARNING, f"New checkpoints are stored on the system drive, in {root}.")


def _of_chains(facts: CheckpointFacts, machine: Machine) -> Iterator[Finding]:
    """Only of what was read: chains are asked for file by file."""
    strays = facts.strays.get(machine.vm_id, ())
    if strays:
        yield Finding("stray_files", WARNING, f"No chain needs {len(strays)} files beside its disks: {', '.join(strays[:_TOLD])}"
                      f"{', ...' if len(strays) > _TOLD else ''}. Look at each before it is removed.")
    for leaf in facts.files_of(machine.vm_id):
        problem = chain_problem(facts, leaf)
        if problem is not None:
            yield Finding("chain_broken", ERROR, f"The chain of {leaf} is not complete: {problem}")
        elif facts.validity.get(leaf) is not None:
            yield Finding("chain_invalid", ERROR, f"The chain of {leaf} is not sound: {facts.validity[leaf]}")


def chain(facts: CheckpointFacts, leaf: str) -> tuple[ChainLink, ...]:
    """The files of one chain, the leaf first, as far as it was read and goes."""
    found: list[ChainLink] = []
    path: str | None = leaf
    while path is not None and path not in {link.path for link in found}:
        link = facts.links.get(path)
        if not isinstance(link, ChainLink):
            break
        found.append(link)
        path = link.parent_path
    return tuple(found)


def chain_problem(facts: CheckpointFacts, leaf: str) -> str | None:
    """Why a chain that was asked for is not complete; None when it is, and when nobody asked."""
    if leaf not in facts.links:
        return None
    seen: set[str] = set()
    path: str | None = leaf
    while path is not None:
        if path.lower() in seen:
            return f"it comes back to {path}."
        seen.add(path.lower())
        link = facts.links.get(path)
        if link is None or isinstance(link, str):
            return link or f"{path} was not read."
        path = link.parent_path
    return None


def _of_checkpoint(facts: CheckpointFacts, machine: Machine, one: Checkpoint, limits: Limits) -> Iterator[Finding]:
    now, owner, name = facts.host.system.local_time, checkpoint_facts.owner_of(one), f"The checkpoint {one.name!r}"
    age = None if one.created is None else now - one.created
    summary = (facts.host.summaries or {}).get(machine.vm_id)
    backing_up = any(job.job_type in _BACKUP_JOBS for job in (summary.jobs if summary else ()))
    if one.kind == "missing":
        yield Finding("missing_files", ERROR, f"The files of the checkpoint {one.name!r} are gone.", one.checkpoint_id)
    if owner == checkpoint_facts.PRODUCT and age is not None and age > ABANDONED_AFTER and not backing_up:
        yield Finding("abandoned_backup", WARNING, f"{name} of a backup product is {_days(age)} old and no backup runs: one that failed "
                      "has probably left it.", one.checkpoint_id)
    elif owner in (checkpoint_facts.OURS, checkpoint_facts.USER, checkpoint_facts.AUTOMATIC) and age is not None and age > limits.age:
        yield Finding("old", WARNING, f"{name} is {_days(age)} old.", one.checkpoint_id)
    if checkpoint_marks.expired(checkpoint_facts.mark_of(one), now):
        yield Finding("expired", WARNING, f"The time of the checkpoint {one.name!r} is over.", one.checkpoint_id)
    if facts.suspect(one) is not None:
        yield Finding("suspect", WARNING, f"{name} may be what an interrupted run of this collection left, but nothing proves it.",
                      one.checkpoint_id)
    if one.automatic and facts.host.system.server:
        yield Finding("automatic", WARNING, f"{name} was made by itself at a start of the machine, which a server should not do.",
                      one.checkpoint_id)


def _days(age: timedelta) -> str:
    hours = int(age.total_seconds() // 3600)
    return f"{hours} h" if hours < 96 else f"{hours // 24} days"
