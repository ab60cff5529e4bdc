# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup that a restore reads: chosen among those under a destination (:mod:`.stored_copies`), or in a folder that the task names.

Nothing of the original host is needed, only what lies at the destination. What lies there is untrusted: a manifest is parsed value by
value, its files are compared with what the folder holds, and only what it lists is copied.
"""
from __future__ import annotations

import hashlib
import ntpath
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.stored_copies import Found
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import manifest as manifests
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming, restore_choice
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import FoundCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import EXPORT, Export, Manifest, ManifestError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, target_jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import Stored
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import reading_programs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder

_DEFINITIONS = (".vmcx", ".xml")
_ROLES: Mapping[str, str] = {".vmcx": "configuration", ".xml": "configuration", ".exp": "configuration", ".vmrs": "state", ".bin": "state",
                             ".vsv": "state", ".vmgs": "guest_state", ".vhd": "disk", ".vhdx": "disk", ".avhd": "disk", ".avhdx": "disk",
                             ".vhds": "disk"}


@dataclass(frozen=True)
class File:
    """One file of a backup: ``path`` below its folder, bytes, what the manifest says of its hash, and its role there."""

    path: str
    size: int
    sha256: str | None
    role: str


@dataclass(frozen=True)
class Source:
    """A backup that can be imported. ``proved``: by a manifest of ours. ``export`` is what that says of the machine."""

    folder: str
    vm_id: str
    vm_name: str
    backup_id: str
    host: str | None
    taken: datetime | None
    achieved: str | None
    files: tuple[File, ...]
    export: Export | None

    @property
    def proved(self) -> bool:
        """True with a manifest."""
        return self.export is not None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def hashed(self) -> bool:
        """True when the manifest tells the hash of every file."""
        return all(file.sha256 is not None for file in self.files)

    @property
    def definition(self) -> str:
        """The path of the definition file of the machine itself. Raises HypervError ``no_configuration``."""
        found = [file.path for file in self.files if file.role == "configuration" and file.path.lower().endswith(_DEFINITIONS)]
        if len(found) != 1:
            raise HypervError(f"The backup in {self.folder} has {len(found)} definition files, not one.", error_code="no_configuration",
                              hint=restore_choice.BY_HAND)
        return found[0]

    @property
    def root(self) -> str:
        """The folder, below that of the backup, that holds *Virtual Machines*; empty for the backup's own."""
        return ntpath.dirname(ntpath.dirname(self.definition))

    @property
    def checkpoints(self) -> str | None:
        """The folder with the definitions of checkpoints; None when there are none."""
        found = {ntpath.dirname(file.path) for file in self.files if file.role == "checkpoint" and file.path.lower().endswith(_DEFINITIONS)}
        return min(found, key=len, default=None)

    def as_result(self) -> dict[str, object]:
        """The ``backup`` of a result."""
        return {"folder": self.folder, "backup_id": self.backup_id, "vm_id": self.vm_id, "vm_name": self.vm_name, "host": self.host,
                "taken": None if self.taken is None else f"{self.taken:%Y-%m-%dT%H:%M:%SZ}", "consistency": self.achieved,
                "size": self.size, "files": len(self.files), "proved": self.proved}


def of_manifest(folder: str, manifest: Manifest) -> Source:
    """The source that a manifest describes; a guide for people stays where it is."""
    return Source(folder, manifest.vm_id, manifest.vm_name, manifest.run_id, manifest.host, manifest.taken, manifest.achieved,
                  tuple(File(file.path, file.size, file.sha256, file.role or "disk") for file in manifest.files if file.role != "guide"),
                  manifest.export)


# -- out of what was listed ----------------------------------------------------------------------------------------------


def choose(found: Found, wanted: restore_choice.Wanted) -> Source:
    """The backup that is meant. Raises as :func:`restore_choice.choose`; names damaged manifests when nothing else is there."""
    try:
        copy = restore_choice.choose(found.copies, wanted)
    except HypervError as error:
        if error.error_code == "backup_not_found" and found.damaged:
            error.hint = f"{error.hint} These manifests are damaged: {', '.join(found.damaged[:3])}."
            error.details["damaged"] = list(found.damaged)
        raise
    return of_manifest(copy.folder, copy.manifest)


