# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an export is whole (operations 3.4): its files, its definition, every disk with its chain, and on request every byte's hash.

The host looks: at a share, too, where it comes as its computer account, as it did to export.
"""
from __future__ import annotations

import ntpath
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks, exports, import_service, jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import ChainLink
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.hardware import Slot
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.export_plan import CHECKPOINT, Order, SourceDisk
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import ExportedDisk, ManifestFile, Place
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.naming import is_safe_relative
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.export_jobs import Seen

SIZE, SHA256 = "size", "sha256"
_CONFIGURATIONS, _DISKS, _CHECKPOINTS = "virtual machines", "virtual hard disks", "snapshots"
_DEFINITIONS = (".vmcx", ".xml")
_HINT = "Run the task again; look for antivirus, a full destination and failing storage."


@dataclass(frozen=True)
class Proof:
    """What was found: files with their roles, virtual disks with where they belong, the GUID in the definition if it was read, and
    what could not be compared."""

    files: tuple[ManifestFile, ...]
    disks: tuple[ExportedDisk, ...]
    definition_id: str | None = None
    unknowns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Looking:
    """What a look needs. ``ended_well``: the host said that the export was done; else only sizes can prove that nothing is missing."""

    reader: CimReader
    clock: Clock
    deadline: Deadline
    progress: Callable[[str], None]
    ended_well: bool = True


def roles(seen: Sequence[Seen], order: Order, path: str) -> tuple[ManifestFile, ...]:
    """The files with what each is. Raises HypervError ``verify_failed`` for one that no export has, or when there is not one definition."""
    if not all(is_safe_relative(one.path) for one in seen):
        raise _failed(order, path, "a file in it has a name that no export has")
    files = tuple(ManifestFile(one.path, "", one.size, sha256=one.sha256, role=_role(one.path, path)) for one in seen)
    definitions = [file for file in files if file.role == "configuration"]
    if len(definitions) != 1:
        raise _failed(order, path, f"it has {len(definitions) or 'no'} definition file{'s' if len(definitions) != 1 else ''}, not one")
    return files


def _role(name: str, folder: str) -> str:
    top, _separator, rest = name.lower().partition("\\")
    ending = ntpath.splitext(name)[1].lower()
    if top == _CONFIGURATIONS and rest:
        if ending in _DEFINITIONS and "\\" not in rest:
            return "configuration"
        return "guest_state" if ending == ".vmgs" else "state"
    if top == _DISKS and rest:
        return "disk"
    if top == _CHECKPOINTS and rest:
        return "checkpoint"
    raise HypervError(f"{folder} holds {name!r}, which is of no export.", error_code="verify_failed",
                      hint="Somebody else writes into the folder: find out who, and run the task again.")


def prove(look: Looking, order: Order, path: str, seen: Sequence[Seen], level: str) -> Proof:
    """Look at everything that an export must have. Raises HypervError ``verify_failed``, ``definition_unreadable``, ``disk_unreadable``,
    ``disk_invalid``, or ``export_unproven`` for one whose end nobody saw and whose disks have no size to compare with."""
    files = roles(seen, order, path)
    images = {file.path: disks.read_setting(look.reader, f"{path}\\{file.path}") for file in files if file.role == "disk"}
    found, unknowns = _matched(order, path, images)
    if not look.ended_well:
        _sizes_prove(order, path, files, found)
    definition_id = None
    if level != SIZE:
        definition_id = _definition(look.reader, order, path, files)
        for disk in found:
            if disk.parent is None or disk.place.controller is not None:
                _validate(look, f"{path}\\{disk.path}")
    return Proof(files, found, definition_id, unknowns)


def _failed(order: Order, path: str, what: str) -> HypervError:
    return HypervError(f"The export of {order.machine.name!r} in {path} is not whole: {what}.", error_code="verify_failed", hint=_HINT)


def _definition(reader: CimReader, order: Order, path: str, files: Sequence[ManifestFile]) -> str:
    """The GUID in the definition. Of a VM it is its own; which one an exported checkpoint gets is not documented (operations 3.4)."""
    name = next(file.path for file in files if file.role == "configuration")
    told = import_service.read_definition(reader, f"{path}\\{name}")
    if order.checkpoint is None and told.vm_id != order.machine.vm_id:
        raise _failed(order, path, f"{name} is not its definition")
    return told.vm_id


def _matched(order: Order, path: str, images: Mapping[str, ChainLink]) -> tuple[tuple[ExportedDisk, ...], tuple[str, ...]]:
    """The exported disks with their sources, and what could not be compared. Every disk of the VM has one, and each file belongs to one."""
    by_name = {ntpath.basename(name).lower(): name for name in images}
    leaves, unknowns = _leaves(order, path, images, by_name)
    found: dict[str, ExportedDisk] = {}
    for source, name in leaves:
        _same(order, path, source, name, images[name])
        slot, at = source.slot, name
        while True:
            image = images[at]
            parent = by_name.get(ntpath.basename(image.parent_path or "").lower()) if image.kind == "differencing" else None
            if image.kind == "differencing" and parent is None:
                raise _failed(order, path, f"{at} hangs on {image.parent_path}, which is not part of it")
            found[at] = ExportedDisk(at, (image.disk_id or "").strip("{}").upper() or None, _source_of(source, at), _place(slot),
                                     image.virtual_size or 0, image.format, image.kind, parent)
            if parent is None or parent in found:
                break
            slot, at = Slot(), parent
    strange = sorted(set(images) - set(found))
    if strange:
        raise _failed(order, path, f"{strange[0]} is no disk of the virtual machine")
    return tuple(found.values()), unknowns


def _leaves(order: Order, path: str, images: Mapping[str, ChainLink],
            by_name: Mapping[str, str]) -> tuple[list[tuple[SourceDisk, str]], tuple[str, ...]]:
    """Which exported file each disk is: by the name of one of its chain's files, by its identity, and only when a merged disk has neither
    (which is not documented), by its virtual size and the order."""
    found: dict[int, str] = {}
    for number, source in enumerate(order.captured):
        name = _match(source, images, by_name, tuple(found.values()))
        if name is not None:
            found[number] = name
    missing = [number for number in range(len(order.captured)) if number not in found]
    parents = {ntpath.basename(image.parent_path).lower() for image in images.values() if image.parent_path}
    left = [name for name in sorted(images) if name not in found.values() and ntpath.basename(name).lower() not in parents]
    unknowns: list[str] = []
    for number in missing:
        source = order.captured[number]
        wanted = source.links[0].virtual_size if source.links else None
        same = [name for name in left if wanted is None or images[name].virtual_size == wanted]
        if order.checkpoint is None or len(left) != len(missing) - len(unknowns) or not same:
            raise _failed(order, path, f"the disk {source.disk.path} is missing")
        found[number] = same[0]
        left.remove(same[0])
        unknowns.append(f"{same[0]} has neither the name nor the identity of {source.disk.path}; only its virtual size says that it is "
                        f"it{', as it says of others' if len(same) > 1 else ''}.")
    return [(order.captured[number], found[number]) for number in sorted(found)], tuple(unknowns)


def _match(source: SourceDisk, images: Mapping[str, ChainLink], by_name: Mapping[str, str], taken: Collection[str]) -> str | None:
    """The exported file of a disk: by the name of one of the chain's files, the newest first, else by its identity."""
    for link in source.links:
        name = by_name.get(ntpath.basename(link.path).lower())
        if name is not None and name not in taken:
            return name
    leaf = (source.links[0].disk_id or "").upper() if source.links else ""
    return next((name for name, image in images.items() if leaf and (image.disk_id or "").upper() == leaf and name not in taken), None)


