# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts and tokens (wire 6.1), and fleet files."""
from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from simulator.cim.model import Account
from simulator.directory import AccountDirectory
from simulator.fileserver import FileServerSpec
from simulator.fleet_file import FleetError, load_file_servers, load_fleet
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, GuestSpec, VmSpec
from simulator.spec import ClusterSpec, HostSpec, Limits, ListenerSpec
from simulator.windows.scheduler.service import SchedulerSettings
from simulator.windows.spec import ShareSpec, VolumeSpec

BUILTIN = Account("Administrator", "a", builtin_administrator=True, groups=frozenset({"Administrators"}))
LOCAL = Account("anna", "b", groups=frozenset({"Administrators"}), certificate_subject="anna@localhost")
USER = Account("bob", "c", groups=frozenset({"Remote Management Users"}))
DOMAIN = Account("anna", "d", domain="EXAMPLE", groups=frozenset({"Domain Admins"}), certificate_subject="x@example.test")
DIRECTORY = AccountDirectory("HV1", [BUILTIN, LOCAL, USER, DOMAIN])


@pytest.mark.parametrize(("user", "password", "found"), [
    ("anna", "b", LOCAL), ("ANNA", "b", LOCAL), (".\\anna", "b", LOCAL), ("hv1\\anna", "b", LOCAL), ("EXAMPLE\\anna", "d", DOMAIN),
    ("anna@example.test", "d", DOMAIN), ("example.test\\Anna", "d", DOMAIN), ("bob", "c", USER),
    ("anna", "d", None), ("anna", "", None), ("anna", "B", None), ("OTHER\\anna", "b", None), ("EXAMPLE\\bob", "c", None),
    ("nobody", "b", None)])
def test_names_and_passwords(user: str, password: str, found: Account | None) -> None:
    assert DIRECTORY.authenticate_password(user, password) == found


def test_a_name_without_a_domain_may_be_a_domain_account() -> None:
    directory = AccountDirectory("HV1", [DOMAIN])
    assert directory.account("anna", None) == DOMAIN
    assert directory.account("anna", "") == DOMAIN
    assert directory.account("anna", "HV1") is None


def test_certificates_map_to_local_accounts() -> None:
    assert DIRECTORY.by_certificate("ANNA@localhost") == LOCAL
    assert DIRECTORY.by_certificate("x@example.test") is None


@pytest.mark.parametrize(("account", "policy", "elevated"), [
    (BUILTIN, False, True), (LOCAL, False, False), (LOCAL, True, True), (USER, True, False), (DOMAIN, False, True)])
def test_tokens_over_the_network(account: Account, policy: bool, elevated: bool) -> None:
    directory = AccountDirectory("HV1", [account], token_filter_policy=policy)
    caller = directory.log_on(account, "ntlm", delegated=True)
    assert (caller.elevated, caller.is_administrator, caller.delegated, caller.scheme) == (elevated, elevated, True, "ntlm")


def test_ntlm_credentials() -> None:
    assert DIRECTORY.ntlm_credentials() == [("", "Administrator", "a"), ("", "anna", "b"), ("", "bob", "c"), ("EXAMPLE", "anna", "d")]


