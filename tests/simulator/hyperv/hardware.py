# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody changes the hardware of a machine on the host itself, so that a checkpoint describes another one than the machine has."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

from simulator.hyperv.model import Disk, Machine
from simulator.hyperv.spec import DiskSpec


def reconfigure(machine: Machine, **changes: Any) -> None:
    """Set ``processors``, ``memory_mb``, ``dynamic_memory``, ``nics`` or ``fibre_channel_ports``; ValueError for anything else."""
    unknown = set(changes) - {"processors", "memory_mb", "dynamic_memory", "nics", "fibre_channel_ports"}
    if unknown:
        raise ValueError(f"not changed by this: {', '.join(sorted(unknown))}")
    _settle(machine)
    machine.spec = replace(machine.spec, **changes)
    machine.role.switches |= {nic.switch for nic in machine.spec.nics if nic.switch is not None}
    machine.config_changed = machine.role.clock.now()


def attach_disk(machine: Machine, spec: DiskSpec) -> Disk:
    """Attach one more disk; checkpoints that exist do not have it. A file that is not there yet is made when somebody looks."""
    _settle(machine)
    index = 1 + max((disk.index for c in machine.configurations() for disk in c.disks), default=-1)
    bus = spec.controller or "scsi"
    taken = {(disk.bus, disk.location) for disk in machine.disks if disk.controller == bus}
    per_bus = 2 if bus == "ide" else 64
    place = next(n for n in range(256) if (n // per_bus, n % per_bus) not in taken)
    base = machine.base_file(index, spec) if spec.medium in ("vhd", "pmem") else None
    disk = Disk(spec, index, bus, place // per_bus, place % per_bus, base, base)
    machine.disks.append(disk)
    _changed(machine)
    return disk


def detach_disk(machine: Machine, index: int) -> None:
    """Take a disk out; its files stay, and checkpoints keep it. KeyError: no such disk."""
    _settle(machine)
    left = [disk for disk in machine.disks if disk.index != index]
    if len(left) == len(machine.disks):
        raise KeyError(index)
    machine.disks[:] = left
    _changed(machine)


def _settle(machine: Machine) -> None:
    """What follows from the description is worked out before the description changes."""
    machine.disks, machine.current_parent, machine.last_applied  # noqa: B018


def _changed(machine: Machine) -> None:
    machine.config_changed = machine.role.clock.now()
    machine.role.disks.new_machine()
    machine.role.disks.hold(machine)
