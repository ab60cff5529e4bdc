# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in commands of cmd that belong to the shell itself: variables, current directory, exit."""
from __future__ import annotations

import re
from typing import TYPE_CHECKING

from simulator.windows import cmdparse, errors
from simulator.windows.cmdparse import Simple
from simulator.windows.errors import Win32Error
from simulator.windows.programs.base import Context, NotSimulated, Steps

if TYPE_CHECKING:
    from simulator.windows.cmdline import Shell


class ShellExit(Exception):
    """``exit``: the shell ends with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _echo(shell: Shell, context: Context, tail: str) -> Steps:
    yield from ()
    if tail.strip().lower() in ("on", "off"):
        return shell.errorlevel
    if not tail.strip() and tail[:1] not in (".", ":", "(", "/", "\\", "["):
        context.out("ECHO is on.")
    else:
        context.out(tail[1:])
    return 0


def _set(shell: Shell, context: Context, tail: str) -> Steps:
    text = tail.lstrip(" ")
    if text.lower().startswith("/a"):
        raise NotSimulated("set /a")
    if text.lower().startswith("/p"):
        name, _unused, prompt = _assignment(text[2:].lstrip(" "))
        context.out(prompt, end="")
        value = (yield from context.stdin.read_line()).decode(context.encoding, "replace")
        if value:
            _assign(context, name, value)
        return 0 if value else 1
    name, equals, value = _assignment(text)
    if equals:
        if not name:
            context.err(context.say("syntax"))
            return 1
        _assign(context, name, value)
        return 0
    found = sorted((key, text) for key, text in context.environment.items() if key.upper().startswith(name.upper()))
    for key, text in found:
        context.out(f"{key}={text}")
    if not found:
        context.err(context.say("variable_undefined", name))
        shell.errorlevel = 1
        return 1
    return 0


def _assignment(text: str) -> tuple[str, str, str]:
    if text.startswith('"'):
        last = text.rfind('"')
        text = text[1:last] if last > 0 else text[1:]
    else:
        text = text if "=" in text else text.rstrip(" ")
    return text.partition("=")


def _assign(context: Context, name: str, value: str) -> None:
    for known in [known for known in context.environment if known.upper() == name.upper()]:
        del context.environment[known]
    if value:
        context.environment[name] = value


def _cd(shell: Shell, context: Context, tail: str) -> Steps:
    yield from ()
    text = tail.strip()
    change_drive = text.lower().startswith("/d")
    text = text[2:].strip() if change_drive else text
    text = text.replace('"', "")
    if not text:
        context.out(shell.context.directory)
        return 0
    if text.startswith("\\\\"):
        context.err(f"'{text}'\r\nCMD does not support UNC paths as current directories.")
        shell.errorlevel = 1
        return 1
    place = context.existing(text)
    if not place.is_directory:
        raise Win32Error(errors.NOT_A_DIRECTORY, text)
    full = context.full(text)
    if change_drive or full[:2] == shell.context.directory[:2]:
        shell.context.directory = full
    shell.errorlevel = 0
    return 0


def _exit(shell: Shell, context: Context, tail: str) -> Steps:
    yield from ()
    words = [word for word in cmdparse.split_words(tail) if word.lower() != "/b"]
    raise ShellExit(int(words[0]) if words and re.fullmatch(r"-?\d+", words[0]) else shell.errorlevel)


def _call(shell: Shell, context: Context, tail: str) -> Steps:
    text = cmdparse.expand_percent(tail.strip(), shell.lookup)
    if text.startswith(":"):
        raise NotSimulated("call to a label")
    return (yield from shell.run(Simple(text), context))


def _ver(shell: Shell, context: Context, tail: str) -> Steps:
    yield from ()
    build = {"2012R2": "6.3.9600", "2016": "10.0.14393", "2019": "10.0.17763", "2022": "10.0.20348", "2025": "10.0.26100"}
    context.out("")
    context.out(f"Microsoft Windows [Version {build[context.facts.os_version]}]")
    shell.errorlevel = 0
    return 0


def _rem(shell: Shell, context: Context, tail: str) -> Steps:
    yield from ()
    return 0


STATE_BUILTINS = {"echo": _echo, "set": _set, "cd": _cd, "chdir": _cd, "exit": _exit, "call": _call, "ver": _ver, "rem": _rem}
