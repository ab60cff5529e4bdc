# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with real files, a real repository and the Hyper-V role: no network, no programs."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from simulator.cim.model import Account, Caller, CimValue, Instance
from simulator.cim.repository import Repository
from simulator.cim.schema import Schema
from simulator.cim.xmltext import parse
from simulator.clock import SimClock
from simulator.hyperv.cluster import Cluster
from simulator.hyperv.registration import register
from simulator.hyperv.replica.network import ReplicaNetwork
from simulator.hyperv.role import HyperV
from simulator.hyperv.spec import HyperVSettings, VmSpec
from simulator.windows.certificates import CertificateSpec, CertificateStore
from simulator.windows.files import FileSystem, Network
from simulator.windows.firewall import Firewall
from simulator.windows.firewall import register as register_firewall
from simulator.windows.spec import VolumeSpec

V2 = "root/virtualization/v2"
ADMINISTRATOR = Caller(Account("Administrator", "secret", "HV1"), "ntlm", True)
OPERATOR = Caller(Account("operator", "secret", groups=frozenset({"Hyper-V Administrators"})), "ntlm", False)
NOBODY = Caller(Account("nobody", "secret", groups=frozenset({"Remote Management Users"})), "ntlm", False)

Values = Mapping[str, CimValue]


def embedded(text: CimValue) -> dict[str, str | list[str] | None]:
    """The properties of a CIM-XML instance, as text; read as a client reads it, not with the rules of a provider."""
    assert isinstance(text, str)
    found: dict[str, str | list[str] | None] = {}
    for element in parse(text):
        name = element.get("NAME", "")
        if element.tag == "PROPERTY.ARRAY":
            found[name] = [value.text or "" for value in element.iter("VALUE")]
        else:
            value = element.find("VALUE")
            found[name] = None if value is None else value.text or ""
    return found


class Bench:
    """The parts of a host that the role needs, and short ways to ask them."""

    def __init__(self, root: Path, vms: Sequence[VmSpec] = (), *, name: str = "hv1", os_version: str = "2022", locale: str = "en-US",
                 settings: HyperVSettings | None = None, cluster: Cluster | None = None, clock: SimClock | None = None,
                 network: Network | None = None, volumes: Sequence[VolumeSpec] | None = None,
                 certificates: Sequence[CertificateSpec] = (),
                 domain: str | None = "example.test", replica_network: ReplicaNetwork | None = None) -> None:
        self.name = name
        self.domain = domain
        self.fqdn = f"{name}.{domain}" if domain else name
        self.os_version = os_version
        self.locale = locale
        self.clock = clock or SimClock()
        self.changes: list[str] = []
        self.repository = Repository(Schema.load(), os_version)
        root.mkdir(parents=True, exist_ok=True)
        self.files = FileSystem(root, self.clock, self.note_change, machine=name, domain=domain, network=network)
        for volume in volumes or (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:")):
            self.files.add_volume(volume)
        self.certificates = CertificateStore(self.fqdn, self.clock.now(), certificates)
        self.firewall = Firewall(locale, self.note_change)
        self.role = HyperV(self, settings, cluster, replica_network)
        for vm in vms:
            self.role.add_vm(vm)
        register(self.role)
        register_firewall(self.repository, self.firewall)

    def note_change(self, what: str) -> None:
        """Remember what changed."""
        self.changes.append(what)

    def rows(self, class_name: str, caller: Caller = ADMINISTRATOR, namespace: str = V2) -> list[Instance]:
        """All rows of a class."""
        return self.repository.enumerate(namespace, class_name, caller)

    def query(self, wql: str, caller: Caller = ADMINISTRATOR, namespace: str = V2) -> list[Instance]:
        """The rows of a query."""
        return self.repository.query(namespace, wql, caller).instances

    def row(self, class_name: str, **wanted: CimValue) -> Instance:
        """The only row with these values."""
        found = [r for r in self.rows(class_name) if all(r[k] == v for k, v in wanted.items())]
        assert len(found) == 1, f"{len(found)} rows of {class_name} with {wanted}"
        return found[0]

    def call(self, class_name: str, method: str, parameters: Values | None = None, *, selectors: Mapping[str, str] | None = None,
             caller: Caller = ADMINISTRATOR) -> dict[str, CimValue]:
        """Call a method of a service (or of the instance that the selectors name)."""
        chosen = selectors or {"CreationClassName": class_name}
        outputs = self.repository.invoke(V2, class_name, chosen, method, parameters or {}, caller)
        return {parameter.name: value for parameter, value in outputs}


MakeBench = Callable[..., Bench]
