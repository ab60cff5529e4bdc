# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy, list, manifest and prune as jobs of one task each, at a share and at a local folder."""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import job_runs, target_jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import ALL_LEVELS, CopyFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.job_runs import JobEnd
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.target_jobs import (
    Arrived,
    CopyGroup,
    Doomed,
    Listing,
    Pruned,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import SYSTEM, RunAs, TaskName
from hypothesis import given
from hypothesis import strategies as st
from simulator.fileserver import FileServerSpec
from simulator.windows.files import FileSystem
from simulator.windows.programs.base import Speeds
from simulator.windows.spec import ShareSpec, VolumeSpec
from support.windows_host import PASSWORD, WindowsHost, windows_host

NAME = TaskName("host", "night-1")
UNC = "\\\\NAS\\backup"
LOCAL = "D:\\Backup"
AT_SERVER = "E:\\backup"
VM = "sql_0A1B2C3D"
FIRST, SECOND = "20260301T220000Z_a", "20260302T220000Z_b"
Start = Callable[..., WindowsHost]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        def begin(grants: Sequence[str] = ("EXAMPLE\\HV01$", "EXAMPLE\\backup"), size: int = 1024**3, **spec: Any) -> WindowsHost:
            server = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:", size)),
                                    (ShareSpec("backup", AT_SERVER, tuple(grants)),), (), True)
            return stack.enter_context(windows_host(tmp_path / "host", file_servers=(server,), **spec))
        yield begin


@pytest.fixture
def hv(start: Start) -> WindowsHost:
    return start()


def server(hv: WindowsHost) -> FileSystem:
    files: FileSystem = hv.fleet.file_servers["NAS"].files
    return files


def run(hv: WindowsHost, job: Job, run_as: RunAs = SYSTEM) -> JobEnd:
    end = job_runs.run(hv.writer, hv.folder, NAME, job, run_as, clock=hv.clock, deadline=Deadline(hv.clock, 3600))
    assert hv.tasks() == []
    return end


def result_of(end: JobEnd) -> JobResult:
    assert end.result is not None
    return end.result


# -- copy ----------------------------------------------------------------------------------------------------------------

NAMES = ("a.vhdx", "%TEMP%.vhdx", "a%b !x! & del ^.vhdx", "\u540d\u524d (1).vhdx", "n" * 100 + ".vhdx")


def place(destination: str = LOCAL) -> CopyFolder:
    return CopyFolder(destination, "HV01", VM, FIRST)


def copy(hv: WindowsHost, groups: Sequence[CopyGroup], destination: str = LOCAL, *, sha256: bool = False,
         run_as: RunAs = SYSTEM) -> tuple[Arrived, ...]:
    end = run(hv, target_jobs.copy_job(place(destination), groups, sha256=sha256), run_as)
    return target_jobs.copied(groups, result_of(end), end.outputs, end.codes, sha256=sha256, knocks_as="somebody")


@pytest.mark.parametrize("destination", [UNC, LOCAL])
@pytest.mark.parametrize("sha256", [True, False])
def test_files_are_copied_counted_and_hashed(hv: WindowsHost, destination: str, sha256: bool) -> None:
    data = {name: name.encode() * 50 for name in NAMES}
    for name, content in data.items():
        hv.put(f"D:\\VMs 100%\\{name}", content)
    hv.put("D:\\other\\a.vhdx", b"other")
    target = f"{destination}\\HV01\\{VM}\\{FIRST}"
    groups = [CopyGroup("D:\\VMs 100%", f"{target}\\disk0", NAMES), CopyGroup("D:\\other", f"{target}\\disk1", ("a.vhdx",))]

    def digest(content: bytes) -> str | None:
        return hashlib.sha256(content).hexdigest() if sha256 else None

    expected = [Arrived(name, f"{target}\\disk0", len(data[name]), len(data[name]), len(data[name]), digest(data[name]), digest(data[name]))
                for name in NAMES]
    expected.append(Arrived("a.vhdx", f"{target}\\disk1", 5, 5, 5, digest(b"other"), digest(b"other")))
    assert copy(hv, groups, destination, sha256=sha256) == tuple(expected)
    files, stored = (server(hv), target.replace(UNC, AT_SERVER)) if destination == UNC else (None, target)
    assert {name: hv.read(f"{stored}\\disk0\\{name}", files) for name in NAMES} == data


