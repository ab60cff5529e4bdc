# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines of one host: what they are and in which state (operations 0.5, 1.1, 1.2).

Two enumerations serve the whole host, however many VMs it has; everything is joined by GUID in pure functions.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.available import enumerate_available
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, as_guid

REALIZED = "Microsoft:Hyper-V:System:Realized"

# Values of v2 and, after them, those of v1 that documents and some builds still show (operations 0.5, D-12).
_STATES: Mapping[int, str] = {
    2: "running", 3: "off", 4: "stopping", 6: "saved", 9: "paused", 10: "starting",
    32768: "paused", 32769: "saved", 32770: "starting", 32771: "snapshotting", 32773: "saving", 32774: "stopping",
    32776: "pausing", 32777: "resuming",
}
REMOVING, MERGING = "deleting_checkpoint", "merging_disks"
"""What ``Machine.busy`` says while a checkpoint goes, and while its disks are merged."""
_BUSY: Mapping[int, str] = {
    32768: "creating_checkpoint", 32769: "applying_checkpoint", 32770: REMOVING, 32771: "waiting_to_start", 32772: MERGING,
    32773: "exporting", 32774: "migrating",
}
_HEALTH: Mapping[int, str] = {5: "ok", 20: "major_failure", 25: "critical"}
_REPLICATION_MODES: Mapping[int, str] = {0: "none", 1: "primary", 2: "replica", 3: "test_replica", 4: "extended_replica"}
_POLICIES: Mapping[int, str] = {2: "disabled", 3: "production", 4: "production_only", 5: "standard"}
_GENERATIONS: Mapping[str, int] = {"microsoft:hyper-v:subtype:1": 1, "microsoft:hyper-v:subtype:2": 2}
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})")
_STORAGE_OFFLINE = 3


@dataclass(frozen=True)
class Settings:
    """The current configuration of a VM: its ``Msvm_VirtualSystemSettingData`` of type *Realized*."""

    instance_id: str
    name: str
    version: str | None
    generation: int | None
    checkpoint_policy: str | None
    automatic_checkpoints: bool | None
    incremental_backup: bool | None
    created: datetime | None
    notes: str | None
    configuration_root: str | None
    configuration_file: str | None
    snapshot_root: str | None
    parent: str | None
    secure_boot: bool | None

    @property
    def reference(self) -> Reference:
        """The address of this configuration."""
        return Reference(NAMESPACE, "Msvm_VirtualSystemSettingData", {"InstanceID": self.instance_id})

    @property
    def version_number(self) -> tuple[int, int] | None:
        """The configuration version as numbers, for comparing; None when the host sent none."""
        match = _VERSION.match(self.version or "")
        return (int(match.group(1)), int(match.group(2))) if match else None


@dataclass(frozen=True)
class Machine:
    """One virtual machine. Its identity is ``vm_id``; the name is for people and need not be unique (operations 1.1)."""

    vm_id: str
    name: str
    reference: Reference
    state: str
    enabled_state: int | None
    other_state: str | None
    health: str | None
    operational_status: tuple[int, ...]
    replication_mode: str
    uptime_ms: int | None
    last_backup: datetime | None
    state_changed: datetime | None
    settings: Settings | None

    @property
    def busy(self) -> str | None:
        """What the host is doing to this VM right now, from the second operational status; None when idle."""
        if len(self.operational_status) < 2 or self.operational_status[1] == 0:
            return None
        return _BUSY.get(self.operational_status[1], f"status_{self.operational_status[1]}")

    @property
    def storage_offline(self) -> bool:
        """The configuration storage cannot be reached: only turning off and deleting are allowed (operations 1.7)."""
        return bool(self.operational_status) and self.operational_status[0] == _STORAGE_OFFLINE


@dataclass(frozen=True)
class MachineRows:
    """What the two enumerations brought, before any choice: VMs, and every setting row (checkpoints among them)."""

    machines: tuple[Machine, ...]
    setting_rows: tuple[Instance, ...]


def state_name(enabled_state: int | None) -> str:
    """The word for an EnabledState; ``other`` for 1, ``unknown`` for what nobody documents."""
    if enabled_state == 1:
        return "other"
    return _STATES.get(enabled_state if enabled_state is not None else 0, "unknown")


def read_settings(row: Instance) -> Settings:
    """One settings row as facts; properties that older hosts lack are None (operations 0.6)."""
    policy = row.integer("UserSnapshotType")
    return Settings(
        instance_id=row.required_text("InstanceID"),
        name=row.text("ElementName") or "",
        version=row.text("Version"),
        generation=_GENERATIONS.get((row.text("VirtualSystemSubType") or "").lower()),
        checkpoint_policy=None if policy is None else _POLICIES.get(policy, f"unknown_{policy}"),
        automatic_checkpoints=row.boolean("AutomaticSnapshotsEnabled"),
        incremental_backup=row.boolean("IncrementalBackupEnabled"),
        created=row.time("CreationTime"),
        notes="\n".join(row.texts("Notes")) or None,
        configuration_root=row.text("ConfigurationDataRoot"),
        configuration_file=row.text("ConfigurationFile"),
        snapshot_root=row.text("SnapshotDataRoot"),
        parent=row.text("Parent"),
        secure_boot=row.boolean("SecureBootEnabled"),
    )


