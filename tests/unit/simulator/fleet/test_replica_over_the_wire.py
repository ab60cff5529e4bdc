# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts of a fleet that replicate, as a foreign client sees and changes them; and one that is lost."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

import pytest
import requests
from pypsrp.wsman import WSMan
from simulator.cim.model import Account
from simulator.disks.proof import inspect
from simulator.fleet import Fleet
from simulator.fleet_file import build
from simulator.hyperv.spec import MIB, AuthorizationSpec, DiskSpec, HyperVSettings, ReplicaServerSpec, ReplicatedSpec, VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import VolumeSpec
from unit.simulator.fleet.test_checkpoints_over_the_wire import BASE, GUID, selectors

SYSTEM, RELATION = f"{BASE}/Msvm_ComputerSystem", f"{BASE}/Msvm_ReplicationRelationship"
DOMAIN = "example.test"
START = datetime(2026, 3, 1, 22, tzinfo=UTC)


def host(name: str, other: str, *vms: VmSpec, start: datetime | None = None, history: int = 0) -> HostSpec:
    account = Account("Administrator", "secret", builtin_administrator=True, groups=frozenset({"Administrators"}))
    interval: Literal[30] = 30
    server = ReplicaServerSpec(
        enabled=True, authentication=1, authorizations=(AuthorizationSpec(f"*.{DOMAIN}"),),
        replicated=tuple(ReplicatedSpec(vm.name, f"{other}.{DOMAIN}", interval=interval, history=history) for vm in vms))
    return HostSpec(name, domain=DOMAIN, accounts=(account,), volumes=(VolumeSpec("C:"), VolumeSpec("D:")), vms=vms, start=start,
                    hyperv=HyperVSettings(replica=server), firewall_rules=("VIRT-HVRHTTPL-In-TCP-NoScope",),
                    guest_writes={vm.name: 1.0 for vm in vms})


WEB = VmSpec("web", vm_id=GUID, folder="D:\\VMs\\web", disks=(DiskSpec("D:\\VMs\\web\\web.vhdx", size=8 * MIB),))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet([host("HV1", "HV2", WEB), host("HV2", "HV1")], tmp_path) as running:
        yield running


def connect(fleet: Fleet, name: str) -> WSMan:
    return WSMan("127.0.0.1", port=fleet.hosts[name].port, username="Administrator", password="secret", ssl=False, auth="ntlm",
                 encryption="always", no_proxy=True)


def state(fleet: Fleet, name: str) -> tuple[str | None, str | None]:
    client = connect(fleet, name)
    row = client.get(RELATION, selector_set=selectors(InstanceID=f"Microsoft:{GUID}\\HVR\\0"))
    client.close()
    return row.findtext(f".//{{{RELATION}}}ReplicationState"), row.findtext(f".//{{{RELATION}}}ReplicationHealth")


def request(fleet: Fleet, name: str, wanted: int) -> str | None:
    client = connect(fleet, name)
    body = ET.Element(f"{{{SYSTEM}}}RequestReplicationStateChangeEx_INPUT")
    given = f'<INSTANCE CLASSNAME="Msvm_ReplicationRelationship"><PROPERTY NAME="InstanceID" TYPE="string"><VALUE>Microsoft:{GUID}' \
            '\\HVR\\0</VALUE></PROPERTY></INSTANCE>'
    ET.SubElement(body, f"{{{SYSTEM}}}ReplicationRelationship").text = given
    ET.SubElement(body, f"{{{SYSTEM}}}RequestedState").text = str(wanted)
    chosen = selectors(CreationClassName="Msvm_ComputerSystem", Name=GUID)
    answer = client.invoke(f"{SYSTEM}/RequestReplicationStateChangeEx", SYSTEM, body, selector_set=chosen)
    client.close()
    return answer.findtext(f".//{{{SYSTEM}}}ReturnValue")


