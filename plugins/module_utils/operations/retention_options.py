# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of retention, the same in every module that has them (INTERFACE, *retention*)."""
from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.retention import RULES, Keep, RetentionError, parse_keep, zone

KEEP: dict[str, Any] = {"type": "dict", "options": {rule: {"type": "int"} for rule in RULES}}
TIMEZONE: dict[str, Any] = {"type": "str", "default": "UTC"}


def read(keep: Mapping[str, Any] | None, timezone: str) -> tuple[Keep, tzinfo]:
    """The rules and the time zone of their periods. Raises HypervError ``invalid_keep``."""
    try:
        return parse_keep(keep or {}), zone(timezone)
    except RetentionError as error:
        raise HypervError(f"Retention: {error}.", error_code="invalid_keep") from error
