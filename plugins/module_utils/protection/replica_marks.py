# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark in the notes of a test machine that says that it is ours: of which replica, and which machine it is itself."""
from __future__ import annotations

import re

_MARK = re.compile(r"\[agentless\.hyperv test failover of=([0-9A-F-]{36}) test=([0-9A-F-]{36})\]")


def stamped(notes: str | None, replica_id: str, test_id: str) -> str:
    """The notes with the mark at their end. The marks of others, which a machine inherits with its notes, go."""
    kept = _MARK.sub("", notes or "").strip()
    mark = f"[agentless.hyperv test failover of={replica_id} test={test_id}]"
    return f"{kept}\n{mark}" if kept else mark


def is_ours(notes: str | None, replica_id: str, test_id: str) -> bool:
    """Whether the notes say that this very machine is a test of ours of this very replica."""
    return (replica_id, test_id) in _MARK.findall(notes or "")
