# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Win32 error codes and the exception that carries one."""
from __future__ import annotations

INVALID_FUNCTION = 1
FILE_NOT_FOUND = 2
PATH_NOT_FOUND = 3
ACCESS_DENIED = 5
NOT_SAME_DEVICE = 17
WRITE_PROTECT = 19
SHARING_VIOLATION = 32
BAD_NETPATH = 53
NETNAME_DELETED = 64
BAD_NET_NAME = 67
FILE_EXISTS = 80
INVALID_PARAMETER = 87
DISK_FULL = 112
INVALID_NAME = 123
DIR_NOT_EMPTY = 145
ALREADY_EXISTS = 183
NAME_TOO_LONG = 206
NOT_A_DIRECTORY = 267
FILE_INVALID = 1006
INVALID_OWNER = 1307
PRIVILEGE_NOT_HELD = 1314
LOGON_FAILURE = 1326
NONE_MAPPED = 1332
CANT_RESOLVE = 1921
NOT_A_REPARSE_POINT = 4390

SYMBOLS = {FILE_NOT_FOUND: "ERROR_FILE_NOT_FOUND", PATH_NOT_FOUND: "ERROR_PATH_NOT_FOUND", ACCESS_DENIED: "ERROR_ACCESS_DENIED",
           SHARING_VIOLATION: "ERROR_SHARING_VIOLATION", INVALID_NAME: "ERROR_INVALID_NAME", FILE_INVALID: "ERROR_FILE_INVALID",
           BAD_NETPATH: "ERROR_BAD_NETPATH", BAD_NET_NAME: "ERROR_BAD_NET_NAME"}


class Win32Error(Exception):
    """A file operation was refused. ``code`` is the Win32 error, ``path`` what it was about."""

    def __init__(self, code: int, path: str = "") -> None:
        super().__init__(f"win32 error {code} on {path}")
        self.code = code
        self.path = path
