# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of an export: pure functions from a host's facts to how each VM is exported, or why not (operations 3.1, 3.2, section 6)."""
from __future__ import annotations

import ntpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import Chain, ChainLink, Disk
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.hardware import Hardware, Slot
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    checkpoint_facts,
    checkpoint_plan,
    export_record,
    inventory,
    stored_copies,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_create import PRODUCTION_ONLY
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import CheckpointFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_plan import Planned, Wanted
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_repair import Repair
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.destinations import Destination
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import LONGEST_PATH, Request
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import consistency, naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import Verdict, reaches

PRODUCTION_CHECKPOINT, CHECKPOINT = "production_checkpoint", "checkpoint"
LIVE_CRASH, LIVE_SAVED, LIVE_DATA, OFFLINE = "live_crash", "live_saved", "live_data", "offline"
_FIRST: Mapping[str, str] = {"application": PRODUCTION_CHECKPOINT, "crash": LIVE_CRASH, "image": LIVE_SAVED}
_JUDGED: Mapping[str, str] = {PRODUCTION_CHECKPOINT: consistency.PRODUCTION, LIVE_CRASH: consistency.EXPORT_CRASH,
                              LIVE_SAVED: consistency.EXPORT_SAVED, OFFLINE: consistency.EXPORT_SAVED,
                              CHECKPOINT: consistency.EXPORT_CRASH, LIVE_DATA: consistency.EXPORT_APPLICATION}
EVIDENCE: Mapping[str, str] = {
    PRODUCTION_CHECKPOINT: "a production-only checkpoint was made and exported: the guest's writers were quiesced",
    CHECKPOINT: "an existing checkpoint was exported",
    LIVE_CRASH: "live export of the disks as they were at one instant, nothing was quiesced (CaptureLiveState 0)",
    LIVE_SAVED: "live export of disks and memory of one instant (CaptureLiveState 1)",
    LIVE_DATA: "live export that was to quiesce the guest (CaptureLiveState 2); that this cannot silently fail is not proven",
    OFFLINE: "the virtual machine was off or saved; its disks, and its saved state if any, were exported",
}
_RUN_FOLDER = 17 + 40
_DISKS = "Virtual Hard Disks"
_BUILD_2019 = 17763
_NO_REPAIR = Repair()


@dataclass(frozen=True)
class ExportRequest(Request):
    """What the task asks for, checked. ``checkpoint``: the name or ID of one that is there. ``live_data``: have a running guest quiesced by
    the export itself. ``exclude``: paths of disks to leave out. ``floor``: the part of each volume that must be free for a checkpoint."""

    checkpoint: str | None = None
    live_data: bool = False
    exclude: tuple[str, ...] = ()
    allow_same_volume: bool = False
    wait: bool = True
    wait_for_merge: bool = True
    merge_timeout: float = 14400.0
    floor: float = 0.2

    def accepts(self, level: str | None) -> bool:
        """True for a level that is what was asked for, or what may be taken instead."""
        return level is not None and (reaches(level, self.consistency) or (self.fallback is not None and reaches(level, self.fallback)))


@dataclass(frozen=True)
class SourceDisk:
    """A disk of the VM with its chain, leaf first; ``excluded``: it is left out."""

    disk: Disk
    slot: Slot
    links: tuple[ChainLink, ...]
    excluded: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(link.file_size or 0 for link in self.links)


@dataclass(frozen=True)
class Source:
    """What was read of one VM for its export. ``switches``: names of those it is connected to; ``lost``: adapters whose switch is gone;
    ``vtpm``, ``shielded``: from 2016 on. ``system_files``: bytes of configuration and state, None when the host did not say."""

    hardware: Hardware
    switches: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    vtpm: bool = False
    shielded: bool = False
    system_files: int | None = None
    memory_in_use: int = 0


