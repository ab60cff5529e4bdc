# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""The jobs that look for incomplete copies at a share and remove them: one task for all folders, as in :mod:`.target_jobs`.

A copy lies in ``<destination>\<host>\<VM folder>\<UTC time>_<run id>``. What a destination holds is untrusted: a folder that is a link,
is reached through one or holds one is left alone, every file is deleted by its name, and a folder only when it is empty.
"""
from __future__ import annotations

import ntpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult, Stage, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.target_jobs import MANIFEST

LARGEST = 20_000
"""Characters of the paths of one job; more go into another one."""

_NO_LINK = (1, 1)
"""``dir /AL`` exits with 1 when it finds no link, which is what is wanted."""
_COPY = re.compile(r"\[(?:.*\\)?(?P<name>\d{8}T\d{6}Z_(?P<run>[A-Za-z0-9-]{1,40}))\]\Z", re.ASCII)


@dataclass(frozen=True)
class Place:
    """A VM's folder at a destination, and the run that may have left something in it."""

    folder: str
    run_id: str

    @property
    def host_folder(self) -> str:
        """The folder above it."""
        return ntpath.dirname(self.folder)

    @property
    def destination(self) -> str:
        """The destination itself, without the backslash that the root of a share has."""
        return ntpath.dirname(self.host_folder).rstrip("\\")

    @property
    def key(self) -> tuple[str, str]:
        """The same for every spelling."""
        return self.folder.lower(), self.run_id.lower()


@dataclass(frozen=True)
class FoundCopy:
    """A folder of the run: its ``name``, and the paths below it relative to it, folders and files alike."""

    name: str
    inside: tuple[str, ...]


@dataclass(frozen=True)
class Searched:
    """What is at one place. ``reached`` False: nobody can tell, which is never the same as nothing.

    ``links``: links on the way by their names, and those below the folder by their paths.
    """

    place: Place
    reached: bool
    copies: tuple[FoundCopy, ...] = ()
    links: tuple[str, ...] = ()


def place_batches(places: Sequence[Place]) -> Iterator[tuple[Place, ...]]:
    """Places in turn, as many as fit one job."""
    batch: list[Place] = []
    length = 0
    for place in places:
        size = 3 * len(place.folder) + len(place.run_id) + 60
        if batch and length + size > LARGEST:
            yield tuple(batch)
            batch, length = [], 0
        batch.append(place)
        length += size
    if batch:
        yield tuple(batch)


# -- look ----------------------------------------------------------------------------------------------------------------


def look_job(places: Sequence[Place]) -> Job:
    """List the folders of a run below each place with what is in them, and the links that are in the way."""
    values: dict[str, str] = {}
    stages = []
    for number, place in enumerate(places):
        values |= {f"L{number}": place.folder, f"L{number}H": place.host_folder, f"L{number}D": place.destination,
                   f"L{number}R": place.run_id}
        stages.append(Stage(tuple(_look_steps(number)), essential=False))
    return Job(tuple(stages), values)


def _look_steps(number: int) -> Iterator[Step]:
    base, host, step = f"%AGH_L{number}%", f"%AGH_L{number}H%", f"l{number}"
    yield Step(f"{step}_reach", f'dir /B /AD "%AGH_L{number}D%"', None, f'exist "%AGH_L{number}D%\\"')
    # with the two entries that every folder has, dir fails only where it may not read
    yield Step(f"{step}_host", f'if exist "{host}\\" dir /AD "{host}"')
    yield Step(f"{step}_vm", f'if exist "{base}\\" dir /AD "{base}"')
    yield Step(f"{step}_way", f'dir /B /AL "{host}*" & dir /B /AL "{base}*"', None, keep=True)
    yield Step(f"{step}_links", f'dir /B /S /AL "{base}"', None, keep=True)
    yield Step(f"{step}_list", f'for /D %I in ("{base}\\*_%AGH_L{number}R%") do (echo [%I]& dir /B /S /A "%I")', None, keep=True)


def searched(places: Sequence[Place], result: JobResult, outputs: Mapping[str, bytes]) -> tuple[Searched, ...]:
    """What :func:`look_job` found, in its order."""
    return tuple(_searched(place, f"l{number}", result, outputs) for number, place in enumerate(places))


def _searched(place: Place, step: str, result: JobResult, outputs: Mapping[str, bytes]) -> Searched:
    if not all(result.good(f"{step}_{part}") for part in ("reach", "host", "vm", "way", "links", "list")):
        return Searched(place, False)
    way = {ntpath.basename(one).lower() for one in (place.folder, place.host_folder)}
    below = f"\\{ntpath.basename(place.folder)}\\".lower()
    # what dir says when it finds nothing is among the lines
    links = [line for line in _lines(outputs.get(f"{step}_way", b"")) if line.strip().lower() in way]
    links += [line for line in _lines(outputs.get(f"{step}_links", b"")) if below in line.lower()]
    return Searched(place, True, tuple(_copies(place, _lines(outputs.get(f"{step}_list", b"")))), tuple(links))


