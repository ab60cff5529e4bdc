# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Hyper-V role of one host: its machines, their files, its jobs, and the registration of all providers."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from simulator.cim.model import Caller
from simulator.clock import SimClock
from simulator.disks.guest import Guest
from simulator.hyperv import ids
from simulator.hyperv.adopting import Adoption
from simulator.hyperv.checkpoints import Checkpoints, Wish, can_quiesce
from simulator.hyperv.diskstore import DiskStore
from simulator.hyperv.exports import Exports
from simulator.hyperv.jobs import JobFailure, JobTable
from simulator.hyperv.knobs import BACKUP_JOB, Knobs
from simulator.hyperv.merges import Merges
from simulator.hyperv.model import BUSY_JOBS, Checkpoint, Configuration, Machine, VhdFile
from simulator.hyperv.power import finish_changes
from simulator.hyperv.replica.network import ReplicaNetwork
from simulator.hyperv.replica.replica import Replica
from simulator.hyperv.shapes import Shapes
from simulator.hyperv.snapshot_service import SnapshotService
from simulator.hyperv.spec import MIB, CheckpointKind, HyperVSettings, VmSpec
from simulator.windows.identity import system_token

if TYPE_CHECKING:
    from simulator.cim.repository import Repository
    from simulator.hyperv.cluster import Cluster
    from simulator.windows.certificates import CertificateStore
    from simulator.windows.files import FileSystem
    from simulator.windows.firewall import Firewall


class Host(Protocol):
    """What the role needs of its host."""

    name: str
    fqdn: str
    domain: str | None
    os_version: str
    locale: str
    clock: SimClock
    repository: Repository
    files: FileSystem
    certificates: CertificateStore
    firewall: Firewall

    def note_change(self, what: str) -> None:
        """A request changed the state of the host."""


