# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role ``backup`` over many hosts: slices beside each other at one share, hours without copies, machines that move, hosts that fail."""
from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ansible_runner
from conftest import ADMIN, host, vm, winrm
from controller import CHECKOUT, Controller, Run
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.hyperv.spec import DiskSpec
from simulator.soap import rules
from simulator.spec import ClusterSpec
from simulator.windows.spec import ShareSpec, VolumeSpec

BACKUP = CHECKOUT / "playbooks" / "backup.yml"
ROLE = "agentless.hyperv.backup"
SHOW = {"name": "results", "ansible.builtin.debug": {"var": "backup_results"}, "when": "backup_results is defined"}
TWIN = "0A1B2C3D-0000-4000-8000-000000000001"
"""A host may say that it has the machine of another one."""
HOSTILE = 'evil "{{ 1 + 1 }}"{% raw %}\u202e & <x>%PATH%'


def play(controller: Controller, fleet: Fleet, variables: Mapping[str, Any], *arguments: str, **changes: Any) -> Run:
    """The role, then its results; they are shown even when it failed. ``changes``: variables of one host each."""
    hosts = winrm(fleet)
    for name, own in changes.items():
        hosts[name].update(own)
    block = {"block": [{"ansible.builtin.include_role": {"name": ROLE}}], "always": [SHOW]}
    return controller.play([block], controller.inventory(hosts, variables), *arguments)


