# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Msvm_ReplicationSettingData: what a relation is asked to be (operations 7.3)."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from simulator.cim.cimxml import format_instance, parse_instance
from simulator.cim.errors import ProviderRefusal
from simulator.cim.model import CimValue, Instance
from simulator.cim.paths import format_object_path, parse_object_path
from simulator.hyperv import ids
from simulator.hyperv.model import Configuration, Machine
from simulator.hyperv.provider import key_of
from simulator.hyperv.replica.common import INVALID_PARAMETER
from simulator.hyperv.replica.state import PROVIDER, RelationSettings
from simulator.hyperv.resources import Device, media

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

CLASS = "Msvm_ReplicationSettingData"
KERBEROS, CERTIFICATE = 1, 2
INTERVALS: Final = (30, 300, 900)
_DAY = timedelta(days=1)


_FIELDS: Final[Mapping[str, str]] = {
    "RecoveryConnectionPoint": "recovery_point", "RecoveryHostSystem": "recovery_host", "PrimaryConnectionPoint": "primary_point",
    "PrimaryHostSystem": "primary_host", "RecoveryServerPortNumber": "port", "AuthenticationType": "authentication",
    "CertificateThumbPrint": "thumbprint", "CompressionEnabled": "compression", "ReplicationInterval": "interval",
    "RecoveryHistory": "history", "ApplicationConsistentSnapshotInterval": "application_interval",
    "AutoResynchronizeEnabled": "auto_resync", "AutoResynchronizeIntervalStart": "resync_from",
    "AutoResynchronizeIntervalEnd": "resync_until", "ReplicateHostKvpItems": "host_kvp", "BypassProxyServer": "bypass_proxy",
    "EnableWriteOrderPreservationAcrossDisks": "write_order", "ReplicationProvider": "provider",
}
_HOST_SAYS = frozenset({"RecoveryHostSystem", "PrimaryConnectionPoint", "PrimaryHostSystem"})
"""Sent along with a fetched instance; the hosts fill them in by themselves."""


def properties(settings: RelationSettings) -> dict[str, CimValue]:
    """The properties of the class but those that need the machine."""
    return {name: getattr(settings, field) for name, field in _FIELDS.items()}


def changed(settings: RelationSettings, given: Instance) -> RelationSettings:
    """What is given over what was; ProviderRefusal 32773 for values that no relation can have."""
    changes = {field: given.values[name] for name, field in _FIELDS.items()
               if given.values.get(name) is not None and name not in _HOST_SAYS}
    wanted = replace(settings, **changes)  # type: ignore[arg-type]
    _check(wanted)
    return wanted


def _check(wanted: RelationSettings) -> None:
    times = (wanted.resync_from, wanted.resync_until)
    wrong = (
        not wanted.recovery_point, wanted.port < 1, wanted.authentication not in (KERBEROS, CERTIFICATE),
        wanted.authentication == CERTIFICATE and not wanted.thumbprint, wanted.interval not in INTERVALS, wanted.history > 24,
        wanted.application_interval > 12, wanted.application_interval > 0 and wanted.history == 0, wanted.provider.upper() != PROVIDER,
        not all(isinstance(moment, timedelta) and timedelta(0) <= moment < _DAY for moment in times),
    )
    if any(wrong):
        raise ProviderRefusal(INVALID_PARAMETER, "these settings are no settings of a replication relation")


# -- included disks ------------------------------------------------------------------------------------------------------


def replicable(machine: Machine) -> list[Device]:
    """The virtual disks of a machine, as the resources that IncludedDisks names."""
    return [device for device in media(Configuration(machine, None)) if device.disk is not None and device.disk.medium == "vhd"]


def told_disks(role: HyperV, machine: Machine, indexes: tuple[int, ...]) -> list[CimValue]:
    """IncludedDisks as the host writes it (D-22)."""
    if not indexes:  # most machines: their disks need not be worked out
        return []
    chosen = [device for device in replicable(machine) if device.disk is not None and device.disk.index in indexes]
    form = role.replica.knobs.included_disks
    if form == "path":
        return [format_object_path(device.ref, role.name.upper()) for device in chosen]
    if form == "instance_id":
        return [device.instance_id for device in chosen]
    shape = role.shapes.of(ids.V2, "Msvm_StorageAllocationSettingData")
    return [format_instance(role.schema, shape({"InstanceID": device.instance_id})) for device in chosen]


def read_disks(role: HyperV, machine: Machine, values: CimValue) -> tuple[int, ...] | None:
    """The drives that IncludedDisks means. None: one of them is no disk of the machine that can be replicated, or there is none."""
    if not isinstance(values, list) or not values:
        return None
    known = {device.instance_id.lower(): device.disk for device in media(Configuration(machine, None))}
    found = []
    for value in values:
        disk = known.get((_disk_id(role, str(value)) or "").lower())
        if disk is None or disk.medium != "vhd" or disk.spec.shared:
            return None
        found.append(disk.index)
    return tuple(sorted(set(found)))


def _disk_id(role: HyperV, value: str) -> str | None:
    form = role.replica.knobs.included_disks
    try:
        if form == "path":
            return key_of(parse_object_path(value, namespace=ids.V2), "InstanceID")
        if form == "instance_id":
            return value
        read = parse_instance(value, role.schema, ids.V2, expected="CIM_StorageAllocationSettingData")
        return str(read["InstanceID"])
    except ProviderRefusal:
        return None
