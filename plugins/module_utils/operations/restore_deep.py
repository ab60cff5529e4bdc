# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deep check: a planned machine is made from the backup where it lies, validated, and destroyed (operations 0.9). Nothing is copied.

It says what no reading method can: everything that this host cannot take. It writes to the host for a moment, so it is never part of
check mode.
"""
from __future__ import annotations

import secrets
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import planned
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import restore_import, restore_intents, restore_run
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_copy import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_import import Made, Wish
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_intents import RestoreIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_request import Request
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_source import Source
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.restore_marks import CHECK
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import system


def check(tools: Tools, request: Request, source: Source | None, name: str) -> dict[str, Any]:
    """What the host cannot take, as the result's ``incompatibilities``; ``failed`` when there is anything, or something stays."""
    if source is None:
        raise HypervError("No backup is known.", error_code="backup_not_found")
    made = Made()
    left: list[Leftover] = []
    error: HypervError | None = None
    wish = Wish(source, source.folder, f"{name[:60]} (check {secrets.token_hex(3)})", request.run_id, CHECK, True, request.networks)
    before = planned.read_ids(tools.writer)
    intent = RestoreIntent(request.run_id, secrets.token_hex(4), system.read_time(tools.writer), CHECK, source.vm_id, source.vm_name,
                           wish.name, source.backup_id, "", tuple(sorted(before)))
    try:
        restore_intents.STORE.write(tools.writer, tools.folder, intent)
        restore_import.plan(tools, wish, made, before)
        restore_import.validate(tools, made, wish.name)
    except HypervError as problem:
        error = problem
    left += restore_import.doubtful_leftovers(made, wish.name)
    if made.planned_id is not None:
        left += _destroy(tools.to_the_end(), made.planned_id, wish.name)
    left += [restore_intents.STORE.leftover(tools.folder, intent)] if left else restore_run.forget(tools, intent)
    result: dict[str, Any] = {"incompatibilities": [one.as_result() for one in made.found],
                              "deep_checked": error is None or bool(made.found), "leftovers": [one.as_result() for one in left]}
    if error is not None:
        result.update({"failed": True, "msg": error.message, **error.as_result(), "leftovers": [
            *result["leftovers"], *(one.as_result() for one in error.leftovers)]})
    elif left:
        result.update({"failed": True, "error_code": "cleanup_failed",
                       "msg": f"The planned virtual machine {made.planned_id} is still there."})
    return result


def _destroy(tools: Tools, vm_id: str, name: str) -> list[Leftover]:
    try:
        restore_import.destroy(tools, planned.reference_of(vm_id), f"destroying the planned virtual machine {name!r}")
    except HypervError as error:
        tools.progress(f"the planned virtual machine {name!r} is still there: {error.message}")
        return [restore_import.planned_leftover(vm_id, name)]
    return []
