# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in commands of cmd that work on files.

Each returns the status that ``&&`` sees and the new ERRORLEVEL (None: left as it was). ``rd`` reports a failure only through
the status, and ``del`` calls a file that it could not remove no failure at all.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from simulator.windows import acl, errors, paths
from simulator.windows.errors import Win32Error
from simulator.windows.files import Location
from simulator.windows.listing import list_directory
from simulator.windows.programs.base import Context, NotSimulated, wildcard

Result: TypeAlias = tuple[int, int | None]
OK: Result = (0, 0)
FAILED: Result = (1, 1)


def switches(tail: str) -> tuple[set[str], list[str]]:
    """The switches in lower case without the slash, and the other words. ``/s/q`` are two."""
    found: set[str] = set()
    words = []
    for word in re.findall(r'(?:"[^"]*"?|[^\s,;="])+', tail):
        if word.startswith("/"):
            found.update(part.lower() for part in word.split("/") if part)
        else:
            words.append(word.replace('"', ""))
    return found, [word for word in words if word]


def _say_error(context: Context, code: int) -> None:
    context.err(context.error_text(code))


def make_directory(context: Context, tail: str) -> Result:
    """``mkdir``: makes the folders above, too; fails when the last one is there."""
    _found, words = switches(tail)
    if not words:
        context.err(context.say("syntax"))
        return FAILED
    result = OK
    for word in words:
        try:
            _make_path(context, word)
        except Win32Error as refused:
            if refused.code == errors.ALREADY_EXISTS:
                context.err(context.say("exists_directory", word))
            else:
                _say_error(context, refused.code)
            result = FAILED
    return result


def _make_path(context: Context, word: str) -> None:
    if paths.is_device_form(word):
        raise Win32Error(errors.INVALID_NAME, word)
    if not word.startswith("\\\\?\\") and len(context.full(word)) >= paths.MAX_PATH - 12:  # room for an 8.3 name must be left
        raise Win32Error(errors.NAME_TOO_LONG, word)
    wanted = paths.parse(word, context.directory)
    for count in range(1, len(wanted.parts)):
        above = paths.WindowsPath(wanted.kind, wanted.root, wanted.parts[:count], verbatim=wanted.verbatim)
        if not context.files.walk(above, token=context.token).exists:
            context.files.create_directory(above.text(), context.token)
    context.files.create_directory(wanted.text(), context.token)


def remove_directory(context: Context, tail: str) -> Result:
    """``rmdir``: a link is removed without touching its target; ``/s`` removes what is inside, ``/q`` does not ask."""
    found, words = switches(tail)
    if not words:
        context.err(context.say("syntax"))
        return FAILED
    status = 0
    for word in words:
        try:
            place = context.existing(word, follow_last=False)
            if "s" in found:
                if "q" not in found:
                    raise NotSimulated("the question of rmdir /s without /q")
                _remove_tree(context, place)
            else:
                context.files.remove_directory(place, context.token)
        except Win32Error as refused:
            _say_error(context, refused.code)
            status = refused.code
    return status, None


def _remove_tree(context: Context, place: Location) -> None:
    if place.link is None and place.is_directory:
        for entry in list(context.files.children(place, context.token)):
            if entry.is_directory:
                _remove_tree(context, entry)
            else:
                context.files.remove_file(entry, context.token, force=True)
    context.files.remove_directory(place, context.token)


def _matches(context: Context, word: str) -> Iterator[Location]:
    """The files that a word of ``del``, ``copy`` or ``move`` names."""
    if not re.search(r"[*?]", word):
        place = context.locate(word, follow_last=False)
        if place.exists:
            yield place
        return
    head, slash, last = word.rpartition("\\")
    test = wildcard(last)
    for entry in list(context.files.children(context.existing(head + slash if slash else "."), context.token)):
        if test(entry.parts[-1]):
            yield entry


def delete(context: Context, tail: str) -> Result:
    """``del``: files only; names that are not there and files that are in use leave ERRORLEVEL at 0."""
    found, words = switches(tail)
    if not words:
        context.err(context.say("syntax"))
        return FAILED
    if "p" in found or "s" in found:
        raise NotSimulated("del /p and /s")
    for word in words:
        try:
            places = list(_matches(context, word))
            if len(places) == 1 and places[0].is_directory and not re.search(r"[*?]", word):
                if "q" not in found:
                    raise NotSimulated("the question of del for a folder")
                places = list(context.files.children(context.existing(word), context.token))
            files = [place for place in places if not place.is_directory]
            if not files:
                context.err(context.say("not_found_name", context.full(word)))
            for place in files:
                _delete_one(context, place, "f" in found)
        except Win32Error as refused:
            _say_error(context, refused.code)
            return FAILED if refused.code in (errors.INVALID_NAME, errors.NAME_TOO_LONG) else OK
    return OK


def _delete_one(context: Context, place: Location, force: bool) -> None:
    try:
        context.files.remove_file(place, context.token, force=force)
    except Win32Error as refused:
        context.err(place.path.text())
        _say_error(context, refused.code)


def make_link(context: Context, tail: str) -> Result:
    """``mklink [/D | /J] link target``: the target is kept as it is written, whether or not it is there."""
    found, words = switches(tail)
    if "h" in found:
        raise NotSimulated("hard links")
    if len(words) != 2 or found - {"d", "j"}:
        context.err(context.say("syntax"))
        return FAILED
    link, target = words
    kind = "junction" if "j" in found else "symlinkd" if "d" in found else "symlink"
    try:
        context.locate(link, follow_last=False)
        if kind == "junction":
            if paths.is_device_form(target) or target.startswith("\\\\"):
                raise Win32Error(errors.INVALID_NAME, target)
            target = context.full(target)
        context.files.make_link(context.full(link), target, kind, context.token)
    except Win32Error as refused:
        _say_error(context, refused.code)
        return FAILED
    context.out(context.say("junction" if kind == "junction" else "symbolic_link", link, target))
    return OK


