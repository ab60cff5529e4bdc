# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file each disk of a planned machine gets, and which switch each adapter: pure functions of what the host shows of it."""
from __future__ import annotations

import ntpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import planned
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.planned import Port, Storage
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_source import Source


@dataclass(frozen=True)
class Wiring:
    """``repointed``: media with the file that they get. ``removed``: images, and disks that the backup leaves out on purpose.
    ``disconnected`` and ``connected``: adapters, the latter with the GUID of their switch."""

    repointed: tuple[tuple[Storage, str], ...] = ()
    removed: tuple[Storage, ...] = ()
    disconnected: tuple[Port, ...] = ()
    connected: tuple[tuple[Port, str], ...] = ()

    @property
    def empty(self) -> bool:
        """True when nothing is to be done."""
        return not (self.repointed or self.removed or self.disconnected or self.connected)


def pending(wanted: Wiring, storage: Sequence[Storage], ports: Sequence[Port], switches: Mapping[str, str]) -> Wiring:
    """What of a wiring the host does not show yet."""
    paths = {one.reference: ntpath.normcase(one.path) for one in storage}
    now = {port.reference: port for port in ports}

    def is_on(port: Port, guid: str) -> bool:
        seen = now.get(port.reference)
        return seen is not None and seen.connected and (seen.switch or "").casefold() == switches[guid].casefold()

    return Wiring(tuple((one, file) for one, file in wanted.repointed if paths.get(one.reference) != ntpath.normcase(file)),
                  tuple(one for one in wanted.removed if one.reference in paths),
                  tuple(port for port in wanted.disconnected if port.reference in now and now[port.reference].connected),
                  tuple((port, guid) for port, guid in wanted.connected if not is_on(port, guid)))


def wire(source: Source, folder: str, storage: Sequence[Storage], ports: Sequence[Port], networks: Mapping[str, str],
         switches: Mapping[str, str]) -> Wiring:
    """The wiring for files that lie in ``folder`` as they do in the backup. ``networks``: names of switches in lower case to names of this
    host's; ``switches``: names of the host's switches by GUID.

    Raises HypervError ``disk_not_in_backup`` with every disk that has no file.
    """
    repointed, removed, lost = [], [], []
    excluded = {ntpath.basename(disk.source).lower() for disk in source.export.excluded} if source.export is not None else set()
    for one in storage:
        file = _file_for(source, folder, one) if one.is_disk else None
        if file is not None:
            if ntpath.normcase(file) != ntpath.normcase(one.path):
                repointed.append((one, file))
        elif not one.is_disk or ntpath.basename(one.path).lower() in excluded:  # the definition may say that it lies in the export
            removed.append(one)
        else:
            lost.append(one.path)
    if lost:
        raise HypervError(f"The backup in {source.folder} has no file for the disk {lost[0]}.", error_code="disk_not_in_backup",
                          hint="Restore another backup; a machine without all its disks would start as another one.",
                          details={"disks": lost})
    wanted = {port: _switch_for(port, networks, switches) for port in ports}
    return Wiring(tuple(repointed), tuple(removed), tuple(port for port, switch in wanted.items() if switch is None),
                  tuple((port, switch) for port, switch in wanted.items() if switch is not None))


def _file_for(source: Source, folder: str, one: Storage) -> str | None:
    """The file of a disk: the one it names already, the one whose source it names, or the only one of that name."""
    files = [file.path for file in source.files if file.role in ("disk", "checkpoint")]
    for base in (folder, source.folder):
        if planned.lies_in(one.path, base):
            relative = ntpath.normpath(one.path)[len(base) + 1:].lower()
            return next((f"{folder}\\{path}" for path in files if path.lower() == relative), None)
    for disk in source.export.disks if source.export is not None else ():
        if disk.source.lower() == one.path.lower():
            return f"{folder}\\{disk.path}"
    named = [path for path in files if ntpath.basename(path).lower() == ntpath.basename(one.path).lower()]
    return f"{folder}\\{named[0]}" if len(named) == 1 else None


def _switch_for(port: Port, networks: Mapping[str, str], switches: Mapping[str, str]) -> str | None:
    wanted = networks.get((port.switch or "").casefold())
    return None if wanted is None else next((guid for guid, name in switches.items() if name.casefold() == wanted.casefold()), None)


def check_networks(networks: Mapping[str, str], switches: Mapping[str, str]) -> None:
    """Raise HypervError ``switch_not_found`` or ``switch_not_unique`` for a switch that is not one of the host's."""
    for name in networks.values():
        count = sum(1 for one in switches.values() if one.casefold() == name.casefold())
        if count != 1:
            known = ", ".join(repr(one) for one in sorted(switches.values())) or "none"
            raise HypervError(f"This host has {count or 'no'} virtual switch{'es' if count > 1 else ''} named {name!r}.",
                              error_code="switch_not_found" if not count else "switch_not_unique", hint=f"It has {known}.")
