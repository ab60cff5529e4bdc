# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``findstr``: lines of standard input or of files that match; exit code 0 found, 1 not found, 2 wrong arguments."""
from __future__ import annotations

import re
from collections.abc import Iterator

from simulator.windows.cmdparse import split_arguments
from simulator.windows.errors import Win32Error
from simulator.windows.files import Location
from simulator.windows.programs.base import Context, Steps, wildcard

PIPED_LINE_LIMIT = 8191
_LETTERS = frozenset("besrlivxnmopc")


class _Options:
    def __init__(self, words: list[str]) -> None:
        self.flags: set[str] = set()
        self.literals: list[str] = []
        self.strings: list[str] = []
        self.names: list[str] = []
        self.wrong = ""
        rest = list(words)
        while rest and rest[0][:1] in ("/", "-"):
            self._switch(rest.pop(0))
        if not self.literals and rest:
            self.strings = [word for word in rest.pop(0).split(" ") if word]
        self.names = rest

    def _switch(self, word: str) -> None:
        body = word[1:]
        if body[:2].lower() == "c:":
            self.literals.append(body[2:])
        elif body and all(letter in _LETTERS for letter in body.lower().replace("/", "")):
            self.flags.update(body.lower().replace("/", ""))
        elif body.lower() == "offline":
            return
        else:
            self.wrong = word

    def tests(self) -> list[re.Pattern[bytes]]:
        patterns = [self._pattern(text, "r" in self.flags) for text in self.literals]
        patterns += [self._pattern(text, "l" not in self.flags) for text in self.strings]
        return patterns

    def _pattern(self, text: str, expression: bool) -> re.Pattern[bytes]:
        source = _translate(text) if expression else re.escape(text)
        if "x" in self.flags or "b" in self.flags:
            source = f"^(?:{source})"
        if "x" in self.flags or "e" in self.flags:
            source = f"(?:{source})$"
        flags = re.IGNORECASE if "i" in self.flags else 0
        try:
            return re.compile(source.encode("utf-8"), flags)
        except re.error:  # a class such as [z-a], in which nothing is
            return re.compile(b"(?!)", flags)


def _translate(text: str) -> str:
    r"""The small expression language of findstr: ``. * ^ $ [class] \x \< \>``."""
    out: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            follow = text[at + 1]
            out.append({"<": r"\b(?=\w)", ">": r"\b(?<=\w)"}.get(follow, re.escape(follow)))
            at += 2
            continue
        end = text.find("]", at + 2) if char == "[" else -1
        if end > 0:
            inside = text[at + 1:end]
            out.append("[" + ("^" + re.escape(inside[1:]) if inside.startswith("^") else re.escape(inside)).replace("\\-", "-") + "]")
            at = end + 1
            continue
        last = at == len(text) - 1
        out.append(char if char in ".*" or (char == "^" and at == 0) or (char == "$" and last) else re.escape(char))
        at += 1
    return "".join(out)


def run(context: Context, tail: str) -> Steps:
    """Search; piped lines longer than 8191 bytes are refused as the original refuses them."""
    options = _Options(split_arguments(tail))
    if options.wrong or not (options.strings or options.literals):
        context.err(f"FINDSTR: {options.wrong or 'Bad command line'}")
        return 2
    if options.names:
        return _search_files(context, options)
    data = yield from context.stdin.read_all()
    return 0 if _search(context, options, data, b"", piped=True) else 1


def _search_files(context: Context, options: _Options) -> int:
    found = False
    places = list(_files(context, options))
    many = len(options.names) > 1 or "s" in options.flags or any(re.search(r"[*?]", name) for name in options.names)
    for name, place in places:
        try:
            data = context.files.read_file(place.path.text(), context.token)
        except Win32Error:
            context.err(f"FINDSTR: Cannot open {name}")
            continue
        prefix = context.encode(name + ":") if many or "m" in options.flags else b""
        found = _search(context, options, data, prefix, piped=False) or found
    return 0 if found else 1


def _files(context: Context, options: _Options) -> Iterator[tuple[str, Location]]:
    for name in options.names:
        head, slash, last = name.rpartition("\\")
        try:
            folder = context.existing(head + slash if slash else ".")
        except Win32Error:
            context.err(f"FINDSTR: Cannot open {name}")
            continue
        matched = list(_walk(context, folder, head + slash, last, "s" in options.flags))
        if not matched:
            context.err(f"FINDSTR: Cannot open {name}")
        yield from matched


def _walk(context: Context, folder: Location, prefix: str, pattern: str, deep: bool) -> Iterator[tuple[str, Location]]:
    test = wildcard(pattern)
    for entry in list(context.files.children(folder, context.token)):
        if entry.is_directory:
            if deep and entry.link is None:
                yield from _walk(context, entry, f"{prefix}{entry.parts[-1]}\\", pattern, deep)
        elif test(entry.parts[-1]):
            yield prefix + entry.parts[-1], entry


def _search(context: Context, options: _Options, data: bytes, prefix: bytes, *, piped: bool) -> bool:
    tests = options.tests()
    found = False
    for number, raw in enumerate(re.findall(rb"[^\n]*\n|[^\n]+\Z", data), 1):
        line = raw.rstrip(b"\r\n")
        if piped and len(line) > PIPED_LINE_LIMIT:
            context.err(f"FINDSTR: Line {number} is too long.")
            continue
        if any(test.search(line) for test in tests) == ("v" in options.flags):
            continue
        found = True
        if "m" in options.flags:
            context.stdout.write(prefix.removesuffix(b":") + b"\r\n")
            return True
        lead = prefix + (f"{number}:".encode() if "n" in options.flags else b"")
        context.stdout.write(lead + (raw if raw.endswith(b"\n") else raw + b"\r\n"))
    return found
