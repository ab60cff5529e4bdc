# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One command shell (winrs) of a host: programs, their output and their exit codes (wire 7)."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

OutputHandler = Callable[[str, bytes], None]
"""Called with the stream's name (``stdout`` or ``stderr``) and a chunk of raw bytes, as they arrive."""


@dataclass(frozen=True)
class ProgramResult:
    """What a finished program left: its exit code and its raw output (UTF-8 as far as the program obeys code page 65001)."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Shell:
    """A shell as a context manager: created on entry, deleted on every exit, with everything that still runs in it."""

    environment: Mapping[str, str]

    def run(self, command_line: str, stdin: bytes | None = None, *, timeout: float,
            on_output: OutputHandler | None = None) -> ProgramResult:
        """Run one command line to its end."""
        raise NotImplementedError

    def __enter__(self) -> Shell:
        raise NotImplementedError

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        raise NotImplementedError
