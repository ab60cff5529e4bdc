# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role restore_drill, run as a user runs it: on a host that never saw the machines, from a share, and the page of its README."""
from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from conftest import ADMIN, PASSWORD, host, vm, winrm
from controller import BIN, CHECKOUT, Controller
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.hyperv.spec import DiskSpec
from simulator.windows.spec import ShareSpec, VolumeSpec
from support.exported import export, walk

StartFleet = Callable[..., Fleet]
PLAYBOOK = CHECKOUT / "playbooks" / "restore_drill.yml"
ROLE = "agentless.hyperv.restore_drill"
FAST = 40.0
MIB = 1024 * 1024
SHARE = "\\\\backup01\\hyperv"
SERVER = FileServerSpec("backup01", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")),
                        (ShareSpec("hyperv", "E:\\hyperv", ("EXAMPLE\\HV01$", "EXAMPLE\\HV02$")),))


def small(name: str, **changes: Any) -> Any:
    return vm(name, **{"disks": (DiskSpec(f"D:\\VMs\\{changes.pop('file', name)}.vhdx", size=4 * MIB),), "memory_mb": 32, **changes})


def traces(fleet: Fleet, name: str) -> list[str]:
    """What of ours is on a host."""
    with fleet.locked():
        one = fleet.hosts[name].host
        found = [f"{part} {path}" for part in ("intents", "jobs", "leases")
                 for path in walk(one, f"C:\\ProgramData\\agentless.hyperv\\{part}")]
        found += [machine.name for machine in (*one.hyperv.machines.values(), *one.hyperv.planned.values()) if "drill" in machine.name]
        return found + (list(walk(one, "D:\\Drill")) if one.files.exists("D:\\Drill") else [])


@pytest.mark.every_core
def test_drills_on_a_host_that_never_saw_the_machines(start_fleet: StartFleet, controller: Controller, tmp_path: Path) -> None:
    evil = 'evil <script>{{ 1 + 1 }}\u202e"'
    fleet = start_fleet(
        host("HV01", small("sql01"), small(evil, directory="e", file="e"), small("tpm01", tpm=True), domain="example.test"),
        host("HV02", domain="example.test"), file_servers=(SERVER,), speed=FAST)
    with fleet.locked():
        first = fleet.hosts["HV01"].host
        for name in ("sql01", evil, "tpm01"):
            export(first, name, SHARE)
        (sql,) = (machine for machine in first.hyperv.machines.values() if machine.name == "sql01")
        for place in (f"{SHARE}\\restore_drills", f"{SHARE}\\restore_drills\\sql01_{sql.id[:8]}"):
            first.files.create_directory(place)
        first.files.write_file(f"{place}\\20200101T000000Z_older.json", b"{}")
    hosts = winrm(fleet)
    report = tmp_path / "report"
    # what would fall to a host that is gone is drilled, too
    inventory = controller.inventory({"gone": {**hosts["hv02"], "ansible_port": 1}, "hv02": hosts["hv02"]}, {
        "restore_drill_destination": SHARE, "restore_drill_location": "D:\\Drill", "restore_drill_report": str(report),
        "restore_drill_count": 0, "restore_drill_heartbeat_timeout": 300, "restore_drill_keep": {"last": 1}})
    run = controller.play(PLAYBOOK, inventory)
    assert run.code == 4, run.output
    assert "\u202e" not in run.output
    kept = run.one(f"{ROLE} : Keep what the drills came to")["ansible_facts"]["restore_drill_evidence"]
    assert kept["counts"] == {"passed": 2, "failed": 0, "refused": 1}
    assert {one["vm_name"]: one["error_code"] for one in kept["drills"]} == {"sql01": None, evil: None, "tpm01": "needs_guardian"}
    assert traces(fleet, "HV02") == []
    written = {path.suffix: path for path in report.iterdir()}
    assert sorted(written) == [".html", ".json", ".xml"]
    assert len(json.loads(written[".json"].read_text())["drills"]) == 3
    assert ElementTree.parse(written[".xml"]).getroot().get("failures") == "0"
    page = written[".html"].read_text()
    assert ("<script" in page, "{{" in page, "&lt;script&gt;" in page) == (False, False, True)
    with fleet.locked():
        evidence = [path for path in walk(fleet.hosts["HV01"].host, SHARE) if path.startswith("restore_drills\\")]
        fleet.hosts["HV02"].host.hyperv.knobs.never_boots.add("sql01")
    assert sorted(path.rpartition(".")[2] for path in evidence) == ["html", "html", "json", "json", "xml", "xml"]
    check = controller.play(PLAYBOOK, inventory, "--check")
    assert check.code == 4, check.output


