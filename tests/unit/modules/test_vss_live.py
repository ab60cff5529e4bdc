# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``method: live``, the last resort: only on an explicit acceptance, never of chains, and never called anything but inconsistent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import parse
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_vss_copy
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, VmSpec
from simulator.windows.spec import VolumeSpec

from .conftest import Runner

Start = Callable[..., Runner]
STATE = "C:\\ProgramData\\agentless.hyperv"


def machine(name: str = "a", *disks: DiskSpec, **values: Any) -> VmSpec:
    return VmSpec(name, disks=disks or (DiskSpec(f"D:\\VMs\\{name}\\a.vhdx"),), **values)


@pytest.fixture
def host(start: Start) -> Callable[..., Runner]:
    return lambda *vms, **spec: start(volumes=(VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"), VolumeSpec("F:")), vms=vms, **spec)


def copy(runner: Runner, **params: Any) -> dict[str, Any]:
    given = {"name": "a", "destination": "E:\\Backup", "method": "live", "accept_inconsistent": True, **params}
    return runner.run(hyperv_vss_copy, **given)


def real(runner: Runner, path: str) -> Path:
    with runner.fleet.locked():
        found: Path = runner.running.host.files.real_path(path)
    return found


def test_an_off_machine_is_copied_and_still_called_inconsistent(host: Callable[..., Runner]) -> None:
    runner = host(machine(state="off"))
    before = runner.running.host.counters.snapshot()
    result = copy(runner)
    assert (result["changed"], result["consistency"]["achieved"], result["manifest"]["method"]) == (True, "inconsistent", "live")
    assert "Invoke Win32_ShadowCopy.Create" not in runner.running.host.counters.since(before).by_operation
    written = parse(real(runner, result["manifest"]["path"]).read_text("ascii"))
    assert (written.shadow_id, written.achieved, written.method) == (None, "inconsistent", "live")
    (file,) = written.files
    assert real(runner, f"{result['manifest']['folder']}\\{file.path}").read_bytes() == real(runner, file.source).read_bytes()


def test_disks_on_several_volumes_are_copied_since_nothing_is_promised(host: Callable[..., Runner]) -> None:
    runner = host(machine("a", DiskSpec("D:\\a.vhdx"), DiskSpec("F:\\VMs\\a.vhdx"), state="off"))
    assert [file["source"] for file in copy(runner)["manifest"]["files"]] == ["D:\\a.vhdx", "F:\\VMs\\a.vhdx"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"accept_inconsistent": False}, "inconsistent_not_accepted"),
        ({"verify": "sha256"}, "verify_not_possible"),
        ({"writers": "hyperv"}, "writers_need_shadow_copy"),
    ],
)
def test_wishes_that_exclude_each_other_are_refused_before_anything_is_written(
    host: Callable[..., Runner], params: dict[str, Any], code: str
) -> None:
    runner = host(machine())
    with pytest.raises(HypervError) as refused:
        copy(runner, **params)
    assert (refused.value.error_code, runner.running.host.changes) == (code, 0)


def test_a_chain_is_refused(host: Callable[..., Runner]) -> None:
    runner = host(machine(checkpoints=(CheckpointSpec("c"),)))
    result = copy(runner)
    assert (result["error_code"], runner.running.host.changes) == ("chain_not_live", 0)


def test_a_disk_that_is_opened_exclusively_is_told_by_its_code(host: Callable[..., Runner]) -> None:
    runner = host(machine(state="running"))
    result = copy(runner)
    assert (result["error_code"], "method: vss" in result["hint"]) == ("sharing_violation", True)
    assert {left["kind"] for left in result["leftovers"]} == {"incomplete_copy", "intent"}


def test_a_live_copy_is_no_reason_to_remove_a_better_one(host: Callable[..., Runner]) -> None:
    runner = host(machine(state="off"))
    good = copy(runner, method="vss", accept_inconsistent=False)["manifest"]["folder"]
    with runner.fleet.locked():
        runner.running.host.clock.advance(3600)
    result = copy(runner, keep={"last": 1})
    assert result["pruned"] == []
    assert real(runner, f"{good}\\manifest.json").is_file()
    assert copy(runner, method="vss", accept_inconsistent=False, max_age="20h")["manifest"]["folder"] == good
