# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The grammar of one ``cmd /c`` line: percent expansion, then the tree of commands, pipes, redirections, ``if`` and ``for``."""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

LINE_LIMIT = 8191
DELIMITERS = " \t,;=\xa0"

Lookup = Callable[[str], str | None]


class SyntaxRefused(Exception):
    """cmd refuses the line: ``token`` was unexpected, or empty for a general syntax error."""

    def __init__(self, token: str = "") -> None:
        super().__init__(token)
        self.token = token


@dataclass(frozen=True)
class Redirect:
    """``handle`` op ``target``: op is ``<``, ``>``, ``>>`` or ``dup`` (then target is the other handle's digit)."""

    handle: int
    op: str
    target: str


@dataclass(frozen=True)
class Simple:
    """A command with its arguments as text: carets are gone, quotes stay."""

    text: str
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True)
class Chain:
    """``left`` op ``right``; op is ``&``, ``&&``, ``||`` or ``|``."""

    op: str
    left: Command
    right: Command


@dataclass(frozen=True)
class Group:
    """Commands in parentheses."""

    body: Command
    redirects: tuple[Redirect, ...] = ()


@dataclass(frozen=True)
class If:
    """``kind``: ``exist``, ``defined``, ``errorlevel`` or a comparison (``==``, ``EQU``, ``NEQ``, ``LSS``, ``LEQ``, ``GTR``, ``GEQ``)."""

    kind: str
    left: str
    right: str
    negate: bool
    fold: bool
    body: Command
    otherwise: Command | None


@dataclass(frozen=True)
class For:
    """``for [/mode] %variable in (items) do body``; ``mode`` is empty, ``d``, ``l``, ``f`` or ``r``, ``options`` its extra word."""

    mode: str
    options: str
    variable: str
    items: str
    body: Command


Command: TypeAlias = "Simple | Chain | Group | If | For"


def expand_percent(line: str, lookup: Lookup) -> str:
    """Replace ``%NAME%`` as at a command line (not in a batch file): also inside quotes; an unknown name stays as it is."""
    if "%" not in line:
        return line
    out: list[str] = []
    at = 0
    while at < len(line):
        end = line.find("%", at + 1) if line[at] == "%" else -1
        value = _variable(line[at + 1:end], lookup) if end > at + 1 else None
        if value is None:
            out.append(line[at])
            at += 1
        else:
            out.append(value)
            at = end + 1
    return "".join(out)


def _variable(text: str, lookup: Lookup) -> str | None:
    name, colon, change = text.partition(":")
    value = lookup(name) if name else None
    if value is None or not colon:
        return value
    cut = re.fullmatch(r"~(-?\d+)?(?:,(-?\d+))?", change)
    if cut:
        start = int(cut.group(1) or 0)
        rest = value[start:] if start >= 0 else value[max(0, len(value) + start):]
        if cut.group(2) is None:
            return rest
        count = int(cut.group(2))
        return rest[:count]
    old, equals, new = change.partition("=")
    if not equals or not old.strip("*"):
        return None
    if old.startswith("*"):
        found = value.lower().find(old[1:].lower())
        return value if found < 0 else new + value[found + len(old) - 1:]
    return re.sub(re.escape(old), lambda _match: new, value, flags=re.IGNORECASE)


def expand_delayed(text: str, lookup: Lookup) -> str:
    """Replace ``!NAME!`` where delayed expansion is on; an unknown name becomes nothing. The values are not looked at again."""
    if "!" not in text:
        return text
    out: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "^" and at + 1 < len(text):
            out.append(text[at + 1])
            at += 2
        elif char == "!":
            end = text.find("!", at + 1)
            if end < 0:
                at += 1
                continue
            out.append(_variable(text[at + 1:end], lookup) or "")
            at = end + 1
        else:
            out.append(char)
            at += 1
    return "".join(out)


