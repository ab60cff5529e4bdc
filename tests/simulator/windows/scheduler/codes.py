# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HRESULTs of the Task Scheduler (windows facts 1; the others from Microsoft's page of its error and success constants)."""
from __future__ import annotations

TASK_RUNNING = 0x41301
TASK_HAS_NOT_RUN = 0x41303
TASK_TERMINATED = 0x41306
"""Values of LastTaskResult that are no exit codes."""

TASK_NOT_RUNNING = 0x8004130B
UNEXPECTED_NODE = 0x80041316
WRONG_NAMESPACE = 0x80041317
INVALID_VALUE = 0x80041318
MISSING_NODE = 0x80041319
MALFORMED_XML = 0x8004131A
TOO_MANY_NODES = 0x8004131D
TASK_ATTEMPTED = 0x80041324
"""The task did not run because of a condition in its definition."""
TASK_DISABLED = 0x80041326
NO_START_ON_DEMAND = 0x80041328

FILE_NOT_FOUND = 0x80070002
ACCESS_DENIED = 0x80070005
INVALID_NAME = 0x8007007B
ALREADY_EXISTS = 0x800700B7
NOT_FOUND = 0x80070490
LOGON_FAILURE = 0x8007052E
NONE_MAPPED = 0x80070534
LOGON_TYPE_NOT_GRANTED = 0x80070569
PROCESS_ENDED_BY_SHUTDOWN = 0x40010004
"""DBG_TERMINATE_PROCESS: what tasks show that a shutdown ended (general knowledge, no source in the reference)."""


def from_win32(code: int) -> int:
    """The HRESULT of a Win32 error."""
    return 0x80070000 | code


class TaskError(Exception):
    """A request to the Task Scheduler is refused. ``hresult`` is the code, ``message`` says what about."""

    def __init__(self, hresult: int, message: str) -> None:
        super().__init__(f"0x{hresult:08X} {message}")
        self.hresult = hresult
        self.message = message
