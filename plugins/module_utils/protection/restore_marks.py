# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a virtual machine that a restore made is known: one line in its notes, which names the machine itself (operations 0.8, 3.5).

An export keeps the notes of a machine, so whoever imports it elsewhere has the line, too: a mark speaks only for the machine whose GUID
it holds, and only while that machine is a restored one of this backup.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.checkpoint_marks import LINE, without_marks
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.naming import is_run_id

NEW, IN_PLACE, DRILL, CHECK = "new", "in_place", "drill", "check"
MODES = (NEW, IN_PLACE, DRILL)
"""What a restore is for. ``check``: a planned machine that is made to be validated, and never becomes a real one."""
_GUID = re.compile(r"[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}\Z")


@dataclass(frozen=True)
class RestoreMark:
    """What the line says: which machine carries it, of which machine the backup is, the run that made the backup, and the run that
    restored it. A machine of a ``drill`` lives only as long as that run."""

    vm_id: str
    source_id: str
    backup_id: str
    run_id: str
    mode: str

    def line(self) -> str:
        """The line in the notes."""
        return (f"[agentless.hyperv restored={self.vm_id} source={self.source_id} backup={self.backup_id} run={self.run_id} "
                f"mode={self.mode}]")


def stamped(notes: str | None, mark: RestoreMark) -> str:
    """The notes of a restored machine: its own text without anybody's mark, and the mark as the last line."""
    kept = without_marks(notes)
    return f"{kept}\n{mark.line()}" if kept else mark.line()


def mark_of(vm_id: str, notes: str | None) -> RestoreMark | None:
    """The mark in the notes of a machine; None when there is none, or only one of another machine, or one nobody of ours wrote."""
    for line in reversed((notes or "").splitlines()):
        found = LINE.fullmatch(line.strip())
        mark = None if found is None else _read(found.group(1))
        if mark is not None and mark.vm_id == vm_id.upper():
            return mark
    return None


def _read(text: str) -> RestoreMark | None:
    values = dict(part.split("=", 1) for part in text.split())
    mark = RestoreMark(values.get("restored", "").upper(), values.get("source", "").upper(), values.get("backup", ""),
                       values.get("run", ""), values.get("mode", ""))
    whole = _GUID.match(mark.vm_id) and _GUID.match(mark.source_id) and is_run_id(mark.backup_id) and is_run_id(mark.run_id)
    return mark if whole and mark.mode in (*MODES, CHECK) else None
