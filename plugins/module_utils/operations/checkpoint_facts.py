# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkpoints of a host with their trees and owners: read once, the same for every module that deals with them."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import checkpoint_tree, checkpoints, disks
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_tree import Node, Tree
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import ChainLink
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import REALIZED, Machine, read_settings
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_intents, inventory
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_intents import CheckpointIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vm_result import iso
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import checkpoint_marks
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.checkpoint_marks import Mark
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder

OURS, USER, PRODUCT, REPLICA, AUTOMATIC = "ours", "user", "product", "replica", "automatic"
OWNERS = (OURS, USER, PRODUCT, REPLICA, AUTOMATIC)
STANDARD, PRODUCTION = "standard", "production"


@dataclass(frozen=True)
class CheckpointFacts:
    """What one host has at one time. ``links`` and ``sizes`` are of disk files by their path, as far as they were asked for; a size is
    None when the host could not tell it, a link is then the reason.

    As far as they were asked for: ``system_sizes``, bytes of the configuration and memory of checkpoints by their GUID; ``validity``, what
    is wrong with the chain of a leaf, None when nothing, or when it cannot be told; ``locations``, whether folders for checkpoints exist;
    ``strays``, by machine the files that no chain needs."""

    host: HostFacts
    folder: StateFolder
    intents: tuple[CheckpointIntent, ...] = ()
    links: Mapping[str, ChainLink | str] = field(default_factory=dict)
    sizes: Mapping[str, int | None] = field(default_factory=dict)
    system_sizes: Mapping[str, int | None] = field(default_factory=dict)
    validity: Mapping[str, str | None] = field(default_factory=dict)
    locations: Mapping[str, bool | None] = field(default_factory=dict)
    strays: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def _trees(self) -> dict[str, Tree]:
        return {one.vm_id: checkpoint_tree.build(self.host.checkpoints_of(one.vm_id), one.settings.parent if one.settings else None)
                for one in self.host.machines}

    def tree_of(self, machine: Machine) -> Tree:
        """The checkpoints of a machine."""
        return self._trees[machine.vm_id]

    def suspect(self, checkpoint: Checkpoint) -> CheckpointIntent | None:
        """The intent of an interrupted run, or of one at work, that an unmarked checkpoint may have come of."""
        if checkpoint.kind != "user" or checkpoint.automatic or mark_of(checkpoint) is not None:
            return None
        return checkpoint_intents.may_have_made(self.intents, checkpoint.vm_id, checkpoint.created)

    @cached_property
    def _files(self) -> dict[str, dict[str, str]]:
        """By machine or checkpoint: the file of each drive, by what follows the owner in the drive's InstanceID."""
        found: dict[str, dict[str, str]] = {}
        for disk in self.host.disks or ():
            if disk.kind == "virtual" and disk.path:
                found.setdefault(disk.owner_id, {})[disk.instance_id.partition("\\")[2].lower()] = disk.path
        return found

    def files_of(self, owner_id: str) -> tuple[str, ...]:
        """The leaf files of a machine, or the files that a checkpoint froze."""
        return tuple(self._files.get(owner_id, {}).values())

    def files_grown_since(self, machine: Machine, node: Node) -> tuple[str, ...]:
        """The differencing files directly on top of a checkpoint's files: what is merged when it goes, and lost when one goes back to it
        from there."""
        own = self._files.get(node.checkpoint.checkpoint_id, {})
        above = [*node.children, *([machine.vm_id] if node.is_parent_of_current else [])]
        return tuple(dict.fromkeys(path for owner in above for drive, path in self._files.get(owner, {}).items()
                                   if drive in own and path.lower() != own[drive].lower()))

    def bytes_of(self, machine: Machine, node: Node) -> int | None:
        """Bytes of those files, and of its own configuration and memory; None as long as a size is not known."""
        sizes = [*(self.sizes.get(path) for path in self.files_grown_since(machine, node)),
                 self.system_sizes.get(node.checkpoint.checkpoint_id)]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) and self.host.disks is not None else None


def differencing_bytes(facts: CheckpointFacts, machine: Machine) -> int | None:
    """Bytes of all differencing files of a machine; None as long as one of them is not known."""
    owners = (machine.vm_id, *(node.checkpoint.checkpoint_id for node in facts.tree_of(machine).nodes))
    paths = {path for owner in owners for path in facts.files_of(owner) if is_differencing(path)}
    sizes = [facts.sizes.get(path) for path in paths]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) and facts.host.disks is not None else None


def is_differencing(path: str) -> bool:
    """True for a file that by its name came of a checkpoint."""
    return path.lower().endswith((".avhdx", ".avhd"))


def mark_of(checkpoint: Checkpoint) -> Mark | None:
    """The mark of one of ours."""
    return checkpoint_marks.mark_of(checkpoint.checkpoint_id, checkpoint.notes)


def owner_of(checkpoint: Checkpoint) -> str:
    """Whose a checkpoint is (operations 2.1): ours by its mark, a product's or a replica's by its type, else a user's or automatic."""
    if checkpoint.kind.startswith("replica"):
        return REPLICA
    if checkpoint.kind == "recovery":
        return PRODUCT
    if checkpoint.kind == "user" and mark_of(checkpoint) is not None:
        return OURS
    return AUTOMATIC if checkpoint.automatic else USER