def entries(run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    """By host and name of the machine."""
    return {(name, entry["vm"]["name"]): entry for name, shown in run.of("results").items() for entry in shown["backup_results"]}


def changes(fleet: Fleet) -> list[int]:
    with fleet.locked():
        return [running.host.changes for running in fleet.hosts.values()]


# -- slices --------------------------------------------------------------------------------------------------------------

NAS = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")), (ShareSpec("backup", "E:\\backup", ("Everyone",)),))


def slice_of_a_job(folder: Path, inventory: Path, environment: Mapping[str, str], limit: str) -> Any:
    """One slice, as AWX runs it: a private folder of its own, and a part of the inventory."""
    folder.mkdir()
    return ansible_runner.run(private_data_dir=str(folder), playbook=str(BACKUP), inventory=str(inventory), limit=limit, quiet=True,
                              envvars={key: value for key, value in environment.items() if key != "ANSIBLE_CALLBACKS_ENABLED"})


def test_two_slices_at_one_share_keep_to_its_limit(start_fleet: Callable[..., Fleet], controller: Controller, tmp_path: Path) -> None:
    names = ["HV01", "HV02", "HV03"]
    fleet = start_fleet(*(host(name, vm("sql01"), domain="example.test") for name in names), file_servers=[NAS], speed=20.0)
    inventory = controller.inventory(winrm(fleet), {
        "backup_destination": "\\\\NAS\\backup", "backup_vms": ["*"], "backup_target_limit": 1, "backup_host_limit": 1,
        "backup_volume_limit": 1, "backup_set_stats": True})
    environment = controller.environment(tmp_path / "unused")
    files = fleet.file_servers["NAS"].files
    runs: dict[str, Any] = {}
    slices = {"one": "hv01:hv02", "two": "hv03"}

    def work(name: str) -> None:
        runs[name] = slice_of_a_job(tmp_path / name, inventory, environment, slices[name])

    threads = [threading.Thread(target=work, args=(name,)) for name in slices]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        with fleet.locked():
            most = max(most, _held(files))
        threads[0].join(0.2)
        if not threads[0].is_alive():
            threads[1].join(0.2)
    outcomes = {name: (run.status, run.rc) for name, run in runs.items()}
    assert outcomes == dict.fromkeys(slices, ("successful", 0)), runs["one"].stdout.read()[-3000:]
    assert most == 1
    with fleet.locked():
        assert _held(files) == 0
        copies = {name: [entry.parts[-1] for entry in files.children(files.resolve(f"E:\\backup\\{name}"))] for name in names}
    assert [len(found) for found in copies.values()] == [1, 1, 1]


def _held(files: Any) -> int:
    place = "E:\\backup\\agentless.hyperv\\slots"
    if not files.exists(place):
        return 0
    return sum(1 for slot in files.children(files.resolve(place)) if list(files.children(slot)))


# -- hours ---------------------------------------------------------------------------------------------------------------


def clock(moment: datetime) -> str:
    return moment.strftime("%H:%M")


def test_in_the_blackout_nothing_is_begun(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    fleet = start_fleet(host("HV01", vm("sql01")), host("HV02", *(vm(f"web{number}") for number in range(5))))
    now = datetime.now(UTC)
    around = [{"from": clock(now - timedelta(hours=1)), "to": clock(now + timedelta(hours=2))}]
    variables = {"backup_destination": "E:\\Backup", "backup_vms": ["*"], "backup_blackout": around}
    refused = play(controller, fleet, variables)
    assert refused.code == 2
    told = refused.one(f"{ROLE} : Begin nothing in the blackout of the site", "hv01")["msg"]
    assert told.startswith("Nothing was begun: the blackout of the site lasts until ")
    looked = play(controller, fleet, variables, "--check")
    assert looked.code == 0, looked.output
    assert changes(fleet) == [0, 0]
    tasks = Counter(result.host for result in looked.results)
    assert tasks["hv01"] == tasks["hv02"]  # however many machines a host has
    wrong = play(controller, fleet, {**variables, "backup_blackout": [{"from": "8 o'clock", "to": "9:00"}]})
    told = wrong.one(f"{ROLE} : Refuse policies and entries that mean nothing", "hv01")["msg"]
    assert "window 1 of the blackout: \"8 o'clock\" is no time" in told
    later = [{"from": clock(now + timedelta(hours=3)), "to": clock(now + timedelta(hours=4))}]
    done = play(controller, fleet, {**variables, "backup_blackout": later}, "--limit", "hv01")
    assert done.code == 0, done.output
    asked = done.one(f"{ROLE} : Copy the chosen virtual machines out of a shadow copy")["results"][0]["invocation"]["module_args"]
    assert 0 < asked["timeout"] < 10_800  # the time that is left, not the four hours of the policy


# -- machines that move --------------------------------------------------------------------------------------------------

CSV = VolumeSpec("C:\\ClusterStorage\\Volume1", filesystem="CSVFS")


def test_a_machine_that_moves_is_copied_at_its_owner(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    cluster = ClusterSpec("CL1", ("HV01", "HV02"))
    drives = (VolumeSpec("C:"), VolumeSpec("E:"), CSV)
    moving = vm("moving", clustered=True, disks=(DiskSpec("C:\\ClusterStorage\\Volume1\\m\\a.vhdx"),))
    still = vm("still", clustered=True, disks=(DiskSpec("C:\\ClusterStorage\\Volume1\\s\\a.vhdx"),))
    fleet = start_fleet(host("HV01", moving, volumes=drives, cluster=cluster), host("HV02", still, volumes=drives, cluster=cluster))
    with fleet.locked():
        one, two = (fleet.hosts[name].host for name in ("HV01", "HV02"))
        guid = one.hyperv.find("moving").id
        # the facts of the role are the first look, that of the copy the second
        one.rules.add(rules.vanish(lambda: one.hyperv.move_vm(guid, two.hyperv)), "Enumerate", nth=2,
                      when=lambda view: "msvm_computersystem" in view.request.resource_uri.lower())
    variables = {"backup_destination": "E:\\Backup", "backup_vms": ["*"], "backup_csv_any_node": True}
    run = play(controller, fleet, variables)
    assert run.code == 0, run.output
    told = entries(run)[("hv01", "moving")]
    assert (told["failed"], told["owner"], told["error_code"]) == (False, "hv02", None)
    assert told["folder"].startswith("E:\\Backup\\HV02\\moving_")
    assert entries(run)[("hv02", "still")]["changed"] is True


# -- hosts that fail -----------------------------------------------------------------------------------------------------


def test_good_hosts_among_dead_locked_hostile_and_broken_ones(start_fleet: Callable[..., Fleet], controller: Controller) -> None:
    names = ("GOOD", "DEAD", "LOCKED", "HOSTILE", "BROKEN", "FULL", "SKEWED", "ENDLESS", "TWIN")
    tiny = (VolumeSpec("C:"), VolumeSpec("D:", size=4 * 2**30), VolumeSpec("E:", size=2**20))
    special: dict[str, dict[str, Any]] = {"FULL": {"volumes": tiny}, "SKEWED": {"start": datetime(2027, 1, 1, tzinfo=UTC)}}
    up = (DiskSpec("D:\\VMs\\e\\..\\..\\x\\a.vhdx"),)
    machines = {"HOSTILE": vm(HOSTILE, directory="e"), "TWIN": vm(HOSTILE, directory="e", vm_id=TWIN, disks=up)}
    fleet = start_fleet(*(host(name, machines.get(name, vm("sql01", vm_id=TWIN if name == "GOOD" else None)), **special.get(name, {}))
                          for name in names))
    with fleet.locked():
        fleet.hosts["LOCKED"].host.rules.add(rules.unauthorized(), times=None)
        fleet.hosts["ENDLESS"].host.rules.add(rules.broken("endless"), "Enumerate", times=None)
        fleet.hosts["BROKEN"].host.rules.add(rules.garbage(b"\x00<<<{{ 7 * 7 }}", status=500), "Shell Create", times=None)
    run = play(controller, fleet, {"backup_destination": "E:\\Backup", "backup_vms": ["*"]}, dead={"ansible_port": 1})
    assert run.code in (2, 4, 6)
    told = {name: (entry["changed"], entry["error_code"]) for (name, _vm), entry in entries(run).items()}
    assert told["good"] == told["hostile"] == told["skewed"] == (True, None)
    assert told["full"] == (False, "destination_full")
    assert told["broken"][0] is False
    assert told["broken"][1] is not None
    assert {"dead", "locked", "endless"} & set(told) == set()
    assert told["twin"] == (True, None)
    folders = {name: entry["folder"] for (name, _vm), entry in entries(run).items() if name in ("good", "twin")}
    assert {name: folder.split("\\")[2] for name, folder in folders.items()} == {"good": "GOOD", "twin": "TWIN"}
    assert "\u202e" not in run.output.partition("TASK [results]")[0]
    facts = run.of(f"{ROLE} : Read the facts of every virtual machine")
    assert {name for name, result in facts.items() if result.status == "unreachable"} == {"dead", "locked", "endless"}
    assert facts["endless"]["error_code"] == "answer_too_large"
    with fleet.locked():  # an account that may be locked is not tried again and again
        assert fleet.hosts["LOCKED"].host.counters.auth_legs <= 6
    assert ADMIN.password not in run.output
