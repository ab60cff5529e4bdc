# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``cmd.exe`` started by name: ``/c`` with ``/v:on`` (delayed expansion), ``/s`` and ``/d``."""
from __future__ import annotations

import re
from dataclasses import replace

from simulator.windows import cmdline, cmdparse
from simulator.windows.programs.base import Context, NotSimulated, Steps


def run(context: Context, tail: str) -> Steps:
    """Run the line after ``/c``; exit code of its last command."""
    delayed = strip = False
    rest = tail.lstrip()
    while True:
        match = re.match(r"/([A-Za-z])(?::(on|off))?(?=[\s/\"]|\Z)\s*", rest, re.IGNORECASE)
        if not match:
            raise NotSimulated("cmd without /c")
        rest = rest[match.end():]
        letter = match.group(1).lower()
        if letter in "ck":
            break
        if letter == "v":
            delayed = (match.group(2) or "on").lower() == "on"
        strip = strip or letter == "s"
    child = replace(context, environment=dict(context.environment))
    if strip and rest.startswith('"'):
        last = rest.rfind('"')
        return (yield from cmdline.Shell(child, delayed=delayed).line(rest[1:last] + rest[last + 1:] if last > 0 else rest[1:]))
    if len(rest) > cmdparse.LINE_LIMIT:
        context.err(context.say("line_too_long"))
        return 1
    return (yield from cmdline.run_line(child, rest, delayed=delayed))
