# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The common part of all providers: lists of items, equality look-ups without a scan, associations from two directions."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from simulator.cim.model import Caller, CimValue, Instance, Ref
from simulator.cim.provider import MethodHandler
from simulator.hyperv import ids
from simulator.hyperv.model import Configuration, Machine

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

T = TypeVar("T")


class Table(Generic[T]):
    """The instances of one class, made from items of the model when somebody asks."""

    class_name: ClassVar[str] = ""
    namespace: ClassVar[str] = ids.V2

    def __init__(self, role: HyperV) -> None:
        self.role = role
        self.make = role.shapes.of(self.namespace, self.class_name)
        self.methods: Mapping[str, MethodHandler] = {}

    def items(self, caller: Caller) -> Iterable[T]:
        """Everything the caller may see."""
        raise NotImplementedError

    def lookup(self, conditions: Mapping[str, CimValue], caller: Caller) -> Iterable[T] | None:
        """The items that can fulfil the conditions, found without a scan; None when there is no short way."""
        return None

    def values(self, item: T) -> dict[str, CimValue]:
        """The properties of one instance."""
        raise NotImplementedError

    def build(self, item: T) -> Instance:
        """One instance."""
        return self.make(self.values(item))

    def instances(self, caller: Caller) -> Iterator[Instance]:
        """All instances."""
        return map(self.build, self.items(caller))

    def where(self, conditions: Mapping[str, CimValue], caller: Caller) -> list[Instance] | None:
        """The instances that fulfil the conditions, or None when they must be scanned."""
        items = self.lookup(conditions, caller)
        if items is None:
            return None
        found = map(self.build, items)
        return [i for i in found if all(same(i.values.get(k), v) for k, v in conditions.items())]

    def get(self, keys: Mapping[str, str], caller: Caller) -> Instance | None:
        """One instance by its keys."""
        found = self.where(keys, caller)
        if found is None:
            found = [i for i in self.instances(caller) if all(same(i.values.get(k), v) for k, v in keys.items())]
        return found[0] if found else None


def same(left: CimValue, right: CimValue) -> bool:
    """Equality as WQL and selectors see it: text without case."""
    if isinstance(left, str) and isinstance(right, str):
        return left == right or left.lower() == right.lower()
    if isinstance(right, str) and left is not None and not isinstance(left, Ref | Instance | list):
        return str(left).lower() == right.lower()
    return left == right


class ConfigurationTable(Table[T]):
    r"""Items below a configuration, whose InstanceID is ``Microsoft:<configuration>[\...]``."""

    def of(self, configuration: Configuration) -> Iterable[T]:
        """The items of one configuration."""
        raise NotImplementedError

    def items(self, caller: Caller) -> Iterator[T]:
        """The items of every configuration."""
        for configuration in self.role.configurations(caller):
            yield from self.of(configuration)

    def lookup(self, conditions: Mapping[str, CimValue], caller: Caller) -> Iterable[T] | None:
        """By the GUID inside InstanceID."""
        instance_id = conditions.get("InstanceID")
        if not isinstance(instance_id, str):
            return None
        configuration = self.role.configuration(ids.owner_of(instance_id), caller)
        return () if configuration is None else self.of(configuration)


class MachineTable(Table[T]):
    """Items that belong to a realised machine and name it in a property."""

    machine_property: ClassVar[str] = "SystemName"

    def of(self, machine: Machine) -> Iterable[T]:
        """The items of one machine."""
        raise NotImplementedError

    def items(self, caller: Caller) -> Iterator[T]:
        """The items of every machine."""
        for machine in self.role.visible(caller):
            yield from self.of(machine)

    def machine_id(self, value: str) -> str:
        """The machine's GUID in the property."""
        return value

    def lookup(self, conditions: Mapping[str, CimValue], caller: Caller) -> Iterable[T] | None:
        """By the machine."""
        value = conditions.get(self.machine_property)
        if not isinstance(value, str):
            return None
        machine = self.role.machine(self.machine_id(value), caller)
        return () if machine is None else self.of(machine)


Pair = tuple[Ref, Ref]
FromEnd = Callable[[Ref, Caller], Iterable[Pair]]


class Association:
    """An association of two references, enumerated from ``pairs`` and followed from either end without a scan."""

    def __init__(self, role: HyperV, class_name: str, roles: tuple[str, str], pairs: Callable[[Caller], Iterable[Pair]],
                 from_first: FromEnd, from_second: FromEnd, extra: Mapping[str, CimValue] | None = None,
                 namespace: str = ids.V2) -> None:
        self._make = role.shapes.of(namespace, class_name)
        self._roles = roles
        self._pairs = pairs
        self._from = (from_first, from_second)
        self._extra = dict(extra or {})

    def _build(self, pair: Pair) -> Instance:
        first, second = self._roles
        return self._make({first: pair[0], second: pair[1], **self._extra})

    def instances(self, caller: Caller) -> Iterator[Instance]:
        """Every pair."""
        return map(self._build, self._pairs(caller))

    def where(self, conditions: Mapping[str, CimValue], caller: Caller) -> list[Instance] | None:
        """The pairs with the given end or ends."""
        given = [(position, conditions[name]) for position, name in enumerate(self._roles) if isinstance(conditions.get(name), Ref)]
        if not given:
            return None
        position, start = given[0]
        assert isinstance(start, Ref)
        found = self._from[position](start, caller)
        return [self._build(p) for p in found if all(p[at] == ref for at, ref in given)]


def machine_of(role: HyperV, ref: Ref, caller: Caller) -> Machine | None:
    """The machine (realised or planned) a reference means."""
    name = _key(ref, "Name")
    kind = ref.class_name.lower()
    if name is None or kind not in ("msvm_computersystem", "msvm_plannedcomputersystem"):
        return None
    if kind == "msvm_computersystem":
        return role.machine(name, caller)
    return role.planned.get(name.upper()) if caller.is_hyperv_administrator else None


def configuration_of(role: HyperV, ref: Ref, caller: Caller, class_name: str = "Msvm_VirtualSystemSettingData") -> Configuration | None:
    """The configuration that a settings reference means."""
    if ref.class_name.lower() != class_name.lower():
        return None
    return role.configuration(ids.owner_of(_key(ref, "InstanceID") or ""), caller)


def _key(ref: Ref, name: str) -> str | None:
    return next((v for k, v in ref.keys.items() if k.lower() == name.lower()), None)


def key_of(ref: Ref, name: str) -> str | None:
    """One key of a reference, its name compared without case."""
    return _key(ref, name)
