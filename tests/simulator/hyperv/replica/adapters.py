# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses that the adapters of a machine get after a failover (operations 7.3 step 5). They are kept; guests have no network here."""
from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

from simulator.cim.cimxml import parse_instance
from simulator.cim.errors import ProviderRefusal
from simulator.cim.model import CimValue, Instance, Ref
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.hyperv import ids
from simulator.hyperv.integration import component
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.model import Configuration, Machine
from simulator.hyperv.provider import ConfigurationTable
from simulator.hyperv.replica.common import FAILED, INVALID_PARAMETER, INVALID_STATE
from simulator.hyperv.resources import Device, nics

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

CLASS = "Msvm_FailoverNetworkAdapterSettingData"
_MODIFY_JOB = 92
_PROTOCOLS = (4096, 4097, 4098)
_ADDRESSES = ("IPAddresses", "DefaultGateways", "DNSServers")
_FIELDS = ("DHCPEnabled", "ProtocolIFType", "Subnets", *_ADDRESSES)


def settings_id(device: Device) -> str:
    """InstanceID of the failover settings of an adapter."""
    return f"{device.instance_id}\\FailoverSettings"


def settings_ref(device: Device) -> Ref:
    """Their reference."""
    return ids.setting_ref(CLASS, settings_id(device))


def of_machine(machine: Machine) -> list[Device]:
    """The adapters that have such settings: those of a machine that is replicated."""
    return list(nics(Configuration(machine, None))) if machine.replication_mode in (1, 2, 4) else []


class FailoverAdapters(ConfigurationTable[Device]):
    """Msvm_FailoverNetworkAdapterSettingData."""

    class_name = CLASS

    def of(self, configuration: Configuration) -> Iterable[Device]:
        """One for each adapter of a machine that is replicated."""
        return () if configuration.checkpoint or configuration.machine.planned else of_machine(configuration.machine)

    def values(self, item: Device) -> dict[str, CimValue]:
        """One row."""
        assert item.nic is not None
        kept = item.configuration.machine.failover_addresses.get(settings_id(item), {})
        return {"InstanceID": settings_id(item), "ElementName": item.nic.name, "Caption": "Failover Network Adapter Settings",
                "DHCPEnabled": True, "ProtocolIFType": 4096, "IPAddresses": [], "Subnets": [], "DefaultGateways": [], "DNSServers": [],
                **kept}


class Adapters:
    """The method of one host."""

    def __init__(self, role: HyperV) -> None:
        self._role = role

    def set(self, call: Invocation) -> MethodOutcome:
        """SetFailoverNetworkAdapterSettings: 32775 unless the machine is replicated, 32773 for adapters or addresses that are none."""
        relations = self._role.replica.relations
        machine = relations.machine(call)
        known = {settings_id(device).lower(): settings_id(device) for device in of_machine(machine)}
        if not known:
            raise ProviderRefusal(INVALID_STATE, "the virtual machine is not replicated, or has no adapter")
        texts = call["NetworkSettings"]
        if not isinstance(texts, list) or not texts:
            raise ProviderRefusal(INVALID_PARAMETER, "NetworkSettings is missing")
        given = [parse_instance(str(text), self._role.schema, ids.V2, expected=CLASS) for text in texts]
        wanted = {}
        for one in given:
            own = known.get(str(one["InstanceID"] or "").lower())
            if own is None or not _sound(one):
                raise ProviderRefusal(INVALID_PARAMETER, "an adapter or an address that is none")
            wanted[own] = {name: one.values[name] for name in _FIELDS if one.values.get(name) is not None}

        def put() -> None:
            if not component(machine, "kvp").enabled:
                raise JobFailure(FAILED, "Key-value pair exchange is not enabled for the virtual machine.")
            for own, values in wanted.items():
                machine.failover_addresses.setdefault(own, {}).update(values)

        return relations.begin(call, machine, _MODIFY_JOB, put)


def _sound(one: Instance) -> bool:
    if one.values.get("ProtocolIFType") not in (None, *_PROTOCOLS):
        return False
    for name in _ADDRESSES:
        values = one.values.get(name)
        for value in values if isinstance(values, list) else ():
            try:
                ipaddress.ip_address(str(value))
            except ValueError:
                return False
    return True