@dataclass(frozen=True)
class Order:
    """One way to export one VM. ``size``: bytes that it may need. ``planned``: the checkpoint that is made for it; ``checkpoint``: the one
    that was there. ``instead``: what is done when the guest does not quiesce after all."""

    machine: Machine
    method: str
    verdict: Verdict
    level: str
    folder: str
    source: Source
    disks: tuple[SourceDisk, ...]
    size: int
    planned: Planned | None = None
    checkpoint: Checkpoint | None = None
    instead: Order | None = None

    @property
    def not_captured(self) -> tuple[str, ...]:
        """What the VM has and the export does not."""
        left_out = tuple(f"The disk {disk.disk.path} was left out, as the task asked." for disk in self.disks if disk.excluded)
        return (*(reason.sentence for reason in self.verdict.of_kind("not_captured")), *left_out)

    @property
    def unknowns(self) -> tuple[str, ...]:
        """What the host cannot see."""
        return tuple(reason.sentence for reason in self.verdict.of_kind("unknown"))

    def by(self, method: str) -> Order | None:
        """This way or what is done instead, whichever is of this method."""
        if self.method == method or self.instead is None:
            return self if self.method == method else None
        return self.instead.by(method)

    @property
    def captured(self) -> tuple[SourceDisk, ...]:
        """The disks that are exported."""
        return tuple(disk for disk in self.disks if not disk.excluded)

    def record(self, request: ExportRequest) -> export_record.ExportRecord:
        """What its intent says."""
        return export_record.ExportRecord(
            self.machine.vm_id, self.method, request.verify, request.consistency,
            self.checkpoint.checkpoint_id if self.checkpoint is not None else None,
            tuple(disk.disk.path or "" for disk in self.disks if disk.excluded))


@dataclass(frozen=True)
class Ground:
    """What every decision rests on."""

    facts: CheckpointFacts
    request: ExportRequest
    destination: Destination
    sources: Mapping[str, Source] = field(default_factory=dict)
    locations: Mapping[str, bool | None] = field(default_factory=dict)
    repair: Repair = _NO_REPAIR

    def folder_of(self, machine: Machine) -> str:
        """Where the exports of a machine lie."""
        host = stored_copies.host_folder(self.destination.path, self.facts.host.system.name)
        return f"{host}\\{naming.vm_folder(machine.name, machine.vm_id)}"


def decide(ground: Ground, machine: Machine, free: int | None, *, underway: bool = False) -> Order:
    """How a VM is exported; ``free``: bytes left at the destination; ``underway``: an export of ours may be what the host is busy with.

    Raises HypervError with what stands in the way.
    """
    if not underway:
        checkpoint_plan.refuse_busy(ground.facts, machine)
    checkpoint = chosen_checkpoint(ground.facts, machine, ground.request.checkpoint)
    ways = ways_of(machine, ground.request)
    problem: HypervError | None = None
    orders: list[Order] = []
    for method in ways:
        try:
            orders.append(_order(ground, machine, method, checkpoint, free, underway=underway))
        except HypervError as error:
            problem = problem or error
    if not orders:
        raise problem or HypervError(f"{_label(machine)} cannot be exported.", error_code="consistency_not_reachable")
    first, *rest = orders
    return replace(first, instead=rest[0] if rest else None)


def ways_of(machine: Machine, request: ExportRequest) -> list[str]:
    """Methods in the order in which they are tried."""
    if request.checkpoint is not None:
        return [CHECKPOINT]
    if machine.state in ("off", "saved"):
        return [OFFLINE]
    wanted = [request.consistency, *([request.fallback] if request.fallback else [])]
    ways = [_FIRST[level] for level in wanted]
    if request.live_data:
        ways = [LIVE_DATA if way == LIVE_CRASH else way for way in ways]
    return list(dict.fromkeys(ways))


def _label(machine: Machine) -> str:
    return f"{machine.name!r} ({machine.vm_id})"


