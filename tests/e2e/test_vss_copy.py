# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_vss_copy`` from playbooks. One playbook is run four times on many hosts: in check mode, for real, again at once, and again
a day later on hosts where something has changed meanwhile.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import GIB, host, vm, winrm
from controller import CHECKOUT, Controller, Run, TaskResult
from simulator.disks import proof
from simulator.fleet import Fleet
from simulator.host import SimHost
from simulator.hyperv.spec import CheckpointSpec, DiskSpec
from simulator.soap.counters import Counters
from simulator.spec import HostSpec
from simulator.windows.shadows import ShadowSettings
from simulator.windows.spec import VolumeSpec

MODULE = "agentless.hyperv.hyperv_vss_copy"
STATE = "C:\\ProgramData\\agentless.hyperv"
COPY = {"name": "copy", MODULE: {
    "name": "{{ vm_name | default(omit) }}", "names": "{{ vm_names | default(omit) }}", "destination": "{{ destination }}",
    "max_age": "20h", "consistency": "{{ consistency | default(omit) }}", "consistency_fallback": "{{ fallback | default(omit) }}"},
    "ignore_errors": True}
CLIENT = ShadowSettings(max_client_accessible=1)


def volumes(*more: VolumeSpec, backup_free: int = 90 * GIB) -> tuple[VolumeSpec, ...]:
    return (VolumeSpec("C:", free=60 * GIB), VolumeSpec("D:", free=60 * GIB), VolumeSpec("E:", free=backup_free), *more)


def specs() -> list[HostSpec]:
    now = datetime.now(UTC)
    proved = vm("sql01", checkpoints=(CheckpointSpec("before"),), disks=(DiskSpec("D:\\VMs\\sql01\\a.vhdx"), DiskSpec("D:\\Data\\a.vhdx")))
    refused = (
        vm("two-volumes", disks=(DiskSpec("D:\\v\\a.vhdx"), DiskSpec("C:\\v\\b.vhdx"))), vm("replica", replication_mode=2),
        vm("same-volume", disks=(DiskSpec("E:\\v\\a.vhdx"),)), vm("on-fat", disks=(DiskSpec("F:\\v\\a.vhdx"),)),
        vm("smb3", disks=(DiskSpec("\\\\fs\\vms\\a.vhdx"),)), vm("pass-through", disks=(DiskSpec(medium="passthrough"),)),
        vm("crowded", disks=(DiskSpec("G:\\v\\a.vhdx"),)), vm("twin", directory="t1"), vm("twin", directory="t2"), vm("fine"))
    hosts = [
        host("PROVED", proved, guest_writes={"sql01": 50.0}, foreign_shadow_copies=("D:\\", "E:\\")),
        host("MANY", vm("a"), vm("b"), vm("c", disks=(DiskSpec("C:\\v\\c.vhdx"),)), vm("off", state="off")),
        host("REFUSED", *refused, volumes=volumes(VolumeSpec("F:", filesystem="FAT32"), VolumeSpec("G:", size=100 * GIB, free=10 * GIB))),
        host("FULL", vm("a"), vm("b"), volumes=volumes(backup_free=6 * 1024**2)),
        host("LEVEL", vm("a")), host("ACCEPTS", vm("a")),
        host("BUSY", vm("a")), host("SLOTS", vm("a"), shadow_settings=CLIENT), host("BROKEN", vm("a")), host("STUCK", vm("a")),
    ]
    return [replace(spec, start=now) for spec in hosts]


def inventory(fleet: Fleet) -> dict[str, dict[str, Any]]:
    hosts = winrm(fleet, destination="E:\\Backup")
    hosts["proved"].update(vm_name="SQL01")
    hosts["many"].update(vm_names="all")
    hosts["refused"].update(vm_names=["two-volumes", "replica", "same-volume", "on-fat", "smb3", "pass-through", "crowded", "twin", "gone",
                                      "fine"])
    hosts["full"].update(vm_names=["a", "b"])
    hosts["level"].update(vm_name="a", consistency="application")
    hosts["accepts"].update(vm_name="a", consistency="application", fallback="crash")
    for name in ("busy", "slots", "broken", "stuck"):
        hosts[name].update(vm_name="a")
    return hosts


