# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking for incomplete copies at a share, and removing them, as jobs of one task each."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import job_runs, sweep_jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.job_runs import JobEnd
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.sweep_jobs import FoundCopy, Place, Rubbish, Searched, Swept
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import TaskName
from hypothesis import given
from hypothesis import strategies as st
from simulator.fileserver import FileServerSpec
from simulator.windows.files import FileSystem
from simulator.windows.spec import ShareSpec, VolumeSpec
from support.windows_host import WindowsHost, windows_host

NAME = TaskName("host", "night-1")
UNC = "\\\\NAS\\backup"
AT_SERVER = "E:\\backup"
VM = "sql %TEMP% & x_0A1B2C3D"
PLACE = Place(f"{UNC}\\HV01\\{VM}", "night-1")
COPY = "20260301T220000Z_night-1"


@pytest.fixture
def hv(tmp_path: Path) -> Iterator[WindowsHost]:
    with ExitStack() as stack:
        server = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")),
                                (ShareSpec("backup", AT_SERVER, ("EXAMPLE\\HV01$",)), ShareSpec("closed", "E:\\closed", ())), (), True)
        yield stack.enter_context(windows_host(tmp_path / "host", file_servers=(server,)))


def server(hv: WindowsHost) -> FileSystem:
    files: FileSystem = hv.fleet.file_servers["NAS"].files
    return files


def put(hv: WindowsHost, path: str, data: bytes = b"x") -> None:
    hv.put(f"{AT_SERVER}\\HV01\\{VM}\\{path}", data, server(hv))


def at_server(hv: WindowsHost, path: str = "") -> list[str]:
    return hv.names(f"{AT_SERVER}\\HV01\\{VM}{path}", server(hv))


def run(hv: WindowsHost, job: Job) -> tuple[JobResult, JobEnd]:
    end = job_runs.run(hv.writer, hv.folder, NAME, job, clock=hv.clock, deadline=Deadline(hv.clock, 3600))
    assert end.result is not None
    return end.result, end


def look(hv: WindowsHost, *places: Place) -> tuple[Searched, ...]:
    result, end = run(hv, sweep_jobs.look_job(places))
    return sweep_jobs.searched(places, result, end.outputs)


def sweep(hv: WindowsHost, *copies: Rubbish) -> tuple[Swept, ...]:
    result, _unused = run(hv, sweep_jobs.sweep_job(copies))
    return sweep_jobs.swept(copies, result)


def rubbish(files: Sequence[str] = ("disks\\a%b !x!.vhdx", "manifest.json.tmp"), folders: Sequence[str] = ("disks",),
            name: str = COPY) -> Rubbish:
    return Rubbish(f"{PLACE.folder}\\{name}", tuple(files), tuple(folders))


def test_what_a_look_finds(hv: WindowsHost) -> None:
    put(hv, f"{COPY}\\disks\\a%b !x!.vhdx")
    put(hv, f"{COPY}\\manifest.json.tmp")
    put(hv, "20260301T230000Z_night-1\\manifest.json")
    put(hv, "20260301T230000Z_night-2\\disks\\a.vhdx")
    put(hv, "notes_night-1\\x.txt")
    put(hv, "20260302T000000Z_night-1")
    other = Place(f"{UNC}\\HV01\\gone_00000000", "night-1")
    with hv.fleet.locked():
        server(hv).create_directory(f"{AT_SERVER}\\HV01\\{VM}\\20260303T000000Z_night-1")
    found, nothing = look(hv, PLACE, other)
    assert found == Searched(PLACE, True, (
        FoundCopy(COPY, ("disks", "manifest.json.tmp", "disks\\a%b !x!.vhdx")),
        FoundCopy("20260301T230000Z_night-1", ("manifest.json",)),
        FoundCopy("20260303T000000Z_night-1", ()),
    ))
    assert nothing == Searched(other, True)


@pytest.mark.parametrize("folder", [
    "\\\\NAS\\none\\HV01\\x", "\\\\GONE\\backup\\HV01\\x", "\\\\NAS\\closed\\HV01\\x", "\\\\NAS\\backup\\none\\HV01\\x",
])
def test_what_cannot_be_reached_is_never_empty(hv: WindowsHost, folder: str) -> None:
    with hv.fleet.locked():
        server(hv).create_directory(AT_SERVER) if not server(hv).exists(AT_SERVER) else None
    put(hv, f"{COPY}\\disks\\a.vhdx")
    place = Place(folder, "night-1")
    assert look(hv, place, PLACE) == (Searched(place, False), Searched(PLACE, True, (FoundCopy(COPY, ("disks", "disks\\a.vhdx")),)))


