# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CIM_DataFile and Win32_Directory: exact queries only; anything else would walk the disks and fails (windows facts 5)."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta, timezone

from simulator.cim.model import Caller, CimError, CimValue, Instance
from simulator.cim.provider import Invocation, MethodHandler, MethodOutcome
from simulator.windows import acl, errors, identity, paths
from simulator.windows.cimv2.common import WBEM_E_FAILED, instance
from simulator.windows.errors import Win32Error
from simulator.windows.files import FileSystem, Location
from simulator.windows.identity import Token
from simulator.windows.programs.base import HostFacts

_CODES = {errors.ACCESS_DENIED: 2, errors.WRITE_PROTECT: 2, errors.FILE_NOT_FOUND: 9, errors.PATH_NOT_FOUND: 9, errors.INVALID_NAME: 9,
          errors.NAME_TOO_LONG: 9, errors.ALREADY_EXISTS: 10, errors.NOT_SAME_DEVICE: 13, errors.DIR_NOT_EMPTY: 14,
          errors.SHARING_VIOLATION: 15, errors.PRIVILEGE_NOT_HELD: 17}
_UNSPECIFIED, _BAD_PARAMETER = 8, 21


@dataclass
class Files:
    """CIM_DataFile when ``folders`` is false, else Win32_Directory."""

    files: FileSystem
    facts: HostFacts
    folders: bool
    methods: Mapping[str, MethodHandler] = field(init=False)

    def __post_init__(self) -> None:
        self.methods = {"Delete": self._delete, "Rename": self._rename, "Copy": self._copy, "GetEffectivePermission": self._permission}
        if self.folders:
            del self.methods["Copy"]

    def instances(self, caller: Caller) -> Iterable[Instance]:
        """A walk over all disks ends in a time-out of the provider."""
        raise CimError("failed", "Generic failure: a query without Name, or without Drive and Path, walks the disks", hresult=WBEM_E_FAILED)

    def get(self, keys: Mapping[str, str], caller: Caller) -> Instance | None:
        """The file or folder with this name."""
        return next(iter(self._named(keys["Name"])), None)

    def where(self, conditions: Mapping[str, CimValue], caller: Caller) -> Iterable[Instance] | None:
        """By Name, or by Drive and Path."""
        name, drive, path = (conditions.get(key) for key in ("Name", "Drive", "Path"))
        if isinstance(name, str):
            return self._named(name)
        if isinstance(drive, str) and isinstance(path, str):
            return self._in_folder(drive, path, identity.token_for(caller, self.files.machine, self.files.domain))
        return self.instances(caller)

    def _named(self, name: str) -> list[Instance]:
        try:
            parsed = paths.parse(name)
            if parsed.kind != "drive" or name[1:3] != ":\\":
                return []
            place = self.files.walk(parsed, follow_last=False)
            return [self._row(place)] if place.exists and place.is_directory is self.folders else []
        except Win32Error:
            return []

    def _in_folder(self, drive: str, path: str, token: Token) -> list[Instance]:
        try:
            folder = self.files.resolve(drive + path)
            return [self._row(entry) for entry in self.files.children(folder, token) if entry.is_directory is self.folders]
        except Win32Error:
            return []

    def _row(self, place: Location) -> Instance:
        """Many values come in lower case (windows facts 5)."""
        entry = self.files.entry(place)
        full = place.path.text().lower()
        zone = timezone(timedelta(minutes=self.facts.utc_offset_minutes))
        folder, _unused, last = full.rpartition("\\")
        stem, dot, extension = last.rpartition(".")
        modified = entry.modified.astimezone(zone)
        values: dict[str, CimValue] = {
            "Name": full, "Caption": full, "Description": full, "Drive": full[:2], "Path": folder[2:] + "\\" if last else "\\",
            "FileName": stem if dot and not self.folders else last, "Extension": extension if dot and not self.folders else "",
            "CreationDate": entry.created.astimezone(zone), "InstallDate": entry.created.astimezone(zone), "LastModified": modified,
            "LastAccessed": modified, "Readable": True, "Writeable": not entry.read_only, "Hidden": entry.hidden, "System": entry.system,
            "Archive": not entry.is_directory, "Compressed": False, "Encrypted": False, "FSName": place.volume.filesystem,
            "FSCreationClassName": "Win32_FileSystem", "CSCreationClassName": "Win32_ComputerSystem",
            "CSName": self.facts.name.upper()[:15],
            "CreationClassName": "CIM_LogicalFile" if not self.folders else "Win32_Directory", "Status": "OK", "AccessMask": 18809343,
            "FileType": "File Folder" if self.folders else f"{extension.upper()} File" if dot else "File",
        }
        if not self.folders:
            values["FileSize"] = entry.size
        return instance("Win32_Directory" if self.folders else "CIM_DataFile", **values)

    # -- methods -----------------------------------------------------------------------------------------------

    def _place(self, call: Invocation) -> tuple[Location, Token]:
        token = identity.token_for(call.caller, self.files.machine, self.files.domain)
        assert call.instance is not None
        return self.files.resolve(str(call.instance["Name"]), follow_last=False), token

    def _delete(self, call: Invocation) -> MethodOutcome:
        """A folder goes with everything in it (windows facts 5)."""
        try:
            place, token = self._place(call)
            self._remove(place, token)
        except Win32Error as refused:
            return {"ReturnValue": _CODES.get(refused.code, _UNSPECIFIED)}
        return {"ReturnValue": 0}

    def _remove(self, place: Location, token: Token) -> None:
        if not place.is_directory:
            self.files.remove_file(place, token)
            return
        if place.link is None:
            for entry in list(self.files.children(place, token)):
                self._remove(entry, token)
        self.files.remove_directory(place, token)

    def _rename(self, call: Invocation) -> MethodOutcome:
        target = call["FileName"]
        if not isinstance(target, str) or target[1:3] != ":\\":
            return {"ReturnValue": _BAD_PARAMETER}
        try:
            place, token = self._place(call)
            self.files.rename(place, self.files.resolve(target, follow_last=False), token)
        except Win32Error as refused:
            return {"ReturnValue": _CODES.get(refused.code, _UNSPECIFIED)}
        return {"ReturnValue": 0}

    def _copy(self, call: Invocation) -> MethodOutcome:
        target = call["FileName"]
        if not isinstance(target, str) or target[1:3] != ":\\":
            return {"ReturnValue": _BAD_PARAMETER}
        try:
            place, token = self._place(call)
            if self.files.resolve(target).exists:
                return {"ReturnValue": 10}
            data = self.files.read_file(place.path.text(), token)
            self.files.write_file(target, data, token)
        except Win32Error as refused:
            return {"ReturnValue": _CODES.get(refused.code, _UNSPECIFIED)}
        return {"ReturnValue": 0}

    def _permission(self, call: Invocation) -> MethodOutcome:
        wanted = call["Permissions"]
        try:
            place, token = self._place(call)
        except Win32Error:
            return {"ReturnValue": False}
        return {"ReturnValue": isinstance(wanted, int) and self.files.may(place, wanted & acl.FULL, token)}
