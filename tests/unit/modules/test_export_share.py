# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_export`` to a share: written by the computer account, proved there, taken over and swept there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_cleanup, hyperv_export
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.spec import HostSpec
from simulator.windows.spec import ShareSpec, VolumeSpec

from .conftest import ADMINISTRATOR, NOBODY, Runner
from .test_export import left_on_host, machine, slow

UNC, AT_SERVER = "\\\\NAS\\backup", "E:\\backup"
Begin = Callable[..., Runner]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a host of a domain, and a file server whose share grants the right to change to ``grants``."""
    with ExitStack() as stack:

        def start(grants: tuple[str, ...] = ("EXAMPLE\\HV01$",), size: int = 60 * 1024**3, **spec: Any) -> Runner:
            shares = (ShareSpec("backup", AT_SERVER, grants),)
            server = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:", size)), shares)
            values = {"volumes": (VolumeSpec("C:"), VolumeSpec("D:")), "vms": (machine("a"),), **spec}
            host = HostSpec(name="HV01", domain="example.test", accounts=(ADMINISTRATOR, NOBODY), **values)
            fleet = Fleet([host], tmp_path / "fleet", file_servers=[server])
            fleet.start()
            stack.callback(fleet.stop)
            return Runner(fleet, fleet.hosts["HV01"])

        yield start


def export(runner: Runner, **params: Any) -> dict[str, Any]:
    return runner.run(hyperv_export, **{"destination": UNC, "name": "a", **params})


def at_server(runner: Runner) -> Path:
    with runner.fleet.locked():
        found: Path = runner.fleet.file_servers["NAS"].files.real_path(AT_SERVER)
    return found


def test_an_export_is_proved_at_the_share_and_found_again(begin: Begin) -> None:
    runner = begin()
    first = export(runner, verify="sha256", max_age="20h")
    assert (first["export"]["method"], first["manifest"]["verified"], first["leftovers"]) == ("production_checkpoint", "sha256", [])
    folder = at_server(runner) / Path(*first["export"]["folder"].removeprefix(UNC + "\\").split("\\"))
    written = json.loads((folder / "manifest.json").read_bytes())
    assert {key: first["manifest"][key] for key in written} == written
    assert {file["path"] for file in written["files"]} | {"manifest.json"} == {
        str(path.relative_to(folder)).replace("/", "\\") for path in folder.rglob("*") if path.is_file()
    }
    assert all("sha256" in file for file in written["files"])
    assert left_on_host(runner) == {}
    before = runner.running.host.counters.snapshot()
    assert export(runner, max_age="20h")["changed"] is False
    spent = runner.running.host.counters.since(before)
    looks = spent.by_operation["Get"] + spent.by_operation["Invoke PS_ScheduledTask.GetInfoByName"] + spent.by_operation.get("Pull", 0)
    assert spent.requests - looks <= 21
    gone = export(runner, keep={"last": 1}, consistency="crash")["pruned"]
    assert [one["folder_removed"] for one in gone] == [True]
    assert not folder.exists()


def test_the_account_that_lacks_the_right_is_named(begin: Begin) -> None:
    runner = begin(grants=("EXAMPLE\\backup",))
    with pytest.raises(HypervError) as error:
        export(runner)
    assert (error.value.error_code, "HV01$" in error.value.message) == ("destination_unreachable", True)


def test_what_fails_is_swept_at_the_share(begin: Begin) -> None:
    runner = begin()
    with runner.fleet.locked():
        knobs = runner.running.host.hyperv.knobs
        knobs.failed_export_leaves = "files"
        knobs.export_error[next(iter(runner.running.host.hyperv.machines))] = 0x80070005
    failed = export(runner)
    assert (failed["error_code"], failed["leftovers"]) == ("destination_denied", [])
    assert "example.test\\HV01$" in failed["hint"]
    assert [path for path in at_server(runner).rglob("*") if path.is_file()] == []
    assert left_on_host(runner) == {}


def test_an_export_goes_on_without_us_and_is_taken_over_or_ended(begin: Begin) -> None:
    runner = begin()
    slow(runner)
    export(runner, wait=False, run_id="r1")
    runner.run(hyperv_cleanup, run_id="r1", remove=True)
    assert (left_on_host(runner), [path for path in at_server(runner).rglob("*") if path.is_file()]) == ({}, [])
    export(runner, wait=False, run_id="r2")
    done = export(runner)
    assert (done["adopted"], done["export"]["run_id"], left_on_host(runner)) == (True, "r2", {})
