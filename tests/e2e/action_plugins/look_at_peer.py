# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module of the tests: names the computers at both ends of a task with ``peer``."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.plugin_utils.driver import HypervAction


def run(call: Call) -> dict[str, Any]:
    """The host of the task and its peer, each over its own lane."""
    readers = [call.reader, call.open_peer(call.params["peer"]).reader]
    rows = [reader.enumerate("root/cimv2", "Win32_ComputerSystem") for reader in readers]
    return {"changed": False, "computers": [row.required_text("Name") for found in rows for row in found]}


class ActionModule(HypervAction):
    """The driver with another module."""

    MODULE = SimpleNamespace(ARGUMENT_SPEC={"peer": {"type": "str", "required": True}}, run=run)
