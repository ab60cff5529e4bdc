# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shadow copies: the return values of a creation, what is frozen, storage areas, life and death."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from simulator.windows import shadows
from simulator.windows.shadows import CONTEXTS, ShadowSettings
from simulator.windows.spec import VolumeSpec
from simulator.windows.storage import BLOCK
from unit.simulator.windows.helpers import GIB, Rig

MIB = 1024**2
GUID = "11111111-2222-3333-4444-555555555555"
VOLUMES = (
    VolumeSpec("C:"), VolumeSpec("D:", guid=GUID), VolumeSpec("E:", filesystem="FAT32"), VolumeSpec("F:", filesystem="ReFS"),
    VolumeSpec("G:", removable=True), VolumeSpec("H:", GIB, free=100 * MIB), VolumeSpec("C:\\Mounts\\Data"),
    VolumeSpec("C:\\ClusterStorage\\Volume1", filesystem="CSVFS"),
    VolumeSpec("C:\\ClusterStorage\\Volume2", filesystem="CSVFS", owned=False),
)
SMALL = ShadowSettings(minimum_area=10 * BLOCK, default_share_of_volume=1.0, creation_seconds=3.0)


@pytest.fixture
def host(tmp_path: Path) -> Rig:
    """Volumes of every kind."""
    return Rig(tmp_path, VOLUMES)


@pytest.mark.parametrize(("volume", "context", "code"), [
    ("D:\\", "ClientAccessible", 0), ("D:\\", None, 0), ("d:\\", "clientaccessible", 0), (f"\\\\?\\Volume{{{GUID}}}\\", None, 0),
    (f"\\\\?\\VOLUME{{{GUID}}}\\", None, 0), ("C:\\Mounts\\Data\\", None, 0), ("C:\\ClusterStorage\\Volume1\\", None, 0),
    ("D:\\", "ApplicationRollback", 0), ("D:\\", "NASRollback", 0), ("D:\\", "ClientAccessibleWriters", 0),
    ("D:", None, 2), ("", None, 2), (None, None, 2), (f"\\\\?\\Volume{{{GUID}}}", None, 2), ("D:\\", "Persistent", 5), ("D:\\", "29", 5),
    ("Z:\\", None, 3), ("D:\\Folder\\", None, 3), ("\\\\?\\Volume{00000000-0000-0000-0000-000000000000}\\", None, 3),
    ("E:\\", None, 4), ("F:\\", None, 4), ("G:\\", None, 4), ("C:\\ClusterStorage\\Volume2\\", None, 4), ("\\\\nas\\share\\", None, 4),
    ("H:\\", None, 6),
])
def test_return_values_of_a_creation(host: Rig, volume: str | None, context: str | None, code: int) -> None:
    returned, identity = host.shadows.create(volume, context)
    assert returned == code
    assert [copy.shadow_id for copy in host.shadows.copies] == ([identity] if code == 0 else [])
    assert len(host.changes) == (1 if code == 0 else 0)


def test_options_of_a_host(tmp_path: Path) -> None:
    lenient = Rig(tmp_path, VOLUMES, settings=ShadowSettings(refs_supported=True, needs_trailing_backslash=False))
    assert lenient.shadows.create("F:\\", None)[0] == 0
    assert lenient.shadows.create("D:", None)[0] == 0


@pytest.mark.parametrize("code", range(1, 14))
def test_every_code_can_be_injected_once(rig: Rig, code: int) -> None:
    rig.shadows.answers.append(code)
    assert rig.shadows.create("D:\\", None) == (code, None)
    assert rig.shadows.create("D:\\", None)[0] == 0


def test_one_creation_at_a_time(rig: Rig) -> None:
    seen: list[int] = []
    rig.clock.call_later(1.0, lambda: seen.append(rig.shadows.create("C:\\", None)[0]))
    assert rig.shadows.create("D:\\", None)[0] == shadows.OK
    assert seen == [shadows.BUSY]
    assert rig.shadows.create("C:\\", None)[0] == shadows.OK
    rig.shadows.occupy(60)
    assert rig.shadows.create("C:\\", None)[0] == shadows.BUSY
    rig.clock.advance(60)
    assert rig.shadows.create("C:\\", None)[0] == shadows.OK


