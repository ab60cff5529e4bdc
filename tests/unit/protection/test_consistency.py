# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision table of operations section 6: its rows, and what must hold for every condition."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import (
    CHECKPOINTS,
    EXPORTS,
    IMAGE,
    METHODS,
    ORDER,
    RULES,
    VSS,
    VSS_COPY,
    Condition,
    judge,
    judge_all,
    reaches,
)
from hypothesis import given
from hypothesis import strategies as st

BUILDS = {"2012R2": 9600, "2016": 14393, "2022": 20348}
WINDOWS = Condition(
    build=20348,
    config_version=(10, 0),
    checkpoint_policy="production_only",
    backup_enabled=True,
    backup_answering=True,
    guest="windows",
    free_ratio=0.5,
    chain_known=True,
)
OLD = replace(WINDOWS, build=9600, config_version=(5, 0), checkpoint_policy=None)
SILENT = replace(WINDOWS, backup_answering=False)
LINUX = replace(WINDOWS, guest="linux")
OFF = replace(WINDOWS, state="off", backup_answering=None)
SAVED = replace(OFF, state="saved")
PAUSED = replace(OFF, state="paused")

TABLE = [
    (
        WINDOWS,
        {
            "production_checkpoint": "application",
            "standard_checkpoint": "image",
            "recovery_checkpoint_application": "application",
            "recovery_checkpoint_crash": "crash",
            "export_crash": "crash",
            "export_saved_state": "image",
            "export_application": "application",
            "vss_copy": "crash",
            "vss_writer": "application",
            "live_copy": "inconsistent",
        },
    ),
    (
        OLD,
        {
            "production_checkpoint": None,
            "standard_checkpoint": "image",
            "recovery_checkpoint_application": None,
            "recovery_checkpoint_crash": None,
            "export_crash": "crash",
            "export_saved_state": "image",
            "export_application": None,
            "vss_copy": "crash",
            "vss_writer": "application",
            "live_copy": "inconsistent",
        },
    ),
    (
        SILENT,
        {
            "production_checkpoint": None,
            "recovery_checkpoint_application": None,
            "recovery_checkpoint_crash": "crash",
            "export_application": None,
            "export_crash": "crash",
            "vss_writer": "crash",
        },
    ),
    (replace(SILENT, checkpoint_policy="production"), {"production_checkpoint": "image"}),
    (replace(SILENT, build=9200), {"vss_writer": "image", "export_crash": None}),
    (
        LINUX,
        {
            "production_checkpoint": "filesystem",
            "recovery_checkpoint_application": "filesystem",
            "vss_writer": "filesystem",
            "export_application": "filesystem",
            "vss_copy": "crash",
        },
    ),
    (replace(WINDOWS, guest="unknown"), {"production_checkpoint": "filesystem", "export_application": "filesystem"}),
    (OFF, dict.fromkeys(METHODS, "image")),
    (SAVED, {"vss_copy": "crash", "export_saved_state": "image", "standard_checkpoint": "image", "export_crash": "crash"}),
    (
        PAUSED,
        {
            "production_checkpoint": None,
            "recovery_checkpoint_application": None,
            "recovery_checkpoint_crash": "crash",
            "export_crash": "crash",
            "vss_copy": "crash",
        },
    ),
    (replace(WINDOWS, volumes=2), {"vss_copy": "inconsistent", "vss_writer": "application", "export_application": "application"}),
    (
        replace(WINDOWS, smb_disks=1),
        {"vss_copy": None, "vss_writer": None, "export_crash": "crash", "production_checkpoint": "application"},
    ),
    (replace(WINDOWS, csv_disks=1, csv_owned=False), {"vss_copy": None, "vss_writer": None, "export_crash": "crash"}),
    (replace(WINDOWS, csv_disks=1, csv_owned=True, file_systems=frozenset(("CSVFS",))), {"vss_copy": "crash"}),
    (replace(WINDOWS, file_systems=frozenset(("ReFS",))), {"vss_copy": None, "export_crash": "crash"}),
    (replace(WINDOWS, free_ratio=0.19), {"vss_copy": None, "vss_writer": None, "production_checkpoint": "application"}),
    (replace(WINDOWS, free_ratio=0.20), {"vss_copy": "crash"}),
    (
        replace(WINDOWS, pass_through=1),
        {
            "production_checkpoint": None,
            "standard_checkpoint": None,
            "recovery_checkpoint_application": "application",
            "vss_copy": "crash",
            "export_crash": "crash",
        },
    ),
    (replace(WINDOWS, virtual_disks=0, pass_through=1), {"vss_copy": None, "live_copy": None}),
    (replace(WINDOWS, shared_disks=1), dict.fromkeys(METHODS)),
    (replace(WINDOWS, replication_mode="replica"), dict.fromkeys(METHODS)),
    (replace(WINDOWS, replication_mode="extended_replica"), dict.fromkeys(METHODS)),
    (replace(WINDOWS, replication_mode="primary"), {"production_checkpoint": "application"}),
    (
        replace(WINDOWS, checkpoint_policy="disabled"),
        {"production_checkpoint": None, "standard_checkpoint": None, "recovery_checkpoint_application": "application"},
    ),
    (replace(WINDOWS, config_version=(5, 0)), {"recovery_checkpoint_application": None, "export_application": "application"}),
    (replace(WINDOWS, storage_offline=True), dict.fromkeys(METHODS)),
    (replace(WINDOWS, state="starting"), dict.fromkeys(METHODS)),
]


