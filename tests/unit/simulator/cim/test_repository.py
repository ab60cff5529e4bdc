# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from simulator.cim.errors import ProviderRefusal, SimulatorBug
from simulator.cim.model import CimError, CimValue, Instance, Ref
from simulator.cim.provider import Invocation, MethodOutcome
from unit.simulator.cim.helpers import CIMV2, V2, Host, IndexedTable, setting_ref, vm_ref, vm_row

SERVICE = {"CreationClassName": "Msvm_VirtualSystemManagementService", "Name": "vmms", "SystemCreationClassName": "Msvm_ComputerSystem",
           "SystemName": "HOST"}


def refused(call: Callable[[], object]) -> CimError:
    with pytest.raises(CimError) as refusal:
        call()
    return refusal.value


# -- registration and namespaces ----------------------------------------------------------------------------------------

@pytest.mark.parametrize(("os_version", "class_name"), [
    ("2012R2", "Msvm_VirtualSystemReferencePoint"), ("2019", "Msvm_Nothing"), ("2019", "CIM_CDROMDrive")])
def test_registration_refuses_what_the_release_lacks_and_abstract_classes(os_version: str, class_name: str) -> None:
    with pytest.raises(SimulatorBug):
        Host(os_version).table(class_name)


def test_registration_refuses_a_second_provider_and_unknown_methods() -> None:
    host = Host("2016")
    host.table("Msvm_ComputerSystem", methods={"RequestCustomRestore": lambda call: {}})  # a method of 2025: known, but not offered
    with pytest.raises(SimulatorBug, match="twice"):
        host.table("Msvm_ComputerSystem")
    with pytest.raises(SimulatorBug, match="no method Explode"):
        host.table("Msvm_VirtualSystemSettingData", methods={"Explode": lambda call: {}})


def test_knows() -> None:
    assert not Host("2012R2").repository.knows(V2, "Msvm_SecurityService")
    assert Host("2016").repository.knows(V2, "msvm_securityservice")


def test_namespaces_exist_when_something_is_registered_in_them(host: Host) -> None:
    assert refused(lambda: host.repository.enumerate("root/MSCluster", "MSCluster_Node", host.admin)).kind == "invalid_namespace"
    assert host.names("SELECT Name FROM __NAMESPACE", "root") == ["cimv2"]
    host.table("MSCluster_Node", {"Name": "N1"}, namespace="root/MSCluster")
    host.repository.add_namespace("root\\Microsoft\\Windows\\Storage")
    assert host.names("SELECT Name FROM __NAMESPACE WHERE Name='mscluster'", "root") == ["MSCluster"]
    assert host.names("SELECT * FROM __NAMESPACE", "ROOT") == ["cimv2", "MSCluster", "Microsoft"]
    assert host.names("SELECT * FROM __NAMESPACE", "root/Microsoft") == ["Windows"]
    assert host.names("SELECT * FROM __NAMESPACE", "root/cimv2") == []
    assert host.repository.has_namespace("root/mscluster")
    assert not host.repository.has_namespace("root/virtualization/v2")


def test_guard_denies_instead_of_answering_nothing(vms: Host) -> None:
    repository, guest = vms.repository, vms.guest
    repository.guard("ROOT\\virtualization\\v2", lambda caller: caller.elevated)
    calls: list[Callable[[], object]] = [
        lambda: repository.enumerate(V2, "Msvm_ComputerSystem", guest),
        lambda: repository.query(V2, "SELECT * FROM Msvm_ComputerSystem", guest),
        lambda: repository.get(V2, "Msvm_ComputerSystem", {}, guest), lambda: repository.delete(V2, "Msvm_ComputerSystem", {}, guest),
        lambda: repository.invoke(V2, "Msvm_ComputerSystem", {}, "RequestStateChange", {}, guest),
        lambda: repository.selector_filter(V2, "Msvm_ComputerSystem", {}, guest),
        lambda: repository.associated(V2, vm_ref("A1"), guest), lambda: repository.association_instances(V2, vm_ref("A1"), guest)]
    assert [refused(call).kind for call in calls] == ["access_denied"] * len(calls)
    assert len(repository.enumerate(V2, "Msvm_ComputerSystem", vms.admin)) == 3
    assert repository.enumerate(CIMV2, "Win32_Volume", guest) == []


