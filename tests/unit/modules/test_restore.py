# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_restore`` against simulated hosts: the bytes come back, on their own host and on one that never saw the machine."""
from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import restore_intents
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_intents import RestoreIntent
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.restore_marks import RestoreMark
from ansible_collections.agentless.hyperv.plugins.modules import (
    hyperv_cleanup,
    hyperv_export,
    hyperv_restore,
    hyperv_restore_info,
    hyperv_vss_copy,
)
from simulator.cim.model import Account
from simulator.disks.proof import inspect
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.hyperv.knobs import DESTROY_SYSTEM_JOB, REALIZE_JOB
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, HyperVSettings, NicSpec, VmSpec
from simulator.soap import rules
from simulator.spec import HostSpec
from simulator.windows.spec import ShareSpec, VolumeSpec
from support.exported import digest, export, machine_of, walk

from .conftest import ADMINISTRATOR, PASSWORD, Runner

Start = Callable[..., Any]
MIB = 1024 * 1024
VM = "0A1B2C3D-0000-4000-8000-00000000ABCD"
STATE = "C:\\ProgramData\\agentless.hyperv"
BACKUP, PLACE = "E:\\Backup", "D:\\Restored"
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"))


def site(start: Start, *more: VmSpec, **changes: Any) -> Any:
    vm = VmSpec(**{"name": "sql01", "vm_id": VM, "folder": "D:\\VMs\\sql01", "disks": (DiskSpec(size=16 * MIB),), "memory_mb": 64,
                   "notes": "the shop", **changes})
    runner = start(volumes=VOLUMES, vms=(vm, *more))
    host_of(runner).files.create_directory(BACKUP)
    return runner


def host_of(runner: Any) -> Any:
    return runner.running.host


def restore(runner: Any, **params: Any) -> dict[str, Any]:
    given = {"name": "sql01", "destination": BACKUP, "location": PLACE, "new_name": "sql01-new", **params}
    result: dict[str, Any] = runner.run(hyperv_restore, **{key: value for key, value in given.items() if value is not None})
    return result


def left(runner: Any) -> list[str]:
    host = host_of(runner)
    found = [f"planned {one.name}" for one in host.hyperv.planned.values()]
    for part in ("intents", "jobs", "leases"):
        found += [f"{part} {path}" for path in walk(host, f"{STATE}\\{part}")] if host.files.exists(STATE) else []
    return found + [task.uri for task in host.tasks.tasks() if "agentless" in task.uri]


def no_files(runner: Any, place: str = PLACE) -> bool:
    host = host_of(runner)
    return not host.files.exists(place) or not list(walk(host, place))


def take_to(other: Any, runner: Any) -> None:
    """The destination alone goes to another host."""
    source, target = host_of(runner).files.resolve(BACKUP).real, host_of(other).files.resolve(BACKUP).real
    shutil.copytree(source, target, dirs_exist_ok=True)


def images(runner: Any, folder: str) -> list[str]:
    return sorted(path for path in walk(host_of(runner), folder) if path.lower().endswith((".vhdx", ".avhdx")))


def same_disks(runner: Any, folder: str, made: Any, source: Any = None) -> bool:
    """Every disk of a machine is the file of that name in a backup: byte for byte, and as the independent reader sees it."""
    host, origin = host_of(runner), host_of(source or runner)
    for disk in made.disks:
        name = disk.leaf.path.rpartition("\\")[2]
        there, here = f"{folder}\\Virtual Hard Disks\\{name}", disk.leaf.path
        if digest(host, here) != digest(origin, there) or inspect(host.files.real_path(here)) != inspect(origin.files.real_path(there)):
            return False
    return bool(made.disks)


def refused(runner: Any, **params: Any) -> HypervError:
    with pytest.raises(HypervError) as error:
        restore(runner, **params)
    assert (left(runner), no_files(runner)) == ([], True)
    return error.value


def failed(runner: Any, **params: Any) -> dict[str, Any]:
    """A restore that began and failed: nothing of it stays."""
    result = restore(runner, **params)
    assert result["failed"] is True
    assert (left(runner), no_files(runner), result["leftovers"], result["vm"]["vm_id"]) == ([], True, [], None)
    return result


