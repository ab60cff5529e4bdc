# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests of the repository."""
from __future__ import annotations

import pytest
from unit.simulator.cim.helpers import Host, setting_ref, vm_ref, vm_row

NAMES = ("A1", "B2", "C3", "S4")


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def vms(host: Host) -> Host:
    """Three machines with their settings, a checkpoint of the second, and two disks."""
    host.table("Msvm_ComputerSystem", vm_row("A1", "web"), vm_row("B2", "Db's \\ \"1\"", 3), vm_row("C3", "Web2"), indexed=True)
    host.table("Msvm_VirtualSystemSettingData", *({"InstanceID": f"Microsoft:{name}", "ElementName": name} for name in NAMES))
    host.table("Msvm_ProcessorSettingData", {"InstanceID": "Microsoft:A1\\p"})
    host.table("Msvm_StorageAllocationSettingData", {"InstanceID": "Microsoft:A1\\0"}, {"InstanceID": "Microsoft:A1\\1"})
    host.table("Msvm_SettingsDefineState",
               *({"ManagedElement": vm_ref(name), "SettingData": setting_ref(f"Microsoft:{name}")} for name in ("A1", "B2", "C3")))
    host.table("Msvm_SnapshotOfVirtualSystem", {"Antecedent": vm_ref("B2"), "Dependent": setting_ref("Microsoft:S4")})
    parts = [("Microsoft:A1\\p", "Msvm_ProcessorSettingData"), ("Microsoft:A1\\0", "Msvm_StorageAllocationSettingData"),
             ("Microsoft:A1\\1", "Msvm_StorageAllocationSettingData"), ("Microsoft:A1\\gone", "Msvm_StorageAllocationSettingData")]
    host.table("Msvm_VirtualSystemSettingDataComponent",
               *({"GroupComponent": setting_ref("Microsoft:A1"), "PartComponent": setting_ref(part, cls)} for part, cls in parts),
               indexed=True)
    return host
