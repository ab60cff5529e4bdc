# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks in notes: of a test machine, that it is ours, of which replica; of a replica, that it is deleted when its relation has ended."""
from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

HOLDS = timedelta(days=7)
"""How long a mark for deletion is followed. Later somebody may have put the machine to use."""
_TIME = "%Y-%m-%dT%H:%M:%SZ"
WINDOW = timedelta(minutes=5)
"""A test machine that is at most so much younger than the announcement on its replica came of it: the host is asked for it right after the
announcement, and again twice within minutes when an answer is lost."""
_BEGUN = re.compile(r"\[agentless\.hyperv test failover begun of=([0-9A-F-]{36}) at=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\]")
_DOOMED = re.compile(r"\[agentless\.hyperv replica to be deleted vm=([0-9A-F-]{36}) at=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\]")
_MARK = re.compile(r"\[agentless\.hyperv test failover of=([0-9A-F-]{36}) test=([0-9A-F-]{36})\]")


def stamped(notes: str | None, replica_id: str, test_id: str) -> str:
    """The notes with the mark at their end. The marks of others, which a machine inherits with its notes, go."""
    kept = _MARK.sub("", withdrawn(notes)).strip()
    mark = f"[agentless.hyperv test failover of={replica_id} test={test_id}]"
    return f"{kept}\n{mark}" if kept else mark


def is_ours(notes: str | None, replica_id: str, test_id: str) -> bool:
    """Whether the notes say that this very machine is a test of ours of this very replica."""
    return (replica_id, test_id) in _MARK.findall(notes or "")


def announced(notes: str | None, replica_id: str, now: datetime) -> str:
    """The notes of a replica that say that a test machine of it is about to be made: one that is made has no mark yet."""
    kept = withdrawn(notes)
    mark = f"[agentless.hyperv test failover begun of={replica_id} at={now.astimezone(UTC).strftime(_TIME)}]"
    return f"{kept}\n{mark}" if kept else mark


def is_announced(notes: str | None) -> bool:
    """Whether the notes announce a test machine."""
    return _BEGUN.search(notes or "") is not None


def withdrawn(notes: str | None) -> str:
    """The notes without an announcement."""
    return _BEGUN.sub("", notes or "").strip()


def came_of(notes: str | None, replica_id: str, created: datetime | None) -> bool:
    """Whether a test machine of a replica was made right after the notes of the replica announced one; there was none then."""
    return created is not None and any(
        marked == replica_id and timedelta() <= created - at <= WINDOW for marked, at in _times(_BEGUN, notes))


def _times(mark: re.Pattern[str], notes: str | None) -> Iterator[tuple[str, datetime]]:
    for marked, text in mark.findall(notes or ""):
        try:
            yield marked, datetime.strptime(text, _TIME).replace(tzinfo=UTC)
        except ValueError:
            continue  # digits that are no time


def doomed(notes: str | None, vm_id: str, now: datetime) -> str:
    """The notes with the mark for deletion at their end, in place of an older one."""
    kept = spared(notes)
    mark = f"[agentless.hyperv replica to be deleted vm={vm_id} at={now.astimezone(UTC).strftime(_TIME)}]"
    return f"{kept}\n{mark}" if kept else mark


def spared(notes: str | None) -> str:
    """The notes without a mark for deletion."""
    return _DOOMED.sub("", notes or "").strip()


def is_doomed(notes: str | None, vm_id: str, now: datetime) -> bool:
    """Whether the notes say that this very machine is to be deleted, and have not said so for too long."""
    return any(marked == vm_id and timedelta(minutes=-5) <= now - at <= HOLDS for marked, at in _times(_DOOMED, notes))


def is_test(notes: str | None, vm_id: str) -> bool:
    """Whether the notes say that this very machine is a test of ours, of whatever replica."""
    return vm_id.upper() in (test for _replica, test in _MARK.findall(notes or ""))
