# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_shadow_copy`` and ``hyperv_shadow_copy_info`` from playbooks."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conftest import NOBODY, host, vm, winrm
from controller import Controller
from simulator.fleet import Fleet

StartFleet = Callable[..., Fleet]
MAKE: dict[str, Any] = {"name": "make", "agentless.hyperv.hyperv_shadow_copy": {"volume": "D:\\", "max_age": "1h"}, "register": "made"}
LIST: dict[str, Any] = {"name": "list", "agentless.hyperv.hyperv_shadow_copy_info": {}}
DELETE: dict[str, Any] = {"name": "delete", "agentless.hyperv.hyperv_shadow_copy": {"state": "absent", "id": "{{ made.shadow_copy.id }}"}}


def test_made_once_listed_as_ours_and_deleted(start_fleet: StartFleet, controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01"), foreign_shadow_copies=("D:\\", "E:\\")), host("HV02", vm("web02")))
    inventory = controller.inventory(winrm(fleet))
    again = {**MAKE, "name": "make again", "register": "again"}
    run = controller.play([MAKE, again, LIST, DELETE, {**DELETE, "name": "delete again"}], inventory)
    assert run.code == 0, run.output
    for name in ("hv01", "hv02"):
        assert [run.one(task, name)["changed"] for task in ("make", "make again", "delete", "delete again")] == [True, False, True, False]
        assert run.one("make", name)["shadow_copy"]["id"] == run.one("make again", name)["shadow_copy"]["id"]
    assert run.one("list", "hv01")["counts"] == {"ours": 1, "suspect": 0, "foreign": 2}
    assert run.one("list", "hv02")["counts"] == {"ours": 1, "suspect": 0, "foreign": 0}
    with fleet.locked():
        assert [copy.foreign for copy in fleet.hosts["HV01"].host.shadows.copies] == [True, True]
        assert fleet.hosts["HV02"].host.shadows.copies == []


def test_check_mode_and_diff_of_a_foreign_one(start_fleet: StartFleet, controller: Controller) -> None:
    fleet = start_fleet(host("HV01", foreign_shadow_copies=("D:\\",)))
    with fleet.locked():
        (foreign,) = fleet.hosts["HV01"].host.shadows.copies
    tasks = [MAKE, {"name": "delete", "agentless.hyperv.hyperv_shadow_copy": {"state": "absent", "id": foreign.shadow_id}}]
    run = controller.play(tasks, controller.inventory(winrm(fleet)), "--check", "--diff")
    assert run.code == 0, run.output
    assert [run.one(task)["changed"] for task in ("make", "delete")] == [True, True]
    assert run.one("delete")["diff"]["before"]["shadow_copy"]["owner"] == "foreign"
    assert '"owner": "foreign"' in run.output
    with fleet.locked():
        assert (fleet.hosts["HV01"].host.changes, fleet.hosts["HV01"].host.shadows.copies) == (0, [foreign])


def test_arguments_are_validated_before_anything_is_sent(start_fleet: StartFleet, controller: Controller) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "volume": {}, "id": {"state": "absent"}, "mutually exclusive": {"state": "absent", "id": "{A}", "volume": "D:"},
        "must be one of": {"state": "gone", "id": "{A}"}}
    fleet = start_fleet(host("HV01"))
    run = controller.play([{"name": message, "agentless.hyperv.hyperv_shadow_copy": arguments, "ignore_errors": True}
                           for message, arguments in wrong.items()], controller.inventory(winrm(fleet)))
    for message in wrong:
        assert run.one(message).status == "ignored"
        assert message in run.one(message)["msg"]
    assert fleet.hosts["HV01"].host.counters.requests == 0


def test_an_account_without_rights_never_sees_a_host_without_shadow_copies(start_fleet: StartFleet, controller: Controller) -> None:
    fleet = start_fleet(host("HV01", foreign_shadow_copies=("D:\\",)))
    run = controller.play([LIST], controller.inventory(winrm(fleet, ansible_user=NOBODY.name, ansible_password=NOBODY.password)))
    assert (run.one("list").status, run.one("list")["error_code"]) == ("failed", "access_denied")
