# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts for the tests of the Hyper-V role."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from simulator.hyperv.cluster import Cluster
from simulator.hyperv.spec import VmSpec
from simulator.spec import ClusterSpec
from simulator.windows.spec import VolumeSpec
from unit.simulator.hyperv.bench import Bench, MakeBench
from unit.simulator.hyperv.checkpoint_bench import MakePatient, Patient, spec
from unit.simulator.hyperv.replica_bench import MakePair, Pair


@pytest.fixture
def bench(tmp_path: Path) -> MakeBench:
    """Makes hosts below a folder of the test."""
    def make(*vms: VmSpec, name: str = "hv1", **options: object) -> Bench:
        return Bench(tmp_path / name, vms, name=name, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def patient(bench: MakeBench) -> Iterator[MakePatient]:
    """Makes a host with one machine whose checkpoints are tried."""
    made: list[Patient] = []

    def make(*others: VmSpec, os_version: str = "2022", volumes: Sequence[VolumeSpec] | None = None, **values: object) -> Patient:
        host = bench(spec(**values), *others, os_version=os_version, volumes=volumes, name=f"hv{len(made) + 1}")
        made.append(Patient(host))
        return made[-1]

    yield make
    for one in made:
        for guest in one.role.guests.values():
            guest.close()


@pytest.fixture
def make_cluster() -> Callable[..., Cluster]:
    """Makes clusters."""
    def make(*nodes: str, owners: Mapping[str, str] | None = None) -> Cluster:
        return Cluster(ClusterSpec("HVC1", nodes, owners or {}), "example.test")

    return make


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[MakePair]:
    """Makes two hosts, or three, that can replicate."""
    made: list[Pair] = []

    def make(**options: Any) -> Pair:
        made.append(Pair(tmp_path / f"pair{len(made)}", **options))
        return made[-1]

    yield make
    for one in made:
        for side in one.sides:
            for guest in side.role.guests.values():
                guest.close()
