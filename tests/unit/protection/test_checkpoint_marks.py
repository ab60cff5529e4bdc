# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line in the notes that makes a checkpoint ours."""
from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.protection import checkpoint_marks as marks
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.checkpoint_marks import Mark
from hypothesis import given
from hypothesis import strategies as st

ONE, OTHER = "0A1B2C3D-0000-4000-8000-000000000001", "0A1B2C3D-0000-4000-8000-000000000002"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@given(st.text(), st.sampled_from([None, NOW]), st.sampled_from([None, "production", "standard"]))
def test_a_mark_comes_back_out_of_any_notes_and_the_text_is_kept(text: str, expires: datetime | None, policy: str | None) -> None:
    mark = Mark(ONE, "patch-1", "production_only", "application", policy, expires)
    notes = marks.stamped(text, mark)
    assert marks.mark_of(ONE, notes) == mark
    assert marks.mark_of(ONE.lower(), notes) == mark
    assert marks.mark_of(OTHER, notes) is None
    assert marks.without_marks(notes) == marks.without_marks(text)
    assert notes.splitlines()[-1] == mark.line()


def test_a_mark_that_was_copied_to_another_checkpoint_says_nothing_and_goes_when_that_one_is_marked() -> None:
    copied = marks.stamped("before the patch", Mark(ONE, "patch-1", "standard", "image"))
    assert marks.mark_of(OTHER, copied) is None
    again = marks.stamped(copied, Mark(OTHER, "patch-2", "standard", "image"))
    assert again.splitlines() == ["before the patch",
                                  f"[agentless.hyperv checkpoint={OTHER} run=patch-2 kind=standard achieved=image]"]


def test_lines_that_are_no_marks() -> None:
    for line in ("", "[agentless.hyperv]", f"[agentless.hyperv checkpoint={ONE}]", f"[agentless.hyperv run=a checkpoint={ONE}",
                 f"x [agentless.hyperv run=a checkpoint={ONE}]", f"[agentless.hyperv run=-a checkpoint={ONE}]",
                 f"[agentless.hyperv run=a checkpoint={ONE} expires=soon]"):
        assert marks.mark_of(ONE, line) is None, line


def test_a_checkpoint_expires_at_its_time_and_one_without_time_never() -> None:
    mark = Mark(ONE, "a", "standard", "image", None, NOW)
    assert [marks.expired(mark, NOW + timedelta(seconds=one)) for one in (-1, 0, 1)] == [False, True, True]
    assert not marks.expired(Mark(ONE, "a", "standard", "image"), NOW)
    assert not marks.expired(None, NOW)