def test_a_creation_takes_time_and_freezes_its_last_instant(rig: Rig) -> None:
    real = rig.put("D:\\vm\\a.vhdx", b"before")
    rig.clock.call_later(2.0, lambda: real.write_bytes(b"during"))
    start = rig.clock.now()
    rig.shadows.create("D:\\", None)
    assert (rig.clock.now() - start).total_seconds() == 3.0
    copy = rig.shadows.copies[0]
    real.write_bytes(b"after!")
    assert rig.files.read_file(copy.device_object + "\\vm\\a.vhdx") == b"during"
    assert copy.created == rig.clock.now()


def test_a_copy_is_sparse_where_the_disk_is_sparse(rig: Rig) -> None:
    real = rig.put("D:\\big.vhdx", b"head")
    with real.open("r+b") as stream:
        stream.truncate(2 * GIB)
        stream.seek(GIB)
        stream.write(b"middle")
    rig.shadows.create("D:\\", None)
    frozen = rig.files.real_path(rig.shadows.copies[0].device_object + "\\big.vhdx")
    assert frozen.stat().st_size == 2 * GIB
    assert frozen.stat().st_blocks * 512 < MIB
    with frozen.open("rb") as stream:
        stream.seek(GIB)
        assert stream.read(6) == b"middle"


def test_access_lists_links_and_long_names_are_frozen_too(rig: Rig) -> None:
    name = "名" * 200
    rig.put(f"D:\\{name}.txt", b"x")
    rig.files.make_link("D:\\l", "C:\\Windows", "symlinkd")
    rig.shadows.create("D:\\", None)
    device = rig.shadows.copies[0].device_object
    rig.files.remove_directory(rig.files.resolve("D:\\l", follow_last=False))
    rig.files.remove_file(rig.files.resolve(f"D:\\{name}.txt"))
    assert rig.tree(device + "\\") == {f"{name}.txt": b"x", "l": None}
    assert rig.files.exists(device + "\\l\\System32")


@pytest.mark.parametrize(("context", "lives"), [("Backup", False), ("FileShareBackup", False), ("NASRollback", True)])
def test_a_volatile_copy_dies_with_its_requester(rig: Rig, context: str, lives: bool) -> None:
    code, identity = rig.shadows.create("D:\\", context)
    assert (code, rig.shadows.find(identity or "") is not None) == (0, lives)


@pytest.mark.parametrize(("context", "attributes"), sorted(CONTEXTS.items()))
def test_the_bits_of_a_context_are_those_of_the_copy(rig: Rig, context: str, attributes: int) -> None:
    copy = rig.shadows.add_foreign("D:", context=context)
    assert (copy.attributes, copy.persistent, copy.foreign) == (attributes, bool(attributes & 1), True)


def test_only_persistent_copies_survive_a_restart(rig: Rig) -> None:
    kept = rig.shadows.add_foreign("D:\\", context="ApplicationRollback")
    rig.shadows.add_foreign("D:\\", context="Backup")
    rig.shadows.restart_host()
    assert rig.shadows.copies == [kept]
    assert list(rig.files.shadow_volumes) == [kept.number]


def test_the_maximum_of_client_accessible_copies_counts_all_of_a_volume(tmp_path: Path) -> None:
    rig = Rig(tmp_path, settings=ShadowSettings(creation_seconds=0))
    for _n in range(64):
        rig.shadows.add_foreign("D:\\", context="ClientAccessible")
    assert rig.shadows.create("D:\\", None) == (8, None)
    assert rig.shadows.create("D:\\", "NASRollback")[0] == 0
    assert rig.shadows.create("C:\\", None)[0] == 0
    full = replace(rig.shadows.settings, max_per_volume=65)
    rig.shadows.settings = full
    assert rig.shadows.create("D:\\", "NASRollback") == (8, None)
    rig.shadows.settings = replace(full, max_per_volume=512)
    rig.shadows.remove(rig.shadows.of(rig.volumes[1])[0])
    assert rig.shadows.create("D:\\", None)[0] == 0


