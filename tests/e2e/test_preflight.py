# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``playbooks/preflight.yml``: good hosts among half broken, hostile, refused and dead ones; one table, and nothing was changed."""
from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from conftest import ADMIN, host, vm, winrm
from controller import CHECKOUT, Controller
from simulator.cim.model import Account
from simulator.fleet import Fleet
from simulator.soap import rules

PREFLIGHT = CHECKOUT / "playbooks" / "preflight.yml"
SHOW, FAIL = "Show what is missing", "Fail when something is missing"
OPERATOR = Account("operator", ADMIN.password, groups=frozenset({"Remote Management Users", "Hyper-V Administrators"}))
EVIL = 'evil "{{ 1 + 1 }}"{% raw %}\u202e & <x>'


@pytest.mark.every_core
def test_one_table_for_all_hosts(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    names = ["GOOD", "STOPPED", "EVIL", "REFUSED", "LOCKED", "DEAD"]
    fleet = start_fleet(*(host(name, *([vm(EVIL, directory="e"), vm(EVIL, directory="f")] if name == "EVIL" else [vm("sql01")]),
                               start=datetime.now(UTC), domain="example.test", accounts=(ADMIN, OPERATOR)) for name in names))
    with fleet.locked():
        fleet.hosts["STOPPED"].host.services["schedule"].state = "Stopped"
        fleet.hosts["LOCKED"].host.rules.add(rules.unauthorized(), times=None)
    hosts = winrm(fleet)
    hosts["refused"]["ansible_user"] = "operator"
    hosts["dead"]["ansible_port"] = 1
    inventory = controller.inventory(hosts, {
        "backup_destination": "E:\\Backup",
        "backup_policies": {"share": {"destination": "\\\\backup01\\hyperv"}, "same": {"destination": "E:\\Backup"},
                            "nas": {"destination": "\\\\nas01\\hyperv", "run_as": "account", "run_as_user": "NAS01\\copier",
                                    "run_as_password": "{{ 'C0pier' ~ '-pw' }}"}}})
    run = controller.play(PREFLIGHT, inventory)
    assert run.code == 2
    failed = {name: result["msg"] for name, result in run.of(FAIL).items() if result.status == "failed"}
    assert failed == {
        "stopped": "Missing on this host: service_stopped.",
        "refused": "Missing on this host: rights_system, rights_vss, rights_tasks, volumes.",
        "locked": "This host could not be asked.", "dead": "This host could not be asked."}
    assert "C0pier-pw" not in run.output
    knocking = [check["message"] for check in run.of("Look at the host")["good"]["checks"] if check["code"] == "destination_identity"]
    assert sorted(knocking) == ["It is reached as NAS01\\copier.", "It is reached as the computer account GOOD$ of example.test."]
    lines = run.one(SHOW)["msg"]
    assert "\u202e" not in "".join(lines)
    table = [line.split(None, 3) for line in lines[1:] if not line.startswith(" ")]
    by_host = {name: {row[2] for row in table if row[0] == name and "READY" not in row[1]} for name in hosts}
    assert {"state_folder", "destination_rights"} <= by_host["good"]
    assert by_host["stopped"] - by_host["good"] == {"service_stopped"}
    assert by_host["evil"] - by_host["good"] == {"vm_names"}
    assert by_host["dead"] == {"unreachable"}
    assert by_host["locked"] == {"context_lost"}
    assert [row[1] for row in table if row[0] in ("good", "evil")].count("READY") == 2
    assert [row[1] for row in table].count("NOTREADY") == 2
    with fleet.locked():
        assert [running.host.changes for running in fleet.hosts.values()] == [0] * len(names)


def test_the_test_by_writing_is_asked_for(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01"), start=datetime.now(UTC)))
    inventory = controller.inventory(winrm(fleet), {"preflight_write_test": True, "preflight_show_ok": True})
    run = controller.play(PREFLIGHT, inventory)
    assert run.code == 0, run.output
    assert [line.split()[1] for line in run.one(SHOW)["msg"] if " state_folder " in line] == ["OK"]
