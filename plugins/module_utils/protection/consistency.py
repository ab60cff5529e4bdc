# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which consistency each method would reach for a VM, and why (operations section 6): a decision table as data.

A :class:`Condition` says what the host shows. Every :class:`Rule` that applies adds its reason; a *blocker* takes the method
away, a *limit* lowers the level, and *not captured*, *unknown* and *note* are told beside it. Nothing here asks a host.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PRODUCTION = "production_checkpoint"
STANDARD = "standard_checkpoint"
RECOVERY_APPLICATION = "recovery_checkpoint_application"
RECOVERY_CRASH = "recovery_checkpoint_crash"
EXPORT_CRASH = "export_crash"
EXPORT_SAVED = "export_saved_state"
EXPORT_APPLICATION = "export_application"
VSS_COPY = "vss_copy"
VSS_WRITER = "vss_writer"
LIVE_COPY = "live_copy"

CHECKPOINTS = frozenset((PRODUCTION, STANDARD, RECOVERY_APPLICATION, RECOVERY_CRASH))
EXPORTS = frozenset((EXPORT_CRASH, EXPORT_SAVED, EXPORT_APPLICATION))
VSS = frozenset((VSS_COPY, VSS_WRITER))
FILE_COPIES = frozenset((VSS_COPY, VSS_WRITER, LIVE_COPY))
METHODS: tuple[str, ...] = (PRODUCTION, STANDARD, RECOVERY_APPLICATION, RECOVERY_CRASH, EXPORT_CRASH, EXPORT_SAVED, EXPORT_APPLICATION,
                            VSS_COPY, VSS_WRITER, LIVE_COPY)
ALL = frozenset(METHODS)
QUIESCING = frozenset((PRODUCTION, RECOVERY_APPLICATION, EXPORT_APPLICATION, VSS_WRITER))
NEEDS_2016 = frozenset((PRODUCTION, RECOVERY_APPLICATION, RECOVERY_CRASH, EXPORT_APPLICATION))

ORDER = ("inconsistent", "crash", "filesystem", "application")
"""Levels from worst to best; ``image`` (disks and memory complete) lies on another axis."""
IMAGE = "image"

BUILD_2012R2 = 9600
BUILD_2016 = 14393
FREE_FLOOR = 0.20
"""The safe line of free space for shadow copies: below it the oldest copies of all products are in danger."""


@dataclass(frozen=True)
class Condition:
    """What a host shows of one VM, as far as the table asks. None means that the host did not say."""

    build: int
    server: bool = True
    state: str = "running"
    storage_offline: bool = False
    replication_mode: str = "none"
    config_version: tuple[int, int] | None = None
    checkpoint_policy: str | None = None
    backup_enabled: bool | None = None
    backup_answering: bool | None = None
    guest: str = "unknown"
    virtual_disks: int = 1
    pass_through: int = 0
    fibre_channel: int = 0
    other_media: int = 0
    shared_disks: int = 0
    smb_disks: int = 0
    unknown_places: int = 0
    volumes: int = 1
    file_systems: frozenset[str] = frozenset(("NTFS",))
    csv_disks: int = 0
    csv_owned: bool | None = None
    free_ratio: float | None = None
    chain_known: bool = False
    differencing: bool = False
    guarded: bool = False
    """It has a virtual TPM, or is shielded."""

    @property
    def quiesces(self) -> bool:
        """The guest can be asked to flush its writers."""
        return self.state == "running" and self.backup_enabled is not False and self.backup_answering is True


@dataclass(frozen=True)
class Reason:
    """One finding: a stable ``code``, its ``kind`` (blocker, limit, not_captured, unknown, note) and a sentence."""

    code: str
    kind: str
    sentence: str

    def as_result(self) -> dict[str, str]:
        """The form in ``readiness``."""
        return {"code": self.code, "kind": self.kind, "text": self.sentence}


