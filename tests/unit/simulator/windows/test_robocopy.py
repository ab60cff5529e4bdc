# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""robocopy: arguments, exit codes, retries, output, and what a copy of a file looks like that is written meanwhile."""
from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from simulator.windows.programs.base import HostFacts, Speeds
from simulator.windows.spec import VolumeSpec
from unit.simulator.windows.helpers import ADMINISTRATOR, GIB, ORDINARY, Rig

QUIET = "/NP /NDL /NJH /NJS /BYTES"
CHUNK = 64 * 1024


@pytest.fixture
def trees(rig: Rig) -> Rig:
    """D:\\s with files and folders, D:\\d with an older, a same and an extra file."""
    rig.put("D:\\s\\a.vhdx", b"a" * 10)
    rig.put("D:\\s\\b.txt", b"b")
    rig.put("D:\\s\\same.txt", b"same")
    rig.put("D:\\s\\sub\\c.txt", b"c")
    rig.files.create_directory("D:\\s\\empty")
    rig.put("D:\\d\\extra.txt", b"extra")
    rig.put("D:\\d\\same.txt", b"same")
    rig.clock.advance(60)
    rig.put("D:\\s\\b.txt", b"B")
    rig.put("D:\\d\\b.txt", b"old b")
    rig.files.stamp(rig.files.resolve("D:\\d\\b.txt"), rig.files.entry(rig.files.resolve("D:\\s\\same.txt")).modified)
    rig.changes.clear()
    return rig


@pytest.mark.parametrize(("arguments", "code", "after"), [
    ("D:\\s D:\\new a.vhdx", 1, {"D:\\new\\a.vhdx": b"a" * 10}),
    ("D:\\s D:\\new nothing.vhdx", 0, {}),
    ("D:\\s D:\\d same.txt", 0, {"D:\\d\\same.txt": b"same", "D:\\d\\b.txt": b"old b"}),
    ("D:\\s D:\\d same.txt /IS", 1, {"D:\\d\\same.txt": b"same"}),
    ("D:\\s D:\\d b.txt", 1, {"D:\\d\\b.txt": b"B"}),
    ("D:\\s D:\\d b.txt /XN", 0, {"D:\\d\\b.txt": b"old b"}),
    ("D:\\d D:\\s b.txt", 1, {"D:\\s\\b.txt": b"old b"}),
    ("D:\\d D:\\s b.txt /XO", 0, {"D:\\s\\b.txt": b"B"}),
    ("D:\\s D:\\d", 3, {"D:\\d\\a.vhdx": b"a" * 10, "D:\\d\\extra.txt": b"extra", "D:\\d\\sub\\c.txt": None}),
    ("D:\\s D:\\d /XX", 1, {"D:\\d\\extra.txt": b"extra"}),
    ("D:\\s D:\\d /XF *.vhdx b.txt", 2, {"D:\\d\\a.vhdx": None, "D:\\d\\b.txt": b"old b"}),
    ("D:\\s D:\\d /MIR", 3, {"D:\\d\\extra.txt": None, "D:\\d\\sub\\c.txt": b"c"}),
    ("D:\\s D:\\new /E", 1, {"D:\\new\\sub\\c.txt": b"c", "D:\\new\\a.vhdx": b"a" * 10}),
    ("D:\\s D:\\new /S /XD sub", 1, {"D:\\new\\sub\\c.txt": None, "D:\\new\\a.vhdx": b"a" * 10}),
    ("D:\\s D:\\new /L", 1, {"D:\\new\\a.vhdx": None}),
    ("D:\\s D:\\s\\a.vhdx x.txt", 16, {"D:\\s\\a.vhdx": b"a" * 10}),
    ("D:\\nope D:\\new", 16, {}), ("Z:\\x D:\\new", 16, {}), ("D:\\s Z:\\new /R:0", 16, {}), ("D:\\s", 16, {}), ("", 16, {}),
    ("D:\\s D:\\new /QUUX", 16, {"D:\\new\\a.vhdx": None}), ("D:\\s D:\\new /R:x", 16, {"D:\\new\\a.vhdx": None}),
    ("D:\\s D:\\new /COPY:Q", 16, {}), ("D:\\s D:\\new /MT:129", 16, {}),
    ("D:\\s D:\\new a.vhdx /J /R:2 /W:5 /COPY:DAT /MT:8 /Z /FP /NC /NS /TEE /ETA /NFL", 1, {"D:\\new\\a.vhdx": b"a" * 10}),
    ("\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy1\\s D:\\new", 16, {}),
])
def test_exit_codes_and_files(trees: Rig, arguments: str, code: int, after: dict[str, bytes | None]) -> None:
    result = trees.run(f"robocopy {arguments}")
    assert result.code == code, result.out
    for path, data in after.items():
        assert (trees.files.read_file(path) if trees.files.exists(path) else None) == data
    if code in (0, 2, 16) or "/L" in arguments:
        assert [change for change in trees.changes if not change.startswith("create folder")] == []


