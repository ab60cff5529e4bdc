# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The writing guests of a host follow what happens to their machines: other files below them, power, saved memory."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simulator.disks.guest import Guest
from simulator.hyperv.model import Machine

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV


def leaves(role: HyperV, machine: Machine) -> list[Path]:
    """The real files that a machine writes to, in the order of its drives."""
    found = [role.disks.materialise(disk.leaf) for disk in machine.disks if disk.leaf is not None]
    return [path for path in found if path is not None]


def reopen(role: HyperV, machine: Machine) -> None:
    """The files below a machine are others now and hold the same data: its guest goes on in them."""
    guest = role.guests.get(machine.id)
    if guest is not None and not guest.closed:
        guest.switch(leaves(role, machine))


def follow_power(role: HyperV, machine: Machine) -> None:
    """The machine has another power state: a guest writes while it runs, forgets its memory when it is off, else waits."""
    guest = role.guests.get(machine.id)
    if guest is None:
        return
    if machine.state == "off":
        guest.close()
    elif machine.state != "running":
        guest.stop()
    else:
        if guest.closed:
            guest.reboot(leaves(role, machine))
        guest.resume()


def pull_the_plug(role: HyperV, machine: Machine) -> None:
    """The guest is off at once, its memory lost."""
    guest = role.guests.get(machine.id)
    if guest is not None:
        guest.close()


def restore(role: HyperV, machine: Machine, phase: int) -> None:
    """A checkpoint was applied: with a saved state the guest waits in the middle of its write ``phase``, otherwise it is off."""
    guest = role.guests.get(machine.id)
    if guest is None:
        return
    guest.close()
    if machine.state == "saved":
        guest.reboot(leaves(role, machine), phase)


def writing(role: HyperV, machine: Machine) -> Guest | None:
    """The guest of a machine that runs."""
    guest = role.guests.get(machine.id)
    return guest if guest is not None and not guest.closed and machine.state == "running" else None
