# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped clean-up after ``ansible-playbook`` was killed in the middle of a copy."""
from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import host, vm, winrm
from controller import BIN, CHECKOUT, Controller, commands
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.host import SimHost
from simulator.net.contract import STALL
from simulator.soap.rules import Effect, RequestView, broken
from simulator.windows.programs.base import Speeds
from simulator.windows.spec import ShareSpec, VolumeSpec

StartFleet = Callable[..., Fleet]
CLEANUP = CHECKOUT / "playbooks" / "shadow_cleanup.yml"
STATE = "C:\\ProgramData\\agentless.hyperv"
COPIES = "E:\\Backup\\HV01"
OPTIONS = {"name": "sql01", "destination": "E:\\Backup", "run_id": "night-1", "run_as": "session"}
"""In the session, so that nothing goes on when the controller is gone."""
COPY = {"name": "copy", "agentless.hyperv.hyperv_vss_copy": OPTIONS}
SHARED = {"name": "copy", "agentless.hyperv.hyperv_vss_copy": {**OPTIONS, "destination": "\\\\NAS\\backup", "run_as": "system"}}
NAS = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")), (ShareSpec("backup", "E:\\backup", ("EXAMPLE\\HV01$",)),))
AUDIT, CHECK, REMOVE, CANCEL = commands(CHECKOUT / "roles" / "shadow_cleanup" / "README.md")
ROLE = "agentless.hyperv.shadow_cleanup : "
LOOK = ROLE + "Look for what interrupted runs left"
HOUR = 3600


@pytest.fixture()
def fleet(start_fleet: StartFleet) -> Fleet:
    return start_fleet(host("HV01", vm("sql01"), foreign_shadow_copies=("D:\\", "E:\\")))


def sim(fleet: Fleet) -> SimHost:
    return fleet.hosts["HV01"].host


