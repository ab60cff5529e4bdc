# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Joining rows of a host to facts: pure functions, values in and values out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import (
    checkpoints,
    disks,
    integration,
    jobs,
    machines,
    replication,
    summary,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, as_guid, owner_of

A, B, SNAP = (f"AAAAAAAA-0000-0000-0000-00000000000{n}" for n in (1, 2, 3))


def row(class_name: str = "X", **values: Any) -> Instance:
    return Instance(NAMESPACE, class_name, values)


def system(name: str = A, element: str = "vm", **values: Any) -> Instance:
    return row("Msvm_ComputerSystem", Name=name, ElementName=element, EnabledState="2", **values)


def settings(vm_id: str = A, kind: str = "System:Realized", **values: Any) -> Instance:
    return row(
        "Msvm_VirtualSystemSettingData",
        **{
            "InstanceID": f"Microsoft:{vm_id}",
            "VirtualSystemIdentifier": vm_id,
            "VirtualSystemType": f"Microsoft:Hyper-V:{kind}",
            **values,
        },
    )


def test_the_host_is_told_apart_without_its_localised_texts() -> None:
    host = row("Msvm_ComputerSystem", Name="HV01", ElementName="HV01", Caption="仮想マシン", EnabledState="2")
    found = machines.join([host, system(A.lower(), Caption="Virtueller Computer")], [settings()])
    assert [(machine.vm_id, machine.state) for machine in found] == [(A, "running")]


def test_settings_join_by_guid_and_older_hosts_leave_properties_out() -> None:
    old = machines.join([system()], [settings(Version="5.0")])[0].settings
    new = machines.join(
        [system()],
        [
            settings(
                Version="10.0",
                UserSnapshotType="4",
                VirtualSystemSubType="Microsoft:Hyper-V:SubType:2",
                AutomaticSnapshotsEnabled="false",
                Notes="a",
            )
        ],
    )[0].settings
    assert old is not None
    assert new is not None
    assert (old.checkpoint_policy, old.automatic_checkpoints, old.version_number, old.generation) == (None, None, (5, 0), None)
    assert (new.checkpoint_policy, new.automatic_checkpoints, new.version_number, new.generation, new.notes) == (
        "production_only",
        False,
        (10, 0),
        2,
        "a",
    )


def test_planned_machines_and_checkpoints_are_no_current_settings() -> None:
    machine = machines.join([system()], [settings(kind="System:Planned"), settings(kind="Snapshot:Realized")])[0]
    assert machine.settings is None


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (2, "running"),
        (3, "off"),
        (6, "saved"),
        (32769, "saved"),
        (9, "paused"),
        (32768, "paused"),
        (4, "stopping"),
        (10, "starting"),
        (1, "other"),
        (0, "unknown"),
        (77, "unknown"),
        (None, "unknown"),
    ],
)
def test_states_of_both_numberings(number: int | None, word: str) -> None:
    assert machines.state_name(number) == word


@pytest.mark.parametrize(
    ("status", "busy", "offline"),
    [
        ((), None, False),
        (("2",), None, False),
        (("2", "32772"), "merging_disks", False),
        (("2", "0"), None, False),
        (("3",), None, True),
        (("2", "9"), "status_9", False),
    ],
)
def test_operational_status(status: tuple[str, ...], busy: str | None, offline: bool) -> None:
    machine = machines.join([system(OperationalStatus=status)], [])[0]
    assert (machine.busy, machine.storage_offline) == (busy, offline)


def test_selection() -> None:
    found = machines.join([system(A, "Sql"), system(B, "web"), system(SNAP, "WEB")], [])
    assert machines.select(found, name="SQL", vm_id=None).vm_id == A
    assert machines.select(found, name="nonsense", vm_id="{" + B.lower() + "}").vm_id == B
    with pytest.raises(HypervError) as several:
        machines.select(found, name="web", vm_id=None)
    assert (several.value.error_code, several.value.details["candidates"]) == ("vm_not_unique", [B, SNAP])
    with pytest.raises(HypervError) as none:
        machines.select(found, name="absent", vm_id=None)
    assert none.value.error_code == "vm_not_found"
    with pytest.raises(HypervError) as invalid:
        machines.select(found, name=None, vm_id="sql")
    assert invalid.value.error_code == "invalid_vm_id"


