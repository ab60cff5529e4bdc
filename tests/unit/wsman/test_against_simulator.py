# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole client against simulated hosts: NTLM, sealed messages, enumerations, methods and shells over real sockets."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.cim import facts, paths
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.cimxml import parse_instance
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.wql import select
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import SystemClock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, NotFound
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import faults
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import AuthenticationFailed, Endpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.lane import PywinrmLane
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WsmanSession
from simulator.cim.model import Account
from simulator.fleet import Fleet
from simulator.hyperv.spec import VmSpec
from simulator.spec import HostSpec, Quirks
from simulator.windows.spec import VolumeSpec

V2 = "root/virtualization/v2"
PASSWORD = "Pä$$w0rd & <x>"
ACCOUNTS = (
    Account("Administrator", PASSWORD, builtin_administrator=True, groups=frozenset({"Administrators"})),
    Account("nobody", PASSWORD),
)
NAMES = ("web", "db & <co> \"q\" 'x'", "名前 🖥", "{{ x }} %PATH%")
SPECS = [
    HostSpec(name, os_version=version, accounts=ACCOUNTS, volumes=(VolumeSpec("C:"),), vms=tuple(VmSpec(vm) for vm in NAMES), seed=number,
             quirks=quirks)
    for number, (name, version, quirks) in enumerate([
        ("OLD", "2012R2", Quirks()),
        ("NEW", "2022", Quirks(other_case=1.0, activity_id=1.0, utc_offset_minutes=330)),
        ("STUBBORN", "2025", Quirks(refuse_wql_namespaces=(V2,))),
    ])
]
HOSTS = [spec.name for spec in SPECS]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(SPECS, tmp_path_factory.mktemp("fleet")) as running:
        yield running


def endpoint(fleet: Fleet, name: str) -> Endpoint:
    return Endpoint("http", "127.0.0.1", fleet.hosts[name].port, username="Administrator", password=PASSWORD)


@pytest.fixture
def connect(fleet):
    opened = []

    def to(name, **options):
        clock = SystemClock()
        lane = PywinrmLane(replace(endpoint(fleet, name), **options), clock)
        opened.append(lane)
        return CimWriter(WsmanSession(lane, clock), clock)

    yield to
    for lane in opened:
        lane.close()


def counters(fleet, name):
    with fleet.locked():
        return fleet.hosts[name].host.counters.snapshot()


@pytest.mark.parametrize("name", HOSTS)
def test_machines_are_enumerated_over_one_log_on(fleet, connect, name):
    before = counters(fleet, name)
    one = connect(name)
    assert one.session.identify().product_vendor == "Microsoft Corporation"
    found = one.enumerate(V2, "Msvm_ComputerSystem")
    assert sorted(vm.text("ElementName") for vm in found) == sorted([name, *NAMES])
    added = counters(fleet, name).since(before)
    assert (added.connections, added.auth_legs, added.logon_failures, added.writing) == (1, 2, 0, 0)
    assert one.touched is False


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("vm", NAMES)
def test_a_query_finds_a_machine_of_any_name(connect, name, vm):
    one = connect(name)
    found = one.query(select(V2, "Msvm_ComputerSystem", {"ElementName": vm}))
    assert [row.text("ElementName") for row in found] == [vm]
    again = one.get(facts.reference_of(found[0]))
    assert (again.text("Name"), again.class_name, again.namespace.lower()) == (found[0].text("Name"), "Msvm_ComputerSystem", V2)
    assert again.time("InstallDate") is not None


@pytest.mark.parametrize("name", HOSTS)
def test_associations_lead_from_a_machine_to_its_settings(connect, name):
    one = connect(name)
    vm = one.query(select(V2, "Msvm_ComputerSystem", {"ElementName": "web"}))[0]
    settings = one.associators(facts.reference_of(vm), association="Msvm_SettingsDefineState", result="Msvm_VirtualSystemSettingData",
                               role="ManagedElement", result_role="SettingData")
    assert [row.text("ElementName") for row in settings] == ["web"]
    assert settings[0].text("ConfigurationID") == vm.text("Name")