def _lines(output: bytes) -> list[str]:
    return [line.strip("\r") for line in output.decode("utf-8", "replace").splitlines() if line.strip()]


def _copies(place: Place, lines: Sequence[str]) -> Iterator[FoundCopy]:
    """Each copy begins with its folder in brackets, which no path has around it. Wildcards match short names, too: names are checked."""
    name, inside = "", list[str]()
    for line in (*lines, "[]"):
        if not line.startswith("["):
            at = line.lower().find(f"\\{name}\\".lower())
            if name and at >= 0:
                inside.append(line[at + len(name) + 2:])
            continue
        if name:
            yield FoundCopy(name, tuple(inside))
        found = _COPY.match(line)
        name, inside = (found["name"] if found and found["run"].lower() == place.run_id.lower() else ""), []


# -- sweep ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rubbish:
    """An incomplete copy that is to go: its folder, the files in it and its folders, all as safe relative names."""

    folder: str
    files: tuple[str, ...]
    folders: tuple[str, ...]


def rubbish_batches(copies: Sequence[Rubbish]) -> Iterator[tuple[Rubbish, ...]]:
    """Copies in turn, as many as fit one job."""
    batch: list[Rubbish] = []
    length = 0
    for copy in copies:
        size = 3 * len(copy.folder) + 60 + sum(len(name) + 20 for name in (*copy.files, *copy.folders))
        if batch and length + size > LARGEST:
            yield tuple(batch)
            batch, length = [], 0
        batch.append(copy)
        length += size
    if batch:
        yield tuple(batch)


def sweep_job(copies: Sequence[Rubbish]) -> Job:
    """Delete incomplete copies, one independent of the other. One that has got a manifest, or meets a link, is left alone."""
    values: dict[str, str] = {}
    stages = []
    for number, copy in enumerate(copies):
        base = f"W{number}"
        machine = ntpath.dirname(copy.folder)
        files = {f"{base}F{index}": name for index, name in enumerate(copy.files)}
        folders = {f"{base}D{index}": name for index, name in enumerate(copy.folders)}
        values |= {base: copy.folder, f"{base}V": machine, f"{base}H": ntpath.dirname(machine), **files, **folders}
        stages.append(Stage(tuple(_sweep_steps(number, tuple(files), tuple(folders))), essential=False))
    return Job(tuple(stages), values)


def _sweep_steps(number: int, files: Sequence[str], folders: Sequence[str]) -> Iterator[Step]:
    base, step = f"%AGH_W{number}%", f"w{number}"
    yield Step(f"{step}_host", f'dir /B /AL "%AGH_W{number}H%*"', _NO_LINK)
    yield Step(f"{step}_vm", f'dir /B /AL "%AGH_W{number}V%*"', _NO_LINK)
    yield Step(f"{step}_itself", f'dir /B /AL "{base}*"', _NO_LINK)
    yield Step(f"{step}_inside", f'dir /B /S /AL "{base}"', _NO_LINK)
    yield Step(f"{step}_manifest", f'dir /B /A "{base}\\{MANIFEST}"', None, f'not exist "{base}\\{MANIFEST}"')
    for index, name in enumerate(files):
        path = f'"{base}\\%AGH_{name}%'
        yield Step(f"{step}_file{index}", f'if not exist {path}\\" del /F /Q {path}"', None, f'not exist {path}"')
    for index, name in enumerate(folders):
        path = f'"{base}\\%AGH_{name}%'
        yield Step(f"{step}_folder{index}", f'if exist {path}\\" rmdir {path}"', None, f'not exist {path}\\"')
    yield Step(f"{step}_end", f'rmdir "{base}"', None, f'not exist "{base}\\"')


@dataclass(frozen=True)
class Swept:
    """What became of one copy: gone, or why not.

    ``link`` and ``manifest``: nothing was touched. ``locked``: a file could not be removed. ``foreign_files``: something else is in it.
    ``not_reached``: the job ended before.
    """

    folder: str
    gone: bool
    reason: str | None = None


_REASONS: Mapping[str, str] = {"host": "link", "vm": "link", "itself": "link", "inside": "link", "manifest": "manifest",
                               "end": "foreign_files"}


def swept(copies: Sequence[Rubbish], result: JobResult) -> tuple[Swept, ...]:
    """What :func:`sweep_job` came to, in its order."""
    return tuple(_swept(copy.folder, f"w{number}", result) for number, copy in enumerate(copies))


def _swept(folder: str, step: str, result: JobResult) -> Swept:
    if result.good(f"{step}_end"):
        return Swept(folder, True)
    failed = next((name.removeprefix(f"{step}_") for name in result.failed if name.startswith(f"{step}_")), None)
    if failed is None:
        return Swept(folder, False, "not_reached")
    return Swept(folder, False, _REASONS.get(failed) or ("foreign_files" if failed.startswith("folder") else "locked"))
