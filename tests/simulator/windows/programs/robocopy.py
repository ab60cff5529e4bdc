# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``robocopy``: copies in simulated time, piece by piece, so that whoever writes to the source meanwhile tears the copy (operations 5.5).

Exit code: 1 copied, 2 extra entries, 4 mismatches, 8 some copies failed, 16 fatal.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from simulator.windows import acl, errors, paths
from simulator.windows.cmdparse import split_arguments
from simulator.windows.errors import Win32Error
from simulator.windows.files import Location
from simulator.windows.identity import Token
from simulator.windows.programs import robocopy_options
from simulator.windows.programs.base import Context, NeedInput, Steps, wildcard
from simulator.windows.programs.robocopy_options import InvalidParameter, Options
from simulator.windows.programs.robocopy_output import Report
from simulator.windows.volumes import key_of

COPIED, EXTRA, MISMATCH, FAILED, FATAL = 1, 2, 4, 8, 16
UNFINISHED = datetime(1980, 1, 2, tzinfo=UTC)
"""The time of a file that is not copied completely, so that the next run copies it again."""

_NO_USE_WAITING = frozenset([errors.FILE_NOT_FOUND, errors.PATH_NOT_FOUND, errors.INVALID_NAME, errors.NOT_A_DIRECTORY,
                             errors.ALREADY_EXISTS])
_BACKUP_OPERATORS = "S-1-5-32-551"

_Wait = Generator["float | NeedInput", None, bool]


def run(context: Context, tail: str) -> Steps:
    """The program."""
    try:
        options = robocopy_options.parse(split_arguments(tail))
    except InvalidParameter as wrong:
        context.out("")
        context.out(context.say("rc_invalid", wrong.number, wrong.text))
        return FATAL
    try:
        report = Report(context, options)
    except Win32Error as refused:
        context.out(f"ERROR {refused.code} (0x{refused.code:08X}) Opening Log File")
        context.out(context.error_text(refused.code))
        return FATAL
    if not options.source or not options.destination:
        report.line(context.say("rc_missing"))
        return FATAL
    report.header()
    if options.flags & {"b", "zb"} and not (context.token.elevated or _BACKUP_OPERATORS in context.token.sids):
        report.line("ERROR : You do not have the Backup and Restore Files user rights.")
        return FATAL
    job = _Job(context, options, report)
    code = yield from job.all()
    report.summary(job.counts)
    return code


