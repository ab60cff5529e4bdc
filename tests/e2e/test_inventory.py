# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin as ansible-inventory and ansible-playbook load it, against simulated hosts."""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ADMIN, PASSWORD, host, psrp, vm, winrm
from controller import BIN, CHECKOUT, Controller
from simulator.fleet import Fleet
from simulator.hyperv.spec import GuestSpec
from starter import starter

FATAL = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"}
PLUGIN = "agentless.hyperv.hyperv_vms"
HOSTILE = 'evil "{{ lookup(\'pipe\', \'touch owned\') }}"{% raw %}\u202e & <x>,~*[1:3]\n%PATH%'


@dataclass(frozen=True)
class Listed:
    """What ansible-inventory said."""

    data: dict[str, Any]
    errors: str

    def __getitem__(self, name: str) -> dict[str, Any]:
        variables: dict[str, Any] = self.data["_meta"]["hostvars"][name]
        return variables

    def group(self, name: str) -> set[str]:
        return set(self.data.get(name, {}).get("hosts", ()))

    @property
    def vms(self) -> set[str]:
        return self.group("hyperv_vms")


class Site:
    """A folder of inventory sources: the hosts, then the plugin's file."""

    def __init__(self, controller: Controller, hosts: Mapping[str, Any], variables: Mapping[str, Any] | None = None, /,
                 **options: Any) -> None:
        self.controller = controller
        self.folder = controller.folder / "site"
        self.folder.mkdir(exist_ok=True)
        children = {"hyperv": {"hosts": dict(hosts), "vars": dict(variables or {})}}
        self.write("10_hosts.yml", {"all": {"children": children}})
        self.write("20_hyperv_vms.yml", {"plugin": PLUGIN, **options})

    def write(self, name: str, data: Mapping[str, Any]) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(dict(data), allow_unicode=True), encoding="utf-8")
        return path

    def list(self, *arguments: str, code: int = 0, environment: Mapping[str, str] | None = None) -> Listed:
        done = starter().run([str(BIN / "ansible-inventory"), "-i", str(self.folder), "--list", *arguments],
                             env=self.controller.environment(self.folder / "record", {**FATAL, **(environment or {})}),
                             cwd=self.controller.folder, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        return Listed(json.loads(done.stdout, object_hook=_plain) if code == 0 else {}, done.stderr)


def _plain(data: dict[str, Any]) -> Any:
    """How ansible-inventory writes a text that must not be rendered."""
    return data["__ansible_unsafe"] if set(data) == {"__ansible_unsafe"} else data


def requests(fleet: Fleet) -> dict[str, int]:
    with fleet.locked():
        return {name: running.host.counters.snapshot().requests for name, running in fleet.hosts.items()}


@pytest.mark.every_core
def test_machines_are_hosts_in_groups(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(
        host("HV01", vm("sql01"), vm("web01", guest=GuestSpec.linux()), vm("scratch1", state="off"),
             vm("dc01", state="off", replication_mode=2, guest=None)),
        host("HV02", vm("other"), vm("web01", directory="w")))
    site = Site(controller, {**winrm(fleet), "hv02": psrp(fleet)["hv02"]}, {
        "backup_policies": {"gold": {"run_as_password": "{{ undefined_here }}"}}, "backup_default_policy": "gold",
        "backup_vms": [{"name": "scratch*", "policy": "none"}, "*{{ '01' }}"]})
    listed = site.list()
    web = {name for name in listed.vms if name.startswith("web01_")}
    assert listed.vms == {"sql01", "scratch1", "other"} | web
    assert {name: name.partition("_")[2] for name in web} == {name: listed[name]["hyperv_vm_id"][:8] for name in web}
    assert {listed[name]["hyperv_host"] for name in web} == {"hv01", "hv02"}
    assert listed.group("hyperv_replicas") == {"dc01_replica"}
    assert listed["dc01_replica"]["hyperv_replication_mode"] == "replica"
    assert (listed.group("hyperv_state_running"), listed.group("hyperv_state_off")) == ({"sql01", "other"} | web, {"scratch1"})
    assert listed.group("hyperv_os_linux") == {name for name in web if listed[name]["hyperv_host"] == "hv01"}
    assert listed.group("hyperv_on_hv02") == {name for name in web if listed[name]["hyperv_host"] == "hv02"} | {"other"}
    assert listed.group("hyperv_policy_gold") == listed.group("hyperv_protected") == {"sql01"} | web
    assert (listed.group("hyperv_unprotected"), listed.group("hyperv_left_out")) == ({"other"}, {"scratch1"})
    sql = listed["sql01"]
    assert {key: sql[key] for key in ("hyperv_vm_name", "hyperv_state", "hyperv_generation", "hyperv_policy", "hyperv_protection")} == {
        "hyperv_vm_name": "sql01", "hyperv_state": "running", "hyperv_generation": 2, "hyperv_policy": "gold",
        "hyperv_protection": "protected"}
    assert sql["hyperv_vm"]["integration"]["guest"]["family"] == sql["hyperv_os"] == "windows"
    assert "ansible_password" not in sql


@pytest.mark.every_core
def test_a_hostile_name_is_text_and_nothing_else(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    names = (HOSTILE, "localhost", "hv01", "hyperv", "all", "サーバー")
    fleet = start_fleet(host("HV01", *(vm(name, directory=str(number)) for number, name in enumerate(names))))
    site = Site(controller, winrm(fleet), compose={"copied": "hyperv_vm_name"}, keyed_groups=[{"key": "hyperv_vm_name", "prefix": "n"}],
                groups={"seen": "hyperv_vm_name is defined"}, strict=True)
    listed = site.list()
    by_name = {listed[name]["hyperv_vm_name"]: name for name in listed.vms}
    assert set(by_name) == set(names)
    assert {name: by_name[name].rpartition("_")[0] for name in ("localhost", "hv01", "hyperv", "all")} == {
        name: name for name in ("localhost", "hv01", "hyperv", "all")}
    assert by_name["サーバー"] == "サーバー"
    assert by_name[HOSTILE] == "evil_lookup_pipe_touch_owned_raw_x_1_3_PATH"
    assert listed.group("hyperv") == {"hv01"}
    show = {"ansible.builtin.debug": {"msg": "{{ [hyperv_vm_name, copied, hyperv_vm.name] }}"}}
    run = controller.play([show], site.folder, "-c", "local", keywords={"hosts": by_name[HOSTILE]})
    assert run.code == 0, run.output
    assert run.one()["msg"] == [HOSTILE] * 3
    assert not list(controller.folder.rglob("owned"))


def test_one_host_without_an_answer_hides_no_other_and_shows_no_password(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01")))
    hosts = {**winrm(fleet), "gone": {**winrm(fleet)["hv01"], "ansible_port": 1}, "local": {"ansible_connection": "local"}}
    site = Site(controller, hosts)
    listed = site.list()
    assert listed.vms == {"sql01"}
    told = " ".join(listed.errors.split())
    assert "gone gave no answer (unreachable)" in told
    assert "local gave no answer (connection_not_supported)" in told
    assert PASSWORD[:6] not in listed.errors
    site.write("20_hyperv_vms.yml", {"plugin": PLUGIN, "unreachable": "fail", "hosts": "hyperv:!local"})
    assert "gone gave no answer" in " ".join(site.list(code=1).errors.split())


def test_a_refused_account_of_a_domain_is_tried_on_one_host(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(*(host(f"HV0{number}", vm(f"sql0{number}")) for number in range(1, 4)))
    hosts = winrm(fleet, ansible_user="EXAMPLE\\wrong", ansible_password="not it")
    hosts["hv03"] = winrm(fleet)["hv03"]
    listed = Site(controller, hosts).list()
    assert listed.vms == {"sql03"}
    told = " ".join(listed.errors.split())
    assert "hv02 gave no answer (wrong_credentials): It was not asked, since its account was refused by hv01" in told
    assert requests(fleet)["HV02"] == 0


@pytest.mark.every_core
def test_servers_of_its_own_and_variables_beside_the_inventory(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01")))
    (values,) = winrm(fleet).values()
    values |= {"ansible_user": "{{ site_user }}", "ansible_password": "{{ lookup('env', 'HYPERV_PASSWORD') }}"}
    values.pop("ansible_connection")
    site = Site(controller, {}, servers=["127.0.0.1"], servers_group="apart", connection=values)
    site.write("group_vars/apart.yml", {"site_user": ADMIN.name})
    listed = site.list(environment={"HYPERV_PASSWORD": PASSWORD})
    assert listed.vms == {"sql01"}
    look = {"agentless.hyperv.hyperv_vm_info": {"vm_id": "{{ hyperv_vm_id }}", "gather": ["state"]}, "delegate_to": "{{ hyperv_host }}"}
    run = controller.play([look], site.folder, keywords={"hosts": "hyperv_vms"}, environment={"HYPERV_PASSWORD": PASSWORD})
    assert run.code == 0, run.output
    assert run.one()["vm"]["name"] == "sql01"


def test_the_cache_spares_the_hosts_that_answered(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01", notes=HOSTILE)), host("HV02", vm("web01")))
    hosts = winrm(fleet)
    good = hosts["hv02"]["ansible_port"]
    hosts["hv02"]["ansible_port"] = 1
    options = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(controller.folder / "cache")}
    site = Site(controller, hosts, **options)
    first = site.list()
    before = requests(fleet)
    assert (first.vms, before["HV02"]) == ({"sql01"}, 0)
    hosts["hv02"]["ansible_port"] = good
    second = Site(controller, hosts, **options).list()
    assert second.vms == {"sql01", "web01"}
    assert second["sql01"] == first["sql01"]
    assert requests(fleet)["HV01"] == before["HV01"]
    assert requests(fleet)["HV02"] > 0


def test_the_examples_are_read(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01"), vm("web01")))
    text = (CHECKOUT / "plugins" / "inventory" / "hyperv_vms.py").read_text(encoding="utf-8")
    examples = list(yaml.safe_load_all(text.split('EXAMPLES = r"""')[1].split('"""')[0]))
    assert len(examples) == 3
    for example in examples:
        changes: dict[str, Any] = {}
        if "servers" in example:
            connection = {**example["connection"], "ansible_port": fleet.hosts["HV01"].port, "ansible_winrm_scheme": "http"}
            changes = {"servers": ["127.0.0.1"], "connection": connection}
        if "cache_connection" in example:
            changes["cache_connection"] = str(controller.folder / "cache")
        site = Site(controller, {} if "servers" in example else winrm(fleet), **{**example, **changes})
        listed = site.list(environment={"HYPERV_USER": ADMIN.name, "HYPERV_PASSWORD": PASSWORD})
        assert listed.vms == {"sql01", "web01"}
    assert (listed.group("databases"), listed.group("generation_2")) == ({"sql01"}, {"sql01", "web01"})


@pytest.mark.parametrize("problem", [{"backup_vms": [{"nam": "x"}]}, {"backup_vms": ["{{ nothing_here }}"]}])
def test_policies_that_mean_nothing_are_told(start_fleet: Callable[..., Fleet], controller: Controller, problem: dict[str, Any]) -> None:
    listed = Site(controller, winrm(start_fleet(host("HV01", vm("sql01")))), problem).list()
    assert listed.vms == {"sql01"}
    assert listed["sql01"]["hyperv_protection"] is None
    assert "hv01: the policies are not known" in " ".join(listed.errors.split())


def test_the_play_of_the_page_runs(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    page = (CHECKOUT / "docs" / "inventory.md").read_text(encoding="utf-8")
    (block,) = [block.partition("```")[0] for block in page.split("```yaml\n")[1:]]
    fleet = start_fleet(host("HV01", vm("sql01"), vm("off01", state="off"), vm("lin01", guest=GuestSpec.linux())))
    site = Site(controller, winrm(fleet))
    playbook = controller.folder / "page.yml"
    playbook.write_text(block, encoding="utf-8")
    run = controller.play(playbook, site.folder)
    assert run.code == 0, run.output
    assert [(result.host, result["checkpoint"]["name"]) for result in run.results] == [("sql01", "before-patch-day")]
