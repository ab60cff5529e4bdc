# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``chcp``: shows or sets the code page of the console, for everything that runs in it from now on."""
from __future__ import annotations

from simulator.windows.programs.base import Context, Steps

KNOWN = (437, 850, 932, 1252, 65001)


def run(context: Context, tail: str) -> Steps:
    """Exit code 1 for a code page that the host does not have."""
    yield from ()
    wanted = tail.strip()
    if wanted:
        if not wanted.isdigit() or int(wanted) not in KNOWN:
            context.err("Invalid code page")
            return 1
        context.codepage = int(wanted)
    context.out(f"Active code page: {context.codepage}")
    return 0
