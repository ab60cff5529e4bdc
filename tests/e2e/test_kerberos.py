# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kerberos from a playbook to the host, with tickets of a real MIT KDC: kinit, Negotiate, sealed messages."""
from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from conftest import host, psrp, vm, winrm
from controller import Controller
from simulator.cim.model import Account
from simulator.fleet import Fleet
from support.kerberos import REALM, Realm, what_is_missing
from test_inventory import Site

MISSING = what_is_missing()
pytestmark = [pytest.mark.kerberos, pytest.mark.skipif(MISSING is not None, reason=f"no Kerberos realm on this machine: {MISSING}")]
INFO: dict[str, Any] = {"name": "facts", "agentless.hyperv.hyperv_vm_info": {"gather": []}}
USER = "backup-operator"
SECRET = "T1cketPassw0rd"  # letters and digits: kadmin.local takes its queries apart itself


@pytest.fixture(scope="module")
def realm(realm: Realm) -> Realm:
    realm.add_user(USER, SECRET)
    return realm


@pytest.fixture()
def fleet(realm: Realm, start_fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> Fleet:
    for name, value in realm.environment.items():
        monkeypatch.setenv(name, value)
    account = Account(USER, "unused", domain=REALM, groups=frozenset({"Administrators"}))
    return start_fleet(host("HV01", vm("web01"), accounts=(account,)))


def options(**more: Any) -> dict[str, Any]:
    return {"ansible_host": "localhost", "ansible_user": f"{USER}@{REALM}", "ansible_password": SECRET, **more}


def controller_environment(realm: Realm) -> dict[str, str]:
    """PYTHONPATH may lead to the libraries: tests/tools/kerberos."""
    return {"KRB5_CONFIG": realm.environment["KRB5_CONFIG"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}


def test_winrm_obtains_its_ticket(fleet: Fleet, realm: Realm, controller: Controller) -> None:
    inventory = controller.inventory(winrm(fleet, **options(ansible_winrm_transport="kerberos", ansible_winrm_message_encryption="always")))
    run = controller.play([INFO], inventory, "-vvvv", environment=controller_environment(realm))
    assert run.code == 0, run.output
    assert [machine["name"] for machine in run.one("facts")["vms"]] == ["web01"]
    assert SECRET not in run.output


def test_psrp_negotiates_kerberos_for_a_principal(fleet: Fleet, realm: Realm, controller: Controller) -> None:
    inventory = controller.inventory(psrp(fleet, **options(ansible_psrp_auth="negotiate", ansible_psrp_negotiate_service="HTTP")))
    run = controller.play([INFO], inventory, environment=controller_environment(realm))
    assert run.code == 0, run.output
    assert [machine["name"] for machine in run.one("facts")["vms"]] == ["web01"]


def test_a_ticket_that_is_there_already(fleet: Fleet, realm: Realm, controller: Controller) -> None:
    realm.log_on(f"{USER}@{REALM}", SECRET)
    more = options(ansible_winrm_transport="kerberos", ansible_winrm_kinit_mode="manual")
    del more["ansible_password"]
    hosts = winrm(fleet, **more)
    del hosts["hv01"]["ansible_password"]
    run = controller.play([INFO], controller.inventory(hosts), environment={
        **controller_environment(realm), "KRB5CCNAME": realm.environment["KRB5CCNAME"]})
    assert run.code == 0, run.output


def test_the_inventory_plugin_obtains_one_ticket_for_its_hosts(fleet: Fleet, realm: Realm, controller: Controller) -> None:
    listed = Site(controller, winrm(fleet, **options(ansible_winrm_transport="kerberos"))).list(environment=controller_environment(realm))
    assert (listed.vms, SECRET in listed.errors) == ({"web01"}, False)
    with fleet.locked():
        assert fleet.hosts["HV01"].host.counters.logon_failures == 0


@pytest.mark.parametrize(("change", "words"), [
    ({"ansible_password": "wr0ng"}, "refused"),
    ({"ansible_winrm_kinit_cmd": "/nonexistent/kinit"}, "not installed"),
])
def test_no_ticket_is_unreachable_and_says_why(
        fleet: Fleet, realm: Realm, controller: Controller, change: dict[str, Any], words: str) -> None:
    inventory = controller.inventory(winrm(fleet, **{**options(ansible_winrm_transport="kerberos"), **change}))
    run = controller.play([INFO], inventory, environment=controller_environment(realm))
    found = run.one("facts")
    assert found.status == "unreachable"
    assert words in found["msg"]
    assert "wr0ng" not in run.output
    assert fleet.hosts["HV01"].host.counters.requests == 0
