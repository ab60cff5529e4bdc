# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role and playbook ``report``, after a real backup of a fleet with everything that a report must tell of."""
from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from conftest import host, vm, winrm
from controller import CHECKOUT, Controller
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, RelationSpec
from simulator.windows.spec import ShareSpec, VolumeSpec

BACKUP, REPORT = (CHECKOUT / "playbooks" / f"{name}.yml" for name in ("backup", "report"))
ROLE = "agentless.hyperv.report"
WRITE = f"{ROLE} : Write the report"
KEEP = "agentless.hyperv.backup : Keep it for the job that follows"
HOSTILE = '=evil"{{ 1 + 1 }}"{% raw %}</td><script>alert(1)</script>\u202e\n%PATH%'
DRIVES = (VolumeSpec("C:"), VolumeSpec("E:"))
SERVERS = (FileServerSpec("backup01", "example.test", DRIVES, (ShareSpec("hyperv", "E:\\hyperv", ("EXAMPLE\\HV01$", "EXAMPLE\\HV02$")),)),)
VARIABLES: dict[str, Any] = {
    "backup_policies": {"gold": {"destination": "E:\\Backup", "keep": {"last": 2}, "rpo": "4h"},
                        "far": {"destination": "\\\\backup01\\hyperv"}, "nowhere": {"destination": "Q:\\Gone"},
                        "before": {"method": "checkpoint", "checkpoint_name": "before", "expires_after": "3d"},
                        "away": {"method": "replica"}},
    "backup_vms": [{"name": "app01", "policy": "before"}, {"name": "away*", "policy": "away"},
                   {"name": "scratch*", "policy": "none"}, {"name": "lost*", "policy": "nowhere"}, {"name": "sql*", "policy": "gold"},
                   {"name": "web*", "policy": "far"}, {"name": "*evil*", "policy": "gold"}, {"name": "sql-gone", "policy": "gold"}],
}


@pytest.fixture()
def site(start_fleet: Callable[..., Fleet], controller: Controller) -> tuple[Fleet, dict[str, Any]]:
    old = CheckpointSpec("c", "before the patch", age_hours=200.0)
    fleet = start_fleet(
        host("HV01", vm("sql01"), vm("scratch1"), vm("forgotten"), vm(HOSTILE, directory="evil"), vm("lost1"), vm("app01"),
             vm("away01", replication_mode=1, relations=(RelationSpec(),)), vm("away02"), domain="example.test"),
        host("HV02", vm("web01", checkpoints=(old,)), vm("web02", disks=(DiskSpec("\\\\fs\\x\\a.vhdx"),)),
             vm("sql01", directory="r", state="off", replication_mode=2, guest=None, relations=(RelationSpec(),)), domain="example.test"),
        file_servers=SERVERS)
    hosts = {**winrm(fleet), "gone": {**winrm(fleet)["hv01"], "ansible_port": 1}}
    return fleet, hosts


def document(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="ascii"))
    jsonschema.validate(data, json.loads((CHECKOUT / "docs" / "report.schema.json").read_text(encoding="utf-8")))
    return data


