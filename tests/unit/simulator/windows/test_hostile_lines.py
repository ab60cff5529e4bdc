# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any line whatever ends with an exit code, and no path whatever leads out of the volumes."""
from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulator.windows import cmdparse
from simulator.windows.cmdparse import SyntaxRefused
from simulator.windows.errors import Win32Error
from unit.simulator.windows.helpers import Rig

WORDS = [
    "echo", "if", "exist", "not", "for", "%v", "in", "(", ")", "do", "&", "&&", "||", "|", ">", ">>", "<", "2>&1",
    "2>nul", "\"", "^", "%X%", "%X", "!X!", " ", "  ", "a", "1", "mkdir", "rd", "/s", "/q", "del", "type",
    "dir", "/b", "move", "/Y", "copy", "ren", "mklink", "/D", "set", "set /p", "X=1", "cd", "..", "C:\\w", "D:",
    "\\", "/", "*", "?", "nul", "con", "robocopy", "/R:0", "/W:0", "/XF", "/L", "findstr", "[", "]", "\\<",
    "icacls", "/grant", "*S-1-5-18:F", "cmd", "/c", "/v:on", "certutil -hashfile", "whoami", "/user", "/fo", "csv",
    "more", "where", "fsutil reparsepoint query", "exit", "call", "else", "==", "EQU", "@", "rem", "=", ";", ",",
    "~", ":", "/l", "/f", "/d", "errorlevel", "defined", "(1,1,3)", "(a,b)", "\"tokens=2,*\"", "[z-a]", "/r", "名", "\n", "\t", "\x00",
]
LINES = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=3)), max_size=14).map("".join) | st.lists(
    st.sampled_from(WORDS), max_size=14).map(" ".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(line=LINES, value=st.text(max_size=8))
def test_any_line_ends_with_an_exit_code(line: str, value: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        rig.put("C:\\w\\a.txt", b"text\r\n")
        rig.files.make_link("C:\\w\\dead", "Z:\\gone", "symlinkd")
        result = rig.run(line, {"X": value}, stdin=b"line\r\n", directory="C:\\w")
        assert isinstance(result.code, int)


@given(line=st.text())
def test_any_text_is_parsed_or_refused(line: str) -> None:
    try:
        cmdparse.parse(cmdparse.expand_percent(line, lambda name: name[::-1]))
    except SyntaxRefused as refused:
        assert isinstance(refused.token, str)


@given(path=st.text(alphabet="\\/.:?*CDcd$ {}aUNC\x00名\ud800", max_size=24) | st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_path_leads_out_of_the_volumes(rig: Rig, path: str) -> None:
    try:
        place = rig.files.resolve(path)
    except Win32Error as refused:
        assert refused.code in (1, 2, 3, 53, 67, 123, 1921)
    else:
        assert any(place.real.is_relative_to(volume.root) for volume in rig.volumes)
        assert ".." not in place.real.parts


@given(arguments=st.lists(st.text(alphabet='ab \\"', max_size=8), max_size=4))
def test_arguments_quoted_by_the_rules_of_the_c_run_time_come_back(arguments: list[str]) -> None:
    def quote(text: str) -> str:
        result, run = [], 0
        for char in text:
            if char == "\\":
                run += 1
            else:
                result.append("\\" * (run * 2 + 1 if char == '"' else run) + char)
                run = 0
        return '"' + "".join(result) + "\\" * run * 2 + '"'

    assert cmdparse.split_arguments(" ".join(quote(argument) for argument in arguments)) == arguments