def writes(fleet: Fleet, name: str) -> int:
    found = fleet.simulated[name]
    leaf = found.hyperv.machines[GUID].disks[0].leaf
    assert leaf is not None
    chain = [found.files.real_path(file.path) for file in leaf.chain()]
    proof = inspect(chain[0], chain[1:])
    assert proof.consistent, proof.summary()
    return proof.last


def test_one_time_for_all_and_a_replica_that_follows(fleet: Fleet) -> None:
    assert (state(fleet, "HV1"), state(fleet, "HV2")) == (("3", "1"), ("3", "1"))
    with fleet.locked():
        fleet.simulated["HV2"].clock.advance(60.0)
        behind = fleet.simulated["HV1"].guests[GUID].sequence - writes(fleet, "HV2")
        assert fleet.simulated["HV1"].clock is fleet.simulated["HV2"].clock
    assert 0 <= behind <= 31
    assert request(fleet, "HV1", 7) == "4096"
    with fleet.locked():
        fleet.clock.advance(2.0)
    assert (state(fleet, "HV1"), request(fleet, "HV1", 7)) == (("7", "2"), "32775")
    with fleet.locked():
        assert fleet.simulated["HV1"].counters.writing >= 1


def test_a_host_that_is_lost_is_heard_by_nobody(fleet: Fleet) -> None:
    client = connect(fleet, "HV2")
    fleet.take_down("HV2")
    with pytest.raises(requests.exceptions.ConnectionError):
        client.get(RELATION, selector_set=selectors(InstanceID=f"Microsoft:{GUID}\\HVR\\0"))
    with pytest.raises(requests.exceptions.ConnectionError):
        state(fleet, "HV2")
    with fleet.locked():
        fleet.clock.advance(300.0)
    assert state(fleet, "HV1") == ("8", "3")
    fleet.bring_up("HV2")
    assert (request(fleet, "HV1", 3), state(fleet, "HV2")[0]) == ("4096", "3")
    with fleet.locked():
        fleet.clock.advance(60.0)
    assert state(fleet, "HV1")[0] == "3"


def test_a_crash_loses_track_and_a_resynchronisation_mends_it(fleet: Fleet) -> None:
    with fleet.locked():
        fleet.clock.advance(45.0)
    fleet.take_down("HV1", crash=True)
    fleet.bring_up("HV1")
    assert (state(fleet, "HV1"), fleet.simulated["HV1"].hyperv.machines[GUID].state) == (("9", "3"), "off")
    with fleet.locked():
        machine = fleet.simulated["HV1"].hyperv.machines[GUID]
        sender = fleet.simulated["HV1"].hyperv.replica.sender(machine, machine.relations[0])
        assert sender is not None
        sender.begin_copy(machine.relations[0].settings.included, 10, 107, compare=True)
        fleet.clock.advance(60.0)
        assert writes(fleet, "HV1") == writes(fleet, "HV2")
    assert state(fleet, "HV1")[0] == "3"


def test_hosts_with_clocks_of_their_own_replicate_when_either_is_asked(tmp_path: Path) -> None:
    specs = [host("HV1", "HV2", replace(WEB), start=START), host("HV2", "HV1", start=START + timedelta(seconds=2))]
    with Fleet(specs, tmp_path) as running:
        with running.locked():
            running.simulated["HV1"].clock.advance(35.0)
        assert state(running, "HV2")[0] == "3"
        with running.locked():
            assert writes(running, "HV2") > 0


def test_a_fleet_file_describes_replication() -> None:
    spec = build(HostSpec, {"name": "HV1", "hyperv": {"replica": {
        "enabled": True, "authentication": 2, "certificate": "host", "authorizations": [{"primary": "*", "storage": "E:\\Replica"}],
        "replicated": [{"vm": "web", "server": "hv2.example.test", "interval": 900}]}}, "certificates": [{"key": "host"}]}, "hosts[0]")
    assert spec.hyperv.replica.replicated[0].interval == 900
    assert spec.hyperv.replica.authorizations[0].storage == "E:\\Replica"