# -- enumeration and queries ---------------------------------------------------------------------------------------------

def test_enumeration_is_polymorphic(host: Host) -> None:
    host.table("Msvm_ConcreteJob", {"InstanceID": "J1"})
    host.table("Msvm_StorageJob", {"InstanceID": "J2"})
    found = host.repository.enumerate(V2, "cim_concretejob", host.admin)
    assert {(job.class_name, job["InstanceID"]) for job in found} == {("Msvm_ConcreteJob", "J1"), ("Msvm_StorageJob", "J2")}
    assert [job["InstanceID"] for job in host.repository.enumerate(V2, "Msvm_ConcreteJob", host.admin)] == ["J1"]
    assert host.names("SELECT * FROM CIM_Job WHERE InstanceID='j2'", column="InstanceID") == ["J2"]
    assert host.repository.enumerate(V2, "Msvm_MigrationJob", host.admin) == []
    assert refused(lambda: host.repository.enumerate(V2, "Msvm_Nothing", host.admin)).kind == "invalid_class"


def test_query_selects_instances_or_columns(vms: Host) -> None:
    assert vms.names("SELECT * FROM Msvm_ComputerSystem WHERE ElementName LIKE 'web%' AND EnabledState=2") == ["A1", "C3"]
    assert vms.names("SELECT * FROM Msvm_ComputerSystem WHERE ElementName = 'Db\\'s \\\\ \\\"1\\\"'") == ["B2"]
    assert vms.repository.query(V2, "SELECT * FROM Msvm_ComputerSystem", vms.admin).columns is None
    result = vms.repository.query(V2, "select elementname, NAME, name from msvm_computersystem", vms.admin)
    assert (result.columns, len(result.instances)) == (("ElementName", "Name"), 3)


@pytest.mark.parametrize(("query", "kind"), [
    ("SELECT * FROM Msvm_Nothing", "invalid_class"),
    ("SELECT Nothing FROM Msvm_ComputerSystem", "invalid_query"),
    ("SELECT * FROM Msvm_ComputerSystem WHERE Nothing=1", "invalid_query"),
    ("SELECT * FROM Msvm_ComputerSystem WHERE OperationalStatus=2", "invalid_query"),
    ("SELEKT", "invalid_query"),
    ("ASSOCIATORS OF {Msvm_ComputerSystem.CreationClassName='Msvm_ComputerSystem',Name='A1'} WHERE ClassDefsOnly", "cannot_process_filter"),
])
def test_queries_that_are_refused(vms: Host, query: str, kind: str) -> None:
    assert refused(lambda: vms.repository.query(V2, query, vms.admin)).kind == kind


def test_query_uses_the_fast_path(vms: Host) -> None:
    table = IndexedTable([Instance(V2, "Msvm_StorageJob", {"InstanceID": f"J{n}", "JobState": n % 8}) for n in range(1000)])
    vms.repository.register(V2, "Msvm_StorageJob", table)
    assert vms.names("SELECT * FROM Msvm_StorageJob WHERE InstanceID='j7' AND JobState<>3", column="InstanceID") == ["J7"]
    assert (table.read, table.looked_up) == (0, [{"InstanceID": "j7"}])


def test_dotted_name_is_looked_up_beside_the_schema(host: Host) -> None:
    rows: list[dict[str, CimValue]] = [{"Name": "VM 1", "Type": "Virtual Machine", "PrivateProperties.VmID": "ab-1"},
                                       {"Name": "Disk", "Type": "Physical Disk"}]
    host.table("MSCluster_Resource", *rows, namespace="root/MSCluster")
    query = 'SELECT Name, OwnerNode FROM MSCluster_Resource WHERE Type="Virtual Machine" AND PrivateProperties.VmID="AB-1"'
    assert host.names(query, "root/MSCluster") == ["VM 1"]
    assert host.names('SELECT * FROM MSCluster_Resource WHERE PrivateProperties.VmID="AB-2"', "root/MSCluster") == []


