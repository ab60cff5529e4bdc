# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``icacls``: lists, saves and changes access lists; names are printed in the language of the host, SIDs are understood anywhere."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from simulator.windows import acl, errors, identity, locales
from simulator.windows.acl import Ace, Acl
from simulator.windows.cmdparse import split_arguments
from simulator.windows.errors import Win32Error
from simulator.windows.files import Location
from simulator.windows.programs.base import Context, Steps
from simulator.windows.volumes import Node, key_of

Change = Callable[[Context, Location], None]


def run(context: Context, tail: str) -> Steps:
    """Exit code 0, or the Win32 error of the first failure; 87 for a wrong argument, 1332 for an unknown account."""
    yield from ()
    words = split_arguments(tail)
    if not words:
        return errors.INVALID_PARAMETER
    flags = {word.lower() for word in words[1:] if word.lower() in ("/q", "/t", "/c", "/l")}
    rest = [word for word in words[1:] if word.lower() not in ("/q", "/t", "/c", "/l")]
    try:
        if rest and rest[0].lower() == "/save":
            return _save(context, words[0], rest[1:], flags)
        changes = list(_changes(context, rest))
    except Win32Error as refused:
        context.err(f"{rest[0]}: {context.error_text(refused.code)}")
        return refused.code
    except ValueError:
        context.err(f"Invalid parameter \"{' '.join(rest)}\"")
        return errors.INVALID_PARAMETER
    return _apply(context, words[0], changes, flags)


def _targets(context: Context, path: str, flags: set[str]) -> Iterator[Location]:
    top = context.existing(path, follow_last="/l" not in flags)
    yield top
    if "/t" in flags:
        yield from _below(context, top)


def _below(context: Context, place: Location) -> Iterator[Location]:
    if place.is_directory and place.link is None:
        for entry in list(context.files.children(place, context.token)):
            yield entry
            yield from _below(context, entry)


def _apply(context: Context, path: str, changes: list[Change], flags: set[str]) -> int:
    done = failed = status = 0
    try:
        for place in _targets(context, path, flags):
            try:
                for change in changes:
                    change(context, place)
                if not changes:
                    _print(context, place, path)
                elif "/q" not in flags:
                    context.out(context.say("icacls_processed", place.path.text()))
                done += 1
            except Win32Error as refused:
                context.err(f"{place.path.text()}: {context.error_text(refused.code)}")
                failed, status = failed + 1, status or refused.code
                if "/c" not in flags:
                    break
    except Win32Error as refused:
        context.err(f"{path}: {context.error_text(refused.code)}")
        failed, status = failed + 1, refused.code
    context.out(context.say("icacls_done", done, failed))
    return status


def _changes(context: Context, words: list[str]) -> Iterator[Change]:
    rest = list(words)
    while rest:
        word = rest.pop(0).lower()
        values = []
        while rest and not rest[0].startswith("/"):
            values.append(rest.pop(0))
        if word in ("/grant", "/grant:r", "/deny") and values:
            for value in values:
                yield _grant(context, value, replace=word.endswith(":r"), allow=word != "/deny")
        elif word in ("/remove", "/remove:g", "/remove:d") and values:
            for value in values:
                yield _remove(_sid(context, value))
        elif word == "/setowner" and len(values) == 1:
            yield _own(_sid(context, values[0]))
        elif word == "/reset" and not values:
            yield lambda at, place: at.files.set_acl(place, Acl(), at.token)
        elif word in ("/inheritance:r", "/inheritance:d", "/inheritance:e") and not values:
            yield _inheritance(word[-1])
        else:
            raise ValueError(word)


def _sid(context: Context, text: str) -> str:
    if text.startswith("*"):
        if not re.fullmatch(r"\*S-1-[\d-]+", text, re.IGNORECASE):
            raise Win32Error(errors.NONE_MAPPED, text)
        return text[1:].upper()
    for sid in locales.ACCOUNT_NAMES["en-US"]:
        name = locales.account_name(sid, context.facts.locale) or ""
        if text.lower() in (name.lower(), name.rpartition("\\")[2].lower()):
            return sid
    english = text.lower() in identity.WELL_KNOWN  # on a host that has another name for it
    if english or re.search(r'["/\[\]:;|=,+*?<>]', text):
        raise Win32Error(errors.NONE_MAPPED, text)
    sid_of_account = identity.principal_sid(text, context.facts.name)
    if sid_of_account is None:
        raise Win32Error(errors.NONE_MAPPED, text)
    return sid_of_account


def _grant(context: Context, text: str, *, replace: bool, allow: bool) -> Change:
    principal, colon, rights = text.partition(":")
    if not colon:
        raise ValueError(text)
    sid = _sid(context, principal)
    mask, flags = acl.parse_grant(rights)

    def change(at: Context, place: Location) -> None:
        own = _own_acl(place)
        kept = own.without(sid) if replace else own
        usable = flags if place.is_directory else frozenset[str]()
        at.files.set_acl(place, kept.plus([Ace(sid, mask, usable, allow)]), at.token)

    return change


def _own_acl(place: Location) -> Acl:
    return (place.volume.backing.nodes.get(key_of(place.parts)) or Node()).acl


def _remove(sid: str) -> Change:
    return lambda at, place: at.files.set_acl(place, _own_acl(place).without(sid), at.token)


def _own(sid: str) -> Change:
    return lambda at, place: at.files.set_owner(place, sid, at.token)


def _inheritance(letter: str) -> Change:
    def change(at: Context, place: Location) -> None:
        own = _own_acl(place)
        if letter == "e":
            rules = Acl(own.entries, False)
        elif letter == "r":
            rules = Acl(own.entries, True)
        else:
            rules = Acl(tuple(Ace(ace.sid, ace.mask, ace.flags, ace.allow) for ace in at.files.effective_acl(place)), True)
        at.files.set_acl(place, rules, at.token)

    return change


def _save(context: Context, path: str, rest: list[str], flags: set[str]) -> int:
    """``/save FILE``: for each object its name and its DACL in SDDL, as UTF-16LE without a byte order mark."""
    if len(rest) != 1:
        return errors.INVALID_PARAMETER
    lines = []
    try:
        for place in _targets(context, path, flags):
            sddl = acl.format_sddl(context.files.effective_acl(place), _own_acl(place).protected)
            lines.append(f"{place.parts[-1] if place.parts else ''}\r\n{sddl}\r\n")
        context.files.write_file(context.full(rest[0]), "".join(lines).encode("utf-16-le"), context.token)
    except Win32Error as refused:
        context.err(f"{path}: {context.error_text(refused.code)}")
        context.out(context.say("icacls_done", 0, 1))
        return refused.code
    context.out(context.say("icacls_done", len(lines), 0))
    return 0


def _print(context: Context, place: Location, path: str) -> None:
    context.files.check(place, acl.READ_CONTROL, context.token)
    lead = path
    for ace in context.files.effective_acl(place):
        name = locales.account_name(ace.sid, context.facts.locale) or ace.sid
        flags = ("(I)" if ace.inherited else "") + "".join(f"({flag})" for flag in ("OI", "CI", "IO", "NP") if flag in ace.flags)
        context.out(f"{lead} {name}:{'' if ace.allow else '(DENY)'}{flags}({acl.format_mask(ace.mask)})")
        lead = " " * len(path)
    context.out("")
