# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""The jobs at a destination, local or UNC: copy, list, write a manifest, prune. One task each, never one per file.

Data to a :class:`.jobs.Job` and results back to data; nothing here talks to a host. Folders follow INTERFACE, *destination*:
``<destination>\<host>\<VM folder>\<copy folder>\manifest.json``. What a destination holds is untrusted: names are checked before they
get here (:mod:`protection.manifest`), a folder that is a link or holds one is left alone, and only files that a manifest lists are deleted,
each by its name.
"""
from __future__ import annotations

import ntpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import (
    HOST_LEVELS,
    PRUNING,
    CopyFolder,
    CopyOutcome,
    Key,
    Stored,
    copies_from_output,
    list_files_line,
    list_folders_line,
    list_manifests_line,
    names_in_batches,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult, Stage, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import Refusal

MANIFEST = "manifest.json"
GUIDE = "RESTORE.txt"

_GUIDE = "restore.txt"
_SYSTEM32 = "%SystemRoot%\\System32\\"
_ROBOCOPY_GOOD = (0, 7)
_NO_LINK = (1, 1)
"""``dir /AL`` exits with 1 when it finds no link, which is what is wanted."""
_SIZE = re.compile(rb"\[(\d*)\]")
_PERCENT = re.compile(rb"(\d{1,3}(?:\.\d)?)%")
_DIGEST = re.compile(rb"(?:[0-9A-Fa-f]{2} ?){32}\s*\Z")


# -- copy ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CopyGroup:
    """Files of one folder that go into one other folder. A shadow copy is reached through a link to it, never by its device."""

    source: str
    target: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Arrived:
    """One copied file: sizes in bytes of its source, before and after the copying, and its own, None for a file that is not there; the
    SHA-256 of both when they were asked for."""

    name: str
    target: str
    source_size: int | None
    size: int | None
    later_size: int | None = None
    sha256: str | None = None
    source_sha256: str | None = None


def copy_job(folder: CopyFolder, groups: Sequence[CopyGroup], *, sha256: bool = False, record: Mapping[str, bytes] | None = None) -> Job:
    """Make the copy's folder and those below it, copy with robocopy (operations 5.5), tell the sizes on both sides; with ``sha256``
    hash both sides, too. ``record``: a file that says what the job is about.

    The copy's folder must be new, and neither of the two above it may be a link: whoever may write to the destination could
    otherwise lead SYSTEM elsewhere.
    """
    host = f"{folder.destination}\\{folder.host}"
    values: dict[str, str] = {"COPY": folder.path, "HOST": host, "VM": f"{host}\\{folder.vm}"}
    stages: list[Stage] = [Stage((
        *no_links("link"), Step("make", 'mkdir "%AGH_COPY%"', (0, 0), 'exist "%AGH_COPY%\\"'), *no_links("still")))]
    for number, group in enumerate(_in_lines(groups)):
        source, target = f"S{number}", f"T{number}"
        names = [f"N{number}X{index}" for index in range(len(group.names))]
        values |= {source: group.source, target: group.target, **dict(zip(names, group.names, strict=True))}
        files = " ".join(f'"%AGH_{name}%"' for name in names)
        steps = [
            Step(f"folder{number}", f'mkdir "%AGH_{target}%"', None, f'exist "%AGH_{target}%\\"'),
            Step(f"before{number}", _sizes(source, names), keep=True),
            Step(f"copy{number}", f'{_SYSTEM32}robocopy.exe "%AGH_{source}%" "%AGH_{target}%" {files} '
                 "/J /COPY:DAT /R:2 /W:5 /NDL /NJH /NJS /BYTES", _ROBOCOPY_GOOD),
            Step(f"after{number}", _sizes(target, names), keep=True),
            Step(f"later{number}", _sizes(source, names), keep=True),
        ]
        if sha256:
            for index, name in enumerate(names):
                steps += [Step(f"{side}{number}x{index}", f'{_SYSTEM32}certutil.exe -hashfile "%AGH_{place}%\\%AGH_{name}%" SHA256',
                               keep=True) for side, place in (("shash", source), ("hash", target))]
        stages.append(Stage(tuple(steps)))
    return Job(tuple(stages), values, record or {})


def no_links(prefix: str) -> tuple[Step, Step]:
    """Steps that prove that neither of the folders HOST and VM is a link."""
    return (Step(f"{prefix}_host", 'dir /B /AL "%AGH_HOST%*"', _NO_LINK), Step(f"{prefix}_vm", 'dir /B /AL "%AGH_VM%*"', _NO_LINK))


def _in_lines(groups: Sequence[CopyGroup]) -> Iterator[CopyGroup]:
    """Groups whose names fit one line, also when each stands behind its folder."""
    for group in groups:
        longest = max(len(group.source), len(group.target)) + 4
        room = [name + "x" * longest for name in group.names]
        at = 0
        for batch in names_in_batches(room):
            yield CopyGroup(group.source, group.target, group.names[at:at + len(batch)])
            at += len(batch)


def _sizes(folder: str, names: Sequence[str]) -> str:
    files = " ".join(f'"%AGH_{folder}%\\%AGH_{name}%"' for name in names)
    return f"for %I in ({files}) do @echo [%~zI]"


def copied(groups: Sequence[CopyGroup], result: JobResult, outputs: Mapping[str, bytes], codes: Mapping[str, Sequence[int]], *,
           sha256: bool = False, knocks_as: str = "SYSTEM") -> tuple[Arrived, ...]:
    """What :func:`copy_job` brought, in its order; only when every step went well. ``codes``: what failed steps said (JobEnd).

    Raises HypervError ``folder_not_made``, ``link_in_the_way``, ``hash_failed``, ``unreadable_answer``, and for robocopy
    ``destination_full``, ``destination_denied``, ``sharing_violation``, ``destination_unreachable`` or ``copy_failed``.
    """
    _expect_made(result, groups[0].target, knocks_as)
    arrived: list[Arrived] = []
    for number, group in enumerate(_in_lines(groups)):
        if not result.good(f"folder{number}"):
            raise _folder_not_made(group.target, knocks_as)
        _expect_copied(result, number, group, codes.get(f"copy{number}", ()), knocks_as)
        before, after, later = (_read_sizes(outputs.get(f"{when}{number}", b""), len(group.names), group.target)
                                for when in ("before", "after", "later"))
        for index, name in enumerate(group.names):
            digests: list[str | None] = [None, None]
            if sha256:
                digests = [read_digest(outputs.get(f"{side}{number}x{index}", b""), f"{group.target}\\{name}")
                           for side in ("hash", "shash")]
            arrived.append(Arrived(name, group.target, before[index], after[index], later[index], *digests))
    return tuple(arrived)


def _expect_made(result: JobResult, target: str, knocks_as: str) -> None:
    folder = ntpath.dirname(target)
    if not result.good("make") and "make" in result.steps:
        raise _folder_not_made(folder, knocks_as)
    if not all(result.good(step) for step in ("link_host", "link_vm", "still_host", "still_vm")):
        raise HypervError(f"{folder} leads through a link: nothing was copied.", error_code="link_in_the_way",
                          hint="Links below the destination are not ours; find out who made it.")


def _folder_not_made(folder: str, knocks_as: str) -> HypervError:
    return HypervError(f"The folder {folder} could not be made by {knocks_as}.", error_code="folder_not_made",
                       hint="Is the destination there, is there space, and may that account change files in it? A share and its folder "
                            "have rights of their own.")


_FULL = Refusal("destination_full", "the destination is full", "Free space there, or keep fewer copies.")
_ROBOCOPY_CODES: Mapping[int, Refusal] = {
    0x70: _FULL, 0x27: _FULL,
    0x05: Refusal("destination_denied", "access was denied",
                  "Give that account the right to change files there, on the share and in the folder."),
    0x20: Refusal("sharing_violation", "a file is opened by somebody else",
                  "A running VM's disk is opened exclusively by newer hosts: copy it out of a shadow copy (method: vss)."),
    0x35: Refusal("destination_unreachable", "the network path was not found", "Is the server there, and its name right?"),
    0x40: Refusal("destination_unreachable", "the server went away", "Is the server there?"),
    0x43: Refusal("destination_unreachable", "the share was not found", "Is the share's name right?"),
}
"""Win32 codes, which robocopy prints in hexadecimal in every language."""


def _expect_copied(result: JobResult, number: int, group: CopyGroup, codes: Sequence[int], knocks_as: str) -> None:
    step = result.steps.get(f"copy{number}")
    outcome = None if step is None else CopyOutcome(step.code)
    if outcome is not None and outcome.copied and not outcome.failed:
        return
    code = None if step is None else step.code
    refusal = next((_ROBOCOPY_CODES[found] for found in reversed(codes) if found in _ROBOCOPY_CODES), None)
    if refusal is not None:
        raise HypervError(
            f"robocopy, run by {knocks_as}, could not copy {len(group.names)} file(s) into {group.target}: {refusal.sentence}.",
            error_code=refusal.error_code, return_value=code, hint=refusal.hint)
    raise HypervError(f"robocopy could not copy {len(group.names)} file(s) into {group.target} (exit code {code}).",
                      error_code="copy_failed", return_value=code,
                      hint="Look for full or write-protected destinations, antivirus and missing rights.")


def _read_sizes(output: bytes, count: int, folder: str) -> list[int | None]:
    sizes = [int(size) if size else None for size in _SIZE.findall(output)]
    if len(sizes) != count:
        raise HypervError(f"The sizes of the files in {folder} could not be read.", error_code="unreadable_answer")
    return sizes


def read_digest(output: bytes, path: str) -> str:
    """The SHA-256 in what certutil printed, in lower case; older hosts print its bytes apart. Raises HypervError ``hash_failed``."""
    for line in output.splitlines():
        if _DIGEST.match(line.strip()):
            return line.decode("ascii").replace(" ", "").strip().lower()
    raise HypervError(f"The checksum of {path} could not be computed.", error_code="hash_failed",
                      hint="certutil cannot hash an empty file; otherwise the destination could not be read.")


def percent_done(output: bytes, count: int) -> float | None:
    """How much of ``count`` files robocopy has copied, in percent, out of its output so far; files count alike. None before it said
    anything."""
    found = [float(number) for number in _PERCENT.findall(output)]
    if not found:
        return None
    whole = sum(1 for number in found if number >= 100)
    return min(100.0, 100.0 * (whole + (found[-1] / 100 if found[-1] < 100 else 0)) / max(1, count))


# -- list ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    """What a destination holds below a base, and its free bytes when it said."""

    stored: Stored
    free: int | None = None

    @property
    def incomplete(self) -> tuple[Key, ...]:
        """Folders without a manifest: copies that were interrupted, or nothing of ours."""
        return tuple(key for key in self.stored.folders if key not in self.stored.manifests and key not in self.stored.pruning)


def list_job(destination: str, base: str, levels: int = HOST_LEVELS) -> Job:
    """Read every manifest below ``base``, the host's folder in ``destination`` or that itself, and list its files and folders."""
    return Job((Stage((
        Step("reach", 'dir /-C /AD "%AGH_DESTINATION%"', None, 'exist "%AGH_DESTINATION%\\"', keep=True),
        Step("manifests", list_manifests_line("BASE"), (0, 1), keep=True),
        Step("files", list_files_line("BASE"), None, keep=True),
        Step("folders", list_folders_line("BASE", levels), None, keep=True),
    )),), {"DESTINATION": destination, "BASE": base})


