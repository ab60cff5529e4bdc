# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ready-made machines: one of every state and kind that the operations reference names, and many for measurements."""
from __future__ import annotations

from dataclasses import replace

from simulator.hyperv.spec import (
    MIB,
    CheckpointSpec,
    ComponentSpec,
    DiskSpec,
    GuestSpec,
    IntegrationSpec,
    NicSpec,
    ReferencePointSpec,
    RelationSpec,
    VmSpec,
)

REPLICA_ID = "7D5C0E1A-9B3F-4E0A-8C11-2F6A5B9E4D01"
"""The machine that is primary here and replica on another host shares this GUID."""

_MODERN = ("2016", "2019", "2022", "2025")

HOSTILE_NAMES = (
    "it's \"quoted\"",
    "%TEMP%",
    "a%b",
    'x" & del',
    "{{ 7*7 }}",
    "\x1b[31mred\x1b[0m",
    "\u202egnp.exe",
    "\N{CJK UNIFIED IDEOGRAPH-20BB7}野家 🖥",
    "n" * 100,
    "<vm & co>",
    "back\\slash",
    "trailing dot.",
    "100% _[]^",
)
"""Names that Hyper-V accepts and that break careless code: quoting, expansion, templates, terminals, direction, width."""

NEWLINE_NOTES = "first line\nsecond 'line' with \"quotes\"\r\n<third> & last {{ 7*7 }}"


def zoo(os_version: str = "2022", *, clustered: bool = False) -> tuple[VmSpec, ...]:
    r"""One machine of every kind (operations 1, 2.1, 6). Volumes used: ``C:``, ``D:``, ``E:``, ``\\fs1.example.test\vms`` and, with
    ``clustered``, ``C:\ClusterStorage\Volume1``.
    """
    machines = [*_plain(), *_guests(), *_states(), *_disks(os_version), *_checkpoints(os_version), *_busy(), *_replica(),
                *_hostile(), VmSpec(name="planned-leftover", planned=True, state="off", nics=())]
    if os_version in _MODERN:
        machines += _modern()
    if clustered:
        machines.append(VmSpec(name="csv", clustered=True, folder="C:\\ClusterStorage\\Volume1\\csv"))
    return tuple(machines)


def _plain() -> list[VmSpec]:
    return [
        VmSpec(name="web01", folder="D:\\VMs\\web01", notes="front end"),
        VmSpec(name="twin", folder="D:\\VMs\\twin-1"),
        VmSpec(name="twin", folder="D:\\VMs\\twin-2", state="off"),
        VmSpec(name="legacy", generation=1, folder="D:\\VMs\\legacy", version="5.0",
               disks=(DiskSpec(), DiskSpec(medium="dvd", path="D:\\ISO\\setup.iso"), DiskSpec(medium="empty_dvd")),
               integration=IntegrationSpec(version_state=2)),
        VmSpec(name="dynamic-memory", dynamic_memory=True, memory_mb=4096, folder="D:\\VMs\\dynamic-memory"),
        VmSpec(name="off-by-policy", policy="disabled", folder="D:\\VMs\\off-by-policy"),
        VmSpec(name="diskless", disks=(), state="off", folder="D:\\VMs\\diskless"),
    ]


def _guests() -> list[VmSpec]:
    silent = ComponentSpec(status="no_contact")
    off = ComponentSpec(enabled=False)
    return [
        VmSpec(name="linux-vss", guest=GuestSpec.linux(), folder="D:\\VMs\\linux-vss"),
        VmSpec(name="linux-no-daemon", guest=GuestSpec.linux(), integration=IntegrationSpec(vss=silent), folder="D:\\VMs\\linux-no-daemon"),
        VmSpec(name="no-integration", guest=None, integration=IntegrationSpec.none(), folder="D:\\VMs\\no-integration"),
        VmSpec(name="vss-off", integration=IntegrationSpec(vss=off), folder="D:\\VMs\\vss-off"),
        VmSpec(name="all-off", integration=IntegrationSpec(off, off, off, off, version_state=0), folder="D:\\VMs\\all-off"),
        VmSpec(name="lost-contact", integration=IntegrationSpec(heartbeat=ComponentSpec(status="lost"), vss=ComponentSpec(status="lost")),
               folder="D:\\VMs\\lost-contact"),
        VmSpec(name="old-protocol", integration=IntegrationSpec(vss=ComponentSpec(status="degraded"), version_state=2),
               folder="D:\\VMs\\old-protocol"),
        VmSpec(name="incompatible-vss", integration=IntegrationSpec(vss=ComponentSpec(status="incompatible")),
               folder="D:\\VMs\\incompatible-vss"),
        VmSpec(name="database", guest=GuestSpec(items={"Role": "database"}), folder="D:\\VMs\\database",
               disks=(DiskSpec(), DiskSpec(path="E:\\Data\\database-log.vhdx"))),
    ]


