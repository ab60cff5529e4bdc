# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``verify`` of ``hyperv_vss_copy``: what each method notices, and what it says of it afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_vss_copy
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, VmSpec
from simulator.soap.rules import lost_before
from simulator.windows.programs.base import Speeds
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"))
SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "manifest.schema.json"


def machine(name: str = "a", **values: Any) -> VmSpec:
    return VmSpec(name, disks=(DiskSpec(f"D:\\VMs\\{name}\\a.vhdx"),), **values)


def copy(runner: Any, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = runner.run(hyperv_vss_copy, **{"name": "a", "destination": "E:\\Backup", **params})
    return result


def real(runner: Any, path: str) -> Path:
    with runner.fleet.locked():
        found: Path = runner.running.host.files.real_path(path)
    return found


def before(runner: Any, text: str, damage: Callable[[Path], object]) -> None:
    """Damage the copied disk when the host is asked for something about it: ``text`` stands in the request."""
    root = real(runner, "E:\\")

    def meanwhile(view: Any) -> bool:
        if text in view.document:
            for path in root.glob("Backup/HV01/*/*/disks/a.vhdx"):
                damage(path)
        return False

    with runner.fleet.locked():
        runner.running.host.rules.add(lost_before(), when=meanwhile)


def once_it_is_there(runner: Any, damage: Callable[[Path], object]) -> None:
    """Damage the copied disk as soon as its source is being hashed, which takes some seconds."""
    root = real(runner, "E:\\")
    clock = runner.running.host.clock

    def look() -> None:
        found = list(root.glob("Backup/HV01/*/*/disks/a.vhdx"))
        for path in found:
            damage(path)
        if not found:
            clock.call_later(0.5, look)

    with runner.fleet.locked():
        clock.call_later(0.5, look)


def change_the_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] = 0x5A
    path.write_bytes(data)


@pytest.mark.parametrize(("os_version", "locale"), [("2012R2", "ja-JP"), ("2022", "de-DE")])
def test_hashes_of_both_sides_are_compared_and_stand_in_the_manifest(start: Start, os_version: str, locale: str) -> None:
    runner = start(volumes=VOLUMES, os_version=os_version, locale=locale, vms=(machine(checkpoints=(CheckpointSpec("c"),)),),
                   guest_writes={"a": 50.0})
    result = copy(runner, verify="sha256")
    manifest = result["manifest"]
    assert (manifest["verified"], len(manifest["files"])) == ("sha256", 2)
    for file in manifest["files"]:
        assert hashlib.sha256(real(runner, f"{manifest['folder']}\\{file['path']}").read_bytes()).hexdigest() == file["sha256"]
    written = json.loads(real(runner, manifest["path"]).read_bytes())
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(written)
    assert copy(runner, verify="sha256", max_age="1h")["changed"] is False


@pytest.mark.parametrize(("verify", "code"), [("sha256", "verify_failed"), ("size", None)])
def test_a_byte_that_differs_is_seen_by_the_hash_alone(start: Start, verify: str, code: str | None) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(),), speeds=Speeds(hash_bytes_per_second=1024.0**2))
    if verify == "sha256":
        once_it_is_there(runner, change_the_last_byte)
    else:
        before(runner, "GetVirtualHardDiskSettingData", change_the_last_byte)
    result = copy(runner, verify=verify)
    assert result.get("error_code") == code
    assert ("manifest" in result) == (code is None)
    if code:
        assert [left["kind"] for left in result["leftovers"]] == ["incomplete_copy", "intent"]
        assert list(real(runner, "E:\\").glob("Backup/HV01/*/*/manifest.json")) == []


@pytest.mark.parametrize("verify", ["size", "sha256"])
def test_another_disk_of_the_same_size_is_no_copy(start: Start, verify: str) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(), machine("b")))
    with runner.fleet.locked():
        runner.running.host.hyperv.disks.materialise_all()
    other = real(runner, "D:\\VMs\\b\\a.vhdx").read_bytes()
    before(runner, "GetVirtualHardDiskSettingData", lambda path: path.write_bytes(other))
    result = copy(runner, verify=verify)
    assert (result["error_code"], "identity" in result["msg"]) == ("verify_failed", True)


def test_a_copy_that_cannot_be_inspected_is_told_and_is_no_failure(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(),))
    before(runner, "GetVirtualHardDiskSettingData", lambda path: path.write_bytes(bytes(path.stat().st_size)))
    result = copy(runner)
    assert (result["changed"], result["manifest"]["verified"]) == (True, "size")
    told = [text for text in result["consistency"]["unknowns"] if "could not be inspected" in text]
    assert [text for text in result["manifest"]["consistency"]["unknowns"] if "could not be inspected" in text] == told
    assert len(told) == 1


def test_a_copy_that_nobody_verified_never_counts(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(machine(),))
    old = copy(runner)["manifest"]["folder"]
    with runner.fleet.locked():
        runner.running.host.clock.advance(7200)
    first = copy(runner, verify="none", run_id="r", keep={"last": 1})
    assert (first["changed"], first["manifest"]["verified"], first["pruned"]) == (True, "none", [])
    with runner.fleet.locked():
        runner.running.host.clock.advance(7200)
    assert copy(runner, verify="none", max_age="1d")["manifest"]["folder"] == old
    assert copy(runner, verify="none", run_id="r", max_age="3h", check=True)["changed"] is True
    second = copy(runner, max_age="3h", keep={"last": 1})
    assert (second["changed"], [gone["folder"] for gone in second["pruned"]]) == (True, [old])
    assert real(runner, first["manifest"]["path"]).is_file(), "an unverified copy is neither counted nor removed"
