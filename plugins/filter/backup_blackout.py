# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether copies may be begun at this hour. A function of the hours and the time."""
from __future__ import annotations

DOCUMENTATION = r"""
name: backup_blackout
short_description: Say whether copies may be begun at this hour
version_added: 0.1.0
description:
  - Looks whether a moment lies in one of the windows in which a site wants no copy to be begun, and when that changes.
author:
  - The agentless.hyperv authors (@agentless)
positional: _input
options:
  _input:
    description:
      - Windows, each with C(from) and C(to) such as V(08:00), and C(days), a list of V(mon) to V(sun), all by default. A window that ends
        before it begins ends on the next day.
    type: list
    elements: dict
    required: true
  now:
    description: The moment, as V(now(utc=true\)) gives it. A time without a zone is one of UTC.
    type: raw
    required: true
  timezone:
    description: IANA name of the time zone of the windows.
    type: str
    default: UTC
"""

EXAMPLES = r"""
- name: Say whether a copy may be begun now
  ansible.builtin.debug:
    msg: "{{ 'not before ' ~ seen.until if seen.active else 'yes' }}"
  vars:
    seen: "{{ office_hours | agentless.hyperv.backup_blackout(now=now(utc=true), timezone='Europe/Berlin') }}"
    office_hours:
      - {from: '07:00', to: '19:00', days: [mon, tue, wed, thu, fri]}
"""

RETURN = r"""
_value:
  description: What the windows say.
  type: dict
  contains:
    problem: {description: What is wrong with the windows; empty when nothing is., type: str, returned: always}
    active: {description: Whether no copy may be begun., type: bool, returned: always}
    until: {description: "When that ends, in UTC; empty when it is not so.", type: str, returned: always}
    seconds: {description: "Seconds until the next window begins; null when there is none, or one is on.", type: int, returned: always}
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import blackout, retention


def backup_blackout(windows: Any, now: Any, timezone: str = "UTC") -> dict[str, Any]:
    """The filter. What is wrong with the windows is told, so that it is refused with everything else."""
    if not isinstance(now, datetime):
        raise AnsibleFilterError("backup_blackout needs the time as now, for example now(utc=true).")
    moment = now.replace(tzinfo=UTC) if now.tzinfo is None else now.astimezone(UTC)
    try:
        seen = blackout.look(blackout.parse(windows), moment, retention.zone(str(timezone or "UTC")))
    except ValueError as error:
        return {"problem": str(error), "active": False, "until": "", "seconds": None}
    until = "" if seen.until is None else seen.until.strftime("%Y-%m-%dT%H:%M:%SZ")
    seconds = None if seen.begins is None else int((seen.begins - moment).total_seconds())
    return {"problem": "", "active": seen.active, "until": until, "seconds": seconds}


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"backup_blackout": backup_blackout}
