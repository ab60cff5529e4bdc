# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operating system of a host: version, names, clock (windows facts 5)."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError

CIMV2 = "root/cimv2"
SKEW_WARNING = timedelta(minutes=5)

_RELEASES: Mapping[int, str] = {9200: "2012", 9600: "2012R2", 14393: "2016", 17763: "2019", 20348: "2022", 25398: "23H2", 26100: "2025"}
_CLIENT = 1


@dataclass(frozen=True)
class HostSystem:
    """One host. ``release`` is None for a build nobody listed; ``clock_skew`` is host minus controller.

    ``fqdn``, ``domain``, ``hypervisor_present`` and ``memory`` are those of the computer, None when it was not asked for. ``told_at``: what
    the controller's monotonic clock showed when ``local_time`` arrived.
    """

    name: str
    fqdn: str | None
    domain: str | None
    build: int
    release: str | None
    version: str
    server: bool
    local_time: datetime
    clock_skew: timedelta
    last_boot: datetime | None
    hypervisor_present: bool | None
    memory: int | None
    system_drive: str
    told_at: float

    @property
    def skew_matters(self) -> bool:
        """True when the clocks differ by more than five minutes (ARCHITECTURE: a warning)."""
        return abs(self.clock_skew) > SKEW_WARNING

    def time_now(self, clock: Clock) -> datetime:
        """The host's time now without asking again; ``clock`` is the one that it was read with.

        It is behind by the way of one answer and never ahead, unless somebody sets the host's clock back meanwhile.
        """
        return self.local_time + timedelta(seconds=clock.monotonic() - self.told_at)


def from_rows(system: Instance, computer: Instance | None, controller_time: datetime, told_at: float) -> HostSystem:
    """The facts of one host out of ``Win32_OperatingSystem`` and, when it was asked for, ``Win32_ComputerSystem``.

    The operating system knows the computer's name, too (``CSName``).
    """
    build = int(system.text("BuildNumber") or 0)
    name = system.required_text("CSName")
    fqdn, domain = None, None
    if computer is not None:
        fqdn = computer.text("DNSHostName") or name
        domain = computer.text("Domain") if computer.boolean("PartOfDomain") else None
        fqdn = f"{fqdn}.{domain}" if domain else fqdn
    local_time = system.time("LocalDateTime")
    if local_time is None:
        raise HypervError("The host did not tell its time.", error_code="unreadable_answer")
    return HostSystem(
        name=name, fqdn=fqdn, domain=domain, build=build, release=_RELEASES.get(build),
        version=system.text("Version") or "", server=system.integer("ProductType") != _CLIENT, local_time=local_time,
        clock_skew=local_time - controller_time, last_boot=system.time("LastBootUpTime"),
        hypervisor_present=None if computer is None else computer.boolean("HypervisorPresent"),
        memory=None if computer is None else computer.integer("TotalPhysicalMemory"),
        system_drive=(system.text("SystemDrive") or "C:").upper()[:2], told_at=told_at)


def read_system(reader: CimReader, clock: Clock, *, computer: bool = True) -> HostSystem:
    """Name, version and clock of the host, one request, and what the computer tells, another one.

    The clock is compared with the middle of the request.
    """
    before = clock.utcnow()
    system = _only(reader, "Win32_OperatingSystem")
    after, told_at = clock.utcnow(), clock.monotonic()
    return from_rows(system, _only(reader, "Win32_ComputerSystem") if computer else None, before + (after - before) / 2, told_at)


def _only(reader: CimReader, class_name: str) -> Instance:
    rows = reader.enumerate(CIMV2, class_name)
    if not rows:
        raise HypervError(f"The host returned no {class_name}.", error_code="unreadable_answer")
    return rows[0]


def read_time(reader: CimReader) -> datetime:
    """The host's time now; one request."""
    now = _only(reader, "Win32_OperatingSystem").time("LocalDateTime")
    if now is None:
        raise HypervError("The host did not tell its time.", error_code="unreadable_answer")
    return now


def read_time_and_drive(reader: CimReader) -> tuple[datetime, str]:
    """The host's time now and its system drive, such as ``C:``; one request."""
    system = _only(reader, "Win32_OperatingSystem")
    now = system.time("LocalDateTime")
    if now is None:
        raise HypervError("The host did not tell its time.", error_code="unreadable_answer")
    return now, (system.text("SystemDrive") or "C:").upper()[:2]
