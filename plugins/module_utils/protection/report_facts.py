# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts of a fleet told, as the values that a report is made of. Everything in it is untrusted: texts stay texts, and what is no
time is no time."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import parse_age

REPLICAS = ("replica", "test_replica", "extended_replica")
"""Replication modes of what is no VM of its own."""
UNPROTECTED, PROTECTED, LEFT_OUT, UNDECIDED = "unprotected", "protected", "left_out", "undecided"


@dataclass(frozen=True)
class Policy:
    """A policy as far as a report needs it. ``max_age``: what counted as fresh when copies were made; ``rpo``: how old the last good copy
    may be, when the policy says so. ``available``: whether its method can be used at all."""

    name: str
    method: str = "vss_copy"
    destination: str | None = None
    max_age: timedelta | None = None
    rpo: timedelta | None = None
    keep: Mapping[str, int] = field(default_factory=dict)
    timezone: str = "UTC"
    consistency: str = "crash"
    available: bool = True


@dataclass(frozen=True)
class CopyFacts:
    """One copy or export, as hyperv_protection_info returns it."""

    vm_id: str
    host: str
    kind: str
    method: str
    destination: str
    folder: str
    run_id: str
    taken: datetime
    completed: datetime
    requested: str
    achieved: str
    verified: str
    standing: str
    size: int


@dataclass(frozen=True)
class Relation:
    """One replica relation of a VM."""

    extended: bool
    state: str
    health: str
    last_replicated: datetime | None


@dataclass(frozen=True)
class Outcome:
    """What became of a VM in the run before the report."""

    failed: bool
    error_code: str | None
    msg: str | None
    hint: str | None
    leftovers: int


@dataclass(frozen=True)
class Drilled:
    """When a VM was drilled last and what came of it, and when it passed last; None: never."""

    last: datetime | None
    outcome: str | None
    passed: datetime | None


@dataclass(frozen=True)
class VmFacts:
    """One VM where it was seen."""

    vm_id: str
    name: str
    state: str
    health: str | None
    storage_offline: bool
    replication_mode: str
    relations: tuple[Relation, ...]
    owner_node: str | None
    checkpoints: int
    findings: tuple[Mapping[str, str], ...]
    protection: str = UNDECIDED
    policy: Policy | None = None
    outcome: Outcome | None = None

    @property
    def is_replica(self) -> bool:
        """No VM of its own."""
        return self.replication_mode in REPLICAS


@dataclass(frozen=True)
class DestinationFacts:
    """One destination as one host saw it; bytes."""

    path: str
    read: bool
    free: int | None
    damaged: int
    incomplete: int
    error_code: str | None
    msg: str | None


@dataclass(frozen=True)
class HostFacts:
    """One host by its name in the inventory. ``error_code``: it gave no answer, and there is nothing else. ``now``: by its own clock.

    ``stale_shadows``: shadow copies of ours, or perhaps ours, older than a day. ``drilled``: what it told of the drills of VMs, and
    ``tested`` of the last test failover of replicas, by GUID and of any host. ``unread``: what of these could not be read.
    """

    name: str
    error_code: str | None = None
    msg: str | None = None
    computer: str = ""
    cluster: str | None = None
    release: str | None = None
    now: datetime | None = None
    clock_skew: float = 0.0
    vms: tuple[VmFacts, ...] = ()
    copies: tuple[CopyFacts, ...] = ()
    destinations: tuple[DestinationFacts, ...] = ()
    shadow_copies: Mapping[str, int] | None = None
    oldest_shadow: float | None = None
    stale_shadows: int = 0
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    drilled: Mapping[str, Drilled] = field(default_factory=dict)
    tested: Mapping[str, datetime | None] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


LONGEST = 500
"""Characters of a text in a report. Longer ones are cut, so that nobody can fill the page, and a line of it can be stored by any host."""


def clipped(value: object) -> str:
    """Any value as a text of at most LONGEST characters, without halves of characters, which no file could hold."""
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= LONGEST else text[:LONGEST - 1] + "\u2026"


def moment(value: object) -> datetime | None:
    """An aware time out of a result's text; None for anything else."""
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo is not None else None


def read_host(data: Mapping[str, Any]) -> HostFacts:
    """One host: ``host`` (its name), ``info`` (of hyperv_protection_info, or its failure), ``plan`` (of backup_plan), ``results`` (of the
    role backup, when it ran before), ``drills`` (a list: of hyperv_restore_info, or its failure) and ``replicas`` (the same of
    hyperv_replica_info). What is missing is not known."""
    drills, replicas = _answers(data.get("drills"), "results"), _answers(data.get("replicas"), "replicas")
    asked = [one for one in replicas.entries if one.get("test_overdue") is not None]
    return replace(
        _read(data), drilled={clipped(one["vm"]["vm_id"]): _drilled(one) for one in drills.entries},
        tested={clipped(one["vm"]["vm_id"]): moment(one.get("last_test")) for one in asked},
        unread=(*(f"When virtual machines were drilled is not known: {text}" for text in drills.failures),
                *(f"When its replicas were tested is not known: {text}" for text in replicas.failures)))


