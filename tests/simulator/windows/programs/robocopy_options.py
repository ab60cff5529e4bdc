# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of robocopy (operations 5.5)."""
from __future__ import annotations

import re
from dataclasses import dataclass, field

from simulator.windows.programs.base import NotSimulated

DEFAULT_RETRIES = 1_000_000
DEFAULT_WAIT = 30

_PLAIN = frozenset([
    "s", "e", "l", "j", "z", "b", "zb", "np", "ndl", "nfl", "nc", "ns", "njh", "njs", "bytes", "fp", "tee", "v", "x",
    "ts", "eta", "mir", "purge", "is", "it", "xx", "xc", "xn", "xo", "xl", "xj", "xjd", "xjf", "fft", "sl", "copyall",
    "nocopy", "nooffload", "compress", "unicode", "nodcopy", "dst", "a", "m", "sec", "timfix",
])
_NUMBERS = frozenset(["r", "w", "mt", "lev", "ipg", "max", "min"])
_TEXTS = frozenset(["log", "log+", "unilog", "unilog+", "copy", "dcopy", "a+", "a-", "ia", "xa"])
_LISTS = frozenset(["xf", "xd"])
_LATER = frozenset([
    "mov", "move", "create", "fat", "256", "mon", "mot", "rh", "pf", "efsraw", "secfix", "tbd", "reg", "job", "save",
    "quit", "nosd", "nodd", "if", "maxage", "minage", "maxlad", "minlad", "xx:", "im", "iomaxsize", "iorate",
    "threshold", "sparse", "noclone",
])


class InvalidParameter(Exception):
    """A switch that robocopy does not know, with its number among the arguments (from 1)."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number
        self.text = text


@dataclass
class Options:
    """What was asked for."""

    source: str = ""
    destination: str = ""
    patterns: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    numbers: dict[str, int] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    excluded_files: list[str] = field(default_factory=list)
    excluded_folders: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)

    @property
    def retries(self) -> int:
        """How often a failed copy is tried again: a million times unless told otherwise."""
        return self.numbers.get("r", DEFAULT_RETRIES)

    @property
    def wait(self) -> int:
        """Seconds between two tries."""
        return self.numbers.get("w", DEFAULT_WAIT)

    @property
    def recursive(self) -> bool:
        """Folders below are copied, too."""
        return bool(self.flags & {"s", "e", "mir"})

    @property
    def copies(self) -> set[str]:
        """What of a file is copied: letters of DATSOU."""
        if "copyall" in self.flags:
            return set("DATSOU")
        return set("DATS") if "sec" in self.flags else set(self.texts.get("copy", "DAT").upper())


def parse(words: list[str]) -> Options:
    """Read the arguments. Raises InvalidParameter, and NotSimulated for a switch this host does not imitate."""
    options = Options()
    positional: list[str] = []
    collecting: list[str] | None = None
    for number, word in enumerate(words, 1):
        if not word.startswith("/"):
            (positional if collecting is None else collecting).append(word)
            continue
        options.given.append(word)
        collecting = _switch(options, number, word)
    options.source, options.destination = (*positional[:2], "", "")[:2]
    options.patterns = positional[2:] or ["*.*"]
    return options


def _switch(options: Options, number: int, word: str) -> list[str] | None:
    name, colon, value = word[1:].partition(":")
    name = name.lower()
    if name in _LISTS and not colon:
        return options.excluded_files if name == "xf" else options.excluded_folders
    if name in _PLAIN and not colon:
        options.flags.add(name)
    elif name == "mt" and not colon:
        options.numbers["mt"] = 8
    elif name in _NUMBERS and re.fullmatch(r"\d+", value):
        options.numbers[name] = int(value)
        if name == "mt" and not 1 <= int(value) <= 128:
            raise InvalidParameter(number, word)
    elif name in _TEXTS and value:
        if name in ("copy", "dcopy") and not set(value.upper()) <= set("DATSOUX" if name == "copy" else "DATEX"):
            raise InvalidParameter(number, word)
        options.texts[name] = value
    elif name in _LATER:
        raise NotSimulated(f"robocopy /{name}")
    else:
        raise InvalidParameter(number, word)
    return None
