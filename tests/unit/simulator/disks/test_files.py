# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VHD files, opening by content, files by description, and copies that keep holes."""
from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from uuid import UUID

import pytest
from dissect.hypervisor.disk.vhd import VHD
from hypothesis import given
from hypothesis import strategies as st
from simulator.disks.copying import copy_at_once, copy_in_chunks
from simulator.disks.files import DiskFile, ParentFile, ensure
from simulator.disks.images import inspect_image, open_image
from simulator.disks.layout import MIB, VhdxError
from simulator.disks.vhd import Vhd, _geometry, create_vhd_fixed
from simulator.disks.vhdx import Vhdx, create_dynamic

DISK_ID = UUID("6b2c8c1e-6f1e-4a53-93fd-0d3a7a8d2b11")
needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed (Debian package qemu-utils)")


def vhd_with_data(path: Path) -> None:
    create_vhd_fixed(path, 3 * MIB, DISK_ID)
    with Vhd.open(path) as disk:
        disk.write(700, b"across sectors" * 100)


def test_a_fixed_vhd_is_read_by_others(tmp_path: Path) -> None:
    vhd_with_data(tmp_path / "d.vhd")
    model = bytes(700) + b"across sectors" * 100
    with (tmp_path / "d.vhd").open("rb") as file:
        assert VHD(file).read() == model.ljust(3 * MIB, b"\0")
    with Vhd.open(tmp_path / "d.vhd") as disk:
        assert disk.read(0, 3 * MIB) == model.ljust(3 * MIB, b"\0")
    info = inspect_image(tmp_path / "d.vhd")
    assert (info.kind, info.format, info.virtual_size, info.file_size, info.disk_id) == (2, 2, 3 * MIB, 3 * MIB + 512, DISK_ID)


@needs_qemu
def test_qemu_img_knows_the_vhd(tmp_path: Path) -> None:
    vhd_with_data(tmp_path / "d.vhd")
    (tmp_path / "d.raw").write_bytes((bytes(700) + b"across sectors" * 100).ljust(3 * MIB, b"\0"))
    told = subprocess.run(["qemu-img", "info", "-f", "vpc", "--output=json", tmp_path / "d.vhd"], capture_output=True, check=True)
    assert json.loads(told.stdout)["virtual-size"] == 3 * MIB
    subprocess.run(["qemu-img", "compare", "-f", "vpc", "-F", "raw", tmp_path / "d.vhd", tmp_path / "d.raw"], capture_output=True,
                   check=True)


@pytest.mark.parametrize(("size", "geometry"), [
    (3 * MIB, (90, 4, 17)), (64 * MIB, (963, 8, 17)), (1 << 30, (2080, 16, 63)), (127 << 30, (65278, 16, 255)),
    (2040 << 30, (65535, 16, 255))])
