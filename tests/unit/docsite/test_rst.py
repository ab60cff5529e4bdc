# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from docsite.__main__ import SECTIONS, index, page, sources
from docsite.links import broken
from docsite.rst import convert

PAGES = sources()


@pytest.mark.parametrize(("markdown", "expected"), [
    ("# The `x` page", "The ``x`` page\n=============="),
    ("## What `x` is, now", ".. _page--what-x-is-now:\n\nWhat ``x`` is, now\n------------------"),
    ("a *b* **c `d`** `e\\f`g", "a *b* **c d** ``e\\f``\\ g"),
    ("[a](errors.md#b) [h](#c) [r](../roles/backup/README.md) [s](x.json) [w](https://example.com)",
     ":ref:`a <errors--b>` :ref:`h <page--c>` :doc:`r </guides/role_backup>` `s <../x.json>`__ `w <https://example.com>`__"),
    ("[o](../README.md) [p](../playbooks/a.yml)",
     ":doc:`o </guides/overview>` `p <https://github.com/agentless-hyperv/agentless.hyperv/blob/main/playbooks/a.yml>`__"),
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


@pytest.mark.parametrize("name", PAGES)
def test_every_page_can_be_converted(name: str) -> None:
    assert page(name, PAGES[name]).count("\n") > 10


def test_every_page_is_in_the_index_once() -> None:
    lines = [line.strip() for line in index(PAGES).splitlines() if "guides/" in line]
    assert sorted(line.rpartition("guides/")[2].rstrip(">") for line in lines) == sorted(PAGES)
    assert {name for several in SECTIONS.values() for name in several} <= set(PAGES)


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text('<h1 id="top">x</h1><a href="sub/b.html#one">1</a><a href="sub/b.html#two">2</a><a href="#top">3</a>'
                                     '<a href="c.html">4</a><a href="https://example.com/x">5</a><img src="d.png">', encoding="utf-8")
    (tmp_path / "sub" / "b.html").write_text('<p id="one"><a href="../a.html">1</a></p>', encoding="utf-8")
    assert broken(tmp_path) == ["a.html: sub/b.html#two", "a.html: c.html", "a.html: d.png"]
