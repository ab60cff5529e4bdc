# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the protection of a VM, and what to do about it: pure rules, each with a stable code."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.protection import replica_lag
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import reaches
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import span
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import LEVELS
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_facts import (
    LEFT_OUT,
    UNDECIDED,
    UNPROTECTED,
    CopyFacts,
    DestinationFacts,
    Drilled,
    Policy,
    VmFacts,
)

STATUSES = ("unprotected", "no_copy", "overdue", "failed", "unknown", "weaker", "attention", "ok", "left_out", "replica")
"""The worst first. Each but the last three is also the code of the problem that leads to it, or of the first of several."""
SEVERE = ("unprotected", "no_copy", "overdue", "failed")
CHECKPOINT, REPLICA = "checkpoint", "replica"
"""Methods of policies that make no copy."""
_STATUS_OF = {"method_not_available": "no_copy", "undecided": "unknown", "destination_unread": "unknown"}
DAY = timedelta(days=1)
USUAL_RPO = timedelta(hours=26)
"""A run each night, and two hours for it to take longer than the night before."""
_ONLY_REPLICA = {"not_copied": "no_copy", "lag_unknown": "no_copy", "lag": "overdue"}
"""What is wrong with a replica is worse where it is all that the policy asks for."""


@dataclass(frozen=True)
class Limits:
    """``rpo``: how old the last good copy may be where the policy does not say it; None: by the age that the policy allows. ``lag``: how
    far behind a replica may be. ``drill`` and ``test``: how long ago the last drill of a VM, and the last test failover of a replica, may
    be; None: that is not asked."""

    rpo: timedelta | None = None
    lag: timedelta = timedelta(hours=1)
    drill: timedelta | None = None
    test: timedelta | None = None


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one VM: ``text`` says what, ``advice`` what to do."""

    code: str
    text: str
    advice: str = ""

    def as_data(self) -> dict[str, str]:
        """The form in the JSON document."""
        return {"code": self.code, "text": self.text, "advice": self.advice}


@dataclass(frozen=True)
class Replica:
    """How far a replica is behind its VM."""

    state: str
    health: str
    lag: timedelta | None


@dataclass(frozen=True)
class Case:
    """A VM with what is known of its copies, ``now`` by the clock of its host. ``others``: copies that do not count; ``unread``: its
    destination, when nobody could look. ``drilled``: of a VM that could be drilled; ``tests``: the last test failover by GUID, of those
    replicas that told it."""

    vm: VmFacts
    last: CopyFacts | None
    age: timedelta | None
    rpo: timedelta | None
    others: int
    unread: DestinationFacts | None
    replica: Replica | None
    now: datetime
    drilled: Drilled | None = None
    tests: Mapping[str, datetime | None] = field(default_factory=dict)


def rpo_of(policy: Policy | None, limits: Limits) -> timedelta | None:
    """How old the last good copy of a VM may be; None when its policy makes none. A policy that lets copies be older than a day is
    allowed a night more than that."""
    if policy is None or policy.method in (CHECKPOINT, REPLICA):
        return None
    if policy.rpo is not None:
        return policy.rpo
    if limits.rpo is not None:
        return limits.rpo
    return USUAL_RPO if policy.max_age is None or policy.max_age <= DAY else policy.max_age + USUAL_RPO


def judge(case: Case, limits: Limits) -> tuple[Problem, ...]:
    """All problems of a VM, the worst first. What was left out on purpose, and a replica, have only those of the machine itself."""
    found = [*_of_copies(case), *_of_run(case), *_of_replication(case, limits), *_of_machine(case.vm), *_of_drills(case, limits)]
    return tuple(sorted(found, key=lambda problem: STATUSES.index(_status(problem.code))))


def status_of(vm: VmFacts, problems: tuple[Problem, ...]) -> str:
    """One word for a VM; problems of the machine itself do not change that of one that was left out, but that of a replica."""
    if vm.protection == LEFT_OUT and not vm.is_replica:
        return "left_out"
    if problems:
        return _status(problems[0].code)
    return "replica" if vm.is_replica else "ok"


def _status(code: str) -> str:
    return _STATUS_OF.get(code, code if code in STATUSES else "attention")


def _of_copies(case: Case) -> Iterator[Problem]:
    vm, policy = case.vm, case.vm.policy
    if vm.is_replica or vm.protection == LEFT_OUT:
        return
    if vm.protection == UNPROTECTED:
        yield Problem("unprotected", "No entry of backup_vms matches it: nothing protects it.",
                      "Add an entry for it, or one with policy: none to leave it out on purpose.")
        return
    if vm.protection == UNDECIDED or policy is None:
        yield Problem("undecided", "Whether it is to be protected is not known: backup_vms is not set for its host, or means nothing.",
                      "Set backup_vms for this host, and check it with the role backup in check mode.")
        return
    if not policy.available:
        yield Problem("method_not_available", f"The method {policy.method} of its policy is not available.",
                      "Give it a policy with another method.")
        return
    if policy.method == CHECKPOINT:
        yield Problem("no_copy", "Its policy makes checkpoints only. They lie on its own disks and are lost with them: nothing copies it.",
                      "Give it a policy that copies it to another place. hyperv_checkpoint makes checkpoints beside that.")
        return
    if policy.method == REPLICA:
        yield from _of_replica_alone(case)
        return
    yield from _of_age(case, policy)
    if case.last is not None and not _reaches(case.last.achieved, policy.consistency):
        yield Problem("weaker", f"The last good copy is {case.last.achieved}-consistent; its policy asks for {policy.consistency}.",
                      "hyperv_vm_info says under readiness what stands in the way.")


def _of_replica_alone(case: Case) -> Iterator[Problem]:
    """What :func:`_of_replication` does not look for, since other VMs need no replica."""
    if case.replica is None:
        yield Problem("no_copy", "Its policy is replica, and it has no replication.",
                      "Replicate it with the role replica, or give it a policy that copies it.")
    elif case.replica.state in replica_lag.FAILOVERS:
        yield Problem("replica_failover", f"A failover of it is not finished: {case.replica.state}.",
                      "Finish it with hyperv_replica_failover.")


def _of_age(case: Case, policy: Policy) -> Iterator[Problem]:
    if case.unread is not None:
        yield Problem("destination_unread", f"Its copies are not known: {case.unread.msg or case.unread.path}",
                      "See that the host can read the destination, as the identity of the policy.")
    if case.last is None:
        if case.unread is None:
            others = f" {case.others} are there that do not count: unverified, inconsistent or incomplete." if case.others else ""
            yield Problem("no_copy", f"There is no good copy of it at {policy.destination or 'any destination'}.{others}",
                          "Run the role backup for its host and look at what it says.")
    elif case.age is not None and case.rpo is not None and case.age > case.rpo:
        yield Problem("overdue", f"The last good copy is {span(case.age)} old; {span(case.rpo)} are allowed.",
                      "See whether the nightly run took place, and what it said.")


def _reaches(achieved: str, wanted: str) -> bool:
    return achieved in LEVELS and wanted in LEVELS and reaches(achieved, wanted)


def _of_run(case: Case) -> Iterator[Problem]:
    outcome = case.vm.outcome
    if outcome is None or (case.vm.is_replica and outcome.error_code == "replica_vm"):
        return
    if outcome.failed:
        code = f" ({outcome.error_code})" if outcome.error_code else ""
        yield Problem("failed", f"The last run failed{code}: {outcome.msg or 'it gave no reason.'}", outcome.hint or "")
    if outcome.leftovers:
        yield Problem("leftovers", f"The last run left {outcome.leftovers} thing(s) on the host.", "Run the role shadow_cleanup.")


def _of_replication(case: Case, limits: Limits) -> Iterator[Problem]:
    replica, policy = case.replica, case.vm.policy
    if replica is None:
        return
    alone = policy is not None and policy.method == REPLICA and not case.vm.is_replica
    allowed = (policy.rpo or policy.max_age if policy is not None and alone else None) or limits.lag
    lag = None if replica.lag is None else int(replica.lag.total_seconds())
    standing = replica_lag.Standing(replica.state, replica.health, lag, int(allowed.total_seconds()))
    for word in replica_lag.ills(standing):
        yield Problem(_ONLY_REPLICA.get(word, f"replica_{word}") if alone else f"replica_{word}", replica_lag.sentence(word, standing),
                      "hyperv_replica_info has the details of both sides.")
    tested = case.tests.get(case.vm.vm_id)
    if case.vm.replication_mode == "replica" and case.vm.vm_id in case.tests and replica_lag.overdue(tested, case.now, limits.test):
        every = span(limits.test or timedelta())
        told = "It had no test failover yet" if tested is None else f"Its last test failover was {span(case.now - tested)} ago"
        yield Problem("replica_test_overdue", f"{told}; one every {every} is asked for.", "Run hyperv_replica_failover with action: test.")


def _of_drills(case: Case, limits: Limits) -> Iterator[Problem]:
    drilled = case.drilled
    if limits.drill is None or drilled is None or case.vm.is_replica or case.vm.protection == LEFT_OUT:
        return
    if drilled.outcome == "failed" and drilled.last is not None:
        yield Problem("drill_failed", f"Its last restore drill failed, {span(case.now - drilled.last)} ago.",
                      "The evidence in restore_drills at the destination says why.")
    if drilled.passed is None or case.now - drilled.passed > limits.drill:
        told = "No restore drill has brought it back yet" if drilled.passed is None else \
            f"The last restore drill that it passed was {span(case.now - drilled.passed)} ago"
        yield Problem("drill_overdue", f"{told}; one every {span(limits.drill)} is asked for.", "Run the role restore_drill.")


def _of_machine(vm: VmFacts) -> Iterator[Problem]:
    if vm.storage_offline:
        yield Problem("storage_offline", "The storage of its configuration cannot be reached.",
                      "Bring the storage back before the next run.")
    if vm.health not in (None, "ok"):
        yield Problem("health", f"The host says that its health is {vm.health}.", "Look at it in Hyper-V Manager.")
    for finding in vm.findings:
        yield Problem(f"checkpoint_{finding.get('code')}", str(finding.get("text") or ""), "See the role checkpoint_cleanup.")
