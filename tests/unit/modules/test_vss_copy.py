# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_vss_copy`` against a simulated host: real bytes, proved by the independent reader."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import parse
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_vss_copy
from simulator.disks import proof
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, VmSpec
from simulator.soap.rules import Effect, access_denied, fault, http_status, lost_after, lost_before, unauthorized
from simulator.spec import ClusterSpec
from simulator.windows.acl import Acl
from simulator.windows.shadows import ShadowSettings
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"))
DESTINATION = "E:\\Backup"
STATE = "C:\\ProgramData\\agentless.hyperv"


def machine(name: str = "sql01", *disks: DiskSpec, **values: Any) -> VmSpec:
    return VmSpec(name, disks=disks or (DiskSpec(f"D:\\VMs\\{name}\\a.vhdx"),), **values)


def copy(runner: Any, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = runner.run(hyperv_vss_copy, **{"destination": DESTINATION, **params})
    return result


def real(runner: Any, path: str) -> Path:
    with runner.fleet.locked():
        found: Path = runner.running.host.files.real_path(path)
    return found


def names(runner: Any, path: str) -> list[str]:
    folder = real(runner, path)
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def shadows(runner: Any) -> list[str]:
    with runner.fleet.locked():
        return [shadow.shadow_id for shadow in runner.running.host.shadows.copies]


def links(runner: Any) -> list[str]:
    with runner.fleet.locked():
        files = runner.running.host.files
        if not files.exists(f"{STATE}\\s"):
            return []
        return [entry.parts[-1] for entry in files.children(files.resolve(f"{STATE}\\s"))]


def assert_nothing_left(runner: Any) -> None:
    assert shadows(runner) == []
    assert links(runner) == []
    assert names(runner, f"{STATE}\\intents") == []


def test_a_running_machine_is_copied_with_its_whole_chain_and_the_copy_proves_itself(start: Start) -> None:
    runner = start(
        volumes=VOLUMES,
        guest_writes={"sql01": 50.0},
        vms=(machine("sql01", DiskSpec("D:\\VMs\\sql01\\a.vhdx"), DiskSpec("D:\\Data\\a.vhdx"), checkpoints=(CheckpointSpec("c"),)),),
    )
    until: list[int] = []
    with runner.fleet.locked():
        runner.running.host.clock.advance(5)
        guest = next(iter(runner.running.host.guests.values()))
        runner.running.host.shadows.on_taken.append(lambda _copy: until.append(guest.sequence))
    result = copy(runner, name="sql01")
    assert result["changed"] is True
    assert result["consistency"]["achieved"] == "crash"
    files = result["manifest"]["files"]
    chains = [
        [real(runner, f"{result['manifest']['folder']}\\{file['path']}") for file in files if file["disk"] == disk] for disk in (0, 1)
    ]
    assert [len(chain) for chain in chains] == [2, 2]
    proofs = [proof.inspect(chain[0], chain[1:]) for chain in chains]
    assert proof.together(proofs) == []
    assert all(item.holds_until(until[0]) for item in proofs)
    with runner.fleet.locked():
        assert guest.sequence > until[0], "the guest went on writing while its disks were copied"
    assert_nothing_left(runner)


def test_the_manifest_is_on_the_host_and_is_read_again(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine('evil "{{ 1 }}" & <x>\n', DiskSpec("D:\\50%PATH% & x\\b (1).vhdx")),))
    first = copy(runner, names=["all"], max_age="20h")
    entry = first["results"][0]
    text = real(runner, entry["manifest"]["path"]).read_text("ascii")
    assert parse(text).as_data() == {key: value for key, value in entry["manifest"].items() if key not in ("path", "folder", "size")}
    assert json.loads(text)["vm"]["name"] == 'evil "{{ 1 }}" & <x>\n'
    assert entry["manifest"]["folder"].startswith("E:\\Backup\\HV01\\evil_1_x_")
    before = runner.running.host.counters.snapshot()
    second = copy(runner, names=["all"], max_age="20h")
    assert (second["changed"], second["results"][0]["manifest"]) == (False, entry["manifest"])
    assert runner.running.host.counters.since(before).writing == 0
    with runner.fleet.locked():
        runner.running.host.clock.advance(21 * 3600)
    assert copy(runner, names=["all"], max_age="20h")["changed"] is True