def show(context: Context, tail: str) -> Result:
    """``type``: the bytes of files; UTF-16 with a byte order mark is turned into the console's code page."""
    _found, words = switches(tail)
    if not words:
        context.err(context.say("syntax"))
        return FAILED
    result = OK
    for word in words:
        if word.lower() == "nul":
            continue
        try:
            context.locate(word)
            data = context.files.read_file(word, context.token, context.directory)
        except Win32Error as refused:
            _say_error(context, refused.code)
            result = FAILED
            continue
        if data.startswith(b"\xff\xfe"):
            data = context.encode(data[2:].decode("utf-16-le", "replace"))
        context.stdout.write(data)
    return result


def move(context: Context, tail: str) -> Result:
    """``move [/Y] source target``: within a volume a renaming, otherwise a copy and a removal."""
    found, words = switches(tail)
    if len(words) != 2:
        context.err(context.say("syntax"))
        return FAILED
    try:
        sources = list(_matches(context, words[0]))
        if not sources:
            raise Win32Error(errors.FILE_NOT_FOUND, words[0])
        folder = sources[0].is_directory
        for source in sources:
            _move_one(context, source, words[1], "y" in found)
    except Win32Error as refused:
        _say_error(context, refused.code)
        return FAILED
    context.out(context.say("moved_directory" if folder else "moved", len(sources)))
    return OK


def _target_of(context: Context, source: Location, text: str) -> Location:
    target = context.locate(text)
    if target.is_directory:
        target = context.locate(text.rstrip("\\") + "\\" + source.parts[-1])
    return target


def _move_one(context: Context, source: Location, text: str, overwrite: bool) -> None:
    target = _target_of(context, source, text)
    if target.exists and not overwrite and target.real != source.real:
        raise NotSimulated("the question of move without /Y")
    try:
        context.files.rename(source, target, context.token, replace=overwrite)
    except Win32Error as refused:
        if refused.code != errors.NOT_SAME_DEVICE:
            raise
        if source.is_directory:
            raise Win32Error(errors.ACCESS_DENIED, text) from refused
        data = context.files.read_file(source.path.text(), context.token)
        context.files.write_file(target.path.text(), data, context.token)
        context.files.remove_file(source, context.token)


def rename(context: Context, tail: str) -> Result:
    """``ren old new``: the new name has no folder."""
    _found, words = switches(tail)
    if len(words) != 2 or re.search(r"[\\/:]", words[1]):
        context.err(context.say("syntax"))
        return FAILED
    if re.search(r"[*?]", words[0] + words[1]):
        raise NotSimulated("ren with wildcards")
    try:
        source = context.existing(words[0], follow_last=False)
        target = context.locate(source.path.parent.child(words[1]).text(), follow_last=False)
        context.files.rename(source, target, context.token)
    except Win32Error as refused:
        context.err(context.say("duplicate_name") if refused.code == errors.ALREADY_EXISTS else context.error_text(refused.code))
        return FAILED
    return OK


def copy(context: Context, tail: str) -> Result:
    """``copy [/Y] [/B] source target``; nothing is appended and a device is no source, except NUL."""
    found, words = switches(tail)
    if "+" in tail:
        raise NotSimulated("copy of several files into one")
    if not 1 <= len(words) <= 2:
        context.err(context.say("syntax"))
        return FAILED
    target_text = words[1] if len(words) == 2 else "."
    count = 0
    try:
        sources = [None] if words[0].lower() == "nul" else [place for place in _matches(context, words[0]) if not place.is_directory]
        if not sources:
            raise Win32Error(errors.FILE_NOT_FOUND, words[0])
        for source in sources:
            _copy_one(context, source, target_text, "y" in found)
            count += 1
    except Win32Error as refused:
        _say_error(context, refused.code)
        context.out(context.say("copied", count))
        return FAILED
    context.out(context.say("copied", count))
    return OK


def _copy_one(context: Context, source: Location | None, text: str, overwrite: bool) -> None:
    target = _target_of(context, source, text) if source else context.locate(text)
    if target.exists and not overwrite:
        raise NotSimulated("the question of copy without /Y")
    data = b""
    if source is not None:
        context.files.check(source, acl.READ_DATA, context.token)
        data = context.files.read_file(source.path.text(), context.token)
    context.files.write_file(target.path.text(), data, context.token)


def directory(context: Context, tail: str) -> Result:
    """``dir``."""
    found, words = switches(tail)
    result = OK
    for word in words or ["."]:
        try:
            listed = list_directory(context, word, found)
        except Win32Error as refused:
            if refused.code == errors.FILE_NOT_FOUND:
                context.err(context.say("file_not_found"))
            else:
                _say_error(context, refused.code)
            result = FAILED
            continue
        if not listed:
            context.err(context.say("file_not_found"))
            result = FAILED
    return result


FILE_BUILTINS: Mapping[str, Callable[[Context, str], Result]] = {
    "mkdir": make_directory, "md": make_directory, "rmdir": remove_directory, "rd": remove_directory, "del": delete, "erase": delete,
    "mklink": make_link, "type": show, "move": move, "ren": rename, "rename": rename, "copy": copy, "dir": directory,
}
