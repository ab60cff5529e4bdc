# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two tables of replication: states of one relation, and the pair of a failover. Every state, no host."""
from __future__ import annotations

import itertools

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replication import _STATES
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_pair as pair
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_states as states
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_pair import End, Pair, Wish

ALL = tuple(word for number, word in sorted(_STATES.items()) if number)
GOALS = (states.REPLICATING, states.PAUSED, states.ABSENT)
MODES = ("none", "primary", "replica")
POWERS = ("off", "running")
ENDS = tuple(End(mode, state, power) for mode in MODES for state in (*ALL, states.NONE) for power in POWERS)


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("state", (states.NONE, *ALL, "unknown_99"))
def test_from_each_state_the_steps_end_or_nobody_goes_on(state: str, goal: str) -> None:
    try:
        steps = states.steps_from(state, goal)
    except HypervError as refused:
        assert refused.details == {"state": state}
        return
    for step in steps:
        if step != states.WAIT:
            assert states.EXPECTED[step] in states.LEADS_TO[step]
        state = states.EXPECTED[step]
    assert states.next_step(state, goal) is None


@pytest.mark.parametrize(("state", "goal", "steps"), [
    (states.NONE, states.REPLICATING, ("create", "copy", "wait")), ("ready", states.REPLICATING, ("copy", "wait")),
    ("initial_replication", states.REPLICATING, ("wait",)), ("replicating", states.REPLICATING, ()),
    ("suspended", states.REPLICATING, ("resume",)), ("critical", states.REPLICATING, ("resume",)),
    ("waiting_for_resynchronization", states.REPLICATING, ("resynchronize", "wait")),
    ("replicating", states.PAUSED, ("pause",)), ("suspended", states.PAUSED, ()), ("replicating", states.ABSENT, ("remove",)),
    (states.NONE, states.ABSENT, ()),
])
def test_the_steps_from_a_state(state: str, goal: str, steps: tuple[str, ...]) -> None:
    assert states.steps_from(state, goal) == steps


@pytest.mark.parametrize("state", ["synced", "recovered", "failover_in_progress", "failback_in_progress"])
@pytest.mark.parametrize("goal", GOALS)
def test_a_failover_under_way_is_left_alone(state: str, goal: str) -> None:
    with pytest.raises(HypervError) as refused:
        states.next_step(state, goal)
    assert refused.value.error_code == "failover_in_progress"


BEGIN = Pair(End("primary", "replicating", "running"), End("replica", "replicating", "off"))
PATH = ("shut_down_source", "prepare", "fail_over", "reverse", "start")


def test_a_planned_failover_goes_on_from_wherever_it_died() -> None:
    found = BEGIN
    for done, step in enumerate(PATH):
        assert pair.steps_from(found, Wish(pair.PLANNED)) == PATH[done:]
        found = pair.expected(found, step)
    assert pair.steps_from(found, Wish(pair.PLANNED)) == ()
    assert found == Pair(End("replica", "replicating", "off"), End("primary", "replicating", "running"))


def test_it_is_never_failed_over_before_the_last_change_has_arrived() -> None:
    for source, target in itertools.product(ENDS, ENDS):
        try:
            step = pair.next_step(Pair(source, target), Wish(pair.PLANNED))
        except HypervError as refused:
            assert refused.details["pair"]["target"] == target.as_result()
            continue
        if step == pair.FAIL_OVER:
            assert (source.mode, source.state, source.power, target.mode) == ("primary", "synced", "off", "replica")
        if step == pair.TURN:
            assert (source.power, target.state in ("recovered", "committed")) == ("off", True)


@pytest.mark.parametrize("action", [pair.PLANNED, pair.UNPLANNED, pair.COMMIT, pair.CANCEL, pair.REVERSE])
def test_from_every_pair_an_action_ends_or_refuses(action: str) -> None:
    wish = Wish(action, commit=True, primary_down=True)
    ended = 0
    for source, target in itertools.product((None, *ENDS), ENDS):
        found, steps = Pair(source, target), 0
        try:
            while (step := pair.next_step(found, wish)) is not None:
                found, steps = pair.expected(found, step), steps + 1
                assert steps < 8
        except HypervError as refused:
            assert refused.error_code
            continue
        ended += 1
    assert ended


