# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``more``: standard input or files to standard output; not to a screen, so there are no pages."""
from __future__ import annotations

from simulator.windows.cmdparse import split_arguments
from simulator.windows.programs.base import Context, Steps


def run(context: Context, tail: str) -> Steps:
    """Pass text on, line by line; tabs become blanks."""
    words = [word for word in split_arguments(tail) if not word.startswith(("/", "+"))]
    if words:
        data = b"".join(context.files.read_file(word, context.token, context.directory) for word in words)
    else:
        data = yield from context.stdin.read_all()
    for line in data.splitlines():
        context.stdout.write(line.expandtabs(8) + b"\r\n")
    return 0
