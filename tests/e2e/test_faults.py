# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults as a playbook sees them: what is healed in silence, what is *failed*, what is *unreachable*. One play, a host for each fault.

Every fault at every request is the business of the fault harness (``tests/support/fault_harness.py``).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import host, vm, winrm
from controller import CHECKOUT, Controller, Run, TaskResult
from simulator.fleet import Fleet
from simulator.host import SimHost
from simulator.hyperv.scenarios import many
from simulator.soap import rules
from simulator.spec import HostSpec, Limits
from simulator.windows.shadows import ShadowCopy

INFO, COPY = "agentless.hyperv.hyperv_vm_info", "agentless.hyperv.hyperv_vss_copy"
COPYING = ("GONE", "LOSTCREATE", "SETTLED", "COPY401")
TASKS: list[dict[str, Any]] = [
    {"name": "facts", INFO: {}, "when": "not copying", "ignore_errors": True, "ignore_unreachable": True,
     "timeout": "{{ seconds | default(0) }}"},
    {"when": "copying", "block": [{"name": "copy", COPY: {"name": "vm0000", "destination": "E:\\Backup", "run_id": "night-1"}}],
     "rescue": [{"name": "rescued", "ansible.builtin.debug": {"msg": "{{ ansible_failed_result.error_code }}"}}],
     "always": [{"name": "always", "ansible.builtin.debug": {"msg": "always"}}]},
]
MACHINES = 60
DENIED_IN_JAPANESE = replace(rules.access_denied(), locale="ja-JP")


def about(text: str) -> Callable[[rules.RequestView], bool]:
    """Requests that hold a text."""
    return lambda view: text in view.document


def vanish(simulated: SimHost) -> rules.Effect:
    def leave() -> None:
        simulated.hyperv.remove_vm(simulated.hyperv.find("vm0007").id)

    return rules.vanish(leave)


def disconnect_at_the_job(one: SimHost) -> None:
    """From the preparation of the copy's job on, nothing gets through."""
    gone = False

    def lost(view: rules.RequestView) -> bool:
        nonlocal gone
        gone = gone or "run.cmd" in view.document
        return gone

    one.rules.add(rules.lost_before(), times=None, when=lost)


def lose_the_answer_beside_another_product(one: SimHost) -> None:
    """Nobody can tell which of two new shadow copies is ours."""
    def once(_taken: ShadowCopy) -> None:
        one.shadows.on_taken.remove(once)
        one.shadows.add_foreign("D:\\", context="ClientAccessible")

    one.shadows.on_taken.append(once)
    one.rules.add(rules.lost_after(), operation="Invoke Win32_ShadowCopy.Create")


FAULTS: dict[str, Callable[[SimHost], object]] = {
    "QUOTA": lambda one: one.rules.add(rules.quota(), operation="Enumerate", nth=4),
    "SERVICE503": lambda one: one.rules.add(rules.http_status(503), nth=3),
    "SMALLENVELOPE": lambda one: None,
    "TINYENVELOPE": lambda one: None,
    "EXPIRES": lambda one: one.rules.add(rules.expire_contexts(), operation="Pull", nth=2),
    "EXPIRESALWAYS": lambda one: one.rules.add(rules.expire_contexts(), operation="Pull", times=None),
    "JAPANESE": lambda one: one.rules.add(DENIED_IN_JAPANESE, times=None, when=about("/Msvm_VirtualSystemManagementService")),
    "DENIED": lambda one: one.rules.add(rules.access_denied(), times=None, when=about("/Msvm_ComputerSystem")),
    "VANISHES": lambda one: one.rules.add(vanish(one), when=about("/Msvm_VirtualSystemSettingData")),
    "ENDLESS": lambda one: one.rules.add(rules.broken("endless"), nth=4),
    "SLOW": lambda one: one.rules.add(rules.broken("slow"), nth=4),
    "SILENT": lambda one: one.rules.add(rules.broken("stall"), nth=4, times=None),
    "LOSTCONTEXT": lambda one: one.rules.add(rules.unauthorized(), nth=6),
    "CUT": lambda one: one.rules.add(rules.lost_after(), nth=6),
    "DOWN": lambda one: one.rules.add(rules.lost_before(), nth=5, times=None),
    "PROXY": lambda one: one.rules.add(rules.garbage(status=502), times=None),
    "GONE": disconnect_at_the_job,
    "LOSTCREATE": lose_the_answer_beside_another_product,
    "SETTLED": lambda one: one.rules.add(rules.lost_after(), operation="Invoke Win32_ShadowCopy.Create"),
    "COPY401": lambda one: one.rules.add(rules.unauthorized(), operation="Shell Receive", nth=8),
}


def specs() -> list[HostSpec]:
    now = datetime.now(UTC)
    limits = {"SMALLENVELOPE": Limits(max_envelope_kb=60), "TINYENVELOPE": Limits(max_envelope_kb=5)}
    return [host(name, *([vm("vm0000"), vm("vm0001")] if name in COPYING else many(MACHINES)), start=now, limits=limits.get(name, Limits()))
            for name in FAULTS]