def listing(result: JobResult, outputs: Mapping[str, bytes], base: str, destination: str, knocks_as: str = "SYSTEM",
            levels: int = HOST_LEVELS) -> Listing:
    """What :func:`list_job` found. Raises HypervError ``destination_unreachable``, never an empty list for a share that did not answer."""
    if not result.good("reach"):
        raise HypervError(f"The destination {destination} is not there for {knocks_as}, or that account may not read it.",
                          error_code="destination_unreachable",
                          hint="Make the folder, and give that account the right to change files on the share and in the folder.")
    if result.failed:
        raise HypervError(f"The copies in {base} could not be listed.", error_code="destination_unreadable")
    told = b"\r\n".join(outputs.get(step, b"") for step in ("manifests", "files", "folders"))
    return Listing(copies_from_output(told, base, levels), free_bytes(outputs.get("reach", b"")))


def free_bytes(listed: bytes) -> int | None:
    """The free space in the last line of ``dir /-C``: its words are localised and their order is, too, but it holds two numbers, the count
    of folders and the bytes. None when it does not."""
    lines = [line for line in listed.splitlines() if line.strip()]
    numbers = [int(number) for number in re.findall(rb"\d+", lines[-1])] if lines else []
    return max(numbers) if len(numbers) == 2 else None


