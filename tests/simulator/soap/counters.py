# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a host was asked: requests by operation, reading and writing apart, authentication legs beside them."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any


@dataclass
class Counters:
    """The counters of one host since it started.

    ``requests`` counts WS-Man messages that were answered, each as ``reading`` or ``writing``; a request that was lost before
    it was carried out is in none of them. ``auth_legs``, ``connections``, ``unauthorized`` and ``logon_failures`` are kept by the listener.
    """

    requests: int = 0
    reading: int = 0
    writing: int = 0
    auth_legs: int = 0
    connections: int = 0
    unauthorized: int = 0
    logon_failures: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    by_operation: dict[str, int] = field(default_factory=dict)
    """For example ``Enumerate``, ``Pull``, ``Invoke Msvm_ComputerSystem.RequestStateChange``, ``Shell Command``."""

    def count(self, operation: str, *, writing: bool) -> None:
        """Note one answered request."""
        self.requests += 1
        if writing:
            self.writing += 1
        else:
            self.reading += 1
        self.by_operation[operation] = self.by_operation.get(operation, 0) + 1

    def snapshot(self) -> Counters:
        """A copy that no longer changes."""
        return replace(self, by_operation=dict(self.by_operation))

    def since(self, earlier: Counters) -> Counters:
        """What was added after ``earlier`` was taken; operations that were not used again are left out."""
        result = Counters()
        for entry in fields(Counters):
            if entry.name != "by_operation":
                setattr(result, entry.name, getattr(self, entry.name) - getattr(earlier, entry.name))
        for operation, number in self.by_operation.items():
            added = number - earlier.by_operation.get(operation, 0)
            if added:
                result.by_operation[operation] = added
        return result

    def as_dict(self) -> dict[str, Any]:
        """The form for JSON."""
        return asdict(self)
