# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Msvm_ImageManagementService: looking at virtual disks, validating and mending chains (operations 1.4, 3.4, 5.7, wire 3.4)."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from simulator.cim.cimxml import format_instance, parse_instance
from simulator.cim.model import CimValue
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.disks.layout import VhdxError
from simulator.disks.vhdx import Vhdx
from simulator.hyperv import ids
from simulator.hyperv.diskstore import DiskFacts
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.model import KIND_DIFFERENCING
from simulator.windows import errors
from simulator.windows.acl import READ_DATA, WRITE_DATA
from simulator.windows.errors import Win32Error

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

FAILED, ACCESS_DENIED, INVALID_PARAMETER, IN_USE, FILE_NOT_FOUND, CYCLE = 32768, 32769, 32773, 32774, 32779, 32787
VALIDATE_JOB, SET_PARENT_JOB = 9, 0
SHARING_VIOLATION = 0x80070020
PARENT_MISMATCH = 0xC03A000E
_SETTINGS = "Msvm_VirtualHardDiskSettingData"
PARENT_NOT_FOUND = 0xC03A000D
CORRUPT = 0xC03A0005


class Images:
    """The methods of one host's service."""

    def __init__(self, role: HyperV) -> None:
        self._role = role

    def get_setting_data(self, call: Invocation) -> MethodOutcome:
        """GetVirtualHardDiskSettingData."""
        facts = self._facts(call)
        if isinstance(facts, int):
            return {"ReturnValue": facts}
        values: dict[str, CimValue] = {
            "InstanceID": facts.path, "ElementName": facts.path.rpartition("\\")[2], "Caption": "Virtual Hard Disk Setting Data",
            "Description": "Setting data of a virtual hard disk.", "Path": facts.path, "Type": facts.kind, "Format": facts.format,
            "MaxInternalSize": facts.virtual_size, "BlockSize": facts.block_size, "LogicalSectorSize": facts.logical_sector,
            "PhysicalSectorSize": facts.physical_sector, "ParentPath": facts.parent_path or "", "VirtualDiskId": facts.disk_id,
            "ParentIdentifier": facts.parent_id, "IsPmemCompatible": False, "PmemAddressAbstractionType": 0, "DataAlignment": 0,
        }
        return {"SettingData": self._embedded(_SETTINGS, values), "ReturnValue": 0}

    def get_state(self, call: Invocation) -> MethodOutcome:
        """GetVirtualHardDiskState."""
        facts = self._facts(call)
        if isinstance(facts, int):
            return {"ReturnValue": facts}
        values: dict[str, CimValue] = {
            "FileSize": facts.file_size, "MinInternalSize": facts.virtual_size, "PhysicalSectorSize": facts.physical_sector,
            "Alignment": 0, "FragmentationPercentage": 0, "InUse": False, "Timestamp": None,
        }
        return {"State": self._embedded("Msvm_VirtualHardDiskState", values), "ReturnValue": 0}

    def _embedded(self, class_name: str, values: dict[str, CimValue]) -> str:
        return format_instance(self._role.schema, self._role.shapes.of(ids.V2, class_name)(values))

    def _path(self, call: Invocation) -> str | int:
        path = call["Path"]
        if not call.caller.is_hyperv_administrator:
            return ACCESS_DENIED
        if not isinstance(path, str) or not path.lower().endswith((".vhd", ".vhdx", ".avhd", ".avhdx", ".vhds")):
            return INVALID_PARAMETER
        return path

    def _facts(self, call: Invocation) -> DiskFacts | int:
        path = self._path(call)
        if isinstance(path, int):
            return path
        if self._held_elsewhere(path):
            return IN_USE
        try:
            self._role.adoption.check_rights(path)
            facts = self._role.disks.facts(path)
        except Win32Error as error:
            return ACCESS_DENIED if error.code == errors.ACCESS_DENIED else FILE_NOT_FOUND
        except (VhdxError, ValueError):
            return FAILED
        return FILE_NOT_FOUND if facts is None else facts

    def _held_elsewhere(self, path: str) -> bool:
        """A disk on a cluster volume can be looked at only on the node that has it open (operations 1.4)."""
        cluster = self._role.cluster
        return cluster is not None and cluster.is_open_elsewhere(path, self._role)

    def validate(self, call: Invocation) -> MethodOutcome:
        """ValidateVirtualHardDisk: a storage job that opens the whole chain."""
        path = self._path(call)
        if isinstance(path, int):
            return {"ReturnValue": path}
        job = self._role.jobs.start(VALIDATE_JOB, 2.0, [], effect=self._validation(path), class_name="Msvm_StorageJob",
                                    owner=call.caller.account.display)
        return {"Job": job.ref, "ReturnValue": 4096}

    def set_parent(self, call: Invocation) -> MethodOutcome:
        """SetParentVirtualHardDisk: a storage job; one that is not the parent the disk was made from is refused, unless told otherwise."""
        child, parent = call["ChildPath"], call["ParentPath"]
        if not call.caller.is_hyperv_administrator:
            return {"ReturnValue": ACCESS_DENIED}
        if not isinstance(child, str) or not isinstance(parent, str) or call["LeafPath"]:
            return {"ReturnValue": INVALID_PARAMETER}  # a child in the middle of an open chain is not simulated
        ignoring = call["IgnoreIDMismatch"] is True
        job = self._role.jobs.start(SET_PARENT_JOB, 1.0, [], effect=lambda: self._tie(child, parent, ignoring=ignoring),
                                    class_name="Msvm_StorageJob", owner=call.caller.account.display)
        self._role.host.note_change(f"{call.method} {child}")
        return {"Job": job.ref, "ReturnValue": 4096}

    def set_setting_data(self, call: Invocation) -> MethodOutcome:
        """SetVirtualHardDiskSettingData: another VirtualDiskId for a VHDX that nobody has open (operations 3.5); a storage job."""
        if not call.caller.is_hyperv_administrator:
            return {"ReturnValue": ACCESS_DENIED}
        settings = parse_instance(str(call["VirtualDiskSettingData"] or ""), self._role.schema, ids.V2, expected=_SETTINGS)
        path, wanted = settings["Path"], str(settings["VirtualDiskId"] or "").strip("{}").upper()
        if not isinstance(path, str) or not path.lower().endswith((".vhdx", ".avhdx")) or not ids.is_guid(wanted):
            return {"ReturnValue": INVALID_PARAMETER}
        job = self._role.jobs.start(SET_PARENT_JOB, 1.0, [], effect=lambda: self._identify(path, wanted), class_name="Msvm_StorageJob",
                                    owner=call.caller.account.display)
        self._role.host.note_change(f"{call.method} {path}")
        return {"Job": job.ref, "ReturnValue": 4096}

    def _identify(self, path: str, disk_id: str) -> None:
        role = self._role
        self._open(path, None)
        try:
            if role.disks.is_open(path, but="nobody", at_all=True):
                raise Win32Error(errors.SHARING_VIOLATION, path)
            role.adoption.check_rights(path, READ_DATA | WRITE_DATA)
        except Win32Error as error:
            code = IN_USE if error.code == errors.SHARING_VIOLATION else FAILED
            raise JobFailure(code, str(error), hresult=0x80070000 | error.code, child=path) from error
        with Vhdx.open(role.host.files.real_path(path)) as image:
            image.set_disk_id(UUID(disk_id))
        known = role.file(path)
        if known is not None:
            known.disk_id = disk_id

    def _tie(self, child: str, parent: str, *, ignoring: bool) -> None:
        role, files = self._role, self._role.host.files
        known = role.file(child)
        if known is not None and any(user.live for user in role.users_of(known)):
            raise JobFailure(IN_USE, "The process cannot access the file because it is being used by another process.",
                             hresult=SHARING_VIOLATION, child=child, parent=parent)
        for path in (child, parent):
            if not files.exists(path):
                raise JobFailure(FILE_NOT_FOUND, f"The virtual hard disk '{path}' was not found.", hresult=0x80070002, child=child,
                                 parent=parent)
        try:
            role.adoption.check_rights(child, READ_DATA | WRITE_DATA)
            role.adoption.check_rights(parent)
            with Vhdx.open(files.real_path(child)) as image:
                image.set_parent(files.real_path(parent), parent, ignore_linkage=ignoring)
        except Win32Error as error:
            raise JobFailure(FAILED, str(error), hresult=0x80070000 | error.code, child=child, parent=parent) from error
        except (VhdxError, ValueError) as error:
            raise JobFailure(FAILED, str(error), hresult=PARENT_MISMATCH, child=child, parent=parent) from error
        if known is not None:
            known.parent = role.adoption.file(parent)

    def _validation(self, path: str) -> Callable[[], None]:
        def run() -> None:
            self._check_free(path)
            seen: set[str] = set()
            child: DiskFacts | None = None
            here: str | None = path
            while here is not None:
                if here.lower() in seen:
                    raise JobFailure(CYCLE, "The chain of virtual hard disks contains a cycle.", child=child.path if child else None,
                                     parent=here)
                seen.add(here.lower())
                facts = self._open(here, child)
                if child is not None:
                    self._check_parent(child, facts)
                child, here = facts, (facts.parent_path if facts.kind == KIND_DIFFERENCING else None)
        return run

    def _check_free(self, path: str) -> None:
        file = self._role.file(path)
        if file is not None and self._role.settings.shared_disks_locked and self._role.users_of(file):
            raise JobFailure(IN_USE, "The process cannot access the file because it is being used by another process.",
                             hresult=SHARING_VIOLATION, child=path)

    def _open(self, path: str, child: DiskFacts | None) -> DiskFacts:
        where = {"child": child.path if child else path, "parent": path if child else None}
        try:
            self._role.adoption.check_rights(path)
            facts = self._role.disks.facts(path)
        except Win32Error as error:
            raise JobFailure(FILE_NOT_FOUND, str(error), hresult=0x80070000 | error.code, **where) from error
        except (VhdxError, ValueError) as error:
            raise JobFailure(FAILED, "The virtual hard disk is corrupt.", hresult=CORRUPT, **where) from error
        if facts is None:
            code = PARENT_NOT_FOUND if child else 0x80070002
            raise JobFailure(FILE_NOT_FOUND if child is None else FAILED, f"The virtual hard disk '{path}' was not found.", hresult=code,
                             **where)
        return facts

    def _check_parent(self, child: DiskFacts, parent: DiskFacts) -> None:
        if child.parent_id is None:
            return
        actual = self._role.disks.write_id(parent.path)
        if actual is not None and actual.lower() != child.parent_id.lower():
            raise JobFailure(FAILED, "There is a mismatch between the identifiers of the parent and the child virtual hard disk.",
                             hresult=PARENT_MISMATCH, child=child.path, parent=parent.path)
