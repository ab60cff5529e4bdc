# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence of drills: whatever a machine is called, a page is a page and a report is a report."""
from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import drills
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.drills import Drill, EvidenceError
from hypothesis import given, settings
from hypothesis import strategies as st

WHEN = datetime(2026, 11, 3, 22, 0, tzinfo=UTC)
GOOD = Drill("0A1B2C3D-0000-4000-8000-00000000ABCD", "sql01", "passed", WHEN, WHEN.replace(minute=5), "HV02", "drill-1", "HV01",
             "nightly-1", "E:\\Backup\\x", WHEN, "application", 5 << 30, 212.4, {"copied": 100.0, "heartbeat": 212.4},
             "Windows Server 2022")
BAD = replace(GOOD, vm_name="web01", outcome="failed", recovery_seconds=None, error_code="no_heartbeat", message="no answer",
              left=("planned_vm X",))
EVIL = "</td><script>alert(1)</script>\"'&{{ 1 + 1 }}{% raw %}\x00\x1b[31m\u202e\ufeff\n]]>\ud800"


class Tags(HTMLParser):
    """What a browser would make of a page: its elements and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def named(text: str) -> list[Drill]:
    return [replace(GOOD, vm_name=text, source_host=text, os_name=text), replace(BAD, vm_name=text, message=text, left=(text,)),
            replace(BAD, vm_name=text, outcome="refused", error_code=text, message=text, host=text, backup_id=text, consistency=text,
                    run_id=text)]


@settings(max_examples=30)
@given(st.text(max_size=60))
def test_a_name_changes_no_structure(text: str) -> None:
    found, plain = named(text), named("x")
    page = drills.as_html(found, WHEN)
    assert Tags(page).tags == Tags(drills.as_html(plain, WHEN)).tags
    suite = ElementTree.fromstring(drills.as_junit(found))
    assert [case.tag for case in suite.iter()] == [case.tag for case in ElementTree.fromstring(drills.as_junit(plain)).iter()]
    assert [one["vm_name"] for one in json.loads(drills.as_json(found))["drills"]] == [text] * 3


def test_a_hostile_name_is_shown_and_does_nothing() -> None:
    page, junit, data = drills.as_html(named(EVIL), WHEN), drills.as_junit(named(EVIL)), drills.as_json(named(EVIL))
    for written in (page, junit, data):
        assert written.isascii()
        assert not re.search(r"\{\{|\{%|\}\}|[\x00-\x09\x0b-\x1f]", written)
    assert "<script" not in page
    assert "alert(1)" in Tags(page).text
    assert "\\u202e" in Tags(page).text
    assert "{{ 1 + 1 }}" in Tags(page).text
    case = ElementTree.fromstring(junit).find("testcase")
    assert case is not None
    assert (case.get("name") or "").startswith("</td><script>alert(1)")


def test_a_page_needs_nothing_from_elsewhere() -> None:
    page = drills.as_html([GOOD, BAD], WHEN)
    assert not re.search(r"https?:|//|\bsrc=|\bhref=|<script|<link|<img|@import|url\(", page)
    assert "default-src 'none'" in page
    text = Tags(page).text
    assert text.index("web01") < text.index("sql01")  # failures first
    assert "3 min 32 s" in text
    assert "5.0 GiB" in text


def test_junit_counts() -> None:
    suite = ElementTree.fromstring(drills.as_junit([GOOD, BAD, replace(BAD, outcome="refused")]))
    assert {key: suite.get(key) for key in ("tests", "failures", "skipped", "time")} == {
        "tests": "3", "failures": "1", "skipped": "1", "time": "812.4"}
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["skipped"]]
    assert suite[1][0].get("type") == "no_heartbeat"


@pytest.mark.parametrize("drill", [GOOD, BAD, replace(BAD, outcome="refused", taken=None, size=None, seconds=None, backup_id=None)])
def test_evidence_is_read_back(drill: Drill) -> None:
    (told,) = json.loads(drills.as_json([drill]))["drills"]
    assert drills.of_data(told) == replace(drill, seconds=drill.seconds or {})


@pytest.mark.parametrize("change", [
    {"format": 2}, {"outcome": "great"}, {"began": None}, {"ended": "yesterday"}, {"vm_name": None}, {"vm_id": 5}, {"size": True},
    {"recovery_seconds": -1}, {"recovery_seconds": "fast"}, {"seconds": []}, {"seconds": {"a": "b"}}, {"left": [1]},
    {"message": "x" * 5000},
])
def test_forged_evidence_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError):
        drills.of_data({**GOOD.as_data(), **change})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["format", "vm_id", "outcome", "began"]), inner, max_size=4), max_leaves=8))
def test_any_data_is_refused_or_read(data: Any) -> None:
    with pytest.raises(EvidenceError):
        drills.of_data(data)
