# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_cleanup`` and runs: at work, dead with a task that still runs, dead; their tasks, jobs, leases, and copies at shares."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_cleanup, hyperv_shadow_copy, hyperv_vss_copy
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.hyperv.spec import DiskSpec, VmSpec
from simulator.soap.rules import Effect, lost_before
from simulator.spec import HostSpec, Quirks
from simulator.windows.files import FileSystem
from simulator.windows.programs.base import Speeds
from simulator.windows.spec import ShareSpec, VolumeSpec

from .conftest import ADMINISTRATOR, NOBODY, PASSWORD, Runner

STATE = "C:\\ProgramData\\agentless.hyperv"
UNC = "\\\\NAS\\backup"
AT_SERVER = "E:\\backup"
SLOW = Speeds(copy_bytes_per_second=20_000.0, chunk=20_000)
"""A disk of the simulator takes minutes."""
DEAD = 1600
"""Seconds after which nobody's lease stands any more."""
HOUR = 3600
Begin = Callable[..., Runner]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a host of a domain, and a file server that lets its computer account in."""
    with ExitStack() as stack:

        def start(grants: tuple[str, ...] = ("EXAMPLE\\HV01$",), **spec: Any) -> Runner:
            server = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")), (ShareSpec("backup", AT_SERVER, grants),))
            values = {"volumes": (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:")), "vms": (machine("a"), machine("b")), **spec}
            host = HostSpec(name="HV01", domain="example.test", accounts=(ADMINISTRATOR, NOBODY), **values)
            fleet = Fleet([host], tmp_path / "fleet", file_servers=[server])
            fleet.start()
            stack.callback(fleet.stop)
            return Runner(fleet, fleet.hosts["HV01"])

        yield start


def machine(name: str) -> VmSpec:
    return VmSpec(name, disks=(DiskSpec(f"D:\\VMs\\{name}\\a.vhdx"),))


def copy(runner: Runner, **params: Any) -> dict[str, Any]:
    return runner.run(hyperv_vss_copy, **{"destination": "E:\\Backup", "name": "a", **params})


def clean(runner: Runner, **params: Any) -> dict[str, Any]:
    return runner.run(hyperv_cleanup, **params)


def later(runner: Runner, seconds: float) -> None:
    with runner.fleet.locked():
        runner.running.host.clock.advance(seconds)


def lose_the_controller(runner: Runner, after: str, **params: Any) -> None:
    """A copy whose controller is gone from the answer to the first request on that holds this text."""
    seen = False

    def gone(view: Any) -> bool:
        nonlocal seen
        now, seen = seen, seen or (after in view.document and "host_" not in view.document)  # a look at the share begins with it
        return now

    with runner.fleet.locked():
        runner.running.host.rules.add(lost_before(), when=gone, times=None)
    try:
        copy(runner, **params)
    except HypervError as error:
        assert error.error_code in ("unreachable", "outcome_unknown", "timeout")
    assert seen
    with runner.fleet.locked():
        runner.running.host.rules.clear()


def statuses(result: dict[str, Any], run_id: str | None = None) -> dict[str, set[str]]:
    """The statuses of what was found, by kind."""
    found: dict[str, set[str]] = {}
    for item in result["found"]:
        if run_id in (None, item["run_id"]):
            found.setdefault(item["kind"], set()).add(item["status"])
    return found


def kinds(listed: list[dict[str, Any]]) -> list[str]:
    return sorted(item["kind"] for item in listed)


def names(runner: Runner, path: str, files: FileSystem | None = None) -> list[str]:
    with runner.fleet.locked():
        place = files or runner.running.host.files
        return sorted(entry.parts[-1] for entry in place.children(place.resolve(path))) if place.exists(path) else []


def server(runner: Runner) -> FileSystem:
    found: FileSystem = runner.fleet.file_servers["NAS"].files
    return found


def held(runner: Runner) -> dict[str, list[str]]:
    """What of ours is on the host, by what it is; the running programs of its tasks, too."""
    with runner.fleet.locked():
        host = runner.running.host
        found = {
            "shadows": [one.shadow_id for one in host.shadows.copies if not one.foreign],
            "tasks": [task.name for task in host.tasks.tasks() if task.path == "\\agentless.hyperv\\"],
        }
    found |= {part: names(runner, f"{STATE}\\{part}") for part in ("s", "intents", "jobs", "leases")}
    return {what: things for what, things in found.items() if things}


def copies(runner: Runner) -> list[str]:
    """The folders of copies on E: and at the share, with the files in them."""
    found = []
    for base, files in (("E:\\Backup\\HV01", None), (f"{AT_SERVER}\\HV01", server(runner))):
        for vm in names(runner, base, files):
            for folder in names(runner, f"{base}\\{vm}", files):
                inside = names(runner, f"{base}\\{vm}\\{folder}", files)
                found.append(f"{folder.partition('_')[2]}:{'complete' if 'manifest.json' in inside else 'incomplete'}")
    return sorted(found)


def write(runner: Runner, path: str, data: bytes = b"x", files: FileSystem | None = None) -> None:
    with runner.fleet.locked():
        place = files or runner.running.host.files
        parts = path.split("\\")
        for count in range(2, len(parts)):
            if not place.exists("\\".join(parts[:count])):
                place.create_directory("\\".join(parts[:count]))
        place.write_file(path, data)


# -- tasks ---------------------------------------------------------------------------------------------------------------


def test_a_task_that_still_runs_keeps_everything_of_its_run(begin: Begin) -> None:
    runner = begin(speeds=SLOW)
    assert copy(runner, timeout=30, run_id="monday")["error_code"] == "timeout"
    before = held(runner)
    assert set(before) == {"shadows", "tasks", "s", "intents", "jobs"}
    running = clean(runner, remove=True, older_than="1s")
    assert (running["changed"], statuses(running)) == (
        False, {kind: {"running"} for kind in ("shadow_copy", "task", "job", "intent")},
    )
    assert held(runner) == before
    later(runner, 3 * HOUR)
    ended = clean(runner, remove=True, older_than="4h")
    assert (ended["changed"], {status for found in statuses(ended).values() for status in found}) == (False, {"too_young"})
    assert held(runner) == before
    done = clean(runner, remove=True)
    assert kinds(done["removed"]) == ["incomplete_copy", "intent", "job", "shadow_copy", "task"]
    assert (held(runner), copies(runner), done["leftovers"]) == ({}, [], [])


def test_what_a_copy_came_to_is_kept_for_a_later_run(begin: Begin) -> None:
    """The age of a run is that of its last sign of life: here that of the result, which a later run can still take over."""
    runner = begin(speeds=SLOW)
    copy(runner, timeout=30, run_id="monday")
    with runner.fleet.locked():
        host = runner.running.host
        (task,) = [task for task in host.tasks.tasks() if task.path == "\\agentless.hyperv\\"]
        while task.running and host.clock.jump_to_next():
            pass
    later(runner, 50 * 60)
    assert clean(runner, remove=True)["changed"] is False
    assert copy(runner, max_age="20h", run_id="tuesday")["adopted"] is True
    assert (held(runner), copies(runner)) == ({}, ["monday:complete"])


def test_a_run_at_work_is_left_alone_whatever_its_age(begin: Begin) -> None:
    runner = begin(speeds=SLOW)
    lose_the_controller(runner, "StartByPath", run_id="monday", timeout=30)
    before = held(runner)
    assert before["leases"] == ["monday"]
    found = clean(runner, remove=True, older_than="1s")
    assert (found["changed"], {status for one in statuses(found).values() for status in one}) == (False, {"at_work"})
    later(runner, DEAD)
    found = clean(runner, remove=True, older_than="1s")
    assert {status for one in statuses(found, "monday").values() for status in one} <= {"running", "removable"}


def test_cancelling_a_run_ends_its_task_and_takes_everything_of_it(begin: Begin) -> None:
    runner = begin(speeds=SLOW)
    other = runner.run(hyperv_shadow_copy, volume="D:\\", run_id="other")["shadow_copy"]["id"]
    lose_the_controller(runner, "StartByPath", run_id="Monday", timeout=30)
    with runner.fleet.locked():
        programs = {process.pid for process in runner.running.host.processes.running()}
        runner.running.host.changes = 0
    shown = clean(runner, run_id="monday")
    assert (shown["changed"], shown["removed"]) == (False, [])
    assert {item["run_id"].lower() for item in shown["found"]} == {"monday"}
    assert statuses(shown) == {kind: {"removable"} for kind in ("shadow_copy", "task", "job", "incomplete_copy", "intent", "lease")}
    predicted = clean(runner, run_id="monday", remove=True, check=True)
    assert (kinds(predicted["removed"]), runner.running.host.changes) == (kinds(shown["found"]), 0)
    done = clean(runner, run_id="monday", remove=True)
    assert (done["changed"], done["leftovers"], kinds(done["removed"])) == (True, [], kinds(shown["found"]))
    with runner.fleet.locked():
        assert not {process.pid for process in runner.running.host.processes.running()} & programs, "its programs have ended"
    assert held(runner)["shadows"] == [other]
    assert (set(held(runner)), copies(runner)) == ({"shadows", "s", "intents"}, [])
    again = clean(runner, run_id="monday", remove=True)
    assert (again["changed"], again["found"]) == (False, [])


@pytest.mark.parametrize("run_id", ["", "a b", "x" * 41, "a_b", "*"])
def test_a_run_has_the_name_of_a_run(begin: Begin, run_id: str) -> None:
    with pytest.raises(HypervError) as refused:
        clean(begin(), run_id=run_id)
    assert refused.value.error_code == "invalid_run_id"


def test_tasks_that_are_not_ours_stay(begin: Begin) -> None:
    runner = begin()
    copy(runner, run_id="monday")
    with runner.fleet.locked():
        runner.running.host.tasks.add_foreign("\\agentless.hyperv\\theirs")
        runner.running.host.tasks.add_foreign("\\other\\host_night-1")
        runner.running.host.files.create_directory(f"{STATE}\\jobs\\theirs")
    later(runner, 7 * HOUR)
    found = clean(runner, remove=True)
    assert (found["changed"], statuses(found)) == (False, {"task": {"foreign_content"}, "job": {"foreign_content"}})
    assert sum("theirs" in line for line in runner.told.warnings) == 2
    with runner.fleet.locked():
        assert {task.path for task in runner.running.host.tasks.tasks() if task.name in ("theirs", "host_night-1")} == {
            "\\agentless.hyperv\\", "\\other\\",
        }


# -- leases --------------------------------------------------------------------------------------------------------------


def test_dead_and_unfinished_leases_go_and_damaged_ones_stay(begin: Begin) -> None:
    runner = begin()
    copy(runner, run_id="monday")
    write(runner, f"{STATE}\\leases\\dead\\20200101T000000Z_dead_aaaaaaaaaaaa.lease")
    write(runner, f"{STATE}\\leases\\next.aaaaaaaaaaaa\\20990101T000000Z_next_aaaaaaaaaaaa.lease")
    write(runner, f"{STATE}\\leases\\broken\\broken_aaaaaaaaaaaa")
    write(runner, f"{STATE}\\leases\\damaged\\readme.txt")
    write(runner, f"{STATE}\\leases\\host.slot1\\20200101T000000Z_dead_aaaaaaaaaaaa.lease")
    write(runner, f"{STATE}\\leases\\host.slot2\\broken_aaaaaaaaaaaa")
    write(runner, f"{STATE}\\leases\\host.slot3\\theirs.txt")
    write(runner, f"{STATE}\\leases\\host.slot4.aaaaaaaaaaaa\\20990101T000000Z_next_aaaaaaaaaaaa.lease")
    with runner.fleet.locked():
        runner.running.host.files.create_directory(f"{STATE}\\leases\\empty")
    assert {item["id"]: item["status"] for item in clean(runner, remove=True)["found"]} == {
        "dead": "too_young", "next.aaaaaaaaaaaa": "too_young", "broken": "too_young", "empty": "too_young", "damaged": "damaged",
        "host.slot1": "too_young", "host.slot2": "too_young", "host.slot3": "damaged", "host.slot4.aaaaaaaaaaaa": "too_young",
    }
    later(runner, 2 * HOUR)
    done = clean(runner, remove=True)
    assert sorted(item["id"] for item in done["removed"]) == [
        "broken", "dead", "empty", "host.slot1", "host.slot2", "host.slot4.aaaaaaaaaaaa", "next.aaaaaaaaaaaa"]
    assert held(runner) == {"leases": ["damaged", "host.slot3"]}
    assert names(runner, f"{STATE}\\leases\\damaged") == ["readme.txt"]


def test_the_slot_of_a_run_at_work_is_no_run_and_stays(begin: Begin) -> None:
    runner = begin()
    copy(runner, run_id="monday")
    ends = runner.running.host.clock.now() + timedelta(hours=3)
    for folder, run_id in (("tuesday", "tuesday"), ("host.slot1", "tuesday"), ("host.slot2", "dead")):
        write(runner, f"{STATE}\\leases\\{folder}\\{ends.strftime('%Y%m%dT%H%M%SZ')}_{run_id}_aaaaaaaaaaaa.lease")
    later(runner, 2 * HOUR)
    done = clean(runner, remove=True)
    assert {item["id"]: (item["status"], item["run_id"]) for item in done["found"]} == {
        "tuesday": ("at_work", "tuesday"), "host.slot1": ("at_work", "tuesday"), "host.slot2": ("removable", "dead")}
    assert held(runner) == {"leases": ["host.slot1", "tuesday"]}
    assert [item["id"] for item in clean(runner, remove=True, run_id="tuesday")["removed"]] == ["host.slot1", "tuesday"]
    assert held(runner) == {}


def test_a_run_that_comes_to_life_meanwhile_is_left_alone(begin: Begin) -> None:
    """Its retry takes the lease after the look and before the removal."""
    runner = begin()
    lose_the_controller(runner, "mklink", run_id="monday")
    runner.run(hyperv_shadow_copy, volume="D:\\", run_id="other")
    later(runner, 2 * HOUR)
    before = held(runner)
    token = runner.running.host.clock.now() + timedelta(minutes=20)
    entry = f"{token.strftime('%Y%m%dT%H%M%SZ')}_monday_bbbbbbbbbbbb.lease"

    def revive() -> None:
        files = runner.running.host.files
        for old in list(files.children(files.resolve(f"{STATE}\\leases\\monday"))):
            files.remove_file(old)
        files.write_file(f"{STATE}\\leases\\monday\\{entry}", b"lease")

    with runner.fleet.locked():
        runner.running.host.rules.add(Effect("revive", before=revive), when=lambda view: "icacls" in view.document)
    done = clean(runner, remove=True)
    assert ({item["run_id"] for item in done["removed"]}, done["leftovers"], done.get("failed")) == ({"other"}, [], None)
    assert {status for one in statuses(done, "monday").values() for status in one} == {"at_work"}
    assert names(runner, f"{STATE}\\leases\\monday") == [entry]
    assert [one for one in before["intents"] if one.startswith("monday")] == held(runner)["intents"]


# -- shares --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(begin: Begin) -> Runner:
    """A host on which a copy to the share died in the middle, hours ago."""
    runner = begin(speeds=SLOW)
    died_at_share(runner)
    return runner


def died_at_share(runner: Runner, **params: Any) -> None:
    lose_the_controller(runner, "StartByPath", run_id="monday", destination=UNC, timeout=30, **params)
    with runner.fleet.locked():
        host = runner.running.host
        for task in host.tasks.tasks():
            if task.path == "\\agentless.hyperv\\":
                host.tasks.stop(task)
    later(runner, 7 * HOUR)


EVERYTHING = ["incomplete_copy", "intent", "intent", "job", "lease", "shadow_copy", "task"]  # its claim is an intent, too


def test_an_incomplete_copy_at_a_share_is_found_and_removed_by_tasks(shared: Runner) -> None:
    write(shared, f"{AT_SERVER}\\notes.txt", b"theirs", server(shared))
    (vm,) = names(shared, f"{AT_SERVER}\\HV01", server(shared))
    write(shared, f"{AT_SERVER}\\HV01\\{vm}\\20200101T000000Z_sunday\\disks\\a.vhdx", b"theirs", server(shared))
    with shared.fleet.locked():
        before = shared.running.host.counters.snapshot()
    audit = clean(shared)
    predicted = clean(shared, remove=True, check=True)
    with shared.fleet.locked():
        assert shared.running.host.counters.since(before).writing == 0
    assert (statuses(audit)["destination"], statuses(predicted)["destination"]) == ({"unsearched"}, {"unsearched"})
    assert [step["action"] for step in predicted["diff"]["after"]["steps"]].count("search_destination") == 1
    assert kinds(predicted["removed"]) == [kind for kind in EVERYTHING if kind != "incomplete_copy"]
    done = clean(shared, remove=True)
    assert (kinds(done["removed"]), done["leftovers"], kinds(done["found"])) == (EVERYTHING, [], EVERYTHING)
    assert (held(shared), copies(shared)) == ({}, ["sunday:incomplete"]), "another run's copy is not this one's"
    assert names(shared, AT_SERVER, server(shared)) == ["HV01", "notes.txt"]


def test_a_session_cannot_look_into_a_share(shared: Runner) -> None:
    done = clean(shared, remove=True, run_as="session")
    assert (statuses(done)["destination"], statuses(done)["intent"]) == ({"destination_needs_task"}, {"destination_needs_task"})
    assert kinds(done["removed"]) == ["job", "lease", "shadow_copy", "task"]
    assert set(held(shared)) == {"intents"}
    assert kinds(clean(shared, remove=True)["removed"]) == ["incomplete_copy", "intent", "intent"]
    assert (held(shared), copies(shared)) == ({}, [])


def test_a_share_that_is_not_there_keeps_its_intent(shared: Runner) -> None:
    with shared.fleet.locked():
        shared.fleet.file_servers["NAS"].take_down()
    done = clean(shared, remove=True)
    assert (statuses(done)["destination"], statuses(done)["intent"]) == ({"destination_missing"}, {"destination_missing"})
    assert (kinds(done["removed"]), done.get("failed")) == (["job", "lease", "shadow_copy", "task"], None)
    assert set(held(shared)) == {"intents"}
    assert any(UNC in line for line in shared.told.warnings)
    with shared.fleet.locked():
        shared.fleet.file_servers["NAS"].bring_up()
    assert kinds(clean(shared, remove=True)["removed"]) == ["incomplete_copy", "intent", "intent"]
    assert (held(shared), copies(shared)) == ({}, [])


@pytest.mark.parametrize("what", ["notes.txt", "disks\\deep\\notes.txt", "link"])
def test_a_folder_at_a_share_that_holds_something_else_stays(shared: Runner, what: str) -> None:
    (vm,) = names(shared, f"{AT_SERVER}\\HV01", server(shared))
    (folder,) = names(shared, f"{AT_SERVER}\\HV01\\{vm}", server(shared))
    path = f"{AT_SERVER}\\HV01\\{vm}\\{folder}"
    if what == "link":
        write(shared, f"{AT_SERVER}\\elsewhere\\precious.txt", b"theirs", server(shared))
        with shared.fleet.locked():
            server(shared).make_link(f"{path}\\disks\\x", f"{AT_SERVER}\\elsewhere", "junction")
    else:
        write(shared, f"{path}\\{what}", b"theirs", server(shared))
    inside = names(shared, f"{path}\\disks", server(shared))
    done = clean(shared, remove=True)
    assert (statuses(done)["incomplete_copy"], statuses(done)["intent"]) == ({"foreign_content"}, {"foreign_content", "removable"})
    assert (kinds(done["removed"]), done.get("failed")) == (["intent", "job", "lease", "shadow_copy", "task"], None)
    assert names(shared, f"{path}\\disks", server(shared)) == inside
    if what == "link":
        assert names(shared, f"{AT_SERVER}\\elsewhere", server(shared)) == ["precious.txt"]


@pytest.mark.parametrize(("account", "code"), [
    ({"run_as_user": "HV01\\Administrator", "run_as_password": "wrong"}, "cleanup_failed"), ({"run_as_user": "NAS\\copier"}, None),
])
def test_what_keeps_a_task_from_looking_is_a_failure_and_the_rest_goes(shared: Runner, account: dict[str, str], code: str | None) -> None:
    params = {"run_as": "account", "run_as_password": PASSWORD, **account}
    done = clean(shared, remove=True, **params)
    assert (done["failed"], done["error_code"]) == (True, "cleanup_failed")
    assert (kinds(done["removed"]), kinds(done["leftovers"])) == (["job", "lease", "shadow_copy", "task"], ["destination"])
    assert ("password" in done["msg"]) == (code is not None)
    assert set(held(shared)) == {"intents"}
    assert PASSWORD not in str(done)


# -- any mix -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("quirks", [Quirks(), Quirks(refuse_wql_namespaces=("root/cimv2",))], ids=["filters", "no filters"])
def test_nothing_of_a_living_run_and_nothing_foreign_is_ever_removed(begin: Begin, seed: int, quirks: Quirks) -> None:
    """Runs that are dead or alive, with any of what a run leaves, among shadow copies of others."""
    chance = random.Random(seed)
    runner = begin(quirks=quirks)
    copy(runner, run_id="first")
    alive = {f"run-{number}": chance.random() < 0.5 for number in range(4)}
    made: dict[str, str] = {}
    for run_id in alive:
        if chance.random() < 0.7:
            made[run_id] = runner.run(hyperv_shadow_copy, volume="D:\\", run_id=run_id)["shadow_copy"]["id"]
        if chance.random() < 0.7:
            write(runner, f"{STATE}\\jobs\\host_{run_id}\\result.txt")
    with runner.fleet.locked():
        theirs = [runner.running.host.shadows.add_foreign("D:\\", **values).shadow_id for values in ({}, {"context": "ClientAccessible"})]
        now = runner.running.host.clock.now()
    later(runner, 5 * HOUR)
    for run_id, lives in alive.items():
        expires = now + timedelta(hours=5, minutes=19) if lives else now
        if lives or chance.random() < 0.5:
            write(runner, f"{STATE}\\leases\\{run_id}\\{expires.strftime('%Y%m%dT%H%M%SZ')}_{run_id}_aaaaaaaaaaaa.lease")
    before = held(runner)
    done = clean(runner, remove=True, older_than="2h")
    dead = {run_id for run_id, lives in alive.items() if not lives}
    assert {item["run_id"] for item in done["removed"]} <= dead
    assert done["leftovers"] == []
    with runner.fleet.locked():
        assert set(theirs) <= {one.shadow_id for one in runner.running.host.shadows.copies}
    kept = {part: [name for name in things if any(run_id in name for run_id, lives in alive.items() if lives)]
            for part, things in before.items() if part in ("intents", "jobs", "leases")}
    assert {part: [name for name in held(runner).get(part, []) if name in kept[part]] for part in kept} == kept
    assert {made[run_id] for run_id, lives in alive.items() if lives and run_id in made} <= set(held(runner).get("shadows", []))
    assert not {made[run_id] for run_id in dead & set(made)} & set(held(runner).get("shadows", []))
    assert copies(runner) == ["first:complete"]
    if not any(alive.values()):
        assert not set(held(runner)) - {"leases", "jobs"}
