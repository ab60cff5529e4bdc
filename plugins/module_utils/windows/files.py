# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a host through fixed programs: links, small files, what a destination holds (operations 5.5, wire 7.2).

Nothing is read from localised output: sizes come from cmd's own ``%~z``, outcomes from exit codes.
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import wql
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import (
    Command,
    check_value,
    reading_programs,
    said,
    writing_programs,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import CIMV2
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.shell import OutputHandler, ProgramResult

SHORT = 120.0
"""Seconds for a command that touches a few small things."""

_SYSTEM32 = "%SystemRoot%\\System32\\"
_LISTED = re.compile(r"\[(\d*)\](.+)\Z")
_FOLDER = re.compile(r"\[-\](.+)\Z")
_FOUND = re.compile(r"\\manifest\.json(?P<pruning>\.pruning)?:\d+:(?P<text>.*)\Z")
_LONGEST_NAMES = 5000

LIST_LINKS = Command('dir /B /AL "%AGH_PATH%"', reads_only=True)
# rmdir tells a failure only to ||
REMOVE_LINK = Command('rmdir "%AGH_LINK%" || exit 3')
LIST_LINKS_ON_THE_WAY = Command('dir /B /AL "%AGH_DESTINATION%" & dir /B /AL "%AGH_HOST%" & dir /B /S /AL "%AGH_VM%"', reads_only=True)
MARK_REMOVAL = Command('(if exist "%AGH_FOLDER%\\manifest.json" ren "%AGH_FOLDER%\\manifest.json" "manifest.json.pruning")'
                       ' & if exist "%AGH_FOLDER%\\manifest.json" exit 3')
PRUNING = "manifest.json.pruning"
"""The name of a manifest while its copy is being removed: such a folder is no copy any more, and a later run goes on with it."""
# it gets its name only when its last line is there: input that was cut off ends earlier
WRITE_TEXT = Command(_SYSTEM32 + 'findstr.exe "^" > "%AGH_PATH%" && '
                     + _SYSTEM32 + 'findstr.exe /X /L /C:"%AGH_END%" "%AGH_PATH%" >nul && move /Y "%AGH_PATH%" "%AGH_FINAL%" >nul'
                     ' && type "%AGH_FINAL%"')
DROP_INPUT = _SYSTEM32 + 'findstr.exe "^" >nul'
REMOVE_TEXT = Command('del /F /Q "%AGH_FINAL%" & if exist "%AGH_FINAL%" exit 3')
READ_TEXT = Command('type "%AGH_PATH%"', reads_only=True)


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


def paths_in(reader: CimReader, folder: str) -> tuple[str, ...] | None:
    """The files of one local folder, in the spelling of the host's file classes, which may be lower case; one request.

    None when the host takes no filters: without drive and path these classes walk the disks (windows facts 5).
    """
    where: dict[str, wql.Literal] = {"Drive": folder[:2], "Path": folder[2:].rstrip("\\") + "\\"}
    rows = reader.query_if_filtered(wql.select(CIMV2, "CIM_DataFile", where, ["Name"]))
    return None if rows is None else tuple(row.required_text("Name") for row in rows)


@dataclass(frozen=True)
class Text:
    """A small ASCII file, as :func:`write_text` takes it: ``temporary`` and ``final`` are its paths."""

    temporary: str
    final: str
    data: bytes

    def values(self) -> dict[str, str]:
        """The values for WRITE_TEXT."""
        return {"PATH": self.temporary, "FINAL": self.final, "END": last_line(self.data)}


def write_text(writer: CimWriter, path: str, final: str, data: bytes) -> None:
    """Write a small ASCII file under a temporary name, rename it into place once it is whole, and read it back; one program.

    The text travels through standard input, so that nothing of it stands on a command line. ``data`` has CRLF lines of less than
    8000 characters, and its last line is not among the others. After any error the host is asked what ``final`` holds: only when that
    is not ``data``, the error is raised (HypervError ``file_not_written``, or why the host could not be reached).
    """
    try:
        _write_text(writer, Text(path, final, data))
    except HypervError:
        if not _holds(writer, final, data):
            raise


def _write_text(writer: CimWriter, text: Text) -> None:
    with writing_programs(writer, text.values()) as programs:
        written = programs.run(WRITE_TEXT, timeout=SHORT, stdin=text.data)
        expect_success(written, f"Writing {text.final}", "file_not_written")
        if not same_text(written.stdout, text.data):
            programs.run(REMOVE_TEXT, timeout=SHORT)
            raise HypervError(f"{text.final} did not hold what was written to it.", error_code="file_not_written")


def last_line(data: bytes) -> str:
    """What a text that arrived whole ends with. Raises ValueError when another line of it is the same."""
    *others, last = data.decode("ascii").splitlines()
    if last in others:
        raise ValueError("the last line of a text must be its own")
    return last


def _holds(reader: CimReader, path: str, data: bytes) -> bool:
    """True when a file is there and holds ``data``; False also when nobody can tell."""
    try:
        with reading_programs(reader, {"PATH": path}) as programs:
            return same_text(programs.run(READ_TEXT, timeout=SHORT).stdout, data)
    except HypervError:
        return False


def same_text(shown: bytes, data: bytes) -> bool:
    """True when a program that read a file back showed this text."""
    return shown.decode("utf-8", "replace").splitlines() == data.decode("ascii").splitlines()


HOST_LEVELS = 2
"""Folders from that of a host down to a copy: the VM's, the copy's."""
ALL_LEVELS = 3
"""The same from the destination itself."""
Key: TypeAlias = tuple[str, ...]
"""The folders from the base of a listing down to a copy; the last is the copy's, the one before the VM's."""


@dataclass(frozen=True)
class Stored:
    """What lies below a base, by the folders down to each copy: texts of manifests, those of copies whose removal was begun, and
    sizes in bytes of all files by their path below the copy's folder. Hidden files are not among them; a size that the host does not
    tell is -1. ``folders`` are all folders of that depth, empty ones too."""

    manifests: Mapping[Key, str]
    pruning: Mapping[Key, str]
    files: Mapping[Key, Mapping[str, int]]
    folders: tuple[Key, ...] = ()


def list_manifests_line(base: str) -> str:
    """The line that shows each manifest below the folder in the variable ``base``, each line of it behind its path."""
    return f'{_SYSTEM32}findstr.exe /S /N "^" "%AGH_{base}%\\manifest.json" "%AGH_{base}%\\{PRUNING}"'


def list_files_line(base: str) -> str:
    """The line that shows ``[size]path`` of each file."""
    return f'for /R "%AGH_{base}%" %I in (*) do @echo [%~zI]%I'


def list_folders_line(base: str, levels: int) -> str:
    """The line that shows ``[-]path`` of each folder that may be a copy's."""
    loops = [f'for /D %{letter} in ("{above}\\*") do @'
             for letter, above in zip("GHI", (f"%AGH_{base}%", "%G", "%H"), strict=True)][:levels]
    return f"{''.join(loops)}echo [-]%{'GHI'[levels - 1]}"


def find_copies_command(levels: int) -> Command:
    """Lists everything below BASE; the empty line keeps a manifest without a line end and the first file apart."""
    return Command(f'{list_manifests_line("BASE")} & echo. & ({list_files_line("BASE")}) & {list_folders_line("BASE", levels)}',
                   reads_only=True)


def read_copies(reader: CimReader, base: str, levels: int = HOST_LEVELS) -> Stored:
    """Every manifest, file and folder below a host's folder, or below a destination (``ALL_LEVELS``): one program, however many copies.

    Only what follows the fixed depth counts; a line that does not fit is ignored.
    """
    with reading_programs(reader, {"BASE": base}) as programs:
        result = programs.run(find_copies_command(levels), timeout=SHORT)
    return copies_from_output(result.stdout, base, levels)


def copies_from_output(output: bytes, base: str, levels: int = HOST_LEVELS) -> Stored:
    """Texts of manifests out of findstr's ``path:line:text`` output, files out of lines ``[size]path``, folders out of ``[-]path``.

    A path cannot contain a colon after its drive, so the first ``\\manifest.json:`` ends it, and none begins with a bracket. The
    destination itself may be printed in another code page: only what is below it is looked at, and the depth.
    """
    depth = base.count("\\") + 1
    texts: tuple[dict[Key, list[str]], ...] = ({}, {})
    files: dict[Key, dict[str, int]] = {}
    folders: list[Key] = []
    for raw in output.split(b"\n"):
        line = raw.decode("utf-8", "replace").rstrip("\r")
        listed = _LISTED.match(line)
        if listed is not None:
            parts = listed.group(2).split("\\")
            if len(parts) > depth + levels:
                below = "\\".join(parts[depth + levels:])
                files.setdefault(tuple(parts[depth:depth + levels]), {})[below] = int(listed.group(1) or -1)
            continue
        folder = _FOLDER.match(line)
        if folder is not None:
            parts = folder.group(1).split("\\")
            folders += [tuple(parts[depth:])] if len(parts) == depth + levels else []
            continue
        match = _FOUND.search(line)
        if match is not None:
            parts = line[:match.start()].split("\\")
            if len(parts) == depth + levels and not any(":" in part for part in parts[depth:]):
                texts[match.group("pruning") is not None].setdefault(tuple(parts[depth:]), []).append(match.group("text"))
    manifests, pruning = ({key: "\n".join(lines) for key, lines in found.items()} for found in texts)
    return Stored(manifests, pruning, files, tuple(folders))


@dataclass(frozen=True)
class CopyFolder:
    """Where one copy lies: ``<destination>\\<host>\\<vm>\\<copy>``."""

    destination: str
    host: str
    vm: str
    copy: str

    @property
    def path(self) -> str:
        """The full path."""
        return f"{self.destination}\\{self.host}\\{self.vm}\\{self.copy}"


def link_in_the_way(folder: CopyFolder, listed: bytes) -> str | None:
    """The link in the output of ``LIST_LINKS_ON_THE_WAY`` through which a removal in the folder would reach something else."""
    for raw in listed.split(b"\n"):
        line = raw.decode("utf-8", "replace").rstrip("\r")
        inside = f"\\{folder.copy}\\".lower() in f"{line}\\".lower()
        if line.lower() in (folder.host.lower(), folder.vm.lower()) or inside:
            return line
    return None


def remove_copy(writer: CimWriter, folder: CopyFolder, names: Sequence[str], folders: Sequence[str] = ()) -> bool:
    """Remove a copy: its manifest is renamed first, so that what is left of an interrupted removal is no copy; then go the files
    ``names`` (paths below the folder), their folders and ``folders`` as far as they are empty, and that manifest. True when the
    folder itself is gone, False when something else is in it.

    Raises HypervError ``link_in_the_way`` or ``manifest_not_removed`` (nothing was removed), or what stopped the removal later.
    """
    below = _folders_of(names, folders)
    with writing_programs(writer, {
            "DESTINATION": folder.destination, "HOST": f"{folder.destination}\\{folder.host}",
            "VM": f"{folder.destination}\\{folder.host}\\{folder.vm}", "FOLDER": folder.path}) as programs:
        link = link_in_the_way(folder, programs.run(LIST_LINKS_ON_THE_WAY, timeout=SHORT).stdout)
        if link is not None:
            raise HypervError(f"{folder.path} leads through a link or holds one ({link}): nothing was removed.",
                              error_code="link_in_the_way", hint="Links below the destination are not ours; find out who made it.")
        expect_success(programs.run(MARK_REMOVAL, timeout=SHORT), f"Removing the manifest in {folder.path}", "manifest_not_removed")
    for batch in names_in_batches(_checked(names)):
        removed = run(writer, remove_files_command(len(batch)), {"FOLDER": folder.path, **_numbered(batch)})
        expect_success(removed, f"Removing the files of {folder.path}", "file_not_removed")
    gone = True
    for batch in tuple(names_in_batches(_checked(below))) or ((),):
        gone = run(writer, remove_folders_command(len(batch)), {"FOLDER": folder.path, **_numbered(batch)}).exit_code == 0
    return gone


def _folders_of(names: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    """The folders of relative paths, and more, the deepest first."""
    found = set(more) | {name[:at] for name in names for at, char in enumerate(name) if char == "\\"}
    return tuple(sorted(found, key=lambda path: (-path.count("\\"), path)))


def remove_files_command(count: int) -> Command:
    """Removes ``count`` files of a folder; exit code 3 when one is still there."""
    files = " ".join(f'"%AGH_FOLDER%\\%AGH_F{index}%"' for index in range(count))
    return Command(f"for %I in ({files}) do @(del /F /Q %I & if exist %I exit 3)")


def remove_folders_command(count: int) -> Command:
    """Removes ``count`` folders below a folder, as far as they are empty, its renamed manifest, and the folder; 3 when that stays."""
    folders = " ".join(f'"%AGH_FOLDER%\\%AGH_F{index}%"' for index in range(count))
    loop = f"(for %I in ({folders}) do @rmdir %I) & " if count else ""
    return Command(f'{loop}del /F /Q "%AGH_FOLDER%\\{PRUNING}" & rmdir "%AGH_FOLDER%" & if exist "%AGH_FOLDER%" exit 3')
