# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose virtual machines are copied with writers, and what is looked at afterwards."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import (
    copy_record,
    destinations,
    inventory,
    vss_plan,
    vss_writers,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_record import CopyRecord
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_work import StillRunning, Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import SYSTEM_IDENTITY, Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_lease import RunLease
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import Job, Request
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_writers import WriterCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import manifest as manifests
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import ownership
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import Manifest
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.ownership import Verdict
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import shadow_copies, state_contents
from simulator.disks import proof
from simulator.disks.proof import Proof
from simulator.host import SimHost
from simulator.hyperv.model import Machine
from simulator.hyperv.spec import MIB, DiskSpec, VmSpec
from simulator.windows.programs.base import Speeds
from simulator.windows.shadows import ShadowCopy
from simulator.windows.spec import VolumeSpec
from support.windows_host import WindowsHost, windows_host

GIB = 1024**3
STATE = "C:\\ProgramData\\agentless.hyperv"
VOLUMES = tuple(VolumeSpec(letter, 200 * GIB, free=100 * GIB) for letter in ("C:", "D:", "E:", "F:"))
TWO_DISKS = VmSpec("web", folder="D:\\VMs\\web", disks=(DiskSpec("D:\\VMs\\web\\one.vhdx", size=32 * MIB),
                                                        DiskSpec("E:\\VMs\\web\\two.vhdx", size=32 * MIB)))
ONE_DISK = VmSpec("web", folder="D:\\VMs\\web", disks=(DiskSpec("D:\\VMs\\web\\one.vhdx", size=32 * MIB),))
OTHER = VmSpec("other", folder="D:\\VMs\\other", disks=(DiskSpec("D:\\VMs\\other\\disk.vhdx", size=32 * MIB),))
SLOW = Speeds(copy_bytes_per_second=64 * 1024.0)
"""The copy of two small disks takes minutes."""
BACKUP = "F:\\Backup"


