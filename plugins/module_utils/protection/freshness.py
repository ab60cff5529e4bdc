# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an existing copy counts as present (INTERFACE, *freshness*). Pure functions of manifests and host time."""
from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import reaches
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import Manifest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.retention import FUTURE_TOLERANCE

_AGE = re.compile(r"([0-9]{1,9})\s*([smhdw])\Z")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class FoundCopy:
    """A copy on the host: its folder and its manifest; ``missing``: files of the manifest that are not there with their sizes,
    ``others``: files there that are not the manifest's."""

    folder: str
    manifest: Manifest
    missing: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def parse_age(text: str) -> timedelta:
    """``90s``, ``30m``, ``20h``, ``7d`` or ``2w`` as a duration. Raises ValueError."""
    match = _AGE.match(text.strip().lower())
    if not match or int(match.group(1)) == 0:
        raise ValueError(f"{text!r} is not an age such as 30m, 20h or 7d")
    seconds = int(match.group(1)) * _UNITS[match.group(2)]
    if seconds > 10 * 366 * 86400:
        raise ValueError(f"{text!r} is more than ten years")
    return timedelta(seconds=seconds)


def span(value: timedelta) -> str:
    """A duration for people: ``45 min``, ``26 h``, ``9 days``."""
    minutes = int(value.total_seconds() // 60)
    if minutes < 120:
        return f"{max(0, minutes)} min"
    return f"{minutes // 60} h" if minutes < 72 * 60 else f"{minutes // 1440} days"


def present_copy(copies: Iterable[FoundCopy], *, vm_id: str, host: str, now: datetime, wanted: str,
                 max_age: timedelta | None, run_id: str | None) -> FoundCopy | None:
    """The newest copy of this VM that makes a new one needless; None when there is none.

    A copy of the same ``run_id`` counts whatever its age; else one younger than ``max_age``. The age is that of the data (when the
    shadow copy was made), by the host's clock. A copy that says it is from the future, that lacks a file, that nobody
    verified, or that does not reach ``wanted``, never counts.
    """
    found = []
    for copy in copies:
        manifest = copy.manifest
        if manifest.vm_id != vm_id or manifest.host.casefold() != host.casefold() or copy.missing or manifest.verified == "none":
            continue
        if manifest.taken > now + FUTURE_TOLERANCE or manifest.completed > now + FUTURE_TOLERANCE or manifest.completed < manifest.taken:
            continue
        if not reaches(manifest.achieved, wanted):
            continue
        same_run = run_id is not None and manifest.run_id == run_id
        if same_run or (max_age is not None and now - manifest.taken < max_age):
            found.append(copy)
    return max(found, key=lambda copy: (copy.manifest.taken, copy.folder), default=None)
