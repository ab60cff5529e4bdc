# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``whoami``: the account of the process; ``/user`` adds its SID, ``/fo csv`` and ``/nh`` choose the form."""
from __future__ import annotations

from simulator.windows.cmdparse import split_arguments
from simulator.windows.programs.base import Context, NotSimulated, Steps


def run(context: Context, tail: str) -> Steps:
    """Print the account, in lower case as the original does."""
    yield from ()
    words = [word.lower() for word in split_arguments(tail)]
    authority, _unused, user = context.token.name.partition("\\")
    name = f"{authority.split('.')[0]}\\{user}".lower()
    if not words:
        context.out(name)
        return 0
    if words[0] != "/user":
        raise NotSimulated(f"whoami {words[0]}")
    form = words[words.index("/fo") + 1] if "/fo" in words[:-1] else "table"
    header = "/nh" not in words
    if form == "csv":
        if header:
            context.out('"User Name","SID"')
        context.out(f'"{name}","{context.token.sid}"')
    elif form == "list":
        context.out(f"User Name: {name}\r\nSID:       {context.token.sid}")
    else:
        if header:
            context.out("\r\nUSER INFORMATION\r\n----------------\r\n")
            context.out(f"{'User Name':<{len(name)}} SID")
            context.out(f"{'=' * len(name)} {'=' * len(context.token.sid)}")
        context.out(f"{name} {context.token.sid}")
    return 0
