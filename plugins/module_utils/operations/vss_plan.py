# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a VSS copy: pure functions from a host's facts to what is copied, what is present already and what is refused.

One shadow copy of a volume serves every VM of the task whose files lie there. A VM whose chain lies on several volumes is
refused: its files would be from different instants (operations 5.4).
"""
from __future__ import annotations

import ntpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta, tzinfo
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import retention_options, stored_copies
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_record import CopyRecord, SourceFile
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.destinations import Destination
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts, condition_of
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import SYSTEM_IDENTITY, Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import consistency, naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import Verdict, reaches
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import FoundCopy, present_copy
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import Manifest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.retention import Keep
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import check_value
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.shadow_copies import ShadowCopy, Storage
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume

LONGEST_PATH = 259
"""What cmd and its link commands can name; robocopy itself could go further (operations 5.5)."""
_SHADOW_ID_LENGTH = 38
_RUN_FOLDER_LENGTH = 17 + 40
_DISKS = "disks"
_BUILD_2012 = 9200
_HOW: Mapping[str, str] = {"vss": " from a shadow copy", "writers": " from a shadow copy", "live": ""}
_HINTS: Mapping[str, str] = {
    "several_volumes": "Use writers: hyperv, an export or a checkpoint: they cover several volumes at one instant.",
    "smb_storage": "Use an export, or run the copy on the file server.",
    "csv_not_owned": "Run the task on the node that coordinates the volume.",
    "little_free_space": "Free space on the volume; nothing is deleted here.",
    "replica_vm": "Protect the primary VM on its own host.",
    "nothing_to_copy": "Back its disks up where they live: the storage, or inside the guest.",
    "shared_disk": "Back the guest cluster up from inside, or with a method for VM groups.",
    "file_system": "Use an export for VMs on this volume.",
}


@dataclass(frozen=True)
class Request:
    """What the task asks for, checked."""

    destination: str
    run_id: str
    own_run_id: bool
    max_age: timedelta | None
    consistency: str
    fallback: str | None
    keep: Keep = field(default_factory=Keep)
    timezone: tzinfo = UTC
    verify: str = "size"
    method: str = "vss"
    """``vss``, ``writers`` or ``live``, as in a manifest."""
    csv_any_node: bool = False
    identity: Identity = SYSTEM_IDENTITY

    @property
    def reads_copies(self) -> bool:
        """True when copies that are there already can matter."""
        return self.max_age is not None or self.own_run_id or not self.keep.empty

    @property
    def lowest(self) -> str:
        """The level that is still accepted; for a live copy the task had to accept the lowest."""
        return "inconsistent" if self.method == "live" else self.fallback or self.consistency

    @property
    def judged(self) -> str:
        """The method by its name in the decision table."""
        return {"vss": consistency.VSS_COPY, "writers": consistency.VSS_WRITER, "live": consistency.LIVE_COPY}[self.method]


@dataclass(frozen=True)
class Job:
    """A VM that will be copied; ``volumes`` are those of its files, each once."""

    machine: Machine
    volumes: tuple[Volume, ...]
    verdict: Verdict
    folder: str
    files: tuple[SourceFile, ...]

    @property
    def volume(self) -> Volume:
        """The volume of its first file; of all, when one shadow copy serves it."""
        return self.volumes[0]

    @property
    def size(self) -> int:
        """Bytes to copy."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Adoption:
    """A VM whose copy an earlier run began. ``fallback``: what is done when nothing of use came of it, or why that cannot be."""

    machine: Machine
    record: CopyRecord
    fallback: Job | Refused


@dataclass(frozen=True)
class Present:
    """A VM that has a copy already."""

    machine: Machine
    copy: FoundCopy


@dataclass(frozen=True)
class Refused:
    """A VM that cannot be copied, with the error. ``machine`` None: the name matched nothing or too much."""

    wanted: str
    machine: Machine | None
    error: HypervError
    verdict: Verdict | None = None


