# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a copy counts as present."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import FoundCopy, parse_age, present_copy
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import Manifest, ManifestFile
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
VM_ID = "0A1B2C3D-1111-2222-3333-444455556666"


def copy(
    age: timedelta = timedelta(hours=1), *, achieved: str = "crash", run_id: str = "r", vm_id: str = VM_ID, host: str = "HV01"
) -> FoundCopy:
    taken = NOW - age
    return FoundCopy(
        f"E:\\B\\{taken:%H%M}",
        Manifest(
            vm_id=vm_id,
            vm_name="a",
            host=host,
            run_id=run_id,
            taken=taken,
            completed=taken,
            shadow_id="{x}",
            requested="crash",
            achieved=achieved,
            evidence="",
            not_captured=(),
            unknowns=(),
            verified="size",
            files=(ManifestFile("a", "b", 1, 0, 0),),
        ),
    )


def find(
    *copies: FoundCopy, max_age: timedelta | None = timedelta(hours=20), run_id: str | None = None, wanted: str = "crash"
) -> FoundCopy | None:
    return present_copy(copies, vm_id=VM_ID, host="hv01", now=NOW, wanted=wanted, max_age=max_age, run_id=run_id)


def test_the_newest_young_copy_counts() -> None:
    young, younger = copy(timedelta(hours=3)), copy(timedelta(hours=2))
    assert find(young, younger) == younger


@pytest.mark.parametrize(
    "other",
    [
        copy(timedelta(hours=21)),
        copy(timedelta(hours=20)),
        copy(timedelta(minutes=-6)),
        copy(vm_id=VM_ID.replace("0A", "0B")),
        copy(host="HV02"),
        copy(achieved="inconsistent"),
        FoundCopy("x", replace(copy().manifest, verified="none")),
        replace(copy(), missing=("disks\\a.vhdx",)),
        FoundCopy("x", replace(copy().manifest, completed=NOW - timedelta(hours=2))),
        FoundCopy("x", replace(copy().manifest, completed=NOW + timedelta(hours=2))),
    ],
)
def test_what_does_not_count(other: FoundCopy) -> None:
    assert find(other) is None


def test_the_same_run_counts_whatever_its_age() -> None:
    old = copy(timedelta(days=9), run_id="night")
    assert find(old, max_age=None, run_id="night") == old
    assert find(old, max_age=None, run_id="other") is None
    assert find(old, max_age=None) is None


def test_an_image_is_no_application_consistent_copy() -> None:
    assert find(copy(achieved="image"), wanted="application") is None
    assert find(copy(achieved="image"), wanted="crash") is not None


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("20h", 72000), ("7d", 604800), ("2w", 1209600), (" 5 H ", 18000)]
)
def test_ages(text: str, seconds: int) -> None:
    assert parse_age(text) == timedelta(seconds=seconds)


@given(st.text(max_size=12))
def test_an_age_is_positive_or_refused(text: str) -> None:
    try:
        age = parse_age(text)
    except ValueError:
        return
    assert timedelta(0) < age <= timedelta(days=3660)


@pytest.mark.parametrize("text", ["", "20", "0h", "-1h", "1y", "1h30m", "999999999w", "١h"])
def test_no_ages(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_age(text)
