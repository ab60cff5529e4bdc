# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine with a writing guest, and short ways to make, apply and remove its checkpoints and to look at its files."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from simulator.cim.model import CimValue, Instance, Ref
from simulator.disks.guest import Guest
from simulator.disks.proof import Proof, inspect
from simulator.hyperv.model import Machine, VhdFile
from simulator.hyperv.spec import VmSpec
from unit.simulator.hyperv.bench import ADMINISTRATOR, V2, Bench

GUID = "0A1B2C3D-0000-4000-8000-00000000ABCD"
VM = Ref(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": GUID})
SERVICE = "Msvm_VirtualSystemSnapshotService"
SETTINGS = "Msvm_VirtualSystemSettingData"


def settings_ref(guid: str) -> Ref:
    return Ref(V2, SETTINGS, {"InstanceID": f"Microsoft:{guid}"})


def snapshot_settings(**values: int | bool) -> str:
    types = {"ConsistencyLevel": "uint8", "GuestBackupType": "uint8", "IgnoreNonSnapshottableDisks": "boolean"}
    inner = "".join(f'<PROPERTY NAME="{name}" TYPE="{types.get(name, "string")}"><VALUE>{str(value).lower()}</VALUE></PROPERTY>'
                    for name, value in values.items())
    return f'<INSTANCE CLASSNAME="Msvm_VirtualSystemSnapshotSettingData">{inner}</INSTANCE>'


class Patient:
    """The machine under test on its host."""

    def __init__(self, host: Bench) -> None:
        self.host = host
        self.role = host.role
        self.machine: Machine = host.role.machines[GUID]

    # -- guest -----------------------------------------------------------------------------------------------------

    def guest(self) -> Guest:
        """Its guest, writing when told to."""
        paths = [self.role.disk_path(self.machine, disk.index) for disk in self.machine.disks if disk.leaf is not None]
        guest = Guest(paths, "guest", parent_resolver=self.role.disks.find_parent)
        self.role.guests[GUID] = guest
        return guest

    def proof(self, file: VhdFile | None = None, disk: int = 0) -> Proof:
        """What the independent reader says of a file, the machine's own leaf unless given."""
        chosen = file or self.machine.disks[disk].leaf
        assert chosen is not None
        chain = [self.real(link) for link in chosen.chain()]
        return inspect(chain[0], chain[1:])

    def real(self, file: VhdFile) -> Path:
        """The real file."""
        return self.host.files.real_path(file.path)

    def avhdx(self) -> list[str]:
        """The names of the differencing disks in the folders of the machine, as they lie there."""
        base = self.machine.disks[0].base
        assert base is not None
        folder = self.host.files.resolve(base.path.rpartition("\\")[0])
        return sorted(place.parts[-1] for place in self.host.files.children(folder) if place.parts[-1].lower().endswith(".avhdx"))

    def depth(self, disk: int = 0) -> int:
        """How many files the chain of a drive has."""
        leaf = self.machine.disks[disk].leaf
        assert leaf is not None
        return len(leaf.chain())

    # -- methods ---------------------------------------------------------------------------------------------------

    def ask(self, method: str, **parameters: CimValue) -> dict[str, CimValue]:
        """Call a method of the snapshot service."""
        return self.host.call(SERVICE, method, parameters)

    def create(self, snapshot_type: int = 2, **options: int | bool) -> dict[str, CimValue]:
        """CreateSnapshot."""
        given: dict[str, CimValue] = {"SnapshotSettings": snapshot_settings(**options)} if options else {}
        return self.ask("CreateSnapshot", AffectedSystem=VM, SnapshotType=snapshot_type, **given)

    def job(self, answer: dict[str, CimValue]) -> Instance:
        """The job of an answer."""
        assert answer["ReturnValue"] == 4096
        ref = answer["Job"]
        assert isinstance(ref, Ref)
        return self.host.repository.get(V2, ref.class_name, dict(ref.keys), ADMINISTRATOR)

    def finished(self, answer: dict[str, CimValue], seconds: float = 30.0) -> Instance:
        """The job after some time, completed."""
        self.until(lambda: self.job(answer)["JobState"] not in (2, 3, 4), seconds)
        row = self.job(answer)
        assert (row["JobState"], row["ErrorCode"]) == (7, 0), row.values
        return row

    def failed(self, answer: dict[str, CimValue], seconds: float = 30.0) -> tuple[CimValue, str]:
        """ErrorCode and the text of the error of a job that failed."""
        self.until(lambda: self.job(answer)["JobState"] not in (2, 3, 4), seconds)
        row = self.job(answer)
        assert row["JobState"] == 10, row.values
        errors = self.host.call("Msvm_ConcreteJob", "GetErrorEx", selectors={"InstanceID": str(row["InstanceID"])})["Errors"]
        return row["ErrorCode"], str(errors)

    def until(self, done: Callable[[], bool], seconds: float) -> None:
        """Let time pass in small steps until something holds, at most so long."""
        for _unused in range(int(seconds)):
            if done():
                return
            self.host.clock.advance(1.0)

    def checkpoint(self, snapshot_type: int = 2, **options: int | bool) -> str:
        """A new checkpoint; its GUID."""
        answer = self.create(snapshot_type, **options)
        self.finished(answer)
        return self.made_by(answer)

    def made_by(self, answer: dict[str, CimValue]) -> str:
        """The GUID of what a job has made, found as a client finds it."""
        job = answer["Job"]
        rows = [row for row in self.host.rows("Msvm_AffectedJobElement") if row["AffectingElement"] == job and row["ElementEffects"] == [5]]
        assert len(rows) == 1
        made = rows[0]["AffectedElement"]
        assert isinstance(made, Ref)
        return made.keys["InstanceID"].removeprefix("Microsoft:")

    def destroy(self, guid: str) -> None:
        """DestroySnapshot until the job is done; the merge is still to come."""
        self.finished(self.ask("DestroySnapshot", AffectedSnapshot=settings_ref(guid)))

    def apply(self, guid: str) -> None:
        """ApplySnapshot until the job is done."""
        self.finished(self.ask("ApplySnapshot", Snapshot=settings_ref(guid)))

    def power(self, state: int) -> None:
        """RequestStateChange until it is done."""
        keys = {"CreationClassName": "Msvm_ComputerSystem", "Name": GUID}
        answer = self.host.call("Msvm_ComputerSystem", "RequestStateChange", {"RequestedState": state}, selectors=keys)
        self.finished(answer, 60.0)

    # -- rows ------------------------------------------------------------------------------------------------------

    def row(self, guid: str) -> Instance:
        """The settings of a checkpoint, or of the machine."""
        return self.host.row(SETTINGS, InstanceID=f"Microsoft:{guid}")

    def leaf_of(self, guid: str) -> list[str]:
        """HostResource of the virtual disks of a checkpoint, or of the machine."""
        own = f"Microsoft:{guid}\\"
        rows = [row for row in self.host.rows("Msvm_StorageAllocationSettingData") if str(row["InstanceID"]).startswith(own)]
        return [str(path) for row in rows for path in (row["HostResource"] or [])]  # type: ignore[union-attr]

    def status(self) -> CimValue:
        """OperationalStatus."""
        return self.host.row("Msvm_ComputerSystem", Name=GUID)["OperationalStatus"]

    def jobs(self, job_type: int) -> list[Instance]:
        """The jobs of a type that have not ended."""
        return [row for row in self.host.rows("Msvm_ConcreteJob") if row["JobType"] == job_type and row["JobState"] in (2, 3, 4)]

    def merged(self, seconds: float = 120.0) -> None:
        """Let the merge come and end."""
        self.until(lambda: bool(self.jobs(50)), 60.0)
        self.until(lambda: not self.jobs(50), seconds)


MakePatient = Callable[..., Patient]


def spec(**values: object) -> VmSpec:
    """A machine on D: with that GUID."""
    return VmSpec(**({"name": "web01", "vm_id": GUID, "folder": "D:\\VMs\\web01"} | values))  # type: ignore[arg-type]
