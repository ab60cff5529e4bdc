# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command lines against a small host: what is printed, the exit code and what is on the disk afterwards."""
from __future__ import annotations

from collections.abc import Mapping

import pytest
from simulator.windows import cmdparse
from unit.simulator.windows.helpers import Rig

W = "C:\\w"


@pytest.fixture
def work(rig: Rig) -> Rig:
    """A folder C:\\w with two files, a folder and a link to it."""
    rig.put(W + "\\a.txt", b"alpha\r\n")
    rig.put(W + "\\b.log", b"beta\r\nalpha\r\n")
    rig.put(W + "\\full\\in.txt", b"in")
    rig.files.create_directory(W + "\\empty")
    rig.files.make_link(W + "\\link", W + "\\full", "symlinkd")
    rig.changes.clear()
    return rig


START = {"a.txt": b"alpha\r\n", "b.log": b"beta\r\nalpha\r\n", "full": None, "full\\in.txt": b"in", "empty": None, "link": None}


def with_(**changes: bytes | None) -> dict[str, bytes | None]:
    return {**START, **changes}


def without(*names: str) -> dict[str, bytes | None]:
    return {name: data for name, data in START.items() if name not in names}


CASES: list[tuple[str, Mapping[str, str], str, int, Mapping[str, bytes | None]]] = [
    # expansion
    ("echo %TEMP_X% %nope% a%b 100%", {"TEMP_X": "v"}, "v %nope% a%b 100%\r\n", 0, START),
    ('echo "%TEMP_X%"', {"temp_x": "in quotes too"}, '"in quotes too"\r\n', 0, START),
    ("echo !TEMP_X!", {"TEMP_X": "v"}, "!TEMP_X!\r\n", 0, START),
    ('cmd /v:on /c echo !TEMP_X!', {"TEMP_X": 'a & b %TEMP% "c" ^'}, 'a & b %TEMP% "c" ^\r\n', 0, START),
    ("echo %V:~1,2% %V:b=X%", {"V": "abcd"}, "bc aXcd\r\n", 0, START),
    ("echo %X%", {"X": "one & echo two"}, "one \r\ntwo\r\n", 0, START),
    ("echo ^%TEMP_X^% a^&b ^^ \"^&\"", {"TEMP_X": "v"}, '%TEMP_X% a&b ^ "^&"\r\n', 0, START),
    # operators and error levels
    ("echo a&echo b", {}, "a\r\nb\r\n", 0, START),
    ("rd nowhere && echo yes || echo no", {}, "no\r\n", 0, START),
    ("echo a || echo b", {}, "a \r\n", 0, START),
    ("(echo a & echo b) > out.txt", {}, "", 0, with_(**{"out.txt": b"a \r\nb\r\n"})),
    ("nosuch.exe x", {}, "", 9009, START),
    ("nosuch & echo %errorlevel% & call echo %^errorlevel%", {}, "0 \r\n9009\r\n", 0, START),
    ("exit 7 & echo never", {}, "", 7, START),
    ("cmd /c exit /b 5 || echo failed", {}, "failed\r\n", 0, START),
    ("mkdir empty & mkdir new", {}, "", 0, with_(new=None)),
    ("echo a b|findstr b", {}, "a b\r\n", 0, START),
    ("set V=1 & set V", {}, "V=1 \r\n", 0, START),
    ("set V=1| echo x & set V", {}, "x \r\n", 1, START),
    ("if exist a.txt (echo yes) else echo no", {}, "yes\r\n", 0, START),
    ("if not exist *.zip echo none", {}, "none\r\n", 0, START),
    ('if /i "A"=="a" echo same', {}, "same\r\n", 0, START),
    ("if 10 GTR 9 echo more", {}, "more\r\n", 0, START),
    ("for %v in (*.txt b.log) do @echo [%v]", {}, "[a.txt]\r\n[b.log]\r\n", 0, START),
    ("for /d %v in (*) do @echo %~nxv", {}, "empty\r\nfull\r\nlink\r\n", 0, START),
    ('for /d %v in ("none\\below\\*_x") do @echo %~nxv', {}, "", 0, START),  # a loop over nothing has no rounds
    ('for %v in ("none\\*") do @echo %~nxv', {}, "", 0, START),
    ('for /f "tokens=2 delims=," %v in ("a,b,c") do @echo %v', {}, "b\r\n", 0, START),
    ("for /f %v in ('type a.txt') do @echo <%v>", {}, "", 1, START),
    ("for /r %v in (*.txt) do @echo [%~zv]%v", {}, "[7]C:\\w\\a.txt\r\n[2]C:\\w\\full\\in.txt\r\n", 0, START),
    ('for /r "%B%" %v in (*) do @echo %~nxv', {"B": "C:\\w\\full"}, "in.txt\r\n", 0, START),
    ('for /r "C:\\nowhere\\x" %v in (*) do @echo %v', {}, "", 0, START),
    ("for /l %v in (1,1,3) do @echo %v", {}, "1\r\n2\r\n3\r\n", 0, START),
    ("for /l %v in (x,1,y) do @echo %v", {}, "0\r\n", 0, START),
    ("if errorlevel x echo zero", {}, "zero\r\n", 0, START),
    ('for /f "tokens=1,*" %v in ("a b c") do @echo %w', {}, "b c\r\n", 0, START),
    ("findstr /r [z-a] b.log", {}, "", 1, START),
    ("rem & echo never", {}, "", 0, START),
    # redirection
    ("echo x>o.txt", {}, "", 0, with_(**{"o.txt": b"x\r\n"})),
    ("echo x >>a.txt", {}, "", 0, with_(**{"a.txt": b"alpha\r\nx \r\n"})),
    ("type nope.txt 2>nul", {}, "", 1, START),
    ("type nope.txt 2>&1", {}, "The system cannot find the file specified.\r\n", 1, START),
    ("findstr alpha < b.log", {}, "alpha\r\n", 0, START),
    ("echo x > nowhere\\o.txt", {}, "", 1, START),
    # files
    ("mkdir p\\q\\r", {}, "", 0, with_(**{"p": None, "p\\q": None, "p\\q\\r": None})),
    ("mkdir empty", {}, "", 1, START),
    ("md A.TXT", {}, "", 1, START),
    ("rmdir empty", {}, "", 0, without("empty")),
    ("rmdir full", {}, "", 145, START),
    ("rmdir link", {}, "", 0, without("link")),
    ("rd /s /q full", {}, "", 0, without("full", "full\\in.txt")),
    ("rd /s /q link", {}, "", 0, without("link")),
    ("del a.txt", {}, "", 0, without("a.txt")),
    ("del nope.txt", {}, "", 0, START),
    ("del *.txt *.log", {}, "", 0, without("a.txt", "b.log")),
    ("ren a.txt c.txt", {}, "", 0, {**without("a.txt"), "c.txt": b"alpha\r\n"}),
    ("ren a.txt b.log", {}, "", 1, START),
    ("move /Y a.txt b.log", {}, "        1 file(s) moved.\r\n", 0, {**without("a.txt"), "b.log": b"alpha\r\n"}),
    ("move /Y a.txt empty", {}, "        1 file(s) moved.\r\n", 0, {**without("a.txt"), "empty\\a.txt": b"alpha\r\n"}),
    ("move /Y full empty", {}, "        1 dir(s) moved.\r\n", 0,
     {**without("full", "full\\in.txt"), "empty\\full": None, "empty\\full\\in.txt": b"in"}),
    ("copy /Y a.txt c.txt", {}, "        1 file(s) copied.\r\n", 0, with_(**{"c.txt": b"alpha\r\n"})),
    ("copy nope c.txt", {}, "        0 file(s) copied.\r\n", 1, START),
    ("copy nul c.txt", {}, "        1 file(s) copied.\r\n", 0, with_(**{"c.txt": b""})),
    ("type a.txt", {}, "alpha\r\n", 0, START),
    ("type link\\in.txt", {}, "in", 0, START),
    ("dir /b", {}, "a.txt\r\nb.log\r\nempty\r\nfull\r\nlink\r\n", 0, START),
    ("dir /b /ad", {}, "empty\r\nfull\r\nlink\r\n", 0, START),
    ("dir /b /a:-d *.txt", {}, "a.txt\r\n", 0, START),
    ("dir /b /al", {}, "link\r\n", 0, START),
    ("dir /s /b full", {}, "C:\\w\\full\\in.txt\r\n", 0, START),
    ("dir /b nope", {}, "", 1, START),
    ("mklink /J j full", {}, "Junction created for j <<===>> C:\\w\\full\r\n", 0, with_(j=None)),
    ("mklink /D a.txt full", {}, "", 1, START),
    ("cd full & cd & type in.txt", {}, "C:\\w\\full\r\nin", 0, START),
    ("cd nope", {}, "", 1, START),
    ("findstr /n alpha a.txt b.log", {}, "a.txt:1:alpha\r\nb.log:2:alpha\r\n", 0, START),
    ("findstr /s /m in *.txt", {}, "full\\in.txt\r\n", 0, START),
    ("findstr /r ^b.t b.log", {}, "beta\r\n", 0, START),
    ("findstr gamma b.log", {}, "", 1, START),
    ("findstr", {}, "", 2, START),
    ("whoami", {}, "hv1\\administrator\r\n", 0, START),
    ("where robocopy", {}, "C:\\Windows\\system32\\robocopy.exe\r\n", 0, START),
    ("%SystemRoot%\\System32\\findstr.exe beta b.log", {}, "beta\r\n", 0, START),
    ("C:\\nowhere\\findstr.exe beta b.log", {}, "", 9009, START),
]