def chosen_checkpoint(facts: CheckpointFacts, machine: Machine, wanted: str | None) -> Checkpoint | None:
    """The checkpoint that a task names by name or ID; None when it names none. Raises HypervError ``checkpoint_not_found``,
    ``checkpoint_not_unique`` or ``checkpoint_not_exportable``."""
    if wanted is None:
        return None
    found = [node.checkpoint for node in facts.tree_of(machine).nodes
             if node.checkpoint.checkpoint_id == wanted.strip("{}").upper() or node.checkpoint.name.casefold() == wanted.casefold()]
    if len(found) != 1:
        ids = [one.checkpoint_id for one in found]
        raise HypervError(f"{_label(machine)} has {len(found) or 'no'} checkpoint{'s' if len(found) != 1 else ''} {wanted!r}.",
                          error_code="checkpoint_not_unique" if found else "checkpoint_not_found",
                          hint="Name it by checkpoint_id; hyperv_checkpoint_info lists them.", details={"candidates": ids} if ids else None)
    if found[0].kind != "user":
        raise HypervError(f"The checkpoint {found[0].name!r} of {_label(machine)} is a product's or of replication ({found[0].kind}).",
                          error_code="checkpoint_not_exportable", hint="Export the virtual machine itself.")
    return found[0]


def _order(ground: Ground, machine: Machine, method: str, checkpoint: Checkpoint | None, free: int | None, *, underway: bool) -> Order:
    facts, request = ground.facts, ground.request
    verdict, level, planned = _judged(ground, machine, method, checkpoint, underway=underway)
    if not request.accepts(level):
        reasons = " ".join(reason.sentence for reason in verdict.of_kind("limit"))
        raise HypervError(f"An export of {_label(machine)} would be {level}, not {request.consistency}. {reasons}".strip(),
                          error_code="consistency_not_reachable",
                          hint="Accept less with consistency_fallback, or change what stands in the way.")
    source = ground.sources.get(machine.vm_id, Source(Hardware()))
    disks = _disks(facts, machine, source, request, checkpoint)
    _refuse_switches(machine, source)
    _refuse_place(ground, machine, disks)
    size = _estimate(machine, method, source, disks)
    if free is not None and size > free:
        raise HypervError(f"The destination {ground.destination.label} has {free} bytes left, the export of {_label(machine)} may need "
                          f"{size}.", error_code="destination_full", hint="Free space there, or choose another destination.")
    return Order(machine, method, verdict, level or "crash", ground.folder_of(machine), source, disks, size, planned, checkpoint)


def _judged(ground: Ground, machine: Machine, method: str, checkpoint: Checkpoint | None, *,
            underway: bool) -> tuple[Verdict, str | None, Planned | None]:
    facts, request = ground.facts, ground.request
    if method == PRODUCTION_CHECKPOINT and underway:
        told = replace(inventory.condition_of(facts.host, machine), checkpoint_policy="production_only")
        return (verdict := consistency.judge(consistency.PRODUCTION, told)), verdict.level, None
    if method == PRODUCTION_CHECKPOINT:
        wanted = Wanted(export_record.checkpoint_name(request.run_id), PRODUCTION_ONLY, request.run_id,
                        "Made for an export, which removes it.", None, request.floor)
        planned = checkpoint_plan.plan(facts, machine, wanted, ground.repair, ground.locations)
        return planned.verdict, planned.verdict.level, planned
    verdict = consistency.judge(_JUDGED[method], inventory.condition_of(facts.host, machine))
    for reason in verdict.of_kind("blocker"):
        raise HypervError(f"{_label(machine)} cannot be exported. {reason.sentence}", error_code=reason.code, hint=_HINTS.get(reason.code))
    level = verdict.level
    if method == LIVE_DATA:  # operations D-9: not more is claimed until it is proven
        level = "crash"
    elif method == CHECKPOINT and checkpoint is not None:
        level = checkpoint_facts.consistency_of(checkpoint) or "crash"
    return verdict, level, None


_HINTS: Mapping[str, str] = {
    "replica_vm": "Protect the primary VM on its own host.",
    "shared_disk": "Back the guest cluster up from inside, or with a method for VM groups.",
    "guest_cannot_quiesce": "Look at the backup integration service of the machine, or accept less with consistency_fallback.",
}