class Parser:
    """Reads one line whose percent signs are already expanded."""

    def __init__(self, line: str) -> None:
        self.line = re.split(r"[\r\n]", line, maxsplit=1)[0]
        self.at = 0
        self.depth = 0

    def parse(self) -> Command | None:
        """The whole line; None when it is empty."""
        self._blanks()
        if self.at >= len(self.line):
            return None
        tree = self._sequence()
        if self.at < len(self.line):
            raise SyntaxRefused(self.line[self.at])
        return tree

    # -- operators, the loosest first --------------------------------------------------------------------------

    def _sequence(self, first: Command | None = None) -> Command:
        left = self._binary(("||", "&&", "|"), first)
        while self._operator() == "&":
            self.at += 1
            self._blanks()
            if self._ended():
                return left
            left = Chain("&", left, self._binary(("||", "&&", "|")))
        return left

    def _binary(self, operators: tuple[str, ...], first: Command | None = None) -> Command:
        if not operators:
            return first or self._command()
        left = self._binary(operators[1:], first)
        while self._operator() == operators[0]:
            self.at += len(operators[0])
            left = Chain(operators[0], left, self._binary(operators[1:]))
        return left

    def _operator(self) -> str:
        self._blanks()
        for operator in ("&&", "||", "&", "|"):
            if self.line.startswith(operator, self.at):
                return operator
        return ""

    def _ended(self) -> bool:
        return self.at >= len(self.line) or (self.depth > 0 and self.line[self.at] == ")")

    def _blanks(self) -> None:
        while self.at < len(self.line) and self.line[self.at] in DELIMITERS:
            self.at += 1

    # -- one command -------------------------------------------------------------------------------------------

    def _command(self) -> Command:
        self._blanks()
        while self.line.startswith("@", self.at):
            self.at += 1
            self._blanks()
        if self.at >= len(self.line):
            raise SyntaxRefused
        operator = self._operator()
        if operator or self.line[self.at] == ")":
            raise SyntaxRefused(operator or ")")
        if self.line[self.at] == "(":
            return self._group()
        word = re.match(r"(if|for|rem)(?=[\s,;=(/.\\:+]|\Z)", self.line[self.at:], re.IGNORECASE)
        keyword = word.group(1).lower() if word else ""
        if keyword == "if":
            return self._if()
        if keyword == "for":
            return self._for()
        if keyword == "rem":
            self.at = len(self.line)
            return Simple("rem")
        return self._simple()

    def _group(self) -> Group:
        self.at += 1
        self.depth += 1
        self._blanks()
        body = self._sequence()
        self._blanks()
        if not self.line.startswith(")", self.at):
            raise SyntaxRefused
        self.at += 1
        self.depth -= 1
        redirects: list[Redirect] = []
        while True:
            self._blanks()
            match = re.match(r"(\d?)(?=[<>])", self.line[self.at:])
            if not match:
                return Group(body, tuple(redirects))
            self.at += len(match.group(1))
            redirects.append(self._redirect(match.group(1)))

    def _simple(self) -> Simple:
        text: list[str] = []
        redirects: list[Redirect] = []
        quoted = False
        fixed = 0  # how much of the text cannot be the digit before a redirection
        while self.at < len(self.line):
            char = self.line[self.at]
            if char == '"':
                quoted = not quoted
            elif quoted:
                pass
            elif char == "^":
                self.at += 1
                if self.at < len(self.line):
                    text.append(self.line[self.at])
                    fixed = len(text)
                    self.at += 1
                continue
            elif char in "<>":
                digit = ""
                if len(text) > fixed and text[-1].isdigit() and (len(text) == 1 or text[-2] in DELIMITERS):
                    digit = text.pop()
                redirects.append(self._redirect(digit))
                fixed = len(text)
                continue
            elif char in "&|" or (char == ")" and self.depth):
                break
            text.append(char)
            self.at += 1
        return Simple("".join(text), tuple(redirects))

    def _redirect(self, digit: str) -> Redirect:
        op = ">>" if self.line.startswith(">>", self.at) else self.line[self.at]
        self.at += len(op)
        handle = int(digit) if digit else (0 if op == "<" else 1)
        if self.line.startswith("&", self.at):
            match = re.match(r"&(\d)", self.line[self.at:])
            if not match:
                raise SyntaxRefused("&")
            self.at += 2
            return Redirect(handle, "dup", match.group(1))
        target = self._word()
        if not target:
            raise SyntaxRefused(self._operator() or "")
        return Redirect(handle, op, target)

    def _word(self) -> str:
        """The next token, quotes kept, up to a blank or an operator."""
        self._blanks()
        text: list[str] = []
        quoted = False
        while self.at < len(self.line):
            char = self.line[self.at]
            if char == '"':
                quoted = not quoted
            elif not quoted:
                if char == "^" and self.at + 1 < len(self.line):
                    self.at += 1
                    char = self.line[self.at]
                elif char in DELIMITERS or char in "&|<>" or (char == ")" and self.depth):
                    break
            text.append(char)
            self.at += 1
        return "".join(text)

    # -- if and for --------------------------------------------------------------------------------------------

    def _if(self) -> If:
        self.at += 2
        fold = negate = False
        while True:
            self._blanks()
            if re.match(r"/i\b", self.line[self.at:], re.IGNORECASE):
                fold, self.at = True, self.at + 2
            elif re.match(r"not\s", self.line[self.at:], re.IGNORECASE):
                negate, self.at = True, self.at + 3
            else:
                break
        kind, left, right = self._condition()
        self._blanks()
        body: Command
        otherwise: Command | None = None
        if self.line.startswith("(", self.at):
            group = self._group()
            self._blanks()
            if re.match(r"else\b", self.line[self.at:], re.IGNORECASE):
                self.at += 4
                return If(kind, left, right, negate, fold, group, self._sequence())
            body = self._sequence(group)
        else:
            body = self._sequence()
        return If(kind, left, right, negate, fold, body, otherwise)

    def _condition(self) -> tuple[str, str, str]:
        word = re.match(r"(exist|defined|errorlevel|cmdextversion)\s+", self.line[self.at:], re.IGNORECASE)
        if word:
            self.at += word.end()
            return word.group(1).lower(), self._word(), ""
        left = self._word()
        equals = re.match(r"\s*==", self.line[self.at:])
        if equals:
            self.at += equals.end()
            return "==", left, self._word()
        compare = re.match(r"\s*(EQU|NEQ|LSS|LEQ|GTR|GEQ)\s", self.line[self.at:], re.IGNORECASE)
        if not compare:
            raise SyntaxRefused(self._word())
        self.at += compare.end()
        return compare.group(1).upper(), left, self._word()

    def _for(self) -> For:
        head = re.match(r'for\s+(?:/(?P<mode>[dlfr])\s*)?(?P<options>(?:"[^"]*"|[^%\s"]+)?)\s*%(?P<variable>\S)\s+in\s*\(',
                        self.line[self.at:], re.IGNORECASE)
        if not head:
            raise SyntaxRefused
        self.at += head.end()
        start, quoted = self.at, False
        while self.at < len(self.line) and (quoted or self.line[self.at] != ")"):
            quoted = quoted != (self.line[self.at] == '"')
            self.at += 1
        items = self.line[start:self.at]
        do = re.match(r"\)\s*do\s+", self.line[self.at:], re.IGNORECASE)
        if not do:
            raise SyntaxRefused
        self.at += do.end()
        return For((head.group("mode") or "").lower(), head.group("options").strip('"'), head.group("variable"), items, self._sequence())


