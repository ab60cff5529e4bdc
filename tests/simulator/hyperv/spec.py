# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a virtual machine of a simulated host looks like before the host starts: plain descriptions, no behaviour.

The defaults of :class:`VmSpec` describe a healthy running Windows guest with one dynamic VHDX. Everything else is said by
naming the difference. Sizes are bytes unless the field says otherwise, paths are Windows paths of the host.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

MIB = 1024 * 1024
GIB = 1024 * MIB

VmState = Literal["running", "off", "saved", "paused", "starting", "stopping", "saving", "pausing", "resuming", "critical"]
"""Power states (operations 0.5). ``critical``: the configuration storage is not reachable, EnabledState 1 (other)."""

Health = Literal["ok", "storage_full", "storage_low", "configuration_offline"]
"""``storage_full``: a volume ran out of space and the machine was paused, HealthState 20. ``storage_low``: OperationalStatus 5.
``configuration_offline``: HealthState 25, OperationalStatus 3; such a machine has an empty summary entry."""

CheckpointPolicy = Literal["disabled", "production", "production_only", "standard"]
"""UserSnapshotType 2, 3, 4, 5 (operations 1.2); the property does not exist before 2016."""

CheckpointKind = Literal[
    "standard", "production", "recovery", "replica", "replica_application", "replica_planned", "planned", "missing",
]
"""``standard`` and ``production`` share the type ``Microsoft:Hyper-V:Snapshot:Realized`` (operations 2.1)."""

Busy = Literal["creating_checkpoint", "applying_checkpoint", "deleting_checkpoint", "waiting", "merging", "exporting", "migrating",
               "backup"]
"""Something that runs on the machine. All but ``backup`` show as OperationalStatus[1]; all have a running job."""

IntegrationStatus = Literal["ok", "degraded", "incompatible", "no_contact", "lost", "paused"]
"""OperationalStatus[0] of a live component: 2, 3, 7, 12, 13, 15 (operations 1.3)."""


@dataclass(frozen=True)
class ComponentSpec:
    """One integration service: what the host has configured and what the guest answers while it runs."""

    enabled: bool = True
    status: IntegrationStatus = "ok"


@dataclass(frozen=True)
class IntegrationSpec:
    """The integration services of one machine."""

    heartbeat: ComponentSpec = ComponentSpec()
    vss: ComponentSpec = ComponentSpec()
    kvp: ComponentSpec = ComponentSpec()
    shutdown: ComponentSpec = ComponentSpec()
    version_state: int = 1
    """IntegrationServicesVersionState: 0 unknown, 1 up to date, 2 mismatch."""

    @classmethod
    def none(cls) -> IntegrationSpec:
        """A guest without any integration service: every component enabled on the host, none ever contacted."""
        silent = ComponentSpec(status="no_contact")
        return cls(silent, silent, silent, silent, version_state=0)


@dataclass(frozen=True)
class GuestSpec:
    """What the guest tells through KVP exchange."""

    os_name: str = "Windows Server 2022 Standard"
    os_version: str = "10.0.20348"
    integration_version: str = "10.0.20348"
    fqdn: str | None = None
    """None = the name of the machine when that is a legal host name, else ``guest``."""
    items: Mapping[str, str] = field(default_factory=dict)
    """Further intrinsic items, or other values for the ones above."""
    addresses: tuple[str, ...] = ("192.0.2.10",)

    @classmethod
    def linux(cls) -> GuestSpec:
        """A Linux distribution with its KVP daemon."""
        return cls(os_name="Ubuntu", os_version="6.8.0-31-generic", integration_version="6.8.0")


