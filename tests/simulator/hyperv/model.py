# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live state of virtual machines: what was described by a spec and has changed since.

Nothing here knows CIM; the providers read this model and the methods change it.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from simulator.cim.model import CimValue
from simulator.hyperv import ids
from simulator.hyperv.replica.state import Inbound, RelationSettings, Statistics
from simulator.hyperv.spec import MIB, CheckpointKind, ComponentSpec, DiskSpec, ReferencePointSpec, RelationSpec, VmSpec
from simulator.hyperv.texts import default_name

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

KIND_FIXED, KIND_DYNAMIC, KIND_DIFFERENCING = 2, 3, 4
FORMAT_VHD, FORMAT_VHDX, FORMAT_VHDSET = 2, 3, 4

_KINDS = {"fixed": KIND_FIXED, "dynamic": KIND_DYNAMIC, "differencing": KIND_DIFFERENCING}

ENABLED_STATES = {"running": 2, "off": 3, "stopping": 4, "saved": 6, "paused": 9, "starting": 10,
                  "saving": 1, "pausing": 1, "resuming": 1, "critical": 1}
OTHER_STATES = {"saving": "Saving", "pausing": "Pausing", "resuming": "Resuming", "critical": "RunningCritical"}
LIVE_STATES = frozenset({"running", "paused", "saving", "pausing", "resuming", "stopping"})
"""States with a worker process whose devices can be seen."""

BUSY_STATUS = {"creating_checkpoint": 32768, "applying_checkpoint": 32769, "deleting_checkpoint": 32770, "waiting": 32771,
               "merging": 32772, "exporting": 32773, "migrating": 32774}
BUSY_JOBS = {"creating_checkpoint": 70, "applying_checkpoint": 71, "deleting_checkpoint": 72, "waiting": 11, "merging": 50,
             "exporting": 62, "backup": 170}
"""JobType of the running job; a migration has a job of a class that is not served."""

POLICIES = {"disabled": 2, "production": 3, "production_only": 4, "standard": 5}

SMALL_STATE = 4 * MIB
"""Bytes of the saved state of machines and checkpoints that a description brought along: what it really was is not said."""

CONFIG_VERSIONS = {"2012R2": "5.0", "2016": "8.0", "2019": "9.0", "2022": "10.0", "2025": "12.0"}


@dataclass
class VhdFile:
    """One virtual disk file of the host. ``made`` turns true when real bytes exist."""

    path: str
    kind: int
    format: int
    size: int
    block_size: int
    disk_id: str
    parent: VhdFile | None = None
    content: bytes = b""
    exists: bool = True
    made: bool = False

    def chain(self) -> list[VhdFile]:
        """This file and its parents, leaf first."""
        found: list[VhdFile] = []
        here: VhdFile | None = self
        while here is not None:
            found.append(here)
            here = here.parent
        return found


@dataclass
class Disk:
    """One drive of a machine with what is in it."""

    spec: DiskSpec
    index: int
    controller: str
    """``ide`` or ``scsi``."""
    bus: int
    location: int
    base: VhdFile | None
    leaf: VhdFile | None
    """The file of the running state; with checkpoints an ``.avhdx``."""

    @property
    def medium(self) -> str:
        """As in :class:`DiskSpec`."""
        return self.spec.medium


@dataclass(frozen=True)
class Captured:
    """How a machine was configured when a checkpoint was made; applying it brings this back (operations 2.5)."""

    spec: VmSpec
    policy: int
    automatic_checkpoints: bool
    incremental_backup: bool


@dataclass
class Checkpoint:
    """One checkpoint of a machine and the files that were frozen for it."""

    id: str
    key: str
    name: str
    kind: CheckpointKind
    created: datetime
    parent: Checkpoint | None
    notes: str
    automatic: bool
    saved: bool
    captured: Captured
    files: dict[int, VhdFile] = field(default_factory=dict)
    """Disk index -> the file the checkpoint reads."""
    disks: list[Disk] = field(default_factory=list)
    """The drives the machine had."""
    state_bytes: int = SMALL_STATE
    """Bytes of the saved state, when there is one."""
    phase: int = 0
    """Where a guest that was saved with its memory was in its write."""
    skipped: tuple[int, ...] = ()
    """Indexes of drives that are not in it."""
    guest_backup: int = 0
    """GuestBackupType it was made with."""


@dataclass
class Relation:
    """One replication relation of a machine."""

    index: int
    spec: RelationSpec
    state: int
    health: int
    last_time: datetime | None
    last_application_time: datetime | None
    settings: RelationSettings
    statistics: Statistics
    last_type: int = 1
    last_apply: datetime | None = None
    failed_over: int = 0
    """FailedOverReplicationType."""
    live: bool = False
    """It was made by the host and is worked on; otherwise it is a description that stands still."""
    inbound: Inbound | None = None
    """On the receiving side."""
    reason: tuple[int, str] | None = None
    """What went wrong last: HRESULT and text."""