def test_a_damaged_or_forged_manifest_does_not_count(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(),))
    path = real(runner, copy(runner, name="sql01", max_age="20h")["manifest"]["path"])
    good = path.read_bytes()
    for bad in (good.replace(b'"format": 1', b'"format": 2'), good[:-20], b"", good.replace(b'"run_id": "', b'"run_id": "f')):
        path.write_bytes(bad)
        assert copy(runner, name="sql01", max_age="20h", check=True)["changed"] is True
    path.write_bytes(good)
    assert copy(runner, name="sql01", max_age="20h", check=True)["changed"] is False


def test_the_same_run_does_nothing_twice(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(),))
    first = copy(runner, name="sql01", run_id="night-1")
    assert first["manifest"]["folder"].endswith("_night-1")
    assert copy(runner, name="sql01", run_id="night-1")["changed"] is False
    assert copy(runner, name="sql01", run_id="night-2")["changed"] is True
    assert copy(runner, name="sql01")["changed"] is True


def test_check_mode_does_the_preflight_and_no_writing_request(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(), machine("smb", DiskSpec("\\\\fs\\x\\a.vhdx"))))
    before = runner.running.host.counters.snapshot()
    result = copy(runner, names=["all"], max_age="1h", check=True)
    assert runner.running.host.counters.since(before).writing == 0
    assert runner.running.host.changes == 0
    assert [(entry["vm"]["name"], entry["changed"], entry["failed"]) for entry in result["results"]] == [
        ("sql01", True, False),
        ("smb", False, True),
    ]
    assert [step["action"] for step in result["diff"]["after"]["steps"]] == ["create_shadow_copy", "copy", "delete_shadow_copy"]


def test_one_shadow_copy_serves_several_machines_of_a_volume(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine("a"), machine("b"), machine("c", DiskSpec("C:\\v\\c.vhdx"))))
    taken: list[str] = []
    with runner.fleet.locked():
        runner.running.host.shadows.on_taken.append(lambda shadow: taken.append(shadow.volume.mount_path))
    result = copy(runner, names=["all"])
    assert [entry["failed"] for entry in result["results"]] == [False] * 3
    assert sorted(taken) == ["C:\\", "D:\\"]
    assert_nothing_left(runner)


REFUSED = [
    (machine("x", DiskSpec("C:\\v\\a.vhdx"), DiskSpec("D:\\v\\b.vhdx")), "several_volumes"),
    (machine("x", DiskSpec("\\\\fs\\x\\a.vhdx")), "smb_storage"),
    (machine("x", replication_mode=2), "replica_vm"),
    (machine("x", DiskSpec(medium="passthrough")), "nothing_to_copy"),
    (machine("x", DiskSpec("D:\\v\\s.vhdx", shared=True)), "shared_disk"),
    (machine("x", DiskSpec("E:\\v\\a.vhdx")), "destination_on_source_volume"),
    (machine("x", DiskSpec("F:\\v\\a.vhdx")), "file_system"),
    (machine("x", DiskSpec("G:\\v\\a.vhdx")), "little_free_space"),
    (machine("x", DiskSpec("D:\\v\\a.vhdx", exists=False)), "chain_incomplete"),
    (machine("x", busy="merging"), "vm_busy"),
    (machine("x", state="starting"), "state_in_transition"),
    (machine("x", health="configuration_offline"), "configuration_storage_offline"),
    (machine("x", DiskSpec("D:\\" + "\\".join(["f" * 60] * 4) + "\\a.vhdx")), "paths_too_long"),
]


@pytest.mark.parametrize(("spec", "code"), REFUSED, ids=[code for _spec, code in REFUSED])
def test_what_is_refused_is_refused_before_anything_is_written(start: Start, spec: VmSpec, code: str) -> None:
    volumes = (*VOLUMES, VolumeSpec("F:", filesystem="ReFS"), VolumeSpec("G:", size=100 * 1024**3, free=19 * 1024**3))
    runner = start(volumes=volumes, vms=(spec,))
    result = copy(runner, name="x")
    assert (result.get("failed"), result["error_code"], result["changed"]) == (True, code, False)
    assert result["msg"]
    assert runner.running.host.changes == 0


