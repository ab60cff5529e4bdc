# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a shadow copy is: each rule by example, and what must never happen by property."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.ownership import (
    FOREIGN,
    OURS,
    PROOF_WINDOW,
    SUSPECT,
    SUSPECT_WINDOW,
    Ownership,
    exposed_by,
    judge,
)
from hypothesis import given
from hypothesis import strategies as st

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
D, E = "\\\\?\\Volume{d}\\", "\\\\?\\Volume{e}\\"


@dataclass(frozen=True)
class Copy:
    shadow_id: str
    volume: str = D
    created: datetime | None = NOON + timedelta(seconds=5)
    provider: str = "system"
    client_accessible: bool | None = True
    no_writers: bool | None = True
    persistent: bool | None = True
    exposed: str | None = None


@dataclass(frozen=True)
class Intent:
    name: str
    host_time: datetime = NOON
    volume: str = D
    shadows_before: tuple[str, ...] = ()
    shadow_id: str | None = None
    run_id: str = "run"
    writers: bool = False


JOB = "C:\\ProgramData\\agentless.hyperv\\jobs\\0A1B2C3D-0000-4000-8000-00000000000F_run"


def with_writers(shadow_id: str, **values: Any) -> Copy:
    """As diskshadow makes it in its persistent context."""
    return Copy(shadow_id, **{"client_accessible": False, "no_writers": False, **values})


def said(found: Ownership) -> dict[str, tuple[str, str]]:
    return {verdict.shadow_id: (verdict.owner, verdict.reason) for verdict in found.verdicts}


def test_a_link_is_proof_whatever_else() -> None:
    found = judge([Copy("{A}", created=None, provider="other"), Copy("{B}")], ["{a}"], [])
    assert said(found) == {"{A}": (OURS, "linked"), "{B}": (FOREIGN, "no_trace")}
    assert (found.verdicts[0].linked, found.verdicts[0].run_id, found.stale_links, found.finished) == (True, None, (), ())


def test_an_intent_that_is_named_by_a_copy_is_proof_and_gives_the_run() -> None:
    found = judge([Copy("{A}", created=NOON + timedelta(days=3))], [], [Intent("i", shadow_id="{a}")])
    (verdict,) = found.verdicts
    assert (verdict.owner, verdict.reason, verdict.intents, verdict.run_id, verdict.linked) == (OURS, "named", ("i",), "run", False)


def test_an_intent_that_is_named_by_a_copy_never_speaks_for_another_one() -> None:
    """Nor once that copy is gone: a run that died between the deletion and the end of its intent."""
    found = judge([Copy("{B}")], [], [Intent("i", shadow_id="{A}")])
    assert said(found) == {"{B}": (FOREIGN, "no_trace")}
    assert found.finished == ("i",)


def test_an_intent_without_a_link_claims_the_only_one_that_fits() -> None:
    copies = [Copy("{OLD}"), Copy("{A}"), Copy("{E}", volume=E), Copy("{W}", no_writers=False), Copy("{C}", client_accessible=False)]
    found = judge(copies, [], [Intent("i", shadows_before=("{old}",))])
    assert said(found) == {
        "{OLD}": (FOREIGN, "no_trace"),
        "{A}": (OURS, "announced"),
        "{E}": (FOREIGN, "no_trace"),
        "{W}": (FOREIGN, "no_trace"),
        "{C}": (FOREIGN, "no_trace"),
    }


@pytest.mark.parametrize(
    ("copy", "owner"),
    [
        (Copy("{A}", created=NOON + PROOF_WINDOW), OURS),
        (Copy("{A}", created=NOON), OURS),
        (Copy("{A}", volume=D.upper().rstrip("\\")), OURS),
        (Copy("{A}", created=NOON + PROOF_WINDOW + timedelta(seconds=1)), SUSPECT),
        (Copy("{A}", created=NOON + SUSPECT_WINDOW), SUSPECT),
        (Copy("{A}", created=NOON + SUSPECT_WINDOW + timedelta(seconds=1)), FOREIGN),
        (Copy("{A}", created=NOON - timedelta(seconds=1)), FOREIGN),
        (Copy("{A}", created=None), SUSPECT),
        (Copy("{A}", provider="csv"), SUSPECT),
        (Copy("{A}", provider="{11111111-2222-3333-4444-555555555555}"), SUSPECT),
        (Copy("{A}", no_writers=None), SUSPECT),
        (Copy("{A}", client_accessible=None), SUSPECT),
    ],
)
def test_what_is_not_proven_and_could_be_is_suspect(copy: Copy, owner: str) -> None:
    assert said(judge([copy], [], [Intent("i")]))["{A}"][0] == owner


