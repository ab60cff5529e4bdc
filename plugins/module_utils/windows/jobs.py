# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""Jobs: batch scripts made of constant lines, the values they work on, and the result that they leave. Pure text, no host.

Why a batch file, and why like this. The Task Scheduler expands ``%NAME%`` in a task's arguments, even inside quotes, and ``cmd``
expands it again: so a task's line may hold nothing but names of ours, and the work has to stand in a file. robocopy's own job files
would be another such file, but which encoding they have and what they expand is not documented, and they can do nothing else than copy.

* ``run.cmd`` is ASCII and made of constants of this collection. No user text is in it, so there is nothing to double or to escape.
* ``values.txt`` holds the values as ``AGH_NAME=value`` lines in UTF-8, written by the host's own ``set`` from the environment of a shell.
  The script takes whole lines into variables with ``for /f``, which does not look at them again, and a value stands in a later line
  as ``"%AGH_NAME%"``: expanded once, between quotes, with delayed expansion off. ``%TEMP%``, ``a%b``, ``!x!`` and ``x & del`` are then
  plain text. Quotes and control characters never get that far (:mod:`.programs`).
* A script changes nothing before it has proved that it read its values as UTF-8: one value is a letter that is two letters in any
  other code page, and every variable it uses must be set. The first line of its result is a token that only this script has.
* It runs once: it begins by making a folder, and ends where that is there already. A start that arrives late does no harm.
* It writes its result beside itself, step by step, and renames the file at the very end: a result without an end is an interrupted job,
  whatever LastTaskResult says (windows facts 1).
* A program that ``run.cmd`` starts may itself run a second script, ``inner.cmd`` (:func:`inner_script`). That is made in the same way,
  finds the values in its environment, and leaves a result of its own, so that it counts by itself whatever its caller makes of it.
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import LONGEST_LINE, PREFIX, check_value, expanded_length

SCRIPT, VALUES, RESULT, UNFINISHED, STARTED = "run.cmd", "values.txt", "result.txt", "result.new", "started"
INNER, INNER_RESULT, INNER_UNFINISHED = "inner.cmd", "inner.txt", "inner.new"
UNREADABLE = "job_result_unreadable"
RAN_BEFORE = 77
"""Exit code of a script that was started a second time."""
SENTINEL = "\u00e9"
"""One letter, and two bytes in UTF-8."""
LARGEST = 30_000
"""Characters of all values of a job together: they are the environment of one shell."""

_HERE = "%~dp0"
_SYSTEM32 = "%SystemRoot%\\System32\\"
_OURS = re.compile(rf"%(?P<name>{PREFIX}[A-Z0-9_]+|SystemRoot)%|%")
_STEP_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\Z")
_VALUE_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,30}\Z")
_FILE_NAME = re.compile(r"(?:[a-z][a-z0-9_]{0,30}\.(?:json|txt)|inner\.cmd)\Z")
_TOKEN = re.compile(r"[0-9a-f]{12}\Z")
_RESERVED = frozenset({"JOB", "UTF8", "CODE", "VERDICT"})
_RESERVED_FILES = frozenset({VALUES, RESULT, INNER_RESULT})
_FORBIDDEN_WORD = re.compile(r"(?i)(?:^|[\s&|(])(?:exit|goto|call|setlocal|endlocal)\b")
_INNER_BRACKET = re.compile(r"[^\s&|(]\(")
"""In a block a bracket that closes ends it, so only brackets that open a block may stand outside of quotes."""
_RESULT_LINE = re.compile(r"(?P<word>job|begin|good|bad|values|end)(?: (?P<name>[a-z0-9_]{1,31}))?(?: (?P<code>-?\d{1,11}))?\Z")
_MOST_LINES = 200_000


@dataclass(frozen=True)
class Step:
    """One line of a script.

    ``line`` is a constant of this collection, as for :class:`.programs.Command`. It went well when its exit code is within ``good``
    (None: the code says nothing, as with many built-ins) and ``proof`` holds, a condition of cmd's ``if``.
    ``keep``: its output is read back, else it is only looked at after a failure.
    """

    name: str
    line: str
    good: tuple[int, int] | None = (0, 0)
    proof: str | None = None
    keep: bool = False


@dataclass(frozen=True)
class Stage:
    """Steps in turn; the first that fails ends the stage, and with an ``essential`` stage the whole job."""

    steps: tuple[Step, ...]
    essential: bool = True