@dataclass(frozen=True)
class CopyPlan:
    """What happens to each VM of the task."""

    jobs: tuple[Job, ...]
    present: tuple[Present, ...]
    refused: tuple[Refused, ...]
    adoptions: tuple[Adoption, ...] = ()

    def volumes(self) -> tuple[Volume, ...]:
        """The volumes of the jobs, in their order."""
        return tuple({job.volume.device_id: job.volume for job in self.jobs}.values())

    def jobs_on(self, volume: Volume) -> tuple[Job, ...]:
        """The VMs that one shadow copy serves."""
        return tuple(job for job in self.jobs if job.volume.device_id == volume.device_id)


def check_request(params: Mapping[str, Any], destination: str, identity: Identity, run_id: str, max_age: timedelta | None) -> Request:
    """The task's wishes as a request.

    Raises HypervError ``invalid_run_id`` for one that cannot be part of a folder's name, ``invalid_keep``, ``inconsistent_not_accepted``,
    ``verify_not_possible`` and ``writers_need_shadow_copy`` for wishes that exclude each other.
    """
    given = params.get("run_id")
    if given and not naming.is_run_id(str(given)):
        raise HypervError(f"run_id {str(given)!r} is not usable in a folder's name.", error_code="invalid_run_id",
                          hint="Use letters, digits and hyphens, at most 40.")
    fallback = str(params["consistency_fallback"])
    keep, timezone = retention_options.read(params["keep"], params["timezone"])
    return Request(destination, str(given) if given else run_id, bool(given), max_age, str(params["consistency"]),
                   None if fallback == "fail" else fallback, keep, timezone, str(params["verify"]), _method(params),
                   bool(params["csv_any_node"]), identity)


def _method(params: Mapping[str, Any]) -> str:
    writers = params["writers"] == "hyperv"
    if params["method"] != "live":
        return "writers" if writers else "vss"
    if not params["accept_inconsistent"]:
        raise HypervError("A live copy is inconsistent: its parts are from different instants, and nobody supports it.",
                          error_code="inconsistent_not_accepted",
                          hint="Use method: vss. If there is no other way, say accept_inconsistent: true.")
    if writers:
        raise HypervError("A live copy has no writers: they take part in shadow copies only.", error_code="writers_need_shadow_copy",
                          hint="Leave out method: live, or writers: hyperv.")
    if params["verify"] == "sha256":
        raise HypervError("The hash of a file that is being written cannot be compared with that of its copy.",
                          error_code="verify_not_possible", hint="Use verify: size with method: live.")
    return "live"


def present_of(facts: HostFacts, machine: Machine, request: Request, copies: Sequence[FoundCopy]) -> FoundCopy | None:
    """The copy that makes a new one of this VM unnecessary."""
    return present_copy(copies, vm_id=machine.vm_id, host=facts.system.name, now=facts.system.local_time, wanted=request.lowest,
                        max_age=request.max_age, run_id=request.run_id if request.own_run_id else None)


Adopt = Callable[[Machine, str], "CopyRecord | None"]
"""What an earlier run has begun for a machine whose copies lie in this folder. Raises HypervError ``copy_underway``."""


def make_plan(facts: HostFacts, chosen: Sequence[Machine], refused: Sequence[Refused], request: Request, target: Destination,
              copies: Sequence[FoundCopy], state: StateFolder, adopt: Adopt = lambda _machine, _folder: None) -> CopyPlan:
    """Decide for each VM. Free space at the destination is given out in the order of the VMs."""
    jobs: list[Job] = []
    present: list[Present] = []
    adoptions: list[Adoption] = []
    refusals = list(refused)
    free = target.free
    for machine in chosen:
        copy = present_of(facts, machine, request, copies)
        if copy is not None:
            present.append(Present(machine, copy))
            continue
        try:
            record = adopt(machine, copies_folder(facts, machine, request))
        except HypervError as error:
            refusals.append(Refused(machine.name, machine, error))
            continue
        decided = _decide(facts, machine, request, target, state, free)
        if record is not None:
            adoptions.append(Adoption(machine, record, decided))
        elif isinstance(decided, Refused):
            refusals.append(decided)
        else:
            free = None if free is None else free - decided.size
            jobs.append(decided)
    return CopyPlan(tuple(jobs), tuple(present), tuple(refusals), tuple(adoptions))


