# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run takes away again of its own at a destination: folders without a manifest; on a volume by programs, at a share by tasks."""
from __future__ import annotations

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import cleanup_copies
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_copies import IncompleteCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_shares import MISSING, ShareWork
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_work import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent


def take_away(tools: Tools, intent: Intent) -> list[Leftover]:
    """Remove what the run of this intent left at the destination without a manifest: only what a copy or an export puts there.

    Returns what is still there, or what nobody can tell of. One that has a manifest is no incomplete one, and stays.
    """
    if any(cleanup_copies.is_share(folder) for folder in intent.folders):
        return _take_away_from_share(tools, intent)
    left = []
    volumes = (tools.destination.volume,) if tools.destination.volume is not None else ()
    for copy in cleanup_copies.find(tools.writer, [intent], volumes):
        try:
            cleanup_copies.remove(tools.writer, copy)
        except HypervError as error:
            tools.progress(error.message)
            left.append(leftover(copy.path))
    return left


def _take_away_from_share(tools: Tools, intent: Intent) -> list[Leftover]:
    if tools.identity.task is None:
        return [unseen(folder, intent.run_id) for folder in intent.folders]
    work = ShareWork(tools, tools.identity.task, intent.run_id)
    shares = work.search([intent])
    copies: list[IncompleteCopy] = [copy for copy in shares.copies if copy.foreign is None]
    still = work.sweep(copies) if copies else {}
    unknown = [unseen(folder, intent.run_id) for folder in intent.folders if MISSING in shares.status.values()]
    strange = [leftover(copy.path) for copy in shares.copies if copy.foreign is not None]
    return [*(leftover(path) for path in still), *strange, *unknown, *work.leftovers]


def leftover(path: str) -> Leftover:
    """A folder without a manifest that stays."""
    return Leftover("incomplete_copy", path, path, f'rmdir /s /q "{path}"')


def unseen(folder: str, run_id: str) -> Leftover:
    """What a run may have left below the folder of a virtual machine, when nobody could look. Whole copies lie there, too, so the folder
    itself is nothing to remove."""
    return Leftover("incomplete_copy", f"{folder}\\*_{run_id}", folder, f"hyperv_cleanup with run_id {run_id} and remove: true")
