# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what each task of a run cost the controller: wall and processor seconds of the whole process tree.

Workers that ended and were not waited for yet are looked up in ``/proc``; all others are in the kernel's own sums.
"""
from __future__ import annotations

DOCUMENTATION = r"""
name: cost
type: notification
short_description: Wall and processor time of each task
description: For the measurements of this collection.
"""

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

TICKS = os.sysconf("SC_CLK_TCK")


def _processor_seconds() -> float:
    sums = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in sums) + sum(_of_child(pid) for pid in _children())


def _children() -> list[int]:
    tasks = Path("/proc/self/task")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def _of_child(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0  # it was waited for in between
    return sum(int(ticks) for ticks in fields[11:15]) / TICKS


class CallbackModule(CallbackBase):
    """Appends a line for each task to the file that ``COST_FILE`` names when the next task begins."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "cost"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._task: str | None = None
        self._begun = (0.0, 0.0)
        self._ok = 0

    def _end(self) -> None:
        now = (time.perf_counter(), _processor_seconds())
        if self._task is not None:
            line = {"task": self._task, "ok": self._ok, "wall": now[0] - self._begun[0], "cpu": now[1] - self._begun[1]}
            with Path(os.environ["COST_FILE"]).open("a", encoding="utf-8") as record:
                record.write(json.dumps(line) + "\n")
        self._begun, self._ok = now, 0

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """The task before is over."""
        self._end()
        self._task = task.get_name()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Count hosts, so that a failure is no fast success."""
        self._ok += 1

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The last task is over."""
        self._end()