def copies_folder(facts: HostFacts, machine: Machine, request: Request) -> str:
    """Where the copies of a machine lie."""
    return f"{stored_copies.host_folder(request.destination, facts.system.name)}\\{naming.vm_folder(machine.name, machine.vm_id)}"


def _decide(facts: HostFacts, machine: Machine, request: Request, target: Destination, state: StateFolder,
            free: int | None) -> Job | Refused:
    condition = condition_of(facts, machine)
    if request.csv_any_node and condition.csv_disks and condition.build >= _BUILD_2012:
        condition = replace(condition, csv_owned=True)
    verdict = consistency.judge(request.judged, condition)
    try:
        job = _job(facts, machine, verdict, request, target, state)
        if free is not None and job.size > free:
            raise HypervError(f"The destination {target.label} has {free} bytes left, the files of {_label(machine)} need {job.size}.",
                              error_code="destination_full", hint="Free space there, or choose another destination.")
    except HypervError as error:
        return Refused(machine.name, machine, error, verdict)
    return job


def _label(machine: Machine) -> str:
    return f"{machine.name!r} ({machine.vm_id})"


def _job(facts: HostFacts, machine: Machine, verdict: Verdict, request: Request, target: Destination, state: StateFolder) -> Job:
    _refuse_what_cannot_be_copied(machine, verdict, request)
    files = _source_files(facts, machine)
    if request.method == "live" and any(file.level for file in files):
        raise HypervError(f"{_label(machine)} cannot be copied live: a disk has a chain of several files, which change together.",
                          error_code="chain_not_live", hint="Copy it out of a shadow copy (method: vss), or export it.")
    volumes = tuple({volume.device_id: volume for volume in (facts.place(file.path).volume for file in files)
                     if volume is not None}.values())
    if not volumes:
        raise HypervError(f"The files of {_label(machine)} lie on no known volume.", error_code="unknown_place")
    for volume in volumes:
        if target.volume is not None and volume.device_id.lower() == target.volume.device_id.lower():
            raise HypervError(
                f"The destination lies on {volume.root}, the volume that holds the disks of {_label(machine)}.",
                error_code="destination_on_source_volume",
                hint="Choose another volume: a copy on the shadowed one swells its difference area, and it is no backup.")
    folder = copies_folder(facts, machine, request)
    for file in files:
        check_value(file.relative, f"A file of {_label(machine)}")
        longest = max(len(state.links) + 1 + _SHADOW_ID_LENGTH + 1 + len(file.relative),
                      len(folder) + 1 + _RUN_FOLDER_LENGTH + 1 + len(file.target))
        if longest > LONGEST_PATH:
            raise HypervError(f"The path of {file.path} becomes longer than {LONGEST_PATH} characters.", error_code="paths_too_long",
                              hint="Shorten the destination, or use an export.")
    return Job(machine, volumes, verdict, folder, files)


def _refuse_what_cannot_be_copied(machine: Machine, verdict: Verdict, request: Request) -> None:
    for reason in verdict.reasons:
        if reason.kind == "blocker" or (reason.code == "several_volumes" and request.method == "vss"):
            raise HypervError(f"{_label(machine)} cannot be copied{_HOW[request.method]}. {reason.sentence}", error_code=reason.code,
                              hint=_HINTS.get(reason.code))
    if machine.busy is not None:
        raise HypervError(f"The host is working on {_label(machine)}: {machine.busy}.", error_code="vm_busy",
                          hint="Wait until that is done; files of the chain may appear or go away meanwhile.")
    if verdict.level is None or not reaches(verdict.level, request.lowest):
        reasons = " ".join(reason.sentence for reason in verdict.of_kind("limit"))
        raise HypervError(
            f"A VSS copy of {_label(machine)} would be {verdict.level}, not {request.consistency}. {reasons}",
            error_code="consistency_not_reachable",
            hint="Use another method, or accept less with consistency_fallback.")


