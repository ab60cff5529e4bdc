# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reference points (operations 4.1)."""
from __future__ import annotations

from collections.abc import Iterable

from simulator.cim.model import CimValue, Ref
from simulator.hyperv import ids
from simulator.hyperv.model import Configuration, Machine
from simulator.hyperv.provider import MachineTable
from simulator.hyperv.resources import media
from simulator.hyperv.spec import ReferencePointSpec


def point_ref(machine: Machine, point: ReferencePointSpec) -> Ref:
    """The reference of a reference point."""
    return Ref(ids.V2, "Msvm_VirtualSystemReferencePoint",
               {"InstanceID": point_id(machine, point), "VirtualSystemIdentifier": machine.id})


def point_id(machine: Machine, point: ReferencePointSpec) -> str:
    """InstanceID of a reference point."""
    return ids.settings_id((point.point_id or ids.derive(machine.id, "reference-point", point.key)).upper())


class ReferencePoints(MachineTable[tuple[Machine, ReferencePointSpec]]):
    """Msvm_VirtualSystemReferencePoint (2016 and later)."""

    class_name = "Msvm_VirtualSystemReferencePoint"
    machine_property = "VirtualSystemIdentifier"

    def of(self, machine: Machine) -> Iterable[tuple[Machine, ReferencePointSpec]]:
        """The points of a machine."""
        return [(machine, point) for point in machine.reference_points]

    def values(self, item: tuple[Machine, ReferencePointSpec]) -> dict[str, CimValue]:
        """One row; the two arrays are parallel (operations 4.1)."""
        machine, point = item
        disks = [d.instance_id for d in media(Configuration(machine, None)) if d.disk and d.disk.medium == "vhd"]
        tracking = [f"rctX:{ids.derive(machine.id, point.key, d).lower()}:00000001" for d in disks]
        return {
            "InstanceID": point_id(machine, point), "VirtualSystemIdentifier": machine.id, "ElementName": machine.name,
            "Caption": "Reference Point", "ReferencePointType": 2, "ConsistencyLevel": point.consistency, "HasAssociatedData": False,
            "VirtualDiskIdentifiers": list(disks), "ResilientChangeTrackingIdentifiers": list(tracking),
        }