@dataclass(frozen=True)
class Configuration:
    """One set of settings: of the machine as it is (``checkpoint`` None), or of one checkpoint."""

    machine: Machine
    checkpoint: Checkpoint | None

    @property
    def id(self) -> str:
        """The GUID in the InstanceID of everything that belongs to it."""
        return self.checkpoint.id if self.checkpoint else self.machine.id

    @property
    def instance_id(self) -> str:
        """InstanceID of its Msvm_VirtualSystemSettingData."""
        return ids.settings_id(self.id)

    @property
    def spec(self) -> VmSpec:
        """The hardware it describes."""
        return self.checkpoint.captured.spec if self.checkpoint else self.machine.spec

    @property
    def disks(self) -> list[Disk]:
        """Its drives."""
        running = self.machine.disks  # building them is what gives the checkpoints theirs
        return self.checkpoint.disks if self.checkpoint else running

    def file_of(self, disk: Disk) -> VhdFile | None:
        """The virtual disk file this configuration names for a drive."""
        return self.checkpoint.files.get(disk.index) if self.checkpoint else disk.leaf


class Machine:
    """One virtual machine (or planned one)."""

    def __init__(self, role: HyperV, spec: VmSpec, machine_id: str) -> None:
        now = role.started
        self.role = role
        self.spec = spec
        self.id = machine_id
        self.hardware_id = machine_id
        """What the GUIDs of its devices are derived from; an imported machine keeps that of the one it was exported from."""
        self.name = spec.name
        self.notes = spec.notes
        self.state: str = spec.state
        self.health: str = spec.health
        self.policy = POLICIES[spec.policy]
        self.automatic_checkpoints = spec.automatic_checkpoints
        self.incremental_backup = spec.incremental_backup
        self.version = spec.version or CONFIG_VERSIONS[role.os_version]
        self.created = now - timedelta(days=spec.created_days_ago)
        self.booted = now - timedelta(hours=spec.uptime_hours)
        self.state_changed = self.booted if spec.state == "running" else now - timedelta(hours=1)
        self.config_changed = self.created
        self.busy: str | None = spec.busy
        self.planned = spec.planned
        self.replication_mode: int = spec.replication_mode
        self.last_backup = None if spec.last_backup_hours_ago is None else now - timedelta(hours=spec.last_backup_hours_ago)
        self.components: dict[str, ComponentSpec] = {}
        """Integration services that differ from the spec by now."""
        self.reference_points: list[ReferencePointSpec] = list(spec.reference_points)
        self.merge_paused = spec.merge_paused
        self.failover_addresses: dict[str, dict[str, CimValue]] = {}
        """What adapters get after a failover, by the InstanceID of those settings."""
        self.pins: dict[str, dict[int, VhdFile]] = {}
        """Files that somebody else hangs on: whose -> index of a drive -> file."""
        self.state_bytes = SMALL_STATE
        """Bytes of its saved state while it is saved."""
        self._folder: str | None = None
        self._snapshot_folder = spec.snapshot_folder
        self.roots: dict[str, str] = {}
        """Further folders that differ from ConfigurationDataRoot, by property."""
        self.phase = 0
        """Of an imported machine: where its guest was in its write when its memory was saved."""
        self.key_host = role.name
        """The host that holds the keys of its virtual TPM."""
        self.imported_as = machine_id
        """The GUID that an imported machine had."""
        self.imported_checkpoints: dict[str, str] = {}
        """The GUIDs of its checkpoints by those they had."""
        self.companions: tuple[str, ...] = ()
        """Of a planned machine: files beside its definition without which it is not whole."""
        self.answers_from = now
        """Until then the guest boots, and nothing in it answers."""

    # -- places ----------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> str:
        """ConfigurationDataRoot."""
        return self._folder or self.spec.folder or f"{self.role.settings.data_root}\\{self.id}"

    @folder.setter
    def folder(self, path: str) -> None:
        self._folder = path

    @property
    def snapshot_folder(self) -> str:
        """SnapshotDataRoot."""
        return self._snapshot_folder or self.folder

    @snapshot_folder.setter
    def snapshot_folder(self, path: str) -> None:
        self._snapshot_folder = path

    @cached_property
    def relations(self) -> list[Relation]:
        """The replication relations: none, the primary one, or that and the extended one."""
        specs = self.spec.relations or ((RelationSpec(),) if self.replication_mode in (1, 2, 4) else ())
        now = self.role.started
        return [self._described(index, spec, now) for index, spec in enumerate(specs)]

    def _described(self, index: int, spec: RelationSpec, now: datetime) -> Relation:
        application = None if spec.application_hours_since is None else now - timedelta(hours=spec.application_hours_since)
        settings = RelationSettings(
            recovery_point=spec.connection_point, recovery_host=spec.connection_point, primary_point=spec.primary_point,
            primary_host=spec.primary_point, port=80, interval=spec.interval_seconds, history=spec.history, provider=spec.provider,
            included=tuple(number for number, disk in enumerate(self.spec.disks) if disk.medium == "vhd"))
        last = now - timedelta(minutes=spec.minutes_since)
        return Relation(index, spec, spec.state, spec.health, last, application, settings, Statistics(now),
                        last_apply=last if self.replication_mode in (2, 4) else None)

    @cached_property
    def serials(self) -> dict[str, str]:
        """The identifiers of the virtual hardware, by the name of their property."""
        names = ("BIOSSerialNumber", "BaseBoardSerialNumber", "ChassisSerialNumber", "ChassisAssetTag")
        return {name: _serial(self.id, name) for name in names} | {"BIOSGUID": f"{{{ids.derive(self.id, 'bios')}}}"}

    # -- disks and checkpoints -------------------------------------------------------------------------------------

    @cached_property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """All checkpoints by id, parents before children. Building them also builds the chains of the disks."""
        found: dict[str, Checkpoint] = {}
        by_key: dict[str, Checkpoint] = {}
        for spec in self.spec.checkpoints:
            created = self.role.started - timedelta(hours=spec.age_hours)
            name = default_name(self.spec.name, spec.kind, created, self.role.locale) if spec.name is None else spec.name[:100]
            saved = spec.kind == "standard" if spec.saved is None else spec.saved
            checkpoint = Checkpoint((spec.checkpoint_id or ids.derive(self.id, "checkpoint", spec.key)).upper(), spec.key, name,
                                    spec.kind, created, by_key.get(spec.parent or ""), spec.notes, spec.automatic, saved,
                                    self._captured_by_spec())
            by_key[spec.key] = found[checkpoint.id] = checkpoint
        return found

    def _captured_by_spec(self) -> Captured:
        return Captured(self.spec, POLICIES[self.spec.policy], self.spec.automatic_checkpoints, self.spec.incremental_backup)

    def capture(self) -> Captured:
        """The configuration as it is now."""
        return Captured(self.spec, self.policy, self.automatic_checkpoints, self.incremental_backup)

    def checkpoint_by_key(self, key: str | None) -> Checkpoint | None:
        """The checkpoint that a spec named ``key``."""
        return next((c for c in self.checkpoints.values() if c.key == key), None)

    @cached_property
    def current_parent(self) -> Checkpoint | None:
        """The checkpoint the present state grows from (operations 2.4)."""
        if not self.spec.checkpoints:
            return None
        return self.checkpoint_by_key(self.spec.current_parent or self.spec.checkpoints[-1].key)

    @cached_property
    def last_applied(self) -> Checkpoint | None:
        """The checkpoint applied last, if any."""
        return self.checkpoint_by_key(self.spec.last_applied)

    @cached_property
    def disks(self) -> list[Disk]:
        """The drives in order, their chains built."""
        places = {"ide": 0, "scsi": 0}
        found = []
        for index, spec in enumerate(self.spec.disks):
            emulated = self.spec.generation == 1 and (index == 0 or spec.medium in ("dvd", "empty_dvd"))
            bus = spec.controller or ("ide" if emulated else "scsi")
            place = places[bus]
            places[bus] += 1
            base = self.base_file(index, spec) if spec.medium in ("vhd", "pmem") else None
            per_bus = 2 if bus == "ide" else 64
            disk = Disk(spec, index, bus, place // per_bus, place % per_bus, base, base)
            if base is not None and spec.medium == "vhd":
                self._grow_chain(disk, base)
            found.append(disk)
        for checkpoint in self.checkpoints.values():
            checkpoint.disks = list(found)
        return found

    def base_file(self, index: int, spec: DiskSpec) -> VhdFile:
        """The file a drive is made with, known to the host from now on."""
        path = spec.path
        if path is None:
            stem = self.spec.name if _is_file_name(self.spec.name) else self.id
            root = self.role.settings.disk_root or f"{self.folder}\\Virtual Hard Disks"
            path = f"{root}\\{stem}{f'-{index}' if index else ''}.vhdx"
        parent = None
        kind = KIND_DIFFERENCING if spec.parent else _KINDS[spec.kind]
        if spec.parent:
            size = spec.parent_size or spec.size
            parent = VhdFile(spec.parent, KIND_DYNAMIC, format_of(spec.parent), size, spec.block_size, ids.derive(spec.parent.lower()))
            parent = self.role.register_file(parent)
        disk_id = (spec.disk_id or ids.derive(self.role.name, path.lower())).upper()
        file = VhdFile(path, kind, format_of(path), spec.size, spec.block_size, disk_id, parent, spec.content, spec.exists)
        return self.role.register_file(file)

    def _grow_chain(self, disk: Disk, base: VhdFile) -> None:
        for checkpoint in self.checkpoints.values():
            if checkpoint.kind in ("missing", "planned"):
                continue
            frozen = base
            if checkpoint.parent is not None and disk.index in checkpoint.parent.files:
                frozen = self._child(checkpoint.parent.files[disk.index], base, checkpoint.id)
            checkpoint.files[disk.index] = frozen
        leaf = base
        parent = self.current_parent
        if parent is not None and disk.index in parent.files:
            leaf = self._child(parent.files[disk.index], base, "current")
        for level in range(disk.spec.orphans):
            leaf = self._child(leaf, base, f"orphan-{level}")
        disk.leaf = leaf

    def _child(self, parent: VhdFile, base: VhdFile, mark: str) -> VhdFile:
        stem, _unused, extension = base.path.rpartition(".")
        suffix = "avhd" if extension.lower() == "vhd" else "avhdx"
        path = f"{stem}_{ids.derive(self.id, base.path, mark)}.{suffix}"
        return self.role.register_file(
            VhdFile(path, KIND_DIFFERENCING, base.format, base.size, base.block_size, base.disk_id, parent, exists=base.exists))

    def replication_health(self, relation: Relation | None) -> int:
        """ReplicationHealth of a relation of this machine, 0 without one."""
        from simulator.hyperv.replica.health import health

        return 0 if relation is None else health(self.role, relation)

    # -- views -----------------------------------------------------------------------------------------------------

    @property
    def ref_class(self) -> str:
        """The class of the machine's own instance."""
        return "Msvm_PlannedComputerSystem" if self.planned else "Msvm_ComputerSystem"

    def configurations(self) -> list[Configuration]:
        """The machine's own settings first, then one for each checkpoint."""
        own = Configuration(self, None)
        if not self.spec.checkpoints and not self.checkpoints:
            return [own]
        return [own, *(Configuration(self, c) for c in self.checkpoints.values())]

    @property
    def live(self) -> bool:
        """True while the integration components can be seen (operations 1.3 a)."""
        return self.state in LIVE_STATES and not self.planned

    @property
    def saved_bytes(self) -> int:
        """Bytes of the memory as it would be saved now, or as it is saved."""
        return self.spec.memory_mb * MIB if self.live else self.state_bytes

    @property
    def available(self) -> bool:
        """False when the configuration storage is not reachable."""
        return self.health != "configuration_offline" and self.state != "critical"

    def uptime(self, now: datetime) -> timedelta:
        """How long the guest has been running; zero when it does not."""
        if self.state not in ("running", "paused", "pausing", "resuming", "stopping"):
            return timedelta(0)
        return max(timedelta(0), now - self.booted)

    def set_state(self, state: str, now: datetime) -> None:
        """A change of the power state."""
        if state == "running" and self.state in ("off", "starting"):
            self.booted = now
        self.state = state
        self.state_changed = now

    @property
    def operational_status(self) -> list[int]:
        """OperationalStatus (operations 0.5)."""
        if not self.available:
            first = 3
        elif self.health in ("storage_full", "storage_low"):
            first = 5
        else:
            first = 2
        second = BUSY_STATUS.get(self.busy or "")
        return [first] if second is None else [first, second]

    @property
    def health_state(self) -> int:
        """HealthState (operations 0.5)."""
        if not self.available:
            return 25
        return 20 if self.health == "storage_full" else 5

    def vhd_files(self) -> list[VhdFile]:
        """Every virtual disk file of the running state, chains included."""
        return [f for disk in self.disks if disk.leaf for f in disk.leaf.chain()]


def format_of(path: str) -> int:
    """2 VHD, 3 VHDX, 4 VHD Set, from the extension."""
    lowered = path.lower()
    if lowered.endswith((".vhd", ".avhd")):
        return FORMAT_VHD
    return FORMAT_VHDSET if lowered.endswith(".vhds") else FORMAT_VHDX


def _is_file_name(text: str) -> bool:
    return bool(text) and len(text) <= 64 and not any(c in '<>:"/\\|?*' or ord(c) < 32 for c in text) and text[-1] not in " ."


def _serial(machine_id: str, part: str) -> str:
    """Seven groups of digits, the form of a machine's serial numbers."""
    digits = str(int(ids.derive(machine_id, part).replace("-", ""), 16))[:26].rjust(26, "0")
    return "-".join([*(digits[i:i + 4] for i in range(0, 24, 4)), digits[24:]])