class HyperV:
    """The virtual machines of one host and everything that is known about them."""

    def __init__(self, host: Host, settings: HyperVSettings | None = None, cluster: Cluster | None = None,
                 replica_network: ReplicaNetwork | None = None) -> None:
        self.host = host
        self.name = host.name
        self.os_version = host.os_version
        self.locale = host.locale
        self.clock = host.clock
        self.settings = settings or HyperVSettings()
        self.cluster = cluster
        self.started = host.clock.now()
        self.schema = host.repository.schema
        self.shapes = Shapes(self.schema)
        self.disks = DiskStore(self)
        self.jobs = JobTable(host.clock, host.name)
        self.knobs = Knobs()
        self.guests: dict[str, Guest] = {}
        """Writing guests by GUID of their machine; they follow its files and its power state."""
        self.checkpoints = Checkpoints(self)
        self.snapshots = SnapshotService(self)
        self.merges = Merges(self)
        self.replica = Replica(self, replica_network)
        self.exports = Exports(self)
        self.adoption = Adoption(self)
        self.system = system_token(host.files.machine, host.files.domain)
        """With whose rights the management service uses files: SYSTEM, and on other machines the computer account (operations 3.2)."""
        self.switches = set(self.settings.switches)
        """The names of the virtual switches."""
        self.machines: dict[str, Machine] = {}
        """Realised machines by GUID in upper case, in the order they were added."""
        self.planned: dict[str, Machine] = {}
        """Planned machines; one GUID is never in both."""
        self._files: dict[str, VhdFile] = {}
        self._names: dict[str, int] = {}

    def register(self) -> None:
        """Serve the role's classes through the repository of the host."""
        from simulator.hyperv.registration import register

        register(self)

    # -- machines --------------------------------------------------------------------------------------------------

    def add_vm(self, spec: VmSpec) -> Machine:
        """Add a machine as described; nothing is written to disk yet. ValueError: the GUID exists on this host."""
        ordinal = self._names.get(spec.name, 0)
        self._names[spec.name] = ordinal + 1
        machine_id = (spec.vm_id or ids.derive(self.name, spec.name, ordinal)).upper()
        if machine_id in self.machines or machine_id in self.planned:
            raise ValueError(f"machine {machine_id} exists on {self.name}")
        machine = Machine(self, spec, machine_id)
        (self.planned if spec.planned else self.machines)[machine_id] = machine
        self.switches |= {nic.switch for nic in spec.nics if nic.switch is not None and not spec.planned}
        self.disks.new_machine()
        if spec.busy:
            self._start_busy(machine)
        if self.cluster is not None and spec.clustered:
            self.cluster.add_machine(machine, self.name)
        return machine

    def remove_vm(self, machine_id: str) -> Machine:
        """The machine leaves the host (moved or destroyed); its files stay. KeyError: unknown."""
        source = self.machines if machine_id.upper() in self.machines else self.planned
        machine = source.pop(machine_id.upper())
        self.replica.machine_removed(machine)
        self.exports.forget(machine)
        self.merges.forget(machine)
        self.disks.release(machine)
        if self.cluster is not None:
            self.cluster.forget_machine(machine.id)
        return machine

    def move_vm(self, machine_id: str, target: HyperV) -> Machine:
        """Live migration in an instant: the machine is on ``target`` now, with its state, its chain and its checkpoints."""
        machine = self.machines.pop(machine_id.upper())
        self.exports.forget(machine)
        unfinished = self.merges.forget(machine)
        self.disks.release(machine)
        files = {id(f): f for c in machine.configurations() for d in c.disks for f in ((c.file_of(d) or d.base),) if f}
        for file in files.values():
            for link in file.chain():
                self._files.pop(link.path.lower(), None)
                target._files[link.path.lower()] = link
        machine.role = target
        target.machines[machine.id] = machine
        target.disks.hold(machine)
        guest = self.guests.pop(machine.id, None)
        if guest is not None:
            target.guests[machine.id] = guest
        if unfinished:
            target.merges.due(machine)
        if target.cluster is not None:
            target.cluster.move_machine(machine.id, target.name)
        return machine

    def find(self, name: str) -> Machine:
        """The only machine of that name. KeyError: none or several."""
        found = [m for m in (*self.machines.values(), *self.planned.values()) if m.name == name]
        if len(found) != 1:
            raise KeyError(f"{len(found)} machines are called {name!r}")
        return found[0]

    def visible(self, caller: Caller) -> Iterable[Machine]:
        """The realised machines the caller may see: all, or silently none (operations 1.7)."""
        return self.machines.values() if caller.is_hyperv_administrator else ()

    def visible_planned(self, caller: Caller) -> Iterable[Machine]:
        """The planned machines the caller may see."""
        return self.planned.values() if caller.is_hyperv_administrator else ()

    def machine(self, guid: str, caller: Caller) -> Machine | None:
        """A realised machine by GUID, any letter case; None when absent or not visible."""
        return self.machines.get(guid.upper()) if caller.is_hyperv_administrator else None

    # -- configurations --------------------------------------------------------------------------------------------

    def configurations(self, caller: Caller) -> Iterator[Configuration]:
        """All settings the caller may see: of machines, checkpoints and planned machines."""
        for machine in (*self.visible(caller), *self.visible_planned(caller)):
            yield from machine.configurations()

    def configuration(self, guid: str, caller: Caller) -> Configuration | None:
        """The settings whose InstanceID holds this GUID."""
        if not caller.is_hyperv_administrator:
            return None
        key = guid.upper()
        machine = self.machines.get(key) or self.planned.get(key)
        if machine is not None:
            return Configuration(machine, None)
        for machine in (*self.machines.values(), *self.planned.values()):
            if machine.spec.checkpoints or machine.checkpoints:
                checkpoint = machine.checkpoints.get(key)
                if checkpoint is not None:
                    return Configuration(machine, checkpoint)
        return None

    # -- files -----------------------------------------------------------------------------------------------------

    def register_file(self, file: VhdFile) -> VhdFile:
        """The model of a virtual disk file: the one known for that path, else this one."""
        return self._files.setdefault(file.path.lower(), file)

    def file(self, path: str) -> VhdFile | None:
        """The virtual disk file known for a path; machines that nobody has looked at yet are looked at."""
        found = self._files.get(path.lower())
        if found is not None:
            return found
        for machine in (*self.machines.values(), *self.planned.values()):
            machine.disks  # noqa: B018 - building the drives registers their files
        return self._files.get(path.lower())

    def forget_file(self, path: str) -> None:
        """The file is gone."""
        self._files.pop(path.lower(), None)

    def users_of(self, file: VhdFile) -> list[Machine]:
        """The machines whose worker process holds the file open."""
        return [m for m in self.machines.values() if m.live and any(file is f for f in m.vhd_files())]

    def disk_path(self, machine: Machine, index: int = 0) -> Path:
        """The real file that a machine's drive writes to now (its leaf), made when needed. ValueError: it has none."""
        leaf = machine.disks[index].leaf
        real = None if leaf is None else self.disks.materialise(leaf)
        if real is None:
            raise ValueError(f"drive {index} of {machine.name!r} has no file")
        self.disks.hold(machine)
        return real

    def free_memory(self, but: Machine | None = None) -> int | None:
        """Bytes that no running machine (other than ``but``) has; None where the description sets no limit."""
        if self.settings.memory_mb is None:
            return None
        used = sum(machine.spec.memory_mb for machine in self.machines.values() if machine.live and machine is not but)
        return max(0, self.settings.memory_mb - used) * MIB

    # -- service ---------------------------------------------------------------------------------------------------

    def restart_vmms(self) -> None:
        """The management service restarts: every job object is lost, guests go on (operations 0.3).

        Worker processes are not the service: what one was asked to do with its machine's power it brings to its end.
        """
        finish_changes(self)
        self.jobs.lose_all()
        for machine in (*self.machines.values(), *self.planned.values()):
            machine.busy = None
        self.snapshots.service_restarted()
        self.exports.service_restarted()
        self.merges.service_restarted()
        self.replica.service_restarted()

    # -- others on this host ---------------------------------------------------------------------------------------

    def foreign_checkpoint(self, name: str, *, kind: CheckpointKind = "recovery", label: str | None = None, notes: str = "",
                           automatic: bool = False, backup_minutes: float | None = None) -> Checkpoint:
        """Somebody else makes a checkpoint of a machine (its GUID or only name), in an instant: a user, a backup product, Replica.

        ``backup_minutes``: a backup (JobType 170) runs for so long and removes its checkpoint at the end. KeyError: no such machine;
        JobFailure: the files do not allow it, or something else is being done to the machine.
        """
        machine = self._one(name)
        if machine.busy is not None:
            raise JobFailure(32775, "The virtual machine is busy.")
        quiet = kind in ("production", "recovery", "replica_application") and can_quiesce(self, machine)
        checkpoint = self.checkpoints.create(machine, Wish(kind, label, notes, automatic, quiet, memory=kind == "standard"))
        if backup_minutes is not None:
            machine.busy = "backup"

            def done() -> None:
                machine.busy = None
                if checkpoint.id in machine.checkpoints:
                    self.checkpoints.destroy(machine, [checkpoint])

            self.jobs.start(BACKUP_JOB, backup_minutes * 60.0, [ids.system_ref(machine.id)], effect=done, undo=done)
        return checkpoint

    def foreign_removal(self, name: str, checkpoint: Checkpoint) -> None:
        """Somebody else removes a checkpoint of a machine (its GUID or only name), in an instant; the merge comes later.

        Also while a job of ours waits for its end; JobFailure: a merge is under way.
        """
        machine = self._one(name)
        if self.merges.is_running(machine):
            raise JobFailure(32775, "The virtual machine is busy.")
        self.checkpoints.destroy(machine, [checkpoint])

    def _one(self, name: str) -> Machine:
        return self.machines.get(name.upper()) or self.find(name)

    def _start_busy(self, machine: Machine) -> None:
        busy = machine.spec.busy
        assert busy is not None
        if busy not in BUSY_JOBS:
            return
        seconds = None if machine.spec.busy_minutes is None else machine.spec.busy_minutes * 60.0

        def done() -> None:
            machine.busy = None

        self.jobs.start(BUSY_JOBS[busy], seconds, [ids.system_ref(machine.id, machine.ref_class)], owner=machine.spec.busy_owner,
                        effect=done, undo=done, start_percent=machine.spec.busy_percent)
