# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command interpreter: runs the tree of a line, with redirections, variables, built-ins and programs."""
from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TypeAlias

from simulator.windows import batch, cmdparse, errors
from simulator.windows.batch import Batch, BatchExit
from simulator.windows.cmdparse import Chain, Command, For, Group, If, Redirect, Simple
from simulator.windows.errors import Win32Error
from simulator.windows.filecommands import FILE_BUILTINS
from simulator.windows.files import Location
from simulator.windows.programs.base import (
    Context,
    FileSink,
    Memory,
    NeedInput,
    NotSimulated,
    Nowhere,
    Pipe,
    Program,
    Sink,
    Steps,
    wildcard,
)
from simulator.windows.shellcommands import STATE_BUILTINS, ShellExit

NOT_RECOGNIZED = 9009
SYSTEM_FOLDER = "c:\\windows\\system32"

_NAME_ENDS = cmdparse.DELIMITERS + "/\\.:[+(\"<>|"
_NOT_IMITATED = frozenset([
    "assoc", "break", "color", "cls", "date", "ftype", "keys", "path", "pause", "popd", "prompt",
    "pushd", "start", "time", "title", "verify", "vol",
])


_LineSteps: TypeAlias = Generator[float | NeedInput, None, list[dict[str, str]]]


class Shell:
    """One ``cmd.exe``: its variables, current directory, error level and options."""

    def __init__(self, context: Context, *, delayed: bool = False) -> None:
        self.context = context
        self.delayed = delayed
        self.errorlevel = 0
        self.loop: dict[str, str] = {}
        self.batch: Batch | None = None
        """The batch file that runs in it now."""

    # -- variables ---------------------------------------------------------------------------------------------

    def lookup(self, name: str) -> str | None:
        """A variable, or one of the values that cmd makes up."""
        value = self.context.variable(name)
        if value is not None:
            return value
        now = self.context.clock.now()
        made_up = {"ERRORLEVEL": str(self.errorlevel), "CD": self.context.directory, "CMDEXTVERSION": "2",
                   "RANDOM": str(now.microsecond % 32768),
                   "DATE": now.strftime("%a %m/%d/%Y"), "TIME": now.strftime("%H:%M:%S.00")}
        return made_up.get(name.upper())

    def text(self, raw: str) -> str:
        """The text of a command as it runs: loop variables, then delayed expansion where it is on."""
        if self.loop:
            names = re.escape("".join(self.loop))
            raw = re.sub(f"%(?:~([fdpnxz]*))?([{names}])", lambda match: self._loop_value(match.group(1), match.group(2)), raw)
        return cmdparse.expand_delayed(raw, self.lookup) if self.delayed else raw

    def _loop_value(self, modifiers: str | None, name: str) -> str:
        value = self.loop[name]
        return value if modifiers is None else self.path_value(modifiers, value)

    def path_value(self, modifiers: str, value: str) -> str:
        """Parts of a path by the letters of ``%~dpnxfz``; without any letter the value without quotes."""
        value = value.strip('"')
        if not modifiers:
            return value
        full = self.context.full(value)
        folder, _unused, last = full.rpartition("\\")
        stem, dot, extension = last.rpartition(".")
        if not dot:
            stem, extension = last, ""
        pieces = {"f": full, "d": full[:2], "p": folder[2:] + "\\", "n": stem, "x": dot + extension}
        path = pieces["f"] if "f" in modifiers else "".join(pieces[letter] for letter in "dpnx" if letter in modifiers)
        if "z" not in modifiers:
            return path
        return " ".join(filter(None, (self._size_of(full), path)))

    def _size_of(self, path: str) -> str:
        """The bytes of a file, 0 for a folder, nothing for what cannot be found."""
        try:
            place = self.context.locate(path)
        except Win32Error:
            return ""
        if not place.exists:
            return ""
        return "0" if place.is_directory else str(place.real.stat().st_size)

    # -- running a tree ----------------------------------------------------------------------------------------

    def line(self, line: str) -> Steps:
        """Run one line as ``cmd /c`` does; the result is the exit code."""
        context = self.context
        if len(line) > cmdparse.LINE_LIMIT:
            context.err(context.say("line_too_long"))
            return 1
        expanded = cmdparse.expand_percent(line, self.lookup)
        if len(expanded) > cmdparse.LINE_LIMIT:
            context.err(context.say("line_too_long"))
            return 1
        try:
            tree = cmdparse.parse(expanded)
        except cmdparse.SyntaxRefused as refused:
            context.err(context.say("unexpected", refused.token) if refused.token else context.say("syntax"))
            return 1
        if tree is None:
            return 0
        try:
            return (yield from self.run(tree, context))
        except ShellExit as leave:
            return leave.code

    def run(self, tree: Command, context: Context) -> Steps:
        """Run a tree with the given streams; the result is the status that ``&&`` and ``||`` look at."""
        if isinstance(tree, Chain):
            return (yield from self._chain(tree, context))
        if isinstance(tree, Group):
            streams = self._redirected(tree.redirects, context)
            return 1 if streams is None else (yield from self.run(tree.body, streams))
        if isinstance(tree, If):
            branch = tree.body if self._holds(tree) else tree.otherwise
            return self.errorlevel if branch is None else (yield from self.run(branch, context))
        if isinstance(tree, For):
            return (yield from self._loop(tree, context))
        return (yield from self._simple(tree, context))

    def _chain(self, tree: Chain, context: Context) -> Steps:
        if tree.op == "|":
            return (yield from self._pipe(tree, context))
        status = yield from self.run(tree.left, context)
        if (tree.op == "&&" and status != 0) or (tree.op == "||" and status == 0):
            return status
        return (yield from self.run(tree.right, context))

    def _pipe(self, tree: Chain, context: Context) -> Steps:
        """Both sides run in a cmd of their own, so what they set is lost and delayed expansion is off there."""
        between = Memory()
        left = self._child(replace(context, stdout=between))
        yield from left.guarded(tree.left)
        right = self._child(replace(context, stdin=Pipe(between.data, closed=True)))
        self.errorlevel = yield from right.guarded(tree.right)
        return self.errorlevel

    def _child(self, context: Context) -> Shell:
        child = Shell(replace(context, environment=dict(context.environment)))
        child.loop, child.errorlevel = dict(self.loop), self.errorlevel
        return child

    def guarded(self, tree: Command) -> Steps:
        """Run a tree in this shell; ``exit`` ends only it."""
        try:
            return (yield from self.run(tree, self.context))
        except ShellExit as leave:
            return leave.code

    # -- one command -------------------------------------------------------------------------------------------

    def _simple(self, command: Simple, context: Context) -> Steps:
        streams = self._redirected(command.redirects, context)
        if streams is None:
            return 1
        text = self.text(command.text).lstrip(cmdparse.DELIMITERS)
        if not text:
            return self.errorlevel
        streams.directory = self.context.directory
        name, tail = split_name(text)
        builtin = STATE_BUILTINS.get(name)
        try:
            if builtin is not None:
                return (yield from builtin(self, streams, tail))
            if name in FILE_BUILTINS:
                status, level = FILE_BUILTINS[name](streams, tail)
                self.errorlevel = self.errorlevel if level is None else level
                return status
            script = self.script(text, streams)
            if script is not None:
                return (yield from self._start_script(script, streams))
            found = self.program(text, streams)
        except Win32Error as refused:  # nothing a built-in could not say about one of its arguments
            streams.err(streams.error_text(refused.code))
            self.errorlevel = 1
            return 1
        if found is None:
            self.errorlevel = NOT_RECOGNIZED
            return NOT_RECOGNIZED
        self.errorlevel = yield from self._start(found[1], found[2], streams)
        return self.errorlevel

    def _start(self, program: Program, tail: str, streams: Context) -> Steps:
        child = replace(streams, environment=dict(streams.environment))
        try:
            code = yield from program(child, tail)
        except Win32Error as refused:
            streams.err(streams.error_text(refused.code))
            return 1
        self.context.codepage = child.codepage  # chcp sets that of the console
        return code

    def script(self, text: str, streams: Context) -> tuple[Location, str, str] | None:
        """The batch file a text begins with, the name it was called by, and its arguments."""
        word, tail = _first_word(text)
        name = word.replace('"', "")
        if not name or re.sub(r"\.(exe|com)\Z", "", name.lower()) in streams.programs:
            return None
        place = batch.locate(streams, name)
        return None if place is None else (place, word, tail)

    def _start_script(self, script: tuple[Location, str, str], streams: Context) -> Steps:
        """A batch file that another one starts without ``call`` takes its place."""
        outer = self.batch
        status = yield from batch.start(self, streams, *script)
        if outer is not None:
            raise BatchExit(status)
        return status

    def program(self, text: str, streams: Context) -> tuple[str, Program, str] | None:
        """The program a text begins with: its name, itself and its arguments; None, with a message, when there is none."""
        word, tail = _first_word(text)
        word = word.replace('"', "")
        folder, _unused, last = word.rpartition("\\")
        stem = re.sub(r"\.(exe|com)\Z", "", last.lower())
        if stem in _NOT_IMITATED and not folder:
            raise NotSimulated(f"the built-in command {stem}")
        if folder:
            place = streams.locate(folder)
            if place.exists and place.path.text().lower() == SYSTEM_FOLDER and stem in streams.programs:
                return stem, streams.programs[stem], tail
            if not place.exists:
                streams.err(streams.error_text(errors.PATH_NOT_FOUND))
                return None
        elif stem in streams.programs:
            return stem, streams.programs[stem], tail
        streams.err(streams.say("unknown_command", word))
        return None

    def _redirected(self, redirects: tuple[Redirect, ...], context: Context) -> Context | None:
        """The streams of a command; None, with a message, when a file cannot be opened."""
        sinks: dict[int, Sink] = {1: context.stdout, 2: context.stderr}
        stdin = context.stdin
        for redirect in redirects:
            if redirect.op == "dup":
                if redirect.handle in sinks and int(redirect.target) in sinks:
                    sinks[redirect.handle] = sinks[int(redirect.target)]
                continue
            target = self.text(redirect.target).replace('"', "")
            try:
                if redirect.op == "<":
                    data = b"" if target.lower() == "nul" else context.files.read_file(target, context.token, self.context.directory)
                    stdin = Pipe(bytearray(data), closed=True, piped=False)
                elif target.lower() == "nul":
                    sinks[redirect.handle] = Nowhere()
                else:
                    here = replace(context, directory=self.context.directory)
                    place = context.files.open_for_write(here.locate(target).path.text(), context.token, truncate=redirect.op == ">")
                    sinks[redirect.handle] = FileSink(context.files, place)
            except Win32Error as refused:
                context.err(context.error_text(refused.code))
                self.errorlevel = 1
                return None
        return replace(context, stdin=stdin, stdout=sinks[1], stderr=sinks[2])

    # -- if and for --------------------------------------------------------------------------------------------

    def _holds(self, tree: If) -> bool:
        left, right = self.text(tree.left), self.text(tree.right)
        if tree.kind == "exist":
            answer = self.exists(left.replace('"', ""))
        elif tree.kind == "defined":
            answer = self.lookup(left) is not None
        elif tree.kind == "errorlevel":
            answer = self.errorlevel >= _number(left)
        else:
            if tree.fold:
                left, right = left.lower(), right.lower()
            answer = _compare(tree.kind, left, right)
        return answer != tree.negate

    def exists(self, text: str) -> bool:
        """``if exist``: a link counts as there even when it is dead, unless a backslash follows it."""
        context = self.context
        try:
            if re.search(r"[*?]", text):
                return any(True for _name in self._matching(text, folders=None))
            place = context.locate(text, follow_last=text.endswith("\\"))
            return place.exists and (place.is_directory or not text.endswith("\\"))
        except Win32Error:
            return False

    def _matching(self, pattern: str, folders: bool | None) -> Iterator[str]:
        """Names that fit; nothing for a folder that is not there or may not be read: such a loop has no rounds, and is no error."""
        head, slash, last = pattern.rpartition("\\")
        test = wildcard(last)
        try:
            place = self.context.locate(head + slash if head or slash else ".")
            entries = list(self.context.files.children(place, self.context.token)) if place.is_directory else []
        except Win32Error:
            return
        for entry in entries:
            if test(entry.parts[-1]) and (folders is None or entry.is_directory is folders):
                yield head + slash + entry.parts[-1]

    def _loop(self, tree: For, context: Context) -> Steps:
        status = 0
        if tree.mode == "f":
            rounds = yield from self._lines(tree, context)
        else:
            rounds = [{tree.variable: value} for value in self._items(tree)]
        outer = self.loop
        try:
            for values in rounds:
                self.loop = {**outer, **values}
                status = yield from self.run(tree.body, context)
        finally:
            self.loop = outer
        return status

    def _items(self, tree: For) -> list[str]:
        items = self.text(tree.items)
        if tree.mode == "l":
            start, step, end = (_number(number) for number in (items + ",,").split(",")[:3])
            if step == 0:
                raise NotSimulated("a loop without end")
            return [str(number) for number in range(start, end + (1 if step > 0 else -1), step)]
        if tree.mode == "r":
            return list(self._below(self.text(tree.options).replace('"', ""), items.replace('"', "")))
        result: list[str] = []
        for word in re.findall(r'"[^"]*"|[^\s,;=]+', items):
            plain = word.replace('"', "")
            if re.search(r"[*?]", plain):
                result.extend(self._matching(plain, folders=tree.mode == "d"))
            else:
                result.append(word)
        return result

    def _below(self, root: str, pattern: str) -> Iterator[str]:
        """``for /r``: full paths of the files in a folder and all below it; links are not entered. Nothing for a folder that is not."""
        if not re.search(r"[*?]", pattern):
            raise NotSimulated("for /r with a name that has no wildcard")
        here = replace(self.context, directory=self.context.directory)
        if not self.exists(root or "."):
            return
        test = wildcard(pattern)
        folders = [here.full(root or ".")]
        while folders:
            folder = folders.pop()
            below = []
            for entry in self.context.files.children(here.existing(folder), self.context.token):
                path = folder.rstrip("\\") + "\\" + entry.parts[-1]
                if entry.is_directory:
                    below += [path] if entry.link is None else []
                elif test(entry.parts[-1]):
                    yield path
            folders.extend(reversed(below))

    def _lines(self, tree: For, context: Context) -> _LineSteps:
        """``for /f``: the variables of each round."""
        options = tree.options
        back = "usebackq" in options.lower()
        items = self.text(tree.items).strip()
        quotes = {"command": "`" if back else "'", "text": "'" if back else '"'}
        if items.startswith(quotes["command"]):
            output = Memory()
            child = Shell(replace(context, stdout=output, environment=dict(context.environment), directory=self.context.directory))
            yield from child.line(items[1:-1])
            lines = bytes(output.data).decode(context.encoding, "replace").splitlines()
        elif items.startswith(quotes["text"]):
            lines = [items[1:-1]]
        else:
            data = b"".join(context.files.read_file(word.replace('"', ""), context.token, self.context.directory)
                            for word in re.findall(r'"[^"]*"|\S+', items))
            lines = data.decode(context.encoding, "replace").splitlines()
        return [values for line in lines if line for values in _tokens(line, options, tree.variable)]


