# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the copies of all policies lie, and as whom each place is read."""
from __future__ import annotations

DOCUMENTATION = r"""
name: backup_destinations
short_description: The destinations of backup policies, each once
version_added: 0.1.0
description:
  - Lists the destinations of all policies and that of the variables of the role C(backup), as
    O(agentless.hyperv.hyperv_protection_info#module:destinations) takes them.
  - The same place, read by the same identity, is listed once. Passwords are part of the list, so keep it in no fact.
author:
  - The agentless.hyperv authors (@agentless)
positional: _input, defaults
options:
  _input:
    description: Name to policy.
    type: dict
    required: true
  defaults:
    description: What a policy has unless it says otherwise; C(destination), C(run_as), C(run_as_user) and C(run_as_password) count.
    type: dict
    default: {}
  more:
    description: Further entries, paths or dictionaries with C(path).
    type: list
    elements: raw
    default: []
"""

EXAMPLES = r"""
- name: Read what there is at the destinations of all policies
  agentless.hyperv.hyperv_protection_info:
    destinations: "{{ backup_policies | agentless.hyperv.backup_destinations({'destination': backup_destination}) }}"
  vars:
    backup_destination: 'E:\Backup'
    backup_policies:
      gold: {keep: {daily: 7}}
      far: {destination: '\\backup01\hyperv'}
"""

RETURN = r"""
_value:
  description: The destinations.
  type: list
  elements: dict
  contains:
    path: {description: The path., type: str, returned: always}
    run_as: {description: As whom it is read., type: str, returned: always}
    run_as_user: {description: The account., type: str, returned: when it is V(account)}
    run_as_password: {description: Its password., type: str, returned: when it is V(account)}
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

_ACCOUNT = ("run_as_user", "run_as_password")


def _entries(policies: Mapping[Any, Any], defaults: Mapping[str, Any], more: Any) -> Iterator[dict[str, Any]]:
    base = {key: value for key, value in defaults.items() if value not in (None, "")}
    yield {**base, "path": base.get("destination")}
    for policy in policies.values():
        own = {key: value for key, value in policy.items() if value not in (None, "")} if isinstance(policy, Mapping) else {}
        yield {**base, **own, "path": own.get("destination", base.get("destination"))}
    for entry in more or ():
        yield {**base, **entry} if isinstance(entry, Mapping) else {**base, "path": entry}


def backup_destinations(policies: Any, defaults: Any = None, more: Any = ()) -> list[dict[str, Any]]:
    """The filter. Raises AnsibleFilterError for policies that are no dictionary."""
    if not isinstance(policies or {}, Mapping):
        raise AnsibleFilterError("backup_destinations needs a dictionary of policies.")
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for entry in _entries(policies or {}, defaults or {}, more):
        if not entry.get("path"):
            continue
        path, run_as = str(entry["path"]), str(entry.get("run_as") or "system")
        # in the session of the connection no share can be reached; a local folder is read there whoever copies into it
        place = {"path": path, "run_as": run_as, **({key: entry.get(key) for key in _ACCOUNT} if run_as == "account" else {})}
        key = (path.replace("/", "\\").rstrip("\\").casefold(), run_as, str(place.get("run_as_user") or "").casefold())
        found.setdefault(key, place)
    return list(found.values())


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"backup_destinations": backup_destinations}
