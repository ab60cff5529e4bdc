# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One simulated host: its parts, put together from a spec."""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

from simulator.cim.model import Caller
from simulator.cim.repository import Repository
from simulator.cim.schema import Schema
from simulator.clock import SimClock
from simulator.directory import AccountDirectory, is_administrator
from simulator.disks.guest import Guest
from simulator.hyperv.cluster import Cluster
from simulator.hyperv.guests import pull_the_plug
from simulator.hyperv.ids import V2
from simulator.hyperv.registration import register as register_hyperv
from simulator.hyperv.replica.network import ReplicaNetwork
from simulator.hyperv.replica.scenario import establish
from simulator.hyperv.replica.state import RelationSettings
from simulator.hyperv.role import HyperV
from simulator.hyperv.spec import MIB
from simulator.hyperv.writer import HyperVWriter
from simulator.net.contract import ListenerSettings, TlsFiles
from simulator.net.server import WinrmListener
from simulator.soap.counters import Counters
from simulator.soap.rules import FaultRules
from simulator.soap.service import WsmanService
from simulator.spec import HostSpec, Limits, ListenerSpec
from simulator.windows.certificates import CertificateStore
from simulator.windows.cimv2.registration import register as register_cimv2
from simulator.windows.cimv2.system import Service
from simulator.windows.files import FileSystem, Network
from simulator.windows.firewall import Firewall
from simulator.windows.firewall import register as register_firewall
from simulator.windows.identity import token_for
from simulator.windows.planting import FilesAs
from simulator.windows.processes import ProcessHost
from simulator.windows.programs.base import HostFacts
from simulator.windows.scheduler.cim import register as register_tasks
from simulator.windows.scheduler.service import TaskService
from simulator.windows.shadows import ShadowService
from simulator.windows.smb import SmbLogon
from simulator.windows.spec import VolumeSpec
from simulator.windows.volumes import Backing
from simulator.windows.vss import VssService

CHANGES_KEPT = 1000


@dataclass
class Surroundings:
    """What the hosts of one fleet share."""

    schema: Schema = field(default_factory=Schema.load)
    network: Network = field(default_factory=Network)
    replica: ReplicaNetwork = field(default_factory=ReplicaNetwork)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    """By name in lower case."""
    shared_volumes: dict[tuple[str, str], Backing] = field(default_factory=dict)
    """The CSVs of clusters by cluster and mount path, both in lower case."""

    def cluster_of(self, spec: HostSpec) -> Cluster | None:
        """The cluster that a host is a node of; made when its first node is."""
        if spec.cluster is None:
            return None
        return self.clusters.setdefault(spec.cluster.name.lower(), Cluster(spec.cluster, spec.domain))


