# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_shadow_copy``: a shadow copy of a volume that stays, and the removal of exactly one by its ID."""
from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import shadow_facts, shadow_lifecycle, vss_plan
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.shadow_facts import ShadowFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.shadow_lifecycle import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.ownership import OURS
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.shadow_copies import ShadowCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume

_FILE_SYSTEMS = ("NTFS", "CSVFS")
_LITTLE_ROOM = 0.2


def run(call: Call) -> dict[str, Any]:
    """The result of the task for either state."""
    return _present(call) if call.params["state"] == "present" else _absent(call)


# -- present -------------------------------------------------------------------------------------------------------


def _present(call: Call) -> dict[str, Any]:
    run_id = _run_id(call)
    max_age = shadow_facts.age_option(call, "max_age")
    facts = shadow_facts.read(call.reader, storage=True)
    shadow_facts.warn_about_clock(call, facts)
    volume = shadow_facts.find_volume(facts, call.params["volume"])
    found = kept_copy(facts, volume, run_id if call.params["run_id"] else None, max_age)
    own = [shadow.shadow_id for shadow in facts.shadows if _is_kept_on(facts, shadow, volume)]
    before = {"volume": volume.root, "shadow_copies": own}
    if found is not None:
        return _conclude_found(call, facts, found, before, run_id)
    _check_volume(call, facts, volume)
    predicted = {"run_id": run_id, "leftovers": [], "shadow_copy": {
        "volume": volume.device_id, "path": volume.root, "owner": OURS, "linked": True, "run_id": run_id}}
    plan = Plan((Step("create_shadow_copy", volume.root, {"run_id": run_id}),), before,
                {"volume": volume.root, "shadow_copies": [*own, f"<new of run {run_id}>"]}, predicted)

    def apply(writer: CimWriter) -> dict[str, Any]:
        tools = Tools(writer, call.clock, call.progress, facts.folder)
        state.ensure(writer, facts.folder)
        shadow, intent = shadow_lifecycle.create(tools, run_id, volume, float(call.params["vss_wait"]))
        return _made(facts, shadow, intent, run_id)

    return call.conclude(plan, apply)


def _run_id(call: Call) -> str:
    given = call.params["run_id"]
    if given and not naming.is_run_id(given):
        raise HypervError(f"run_id {given!r} is not usable in a file's name.", error_code="invalid_run_id",
                          hint="Use letters, digits and hyphens, at most 40.")
    return given or secrets.token_hex(6)


def _is_kept_on(facts: ShadowFacts, shadow: ShadowCopy, volume: Volume) -> bool:
    """A shadow copy of ours that is there for its own sake, not for the time of a copy."""
    verdict = facts.verdict_on(shadow)
    return (verdict.owner == OURS and shadow_facts.same_volume(shadow.volume, volume.device_id)
            and any(intent.keep for intent in facts.intents_of(verdict)))


def kept_copy(facts: ShadowFacts, volume: Volume, run_id: str | None, max_age: timedelta | None) -> ShadowCopy | None:
    """The newest shadow copy of this module on the volume that is of the same run, or younger than ``max_age``."""
    found = []
    for shadow in facts.shadows:
        if not _is_kept_on(facts, shadow, volume):
            continue
        age = facts.age_of(shadow)
        same_run = run_id is not None and (facts.verdict_on(shadow).run_id or "").lower() == run_id.lower()
        if same_run or (max_age is not None and age is not None and age < max_age):
            found.append(shadow)
    return max(found, key=lambda shadow: (shadow.created is not None, shadow.created or facts.now, shadow.shadow_id), default=None)


def _conclude_found(call: Call, facts: ShadowFacts, found: ShadowCopy, before: dict[str, Any], run_id: str) -> dict[str, Any]:
    """There is one; the link is made if a run was interrupted before it."""
    verdict = facts.verdict_on(found)
    own_run = verdict.run_id or run_id
    listed = {**shadow_facts.entry(facts, found), "linked": True}
    steps = () if verdict.linked else (Step("link_shadow_copy", found.shadow_id, {"volume": before["volume"]}),)
    plan = Plan(steps, before, before, {"run_id": own_run, "leftovers": [], "shadow_copy": listed})

    def apply(writer: CimWriter) -> dict[str, Any]:
        state.ensure(writer, facts.folder)
        intent = state.link_shadow_copy(writer, facts.folder, facts.intents_of(verdict)[0], found.shadow_id, found.device)
        return _made(facts, found, intent, own_run)

    return call.conclude(plan, apply)


