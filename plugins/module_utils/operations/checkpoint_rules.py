# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which checkpoints of a machine go: pure rules. Whatever the rule, only what is ours goes, and what users made when that is said.

What belongs to other products goes by its GUID only, and what belongs to Hyper-V Replica never (operations 2.1).
"""
from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from datetime import datetime, timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_tree import Node, Tree
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_facts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import (
    AUTOMATIC,
    OURS,
    PRODUCT,
    REPLICA,
    USER,
    CheckpointFacts,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import checkpoint_marks


@dataclass(frozen=True)
class Rules:
    """What a task says; None and False are not said. All of ``pattern``, ``older_than``, ``keep_last`` and ``expired`` that are said must
    agree; ``keep_last`` keeps the newest of those that match ``pattern``."""

    name: str | None = None
    checkpoint_id: str | None = None
    pattern: str | None = None
    older_than: timedelta | None = None
    keep_last: int | None = None
    expired: bool = False
    subtree: bool = False
    include_user: bool = False


def choose(facts: CheckpointFacts, machine: Machine, rules: Rules) -> tuple[Node, ...]:
    """What goes, in the order in which it goes: the oldest first, and with ``subtree`` children before their parents.

    Raises HypervError ``checkpoint_not_unique``, ``checkpoint_not_ours``, ``checkpoint_of_replica``.
    """
    tree = facts.tree_of(machine)
    if rules.checkpoint_id is not None:
        return _with_subtree(facts, machine, tree, _by_id(tree, rules.checkpoint_id), rules)
    if rules.name is not None:
        return _with_subtree(facts, machine, tree, _by_name(facts, machine, tree, rules), rules)
    return _by_rules(facts, tree, rules)


def _allowed(facts: CheckpointFacts, node: Node, rules: Rules) -> bool:
    owner = checkpoint_facts.owner_of(node.checkpoint)
    if owner == OURS:
        return True
    return rules.include_user and owner in (USER, AUTOMATIC) and node.checkpoint.kind == "user" and facts.suspect(node.checkpoint) is None


def _by_id(tree: Tree, checkpoint_id: str) -> Node | None:
    node = tree.by_id.get(checkpoint_id)
    if node is not None and (checkpoint_facts.owner_of(node.checkpoint) == REPLICA or node.checkpoint.kind == "planned"):
        whose = "an import" if node.checkpoint.kind == "planned" else "replication"
        raise HypervError(f"The checkpoint {node.checkpoint.name!r} belongs to {whose}, which removes it by itself.",
                          error_code="checkpoint_of_replica", hint="It is never removed here.")
    return node


def _by_name(facts: CheckpointFacts, machine: Machine, tree: Tree, rules: Rules) -> Node | None:
    named = [node for node in tree.nodes if node.checkpoint.name.casefold() == (rules.name or "").casefold()]
    if len(named) > 1:
        raise HypervError(f"{machine.name!r} has {len(named)} checkpoints named {rules.name!r}.", error_code="checkpoint_not_unique",
                          hint="Name the one that is meant by checkpoint_id.",
                          details={"candidates": [node.checkpoint.checkpoint_id for node in named]})
    if named and not _allowed(facts, named[0], rules):
        raise _not_ours(facts, named[0])
    return named[0] if named else None


def _not_ours(facts: CheckpointFacts, node: Node) -> HypervError:
    one = node.checkpoint
    whose = {PRODUCT: "a backup product's", REPLICA: "replication's"}.get(checkpoint_facts.owner_of(one), "a user's")
    if facts.suspect(one) is not None:
        whose = "perhaps what an interrupted run left, without proof"
    return HypervError(f"The checkpoint {one.name!r} is not ours: it is {whose}.", error_code="checkpoint_not_ours",
                       hint="include_user lets those of users go; everything else goes by checkpoint_id only.",
                       details={"candidates": [one.checkpoint_id]})


def _with_subtree(facts: CheckpointFacts, machine: Machine, tree: Tree, top: Node | None, rules: Rules) -> tuple[Node, ...]:
    if top is None or not rules.subtree:
        return () if top is None else (top,)
    found = [tree.by_id[one] for one in tree.subtree(top.checkpoint.checkpoint_id)]
    for node in found[1:]:
        if not _allowed(facts, node, rules):
            raise _not_ours(facts, node)
    return tuple(sorted(found, key=lambda node: -node.depth))


def _by_rules(facts: CheckpointFacts, tree: Tree, rules: Rules) -> tuple[Node, ...]:
    now = facts.host.system.local_time
    found = [node for node in tree.nodes if _allowed(facts, node, rules)]
    if rules.pattern is not None:
        pattern = rules.pattern.casefold()
        found = [node for node in found if fnmatch.fnmatchcase(node.checkpoint.name.casefold(), pattern)]
    if rules.keep_last is not None:
        found = found[:max(0, len(found) - rules.keep_last)]
    if rules.older_than is not None:
        found = [node for node in found if _older(node.checkpoint.created, rules.older_than, now)]
    if rules.expired:
        found = [node for node in found if checkpoint_marks.expired(checkpoint_facts.mark_of(node.checkpoint), now)]
    return tuple(found)


def _older(created: datetime | None, age: timedelta, now: datetime) -> bool:
    return created is not None and now - created > age