def test_the_geometry_is_that_of_the_specification(size: int, geometry: tuple[int, int, int]) -> None:
    assert _geometry(size // 512) == geometry


@pytest.mark.parametrize("size", [0, 100, (2040 << 30) + 512])
def test_vhd_sizes_that_the_format_refuses(tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 512"):
        create_vhd_fixed(tmp_path / "d.vhd", size)


def test_damaged_vhd_files_are_told_apart(tmp_path: Path) -> None:
    vhd_with_data(tmp_path / "d.vhd")
    sound = (tmp_path / "d.vhd").read_bytes()
    reasons = []
    for content in (b"short", bytes(4096), sound[:-100] + b"\x01" + sound[-99:], sound[MIB:]):
        (tmp_path / "d.vhd").write_bytes(content)
        with pytest.raises(VhdxError) as caught:
            Vhd.open(tmp_path / "d.vhd")
        reasons.append(caught.value.reason)
    assert reasons == ["not_vhdx", "not_vhdx", "corrupt", "corrupt"]


def test_a_vhd_stays_inside(tmp_path: Path) -> None:
    vhd_with_data(tmp_path / "d.vhd")
    with Vhd.open(tmp_path / "d.vhd") as disk:
        with pytest.raises(ValueError, match="not inside"):
            disk.write(3 * MIB - 1, b"xx")
        with pytest.raises(ValueError, match="not inside"):
            disk.read(3 * MIB, 1)


def test_files_are_opened_by_content_and_sets_told_by_name(tmp_path: Path) -> None:
    create_dynamic(tmp_path / "set.vhds", 8 * MIB)
    create_vhd_fixed(tmp_path / "named.vhdx", MIB)
    (tmp_path / "text.vhdx").write_text("no disk")
    (tmp_path / "empty.vhd").write_bytes(b"")
    assert (inspect_image(tmp_path / "set.vhds").format, inspect_image(tmp_path / "set.vhds").kind) == (4, 3)
    assert inspect_image(tmp_path / "named.vhdx").format == 2
    for name in ("text.vhdx", "empty.vhd"):
        with pytest.raises(VhdxError) as caught:
            open_image(tmp_path / name)
        assert caught.value.reason == "not_vhdx"


def test_a_described_chain_comes_into_being_at_once_and_only_once(tmp_path: Path) -> None:
    base = ParentFile(tmp_path / "VMs" / "d.vhdx", r"C:\VMs\d.vhdx", DiskFile("fixed", 4 * MIB, disk_id=DISK_ID, content=b"base"))
    middle = ParentFile(tmp_path / "VMs" / "d_1.avhdx", r"C:\VMs\d_1.avhdx", DiskFile("differencing", parent=base, content=b"MID"))
    leaf = tmp_path / "VMs" / "d_2.avhdx"
    assert ensure(leaf, DiskFile("differencing", parent=middle))
    assert sorted(path.name for path in leaf.parent.iterdir()) == ["d.vhdx", "d_1.avhdx", "d_2.avhdx"]
    with Vhdx.open(leaf) as disk:
        assert disk.chain() == [leaf, middle.path, base.path]
        assert disk.read(0, 6) == b"MIDe\0\0"
        assert disk.info().disk_id == DISK_ID
        assert disk.info().parent_windows_path == r"C:\VMs\d_1.avhdx"
        disk.write(0, b"x")
    assert not ensure(leaf, DiskFile("differencing", parent=middle))
    with Vhdx.open(leaf) as disk:
        assert disk.read(0, 4) == b"xIDe"


def test_each_kind_of_file_is_made(tmp_path: Path) -> None:
    made = {}
    for name, file in (("a.vhdx", DiskFile("dynamic", 8 * MIB, 2 * MIB)), ("b.vhdx", DiskFile("fixed", 8 * MIB)),
                       ("c.vhd", DiskFile("vhd", 8 * MIB, content=b"boot")), ("d.vhds", DiskFile("dynamic", 8 * MIB))):
        assert ensure(tmp_path / name, file)
        info = inspect_image(tmp_path / name)
        made[name] = (info.kind, info.format, info.virtual_size, info.block_size)
    assert made == {"a.vhdx": (3, 3, 8 * MIB, 2 * MIB), "b.vhdx": (2, 3, 8 * MIB, MIB), "c.vhd": (2, 2, 8 * MIB, 0),
                    "d.vhds": (3, 4, 8 * MIB, MIB)}


def test_a_file_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    for file in (DiskFile("differencing"), DiskFile("dynamic", parent=ParentFile(tmp_path / "x", "X")), DiskFile("dynamic", 100),
                 DiskFile("dynamic", MIB, content=bytes(2 * MIB))):
        with pytest.raises(ValueError, match=r"parent|size|inside"):
            ensure(tmp_path / "d.vhdx", file)
    with pytest.raises(FileNotFoundError):
        ensure(tmp_path / "d.vhdx", DiskFile("differencing", parent=ParentFile(tmp_path / "absent.vhdx", r"C:\absent.vhdx")))
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3)), max_size=6), st.integers(1, 60))
def test_copies_have_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, data: list[tuple[int, int]], chunk: int) -> None:
    folder = tmp_path_factory.mktemp("copy")
    with (folder / "source").open("wb") as file:
        for place, length in data:
            file.seek(place * 5000)
            file.write(b"d" * 4096 * length)
        file.truncate(200_000)
    steps = list(copy_in_chunks(folder / "source", folder / "chunks", chunk * 1000))
    assert steps == [*range(chunk * 1000, 200_000, chunk * 1000), 200_000]
    assert copy_at_once(folder / "source", folder / "once") == 200_000
    assert (folder / "chunks").read_bytes() == (folder / "once").read_bytes() == (folder / "source").read_bytes()


def test_copies_keep_holes_and_follow_a_file_that_grows(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(10 << 30)
        file.seek(5 << 30)
        file.write(b"data")
    assert copy_at_once(tmp_path / "large", tmp_path / "copy") == 10 << 30
    assert (tmp_path / "copy").stat().st_blocks * 512 < MIB
    (tmp_path / "grows").write_bytes(b"1" * 10)
    for done in copy_in_chunks(tmp_path / "grows", tmp_path / "grown", 10):
        if done < 30:
            with (tmp_path / "grows").open("ab") as file:
                file.write(b"2" * 10)
    assert (tmp_path / "grown").read_bytes() == b"1" * 10 + b"2" * 20
    (tmp_path / "empty").write_bytes(b"")
    assert copy_at_once(tmp_path / "empty", tmp_path / "grown") == 0
    assert (tmp_path / "grown").read_bytes() == b""