def test_empty_folders_come_only_with_e(trees: Rig) -> None:
    trees.run("robocopy D:\\s D:\\one /S")
    trees.run("robocopy D:\\s D:\\two /E")
    assert (trees.files.exists("D:\\one\\empty"), trees.files.exists("D:\\two\\empty")) == (False, True)


def test_a_folder_where_a_file_should_go_is_a_mismatch(trees: Rig) -> None:
    trees.files.create_directory("D:\\d\\a.vhdx")
    assert trees.run("robocopy D:\\s D:\\d a.vhdx").code == 4


def test_a_backslash_before_the_closing_quote_swallows_it(trees: Rig) -> None:
    result = trees.run(f'robocopy "D:\\s\\" "D:\\new" a.vhdx {QUIET}')
    assert (result.code, result.out) == (16, "ERROR : No Destination Directory Specified.\r\n")
    assert trees.run(f'robocopy "D:\\s" "D:\\new" a.vhdx {QUIET}').code == 1


def test_times_are_copied_and_an_unchanged_file_is_not_copied_again(trees: Rig) -> None:
    line = f"robocopy D:\\s D:\\new a.vhdx {QUIET}"
    assert [trees.run(line).code, trees.run(line).code] == [1, 0]
    first, second = (trees.files.entry(trees.files.resolve(path)).modified for path in ("D:\\s\\a.vhdx", "D:\\new\\a.vhdx"))
    assert first == second


@pytest.mark.parametrize(("locale", "word"), [("en-US", "New File"), ("de-DE", "Neue Datei"), ("ja-JP", "新しいファイル")])
def test_lines_are_separated_by_tabs_with_words_of_the_host(tmp_path: Path, locale: str, word: str) -> None:
    rig = Rig(tmp_path, facts=HostFacts("HV1", locale=locale))
    rig.put("D:\\s\\a.vhdx", b"a" * 2_500_000)
    result = rig.run(f"robocopy D:\\s D:\\new a.vhdx {QUIET}")
    assert result.out == f"\t    {word:<10}\t\t 2500000\ta.vhdx\r\n"
    assert rig.run("robocopy D:\\s D:\\n2 a.vhdx /NP /NDL /NJH /NJS").out == f"\t    {word:<10}\t\t   2.4 m\ta.vhdx\r\n"


def test_a_unicode_log_is_utf16_and_the_console_stays_quiet(trees: Rig) -> None:
    result = trees.run(f"robocopy D:\\s D:\\new a.vhdx {QUIET} /UNILOG:D:\\r.log")
    assert result.out == "\r\n Log File : D:\\r.log\r\n"
    data = trees.files.read_file("D:\\r.log")
    assert data.decode("utf-16") == "\t    New File  \t\t      10\ta.vhdx\r\n"
    trees.run(f"robocopy D:\\s D:\\n2 a.vhdx {QUIET} /UNILOG+:D:\\r.log")
    assert trees.files.read_file("D:\\r.log") == data + data[2:]


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_locked_file_is_tried_again_and_then_given_up(trees: Rig) -> None:
    release = trees.files.hold_live_disk("D:\\s\\a.vhdx", "vm")
    start = trees.clock.now()
    result = trees.run(f"robocopy D:\\s D:\\new a.vhdx b.txt /R:2 /W:5 {QUIET}")
    assert (result.code, (trees.clock.now() - start).total_seconds()) == (9, pytest.approx(10, abs=0.01))
    assert result.out.count("ERROR 32 (0x00000020) Copying File D:\\s\\a.vhdx") == 3
    assert result.out.count("Waiting 5 seconds... Retrying...") == 2
    assert "ERROR: RETRY LIMIT EXCEEDED.\r\n" in result.out
    release()
    assert trees.run(f"robocopy D:\\s D:\\new a.vhdx b.txt /R:2 /W:5 {QUIET}").code == 1


def test_without_switches_it_waits_half_a_minute_a_million_times(trees: Rig) -> None:
    release = trees.files.hold_live_disk("D:\\s\\a.vhdx", "vm")
    process = trees.start(f"robocopy D:\\s D:\\new a.vhdx {QUIET}")
    trees.clock.advance(3600)
    assert process.exit_code is None
    assert process.take_output()[0].count(b"Waiting 30 seconds") == 121
    release()
    trees.clock.advance(30)
    assert (process.exit_code, trees.files.read_file("D:\\new\\a.vhdx")) == (1, b"a" * 10)


def test_a_full_disk_leaves_a_part_with_an_old_time(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (VolumeSpec("C:"), VolumeSpec("D:", GIB, free=5 * CHUNK)), speeds=Speeds(chunk=CHUNK))
    rig.put("C:\\s\\a.vhdx", b"a" * 8 * CHUNK)
    result = rig.run(f"robocopy C:\\s D:\\d a.vhdx /R:1 /W:1 {QUIET}")
    assert result.code == 8
    assert result.out.count("ERROR 112 (0x00000070)") == 2
    entry = rig.files.entry(rig.files.resolve("D:\\d\\a.vhdx"))
    assert (entry.size, entry.modified.year) == (5 * CHUNK, 1980)


