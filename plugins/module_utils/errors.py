# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one family of errors that a task reports.

Every layer raises a subclass (or this class with an ``error_code`` of its own); the driver turns it into the task's result.
The message is one sentence that says what failed and on what; ``hint`` says what to do.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Leftover:
    """Something of ours that could not be removed: what it is, where, and how to remove it by hand."""

    kind: str
    id: str
    location: str
    remove_with: str

    def as_result(self) -> dict[str, str]:
        """The form in a task's ``leftovers``."""
        return asdict(self)


class HypervError(Exception):
    """A task cannot go on. ``error_code`` is stable and documented; ``message`` and ``hint`` are for people."""

    error_code = "failed"

    def __init__(self, message: str, *, error_code: str | None = None, hint: str | None = None,
                 return_value: int | None = None, hresult: int | None = None,
                 leftovers: Sequence[Leftover] = (), details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        if error_code is not None:
            self.error_code = error_code
        self.hint = hint
        self.return_value = return_value
        self.hresult = hresult
        self.leftovers = tuple(leftovers)
        self.details = dict(details or {})

    def as_result(self) -> dict[str, Any]:
        """The keys that a failed task returns beside ``msg``; only those that say something."""
        result: dict[str, Any] = {"error_code": self.error_code}
        if self.hint:
            result["hint"] = self.hint
        if self.return_value is not None:
            result["return_value"] = self.return_value
        if self.hresult is not None:
            result["hresult"] = f"0x{self.hresult & 0xFFFFFFFF:08X}"
        if self.leftovers:
            result["leftovers"] = [leftover.as_result() for leftover in self.leftovers]
        result.update(self.details)
        return result


class ConnectionFailed(HypervError):
    """The host could not be reached or did not let us in; ``unreachable`` as long as nothing was changed."""

    error_code = "unreachable"


class OutcomeUnknown(HypervError):
    """A request may or may not have taken effect: read the host again before anything else (rule 4)."""

    error_code = "outcome_unknown"


class AccessDenied(HypervError):
    """The account was let in but may not do this. Never the same as *absent*."""

    error_code = "access_denied"


class NotFound(HypervError):
    """The object asked for does not exist, as the host says with certainty."""

    error_code = "not_found"
