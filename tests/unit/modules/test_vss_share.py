# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_vss_copy`` to a share: who knocks there, what a task costs, what check mode can say, and retention in one task."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_vss_copy
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.hyperv.spec import DiskSpec, VmSpec
from simulator.soap import rules
from simulator.spec import HostSpec
from simulator.windows.programs.base import Speeds
from simulator.windows.spec import ShareSpec, VolumeSpec

from .conftest import ADMINISTRATOR, NOBODY, Runner

UNC = "\\\\NAS\\backup"
AT_SERVER = "E:\\backup"
STATE = "C:\\ProgramData\\agentless.hyperv"
Begin = Callable[..., Runner]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a host of a domain, and a file server whose share grants the right to change to ``grants``."""
    with ExitStack() as stack:

        def start(
            grants: tuple[str, ...] = ("EXAMPLE\\HV01$",), size: int = 60 * 1024**3, computer_accounts: bool = True, **spec: Any
        ) -> Runner:
            shares = (ShareSpec("backup", AT_SERVER, grants),)
            server = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:", size)), shares, (), computer_accounts)
            values = {"volumes": (VolumeSpec("C:"), VolumeSpec("D:")), "vms": (machine("a"), machine("b")), **spec}
            host = HostSpec(name="HV01", domain="example.test", accounts=(ADMINISTRATOR, NOBODY), **values)
            fleet = Fleet([host], tmp_path / "fleet", file_servers=[server])
            fleet.start()
            stack.callback(fleet.stop)
            return Runner(fleet, fleet.hosts["HV01"])

        yield start


def machine(name: str, **values: Any) -> VmSpec:
    return VmSpec(name, disks=(DiskSpec(f"D:\\VMs\\{name}\\a.vhdx"),), **values)


def copy(runner: Runner, **params: Any) -> dict[str, Any]:
    return runner.run(hyperv_vss_copy, **{"destination": UNC, "names": ["a", "b"], **params})


def on_server(runner: Runner, path: str) -> Path:
    with runner.fleet.locked():
        found: Path = runner.fleet.file_servers["NAS"].files.real_path(path.replace(UNC, AT_SERVER))
    return found


def left_on_host(runner: Runner) -> dict[str, Any]:
    """What of ours is still on the host; nothing of it should be."""
    with runner.fleet.locked():
        host = runner.running.host
        found: dict[str, list[str]] = {"shadows": [one.shadow_id for one in host.shadows.copies]}
        found["tasks"] = [task.name for task in host.tasks.tasks() if "agentless" in task.path]
        for part in ("s", "intents", "jobs", "leases"):
            place = f"{STATE}\\{part}"
            found[part] = [entry.parts[-1] for entry in host.files.children(host.files.resolve(place))] if host.files.exists(place) else []
    return {what: things for what, things in found.items() if things}


def test_copies_reach_a_share_as_the_computer_account_and_the_next_run_sees_them(begin: Begin) -> None:
    runner = begin()
    first = copy(runner, max_age="20h")
    assert [entry["failed"] for entry in first["results"]] == [False, False]
    for entry in first["results"]:
        folder = entry["manifest"]["folder"]
        assert folder.startswith(f"{UNC}\\HV01\\")
        written = json.loads(on_server(runner, f"{folder}\\manifest.json").read_bytes())
        assert {name: entry["manifest"][name] for name in written} == written
        for file in written["files"]:
            assert on_server(runner, f"{folder}\\{file['path']}").stat().st_size == file["size"]
    assert left_on_host(runner) == {}
    second = copy(runner, max_age="20h")
    assert (second["changed"], [entry["manifest"] for entry in second["results"]]) == (
        False, [entry["manifest"] for entry in first["results"]],
    )
    assert left_on_host(runner) == {}


def test_nothing_to_do_costs_one_task(begin: Begin) -> None:
    runner = begin()
    copy(runner, max_age="20h")
    before = runner.running.host.counters.snapshot()
    assert copy(runner, max_age="20h")["changed"] is False
    spent = runner.running.host.counters.since(before)
    looks = spent.by_operation["Get"] + spent.by_operation["Invoke PS_ScheduledTask.GetInfoByName"]
    assert (spent.requests - looks <= 21, spent.by_operation["Invoke PS_ScheduledTask.RegisterByXml"]) == (True, 1)


@pytest.mark.parametrize(
    ("setting", "params", "code", "who"),
    [
        ({"grants": ("EXAMPLE\\HV02$",)}, {}, "destination_unreachable", "HV01$"),
        ({"computer_accounts": False, "grants": ("EXAMPLE\\backup",)}, {}, "destination_unreachable", "HV01$"),
        ({}, {"destination": f"{UNC}\\none"}, "destination_unreachable", "HV01$"),
        ({}, {"destination": "\\\\GONE\\backup"}, "destination_unreachable", "HV01$"),
        ({}, {"run_as": "session"}, "destination_needs_task", "session"),
    ],
)
def test_a_share_that_cannot_be_used_is_told_with_the_account(
    begin: Begin, setting: dict[str, Any], params: dict[str, Any], code: str, who: str
) -> None:
    runner = begin(**setting)
    with pytest.raises(HypervError) as refused:
        copy(runner, **params)
    assert refused.value.error_code == code
    assert who in f"{refused.value.message} {refused.value.hint}"
    assert left_on_host(runner) == {}


def test_a_full_share_is_refused_before_anything_is_made(begin: Begin) -> None:
    runner = begin(size=3 * 1024**2)
    result = copy(runner)
    assert {entry["error_code"] for entry in result["results"]} == {"destination_full"}
    assert left_on_host(runner) == {}


def test_check_mode_does_not_touch_the_host_and_says_what_it_does_not_know(begin: Begin) -> None:
    runner = begin()
    copy(runner, max_age="20h")
    before = runner.running.host.counters.snapshot()
    result = runner.run(hyperv_vss_copy, check=True, destination=UNC, names=["a"], max_age="20h")
    assert runner.running.host.counters.since(before).writing == 0
    assert result["changed"] is True
    assert any("Check mode does not look at" in text for text in runner.told.warnings)


def test_old_copies_at_a_share_go_in_one_task(begin: Begin) -> None:
    runner = begin()
    old = []
    for _unused in range(2):
        old += [entry["manifest"]["folder"] for entry in copy(runner)["results"]]
        with runner.fleet.locked():
            runner.running.host.clock.advance(24 * 3600)
    kept = on_server(runner, f"{old[0]}\\notes.txt")
    kept.write_bytes(b"somebody's")
    before = runner.running.host.counters.snapshot()
    result = copy(runner, keep={"last": 1})
    registered = runner.running.host.counters.since(before).by_operation["Invoke PS_ScheduledTask.RegisterByXml"]
    assert registered == 1 + 2 * 2 + 1, "a list, two copies with their manifests, one removal"
    assert sorted(gone["folder"] for entry in result["results"] for gone in entry["pruned"]) == sorted(old)
    assert [on_server(runner, folder).exists() for folder in old] == [True, False, False, False]
    assert sorted(path.name for path in on_server(runner, old[0]).iterdir()) == ["notes.txt"]
    assert left_on_host(runner) == {}


def test_a_share_that_fills_up_under_a_copy_takes_what_still_fits(tmp_path: Path) -> None:
    """A file of somebody else grows while the big disk is copied: the half copy goes at once, and makes room for what still fits, of this
    host and of others. The next night, with room, only the big one is copied."""
    mib = 1024**2
    big = VmSpec("big", disks=(DiskSpec("D:\\VMs\\big\\a.vhd", size=12 * mib, kind="fixed"),))
    drives, accounts = (VolumeSpec("C:"), VolumeSpec("D:")), (ADMINISTRATOR,)
    hosts = [HostSpec("HV01", domain="example.test", accounts=accounts, volumes=drives, vms=(big, machine("small"))),
             HostSpec("HV02", domain="example.test", accounts=accounts, volumes=drives, vms=(machine("other"),))]
    share = ShareSpec("backup", AT_SERVER, ("EXAMPLE\\HV01$", "EXAMPLE\\HV02$"))
    server = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:", 64 * mib)), (share,))
    with Fleet(hosts, tmp_path / "fleet", file_servers=[server]) as fleet:
        first, second = (Runner(fleet, fleet.hosts[name]) for name in ("HV01", "HV02"))
        files = fleet.file_servers["NAS"].files
        filled: list[int] = []

        def fill() -> None:
            files.write_file("E:\\foreign.bin", b"")
            volume = files.resolve("E:\\").volume
            files.append(files.resolve("E:\\foreign.bin"), bytes(volume.free_bytes - 9 * mib))
            filled.append(volume.free_bytes)

        def copying(_view: rules.RequestView) -> bool:
            return not filled and "a.vhd" in [path.name for path in files.real_path(AT_SERVER).rglob("*.vhd")]

        with fleet.locked():
            one = fleet.hosts["HV01"].host
            one.processes.speeds = Speeds(copy_bytes_per_second=mib)
            one.rules.add(rules.vanish(fill), when=copying)
        night = copy(first, names=["big", "small"], max_age="20h")
        told = {entry["vm"]["name"]: entry for entry in night["results"]}
        assert (filled, {name: entry.get("error_code") for name, entry in told.items()}) == (
            [9 * mib], {"big": "destination_full", "small": None})
        assert told["big"]["leftovers"] == []
        assert [folder.parent.name.rpartition("_")[0] for folder in files.real_path(f"{AT_SERVER}\\HV01").glob("*/*")] == ["small"]
        assert copy(second, names=["other"], max_age="20h")["results"][0]["failed"] is False
        assert sorted(path.parts[-3].rpartition("_")[0] for path in files.real_path(AT_SERVER).glob("*/*/*/manifest.json")) == [
            "other", "small"]
        assert left_on_host(first) == {}
        with fleet.locked():
            files.remove_file(files.resolve("E:\\foreign.bin"))
        healed = copy(first, names=["big", "small"], max_age="20h")
        assert {entry["vm"]["name"]: (entry["changed"], entry["failed"]) for entry in healed["results"]} == {
            "big": (True, False), "small": (False, False)}
        assert left_on_host(first) == {}
