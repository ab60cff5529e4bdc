# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_prune``: the copies of other hosts go by the rules, never the last one, and nothing of whom a newer run failed."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import manifest as manifests
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import Manifest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.naming import copy_folder
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_prune

from .conftest import Runner
from .test_export import BASE, export, real, start_with

Start = Callable[..., Runner]


def prune(runner: Runner, *, check: bool = False, **params: Any) -> dict[str, Any]:
    return runner.run(hyperv_prune, check=check, **{"destination": BASE, **params})


def planted(runner: Runner) -> str:
    """Three exports of this host's machine, and three that another host made of it."""
    one = manifests.parse(real(runner, export(runner, consistency="crash", verify="size")["manifest"]["path"]).read_text("ascii"))
    small = replace(one, files=tuple(replace(file, size=1) for file in one.files))
    for host in ("HV01", "HV02"):
        for hours in (1, 2, 3)[host == "HV01":]:
            plant(runner, replace(small, host=host, run_id=f"r{hours}", taken=one.taken - timedelta(hours=hours)))
    return f"a_{one.vm_id[:8]}"


def plant(runner: Runner, copy: Manifest) -> None:
    """An export of that manifest, each of its files one byte."""
    folder = real(runner, BASE) / copy.host / f"a_{copy.vm_id[:8]}" / copy_folder(copy.taken, copy.run_id)
    for file in copy.files:
        path = folder.joinpath(*file.path.split("\\"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (folder / "manifest.json").write_bytes(manifests.dump(copy))


def left(runner: Runner, host: str) -> list[str]:
    return sorted(path.parent.name.partition("_")[2] for path in (real(runner, BASE) / host).rglob("manifest.json"))


def test_the_copies_of_all_hosts_go_by_the_rules(start: Start) -> None:
    runner = start_with(start)
    folder = planted(runner)
    before = runner.running.host.counters.snapshot()
    predicted = prune(runner, check=True, keep={"last": 1})
    assert runner.running.host.counters.since(before).writing == 0
    only = prune(runner, keep={"last": 2}, hosts=["hv02.example.test"])
    assert ([(one["host"], len(one["pruned"]), one["kept"]) for one in only["results"]], left(runner, "HV02")) == (
        [("HV02", 1, 2)], ["r1", "r2"],
    )
    result = prune(runner, keep={"last": 1})
    assert {one["host"]: (len(one["pruned"]), one["kept"]) for one in predicted["results"]} == {"HV01": (2, 1), "HV02": (2, 1)}
    assert [len(one["pruned"]) for one in result["results"]] == [2, 1]
    assert (left(runner, "HV02"), prune(runner, keep={"last": 1})["changed"]) == (["r1"], False)
    assert [path.name for path in (real(runner, BASE) / "HV02" / folder).iterdir()] != []


@pytest.mark.parametrize(("name", "manifest"), [("a", None), ("renamed", None), ("a", b"{")])
def test_nothing_goes_while_a_newer_run_has_no_manifest(start: Start, name: str, manifest: bytes | None) -> None:
    runner = start_with(start)
    folder = f"{name}{planted(runner)[1:]}"
    newer = real(runner, BASE) / "HV02" / folder / "20990101T000000Z_new"
    newer.mkdir(parents=True)
    if manifest is not None:
        (newer / "manifest.json").write_bytes(manifest)
    result = prune(runner, keep={"last": 1}, kinds=["export"])
    assert {one["host"]: (one["stopped"] is not None, len(one["pruned"])) for one in result["results"]} == {
        "HV01": (False, 2), "HV02": (True, 0),
    }


def test_whole_copies_that_say_they_are_from_the_future_push_out_none(start: Start) -> None:
    runner = start_with(start)
    planted(runner)
    true = manifests.parse(next((real(runner, BASE) / "HV02").rglob("manifest.json")).read_text("ascii"))
    for year in (2097, 2098, 2099):
        plant(runner, replace(true, run_id=f"y{year}", taken=true.taken.replace(year=year), completed=true.completed.replace(year=year)))
    result = prune(runner, keep={"last": 1, "yearly": 2})
    assert {one["host"]: one["kept"] for one in result["results"]} == {"HV01": 1, "HV02": 4}
    assert left(runner, "HV02") == ["r1", "y2097", "y2098", "y2099"]


def test_no_rule_is_refused(start: Start) -> None:
    with pytest.raises(HypervError) as error:
        prune(start_with(start), keep={})
    assert error.value.error_code == "invalid_keep"


def test_what_a_host_forges_in_its_own_folder_costs_no_other_host_a_copy(start: Start) -> None:
    """A host that was taken over writes into its own folder whatever it likes: copies that claim to be of another host, of another host's
    machine and of days to come, paths that lead elsewhere, texts that a terminal would obey, and manifests without an end."""
    runner = start_with(start)
    folder = planted(runner)
    base = real(runner, BASE)
    true = manifests.parse(next((base / "HV02").rglob("manifest.json")).read_text("ascii"))
    evil = base / "EVIL"

    def forge(name: str, data: bytes, *, host: str = "EVIL", taken: str = "20990101T000000Z") -> None:
        where = evil / folder / f"{taken}_{name}"
        where.mkdir(parents=True)
        (where / "manifest.json").write_bytes(data)

    ahead = replace(true, taken=true.taken.replace(year=2099), completed=true.completed.replace(year=2099))
    stamp = copy_folder(ahead.taken, "x").partition("_")[0]
    forge("claims", manifests.dump(replace(ahead, run_id="claims")), taken=stamp)  # of HV02, in the folder of EVIL
    forge("own", manifests.dump(replace(ahead, host="EVIL", run_id="own", vm_name="\x1b[2J\u202e{{ 7 * 7 }}")), taken=stamp)
    up = manifests.dump(replace(ahead, host="EVIL", run_id="up")).replace(
        f'"{true.files[0].path}"'.replace("\\", "\\\\").encode(), f'"..\\\\..\\\\..\\\\HV02\\\\{folder}\\\\x"'.encode())
    assert b'"..\\\\..' in up
    forge("up", up, taken=stamp)
    forge("endless", b'{"padding": "' + b"x" * 3_000_000)
    forge("binary", bytes(range(256)) * 40)
    result = prune(runner, keep={"last": 1})
    told = {one["host"]: one for one in result["results"]}
    assert {host: (one["failed"], len(one["pruned"]), one["kept"]) for host, one in told.items() if host != "EVIL"} == {
        "HV01": (False, 2, 1), "HV02": (False, 2, 1),
    }
    assert (left(runner, "HV01") != [], left(runner, "HV02")) == (True, ["r1"])
    assert (told["EVIL"]["pruned"], told["EVIL"]["vm"]["name"]) == ([], "\x1b[2J\u202e{{ 7 * 7 }}")
    assert sorted(path.name.partition("_")[2] for path in evil.glob("*/*")) == ["binary", "claims", "endless", "own", "up"]
    shown = "".join([*runner.told.warnings, *runner.told.progress])
    assert [char for char in shown if unicodedata.category(char) in ("Cc", "Cf")] == []
