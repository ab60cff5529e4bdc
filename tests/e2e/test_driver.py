# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the driver takes from a task and what it gives back: connections, credentials, keywords, refusals, secrets."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ansible_runner
import pytest
import trustme
from conftest import ADMIN, LOCAL_ADMIN, NOBODY, OPERATOR, PASSWORD, host, psrp, vm, winrm
from controller import Controller
from simulator.cim.model import Account
from simulator.fleet import Fleet
from simulator.soap.rules import broken
from simulator.spec import ListenerSpec

INFO: dict[str, Any] = {"name": "facts", "agentless.hyperv.hyperv_vm_info": {"gather": []}}
StartFleet = Callable[..., Fleet]


def names(result: Any) -> list[str]:
    return sorted(machine["name"] for machine in result["vms"])


@pytest.fixture()
def fleet(start_fleet: StartFleet) -> Fleet:
    return start_fleet(host("HV01", vm("web01"), vm("sql01")))


@pytest.mark.every_core
@pytest.mark.parametrize("inventory", [winrm, psrp], ids=["winrm", "psrp"])
def test_ntlm_with_sealed_messages_is_one_connection_and_one_log_on(
        fleet: Fleet, controller: Controller, inventory: Callable[..., Any]) -> None:
    run = controller.play([INFO], controller.inventory(inventory(fleet)))
    assert run.code == 0, run.output
    assert names(run.one("facts")) == ["sql01", "web01"]
    assert run.one("facts")["changed"] is False
    counters = fleet.hosts["HV01"].host.counters
    assert (counters.connections, counters.logon_failures) == (1, 0)
    assert counters.auth_legs <= 3


@pytest.mark.every_core
def test_basic_and_certificate_over_https_with_a_trusted_authority(start_fleet: StartFleet, controller: Controller, tmp_path: Path) -> None:
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    client = authority.issue_cert("administrator@localhost", common_name="administrator@localhost")
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "server.pem", tmp_path / "server.key"
    authority.cert_pem.write_to_path(ca)
    cert.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    server.private_key_pem.write_to_path(key)
    client_cert, client_key = tmp_path / "client.pem", tmp_path / "client.key"
    client_cert.write_bytes(b"".join(blob.bytes() for blob in client.cert_chain_pems))
    client.private_key_pem.write_to_path(client_key)
    # Basic carries Latin-1 only, as the libraries on the controller encode it
    account = Account("Administrator", "Basic-pässword", groups=frozenset({"Administrators"}), builtin_administrator=True,
                      certificate_subject="administrator@localhost")
    fleet = start_fleet(host("HV01", vm("web01"), accounts=(account,), listener=ListenerSpec(
        schemes=("Negotiate", "Basic", "Certificate"), tls_certificate=str(cert), tls_key=str(key), tls_client_ca=str(ca))))
    common = {"ansible_winrm_scheme": "https", "ansible_host": "localhost", "ansible_password": account.password}
    trusted = {**common, "ansible_winrm_ca_trust_path": str(ca)}
    ways: dict[str, dict[str, Any]] = {
        "basic": {**trusted, "ansible_winrm_transport": "basic"}, "ntlm": {**trusted, "ansible_winrm_transport": "ntlm"},
        "certificate": {**trusted, "ansible_winrm_transport": "certificate", "ansible_winrm_cert_pem": str(client_cert),
                        "ansible_winrm_cert_key_pem": str(client_key), "ansible_password": ""},
        "ignored": {**common, "ansible_winrm_transport": "ntlm", "ansible_winrm_server_cert_validation": "ignore"}, "refused": common}
    run = controller.play([INFO], controller.inventory({way: winrm(fleet, **options)["hv01"] for way, options in ways.items()}))
    found = run.of("facts")
    seen = {way: names(result) for way, result in found.items() if result.status == "ok"}
    assert seen == {way: ["web01"] for way in ways if way != "refused"}, run.output
    assert (found["refused"].status, found["refused"]["error_code"]) == ("unreachable", "tls_not_trusted")


def test_credssp(start_fleet: StartFleet, controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("web01"), listener=ListenerSpec(schemes=("Negotiate", "CredSSP"))))
    run = controller.play([INFO], controller.inventory(winrm(fleet, ansible_winrm_transport="credssp")))
    assert run.code == 0, run.output
    assert names(run.one("facts")) == ["web01"]