# -- write a manifest ----------------------------------------------------------------------------------------------------


def manifest_job(folder: str, manifest: bytes, guide: bytes | None = None) -> Job:
    """Put a manifest into a copy's folder, compared byte by byte before it gets its name: it is written last, and whole or not at all.
    ``guide``: a text for people, which is put there before."""
    source, target = f'"%AGH_JOB%\\{MANIFEST}"', f'"%AGH_FOLDER%\\{MANIFEST}'
    text = f'"%AGH_JOB%\\{_GUIDE}" "%AGH_FOLDER%\\{GUIDE}"'
    words = (Step("guide", f"copy /Y /B {text}"), Step("words", f"{_SYSTEM32}fc.exe /B {text}")) if guide is not None else ()
    return Job((Stage((
        *words,
        Step("put", f'copy /Y /B {source} {target}.tmp"'),
        Step("same", f'{_SYSTEM32}fc.exe /B {source} {target}.tmp"'),
        Step("name", f'ren {target}.tmp" {MANIFEST}', None, f'exist {target}"'),
        Step("sure", f'{_SYSTEM32}fc.exe /B {source} {target}"'),
    )),), {"FOLDER": folder}, {MANIFEST: manifest, **({_GUIDE: guide} if guide is not None else {})})


def expect_manifest(result: JobResult, folder: str) -> None:
    """Raise HypervError ``manifest_not_written`` unless :func:`manifest_job` went well to its end."""
    if not result.good("sure"):
        raise HypervError(f"The manifest in {folder} could not be written.", error_code="manifest_not_written",
                          hint="The copy does not count without it. Is the destination full, or was the folder removed?")


