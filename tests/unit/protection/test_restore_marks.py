# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks of restored machines, and what a host says that it cannot take."""
from __future__ import annotations

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import incompatibilities
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.restore_marks import DRILL, RestoreMark, mark_of, stamped
from hypothesis import given
from hypothesis import strategies as st

VM, SOURCE = "0A1B2C3D-0000-4000-8000-00000000ABCD", "0A1B2C3D-0000-4000-8000-00000000FFFF"
MARK = RestoreMark(VM, SOURCE, "nightly-1", "drill-7", DRILL)


@given(st.text(max_size=200))
def test_a_mark_is_read_back_whatever_the_notes_were(notes: str) -> None:
    assert mark_of(VM, stamped(notes, MARK)) == MARK
    again = stamped(stamped(notes, MARK), RestoreMark(VM, SOURCE, "nightly-2", "drill-8", DRILL))
    assert again.count("[agentless.hyperv restored=") == 1


def test_a_mark_speaks_only_for_the_machine_that_it_names() -> None:
    assert mark_of(SOURCE, MARK.line()) is None


@pytest.mark.parametrize("line", [
    "", "[agentless.hyperv]", MARK.line().replace("mode=drill", "mode=other"), MARK.line().replace("nightly-1", "night/ly"),
    MARK.line().replace(SOURCE, "nobody"), f"text {MARK.line()}", MARK.line().replace("drill-7", "-"),
    f"[agentless.hyperv checkpoint={VM} run=old-1 kind=production achieved=crash]",
])
def test_what_nobody_of_ours_wrote_is_no_mark(line: str) -> None:
    assert mark_of(VM, line) is None


@given(st.text(max_size=300))
def test_any_notes_can_be_read(notes: str) -> None:
    assert mark_of(VM, notes) is None


@pytest.mark.parametrize(("number", "text", "code"), [
    ("33012", "Der Ethernet-Switch wurde nicht gefunden.", "switch_missing"), (" 33012 ", "", "switch_missing"),
    ("40010", "Attachment 'C:\\x.vhdx' not found. (0x80070002)", "file_missing"), (None, "0x80070005", "access_denied"),
    ("24004", "The processors do not fit.", "other_incompatibility"), (None, "", "other_incompatibility"),
    ("1", "0x800700021 is no such number", "other_incompatibility"),
])
def test_reasons_are_known_by_numbers_never_by_words(number: str | None, text: str, code: str) -> None:
    found = incompatibilities.of(number, text)
    assert (found.code, bool(found.advice), found.text) == (code, True, text)


def test_nothing_is_dropped() -> None:
    found = [incompatibilities.of("33012", "a"), incompatibilities.of("7", "b"), incompatibilities.of("33012", "c")]
    assert incompatibilities.sentence(found) == "switch_missing, other_incompatibility"
    assert len(incompatibilities.of(None, "x" * 5000).text) == 1000
