# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying VMs out of shadow copies: the steps of a plan, each verified, and a clean-up in every outcome (operations 5).

For each volume: intent, shadow copy, link, then each VM - folders, robocopy, size check, manifest last - and always: unlink,
delete exactly that shadow copy, take the intent away. What cannot be removed is reported as a leftover, never kept silent.
"""
from __future__ import annotations

import ntpath
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock, Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import vss_verify
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import (
    CopyPlan,
    Job,
    Request,
    SourceFile,
    consistency_result,
    manifest_result,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import manifest as manifests
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import CopiedFile, Manifest
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, shadow_copies, state, system
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.shadow_copies import ShadowCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent, StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume

_TRIES = 3
_PAUSE = 5.0

EVIDENCE = "shadow copy made through WMI, no writers took part"


@dataclass
class Outcome:
    """What became of one VM."""

    job: Job
    error: HypervError | None = None
    manifest: Manifest | None = None
    folder: str | None = None
    shadow: ShadowCopy | None = None
    leftovers: list[Leftover] = field(default_factory=list)


@dataclass(frozen=True)
class Tools:
    """What every step needs."""

    writer: CimWriter
    clock: Clock
    deadline: Deadline
    progress: Callable[[str], None]
    busy_wait: float
    folder: StateFolder


def execute(plan: CopyPlan, facts: HostFacts, request: Request, tools: Tools) -> list[Outcome]:
    """Carry out the plan; one VM's failure never stops the others. Raises only when nothing can be begun (state folder)."""
    state.ensure(tools.writer, tools.folder)
    outcomes: list[Outcome] = []
    for volume in plan.volumes():
        outcomes.extend(_copy_from_volume(volume, plan.jobs_on(volume), facts, request, tools))
    return outcomes


def _copy_from_volume(volume: Volume, jobs: Sequence[Job], facts: HostFacts, request: Request, tools: Tools) -> list[Outcome]:
    outcomes = [Outcome(job) for job in jobs]
    leftovers: list[Leftover] = []
    try:
        with _shadow_of(volume, outcomes, request, tools, leftovers) as shadow:
            changed = _changed_since(tools, facts, jobs)
            for outcome in outcomes:
                outcome.shadow = shadow
                if outcome.job.machine.vm_id in changed:
                    outcome.error = HypervError(
                        f"The disks of {outcome.job.machine.name!r} changed while the shadow copy was made.",
                        error_code="chain_changed", hint="A checkpoint or a backup ran at the same time; run the task again.")
                else:
                    _copy_machine(outcome, shadow, facts, request, tools)
    except HypervError as error:
        for outcome in outcomes:
            if outcome.error is None and outcome.manifest is None:
                outcome.error = error
    for outcome in outcomes:
        outcome.leftovers.extend(leftovers)
        if leftovers and outcome.error is None:
            outcome.error = HypervError(
                f"The copy of {outcome.job.machine.name!r} is complete, but {leftovers[0].kind.replace('_', ' ')} {leftovers[0].id} "
                "could not be removed from the host.", error_code="cleanup_failed", hint=leftovers[0].remove_with)
    return outcomes


@contextmanager
def _shadow_of(volume: Volume, outcomes: Sequence[Outcome], request: Request, tools: Tools,
               leftovers: list[Leftover]) -> Iterator[ShadowCopy]:
    """A linked shadow copy for the time of the block; afterwards it is gone, or in ``leftovers``."""
    writer = tools.writer
    before = tuple(shadow.shadow_id for shadow in shadow_copies.read_shadow_copies(writer))
    intent = Intent(request.run_id, secrets.token_hex(4), system.read_time(writer), volume.device_id, before,
                    tuple(sorted({outcome.job.folder for outcome in outcomes})))
    shadow_id: str | None = None
    linked = False
    unknown = False

    def renew() -> None:
        nonlocal intent
        known = tuple(shadow.shadow_id for shadow in shadow_copies.read_shadow_copies(writer))
        intent = replace(intent, host_time=system.read_time(writer), shadows_before=known)
        state.write_intent(writer, tools.folder, intent)

    try:
        state.write_intent(writer, tools.folder, intent)
        tools.progress(f"making a shadow copy of {volume.root}")
        try:
            shadow_id = shadow_copies.create(writer, volume.device_id, clock=tools.clock, busy_wait=tools.busy_wait,
                                             progress=tools.progress, before_retry=renew)
        except OutcomeUnknown:
            unknown = True
            leftovers.extend(_suspects(tools, volume, intent.shadows_before))
            raise
        shadow = shadow_copies.from_row(writer.get(shadow_copies.shadow_reference(shadow_id)))
        if shadow.volume.rstrip("\\").lower() != volume.device_id.rstrip("\\").lower():
            raise HypervError(f"The shadow copy {shadow_id} shows {shadow.volume}, not {volume.device_id}.", error_code="vss_wrong_volume")
        if not shadow.device:
            raise HypervError(f"The shadow copy {shadow_id} has no device.", error_code="vss_no_device")
        linked = True  # from here on a link may exist, whatever the answer says
        intent = state.link_shadow_copy(writer, tools.folder, intent, shadow_id, shadow.device)
        yield shadow
    finally:
        removed = shadow_id is None or _remove(shadow_id, linked, tools, leftovers)
        incomplete = [outcome for outcome in outcomes if outcome.folder is not None and outcome.manifest is None]
        if removed and not unknown and incomplete:  # the clean-up finds the incomplete copies by it
            for outcome in incomplete:
                outcome.leftovers.append(_intent_leftover(intent, tools))
        elif removed and not unknown:
            _forget_intent(intent, tools, leftovers)


