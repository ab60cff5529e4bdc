# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts that replicate, and short ways to ask them."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from simulator.cim.model import CimValue, Instance, Ref
from simulator.clock import SimClock
from simulator.disks.guest import Guest
from simulator.disks.proof import Proof, inspect
from simulator.hyperv.model import Machine, Relation
from simulator.hyperv.replica.network import ReplicaNetwork
from simulator.hyperv.spec import MIB, AuthorizationSpec, DiskSpec, HyperVSettings, ReplicaServerSpec, VmSpec
from simulator.windows.certificates import CertificateSpec
from unit.simulator.hyperv.bench import ADMINISTRATOR, V2, Bench, embedded

GUID = "0A1B2C3D-0000-4000-8000-00000000ABCD"
VM = Ref(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": GUID})
SERVICE = "Msvm_ReplicationService"
SETTINGS, RELATION = "Msvm_ReplicationSettingData", "Msvm_ReplicationRelationship"
KEYS = {"CreationClassName": "Msvm_ComputerSystem", "Name": GUID}
_TYPES = {"RecoveryServerPortNumber": "uint16", "AuthenticationType": "uint16", "CompressionEnabled": "boolean",
          "ReplicationInterval": "uint16", "RecoveryHistory": "uint16", "ApplicationConsistentSnapshotInterval": "uint16",
          "AutoResynchronizeEnabled": "boolean", "AutoResynchronizeIntervalStart": "datetime", "AutoResynchronizeIntervalEnd": "datetime"}
SERVER = ReplicaServerSpec(enabled=True, authentication=1, authorizations=(AuthorizationSpec("*.example.test"),))
HTTP, HTTPS = "VIRT-HVRHTTPL-In-TCP-NoScope", "VIRT-HVRHTTPSL-In-TCP-NoScope"


def text(class_name: str, **values: object) -> str:
    """An embedded instance."""
    inner = ""
    for name, value in values.items():
        if isinstance(value, list):
            items = "".join(f"<VALUE>{''.join(f'&#{ord(c)};' if c in '&<>' else c for c in item)}</VALUE>" for item in value)
            inner += f'<PROPERTY.ARRAY NAME="{name}" TYPE="string"><VALUE.ARRAY>{items}</VALUE.ARRAY></PROPERTY.ARRAY>'
        else:
            inner += f'<PROPERTY NAME="{name}" TYPE="{_TYPES.get(name, "string")}"><VALUE>{value}</VALUE></PROPERTY>'
    return f'<INSTANCE CLASSNAME="{class_name}">{inner}</INSTANCE>'


class Side:
    """One of the hosts."""

    def __init__(self, host: Bench) -> None:
        self.host = host
        self.role = host.role
        self.clock = host.clock

    # -- asking ----------------------------------------------------------------------------------------------------

    def ask(self, method: str, **parameters: CimValue) -> dict[str, CimValue]:
        """Call a method of the service about the machine."""
        return self.host.call(SERVICE, method, {"ComputerSystem": VM, **parameters})

    def request(self, state: int, index: int | None = None) -> dict[str, CimValue]:
        """RequestReplicationStateChange(Ex)."""
        if index is None:
            return self.host.call("Msvm_ComputerSystem", "RequestReplicationStateChange", {"RequestedState": state}, selectors=KEYS)
        given: dict[str, CimValue] = {"RequestedState": state, "ReplicationRelationship": text(RELATION, InstanceID=relation_id(index))}
        return self.host.call("Msvm_ComputerSystem", "RequestReplicationStateChangeEx", given, selectors=KEYS)

    def power(self, state: int) -> None:
        """RequestStateChange until it is done."""
        self.done(self.host.call("Msvm_ComputerSystem", "RequestStateChange", {"RequestedState": state}, selectors=KEYS), 60.0)

    def job(self, answer: dict[str, CimValue]) -> Instance:
        """The job of an answer."""
        assert answer["ReturnValue"] == 4096, answer
        ref = answer["Job"]
        assert isinstance(ref, Ref)
        return self.host.repository.get(V2, ref.class_name, dict(ref.keys), ADMINISTRATOR)

    def ended(self, answer: dict[str, CimValue], seconds: float) -> Instance:
        """The job after it has ended."""
        self.until(lambda: self.job(answer)["JobState"] not in (2, 3, 4), seconds)
        return self.job(answer)

    def done(self, answer: dict[str, CimValue], seconds: float = 60.0) -> int:
        """The type of a job that ended well."""
        row = self.ended(answer, seconds)
        assert (row["JobState"], row["ErrorCode"]) == (7, 0), row.values
        return int(str(row["JobType"]))

    def failed(self, answer: dict[str, CimValue], seconds: float = 60.0) -> str:
        """The error of a job that failed."""
        row = self.ended(answer, seconds)
        assert row["JobState"] == 10, row.values
        return str(self.host.call("Msvm_ConcreteJob", "GetErrorEx", selectors={"InstanceID": str(row["InstanceID"])})["Errors"])

    def until(self, done: Callable[[], bool], seconds: float) -> None:
        """Let time pass in small steps until something holds, at most so long."""
        for _unused in range(int(seconds)):
            if done():
                return
            self.clock.advance(1.0)
        assert done(), f"not within {seconds} s"

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def machine(self) -> Machine:
        """The machine, or its replica."""
        return self.role.machines[GUID]

    def relation(self, index: int = 0) -> Relation:
        """A relation."""
        return next(r for r in self.machine.relations if r.index == index)

    def row(self, index: int = 0) -> Instance:
        """The row of a relation."""
        return self.host.row(RELATION, InstanceID=relation_id(index))

    def state(self, index: int = 0) -> tuple[CimValue, CimValue]:
        """ReplicationState and ReplicationHealth."""
        row = self.row(index)
        return row["ReplicationState"], row["ReplicationHealth"]

    def settings(self, index: int = 0) -> Instance:
        """The settings of a relation."""
        return self.host.row(SETTINGS, InstanceID=relation_id(index))

    def figures(self) -> tuple[dict[str, str | list[str] | None], list[str]]:
        """The statistics and the reasons of the health."""
        answer = self.ask("GetReplicationStatistics")
        rows, issues = answer["ReplicationStatistics"], answer["ReplicationHealthIssues"]
        assert isinstance(rows, list)
        assert issues is None or isinstance(issues, list)
        return embedded(rows[0]), [str(embedded(issue)["Message"]) for issue in issues or ()]

    def disks(self) -> list[CimValue]:
        """Object paths of the disks, as the rows of the host name them."""
        rows = [r for r in self.host.rows("Msvm_StorageAllocationSettingData") if str(r["InstanceID"]).startswith(f"Microsoft:{GUID}\\")]
        quoted = [str(row["InstanceID"]).replace("\\", "\\\\") for row in rows]
        path = f"\\\\{self.role.name.upper()}\\root\\virtualization\\v2:Msvm_StorageAllocationSettingData"
        return [f'{path}.InstanceID="{one}"' for one in quoted]

    def guest(self) -> Guest:
        """A guest of the machine, writing when told to."""
        paths = [self.role.disk_path(self.machine, disk.index) for disk in self.machine.disks if disk.leaf is not None]
        guest = Guest(paths, "guest", parent_resolver=self.role.disks.find_parent)
        self.role.guests[GUID] = guest
        return guest

    def writes(self, machine: Machine | None = None) -> int:
        """Up to which write the disk holds everything, and nothing after."""
        proof = self.proof(machine)
        assert proof.consistent, proof.summary()
        return proof.last

    def proof(self, machine: Machine | None = None, disk: int = 0) -> Proof:
        """What the independent reader says of the disk of the machine."""
        leaf = (machine or self.machine).disks[disk].leaf
        assert leaf is not None
        chain: list[Path] = [self.host.files.real_path(file.path) for file in leaf.chain()]
        return inspect(chain[0], chain[1:])


class Pair:
    """Two hosts of one domain on one clock; the first has a machine."""

    def __init__(self, root: Path, *, os_version: str = "2022", server: ReplicaServerSpec = SERVER, domain: str | None = "example.test",
                 certificates: bool = False, vm: VmSpec | None = None, third: bool = False) -> None:
        self.clock = SimClock()
        self.network = ReplicaNetwork()
        one = vm or VmSpec(name="web01", vm_id=GUID, folder="D:\\VMs\\web01", disks=(DiskSpec(size=8 * MIB),))
        self.hosts = [self._host(root, f"hv{n}", (one,) if n == 1 else (), os_version, server, domain, certificates)
                      for n in range(1, 4 if third else 3)]
        self.primary, self.replica = (Side(host) for host in self.hosts[:2])
        self.sides = [Side(host) for host in self.hosts]

    def _host(self, root: Path, name: str, vms: tuple[VmSpec, ...], os_version: str, server: ReplicaServerSpec, domain: str | None,
              certificates: bool) -> Bench:
        host = Bench(root / name, vms, name=name, os_version=os_version, clock=self.clock, domain=domain, replica_network=self.network,
                     settings=HyperVSettings(replica=server), certificates=(CertificateSpec(),) if certificates else ())
        for rule in (HTTP, HTTPS):
            found = host.firewall.get(rule)
            assert found is not None
            found.enabled = True
        return host

    def settings(self, **values: object) -> dict[str, object]:
        """What CreateReplicationRelationship gets."""
        return {"InstanceID": relation_id(0), "RecoveryConnectionPoint": "hv2.example.test", "RecoveryServerPortNumber": 80,
                "AuthenticationType": 1, "IncludedDisks": self.primary.disks(), **values}

    def create(self, **values: object) -> dict[str, CimValue]:
        """CreateReplicationRelationship."""
        given = {name: value for name, value in self.settings(**values).items() if value is not None}
        return self.primary.ask("CreateReplicationRelationship", ReplicationSettingData=text(SETTINGS, **given))

    def start(self, how: int = 1, **parameters: CimValue) -> dict[str, CimValue]:
        """StartReplication."""
        return self.primary.ask("StartReplication", InitialReplicationType=how, **parameters)

    def replicating(self, **values: object) -> None:
        """Enable, copy, wait until both replicate."""
        assert self.primary.done(self.create(**values)) == 91
        assert self.primary.done(self.start()) == 94
        self.primary.until(lambda: self.primary.state()[0] == 3, 300.0)


MakePair = Callable[..., Pair]


def relation_id(index: int) -> str:
    """InstanceID of a relation of the machine."""
    return f"Microsoft:{GUID}\\HVR\\{index}"
