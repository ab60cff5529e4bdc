# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of one machine's checkpoints (operations 2.4). There is no *active checkpoint*: a machine grows from one."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint, parent_id


@dataclass(frozen=True)
class Node:
    """One checkpoint in the tree. ``depth`` counts from 1 at a root; ``children`` are GUIDs, oldest first."""

    checkpoint: Checkpoint
    depth: int
    children: tuple[str, ...]
    is_parent_of_current: bool


@dataclass(frozen=True)
class Tree:
    """All checkpoints of a machine, the oldest first. ``current``: the one that the machine grows from, None without any."""

    nodes: tuple[Node, ...]
    current: str | None

    @cached_property
    def by_id(self) -> Mapping[str, Node]:
        """The nodes by their GUID."""
        return {node.checkpoint.checkpoint_id: node for node in self.nodes}

    @property
    def depth(self) -> int:
        """How many checkpoints lie below the machine's present state: each is a file that is read through."""
        node = self.by_id.get(self.current or "")
        return 0 if node is None else node.depth

    def subtree(self, checkpoint_id: str) -> tuple[str, ...]:
        """A checkpoint and everything that grows from it, parents first."""
        found, waiting = [], [checkpoint_id]
        while waiting:
            one = waiting.pop(0)
            if one in self.by_id and one not in found:
                found.append(one)
                waiting.extend(self.by_id[one].children)
        return tuple(found)

    def path_to(self, checkpoint_id: str | None) -> tuple[str, ...]:
        """The GUIDs from a checkpoint up to its root."""
        found: list[str] = []
        while checkpoint_id is not None and checkpoint_id in self.by_id and checkpoint_id not in found:
            found.append(checkpoint_id)
            checkpoint_id = self.by_id[checkpoint_id].checkpoint.parent_id
        return tuple(found)


def build(checkpoints: Iterable[Checkpoint], current_parent: str | None) -> Tree:
    """The tree of one machine. ``current_parent`` is the ``Parent`` of its own settings, an object path.

    A checkpoint whose parent is not there counts as a root; parents that go round in a circle do no harm.
    """
    found = tuple(checkpoints)
    parents = {one.checkpoint_id: one.parent_id for one in found}
    children: dict[str, list[str]] = {}
    for one in found:
        if one.parent_id in parents and one.parent_id is not None:
            children.setdefault(one.parent_id, []).append(one.checkpoint_id)
    grows_from = parent_id(current_parent)
    current = grows_from if grows_from in parents else None
    return Tree(tuple(Node(one, _depth(one.checkpoint_id, parents), tuple(children.get(one.checkpoint_id, ())),
                           one.checkpoint_id == current) for one in found), current)


def _depth(checkpoint_id: str, parents: Mapping[str, str | None]) -> int:
    seen = {checkpoint_id}
    above = parents[checkpoint_id]
    while above is not None and above in parents and above not in seen:
        seen.add(above)
        above = parents[above]
    return len(seen)
