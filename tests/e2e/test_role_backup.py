# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role ``backup``: several policies, refusals before anything is begun, one failure beside successes, results for later plays."""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ADMIN, host, vm, winrm
from controller import CHECKOUT, Controller, Run
from simulator.cim.model import Account
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, RelationSpec
from simulator.spec import Quirks
from simulator.windows.shadows import ShadowCopy
from simulator.windows.spec import ShareSpec, VolumeSpec

ROLE = "agentless.hyperv.backup"
SHOW = {"name": "results", "ansible.builtin.debug": {"var": "backup_results"}, "when": "backup_results is defined"}
POLICIES = {
    "gold": {"destination": "E:\\Gold", "keep": {"daily": 7}, "max_age": "1d", "verify": "sha256"},
    "silver": {"destination": "E:\\Silver"},
    "broken": {"destination": "Q:\\Here"},
    "later": {"method": "backup", "consistency": "application", "destination": "\\\\backup01\\hyperv"},
    "before": {"method": "checkpoint", "checkpoint_name": "before", "expires_after": "3d"},
    "far": {"method": "replica"},
}
REPLICATED = {"replication_mode": 1, "relations": (RelationSpec(),)}
ONE = {"backup_destination": "E:\\Backup", "backup_vms": ["sql01"]}
SWEPT, SHOWN = "Sweep what interrupted runs of ours left", "Show what interrupted runs left"
HOSTILE = 'evil "{{ 1 + 1 }}"{% raw %}\u202e & <x>%PATH%'


def play(controller: Controller, fleet: Fleet, variables: Mapping[str, Any], *arguments: str) -> Run:
    """The role, then its results; they are shown even when it failed."""
    inventory = controller.inventory(winrm(fleet), {"backup_policies": POLICIES, **variables})
    block = {"block": [{"ansible.builtin.include_role": {"name": ROLE}}], "always": [SHOW]}
    return controller.play([block], inventory, *arguments)


def results(run: Run, name: str = "hv01") -> dict[str, dict[str, Any]]:
    """The entries by the name of their VM."""
    entries = run.of("results")[name]["backup_results"]
    return {entry["vm"]["name"]: entry for entry in entries}


def task(run: Run, name: str, where: str = "hv01") -> Any:
    return run.one(f"{ROLE} : {name}", where)


def changes(fleet: Fleet) -> list[int]:
    with fleet.locked():
        return [running.host.changes for running in fleet.hosts.values()]


@pytest.mark.every_core
def test_each_machine_by_the_first_policy_that_matches(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01"), vm("SQL02"), vm("web01"), vm("scratch1"), vm("other"), vm(HOSTILE, directory="e"),
                             vm("app"), vm("app2"), vm("away", **REPLICATED)))
    wanted = {"backup_set_stats": True, "backup_vms": [
        {"name": "app*", "policy": "before"}, {"name": "away", "policy": "far"},
        {"name": "scratch*", "policy": "none"}, {"name": "sql0?", "policy": "gold"}, {"name": "*1", "policy": "silver"},
        {"name": "evil*", "policy": "silver"}]}
    predicted = play(controller, fleet, wanted, "--check", "--diff")
    assert predicted.code == 0, predicted.output
    due = {"sql01", "SQL02", "web01", HOSTILE, "app", "app2"}
    assert {name: entry["changed"] for name, entry in results(predicted).items()} == {**dict.fromkeys(due, True), "away": False}
    assert changes(fleet) == [0]

    run = play(controller, fleet, wanted)
    assert run.code == 0, run.output
    told = results(run)
    assert {name: (entry["policy"], entry["changed"], entry["failed"]) for name, entry in told.items()} == {
        "sql01": ("gold", True, False), "SQL02": ("gold", True, False), "web01": ("silver", True, False), HOSTILE: ("silver", True, False),
        "app": ("before", True, False), "app2": ("before", True, False), "away": ("far", False, False)}
    assert told["sql01"]["folder"].startswith("E:\\Gold\\HV01\\sql01_")
    assert told["web01"]["consistency"]["achieved"] == "crash"
    shown = task(run, "Show what became of each virtual machine")["msg"]
    assert "other: not protected, no entry of backup_vms matches it" in shown
    assert not [line for line in shown if "scratch1" in line]
    assert "app [before]: checkpoint made (application), which is no backup: before" in shown
    assert [line for line in shown if line.startswith("away [far]: replicating, ") and line.endswith(" s behind")]
    assert (told["app"]["folder"], told["app"]["checkpoint"]["name"], told["away"]["replica"]["health"]) == (None, "before", "ok")
    assert "\u202e" not in run.output.partition("TASK [results]")[0]
    assert len(task(run, "Keep it for the job that follows")["ansible_stats"]["data"]["backup_results_by_host"]["hv01"]) == 7

    again = play(controller, fleet, wanted)
    assert again.code == 0, again.output
    assert [entry["changed"] for entry in results(again).values()] == [False] * 7
    for key in ("folder", "checkpoint"):
        assert {name: entry[key] for name, entry in results(again).items()} == {name: entry[key] for name, entry in told.items()}


