# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The peer of the bench: a host has its stand-in for powershell.exe only when the bench puts it there."""
from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command, reading_programs
from bench import powershell
from support.windows_host import windows_host

LINE = Command("PowerShell -NoProfile -NonInteractive -EncodedCommand AAAA", reads_only=True)


def test_only_the_bench_has_an_interpreter(tmp_path: Path) -> None:
    with windows_host(tmp_path, ready=False) as hv:
        with reading_programs(hv.writer, {}) as programs:
            missing = programs.run(LINE, timeout=30, stdin=b"x")
        hv.host.processes.more_programs["powershell"] = powershell.run
        with reading_programs(hv.writer, {}) as programs:
            answered = programs.run(LINE, timeout=30, stdin=b"#!powershell\r\n" * 1000)
    assert (missing.exit_code, missing.stdout) == (9009, b"")
    assert (answered.exit_code, json.loads(answered.stdout)["changed"]) == (0, False)
