# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a fleet: facts in, one value out, which every format shows (docs/report.md).

A VM is in the report once: a clustered one at the node that owns it. Copies count for it wherever they lie, also those that another host
made before it moved, as long as nobody else of the fleet has its GUID.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.protection import retention
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_facts import CopyFacts, Drilled, HostFacts, Policy, VmFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_hosts import findings
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_rules import (
    STATUSES,
    Case,
    Limits,
    Problem,
    Replica,
    judge,
    rpo_of,
    status_of,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.retention import RetainedCopy

FORMAT = 1
DAYS = 30
NEXT = "the next copy"
_NEVER = datetime.min.replace(tzinfo=UTC)
_KINDS = {"vss_copy": "vss_copy", "live_copy": "vss_copy", "export": "export"}
"""Method of a policy to the kind of its copies."""


def utc(moment: datetime | None) -> str | None:
    """``2026-01-31T12:00:00Z``, or None."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class VmReport:
    """One VM. Times are by the clock of its host; sizes in bytes. ``last``: the last good copy; ``doomed``: what the next prune deletes.
    ``drilled``: None when nobody asked, or it cannot be drilled; ``tested``: the last test failover of a replica."""

    host: str
    vm: VmFacts
    status: str
    problems: tuple[Problem, ...]
    rpo: timedelta | None
    last: CopyFacts | None
    age: timedelta | None
    good: int
    size: int
    doomed: tuple[CopyFacts, ...]
    replica: Replica | None
    drilled: Drilled | None = None
    tested: datetime | None = None

    def as_data(self) -> dict[str, Any]:
        """The form in the JSON document."""
        last, replica, policy = self.last, self.replica, self.vm.policy
        return {
            "host": self.host, "vm_id": self.vm.vm_id, "name": self.vm.name, "state": self.vm.state, "status": self.status,
            "protection": self.vm.protection, "policy": policy.name if policy else None, "method": policy.method if policy else None,
            "rpo": _seconds(self.rpo), "age": _seconds(self.age),
            "last_copy": None if last is None else {
                "kind": last.kind, "method": last.method, "folder": last.folder, "run_id": last.run_id, "taken": utc(last.taken),
                "completed": utc(last.completed), "duration": _seconds(last.completed - last.taken), "size": last.size,
                "verified": last.verified, "consistency": {"requested": last.requested, "achieved": last.achieved}},
            "good_copies": self.good, "size": self.size,
            "next_prune": [{"folder": copy.folder, "taken": utc(copy.taken), "size": copy.size} for copy in self.doomed],
            "replica": None if replica is None else {
                "mode": self.vm.replication_mode, "state": replica.state, "health": replica.health, "lag": _seconds(replica.lag)},
            "last_drill": None if self.drilled is None else {
                "began": utc(self.drilled.last), "outcome": self.drilled.outcome, "passed": utc(self.drilled.passed)},
            "last_test": utc(self.tested), "checkpoints": self.vm.checkpoints, "problems": [problem.as_data() for problem in self.problems]}


@dataclass(frozen=True)
class Day:
    """What was copied on one day (UTC): copies, bytes, and seconds of the longest one."""

    date: str
    copies: int
    size: int
    longest: int


@dataclass(frozen=True)
class Report:
    """The whole of it. ``vms``: the worst first. ``nowhere``: names of entries of backup_vms that no host has.
    ``tests``: replicas of which the last test failover was asked."""

    made: datetime
    title: str
    hosts: tuple[HostFacts, ...]
    vms: tuple[VmReport, ...]
    days: tuple[Day, ...]
    nowhere: tuple[str, ...]
    tests: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """VMs by status; every status is there."""
        found = Counter(vm.status for vm in self.vms)
        return {status: found[status] for status in STATUSES}

    @property
    def silent(self) -> tuple[HostFacts, ...]:
        """Hosts that gave no answer."""
        return tuple(host for host in self.hosts if host.error_code is not None)

    @property
    def good(self) -> bool:
        """Nothing has to be done: every VM is protected as its policy says, or left out on purpose, and every host answered."""
        calm = ("ok", "left_out", "replica")
        return (not self.silent and not self.nowhere and all(vm.status in calm for vm in self.vms)
                and not any(findings(host) for host in self.hosts))

    def as_data(self) -> dict[str, Any]:
        """The JSON document, ``docs/report.schema.json``."""
        return {
            "format": FORMAT, "made": utc(self.made), "title": self.title, "good": self.good, "counts": self.counts,
            "hosts": [_host_data(host) for host in self.hosts], "vms": [vm.as_data() for vm in self.vms],
            "entries_without_vm": list(self.nowhere),
            "days": [{"date": day.date, "copies": day.copies, "size": day.size, "longest": day.longest} for day in self.days]}


def _host_data(host: HostFacts) -> dict[str, Any]:
    return {
        "name": host.name, "answered": host.error_code is None, "error_code": host.error_code, "msg": host.msg, "computer": host.computer,
        "cluster": host.cluster, "release": host.release, "time": utc(host.now), "clock_skew": host.clock_skew, "vms": len(host.vms),
        "shadow_copies": None if host.shadow_copies is None else dict(host.shadow_copies), "problems": list(host.problems),
        "findings": [finding.as_data() for finding in findings(host)],
        "destinations": [{"path": one.path, "read": one.read, "free": one.free, "damaged": one.damaged, "incomplete": one.incomplete,
                          "error_code": one.error_code, "msg": one.msg} for one in host.destinations]}


def _seconds(value: timedelta | None) -> int | None:
    return None if value is None else int(value.total_seconds())


# -- making it -----------------------------------------------------------------------------------------------------------


def build(hosts: Iterable[HostFacts], limits: Limits, now: datetime, title: str) -> Report:
    """The report of these hosts. ``now`` is the controller's time, for hosts that did not tell theirs."""
    every = tuple(sorted(hosts, key=lambda host: host.name))
    seen = list(_machines(every))
    holders = Counter(vm.vm_id for _host, vm in seen if not vm.is_replica)
    copies: dict[str, dict[str, CopyFacts]] = {}
    for host in every:
        for copy in host.copies:
            place = copy.folder.casefold() if copy.folder.startswith("\\\\") else f"{host.name}:{copy.folder}"
            copies.setdefault(copy.vm_id, {})[place] = copy
    drilled, tested = _drills(every), _tests(every)
    found = []
    for host, vm in seen:
        own = [copy for copy in copies.get(vm.vm_id, {}).values() if not vm.is_replica
               and (holders[vm.vm_id] == 1 or copy.host.casefold() == host.computer.casefold())]
        found.append(_of_machine(host, vm, own, limits, host.now or now, drilled.get(vm.vm_id) if not vm.is_replica else None, tested))
    found.sort(key=lambda one: (STATUSES.index(one.status), one.host, one.vm.name.casefold(), one.vm.vm_id))
    asked = sum(1 for one in found if limits.test is not None and one.vm.replication_mode == "replica" and one.vm.vm_id in tested)
    return Report(now, title, every, tuple(found), _days(every, now), _nowhere(every, seen), asked)


def _machines(hosts: Sequence[HostFacts]) -> Iterator[tuple[HostFacts, VmFacts]]:
    """Each VM once: where its cluster says that it is, when it was seen on several nodes."""
    at_owner = {vm.vm_id for host in hosts for vm in host.vms if _owned(host, vm)}
    for host in hosts:
        yield from ((host, vm) for vm in host.vms if vm.is_replica or vm.vm_id not in at_owner or _owned(host, vm))


def _owned(host: HostFacts, vm: VmFacts) -> bool:
    return vm.owner_node is not None and vm.owner_node.partition(".")[0].casefold() == host.computer.casefold() and not vm.is_replica


def _nowhere(hosts: Sequence[HostFacts], seen: Sequence[tuple[HostFacts, VmFacts]]) -> tuple[str, ...]:
    known = {text.casefold() for _host, vm in seen for text in (vm.name, vm.vm_id)}
    named = {name for host in hosts for name in host.missing}
    return tuple(sorted(name for name in named if name.strip().strip("{}").casefold() not in known and name.casefold() not in known))


def _drills(hosts: Sequence[HostFacts]) -> Mapping[str, Drilled]:
    """By GUID, what is newest of what several hosts told."""
    found: dict[str, Drilled] = {}
    for vm_id, one in ((vm_id, one) for host in hosts for vm_id, one in host.drilled.items()):
        other = found.get(vm_id, one)
        newest = max((other, one), key=lambda drilled: drilled.last or _NEVER)
        found[vm_id] = Drilled(newest.last, newest.outcome, max(other.passed or _NEVER, one.passed or _NEVER)
                               if other.passed or one.passed else None)
    return found


def _tests(hosts: Sequence[HostFacts]) -> Mapping[str, datetime | None]:
    """By GUID, the newest test failover that a host told; None when all that told say never."""
    found: dict[str, datetime | None] = {}
    for vm_id, moment in ((vm_id, moment) for host in hosts for vm_id, moment in host.tested.items()):
        found[vm_id] = max((one for one in (found.get(vm_id), moment) if one is not None), default=None)
    return found


def _of_machine(host: HostFacts, vm: VmFacts, copies: Sequence[CopyFacts], limits: Limits, now: datetime, drilled: Drilled | None,
                tests: Mapping[str, datetime | None]) -> VmReport:
    good = sorted((copy for copy in copies if _is_good(copy, now)), key=lambda copy: (copy.taken, copy.folder))
    last = good[-1] if good else None
    replica = _replica(vm, now)
    rpo = rpo_of(vm.policy, limits)
    age = None if last is None else now - last.taken
    unread = [one for one in host.destinations if not one.read and vm.policy is not None and vm.policy.destination is not None
              and _same(one.path, vm.policy.destination)]
    problems = judge(Case(vm, last, age, rpo, len(copies) - len(good), unread[0] if unread else None, replica, now,
                          drilled, tests), limits)
    return VmReport(host.name, vm, status_of(vm, problems), problems, rpo, last, age, len(good), sum(copy.size for copy in copies),
                    tuple(_doomed(vm.policy, copies, now)), replica, drilled, tests.get(vm.vm_id) if vm.is_replica else None)


def _is_good(copy: CopyFacts, now: datetime) -> bool:
    return (copy.standing == "verified" and copy.taken <= copy.completed
            and copy.completed <= now + retention.FUTURE_TOLERANCE)


def _same(left: str, right: str) -> bool:
    return left.replace("/", "\\").rstrip("\\").casefold() == right.replace("/", "\\").rstrip("\\").casefold()


def _replica(vm: VmFacts, now: datetime) -> Replica | None:
    """The relation of a VM; its own of several, not the extended one."""
    if vm.replication_mode == "none" or not vm.relations:
        return None
    relation = min(vm.relations, key=lambda one: one.extended)
    lag = None if relation.last_replicated is None else max(timedelta(), now - relation.last_replicated)
    return Replica(relation.state, relation.health, lag)


def _doomed(policy: Policy | None, copies: Sequence[CopyFacts], now: datetime) -> Iterator[CopyFacts]:
    """What the policy deletes after its next copy, the oldest first."""
    if policy is None or not policy.keep or policy.destination is None:
        return
    kind = _KINDS.get(policy.method)
    own = {copy.folder: copy for copy in copies if copy.kind == kind and _same(copy.destination, policy.destination)}
    counted = [RetainedCopy(copy.folder, copy.taken, _standing(copy)) for copy in own.values()]
    try:
        keep, zone = retention.parse_keep(policy.keep), retention.zone(policy.timezone)
    except retention.RetentionError:
        return
    plan = retention.decide([*counted, RetainedCopy(NEXT, now)], keep, now=now, newest_run_failed=False, timezone=zone)
    yield from (own[copy.copy_id] for copy in plan.removed if copy.copy_id != NEXT)


def _standing(copy: CopyFacts) -> retention.Standing:
    if copy.standing == "verified":
        return "verified"
    return "unverified" if copy.standing == "unverified" else "incomplete"


def _days(hosts: Iterable[HostFacts], now: datetime) -> tuple[Day, ...]:
    """The last days, the oldest first, also those without a copy; by the controller's clock, however far those of the hosts are from it."""
    dates = [(now - timedelta(days=back)).strftime("%Y-%m-%d") for back in range(DAYS - 1, -1, -1)]
    by_date: dict[str, list[CopyFacts]] = {date: [] for date in dates}
    for host in hosts:
        ahead = (host.now or now) - now
        for copy in host.copies:
            by_date.get((copy.completed - ahead).strftime("%Y-%m-%d"), []).append(copy)
    return tuple(Day(date, len(several), sum(copy.size for copy in several),
                     max((int((copy.completed - copy.taken).total_seconds()) for copy in several), default=0))
                 for date, several in by_date.items())
