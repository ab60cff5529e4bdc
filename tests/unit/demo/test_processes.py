# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run is killed with everything that it started, also what leads a session of its own."""
from __future__ import annotations

import signal
import subprocess
import sys

from demo import processes

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, start_new_session=True)
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_child_in_another_session_dies_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert processes.descendants(parent.pid) == [child]
        processes.kill(parent)
        assert parent.returncode == -signal.SIGKILL
        assert parent.stdout.read() == "", "nobody holds the other end any more"
        processes.kill(parent)
