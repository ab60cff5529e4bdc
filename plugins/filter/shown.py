# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and messages of hosts for the terminal."""
from __future__ import annotations

DOCUMENTATION = r"""
name: shown
short_description: Show a text of a host without what a terminal would obey
version_added: 0.1.0
description:
  - A virtual machine may be named anything. Characters that are not printable, that end a line or turn the direction of writing are
    replaced by their codes. Letters of every language stay.
author:
  - The agentless.hyperv authors (@agentless)
options:
  _input:
    description: A text; anything else is made one.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Show the names of virtual machines
  ansible.builtin.debug:
    msg: "{{ facts.vms | map(attribute='name') | map('agentless.hyperv.shown') }}"
  vars:
    facts: {vms: [{name: sql01}]}
"""

RETURN = r"""
_value:
  description: The text on one line.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.shown import shown as shown_text


def shown(value: Any) -> str:
    """See DOCUMENTATION."""
    return shown_text(str(value))


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"shown": shown}