def test_a_source_that_is_missing_is_told_by_its_size(hv: WindowsHost) -> None:
    hv.put("D:\\v\\a", b"x")
    arrived = copy(hv, [CopyGroup("D:\\v", f"{place().path}\\x", ("a", "b"))])
    assert [(one.name, one.source_size, one.size) for one in arrived] == [("a", 1, 1), ("b", None, None)]


@pytest.mark.parametrize(("source", "names", "destination", "code", "value"), [
    ("D:\\none", ("a",), LOCAL, "copy_failed", 16), ("D:\\v", ("none",), LOCAL, "copy_failed", 0),
    ("D:\\v", ("a",), "Z:\\x", "folder_not_made", None), ("D:\\v", ("a",), "\\\\NAS\\none", "folder_not_made", None),
    ("D:\\v", ("a",), "\\\\GONE\\backup", "folder_not_made", None),
])
def test_copies_that_fail(hv: WindowsHost, source: str, names: tuple[str, ...], destination: str, code: str, value: int | None) -> None:
    hv.put("D:\\v\\a", b"x")
    with pytest.raises(HypervError) as error:
        copy(hv, [CopyGroup(source, f"{place(destination).path}\\disks", names)], destination)
    assert (error.value.error_code, error.value.return_value) == (code, value)


def test_a_full_destination_is_told_by_its_code(start: Start) -> None:
    hv = start(size=1024**2)
    hv.put("D:\\v\\a", b"x" * 2 * 1024**2)
    with pytest.raises(HypervError) as error:
        copy(hv, [CopyGroup("D:\\v", f"{place(UNC).path}\\disks", ("a",))], UNC)
    assert (error.value.error_code, "somebody" in error.value.message) == ("destination_full", True)


@pytest.mark.parametrize("folder", ["HV01", f"HV01\\{VM}"])
def test_nothing_is_copied_through_a_link(hv: WindowsHost, folder: str) -> None:
    hv.put("D:\\v\\a", b"x")
    hv.put("D:\\elsewhere\\keep", b"x")
    hv.put(f"{LOCAL}\\HV01 2\\x" if folder == "HV01" else f"{LOCAL}\\HV01\\x", b"x")
    hv.host.files.make_link(f"{LOCAL}\\{folder}", "D:\\elsewhere", "junction")
    with pytest.raises(HypervError) as error:
        copy(hv, [CopyGroup("D:\\v", f"{place().path}\\disks", ("a",))])
    assert (error.value.error_code, hv.names("D:\\elsewhere")) == ("link_in_the_way", ["keep"])


def test_a_copy_needs_a_folder_of_its_own(hv: WindowsHost) -> None:
    hv.put("D:\\v\\a", b"x")
    hv.put(f"{place().path}\\planted", b"x")
    with pytest.raises(HypervError) as error:
        copy(hv, [CopyGroup("D:\\v", f"{place().path}\\disks", ("a",))])
    assert (error.value.error_code, hv.names(place().path)) == ("folder_not_made", ["planted"])


@pytest.mark.parametrize(("grants", "run_as", "code"), [
    (("EXAMPLE\\HV01$",), SYSTEM, None), (("EXAMPLE\\HV02$",), SYSTEM, "folder_not_made"),
    (("EXAMPLE\\backup",), SYSTEM, "folder_not_made"), (("EXAMPLE\\backup",), RunAs("EXAMPLE\\backup", PASSWORD), None),
])
def test_who_reaches_a_share(start: Start, grants: tuple[str, ...], run_as: RunAs, code: str | None) -> None:
    hv = start(grants)
    hv.put("D:\\v\\a", b"x")
    try:
        assert copy(hv, [CopyGroup("D:\\v", f"{place(UNC).path}\\disks", ("a",))], UNC, run_as=run_as)[0].size == 1
        failed = None
    except HypervError as error:
        failed = error.error_code
    assert failed == code


def test_many_names_need_several_lines(hv: WindowsHost) -> None:
    names = tuple(f"{number:03} {'n' * 60}.avhdx" for number in range(90))
    for name in names:
        hv.put(f"D:\\v\\{name}", b"x")
    groups = [CopyGroup("D:\\v", f"{place().path}\\disks", names)]
    assert len(target_jobs.copy_job(place(), groups).stages) > 2
    assert [one.name for one in copy(hv, groups)] == list(names)