def test_a_pass_through_disk_beside_others_is_told(start: Start) -> None:
    result = copy(start(volumes=VOLUMES, vms=(machine("x", DiskSpec("D:\\v\\a.vhdx"), DiskSpec(medium="passthrough")),)), name="x")
    assert (result["changed"], len(result["consistency"]["not_captured"]), len(result["manifest"]["files"])) == (True, 1, 1)


@pytest.mark.parametrize(
    ("destination", "code"),
    [
        ("\\\\fs", "invalid_destination"), ("\\\\HV01\\backup", "destination_is_local"),
        ("E:\\", "invalid_destination"),
        ("Backup", "invalid_destination"),
        ("E:\\a\\..\\..\\x", "invalid_destination"),
        ('E:\\a"b', "invalid_destination"),
        ("C:\\Windows\\Temp\\x", "invalid_destination"),
        ("Z:\\Backup", "destination_not_local"),
    ],
)
def test_destinations_that_are_refused(start: Start, destination: str, code: str) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(),))
    with pytest.raises(HypervError) as refused:
        copy(runner, name="sql01", destination=destination)
    assert refused.value.error_code == code
    assert runner.running.host.changes == 0


def test_a_full_destination_is_seen_before_anything_is_written(start: Start) -> None:
    runner = start(
        volumes=(VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:", size=1024**3, free=6 * 1024**2)), vms=(machine("a"), machine("b"))
    )
    result = copy(runner, names=["all"], check=True)
    assert [entry.get("error_code") for entry in result["results"]] == [None, "destination_full"], "4 MiB each, 6 MiB free"


@pytest.mark.parametrize(
    ("consistency", "fallback", "code"),
    [
        ("application", "fail", "consistency_not_reachable"),
        ("image", "fail", "consistency_not_reachable"),
        ("application", "crash", None),
        ("crash", "fail", None),
    ],
)
def test_a_shortfall_fails_unless_it_is_accepted(start: Start, consistency: str, fallback: str, code: str | None) -> None:
    result = copy(start(volumes=VOLUMES, vms=(machine(),)), name="sql01", consistency=consistency, consistency_fallback=fallback)
    assert result.get("error_code") == code
    assert (result["consistency"]["requested"], result["consistency"]["achieved"]) == (consistency, None if code else "crash")


def test_a_machine_that_is_off_gives_an_image(start: Start) -> None:
    assert (
        copy(start(volumes=VOLUMES, vms=(machine(state="off"),)), name="sql01", consistency="image")["consistency"]["achieved"] == "image"
    )


def test_names_that_match_none_or_several_fail_alone(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine("a"), machine("b"), machine("B")))
    result = copy(runner, names=["a", "b", "none"])
    assert {entry["vm"]["name"]: entry.get("error_code") for entry in result["results"]} == {
        "a": None,
        "b": "vm_not_unique",
        "none": "vm_not_found",
    }
    assert (result["failed"], result["changed"]) == (True, True)


def test_another_creation_is_waited_for(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(),))
    with runner.fleet.locked():
        runner.running.host.shadows.occupy(100)
    assert copy(runner, name="sql01")["changed"] is True
    assert any("another shadow copy" in line for line in runner.told.progress)
    with runner.fleet.locked():
        runner.running.host.shadows.occupy(10_000)
    result = copy(runner, name="sql01", vss_wait=60)
    assert (result["failed"], result["error_code"], result["return_value"], result["leftovers"]) == (True, "vss_busy", 9, [])
    assert_nothing_left(runner)


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([7, 7, 7], None),
        ([7] * 4, "vss_volume_in_use"),
        ([10], None),
        ([10, 10], "vss_provider_veto"),
        ([12], None),
        ([1], "access_denied"),
        ([2], "vss_invalid_argument"),
        ([3], "vss_volume_not_found"),
        ([4], "vss_volume_not_supported"),
        ([5], "vss_context_not_supported"),
        ([6], "vss_insufficient_storage"),
        ([8], "vss_too_many"),
        ([11], "vss_provider_missing"),
        ([13], "vss_unknown"),
        ([77], "vss_unknown"),
    ],
)
def test_return_values_of_create(start: Start, answers: list[int | None], code: str | None) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(),))
    with runner.fleet.locked():
        runner.running.host.shadows.answers = list(answers)
    assert copy(runner, name="sql01").get("error_code") == code
    assert_nothing_left(runner)


