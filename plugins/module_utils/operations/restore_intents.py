# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""Intents for restores: ``<state folder>\intents\<run>_<token>.restore``, one for each.

A planned machine carries no mark at the moment it is imported, and files carry none at all. So the intent says first: into which folder the
files go, which nobody else has, and which planned machines were there before. It goes when the restored machine is a real one, or when
everything that came of it is gone; one whose run holds no lease any more says what the clean-up has to look at.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.intent_store import Head, IntentStore
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming, restore_marks

_LOCAL = re.compile(r"[A-Za-z]:\\")


@dataclass(frozen=True)
class RestoreIntent:
    """What a run is about to do: restore the machine ``source_id``, called ``source_name`` in its backup, from ``backup_id`` under the
    name ``name``, with its files in ``folder``, named ``<UTC time>_<run id>``; a check has none. ``token`` tells the intents of one run
    apart, also those of a retry.
    """

    run_id: str
    token: str
    host_time: datetime
    mode: str
    source_id: str
    source_name: str
    name: str
    backup_id: str
    folder: str
    planned_before: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        """What its file says beside run and time."""
        return {"mode": self.mode, "source_id": self.source_id, "source_name": self.source_name, "name": self.name,
                "backup_id": self.backup_id, "folder": self.folder, "planned_before": list(self.planned_before)}


def _of_data(head: Head, data: Mapping[str, Any]) -> RestoreIntent:
    mode, source_id = _text(data, "mode"), as_guid(_text(data, "source_id"))
    folder = "" if data.get("folder") == "" and mode == restore_marks.CHECK else _text(data, "folder")
    if (folder and not is_folder_of(folder, head.run_id)) or mode not in (*restore_marks.MODES, restore_marks.CHECK) or source_id is None:
        raise ValueError("the folder, the mode or the machine cannot be used")
    before = data.get("planned_before")
    if not isinstance(before, list) or not all(isinstance(one, str) and as_guid(one) for one in before):
        raise ValueError("planned_before is not a list of GUIDs")
    backup_id = _text(data, "backup_id")
    if not naming.is_run_id(backup_id):
        raise ValueError("backup_id is malformed")
    return RestoreIntent(head.run_id, head.token, head.host_time, mode, source_id, _text(data, "source_name"), _text(data, "name"),
                         backup_id, folder, tuple(as_guid(one) or "" for one in before))


def is_folder_of(folder: str, run_id: str) -> bool:
    r"""True for ``<drive>:\...\<host>\<VM>\<UTC time>_<run id>`` with safe names throughout: what a run of this name may have made."""
    parts = folder[3:].split("\\")
    return bool(_LOCAL.match(folder)) and naming.is_safe_relative(folder[3:]) and len(parts) >= 3 and bool(
        re.fullmatch(rf"\d{{8}}T\d{{6}}Z_{re.escape(run_id)}", parts[-1], re.IGNORECASE))


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value or len(value) > 4096:
        raise ValueError(f"{key} is not a text")
    return value


STORE = IntentStore("restore", "restore", _of_data)
"""Where they stand."""
