# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped playbooks, run as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ADMIN, host, vm, winrm
from controller import CHECKOUT, Controller
from simulator.cim.model import Account
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.hyperv.spec import CheckpointSpec, DiskSpec
from simulator.windows.spec import ShareSpec, VolumeSpec
from support.exported import export

BACKUP = CHECKOUT / "playbooks" / "backup.yml"
ROLE = "agentless.hyperv.backup"
COPY = f"{ROLE} : Copy the chosen virtual machines out of a shadow copy"
PROBE = CHECKOUT / "playbooks" / "probe.yml"


@pytest.mark.every_core
def test_backup_copies_what_the_inventory_names(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    evil = 'evil "{{ 1 + 1 }}"\x1b[31m\u202e & <x>\n%PATH%'
    fleet = start_fleet(
        host("HV01", vm("sql01", disks=(DiskSpec("D:\\VMs\\a.vhdx"),)), vm(evil, directory="e", disks=(DiskSpec("D:\\e\\e.vhdx"),))),
        host("HV02", vm("web02", disks=(DiskSpec("\\\\fs\\x\\a.vhdx"),)), vm("other")),
        host("HV03", vm("idle")),
    )
    hosts = winrm(fleet)
    hosts["hv01"]["backup_vms"] = [{"name": "*", "policy": "gold"}]
    hosts["hv02"]["backup_vms"] = ["web02"]
    inventory = controller.inventory(hosts, {"backup_destination": "E:\\Backup", "backup_policies": {"gold": {}}})
    run = controller.play(BACKUP, inventory)
    assert run.code == 2
    assert "\x1b[31m" not in run.output
    assert "\u202e" not in run.output
    copied = run.one(COPY, "hv01")
    arrived = evil.replace("\x1b", "?")  # control characters never survive the way (wire 2.5)
    assert {entry["vm"]["name"] for entry in copied["results"][0]["results"]} == {arrived, "sql01"}
    assert copied["changed"] is True
    failed = run.one(f"{ROLE} : Fail when a virtual machine was not protected", "hv02")
    assert (failed.status, "smb_storage" in failed["msg"]) == ("failed", True)
    again = controller.play(BACKUP, inventory, "--limit", "hv01", "--diff")
    assert again.code == 0, again.output
    assert again.one(COPY)["changed"] is False


def test_backup_in_check_mode_writes_nothing(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01")))
    inventory = controller.inventory(winrm(fleet), {"backup_destination": "E:\\Backup", "backup_vms": ["sql01"]})
    run = controller.play(BACKUP, inventory, "--check", "--diff")
    assert run.code == 0, run.output
    assert run.one(COPY)["changed"] is True
    with fleet.locked():
        assert fleet.hosts["HV01"].host.changes == 0


@pytest.mark.every_core
def test_probe_writes_one_document_a_host_on_the_controller(
    start_fleet: Callable[..., Fleet], controller: Controller, tmp_path: Path
) -> None:
    fleet = start_fleet(host("HV01", vm("sql01")), host("HV02", vm("web02")))
    run = controller.play(PROBE, controller.inventory(winrm(fleet)), "-e", f"probe_folder={tmp_path / 'probe'}")
    assert run.code == 0, run.output
    documents = [json.loads(path.read_text()) for path in (tmp_path / "probe").iterdir()]
    assert [document["format"] for document in documents] == [1, 1]
    assert "sql01" not in json.dumps(documents)
    with fleet.locked():
        assert [running.host.changes for running in fleet.hosts.values()] == [0, 0]


def examples(plugin: Path) -> list[dict[str, Any]]:
    text = plugin.read_text(encoding="utf-8")
    found: list[dict[str, Any]] = yaml.safe_load(text.split('EXAMPLES = r"""')[1].split('"""')[0])
    return found


TWO_HOSTS = ("hyperv_replica", "hyperv_replica_failover", "hyperv_replica_info")
"""Their examples need two hosts that replicate: test_replica."""
MODULES = sorted((path.stem for path in (CHECKOUT / "plugins" / "modules").glob("hyperv_*.py") if path.stem not in TWO_HOSTS),
                 key=lambda name: (name != "hyperv_vss_copy", name))
SITES = {module: f"HV{number:02}" for number, module in enumerate(MODULES, 1)}
"""Each module has a host of its own for its examples (those of hyperv_vss_copy name theirs: HV01). The inventory calls it by the module."""
BACKUP_ACCOUNT = Account("backup", "B4ckup-pw", groups=frozenset({"Administrators"}))
DRIVES = (VolumeSpec("C:"), VolumeSpec("E:"))
COMPUTERS = tuple(f"EXAMPLE\\{name}$" for name in SITES.values())
FILE_SERVERS = (
    FileServerSpec("backup01", "example.test", DRIVES, (ShareSpec("hyperv", "E:\\hyperv", COMPUTERS),)),
    FileServerSpec("nas01", None, DRIVES, (ShareSpec("backup", "E:\\backup", ("NAS01\\backup",)),), (BACKUP_ACCOUNT,)),
)
"""The shares that examples name: one knows the computer accounts of the domain, one an account that the hosts have, too."""


LONG = ["hyperv_export", "hyperv_restore"]
QUICK = [module for module in MODULES if module not in LONG]


@pytest.mark.parametrize(("modules", "speed"), [(LONG, 40.0), (QUICK[::2], 4.0), (QUICK[1::2], 4.0)], ids=["long", "one", "two"])
def test_the_examples_run(start_fleet: Callable[..., Fleet], controller: Controller, modules: list[str], speed: float) -> None:
    """A playbook with a play for each module; what breaks one does not stop the others."""
    taken = (CheckpointSpec("c", "before-patch"),)
    fleet = start_fleet(*(host(SITES[module], vm("sql01"), vm("web02", checkpoints=taken if module == "hyperv_checkpoint_revert" else ()),
                               domain="example.test", accounts=(ADMIN, BACKUP_ACCOUNT)) for module in modules),
                        file_servers=FILE_SERVERS, speed=speed)
    if "hyperv_restore" in modules:
        with fleet.locked():
            export(fleet.hosts[SITES["hyperv_restore"]].host, "sql01", "E:\\Backup")
    failure = {"msg": "{{ ansible_failed_task.name }}: {{ ansible_failed_result.msg | default('') }}"}
    playbook = controller.folder / "examples.yml"
    playbook.write_text(yaml.safe_dump([
        {"hosts": module, "gather_facts": False,
         "tasks": [{"block": examples(CHECKOUT / "plugins" / "modules" / f"{module}.py"),
                    "rescue": [{"name": "broken", "ansible.builtin.debug": failure}]}]}
        for module in modules]), encoding="utf-8")
    hosts = winrm(fleet, backup_password=BACKUP_ACCOUNT.password)
    run = controller.play(playbook, controller.inventory({module: hosts[SITES[module].lower()] for module in modules}), seconds=600)
    assert {module: broken["msg"] for module, broken in run.of("broken").items()} == {}, run.output
    assert run.code == 0, run.output
    assert {result.host for result in run.results} == set(modules)


def yaml_blocks(page: Path) -> list[Any]:
    """The examples of a page that are YAML."""
    return [yaml.safe_load(block.partition("```")[0]) for block in page.read_text(encoding="utf-8").split("```yaml\n")[1:]]


def tasks_of(page: Path) -> list[dict[str, Any]]:
    """The tasks among them."""
    return [entry for block in yaml_blocks(page) if isinstance(block, list) for entry in block if "hosts" not in entry]


@pytest.mark.parametrize("page", ["README.md", "docs/errors.md"])
def test_the_tasks_of_the_pages_run(start_fleet: Callable[..., Fleet], controller: Controller, page: str) -> None:
    tasks = tasks_of(CHECKOUT / page)
    assert tasks
    fleet = start_fleet(host("HV01", vm("sql01"), vm("web01")))
    run = controller.play(tasks, controller.inventory(winrm(fleet)))
    assert run.code == 0, run.output
    variables: dict[str, Any] = {}
    for block in (block for block in yaml_blocks(CHECKOUT / page) if isinstance(block, dict)):  # the inventory of a site, then its policies
        shown = block["hyperv"]["vars"] if "hyperv" in block else block
        variables |= {name: value for name, value in shown.items() if name.startswith("backup_")}
        run = controller.play(BACKUP, controller.inventory(winrm(fleet), variables))
        assert run.code == 0, run.output


def test_the_play_of_the_role_runs(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    page = CHECKOUT / "roles" / "backup" / "README.md"
    ((play,),) = [block for block in yaml_blocks(page) if isinstance(block, list)]
    fleet = start_fleet(host("HV01", vm("sql01"), vm("scratch7"), vm("web01")))
    playbook = controller.folder / "role.yml"
    playbook.write_text(yaml.safe_dump([play]), encoding="utf-8")
    run = controller.play(playbook, controller.inventory(winrm(fleet)))
    assert run.code == 0, run.output
    kept = run.one(f"{ROLE} : Keep what became of each virtual machine")["ansible_facts"]["backup_results"]
    assert {entry["vm"]["name"]: entry["policy"] for entry in kept} == {"sql01": "gold", "web01": "silver"}
    (report,) = [block for block in yaml_blocks(CHECKOUT / "roles" / "report" / "README.md") if isinstance(block, list)]
    playbook.write_text(yaml.safe_dump(report), encoding="utf-8")
    run = controller.play(playbook, controller.inventory(winrm(fleet)))
    assert run.code == 0, run.output
    told = json.loads((controller.folder / "report" / "report.json").read_text(encoding="ascii"))
    assert {vm["name"]: vm["status"] for vm in told["vms"]} == {"sql01": "ok", "web01": "ok", "scratch7": "left_out"}


COPIER = Account("copier", "C0pier-pw", groups=frozenset({"Administrators"}))


def test_the_variables_of_the_role_run(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    """The other examples of its page: a machine for each policy, one of them between the hooks, and the hours of the site."""
    page = CHECKOUT / "roles" / "backup" / "README.md"
    blocks = [block for block in yaml_blocks(page) if isinstance(block, dict)]
    shown = {name: value for block in blocks for name, value in block.items()}
    shown["backup_policies"] = {name: policy for block in blocks for name, policy in block.get("backup_policies", {}).items()}
    hours = {name: shown.pop(name) for name in ("backup_blackout", "backup_blackout_timezone")}
    (hook,) = shown["backup_hooks"]
    for name in ("before", "after"):
        hook[name] = str(controller.folder / Path(hook[name]).name)
        Path(hook[name]).write_text("- ansible.builtin.debug: {msg: '{{ backup_vm.name }}'}\n", encoding="utf-8")
    nas = FileServerSpec("nas01", None, DRIVES, (ShareSpec("hyperv", "E:\\hyperv", ("NAS01\\copier",)),), (COPIER,))
    fleet = start_fleet(host("HV01", vm("mysql01"), vm("web01"), vm("old01", state="off"), vm("app01"), accounts=(ADMIN, COPIER)),
                        file_servers=[nas])
    wanted = {"mysql01": "share", "web01": "clean", "old01": "last_resort", "app01": "before_patches"}
    assert {*wanted.values(), "far"} == set(shown["backup_policies"])  # which needs a replica: test_role_backup
    inventory = controller.inventory(winrm(fleet), {
        **shown, "vault_copier_password": COPIER.password, "backup_vms": [{"name": name, "policy": wanted[name]} for name in wanted]})
    moment = "'2026-11-04 08:00 +0100' | to_datetime('%Y-%m-%d %H:%M %z')"
    asked = f"(backup_blackout | agentless.hyperv.backup_blackout(now={moment}, timezone=backup_blackout_timezone)).active"
    run = controller.play([{"ansible.builtin.include_role": {"name": ROLE}},
                           {"name": "hours", "ansible.builtin.debug": {"msg": f"{{{{ {asked} }}}}"}, "vars": hours}], inventory)
    assert run.code == 0, run.output
    kept = [one for one in run.results if one.task == f"{ROLE} : Keep what became of each virtual machine"][-1]
    assert {entry["vm"]["name"]: (entry["policy"], entry["changed"]) for entry in kept["ansible_facts"]["backup_results"]} == {
        name: (policy, True) for name, policy in wanted.items()}
    assert [one["msg"] for one in run.results if one.result.get("msg") == "mysql01"] == ["mysql01"] * 2
    assert run.one("hours")["msg"] is True


FILTERS = sorted((CHECKOUT / "plugins" / "filter").glob("*.py"))


def test_the_examples_of_the_filters_run(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    """What an example takes as given is made before it: facts, a plan of them, and results of nothing."""
    read = {"agentless.hyperv.hyperv_vm_info": {"gather": ["state"]}, "register": "read"}
    found = [examples(path) for path in FILTERS]
    assert len(found) == len(FILTERS) >= 8
    fleet = start_fleet(host("HV01", vm("sql01"), domain="example.test"), file_servers=FILE_SERVERS)
    given: dict[str, Any] = {name: {"results": []} for name in ("copied", "backups", "drilled")}
    given |= {"facts": "{{ read }}", "plan": "{{ facts.vms | agentless.hyperv.backup_plan([]) }}"}
    run = controller.play([read, *(task for page in found for task in page)], controller.inventory(winrm(fleet), given))
    assert run.code == 0, run.output
    assert not any(one.status == "failed" for one in run.results)
    assert [one["name"] for one in run.one("Decide")["ansible_facts"]["backup_decided"]["tasks"][0]["vms"]] == ["sql01"]
