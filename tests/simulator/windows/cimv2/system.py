# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Win32_OperatingSystem, Win32_ComputerSystem and Win32_Service (windows facts 5, operations 0.6)."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from simulator.cim.model import Caller, CimValue, Instance
from simulator.cim.provider import Invocation, MethodHandler, MethodOutcome
from simulator.clock import SimClock
from simulator.windows.cimv2.common import Listed, instance
from simulator.windows.programs.base import HostFacts

BUILDS = {"2012R2": ("6.3.9600", "9600", "Microsoft Windows Server 2012 R2 Standard"),
          "2016": ("10.0.14393", "14393", "Microsoft Windows Server 2016 Standard"),
          "2019": ("10.0.17763", "17763", "Microsoft Windows Server 2019 Standard"),
          "2022": ("10.0.20348", "20348", "Microsoft Windows Server 2022 Standard"),
          "2025": ("10.0.26100", "26100", "Microsoft Windows Server 2025 Standard")}
"""Version, BuildNumber and Caption (operations 0.6)."""

_LANGUAGES = {"en-US": ("0409", 1033, "1", "1252", "64-bit"), "de-DE": ("0407", 1031, "49", "1252", "64-Bit"),
              "ja-JP": ("0411", 1041, "81", "932", "64 ビット")}
_SERVER, _CONTROLLER = 3, 2
_MEMBER_SERVER, _STANDALONE_SERVER, _PRIMARY_CONTROLLER = 3, 2, 5


def operating_system(facts: HostFacts, clock: SimClock, booted: datetime, free: int | None = None) -> Instance:
    """The one instance of Win32_OperatingSystem; ``free`` bytes of memory, a third unless known."""
    version, build, caption = BUILDS[facts.os_version]
    locale, language, country, code_set, architecture = _LANGUAGES.get(facts.locale, _LANGUAGES["en-US"])
    zone = timezone(timedelta(minutes=facts.utc_offset_minutes))
    kilobytes = facts.memory_bytes // 1024
    return instance(
        "Win32_OperatingSystem", Name=f"{caption}|C:\\Windows|\\Device\\Harddisk0\\Partition4", Caption=caption, Version=version,
        BuildNumber=build, BuildType="Multiprocessor Free", ProductType=_CONTROLLER if facts.domain_controller else _SERVER, OSType=18,
        OSArchitecture=architecture, OSLanguage=language, Locale=locale, MUILanguages=[facts.locale], CountryCode=country,
        CodeSet=code_set, CSName=facts.name.upper()[:15], CSCreationClassName="Win32_ComputerSystem",
        CreationClassName="Win32_OperatingSystem", CurrentTimeZone=facts.utc_offset_minutes, LocalDateTime=clock.now().astimezone(zone),
        LastBootUpTime=booted.astimezone(zone), InstallDate=(booted - timedelta(days=200)).astimezone(zone),
        FreePhysicalMemory=kilobytes // 3 if free is None else free // 1024, TotalVisibleMemorySize=kilobytes,
        OperatingSystemSKU=7, ServicePackMajorVersion=0, ServicePackMinorVersion=0, Status="OK", SystemDirectory="C:\\Windows\\system32",
        SystemDrive="C:", WindowsDirectory="C:\\Windows", Primary=True, PortableOperatingSystem=False, Manufacturer="Microsoft Corporation")


def computer_system(facts: HostFacts) -> Instance:
    """The one instance of Win32_ComputerSystem; Domain holds the name of the workgroup where there is no domain."""
    role = _PRIMARY_CONTROLLER if facts.domain_controller else _MEMBER_SERVER if facts.domain else _STANDALONE_SERVER
    return instance(
        "Win32_ComputerSystem", Name=facts.name.upper()[:15], Caption=facts.name.upper()[:15], DNSHostName=facts.name,
        Domain=facts.domain or facts.workgroup, PartOfDomain=facts.domain is not None,
        Workgroup=None if facts.domain else facts.workgroup, DomainRole=role, HypervisorPresent=True,
        TotalPhysicalMemory=facts.memory_bytes, NumberOfProcessors=1, NumberOfLogicalProcessors=8, CurrentTimeZone=facts.utc_offset_minutes,
        Manufacturer="Simulated", Model="Hyper-V host", PCSystemType=4, Status="OK", SystemType="x64-based PC",
        CreationClassName="Win32_ComputerSystem", BootupState="Normal boot")


