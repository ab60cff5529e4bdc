# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``fsutil reparsepoint query PATH``: exit code 1 when the path is no reparse point."""
from __future__ import annotations

from simulator.windows.cmdparse import split_arguments
from simulator.windows.errors import Win32Error
from simulator.windows.programs.base import Context, NotSimulated, Steps

_TAGS = {"symlinkd": (0xA000000C, "Symbolic Link"), "symlink": (0xA000000C, "Symbolic Link"), "junction": (0xA0000003, "Mount Point"),
         "mount": (0xA0000003, "Mount Point")}


def run(context: Context, tail: str) -> Steps:
    """Print the tag and the raw data of a reparse point."""
    yield from ()
    words = split_arguments(tail)
    if [word.lower() for word in words[:2]] != ["reparsepoint", "query"] or len(words) != 3:
        raise NotSimulated("fsutil other than reparsepoint query")
    try:
        place = context.existing(words[2], follow_last=False)
    except Win32Error as refused:
        context.out("Error:  " + context.error_text(refused.code))
        return 1
    if place.link is None:
        context.out(context.say("not_reparse"))
        return 1
    tag, words_of_tag = _TAGS[place.link.kind]
    context.out(f"Reparse Tag Value : 0x{tag:08x}\r\nTag value: Microsoft\r\nTag value: Name Surrogate\r\nTag value: {words_of_tag}\r\n")
    data = place.link.target.encode("utf-16-le")
    context.out(f"Reparse Data Length: 0x{len(data):08x}\r\nReparse Data:")
    for at in range(0, len(data), 16):
        piece = data[at:at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        context.out(f"{at:04x}:  {' '.join(f'{byte:02x}' for byte in piece):<47}  {shown}")
    return 0
