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
from conftest import host, vm, winrm
from controller import CHECKOUT, Controller
from simulator.fleet import Fleet
from simulator.hyperv.spec import DiskSpec

BACKUP = CHECKOUT / "playbooks" / "backup.yml"
ROLE = "agentless.hyperv.backup"
COPY = f"{ROLE} : Copy the chosen virtual machines out of a shadow copy"
PROBE = CHECKOUT / "playbooks" / "probe.yml"


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


def examples(module: str) -> list[dict[str, Any]]:
    text = (CHECKOUT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = yaml.safe_load(text.split('EXAMPLES = r"""')[1].split('"""')[0])
    return found


@pytest.mark.parametrize("module", ["hyperv_vm_info", "hyperv_vss_copy", "hyperv_probe"])
def test_the_examples_run(start_fleet: Callable[..., Fleet], controller: Controller, module: str) -> None:
    fleet = start_fleet(host("HV01", vm("sql01"), vm("web02")))
    run = controller.play(examples(module), controller.inventory(winrm(fleet)))
    assert run.code == 0, run.output