@pytest.mark.every_core
def test_password_from_the_command_line(fleet: Fleet, controller: Controller, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    hosts = winrm(fleet)
    del hosts["hv01"]["ansible_password"]
    run = controller.play([INFO], controller.inventory(hosts), "--connection-password-file", str(secret))
    assert run.code == 0, run.output


@pytest.mark.every_core
def test_a_job_of_awx(fleet: Fleet, controller: Controller) -> None:
    """AWX starts ansible-runner, which answers ansible's password prompt with the machine credential."""
    hosts = winrm(fleet)
    del hosts["hv01"]["ansible_password"], hosts["hv01"]["ansible_user"]
    playbook = controller.folder / "job.yml"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [INFO]}]), encoding="utf-8")
    (controller.folder / "job").mkdir()
    runner = ansible_runner.run(
        private_data_dir=str(controller.folder / "job"), playbook=str(playbook), inventory=str(controller.inventory(hosts)), quiet=True,
        envvars=controller.environment(controller.folder / "job.jsonl"), cmdline=f"--user {ADMIN.name} --ask-pass",
        passwords={r"SSH password:\s*?$": PASSWORD})
    assert (runner.status, runner.rc) == ("successful", 0)
    results = [event["event_data"]["res"] for event in runner.events if event["event"] == "runner_on_ok"]
    assert [names(result) for result in results] == [["sql01", "web01"]]
    kept = "".join(path.read_text(encoding="utf-8") for path in (controller.folder / "job" / "artifacts").rglob("*") if path.is_file())
    assert PASSWORD not in kept


@pytest.mark.every_core
def test_delegation_uses_the_connection_of_the_other_host(start_fleet: StartFleet, controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("web01")), host("HV02", vm("sql02")))
    task = {**INFO, "delegate_to": "hv02"}
    run = controller.play([task], controller.inventory(winrm(fleet)), "--limit", "hv01")
    assert names(run.one("facts")) == ["sql02"], run.output
    assert fleet.hosts["HV01"].host.counters.requests == 0


@pytest.mark.every_core
def test_other_connections_are_refused(fleet: Fleet, controller: Controller) -> None:
    task = {**INFO, "delegate_to": "localhost", "vars": {"ansible_connection": "local"}}
    run = controller.play([task], controller.inventory(winrm(fleet)))
    found = run.one("facts")
    assert (found.status, found["error_code"]) == ("failed", "connection_not_supported")
    assert "winrm or psrp" in found["hint"]


@pytest.mark.every_core
@pytest.mark.parametrize(("keywords", "word"), [
    ({"async": 60, "poll": 5}, "async"), ({"become": True, "become_method": "runas", "become_user": "SYSTEM"}, "become"),
])
def test_async_and_become_are_refused_with_a_sentence(fleet: Fleet, controller: Controller, keywords: dict[str, Any], word: str) -> None:
    run = controller.play([{**INFO, **keywords}], controller.inventory(winrm(fleet)))
    found = run.one("facts")
    assert found.status == "failed"
    assert f"does not support {word}" in found["msg"]
    assert fleet.hosts["HV01"].host.counters.requests == 0


@pytest.mark.every_core
def test_loops_module_defaults_and_check_mode(fleet: Fleet, controller: Controller) -> None:
    task = {"name": "facts", "agentless.hyperv.hyperv_vm_info": {"name": "{{ item }}"}, "loop": ["web01", "SQL01"]}
    run = controller.play([task], controller.inventory(winrm(fleet)), "--check",
                          keywords={"module_defaults": {"group/agentless.hyperv.hyperv": {"gather": []}}})
    assert run.code == 0, run.output
    items = run.one("facts")["results"]
    assert [item["vm"]["name"] for item in items] == ["web01", "sql01"]
    assert {tuple(item["invocation"]["module_args"]["gather"]) for item in items} == {()}
    assert fleet.hosts["HV01"].host.counters.writing == 0


@pytest.mark.every_core
def test_arguments_are_validated_before_anything_is_sent(fleet: Fleet, controller: Controller) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "value of gather must be one or more of": {"gather": ["nonsense"]}, "Unsupported parameters": {"nome": "web01"},
        "mutually exclusive": {"name": "web01", "names": ["sql01"]}}
    run = controller.play([{"name": message, "agentless.hyperv.hyperv_vm_info": arguments, "ignore_errors": True}
                           for message, arguments in wrong.items()], controller.inventory(winrm(fleet)))
    for message in wrong:
        assert run.one(message).status == "ignored"
        assert message in run.one(message)["msg"]
    assert fleet.hosts["HV01"].host.counters.requests == 0