@pytest.mark.parametrize(("line", "environment", "out", "code", "after"), CASES, ids=[case[0] for case in CASES])
def test_line(work: Rig, line: str, environment: Mapping[str, str], out: str, code: int, after: Mapping[str, bytes | None]) -> None:
    result = work.run(line, environment, directory=W)
    assert (result.out, result.code) == (out, code), result.err
    assert work.tree(W) == dict(after)


def test_status_of_an_unknown_command_is_said_on_stderr(rig: Rig) -> None:
    result = rig.run("nosuch arg")
    assert result.err == "'nosuch' is not recognized as an internal or external command,\r\noperable program or batch file.\r\n"


@pytest.mark.parametrize(("line", "message"), [
    ("echo a && && b", "&& was unexpected at this time."), ("echo >", "The syntax of the command is incorrect."),
    ("(echo a", "The syntax of the command is incorrect."), ("| more", "| was unexpected at this time."),
])
def test_a_line_that_cmd_refuses_does_nothing(work: Rig, line: str, message: str) -> None:
    result = work.run("echo x> made.txt & " + line, directory=W)
    assert (result.code, result.out, result.err) == (1, "", message + "\r\n")
    assert work.tree(W) == START


@pytest.mark.parametrize(("line", "environment"), [
    ("rem " + "x" * 8188, {}), ("rem %LONG%", {"LONG": "x" * 8188}), ("cmd /c rem %LONG%%LONG%", {"LONG": "y" * 4100}),
])
def test_a_line_is_too_long_also_after_expansion(rig: Rig, line: str, environment: Mapping[str, str]) -> None:
    result = rig.run(line, environment)
    assert (result.code, result.err) == (1, "The command line is too long.\r\n")


