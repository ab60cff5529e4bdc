# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be true of the demo, as functions that return sentences about what is not."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from demo.live_copy import LiveCopy
from demo.playbook import PlaybookRun
from demo.proofs import CopyProof
from demo.site import HostPlan
from demo.summary import HostOutcome, Requests

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
        problems += _entries(plan, run, changed=True)
    return problems


def _exit(plans: Sequence[HostPlan], run: PlaybookRun, which: str) -> list[str]:
    wanted = expected_exit(plans)
    return [] if run.code == wanted else [f"the {which} run of the playbook ended with {run.code}, not {wanted}"]


def _entries(plan: HostPlan, run: PlaybookRun, *, changed: bool) -> list[str]:
    host = plan.spec.name
    told = {entry["vm"]["name"]: entry for entry in run.copies.get(host, {}).get("results", [])}
    problems = [f"{host}: hyperv_vss_copy says nothing of {name!r}" for name in (*plan.copied, *plan.refused) if name not in told]
    problems += [f"{host}: hyperv_vss_copy tells of {name!r}, which was not asked for" for name in told
                 if name not in plan.copied and name not in plan.refused]
    for name, entry in told.items():
        state = (entry["failed"], entry["changed"], entry.get("error_code"))
        wanted = (True, False, plan.refused[name]) if name in plan.refused else (False, changed, None)
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


def second_run(plans: Sequence[HostPlan], first: PlaybookRun, second: PlaybookRun, asked: Mapping[str, Requests]) -> list[str]:
    """Nothing changed, and no request could have changed anything."""
    problems = _exit(plans, second, "second")
    for plan in plans:
        host = plan.spec.name
        problems += _entries(plan, second, changed=False)
        if second.copies.get(host, {}).get("changed") is not False:
            problems.append(f"{host}: the second run says that it changed something")
        if asked[host].writing or not asked[host].total:
            problems.append(f"{host}: the second run sent {asked[host].total} requests, {asked[host].writing} of them writing")
        for name in plan.copied:
            before, after = first.entry(host, name), second.entry(host, name)
            if before and after and before.get("manifest") != after.get("manifest"):
                problems.append(f"{host}: {name!r}: the second run found another copy than the first one made")
    return problems


def same_copies(before: Sequence[CopyProof], after: Sequence[CopyProof]) -> list[str]:
    """The second run left the copies of the first as they were."""
    if [proof.copy for proof in before] == [proof.copy for proof in after] and not any(proof.problems for proof in after):
        return []
    return ["the copies are not the same after the second run"]


def left_behind(hosts: Sequence[HostOutcome]) -> list[str]:
    """No shadow copy, link or intent of ours; all shadow copies of others."""
    problems = []
    for host in hosts:
        if host.left.ours or host.left.state:
            problems.append(f"{host.name}: {host.left.ours} shadow copies of ours and {host.left.state} links or intents are left")
        if host.left.foreign != host.left.foreign_before:
            problems.append(f"{host.name}: {host.left.foreign} of {host.left.foreign_before} shadow copies of another product are left")
    return problems