def _first_word(text: str) -> tuple[str, str]:
    """The name of a program, quotes kept, and the rest of the line."""
    match = re.match(rf'(?:"[^"]*"?|[^{re.escape(cmdparse.DELIMITERS)}"/])+', text)
    word = match.group() if match else text
    return word, text[len(word):]


def _tokens(line: str, options: str, variable: str) -> Iterator[dict[str, str]]:
    delimiters = re.search(r"delims=(.*?)(?:\s+(?:tokens|eol|skip|usebackq)\b|\Z)", options, re.IGNORECASE)
    marks = delimiters.group(1) if delimiters else " \t"
    if line.startswith(";"):
        return
    wanted = re.search(r"tokens=((?:\d{1,2}(?:-\d{1,2})?|\*)(?:,(?:\d{1,2}(?:-\d{1,2})?|\*))*)", options, re.IGNORECASE)
    chosen = wanted.group(1) if wanted else "1"
    spans = [match.span() for match in re.finditer(f"[^{re.escape(marks)}]+", line)] if marks else [(0, len(line))]
    values: list[str] = []
    last = 0
    for item in re.findall(r"\d+-\d+|\d+|\*", chosen):
        if item == "*":
            values.append(line[spans[last][0]:] if last < len(spans) else "")
            continue
        first, _unused, end = item.partition("-")
        for number in range(int(first), int(end or first) + 1):
            last = number
            values.append(line[slice(*spans[number - 1])] if 1 <= number <= len(spans) else "")
    if values and any(values):
        yield {chr(ord(variable) + index): value for index, value in enumerate(values)}