def test_progress_is_read_while_robocopy_works(start: Start) -> None:
    hv = start(speeds=Speeds(copy_bytes_per_second=1024.0, chunk=1024))
    hv.put("D:\\v\\a", b"x" * 100 * 1024)
    told: list[float | None] = []

    def progress(_now: object) -> None:
        told.append(target_jobs.percent_done(job_runs.read_output(hv.writer, hv.folder, NAME, "copy0"), 1))

    job_runs.run(hv.writer, hv.folder, NAME, target_jobs.copy_job(place(), [CopyGroup("D:\\v", f"{place().path}\\x", ("a",))]),
                 clock=hv.clock, deadline=Deadline(hv.clock, 3600), progress=progress)
    known = [percent for percent in told if percent is not None]
    assert known == sorted(known)
    assert len(set(known)) > 3


@pytest.mark.parametrize(("output", "count", "percent"), [
    (b"", 1, None), (b"  0.5%  \r", 1, 0.5), (b" 99.9%\r100%  \r\n", 1, 100.0), (b"x 300%", 1, 100.0), (b"100%\r\n 50%\r", 4, 37.5),
    (b"100%\r\n100%\r\n", 4, 50.0),
])
def test_percentages(output: bytes, count: int, percent: float | None) -> None:
    assert target_jobs.percent_done(output, count) == percent


@pytest.mark.parametrize(("listed", "free"), [
    (b"01.03.2026  10:00    <DIR>          x\r\n               0 Datei(en),              0 Bytes\r\n"
     b"               3 Verzeichnis(se), 64424509440 Bytes frei\r\n", 64424509440),
    (b"               3 Dir(s)  5 bytes free\r\n\r\n", 5), (b"", None), (b"File Not Found\r\n", None), (b"1 2 3\r\n", None),
])
def test_the_free_space_of_a_share_is_a_number_in_any_language(listed: bytes, free: int | None) -> None:
    assert target_jobs.free_bytes(listed) == free


@pytest.mark.parametrize("shown", ["{}", "{} "])
def test_digests(shown: str) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    apart = " ".join(digest[at:at + 2] for at in range(0, 64, 2))
    for text in (digest, apart, digest.upper()):
        assert target_jobs.read_digest(f"SHA256 hash of x:\r\n{shown.format(text)}\r\nCertUtil: ok\r\n".encode(), "x") == digest
    for text in ("", digest[:-1], digest + "0", "x" * 64):
        with pytest.raises(HypervError):
            target_jobs.read_digest(f"{text}\r\n".encode(), "x")


# -- list ----------------------------------------------------------------------------------------------------------------


def populate(hv: WindowsHost, base: str, files: FileSystem | None = None) -> None:
    for copy_, text in ((FIRST, b'{\r\n "a": 1\r\n}\r\n'), (SECOND, b'{\r\n "b": 2\r\n}')):
        hv.put(f"{base}\\HV01\\{VM}\\{copy_}\\disk0\\a.vhdx", b"x" * 10, files)
        hv.put(f"{base}\\HV01\\{VM}\\{copy_}\\manifest.json", text, files)
    hv.put(f"{base}\\HV01\\{VM}\\half\\disk0\\a.vhdx", b"xyz", files)
    hv.put(f"{base}\\HV01\\{VM}\\begun\\manifest.json.pruning", b"{}\r\n", files)
    hv.put(f"{base}\\HV02\\{VM}\\x\\manifest.json", b"other host\r\n", files)


def listing(hv: WindowsHost, destination: str) -> Listing:
    base = f"{destination}\\HV01"
    end = run(hv, target_jobs.list_job(destination, base))
    return target_jobs.listing(result_of(end), end.outputs, base, destination)


@pytest.mark.parametrize(("destination", "real"), [(UNC, AT_SERVER), (LOCAL, LOCAL), (f"{UNC}\\\u540d 100%", f"{AT_SERVER}\\\u540d 100%")])
def test_copies_are_listed(hv: WindowsHost, destination: str, real: str) -> None:
    populate(hv, real, server(hv) if destination != LOCAL else None)
    found = listing(hv, destination)
    assert found.stored.manifests == {(VM, FIRST): '{\n "a": 1\n}', (VM, SECOND): '{\n "b": 2\n}'}
    assert found.stored.files[(VM, FIRST)] == {"disk0\\a.vhdx": 10, "manifest.json": len(b'{\r\n "a": 1\r\n}\r\n')}
    assert found.stored.files[(VM, "half")] == {"disk0\\a.vhdx": 3}
    assert found.stored.pruning == {(VM, "begun"): "{}"}
    assert set(found.stored.folders) == {(VM, FIRST), (VM, SECOND), (VM, "half"), (VM, "begun")}
    assert found.incomplete == ((VM, "half"),)
    assert found.free is not None


