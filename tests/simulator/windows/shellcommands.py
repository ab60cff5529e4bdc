# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in commands of cmd that belong to the shell itself: variables, current directory, exit."""
from __future__ import annotations

import re
from typing import TYPE_CHECKING

from simulator.windows import batch, cmdparse, errors
from simulator.windows.batch import BatchExit, Goto, Saved, restore
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
        if shell.batch is not None:
            shell.batch.echo = tail.strip().lower() == "on"
        return shell.errorlevel
    if not tail.strip() and tail[:1] not in (".", ":", "(", "/", "\\", "["):
        context.out("ECHO is on." if shell.batch is None or shell.batch.echo else "ECHO is off.")
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
    given = cmdparse.split_words(tail)
    words = [word for word in given if word.lower() != "/b"]
    code = int(words[0]) if words and re.fullmatch(r"-?\d+", words[0]) else shell.errorlevel
    if shell.batch is not None and len(words) < len(given):
        raise BatchExit(code)
    raise ShellExit(code)


def _call(shell: Shell, context: Context, tail: str) -> Steps:
    text = cmdparse.expand_percent(tail.strip(), shell.lookup)
    if text.startswith(":"):
        label, _blank, arguments = text[1:].partition(" ")
        status = yield from batch.call_label(shell, context, label.lower(), arguments)
        shell.errorlevel = status
        return status
    script = shell.script(text, context)
    if script is not None:
        return (yield from batch.start(shell, context, *script, called=True))
    return (yield from shell.run(Simple(text), context))


def _goto(shell: Shell, context: Context, tail: str) -> Steps:
    """Outside a batch file it does nothing."""
    yield from ()
    label = cmdparse.split_words(tail)
    if shell.batch is None:
        return shell.errorlevel
    raise Goto(label[0] if label else "")


def _shift(shell: Shell, context: Context, tail: str) -> Steps:
    yield from ()
    if tail.strip():
        raise NotSimulated("shift from another argument than the first")
    if shell.batch is not None:
        shell.batch.arguments = shell.batch.arguments[1:] or [""]
    return shell.errorlevel


def _setlocal(shell: Shell, context: Context, tail: str) -> Steps:
    """Only in a batch file; there the end of the file undoes it, too."""
    yield from ()
    if shell.batch is not None:
        own = shell.context
        shell.batch.saved.append(Saved(dict(own.environment), own.directory, shell.delayed))
        words = [word.lower() for word in cmdparse.split_words(tail)]
        shell.delayed = (shell.delayed or "enabledelayedexpansion" in words) and "disabledelayedexpansion" not in words
        shell.errorlevel = 0
    return shell.errorlevel


def _endlocal(shell: Shell, context: Context, tail: str) -> Steps:
    yield from ()
    if shell.batch is not None and shell.batch.saved:
        restore(shell, shell.batch.saved.pop())
    return shell.errorlevel


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


STATE_BUILTINS = {"echo": _echo, "set": _set, "cd": _cd, "chdir": _cd, "exit": _exit, "call": _call, "ver": _ver, "rem": _rem,
                  "goto": _goto, "shift": _shift, "setlocal": _setlocal, "endlocal": _endlocal}
