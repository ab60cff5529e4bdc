# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failover as a table over the pair of states: from what both hosts say now, the one next step of an action (operations 7.4, 7.6).

Pure. The states outlive every run, so a run that died half way is nothing but a pair to go on from; and what is not in the table is
not done. The *target* is the host that takes over, the *source* the one that had the machine.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError

PLANNED, UNPLANNED, COMMIT, CANCEL, REVERSE = "planned", "unplanned", "commit", "cancel", "reverse"

SHUT_DOWN, PREPARE, FAIL_OVER, TURN, START = "shut_down_source", "prepare", "fail_over", "reverse", "start"
DO_COMMIT, TURN_OFF, REVERT, UNPREPARE, WAIT = "commit", "turn_off", "revert", "cancel_prepare", "wait"

REPLICATING, SYNCED, RECOVERED, COMMITTED = "replicating", "synced", "recovered", "committed"
_IN_PROGRESS = "failover_in_progress"
_BROKEN_OFF = frozenset({REPLICATING, SYNCED, "suspended", "critical", "waiting_for_resynchronization", "resynchronization_suspended"})
"""States of a replica whose primary is lost, from which it can still take over."""


@dataclass(frozen=True)
class End:
    """One end: the machine's replication mode, the state of its relation, and its power state (``absent`` without a machine)."""

    mode: str
    state: str
    power: str

    @property
    def off(self) -> bool:
        """Nothing runs, and no memory is kept."""
        return self.power == "off"

    def as_result(self) -> dict[str, str]:
        """The form in a result."""
        return {"mode": self.mode, "state": self.state, "power": self.power}


@dataclass(frozen=True)
class Pair:
    """Both ends; ``source`` None when that host was not asked."""

    source: End | None
    target: End


@dataclass(frozen=True)
class Wish:
    """What a task allows. ``start``: the machine runs at the end; ``commit``: an unplanned failover is made final."""

    action: str
    start: bool = True
    commit: bool = False
    primary_down: bool = False


def _refuse(pair: Pair, sentence: str, hint: str, *, error_code: str) -> HypervError:
    return HypervError(sentence, error_code=error_code, hint=hint, details={"pair": {
        "source": None if pair.source is None else pair.source.as_result(), "target": pair.target.as_result()}})


def _no_replica(pair: Pair) -> HypervError:
    target = pair.target
    return _refuse(pair, f"The machine on the host of the task is no replica (mode {target.mode}, state {target.state}).",
                   "Run the task on the host that is to take over; peer is the one that has the primary.", error_code="not_a_replica")


def _other_pair(pair: Pair, hint: str) -> HypervError:
    source = "not asked" if pair.source is None else f"{pair.source.mode} {pair.source.state}"
    return _refuse(pair, f"From this pair of states nobody should go on by himself: source {source}, target {pair.target.mode} "
                   f"{pair.target.state}.", hint, error_code="pair_not_ready")


def _need_source(pair: Pair) -> End:
    if pair.source is None:
        raise _refuse(pair, "Both hosts take part in this, and the task names no peer.", "Set peer to the host that has the primary.",
                      error_code="peer_needed")
    return pair.source


def _to_be_started(target: End, wish: Wish) -> bool:
    """Also when it is starting: it runs when the host says so."""
    return wish.start and target.power not in ("running", "absent")


def _turned(pair: Pair, source: End, wish: Wish) -> str | None:
    """The roles have changed already; only the start may be left."""
    if source.mode == "primary":
        raise _refuse(pair, "Both hosts have the machine as their primary.",
                      "Decide which one is right. On the other one remove the replication with hyperv_replica.", error_code="both_primary")
    if source.mode != "replica":
        raise _no_replica(pair)
    return START if _to_be_started(pair.target, wish) else None


def _planned(pair: Pair, wish: Wish) -> str | None:
    source, target = _need_source(pair), pair.target
    if target.mode == "primary":
        return _turned(pair, source, wish)
    if target.mode != "replica":
        raise _no_replica(pair)
    if source.mode != "primary":
        raise _other_pair(pair, "The peer does not have the primary of this replica.")
    if (source.state, target.state) == (REPLICATING, REPLICATING):
        return PREPARE if source.off else SHUT_DOWN
    if source.state == SYNCED and source.off:
        if target.state in (REPLICATING, SYNCED):
            return FAIL_OVER
        if target.state in (RECOVERED, COMMITTED):
            return TURN
    if source.state == SYNCED and target.state == _IN_PROGRESS:
        return WAIT
    if target.state in (RECOVERED, COMMITTED):
        raise _refuse(pair, f"The replica has failed over already (state {target.state}), and not after a prepared primary.",
                      "That was an unplanned failover: commit it, or cancel it; then reverse.", error_code="failover_in_progress")
    raise _other_pair(pair, "A planned failover begins when both sides replicate. hyperv_replica_info says why they do not.")


