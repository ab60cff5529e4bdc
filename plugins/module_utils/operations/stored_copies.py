# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a destination holds: finished copies and exports, begun removals, incomplete ones, damaged manifests, and what is not ours.

The one place that looks. Modules that make something look below their host's own folder; those that restore or report may look at the
whole destination, since the host that made a copy need not exist any more.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.destinations import Destination
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import FoundCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import FILE_NAME, Manifest, ManifestError, parse
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, state
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import PRUNING, Key, Stored
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.target_jobs import Listing

_COPY = re.compile(r"\d{8}T\d{6}Z_(?P<run>[A-Za-z0-9][A-Za-z0-9-]{0,39})\Z", re.ASCII)
_MACHINE = re.compile(r"[A-Za-z0-9._-]{1,63}_[0-9A-F]{8}\Z", re.ASCII)


@dataclass(frozen=True)
class Found:
    """What a destination holds. All but ``copies`` and ``begun`` are full paths of folders.

    ``copies``: a manifest of ours describes them and lies where its VM, time and run belong; what is missing of them stands in
    each. ``begun``: their removal was begun. ``damaged``: the manifest cannot be read, or lies in another place than it says.
    ``incomplete``: named like one of ours, without a manifest: being made, or interrupted. ``foreign``: anything else.
    """

    copies: tuple[FoundCopy, ...] = ()
    begun: tuple[FoundCopy, ...] = ()
    damaged: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    def of_kind(self, kind: str) -> Found:
        """The same with copies of one kind only (``protection.manifest``)."""
        return replace(self, copies=tuple(copy for copy in self.copies if copy.manifest.kind == kind),
                       begun=tuple(copy for copy in self.begun if copy.manifest.kind == kind))


@dataclass(frozen=True)
class Reading:
    """A destination as it was read, with what it told of its space. ``ensured``: the state folder was made and checked for it."""

    found: Found
    destination: Destination
    ensured: bool


def read(call: Call, destination: Destination, folder: StateFolder, identity: Identity, *, run_id: str, host: str,
         everything: bool = False) -> Reading | None:
    """What a destination holds below the folder of ``host`` (a computer name), or of all hosts with ``everything``.

    One program for a local one. A share is read by one task, for which the state folder is ensured; so in check mode the answer is None,
    nobody knows. Raises HypervError ``destination_unreachable`` and what the task runner raises; never an empty answer for a share
    that did not answer.
    """
    base = destination.path if everything else host_folder(destination.path, host)
    levels = files.ALL_LEVELS if everything else files.HOST_LEVELS
    if not destination.is_share:
        return Reading(found_copies(files.read_copies(call.reader, base, levels), base), destination, False)

    def look(writer: CimWriter) -> Listing:
        state.ensure(writer, folder)
        return destinations.read_share(writer, folder, destination, base, run_id, identity, identity.at_share(host), clock=call.clock,
                                       levels=levels)

    listing = call.through_host(look)
    if listing is None:
        return None
    return Reading(found_copies(listing.stored, base), replace(destination, free=listing.free), True)


def host_folder(destination: str, host: str) -> str:
    """``<destination>\\<host>``."""
    return f"{destination}\\{naming.safe_component(host)}"


def found_copies(stored: Stored, base: str) -> Found:
    """Sort what lies below a base. A manifest counts only in the folder that its host, VM, time and run would have been given."""
    copies, damaged = _valid(stored.manifests, stored, base)
    begun, _unusable = _valid({key: text for key, text in stored.pruning.items() if key not in stored.manifests}, stored, base)
    others = sorted({*stored.folders, *stored.files} - set(stored.manifests) - set(stored.pruning))
    ours = [key for key in others if _COPY.match(key[-1]) and _MACHINE.match(key[-2])]
    return Found(copies, begun, damaged, tuple(_path(base, key) for key in ours),
                 tuple(_path(base, key) for key in others if key not in ours))


def run_of(folder: str) -> str | None:
    """The run that a copy's folder is named after; None for a name that is none of ours."""
    match = _COPY.match(folder.rpartition("\\")[2])
    return match.group("run") if match else None


def _path(base: str, key: Key) -> str:
    return "\\".join((base, *key))


def _valid(texts: Mapping[Key, str], stored: Stored, base: str) -> tuple[tuple[FoundCopy, ...], tuple[str, ...]]:
    copies, damaged = [], []
    for key, text in texts.items():
        path = _path(base, key)
        try:
            manifest = parse(text)
        except ManifestError:
            damaged.append(path)
            continue
        if _belongs(manifest, key):
            copies.append(_compared(path, manifest, stored.files.get(key, {})))
        else:
            damaged.append(path)
    return tuple(copies), tuple(sorted(damaged))


def _belongs(manifest: Manifest, key: Key) -> bool:
    return (key[-2][-8:].upper() == manifest.vm_id[:8] and key[-1] == naming.copy_folder(manifest.taken, manifest.run_id)
            and (len(key) < files.ALL_LEVELS or key[0].casefold() == naming.safe_component(manifest.host).casefold()))


def _compared(path: str, manifest: Manifest, there: Mapping[str, int]) -> FoundCopy:
    """A copy with what its folder really holds."""
    sizes = {name.lower(): size for name, size in there.items()}
    ours = {file.path.lower() for file in manifest.files} | {FILE_NAME, PRUNING}
    return FoundCopy(path, manifest, tuple(file.path for file in manifest.files if sizes.get(file.path.lower()) != file.size),
                     tuple(sorted(name for name in there if name.lower() not in ours)))


def warn_about(found: Found, warn: Callable[[str], None], what: str = "copy") -> None:
    """Tell of what does not count although it lies there."""
    for path in found.damaged:
        warn(f"The manifest in {path} is damaged or does not belong there; that copy does not count.")
    for copy in (copy for copy in found.copies if copy.missing):
        warn(f"The {what} in {copy.folder} does not count: {copy.missing[0]!r} is missing or has another size than its manifest says.")
