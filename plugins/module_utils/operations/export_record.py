# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the intent of an export says: enough for a later run to bring it to its end, or to take everything back.

It stands on the host before anything is made. Only what cannot be read again is in it.
"""
from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import EXPORT, METHODS, VERIFIED
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent

CHECKPOINT_NAME = "export"


@dataclass(frozen=True)
class ExportRecord:
    """One export. ``method`` and ``verify`` as in a manifest; ``requested``: the consistency that was asked for. ``checkpoint_id``: the one
    that was there before and is exported; one that is made for it has the name of the run. ``excluded``: paths of left-out disks.
    """

    vm_id: str
    method: str
    verify: str
    requested: str
    checkpoint_id: str | None = None
    excluded: tuple[str, ...] = ()

    def dump(self) -> str:
        """The note of an intent."""
        return json.dumps({"export": {"vm_id": self.vm_id, "method": self.method, "verify": self.verify, "requested": self.requested,
                                      "checkpoint_id": self.checkpoint_id, "excluded": list(self.excluded)}})


def record_of(intent: Intent) -> ExportRecord | None:
    """The export that an intent tells of; None for any other intent, and for one that nobody can understand."""
    try:
        data = json.loads(intent.note)["export"] if intent.note else None
        return None if data is None else _record(data)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _record(data: Mapping[str, Any]) -> ExportRecord:
    vm_id, checkpoint = as_guid(data["vm_id"]), data["checkpoint_id"]
    excluded = data["excluded"]
    if vm_id is None or data["method"] not in METHODS[EXPORT] or data["verify"] not in VERIFIED[EXPORT]:
        raise ValueError("no export that is known")
    if not isinstance(data["requested"], str) or not all(isinstance(one, str) for one in excluded):
        raise ValueError("a value is no text")
    return ExportRecord(vm_id, data["method"], data["verify"], data["requested"], None if checkpoint is None else as_guid(checkpoint),
                        tuple(excluded))


def checkpoint_name(run_id: str) -> str:
    """The name of the checkpoint that a run makes for an export."""
    return f"{CHECKPOINT_NAME} {run_id}"