def kind_of(checkpoint: Checkpoint) -> str:
    """``production`` or ``standard`` for those of users and ours, else the type. Memory makes a standard checkpoint (D-11)."""
    if checkpoint.kind != "user":
        return checkpoint.kind
    return STANDARD if checkpoint.saved_state else PRODUCTION


def consistency_of(checkpoint: Checkpoint) -> str | None:
    """What is known of its consistency: what the mark of ours says; ``image`` for one with memory; None for what nobody can tell now."""
    mark = mark_of(checkpoint)
    if mark is not None and mark.achieved != "unknown":
        return mark.achieved
    if checkpoint.kind == "replica_application_consistent":
        return "application"
    return "image" if checkpoint.saved_state else None


def read(call: Call, subsets: Iterable[str] = ()) -> CheckpointFacts:
    """Four requests without ``subsets`` (inventory's names), and a program when there are intents.

    An account that may not read the host's files learns of no intents, and a warning says so.
    """
    facts = inventory.read_host(call.reader, call.clock, subsets)
    folder = state.state_folder(facts.system.system_drive)
    try:
        intents = checkpoint_intents.STORE.read(call.reader, folder)
    except AccessDenied:
        call.warn("This account may not read the folder of this collection on the host: what interrupted runs announced is not known.")
        intents = ()
    return CheckpointFacts(facts, folder, intents)


def read_again(reader: CimReader, facts: CheckpointFacts) -> CheckpointFacts:
    """The checkpoints, settings and files of all machines as they are now; two requests. Power states are as they were."""
    rows = reader.enumerate(NAMESPACE, "Msvm_VirtualSystemSettingData")
    current = {as_guid(row.text("VirtualSystemIdentifier")): read_settings(row) for row in rows
               if (row.text("VirtualSystemType") or "").lower() == REALIZED.lower()}
    found = tuple(replace(machine, settings=current.get(machine.vm_id, machine.settings)) for machine in facts.host.machines)
    host = replace(facts.host, machines=found, checkpoints=checkpoints.from_rows(rows))
    return with_virtual_disks(reader, replace(facts, host=host))


def with_virtual_disks(reader: CimReader, facts: CheckpointFacts) -> CheckpointFacts:
    """The files of all machines and checkpoints; one request."""
    return replace(facts, host=replace(facts.host, disks=disks.read_virtual_disks(reader)))


def with_sizes(reader: CimReader, facts: CheckpointFacts, paths: Iterable[str]) -> CheckpointFacts:
    """The sizes of files: one request each, none for one that is known."""
    found = dict(facts.sizes)
    for path in dict.fromkeys(paths):
        if path not in found:
            found[path] = _size(reader, path)
    return replace(facts, sizes=found)


def _size(reader: CimReader, path: str) -> int | None:
    try:
        return disks.read_file_size(reader, path)
    except HypervError as error:
        if error.return_value is None:
            raise
        return None  # the file is gone or locked: its size is not known, and nothing else is wrong


def with_links(reader: CimReader, facts: CheckpointFacts, paths: Iterable[str]) -> CheckpointFacts:
    """What these files and all below them say of themselves: one request for each file, however many chains lead through it."""
    found = dict(facts.links)
    waiting = list(dict.fromkeys(paths))
    while waiting:
        path = waiting.pop(0)
        if path in found:
            continue
        try:
            link = disks.read_setting(reader, path)
        except HypervError as error:
            if error.return_value is None:
                raise
            found[path] = error.message
            continue
        found[path] = link
        if link.parent_path is not None:
            waiting.append(link.parent_path)
    return replace(facts, links=found)


def entry(facts: CheckpointFacts, machine: Machine, node: Node) -> dict[str, Any]:
    """One checkpoint as the modules return it."""
    one = node.checkpoint
    mark, age = mark_of(one), None if one.created is None else facts.host.system.local_time - one.created
    return {
        "id": one.checkpoint_id, "name": one.name, "type": one.kind, "kind": kind_of(one), "owner": owner_of(one),
        "suspect": facts.suspect(one) is not None, "created": iso(one.created), "age": None if age is None else int(age.total_seconds()),
        "expires": iso(mark.expires) if mark else None, "expired": checkpoint_marks.expired(mark, facts.host.system.local_time),
        "run_id": mark.run_id if mark else None, "consistency": consistency_of(one), "saved_state": one.saved_state,
        "automatic": one.automatic, "notes": checkpoint_marks.without_marks(one.notes) or None, "parent_id": one.parent_id,
        "children": list(node.children), "depth": node.depth, "is_parent_of_current": node.is_parent_of_current,
        "files": list(facts.files_of(one.checkpoint_id)) if facts.host.disks is not None else None,
        "bytes": facts.bytes_of(machine, node) if facts.sizes else None,
        "system_bytes": facts.system_sizes.get(one.checkpoint_id),
    }


def entries(facts: CheckpointFacts, machine: Machine) -> list[dict[str, Any]]:
    """The checkpoints of a machine, the oldest first."""
    return [entry(facts, machine, node) for node in facts.tree_of(machine).nodes]