def test_a_machine_never_runs_twice() -> None:
    """Nothing is started while the other end runs, and nothing fails over without a word about the primary."""
    for action, (source, target) in itertools.product((pair.PLANNED, pair.UNPLANNED, pair.REVERSE), itertools.product(ENDS, ENDS)):
        if source.mode != "primary" or target.mode != "replica" or source.power != "running":
            continue
        try:
            step = pair.next_step(Pair(source, target), Wish(action, primary_down=True))
        except HypervError:
            continue
        assert step in (None, pair.SHUT_DOWN, pair.WAIT)


def test_what_has_failed_over_is_not_started_without_a_word_about_the_primary() -> None:
    """A run without the confirmation finds what another one, or a planned failover that died, has begun."""
    for state in ("recovered", "committed"):
        target = End("replica", state, "off")
        assert pair.steps_from(Pair(None, target), Wish(pair.UNPLANNED, primary_down=True)) == ("start",)
        assert pair.steps_from(Pair(None, target), Wish(pair.UNPLANNED, start=False)) == ()
        for source, wish, code in ((None, Wish(pair.UNPLANNED), "confirmation_needed"),
                                   (End("none", "none", "running"), Wish(pair.UNPLANNED, primary_down=True), "primary_is_running")):
            with pytest.raises(HypervError) as refused:
                pair.next_step(Pair(source, target), wish)
            assert refused.value.error_code == code


@pytest.mark.parametrize(("target", "wish", "code"), [
    (End("replica", "replicating", "off"), Wish(pair.UNPLANNED), "confirmation_needed"),
    (End("primary", "replicating", "off"), Wish(pair.UNPLANNED, primary_down=True), "not_a_replica"),
    (End("replica", "initial_replication", "off"), Wish(pair.UNPLANNED, primary_down=True), "pair_not_ready"),
    (End("replica", "replicating", "off"), Wish(pair.COMMIT), "nothing_to_commit"),
    (End("replica", "committed", "running"), Wish(pair.CANCEL), "failover_committed"),
    (End("replica", "replicating", "off"), Wish(pair.PLANNED), "peer_needed"),
    (End("replica", "recovered", "off"), Wish(pair.REVERSE), "peer_needed"),
    (End("replica", "synced", "off"), Wish(pair.CANCEL), "peer_needed"),
])
def test_what_is_refused_without_a_peer(target: End, wish: Wish, code: str) -> None:
    with pytest.raises(HypervError) as refused:
        pair.next_step(Pair(None, target), wish)
    assert refused.value.error_code == code


@pytest.mark.parametrize(("found", "steps"), [
    (Pair(End("primary", "synced", "off"), End("replica", "replicating", "off")), ("cancel_prepare",)),
    (Pair(End("primary", "synced", "off"), End("replica", "recovered", "running")), ("turn_off", "revert", "cancel_prepare")),
    (Pair(None, End("replica", "recovered", "off")), ("revert",)), (BEGIN, ()),
])
def test_how_a_failover_is_cancelled(found: Pair, steps: tuple[str, ...]) -> None:
    assert pair.steps_from(found, Wish(pair.CANCEL)) == steps


def test_an_unplanned_failover_is_committed_only_when_asked_to() -> None:
    lost = Pair(None, End("replica", "critical", "off"))
    assert pair.steps_from(lost, Wish(pair.UNPLANNED, primary_down=True)) == ("fail_over", "start")
    assert pair.steps_from(lost, Wish(pair.UNPLANNED, primary_down=True, commit=True)) == ("fail_over", "start", "commit")
    back = Pair(End("primary", "replicating", "off"), End("replica", "committed", "running"))
    assert pair.steps_from(back, Wish(pair.REVERSE)) == ("reverse",)
    for source, code in ((End("primary", "replicating", "running"), "primary_is_running"), (End("none", "none", "off"), "pair_not_ready"),
                         (End("none", "none", "absent"), "pair_not_ready")):
        with pytest.raises(HypervError) as refused:
            pair.next_step(Pair(source, back.target), Wish(pair.REVERSE))
        assert refused.value.error_code == code
