# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""What runs of ours left on a host, whether others were touched, and whether a success is true: one check for every operation.

    others = others_of(host, "E:\\Backup")                       # before: what is there already is foreign
    ...
    assert_nothing_left(host, others, destinations=["E:\\Backup", "\\\\NAS\\backup"], ending=ending)

``problems_on`` yields the same as sentences, for the checks of the fault harness. Everything is looked for where the collection's
documentation says that it puts things, and judged by the simulator's own knowledge, never by the collection's code. Hold the fleet's lock.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from simulator.host import SimHost
from simulator.windows.files import Location
from simulator.windows.scheduler.definition import TaskDefinition
from simulator.windows.shadows import ShadowCopy
from support.in_process import Ending

STATE = "C:\\ProgramData\\agentless.hyperv"
PARTS = frozenset({"s", "intents", "jobs", "leases"})
TASKS = "\\agentless.hyperv\\"
MANIFEST = "manifest.json"

Left: TypeAlias = tuple[str, str]
"""Kind (as in the ``leftovers`` of a result where it has a name there) and ID or path."""


@dataclass(frozen=True)
class Others:
    """What belongs to others: shadow copies, tasks by their URI with their definition, programs, files with their digests."""

    shadows: tuple[ShadowCopy, ...] = ()
    tasks: Mapping[str, TaskDefinition] = field(default_factory=dict)
    programs: frozenset[int] = frozenset()
    files: Mapping[str, str] = field(default_factory=dict)


def others_of(host: SimHost, *folders: str) -> Others:
    """Everything that is there now and is not ours: shadow copies, tasks, programs, and every file in ``folders`` (local or UNC)."""
    return Others(
        tuple(copy for copy in host.shadows.copies if copy.foreign),
        {task.uri: task.definition for task in host.tasks.tasks() if task.path.lower() != TASKS},
        frozenset(process.pid for process in host.processes.running()),
        {path: digest(host, path) for folder in folders for path in files_below(host, folder)})


def assert_nothing_left(host: SimHost, others: Others | None = None, *, destinations: Iterable[str] = (), ending: Ending | None = None,
                        kept: Collection[str] = ()) -> None:
    """AssertionError with everything that :func:`problems_on` finds."""
    problems = list(problems_on(host, others, destinations=destinations, ending=ending, kept=kept))
    if problems:
        raise AssertionError("; ".join(problems))


def problems_on(host: SimHost, others: Others | None = None, *, destinations: Iterable[str] = (), ending: Ending | None = None,
                kept: Collection[str] = ()) -> Iterator[str]:
    """Sentences: what of ours is left (but complete copies), what of others was touched, which success is none.

    ``kept``: IDs of shadow copies that were made to stay, with their links and intents.
    """
    destinations = tuple(destinations)
    known = others or Others()
    yield from (f"left over: {kind} {name}" for kind, name in left_on(host, known, destinations, kept))
    yield from touched(host, known)
    if ending is not None:
        yield from false_successes(host, ending)


# -- ours --------------------------------------------------------------------------------------------------------------


def left_on(host: SimHost, others: Others, destinations: Iterable[str] = (), kept: Collection[str] = ()) -> Iterator[Left]:
    """Everything of ours but the empty parts of the state folder, complete copies, and what belongs to ``kept`` shadow copies."""
    stay = {shadow_id.lower() for shadow_id in kept}
    yield from (("shadow_copy", copy.shadow_id) for copy in host.shadows.copies
                if not copy.foreign and copy not in others.shadows and copy.shadow_id.lower() not in stay)
    yield from (("task", task.uri) for task in host.tasks.tasks() if task.path.lower() == TASKS)
    yield from (("program", process.command_line) for process in host.processes.running() if process.pid not in others.programs)
    for kind, part in (("link", "s"), ("intent", "intents"), ("job", "jobs"), ("lease", "leases")):
        for name in names(host, f"{STATE}\\{part}"):
            if not any(shadow_id in name.lower() for shadow_id in stay):
                yield kind, f"{STATE}\\{part}\\{name}"
    yield from (("file", f"{STATE}\\{name}") for name in names(host, STATE) if name not in PARTS)
    yield from (("folder", name) for name in names(host, "C:\\ProgramData") if name.lower().startswith("agentless.hyperv."))
    yield from (("file", name) for name in names(host, "C:\\Windows\\Temp") if name.lower().startswith("agentless.hyperv"))
    for destination in destinations:
        yield from _left_at(host, others, destination)


