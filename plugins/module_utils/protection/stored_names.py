# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the reports, and which evidence of drills, go from a destination: pure, on nothing but their names.

Both are called ``<UTC time>_<run>``. What a destination lists is untrusted. So a name counts only when it is one that this collection
would have given, the time it tells is one, and nothing of a listing but such a name ever gets into a path.
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo

from ansible_collections.agentless.hyperv.plugins.module_utils.protection import retention
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.retention import Keep, RetainedCopy

MOST = 100
"""So many go in one run, the oldest first: each is a few lines of the script that removes it."""
INTERRUPTED = timedelta(days=1)
"""What is not whole after so long was interrupted; before that somebody may be writing it."""
_NAME = re.compile(r"(?P<taken>[0-9]{8}T[0-9]{6}Z)_[A-Za-z0-9][A-Za-z0-9-]{0,39}\Z")


def taken_of(name: str) -> datetime | None:
    """The time that a name of ours tells; None for any other name."""
    match = _NAME.match(name)
    if match is None:
        return None
    try:
        return datetime.strptime(match.group("taken"), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def going(found: Mapping[str, bool], new: str, keep: Keep, *, now: datetime, timezone: tzinfo = UTC) -> tuple[str, ...]:
    """The names that go once ``new`` is there, the oldest first. ``found``: every name that is listed, and whether all of it is there.

    The rules mean what they mean for copies (:mod:`.retention`). Without a rule nothing goes. What is not whole is not counted, and goes
    as something that was interrupted; what says that it is from the future stays.
    """
    if keep.empty:
        return ()
    whole = [copy for copy in _ours(found) if found[copy.copy_id] and copy.copy_id != new]
    plan = retention.decide([*whole, RetainedCopy(new, now)], keep, now=now, newest_run_failed=False, timezone=timezone)
    broken = [copy for copy in _ours(found) if not found[copy.copy_id] and copy.taken < now - INTERRUPTED]
    doomed = sorted([*plan.removed, *broken], key=lambda copy: (copy.taken, copy.copy_id))
    return tuple(copy.copy_id for copy in doomed if copy.copy_id != new)[:MOST]


def _ours(found: Mapping[str, bool]) -> Iterator[RetainedCopy]:
    for name in found:
        taken = taken_of(name)
        if taken is not None:
            yield RetainedCopy(name, taken)
