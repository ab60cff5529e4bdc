# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_export``: what it makes of machines in every state, what it proves, what it refuses, and what is left afterwards: nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_checkpoint, hyperv_cleanup, hyperv_export
from jsonschema import validate
from simulator.hyperv.spec import MIB, CheckpointSpec, DiskSpec, IntegrationSpec, VmSpec
from simulator.soap import rules
from simulator.windows.spec import VolumeSpec

from .conftest import Runner

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "manifest.schema.json").read_text(encoding="utf-8"))
BASE = "E:\\Exports"
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"))
Start = Callable[..., Runner]


def machine(name: str, **values: Any) -> VmSpec:
    return VmSpec(name, **{"disks": (DiskSpec(f"D:\\VMs\\{name}\\a.vhdx", size=4 * MIB),), "policy": "production_only", **values})


def start_with(start: Start, *vms: VmSpec, **spec: Any) -> Runner:
    return start(**{"volumes": VOLUMES, "vms": vms or (machine("a"),), **spec})


def export(runner: Runner, *, check: bool = False, **params: Any) -> dict[str, Any]:
    named = {} if "names" in params or "vm_id" in params else {"name": "a"}
    return runner.run(hyperv_export, check=check, **{"destination": BASE, **named, **params})


def real(runner: Runner, path: str) -> Path:
    with runner.fleet.locked():
        found: Path = runner.running.host.files.real_path(path)
    return found


def left_on_host(runner: Runner) -> dict[str, Any]:
    """What of ours is still on the host; nothing of it should be."""
    with runner.fleet.locked():
        host = runner.running.host
        found: dict[str, list[str]] = {"tasks": [task.name for task in host.tasks.tasks() if "agentless" in task.path]}
        for part in ("intents", "jobs", "leases"):
            place = f"C:\\ProgramData\\agentless.hyperv\\{part}"
            found[part] = [entry.parts[-1] for entry in host.files.children(host.files.resolve(place))] if host.files.exists(place) else []
        found["checkpoints"] = [one.name for vm in host.hyperv.machines.values() for one in vm.checkpoints.values()]
        found["busy"] = [vm.name for vm in host.hyperv.machines.values() if vm.busy]
    return {what: things for what, things in found.items() if things}


@pytest.mark.parametrize(
    ("state", "params", "method", "level"),
    [
        ("running", {}, "production_checkpoint", "application"),
        ("running", {"consistency": "crash"}, "live_crash", "crash"),
        ("running", {"consistency": "image"}, "live_saved", "image"),
        ("running", {"consistency": "crash", "live_data": True}, "live_data", "crash"),
        ("off", {"consistency": "image"}, "offline", "image"),
        ("saved", {"consistency": "crash"}, "offline", "image"),
        ("off", {"consistency_fallback": "image"}, "offline", "image"),
    ],
)
def test_each_way_makes_a_proved_export(start: Start, state: str, params: dict[str, Any], method: str, level: str) -> None:
    runner = start_with(start, machine("a", state=state))
    result = export(runner, **params)
    assert (result["changed"], result.get("failed"), result["export"]["method"], result["consistency"]["achieved"]) == (
        True, None, method, level,
    )
    folder = result["export"]["folder"]
    written = json.loads(real(runner, f"{folder}\\manifest.json").read_bytes())
    validate(written, SCHEMA)
    assert {key: result["manifest"][key] for key in written} == written
    there = {path.relative_to(real(runner, folder)).as_posix().replace("/", "\\"): path.stat().st_size
             for path in real(runner, folder).rglob("*") if path.is_file()}
    there.pop("manifest.json")
    assert there == {file["path"]: file["size"] for file in written["files"]}
    assert [disk["controller"] for disk in written["disks"] if disk["parent"] is None] == ["scsi"]
    assert written["needs"] == {"memory": 2048 * MIB, "processors": 2, "switches": ["LAN"]}
    assert {file["role"] for file in written["files"]} == {"configuration", "disk", "state", "guest_state", "guide"}
    assert (written["checkpoint"] is not None) == (method == "production_checkpoint")
    assert left_on_host(runner) == {}


def refused(runner: Runner, **params: Any) -> HypervError:
    with pytest.raises(HypervError) as error:
        export(runner, **params)
    return error.value


def changes(runner: Runner, action: Callable[[], Any]) -> int:
    """How many requests that may change the host an action took."""
    before = runner.running.host.counters.snapshot()
    action()
    return int(runner.running.host.counters.since(before).writing)


