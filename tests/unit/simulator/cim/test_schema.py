# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from simulator.cim.model import CimError
from simulator.cim.schema import RELEASES, Schema

V2 = "root/virtualization/v2"


def has(os_version: str, class_name: str, member: str | None = None, namespace: str = V2) -> bool:
    found = Schema.load().for_os(os_version).find(namespace, class_name)
    if found is None or member is None:
        return found is not None
    return found.find_property(member) is not None or found.find_method(member) is not None


def first(class_name: str, member: str | None = None, namespace: str = V2) -> str | None:
    """The first release that has it, provided that all later ones do, too."""
    present = [has(release, class_name, member, namespace) for release in RELEASES]
    since = present.index(True) if True in present else None
    assert since is None or all(present[since:])
    return None if since is None else RELEASES[since]


def test_one_schema_for_each_release_is_shared() -> None:
    assert Schema.load() is Schema.load()
    assert Schema.load().for_os("2016") is Schema.load().for_os("2022").for_os("2016")
    assert Schema.load().for_os("2016").base is Schema.load()
    with pytest.raises(ValueError, match="2008"):
        Schema.load().for_os("2008")


def test_lookups_ignore_letter_case_and_spell_as_windows_does() -> None:
    schema = Schema.load().for_os("2019")
    found = schema.get("ROOT/Virtualization/V2", "msvm_COMPUTERSYSTEM")
    assert (found.namespace, found.name) == (V2, "Msvm_ComputerSystem")
    assert found.uri == "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/Msvm_ComputerSystem"
    assert found.keys == ("CreationClassName", "Name")
    prop = found.find_property("elementname")
    assert prop is not None
    assert (prop.name, prop.type, prop.array) == ("ElementName", "string", False)
    assert schema.namespace("root\\mscluster") == "root/MSCluster"
    assert schema.get("root/mscluster", "mscluster_resource").namespace == "root/MSCluster"


def test_unknown_class() -> None:
    assert Schema.load().find(V2, "Msvm_Nothing") is None
    assert Schema.load().find("root/nowhere", "Msvm_ComputerSystem") is None
    with pytest.raises(CimError) as refusal:
        Schema.load().get(V2, "Msvm_Nothing")
    assert refusal.value.kind == "invalid_class"


@pytest.mark.parametrize(("class_name", "member", "release"), [
    ("Msvm_ComputerSystem", None, "2012R2"),
    ("Msvm_ComputerSystem", "InjectNonMaskableInterrupt", "2012R2"),
    ("Msvm_VirtualSystemReferencePointService", None, "2016"),
    ("Msvm_VirtualSystemSettingData", "UserSnapshotType", "2016"),
    ("Msvm_SecurityService", None, "2016"),  # dated 1703
    ("Msvm_AssignableDeviceService", None, "2016"),  # dated 1703
    ("Msvm_VirtualSystemSnapshotSettingData", "GuestBackupType", "2016"),  # dated 1703
    ("Msvm_VirtualSystemSettingData", "AutomaticSnapshotsEnabled", "2019"),  # dated 1709
    ("Msvm_VirtualSystemSettingData", "IsAutomaticSnapshot", "2019"),
    ("Msvm_VirtualSystemSettingData", "GuestStateFile", "2019"),
    ("Msvm_VirtualSystemExportSettingData", "ExcludedVirtualHardDisks", "2019"),
    ("Msvm_PersistentMemoryController", None, "2019"),  # 2016 by name, 1709 by date
    ("Msvm_VirtualSystemUpgradeSettingData", None, "2025"),  # only in the dump of 23H2
    ("Msvm_ComputerSystem", "RequestCustomRestore", "2025"),
    ("Msvm_VirtualSystemSnapshotService", "ConvertToReferencePoint", "2016"),
])
def test_first_release(class_name: str, member: str | None, release: str) -> None:
    assert first(class_name, member) == release


def test_what_was_removed_or_is_missing_from_real_hosts() -> None:
    assert [has(release, "Msvm_VirtualSystemSettingData", "ParentPackage") for release in RELEASES] == [False, True, False, False, False]
    quantum = [has(release, "Win32_OperatingSystem", "QuantumLength", "root/cimv2") for release in RELEASES]
    assert quantum == [True, True, False, False, False]


def test_superclass_of_another_release_is_skipped() -> None:
    chains = [Schema.load().for_os(release).get(V2, "Msvm_SummaryInformation").ancestors for release in ("2012R2", "2016")]
    assert chains == [("Msvm_SummaryInformation", "CIM_ManagedElement"),
                      ("Msvm_SummaryInformation", "Msvm_SummaryInformationBase", "CIM_View", "CIM_ManagedElement")]
    assert has("2012R2", "Msvm_SummaryInformation", "NumberOfProcessors")


