# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``keep`` of ``hyperv_vss_copy``: what is removed, what never is, and what an interruption leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import retention
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import parse
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_vss_copy
from simulator.hyperv.spec import DiskSpec, VmSpec
from simulator.soap.rules import lost_before
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"))
BASE = "E:\\Backup\\HV01"


def start_with(start: Start, *names: str) -> Any:
    return start(volumes=VOLUMES, vms=tuple(VmSpec(name, disks=(DiskSpec(f"D:\\VMs\\{name}\\a.vhdx"),)) for name in names))


def copy(runner: Any, **params: Any) -> dict[str, Any]:
    one = {} if "names" in params else {"name": "a"}
    result: dict[str, Any] = runner.run(hyperv_vss_copy, **{"destination": "E:\\Backup", **one, **params})
    return result


def later(runner: Any, hours: float) -> None:
    with runner.fleet.locked():
        runner.running.host.clock.advance(hours * 3600)


def real(runner: Any, path: str) -> Path:
    with runner.fleet.locked():
        found: Path = runner.running.host.files.real_path(path)
    return found


def folders(runner: Any, name: str = "a_") -> list[str]:
    """Full paths of the copies of a VM, the oldest first."""
    base = real(runner, BASE)
    (vm,) = [entry.name for entry in base.iterdir() if entry.name.startswith(name)]
    return [f"{BASE}\\{vm}\\{entry.name}" for entry in sorted((base / vm).iterdir())]


def three_copies(start: Start, *names: str) -> Any:
    runner = start_with(start, *(names or ("a",)))
    for _unused in range(3):
        copy(runner, names=["all"])
        later(runner, 2)
    return runner


def test_days_of_copies_are_thinned_out_as_the_pure_function_says(start: Start) -> None:
    runner = start_with(start, "a")
    keep = {"last": 2, "daily": 3, "weekly": 2}
    there: list[retention.RetainedCopy] = []
    removed = 0
    for _unused in range(11):
        result = copy(runner, keep=keep, timezone="America/New_York")
        new = parse(real(runner, result["manifest"]["path"]).read_text("ascii"))
        there.append(retention.RetainedCopy(result["manifest"]["folder"], new.taken))
        plan = retention.decide(there, retention.parse_keep(keep), now=new.completed, newest_run_failed=False,
                                timezone=retention.zone("America/New_York"))
        assert [gone["folder"] for gone in result["pruned"]] == [gone.copy_id for gone in plan.removed]
        there = list(plan.kept)
        removed += len(plan.removed)
        assert folders(runner) == sorted(kept.copy_id for kept in there)
        later(runner, 13)
    assert removed > 3


def test_a_present_copy_is_a_reason_to_remove_older_ones_once(start: Start) -> None:
    runner = three_copies(start)
    old = folders(runner)
    ask = {"max_age": "20h", "keep": {"last": 1}}
    before = runner.running.host.counters.snapshot()
    predicted = copy(runner, check=True, **ask)
    assert runner.running.host.counters.since(before).writing == 0
    assert (predicted["changed"], [gone["folder"] for gone in predicted["pruned"]], folders(runner)) == (True, old[:2], old)
    (decisions,) = predicted["diff"]["before"]["retention"].values()
    assert [(item["copy"], item["keep"], item["rules"]) for item in decisions] == [
        (old[2], True, ["last"]), (old[1], False, []), (old[0], False, [])]
    (kept,) = predicted["diff"]["after"]["retention"].values()
    assert [item["copy"] for item in kept] == [old[2]]
    assert [(step["action"], step["target"]) for step in predicted["diff"]["after"]["steps"]] == [("prune", old[0]), ("prune", old[1])]
    done = copy(runner, **ask)
    assert (done["changed"], done["pruned"], done["manifest"]["folder"], folders(runner)) == (True, predicted["pruned"], old[2], old[2:])
    before = runner.running.host.counters.snapshot()
    again = copy(runner, **ask)
    assert (again["changed"], again["pruned"], runner.running.host.counters.since(before).writing) == (False, [], 0)


def test_check_mode_predicts_what_goes_when_a_copy_is_due(start: Start) -> None:
    runner = three_copies(start)
    old = folders(runner)
    predicted = copy(runner, check=True, keep={"last": 2})
    assert [gone["folder"] for gone in predicted["pruned"]] == old[:2]
    done = copy(runner, keep={"last": 2})
    assert (done["pruned"], folders(runner)) == (predicted["pruned"], [old[2], done["manifest"]["folder"]])