def _unplanned(pair: Pair, wish: Wish) -> str | None:
    target = pair.target
    if target.mode != "replica":
        raise _no_replica(pair)
    if target.state == _IN_PROGRESS:
        return WAIT
    took_over = target.state in (RECOVERED, COMMITTED)
    if took_over and not _to_be_started(target, wish):
        return DO_COMMIT if wish.commit and target.state == RECOVERED else None
    _refuse_to_run_twice(pair, wish)
    if took_over:
        return START
    if target.state in _BROKEN_OFF:
        return FAIL_OVER
    raise _other_pair(pair, "The replica has no complete copy, or is busy.")


def _refuse_to_run_twice(pair: Pair, wish: Wish) -> None:
    """Before anything is done that lets the machine run here."""
    source = pair.source
    if not wish.primary_down:
        raise _refuse(pair, "An unplanned failover loses what has not arrived, and when the primary is not down two machines of one "
                      "identity run.", "Make sure that it cannot start again, then set confirm_primary_down: true.",
                      error_code="confirmation_needed")
    if source is not None and source.power not in ("off", "absent"):
        raise _refuse(pair, f"The primary is there, and its machine is {source.power}.",
                      "Use action: planned, which loses nothing; or turn the machine off there first.", error_code="primary_is_running")


def _commit(pair: Pair, wish: Wish) -> str | None:
    if pair.target.mode == "replica" and pair.target.state == COMMITTED:
        return None
    if pair.target.mode == "replica" and pair.target.state == RECOVERED:
        return DO_COMMIT
    raise _refuse(pair, f"There is no failover to commit (mode {pair.target.mode}, state {pair.target.state}).",
                  "Commit belongs to an unplanned failover, on the host that took over.", error_code="nothing_to_commit")


def _cancel(pair: Pair, wish: Wish) -> str | None:
    source, target = pair.source, pair.target
    if target.mode != "replica":
        raise _no_replica(pair)
    if target.state == COMMITTED:
        raise _refuse(pair, "The failover is final: the other recovery points are gone.", "Reverse it instead, and fail over back.",
                      error_code="failover_committed")
    if target.state == _IN_PROGRESS:
        return WAIT
    if target.state == RECOVERED:
        return REVERT if target.off else TURN_OFF
    if target.state == SYNCED:
        source = _need_source(pair)
    if source is not None and source.mode == "primary" and source.state == SYNCED:
        return UNPREPARE
    return None


def _reverse(pair: Pair, wish: Wish) -> str | None:
    source, target = _need_source(pair), pair.target
    if target.mode == "primary":
        return _turned(pair, source, wish)
    if target.mode != "replica":
        raise _no_replica(pair)
    if target.state not in (RECOVERED, COMMITTED):
        raise _refuse(pair, f"The replica has not failed over (state {target.state}).", "Use action: planned to turn the roles.",
                      error_code="nothing_to_reverse")
    if source.mode == "none":
        raise _other_pair(pair, "The peer has no replication of it that could be reversed. Remove the one here with hyperv_replica and "
                          "state: absent, and begin anew from this host.")
    if not source.off:
        raise _refuse(pair, f"The machine on the old primary is {source.power}.",
                      "Turn it off there: what it wrote since the failover will be lost.", error_code="primary_is_running")
    return TURN


_NEXT: Mapping[str, Callable[[Pair, Wish], str | None]] = {
    PLANNED: _planned, UNPLANNED: _unplanned, COMMIT: _commit, CANCEL: _cancel, REVERSE: _reverse,
}


def next_step(pair: Pair, wish: Wish) -> str | None:
    """The step to take; None when the action is done. Raises HypervError with the pair, when it must be looked at or may not be done."""
    return _NEXT[wish.action](pair, wish)


def expected(pair: Pair, step: str) -> Pair:
    """The pair after a step, when all goes well."""
    source, target = pair.source or End("primary", REPLICATING, "off"), pair.target
    after: Mapping[str, tuple[End, End]] = {
        SHUT_DOWN: (replace(source, power="off"), target), PREPARE: (replace(source, state=SYNCED), target),
        FAIL_OVER: (source, replace(target, state=RECOVERED)), WAIT: (source, replace(target, state=RECOVERED)),
        TURN: (replace(source, mode="replica", state=REPLICATING), replace(target, mode="primary", state=REPLICATING)),
        START: (source, replace(target, power="running")), DO_COMMIT: (source, replace(target, state=COMMITTED)),
        TURN_OFF: (source, replace(target, power="off")), REVERT: (source, replace(target, state=REPLICATING)),
        UNPREPARE: (replace(source, state=REPLICATING), target),
    }
    new_source, new_target = after[step]
    return Pair(None if pair.source is None else new_source, new_target)


def steps_from(pair: Pair, wish: Wish) -> tuple[str, ...]:
    """The steps that lead to the end when all goes well. Raises as :func:`next_step`."""
    found: list[str] = []
    while (step := next_step(pair, wish)) is not None:
        found.append(step)
        pair = expected(pair, step)
    return tuple(found)