def knobs(runner: Runner) -> Any:
    return runner.running.host.hyperv.knobs


def test_a_second_run_finds_the_export_and_does_nothing(start: Start) -> None:
    runner = start_with(start)
    first = export(runner, consistency="crash", max_age="20h")
    second: dict[str, Any] = {}
    assert changes(runner, lambda: second.update(export(runner, consistency="crash", max_age="20h"))) == 0
    assert (second["changed"], second["manifest"], second["export"]) == (False, first["manifest"], first["export"])
    # what nobody quiesced is nothing for who wants more
    assert export(runner, consistency="application", max_age="20h")["export"]["method"] == "production_checkpoint"


def test_nothing_to_do_costs_eight_requests(start: Start) -> None:
    runner = start_with(start)
    export(runner, consistency="crash", max_age="20h")
    before = runner.running.host.counters.snapshot()
    export(runner, consistency="crash", max_age="20h")
    spent = runner.running.host.counters.since(before)
    late = spent.by_operation["Shell Receive"] - spent.by_operation["Shell Command"]
    assert spent.requests - spent.by_operation.get("Pull", 0) - late <= 8


def test_an_export_of_one_disk_costs_forty_eight_requests(start: Start) -> None:
    runner = start_with(start)
    export(runner, consistency="crash")
    before = runner.running.host.counters.snapshot()
    export(runner, consistency="crash")
    spent = runner.running.host.counters.since(before)
    seen = spent.by_operation
    late = seen["Shell Receive"] - seen["Shell Command"]
    assert spent.requests - seen.get("Pull", 0) - seen["Get"] - late <= 48  # it gets nothing but jobs that are not done yet


def test_an_announced_export_that_is_never_begun_leaves_no_intent(start: Start) -> None:
    runner = start_with(start)
    assert refused(runner, consistency="crash", target_limit=33).error_code == "invalid_limit"
    assert left_on_host(runner) == {}


def test_check_mode_predicts_and_changes_nothing(start: Start) -> None:
    runner = start_with(start)
    result: dict[str, Any] = {}
    assert changes(runner, lambda: result.update(export(runner, check=True))) == 0
    assert (result["export"]["method"], result["consistency"]["achieved"]) == ("production_checkpoint", "application")
    assert [step["action"] for step in result["diff"]["after"]["steps"]] == ["create_checkpoint", "export", "remove_checkpoint"]
    assert left_on_host(runner) == {}


def test_one_checkpoint_is_exported_and_stays(start: Start) -> None:
    runner = start_with(start)
    runner.run(hyperv_checkpoint, name="a", checkpoint_name="before")
    result = export(runner, checkpoint_name="before", verify="sha256")
    assert (result["export"]["method"], result["consistency"]["achieved"], result["manifest"]["checkpoint"]["name"]) == (
        "checkpoint", "application", "before",
    )
    for file in result["manifest"]["files"]:
        content = real(runner, f"{result['export']['folder']}\\{file['path']}").read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert left_on_host(runner) == {"checkpoints": ["before"]}
    assert refused(runner, checkpoint_name="none").error_code == "checkpoint_not_found"


@pytest.mark.parametrize("names", ["base", "leaf"])
def test_what_nobody_documents_of_an_exported_checkpoint_is_no_failure(start: Start, names: str) -> None:
    disks = (DiskSpec("D:\\VMs\\a\\a.vhdx", size=4 * MIB), DiskSpec("D:\\VMs\\a\\b.vhdx", size=8 * MIB))
    runner = start_with(start, machine("a", disks=disks, checkpoints=(CheckpointSpec("one"),)))
    with runner.fleet.locked():
        knobs(runner).exported_checkpoint_id = "new"
        knobs(runner).merged_disk_ids, knobs(runner).merged_disk_names = "new", names
    manifest = export(runner)["manifest"]
    assert manifest["definition_id"] not in (None, manifest["vm"]["id"], manifest["checkpoint"]["id"])
    assert [(disk["location"], disk["virtual_size"]) for disk in manifest["disks"]] == [(0, 4 * MIB), (1, 8 * MIB)]
    assert sum("virtual size" in text for text in manifest["consistency"]["unknowns"]) == (0 if names == "base" else 2)


