# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Batch files: percent signs, labels, calls, what lasts and what does not."""
from __future__ import annotations

import pytest
from simulator.windows.batch import expand
from unit.simulator.windows.helpers import ORDINARY, Outcome, Rig

B = "C:\\b\\run.cmd"


def batch(rig: Rig, *lines: str, call: str = f"{B} one", codepage: int = 65001, echo: bool = False) -> Outcome:
    rig.put(B, "\r\n".join((*([] if echo else ["@echo off"]), *lines)).encode("ascii") + b"\r\n")
    process = rig.start(call, {"SET": "yes", "SYS": "C:\\Windows\\System32"}, codepage=codepage)
    process.feed(b"", True)
    return rig.finish(process)


@pytest.mark.parametrize(("line", "text"), [
    ("a%%b", "a%b"), ("100%", "100"), ("%X%", "x"), ("%x%", "x"), ("[%NONE%]", "[]"), ("%X:~0,1%", "x"), ("%NONE:~1%", "~1"),
    ("%0|%1|%2", "C:\\b\\run.cmd|one|"), ("%~dp0y", "<dp>y"), ("%*", "one"), ("%%L in", "%L in"), ("%~1", "<>"), ("%1%X%", "onex"),
    ("%%X%%", "%X%"), ("%PERCENT%", "%X%"), ("%X:x=%%", ""), ("% %", ""),
])
def test_percent_signs(line: str, text: str) -> None:
    values = {"X": "x", "PERCENT": "%X%"}
    found = expand(line, lambda name: values.get(name.upper()), ["C:\\b\\run.cmd", "one"], lambda letters, value: f"<{letters}>")
    assert found == text


@pytest.mark.parametrize(("lines", "code", "out"), [
    (["echo %1 %SET%"], 0, "one yes\r\n"), (["echo %~dp0 %~n0%~x0 %~f0"], 0, "C:\\b\\ run.cmd C:\\b\\run.cmd\r\n"),
    (["goto next", "echo no", ":next", "echo yes"], 0, "yes\r\n"), (["goto :eof", "echo no"], 0, ""),
    (["goto NEXT", "echo no", "  :next x", "echo yes"], 0, "yes\r\n"), (["goto nowhere", "echo no"], 1, ""),
    ([":: a remark", "rem another", "", "echo x"], 0, "x\r\n"), (["exit /b 7", "echo no"], 7, ""), (["exit 7", "echo no"], 7, ""),
    (["if 1==1 (echo a) else (echo b)", "if 1==2 exit /b 3", "echo c"], 0, "a\r\nc\r\n"), (["echo )", "echo x |"], 255, ")\r\n"),
    (["for %%L in (a b) do echo %%L"], 0, "a\r\nb\r\n"), (["set A=1", "echo %A%", "set A=2", "echo %A%"], 0, "1\r\n2\r\n"),
    (["set A=1& echo [%A%]"], 0, "[]\r\n"), (["echo a ^", "b"], 0, "a b\r\n"),
    (["(%SYS%\\findstr.exe x nul) >nul 2>&1", "echo %ERRORLEVEL%", "ver >nul", "echo %ERRORLEVEL%"], 0, "1\r\n0\r\n"),
    (["setlocal EnableExtensions DisableDelayedExpansion", "set \"X=!SET!\"", "set X"], 0, "X=!SET!\r\n"),
    (["setlocal EnableDelayedExpansion", "set A=1& echo !A!!SET!", "endlocal", "echo [%A%] !SET!"], 0, "1yes\r\n[] !SET!\r\n"),
    (["%SYS%\\cmd.exe /d /c exit 5"], 5, ""), (["%SYS%\\cmd.exe /d /c exit 5", "exit /b"], 5, ""),
    (["call :sub a \"b c\"", "echo back %ERRORLEVEL% %R%", "exit /b 0", ":sub", "set R=%2", "exit /b 4"], 0, "back 4 \"b c\"\r\n"),
    (["call :none", "echo back"], 1, ""), (["shift", "echo %0 %1."], 0, "one .\r\n"), (["echo 1", "@echo on", "@echo 2"], 0, "1\r\n2\r\n"),
])
def test_lines(rig: Rig, lines: list[str], code: int, out: str) -> None:
    result = batch(rig, *lines)
    assert (result.code, result.out) == (code, out)


def test_lines_are_printed_before_they_run(rig: Rig) -> None:
    assert batch(rig, "echo %SET%", "@echo b", echo=True, call=f"cd /d C:\\b & {B}").out == "\r\nC:\\b>echo yes\r\nyes\r\nb\r\n"


@pytest.mark.parametrize(("call", "out"), [
    (f"call {B} & set AX & cd", "AX=1\r\nD:\\\r\n"), (f"{B} & set AX & cd", "AX=1\r\nD:\\\r\n"), ("cd /d C:\\b & run & set AX", "AX=1\r\n"),
    (f'"{B}" & set AX', "AX=1\r\n"), (f'cmd /c "{B}" & set AX', ""),
])
def test_what_is_set_stays_for_the_rest_of_the_shell(rig: Rig, call: str, out: str) -> None:
    assert batch(rig, "set AX=1", "cd /d D:\\", call=call).out == out


def test_a_file_takes_the_place_of_the_one_that_starts_it_without_call(rig: Rig) -> None:
    rig.put("C:\\b\\other.cmd", b"@echo other %1 & exit /b 3")
    assert batch(rig, "call C:\\b\\other.cmd a", "echo %ERRORLEVEL%").out == "other a \r\n3\r\n"
    result = batch(rig, "C:\\b\\other.cmd a", "echo %ERRORLEVEL%")
    assert (result.out, result.code) == ("other a \r\n", 3)


def test_a_file_is_read_in_the_code_page_of_the_console(rig: Rig) -> None:
    rig.put("C:\\b\\v.txt", "AGH=\u00e9\u20ac\u540d %SET% !x! & ^\r\n".encode())
    read = 'for /f "usebackq delims=" %%L in ("%~dp0v.txt") do set "%%L"'
    lines = (read, "%SYS%\\chcp.com 65001 >nul", read.replace("AGH", "B"), "set AGH")
    assert batch(rig, *lines[1:], codepage=437).out == "AGH=\u00e9\u20ac\u540d %SET% !x! & ^\r\n"
    assert batch(rig, lines[0], lines[1], "set AGH", codepage=437).out.startswith("AGH=\u251c\u2310")


def test_values_are_not_looked_at_again(rig: Rig) -> None:
    rig.put("C:\\b\\v.txt", b"V=a%SET%b & echo x ^ !SET! (y)\r\n")
    result = batch(rig, 'for /f "usebackq delims=" %%L in ("%~dp0v.txt") do set "%%L"', '(echo "%V%")')
    assert result.out == '"a%SET%b & echo x ^ !SET! (y)"\r\n'


@pytest.mark.parametrize(("lines", "said"), [(["if 1==1 (", "echo x", ")"], "a block over several lines"), (["shift /2"], "shift"),
                                             ([":again", "goto again"], "without end")])
def test_what_is_not_imitated_is_said(rig: Rig, lines: list[str], said: str) -> None:
    assert said in batch(rig, *lines).err


def test_a_file_that_may_not_be_read_is_not_run(rig: Rig) -> None:
    rig.put(B, b"@echo secret")
    rig.run("icacls C:\\b /inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F")
    result = rig.run(B, caller=ORDINARY)
    assert (result.code, result.out, result.err) == (1, "", "Access is denied.\r\n")
