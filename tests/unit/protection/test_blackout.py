# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hours in which no copy is begun, over midnight, over the end of summer time, and beside each other."""
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import blackout
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.blackout import Blackout, BlackoutError
from hypothesis import given
from hypothesis import strategies as st

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = [{"from": "08:00", "to": "18:00", "days": ["mon", "tue", "wed", "thu", "fri"]}]
NIGHT = [{"from": "23:00", "to": "01:30", "days": ["Saturday"]}]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(("windows", "now", "expected"), [
    ([], "2026-03-04T12:00+01:00", Blackout()),
    (OFFICE, "2026-03-04T12:00+01:00", Blackout(until=at("2026-03-04T18:00+01:00"))),
    (OFFICE, "2026-03-04T08:00+01:00", Blackout(until=at("2026-03-04T18:00+01:00"))),
    (OFFICE, "2026-03-04T18:00+01:00", Blackout(begins=at("2026-03-05T08:00+01:00"))),
    (OFFICE, "2026-03-06T20:00+01:00", Blackout(begins=at("2026-03-09T08:00+01:00"))),
    (NIGHT, "2026-03-08T01:00+01:00", Blackout(until=at("2026-03-08T01:30+01:00"))),
    (NIGHT, "2026-03-09T01:00+01:00", Blackout(begins=at("2026-03-14T23:00+01:00"))),
    (NIGHT, "2026-03-29T00:30+01:00", Blackout(until=at("2026-03-29T01:30+01:00"))),  # summer time begins at 02:00
    ([{"from": "01:00", "to": "04:00"}], "2026-10-25T01:30+02:00", Blackout(until=at("2026-10-25T04:00+01:00"))),  # four hours long
    ([{"from": "06:00", "to": "12:00"}, {"from": "12:00", "to": "13:00"}], "2026-03-04T07:00+01:00",
     Blackout(until=at("2026-03-04T13:00+01:00"))),
    ([{"from": 480, "to": 1080}], "2026-03-04T12:00+01:00", Blackout(until=at("2026-03-04T18:00+01:00"))),
])
def test_hours(windows: Any, now: str, expected: Blackout) -> None:
    assert blackout.look(blackout.parse(windows), at(now), BERLIN) == expected


@pytest.mark.parametrize("windows", [
    "08:00", [{"from": "8"}], [{"from": "25:00", "to": "1:00"}], [{"from": "08:00", "to": "18:00", "days": ["funday"]}],
    [{"from": "08:00", "to": "18:00", "day": ["mon"]}], [{"from": True, "to": "18:00"}], [{"from": "08:00", "to": "18:00", "days": "mon"}]])
def test_what_means_nothing_is_refused(windows: Any) -> None:
    with pytest.raises(BlackoutError):
        blackout.parse(windows)


CLOCKS = st.integers(0, 1439)
WINDOWS = st.lists(st.builds(lambda begins, until, days: {"from": begins, "to": until, "days": days}, CLOCKS, CLOCKS,
                             st.lists(st.sampled_from(blackout.DAYS), min_size=1, max_size=7)), max_size=3)


@given(WINDOWS, st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC)))
def test_the_end_of_a_blackout_is_outside_of_it_unless_it_never_ends(windows: Any, now: datetime) -> None:
    parsed = blackout.parse(windows)
    seen = blackout.look(parsed, now, BERLIN)
    if seen.until is not None:
        assert seen.until > now
    elif seen.begins is not None:
        assert seen.begins > now
        assert blackout.look(parsed, seen.begins, BERLIN).active
        assert not blackout.look(parsed, seen.begins - timedelta(seconds=1), BERLIN).active