def _disks(facts: CheckpointFacts, machine: Machine, source: Source, request: ExportRequest,
           checkpoint: Checkpoint | None) -> tuple[SourceDisk, ...]:
    found: list[SourceDisk] = []
    wanted = {path.lower() for path in request.exclude}
    for disk in source.hardware.disks:
        if disk.kind != "virtual" or not disk.path:
            continue
        chain = facts.host.chains.get(disk.path, Chain((), "it was not read"))
        excluded = any(link.path.lower() in wanted for link in chain.links) or disk.path.lower() in wanted
        if (chain.problem is not None or not chain.links) and not excluded:
            raise HypervError(f"The chain of {disk.path} is not complete: {chain.problem}.", error_code="chain_incomplete",
                              hint="An export would fail half-way; repair the chain first, or detach the disk.")
        found.append(SourceDisk(disk, source.hardware.slot_of(disk), chain.links, excluded))
    _check_excluded(facts, machine, request, found)
    names: dict[str, str] = {}
    for item in found:
        for link in item.links if not item.excluded else ():
            other = names.setdefault(ntpath.basename(link.path).lower(), link.path)
            if other.lower() != link.path.lower():
                raise HypervError(f"Two disk files of {_label(machine)} have one name: {other} and {link.path}. One folder gets them all.",
                                  error_code="disk_names_collide", hint="Rename one of them, leave one out, or copy with hyperv_vss_copy.")
    return tuple(found)


def _check_excluded(facts: CheckpointFacts, machine: Machine, request: ExportRequest, found: Sequence[SourceDisk]) -> None:
    if not request.exclude:
        return
    if facts.host.system.build < _BUILD_2019:
        raise HypervError("Disks can be left out of an export from Windows Server 2019 on.", error_code="exclusion_not_supported",
                          hint="Remove exclude_disks, or detach the disk.")
    known = {link.path.lower() for item in found for link in item.links} | {(item.disk.path or "").lower() for item in found}
    for path in request.exclude:
        if path.lower() not in known:
            raise HypervError(f"{_label(machine)} has no disk {path!r} that could be left out.", error_code="unknown_disk",
                              hint="hyperv_vm_info shows its disks; any file of a disk's chain names it.")


def _refuse_switches(machine: Machine, source: Source) -> None:
    if source.lost:
        raise HypervError(f"A network adapter of {_label(machine)} is connected to a switch that is not there "
                          f"({source.lost[0] or 'unnamed'}): its export would fail.",
                          error_code="switch_missing", hint="Connect the adapter to another switch, or to none.")


def _refuse_place(ground: Ground, machine: Machine, disks: Sequence[SourceDisk]) -> None:
    """Another volume than the disks', outside of the VM's own folder, and not too deep."""
    destination, folder = ground.destination, ground.folder_of(machine)
    files = [link.path for disk in disks for link in disk.links]
    root = (machine.settings.configuration_root if machine.settings else None) or ""
    if root and f"{destination.path}\\".lower().startswith(f"{root.rstrip(chr(92))}\\".lower()):
        raise HypervError(f"The destination {destination.path} lies in the folder of {_label(machine)}.",
                          error_code="destination_in_vm_folder", hint="Choose another folder, on another volume.")
    for path in files:
        volume = ground.facts.host.place(path).volume
        if volume is not None and destination.volume is not None and not ground.request.allow_same_volume \
                and volume.device_id.lower() == destination.volume.device_id.lower():
            raise HypervError(f"The destination lies on {volume.root}, the volume that holds a disk of {_label(machine)}.",
                              error_code="destination_on_source_volume",
                              hint="Choose another volume: an export beside its source is no backup. allow_same_volume lifts this.")
        if len(folder) + 1 + _RUN_FOLDER + 1 + len(_DISKS) + 1 + len(ntpath.basename(path)) > LONGEST_PATH:
            raise HypervError(f"The path of the export of {path} becomes longer than {LONGEST_PATH} characters.",
                              error_code="paths_too_long", hint="Shorten the destination.")


def _estimate(machine: Machine, method: str, source: Source, disks: Sequence[SourceDisk]) -> int:
    """Files of all chains, system files, and the memory that a saved state will hold (operations 3.2)."""
    memory = max(source.memory_in_use, source.hardware.memory) if method == LIVE_SAVED else 0
    return sum(disk.size for disk in disks if not disk.excluded) + (source.system_files or 0) + memory