@dataclass(frozen=True)
class DiskSpec:
    """One attached disk: a virtual hard disk with its chain, a pass-through disk, or an optical image.

    The files of checkpoints are not said here: every checkpoint of the machine adds one ``.avhdx`` to each virtual hard disk.
    """

    path: str | None = None
    """The base file. None = ``<machine folder>\\Virtual Hard Disks\\<machine>[-n].vhdx``. UNC, CSV and mount-point paths are fine."""
    size: int = 128 * MIB
    """Virtual size."""
    kind: Literal["dynamic", "fixed", "differencing"] = "dynamic"
    """Of the base file. ``differencing``: the base itself hangs on ``parent`` (a template shared by several machines)."""
    parent: str | None = None
    parent_size: int | None = None
    """Virtual size of ``parent``; None = ``size``."""
    block_size: int = MIB
    disk_id: str | None = None
    """VirtualDiskId; None = derived from the path. Two disks may share one: copies made by copying files do."""
    orphans: int = 0
    """``.avhdx`` levels on top of the chain that no checkpoint explains (a merge that never happened)."""
    controller: Literal["ide", "scsi"] | None = None
    """None = IDE for the first disk of generation 1, else SCSI."""
    medium: Literal["vhd", "passthrough", "dvd", "empty_dvd", "floppy", "pmem"] = "vhd"
    """``path`` is the image of ``dvd`` and ``floppy``; a pass-through disk has ``disk_number``."""
    disk_number: int = 2
    shared: bool = False
    """PersistentReservationsSupported; a path that ends in ``.vhds`` is a VHD Set."""
    content: bytes = b""
    """First bytes of the virtual disk, written when the file is made."""
    exists: bool = True
    """False: the configuration names a file that is not there."""


@dataclass(frozen=True)
class CheckpointSpec:
    """One checkpoint. ``key`` is how other fields of the same machine refer to it."""

    key: str
    name: str | None = None
    """ElementName; None = ``<machine> - (<date> - <time>)``, or ``<machine> - Backup - (...)`` for a recovery checkpoint."""
    kind: CheckpointKind = "production"
    parent: str | None = None
    """``key`` of the parent checkpoint; None = a root of the tree."""
    age_hours: float = 24.0
    notes: str = ""
    automatic: bool = False
    saved: bool | None = None
    """IsSaved; None = True for a standard checkpoint, else False."""
    checkpoint_id: str | None = None
    """None = derived from the machine and ``key``."""


@dataclass(frozen=True)
class RelationSpec:
    """One replication relation of a machine (operations 7.1): index 0 is the primary relation, 1 the extended one."""

    state: int = 3
    health: int = 1
    provider: str = "22391CDC-272C-4DDF-BA88-9BEFB1A0975C"
    minutes_since: float = 4.0
    """Minutes since LastReplicationTime."""
    application_hours_since: float | None = None
    """Hours since LastApplicationConsistentReplicationTime; None = never."""
    connection_point: str = "replica.example.test"
    primary_point: str = "primary.example.test"
    interval_seconds: int = 300
    history: int = 0


@dataclass(frozen=True)
class ReferencePointSpec:
    """A change-tracking mark, ours or another product's (2016 and later, operations 4.1)."""

    key: str
    consistency: Literal[1, 2] = 1
    point_id: str | None = None


@dataclass(frozen=True)
class NicSpec:
    """A network adapter. ``switch`` None = not connected."""

    name: str = "Network Adapter"
    switch: str | None = "LAN"
    mac: str | None = None
    """Twelve hexadecimal digits; None = derived. A value makes it static."""
    known_switch: str = ""
    """LastKnownSwitchName of an adapter that is not connected."""
    connection: bool = True
    """False: the settings of the connection were removed."""
    removed: bool = False
    """The adapter was removed; it keeps its place, so that the others keep their identifiers."""


