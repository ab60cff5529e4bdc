# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Msvm_VirtualSystemManagementService.GetSummaryInformation (operations 1.2)."""
from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.cim.model import CimValue, Instance, Ref
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.hyperv import ids
from simulator.hyperv.integration import component, live_status
from simulator.hyperv.job_tables import Jobs
from simulator.hyperv.model import ENABLED_STATES, OTHER_STATES, Configuration, Machine
from simulator.hyperv.provider import configuration_of
from simulator.hyperv.settings import SystemSettings
from simulator.hyperv.systems import status_texts

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

INVALID_PARAMETER = 32773

_ALWAYS = frozenset({*range(9), *range(100, 118), 120, 121, 123})
_ADDED = {9: "2012R2", 118: "2012R2", 119: "2012R2", 122: "2012R2", 10: "2016", 11: "2016", 132: "2016"}
_ORDER = ("2012R2", "2016", "2019", "2022", "2025")

_FIELDS = {
    1: ("ElementName",), 2: ("CreationTime",), 3: ("Notes",), 4: ("NumberOfProcessors",), 9: ("VirtualSwitchNames",), 10: ("Version",),
    11: ("Shielded",), 100: ("EnabledState", "OtherEnabledState"), 101: ("ProcessorLoad",), 103: ("MemoryUsage",), 104: ("Heartbeat",),
    105: ("UpTime",), 106: ("GuestOperatingSystem",), 107: ("Snapshots",), 108: ("AsynchronousTasks",), 109: ("HealthState",),
    110: ("OperationalStatus",), 111: ("StatusDescriptions",), 112: ("MemoryAvailable",), 113: ("AvailableMemoryBuffer",),
    114: ("ReplicationMode",), 115: ("ReplicationState",), 116: ("ReplicationHealth",), 117: ("ApplicationHealth",),
    118: ("ReplicationStateEx",), 119: ("ReplicationHealthEx",), 120: ("SwapFilesInUse",), 121: ("IntegrationServicesVersionState",),
    122: ("ReplicationProviderId",), 123: ("MemorySpansPhysicalNumaNodes",), 132: ("IntegrationServicesVersionState",),
}


def known_numbers(os_version: str) -> frozenset[int]:
    """The request numbers that a release knows."""
    place = _ORDER.index(os_version)
    return _ALWAYS | {number for number, added in _ADDED.items() if _ORDER.index(added) <= place}