# -- prune ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Doomed:
    """A copy to be deleted: its folder, the files that its own manifest lists and further folders, all as safe relative names."""

    folder: str
    files: tuple[str, ...]
    folders: tuple[str, ...] = ()

    @property
    def subfolders(self) -> tuple[str, ...]:
        """The folders that the files are in, the deepest first."""
        found = set(self.folders) | {name[:at] for name in self.files for at, char in enumerate(name) if char == "\\" and at}
        return tuple(sorted(found, key=lambda path: (-path.count("\\"), path)))


def prune_job(copies: Sequence[Doomed]) -> Job:
    """Delete copies, ``<destination>\\<host>\\<VM>\\<copy>`` each, one independent of the other.

    The manifest gets the name PRUNING, then its listed files go, its empty folders, and PRUNING itself. A copy is left alone when its
    folder, or one of the two above it, is a link, or when there is a link in it. Foreign files stay, and with them the folder.
    """
    values: dict[str, str] = {}
    stages = []
    for number, doomed in enumerate(copies):
        folder = f"P{number}"
        machine = ntpath.dirname(doomed.folder)
        values |= {folder: doomed.folder, f"{folder}V": machine, f"{folder}H": ntpath.dirname(machine)}
        files = {f"{folder}F{index}": name for index, name in enumerate(doomed.files)}
        below = {f"{folder}D{index}": name for index, name in enumerate(doomed.subfolders)}
        values |= files | below
        stages.append(Stage(tuple(_prune_steps(number, folder, files, below)), essential=False))
    return Job(tuple(stages), values)


def _prune_steps(number: int, folder: str, files: Mapping[str, str], below: Mapping[str, str]) -> Iterator[Step]:
    base, step = f"%AGH_{folder}%", f"p{number}"
    old, new = f'"{base}\\{MANIFEST}"', f'"{base}\\{PRUNING}"'
    yield Step(f"{step}_host", f'dir /B /AL "%AGH_{folder}H%*"', _NO_LINK)
    yield Step(f"{step}_machine", f'dir /B /AL "%AGH_{folder}V%*"', _NO_LINK)
    yield Step(f"{step}_itself", f'dir /B /AL "{base}*"', _NO_LINK)
    yield Step(f"{step}_inside", f'dir /B /S /AL "{base}"', _NO_LINK)
    yield Step(f"{step}_mark", f"if exist {old} ren {old} {PRUNING}", None, f"not exist {old}")
    for index, name in enumerate(files):
        path = f'"{base}\\%AGH_{name}%'
        yield Step(f"{step}_file{index}", f'if not exist {path}\\" del /F /Q {path}"', None, f'not exist {path}"')
    for index, name in enumerate(below):
        path = f'"{base}\\%AGH_{name}%'
        yield Step(f"{step}_folder{index}", f'if exist {path}\\" rmdir {path}"', None, f'not exist {path}\\"')
    yield Step(f"{step}_end", f'(if exist {new} del /F /Q {new}) & rmdir "{base}"', None, f'not exist "{base}\\"')


@dataclass(frozen=True)
class Pruned:
    """What became of one copy: gone, or why not.

    ``link``: nothing was touched. ``locked``: a file, or the manifest, could not be removed. ``foreign_files``: all of ours is gone,
    something else is in the folder. ``not_reached``: the job ended before.
    """

    folder: str
    gone: bool
    reason: str | None = None


def pruned(copies: Sequence[Doomed], result: JobResult) -> tuple[Pruned, ...]:
    """What :func:`prune_job` came to, in its order."""
    return tuple(_pruned(doomed.folder, f"p{number}", result) for number, doomed in enumerate(copies))


def _pruned(folder: str, step: str, result: JobResult) -> Pruned:
    if result.good(f"{step}_end"):
        return Pruned(folder, True)
    failed = next((name for name in result.failed if name.startswith(f"{step}_")), None)
    if failed is None:
        return Pruned(folder, False, "not_reached")
    if failed.removeprefix(f"{step}_") in ("host", "machine", "itself", "inside"):
        return Pruned(folder, False, "link")
    foreign = failed == f"{step}_end" or failed.startswith(f"{step}_folder")
    return Pruned(folder, False, "foreign_files" if foreign else "locked")
