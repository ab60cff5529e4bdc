# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``fc /b``: compares two files byte by byte; exit code 0 the same, 1 different, 2 a file cannot be read."""
from __future__ import annotations

from simulator.windows.cmdparse import split_arguments
from simulator.windows.errors import Win32Error
from simulator.windows.programs.base import Context, NotSimulated, Steps

_SHOWN = 100


def run(context: Context, tail: str) -> Steps:
    """Compare; the first differences are printed."""
    yield from ()
    words = split_arguments(tail)
    switches = {word.lower() for word in words if word.startswith("/")}
    names = [word for word in words if not word.startswith("/")]
    if switches != {"/b"} or len(names) != 2:
        raise NotSimulated("fc other than /b with two files")
    try:
        left, right = (context.files.read_file(context.existing(name).path.text(), context.token) for name in names)
    except Win32Error as refused:
        context.err(f"FC: {context.error_text(refused.code)}")
        return 2
    context.out(f"Comparing files {names[0]} and {names[1].upper()}")
    if left == right:
        context.out("FC: no differences encountered")
        return 0
    for at, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other and at < _SHOWN:
            context.out(f"{at:08X}: {one:02X} {other:02X}")
    if len(left) != len(right):
        context.out(f"FC: {names[0] if len(left) > len(right) else names[1]} longer than the other")
    return 1
