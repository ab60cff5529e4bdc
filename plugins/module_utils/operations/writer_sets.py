# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a copy with writers needs beside the disks: which volumes form the set, which VMs stay out, which files the writer adds.

Pure functions of a host's facts and of a copy's record. The writer fails a set that does not cover every volume of a VM (F-32), those
of its configuration and of its checkpoints among them. On 2012 R2 the consistent state of a guest is in ``<disk>-AutoRecovery.avhdx``
beside the leaf, in the shadow copy only (operations 5.5): without that file a copy is crash-consistent.
"""
from __future__ import annotations

import ntpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_record import CopyRecord, SourceFile
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts, files_of
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import Job as CopyJob
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import Request
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import BUILD_2016
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import diskshadow
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, JobResult, Stage, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent, StateFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.target_jobs import read_digest
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume

EVIDENCE = "diskshadow set with the Hyper-V writer, in which the writer and the component of this VM were verified"
RECOVERED = "; its AutoRecovery files are part of the copy"
UNPROVEN = "diskshadow set with the Hyper-V writer, without evidence that the guest was quiesced"
QUIESCED = ("filesystem", "application")
"""Levels that need evidence."""
SNAPSHOT_FILE = "BackupSnapshot.xml"
LONGEST_PATH = 259
TIDY = "tidy"

_ROBOCOPY = "%SystemRoot%\\System32\\robocopy.exe "
_CERTUTIL = "%SystemRoot%\\System32\\certutil.exe "
_CHECKPOINT_NAME = re.compile(r"_[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")
_RECOVERY_NAME = re.compile(r"-AutoRecovery\.avhdx?\Z", re.IGNORECASE)
_SIZE = re.compile(rb"\[(\d*)\]")


# -- the set -------------------------------------------------------------------------------------------------------------


def volumes_of(facts: HostFacts, machine: Machine, files: Sequence[SourceFile]) -> tuple[Volume, ...]:
    """Every volume that holds a file of the VM, those of its disks first.

    Raises HypervError ``smb_storage`` or ``unknown_place`` when the writer could not process it, ``vss_too_many_volumes``.
    """
    found: dict[str, Volume] = {}
    for path in (*(file.path for file in files), *_paths(facts, machine)):
        place = facts.place(path)
        if place.volume is None:
            raise HypervError(f"{path} of {machine.name!r} lies on no volume of this host, so no set can cover the virtual machine.",
                              error_code="smb_storage" if place.kind == "smb" else "unknown_place",
                              hint="The Hyper-V writer processes a VM only when the set has all its files, configuration and checkpoints "
                                   "too. Use an export.")
        found[place.volume.device_id.lower()] = place.volume
    if len(found) > diskshadow.MOST_VOLUMES:
        refusal = diskshadow.REFUSALS[0x80042312]
        raise HypervError(f"No shadow copy set of {machine.name!r} can be made: {refusal.sentence}.", error_code=refusal.error_code,
                          hint=refusal.hint)
    return tuple(found.values())


def _paths(facts: HostFacts, machine: Machine) -> tuple[str, ...]:
    """The files and folders that make up a VM as far as the host told: disks, those of its checkpoints, configuration."""
    checkpoints = [disk.path for item in facts.checkpoints_of(machine.vm_id) for disk in facts.disks_of(item.checkpoint_id)
                   if disk.kind == "virtual" and disk.path]
    settings = machine.settings
    roots = (settings.configuration_root, settings.snapshot_root) if settings else ()
    return (*files_of(facts, machine.vm_id), *checkpoints, *(root for root in roots if root))


def others_of(facts: HostFacts, machine: Machine) -> tuple[str, ...]:
    """The VMs that have a component and stay out. One on a share has none in a set of local volumes (operations 5.8)."""
    return tuple(other.vm_id for other in facts.machines if other.vm_id != machine.vm_id
                 and not any(path.startswith("\\\\") and not path.startswith("\\\\?\\") for path in _paths(facts, other)))


def record_of(facts: HostFacts, job: CopyJob, request: Request, volumes: Sequence[Volume], folder: str, taken: datetime) -> CopyRecord:
    """What the copy is about. ``folder``: that of the job, below which the shadow copies are exposed in the order of ``volumes``."""
    verdict = job.verdict
    order = [volume.device_id.lower() for volume in volumes]
    files = []
    for file in job.files:
        volume = facts.place(file.path).volume
        number = order.index(volume.device_id.lower() if volume else "")
        files.append(replace(file, relative=f"{diskshadow.mount(number)}\\{file.relative}"))
        if len(folder) + 1 + len(files[-1].relative) > LONGEST_PATH:
            raise HypervError(f"The path of {file.path} becomes longer than {LONGEST_PATH} characters.", error_code="paths_too_long",
                              hint="Use a shorter run_id, or an export.")
    return CopyRecord(
        vm_id=job.machine.vm_id, vm_name=job.machine.name, host=facts.system.name, run_id=request.run_id, method="writers",
        folder=f"{job.folder}\\{naming.copy_folder(taken, request.run_id)}", root=folder, taken=taken, shadow_id=None,
        verify=request.verify, requested=request.consistency, achieved=verdict.level or "inconsistent", evidence=EVIDENCE,
        not_captured=tuple(reason.sentence for reason in verdict.of_kind("not_captured")),
        unknowns=tuple(reason.sentence for reason in verdict.of_kind("unknown")), files=tuple(files))


def recovers(facts: HostFacts) -> bool:
    """Whether this release reaches consistency in files that it adds to the shadow copies."""
    return facts.system.build < BUILD_2016


# -- files that the writer adds ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extra:
    """A file that may be in the shadow copies beside a leaf: its folder below the job's, its name, and where it goes below the copy's."""

    leaf: SourceFile
    folder: str
    name: str
    target: str

    @property
    def live(self) -> str:
        """The path that it would have on the live volume, where it must not be."""
        return ntpath.join(ntpath.dirname(self.leaf.path), self.name)

    @property
    def is_recovery(self) -> bool:
        """Holds the consistent state of the disk."""
        return self.name != SNAPSHOT_FILE


def recovery_names(leaf: str) -> tuple[str, ...]:
    """The names under which the consistent state of a disk can be; the mark of a checkpoint in the leaf's name may fall away."""
    stem, extension = ntpath.splitext(leaf)
    kind = "avhd" if extension.lower() in (".vhd", ".avhd") else "avhdx"
    return tuple(dict.fromkeys(f"{name}-AutoRecovery.{kind}" for name in (_CHECKPOINT_NAME.sub("", stem), stem)))