def test_a_chain_is_exported_as_a_chain(start: Start) -> None:
    runner = start_with(start, machine("a", checkpoints=(CheckpointSpec("one"),)))
    disks = export(runner, consistency="crash")["manifest"]["disks"]
    assert [(disk["type"], disk["controller"], disk["parent"]) for disk in disks] == [
        ("differencing", "scsi", disks[1]["path"]), ("dynamic", None, None),
    ]


def test_a_disk_is_left_out_and_told(start: Start) -> None:
    disks = (DiskSpec("D:\\VMs\\a\\a.vhdx", size=4 * MIB), DiskSpec("D:\\VMs\\a\\swap.vhdx", size=4 * MIB))
    runner = start_with(start, machine("a", disks=disks), os_version="2019")
    result = export(runner, exclude_disks=["d:\\vms\\a\\SWAP.vhdx"])
    assert result["manifest"]["excluded_disks"] == [
        {"source": "D:\\VMs\\a\\swap.vhdx", "controller": "scsi", "controller_number": 0, "location": 1},
    ]
    assert len(result["manifest"]["disks"]) == 1
    assert any("swap.vhdx" in text for text in result["consistency"]["not_captured"])
    assert "swap.vhdx" in real(runner, f"{result['export']['folder']}\\RESTORE.txt").read_text("ascii")
    assert refused(runner, exclude_disks=["D:\\none.vhdx"]).error_code == "unknown_disk"


def test_keys_of_the_protector_are_told_everywhere(start: Start) -> None:
    runner = start_with(start, machine("a", tpm=True, shielded=True))
    result = export(runner, consistency="crash")
    vm = result["manifest"]["vm"]
    assert (result["export"]["needs_guardian"], vm["vtpm"], vm["shielded"]) == (True, True, True)
    text = real(runner, f"{result['export']['folder']}\\RESTORE.txt").read_text("ascii")
    assert "ATTENTION: this virtual machine is shielded" in text


REFUSALS: list[tuple[str, VmSpec, dict[str, Any]]] = [
    ("replica_vm", machine("a", replication_mode=2), {}),
    ("vm_busy", machine("a", busy="merging"), {"consistency": "crash"}),
    ("shared_disk", machine("a", disks=(DiskSpec("D:\\VMs\\a\\a.vhdx", shared=True),)), {"consistency": "crash"}),
    ("chain_incomplete", machine("a", disks=(DiskSpec("D:\\VMs\\a\\a.vhdx", exists=False),), state="off"), {"consistency": "image"}),
    ("destination_on_source_volume", machine("a"), {"destination": "D:\\Exports", "consistency": "crash"}),
    ("invalid_destination", machine("a"), {"destination": "E:\\"}),
    ("destination_not_local", machine("a"), {"destination": "X:\\a"}),
    ("consistency_not_reachable", machine("a", state="off"), {}),
    ("guest_cannot_quiesce", machine("a", integration=IntegrationSpec.none()), {}),
    ("disk_names_collide", machine("a", disks=(DiskSpec("D:\\1\\a.vhdx"), DiskSpec("D:\\2\\A.vhdx"))), {"consistency": "crash"}),
    ("invalid_keep", machine("a"), {"keep": {"last": -1}}),
    ("invalid_max_age", machine("a"), {"max_age": "soon"}),
]


@pytest.mark.parametrize(("code", "spec", "params"), REFUSALS, ids=[code for code, _spec, _params in REFUSALS])
def test_what_cannot_be_exported_is_refused_before_anything_is_made(start: Start, code: str, spec: VmSpec, params: dict[str, Any]) -> None:
    runner = start_with(start, spec)
    codes: list[str] = []
    assert changes(runner, lambda: codes.append(refused(runner, **params).error_code)) == 0
    assert codes == [code]


def test_a_vanished_switch_is_refused(start: Start) -> None:
    runner = start_with(start)
    with runner.fleet.locked():
        runner.running.host.hyperv.switches.discard("LAN")
    assert refused(runner, consistency="crash").error_code == "switch_missing"