def test_foreign_shadow_copies_are_never_touched(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(),))
    with runner.fleet.locked():
        foreign = [
            runner.running.host.shadows.add_foreign("D:\\", context=context).shadow_id
            for context in ("ClientAccessible", "ApplicationRollback")
        ]
    assert copy(runner, name="sql01")["changed"] is True
    assert shadows(runner) == foreign


def test_a_shadow_copy_that_cannot_be_deleted_is_a_failure_with_directions(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(),))
    with runner.fleet.locked():
        runner.running.host.shadows.delete_errors = [0x80042306] * 3
    result = copy(runner, name="sql01")
    left = shadows(runner)
    assert (result["failed"], result["error_code"], result["changed"], len(left)) == (True, "cleanup_failed", True, 1)
    (intent,) = names(runner, f"{STATE}\\intents")
    path = f"{STATE}\\intents\\{intent}"
    assert result["leftovers"] == [
        {"kind": "shadow_copy", "id": left[0], "location": "this host", "remove_with": f"vssadmin delete shadows /shadow={left[0]}"},
        {"kind": "intent", "id": path, "location": f"{STATE}\\intents", "remove_with": f'del "{path}"'},
    ]
    assert links(runner) == []
    assert intent.startswith(f"{result['run_id']}_"), "the intent stays as long as what it announced"


def test_a_shadow_copy_that_is_deleted_at_the_third_try_is_no_failure(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(),))
    with runner.fleet.locked():
        runner.running.host.shadows.delete_errors = [0x80042306] * 2
    assert "failed" not in copy(runner, name="sql01")
    assert_nothing_left(runner)


def plant(runner: Any, how: str) -> None:
    with runner.fleet.locked():
        files = runner.running.host.files
        if how == "link":
            files.create_directory("C:\\elsewhere")
            files.make_link(STATE, "C:\\elsewhere", "junction")
            return
        files.create_directory(STATE)
        if how == "open":
            files.set_acl(files.resolve(STATE), Acl())


@pytest.mark.parametrize("how", ["link", "inherited", "open"])
def test_a_planted_state_folder_is_refused(start: Start, how: str) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(),))
    plant(runner, how)
    with pytest.raises(HypervError) as refused:
        copy(runner, name="sql01")
    assert refused.value.error_code == "state_dir_untrusted"
    assert shadows(runner) == []


def test_a_machine_that_changes_meanwhile_is_noticed(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine("a"), machine("b")))
    with runner.fleet.locked():
        host = runner.running.host
        host.shadows.on_taken.append(lambda _copy: host.hyperv.remove_vm(host.hyperv.find("a").id))
    result = copy(runner, names=["a", "b"])
    assert {entry["vm"]["name"]: entry.get("error_code") for entry in result["results"]} == {"a": "chain_changed", "b": None}
    assert_nothing_left(runner)