class SimHost:
    """A Hyper-V host. All of it belongs to one thread: that of its fleet's loop, or the test's when there is no fleet."""

    def __init__(self, spec: HostSpec, root: Path, clock: SimClock, surroundings: Surroundings) -> None:
        self.spec = spec
        self.root = root
        self.clock = clock
        self.name = spec.name
        self.fqdn = spec.fqdn
        self.domain = spec.domain
        self.os_version = spec.os_version
        self.locale = spec.locale
        self.settings: Limits = spec.limits
        self.accounts = AccountDirectory(spec.name, spec.accounts, token_filter_policy=spec.local_account_token_filter_policy)
        self.counters = Counters()
        self.rules = FaultRules()
        self.changes = 0
        self.recent_changes: deque[str] = deque(maxlen=CHANGES_KEPT)
        self.bugs: list[BaseException] = []
        self.facts = HostFacts(spec.name, spec.domain, spec.os_version, spec.locale, cluster=spec.cluster is not None)
        if spec.hyperv.memory_mb is not None:
            self.facts = replace(self.facts, memory_bytes=spec.hyperv.memory_mb * MIB)
        self.repository = Repository(surroundings.schema, spec.os_version)
        self.files = FileSystem(root / "volumes", clock, self.note_change, machine=spec.name, domain=spec.domain,
                                network=surroundings.network)
        self.files.gatekeeper = SmbLogon(self.accounts, spec.domain)
        self.processes = ProcessHost(self.files, clock, self.facts, speeds=spec.speeds)
        self.shadows = ShadowService(self.files, clock, root / "shadows", self.note_change, spec.shadow_settings)
        self.processes.unseen = self.bugs.append
        self.tasks = TaskService(self.processes, self.accounts, self.note_change, spec.tasks)
        self.guests: dict[str, Guest] = {}
        """Writing guests by the GUID of their machine."""
        self.services: dict[str, Service] = {}
        """By name in lower case."""
        self.certificates = CertificateStore(spec.fqdn, clock.now(), spec.certificates, spec.trusted_authorities)
        self.firewall = Firewall(spec.locale, self.note_change, spec.firewall_rules)
        self.processes.firewall = self.firewall
        self.hyperv = HyperV(self, spec.hyperv, surroundings.cluster_of(spec), surroundings.replica)
        self.hyperv.guests = self.guests
        self.processes.free_memory = self.hyperv.free_memory
        self.vss = VssService(self.shadows)
        self.writer = HyperVWriter(self.hyperv, self.vss, self.guests)
        self.vss.writers.append(self.writer)
        self.processes.vss = self.vss
        self.service = WsmanService(self, self.processes)

    @classmethod
    def create(cls, spec: HostSpec, root: Path, clock: SimClock, surroundings: Surroundings | None = None) -> SimHost:
        """A host with the volumes, shares and machines of its spec; ``root`` is a folder of its own."""
        root.mkdir(parents=True, exist_ok=True)
        around = surroundings or Surroundings()
        host = cls(spec, root, clock, around)
        for volume in spec.volumes:
            host.add_volume(volume, around)
        for share in spec.shares:
            host.files.add_share(share)
        for machine in spec.vms:
            host.hyperv.add_vm(machine)
        host.serve()
        for mount_path in spec.foreign_shadow_copies:
            host.shadows.add_foreign(mount_path)
        for name, writes in spec.guest_writes.items():
            host.start_guest(name, writes)
        host.changes = 0
        host.recent_changes.clear()
        return host

    def add_volume(self, spec: VolumeSpec, surroundings: Surroundings) -> None:
        """Mount a volume; a CSV has one content for all nodes of its cluster."""
        if spec.filesystem != "CSVFS" or self.spec.cluster is None:
            self.files.add_volume(spec)
            return
        key = self.spec.cluster.name.lower(), spec.mount_path.lower()
        volume = self.files.add_volume(spec, surroundings.shared_volumes.get(key))
        surroundings.shared_volumes.setdefault(key, volume.backing)

    def note_change(self, what: str) -> None:
        """Something changed the state of the host; the request that does it counts as writing."""
        self.changes += 1
        self.recent_changes.append(what)

    def replicate(self) -> None:
        """Begin the relations of the description, when all hosts of the fleet are there. Unreachable: a server does not accept one."""
        for one in self.spec.hyperv.replica.replicated:
            thumbprint = self.certificates.by_key(one.certificate).thumbprint if one.certificate else ""
            establish(self.hyperv, one.vm, RelationSettings(
                recovery_point=one.server, port=one.port, authentication=one.authentication, thumbprint=thumbprint,
                interval=one.interval, history=one.history, application_interval=one.application_interval))
        self.changes = 0
        self.recent_changes.clear()

    def settle(self) -> None:
        """Let everything happen that is due by now, also on hosts that replicate and have a clock of their own."""
        self.clock.settle()
        self.hyperv.replica.network.settle(self.clock)

    def serve(self) -> None:
        """Register every class that the host has."""
        register_hyperv(self.hyperv)
        self.services = register_cimv2(self.repository, self.processes, self.shadows)
        register_tasks(self.repository, self.tasks)
        register_firewall(self.repository, self.firewall)
        self.services["vmms"].listeners.append(self._vmms_changed)
        self.guard_namespaces()

    def files_as(self, user: str, domain: str | None = None, *, elevated: bool = False) -> FilesAs:
        """The files as one of the host's accounts, logged on at its console. KeyError: no such account."""
        account = self.accounts.account(user, domain)
        if account is None:
            raise KeyError(user)
        caller = Caller(account, "interactive", elevated and is_administrator(account), delegated=True)
        return FilesAs(self.files, token_for(caller, self.name, self.spec.domain))

    def restart(self) -> None:
        """The host restarts in an instant: no program, shell, job or volatile shadow copy outlives it; tasks and files stay."""
        self.service.restart()
        self.tasks.restart_host()
        self.processes.restart_host()
        self.shadows.restart_host()
        self.hyperv.restart_vmms()
        self.writer.restart()

    def crash(self) -> None:
        """The power fails: every machine is off at once, then the host starts again."""
        now = self.clock.now()
        for machine in self.hyperv.machines.values():
            if machine.live or machine.state == "starting":
                self.hyperv.replica.crashed(machine)
                pull_the_plug(self.hyperv, machine)
                machine.set_state("off", now)
                self.hyperv.disks.hold(machine)
        self.restart()

    def restart_winrm(self) -> None:
        """The WinRM service restarts: shells end with all that runs in them, enumerations are forgotten; tasks go on."""
        self.service.restart()

    def _vmms_changed(self, state: str) -> None:
        self.hyperv.replica.stopped = state == "Stopped"
        if state == "Stopped":
            self.hyperv.restart_vmms()
            self.writer.restart()

    def start_guest(self, name: str, writes_per_second: float) -> Guest:
        """Let the guest of the only machine of that name write, by the host's clock, until :meth:`close`."""
        machine = self.hyperv.find(name)
        self.hyperv.disks.materialise_machine(machine)
        leaves = [self.files.real_path(disk.leaf.path) for disk in machine.disks if disk.leaf is not None]
        guest = Guest(leaves, name, parent_resolver=self._real_parent)
        guest.run(self.clock, writes_per_second)
        self.guests[machine.id] = guest
        return guest

    def _real_parent(self, path: str) -> Path:
        return self.files.real_path(path)

    def close(self) -> None:
        """End what holds files open."""
        for guest in self.guests.values():
            guest.close()
        self.guests.clear()

    def guard_namespaces(self) -> None:
        """Only administrators reach a namespace; root/virtualization/v2 lets everybody in and shows what they may see (operations 1.7)."""
        def administrators(caller: Caller) -> bool:
            return caller.is_administrator

        for namespace in self.repository.schema.namespaces():
            if namespace.lower() != V2.lower():
                self.repository.guard(namespace, administrators)

    def listener(self) -> WinrmListener:
        """A WinRM listener for this host, not started."""
        return WinrmListener(listener_settings(self.spec.listener, self.settings), self.accounts, self.service, self.counters, self.name)


def listener_settings(spec: ListenerSpec, limits: Limits) -> ListenerSettings:
    """The settings of the listener as the listener wants them."""
    tls = None
    if spec.tls_certificate is not None and spec.tls_key is not None:
        authority = Path(spec.tls_client_ca) if spec.tls_client_ca is not None else None
        tls = TlsFiles(Path(spec.tls_certificate), Path(spec.tls_key), authority)
    return ListenerSettings(spec.schemes, spec.allow_unencrypted, spec.idle_seconds, limits.max_envelope_kb, tls, spec.cbt_hardening)
