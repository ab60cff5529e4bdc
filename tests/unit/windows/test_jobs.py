# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts of jobs as text: nothing of a value stands in them, and what is not a constant of ours is refused."""
from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.diskshadow import ShadowSet, session_job
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import CopyFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult, Stage, Step, StepResult
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import UnsafeText
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.target_jobs import (
    CopyGroup,
    Doomed,
    copy_job,
    list_job,
    manifest_job,
    prune_job,
)
from hypothesis import given
from hypothesis import strategies as st

TOKEN = "0123456789ab"
SAFE = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters='"'), min_size=1, max_size=120)
NAMES = st.lists(SAFE, min_size=1, max_size=12)


def one(line: str = 'dir "%AGH_X%"', values: dict[str, str] | None = None, **step: Any) -> Job:
    return Job((Stage((Step("look", line, **step),)),), {"X": "D:\\x"} if values is None else values)


PLACE = CopyFolder("E:\\b", "h", "v", "c")
SET = ShadowSet("C:\\j", "0A1B2C3D-0000-4000-8000-00000000000F", ("\\\\?\\Volume{0a1b2c3d-0000-4000-8000-000000000001}\\",))


def in_a_set(source: str, target: str, names: list[str]) -> Job:
    """A copy whose steps run while a shadow copy set is there."""
    base = copy_job(PLACE, [CopyGroup(source, target, tuple(names))])
    return session_job(SET, base.stages[:1], base.stages[1:], base.values, {}, [Step("last", 'rmdir "%AGH_COPY%"', None)], TOKEN)


JOBS = st.one_of(
    st.builds(lambda source, target, names, digest: copy_job(PLACE, [CopyGroup(source, target, tuple(names))], sha256=digest),
              SAFE, SAFE, NAMES, st.booleans()),
    st.builds(in_a_set, SAFE, SAFE, NAMES),
    st.builds(list_job, SAFE, SAFE),
    st.builds(lambda folder: manifest_job(folder, b"{}\r\n"), SAFE),
    st.builds(lambda folder, names: prune_job([
        Doomed(f"E:\\b\\h\\{folder}\\c", tuple(names)), Doomed("E:\\b\\h\\v\\c", ("a\\b",))]), SAFE, NAMES),
)


@given(JOBS, JOBS)
def test_a_script_depends_on_the_shape_of_a_job_and_on_no_value(job: Job, other: Job) -> None:
    text = jobs.script(job, TOKEN)
    same = Job(job.stages, {name: f"C:\\{number}" for number, name in enumerate(job.values)}, job.files)
    assert jobs.script(same, TOKEN) == text
    assert text.isascii()
    if [step.line for step in job.steps()] != [step.line for step in other.steps()]:
        assert jobs.script(other, TOKEN) != text


@given(JOBS)
def test_every_percent_sign_of_a_script_is_one_that_is_meant(job: Job) -> None:
    text = jobs.script(job, TOKEN).decode("ascii")
    known = r"%(?:AGH_[A-Z0-9_]+(?::~1)?|SystemRoot|ERRORLEVEL)%|%~dp0|%%"
    assert "%" not in re.sub(known, "", text)
    for line in text.splitlines():
        assert len(line) < 8000
        assert line.count('"') % 2 == 0
        outside = "".join(line.split('"')[::2])
        assert not re.search(r"%AGH_(?!CODE|VERDICT)", outside), line


@given(JOBS)
def test_a_script_proves_its_values_before_it_does_anything(job: Job) -> None:
    lines = jobs.script(job, TOKEN).decode("ascii").splitlines()
    first = next(number for number, line in enumerate(lines) if "echo begin" in line)
    checked = {match.group(1) for line in lines[:first] if (match := re.fullmatch(r"if not defined AGH_([A-Z0-9_]+) goto values", line))}
    used = set(re.findall(r"%AGH_([A-Z0-9_]+?)%", "\n".join(lines[first:]))) - {"CODE", "VERDICT"}
    assert used <= checked
    assert 'if not "%AGH_UTF8:~1%"=="" goto values' in lines[:first]
    assert lines[2].endswith(f"2>nul || exit /b {jobs.RAN_BEFORE}")
    assert lines[-2] == 'ren "%~dp0result.new" result.txt'


