# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a simulated host is made from: plain data, written in a test or read from a YAML file."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from simulator.cim.model import Account
from simulator.hyperv.spec import HyperVSettings, VmSpec
from simulator.windows.certificates import DEFAULT_AUTHORITY, CertificateSpec
from simulator.windows.programs.base import Speeds
from simulator.windows.scheduler.service import SchedulerSettings
from simulator.windows.shadows import ShadowSettings
from simulator.windows.spec import ShareSpec, VolumeSpec

OS_VERSIONS = ("2012R2", "2016", "2019", "2022", "2025")


@dataclass(frozen=True)
class ListenerSpec:
    """The WinRM listener (wire 6.1): which schemes it offers and what it insists on. The port is chosen by the system unless given."""

    schemes: tuple[str, ...] = ("Negotiate", "Kerberos")
    allow_unencrypted: bool = False
    idle_seconds: float = 120.0
    port: int = 0
    tls_certificate: str | None = None
    """Path of a PEM file; with ``tls_key`` the port speaks HTTPS."""
    tls_key: str | None = None
    tls_client_ca: str | None = None
    """Path of a PEM file: authorities of client certificates."""
    cbt_hardening: str = "Relaxed"


@dataclass(frozen=True)
class Limits:
    """The settings of the WinRM service (wire 2.7); the defaults are those recorded on 2012 R2 and later."""

    max_envelope_kb: int = 500
    max_timeout_ms: int = 60_000
    max_batch_items: int = 32_000
    max_operations_per_user: int = 1500
    max_connections: int = 300
    enumeration_timeout_ms: int = 240_000
    max_packet_retrieval_seconds: int = 120
    allow_remote_shell_access: bool = True
    shell_idle_timeout_ms: int = 7_200_000
    max_shells_per_user: int = 30
    max_processes_per_shell: int = 25
    max_memory_per_shell_mb: int = 1024
    max_concurrent_users: int = 10
    long_line: str = "message"
    """What a command line over 8191 characters does, both observed (wire 10 C15): ``message`` (stderr, exit 1) or ``silent`` (exit 0)."""


@dataclass(frozen=True)
class Quirks:
    """Things a real host may do or not; each is drawn from the host's seed. Wire 1.1, 1.2, 2.2, 5.1, 9.1 items 4 and 11."""

    activity_id: float = 0.25
    """Share of answers that carry an ActivityId header; only 2016 and later."""
    other_case: float = 0.0
    """Share of enumerations whose answers spell the class URI in another letter case."""
    split_batches: bool = True
    """Deliver optimised enumerations in pieces."""
    machine_in_faults: bool = True
    """Fill ``WSManFault/@Machine`` (wire 10 C8)."""
    utc_offset_minutes: int | None = None
    """Write times with this offset in place of ``Z`` (wire 2.5)."""
    refuse_wql_namespaces: tuple[str, ...] = ()
    """Namespaces where this host refuses WQL with CannotProcessFilter (wire 10 C1)."""


@dataclass(frozen=True)
class ClusterSpec:
    """A failover cluster: every simulated node has the same value. ``owners`` maps names of machines to nodes that own them."""

    name: str
    nodes: tuple[str, ...]
    """Short host names, of nodes that need not be simulated."""
    owners: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HostSpec:
    """One Hyper-V host."""

    name: str
    domain: str | None = None
    """DNS domain; None means a workgroup."""
    os_version: str = "2022"
    accounts: tuple[Account, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    vms: tuple[VmSpec, ...] = ()
    shares: tuple[ShareSpec, ...] = ()
    cluster: ClusterSpec | None = None
    hyperv: HyperVSettings = field(default_factory=HyperVSettings)
    locale: str = "en-US"
    listener: ListenerSpec = ListenerSpec()
    limits: Limits = Limits()
    quirks: Quirks = Quirks()
    seed: int = 1
    """Of everything that is drawn: batch sizes, context identifiers, header quirks."""
    start: datetime | None = None
    """The host's time when it starts, aware; None: that of the fleet."""
    shadow_settings: ShadowSettings = field(default_factory=ShadowSettings)
    foreign_shadow_copies: tuple[str, ...] = ()
    """Mount paths of volumes of which another product has a shadow copy when the host starts."""
    speeds: Speeds = field(default_factory=Speeds)
    """How fast programs work in simulated time."""
    guest_writes: Mapping[str, float] = field(default_factory=dict)
    """Name of a machine -> writes per second of its guest, which stamps each block so that copies prove themselves."""
    tasks: SchedulerSettings = field(default_factory=SchedulerSettings)
    """How the Task Scheduler of this host behaves."""
    local_account_token_filter_policy: bool = False
    """The registry value that lets every local administrator keep a full token over the network (wire 6.1)."""
    certificates: tuple[CertificateSpec, ...] = ()
    """In the personal store of the computer."""
    trusted_authorities: tuple[str, ...] = (DEFAULT_AUTHORITY,)
    """Whose certificates the host trusts."""
    firewall_rules: tuple[str, ...] = ()
    """In-box rules that are enabled, by InstanceID."""

    def __post_init__(self) -> None:
        if self.os_version not in OS_VERSIONS:
            raise ValueError(f"os_version is one of {', '.join(OS_VERSIONS)}")

    @property
    def fqdn(self) -> str:
        """``name.domain``, or the name alone in a workgroup."""
        return f"{self.name}.{self.domain}" if self.domain else self.name