def _made(facts: ShadowFacts, shadow: ShadowCopy, intent: Intent, run_id: str) -> dict[str, Any]:
    """The result with the shadow copy as a reading of the host would show it now."""
    others = tuple(other for other in facts.contents.intents if other.stem != intent.stem)
    contents = replace(facts.contents, links=(*facts.contents.links, shadow.shadow_id), intents=(*others, intent))
    shadows = (*(other for other in facts.shadows if other.shadow_id != shadow.shadow_id), shadow)
    now = max(facts.now, shadow.created or facts.now)
    after = shadow_facts.judged(replace(facts, now=now, shadows=shadows, contents=contents))
    return {"run_id": run_id, "leftovers": [], "shadow_copy": shadow_facts.entry(after, shadow)}


def _check_volume(call: Call, facts: ShadowFacts, volume: Volume) -> None:
    """Refuse what the host would refuse, and warn of what endangers the shadow copies of others (operations 5.4)."""
    if (volume.file_system or "").upper() not in _FILE_SYSTEMS:
        raise HypervError(
            f"The volume {volume.root} has the file system {volume.file_system}; only NTFS volumes have persistent shadow copies.",
            error_code="file_system", hint="Use an export or a checkpoint for VMs on this volume.")
    if volume.free_ratio is not None and volume.free_ratio < _LITTLE_ROOM:
        call.warn(f"Only {100 * volume.free_ratio:.0f} % of {volume.root} is free: when the difference area has no room left, the system "
                  "deletes shadow copies, the oldest first.")
    for warning in vss_plan.volume_risks((volume,), facts.storage, facts.shadows):
        call.warn(warning)


# -- absent --------------------------------------------------------------------------------------------------------


def _absent(call: Call) -> dict[str, Any]:
    guid = as_guid(call.params["id"])
    if guid is None:
        raise HypervError(f"{call.params['id']!r} is not the ID of a shadow copy.", error_code="invalid_id",
                          hint="It is a GUID, as hyperv_shadow_copy_info shows it.")
    facts = shadow_facts.read(call.reader, storage=False)
    shadow_facts.warn_about_clock(call, facts)
    shadow_id = "{" + guid + "}"
    shadow = next((shadow for shadow in facts.shadows if shadow.shadow_id.lower() == shadow_id.lower()), None)
    linked = any(link.lower() == shadow_id.lower() for link in facts.contents.links)
    intents = _intents_about(facts, shadow, shadow_id)
    plan = _removal(facts, shadow, shadow_id, linked, intents)

    def apply(writer: CimWriter) -> dict[str, Any]:
        tools = Tools(writer, call.clock, call.progress, facts.folder)
        named = shadow.shadow_id if shadow is not None else shadow_id
        left = shadow_lifecycle.retire(tools, named, linked, intents)
        if left:
            raise HypervError(f"{left[0].kind.replace('_', ' ').capitalize()} {left[0].id} could not be removed.",
                              error_code="vss_delete_failed", leftovers=left,
                              hint="Something may have a file of it open; run the task again later.")
        return {"leftovers": []}

    return {"shadow_copy": plan.before["shadow_copy"], "leftovers": [], **call.conclude(plan, apply)}


def _intents_about(facts: ShadowFacts, shadow: ShadowCopy | None, shadow_id: str) -> tuple[Intent, ...]:
    """The intents that tell of this ID: by their name, or by what they announced. Who names it decides what came of them."""
    told = facts.verdict_on(shadow).intents if shadow is not None else ()
    return tuple(intent for intent in facts.contents.intents
                 if intent.name in told or (intent.shadow_id or "").lower() == shadow_id.lower())


def _removal(facts: ShadowFacts, shadow: ShadowCopy | None, shadow_id: str, linked: bool, intents: tuple[Intent, ...]) -> Plan:
    listed = None if shadow is None else shadow_facts.entry(facts, shadow)
    steps = []
    if linked:
        steps.append(Step("remove_link", facts.folder.link_for(shadow_id)))
    if listed is not None:
        detail = {key: listed[key] for key in ("owner", "reason", "path", "provider", "created")}
        steps.append(Step("delete_shadow_copy", shadow_id, detail))
    steps += [Step("remove_intent", intent.name) for intent in intents]
    return Plan(tuple(steps), {"shadow_copy": listed}, {"shadow_copy": None})