def is_recovery_file(path: str) -> bool:
    """True for a disk that a writer made for its own purposes."""
    return _RECOVERY_NAME.search(path) is not None


def extras_of(record: CopyRecord) -> tuple[Extra, ...]:
    """What to look for beside the leaves of a copy."""
    taken = {file.target.lower() for file in record.files}
    seen: set[str] = set()
    found: list[Extra] = []
    for leaf in (file for file in record.files if file.level == 0):
        for name in (*recovery_names(leaf.name), SNAPSHOT_FILE):
            if f"{leaf.folder}\\{name}".lower() in seen:
                continue
            seen.add(f"{leaf.folder}\\{name}".lower())
            target = f"{ntpath.dirname(leaf.target)}\\{name}"
            if target.lower() in taken:
                target = f"recovery{len(found)}\\{name}"
            taken.add(target.lower())
            found.append(Extra(leaf, leaf.folder, name, target))
    return tuple(found)


def extra_values(record: CopyRecord, extras: Sequence[Extra]) -> dict[str, str]:
    """The values of the steps for extras."""
    values: dict[str, str] = {}
    for number, extra in enumerate(extras):
        values |= {f"XS{number}": f"{record.root}\\{extra.folder}", f"XN{number}": extra.name, f"XL{number}": extra.live,
                   f"XT{number}": f"{record.folder}\\{ntpath.dirname(extra.target)}"}
    return values


def stale_stage(extras: Sequence[Extra]) -> Stage:
    """A recovery file on the live volume is of an earlier backup: it would stop this one, or be taken for evidence (F-33)."""
    return Stage(tuple(Step(f"stale{number}", f'dir /B "%AGH_XL{number}%"', (1, 1))
                       for number, extra in enumerate(extras) if extra.is_recovery))


def need_stage(extras: Sequence[Extra]) -> Stage:
    """Each leaf has its recovery file in the shadow copies; without it there is nothing that is worth copying."""
    by_leaf: dict[str, list[int]] = {}
    for number, extra in enumerate(extras):
        if extra.is_recovery:
            by_leaf.setdefault(extra.leaf.path, []).append(number)
    return Stage(tuple(Step(f"need{numbers[0]}", " || ".join(f'dir /B "%AGH_XS{number}%\\%AGH_XN{number}%"' for number in numbers))
                       for numbers in by_leaf.values()))


def extra_stages(extras: Sequence[Extra], *, sha256: bool) -> Iterator[Stage]:
    """Copy what is there of them; one that is not there is no failure."""
    for number, _extra in enumerate(extras):
        name = f"%AGH_XN{number}%"
        source, target = f'"%AGH_XS{number}%\\{name}"', f'"%AGH_XT{number}%\\{name}"'
        steps = [
            Step(f"xbefore{number}", f"for %I in ({source}) do @echo [%~zI]", None, keep=True),
            Step(f"xcopy{number}", f'if exist {source} {_ROBOCOPY}"%AGH_XS{number}%" "%AGH_XT{number}%" "{name}" '
                 "/J /COPY:DAT /R:2 /W:5 /NDL /NJH /NJS /NP /BYTES", (0, 7)),
            Step(f"xafter{number}", f"for %I in ({target}) do @echo [%~zI]", None, keep=True),
        ]
        if sha256:
            steps += [Step(f"{side}{number}", f"if exist {path} {_CERTUTIL}-hashfile {path} SHA256", keep=True)
                      for side, path in (("xshash", source), ("xhash", target))]
        yield Stage(tuple(steps), essential=False)


