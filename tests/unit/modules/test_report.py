# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_report`` with ``keep``: what goes at a folder of the host and at a share, and that nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.report_jobs import folder_name
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_report
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.spec import HostSpec
from simulator.windows.spec import ShareSpec, VolumeSpec

from .conftest import ADMINISTRATOR, Runner

DRIVES = (VolumeSpec("C:"), VolumeSpec("E:"))
DOCUMENTS = ("report.html", "report.json")


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """One host and one file server for all tests; each has a destination of its own."""
    server = FileServerSpec("NAS", "example.test", DRIVES, (ShareSpec("backup", "E:\\backup", ("EXAMPLE\\HV01$",)),))
    host = HostSpec(name="HV01", domain="example.test", accounts=(ADMINISTRATOR,), volumes=DRIVES)
    with Fleet([host], tmp_path_factory.mktemp("fleet"), file_servers=[server]) as fleet:
        yield Runner(fleet, fleet.hosts["HV01"])


class Place:
    """A destination: its path for the host, and the file system that it lies in."""

    def __init__(self, runner: Runner, path: str) -> None:
        self.runner, self.path = runner, path
        share = path.startswith("\\\\")
        self.files = runner.fleet.file_servers["NAS"].files if share else runner.running.host.files
        self.reports = (f"E:\\backup\\{path.rpartition(chr(92))[2]}" if share else path) + "\\_reports"

    def make(self, path: str) -> None:
        """A folder and those above it."""
        parts = path.split("\\")
        for end in range(2, len(parts) + 1):
            if not self.files.exists("\\".join(parts[:end])):
                self.files.create_directory("\\".join(parts[:end]))

    def plant(self, hours: float, *names: str) -> str:
        """A report of so many hours ago, of these files; the name of its folder."""
        name = folder_name(self.runner.running.host.clock.now() - timedelta(hours=hours), "0123456789ab")
        with self.runner.fleet.locked():
            self.make(f"{self.reports}\\{name}")
            for file in names or DOCUMENTS:
                self.files.write_file(f"{self.reports}\\{name}\\{file}", b"x")
        return name

    def left(self) -> list[str]:
        with self.runner.fleet.locked():
            return sorted(place.parts[-1] for place in self.files.children(self.files.resolve(self.reports)))

    def store(self, *, check: bool = False, **params: Any) -> dict[str, Any]:
        with self.runner.fleet.locked():
            self.runner.running.host.clock.advance(1)
        result = self.runner.run(hyperv_report, check=check, hosts=[], destination=self.path, **params)
        pruned = result["pruned"]
        return {**result, "stored": result["stored"].rpartition("\\")[2],
                "pruned": None if pruned is None else [path.removeprefix(f"{self.path}\\_reports\\") for path in pruned]}


def test_a_folder_of_the_host(runner: Runner) -> None:
    place = Place(runner, "E:\\Local")
    names = [place.plant(hours) for hours in (80, 50, 30)]
    before = runner.running.host.counters.snapshot()
    predicted = place.store(check=True, keep={"last": 2})
    assert runner.running.host.counters.since(before).writing == 0
    assert [step["action"] for step in predicted["diff"]["after"]["steps"]] == ["store", "prune", "prune"]
    done = place.store(keep={"last": 2})
    assert (predicted["pruned"], done["pruned"], place.left()) == (names[:2], names[:2], [names[2], done["stored"]])
    again = place.store(keep={"last": 2})
    assert (again["pruned"], place.left(), runner.told.warnings) == ([names[2]], [done["stored"], again["stored"]], [])


def test_a_share(runner: Runner) -> None:
    place = Place(runner, "\\\\NAS\\backup\\share")
    names = [place.plant(hours) for hours in (50, 30)]
    before = runner.running.host.counters.snapshot()
    assert place.store(check=True, keep={"daily": 1})["pruned"] is None
    assert (runner.running.host.counters.since(before).writing, len(runner.told.warnings)) == (0, 1)
    done = place.store(keep={"daily": 1})
    assert (done["pruned"], place.left(), runner.told.warnings) == (names, [done["stored"]], [])


def test_without_a_rule_all_stay(runner: Runner) -> None:
    place = Place(runner, "E:\\All")
    name = place.plant(9000)
    assert [place.store(**params)["pruned"] for params in ({}, {"keep": {"last": 0}})] == [[], []]
    assert (name in place.left(), len(place.left())) == (True, 3)


def test_what_is_not_a_report_of_ours_stays(runner: Runner) -> None:
    place = Place(runner, "E:\\Mixed")
    foreign, inner, linked, broken = place.plant(90), place.plant(89), place.plant(88), place.plant(87, "report.html.tmp")
    other = ["20260101T000000Z_night", "20269999T000000Z_0123456789ab", "notes"]
    with runner.fleet.locked():
        for name in other:
            place.files.create_directory(f"{place.reports}\\{name}")
            place.files.write_file(f"{place.reports}\\{name}\\report.json", b"x")
        place.files.write_file(f"{place.reports}\\{foreign}\\mine.txt", b"x")
        place.files.create_directory("E:\\Elsewhere")
        place.files.write_file("E:\\Elsewhere\\report.html", b"x")
        place.files.make_link(f"{place.reports}\\{inner}\\in", "E:\\Elsewhere", "junction")
        place.files.make_link(f"{place.reports}\\{folder_name(runner.running.host.clock.now() - timedelta(99), 'a' * 12)}", "E:\\Elsewhere",
                              "junction")
        place.files.create_directory(f"{place.reports}\\{linked}\\report.html.tmp")
        place.files.write_file(f"{place.reports}\\{linked}\\report.html.tmp\\deep", b"x")
    done = place.store(keep={"last": 1})
    assert done["pruned"] == [broken]
    assert len(runner.told.warnings) == 4
    assert set(place.left()) > {foreign, inner, linked, *other}
    with runner.fleet.locked():
        assert place.files.exists("E:\\Elsewhere\\report.html")
        assert place.files.exists(f"{place.reports}\\{foreign}\\mine.txt")
        assert place.files.exists(f"{place.reports}\\{inner}\\report.json")
        assert place.files.exists(f"{place.reports}\\{linked}\\report.html.tmp\\deep")


def test_nothing_goes_when_the_new_one_was_not_stored(runner: Runner) -> None:
    place = Place(runner, "E:\\Moved")
    with runner.fleet.locked():
        place.files.create_directory("E:\\Moved")
        place.files.create_directory("E:\\Other")
        place.files.make_link(place.reports, "E:\\Other", "junction")
    name = place.plant(90)
    with pytest.raises(HypervError) as error:
        place.store(keep={"last": 1})
    assert (error.value.error_code, place.left()) == ("link_in_the_way", [name])


def test_odd_rules_are_refused(runner: Runner) -> None:
    with pytest.raises(HypervError) as error:
        Place(runner, "E:\\Odd").store(keep={"last": 1}, timezone="Mars/Olympus")
    assert error.value.error_code == "invalid_keep"


@pytest.mark.parametrize("mode", ["416", "rw", "0999", "00640"])
def test_a_mode_that_yaml_read_as_another_number_is_refused(runner: Runner, tmp_path: Path, mode: str) -> None:
    with pytest.raises(HypervError) as error:
        runner.run(hyperv_report, hosts=[], folder=str(tmp_path / "report"), mode=mode)
    assert (error.value.error_code, (tmp_path / "report").exists()) == ("invalid_mode", False)
