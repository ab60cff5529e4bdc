# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Msvm_ComputerSystem with the host's own row, and Msvm_PlannedComputerSystem (operations 0.5, 1.1, wire 4)."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from simulator.cim.model import Caller, CimValue
from simulator.hyperv import ids
from simulator.hyperv.model import ENABLED_STATES, OTHER_STATES, Machine
from simulator.hyperv.provider import Table
from simulator.hyperv.texts import text

NEVER = datetime(ids.SENTINEL_YEAR, 1, 1, tzinfo=UTC)


def status_texts(machine: Machine, locale: str) -> list[str]:
    """StatusDescriptions: one text for each OperationalStatus, in the language of the host."""
    codes = machine.operational_status
    first = {2: "ok", 3: "degraded", 5: "storage"}[codes[0]]
    return [text(first, locale), *(text("busy", locale) for _unused in codes[1:])]


class ComputerSystems(Table[Machine | None]):
    """The machines; the item None is the host itself, whose Name is not a GUID."""

    class_name = "Msvm_ComputerSystem"

    def items(self, caller: Caller) -> Iterator[Machine | None]:
        """The host first."""
        yield None
        yield from self.role.visible(caller)

    def lookup(self, conditions: Mapping[str, CimValue], caller: Caller) -> Iterable[Machine | None] | None:
        """By Name or ElementName."""
        name = conditions.get("Name")
        if isinstance(name, str):
            if name.lower() == self.role.name.lower():
                return (None,)
            machine = self.role.machine(name, caller)
            return () if machine is None else (machine,)
        label = conditions.get("ElementName")
        if isinstance(label, str):
            lowered = label.lower()
            found: list[Machine | None] = [m for m in self.role.visible(caller) if m.name.lower() == lowered]
            return [None, *found] if lowered == self.role.name.lower() else found
        return None

    def values(self, item: Machine | None) -> dict[str, CimValue]:
        """One row."""
        return self._host() if item is None else self._machine(item)

    def _host(self) -> dict[str, CimValue]:
        role = self.role
        return {
            "Caption": text("host_caption", role.locale), "Description": text("host_description", role.locale),
            "CreationClassName": self.class_name, "Name": role.name.upper(), "ElementName": role.name.upper(),
            "EnabledState": 2, "EnabledDefault": 2, "RequestedState": 12, "HealthState": 5, "OperationalStatus": [2],
            "ResetCapability": 1, "Status": "OK", "StatusDescriptions": [text("ok", role.locale)],
            "OnTimeInMilliseconds": None, "ProcessID": None, "InstallDate": None, "TimeOfLastStateChange": None,
            "ReplicationMode": 0, "ReplicationState": 0, "ReplicationHealth": 0,
        }

    def _machine(self, machine: Machine) -> dict[str, CimValue]:
        role = self.role
        now = role.clock.now()
        relation = machine.relations[0] if machine.relations else None
        backup = machine.last_backup
        return {
            "Caption": text("machine_caption", role.locale), "Description": "Microsoft Virtual Machine",
            "CreationClassName": self.class_name, "Name": machine.id, "ElementName": machine.name,
            "EnabledState": ENABLED_STATES[machine.state], "OtherEnabledState": OTHER_STATES.get(machine.state),
            "EnabledDefault": 2, "RequestedState": 12, "ResetCapability": 1, "Status": "OK",
            "HealthState": machine.health_state, "OperationalStatus": list(machine.operational_status),
            "StatusDescriptions": list(status_texts(machine, role.locale)),
            "EnhancedSessionModeState": 2 if machine.live and machine.spec.guest else 3,
            "InstallDate": machine.created, "TimeOfLastConfigurationChange": machine.config_changed,
            "TimeOfLastStateChange": machine.state_changed,
            "OnTimeInMilliseconds": int(machine.uptime(now).total_seconds() * 1000),
            "ProcessID": process_id(machine) if machine.live else None, "NumberOfNumaNodes": 1,
            "ReplicationMode": machine.replication_mode,
            "ReplicationState": relation.state if relation else 0, "ReplicationHealth": machine.replication_health(relation),
            "FailedOverReplicationType": relation.failed_over if relation else 0,
            "LastReplicationType": relation.last_type if relation else 0,
            "LastReplicationTime": (relation.last_time if relation else None) or NEVER,
            "LastApplicationConsistentReplicationTime": (relation.last_application_time if relation else None) or NEVER,
            "LastSuccessfulBackupTime": backup or NEVER,
        }


def process_id(machine: Machine) -> int:
    """The process number of the worker process: stable while the guest runs."""
    return 1000 + int(machine.id[:6], 16) % 30000 * 4


class PlannedComputerSystems(Table[Machine]):
    """Machines that an import left behind or has not finished."""

    class_name = "Msvm_PlannedComputerSystem"

    def items(self, caller: Caller) -> Iterable[Machine]:
        """All of them."""
        return self.role.visible_planned(caller)

    def lookup(self, conditions: Mapping[str, CimValue], caller: Caller) -> Iterable[Machine] | None:
        """By Name."""
        name = conditions.get("Name")
        if not isinstance(name, str):
            return None
        return [m for m in self.items(caller) if m.id == name.upper()]

    def values(self, item: Machine) -> dict[str, CimValue]:
        """One row."""
        return {
            "Caption": text("machine_caption", self.role.locale), "Description": "Microsoft Virtual Machine",
            "CreationClassName": self.class_name, "Name": item.id, "ElementName": item.name,
            "EnabledState": 6 if item.state == "saved" else 3, "EnabledDefault": 2, "HealthState": 5,
            "OperationalStatus": [2], "Status": "OK", "StatusDescriptions": [text("ok", self.role.locale)], "InstallDate": item.created,
            "OnTimeInMilliseconds": 0, "TimeOfLastConfigurationChange": item.config_changed,
            "TimeOfLastStateChange": item.state_changed,
        }