def _read(data: Mapping[str, Any]) -> HostFacts:
    name, info = clipped(data["host"]), data.get("info") or {}
    if "vms" not in info:
        return HostFacts(name, clipped(info.get("error_code") or "no_answer"), _text(info.get("msg")) or "The host gave no answer.")
    plan, told = data.get("plan") or {}, info["host"]
    protection = dict(_protection(plan))
    outcomes = {entry["vm"]["vm_id"]: _outcome(entry) for entry in data.get("results") or () if (entry.get("vm") or {}).get("vm_id")}
    shadows = info.get("shadow_copies")
    return HostFacts(
        name, computer=clipped(told.get("name") or ""), cluster=_text(told.get("cluster")), release=_text(told.get("release")),
        now=moment(told.get("time")), clock_skew=float(told.get("clock_skew") or 0.0),
        vms=tuple(_machine(vm, protection, outcomes) for vm in info["vms"]),
        copies=tuple(copy for copy in map(_copy, info.get("copies") or ()) if copy is not None),
        destinations=tuple(_destination(one) for one in info.get("destinations") or ()),
        shadow_copies=None if shadows is None else {
            owner: sum(1 for one in shadows if one["owner"] == owner) for owner in ("ours", "suspect", "foreign")},
        stale_shadows=sum(1 for one in shadows or () if one["owner"] != "foreign" and float(one.get("age") or 0) > STALE),
        oldest_shadow=max((float(one["age"]) for one in shadows or () if one.get("age") is not None), default=None),
        missing=tuple(clipped(name) for name in plan.get("missing") or ()),
        problems=tuple(clipped(text) for text in plan.get("problems") or ()))


STALE = 24 * 3600.0
"""Seconds after which no run of ours is at work with a shadow copy any more."""


@dataclass(frozen=True)
class _Answers:
    entries: tuple[Mapping[str, Any], ...]
    failures: tuple[str, ...]


def _answers(given: Any, key: str) -> _Answers:
    """The entries of several results of one module, and what those said that failed; skipped ones say nothing."""
    results = [one for one in _listed(given) if not one.get("skipped")]
    return _Answers(tuple(entry for one in results for entry in _listed(one.get(key))),
                    tuple(_text(one.get("msg")) or "it gave no reason." for one in results if key not in one))


def _drilled(entry: Mapping[str, Any]) -> Drilled:
    last, passed = entry.get("last_drill") or {}, entry.get("last_passed") or {}
    return Drilled(moment(last.get("began")), _text(last.get("outcome")), moment(passed.get("began")))


def silent(name: str) -> HostFacts:
    """A host of which nothing is known."""
    return HostFacts(clipped(name), error_code="no_answer", msg="It failed or was lost before the report.")


def _protection(plan: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, Policy | None]]]:
    for key, available in (("tasks", True), ("unavailable", False)):
        for task in plan.get(key) or ():
            policy = _policy(task, available)
            yield from ((clipped(vm["vm_id"]), (PROTECTED, policy)) for vm in task["vms"] if vm.get("vm_id"))
    for key in (UNPROTECTED, LEFT_OUT):
        yield from ((clipped(vm["vm_id"]), (key, None)) for vm in plan.get(key) or ())


def _policy(task: Mapping[str, Any], available: bool) -> Policy:
    options = task.get("options") or {}
    return Policy(
        clipped(task["policy"]), clipped(task["method"]), _text(options.get("destination")), _age(options.get("max_age")),
        _age(options.get("rpo")),
        {clipped(rule): int(count) for rule, count in (options.get("keep") or {}).items() if count},
        clipped(options.get("timezone") or "UTC"), clipped(options.get("consistency") or "crash"), available)


def _age(value: object) -> timedelta | None:
    try:
        return parse_age(str(value))
    except ValueError:
        return None


def _machine(vm: Mapping[str, Any], protection: Mapping[str, tuple[str, Policy | None]], outcomes: Mapping[str, Outcome]) -> VmFacts:
    replication = vm.get("replication") or {}
    vm_id = clipped(vm["vm_id"])
    decided, policy = protection.get(vm_id, (UNDECIDED, None))
    return VmFacts(
        vm_id, clipped(vm["name"]), clipped(vm.get("state") or "unknown"), _text(vm.get("health")), bool(vm.get("storage_offline")),
        clipped(replication.get("mode") or "none"), tuple(_relation(one) for one in replication.get("relations") or ()),
        _text((vm.get("cluster") or {}).get("owner_node")), int(vm.get("checkpoints") or 0),
        tuple(_finding(one) for one in vm.get("findings") or ()),
        decided, policy, outcomes.get(vm_id))


def _finding(data: Mapping[str, Any]) -> Mapping[str, str]:
    return {key: clipped(data.get(key) or "") for key in ("code", "severity", "text")}


def _relation(data: Mapping[str, Any]) -> Relation:
    return Relation(bool(data.get("extended")), clipped(data.get("state") or "unknown"), clipped(data.get("health") or "unknown"),
                    moment(data.get("last_replicated")))


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    return Outcome(bool(entry.get("failed")), _text(entry.get("error_code")), _text(entry.get("msg")), _text(entry.get("hint")),
                   len(_listed(entry.get("leftovers"))))


def _copy(data: Mapping[str, Any]) -> CopyFacts | None:
    taken, completed = moment(data.get("taken")), moment(data.get("completed"))
    if taken is None or completed is None:
        return None
    texts = {key: clipped(data.get(key) or "") for key in (
        "vm_id", "host", "kind", "method", "destination", "folder", "run_id", "requested", "achieved", "verified", "standing")}
    return CopyFacts(taken=taken, completed=completed, size=int(data.get("size") or 0), **texts)


def _destination(data: Mapping[str, Any]) -> DestinationFacts:
    free = data.get("free")
    return DestinationFacts(
        clipped(data["path"]), bool(data.get("read")), None if free is None else int(free), len(_listed(data.get("damaged"))),
        len(_listed(data.get("incomplete"))), _text(data.get("error_code")), _text(data.get("msg")))


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _text(value: object) -> str | None:
    return None if value in (None, "") else clipped(value)