def test_selector_filter(vms: Host) -> None:
    def found(selectors: Any) -> list[CimValue]:
        return [vm["Name"] for vm in vms.repository.selector_filter(V2, "Msvm_ComputerSystem", selectors, vms.admin)]

    assert found({"elementname": "WEB", "EnabledState": "2"}) == ["A1"]
    assert found({}) == ["A1", "B2", "C3"]
    for selectors in ({"Nothing": "1"}, {"OperationalStatus": "2"}, {"InstallDate": "x"}, {"ElementName": "a'b"}, {"ElementName": 'a"b'},
                      [("Name", "A1"), ("NAME", "A1")], {"EnabledState": "on"}):
        assert refused(lambda given=selectors: found(given)).kind == "cannot_process_filter"  # type: ignore[misc]  # bound now


# -- what providers give --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("values", [
    {"Nothing": "a"}, {"elementname": "a"}, {"ElementName": 5}, {"ElementName": ["a"]}, {"EnabledState": "2"}, {"EnabledState": True},
    {"EnabledState": 65536}, {"EnabledState": -1}, {"OperationalStatus": 2}, {"OperationalStatus": ["2"]}, {"OperationalStatus": (2,)},
    {"InstallDate": "20260301"}, {"InstallDate": datetime(2026, 3, 1)}, {"InstallDate": timedelta(days=-1)},
    {"Name": None}, {"Element.Name": "a"},
])
def test_wrong_instances_are_loud(host: Host, values: Mapping[str, Any]) -> None:
    host.table("Msvm_ComputerSystem", {**vm_row("A1", "web"), **values})
    with pytest.raises(SimulatorBug):
        host.repository.enumerate(V2, "Msvm_ComputerSystem", host.admin)


@pytest.mark.parametrize("value", ["x", Ref(V2, "Msvm_Nothing", {}), Ref("root/nowhere", "Msvm_ComputerSystem", {})])
def test_wrong_references_are_loud(host: Host, value: CimValue) -> None:
    host.table("Msvm_SettingsDefineState", {"ManagedElement": vm_ref("A1"), "SettingData": value})
    with pytest.raises(SimulatorBug):
        host.repository.enumerate(V2, "Msvm_SettingsDefineState", host.admin)


def test_instance_of_another_class_is_loud(host: Host) -> None:
    table = host.table("Msvm_ConcreteJob")
    table.rows.append(Instance(V2, "Msvm_StorageJob", {"InstanceID": "J"}))
    with pytest.raises(SimulatorBug, match="gave an instance of"):
        host.repository.enumerate(V2, "Msvm_ConcreteJob", host.admin)


def test_embedded_instances_are_checked(host: Host) -> None:
    namespace = "root/Microsoft/Windows/TaskScheduler"
    good = Instance(namespace, "MSFT_TaskSettings3", {"Enabled": True})
    table = host.table("MSFT_ScheduledTask", {"TaskName": "a", "TaskPath": "\\", "Settings": good}, namespace=namespace)
    assert len(host.repository.enumerate(namespace, "MSFT_ScheduledTask", host.admin)) == 1
    for bad in (Instance(namespace, "MSFT_TaskTrigger", {}), Instance(namespace, "MSFT_TaskSettings", {"Enabled": "yes"}), "text"):
        table.rows[0].values["Settings"] = bad
        with pytest.raises(SimulatorBug):
            host.repository.enumerate(namespace, "MSFT_ScheduledTask", host.admin)


def test_properties_of_newer_releases_are_passed_over() -> None:
    host = Host("2016")
    host.table("Msvm_VirtualSystemSettingData", {"InstanceID": "a", "AutomaticSnapshotsEnabled": False})
    assert host.names("SELECT * FROM Msvm_VirtualSystemSettingData", column="InstanceID") == ["a"]
    query = "SELECT * FROM Msvm_VirtualSystemSettingData WHERE AutomaticSnapshotsEnabled=FALSE"
    assert refused(lambda: host.repository.query(V2, query, host.admin)).kind == "invalid_query"


