# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking for secrets before taking them out: agrees with ansible's own ``remove_values`` on what has to change."""
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.common.parameters import remove_values
from ansible_collections.agentless.hyperv.plugins.plugin_utils.driver import holds_any
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.recursive(st.none() | st.booleans() | st.integers(-200, 200) | st.floats(allow_nan=False) | st.text("ab1", max_size=4),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab1", max_size=2), inner, max_size=3))


@given(VALUES, st.sets(st.text("ab1", min_size=1, max_size=3), max_size=2))
def test_nothing_is_missed(value: Any, secrets: set[str]) -> None:
    if not holds_any(value, secrets):
        assert json.dumps(remove_values(value, secrets)) == json.dumps(value)


@pytest.mark.parametrize(("value", "held"), [
    ("a pw", True), ("p", False), ({"pw": "key"}, False), ([[{"a": ["xpwx"]}]], True), ({"a": 12345}, True), (12.345, True), (True, False),
    (None, False), ({"a": b"pw"}, True), ({"a": ("x",)}, True), ("", False),
])
def test_where_it_looks(value: Any, held: bool) -> None:
    assert holds_any(value, {"pw", "34", "a+b"}) is held
