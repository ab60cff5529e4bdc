# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Win32_ShadowCopy and its companions (operations 5.1)."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta, timezone

from simulator.cim.model import Caller, CimError, CimValue, Instance
from simulator.cim.provider import ClassProvider, Invocation, MethodHandler, MethodOutcome
from simulator.windows import shadows
from simulator.windows.cimv2.common import Listed, instance, ref, require_administrator
from simulator.windows.programs.base import HostFacts
from simulator.windows.shadows import CONTEXTS, ShadowCopy, ShadowService

VSS_E_PROVIDER_IN_USE = 0x80042307
VSS_E_OBJECT_NOT_FOUND = 0x80042308

_PROVIDERS = {
    shadows.SYSTEM_PROVIDER: ("Microsoft Software Shadow Copy provider 1.0", 1),
    shadows.CSV_PROVIDER: ("Microsoft CSV Shadow Copy Provider", 2),
    shadows.CSV_HELPER: ("Microsoft CSV Shadow Copy Helper Provider", 2),
    shadows.FILE_SHARE_PROVIDER: ("Microsoft File Share Shadow Copy provider", 2),
}


def _flags(attributes: int) -> dict[str, CimValue]:
    return {"Persistent": bool(attributes & shadows.PERSISTENT), "ClientAccessible": bool(attributes & shadows.CLIENT_ACCESSIBLE),
            "NoAutoRelease": bool(attributes & shadows.NO_AUTO_RELEASE), "NoWriters": bool(attributes & shadows.NO_WRITERS)}


@dataclass
class ShadowCopies:
    """Win32_ShadowCopy."""

    service: ShadowService
    facts: HostFacts
    methods: Mapping[str, MethodHandler] = field(init=False)

    def __post_init__(self) -> None:
        self.methods = {"Create": self._create}

    def instances(self, caller: Caller) -> Iterable[Instance]:
        """All copies of the host, whoever made them."""
        require_administrator(caller)
        self.service.measure()
        return [self._row(copy) for copy in self.service.copies]

    def get(self, keys: Mapping[str, str], caller: Caller) -> Instance | None:
        """One copy."""
        require_administrator(caller)
        self.service.measure()
        copy = self.service.find(keys["ID"])
        return self._row(copy) if copy else None

    def _row(self, copy: ShadowCopy) -> Instance:
        zone = timezone(timedelta(minutes=self.facts.utc_offset_minutes))
        hardware = copy.provider not in _PROVIDERS
        return instance(
            "Win32_ShadowCopy", ID=copy.shadow_id, SetID=copy.set_id, DeviceObject=copy.device_object, VolumeName=copy.volume.device_id,
            InstallDate=copy.created.astimezone(zone), State=shadows.STATE_CREATED, Count=1, ProviderID=copy.provider.upper(),
            OriginatingMachine=self.facts.fqdn, ServiceMachine=self.facts.fqdn, Differential=not hardware, Plex=hardware,
            HardwareAssisted=hardware, Imported=False, Transportable=False, NotSurfaced=False,
            ExposedLocally=copy.exposed is not None, ExposedRemotely=False, ExposedName=copy.exposed, **_flags(copy.attributes))

    def _create(self, call: Invocation) -> MethodOutcome:
        if not (call.caller.is_administrator or call.caller.scheme == "system"):
            return {"ReturnValue": shadows.ACCESS_DENIED}
        volume, context = call["Volume"], call["Context"]
        code, shadow_id = self.service.create(volume if isinstance(volume, str) else None, context if isinstance(context, str) else None)
        return {"ReturnValue": code, "ShadowID": shadow_id}

    def delete(self, instance: Instance, caller: Caller) -> None:
        """DeleteInstance: one copy."""
        require_administrator(caller)
        copy = self.service.find(str(instance["ID"]))
        if copy is None:
            raise CimError("not_found", "The shadow copy is gone", hresult=VSS_E_OBJECT_NOT_FOUND)
        injected = self.service.delete_errors.pop(0) if self.service.delete_errors else None
        if injected is not None or copy.locked:
            raise CimError("failed", "The shadow copy cannot be deleted now", hresult=injected or VSS_E_PROVIDER_IN_USE)
        self.service.remove(copy)
        self.service.note_change(f"delete shadow copy {copy.shadow_id}")


