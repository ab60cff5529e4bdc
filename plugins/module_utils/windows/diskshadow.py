# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""One VM out of a shadow copy set that diskshadow makes with the Hyper-V writer (operations 5.9), as the text of a job. No host.

The job's ``run.cmd`` runs ``diskshadow /s set.txt``; that makes the set, exposes each shadow copy in a folder of the job, runs
``inner.cmd``, which copies, and deletes the set. So everything that is begun is ended on the host, whatever becomes of the controller.

* The context is persistent: Microsoft's page says that only persistent shadow copies can be exposed, other sources name both contexts.
* There is no ``begin backup``: it makes a full backup of what is a copy backup otherwise, after which guests cut off their logs
  (*create*, *begin backup* on Microsoft Learn). ``end backup`` stands at the very end, where it does no harm if a copy backup needs none.
* ``writer verify`` names the VM's component: without it in the set there is no set. All other VMs are excluded, since one that fails
  fails the set. Components are named ``{writer}:\<VM GUID>``.
* What is exposed lies in the job's folder: its place is the mark by which :mod:`protection.ownership` knows it.
* Nothing that a user wrote stands in the script, only GUIDs and the job's own path; names travel in the job's values.

What came of it is told by HRESULTs and GUIDs, never by words.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.windows import jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Job, Stage, Step
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import PREFIX
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.shadow_copies import Refusal

HYPERV_WRITER = "{66841cd4-6ded-4f4b-8f17-fd23f8ddc3de}"
SET_SCRIPT = "set.txt"
MOST_VOLUMES = 64
"""In one set (operations 5.3)."""
NOT_A_PROGRAM = 9009
"""What cmd answers for a program that is not there."""

_PROGRAM = "%SystemRoot%\\System32\\diskshadow.exe /s "
_GUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_VM = re.compile(rf"{_GUID}\Z")
_VOLUME = re.compile(rf"\\\\\?\\Volume\{{{_GUID}\}}\\\Z")
_FOLDER = re.compile(r"[A-Za-z]:(?:\\[A-Za-z0-9._-]+)+\Z")
_HRESULT = re.compile(rb"(?<![0-9A-Fa-f{-])(?:0x)?(8(?:004(?:23|24)[0-9A-Fa-f]{2}|007[0-9A-Fa-f]{4}|000[0-9A-Fa-f]{4}))(?![0-9A-Fa-f-])")
_SHADOW_ID = re.compile(rf"\{{{_GUID}\}}".encode("ascii"))
_CODES = re.compile(rb"(?i)\\copy(\d{1,6})\.out:.*\(0x([0-9A-F]{8})\)")

