# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Batch files: lines run one by one in a shell, with arguments, labels and their own rules for percent signs.

In a batch file ``%%`` is a percent sign, an unknown ``%NAME%`` is nothing, and ``%0`` to ``%9`` are arguments; at a command line all
three are otherwise. A line is decoded with the code page that the console has when the line is reached. Each line is printed before it
runs unless it begins with ``@`` or ``echo off`` was said. A block in brackets over several lines is not imitated.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.windows import cmdparse
from simulator.windows.cmdparse import Lookup
from simulator.windows.errors import Win32Error
from simulator.windows.files import Location
from simulator.windows.programs.base import Context, NotSimulated, Steps

if TYPE_CHECKING:
    from simulator.windows.cmdline import Shell

EXTENSIONS = (".cmd", ".bat")
END = "eof"
MOST_LINES = 10_000
"""Of one run: more than that is taken for a loop without end."""
UNREADABLE = 255
"""The error level after a line that no cmd can read; it ends the whole file."""


class Goto(Exception):
    """Go on at a label; ``eof`` is the end of the file."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label.lstrip(":").lower()


class BatchExit(Exception):
    """The batch file (or the called label) ends with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Saved:
    """What ``setlocal`` keeps for ``endlocal``."""

    environment: dict[str, str]
    directory: str
    delayed: bool


@dataclass
class Batch:
    """One running batch file, or a part of it that was called by its label. ``arguments[0]`` is ``%0``, the name it was called by."""

    path: str
    lines: list[bytes]
    arguments: list[str]
    echo: bool = True
    next: int = 0
    done: int = 0
    saved: list[Saved] = field(default_factory=list)

    def take_line(self, encoding: str) -> str:
        """The next line, with those that a caret at its end joins to it."""
        text = ""
        while self.next < len(self.lines):
            text += self.lines[self.next].decode(encoding, "replace")
            self.next += 1
            if not text.endswith("^"):
                break
            text = text[:-1]
        self.done += 1
        if self.done > MOST_LINES:
            raise NotSimulated("a batch file without end")
        return text.lstrip(cmdparse.DELIMITERS)

    def find(self, label: str, encoding: str) -> int | None:
        """The line after a label: the first one below the present line, then from the top."""
        order: list[int] = [*range(self.next, len(self.lines)), *range(self.next)]
        for number in order:
            found = re.match(r":([^\s:+,;=&|<>]+)", self.lines[number].decode(encoding, "replace").lstrip(cmdparse.DELIMITERS))
            if found and found.group(1).lower() == label:
                return number + 1
        return None


def split_arguments(text: str) -> list[str]:
    """The arguments of a batch file: quotes stay where they are."""
    return re.findall(r'(?:"[^"]*"?|[^\s,;="])+', text)


def expand(line: str, lookup: Lookup, arguments: Sequence[str], part_of: Callable[[str, str], str]) -> str:
    """The percent signs of a line; ``part_of`` gives parts of an argument by letters (``dp``)."""
    out: list[str] = []
    at = 0
    while at < len(line):
        if line[at] != "%":
            end = line.find("%", at)
            plain = line[at:] if end < 0 else line[at:end]
            out.append(plain)
            at += len(plain)
            continue
        rest = line[at + 1:]
        argument = re.match(r"(?:~([fdpnxz]*))?([0-9])", rest)
        end = rest.find("%")
        if rest.startswith("%"):
            out.append("%")
            at += 2
        elif rest.startswith("*"):
            out.append(" ".join(arguments[1:]))
            at += 2
        elif argument:
            number = int(argument.group(2))
            value = arguments[number] if number < len(arguments) else ""
            out.append(value if argument.group(1) is None else part_of(argument.group(1), value))
            at += 1 + argument.end()
        elif end >= 0:
            out.append(_named(rest[:end], lookup))
            at += 2 + end
        else:
            at += 1
    return "".join(out)


def _named(text: str, lookup: Lookup) -> str:
    """``%NAME%`` or ``%NAME:~1,2%``; what nothing is known of vanishes, but not what follows its colon."""
    name, _colon, change = text.partition(":")
    return change if lookup(name) is None else cmdparse.expand_percent(f"%{text}%", lookup)


def locate(context: Context, word: str) -> Location | None:
    """The batch file that a word names, with or without its extension; None when it names none."""
    for name in (word, *(word + extension for extension in EXTENSIONS)):
        if not name.lower().endswith(EXTENSIONS):
            continue
        try:
            place = context.locate(name)
        except Win32Error:
            continue
        if place.exists and not place.is_directory:
            return place
    return None


def start(shell: Shell, context: Context, place: Location, name: str, tail: str, *, called: bool = False) -> Steps:
    """Run a batch file in a shell, with the streams of ``context``; its error level. Win32Error 5 or 32 when it cannot be read."""
    data = context.files.read_file(place.path.text(), context.token)
    outer = shell.batch
    echo = outer.echo if outer is not None and called else True
    batch = Batch(place.path.text(), re.split(rb"\r\n|\n", data), [name, *split_arguments(tail)], echo)
    return (yield from _run(shell, context, batch))


def call_label(shell: Shell, context: Context, label: str, tail: str) -> Steps:
    """``call :label arguments``."""
    outer = shell.batch
    if outer is None:
        context.err("Invalid attempt to call batch label outside of batch script.")
        return 1
    inner = Batch(outer.path, outer.lines, [":" + label, *split_arguments(tail)], outer.echo, outer.next, outer.done)
    inner.next = len(inner.lines) if label == END else _target(inner, label, context)
    return (yield from _run(shell, context, inner))


def _target(batch: Batch, label: str, context: Context) -> int:
    found = batch.find(label, context.encoding)
    if found is None:
        context.err(f"The system cannot find the batch label specified - {label}")
        raise BatchExit(1)
    return found


def _run(shell: Shell, context: Context, batch: Batch) -> Steps:
    outer, shell.batch = shell.batch, batch
    try:
        while batch.next < len(batch.lines):
            context.codepage = shell.context.codepage
            try:
                yield from _line(shell, context, batch, batch.take_line(context.encoding))
            except Goto as jump:
                batch.next = len(batch.lines) if jump.label == END else _target(batch, jump.label, context)
    except BatchExit as leave:
        shell.errorlevel = leave.code
    finally:
        while batch.saved:
            restore(shell, batch.saved.pop())
        shell.batch = outer
    return shell.errorlevel


def _line(shell: Shell, context: Context, batch: Batch, text: str) -> Steps:
    if text.startswith(":") or not text:
        return shell.errorlevel
    line = expand(text, shell.lookup, batch.arguments, shell.path_value)
    if batch.echo and not line.startswith("@"):
        context.out("")
        context.out(f"{shell.context.directory}>{line}")
    if len(line) > cmdparse.LINE_LIMIT:
        context.err(context.say("line_too_long"))
        raise BatchExit(1)
    try:
        tree = cmdparse.parse(line)
    except cmdparse.SyntaxRefused as refused:
        if line.count("(") != line.count(")"):
            raise NotSimulated("a block over several lines of a batch file") from refused
        context.err(context.say("unexpected", refused.token) if refused.token else context.say("syntax"))
        raise BatchExit(UNREADABLE) from refused
    return shell.errorlevel if tree is None else (yield from shell.run(tree, context))


def restore(shell: Shell, saved: Saved) -> None:
    """``endlocal``."""
    shell.context.environment.clear()
    shell.context.environment.update(saved.environment)
    shell.context.directory = saved.directory
    shell.delayed = saved.delayed