def test_nothing_visible_is_said() -> None:
    with pytest.raises(HypervError) as none:
        machines.select((), name="sql", vm_id=None)
    assert none.value.hint == machines.NOTHING_VISIBLE


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        (f"Microsoft:{A}\\83F8638B-8DCA-4152-9EDA-2CA8B33039B4\\0\\0\\D", A),
        (f"microsoft:{A.lower()}", A),
        ("Microsoft:Definition\\83F8\\Default", None),
        (f"Microsoft:{A}x\\1", None),
        (None, None),
        ("", None),
    ],
)
def test_owner_of_a_setting(text: str | None, owner: str | None) -> None:
    assert owner_of(text) == owner


@pytest.mark.parametrize(
    ("text", "guid"), [(A, A), ("{" + A.lower() + "}", A), ("HV01", None), (None, None), (A + "0", None), (A + "\n", A)]
)
def test_guids(text: str | None, guid: str | None) -> None:
    assert as_guid(text) == guid


def storage(path: str | None, sub_type: str = "Microsoft:Hyper-V:Virtual Hard Disk", owner: str = A, **values: Any) -> Instance:
    return row(InstanceID=f"Microsoft:{owner}\\1\\0\\0\\L", ResourceSubType=sub_type, HostResource=path, **values)


def test_disks() -> None:
    found = disks.from_rows(
        [
            storage("C:\\a.vhdx"),
            storage("C:\\s.vhds", owner=B),
            storage("C:\\x.iso", "Microsoft:Hyper-V:Virtual CD/DVD Disk"),
            storage("C:\\p.vhdpmem", "Microsoft:Hyper-V:Persistent Memory Disk", owner=SNAP),
            storage(None, owner=SNAP),
            row(InstanceID="Microsoft:Definition\\1", ResourceSubType="Microsoft:Hyper-V:Virtual Hard Disk"),
            storage("C:\\r.vhdx", owner=B, PersistentReservationsSupported="true"),
        ],
        [row(InstanceID=f"Microsoft:{A}\\2")],
        [row(InstanceID=f"Microsoft:{A}\\3"), row(InstanceID="Microsoft:Definition\\3")],
    )
    assert sorted((disk.owner_id, disk.kind, disk.path, disk.shared) for disk in found if disk.path) == [
        (A, "virtual", "C:\\a.vhdx", False),
        (B, "virtual", "C:\\r.vhdx", True),
        (B, "virtual", "C:\\s.vhds", True),
        (SNAP, "other", "C:\\p.vhdpmem", False),
    ]
    assert sorted(disk.kind for disk in found if disk.owner_id == A) == ["fibre_channel", "pass_through", "virtual"]


def test_checkpoints_belong_to_their_machine_and_know_their_parent() -> None:
    path = f'\\\\HV01\\root\\virtualization\\v2:Msvm_VirtualSystemSettingData.InstanceID="Microsoft:{SNAP}"'
    found = checkpoints.from_rows(
        [
            settings(),
            settings(SNAP, "Snapshot:Recovery", VirtualSystemIdentifier=A, ElementName="b", CreationTime=datetime(2026, 1, 1, tzinfo=UTC)),
            settings(
                B,
                "Snapshot:Realized",
                VirtualSystemIdentifier=A,
                Parent=path,
                CreationTime=datetime(2026, 1, 2, tzinfo=UTC),
                IsSaved="true",
            ),
            settings(B, "Snapshot:Replica:ApplicationConsistent", VirtualSystemIdentifier=None),
        ]
    )
    assert [(item.checkpoint_id, item.vm_id, item.kind, item.parent_id, item.saved_state) for item in found] == [
        (SNAP, A, "recovery", None, None),
        (B, A, "user", SNAP, True),
    ]


