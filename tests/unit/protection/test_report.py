# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_facts import LONGEST, clipped, silent
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_rules import STATUSES, Limits

sys.path.insert(0, str(Path(__file__).parent))
from report_site import copy, guid, host, iso, plan, report, vm


def codes(*hosts: dict[str, Any], limits: Limits | None = None) -> tuple[str, list[str]]:
    (one,) = report(*hosts, limits=limits).vms
    return one.status, [problem.code for problem in one.problems]


LAG = {"mode": "primary", "relations": [{"extended": True, "state": "replicating", "health": "critical", "last_replicated": iso(9)},
                                        {"extended": False, "state": "replicating", "health": "ok", "last_replicated": iso(2)}]}
SUSPENDED = {"mode": "primary", "relations": [{"extended": False, "state": "suspended", "health": "warning", "last_replicated": None}]}
UNREAD = [{"path": "e:/backup/", "read": False, "free": None, "damaged": [], "incomplete": [], "error_code": "x", "msg": "Away."}]
FAILED = {"vm": {"vm_id": guid(1)}, "failed": True, "error_code": "vss_busy", "msg": "Busy.", "hint": "Wait.", "leftovers": [{}]}
OLD = {"code": "old", "severity": "warning", "text": "Old."}
REPLICA = {"replication": {"mode": "replica", "relations": []}}


def by(method: str, **options: str) -> dict[str, Any]:
    """A plan with a policy that makes no copy."""
    return plan(tasks=[{"policy": "p", "method": method, "options": options, "vms": [{"vm_id": guid(1)}]}])


def replicating(**changes: Any) -> dict[str, Any]:
    return {"mode": "primary", "relations": [
        {"extended": False, "state": "replicating", "health": "ok", "last_replicated": iso(1.5), **changes}]}


@pytest.mark.parametrize(("given", "status", "found"), [
    (host(vm(1), plan=plan(1), copies=[copy(1, 8)]), "ok", []),
    (host(vm(1), plan=plan(unprotected=[{"vm_id": guid(1)}]), copies=[copy(1, 8)]), "unprotected", ["unprotected"]),
    (host(vm(1), plan=plan(left_out=[{"vm_id": guid(1)}])), "left_out", []),
    (host(vm(1, **REPLICA), plan=plan(left_out=[{"vm_id": guid(1)}])), "replica", []),
    (host(vm(1), plan={}, copies=[copy(1, 8)]), "unknown", ["undecided"]),
    (host(vm(1), plan=plan(1)), "no_copy", ["no_copy"]),
    (host(vm(1), plan=plan(1), copies=[copy(2, 8), copy(1, 8, standing="unverified"), copy(1, 9, standing="incomplete")]),
     "no_copy", ["no_copy"]),
    (host(vm(1), plan=plan(1), copies=[copy(1, -1)]), "no_copy", ["no_copy"]),
    (host(vm(1), plan=plan(1), copies=[copy(1, 8, taken="yesterday")]), "no_copy", ["no_copy"]),
    (host(vm(1), plan=plan(1), copies=[copy(1, 26)]), "ok", []),
    (host(vm(1), plan=plan(1), copies=[copy(1, 26.1)]), "overdue", ["overdue"]),
    (host(vm(1), plan=plan(1, options={"rpo": "4h"}), copies=[copy(1, 5)]), "overdue", ["overdue"]),
    (host(vm(1), plan=plan(1, options={"max_age": "6d"}), copies=[copy(1, 169)]), "ok", []),
    (host(vm(1), plan=plan(1, options={"max_age": "6d"}), copies=[copy(1, 171)]), "overdue", ["overdue"]),
    (host(vm(1), plan=plan(1, options={"consistency": "application"}), copies=[copy(1, 8)]), "weaker", ["weaker"]),
    (host(vm(1), plan=plan(1, options={"consistency": "application"}), copies=[copy(1, 8), copy(1, 9, achieved="application")]),
     "weaker", ["weaker"]),
    (host(vm(1), plan=plan(1), copies=[copy(1, 8, kind="export", achieved="application")]), "ok", []),
    (host(vm(1), plan=plan(1), destinations=UNREAD), "unknown", ["destination_unread"]),
    (host(vm(1), plan=plan(1), copies=[copy(1, 8)], results=[FAILED]), "failed", ["failed", "leftovers"]),
    (host(vm(1), plan=plan(1), results=[FAILED]), "no_copy", ["no_copy", "failed", "leftovers"]),
    (host(vm(1, findings=[OLD], health="critical", storage_offline=True), plan=plan(1), copies=[copy(1, 8)]),
     "attention", ["storage_offline", "health", "checkpoint_old"]),
    (host(vm(1, findings=[OLD]), plan=plan(left_out=[{"vm_id": guid(1)}])), "left_out", ["checkpoint_old"]),
    (host(vm(1, replication=LAG), plan=plan(1), copies=[copy(1, 8)]), "attention", ["replica_lag"]),
    (host(vm(1, replication=SUSPENDED), plan=plan(1), copies=[copy(1, 8)]),
     "attention", ["replica_warning", "replica_not_replicating", "replica_lag_unknown"]),
    (host(vm(1, **REPLICA), plan=plan(unprotected=[{"vm_id": guid(1)}])), "replica", []),
    (host(vm(1, **REPLICA), plan=plan(1), results=[{**FAILED, "error_code": "replica_vm", "leftovers": []}]), "replica", []),
    (host(vm(1), plan=plan(unavailable=[{"policy": "p", "method": "later", "options": {}, "vms": [{"vm_id": guid(1)}]}])),
     "no_copy", ["method_not_available"]),
    (host(vm(1, checkpoints=1), plan=by("checkpoint")), "no_copy", ["no_copy"]),
    (host(vm(1), plan=by("checkpoint"), copies=[copy(1, 8)]), "no_copy", ["no_copy"]),
    (host(vm(1), plan=by("replica", max_age="1h")), "no_copy", ["no_copy"]),
    (host(vm(1, replication=replicating()), plan=by("replica", max_age="2h")), "ok", []),
    (host(vm(1, replication=replicating()), plan=by("replica", max_age="1h")), "overdue", ["overdue"]),
    (host(vm(1, replication=replicating()), plan=by("replica", max_age="1h", rpo="2h")), "ok", []),
    (host(vm(1, replication=replicating(last_replicated=None)), plan=by("replica", max_age="2h")), "no_copy", ["no_copy"]),
    (host(vm(1, replication=replicating(state="initial_replication")), plan=by("replica", max_age="2h")), "no_copy", ["no_copy"]),
    (host(vm(1, replication=replicating(health="warning")), plan=by("replica", max_age="2h")), "attention", ["replica_warning"]),
    (host(vm(1, replication=replicating(state="synced")), plan=by("replica", max_age="2h")), "attention", ["replica_failover"]),
    (host(vm(1, **REPLICA), plan=by("replica", max_age="2h")), "replica", []),
])
def test_what_is_said_of_a_machine(given: dict[str, Any], status: str, found: list[str]) -> None:
    assert codes(given) == (status, found)


