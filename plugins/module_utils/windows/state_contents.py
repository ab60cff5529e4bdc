# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the state folder of a host holds, and what else runs of ours may have left; read without changing anything.

Names come from the host's file classes, which start no program there. Only intents have to be read by a program, and
a host has some only while a run works or after one was interrupted. That program lists the links, too.
"""
from __future__ import annotations

import ntpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import wql
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, leases
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import Found, LeaseFolder, LeasePlace
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command, reading_programs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import FOLDER, Intent, StateFolder, is_shadow_id, parse_intent
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import CIMV2

# the names above the state folder tell whether it is a link itself
READ_STATE = Command('dir /B /AL "%AGH_STATE%*" & dir /B /AL "%AGH_LINKS%"'
                     ' & %SystemRoot%\\System32\\findstr.exe /S /N "^" "%AGH_INTENTS%\\*.json"', reads_only=True)
LIST_BELOW = Command('dir /B /S /A "%AGH_PATH%"', reads_only=True)
LIST_FOLDERS = Command('dir /B /AD "%AGH_PATH%"', reads_only=True)
_LINE = re.compile(r"\\(?P<file>[^\\:]+\.json):\d+:(?P<text>.*)\Z", re.IGNORECASE)
_STAGED = re.compile(re.escape(FOLDER) + r"\.[0-9a-f]{12}\Z", re.IGNORECASE)
_SAVED = re.compile(re.escape(FOLDER) + r"\.[0-9a-f]{12}\.acl\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """A file or an empty folder of ours that says nothing about itself but its name and, perhaps, its time."""

    path: str
    modified: datetime | None


@dataclass(frozen=True)
class Contents:
    """What is there. ``links`` are the IDs that links are named by. ``damaged`` intents can be read but not understood,
    ``unfinished`` ones were being written when the run ended: nothing was created after them. ``others`` are files that announce something
    else than a shadow copy, which their ending tells; None when nobody knows whether there are any. ``written``: when the host wrote an
    intent, by its name in lower case, as far as that is known.
    """

    links: tuple[str, ...] = ()
    intents: tuple[Intent, ...] = ()
    damaged: tuple[Entry, ...] = ()
    unfinished: tuple[Entry, ...] = ()
    others: tuple[Entry, ...] | None = ()
    written: Mapping[str, datetime] = field(default_factory=dict)

    def intent(self, name: str) -> Intent | None:
        """One intent by its name."""
        return next((intent for intent in self.intents if intent.name == name), None)


def read_contents(reader: CimReader, folder: StateFolder) -> Contents:
    """Links and intents: two requests, and one program when there are intents.

    An empty answer for a folder that is not there. Raises HypervError ``state_dir_untrusted`` when the folder is a link.
    """
    links = _listed(reader, "Win32_Directory", folder.links)
    names = _listed(reader, "CIM_DataFile", folder.intents)
    if links is None or names is None:  # the host takes no filters: the program lists everything
        return replace(_read_by_program(reader, folder, ()), others=None)
    others = tuple(entry for entry in names if not entry.path.lower().endswith((".json", ".json.tmp")))
    if not any(entry.path.lower().endswith(".json") for entry in names):
        return Contents(_ids(ntpath.basename(entry.path) for entry in links), unfinished=_unfinished(names), others=others)
    return replace(_read_by_program(reader, folder, names), others=others)


def read_strays(reader: CimReader, folder: StateFolder) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    """Folders and files of an interrupted making of the state folder: (folders beside it, saved access lists); two requests.

    Nothing is known of either when the host takes no filters.
    """
    drive = folder.path[:2]
    beside = _listed(reader, "Win32_Directory", ntpath.dirname(folder.path)) or ()
    saved = _listed(reader, "CIM_DataFile", f"{drive}\\Windows\\Temp", {"Extension": "acl"}) or ()
    return (tuple(entry for entry in beside if _STAGED.match(ntpath.basename(entry.path))),
            tuple(entry for entry in saved if _SAVED.match(ntpath.basename(entry.path))))


def read_leases(reader: CimReader, folder: StateFolder, *, but: str = "", slots: bool = False) -> tuple[LeaseFolder, ...]:
    """The leases of runs but one, and what the making of some left: one request, and one more for each; one program without filters.

    ``slots``: also what stands in the slots of limits, which does not tell whether a run is at work.
    """
    def wanted(name: str) -> bool:
        return name.lower() != but.lower() and (slots or not leases.is_slot(name))

    listed = _listed(reader, "Win32_Directory", folder.leases)
    if listed is None:
        return tuple(one for one in _leases_by_program(reader, folder) if wanted(one.name))
    found = []
    for entry in (one for one in listed if wanted(ntpath.basename(one.path))):
        inside = _listed(reader, "CIM_DataFile", entry.path) or ()
        found.append(_lease_folder(entry, [ntpath.basename(one.path) for one in inside]))
    return tuple(found)


def read_jobs(reader: CimReader, folder: StateFolder) -> tuple[Entry, ...]:
    """The folders of jobs, whatever they are called; one request, or one program without filters."""
    listed = _listed(reader, "Win32_Directory", folder.jobs)
    if listed is not None:
        return listed
    with reading_programs(reader, {"PATH": folder.jobs}) as programs:
        result = programs.run(LIST_FOLDERS, timeout=files.SHORT)
    return tuple(Entry(f"{folder.jobs}\\{line}", None) for line in result.stdout.decode("utf-8", "replace").splitlines() if line.strip())


def _leases_by_program(reader: CimReader, folder: StateFolder) -> tuple[LeaseFolder, ...]:
    with reading_programs(reader, {"PATH": folder.leases}) as programs:
        result = programs.run(LIST_BELOW, timeout=files.SHORT)
    names: dict[str, list[str]] = {}
    start = f"{folder.leases}\\".lower()
    for line in result.stdout.decode("utf-8", "replace").splitlines():
        if line.lower().startswith(start):
            name, _unused, inside = line[len(start):].partition("\\")
            names.setdefault(name, []).extend([inside] if inside else [])
    return tuple(_lease_folder(Entry(start + name, None), inside) for name, inside in names.items())


def _lease_folder(entry: Entry, names: Sequence[str]) -> LeaseFolder:
    name = ntpath.basename(entry.path)
    try:
        found = leases.read_names(LeasePlace(ntpath.dirname(entry.path), name), names)
    except ValueError:
        found = Found(damage="its name is not that of a run")
    return LeaseFolder(entry.path, name, entry.modified, found)


def _listed(reader: CimReader, class_name: str, path: str, more: dict[str, str] | None = None) -> tuple[Entry, ...] | None:
    """The entries of one folder, never of more: without drive and path the classes walk the disks (windows facts 5).

    None when the host refuses filters: the client must not fall back on reading the whole class.
    """
    drive, rest = path[:2], path[2:]
    where: dict[str, wql.Literal] = {"Drive": drive, "Path": rest + "\\", **(more or {})}
    found = reader.query_if_filtered(wql.select(CIMV2, class_name, where, ["Name", "LastModified"]))
    return None if found is None else tuple(_entry(row) for row in found)


def _entry(row: Instance) -> Entry:
    return Entry(row.required_text("Name"), row.time("LastModified"))


def _unfinished(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(entry for entry in entries if entry.path.lower().endswith(".json.tmp"))


def _ids(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if is_shadow_id(name)}))


def _read_by_program(reader: CimReader, folder: StateFolder, names: Sequence[Entry]) -> Contents:
    values = {"STATE": folder.path, "LINKS": folder.links, "INTENTS": folder.intents}
    with reading_programs(reader, values) as programs:
        result = programs.run(READ_STATE, timeout=files.SHORT)
    lines = [raw.decode("utf-8", "replace").rstrip("\r") for raw in result.stdout.splitlines()]
    if FOLDER in (line.strip().lower() for line in lines):
        raise HypervError(f"The folder {folder.path} on the host cannot be trusted: it is a link to somewhere else.",
                          error_code="state_dir_untrusted", hint="Look who made it and why, and remove it.")
    intents, damaged = _intents(lines, {ntpath.basename(entry.path).lower() for entry in names})
    times = {ntpath.basename(entry.path).lower(): entry.modified for entry in names}
    written = {name.removesuffix(".json"): time for name, time in times.items() if time is not None}
    return Contents(_ids(line.strip() for line in lines), intents,
                    tuple(Entry(f"{folder.intents}\\{name}", times.get(name.lower())) for name in damaged), _unfinished(names),
                    written=written)


def _intents(lines: Iterable[str], names: Iterable[str]) -> tuple[tuple[Intent, ...], tuple[str, ...]]:
    """Intents, and the names of files that are none, out of findstr's ``path:line:text``. An empty file has no lines."""
    texts: dict[str, list[str]] = {}
    for line in lines:
        match = _LINE.search(line)
        if match is not None:
            texts.setdefault(match.group("file"), []).append(match.group("text"))
    shown = {name.lower() for name in texts}
    intents, damaged = [], [name for name in names if name.endswith(".json") and name not in shown]
    for name, parts in sorted(texts.items()):
        try:
            intents.append(parse_intent(name, "\n".join(parts)))
        except ValueError:
            damaged.append(name)
    return tuple(intents), tuple(sorted(damaged))
