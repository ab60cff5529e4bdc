# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Long programs: what can be seen of them while they run, and that somebody who comes later finds them."""
from __future__ import annotations

import re
from pathlib import Path

import pytest
from simulator.host import SimHost
from simulator.windows.programs.base import Speeds
from unit.simulator.windows.task_helpers import CALLER, FOLDER, call, info, make_host, register, state, task_xml

MIB = 1024**2


@pytest.fixture
def host(tmp_path: Path) -> SimHost:
    """A file of 10 MiB, and programs that move one MiB in a second."""
    made = make_host(tmp_path, speeds=Speeds(copy_bytes_per_second=MIB, hash_bytes_per_second=2 * MIB))
    made.files.create_directory("D:\\in")
    made.files.write_file("D:\\in\\disk.vhdx", bytes(range(256)) * (10 * MIB // 256))
    return made


def start(host: SimHost, line: str) -> None:
    register(host, task_xml(f"/d /c {line}"))
    call(host, "StartByPath", TaskName="copy", TaskPath=FOLDER)
    host.clock.advance(0.5)


def typed(host: SimHost, path: str) -> str:
    """What another shell reads of a file now."""
    process = host.processes.start(CALLER, f"type {path}", {}, None, job="other")
    assert process.exit_code == 0
    return process.take_output()[0].decode()


@pytest.mark.parametrize(("log", "encoding"), [("/LOG:D:\\log", "cp437"), ("/UNILOG:D:\\log", "utf-16")])
def test_percentages_are_in_the_log_while_robocopy_runs(host: SimHost, log: str, encoding: str) -> None:
    start(host, f"C:\\Windows\\System32\\robocopy.exe D:\\in D:\\out disk.vhdx /R:0 /W:0 {log}")
    shown = []
    for _second in range(12):
        text = host.files.read_file("D:\\log").decode(encoding)
        found = re.findall(r"(\d+(?:\.\d)?)%  [\r\n]", text)
        shown.append(float(found[-1]) if found else None)
        host.clock.advance(1)
    assert shown == [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 90.0, 100.0, 100.0]
    assert (state(host), info(host)["LastTaskResult"]) == (3, 1)


def test_np_keeps_the_log_short(host: SimHost) -> None:
    start(host, "C:\\Windows\\System32\\robocopy.exe D:\\in D:\\out disk.vhdx /R:0 /W:0 /NP /LOG:D:\\log")
    host.clock.advance(5)
    running = typed(host, "D:\\log")
    assert "disk.vhdx" in running
    host.clock.advance(10)
    assert "%" not in typed(host, "D:\\log")


def test_a_copy_is_found_and_followed_by_somebody_who_comes_later(host: SimHost) -> None:
    start(host, "C:\\Windows\\System32\\robocopy.exe D:\\in D:\\out disk.vhdx /R:0 /W:0 /NP & echo done> D:\\out\\marker")
    host.restart_winrm()
    sizes = []
    for _second in range(3):
        rows = host.repository.query("root/cimv2", "SELECT * FROM Win32_Process WHERE Name = 'cmd.exe'", CALLER).instances
        sizes.append((state(host), len(rows), host.files.resolve("D:\\out\\disk.vhdx").real.stat().st_size // MIB))
        host.clock.advance(2)
    assert sizes == [(4, 1, 1), (4, 1, 3), (4, 1, 5)]
    assert not host.files.exists("D:\\out\\marker")
    host.clock.advance(10)
    assert host.files.read_file("D:\\out\\marker") == b"done\r\n"
    assert state(host) == 3


def test_a_copy_that_is_stopped_leaves_a_part_with_an_old_time(host: SimHost) -> None:
    start(host, "C:\\Windows\\System32\\robocopy.exe D:\\in D:\\out disk.vhdx /R:0 /W:0 /NP & echo done> D:\\out\\marker")
    host.clock.advance(4)
    call(host, "StopByPath", TaskName="copy", TaskPath=FOLDER)
    host.clock.advance(60)
    part = host.files.resolve("D:\\out\\disk.vhdx").real.stat()
    assert (part.st_size // MIB, part.st_mtime < 400_000_000) == (5, True)
    assert not host.files.exists("D:\\out\\marker")


@pytest.mark.parametrize(("seconds", "done"), [(4.0, False), (5.5, True)])
def test_a_hash_takes_time(host: SimHost, seconds: float, done: bool) -> None:
    process = host.processes.start(CALLER, "certutil -hashfile D:\\in\\disk.vhdx SHA256", {}, None, job="shell")
    host.clock.advance(seconds)
    assert (process.exit_code == 0) is done
    assert (b"SHA256" in process.take_output()[0]) is done
