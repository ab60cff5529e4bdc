# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Msvm_VirtualSystemSettingData of machines, checkpoints and planned machines; export settings (operations 1.2, 2.1, 2.4, 3.1)."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from simulator.cim.model import Caller, CimValue
from simulator.cim.paths import format_object_path
from simulator.hyperv import ids
from simulator.hyperv.model import Configuration, Machine
from simulator.hyperv.provider import ConfigurationTable, same

TYPES = {
    "standard": "Microsoft:Hyper-V:Snapshot:Realized",
    "production": "Microsoft:Hyper-V:Snapshot:Realized",
    "recovery": "Microsoft:Hyper-V:Snapshot:Recovery",
    "replica": "Microsoft:Hyper-V:Snapshot:Replica:Standard",
    "replica_application": "Microsoft:Hyper-V:Snapshot:Replica:ApplicationConsistent",
    "replica_planned": "Microsoft:Hyper-V:Snapshot:Replica:PlannedFailover",
    "planned": "Microsoft:Hyper-V:Snapshot:Planned",
    "missing": "Microsoft:Hyper-V:Snapshot:Missing",
}
REALIZED = "Microsoft:Hyper-V:System:Realized"
PLANNED = "Microsoft:Hyper-V:System:Planned"

SECURE_BOOT_WINDOWS = "1734C6E8-3154-4DDA-BA5F-A874CC483422"


class SystemSettings(ConfigurationTable[Configuration]):
    """One row for each machine, checkpoint and planned machine."""

    class_name = "Msvm_VirtualSystemSettingData"

    def of(self, configuration: Configuration) -> Iterable[Configuration]:
        """The configuration itself."""
        return (configuration,)

    def lookup(self, conditions: Mapping[str, CimValue], caller: Caller) -> Iterable[Configuration] | None:
        """By InstanceID, by the machine, or by the type or name."""
        found = super().lookup(conditions, caller)
        if found is not None:
            return found
        for name in ("ConfigurationID", "VirtualSystemIdentifier"):
            guid = conditions.get(name)
            if isinstance(guid, str):
                return self._by_guid(name, guid, caller)
        kind, label = conditions.get("VirtualSystemType"), conditions.get("ElementName")
        if not isinstance(kind, str) and not isinstance(label, str):
            return None
        return [c for c in self.role.configurations(caller)
                if (kind is None or same(type_of(c), kind)) and (label is None or same(name_of(c), label))]

    def _by_guid(self, name: str, guid: str, caller: Caller) -> list[Configuration]:
        if name == "ConfigurationID":
            one = self.role.configuration(guid, caller)
            return [one] if one else []
        if not caller.is_hyperv_administrator:
            return []
        machine = self.role.machines.get(guid.upper()) or self.role.planned.get(guid.upper())
        return machine.configurations() if machine else []

    def values(self, item: Configuration) -> dict[str, CimValue]:
        """One row."""
        machine, checkpoint = item.machine, item.checkpoint
        spec = item.spec
        captured = checkpoint.captured if checkpoint else machine.capture()
        second = spec.generation == 2
        folder = machine.snapshot_folder if checkpoint else machine.folder
        values: dict[str, CimValue] = {
            "InstanceID": item.instance_id, "Caption": "Virtual Machine Settings",
            "Description": "Checkpoint Settings for a virtual machine." if checkpoint else "Active settings for the virtual machine.",
            "ElementName": name_of(item), "VirtualSystemType": type_of(item),
            "VirtualSystemSubType": f"Microsoft:Hyper-V:SubType:{spec.generation}",
            "VirtualSystemIdentifier": machine.id, "ConfigurationID": item.id, "Version": machine.version,
            "CreationTime": checkpoint.created if checkpoint else machine.created,
            "Notes": [checkpoint.notes if checkpoint else machine.notes],
            "Parent": parent_path(item), "IsSaved": checkpoint.saved if checkpoint else machine.state == "saved",
            "ConfigurationDataRoot": folder, "ConfigurationFile": configuration_file(item),
            "SnapshotDataRoot": machine.snapshot_folder, "SuspendDataRoot": folder, "SwapFileDataRoot": machine.folder,
            "LogDataRoot": folder, "GuestStateDataRoot": folder,
            "GuestStateFile": guest_state_file(item),
            "UserSnapshotType": captured.policy, "AutomaticSnapshotsEnabled": captured.automatic_checkpoints,
            "IsAutomaticSnapshot": checkpoint.automatic if checkpoint else False,
            "IncrementalBackupEnabled": captured.incremental_backup,
            "AutomaticStartupAction": 3, "AutomaticStartupActionDelay": timedelta(0), "AutomaticStartupActionSequenceNumber": 0,
            "AutomaticShutdownAction": 3, "AutomaticRecoveryAction": 3,
            "AutomaticCriticalErrorAction": 1, "AutomaticCriticalErrorActionTimeout": timedelta(minutes=30),
            "BIOSNumLock": False,
            "SecureBootEnabled": second, "SecureBootTemplateId": SECURE_BOOT_WINDOWS if second else None,
            "BootOrder": None if second else [1, 2, 3, 0], "NetworkBootPreferredProtocol": 4096, "PauseAfterBootFailure": False,
            "LowMmioGapSize": 128, "HighMmioGapSize": 512, "ConsoleMode": 0, "LockOnDisconnect": False,
            "EnhancedSessionTransportType": 0, "GuestControlledCacheTypes": False, "VirtualNumaEnabled": True,
            "TurnOffOnGuestRestart": False, "AllowFullSCSICommandSet": False, "AllowReducedFcRedundancy": False,
            "DebugPortEnabled": 0, "DebugPort": 0, "DebugChannelId": 0, "Architecture": "x64",
        }
        values.update(machine.serials)
        if checkpoint is None:
            values.update(machine.roots)
        return values