@pytest.mark.parametrize("given", [by("checkpoint"), by("replica", max_age="2h")])
def test_a_policy_that_makes_no_copy_promises_no_age_of_one(given: dict[str, Any]) -> None:
    (one,) = report(host(vm(1, replication=replicating(), checkpoints=2), plan=given)).vms
    assert (one.rpo, one.last, one.age, one.good, one.doomed) == (None, None, None, 0, ())


def test_limits_of_the_report_hold_where_the_policy_says_nothing() -> None:
    given = host(vm(1, replication=LAG), plan=plan(1), copies=[copy(1, 8)])
    assert codes(given, limits=Limits(timedelta(hours=7), timedelta(hours=3))) == ("overdue", ["overdue"])


@pytest.mark.parametrize(("told", "found"), [
    ({"last_drill": None, "last_passed": None}, ["drill_overdue"]),
    ({"last_drill": {"began": iso(24), "outcome": "passed"}, "last_passed": {"began": iso(24)}}, []),
    ({"last_drill": {"began": iso(24), "outcome": "failed"}, "last_passed": {"began": iso(99)}}, ["drill_failed", "drill_overdue"]),
    ({"last_drill": {"began": iso(24), "outcome": "refused"}, "last_passed": {"began": "yesterday"}}, ["drill_overdue"]),
])
def test_drills_are_asked_of_what_can_be_drilled(told: dict[str, Any], found: list[str]) -> None:
    given = {**host(vm(1), plan=plan(1), copies=[copy(1, 8)]), "drills": [{"results": [{"vm": {"vm_id": guid(1)}, **told}]}]}
    limits = Limits(drill=timedelta(days=3))
    assert codes(given, limits=limits) == ("attention" if found else "ok", found)
    assert codes(given) == ("ok", [])
    assert codes(host(vm(1), plan=plan(1), copies=[copy(1, 8)]), limits=limits) == ("ok", [])


def test_what_one_host_knows_of_a_drill_counts_for_another_one() -> None:
    passed = {"began": iso(24), "outcome": "passed"}
    shared = [{"results": [{"vm": {"vm_id": guid(1)}, "last_drill": passed, "last_passed": passed}]}, {"skipped": True}]
    older = [{"results": [{"vm": {"vm_id": guid(1)}, "last_drill": {"began": iso(900), "outcome": "failed"}, "last_passed": None}]}]
    given = {**host(vm(1), plan=plan(1), copies=[copy(1, 8)]), "drills": older}
    made = report(given, {"host": "gone", "info": {}, "drills": shared}, limits=Limits(drill=timedelta(days=3)))
    assert [(one.status, one.drilled and one.drilled.outcome) for one in made.vms] == [("ok", "passed")]


def test_what_could_not_be_read_is_something_to_do() -> None:
    away = {"drills": [{"failed": True, "msg": "Away."}], "replicas": [{"skipped": True}]}
    made = report({**host(vm(1), plan=plan(1), copies=[copy(1, 8)]), **away}, limits=Limits(drill=timedelta(days=3)))
    told = [finding["text"] for finding in made.as_data()["hosts"][0]["findings"]]
    assert told == ["When virtual machines were drilled is not known: Away."]
    assert made.good is False