def _same(order: Order, path: str, source: SourceDisk, name: str, image: ChainLink) -> None:
    """The guest sees a disk of the size it has. An older checkpoint may be of a time before the disk was resized."""
    wanted = source.links[0].virtual_size if source.links else None
    if order.method != CHECKPOINT and wanted is not None and image.virtual_size != wanted:
        raise _failed(order, path, f"{name} has a virtual size of {image.virtual_size}, its source {wanted}")


def _source_of(source: SourceDisk, name: str) -> str:
    """The file that it comes from: of the same name, else the VM's current one."""
    same = [link.path for link in source.links if ntpath.basename(link.path).lower() == ntpath.basename(name).lower()]
    return same[0] if same else source.disk.path or ""


def _place(slot: Slot) -> Place:
    return Place(slot.controller, slot.number, slot.location)


def _sizes_prove(order: Order, path: str, files: Sequence[ManifestFile], found: Sequence[ExportedDisk]) -> None:
    """A file that was copied as it is cannot be smaller than its source was. A chain that was merged into a new file proves nothing."""
    sizes = {file.path: file.size for file in files}
    sources = {link.path.lower(): link.file_size for disk in order.captured for link in disk.links}
    for disk in found:
        wanted = sources.get(disk.source.lower())
        if order.checkpoint is not None or wanted is None:
            raise HypervError(f"Nobody saw how the export of {order.machine.name!r} ended, and a merged disk has no size to compare with.",
                              error_code="export_unproven", hint="Run the task again: what is there is removed, and a new one made.")
        if sizes[disk.path] < wanted:
            raise _failed(order, path, f"{disk.path} has {sizes[disk.path]} bytes, its source {wanted}")


def _validate(look: Looking, path: str) -> None:
    look.progress(f"validating {path}")
    try:
        job = exports.start_validation(look.reader, path)
        if job is not None:
            jobs.wait(look.reader, job, what=f"validating {path}", clock=look.clock, deadline=look.deadline, progress=look.progress,
                      poll=1.0)
    except jobs.JobFailed as error:
        raise HypervError(f"The exported disk {path} is not whole: {error.message}", error_code="disk_invalid",
                          return_value=error.return_value, hresult=error.hresult, hint=_HINT) from error


def with_guide(files: Sequence[ManifestFile], guide: bytes, name: str, sha256: str | None) -> tuple[ManifestFile, ...]:
    """The files of a manifest with our own text for people."""
    return (*(replace(file) for file in files), ManifestFile(name, "", len(guide), sha256=sha256, role="guide"))
