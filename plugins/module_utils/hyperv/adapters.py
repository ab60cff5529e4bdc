# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections of a machine's network adapters to switches of the host (operations 1.5)."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import facts, paths
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replication_service
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, as_guid, owner_of
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.summary import MANAGEMENT_SERVICE

PORT = "Msvm_EthernetPortAllocationSettingData"
SWITCH = "Msvm_VirtualEthernetSwitch"
_CONNECTED, _DISCONNECTED = 2, 3


@dataclass(frozen=True)
class Adapter:
    """One connection. ``switch_id``: GUID of the switch that it goes to; None when it goes nowhere, ``unknown`` when nobody can tell."""

    instance_id: str
    switch_id: str | None


def from_rows(rows: Iterable[Instance], vm_id: str) -> tuple[Adapter, ...]:
    """The connections of one machine."""
    found = []
    for row in rows:
        if owner_of(row.text("InstanceID")) == vm_id:
            resources = [text for text in row.texts("HostResource") if text]
            connected = row.integer("EnabledState") == _CONNECTED and bool(resources)
            found.append(Adapter(row.required_text("InstanceID"), _switch_in(resources[0]) if connected else None))
    return tuple(sorted(found, key=lambda one: one.instance_id))


def _switch_in(path: str) -> str:
    try:
        return as_guid(paths.parse_path(path).key("Name")) or "unknown"
    except ValueError:
        return "unknown"


def read(reader: CimReader, vm_id: str) -> tuple[Adapter, ...]:
    """The connections of one machine; one request."""
    return from_rows(reader.enumerate(NAMESPACE, PORT), vm_id)


def read_switch(reader: CimReader, name: str) -> tuple[str, Reference]:
    """GUID and address of the switch of a name; one request. Raises HypervError ``switch_not_found``."""
    found = [row for row in reader.enumerate(NAMESPACE, SWITCH) if (row.text("ElementName") or "").casefold() == name.casefold()]
    if len(found) != 1:
        raise HypervError(f"The host has {len(found)} switches named {name!r}.", error_code="switch_not_found",
                          hint="Name a switch that is there for tests alone.")
    guid = found[0].required_text("Name")
    return as_guid(guid) or guid, Reference(NAMESPACE, SWITCH, {"CreationClassName": SWITCH, "Name": guid})


def connect(writer: CimWriter, adapter: Adapter, switch: Reference | None) -> Reference | None:
    """Connect an adapter to a switch, None to nothing; the job. Raises as ``replication_service.begin``."""
    values: dict[str, object] = {"InstanceID": adapter.instance_id, "EnabledState": _DISCONNECTED if switch is None else _CONNECTED}
    if switch is not None:
        values["HostResource"] = (paths.format_path(switch),)
    settings = facts.embedded(PORT, values)  # type: ignore[arg-type]
    return replication_service.begin(writer, "ModifyResourceSettings", {"ResourceSettings": [settings]},
                                     "The change of a network connection", target=MANAGEMENT_SERVICE)
