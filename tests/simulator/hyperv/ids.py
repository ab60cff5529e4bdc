# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identifiers, references and object paths of Hyper-V objects."""
from __future__ import annotations

import uuid

from simulator.cim.model import Ref

V2 = "root/virtualization/v2"
CLUSTER = "root/MSCluster"

_ROOT = uuid.UUID("5d2c6a1e-2f0b-4c53-9a55-0b7c6c0f1f25")

# Well-known device identifiers below a machine; the same on every host.
HEARTBEAT = "84EAAE65-2F2E-45F5-9BB5-0E857DC8EB47"
VSS = "5CED1297-4598-4915-A5FC-AD21BB4D02A4"
KVP = "2A34B1C2-FD73-4043-8A5B-DD2159BC743F"
SHUTDOWN = "9F8233AC-BE49-4C79-8EE3-E7E1985B2077"
MEMORY = "4764334D-E001-4176-82EE-5594EC9B530E"
PROCESSOR = "B637F346-6A0E-4DEC-AF52-BD70CB80A21D"
IDE_CONTROLLER = "83F8638B-8DCA-4152-9EDA-2CA8B33039B4"
SECURITY = "C3B6E5B4-7C0B-4E4D-9E27-6B8B5C7C0E0A"

SENTINEL_YEAR = 1601
"""Year of the date that stands for "never" (wire 2.5)."""


def derive(*parts: object) -> str:
    """A GUID in upper case that is the same for the same parts."""
    return str(uuid.uuid5(_ROOT, "\x1f".join(map(str, parts)))).upper()


def is_guid(text: str) -> bool:
    """True for the plain 36-character form."""
    try:
        return len(text) == 36 and bool(uuid.UUID(text))
    except ValueError:
        return False


def settings_id(guid: str, *devices: object) -> str:
    r"""``Microsoft:<guid>`` and the device parts below it, joined with a backslash."""
    return "\\".join([f"Microsoft:{guid}", *map(str, devices)])


def owner_of(instance_id: str) -> str:
    r"""The GUID in ``Microsoft:<guid>[\...]``, upper case; ``""`` when the text has another form."""
    prefix, _unused, rest = instance_id.partition(":")
    if prefix.lower() != "microsoft":
        return ""
    return rest.split("\\", 1)[0].upper()


def system_ref(name: str, class_name: str = "Msvm_ComputerSystem") -> Ref:
    """A reference to a machine, the host, or (with its class name) a planned machine or a switch."""
    return Ref(V2, class_name, {"CreationClassName": class_name, "Name": name})


def setting_ref(class_name: str, instance_id: str) -> Ref:
    """A reference to anything whose only key is InstanceID."""
    return Ref(V2, class_name, {"InstanceID": instance_id})


def device_ref(class_name: str, device_id: str, machine_id: str) -> Ref:
    """A reference to a live device of a machine."""
    keys = {"CreationClassName": class_name, "DeviceID": device_id,
            "SystemCreationClassName": "Msvm_ComputerSystem", "SystemName": machine_id}
    return Ref(V2, class_name, keys)