@pytest.mark.parametrize("name", HOSTS)
def test_references_can_be_followed(connect, name):
    one = connect(name)
    references = one.enumerate_references(V2, "Msvm_VirtualSystemSettingData")
    assert {one.get(reference).text("ElementName") for reference in references} == set(NAMES)
    path = paths.format_path(references[0])
    assert paths.parse_path(path) == references[0]


@pytest.mark.parametrize("name", HOSTS)
def test_a_reading_method_brings_embedded_objects(connect, name):
    one = connect(name)
    service = Reference(V2, "Msvm_VirtualSystemManagementService", {"CreationClassName": "Msvm_VirtualSystemManagementService"})
    answer = one.ask(service, "GetSummaryInformation", {"RequestedInformation": [0, 1]})
    assert answer.return_value == 0
    assert sorted(row.text("ElementName") for row in answer.out.instances("SummaryInformation")) == sorted(NAMES)
    assert one.touched is False


def test_an_embedded_instance_arrives_as_cim_xml(connect):
    one = connect("NEW")
    disks = one.enumerate(V2, "Msvm_StorageAllocationSettingData")
    path = disks[0].texts("HostResource")[0]
    service = Reference(V2, "Msvm_ImageManagementService", {"CreationClassName": "Msvm_ImageManagementService"})
    answer = one.ask(service, "GetVirtualHardDiskSettingData", {"Path": path})
    assert answer.return_value == 0
    assert parse_instance(answer.out.required_text("SettingData"), V2).text("Path") == path


@pytest.mark.parametrize("name", HOSTS)
def test_a_writing_method_and_a_deletion_each_run_once_and_touch(fleet, connect, name):
    one = connect(name)
    volume = next(row for row in one.enumerate("root/cimv2", "Win32_Volume") if row.text("DriveLetter") == "C:")
    before = counters(fleet, name)
    assert one.touched is False
    answer = one.invoke(Reference("root/cimv2", "Win32_ShadowCopy"), "Create", {
        "Volume": volume.required_text("Name"), "Context": "ClientAccessible"})
    assert (answer.return_value, one.touched) == (0, True)
    shadow = Reference("root/cimv2", "Win32_ShadowCopy", {"ID": answer.out.required_text("ShadowID")})
    assert one.get(shadow).time("InstallDate") is not None
    one.delete(shadow)
    with pytest.raises(NotFound):
        one.get(shadow)
    with pytest.raises(NotFound):
        one.delete(shadow)
    done = counters(fleet, name).since(before).by_operation
    assert [number for operation, number in done.items() if "Create" in operation] == [1]


def test_what_does_not_exist(connect):
    one = connect("NEW")
    with pytest.raises(NotFound):
        one.get(Reference(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": "no such"}))
    with pytest.raises(NotFound):
        one.enumerate(V2, "Msvm_NoSuchClass")
    with pytest.raises(faults.WsmanFault) as caught:
        one.enumerate("root/nosuch", "Msvm_ComputerSystem")
    assert not isinstance(caught.value, AccessDenied)


def test_an_account_without_rights_is_denied_and_not_told_that_there_is_nothing(connect):
    one = connect("NEW", username="nobody")
    with pytest.raises(AccessDenied):
        one.enumerate(V2, "Msvm_ComputerSystem")


def test_a_wrong_password_fails_twice_on_the_host_and_no_more(fleet, connect):
    before = counters(fleet, "NEW")
    one = connect("NEW", password="wrong")
    for _unused in range(3):
        with pytest.raises(AuthenticationFailed):
            one.enumerate(V2, "Msvm_ComputerSystem")
    assert counters(fleet, "NEW").since(before).logon_failures == 2


@pytest.mark.parametrize("name", HOSTS)
def test_a_program_in_a_shell(fleet, connect, name):
    one = connect(name)
    with one.open_reading_shell({"AGH_TEXT": "ünï & 🖥 <x>"}) as shell:
        result = shell.run('echo "%AGH_TEXT%"', timeout=30)
        failed = shell.run('dir "C:\\no such folder"', timeout=30)
    assert (result.exit_code, result.stdout.decode().strip()) == (0, '"ünï & 🖥 <x>"')
    assert failed.exit_code == 1
    assert isinstance(one, CimReader)
    assert one.touched is False
