# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role ``backup`` as jobs of a controller, in nights that go wrong: a job that is cancelled and started again, two jobs on one host."""
from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ansible_runner
from conftest import host, vm, winrm
from controller import CHECKOUT, Controller, Run
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.net.contract import STALL
from simulator.soap.rules import Effect, RequestView
from simulator.windows.programs.base import Speeds
from simulator.windows.spec import ShareSpec, VolumeSpec
from support.leftovers import Others, left_on

StartFleet = Callable[..., Fleet]
BACKUP = CHECKOUT / "playbooks" / "backup.yml"
ROLE = "agentless.hyperv.backup"
SHOW = {"name": "results", "ansible.builtin.debug": {"var": "backup_results"}, "when": "backup_results is defined"}
UNC, AT_SERVER = "\\\\NAS\\backup", "E:\\backup"
MIB = 1024**2
VARIABLES = {"backup_destination": UNC, "backup_vms": ["*"], "backup_max_age": "12h"}


def nas(size: int = 60 * 1024 * MIB) -> FileServerSpec:
    return FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:", size)),
                          (ShareSpec("backup", AT_SERVER, ("Everyone",)),))


def play(controller: Controller, fleet: Fleet, variables: Mapping[str, Any], *arguments: str) -> Run:
    """The role, then its results; they are shown even when it failed."""
    block = {"block": [{"ansible.builtin.include_role": {"name": ROLE}}], "always": [SHOW]}
    return controller.play([block], controller.inventory(winrm(fleet), variables), *arguments)


def told(run: Run) -> dict[str, tuple[bool, str | None]]:
    """By the name of the machine: whether it changed, and its error."""
    return {entry["vm"]["name"]: (entry["changed"], entry["error_code"])
            for shown in run.of("results").values() for entry in shown["backup_results"]}


def at_share(fleet: Fleet, *names: str) -> dict[str, list[bool]]:
    """By machine folder below the folders of these hosts: of each copy, whether it has its manifest."""
    files = fleet.file_servers["NAS"].files
    found: dict[str, list[bool]] = {}
    for name in names:
        base = f"{AT_SERVER}\\{name}"
        for machine in files.children(files.resolve(base)) if files.exists(base) else ():
            found[machine.parts[-1].rpartition("_")[0]] = [
                files.exists(f"{copy.path.text()}\\manifest.json") for copy in files.children(machine)]
    return found


def folders(fleet: Fleet, *names: str) -> list[str]:
    """Every folder of a copy at the share, whether it is complete or not."""
    files = fleet.file_servers["NAS"].files
    return sorted(copy.path.text() for name in names for machine in files.children(files.resolve(f"{AT_SERVER}\\{name}"))
                  for copy in files.children(machine))


def later(fleet: Fleet, hours: float) -> None:
    with fleet.locked():
        for running in fleet.hosts.values():
            running.host.clock.advance(hours * 3600)


def left(fleet: Fleet) -> list[tuple[str, str]]:
    with fleet.locked():
        return [found for running in fleet.hosts.values() for found in left_on(running.host, Others())]


# -- cancelled, and started again ----------------------------------------------------------------------------------------


def copying_the_second(fleet: Fleet) -> list[threading.Event]:
    """An event for each host, set when one of its machines is complete at the share and the next one is half there. From then on the host
    is silent. What comes after the first copy is slow, so that there is a middle.
    """
    slow, reached = Speeds(copy_bytes_per_second=20_000.0, chunk=20_000), []
    for name, running in fleet.hosts.items():
        event, one = threading.Event(), running.host

        def halfway(_view: RequestView, name: str = name, event: threading.Event = event, one: Any = one) -> bool:
            copies = sorted(complete for found in at_share(fleet, name).values() for complete in found)
            if True in copies:
                one.processes.speeds = slow
            if copies == [False, True] and any(task.path == "\\agentless.hyperv\\" for task in one.tasks.tasks()):
                event.set()
            return event.is_set()

        one.rules.add(Effect("silence", executed=False, status=500, transport=STALL), when=halfway, times=None)
        reached.append(event)
    return reached