def test_test_failovers_are_asked_of_replicas() -> None:
    def judged(last_test: str | None, **changes: Any) -> list[str]:
        relations = [{"extended": False, "state": "replicating", "health": "ok", "last_replicated": iso(0)}]
        entry = {"vm": {"vm_id": guid(1)}, "last_test": last_test, "test_overdue": False, **changes}
        given = {**host(vm(1, replication={"mode": "replica", "relations": relations})), "replicas": [{"replicas": [entry]}]}
        return codes(given, limits=Limits(test=timedelta(days=3)))[1]

    assert (judged(None), judged(iso(73)), judged(iso(71)), judged(None, test_overdue=None)) == (
        ["replica_test_overdue"], ["replica_test_overdue"], [], [])


def test_the_worst_come_first() -> None:
    made = report(host(vm(1, "b"), vm(2, "a"), vm(3, "z"), vm(4, "y", **REPLICA), plan=plan(1, 2, unprotected=[{"vm_id": guid(3)}]),
                       copies=[copy(1, 8), copy(2, 90)]))
    assert [(one.vm.name, one.status) for one in made.vms] == [("z", "unprotected"), ("a", "overdue"), ("b", "ok"), ("y", "replica")]
    assert made.counts == {**dict.fromkeys(STATUSES, 0), "unprotected": 1, "overdue": 1, "ok": 1, "replica": 1}
    assert made.good is False


def test_a_host_without_an_answer_is_not_forgotten() -> None:
    made = report(host(vm(1), plan=plan(1), copies=[copy(1, 8)]), {"host": "gone", "info": {"unreachable": True, "msg": "No."}})
    assert [(one.name, one.error_code, one.msg) for one in made.silent] == [("gone", "no_answer", "No.")]
    assert made.good is False
    assert silent("x").error_code == "no_answer"
    assert report(host(vm(1), plan=plan(1), copies=[copy(1, 8)])).good is True


def test_a_clustered_machine_stands_at_its_owner_and_keeps_the_copies_of_its_former_host() -> None:
    def seen(owner: str) -> dict[str, Any]:
        return vm(1, cluster={"owner_node": owner})

    made = report(host(seen("HV02"), plan=plan(1), copies=[copy(1, 8)]), host(seen("hv02.example.com"), name="hv02", plan=plan(1)))
    assert [(one.host, one.status) for one in made.vms] == [("hv02", "ok")]


def test_two_machines_with_one_guid_have_only_the_copies_of_their_own_host() -> None:
    made = report(host(vm(1), plan=plan(1), copies=[copy(1, 8)]), host(vm(1), name="hv02", plan=plan(1)))
    assert {one.host: one.status for one in made.vms} == {"hv01": "ok", "hv02": "no_copy"}
    beside = report(host(vm(1), plan=plan(1), copies=[copy(1, 8, host="OLDHOST")]), host(vm(1, **REPLICA), name="hv02"))
    assert {one.host: one.status for one in beside.vms} == {"hv01": "ok", "hv02": "replica"}


def test_a_copy_at_a_share_that_two_hosts_see_counts_once() -> None:
    one = copy(1, 8, destination="\\\\nas\\b", folder="\\\\nas\\b\\HV01\\x\\y")
    made = report(host(vm(1), plan=plan(1), copies=[one]), host(name="hv02", copies=[{**one, "folder": "\\\\NAS\\b\\HV01\\x\\y"}]))
    assert made.vms[0].good == 1


def test_what_the_next_prune_deletes() -> None:
    copies = [copy(1, hours) for hours in (8, 32, 56)] + [copy(1, 40, standing="unverified"), copy(1, 99, destination="F:\\Old"),
                                                          copy(1, 98, kind="export")]
    (one,) = report(host(vm(1), plan=plan(1, options={"keep": {"last": 2}}), copies=copies)).vms
    assert [doomed.folder[-3:] for doomed in one.doomed] == ["\\56", "\\32"]
    assert [report(host(vm(1), plan=plan(1), copies=copies)).vms[0].doomed] == [()]


def test_entries_that_no_host_has() -> None:
    made = report(host(vm(1, "SQL01"), plan=plan(1, missing=["web01", "gone", f"{{{guid(2)}}}"])),
                  host(vm(2, "Web01"), name="hv02", plan=plan(2, missing=["sql01", "gone"])))
    assert made.nowhere == ("gone",)


def test_days_follow_the_clock_of_the_controller() -> None:
    wrong = host(vm(1), plan=plan(1), copies=[copy(1, 1000 + 5), copy(1, 1000 + 29)])
    wrong["info"]["host"]["time"] = iso(1000)
    days = {day.date: (day.copies, day.size, day.longest) for day in report(wrong).days}
    assert len(days) == 30
    assert (days["2026-03-10"], days["2026-03-09"], days["2026-03-08"]) == ((1, 1024**3, 1800), (1, 1024**3, 1800), (0, 0, 0))


def test_long_texts_are_cut() -> None:
    (one,) = report(host(vm(1, "x" * 9999), plan=plan(1))).vms
    assert len(one.vm.name) == LONGEST
    assert clipped("short") == "short"
