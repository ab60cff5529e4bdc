# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of the measurements: figures, tables, growth, and what is counted as a page."""
from __future__ import annotations

import math

import pytest
from bench.client import operations
from bench.copies import polls_of
from bench.tables import Growth, Table, growth, middle, ratio, shown


@pytest.mark.parametrize(("value", "written"), [
    (0, "0"), (1234567, "1,234,567"), (0.0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (12.345, "12.3"), (1234.5, "1,234"), (-2.0, "-2.00"),
    (math.nan, "-"), (math.inf, "-"), ("a|b", "a\\|b"),
])
def test_figures(value: str | int | float, written: str) -> None:
    assert shown(value) == written


def test_a_table_sets_numbers_to_the_right() -> None:
    table = Table(("what", "count"))
    table.add("`x`", 5)
    table.add("longer", 12000)
    assert table.markdown() == (
        "| what   |  count |\n"
        "|--------|-------:|\n"
        "| `x`    |      5 |\n"
        "| longer | 12,000 |\n")


def test_a_table_refuses_rows_of_another_width() -> None:
    with pytest.raises(ValueError, match="1 cells below 2 headers"):
        Table(("a", "b")).add(1)


def test_a_table_without_rows_has_its_headers() -> None:
    assert Table(("a", "long one")).markdown() == "| a   | long one |\n|-----|----------|\n"


def test_ratio_and_middle() -> None:
    assert (ratio(6, 4), middle([5, 1, 3]), middle([1, 2])) == (1.5, 3, 1.5)
    assert math.isnan(ratio(1, 0))
    assert math.isnan(middle([]))


def test_a_straight_line_has_no_bend() -> None:
    found = growth([10, 100, 1000], [25.0, 205.0, 2005.0])
    assert found == Growth(pytest.approx(5.0), pytest.approx(2.0), (pytest.approx(2.0), pytest.approx(2.0)))
    assert found.bend == pytest.approx(1.0)


def test_a_square_bends_by_the_factor_between_the_steps() -> None:
    assert growth([10, 100, 1000], [100.0, 10000.0, 1000000.0]).bend == pytest.approx(10.0)


@pytest.mark.parametrize(("sizes", "costs"), [([1], [1]), ([1, 1], [1, 2]), ([2, 1], [1, 2]), ([1, 2], [1])])
def test_growth_needs_growing_sizes(sizes: list[float], costs: list[float]) -> None:
    with pytest.raises(ValueError, match="growing sizes"):
        growth(sizes, costs)


def test_pages_are_the_pulls() -> None:
    assert operations({"Enumerate": 16, "Pull": 7, "Get": 1}) == (17, 7)


def test_polls_are_what_depends_on_how_long_a_host_takes() -> None:
    looks = {"Get": 4, "Invoke PS_ScheduledTask.GetInfoByName": 3}
    assert polls_of({"Shell Command": 5, "Shell Receive": 9, **looks}) == 4 + 6
    assert polls_of({"Enumerate": 4, "Shell Command": 1, "Shell Receive": 1}) == 0