@pytest.mark.parametrize("stuck", [False, True])
def test_a_copy_that_runs_out_of_room_makes_room_or_tells_what_is_left(start: Start, stuck: bool) -> None:
    runner = start(
        volumes=(VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:", size=1024**3, free=200 * 1024**2)), vms=(machine("a"), machine("b"))
    )
    with runner.fleet.locked():
        host = runner.running.host
        host.shadows.on_taken.append(lambda _copy: host.files.write_file("E:\\filler.bin", b"x" * (194 * 1024**2)))
        if stuck:
            removing = ("rmdir /S /Q", "%AGH_PATH%")
            host.rules.add(access_denied(), times=None, when=lambda view: all(text in view.document for text in removing))
    result = copy(runner, names=["a", "b"])
    entries = {entry["vm"]["name"]: entry for entry in result["results"]}
    assert entries["a"]["failed"] is False
    assert (entries["b"]["error_code"], entries["b"]["changed"], "manifest" in entries["b"]) == ("destination_full", False, False)
    assert (shadows(runner), links(runner)) == ([], [])
    if not stuck:
        assert entries["b"]["leftovers"] == []
        assert_nothing_left(runner)
        return
    assert {leftover["kind"] for leftover in entries["b"]["leftovers"]} == {"incomplete_copy", "intent"}
    (intent,) = names(runner, f"{STATE}\\intents")
    assert f"{STATE}\\intents\\{intent}" in {leftover["id"] for leftover in entries["b"]["leftovers"]}, "the clean-up finds the copy by it"


EFFECTS: dict[str, Callable[[], Effect]] = {
    "lost before": lost_before,
    "lost after": lost_after,
    "unauthorized": unauthorized,
    "denied": access_denied,
    "empty 400": lambda: http_status(400),
    "internal error": lambda: fault("internal_error"),
}
STEPS = [
    ("Invoke *.Create", ""),
    ("Get", ""),
    ("Delete", ""),
    ("Shell Receive", ""),
    *[("Shell Command", program) for program in ("icacls", "mklink", "for %I", "mkdir", "robocopy", "move", "rmdir", "del /F")],
]


def tried(number: int) -> dict[str, Callable[[], Effect]]:
    """Two effects for each step, in turn, beside all faults of the harness; every one with ``FAULT_HARNESS=all``."""
    names = list(EFFECTS)
    chosen = names if os.environ.get("FAULT_HARNESS") == "all" else [names[(number + turn) % len(names)] for turn in (2, 5)]
    return {name: EFFECTS[name] for name in chosen}


@pytest.mark.parametrize("number", range(len(STEPS)), ids=[" ".join(step).strip() for step in STEPS])
def test_whatever_breaks_nothing_stays_unreported_and_no_false_success(start: Start, number: int) -> None:
    operation, text = STEPS[number]
    runner = start(volumes=VOLUMES, vms=(machine(),))
    with runner.fleet.locked():
        foreign = runner.running.host.shadows.add_foreign("D:\\", context="ClientAccessible").shadow_id
    for name, effect in tried(number).items():
        with runner.fleet.locked():
            runner.running.host.rules.add(effect(), operation=operation, when=lambda view: text in view.document)
            before = {shadow.shadow_id for shadow in runner.running.host.shadows.copies}
        links_before = set(links(runner))
        try:
            result = copy(runner, name="sql01")
        except HypervError as error:
            result = {"failed": True, "leftovers": [leftover.as_result() for leftover in error.leftovers]}
        with runner.fleet.locked():
            runner.running.host.rules.clear()
        reported = {leftover["id"].rpartition("\\")[2] for leftover in result["leftovers"]}
        assert set(shadows(runner)) - before <= reported, name
        assert set(links(runner)) - links_before <= reported, name
        if not result.get("failed"):
            for file in result["manifest"]["files"]:
                assert real(runner, f"{result['manifest']['folder']}\\{file['path']}").stat().st_size == file["size"], name
        if name == "lost before" and text == "rmdir":
            assert result["leftovers"] == [], "a lost unlink is tried again"
        assert "failed" not in copy(runner, name="sql01"), f"the next run is not healed after {name}"
        assert foreign in shadows(runner), name


CSV = tuple(VolumeSpec(f"C:\\ClusterStorage\\Volume{n}", filesystem="CSVFS", owned=n == 1) for n in (1, 2))


@pytest.mark.parametrize(
    ("volume", "any_node", "host_can", "code"),
    [(1, False, False, None), (2, False, True, "csv_not_owned"), (2, True, True, None), (2, True, False, "vss_volume_not_supported")],
)
def test_a_cluster_shared_volume_is_copied_by_its_own_name_where_that_is_allowed(
    start: Start, volume: int, any_node: bool, host_can: bool, code: str | None
) -> None:
    path = f"C:\\ClusterStorage\\Volume{volume}"
    runner = start(
        volumes=(*VOLUMES, *CSV), cluster=ClusterSpec("CL", ("HV01", "HV02")),
        shadow_settings=ShadowSettings(csv_from_any_node=host_can),
        vms=(VmSpec("c", clustered=True, disks=(DiskSpec(f"{path}\\c\\a.vhdx"),)),),
    )
    result = copy(runner, name="c", csv_any_node=any_node)
    assert (result.get("error_code"), result["changed"]) == (code, code is None)
    if code is None:
        (file,) = result["manifest"]["files"]
        assert file["source"] == f"{path}\\c\\a.vhdx"
        assert result["shadow_copy"]["provider"] == "csv"
    if code == "csv_not_owned":
        assert runner.running.host.changes == 0
    else:
        assert_nothing_left(runner)
