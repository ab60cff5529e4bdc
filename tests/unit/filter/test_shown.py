# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.filter.shown import shown


@pytest.mark.parametrize(("value", "expected"), [
    ("sql01", "sql01"), ("M\u00fcller \u30b5\u30fc\u30d0\u30fc", "M\u00fcller \u30b5\u30fc\u30d0\u30fc"), ("\x1b[31mred", "\\u001b[31mred"),
    ("gnp\u202eexe", "gnp\\u202eexe"), ("a\nb\u2028c\td", "a\\u000ab\\u2028c\\u0009d"), ("{{ 1 }}", "{{ 1 }}"), (7, "7"), (None, "None")])
def test_what_a_terminal_would_obey_is_its_code(value: Any, expected: str) -> None:
    assert shown(value) == expected