def _states() -> list[VmSpec]:
    return [
        VmSpec(name="off", state="off", folder="D:\\VMs\\off"),
        VmSpec(name="saved", state="saved", folder="D:\\VMs\\saved"),
        VmSpec(name="paused", state="paused", folder="D:\\VMs\\paused"),
        VmSpec(name="starting", state="starting", folder="D:\\VMs\\starting"),
        VmSpec(name="stopping", state="stopping", folder="D:\\VMs\\stopping"),
        VmSpec(name="saving", state="saving", folder="D:\\VMs\\saving"),
        VmSpec(name="storage-full", state="paused", health="storage_full", folder="E:\\VMs\\storage-full"),
        VmSpec(name="storage-low", health="storage_low", folder="E:\\VMs\\storage-low"),
        VmSpec(name="critical", state="critical", health="configuration_offline", folder="D:\\VMs\\critical"),
    ]


def _disks(os_version: str) -> list[VmSpec]:
    folder = "D:\\VMs\\"
    machines = [
        VmSpec(name="passthrough", disks=(DiskSpec(), DiskSpec(medium="passthrough", disk_number=3)), folder=folder + "passthrough"),
        VmSpec(name="shared-vhdx", folder=folder + "shared-vhdx",
               disks=(DiskSpec(), DiskSpec(path="D:\\Shared\\quorum.vhdx", shared=True))),
        VmSpec(name="smb3", folder="\\\\fs1.example.test\\vms\\smb3"),
        VmSpec(name="fixed", disks=(DiskSpec(kind="fixed", size=16 * MIB),), folder=folder + "fixed"),
        VmSpec(name="old-format", generation=1, folder=folder + "old-format",
               disks=(DiskSpec(path="D:\\VMs\\old-format\\old-format.vhd", kind="fixed", size=8 * MIB),)),
        VmSpec(name="linked-clone", disks=(DiskSpec(parent="D:\\Templates\\base.vhdx"),), folder=folder + "linked-clone"),
        VmSpec(name="linked-clone-2", disks=(DiskSpec(parent="D:\\Templates\\base.vhdx"),), folder=folder + "linked-clone-2"),
        VmSpec(name="two-volumes", disks=(DiskSpec(), DiskSpec(path="E:\\VMs\\two-volumes-data.vhdx")), folder=folder + "two-volumes"),
        VmSpec(name="missing-disk", state="off", disks=(DiskSpec(path="D:\\VMs\\gone\\gone.vhdx", exists=False),),
               folder=folder + "missing-disk"),
        VmSpec(name="copied-disk", folder=folder + "copied-disk",
               disks=(DiskSpec(path="D:\\VMs\\copied-disk\\one.vhdx", disk_id="0F3C9D52-55B1-4A6D-9C22-90E7B8A0D001"),
                      DiskSpec(path="D:\\VMs\\copied-disk\\two.vhdx", disk_id="0F3C9D52-55B1-4A6D-9C22-90E7B8A0D001"))),
        VmSpec(name="fibre-channel", fibre_channel_ports=2, folder=folder + "fibre-channel"),
        VmSpec(name="orphan-chain", disks=(DiskSpec(orphans=1),), folder=folder + "orphan-chain"),
        VmSpec(name="no-network", nics=(NicSpec(switch=None),), folder=folder + "no-network"),
    ]
    if os_version in _MODERN:
        machines.append(VmSpec(name="vhd-set", disks=(DiskSpec(), DiskSpec(path="D:\\Shared\\set.vhds", shared=True)),
                               folder=folder + "vhd-set"))
    return machines


def _checkpoints(os_version: str) -> list[VmSpec]:
    def checkpoint(key: str, parent: str | None = None, **values: object) -> CheckpointSpec:
        return replace(CheckpointSpec(key, parent=parent), **values)  # type: ignore[arg-type]

    production = "production" if os_version in _MODERN else "standard"
    machines = [
        VmSpec(name="one-checkpoint", folder="D:\\VMs\\one-checkpoint",
               checkpoints=(CheckpointSpec("before-patch", "before patch", kind="production", notes="by hand"),)),
        VmSpec(name="tree", folder="D:\\VMs\\tree", current_parent="c", last_applied="a", checkpoints=(
            checkpoint("a", kind=production, age_hours=200.0), checkpoint("b", "a", kind="standard", age_hours=100.0),
            checkpoint("c", "a", kind=production, age_hours=50.0))),
        VmSpec(name="twin-checkpoints", folder="D:\\VMs\\twin-checkpoints", checkpoints=(
            checkpoint("a", name="same name"), checkpoint("b", "a", name="same name", age_hours=1.0))),
        VmSpec(name="foreign-backup", folder="D:\\VMs\\foreign-backup", last_backup_hours_ago=30.0,
               checkpoints=(checkpoint("r", kind="recovery", age_hours=30.0),)),
        VmSpec(name="checkpoint-missing", folder="D:\\VMs\\checkpoint-missing", state="off", current_parent="a",
               checkpoints=(checkpoint("a", age_hours=500.0), checkpoint("lost", "a", kind="missing", age_hours=400.0))),
        VmSpec(name="long-chain", folder="D:\\VMs\\long-chain", checkpoints=tuple(
            checkpoint(f"c{n}", f"c{n - 1}" if n else None, age_hours=100.0 - n) for n in range(6))),
    ]
    if os_version not in ("2012R2", "2016"):
        machines.append(VmSpec(name="automatic", automatic_checkpoints=True, folder="D:\\VMs\\automatic",
                               checkpoints=(checkpoint("auto", automatic=True, age_hours=2.0),)))
    return machines