def damaged_newer(found: Found, source: Source) -> tuple[str, ...]:
    """Folders beside the chosen backup, and newer than it by their names, whose manifests are damaged."""
    beside, name = ntpath.dirname(source.folder).casefold(), ntpath.basename(source.folder)
    return tuple(path for path in found.damaged if ntpath.dirname(path).casefold() == beside and ntpath.basename(path) > name)


@dataclass(frozen=True)
class Content:
    """What one folder holds: the text of its manifest, None without one, and sizes by relative path."""

    manifest: str | None
    sizes: Mapping[str, int]


def content(stored: Stored) -> Content:
    """The content of the folder that was listed itself, not those below it."""
    return Content(stored.manifests.get(()), stored.files.get((), {}))


def of_folder(folder: str, found: Content) -> Source | None:
    """The source in a folder by its manifest; None when there is none.

    Raises HypervError ``manifest_damaged``, ``no_configuration`` or ``backup_incomplete``.
    """
    if found.manifest is None:
        return None
    try:
        manifest = manifests.parse(found.manifest)
    except ManifestError as error:
        raise HypervError(f"The manifest in {folder} is damaged: {error}.", error_code="manifest_damaged",
                          hint="Restore another backup; do not trust this one.",
                          details={"damaged": [f"{folder}\\manifest.json"]}) from error
    if manifest.kind != EXPORT:
        raise HypervError(f"{folder} holds a copy of disks: it has no configuration that a host could import.",
                          error_code="no_configuration", hint=restore_choice.BY_HAND)
    sizes = {name.lower(): size for name, size in found.sizes.items()}
    missing = tuple(file.path for file in manifest.files if sizes.get(file.path.lower()) != file.size)
    restore_choice.check_whole(FoundCopy(folder, manifest, missing))
    return of_manifest(folder, manifest)


def unproved(folder: str, found: Content, vm_id: str, vm_name: str) -> Source:
    """An export that nobody of ours made: every file that can belong to a virtual machine, and nothing that tells whether it is whole."""
    kept = []
    for path, size in sorted(found.sizes.items()):
        role = _ROLES.get(ntpath.splitext(path)[1].lower())
        if role is not None and naming.is_safe_relative(path) and size >= 0:
            in_tree = "snapshots" in (part.lower() for part in path.split("\\")[:-1])
            kept.append(File(path, size, None, "checkpoint" if in_tree and role != "disk" else role))
    digest = hashlib.sha256(folder.lower().encode("utf-8", "replace")).hexdigest()[:12]
    return Source(folder, vm_id, vm_name, f"folder-{digest}", None, None, None, tuple(kept), None)


def definition_in(found: Content) -> str:
    """The one definition file in a folder without a manifest. Raises HypervError ``no_configuration``."""
    places = [path for path in found.sizes if path.lower().endswith(_DEFINITIONS) and naming.is_safe_relative(path)
              and ntpath.basename(ntpath.dirname(path)).lower() == "virtual machines"]
    if len(places) != 1:
        raise HypervError(f"There are {len(places)} definition files of virtual machines in that folder, not one.",
                          error_code="no_configuration", hint="Name the folder of one export: the one with 'Virtual Machines' in it.")
    return places[0]


# -- reading -------------------------------------------------------------------------------------------------------------


def read_local(reader: CimReader, folder: str) -> Content:
    """What lies in a folder of the host, one program."""
    with reading_programs(reader, {"BASE": folder}) as programs:
        shown = programs.run(files.find_copies_command(files.HOST_LEVELS), timeout=files.SHORT)
    return content(files.copies_from_output(shown.stdout, folder, 0))


def read_share(writer: CimWriter, folder: StateFolder, path: str, run_id: str, identity: Identity, knocks_as: str, *,
               clock: Clock) -> Content:
    """The same at a share, one task. The state folder is there and trusted. Raises HypervError ``destination_unreachable``."""
    if identity.task is None:
        raise HypervError(f"{path} is at a share, which run_as: session cannot reach.", error_code="destination_needs_task",
                          hint="A session has no credentials for a second machine. Use run_as: system or run_as: account.")
    result, outputs = destinations.look_at_share(writer, folder, run_id, identity, target_jobs.list_job(path, path), clock=clock)
    return content(target_jobs.listing(result, outputs, path, path, knocks_as, 0).stored)
