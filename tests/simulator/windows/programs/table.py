# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs in System32, by name without extension."""
from __future__ import annotations

from collections.abc import Mapping

from simulator.windows.programs import (
    certutil,
    chcp,
    cmd,
    diskshadow,
    fc,
    findstr,
    fsutil,
    icacls,
    more,
    netsh,
    robocopy,
    vssadmin,
    where,
    whoami,
)
from simulator.windows.programs.base import HostFacts, Program

PROGRAMS: Mapping[str, Program] = {
    "certutil": certutil.run, "chcp": chcp.run, "cmd": cmd.run, "diskshadow": diskshadow.run, "fc": fc.run, "findstr": findstr.run,
    "fsutil": fsutil.run, "icacls": icacls.run, "more": more.run, "netsh": netsh.run, "robocopy": robocopy.run,
    "vssadmin": vssadmin.run, "where": where.run, "whoami": whoami.run,
}


def programs_of(facts: HostFacts) -> Mapping[str, Program]:
    """The programs that a host has: diskshadow belongs to Server editions (operations 5.9)."""
    return {name: program for name, program in PROGRAMS.items() if name != "diskshadow"} if facts.client_edition else PROGRAMS