@lru_cache(maxsize=1024)
def parse(line: str) -> Command | None:
    """The tree of a line; None when it holds no command. Raises SyntaxRefused."""
    return Parser(line).parse()


def strip_outer_quotes(line: str) -> str:
    """What ``cmd /c`` does with a line that begins with a quote: keep two quotes around a program's name, else drop first and last."""
    line = line.lstrip(" \t")
    if not line.startswith('"'):
        return line
    inside = line[1:line.rfind('"')] if line.count('"') == 2 else ""
    plain = line.count('"') == 2 and not re.search(r"[&<>()@^|]", inside) and re.search(r"\s", inside)
    if plain and re.search(r"\.(exe|com|cmd|bat)\Z", inside, re.IGNORECASE):
        return line
    last = line.rfind('"')
    return line[1:last] + line[last + 1:] if last > 0 else line[1:]


def split_words(text: str) -> list[str]:
    """The arguments of a built-in: split at blanks, quotes removed."""
    words: list[str] = []
    current: list[str] = []
    quoted = seen = False
    for char in text:
        if char == '"':
            quoted, seen = not quoted, True
        elif char in DELIMITERS and not quoted:
            if seen or current:
                words.append("".join(current))
            current, seen = [], False
        else:
            current.append(char)
    if seen or current:
        words.append("".join(current))
    return words


def split_arguments(text: str) -> list[str]:
    r"""The arguments of a program, by the rules of the C run-time: ``\"`` is a quote, ``\\"`` a backslash and the end of quoting."""
    arguments: list[str] = []
    current: list[str] = []
    quoted = seen = False
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            run = len(text) - at - len(text[at:].lstrip("\\"))
            at += run
            if text[at:at + 1] == '"':
                current.append("\\" * (run // 2) + ('"' if run % 2 else ""))
                at += run % 2
            else:
                current.append("\\" * run)
            seen = True
            continue
        if char == '"':
            if quoted and text[at + 1:at + 2] == '"':
                current.append('"')
                at += 1
            else:
                quoted = not quoted
            seen = True
        elif char in " \t" and not quoted:
            if seen:
                arguments.append("".join(current))
            current, seen = [], False
        else:
            current.append(char)
            seen = True
        at += 1
    if seen:
        arguments.append("".join(current))
    return arguments
