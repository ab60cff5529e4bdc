# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_vm_info`` through the fault harness: no fault ever makes a virtual machine, or anything of it, look absent."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import inventory
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_vm_info
from simulator.hyperv.spec import CheckpointSpec, VmSpec
from simulator.spec import ClusterSpec, HostSpec
from simulator.windows.spec import VolumeSpec
from support.fault_harness import FAULTS, Fault, Operation, Recorded, Seen, check, record

CLUSTER = ClusterSpec("CL1", ("HV01", "HV02"), {"clustered": "HV01"})
NAMES = ["clustered", "off", "sql01", "web01"]


def spec() -> HostSpec:
    return HostSpec("HV01", domain="example.test", cluster=CLUSTER, volumes=(
        VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("C:\\ClusterStorage\\Volume1", filesystem="CSVFS")), vms=(
        VmSpec("web01", folder="D:\\VMs\\web01"),
        VmSpec("sql01", folder="D:\\VMs\\sql01", checkpoints=(CheckpointSpec("a"), CheckpointSpec("b", "b", parent="a"))),
        VmSpec("off", folder="D:\\VMs\\off", state="off"),
        VmSpec("clustered", folder="C:\\ClusterStorage\\Volume1\\clustered", clustered=True)))


def params(**changes: Any) -> dict[str, Any]:
    return {"name": None, "vm_id": None, "names": None, "gather": list(inventory.DEFAULT_SUBSETS), **changes}


def facts(result: dict[str, Any]) -> Any:
    """A result without what moves with the clock."""
    moving = {"time", "clock_skew", "uptime", "last_state_change", "last_replicated", "last_applied"}

    def still(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: still(item) for key, item in value.items() if key not in moving}
        return [still(item) for item in value] if isinstance(value, list) else value

    return still(result)


class Contract:
    """Every success says what the clean run said, word for word, and nothing was changed."""

    def __init__(self) -> None:
        self.expected: Any = None

    def clean(self, seen: Seen) -> Iterable[str]:
        assert seen.ending.result is not None
        self.expected = facts(seen.ending.result)
        found = [machine["name"] for machine in seen.ending.result.get("vms", [])] or [seen.ending.result["vm"]["name"]]
        if found not in (NAMES, ["sql01"]):
            yield f"it found {found}"
        yield from self.untouched(seen)

    def after(self, seen: Seen) -> Iterable[str]:
        if seen.ending.succeeded and facts(seen.ending.result or {}) != self.expected:
            told = facts(seen.ending.result or {})
            wrong = {key for key in self.expected if told.get(key) != self.expected[key]}
            if not (seen.ending.warnings and self.only_cluster(told)):
                yield f"a success with other facts: {', '.join(sorted(wrong))}"
        yield from self.untouched(seen)

    def only_cluster(self, told: dict[str, Any]) -> bool:
        """Nothing differs but what depends on the cluster, which could not be asked and of which a warning tells."""
        def without(result: dict[str, Any]) -> Any:
            machines = result["vms"] if "vms" in result else [result["vm"]]
            stripped = [{key: value for key, value in machine.items() if key not in ("cluster", "readiness")} for machine in machines]
            rest = {key: value for key, value in result.items() if key not in ("vms", "vm", "host", "cluster_roles")}
            return stripped, rest, {**result["host"], "cluster": None}

        return bool(without(told) == without(self.expected))

    def untouched(self, seen: Seen) -> Iterable[str]:
        if seen.host.changes or seen.host.counters.writing:
            yield f"something was changed: {list(seen.host.recent_changes)}"


def operation(title: str, contract: Contract, **changes: Any) -> Operation:
    return Operation(title, spec, hyperv_vm_info.run, params(**changes), contract.clean, contract.after)


@pytest.fixture(scope="module")
def whole_host() -> tuple[Operation, Recorded]:
    made = operation("hyperv_vm_info of all", Contract())
    return made, record(made)


@pytest.fixture(scope="module")
def one_with_chains() -> tuple[Operation, Recorded]:
    made = operation("hyperv_vm_info of one with chains", Contract(), name="sql01", gather=["state", "disks", "chains"])
    return made, record(made)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_all_machines(whole_host: tuple[Operation, Recorded], fault: Fault) -> None:
    assert check(*whole_host, fault, most=1) >= 1


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_one_machine_with_its_chains(one_with_chains: tuple[Operation, Recorded], fault: Fault) -> None:
    assert check(*one_with_chains, fault, most=1) >= 1