def test_two_that_fit_are_both_suspect_and_the_intent_stays() -> None:
    found = judge([Copy("{A}"), Copy("{B}")], [], [Intent("i")])
    assert said(found) == {"{A}": (SUSPECT, "several_candidates"), "{B}": (SUSPECT, "several_candidates")}
    assert (found.finished, [verdict.run_id for verdict in found.verdicts]) == ((), [None, None])


def test_one_that_fits_beside_one_that_might_is_not_proven() -> None:
    """A hardware provider may have taken over, and the system's copy be that of somebody else."""
    found = judge([Copy("{A}"), Copy("{B}", provider="hardware")], [], [Intent("i")])
    assert {owner for owner, _reason in said(found).values()} == {SUSPECT}


def test_a_linked_copy_is_no_candidate_and_takes_its_intent_with_it() -> None:
    """The host stopped between the link and the name of the intent."""
    found = judge([Copy("{A}"), Copy("{B}")], ["{A}"], [Intent("i")])
    assert said(found) == {"{A}": (OURS, "linked"), "{B}": (FOREIGN, "no_trace")}
    assert found.verdicts[0].intents == ("i",)


def test_an_interrupted_run_and_its_interrupted_retry() -> None:
    retry = Intent("retry", host_time=NOON + timedelta(seconds=30), shadows_before=("{A}",), shadow_id="{B}")
    found = judge([Copy("{A}"), Copy("{B}", created=NOON + timedelta(seconds=35))], ["{B}"], [Intent("first"), retry])
    assert said(found) == {"{A}": (OURS, "announced"), "{B}": (OURS, "linked")}
    assert [verdict.intents for verdict in found.verdicts] == [("first",), ("retry",)]


def test_links_and_intents_of_which_nothing_is_left() -> None:
    found = judge([Copy("{A}", volume=E)], ["{GONE}"], [Intent("i"), Intent("j", shadow_id="{gone}")])
    assert (found.stale_links, found.finished) == (("{gone}",), ("i", "j"))


# -- sets with writers ---------------------------------------------------------------------------------------------


def test_an_intent_with_writers_claims_only_what_writers_took_part_in() -> None:
    copies = [Copy("{C}"), with_writers("{A}"), with_writers("{V}", persistent=False), with_writers("{E}", volume=E)]
    assert said(judge(copies, [], [Intent("i", writers=True)])) == {
        "{C}": (FOREIGN, "no_trace"), "{A}": (OURS, "announced"), "{V}": (FOREIGN, "no_trace"), "{E}": (FOREIGN, "no_trace")}
    assert said(judge(copies, [], [Intent("i")]))["{A}"] == (FOREIGN, "no_trace")
    assert said(judge(copies, [], [Intent("i")]))["{C}"] == (OURS, "announced")


@pytest.mark.parametrize("copy", [with_writers("{A}", no_writers=None), with_writers("{A}", client_accessible=None),
                                  with_writers("{A}", persistent=None), with_writers("{A}", provider="csv"),
                                  with_writers("{A}", created=None)])
def test_what_is_not_known_of_a_set_is_not_proven(copy: Copy) -> None:
    assert said(judge([copy], [], [Intent("i", writers=True)])) == {"{A}": (SUSPECT, "not_proven")}


def test_a_set_of_two_volumes_is_claimed_by_an_intent_each() -> None:
    intents = [Intent("i", writers=True), Intent("j", volume=E, writers=True)]
    found = judge([with_writers("{A}"), with_writers("{B}", volume=E)], [], intents)
    assert said(found) == {"{A}": (OURS, "announced"), "{B}": (OURS, "announced")}
    assert [verdict.intents for verdict in found.verdicts] == [("i",), ("j",)]


