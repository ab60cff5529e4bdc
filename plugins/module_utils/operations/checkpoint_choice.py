# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which machines a task of the checkpoint modules means, and the results of one or several of them (INTERFACE, *results*)."""
from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import machines
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import selection
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import CheckpointFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming

Entry = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """The machines, and the entries of a list that mean none or several with the reason. ``single``: the task names one."""

    machines: tuple[Machine, ...]
    refused: tuple[tuple[str, HypervError], ...]
    single: bool


def choose(facts: CheckpointFacts, params: Mapping[str, Any]) -> Choice:
    """In a list a name that means none or several is one entry's failure, not the task's. Raises HypervError for a single one."""
    return choose_among(facts.host.machines, params)


def choose_among(found: tuple[Machine, ...], params: Mapping[str, Any]) -> Choice:
    """As :func:`choose`, among these machines."""
    if params["name"] or params["vm_id"]:
        return Choice((machines.select(found, name=params["name"], vm_id=params["vm_id"]),), (), single=True)
    if selection.means_all(params["names"]):
        return Choice(found, (), single=False)
    chosen: dict[str, Machine] = {}
    refused = []
    for wanted in params["names"]:
        hits = selection.matching(found, wanted)
        if len(hits) == 1:
            chosen[hits[0].vm_id] = hits[0]
            continue
        try:
            machines.select(found, name=wanted, vm_id=None)
        except HypervError as error:
            refused.append((wanted, error))
    return Choice(tuple(chosen.values()), tuple(refused), single=False)


def run_id_of(call: Call) -> str:
    """The run that the task names, else a new one. Raises HypervError ``invalid_run_id``."""
    given = call.params["run_id"]
    if given and not naming.is_run_id(given):
        raise HypervError(f"run_id {given!r} is not usable in a file's name.", error_code="invalid_run_id",
                          hint="Use letters, digits and hyphens, at most 40.")
    return given or secrets.token_hex(6)


def checkpoint_guid(given: str) -> str:
    """The GUID in the option of that name. Raises HypervError ``invalid_id``."""
    guid = as_guid(given)
    if guid is None:
        raise HypervError(f"{given!r} is not the ID of a checkpoint.", error_code="invalid_id",
                          hint="It is a GUID, as hyperv_checkpoint_info shows it.")
    return guid


def label(machine: Machine) -> dict[str, str]:
    """The ``vm`` of an entry."""
    return {"vm_id": machine.vm_id, "name": machine.name}


def failed_entry(machine: Machine | str, error: HypervError, *, changed: bool = False) -> Entry:
    """The entry of a machine for which it failed, or of a name that means none."""
    vm = {"vm_id": None, "name": machine} if isinstance(machine, str) else label(machine)
    return {"vm": vm, "changed": changed, "failed": True, "leftovers": [], "msg": error.message, **error.as_result()}


def attempt(machine: Machine, work: Callable[[], Entry]) -> Entry:
    """What ``work`` comes to for one machine; its failure is an entry, too."""
    try:
        return work()
    except HypervError as error:
        return failed_entry(machine, error)


def result(choice: Choice, entries: Sequence[Entry], common: Mapping[str, Any]) -> dict[str, Any]:
    """All entries; for one machine its entry, laid open. The task fails at the end when any entry did."""
    whole = [*entries, *(failed_entry(wanted, error) for wanted, error in choice.refused)]
    failed = [entry for entry in whole if entry["failed"]]
    told: dict[str, Any] = {**common, "changed": bool(common.get("changed")) or any(entry["changed"] for entry in whole)}
    if choice.single:
        told.update({**whole[0], "changed": told["changed"]})
        if not failed:
            del told["failed"]
        return told
    told["results"] = whole
    if failed:
        names = ", ".join(f"{entry['vm']['name']!r} ({entry['error_code']})" for entry in failed[:5])
        told.update({"failed": True, "error_code": "some_failed",
                     "msg": f"{len(failed)} of {len(whole)} virtual machines failed: {names}{', ...' if len(failed) > 5 else ''}."})
    return told
