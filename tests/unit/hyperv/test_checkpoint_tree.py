# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees of checkpoints, also those that no host should have."""
from __future__ import annotations

from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_tree import build
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from hypothesis import given
from hypothesis import strategies as st

VM = "0A1B2C3D-0000-4000-8000-00000000ABCD"


def guid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def path(number: int | None) -> str | None:
    if number is None:
        return None
    return f'\\\\HV01\\root\\virtualization\\v2:Msvm_VirtualSystemSettingData.InstanceID="Microsoft:{guid(number)}"'


def checkpoint(number: int, parent: int | None) -> Checkpoint:
    return Checkpoint(guid(number), VM, f"Microsoft:{guid(number)}", f"c{number}", "user", None, None if parent is None else guid(parent),
                      False, False, None)


def test_a_branched_tree() -> None:
    tree = build([checkpoint(1, None), checkpoint(2, 1), checkpoint(3, 1), checkpoint(4, 3)], path(4))
    shown = [(node.checkpoint.name, node.depth, [child[-1] for child in node.children], node.is_parent_of_current) for node in tree.nodes]
    assert shown == [
        ("c1", 1, ["2", "3"], False), ("c2", 2, [], False), ("c3", 2, ["4"], False), ("c4", 3, [], True)]
    assert (tree.current, tree.depth) == (guid(4), 3)
    assert tree.subtree(guid(3)) == (guid(3), guid(4))
    assert tree.path_to(guid(4)) == (guid(4), guid(3), guid(1))


def test_no_checkpoints() -> None:
    tree = build([], None)
    assert (tree.nodes, tree.current, tree.depth, tree.subtree(guid(1)), tree.path_to(None)) == ((), None, 0, (), ())


@given(st.lists(st.one_of(st.none(), st.integers(0, 7)), max_size=8), st.one_of(st.none(), st.integers(0, 9)))
def test_any_parents_give_a_tree_that_ends(parents: list[int | None], current: int | None) -> None:
    tree = build([checkpoint(number, parent) for number, parent in enumerate(parents)], path(current))
    for node in tree.nodes:
        assert 1 <= node.depth <= len(parents)
        assert node.checkpoint.checkpoint_id in tree.subtree(node.checkpoint.checkpoint_id)
    assert tree.current is None or tree.by_id[tree.current].is_parent_of_current