def _remove(shadow_id: str, linked: bool, tools: Tools, leftovers: list[Leftover]) -> bool:
    """Unlink, then delete exactly this shadow copy. True when both are gone."""
    clean = not linked or _unlink(shadow_id, tools)
    if not clean:
        link = tools.folder.link_for(shadow_id)
        leftovers.append(Leftover("link", link, tools.folder.links, f'rmdir "{link}"'))
    try:
        shadow_copies.delete(tools.writer, shadow_id, clock=tools.clock)
    except HypervError:
        leftovers.append(Leftover("shadow_copy", shadow_id, "this host", f"vssadmin delete shadows /shadow={shadow_id}"))
        return False
    return clean


def _unlink(shadow_id: str, tools: Tools) -> bool:
    """Remove the link, with three tries: taking a link away twice does no harm. True when it is gone."""
    for attempt in range(1, _TRIES + 1):
        try:
            files.remove_link(tools.writer, tools.folder.link_for(shadow_id))
            return True
        except HypervError:
            if attempt < _TRIES:
                tools.clock.sleep(_PAUSE)
        try:
            if shadow_id.lower() not in files.link_names(tools.writer, tools.folder.links):
                return True
        except HypervError:
            continue
    return False


def _forget_intent(intent: Intent, tools: Tools, leftovers: list[Leftover]) -> None:
    """Nothing that it announced is left: take it away, with three tries."""
    for attempt in range(1, _TRIES + 1):
        try:
            state.remove_intent(tools.writer, tools.folder, intent)
            return
        except HypervError:
            if attempt < _TRIES:
                tools.clock.sleep(_PAUSE)
    leftovers.append(_intent_leftover(intent, tools))


def _intent_leftover(intent: Intent, tools: Tools) -> Leftover:
    path = tools.folder.intent_for(intent.name)
    return Leftover("intent", path, tools.folder.intents, f'del "{path}"')


def _suspects(tools: Tools, volume: Volume, before: Sequence[str]) -> list[Leftover]:
    """Shadow copies of the volume that are new since the intent: perhaps ours, not provably, so reported and never deleted."""
    try:
        found = shadow_copies.read_shadow_copies(tools.writer)
    except HypervError:
        return [Leftover("shadow_copy", "unknown", volume.root, "compare 'vssadmin list shadows' with the intent in the state folder")]
    return [Leftover("suspect_shadow_copy", shadow.shadow_id, volume.root, f"vssadmin delete shadows /shadow={shadow.shadow_id}")
            for shadow in found if shadow.shadow_id not in before and shadow.volume.lower() == volume.device_id.lower()
            and shadow.client_accessible and shadow.no_writers]


def _changed_since(tools: Tools, facts: HostFacts, jobs: Sequence[Job]) -> set[str]:
    """VMs whose disks are other files now than when the plan was made."""
    now = disks.read_virtual_disks(tools.writer)
    changed = set()
    for job in jobs:
        vm_id = job.machine.vm_id
        before = {disk.path for disk in facts.disks_of(vm_id) if disk.kind == "virtual"}
        if before != {disk.path for disk in now if disk.owner_id == vm_id}:
            changed.add(vm_id)
    return changed


def _copy_machine(outcome: Outcome, shadow: ShadowCopy, facts: HostFacts, request: Request, tools: Tools) -> None:
    try:
        _copy(outcome, shadow, facts, request, tools)
    except HypervError as error:
        outcome.error = error
        if outcome.folder is not None:
            outcome.leftovers.append(Leftover("incomplete_copy", outcome.folder, outcome.folder, f'rmdir /s /q "{outcome.folder}"'))