def _left_at(host: SimHost, others: Others, destination: str) -> Iterator[Left]:
    """``<destination>\\<host>\\<VM>\\<copy>``: copies that are not complete, and whatever lies beside them."""
    foreign = {path.lower() for path in others.files}
    for machine in names(host, f"{destination}\\{host.name}"):
        folder = f"{destination}\\{host.name}\\{machine}"
        copies = [f"{folder}\\{name}" for name in names(host, folder)] if is_folder(host, folder) else [folder]
        for copy in copies:
            below = {path.lower(): path for path in files_below(host, copy)} if is_folder(host, copy) else {copy.lower(): copy}
            if below and below.keys() <= foreign:
                continue
            listed = None if copy == folder else manifest_of(host, copy)
            if listed is None:
                yield ("incomplete_copy" if is_folder(host, copy) else "file"), copy
                continue
            promised = {f"{copy}\\{file['path']}".lower(): file["size"] for file in listed["files"]}
            promised[f"{copy}\\{MANIFEST}".lower()] = None
            yield from (("file", path) for key, path in below.items() if key not in promised and key not in foreign)
    for name in names(host, destination):
        path = f"{destination}\\{name}"
        if not is_folder(host, path) and path.lower() not in foreign:
            yield "file", path


def manifest_of(host: SimHost, copy: str) -> dict[str, Any] | None:
    """The manifest in a copy's folder; None without one that can be read."""
    path = f"{copy}\\{MANIFEST}"
    if not host.files.exists(path):
        return None
    try:
        found = json.loads(host.files.read_file(path))
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("files"), list) else None


# -- others ------------------------------------------------------------------------------------------------------------


def touched(host: SimHost, others: Others) -> Iterator[str]:
    """What of others is gone or changed."""
    yield from (f"another product's shadow copy {copy.shadow_id} is gone" for copy in others.shadows if copy not in host.shadows.copies)
    tasks = {task.uri: task.definition for task in host.tasks.tasks()}
    for uri, definition in others.tasks.items():
        if tasks.get(uri) != definition:
            yield f"another product's task {uri} is {'changed' if uri in tasks else 'gone'}"
    for path, known in others.files.items():
        if not host.files.exists(path):
            yield f"another's file {path} is gone"
        elif digest(host, path) != known:
            yield f"another's file {path} is changed"


# -- successes ---------------------------------------------------------------------------------------------------------


def false_successes(host: SimHost, ending: Ending) -> Iterator[str]:
    """Each entry of a result that did not fail and tells of a copy: the copy is there, with its manifest and all files of it."""
    result = ending.result or {}
    for entry in result.get("results", (result,)):
        told = entry.get("manifest")
        if entry.get("failed") or not told:
            continue
        machine, copy = entry["vm"]["name"], told["folder"]
        found = manifest_of(host, copy)
        if found is None:
            yield f"success for {machine} without a manifest in {copy}"
        elif found["vm"]["name"] != machine:
            yield f"success for {machine} with the copy of {found['vm']['name']}"
        else:
            for file in found["files"]:
                path = f"{copy}\\{file['path']}"
                size = host.files.resolve(path).real.stat().st_size if host.files.exists(path) else None
                if size != file["size"]:
                    yield f"success for {machine}, and {path} has {size} bytes instead of {file['size']}"


# -- files -------------------------------------------------------------------------------------------------------------


def names(host: SimHost, path: str) -> list[str]:
    """The names in a folder, links as they are; nothing when it is no folder."""
    return [place.parts[-1] for place in children(host, path)]


def children(host: SimHost, path: str) -> list[Location]:
    """What is in a folder; nothing when it is none."""
    return list(host.files.children(host.files.resolve(path))) if is_folder(host, path) else []


def is_folder(host: SimHost, path: str) -> bool:
    """A folder or a link to one that is there."""
    return host.files.exists(path) and host.files.resolve(path).is_directory


def files_below(host: SimHost, path: str) -> Iterator[str]:
    """Paths of all files and links below a folder; links are not followed."""
    for place in children(host, path):
        child = f"{path}\\{place.parts[-1]}"
        if place.is_directory and place.link is None:
            yield from files_below(host, child)
        else:
            yield child


def digest(host: SimHost, path: str) -> str:
    """The SHA-256 of a file; the target of a link."""
    place = host.files.resolve(path, follow_last=False)
    return f"link to {place.link.target}" if place.link is not None else hashlib.sha256(place.real.read_bytes()).hexdigest()
