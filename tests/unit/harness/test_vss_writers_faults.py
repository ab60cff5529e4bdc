# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_vss_copy`` with ``writers: hyperv`` through the fault harness.

The contract: after a fault nothing foreign was touched and no success is false; hours later, when shells that nobody uses have ended, the
clean-up leaves nothing of ours but complete copies. Where a run was killed within minutes of a creation that nobody exposed, its intents
prove whose the shadow copies are.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_cleanup, hyperv_vss_copy
from simulator.host import SimHost
from simulator.hyperv.spec import MIB, DiskSpec, VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import VolumeSpec
from support.fault_harness import FAULTS, Fault, NextRun, Operation, Recorded, Seen, check, record, validated
from support.leftovers import Others, false_successes, others_of, problems_on, touched

GIB = 1024**3
VOLUMES = tuple(VolumeSpec(letter, 200 * GIB, free=100 * GIB) for letter in ("C:", "D:", "E:", "F:"))
MACHINES = (VmSpec("sql01", folder="D:\\VMs\\sql01", disks=(DiskSpec("D:\\VMs\\sql01\\a.vhdx", size=16 * MIB),
                                                            DiskSpec("F:\\VMs\\sql01\\b.vhdx", size=16 * MIB))),
            VmSpec("other", folder="D:\\VMs\\other", disks=(DiskSpec("D:\\VMs\\other\\a.vhdx", size=16 * MIB),)))


def spec() -> HostSpec:
    return HostSpec("HV01", os_version="2012R2", volumes=VOLUMES, vms=MACHINES)


def prepare(host: SimHost) -> Others:
    """Another product's shadow copies and files; the machines' disks are others', too."""
    host.hyperv.disks.materialise_all()
    host.files.create_directory("E:\\Backup")
    host.files.write_file("E:\\Backup\\other product.txt", b"not ours")
    host.shadows.add_foreign("D:\\")
    host.shadows.add_foreign("F:\\", context="ClientAccessible")
    return others_of(host, "E:\\Backup", "D:\\VMs", "F:\\VMs")


def after(seen: Seen) -> Iterator[str]:
    """The run that met the fault told no lie, and touched nobody's."""
    yield from touched(seen.host, seen.witness)
    yield from false_successes(seen.host, seen.ending)


def healed(seen: Seen) -> Iterator[str]:
    """Nothing of ours is left but complete copies."""
    yield from problems_on(seen.host, seen.witness, destinations=["E:\\Backup"], ending=seen.ending)


def operation(**params: Any) -> Operation:
    given = {"name": "sql01", "destination": "E:\\Backup", "writers": "hyperv", "consistency": "application", "run_id": "night", **params}
    return Operation("a copy with writers", spec, hyperv_vss_copy.run, validated(hyperv_vss_copy, **given), clean=healed, after=after,
                     healed=healed, prepare=prepare,
                     next_run=NextRun(hyperv_cleanup.run, validated(hyperv_cleanup, remove=True, older_than="10m"), pause=4 * 3600))


COPY = operation()


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return record(COPY)


def test_a_copy_costs_a_bounded_number_of_requests(recorded: Recorded) -> None:
    assert len(recorded.requests) <= 160


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_copy_with_writers(recorded: Recorded, fault: Fault) -> None:
    assert check(COPY, recorded, fault, most=1) > 0
