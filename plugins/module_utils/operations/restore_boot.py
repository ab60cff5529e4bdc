# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a restored machine and see its guest live: the heartbeat of the integration services (operations 1.3, 3.5)."""
from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.wql import select
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import integration, power
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_copy import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import CIMV2

_PAUSE, _LONGEST_PAUSE = 2.0, 10.0


@dataclass(frozen=True)
class Alive:
    """What a guest told: its heartbeat, and the name of its system when it tells that."""

    heartbeat: str | None
    os_name: str | None = None


def start(tools: Tools, machine: Machine) -> None:
    """Start it. Raises as ``power.bring_to``."""
    power.bring_to(tools.writer, machine, "running", clock=tools.clock, deadline=tools.deadline, progress=tools.progress)


def wait_for_heartbeat(tools: Tools, machine: Machine, timeout: float) -> Alive:
    """Wait until the guest answers. Raises HypervError ``no_heartbeat`` with what the host saw last."""
    deadline, pause, seen = Deadline(tools.clock, timeout), _PAUSE, None
    while True:
        tools.keep()
        seen = _heartbeat(tools.writer, machine.vm_id)
        if seen == "ok":
            return Alive(seen, _os_name(tools.writer, machine.vm_id))
        if deadline.expired():
            raise HypervError(f"The guest of {machine.name!r} gave no heartbeat within {timeout:.0f} s; the host says: "
                              f"{seen or 'nothing'}.", error_code="no_heartbeat",
                              hint="Look at its console. A guest without integration services never gives one; a disk that was copied "
                                   "while it was written to may not start.")
        tools.clock.sleep(min(pause, max(deadline.remaining(), 0.1)))
        pause = min(pause * 1.3, _LONGEST_PAUSE)


def _of(reader: CimReader, class_name: str, vm_id: str) -> list[Instance]:
    return reader.query(select(NAMESPACE, class_name, {"SystemName": vm_id}))


def _heartbeat(reader: CimReader, vm_id: str) -> str | None:
    service = integration.services(_of(reader, "Msvm_HeartbeatComponent", vm_id), ()).get(vm_id)
    return None if service is None else service.status


def _os_name(reader: CimReader, vm_id: str) -> str | None:
    guest = integration.guests(_of(reader, "Msvm_KvpExchangeComponent", vm_id)).get(vm_id)
    return None if guest is None else guest.os_name


def free_memory(reader: CimReader) -> int | None:
    """Bytes of memory that the host has left now; None when it does not say; one request."""
    for row in reader.enumerate(CIMV2, "Win32_OperatingSystem"):
        kilobytes = row.integer("FreePhysicalMemory")
        return None if kilobytes is None else kilobytes * 1024
    return None
