# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts that may replicate to each other, and what tests ask of them."""
from __future__ import annotations

from typing import Any

from simulator.hyperv.spec import AuthorizationSpec, DiskSpec, HyperVSettings, ReplicaServerSpec, VmSpec
from simulator.spec import HostSpec
from simulator.windows.certificates import CertificateSpec
from simulator.windows.spec import VolumeSpec
from unit.modules.conftest import ADMINISTRATOR

SERVER = ReplicaServerSpec(enabled=True, authentication=3, certificate="host", authorizations=(AuthorizationSpec("*.example.test"),))
HTTP, HTTPS = "VIRT-HVRHTTPL-In-TCP-NoScope", "VIRT-HVRHTTPSL-In-TCP-NoScope"
SQL = "0A1B2C3D-0000-4000-8000-00000000ABCD"
WEB = "0A1B2C3D-0000-4000-8000-00000000ABCE"
KIB = 1024


def vm(name: str, vm_id: str, *, disks: int = 1, **changes: Any) -> VmSpec:
    """A machine with small disks on D:."""
    made = tuple(DiskSpec(f"D:\\VMs\\{name}-{number}.vhdx", size=4 * KIB * KIB, block_size=KIB * KIB, content=name.encode())
                 for number in range(disks))
    return VmSpec(**{"name": name, "vm_id": vm_id, "disks": made, "folder": f"D:\\VMs\\{name}", **changes})


def spec(name: str, *vms: VmSpec, server: ReplicaServerSpec = SERVER, **changes: Any) -> HostSpec:
    """A host of the domain that is a replica server, with both ports open."""
    return HostSpec(**{
        "name": name, "accounts": (ADMINISTRATOR,), "domain": "example.test", "os_version": "2022", "vms": vms,
        "volumes": (VolumeSpec("C:"), VolumeSpec("D:")), "hyperv": HyperVSettings(replica=server), "certificates": (CertificateSpec(),),
        "firewall_rules": (HTTP, HTTPS), **changes})


def changes(*runners: Any) -> tuple[int, ...]:
    """How often these hosts were changed."""
    found = []
    for runner in runners:
        with runner.fleet.locked():
            found.append(runner.running.host.changes)
    return tuple(found)


def advance(runner: Any, seconds: float) -> None:
    """Let simulated time pass."""
    with runner.fleet.locked():
        runner.running.host.clock.advance(seconds)


def machine(runner: Any, vm_id: str = SQL) -> Any:
    """The machine as the host has it."""
    return runner.running.host.hyperv.machines[vm_id]


def knobs(runner: Any) -> Any:
    """What can be turned of replication on a host."""
    return runner.running.host.hyperv.replica.knobs


def network(runner: Any) -> Any:
    """Which hosts hear which."""
    return runner.running.host.hyperv.replica.network
