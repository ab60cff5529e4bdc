# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs in System32, by name without extension."""
from __future__ import annotations

from collections.abc import Mapping

from simulator.windows.programs import certutil, chcp, cmd, fc, findstr, fsutil, icacls, more, robocopy, where, whoami
from simulator.windows.programs.base import Program

PROGRAMS: Mapping[str, Program] = {
    "certutil": certutil.run, "chcp": chcp.run, "cmd": cmd.run, "fc": fc.run, "findstr": findstr.run, "fsutil": fsutil.run,
    "icacls": icacls.run, "more": more.run, "robocopy": robocopy.run, "where": where.run, "whoami": whoami.run,
}