@dataclass
class Service:
    """One Windows service. ``listeners`` get the new state, ``Running`` or ``Stopped``."""

    name: str
    display: str
    path: str
    start_mode: str = "Auto"
    state: str = "Running"
    listeners: list[Callable[[str], None]] = field(default_factory=list)


def default_services(facts: HostFacts) -> dict[str, Service]:
    """The services that matter for a Hyper-V host, by name in lower case."""
    host = "C:\\Windows\\system32\\svchost.exe -k netsvcs"
    rows = [Service("vmms", "Hyper-V Virtual Machine Management", "C:\\Windows\\system32\\vmms.exe"),
            Service("vmcompute", "Hyper-V Host Compute Service", "C:\\Windows\\system32\\vmcompute.exe", "Manual"),
            Service("vds", "Virtual Disk", "C:\\Windows\\System32\\vds.exe", "Manual", "Stopped"),
            Service("VSS", "Volume Shadow Copy", "C:\\Windows\\system32\\vssvc.exe", "Manual", "Stopped"),
            Service("swprv", "Microsoft Software Shadow Copy Provider", host, "Manual", "Stopped"),
            Service("WinRM", "Windows Remote Management (WS-Management)", host),
            Service("Winmgmt", "Windows Management Instrumentation", host),
            Service("Schedule", "Task Scheduler", host), Service("LanmanServer", "Server", host),
            Service("LanmanWorkstation", "Workstation", host), Service("EventLog", "Windows Event Log", host)]
    if facts.cluster:
        rows.append(Service("ClusSvc", "Cluster Service", "C:\\Windows\\Cluster\\clussvc.exe"))
    return {row.name.lower(): row for row in rows}


@dataclass
class Services:
    """Win32_Service."""

    table: Mapping[str, Service]
    facts: HostFacts
    note_change: Callable[[str], None]
    methods: Mapping[str, MethodHandler] = field(init=False)

    def __post_init__(self) -> None:
        self.methods = {"StartService": self._start, "StopService": self._stop}

    def instances(self, caller: Caller) -> Iterable[Instance]:
        """All services."""
        del caller
        return [self._row(service) for service in self.table.values()]

    def get(self, keys: Mapping[str, str], caller: Caller) -> Instance | None:
        """One service."""
        del caller
        service = self.table.get(keys["Name"].lower())
        return self._row(service) if service else None

    def _row(self, service: Service) -> Instance:
        running = service.state == "Running"
        values: dict[str, CimValue] = {
            "Name": service.name, "Caption": service.display, "DisplayName": service.display, "PathName": service.path,
            "StartMode": service.start_mode, "State": service.state, "Started": running, "Status": "OK", "AcceptStop": running,
            "AcceptPause": False, "ExitCode": 0 if running else 1077, "ProcessId": 1000 + 4 * sorted(self.table).index(service.name.lower())
            if running else 0, "ServiceType": "Own Process", "StartName": "LocalSystem", "ErrorControl": "Normal",
            "SystemName": self.facts.name.upper()[:15], "SystemCreationClassName": "Win32_ComputerSystem",
            "CreationClassName": "Win32_Service", "DelayedAutoStart": False}
        return instance("Win32_Service", **values)

    def _change(self, call: Invocation, state: str, refused: int) -> MethodOutcome:
        assert call.instance is not None
        service = self.table[str(call.instance["Name"]).lower()]
        if not call.caller.is_administrator:
            return {"ReturnValue": 2}
        if service.state == state:
            return {"ReturnValue": refused}
        service.state = state
        self.note_change(f"service {service.name}: {state}")
        for listener in service.listeners:
            listener(state)
        return {"ReturnValue": 0}

    def _start(self, call: Invocation) -> MethodOutcome:
        return self._change(call, "Running", 10)

    def _stop(self, call: Invocation) -> MethodOutcome:
        return self._change(call, "Stopped", 5)


def providers(facts: HostFacts, clock: SimClock, booted: Callable[[], datetime], free: Callable[[], int | None]) -> dict[str, Listed]:
    """The providers of the two singletons, by class name; ``booted`` tells when the host was last started, ``free`` its free memory."""
    return {"Win32_OperatingSystem": Listed(lambda _caller: [operating_system(facts, clock, booted(), free())]),
            "Win32_ComputerSystem": Listed(lambda _caller: [computer_system(facts)])}