@dataclass(frozen=True)
class Job:
    """What a script does. ``values`` have names without prefix; ``files`` are small ASCII files that lie beside the script.

    Raises ValueError for what a programmer got wrong, UnsafeText for a value that cannot be carried, and HypervError
    ``paths_too_long`` for a line that is too long once its values stand in it.
    """

    stages: tuple[Stage, ...]
    values: Mapping[str, str]
    files: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps()]
        if len(set(names)) != len(names) or not names:
            raise ValueError("a job needs steps with different names")
        for name in self.values:
            if _VALUE_NAME.match(name) is None or name in _RESERVED:
                raise ValueError(f"not a name for a value: {name}")
        for name, data in self.files.items():
            if _FILE_NAME.match(name) is None or name in _RESERVED_FILES or name.removesuffix(".txt") in names:
                raise ValueError(f"not a name for a file of a job: {name}")
            if not data.isascii() or any(len(line) > 8000 for line in data.split(b"\r\n")) or not data.endswith(b"\r\n"):
                raise ValueError(f"{name} is no ASCII text of short lines")
        for step in self.steps():
            self._check(step)
        for name, value in self.values.items():
            check_value(value, f"The value for {name}")
        if sum(len(name) + len(value) + 6 for name, value in self.values.items()) > LARGEST:
            raise HypervError("The names and paths are too long for one job.", error_code="paths_too_long")

    def steps(self) -> Iterator[Step]:
        """All steps in turn."""
        for stage in self.stages:
            yield from stage.steps

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the steps whose output is read back."""
        return tuple(step.name for step in self.steps() if step.keep)

    def _check(self, step: Step) -> None:
        if _STEP_NAME.match(step.name) is None:
            raise ValueError(f"not a name for a step: {step.name}")
        for text in filter(None, (step.line, step.proof)):
            if not text.isascii() or not text.isprintable() or text.count('"') % 2 or _FORBIDDEN_WORD.search(text):
                raise ValueError(f"not a line for a script: {text}")
            outside = text.split('"')[::2]
            if any(PREFIX in part for part in outside):
                raise ValueError(f"a value outside of quotes: {text}")
            if any(_INNER_BRACKET.search(part) for part in outside) or "".join(outside).count("(") != "".join(outside).count(")"):
                raise ValueError(f"brackets that would end the block: {text}")
            unknown = sorted(used_names(text) - set(self.values) - {"JOB"})
            if unknown:
                raise ValueError(f"no value for {', '.join(unknown)}")
            variables = {PREFIX + name: value for name, value in self.values.items()} | {PREFIX + "JOB": "x" * 120}
            if expanded_length(text, variables) > LONGEST_LINE - 200:
                raise HypervError("The paths are too long for one command line of the host (8191 characters).", error_code="paths_too_long")


def used_names(text: str) -> set[str]:
    """The names of the values in a line, without prefix."""
    return {found.group("name").removeprefix(PREFIX) for found in _OURS.finditer(text)
            if (found.group("name") or "").startswith(PREFIX)}


def batch_line(line: str) -> str:
    """A constant line as it has to stand in a batch file: percent signs that belong to no variable of ours are doubled."""
    return _OURS.sub(lambda found: found.group() if found.group("name") else "%%", line)


def script(job: Job, token: str) -> bytes:
    """The text of ``run.cmd``: ASCII with CRLF. ``token``: twelve hexadecimal digits that nobody else has."""
    if _TOKEN.match(token) is None:
        raise ValueError("not a token")
    names = _used_by(job.stages)
    read = [f'for /f "usebackq delims=" %%L in ("{_HERE}{VALUES}") do set "%%L"']
    return _text(job.stages, names, token, started=STARTED, unfinished=UNFINISHED, result=RESULT, read=read)


def inner_script(stages: Sequence[Stage], values: Mapping[str, str], given: Sequence[str], token: str) -> bytes:
    """The text of ``inner.cmd``: ASCII with CRLF, a file of the job whose script starts the program that runs it.

    ``values`` are those of the job, ``given`` the names (without prefix) of variables that the program sets besides. It ends with exit
    code 0 whatever its steps come to: what its caller would make of another one is not known.
    """
    if _TOKEN.match(token) is None:
        raise ValueError("not a token")
    Job(tuple(stages), {**values, **dict.fromkeys(given, "x" * 40)})  # for its checks
    return _text(stages, _used_by(stages) | set(given), token, started="inner", unfinished=INNER_UNFINISHED, result=INNER_RESULT, read=[])


def _used_by(stages: Sequence[Stage]) -> set[str]:
    return {name for stage in stages for step in stage.steps for text in filter(None, (step.line, step.proof)) for name in used_names(text)}


def _text(stages: Sequence[Stage], names: set[str], token: str, *, started: str, unfinished: str, result: str,
          read: Sequence[str]) -> bytes:
    report = f'>>"{_HERE}{unfinished}" echo'
    lines = [
        "@echo off", "setlocal EnableExtensions DisableDelayedExpansion",
        f'mkdir "{_HERE}{started}" 2>nul || exit /b {RAN_BEFORE}',
        f'{_SYSTEM32}chcp.com 65001 >nul',
        f'>"{_HERE}{unfinished}" echo job {token}',
        *read,
        *(f"if not defined {PREFIX}{name} goto values" for name in sorted(names | {"UTF8"})),
        f'if not "%{PREFIX}UTF8:~1%"=="" goto values',
    ]
    for number, stage in enumerate(stages):
        for step in stage.steps:
            lines += _step(step, report, "end" if stage.essential else f"stage{number}")
        lines.append(f":stage{number}")
    lines += ["goto end", ":values", f"{report} values", ":end", f"{report} end",
              f'ren "{_HERE}{unfinished}" {result}', "exit /b 0", ""]
    return "\r\n".join(lines).encode("ascii")


def _step(step: Step, report: str, after_failure: str) -> list[str]:
    code, verdict = f"{PREFIX}CODE", f"{PREFIX}VERDICT"
    bad = f'set "{verdict}=bad"'
    lines = [f"{report} begin {step.name}", "ver >nul",  # many built-ins leave the last code as it is when they succeed
             f'({batch_line(step.line)}) >"{_HERE}{step.name}.out" 2>&1', f'set "{code}=%ERRORLEVEL%"', f'set "{verdict}=good"']
    if step.good is not None:
        lines += [f"if %{code}% LSS {step.good[0]} {bad}", f"if %{code}% GTR {step.good[1]} {bad}"]
    if step.proof is not None:
        lines.append(f"if {batch_line(step.proof)} (ver >nul) else {bad}")
    return [*lines, f"{report} %{verdict}% {step.name} %{code}%", f"if %{verdict}%==bad goto {after_failure}"]


# -- the result ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepResult:
    """How a step ended: its exit code, and whether that and its proof are what they should be."""

    good: bool
    code: int


@dataclass(frozen=True)
class JobResult:
    """What a script left. ``complete``: it reached its end. ``at``: the step that had begun and not ended."""

    token: str
    complete: bool
    values_read: bool
    steps: Mapping[str, StepResult]
    at: str | None = None

    @property
    def failed(self) -> tuple[str, ...]:
        """The steps that failed, in turn."""
        return tuple(name for name, step in self.steps.items() if not step.good)

    def good(self, name: str) -> bool:
        """True when this step ran and went well."""
        return name in self.steps and self.steps[name].good


def parse_result(data: bytes, token: str | None = None) -> JobResult:
    """The result in a file that a script wrote, whole or not. Raises HypervError ``job_result_unreadable`` for anything else.

    With ``token`` the result of another script is refused, too.
    """
    whole, newline, _unused = data.rpartition(b"\n")  # the host may have gone down in the middle of a line
    lines = (whole + newline).decode("ascii", "replace").splitlines()
    found: dict[str, StepResult] = {}
    said, at, complete, values_read = "", None, False, True
    if len(lines) > _MOST_LINES:
        raise _unreadable()
    for number, line in enumerate(lines):
        part = _RESULT_LINE.match(line.strip())
        if part is None or complete or (part["word"] == "job") != (number == 0):
            raise _unreadable()
        word, name, code = part["word"], part["name"], part["code"]
        if word == "job":
            said = name or ""
        elif word == "begin":
            at = name
        elif word in ("good", "bad"):
            if name is None or code is None or name != at:
                raise _unreadable()
            found[name], at = StepResult(word == "good", int(code)), None
        elif word == "values":
            values_read = False
        else:
            complete = True
    if _TOKEN.match(said) is None or (token is not None and said != token):
        raise _unreadable()
    return JobResult(said, complete, values_read, found, at)


def _unreadable() -> HypervError:
    return HypervError("The result file of a job on the host cannot be understood.", error_code="job_result_unreadable",
                       hint="Only administrators of the host can write to it: look who did.")


def is_step_name(name: str) -> bool:
    """True for what may be the name of a step."""
    return _STEP_NAME.match(name) is not None


def is_file_name(name: str) -> bool:
    """True for what may be the name of a file of a job."""
    return _FILE_NAME.match(name) is not None and name not in _RESERVED_FILES


# -- reading several outputs at once -------------------------------------------------------------------------------------


def reading_line(token: str, outputs: Sequence[str]) -> str:
    """One line of cmd that prints the result and the outputs of these steps, each after a mark that nothing else can contain."""
    if _TOKEN.match(token) is None or not all(_STEP_NAME.match(name) for name in outputs):
        raise ValueError("not a token, or not a name of a step")
    here = f'"%{PREFIX}JOB%\\'
    parts = [f'(type {here}{RESULT}" || type {here}{UNFINISHED}")']
    parts += [f'echo.& echo [{token} {name}]& type {here}{name}.out"' for name in outputs]
    return " & ".join(parts)


def split_reading(data: bytes, token: str, outputs: Sequence[str]) -> tuple[bytes, dict[str, bytes]]:
    """The result and the outputs out of what :func:`reading_line` printed; an output that was not there is empty."""
    rest, found = data, {}
    for name in reversed(outputs):
        before, mark, after = rest.rpartition(f"\r\n[{token} {name}]\r\n".encode("ascii"))
        if mark:
            rest, found[name] = before, after
        else:
            found[name] = b""
    return rest, found