@dataclass
class ShadowAreas:
    """Win32_ShadowStorage."""

    service: ShadowService
    methods: Mapping[str, MethodHandler] = field(init=False)

    def __post_init__(self) -> None:
        self.methods = {"Create": self._create}

    def instances(self, caller: Caller) -> Iterable[Instance]:
        """All storage areas, measured now."""
        require_administrator(caller)
        self.service.measure()
        return [instance("Win32_ShadowStorage", Volume=ref("Win32_Volume", DeviceID=area.volume.device_id),
                         DiffVolume=ref("Win32_Volume", DeviceID=area.diff_volume.device_id), UsedSpace=area.used,
                         AllocatedSpace=area.allocated, MaxSpace=area.max_space) for area in self.service.areas]

    def _create(self, call: Invocation) -> MethodOutcome:
        if not call.caller.is_administrator:
            return {"ReturnValue": 1}
        volume, diff, limit = call["Volume"], call["DiffVolume"], call["MaxSpace"]
        code = self.service.create_area(volume if isinstance(volume, str) else None, diff if isinstance(diff, str) else None,
                                        limit if isinstance(limit, int) else None)
        return {"ReturnValue": code}


@dataclass
class _Companions:
    """The classes that only list."""

    service: ShadowService

    def providers(self, caller: Caller) -> Iterable[Instance]:
        """Win32_ShadowProvider: the system's own, those of a CSV, and what else has made copies here."""
        require_administrator(caller)
        ids = [shadows.SYSTEM_PROVIDER, shadows.FILE_SHARE_PROVIDER]
        if any(volume.filesystem == "CSVFS" for volume in self.service.files.volumes):
            ids += [shadows.CSV_PROVIDER, shadows.CSV_HELPER]
        used = {copy.provider for copy in self.service.copies} | {self.service.settings.provider}
        for identity in ids + sorted(used - set(ids)):
            name, kind = _PROVIDERS.get(identity, ("Hardware provider", 3))
            yield instance("Win32_ShadowProvider", ID=identity.upper(), Name=name, Type=kind, Version="1.0.0.7",
                           VersionID="{00000001-0000-0000-0007-000000000001}", CLSID=identity.upper())

    def contexts(self, _caller: Caller) -> Iterable[Instance]:
        """Win32_ShadowContext."""
        off: dict[str, CimValue] = dict.fromkeys(("Differential", "Plex", "HardwareAssisted", "Imported", "Transportable", "NotSurfaced",
                                                  "ExposedLocally", "ExposedRemotely"), False)
        return [instance("Win32_ShadowContext", Name=name, Caption=name, Description=name, **_flags(bits), **off)
                for name, bits in CONTEXTS.items()]

    def links(self, class_name: str) -> Listed:
        """Win32_ShadowFor, -By, -On: what a copy is of, who made it, where its old data are."""
        def rows(caller: Caller) -> Iterable[Instance]:
            require_administrator(caller)
            for copy in self.service.copies:
                area = self.service.area_of(copy.volume)
                first = {"Win32_ShadowFor": ref("Win32_Volume", DeviceID=copy.volume.device_id),
                         "Win32_ShadowBy": ref("Win32_ShadowProvider", ID=copy.provider.upper()),
                         "Win32_ShadowOn": ref("Win32_Volume", DeviceID=(area.diff_volume if area else copy.volume).device_id)}
                yield instance(class_name, Antecedent=first[class_name], Dependent=ref("Win32_ShadowCopy", ID=copy.shadow_id))

        return Listed(rows)

    def support(self, class_name: str) -> Listed:
        """Win32_ShadowVolumeSupport and -DiffVolumeSupport: which volumes can be shadowed, and which can hold the old data."""
        def rows(caller: Caller) -> Iterable[Instance]:
            require_administrator(caller)
            for volume in self.service.files.volumes:
                if self.service.supports(volume) and (class_name == "Win32_ShadowVolumeSupport" or volume.filesystem == "NTFS"):
                    identity = shadows.CSV_PROVIDER if volume.filesystem == "CSVFS" else shadows.SYSTEM_PROVIDER
                    yield instance(class_name, Antecedent=ref("Win32_ShadowProvider", ID=identity.upper()),
                                   Dependent=ref("Win32_Volume", DeviceID=volume.device_id))

        return Listed(rows)


def providers(service: ShadowService, facts: HostFacts) -> dict[str, ClassProvider]:
    """The providers by class name."""
    others = _Companions(service)
    return {
        "Win32_ShadowCopy": ShadowCopies(service, facts), "Win32_ShadowStorage": ShadowAreas(service),
        "Win32_ShadowProvider": Listed(others.providers), "Win32_ShadowContext": Listed(others.contexts),
        **{name: others.support(name) for name in ("Win32_ShadowVolumeSupport", "Win32_ShadowDiffVolumeSupport")},
        **{name: others.links(name) for name in ("Win32_ShadowFor", "Win32_ShadowBy", "Win32_ShadowOn")},
    }
