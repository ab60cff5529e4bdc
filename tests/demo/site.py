# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site of the demo: three hosts of three releases, what runs on them, and what the inventory asks to be copied."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from simulator.cim.model import Account
from simulator.hyperv.spec import GIB, MIB, CheckpointSpec, DiskSpec, GuestSpec, VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import VolumeSpec

ACCOUNT = Account("Administrator", "Demo-Pässwörd-1", groups=frozenset({"Administrators"}), builtin_administrator=True)
DESTINATION = "E:\\Backup"
EXPORTS = "E:\\Exports"
DRILLS = "D:\\Drill"
EXPORT_HOST, EXPORT_VM = "HV03", "crm01"
"""Which machine is exported and restored for a drill. The inventory names it only then."""
HOSTILE = "it's 50% \"off\" & <{{ 7 * 7 }}> \u202egnp.exe"
"""A name that Hyper-V accepts: quotes, what cmd expands, markup, a template, and a character that turns the rest of a line around."""
LIVE_HOST, LIVE_VM = "HV01", "web01"
"""Which disk is also copied without a shadow copy. This host lets others read a disk that is in use; newer ones refuse that."""


@dataclass(frozen=True)
class GuestPlan:
    """How the guest of a machine writes: before the demo begins (to each file of its chain, base first), and then all the time."""

    written_before: int = 200
    writes_per_second: float = 100.0
    slots: int = 64


@dataclass(frozen=True)
class HostPlan:
    """One host, what is asked of it and what must become of that. ``foreign``: shadow copies that another product left on D:."""

    spec: HostSpec
    backup_vms: tuple[str, ...]
    copied: tuple[str, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    """Name of a machine that cannot be copied -> the error code that says why."""
    foreign: int = 0
    guests: Mapping[str, GuestPlan] = field(default_factory=dict)
    """Guests that differ from the usual one."""


def _host(name: str, os_version: str, locale: str, start: datetime, *machines: VmSpec) -> HostSpec:
    volumes = (VolumeSpec("C:", free=60 * GIB), VolumeSpec("D:", label="VMs", free=60 * GIB),
               VolumeSpec("E:", label="Backup", free=90 * GIB))
    return HostSpec(name, os_version=os_version, locale=locale, accounts=(ACCOUNT,), volumes=volumes, vms=machines, start=start)


def _vm(name: str, folder: str | None = None, **values: object) -> VmSpec:
    return VmSpec(name=name, folder=f"D:\\VMs\\{folder or name}", **values)  # type: ignore[arg-type]


def plan(start: datetime) -> tuple[HostPlan, ...]:
    """The hosts. ``start``: their time, aware."""
    two_disks = (DiskSpec(), DiskSpec(path="D:\\VMs\\sql01\\sql01-log.vhdx"))
    tree = (CheckpointSpec("patch", "before the patch", age_hours=50.0), CheckpointSpec("upgrade", "before the upgrade", parent="patch"))
    hv01 = _host(
        "HV01", "2012R2", "en-US", start, _vm("sql01", disks=two_disks), _vm("web01"), _vm("old-app", generation=1, state="off"),
        _vm("scratch01"))
    hv02 = _host(
        "HV02", "2019", "ja-JP", start, _vm("linux01", guest=GuestSpec.linux()), _vm("build01", checkpoints=tree),
        _vm(HOSTILE, "hostile", disks=(DiskSpec(path="D:\\VMs\\hostile\\100% & more's.vhdx"),)))
    hv03 = _host(
        "HV03", "2025", "en-US", start, _vm("file01", disks=(DiskSpec(kind="fixed", size=16 * MIB),), tpm=True), _vm("web02"),
        _vm(EXPORT_VM), _vm("erp01", disks=(DiskSpec(), DiskSpec(path="C:\\VMs\\erp01\\erp01-log.vhdx"))))
    return (
        HostPlan(hv01, ("sql01", "web01", "old-app"), ("sql01", "web01", "old-app")),
        HostPlan(hv02, ("*",), ("linux01", "build01", HOSTILE), foreign=2,
                 guests={"build01": GuestPlan(written_before=30, writes_per_second=5, slots=128)}),
        HostPlan(hv03, ("file01", "web02", "erp01"), ("file01", "web02"), refused={"erp01": "several_volumes"}, foreign=1),
    )
