# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots: so many runs at the same time, each holding a lease (:mod:`.leases`) in one of so many folders. Names only, no I/O.

The slots of a share, and of cluster shared volumes that are copied to it, lie at the share (:mod:`.target_leases`). Those of a host and of
its volumes lie beside the leases of runs in its state folder. No name is of a user's making.
"""
from __future__ import annotations

import hashlib
import re

from ansible_collections.agentless.hyperv.plugins.module_utils.windows.leases import LeasePlace

MOST = 32
"""The largest limit."""
TARGET = "slot"
HOST = "host.slot"
_VOLUME_ID = re.compile(r"\\\\\?\\Volume\{([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}\\?\Z", re.IGNORECASE)


def of_volume(device_id: str) -> str:
    r"""What the names of the slots of a volume begin with: the GUID in ``\\?\Volume{GUID}\``, which all nodes of a cluster know a shared
    volume by; a digest of an ID of another form."""
    found = _VOLUME_ID.match(device_id)
    if found is None:
        return f"volume-{hashlib.sha256(device_id.lower().encode('utf-8', 'surrogatepass')).hexdigest()[:36]}.slot"
    return f"volume-{found.group(1).lower()}.slot"


def places(folder: str, name: str, count: int) -> tuple[LeasePlace, ...]:
    """The slots of a limit. Raises ValueError for a limit that is none."""
    if not 1 <= count <= MOST:
        raise ValueError(f"a limit is a number from 1 to {MOST}")
    return tuple(LeasePlace(folder, f"{name}{number}") for number in range(1, count + 1))