def join(systems: Iterable[Instance], setting_rows: Iterable[Instance]) -> tuple[Machine, ...]:
    """Machines out of ``Msvm_ComputerSystem`` and settings rows, ordered by name and GUID.

    The host has a row of its own. It is told apart because its Name is no GUID: its Caption and Description are
    localised (wire 4, operations 0.5). A VM without a settings row is kept, with ``settings`` None.
    """
    current: dict[str, Settings] = {}
    for row in setting_rows:
        if (row.text("VirtualSystemType") or "").lower() != REALIZED.lower():
            continue
        vm_id = as_guid(row.text("VirtualSystemIdentifier"))
        if vm_id is not None:
            current[vm_id] = read_settings(row)
    machines = [machine for machine in (_machine(row, current) for row in systems) if machine is not None]
    return tuple(sorted(machines, key=lambda machine: (machine.name.casefold(), machine.vm_id)))


def _machine(row: Instance, current: Mapping[str, Settings]) -> Machine | None:
    vm_id = as_guid(row.text("Name"))
    if vm_id is None:
        return None
    health = row.integer("HealthState")
    mode = row.integer("ReplicationMode") or 0
    enabled = row.integer("EnabledState")
    return Machine(
        vm_id=vm_id,
        name=row.text("ElementName") or "",
        reference=machine_reference(vm_id),
        state=state_name(enabled),
        enabled_state=enabled,
        other_state=row.text("OtherEnabledState"),
        health=None if health is None else _HEALTH.get(health, f"unknown_{health}"),
        operational_status=row.integers("OperationalStatus"),
        replication_mode=_REPLICATION_MODES.get(mode, f"unknown_{mode}"),
        uptime_ms=row.integer("OnTimeInMilliseconds"),
        last_backup=row.time("LastSuccessfulBackupTime"),
        state_changed=row.time("TimeOfLastStateChange"),
        settings=current.get(vm_id),
    )


def machine_reference(vm_id: str) -> Reference:
    """The address of a VM. Get needs both keys (wire 1.4)."""
    return Reference(NAMESPACE, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": vm_id})


def read_machines(reader: CimReader) -> MachineRows:
    """Every VM that this account may see; two requests.

    Raises HypervError ``not_a_hyperv_host`` when the host has no Hyper-V namespace, AccessDenied when the account is refused.
    """
    systems = enumerate_available(reader, NAMESPACE, "Msvm_ComputerSystem")
    if systems is None:
        raise HypervError(
            "The host has no Hyper-V management classes (root/virtualization/v2).",
            error_code="not_a_hyperv_host",
            hint="Install the Hyper-V role, or take the host out of this play.",
        )
    rows = tuple(reader.enumerate(NAMESPACE, "Msvm_VirtualSystemSettingData"))
    return MachineRows(join(systems, rows), rows)


def select(machines: Sequence[Machine], *, name: str | None, vm_id: str | None) -> Machine:
    """The one VM that a task names; ``vm_id`` wins (INTERFACE).

    Raises HypervError ``vm_not_found`` (which says when no VM at all is visible), ``vm_not_unique`` with the GUIDs,
    ``invalid_vm_id``.
    """
    if vm_id is not None:
        guid = as_guid(vm_id)
        if guid is None:
            raise HypervError(f"vm_id {vm_id!r} is not a GUID.", error_code="invalid_vm_id")
        found = [machine for machine in machines if machine.vm_id == guid]
        wanted = f"with the GUID {guid}"
    else:
        found = [machine for machine in machines if machine.name.casefold() == (name or "").casefold()]
        wanted = f"named {name!r}"
    if len(found) == 1:
        return found[0]
    if found:
        guids = sorted(machine.vm_id for machine in found)
        raise HypervError(
            f"{len(found)} virtual machines are named {name!r} on this host: {', '.join(guids)}.",
            error_code="vm_not_unique", hint="Name the one that is meant by vm_id.", details={"candidates": guids})
    raise HypervError(f"This host has no virtual machine {wanted}.", error_code="vm_not_found", hint=absent_hint(machines))


def absent_hint(machines: Sequence[Machine]) -> str:
    """What to say beside *not found*: an account without rights sees an empty list, not an error (operations 1.7)."""
    if machines:
        return "Is it on another node of its cluster? Names are compared without case."
    return NOTHING_VISIBLE


NOTHING_VISIBLE = (
    "This account sees no virtual machine at all on this host. That is either true, or the account is neither in "
    "'Administrators' nor in 'Hyper-V Administrators', or it is a local administrator whose token was filtered (UAC)."
)