def _number(text: str) -> int:
    """A number as cmd reads one: anything else counts as 0."""
    match = re.match(r"\s*[+-]?\d{1,9}", text)
    return int(match.group()) if match else 0


def _compare(kind: str, left: str, right: str) -> bool:
    if kind == "==":
        return left == right
    numeric = re.fullmatch(r"-?\d+", left) and re.fullmatch(r"-?\d+", right)
    order = (int(left) > int(right)) - (int(left) < int(right)) if numeric else (left > right) - (left < right)
    return {"EQU": order == 0, "NEQ": order != 0, "LSS": order < 0, "LEQ": order <= 0, "GTR": order > 0, "GEQ": order >= 0}[kind]


def split_name(text: str) -> tuple[str, str]:
    """The name of a built-in in lower case and the rest; the name is empty when the text does not begin like one."""
    match = re.match(r"[A-Za-z]+", text)
    if not match:
        return "", text
    name, rest = match.group().lower(), text[match.end():]
    if rest and rest[0] not in _NAME_ENDS:
        return "", text
    if rest[:1] in (".", ":", "\\") and name not in ("echo", "cd", "chdir", "rem"):
        return "", text
    return name, rest


def run_line(context: Context, command_line: str, *, delayed: bool = False) -> Steps:
    """The process ``cmd.exe /c <command_line>``."""
    if len(command_line) > cmdparse.LINE_LIMIT:
        context.err(context.say("line_too_long"))
        return 1
    return (yield from Shell(context, delayed=delayed).line(cmdparse.strip_outer_quotes(command_line)))
