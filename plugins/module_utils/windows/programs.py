# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixed programs in a host's command shell.

A command line is a constant of this collection. Everything that a user or a host wrote travels as an environment
variable of the shell and stands in the line as ``"%NAME%"``: ``cmd`` expands a variable once and does not look at the result for further
variables, and inside quotes ``&``, ``<``, ``>``, ``|``, ``^`` and parentheses mean nothing (wire 7.2). What would still break
out - a quote or a control character - is refused before anything is sent.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.shell import OutputHandler, ProgramResult, Shell

PREFIX = "AGH_"
LONGEST_LINE = 8191
_SYSTEM_ROOT_LENGTH = 64
_VARIABLE = re.compile(r"%([A-Za-z0-9_]+)%")
_BREAKS_OUT = re.compile(r'["\x00-\x1f\x7f\u0085\u2028\u2029]')


class UnsafeText(HypervError):
    """A value that cannot be handed to a program safely."""

    error_code = "unsafe_text"


@dataclass(frozen=True)
class Command:
    """One fixed command line. ``reads_only``: it changes nothing on the host, so check mode may run it."""

    line: str
    reads_only: bool = False


def check_value(text: str, what: str) -> str:
    """``text`` itself, when it may become the value of a variable that stands between quotes.

    Raises UnsafeText for quotes, control characters, line separators, lone surrogates and the empty text.
    """
    if not text or _BREAKS_OUT.search(text):
        raise UnsafeText(f"{what} is empty or contains a quote or a control character: {text!r}.",
                         hint="Rename it, or use a method that needs no file copy, such as an export.")
    try:
        text.encode("utf-16-le")
    except UnicodeEncodeError as error:
        raise UnsafeText(f"{what} is not valid Unicode: {text!r}.") from error
    return text


def environment(values: Mapping[str, str]) -> dict[str, str]:
    """``values`` as variables of a shell, each checked; names get the collection's prefix."""
    return {PREFIX + name: check_value(text, f"The value for {name}") for name, text in values.items()}


def expanded_length(line: str, variables: Mapping[str, str]) -> int:
    """The length of a line as ``cmd`` sees it: the limit of 8191 holds after expansion, too."""
    return len(_VARIABLE.sub(lambda match: variables.get(match.group(1), "x" * _SYSTEM_ROOT_LENGTH), line))


class Programs:
    """Runs commands in one shell that carries one set of values."""

    def __init__(self, shell: Shell, variables: Mapping[str, str], *, reads_only: bool) -> None:
        self._shell = shell
        self._variables = variables
        self._reads_only = reads_only

    def values(self, *names: str) -> dict[str, str]:
        """The values of these names, for a shell of their own."""
        return {name: self._variables[PREFIX + name] for name in names}

    def run(self, command: Command, *, timeout: float, stdin: bytes | None = None, on_output: OutputHandler | None = None) -> ProgramResult:
        """Run a command to its end. Raises ValueError for a writing command in a reading shell or an unknown variable."""
        if self._reads_only and not command.reads_only:
            raise ValueError(f"not a reading command: {command.line}")
        unknown = {name for name in _VARIABLE.findall(command.line) if name.startswith(PREFIX)} - set(self._variables)
        if unknown:
            raise ValueError(f"no value for {', '.join(sorted(unknown))}")
        if expanded_length(command.line, self._variables) > LONGEST_LINE:
            raise HypervError("The paths are too long for one command line of the host (8191 characters).", error_code="paths_too_long")
        return self._shell.run(command.line, stdin, timeout=timeout, on_output=on_output)

    def __enter__(self) -> Programs:
        self._shell.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._shell.__exit__(kind, error, None)


def reading_programs(reader: CimReader, values: Mapping[str, str]) -> Programs:
    """A shell for reading commands, as a context manager."""
    variables = environment(values)
    return Programs(reader.open_reading_shell(variables), variables, reads_only=True)


def writing_programs(writer: CimWriter, values: Mapping[str, str]) -> Programs:
    """A shell for any of the collection's commands, as a context manager."""
    variables = environment(values)
    return Programs(writer.open_shell(variables), variables, reads_only=False)


def said(result: ProgramResult) -> str:
    """The last lines a program wrote, for a message: bytes of an unknown code page, cut to a readable length."""
    text = (result.stderr or result.stdout).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "".join(char if char.isprintable() else "?" for char in " / ".join(lines[-3:]))[:300]
