# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a checkpoint of ours is known: one line in its notes, which names the checkpoint itself (operations 0.8).

Hyper-V may copy notes from a machine to its checkpoints and back, so a mark speaks only for the checkpoint whose GUID it holds.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.naming import is_run_id

LINE = re.compile(r"\[agentless\.hyperv((?: [a-z]+=[A-Za-z0-9:_-]+)+)\]")
"""A mark of any kind: words of our own between brackets, and nothing else on the line."""
_GUID = re.compile(r"[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}\Z")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Mark:
    """What the line says. ``kind``: what was asked for; ``achieved``: the consistency that was reached; ``policy``: the machine's own
    policy at that time, which a revert does not bring back by itself; ``expires``: from when on it may be removed.
    """

    checkpoint_id: str
    run_id: str
    kind: str
    achieved: str
    policy: str | None = None
    expires: datetime | None = None

    def line(self) -> str:
        """The line in the notes."""
        parts = [f"checkpoint={self.checkpoint_id}", f"run={self.run_id}", f"kind={self.kind}", f"achieved={self.achieved}"]
        if self.policy is not None:
            parts.append(f"policy={self.policy}")
        if self.expires is not None:
            parts.append(f"expires={self.expires.astimezone(UTC).strftime(_TIME)}")
        return f"[agentless.hyperv {' '.join(parts)}]"


def stamped(text: str | None, mark: Mark) -> str:
    """The notes of a checkpoint of ours: the user's text without anybody's mark, and the mark as the last line."""
    kept = without_marks(text)
    return f"{kept}\n{mark.line()}" if kept else mark.line()


def without_marks(text: str | None) -> str:
    """Notes for people: everything but lines that are marks."""
    return "\n".join(line for line in (text or "").splitlines() if not LINE.fullmatch(line.strip())).strip("\n")


def mark_of(checkpoint_id: str, notes: str | None) -> Mark | None:
    """The mark in the notes of a checkpoint; None when there is none, or only one of another checkpoint, or one nobody of ours wrote."""
    for line in reversed((notes or "").splitlines()):
        found = LINE.fullmatch(line.strip())
        mark = None if found is None else _read(found.group(1))
        if mark is not None and mark.checkpoint_id == checkpoint_id.upper():
            return mark
    return None


def _read(text: str) -> Mark | None:
    values = dict(part.split("=", 1) for part in text.split())
    run_id, checkpoint_id = values.get("run", ""), values.get("checkpoint", "").upper()
    if not is_run_id(run_id) or not _GUID.match(checkpoint_id):
        return None
    try:
        expires = datetime.strptime(values["expires"], _TIME).replace(tzinfo=UTC) if "expires" in values else None
    except ValueError:
        return None
    return Mark(checkpoint_id, run_id, values.get("kind", "unknown"), values.get("achieved", "unknown"), values.get("policy"), expires)


def expired(mark: Mark | None, now: datetime, grace: timedelta = timedelta()) -> bool:
    """True when its time is over, by the clock of the host."""
    return mark is not None and mark.expires is not None and mark.expires + grace <= now
