# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a test can turn while a host runs: how long checkpoints and merges take, and what goes wrong with them.

Where the reference has an open doubt, the answer that seems likelier is the default and the other one is a switch.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from simulator.hyperv.spec import MIB

CREATE_JOB, APPLY_JOB, DESTROY_JOB, CLEAR_JOB = 70, 71, 72, 73
QUIESCE_JOB, MERGE_JOB, BACKUP_JOB = 51, 50, 170
DESTROY_SYSTEM_JOB, MODIFY_RESOURCES_JOB, REMOVE_RESOURCES_JOB = 3, 31, 32
END_TEST_JOB = 103
IMPORT_JOB, EXPORT_JOB, VALIDATE_PLANNED_JOB, REALIZE_JOB = 61, 62, 140, 141


def _seconds() -> dict[int, float]:
    return {CREATE_JOB: 4.0, APPLY_JOB: 3.0, DESTROY_JOB: 2.0, CLEAR_JOB: 1.0, DESTROY_SYSTEM_JOB: 2.0, END_TEST_JOB: 2.0,
            MODIFY_RESOURCES_JOB: 0.5, REMOVE_RESOURCES_JOB: 0.5, IMPORT_JOB: 3.0, VALIDATE_PLANNED_JOB: 2.0, REALIZE_JOB: 3.0}


@dataclass
class Knobs:
    """Of one host. Machines are named by their GUID in upper case."""

    # -- time --
    job_seconds: dict[int, float] = field(default_factory=_seconds)
    """By JobType: how long the jobs of the snapshot service and of imports take. A slow job is a large number."""
    memory_bytes_per_second: int = 512 * MIB
    """A standard checkpoint of a running machine writes its memory, and takes so much longer."""
    merge_delay_seconds: float = 2.0
    """From the end of the job that makes a merge necessary to its start: nothing says that one is due."""
    merge_bytes_per_second: int = 200 * MIB
    merge_seconds: float = 20.0
    """The least that the merge of one file takes."""
    merge_slices: int = 10
    """In how many pieces it is done, each with an answer of the volume whether there is room."""
    merge_retry_seconds: float = 300.0
    """After a merge failed."""
    merge_resume_seconds: float = 15.0
    """After the management service started."""

    export_bytes_per_second: int = 200 * MIB
    export_seconds: float = 10.0
    """The least that an export takes."""
    export_slices: int = 10
    """In how many pieces it is written, each with an answer of the volume whether there is room."""

    # -- what goes wrong --
    cannot_quiesce: set[str] = field(default_factory=set)
    """Guests that say that they can and then fail."""
    quiesce_error: int = 0x800423F4
    """What they fail with: 0x800423F2, F3 and F4 are retried differently (operations F-03)."""
    merge_never_starts: set[str] = field(default_factory=set)
    """No merge of these machines starts; taking them out and a restart of the service, or of the machine, helps (operations 3.6)."""
    merge_error: dict[str, int] = field(default_factory=dict)
    """Merges of these machines fail half-way with an HRESULT (operations F-12), until it is taken out."""
    interrupted_creation: Literal["nothing", "checkpoint", "orphan"] = "nothing"
    """What is left when the management service restarts during a creation: nothing; the whole checkpoint; files without an entry."""

    export_error: dict[str, int] = field(default_factory=dict)
    """Exports of these machines fail half-way with an HRESULT, until it is taken out."""

    # -- open doubts --
    application_export: Literal["fails", "degrades"] = "fails"
    """D-9: what CaptureLiveState 2 does when the guest cannot be quiesced: fail, or make a crash-consistent copy without a word."""
    failed_export_leaves: Literal["nothing", "files"] = "nothing"
    """D-18: what stays on disk of an export that failed or was cancelled. One that the service took with it always stays."""
    export_locks: Literal["without_disks", "always", "never"] = "without_disks"
    """D-25: after which exports of a checkpoint its chain stays locked (operations 3.6): for backup without disks, all, none."""
    backup_export: Literal["flat", "chain"] = "flat"
    """D-3: what an export for backup makes of a chain."""
    exported_checkpoint_id: Literal["checkpoint", "machine", "new"] = "checkpoint"
    """The identity of an exported checkpoint (CopySnapshotConfiguration 2): its own GUID, that of its machine, or one never seen before."""
    merged_disk_names: Literal["base", "leaf"] = "base"
    """The name of a disk that an export merges: that of the file its drive was made with, or that of the checkpoint's file."""
    merged_disk_ids: Literal["kept", "new"] = "kept"
    """The VirtualDiskId of such a disk."""
    exported_paths: Literal["export", "source"] = "export"
    """Where the disks of an exported configuration are said to lie: in the export, or still where they were taken from."""
    exports_keep_notes: bool = True
    """D-14: whether notes are written by exports."""
    imports_keep_notes: bool = True
    """D-14: whether they are read by imports."""
    realising_keeps_notes: bool = True
    """D-14: whether those of a planned machine are still there when it has become a real one."""
    newer_version: Literal["not_imported", "not_valid"] = "not_imported"
    """A configuration of a later release fails to be imported (32784), or to be validated (operations 3.5)."""
    saved_states_fit: bool = True
    """Whether saved states of imported machines fit the processors here (operations F-39)."""
    boot_seconds: float = 25.0
    """From the start of a machine that was off until its integration services answer."""
    never_boots: set[str] = field(default_factory=set)
    """Machines, by GUID or name, whose guest never answers."""
    guardians: set[str] = field(default_factory=set)
    """Names of other hosts whose keys for virtual TPMs are here, too (operations 1.2)."""
    consistency_level_counts: bool = False
    """D-10: whether ConsistencyLevel means anything for SnapshotType 2; otherwise only the policy of the machine decides."""
    disabled_blocks_recovery: bool = False
    """D-10: whether the policy *disabled* refuses recovery checkpoints, too."""
    apply_running: Literal["refuse", "turn_off"] = "refuse"
    """D-20: what ApplySnapshot does with a running machine."""
    destroy_takes_dependents: bool = False
    """DestroySnapshot removes the checkpoints that hang on it, as its page warns (operations 2.6)."""
    refuse_at_once: bool = False
    """By ReturnValue instead of by the job: what a machine cannot have (pass-through and shared disks, fibre channel), and imports."""
    notes_are_copied: bool = False
    """A new checkpoint starts with the notes of its machine."""