def test_the_copies_of_all_hosts_are_listed(hv: WindowsHost) -> None:
    populate(hv, AT_SERVER, server(hv))
    end = run(hv, target_jobs.list_job(UNC, UNC, ALL_LEVELS))
    stored = target_jobs.listing(result_of(end), end.outputs, UNC, UNC, levels=ALL_LEVELS).stored
    assert set(stored.manifests) == {("HV01", VM, FIRST), ("HV01", VM, SECOND), ("HV02", VM, "x")}
    assert stored.manifests["HV02", VM, "x"] == "other host"
    assert set(stored.folders) == {*stored.manifests, ("HV01", VM, "half"), ("HV01", VM, "begun")}


def test_an_empty_destination_has_no_copies(hv: WindowsHost) -> None:
    assert (listing(hv, UNC).stored.manifests, listing(hv, UNC).stored.folders) == ({}, ())


@pytest.mark.parametrize("destination", ["\\\\NAS\\none", "\\\\GONE\\backup", f"{UNC}\\none", "Z:\\x"])
def test_a_destination_that_does_not_answer_is_no_empty_one(hv: WindowsHost, destination: str) -> None:
    with pytest.raises(HypervError) as error:
        listing(hv, destination)
    assert error.value.error_code == "destination_unreachable"


def test_a_share_that_does_not_admit_the_host(start: Start) -> None:
    with pytest.raises(HypervError) as error:
        listing(start(("EXAMPLE\\HV02$",)), UNC)
    assert error.value.error_code == "destination_unreachable"


# -- manifest ------------------------------------------------------------------------------------------------------------


def put_manifest(hv: WindowsHost, folder: str, data: bytes) -> None:
    target_jobs.expect_manifest(result_of(run(hv, target_jobs.manifest_job(folder, data))), folder)


def test_a_manifest_is_written_whole(hv: WindowsHost) -> None:
    data = b'{\r\n "name": "%TEMP% \\u540d"\r\n}\r\n'
    folder = f"{UNC}\\HV01\\{VM}\\{FIRST}"
    hv.put(f"{AT_SERVER}\\HV01\\{VM}\\{FIRST}\\a", b"x", server(hv))
    put_manifest(hv, folder, data)
    assert hv.names(f"{AT_SERVER}\\HV01\\{VM}\\{FIRST}", server(hv)) == ["a", "manifest.json"]
    assert hv.read(f"{AT_SERVER}\\HV01\\{VM}\\{FIRST}\\manifest.json", server(hv)) == data


@pytest.mark.parametrize("there", [None, b"another\r\n"])
def test_a_manifest_that_cannot_be_written_is_an_error(hv: WindowsHost, there: bytes | None) -> None:
    if there is not None:
        hv.put(f"{LOCAL}\\x\\manifest.json", there)
    with pytest.raises(HypervError) as error:
        put_manifest(hv, f"{LOCAL}\\x", b"{}\r\n")
    assert error.value.error_code == "manifest_not_written"
    assert hv.read(f"{LOCAL}\\x\\manifest.json") == there


# -- prune ---------------------------------------------------------------------------------------------------------------


def prune(hv: WindowsHost, *copies: Doomed) -> tuple[Pruned, ...]:
    return target_jobs.pruned(copies, result_of(run(hv, target_jobs.prune_job(copies))))


def doomed(name: str, destination: str = UNC, *files: str) -> Doomed:
    return Doomed(f"{destination}\\HV01\\{VM}\\{name}", files or ("disk0\\a.vhdx",))


@pytest.mark.parametrize(("destination", "real"), [(UNC, AT_SERVER), (LOCAL, LOCAL)])
def test_copies_are_pruned_and_nothing_else(hv: WindowsHost, destination: str, real: str) -> None:
    files = server(hv) if destination == UNC else None
    populate(hv, real, files)
    gone = doomed(FIRST, destination)
    assert prune(hv, gone, doomed("begun", destination, "manifest.json.x")) == (
        Pruned(gone.folder, True), Pruned(f"{destination}\\HV01\\{VM}\\begun", True))
    assert hv.names(f"{real}\\HV01\\{VM}", files) == [SECOND, "half"]
    assert hv.read(f"{real}\\HV01\\{VM}\\{SECOND}\\disk0\\a.vhdx", files) == b"x" * 10
    assert prune(hv, gone) == (Pruned(gone.folder, True),)