# -- storage areas -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Rig:
    """D: has 100 blocks of free space, and its area may take all of it."""
    return Rig(tmp_path, (VolumeSpec("C:"), VolumeSpec("D:", 200 * BLOCK, free=100 * BLOCK)), settings=SMALL)


def test_used_space_is_what_changed_since_the_copy_in_whole_blocks(small: Rig) -> None:
    real = small.put("D:\\a.vhdx", b"a" * 8 * BLOCK)
    small.shadows.create("D:\\", None)
    area = small.shadows.areas[0]
    assert (area.used, area.allocated) == (0, 10 * BLOCK)
    with real.open("r+b") as stream:
        stream.seek(3 * BLOCK + 5)
        stream.write(b"x" * BLOCK)
    small.shadows.measure()
    assert area.used == 2 * BLOCK
    small.put("D:\\new.bin", b"n" * (BLOCK + 1))
    small.files.remove_file(small.files.resolve("D:\\a.vhdx"))
    small.shadows.measure()
    assert area.used == (2 + 8) * BLOCK


def test_the_area_takes_free_space_of_its_volume_and_gives_it_back(small: Rig) -> None:
    small.shadows.create("D:\\", None)
    assert small.volumes[1].free_bytes == 90 * BLOCK
    small.shadows.remove(small.shadows.copies[0])
    assert small.volumes[1].free_bytes == 100 * BLOCK


def test_an_overflowing_area_loses_its_oldest_copies_whose_ever_they_are(small: Rig) -> None:
    small.put("D:\\a.vhdx", b"a" * 8 * BLOCK)
    small.shadows.create_area("D:\\", "D:\\", 10 * BLOCK)
    foreign = small.shadows.add_foreign("D:\\")
    small.files.write_file("D:\\a.vhdx", b"b" * 8 * BLOCK)
    _code, ours = small.shadows.create("D:\\", None)
    assert [copy.shadow_id for copy in small.shadows.copies] == [foreign.shadow_id, ours]
    small.files.write_file("D:\\a.vhdx", b"c" * 8 * BLOCK)
    assert [copy.shadow_id for copy in small.shadows.copies] == [ours]
    assert small.shadows.areas[0].used == 8 * BLOCK
    assert not small.files.exists(foreign.device_object + "\\a.vhdx")


def test_a_full_volume_costs_its_copies(small: Rig) -> None:
    small.put("D:\\a", b"a" * 30 * BLOCK)
    small.shadows.create("D:\\", None)
    small.files.write_file("D:\\a", b"b" * 30 * BLOCK)
    assert len(small.shadows.copies) == 1
    small.files.write_file("D:\\b", b"c" * 35 * BLOCK)
    small.shadows.measure()
    assert small.shadows.copies == []
    assert small.volumes[1].free_bytes == 35 * BLOCK


def test_no_copy_without_room_for_its_area(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (VolumeSpec("C:"), VolumeSpec("D:", 200 * BLOCK, free=9 * BLOCK), VolumeSpec("E:")), settings=SMALL)
    assert rig.shadows.create("D:\\", None) == (6, None)
    assert rig.shadows.create_area("D:\\", "E:\\", 50 * BLOCK) == 0
    assert rig.shadows.create("D:\\", None)[0] == 0
    assert rig.volumes[1].free_bytes == 9 * BLOCK


@pytest.mark.parametrize(("volume", "diff", "limit", "code"), [
    ("D:\\", "D:\\", 50 * BLOCK, 0), ("D:\\", "D:\\", None, 0), (None, "D:\\", 1, 2), ("Z:\\", "D:\\", 1, 3), ("D:\\", "Z:\\", 1, 3),
    ("D:\\", "D:\\", BLOCK, 11),
])
def test_return_values_of_an_area(small: Rig, volume: str | None, diff: str, limit: int | None, code: int) -> None:
    assert small.shadows.create_area(volume, diff, limit) == code
    if code == 0:
        assert small.shadows.create_area(volume, diff, limit) == 5


def test_an_area_on_fat_or_for_fat_is_not_supported(host: Rig) -> None:
    assert host.shadows.create_area("E:\\", "D:\\", GIB) == 4
    assert host.shadows.create_area("D:\\", "E:\\", GIB) == 4
