# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention: what restic does with the same times, and what must hold for any copies and rules."""
from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.retention import (
    FUTURE_TOLERANCE,
    LARGEST,
    RULES,
    Keep,
    RetainedCopy,
    RetentionError,
    RetentionPlan,
    decide,
    kept_by_rules,
    parse_keep,
    zone,
)
from hypothesis import given
from hypothesis import strategies as st

TABLE: dict[str, Any] = json.loads((Path(__file__).parent / "restic_table.json").read_text(encoding="utf-8"))
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)

# -- the same as restic ------------------------------------------------------------------------------------------------


def rows() -> list[Any]:
    return [pytest.param(scenario, result, id=f"{name}-{'-'.join(f'{rule}{count}' for rule, count in result['keep'].items())}")
            for name, scenario in TABLE["scenarios"].items() for result in scenario["results"]]


@pytest.mark.parametrize(("scenario", "result"), rows())
def test_the_table_that_restic_computed(scenario: dict[str, Any], result: dict[str, Any]) -> None:
    copies = [RetainedCopy(str(number), datetime.fromisoformat(taken)) for number, taken in enumerate(scenario["taken"])]
    plan = decide(copies, parse_keep(result["keep"]), now=datetime(2100, 1, 1, tzinfo=UTC), newest_run_failed=False,
                  timezone=zone(scenario["timezone"]))
    assert {one.copy.copy_id: ",".join(one.rules) for one in plan.decisions if one.keep} == result["kept"]


def test_the_table_is_one_of_restic_and_covers_every_rule() -> None:
    assert TABLE["made_with"].startswith("restic 0.")
    policies = [result["keep"] for scenario in TABLE["scenarios"].values() for result in scenario["results"]]
    assert {rule for policy in policies for rule in policy} == set(RULES)
    assert {scenario["timezone"] for scenario in TABLE["scenarios"].values()} >= {"UTC", "Europe/Berlin", "America/New_York"}


# -- deliberate differences --------------------------------------------------------------------------------------------


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def plan_of(copies: list[RetainedCopy], failed: bool = False, zone_name: str = "UTC", **rules: int) -> RetentionPlan:
    return decide(copies, Keep(**rules), now=NOW, newest_run_failed=failed, timezone=zone(zone_name))


def told(plan: RetentionPlan) -> dict[str, tuple[bool, str]]:
    return {one.copy.copy_id: (one.keep, one.reason) for one in plan.decisions}


def test_periods_are_those_of_one_zone_whatever_offset_a_time_was_written_with() -> None:
    # 23:30 and 00:30 in Berlin: two days there, one day in UTC
    copies = [RetainedCopy("early", at("2026-01-10T23:30:00+01:00")), RetainedCopy("late", at("2026-01-11T00:30:00+01:00"))]
    assert [copy.copy_id for copy in plan_of(copies, daily=2).removed] == ["early"]
    assert plan_of(copies, daily=2, zone_name="Europe/Berlin").removed == ()
    moved = [replace(copy, taken=copy.taken.astimezone(timezone(timedelta(hours=-9)))) for copy in copies]
    assert told(plan_of(moved, daily=2)) == told(plan_of(copies, daily=2))


def test_the_hour_that_comes_twice_is_one_period() -> None:
    copies = [RetainedCopy("summer", at("2025-10-26T00:30:00+00:00")), RetainedCopy("winter", at("2025-10-26T01:30:00+00:00"))]
    assert [copy.copy_id for copy in plan_of(copies, hourly=5, zone_name="Europe/Berlin").removed] == ["summer"]
    assert plan_of(copies, hourly=5).removed == ()


def test_weeks_are_those_of_iso() -> None:
    copies = [RetainedCopy(day, at(f"{day}T12:00:00+00:00")) for day in ("2020-12-31", "2021-01-03", "2021-01-04")]
    plan = plan_of(copies, weekly=5)
    assert [one.copy.copy_id for one in plan.decisions if one.keep] == ["2021-01-04", "2021-01-03"]