@dataclass
class Site:
    """One host and how a run of the collection works on it."""

    hv: WindowsHost
    destination: str = BACKUP
    said: list[str] = field(default_factory=list)

    @property
    def host(self) -> SimHost:
        """Hold ``hv.fleet.locked()`` to look at it."""
        return self.hv.host

    def machine(self, name: str = "web") -> Machine:
        """A simulated VM."""
        return self.host.hyperv.find(name)

    @property
    def our_copies(self) -> list[ShadowCopy]:
        """Shadow copies that no other product made."""
        with self.hv.fleet.locked():
            return [copy for copy in self.host.shadows.copies if not copy.foreign]

    def left(self) -> list[str]:
        """Everything of ours on the host: shadow copies, tasks, jobs, intents, links, leases."""
        found = [f"shadow copy {copy.shadow_id}" for copy in self.our_copies] + [f"task {name}" for name in self.hv.tasks()]
        for folder in ("jobs", "intents", "s", "leases"):
            found += [f"{folder}: {name}" for name in self.hv.names(f"{STATE}\\{folder}")]
        return found

    # -- a run -------------------------------------------------------------------------------------------------------

    def facts(self) -> HostFacts:
        """What a run reads before it copies with writers."""
        reader = self.hv.writer
        facts = inventory.read_more(reader, inventory.read_host(reader, self.hv.clock, ("state", "volumes")),
                                    ("disks", "cluster", "integration"))
        return inventory.read_chains(reader, facts, [machine.vm_id for machine in facts.machines])

    @contextmanager
    def tools(self, facts: HostFacts, *, run_id: str = "night", timeout: float = 7200.0, busy_wait: float = 600.0,
              identity: Identity = SYSTEM_IDENTITY) -> Iterator[Tools]:
        """What a run works with; it holds its lease meanwhile."""
        hv = self.hv
        with RunLease(hv.writer, hv.clock, hv.folder, run_id) as lease:
            yield Tools(hv.writer, hv.clock, self.said.append, hv.folder, Deadline(hv.clock, timeout), busy_wait, identity, "SYSTEM",
                        destinations.check(facts, self.destination, identity), lease)

    def plan(self, facts: HostFacts, request: Request, name: str = "web") -> Job:
        """The plan's job for one VM, which must be possible."""
        chosen = [machine for machine in facts.machines if machine.name == name]
        target = destinations.check(facts, self.destination, SYSTEM_IDENTITY)
        plan = vss_plan.make_plan(facts, chosen, (), request, target, (), self.hv.folder)
        assert not plan.refused, plan.refused[0].error.message
        return plan.jobs[0]

    def copy(self, name: str = "web", *, consistency: str = "application", fallback: str | None = None, verify: str = "size",
             run_id: str = "night", between: Callable[[], None] = lambda: None, **options: Any) -> WriterCopy:
        """Copy one VM with writers. ``between``: what happens after the plan."""
        facts = self.facts()
        request = Request(self.destination, run_id, True, None, consistency, fallback, verify=verify, method="writers")
        # the plan must not stand in the way of a copy that shall be refused later
        job = self.plan(facts, replace(request, fallback="crash"), name)
        between()
        with self.tools(facts, run_id=run_id, **options) as tools:
            return vss_writers.copy_machine(tools, facts, job, request)

    # -- between two runs --------------------------------------------------------------------------------------------

    def job(self, run_id: str = "night") -> str:
        """The folder of the job of a run that copies web."""
        return f"{STATE}\\jobs\\{self.machine().id}_{run_id}"

    def record(self, run_id: str = "night") -> CopyRecord:
        """What a job on the host says that it copies."""
        return copy_record.parse(self.hv.read(f"{self.job(run_id)}\\copy.json") or b"")

    def judge(self) -> list[Verdict]:
        """Whose the shadow copies of the host are."""
        contents = state_contents.read_contents(self.hv.writer, self.hv.folder)
        return list(ownership.judge(shadow_copies.read_shadow_copies(self.hv.writer), contents.links, contents.intents).verdicts)

    def killed_after_creation(self, foreign_on: str | None = None) -> ShadowCopy | None:
        """A run whose task dies right after the creation of the set, and its controller before; another product makes a like copy at that
        moment when told to. That one. Creations must take half a minute, and what follows them some seconds."""
        host = self.host
        foreign: list[ShadowCopy] = []

        def die() -> None:
            if foreign_on is not None:
                foreign.append(host.shadows.add_foreign(foreign_on))
            host.tasks.stop(next(task for task in host.tasks.tasks() if task.path == "\\agentless.hyperv\\"))

        def taken(copy: ShadowCopy) -> None:
            if not copy.foreign and copy.volume.mount_path == "E:\\":
                host.clock.call_later(1, die)

        with self.hv.fleet.locked():
            host.shadows.on_taken.append(taken)
        try:
            self.copy(timeout=10)
            raise AssertionError("the copy was not killed")
        except StillRunning:
            pass
        with self.hv.fleet.locked():
            host.clock.advance(60)
            assert {copy.exposed for copy in host.shadows.copies} == {None}
        return foreign[0] if foreign else None

    # -- what it brought ---------------------------------------------------------------------------------------------

    def manifest(self, copy: WriterCopy) -> Manifest:
        """The manifest as it is on the disk."""
        return manifests.parse(self.real(f"{copy.record.folder}\\manifest.json").read_text("ascii"))

    def real(self, path: str) -> Path:
        """The file behind a path of the host."""
        with self.hv.fleet.locked():
            found: Path = self.host.files.real_path(path)
        return found

    def proofs(self, copy: WriterCopy) -> list[Proof]:
        """What each disk of a copy proves, read with the chain that its manifest tells: the leaf first."""
        chains: dict[int, list[tuple[int, Path]]] = {}
        for file in self.manifest(copy).files:
            if file.path.lower().endswith(("vhdx", "vhd")):
                chains.setdefault(file.disk, []).append((file.level, self.real(f"{copy.record.folder}\\{file.path}")))
        found = []
        for _unused, chain in sorted(chains.items()):
            paths = [path for _level, path in sorted(chain)]
            found.append(proof.inspect(paths[0], paths[1:]))
        return found


@contextmanager
def site(root: Path, vms: Sequence[VmSpec] = (TWO_DISKS,), *, writes: float = 20.0, **spec: Any) -> Iterator[Site]:
    """A host with VMs whose guests write all the time, and with the folder for copies."""
    given: dict[str, Any] = {"volumes": VOLUMES, "guest_writes": {vm.name: writes for vm in vms if vm.state == "running"}, **spec}
    with windows_host(root, vms=tuple(vms), **given) as hv:
        with hv.fleet.locked():
            hv.host.files.create_directory(BACKUP)
            hv.host.clock.advance(10.01)
        yield Site(hv)
