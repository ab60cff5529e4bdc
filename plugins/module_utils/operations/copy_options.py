# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments that modules which leave copies or exports at a destination share, as the fragments *copies* and *retention* document."""
from __future__ import annotations

from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.operations import retention_options, run_as, run_slots

RETENTION: dict[str, Any] = {"keep": retention_options.KEEP, "timezone": retention_options.TIMEZONE}
ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    "vm_id": {"type": "str"},
    "names": {"type": "list", "elements": "str"},
    "destination": {"type": "str", "required": True},
    "max_age": {"type": "str"},
    "run_id": {"type": "str"},
    "consistency_fallback": {"type": "str", "choices": ["fail", "crash", "image"], "default": "fail"},
    **RETENTION,
    **run_slots.ARGUMENT_SPEC,
    **run_as.ARGUMENT_SPEC,
}
MUTUALLY_EXCLUSIVE = [("name", "names"), ("vm_id", "names")]
REQUIRED_ONE_OF = [("name", "vm_id", "names")]