def _busy() -> list[VmSpec]:
    return [
        VmSpec(name="merging", busy="merging", busy_minutes=10.0, disks=(DiskSpec(orphans=1),), folder="D:\\VMs\\merging"),
        VmSpec(name="exporting", busy="exporting", busy_minutes=30.0, busy_owner="CONTOSO\\operator", folder="D:\\VMs\\exporting"),
        VmSpec(name="migrating", busy="migrating", folder="D:\\VMs\\migrating"),
        VmSpec(name="being-backed-up", busy="backup", busy_minutes=5.0, folder="D:\\VMs\\being-backed-up",
               checkpoints=(CheckpointSpec("r", kind="recovery", age_hours=0.1),)),
        VmSpec(name="stuck-checkpoint", busy="creating_checkpoint", folder="D:\\VMs\\stuck-checkpoint"),
    ]


def _replica() -> list[VmSpec]:
    return [
        VmSpec(name="primary", vm_id=REPLICA_ID, replication_mode=1, folder="D:\\VMs\\primary",
               relations=(RelationSpec(), RelationSpec(state=7, health=2, minutes_since=900.0))),
        VmSpec(name="replica", state="off", replication_mode=2, folder="D:\\Replica\\replica", guest=None, checkpoints=(
            CheckpointSpec("r1", kind="replica", age_hours=2.0),
            CheckpointSpec("r2", kind="replica_application", parent="r1", age_hours=1.0))),
        VmSpec(name="replica-critical", state="off", replication_mode=2, folder="D:\\Replica\\replica-critical", guest=None,
               relations=(RelationSpec(state=8, health=3, minutes_since=3000.0),)),
        VmSpec(name="test-failover", state="off", replication_mode=3, folder="D:\\Replica\\test-failover"),
    ]


def _modern() -> list[VmSpec]:
    return [
        VmSpec(name="vtpm", tpm=True, folder="D:\\VMs\\vtpm"),
        VmSpec(name="shielded", tpm=True, shielded=True, folder="D:\\VMs\\shielded"),
        VmSpec(name="production-only", policy="production_only", folder="D:\\VMs\\production-only"),
        VmSpec(name="standard-only", policy="standard", folder="D:\\VMs\\standard-only"),
        VmSpec(name="tracked", folder="D:\\VMs\\tracked", reference_points=(ReferencePointSpec("full"), ReferencePointSpec("last", 2))),
    ]


def _hostile() -> list[VmSpec]:
    machines = [VmSpec(name=name, folder=f"D:\\VMs\\hostile-{number}", disks=(DiskSpec(path=f"D:\\VMs\\hostile-{number}\\disk.vhdx"),))
                for number, name in enumerate(HOSTILE_NAMES)]
    machines.append(VmSpec(name="newline-notes", notes=NEWLINE_NOTES, folder="D:\\VMs\\newline-notes"))
    machines.append(VmSpec(name="percent-path", folder="D:\\VMs\\100% & more's",
                           disks=(DiskSpec(path="D:\\VMs\\100% & more's\\a%b.vhdx"),)))
    return machines


def many(count: int, *, prefix: str = "vm", folder: str = "D:\\VMs") -> tuple[VmSpec, ...]:
    """``count`` healthy machines with one or two disks, every tenth off, every twentieth with a checkpoint. No file is made."""
    machines = []
    for number in range(count):
        name = f"{prefix}{number:04d}"
        home = f"{folder}\\{name}"
        disks: tuple[DiskSpec, ...] = (DiskSpec(path=f"{home}\\{name}.vhdx"),)
        if number % 2:
            disks = (*disks, DiskSpec(path=f"{home}\\{name}-data.vhdx"))
        checkpoints = (CheckpointSpec("auto"),) if number % 20 == 19 else ()
        machines.append(VmSpec(name=name, folder=home, disks=disks, checkpoints=checkpoints,
                               state="off" if number % 10 == 9 else "running"))
    return tuple(machines)