BUSY = 0x80042316
_LOOK = "See the host's Application log, sources VSS and volsnap, and the Hyper-V-VMMS log."
_GUEST = "Look at 'vssadmin list writers' in the guest, and whether another backup of it runs."
REFUSALS: Mapping[int, Refusal] = {
    BUSY: Refusal("vss_busy", "another shadow copy is still being created on this host",
                  "Backups overlap: move the schedules apart, or raise vss_wait."),
    0x80042306: Refusal("vss_provider_veto", "the shadow copy provider refused", _LOOK, tries=2, pause=10.0),
    0x80042308: Refusal("vss_object_not_found", "the host knows no such writer, component, volume or shadow copy",
                        "Does the Hyper-V writer list the VM? 'list writers detailed' in diskshadow shows it. Restarting the service vmms "
                        "makes the writer list its VMs anew; guests go on."),
    0x8004230C: Refusal("vss_volume_not_supported", "a volume cannot have shadow copies",
                        "Only NTFS volumes can, and a CSV only on the node that owns it."),
    0x80042312: Refusal("vss_too_many_volumes", "the files lie on more volumes than a set can have", "At most 64 fit into one set."),
    0x80042317: Refusal("vss_too_many", "a volume already has the largest number of shadow copies",
                        "List them and decide which product owns them; nothing foreign is deleted here."),
    0x8004231D: Refusal("vss_volume_in_use", "a volume is in use", "Another program holds the volume; try later."),
    0x8004231F: Refusal("vss_insufficient_storage", "there is no room for a shadow copy's difference area",
                        "Free space on the volumes, or enlarge their shadow storage (vssadmin resize shadowstorage)."),
    0x80042313: Refusal("vss_timeout", "writes could not be held back in time", "The host is too busy; move the backup to a quieter time."),
    0x80042314: Refusal("vss_timeout", "writes could not be held back in time", "The host is too busy; move the backup to a quieter time."),
    0x80042301: Refusal("writer_not_in_set", "the Hyper-V writer, or this VM's component of it, is not part of the set",
                        "Does 'vssadmin list writers' show it as stable? A failed one is healed by a restart of the service vmms; "
                        "guests go on."),
    0x80042318: Refusal("writer_failed", "the service could not speak with the writers", _LOOK),
    0x800423F0: Refusal("writer_inconsistent_set", "the set does not cover every volume that the VM uses",
                        "Are there checkpoints or configuration files elsewhere that the host does not list?"),
    0x800423F1: Refusal("writer_failed", "the writer is out of resources", _LOOK),
    0x800423F2: Refusal("writer_failed", "the writer ran into its time limit", _GUEST, tries=2, pause=300.0),
    0x800423F3: Refusal("writer_retryable", "the writer failed for the moment", _GUEST, tries=2, pause=300.0),
    0x800423F4: Refusal("writer_failed", "the writer failed", _GUEST),
    0x800423F8: Refusal("writer_failed", "the writer misses a disk of the VM", "Are all disks of the VM there?"),
    0x800423FB: Refusal("auto_recovery_left", "a file of an earlier backup is in the way, or auto-recovery failed",
                        "Look for '-AutoRecovery' files beside the VM's disks; rename one only after making sure that no chain uses it."),
}
"""What the HRESULT of a session means (operations 5.3, F-03, F-29 to F-33)."""
UNKNOWN = Refusal("diskshadow_failed", "diskshadow failed", _LOOK)


@dataclass(frozen=True)
class ShadowSet:
    r"""One set: the job's folder, the VM, the device ids (``\\?\Volume{GUID}\``) of all its volumes, the VMs that stay out.

    Raises ValueError for anything that could be more than what it is called: all of it stands in a script.
    """

    folder: str
    vm_id: str
    volumes: tuple[str, ...]
    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [text for pattern, texts in ((_FOLDER, (self.folder,)), (_VM, (self.vm_id, *self.others)), (_VOLUME, self.volumes))
                 for text in texts if pattern.match(text) is None]
        if wrong:
            raise ValueError(f"not for a script: {wrong[0]!r}")
        if not 0 < len({volume.lower() for volume in self.volumes}) == len(self.volumes) <= MOST_VOLUMES:
            raise ValueError("a set has 1 to 64 different volumes")
        if self.vm_id.lower() in {other.lower() for other in self.others}:
            raise ValueError("the VM itself cannot stay out")

    @property
    def aliases(self) -> tuple[str, ...]:
        """The names, without prefix, of the variables that hold the IDs of the shadow copies while ``inner.cmd`` runs."""
        return tuple(alias(number) for number in range(len(self.volumes)))


def alias(number: int) -> str:
    """``V00`` and so on."""
    return f"V{number:02}"


def mount(number: int) -> str:
    """The folder in that of the job where a shadow copy is exposed: ``v00`` and so on."""
    return alias(number).lower()


def component(vm_id: str) -> str:
    """A VM's component of the Hyper-V writer, as a line of diskshadow names it."""
    return f'"{HYPERV_WRITER}:\\{vm_id}"'


