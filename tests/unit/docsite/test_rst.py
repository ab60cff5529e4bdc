# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from docsite.__main__ import SECTIONS, index
from docsite.rst import convert

PAGES = sorted((Path(__file__).resolve().parents[3] / "docs").glob("*.md"))


@pytest.mark.parametrize(("markdown", "expected"), [
    ("# The `x` page", "The ``x`` page\n=============="),
    ("a *b* **c `d`** `e\\f`g", "a *b* **c d** ``e\\f``\\ g"),
    ("[a](errors.md#b) [r](../roles/backup/README.md) [s](x.json) [w](https://example.com)",
     ":doc:`a </guides/errors>` :doc:`r </backup_role>` s `w <https://example.com>`__"),
    ("```yaml\na: 1\n\nb: 2\n```", ".. code-block:: yaml\n\n    a: 1\n\n    b: 2"),
    ("    ls\n", ".. code-block:: text\n\n    ls"),
    ("* a\n  b\n* c\n\n  d", "* a b\n* c\n\n  d"),
    ("| a | b |\n|---|---|\n| `x\\|y` | |",
     ".. list-table::\n   :header-rows: 1\n   :widths: auto\n\n   * - a\n     - b\n   * - ``x|y``\n     -"),
    ("<!-- table: x -->\n\nmy_name_", "my\\_name\\_"),
])
def test_what_pages_use(markdown: str, expected: str) -> None:
    assert convert(markdown).strip("\n") == expected


def test_what_no_page_uses_is_refused() -> None:
    with pytest.raises(ValueError, match="blockquote_open"):
        convert("> quoted")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_can_be_converted(page: Path) -> None:
    assert convert(page.read_text(encoding="utf-8")).count("\n") > 10


def test_every_page_is_in_the_index() -> None:
    names = {page.stem for page in PAGES}
    assert [name for name in names if f"   guides/{name}\n" not in index(names)] == []
    assert len({name for several in SECTIONS.values() for name in several}) == sum(map(len, SECTIONS.values()))