def test_the_guide_for_the_day_when_everything_is_gone(start_fleet: StartFleet, controller: Controller) -> None:
    page = (CHECKOUT / "docs" / "restore.md").read_text(encoding="utf-8")
    tasks = [task for block in page.split("```yaml\n")[1:] for task in yaml.safe_load(block.partition("```")[0])]
    fleet = start_fleet(host("OLD", small("sql01"), small("web01")), host("HV01", small("idle")), speed=FAST)
    with fleet.locked():
        old, new = fleet.hosts["OLD"].host, fleet.hosts["HV01"].host
        for name in ("sql01", "web01"):
            export(old, name, "E:\\Backup")
        shutil.copytree(old.files.resolve("E:\\Backup").real, new.files.resolve("E:\\").real / "Backup")
        by_hand = next(new.files.resolve("E:\\Backup\\OLD").real.glob("web01_*/*"))
        shutil.copytree(by_hand, new.files.resolve("E:\\").real / "Exports" / "web01")
        (new.files.resolve("E:\\").real / "Exports" / "web01" / "manifest.json").unlink()
    inventory = controller.inventory({"new-host": winrm(fleet)["hv01"]})
    (line,) = [line.strip() for line in page.splitlines() if line.startswith("    ansible new-host ")]
    command = [str(BIN / "ansible"), *shlex.split(line.replace("-i inventory", f"-i {inventory}"))[1:]]
    looked = subprocess.run(  # the password is asked for; there is no terminal
        command, input=f"{PASSWORD}\n", capture_output=True, text=True, env=controller.environment(controller.folder / "unused"),
        cwd=controller.folder, timeout=60, check=False, start_new_session=True)
    assert (looked.returncode, '"name": "sql01"' in looked.stdout) == (0, True), looked.stdout + looked.stderr
    run = controller.play(tasks, inventory)
    assert run.code == 0, run.output
    with fleet.locked():
        names = sorted(machine.name for machine in new.hyperv.machines.values())
    assert names == ["idle", "sql01-restored", "web01", "web01-restored"]
    assert traces(fleet, "HV01") == []


def test_a_drill_that_fails_fails_the_play_and_leaves_nothing(start_fleet: StartFleet, controller: Controller, tmp_path: Path) -> None:
    page = CHECKOUT / "roles" / "restore_drill" / "README.md"
    (play,) = yaml.safe_load(page.read_text(encoding="utf-8").split("```yaml\n")[1].partition("```")[0])
    fleet = start_fleet(host("HV01", small("sql01"), small("web01")), speed=FAST)
    with fleet.locked():
        one = fleet.hosts["HV01"].host
        export(one, "sql01", "E:\\Backup")
        damaged = export(one, "web01", "E:\\Backup")
        disk = one.files.resolve(f"{damaged}\\Virtual Hard Disks\\web01.vhdx").real
        data = bytearray(disk.read_bytes())
        data[len(data) // 2] ^= 1
        disk.write_bytes(data)
    play["vars"]["restore_drill_report"] = str(tmp_path / "report")
    playbook = controller.folder / "drill.yml"
    playbook.write_text(yaml.safe_dump([play]), encoding="utf-8")
    run = controller.play(playbook, controller.inventory(winrm(fleet)))
    assert run.code == 2, run.output
    kept = run.one(f"{ROLE} : Keep what the drills came to")["ansible_facts"]["restore_drill_evidence"]
    assert {one["vm_name"]: one["error_code"] for one in kept["drills"]} == {"sql01": None, "web01": "backup_damaged"}
    assert traces(fleet, "HV01") == []
    assert (ADMIN.name, len(list((tmp_path / "report").iterdir()))) == ("Administrator", 3)