def set_script(made: ShadowSet) -> bytes:
    """The text of ``set.txt``: ASCII with CRLF."""
    names = [PREFIX + name for name in made.aliases]
    lines = ["reset", "set verbose on", "set context persistent", f"set metadata {made.folder}\\set.cab",
             *(f"writer exclude {component(other)}" for other in made.others),
             f"writer verify {HYPERV_WRITER}", f"writer verify {component(made.vm_id)}",
             *(f"add volume {volume} alias {name}" for volume, name in zip(made.volumes, names, strict=True)),
             "create",
             *(f"expose %{name}% {made.folder}\\{mount(number)}" for number, name in enumerate(names)),
             f"exec {made.folder}\\{jobs.INNER}",
             *(f"unexpose %{name}%" for name in names),
             "delete shadows set %VSS_SHADOW_SET%", "end backup", "exit"]
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def session_job(made: ShadowSet, before: Sequence[Stage], inner: Sequence[Stage], values: Mapping[str, str], files: Mapping[str, bytes],
                after: Sequence[Step], token: str) -> Job:
    """The whole job. ``before``: stages that must succeed before anything is frozen; ``inner``: what is done with the set, where each value
    may be used and each of :attr:`ShadowSet.aliases`; ``after``: steps when it is gone, in every case. ``files`` lie beside the script.

    Raises what :class:`.jobs.Job` raises.
    """
    Job((*before, *inner, _session(made), Stage(tuple(after))), {**values, **dict.fromkeys(made.aliases, "x")})  # different names
    return Job((*before, _session(made), Stage(tuple(after), essential=False)), values,
               {**files, SET_SCRIPT: set_script(made), jobs.INNER: jobs.inner_script(inner, values, made.aliases, token)})


SESSION, TOLD, CODES = "session", "told", "codes"
"""Steps whose outputs say what became of it: diskshadow's own words, the result of ``inner.cmd``, and the codes of failed robocopies."""


def _session(made: ShadowSet) -> Stage:
    """Run diskshadow; then, when it was ended on the way, delete what is still exposed in our folders. Nothing here ends the job."""
    numbers = range(len(made.volumes))
    job = f"%{PREFIX}JOB%"
    mounts = [Step(f"mount{number}", f'mkdir "{job}\\{mount(number)}"', None, f'exist "{job}\\{mount(number)}\\"') for number in numbers]
    drops = [Step(f"drop{number}",
                  f'dir /B /AL "{job}\\{mount(number)}*" && '
                  f'(>"{job}\\drop.txt" echo delete shadows exposed {made.folder}\\{mount(number)}) && {_PROGRAM}"{job}\\drop.txt"', None)
             for number in numbers]
    told = " & ".join(f'(if exist "{job}\\{name}" type "{job}\\{name}")' for name in (jobs.INNER_RESULT, jobs.INNER_UNFINISHED))
    return Stage((*mounts, Step(SESSION, f'{_PROGRAM}"{job}\\{SET_SCRIPT}"', None, keep=True),
                  Step(TOLD, told, None, keep=True),
                  Step(CODES, f'%SystemRoot%\\System32\\findstr.exe /C:"(0x" "{job}\\copy*.out"', None, keep=True),
                  *drops))


# -- what came of it -----------------------------------------------------------------------------------------------------


def last_hresult(output: bytes) -> int | None:
    """The last HRESULT in what diskshadow said; earlier ones need not have ended it (operations 5.9). None when it named none."""
    found = _HRESULT.findall(output)
    return int(found[-1], 16) if found else None


def shadow_ids(output: bytes) -> tuple[str, ...]:
    """The IDs in a line of our own that printed them."""
    return tuple(found.decode("ascii") for found in _SHADOW_ID.findall(output))


def robocopy_codes(output: bytes) -> dict[str, tuple[int, ...]]:
    """The Win32 codes that steps ``copy<n>`` printed, out of the step CODES."""
    found: dict[str, tuple[int, ...]] = {}
    for number, code in _CODES.findall(output):
        name = f"copy{int(number)}"
        found[name] = (*found.get(name, ()), int(code, 16))
    return found
