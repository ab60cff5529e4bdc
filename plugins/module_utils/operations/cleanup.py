# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_cleanup``: finds what interrupted runs of ours left on a host, and removes it when it is asked to.

Only what is provably ours is removed. Suspect and foreign shadow copies are told, never touched. After the removal the host is
read again: that decides what is gone, not the answers to the steps.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    cleanup_copies,
    cleanup_findings,
    shadow_facts,
    shadow_lifecycle,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_findings import Finding, Findings
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.shadow_facts import ShadowFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.shadow_lifecycle import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.ownership import SUSPECT
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, state, state_contents
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command

# of one that somebody put something into nothing is removed
REMOVE_FOLDER = Command('rmdir "%AGH_PATH%" || exit 3')
REMOVE_FILE = Command('del /F /Q "%AGH_PATH%" & if exist "%AGH_PATH%" exit 3')


@dataclass(frozen=True)
class Look:
    """One look at a host."""

    facts: ShadowFacts
    findings: Findings


def run(call: Call) -> dict[str, Any]:
    """Audit, and with ``remove`` clean up. ``failed`` is set when something is left."""
    older_than = shadow_facts.age_option(call, "older_than")
    if older_than is None:
        raise HypervError("older_than is empty.", error_code="invalid_older_than", hint="Give an age such as 1h.")
    look = look_at(call.reader, older_than)
    shadow_facts.warn_about_clock(call, look.facts)
    listed = shadow_facts.entries(look.facts)
    _warn(call, look)
    told = {"shadow_copies": listed, "counts": shadow_facts.counts(listed),
            "found": [finding.as_result() for finding in look.findings.all()]}
    planned = look.findings.removable() if call.params["remove"] else ()

    def apply(writer: CimWriter) -> dict[str, Any]:
        return _clean(call, look, planned, Tools(writer, call.clock, call.progress, look.facts.folder), older_than)

    return {**told, **call.conclude(_plan(look.findings, planned), apply)}


def look_at(reader: CimReader, older_than: timedelta) -> Look:
    """Read everything that runs of ours may leave: at most nine requests on a host without intents, and some programs with them."""
    facts = shadow_facts.read(reader, storage=False)
    folders, saved = state_contents.read_strays(reader, facts.folder)
    copies = cleanup_copies.find(reader, cleanup_findings.quiet_intents(facts, older_than), facts.volumes)
    return Look(facts, cleanup_findings.judge(facts, copies, folders, saved, older_than))


def _plan(findings: Findings, planned: Sequence[Finding]) -> Plan:
    going = {finding.identity for finding in planned}
    before = [f"{finding.leftover.kind} {finding.leftover.id}" for finding in findings.all()]
    after = [f"{finding.leftover.kind} {finding.leftover.id}" for finding in findings.all() if finding.identity not in going]
    steps = tuple(Step(f"remove_{finding.leftover.kind}", finding.leftover.id, {"location": finding.leftover.location})
                  for finding in planned)
    return Plan(steps, {"left_by_our_runs": before}, {"left_by_our_runs": after},
                {"removed": [finding.as_result() for finding in planned], "leftovers": []})


def _warn(call: Call, look: Look) -> None:
    for verdict in look.facts.ownership.owned_by(SUSPECT):
        call.warn(f"The shadow copy {verdict.shadow_id} may be what an interrupted run of ours left, but nothing proves it. It is never "
                  "removed here; hyperv_shadow_copy with state absent removes it by its ID.")
    for finding in look.findings.all():
        if finding.status in ("damaged", "foreign_content", "destination_missing"):
            call.warn(f"{finding.leftover.id} was left by a run of ours and stays: {_REASONS[finding.status]}.")


_REASONS = {"damaged": "it cannot be understood", "foreign_content": "it holds something that no run of ours put there",
            "destination_missing": "the volume with the copies of that run is not there"}


def _clean(call: Call, look: Look, planned: Sequence[Finding], tools: Tools, older_than: timedelta) -> dict[str, Any]:
    """Take the steps, look again, and tell what is gone."""
    if any(finding.leftover.kind in ("shadow_copy", "link", "intent", "incomplete_copy") for finding in planned):
        state.ensure(tools.writer, look.facts.folder)  # what is ours rests on what this folder says
    removal = _Removal(look, tools)
    removal.run()
    try:
        left = {finding.identity for finding in look_at(tools.writer, older_than).findings.all()}
    except HypervError as error:
        raise HypervError(error.message, error_code=error.error_code, hint=error.hint,
                          leftovers=[finding.leftover for finding in planned]) from error
    staying = [finding for finding in planned if finding.identity in left]
    result: dict[str, Any] = {"removed": [finding.as_result() for finding in planned if finding.identity not in left],
                              "leftovers": [finding.leftover.as_result() for finding in staying]}
    result["changed"] = bool(result["removed"])
    if staying:
        reason = next((text for finding in staying if (text := removal.problems.get(finding.identity))), "")
        result.update({"failed": True, "error_code": "cleanup_failed",
                       "msg": f"{len(staying)} of {len(planned)} things that runs of ours left could not be removed. {reason}".strip(),
                       "hint": "Something may be in use still; run the task again later, or remove what leftovers names."})
    return result


class _Removal:
    """Removes everything that may be removed. One failure never stops the others."""

    def __init__(self, look: Look, tools: Tools) -> None:
        self._look = look
        self._tools = tools
        self._blocked: set[str] = set()
        """Stems of intents that still tell of something."""
        self.problems: dict[tuple[str, str], str] = {}
        """What failed, with the reason."""

    def run(self) -> None:
        """Shadow copies with their links, dead links, incomplete copies, then the intents that told of them, and the rest."""
        findings, facts, tools = self._look.findings, self._look.facts, self._tools
        for found, shadow in findings.shadows:
            verdict = facts.verdict_on(shadow)
            intents = facts.intents_of(verdict)
            if found.removable and not self._try(found, shadow_lifecycle.take_back, tools, shadow.shadow_id, verdict.linked, intents):
                self._blocked.update(intent.stem for intent in intents)
        for found, shadow_id in findings.links:
            if found.removable:
                self._try(found, _unlink, tools, shadow_id)
        for found, copy in findings.copies:
            if found.removable and not self._try(found, cleanup_copies.remove, tools.writer, copy):
                self._blocked.add(copy.intent.stem)
        for found, intent in findings.intents:
            if found.removable and intent.stem not in self._blocked:
                self._try(found, shadow_lifecycle.forget, tools, [intent])
        for found in findings.others:
            if found.removable:
                self._try(found, _remove_stray, tools, found)

    def _try(self, finding: Finding, action: Callable[..., list[Leftover] | None], *arguments: object) -> bool:
        self._tools.progress(f"removing {finding.leftover.kind.replace('_', ' ')} {finding.leftover.id}")
        try:
            left = action(*arguments)
        except HypervError as error:
            self.problems[finding.identity] = error.message
            return False
        if left:
            self.problems[finding.identity] = f"{left[0].id} is still there."
        return not left


def _unlink(tools: Tools, shadow_id: str) -> list[Leftover]:
    return [] if shadow_lifecycle.unlink(tools, shadow_id) else [shadow_lifecycle.link_leftover(tools.folder, shadow_id)]


def _remove_stray(tools: Tools, finding: Finding) -> None:
    command = REMOVE_FOLDER if finding.leftover.kind == "folder" else REMOVE_FILE
    files.expect_success(files.run(tools.writer, command, {"PATH": finding.leftover.id}), f"Removing {finding.leftover.id}",
                         "file_not_removed")
