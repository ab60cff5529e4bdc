# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a host through fixed programs: sizes, links, robocopy, small files (operations 5.5, wire 7.2).

Nothing is read from localised output: sizes come from cmd's own ``%~z``, outcomes from exit codes.
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import (
    Command,
    check_value,
    reading_programs,
    said,
    writing_programs,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.shell import OutputHandler, ProgramResult

SHORT = 120.0
"""Seconds for a command that touches a few small things."""

_SYSTEM32 = "%SystemRoot%\\System32\\"
_SIZE = re.compile(rb"\[(\d*)\]")
_FOUND = re.compile(r"\\(?P<vm>[^\\:]+)\\(?P<folder>[^\\:]+)\\manifest\.json:\d+:(?P<text>.*)\Z")
_LONGEST_NAMES = 5000

MAKE_FOLDER = Command('mkdir "%AGH_INTO%"')
LIST_LINKS = Command('dir /B /AL "%AGH_PATH%"', reads_only=True)
# rmdir tells a failure only to ||
REMOVE_LINK = Command('rmdir "%AGH_LINK%" || exit 3')
FIND_MANIFESTS = Command(_SYSTEM32 + 'findstr.exe /S /N "^" "%AGH_MANIFESTS%"', reads_only=True)
WRITE_TEXT = Command(_SYSTEM32 + 'findstr.exe "^" > "%AGH_PATH%" && type "%AGH_PATH%"')
READ_TEXT = Command('type "%AGH_PATH%"', reads_only=True)
RENAME = Command('move /Y "%AGH_PATH%" "%AGH_FINAL%"')


@dataclass(frozen=True)
class CopyOutcome:
    """A robocopy exit code, read as the bit mask it is."""

    exit_code: int

    @property
    def failed(self) -> bool:
        """8: some files failed; 16: nothing was done. Also any code that is no such mask."""
        return not 0 <= self.exit_code < 8

    @property
    def copied(self) -> bool:
        """1: at least one file was copied."""
        return bool(self.exit_code & 1)

    @property
    def unexpected(self) -> bool:
        """2: the destination holds other files, 4: something there has another type."""
        return bool(self.exit_code & 6)


def names_in_batches(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Names cut into groups that fit one command line after expansion."""
    batch: list[str] = []
    length = 0
    for name in names:
        if batch and length + len(name) + 3 > _LONGEST_NAMES:
            yield tuple(batch)
            batch, length = [], 0
        batch.append(name)
        length += len(name) + 3
    if batch:
        yield tuple(batch)


def _numbered(names: Sequence[str]) -> dict[str, str]:
    return {f"F{index}": name for index, name in enumerate(names)}


def sizes_command(count: int, folder: str = "FOLDER") -> Command:
    """Prints ``[size]`` for each of ``count`` files of a folder, ``[]`` for one that is missing: no names, no local formats."""
    files = " ".join(f'"%AGH_{folder}%\\%AGH_F{index}%"' for index in range(count))
    return Command(f"for %I in ({files}) do @echo [%~zI]", reads_only=True)


def robocopy_command(count: int) -> Command:
    """Copies ``count`` named files of one folder (operations 5.5): unbuffered, two retries, no names or progress in the output."""
    files = " ".join(f'"%AGH_F{index}%"' for index in range(count))
    return Command(f'{_SYSTEM32}robocopy.exe "%AGH_FOLDER%" "%AGH_INTO%" {files} /J /COPY:DAT /R:2 /W:5 /NP /NDL /NFL /NJH /NJS /BYTES')


def read_sizes(reader: CimReader, folder: str, names: Sequence[str]) -> tuple[int | None, ...]:
    """The sizes of files of one folder in bytes, in the order of ``names``; None for one that is missing.

    Raises HypervError ``unreadable_answer`` when the count does not fit: then nothing is believed.
    """
    sizes: list[int | None] = []
    for batch in names_in_batches(_checked(names)):
        with reading_programs(reader, {"FOLDER": folder, **_numbered(batch)}) as programs:
            result = programs.run(sizes_command(len(batch)), timeout=SHORT)
        sizes.extend(_sizes(result, len(batch), folder))
    return tuple(sizes)


def _sizes(result: ProgramResult, count: int, folder: str) -> list[int | None]:
    found = [int(size) if size else None for size in _SIZE.findall(result.stdout)]
    if len(found) != count:
        raise HypervError(f"The sizes of the files in {folder} could not be read: {said(result)}", error_code="unreadable_answer")
    return found


def _checked(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(check_value(name, "A file's name") for name in names)


def run(writer: CimWriter, command: Command, values: Mapping[str, str], *, timeout: float = SHORT, stdin: bytes | None = None,
        on_output: OutputHandler | None = None) -> ProgramResult:
    """One writing command in a shell of its own."""
    with writing_programs(writer, values) as programs:
        return programs.run(command, timeout=timeout, stdin=stdin, on_output=on_output)


def expect_success(result: ProgramResult, what: str, error_code: str) -> None:
    """Raise HypervError ``error_code`` when a program's exit code is not 0."""
    if result.exit_code != 0:
        raise HypervError(f"{what} failed with exit code {result.exit_code}: {said(result)}", error_code=error_code)


def remove_link(writer: CimWriter, link: str) -> None:
    """Remove a directory link, never what it leads to: rmdir without ``/s``."""
    expect_success(run(writer, REMOVE_LINK, {"LINK": link}), f"Removing the link {link}", "link_not_removed")


def link_names(writer: CimWriter, folder: str) -> tuple[str, ...]:
    """The links in a folder, dead ones too, in lower case."""
    listed = run(writer, LIST_LINKS, {"PATH": folder}).stdout.decode("utf-8", "replace")
    return tuple(name.strip().lower() for name in listed.splitlines() if name.strip())


def copy_files(writer: CimWriter, folder: str, into: str, names: Sequence[str], *, make: bool, timeout: float,
               on_output: OutputHandler | None = None) -> tuple[int | None, ...]:
    """Copy named files of one folder with robocopy, in one shell with the making of the target folder and a look at what arrived.

    Returns the sizes of the copies in bytes, in the order of ``names``; None for one that is missing. Raises HypervError
    ``folder_not_made`` (an existing folder is an error, too), ``copy_failed`` with the exit code for 8 and above, and for 0: a fresh copy
    that copied nothing.
    """
    sizes: list[int | None] = []
    for batch in names_in_batches(_checked(names)):
        with writing_programs(writer, {"FOLDER": folder, "INTO": into, **_numbered(batch)}) as programs:
            if make and not sizes:
                expect_success(programs.run(MAKE_FOLDER, timeout=SHORT), f"Making the folder {into}", "folder_not_made")
            result = programs.run(robocopy_command(len(batch)), timeout=timeout, on_output=on_output)
            _expect_copied(result, len(batch), into)
            sizes.extend(_sizes(programs.run(sizes_command(len(batch), "INTO"), timeout=SHORT), len(batch), into))
    return tuple(sizes)


def _expect_copied(result: ProgramResult, count: int, into: str) -> None:
    outcome = CopyOutcome(result.exit_code)
    if outcome.failed or not outcome.copied:
        raise HypervError(
            f"robocopy could not copy {count} file(s) into {into} (exit code {result.exit_code}): {said(result)}",
            error_code="copy_failed", return_value=result.exit_code,
            hint="Look for full or write-protected destinations, antivirus and missing rights.")


def write_text(writer: CimWriter, path: str, final: str, data: bytes) -> None:
    """Write a small ASCII file under a temporary name, read it back, and rename it into place.

    The text travels through standard input, so that nothing of it stands on a command line. ``data`` has CRLF lines of less than
    8000 characters. After any error the host is asked what ``final`` holds: only when that is not ``data``, the error is raised
    (HypervError ``file_not_written``, or why the host could not be reached).
    """
    try:
        _write_text(writer, path, final, data)
    except HypervError:
        if not _holds(writer, final, data):
            raise


def _write_text(writer: CimWriter, path: str, final: str, data: bytes) -> None:
    with writing_programs(writer, {"PATH": path, "FINAL": final}) as programs:
        written = programs.run(WRITE_TEXT, timeout=SHORT, stdin=data)
        expect_success(written, f"Writing {path}", "file_not_written")
        if not _same_text(written, data):
            raise HypervError(f"{path} does not hold what was written to it.", error_code="file_not_written")
        expect_success(programs.run(RENAME, timeout=SHORT), f"Renaming {path}", "file_not_written")


def _holds(reader: CimReader, path: str, data: bytes) -> bool:
    """True when a file is there and holds ``data``; False also when nobody can tell."""
    try:
        with reading_programs(reader, {"PATH": path}) as programs:
            return _same_text(programs.run(READ_TEXT, timeout=SHORT), data)
    except HypervError:
        return False


def _same_text(shown: ProgramResult, data: bytes) -> bool:
    return shown.stdout.decode("utf-8", "replace").splitlines() == data.decode("ascii").splitlines()


def read_manifests(reader: CimReader, host_folder: str) -> dict[tuple[str, str], str]:
    """Every manifest below a host's folder, by (VM folder, copy folder): one program, however many copies.

    Only what follows the fixed depth counts; a line that does not fit is not a manifest's.
    """
    with reading_programs(reader, {"MANIFESTS": host_folder + "\\manifest.json"}) as programs:
        result = programs.run(FIND_MANIFESTS, timeout=SHORT)
    return manifests_from_output(result.stdout, host_folder)


def manifests_from_output(output: bytes, host_folder: str) -> dict[tuple[str, str], str]:
    """The texts of manifests out of findstr's ``path:line:text`` output.

    A path cannot contain a colon after its drive, so the first ``\\manifest.json:`` ends it. The destination itself may be
    printed in another code page: only the two ASCII folders below it are looked at, and the depth.
    """
    depth = host_folder.count("\\") + 2
    found: dict[tuple[str, str], list[str]] = {}
    for raw in output.splitlines():
        line = raw.decode("utf-8", "replace")
        match = _FOUND.search(line)
        if match is None or line[:match.start("text")].count("\\") != depth + 1:
            continue
        found.setdefault((match.group("vm"), match.group("folder")), []).append(match.group("text"))
    return {key: "\n".join(lines) for key, lines in found.items()}
