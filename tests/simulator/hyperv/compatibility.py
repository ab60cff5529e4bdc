# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What speaks against a planned machine running on its host: the list that ValidatePlannedSystem gives (operations 3.5, F-39).

Of the numbers only 33012 (a missing switch) is known from a source; the others are stand-ins.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.model import CONFIG_VERSIONS, Machine
from simulator.windows.errors import Win32Error

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

FAILED, NOT_COMPATIBLE = 32768, 32784
SWITCH, DISK, IMAGE, FOLDER, CHECKPOINT, COMPANION, DEVICE, MEMORY, PROCESSORS, STATE, VERSION = (
    "33012", "40010", "40012", "40016", "40020", "40024", "40028", "3122", "24004", "24000", "32784")


def too_new(role: HyperV, version: str) -> bool:
    """Whether a configuration version is later than the host's release has (operations 0.6)."""
    return _number(version) > _number(CONFIG_VERSIONS[role.os_version])


def problems(role: HyperV, machine: Machine) -> list[JobFailure]:
    """Everything that is wrong, one error each; empty when the machine can be realised."""
    role.adoption.look_again(machine)
    return [JobFailure(FAILED, text, message_id=number) for number, text in
            (*_hardware(role, machine), *_files(role, machine), *_folders(role, machine), *_network(role, machine))]


def _hardware(role: HyperV, machine: Machine) -> Iterator[tuple[str, str]]:
    settings, spec = role.settings, machine.spec
    if too_new(role, machine.version):
        yield VERSION, f"The configuration version {machine.version} is not supported."
    if settings.memory_mb is not None and spec.memory_mb > settings.memory_mb:
        yield MEMORY, f"The host has not enough memory for {spec.memory_mb} MB."
    if settings.processors is not None and spec.processors > settings.processors:
        yield PROCESSORS, f"The host has not {spec.processors} processors."
    if machine.state == "saved" and role.knobs.saved_states_fit is False:
        yield STATE, "The saved state is not compatible with the processors of the host."
    if machine.key_host != role.name:  # what belongs to the hardware of the host it comes from
        for disk in machine.disks:
            if disk.medium == "passthrough":
                yield DEVICE, f"The physical disk {disk.spec.disk_number} was not found."
        for number in range(spec.fibre_channel_ports):
            yield DEVICE, f"The virtual SAN of fibre channel adapter {number} was not found."


def _files(role: HyperV, machine: Machine) -> Iterator[tuple[str, str]]:
    for path in machine.companions:
        if not _readable(role, path):
            yield COMPANION, f"The file '{path}' was not found or cannot be read."
    seen: set[str] = set()
    for configuration in machine.configurations():
        if configuration.checkpoint is not None and configuration.checkpoint.kind == "missing":
            yield CHECKPOINT, f"The files of checkpoint {configuration.id} were not found."
        for disk in configuration.disks:
            file = configuration.file_of(disk)
            paths = [(DISK, link.path) for link in file.chain()] if file is not None else []
            if disk.medium in ("dvd", "floppy") and disk.spec.path:
                paths.append((IMAGE, disk.spec.path))
            for number, path in paths:
                if path.lower() not in seen and not _readable(role, path):
                    yield number, f"The file '{path}' was not found or cannot be read."
                seen.add(path.lower())


def _readable(role: HyperV, path: str) -> bool:
    try:
        role.adoption.check(path)
    except Win32Error:
        return False
    return True


def _folders(role: HyperV, machine: Machine) -> Iterator[tuple[str, str]]:
    for path in dict.fromkeys((machine.folder, machine.snapshot_folder, *machine.roots.values())):
        root = path[:3] if path[1:2] == ":" else "\\".join(path.split("\\")[:4])
        try:
            role.host.files.resolve(root, token=role.system)
        except Win32Error:
            yield FOLDER, f"The folder '{path}' cannot be reached."


def _network(role: HyperV, machine: Machine) -> Iterator[tuple[str, str]]:
    for nic in machine.spec.nics:
        if nic.connection and not nic.removed and nic.switch is not None and nic.switch not in role.switches:
            yield SWITCH, f"Could not find Ethernet switch '{nic.switch}'."


def _number(version: str) -> tuple[int, int]:
    major, _unused, minor = version.partition(".")
    return int(major), int(minor or 0)
