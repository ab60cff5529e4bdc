# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``where NAME``: the programs of System32 with this name, exit code 1 when there is none."""
from __future__ import annotations

from simulator.windows.cmdparse import split_arguments
from simulator.windows.errors import Win32Error
from simulator.windows.programs.base import Context, NotSimulated, Steps, wildcard


def run(context: Context, tail: str) -> Steps:
    """Search the folders of PATH and the current one."""
    yield from ()
    words = split_arguments(tail)
    if any(word.startswith("/") or "$" in word for word in words):
        raise NotSimulated("options of where")
    status = 0
    for word in words:
        folders = (context.directory, *(context.variable("PATH") or "").split(";"))
        found = [line for folder in folders for line in _in(context, folder, word)]
        for line in dict.fromkeys(found):
            context.out(line)
        if not found:
            context.err(context.say("where_none"))
            status = 1
    return status


def _in(context: Context, folder: str, word: str) -> list[str]:
    try:
        place = context.existing(folder)
        children = list(context.files.children(place, context.token))
    except Win32Error:
        return []
    test, stem = wildcard(word), wildcard(word + ".*")
    names = [entry.parts[-1] for entry in children if not entry.is_directory]
    return [folder.rstrip("\\") + "\\" + name for name in names
            if test(name) or (stem(name) and name.lower().endswith((".exe", ".com", ".cmd", ".bat")))]