def test_a_machine_comes_back_with_every_byte(start: Start) -> None:
    runner = site(start)
    host = host_of(runner)
    folder = export(host, "sql01", BACKUP)
    result = restore(runner)
    assert result.get("failed") is None, result
    assert (result["changed"], result["vm"]["name"], result["leftovers"]) == (True, "sql01-new", [])
    made = host.hyperv.machines[result["vm"]["vm_id"]]
    assert (made.id != VM, made.name, made.state, made.notes.splitlines()[0]) == (True, "sql01-new", "off", "the shop")
    assert [nic.switch for nic in made.spec.nics] == [None]
    assert all(disk.leaf.path.startswith(result["folder"] + "\\") for disk in made.disks)
    assert same_disks(runner, folder, made)
    assert left(runner) == []
    again = restore(runner)
    assert (again["changed"], again["vm"]["vm_id"]) == (False, result["vm"]["vm_id"])
    other = restore(runner, new_name="sql01-other")
    assert (other["changed"], other["vm"]["vm_id"] != result["vm"]["vm_id"]) == (True, True)


@pytest.mark.parametrize("paths", ["export", "source"])
def test_on_a_host_that_never_saw_it_from_the_target_alone(start: Start, paths: str) -> None:
    origin = site(start, nics=(NicSpec(switch="Production"),))
    host_of(origin).hyperv.knobs.exported_paths = paths
    folder = export(host_of(origin), "sql01", BACKUP)
    other = start(name="HV02", volumes=VOLUMES)
    host_of(other).files.create_directory(BACKUP)
    take_to(other, origin)
    result = restore(other)
    assert result.get("failed") is None, result
    made = host_of(other).hyperv.machines[result["vm"]["vm_id"]]
    assert same_disks(other, folder, made, origin)
    assert (result["backup"]["host"], [nic.switch for nic in made.spec.nics], left(other)) == ("HV01", [None], [])


@pytest.mark.parametrize(("params", "state", "quiesced"), [
    ({}, "off", True), ({"consistency": "crash", "verify": "sha256"}, "off", False), ({"consistency": "image"}, "saved", False)])
def test_the_whole_way_from_an_export_of_ours_and_back(start: Start, params: dict[str, Any], state: str, quiesced: bool) -> None:
    vm = VmSpec("sql01", vm_id=VM, disks=(DiskSpec("D:\\VMs\\a.vhdx", size=16 * MIB),), memory_mb=32, policy="production_only")
    runner = start(volumes=VOLUMES, vms=(vm,), guest_writes={"sql01": 20.0})
    host = host_of(runner)
    host.clock.advance(5.0)
    exported = runner.run(hyperv_export, name="sql01", destination=BACKUP, **params)
    folder = exported["export"]["folder"]
    promised = {file["path"]: digest(host, f"{folder}\\{file['path']}") for file in exported["manifest"]["files"]}
    result = restore(runner)
    assert result.get("failed") is None, result
    made = host.hyperv.machines[result["vm"]["vm_id"]]
    assert (made.state, same_disks(runner, folder, made), left(runner)) == (state, True, [])
    proof = inspect(host.files.real_path(made.disks[0].leaf.path))
    assert (proof.consistent, proof.quiesced, proof.last > 0) == (True, quiesced, True)
    assert promised == {path: digest(host, f"{folder}\\{path}") for path in promised}
    assert result["unknowns"] == ([] if "verify" in params else ["the manifest has no hashes: only sizes and both ends of the copy were "
                                                                 "compared"])


@pytest.mark.parametrize("paths", ["export", "source"])
def test_a_disk_that_the_export_left_out_is_left_out(start: Start, paths: str) -> None:
    disks = (DiskSpec("D:\\VMs\\a.vhdx", size=4 * MIB), DiskSpec("D:\\VMs\\scratch.vhdx", size=4 * MIB))
    runner = start(volumes=VOLUMES, vms=(VmSpec("sql01", vm_id=VM, disks=disks, memory_mb=32),))
    host = host_of(runner)
    host.hyperv.knobs.exported_paths = paths
    runner.run(hyperv_export, name="sql01", destination=BACKUP, consistency="crash", exclude_disks=["D:\\VMs\\scratch.vhdx"])
    result = restore(runner)
    assert result.get("failed") is None, result
    made = host.hyperv.machines[result["vm"]["vm_id"]]
    assert [disk.leaf.path.rpartition("\\")[2] for disk in made.disks if disk.leaf] == ["a.vhdx"]
    assert any("scratch.vhdx" in warning for warning in runner.told.warnings)


def test_networks_are_mapped(start: Start) -> None:
    runner = site(start, nics=(NicSpec(switch="LAN"), NicSpec("second", switch="DMZ")))
    export(host_of(runner), "sql01", BACKUP)
    assert refused(runner, networks={"lan": "Nowhere"}).error_code == "switch_not_found"
    result = restore(runner, networks={"lan": "DMZ"})
    assert result.get("failed") is None, result
    made = host_of(runner).hyperv.machines[result["vm"]["vm_id"]]
    assert [nic.switch for nic in made.spec.nics] == ["DMZ", None]