def run_and_cancel(fleet: Fleet, controller: Controller, inventory: Path) -> None:
    """The shipped playbook as a job that is cancelled as soon as every host is in the middle of its second copy: ansible-runner kills the
    whole group of processes, which is what a controller does to a job.
    """
    with fleet.locked():
        usual = {name: running.host.processes.speeds for name, running in fleet.hosts.items()}
        events = copying_the_second(fleet)
    job = run_job(controller.folder / "cancelled", inventory, controller, settings={"pexpect_timeout": 1, "job_timeout": 100},
                  cancel_callback=lambda: all(event.is_set() for event in events))
    assert (job.status, [event.is_set() for event in events]) == ("canceled", [True] * len(events)), job.stdout.read()[-3000:]
    with fleet.locked():
        for name, one in fleet.hosts.items():
            one.host.rules.clear()
            one.host.processes.speeds = usual[name]


def run_job(folder: Path, inventory: Path, controller: Controller, **options: Any) -> ansible_runner.Runner:
    """The shipped playbook as a controller runs it: through ansible-runner, in a private folder."""
    folder.mkdir()
    environment = controller.environment(folder / "unused")
    return ansible_runner.run(private_data_dir=str(folder), playbook=str(BACKUP), inventory=str(inventory), quiet=True,
                              envvars={key: value for key, value in environment.items() if key != "ANSIBLE_CALLBACKS_ENABLED"}, **options)


def test_a_job_that_was_cancelled_is_finished_by_the_same_job(start_fleet: StartFleet, controller: Controller) -> None:
    fleet = start_fleet(*(host(f"HV0{number}", vm(f"a{number}"), vm(f"b{number}"), domain="example.test") for number in (1, 2)),
                        file_servers=[nas()], speed=20.0)
    names, variables = ("HV01", "HV02"), {**VARIABLES, "backup_run_id": "night-1"}
    run_and_cancel(fleet, controller, controller.inventory(winrm(fleet), variables))
    with fleet.locked():
        begun = folders(fleet, *names)
        copied = {name: (len(running.host.shadows.copies), len(running.host.processes.running())) for name, running in fleet.hosts.items()}
    assert (len(begun), copied) == (4, {"HV01": (1, 1), "HV02": (1, 1)}), "the second copies go on"
    run = play(controller, fleet, variables)
    assert run.code == 0, run.output
    changed = sorted(told(run).items())
    assert [error for _name, (_changed, error) in changed] == [None] * 4
    assert [sum(done for name, (done, _error) in changed if name.endswith(number)) for number in "12"] == [1, 1], "the complete one counts"
    with fleet.locked():
        assert folders(fleet, *names) == begun, "what was begun was finished, and nothing was copied anew"
        assert all(complete for found in at_share(fleet, *names).values() for complete in found)
    assert {kind for kind, _name in left(fleet)} <= {"intent"}  # of the dead run: it tells of both of its copies
    later(fleet, 2)
    swept = controller.play([{"agentless.hyperv.hyperv_cleanup": {"remove": True}}], controller.inventory(winrm(fleet)))
    assert (swept.code, left(fleet)) == (0, []), swept.output
    with fleet.locked():
        assert folders(fleet, *names) == begun


# -- two jobs on one host ------------------------------------------------------------------------------------------------


def test_two_jobs_at_once_protect_each_machine_of_a_host_once(start_fleet: StartFleet, controller: Controller) -> None:
    """One job means the first two machines, the other one the last two: whoever comes second to the one in the middle waits for it."""
    fleet = start_fleet(host("HV01", vm("a1"), vm("both"), vm("c1"), domain="example.test"), file_servers=[nas()], speed=20.0)
    inventory = controller.inventory(winrm(fleet), VARIABLES)
    chosen = {"one": ["a1", "both"], "two": ["c1", "both"]}
    with ThreadPoolExecutor(2) as pool:
        jobs = dict(zip(chosen, pool.map(lambda name: run_job(controller.folder / name, inventory, controller, extravars={
            "backup_vms": chosen[name]}), chosen), strict=True))
    assert {name: job.status for name, job in jobs.items()} == dict.fromkeys(chosen, "successful"), "".join(
        job.stdout.read()[-3000:] for job in jobs.values())
    with fleet.locked():
        assert at_share(fleet, "HV01") == {"a1": [True], "both": [True], "c1": [True]}
    assert left(fleet) == []
