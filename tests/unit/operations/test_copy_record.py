# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a copy under way: what is written is what is read, and nothing else is believed; progress in words."""
from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import ChainLink
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import copy_record, copy_work
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_record import CopyRecord, RecordError, SourceFile
from hypothesis import given
from hypothesis import strategies as st

VM = "0A1B2C3D-0000-4000-8000-00000000000F"
LEAF = ChainLink("D:\\a.avhdx", "differencing", "vhdx", 1024, None, "0A1B2C3D-0000-4000-8000-0000000000AA", None)
RECORD = CopyRecord(
    VM, "sql01 \u540d %TEMP%", "HV01", "night-1", "vss", "E:\\Backup\\HV01\\sql01_0A1B2C3D\\20260301T220000Z_night-1",
    "C:\\ProgramData\\agentless.hyperv\\s\\{0A1B2C3D-0000-4000-8000-0000000000BB}", datetime(2026, 3, 1, 22, tzinfo=UTC),
    "{0A1B2C3D-0000-4000-8000-0000000000BB}", "size", "crash", "crash", "evidence", ("not captured",), ("unknown",),
    (SourceFile("D:\\a.avhdx", "a.avhdx", "disks\\a.avhdx", 3 * 2**30, 0, 0, LEAF),
     SourceFile("D:\\v\\a.vhdx", "v\\a.vhdx", "disks2\\a.vhdx", 2**30, 0, 1)))
NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=50)


@given(name=NAMES, evidence=NAMES, sizes=st.lists(st.integers(0, 2**60), min_size=1, max_size=5))
def test_what_is_written_is_read_again(name: str, evidence: str, sizes: list[int]) -> None:
    files = tuple(SourceFile(f"D:\\{number}.vhdx", f"{number}.vhdx", f"disks\\{number}.vhdx", size, number, 0)
                  for number, size in enumerate(sizes))
    record = replace(RECORD, vm_name=name, evidence=evidence, files=files)
    assert copy_record.parse(record.dump()) == record
    assert record.dump().isascii()


def test_the_image_of_a_disk_is_kept_as_far_as_it_is_compared() -> None:
    assert copy_record.parse(RECORD.dump()) == RECORD


@pytest.mark.parametrize("change", [
    {"format": 2}, {"format": True}, {"vm": []}, {"vm": {"id": "x", "name": "a"}}, {"run_id": "a\\b"}, {"method": "magic"},
    {"shadow_copy": "x"}, {"taken": "today"}, {"verify": "perhaps"}, {"achieved": "perfect"}, {"unknowns": "x"}, {"files": []},
    {"files": [{"path": "x"}]}, {"files": [{**json.loads(RECORD.dump())["files"][0], "target": "..\\x"}]},
    {"files": [{**json.loads(RECORD.dump())["files"][0], "relative": "C:\\x"}]},
    {"files": [{**json.loads(RECORD.dump())["files"][0], "size": -1}]},
    {"files": [{**json.loads(RECORD.dump())["files"][0], "image": {"kind": "other", "format": "vhdx"}}]},
])
def test_a_record_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RecordError):
        copy_record.parse(json.dumps({**json.loads(RECORD.dump()), **change}).encode("ascii"))


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RecordError):
        copy_record.parse(data)


def test_files_are_read_through_the_link_or_where_they_are() -> None:
    assert [RECORD.source_folder(file) for file in RECORD.files] == [RECORD.root, f"{RECORD.root}\\v"]
    live = replace(RECORD, root="", shadow_id=None, method="live")
    assert [live.source_folder(file) for file in live.files] == ["D:\\.", "D:\\v"]
    assert [(group.target.rpartition("\\")[2], group.names) for group, _files in copy_work.groups_of(live)] == [
        ("disks", ("a.avhdx",)), ("disks2", ("a.vhdx",))]


@pytest.mark.parametrize(("seconds", "percent", "line"), [
    (180.0, None, "copying for 3 min"), (100.0, 25.0, "copying, 25 %, 1.0 of 4.0 GiB, 10 MiB/s, 5 min left"),
    (100.0, 100.0, "copying, 100 %, 4.0 of 4.0 GiB, 41 MiB/s, 0 min left"),
])
def test_progress_says_how_far_and_how_long(seconds: float, percent: float | None, line: str) -> None:
    assert copy_work.progress_line(RECORD, seconds, percent) == f"{RECORD.vm_name}: {line}"