def _copy(outcome: Outcome, shadow: ShadowCopy, facts: HostFacts, request: Request, tools: Tools) -> None:
    job, writer = outcome.job, tools.writer
    link = tools.folder.link_for(shadow.shadow_id)
    taken = shadow.created or facts.system.local_time
    folder = f"{job.folder}\\{naming.copy_folder(taken, request.run_id)}"
    sizes = _source_sizes(job, link, tools)
    copied: list[CopiedFile] = []
    made: set[str] = set()
    unknowns: list[str] = []
    for (source, into), members in _by_folder(job.files).items():
        target = f"{folder}\\{into}"
        if tools.deadline.expired():
            raise HypervError("The time for this task was over before the copy was complete.", error_code="timeout", hint="Raise timeout.")
        outcome.folder = folder
        tools.progress(f"{job.machine.name}: copying {len(members)} file(s), {sum(sizes[file.path] for file in members)} bytes")
        names = [file.name for file in members]
        arrived = files.copy_files(writer, _join(link, source), target, names, make=target not in made,
                                   timeout=tools.deadline.remaining())
        made.add(target)
        found = vss_verify.check_sizes(target, members, arrived, sizes, request.verify)
        hashes: list[str | None] = [None] * len(members)
        if request.verify == vss_verify.SHA256:
            tools.progress(f"{job.machine.name}: comparing the hashes of {len(members)} file(s)")
            hashes = [*vss_verify.check_hashes(writer, _join(link, source), target, members, tools.deadline)]
        if request.verify != vss_verify.NONE:
            unknowns += vss_verify.check_images(writer, target, members)
        copied += [CopiedFile(file.target, file.path, size, file.disk, file.level, digest)
                   for file, size, digest in zip(members, found, hashes, strict=True)]
    manifest = _manifest(outcome, shadow, taken, facts, request, tuple(copied), tools, unknowns)
    path = f"{folder}\\{manifests.FILE_NAME}"
    files.write_text(writer, path + ".tmp", path, manifests.dump(manifest))
    outcome.manifest = manifest
    tools.progress(f"{job.machine.name}: copied, {manifest.size} bytes, verified: {manifest.verified}")


def _join(folder: str, relative: str) -> str:
    return ntpath.join(folder, relative) if relative else folder


def _by_folder(members: Sequence[SourceFile]) -> dict[tuple[str, str], list[SourceFile]]:
    """Files by source folder and target folder: one robocopy each."""
    groups: dict[tuple[str, str], list[SourceFile]] = {}
    for file in members:
        groups.setdefault((file.folder, ntpath.dirname(file.target)), []).append(file)
    return groups


def _source_sizes(job: Job, link: str, tools: Tools) -> dict[str, int]:
    """Sizes in the shadow copy, in bytes: what the copies must have. A missing file fails the VM before anything is written."""
    found: dict[str, int] = {}
    for (source, _into), members in _by_folder(job.files).items():
        sizes = files.read_sizes(tools.writer, _join(link, source), [file.name for file in members])
        for file, size in zip(members, sizes, strict=True):
            if size is None:
                raise HypervError(f"{file.path} is not in the shadow copy.", error_code="chain_changed",
                                  hint="A merge or a storage migration ran at the same time; run the task again.")
            found[file.path] = size
    return found


def _manifest(outcome: Outcome, shadow: ShadowCopy, taken: datetime, facts: HostFacts, request: Request, copied: tuple[CopiedFile, ...],
              tools: Tools, unknowns: Sequence[str]) -> Manifest:
    verdict = outcome.job.verdict
    return Manifest(
        vm_id=outcome.job.machine.vm_id, vm_name=outcome.job.machine.name, host=facts.system.name, run_id=request.run_id, taken=taken,
        completed=max(system.read_time(tools.writer), taken), shadow_id=shadow.shadow_id, requested=request.consistency,
        achieved=verdict.level or "inconsistent", evidence=EVIDENCE,
        not_captured=tuple(reason.sentence for reason in verdict.of_kind("not_captured")),
        unknowns=tuple(reason.sentence for reason in verdict.of_kind("unknown")) + tuple(unknowns), verified=request.verify,
        files=copied)


def outcome_entry(outcome: Outcome, request: Request) -> dict[str, Any]:
    """One entry of ``results``."""
    entry: dict[str, Any] = {
        "vm": vm_label(outcome.job.machine.vm_id, outcome.job.machine.name), "changed": outcome.manifest is not None,
        "failed": outcome.error is not None,
        "consistency": consistency_result(request, outcome.job.verdict.level if outcome.manifest else None, outcome.job.verdict,
                                          EVIDENCE if outcome.manifest else "no copy was completed"),
        "leftovers": [leftover.as_result() for leftover in outcome.leftovers],
    }
    if outcome.shadow is not None:
        entry["shadow_copy"] = outcome.shadow.as_result()
    if outcome.manifest is not None and outcome.folder is not None:
        entry["manifest"] = manifest_result(outcome.folder, outcome.manifest)
        entry["consistency"]["unknowns"] = list(outcome.manifest.unknowns)
    if outcome.error is not None:
        entry.update(error_entry(outcome.error))
        entry["leftovers"] = [leftover.as_result() for leftover in dict.fromkeys((*outcome.leftovers, *outcome.error.leftovers))]
    return entry


def error_entry(error: HypervError) -> Mapping[str, Any]:
    """What an entry says of an error."""
    return {"msg": error.message, **error.as_result()}


def vm_label(vm_id: str | None, name: str) -> dict[str, str | None]:
    """The ``vm`` of an entry."""
    return {"vm_id": vm_id, "name": name}