def test_hostile_names_are_pruned(hv: WindowsHost) -> None:
    names = ("disk0\\%TEMP%.vhdx", "disk0\\a%b !x! & del ^.vhdx", "disk1\\sub\\\u540d (1).vhdx")
    for name in names:
        hv.put(f"{LOCAL}\\HV01\\{VM}\\{FIRST}\\{name}", b"x")
    assert prune(hv, doomed(FIRST, LOCAL, *names))[0].gone
    assert hv.names(f"{LOCAL}\\HV01\\{VM}") == []


def test_foreign_files_stay(hv: WindowsHost) -> None:
    populate(hv, LOCAL)
    hv.put(f"{LOCAL}\\HV01\\{VM}\\{FIRST}\\theirs.txt", b"theirs")
    hv.put(f"{LOCAL}\\HV01\\{VM}\\{SECOND}\\disk0\\theirs.txt", b"theirs")
    assert [(one.gone, one.reason) for one in prune(hv, doomed(FIRST, LOCAL), doomed(SECOND, LOCAL))] == [
        (False, "foreign_files"), (False, "foreign_files")]
    assert hv.names(f"{LOCAL}\\HV01\\{VM}\\{FIRST}") == ["theirs.txt"]
    assert hv.names(f"{LOCAL}\\HV01\\{VM}\\{SECOND}") == ["disk0", "manifest.json.pruning"]
    assert hv.read(f"{LOCAL}\\HV01\\{VM}\\{SECOND}\\disk0\\theirs.txt") == b"theirs"


@pytest.mark.parametrize("link", [
    "HV01", f"HV01\\{VM}", f"HV01\\{VM}\\{FIRST}", f"HV01\\{VM}\\{FIRST}\\disk0", f"HV01\\{VM}\\{FIRST}\\disk1"])
@pytest.mark.parametrize("kind", ["junction", "symlinkd"])
def test_nothing_is_deleted_through_a_link(hv: WindowsHost, link: str, kind: str) -> None:
    populate(hv, LOCAL)
    populate(hv, "D:\\precious")
    before = hv.names(f"D:\\precious\\HV01\\{VM}")
    with hv.fleet.locked():
        files = hv.host.files
        place = files.resolve(f"{LOCAL}\\{link}")
        if place.exists:
            files.rename(place, files.resolve("D:\\moved"))
        files.make_link(f"{LOCAL}\\{link}", f"D:\\precious\\{link}", kind)
    assert prune(hv, doomed(FIRST, LOCAL, "disk0\\a.vhdx", "disk1\\a.vhdx")) == (
        Pruned(f"{LOCAL}\\HV01\\{VM}\\{FIRST}", False, "link"),)
    assert hv.names(f"D:\\precious\\HV01\\{VM}") == before
    assert hv.read(f"D:\\precious\\HV01\\{VM}\\{FIRST}\\disk0\\a.vhdx") == b"x" * 10


def test_a_folder_in_the_place_of_a_file_keeps_what_is_in_it(hv: WindowsHost) -> None:
    hv.put(f"{LOCAL}\\HV01\\{VM}\\{FIRST}\\a.vhdx\\precious", b"x")
    assert prune(hv, doomed(FIRST, LOCAL, "a.vhdx"))[0] == Pruned(f"{LOCAL}\\HV01\\{VM}\\{FIRST}", False, "locked")
    assert hv.read(f"{LOCAL}\\HV01\\{VM}\\{FIRST}\\a.vhdx\\precious") == b"x"


def test_one_copy_that_cannot_go_does_not_keep_the_next(hv: WindowsHost) -> None:
    populate(hv, LOCAL)
    with hv.fleet.locked():
        hv.host.files.make_link(f"{LOCAL}\\HV01\\{VM}\\{FIRST}\\link", "D:\\", "junction")
    assert [one.gone for one in prune(hv, doomed(FIRST, LOCAL), doomed(SECOND, LOCAL))] == [False, True]


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map("\\".join), min_size=1, max_size=8))
def test_subfolders_come_before_those_above_them(names: list[str]) -> None:
    found = Doomed("D:\\x", tuple(names)).subfolders
    assert set(found) == {"\\".join(name.split("\\")[:count]) for name in names for count in range(1, name.count("\\") + 1)}
    for number, folder in enumerate(found):
        assert not any(later.startswith(folder + "\\") for later in found[number + 1:])


@given(st.text(max_size=60))
def test_odd_paths_end(name: str) -> None:
    assert len(Doomed("D:\\x", (name,)).subfolders) <= len(name)
