# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be true of the demo, as functions that return sentences about what is not."""
from __future__ import annotations

import signal
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from demo.left import SHADOWS, Left
from demo.live_copy import LiveCopy
from demo.playbook import PlaybookRun
from demo.proofs import CopyProof
from demo.site import EXPORT_HOST, EXPORT_VM, HostPlan
from demo.summary import Requests, is_protected

REFUSED_EXIT = 2
"""What ansible-playbook ends with when a task failed on some host, as it must when a VM that was asked for is not protected."""


def expected_exit(plans: Sequence[HostPlan]) -> int:
    """The right exit code of the playbook."""
    return REFUSED_EXIT if any(plan.refused for plan in plans) else 0


def first_run(plans: Sequence[HostPlan], run: PlaybookRun) -> list[str]:
    """Facts of every machine; every chosen machine copied, or refused for the known reason; nothing else."""
    problems = _exit(plans, run, "first")
    for plan in plans:
        host = plan.spec.name
        told = sorted(vm["name"] for vm in run.facts.get(host, {}).get("vms", []))
        if told != sorted(vm.name for vm in plan.spec.vms):
            problems.append(f"{host}: hyperv_vm_info told of {told}")
        problems += _entries(plan, run)
    return problems


def _exit(plans: Sequence[HostPlan], run: PlaybookRun, which: str) -> list[str]:
    wanted = expected_exit(plans)
    return [] if run.code == wanted else [f"the {which} run of the playbook ended with {run.code}, not {wanted}"]


def _entries(plan: HostPlan, run: PlaybookRun, present: Collection[str] = ()) -> list[str]:
    """One entry for each machine. ``present``: those that had a copy already."""
    host = plan.spec.name
    told = {entry["vm"]["name"]: entry for entry in run.copies.get(host, {}).get("results", [])}
    problems = [f"{host}: hyperv_vss_copy says nothing of {name!r}" for name in (*plan.copied, *plan.refused) if name not in told]
    problems += [f"{host}: hyperv_vss_copy tells of {name!r}, which was not asked for" for name in told
                 if name not in plan.copied and name not in plan.refused]
    for name, entry in told.items():
        state = (entry["failed"], entry["changed"], entry.get("error_code"))
        wanted = (True, False, plan.refused[name]) if name in plan.refused else (False, name not in present, None)
        if state != wanted:
            problems.append(f"{host}: {name!r}: (failed, changed, error code) is {state}, not {wanted}: {entry.get('msg', 'no message')}")
        if entry["leftovers"]:
            problems.append(f"{host}: {name!r} left {[leftover['id'] for leftover in entry['leftovers']]}")
    return problems


def copies(plans: Sequence[HostPlan], found: Sequence[CopyProof]) -> list[str]:
    """One proved copy of each machine that can be copied."""
    problems = []
    for plan in plans:
        names = sorted(proof.copy.name for proof in found if proof.copy.host == plan.spec.name)
        if names != sorted(plan.copied):
            problems.append(f"{plan.spec.name}: there are copies of {names}")
    for proof in found:
        problems += [f"{proof.copy.host}: {proof.copy.name!r}: {problem}" for problem in proof.problems]
        if not proof.disks:
            problems.append(f"{proof.copy.host}: {proof.copy.name!r}: no disk was proved")
    return problems


def live(found: LiveCopy) -> list[str]:
    """A copy without a shadow copy is torn."""
    if found.torn:
        return []
    if found.found is None:
        return [f"robocopy of the live disk ended with {found.exit_code}"]
    return [f"the copy without a shadow copy is not torn after {found.tries} tries: {found.found.summary()}"]


