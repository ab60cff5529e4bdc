# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``dir``: its listing differs by language, so that nobody gets away with reading it."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from simulator.windows import errors, locales
from simulator.windows.errors import Win32Error
from simulator.windows.files import Entry, Location
from simulator.windows.programs.base import Context, wildcard

_DATES = {"en-US": "%m/%d/%Y  %I:%M %p", "de-DE": "%d.%m.%Y  %H:%M", "ja-JP": "%Y/%m/%d  %H:%M"}
_LINK_WORDS = {"symlinkd": "<SYMLINKD>", "symlink": "<SYMLINK>", "junction": "<JUNCTION>", "mount": "<JUNCTION>"}


def local_time(context: Context, when: datetime) -> datetime:
    """The wall clock of the host."""
    return when + timedelta(minutes=context.facts.utc_offset_minutes)


def list_directory(context: Context, word: str, found: set[str]) -> bool:
    """Print one listing; False when nothing matches. Raises Win32Error."""
    head, slash, last = word.rpartition("\\")
    above = head + slash if slash else "."
    pattern = re.search(r"[*?]", last) is not None
    if pattern or not context.existing(word).is_directory:
        folder, where, test = context.existing(above), context.full(above), wildcard(last)
    else:
        folder, where, test = context.existing(word), context.full(word), wildcard("*")
    if not folder.is_directory:
        raise Win32Error(errors.PATH_NOT_FOUND, word)
    return _print_folder(context, folder, where, test, found)


def _selected(found: set[str], entry: Entry) -> bool:
    """``/a``: without it hidden and system entries are left out; letters choose, a minus excludes."""
    choice = next((switch[1:].lstrip(":") for switch in found if switch.startswith("a")), None)
    if choice is None:
        return not (entry.hidden or entry.system)
    have = {"d": entry.is_directory, "h": entry.hidden, "s": entry.system, "r": entry.read_only, "l": entry.link is not None}
    return all(have.get(letter, True) is (sign != "-") for sign, letter in re.findall(r"(-?)([a-z])", choice))


def _print_folder(context: Context, folder: Location, where: str, test: Callable[[str], bool], found: set[str]) -> bool:
    children = list(context.files.children(folder, context.token))
    chosen = [(place, entry) for place in children for entry in [context.files.entry(place)]
              if test(entry.name) and _selected(found, entry)]
    dots = _dots(context, folder, where, test, found)
    listed = bool(chosen or dots) if "b" not in found else bool(chosen)
    if "b" in found:
        for _place, entry in chosen:
            context.out(where.rstrip("\\") + "\\" + entry.name if "s" in found else entry.name)
    elif listed:
        _print_long(context, folder, where, [*dots, *chosen], found)
    if "s" in found:
        for place in children:
            if place.is_directory and place.link is None:
                listed = _print_folder(context, place, where.rstrip("\\") + "\\" + place.parts[-1], test, found) or listed
    return listed


def _dots(context: Context, folder: Location, where: str, test: Callable[[str], bool], found: set[str]) -> list[tuple[Location, Entry]]:
    """``.`` and ``..``, which every folder has except the root of a drive."""
    if re.fullmatch(r"[A-Za-z]:\\?", where) or not test("."):
        return []
    own = context.files.entry(folder)
    rows = [(folder, replace(own, name=name, is_directory=True, link=None)) for name in (".", "..")]
    return [row for row in rows if _selected(found, row[1])]


def _print_long(context: Context, folder: Location, where: str, chosen: list[tuple[Location, Entry]], found: set[str]) -> None:
    """The long form; ``/q`` with owners, ``/-c`` without separators in numbers."""
    volume = folder.volume
    drive = where[0] if where[1:2] == ":" else where
    label = volume.spec.label
    context.out(context.say("volume_label", drive, label) if label else context.say("volume_no_label", drive))
    context.out(context.say("volume_serial", f"{volume.serial >> 16:04X}-{volume.serial & 0xFFFF:04X}"))
    context.out("")
    context.out(context.say("directory_of", where))
    context.out("")
    for line in _lines(context, chosen, found):
        context.out(line)
    files = [entry for _place, entry in chosen if not entry.is_directory]
    context.out(context.say("dir_files", len(files), _number(context, sum(entry.size for entry in files), found)))
    context.out(context.say("dir_dirs", len(chosen) - len(files), _number(context, volume.free_bytes, found)))


def _number(context: Context, value: int, found: set[str]) -> str:
    return str(value) if "-c" in found else grouped(context, value)


def _lines(context: Context, chosen: list[tuple[Location, Entry]], found: set[str]) -> Iterator[str]:
    form = _DATES.get(context.facts.locale, _DATES["en-US"])
    for place, entry in chosen:
        stamp = local_time(context, entry.modified).strftime(form)
        if entry.link:
            middle, name = _LINK_WORDS[entry.link.kind], f"{entry.name} [{entry.link.target}]"
        else:
            middle, name = ("<DIR>" if entry.is_directory else _number(context, entry.size, found).rjust(14)), entry.name
        who = ""
        if "q" in found:
            sid = context.files.owner(place)
            who = (locales.account_name(sid, context.facts.locale) or sid).ljust(23)
        yield f"{stamp}    {middle:<14} {who}{name}"


def grouped(context: Context, number: int) -> str:
    """A number with the thousands separator of the host's language."""
    text = f"{number:,}"
    return text.replace(",", ".") if context.facts.locale == "de-DE" else text
