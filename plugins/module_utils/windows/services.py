# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows services of a host: whether they run, and whether they may."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import wql
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import CIMV2


@dataclass(frozen=True)
class Service:
    """``state`` and ``start_mode`` in the words of Win32_Service, which are not localised: ``Running``, ``Auto``, ``Disabled``."""

    name: str
    state: str
    start_mode: str

    @property
    def running(self) -> bool:
        """It runs now."""
        return self.state == "Running"

    @property
    def disabled(self) -> bool:
        """Nobody can start it, also not Windows when it is needed."""
        return self.start_mode == "Disabled"


def from_rows(rows: Iterable[Instance]) -> dict[str, Service]:
    """By name in lower case."""
    found = [Service(row.required_text("Name"), row.text("State") or "", row.text("StartMode") or "") for row in rows]
    return {service.name.lower(): service for service in found}


def read_services(reader: CimReader) -> Mapping[str, Service]:
    """All services of the host with three columns each; one request."""
    return from_rows(reader.query(wql.select(CIMV2, "Win32_Service", columns=("Name", "State", "StartMode"))))