def type_of(item: Configuration) -> str:
    """VirtualSystemType (operations 2.1)."""
    if item.checkpoint is not None:
        return TYPES["planned" if item.machine.planned and item.checkpoint.kind != "missing" else item.checkpoint.kind]
    return PLANNED if item.machine.planned else REALIZED


def name_of(item: Configuration) -> str:
    """ElementName."""
    return item.checkpoint.name if item.checkpoint else item.machine.name


def parent_path(item: Configuration) -> str | None:
    """Object path of the parent checkpoint; null for a root (operations 2.4)."""
    parent = item.checkpoint.parent if item.checkpoint else item.machine.current_parent
    if parent is None:
        return None
    ref = ids.setting_ref("Msvm_VirtualSystemSettingData", ids.settings_id(parent.id))
    return format_object_path(ref, item.machine.role.name.upper())


def configuration_file(item: Configuration) -> str:
    """ConfigurationFile: relative to ConfigurationDataRoot."""
    folder = "Snapshots" if item.checkpoint else "Virtual Machines"
    return f"{folder}\\{item.id}.{'xml' if modern(item.machine) is False else 'vmcx'}"


def modern(machine: Machine) -> bool:
    """True for configuration version 6.2 and later: .vmcx files (operations 0.6)."""
    major, _unused, minor = machine.version.partition(".")
    return (int(major), int(minor or 0)) >= (6, 2)


def guest_state_file(item: Configuration) -> str | None:
    """GuestStateFile: only machines of version 9 and later have one (operations 0.6)."""
    if int(item.machine.version.partition(".")[0]) < 9:
        return None
    return f"{'Snapshots' if item.checkpoint else 'Virtual Machines'}\\{item.id}.vmgs"


class ExportSettings(ConfigurationTable[Configuration]):
    """The export settings of each machine; InstanceID is that of the machine (operations 0.7, 3.1)."""

    class_name = "Msvm_VirtualSystemExportSettingData"

    def of(self, configuration: Configuration) -> Iterable[Configuration]:
        """One for a machine, none for a checkpoint."""
        return () if configuration.checkpoint or configuration.machine.planned else (configuration,)

    def values(self, item: Configuration) -> dict[str, CimValue]:
        """One row: the settings Export-VM starts from."""
        return {
            "InstanceID": item.instance_id, "ElementName": item.machine.name, "Caption": "Virtual Machine Export Settings",
            "Description": "Export settings of a virtual machine.", "BackupIntent": 0, "CaptureLiveState": 1,
            "CopySnapshotConfiguration": 0, "CopyVmRuntimeInformation": True, "CopyVmStorage": True,
            "CreateVmExportSubdirectory": True, "DifferentialBackupBase": None, "DisableDifferentialOfIgnoredStorage": False,
            "ExportForLiveMigration": False, "SnapshotVirtualSystem": None,
        }


class SecuritySettings(ConfigurationTable[Configuration]):
    """Msvm_SecuritySettingData (2016 and later): virtual TPM and shielding (operations 1.2)."""

    class_name = "Msvm_SecuritySettingData"

    def of(self, configuration: Configuration) -> Iterable[Configuration]:
        """One for each configuration."""
        return (configuration,)

    def values(self, item: Configuration) -> dict[str, CimValue]:
        """One row."""
        spec = item.machine.spec
        return {
            "InstanceID": security_id(item), "ElementName": "Security Settings", "Caption": "Security Settings",
            "Description": "Security settings of a virtual machine.", "TpmEnabled": spec.tpm or spec.shielded,
            "KsdEnabled": False, "ShieldingRequested": spec.shielded, "EncryptStateAndVmMigrationTraffic": spec.shielded,
            "DataProtectionRequested": False, "VirtualizationBasedSecurityOptOut": False, "BindToHostTpm": False,
        }


def security_id(item: Configuration) -> str:
    """InstanceID of the security settings of a configuration."""
    return ids.settings_id(item.id, ids.SECURITY)


class MergeSettings(ConfigurationTable[Configuration]):
    """Msvm_DiskMergeSettingData: whether merging is held up (operations 2.6)."""

    class_name = "Msvm_DiskMergeSettingData"

    def of(self, configuration: Configuration) -> Iterable[Configuration]:
        """One for a machine, none for a checkpoint."""
        return () if configuration.checkpoint or configuration.machine.planned else (configuration,)

    def values(self, item: Configuration) -> dict[str, CimValue]:
        """One row."""
        return {"InstanceID": item.instance_id, "ElementName": "Disk Merge Setting Data", "Caption": "Disk Merge Settings",
                "EnabledState": 0 if item.machine.merge_paused else 1}
