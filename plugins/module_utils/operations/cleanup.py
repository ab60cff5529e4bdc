# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_cleanup``: finds what interrupted runs of ours left on a host, and removes it when it is asked to.

Only what is provably ours is removed. Suspect and foreign shadow copies are told, never touched. After the removal the host is
read again: that decides what is gone, not the answers to the steps.
"""
from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Plan, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    cleanup_checkpoints,
    cleanup_copies,
    cleanup_exports,
    cleanup_findings,
    cleanup_runs,
    cleanup_shares,
    restore_leftovers,
    run_as,
    shadow_facts,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_findings import Finding, Findings, Read
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_removal import Leases, Removal
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_runs import Scope
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.cleanup_shares import Shares, ShareWork
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import RunLease
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.shadow_lifecycle import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.ownership import SUSPECT
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state, state_contents


@dataclass(frozen=True)
class Look:
    """One look at a host, and what it comes to."""

    read: Read
    findings: Findings


def run(call: Call) -> dict[str, Any]:
    """Audit, and with ``remove`` clean up. ``failed`` is set when something is left."""
    scope, identity = _scope(call), run_as.read(call.params)
    look = look_at(call.reader, call.clock, scope, identity)
    shadow_facts.warn_about_clock(call, look.read.facts)
    listed = shadow_facts.entries(look.read.facts)
    _warn(call, look.read, look.findings)
    told = {"shadow_copies": listed, "counts": shadow_facts.counts(listed),
            "found": [finding.as_result() for finding in look.findings.all()]}
    planned = look.findings.removable() if call.params["remove"] else ()
    unsearched = look.findings.unsearched() if call.params["remove"] else ()

    def apply(writer: CimWriter) -> dict[str, Any]:
        return _Cleaning(call, look, Tools(writer, call.clock, call.progress, look.read.facts.folder), identity).run()

    return {**told, **call.conclude(_plan(look.findings, planned, unsearched), apply)}


def _scope(call: Call) -> Scope:
    older_than = shadow_facts.age_option(call, "older_than")
    if older_than is None:
        raise HypervError("older_than is empty.", error_code="invalid_older_than", hint="Give an age such as 1h.")
    run_id = call.params["run_id"]
    if run_id is not None and not naming.is_run_id(run_id):
        raise HypervError(f"run_id {run_id!r} is not that of a run.", error_code="invalid_run_id",
                          hint="It is what a task returned, or was given, as run_id.")
    return Scope(older_than, run_id, call.params["include_kept"])


def look_at(reader: CimReader, clock: Clock, scope: Scope, identity: Identity) -> Look:
    """Read everything that runs of ours may leave: 11 requests on a host with nothing of ours, and some programs where there are intents.

    Leases come last (:func:`cleanup_runs.read`); only where nobody is at work copies are looked for.
    """
    facts = shadow_facts.read(reader, storage=False)
    folders, saved = state_contents.read_strays(reader, facts.folder)
    restores = restore_leftovers.read(reader, facts.folder, facts.contents)
    announced = cleanup_checkpoints.read(reader, clock, facts.folder, restore_leftovers.without(facts.contents, facts.folder, restores))
    exports = cleanup_exports.read(reader, clock, facts.contents.intents)
    runs = cleanup_runs.read(reader, facts.folder, facts.now).with_running(
        (*announced.going_on, *(left.intent.run_id for left in exports if left.job is not None)))
    shares = Shares(cleanup_shares.UNSEARCHED if identity.task is not None else cleanup_shares.NEEDS_TASK)
    read = Read(facts, runs, scope, shares, announced, (), folders, saved, restores, exports)
    read = replace(read, copies=cleanup_copies.find(reader, cleanup_findings.quiet_intents(read), facts.volumes))
    return Look(read, cleanup_findings.judge(read))


def _plan(findings: Findings, planned: Sequence[Finding], unsearched: Sequence[Finding]) -> Plan:
    going = {finding.identity for finding in planned}
    before = [f"{finding.leftover.kind} {finding.leftover.id}" for finding in findings.all()]
    after = [f"{finding.leftover.kind} {finding.leftover.id}" for finding in findings.all() if finding.identity not in going]
    steps = (*(_step("search", finding) for finding in unsearched), *(_step("remove", finding) for finding in planned))
    return Plan(steps, {"left_by_our_runs": before}, {"left_by_our_runs": after},
                {"removed": [finding.as_result() for finding in planned], "leftovers": []})


def _step(verb: str, finding: Finding) -> Step:
    return Step(f"{verb}_{finding.leftover.kind}", finding.leftover.id, {"location": finding.leftover.location})


_REASONS = {
    cleanup_findings.DAMAGED: "it cannot be understood",
    cleanup_findings.FOREIGN_CONTENT: "it holds, or is, something that no run of ours put there",
    cleanup_shares.MISSING: "the place of the copies of that run is not there, or could not be read",
    cleanup_shares.NEEDS_TASK: "copies at shares are reached by tasks only; run_as session has none",
}


def _warn(call: Call, read: Read, findings: Findings, already: Iterable[Finding] = ()) -> None:
    told = {(finding.identity, finding.status) for finding in already}
    if not told:
        for verdict in read.facts.ownership.owned_by(SUSPECT):
            call.warn(f"The shadow copy {verdict.shadow_id} may be what an interrupted run of ours left, but nothing proves it. It is "
                      "never removed here; hyperv_shadow_copy with state absent removes it by its ID.")
    for finding in findings.all():
        if finding.status in _REASONS and (finding.identity, finding.status) not in told:
            call.warn(f"{finding.leftover.id} was left by a run of ours and stays: {_REASONS[finding.status]}.")


class _Cleaning:
    """Takes the steps, looks again, and tells what is gone."""

    def __init__(self, call: Call, look: Look, tools: Tools, identity: Identity) -> None:
        self._call = call
        self._look = look
        self._tools = tools
        self._identity = identity
        self._leases: list[RunLease] = []

    def run(self) -> dict[str, Any]:
        """The whole removal; its part of the task's result."""
        first = self._look.findings
        if any(finding.leftover.kind not in ("folder", "file") for finding in first.removable()):
            state.ensure(self._tools.writer, self._look.read.facts.folder)  # what is ours rests on what this folder says
        leases = Leases(self._tools, self._look.read.scope.run_id is not None)
        with ExitStack() as stack:
            leases.take(stack, [finding.run_id for finding in (*first.removable(), *first.unsearched()) if finding.run_id is not None])
            work = self._share_work(stack)
            read = self._read_under_leases(leases, work)
            findings = cleanup_findings.judge(read)
            _warn(self._call, read, findings, first.all())
            removal = Removal(read, findings, self._tools, leases, work)
            removal.run()
        left = self._left(findings.removable(), removal)
        own = [leftover for lease in (*self._leases, *leases.held.values()) for leftover in lease.leftovers]
        return self._result(read, findings, removal, left, [*own, *(work.leftovers if work is not None else ())])

    def _share_work(self, stack: ExitStack) -> ShareWork | None:
        """Tasks for shares, under a lease of this clean-up's own; None when there is nothing at shares, or no task may be used."""
        if not self._look.findings.unsearched() or self._identity.task is None:
            return None
        run_id = f"cleanup-{secrets.token_hex(6)}"
        self._leases.append(stack.enter_context(RunLease(self._tools.writer, self._tools.clock, self._tools.folder, run_id)))
        return ShareWork(self._tools, self._identity.task, run_id)

    def _read_under_leases(self, leases: Leases, work: ShareWork | None) -> Read:
        """What was read, with the runs that came to life meanwhile, and with what is at shares."""
        runs = self._look.read.runs
        for run_id in leases.revived:
            runs = runs.with_alive(run_id)
        read = replace(self._look.read, runs=runs)
        if work is None:
            return read
        return replace(read, shares=work.search([intent for intent in cleanup_findings.quiet_intents(read)
                                                 if leases.problem(intent.run_id) is None]))

    def _left(self, planned: Sequence[Finding], removal: Removal) -> list[Finding]:
        """What should be gone and is not."""
        try:
            found = look_at(self._tools.writer, self._tools.clock, self._look.read.scope, self._identity).findings.all()
        except HypervError as error:
            raise HypervError(error.message, error_code=error.error_code, hint=error.hint,
                              leftovers=[finding.leftover for finding in planned]) from error
        there = {finding.identity for finding in found} | removal.left_at_shares
        return [finding for finding in planned if finding.identity in there]

    def _result(self, read: Read, findings: Findings, removal: Removal, staying: Sequence[Finding],
                own: Sequence[Leftover]) -> dict[str, Any]:
        unread = [(finding, read.shares.problems[place.key]) for finding, place in findings.places if place.key in read.shares.problems]
        gone = [finding for finding in findings.removable() if finding not in staying]
        left = [finding.leftover for finding in (*staying, *(finding for finding, _unused in unread))]
        left += [leftover for leftover in own if leftover.id.lower() not in {one.id.lower() for one in left}]
        result: dict[str, Any] = {
            "found": [finding.as_result() for finding in findings.all()], "removed": [finding.as_result() for finding in gone],
            "leftovers": [leftover.as_result() for leftover in left], "changed": bool(gone)}
        if staying or unread:
            reasons = [removal.problems.get(finding.identity) for finding in staying] + [problem for _unused, problem in unread]
            reason = next((text for text in reasons if text), "")
            count = len(findings.removable()) + len(unread)
            result.update({"failed": True, "error_code": "cleanup_failed",
                           "msg": f"{len(staying) + len(unread)} of {count} things that runs of ours left could not be removed. "
                                  f"{reason}".strip(),
                           "hint": "Something may be in use still; run the task again later, or remove what leftovers names."})
        return result