def test_what_is_exposed_in_a_job_of_ours_is_ours_and_gives_the_run() -> None:
    found = judge([with_writers("{A}", exposed=f"{JOB}\\v00", created=NOON + timedelta(days=1)), with_writers("{B}")], [], [])
    assert said(found) == {"{A}": (OURS, "exposed"), "{B}": (FOREIGN, "no_trace")}
    assert (found.verdicts[0].run_id, found.verdicts[0].linked, found.verdicts[0].intents) == ("run", False, ())


def test_an_exposed_copy_takes_the_intent_of_its_run_with_it() -> None:
    """So the intent speaks for no other one, however well that would fit."""
    copies = [with_writers("{A}", exposed=f"{JOB.lower()}\\v01\\"), with_writers("{B}")]
    found = judge(copies, [], [Intent("i", writers=True)])
    assert said(found) == {"{A}": (OURS, "exposed"), "{B}": (FOREIGN, "no_trace")}
    assert found.verdicts[0].intents == ("i",)
    other = judge(copies, [], [Intent("i", writers=True, run_id="other")])
    assert said(other) == {"{A}": (OURS, "exposed"), "{B}": (OURS, "announced")}


@pytest.mark.parametrize(("place", "run_id"), [
    (f"{JOB}\\v00", "run"), (f"{JOB}\\v63\\", "run"), (f"{JOB}_copy\\v00", "run"), (f"D{JOB[1:]}-2\\v00", "run-2"), (None, None),
    ("", None), ("P:", None), (JOB, None), (f"{JOB}\\v0", None), (f"{JOB}\\v000", None), (f"{JOB}\\v00\\x", None),
    (f"{JOB}\\..\\v00", None), (f"X:\\a\\{JOB[3:]}\\v00", None), (f"\\\\nas\\{JOB[3:]}\\v00", None),
    ("C:\\ProgramData\\agentless.hyperv\\jobs\\x_run\\v00", None), (f"{JOB}\\v00\n", None),
])
def test_places_of_ours(place: str | None, run_id: str | None) -> None:
    assert exposed_by(place) == run_id


# -- properties ----------------------------------------------------------------------------------------------------

IDS = [f"{{{letter}}}" for letter in "ABCDEF"]
MOMENTS = st.one_of(st.none(), st.integers(-1200, 1200).map(lambda seconds: NOON + timedelta(seconds=seconds)))
FLAGS = st.sampled_from([True, False, None])
PLACES = st.sampled_from([None, None, None, "P:", f"{JOB}\\v00", "D:\\mount"])
COPIES = st.lists(
    st.builds(Copy, st.sampled_from(IDS), st.sampled_from([D, E]), MOMENTS, st.sampled_from(["system", "csv", "x"]), FLAGS, FLAGS, FLAGS,
              PLACES),
    max_size=6, unique_by=lambda copy: copy.shadow_id,
)  # fmt: skip
NEAR = st.integers(0, 130).map(lambda seconds: NOON + timedelta(seconds=seconds))
LIKELY = st.lists(st.builds(Copy, st.sampled_from(IDS), st.just(D), NEAR), max_size=4, unique_by=lambda copy: copy.shadow_id)
LIKELY_SETS = st.lists(
    st.builds(lambda shadow_id, volume, created: with_writers(shadow_id, volume=volume, created=created), st.sampled_from(IDS),
              st.sampled_from([D, E]), NEAR),
    max_size=4, unique_by=lambda copy: copy.shadow_id,
)  # fmt: skip
ANY = st.one_of(COPIES, LIKELY, LIKELY_SETS)
INTENTS = st.lists(
    st.builds(
        Intent, st.sampled_from("uvwxyz"), st.integers(-300, 300).map(lambda seconds: NOON + timedelta(seconds=seconds)),
        st.sampled_from([D, E]), st.lists(st.sampled_from(IDS), max_size=3).map(tuple), st.one_of(st.none(), st.sampled_from(IDS)),
        st.sampled_from(["run", "other"]), st.booleans(),
    ),
    max_size=5, unique_by=lambda intent: intent.name,
)  # fmt: skip
LINKS = st.lists(st.sampled_from([*IDS, "{GONE}"]), max_size=3, unique=True)


