# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which machines are drilled in this run."""
from __future__ import annotations

DOCUMENTATION = r"""
name: drill_choice
short_description: Which virtual machines a restore drill takes
version_added: 0.1.0
description:
  - Takes those that were never drilled, then those whose last drill is longest ago, as M(agentless.hyperv.hyperv_restore_info) orders them.
  - Those that would be refused are left out.
author:
  - The agentless.hyperv authors (@agentless)
positional: _input
options:
  _input:
    description: RV(agentless.hyperv.hyperv_restore_info#module:results).
    type: list
    elements: dict
    required: true
  count:
    description: How many are taken; all when it is zero.
    type: int
    default: 0
  part:
    description: Which part of them this host takes, from zero.
    type: int
    default: 0
  parts:
    description: Among how many hosts that reach the same destination they are divided.
    type: int
    default: 1
"""

EXAMPLES = r"""
- name: Take the two that were drilled least recently
  ansible.builtin.set_fact:
    chosen: "{{ backups.results | agentless.hyperv.drill_choice(count=2) }}"
"""

RETURN = r"""
_value:
  description: The entries that are drilled.
  type: list
  elements: dict
"""

from collections.abc import Callable, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def drill_choice(results: Any, count: int = 0, part: int = 0, parts: int = 1) -> list[Any]:
    """See DOCUMENTATION."""
    if not isinstance(results, Sequence) or isinstance(results, str):
        raise AnsibleFilterError("drill_choice: the input is the results of hyperv_restore_info.")
    if int(parts) < 1 or not 0 <= int(part) < int(parts) or int(count) < 0:
        raise AnsibleFilterError("drill_choice: part is below parts, and count is not below zero.")
    mine = [entry for entry in results if not entry.get("refusal")][int(part)::int(parts)]
    return mine[:int(count)] if int(count) else mine


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"drill_choice": drill_choice}
