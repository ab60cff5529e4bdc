# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small host for the tests of the repository: tables as providers, so that every value in an answer is one of the test."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from simulator.cim.model import Account, Caller, CimValue, Instance, Ref
from simulator.cim.provider import MethodHandler
from simulator.cim.repository import Repository
from simulator.cim.schema import Schema

V2 = "root/virtualization/v2"
CIMV2 = "root/cimv2"


@dataclass
class Table:
    """A provider that holds its rows; ``read`` counts how many were handed out by :meth:`instances`."""

    rows: list[Instance]
    methods: Mapping[str, MethodHandler] = field(default_factory=dict)
    read: int = 0

    def instances(self, caller: Caller) -> Iterable[Instance]:
        del caller
        self.read += len(self.rows)
        return list(self.rows)


@dataclass
class IndexedTable(Table):
    """The same with the fast paths, which find by exact value."""

    looked_up: list[dict[str, CimValue]] = field(default_factory=list)

    def where(self, conditions: Mapping[str, CimValue], caller: Caller) -> Iterable[Instance] | None:
        del caller
        self.looked_up.append(dict(conditions))
        return [row for row in self.rows if all(_same(row.values.get(name), value) for name, value in conditions.items())]

    def delete(self, instance: Instance, caller: Caller) -> None:
        del caller
        self.rows.remove(instance)


def _same(left: CimValue, right: CimValue) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left.lower() == right.lower()
    return left == right


class Host:
    """A repository, what is registered in it, and a caller with all rights."""

    def __init__(self, os_version: str = "2019") -> None:
        self.repository = Repository(Schema.load(), os_version)
        self.schema = self.repository.schema
        self.admin = Caller(Account("admin", "x", builtin_administrator=True), "ntlm", True)
        self.guest = Caller(Account("guest", "x"), "ntlm", False)

    def table(self, class_name: str, *rows: Mapping[str, CimValue], namespace: str = V2, indexed: bool = False,
              methods: Mapping[str, MethodHandler] | None = None) -> Table:
        """Register a class with these rows."""
        made = [Instance(namespace, class_name, dict(row)) for row in rows]
        provider = (IndexedTable if indexed else Table)(made, methods or {})
        self.repository.register(namespace, class_name, provider)
        return provider

    def names(self, query: str, namespace: str = V2, column: str = "Name") -> list[CimValue]:
        """One property of all results of a query."""
        return [instance[column] for instance in self.repository.query(namespace, query, self.admin).instances]


def vm_ref(name: str) -> Ref:
    return Ref(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": name})


def setting_ref(instance_id: str, class_name: str = "Msvm_VirtualSystemSettingData") -> Ref:
    return Ref(V2, class_name, {"InstanceID": instance_id})


def vm_row(name: str, element_name: str, state: int = 2) -> dict[str, CimValue]:
    return {"CreationClassName": "Msvm_ComputerSystem", "Name": name, "ElementName": element_name, "EnabledState": state}