@dataclass(frozen=True)
class Rule:
    """A row of the table: for which methods, when, and what follows. ``level`` caps the level of a *limit*."""

    code: str
    kind: str
    methods: frozenset[str]
    applies: Callable[[Condition], bool]
    sentence: str
    level: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What a method would reach: ``level`` None when a blocker stands in the way."""

    method: str
    level: str | None
    reasons: tuple[Reason, ...]

    def of_kind(self, kind: str) -> tuple[Reason, ...]:
        """The reasons of one kind."""
        return tuple(reason for reason in self.reasons if reason.kind == kind)

    @property
    def blockers(self) -> tuple[Reason, ...]:
        """Why the method cannot be used; empty when it can."""
        return self.of_kind("blocker")

    def as_result(self) -> dict[str, object]:
        """The form in ``readiness``."""
        return {"method": self.method, "achievable": self.level, "reasons": [reason.as_result() for reason in self.reasons]}


def _running(c: Condition) -> bool:
    return c.state == "running"


def _not_quiescing(c: Condition) -> bool:
    return c.state == "running" and not c.quiesces


RULES: tuple[Rule, ...] = (
    # what no method may touch
    Rule("replica_vm", "blocker", ALL, lambda c: c.replication_mode in ("replica", "extended_replica", "test_replica"),
         "This is a replica: protect the primary VM. A backup of a replica takes the lock that replication needs."),
    Rule("configuration_storage_offline", "blocker", ALL, lambda c: c.storage_offline,
         "The storage of the VM's configuration cannot be reached."),
    Rule("state_in_transition", "blocker", ALL, lambda c: c.state not in ("running", "off", "saved", "paused"),
         "The VM is between two states, or in one that nobody documents."),
    Rule("shared_disk", "blocker", ALL, lambda c: c.shared_disks > 0,
         "A shared VHDX or VHD set belongs to several VMs; only methods for groups of VMs cover it."),
    # what the host's release and the VM's version allow
    Rule("needs_2012r2", "blocker", EXPORTS, lambda c: c.build < BUILD_2012R2 and c.state != "off",
         "Exporting a VM that is not off needs Windows Server 2012 R2."),
    Rule("needs_2016", "blocker", NEEDS_2016, lambda c: c.build < BUILD_2016, "This method needs Windows Server 2016."),
    Rule("needs_version_6_2", "blocker", frozenset((RECOVERY_APPLICATION, RECOVERY_CRASH)),
         lambda c: c.config_version is not None and c.config_version < (6, 2), "The VM's configuration version is older than 6.2."),
    Rule("version_unknown", "unknown", frozenset((RECOVERY_APPLICATION, RECOVERY_CRASH)), lambda c: c.config_version is None,
         "The VM's configuration version is not known; 6.2 is needed."),
    Rule("server_edition_needed", "blocker", frozenset((VSS_WRITER,)), lambda c: not c.server,
         "diskshadow exists on Server editions only."),
    # checkpoint policy
    Rule("checkpoints_disabled", "blocker", frozenset((PRODUCTION, STANDARD)), lambda c: c.checkpoint_policy == "disabled",
         "Checkpoints are switched off for this VM."),
    Rule("policy_standard", "note", frozenset((PRODUCTION,)), lambda c: c.checkpoint_policy == "standard",
         "The VM's policy is standard checkpoints: it must be changed for a production checkpoint."),
    Rule("policy_production", "note", frozenset((STANDARD,)), lambda c: c.checkpoint_policy in ("production", "production_only"),
         "The VM's policy is production checkpoints: it must be changed for a standard checkpoint."),
    Rule("policy_may_fall_back", "note", frozenset((PRODUCTION,)), lambda c: c.checkpoint_policy == "production" and c.quiesces,
         "With this policy a failed quiesce silently gives a standard checkpoint; what was reached must be read afterwards."),
    Rule("policy_falls_back", "limit", frozenset((PRODUCTION,)),
         lambda c: c.build >= BUILD_2016 and _not_quiescing(c) and c.checkpoint_policy == "production",
         "The guest cannot quiesce: this policy silently takes a standard checkpoint, an image of the running state.", IMAGE),
    # can the guest be quiesced?
    Rule("guest_cannot_quiesce", "blocker", frozenset((RECOVERY_APPLICATION, EXPORT_APPLICATION)), _not_quiescing,
         "The backup integration service is off or does not answer, so the guest cannot be quiesced."),
    Rule("guest_cannot_quiesce", "blocker", frozenset((PRODUCTION,)),
         lambda c: _not_quiescing(c) and c.checkpoint_policy != "production",
         "The backup integration service is off or does not answer: a production checkpoint fails."),
    Rule("guest_cannot_quiesce", "limit", frozenset((VSS_WRITER,)), lambda c: _not_quiescing(c) and c.build >= BUILD_2012R2,
         "The guest cannot quiesce: the writer takes a live, crash-consistent copy.", "crash"),
    Rule("saved_during_backup", "limit", frozenset((VSS_WRITER,)), lambda c: _not_quiescing(c) and c.build < BUILD_2012R2,
         "The guest cannot quiesce: this release saves the VM during the backup, an interruption.", IMAGE),
    Rule("paused", "blocker", frozenset((PRODUCTION, RECOVERY_APPLICATION, EXPORT_APPLICATION)), lambda c: c.state == "paused",
         "A paused guest cannot be quiesced."),
    Rule("paused", "limit", frozenset((VSS_WRITER,)), lambda c: c.state == "paused", "A paused guest cannot be quiesced.", "crash"),
    Rule("linux_guest", "limit", QUIESCING, lambda c: c.quiesces and c.guest in ("linux", "other"),
         "This guest freezes its file systems; no application takes part.", "filesystem"),
    Rule("guest_unknown", "limit", QUIESCING, lambda c: c.quiesces and c.guest == "unknown",
         "The guest did not tell what it is: more than frozen file systems cannot be claimed.", "filesystem"),
    # what the method itself cannot do
    Rule("no_writers", "limit", frozenset((VSS_COPY,)), lambda c: c.state in ("running", "paused"),
         "A shadow copy made through WMI engages no writers: no guest is quiesced.", "crash"),
    Rule("copied_while_written", "limit", frozenset((LIVE_COPY,)), lambda c: c.state in ("running", "paused"),
         "The file is copied while it is written: its parts are from different instants.", "inconsistent"),
    Rule("may_be_locked", "note", frozenset((LIVE_COPY,)), _running, "Newer hosts open the disk exclusively: the copy may be refused."),
    Rule("saved_memory_left_out", "limit", FILE_COPIES, lambda c: c.state == "saved",
         "Only disks are copied; without the saved memory they are as after a power cut.", "crash"),
    Rule("memory_left_out", "limit", frozenset((EXPORT_CRASH, RECOVERY_CRASH)), lambda c: c.state in ("running", "paused", "saved"),
         "Memory and writes in flight are not part of it.", "crash"),
    Rule("saved_state_ignored", "limit", frozenset((RECOVERY_APPLICATION, EXPORT_APPLICATION)), lambda c: c.state == "saved",
         "A saved guest cannot be quiesced and its memory is not part of it.", "crash"),
    # disks that are not files of this host
    Rule("pass_through_disk", "blocker", frozenset((PRODUCTION, STANDARD)), lambda c: c.pass_through > 0 or c.fibre_channel > 0,
         "Checkpoints fail for a VM with pass-through disks or virtual Fibre Channel."),
    Rule("pass_through_disk", "not_captured", ALL - frozenset((PRODUCTION, STANDARD)), lambda c: c.pass_through > 0,
         "Pass-through disks are not captured."),
    Rule("virtual_fibre_channel", "not_captured", ALL - frozenset((PRODUCTION, STANDARD)), lambda c: c.fibre_channel > 0,
         "Disks behind virtual Fibre Channel ports are not captured."),
    Rule("other_media", "not_captured", ALL, lambda c: c.other_media > 0,
         "Persistent memory or floppy images are attached; they are not captured."),
    Rule("nothing_to_copy", "blocker", FILE_COPIES, lambda c: c.virtual_disks == 0, "The VM has no virtual disk that is a file."),
    # where the files lie
    Rule("smb_storage", "blocker", VSS, lambda c: c.smb_disks > 0,
         "Disks lie on an SMB share: shadow copies must be made on the file server."),
    Rule("unknown_place", "blocker", VSS, lambda c: c.unknown_places > 0, "A disk's path lies on no volume that the host lists."),
    Rule("csv_not_owned", "blocker", VSS, lambda c: c.csv_disks > 0 and c.csv_owned is False,
         "The cluster shared volume is coordinated by another node: run there."),
    Rule("csv_owner_unknown", "blocker", VSS, lambda c: c.csv_disks > 0 and c.csv_owned is None,
         "It is not known which node coordinates the cluster shared volume."),
    Rule("file_system", "blocker", VSS,
         lambda c: any(name.upper() not in ("NTFS", "CSVFS") for name in c.file_systems),
         "Persistent shadow copies are documented for NTFS only."),
    Rule("several_volumes", "limit", frozenset((VSS_COPY,)), lambda c: c.volumes > 1 and c.state in ("running", "paused"),
         "The disks lie on several volumes, whose shadow copies are of different instants.", "inconsistent"),
    Rule("several_volumes", "note", frozenset((VSS_WRITER,)), lambda c: c.volumes > 1,
         "The disks lie on several volumes: one shadow copy set must cover them all."),
    Rule("little_free_space", "blocker", VSS, lambda c: c.free_ratio is not None and c.free_ratio < FREE_FLOOR,
         "Less than 20 % of the volume is free: shadow copies, also those of other products, could be deleted by the system."),
    Rule("little_free_space", "note", CHECKPOINTS, lambda c: c.free_ratio is not None and c.free_ratio < FREE_FLOOR,
         "Less than 20 % of the volume is free: growing differencing disks could fill it, and the VM would be paused."),
    Rule("free_space_unknown", "unknown", VSS | CHECKPOINTS, lambda c: c.free_ratio is None and c.virtual_disks > 0,
         "The free space of the volume is not known."),
    Rule("parents_elsewhere", "unknown", FILE_COPIES, lambda c: c.differencing and not c.chain_known,
         "The disks have parents that were not followed: where they lie is not known."),
    Rule("needs_guardian", "note", EXPORTS, lambda c: c.guarded,
         "The VM has a virtual TPM or is shielded: another host starts it only with the keys of its protector."),
    # what a host cannot see
    Rule("guest_iscsi", "unknown", ALL, lambda _c: True, "Disks that the guest itself attaches (iSCSI) cannot be seen from the host."),
    Rule("guest_dynamic_disks", "unknown", QUIESCING, lambda c: c.quiesces and c.guest != "linux",
         "Dynamic (LDM) disks in the guest cannot be seen; their volumes may be crash-consistent only."),
    Rule("guest_fat_volumes", "unknown", QUIESCING, lambda c: c.quiesces and c.guest != "linux",
         "FAT volumes in the guest cannot be seen; VSS does not cover them."),
    Rule("guest_free_space", "unknown", QUIESCING, lambda c: c.quiesces,
         "Free space inside the guest cannot be seen; below 20 % its VSS may fail."),
    Rule("application_without_writer", "unknown", QUIESCING, lambda c: c.quiesces,
         "An application without a VSS writer takes no part; the host cannot tell."),
    Rule("export_fallback_unproven", "unknown", frozenset((EXPORT_APPLICATION,)), lambda c: c.quiesces,
         "Whether this export fails or silently degrades when quiescing fails is not proven."),
)


def base_level(method: str, condition: Condition) -> str:
    """The best level of a method in a state of the VM, before any rule lowers it."""
    if condition.state == "off":
        return IMAGE
    if method in (STANDARD, EXPORT_SAVED):
        return IMAGE
    if method == PRODUCTION and condition.state == "saved":
        return IMAGE
    return "application"


def judge(method: str, condition: Condition) -> Verdict:
    """The verdict on one method."""
    level, reasons = base_level(method, condition), []
    blocked = False
    for rule in RULES:
        if method not in rule.methods or not rule.applies(condition):
            continue
        reasons.append(Reason(rule.code, rule.kind, rule.sentence))
        blocked = blocked or rule.kind == "blocker"
        if rule.level is not None and condition.state != "off":
            level = lower(level, rule.level)
    return Verdict(method, None if blocked else level, tuple(reasons))


def judge_all(condition: Condition) -> tuple[Verdict, ...]:
    """The verdict on every method, in the order of METHODS."""
    return tuple(judge(method, condition) for method in METHODS)


def lower(level: str, cap: str) -> str:
    """The level that remains under a cap. An image is no step of the order: a cap to or from it replaces the level."""
    if cap == IMAGE or level == IMAGE:
        return cap
    return ORDER[min(ORDER.index(level), ORDER.index(cap))]


def reaches(achieved: str, wanted: str) -> bool:
    """True when a copy of level ``achieved`` satisfies ``wanted``.

    An image satisfies *crash* (complete disks of one instant) and *image*, not *application*: applications saw no backup.
    """
    if wanted == IMAGE or achieved == IMAGE:
        return achieved == IMAGE and wanted in (IMAGE, "crash", "inconsistent")
    return ORDER.index(achieved) >= ORDER.index(wanted)