def test_a_killed_copy_leaves_a_part_that_the_next_run_replaces(tmp_path: Path) -> None:
    rig = Rig(tmp_path, speeds=Speeds(copy_bytes_per_second=CHUNK, chunk=CHUNK))
    rig.put("C:\\s\\a.vhdx", b"a" * 8 * CHUNK)
    process = rig.start(f"robocopy C:\\s D:\\d a.vhdx {QUIET}", job="shell 1")
    rig.clock.advance(3.5)
    rig.processes.kill_job("shell 1")
    rig.clock.advance(60)
    assert (process.exit_code, rig.files.entry(rig.files.resolve("D:\\d\\a.vhdx")).size) == (1, 4 * CHUNK)
    assert rig.run(f"robocopy C:\\s D:\\d a.vhdx {QUIET}").code == 1
    assert rig.files.read_file("D:\\d\\a.vhdx") == b"a" * 8 * CHUNK


def test_an_account_without_rights(rig: Rig) -> None:
    rig.put("D:\\s\\a.vhdx")
    result = rig.run(f"robocopy D:\\s C:\\Windows\\d a.vhdx /R:1 /W:1 {QUIET}", caller=ORDINARY)
    assert (result.code, result.out.count("ERROR 5 (0x00000005) Creating Destination Directory")) == (16, 2)
    refused = rig.run(f"robocopy D:\\s D:\\d a.vhdx /B {QUIET}", caller=ORDINARY)
    assert (refused.code, refused.out) == (16, "ERROR : You do not have the Backup and Restore Files user rights.\r\n")


def test_nobody_reads_a_destination_that_is_being_written(tmp_path: Path) -> None:
    rig = Rig(tmp_path, speeds=Speeds(copy_bytes_per_second=CHUNK, chunk=CHUNK))
    rig.put("C:\\s\\a.vhdx", b"a" * 4 * CHUNK)
    rig.start("robocopy C:\\s D:\\d a.vhdx")
    rig.clock.advance(1)
    assert rig.run("type D:\\d\\a.vhdx >nul", caller=ADMINISTRATOR).code == 1
    rig.clock.advance(10)
    assert rig.run("type D:\\d\\a.vhdx >nul").code == 0


# -- the point of it all -----------------------------------------------------------------------------------------------


def _writer(rig: Rig, real: Path, blocks: int) -> Callable[[], None]:
    """A guest that stamps a sequence number over all blocks, one after the other, ten a second."""
    state = {"n": 0}

    def write() -> None:
        with real.open("r+b") as stream:
            stream.seek((state["n"] % blocks) * CHUNK)
            stream.write(bytes([state["n"] // blocks + 1]) * CHUNK)
        state["n"] += 1
        rig.clock.call_later(0.1, write)

    return write


def test_a_copy_of_the_live_disk_tears_and_one_from_the_shadow_does_not(tmp_path: Path) -> None:
    rig = Rig(tmp_path, locked_live_disks=False, speeds=Speeds(copy_bytes_per_second=2 * CHUNK, chunk=CHUNK))
    real = rig.put("D:\\vm\\leaf.vhdx", bytes(16 * CHUNK))
    _writer(rig, real, 16)()
    rig.clock.advance(5)
    link = rig.shadow_link()
    frozen = rig.files.read_file(link + "\\vm\\leaf.vhdx")
    assert rig.run(f"robocopy {link}\\vm C:\\good leaf.vhdx {QUIET}").code == 1
    live_before = real.read_bytes()
    assert rig.run(f"robocopy D:\\vm C:\\torn leaf.vhdx {QUIET}").code == 1
    assert rig.files.read_file("C:\\good\\leaf.vhdx") == frozen
    torn = rig.files.read_file("C:\\torn\\leaf.vhdx")
    assert torn not in (live_before, real.read_bytes(), frozen)
    order = [torn[at * CHUNK] for at in range(16)]
    assert any(later > earlier for earlier, later in itertools.pairwise(order))  # no instant of the disk looks like that


def test_a_shadow_copy_that_vanishes_ends_the_copy(tmp_path: Path) -> None:
    rig = Rig(tmp_path, speeds=Speeds(copy_bytes_per_second=CHUNK, chunk=CHUNK))
    rig.put("D:\\vm\\leaf.vhdx", b"x" * 8 * CHUNK)
    link = rig.shadow_link()
    process = rig.start(f"robocopy {link}\\vm C:\\d leaf.vhdx /R:0 {QUIET}")
    rig.clock.advance(2)
    rig.shadows.remove(rig.shadows.copies[0])
    rig.clock.advance(10)
    assert process.exit_code == 8
    assert b"ERROR 1006" in process.take_output()[0]
