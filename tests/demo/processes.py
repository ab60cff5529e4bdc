# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends ansible-playbook with everything that it started. Its workers lead sessions of their own, so that its process group is not all."""
from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import defaultdict
from pathlib import Path

_PROC = Path("/proc")


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL for a process and all its descendants, at one blow: it stands still while they are counted."""
    if process.poll() is not None:
        return
    os.kill(process.pid, signal.SIGSTOP)
    for pid in [process.pid, *descendants(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = defaultdict(list)
    for child, parent in _parents():
        children[parent].append(child)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        more = children[waiting.pop()]
        found += more
        waiting += more
    return found


def _parents() -> list[tuple[int, int]]:
    """Each process with its parent; from ``ps`` where there is no ``/proc``."""
    if not (_PROC / "self" / "stat").exists():
        listed = subprocess.run(["ps", "-A", "-o", "pid=", "-o", "ppid="], capture_output=True, text=True, check=True).stdout  # noqa: S607
        return [(int(line.split()[0]), int(line.split()[1])) for line in listed.splitlines()]
    found = []
    for place in _PROC.iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                after_name = (place / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
                found.append((int(place.name), int(after_name.split()[1])))
    return found
