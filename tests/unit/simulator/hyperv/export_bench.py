# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Short ways to export a machine, and to look at what an export has written."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from simulator.cim.model import Caller, CimValue, Instance, Ref
from simulator.disks.guest import Guest
from simulator.disks.proof import Proof, inspect
from simulator.windows.files import Location
from unit.simulator.hyperv.bench import ADMINISTRATOR
from unit.simulator.hyperv.checkpoint_bench import VM, Patient

SERVICE = "Msvm_VirtualSystemManagementService"
TARGET = "E:\\Exports"
_TYPES = {"CopySnapshotConfiguration": "uint8", "CaptureLiveState": "uint8", "BackupIntent": "uint8", "SnapshotVirtualSystem": "string",
          "DifferentialBackupBase": "string", "ExcludedVirtualHardDisks": "string", "InstanceID": "string", "ElementName": "string"}

Given = str | int | bool | Sequence[str]


def settings(**values: Given) -> str:
    """An Msvm_VirtualSystemExportSettingData as a client writes it."""
    return instance("Msvm_VirtualSystemExportSettingData", _TYPES, values)


def instance(class_name: str, types: dict[str, str], values: dict[str, Given]) -> str:
    """An embedded instance; properties that ``types`` does not name are boolean."""
    inner = ""
    for name, value in values.items():
        cim_type = types.get(name, "boolean")
        if isinstance(value, str | int):
            inner += f'<PROPERTY NAME="{name}" TYPE="{cim_type}"><VALUE>{_text(value)}</VALUE></PROPERTY>'
        else:
            body = "".join(f"<VALUE>{_text(one)}</VALUE>" for one in value)
            inner += f'<PROPERTY.ARRAY NAME="{name}" TYPE="{cim_type}"><VALUE.ARRAY>{body}</VALUE.ARRAY></PROPERTY.ARRAY>'
    return f'<INSTANCE CLASSNAME="{class_name}">{inner}</INSTANCE>'


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else escape(str(value))


CRASH: dict[str, Given] = {"CopySnapshotConfiguration": 1, "CopyVmStorage": True, "CopyVmRuntimeInformation": False, "CaptureLiveState": 0,
                           "CreateVmExportSubdirectory": False}


def checkpoint_path(guid: str) -> str:
    """The object path of a checkpoint."""
    return f'\\\\HV1\\root\\virtualization\\v2:Msvm_VirtualSystemSettingData.InstanceID="Microsoft:{guid}"'


class Exported:
    """A machine and its exports, by default into ``E:\\Exports`` (which is made)."""

    def __init__(self, patient: Patient, target: str = TARGET) -> None:
        self.patient = patient
        self.host = patient.host
        self.role = patient.role
        self.machine = patient.machine
        self.target = target
        self.vm = VM
        if not self.host.files.exists(target):
            self.host.files.create_directory(target)

    def guest(self) -> Guest:
        """Its guest, writing when told to."""
        return self.patient.guest()

    def export(self, directory: str | None = None, *, caller: Caller = ADMINISTRATOR, **options: Given) -> dict[str, CimValue]:
        """ExportSystemDefinition of the running state without memory, unless the options say otherwise."""
        given: dict[str, CimValue] = {"ComputerSystem": VM, "ExportDirectory": directory or self.target,
                                      "ExportSettingData": settings(**(CRASH | options))}
        return self.host.call(SERVICE, "ExportSystemDefinition", given, caller=caller)

    def done(self, directory: str | None = None, **options: Given) -> Instance:
        """The same until it is done: the job."""
        return self.patient.finished(self.export(directory, **options), 120.0)

    def refused(self, **options: Given) -> CimValue:
        """The ReturnValue."""
        return self.export(**options)["ReturnValue"]

    def _walk(self, folder: str) -> Iterator[tuple[str, Location]]:
        files = self.host.files
        for place in files.children(files.resolve(folder)):
            path = f"{folder}\\{place.parts[-1]}"
            yield path, place
            if place.is_directory:
                yield from self._walk(path)

    def files(self, folder: str | None = None) -> list[str]:
        """All files below the target, by their path from there."""
        top = folder or self.target
        return sorted(path.removeprefix(f"{top}\\") for path, place in self._walk(top) if not place.is_directory)

    def folders(self, folder: str | None = None) -> list[str]:
        """All folders below the target."""
        top = folder or self.target
        return sorted(path.removeprefix(f"{top}\\") for path, place in self._walk(top) if place.is_directory)

    def proof(self, name: str, folder: str | None = None, parents: Sequence[str] = ()) -> Proof:
        """What the independent reader says of an exported disk; ``parents`` nearest first."""
        top = f"{folder or self.target}\\Virtual Hard Disks"
        return inspect(self.host.files.real_path(f"{top}\\{name}"), [self.host.files.real_path(f"{top}\\{parent}") for parent in parents])

    def job_of(self, answer: dict[str, CimValue]) -> Ref:
        """The job of an answer."""
        assert answer["ReturnValue"] == 4096
        job = answer["Job"]
        assert isinstance(job, Ref)
        return job
