# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests a task costs a host: what docs/performance.md promises is held here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.modules import (
    hyperv_cleanup,
    hyperv_shadow_copy,
    hyperv_shadow_copy_info,
    hyperv_vss_copy,
)
from simulator.hyperv.spec import DiskSpec, VmSpec
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"))
COPY = {"name": "sql01", "destination": "E:\\Backup"}


def machine(name: str) -> VmSpec:
    return VmSpec(name, disks=(DiskSpec(f"D:\\VMs\\{name}\\a.vhdx"),))


@pytest.fixture
def runner(start: Start) -> Any:
    return start(volumes=VOLUMES, vms=(machine("sql01"),))


def cost(runner: Any, module: Any, **params: Any) -> dict[str, int]:
    """Requests by operation. Hosts cut answers as they like: further pages and pieces of one answer are not counted."""
    with runner.fleet.locked():
        before = runner.running.host.counters.snapshot()
    runner.run(module, **params)
    with runner.fleet.locked():
        used = dict(runner.running.host.counters.since(before).by_operation)
    used.pop("Pull", None)
    if "Shell Receive" in used:
        used["Shell Receive"] = min(used["Shell Receive"], used["Shell Command"])
    return used


def test_a_copy_that_is_there_costs_eight_requests(runner: Any) -> None:
    runner.run(hyperv_vss_copy, **COPY, max_age="20h")
    used = cost(runner, hyperv_vss_copy, **COPY, max_age="20h")
    assert used == {"Enumerate": 4, "Shell Create": 1, "Shell Command": 1, "Shell Receive": 1, "Shell Delete": 1}


def test_the_number_of_machines_does_not_matter_when_there_is_nothing_to_do(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=tuple(machine(f"vm{number}") for number in range(3)))
    runner.run(hyperv_vss_copy, names=["all"], destination="E:\\Backup", max_age="20h")
    assert sum(cost(runner, hyperv_vss_copy, names=["all"], destination="E:\\Backup", max_age="20h").values()) == 8


def test_a_look_at_the_shadow_copies_costs_six_to_ten_requests(runner: Any) -> None:
    assert cost(runner, hyperv_shadow_copy_info) == {"Enumerate": 6}
    runner.run(hyperv_shadow_copy, volume="D:\\")
    assert sum(cost(runner, hyperv_shadow_copy_info).values()) == 10


def test_a_making_of_a_shadow_copy_costs_fewer_than_thirty_requests(runner: Any) -> None:
    runner.run(hyperv_shadow_copy, volume="D:\\")
    used = cost(runner, hyperv_shadow_copy, volume="E:\\")
    assert sum(used.values()) == 27
    assert (used["Shell Create"], used["Invoke Win32_ShadowCopy.Create"]) == (4, 1)


def test_an_audit_that_finds_nothing_costs_at_most_eleven_requests(runner: Any) -> None:
    used = cost(runner, hyperv_cleanup)
    assert set(used) == {"Enumerate"}
    assert used["Enumerate"] <= 11


def test_each_slot_on_the_host_costs_nine_requests_and_none_when_there_is_nothing_to_do(runner: Any) -> None:
    runner.run(hyperv_vss_copy, **COPY)
    plain, limited = cost(runner, hyperv_vss_copy, **COPY), cost(runner, hyperv_vss_copy, **COPY, host_limit=1, volume_limit=1)
    more = {name: limited[name] - plain.get(name, 0) for name in ("Enumerate", "Shell Create", "Shell Command", "Shell Delete")}
    assert more == {"Enumerate": 2, "Shell Create": 4, "Shell Command": 4, "Shell Delete": 4}
    assert sum(cost(runner, hyperv_vss_copy, **COPY, max_age="20h", host_limit=1, volume_limit=1).values()) == 8