@dataclass(frozen=True)
class Played:
    """The one play."""

    run: Run
    fleet: Fleet

    def facts(self, name: str) -> TaskResult:
        return self.run.of("facts")[name.lower()]

    def copy(self, name: str) -> TaskResult:
        return self.run.of("copy")[name.lower()]

    def host(self, name: str) -> SimHost:
        return self.fleet.hosts[name].host


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with Fleet(specs(), tmp_path_factory.mktemp("fleet"), speed=1.0) as fleet:
        with fleet.locked():
            for name, arrange in FAULTS.items():
                arrange(fleet.hosts[name].host)
        hosts = winrm(fleet)
        for name in FAULTS:
            hosts[name.lower()]["copying"] = name in COPYING
        hosts["silent"].update(ansible_winrm_read_timeout_sec=3, ansible_winrm_operation_timeout_sec=2)
        hosts["slow"]["seconds"] = 5
        controller = Controller(tmp_path_factory.mktemp("controller"), CHECKOUT / ".build" / "path")
        yield Played(controller.play(TASKS, controller.inventory(hosts), "--forks", "20"), fleet)


HEALED = ["QUOTA", "SERVICE503", "SMALLENVELOPE", "EXPIRES", "LOSTCONTEXT", "CUT"]


@pytest.mark.parametrize("name", HEALED)
def test_what_can_be_asked_again_is_asked_again(played: Played, name: str) -> None:
    result = played.facts(name)
    assert result.status == "ok", result.result.get("msg")
    assert len(result["vms"]) == MACHINES
    assert (result["missing"], result["vanished"]) == ([], [])
    assert not result.result.get("warnings")


def test_a_lost_context_costs_one_new_connection_and_no_bad_log_on(played: Played) -> None:
    with played.fleet.locked():
        counted = played.host("LOSTCONTEXT").counters
        assert (counted.connections, counted.logon_failures) == (2, 0)


FAILED = [
    ("TINYENVELOPE", "ignored", "envelope_too_large"), ("EXPIRESALWAYS", "ignored", "enumeration_expired"),
    ("DENIED", "ignored", "access_denied"), ("JAPANESE", "ignored", "access_denied"),
    ("ENDLESS", "unreachable", "answer_too_large"), ("SILENT", "unreachable", None), ("DOWN", "unreachable", None),
    ("PROXY", "unreachable", "not_winrm"),
]


@pytest.mark.parametrize(("name", "status", "code"), FAILED, ids=[row[0] for row in FAILED])
def test_what_cannot_be_read_is_an_error_with_a_code_and_never_an_empty_host(played: Played, name: str, status: str,
                                                                             code: str | None) -> None:
    result = played.facts(name)
    assert result.status == status, result.result
    assert code in (None, result.result.get("error_code"))
    assert "vms" not in result.result
    assert result["msg"].isprintable()


def test_a_server_that_drips_is_ended_by_the_tasks_timeout(played: Played) -> None:
    assert played.facts("SLOW").status in ("failed", "ignored")
    assert "vms" not in played.facts("SLOW").result


def test_a_machine_that_leaves_between_two_requests_is_told(played: Played) -> None:
    result = played.facts("VANISHES")
    assert result.status == "ok"
    assert [machine["name"] for machine in result["vanished"]] == ["vm0007"]
    assert "vm0007" not in [machine["name"] for machine in result["vms"]]
    assert len(result["vms"]) == MACHINES - 1
    assert any(result["vanished"][0]["vm_id"] in warning for warning in result["warnings"])


def test_a_connection_lost_after_something_was_made_is_failed_so_that_a_rescue_can_run(played: Played) -> None:
    failed = played.copy("GONE")
    assert failed.status == "failed"
    with played.fleet.locked():
        (shadow,) = played.host("GONE").shadows.copies
    assert {item["kind"] for item in failed["leftovers"]} >= {"shadow_copy", "link", "intent"}
    assert {"kind": "shadow_copy", "id": shadow.shadow_id, "location": "this host",
            "remove_with": f"vssadmin delete shadows /shadow={shadow.shadow_id}"} in failed["leftovers"]
    assert played.run.of("rescued")["gone"]["msg"] == failed["error_code"]
    assert "gone" in played.run.of("always")


def test_an_unknown_outcome_reports_what_looks_suspect_and_deletes_nothing(played: Played) -> None:
    failed = played.copy("LOSTCREATE")
    assert (failed.status, failed["error_code"], failed["changed"]) == ("failed", "outcome_unknown", False)
    with played.fleet.locked():
        made = {shadow.shadow_id for shadow in played.host("LOSTCREATE").shadows.copies}
    assert len(made) == 2
    assert {item["kind"] for item in failed["leftovers"]} == {"suspect_shadow_copy", "intent"}
    assert {item["id"] for item in failed["leftovers"] if item["kind"] == "suspect_shadow_copy"} == made
    assert played.run.of("rescued")["lostcreate"]["msg"] == "outcome_unknown"


def test_a_lost_answer_is_settled_when_only_one_shadow_copy_can_be_meant(played: Played) -> None:
    result = played.copy("SETTLED")
    assert (result.status, result["changed"], result["leftovers"]) == ("ok", True, [])
    with played.fleet.locked():
        assert played.host("SETTLED").shadows.copies == []


def test_a_lost_context_in_the_middle_of_a_copy_is_healed(played: Played) -> None:
    result = played.copy("COPY401")
    assert (result.status, result["changed"], result["leftovers"]) == ("ok", True, [])
    assert "copy401" not in played.run.of("rescued")
    with played.fleet.locked():
        assert played.host("COPY401").shadows.copies == []