def test_a_full_destination_is_refused(start: Start) -> None:
    runner = start_with(start, volumes=(VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:", 2 * MIB)))
    error = refused(runner, consistency="crash")
    assert (error.error_code, "bytes left" in error.message) == ("destination_full", True)


def test_less_is_taken_only_when_the_task_allows(start: Start) -> None:
    runner = start_with(start)
    with runner.fleet.locked():
        knobs(runner).cannot_quiesce.add(next(iter(runner.running.host.hyperv.machines)))
    failed = export(runner)
    assert (failed["failed"], failed["error_code"], failed["consistency"]["achieved"]) == (True, "production_failed", None)
    taken = export(runner, consistency_fallback="crash")
    assert (taken["export"]["method"], taken["consistency"]["requested"], taken["consistency"]["achieved"]) == (
        "live_crash", "application", "crash",
    )
    assert left_on_host(runner) == {}


@pytest.mark.parametrize("leaves", ["nothing", "files"])
@pytest.mark.parametrize(
    ("hresult", "code"), [(0x80070070, "destination_full"), (0x80070020, "sharing_violation"), (0x8000FFFF, "export_failed")]
)
def test_a_failed_export_leaves_nothing(start: Start, leaves: str, hresult: int, code: str) -> None:
    runner = start_with(start)
    with runner.fleet.locked():
        knobs(runner).failed_export_leaves = leaves
        knobs(runner).export_error[next(iter(runner.running.host.hyperv.machines))] = hresult
    failed = export(runner)
    assert (failed["failed"], failed["error_code"], failed["leftovers"]) == (True, code, [])
    assert left_on_host(runner) == {}
    assert [path for path in real(runner, BASE).rglob("*") if path.is_file() or path.name.endswith(failed["run_id"])] == []


def fill_half_way(runner: Runner) -> Callable[[], None]:
    """While the host exports somebody else fills E: but for half of what the export needs. What ends that."""
    files, path = runner.running.host.files, "E:\\video.bin"

    def fill() -> None:
        volume = files.resolve("E:\\").volume
        files.write_file(path, b"v" * (volume.free_bytes - 2 * MIB))

    def make_room() -> None:
        with runner.fleet.locked():
            files.remove_file(files.resolve(path))

    with runner.fleet.locked():
        knobs(runner).export_seconds = 100.0
        runner.running.host.clock.call_later(40.0, fill)
    return make_room


@pytest.mark.parametrize(("consistency", "leaves"), [("application", "files"), ("crash", "nothing")])
def test_a_volume_that_fills_half_way_costs_nothing_but_the_export(start: Start, consistency: str, leaves: str) -> None:
    runner = start_with(start, volumes=(VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:", 32 * MIB)))
    with runner.fleet.locked():
        knobs(runner).failed_export_leaves = leaves
    make_room = fill_half_way(runner)
    failed = export(runner, consistency=consistency)
    assert (failed["failed"], failed["error_code"], failed["leftovers"]) == (True, "destination_full", [])
    assert 40 <= failed["job"]["percent"] <= 80
    assert [path.name for path in real(runner, "E:\\").rglob("*") if path.is_file()] == ["video.bin"]
    assert left_on_host(runner) == {}
    make_room()
    healed = export(runner, consistency=consistency, max_age="20h", verify="sha256")
    assert (healed["changed"], healed["consistency"]["achieved"], healed["leftovers"]) == (True, consistency, [])


def test_what_cannot_be_removed_of_a_full_volume_is_told_and_goes_with_the_next_run(start: Start) -> None:
    runner = start_with(start, volumes=(VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:", 32 * MIB)))
    files = runner.running.host.files
    held: list[Any] = []

    def scan() -> None:
        """Somebody's scanner opens what is written already, and lets nobody delete it."""
        base = files.real_path(BASE)
        file = next(path for path in base.rglob("*") if path.is_file()).relative_to(base)
        place = files.resolve("\\".join((BASE, *file.parts)))
        held.append((place, files.hold(place, "scanner", share_read=True, share_write=True)))

    with runner.fleet.locked():
        knobs(runner).failed_export_leaves = "files"
        runner.running.host.clock.call_later(45.0, scan)
    make_room = fill_half_way(runner)
    failed = export(runner, consistency="crash")
    assert (failed["error_code"], {one["kind"] for one in failed["leftovers"]}) == ("destination_full", {"incomplete_copy", "intent"})
    make_room()
    with runner.fleet.locked():
        files.release(*held[0])
    healed = export(runner, consistency="crash")
    assert (healed["changed"], healed["leftovers"], left_on_host(runner)) == (True, [], {})
    assert len(list(real(runner, BASE).rglob("*.vhdx"))) == 1


def test_no_byte_of_a_disk_comes_through_the_controller(start: Start) -> None:
    spent = []
    for size in (4 * MIB, 40 * MIB):
        runner = start_with(start, machine("a", disks=(DiskSpec("D:\\VMs\\a\\a.vhdx", kind="fixed", size=size),)))
        before = runner.running.host.counters.snapshot()
        done = export(runner, verify="sha256")
        used = runner.running.host.counters.since(before)
        spent.append((done["manifest"]["size"], used.requests, used.bytes_in + used.bytes_out))
    (small, requests, little), (large, as_many, as_little) = spent
    assert (large - small, as_many) == (36 * MIB, requests)
    assert abs(as_little - little) < 2000  # the digits of sizes


def test_a_chain_that_stays_locked_is_told(start: Start) -> None:
    runner = start_with(start)
    with runner.fleet.locked():
        knobs(runner).export_locks = "always"
    result = export(runner, merge_timeout=120)
    assert (result["failed"], result["error_code"], result["merged"]) == (True, "merge_not_done", False)
    assert "VMMS" in result["hint"]
    assert export(runner, max_age="20h")["changed"] is False


# -- several, retention --------------------------------------------------------------------------------------------------


def test_one_failure_never_stops_the_others(start: Start) -> None:
    runner = start_with(start, machine("a"), machine("b", integration=IntegrationSpec.none()), machine("c"))
    result = export(runner, names=["a", "b", "c", "none"])
    assert {entry["vm"]["name"]: entry.get("error_code") for entry in result["results"]} == {
        "a": None, "b": "guest_cannot_quiesce", "c": None, "none": "vm_not_found",
    }
    assert (result["failed"], result["error_code"], result["changed"]) == (True, "some_failed", True)
    assert left_on_host(runner) == {}


def test_old_exports_go_with_all_their_folders(start: Start) -> None:
    runner = start_with(start)
    folders = []
    for _unused in range(3):
        result = export(runner, consistency="crash", keep={"last": 2}, verify="size")
        folders.append(result["export"]["folder"])
    assert [gone["folder"] for gone in result["pruned"]] == folders[:1]
    assert [real(runner, folder).exists() for folder in folders] == [False, True, True]
    assert export(runner, consistency="crash", keep={"last": 1}, max_age="9h")["pruned"][0]["folder"] == folders[1]


# -- interrupted ---------------------------------------------------------------------------------------------------------


def slow(runner: Runner) -> None:
    with runner.fleet.locked():
        knobs(runner).export_seconds = 1000.0


@pytest.mark.parametrize("consistency", ["application", "crash"])
def test_an_export_that_was_not_waited_for_is_taken_over(start: Start, consistency: str) -> None:
    runner = start_with(start)
    slow(runner)
    begun = export(runner, consistency=consistency, wait=False, run_id="r1")
    assert (begun["changed"], begun.get("failed"), begun["job"]["finished"], begun["job"]["type"]) == (True, None, False, 62)
    again = export(runner, consistency=consistency, wait=False, run_id="r2")
    assert (again["job"]["id"], again.get("failed")) == (begun["job"]["id"], None)
    late = export(runner, consistency=consistency, timeout=60)
    assert (late["failed"], late["error_code"], late["job"]["finished"], late["job"]["run_id"]) == (True, "timeout", False, "r1")
    done = export(runner, consistency=consistency)
    assert (done["changed"], done["adopted"], done["export"]["run_id"], done["consistency"]["achieved"]) == (True, True, "r1", consistency)
    assert left_on_host(runner) == {}


def test_an_export_that_ended_unseen_counts_only_with_a_proof(start: Start) -> None:
    runner = start_with(start)
    for consistency, adopted in (("crash", True), ("application", False)):
        slow(runner)
        export(runner, consistency=consistency, wait=False)
        with runner.fleet.locked():
            runner.running.host.clock.advance(7200)
            knobs(runner).export_seconds = 10.0
        done = export(runner, consistency=consistency)
        assert (done["changed"], done["adopted"], done["consistency"]["achieved"]) == (True, adopted, consistency)
        assert left_on_host(runner) == {}
    assert len(list(real(runner, BASE).rglob("manifest.json"))) == len(list(real(runner, BASE).rglob("*.vmcx"))) == 2


@pytest.mark.parametrize("consistency", ["application", "crash"])
def test_the_clean_up_ends_an_export_and_removes_everything_of_it(start: Start, consistency: str) -> None:
    runner = start_with(start)
    slow(runner)
    export(runner, consistency=consistency, wait=False, run_id="r1")
    audit = runner.run(hyperv_cleanup, older_than="1s")
    assert {one["status"] for one in audit["found"] if one["kind"] in ("export", "checkpoint", "intent")} == {"running"}
    gone = runner.run(hyperv_cleanup, run_id="r1", remove=True)
    assert (gone.get("failed"), {one["kind"] for one in gone["removed"]} >= {"export", "intent"}) == (None, True)
    assert left_on_host(runner) == {}
    assert [path for path in real(runner, BASE).rglob("*") if path.is_file()] == []


def test_what_a_service_that_restarted_left_is_taken_back_by_the_next_run(start: Start) -> None:
    runner = start_with(start)
    slow(runner)
    begun = export(runner, wait=False)
    with runner.fleet.locked():
        runner.running.host.clock.advance(600)
        runner.running.host.hyperv.restart_vmms()
        knobs(runner).export_seconds = 10.0
    done = export(runner)
    assert (done["changed"], done["adopted"], done["run_id"] != begun["run_id"]) == (True, False, True)
    assert left_on_host(runner) == {}
    assert len(list(real(runner, BASE).rglob("*.vmcx"))) == 1


@pytest.mark.parametrize("leaves", ["nothing", "files"])
def test_a_machine_that_goes_away_meanwhile_leaves_nothing_of_ours(start: Start, leaves: str) -> None:
    runner = start_with(start, machine("a"), machine("b"))
    slow(runner)
    with runner.fleet.locked():
        knobs(runner).failed_export_leaves = leaves
    export(runner, wait=False, run_id="r1")
    with runner.fleet.locked():
        role = runner.running.host.hyperv
        role.remove_vm(next(vm.id for vm in role.machines.values() if vm.name == "a"))
    assert refused(runner).error_code == "vm_not_found"
    cleaned = runner.run(hyperv_cleanup, run_id="r1", remove=True)
    assert (cleaned.get("failed"), left_on_host(runner)) == (None, {})
    assert [path for path in real(runner, BASE).rglob("*") if path.is_file()] == []


def test_what_an_earlier_run_fell_back_to_is_taken_over_as_what_it_is(start: Start) -> None:
    runner = start_with(start)
    slow(runner)
    with runner.fleet.locked():
        knobs(runner).cannot_quiesce.add(next(iter(runner.running.host.hyperv.machines)))
    export(runner, consistency_fallback="crash", wait=False)
    predicted = export(runner, check=True, consistency_fallback="crash")
    done = export(runner, consistency_fallback="crash")
    told = [(one["consistency"]["achieved"], one["export"]["method"]) for one in (predicted, done)]
    assert (done["adopted"], done["manifest"]["method"], told) == (True, "live_crash", [("crash", "live_crash")] * 2)


def while_it_exports(runner: Runner, happens: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """The condition of a rule: only while the host exports."""
    return lambda view: any(vm.busy == "exporting" for vm in runner.running.host.hyperv.machines.values()) and happens(view)


@pytest.mark.parametrize("consistency", ["application", "crash"])
def test_a_host_that_cannot_be_asked_for_a_moment_goes_on_exporting(start: Start, consistency: str) -> None:
    runner = start_with(start)
    slow(runner)
    polled = while_it_exports(runner, lambda view: "Msvm_ConcreteJob" in view.document)
    with runner.fleet.locked():
        runner.running.host.rules.add(rules.lost_before(), "Get", when=polled, times=2)
    broken = export(runner, consistency=consistency, run_id="r1")
    assert (broken["failed"], broken["job"]["finished"], "takes it over" in broken["hint"]) == (True, False, True)
    done = export(runner, consistency=consistency)
    assert (done["adopted"], done["export"]["run_id"], done["consistency"]["achieved"]) == (True, "r1", consistency)
    assert left_on_host(runner) == {}


def test_whoever_lost_the_lease_touches_nothing_any_more(start: Start) -> None:
    runner = start_with(start)
    with runner.fleet.locked():
        knobs(runner).export_seconds = 2000.0
        files, lease = runner.running.host.files, "C:\\ProgramData\\agentless.hyperv\\leases\\r1"
        runner.running.host.clock.call_later(300.0, lambda: files.rename(files.resolve(lease), files.resolve("C:\\somewhere else")))
    lost = export(runner, run_id="r1")
    assert (lost["failed"], lost["error_code"], lost["job"]["run_id"]) == (True, "lease_lost", "r1")
    assert {"intents", "checkpoints", "busy"} == set(left_on_host(runner))
    done = export(runner)
    assert (done["adopted"], done["export"]["run_id"], left_on_host(runner)) == (True, "r1", {})


def test_an_unknown_outcome_is_told_without_a_command_that_removes_whole_exports(start: Start) -> None:
    runner = start_with(start)
    whole = export(runner, consistency="crash")["export"]["folder"]
    slow(runner)
    with runner.fleet.locked():
        runner.running.host.rules.add(rules.lost_after(), "Invoke *.ExportSystemDefinition")
        runner.running.host.rules.add(rules.lost_before(), when=while_it_exports(runner, lambda view: True), times=4)
    unknown = export(runner, consistency="crash", run_id="r1")
    above = whole.rpartition("\\")[0]
    told = {one["kind"]: one["id"] for one in unknown["leftovers"]}
    assert (unknown["failed"], told["incomplete_copy"]) == (True, f"{above}\\*_r1")
    assert f'"{above}"' not in str([one["remove_with"] for one in unknown["leftovers"]])
    with runner.fleet.locked():
        runner.running.host.rules.clear()
        runner.running.host.clock.advance(1800)  # nor could the lease be given back
    assert export(runner, consistency="crash")["adopted"] is True


def test_an_export_counts_although_its_checkpoint_cannot_be_removed(start: Start) -> None:
    runner = start_with(start)
    with runner.fleet.locked():
        runner.running.host.rules.add(rules.access_denied(), "Invoke *.DestroySnapshot", times=None)
    stuck = export(runner)
    assert (stuck["failed"], stuck["error_code"], {one["kind"] for one in stuck["leftovers"]}) == (
        True, "access_denied", {"checkpoint", "intent"},
    )
    with runner.fleet.locked():
        runner.running.host.rules.clear()
        runner.running.host.clock.advance(3 * 3600)
    assert (export(runner, max_age="20h")["changed"], set(left_on_host(runner))) == (False, {"checkpoints", "intents"})
    runner.run(hyperv_cleanup, remove=True, older_than="10m")
    assert left_on_host(runner) == {}


def test_the_export_of_a_machine_is_none_of_its_checkpoint(start: Start) -> None:
    runner = start_with(start)
    runner.run(hyperv_checkpoint, name="a", checkpoint_name="before")
    export(runner, consistency="crash")
    named = [export(runner, checkpoint_name="before", consistency="crash", max_age="20h") for _unused in range(2)]
    assert [(one["changed"], one["export"]["method"]) for one in named] == [(True, "checkpoint"), (False, "checkpoint")]


@pytest.mark.parametrize(("consistency", "left"), [("application", ["suspect_checkpoint", "intent"]), ("crash", [])])
def test_a_machine_that_leaves_the_host_meanwhile_is_no_export(start: Start, consistency: str, left: list[str]) -> None:
    runner = start_with(start, machine("a"), machine("b"))
    with runner.fleet.locked():
        knobs(runner).export_seconds = 100.0
        host = runner.running.host
        going = next(vm.id for vm in host.hyperv.machines.values() if vm.name == "a")
        host.clock.call_later(40.0, lambda: host.hyperv.remove_vm(going))
    result = export(runner, names=["a", "b"], consistency=consistency, verify="size")
    told = {one["vm"]["name"]: (one.get("error_code"), [item["kind"] for item in one["leftovers"]]) for one in result["results"]}
    assert told == {"a": ("vm_moved", left), "b": (None, [])}
    assert [path.parts[-3].rpartition("_")[0] for path in real(runner, BASE).rglob("manifest.json")] == ["b"]


def test_a_link_in_a_finished_export_is_found(start: Start) -> None:
    runner = start_with(start)

    def plant() -> None:
        files = runner.running.host.files
        folder = next(path for path in files.real_path(BASE).rglob("*") if path.name.endswith("_r1"))
        above = "\\".join((BASE, *folder.relative_to(files.real_path(BASE)).parts))
        files.create_directory("E:\\secret")
        files.make_link(f"{above}\\x", "E:\\secret", "junction")

    with runner.fleet.locked():
        knobs(runner).export_seconds = 100.0
        runner.running.host.clock.call_later(60.0, plant)
    failed = export(runner, consistency="crash", run_id="r1")
    assert (failed["failed"], failed["error_code"]) == (True, "link_in_the_way")