@dataclass
class Story:
    """The four runs, and what was seen of the hosts between them."""

    fleet: Fleet
    until: list[int]
    predicted: Run
    predicting: dict[str, Counters]
    copied: Run
    left: dict[str, list[str]]
    again: Run
    repeating: dict[str, Counters]
    later: Run

    def host(self, name: str) -> SimHost:
        return self.fleet.hosts[name].host

    def real(self, name: str, path: str) -> Path:
        with self.fleet.locked():
            found: Path = self.host(name).files.real_path(path)
        return found

    def of(self, run: Run, name: str) -> TaskResult:
        return run.of("copy")[name.lower()]

    def entries(self, run: Run, name: str) -> dict[str, dict[str, Any]]:
        return {entry["vm"]["name"]: entry for entry in self.of(run, name)["results"]}


def counters(fleet: Fleet) -> dict[str, Counters]:
    with fleet.locked():
        return {name: running.host.counters.snapshot() for name, running in fleet.hosts.items()}


def left_behind(host: SimHost) -> list[str]:
    """Our shadow copies, links and intents."""
    files = host.files
    found = [f"shadow copy {copy.shadow_id}" for copy in host.shadows.copies if not copy.foreign]
    for folder in ("s", "intents"):
        if files.exists(f"{STATE}\\{folder}"):
            found += [f"{folder}: {place.parts[-1]}" for place in files.children(files.resolve(f"{STATE}\\{folder}"))]
    return found


def disturb(fleet: Fleet) -> list[int]:
    """What the hosts meet while they copy; the number of the guest's last write before its shadow copy will be in the list."""
    until: list[int] = []
    with fleet.locked():
        proved = fleet.hosts["PROVED"].host
        proved.clock.advance(5)
        guest = next(iter(proved.guests.values()))
        proved.shadows.on_taken.append(lambda copy: until.append(guest.sequence))
        fleet.hosts["BUSY"].host.shadows.answers = [9]
        fleet.hosts["SLOTS"].host.shadows.add_foreign("D:\\", context="ClientAccessible")
        fleet.hosts["BROKEN"].host.shadows.answers = [13]
        fleet.hosts["STUCK"].host.shadows.delete_errors = [0x80042306] * 3
    return until


def change(fleet: Fleet, copied: Run) -> None:
    """One thing on each of three hosts: a manifest is damaged, a day passes, the other product's shadow copy is gone."""
    with fleet.locked():
        proved = fleet.hosts["PROVED"].host
        manifest = copied.of("copy")["proved"]["manifest"]["path"]
        proved.files.write_file(manifest, proved.files.read_file(manifest)[:-9])
        fleet.hosts["MANY"].host.clock.advance(21 * 3600)
        fleet.hosts["SLOTS"].host.shadows.copies.clear()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with Fleet(specs(), tmp_path_factory.mktemp("fleet"), speed=1.0) as fleet:
        controller = Controller(tmp_path_factory.mktemp("controller"), CHECKOUT / ".build" / "path")
        hosts = controller.inventory(inventory(fleet))
        before = counters(fleet)
        predicted = controller.play([COPY], hosts, "--check", "--diff", "--forks", "10")
        predicting = {name: after.since(before[name]) for name, after in counters(fleet).items()}
        until = disturb(fleet)
        copied = controller.play([COPY], hosts, "--diff", "--forks", "10")
        with fleet.locked():
            left = {name: left_behind(running.host) for name, running in fleet.hosts.items()}
        before = counters(fleet)
        again = controller.play([COPY], hosts, "--forks", "10", "--limit", "proved,many,accepts,busy")
        repeating = {name: after.since(before[name]) for name, after in counters(fleet).items()}
        change(fleet, copied)
        later = controller.play([COPY], hosts, "--forks", "10", "--limit", "proved,many,slots,busy")
        for run in (predicted, copied, again, later):
            assert run.code == 0, run.output
        yield Story(fleet, until, predicted, predicting, copied, left, again, repeating, later)


def test_check_mode_sends_no_writing_request(story: Story) -> None:
    assert {name: counted.writing for name, counted in story.predicting.items()} == dict.fromkeys(story.fleet.hosts, 0)
    assert all(counted.reading > 15 for counted in story.predicting.values())


