# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Hyper-V's objects name the virtual machine that they belong to."""
from __future__ import annotations

import re

NAMESPACE = "root/virtualization/v2"

_GUID = re.compile(r"\{?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\}?\Z", re.IGNORECASE)
_OWNER = re.compile(r"Microsoft:([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?:\\|\Z)", re.IGNORECASE)


def as_guid(text: str | None) -> str | None:
    """The GUID in upper case without braces, as Hyper-V stores it; None when ``text`` is not one."""
    match = _GUID.match((text or "").strip())
    return match.group(1).upper() if match else None


def owner_of(instance_id: str | None) -> str | None:
    """The VM or checkpoint GUID in a setting's InstanceID such as ``Microsoft:<GUID>\\83F8...\\0\\0\\D``.

    Definitions (``Microsoft:Definition\\...``) and pools belong to nobody: None.
    """
    match = _OWNER.match(instance_id or "")
    return match.group(1).upper() if match else None
