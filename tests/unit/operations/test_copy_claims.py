# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims: of two runs that are going to copy one machine to one place exactly one goes on, whatever each of them sees first."""
from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import copy_claims
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import Runs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state_contents import Contents

NOW = datetime(2026, 3, 1, 22, tzinfo=UTC)
PLACE, OTHER = "E:\\Backup\\HV01\\sql01_0A1B2C3D", "E:\\Backup\\HV01\\web01_0A1B2C3E"


def claim(run_id: str, *folders: str, token: str = state.CLAIM, seconds: float = 0) -> Intent:
    return Intent(run_id, token, NOW + timedelta(seconds=seconds), state.NO_VOLUME, (), folders or (PLACE,))


def claimed(intents: tuple[Intent, ...], mine: Intent | None, *, written: dict[str, float] | None = None,
            alive: tuple[str, ...] = ("one", "two")) -> dict[str, str]:
    times = {f"{run_id}_{state.CLAIM}": NOW + timedelta(seconds=at) for run_id, at in (written or {}).items()}
    return copy_claims.of_others(Contents((), intents, written=times), Runs(alive), "two" if mine is None else mine.run_id, mine)


@pytest.mark.parametrize("written", [{"one": 0.0, "two": 0.1}, {"one": 0.1, "two": 0.0}, {"one": 0.0, "two": 0.0}, {}])
def test_of_two_claims_exactly_one_yields(written: dict[str, float]) -> None:
    one, two = claim("one"), claim("two")
    yields = [bool(claimed((one, two), mine, written=written)) for mine in (one, two)]
    assert sorted(yields) == [False, True]
    if written.get("one") != written.get("two"):
        assert yields == [written["one"] > written["two"], written["two"] > written["one"]]


def test_who_has_no_claim_yields_to_all_for_what_they_name() -> None:
    assert claimed((claim("one", PLACE, OTHER), claim("two")), None) == {PLACE.lower(): "one", OTHER.lower(): "one"}


@pytest.mark.parametrize(("intent", "alive"), [
    (claim("one"), ("two",)), (claim("one", token="0a1b2c3d"), ("one", "two")), (claim("TWO", seconds=-9), ("two",))])
def test_dead_runs_other_intents_and_ones_own_claim_nothing(intent: Intent, alive: tuple[str, ...]) -> None:
    assert claimed((intent,), claim("two"), alive=alive) == {}