@pytest.mark.every_core
def test_wrong_password_is_unreachable_and_tried_at_most_twice(fleet: Fleet, controller: Controller) -> None:
    run = controller.play([INFO], controller.inventory(winrm(fleet, ansible_password="Wr0ng-pässword")), "-vvvv")
    found = run.one("facts")
    assert (found.status, found["error_code"]) == ("unreachable", "wrong_credentials")
    assert 1 <= fleet.hosts["HV01"].host.counters.logon_failures <= 2
    assert "Wr0ng" not in run.output


def test_nobody_listens(fleet: Fleet, controller: Controller) -> None:
    run = controller.play([INFO], controller.inventory(winrm(fleet, ansible_port=1)))
    found = run.one("facts")
    assert (found.status, found["error_code"]) == ("unreachable", "unreachable")
    assert "127.0.0.1" in found["msg"]


def test_plain_messages_are_refused_with_the_reason(fleet: Fleet, controller: Controller) -> None:
    run = controller.play([INFO], controller.inventory(winrm(fleet, ansible_winrm_message_encryption="never")))
    found = run.one("facts")
    assert (found.status, found["error_code"]) == ("unreachable", "plain_refused")


def test_an_account_without_rights_is_told_so_and_never_sees_an_empty_host(fleet: Fleet, controller: Controller) -> None:
    accounts = (OPERATOR, NOBODY, LOCAL_ADMIN)
    hosts = {account.name: winrm(fleet, ansible_user=account.name, ansible_password=account.password)["hv01"] for account in accounts}
    run = controller.play([{"name": "facts", "agentless.hyperv.hyperv_vm_info": {"name": "web01"}}], controller.inventory(hosts))
    assert {name: (found.status, found["error_code"]) for name, found in run.of("facts").items()} == dict.fromkeys(
        hosts, ("failed", "access_denied"))


@pytest.mark.every_core
def test_secrets_appear_nowhere_even_at_vvvv(fleet: Fleet, controller: Controller) -> None:
    hosts = winrm(fleet)
    copy = {"name": "copy", "agentless.hyperv.hyperv_vss_copy": {"name": PASSWORD, "destination": "E:\\Backup"}}
    run = controller.play([INFO, copy], controller.inventory(hosts), "-vvvv", "--diff")
    assert run.one("copy").status == "failed"
    assert PASSWORD not in run.output
    assert run.one("copy")["msg"] == "This host has no virtual machine named '********'."


@pytest.mark.every_core
def test_a_peer_is_opened_with_its_own_connection(start_fleet: StartFleet, controller: Controller) -> None:
    other = Account("Administrator", "0ther-password", groups=frozenset({"Administrators"}), builtin_administrator=True)
    fleet = start_fleet(host("HV01", vm("web01")), host("HV02", vm("sql02"), accounts=(other,)))
    hosts = winrm(fleet)
    hosts["hv02"]["ansible_password"] = "{{ peer_password }}"
    hosts["hv02"]["peer_password"] = other.password
    plugins = {"ANSIBLE_ACTION_PLUGINS": str(Path(__file__).parent / "action_plugins")}
    task = {"name": "peers", "look_at_peer": {"peer": "hv02"}}
    run = controller.play([task], controller.inventory(hosts), "--limit", "hv01", environment=plugins)
    assert run.code == 0, run.output
    assert run.one("peers")["computers"] == ["HV01", "HV02"]
    unknown = controller.play([{"name": "peers", "look_at_peer": {"peer": "hv09"}}], controller.inventory(hosts), "--limit", "hv01",
                              environment=plugins)
    assert unknown.one("peers")["error_code"] == "peer_unknown"


@pytest.mark.every_core
def test_the_timeout_keyword_ends_a_task_that_hangs(start_fleet: StartFleet, controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("web01")))
    with fleet.locked():
        fleet.hosts["HV01"].host.rules.add(broken("stall"), times=None)
    run = controller.play([{**INFO, "timeout": 3}], controller.inventory(winrm(fleet)), seconds=60)
    found = run.one("facts")
    assert found.status == "failed"
    assert found["timedout"]["period"] == 3