@pytest.mark.parametrize(("link", "told"), [
    (f"{AT_SERVER}\\HV01\\{VM}\\{COPY}\\disks", f"\\{COPY}\\disks"), (f"{AT_SERVER}\\HV01\\{VM}\\{COPY}", f"\\{COPY}"),
    (f"{AT_SERVER}\\HV01\\{VM}", VM), (f"{AT_SERVER}\\HV01", "HV01"),
])
def test_links_are_told_and_nothing_goes_through_them(hv: WindowsHost, link: str, told: str) -> None:
    """Where a part of the way, or of the copy, is a link to the same things elsewhere."""
    moved = f"{AT_SERVER}\\elsewhere"
    put(hv, f"{COPY}\\disks\\a.vhdx")
    with hv.fleet.locked():
        files = server(hv)
        files.rename(files.resolve(link), files.resolve(moved))
        files.make_link(link, moved, "junction")
    (found,) = look(hv, PLACE)
    assert found.reached
    assert [name for name in found.links if name.lower().endswith(told.lower())]
    assert sweep(hv, rubbish(["disks\\a.vhdx"])) == (Swept(rubbish().folder, False, "link"),)
    with hv.fleet.locked():
        assert any(entry.parts[-1] in (COPY, "a.vhdx", "disks", VM) for entry in files.children(files.resolve(moved)))
    assert hv.read(f"{AT_SERVER}\\HV01\\{VM}\\{COPY}\\disks\\a.vhdx", server(hv)) == b"x"


def test_a_copy_goes_with_its_files(hv: WindowsHost) -> None:
    put(hv, f"{COPY}\\disks\\a%b !x!.vhdx")
    put(hv, f"{COPY}\\manifest.json.tmp")
    put(hv, "20260301T230000Z_night-1\\disks\\a.vhdx")
    assert sweep(hv, rubbish(), rubbish((), (), "20260309T220000Z_night-1")) == (
        Swept(rubbish().folder, True), Swept(f"{PLACE.folder}\\20260309T220000Z_night-1", True))
    assert at_server(hv) == ["20260301T230000Z_night-1"]
    assert sweep(hv, rubbish()) == (Swept(rubbish().folder, True),), "twice does no harm"


@pytest.mark.parametrize(("extra", "reason"), [
    ("manifest.json", "manifest"), ("notes.txt", "foreign_files"), ("disks\\notes.txt", "foreign_files"),
])
def test_what_is_not_ours_stays(hv: WindowsHost, extra: str, reason: str) -> None:
    put(hv, f"{COPY}\\disks\\a%b !x!.vhdx")
    put(hv, f"{COPY}\\{extra}", b"theirs")
    assert sweep(hv, rubbish()) == (Swept(rubbish().folder, False, reason),)
    assert hv.read(f"{AT_SERVER}\\HV01\\{VM}\\{COPY}\\{extra}", server(hv)) == b"theirs"
    if reason == "manifest":
        assert at_server(hv, f"\\{COPY}\\disks") == ["a%b !x!.vhdx"]


def test_a_folder_in_the_place_of_a_file_keeps_what_is_in_it(hv: WindowsHost) -> None:
    put(hv, f"{COPY}\\disks\\a.vhdx\\precious.txt", b"theirs")
    assert sweep(hv, rubbish(["disks\\a.vhdx"])) == (Swept(rubbish().folder, False, "locked"),)
    assert hv.read(f"{AT_SERVER}\\HV01\\{VM}\\{COPY}\\disks\\a.vhdx\\precious.txt", server(hv)) == b"theirs"


def test_one_copy_does_not_stop_the_others(hv: WindowsHost) -> None:
    put(hv, f"{COPY}\\manifest.json")
    put(hv, "20260303T000000Z_night-1\\disks\\a.vhdx")
    done = sweep(hv, rubbish((), ()), rubbish(["disks\\a.vhdx"], ["disks"], "20260303T000000Z_night-1"))
    assert [one.reason for one in done] == ["manifest", None]
    assert at_server(hv) == [COPY]


def test_a_job_that_ended_before_tells_nothing() -> None:
    nothing = JobResult("a" * 12, True, True, {})
    assert sweep_jobs.searched([PLACE], nothing, {}) == (Searched(PLACE, False),)
    assert sweep_jobs.swept([rubbish()], nothing) == (Swept(rubbish().folder, False, "not_reached"),)


@given(st.lists(st.integers(1, 200), max_size=80))
def test_batches_keep_everything_in_turn(lengths: list[int]) -> None:
    places = [Place(f"\\\\s\\h\\H\\{'x' * length}{number}", "r") for number, length in enumerate(lengths)]
    batches = list(sweep_jobs.place_batches(places))
    assert [place for batch in batches for place in batch] == places
    for batch in batches:
        sweep_jobs.look_job(batch)  # fits one job
    copies = [Rubbish(f"\\\\s\\h\\H\\v\\c{number}", ("f" * length,) * 5, ("d",)) for number, length in enumerate(lengths)]
    groups = list(sweep_jobs.rubbish_batches(copies))
    assert [copy for group in groups for copy in group] == copies
    for group in groups:
        sweep_jobs.sweep_job(group)


@given(st.binary(max_size=400))
def test_any_listing_is_understood(listed: bytes) -> None:
    result = JobResult("a" * 12, True, True, {})
    found = sweep_jobs._copies(PLACE, sweep_jobs._lines(listed))
    assert all(copy.name.lower().endswith("_night-1") for copy in found)
    assert not result.failed
