# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What robocopy prints: tab-separated lines with words in the language of the host, to the console or to a log."""
from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from simulator.windows.errors import Win32Error
from simulator.windows.files import Location
from simulator.windows.listing import local_time
from simulator.windows.programs.base import Context
from simulator.windows.programs.robocopy_options import Options

_RULE = "-" * 79
_LONG_TIME = "%A, %B %d, %Y %I:%M:%S %p"


class Report:
    """The output of one run. Raises Win32Error at the start when the log cannot be made."""

    def __init__(self, context: Context, options: Options) -> None:
        self.context = context
        self.options = options
        self.started = context.clock.now()
        self._log: Location | None = None
        self._unicode = False
        self._tenths = -1
        for name in ("log", "log+", "unilog", "unilog+"):
            if name in options.texts:
                self._open(options.texts[name], append=name.endswith("+"), unicode=name.startswith("unilog"))

    def _open(self, path: str, *, append: bool, unicode: bool) -> None:
        context = self.context
        self._unicode = unicode
        self._log = context.files.open_for_write(context.full(path), context.token, truncate=not append)
        if unicode and self._log.real.stat().st_size == 0:
            context.files.append(self._log, b"\xff\xfe")
        context.out("")
        context.out(f" Log File : {context.full(path)}")

    def line(self, text: str, end: str = "\r\n") -> None:
        """One line, to the log, or to the console, or with /TEE to both."""
        if self._log is not None:
            data = (text + end).encode("utf-16-le") if self._unicode else self.context.encode(text + end)
            try:
                self.context.files.append(self._log, data)
            except Win32Error:
                self._log = None  # a full disk ends the log, not the copying
        if self._log is None or "tee" in self.options.flags:
            self.context.out(text, end)

    def _now(self) -> datetime:
        return local_time(self.context, self.context.clock.now())

    def header(self) -> None:
        """Title, source, destination, options; not with /NJH."""
        if "njh" in self.options.flags:
            return
        context, options = self.context, self.options
        self.line("")
        for text in (_RULE, context.say("rc_title"), _RULE, "", context.say("rc_started", self._now().strftime(_LONG_TIME)),
                     context.say("rc_source", options.source.rstrip("\\") + "\\"),
                     context.say("rc_dest", options.destination.rstrip("\\") + "\\"), "",
                     context.say("rc_files", " ".join(options.patterns)), "", context.say("rc_options", " ".join(options.given)),
                     "", _RULE, ""):
            self.line(text)

    def folder(self, path: str, files: int, new: bool) -> None:
        """A folder that is entered; not with /NDL."""
        if "ndl" in self.options.flags:
            return
        word = self.context.say("rc_new_dir") if new else ""
        self.line(f"\t{word:>10}{files:>10}\t{path.rstrip(chr(92))}\\")

    def file(self, word: str, place: Location, size: int) -> None:
        """A file with its class; not with /NFL."""
        if "nfl" in self.options.flags:
            return
        name = place.path.text() if self.options.flags & {"fp", "mt"} else place.parts[-1]
        label = "" if "nc" in self.options.flags else f"    {self.context.say(word):<10}"
        amount = "" if "ns" in self.options.flags else f"\t\t{self.amount(size):>8}"
        self.line(f"\t{label}{amount}\t{name}")

    def surplus(self, place: Location) -> None:
        """Something at the destination that the source does not have."""
        if place.is_directory:
            if "ndl" not in self.options.flags:
                self.line(f"\t{self.context.say('rc_extra_dir'):>10}{-1:>10}\t{place.path.text()}\\")
        else:
            self.file("rc_extra_file", place, place.real.stat().st_size)

    def progress(self, done: int, size: int) -> None:
        """How much of a file is copied, each time a tenth of a percent is new; not with /NP. Goes to the log, too.

        Inferred: the form of the number, and that a carriage return follows it.
        """
        tenths = done * 1000 // size
        if self._shows_progress and done < size and tenths != self._tenths:
            self._tenths = tenths
            self.line(f"{tenths / 10:5.1f}%  ", end="\r")

    @property
    def _shows_progress(self) -> bool:
        return not self.options.flags & {"np", "nfl"} and "mt" not in self.options.numbers

    def done(self) -> None:
        """The progress of a finished file; not with /NP."""
        self._tenths = -1
        if self._shows_progress:
            self.line("100%  ")

    def error(self, code: int, doing: str, path: str) -> None:
        """An error with its number and its text."""
        context = self.context
        stamp = self._now().strftime("%Y/%m/%d %H:%M:%S")
        self.line(context.say("rc_error", stamp, code, context.say(doing), path))
        self.line(context.error_text(code))

    def amount(self, size: int) -> str:
        """Bytes with /BYTES, otherwise rounded with k, m or g."""
        if "bytes" not in self.options.flags:
            for unit, letter in ((1024**4, "t"), (1024**3, "g"), (1024**2, "m")):
                if size >= unit:
                    return f"{size / unit:.1f} {letter}"
        return str(size)

    def summary(self, counts: Mapping[str, list[int]]) -> None:
        """The table at the end; not with /NJS."""
        if "njs" in self.options.flags:
            return
        context = self.context
        self.line("")
        self.line(_RULE)
        self.line("")
        self.line(context.say("rc_columns"))
        for kind in ("dirs", "files", "bytes"):
            cells = [self.amount(number) if kind == "bytes" else str(number) for number in counts[kind]]
            self.line(context.say(f"rc_row_{kind}") + "".join(f"{cell:>10}" for cell in cells).removeprefix(" "))
        seconds = int((context.clock.now() - self.started).total_seconds())
        elapsed = f"{seconds // 3600}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
        self.line(context.say("rc_row_times") + f"{elapsed:>9}{elapsed:>10}")
        self.line(context.say("rc_ended", self._now().strftime(_LONG_TIME)))
        self.line("")