class Summaries:
    """Answers the method."""

    def __init__(self, role: HyperV, jobs: Jobs, settings: SystemSettings) -> None:
        self._role = role
        self._jobs = jobs
        self._settings = settings
        self._known = known_numbers(role.os_version)
        self._make = role.shapes.of(ids.V2, "Msvm_SummaryInformation")

    def get_summary_information(self, call: Invocation) -> MethodOutcome:
        """The method: one object for each machine asked for; an unknown number fails the call (inferred)."""
        asked = call["RequestedInformation"] or []
        assert isinstance(asked, list)
        numbers = [n for n in asked if isinstance(n, int)]
        if any(n not in self._known for n in numbers):
            return {"ReturnValue": INVALID_PARAMETER}
        given = call["SettingData"]
        chosen = self._chosen(given if isinstance(given, list) else [], call)
        if chosen is None:
            return {"ReturnValue": INVALID_PARAMETER}
        rows: list[CimValue] = [self._row(c, numbers, call) for c in chosen]
        return {"SummaryInformation": rows, "ReturnValue": 0}

    def _chosen(self, given: list[CimValue], call: Invocation) -> list[Configuration] | None:
        if not given:
            return [Configuration(m, None) for m in self._role.visible(call.caller)]
        chosen = []
        for ref in given:
            found = configuration_of(self._role, ref, call.caller) if isinstance(ref, Ref) else None
            if found is None:
                return None
            chosen.append(found)
        return chosen

    def _row(self, configuration: Configuration, numbers: list[int], call: Invocation) -> Instance:
        machine = configuration.machine
        if not machine.available:
            return self._make({"InstanceID": configuration.instance_id, "Name": ""})
        values: dict[str, CimValue] = {"InstanceID": configuration.instance_id}
        if 0 in numbers:
            values["Name"] = configuration.id
        everything = self._checkpoint(configuration) if configuration.checkpoint else self._machine(machine, set(numbers), call)
        for number in numbers:
            for name in _FIELDS.get(number, ()):
                values[name] = everything.get(name)
        if 10 in numbers or 100 in numbers:
            values["HostComputerSystemName"] = self._role.name.upper()
            values["VirtualSystemSubType"] = f"Microsoft:Hyper-V:SubType:{machine.spec.generation}"
        return self._make(values)

    @staticmethod
    def _checkpoint(configuration: Configuration) -> dict[str, CimValue]:
        checkpoint = configuration.checkpoint
        assert checkpoint is not None
        return {"ElementName": checkpoint.name, "CreationTime": checkpoint.created, "Notes": checkpoint.notes,
                "NumberOfProcessors": configuration.spec.processors, "Version": configuration.machine.version}

    def _machine(self, machine: Machine, numbers: set[int], call: Invocation) -> dict[str, CimValue]:
        now = self._role.clock.now()
        live = machine.live
        guest = machine.spec.guest
        kvp = component(machine, "kvp")
        relations = machine.relations
        answers = live and guest is not None and kvp.enabled and kvp.status == "ok"
        values: dict[str, CimValue] = {
            "ElementName": machine.name, "CreationTime": machine.created, "Notes": machine.notes,
            "NumberOfProcessors": machine.spec.processors, "Version": machine.version, "Shielded": machine.spec.shielded,
            "VirtualSwitchNames": [n.switch for n in machine.spec.nics if n.switch is not None] or None,
            "EnabledState": ENABLED_STATES[machine.state], "OtherEnabledState": OTHER_STATES.get(machine.state),
            "ProcessorLoad": 1 if machine.state == "running" else 0, "MemoryUsage": machine.spec.memory_mb if live else 0,
            "Heartbeat": self._heartbeat(machine) if live else None, "UpTime": int(machine.uptime(now).total_seconds() * 1000),
            "GuestOperatingSystem": guest.os_name if answers and guest else None,
            "HealthState": machine.health_state, "OperationalStatus": list(machine.operational_status),
            "StatusDescriptions": list(status_texts(machine, self._role.locale)),
            "MemoryAvailable": 0, "AvailableMemoryBuffer": 0, "ReplicationMode": machine.replication_mode,
            "ReplicationState": relations[0].state if relations else 0,
            "ReplicationHealth": machine.replication_health(relations[0]) if relations else 0,
            "ReplicationStateEx": [r.state for r in relations] or None,
            "ReplicationHealthEx": [machine.replication_health(r) for r in relations] or None,
            "ReplicationProviderId": [r.settings.provider for r in relations] or None, "ApplicationHealth": 2 if live else 32896,
            "SwapFilesInUse": False, "MemorySpansPhysicalNumaNodes": False,
            "IntegrationServicesVersionState": machine.spec.integration.version_state if live else 0,
        }
        if 107 in numbers:
            values["Snapshots"] = [self._settings.build(c) for c in machine.configurations()[1:]] or None
        if 108 in numbers:
            ref = ids.system_ref(machine.id)
            values["AsynchronousTasks"] = [self._jobs.build(job) for job in self._role.jobs.of(ref)] or None
        return values

    @staticmethod
    def _heartbeat(machine: Machine) -> int:
        """The summary knows fewer values than the component: 2 ok, 6 error, 12 no contact, 13 lost."""
        status = live_status(machine, "heartbeat")[0]
        return status if status in (2, 12, 13) else 2 if status in (3, 15) else 6