# -- Get and Delete ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("selectors", "kind"), [
    ({"Name": "A1"}, "not_found"),  # some of the keys are not enough for Get
    ({"CreationClassName": "Msvm_ComputerSystem", "Name": "Z9"}, "not_found"),
    ({}, "insufficient_selectors"),
    ({"CreationClassName": "Msvm_ComputerSystem", "Name": "A1", "ElementName": "web"}, "invalid_selectors"),
    ({"CreationClassName": "Msvm_ComputerSystem", "Name": "A1", "Nothing": "x"}, "invalid_selectors"),
    ([("CreationClassName", "Msvm_ComputerSystem"), ("Name", "A1"), ("name", "A1")], "invalid_selectors"),
    ({"CreationClassName": "Msvm_ComputerSystem", "Name": "A1", "__cimnamespace": "root/cimv2"}, "failed"),
])
def test_get_and_delete_refuse(vms: Host, selectors: Any, kind: str) -> None:
    assert refused(lambda: vms.repository.get(V2, "Msvm_ComputerSystem", selectors, vms.admin)).kind == kind
    assert refused(lambda: vms.repository.delete(V2, "Msvm_ComputerSystem", selectors, vms.admin)).kind == kind


@pytest.mark.parametrize("selectors", [
    {"CreationClassName": "Msvm_ComputerSystem", "Name": "A1"}, {"name": "a1", "CREATIONCLASSNAME": "msvm_computersystem"},
    {"CreationClassName": "Msvm_ComputerSystem", "Name": "A1", "__CimNamespace": "ROOT\\virtualization/v2"}])
def test_get(vms: Host, selectors: Mapping[str, str]) -> None:
    assert vms.repository.get(V2, "Msvm_ComputerSystem", selectors, vms.admin)["ElementName"] == "web"


def test_get_by_number_reference_superclass_and_singleton(vms: Host) -> None:
    vms.table("Win32_NTLogEvent", {"Logfile": "System", "RecordNumber": 7}, namespace=CIMV2)
    vms.table("Win32_OperatingSystem", {"Name": "Windows", "BuildNumber": "17763"}, namespace=CIMV2)
    get, admin = vms.repository.get, vms.admin
    assert get(CIMV2, "Win32_NTLogEvent", {"Logfile": "system", "RecordNumber": "7"}, admin)["RecordNumber"] == 7
    assert refused(lambda: get(CIMV2, "Win32_NTLogEvent", {"Logfile": "system", "RecordNumber": "x"}, admin)).kind == "not_found"
    assert get(CIMV2, "Win32_OperatingSystem", {}, admin)["BuildNumber"] == "17763"
    assert get(V2, "CIM_ComputerSystem", vm_ref("B2").keys, admin).class_name == "Msvm_ComputerSystem"
    link = vms.repository.reference(vms.repository.enumerate(V2, "Msvm_SettingsDefineState", admin)[1])
    assert link.keys["SettingData"] == 'root/virtualization/v2:Msvm_VirtualSystemSettingData.InstanceID="Microsoft:B2"'
    assert get(V2, "Msvm_SettingsDefineState", link.keys, admin)["ManagedElement"] == vm_ref("B2")
    assert refused(lambda: get(V2, "Msvm_SettingsDefineState", {**link.keys, "SettingData": "x"}, admin)).kind == "not_found"


def test_delete(vms: Host) -> None:
    vms.repository.delete(V2, "Msvm_ComputerSystem", vm_ref("A1").keys, vms.admin)
    assert vms.names("SELECT * FROM Msvm_ComputerSystem") == ["B2", "C3"]
    refusal = refused(lambda: vms.repository.delete(V2, "Msvm_VirtualSystemSettingData", {"InstanceID": "Microsoft:A1"}, vms.admin))
    assert (refusal.kind, refusal.hresult) == ("not_supported", 0x80041024)