def test_check_mode_predicts_what_happens(story: Story) -> None:
    predicted, done = story.of(story.predicted, "proved"), story.of(story.copied, "proved")
    assert (predicted["changed"], done["changed"]) == (True, True)
    assert done["manifest"]["folder"].startswith(predicted["manifest"]["folder"] + "\\")
    assert predicted["manifest"]["files"] == len(done["manifest"]["files"])
    for key in ("requested", "achieved", "not_captured", "unknowns"):
        assert predicted["consistency"][key] == done["consistency"][key]
    sizes = {name: entry["manifest"]["size"] for name, entry in story.entries(story.predicted, "many").items()}
    assert sizes == {name: entry["manifest"]["size"] for name, entry in story.entries(story.copied, "many").items()}
    wanted = {name: (entry["changed"], entry["failed"], entry.get("error_code")) for name, entry in
              story.entries(story.predicted, "refused").items()}
    assert wanted == {name: (entry["changed"], entry["failed"], entry.get("error_code")) for name, entry in
                      story.entries(story.copied, "refused").items()}


def test_the_diff_shows_the_steps(story: Story) -> None:
    for run in (story.predicted, story.copied):
        diff = story.of(run, "many")["diff"]
        assert diff["before"] == {"copies": {}}
        assert [(step["action"], step["target"]) for step in diff["after"]["steps"]] == [
            ("create_shadow_copy", "D:\\"), ("copy", "a"), ("copy", "b"), ("copy", "off"), ("delete_shadow_copy", "D:\\"),
            ("create_shadow_copy", "C:\\"), ("copy", "c"), ("delete_shadow_copy", "C:\\")]
    assert story.predicted.output.count("create_shadow_copy") >= 2


def chains(story: Story, name: str, result: dict[str, Any]) -> list[list[Path]]:
    files = result["manifest"]["files"]
    return [[story.real(name, f"{result['manifest']['folder']}\\{file['path']}") for file in sorted(files, key=lambda file: file["level"])
             if file["disk"] == disk] for disk in sorted({file["disk"] for file in files})]


def test_the_copy_of_a_writing_guest_proves_itself(story: Story) -> None:
    result = story.of(story.copied, "proved")
    copies = chains(story, "PROVED", result.result)
    assert [len(chain) for chain in copies] == [2, 2]
    proofs = [proof.inspect(chain[0], chain[1:]) for chain in copies]
    assert proof.together(proofs) == []
    assert all(one.holds_until(story.until[0]) for one in proofs)
    with story.fleet.locked():
        assert next(iter(story.host("PROVED").guests.values())).sequence > story.until[0], "the guest went on writing meanwhile"
    assert (result["consistency"]["requested"], result["consistency"]["achieved"]) == ("crash", "crash")
    assert result["shadow_copy"]["provider"] == "system"