def test_which_backup(start: Start) -> None:
    runner = site(start)
    host = host_of(runner)
    export(host, "sql01", BACKUP, run_id="first")
    between = host.clock.now().isoformat()
    host.clock.advance(3600)
    export(host, "sql01", BACKUP, run_id="second")
    assert [restore(runner, check=True, **how)["backup"]["backup_id"] for how in (
        {}, {"not_after": between}, {"backup_id": "first"}, {"vm_id": VM, "name": None})] == ["second", "first", "first", "second"]
    assert refused(runner, not_after="2001-01-01T00:00:00Z").error_code == "backup_not_found"
    assert "'sql01'" in (refused(runner, name="other").hint or "")


def test_check_mode_looks_at_everything_and_writes_nothing(start: Start) -> None:
    runner = site(start)
    export(host_of(runner), "sql01", BACKUP)
    host_of(runner).changes = 0
    result = restore(runner, check=True, start=True)
    assert (result["changed"], host_of(runner).changes, result["vm"]["vm_id"]) == (True, 0, None)
    assert [step["action"] for step in result["diff"]["after"]["steps"]] == ["copy", "import", "start"]


# -- damage --------------------------------------------------------------------------------------------------------------


def damage(runner: Any, path: str, how: str) -> None:
    real = host_of(runner).files.resolve(path).real
    data = bytearray(real.read_bytes())
    if how == "truncated":
        data = data[:-min(4096, len(data) // 2)]
    else:
        data[len(data) // 2] ^= 1
    real.write_bytes(data)


def test_one_flipped_bit_is_found_and_the_file_is_named(start: Start) -> None:
    runner = site(start)
    folder = export(host_of(runner), "sql01", BACKUP)
    (disk,) = images(runner, folder)
    damage(runner, f"{folder}\\{disk}", "flipped")
    result = failed(runner)
    assert (result["error_code"], result["damaged"], disk in result["msg"]) == ("backup_damaged", [disk], True)


def test_a_truncated_file_is_found_before_anything_is_copied(start: Start) -> None:
    runner = site(start)
    folder = export(host_of(runner), "sql01", BACKUP)
    (disk,) = images(runner, folder)
    damage(runner, f"{folder}\\{disk}", "truncated")
    error = refused(runner)
    assert (error.error_code, error.details["damaged"]) == ("backup_incomplete", [disk])


def test_a_damaged_manifest_is_no_backup_and_is_told(start: Start) -> None:
    runner = site(start)
    host = host_of(runner)
    folder = export(host, "sql01", BACKUP, run_id="only")
    damage(runner, f"{folder}\\manifest.json", "truncated")
    error = refused(runner)
    assert (error.error_code, error.details["damaged"]) == ("backup_not_found", [folder])
    assert refused(runner, name=None, folder=folder).error_code == "manifest_damaged"
    host.clock.advance(60)
    export(host, "sql01", BACKUP, run_id="good")
    host.clock.advance(60)
    newer = export(host, "sql01", BACKUP, run_id="newer")
    damage(runner, f"{newer}\\manifest.json", "truncated")
    assert restore(runner, check=True)["backup"]["backup_id"] == "good"
    assert any(newer in warning for warning in runner.told.warnings)


def test_a_definition_of_another_machine_is_not_believed(start: Start) -> None:
    runner = site(start, VmSpec("web01", folder="D:\\VMs\\web01", disks=(DiskSpec(size=16 * MIB),), memory_mb=64))
    host = host_of(runner)
    folder, other = (export(host, name, BACKUP, hashes=False) for name in ("sql01", "web01"))
    mine, theirs = (next(path for path in walk(host, one) if path.endswith(".vmcx")) for one in (folder, other))
    data = host.files.resolve(f"{other}\\{theirs}").real.read_bytes()
    place = host.files.resolve(f"{folder}\\{mine}").real
    place.write_bytes(data.ljust(place.stat().st_size)[:place.stat().st_size])
    assert refused(runner).error_code == "backup_damaged"


def test_a_copy_of_disks_alone_is_refused_with_advice(start: Start) -> None:
    runner = site(start)
    runner.run(hyperv_vss_copy, name="sql01", destination=BACKUP)
    error = refused(runner)
    assert (error.error_code, "docs/restore.md" in (error.hint or "")) == ("no_configuration", True)


# -- what a host cannot take ---------------------------------------------------------------------------------------------


def elsewhere(start: Start, origin: Any, **host: Any) -> Any:
    other = start(**{"name": "HV02", "volumes": VOLUMES, **host})
    host_of(other).files.create_directory(BACKUP)
    take_to(other, origin)
    return other


def test_a_newer_version_is_refused_before_anything_is_copied(start: Start) -> None:
    origin = site(start, version="12.0")
    export(host_of(origin), "sql01", BACKUP)
    error = refused(origin)
    assert (error.error_code, error.details) == ("version_not_supported", {"version": "12.0", "supported": "10.0"})


def test_a_host_says_everything_that_it_cannot_take(start: Start) -> None:
    origin = site(start, processors=8, memory_mb=4096)
    export(host_of(origin), "sql01", BACKUP)
    other = elsewhere(start, origin, hyperv=HyperVSettings(memory_mb=1024, processors=2))
    result = failed(other)
    assert (result["error_code"], len(result["incompatibilities"])) == ("not_compatible", 2)
    assert {one["code"] for one in result["incompatibilities"]} == {"other_incompatibility"}
    assert all(one["message_id"] and one["text"] and one["advice"] for one in result["incompatibilities"])


def test_a_deep_check_makes_nothing_and_says_everything(start: Start) -> None:
    origin = site(start, processors=8, memory_mb=4096)
    export(host_of(origin), "sql01", BACKUP)
    other = elsewhere(start, origin, hyperv=HyperVSettings(memory_mb=1024))
    given = {"deep_check": True, "location": None, "new_name": None}
    result = restore(other, **given)
    assert (result["failed"], result["changed"], len(result["incompatibilities"]), left(other)) == (True, False, 1, [])
    assert no_files(other)
    good = restore(origin, **given)
    assert (good.get("failed"), good["changed"], good["incompatibilities"], left(origin)) == (None, False, [], [])
    assert not host_of(origin).files.exists(PLACE)


def test_the_volume_is_too_small(start: Start) -> None:
    origin = site(start)
    export(host_of(origin), "sql01", BACKUP)
    other = elsewhere(start, origin, volumes=(VolumeSpec("C:"), VolumeSpec("D:", free=4 * MIB), VolumeSpec("E:")))
    assert refused(other).error_code == "not_enough_space"


# -- in place ------------------------------------------------------------------------------------------------------------


IN_PLACE = {"mode": "in_place", "new_name": None}


def test_in_place_where_the_machine_is_gone(start: Start) -> None:
    origin = site(start)
    folder = export(host_of(origin), "sql01", BACKUP)
    other = elsewhere(start, origin)
    result = restore(other, **IN_PLACE)
    assert result.get("failed") is None, result
    made = host_of(other).hyperv.machines[VM]
    assert (made.name, same_disks(other, folder, made, origin), "replaced" in result, left(other)) == ("sql01", True, False, [])
    assert restore(other, **IN_PLACE)["changed"] is False


def test_in_place_replaces_only_with_consent_and_never_touches_the_old_disks(start: Start) -> None:
    runner = site(start, state="off")
    host = host_of(runner)
    folder = export(host, "sql01", BACKUP)
    old = machine_of(host, "sql01").disks[0].leaf.path
    before = digest(host, old)
    assert refused(runner, **IN_PLACE).error_code == "vm_exists"
    result = restore(runner, old_vm="unregister", **IN_PLACE)
    assert result.get("failed") is None, result
    assert result["replaced"] == {"vm_id": VM, "name": "sql01", "disks": [old]}
    made = host.hyperv.machines[VM]
    assert (made.disks[0].leaf.path != old, digest(host, old) == before, same_disks(runner, folder, made)) == (True, True, True)
    assert restore(runner, old_vm="unregister", **IN_PLACE)["changed"] is False
    again = restore(runner, old_vm="unregister", force=True, **IN_PLACE)
    assert (again["changed"], again["replaced"]["disks"]) == (True, [made.disks[0].leaf.path])


@pytest.mark.parametrize("identity", ["checkpoint", "machine"])
def test_in_place_needs_a_backup_that_holds_the_identity(start: Start, identity: str) -> None:
    origin = site(start, policy="production_only", disks=(DiskSpec(size=4 * MIB),))
    host_of(origin).hyperv.knobs.exported_checkpoint_id = identity
    origin.run(hyperv_export, name="sql01", destination=BACKUP, allow_same_volume=True)
    other = elsewhere(start, origin)
    if identity == "checkpoint":
        assert refused(other, **IN_PLACE).error_code == "identity_not_in_backup"
    else:
        assert (restore(other, **IN_PLACE)["changed"], list(host_of(other).hyperv.machines)) == (True, [VM])


def test_a_destruction_whose_answer_was_lost_is_one(start: Start) -> None:
    """The host may answer a second request with a code: the machine is gone, and that is what counts."""
    runner = site(start)
    host = host_of(runner)
    export(host, "sql01", BACKUP)
    host.rules.add(rules.lost_after(), when=lambda view: view.operation.endswith(".DestroySystem"))
    given: dict[str, Any] = {"deep_check": True, "location": None, "new_name": None}
    result = restore(runner, **given)
    assert (result.get("failed"), result["leftovers"], left(runner)) == (None, [], [])


def test_in_place_leaves_a_machine_alone_that_is_not_off(start: Start) -> None:
    runner = site(start)
    export(host_of(runner), "sql01", BACKUP)
    assert refused(runner, old_vm="unregister", **IN_PLACE).error_code == "vm_not_off"


def test_the_old_machine_stays_when_this_host_cannot_take_the_backup(start: Start) -> None:
    runner = site(start, state="off", processors=8)
    host = host_of(runner)
    export(host, "sql01", BACKUP)
    host.hyperv.settings = HyperVSettings(processors=2)
    result = restore(runner, old_vm="unregister", **IN_PLACE)
    assert (result["error_code"], "replaced" in result, VM in host.hyperv.machines) == ("not_compatible", False, True)
    assert (left(runner), no_files(runner)) == ([], True)


def test_a_planned_machine_of_somebody_else_is_in_the_way_and_stays(start: Start) -> None:
    origin = site(start)
    export(host_of(origin), "sql01", BACKUP)
    other = elsewhere(start, origin, vms=(VmSpec("sql01", vm_id=VM, planned=True, disks=(), folder="D:\\x"),))
    with pytest.raises(HypervError) as error:
        restore(other, **IN_PLACE)
    assert (error.value.error_code, list(host_of(other).hyperv.planned)) == ("planned_vm_in_the_way", [VM])
    result = restore(other)
    assert (result["changed"], list(host_of(other).hyperv.planned)) == (True, [VM])


# -- trees and exports of others -----------------------------------------------------------------------------------------


def test_a_machine_with_its_checkpoints(start: Start) -> None:
    runner = site(start, checkpoints=(CheckpointSpec("a", "one"), CheckpointSpec("b", "two", parent="a")))
    host = host_of(runner)
    folder = export(host, "sql01", BACKUP, mode=0)
    result = restore(runner)
    assert result.get("failed") is None, result
    made = host.hyperv.machines[result["vm"]["vm_id"]]
    assert [one.name for one in made.checkpoints.values()] == ["one", "two"]
    assert all(link.path.startswith(result["folder"]) for disk in made.disks for link in disk.leaf.chain())
    assert (len(images(runner, folder)), len(images(runner, result["folder"])), left(runner)) == (3, 3, [])


def test_an_export_without_a_manifest_needs_consent(start: Start) -> None:
    runner = site(start)
    folder = export(host_of(runner), "sql01", BACKUP, manifest=False)
    named = {"name": None, "destination": None, "folder": folder}
    assert refused(runner, **named).error_code == "backup_not_proved"
    result = restore(runner, accept_unproved=True, **named)
    assert result.get("failed") is None, result
    assert (result["backup"]["proved"], len(result["unknowns"])) == (False, 1)
    assert same_disks(runner, folder, host_of(runner).hyperv.machines[result["vm"]["vm_id"]])
    assert restore(runner, accept_unproved=True, **named)["changed"] is False


# -- start and drill -----------------------------------------------------------------------------------------------------


def test_it_is_started_and_its_guest_answers(start: Start) -> None:
    runner = site(start)
    export(host_of(runner), "sql01", BACKUP)
    result = restore(runner, wait_for_heartbeat=True)
    assert result.get("failed") is None, result
    assert (result["guest"]["heartbeat"], result["recovery_seconds"] >= 25) == ("ok", True)
    assert host_of(runner).hyperv.machines[result["vm"]["vm_id"]].state == "running"


def test_a_guest_that_never_answers_is_told_and_stays(start: Start) -> None:
    runner = site(start)
    export(host_of(runner), "sql01", BACKUP)
    host_of(runner).hyperv.knobs.never_boots.add("sql01-new")
    result = restore(runner, wait_for_heartbeat=True, heartbeat_timeout=60)
    assert (result["failed"], result["error_code"], result["leftovers"], left(runner)) == (True, "no_heartbeat", [], [])
    assert result["vm"]["vm_id"] in host_of(runner).hyperv.machines


DRILL = {"mode": "drill", "new_name": None, "location": "D:\\Drill", "run_id": "drill-1"}


def earlier_evidence(host: Any, vm_folder: str, *endings: str) -> list[str]:
    """Files of two earlier drills, and one that only looks like it."""
    folder = f"{BACKUP}\\restore_drills\\{vm_folder}"
    host.files.create_directory(f"{BACKUP}\\restore_drills")
    host.files.create_directory(folder)
    paths = [f"{folder}\\20200{month}01T000000Z_{run}.{ending}" for month, run in ((1, "drill-1"), (2, "drill-10")) for ending in endings]
    for path in (*paths, f"{folder}\\20200301T000000Z_drill 1.json"):
        host.files.write_file(path, b"{}")
    return paths


def test_a_drill_leaves_evidence_and_nothing_else(start: Start) -> None:
    evil = 'sql "<b>{{ 1 + 1 }}%PATH%\u202e'
    runner = site(start, name=evil, memory_mb=32)
    host = host_of(runner)
    export(host, evil, BACKUP)
    others = {path: digest(host, f"{BACKUP}\\{path}") for path in walk(host, BACKUP)}
    older = earlier_evidence(host, f"sql_b_1_1_PATH_{VM[:8]}", "json", "xml", "html")
    predicted = runner.run(hyperv_restore, check=True, name=evil, destination=BACKUP, evidence_keep={"last": 2}, **DRILL)
    assert [step["target"] for step in predicted["diff"]["after"]["steps"] if step["action"] == "prune_evidence"] == [
        "20200101T000000Z_drill-1"]
    result = restore(runner, name=evil, evidence_keep={"last": 2}, **DRILL)
    assert result.get("failed") is None, result
    assert (result["evidence_pruned"], [host.files.exists(path) for path in older]) == ([older[0][:-5]], [False] * 3 + [True] * 3)
    for path in (*older[3:], older[3].replace("0201T", "0301T").replace("drill-10", "drill 1")):
        host.files.remove_file(host.files.resolve(path))
    assert (result["drill"]["outcome"], result["recovery_seconds"] > 25, result["leftovers"]) == ("passed", True, [])
    assert (list(host.hyperv.machines), left(runner), no_files(runner, "D:\\Drill")) == ([VM], [], True)
    assert list(host.files.children(host.files.resolve("D:\\Drill\\HV01"))) == [], "no empty folder for each drill"
    written = set(walk(host, BACKUP)) - set(others)
    assert sorted(path.rpartition(".")[2] for path in written) == ["html", "json", "xml"]
    assert all(digest(host, f"{BACKUP}\\{path}") == known for path, known in others.items())
    page = host.files.read_file(result["evidence"] + ".html").decode("ascii")
    assert ("<b>{{" in page, "&lt;b&gt;" in page, "\\u202e" in page) == (False, True, True)


def test_a_drill_whose_time_is_over_removes_its_machine_all_the_same(start: Start) -> None:
    runner = site(start)
    host = host_of(runner)
    export(host, "sql01", BACKUP)
    host.hyperv.knobs.never_boots.add("sql01 (drill drill-1)")
    host.hyperv.knobs.job_seconds[DESTROY_SYSTEM_JOB] = 60.0
    result = restore(runner, timeout=120, heartbeat_timeout=200, **DRILL)
    assert (result["error_code"], result["leftovers"]) == ("no_heartbeat", [])
    assert (list(host.hyperv.machines), left(runner), no_files(runner, "D:\\Drill")) == ([VM], [], True)


def test_a_realisation_without_an_answer_is_waited_for_and_not_repeated(start: Start) -> None:
    runner = site(start)
    host = host_of(runner)
    export(host, "sql01", BACKUP)
    host.hyperv.knobs.job_seconds[REALIZE_JOB] = 60.0
    asked = host.rules.add(rules.lost_after(), "Invoke *.RealizePlannedSystem")
    result = restore(runner)
    assert (result.get("failed"), asked.seen, left(runner)) == (None, 1, [])


def test_a_drill_that_fails_leaves_evidence_too(start: Start) -> None:
    runner = site(start)
    host = host_of(runner)
    export(host, "sql01", BACKUP)
    host.hyperv.knobs.never_boots.add("sql01 (drill drill-1)")
    older = earlier_evidence(host, f"sql01_{VM[:8]}", "json")
    result = restore(runner, heartbeat_timeout=60, evidence_keep={"last": 1}, **DRILL)
    assert (result["error_code"], result["drill"]["outcome"], result["leftovers"]) == ("no_heartbeat", "failed", [])
    assert all(host.files.exists(path) for path in older), "only a drill that passed removes the evidence of others"
    assert (list(host.hyperv.machines), left(runner), no_files(runner, "D:\\Drill")) == ([VM], [], True)
    assert host.files.exists(result["evidence"] + ".xml")


@pytest.mark.parametrize(("vm", "code"), [({"tpm": True}, "needs_guardian"), ({"memory_mb": 900_000}, "not_enough_memory"),
                                          ({"version": "12.0"}, "version_not_supported")])
def test_a_drill_that_cannot_be_held_here_is_refused_with_evidence(start: Start, vm: dict[str, Any], code: str) -> None:
    runner = site(start, state="off", **vm)
    export(host_of(runner), "sql01", BACKUP)
    error = refused(runner, **DRILL)
    assert (error.error_code, error.details["drill"]["outcome"]) == (code, "refused")
    assert host_of(runner).files.exists(error.details["evidence"] + ".json")


def test_a_host_that_drops_notes_when_a_machine_becomes_real(start: Start) -> None:
    runner = site(start)
    host = host_of(runner)
    host.hyperv.knobs.realising_keeps_notes = False
    export(host, "sql01", BACKUP)
    made = restore(runner)
    assert (made["changed"], restore(runner)["changed"], left(runner)) == (True, False, [])
    assert restore(runner, **DRILL)["drill"]["outcome"] == "passed"
    assert (set(host.hyperv.machines), left(runner)) == ({VM, made["vm"]["vm_id"]}, [])


def test_no_drill_on_the_host_of_the_replica(start: Start) -> None:
    origin = site(start, state="off")
    export(host_of(origin), "sql01", BACKUP)
    replica = VmSpec("sql01", vm_id=VM, folder="D:\\R", disks=(DiskSpec(size=4 * MIB),), state="off", replication_mode=2)
    other = elsewhere(start, origin, vms=(replica,))
    assert refused(other, **DRILL).error_code == "replica_vm"


# -- what interrupted runs left ------------------------------------------------------------------------------------------


def test_a_planned_machine_of_ours_goes_and_that_of_somebody_else_is_told(start: Start) -> None:
    ours, theirs = "0A1B2C3D-0000-4000-8000-00000000AAAA", "0A1B2C3D-0000-4000-8000-00000000BBBB"
    mark = RestoreMark(ours, VM, "nightly-1", "dead-1", "new").line()
    runner = start(volumes=VOLUMES, vms=(
        VmSpec("sql01-new", vm_id=ours, planned=True, disks=(), folder="D:\\a", notes=mark),
        VmSpec("copied mark", vm_id=theirs, planned=True, disks=(), folder="D:\\b", notes=mark)))
    looked = runner.run(hyperv_cleanup)
    assert {one["id"]: (one["kind"], one["status"]) for one in looked["found"]} == {
        ours: ("planned_vm", "removable"), theirs: ("foreign_planned_vm", "foreign")}
    done = runner.run(hyperv_cleanup, remove=True)
    assert ([one["id"] for one in done["removed"]], list(host_of(runner).hyperv.planned)) == ([ours], [theirs])
    assert runner.run(hyperv_cleanup, remove=True)["changed"] is False


@pytest.mark.parametrize("marked", [True, False])
def test_a_machine_of_an_interrupted_drill_goes_and_its_files(start: Start, marked: bool) -> None:
    runner = site(start)
    host = host_of(runner)
    export(host, "sql01", BACKUP)
    made = restore(runner, run_id="drill-9", start=True)
    machine = host.hyperv.machines[made["vm"]["vm_id"]]
    machine.notes = machine.notes.replace("mode=new", "mode=drill") if marked else ""  # as a drill leaves it whose controller died
    intent = RestoreIntent("drill-9", "0123ABCD", host.clock.now(), "drill", VM, "sql01", machine.name, "nightly-1", made["folder"])
    host.files.write_file(f"{STATE}\\intents\\{restore_intents.STORE.file_name(intent)}", restore_intents.STORE.dump(intent))
    young = runner.run(hyperv_cleanup, remove=True, older_than="1h")
    assert ({one["status"] for one in young["found"]}, young["changed"]) == ({"too_young"}, False)
    host.clock.advance(2 * 3600)
    done = runner.run(hyperv_cleanup, remove=True, older_than="1h")
    assert {one["kind"] for one in done["removed"]} == {"drill_vm", "restored_files", "intent"}
    assert (list(host.hyperv.machines), left(runner), no_files(runner)) == ([VM], [], True)


def test_an_intent_that_was_forgotten_takes_nothing_of_a_machine_with_it(start: Start) -> None:
    runner = site(start)
    host = host_of(runner)
    export(host, "sql01", BACKUP)
    made = restore(runner, run_id="restore-9")
    intent = RestoreIntent("restore-9", "0123ABCD", host.clock.now(), "new", VM, "sql01", "sql01-new", "nightly-1", made["folder"])
    host.files.write_file(f"{STATE}\\intents\\{restore_intents.STORE.file_name(intent)}", restore_intents.STORE.dump(intent))
    host.clock.advance(2 * 3600)
    done = runner.run(hyperv_cleanup, remove=True)
    assert [one["kind"] for one in done["removed"]] == ["intent"]
    assert all(host.files.exists(disk.leaf.path) for disk in host.hyperv.machines[made["vm"]["vm_id"]].disks)


def test_the_volume_fills_up_while_files_arrive(start: Start) -> None:
    origin = site(start)
    export(host_of(origin), "sql01", BACKUP)
    small = VolumeSpec("D:", size=1024 * MIB, free=90 * MIB)
    other = elsewhere(start, origin, volumes=(VolumeSpec("C:"), small, VolumeSpec("E:")))
    host = host_of(other)
    host.rules.add(rules.Effect("full", before=lambda: host.files.write_file("D:\\filler.bin", b"x" * (85 * MIB))), nth=1,
                   when=lambda view: "RegisterByXml" in view.operation)
    result = restore(other)
    assert (result["error_code"], result["leftovers"], left(other), no_files(other)) == ("destination_full", [], [], True)


def test_files_are_copied_in_the_session(start: Start) -> None:
    runner = site(start)
    folder = export(host_of(runner), "sql01", BACKUP)
    result = restore(runner, run_as="session")
    assert (result.get("failed"), left(runner)) == (None, [])
    assert same_disks(runner, folder, host_of(runner).hyperv.machines[result["vm"]["vm_id"]])


@pytest.mark.parametrize("chosen", [{}, {"name": None, "destination": None, "folder": True}])
def test_a_share_that_knows_no_computer_accounts_is_read_by_an_account(tmp_path: Path, chosen: dict[str, Any]) -> None:
    """A NAS of a workgroup: the host itself cannot look at what lies there, so everything is judged once it has arrived."""
    copier = Account("copier", PASSWORD, groups=frozenset({"Administrators"}))
    share = ShareSpec("backup", "E:\\backup", ("NAS\\copier",))
    nas = FileServerSpec("NAS", None, (VolumeSpec("C:"), VolumeSpec("E:")), (share,), (copier,))
    vm = VmSpec("sql01", vm_id=VM, folder="D:\\VMs\\sql01", disks=(DiskSpec(size=4 * MIB),), memory_mb=32)
    host = HostSpec("HV01", domain="example.test", volumes=VOLUMES, vms=(vm,), accounts=(ADMINISTRATOR, copier))
    fleet = Fleet([host], tmp_path, file_servers=[nas])
    fleet.start()
    try:
        runner = Runner(fleet, fleet.hosts["HV01"])
        with fleet.locked():
            host_of(runner).files.create_directory(BACKUP)
            folder = export(host_of(runner), "sql01", BACKUP)
            there = fleet.file_servers["NAS"].files.real_path("E:\\backup")
            shutil.copytree(host_of(runner).files.real_path(BACKUP), there, dirs_exist_ok=True)
        at = folder.replace(BACKUP, "\\\\NAS\\backup")
        given = {"destination": "\\\\NAS\\backup", **chosen, **({"folder": at} if chosen else {})}
        result = restore(runner, run_as="account", run_as_user="HV01\\copier", run_as_password=PASSWORD, **given)
        assert (result.get("failed"), left(runner)) == (None, []), result
        assert same_disks(runner, folder, host_of(runner).hyperv.machines[result["vm"]["vm_id"]])
        assert PASSWORD not in str(result)
    finally:
        fleet.stop()


# -- what there is -------------------------------------------------------------------------------------------------------


def test_what_can_be_brought_back_and_what_was_never_proved(start: Start) -> None:
    runner = site(start, VmSpec("web01", folder="D:\\VMs\\web01", disks=(DiskSpec(size=4 * MIB),), memory_mb=32),
                  VmSpec("tpm01", folder="D:\\VMs\\tpm01", disks=(DiskSpec(size=4 * MIB),), memory_mb=32, tpm=True))
    host = host_of(runner)
    for name in ("sql01", "web01", "tpm01"):
        export(host, name, BACKUP)
    restore(runner, name="web01", **DRILL)
    seen = runner.run(hyperv_restore_info, destination=BACKUP)
    assert [(one["vm"]["name"], one["last_drill"] and one["last_drill"]["outcome"], one["refusal"] and one["refusal"]["error_code"])
            for one in seen["results"]] == [("sql01", None, None), ("tpm01", None, "needs_guardian"), ("web01", "passed", None)]
    assert [one["vm"]["name"] for one in runner.run(hyperv_restore_info, destination=BACKUP, vms=["SQL*", VM])["results"]] == ["sql01"]


def test_requests(start: Start) -> None:
    runner = site(start)
    host = host_of(runner)
    export(host, "sql01", BACKUP)

    def cost(**params: Any) -> int:
        before = host.counters.snapshot()
        restore(runner, **params)
        used = host.counters.since(before).by_operation
        return sum(count for operation, count in used.items() if operation not in ("Pull", "Shell Receive", "Get"))

    assert cost() <= 90
    assert cost() <= 16