def test_a_rule_keeps_no_more_than_it_says() -> None:
    # restic 0.16 would keep the oldest as well, since weekly has a week left
    copies = [RetainedCopy(day, at(f"2026-05-{day}T12:00:00+00:00")) for day in ("25", "26", "27")]
    assert [copy.copy_id for copy in plan_of(copies, weekly=2).removed] == ["25", "26"]


def test_only_verified_copies_of_ours_count_or_go() -> None:
    copies = [
        RetainedCopy("old", at("2026-05-01T00:00:00+00:00")), RetainedCopy("new", at("2026-05-02T00:00:00+00:00")),
        RetainedCopy("half", at("2026-05-03T00:00:00+00:00"), "incomplete"),
        RetainedCopy("unproved", at("2026-05-04T00:00:00+00:00"), "unverified"),
        RetainedCopy("theirs", at("2026-05-05T00:00:00+00:00"), "foreign"),
    ]
    assert told(plan_of(copies, last=1)) == {
        "theirs": (True, "not_ours"), "unproved": (True, "not_verified"), "half": (True, "not_verified"), "new": (True, "kept_by_rule"),
        "old": (False, "expired")}


def test_a_copy_from_the_future_pushes_nothing_out() -> None:
    copies = [RetainedCopy("forged", NOW + timedelta(days=9999)), RetainedCopy("skewed", NOW + FUTURE_TOLERANCE),
              RetainedCopy("real", NOW - timedelta(days=1))]
    assert told(plan_of(copies, last=1)) == {
        "forged": (True, "from_the_future"), "skewed": (True, "kept_by_rule"), "real": (False, "expired")}


def test_nothing_goes_when_the_newest_run_failed() -> None:
    copies = [RetainedCopy(str(day), NOW - timedelta(days=day)) for day in range(1, 9)]
    plan = plan_of(copies, failed=True, last=2)
    assert plan.removed == ()
    assert [one.reason for one in plan.decisions] == ["kept_by_rule"] * 2 + ["newest_run_failed"] * 6


def test_without_rules_everything_stays() -> None:
    copies = [RetainedCopy(str(day), NOW - timedelta(days=day)) for day in range(1, 4)]
    assert [one.reason for one in plan_of(copies).decisions] == ["no_rules"] * 3
    assert plan_of(copies, last=0).removed == ()


def test_the_plan_is_the_diff() -> None:
    copies = [RetainedCopy("a", at("2026-05-01T01:00:00+01:00")), RetainedCopy("b", at("2026-05-02T00:00:00+00:00"))]
    kept = {"copy": "b", "taken": "2026-05-02T00:00:00Z", "keep": True, "reason": "kept_by_rule", "rules": ["last", "yearly"]}
    gone = {"copy": "a", "taken": "2026-05-01T00:00:00Z", "keep": False, "reason": "expired", "rules": []}
    assert plan_of(copies, last=1, yearly=3).diff() == {"before": [kept, gone], "after": [kept]}


def test_the_oldest_goes_first() -> None:
    copies = [RetainedCopy(str(day), NOW - timedelta(days=day)) for day in (3, 1, 2, 4)]
    assert [copy.copy_id for copy in plan_of(copies, last=1).removed] == ["4", "3", "2"]


# -- what a user writes ------------------------------------------------------------------------------------------------


def test_rules_of_a_task() -> None:
    assert parse_keep({"daily": 7, "weekly": None, "last": 0}) == Keep(daily=7)
    assert parse_keep({}).empty


@pytest.mark.parametrize("given_", [{"dayly": 3}, {"daily": "7"}, {"daily": -1}, {"daily": True}, {"daily": 1.5}, {"daily": LARGEST + 1},
                                    {"within": 3}, {7: 3}])
def test_rules_that_are_none(given_: dict[Any, Any]) -> None:
    with pytest.raises(RetentionError):
        parse_keep(given_)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "/etc/localtime", "a" * 5000, "Europe/Berlin\0"])
def test_zones_that_are_none(name: str) -> None:
    with pytest.raises(RetentionError):
        zone(name)


# -- for any copies and rules ------------------------------------------------------------------------------------------

ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Chatham"]).map(zone)
KEEPS = st.builds(Keep, **{rule: st.integers(0, 6) for rule in RULES})
NONEMPTY = KEEPS.filter(lambda keep: not keep.empty)
MINUTES = st.one_of(st.integers(-10, 60 * 24 * 20), st.integers(0, 60 * 24 * 1200))
STANDINGS = st.sampled_from(["verified"] * 6 + ["unverified", "incomplete", "foreign"])