def test_nothing_is_removed_without_rules_or_when_the_copy_failed_and_other_machines_keep_theirs(start: Start) -> None:
    runner = three_copies(start, "a", "b")
    assert copy(runner, max_age="20h", keep={"last": 0})["changed"] is False
    old, others = folders(runner), folders(runner, "b_")
    with runner.fleet.locked():
        runner.running.host.shadows.answers = [6]
    assert copy(runner, keep={"last": 1})["error_code"] == "vss_insufficient_storage"
    assert folders(runner) == old
    assert copy(runner, max_age="20h", keep={"last": 1})["changed"] is True
    assert (folders(runner), folders(runner, "b_")) == (old[2:], others)


def test_foreign_files_stay_with_their_folder(start: Start) -> None:
    runner = three_copies(start)
    old = folders(runner)
    for place in (f"{old[0]}\\notes.txt", f"{old[1]}\\disks\\other.vhdx"):
        with runner.fleet.locked():
            runner.running.host.files.write_file(place, b"foreign")
    result = copy(runner, max_age="20h", keep={"last": 1})
    assert [gone["folder_removed"] for gone in result["pruned"]] == [False, False]
    assert [any(folder in text and "not ours" in text for text in runner.told.warnings) for folder in old[:2]] == [True, True]
    left = sorted(str(path.relative_to(real(runner, BASE))).rpartition("/")[2] for folder in old[:2]
                  for path in real(runner, folder).rglob("*") if path.is_file())
    assert left == ["notes.txt", "other.vhdx"]
    again = copy(runner, max_age="20h", keep={"last": 1})
    assert (again["changed"], again["pruned"]) == (False, [])


@pytest.mark.parametrize("where", ["disks", "copy", "vm"])
def test_nothing_is_removed_through_a_link(start: Start, where: str) -> None:
    runner = three_copies(start)
    old = folders(runner)
    path = {"disks": f"{old[0]}\\disks", "copy": old[0], "vm": old[0].rpartition("\\")[0]}[where]
    elsewhere = real(runner, path).rename(real(runner, "E:\\") / "elsewhere")
    with runner.fleet.locked():
        runner.running.host.files.make_link(path, "E:\\elsewhere", "junction")
    before = sorted(str(found) for found in elsewhere.rglob("*"))
    result = copy(runner, run_id="now", keep={"last": 1})
    assert sorted(str(found) for found in elsewhere.rglob("*") if "_now" not in str(found)) == before
    if result.get("failed"):
        assert result["error_code"] == "link_in_the_way"
        assert result["leftovers"] == []


def test_a_copy_that_lacks_a_file_does_not_count_and_is_not_removed(start: Start) -> None:
    runner = three_copies(start)
    old = folders(runner)
    (real(runner, old[2]) / "disks" / "a.vhdx").write_bytes(b"short")
    result = copy(runner, max_age="20h", keep={"last": 1})
    assert (result["manifest"]["folder"], [gone["folder"] for gone in result["pruned"]]) == (old[1], old[:1])
    assert any(old[2] in text and "does not count" in text for text in runner.told.warnings)
    (real(runner, old[1]) / "disks" / "a.vhdx").unlink()
    result = copy(runner, max_age="20h", keep={"last": 1})
    assert (result["changed"], result["pruned"], folders(runner)) == (True, [], [*old[1:], result["manifest"]["folder"]])


@pytest.mark.parametrize("program", ["manifest.json.pruning", "del /F /Q %I", "rmdir %I"])
def test_an_interrupted_removal_is_reported_and_ended_by_the_next_run(start: Start, program: str) -> None:
    runner = three_copies(start)
    old = folders(runner)
    ask = {"max_age": "20h", "keep": {"last": 1}}
    with runner.fleet.locked():
        runner.running.host.rules.add(lost_before(), operation="Shell Command",
                                      when=lambda view: program in view.document and "findstr" not in view.document)
    result = copy(runner, **ask)
    with runner.fleet.locked():
        runner.running.host.rules.clear()
    assert (result["failed"], result["pruned"]) == (True, [])
    assert [left["id"] for left in result["leftovers"]] == [old[0]]
    assert real(runner, old[1] + "\\manifest.json").is_file(), "one failure ends it"
    done = copy(runner, **ask)
    assert ("failed" in done, [gone["folder"] for gone in done["pruned"]], folders(runner)) == (False, old[:2], old[2:])


@pytest.mark.parametrize("params", [{"keep": {"last": -1}}, {"keep": {"daily": 10**6}}, {"keep": {"last": 1}, "timezone": "Mars/North"}])
def test_odd_rules_are_refused(start: Start, params: dict[str, Any]) -> None:
    runner = start_with(start, "a")
    with pytest.raises(HypervError) as refused:
        copy(runner, **params)
    assert (refused.value.error_code, runner.running.host.changes) == ("invalid_keep", 0)