def kill_the_controller(
        fleet: Fleet, controller: Controller, inventory: Path, reached: threading.Event, task: dict[str, Any] | None = None) -> None:
    """Start the copy, and kill everything that belongs to the controller once the host has reached a point."""
    playbook = controller.folder / "copy.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "hyperv", "gather_facts": False, "tasks": [task or COPY]}]), encoding="utf-8")
    running = subprocess.Popen(
        [str(BIN / "ansible-playbook"), "-i", str(inventory), str(playbook)], env=controller.environment(controller.folder / "killed"),
        cwd=controller.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        assert reached.wait(100), "the copy did not get that far"
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        output, _unused = running.communicate(timeout=30)
    assert running.returncode == -signal.SIGKILL, output
    with fleet.locked():
        sim(fleet).rules.clear()


def while_robocopy_runs(fleet: Fleet) -> threading.Event:
    """Set while robocopy is at work: its output is asked for and never comes."""
    copying, reached = threading.Event(), threading.Event()

    def notice(view: RequestView) -> bool:
        if "/v:off" in view.document:  # the line that runs a job
            copying.set()
        return False

    def asked(_view: RequestView) -> bool:
        if copying.is_set():
            reached.set()
        return copying.is_set()

    with fleet.locked():
        sim(fleet).rules.add(Effect("notice"), operation="Shell Command", when=notice)
        silence = Effect("silence", executed=False, status=500, transport=STALL)
        sim(fleet).rules.add(silence, operation="Shell Receive", when=asked, times=None)
    return reached


def after_the_creation(fleet: Fleet) -> threading.Event:
    """Set when the shadow copy has been made; its ID never reaches the controller."""
    reached = threading.Event()
    with fleet.locked():
        sim(fleet).shadows.on_taken.append(lambda copy: reached.set())
        sim(fleet).rules.add(broken(STALL), operation="Invoke Win32_ShadowCopy.Create")
    return reached


def names(fleet: Fleet, path: str) -> list[str]:
    with fleet.locked():
        files = sim(fleet).files
        return [place.parts[-1] for place in files.children(files.resolve(path))] if files.exists(path) else []


def of_ours(fleet: Fleet) -> list[str]:
    """Our links, intents, jobs and leases, and copies without a manifest."""
    found = [name for part in ("s", "intents", "jobs", "leases") for name in names(fleet, f"{STATE}\\{part}")]
    for machine in names(fleet, COPIES):
        found += [folder for folder in names(fleet, f"{COPIES}\\{machine}")
                  if "manifest.json" not in names(fleet, f"{COPIES}\\{machine}\\{folder}")]
    return found


def later(fleet: Fleet, seconds: float) -> None:
    with fleet.locked():
        sim(fleet).clock.advance(seconds)


def make_foreign(fleet: Fleet, context: str) -> None:
    with fleet.locked():
        sim(fleet).shadows.add_foreign("D:\\", context=context)


def shadows(fleet: Fleet) -> tuple[int, int]:
    """How many of ours, and of others."""
    with fleet.locked():
        copies = sim(fleet).shadows.copies
        return sum(not copy.foreign for copy in copies), sum(copy.foreign for copy in copies)


def play(fleet: Fleet, controller: Controller, inventory: Path, *arguments: str) -> Any:
    """One clean-up; its result, how it ended, and how much it changed on the host."""
    with fleet.locked():
        sim(fleet).changes = 0
    run = controller.play(CLEANUP, inventory, *arguments)
    with fleet.locked():
        return run.one(LOOK), run, sim(fleet).changes


def test_a_copy_that_was_killed_is_cleaned_up_and_nothing_else(fleet: Fleet, controller: Controller) -> None:
    inventory = controller.inventory(winrm(fleet))
    kill_the_controller(fleet, controller, inventory, while_robocopy_runs(fleet))
    make_foreign(fleet, "ClientAccessible")
    later(fleet, 120)  # the program in the session comes to its end
    assert (shadows(fleet), len(of_ours(fleet))) == ((1, 3), 5), "a shadow copy; link, intent, job, lease and a copy without manifest"

    young, run, changes = play(fleet, controller, inventory, *REMOVE)
    assert (run.code, young["changed"], changes) == (0, False, 0), "the run may still be at work"
    assert {item["status"] for item in young["found"]} == {"at_work"}
    later(fleet, 7 * HOUR)

    audit, run, changes = play(fleet, controller, inventory, *AUDIT)
    assert (run.code, audit["changed"], audit["counts"], changes) == (0, False, {"ours": 1, "suspect": 0, "foreign": 3}, 0)
    predicted, run, changes = play(fleet, controller, inventory, *CHECK)
    assert (run.code, predicted["changed"], changes) == (0, True, 0), run.output
    assert "would be removed" in run.output

    done, run, _unused = play(fleet, controller, inventory, *REMOVE)
    assert (run.code, done["changed"], done["leftovers"]) == (0, True, []), run.output
    assert [item["id"] for item in done["removed"]] == [item["id"] for item in predicted["removed"]]
    assert (shadows(fleet), of_ours(fleet)) == ((0, 3), [])

    again, run, changes = play(fleet, controller, inventory, *REMOVE)
    assert (run.code, again["changed"], again["found"], changes) == (0, False, [], 0)
    last = controller.play([COPY], inventory).one("copy")
    assert last["changed"] is True, last
    assert (shadows(fleet), of_ours(fleet)) == ((0, 3), [])


@pytest.mark.parametrize(("context", "counts", "left"), [
    ("ApplicationRollback", {"ours": 1, "suspect": 0, "foreign": 3}, (0, 3)),
    ("ClientAccessible", {"ours": 0, "suspect": 2, "foreign": 2}, (1, 3)),
])
def test_killed_between_the_creation_and_the_link(
        fleet: Fleet, controller: Controller, context: str, counts: dict[str, int], left: tuple[int, int]) -> None:
    """What is provably ours goes. When another product made one of the same kind in the same window, neither is touched."""
    inventory = controller.inventory(winrm(fleet))
    kill_the_controller(fleet, controller, inventory, after_the_creation(fleet))
    make_foreign(fleet, context)
    later(fleet, 7 * HOUR)
    done, run, _unused = play(fleet, controller, inventory, *REMOVE)
    assert (run.code, done["counts"], done["leftovers"]) == (0, counts, []), run.output
    assert shadows(fleet) == left
    suspects = [copy["id"] for copy in done["shadow_copies"] if copy["owner"] == "suspect"]
    assert all(f"suspect shadow copy {suspect}" in run.output for suspect in suspects)
    again, run, changes = play(fleet, controller, inventory, *REMOVE)
    assert (run.code, again["changed"], changes, shadows(fleet)) == (0, False, 0, left)


def test_what_cannot_be_removed_is_told_and_fails_at_the_end(fleet: Fleet, controller: Controller) -> None:
    inventory = controller.inventory(winrm(fleet))
    kill_the_controller(fleet, controller, inventory, while_robocopy_runs(fleet))
    later(fleet, 7 * HOUR)
    with fleet.locked():
        (stuck,) = [copy for copy in sim(fleet).shadows.copies if not copy.foreign]
        stuck.locked = True
    done, run, _unused = play(fleet, controller, inventory, *REMOVE)
    assert (run.code, done["error_code"], {item["kind"] for item in done["leftovers"]}) == (2, "cleanup_failed", {"shadow_copy", "intent"})
    assert f"vssadmin delete shadows /shadow={stuck.shadow_id}" in run.one(ROLE + "Fail when something could not be removed")["msg"]
    with fleet.locked():
        stuck.locked = False
    assert play(fleet, controller, inventory, *REMOVE)[1].code == 0
    assert (shadows(fleet), of_ours(fleet)) == ((0, 2), [])


def while_a_task_copies(fleet: Fleet) -> threading.Event:
    """Set once the task that copies was asked for its state; no answer comes any more."""
    started, reached = threading.Event(), threading.Event()

    def notice(view: RequestView) -> bool:
        if "StartByPath" in view.document and "host_" not in view.document:  # not that of the look at the share
            started.set()
        return False

    def asked(view: RequestView) -> bool:
        if started.is_set() and view.operation == "Get":
            reached.set()
        return reached.is_set()

    with fleet.locked():
        sim(fleet).rules.add(Effect("notice"), when=notice, times=None)
        sim(fleet).rules.add(Effect("silence", executed=False, status=500, transport=STALL), when=asked, times=None)
    return reached


def test_a_copy_to_a_share_that_died_with_its_task_is_cleaned_up_there_too(start_fleet: StartFleet, controller: Controller) -> None:
    """A dead run that left a task, a job, a lease, and an incomplete copy at a share; then one that is cancelled while its task runs."""
    slow = Speeds(copy_bytes_per_second=500.0, chunk=20_000)
    fleet = start_fleet(host("HV01", vm("sql01"), domain="example.test", foreign_shadow_copies=("D:\\",), speeds=slow), file_servers=(NAS,))
    inventory = controller.inventory(winrm(fleet))

    def at_share() -> list[str]:
        with fleet.locked():
            files = fleet.file_servers["NAS"].files
            return [place.path.text() for machine in files.children(files.resolve("E:\\backup\\HV01")) for place in files.children(machine)]

    def our_tasks() -> list[Any]:
        with fleet.locked():
            return [task for task in sim(fleet).tasks.tasks() if task.path == "\\agentless.hyperv\\"]

    kill_the_controller(fleet, controller, inventory, while_a_task_copies(fleet), SHARED)
    (task,) = our_tasks()
    later(fleet, 1700)
    alone, run, changes = play(fleet, controller, inventory, *REMOVE, "-e", "shadow_cleanup_older_than=1s")
    assert (run.code, alone["changed"], changes, {item["status"] for item in alone["found"]}) == (0, False, 0, {"running"}), run.output
    with fleet.locked():
        sim(fleet).tasks.stop(task)
    later(fleet, 2 * HOUR)
    done, run, _unused = play(fleet, controller, inventory, *REMOVE)
    assert (run.code, done["leftovers"]) == (0, []), run.output
    assert sorted(item["kind"] for item in done["removed"]) == [
        "incomplete_copy", "intent", "intent", "job", "lease", "shadow_copy", "task"]
    assert (shadows(fleet), of_ours(fleet), our_tasks(), at_share()) == ((0, 1), [], [], [])

    kill_the_controller(fleet, controller, inventory, while_a_task_copies(fleet), SHARED)
    assert (len(our_tasks()), len(at_share())) == (1, 1)
    cancelled, run, _unused = play(fleet, controller, inventory, *CANCEL)
    assert (run.code, cancelled["changed"], cancelled["leftovers"]) == (0, True, []), run.output
    assert (shadows(fleet), of_ours(fleet), our_tasks(), at_share()) == ((0, 1), [], [], [])


@pytest.mark.every_core
def test_the_numbers_are_left_for_later_jobs(fleet: Fleet, controller: Controller) -> None:
    inventory = controller.inventory(winrm(fleet))
    run = controller.play(CLEANUP, inventory, "-e", "shadow_cleanup_set_stats=true", environment={"ANSIBLE_SHOW_CUSTOM_STATS": "1"})
    assert run.code == 0, run.output
    told = run.output.partition("CUSTOM STATS")[2]
    assert re.search(r'RUN: \{\s*"shadow_cleanup": \{\s*"hv01": ', told), told  # what is per host reaches no other job
    assert '"foreign": 2' in told
    wrong = controller.play(CLEANUP, inventory, "-e", "shadow_cleanup_older_than=soon")
    assert (wrong.code, wrong.one(LOOK)["error_code"]) == (2, "invalid_older_than")