FLEET = """
defaults:
  domain: example.test
  accounts:
    - {name: Administrator, password: secret, builtin_administrator: true, groups: [Administrators]}
  limits: {max_shells_per_user: 5}
hosts:
  - name: HV1
    os_version: 2019
    start: 2026-03-01 10:00:00+00:00
    volumes: [{path: 'C:', size: 1000000}, {path: 'D:', free: 10, size: 100}]
    shares: [{name: backup, path: 'D:\\backup', grants: [Everyone]}]
    cluster: {name: CL, nodes: [HV1, HV2], owners: {web: HV2}}
    listener: {schemes: [Negotiate, Basic], idle_seconds: 5}
    vms:
      - name: web
        state: 'off'
        disks: [{size: 1048576, content: hello}]
        checkpoints: [{key: one, age_hours: 3}]
        guest: {os_name: Linux, items: {A: b}}
      - {name: silent, guest: null}
  - name: HV2
    domain: null
    os_version: '2025'
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "fleet.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_fleet_file(tmp_path: Path) -> None:
    account = Account("Administrator", "secret", builtin_administrator=True, groups=frozenset({"Administrators"}))
    web = VmSpec("web", state="off", disks=(DiskSpec(size=1048576, content=b"hello"),), checkpoints=(CheckpointSpec("one", age_hours=3.0),),
                 guest=GuestSpec(os_name="Linux", items={"A": "b"}))
    first = HostSpec(
        "HV1", domain="example.test", os_version="2019", accounts=(account,), start=datetime(2026, 3, 1, 10, tzinfo=UTC),
        limits=Limits(max_shells_per_user=5), listener=ListenerSpec(schemes=("Negotiate", "Basic"), idle_seconds=5.0),
        volumes=(VolumeSpec("C:", size=1000000), VolumeSpec("D:", size=100, free=10)), shares=(ShareSpec("backup", "D:\\backup"),),
        cluster=ClusterSpec("CL", ("HV1", "HV2"), {"web": "HV2"}), vms=(web, VmSpec("silent", guest=None)))
    second = HostSpec("HV2", os_version="2025", accounts=(account,), limits=Limits(max_shells_per_user=5))
    assert load_fleet(write(tmp_path, FLEET)) == [first, second]
    assert (first.fqdn, second.fqdn) == ("HV1.example.test", "HV2")


def test_file_servers_of_a_fleet_file(tmp_path: Path) -> None:
    text = """
hosts:
- {name: HV1, tasks: {start_lag: 1, failures: return_value}, accounts: [{name: a, password: b, batch_logon: false}]}
file_servers:
- name: NAS
  computer_accounts: false
  domain: example.test
  volumes: [{path: 'E:', size: 1000}]
  shares: [{name: backup, path: 'E:\\backup', grants: ['EXAMPLE\\HV1$'], readers: [Everyone]}]
"""
    path = write(tmp_path, text)
    share = ShareSpec("backup", "E:\\backup", ("EXAMPLE\\HV1$",), ("Everyone",))
    server = FileServerSpec("NAS", "example.test", (VolumeSpec("E:", size=1000),), (share,), computer_accounts=False)
    assert load_file_servers(path) == [server]
    assert load_fleet(path) == [HostSpec("HV1", accounts=(Account("a", "b", batch_logon=False),),
                                         tasks=SchedulerSettings(start_lag=1.0, failures="return_value"))]
    assert load_file_servers(write(tmp_path, "hosts: []")) == []
    with pytest.raises(FleetError, match="FileServerSpec has no vms"):
        load_file_servers(write(tmp_path, "hosts: []\nfile_servers: [{name: A, vms: []}]"))


@pytest.mark.parametrize(("text", "message"), [
    ("[]", "a fleet file holds 'hosts'"),
    ("hosts: {}", "a fleet file holds 'hosts'"),
    ("hosts: []\nmore: 1", "a fleet file holds 'hosts'"),
    ("hosts: [HV1]", "hosts[0]: must be a mapping"),
    ("hosts: [{os_version: '2022'}]", "hosts[0]: name is missing"),
    ("hosts: [{name: A, colour: red}]", "hosts[0]: HostSpec has no colour"),
    ("hosts: [{name: A, os_version: 95}]", "hosts[0]: os_version is one of"),
    ("hosts: [{name: A, vms: [{state: asleep}]}]", "hosts[0].vms[0].state: must be one of running"),
    ("hosts: [{name: A, vms: {}}]", "hosts[0].vms: must be a list"),
    ("hosts: [{name: A, seed: many}]", "hosts[0].seed: must be of type int"),
    ("hosts: [{name: A, seed: true}]", "hosts[0].seed: must be a number"),
    ("hosts: [{name: A, volumes: [{path: 'C:', size: 0}]}]", "hosts[0].volumes[0]: volume C:"),
    ("hosts: [{name: [A]}]", "hosts[0].name: must be of type str"),
    ("defaults: 3\nhosts: []", "defaults: must be a mapping")])
def test_bad_fleet_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FleetError) as caught:
        load_fleet(write(tmp_path, text))
    assert message in str(caught.value)
