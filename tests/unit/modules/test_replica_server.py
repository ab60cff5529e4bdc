# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hyperv_replica_server against simulated hosts: what it makes of one, and what it refuses."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_replica_server
from simulator.hyperv.spec import AuthorizationSpec, HyperVSettings, ReplicaServerSpec, VmSpec
from simulator.windows.certificates import CertificateSpec
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
HTTP, HTTPS = "VIRT-HVRHTTPL-In-TCP-NoScope", "VIRT-HVRHTTPSL-In-TCP-NoScope"
DRIVES = (VolumeSpec("C:"), VolumeSpec("D:"))
ANY = {"primary": "*.example.test", "storage": "D:\\Replica"}
KERBEROS = {"authentication": "kerberos", "authorization": [ANY]}


def begin(start: Start, *, domain: str | None = "example.test", **spec: Any) -> Any:
    return start(**{"volumes": DRIVES, "domain": domain, "os_version": "2022", **spec})


def server(runner: Any) -> Any:
    return runner.running.host.hyperv.replica.server


def changes(runner: Any) -> int:
    with runner.fleet.locked():
        count: int = runner.running.host.changes
    return count


def refused(runner: Any, **params: Any) -> HypervError:
    with pytest.raises(HypervError) as raised:
        runner.run(hyperv_replica_server, **params)
    return raised.value


def thumbprint(runner: Any, key: str = "host") -> str:
    found: str = runner.running.host.certificates.by_key(key).thumbprint
    return found


def test_a_fresh_host_becomes_a_server_and_a_second_run_writes_nothing(start: Start) -> None:
    runner = begin(start)
    assert runner.run(hyperv_replica_server, check=True, **KERBEROS)["changed"] is True
    assert changes(runner) == 0
    done = runner.run(hyperv_replica_server, **KERBEROS)
    assert done["server"]["listening"] is True
    assert done["firewall"] == [{"port": 80, "rule": HTTP}]
    assert (server(runner).settings.enabled, server(runner).settings.authentication, list(server(runner).entries)) == (
        True, 1, ["*.example.test"])
    assert runner.running.host.firewall.get(HTTP).enabled is True
    assert runner.running.host.firewall.get(HTTPS).enabled is False
    before = changes(runner)
    again = runner.run(hyperv_replica_server, **KERBEROS)
    assert (again["changed"], again["server"], changes(runner)) == (False, done["server"], before)


def test_one_field_is_one_change(start: Start) -> None:
    runner = begin(start)
    runner.run(hyperv_replica_server, **KERBEROS)
    done = runner.run(hyperv_replica_server, monitoring_start="18:30")
    assert done["diff"]["before"] == {"monitoring_start": "09:00"}
    assert [step["action"] for step in done["diff"]["after"]["steps"]] == ["modify_settings"]
    assert (server(runner).settings.monitoring_start.seconds, server(runner).settings.authentication) == (18 * 3600 + 1800, 1)


def test_an_idempotent_run_with_both_listeners_costs_eight_requests(start: Start) -> None:
    runner = begin(start, certificates=(CertificateSpec(),))
    params = {**KERBEROS, "authentication": "both", "certificate_thumbprint": thumbprint(runner)}
    assert runner.run(hyperv_replica_server, **params)["certificate"]["names"] == ["hv01.example.test"]
    with runner.fleet.locked():
        before = runner.running.host.counters.snapshot()
    runner.run(hyperv_replica_server, **params)
    with runner.fleet.locked():
        used = dict(runner.running.host.counters.since(before).by_operation)
    used.pop("Pull", None)
    assert sum(used.values()) == 8


def test_a_workgroup_host_uses_its_certificate(start: Start) -> None:
    runner = begin(start, domain=None, certificates=(CertificateSpec(),))
    assert refused(runner, **KERBEROS).error_code == "kerberos_needs_domain"
    shown = " ".join(thumbprint(runner)[at:at + 2].lower() for at in range(0, 40, 2))  # as the viewer of Windows shows it
    done = runner.run(hyperv_replica_server, authentication="certificate", certificate_thumbprint=shown)
    assert (done["server"]["listening"], done["server"]["authentication"]) == (True, "certificate")
    assert runner.run(hyperv_replica_server, authentication="certificate", certificate_thumbprint=shown)["changed"] is False


