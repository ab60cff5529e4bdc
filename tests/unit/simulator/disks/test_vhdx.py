# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VHDX files, read back by an independent reader and compared with a model byte by byte."""
from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from dissect.hypervisor.disk.vhdx import VHDX
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator.disks.container import Container, create_file
from simulator.disks.crc32c import crc32c
from simulator.disks.layout import HEADER_OFFSETS, MIB, NOT_PRESENT, READS_AS_ZERO, REGION_TABLE_OFFSETS, Header, Metadata, VhdxError
from simulator.disks.vhdx import Vhdx, bit_runs, create_differencing, create_dynamic, create_fixed, make_locator

DISK_ID = UUID("6b2c8c1e-6f1e-4a53-93fd-0d3a7a8d2b11")
SIZE = 3 * MIB + 512 * 1024  # the last block is a half one
needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed (Debian package qemu-utils)")


def dissect_bytes(path: Path) -> bytes:
    """The whole disk, block by block: dissect's reader goes astray when one read crosses a block from its middle."""
    disk = VHDX(path)
    return b"".join(disk.read_sectors(at // 512, min(MIB, disk.size - at) // 512) for at in range(0, disk.size, MIB))


@contextmanager
def workshop() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@st.composite
def writes(draw: st.DrawFn, size: int = SIZE) -> list[tuple[int, bytes]]:
    made = []
    for _unused in range(draw(st.integers(1, 6))):
        near_edge = st.integers(-2000, 2000).map(lambda n: n % size)
        offset = draw(st.one_of(st.integers(0, size - 1), near_edge, st.integers(0, size // 4096 - 1).map(lambda n: n * 4096)))
        length = draw(st.one_of(st.integers(0, 9000), st.sampled_from([512, 4096, MIB, MIB + 700, 2 * MIB])))
        seed = draw(st.binary(min_size=1, max_size=5))
        made.append((offset, (seed * (length // len(seed) + 1))[:min(length, size - offset)]))
    return made


def apply(path: Path, model: bytearray, made: list[tuple[int, bytes]]) -> None:
    with Vhdx.open(path) as disk:
        for offset, data in made:
            disk.write(offset, data)
            model[offset:offset + len(data)] = data
        assert disk.read(0, len(model)) == model


@pytest.mark.parametrize("create", [create_dynamic, create_fixed])
@settings(max_examples=25, deadline=None)
@given(made=writes())
def test_single_files_hold_what_was_written(create: object, made: list[tuple[int, bytes]]) -> None:
    with workshop() as folder:
        path, model = folder / "disk.vhdx", bytearray(SIZE)
        assert callable(create)
        create(path, SIZE)
        apply(path, model, made)
        assert dissect_bytes(path) == model


@settings(max_examples=30, deadline=None)
@given(base=writes(), first=writes(), second=writes())
def test_a_chain_of_three_holds_what_was_written(
        base: list[tuple[int, bytes]], first: list[tuple[int, bytes]], second: list[tuple[int, bytes]]) -> None:
    with workshop() as folder:
        model = bytearray(SIZE)
        create_dynamic(folder / "disk.vhdx", SIZE)
        apply(folder / "disk.vhdx", model, base)
        at_first_checkpoint = bytes(model)
        create_differencing(folder / "disk_1.avhdx", folder / "disk.vhdx", r"C:\VMs\disk.vhdx")
        apply(folder / "disk_1.avhdx", model, first)
        create_differencing(folder / "disk_2.avhdx", folder / "disk_1.avhdx", r"C:\VMs\disk_1.avhdx")
        apply(folder / "disk_2.avhdx", model, second)
        assert dissect_bytes(folder / "disk_2.avhdx") == model
        assert dissect_bytes(folder / "disk.vhdx") == at_first_checkpoint


@settings(max_examples=20, deadline=None)
@given(base=writes(), child=writes())
def test_a_child_with_512_byte_sectors_holds_what_was_written(base: list[tuple[int, bytes]], child: list[tuple[int, bytes]]) -> None:
    with workshop() as folder:
        model = bytearray(SIZE)
        create_dynamic(folder / "disk.vhdx", SIZE, physical_sector_size=512)
        apply(folder / "disk.vhdx", model, base)
        create_differencing(folder / "disk_1.avhdx", folder / "disk.vhdx", r"C:\VMs\disk.vhdx")
        apply(folder / "disk_1.avhdx", model, child)
        assert dissect_bytes(folder / "disk_1.avhdx") == model


@settings(max_examples=15, deadline=None)
@given(base=writes(), child=writes())
def test_sectors_of_4096_bytes_and_large_blocks(base: list[tuple[int, bytes]], child: list[tuple[int, bytes]]) -> None:
    with workshop() as folder:
        model = bytearray(SIZE)
        create_dynamic(folder / "disk.vhdx", SIZE, 2 * MIB, logical_sector_size=4096)
        apply(folder / "disk.vhdx", model, base)
        create_differencing(folder / "disk_1.avhdx", folder / "disk.vhdx", r"C:\VMs\disk.vhdx")
        apply(folder / "disk_1.avhdx", model, child)
        disk = VHDX(folder / "disk_1.avhdx")
        assert (disk.sector_size, disk.block_size) == (4096, 2 * MIB)
        assert b"".join(disk.read_sectors(at // 4096, min(2 * MIB, SIZE - at) // 4096) for at in range(0, SIZE, 2 * MIB)) == model


def test_a_write_beyond_the_first_chunk_is_found_behind_the_bitmap_entries(tmp_path: Path) -> None:
    size, far = 10 << 30, (9 << 30) + 123 * 4096  # a chunk of 1 MiB blocks with 512-byte sectors is 4 GiB
    create_dynamic(tmp_path / "base.vhdx", size)
    create_differencing(tmp_path / "leaf.avhdx", tmp_path / "base.vhdx", r"D:\base.vhdx")
    with Vhdx.open(tmp_path / "leaf.avhdx") as disk:
        disk.write(far, b"far" * 1000)
        disk.write(5 << 30, b"near")
    reader = VHDX(tmp_path / "leaf.avhdx")
    reader.seek(far)
    assert reader.read(4096) == (b"far" * 1000).ljust(4096, b"\0")
    reader.seek(5 << 30)
    assert reader.read(4096) == b"near".ljust(4096, b"\0")


def test_large_disks_cost_little(tmp_path: Path) -> None:
    create_dynamic(tmp_path / "dynamic.vhdx", 64 << 40, 32 * MIB)
    create_fixed(tmp_path / "fixed.vhdx", 100 << 30, 32 * MIB)
    assert (tmp_path / "fixed.vhdx").stat().st_size == (100 << 30) + 4 * MIB
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) < MIB


def test_info_of_each_kind(tmp_path: Path) -> None:
    create_dynamic(tmp_path / "d.vhdx", 8 * MIB, disk_id=DISK_ID)
    create_fixed(tmp_path / "f.vhdx", 8 * MIB, 2 * MIB)
    create_differencing(tmp_path / "d_1.avhdx", tmp_path / "d.vhdx", r"\\?\C:\VMs\d.vhdx")
    with Vhdx.open(tmp_path / "d.vhdx") as disk:
        dynamic = disk.info()
    with Vhdx.open(tmp_path / "f.vhdx") as disk:
        fixed = disk.info()
    with Vhdx.open(tmp_path / "d_1.avhdx") as disk:
        child = disk.info()
    assert (dynamic.kind, dynamic.format, dynamic.virtual_size, dynamic.file_size, dynamic.disk_id) == (3, 3, 8 * MIB, 4 * MIB, DISK_ID)
    assert (dynamic.parent_windows_path, dynamic.parent_id) == (None, None)
    assert (fixed.kind, fixed.block_size, fixed.file_size) == (2, 2 * MIB, 12 * MIB)
    assert (child.kind, child.virtual_size, child.disk_id) == (4, 8 * MIB, DISK_ID)
    assert (child.parent_windows_path, child.parent_id) == (r"C:\VMs\d.vhdx", dynamic.data_write_guid)


def test_the_locator_has_the_keys_of_the_specification(tmp_path: Path) -> None:
    (tmp_path / "Snapshots").mkdir()
    create_dynamic(tmp_path / "d.vhdx", MIB)
    volume_path = r"\\?\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\VMs\d.vhdx"
    create_differencing(tmp_path / "Snapshots" / "d_1.avhdx", tmp_path / "d.vhdx", r"C:\VMs\d.vhdx", parent_volume_path=volume_path)
    entries = VHDX(tmp_path / "Snapshots" / "d_1.avhdx").parent_locator.entries
    with Vhdx.open(tmp_path / "d.vhdx") as disk:
        assert entries == {"parent_linkage": f"{{{disk.data_write_guid}}}", "relative_path": r"..\d.vhdx",
                           "absolute_win32_path": r"C:\VMs\d.vhdx", "volume_path": volume_path}


def headers(path: Path) -> list[Header]:
    data = path.read_bytes()
    found = [Header.parse(data[offset:offset + 4096]) for offset in HEADER_OFFSETS]
    return [header for header in found if header is not None]


def test_guids_change_with_the_first_write_of_a_session_only(tmp_path: Path) -> None:
    path = tmp_path / "d.vhdx"
    create_dynamic(path, 2 * MIB)
    new = headers(path)
    with Vhdx.open(path) as disk:
        disk.read(0, MIB)
        disk.write(0, b"")
    assert headers(path) == new
    with Vhdx.open(path) as disk:
        disk.write(0, b"1")
        first = headers(path)
        disk.write(MIB, b"2")
        assert headers(path) == first
    assert [header.sequence for header in new] == [1, 2]
    assert [header.sequence for header in first] == [3, 4]
    assert len({header.data_write_guid for header in new + first}) == 2
    assert len({header.file_write_guid for header in new + first}) == 2
    assert {header.log_guid for header in first} == {UUID(int=0)}


def test_a_broken_current_header_leaves_the_other_one(tmp_path: Path) -> None:
    path = tmp_path / "d.vhdx"
    create_dynamic(path, 2 * MIB)
    with path.open("r+b") as file:
        file.seek(HEADER_OFFSETS[1] + 20)
        file.write(b"broken")
        file.seek(REGION_TABLE_OFFSETS[0] + 20)
        file.write(b"broken")
    with Vhdx.open(path) as disk:
        disk.write(0, b"alive")
        assert disk.read(0, 5) == b"alive"
    assert [header.sequence for header in headers(path)] == [3, 2]


@pytest.mark.parametrize(("offset", "length"), [(HEADER_OFFSETS[0], 80 * 1024), (REGION_TABLE_OFFSETS[0], 128 * 1024), (2 * MIB, 64)])
def test_a_destroyed_structure_is_corrupt(tmp_path: Path, offset: int, length: int) -> None:
    path = tmp_path / "d.vhdx"
    create_dynamic(path, 2 * MIB)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * length)
    with pytest.raises(VhdxError) as caught:
        Vhdx.open(path)
    assert caught.value.reason == "corrupt"


def test_a_file_with_a_log_to_replay_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.vhdx"
    create_dynamic(path, 2 * MIB)
    dirty = Header(9, UUID(int=1), UUID(int=2), log_guid=DISK_ID)
    with path.open("r+b") as file:
        file.seek(HEADER_OFFSETS[0])
        file.write(dirty.pack())
    with pytest.raises(VhdxError) as caught:
        Vhdx.open(path)
    assert caught.value.reason == "log_pending"


@pytest.mark.parametrize("content", [b"", b"vhdx", b"conectix" * 512])
def test_other_files_are_not_vhdx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.vhdx").write_bytes(content)
    with pytest.raises(VhdxError) as caught:
        Vhdx.open(tmp_path / "x.vhdx")
    assert caught.value.reason == "not_vhdx"


def test_a_parent_that_was_written_to_is_refused(tmp_path: Path) -> None:
    create_dynamic(tmp_path / "d.vhdx", MIB)
    create_differencing(tmp_path / "d_1.avhdx", tmp_path / "d.vhdx", r"C:\d.vhdx")
    with Vhdx.open(tmp_path / "d.vhdx") as disk:
        disk.write(0, b"x")
    with Vhdx.open(tmp_path / "d_1.avhdx") as disk, pytest.raises(VhdxError) as caught:
        disk.read(0, 1)
    assert caught.value.reason == "parent_changed"


def test_a_parent_elsewhere_is_found_by_its_windows_path(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    create_dynamic(tmp_path / "here" / "d.vhdx", MIB)
    create_differencing(tmp_path / "here" / "d_1.avhdx", tmp_path / "here" / "d.vhdx", r"\\?\C:\VMs\d.vhdx")
    (tmp_path / "here" / "d.vhdx").rename(tmp_path / "there" / "d.vhdx")
    asked: list[str] = []

    def resolver(windows_path: str) -> Path | None:
        asked.append(windows_path)
        return tmp_path / "there" / "d.vhdx"

    with Vhdx.open(tmp_path / "here" / "d_1.avhdx", resolver) as disk:
        assert disk.info().parent_windows_path == r"C:\VMs\d.vhdx"
        assert asked == []
        assert disk.chain() == [tmp_path / "here" / "d_1.avhdx", tmp_path / "there" / "d.vhdx"]
    assert asked == [r"C:\VMs\d.vhdx"]
    with Vhdx.open(tmp_path / "here" / "d_1.avhdx") as disk, pytest.raises(VhdxError) as caught:
        disk.read(0, 1)
    assert caught.value.reason == "parent_missing"


def test_set_parent_follows_a_moved_parent_and_refuses_another_disk(tmp_path: Path) -> None:
    create_dynamic(tmp_path / "d.vhdx", MIB)
    create_dynamic(tmp_path / "other.vhdx", MIB)
    create_differencing(tmp_path / "d_1.avhdx", tmp_path / "d.vhdx", r"C:\d.vhdx")
    (tmp_path / "moved").mkdir()
    (tmp_path / "d.vhdx").rename(tmp_path / "moved" / "d.vhdx")
    with Vhdx.open(tmp_path / "d_1.avhdx") as disk:
        before = disk.data_write_guid
        with pytest.raises(VhdxError) as caught:
            disk.set_parent(tmp_path / "other.vhdx", r"C:\other.vhdx")
        disk.set_parent(tmp_path / "moved" / "d.vhdx", r"C:\moved\d.vhdx")
        assert disk.chain() == [tmp_path / "d_1.avhdx", tmp_path / "moved" / "d.vhdx"]
        assert disk.data_write_guid == before
    assert caught.value.reason == "parent_changed"
    assert dissect_bytes(tmp_path / "d_1.avhdx") == bytes(MIB)
    with Vhdx.open(tmp_path / "d_1.avhdx") as disk:
        assert disk.info().parent_windows_path == r"C:\moved\d.vhdx"


def test_a_circle_of_parents_is_refused(tmp_path: Path) -> None:
    create_dynamic(tmp_path / "a.vhdx", MIB)
    create_differencing(tmp_path / "b.vhdx", tmp_path / "a.vhdx", r"C:\a.vhdx")
    create_differencing(tmp_path / "c.vhdx", tmp_path / "b.vhdx", r"C:\b.vhdx")
    with Vhdx.open(tmp_path / "b.vhdx") as disk:
        disk.set_parent(tmp_path / "c.vhdx", r"C:\c.vhdx", ignore_linkage=True)
    with Vhdx.open(tmp_path / "c.vhdx") as disk, pytest.raises(VhdxError) as caught:
        disk.chain()
    assert caught.value.reason == "cycle"


def test_a_disk_id_can_be_replaced(tmp_path: Path) -> None:
    create_dynamic(tmp_path / "d.vhdx", MIB)
    with Vhdx.open(tmp_path / "d.vhdx") as disk:
        disk.set_disk_id(DISK_ID)
    assert VHDX(tmp_path / "d.vhdx").id == DISK_ID


def test_writing_needs_a_writable_open_and_stays_inside(tmp_path: Path) -> None:
    create_dynamic(tmp_path / "d.vhdx", MIB)
    with Vhdx.open(tmp_path / "d.vhdx", writable=False) as disk, pytest.raises(VhdxError) as caught:
        disk.write(0, b"x")
    assert caught.value.reason == "read_only"
    with Vhdx.open(tmp_path / "d.vhdx") as disk:
        for offset, length in ((-1, 2), (MIB - 1, 2), (MIB, 1), (0, -1)):
            with pytest.raises(ValueError, match="not inside"):
                disk.read(offset, length)
        with pytest.raises(ValueError, match="not inside"):
            disk.write(MIB - 1, b"xx")


@pytest.mark.parametrize(("size", "block", "sector"), [
    (0, MIB, 512), (513, MIB, 512), ((64 << 40) + 512, MIB, 512), (MIB, MIB // 2, 512), (MIB, 3 * MIB, 512), (MIB, 512 * MIB, 512),
    (MIB, MIB, 1024), (MIB + 512, MIB, 4096)])
def test_sizes_that_the_format_refuses(tmp_path: Path, size: int, block: int, sector: int) -> None:
    with pytest.raises(ValueError, match=r"sector|block|size"):
        create_dynamic(tmp_path / "d.vhdx", size, block, logical_sector_size=sector)
    assert list(tmp_path.iterdir()) == []


def test_present_ranges_are_those_of_this_file(tmp_path: Path) -> None:
    create_dynamic(tmp_path / "d.vhdx", 4 * MIB)
    with Vhdx.open(tmp_path / "d.vhdx") as disk:
        disk.write(0, b"base")
    create_differencing(tmp_path / "d_1.avhdx", tmp_path / "d.vhdx", r"C:\d.vhdx")
    with Vhdx.open(tmp_path / "d_1.avhdx") as disk:
        disk.write(MIB + 5000, b"x" * 10)
        disk.write(2 * MIB, bytes(MIB))
        assert list(disk.present_ranges()) == [(MIB + 4096, 4096), (2 * MIB, MIB)]


def test_bits_of_a_block_that_was_given_back_do_not_come_to_life_again(tmp_path: Path) -> None:
    create_fixed(tmp_path / "d.vhdx", 2 * MIB)
    with Vhdx.open(tmp_path / "d.vhdx") as disk:
        disk.write(0, b"p" * MIB)
    create_differencing(tmp_path / "d_1.avhdx", tmp_path / "d.vhdx", r"C:\d.vhdx")
    with Vhdx.open(tmp_path / "d_1.avhdx") as disk:
        disk.write(0, b"old" * 2000)
    container = Container(tmp_path / "d_1.avhdx", writable=True)
    container.set_payload(0, NOT_PRESENT, 0)
    container.close()
    with Vhdx.open(tmp_path / "d_1.avhdx") as disk:
        disk.write(65536, b"n" * 4096)
    assert dissect_bytes(tmp_path / "d_1.avhdx") == (b"p" * 65536 + b"n" * 4096).ljust(MIB, b"p") + bytes(MIB)


@pytest.mark.parametrize("state", READS_AS_ZERO)
def test_a_block_of_zeros_hides_the_parent(tmp_path: Path, state: int) -> None:
    create_fixed(tmp_path / "d.vhdx", MIB)
    with Vhdx.open(tmp_path / "d.vhdx") as disk:
        disk.write(0, b"p" * MIB)
    create_differencing(tmp_path / "d_1.avhdx", tmp_path / "d.vhdx", r"C:\d.vhdx")
    container = Container(tmp_path / "d_1.avhdx", writable=True)
    container.set_payload(0, state, 0)
    container.close()
    with Vhdx.open(tmp_path / "d_1.avhdx") as disk:
        assert disk.read(0, MIB) == bytes(MIB) == dissect_bytes(tmp_path / "d_1.avhdx")
        disk.write(1000, b"new")
    assert dissect_bytes(tmp_path / "d_1.avhdx") == (bytes(1000) + b"new").ljust(MIB, b"\0")


def test_a_child_larger_than_its_parent_ends_in_zeros(tmp_path: Path) -> None:
    create_dynamic(tmp_path / "d.vhdx", MIB + 4096)
    with Vhdx.open(tmp_path / "d.vhdx") as disk:
        disk.write(MIB, b"p" * 4096)
        locator = make_locator(tmp_path / "d_1.avhdx", tmp_path / "d.vhdx", r"C:\d.vhdx", disk.data_write_guid)
    create_file(tmp_path / "d_1.avhdx", Metadata(3 * MIB, MIB, DISK_ID, locator=locator))
    with Vhdx.open(tmp_path / "d_1.avhdx") as disk:
        assert disk.read(MIB, 2 * MIB) == (b"p" * 4096).ljust(2 * MIB, b"\0")


def test_a_reserved_block_state_is_corrupt(tmp_path: Path) -> None:
    create_dynamic(tmp_path / "d.vhdx", MIB)
    container = Container(tmp_path / "d.vhdx", writable=True)
    container.set_payload(0, 5, 0)
    container.close()
    with Vhdx.open(tmp_path / "d.vhdx") as disk, pytest.raises(VhdxError) as caught:
        disk.read(0, 1)
    assert caught.value.reason == "corrupt"


def test_a_copy_at_any_moment_of_a_write_is_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each single change of the file leaves either the old or the new content of the sectors written."""
    create_dynamic(tmp_path / "d.vhdx", 2 * MIB)
    create_differencing(tmp_path / "d_1.avhdx", tmp_path / "d.vhdx", r"C:\d.vhdx")
    states: list[bytes] = []
    real = os.pwrite

    def watched(file: int, data: bytes, offset: int) -> int:
        written = real(file, data, offset)
        states.append(dissect_bytes(tmp_path / "d_1.avhdx")[4096:8192])
        return written

    with Vhdx.open(tmp_path / "d_1.avhdx") as disk:
        monkeypatch.setattr("os.pwrite", watched)
        disk.write(4096, b"n" * 4096)
    assert len(states) >= 6
    assert set(states) == {bytes(4096), b"n" * 4096}
    assert states.index(b"n" * 4096) == len(states) - 1


def test_crc32c_of_known_values() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"") == 0


@given(st.binary(max_size=40), st.integers(0, 5000))
def test_crc32c_walks_zeros_as_any_bytes(data: bytes, zeros: int) -> None:
    register = 0xFFFFFFFF
    for byte in data + bytes(zeros):
        register ^= byte
        for _unused in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    assert crc32c(data + bytes(zeros)) == register ^ 0xFFFFFFFF


@given(st.integers(0, 2**40), st.integers(1, 40))
def test_bit_runs_put_together_are_the_bits(bits: int, count: int) -> None:
    runs = list(bit_runs(bits, count))
    assert [value for value, _unused, length in runs for _unused in range(length)] == [bool(bits >> i & 1) for i in range(count)]
    assert all(one[0] != two[0] for one, two in pairwise(runs))


def test_metadata_survive_packing() -> None:
    metadata = Metadata(5 * MIB, 4 * MIB, DISK_ID, 4096, 4096, locator={"parent_linkage": "{x}", "relative_path": ".\\日本.vhdx"})
    assert Metadata.parse(metadata.pack()) == metadata
    unknown = bytearray(metadata.pack())
    unknown[32:48] = UUID(int=7).bytes_le
    with pytest.raises(VhdxError, match="not known"):
        Metadata.parse(bytes(unknown))
    truncated = struct.pack("<8sHH20x", b"metadata", 0, 0).ljust(65536, b"\0")
    with pytest.raises(VhdxError, match="not readable"):
        Metadata.parse(truncated)


@needs_qemu
@settings(max_examples=8, deadline=None)
@given(made=writes())
def test_qemu_img_finds_no_fault_and_the_same_bytes(made: list[tuple[int, bytes]]) -> None:
    with workshop() as folder:
        for name, create in (("dynamic", create_dynamic), ("fixed", create_fixed)):
            path, model = folder / f"{name}.vhdx", bytearray(SIZE)
            create(path, SIZE)
            apply(path, model, made)
            (folder / "model.raw").write_bytes(model)
            run_qemu("check", "-f", "vhdx", str(path))
            run_qemu("compare", "-f", "vhdx", "-F", "raw", str(path), str(folder / "model.raw"))
            told = json.loads(run_qemu("info", "--output=json", str(path)))
            assert (told["format"], told["virtual-size"]) == ("vhdx", SIZE)


def run_qemu(*arguments: str) -> str:
    done = subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