def test_resolve_takes_some_keys_and_refuses_the_rest(vms: Host) -> None:
    resolve = vms.repository.resolve
    assert resolve(Ref(V2, "Msvm_ComputerSystem", {"Name": "b2"}), vms.admin)["EnabledState"] == 3
    assert resolve(setting_ref("Microsoft:A1"), vms.admin, expected="CIM_SettingData")["ElementName"] == "A1"
    for keys in ({"ElementName": "web"}, {"Name": "Z9"}, {"CreationClassName": "Msvm_ComputerSystem"}, {}):
        with pytest.raises(ProviderRefusal):
            resolve(Ref(V2, "Msvm_ComputerSystem", keys), vms.admin)
    for ref, expected in [(Ref(V2, "Nothing", {"a": "b"}), None), (vm_ref("A1"), "Msvm_VirtualSystemSettingData")]:
        with pytest.raises(ProviderRefusal) as refusal:
            resolve(ref, vms.admin, expected=expected)
        assert refusal.value.return_value == 32773


# -- Invoke ------------------------------------------------------------------------------------------------------------------

class Service:
    """Methods of the management service that note how they were called."""

    def __init__(self, outcome: MethodOutcome) -> None:
        self.outcome = outcome
        self.calls: list[Invocation] = []

    def __call__(self, call: Invocation) -> MethodOutcome:
        self.calls.append(call)
        return self.outcome


def with_service(host: Host, outcome: MethodOutcome) -> Service:
    service = Service(outcome)
    host.table("Msvm_VirtualSystemManagementService", SERVICE, methods={"ExportSystemDefinition": service})
    return service


@pytest.mark.parametrize("selectors", [
    {"CreationClassName": "Msvm_VirtualSystemManagementService"}, {"name": "VMMS"}, SERVICE,
    {"Name": "vmms", "SystemCreationClassName": "Msvm_ComputerSystem", "CreationClassName": "msvm_virtualsystemmanagementservice"}])
def test_invoke_with_any_keys_that_identify_the_instance(host: Host, selectors: Mapping[str, str]) -> None:
    service = with_service(host, {"ReturnValue": 0})
    host.repository.invoke(V2, "msvm_virtualsystemmanagementservice", selectors, "exportsystemdefinition",
                           {"exportdirectory": "D:\\x", "ComputerSystem": vm_ref("A1"), "ExportSettingData": None}, host.admin)
    call = service.calls[0]
    assert (call.class_name, call.method) == ("Msvm_VirtualSystemManagementService", "ExportSystemDefinition")
    assert call.instance is not None
    assert call.instance["Name"] == "vmms"
    assert call.parameters == {"ExportDirectory": "D:\\x", "ComputerSystem": vm_ref("A1"), "ExportSettingData": None}
    assert (call["ExportDirectory"], call["Job"]) == ("D:\\x", None)


def test_invoke_answers_in_the_order_of_the_schema(host: Host) -> None:
    job = Ref(V2, "Msvm_ConcreteJob", {"InstanceID": "J"})
    with_service(host, {"ReturnValue": 4096, "Job": job})
    outs = host.repository.invoke(V2, "Msvm_VirtualSystemManagementService", SERVICE, "ExportSystemDefinition", {}, host.admin)
    assert [(param.name, value) for param, value in outs] == [("Job", job), ("ReturnValue", 4096)]


@pytest.mark.parametrize(("class_name", "method", "kind", "hresult"), [
    ("Msvm_VirtualSystemManagementService", "ExportSystemDefinition", "invalid_parameter", 0x8004102F),
    ("Msvm_ImageManagementService", "GetVirtualHardDiskState", "failed", None),
    ("Msvm_VirtualEthernetSwitchManagementService", "DefineSystem", "failed", None),
])
def test_service_without_selectors(host: Host, class_name: str, method: str, kind: str, hresult: int | None) -> None:
    host.table(class_name, {**SERVICE, "CreationClassName": class_name})
    refusal = refused(lambda: host.repository.invoke(V2, class_name, {}, method, {}, host.admin))
    assert (refusal.kind, refusal.hresult) == (kind, hresult)