@st.composite
def copies_of_a_vm(draw: st.DrawFn) -> list[RetainedCopy]:
    ages = draw(st.lists(st.tuples(MINUTES, STANDINGS), max_size=40))
    return [RetainedCopy(f"c{number}", NOW - timedelta(minutes=age), standing)  # type: ignore[arg-type]
            for number, (age, standing) in enumerate(ages)]


def removed(copies: list[RetainedCopy], keep: Keep, where: Any, failed: bool = False) -> set[str]:
    return {copy.copy_id for copy in decide(copies, keep, now=NOW, newest_run_failed=failed, timezone=where).removed}


@given(copies_of_a_vm(), NONEMPTY, st.sampled_from(RULES), st.integers(1, 9), ZONES)
def test_a_stronger_rule_never_removes_more(copies: list[RetainedCopy], keep: Keep, rule: str, more: int, where: Any) -> None:
    stronger = replace(keep, **{rule: getattr(keep, rule) + more})
    assert removed(copies, stronger, where) <= removed(copies, keep, where)


@given(copies_of_a_vm(), KEEPS, ZONES)
def test_applying_it_twice_removes_nothing_more(copies: list[RetainedCopy], keep: Keep, where: Any) -> None:
    gone = removed(copies, keep, where)
    assert removed([copy for copy in copies if copy.copy_id not in gone], keep, where) == set()


@given(copies_of_a_vm(), KEEPS, ZONES)
def test_stopping_in_the_middle_changes_nothing(copies: list[RetainedCopy], keep: Keep, where: Any) -> None:
    plan = decide(copies, keep, now=NOW, newest_run_failed=False, timezone=where)
    for count in range(len(plan.removed)):
        begun = {copy.copy_id for copy in plan.removed[:count]}
        rest = [copy for copy in copies if copy.copy_id not in begun]
        assert removed(rest, keep, where) == {copy.copy_id for copy in plan.removed[count:]}


@given(copies_of_a_vm(), KEEPS, ZONES)
def test_a_verified_copy_always_stays_and_nothing_else_ever_goes(copies: list[RetainedCopy], keep: Keep, where: Any) -> None:
    gone = removed(copies, keep, where)
    counted = {copy.copy_id for copy in copies if copy.standing == "verified" and copy.taken <= NOW + FUTURE_TOLERANCE}
    assert gone <= counted
    assert not counted or counted - gone


@given(copies_of_a_vm(), KEEPS, ZONES, st.integers())
def test_the_order_of_the_copies_does_not_matter(copies: list[RetainedCopy], keep: Keep, where: Any, seed: int) -> None:
    shuffled = list(copies)
    random.Random(seed).shuffle(shuffled)
    one, other = (decide(some, keep, now=NOW, newest_run_failed=False, timezone=where) for some in (copies, shuffled))
    assert one == other
    assert len(one.decisions) == len(copies)


@given(copies_of_a_vm(), KEEPS, ZONES)
def test_a_failed_run_prunes_nothing(copies: list[RetainedCopy], keep: Keep, where: Any) -> None:
    assert removed(copies, keep, where, failed=True) == set()


@given(copies_of_a_vm(), NONEMPTY, ZONES)
def test_each_rule_keeps_as_many_as_it_says_and_only_the_newest_of_a_period(copies: list[RetainedCopy], keep: Keep, where: Any) -> None:
    ordered = sorted(copies, key=lambda copy: (copy.taken, copy.copy_id), reverse=True)
    kept = kept_by_rules(ordered, keep, where)
    for rule in RULES:
        names = [copy.copy_id for copy in ordered if rule in kept.get(copy.copy_id, ())]
        assert len(names) <= getattr(keep, rule)
        if names:
            assert names[0] == ordered[0].copy_id
        every = kept_by_rules(ordered, Keep(**{rule: 10**6}), where)
        periods = [copy.copy_id for copy in ordered if copy.copy_id in every]
        assert names == periods[:getattr(keep, rule)]
