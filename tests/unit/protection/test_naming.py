# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and paths made from hostile text."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.naming import (
    copy_folder,
    is_run_id,
    is_safe_name,
    is_safe_relative,
    problem_with_destination,
    safe_component,
    vm_folder,
)
from hypothesis import given
from hypothesis import strategies as st

HOSTILE = [
    'a"b',
    "50%PATH%",
    "a&b",
    "<x>",
    "a\nb",
    "{{ lookup('pipe','id') }}",
    "\x1b[31mred",
    "\u202egnp.exe",
    "\U0001f4be disk",
    "CON",
    "nul.txt",
    "COM1",
    "x" * 200,
    "..",
    ".",
    " ",
    "a/b\\c",
    "日本語",
    "name.",
    "-rf",
    "\ud800",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_become_plain_folders(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", safe_component(name))
    assert is_safe_name(safe_component(name))


@given(st.text(max_size=300))
def test_every_name_becomes_a_plain_folder(name: str) -> None:
    folder = vm_folder(name, "0A1B2C3D-0000-0000-0000-000000000000")
    assert folder.isascii()
    assert is_safe_name(folder)
    assert folder.endswith("_0A1B2C3D")
    assert len(folder) <= 80


@pytest.mark.parametrize(
    ("name", "folder"), [("sql01", "sql01"), ("Web & Mail", "Web_Mail"), ("con", "vm_con"), ("日本", "vm"), ("a.b-c", "a.b-c")]
)
def test_ordinary_names_stay_readable(name: str, folder: str) -> None:
    assert safe_component(name) == folder


@given(st.text(max_size=60))
def test_a_safe_relative_path_never_leaves_its_folder(path: str) -> None:
    if is_safe_relative(path):
        parts = path.split("\\")
        assert all(part not in ("", ".", "..") and not set(part) & set('<>:"/|?*') for part in parts)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "..\\x",
        "a\\..\\b",
        "\\a",
        "C:\\a",
        "a:b",
        "a\\",
        "a\\\\b",
        "nul",
        "a\\CON.vhdx",
        "a.",
        "a ",
        "a/b",
        "lpt1.x\\b",
        "a\x00",
        "COM¹",
    ],
)
def test_unsafe_relative_paths(path: str) -> None:
    assert not is_safe_relative(path)


@pytest.mark.parametrize("path", ["disks\\a.vhdx", "disks2\\b c.avhdx", "ä.vhdx"])
def test_safe_relative_paths(path: str) -> None:
    assert is_safe_relative(path)


@pytest.mark.parametrize(
    "path",
    [
        "//server/share",
        "E:",
        "E:\\",
        "E:Backup",
        "Backup",
        "E:\\a\\..\\b",
        "E:\\a:b",
        'E:\\a"b',
        "E:\\a\nb",
        "E:\\" + "x" * 200,
        "C:\\Windows\\Temp",
        "c:\\ProgramData\\x",
        "C:\\ClusterStorage",
        "\\\\?\\E:\\a",
        "\\\\?\\UNC\\server\\share",
        "\\\\.\\pipe\\x",
        "\\\\server",
        "\\\\server@SSL\\share",
        "\\\\server\\share\\..\\x",
        "\\\\server\\con",
        "E:\\con",
        "E:\\a.\\b",
        "E:\\Backup\\ ",
    ],
)
def test_destinations_that_are_refused(path: str) -> None:
    assert problem_with_destination(path) is not None


@pytest.mark.parametrize(
    "path", ["E:\\Backup", "e:\\Backup\\Hyper-V", "C:\\ClusterStorage\\Volume2\\Backup", "C:\\Mounts\\Big\\b", "E:\\50% off & more"]
)
def test_destinations_that_are_accepted(path: str) -> None:
    assert problem_with_destination(path) is None


def test_folder_of_a_run() -> None:
    assert copy_folder(datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC), "night-1") == "20260131T120005Z_night-1"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("night-1", True),
        ("a" * 40, True),
        ("a" * 41, False),
        ("", False),
        ("-a", False),
        ("a b", False),
        ("a\\b", False),
        ("a.b", False),
        ("a\n", False),
        ("ä", False),
    ],
)
def test_run_ids(text: str, good: bool) -> None:
    assert is_run_id(text) is good