@pytest.mark.parametrize(
    ("condition", "method", "level"), [(condition, method, level) for condition, levels in TABLE for method, level in levels.items()]
)
def test_rows_of_the_table(condition: Condition, method: str, level: str | None) -> None:
    assert judge(method, condition).level == level


CONDITIONS = st.builds(
    Condition,
    build=st.sampled_from([9200, 9600, 14393, 17763, 20348, 26100, 0]),
    server=st.booleans(),
    state=st.sampled_from(["running", "off", "saved", "paused", "starting", "other", "unknown"]),
    storage_offline=st.booleans(),
    replication_mode=st.sampled_from(["none", "primary", "replica", "test_replica", "extended_replica"]),
    config_version=st.none() | st.tuples(st.integers(1, 12), st.integers(0, 9)),
    checkpoint_policy=st.sampled_from([None, "disabled", "production", "production_only", "standard", "unknown_9"]),
    backup_enabled=st.sampled_from([None, True, False]),
    backup_answering=st.sampled_from([None, True, False]),
    guest=st.sampled_from(["windows", "linux", "other", "unknown"]),
    virtual_disks=st.integers(0, 3),
    pass_through=st.integers(0, 1),
    fibre_channel=st.integers(0, 1),
    other_media=st.integers(0, 1),
    shared_disks=st.integers(0, 1),
    smb_disks=st.integers(0, 1),
    unknown_places=st.integers(0, 1),
    volumes=st.integers(1, 3),
    file_systems=st.frozensets(st.sampled_from(["NTFS", "ReFS", "CSVFS", "unknown"]), min_size=1),
    csv_disks=st.integers(0, 1),
    csv_owned=st.sampled_from([None, True, False]),
    free_ratio=st.none() | st.floats(0, 1),
    chain_known=st.booleans(),
    differencing=st.booleans(),
)


@given(CONDITIONS)
def test_every_condition_has_one_verdict_for_every_method(condition: Condition) -> None:
    verdicts = judge_all(condition)
    assert [verdict.method for verdict in verdicts] == list(METHODS)
    assert verdicts == judge_all(condition)
    for verdict in verdicts:
        assert (verdict.level is None) == bool(verdict.blockers)
        assert verdict.level in (None, IMAGE, *ORDER)
        assert len({(reason.code, reason.kind) for reason in verdict.reasons}) == len(verdict.reasons)


@given(CONDITIONS)
def test_what_is_never_claimed(condition: Condition) -> None:
    levels = {verdict.method: verdict.level for verdict in judge_all(condition)}
    if condition.replication_mode in ("replica", "test_replica", "extended_replica"):
        assert set(levels.values()) == {None}
    if condition.state != "off":
        assert levels["vss_copy"] in (None, "inconsistent", "crash")
    if condition.state == "running":
        assert levels["live_copy"] in (None, "inconsistent")
        assert not [method for method, level in levels.items() if level == "application"] or (
            condition.guest == "windows" and condition.backup_answering and condition.backup_enabled is not False
        )
    if condition.smb_disks or (condition.csv_disks and condition.csv_owned is not True):
        assert not any(levels[method] for method in VSS)
    if condition.build < BUILDS["2016"]:
        assert not any(levels[method] for method in CHECKPOINTS - {"standard_checkpoint"})
        assert levels["export_application"] is None


@given(CONDITIONS)
def test_disks_that_are_left_out_are_always_told(condition: Condition) -> None:
    for verdict in judge_all(condition):
        codes = {reason.code for reason in verdict.reasons}
        if condition.pass_through:
            assert "pass_through_disk" in codes
        assert "guest_iscsi" in codes


def test_every_rule_can_apply_and_names_known_methods() -> None:
    assert all(rule.methods and rule.methods <= set(METHODS) for rule in RULES)
    assert all((rule.level is not None) == (rule.kind == "limit") for rule in RULES)
    assert {rule.kind for rule in RULES} == {"blocker", "limit", "not_captured", "unknown", "note"}
    assert set(METHODS) > EXPORTS


@pytest.mark.parametrize(
    ("achieved", "wanted", "good"),
    [
        ("crash", "crash", True),
        ("application", "crash", True),
        ("crash", "application", False),
        ("image", "crash", True),
        ("image", "image", True),
        ("image", "application", False),
        ("application", "image", False),
        ("filesystem", "application", False),
        ("inconsistent", "crash", False),
    ],
)
def test_which_level_satisfies_which(achieved: str, wanted: str, good: bool) -> None:
    assert reaches(achieved, wanted) is good


@given(st.sampled_from([condition for condition, _unused in TABLE]),
       st.sampled_from([None, True, False]), st.sampled_from([None, True, False]),
       st.sampled_from(["windows", "linux", "other", "unknown"]))
def test_a_shadow_copy_without_writers_asks_no_guest(
        condition: Condition, enabled: bool | None, answering: bool | None, guest: str) -> None:
    """hyperv_vss_copy does not read the integration services."""
    other = replace(condition, backup_enabled=enabled, backup_answering=answering, guest=guest)
    assert judge(VSS_COPY, other) == judge(VSS_COPY, condition)