def idle_run(plans: Sequence[HostPlan], before: PlaybookRun, run: PlaybookRun, asked: Mapping[str, Requests]) -> list[str]:
    """Nothing changed, and no request could have changed anything. ``before``: the run that made the copies."""
    problems = _exit(plans, run, "last")
    for plan in plans:
        host = plan.spec.name
        problems += _entries(plan, run, plan.copied)
        if run.copies.get(host, {}).get("changed") is not False:
            problems.append(f"{host}: the last run says that it changed something")
        problems += _only_read(host, asked[host], "last run")
        for name in plan.copied:
            made, found = before.entry(host, name), run.entry(host, name)
            if made and found and made.get("manifest") != found.get("manifest"):
                problems.append(f"{host}: {name!r}: the last run found another copy than the one that was made")
    return problems


def _only_read(host: str, asked: Requests, which: str) -> list[str]:
    if asked.total and not asked.writing:
        return []
    return [f"{host}: the {which} sent {asked.total} requests, {asked.writing} of them writing"]


def same_copies(before: Sequence[CopyProof], after: Sequence[CopyProof]) -> list[str]:
    """The last run left the copies as they were."""
    if [proof.copy for proof in before] == [proof.copy for proof in after] and not any(proof.problems for proof in after):
        return []
    return ["the copies are not the same after the last run"]


def same_exports(before: PlaybookRun, run: PlaybookRun) -> list[str]:
    """The last run found the exports that were made, and made none."""
    folders = [{(host, entry["export"]["folder"]) for host, told in each.exports.items()
                for entry in told["results"] if entry.get("export")} for each in (before, run)]
    changed = [host for host, told in run.exports.items() if any(entry["changed"] for entry in told["results"])]
    problems = [f"{host}: the last run exported something" for host in changed]
    return problems if folders[0] == folders[1] else [*problems, "the last run tells of other exports than those that were made"]


def nothing_left(left: Mapping[str, Left], when: str) -> list[str]:
    """Nothing of ours but finished copies; all shadow copies of others."""
    problems = []
    for host, found in left.items():
        if found.count:
            told = ", ".join(f"{count} {kind}" for kind, count in found.ours.items() if count)
            problems.append(f"{host}: {when} there are {told} of ours")
        problems += _others(host, found, when)
    return problems


def _others(host: str, found: Left, when: str) -> list[str]:
    if found.foreign == found.foreign_before:
        return []
    return [f"{host}: {when} {found.foreign} of {found.foreign_before} shadow copies of another product are left"]


# -- the run that is killed ----------------------------------------------------------------------------------------------


def killed_run(code: int, left: Mapping[str, Left]) -> list[str]:
    """It was killed while every host was copying: each has a shadow copy of ours."""
    problems = [] if code == -signal.SIGKILL else [f"the run that was to be killed ended with {code} before all hosts were copying"]
    problems += [f"{host}: the killed run left no shadow copy" for host, found in left.items() if not found.ours[SHADOWS]]
    return problems + [problem for host, found in left.items() for problem in _others(host, found, "after the kill")]


def audit(run: PlaybookRun, left: Mapping[str, Left], asked: Mapping[str, Requests]) -> list[str]:
    """The clean-up told of our shadow copies and of all others, and wrote nothing."""
    problems = [] if run.code == 0 else [f"the audit ended with {run.code}, not 0"]
    for host, found in left.items():
        told = run.cleanups.get(host, {}).get("counts")
        wanted = {"ours": found.ours[SHADOWS], "suspect": 0, "foreign": found.foreign}
        if told != wanted:
            problems.append(f"{host}: the audit counts {told}, there are {wanted}")
        problems += _only_read(host, asked[host], "audit")
    return problems


def clean_up(audit: PlaybookRun, run: PlaybookRun) -> list[str]:
    """What the audit called removable was removed, on each host."""
    problems = [] if run.code == 0 else [f"the clean-up ended with {run.code}, not 0"]
    for host, told in sorted(audit.cleanups.items()):
        done = run.cleanups.get(host, {})
        wanted = sorted(item["id"] for item in told["found"] if item["status"] == "removable")
        removed = sorted(item["id"] for item in done.get("removed", []))
        if removed != wanted or not wanted:
            problems.append(f"{host}: the clean-up removed {removed}, the audit said {wanted}")
        problems += [f"{host}: {item['id']} could not be removed" for item in done.get("leftovers", [])]
    return problems


