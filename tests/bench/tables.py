# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pure parts: figures as text, tables, ratios and growth."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

Cell = str | int | float


@dataclass
class Table:
    """A table of Markdown. Numbers stand to the right, text to the left."""

    headers: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """One row. Raises ValueError when it has another width than the headers."""
        if len(cells) != len(self.headers):
            raise ValueError(f"{len(cells)} cells below {len(self.headers)} headers")
        self.rows.append(cells)

    def markdown(self) -> str:
        """The table, with columns of equal width."""
        written = [[shown(cell) for cell in row] for row in self.rows]
        widths = [max(3, len(header), *(len(row[at]) for row in written)) for at, header in enumerate(self.headers)]
        right = [bool(self.rows) and not any(isinstance(row[at], str) for row in self.rows) for at in range(len(self.headers))]
        lines = [_line(self.headers, widths, right), "|" + "|".join(_rule(width, to_right) for width, to_right in
                                                                    zip(widths, right, strict=True)) + "|"]
        lines.extend(_line(row, widths, right) for row in written)
        return "\n".join(lines) + "\n"


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in zip(cells, widths, right, strict=True))
    return "| " + " | ".join(padded) + " |"


def _rule(width: int, to_right: bool) -> str:
    return "-" * (width + 1) + (":" if to_right else "-")


def shown(value: Cell) -> str:
    """Text as it is, whole numbers with thin groups, other numbers with three significant digits."""
    if isinstance(value, str):
        return value.replace("|", "\\|")
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def ratio(value: float, base: float) -> float:
    """``value`` over ``base``; not a number when there is no base."""
    return value / base if base else math.nan


def middle(values: Iterable[float]) -> float:
    """The median; not a number of nothing."""
    found = list(values)
    return median(found) if found else math.nan


@dataclass(frozen=True)
class Growth:
    """How a cost follows a size: cost = fixed + rate * size by least squares, and the rate of each step between two sizes."""

    fixed: float
    rate: float
    steps: tuple[float, ...]

    @property
    def bend(self) -> float:
        """The last step's rate over the first one's: 1 is a straight line, 10 would be a square over a factor of ten."""
        return ratio(self.steps[-1], self.steps[0])


def growth(sizes: Sequence[float], costs: Sequence[float]) -> Growth:
    """Fit a line through costs at growing sizes. Raises ValueError for fewer than two sizes, or sizes that do not grow."""
    if len(sizes) != len(costs) or len(sizes) < 2 or any(later <= earlier for earlier, later in pairwise(sizes)):
        raise ValueError("two or more growing sizes, and a cost of each, are needed")
    mean_size, mean_cost = sum(sizes) / len(sizes), sum(costs) / len(costs)
    spread = sum((size - mean_size) ** 2 for size in sizes)
    rate = sum((size - mean_size) * (cost - mean_cost) for size, cost in zip(sizes, costs, strict=True)) / spread
    steps = tuple((costs[at + 1] - costs[at]) / (sizes[at + 1] - sizes[at]) for at in range(len(sizes) - 1))
    return Growth(mean_cost - rate * mean_size, rate, steps)
