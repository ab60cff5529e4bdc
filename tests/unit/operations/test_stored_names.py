# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention of reports and of evidence: whatever a destination lists, nothing else than what is named like one of ours goes."""
from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import restore_evidence
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import drills, stored_names
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.drills import Drill
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.retention import Keep
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import report_jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job
from hypothesis import given, settings
from hypothesis import strategies as st

NOW = datetime(2026, 3, 10, 6, 0, tzinfo=UTC)
DRILL = Drill("0A1B2C3D-0000-4000-8000-00000000ABCD", "sql01", "passed", NOW, NOW, "HV01", "drill-9")
NEW = report_jobs.folder_name(NOW, "0" * 12)
STRICT = re.compile(r"20[0-9]{6}T[0-9]{6}Z_[A-Za-z0-9-]+\Z")

times = st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)).map(lambda moment: f"{moment:%Y%m%dT%H%M%SZ}")
names = st.builds("{}_{}".format, times, st.sampled_from(("0123456789ab", "ffffffffffff", "night-1", "x")))
odd = st.sampled_from(("..", "..\\..\\Windows", "%PATH%", "20261332T000000Z_0123456789ab", "20260101T000000Z_0123456789ab\\..\\x", "\u0661",
                       "20260101T000000Z_0123456789ab ", "20260101T000000Z_", '"', "&del", "C:\\Windows\\System32")) | st.text(max_size=20)
folders = st.sampled_from(("", "E:\\Backup\\_reports\\", "\\\\nas\\b\\", "C:\\Windows\\", "..\\"))
endings = st.sampled_from(("", ".json", ".xml", ".html", ".exe", ".json\\x"))
lines = st.builds("{}{}{}{}".format, st.sampled_from(("[-]", "[+]", "", "[")), folders, names | odd, endings)
listings = st.lists(lines, max_size=12).map(lambda found: "\r\n".join(found).encode("utf-8", "replace")) | st.binary(max_size=60)
unhurried = settings(deadline=None, max_examples=50)
rules = st.builds(Keep, last=st.integers(0, 3), daily=st.integers(0, 3))


def deleted(job: Job) -> set[str]:
    """The paths that the lines of a job remove, with the values in them."""
    found = [path for step in job.steps() for path in re.findall(r'(?:del /F /Q|rmdir) "([^"]+)"', step.line)]
    assert not any(re.search(r"\b(?:rmdir|rd)\b.*/s|\bdel\b.*/s", step.line, re.IGNORECASE) for step in job.steps())
    return {re.sub(r"%AGH_([A-Z0-9]+)%", lambda value: job.values[value.group(1)], path) for path in found}


@unhurried
@given(listings, rules)
def test_of_reports_only_listed_ones_of_ours_go(listing: bytes, keep: Keep) -> None:
    going = stored_names.going(report_jobs.listed(listing), NEW, keep, now=NOW)
    for path in deleted(report_jobs.report_job("E:\\Backup", NEW, {report_jobs.DATA: "{}"}, going)):
        name, _slash, file = path.removeprefix("E:\\Backup\\_reports\\").partition("\\")
        assert path.startswith("E:\\Backup\\_reports\\")
        assert STRICT.match(name)
        assert name.encode() in listing
        assert file in ("", "report.html", "report.json", "report.html.tmp", "report.json.tmp")
        assert name != NEW


@unhurried
@given(listings, rules)
def test_of_evidence_only_listed_files_of_ours_go(listing: bytes, keep: Keep) -> None:
    folder, new = restore_evidence.place_of("E:\\Backup", DRILL)
    going = stored_names.going(restore_evidence.names_in(listing), new, keep, now=NOW)
    for path in deleted(restore_evidence.job_of("E:\\Backup", DRILL, going)):
        name, _dot, ending = path.removeprefix(f"{folder}\\").partition(".")
        assert path.startswith(f"{folder}\\")
        assert STRICT.match(name)
        assert name.encode() in listing
        assert ending in ("json", "xml", "html")
        assert name != new


def test_no_other_name_gets_into_a_job() -> None:
    for name in ("..", f"..\\{NEW}", NEW + "\\..", "20260101T000000Z_night", ""):
        with pytest.raises(ValueError, match="not the name"):
            report_jobs.report_job("E:\\Backup", NEW, {report_jobs.DATA: "{}"}, [name])
    with pytest.raises(ValueError, match="not the name"):
        restore_evidence.job_of("E:\\Backup", DRILL, ["..\\20260101T000000Z_x"])


@unhurried
@given(st.dictionaries(names, st.booleans(), max_size=10), rules)
def test_what_goes_is_decided_once(found: dict[str, bool], keep: Keep) -> None:
    """After a run, the next one at the same moment finds nothing more; the new one, and what tells a time to come, always stay."""
    going = stored_names.going(found, NEW, keep, now=NOW)
    left = {name: whole for name, whole in found.items() if name not in going}
    assert stored_names.going(left, NEW, keep, now=NOW) == ()
    assert not [name for name in going if name == NEW or stored_names.taken_of(name) > NOW + timedelta(minutes=5)]
    assert going == () or not keep.empty


def name_of(**ago: float) -> str:
    return report_jobs.folder_name(NOW - timedelta(**ago), "0123456789ab")


@pytest.mark.parametrize(("found", "keep", "going"), [
    ({name_of(days=1): True, name_of(days=2): True, name_of(days=3): True}, Keep(last=2), [name_of(days=3), name_of(days=2)]),
    ({name_of(hours=1): True, name_of(days=1): True, name_of(days=2): True}, Keep(daily=2), [name_of(days=2), name_of(hours=1)]),
    ({name_of(days=1): True}, Keep(), []),
    ({name_of(days=2): False, name_of(hours=2): False, name_of(days=3): True}, Keep(last=2), [name_of(days=2)]),
    ({name_of(days=-1): True, name_of(days=1): True}, Keep(last=1), [name_of(days=1)]),
    ({"20260230T000000Z_0123456789ab": True, "notes": True}, Keep(last=1), []),
])
def test_the_rules_count_the_new_one(found: dict[str, bool], keep: Keep, going: list[str]) -> None:
    assert list(stored_names.going(found, NEW, keep, now=NOW)) == going


def test_so_many_go_at_once() -> None:
    found = {name_of(hours=hour): True for hour in range(1, 200)}
    going = stored_names.going(found, NEW, Keep(last=1), now=NOW)
    assert (len(going), going[0], going[-1]) == (100, name_of(hours=199), name_of(hours=100))


def test_a_text_in_the_evidence_never_passes_for_the_path_of_another() -> None:
    drill = replace(DRILL, outcome="failed", message="\\20260101T000000Z_x.json:1:{}", seconds={})
    path = f"E:\\Backup\\restore_drills\\sql01_0A1B2C3D\\{restore_evidence.place_of('E:', drill)[1]}.json"
    printed = "\r\n".join(f"{path}:{number}:{line}" for number, line in enumerate(drills.as_json([drill]).splitlines(), 1))
    assert restore_evidence.from_output(printed.encode("ascii")) == (drill,)
