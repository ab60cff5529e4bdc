# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and paths that are made from what users and hosts wrote.

A VM's name is text for people: it may hold quotes, ``%``, newlines, ``{{ }}``, terminal escapes or right-to-left marks. A path
gets only what is safe everywhere; the name itself stands in the manifest. Windows adds rules of its own: reserved device names, no
trailing dot or space.
"""
from __future__ import annotations

import re
from datetime import UTC, datetime

_SAFE = re.compile(r"[^A-Za-z0-9._-]+")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$|clock\$)(?:\..*)?\Z", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,39}\Z")
_SERVER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?\Z")
_LOCAL = re.compile(r"[A-Za-z]:\\")
_LONGEST_NAME = 60
_LONGEST_DESTINATION = 120
_STAMP = "%Y%m%dT%H%M%SZ"


def safe_component(name: str) -> str:
    """An ASCII folder name that reminds of ``name``: at most 60 characters of ``A-Za-z0-9._-``, never empty, reserved or dotted."""
    text = _SAFE.sub("_", name).strip("._-")[:_LONGEST_NAME].strip("._-")
    if not text:
        return "vm"
    return f"vm_{text}" if _RESERVED.match(text) else text


def vm_folder(name: str, vm_id: str) -> str:
    """``<safe VM name>_<first 8 of GUID>`` (INTERFACE, *destination*)."""
    return f"{safe_component(name)}_{vm_id[:8].upper()}"


def copy_folder(moment: datetime, run_id: str) -> str:
    """``<UTC time>_<run id>``."""
    return f"{moment.astimezone(UTC).strftime(_STAMP)}_{run_id}"


def is_run_id(text: str) -> bool:
    """True for what may be part of a folder's name: letters, digits and hyphens, at most 40, first no hyphen."""
    return bool(_RUN_ID.match(text))


def is_safe_name(name: str) -> bool:
    """True when ``name`` is one component that Windows stores as it is written and that is no device, stream or parent."""
    if not name or len(name) > 255 or _FORBIDDEN.search(name) or name[-1] in ". ":
        return False
    return not _RESERVED.match(name)


def is_safe_relative(path: str) -> bool:
    """True for a relative path with backslashes whose every component is a safe name: no ``..``, no drive, no root."""
    return bool(path) and len(path) <= 1000 and all(is_safe_name(part) for part in path.split("\\"))


def problem_with_destination(path: str) -> str | None:
    """Why ``path`` cannot be the destination of copies; None when it can.

    A full path on a drive, below its root and not inside a folder of the system, or on a share of a server; every component a safe name.
    """
    if len(path) > _LONGEST_DESTINATION:
        return f"it is longer than {_LONGEST_DESTINATION} characters, which leaves no room for the names below it"
    if path.startswith("\\\\"):
        return _problem_with_share(path[2:])
    if not _LOCAL.match(path):
        return "it is neither a full path on a drive, such as E:\\Backup, nor a share, such as \\\\server\\share"
    rest = path[3:].rstrip("\\")
    if not rest:
        return "it is the root of a drive; name a folder of its own"
    if not is_safe_relative(rest):
        return "it contains a part that Windows cannot store as written"
    first, _separator, below = rest.lower().partition("\\")
    if first in ("windows", "program files", "program files (x86)", "programdata", "system volume information", "$recycle.bin",
                 "clusterstorage", "recovery", "boot", "efi"):
        if first == "clusterstorage" and "\\" in below:
            return None
        return "it lies in a folder of the system"
    return None


def _problem_with_share(rest: str) -> str | None:
    server, _separator, below = rest.partition("\\")
    if not _SERVER.match(server):
        return "the name of its server is not one; device paths and WebDAV are not supported"
    if not is_safe_relative(below):
        return "it names no share, or contains a part that Windows cannot store as written"
    return None