@dataclass(frozen=True)
class Brought:
    """An extra that was there and was copied: its size in bytes, and its SHA-256 when hashes were asked for."""

    extra: Extra
    size: int
    sha256: str | None = None


def brought(record: CopyRecord, extras: Sequence[Extra], outputs: Mapping[str, bytes], *, sha256: bool) -> tuple[Brought, ...]:
    """The extras that arrived. Raises HypervError ``copy_failed`` for one that did not, ``verify_failed``, ``hash_failed``."""
    found = []
    for number, extra in enumerate(extras):
        before, after = (_size(outputs.get(f"{when}{number}", b"")) for when in ("xbefore", "xafter"))
        if before is None:
            continue
        path = f"{record.folder}\\{extra.target}"
        if before != after:
            raise HypervError(f"{extra.name}, which the Hyper-V writer made, could not be copied to {path}: {after} of {before} bytes "
                              "are there.", error_code="copy_failed", hint="Is the destination full?")
        digests = [read_digest(outputs.get(f"{side}{number}", b""), path) for side in ("xhash", "xshash")] if sha256 else [None]
        if len(set(digests)) > 1:
            raise HypervError(f"{path} has the SHA-256 {digests[0]}, its source {digests[1]}.", error_code="verify_failed",
                              hint="Run the task again; look for antivirus and failing storage.")
        found.append(Brought(extra, before, digests[0]))
    return tuple(found)


def _size(output: bytes) -> int | None:
    found = _SIZE.search(output)
    return int(found.group(1)) if found is not None and found.group(1) else None


def all_recovered(record: CopyRecord, arrived: Sequence[Brought]) -> bool:
    """Whether every disk of the copy has its recovery file."""
    have = {one.extra.leaf.path for one in arrived if one.extra.is_recovery and one.size}
    return {file.path for file in record.files if file.level == 0} <= have


# -- the job -------------------------------------------------------------------------------------------------------------


def job_of(record: CopyRecord, made: diskshadow.ShadowSet, base: Job, intents: Sequence[Intent], state: StateFolder, *, must_recover: bool,
           token: str) -> Job:
    """The job of one copy. ``base``: the copying itself, whose first stage makes the copy's folder; ``intents`` in the order of the set.

    ``must_recover``: nothing is copied unless each disk has its recovery file.
    """
    extras = extras_of(record)
    values = {**base.values, **extra_values(record, extras)}
    for name, intent in zip(made.aliases, intents, strict=True):
        values |= {f"I{name}": state.intent_for(intent.name), f"K{name}": intent.stem}
    first = [
        # as soon as a shadow copy is there, its intent bears its name
        *(Step(f"name{number}", f'ren "%AGH_I{name}%" "%AGH_K{name}%.%AGH_{name}%.json"', None)
          for number, name in enumerate(made.aliases)),
        Step("ids", "echo " + " ".join(f'"%AGH_{name}%"' for name in made.aliases), None, keep=True),
        *(Step(f"list{name.lower()}", f'dir /B "%AGH_{name}%\\*.avhd*"', None, keep=True) for name in _sources(base))]
    inner = [Stage(tuple(first)), *([need_stage(extras)] if must_recover else []), *base.stages[1:],
             *extra_stages(extras, sha256=record.verify == "sha256")]
    # an empty folder of a copy that did not come about goes at once
    after = [Step(TIDY, 'rmdir "%AGH_COPY%" & if exist "%AGH_COPY%\\" (echo stays) else (echo gone)', None, keep=True)]
    return diskshadow.session_job(made, [stale_stage(extras), base.stages[0]], inner, values, base.files, after, token)


def outputs_of(record: CopyRecord, base: Job) -> tuple[str, ...]:
    """The steps of such a job whose outputs are read, also of one that an earlier run began."""
    extras = [step.name for stage in extra_stages(extras_of(record), sha256=record.verify == "sha256") for step in stage.steps if step.keep]
    lists = [f"list{name.lower()}" for name in _sources(base)]
    return (diskshadow.SESSION, diskshadow.TOLD, diskshadow.CODES, TIDY, "ids", *lists, *base.outputs, *extras)


def folder_is_gone(outer: JobResult, outputs: Mapping[str, bytes]) -> bool:
    """Whether nothing of the copy's folder is there: it was never made, or was empty in the end."""
    return not outer.good("make") or outputs.get(TIDY, b"").strip().endswith(b"gone")


def _sources(base: Job) -> tuple[str, ...]:
    """The names of the values that are folders to copy from, one for each folder."""
    return tuple(sorted({value: name for name, value in base.values.items() if re.match(r"S\d+\Z", name)}.values()))


def checkpoints_seen(outputs: Mapping[str, bytes]) -> frozenset[str]:
    """The names of differencing disks that were beside the copied files in the shadow copies, in lower case."""
    listed = b"\n".join(output for name, output in outputs.items() if name.startswith("lists"))
    return frozenset(line.strip().lower() for line in listed.decode("utf-8", "replace").splitlines() if line.strip())
