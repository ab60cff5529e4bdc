# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.agentless.hyperv.plugins.filter.backup_destinations import backup_destinations

NAS = {"destination": "\\\\nas\\b", "run_as": "account", "run_as_user": "NAS\\copier", "run_as_password": "x"}
AT_NAS = {"path": "\\\\nas\\b", "run_as": "account", "run_as_user": "NAS\\copier", "run_as_password": "x"}
LOCAL = {"path": "E:\\Backup", "run_as": "system"}


@pytest.mark.parametrize(("policies", "defaults", "more", "expected"), [
    ({}, {}, [], []),
    ({"gold": {}}, {"destination": "E:\\Backup", "run_as_user": ""}, [], [LOCAL]),
    ({"gold": {"destination": "e:/backup/"}, "far": NAS}, {"destination": "E:\\Backup"}, [], [LOCAL, AT_NAS]),
    ({"a": NAS, "b": {**NAS, "run_as_user": "nas\\COPIER"}, "c": {**NAS, "run_as": "system"}}, {}, [],
     [AT_NAS, {"path": "\\\\nas\\b", "run_as": "system"}]),
    ({"plain": None, "odd": "text"}, {"destination": "E:\\Backup"}, ["F:\\Old", {"path": "G:\\Old", "run_as": "session"}],
     [LOCAL, {"path": "F:\\Old", "run_as": "system"}, {"path": "G:\\Old", "run_as": "session"}]),
    (None, None, None, []),
])
def test_each_place_once(policies: Any, defaults: Any, more: Any, expected: list[dict[str, Any]]) -> None:
    assert backup_destinations(policies, defaults, more) == expected


def test_policies_that_are_none_are_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="dictionary"):
        backup_destinations(["gold"])