@pytest.mark.every_core
def test_a_fleet_in_the_morning(site: tuple[Fleet, dict[str, Any]], controller: Controller) -> None:
    fleet, hosts = site
    inventory = controller.inventory(hosts, VARIABLES)
    night = controller.play(BACKUP, inventory, "--limit", "hv01,hv02", "-e", "backup_set_stats=true")
    assert {entry["vm"]["name"] for entry in night.one(KEEP, "hv02")["ansible_stats"]["data"]["backup_results_by_host"]["hv02"]} == {
        "web01", "web02", "sql-gone"}  # and not the replica of sql01
    handed = controller.folder / "handed.json"  # what a job of AWX gets of the one before, as extra variables
    handed.write_text(json.dumps(night.one(KEEP, "hv02")["ansible_stats"]["data"]), encoding="utf-8")
    folder = controller.folder / "report"
    options = {"report_folder": str(folder), "report_store": "\\\\backup01\\hyperv", "report_keep": {"daily": 7},
               "report_drill_interval": "90d", "report_drill_destinations": ["E:\\Backup", "\\\\backup01\\hyperv"],
               "report_test_interval": "90d"}
    run = controller.play(REPORT, inventory, "-e", f"@{handed}", "-e", json.dumps(options))
    assert run.code == 0, run.output
    assert "\u202e" not in run.output
    data = document(folder)
    told = {(vm["host"], vm["name"]): vm for vm in data["vms"]}
    assert {key: vm["status"] for key, vm in told.items()} == {
        ("hv01", "forgotten"): "unprotected", ("hv01", "lost1"): "unknown", ("hv01", "sql01"): "ok", ("hv01", HOSTILE): "ok",
        ("hv01", "app01"): "no_copy", ("hv01", "away01"): "ok", ("hv01", "away02"): "no_copy",
        ("hv01", "scratch1"): "left_out", ("hv02", "web01"): "attention", ("hv02", "web02"): "no_copy", ("hv02", "sql01"): "attention"}
    assert [vm["name"] for vm in data["vms"]][:4] == ["forgotten", "app01", "away02", "web02"]
    assert (told["hv01", "app01"]["checkpoints"], told["hv01", "app01"]["last_copy"], told["hv01", "app01"]["rpo"]) == (1, None, None)
    assert told["hv01", "app01"]["problems"][0]["text"].startswith("Its policy makes checkpoints only.")
    assert told["hv01", "away01"]["replica"]["health"] == "ok"
    sql = told["hv01", "sql01"]
    assert (sql["policy"], sql["rpo"], sql["good_copies"], sql["next_prune"]) == ("gold", 4 * 3600, 1, [])
    assert sql["last_copy"]["consistency"] == {"requested": "crash", "achieved": "crash"}
    assert [problem["code"] for problem in told["hv02", "web01"]["problems"]] == ["checkpoint_old"]
    assert [problem["code"] for problem in told["hv02", "web02"]["problems"]] == ["no_copy", "failed"]
    assert (data["entries_without_vm"], data["good"]) == (["sql-gone"], False)
    assert [problem["code"] for problem in told["hv02", "sql01"]["problems"]] == ["replica_test_overdue"]
    assert [one["findings"] for one in data["hosts"]] == [[], [], []]
    assert [(one["name"], one["error_code"]) for one in data["hosts"] if not one["answered"]] == [("gone", "unreachable")]
    assert sum(day["copies"] for day in data["days"]) == 3

    page = (folder / "report.html").read_text(encoding="ascii")
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in page
    rows = list(csv.DictReader(io.StringIO((folder / "report.csv").read_text(encoding="utf-8"), newline="")))
    assert next(row["vm"] for row in rows if "evil" in row["vm"]) == f"'{HOSTILE}"
    suites = ElementTree.parse(folder / "report.junit.xml").getroot()
    assert {suite.get("name"): (suite.get("failures"), suite.get("errors")) for suite in suites} == {
        "gone": ("0", "1"), "hv01": ("3", "1"), "hv02": ("1", "0")}
    assert 'agentless_hyperv_host_up{host="gone"} 0\n' in (folder / "report.prom").read_text(encoding="utf-8")

    result = run.one(WRITE)
    stored = result["stored"]
    assert result["pruned"] == []
    assert stored.startswith("\\\\backup01\\hyperv\\_reports\\")
    with fleet.locked():
        files = fleet.file_servers["backup01"].files
        for name in ("report.html", "report.json"):
            kept = files.real_path(f"E:\\hyperv\\_reports\\{stored.rpartition(chr(92))[2]}\\{name}").read_text(encoding="ascii")
            assert kept.splitlines() == (folder / name).read_text(encoding="ascii").splitlines()

    failing = controller.play(REPORT, inventory, "-e", f"report_folder={folder}", "-e", "report_fail=true", "--check")
    assert failing.code == 2
    assert "unprotected 1" in failing.one(f"{ROLE} : Fail when anything has to be done")["msg"]


def test_check_mode_writes_nothing(site: tuple[Fleet, dict[str, Any]], controller: Controller) -> None:
    fleet, hosts = site
    folder = controller.folder / "report"
    run = controller.play(REPORT, controller.inventory(hosts, VARIABLES), "--check", "--diff", "-e", f"report_folder={folder}")
    assert run.code == 0, run.output
    assert run.one(WRITE)["changed"] is True
    assert not folder.exists()
    with fleet.locked():
        assert [running.host.changes for running in fleet.hosts.values()] == [0, 0]