@dataclass
class _Job:
    context: Context
    options: Options
    report: Report
    code: int = 0
    counts: dict[str, list[int]] = field(default_factory=lambda: {kind: [0] * 6 for kind in ("dirs", "files", "bytes")})
    """Total, copied, skipped, mismatch, failed, extras."""

    @property
    def token(self) -> Token | None:
        """Backup rights pass over access lists of this host, not over those of another one, and never over locks."""
        return None if self.options.flags & {"b", "zb"} else self.context.token

    def count(self, column: int, size: int) -> None:
        """A file ends in one column of the summary."""
        self.counts["files"][column] += 1
        self.counts["bytes"][column] += size

    def all(self) -> Steps:
        """Copy the tree; the exit code."""
        started = yield from self._patiently("rc_accessing", self.options.source, self._check_source)
        if not started:
            return FATAL
        prepare = self._name_destination if "l" in self.options.flags else self._make_destination
        started = yield from self._patiently("rc_creating", self.options.destination, prepare)
        if not started:
            return FATAL
        yield from self._folder(self.path(self.options.source), self.path(self.options.destination), 1)
        return self.code

    def path(self, text: str) -> paths.WindowsPath:
        """An argument as a path; robocopy has no limit of 260, and does not take device paths."""
        if paths.is_device_form(text):
            raise Win32Error(errors.INVALID_NAME, text)
        return paths.parse(text, self.context.directory)

    def _patiently(self, doing: str, text: str, attempt: Callable[[], None]) -> _Wait:
        """Try until it works, as often as /R says; True when it did."""
        for left in range(self.options.retries, -1, -1):
            try:
                attempt()
            except Win32Error as refused:
                self.report.error(refused.code, doing, text)
                if refused.code in _NO_USE_WAITING:
                    return False
                if left == 0:
                    break
                self.report.line(self.context.say("rc_waiting", self.options.wait))
                yield float(self.options.wait)
            else:
                return True
        self.report.line(self.context.say("rc_limit"))
        return False

    def _check_source(self) -> None:
        place = self._at(self.path(self.options.source))
        if not place.exists:
            raise Win32Error(errors.FILE_NOT_FOUND, self.options.source)
        if not place.is_directory:
            raise Win32Error(errors.NOT_A_DIRECTORY, self.options.source)
        self.context.files.check(place, acl.READ_DATA, self._token_for(place))

    def _name_destination(self) -> None:
        self.path(self.options.destination)

    def _make_destination(self) -> None:
        self._make_folder(self.path(self.options.destination))
        place = self._at(self.path(self.options.destination))
        self.context.files.check(place, acl.READ_DATA, self._token_for(place))

    def _make_folder(self, path: paths.WindowsPath) -> None:
        files = self.context.files
        for count in range(0 if path.kind == "unc" else 1, len(path.parts) + 1):
            above = paths.WindowsPath(path.kind, path.root, path.parts[:count], verbatim=path.verbatim)
            place = self._at(above)
            if not place.exists:
                files.create_directory(above.text(), self._token_for(place))
            elif not place.is_directory:
                raise Win32Error(errors.ALREADY_EXISTS, above.text())

    def _at(self, path: paths.WindowsPath) -> Location:
        """Where a path leads, if the share it is on lets the caller in: backup rights do not reach there."""
        return self.context.files.walk(path, token=self.context.token)

    def _token_for(self, place: Location) -> Token | None:
        return self.context.token if place.remote is not None else self.token

    # -- one folder --------------------------------------------------------------------------------------------

    def _folder(self, source: paths.WindowsPath, target: paths.WindowsPath, level: int) -> Generator[float | NeedInput, None, None]:
        files = self.context.files
        try:
            place = self._at(source)
            children = list(files.children(place, self._token_for(place)))
        except Win32Error as refused:
            self.report.error(refused.code, "rc_accessing", source.text() + "\\")
            self.code |= FAILED
            self.counts["dirs"][4] += 1
            return
        there = self._at(target) if self._exists(target) else None
        chosen = [entry for entry in children if not entry.is_directory and self._wanted(entry)]
        self.report.folder(source.text(), len(chosen), there is None)
        self.counts["dirs"][0] += 1
        self.counts["dirs"][1 if there is None or level > 1 else 2] += 1
        if level == 1 or there is not None:
            self._extras(children, there)
        for entry in chosen:
            yield from self._file(entry.path, target.child(entry.parts[-1]))
        if self.options.recursive and level != self.options.numbers.get("lev", 0):
            for entry in children:
                if entry.is_directory and self._enters(entry):
                    yield from self._subfolder(entry, target, level)

    def _subfolder(self, entry: Location, target: paths.WindowsPath, level: int) -> Generator[float | NeedInput, None, None]:
        below = target.child(entry.parts[-1])
        try:
            inside = self._at(entry.path)
            empty = not any(True for _entry in self.context.files.children(inside, self._token_for(inside)))
            if empty and not self.options.flags & {"e", "mir"}:
                return
            if "l" not in self.options.flags:
                self._make_folder(below)
        except Win32Error as refused:
            self.report.error(refused.code, "rc_accessing", entry.path.text() + "\\")
            self.code |= FAILED
            return
        yield from self._folder(entry.path, below, level + 1)

    def _exists(self, path: paths.WindowsPath) -> bool:
        try:
            return self._at(path).exists
        except Win32Error:
            return False

    def _wanted(self, entry: Location) -> bool:
        name, full = entry.parts[-1], entry.path.text()
        if entry.link is not None and self.options.flags & {"xj", "xjf"}:
            return False
        if any(wildcard(pattern)(full if "\\" in pattern else name) for pattern in self.options.excluded_files):
            return False
        return any(wildcard(pattern)(name) for pattern in self.options.patterns)

    def _enters(self, entry: Location) -> bool:
        if entry.link is not None and self.options.flags & {"xj", "xjd", "sl"}:
            return False
        name, full = entry.parts[-1], entry.path.text()
        return not any(wildcard(pattern.rstrip("\\"))(full if "\\" in pattern else name) for pattern in self.options.excluded_folders)

    def _extras(self, children: list[Location], there: Location | None) -> None:
        if there is None or not there.is_directory:
            return
        known = {key_of(entry.parts)[-1] for entry in children}
        for extra in list(self.context.files.children(there, self._token_for(there))):
            if key_of(extra.parts)[-1] in known or not (self.options.recursive if extra.is_directory else self._wanted(extra)):
                continue
            if "xx" not in self.options.flags:
                self.report.surplus(extra)
                self.code |= EXTRA
                self.counts["dirs" if extra.is_directory else "files"][5] += 1
            if self.options.flags & {"mir", "purge"} and "l" not in self.options.flags:
                self._purge(extra)

    def _purge(self, extra: Location) -> None:
        files = self.context.files
        try:
            if extra.is_directory:
                if extra.link is None:
                    for entry in list(files.children(extra, self._token_for(extra))):
                        self._purge(entry)
                files.remove_directory(extra, self._token_for(extra))
            else:
                files.remove_file(extra, self._token_for(extra), force=True)
        except Win32Error as refused:
            self.report.error(refused.code, "rc_deleting", extra.path.text())
            self.code |= FAILED

    # -- one file ----------------------------------------------------------------------------------------------

    def _file(self, source: paths.WindowsPath, target: paths.WindowsPath) -> Generator[float | NeedInput, None, None]:
        place = self._at(source)
        size = place.real.stat().st_size
        self.counts["files"][0] += 1
        self.counts["bytes"][0] += size
        word = self._class(place, target)
        if word == "mismatch":
            self.report.file("rc_mismatch", place, size)
            self.code |= MISMATCH
            self.count(3, size)
            return
        if word in self._left_out():
            if "v" in self.options.flags:
                self.report.file(f"rc_{word}", place, size)
            self.count(2, size)
            return
        self.report.file(f"rc_{word}", place, size)
        if "l" in self.options.flags:
            self.code |= COPIED
            self.count(1, size)
            return
        done = yield from self._retrying(place, target, size)
        self.code |= COPIED if done else FAILED
        self.count(1 if done else 4, size)

    def _left_out(self) -> set[str]:
        switches = {"xo": "older", "xn": "newer", "xc": "changed", "xl": "new_file"}
        result = {word for switch, word in switches.items() if switch in self.options.flags}
        return result if "is" in self.options.flags else result | {"same"}

    def _class(self, place: Location, target: paths.WindowsPath) -> str:
        if not self._exists(target):
            return "new_file"
        there = self._at(target)
        if there.is_directory:
            return "mismatch"
        here, old = place.real.stat(), there.real.stat()
        tolerance = 2.0 if "fft" in self.options.flags else 0.001
        if abs(here.st_mtime - old.st_mtime) <= tolerance:
            return "same" if here.st_size == old.st_size else "changed"
        return "newer" if here.st_mtime > old.st_mtime else "older"

    def _retrying(self, place: Location, target: paths.WindowsPath, size: int) -> _Wait:
        for left in range(self.options.retries, -1, -1):
            try:
                yield from self._copy(place, target, size)
            except Win32Error as refused:
                self.report.error(refused.code, "rc_copying", place.path.text())
                if left == 0:
                    break
                self.report.line(self.context.say("rc_waiting", self.options.wait))
                yield float(self.options.wait)
            else:
                self.report.done()
                return True
        self.report.line(self.context.say("rc_limit"))
        return False

    def _copy(self, place: Location, target: paths.WindowsPath, size: int) -> Generator[float | NeedInput, None, None]:
        """One try. A file that is not finished keeps what was written so far, and an old time."""
        files = self.context.files
        files.check(place, acl.READ_DATA, self._token_for(place))
        modified = datetime.fromtimestamp(place.real.stat().st_mtime, UTC)
        reading = files.hold(place, "robocopy", share_read=True, share_write=True)
        try:
            there = self._at(target)
            written = files.open_for_write(target.text(), self._token_for(there))
            writing = files.hold(written, "robocopy", share_read=False, writes=True)
            try:
                files.stamp(written, UNFINISHED)
                yield from self._stream(place, written, size)
            finally:
                files.release(written, writing)
        finally:
            files.release(place, reading)
        if "T" in self.options.copies:
            files.stamp(written, modified)
        self._attributes(place, written)
        files.note(f"robocopy {target.text()}")

    def _stream(self, place: Location, written: Location, size: int) -> Generator[float | NeedInput, None, None]:
        speeds, files = self.context.speeds, self.context.files
        rate = speeds.copy_bytes_per_second / (4 if self.options.flags & {"z", "zb"} else 1)
        with place.real.open("rb") as reader, written.real.open("r+b") as writer:
            at = 0
            while at < size:
                self._still_there(place, written)
                chunk = os.pread(reader.fileno(), min(speeds.chunk, size - at), at)
                if not chunk:
                    return
                if not written.volume.has_room(len(chunk)):
                    raise Win32Error(errors.DISK_FULL, written.path.text())
                if chunk.count(0) != len(chunk):  # zeros need no room on the real disk
                    os.pwrite(writer.fileno(), chunk, at)
                at += len(chunk)
                writer.truncate(at)
                files.stamp(written, UNFINISHED)
                files.wrote(written.volume, len(chunk))
                self.report.progress(at, size)
                yield len(chunk) / rate

    def _still_there(self, place: Location, written: Location) -> None:
        """A shadow copy can vanish while it is read: deleted, or pushed out of its storage area. So can a server."""
        self.context.files.check_connected(place)
        self.context.files.check_connected(written)
        number = place.volume.shadow_number
        if number is not None and self.context.files.shadow_volumes.get(number) is not place.volume:
            raise Win32Error(errors.FILE_INVALID, place.path.text())

    def _attributes(self, place: Location, written: Location) -> None:
        source = place.volume.backing.nodes.get(key_of(place.parts))
        if source is None:
            return
        node = written.volume.backing.node(written.parts)
        if "A" in self.options.copies:
            node.read_only, node.hidden, node.system = source.read_only, source.hidden, source.system
        if "S" in self.options.copies:
            node.acl = source.acl
        if "O" in self.options.copies:
            node.owner = source.owner