def next_run(plans: Sequence[HostPlan], run: PlaybookRun, present: Mapping[str, Collection[str]]) -> list[str]:
    """Every machine is copied that has no finished copy of the killed run."""
    return _exit(plans, run, "next") + [problem for plan in plans for problem in _entries(plan, run, present[plan.spec.name])]


# -- export, drill, report -----------------------------------------------------------------------------------------------


def exported(run: PlaybookRun, found: Sequence[CopyProof], wanted_exit: int) -> list[str]:
    """The machine has one export, as good as it was asked for, and every disk of it is proved."""
    problems = [] if run.code == wanted_exit else [f"the run with the export ended with {run.code}, not {wanted_exit}"]
    entries = [entry for entry in run.exports.get(EXPORT_HOST, {}).get("results", []) if entry["vm"]["name"] == EXPORT_VM]
    if [(entry["failed"], entry["changed"]) for entry in entries] != [(False, True)]:
        problems += [f"{EXPORT_HOST}: hyperv_export says of {EXPORT_VM!r}: {[entry.get('msg', 'no message') for entry in entries]}"]
    made = [(proof.copy.name, proof.copy.origin, proof.copy.level) for proof in found]
    if made != [(EXPORT_VM, "production_checkpoint", "application")]:
        problems.append(f"{EXPORT_HOST}: there are the exports {made}")
    for proof in found:
        problems += [f"{EXPORT_HOST}: {proof.copy.name!r}: {problem}" for problem in proof.problems]
        if not proof.disks:
            problems.append(f"{EXPORT_HOST}: {proof.copy.name!r}: no disk was proved")
    return problems


def drill(run: PlaybookRun, left: Sequence[str], written: Sequence[str], stored: Sequence[str]) -> list[str]:
    """The machine came back and went again. ``written``, ``stored``: the endings of the evidence here and at the destination."""
    problems = [] if run.code == 0 else [f"the drill ended with {run.code}, not 0"]
    drills = [result.get("drill") or {} for result in run.restores.get(EXPORT_HOST, {}).get("results", [])]
    told = [(one.get("vm_name"), one.get("outcome"), one.get("left")) for one in drills]
    if told != [(EXPORT_VM, "passed", [])]:
        problems.append(f"{EXPORT_HOST}: the drills are {told}")
    problems += [f"{EXPORT_HOST}: a drill measured no recovery" for one in drills if not one.get("recovery_seconds")]
    problems += [f"{EXPORT_HOST}: after the drill {thing}" for thing in left]
    for where, endings in (("here", written), ("at the destination", stored)):
        if sorted(endings) != [".html", ".json", ".xml"]:
            problems.append(f"{EXPORT_HOST}: the evidence {where} is {sorted(endings)}")
    return problems


def report(plans: Sequence[HostPlan], run: PlaybookRun, data: Mapping[str, Any], page: bool, asked: Mapping[str, Requests]) -> list[str]:
    """A page, and for each machine what is known to be true of it. ``data``: the JSON of the report."""
    problems = [] if run.code == 0 else [f"the report ended with {run.code}, not 0"]
    if not page:
        problems.append("the report has no page")
    told = {(vm["host"].upper(), vm["name"]): is_protected(vm) for vm in data["vms"]}
    for plan in plans:
        protected = {*plan.copied, EXPORT_VM} if plan.spec.name == EXPORT_HOST else {*plan.copied}
        for name in (vm.name for vm in plan.spec.vms):
            if told.get((plan.spec.name, name)) != (name in protected):
                problems.append(f"{plan.spec.name}: the report is wrong about {name!r}")
        problems += _only_read(plan.spec.name, asked[plan.spec.name], "report")
    return problems
