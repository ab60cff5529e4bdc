# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests: what is written is read again; what is forged or damaged is refused and nothing else happens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import (
    ExcludedDisk,
    Export,
    ExportedDisk,
    Manifest,
    ManifestError,
    ManifestFile,
    Place,
    dump,
    parse,
)
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import ValidationError, validate

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "manifest.schema.json").read_text(encoding="utf-8"))
VM_ID = "0A1B2C3D-1111-2222-3333-444455556666"
TAKEN = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
GOOD = Manifest(
    vm_id=VM_ID,
    vm_name='{{ evil }} "x" \n\x1b[31m \U0001f4be',
    host="HV01",
    run_id="night-1",
    taken=TAKEN,
    completed=TAKEN,
    shadow_id="{3808876B-C176-4E48-B7AE-04046E6CC752}",
    requested="crash",
    achieved="crash",
    evidence="no writers",
    not_captured=("a",),
    unknowns=("b", "c"),
    verified="size",
    files=(ManifestFile("disks\\a.avhdx", "D:\\VMs\\a.avhdx", 5, 0, 0), ManifestFile("disks\\a.vhdx", "D:\\VMs\\a.vhdx", 7, 0, 1)),
)

DISK = "Virtual Hard Disks\\a.vhdx"
EXPORTED = replace(
    GOOD,
    shadow_id=None,
    verified="chain",
    method="production_checkpoint",
    files=(
        ManifestFile(f"Virtual Machines\\{VM_ID}.vmcx", "", 30, role="configuration"),
        ManifestFile(DISK, "", 4096, sha256="0a" * 32, role="disk"),
        ManifestFile("Virtual Hard Disks\\b.avhdx", "", 8192, role="disk"),
    ),
    export=Export(
        build=17763,
        generation=2,
        version="9.0",
        vtpm=True,
        shielded=False,
        memory=2 << 30,
        processors=4,
        switches=("LAN", 'evil {{ "x" }}'),
        disks=(
            ExportedDisk(DISK, VM_ID, "D:\\VMs\\a.avhdx", Place("scsi", 0, 1), 1 << 30, "vhdx", "dynamic"),
            ExportedDisk("Virtual Hard Disks\\b.avhdx", None, "D:\\b", Place(None, None, None), 1 << 30, "vhdx", "differencing", DISK),
        ),
        excluded=(ExcludedDisk("D:\\VMs\\swap.vhdx", Place("ide", 1, 0)),),
        checkpoint_id=f"Microsoft:{VM_ID}",
        checkpoint_name="nightly",
        definition_id=VM_ID,
    ),
)


def test_a_manifest_survives_its_file() -> None:
    assert parse(dump(GOOD).decode("ascii")) == GOOD
    assert GOOD.size == 12
    hashed = replace(GOOD, verified="sha256", files=tuple(replace(file, sha256="0a" * 32) for file in GOOD.files))
    assert parse(dump(hashed).decode("ascii")) == hashed


def test_a_manifest_of_an_export_survives_its_file() -> None:
    assert parse(dump(EXPORTED).decode("ascii")) == EXPORTED
    assert (EXPORTED.kind, GOOD.kind, EXPORTED.size) == ("export", "vss_copy", 12318)
    assert [file.path for file in EXPORTED.files_of("configuration")] == [f"Virtual Machines\\{VM_ID}.vmcx"]
    assert EXPORTED.export is not None and EXPORTED.export.needs_guardian


def test_both_kinds_are_what_the_schema_says() -> None:
    for manifest in (GOOD, EXPORTED):
        validate(manifest.as_data(), SCHEMA)
    for wrong in ({"kind": "export"}, {"verified": "chain"}, {"method": "offline"}):
        with pytest.raises(ValidationError):
            validate({**GOOD.as_data(), **wrong}, SCHEMA)
    for wrong in ({"kind": "vss_copy"}, {"method": "live"}, {"disks": None}, {"needs": {}}):
        with pytest.raises(ValidationError):
            validate({**EXPORTED.as_data(), **wrong}, SCHEMA)


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_name_is_written_as_short_ascii_lines(name: str, source: str) -> None:
    file = ManifestFile("disks\\a.vhdx", source, 1, 0, 0)
    data = dump(Manifest(**{**GOOD.__dict__, "vm_name": name, "files": (file,)}))
    assert data.isascii()
    assert max(len(line) for line in data.split(b"\r\n")) < 8000
    read = parse(data.decode("ascii"))
    assert (read.vm_name, read.files[0].source) == (name, source)


def changed(**changes: Any) -> str:
    return json.dumps({**GOOD.as_data(), **changes})


def with_file(**changes: Any) -> str:
    return changed(files=[{**GOOD.as_data()["files"][0], **changes}])


def exported(**changes: Any) -> str:
    return json.dumps({**EXPORTED.as_data(), **changes})


def exported_disk(**changes: Any) -> str:
    return exported(disks=[{**EXPORTED.as_data()["disks"][0], **changes}])