@pytest.mark.parametrize(("class_name", "selectors", "method", "parameters", "kind"), [
    ("Msvm_Nothing", {}, "Explode", {}, "invalid_class"),
    ("Msvm_ComputerSystem", {"Name": "A1"}, "Explode", {}, "method_not_found"),
    ("Msvm_ComputerSystem", {"Name": "A1"}, "RequestCustomRestore", {}, "method_not_found"),  # newer than this host
    ("Msvm_ComputerSystem", {"Name": "A1"}, "RequestStateChange", {"Nothing": 1}, "schema_validation"),
    ("Msvm_ComputerSystem", {"Name": "A1"}, "RequestStateChange", {"Job": vm_ref("A1")}, "schema_validation"),  # out only
    ("Msvm_ComputerSystem", {"Name": "Z9"}, "RequestStateChange", {}, "not_found"),
    ("Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem"}, "RequestStateChange", {}, "insufficient_selectors"),
    ("Msvm_ComputerSystem", {"ElementName": "web"}, "RequestStateChange", {}, "invalid_selectors"),
    ("Msvm_ComputerSystem", [("Name", "A1"), ("Name", "A1")], "RequestStateChange", {}, "invalid_selectors"),
    ("Msvm_ComputerSystem", {"Name": "A1"}, "RequestStateChange", {}, "not_supported"),  # Windows has it, this table does not
])
def test_invoke_refuses(vms: Host, class_name: str, selectors: Any, method: str, parameters: dict[str, CimValue], kind: str) -> None:
    assert refused(lambda: vms.repository.invoke(V2, class_name, selectors, method, parameters, vms.admin)).kind == kind


def test_static_method(host: Host) -> None:
    service = Service({"ReturnValue": 0, "ShadowID": "{1}"})
    host.table("Win32_ShadowCopy", namespace=CIMV2, methods={"Create": service})
    outs = host.repository.invoke(CIMV2, "Win32_ShadowCopy", {}, "Create", {"Volume": "C:\\"}, host.admin)
    assert [(param.name, value) for param, value in outs] == [("ShadowID", "{1}"), ("ReturnValue", 0)]
    assert service.calls[0].instance is None
    refusal = refused(lambda: host.repository.invoke(CIMV2, "Win32_ShadowCopy", {"Volume": "x"}, "Create", {}, host.admin))
    assert refusal.kind == "invalid_selectors"


def test_method_of_the_derived_class_is_called_through_the_base(host: Host) -> None:
    service = Service({"ReturnValue": 0})
    host.table("Msvm_StorageJob", {"InstanceID": "J"}, methods={"RequestStateChange": service})
    host.repository.invoke(V2, "CIM_ConcreteJob", {"InstanceID": "J"}, "RequestStateChange", {"RequestedState": 4}, host.admin)
    assert service.calls[0].class_name == "Msvm_StorageJob"


def test_refusal_of_a_provider_becomes_the_return_value(host: Host) -> None:
    def refuse(call: Invocation) -> MethodOutcome:
        raise ProviderRefusal(32773, f"{call.method} does not want that")

    host.table("Msvm_VirtualSystemManagementService", SERVICE, methods={"ExportSystemDefinition": refuse})
    outs = host.repository.invoke(V2, "Msvm_VirtualSystemManagementService", SERVICE, "ExportSystemDefinition", {}, host.admin)
    assert [(param.name, value) for param, value in outs] == [("Job", None), ("ReturnValue", 32773)]


@pytest.mark.parametrize("outcome", [
    {}, {"ReturnValue": None}, {"ReturnValue": "0"}, {"ReturnValue": 0, "Nothing": 1}, {"ReturnValue": 0, "Job": "J"}])
def test_wrong_outcomes_are_loud(host: Host, outcome: MethodOutcome) -> None:
    with_service(host, outcome)
    with pytest.raises(SimulatorBug):
        host.repository.invoke(V2, "Msvm_VirtualSystemManagementService", SERVICE, "ExportSystemDefinition", {}, host.admin)