@pytest.mark.parametrize("path", ["", "garbage", '\\\\x\\y:Class.InstanceID="Microsoft:Definition"', "a" * 5000])
def test_an_unreadable_parent_is_no_parent(path: str) -> None:
    assert checkpoints.parent_id(path) is None


def test_integration_services_of_running_and_stopped_machines() -> None:
    found = integration.services(
        [
            row(SystemName=A, OperationalStatus=("2", "2")),
            row(SystemName=SNAP, OperationalStatus="12"),
            row(SystemName="HV01", OperationalStatus="2"),
        ],
        [row(InstanceID=f"Microsoft:{A}\\x", EnabledState="2"), row(InstanceID=f"Microsoft:{B}\\x", EnabledState="3")],
    )
    assert found == {
        A: integration.Service(True, "ok", True),
        B: integration.Service(False, None, None),
        SNAP: integration.Service(None, "no_contact", False),
    }


def kvp(name: str, data: str) -> str:
    return (
        f'<INSTANCE CLASSNAME="Msvm_KvpExchangeDataItem"><PROPERTY NAME="Name" TYPE="string"><VALUE>{name}</VALUE></PROPERTY>'
        f'<PROPERTY NAME="Data" TYPE="string"><VALUE>{data}</VALUE></PROPERTY></INSTANCE>'
    )


def test_what_a_guest_says_is_not_trusted_to_be_well_formed() -> None:
    texts = (kvp("OSName", "Windows Server 2022"), "<broken", "", kvp("OSVersion", "x" * 9999), kvp("Other", "y"), kvp("OSPlatformId", "2"))
    guest = integration.guests([row(SystemName=A, GuestIntrinsicExchangeItems=texts)])[A]
    assert (guest.os_name, guest.family, len(guest.os_version or "")) == ("Windows Server 2022", "windows", 256)


@pytest.mark.parametrize(("name", "family"), [("Windows 11 Pro", "windows"), ("Ubuntu", "linux"), ("FreeBSD", "other"), (None, "unknown")])
def test_guest_families(name: str | None, family: str) -> None:
    assert integration.Guest(os_name=name).family == family


def test_relations() -> None:
    found = replication.relations_from_rows(
        [
            row(InstanceID=f"Microsoft:{A}\\HVR\\1", ReplicationState="7", ReplicationHealth="3"),
            row(InstanceID=f"Microsoft:{A}\\HVR\\0", ReplicationState="3", ReplicationHealth="1"),
            row(InstanceID=f"Microsoft:{B}\\HVR\\0", ReplicationState="0"),
        ]
    )
    assert [(item.extended, item.state, item.health) for item in found[A]] == [
        (False, "replicating", "ok"),
        (True, "suspended", "critical"),
    ]
    assert B not in found


def test_summaries() -> None:
    job = row("Msvm_ConcreteJob", InstanceID="J", JobState="4", JobType="62", PercentComplete="40")
    done = row("Msvm_ConcreteJob", InstanceID="K", JobState="7")
    found = summary.from_rows((row(Name=A, MemoryUsage="2048", NumberOfProcessors="2", AsynchronousTasks=(job, done)), row(Name="")))
    assert found == {A: summary.Summary(A, 2, 2048 * 1024 * 1024, (summary.RunningJob("J", 62, 40),))}


@pytest.mark.parametrize(
    ("state", "code", "finished", "succeeded"),
    [
        (2, 0, False, False),
        (4, 0, False, False),
        (7, 0, True, True),
        (7, 32768, True, False),
        (32768, 0, True, True),
        (10, 32775, True, False),
        (8, 0, True, False),
        (9, 0, True, False),
        (99, 0, False, False),
    ],
)
def test_job_states(state: int, code: int, finished: bool, succeeded: bool) -> None:
    job = jobs.from_row(machines.machine_reference(A), row(JobState=str(state), ErrorCode=str(code)))
    assert (job.finished, job.succeeded) == (finished, succeeded)


def test_the_real_reason_stands_in_the_text() -> None:
    assert jobs.hresult_in(("no", "failed: 'x' (0x80070020). (Virtual machine ID ...)")) == 0x80070020
    assert jobs.hresult_in(("0x12345678 0x800700200",)) is None