def test_a_failure_stops_neither_other_machines_nor_other_policies_nor_other_hosts(
        start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    old = CheckpointSpec("c", "before")
    fleet = start_fleet(host("HV01", vm("a1"), vm("a2", disks=(DiskSpec("\\\\fs\\x\\a.vhdx"),)), vm("b1"), vm("c1"), vm("d1"),
                             vm("e1"), vm("e2", checkpoints=(old,)), vm("f1", **REPLICATED), vm("f2")), host("NOTHING", vm("sql01")))
    hosts = winrm(fleet)
    hosts["nothing"]["backup_vms"] = []
    inventory = controller.inventory(hosts, {"backup_policies": POLICIES, "backup_vms": [
        {"name": "f*", "policy": "far"}, {"name": "e*", "policy": "before"},
        {"name": "b*", "policy": "broken"}, {"name": "c*", "policy": "later"}, {"name": "a*", "policy": "gold"},
        {"name": "d1", "policy": "silver"}, {"name": "gone", "policy": "silver"}]})
    run = controller.play([{"block": [{"ansible.builtin.include_role": {"name": ROLE}}], "always": [SHOW]}], inventory)
    assert run.code == 2
    assert results(run, "nothing") == {}
    assert [found["name"] for found in task(run, "Read the facts of every virtual machine", "nothing")["vms"]] == ["sql01"]
    told = results(run)
    assert {name: (entry["policy"], entry["changed"], entry["error_code"]) for name, entry in told.items()} == {
        "a1": ("gold", True, None), "a2": ("gold", False, "smb_storage"), "b1": ("broken", False, told["b1"]["error_code"]),
        "c1": ("later", False, "method_not_available"), "d1": ("silver", True, None), "gone": ("silver", False, "vm_not_found"),
        "e1": ("before", True, None), "e2": ("before", False, "checkpoint_name_taken"), "f1": ("far", False, None),
        "f2": ("far", False, "not_replicated")}
    assert (told["b1"]["failed"], told["b1"]["error_code"]) == (True, "destination_not_local")
    assert told["c1"]["msg"] == "The method backup of the policy later is not available yet."
    failed = task(run, "Fail when a virtual machine was not protected")
    assert failed.status == "failed"
    assert failed["msg"].startswith("6 of 10 virtual machines were not protected: ")
    assert '"a2" (smb_storage, policy gold)' in failed["msg"]


def test_a_host_that_went_away_after_the_facts_has_a_report(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01"), vm("web01")))
    hosts = winrm(fleet)
    port = hosts["hv01"]["ansible_port"]
    hosts["hv01"]["ansible_port"] = f"{{{{ 1 if (__backup_task | default({{}})).policy | default('') == 'silver' else {port} }}}}"
    inventory = controller.inventory(hosts, {"backup_policies": POLICIES, "backup_vms": [
        {"name": "sql01", "policy": "gold"}, {"name": "web01", "policy": "silver"}]})
    run = controller.play([{"block": [{"ansible.builtin.include_role": {"name": ROLE}}], "always": [SHOW]}], inventory)
    assert run.code == 2
    told = results(run)
    assert {name: (entry["changed"], entry["failed"], entry["error_code"]) for name, entry in told.items()} == {
        "sql01": (True, False, None), "web01": (False, True, "unreachable")}
    assert '"web01" (unreachable, policy silver)' in task(run, "Fail when a virtual machine was not protected")["msg"]


# -- as whom, and where to -----------------------------------------------------------------------------------------------

NAS = FileServerSpec("NAS", None, (VolumeSpec("C:"), VolumeSpec("E:")), (ShareSpec("backup", "E:\\backup", ("NAS\\copier",)),),
                     (Account("copier", "C0pier-Pässwörd", groups=frozenset({"Administrators"})),))
COPIER = Account("copier", "C0pier-Pässwörd", groups=frozenset({"Administrators"}))
"""The host and the file server know the same account: how a workgroup reaches a share (wire 7.3)."""


def shown_or_kept(run: Run, secret: str) -> list[str]:
    """Every line of the output and every result that holds a text, or its beginning, which no encoding changes."""
    beginning = secret[:next(number for number, char in enumerate(secret) if not char.isascii())]
    assert len(beginning) > 6
    found = [line for line in run.output.splitlines() if beginning in line]
    return found + [result.task for result in run.results if beginning in json.dumps(result.result)]


def test_the_password_of_an_account_is_neither_shown_nor_kept(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01"), vm("web01"), vm("old01"), accounts=(ADMIN, COPIER)), file_servers=[NAS])
    account = {"destination": "\\\\NAS\\backup", "run_as": "account", "run_as_user": "copier"}
    wanted = {
        "backup_run_as": "account", "backup_run_as_user": "copier", "backup_run_as_password": COPIER.password, "backup_set_stats": True,
        "backup_policies": {"own": {**account, "run_as_password": COPIER.password}, 7: account,
                            "wrong": {**account, "run_as_password": "Wr0ng-Pässwörd"}},
        "backup_vms": [{"name": "sql01", "policy": "own"}, {"name": "web01", "policy": 7}, {"name": "old01", "policy": "wrong"}]}
    run = play(controller, fleet, wanted, "-vvvv", "--diff")
    told = results(run)
    assert {name: (entry["policy"], entry["changed"]) for name, entry in told.items()} == {
        "sql01": ("own", True), "web01": ("7", True), "old01": ("wrong", False)}, run.output
    assert told["old01"]["error_code"] == "task_logon_failed"
    assert told["sql01"]["folder"].startswith("\\\\NAS\\backup\\HV01\\sql01_")
    assert task(run, SWEPT)["found"] == []
    assert (shown_or_kept(run, COPIER.password), shown_or_kept(run, "Wr0ng-Pässwörd")) == ([], [])
    assert [line for line in run.output.splitlines() if "copier" in line] != [], "at this verbosity the options are shown"


def test_a_live_copy_is_inconsistent_and_says_so(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("web01"), vm("sql01"), os_version="2012R2"))
    live = {"method": "live_copy", "destination": "E:\\Live", "accept_inconsistent": True}
    with fleet.locked():
        fleet.hosts["HV01"].host.files.locked_live_disks = False
    run = play(controller, fleet, {"backup_policies": {"live": live, "gold": POLICIES["gold"]}, "backup_verify": "sha256", "backup_vms": [
        {"name": "web01", "policy": "live"}, {"name": "sql01", "policy": "gold"}]})
    assert run.code == 0, run.output
    assert {name: (entry["method"], entry["consistency"]["achieved"]) for name, entry in results(run).items()} == {
        "web01": ("live_copy", "inconsistent"), "sql01": ("vss_copy", "crash")}
    assert "web01 [live]: copied (inconsistent): E:\\Live\\HV01\\web01_" in " ".join(
        task(run, "Show what became of each virtual machine")["msg"])
    del live["accept_inconsistent"]
    refused = play(controller, fleet, {"backup_policies": {"live": live}, "backup_vms": []})
    assert "the policy must say accept_inconsistent: true itself" in task(refused, "Refuse policies and entries that mean nothing")["msg"]


# -- what an interrupted run left --------------------------------------------------------------------------------------


INTENTS = "C:\\ProgramData\\agentless.hyperv\\intents"


def make(fleet: Fleet, controller: Controller) -> None:
    """A shadow copy of D: on each host, a day ago; its intent says that it is to stay."""
    task = {"agentless.hyperv.hyperv_shadow_copy": {"volume": "D:\\", "run_id": "yesterday"}}
    assert controller.play([task], controller.inventory(winrm(fleet))).code == 0
    with fleet.locked():
        fleet.clock.advance(24 * 3600)


def forget(fleet: Fleet, name: str) -> ShadowCopy:
    """Nobody deletes the shadow copy of a host that was made for a copy: its intent does not say that it is to stay."""
    with fleet.locked():
        simulated = fleet.hosts[name].host
        (intent,) = simulated.files.children(simulated.files.resolve(INTENTS))
        path = f"{INTENTS}\\{intent.parts[-1]}"
        simulated.files.write_file(path, simulated.files.read_file(path).replace(b'"keep": true', b'"keep": false'))
        (found,) = [copy for copy in simulated.shadows.copies if not copy.foreign]
    return found


def shadows(fleet: Fleet, name: str) -> tuple[int, int]:
    """How many of ours, and of others."""
    with fleet.locked():
        copies = fleet.hosts[name].host.shadows.copies
        return sum(not copy.foreign for copy in copies), sum(copy.foreign for copy in copies)


def test_the_next_run_sweeps_what_an_interrupted_one_left_and_nothing_else(
        start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01"), foreign_shadow_copies=("D:\\",)), host("KEPT", vm("sql01")), host("STUCK", vm("sql01")))
    make(fleet, controller)
    left, stuck = forget(fleet, "HV01"), forget(fleet, "STUCK")
    stuck.locked = True
    kept = play(controller, fleet, {**ONE, "backup_sweep": False}, "--limit", "hv01")
    assert (kept.code, results(kept)["sql01"]["changed"], shadows(fleet, "HV01")) == (0, True, (1, 1)), kept.output
    assert f"shadow_copy {left.shadow_id}: left there, backup_sweep is false" in task(kept, SHOWN)["msg"]
    predicted = play(controller, fleet, ONE, "--limit", "hv01", "--check")
    assert (predicted.code, shadows(fleet, "HV01")) == (0, (1, 1))
    assert f"shadow_copy {left.shadow_id}: would be removed" in task(predicted, SHOWN)["msg"]

    run = play(controller, fleet, ONE)
    assert (run.code, task(run, SWEPT)["changed"], results(run)["sql01"]["changed"], shadows(fleet, "HV01")) == (
        0, True, False, (0, 1)), run.output
    assert f"shadow_copy {left.shadow_id}: removed" in task(run, SHOWN)["msg"]
    assert (task(run, SWEPT, "kept")["changed"], shadows(fleet, "KEPT")) == (False, (1, 0)), "somebody made it to stay"
    assert (results(run, "stuck")["sql01"]["changed"], shadows(fleet, "STUCK")) == (True, (1, 0)), "the copies go on"
    told = task(run, SHOWN, "stuck")["msg"]
    assert f"WARNING: shadow_copy {stuck.shadow_id} could not be removed: vssadmin delete shadows /shadow={stuck.shadow_id}" in " ".join(
        told)
    assert not [line for line in told if "nothing was swept" in line]
    again = play(controller, fleet, ONE, "--limit", "hv01")
    assert (again.code, task(again, SWEPT)["changed"], task(again, SHOWN).status) == (0, False, "skipped")


def test_a_sweep_that_finds_nothing_asks_no_more_than_an_audit(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    names = ("HV01", "HV02")
    fleet = start_fleet(*(host(name, vm("sql01"), foreign_shadow_copies=("D:\\",), quirks=Quirks(split_batches=False)) for name in names))
    first = play(controller, fleet, ONE)
    assert (first.code, task(first, SHOWN).status) == (0, "skipped"), first.output
    with fleet.locked():
        before = {name: fleet.hosts[name].host.counters.snapshot() for name in names}
    look = {"name": "look", "agentless.hyperv.hyperv_cleanup": {"remove": "{{ inventory_hostname == 'hv02' }}"}}
    run = controller.play([look], controller.inventory(winrm(fleet)))
    assert [result["found"] for result in run.of("look").values()] == [[], []]
    with fleet.locked():
        spent = [fleet.hosts[name].host.counters.since(before[name]) for name in names]
    assert spent[0].requests == spent[1].requests
    assert [counters.writing for counters in spent] == [0, 0]


def test_a_name_of_another_host_is_its_affair(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01")), host("HV02", vm("web01")), host("HV03"))
    run = play(controller, fleet, {"backup_destination": "E:\\Backup", "backup_vms": ["sql01", "web01"]})
    assert run.code == 0, run.output
    assert {name: list(results(run, name)) for name in ("hv01", "hv02", "hv03")} == {"hv01": ["sql01"], "hv02": ["web01"], "hv03": []}
    assert results(run, "hv02")["web01"]["policy"] == "default"


WRONG_PLANS: dict[str, dict[str, Any]] = {
    "The policy bronze is not in backup_policies.": {"backup_vms": [{"name": "sql01", "policy": "bronze"}]},
    "The policy default has no destination": {"backup_vms": ["sql01"]},
    "The policy typo is not in backup_policies.": {"backup_vms": ["sql01"], "backup_default_policy": "typo"},
    "nmae is not known": {"backup_vms": [{"nmae": "sql01", "policy": "gold"}]},
    "destinatoin": {"backup_policies": {"x": {"destinatoin": "E:\\x"}}},
    "'soon' is not an age": {"backup_vms": "sql01", "backup_destination": "E:\\Backup", "backup_max_age": "soon"},
    "run_as is account, and run_as_password is not set.": {**ONE, "backup_run_as": "account", "backup_run_as_user": "copier"},
}
WRONG_OPTIONS: dict[str, dict[str, Any]] = {
    "value of backup_consistency must be one of: application, crash, image, got: perfect": {"backup_consistency": "perfect"},
    "fortnightly": {"backup_keep": {"fortnightly": 2}},
    "backup_policies": {"backup_policies": ["gold"]},
    "backup_timeout": {"backup_timeout": "long"},
}


@pytest.mark.every_core
def test_nothing_is_begun_with_a_wrong_plan_or_option(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01")))
    wrong = {**WRONG_PLANS, **WRONG_OPTIONS}
    names = {says: f"host{number}" for number, says in enumerate(wrong)}
    hosts = {names[says]: {**winrm(fleet)["hv01"], **variables} for says, variables in wrong.items()}
    inventory = controller.inventory(hosts, {"backup_policies": POLICIES})
    run = controller.play([{"ansible.builtin.include_role": {"name": ROLE}}], inventory, "--forks", "10")
    assert run.code == 2
    failed = {result.host: result for result in run.results if result.status == "failed"}
    assert len(failed) == len([result for result in run.results if result.status == "failed"]) == len(wrong), run.output
    for says in WRONG_PLANS:
        assert failed[names[says]].task == f"{ROLE} : Refuse policies and entries that mean nothing"
        assert says in failed[names[says]]["msg"]
    for says in WRONG_OPTIONS:
        assert says in " ".join(failed[names[says]]["argument_errors"])
    with fleet.locked():
        assert fleet.hosts["HV01"].host.counters.requests == 0


def test_hooks_and_a_prune_from_another_host(start_fleet: Callable[..., Fleet], controller: Controller, tmp_path: Path) -> None:
    """With the policy and the task of the page about a target that hosts cannot empty; here one host is both."""
    blocks = (CHECKOUT / "docs" / "append-only-target.md").read_text(encoding="utf-8").split("```yaml\n")[1:]
    shown, (prune,) = (yaml.safe_load(block.partition("```")[0]) for block in blocks)
    policy = shown["backup_policies"]["silver"]
    policy["destination"] = policy["prune_destination"]
    fleet = start_fleet(host("HV01", vm("db01"), vm("db02"), vm("web01")))
    for name, lines in (("before", "- ansible.builtin.fail: {msg: no}\n  when: backup_vm.name == 'db02'\n"), ("after", "")):
        touch = f"- ansible.builtin.copy: {{content: x, dest: '{tmp_path}/{name}-{{{{ backup_vm.name }}}}', mode: '0600'}}\n"
        local = "  delegate_to: localhost\n  vars: {ansible_connection: local}\n"
        (tmp_path / f"{name}.yml").write_text(f"---\n{touch}{local}{lines}")
    variables = {
        "backup_vms": [{"name": "db01", "policy": "before"}, "*"], "backup_default_policy": "silver", "backup_max_age": "",
        "backup_verify": "chain", "backup_policies": {"before": POLICIES["before"], **shown["backup_policies"]},
        "backup_hooks": [{"name": "db*", "before": f"{tmp_path}/before.yml", "after": f"{tmp_path}/after.yml"}]}
    hosts = winrm(fleet)
    inventory = controller.inventory({**hosts, policy["prune_from"]: hosts["hv01"]}, variables)
    for _unused in range(2):
        block = {"block": [{"ansible.builtin.include_role": {"name": ROLE}}], "always": [SHOW, prune]}
        run = controller.play([block], inventory, "--limit", "hv01")
        told = results(run)
        assert {name: (entry["method"], entry["failed"], entry["error_code"]) for name, entry in told.items()} == {
            "db01": ("checkpoint", False, None), "web01": ("export", False, None), "db02": ("export", True, "hook_failed")}
    assert sorted(path.name for path in tmp_path.glob("*-db*")) == ["after-db01", "after-db02", "before-db01", "before-db02"]
    with fleet.locked():
        exports = fleet.hosts["HV01"].host.files.real_path("E:\\hyperv")
    assert len(list(exports.rglob("manifest.json"))) == 1  # of two runs
    assert run.one(prune["name"])["changed"] is False
