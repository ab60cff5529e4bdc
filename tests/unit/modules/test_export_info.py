# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_export_info``: what counts, what does not, who has none; and many exports in a bounded number of requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.protection import manifest as manifests
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.naming import copy_folder
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_export_info

from .conftest import Runner
from .test_export import BASE, export, machine, real, start_with

Start = Callable[..., Runner]


def info(runner: Runner, **params: Any) -> dict[str, Any]:
    before = runner.running.host.counters.snapshot()
    result = runner.run(hyperv_export_info, **{"destination": BASE, **params})
    assert runner.running.host.counters.since(before).writing == 0
    return result


def test_good_damaged_incomplete_and_foreign_ones_are_told_apart(start: Start) -> None:
    runner = start_with(start, machine("a"), machine("b"))
    folders = [export(runner, consistency="crash")["export"]["folder"] for _unused in range(2)]
    vm_folder = folders[0].rpartition("\\")[0]
    real(runner, f"{folders[1]}\\RESTORE.txt").unlink()
    with runner.fleet.locked():
        for path in (f"{vm_folder}\\20260101T000000Z_dead", f"{vm_folder}\\mine"):
            runner.running.host.files.create_directory(path)
    result = info(runner)
    assert [(one["folder"], one["state"], one["missing"]) for one in result["exports"]] == [
        (folders[1], "damaged", ["RESTORE.txt"]), (folders[0], "complete", []),
    ]
    assert (result["incomplete"], result["foreign"]) == (
        [{"folder": f"{vm_folder}\\20260101T000000Z_dead", "run_id": "dead"}], [f"{vm_folder}\\mine"],
    )
    by_name = {one["name"]: one for one in result["vms"]}
    assert (by_name["a"]["newest"]["folder"], by_name["a"]["exports"], by_name["b"]["newest"]) == (folders[0], 2, None)
    assert result["without"] == [by_name["b"]["vm_id"]]
    assert result["counts"] == {"complete": 1, "damaged": 1, "being_removed": 0, "incomplete": 1, "foreign": 1}
    assert info(runner, max_age="1s")["without"] == [one["vm_id"] for one in result["vms"]]
    assert [len(info(runner, **named)["exports"]) for named in ({"name": "A"}, {"name": "b"})] == [2, 0]


def test_many_exports_of_two_hosts_cost_a_bounded_number_of_requests(start: Start) -> None:
    runner = start_with(start)
    made = export(runner, consistency="crash")
    one = manifests.parse(real(runner, made["manifest"]["path"]).read_text("ascii"))
    base = real(runner, BASE)
    for number in range(100):
        host = "HV01" if number % 2 else "HV02"
        copy = replace(one, host=host, run_id=f"r{number}", taken=one.taken - timedelta(hours=number), files=(
            *(replace(file, size=1) for file in one.files),))
        folder = base / host / f"a_{one.vm_id[:8]}" / copy_folder(copy.taken, copy.run_id)
        for file in copy.files:
            path = folder.joinpath(*file.path.split("\\"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        (folder / "manifest.json").write_bytes(manifests.dump(copy))
    before = runner.running.host.counters.snapshot()
    result = info(runner, all_hosts=True)
    spent = runner.running.host.counters.since(before)
    assert (result["counts"]["complete"], len(result["vms"])) == (101, 1)
    assert spent.requests - spent.by_operation["Shell Receive"] <= 8
    assert spent.by_operation["Shell Receive"] <= 5
    assert spent.bytes_out <= 1_200_000
    assert len(info(runner)["exports"]) == 51