def _source_files(facts: HostFacts, machine: Machine) -> tuple[SourceFile, ...]:
    files: list[SourceFile] = []
    targets: dict[str, str] = {}
    taken: set[str] = set()
    seen: set[str] = set()
    for number, disk in enumerate(disk for disk in facts.disks_of(machine.vm_id) if disk.kind == "virtual" and disk.path):
        chain = facts.chains.get(disk.path or "")
        if chain is None or chain.problem is not None or not chain.links:
            raise HypervError(f"The chain of {disk.path} is not complete: {chain.problem if chain else 'it was not read'}.",
                              error_code="chain_incomplete", hint="A copy without its parents is worth nothing; repair the chain first.")
        for level, link in enumerate(chain.links):
            relative = facts.place(link.path).relative
            if relative is None:
                raise HypervError(f"{link.path} of {_label(machine)} lies on no volume of this host.", error_code="unknown_place")
            if ntpath.normcase(link.path) in seen:
                continue
            seen.add(ntpath.normcase(link.path))
            target = f"{_target_folder(ntpath.dirname(relative), ntpath.basename(relative), targets, taken)}\\{ntpath.basename(relative)}"
            files.append(SourceFile(link.path, relative, target, link.file_size or 0, number, level, link))
    return tuple(files)


def _target_folder(source: str, name: str, targets: dict[str, str], taken: set[str]) -> str:
    """``disks`` for the first source folder, ``disks2`` and so on for others that hold a file of the same name."""
    key = source.lower()
    number = 1
    while True:
        folder = targets.get(key) or (_DISKS if number == 1 else f"{_DISKS}{number}")
        if f"{folder}\\{name}".lower() not in taken:
            targets[key] = folder
            taken.add(f"{folder}\\{name}".lower())
            return folder
        targets.pop(key, None)
        number += 1


def predicted_manifest(job: Job, request: Request) -> dict[str, object]:
    """What check mode can say of the manifest that would be written."""
    return {"folder": job.folder, "run_id": request.run_id, "size": job.size, "files": len(job.files)}


def consistency_result(request: Request, level: str | None, verdict: Verdict | None, evidence: str) -> dict[str, object]:
    """The ``consistency`` of a result (INTERFACE)."""
    return {
        "requested": request.consistency, "achieved": level, "evidence": evidence,
        "not_captured": [reason.sentence for reason in verdict.of_kind("not_captured")] if verdict else [],
        "unknowns": [reason.sentence for reason in verdict.of_kind("unknown")] if verdict else [],
    }


def manifest_result(folder: str, manifest: Manifest) -> dict[str, object]:
    """The ``manifest`` of a result: its content and where it is."""
    return {**manifest.as_data(), "path": f"{folder}\\manifest.json", "folder": folder, "size": manifest.size}


def volume_risks(target: Sequence[Volume], storage: Sequence[Storage], shadows: Sequence[ShadowCopy]) -> tuple[str, ...]:
    """Warnings about the volumes that will be shadowed: a nearly full difference area endangers the copies of other products."""
    warnings = []
    for volume in target:
        areas = [area for area in storage if area.volume.rstrip("\\").lower() == volume.device_id.rstrip("\\").lower()]
        count = sum(1 for shadow in shadows if shadow.volume.rstrip("\\").lower() == volume.device_id.rstrip("\\").lower())
        for area in areas:
            if count and area.used is not None and area.largest and area.used > 0.9 * area.largest:
                warnings.append(
                    f"The difference area of {volume.root} is {100 * area.used // area.largest} % full and the volume has {count} shadow "
                    "copies: the system deletes the oldest ones when it overflows.")
    return tuple(warnings)