def test_subclasses_and_is_a() -> None:
    schema = Schema.load().for_os("2012R2")
    assert set(schema.subclasses(V2, "cim_concretejob")) == {
        "Msvm_ConcreteJob", "Msvm_CopyFileToGuestJob", "Msvm_MigrationJob", "Msvm_StorageJob"}
    assert not schema.is_a(V2, "Msvm_StorageJob", "Msvm_ConcreteJob")  # siblings (wire 2.6)
    assert schema.is_a(V2, "Msvm_StorageJob", "CIM_Job")
    assert not schema.is_a(V2, "Msvm_Nothing", "CIM_Job")
    assert schema.is_a("root/cimv2", "Win32_Volume", "CIM_StorageVolume")  # mentioned only


def test_inherited_members_are_resolved() -> None:
    found = Schema.load().for_os("2019").get(V2, "Msvm_StorageAllocationSettingData")
    caption = found.properties["Caption"]
    assert (caption.origin, caption.type) == ("CIM_ManagedElement", "string")
    assert found.properties["HostResource"].array
    assert found.properties["InstanceID"].key


def test_methods_with_order_direction_and_return_type() -> None:
    schema = Schema.load().for_os("2019")
    method = schema.get(V2, "Msvm_VirtualSystemSnapshotService").find_method("createsnapshot")
    assert method is not None
    assert [(p.name, p.type, p.is_in, p.is_out) for p in method.parameters] == [
        ("AffectedSystem", "reference", True, False), ("SnapshotSettings", "string", True, False), ("SnapshotType", "uint16", True, False),
        ("ResultingSnapshot", "reference", True, True), ("Job", "reference", False, True)]
    assert [p.name for p in method.outputs] == ["ResultingSnapshot", "Job", "ReturnValue"]
    assert not method.static
    snapshot_settings = method.input("SNAPSHOTSETTINGS")
    assert snapshot_settings is not None
    assert snapshot_settings.embedded == "Msvm_VirtualSystemSnapshotSettingData"
    assert method.input("Job") is None


@pytest.mark.parametrize(("namespace", "class_name", "method", "static"), [
    ("root/cimv2", "Win32_Process", "Create", True),
    ("root/cimv2", "Win32_Process", "Terminate", False),
    ("root/cimv2", "Win32_ShadowCopy", "Create", True),
    ("root/cimv2", "Win32_ShadowStorage", "Create", True),
    ("root/Microsoft/Windows/TaskScheduler", "PS_ScheduledTask", "RegisterByXml", True),
    ("root/MSCluster", "MSCluster_Resource", "CreateResource", True),
])
def test_static_methods(namespace: str, class_name: str, method: str, static: bool) -> None:
    found = Schema.load().get(namespace, class_name).find_method(method)
    assert found is not None
    assert found.static is static


def test_both_sources_are_merged() -> None:
    volume = Schema.load().get("root/cimv2", "Win32_Volume")
    assert {"AddMountPoint", "SetPowerState"} <= volume.methods.keys()  # one from each file
    log = Schema.load().get("root/cimv2", "Win32_NTLogEvent")
    assert log.keys == ("Logfile", "RecordNumber")
    assert Schema.load().get("root/MSCluster", "MSCluster_DiskPartition").keys == ("Path",)


def test_child_namespaces_are_a_class_everywhere() -> None:
    found = Schema.load().get("root", "__namespace")
    assert (found.name, found.keys, found.is_a("__SystemClass")) == ("__NAMESPACE", ("Name",), True)
    assert Schema.load().find("root/cimv2", "__NAMESPACE") is not None


def test_associations_are_told_from_classes_that_merely_refer() -> None:
    schema = Schema.load().for_os("2019")
    assert schema.get(V2, "Msvm_SettingsDefineState").association
    assert schema.get("root/cimv2", "Win32_ShadowFor").association
    assert not schema.get(V2, "Msvm_SummaryInformation").association  # has TestReplicaSystem
    assert not schema.get(V2, "Msvm_ComputerSystem").association


@pytest.mark.parametrize("os_version", RELEASES)
def test_every_class_of_every_release_can_be_built(os_version: str) -> None:
    schema = Schema.load().for_os(os_version)
    types = {"string", "boolean", "datetime", "reference", "object", "char16", "real32", "real64",
             *(f"{sign}int{bits}" for sign in "us" for bits in (8, 16, 32, 64))}
    bad = []
    for namespace in schema.namespaces():
        for name in schema.classes(namespace):
            found = schema.get(namespace, name)
            bad += [(name, prop.name) for prop in found.properties.values() if prop.type not in types]
            bad += [(name, p.name) for method in found.methods.values() for p in method.parameters if p.type not in types]
            bad += [(name, key) for key in found.keys if key not in found.properties]
    assert bad == []


def test_properties_are_ordered_without_letter_case() -> None:
    names = [prop.name for prop in Schema.load().get(V2, "Msvm_ComputerSystem").ordered]
    assert names == sorted(names, key=str.lower)
