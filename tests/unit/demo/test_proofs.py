# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge of the demo, with real disks: it must find whatever is wrong with a copy."""
from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from demo.guests import Instant, Position
from demo.proofs import Copy, compare, read_copy
from simulator.disks.copying import copy_at_once
from simulator.disks.guest import Guest
from simulator.disks.layout import MIB
from simulator.disks.vhdx import create_dynamic

SHADOW = "{AAAAAAAA-0000-0000-0000-000000000001}"
VM_ID = "F5E7ED27-20B3-53B4-AA2C-21BA166D08A0"
RUN = Path("HV01", "sql01_F5E7ED27", "20260301T220000Z_one")
DISKS = ("data.vhdx", "log.vhdx")


class Site:
    """A guest with two disks, and a copy of them with its manifest."""

    def __init__(self, folder: Path) -> None:
        self.live, self.base = folder / "live", folder / "copies"
        self.target = self.base / RUN / "disks"
        self.live.mkdir()
        self.target.mkdir(parents=True)
        for name in DISKS:
            create_dynamic(self.live / name, 64 * MIB)
        self.guest = Guest([self.live / name for name in DISKS], 7)
        self.guest.write_some(301)
        self.guest.step()

    def instant(self) -> Instant:
        return Instant(SHADOW, datetime(2026, 3, 1, 22, tzinfo=UTC), {VM_ID: Position(self.guest.sequence, self.guest.in_flight)})

    def copy_disk(self, name: str) -> None:
        copy_at_once(self.live / name, self.target / name)

    def manifest(self) -> None:
        files = [{"path": f"disks\\{name}", "source": f"D:\\VMs\\{name}", "size": (self.target / name).stat().st_size, "disk": number,
                  "level": 0} for number, name in enumerate(DISKS)]
        data = {"vm": {"id": VM_ID, "name": "sql01"}, "shadow_copy": SHADOW, "consistency": {"achieved": "crash"}, "files": files}
        (self.base / RUN / "manifest.json").write_text(json.dumps(data))

    def read(self) -> Copy:
        return read_copy("HV01", RUN, self.base)


@pytest.fixture()
def site(tmp_path: Path):
    made = Site(tmp_path)
    yield made
    made.guest.close()


def test_a_copy_of_the_instant_is_proved(site: Site) -> None:
    instant = site.instant()
    for name in DISKS:
        site.copy_disk(name)
    site.manifest()
    site.guest.write_some(20)
    copy = site.read()
    result = compare(copy, instant)
    assert result.problems == ()
    assert [(disk.good, disk.found.last, disk.guest) for disk in result.disks] == [
        (True, 300, Position(301, 302)), (True, 301, Position(301, 302))]
    assert copy.folder == "E:\\Backup\\HV01\\sql01_F5E7ED27\\20260301T220000Z_one"
    assert [(file.source, file.path, file.real) for file in copy.files][1] == (
        "D:\\VMs\\log.vhdx", f"{copy.folder}\\disks\\log.vhdx", site.base / RUN / "disks" / "log.vhdx")


def test_a_copy_of_another_instant_is_not(site: Site) -> None:
    instant = site.instant()
    site.guest.write_some(2)
    for name in DISKS:
        site.copy_disk(name)
    site.manifest()
    assert compare(site.read(), instant).problems == (
        "data.vhdx does not end at write 301", "log.vhdx does not end at write 301",
        "write None is under way in the image, 302 was in the guest")


def test_disks_of_two_instants_are_not_one_copy(site: Site) -> None:
    instant = site.instant()
    site.copy_disk("data.vhdx")
    site.guest.write_some(2)
    site.copy_disk("log.vhdx")
    site.manifest()
    assert compare(site.read(), instant).problems == (
        "data.vhdx: ends at write 300 where another disk has write 303", "write 302 under way after write 303",
        "log.vhdx does not end at write 301")


def test_files_that_differ_from_the_manifest_are_told(site: Site) -> None:
    instant = site.instant()
    for name in DISKS:
        site.copy_disk(name)
    site.manifest()
    copy = site.read()
    (site.target / "log.vhdx").unlink()
    (site.target / "data.vhdx").write_bytes(b"")
    (site.target / "data.tmp").write_bytes(b"")
    again = site.read()
    assert again.problems == (
        f"{copy.folder}\\disks\\data.vhdx has another size than the manifest says", f"{copy.folder}\\disks\\log.vhdx is not there",
        f"{site.target / 'data.tmp'} is not in the manifest")
    assert again == replace(copy, problems=again.problems)
    assert compare(again, instant).problems[:3] == again.problems