def test_the_manifest_on_the_host_follows_its_schema_and_names_every_file(story: Story) -> None:
    schema = json.loads((CHECKOUT / "docs" / "manifest.schema.json").read_text(encoding="utf-8"))
    for name, entry in story.entries(story.copied, "many").items():
        manifest = json.loads(story.real("MANY", entry["manifest"]["path"]).read_bytes())
        jsonschema.Draft202012Validator(schema).validate(manifest)
        assert {key: entry["manifest"][key] for key in manifest} == manifest
        assert (manifest["vm"], manifest["host"]) == ({"id": entry["vm"]["vm_id"], "name": name}, "MANY")
        folder = story.real("MANY", entry["manifest"]["folder"])
        found = {str(path.relative_to(folder)).replace("/", "\\"): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        assert found == {"manifest.json": folder.joinpath("manifest.json").stat().st_size,
                         **{file["path"]: file["size"] for file in manifest["files"]}}


def test_one_shadow_copy_serves_all_machines_of_a_volume(story: Story) -> None:
    entries = story.entries(story.copied, "many")
    assert {name: entry["consistency"]["achieved"] for name, entry in entries.items()} == {"a": "crash", "b": "crash", "c": "crash",
                                                                                           "off": "image"}
    assert len({entries[name]["shadow_copy"]["id"] for name in ("a", "b", "off")}) == 1
    assert entries["c"]["shadow_copy"]["id"] != entries["a"]["shadow_copy"]["id"]


def test_nothing_of_ours_is_left_and_nothing_foreign_was_touched(story: Story) -> None:
    assert {name: left for name, left in story.left.items() if left and name != "STUCK"} == {}
    with story.fleet.locked():
        assert [copy.volume.mount_path for copy in story.host("PROVED").shadows.copies if copy.foreign] == ["D:\\", "E:\\"]


REFUSALS = {"two-volumes": "several_volumes", "replica": "replica_vm", "same-volume": "destination_on_source_volume",
            "on-fat": "file_system", "smb3": "smb_storage", "pass-through": "nothing_to_copy", "crowded": "little_free_space",
            "twin": "vm_not_unique", "gone": "vm_not_found", "fine": None}


def test_what_cannot_be_copied_is_refused_with_a_code_and_advice_and_stops_no_other(story: Story) -> None:
    result = story.of(story.copied, "refused")
    entries = story.entries(story.copied, "refused")
    assert {name: entry.get("error_code") for name, entry in entries.items()} == REFUSALS
    assert all(entry["hint"] and entry["msg"] for entry in entries.values() if entry["failed"])
    assert (result.status, result["error_code"], result["changed"]) == ("ignored", "some_failed", True)
    assert result["msg"].startswith("9 of 10 virtual machines failed: ")


def test_a_destination_without_room_is_seen_before_anything_is_copied(story: Story) -> None:
    assert {name: entry.get("error_code") for name, entry in story.entries(story.copied, "full").items()} == {
        "a": None, "b": "destination_full"}


def test_a_level_that_cannot_be_reached_fails_unless_less_is_accepted(story: Story) -> None:
    refused, accepted = story.of(story.copied, "level"), story.of(story.copied, "accepts")
    assert (refused["error_code"], refused["changed"]) == ("consistency_not_reachable", False)
    assert (accepted["changed"], accepted["consistency"]["requested"], accepted["consistency"]["achieved"]) == (
        True, "application", "crash")


def test_a_creation_of_another_product_is_waited_for(story: Story) -> None:
    assert story.of(story.copied, "busy")["changed"] is True
    assert "busy: another shadow copy is being created on the host; trying again in 5 s" in story.copied.output


@pytest.mark.parametrize(("name", "code", "number"), [("slots", "vss_too_many", 8), ("broken", "vss_unknown", 13)])
def test_return_values_of_the_creation_are_told(story: Story, name: str, code: str, number: int) -> None:
    failed = story.of(story.copied, name)
    assert (failed.status, failed["error_code"], failed["return_value"], failed["changed"]) == ("ignored", code, number, False)
    assert failed["leftovers"] == []
    assert "D:" in failed["msg"] or "Volume{" in failed["msg"]


def test_a_shadow_copy_that_cannot_be_deleted_is_named_with_the_command_that_removes_it(story: Story) -> None:
    failed = story.of(story.copied, "stuck")
    leftover, intent = failed["leftovers"]
    assert intent["kind"] == "intent"
    assert (failed.status, failed["error_code"], failed["changed"]) == ("ignored", "cleanup_failed", True)
    assert leftover == {"kind": "shadow_copy", "id": failed["shadow_copy"]["id"], "location": "this host",
                        "remove_with": f"vssadmin delete shadows /shadow={failed['shadow_copy']['id']}"}
    assert [text.partition(":")[0] for text in story.left["STUCK"]] == [f"shadow copy {leftover['id']}", "intents"]
    assert story.real("STUCK", failed["manifest"]["path"]).is_file(), "the copy itself is complete"


def test_a_second_run_finds_everything_done_and_writes_nothing(story: Story) -> None:
    for name in ("proved", "accepts", "busy"):
        assert story.of(story.again, name)["changed"] is False
        assert story.of(story.again, name)["manifest"] == story.of(story.copied, name)["manifest"]
    assert [entry["changed"] for entry in story.of(story.again, "many")["results"]] == [False] * 4
    assert {name: story.repeating[name.upper()].writing for name in ("proved", "many", "accepts", "busy")} == {
        "proved": 0, "many": 0, "accepts": 0, "busy": 0}


def test_only_what_has_changed_is_done_later(story: Story) -> None:
    assert story.of(story.later, "busy")["changed"] is False
    assert story.of(story.later, "slots")["changed"] is True, "the slots are free now"
    assert [entry["changed"] for entry in story.of(story.later, "many")["results"]] == [True] * 4, "the copies are too old"
    damaged = story.of(story.later, "proved")
    assert damaged["changed"] is True
    assert any("is damaged" in warning and story.of(story.copied, "proved")["manifest"]["folder"] in warning
               for warning in damaged["warnings"])
