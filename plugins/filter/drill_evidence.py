# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence of a run of drills, in three forms."""
from __future__ import annotations

DOCUMENTATION = r"""
name: drill_evidence
short_description: The evidence of restore drills as JSON, JUnit and a page
version_added: 0.1.0
description:
  - Makes of the results of M(agentless.hyperv.hyperv_restore) with O(agentless.hyperv.hyperv_restore#module:mode=drill) what is kept of
    them.
  - A task that failed before its drill began counts as failed, and virtual machines that would be refused as refused.
  - Every value is escaped for the form it stands in. The output is ASCII and holds nothing that a template engine would expand.
author:
  - The agentless.hyperv authors (@agentless)
positional: _input
options:
  _input:
    description: Results of a loop over entries of M(agentless.hyperv.hyperv_restore_info), or of single tasks.
    type: list
    elements: dict
    required: true
  made:
    description: When it is made, in UTC, as C(2026-11-03T22:00:00Z).
    type: str
    required: true
  host:
    description: The host that drilled, for results that do not tell it.
    type: str
    default: unknown
  run_id:
    description: The run, for results that do not tell it.
    type: str
    default: unknown
  refused:
    description: Entries of M(agentless.hyperv.hyperv_restore_info) with a refusal, which were not tried.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Keep the page
  ansible.builtin.copy:
    content: "{{ (drilled.results | agentless.hyperv.drill_evidence(made='2026-11-03T22:00:00Z')).html }}"
    dest: drills.html
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The evidence.
  type: dict
  contains:
    drills: {description: One entry for each drill., type: list, elements: dict, returned: always}
    counts: {description: "How many C(passed), C(failed) and were C(refused).", type: dict, returned: always}
    json: {description: All drills as JSON., type: str, returned: always}
    junit: {description: All drills as JUnit., type: str, returned: always}
    html: {description: All drills as one page., type: str, returned: always}
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import drills
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.drills import Drill, EvidenceError


def _of_result(result: Mapping[str, Any], made: datetime, host: str, run_id: str) -> Drill | None:
    """The drill of one task; None when it was skipped, or only predicted."""
    told = result.get("drill")
    if told is not None:
        return drills.of_data(told)
    if not (result.get("failed") or result.get("unreachable") or result.get("error_code")):
        return None
    return _of_entry(result.get("item") or {}, drills.FAILED, str(result.get("error_code") or "failed"),
                     str(result.get("msg") or "The drill did not begin."), made, host, run_id)


def _of_entry(entry: Mapping[str, Any], outcome: str, error_code: str, message: str, made: datetime, host: str, run_id: str) -> Drill:
    vm, newest = entry.get("vm") or {}, entry.get("newest") or {}
    source = entry.get("source_host")
    return Drill(str(vm.get("vm_id") or "unknown"), str(vm.get("name") or "unknown"), outcome, made, made, host, run_id,
                 None if source is None else str(source), newest.get("backup_id"), newest.get("folder"), error_code=error_code,
                 message=message[:2000])


def drill_evidence(results: Any, made: str, host: str = "unknown", run_id: str = "unknown", refused: Any = ()) -> dict[str, Any]:
    """See DOCUMENTATION."""
    if not isinstance(results, Sequence) or isinstance(results, str):
        raise AnsibleFilterError("drill_evidence: the input is a list of results.")
    try:
        moment = datetime.strptime(made, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        told = [_of_result(result, moment, host, run_id) for result in results]
        found = [drill for drill in told if drill is not None]
        found += [_of_entry(entry, drills.REFUSED, str(entry["refusal"]["error_code"]), str(entry["refusal"]["msg"]), moment, host, run_id)
                  for entry in refused if entry.get("refusal")]
    except (ValueError, KeyError, TypeError, AttributeError, EvidenceError) as error:
        raise AnsibleFilterError(f"drill_evidence: {error}") from error
    counts = {outcome: sum(1 for drill in found if drill.outcome == outcome) for outcome in drills.OUTCOMES}
    return {"drills": [drill.as_data() for drill in found], "counts": counts, "json": drills.as_json(found),
            "junit": drills.as_junit(found), "html": drills.as_html(found, moment)}


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"drill_evidence": drill_evidence}