@dataclass(frozen=True)
class VmSpec:
    """One virtual machine, or a planned one left behind by an import."""

    name: str = "vm"
    """ElementName: any text, not unique."""
    vm_id: str | None = None
    """GUID; None = derived from host, name and position. A machine and its replica on another host share it."""
    generation: Literal[1, 2] = 2
    version: str | None = None
    """Configuration version; None = the default of the host's release (operations 0.6)."""
    state: VmState = "running"
    health: Health = "ok"
    notes: str = ""
    processors: int = 2
    memory_mb: int = 2048
    dynamic_memory: bool = False
    uptime_hours: float = 72.0
    created_days_ago: float = 90.0
    last_backup_hours_ago: float | None = None
    policy: CheckpointPolicy = "production"
    automatic_checkpoints: bool = False
    incremental_backup: bool = False
    folder: str | None = None
    """ConfigurationDataRoot; None = ``<data root of the host>\\<machine id>``."""
    snapshot_folder: str | None = None
    """SnapshotDataRoot; None = ``folder``."""
    disks: tuple[DiskSpec, ...] = (DiskSpec(),)
    nics: tuple[NicSpec, ...] = (NicSpec(),)
    fibre_channel_ports: int = 0
    guest: GuestSpec | None = GuestSpec()
    """None = a guest that tells nothing."""
    integration: IntegrationSpec = IntegrationSpec()
    checkpoints: tuple[CheckpointSpec, ...] = ()
    current_parent: str | None = None
    """``key`` of the checkpoint the running state grows from; None = the last one."""
    last_applied: str | None = None
    """``key`` of the checkpoint applied last."""
    replication_mode: Literal[0, 1, 2, 3, 4] = 0
    relations: tuple[RelationSpec, ...] = ()
    """Empty with a ``replication_mode`` = one healthy relation."""
    reference_points: tuple[ReferencePointSpec, ...] = ()
    clustered: bool = False
    tpm: bool = False
    shielded: bool = False
    planned: bool = False
    busy: Busy | None = None
    busy_percent: int = 40
    busy_minutes: float | None = None
    """How long the running job still takes; None = it never ends by itself."""
    busy_owner: str = "NT AUTHORITY\\SYSTEM"
    merge_paused: bool = False

    def __post_init__(self) -> None:
        """Refuse what no host can hold."""
        keys = [c.key for c in self.checkpoints]
        if len(set(keys)) != len(keys):
            raise ValueError(f"machine {self.name!r}: two checkpoints with one key")
        seen: set[str] = set()
        for checkpoint in self.checkpoints:
            if checkpoint.parent is not None and checkpoint.parent not in seen:
                raise ValueError(f"machine {self.name!r}: checkpoint {checkpoint.key!r} comes before its parent {checkpoint.parent!r}")
            seen.add(checkpoint.key)
        for reference in (self.current_parent, self.last_applied):
            if reference is not None and reference not in seen:
                raise ValueError(f"machine {self.name!r}: no checkpoint {reference!r}")


@dataclass(frozen=True)
class AuthorizationSpec:
    """From whom a replica server takes machines, and where it puts them (operations 7.2)."""

    primary: str = "*"
    """FQDN, ``*.domain`` or ``*``."""
    storage: str = "D:\\Replica"
    trust_group: str = "DEFAULT"


@dataclass(frozen=True)
class ReplicatedSpec:
    """A machine of the host that replicates to another host of the fleet when it starts; its disks are there already."""

    vm: str
    """Name of the machine."""
    server: str
    """FQDN of a host of the fleet that accepts it."""
    port: int = 80
    authentication: Literal[1, 2] = 1
    certificate: str | None = None
    """``key`` of a certificate of this host, for authentication 2."""
    interval: Literal[30, 300, 900] = 300
    history: int = 0
    application_interval: int = 0


@dataclass(frozen=True)
class ReplicaServerSpec:
    """The host as a replica server, and as a primary."""

    enabled: bool = False
    authentication: Literal[0, 1, 2, 3] = 0
    """1 Kerberos, 2 certificates, 3 both."""
    http_port: int = 80
    https_port: int = 443
    certificate: str | None = None
    """``key`` of a certificate of the host."""
    authorizations: tuple[AuthorizationSpec, ...] = ()
    ports_taken: tuple[int, ...] = ()
    """TCP ports that another program listens on."""
    replicated: tuple[ReplicatedSpec, ...] = ()


@dataclass(frozen=True)
class HyperVSettings:
    """Host-wide settings of the Hyper-V role."""

    data_root: str = "C:\\ProgramData\\Microsoft\\Windows\\Hyper-V"
    """Where machines without a ``folder`` live."""
    disk_root: str | None = None
    """Where disks without a ``path`` live; None = ``<machine folder>\\Virtual Hard Disks``."""
    switches: tuple[str, ...] = ()
    """Virtual switches; those that the machines of the description name are there as well."""
    memory_mb: int | None = None
    """Memory for virtual machines; None = never too little."""
    processors: int | None = None
    """Logical processors; None = never too few."""
    shared_disks_locked: bool = False
    """ValidateVirtualHardDisk answers with a sharing violation for the chain of a running machine (operations 0.9)."""
    replica: ReplicaServerSpec = ReplicaServerSpec()