FORGED: list[Callable[[], str]] = [
    lambda: "",
    lambda: "null",
    lambda: "[]",
    lambda: "{",
    lambda: "{}",
    lambda: "1" * 5000,
    lambda: "[" * 100_000,
    lambda: "NaN",
    lambda: changed(format=2),
    lambda: changed(format=True),
    lambda: changed(format="1"),
    lambda: changed(format=1.5),
    lambda: changed(kind="export"),
    lambda: changed(kind=["export"]),
    lambda: changed(kind="backup"),
    lambda: changed(verified="chain"),
    lambda: changed(method="offline"),
    lambda: exported(kind="vss_copy"),
    lambda: exported(method="vss"),
    lambda: exported(host_build=-1),
    lambda: exported(vm={"id": VM_ID, "name": "a"}),
    lambda: exported(vm={**EXPORTED.as_data()["vm"], "generation": 3}),
    lambda: exported(vm={**EXPORTED.as_data()["vm"], "vtpm": 1}),
    lambda: exported(vm={**EXPORTED.as_data()["vm"], "version": "9"}),
    lambda: exported(needs={}),
    lambda: exported(needs={**EXPORTED.as_data()["needs"], "switches": "LAN"}),
    lambda: exported(checkpoint={}),
    lambda: exported(definition_id="x"),
    lambda: exported(disks={}),
    lambda: exported(excluded_disks=[1]),
    lambda: exported(files=[{**EXPORTED.as_data()["files"][0], "role": "disk2"}]),
    lambda: exported(files=[{"path": "x", "size": 1}]),
    lambda: exported_disk(path="Virtual Hard Disks\\other.vhdx"),
    lambda: exported_disk(path=f"Virtual Machines\\{VM_ID}.vmcx"),
    lambda: exported_disk(parent="C:\\Windows\\x.vhdx"),
    lambda: exported_disk(id="x"),
    lambda: exported_disk(type="thin"),
    lambda: exported_disk(controller="nvme"),
    lambda: exported_disk(location=-1),
    lambda: changed(vm=None),
    lambda: changed(vm={"id": VM_ID}),
    lambda: changed(vm={"id": "x", "name": "a"}),
    lambda: changed(vm={"id": VM_ID + "\n", "name": "a"}),
    lambda: changed(vm={"id": VM_ID.lower(), "name": "a"}),
    lambda: changed(host=1),
    lambda: changed(run_id="..\\.."),
    lambda: changed(run_id=""),
    lambda: changed(taken="yesterday"),
    lambda: changed(taken="2026-13-31T12:00:00Z"),
    lambda: changed(completed=None),
    lambda: changed(shadow_copy="*"),
    lambda: changed(consistency={}),
    lambda: changed(consistency={**GOOD.as_data()["consistency"], "achieved": "perfect"}),
    lambda: changed(consistency={**GOOD.as_data()["consistency"], "unknowns": "x"}),
    lambda: changed(verified="hash"),
    lambda: changed(verified=None),
    lambda: changed(files=[]),
    lambda: changed(files={}),
    lambda: changed(files=["x"]),
    lambda: changed(files=[GOOD.as_data()["files"][0]] * 2),
    lambda: changed(files=[GOOD.as_data()["files"][0]] * 3000),
    lambda: with_file(path="..\\..\\Windows\\x"),
    lambda: with_file(path="C:\\x"),
    lambda: with_file(path="\\\\server\\x"),
    lambda: with_file(path="a:stream"),
    lambda: with_file(path="NUL"),
    lambda: with_file(path="manifest.json"),
    lambda: with_file(path=""),
    lambda: with_file(sha256="A" * 64),
    lambda: with_file(sha256=None),
    lambda: with_file(size=-1),
    lambda: with_file(size=1 << 63),
    lambda: with_file(size=True),
    lambda: with_file(size="5"),
    lambda: with_file(size=1.0),
    lambda: with_file(disk=-1),
    lambda: with_file(level=None),
    lambda: with_file(source=None),
    lambda: changed(host="x" * 5000),
    lambda: changed(host="x" * 2_000_000),
]


@pytest.mark.parametrize("text", FORGED)
def test_forged_and_damaged_manifests_are_refused(text: Callable[[], str]) -> None:
    with pytest.raises(ManifestError):
        parse(text())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from((GOOD, EXPORTED)), st.sampled_from(sorted(GOOD.as_data() | EXPORTED.as_data())), JSON)
def test_any_value_in_any_place_is_read_or_refused(manifest: Manifest, key: str, value: Any) -> None:
    try:
        read = parse(json.dumps({**manifest.as_data(), key: value}))
    except ManifestError:
        return
    assert parse(dump(read).decode("ascii")) == read


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_flipped_byte_is_read_or_refused(position: int, byte: int) -> None:
    data = bytearray(dump(GOOD))
    data[position % len(data)] = byte
    try:
        parse(data.decode("utf-8", "replace"))
    except ManifestError:
        return