@given(JOBS)
def test_every_label_that_is_gone_to_is_there_once(job: Job) -> None:
    lines = jobs.script(job, TOKEN).decode("ascii").splitlines()
    wanted = {match.group(1) for line in lines if (match := re.search(r"goto (\w+)", line))}
    labels = [line[1:] for line in lines if line.startswith(":")]
    assert wanted <= set(labels)
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("line", [
    "dir %AGH_X%", 'dir "%AGH_Y%"', 'dir "x', "dir \u00e9", "dir\nexit", "a & exit", "(goto end)", "call x", "exit /b 3", "if 1==1 exit",
    'icacls "%AGH_X%" /grant *S-1-5-18:(OI)F', "setlocal", "(dir", "dir)",
])
def test_lines_that_do_not_belong_into_a_script(line: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        one(line)


@pytest.mark.parametrize("name", ["", "x y", "JOB", "x", "CODE", "A-B", "X" * 40, "1"])
def test_names_that_no_value_can_have(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        one("dir", {name: "x"})


@pytest.mark.parametrize(("name", "data"), [
    ("Manifest.json", b"\r\n"), ("values.txt", b"\r\n"), ("result.txt", b"\r\n"), ("run.cmd", b"\r\n"), ("..\\x.json", b"\r\n"),
    ("a.json", b"\xff\r\n"), ("a.json", b"x"), ("a.json", b"x" * 8001 + b"\r\n"), ("look.txt", b"\r\n"),
])
def test_files_that_cannot_lie_beside_a_script(name: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"file of a job|ASCII"):
        Job((Stage((Step("look", "dir"),)),), {}, {name: data})


def test_a_job_has_steps_with_different_names() -> None:
    for steps in ((), (Step("a", "dir"), Step("a", "dir"))):
        with pytest.raises(ValueError, match="different names"):
            Job((Stage(steps),), {})
    with pytest.raises(ValueError, match="name for a step"):
        Job((Stage((Step("A", "dir"),)),), {})


@pytest.mark.parametrize("value", ['a"b', "a\nb", "", "\x1b", "\ud800"])
def test_values_that_cannot_travel(value: str) -> None:
    with pytest.raises(UnsafeText):
        one(values={"X": value})


def test_values_that_are_too_long() -> None:
    with pytest.raises(HypervError) as error:
        one(values={"X": "x" * 8100})
    assert error.value.error_code == "paths_too_long"
    with pytest.raises(HypervError) as error:
        one("dir", {f"X{number}": "x" * 200 for number in range(200)})
    assert error.value.error_code == "paths_too_long"


@pytest.mark.parametrize(("line", "text"), [
    ('for %I in ("%AGH_X%") do @echo [%~zI]', 'for %%I in ("%AGH_X%") do @echo [%%~zI]'),
    ("%SystemRoot%\\x 100%", "%SystemRoot%\\x 100%%"), ("%TEMP%", "%%TEMP%%"), ('"%AGH_A%%AGH_B%"', '"%AGH_A%%AGH_B%"'),
])
def test_percent_signs_in_a_batch_file(line: str, text: str) -> None:
    assert jobs.batch_line(line) == text


# -- results -------------------------------------------------------------------------------------------------------------


def lines(*text: str) -> bytes:
    return "".join(f"{line}\r\n" for line in text).encode("ascii")


HEAD = f"job {TOKEN}"


@pytest.mark.parametrize(("data", "expected"), [
    (lines(HEAD, "begin copy", "good copy 1", "end"), JobResult(TOKEN, True, True, {"copy": StepResult(True, 1)})),
    (lines(HEAD, "begin copy", "bad copy -1073741510", "end"), JobResult(TOKEN, True, True, {"copy": StepResult(False, -1073741510)})),
    (lines(HEAD, "begin copy"), JobResult(TOKEN, False, True, {}, "copy")),
    (lines(HEAD, "begin copy") + b"good co", JobResult(TOKEN, False, True, {}, "copy")),
    (lines(HEAD, "values", "end"), JobResult(TOKEN, True, False, {})),
    (lines(HEAD), JobResult(TOKEN, False, True, {})),
])
def test_results(data: bytes, expected: JobResult) -> None:
    assert jobs.parse_result(data, TOKEN) == expected


@pytest.mark.parametrize("data", [
    b"", b"\r\n", lines("begin copy"), lines("job x"), lines(HEAD, HEAD), lines(HEAD, "good copy 1"), lines(HEAD, "begin a", "good b 1"),
    lines(HEAD, "end", "begin a"), lines(HEAD, "begin a b c"), lines(HEAD, "rm -rf"), lines("job ffffffffffff", "end"),
    lines(HEAD, "begin a", "good a"), b"\xff\xfe" + lines(HEAD).decode().encode("utf-16-le"), lines(HEAD) * 3,
])
def test_what_is_no_result(data: bytes) -> None:
    with pytest.raises(HypervError) as error:
        jobs.parse_result(data, TOKEN)
    assert error.value.error_code == "job_result_unreadable"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_result_or_refused(data: bytes) -> None:
    try:
        assert isinstance(jobs.parse_result(data), JobResult)
    except HypervError as error:
        assert error.error_code == "job_result_unreadable"


@given(st.lists(st.binary(max_size=60), min_size=2, max_size=2), st.binary(max_size=60))
def test_outputs_are_told_apart_whatever_they_hold(outputs: list[bytes], result: bytes) -> None:
    printed = result + b"".join(f"\r\n[{TOKEN} {name}]\r\n".encode("ascii") + data for name, data in zip("ab", outputs, strict=True))
    assert jobs.split_reading(printed, TOKEN, ("a", "b")) == (result, {"a": outputs[0], "b": outputs[1]})


def test_an_output_that_is_not_there_is_empty() -> None:
    assert jobs.split_reading(b"x", TOKEN, ("a",)) == (b"x", {"a": b""})


@pytest.mark.parametrize("token", ["", "0123456789AB", "0123456789ab\n", "x" * 12])
def test_tokens(token: str) -> None:
    for call in (lambda: jobs.script(one(), token), lambda: jobs.reading_line(token, ())):
        with pytest.raises(ValueError, match="not a token"):
            call()