def test_the_longest_line_runs(rig: Rig) -> None:
    assert rig.run("rem " + "x" * (cmdparse.LINE_LIMIT - 4)).code == 0


def test_a_line_that_begins_with_a_quote_loses_its_outer_quotes(rig: Rig) -> None:
    rig.put("C:\\a b\\f.txt", b"x")
    assert rig.run('"echo "a b""').out == '"a b"\r\n'
    quoted = rig.run('"C:\\Windows\\System32\\findstr.exe" "x" "C:\\a b\\f.txt"')
    assert quoted.err == "The filename, directory name, or volume label syntax is incorrect.\r\n"
    assert quoted.code == 1  # the first and the last quote are gone, and with them the sense


HOSTILE = ["%TEMP%", "a%b", "!x!", "x & del victim.txt", "n" * 200, "名" * 200, "Ünïcode 名前 🖥", "^caret^", "semi;colon,comma=",
           "100%", "(paren)", "a'b`c"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_in_the_environment_is_only_a_name(rig: Rig, name: str) -> None:
    rig.put("C:\\w\\victim.txt")
    line = 'cmd /v:on /c "mkdir "!D!" & mklink /D "!D!\\l" "C:\\w\\" & dir /b "!D!""'
    result = rig.run(line, {"D": f"C:\\w\\{name}", "x": "expanded"})
    assert result.code == 0, result.err
    assert set(rig.tree("C:\\w")) == {"victim.txt", name, f"{name}\\l"}


@pytest.mark.parametrize(("name", "made"), [("%TEMPX%", "T"), ("a%b", "a%b"), ("!x!", "!x!")])
def test_a_name_on_the_line_itself_is_expanded_even_in_quotes(rig: Rig, name: str, made: str) -> None:
    rig.files.create_directory("C:\\w")
    rig.run(f'mkdir "C:\\w\\{name}"', {"TEMPX": "T", "x": "expanded"})
    assert set(rig.tree("C:\\w")) == {made}


def test_a_name_with_an_ampersand_on_the_line_runs_a_command(rig: Rig) -> None:
    rig.put("C:\\w\\victim.txt")
    rig.run("mkdir C:\\w\\x & del C:\\w\\victim.txt")
    assert set(rig.tree("C:\\w")) == {"x"}


def test_input_is_copied_by_findstr_and_read_by_set(rig: Rig) -> None:
    rig.files.create_directory("C:\\w")
    result = rig.run('findstr "^" > C:\\w\\m.json', stdin='{"n": "ä %TEMP% & \\"x\\""}\nend'.encode())
    assert (result.code, result.out, result.err) == (0, "", "")
    assert rig.tree("C:\\w") == {"m.json": '{"n": "ä %TEMP% & \\"x\\""}\nend\r\n'.encode()}
    assert rig.run('cmd /v:on /c "set /p V=& echo !V!"', stdin=b"first\r\nsecond\r\n").out == "first\r\n"


def test_a_piped_line_of_more_than_8191_bytes_is_lost(rig: Rig) -> None:
    result = rig.run('findstr "^"', stdin=b"a" * 8191 + b"\n" + b"b" * 8192 + b"\nc\n")
    assert (result.out, result.err, result.code) == ("a" * 8191 + "\nc\n", "FINDSTR: Line 2 is too long.\r\n", 0)


def test_a_program_that_reads_waits_for_the_end_of_the_input(rig: Rig) -> None:
    process = rig.start('findstr "x"')
    process.feed(b"x1\n", False)
    assert (process.exit_code, process.take_output()) == (None, (b"", b""))
    process.feed(b"y\n", True)
    assert (process.exit_code, process.take_output()) == (0, (b"x1\n", b""))


@pytest.mark.parametrize(("codepage", "expected"), [(65001, "ä名\r\n".encode()), (437, b"\x84?\r\n"), (932, b"?\x96\xbc\r\n")])
def test_output_is_in_the_code_page_of_the_shell(rig: Rig, codepage: int, expected: bytes) -> None:
    assert rig.start("echo ä名", codepage=codepage).take_output()[0] == expected


def test_utf16_is_turned_into_the_console_code_page_by_type(rig: Rig) -> None:
    rig.put("C:\\u.txt", "ä\r\n".encode("utf-16"))
    assert rig.run("type C:\\u.txt").out == "ä\r\n"


@pytest.mark.parametrize("gap", ["start x", "set /a 1+1", "for /r %v in (x) do rem", "certutil -encode a b"])
def test_what_is_not_imitated_is_said(rig: Rig, gap: str) -> None:
    result = rig.run(gap)
    assert result.code == 1
    assert result.err.startswith("simulator: ")
