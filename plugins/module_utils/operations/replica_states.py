# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of a relation as a table: from each of them, the one next step towards what a task wants (operations 7.4).

Pure. A run that died half way finds a state, and goes on from it: nothing else says where it stands.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError

NONE = "none"
"""There is no relation."""
REPLICATING, PAUSED, ABSENT = "replicating", "paused", "absent"
"""What a task can want."""
CREATE, COPY, RESUME, PAUSE, RESYNC, WAIT, REMOVE = "create", "copy", "resume", "pause", "resynchronize", "wait", "remove"
IMPORT = "import_copy"
"""Taking in, on the replica server, a first copy that came on media."""


@dataclass(frozen=True)
class Refusal:
    """Nobody should go on from this state by himself."""

    error_code: str
    sentence: str
    hint: str


_FAILOVER = Refusal("failover_in_progress", "A failover of it is not finished",
                    "Finish it with hyperv_replica_failover: planned again, commit, cancel or reverse.")
_UNKNOWN = Refusal("replica_state_unknown", "It is in a state that is only reported", "Look at both hosts with hyperv_replica_info.")
_DISKS = Refusal("disk_update_failed", "The change of its disks failed", "hyperv_replica_info shows the reasons of the host.")
_NOT_YET = Refusal("not_replicating", "It is not replicating, so it cannot be paused", "Let it come to its end with state: present.")
_CRITICAL = Refusal("replica_critical", "Replication has stopped by itself, and cannot be paused",
                    "Nothing is sent now. hyperv_replica_info has the reasons; state: present resumes it.")
_NOTHING = Refusal("not_replicated", "It is not replicated, so there is nothing to pause", "Begin with state: present.")

_STOPPED: Mapping[str, Refusal] = {
    "synced": _FAILOVER, "recovered": _FAILOVER, "committed": _FAILOVER, "failover_in_progress": _FAILOVER,
    "failback_in_progress": _FAILOVER, "failback_complete": _FAILOVER, "disk_update_critical": _DISKS,
}
_TABLE: Mapping[str, Mapping[str, str | Refusal | None]] = {
    REPLICATING: {
        NONE: CREATE, "ready": COPY, "initial_replication": WAIT, "replicating": None, "suspended": RESUME, "critical": RESUME,
        "waiting_for_resynchronization": RESYNC, "resynchronizing": WAIT, "resynchronization_suspended": RESUME, "disk_update": WAIT,
        **_STOPPED,
    },
    PAUSED: {
        NONE: _NOTHING, "ready": _NOT_YET, "initial_replication": _NOT_YET, "replicating": PAUSE, "suspended": None, "critical": _CRITICAL,
        "waiting_for_resynchronization": None, "resynchronizing": _NOT_YET, "resynchronization_suspended": None,
        "disk_update": _NOT_YET,
        **_STOPPED,
    },
    ABSENT: {
        NONE: None, "ready": REMOVE, "initial_replication": REMOVE, "replicating": REMOVE, "suspended": REMOVE, "critical": REMOVE,
        "waiting_for_resynchronization": REMOVE, "resynchronizing": REMOVE, "resynchronization_suspended": REMOVE, "disk_update": REMOVE,
        "disk_update_critical": REMOVE, "committed": REMOVE, "synced": _FAILOVER, "recovered": _FAILOVER,
        "failover_in_progress": _FAILOVER, "failback_in_progress": _FAILOVER, "failback_complete": REMOVE,
    },
}
LEADS_TO: Mapping[str, frozenset[str]] = {
    CREATE: frozenset(("ready", "initial_replication", "replicating")),
    COPY: frozenset(("initial_replication", "replicating")),
    RESUME: frozenset(("replicating", "initial_replication", "resynchronizing", "waiting_for_resynchronization")),
    PAUSE: frozenset(("suspended", "resynchronization_suspended")),
    RESYNC: frozenset(("resynchronizing", "replicating")),
    REMOVE: frozenset((NONE,)),
    IMPORT: frozenset(("replicating",)),
}
"""The states that show that a step was done."""
EXPECTED: Mapping[str, str] = {CREATE: "ready", COPY: "initial_replication", RESUME: "replicating", PAUSE: "suspended",
                               RESYNC: "resynchronizing", WAIT: "replicating", REMOVE: NONE, IMPORT: "replicating"}
"""Where a step leads when all goes well."""


def next_step(state: str, goal: str) -> str | None:
    """The step to take; None when there is none left. Raises HypervError with the code of the state for one that must be looked at."""
    refusal = _TABLE[goal].get(state, _UNKNOWN)
    if isinstance(refusal, Refusal):
        raise HypervError(f"{refusal.sentence} (state {state}).", error_code=refusal.error_code, hint=refusal.hint,
                          details={"state": state})
    return refusal


def steps_from(state: str, goal: str) -> tuple[str, ...]:
    """The steps that lead from a state to a goal when all goes well. Raises as :func:`next_step`."""
    found: list[str] = []
    while (step := next_step(state, goal)) is not None:
        found.append(step)
        state = EXPECTED[step]
    return tuple(found)