@given(ANY, LINKS, INTENTS)
def test_each_copy_gets_one_verdict_and_nothing_is_lost(copies: list[Copy], links: list[str], intents: list[Intent]) -> None:
    found = judge(copies, links, intents)
    assert [verdict.shadow_id for verdict in found.verdicts] == [copy.shadow_id for copy in copies]
    assert {verdict.owner for verdict in found.verdicts} <= {OURS, SUSPECT, FOREIGN}
    present = {copy.shadow_id.lower() for copy in copies}
    assert set(found.stale_links) == {link.lower() for link in links} - present
    speaking = {name for verdict in found.verdicts for name in verdict.intents}
    assert speaking.isdisjoint(found.finished)
    assert speaking | set(found.finished) == {intent.name for intent in intents}


@given(ANY, LINKS, INTENTS, st.randoms(use_true_random=False))
def test_the_order_of_what_is_given_does_not_matter(copies: list[Copy], links: list[str], intents: list[Intent], random: object) -> None:
    mixed: list[Sequence[object]] = [list(copies), list(links), list(intents)]
    for part in mixed:
        random.shuffle(part)  # type: ignore[attr-defined]
    first, second = judge(copies, links, intents), judge(*mixed)  # type: ignore[arg-type]
    assert {verdict.shadow_id: verdict for verdict in first.verdicts} == {verdict.shadow_id: verdict for verdict in second.verdicts}
    assert (first.stale_links, first.finished) == (second.stale_links, second.finished)


@given(ANY, LINKS, INTENTS)
def test_what_nobody_announced_is_never_ours(copies: list[Copy], links: list[str], intents: list[Intent]) -> None:
    """Of another provider, context, volume or time, or there before: not ours without a link, a name or a place of ours."""
    proof = {link.lower() for link in links} | {intent.shadow_id.lower() for intent in intents if intent.shadow_id}
    for copy, verdict in zip(copies, judge(copies, links, intents).verdicts, strict=True):
        if verdict.owner != OURS or copy.shadow_id.lower() in proof or exposed_by(copy.exposed):
            continue
        kind = (copy.client_accessible, copy.no_writers)
        assert copy.provider == "system"
        assert kind == (True, True) or (kind == (False, False) and copy.persistent)
        assert copy.created is not None
        assert any(
            intent.shadow_id is None
            and intent.writers is (kind == (False, False))
            and intent.volume == copy.volume
            and copy.shadow_id not in intent.shadows_before
            and timedelta(0) <= copy.created - intent.host_time <= PROOF_WINDOW
            for intent in intents
        )


@given(LIKELY.filter(lambda copies: len(copies) > 1), st.one_of(st.none(), st.sampled_from(IDS)))
def test_two_candidates_of_one_intent_are_never_ours(copies: list[Copy], before: str | None) -> None:
    intent = Intent("i", shadows_before=() if before is None else (before,))
    candidates = [
        copy
        for copy in copies
        if copy.shadow_id != before and copy.created is not None and copy.created - intent.host_time <= PROOF_WINDOW
    ]
    owners = said(judge(copies, [], [intent]))
    expected = OURS if len(candidates) == 1 else SUSPECT
    assert {owners[copy.shadow_id][0] for copy in candidates} <= {expected}


@given(ANY, LINKS, INTENTS)
def test_nothing_foreign_becomes_ours_by_the_removal_of_another(copies: list[Copy], links: list[str], intents: list[Intent]) -> None:
    """Only one that was suspect may: when all others that an intent can have meant turn out to be of other intents."""
    found = judge(copies, links, intents)
    ours = {verdict.shadow_id for verdict in found.owned_by(OURS)}
    gone = {name for verdict in found.owned_by(OURS) for name in verdict.intents} | set(found.finished)
    left = [copy for copy in copies if copy.shadow_id not in ours]
    after = judge(left, [link for link in links if link not in ours], [intent for intent in intents if intent.name not in gone])
    before = said(found)
    assert all(before[verdict.shadow_id][0] == SUSPECT for verdict in after.owned_by(OURS))


@given(COPIES, LINKS, INTENTS)
def test_a_copy_of_other_kind_changes_no_verdict(copies: list[Copy], links: list[str], intents: list[Intent]) -> None:
    other = Copy("{OTHER}", client_accessible=False)
    first, second = judge(copies, links, intents), judge([*copies, other], links, intents)
    assert second.verdicts[:-1] == first.verdicts
    assert second.verdicts[-1].owner == FOREIGN
    assert judge([replace(other, shadow_id="{X}")], [], intents).owned_by(OURS) == ()