@pytest.mark.parametrize(("spec", "reason"), [
    (CertificateSpec(until_days=-1.0), "expired"), (CertificateSpec(from_days=3.0), "not valid before"),
    (CertificateSpec(purposes=("server",)), "client authentication"), (CertificateSpec(subject="other.example.test"), "the host is"),
])
def test_a_certificate_that_is_not_fit_is_refused_before_anything_is_written(start: Start, spec: CertificateSpec, reason: str) -> None:
    runner = begin(start, certificates=(spec,))
    error = refused(runner, authentication="certificate", certificate_thumbprint=thumbprint(runner))
    assert (error.error_code, reason in error.message, changes(runner)) == ("certificate_unfit", True, 0)


def test_a_certificate_that_is_not_offered_is_refused(start: Start) -> None:
    runner = begin(start, certificates=(CertificateSpec(),))
    error = refused(runner, authentication="certificate", certificate_thumbprint="AB" * 20)
    assert (error.error_code, changes(runner)) == ("certificate_not_offered", 0)
    assert refused(runner, authentication="certificate").error_code == "certificate_missing"


def test_a_certificate_that_only_the_listener_can_judge_fails_the_task(start: Start) -> None:
    runner = begin(start, certificates=(CertificateSpec(authority="Unknown CA"),))
    runner.running.host.hyperv.replica.knobs.refuses_bad_certificate = False
    params = {"authentication": "certificate", "certificate_thumbprint": thumbprint(runner)}
    assert refused(runner, **params).error_code == "listener_not_running"
    assert refused(runner, **params).error_code == "listener_not_running"  # nothing to change, and still not well


def test_a_port_that_another_program_has_is_told(start: Start) -> None:
    runner = begin(start, hyperv=HyperVSettings(replica=ReplicaServerSpec(ports_taken=(80,))))
    error = refused(runner, **KERBEROS)
    assert (error.error_code, "80" in error.message) == ("listener_not_running", True)


def test_entries_are_changed_in_place_and_purged_only_when_asked_to(start: Start) -> None:
    there = ReplicaServerSpec(enabled=True, authentication=1, authorizations=(
        AuthorizationSpec("hv09.example.test"), AuthorizationSpec("*.example.test", "D:\\Old", "x")))
    runner = begin(start, hyperv=HyperVSettings(replica=there), firewall_rules=(HTTP,))
    assert runner.run(hyperv_replica_server, authorization=[ANY])["changed"] is True
    assert server(runner).entries["*.example.test"].storage == "D:\\Replica"
    assert sorted(server(runner).entries) == ["*.example.test", "hv09.example.test"]
    purged = runner.run(hyperv_replica_server, authorization=[ANY], authorization_purge=True)
    assert [entry["primary"] for entry in purged["authorization"]] == ["*.example.test"]
    runner.run(hyperv_replica_server, authorization=[{"primary": "*.example.test", "state": "absent"}])
    assert server(runner).entries == {}


def test_a_server_that_keeps_replicas_is_not_switched_off_by_chance(start: Start) -> None:
    there = ReplicaServerSpec(enabled=True, authentication=1)
    runner = begin(start, hyperv=HyperVSettings(replica=there), vms=(VmSpec("sql01", replication_mode=2, state="off"),))
    error = refused(runner, state="absent")
    assert (error.error_code, error.details) == ("replicas_present", {"replicas": ["sql01"]})
    assert runner.run(hyperv_replica_server, state="absent", accept_stopped_replicas=True)["server"]["enabled"] is False
    assert runner.run(hyperv_replica_server, state="absent", accept_stopped_replicas=True)["changed"] is False


def test_another_port_gets_a_rule_of_ours_and_loses_it(start: Start) -> None:
    runner = begin(start)
    name = "agentless.hyperv replica listener TCP 8080"
    runner.run(hyperv_replica_server, **KERBEROS, http_port=8080)
    assert [rule.ports for rule in runner.running.host.firewall.named(name)] == [((8080, 8080),)]
    assert runner.run(hyperv_replica_server, **KERBEROS, http_port=8080)["changed"] is False
    runner.run(hyperv_replica_server, http_port=80)
    assert runner.running.host.firewall.named(name) == []
    assert runner.running.host.firewall.get(HTTP).enabled is True


def test_an_account_without_rights_is_told_so(start: Start) -> None:
    runner = begin(start)
    with pytest.raises(HypervError) as raised:
        runner.run(hyperv_replica_server, user="nobody", **KERBEROS)
    assert raised.value.error_code in ("access_denied", "no_replication_service")


def test_a_firewall_of_somebody_else_is_left_alone(start: Start) -> None:
    runner = begin(start)
    done = runner.run(hyperv_replica_server, **KERBEROS, firewall=False)
    assert (done["firewall"], runner.running.host.firewall.get(HTTP).enabled) == ([], False)
    assert replace(server(runner).settings, enabled=False) != server(runner).settings
