# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role replica, the examples of its modules and the tasks of its page, between two simulated hosts that replicate."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import host, vm, winrm
from controller import CHECKOUT, Controller, commands
from simulator.fleet import Fleet
from simulator.hyperv.spec import AuthorizationSpec, DiskSpec, HyperVSettings, ReplicaServerSpec, VmSpec
from simulator.spec import HostSpec

StartFleet = Callable[..., Fleet]
ROLE = "agentless.hyperv.replica"
READY = ReplicaServerSpec(enabled=True, authentication=1, authorizations=(AuthorizationSpec("*.example.test", "D:\\Replica"),))
OPEN = ("VIRT-HVRHTTPL-In-TCP-NoScope",)
FAST = 60.0


def small(name: str) -> VmSpec:
    return vm(name, disks=(DiskSpec(f"D:\\VMs\\{name}.vhdx", size=4 * 1024**2),))


def site(name: str, *vms: VmSpec, **changes: Any) -> HostSpec:
    return host(name, *vms, domain="example.test", os_version="2022", **changes)


@pytest.mark.every_core
def test_the_role_replicates_a_fleet_and_leaves_a_failover_as_it_is(start_fleet: StartFleet, controller: Controller) -> None:
    """With the variables and the commands of its page."""
    page = CHECKOUT / "roles" / "replica" / "README.md"
    (variables,) = yaml.safe_load_all(page.read_text(encoding="utf-8").split("```yaml\n")[1].partition("```")[0])
    checking, doing = commands(page)
    domain = {"domain": "example.com", "os_version": "2022"}
    fleet = start_fleet(host("HV01", small("sql01"), **domain), host("HV02", small("web01"), **domain), speed=FAST)
    one, two = "hv01.example.com", "hv02.example.com"
    inventory = controller.inventory(dict(zip((one, two), winrm(fleet).values(), strict=True)), {**variables, "replica_cycles": 1000})
    playbook = CHECKOUT / "playbooks" / "replica.yml"
    before = controller.play(playbook, inventory, *checking)
    with fleet.locked():
        assert [running.host.changes for running in fleet.hosts.values()] == [0, 0], before.output
    run = controller.play(playbook, inventory, *doing)
    assert run.code == 0, run.output
    reports = run.of(f"{ROLE} : Look how the replication stands")
    assert {name: found["summary"]["relations"] for name, found in reports.items()} == {one: 2, two: 2}
    turn = {"agentless.hyperv.hyperv_replica_failover": {"action": "planned", "name": "sql01", "peer": one, "shutdown": "turn_off"}}
    assert controller.play([turn], inventory, "--limit", two).code == 0
    after = controller.play(playbook, inventory)
    assert (after.code, {one.status for one in after.results} & {"changed", "failed"}) == (0, set()), after.output
    kept = after.of(f"{ROLE} : Keep what became of each virtual machine")[two]["ansible_facts"]["replica_results"]
    assert {(entry["vm"]["name"], entry["changed"]) for entry in kept} == {("sql01", False), ("web01", False)}


def tasks_of(text: str, opening: str, ending: str) -> list[dict[str, Any]]:
    return [task for block in text.split(opening)[1:] for task in yaml.safe_load(block.partition(ending)[0])]


def pages() -> dict[str, list[dict[str, Any]]]:
    modules = CHECKOUT / "plugins" / "modules"
    found = {path.stem: tasks_of(path.read_text(encoding="utf-8"), 'EXAMPLES = r"""', '"""')
             for path in sorted(modules.glob("hyperv_replica*.py")) if path.stem != "hyperv_replica_server"}
    return {**found, "docs/replica.md": tasks_of(Path(CHECKOUT / "docs" / "replica.md").read_text(encoding="utf-8"), "```yaml\n", "```")}


@pytest.mark.parametrize("page", pages())
def test_the_tasks_of_the_pages_run(start_fleet: StartFleet, controller: Controller, page: str) -> None:
    ready = {"hyperv": HyperVSettings(replica=READY), "firewall_rules": OPEN}
    fleet = start_fleet(site("HV01", small("sql01"), small("web02"), **ready), site("HV02", small("db01"), **ready), speed=FAST)
    inventory = controller.inventory(winrm(fleet))
    if page == "hyperv_replica_failover":
        given = {"agentless.hyperv.hyperv_replica": {"name": "db01", "server": "hv01.example.test", "frequency": 30}}
        assert controller.play([given], inventory, "--limit", "hv02").code == 0
    run = controller.play(pages()[page], inventory, "--limit", "hv01")
    assert run.code == 0, run.output
