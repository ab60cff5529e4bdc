# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a machine, a policy or a message is called, each format says exactly that and nothing else comes of it."""
from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import report_style, report_text
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.markup import Html, element
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report import Report
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_facts import clipped
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_html import as_html, size, span_of
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.shown import shown
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from report_site import copy, everything, host, plan, report, vm

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "report.schema.json").read_text(encoding="utf-8"))
HOSTILE = ("</td><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "' onclick='x", '"><b>', "{{ 7 * 7 }}{% raw %}", "=1+1", "+A1",
           "-2", "@SUM(A1)", "\tx", "\rx", "\nx", 'a"b\\c\nd', "]]>", "<!--", "\u202egnp.exe", "\x00\x1b[31m", "\ud800", "\uffff",
           "\U0001f512", "&lt;", "a,b;c", "", " ", "'=1", "</style><p>", "\u2028")
unhurried = settings(deadline=None, max_examples=60)
texts = st.sampled_from(HOSTILE) | st.text(max_size=12)


class Page(HTMLParser):
    """A page as a browser reads it: its elements, their attributes, the text of its cells."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.names: list[str] = []
        self._inside = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _value in attrs}
        if tag == "bdi":
            self._inside = True
            self.names.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "bdi"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.names[-1] += data


def site(name: str, message: str, policy: str) -> Report:
    chosen = plan(1)
    chosen["tasks"][0]["policy"] = policy
    failed = {"vm": {"vm_id": vm(1)["vm_id"]}, "failed": True, "error_code": "x", "msg": message or "m", "hint": message or "h"}
    given = host(vm(1, name), vm(2, name), plan=chosen, copies=[copy(1, 8, folder=message)], results=[failed])
    return report(given, {"host": "gone", "info": {"error_code": "x", "msg": message or "m"}})


PLAIN = Page(as_html(site("plain", "message", "gold")))


@unhurried
@given(texts, texts, texts)
def test_the_page_holds_text_and_no_more_markup_than_it_would_otherwise(name: str, message: str, policy: str) -> None:
    written = as_html(site(name, message, policy))
    page = Page(written)
    assert page.tags == PLAIN.tags
    assert page.attributes == PLAIN.attributes
    assert not {attribute for attribute in page.attributes if attribute.startswith("on") or attribute in ("src", "href", "style")}
    assert page.names.count(shown(clipped(name)) or "(no name)") >= 4
    assert written.isascii()
    assert max(map(len, written.splitlines())) < 8000


@unhurried
@given(texts, texts, texts)
def test_the_table_has_no_formula_and_reads_back(name: str, message: str, policy: str) -> None:
    written = report_text.as_csv(site(name, message, policy))
    assert written.encode("utf-8")
    rows = list(csv.DictReader(io.StringIO(written, newline="")))
    assert [row["status"] for row in rows] == ["no_answer", "failed", "unknown"]
    for row in rows:
        assert row["vm"].replace("'", "") == ("" if row["status"] == "no_answer" else clipped(name).replace("'", ""))
        for value in row.values():
            assert not re.search("(?:\\A|[;\t\r\n])[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]", value)


@pytest.mark.parametrize(("name", "expected"), [
    ("=1+1", "'=1+1"), ("x;=cmd|' /C calc'!A0;", "x;'=cmd|' /C calc'!A0;"), ("a\n-b", "a\n'-b"), ("\uff1d1", "'\uff1d1"),
    ("a-b; c=d", "a-b; c=d"), (-5, -5)])
def test_no_cell_is_a_formula_in_any_language(name: object, expected: object) -> None:
    assert report_text.cell(name) == expected


@unhurried
@given(texts, texts)
def test_labels_end_where_they_should(name: str, policy: str) -> None:
    sample = re.compile(r'agentless_hyperv_[a-z_]+(?:\{[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\[\\"n])*")*\})? -?\d+')
    for line in report_text.as_prometheus(site(name, "m", policy)).rstrip("\n").split("\n"):
        assert line.startswith("# ") or sample.fullmatch(line), line


@unhurried
@given(texts, texts)
def test_the_test_suites_are_xml_with_the_same_cases(name: str, message: str) -> None:
    root = ElementTree.fromstring(report_text.as_junit(site(name, message, "gold")))
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("errors")) for suite in root] == [
        ("gone", "1", "0", "1"), ("hv01", "2", "1", "1")]


@unhurried
@given(texts, texts, texts)
def test_the_document_is_as_its_schema_says(name: str, message: str, policy: str) -> None:
    written = report_text.as_json(site(name, message, policy))
    data: dict[str, Any] = json.loads(written)
    jsonschema.validate(data, SCHEMA)
    assert {one["name"] for one in data["vms"]} == {clipped(name)}
    assert written.isascii()
    assert max(map(len, written.splitlines())) < 8000


ONE = 'host="hv01",vm="late",vm_id="00000002-0000-4000-8000-000000000002",policy="gold"'
ASKED: dict[str, tuple[str, str, str, str, str]] = {
    "an unprotected VM": (
        "1 virtual machine without any protection", '"status": "unprotected"', '"unprotected","hv01","bare"', 'type="unprotected"',
        'vms{status="unprotected"} 1\n'),
    "a policy": ("<bdi>gold</bdi>", '"policy": "gold"', '"running","gold","vss_copy"', "", f'vm_status{{{ONE},status="overdue"}} 1'),
    "the last good copy": ("30 h ago", '"taken": "2026-03-09T00:00:00Z"', '"2026-03-09T00:00:00Z"', "", "vm_last_copy_timestamp_seconds{"),
    "its age against the RPO": (
        "The last good copy is 30 h old; 4 h are allowed.", '"rpo": 14400,\n   "age": 108000', "14400,108000", "4 h are allowed",
        f"vm_rpo_seconds{{{ONE}}} 14400"),
    "the consistency reached against the one asked for": (
        "The last good copy is crash-consistent; its policy asks for application.", '"achieved": "crash"', '"crash","crash"',
        "its policy asks for application", 'requested="crash",achieved="crash"} 1'),
    "the lag of a replica": (
        "5 h behind", '"lag": 18000', ",18000,", "The replica is 5 h behind", f"vm_replica_lag_seconds{{{ONE}}} 18000"),
    "findings about checkpoints": (
        "A checkpoint is 9 days old.", '"code": "checkpoint_old"', "A checkpoint is 9 days old.", "A checkpoint is 9 days old.",
        f"vm_checkpoints{{{ONE}}} 3"),
    "findings about shadow copies": (
        "Shadow copies that are ours, or may be, and are older than a day: 1.", '"code": "shadow_copies_left"', "",
        "older than a day: 1. Run the role shadow_cleanup.", 'host_findings{host="hv01"} 1'),
    "what the next prune deletes": (
        "What the next prune deletes: 2 copies, 4.0 GiB", '"folder": "E:\\\\Backup\\\\HV01\\\\2\\\\60"', f"2,{4 * 1024**3}", "",
        f"vm_next_prune_bytes{{{ONE}}} {4 * 1024**3}"),
    "durations": ("longest 30 min", '"longest": 1800', ",1800,", "", f"vm_last_copy_duration_seconds{{{ONE}}} 1800"),
    "bytes over time": (
        "Bytes. 4.0 GiB in 2 copies", '"size": 3221225472,\n   "longest"', f",{3 * 1024**3},", "",
        f"vm_last_copy_bytes{{{ONE}}} {3 * 1024**3}"),
    "overdue drills": (
        "1 of 1 overdue", '"code": "drill_overdue"', "The last restore drill that it passed was 40 days ago",
        "one every 30 days is asked for", f"vm_last_drill_timestamp_seconds{{{ONE}}}"),
    "overdue test failovers": (
        "Its last test failover was 100 days ago", '"code": "replica_test_overdue"', "Its last test failover was 100 days ago",
        "Its last test failover was 100 days ago", 'vm_last_test_timestamp_seconds{host="hv01",vm="copied"'),
    "a host without an answer": (
        "1 host without an answer", '"answered": false', '"no_answer","gone"', 'message="No."', 'host_up{host="gone"} 0'),
}
"""What a report is asked, to what says so in each format; empty where a format has no place for it."""


@pytest.fixture(scope="module")
def formats() -> tuple[str, str, str, str, str]:
    made = everything()
    return (as_html(made), report_text.as_json(made), report_text.as_csv(made), report_text.as_junit(made), report_text.as_prometheus(made))


@pytest.mark.parametrize("question", ASKED)
def test_every_format_answers(formats: tuple[str, ...], question: str) -> None:
    for name, text, answer in zip(("html", "json", "csv", "junit", "prometheus"), formats, ASKED[question], strict=True):
        assert answer in text.replace("\n>", ">"), name


def test_a_good_fleet_has_nothing_to_do_at_its_hosts_either() -> None:
    def judged(age: int) -> bool:
        return report(host(vm(1), plan=plan(1), copies=[copy(1, 8)], shadow_copies=[{"owner": "ours", "age": age}])).good

    assert (judged(3600), judged(90_000)) == (True, False)


def test_long_texts_make_no_long_lines() -> None:
    made = site("\U0010ffff" * 5000, "\u202e" * 5000, "<" * 5000)
    for written in (as_html(made), report_text.as_json(made)):
        assert max(map(len, written.splitlines())) < 8000


def test_the_policy_of_the_page_names_its_own_style_and_program() -> None:
    page = as_html(site("x", "m", "p"))
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}\s*>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src &#x27;sha256-{digest}&#x27;" in page
    assert "default-src &#x27;none&#x27;" in page
    assert "url(" not in report_style.CSS
    assert "http" not in report_style.CSS + report_style.SCRIPT


def test_the_page_of_a_good_night() -> None:
    page = as_html(report(host(vm(1), plan=plan(1), copies=[copy(1, 8)])))
    assert "Every virtual machine is protected as its policy says." in page
    assert "What to do</h2" not in page


def test_an_element_is_what_it_says() -> None:
    made = element("td", "a<b", Html("<i>"), None, ["x", 1], class_="n", hidden=True, open=False, aria_label='"')
    assert made.text == '<td class="n" hidden aria-label="&quot;">a&lt;b<i>x1</td\n>'
    for tag, name in (("a b", "x"), ("p", "on click")):
        with pytest.raises(ValueError, match="no "):
            element(tag, **{name: "x"})


@pytest.mark.parametrize(("bytes_", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1024**6, "1048576.0 TiB")])
def test_bytes_for_people(bytes_: int, text: str) -> None:
    assert size(bytes_) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2.0 h")])
def test_seconds_for_people(seconds: int, text: str) -> None:
    assert span_of(seconds) == text
