# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vssadmin list shadows`` and ``vssadmin list writers``, the part of its output that operations 5.6 and 5.9 speak of.

The form of the lines is general knowledge. A writer's state is only reliable within a session (operations 5.9).
"""
from __future__ import annotations

from simulator.windows import vss
from simulator.windows.cmdparse import split_arguments
from simulator.windows.listing import local_time
from simulator.windows.programs.base import Context, NotSimulated, Steps
from simulator.windows.vss import VssService

_STATES = {vss.STABLE: "Stable", vss.WAITING_FOR_COMPLETION: "Waiting for completion", vss.FAILED_AT_PREPARE: "Failed"}
_ERRORS = {0: "No error", vss.WRITER_INCONSISTENT: "Inconsistent shadow copy", vss.WRITER_RETRYABLE: "Retryable error",
           vss.WRITER_NON_RETRYABLE: "Non-retryable error"}


def run(context: Context, tail: str) -> Steps:
    """Exit code 2 when the token has not the rights; 1 when nothing is found."""
    yield from ()
    words = [word.lower() for word in split_arguments(tail)]
    assert context.vss is not None
    if words not in (["list", "shadows"], ["list", "writers"]):
        raise NotSimulated("vssadmin other than list shadows and list writers")
    context.out("vssadmin 1.1 - Volume Shadow Copy Service administrative command-line tool")
    context.out("(C) Copyright 2001-2013 Microsoft Corp.")
    context.out("")
    if not context.token.elevated:
        context.err("Error: You don't have the correct permissions to run this command.")
        return 2
    return _list_shadows(context, context.vss) if words[1] == "shadows" else _list_writers(context, context.vss)


def _list_shadows(context: Context, service: VssService) -> int:
    if not service.shadows.copies:
        context.out("No items found that satisfy the query.")
        return 1
    for set_id in dict.fromkeys(copy.set_id for copy in service.shadows.copies):
        copies = [copy for copy in service.shadows.copies if copy.set_id == set_id]
        created = local_time(context, copies[0].created).strftime("%m/%d/%Y %I:%M:%S %p")
        context.out(f"Contents of shadow copy set ID: {set_id.lower()}")
        context.out(f"   Contained {len(copies)} shadow copies at creation time: {created}")
        for copy in copies:
            context.out(f"      Shadow Copy ID: {copy.shadow_id.lower()}")
            context.out(f"         Original Volume: ({copy.volume.mount_path.rstrip(chr(92))}){copy.volume.device_id}")
            context.out(f"         Shadow Copy Volume: {copy.device_object}")
        context.out("")
    return 0


def _list_writers(context: Context, service: VssService) -> int:
    for writer in service.writers:
        context.out(f"Writer name: '{writer.name}'")
        context.out(f"   Writer Id: {writer.writer_id}")
        context.out(f"   State: [{writer.state}] {_STATES[writer.state]}")
        context.out(f"   Last error: {_ERRORS.get(writer.last_error, f'0x{writer.last_error:08x}')}")
        context.out("")
    return 0
